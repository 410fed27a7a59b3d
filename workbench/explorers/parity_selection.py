"""What is selected on the parity screen: a flip, a region, a recording; its words, scores and sound."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import InputError
from workbench.explorers.parity_canvas import detail_packet
from workbench.explorers.parity_controls import ParityControls
from workbench.explorers.parity_study import ParityStudy
from workbench.explorers.parity_words import flip_words, ledger_words, region_counts, region_words
from workbench.explorers.playback import CLIP_LIMIT, SAMPLE_RATE, wav_bytes
from workbench.plots.parity import ParityScene
from workbench.plots.parity_panels import FlipScores
from workbench.plots.spectrogram import Sound
from workbench.plots.words import region
from workbench.spectrogram import spectrogram

CONTEXT = 1.0  # s played before and after a flip
SHORT = 5.0  # s of sound that are sent at once
PAUSE = 0.15  # s that longer sound waits for the picture
SOUND_COLUMNS = 500  # of the spectrogram, which is as many pixels wide
CLOSEST = 20.0  # s, width of the view that a flip is brought into


class ParitySelection(ParityControls):
    """From a click to what it means; who inherits from this draws the rest.

    Attributes
    ----------
    study : runtimes, recordings, and what was found
    flip : row of the selected flip in `flips`; None while nothing is selected
    marked : start and end (s) of the marked region
    """

    study: ParityStudy
    flip: int | None
    marked: tuple[float, float] | None
    _names: tuple[str, str]
    _scene: ParityScene | None
    _number: int  # of the scene: the browser names it with whatever is clicked
    _seen: tuple[float, float]  # start and end (s) of what is visible
    _tables: dict[str, pd.DataFrame]
    _scores: FlipScores | None
    _sound: Sound | None
    _replay: tuple[str, float, float] | None
    _waiting_clip: tuple[np.ndarray, float] | None  # samples, and where they begin (s)

    def _nothing_selected(self) -> None:
        self.flip, self.marked, self._scores, self._sound, self._replay = None, None, None, None, None
        self._waiting_clip = None

    @property
    def flips(self) -> pd.DataFrame:
        """Flips of the recording that is shown, by time."""
        return pd.DataFrame() if self._scene is None else self._scene.flips

    @property
    def _shown(self) -> ParityScene:
        if self._scene is None:
            raise InputError("nothing has been compared yet")
        return self._scene

    def look(self, start: float, end: float) -> None:
        """Bring the time from `start` to `end` (s) into view."""
        raise NotImplementedError

    # -- what the mouse did --------------------------------------------------------------------

    def _touched(self, change: Any) -> None:
        """A tick, a stretch of the output, or a region, on the canvas."""
        touch = change["new"]
        if touch.get("scene") != self._number:  # of a recording that is no longer shown
            return
        if touch["kind"] == "flip":
            self.select(int(touch["row"]))
        elif touch["kind"] == "region":
            self.hear_region(float(touch["start"]), float(touch["end"]))
        else:
            self.mark(float(touch["start"]), float(touch["end"]))

    def _chosen(self, _trace: Any, points: Any, _state: Any) -> None:
        """A recording of the overview."""
        if points.point_inds:
            self.recording.value = self._shown.damage["uri"].iloc[points.point_inds[0]]

    def _clicked(self, trace: Any, points: Any, _state: Any) -> None:
        """A mark of the scatter."""
        table = self._tables[trace.name]
        if points.point_inds and points.point_inds[0] < len(table):  # else drawn before the last redraw
            self.select(int(table["row"].iloc[points.point_inds[0]]))

    def _cell(self, _trace: Any, points: Any, _state: Any) -> None:
        """A cell of the matrix: its flip with the largest margin."""
        if not points.point_inds:
            return
        row, column = points.point_inds[0]
        found = self.flips[(self.flips["baseline"] == row) & (self.flips["candidate"] == column)]
        if not len(found):
            raise InputError("this recording has no such flip; other recordings do: choose one above")
        self.select(int(found["margin"].fillna(np.inf).idxmax()))

    def _dragging(self, change: Any) -> None:
        """What dragging does; going back to moving lets go of the marked region."""
        self.canvas.mode = change["new"]
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
            place = int(np.searchsorted(times, self._seen[0]))
            self.select(int(rows[min(place, len(rows) - 1)]))
            return
        place = int(np.searchsorted(rows, self.flip))
        if direction > 0 and place < len(rows) and rows[place] == self.flip:
            place += 1
        place = place - 1 if direction < 0 else place
        self.select(int(rows[int(np.clip(place, 0, len(rows) - 1))]))

    # -- what it means -------------------------------------------------------------------------

    def select(self, row: int) -> None:
        """Look at one flip (a row of `flips`): its scores, its words, its sound."""
        scene = self._shown
        if not 0 <= row < len(scene.flips):
            raise InputError(f"no flip {row}: {scene.uri} has {len(scene.flips)}, numbered from 0")
        flip = scene.flips.iloc[row]
        self.flip, time = row, float(flip["time"])
        self._scores = self.study.scores(self._names, scene.uri, flip)
        low, high = self._seen
        if not low <= time <= high:
            width = min(CLOSEST, scene.duration)
            low = min(max(time - width / 2, 0.0), scene.duration - width)
            self.look(low, low + width)
        self._hear(flip_words(scene, flip), time, time)

    def mark(self, start: float, end: float) -> None:
        """Count what lies between `start` and `end` (s), and play it."""
        start, end = max(float(start), 0.0), min(float(end), self._shown.duration)
        if not end > start:
            raise InputError(f"a region ends after it begins, got {start:g} to {end:g} s")
        self.marked = (start, end)
        self._count()
        self._hear(f"{self._shown.uri} · {region(start, end)} · marked", start, end, context=0.0)

    def hear_region(self, start: float, end: float) -> None:
        """Mark and play a stretch in which the outputs differ."""
        self.marked = (start, end)
        self._count()
        middles = (self._shown.ledger["start"] + self._shown.ledger["end"]) / 2
        nearest = self._shown.ledger.iloc[int((middles - (start + end) / 2).abs().argmin())]
        self._hear(f"{self._shown.uri} · the outputs differ: {ledger_words(nearest)}", start, end)

    def region_counts(self) -> dict[str, float]:
        """Flips (also near-ties, real ones, those that reach the output) and seconds of the marked region."""
        return region_counts(self._shown, *(self.marked or self._seen))

    def _count(self) -> None:
        """Flips of the marked region; without one, of what is in view."""
        start, end = self.marked or self._seen
        self.counts.value = region_words(self._shown, start, end, self.marked is not None)

    def _selected(self) -> dict[str, Any]:
        """As `plot_parity` takes it."""
        return {"selection": self.marked, "flip": self.flip, "scores": self._scores, "sound": self._sound}

    def _detail(self) -> None:
        """Show the selected flip, or the marked region; lanes and panels stay as they are."""
        time = None if self.flip is None else float(self.flips["time"].iloc[self.flip])
        self.canvas.detail = detail_packet(
            flip=time, marked=self.marked, scores=self._scores, sound=self._sound
        )

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
        self._sound = Sound(spectrum=spectrogram(waveform, num_frames=SOUND_COLUMNS), start=begin)
        self._replay = (words, begin, finish)
        self._detail()
        self.player.text = words
        self._play(waveform, begin)

    def _play(self, waveform: np.ndarray, begin: float) -> None:
        """Play a clip; a long one comes after what is seen of it, which its megabytes would hold up."""
        self._waiting_clip = None  # newer sound replaces older
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or len(waveform) <= SHORT * SAMPLE_RATE:
            self.player.play(wav_bytes(waveform), begin)
            return
        self._waiting_clip = (waveform, begin)
        loop.call_later(PAUSE, self.errors.guard(self.play_waiting))

    def play_waiting(self) -> None:
        """Send the clip that waits, if there is one."""
        if self._waiting_clip is not None:
            (waveform, begin), self._waiting_clip = self._waiting_clip, None
            self.player.play(wav_bytes(waveform), begin)

    def _play_again(self, _change: Any = None) -> None:
        """Play the selection; without one, what is in view."""
        scene = self._shown
        words, start, end = self._replay or (f"{scene.uri} · what is in view", *self._seen)
        if not scene.has_audio:
            raise InputError(f"no audio for {scene.uri}: give audio=…, a folder that holds it")
        end = min(end, start + CLIP_LIMIT)
        self.player.text = words
        self._waiting_clip = None
        self.player.play(wav_bytes(self.study.heard(scene.uri, start, end)), start)
