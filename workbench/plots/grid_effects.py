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
APART = 1.4  # steps from the last value of a row to one that belongs to no row
MOST_TRIALS = 1500  # cells that the importance is computed from
_SAYS = {
    "grows": "larger finds more speakers",
    "shrinks": "larger finds fewer speakers",
    "none": "changes no number of speakers",
    "mixed": "no one direction",
    "not ordered": "alternatives",
    "unknown": "no direction: the others differ",
}


def plot_effects(cards: Sequence[EffectCard], default: Mapping[str, Any] | None = None) -> go.Figure:
    """A card per parameter: speakers found above, DER below, each against the value.

    Thin lines are single recordings, the thick one all of them; stretches that go against the
    recording's own direction are drawn in vermilion, the default as a dotted line. A value that stands
    apart from the others, where the parameter is unset, is drawn as points beyond a dashed line.
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
        in_row = card.num_in_row
        at = [float(rank) for rank in range(in_row)] + [in_row - 1 + APART] * (len(labels) - in_row)
        place = dict(zip(labels, at, strict=True))
        first = number == 0
        upper, lower = f"{2 * number + 2}", f"{2 * number + 3}"  # shapes know no axis 1
        x_up, x_low = f"x{upper}", f"x{lower}"
        lines = (
            ("num_speakers", 1, x_up, f"y{upper}", "speakers"),
            ("der", 100, x_low, f"y{lower}", "% DER"),
        )
        before = len(traces)
        for column, factor, xaxis, yaxis, unit in lines:
            axes = {"xaxis": xaxis, "yaxis": yaxis}
            for uri, rows in card.per_recording.groupby("uri", sort=False):
                numbers = factor * rows[column].to_numpy(dtype=float)
                traces += _thin(str(uri), at, numbers, in_row, axes, unit, labels)
            numbers = factor * card.curve[column].to_numpy(dtype=float)
            traces += _thick(at, numbers, in_row, axes, labels)
        if card.speakers == "unknown":  # one value does not lead to the next
            for trace in traces[before:]:
                trace.mode = "markers"
        traces.append(_contrary(card, place, x_up, f"y{upper}"))
        step = -(-len(labels) // max(3, 30 // count))
        ticks = sorted({*range(0, in_row, step), *range(in_row, len(labels))})
        axis = {"domain": across, "range": [-0.4, at[-1] + 0.4], "fixedrange": True}
        axis |= {"tickvals": [at[tick] for tick in ticks], "ticktext": [labels[tick] for tick in ticks]}
        axis |= {"showgrid": False}
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
        upright = []
        if default is not None and card.parameter in default:
            marked = _between(card.curve["value"].tolist(), at, default[card.parameter])
            upright += [] if marked is None else [(marked, "dot", theme.TEXT)]
        upright += [(x - APART / 2, "dash", theme.FRAME) for x in at[in_row:]]
        for x, dash, color in upright:
            line = {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1}
            line |= {"line": {"width": 1.3, "dash": dash, "color": color}}
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
    uri: str,
    at: Sequence[float],
    numbers: np.ndarray,
    in_row: int,
    axes: Mapping[str, str],
    unit: str,
    labels: Sequence[str],
) -> list[go.Scatter]:
    """One recording: a line through what follows each other, a point for what stands apart."""
    drawn = go.Scatter(
        name=uri,
        mode="lines",
        line={"width": 1, "color": theme.FRAME},
        hovertemplate=f"<b>{uri}</b> at %{{customdata}}<br>%{{y:.1f}} {unit}<extra></extra>",
        **axes,
    )
    return _in_row_and_apart(drawn, at, numbers, in_row, labels, {"size": 4, "color": theme.FRAME})


def _thick(
    at: Sequence[float], numbers: np.ndarray, in_row: int, axes: Mapping[str, str], labels: Sequence[str]
) -> list[go.Scatter]:
    """All recordings together, drawn as a single one is."""
    drawn = go.Scatter(
        name="all recordings",
        mode="lines+markers",
        line={"width": 2.6, "color": theme.SPEAKERS[4]},
        marker={"size": 6},
        hovertemplate="<b>all recordings</b> at %{customdata}<br>%{y:.1f}<extra></extra>",
        **axes,
    )
    return _in_row_and_apart(drawn, at, numbers, in_row, labels, {"size": 8, "color": theme.SPEAKERS[4]})


def _in_row_and_apart(
    line: go.Scatter,
    at: Sequence[float],
    numbers: np.ndarray,
    in_row: int,
    labels: Sequence[str],
    marker: Mapping[str, Any],
) -> list[go.Scatter]:
    """`line` through the values of the row, and points like it at those that belong to none."""
    points = go.Scatter(line).update(mode="markers", marker=marker)
    traces = []
    for trace, part in ((line, slice(in_row)), (points, slice(in_row, None))):
        trace.update(x=at[part], y=numbers[part], customdata=list(labels[part]))
        traces += [trace] if len(numbers[part]) else []
    return traces


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


def _between(values: Sequence[Any], at: Sequence[float], wanted: Any) -> float | None:
    """Place of a value among ordered others, between two of them if need be.

    Parameters
    ----------
    at : places of `values`
    """
    labels = [format_value(value) for value in values]
    if format_value(wanted) in labels:
        return at[labels.index(format_value(wanted))]
    numbers = [value for value in values if isinstance(value, int | float) and value == value]
    inside = isinstance(wanted, int | float) and len(numbers) > 1 and numbers[0] <= wanted <= numbers[-1]
    return float(np.interp(wanted, numbers, at[: len(numbers)])) if inside else None


def _empty(text: str) -> dict[str, Any]:
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
