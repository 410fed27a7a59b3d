"""What can be heard of the clustering grid: turns and errors of the recording that is shown."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from workbench.errors import InputError
from workbench.explorers.clustering_grid_controls import HINT, SILENT, GridControls
from workbench.explorers.clustering_grid_study import GridStudy
from workbench.explorers.playback import CLIP_LIMIT, cut_clip
from workbench.plots.grid import GridScene
from workbench.plots.lanes import describe_errors, on_axis
from workbench.plots.recording import Screen
from workbench.plots.words import matched_name, region

CONTEXT = 1.0  # s played before and after an error


class GridSound(GridControls):
    """Plays what is clicked in a lane."""

    study: GridStudy
    figure: go.FigureWidget | None
    selection: tuple[float, float] | None
    _context: float = 0.0
    _scene: GridScene
    _screen: Screen

    def _view(self) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        return 0.0, self._scene.duration

    def _deselect(self) -> None:
        self.selection = None
        self.player.text = HINT if self.study.audio else SILENT

    def _clicked(self, trace: Any, points: Any, _state: Any) -> None:
        """Something in a lane: say it in words, play it."""
        table = self._screen.tables[trace.name]
        if not points.point_inds or points.point_inds[0] >= len(table):
            return  # drawn before the last redraw
        row = table.iloc[points.point_inds[0]]
        is_error = trace.name.startswith("errors") or trace.name == "changes"
        if is_error:
            what = describe_errors(row.to_frame().T)[0]
        elif trace.name == "reference":
            what = f"reference {row['speaker']}"
        else:
            view = self._scene.default if trace.name == "hypothesis A" else self._scene.view
            what = f"{view.system}: {matched_name(row['speaker'], view.matching, True)}"
        self.select(float(row["start"]), float(row["end"]), what, CONTEXT if is_error else 0.0)

    def select(self, start: float, end: float, what: str, context: float = 0.0) -> None:
        """Mark a stretch (s), say it in words, and play it with `context` seconds on either side."""
        assert self.figure is not None
        uri = self.lanes.value
        self.selection = (start, end)
        with self.figure.batch_update():
            mark = self.figure.layout.shapes[0]
            mark.x0, mark.x1, mark.visible = float(on_axis(start)), float(on_axis(end)), True
        words = f"{uri} · {region(start, end)} · {what} · {end - start:.1f} s"
        self._context = context
        self.player.text = words if uri in self.study.audio else f"{words} · no audio"
        if uri in self.study.audio:
            self._play()

    def _play(self) -> None:
        uri = self.lanes.value
        if uri not in self.study.audio:
            raise InputError(f"no audio for {uri}: give audio=…, a folder that holds it")
        start, end = self.selection or self._view()
        context = self._context if self.selection else 0.0
        start, end = max(start - context, 0.0), min(end + context, self._scene.duration)
        self.player.play(cut_clip(self.study.audio[uri], start, end), start)

    def _play_selection(self, _change: Any) -> None:
        """Play the selection; without one, what is in view."""
        if self.selection is None:
            start, end = self._view()
            length = f"first {CLIP_LIMIT:.0f} s" if end - start > CLIP_LIMIT else f"{end - start:.1f} s"
            self.player.text = f"{self.lanes.value} · {region(start, end)} · what is in view · {length}"
        self._play()
