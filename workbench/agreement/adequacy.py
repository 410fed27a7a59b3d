"""What an input can show: agreement on silence, or on one class, proves next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.agreement.flips import NEAR_TIE, class_name
from workbench.powerset import mapping

SILENT = -70.0
"""Level (dBFS of the loudest tenth of a second) below which a recording counts as silent."""

_FEW_FRAMES = 1000
_FEW_CHANGES = 10
_WINDOW = 1600  # samples over which a level is taken: 0.1 s at 16 kHz


@dataclass(frozen=True, kw_only=True, eq=False)
class Exercise:
    """What one or several recordings made the baseline do; those of recordings add.

    Attributes
    ----------
    class_frames : int64 array, shape (num_classes,), frames per best class
    changes : frames whose class is not that of the frame before
    close : frames whose margin is at most that of a near-tie, on which rounding could show
    durations, levels : s, and dBFS of the loudest 0.1 s, of every recording
    """

    class_frames: np.ndarray
    changes: int
    close: int
    durations: tuple[float, ...]
    levels: tuple[float, ...]

    @classmethod
    def of(
        cls, best: np.ndarray, margin: np.ndarray, waveform: np.ndarray, num_classes: int, rate: int = 16000
    ) -> Exercise:
        """Of one recording: best classes and margins (num_chunks, num_frames), and its waveform."""
        return cls(
            class_frames=np.bincount(best.ravel(), minlength=num_classes),
            changes=int((best[:, 1:] != best[:, :-1]).sum()),
            close=int((margin <= NEAR_TIE).sum()),
            durations=(len(waveform) / rate,),
            levels=(loudest(waveform),),
        )

    def __add__(self, other: Exercise) -> Exercise:
        if not isinstance(other, Exercise):
            return NotImplemented
        return Exercise(
            class_frames=self.class_frames + other.class_frames,
            changes=self.changes + other.changes,
            close=self.close + other.close,
            durations=self.durations + other.durations,
            levels=self.levels + other.levels,
        )

    def __radd__(self, other: object) -> Exercise:
        """Lets `sum(exercises)` start from 0."""
        return self if other == 0 else NotImplemented


@dataclass(frozen=True, kw_only=True)
class Adequacy:
    """Whether agreement on this input means anything."""

    problems: tuple[str, ...]  # any of these forbids to speak of 100 %
    remarks: tuple[str, ...]  # what the input leaves out
    exercised: str  # what it contains
    numbers: dict[str, object] = field(default_factory=dict)

    @property
    def adequate(self) -> bool:
        """Whether agreement may be called agreement."""
        return not self.problems

    def to_json(self) -> dict[str, object]:
        """As reports have it."""
        return {
            "adequate": self.adequate,
            "problems": list(self.problems),
            "remarks": list(self.remarks),
            "exercised": self.exercised,
            **self.numbers,
        }


def judge(exercise: Exercise | None, classes: Sequence[Sequence[int]]) -> Adequacy:
    """What the input exercised, and whether that is enough to speak of agreement.

    Parameters
    ----------
    exercise : of all recordings together; None where nothing was compared
    classes : class -> its speakers
    """
    if exercise is None or not exercise.class_frames.sum():
        return Adequacy(problems=("nothing was compared",), remarks=(), exercised="nothing")
    seen, frames = exercise.class_frames, int(exercise.class_frames.sum())
    at_once = mapping(classes).sum(axis=1)
    used = np.flatnonzero(seen).tolist()
    speakers = sorted({speaker for index in used for speaker in classes[index]})
    overlap = int(seen[at_once > 1].sum())
    audible = sum(level > SILENT for level in exercise.levels)
    problems, remarks = [], []
    if not audible:
        problems.append(
            "the input is silent" if len(exercise.levels) == 1 else "all recordings of the input are silent"
        )
    if len(used) == 1:
        problems.append(f"every frame has one class ({class_name(classes[used[0]])})")
    elif frames - seen.max() < max(5, 1e-3 * frames):
        problems.append(
            f"all but {frames - seen.max()} frames have one class ({class_name(classes[int(seen.argmax())])})"
        )
    if audible and audible < len(exercise.levels):
        remarks.append(f"{len(exercise.levels) - audible} recordings are silent")
    unseen = [class_name(classes[index]) for index in np.flatnonzero(seen == 0).tolist()]
    if unseen and not problems:
        remarks.append(f"classes never seen: {', '.join(unseen)}")
    if not overlap and at_once.max() > 1:
        remarks.append("no overlapped speech")
    if frames < _FEW_FRAMES:
        remarks.append(f"only {frames} frames")
    if exercise.changes < _FEW_CHANGES and not problems:
        remarks.append(f"only {exercise.changes} changes of class")
    if not exercise.close and not problems:
        remarks.append("no frame is a close call, so that small errors could not show")
    shortest, longest = min(exercise.durations), max(exercise.durations)
    durations = _span(f"{shortest:.1f}", f"{longest:.1f}")
    levels = _span(f"{min(exercise.levels):.0f}", f"{max(exercise.levels):.0f}")
    return Adequacy(
        problems=tuple(problems),
        remarks=tuple(remarks),
        exercised=(
            f"{len(used)} of {len(classes)} classes, {len(speakers)} local speakers, {overlap / frames:.1%} "
            f"overlap, {exercise.changes} changes, {exercise.close} close calls; {len(exercise.durations)} "
            f"recording{'' if len(exercise.durations) == 1 else 's'} of {durations} s, "
            f"peaks of {levels} dBFS"
        ),
        numbers={
            "frames": frames,
            "classes": {class_name(members): int(seen[index]) for index, members in enumerate(classes)},
            "local_speakers": len(speakers),
            "overlap_frames": overlap,
            "changes": exercise.changes,
            "close_calls": exercise.close,
            "recordings": len(exercise.durations),
            "shortest": shortest,
            "longest": longest,
            "quietest_dbfs": min(exercise.levels),
            "loudest_dbfs": max(exercise.levels),
        },
    )


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def loudest(waveform: np.ndarray) -> float:
    """Level in dBFS of the loudest tenth of a second; at least -120.

    Examples
    --------
    >>> loudest(np.zeros(16000))
    -120.0
    """
    waveform = np.asarray(waveform)
    size = min(_WINDOW, len(waveform))
    if not size:
        return -120.0
    blocks = waveform[: len(waveform) // size * size].reshape(-1, size).astype(np.float32)
    rms = float(np.sqrt(np.square(blocks).mean(axis=1).max()))
    return max(-120.0, 20 * float(np.log10(max(rms, 1e-6))))
