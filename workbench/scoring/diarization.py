"""Diarization error in seconds: missed, false alarm and confusion, exact and fast.

The numbers are those of `pyannote.metrics` (4.2); instead of looping over segments, the time
axis is cut once at all boundaries and everything else is a sum over slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyannote.core import Annotation, Segment, Timeline

from workbench.scoring.slots import Slots
from workbench.scoring.turns import Turns


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
    slots = Slots.of(reference, hypothesis, uem, collar, skip_overlap)
    return count_errors(slots, slots.pairs)


def score_greedily(
    reference: Annotation | Turns,
    hypothesis: Annotation | Turns,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> DiarizationCounts:
    """Counts as `score`, under the mapping that takes the largest co-occurrence first.

    It is the `GreedyDiarizationErrorRate` of pyannote.metrics; never better than `score`.
    """
    slots = Slots.of(reference, hypothesis, uem, collar, skip_overlap)
    return count_errors(slots, slots.greedy_pairs)


def score_identification(
    reference: Annotation | Turns,
    hypothesis: Annotation | Turns,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> DiarizationCounts:
    """Counts as `score`, where a name is correct only if both sides write it alike.

    `.der` of the counts is the identification error rate (IER) of pyannote.metrics.
    """
    slots = Slots.of(reference, hypothesis, uem, collar, skip_overlap)
    return count_errors(slots, slots.same_name_pairs)


def count_errors(slots: Slots, pairs: np.ndarray) -> DiarizationCounts:
    """Counts of all slots under the mapping `pairs`, rows (hypothesis, reference) speaker."""
    num_ref, num_hyp, seconds = slots.num_ref, slots.num_hyp, slots.seconds
    agreeing = slots.agreeing(pairs).sum(axis=1)
    return DiarizationCounts(
        total=float(num_ref @ seconds),
        correct=float(agreeing @ seconds),
        missed=float(np.maximum(num_ref - num_hyp, 0) @ seconds),
        false_alarm=float(np.maximum(num_hyp - num_ref, 0) @ seconds),
        confusion=float((np.minimum(num_ref, num_hyp) - agreeing) @ seconds),
    )
