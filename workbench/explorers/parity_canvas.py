"""Lanes and the selected flip of the parity screen, drawn by the browser itself.

Plotly takes a tenth of a second and more to draw a figure of this size again, whatever changed in it. So the
figure stays as it is while its reader zooms, drags, marks and clicks: a canvas over it shows what is in view,
out of a few thousand numbers, which the kernel takes from columns that it computed when the recording was
opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from workbench.agreement.flips import class_name
from workbench.plots import theme
from workbench.plots.lanes import FEW_TURNS, HATCHED, MOST_TURNS, describe_errors
from workbench.plots.parity import AHEAD, NO_FLIP, ParityScene
from workbench.plots.parity_lanes import ROWS, class_colors, flip_classes, ledger_errors
from workbench.plots.parity_panels import FlipScores
from workbench.plots.parity_pyramid import AxisPyramid, FlipPyramid
from workbench.plots.spectrogram import Sound, spectrogram_pixels
from workbench.timeline import thin_turns

WIDTH = theme.WIDTH - theme.MARGIN["l"] - theme.MARGIN["r"]  # px of the lanes, until the browser has said it
TICK = 4.8  # px, what a column of flips may span: a tick and some air


class ParityCanvas(anywidget.AnyWidget):
    """The canvas over the figure of the same screen, and what the mouse does on it.

    Numbers travel as bytes: float64 (`f8`), float32 (`f4`), int32 (`i4`) or uint8 (`u1`), in the order of
    memory.
    """

    _esm = Path(__file__).with_name("parity_canvas.js")
    _css = Path(__file__).with_name("parity_canvas.css")

    look = traitlets.Dict().tag(sync=True)  # of `scene_look`
    lanes = traitlets.Dict().tag(sync=True)  # of `LaneColumns.packet`
    detail = traitlets.Dict().tag(sync=True)  # of `detail_packet`
    mode = traitlets.Unicode("pan").tag(sync=True)  # what dragging does: `pan`, `select` (marks a region)
    wish = traitlets.Dict().tag(sync=True)  # what is in view now: start, end (s), width (px), serial, scene
    touch = traitlets.Dict().tag(sync=True)  # what was clicked or marked: kind, its numbers, serial, scene


@dataclass(frozen=True, eq=False)
class LaneColumns:
    """Everything that the lanes of a recording show, at every zoom."""

    flips: FlipPyramid
    baseline: np.ndarray  # best class of every flip, -1 where there is none
    candidate: np.ndarray
    axis: AxisPyramid | None  # None where posteriors were not kept
    errors: pd.DataFrame  # of `ledger_errors`, with `row` and `text`

    @classmethod
    def of(cls, scene: ParityScene) -> LaneColumns:
        """Computed once per recording; a few tens of milliseconds for an hour."""
        errors = ledger_errors(scene.ledger)
        rows = {kind: row for row, kind in enumerate(theme.ERRORS)}
        baseline, candidate = flip_classes(scene.flips)
        return cls(
            flips=FlipPyramid.of(scene.flips, scene.duration),
            baseline=baseline,
            candidate=candidate,
            axis=None if scene.axis is None else AxisPyramid.of(scene.axis),
            errors=errors.assign(row=errors["kind"].map(rows).astype(float), text=describe_errors(errors)),
        )

    def packet(self, view: tuple[float, float], duration: float, width: float) -> dict[str, Any]:
        """What the browser draws of a view, and a little beside it.

        Parameters
        ----------
        view : start and end (s) of what is visible
        duration : of the recording, s
        width : of the lanes, px
        """
        seconds = max(view[1] - view[0], 1e-3)
        pixel = seconds / max(width, 1.0)
        drawn = (max(view[0] - AHEAD * seconds, 0.0), min(view[1] + AHEAD * seconds, duration))
        return {
            "view": list(view),
            "ticks": self._ticks(drawn, pixel),
            "raster": self._raster(drawn, pixel),
            "regions": self._regions(drawn, pixel),
        }

    def _ticks(self, drawn: tuple[float, float], pixel: float) -> dict[str, Any]:
        marks = self.flips.between(*drawn, TICK * pixel)
        return {
            "time": _packed(marks.time, "f8"),
            "row": _packed(marks.row, "i4"),
            "flips": _packed(marks.flips, "i4"),
            "near": _packed(marks.near_tie, "u1"),
            "margin": _packed(marks.margin, "f4"),
            "from": _packed(self.baseline[marks.row], "i4"),
            "to": _packed(self.candidate[marks.row], "i4"),
        }

    def _raster(self, drawn: tuple[float, float], pixel: float) -> dict[str, Any] | None:
        if self.axis is None:
            return None
        columns, axis = self.axis.between(*drawn, pixel), self.axis.axis
        moments = columns.first + columns.moments * np.arange(len(columns))
        difference = np.nan_to_num(columns.difference, nan=np.inf, posinf=1e9)
        return {
            "start": float(axis.time_of(columns.first)),
            "step": columns.moments * axis.step,  # s, of a column
            "baseline": _packed(columns.baseline, "u1"),
            "candidate": _packed(columns.candidate, "u1"),
            "difference": _packed(difference, "f4"),
            "from": _packed(axis.baseline[moments].argmax(axis=1), "i4"),  # classes of its first moment
            "to": _packed(axis.candidate[moments].argmax(axis=1), "i4"),
        }

    def _regions(self, drawn: tuple[float, float], pixel: float) -> dict[str, Any]:
        errors, column = self.errors, pixel
        seen = errors[(errors["end"] > drawn[0]) & (errors["start"] < drawn[1])]
        thinned = thin_turns(seen, *drawn, column if len(seen) > FEW_TURNS else 0.0)
        while len(thinned) > MOST_TURNS:
            column *= 1.5
            thinned = thin_turns(seen, *drawn, column)
        lengths = (thinned["end"] - thinned["start"]).to_numpy(dtype=float)
        return {
            "start": _packed(thinned["start"], "f8"),
            "end": _packed(thinned["end"], "f8"),
            "row": _packed(thinned["row"], "u1"),
            "hatched": _packed(lengths >= HATCHED * pixel, "u1"),  # else the hatch would hide the bar
            "turns": _packed(thinned["num_turns"], "i4"),
            "text": thinned["text"].tolist(),
        }


def scene_look(scene: ParityScene, number: int) -> dict[str, Any]:
    """What stays the same for a recording: names, colours, what hovering says.

    Parameters
    ----------
    number : of the scene; what the browser sends later says to which one it belongs
    """
    flips = [
        {"name": style.name, "color": style.color, "row": ROWS[kind], "real": kind == "real"}
        for kind, style in theme.FLIPS.items()
    ]
    return {
        "scene": number,
        "duration": scene.duration,
        "classes": [class_name(members) for members in scene.classes],
        "class_colors": class_colors(scene.classes),
        "flips": sorted(flips, key=lambda each: bool(each["real"])),  # near-ties first: `near` picks
        "errors": [{"color": each.color, "hatch": each.hatch} for each in theme.ERRORS.values()],
        "line": theme.FLIPS["real"].color,
        "bound": theme.BOUND,
        "text": theme.TEXT,
        "muted": theme.MUTED,
        "frame": theme.FRAME,
        "grid": theme.GRID,
        "selection": theme.SELECTION,
        "bars": [theme.SPEAKERS[1], theme.FLIPS["real"].color],
        "font": theme.FONT,
        "hint": list(NO_FLIP),
    }


def detail_packet(
    *,
    flip: float | None,
    marked: tuple[float, float] | None,
    scores: FlipScores | None,
    sound: Sound | None,
) -> dict[str, Any]:
    """The selected flip and the marked region.

    Parameters
    ----------
    flip : s, when it is
    marked : start and end, s
    scores, sound : of the flip; the sound also of a region
    """
    packet: dict[str, Any] = {"flip": flip, "marked": marked, "scores": None, "sound": None}
    if scores is not None:
        packet["scores"] = {side: _packed(getattr(scores, side), "f8") for side in ("baseline", "candidate")}
    if sound is not None:
        pixels = spectrogram_pixels(sound.spectrum)
        packet["sound"] = {
            "start": sound.start,
            "duration": sound.spectrum.duration,
            "highest": sound.spectrum.highest,
            "width": pixels.shape[1],
            "pixels": pixels.tobytes(),
        }
    return packet


def view_of(wish: Mapping[str, Any], duration: float) -> tuple[float, float]:
    """Start and end (s) that the browser asks for, within the recording."""
    start = min(max(float(wish["start"]), 0.0), duration)
    return start, min(max(float(wish["end"]), start), duration)


def _packed(values: Any, kind: str) -> bytes:
    return np.ascontiguousarray(np.asarray(values).astype(f"<{kind}", copy=False)).tobytes()
