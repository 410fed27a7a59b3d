"""What another program may have fed its model with, tried out: the model that is here hears it, too.

A dump of scores alone says nothing about its front end. But where the other side is a model that can be run,
it can be given samples that are shifted, scaled, normalised, of another channel or another rate: what then
gives the dump is what the other program did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.sides import SAMPLE_RATE, Feed, LiveFeed, RecordedFeed
from workbench.agreement.time_base import best_lag
from workbench.segmentation import cut_chunks

_CHUNKS = 3  # on which guesses are tried
_SECONDS = 30.0  # of the model's time
_LEFT = 0.15  # part of the difference (rms) that a right guess leaves at most
_NOTICEABLE = 1e-3  # difference (rms, nats) from which on a reason is looked for
_FLOOR = -12.0  # nats: below, scores say no more than "no"
_BIT = 2.0**-15
_RATES = ((44100, 48000), (48000, 44100), (8000, 16000), (22050, 16000), (24000, 16000))

Heard = Callable[[np.ndarray], np.ndarray]
"""A waveform (num_samples,) as it is -> as another program may have heard it."""


def try_hypotheses(
    feeds: tuple[Feed, Feed], row: RecordingParity, channels: Mapping[str, np.ndarray], source: Path | None
) -> list[Finding]:
    """The input under which the model that is run gives what was recorded; empty where none is found.

    Parameters
    ----------
    feeds : both sides, of which one must be a model and one recorded
    row : what their comparison gave
    channels : waveforms of other channels of the file, at the model's rate
    source : the recording's file
    """
    live = next((feed for feed in feeds if isinstance(feed, LiveFeed)), None)
    recorded = next((feed for feed in feeds if isinstance(feed, RecordedFeed)), None)
    if live is None or recorded is None or row.comparison is None or row.aligned:
        return []
    trial = _Trial(live, recorded, row)
    if not trial.before > _NOTICEABLE:
        return []
    side = "candidate" if feeds[0] is live else "baseline"
    guesses = [
        *(_channel(name, waveform, source) for name, waveform in channels.items()),
        *guesses_of_recordings(),
        *guesses_of_chunks(),
    ]
    best = trial.best(guesses)
    if best is not None:
        words = f"the {side} {best.said}"
        return [Finding(kind=best.kind, words=words, side=side, details={"heard": best.said})]
    return trial.shift(side)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Something else that a program may have heard."""

    kind: str
    said: str
    change: Heard | None = None  # of the recording
    per_chunk: Heard | None = None  # of every chunk


class _Trial:
    """Chunks that differ, and how near the model comes to what was recorded of them."""

    def __init__(self, live: LiveFeed, recorded: RecordedFeed, row: RecordingParity):
        self.live, self.recorded, self.geometry = live, recorded, row.geometry
        self.chunking = live.chunking
        comparison = row.comparison
        if comparison is None:
            raise ValueError("only recordings that were compared can be tried on")
        full = max(1, min(self.chunking.num_full, live.num_chunks))
        variety = (np.diff(comparison.baseline[:full].astype(np.int64), axis=1) != 0).sum(axis=1)
        thirds = np.array_split(np.arange(full), min(_CHUNKS, full))  # early, middle and late
        self.chunks = np.array([part[int(variety[part].argmax())] for part in thirds])
        self.theirs = _clipped(recorded.run(self.chunks))
        began = perf_counter()
        mine = _clipped(live.runtime.segment(live.waveforms(self.chunks)))
        self.seconds = (perf_counter() - began) / len(self.chunks)  # of one chunk
        self.fits = mine.shape == self.theirs.shape
        self.errors = _rms_by_chunk(mine - self.theirs) if self.fits else np.zeros(len(self.chunks))
        self.before = float(np.sqrt(np.mean(self.errors**2)))
        self.mine = mine
        self.spent = 0.0
        self.margin = 2 * SAMPLE_RATE  # zeros before the recording, for chunks that begin earlier
        self.padded = np.pad(live.waveform, (self.margin, 0))
        self.first = int(self.errors.argmax())  # on which everything is tried first

    def affordable(self, runs: int) -> bool:
        """Whether so many chunks more can be run."""
        return self.spent + runs * self.seconds < _SECONDS

    def best(self, guesses: Sequence[Guess]) -> Guess | None:
        """The guess that explains most, if it explains enough; all are tried on one chunk first."""
        found: dict[int, float] = {}
        for number, guess in enumerate(guesses):
            if self.affordable(1):
                found[number] = self.left(guess, [self.first])
        for number in sorted(found, key=lambda each: found[each]):
            if found[number] >= _LEFT:
                break
            if self.left(guesses[number], list(range(len(self.chunks)))) < _LEFT:
                return guesses[number]
        return None

    def left(self, guess: Guess, rows: list[int]) -> float:
        """Part of the difference that is left if the model hears something else, in some of the chunks."""
        heard = self.live.waveform if guess.change is None else guess.change(self.live.waveform)
        starts = self.chunking.starts[self.chunks[rows]]
        chunks = cut_chunks(heard.astype(np.float32), starts, self.chunking.window_samples)
        if guess.per_chunk is not None:
            chunks = np.stack([guess.per_chunk(chunk) for chunk in chunks]).astype(np.float32)
        found = self.run(chunks)
        before = float(np.sqrt(np.mean(self.errors[rows] ** 2)))
        return float(np.sqrt(np.mean((found - self.theirs[rows]) ** 2))) / max(before, 1e-12)

    def run(self, chunks: np.ndarray) -> np.ndarray:
        """Scores of chunks (num_chunks, num_samples)."""
        self.spent += len(chunks) * self.seconds
        return _clipped(self.live.runtime.segment(chunks))

    def shift(self, side: str) -> list[Finding]:
        """A start of the chunks that explains them: the same shift for all, or one that grows."""
        if self.geometry is None or not self.affordable(36):
            return []
        if self._offset(self.first)[1] > _LEFT:
            return []
        found = [self._offset(row) for row in range(len(self.chunks))]
        if any(left > _LEFT for _, left in found):
            return []
        offsets = np.array([offset for offset, _ in found])
        numbers = self.chunks.astype(float)
        if np.ptp(offsets) <= 2:
            late = -round(float(np.median(offsets)))
            if not late:
                return []
            milliseconds = 1000 * late / SAMPLE_RATE
            words = (
                f"the {side} hears the samples {'late' if late > 0 else 'early'} by {abs(late)} "
                f"({abs(milliseconds):.2f} ms)"
            )
            details = {"samples": late, "milliseconds": milliseconds}
            return [Finding(kind="sample_shift", words=words, side=side, details=details)]
        slope, start = np.polyfit(numbers, offsets, 1)
        if np.abs(slope * numbers + start - offsets).max() > 4:
            return []
        step = float(np.diff(self.chunking.starts[:2])[0])
        words = (
            f"the {side}'s chunks start {1000 * (step + slope) / SAMPLE_RATE:.4g} ms apart "
            f"({step + slope:.0f} samples) instead of {1000 * step / SAMPLE_RATE:.4g} ms ({step:.0f}): the "
            f"last one is off by {1000 * abs(slope) * (self.live.num_chunks - 1) / SAMPLE_RATE:.0f} ms"
        )
        details = {"step_samples": step + slope, "expected_samples": step}
        return [Finding(kind="chunk_step", words=words, side=side, details=details)]

    def _offset(self, row: int) -> tuple[int, float]:
        """Samples by which a chunk starts later, and what part of the difference that leaves."""
        if self.geometry is None or self.errors[row] < _NOTICEABLE:
            return 0, 0.0
        hop = round(self.geometry.frame_step * SAMPLE_RATE)
        lag, _ = best_lag(self.mine[row : row + 1], self.theirs[row : row + 1], self.geometry.frame_step)
        centre = -round(lag * hop)
        best, left = 0, 1.0
        for width in (max(1, hop // 4), max(1, hop // 16), max(1, hop // 80), 1):
            tried = centre + width * np.arange(-4, 5)
            starts = self.chunking.starts[self.chunks[row]] + tried + self.margin
            inside = starts >= 0
            if not inside.any():
                break
            chunks = cut_chunks(self.padded, starts[inside], self.chunking.window_samples)
            errors = _rms_by_chunk(self.run(chunks) - self.theirs[row])
            centre = int(tried[inside][errors.argmin()])
            best, left = centre, float(errors.min() / self.errors[row])
        return best, left


def _channel(name: str, waveform: np.ndarray, source: Path | None) -> Guess:
    said = f"heard {name} of {source}, not the first channel"
    return Guess(kind="channel", said=said, change=lambda _: waveform)


def guesses_of_recordings() -> list[Guess]:
    """What a program may have done to a whole recording."""
    plain: tuple[tuple[str, str, Heard], ...] = (
        ("level", "heard the samples in the range of 16-bit numbers (times 32768)", lambda w: w * 32768),
        ("level", "heard the samples divided by 32768", lambda w: w / 32768),
        ("level", "heard the samples turned upside down", lambda w: -w),
        ("level", "heard the recording scaled to a peak of 1", lambda w: w / max(np.abs(w).max(), 1e-9)),
        ("level", "heard the recording normalised to mean 0 and deviation 1", _standardised),
        ("front_end", "heard the samples with pre-emphasis (0.97)", _preemphasised),
        ("front_end", "heard the samples backwards", lambda w: w[::-1]),
        ("precision", "heard samples rounded to 16 bits", lambda w: np.rint(w / _BIT) * _BIT),
        ("precision", "heard samples rounded to 8 bits", lambda w: np.rint(w * 128) / 128),
    )
    rates = (
        (
            "sample_rate",
            f"heard audio at {taken} Hz that was taken for {rate} Hz (a wrong header, or no resampling)",
            _at_wrong_rate(rate, taken),
        )
        for rate, taken in _RATES
    )
    return [Guess(kind=kind, said=said, change=change) for kind, said, change in (*plain, *rates)]


def guesses_of_chunks() -> list[Guess]:
    """What a program may do to every chunk before its model hears it."""
    several: dict[str, Heard] = {
        "normalises every chunk to mean 0 and deviation 1": _standardised,
        "scales every chunk to a peak of 1": lambda w: w / max(np.abs(w).max(), 1e-9),
        "removes the mean of every chunk": lambda w: w - w.mean(),
    }
    return [
        Guess(kind="normalisation", said=f"{said} before the model", per_chunk=change)
        for said, change in several.items()
    ]


def _standardised(waveform: np.ndarray) -> np.ndarray:
    result: np.ndarray = (waveform - waveform.mean()) / max(float(waveform.std()), 1e-9)
    return result


def _preemphasised(waveform: np.ndarray) -> np.ndarray:
    return np.concatenate([waveform[:1], waveform[1:] - 0.97 * waveform[:-1]])


def _at_wrong_rate(rate: int, taken: int) -> Heard:
    def change(waveform: np.ndarray) -> np.ndarray:
        import soxr  # only here

        heard = soxr.resample(waveform, rate, taken, quality="HQ")
        return np.pad(heard, (0, max(0, len(waveform) - len(heard))))

    return change


def _clipped(log_probs: np.ndarray) -> np.ndarray:
    return np.maximum(np.nan_to_num(np.asarray(log_probs, dtype=np.float32), nan=0.0), _FLOOR)


def _rms_by_chunk(difference: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.sqrt(np.mean(difference.astype(np.float64) ** 2, axis=(1, 2)))
    return result
