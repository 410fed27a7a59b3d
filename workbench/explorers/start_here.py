"""The first screen: hear a recording, see what the system makes of it, and turn its three main knobs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
import plotly.graph_objects as go
from pyannote.core import Annotation, Timeline

from workbench.clustering import VBxParams
from workbench.config import PipelineParams
from workbench.explorers.background import NewestOnly
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.headline import facts, headline, static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.playback import CLIP_LIMIT, Player, cut_clip
from workbench.explorers.redraw import TimeAxis
from workbench.overview import Diarization, Recording
from workbench.pipeline import Runtimes
from workbench.plots import theme
from workbench.plots.lanes import describe_errors, on_axis
from workbench.plots.recording import Screen, plot_recording
from workbench.plots.words import clock, count_of, matched_name, region
from workbench.session import Prepared, Session

CONTEXT = 1.0  # s played before and after an error: without it nobody can tell what went wrong
HINT = "Click a turn, an error or a point of the map to hear it; ▶ plays what is in view."
# what may differ between two drawings of a trace
REDRAWN = ("x", "y", "base", "text", "customdata", "hovertemplate", "marker")
THRESHOLDS = [round(0.01 * step, 2) for step in range(10, 151)]
LOG_VALUES = [
    round(digit * scale, 3) for scale in (0.01, 0.1, 1.0) for digit in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
] + [10.0, 15.0]
STAGES = {"segmentation": "Segmenting", "embedding": "Embedding the local speakers"}


def explore_recording(
    models: str | Path | Runtimes,
    audio: str | Path | list[str | Path],
    references: str | Path | Mapping[str, Annotation] | None = None,
    uem: str | Path | Mapping[str, Timeline] | None = None,
    *,
    params: PipelineParams | None = None,
    recording: str | None = None,
    engine: str = "torch",
) -> StartHere:
    """Recordings to choose from, each with its waveform, local speakers, reference, hypothesis and errors.

    Parameters
    ----------
    models : a hub-layout folder (config.toml, segmentation, embedding, plda/), or `Runtimes` loaded already
    audio : files and folders of recordings
    references : RTTM file, or uri -> Annotation, optional
        Without it, an RTTM beside a recording is its reference.
    uem : UEM file, or uri -> Timeline, optional
    params : `PipelineParams`, optional
        Where the sliders start; by default what the models folder says.
    recording : name of the recording to begin with; by default the first
    engine : {"torch", "onnx"}
        What runs the models.
    """
    session = Session(models, audio, references, uem, params)
    return StartHere(session, recording=recording, engine=engine)


class StartHere(ipywidgets.VBox):
    """The screen behind `explore_recording`; its controls are attributes.

    Attributes
    ----------
    recording, engine : choice of the recording and of what runs the models
    threshold, Fa, Fb : sliders; the last two rest where the clustering is not VBx
    figure : plotly.graph_objects.FigureWidget
    player : the selection in words, and its sound
    errors : strip that shows what went wrong
    diarization : what is on the screen, as numbers
    """

    def __init__(self, session: Session, *, recording: str | None = None, engine: str = "torch"):
        self.session = session
        self.errors = ErrorStrip()
        self.diarization = Diarization.none()
        self.prepared: Prepared | None = None
        self.selection: tuple[float, float] | None = None
        self._is_static = os.environ.get("WORKBENCH_STATIC") == "1"
        self._work = NewestOnly(threaded=not self._is_static)
        self._busy = False  # while controls are set by the program

        first = recording if recording is not None else next(iter(session.audio))
        self._build_controls(first, engine)
        self._shown, self.diarization = session.preview(first)
        self._screen = plot_recording(self._shown, self.diarization)
        self.figure = LiveFigure(self._screen.figure)
        self._time = TimeAxis(self.figure, lambda: self._shown.duration, self.errors.guard(self._zoomed))
        self._listen()
        super().__init__(self._rows())
        self.add_class("wb-screen")
        self._open()

    # -- the screen ----------------------------------------------------------------------------

    def _build_controls(self, recording: str, engine: str) -> None:
        labels = [(self._label(uri), uri) for uri in self.session.audio]
        engines = self.session.engines
        self.recording = ipywidgets.Dropdown(
            description="Recording",
            options=labels,
            value=recording,
            style={"description_width": "68px"},
            layout={"width": "800px"},
        )
        self.engine = ipywidgets.Dropdown(
            description="Engine",
            options=engines,
            value=engine if engine in engines else engines[0],
            tooltip="What runs the models",
            style={"description_width": "60px"},
            layout={"width": "170px", "margin": "0 0 0 auto"},
        )
        self.threshold = _slider(
            "Threshold", THRESHOLDS, "Distance above which agglomerative clustering stops merging", "2 1 0"
        )
        self.Fa = _slider("Fa", LOG_VALUES, "Weight of the embeddings in VBx: larger finds more speakers")
        self.Fb = _slider("Fb", LOG_VALUES, "Speaker regularisation of VBx: larger finds fewer speakers")
        self.reset = ipywidgets.Button(
            description="Reset", tooltip="The values of the models folder", layout={"width": "66px"}
        )
        self.speakers = ipywidgets.HTML(layout={"width": "160px"})
        self.headline = ipywidgets.HTML(layout={"flex": "1 1 auto"})
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "200px", "height": "16px"})
        self.bar.style.bar_color = theme.SPEAKERS[4]
        self.stage = ipywidgets.HTML()
        self.stage.add_class("wb-progress")
        self.progress = ipywidgets.HBox(
            [self.stage, self.bar], layout={"display": "none", "align_items": "center"}
        )
        self.player = Player(text=HINT)

    def _label(self, uri: str) -> str:
        """A recording as the list offers it: name, duration, speakers, difficulty."""
        parts = [uri, clock(self.session.duration(uri))]
        reference = self.session.reference(uri)
        if reference is not None:
            parts.append(count_of(len(reference.labels()), "speaker"))
        if uri in self.session.descriptions:
            parts.append(self.session.descriptions[uri])
        return " · ".join(parts)

    def _rows(self) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%"}
        choice = ipywidgets.HBox([self.recording, self.engine], layout=row)
        answer = ipywidgets.HBox([self.headline, self.progress], layout=row)
        answer.add_class("wb-headline")
        sliders = [self.threshold, self.Fa, self.Fb, self.reset, self.speakers]
        # where they start is known when the models are
        self.controls = ipywidgets.HBox(sliders, layout=row | {"visibility": "hidden"})
        self.controls.add_class("wb-controls")
        return [choice, answer, self.controls, self.errors, self.player, self.figure]

    def _listen(self) -> None:
        """Connect every control; ipywidgets would drop the errors of unguarded callbacks."""
        guard = self.errors.guard
        for chooser in (self.recording, self.engine):
            chooser.observe(guard(self._open), names="value")
        for slider in self._sliders.values():
            slider.observe(guard(self._slide), names="value")
        self.reset.on_click(guard(self._reset))
        self.player.observe(guard(self._play_selection), names="request")
        for trace in self.figure.data:
            if trace.name in self._screen.tables:
                trace.on_click(guard(self._clicked))

    @property
    def _sliders(self) -> dict[str, ipywidgets.Widget]:
        return {"ahc_threshold": self.threshold, "Fa": self.Fa, "Fb": self.Fb}

    # -- one recording -------------------------------------------------------------------------

    def _open(self, _change: Any = None) -> None:
        """Show the chosen recording at once as far as possible, and all of it when the models have run."""
        uri, engine = self.recording.value, self.engine.value
        if not self.session.is_prepared(uri, engine):
            self.prepared = None
            self._shown, self.diarization = self.session.preview(uri)
            self._draw(everything=True)
            self._report("Loading the models", 0.0)
        self._select(None, HINT)

        def job(check: Any) -> Prepared:
            def hook(stage: str, done: int, total: int) -> None:
                check()
                # Embeddings take about as long as segmentation: half of the bar each.
                share = 0.5 * done / max(total, 1) + 0.5 * (stage == "embedding")
                self._report(f"{STAGES.get(stage, stage)} · {done} of {total} chunks", share)

            return self.session.prepare(uri, engine, hook)

        self._work.submit(job, done=self.errors.guard(self._prepared), failed=self._failed)

    def _prepared(self, prepared: Prepared) -> None:
        self.progress.layout.display = "none"
        self.prepared = prepared
        self._shown = prepared.recording
        self._set_sliders(prepared)
        self._compute()
        self._draw(everything=True)

    def _failed(self, error: BaseException) -> None:
        self.progress.layout.display = "none"
        self.headline.value = headline(self._shown, None)
        self.errors.show(error)

    def wait(self) -> StartHere:
        """Return once the models have run; for scripts, which have no screen to watch."""
        self._work.wait()
        return self

    def _report(self, stage: str, share: float) -> None:
        self.bar.value, self.stage.value = share, stage
        self.progress.layout.display = ""

    # -- parameters ----------------------------------------------------------------------------

    def _set_sliders(self, prepared: Prepared) -> None:
        """Start where the models folder says, unless the reader has moved something already."""
        params = prepared.params.clustering
        is_vbx = isinstance(params, VBxParams)
        for slider in (self.Fa, self.Fb):
            slider.disabled = not is_vbx
        if getattr(self, "_defaults", None) is None:
            self._defaults = {name: getattr(params, name) for name in self._sliders if hasattr(params, name)}
            self.controls.layout.visibility = "visible"
            self._reset()

    def _reset(self, _button: Any = None) -> None:
        self._busy = True
        try:
            for name, value in self._defaults.items():
                slider = self._sliders[name]
                if value not in dict(slider.options).values():
                    slider.options = _named({*dict(slider.options).values(), value})
                slider.value = value
        finally:
            self._busy = False
        self._slide()

    def _values(self) -> dict[str, float]:
        """Values of the sliders that the clustering knows."""
        return {name: self._sliders[name].value for name in getattr(self, "_defaults", {})}

    def _slide(self, _change: Any = None) -> None:
        """Cluster again and redraw.

        ipywidgets keeps one message per slider on its way and folds everything newer into the
        next, so that a redraw always shows the newest value and none queue up.
        """
        if self._busy or self.prepared is None:
            return
        self._compute()
        self._draw(clustering=True)

    def _compute(self) -> None:
        if self.prepared is not None:
            self.diarization = self.prepared.diarize(**self._values())

    # -- drawing -------------------------------------------------------------------------------

    def _draw(self, everything: bool = False, clustering: bool = False) -> None:
        """Bring the figure up to date.

        Parameters
        ----------
        everything : it is another recording: the time axis starts anew as well
        clustering : nothing but the clustering has changed
        """
        shares = None if self.prepared is None else self.prepared.shares
        view = None if everything else self._time.read()
        self._screen = plot_recording(self._shown, self.diarization, view=view, shares=shares)
        self._busy = True
        try:
            with self.figure.batch_update():
                unchanged = ("waveform", "reference") if clustering else ()
                _update(self.figure, self._screen, keep_axis=not everything, unchanged=unchanged)
        finally:
            self._busy = False
        counts = None if self.prepared is None else self.diarization
        self.headline.value = headline(self._shown, counts)
        self.speakers.value = _speaker_counts(self._shown, counts)

    def _zoomed(self) -> None:
        """Draw what is in view now."""
        if not self._busy:
            self._draw()

    # -- sound ---------------------------------------------------------------------------------

    def _clicked(self, trace: Any, points: Any, _state: Any) -> None:
        """Select what was clicked, say it in words, play it."""
        if not points.point_inds:
            return
        table = self._screen.tables[trace.name]
        if points.point_inds[0] >= len(table):
            return  # drawn before the last redraw
        row = table.iloc[points.point_inds[0]]
        self._select((row["start"], row["end"]), self._describe(trace.name, row))
        self._play(CONTEXT if trace.name == "errors" else 0.0)

    def _describe(self, lane: str, row: pd.Series) -> str:
        """The selection in words: recording, where, what, how long."""
        has_reference = self._shown.reference is not None
        if lane == "errors":
            what = describe_errors(row.to_frame().T)[0]
        elif lane == "reference":
            what = f"reference {row['speaker']}"
        elif lane == "hypothesis":
            what = f"hypothesis {matched_name(row['speaker'], self.diarization.matching, has_reference)}"
        else:
            cluster = row["cluster"]
            known = cluster in set(self.diarization.hypothesis["speaker"])
            name = matched_name(cluster, self.diarization.matching, has_reference) if known else "no cluster"
            what = f"chunk {row['chunk']:.0f}, local speaker {row['local_speaker']:.0f}: {name}"
        start, end = row["start"], row["end"]
        return f"{self._shown.uri} · {region(start, end)} · {what} · {end - start:.1f} s"

    def _select(self, stretch: tuple[float, float] | None, text: str) -> None:
        self.selection = stretch
        self._context = 0.0
        self.player.text = text
        start, end = stretch or (0.0, 0.0)
        with self.figure.batch_update():
            mark = self.figure.layout.shapes[0]
            mark.x0, mark.x1 = float(on_axis(start)), float(on_axis(end))
            mark.visible = stretch is not None

    def _play(self, context: float) -> None:
        self._context = context
        start, end = self.selection or self._time.read()
        start, end = max(start - context, 0.0), min(end + context, self._shown.duration)
        self.player.play(cut_clip(self.session.audio[self._shown.uri], start, end), start)

    def _play_selection(self, _change: Any = None) -> None:
        """Play the selection; without one, what is in view."""
        if self.selection is None:
            start, end = self._time.read()
            length = f"first {CLIP_LIMIT:.0f} s" if end - start > CLIP_LIMIT else f"{end - start:.1f} s"
            self.player.text = f"{self._shown.uri} · {region(start, end)} · what is in view · {length}"
        self._play(self._context)

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        self.wait()
        diarization = self.diarization if self.prepared is not None else None
        label = self._label(self._shown.uri)
        controls = facts(label, self._values(), self.engine.value, _speaker_counts(self._shown, diarization))
        lines = [headline(self._shown, diarization), controls, self.errors.value]
        screen = plot_recording(
            self._shown,
            self.diarization,
            view=self._time.read(),
            shares=None if self.prepared is None else self.prepared.shares,
        )
        return static_page(lines, screen.figure, self._shown.uri, include_plotlyjs, full_html)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if self._is_static:
            return {"text/html": self.to_html(), "text/plain": f"StartHere({self._shown.uri})"}
        return super()._repr_mimebundle_(**kwargs)


def _slider(
    description: str, values: Iterable[float], tooltip: str, flex: str = "1 1 0"
) -> ipywidgets.SelectionSlider:
    """A slider over round values: what a reader writes down is what was computed."""
    return ipywidgets.SelectionSlider(
        description=description,
        options=_named(values),
        continuous_update=True,
        tooltip=tooltip,
        style={"description_width": "initial"},
        layout={"flex": flex, "min_width": "0"},
    )


def _named(values: Iterable[float]) -> list[tuple[str, float]]:
    """Options of a slider, in order: how a value is written, and the value."""
    return [(f"{value:.2f}" if 0.1 <= value < 10 else f"{value:.3g}", value) for value in sorted(values)]


def _update(
    figure: go.FigureWidget, screen: Screen, *, keep_axis: bool, unchanged: Collection[str] = ()
) -> None:
    """Write a new drawing into the figure that is on the screen, in one message.

    Parameters
    ----------
    keep_axis : leave the time axis where the reader has moved it
    unchanged : names of traces that are the same in both
    """
    for old, new in zip(figure.data, screen.figure.data, strict=True):
        if new.name in unchanged:
            continue
        for name in REDRAWN:
            if name in new and name in old:
                setattr(old, name, getattr(new, name))
    layout = screen.figure.layout
    figure.layout.images = layout.images
    figure.layout.annotations = layout.annotations
    axes = [name for name in layout if name.startswith(("xaxis", "yaxis"))]
    for name in axes:
        if not (keep_axis and name == "xaxis"):
            figure.layout[name].update(layout[name].to_plotly_json(), overwrite=False)
    if figure.layout.height != layout.height:
        figure.layout.height = layout.height
    if not keep_axis:
        figure.layout.shapes = layout.shapes


def _speaker_counts(recording: Recording, diarization: Diarization | None) -> str:
    found = "–" if diarization is None else str(diarization.num_speakers)
    text = f"speakers <b>{found}</b>"
    if recording.reference is not None:
        text += f" (reference {recording.reference['speaker'].nunique()})"
    return f'<div class="wb-speakers">{text}</div>'
