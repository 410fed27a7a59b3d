"""One time axis out of chunks that overlap: what a screen shows of an hour, small and ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.agreement.recording_result import RecordingParity


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameAxis:
    """Both posteriors of every moment, from the chunk in whose middle it lies most.

    Attributes
    ----------
    step, offset : s, between two frames, and of the middle of the first
    chunk, frame : int32 arrays, shape (num_moments,), where every moment is taken from
    baseline, candidate : uint8 arrays, shape (num_moments, num_classes), probability times 255
    difference : float32 array, shape (num_moments,), largest of all chunks that see the moment, in nats
    """

    step: float
    offset: float
    chunk: np.ndarray
    frame: np.ndarray
    baseline: np.ndarray
    candidate: np.ndarray
    difference: np.ndarray

    @classmethod
    def of(cls, row: RecordingParity, segmentation_step: float | None = None) -> FrameAxis | None:
        """The axis of one recording; None where its posteriors were not kept.

        Parameters
        ----------
        row : a recording of `parity(..., params=ParityParams(keep_posteriors=True))`
        segmentation_step : as of `ParityParams`
        """
        if row.comparison is None or row.posteriors is None or row.geometry is None:
            return None
        geometry, (num_chunks, num_frames) = row.geometry, row.comparison.baseline.shape
        step = geometry.frame_step
        chunk_step = (
            geometry.chunk_step if segmentation_step is None else segmentation_step * geometry.chunk_duration
        )
        starts = np.rint(np.arange(num_chunks) * chunk_step / step).astype(np.int64)
        num_moments = int(min(starts[-1] + num_frames, max(round(row.duration / step), 1)))
        moments = np.arange(num_moments)
        nearest = np.rint((moments - num_frames / 2) * step / chunk_step).astype(np.int64)
        chunk = np.clip(nearest, 0, num_chunks - 1)
        frame = moments - starts[chunk]
        late = frame >= num_frames  # rounding, at the end
        chunk[late] = np.minimum(chunk[late] + 1, num_chunks - 1)
        frame = np.clip(moments - starts[chunk], 0, num_frames - 1)
        difference = np.zeros(num_moments, dtype=np.float32)
        found = np.where(row.comparison.valid, np.nan_to_num(row.comparison.difference, nan=np.inf), 0)
        for number, start in enumerate(starts):
            room = max(min(num_frames, num_moments - int(start)), 0)
            part = difference[start : start + room]
            np.maximum(part, found[number, :room], out=part)
        both = [_probabilities(side[chunk, frame]) for side in row.posteriors]
        return cls(
            step=step,
            offset=float(geometry.frames.middle_of(0)),
            chunk=chunk.astype(np.int32),
            frame=frame.astype(np.int32),
            baseline=both[0],
            candidate=both[1],
            difference=difference,
        )

    @property
    def num_moments(self) -> int:
        """Frames of the recording."""
        return len(self.chunk)

    @property
    def num_classes(self) -> int:
        """Powerset classes."""
        return int(self.baseline.shape[1])

    def columns(self, start: float, end: float, num_columns: int) -> tuple[np.ndarray, int]:
        """First moment of every column between `start` and `end` (s), and the moment after the last."""
        first = min(max(round((start - self.offset) / self.step), 0), self.num_moments - 1)
        last = min(max(round((end - self.offset) / self.step) + 1, first + 1), self.num_moments)
        edges = np.unique(np.linspace(first, last, num_columns, endpoint=False).astype(np.int64))
        return edges, last

    def time_of(self, moment: np.ndarray | int) -> np.ndarray:
        """Where moments begin, in s."""
        return self.offset + (np.asarray(moment) - 0.5) * self.step


def _probabilities(log_probs: np.ndarray) -> np.ndarray:
    """Log-probabilities as uint8 out of 255."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.exp(log_probs.astype(np.float32))
    return np.rint(255 * np.clip(np.nan_to_num(found), 0, 1)).astype(np.uint8)


def flips_in(flips: np.ndarray, start: float, end: float) -> slice:
    """Rows of sorted times that lie between `start` and `end` (s)."""
    return slice(int(np.searchsorted(flips, start, "left")), int(np.searchsorted(flips, end, "right")))


__all__ = ["FrameAxis", "flips_in"]
