"""A port checked step by step: a ladder of steps, the first that differs, and what each stage costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.spectrogram import Sound, sound_axes, sound_image, sound_trace
from workbench.plots.words import shortened

ROW = 25  # px of a step
WATERFALL, VALUES, SOUND = 150, 120, 100  # px
GAP = 66  # px between the panels on the right
LADDER = (0.0, 0.40)
RIGHT = (0.52, 1.0)
AROUND = 60  # values shown on each side of the element
RANKS = ("differs", "within", "same", "absent")  # worst first
NO_SWAP = "No stage swap: give <b>swap=</b>, the result of <b>swap_stages</b>"
NO_VALUES = "Click a red square: the first element that differs, on both sides"


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedStep:
    """Values of both sides around the first element that differs.

    Attributes
    ----------
    title : step and element, in words
    positions : int array, along one axis
    baseline, candidate : float arrays, as long
    place : of the element on that axis
    axis : what is counted along it
    """

    title: str
    positions: np.ndarray
    baseline: np.ndarray
    candidate: np.ndarray
    place: int
    axis: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PortScene:
    """What the screen shows.

    Attributes
    ----------
    steps : names, in the order of the pipeline
    sides : names of the implementations, the baseline first
    cells : DataFrame, one row per side (other than the baseline) and step: `side`, `step`, `status`,
        `max_abs_diff`, `words`
    selected : side and step that are opened
    waterfall : as `SwapResult.waterfall` gives it
    """

    steps: Sequence[str]
    sides: Sequence[str]
    cells: pd.DataFrame
    selected: tuple[str, str] | None = None
    opened: OpenedStep | None = None
    waterfall: pd.DataFrame | None = None
    what: str = "DER"
    has_audio: bool = True


def worst_cells(table: pd.DataFrame, baseline: str, uri: str | None = None) -> pd.DataFrame:
    """Every step of every side against the baseline, the worst of the recordings.

    Parameters
    ----------
    table : as `StepsWalk.table` gives it
    uri : only this recording
    """
    chosen = table[table["baseline"] == baseline]
    if uri is not None:
        chosen = chosen[chosen["uri"] == uri]
    rank = chosen["status"].map({status: place for place, status in enumerate(RANKS)})
    largest = chosen["max_abs_diff"].astype(float).fillna(-1.0)
    ordered = chosen.assign(rank=rank, largest=-largest).sort_values(["rank", "largest"], kind="stable")
    found = ordered.drop_duplicates(["candidate", "step"]).rename(columns={"candidate": "side"})
    columns = ["side", "step", "status", "max_abs_diff", "words", "uri"]
    return found.loc[:, columns].reset_index(drop=True)


def plot_port(scene: PortScene, *, sound: Sound | None = None) -> go.Figure:
    """Steps, the opened one, and the waterfall of stages.

    The traces always come in the same order and number, so that a redraw can update them.
    """
    traces = [step_squares(scene), step_texts(scene), *opened_lines(scene.opened)]
    traces += [waterfall_bars(scene.waterfall, scene.what), waterfall_texts(scene.waterfall)]
    traces.append(sound_trace(sound))
    figure = go.Figure(traces)
    figure.layout = _layout(scene, sound)
    if sound is not None:
        figure.layout.images = [sound_image(sound)]
    return figure


def step_squares(scene: PortScene) -> go.Scatter:
    """One square per side and step: its colour and its mark say the same."""
    rows = {step: row for row, step in enumerate(scene.steps)}
    columns = {side: column for column, side in enumerate(scene.sides[1:])}
    cells = scene.cells
    looks = [theme.STATUSES[status] for status in cells["status"]]
    return go.Scatter(
        name="steps",
        x=cells["side"].map(columns).to_numpy(dtype=float),
        y=cells["step"].map(rows).to_numpy(dtype=float),
        xaxis="x2",
        yaxis="y6",
        mode="markers+text",
        marker={"symbol": "square", "size": 19, "color": [look.color for look in looks]},
        text=[f"<b>{look.mark}</b>" for look in looks],
        textfont={"size": 13, "color": theme.TEXT},
        customdata=[
            f"<b>{step}</b> · {side}<br>{look.name}{f' · {uri}' if uri else ''}<br>{_wrapped(words)}"
            for step, side, look, uri, words in zip(
                cells["step"], cells["side"], looks, cells["uri"], cells["words"], strict=True
            )
        ],
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )


def step_texts(scene: PortScene) -> go.Scatter:
    """The largest difference, beside its square."""
    rows = {step: row for row, step in enumerate(scene.steps)}
    columns = {side: column for column, side in enumerate(scene.sides[1:])}
    cells = scene.cells[scene.cells["status"].isin(["differs", "within"])]
    values = cells["max_abs_diff"].astype(float)
    return go.Scatter(
        name="step differences",
        x=cells["side"].map(columns).to_numpy(dtype=float) + 0.10,
        y=cells["step"].map(rows).to_numpy(dtype=float),
        xaxis="x2",
        yaxis="y6",
        mode="text",
        text=["other shape" if np.isnan(value) or value == 0 else f"{value:.2g}" for value in values],
        textposition="middle right",
        textfont={"size": 11, "color": theme.TEXT},
        hoverinfo="skip",
        cliponaxis=False,
    )


def opened_lines(opened: OpenedStep | None) -> list[go.Scatter]:
    """Both sides around the element: baseline solid, candidate dashed."""
    lines = []
    for side, style in (("baseline", theme.BASELINE), ("candidate", theme.CANDIDATE)):
        x = np.zeros(0) if opened is None else opened.positions
        y = np.zeros(0) if opened is None else getattr(opened, side)
        symbol = "circle" if side == "baseline" else "x-thin-open"
        color = theme.SPEAKERS[1] if side == "baseline" else theme.STATUSES["differs"].color
        lines.append(
            go.Scatter(
                name=f"values {side}",
                x=np.asarray(x, dtype=float),
                y=np.asarray(y, dtype=float),
                xaxis="x3",
                yaxis="y7",
                mode="lines+markers",
                line={**style, "color": color, "shape": "linear"},
                marker={"size": 4, "symbol": symbol, "color": color},
                hovertemplate=f"{side} %{{x:.0f}}: %{{y:.6g}}<extra></extra>",
            )
        )
    return lines


def waterfall_bars(table: pd.DataFrame | None, what: str) -> go.Bar:
    """From the baseline's DER to the candidate's: what each stage adds or takes away."""
    low, high, colors, texts = _steps_of(table)
    return go.Bar(
        name="waterfall",
        x=np.arange(len(low), dtype=float),
        y=high - low,
        base=low,
        width=0.62,
        xaxis="x4",
        yaxis="y8",
        marker={"color": colors, "line": {"width": 0}},
        customdata=[f"<b>{name}</b><br>{text} ({what})" for name, text in texts],
        hovertemplate="%{customdata}<extra></extra>",
    )


def waterfall_texts(table: pd.DataFrame | None) -> go.Scatter:
    """The share over every bar."""
    _, high, _, texts = _steps_of(table)
    return go.Scatter(
        name="waterfall shares",
        x=np.arange(len(high), dtype=float),
        y=high,
        xaxis="x4",
        yaxis="y8",
        mode="text",
        text=[text for _, text in texts],
        textposition="top center",
        textfont={"size": 11, "color": theme.TEXT},
        hoverinfo="skip",
        cliponaxis=False,
    )


def combinations_html(values: Mapping[frozenset[str], float], players: Sequence[str], total: float) -> str:
    """DER of every combination of stages as a table: ● where the stage is the candidate's."""
    if not players or not total:
        return ""
    first = values[frozenset()]
    head = "".join(f"<th>{player}</th>" for player in players)
    body = []
    for chosen, seconds in values.items():
        marks = "".join(f"<td>{'●' if player in chosen else '○'}</td>" for player in players)
        change = 100 * (seconds - first) / total
        body.append(f"<tr>{marks}<td>{100 * seconds / total:.2f} %</td><td>{change:+.2f}</td></tr>")
    return (
        '<details class="wb-notices" open><summary>Every combination: ● from the candidate, ○ from the '
        f'baseline</summary><table class="wb-conditions"><tr>{head}<th>DER</th><th>points</th></tr>'
        f"{''.join(body)}"
        "</table></details>"
    )


def _steps_of(
    table: pd.DataFrame | None,
) -> tuple[np.ndarray, np.ndarray, list[str], list[tuple[str, str]]]:
    """Lower and upper ends, colours and texts of the bars."""
    low, high, colors, texts, level = [], [], [], [], 0.0
    for row in [] if table is None else table.to_dict("records"):
        points, label = float(row["points"]), str(row["label"])
        if row["kind"] == "relative":
            ends = sorted((level, level + points))
            style = theme.CHANGES["broken" if points > 0 else "fixed"]
            level += points
            texts.append((label, f"{points:+.2f}"))
            colors.append(style.color)
        else:
            level, ends = points, [0.0, points]
            texts.append((label, f"{points:.2f} %"))
            colors.append(theme.WAVEFORM)
        low.append(ends[0])
        high.append(ends[1])
    return np.array(low, dtype=float), np.array(high, dtype=float), colors, texts


def _layout(scene: PortScene, sound: Sound | None) -> go.Layout:
    inner = max(ROW * len(scene.steps), WATERFALL + VALUES + SOUND + 2 * GAP + 24)
    ladder = ROW * len(scene.steps) / inner
    sound_top = SOUND / inner
    values_low = (SOUND + GAP) / inner
    values_top = values_low + VALUES / inner
    fall_low = values_top + GAP / inner
    fixed = {"fixedrange": True, "ticks": ""}
    names = list(scene.sides[1:])
    rows = len(scene.steps)
    table = scene.waterfall
    low, high, _, _ = _steps_of(table)
    inside = low[1:-1].min(initial=np.inf) if len(low) > 2 else 0.0
    floor = 0.0 if not len(high) else max(0.0, min(inside, low.max()) - 0.6 * (high.max() - min(high)) - 0.5)
    floor = 0.0 if floor < 0.4 * high.max(initial=0.0) else floor  # cut off only what says nothing
    labels = [] if table is None else [str(name) for name in table["label"]]
    opened = scene.opened
    axes = sound_axes(sound, sound_top)
    axes["xaxis5"] |= {"domain": RIGHT}  # type: ignore[operator]
    axes["xaxis"] = {"visible": False, "domain": [0, 0.001], "anchor": "y"}
    axes["yaxis"] = {"visible": False, "domain": [0, 0.001]}
    axes |= {
        "xaxis2": fixed
        | {"domain": LADDER, "anchor": "y6", "side": "top", "showgrid": False}
        | {"range": [-0.3, len(names) - 0.3], "tickmode": "array", "tickvals": list(range(len(names)))}
        | {"ticktext": [f"<b>{shortened(name, 22)}</b>" for name in names], "tickangle": 0},
        "yaxis6": fixed
        | {"domain": [1 - ladder, 1.0], "anchor": "x2", "range": [rows - 0.5, -0.5], "showgrid": False}
        | {"tickmode": "array", "tickvals": list(range(rows)), "ticktext": list(scene.steps)},
        "xaxis3": fixed
        | {"domain": RIGHT, "anchor": "y7", "title": {"text": "" if opened is None else opened.axis}}
        | {"showticklabels": opened is not None, "autorange": True, "nticks": 8},
        "yaxis7": fixed
        | {"domain": [values_low, values_top], "anchor": "x3", "autorange": True, "nticks": 4}
        | {"showticklabels": opened is not None, "title": {"text": "Value"}},
        "xaxis4": fixed
        | {"domain": RIGHT, "anchor": "y8", "range": [-0.6, max(len(labels), 1) - 0.4], "showgrid": False}
        | {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": labels, "tickangle": 0},
        "yaxis8": fixed
        | {"domain": [fall_low, 1.0], "anchor": "x4", "title": {"text": f"{scene.what} (%)"}, "nticks": 5}
        | {"range": [floor, (high.max() if len(high) else 1.0) * 1.0 + 0.22 * (_span(high, floor))]}
        | {"showticklabels": table is not None},
    }
    legend = " · ".join(
        f"<span style='color:{style.color}'>■</span> {style.mark} {style.name}"
        for style in theme.STATUSES.values()
    )
    notes = [
        _title(f"<b>Steps</b>{_quiet(f'against {shortened(str(scene.sides[0]), 30)}')}", -100, 1.0, 22),
        _title(legend, -100, 1.0 - ladder, -24),
        _title(f"<b>Which stage costs what</b>{_quiet('Shapley shares, baseline to candidate')}", 0, 1.0)
        | {"x": RIGHT[0], "xshift": -34},
        _title(
            f"<b>First element that differs</b>{_quiet('' if opened is None else opened.title)}",
            0,
            values_top,
        )
        | {"x": RIGHT[0], "xshift": -34},
        _title("<b>Sound of that time</b>", 0, sound_top) | {"x": RIGHT[0], "xshift": -34},
    ]
    if table is None:
        notes.append(_note(NO_SWAP, "x4 domain", "y8 domain"))
    if opened is None:
        notes.append(_note(NO_VALUES, "x3 domain", "y7 domain"))
    if sound is None:
        words = "" if scene.has_audio else "No audio: give <b>audio=…</b>"
        notes.append(_note(words, "x5 domain", "y9 domain"))
    shapes = [
        {
            "type": "line",
            "xref": "x3",
            "yref": "y7 domain",
            "x0": 0 if opened is None else opened.place,
            "x1": 0 if opened is None else opened.place,
            "y0": 0,
            "y1": 1,
            "visible": opened is not None,
            "line": {"width": 1.2, "dash": "dot", "color": theme.MUTED},
        },
        _frame(scene),
    ]
    return go.Layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=round(inner + 58 + 60),
        margin={"l": 140, "r": 14, "t": 58, "b": 60},
        hovermode="closest",
        dragmode=False,
        annotations=notes,
        shapes=shapes,
        **axes,
    )


def _span(high: np.ndarray, floor: float) -> float:
    return float(high.max() - floor) if len(high) else 1.0


def _frame(scene: PortScene) -> dict[str, object]:
    """Around the square that is opened."""
    x = y = -9.0
    if scene.selected is not None and scene.selected[0] in scene.sides[1:]:
        x = float(list(scene.sides[1:]).index(scene.selected[0]))
        y = float(list(scene.steps).index(scene.selected[1]))
    ends = {"x0": x - 0.13, "x1": x + 0.42, "y0": y - 0.47, "y1": y + 0.47}
    look = {"line": {"width": 1.4, "color": theme.MUTED}, "fillcolor": theme.SELECTION, "layer": "below"}
    return {"type": "rect", "xref": "x2", "yref": "y6", "visible": scene.selected is not None} | ends | look


def _wrapped(words: str, width: int = 64) -> str:
    """Words on several lines of a hover box."""
    lines, line = [], ""
    for word in words.split():
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "<br>".join([*lines, line])


def _quiet(text: str) -> str:
    return f" <span style='color:{theme.MUTED}'> {text}</span>" if text else ""


def _title(text: str, shift: float, y: float, up: float = 3) -> dict[str, object]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return place | {"text": text, "xshift": shift, "yshift": up, "showarrow": False, "font": {"size": 12}}


def _note(text: str, xref: str, yref: str) -> dict[str, object]:
    place = {"xref": xref, "yref": yref, "x": 0.5, "y": 0.5, "text": text}
    return place | {"showarrow": False, "font": {"size": 12, "color": theme.TEXT}}
