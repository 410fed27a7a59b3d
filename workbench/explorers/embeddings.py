"""Speaker embeddings: how well they tell speakers apart, and which local speakers sound like another."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from pyannote.core import Annotation

from workbench.clustering import PLDA, ClusteringParams
from workbench.errors import InputError
from workbench.explorers.background import NewestOnly
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.embeddings_sound import EmbeddingSound
from workbench.explorers.embeddings_study import EmbeddingStudy, Model
from workbench.explorers.embeddings_words import (
    calibration_html,
    comparison_html,
    headline_html,
    threshold_html,
)
from workbench.explorers.headline import static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.redraw import update_layout, update_traces
from workbench.plots.embeddings import EmbeddingScene, plot_embeddings, threshold_shapes
from workbench.plots.embeddings_local import LocalView
from workbench.plots.embeddings_trials import (
    DIFFERENT_NAME,
    SAME_NAME,
    TrialView,
    bin_edges,
    difference_points,
)
from workbench.sweeps.inputs import Source
from workbench.verification import Trials

MOST_EMBEDDED = 700_000  # bytes of a clip in a page without a kernel: about 20 s
NOT_YET = "there are no scores yet: wait until the models have run"
COST_PRIOR = 0.05  # of the button "least cost"


def explore_embeddings(
    trials: Trials | str | os.PathLike[str] | None = None,
    models: Mapping[str, Model] | None = None,
    features: Source | Iterable[Source] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    audio: str | Path | list[str | Path] | Mapping[str, Path] | None = None,
    references: str | Path | Mapping[str, Annotation] | None = None,
    clustering: ClusteringParams | Any = None,
    plda: PLDA | str | os.PathLike[str] | None = None,
    recording: str | None = None,
) -> EmbeddingScreen:
    """Scores of trials with a threshold to drag, and the local speakers of recordings, all to be heard.

    Parameters
    ----------
    trials : list of pairs, or its file, optional
    models : name -> runtime string (`torch:…`, `onnx:…`), runtime, or embeddings made earlier
        The first is looked at, the second compared with it; others can be chosen.
    features : of recordings whose local speakers are shown: objects, files (.npz), or a folder of them
    root : folder that the sides of the trials are named from; by default that of the list
    audio : files and folders of recordings, or uri -> path: to hear local speakers
    references : RTTM file, folder of them, or annotations by recording: who is really talking
    clustering : parameters, or those of a whole pipeline; by default VBx where there is a PLDA, else AHC
    plda : model or its folder: for VBx, and to score trials with
    recording : whose local speakers are shown first
    """
    study = EmbeddingStudy(
        trials,
        models,
        features,
        root=root,
        audio=audio,
        references=references,
        clustering=clustering,
        plda=plda,
    )
    return EmbeddingScreen(study, recording=recording)


class EmbeddingScreen(EmbeddingSound):
    """The screen behind `explore_embeddings`; its controls are attributes.

    Attributes
    ----------
    study : trials, models and recordings
    figure : plotly.graph_objects.FigureWidget
    errors : strip that shows what went wrong
    chosen_trial : number of the trial that is selected, None where there is none
    chosen : rows of the local speakers that are selected; twice the same for a single one
    """

    def __init__(self, study: EmbeddingStudy, *, recording: str | None = None):
        if recording is not None and recording not in study.features:
            raise InputError(f"no features of {recording!r}; there are {', '.join(study.uris) or 'none'}")
        self.study = study
        self.errors = ErrorStrip()
        self.chosen_trial: int | None = None
        self.chosen: tuple[int, int] | None = None
        self._threshold: float | None = None  # None: where errors are equal
        self._heard: dict[tuple[str, int], int] = {}  # bar -> how many of its trials were heard
        self._replay: tuple[str, bytes, float] | None = None
        self._busy = False  # while controls are set by the program
        self._is_static = os.environ.get("WORKBENCH_STATIC") == "1"
        self._work = NewestOnly(threaded=not self._is_static)
        self._build_controls(study)
        if recording is not None:
            self.recording.value = recording
        self.figure = LiveFigure(plot_embeddings(self._scene()))
        self._listen()
        super().__init__(self._rows())
        self.add_class("wb-screen")
        self._start()

    def _listen(self) -> None:
        """Connect every control; ipywidgets would drop the errors of unguarded callbacks."""
        guard = self.errors.guard
        for control in (self.model, self.other, self.scoring):
            control.observe(guard(self._rescored), names="value")
        self.grip.observe(guard(self._dragged), names="value")
        self.grip.observe(guard(self._to_eer), names="reset")
        self.threshold.observe(guard(self._typed), names="value")
        self.to_eer.on_click(guard(self._to_eer))
        self.to_calibrated.on_click(guard(self._to_calibrated))
        self.to_cost.on_click(guard(self._to_cost))
        self.recording.observe(guard(self._opened), names="value")
        self.color_by.observe(guard(lambda _change: self._redraw()), names="value")
        self.previous.on_click(guard(lambda _button: self._step(-1)))
        self.following.on_click(guard(lambda _button: self._step(+1)))
        self.player.observe(guard(self._play_again), names="request")
        clicks = {
            SAME_NAME: self._clicked_bar,
            DIFFERENT_NAME: self._clicked_bar,
            "trials": self._clicked_trial,
            "flips": self._clicked_trial,
            "det": self._clicked_curve,
            "similarity": self._clicked_cell,
            "outlier marks": self._clicked_outlier,
            "outliers": self._clicked_outlier,
            "map": self._clicked_point,
        }
        for trace in self.figure.data:
            if trace.name in clicks:
                trace.on_click(guard(clicks[trace.name]))

    # -- the models ----------------------------------------------------------------------------

    def _start(self) -> None:
        """Embed the sides of the trials beside the kernel; the local speakers are there at once."""
        if not self.study.models:
            return

        def job(check: Any) -> None:
            def hook(model: str, done: int, total: int) -> None:
                check()
                place = list(self.study.models).index(model)
                share = (place + done / max(total, 1)) / len(self.study.models)
                self._report(f"{model} · {done} of {total} utterances", share)

            self.study.prepare(hook)

        self._report("Loading the models", 0.0)
        self._work.submit(job, done=self.errors.guard(self._ready), failed=self._failed)

    def _report(self, words: str, share: float) -> None:
        self.stage.value, self.bar.value = words, share
        self.progress.layout.display = ""

    def _ready(self, _result: Any = None) -> None:
        self.progress.layout.display = "none"
        self._rescored()

    def _failed(self, error: BaseException) -> None:
        self.progress.layout.display = "none"
        self.errors.show(error)

    def wait(self) -> EmbeddingScreen:
        """Return once the models have run; for scripts, which have no screen to watch."""
        self._work.wait()
        return self

    # -- what is shown -------------------------------------------------------------------------

    def _scene(self) -> EmbeddingScene:
        return EmbeddingScene(trials=self._trials(), local=self._local())

    def _trials(self) -> TrialView | None:
        if not self.study.models or not self.study.is_ready:
            return None
        return self.study.trial_view(
            self.model.value, self._compared, self.scoring.value, self._threshold, self.chosen_trial
        )

    def _local(self) -> LocalView | None:
        if not self.study.uris:
            return None
        return self.study.local_view(self.recording.value, self.color_by.value, self.chosen)

    @property
    def _compared(self) -> str:
        """The other model; a model is not compared with itself."""
        return self.other.value if self.other.value != self.model.value else ""

    def _redraw(self) -> None:
        scene = self._scene()
        drawn = plot_embeddings(scene)
        with self.figure.batch_update():
            update_traces(self.figure, drawn)
            update_layout(self.figure, drawn)
            matrix, new = self._trace("similarity"), next(t for t in drawn.data if t.name == "similarity")
            matrix.zmin = new.zmin
        self._say(scene.trials)

    def _say(self, view: TrialView | None) -> None:
        scored = None
        if view is not None:
            scored = self.study.scored(self.model.value, self._compared, self.scoring.value)
        self.headline.value = headline_html(view, scored, self.study.failed)
        self.calibration.value = calibration_html(view)
        self._say_rates(view)

    def _say_rates(self, view: TrialView | None) -> None:
        scored = None
        if view is not None:
            scored = self.study.scored(self.model.value, self._compared, self.scoring.value)
        self.rates.value = threshold_html(view)
        self.verdict.value = comparison_html(view, scored)

    def _trace(self, name: str) -> Any:
        return next(trace for trace in self.figure.data if trace.name == name)

    # -- the threshold -------------------------------------------------------------------------

    def _rescored(self, _change: Any = None) -> None:
        """Another model or another way to score: scores, and with them the threshold, begin anew."""
        if not self.study.is_ready or not self.study.models:
            return
        self._threshold, self.chosen_trial = None, None
        self._heard.clear()
        self._redraw()
        self._show_threshold()

    def _set_threshold(self, value: float) -> None:
        view = self._trials()
        if view is None:
            return
        edges = bin_edges(view.main.scores)
        self._threshold = float(np.clip(value, edges[0], edges[-1]))
        self._follow()
        self._show_threshold()

    def _follow(self) -> None:
        """Bring what depends on the threshold up to date, and nothing else: this runs while it is dragged."""
        view = self._trials()
        flips = difference_points(view)[-1]
        with self.figure.batch_update():
            for shape, new in zip(self.figure.layout.shapes, threshold_shapes(view), strict=False):
                for name in ("x0", "x1", "xanchor", "yanchor"):
                    if shape[name] != new.get(name, shape[name]):
                        shape[name] = new[name]
            if not np.array_equal(self._trace("flips").customdata, flips.customdata):
                update_traces(self.figure, go.Figure([flips]))
        self._say_rates(view)

    def _show_threshold(self) -> None:
        view = self._trials()
        if view is None:
            return
        edges = bin_edges(view.main.scores)
        self._busy = True
        try:
            self.threshold.value = float(f"{view.threshold:.4g}")
            self.grip.show(view.threshold, float(edges[0]), float(edges[-1]))
        finally:
            self._busy = False

    def _dragged(self, change: Any) -> None:
        if not self._busy:
            self._set_threshold(change["new"])

    def _typed(self, change: Any) -> None:
        if not self._busy:
            self._set_threshold(change["new"])

    def _to_eer(self, _button: Any = None) -> None:
        if self._trials() is None:
            raise InputError(NOT_YET)
        scored = self.study.scored(self.model.value, self._compared, self.scoring.value)
        self._set_threshold(scored.threshold)

    def _to_calibrated(self, _button: Any = None) -> None:
        view = self._trials()
        if view is None:
            raise InputError(NOT_YET)
        if view.calibration is None:
            raise InputError("these scores have no calibration: the same speaker does not score higher")
        self._set_threshold(view.calibration.threshold())

    def _to_cost(self, _button: Any = None) -> None:
        view = self._trials()
        if view is None:
            raise InputError(NOT_YET)
        rates = view.main.rates
        costs = COST_PRIOR * rates.miss + (1 - COST_PRIOR) * rates.false_alarm
        best = int(np.argmin(costs))
        self._set_threshold(float(rates.thresholds[min(best, len(rates.thresholds) - 2)]))

    def _clicked_curve(self, trace: Any, points: Any, _state: Any) -> None:
        """A point of the DET curve: put the threshold there."""
        if points.point_inds:
            value = float(trace.customdata[points.point_inds[0]][2])
            self._set_threshold(value if np.isfinite(value) else float("inf"))

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        self.wait()
        lines = [
            self.headline.value,
            self.verdict.value,
            self.rates.value,
            self.calibration.value,
            self.errors.value,
        ]
        figure = plot_embeddings(self._scene())
        return static_page(
            lines, figure, "Speaker embeddings", include_plotlyjs, full_html, below=[self._selection()]
        )

    def _selection(self) -> str:
        """The selection in words; a short clip comes along."""
        if self._replay is None:
            return ""
        words, wav, _ = self._replay
        text = f'<div class="wb-selection">{html.escape(words)}</div>'
        if len(wav) > MOST_EMBEDDED:
            return text
        address = f"data:audio/wav;base64,{base64.b64encode(wav).decode('ascii')}"
        return f'{text}<audio controls preload="none" src="{address}"></audio>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if self._is_static:
            return {"text/html": self.to_html(), "text/plain": f"EmbeddingScreen({self.recording.value})"}
        return super()._repr_mimebundle_(**kwargs)
