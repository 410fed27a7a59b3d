"""Outputs that no comparison should pass over in silence: NaN, constants, classes that never appear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.flips import class_name

_SHARE = 1e-3  # of all frames, and
_FRAMES = 20  # frames that a class must have on one side to be missed on the other


@dataclass
class OutputGuard:
    """Watches the log-probabilities of one side go by.

    Attributes
    ----------
    lowest, highest : float arrays, shape (num_classes,), of every class so far
    bad_chunks : numbers of chunks with values that are not finite
    nan, infinite : how many such values; minus infinity, the logarithm of 0, is counted apart
    """

    lowest: np.ndarray | None = None
    highest: np.ndarray | None = None
    num_bad_chunks: int = 0
    first_bad_chunk: int = -1
    nan: int = 0
    infinite: int = 0
    num_chunks: int = 0
    moves: float = 0.0  # most that any class changes within a chunk
    still_chunks: list[int] = field(default_factory=list)  # in which every frame has the same values
    still_zero: bool = True  # whether those values are all 0

    def add(self, log_probs: np.ndarray) -> None:
        """Look at a batch, shape (num_chunks, num_frames, num_classes)."""
        finite = np.isfinite(log_probs)
        if not finite.all():
            self.nan += int(np.isnan(log_probs).sum())
            self.infinite += int(np.isinf(log_probs).sum())
            bad = ~finite.all(axis=(1, 2))
            if not self.num_bad_chunks:
                self.first_bad_chunk = self.num_chunks + int(np.flatnonzero(bad)[0])
            self.num_bad_chunks += int(bad.sum())
            log_probs = np.where(finite, log_probs, 0.0)
        moves = np.ptp(log_probs, axis=1).max(axis=-1)
        self.moves = max(self.moves, float(moves.max()))
        still = np.flatnonzero((moves <= 1e-6) & finite.all(axis=(1, 2)))
        self.still_chunks += (self.num_chunks + still).tolist()
        self.still_zero &= not log_probs[still].any()
        low, high = log_probs.min(axis=(0, 1)), log_probs.max(axis=(0, 1))
        self.lowest = low if self.lowest is None else np.minimum(self.lowest, low)
        self.highest = high if self.highest is None else np.maximum(self.highest, high)
        self.num_chunks += len(log_probs)

    def findings(self, side: str) -> list[Finding]:
        """What is wrong with this side alone."""
        found = []
        if self.nan or self.infinite:
            found.append(
                Finding(
                    kind="non_finite",
                    words=f"the {side} puts out {self.nan} NaN and {self.infinite} infinite values, "
                    f"in {self.num_bad_chunks} of {self.num_chunks} chunks, first in chunk "
                    f"{self.first_bad_chunk}",
                    side=side,
                    details={
                        "nan": self.nan,
                        "infinite": self.infinite,
                        "chunks": self.num_bad_chunks,
                        "first": self.first_bad_chunk,
                    },
                )
            )
        if self.lowest is not None and self.highest is not None and self.num_chunks:
            spread = float((self.highest - self.lowest).max())
            if spread <= 1e-6:
                words = f"the {side} puts out the same values for every frame, whatever it hears"
                found.append(Finding(kind="constant_output", words=words, side=side))
            elif self.moves <= 1e-6:
                words = f"the {side} puts out the same values for every frame of a chunk"
                found.append(Finding(kind="constant_output", words=words, side=side))
            elif self.still_chunks:
                values = "zeros" if self.still_zero else "the same values"
                share = f"{len(self.still_chunks)} of {self.num_chunks} chunks"
                words = (
                    f"the {side} puts out {values} for every frame in {share} "
                    f"({_ranges(self.still_chunks)}): a batch that was not computed, or not written"
                )
                details = {"chunks": self.still_chunks[:64]}
                found.append(Finding(kind="constant_chunks", words=words, side=side, details=details))
        return found


def _ranges(numbers: Sequence[int]) -> str:
    """Rising numbers in words.

    Examples
    --------
    >>> _ranges([3, 4, 5, 9])
    '3 to 5, 9'
    """
    cuts = np.flatnonzero(np.diff(numbers) > 1) + 1
    parts = [(int(part[0]), int(part[-1])) for part in np.split(np.asarray(numbers), cuts)]
    shown = [str(first) if first == last else f"{first} to {last}" for first, last in parts[:4]]
    return ", ".join(shown) + (" …" if len(parts) > 4 else "")


def collapsed_classes(
    baseline: np.ndarray, candidate: np.ndarray, classes: Sequence[Sequence[int]]
) -> list[Finding]:
    """Classes that one side uses and the other never does.

    Parameters
    ----------
    baseline, candidate : int arrays, shape (num_classes,)
        Frames per best class on either side.
    classes : class -> its speakers
    """
    found = []
    for side, mine, theirs, other in (
        ("candidate", candidate, baseline, "baseline"),
        ("baseline", baseline, candidate, "candidate"),
    ):
        frames = int(theirs.sum())
        if not frames:
            continue
        needed = max(_FRAMES, _SHARE * frames)
        if np.count_nonzero(mine) == 1 and np.count_nonzero(theirs) > 1 and frames - theirs.max() > needed:
            name = class_name(classes[int(mine.argmax())])
            words = f"the {side} decides for one class in every frame: {name}"
            found.append(Finding(kind="collapsed", words=words, side=side, details={"class": name}))
            continue
        lost = [index for index in np.flatnonzero(mine == 0).tolist() if theirs[index] > needed]
        if lost:
            words = f"the {side} never decides for " + ", ".join(
                f"{class_name(classes[index])} ({other}: {theirs[index]} frames)" for index in lost
            )
            details = {"classes": [class_name(classes[index]) for index in lost]}
            found.append(Finding(kind="lost_classes", words=words, side=side, details=details))
    return found
