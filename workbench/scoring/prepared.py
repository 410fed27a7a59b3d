"""A reference cut once at the frames of a pipeline, so that thousands of hypotheses score in milliseconds.

A hypothesis that a pipeline writes is constant between two neighbouring frames. What such a slot
holds of the reference is computed once and summed up along time; a hypothesis then costs a few
look-ups per turn, however long the recording is. The numbers are those of `score`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from pyannote.core import Annotation, Segment, Timeline

from workbench.scoring.clustering_metrics import SpeakerErrors
from workbench.scoring.diarization import DiarizationCounts
from workbench.scoring.prepared_speakers import PreparedSpeakers
from workbench.scoring.slots import SHORTEST, Slots, matched
from workbench.scoring.turns import Turns, dense

_BINARY_GRID = 2.0**20  # seconds rounded to this fraction add up without any rounding
_SILENCE = Turns.of(Annotation())


class PreparedReference:
    """A reference that scores hypotheses given per frame, each in about a millisecond.

    Parameters
    ----------
    reference : Annotation
        Or `Turns`.
    boundaries : float64 array, shape (num_frames,), in seconds
        Where a turn can start or end: the middles of the frames, `frames.middle_of(np.arange(n))`,
        for these are the times that `binarize` writes.
    uem, collar, skip_overlap : as of `score`

    Examples
    --------
    >>> reference = Annotation()
    >>> reference[Segment(0, 10)] = "A"
    >>> prepared = PreparedReference(reference, np.arange(0, 12, 0.5))
    >>> speaks = np.zeros((24, 1), dtype=np.uint8)
    >>> speaks[4:22] = 1  # from 2 s to 11 s
    >>> prepared.score(speaks)
    DiarizationCounts(total=10.0, correct=8.0, missed=2.0, false_alarm=1.0, confusion=0.0)
    """

    def __init__(
        self,
        reference: Annotation | Turns,
        boundaries: np.ndarray,
        uem: Timeline | Segment | None = None,
        collar: float = 0.0,
        skip_overlap: bool = False,
    ):
        self.boundaries = np.asarray(boundaries, dtype=np.float64)
        if self.boundaries.ndim != 1 or not (np.diff(self.boundaries) > 2 * SHORTEST).all():
            raise ValueError(
                "boundaries must be times in seconds in strictly increasing order, shape (num_frames,), got "
                f"an array of shape {self.boundaries.shape}; pass frames.middle_of(np.arange(num_frames))"
            )
        self._turns, self._uem = reference if isinstance(reference, Turns) else Turns.of(reference), uem
        if uem is None:
            # Without a UEM the extent of both sides is scored: all that anyone says.
            times = np.concatenate([self.boundaries, self._turns.starts, self._turns.ends])
            uem = Segment(times.min() - 1, times.max() + 1) if len(times) else None
        slots, _ = Slots.of(self._turns, _SILENCE, uem, collar, skip_overlap).refine(self.boundaries)
        self.labels = slots.ref.labels
        self.total = float(slots.num_ref @ slots.seconds)
        # Slots before the first boundary and after the last are -1 and num_frames - 1: never spoken in.
        frame = np.searchsorted(self.boundaries, slots.starts, side="right") - 1
        inside = (frame >= 0) & (frame < len(self.boundaries) - 1)
        self._missed_outside = float((slots.num_ref * slots.seconds)[~inside].sum())
        self._frame, self._ref = frame[inside], dense(slots.active_ref[inside])
        # slots before every boundary but the first
        self._before = np.cumsum(np.bincount(self._frame, minlength=self.num_frames))[: self.num_frames - 1]
        self._seconds = slots.seconds[inside]
        self._slivers = self._find_slivers(slots.starts[inside], slots.ends[inside])

        once = np.minimum(self._ref, 1)
        self._together = self._sum_up(self._ref * self._seconds[:, None])  # with multiplicity: the mapping
        overlaps_themselves = not np.array_equal(once, self._ref)
        self._correct = self._sum_up(once * self._seconds[:, None]) if overlaps_themselves else self._together
        self._errors = np.zeros((0, self.num_frames, 4))
        self._errors = self._sum_up_errors(int(self._ref.sum(axis=1).max(initial=0)) + 1)

    @property
    def num_frames(self) -> int:
        """Rows that a hypothesis must have."""
        return len(self.boundaries)

    def score(self, hypothesis: np.ndarray) -> DiarizationCounts:
        """Counts of one hypothesis, shape (num_frames, num_speakers), 0 or 1 (or bool)."""
        return self.score_many(np.asarray(hypothesis)[None])[0]

    def score_many(self, hypotheses: np.ndarray) -> list[DiarizationCounts]:
        """Counts of several hypotheses, shape (num_hypotheses, num_frames, num_speakers)."""
        active = np.asarray(hypotheses)
        if active.ndim != 3 or active.shape[1] != self.num_frames:
            raise ValueError(
                f"a hypothesis must have shape (num_frames, num_speakers) with {self.num_frames} frames, "
                f"got {active.shape[1:]}"
            )
        if active.dtype != bool:
            if active.size and not (active.min() >= 0 and active.max() <= 1):
                raise ValueError(
                    f"a hypothesis must hold 0 and 1, found values from {active.min()} to {active.max()}; "
                    "threshold the scores first"
                )
            active = active > 0.5  # as `binarize` does
        return [self._score_changes(*changes_of(each), each.shape[1]) for each in active]

    def score_runs(self, starts: Sequence[int] | np.ndarray, rows: np.ndarray) -> DiarizationCounts:
        """Counts of a hypothesis given as runs of equal frames.

        Parameters
        ----------
        starts : int array, shape (num_runs,)
            First frame of every run, in order, the first one 0.
        rows : array of 0 and 1, shape (num_runs, num_speakers)
        """
        return self._score_changes(*self._changes_of_runs(starts, rows))

    def score_runs_fully(
        self, starts: Sequence[int] | np.ndarray, rows: np.ndarray
    ) -> tuple[DiarizationCounts, SpeakerErrors]:
        """Counts as of `score_runs`, and the Jaccard error of every reference speaker.

        The latter is dscore's: of 10 ms frames, within the UEM, whatever the collar and the overlap.
        """
        changes = self._changes_of_runs(starts, rows)
        return self._score_changes(*changes), self._speakers.score_changes(*changes)

    @cached_property
    def _speakers(self) -> PreparedSpeakers:
        return PreparedSpeakers(self._turns, self.boundaries, self._uem)

    def _changes_of_runs(
        self, starts: Sequence[int] | np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Who starts or stops at which boundary, and the number of speakers."""
        starts, active = np.asarray(starts, dtype=np.int64), np.asarray(rows) > 0.5
        in_order = len(starts) == len(active) and (len(starts) == 0 or starts[0] == 0)
        if not in_order or (np.diff(starts) <= 0).any() or (starts >= self.num_frames).any():
            raise ValueError(
                f"starts must rise from 0 to below {self.num_frames} frames, one for each of the "
                f"{len(active)} rows, got {starts[:5].tolist()}..."
            )
        kept = starts < self.num_frames - 1  # the last frame ends where it starts
        run, speaker, change = changes_of(active[kept], closing=True)
        frames = np.append(starts[kept], self.num_frames - 1)[run]
        return frames, speaker, change, active.shape[1]

    def _score_changes(
        self, frame: np.ndarray, speaker: np.ndarray, change: np.ndarray, num_hyp: int
    ) -> DiarizationCounts:
        """Counts from who starts (+1) or stops (-1) at which boundary, ordered by time."""
        together = self._between(self._together, frame, speaker, change, num_hyp)
        same = self._correct is self._together
        correct = together if same else self._between(self._correct, frame, speaker, change, num_hyp)
        count = np.concatenate([[0], np.cumsum(change)])  # speakers at once before, between and after
        if count.max() >= len(self._errors):
            self._errors = self._sum_up_errors(int(count.max()) + 1)
        edges = np.concatenate([[0], frame, [max(self.num_frames - 1, 0)]])
        missed, false_alarm = (
            (self._errors[count, edges[1:]] - self._errors[count, edges[:-1]])
            .sum(axis=0)
            .reshape(2, 2)
            .sum(axis=1)
        )
        dropped = self._drop_slivers(frame, speaker, change, num_hyp)
        if dropped is not None:
            together, correct = together - dropped.together, correct - dropped.correct
            missed, false_alarm = missed - dropped.missed, false_alarm - dropped.false_alarm
        total = self.total - (dropped.total if dropped is not None else 0.0)
        pairs = matched(together)
        agreeing = float(correct[pairs[:, 0], pairs[:, 1]].sum())
        missed = float(missed) + self._missed_outside
        return DiarizationCounts(
            total=total,
            correct=agreeing,
            missed=missed,
            false_alarm=float(false_alarm),
            # what is neither missed nor correct, and no rest of a rounding where that is nothing
            confusion=max(total - missed - agreeing, 0.0),
        )

    def _between(
        self, summed: np.ndarray, frame: np.ndarray, speaker: np.ndarray, change: np.ndarray, num_hyp: int
    ) -> np.ndarray:
        """Seconds (hypothesis speaker, reference speaker) from sums along time, at starts and ends."""
        width = summed.shape[1]
        where = (speaker[:, None] * width + np.arange(width)).ravel()
        # -change: what is summed up at a turn's end less what was at its start
        parts = np.bincount(where, (summed[frame] * -change[:, None]).ravel(), minlength=num_hyp * width)
        return parts.reshape(num_hyp, 2, width // 2).sum(axis=1)

    def _sum_up(self, values: np.ndarray) -> np.ndarray:
        """Sums of `values` (num_slots, n) before every boundary, shape (num_frames, 2 n).

        Every value is split into a multiple of 2**-20, of which sums are exact, and a rest so small
        that its rounding does not matter: differences of long sums then lose nothing.
        """
        coarse = np.rint(values * _BINARY_GRID) / _BINARY_GRID
        parts = np.concatenate([coarse, values - coarse], axis=1)
        summed = np.zeros((max(self.num_frames, 1), parts.shape[1]))
        summed[1:] = np.concatenate([np.zeros((1, parts.shape[1])), parts.cumsum(axis=0)])[self._before]
        return summed

    def _sum_up_errors(self, num_counts: int) -> np.ndarray:
        """Missed and false alarm before every boundary for 0, 1, ... hypothesis speakers at once.

        Shape (num_counts, num_frames, 4): missed and its rest, false alarm and its rest. What is known
        already is kept.
        """
        num_ref = self._ref.sum(axis=1)
        tables = list(self._errors)
        for count in range(len(tables), num_counts):
            pair = np.stack([np.maximum(num_ref - count, 0), np.maximum(count - num_ref, 0)], axis=1)
            summed = self._sum_up(pair * self._seconds[:, None])  # missed, false alarm, then their rests
            tables.append(summed[:, [0, 2, 1, 3]])
        return np.array(tables)

    def _find_slivers(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Slots that `score` leaves out where the hypothesis changes at a boundary next to them.

        It ignores slots up to a microsecond, as pyannote does. A reference boundary that close to a
        frame's makes such a slot only if the hypothesis changes there; if not, the slot is a part of a
        longer one.

        Returns
        -------
        slivers : int array, shape (num_slivers, 2)
            Index of the slot and of the boundary beside it.
        """
        short = np.flatnonzero((ends - starts <= SHORTEST) & (ends > starts))
        frame = self._frame[short]
        at_start = starts[short] == self.boundaries[frame]
        return np.stack([short, np.where(at_start, frame, frame + 1)], axis=1)

    def _drop_slivers(
        self, frame: np.ndarray, speaker: np.ndarray, change: np.ndarray, num_hyp: int
    ) -> _Dropped | None:
        """What the slivers beside a change of the hypothesis hold."""
        if not len(self._slivers):
            return None
        slots = self._slivers[np.isin(self._slivers[:, 1], frame), 0]
        if not len(slots):
            return None
        active = np.zeros((len(slots), num_hyp))
        earlier = frame[:, None] <= self._frame[slots]
        for row, changed in enumerate(earlier.T):
            np.add.at(active[row], speaker[changed], change[changed])
        return _Dropped(active, self._ref[slots], self._seconds[slots])


class _Dropped:
    """Contributions of slots that do not count; activity (num_slots, num_speakers) of both sides."""

    def __init__(self, active_hyp: np.ndarray, active_ref: np.ndarray, seconds: np.ndarray):
        num_ref, num_hyp = active_ref.sum(axis=1), active_hyp.sum(axis=1)
        self.total = float(num_ref @ seconds)
        self.missed = float(np.maximum(num_ref - num_hyp, 0) @ seconds)
        self.false_alarm = float(np.maximum(num_hyp - num_ref, 0) @ seconds)
        self.together = active_hyp.T @ (active_ref * seconds[:, None])
        self.correct = active_hyp.T @ (np.minimum(active_ref, 1) * seconds[:, None])


def changes_of(active: np.ndarray, closing: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who starts or stops when.

    Parameters
    ----------
    active : bool array, shape (num_frames, num_speakers)
    closing : bool
        Everyone stops after the last frame; otherwise in it, as `binarize` has it.

    Returns
    -------
    frame, speaker, change : int arrays, shape (num_changes,), ordered by frame
        `change` is +1 for a start and -1 for an end.
    """
    num_speakers = active.shape[1]
    silence = np.zeros((1, num_speakers), dtype=bool)
    spoken = np.ascontiguousarray(active if closing else active[:-1])
    inner = np.flatnonzero(spoken[1:] != spoken[:-1]) + num_speakers
    first, last = (spoken[:1], spoken[-1:]) if len(spoken) else (silence, silence)
    where = np.concatenate([np.flatnonzero(first), inner, np.flatnonzero(last) + spoken.size])
    frame, speaker = np.divmod(where, max(num_speakers, 1))
    begins = np.concatenate([spoken.ravel(), silence.ravel()])[where]
    return frame, speaker, np.where(begins, 1, -1)
