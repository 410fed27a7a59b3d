"""The 10 ms frames of a reference counted once, for the Jaccard error of thousands of hypotheses.

dscore counts frames, a hypothesis that a pipeline writes changes at the pipeline's own frames only. How
many frames of dscore's every reference speaker has said before each of these is known before any
hypothesis; one then costs a few look-ups per turn. The numbers are those of `frame_labels`.
"""

from __future__ import annotations

import numpy as np
from pyannote.core import Segment, Timeline

from workbench.scoring.clustering_metrics import FRAME, SpeakerErrors, within
from workbench.scoring.turns import Turns, activity, covered, regions_of


class PreparedSpeakers:
    """Reference speakers, ready to be compared with hypotheses given as changes at boundaries.

    Parameters
    ----------
    reference : Turns
    boundaries : float64 array, shape (num_boundaries,), in seconds, rising
        Where a turn of a hypothesis can start or end.
    uem : Timeline or Segment, optional
        Without one, all that anyone says counts.
    """

    def __init__(self, reference: Turns, boundaries: np.ndarray, uem: Timeline | Segment | None = None):
        self.boundaries = boundaries
        self._regions = None if uem is None else regions_of(uem)
        ref = reference if self._regions is None else within(reference, self._regions)
        self.num_speakers = len(ref.labels)
        if self._regions is None:  # then the last end of either side is where frames end
            self._end = float(ref.ends.max(initial=0.0))
            most = max(self._end, float(boundaries[-1])) if len(boundaries) else self._end
        else:
            self._end = most = float(self._regions[:, 1].max(initial=0.0))
        times = FRAME * np.arange(int(most / FRAME))  # exactly dscore's expression, see `frame_labels`
        self._at = np.searchsorted(times, boundaries)
        starts, ends = np.searchsorted(times, ref.starts), np.searchsorted(times, ref.ends)
        regions = (
            np.array([[0, len(times)]]) if self._regions is None else np.searchsorted(times, self._regions)
        )
        self._knots = np.unique(np.concatenate([[0, len(times)], starts, ends, regions.ravel()]))
        self._slot = self._slot_of(self._at)
        active = np.zeros((len(self._knots), self.num_speakers + 1))  # the last column: whether scored
        scored = covered(self._knots, regions)
        active[:-1, :-1] = (activity(self._knots, starts, ends, ref.speakers, self.num_speakers) > 0) & (
            scored[:, None]
        )
        active[:-1, -1] = scored
        lengths = np.diff(self._knots, append=self._knots[-1])
        self._active = active
        self._before = np.concatenate([np.zeros((1, active.shape[1])), (active * lengths[:, None])[:-1]])
        np.cumsum(self._before, axis=0, out=self._before)

    def score_changes(
        self, frame: np.ndarray, speaker: np.ndarray, change: np.ndarray, num_hyp: int
    ) -> SpeakerErrors:
        """Errors of a hypothesis.

        Parameters
        ----------
        frame, speaker, change : int arrays, shape (num_changes,), ordered by time
            Who starts (+1) or stops (-1) at which boundary; every start is followed by its end.
        num_hyp : speakers of the hypothesis
        """
        end = self._end
        if self._regions is None and len(frame):
            end = max(end, float(self.boundaries[frame[-1]]))
        num_frames = int(end / FRAME)
        at, slot = self._at[frame], self._slot[frame]
        if len(at) and at[-1] > num_frames:  # a frame that has only begun
            at = np.minimum(at, num_frames)
            slot = self._slot_of(at)
        counted = self._count(at, slot)
        width = self.num_speakers + 1
        where = (speaker[:, None] * width + np.arange(width)).ravel()
        # -change: what is counted before a turn's end less what is before its start
        parts = np.bincount(where, (counted * -change[:, None]).ravel(), minlength=num_hyp * width)
        parts = parts.reshape(num_hyp, width)
        last = np.array([num_frames])
        (alone_ref,) = self._count(last, self._slot_of(last))[:, :-1]
        return SpeakerErrors.of_frames(
            parts[:, :-1].T, alone_ref, parts[:, -1], self._num_present(frame, speaker, num_hyp)
        )

    def _slot_of(self, at: np.ndarray) -> np.ndarray:
        """Where among the knots each of the frames `at` lies."""
        return np.searchsorted(self._knots, at, side="right") - 1

    def _count(self, at: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """Frames before each of `at`, shape (len(at), num_speakers + 1)."""
        return self._before[slot] + self._active[slot] * (at - self._knots[slot])[:, None]

    def _num_present(self, frame: np.ndarray, speaker: np.ndarray, num_hyp: int) -> int:
        """Speakers of the hypothesis with a turn that reaches into a scored region."""
        if self._regions is None:
            return int(np.count_nonzero(np.bincount(speaker, minlength=num_hyp)))
        order = np.argsort(speaker, kind="stable")  # starts and ends of one speaker alternate
        times = self.boundaries[frame[order]]
        turns = Turns(times[::2], times[1::2], speaker[order][::2], tuple(range(num_hyp)))
        return len(within(turns, self._regions).labels)
