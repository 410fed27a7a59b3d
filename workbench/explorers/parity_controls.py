"""The controls of the parity screen, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.controls import button, choice, label, switch
from workbench.explorers.parity_canvas import ParityCanvas
from workbench.explorers.playback import Player
from workbench.plots import theme

HINT = "Click a flip: both score vectors, its margin, and the sound around it."
SILENT = "Click a flip: both score vectors and its margin. No audio was given, so nothing can be heard."


class ParityControls(ipywidgets.VBox):
    """Controls as attributes, made once; who inherits from this connects them.

    Attributes
    ----------
    baseline, candidate, recording : what is compared, and where
    drag : what dragging over the lanes does: `pan`, `select` (marks a region)
    everything : whether the matrix counts all recordings
    before, after : go to the neighbouring flip
    bar, stage, progress : how far the comparison is
    canvas : lanes and the selected flip, over the figure
    player, counts : the selection with its sound, the flips of a region
    """

    errors: ErrorStrip
    figure: Any

    def _build_controls(self, runtimes: Sequence[str], first: str, second: str) -> None:
        self.errors = ErrorStrip()
        self.baseline = choice("Baseline", list(runtimes), first, 310, 64)
        self.candidate = choice("Candidate", list(runtimes), second, 320, 76)
        self.recording = choice("Recording", [], None, 270, 68)
        self.drag = switch(
            [("move", "pan"), ("mark", "select")], "pan", "What dragging in the lanes does", 58
        )
        self.everything = switch(
            [("this recording", False), ("all", True)], False, "Whose flips the matrix counts", 118
        )
        self.before = button("◀ flip", "The flip before the selected one", 70)
        self.after = button("flip ▶", "The flip after the selected one", 70)
        self.only_real = ipywidgets.Checkbox(
            value=False, description="real only", indent=False, layout={"width": "88px"}
        )
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "180px", "height": "16px"})
        self.bar.style.bar_color = theme.SPEAKERS[4]
        self.stage = ipywidgets.HTML()
        self.stage.add_class("wb-progress")
        self.progress = ipywidgets.HBox(
            [self.stage, self.bar], layout={"display": "none", "align_items": "center", "flex": "0 0 auto"}
        )
        self.verdict = ipywidgets.HTML(layout={"width": "100%"})
        self.conditions = ipywidgets.HTML(layout={"width": "100%"})
        self.counts = ipywidgets.HTML(layout={"width": "100%"})
        self.canvas = ParityCanvas()
        self.player = Player(text=HINT)
        self.player.layout = {"flex": "1 1 auto", "min_width": "0"}

    def _rows(self) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%", "justify_content": "flex-start"}
        sides = ipywidgets.HBox([self.baseline, self.candidate, self.progress], layout=row)
        shown = ipywidgets.HBox(
            [self.recording, label("drag"), self.drag, label("matrix"), self.everything], layout=row
        )
        shown.add_class("wb-controls")
        sound = ipywidgets.HBox([self.player, self.before, self.after, self.only_real], layout=row)
        figure = [] if self.figure is None else [self.figure, self.canvas]
        below = [] if self.figure is None else [self.counts, sound]
        return [sides, self.verdict, self.conditions, shown, self.errors, *figure, *below]
