"""Two runtimes on one screen: recordings, margins, transitions, time, layers, and one flip up close."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.lanes import as_dates, error_bars, on_axis, time_axis
from workbench.plots.parity_axes import (
    DETAIL,
    DETAILS,
    LADDER,
    PANEL,
    ParityScene,
    detail_axes,
    ladder_axes,
    ladder_words,
    lane_axis,
    lane_title,
    note,
    panel_axes,
    panel_titles,
    quiet,
    scatter_span,
    title,
)
from workbench.plots.parity_lanes import (
    PIXELS,
    RASTER_COLUMNS,
    TICK_COLUMNS,
    difference_line,
    flip_ticks,
    ledger_errors,
    posteriorgram_images,
)
from workbench.plots.parity_panels import (
    FlipScores,
    bound_lines,
    layer_bars,
    margin_marks,
    recording_flip_bars,
    recording_flip_texts,
    score_bars,
    transition_cells,
)
from workbench.plots.recording import Screen
from workbench.plots.spectrogram import Sound, sound_image, sound_trace

PANEL_GAP, LADDER_GAP, DETAIL_GAP = 74, 74, 104  # px below panel, lanes and ladder
AHEAD = 0.25  # of the width of the view, drawn on either side of it
LANES = ("baseline", "flips", "candidate", "difference", "output")
NO_FLIP = (
    "Click a flip, in the lane, the scatter or the matrix:",
    "both score vectors and its sound appear here",
)
NO_POSTERIORS = "Posteriors were not kept: run parity with <b>ParityParams(keep_posteriors=True)</b>"


def plot_parity(
    scene: ParityScene,
    *,
    view: tuple[float, float] | None = None,
    selection: tuple[float, float] | None = None,
    flip: int | None = None,
    scores: FlipScores | None = None,
    sound: Sound | None = None,
) -> Screen:
    """All panels of one recording.

    Parameters
    ----------
    view : start and end (s) of what is visible; by default everything
    selection : start and end (s) of the brushed region
    flip : row of `scene.flips` that is looked at
    scores, sound : of that flip

    Returns
    -------
    screen : Screen
        The traces always come in the same order and number; `tables` holds the flips behind them.
    """
    visible = view or (0.0, scene.duration)
    lanes = plot_parity_lanes(scene, visible)
    panels, tables = _panels(scene)
    detail = [*score_bars(scores, scene.classes), sound_trace(sound)]
    layout = _layout(scene, visible, selection, flip, scores, sound, scene.marks)
    layout["images"] = [image.to_plotly_json() for image in lanes.figure.layout.images]
    layout["images"] += [] if sound is None else [sound_image(sound)]
    figure = go.Figure([*lanes.figure.data, *panels, *detail])
    figure.layout = go.Layout(template=theme.template(), **layout)
    return Screen(figure=figure, tables=lanes.tables | tables)


def plot_parity_ground(scene: ParityScene) -> Screen:
    """The same without what a reader moves: lanes and the selected flip stay empty, for a canvas over them.

    Traces come in the same order and number for every scene; `tables` holds the marks of the scatter.
    """
    panels, tables = _panels(scene)
    whole = (0.0, scene.duration)
    layout = _layout(scene, whole, None, None, None, None, scene.marks)
    invisible = {"tickfont": {"color": "rgba(0, 0, 0, 0)"}, "tickcolor": "rgba(0, 0, 0, 0)"}
    layout["xaxis"] |= invisible | {"fixedrange": True, "showgrid": False}
    layout["annotations"] = [each for each in layout["annotations"] if each["text"] != "<br>".join(NO_FLIP)]
    layout["shapes"] = [each for each in layout["shapes"] if each["yref"] == "y6"]
    lanes = [_time_keeper(scene, number) for number in range(1, len(LANES) + 1)]
    figure = go.Figure([*lanes, *panels, *score_bars(None, scene.classes), sound_trace(None)])
    figure.layout = go.Layout(template=theme.template(), **layout)
    return Screen(figure=figure, tables=tables)


def _panels(scene: ParityScene) -> tuple[list[go.Scatter | go.Bar | go.Heatmap], dict[str, pd.DataFrame]]:
    """Recordings, scatter, matrix and layers; the marks of the scatter as tables."""
    cells = scene.marks
    traces: list[go.Scatter | go.Bar | go.Heatmap] = []
    traces += [*recording_flip_bars(scene.damage), recording_flip_texts(scene.damage)]
    traces += bound_lines(scene.near_tie, scatter_span(cells))
    traces += margin_marks(cells, scene.flips)
    traces.append(transition_cells(scene.transitions, scene.classes))
    traces += layer_bars(scene.ladder, scene.tolerance)
    kinds = ("near_tie", "real", "beyond")
    return traces, {f"margins {kind}": cells[cells["kind"] == kind].reset_index(drop=True) for kind in kinds}


def _time_keeper(scene: ParityScene, lane: int = 1) -> go.Scatter:
    """Invisible: the first trace decides which kind of axis the time axis is, and an empty lane needs one."""
    return go.Scatter(
        name=f"time axis {lane}",
        yaxis=f"y{lane if lane > 1 else ''}",
        x=as_dates(np.array([0.0, scene.duration])),
        y=[0.0, 0.0],
        mode="markers",
        marker={"opacity": 0},
        hoverinfo="skip",
    )


def plot_parity_lanes(scene: ParityScene, visible: tuple[float, float]) -> Screen:
    """What changes with the zoom: pictures of the posteriors, ticks, difference, output."""
    width = visible[1] - visible[0]
    drawn = (max(visible[0] - AHEAD * width, 0.0), min(visible[1] + AHEAD * width, scene.duration))
    share = (drawn[1] - drawn[0]) / max(width, 1e-9)
    ticks, tables = flip_ticks(scene.flips, scene.classes, drawn, round(TICK_COLUMNS * share))
    line = difference_line(scene.axis, scene.classes, drawn, round(0.8 * RASTER_COLUMNS * share))
    regions, tables["output"] = error_bars(
        ledger_errors(scene.ledger), uri=scene.uri, yaxis="y5", view=drawn, column=width / RASTER_COLUMNS
    )
    regions.name = "output"
    figure = go.Figure([_time_keeper(scene), *ticks, line, regions])
    if scene.axis is not None:
        figure.layout.images = posteriorgram_images(
            scene.axis, scene.classes, drawn, round(RASTER_COLUMNS * share)
        )
    return Screen(figure=figure, tables=tables)


def _layout(
    scene: ParityScene,
    visible: tuple[float, float],
    selection: tuple[float, float] | None,
    flip: int | None,
    scores: FlipScores | None,
    sound: Sound | None,
    cells: pd.DataFrame,
) -> dict[str, Any]:
    raster = max(PIXELS * len(scene.classes), 48)
    heights = {"baseline": raster, "flips": 38, "candidate": raster, "difference": 52, "output": 39}
    lanes = sum(heights.values()) + (len(LANES) - 1) * 27
    inner = PANEL + PANEL_GAP + lanes + LADDER_GAP + LADDER + DETAIL_GAP + DETAIL
    top = inner - PANEL - PANEL_GAP
    annotations: list[dict[str, object]] = []
    layout: dict[str, Any] = {
        "width": theme.WIDTH,
        "height": round(inner + theme.MARGIN["t"] + theme.MARGIN["b"]),
        "dragmode": "pan",
        "selectdirection": "h",
        "hovermode": "closest",
        "hoverdistance": 14,
        "barmode": "overlay",
        "uirevision": scene.uri,
        "meta": {"lanes": ["yaxis", "yaxis5"]},  # for the player's lines
    }
    for number, lane in enumerate(LANES, start=1):
        bottom = top - heights[lane]
        layout[f"yaxis{number if number > 1 else ''}"] = lane_axis(scene, lane) | {
            "anchor": "x",
            "domain": [bottom / inner, top / inner],
            "fixedrange": True,
            "ticks": "",
        }
        annotations.append(title(lane_title(scene, lane), x=0, y=top / inner))
        floor, top = bottom, bottom - 27
    roof = (inner - PANEL - PANEL_GAP) / inner
    layout["xaxis"] = time_axis(scene.duration, visible, "y5")
    ladder_top = floor - LADDER_GAP
    layout |= panel_axes(scene, inner, cells)
    layout |= ladder_axes(scene, ladder_top / inner, (ladder_top - LADDER) / inner)
    layout |= detail_axes(scene, sound, DETAIL / inner)
    annotations += panel_titles(scene)
    annotations += ladder_words(scene, ladder_top / inner)
    annotations.append(
        title("<b>Selected flip</b>" + quiet("baseline left, solid · candidate right, hatched"), x=0)
        | {"y": DETAIL / inner}
    )
    annotations.append(
        title("<b>Sound around it</b>" + quiet("the flip is the white line"), x=DETAILS["sound"][0])
        | {"y": DETAIL / inner}
    )
    if scores is None:
        annotations.append(note("<br>".join(NO_FLIP), "x6 domain", "y10 domain"))
    if sound is None:
        words = "" if scene.has_audio else "No audio: give <b>audio=…</b> to hear and see it"
        annotations.append(note(words, "x5 domain", "y9 domain"))
    if scene.axis is None:
        annotations.append(note(NO_POSTERIORS, "x domain", "y domain"))
    layout["annotations"] = annotations
    layout["shapes"] = _shapes(scene, selection, flip, sound, floor / inner, roof)
    return layout


def _shapes(
    scene: ParityScene,
    selection: tuple[float, float] | None,
    flip: int | None,
    sound: Sound | None,
    floor: float,
    roof: float,
) -> list[dict[str, object]]:
    """The brushed region, the selected flip, the row of the recording."""
    start, end = selection or (0.0, 0.0)
    found = list(scene.damage["uri"])
    row = found.index(scene.uri) if scene.uri in found else -2
    time = 0.0 if flip is None else float(scene.flips["time"].iloc[flip])
    lane = {"xref": "x", "yref": "paper", "y0": floor, "y1": roof}
    here = {"x0": float(on_axis(time)), "x1": float(on_axis(time))}
    return [
        lane
        | {"type": "rect", "layer": "below", "x0": float(on_axis(start)), "x1": float(on_axis(end))}
        | {"visible": selection is not None, "fillcolor": theme.SELECTION}
        | {"line": {"width": 1, "color": theme.MUTED}},
        lane
        | here
        | {"type": "line", "visible": flip is not None, "line": {"width": 1.4, "color": theme.BOUND}},
        {"type": "rect", "xref": "x2 domain", "yref": "y6", "x0": -0.4, "x1": 1.0, "layer": "below"}
        | {"y0": row - 0.46, "y1": row + 0.46, "fillcolor": theme.SELECTION, "line": {"width": 0}},
        {"type": "line", "xref": "x5", "yref": "y9 domain", "y0": 0, "y1": 1, "visible": sound is not None}
        | here
        | {"line": {"width": 1.5, "color": "#ffffff", "dash": "dot"}},
    ]


__all__ = ["LANES", "ParityScene", "plot_parity", "plot_parity_ground", "plot_parity_lanes"]
