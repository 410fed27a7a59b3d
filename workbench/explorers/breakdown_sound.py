"""What can be heard of a breakdown: the selection, both sides of a change, all of one speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from workbench.audio import crop_audio
from workbench.errors import InputError
from workbench.explorers.breakdown_controls import ALL, ErrorControls
from workbench.explorers.clips import NOWHERE, cut_clips
from workbench.explorers.playback import CLIP_LIMIT, wav_bytes
from workbench.plots.breakdown import Scene
from workbench.plots.words import clock, region
from workbench.review import Review

BESIDE = 2.0  # s played on each side of a change of speaker


class SoundControls(ErrorControls):
    """Plays parts of the recording that is shown."""

    review: Review
    selection: tuple[str, float, float] | None
    _scene: Scene
    _replay: tuple[str, bytes, float] | None = None

    def _view(self) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        return 0.0, self._scene.duration

    def _path(self) -> Path:
        uri = self.recording.value
        if uri not in self.review.audio:
            raise InputError(f"no audio for {uri}: give audio=…, a folder that holds it")
        return self.review.audio[uri]

    def _play(self, words: str, wav: bytes, start: float) -> None:
        self._replay = (words, wav, start)
        self.player.text = words
        self.player.play(wav, start)

    def _play_again(self, _change: Any = None) -> None:
        """Play the selection; without one, what is in view."""
        if self._replay is None:
            start, end = self._view()
            self._play_stretch(start, end, "what is in view")
        else:
            self._play(*self._replay)

    def _play_stretch(self, start: float, end: float, what: str) -> None:
        end = min(end, self._scene.duration, start + CLIP_LIMIT)
        words = f"{self.recording.value} · {region(start, end)} · {what} · {end - start:.1f} s"
        self._play(words, wav_bytes(crop_audio(self._path(), start, end)), start)

    def _play_beside(self, side: int) -> None:
        """What is heard on one side of the change of speaker that is nearest to the selection."""
        place = self._view()[0] if self.selection is None else self.selection[1]
        turns = self._scene.reference
        changes = np.unique(turns[["start", "end"]].to_numpy(dtype=float).ravel())
        if not len(changes):
            raise InputError("nobody speaks in the reference of this recording")
        change = float(changes[np.abs(changes - place).argmin()])
        start, end = (change - BESIDE, change) if side < 0 else (change, change + BESIDE)
        words = f"{'before' if side < 0 else 'after'} the change at {clock(change, 3)}"
        self._play_stretch(max(start, 0.0), end, words)

    def _play_speaker(self, _button: Any = None) -> None:
        """All that one reference speaker says, one turn after the other."""
        who = self.voice.value
        if who == ALL:
            raise InputError("choose a speaker first: the list is right of the button")
        turns = self._scene.reference
        own = turns[turns["speaker"] == who]
        stretches = list(zip(own["start"], own["end"], strict=True))
        wav, number, heard = cut_clips(self._path(), stretches)
        count = f"{number} of {len(own)} turns" if number < len(own) else f"all {len(own)} turns"
        self._play(f"{self.recording.value} · reference {who} · {count} · {heard:.1f} s", wav, NOWHERE)
