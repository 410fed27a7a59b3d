"""A port of the pipeline checked step by step: which step differs first, where, and what a stage costs."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from workbench.agreement.sides import as_waveforms
from workbench.audio import crop_audio, find_recordings
from workbench.errors import InputError
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.controls import choice
from workbench.explorers.headline import static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.playback import CLIP_LIMIT, Player, wav_bytes
from workbench.explorers.redraw import update_layout, update_traces
from workbench.plots import theme
from workbench.plots.spectrogram import Sound
from workbench.plots.steps import AROUND, OpenedStep, PortScene, combinations_html, plot_port, worst_cells
from workbench.plots.words import region
from workbench.spectrogram import spectrogram
from workbench.steps import STEPS, StepDifference, StepsFolder, StepsWalk, open_steps, step_of, walk_steps

if TYPE_CHECKING:
    from workbench.steps.swap import SwapResult

CONTEXT = 0.5  # s played before and after the element
ALL = ""
HINT = "Click a square: the element, both values, and its sound."
SAMPLE_RATE = 16000
_TIME = ("sample", "time_frame", "frame", "feature_frame")  # axes that values are shown along


def explore_port(
    sides: Sequence[str | Path | StepsFolder] | Mapping[str, str | Path],
    audio: str | Path | list[str | Path] | Mapping[str, Path | np.ndarray] | None = None,
    *,
    swap: SwapResult | None = None,
    tolerances: Mapping[str, tuple[float, float]] | None = None,
) -> PortScreen:
    """Recorded steps of several implementations: the first that differs is opened.

    Parameters
    ----------
    sides : folders that `workbench record --stages all` or another program wrote; the first is the baseline
        A mapping gives them names to be shown under.
    audio : files and folders of recordings, or uri -> path or float array (num_samples,) at 16 kHz, optional
    swap : of `swap_stages`, optional: adds what every stage costs
    tolerances : step -> absolute and relative tolerance, in place of the usual ones
    """
    if isinstance(sides, Mapping):
        names, folders = list(sides), [_opened(side) for side in sides.values()]
    else:
        folders = [_opened(side) for side in sides]
        names = [side.name for side in folders]
    if len(folders) < 2:
        raise InputError("explore_port compares folders of steps: give at least two, the baseline first")
    walk = walk_steps(folders, tolerances=tolerances)
    recordings: Mapping[str, Any] = {}
    if audio is not None:
        listed = [audio] if isinstance(audio, str | Path) else audio
        named = listed if isinstance(listed, Mapping) else find_recordings([Path(path) for path in listed])
        recordings = as_waveforms(dict(named))
    return PortScreen(walk, folders, names, recordings, swap)


class PortScreen(ipywidgets.VBox):
    """The screen behind `explore_port`; its controls are attributes.

    Attributes
    ----------
    walk : what was found
    figure : plotly.graph_objects.FigureWidget
    selected : side and step that are opened; None while nothing is
    """

    def __init__(
        self,
        walk: StepsWalk,
        folders: Sequence[StepsFolder],
        names: Sequence[str],
        recordings: Mapping[str, Any],
        swap: SwapResult | None = None,
    ):
        self.walk, self.swap = walk, swap
        self._shown_as = dict(zip(walk.sides, names, strict=True))
        self._folders = dict(zip(walk.sides, folders, strict=True))
        self._recordings = recordings
        self.selected: tuple[str, str] | None = None
        self._opened: OpenedStep | None = None
        self._sound: Sound | None = None
        self._replay: tuple[str, str, float, float] | None = None
        self.errors = ErrorStrip()
        uris = list(dict.fromkeys(each.uri for each in walk.walks))
        self.recording = choice(
            "Recording", [("all, the worst of each", ALL), *((uri, uri) for uri in uris)], ALL, 330, 68
        )
        self.verdict = ipywidgets.HTML(self._verdict(), layout={"width": "100%"})
        self.combinations = ipywidgets.HTML(self._combinations(), layout={"width": "100%"})
        self.player = Player(text=HINT)
        self.player.layout = {"flex": "1 1 auto", "min_width": "0"}
        self._scene = self._compose()
        self._select_first()
        self.figure = LiveFigure(plot_port(self._scene, sound=self._sound), scrollZoom=False)
        guard = self.errors.guard
        self.recording.observe(guard(self._chosen), names="value")
        self.player.observe(guard(self._play_again), names="request")
        for trace in self.figure.data:
            if trace.name == "steps":
                trace.on_click(guard(self._clicked))
        row = ipywidgets.HBox([self.recording], layout={"width": "100%"})
        row.add_class("wb-controls")
        super().__init__([self.verdict, row, self.errors, self.figure, self.player, self.combinations])
        self.add_class("wb-screen")

    def _compose(self) -> PortScene:
        cells = worst_cells(self.walk.table(), self.walk.sides[0], self.recording.value or None)
        shared = set(cells.loc[cells["status"] != "absent", "step"])
        steps = [step.name for step in STEPS if step.name in shared]
        cells = cells[cells["step"].isin(steps)].assign(side=cells["side"].map(self._shown_as))
        return PortScene(
            steps=steps,
            sides=list(self._shown_as.values()),
            cells=cells.reset_index(drop=True),
            selected=self.selected,
            opened=self._opened,
            waterfall=None if self.swap is None else self.swap.waterfall(),
            what="DER" if self.swap is None or self.swap.against_reference else "cross-DER",
            has_audio=bool(self._recordings),
        )

    def _verdict(self) -> str:
        lines = []
        for (baseline, _), words in zip(self.walk.pairs, self.walk.verdict, strict=False):
            if baseline != self.walk.sides[0]:
                continue
            text = html.escape(words)
            for own, name in self._shown_as.items():
                text = text.replace(html.escape(own), f"<b>{html.escape(name)}</b>")
            lines.append(text)
        if self.swap is not None:
            lines.append(f"Stage swap: {html.escape(self.swap.verdict)}")
        lines += [f"! {html.escape(remark)}" for remark in self.walk.remarks]
        lines += [f"✗ {html.escape(uri)}: {html.escape(problem)}" for uri, problem in self.walk.failed]
        return f'<div class="wb-tuning">{"<br>".join(lines)}</div>'

    def _combinations(self) -> str:
        if self.swap is None:
            return ""
        return combinations_html(self.swap.values, self.swap.players, self.swap.total)

    # -- selection -----------------------------------------------------------------------------

    def _select_first(self) -> None:
        """Open the first red square of the first side that has one, without playing it."""
        bad = self._scene.cells[self._scene.cells["status"] == "differs"]
        for side in self._scene.sides[1:]:
            steps = set(bad.loc[bad["side"] == side, "step"])
            first = next((step for step in self._scene.steps if step in steps), None)
            if first is not None:
                self.show_step(side, first, play=False)
                return

    def _chosen(self, _change: Any) -> None:
        """Another recording: open its first difference."""
        self.selected, self._opened, self._sound, self._replay = None, None, None, None
        self.player.text = HINT
        self._scene = self._compose()
        self._select_first()
        self._redraw()

    def _clicked(self, _trace: Any, points: Any, _state: Any) -> None:
        if not points.point_inds or points.point_inds[0] >= len(self._scene.cells):
            return
        cell = self._scene.cells.iloc[points.point_inds[0]]
        self.show_step(str(cell["side"]), str(cell["step"]))

    def show_step(self, side: str, step: str, play: bool = True) -> None:
        """Show the first element of a step that differs, on the recording where it differs most."""
        cell = self._scene.cells
        cell = cell[(cell["side"] == side) & (cell["step"] == step)]
        if not len(cell):
            raise InputError(f"no step {step!r} of {side!r}; steps are {', '.join(self._scene.steps)}")
        uri = str(cell["uri"].iloc[0])
        own = next(key for key, name in self._shown_as.items() if name == side)
        walk = next(each for each in self.walk.of(self.walk.sides[0], own) if each.uri == uri)
        found = next(each for each in walk.steps if each.step == step)
        self.selected = (side, step)
        self._opened = self._values(own, uri, found)
        words = f"{uri} · {step} of {side} · {found.words or theme.STATUSES[found.status].name}"
        self._sound, self._replay = None, None
        self.player.text = words
        self._listen(uri, found, words, play)
        self._scene = self._compose()
        if play:
            self._redraw()

    def _values(self, side: str, uri: str, found: StepDifference) -> OpenedStep | None:
        """Both sides over time, or along the last axis, around the first element that differs."""
        if found.index is None:
            return None
        step, arrays = step_of(found.step), []
        for name in (self.walk.sides[0], side):
            folder = self._folders[name]
            known = folder.names(uri if uri in folder.recordings else folder.uris[0])
            array = folder.load(uri if uri in folder.recordings else folder.uris[0], known[step.array][0])
            arrays.append(np.atleast_1d(np.squeeze(array)) if array.ndim > len(step.axes) else array)
        if any(len(found.index) != array.ndim for array in arrays):
            return None
        along = next((number for number, name in enumerate(step.axes) if name in _TIME), len(found.index) - 1)
        where = tuple(slice(None) if number == along else i for number, i in enumerate(found.index))
        try:
            rows = [np.asarray(array[where], dtype=float) for array in arrays]
        except IndexError:
            return None
        size, place = min(map(len, rows)), found.index[along]
        low, high = max(place - AROUND, 0), min(place + AROUND + 1, size)
        named = zip(step.axes, found.index, strict=False)
        words = [f"{axis} {i}" for number, (axis, i) in enumerate(named) if number != along]
        return OpenedStep(
            title=", ".join(words).replace("_", " "),
            positions=np.arange(low, high),
            baseline=rows[0][low:high],
            candidate=rows[1][low:high],
            place=place,
            axis=step.axes[along].replace("_", " "),
        )

    def _listen(self, uri: str, found: StepDifference, words: str, play: bool) -> None:
        """Sound of the element, or of all that differs, where the recording is there."""
        span = found.at
        if span is None and found.start is not None and found.end is not None:
            span = (found.start, found.end)
        if span is None:
            self.player.text = f"{words} · no time of its own"
            return
        if uri not in self._recordings:
            self.player.text = f"{words} · no audio: give audio=…"
            return
        start, end = max(span[0] - CONTEXT, 0.0), span[1] + CONTEXT
        waveform = self._heard(uri, start, min(end, start + CLIP_LIMIT))
        if not len(waveform):
            return
        self._sound = Sound(spectrum=spectrogram(waveform), start=start)
        when = "" if found.at is not None else f" · {region(*span)}"
        self._replay = (f"{words}{when}", uri, start, start + len(waveform) / SAMPLE_RATE)
        self.player.text = self._replay[0]
        if play:
            self.player.play(wav_bytes(waveform), start)

    def _heard(self, uri: str, start: float, end: float) -> np.ndarray:
        source = self._recordings[uri]
        if isinstance(source, Path):
            return crop_audio(source, start, end)
        return np.asarray(source[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], dtype=np.float32)

    def _play_again(self, _change: Any = None) -> None:
        if self._replay is None:
            raise InputError("nothing to play: click a square whose step has a place in time")
        words, uri, start, end = self._replay
        self.player.text = words
        self.player.play(wav_bytes(self._heard(uri, start, end)), start)

    def _redraw(self) -> None:
        drawn = plot_port(self._scene, sound=self._sound)
        with self.figure.batch_update():
            update_traces(self.figure, drawn)
            update_layout(self.figure, drawn)

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel; arguments as plotly's."""
        drawn = plot_port(self._scene, sound=self._sound)
        words = f'<div class="wb-selection" style="white-space:normal">{html.escape(self.player.text)}</div>'
        below = [words, self.combinations.value]
        if self._replay is not None:
            _, uri, start, end = self._replay
            clip = wav_bytes(self._heard(uri, start, min(end, start + 15)))
            address = f"data:audio/wav;base64,{base64.b64encode(clip).decode('ascii')}"
            below.insert(1, f'<audio controls preload="none" src="{address}"></audio>')
        lines = [self.verdict.value, self.errors.value]
        return static_page(lines, drawn, "Port check", include_plotlyjs, full_html, below=below)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if os.environ.get("WORKBENCH_STATIC") == "1":
            return {"text/html": self.to_html(), "text/plain": "PortScreen"}
        return super()._repr_mimebundle_(**kwargs)


def _opened(side: str | Path | StepsFolder) -> StepsFolder:
    return side if isinstance(side, StepsFolder) else open_steps(side)
