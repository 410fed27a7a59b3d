"""The controls of the embedding screen, and where they stand on it."""

from __future__ import annotations

from typing import Any

import ipywidgets

from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.controls import button, choice, label, switch
from workbench.explorers.embeddings_study import COSINE, PLDA_SCORES, EmbeddingStudy
from workbench.explorers.playback import Player
from workbench.explorers.threshold_grip import ThresholdGrip
from workbench.plots import theme

NOBODY = ""  # compared with no other model
HINT = "Drag the threshold. Click a bar to hear a trial of it, an outlier or a point of the map to hear it."
SCORINGS = {COSINE: "cosine", PLDA_SCORES: "PLDA"}


class EmbeddingControls(ipywidgets.VBox):
    """Controls as attributes, made once; who inherits from this connects them.

    Attributes
    ----------
    model, other, scoring : whose scores are shown, compared with whose
    grip, threshold : score from which a trial is accepted, as a line to drag and as a number
    to_eer, to_calibrated, to_cost : buttons that set it
    recording, color_by : whose local speakers are shown, coloured by what
    previous, following : buttons that go through the outliers
    bar, stage, progress : how far the models are
    player : the selection with its sound
    """

    errors: ErrorStrip
    figure: Any

    def _build_controls(self, study: EmbeddingStudy) -> None:
        names = list(study.models) or ["–"]
        self.model = choice("Model", names, names[0], 230, 44)
        others = [("–", NOBODY), *((name, name) for name in names)]
        self.other = choice("against", others, names[1] if len(names) > 1 else NOBODY, 240, 52)
        scorings = [(SCORINGS[each], each) for each in study.scorings]
        self.scoring = switch(scorings, study.scorings[0], "How two embeddings are compared", 66)
        self.threshold = ipywidgets.FloatText(
            description="Threshold",
            step=0.01,
            style={"description_width": "66px"},
            layout={"width": "166px"},
        )
        self.to_eer = button("equal errors", "Where misses and false accepts are equally frequent", 112)
        self.to_calibrated = button("even odds", "Where the calibrated probability is 50 %", 96)
        self.to_cost = button("least cost", "Where the detection cost at a prior of 5 % is lowest", 92)
        self.grip = ThresholdGrip()
        self.calibration = ipywidgets.HTML(layout={"flex": "1 1 auto", "margin": "0 0 0 12px"})
        uris = study.uris or ["–"]
        self.recording = choice("Recording", uris, uris[0], 300, 68)
        self.color_by = switch(
            [("cluster", "cluster"), ("reference", "reference")], "cluster", "What colours the map", 94
        )
        self.previous = button("◀ outlier", "The outlier that fits a little worse", 92)
        self.following = button("outlier ▶", "The next outlier: worst first", 92)
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "200px", "height": "16px"})
        self.bar.style.bar_color = theme.SPEAKERS[4]
        self.stage = ipywidgets.HTML()
        self.stage.add_class("wb-progress")
        self.progress = ipywidgets.HBox(
            [self.stage, self.bar], layout={"display": "none", "align_items": "center", "flex": "0 0 auto"}
        )
        self.headline = ipywidgets.HTML(layout={"width": "100%"})
        self.rates = ipywidgets.HTML(layout={"width": "100%"})
        self.verdict = ipywidgets.HTML(layout={"width": "100%"})
        self.player = Player(text=HINT)
        self.player.layout = {"flex": "1 1 auto", "min_width": "0"}
        for control in (self.model, self.other, self.scoring, *self._threshold_controls):
            control.disabled = not study.models
        for control in (self.recording, self.color_by, self.previous, self.following):
            control.disabled = not study.uris

    @property
    def _threshold_controls(self) -> list[Any]:
        return [self.threshold, self.to_eer, self.to_calibrated, self.to_cost]

    def _rows(self) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%", "justify_content": "flex-start"}
        models = ipywidgets.HBox(
            [self.model, self.other, label("scores"), self.scoring, self.progress], layout=row
        )
        place = ipywidgets.HBox([*self._threshold_controls, self.calibration], layout=row)
        place.add_class("wb-controls")
        local = ipywidgets.HBox(
            [self.recording, label("colour by"), self.color_by, self.previous, self.following], layout=row
        )
        return [
            models,
            self.headline,
            self.verdict,
            place,
            self.rates,
            self.errors,
            self.grip,
            local,
            self.player,
            self.figure,
        ]
