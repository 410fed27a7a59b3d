"""Every unit of speaker time, and what became of it: the one attribution that all breakdowns share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, find

from workbench.scoring.diarization import DiarizationCounts
from workbench.scoring.slots import Slots
from workbench.scoring.turns import Activity

KINDS = ("correct", "missed", "false_alarm", "confusion")
CORRECT, MISSED, FALSE_ALARM, CONFUSION = range(4)
NOBODY = -1  # in place of a speaker


@dataclass(frozen=True, eq=False)
class Units:
    """One row per speaker of a slot, on either side; a correct or confused pair shares a row.

    Attributes
    ----------
    slot : int array, shape (num_units,)
    ref, hyp : int arrays, shape (num_units,)
        Index of the speaker, `NOBODY` for false alarms and missed speech.
    kind : int array, shape (num_units,)
        Index into `KINDS`.
    seconds : float64 array, shape (num_units,)
    """

    slot: np.ndarray
    ref: np.ndarray
    hyp: np.ndarray
    kind: np.ndarray
    seconds: np.ndarray

    @classmethod
    def of(cls, slots: Slots) -> Units:
        """Attribute all time of `slots` under its mapping.

        Where several speakers of a slot are wrong, the first wrong one of the reference meets the
        first wrong one of the hypothesis, in order of their names, and so on: confusion. Who is left
        alone was missed, or is a false alarm.
        """
        agreeing = slots.agreeing(slots.pairs)
        slot, pair = _repeat(agreeing)
        hyp, ref = slots.pairs[pair].T
        left_hyp = _without(slots.active_hyp, agreeing, slots.pairs[:, 0])
        left_ref = _without(slots.active_ref, agreeing, slots.pairs[:, 1])

        rows = np.maximum(left_ref.sum(axis=1), left_hyp.sum(axis=1))  # per slot
        first = np.cumsum(rows) - rows
        wrong = np.full((2, int(rows.sum())), NOBODY)
        for side, left in enumerate((left_ref, left_hyp)):
            where, speaker = _repeat(left)
            place = np.arange(len(where)) - np.searchsorted(where, where)
            wrong[side, first[where] + place] = speaker
        slot = np.concatenate([slot, np.repeat(np.arange(len(slots)), rows)])
        kind = np.select([wrong[1] == NOBODY, wrong[0] == NOBODY], [MISSED, FALSE_ALARM], CONFUSION)
        return cls(
            slot=slot,
            ref=np.concatenate([ref, wrong[0]]),
            hyp=np.concatenate([hyp, wrong[1]]),
            kind=np.concatenate([np.full(len(ref), CORRECT), kind]),
            seconds=slots.seconds[slot],
        )

    def sums(self, group: np.ndarray, num_groups: int) -> np.ndarray:
        """Seconds by group and kind, shape (num_groups, len(KINDS)); `group` (num_units,) holds integers."""
        flat = np.bincount(group * len(KINDS) + self.kind, self.seconds, minlength=num_groups * len(KINDS))
        return flat.reshape(num_groups, len(KINDS))


def _without(active: Activity, agreeing: Activity, speakers: np.ndarray) -> Activity:
    """What is left of `active` (num_slots, num_speakers) besides what agrees of some speakers."""
    if isinstance(active, csr_array):
        place = (np.ones(len(speakers), dtype=np.int64), (np.arange(len(speakers)), speakers))
        return active - agreeing @ csr_array(place, shape=(len(speakers), active.shape[1]))
    left = active.copy()
    left[:, speakers] -= agreeing
    return left


def _repeat(counts: Activity) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every entry, as often as it says; in order of the rows, then the columns."""
    if isinstance(counts, csr_array):
        rows, columns, times = find(counts)
        order = np.lexsort([columns, rows])
        rows, columns, times = rows[order], columns[order], times[order]
    else:
        rows, columns = np.nonzero(counts)
        times = counts[rows, columns]
    return np.repeat(rows, times), np.repeat(columns, times)


def counts_of(sums: np.ndarray) -> DiarizationCounts:
    """Counts from seconds by kind, shape (len(KINDS),)."""
    correct, missed, false_alarm, confusion = (float(value) for value in sums)
    return DiarizationCounts(
        total=correct + missed + confusion,
        correct=correct,
        missed=missed,
        false_alarm=false_alarm,
        confusion=confusion,
    )
