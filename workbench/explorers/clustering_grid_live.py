"""Sliders that answer while they are dragged: hypothesis, speaker count, DER and JER of one recording."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA, VBxParams, XVectorParams
from workbench.errors import InputError
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.clustering_grid_live_controls import make_sliders
from workbench.explorers.clustering_grid_live_leaves import find_leaves
from workbench.explorers.clustering_grid_live_pictures import LivePictures, Shown
from workbench.explorers.clustering_grid_live_sound import LiveSound, wrong_stretches
from workbench.explorers.clustering_grid_live_words import (
    about,
    at_work,
    headline,
    threshold_in_words,
)
from workbench.explorers.clustering_grid_study import recording_duration
from workbench.explorers.clustering_grid_touch import LiveOverlay
from workbench.explorers.headline import static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.playback import Player
from workbench.explorers.redraw import TimeAxis
from workbench.plots.grid_live import (
    AREAS,
    LANES,
    PICTURES,
    LiveScene,
    lane_axis,
    plot_live,
)
from workbench.plots.lanes import on_axis
from workbench.plots.theme import hypothesis_styles, reference_styles
from workbench.plots.words import matched_name, shortened, speaker_name
from workbench.rttm import read_rttm, read_uem
from workbench.scoring.slots import Slots
from workbench.scoring.turns import Turns
from workbench.sweeps import RecordingSweep, SweepSettings, default_settings
from workbench.sweeps.inputs import Source, read_features
from workbench.timeline import find_turns, order_speakers
from workbench.types import Features, SegmentFeatures

HINT = (
    "Drag a slider, or the line in the dendrogram. Click a turn, an error or a point of the map to hear it."
)
SILENT = "Drag a slider, or the line in the dendrogram. No audio was given, so nothing can be heard."

SLOW = 600_000  # responsibilities that VBx finds in single precision while a slider moves,
VERY_SLOW = 5_000_000  # and that take noticeably long even so
SLOW_SECONDS = 0.1  # the same of cells that are slow for another reason, as those with many ties
MARKOV_SLOW = 200_000  # responsibilities of a Markov model that take a third of a second
BEFORE = "wb-before"  # class of numbers that belong to where the sliders were before


def explore_live(
    features: Source,
    reference: str | Path | Annotation | Mapping[str, Annotation],
    *,
    base: SweepSettings | None = None,
    plda: PLDA | str | os.PathLike[str] | None = None,
    audio: str | Path | None = None,
    uem: str | Path | Timeline | Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> LiveScreen:
    """Parameters of the clustering as sliders; lanes, dendrogram and embedding map of one recording follow.

    Threshold, Fa and Fb; the loop probability, where VBx is a Markov model.

    Parameters
    ----------
    features : of one recording, or their file: of chunks, or of segments (x-vectors)
    reference : who really spoke when: RTTM file, annotation, or annotations by recording
    base : where the sliders start, and everything that they do not say
    plda : model or its folder, which VBx and x-vectors need
    audio : of the recording, to hear turns and errors
    uem : regions that are scored
    collar, skip_overlap : as of `score`
    """
    (found,) = read_features(features)
    named = read_rttm(Path(reference)) if isinstance(reference, str | Path) else reference
    regions = read_uem(Path(uem)) if isinstance(uem, str | Path) else uem
    annotation = named.get(found.uri) if isinstance(named, Mapping) else named
    if annotation is None:
        raise InputError(f"no reference for {found.uri!r}; give the RTTM file that holds it")
    return LiveScreen(
        found,
        annotation,
        base=base or default_settings(found),
        plda=PLDA.load(plda) if isinstance(plda, str | os.PathLike) else plda,
        audio=None if audio is None else Path(audio),
        uem=regions.get(found.uri) if isinstance(regions, Mapping) else regions,
        collar=collar,
        skip_overlap=skip_overlap,
    )


class LiveScreen(LiveSound):
    """The screen behind `explore_live`; its controls are attributes.

    Attributes
    ----------
    threshold, Fa, Fb, loop_prob : sliders; all but the first rest where the clustering is not VBx
        The last is None where VBx is no Markov model.
    figure : plotly.graph_objects.FigureWidget
    cell : LiveCell, what is on the screen
    """

    def __init__(
        self,
        features: Features | SegmentFeatures,
        reference: Annotation,
        *,
        base: SweepSettings,
        plda: PLDA | None,
        audio: Path | None,
        uem: Timeline | None,
        collar: float,
        skip_overlap: bool,
    ):
        self.features, self.reference, self.base = features, reference, base
        self._audio, self._regions = audio, uem
        self._scoring = (uem, collar, skip_overlap)
        self._is_static = os.environ.get("WORKBENCH_STATIC") == "1"
        self._busy = False  # while something is set by the program
        self.selection: tuple[float, float] | None = None
        self._sweep = RecordingSweep(
            features,
            reference,
            base=base,
            plda=plda,
            uem=uem,
            collar=collar,
            skip_overlap=skip_overlap,
        )
        self._reference = Turns.of(reference)
        self._prepare(plda)
        self._build_controls()
        self._known: np.ndarray | None = None  # clusters of everyone when they changed last
        self._clustering = 0  # grows when the clusters change: what was drawn of others is old
        self.figure = LiveFigure(plot_live(self._scene))
        self._time = TimeAxis(self.figure, lambda: self._scene.duration, self.errors.guard(self._zoomed))
        self._find(base.precision)
        self._answer()
        self._listen()
        super().__init__(self._rows())
        self.add_class("wb-screen")

    def _prepare(self, plda: PLDA | None) -> None:
        """What does not follow the sliders: dendrogram, affinities, the map."""
        features = self.features
        self._leaves = leaves = find_leaves(self._sweep, self.reference, plda)
        plane = leaves.points[["x", "y"]].to_numpy(dtype=float)
        low, high = (plane.min(axis=0), plane.max(axis=0)) if len(plane) else (np.zeros(2), np.ones(2))
        turns = find_turns(self.reference)
        self._styles = reference_styles(order_speakers(turns))
        self._scene = LiveScene(
            uri=features.uri,
            duration=recording_duration(features, self.reference),
            reference=turns,
            styles=self._styles,
            tree=leaves.tree,
            leaves=leaves.name,
            threshold_title=leaves.threshold_title,
            most_iterations=int(self.base.value_of("max_iters") or 20),
            points=(plane - low) / np.maximum(high - low, 1e-12),
            shares=leaves.shares,
        )
        self._pictures = LivePictures(self._scene, leaves)

    def _build_controls(self) -> None:
        self._sliders = make_sliders(self.base, self._leaves)
        self.threshold, self.Fa, self.Fb, *others = self._sliders.values()
        self.loop_prob = others[0] if others else None
        self._start = {name: slider.value for name, slider in self._sliders.items()}
        self.line = LiveOverlay(
            value=self.threshold.value,
            limits=[self.threshold.min, self.threshold.max],
            step=self.threshold.step,
            areas=[list(each) for each in AREAS],
        )
        self.reset = ipywidgets.Button(
            description="Reset", tooltip="Where it began", layout={"width": "66px"}
        )
        self.headline = ipywidgets.HTML()
        self.words = ipywidgets.HTML()
        self.errors = ErrorStrip()
        self.player = Player(text=HINT if self._audio else SILENT)

    def _rows(self) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%"}
        controls = ipywidgets.HBox([*self._sliders.values(), self.reset], layout=row)
        controls.add_class("wb-controls")
        return [self.headline, controls, self.words, self.errors, self.player, self.line, self.figure]

    def _listen(self) -> None:
        """Connect every control; ipywidgets would drop the errors of unguarded callbacks.

        Sliders are answered in the kernel's own thread: ipywidgets keeps one message per slider on its
        way and folds everything newer into the next, so that none queue up, and each answer is drawn.
        """
        guard = self.errors.guard
        for slider in self._sliders.values():
            slider.observe(guard(self._slide), names="value")
        self.reset.on_click(guard(self._reset))
        self.player.observe(guard(self._play_selection), names="request")
        self.line.observe(guard(self._dragged), names="value")
        self.line.observe(guard(self._touched), names="touch")
        self.line.observe(guard(self._rest), names="rest")

    # -- computing -----------------------------------------------------------------------------

    @property
    def values(self) -> dict[str, float]:
        """Parameters that the sliders say and the clustering knows."""
        sliders = {name: slider for name, slider in self._sliders.items() if not slider.disabled}
        return {name: float(f"{slider.value:.6g}") for name, slider in sliders.items()}

    def _find(self, precision: str) -> None:
        """The cell that the sliders say, and what is shown of it."""
        before = time.perf_counter()
        is_exact = precision == self.base.precision
        self.cell = cell = self._sweep.live(self.values | ({} if is_exact else {"precision": precision}))
        if is_exact:
            self._took = time.perf_counter() - before
        if self._known is not None and np.array_equal(self._known, cell.hard_clusters):
            return  # the same clusters talk at the same time
        self._known = cell.hard_clusters
        labels = sorted(np.unique(cell.turns["speaker"]).tolist(), key=str)
        number = {label: place for place, label in enumerate(labels)}
        hypothesis = Turns(
            cell.turns["start"].to_numpy(dtype=float),
            cell.turns["end"].to_numpy(dtype=float),
            np.array([number[each] for each in cell.turns["speaker"].tolist()], dtype=np.intp),
            tuple(labels),
        )
        slots = Slots.of(self._reference, hypothesis, *self._scoring)
        self._matching: dict[Hashable, Hashable] = dict(slots.mapping)
        self._wrong = wrong_stretches(slots)
        place = {speaker: row for row, speaker in enumerate(self._styles)}
        found = order_speakers(cell.turns)
        found.sort(key=lambda each: place.get(self._matching.get(each), len(place)))  # stable
        self._looks = hypothesis_styles(found, self._matching, self._styles)
        self._clustering += 1

    def _slide(self, _change: Any = None) -> None:
        if self._busy:
            return
        num_clusters, num_embeddings = self._start_size
        size = num_clusters * num_embeddings
        is_xvector = isinstance(self.base.clustering, XVectorParams)
        is_slow = not is_xvector and (size > SLOW or (size > 0 and self._took > SLOW_SECONDS))
        if size > (MARKOV_SLOW if is_xvector else VERY_SLOW):
            self.headline.add_class(BEFORE)
            self.words.value = at_work(self.threshold.value, num_clusters)
        # exact again at rest, if there is a browser that tells
        self._find("f32" if is_slow and self.line.tells_rest else self.base.precision)
        self._answer()

    @property
    def _start_size(self) -> tuple[int, int]:
        """Clusters that VBx starts from, of how many embeddings; no clusters where it does not run."""
        clustering, threshold = self.base.clustering, self.threshold.value
        if isinstance(clustering, XVectorParams):
            segments = self._sweep.segments
            if clustering.method == "ahc" or len(segments) < 2:
                return 0, len(segments)
            return len(segments) - segments.dendrogram.level(segments.height(threshold)), len(segments)
        training = self._sweep.training
        if not isinstance(clustering, VBxParams) or clustering.ahc_criterion != "distance":
            return 0, len(training)
        return len(training) - training.dendrogram().level(threshold), len(training)

    def _rest(self, change: Any) -> None:
        """The sliders rest at an answer; if there is a newer one, they have not."""
        if change["new"] == self.line.answer:
            self._settle()

    def _settle(self) -> None:
        """Find exactly what is shown in single precision."""
        if not self._is_exact:
            self._find(self.base.precision)
            self._answer()

    def _reset(self, _button: Any = None) -> None:
        self._busy = True
        try:
            for name, value in self._start.items():
                self._sliders[name].value = value
        finally:
            self._busy = False
        self._slide()

    def _dragged(self, change: Any) -> None:
        """The line in the dendrogram has been moved."""
        if not self._busy:
            self.threshold.value = min(max(change["new"], self.threshold.min), self.threshold.max)

    # -- drawing -------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Show what the sliders say: the pictures in one message, in which what is the same is left out."""
        self._say()
        self._busy = True
        try:
            with self.line.hold_sync():
                self.line.value = self.threshold.value
                for name, source in self._drawn().items():
                    setattr(self.line, name, source)
                self.line.view, self.line.names = list(self._place), self._rows_of_speakers()
                self.line.is_final = self._is_exact
                self.line.answer += 1
        finally:
            self._busy = False

    @property
    def _place(self) -> tuple[float, float]:
        """Where the pictures of the lanes start on the time axis, and how wide they are."""
        start, end = self._time.read()
        return float(on_axis(start)), 1000.0 * (end - start)

    def _drawn(self) -> dict[str, str]:
        """Addresses of all pictures."""
        return self._pictures.draw(
            Shown(
                cell=self.cell,
                clustering=self._clustering,
                looks=self._looks,
                wrong=self._wrong,
                view=self._time.read(),
            )
        )

    def _rows_of_speakers(self) -> list[list[str]]:
        """Name and colour of every row of the hypothesis."""
        shown = list(self._looks.items())[: self._scene.num_rows["hypothesis"]]
        return [[shortened(self._name(who)), look.color] for who, look in shown]

    def _name(self, speaker: Hashable) -> str:
        """A speaker and who it is matched to; where that is too long the colour tells."""
        name = matched_name(speaker, self._matching, True)
        return name if len(name) <= 13 else speaker_name(speaker)

    def _say(self) -> None:
        _, collar, skip_overlap = self._scoring
        self.headline.value = headline(self.cell, len(self._styles), collar, skip_overlap)
        self.headline.remove_class(BEFORE)
        self.words.value = about(
            self.values,
            self.cell,
            threshold=threshold_in_words(
                next(iter(self.values.values())),
                criterion=str(self.base.value_of("ahc_criterion") or "distance"),
                calibrated=self._leaves.calibrated,
            ),
            num_hidden=len(self._looks) - self._scene.num_rows["hypothesis"],
            is_exact=self._is_exact,
            is_partial=collar > 0 or skip_overlap,
        )

    @property
    def _is_exact(self) -> bool:
        return self.cell.settings.precision == self.base.precision

    def _zoomed(self) -> None:
        """Draw the lanes finer, or coarser."""
        self._answer()

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        self._settle()
        figure = go.Figure(self.figure)
        start, width = self._place
        for name, source in self._drawn().items():
            image = figure.layout.images[PICTURES.index(name)]
            image.source = source
            if name in LANES:
                image.x, image.sizex = start, width
        names = {self._name(who): look.color for who, look in self._looks.items()}
        figure.layout.yaxis2.update(lane_axis(self._scene, "hypothesis", names))
        line = figure.layout.shapes[1]
        line.y0 = line.y1 = self.threshold.value
        line.visible = True
        lines = [self.headline.value, self.words.value, self.errors.value]
        return static_page(lines, figure, self.features.uri, include_plotlyjs, full_html)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if self._is_static:
            return {"text/html": self.to_html(), "text/plain": f"LiveScreen({self.features.uri})"}
        return super()._repr_mimebundle_(**kwargs)
