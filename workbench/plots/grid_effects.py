"""What each parameter does, how much it matters, and all cells side by side."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.grid_cells import axis_of, parameter_title
from workbench.tuning.cells import CellTable, format_value
from workbench.tuning.effects import EffectCard

CARD = 170  # px, height of one row
CARD_GAP = 26  # px between the rows
MOST_TRIALS = 1500  # cells that the importance is computed from
_SAYS = {
    "grows": "larger finds more speakers",
    "shrinks": "larger finds fewer speakers",
    "none": "changes no number of speakers",
    "mixed": "no one direction",
    "not ordered": "alternatives",
}


def plot_effects(cards: Sequence[EffectCard], default: Mapping[str, Any] | None = None) -> go.Figure:
    """A card per parameter: speakers found above, DER below, each against the value.

    Thin lines are single recordings, the thick one all of them; stretches that go against the
    recording's own direction are drawn in vermilion, the default as a dotted line.
    """
    count = max(len(cards), 1)
    width = 1.0 / count
    inner = 2 * CARD + CARD_GAP
    traces: list[go.Scatter] = []
    layout: dict[str, Any] = {
        "template": theme.template(),
        "width": theme.WIDTH,
        "height": inner + 112,
        "margin": {"l": 62, "r": 14, "t": 50, "b": 62},
        "hovermode": "closest",
    }
    annotations, shapes = [], []
    for number, card in enumerate(cards):
        across = [number * width, (number + 1) * width - (0.065 if number + 1 < count else 0.0)]
        labels = [format_value(value) for value in card.curve["value"]]
        place = {label: float(rank) for rank, label in enumerate(labels)}
        first = number == 0
        upper, lower = f"{2 * number + 2}", f"{2 * number + 3}"  # shapes know no axis 1
        x_up, x_low = f"x{upper}", f"x{lower}"
        for _, rows in card.per_recording.groupby("uri", sort=False):
            x = [place[format_value(value)] for value in rows["value"]]
            uri = str(rows["uri"].iloc[0])
            traces.append(_thin(uri, x, rows["num_speakers"], x_up, f"y{upper}", "speakers", labels))
            traces.append(_thin(uri, x, 100 * rows["der"], x_low, f"y{lower}", "% DER", labels))
        rank = [place[label] for label in labels]
        traces.append(_thick(rank, card.curve["num_speakers"], x_up, f"y{upper}", theme.SPEAKERS[4], labels))
        der = 100 * card.curve["der"]
        traces.append(_thick(rank, der, x_low, f"y{lower}", theme.SPEAKERS[4], labels))
        traces.append(_contrary(card, place, x_up, f"y{upper}"))
        step = -(-len(labels) // max(3, 30 // count))
        ticks = list(range(0, len(labels), step))
        axis = {"domain": across, "range": [-0.4, len(labels) - 0.6], "fixedrange": True, "tickvals": ticks}
        axis |= {"ticktext": [labels[tick] for tick in ticks], "showgrid": False}
        layout[f"xaxis{upper}"] = axis | {"anchor": f"y{upper}", "showticklabels": False}
        layout[f"xaxis{lower}"] = axis | {"anchor": f"y{lower}"}
        layout[f"xaxis{lower}"] |= {"title": {"text": parameter_title(card.parameter)}}
        layout[f"yaxis{upper}"] = {"domain": [(CARD + CARD_GAP) / inner, 1.0], "anchor": x_up}
        layout[f"yaxis{lower}"] = {"domain": [0.0, CARD / inner], "anchor": x_low}
        for name, title in ((upper, "Speakers found"), (lower, "DER (%)")):
            layout[f"yaxis{name}"] |= {"fixedrange": True, "rangemode": "tozero", "nticks": 6}
            layout[f"yaxis{name}"] |= {"title": {"text": title if first else ""}}
        note = " · the reverse is often said" if card.against_folklore else ""
        annotations.append(
            {
                "text": f"<b>{card.parameter}</b><br><span style='color:{theme.MUTED}'>"
                f"{_SAYS[card.speakers]}{note}</span>",
                "xref": "paper",
                "yref": "paper",
                "x": across[0],
                "y": 1.0,
                "xanchor": "left",
                "yanchor": "bottom",
                "align": "left",
                "yshift": 5,
                "showarrow": False,
                "font": {"size": 12},
            }
        )
        at = _between(card.curve["value"].tolist(), None if default is None else default.get(card.parameter))
        if at is not None:
            line = {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1}
            line |= {"line": {"width": 1.3, "dash": "dot", "color": theme.TEXT}}
            shapes += [line | {"xref": f"x{each}", "yref": f"y{each} domain"} for each in (upper, lower)]
    layout["annotations"], layout["shapes"] = annotations, shapes
    if not cards:
        layout["annotations"] = [_empty("No parameter was swept over more than one value")]
    return go.Figure(traces, layout)


def plot_all_cells(table: CellTable) -> go.Figure:
    """Every cell as a line through its parameters to its DER: drag along an axis to keep a part."""
    der = 100 * table.der
    dimensions = []
    for name in table.parameters:
        axis, rank = axis_of(table, name)
        if len(axis.values) > 1:
            shown = list(range(0, len(axis.values), -(-len(axis.values) // 12)))
            dimensions.append(
                {
                    "label": parameter_title(name),
                    "values": rank.astype(float),
                    "range": [0, len(axis.values) - 1],
                    "tickvals": shown,
                    "ticktext": [axis.label(place) for place in shown],
                }
            )
    wrong = np.abs(table.num_speakers - table.num_reference_speakers[:, None]).mean(axis=0)
    dimensions += [
        {"label": "Speakers too many or few", "values": wrong},
        {"label": "Not converged", "values": (~table.converged).sum(axis=0).astype(float)},
        {"label": "DER (%)", "values": der},
    ]
    lines = {"color": der, "colorscale": theme.sequential(), "showscale": False}
    font = {"color": theme.TEXT, "size": 11, "family": theme.FONT, "shadow": "none"}
    trace = go.Parcoords(
        name="cells", line=lines, dimensions=dimensions, labelfont=font, tickfont=font, rangefont=font
    )
    trace.unselected = {"line": {"color": theme.TEXT, "opacity": 0.06}}
    margin = {"l": 74, "r": 60, "t": 54, "b": 18}
    return go.Figure(
        trace, {"template": theme.template(), "width": theme.WIDTH, "height": 340, "margin": margin}
    )


def find_importance(table: CellTable, *, seed: int = 0) -> pd.DataFrame:
    """How much of the variance of the DER each parameter explains (fANOVA, as Optuna computes it).

    Returns
    -------
    importance : one row per parameter: `parameter`, `importance` (they add up to 1), largest first
    """
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    spaces: dict[str, Any] = {}
    ranks: dict[str, np.ndarray] = {}
    for name in table.parameters:
        axis, rank = axis_of(table, name)
        if len(axis.values) > 1:
            ranks[name] = rank
            spaces[name] = (
                FloatDistribution(0, len(axis.values) - 1)
                if axis.ordered
                else CategoricalDistribution(list(range(len(axis.values))))
            )
    if not spaces or np.ptp(table.der) == 0:
        return pd.DataFrame({"parameter": list(spaces), "importance": [0.0] * len(spaces)})
    chosen = np.arange(len(table))
    if len(chosen) > MOST_TRIALS:
        chosen = np.random.default_rng(seed).choice(len(table), MOST_TRIALS, replace=False)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(
            [
                create_trial(
                    params={
                        name: float(rank[cell])
                        if isinstance(spaces[name], FloatDistribution)
                        else int(rank[cell])
                        for name, rank in ranks.items()
                    },
                    distributions=spaces,
                    value=float(table.der[cell]),
                )
                for cell in chosen
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
            )
    finally:
        optuna.logging.set_verbosity(verbosity)
    return pd.DataFrame({"parameter": list(found), "importance": [float(each) for each in found.values()]})


def plot_importance(importance: pd.DataFrame) -> go.Figure:
    """Bars of `find_importance`."""
    rows = importance.iloc[::-1]
    values = 100 * rows["importance"]
    bars = go.Bar(
        name="importance",
        orientation="h",
        x=values,
        y=rows["parameter"],
        width=0.55,
        marker={"color": theme.SPEAKERS[4]},
        text=[f"{value:.0f} %" for value in values],
        textposition="outside",
        textfont={"color": theme.TEXT},
        hovertemplate="<b>%{y}</b><br>%{x:.1f} % of the variance<extra></extra>",
        cliponaxis=False,
    )
    layout: dict[str, Any] = {"template": theme.template(), "width": 560, "height": 92 + 30 * len(rows)}
    layout["margin"] = {"l": 130, "r": 50, "t": 12, "b": 44}
    layout["xaxis"] = {"title": {"text": "Variance of the DER that it explains (%)"}, "rangemode": "tozero"}
    layout["xaxis"] |= {"range": [0, 1.12 * max(values.max(), 1.0)], "fixedrange": True}
    layout["yaxis"] = {"showgrid": False, "fixedrange": True, "ticks": ""}
    return go.Figure(bars, layout)


def _thin(
    uri: str, x: Sequence[float], y: pd.Series, xaxis: str, yaxis: str, unit: str, labels: Sequence[str]
) -> go.Scatter:
    return go.Scatter(
        name=uri,
        x=x,
        y=y.to_numpy(dtype=float),
        xaxis=xaxis,
        yaxis=yaxis,
        mode="lines",
        line={"width": 1, "color": theme.FRAME},
        customdata=[labels[int(place)] for place in x],
        hovertemplate=f"<b>{uri}</b> at %{{customdata}}<br>%{{y:.1f}} {unit}<extra></extra>",
    )


def _thick(
    x: Sequence[float], y: pd.Series, xaxis: str, yaxis: str, color: str, labels: Sequence[str]
) -> go.Scatter:
    return go.Scatter(
        name="all recordings",
        x=x,
        y=y.to_numpy(dtype=float),
        xaxis=xaxis,
        yaxis=yaxis,
        mode="lines+markers",
        line={"width": 2.6, "color": color},
        marker={"size": 6},
        customdata=list(labels),
        hovertemplate="<b>all recordings</b> at %{customdata}<br>%{y:.1f}<extra></extra>",
    )


def _contrary(card: EffectCard, place: Mapping[str, float], xaxis: str, yaxis: str) -> go.Scatter:
    """Stretches in which a recording goes against its own direction."""
    x: list[float] = []
    y: list[float] = []
    for row in card.inversions.itertuples():
        own = card.per_recording[card.per_recording["uri"] == row.uri]
        at = np.array([place[format_value(value)] for value in own["value"]])
        inside = (at >= place[format_value(row.start)]) & (at <= place[format_value(row.end)])
        x += [*at[inside], np.nan]
        y += [*own["num_speakers"].to_numpy()[inside], np.nan]
    return go.Scatter(
        name="not monotone",
        x=x,
        y=y,
        xaxis=xaxis,
        yaxis=yaxis,
        mode="lines",
        line={"width": 2, "color": theme.ERRORS["confusion"].color, "dash": "dash"},
        hoverinfo="skip",
    )


def _between(values: Sequence[Any], wanted: Any) -> float | None:
    """Place of a value among ordered others, between two of them if need be."""
    labels = [format_value(value) for value in values]
    if format_value(wanted) in labels:
        return float(labels.index(format_value(wanted)))
    numbers = [value for value in values if isinstance(value, int | float)]
    inside = isinstance(wanted, int | float) and len(numbers) > 1 and numbers[0] <= wanted <= numbers[-1]
    return float(np.interp(wanted, numbers, np.arange(len(numbers)))) if inside else None


def _empty(text: str) -> dict[str, Any]:
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
