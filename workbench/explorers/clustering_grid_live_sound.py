"""What can be heard of the live screen, and where its errors are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pyannote.core import Annotation, Segment

from workbench.errors import InputError
from workbench.explorers.clustering_grid_live_leaves import Leaves
from workbench.explorers.playback import CLIP_LIMIT, Player, cut_clip
from workbench.explorers.redraw import TimeAxis
from workbench.plots import theme
from workbench.plots.grid_live import LiveScene
from workbench.plots.lanes import describe_errors, from_axis, on_axis
from workbench.plots.theme import SpeakerStyle
from workbench.plots.words import region
from workbench.scoring.slots import Slots
from workbench.sweeps import LiveCell
from workbench.timeline import find_errors
from workbench.types import INACTIVE, Features, SegmentFeatures

CONTEXT = 1.0  # s played before and after an error


class LiveSound(ipywidgets.VBox):
    """Finds what was clicked in a picture, and plays it."""

    features: Features | SegmentFeatures
    reference: Annotation
    figure: go.FigureWidget
    player: Player
    cell: LiveCell
    selection: tuple[float, float] | None
    _audio: Path | None
    _busy: bool
    _context: float
    _looks: Mapping[Hashable, SpeakerStyle]
    _leaves: Leaves
    _scene: LiveScene
    _scoring: tuple[Any, float, bool]
    _styles: Mapping[Hashable, SpeakerStyle]
    _time: TimeAxis

    def _name(self, speaker: Hashable) -> str:
        return str(speaker)

    def _touched(self, change: Any) -> None:
        """A place in a lane, or on the map: find what is there, say it, play it."""
        name, x, y = (change["new"].get(each) for each in ("name", "x", "y"))
        if name is None:
            return
        if name == "map":
            distance = np.square(self._scene.points - np.array([x, y], dtype=float)).sum(axis=1)
            if not len(distance) or distance.min() > 0.002:
                return
            nearest = int(distance.argmin())
            row = self._leaves.points.iloc[nearest]
            place = tuple(index[nearest] for index in self._leaves.point_places)
            cluster = int(self.cell.hard_clusters[place])
            who = "no cluster" if cluster == INACTIVE else self._name(cluster)
            self._select(row["start"], row["end"], f"{self._leaves.columns[0]} {place[0]}: {who}", 0.0)
            return
        found = self._at(name, round(float(y)), from_axis(x))
        if found is not None:
            self._select(*found, CONTEXT if name == "errors" else 0.0)

    def _hypothesis(self) -> Annotation:
        """What the lane shows, with the numbers that its rows have."""
        hypothesis = Annotation(uri=self.features.uri)
        for start, end, speaker in self.cell.turns.itertuples(index=False):
            hypothesis[Segment(start, end), speaker] = speaker
        return hypothesis

    def _at(self, lane: str, row: int, time: float) -> tuple[float, float, str] | None:
        """Start, end and name of what lies nearest to a time in a row of a lane."""
        if lane == "errors":
            table = find_errors(self.reference, self._hypothesis(), *self._scoring)
            table = table[table["kind"] == list(theme.ERRORS)[min(max(row, 0), 2)]]
        else:
            speakers: list[Hashable] = list(self._styles if lane == "reference" else self._looks)
            if not 0 <= row < len(speakers):
                return None
            turns = self._scene.reference if lane == "reference" else self.cell.turns
            assert turns is not None
            table = turns[turns["speaker"] == speakers[row]]
        if table.empty:
            return None
        distance = pd.Series(np.maximum(table["start"] - time, time - table["end"])).clip(lower=0.0)
        place = int(distance.to_numpy().argmin())
        near = table.iloc[place]
        start, end = self._time.read()
        if distance.min() > 0.02 * (end - start):
            return None
        if lane == "errors":
            what = describe_errors(near.to_frame().T)[0]
        else:
            speaker = table["speaker"].iloc[place]  # in a row, with the times, numbers become floats
            name = str(speaker) if lane == "reference" else self._name(speaker)
            what = f"{lane} {name}"
        return float(near["start"]), float(near["end"]), what

    def _select(self, start: float, end: float, what: str, context: float) -> None:
        self.selection, self._context = (float(start), float(end)), context
        words = f"{self.features.uri} · {region(start, end)} · {what} · {end - start:.1f} s"
        self._busy = True
        try:
            with self.figure.batch_update():
                mark = self.figure.layout.shapes[0]
                mark.x0, mark.x1, mark.visible = float(on_axis(start)), float(on_axis(end)), True
        finally:
            self._busy = False
        self.player.text = words if self._audio else f"{words} · no audio"
        if self._audio:
            self._play()

    def _play(self) -> None:
        if self._audio is None:
            raise InputError(f"no audio for {self.features.uri}: give audio=…, its file")
        start, end = self.selection or self._time.read()
        context = self._context if self.selection else 0.0
        start, end = max(start - context, 0.0), min(end + context, self._scene.duration)
        self.player.play(cut_clip(self._audio, start, end), start)

    def _play_selection(self, _change: Any) -> None:
        if self.selection is None:
            start, end = self._time.read()
            length = f"first {CLIP_LIMIT:.0f} s" if end - start > CLIP_LIMIT else f"{end - start:.1f} s"
            self.player.text = f"{self.features.uri} · {region(start, end)} · what is in view · {length}"
        self._play()


def wrong_stretches(slots: Slots) -> pd.DataFrame:
    """Where something is wrong: start, end (s), kind. As `find_errors`, without saying who; much faster."""
    right = np.asarray(slots.agreeing(slots.pairs).sum(axis=1)).ravel()
    num_true, num_found = (np.asarray(each).ravel() for each in (slots.num_ref, slots.num_hyp))
    wrong = {
        "missed": num_true > num_found,
        "false_alarm": num_found > num_true,
        "confusion": np.minimum(num_true, num_found) > right,
    }
    parts = [
        pd.DataFrame({"start": slots.starts[where], "end": slots.ends[where], "kind": kind})
        for kind, where in wrong.items()
    ]
    return pd.concat(parts, ignore_index=True)
