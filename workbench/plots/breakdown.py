"""Where every second of error comes from: recordings, who was taken for whom, parts, lanes and sound."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.breakdown_panels import (
    Parts,
    arranged,
    confusion_axes,
    confusion_cells,
    part_bars,
    part_texts,
    recording_bars,
    recording_texts,
)
from workbench.plots.cast import labelled_rows
from workbench.plots.lanes import COLUMNS, as_dates, change_bars, error_bars, on_axis, time_axis, turn_bars
from workbench.plots.recording import Screen
from workbench.plots.spectrogram import Sound, sound_axes, sound_image, sound_trace
from workbench.plots.theme import SpeakerStyle, hypothesis_styles, reference_styles
from workbench.plots.words import matched_name, shortened, speaker_name
from workbench.review import HypothesisView, SystemScore
from workbench.timeline import order_speakers

LANES = ("reference", "hypothesis A", "hypothesis B", "errors A", "errors B", "changes")
AXES = dict(zip(LANES, ("y", "y2", "y3", "y4", "y5", "y10"), strict=True))
PANEL = 232  # px, height of the overview
PANEL_GAP = 78  # px between the overview and the lanes
SOUND = 118  # px, height of the spectrogram
NOTE = 26  # px, in place of it where there is no audio
SOUND_GAP = 74  # px between the lanes and the spectrogram
MOST_RECORDINGS = 11  # rows of the overview; the others come into view by dragging
PANELS = {"recordings": (0.0, 0.325), "confusion": (0.45, 0.67), "parts": (0.785, 0.985)}
NO_AUDIO = "No audio: give <b>audio=…</b>, a folder of recordings, to hear and see what was said"
NO_SELECTION = "Click an error to hear it with one second on either side, and to see its spectrogram"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What the screen shows."""

    uri: str
    duration: float  # s
    reference: pd.DataFrame  # turns
    views: Sequence[HypothesisView]  # of A and, where there is one, of B
    scores: Sequence[SystemScore]  # of both on all recordings
    order: Sequence[str]  # recordings, from above
    parts: Parts
    changes: pd.DataFrame | None = None  # what B fixed and broke, where there is a B
    detail: int = 0  # number of the system whose confusions are shown
    has_audio: bool = True

    @property
    def detailed(self) -> HypothesisView:
        """The system whose confusions are shown."""
        return self.views[min(self.detail, len(self.views) - 1)]

    @property
    def styles(self) -> dict[Hashable, SpeakerStyle]:
        """Reference speakers in the order in which they first talk, and how they look everywhere."""
        return reference_styles(order_speakers(self.reference))

    @property
    def confusion(self) -> pd.DataFrame:
        """Who was taken for whom (s), speakers in the order of the lanes."""
        styles = self.styles
        return arranged(self.detailed.confusion, styles, hypothesis_looks(self.detailed, styles))


def plot_breakdown(
    scene: Scene,
    *,
    view: tuple[float, float] | None = None,
    selection: tuple[float, float] | None = None,
    sound: Sound | None = None,
) -> Screen:
    """Overview of all recordings and one of them; lanes of that one; the selected sound.

    Parameters
    ----------
    view : start and end (s) of what is visible of the recording; by default everything
        Only this and as much again on either side is drawn.
    selection : start and end (s) of the selected stretch
    sound : the clip around it, where there is audio

    Returns
    -------
    screen : Screen
        The traces always come in the same order and number, so that a redraw can update them.
    """
    visible = view or (0.0, scene.duration)
    lanes = plot_lanes(scene, visible)
    traces = list(lanes.figure.data)
    traces += recording_bars(scene.scores, scene.order)
    traces.append(recording_texts(scene.scores, scene.order))
    traces.append(confusion_cells(scene.confusion, scene.detailed.matching))
    traces += part_bars(scene.parts)
    traces.append(part_texts(scene.parts))
    traces.append(sound_trace(sound))
    figure = go.Figure(traces)
    figure.layout = _layout(scene, visible, selection, sound)
    return Screen(figure=figure, tables=lanes.tables)


def plot_lanes(scene: Scene, visible: tuple[float, float]) -> Screen:
    """The traces that change with the zoom, one per lane, and the tables behind them."""
    width = visible[1] - visible[0]
    column = width / COLUMNS
    drawn = (max(visible[0] - width, 0.0), min(visible[1] + width, scene.duration))
    styles = scene.styles
    tables: dict[str, pd.DataFrame] = {}
    keeper = go.Scatter(
        name="time axis",  # the first trace decides which kind of axis it is
        x=as_dates(np.array([0.0, scene.duration])),
        y=[0.0, 0.0],
        mode="markers",
        marker={"opacity": 0},
        hoverinfo="skip",
    )
    traces: list[go.Scatter | go.Bar] = [keeper]
    rows = {speaker: row for row, speaker in enumerate(styles)}
    names = {speaker: str(speaker) for speaker in styles}
    bars, tables["reference"] = turn_bars(
        scene.reference,
        rows,
        styles,
        names,
        name="reference",
        uri=scene.uri,
        yaxis="y",
        view=drawn,
        column=column,
    )
    traces.append(bars)
    for number, lane in enumerate(LANES[1:3]):
        system = scene.views[number] if number < len(scene.views) else None
        turns = scene.reference.iloc[:0] if system is None else system.turns
        looks = {} if system is None else hypothesis_looks(system, styles)
        bars, tables[lane] = turn_bars(
            turns,
            {speaker: row for row, speaker in enumerate(looks)},
            looks,
            {} if system is None else {who: matched_name(who, system.matching, True) for who in looks},
            name="" if system is None else system.system,
            uri=scene.uri,
            yaxis=AXES[lane],
            view=drawn,
            column=column,
        )
        bars.name = lane
        traces.append(bars)
    for number, lane in enumerate(LANES[3:5]):
        errors = scene.views[number].errors if number < len(scene.views) else scene.views[0].errors.iloc[:0]
        bars, tables[lane] = error_bars(errors, uri=scene.uri, yaxis=AXES[lane], view=drawn, column=column)
        bars.name = lane
        traces.append(bars)
    changes = scene.views[0].errors.iloc[:0] if scene.changes is None else scene.changes
    bars, tables["changes"] = change_bars(
        changes, uri=scene.uri, yaxis=AXES["changes"], view=drawn, column=column
    )
    bars.name = "changes"
    traces.append(bars)
    return Screen(figure=go.Figure(traces), tables=tables)


def hypothesis_looks(
    system: HypothesisView, reference: dict[Hashable, SpeakerStyle]
) -> dict[Hashable, SpeakerStyle]:
    """Styles of hypothesis speakers, in the order of the reference speakers they are matched to."""
    place = {speaker: number for number, speaker in enumerate(reference)}
    found = order_speakers(system.turns)
    found.sort(key=lambda speaker: place.get(system.matching.get(speaker), len(place)))  # stable
    return hypothesis_styles(found, system.matching, reference)


def _row_heights(scene: Scene) -> dict[str, float]:
    """Pixels of every lane; B takes none where there is one system only."""
    num_reference = scene.reference["speaker"].nunique()
    most = max(view.turns["speaker"].nunique() for view in scene.views)
    row = theme.ROW if num_reference <= 4 else 15
    hypothesis = row * max(min(most, 12), 2)
    has_other = len(scene.views) > 1
    return {
        "reference": row * max(num_reference, 2),
        "hypothesis A": hypothesis,
        "hypothesis B": hypothesis if has_other else 0,
        "errors A": 3 * 15,
        "errors B": 3 * 15 if has_other else 0,
        "changes": 2 * 15 if has_other and scene.changes is not None else 0,
    }


def _layout(
    scene: Scene,
    visible: tuple[float, float],
    selection: tuple[float, float] | None,
    sound: Sound | None,
) -> go.Layout:
    heights = _row_heights(scene)
    shown = [lane for lane in LANES if heights[lane]]
    lanes = sum(heights.values()) + (len(shown) - 1) * theme.LANE_GAP
    height = SOUND if scene.has_audio else NOTE
    inner = PANEL + PANEL_GAP + lanes + SOUND_GAP + height
    annotations: list[dict[str, object]] = []
    layout: dict[str, object] = {
        "template": theme.template(),
        "width": theme.WIDTH,
        "height": round(inner + theme.MARGIN["t"] + theme.MARGIN["b"]),
        "dragmode": "pan",
        "hovermode": "closest",
        "hoverdistance": 12,
        "barmode": "stack",
        "uirevision": scene.uri,
        "meta": {"lanes": ["yaxis", f"yaxis{AXES[shown[-1]][1:]}"]},  # for the player's lines
    }
    top = lanes + SOUND_GAP + height
    for lane in LANES:
        name = f"yaxis{AXES[lane][1:]}"
        bottom = top - heights[lane]
        axis = _lane_axis(scene, lane) | {"domain": [max(bottom, 0) / inner, top / inner]}
        layout[name] = axis
        if heights[lane]:
            annotations.append(_title(_lane_title(scene, lane), x=0, y=top / inner))
            floor, top = bottom, bottom - theme.LANE_GAP
        else:
            layout[name] = axis | {"domain": [floor / inner, floor / inner], "visible": False}
    layout["xaxis"] = time_axis(scene.duration, visible, AXES[shown[-1]])
    layout |= _overview_axes(scene, inner)
    layout |= sound_axes(sound, height / inner)
    annotations += _overview_titles(scene)
    annotations.append(_title("<b>Spectrogram</b>" + _quiet(_sound_words(sound)), x=0, y=height / inner))
    if sound is None:
        annotations.append(_note(NO_SELECTION if scene.has_audio else NO_AUDIO, "y9 domain"))
    layout["annotations"] = annotations
    layout["shapes"] = _shapes(scene, selection, sound, floor / inner, (lanes + SOUND_GAP + height) / inner)
    layout["images"] = [] if sound is None else [sound_image(sound)]
    return go.Layout(layout)


def _lane_axis(scene: Scene, lane: str) -> dict[str, object]:
    """Rows count from above; only the horizontal axis zooms."""
    axis: dict[str, object] = {"anchor": "x", "fixedrange": True, "showgrid": False, "ticks": ""}
    axis["visible"] = True
    styles = scene.styles
    if lane == "reference":
        colors = [style.color for style in styles.values()]
        return axis | labelled_rows([str(name) for name in styles], colors, max(len(styles), 2))
    number = LANES.index(lane) - 1
    if lane == "changes" or lane.startswith("errors"):
        kinds = (theme.CHANGES if lane == "changes" else theme.ERRORS).values()
        names = [style.name for style in kinds]
        return axis | labelled_rows(names, [style.color for style in kinds], len(names))
    if number >= len(scene.views):
        return axis
    system = scene.views[number]
    looks = hypothesis_looks(system, styles)
    most = max(view.turns["speaker"].nunique() for view in scene.views)
    names = [_fitting_name(speaker, system) for speaker in looks]
    return axis | labelled_rows(
        names, [style.color for style in looks.values()], max(min(most, 12), len(looks), 2)
    )


def _fitting_name(speaker: Hashable, system: HypothesisView) -> str:
    """A speaker and who it is matched to; where that is too long the colour and the hover text tell."""
    name = matched_name(speaker, system.matching, True)
    return name if len(name) <= 13 else speaker_name(speaker)


def _lane_title(scene: Scene, lane: str) -> str:
    if lane == "reference":
        return f"<b>{scene.uri}</b>{_quiet('reference')}"
    if lane == "changes":
        return f"<b>B against A</b>{_quiet('where B makes fewer errors than A, and where more')}"
    system = scene.views[(LANES.index(lane) - 1) % 2].system
    letter = lane[-1]
    if lane.startswith("errors"):
        return f"<b>Errors of {letter}</b>{_quiet(system)}"
    return f"<b>{letter} · {system}</b>{_quiet('same colour: matched to that reference speaker')}"


def _overview_axes(scene: Scene, inner: float) -> dict[str, object]:
    domain = [(inner - PANEL) / inner, 1.0]
    num_rows = max(min(len(scene.order), MOST_RECORDINGS), 3)
    row = list(scene.order).index(scene.uri)
    first = 0 if row < num_rows else min(row - num_rows // 2, len(scene.order) - num_rows)
    rates = [100 * score.recordings["der"].max() for score in scene.scores]
    ends = [table["errors"].max() for table in scene.parts.tables if len(table)]
    across, down = confusion_axes(
        scene.confusion,
        scene.styles,
        hypothesis_looks(scene.detailed, scene.styles),
    )
    fixed = {"fixedrange": True, "ticks": ""}
    return {
        "xaxis2": fixed
        | {"domain": PANELS["recordings"], "anchor": "y6", "range": [0, 1.36 * _most(rates)]}
        | {"title": {"text": "DER (% of the reference speech)"}, "nticks": 5},
        "yaxis6": labelled_rows([shortened(uri, 15) for uri in scene.order], None, num_rows)
        | {"range": [first + num_rows - 0.5, first - 0.5]}
        | {
            "anchor": "x2",
            "domain": domain,
            "showgrid": False,
            "ticktext": [shortened(uri, 15) for uri in scene.order],
        }
        | {
            "fixedrange": len(scene.order) <= num_rows,
            "minallowed": -0.5,
            "maxallowed": len(scene.order) - 0.5,
        }
        | ({"maxallowed": num_rows - 0.5} if len(scene.order) <= num_rows else {}),
        "xaxis3": fixed | across | {"domain": PANELS["confusion"], "anchor": "y7", "showgrid": False},
        "yaxis7": fixed | down | {"domain": domain, "anchor": "x3", "showgrid": False},
        "xaxis4": fixed
        | {"domain": PANELS["parts"], "anchor": "y8", "range": [0, 1.75 * _most(ends)]}
        | {"title": {"text": "Errors (s)"}, "nticks": 4},
        "yaxis8": fixed
        | labelled_rows(scene.parts.labels, None, max(len(scene.parts.names), 3))
        | {"domain": domain, "anchor": "x4", "showgrid": False, "ticktext": scene.parts.labels},
    }


def _most(values: Sequence[float]) -> float:
    known = [float(value) for value in values if value > 0]  # NaN is not
    return max(known, default=1.0)


def _overview_titles(scene: Scene) -> list[dict[str, object]]:
    more = len(scene.order) - MOST_RECORDINGS
    hint = "A thick, B thin" if len(scene.scores) > 1 else ""
    hint += f"{' · ' if hint else ''}drag for {more} more" if more > 0 else ""
    letter = "AB"[min(scene.detail, len(scene.views) - 1)]
    words = {
        "recordings": "<b>Recordings</b>" + _quiet(hint),
        "confusion": f"<b>Who was taken for whom</b>{_quiet(f'seconds, {letter}')}",
        "parts": f"<b>By {_BY_WORDS[scene.parts.by]}</b>{_quiet(scene.parts.note)}",
    }
    left = {"recordings": 0.0, "confusion": -90, "parts": -92}
    return [_title(text, x=PANELS[name][0], y=1.0, shift=left[name]) for name, text in words.items()]


_BY_WORDS = {
    "overlap": "overlap",
    "duration": "turn duration",
    "boundary": "distance from a change",
    "speaker": "speaker",
    "time": "time",
}


def _sound_words(sound: Sound | None) -> str:
    return "" if sound is None else "selection between the white lines, one second on either side"


def _shapes(
    scene: Scene, selection: tuple[float, float] | None, sound: Sound | None, floor: float, top: float
) -> list[dict[str, object]]:
    """The selected stretch over all lanes, the row of the recording, and the edges of the selected sound."""
    start, end = selection or (0.0, 0.0)
    row = list(scene.order).index(scene.uri) if scene.uri in scene.order else -1
    lane = {"type": "rect", "xref": "x", "yref": "paper", "y0": floor, "y1": top, "layer": "below"}
    edge = {"type": "line", "xref": "x5", "yref": "y9 domain", "y0": 0, "y1": 1, "visible": sound is not None}
    white = {"line": {"width": 1.5, "color": "#ffffff", "dash": "dot"}}
    return [
        lane
        | {"x0": float(on_axis(start)), "x1": float(on_axis(end)), "visible": selection is not None}
        | {"fillcolor": theme.SELECTION, "line": {"width": 1, "color": theme.MUTED}},
        {"type": "rect", "xref": "x2 domain", "yref": "y6", "x0": -0.28, "x1": 1.0, "layer": "below"}
        | {"y0": row - 0.46, "y1": row + 0.46, "fillcolor": theme.SELECTION, "line": {"width": 0}},
        edge | white | {"x0": float(on_axis(start)), "x1": float(on_axis(start))},
        edge | white | {"x0": float(on_axis(end)), "x1": float(on_axis(end))},
    ]


def _quiet(text: str) -> str:
    return f" <span style='color:{theme.MUTED}'> {text}</span>" if text else ""


def _title(text: str, *, x: float, y: float, shift: float = 0) -> dict[str, object]:
    place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return place | {"text": text, "xshift": shift, "yshift": 3, "showarrow": False, "font": {"size": 12}}


def _note(text: str, yref: str) -> dict[str, object]:
    place = {"xref": "paper", "yref": yref, "x": 0.5, "y": 0.5}
    return place | {"text": text, "showarrow": False, "font": {"size": 12, "color": theme.TEXT}}
