"""Diarization error in seconds: missed, false alarm and confusion, exact and fast.

The numbers are those of `pyannote.metrics` (4.2); instead of looping over segments, the time
axis is cut once at all boundaries and everything else is a sum over slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from scipy.optimize import linear_sum_assignment

from workbench.scoring.turns import Turns, activity, covered, regions_of

_SHORTEST = 1e-6  # s: pyannote.core takes a segment for empty up to this duration


@dataclass(frozen=True, kw_only=True)
class DiarizationCounts:
    """Seconds of speaker time by what became of them; counts of recordings add.

    Where two speakers talk at once, that time counts twice.
    """

    total: float = 0.0  # reference speaker time that was scored
    correct: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0

    @property
    def der(self) -> float:
        """Diarization error rate, a fraction.

        Without any reference speech it is 0 for a silent hypothesis and 1 for any other.
        """
        errors = self.missed + self.false_alarm + self.confusion
        if self.total == 0:
            return float(errors > 0)
        return errors / self.total

    def __add__(self, other: DiarizationCounts) -> DiarizationCounts:
        if not isinstance(other, DiarizationCounts):
            return NotImplemented
        return DiarizationCounts(
            total=self.total + other.total,
            correct=self.correct + other.correct,
            missed=self.missed + other.missed,
            false_alarm=self.false_alarm + other.false_alarm,
            confusion=self.confusion + other.confusion,
        )

    def __radd__(self, other: object) -> DiarizationCounts:
        """Lets `sum(counts)` start from 0."""
        return self if other == 0 else NotImplemented


def score(
    reference: Annotation | Turns,
    hypothesis: Annotation | Turns,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> DiarizationCounts:
    """Error counts under the mapping of speakers that makes the most time correct.

    Parameters
    ----------
    reference, hypothesis : Annotation
        Or `Turns`, where one side is scored many times.
    uem : Timeline, optional
        Regions to be scored. Without it: from the first start to the last end of either side.
    collar : float
        Seconds left unscored on EACH SIDE of every reference boundary, as NIST md-eval and dscore
        count it; pyannote.metrics gives the whole width, twice this.
    skip_overlap : bool
        Leave out the time in which two or more reference turns overlap.

    Returns
    -------
    counts : DiarizationCounts

    Examples
    --------
    >>> reference, hypothesis = Annotation(), Annotation()
    >>> reference[Segment(0, 10)] = "A"
    >>> hypothesis[Segment(2, 11)] = "x"
    >>> score(reference, hypothesis)
    DiarizationCounts(total=10.0, correct=8.0, missed=2.0, false_alarm=1.0, confusion=0.0)
    """
    if not 0 <= collar < np.inf:
        raise ValueError(f"collar must be a number of seconds, 0 or more, got {collar}")
    ref = reference if isinstance(reference, Turns) else Turns.of(reference)
    hyp = hypothesis if isinstance(hypothesis, Turns) else Turns.of(hypothesis)
    regions = regions_of(uem, ref, hyp)
    collars = _collars(ref, collar)
    boundaries = np.unique(
        np.concatenate([ref.starts, ref.ends, hyp.starts, hyp.ends, *regions.T, *collars.T])
    )
    if not len(regions):
        return DiarizationCounts()

    active_ref = activity(boundaries, ref.starts, ref.ends, ref.speakers, len(ref.labels))  # (slot, speaker)
    active_hyp = activity(boundaries, hyp.starts, hyp.ends, hyp.speakers, len(hyp.labels))
    scored = covered(boundaries, regions) & ~covered(boundaries, collars)
    if skip_overlap:
        scored &= active_ref.sum(axis=1) < 2
    seconds = np.diff(boundaries)
    scored &= seconds > _SHORTEST
    return _count(active_ref[scored], active_hyp[scored], seconds[scored])


def _collars(reference: Turns, collar: float) -> np.ndarray:
    """Unscored regions around the reference boundaries, shape (num_boundaries, 2)."""
    if collar == 0:
        return np.empty((0, 2))
    around = np.unique(np.concatenate([reference.starts, reference.ends]))
    regions = np.stack([around - collar, around + collar], axis=1)
    return regions[np.diff(regions)[:, 0] > _SHORTEST]


def _count(active_ref: np.ndarray, active_hyp: np.ndarray, seconds: np.ndarray) -> DiarizationCounts:
    """Counts from the slots: activity (num_slots, num_speakers) and duration (num_slots,)."""
    num_ref, num_hyp = active_ref.sum(axis=1), active_hyp.sum(axis=1)
    # A speaker who overlaps themselves counts with multiplicity: in the co-occurrence that decides
    # the mapping as a product, in the time that is correct as the smaller number.
    cooccurrence = active_hyp.T @ (active_ref * seconds[:, None])  # (hypothesis, reference) speakers
    mapped_hyp, mapped_ref = linear_sum_assignment(cooccurrence, maximize=True)
    agreeing = np.minimum(active_hyp[:, mapped_hyp], active_ref[:, mapped_ref]).sum(axis=1)
    return DiarizationCounts(
        total=float(num_ref @ seconds),
        correct=float(agreeing @ seconds),
        missed=float(np.maximum(num_ref - num_hyp, 0) @ seconds),
        false_alarm=float(np.maximum(num_hyp - num_ref, 0) @ seconds),
        confusion=float((np.minimum(num_ref, num_hyp) - agreeing) @ seconds),
    )
