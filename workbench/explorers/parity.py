"""Two runtimes frame by frame: from the verdict to one flip, its scores, its sound and what it changed."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from pyannote.core import Annotation, Timeline

from workbench.agreement import Backend, ParityParams, ParityResult
from workbench.agreement.layers import LadderResult
from workbench.agreement.sides import as_waveforms
from workbench.audio import find_recordings
from workbench.errors import InputError
from workbench.explorers.background import NewestOnly
from workbench.explorers.headline import static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.parity_canvas import WIDTH, scene_look, view_of
from workbench.explorers.parity_controls import HINT, SILENT
from workbench.explorers.parity_selection import ParitySelection
from workbench.explorers.parity_study import Pair, ParityStudy, Source
from workbench.explorers.parity_words import conditions_html, verdict_html
from workbench.explorers.redraw import update_layout, update_traces
from workbench.plots.lanes import from_axis
from workbench.plots.parity import ParityScene, plot_parity, plot_parity_ground
from workbench.rttm import read_rttms, read_uem
from workbench.runtimes import Runtime

MOST_EMBEDDED = 700_000  # bytes of a clip in a page without a kernel


def explore_parity(
    runtimes: Mapping[str, str | Runtime],
    audio: str | Path | list[str | Path] | Mapping[str, Source],
    references: str | Path | Mapping[str, Annotation] | None = None,
    *,
    uem: str | Path | Mapping[str, Timeline] | None = None,
    backend: Backend | None = None,
    params: ParityParams | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    ladder: bool = True,
) -> ParityScreen:
    """Every frame on which two runtimes decide otherwise: how close it was, where it starts, what it costs.

    Parameters
    ----------
    runtimes : name -> runtime string or loaded runtime, at least two
        The first is the baseline, the second the candidate; others can be chosen, and are compared then.
    audio : files and folders of recordings, or uri -> path or float array (num_samples,) at 16 kHz
    references : RTTM file, or uri -> Annotation, optional: adds what flips do to the DER
    uem, collar, skip_overlap : as of `score`
    backend : what follows the segmentation; by default local speakers are linked from chunk to chunk
    params : how runtimes are compared
    ladder : also compare them layer by layer, on the seconds that differ most
    """
    if len(runtimes) < 2:
        raise InputError("explore_parity compares runtimes: give at least two, as {'torch': …, 'onnx': …}")
    named = audio if isinstance(audio, Mapping) else find_recordings(_listed(audio))
    study = ParityStudy(
        runtimes=runtimes,
        recordings=as_waveforms(dict(named)),
        references=read_rttms(Path(references)) if isinstance(references, str | Path) else references,
        uem=read_uem(Path(uem)) if isinstance(uem, str | Path) else uem,
        backend=backend,
        params=params or ParityParams(),
        collar=collar,
        skip_overlap=skip_overlap,
        with_ladder=ladder,
    )
    return ParityScreen(study)


def parity_page(
    result: ParityResult, recordings: Mapping[str, Source], ladder: LadderResult | None = None
) -> str:
    """A comparison as one HTML page that needs no kernel and no network."""
    screen = ParityScreen(ParityStudy.of(result, recordings, ladder))
    return screen.to_html(include_plotlyjs=True, full_html=True)


class ParityScreen(ParitySelection):
    """The screen behind `explore_parity`; its controls are attributes.

    Attributes
    ----------
    study : runtimes, recordings, and what was found
    figure : plotly.graph_objects.FigureWidget; None until something has been compared
    flip : row of the selected flip in `flips`; None while nothing is selected
    marked : start and end (s) of the marked region
    """

    def __init__(self, study: ParityStudy):
        self.study = study
        self.figure: LiveFigure | None = None
        self._nothing_selected()
        self._pair: Pair | None = None
        self._names = ("", "")
        self._scene: ParityScene | None = None
        self._number = 0
        self._seen = (0.0, 0.0)
        self._width = float(WIDTH)
        self._sent = 0
        self._tables: dict[str, pd.DataFrame] = {}
        self._busy = False  # while controls are set by the program
        is_static = os.environ.get("WORKBENCH_STATIC") == "1"
        self._work = NewestOnly(threaded=not is_static)
        first, second, *_ = study.runtimes
        self._build_controls(list(study.runtimes), first, second)
        super().__init__(self._rows())
        self.add_class("wb-screen")
        guard = self.errors.guard
        for control in (self.baseline, self.candidate):
            control.observe(guard(self._choose_sides), names="value")
        self.recording.observe(guard(self._opened), names="value")
        self.everything.observe(guard(self._redraw), names="value")
        self.drag.observe(guard(self._dragging), names="value")
        self.before.on_click(guard(lambda _button: self._step(-1)))
        self.after.on_click(guard(lambda _button: self._step(+1)))
        self.player.observe(guard(self._play_again), names="request")
        self.canvas.observe(guard(self._wished), names="wish")
        self.canvas.observe(guard(self._touched), names="touch")
        guard(self._choose_sides)()

    @property
    def result(self) -> ParityResult:
        """What was found for the runtimes that are chosen."""
        if self._pair is None:
            raise InputError("nothing has been compared yet")
        return self._pair.result

    # -- comparing -----------------------------------------------------------------------------

    def _choose_sides(self, _change: Any = None) -> None:
        """Compare the chosen runtimes, beside the kernel; newer choices cancel older work."""
        names = (self.baseline.value, self.candidate.value)
        if names[0] == names[1]:
            raise InputError(f"baseline and candidate are both {names[0]!r}: choose two different runtimes")
        if names in self.study.pairs:
            self._ready(names)
            return
        self._report("starting", 0.0)
        self._work.submit(
            lambda check: self.study.compare(names, self._report, check),
            done=self.errors.guard(lambda _pair: self._ready(names)),
            failed=self._failed,
        )

    def _report(self, words: str, share: float) -> None:
        self.stage.value, self.bar.value = words, share
        self.progress.layout.display = ""

    def _failed(self, error: BaseException) -> None:
        self.progress.layout.display = "none"
        if (
            not self._work.is_watched
        ):  # this runs inside a guarded call, which would take the words away again
            raise error
        self.errors.show(error)

    def _ready(self, names: tuple[str, str]) -> None:
        """Show a pair that has been compared, on the recording that was shown, or the worst."""
        self.progress.layout.display = "none"
        self._pair, self._names = self.study.pairs[names], names
        uris = self._pair.uris
        if not uris:
            raise InputError(self.result.verdict)
        kept = self.recording.value if self.recording.value in uris else uris[0]
        self._busy = True
        try:
            self.recording.options = uris
            self.recording.value = kept
        finally:
            self._busy = False
        self.verdict.value = verdict_html(self.result)
        self.conditions.value = conditions_html(self.result)
        self._opened()

    # -- drawing -------------------------------------------------------------------------------

    def _opened(self, _change: Any = None) -> None:
        """Another recording, or other runtimes: nothing is selected any more."""
        if self._busy or self._pair is None:
            return
        self._nothing_selected()
        self._redraw()
        self.player.text = HINT if self._shown.has_audio else SILENT

    def _redraw(self, _change: Any = None) -> None:
        """Everything anew: the panels by plotly, the lanes and the selection by the canvas."""
        if self._busy or self._pair is None:
            return
        same = self._scene is not None and self._scene.uri == self.recording.value
        self._scene = self.study.scene(self._names, self.recording.value, self.everything.value)
        self._number += 1
        drawn = plot_parity_ground(self._scene)
        self._tables = dict(drawn.tables)
        self.canvas.look = scene_look(self._scene, self._number)
        self._detail()
        if same and self._seen[1] > self._seen[0]:
            self.look(*self._seen)
        else:
            self.look(0.0, self._scene.duration)
        if self.figure is None:
            self._begin(drawn.figure)
            return
        self._busy = True
        try:
            with self.figure.batch_update():
                update_traces(self.figure, drawn.figure)
                update_layout(self.figure, drawn.figure, keep=("xaxis",) if same else ())
        finally:
            self._busy = False

    def _begin(self, figure: go.Figure) -> None:
        """The figure, once there is something to draw."""
        self.figure = LiveFigure(figure)
        self.children = self._rows()
        guard = self.errors.guard
        self.figure.layout.xaxis.on_change(guard(self._zoomed), "range")
        for trace in self.figure.data:
            if trace.name.startswith("margins "):
                trace.on_click(guard(self._clicked))
            elif trace.name.startswith("recordings "):
                trace.on_click(guard(self._chosen))
            elif trace.name == "transitions":
                trace.on_click(guard(self._cell))

    def look(self, start: float, end: float) -> None:
        """Bring the time from `start` to `end` (s) into view."""
        self._show((start, end), moves=True)
        self._count()

    def _show(self, view: tuple[float, float], moves: bool) -> None:
        """Send what is in view; with `moves`, the browser moves there, else it asked for it."""
        self._seen = view
        packet = self.study.columns(self._names, self._shown).packet(view, self._shown.duration, self._width)
        self._sent += 1  # an answer that equals the one before has to be sent all the same
        self.canvas.lanes = packet | {"scene": self._number, "moves": moves, "serial": self._sent}

    def _wished(self, change: Any) -> None:
        """The mouse zoomed or dragged: what is in view now."""
        wish = change["new"]
        if wish.get("scene") != self._number:  # of a recording that is no longer shown
            return
        self._width = float(wish["width"])
        self._show(view_of(wish, self._shown.duration), moves=False)
        if self.marked is None:
            self._count()

    def _zoomed(self, _axis: Any, visible: Any) -> None:
        """A program gave plotly's time axis another range."""
        if not self._busy:
            start, end = (from_axis(value) for value in visible)
            self.look(max(start, 0.0), min(end, self._shown.duration))

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        self._work.wait()
        self.play_waiting()
        sides = " against ".join(html.escape(name) for name in reversed(self._names) if name)
        lines = [f'<div class="wb-about">{sides}</div>', self.verdict.value, self.conditions.value]
        lines.append(self.errors.value)
        if self._scene is None:
            return f'<div class="wb-screen">{"".join(lines)}</div>'
        drawn = plot_parity(self._scene, view=self._seen, **self._selected())
        title = f"Parity: {self._names[1]} against {self._names[0]}"
        below = [self.counts.value, self._heard() if self._replay else ""]
        return static_page(lines, go.Figure(drawn.figure), title, include_plotlyjs, full_html, below=below)

    def _heard(self) -> str:
        """The selection in words; a short clip comes along."""
        text = f'<div class="wb-selection">{html.escape(self.player.text)}</div>'
        if not self.player.wav or len(self.player.wav) > MOST_EMBEDDED:
            return text
        address = f"data:audio/wav;base64,{base64.b64encode(self.player.wav).decode('ascii')}"
        return f'{text}<audio controls preload="none" src="{address}"></audio>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if os.environ.get("WORKBENCH_STATIC") == "1":
            return {"text/html": self.to_html(), "text/plain": "ParityScreen"}
        return super()._repr_mimebundle_(**kwargs)


def _listed(audio: str | Path | list[str | Path]) -> list[Path]:
    paths = [audio] if isinstance(audio, str | Path) else audio
    return [Path(path) for path in paths]
