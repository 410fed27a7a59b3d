"""Values that travel between the layers: time axes, geometry, features and named sentinels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

INACTIVE = -2
"""Cluster id of a local speaker that takes no part in the output."""

Kind = Literal["segmentation", "embedding"]
"""What a model is for."""


@dataclass(frozen=True)
class SlidingWindow:
    """A regular time axis; every expression is evaluated as pyannote.core evaluates it.

    Window i covers ``[start + i * step, start + i * step + duration]``. The last bits matter:
    a boundary of an RTTM segment lies exactly between two milliseconds, so the order of the
    float64 operations decides which one is printed.
    """

    start: float  # of window 0, in seconds
    duration: float  # of every window, in seconds
    step: float  # between two windows, in seconds

    def start_of(self, index: np.ndarray | int) -> np.ndarray:
        """Start (s) of windows `index`."""
        return self.start + np.asarray(index) * self.step

    def middle_of(self, index: np.ndarray | int) -> np.ndarray:
        """Middle (s) of windows `index`."""
        start = self.start_of(index)
        return 0.5 * (start + (start + self.duration))

    def closest(self, time: np.ndarray | float) -> np.ndarray:
        """Index of the window whose middle is nearest to `time` (s); halves round to even."""
        return np.rint((np.asarray(time) - self.start - 0.5 * self.duration) / self.step).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a segmentation model sees time and speakers; stored beside every recorded run."""

    sample_rate: int  # Hz
    chunk_duration: float  # s, the length of waveform the model is meant to see
    chunk_step: float  # s, between the starts of two chunks
    frame_start: float  # s, start of the first frame relative to the chunk (the pipeline uses 0)
    frame_duration: float  # s, receptive field of one output frame
    frame_step: float  # s, between two output frames
    powerset: tuple[tuple[int, ...], ...]  # class -> the local speakers it says are active

    @property
    def num_speakers(self) -> int:
        """Local speakers per chunk."""
        return 1 + max((speaker for members in self.powerset for speaker in members), default=-1)

    @property
    def chunks(self) -> SlidingWindow:
        """Time axis of the chunks."""
        return SlidingWindow(0.0, self.chunk_duration, self.chunk_step)

    @property
    def frames(self) -> SlidingWindow:
        """Time axis of aggregated frames: anchored at 0, as the DiariZen pipeline does."""
        return SlidingWindow(0.0, self.frame_duration, self.frame_step)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What clustering needs of one recording, computed once.

    Attributes
    ----------
    uri : name of the recording
    segmentations : float32 array, shape (num_chunks, num_frames, num_local_speakers)
        0 or 1, after powerset decoding (and median filtering, where that is on).
    embeddings : float32 array, shape (num_chunks, num_local_speakers, dimension)
        NaN where there is none.
    chunks, frames : time axes of the chunks and of the aggregated frames
    """

    uri: str
    segmentations: np.ndarray
    embeddings: np.ndarray
    chunks: SlidingWindow
    frames: SlidingWindow


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentFeatures:
    """One embedding per segment, as x-vector recipes compute them.

    Attributes
    ----------
    uri : name of the recording
    embeddings : float array, shape (num_segments, dimension)
    segments : float64 array, shape (num_segments, 2)
        Start and end of every segment, in seconds.
    """

    uri: str
    embeddings: np.ndarray
    segments: np.ndarray
