"""Axes and titles of the parity screen, and what they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.flips import class_name
from workbench.agreement.frame_axis import FrameAxis
from workbench.plots import theme
from workbench.plots.cast import labelled_rows
from workbench.plots.parity_lanes import class_colors
from workbench.plots.parity_panels import LOWEST, cell_flips, layer_floor
from workbench.plots.spectrogram import Sound, sound_axes
from workbench.plots.words import shortened

PANEL, LADDER, DETAIL = 196, 92, 132  # px
PANELS = {"recordings": (0.0, 0.245), "margins": (0.355, 0.625), "transitions": (0.735, 1.0)}
DETAILS = {"scores": (0.0, 0.40), "sound": (0.49, 1.0)}
MOST_RECORDINGS = 9
NO_LADDER = "No layers: neither of two recorded folders can be run, or <b>ladder=False</b> was given"


@dataclass(frozen=True, kw_only=True, eq=False)
class ParityScene:
    """What the screen shows.

    Attributes
    ----------
    uri, duration : of the recording, s
    classes : class -> its speakers
    damage : one row per recording, worst first
    flips : of the recording, sorted by `time`
    axis : both posteriors over time; None where they were not kept
    ledger : regions in which the outputs differ
    transitions : of the recording, or of all
    ladder : layers; None where there are none
    tolerance : of the ladder
    """

    uri: str
    duration: float
    classes: Sequence[Sequence[int]]
    near_tie: float
    damage: pd.DataFrame
    flips: pd.DataFrame
    axis: FrameAxis | None
    ledger: pd.DataFrame
    transitions: pd.DataFrame
    scope: str = "this recording"
    ladder: pd.DataFrame | None = None
    tolerance: float = 1e-4
    ladder_note: str = ""
    has_audio: bool = True
    cells: pd.DataFrame | None = None  # of the scatter, where they were computed before

    @property
    def marks(self) -> pd.DataFrame:
        """Flips as the scatter shows them."""
        return cell_flips(self.flips) if self.cells is None else self.cells


def scatter_span(cells: pd.DataFrame) -> tuple[float, float]:
    """Powers of ten that the scatter shows, the same on both axes."""
    values = cells[["difference", "margin"]].to_numpy(dtype=float)
    low = float(np.log10(max(values.min(initial=1e-2), LOWEST)))
    high = float(np.log10(max(values.max(initial=1e-2), LOWEST)))
    return np.floor(low - 0.1), max(np.ceil(high + 0.1), np.floor(low) + 2)


def lane_axis(scene: ParityScene, lane: str) -> dict[str, object]:
    """Rows of a lane; only the horizontal axis zooms."""
    if lane in ("baseline", "candidate"):
        size = len(scene.classes)
        names = [class_name(members) for members in scene.classes]
        axis = labelled_rows(names, class_colors(scene.classes), size)
        return axis | {"showgrid": False, "tickfont": {"size": 9, "color": theme.TEXT}}
    if lane == "flips":
        flips = [theme.FLIPS["real"], theme.FLIPS["near_tie"]]
        names, colors = [style.name for style in flips], [style.color for style in flips]
        return labelled_rows(names, colors, 2) | {"showgrid": False}
    if lane == "output":
        names = [style.name for style in theme.ERRORS.values()]
        colors = [style.color for style in theme.ERRORS.values()]
        return labelled_rows(names, colors, 3) | {"showgrid": False}
    highest = 1e-3 if scene.axis is None else float(scene.axis.difference.max(initial=0.0))
    low = -7 if highest < 1e-3 else -5
    high = float(np.ceil(np.log10(np.clip(highest, 10.0 ** (low + 2), 1e4))))
    ticks = [low, np.ceil((low + high) / 2), high]
    return {
        "range": [low, high],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"10<sup>{round(tick)}</sup>" for tick in ticks],
    }


def lane_title(scene: ParityScene, lane: str) -> str:
    """What a lane holds."""
    words = {
        "baseline": f"<b>{scene.uri}</b>{quiet('baseline: probability of every powerset class')}",
        "flips": f"<b>Flips</b>{quiet('frames whose best class differs, of all chunks; none is left out')}",
        "candidate": f"<b>Candidate</b>{quiet('probability of every powerset class')}",
        "difference": f"<b>Difference</b>{quiet('largest of any class and chunk, nats')}",
        "output": f"<b>Output</b>{quiet('where the diarizations differ, the baseline as reference')}",
    }
    return words[lane]


def panel_axes(scene: ParityScene, inner: float, cells: pd.DataFrame) -> dict[str, object]:
    """Axes of recordings, scatter and matrix."""
    domain = [(inner - PANEL) / inner, 1.0]
    fixed = {"fixedrange": True, "ticks": ""}
    low, high = scatter_span(cells)
    powers = np.arange(low, high + 1)
    powers = powers[:: 2 if len(powers) > 6 else 1]
    logarithmic = fixed | {
        "range": [low, high],
        "tickmode": "array",
        "tickvals": powers,
        "ticktext": [f"10<sup>{power:.0f}</sup>" for power in powers],
    }
    uris = [shortened(uri, 15) for uri in scene.damage["uri"]]
    rows = max(min(len(uris), MOST_RECORDINGS), 3)
    names = [class_name(members) for members in scene.classes]
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names}
    ticks |= {"tickfont": {"size": 9, "color": theme.TEXT}, "showgrid": False}
    most = 100 * float(scene.damage["flip_rate"].max()) if len(scene.damage) else 1.0
    return {
        "xaxis2": fixed
        | {"domain": PANELS["recordings"], "anchor": "y6", "range": [0, 1.55 * (most or 1.0)]}
        | {"title": {"text": "Frames that flip (%)"}, "nticks": 4},
        "yaxis6": labelled_rows(uris, None, rows)
        | {"anchor": "x2", "domain": domain, "showgrid": False, "ticktext": uris}
        | {"fixedrange": len(uris) <= rows, "minallowed": -0.5, "maxallowed": max(len(uris), rows) - 0.5},
        "xaxis3": logarithmic
        | {"domain": PANELS["margins"], "anchor": "y7", "title": {"text": "Difference (nats)"}},
        "yaxis7": logarithmic | {"domain": domain, "anchor": "x3", "title": {"text": "Margin (nats)"}},
        "xaxis4": fixed
        | ticks
        | {"domain": PANELS["transitions"], "anchor": "y8", "range": [-0.5, len(names) - 0.5]}
        | {"title": {"text": "Candidate"}, "tickangle": -45 if len(names) > 7 else 0},
        "yaxis8": fixed
        | ticks
        | {"domain": domain, "anchor": "x4", "range": [len(names) - 0.5, -0.5]}
        | {"title": {"text": "Baseline"}},
    }


def panel_titles(scene: ParityScene) -> list[dict[str, object]]:
    """What the three panels hold."""
    more = len(scene.damage) - MOST_RECORDINGS
    words = {
        "recordings": "<b>Recordings</b>" + quiet(f"drag for {more} more" if more > 0 else "worst first"),
        "margins": "<b>Margin against difference</b>" + quiet("no flip lies above"),
        "transitions": "<b>Class to class</b>" + quiet(f"flips, {scene.scope}"),
    }
    shift = {"recordings": 0, "margins": -44, "transitions": -48}
    titles = [title(text, x=PANELS[name][0], y=1.0) | {"xshift": shift[name]} for name, text in words.items()]
    if not len(scene.flips):
        titles.append(note("no frame flips in this recording", "x3 domain", "y7 domain"))
    return titles


def ladder_axes(scene: ParityScene, top: float, bottom: float) -> dict[str, object]:
    """Axes of the layers."""
    table = scene.ladder
    names = [] if table is None else [shortened(str(name), 17) for name in table["stage"]]
    floor = -6.0 if table is None else layer_floor(table)
    ticks = np.arange(floor, 1.1, 2)
    shown = table is not None
    return {
        "xaxis7": {
            "anchor": "y11",
            "fixedrange": True,
            "range": [-0.7, max(len(names), 1) - 0.3],
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "tickangle": -38,
            "tickfont": {"size": 10, "color": theme.TEXT},
            "showgrid": False,
            "showticklabels": shown,
            "ticks": "",
        },
        "yaxis11": {
            "anchor": "x7",
            "domain": [bottom, top],
            "fixedrange": True,
            "range": [floor, 0.6],
            "tickmode": "array",
            "tickvals": ticks,
            "ticktext": [f"10<sup>{tick:.0f}</sup>" for tick in ticks],
            "showticklabels": shown,
            "title": {"text": "Relative error"},
        },
    }


def ladder_words(scene: ParityScene, top: float) -> list[dict[str, object]]:
    """What the layers mean, and which one is the first over the tolerance."""
    hint = quiet("wide: all of its error · narrow: its own, on the baseline's input · dotted: tolerance")
    words = [title("<b>Layers</b>" + hint, x=0, y=top)]
    table = scene.ladder
    if table is None:
        return [*words, note(scene.ladder_note or NO_LADDER, "x7 domain", "y11 domain")]
    over = np.flatnonzero(~(table["relative"].to_numpy(dtype=float) <= scene.tolerance))
    if len(over):
        first = int(over[0])
        words.append(
            {
                "xref": "x7",
                "yref": "y11",
                "x": first,
                "y": 0.55,
                "yanchor": "top",
                "xanchor": "left",
                "text": f"▼ <b>{table['stage'].iloc[first]}</b> is the first over the tolerance",
                "showarrow": False,
                "font": {"size": 11, "color": theme.TEXT},
                "xshift": -5,
            }
        )
    return words


def detail_axes(scene: ParityScene, sound: Sound | None, top: float) -> dict[str, object]:
    """Axes of the score vectors and of the sound."""
    axes = sound_axes(sound, top)
    axes["xaxis5"] |= {"domain": DETAILS["sound"]}  # type: ignore[operator]
    names = [class_name(members) for members in scene.classes]
    return axes | {
        "xaxis6": {
            "domain": DETAILS["scores"],
            "anchor": "y10",
            "fixedrange": True,
            "range": [-0.6, len(names) - 0.4],
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "showgrid": False,
            "ticks": "",
            "title": {"text": "Powerset class"},
        },
        "yaxis10": {
            "domain": [0.0, top],
            "anchor": "x6",
            "fixedrange": True,
            "range": [0, 1.02],
            "nticks": 4,
            "title": {"text": "Probability"},
        },
    }


def quiet(text: str) -> str:
    """Words beside a title."""
    return f" <span style='color:{theme.MUTED}'> {text}</span>" if text else ""


def title(text: str, *, x: float, y: float = 1.0) -> dict[str, object]:
    """A title over a panel; `x` and `y` as shares of the figure."""
    place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return place | {"text": text, "yshift": 3, "showarrow": False, "font": {"size": 12}}


def note(text: str, xref: str, yref: str) -> dict[str, object]:
    """Words in the middle of an empty panel."""
    return {
        "xref": xref,
        "yref": yref,
        "x": 0.5,
        "y": 0.5,
        "text": text,
        "showarrow": False,
        "font": {"size": 12, "color": theme.TEXT},
    }
