"""A clustering grid and one of its cells: heatmap, recordings, and the lanes of what the cell puts out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.breakdown import LANES, Scene, hypothesis_looks, plot_lanes
from workbench.plots.breakdown_panels import Parts
from workbench.plots.cast import labelled_rows
from workbench.plots.grid_cells import (
    Slice,
    cell_axes,
    cell_trace,
    hatching,
    line_trace,
    mark_trace,
    outline,
    parameter_title,
    plateau_groups,
)
from workbench.plots.grid_measures import Measure
from workbench.plots.lanes import on_axis, time_axis
from workbench.plots.recording import Screen
from workbench.plots.words import matched_name, shortened, speaker_name
from workbench.review import HypothesisView
from workbench.tuning.cells import format_value
from workbench.tuning.choice import Choice
from workbench.tuning.words import points

PANEL = 330  # px, height of the heatmap
LEGEND = 22  # px, what the marks mean
PANEL_GAP = 112  # px between the heatmap and the lanes: ticks, axis title, marks, lane title
CELLS = (0.0, 0.455)  # across
BARS = (0.665, 0.865)
FOUND = (0.895, 1.0)
MOST_RECORDINGS = 16
_SHOWN = ("reference", "hypothesis A", "hypothesis B", "errors B", "changes")


@dataclass(frozen=True, kw_only=True, eq=False)
class GridScene:
    """What the screen shows."""

    plane: Slice
    measure: Measure
    hover: Sequence[str]  # of every cell of the grid
    choice: Choice
    regions: np.ndarray  # of equal output on the recordings that are shown, (num_cells,)
    converged: np.ndarray  # bool (num_cells,): on all recordings that are shown
    is_pooled: bool  # over all recordings, as the choice is
    cell: int  # that is looked at
    recordings: pd.DataFrame  # one row each: uri, missed, false_alarm, confusion, der_default, der_own (%),
    # num_speakers, num_speakers_default, num_reference_speakers
    uri: str  # whose lanes are shown
    duration: float  # s
    reference: pd.DataFrame  # turns
    default: HypothesisView
    view: HypothesisView  # of the cell
    changes: pd.DataFrame  # what the cell fixed and broke

    @property
    def lanes(self) -> Scene:
        """The lanes as those of a breakdown: A is the default, B the cell."""
        return Scene(
            uri=self.uri,
            duration=self.duration,
            reference=self.reference,
            views=[self.default, self.view],
            scores=[],
            order=[],
            parts=Parts(by="overlap", names=[], tables=[]),
            changes=self.changes,
        )


def plot_grid(
    scene: GridScene,
    *,
    view: tuple[float, float] | None = None,
    selection: tuple[float, float] | None = None,
) -> Screen:
    """Heatmap with its marks, the cell's recordings against the default, lanes of one recording.

    Parameters
    ----------
    view : start and end (s) of what is visible of the recording; by default everything
    selection : start and end (s) of the selected stretch

    Returns
    -------
    screen : Screen
        The traces always come in the same order and number, so that a redraw can update them.
    """
    visible = view or (0.0, scene.duration)
    lanes = plot_lanes(scene.lanes, visible)
    hidden = [lane for lane in LANES if lane not in _SHOWN]
    traces = [trace for trace in lanes.figure.data if trace.name not in hidden]
    traces += [cell_trace(scene.plane, scene.measure, scene.hover), *_marks(scene)]
    traces += recording_rows(scene)
    figure = go.Figure(traces)
    figure.layout = _layout(scene, visible, selection)
    figure.data[[trace.name for trace in traces].index("cells")].colorbar.update(_colorbar(figure.layout))
    return Screen(figure=figure, tables={name: lanes.tables[name] for name in _SHOWN})


def _marks(scene: GridScene) -> list[go.Scatter]:
    """Everything that is drawn over the cells."""
    plane, choice = scene.plane, scene.choice
    good = np.zeros(plane.cells.shape, dtype=bool)
    if scene.is_pooled and not choice.not_worse.all():  # the test is about all recordings
        good = (plane.cells >= 0) & choice.not_worse[plane.cells]
    stuck = (plane.cells >= 0) & ~scene.converged[plane.cells]
    rows, columns = np.nonzero(stuck)
    places = {}
    for name, cell in (("best", choice.best), ("out of fold", choice.most_chosen)):
        place = plane.find(cell) if scene.is_pooled else None
        places[name] = [place] if place is not None else []
    values = choice.default_values or {}
    default = plane.place(values) if values else None
    size = min(1.0, max(0.55, 9 / max(plane.cells.shape)))
    return [
        line_trace("plateaus", outline(plateau_groups(plane, scene.regions)), 1.1, opacity=0.75),
        line_trace("not worse", hatching(good), 1.0, opacity=0.6),
        line_trace("contour", outline(np.where(good, 0, -1)), 2.2, dash="dot"),
        mark_trace(
            "not converged",
            [(c + 0.36, r + 0.32) for r, c in zip(rows, columns, strict=True)],
            "x",
            6.5 * size,
        ),
        mark_trace("default", [default] if default else [], "diamond", 27 * size, theme.ON_DEFAULT),
        mark_trace("out of fold", places["out of fold"], "star", 19 * size),
        mark_trace("best", places["best"], "star", 11 * size, theme.ON_CELLS),
    ]


def recording_rows(scene: GridScene) -> list[go.Bar | go.Scatter]:
    """DER of every recording in this cell, by kind of error, with marks; and how many speakers were found."""
    table = scene.recordings
    rows = np.arange(len(table), dtype=float)
    traces: list[go.Bar | go.Scatter] = []
    for kind, style in theme.ERRORS.items():
        values = table[kind].to_numpy(dtype=float)
        said = [
            f"<b>{uri}</b> · this cell<br>{style.name} {value:.1f} %"
            for uri, value in zip(table["uri"], values, strict=True)
        ]
        traces.append(
            go.Bar(
                name=f"recordings {kind}",
                orientation="h",
                x=values,
                y=rows,
                xaxis="x3",
                yaxis="y7",
                width=0.62,
                marker={"color": style.color, "line": {"width": 0}, "pattern": theme.hatched(style.hatch)},
                customdata=said,
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    for name, column, symbol, size, what in (
        ("recordings default", "der_default", "diamond-open", 10, "default"),
        ("recordings own", "der_own", "line-ns", 11, "its own best cell"),
    ):
        values = table[column].to_numpy(dtype=float)
        said = [
            f"<b>{uri}</b> · {what}<br>DER {value:.1f} %"
            for uri, value in zip(table["uri"], values, strict=True)
        ]
        traces.append(_dots(name, values, rows, "x3", symbol, size, theme.TEXT, said))
    for name, column, symbol, size, what in (
        ("true", "num_reference_speakers", "circle-open", 13, "in the reference"),
        ("found default", "num_speakers_default", "diamond-open", 9, "found by the default"),
        ("found", "num_speakers", "circle", 7, "found by this cell"),
    ):
        values = table[column].to_numpy(dtype=float)
        said = [
            f"<b>{uri}</b><br>{value:.0f} speakers {what}"
            for uri, value in zip(table["uri"], values, strict=True)
        ]
        wrong = (table["num_speakers"] != table["num_reference_speakers"]).to_numpy(dtype=bool)
        right, off = theme.CHANGES["fixed"].color, theme.ERRORS["confusion"].color
        colors = [off if each else right for each in wrong] if name == "found" else theme.TEXT
        traces.append(_dots(name, values, rows, "x4", symbol, size, colors, said))
    return traces


def _dots(
    name: str, x: np.ndarray, y: np.ndarray, axis: str, symbol: str, size: float, color: Any, said: list[str]
) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=x,
        y=y,
        xaxis=axis,
        yaxis="y7" if axis == "x3" else "y8",
        mode="markers",
        marker={"symbol": symbol, "size": size, "color": color, "line": {"width": 1.6, "color": color}},
        customdata=said,
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )


def _row_heights(scene: GridScene) -> dict[str, int]:
    num_reference = scene.reference["speaker"].nunique()
    most = max(each.turns["speaker"].nunique() for each in (scene.default, scene.view))
    row = theme.ROW if num_reference <= 4 else 15
    # room for one speaker too many, so that the screen keeps its shape from cell to cell
    hypothesis = row * max(min(most, 10), num_reference + 1, 3)
    heights = {"reference": row * max(num_reference, 2), "hypothesis A": hypothesis}
    return heights | {"hypothesis B": hypothesis, "errors B": 3 * 15, "changes": 2 * 15}


def _layout(
    scene: GridScene, visible: tuple[float, float], selection: tuple[float, float] | None
) -> go.Layout:
    heights = _row_heights(scene)
    lanes = sum(heights.values()) + (len(heights) - 1) * theme.LANE_GAP
    inner = PANEL + PANEL_GAP + lanes
    panel = [(inner - PANEL) / inner, 1.0]
    margin = theme.MARGIN | {"t": 30}
    layout: dict[str, Any] = {
        "template": theme.template(),
        "width": theme.WIDTH,
        "height": round(inner + margin["t"] + margin["b"]),
        "margin": margin,
        "dragmode": "pan",
        "hovermode": "closest",
        "hoverdistance": 12,
        "barmode": "stack",
        "uirevision": scene.uri,
        "meta": {"lanes": ["yaxis", "yaxis10"]},  # for the player's lines
    }
    annotations = []
    top: float = lanes
    names = {"reference": "yaxis", "hypothesis A": "yaxis2", "hypothesis B": "yaxis3"}
    names |= {"errors B": "yaxis5", "changes": "yaxis10"}
    for lane, height in heights.items():
        bottom = top - height
        domain = [max(bottom, 0) / inner, top / inner]
        layout[names[lane]] = _lane_axis(scene, lane, height) | {"domain": domain}
        annotations.append(_title(_lane_title(scene, lane), x=0, y=top / inner))
        top = bottom - theme.LANE_GAP
    layout["xaxis"] = time_axis(scene.duration, visible, "y10")
    width = (CELLS[1] - CELLS[0]) * (theme.WIDTH - margin["l"] - margin["r"])
    across, down = cell_axes(scene.plane, width, PANEL)
    layout["xaxis2"] = across | {"domain": CELLS, "anchor": "y6"}
    layout["yaxis6"] = down | {"domain": panel, "anchor": "x2"}
    layout |= _recording_axes(scene, panel)
    layout["annotations"] = annotations + _panel_titles(scene, inner)
    layout["shapes"] = _shapes(scene, selection, lanes / inner)
    return go.Layout(layout)


def _recording_axes(scene: GridScene, panel: list[float]) -> dict[str, Any]:
    uris = [shortened(uri, 14) for uri in scene.recordings["uri"]]
    num_rows = max(min(len(uris), MOST_RECORDINGS), 3)
    rows = labelled_rows(uris, None, num_rows) | {"showgrid": False, "fixedrange": len(uris) <= num_rows}
    table = scene.recordings
    rates = [*(table[list(theme.ERRORS)].sum(axis=1)), *table["der_default"], *table["der_own"]]
    known = [rate for rate in rates if not math.isnan(rate)]
    counts = table[["num_speakers", "num_speakers_default", "num_reference_speakers"]].to_numpy().max()
    fixed = {"fixedrange": True, "ticks": ""}
    return {
        "yaxis7": rows | {"domain": panel, "anchor": "x3"},
        "yaxis8": rows | {"domain": panel, "anchor": "x4", "matches": "y7", "showticklabels": False},
        "xaxis3": fixed
        | {"domain": BARS, "anchor": "y7", "range": [0, 1.06 * max(known, default=1.0)], "nticks": 5}
        | {"title": {"text": "DER (% of the reference speech)"}},
        "xaxis4": fixed
        | {"domain": FOUND, "anchor": "y8", "range": [0, max(int(counts), 2) + 0.6]}
        | {"title": {"text": "Speakers"}, "dtick": 1 if counts <= 6 else 2 if counts <= 12 else 5},
    }


def _lane_axis(scene: GridScene, lane: str, height: float) -> dict[str, Any]:
    axis: dict[str, Any] = {"anchor": "x", "fixedrange": True, "showgrid": False, "ticks": ""}
    styles = scene.lanes.styles
    if lane == "reference":
        colors = [style.color for style in styles.values()]
        return axis | labelled_rows([str(name) for name in styles], colors, max(len(styles), 2))
    if lane in ("errors B", "changes"):
        kinds = (theme.CHANGES if lane == "changes" else theme.ERRORS).values()
        return axis | labelled_rows(
            [style.name for style in kinds], [style.color for style in kinds], len(kinds)
        )
    view = scene.default if lane == "hypothesis A" else scene.view
    looks = hypothesis_looks(view, styles)
    names = [matched_name(speaker, view.matching, True) for speaker in looks]
    names = [
        name if len(name) <= 13 else speaker_name(speaker) for name, speaker in zip(names, looks, strict=True)
    ]
    rows = round(height / (theme.ROW if len(styles) <= 4 else 15))
    return axis | labelled_rows(names, [look.color for look in looks.values()], max(rows, len(looks)))


def _lane_title(scene: GridScene, lane: str) -> str:
    if lane == "reference":
        return f"<b>{scene.uri}</b>{_quiet('reference')}"
    if lane == "changes":
        return f"<b>Against the default</b>{_quiet('where this cell makes fewer errors, and where more')}"
    if lane == "errors B":
        return f"<b>Errors of this cell</b>{_quiet('click one to hear it')}"
    view = scene.default if lane == "hypothesis A" else scene.view
    name = "Default" if lane == "hypothesis A" else "This cell"
    der = f"DER {points(view.counts.der)}" if view.counts.total else "no reference speech"
    found = view.turns["speaker"].nunique()
    return f"<b>{name}</b>{_quiet(f'{der} · {found} speakers · colour: matched reference speaker')}"


def _panel_titles(scene: GridScene, inner: float) -> list[dict[str, Any]]:
    where = "all recordings pooled" if scene.is_pooled else scene.uri
    held = ", ".join(f"{name} {value}" for name, value in _held(scene))
    choice = scene.choice
    marks = [("◇ default", scene.plane.place(choice.default_values or {}), choice.default_values or {})]
    if scene.is_pooled:
        for words, cell in (("★ best", choice.best), ("☆ most often best out of fold", choice.most_chosen)):
            marks.append((words, scene.plane.find(cell), choice.table.values(cell)))
    words = " · ".join(
        text if place is not None else f"{text} (at {_elsewhere(scene, values)})"
        for text, place, values in marks
    )
    more = "× not converged · outlined: equal output"
    more += " · ⁄⁄ dotted: not significantly worse than the best" if scene.is_pooled else ""
    legend = PANEL_GAP - 52
    return [
        _title(f"<b>{scene.measure.title}</b>{_quiet(where + (f' · {held}' if held else ''))}", x=0, y=1.0),
        _title("<b>Recordings</b>" + _quiet("this cell · ◇ default · | own best"), x=BARS[0], y=1.0)
        | {"xshift": -98},
        _title("<b>Found</b>" + _quiet("○ true"), x=FOUND[0], y=1.0),
        _title(_quiet(words), x=0, y=(inner - PANEL - legend) / inner)
        | {"font": {"size": 11}, "xshift": -60},
        _title(_quiet(more), x=0, y=(inner - PANEL - legend - 15) / inner)
        | {"font": {"size": 11}, "xshift": -60},
    ]


def _elsewhere(scene: GridScene, values: Mapping[str, Any]) -> str:
    """Where a cell lies that is not on the plane."""
    found = [
        (name, format_value(values.get(name)))
        for name, held in _held(scene)
        if format_value(values.get(name)) != held
    ]
    return ", ".join(" ".join(each) for each in found) or "values outside"


def _held(scene: GridScene) -> list[tuple[str, str]]:
    table = scene.choice.table
    varied = [name for name in scene.plane.others if table.cells[name].nunique(dropna=False) > 1]
    return [(name, format_value(scene.plane.others[name])) for name in varied]


def _shapes(scene: GridScene, selection: tuple[float, float] | None, top: float) -> list[dict[str, Any]]:
    """The selected stretch over all lanes, the cell that is looked at, and the row of its recording."""
    start, end = selection or (0.0, 0.0)
    place = scene.plane.find(scene.cell)
    column, row = place or (0, 0)
    uris = list(scene.recordings["uri"])
    line = uris.index(scene.uri) if scene.uri in uris else -1
    return [
        {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": top, "layer": "below"}
        | {"x0": float(on_axis(start)), "x1": float(on_axis(end)), "visible": selection is not None}
        | {"fillcolor": theme.SELECTION, "line": {"width": 1, "color": theme.MUTED}},
        {"type": "rect", "xref": "x2", "yref": "y6", "x0": column - 0.5, "x1": column + 0.5}
        | {"y0": row - 0.5, "y1": row + 0.5, "visible": place is not None}
        | {"line": {"width": 3, "color": theme.ERRORS["confusion"].color}},
        {"type": "rect", "xref": "x3 domain", "yref": "y7", "x0": -0.52, "x1": 1.7, "layer": "below"}
        | {"y0": line - 0.46, "y1": line + 0.46, "fillcolor": theme.SELECTION, "line": {"width": 0}},
    ]


def _colorbar(layout: go.Layout) -> dict[str, Any]:
    """Beside the cells, as high as they are."""
    bottom, top = layout.yaxis6.domain
    return {"x": CELLS[1] + 0.008, "xanchor": "left", "y": (bottom + top) / 2, "len": top - bottom}


def _quiet(text: str) -> str:
    return f" <span style='color:{theme.MUTED}'> {text}</span>" if text else ""


def _title(text: str, *, x: float, y: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return place | {"text": text, "yshift": 3, "showarrow": False, "font": {"size": 12}}


def parameters_in_words(names: Sequence[str]) -> str:
    """`Fa, Fb and ahc_threshold (distance)`."""
    titles = [parameter_title(name) for name in names]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
