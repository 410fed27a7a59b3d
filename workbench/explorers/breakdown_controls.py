"""The controls of the breakdown, and where they stand on the screen."""

from __future__ import annotations

from typing import Any

import ipywidgets

from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.controls import button, choice, label, switch
from workbench.explorers.error_table import ErrorTable
from workbench.explorers.playback import Player
from workbench.plots import theme
from workbench.review import Review

HINT = "Click a recording, then one of its errors: it plays with one second on either side."
SILENT = "Click a recording, then one of its errors. No audio was given, so nothing can be heard."
SORTS = {
    "worst first": "worst",
    "most seconds": "seconds",
    "B better": "better",
    "B worse": "worse",
    "name": "name",
}
PARTS = {"overlap": "overlap", "turn duration": "duration", "speaker change": "boundary"}
PARTS |= {"speaker": "speaker", "time": "time"}
ALL = ""  # choice of nothing in particular; ipywidgets takes None for "nothing chosen" and shows a blank
KINDS = [("all", ALL), *((style.name, kind) for kind, style in theme.ERRORS.items())]
CHANGES = [("all", ALL), *((style.name, kind) for kind, style in theme.CHANGES.items())]
BOTH = 2  # in the place of A's or B's number: what changes between them
DURATIONS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)  # s
EXPORTS = {"CSV": ".csv", "RTTM": ".rttm", "Audacity": ".txt", "TextGrid": ".TextGrid"}


class ErrorControls(ipywidgets.VBox):
    """Controls as attributes, made once; who inherits from this connects them.

    Attributes
    ----------
    first, second : systems A and B
    collar, overlap : how errors are counted
    sort, recording, detail, by, pooled : what the overview shows
    bar, stage, progress : how far the scoring is
    listed, scope, kind, shortest, speaker : what the table of errors lists
    player, table : the selection with its sound, the errors
    """

    errors: ErrorStrip
    figure: Any

    def _build_controls(self, review: Review, collar: float) -> None:
        names = list(review.systems)
        self.first = choice("A", names, names[0], 210, 16)
        others = [("–", ALL), *((name, name) for name in names)]
        self.second = choice("B", others, names[1] if len(names) > 1 else ALL, 210, 16)
        collars = [("no collar", 0.0), (f"{collar or 0.25:g} s", collar or 0.25)]
        self.collar = switch(collars, collar, "Left out on each side of every reference boundary", 82)
        self.overlap = ipywidgets.Checkbox(
            value=True, description="overlap scored", indent=False, layout={"width": "124px"}
        )
        self.sort = choice("Sort", list(SORTS.items()), "worst", 190, 32)
        self.recording = choice("Recording", review.uris, review.uris[0], 300, 68)
        self.detail = switch([("A", 0), ("B", 1)], 0, "Whose confusions are shown", 40)
        self.by = choice("By", list(PARTS.items()), "overlap", 160, 20)
        self.pooled = switch(
            [("this recording", False), ("all", True)], False, "Parts of which recordings", 112
        )
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "200px", "height": "16px"})
        self.bar.style.bar_color = theme.SPEAKERS[4]
        self.stage = ipywidgets.HTML()
        self.stage.add_class("wb-progress")
        self.progress = ipywidgets.HBox(
            [self.stage, self.bar], layout={"display": "none", "align_items": "center", "flex": "0 0 auto"}
        )
        self.headline = ipywidgets.HTML(layout={"width": "100%"})
        self.verdict = ipywidgets.HTML(layout={"width": "100%"})
        self.player = Player(text=HINT if review.audio else SILENT)
        self.player.layout = {"flex": "1 1 auto", "min_width": "0"}
        self.before = button("◀ change", "Two seconds before the nearest change of speaker", 84)
        self.after = button("change ▶", "Two seconds after the nearest change of speaker", 84)
        self.voice = choice("", [("a speaker …", ALL)], ALL, 150, 0)
        self.voice.tooltip = "All that one speaker says in this recording"
        self.play_voice = button("▶ all of", "Play all that the chosen speaker says", 70)
        self.listed = switch(
            [("A", 0), ("B", 1), ("B vs A", BOTH)],
            0,
            "Whose errors are listed, or what B fixed and broke",
            52,
        )
        self.scope = switch([("this recording", False), ("all", True)], False, "Which recordings", 112)
        self.kind = choice("Kind", KINDS, ALL, 150, 32)
        lengths = [(f"≥ {value:g} s" if value else "any duration", value) for value in DURATIONS]
        self.shortest = choice("", lengths, 0.0, 118, 0)
        self.speaker = choice("Speaker", [("all", ALL)], ALL, 210, 60)
        self.table = ErrorTable()
        self.format = choice("Export", list(EXPORTS.items()), ".csv", 150, 46)
        self.path = ipywidgets.Text(value="errors", layout={"width": "150px"}, tooltip="File, without ending")
        self.export = button("Write", "Write all errors that the filters let through", 62)
        self.exported = ipywidgets.HTML()

    def _rows(self) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%", "justify_content": "flex-start"}
        systems = ipywidgets.HBox([self.first, self.second, self.collar, self.overlap, self.sort], layout=row)
        systems.layout.justify_content = "space-between"
        overview = ipywidgets.HBox(
            [self.recording, label("confusions of"), self.detail, self.by, self.pooled], layout=row
        )
        overview.add_class("wb-controls")
        sound = ipywidgets.HBox(
            [self.player, self.before, self.after, self.play_voice, self.voice], layout=row
        )
        filters = ipywidgets.HBox(
            [label("errors of"), self.listed, self.scope, self.kind, self.shortest, self.speaker], layout=row
        )
        export = ipywidgets.HBox([self.format, self.path, self.export, self.exported], layout=row)
        answer = ipywidgets.HBox([self.headline, self.progress], layout=row)
        return [
            systems,
            answer,
            self.verdict,
            overview,
            self.errors,
            self.figure,
            sound,
            filters,
            self.table,
            export,
        ]
