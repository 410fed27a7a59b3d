"""The start screen of one recording: from its waveform to the errors, on one time axis."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.overview import Diarization, Recording
from workbench.plots import theme
from workbench.plots.cast import Cast, labelled_rows
from workbench.plots.lanes import COLUMNS, error_bars, on_axis, tick_format, turn_bars, waveform_trace
from workbench.plots.panels import map_names, map_points, speaker_bars, speaker_rows
from workbench.plots.raster import data_uri, local_speaker_pixels
from workbench.plots.words import percent

NO_REFERENCE = "No reference for this recording: give <b>references=…</b> or drop an RTTM beside it"
LANES = ("waveform", "local speakers", "reference", "hypothesis", "errors")
PANEL = 216  # px, height of the two panels below the lanes
PANEL_GAP = 92  # px between the lanes and the panels: tick labels, axis title and panel titles


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A figure and the tables that its clickable traces were drawn from, by name of the trace."""

    figure: go.Figure
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def plot_recording(
    recording: Recording,
    diarization: Diarization,
    *,
    view: tuple[float, float] | None = None,
    shares: tuple[float, float] | None = None,
) -> Screen:
    """Lanes over one time axis; below them the map of local speakers and the errors per speaker.

    Parameters
    ----------
    recording, diarization : what to draw
    view : start and end (s) of what is visible; by default everything
        Only this and as much again on either side is drawn.
    shares : share of the variance that the two axes of the map show; None while there is no map

    Returns
    -------
    screen : Screen
        The traces always come in the same order and number, so that a redraw can update them.
    """
    cast = Cast.of(recording, diarization)
    visible = view or (0.0, recording.duration)
    width = visible[1] - visible[0]
    drawn = (max(visible[0] - width, 0.0), min(visible[1] + width, recording.duration))
    num_columns = max(int(COLUMNS * (drawn[1] - drawn[0]) / max(width, 1e-9)), 1)

    tables: dict[str, pd.DataFrame] = {}
    traces = [waveform_trace(recording.envelope, *drawn, yaxis="y", num_columns=num_columns)]
    tables["local speakers"], points = _chunk_points(recording, diarization, cast, drawn)
    traces.append(points)
    lanes = (
        ("reference", recording.reference, cast.reference, cast.reference_names, "y3"),
        ("hypothesis", diarization.hypothesis, cast.hypothesis, cast.hypothesis_names, "y4"),
    )
    for name, turns, styles, names, yaxis in lanes:
        shown = _NO_TURNS if turns is None else turns
        rows = {speaker: row for row, speaker in enumerate(styles)}
        trace, tables[name] = turn_bars(
            shown, rows, styles, names, name=name, uri=recording.uri, yaxis=yaxis, view=drawn
        )
        traces.append(trace)
    errors = _NO_ERRORS if diarization.errors is None else diarization.errors
    trace, tables["errors"] = error_bars(errors, uri=recording.uri, yaxis="y5", view=drawn)
    traces.append(trace)
    tables["map"] = diarization.local_map
    traces.append(map_points(diarization.local_map, cast))
    traces.append(map_names(diarization.local_map, cast))
    traces += speaker_bars(diarization, cast)

    figure = go.Figure(traces)
    figure.layout = _layout(recording, diarization, cast, visible, shares)
    pixels = local_speaker_pixels(
        recording.local_speakers, diarization.hard_clusters, _cluster_colors(cast), *drawn, num_columns
    )
    figure.layout.images = [_image(recording, data_uri(pixels), drawn)]
    return Screen(figure=figure, tables=tables)


_NO_TURNS = pd.DataFrame({"start": [], "end": [], "speaker": pd.Series([], dtype=object)})
_NO_ERRORS = pd.DataFrame(
    {"start": [], "end": [], "kind": pd.Series([], dtype=object)}
    | {side: pd.Series([], dtype=object) for side in ("reference_speaker", "hypothesis_speaker")}
)


def _cluster_colors(cast: Cast) -> dict[int, str]:
    """Hypothesis speakers are named by their cluster."""
    return {speaker: style.color for speaker, style in cast.hypothesis.items()}  # type: ignore[misc]


def _chunk_points(
    recording: Recording, diarization: Diarization, cast: Cast, drawn: tuple[float, float]
) -> tuple[pd.DataFrame, go.Scatter]:
    """Invisible points over the picture of the local speakers: they answer the mouse."""
    local = recording.local_speakers
    changes = np.flatnonzero(np.diff(local.chunk, prepend=-1))
    begins, ends = changes, np.append(changes[1:], len(local.chunk))
    start, end = local.frames.step * begins, local.frames.step * ends
    posterior = np.add.reduceat(local.posteriors, begins, axis=0) / (ends - begins)[:, None]
    seen = np.flatnonzero((end > drawn[0]) & (start < drawn[1]))
    if len(seen) * local.num_speakers > 4 * COLUMNS:  # closer than a pixel
        seen = seen[:: -(-len(seen) * local.num_speakers // (4 * COLUMNS))]
    chunk, speaker = (
        np.repeat(local.chunk[begins[seen]], local.num_speakers),
        np.tile(np.arange(local.num_speakers), len(seen)),
    )
    table = pd.DataFrame(
        {
            "start": np.repeat(start[seen], local.num_speakers),
            "end": np.repeat(end[seen], local.num_speakers),
            "chunk": chunk,
            "local_speaker": speaker,
            "cluster": diarization.hard_clusters[chunk, speaker],
            "posterior": posterior[seen].ravel(),
        }
    )
    names = [cast.hypothesis_names.get(cluster, "no cluster") for cluster in table["cluster"]]
    trace = go.Scatter(
        name="local speakers",
        x=on_axis((table["start"] + table["end"]).to_numpy() / 2),
        y=table["local_speaker"].to_numpy(dtype=np.float64),
        yaxis="y2",
        mode="markers",
        marker={"size": 11, "opacity": 0, "symbol": "square"},
        customdata=np.array([names, table["chunk"], speaker, table["posterior"].round(2)], dtype=object).T,
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>chunk %{customdata[1]} · local speaker %{customdata[2]}"
            "<br>mean posterior %{customdata[3]:.2f}<extra></extra>"
        ),
    )
    return table, trace


def _image(recording: Recording, source: str, drawn: tuple[float, float]) -> dict[str, object]:
    rows = recording.local_speakers.num_speakers
    return {
        "source": source,
        "xref": "x",
        "yref": "y2",
        "x": on_axis(drawn[0]).item(),
        "sizex": 1000.0 * (drawn[1] - drawn[0]),
        "y": -0.5,
        "sizey": rows,
        "yanchor": "top",
        "sizing": "stretch",
        "layer": "below",
    }


def _layout(
    recording: Recording,
    diarization: Diarization,
    cast: Cast,
    visible: tuple[float, float],
    shares: tuple[float, float] | None,
) -> go.Layout:
    """Axes, titles and notes of the screen; lanes grow with the number of speakers."""
    num_reference = len(cast.reference)
    rows = {
        "waveform": 3.2,
        "local speakers": max(2.4, 0.68 * recording.local_speakers.num_speakers),
        "reference": max(num_reference, 2),
        # room for one speaker too many, so that the screen keeps its shape while a slider moves
        "hypothesis": max(min(len(cast.hypothesis), 12), num_reference + 1, 3),
        "errors": 2.6,
    }
    lanes = sum(rows.values()) * theme.ROW + (len(rows) - 1) * theme.LANE_GAP
    inner = lanes + PANEL_GAP + PANEL
    height = inner + theme.MARGIN["t"] + theme.MARGIN["b"]

    layout: dict[str, object] = {
        "template": theme.template(),
        "width": theme.WIDTH,
        "height": round(height),
        "dragmode": "pan",
        "hovermode": "closest",
        "hoverdistance": 12,
        "barmode": "stack",
        "uirevision": recording.uri,
    }
    annotations: list[dict[str, object]] = []
    top = inner
    for number, (lane, title) in enumerate(zip(LANES, _titles(recording), strict=True), start=1):
        bottom = top - rows[lane] * theme.ROW
        layout[f"yaxis{number if number > 1 else ''}"] = _lane_axis(lane, recording, cast) | {
            "domain": [max(bottom / inner, 0.0), min(top / inner, 1.0)]
        }
        annotations.append(_title(title, x=0, y=top / inner))
        if recording.reference is None and lane in ("reference", "errors"):
            annotations.append(_note(NO_REFERENCE, f"y{number} domain"))
        top = bottom - theme.LANE_GAP
    floor = bottom / inner
    layout["xaxis"] = {
        "type": "date",
        "anchor": "y5",
        "range": [float(on_axis(visible[0])), float(on_axis(visible[1]))],
        "minallowed": float(on_axis(0)),
        "maxallowed": float(on_axis(recording.duration)),
        # where a double click leads: the whole recording, to the millisecond
        "autorangeoptions": {
            "include": [float(on_axis(0)), float(on_axis(recording.duration))],
            "clipmin": float(on_axis(0)),
            "clipmax": float(on_axis(recording.duration)),
        },
        "tickformatstops": tick_format(recording.duration),
        "hoverformat": "%-M:%S.%L",
        "nticks": 12,
        "ticks": "outside",
        "ticklen": 4,
        "title": {"text": "Time (m:ss)" if recording.duration < 3600 else "Time (h:mm:ss)"},
    }
    panel = [0.0, PANEL / inner]
    first, second = "", ""
    if shares is not None:
        first, second = f" ({percent(shares[0], 0)} of the variance)", f" ({percent(shares[1], 0)})"
    layout["xaxis2"] = {
        "domain": [0.0, 0.455],
        "anchor": "y6",
        "fixedrange": True,
        "showticklabels": False,
        "title": {"text": f"First principal component{first}"},
    }
    layout["yaxis6"] = {
        "domain": panel,
        "anchor": "x2",
        "fixedrange": True,
        "showticklabels": False,
        "title": {"text": f"Second component{second}"},
    }
    layout["xaxis3"] = {
        "domain": [0.575, 1.0],
        "anchor": "y7",
        "fixedrange": True,
        "rangemode": "tozero",
        "title": {"text": "Speech (s)"},
    }
    layout["yaxis7"] = speaker_rows(diarization, cast) | {"domain": panel, "anchor": "x3", "fixedrange": True}
    annotations.append(_title(_MAP_TITLE[recording.reference is not None], x=0, y=PANEL / inner))
    annotations.append(_title(_BARS_TITLE[recording.reference is not None], x=0.575, y=PANEL / inner))
    layout["annotations"] = annotations
    # the stretch that is selected, over all lanes; invisible until there is one
    layout["shapes"] = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": float(on_axis(0)),
            "x1": float(on_axis(0)),
            "y0": floor,
            "y1": 1,
            "fillcolor": theme.SELECTION,
            "line": {"width": 1, "color": theme.MUTED},
            "layer": "below",
            "visible": False,
        }
    ]
    return go.Layout(layout)


def _titles(recording: Recording) -> tuple[str, ...]:
    quiet = f"<span style='color:{theme.MUTED}'>"
    has_reference = recording.reference is not None
    hypothesis = (
        "same colour: matched to that reference speaker" if has_reference else "one colour per speaker"
    )
    return (
        "<b>Waveform</b>",
        f"<b>Local speakers</b> {quiet} strength: posterior of the segmentation · colour: cluster</span>",
        "<b>Reference</b>",
        f"<b>Hypothesis</b> {quiet} {hypothesis}</span>",
        f"<b>Errors</b> {quiet} hypothesis against reference, under the best mapping of speakers</span>",
    )


_MAP_TITLE = {
    True: "<b>Embeddings</b> of the local speakers, fill: cluster, rim and shape: reference",
    False: "<b>Embeddings</b> of the local speakers, fill and shape: cluster",
}
_BARS_TITLE = {True: "<b>What became of every speaker's speech</b>", False: "<b>Speech per speaker</b>"}


def _lane_axis(lane: str, recording: Recording, cast: Cast) -> dict[str, object]:
    """Rows count from above; only the horizontal axis zooms."""
    axis: dict[str, object] = {"anchor": "x", "fixedrange": True, "showgrid": False, "ticks": ""}
    if lane == "waveform":
        return axis | {"range": [-1.08, 1.08], "showticklabels": False}
    if lane == "local speakers":
        rows = recording.local_speakers.num_speakers
        return axis | labelled_rows([f"local {row}" for row in range(rows)], None, rows)
    if lane == "errors":
        names = [style.name for style in theme.ERRORS.values()]
        return axis | labelled_rows(names, [style.color for style in theme.ERRORS.values()], len(names))
    looks, names_of = (
        (cast.reference, cast.reference_names)
        if lane == "reference"
        else (cast.hypothesis, cast.hypothesis_names)
    )
    least = 2 if lane == "reference" else max(len(cast.reference) + 1, 3)
    return axis | labelled_rows(
        list(names_of.values()), [look.color for look in looks.values()], max(len(looks), least)
    )


def _title(text: str, *, x: float, y: float) -> dict[str, object]:
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": x,
        "y": y,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 3,
        "showarrow": False,
        "font": {"size": 12},
    }


def _note(text: str, yref: str) -> dict[str, object]:
    return {
        "text": text,
        "xref": "paper",
        "yref": yref,
        "x": 0.5,
        "y": 0.5,
        "showarrow": False,
        "font": {"size": 12, "color": theme.TEXT},
    }
