"""Two runtimes frame by frame: from the verdict to one flip, its scores, its sound and what it changed."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
from workbench.explorers.parity_controls import HINT, SILENT, ParityControls
from workbench.explorers.parity_study import Pair, ParityStudy, Source
from workbench.explorers.parity_words import (
    conditions_html,
    flip_words,
    ledger_words,
    region_counts,
    region_words,
    verdict_html,
)
from workbench.explorers.playback import CLIP_LIMIT, wav_bytes
from workbench.explorers.redraw import update_layout, update_traces
from workbench.plots import theme
from workbench.plots.lanes import from_axis, on_axis
from workbench.plots.parity import ParityScene, draw_detail, plot_parity, plot_parity_lanes
from workbench.plots.parity_panels import FlipScores
from workbench.plots.recording import Screen
from workbench.plots.spectrogram import Sound
from workbench.plots.words import region
from workbench.rttm import read_rttms, read_uem
from workbench.runtimes import Runtime
from workbench.spectrogram import spectrogram

CONTEXT = 1.0  # s played before and after a flip
MOST_EMBEDDED = 700_000  # bytes of a clip in a page without a kernel
CLOSEST = 20.0  # s, width of the view that a flip is brought into


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


class ParityScreen(ParityControls):
    """The screen behind `explore_parity`; its controls are attributes.

    Attributes
    ----------
    study : runtimes, recordings, and what was found
    figure : plotly.graph_objects.FigureWidget; None until something has been compared
    flip : row of the selected flip in `flips`; None while nothing is selected
    marked : start and end (s) of the brushed region
    """

    def __init__(self, study: ParityStudy):
        self.study = study
        self.figure: go.FigureWidget | None = None
        self.flip: int | None = None
        self.marked: tuple[float, float] | None = None
        self._pair: Pair | None = None
        self._names = ("", "")
        self._scene: ParityScene | None = None
        self._lanes: Screen | None = None
        self._tables: dict[str, pd.DataFrame] = {}
        self._scores: FlipScores | None = None
        self._sound: Sound | None = None
        self._replay: tuple[str, float, float] | None = None
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
        guard(self._choose_sides)()

    @property
    def flips(self) -> pd.DataFrame:
        """Flips of the recording that is shown, by time."""
        return pd.DataFrame() if self._scene is None else self._scene.flips

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
        self.flip, self.marked, self._scores, self._sound, self._replay = None, None, None, None, None
        self._redraw()
        self.player.text = HINT if self._shown.has_audio else SILENT

    @property
    def _shown(self) -> ParityScene:
        if self._scene is None:
            raise InputError("nothing has been compared yet")
        return self._scene

    def _redraw(self, _change: Any = None) -> None:
        if self._busy or self._pair is None:
            return
        same = self._scene is not None and self._scene.uri == self.recording.value
        view = self._view() if same and self.figure is not None else None
        self._scene = self.study.scene(self._names, self.recording.value, self.everything.value)
        self._lanes = plot_parity_lanes(self._scene, view or (0.0, self._scene.duration))
        drawn = plot_parity(self._scene, view=view, lanes=self._lanes, **self._selected())
        self._tables = dict(drawn.tables)
        if self.figure is None:
            self._begin(drawn.figure)
        else:
            self._busy = True
            try:
                with self.figure.batch_update():
                    update_traces(self.figure, drawn.figure)
                    update_layout(self.figure, drawn.figure, keep=("xaxis",) if view else ())
            finally:
                self._busy = False
        self._count()

    def _begin(self, figure: go.Figure) -> None:
        """The figure, once there is something to draw."""
        figure.layout.dragmode = self.drag.value
        self.figure = go.FigureWidget(figure)
        self.figure._config = theme.config()
        self.children = self._rows()
        guard = self.errors.guard
        self.figure.layout.xaxis.on_change(guard(self._zoomed), "range", "autorange")
        for trace in self.figure.data:
            if trace.name.startswith(("flips ", "margins ")):
                trace.on_click(guard(self._clicked))
            elif trace.name == "output":
                trace.on_click(guard(self._region))
            elif trace.name.startswith("recordings "):
                trace.on_click(guard(self._chosen))
            elif trace.name == "transitions":
                trace.on_click(guard(self._cell))
            elif trace.name == "brush":
                trace.on_selection(guard(self._brushed))

    def _selected(self) -> dict[str, Any]:
        return {
            "selection": self.marked,
            "flip": self.flip,
            "scores": self._scores,
            "sound": self._sound,
        }

    def _view(self) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        if self.figure is None:
            return 0.0, self._shown.duration
        start, end = (from_axis(value) for value in self.figure.layout.xaxis.range)
        return max(start, 0.0), min(end, self._shown.duration)

    def _zoomed(self, axis: Any, _range: Any, autorange: Any) -> None:
        """Draw what is in view now; nothing but the lanes changes."""
        if self._busy or self.figure is None:
            return
        self._busy = True
        try:
            if autorange:  # a double click; written out as a range, so that the next one is a change again
                with self.figure.batch_update():
                    axis.range = (float(on_axis(0.0)), float(on_axis(self._shown.duration)))
                    axis.autorange = False
            self._lanes = plot_parity_lanes(self._shown, self._view())
            self._tables |= self._lanes.tables
            known = len(self._lanes.figure.layout.images)
            with self.figure.batch_update():
                update_traces(self.figure, self._lanes.figure)
                self.figure.layout.images = [
                    *self._lanes.figure.layout.images,
                    *self.figure.layout.images[known:],
                ]
        finally:
            self._busy = False
        self._count()

    def _detail(self) -> None:
        """Show the selected flip, or the marked region; lanes and panels stay as they are."""
        if self.figure is None or self._lanes is None:
            return
        traces, layout = draw_detail(self._shown, self._lanes, view=self._view(), **self._selected())
        self._busy = True
        try:
            with self.figure.batch_update():
                update_traces(self.figure, go.Figure(traces))
                for name in ("images", "annotations", "shapes"):
                    self.figure.layout[name] = layout[name]
                self.figure.layout.xaxis5.update(layout["xaxis5"])
                self.figure.layout.yaxis9.update(layout["yaxis9"])
        finally:
            self._busy = False

    def _count(self) -> None:
        """Flips of the marked region; without one, of what is in view."""
        start, end = self.marked or self._view()
        self.counts.value = region_words(self._shown, start, end, self.marked is not None)

    def region_counts(self) -> dict[str, float]:
        """Flips (also near-ties, real ones, those that reach the output) and seconds of the marked region."""
        return region_counts(self._shown, *(self.marked or self._view()))

    # -- selection -----------------------------------------------------------------------------

    def _chosen(self, _trace: Any, points: Any, _state: Any) -> None:
        """A recording of the overview."""
        if points.point_inds:
            self.recording.value = self._shown.damage["uri"].iloc[points.point_inds[0]]

    def _clicked(self, trace: Any, points: Any, _state: Any) -> None:
        """A tick, or a mark of the scatter."""
        if not points.point_inds:
            return
        table = self._tables[trace.name]
        number = points.point_inds[0] // (3 if trace.name.startswith("flips") else 1)
        if number < len(table):  # else drawn before the last redraw
            self.select(int(table["row"].iloc[number]))

    def _cell(self, _trace: Any, points: Any, _state: Any) -> None:
        """A cell of the matrix: its flip with the largest margin."""
        if not points.point_inds:
            return
        row, column = points.point_inds[0]
        found = self.flips[(self.flips["baseline"] == row) & (self.flips["candidate"] == column)]
        if not len(found):
            raise InputError("this recording has no such flip; other recordings do: choose one above")
        self.select(int(found["margin"].idxmax()))

    def _region(self, trace: Any, points: Any, _state: Any) -> None:
        """A stretch in which the outputs differ: mark and play it."""
        table = self._tables[trace.name]
        if not points.point_inds or points.point_inds[0] >= len(table):
            return
        row = table.iloc[points.point_inds[0]]
        start, end = float(row["start"]), float(row["end"])
        self.marked = (start, end)
        self._detail()
        self._count()
        middles = (self._shown.ledger["start"] + self._shown.ledger["end"]) / 2
        nearest = self._shown.ledger.iloc[int((middles - (start + end) / 2).abs().argmin())]
        words = f"{self._shown.uri} · the outputs differ: {ledger_words(nearest)}"
        self._hear(words, start, end)

    def _brushed(self, _trace: Any, points: Any, selector: Any) -> None:
        """A region drawn over the lanes."""
        xs = getattr(selector, "xrange", None)
        if xs is None:
            xs = points.xs
        if xs is None or not len(xs):
            return
        ends = sorted(from_axis(value) for value in (min(xs, key=from_axis), max(xs, key=from_axis)))
        self.mark(max(ends[0], 0.0), min(ends[1], self._shown.duration))

    def mark(self, start: float, end: float) -> None:
        """Count what lies between `start` and `end` (s), and play it."""
        if not end > start:
            raise InputError(f"a region ends after it begins, got {start:g} to {end:g} s")
        self.marked = (float(start), float(end))
        self._detail()
        self._count()
        self._hear(f"{self._shown.uri} · {region(start, end)} · marked", start, end, context=0.0)

    def _dragging(self, change: Any) -> None:
        """What dragging does; going back to moving lets go of the marked region."""
        if self.figure is not None:
            self.figure.layout.dragmode = change["new"]
        if change["new"] == "pan" and self.marked is not None:
            self.marked = None
            self._detail()
            self._count()

    def _step(self, direction: int) -> None:
        """The neighbouring flip; without a selection, the first in view."""
        rows = np.arange(len(self.flips))
        if self.only_real.value:
            rows = rows[~self.flips["near_tie"].to_numpy(dtype=bool)]
        if not len(rows):
            raise InputError("no such flip in this recording: untick 'real only', or choose another one")
        if self.flip is None:
            times = self.flips["time"].to_numpy()[rows]
            place = int(np.searchsorted(times, self._view()[0]))
            self.select(int(rows[min(place, len(rows) - 1)]))
            return
        place = int(np.searchsorted(rows, self.flip))
        if direction > 0 and place < len(rows) and rows[place] == self.flip:
            place += 1
        place = place - 1 if direction < 0 else place
        self.select(int(rows[int(np.clip(place, 0, len(rows) - 1))]))

    def select(self, row: int) -> None:
        """Look at one flip (a row of `flips`): its scores, its words, its sound."""
        scene = self._shown
        if not 0 <= row < len(scene.flips):
            raise InputError(f"no flip {row}: {scene.uri} has {len(scene.flips)}, numbered from 0")
        flip = scene.flips.iloc[row]
        self.flip, time = row, float(flip["time"])
        self._scores = self.study.scores(self._names, scene.uri, flip)
        low, high = self._view()
        if self.figure is not None and not low <= time <= high:
            width = min(CLOSEST, scene.duration)
            low = min(max(time - width / 2, 0.0), scene.duration - width)
            self.figure.layout.xaxis.range = (float(on_axis(low)), float(on_axis(low + width)))
        self._hear(flip_words(scene, flip), time, time)

    def _hear(self, words: str, start: float, end: float, context: float = CONTEXT) -> None:
        scene = self._shown
        self._sound = None
        if not scene.has_audio:
            self.player.text = f"{words} · no audio"
            self._detail()
            return
        begin = max(start - context, 0.0)
        finish = min(end + context, scene.duration, begin + CLIP_LIMIT)
        waveform = self.study.heard(scene.uri, begin, finish)
        self._sound = Sound(spectrum=spectrogram(waveform), start=begin)
        self._replay = (words, begin, finish)
        self._detail()
        self.player.text = words
        self.player.play(wav_bytes(waveform), begin)

    def _play_again(self, _change: Any = None) -> None:
        """Play the selection; without one, what is in view."""
        scene = self._shown
        words, start, end = self._replay or (f"{scene.uri} · what is in view", *self._view())
        if not scene.has_audio:
            raise InputError(f"no audio for {scene.uri}: give audio=…, a folder that holds it")
        end = min(end, start + CLIP_LIMIT)
        self.player.text = words
        self.player.play(wav_bytes(self.study.heard(scene.uri, start, end)), start)

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        self._work.wait()
        sides = " against ".join(html.escape(name) for name in reversed(self._names) if name)
        lines = [f'<div class="wb-about">{sides}</div>', self.verdict.value, self.conditions.value]
        lines.append(self.errors.value)
        if self._scene is None:
            return f'<div class="wb-screen">{"".join(lines)}</div>'
        drawn = plot_parity(self._scene, view=self._view(), lanes=self._lanes, **self._selected())
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
