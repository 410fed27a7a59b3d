"""Sliders that answer while they are dragged: hypothesis, speaker count and DER of one recording."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA, AHCParams, VBxParams
from workbench.clustering.ahc import unit_length
from workbench.errors import InputError
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.clustering_grid_live_sound import LiveSound, wrong_stretches
from workbench.explorers.clustering_grid_study import Source, read_features, recording_duration
from workbench.explorers.clustering_grid_touch import CutLine
from workbench.explorers.headline import static_page
from workbench.explorers.playback import Player
from workbench.overview import map_local_speakers, talking_most
from workbench.plots import theme
from workbench.plots.grid_live import (
    AREAS,
    LANES,
    PICTURES,
    LiveScene,
    Tree,
    lane_axis,
    plot_live,
)
from workbench.plots.grid_pictures import (
    bound_picture,
    lane_pixels,
    map_pixels,
    strip_pixels,
)
from workbench.plots.lanes import from_axis, on_axis
from workbench.plots.raster import data_uri
from workbench.plots.theme import hypothesis_styles, reference_styles
from workbench.plots.words import convention, count_of, matched_name, percent, rates, speaker_name
from workbench.rttm import read_rttm, read_uem
from workbench.scoring.slots import Slots
from workbench.scoring.turns import Turns
from workbench.sweeps import LiveCell, RecordingSweep, SweepSettings, default_settings
from workbench.timeline import find_turns, order_speakers
from workbench.tuning.thresholds import describe_parameter
from workbench.types import Features

HINT = (
    "Drag a slider, or the line in the dendrogram. Click a turn, an error or a point of the map to hear it."
)
SILENT = "Drag a slider, or the line in the dendrogram. No audio was given, so nothing can be heard."


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
    """Fa, Fb and the threshold as sliders; lanes, dendrogram and embedding map of one recording follow.

    Parameters
    ----------
    features : of one recording, or their file
    reference : who really spoke when: RTTM file, annotation, or annotations by recording
    base : where the sliders start, and everything that they do not say
    plda : model or its folder, which VBx needs
    audio : of the recording, to hear turns and errors
    uem : regions that are scored
    collar, skip_overlap : as of `score`
    """
    (found,) = read_features(features)
    if not isinstance(found, Features):
        raise InputError(f"{found.uri}: the live screen needs one embedding per chunk and local speaker")
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
    threshold, Fa, Fb : sliders; the last two rest where the clustering is not VBx
    figure : plotly.graph_objects.FigureWidget
    cell : LiveCell, what is on the screen
    """

    def __init__(
        self,
        features: Features,
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
        self.cell = self._compute()
        self._shown: dict[str, Any] = {}
        figure = plot_live(self._scene)
        self._fill(figure)  # before there is a browser to send it to
        self.figure = go.FigureWidget(figure)
        self.figure._config = theme.config()
        self._listen()
        super().__init__(self._rows())
        self.add_class("wb-screen")

    def _prepare(self, plda: PLDA | None) -> None:
        """What does not follow the sliders: dendrogram, affinities, the map."""
        features, clustering = self.features, self.base.clustering
        if not isinstance(clustering, AHCParams | VBxParams):
            raise InputError("the live screen needs AHC or VBx clustering")
        training = self._sweep.training
        linkage = clustering.linkage if isinstance(clustering, AHCParams) else "centroid"
        self._tree = Tree.of(training.dendrogram(linkage), training.embeddings)
        points = training.embeddings
        if len(training):
            is_vbx = isinstance(clustering, VBxParams) and plda is not None
            points = training.project(plda)[:, :128] if is_vbx and plda else unit_length(points)
        self._map, shares = map_local_speakers(features, points, training.mask, self.reference)
        plane = self._map[["x", "y"]].to_numpy(dtype=float)
        low, high = (plane.min(axis=0), plane.max(axis=0)) if len(plane) else (np.zeros(2), np.ones(2))
        turns = find_turns(self.reference)
        self._styles = reference_styles(order_speakers(turns))
        self._training = np.nonzero(training.mask)
        leaves = tuple(each[self._tree.leaves] for each in self._training)
        has_truth = bool(len(self.reference.labels())) and len(leaves[0])
        self._true_leaves = talking_most(features, self.reference, *leaves) if has_truth else [None]
        euclidean = linkage in ("centroid", "ward")
        self._scene = LiveScene(
            uri=features.uri,
            duration=recording_duration(features, self.reference),
            reference=turns,
            styles=self._styles,
            tree=self._tree,
            threshold_title="Distance" if euclidean else "Cosine distance",
            points=(plane - low) / np.maximum(high - low, 1e-12),
            shares=shares,
        )

    def _build_controls(self) -> None:
        base = self.base
        wide = {"flex": "1 1 0", "min_width": "0"}
        style = {"description_width": "initial"}
        threshold = float(base.value_of("ahc_threshold") or 0.6)
        self.threshold = ipywidgets.FloatSlider(
            description="Threshold",
            value=threshold,
            min=0.0,
            max=max(1.5, round(self._tree.top, 2), threshold),
            step=0.005,
            readout_format=".3f",
            style=style,
            layout=wide,
        )
        is_vbx = base.method == "vbx"
        self.Fa, self.Fb = (
            ipywidgets.FloatLogSlider(
                description=name,
                value=value,
                # browsers move the value to the nearest step: the one to begin with is a step
                min=math.log10(value) - 2,
                max=math.log10(value) + 2,
                step=0.01,
                readout_format=".3g",
                disabled=not is_vbx,
                style=style,
                layout=wide,
            )
            for name, value in (
                (name, float(base.value_of(name) or usual)) for name, usual in (("Fa", 0.07), ("Fb", 0.8))
            )
        )
        self._start = {name: slider.value for name, slider in self._sliders.items()}
        limits = [self.threshold.min, self.threshold.max]
        self.line = CutLine(value=threshold, limits=limits, areas=[list(each) for each in AREAS])
        self.reset = ipywidgets.Button(
            description="Reset", tooltip="Where it began", layout={"width": "66px"}
        )
        self.headline = ipywidgets.HTML()
        self.words = ipywidgets.HTML()
        self.errors = ErrorStrip()
        self.player = Player(text=HINT if self._audio else SILENT)

    @property
    def _sliders(self) -> dict[str, Any]:
        return {"ahc_threshold": self.threshold, "Fa": self.Fa, "Fb": self.Fb}

    def _rows(self) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%"}
        controls = ipywidgets.HBox([self.threshold, self.Fa, self.Fb, self.reset], layout=row)
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
        self.figure.layout.xaxis.on_change(guard(self._zoomed), "range", "autorange")

    # -- computing -----------------------------------------------------------------------------

    @property
    def values(self) -> dict[str, float]:
        """Parameters that the sliders say and the clustering knows."""
        names = ("ahc_threshold", "Fa", "Fb") if self.base.method == "vbx" else ("ahc_threshold",)
        return {name: float(f"{self._sliders[name].value:.6g}") for name in names}

    def _compute(self) -> LiveCell:
        cell = self._sweep.live(self.values)
        labels = sorted(np.unique(cell.turns["speaker"]).tolist(), key=str)
        number = {label: place for place, label in enumerate(labels)}
        self._hypothesis = Turns(
            cell.turns["start"].to_numpy(dtype=float),
            cell.turns["end"].to_numpy(dtype=float),
            np.array([number[each] for each in cell.turns["speaker"].tolist()], dtype=np.intp),
            tuple(labels),
        )
        slots = Slots.of(self._reference, self._hypothesis, *self._scoring)
        self._matching: dict[Hashable, Hashable] = dict(slots.mapping)
        self._wrong = wrong_stretches(slots)
        place = {speaker: row for row, speaker in enumerate(self._styles)}
        found = order_speakers(cell.turns)
        found.sort(key=lambda each: place.get(self._matching.get(each), len(place)))  # stable
        self._looks = hypothesis_styles(found, self._matching, self._styles)
        return cell

    def _slide(self, _change: Any = None) -> None:
        if self._busy:
            return
        self.cell = self._compute()
        self._busy = True
        try:
            self.line.value = self.threshold.value
            with self.figure.batch_update():
                self._fill(self.figure)
        finally:
            self._busy = False

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

    def _fill(self, figure: go.Figure) -> None:
        """Bring everything that follows the sliders up to date; what is the same is not sent."""
        layout, view = figure.layout, self._view(figure)
        for name, source in self._pictures(view).items():
            if self._differs(name, source):
                layout.images[PICTURES.index(name)].source = source
        looks = {self._name(who): look.color for who, look in self._looks.items()}
        axis = lane_axis(self._scene, "hypothesis", looks)
        if self._differs("names", axis["ticktext"]):
            layout.yaxis2.tickvals, layout.yaxis2.ticktext = axis["tickvals"], axis["ticktext"]
        self._say()

    def _differs(self, what: str, value: Any) -> bool:
        changed = self._shown.get(what) != value
        self._shown[what] = value
        return changed

    def _pictures(self, view: tuple[float, float]) -> dict[str, str]:
        rows, scene = self._scene.num_rows, self._scene
        addresses: dict[str, str] = {}
        true_colors = {who: style.color for who, style in self._styles.items()}
        places = {who: row for row, who in enumerate(self._looks)}
        colors = {who: look.color for who, look in self._looks.items()}
        kinds: dict[Hashable, str] = {kind: style.color for kind, style in theme.ERRORS.items()}
        in_rows: dict[Hashable, int] = {kind: row for row, kind in enumerate(kinds)}
        pictures = {
            "hypothesis": lane_pixels(self.cell.turns, places, colors, rows["hypothesis"], view),
            "errors": lane_pixels(self._wrong, in_rows, kinds, 3, view, key="kind"),
        }
        if self._shown.get("view") != view:  # the reference moves with the time axis only
            self._shown["view"] = view
            assert scene.reference is not None
            own = {who: row for row, who in enumerate(self._styles)}
            pictures["reference"] = lane_pixels(scene.reference, own, true_colors, rows["reference"], view)
        if self._differs("bound of", self.cell.elbo.tobytes()):
            addresses["bound"] = bound_picture(self.cell.elbo)
        if self._differs("clusters", (self.cell.hard_clusters.tobytes(), tuple(colors.items()))):
            chunk, slot = self._training
            clusters = self.cell.hard_clusters[chunk, slot][self._tree.leaves]
            pictures["found strip"] = strip_pixels(clusters.tolist(), colors)
            pictures["true strip"] = strip_pixels(self._true_leaves, true_colors)
            taken = self.cell.hard_clusters[self._map["chunk"], self._map["local_speaker"]]
            fill = [colors.get(each, theme.UNMATCHED) for each in taken.tolist()]
            rim = [true_colors.get(who, theme.UNMATCHED) for who in self._map["reference_speaker"]]
            pictures["map"] = map_pixels(scene.points, fill, rim)
        return addresses | {name: data_uri(pixels) for name, pixels in pictures.items()}

    def _name(self, speaker: Hashable) -> str:
        """A speaker and who it is matched to; where that is too long the colour tells."""
        name = matched_name(speaker, self._matching, True)
        return name if len(name) <= 13 else speaker_name(speaker)

    def _say(self) -> None:
        cell, true = self.cell, len(self._styles)
        counts = cell.counts
        if counts is None or not counts.total:
            self.headline.value = '<div class="wb-head"><span class="wb-der">DER –</span></div>'
        else:
            chips = ", ".join(
                f'<span class="wb-chip" style="background:{theme.ERRORS[kind].color}"></span>'
                f"{theme.ERRORS[kind].name} {100 * rate:.1f}"
                for kind, rate in rates(counts).items()
            )
            self.headline.value = (
                f'<div class="wb-head"><span class="wb-der">DER {percent(counts.der)}</span>'
                f'<span class="wb-facts">({chips}) · <b>{cell.num_speakers}</b> speakers '
                f'(reference {true})</span><span class="wb-convention">'
                f"{convention(self._scoring[1], self._scoring[2])} · {self._scene.uri}</span></div>"
            )
        criterion = str(self.base.value_of("ahc_criterion") or "distance")
        threshold = describe_parameter("ahc_threshold", self.values["ahc_threshold"], ahc_criterion=criterion)
        rest = "".join(f" · {name} {value:.3g}" for name, value in self.values.items() if name[0] == "F")
        last = "stopped by itself" if cell.converged else "<b>× hit the limit of iterations</b>"
        steps = count_of(len(cell.elbo), "iteration")
        bound = f" · VBx: {steps}, {last}" if len(cell.elbo) else ""
        more = len(self._looks) - self._scene.num_rows["hypothesis"]
        hidden = f" · {more} more speakers not shown" if more > 0 else ""
        self.words.value = f'<div class="wb-about">Threshold {threshold}{rest}{bound}{hidden}</div>'

    def _view(self, figure: go.Figure) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        start, end = (from_axis(value) for value in figure.layout.xaxis.range)
        return max(start, 0.0), min(end, self._scene.duration)

    def _zoomed(self, axis: Any, _range: Any, autorange: Any) -> None:
        """Draw the lanes finer, or coarser."""
        if self._busy:
            return
        self._busy = True
        try:
            with self.figure.batch_update():
                if autorange:  # a double click; written out, so that the next one is a change again
                    axis.range = (float(on_axis(0.0)), float(on_axis(self._scene.duration)))
                    axis.autorange = False
            view = self._view(self.figure)
            with self.figure.batch_update():
                for name in LANES:
                    picture = self.figure.layout.images[PICTURES.index(name)]
                    picture.x, picture.sizex = float(on_axis(view[0])), 1000.0 * (view[1] - view[0])
                self._fill(self.figure)
        finally:
            self._busy = False

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        figure = go.Figure(self.figure)
        line = figure.layout.shapes[1]
        line.y0 = line.y1 = self.values["ahc_threshold"]
        line.visible = True
        lines = [self.headline.value, self.words.value, self.errors.value]
        return static_page(lines, figure, self.features.uri, include_plotlyjs, full_html)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if self._is_static:
            return {"text/html": self.to_html(), "text/plain": f"LiveScreen({self.features.uri})"}
        return super()._repr_mimebundle_(**kwargs)
