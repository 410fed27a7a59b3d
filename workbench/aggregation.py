"""Overlapping chunks to one time axis: sums and averages over the chunks that see a frame."""

from __future__ import annotations

from typing import Literal

import numpy as np

from workbench.types import Features, SlidingWindow

FrameAxis = Literal["receptive_field", "chunk"]
"""How the frames of a recording are placed.

`receptive_field` (DiariZen, pyannote 4): duration and step of one model output.
`chunk` (pyannote 3.1): the duration of a chunk divided by its number of frames, as both.
"""

_ROUNDING = 1e-6  # of averages in float32; parts that differ at all do so by more
_EPSILON = 1e-12  # weight of warm-up frames, and what keeps an average over no chunk finite


class FrameGrid:
    """Where the frames of every chunk fall on the recording's frame axis.

    Attributes
    ----------
    frames : time axis of the recording's frames; starts where the chunks start
    num_frames : number of frames of the recording
    starts : int64 array, shape (num_chunks,)
        Frame of the recording that is the first frame of each chunk.
    """

    def __init__(
        self,
        chunks: SlidingWindow,
        frames: SlidingWindow,
        num_chunks: int,
        num_frames_per_chunk: int,
        frame_axis: FrameAxis = "receptive_field",
    ):
        if frame_axis == "chunk":
            width = chunks.duration / max(num_frames_per_chunk, 1)
            self.frames = SlidingWindow(chunks.start, width, width)
            half = 0.0  # 3.1 takes the frame whose middle is nearest to the *start* of a chunk
        elif frame_axis == "receptive_field":
            self.frames = SlidingWindow(chunks.start, frames.duration, frames.step)
            half = 0.5 * frames.duration
        else:
            raise ValueError(f"frame_axis must be 'receptive_field' or 'chunk', got {frame_axis!r}")
        self.starts = self.frames.closest(chunks.start_of(np.arange(num_chunks)) + half)
        if num_chunks == 0:
            self.num_frames = 0
            return
        end = chunks.start + chunks.duration + (num_chunks - 1) * chunks.step
        last = int(self.starts[-1]) + num_frames_per_chunk - 1
        # the reference fails where a chunk has more frames than fit its duration
        self.num_frames = 1 + max(int(self.frames.closest(end + half)), last)

    @classmethod
    def of(cls, features: Features, frame_axis: FrameAxis = "receptive_field") -> FrameGrid:
        """The grid of a recording's segmentations."""
        num_chunks, num_frames_per_chunk, _ = features.segmentations.shape
        return cls(features.chunks, features.frames, num_chunks, num_frames_per_chunk, frame_axis)


def aggregate(
    scores: np.ndarray,
    chunks: SlidingWindow,
    frames: SlidingWindow,
    *,
    hamming: bool = False,
    warm_up: tuple[float, float] = (0.0, 0.0),
    skip_average: bool = False,
    missing: float = np.nan,
    frame_axis: FrameAxis = "receptive_field",
) -> tuple[np.ndarray, SlidingWindow]:
    """Weighted average (or sum) of overlapping chunks.

    Sums are accumulated in float32, chunk by chunk, as the reference does.

    Parameters
    ----------
    scores : float array, shape (num_chunks, num_frames_per_chunk, num_classes)
        NaN takes no part.
    chunks, frames : time axes of the chunks, and of the model's frames
    hamming : weight the frames of a chunk by a Hamming window
    warm_up : seconds at the start and the end of a chunk that count only where no other chunk does
    skip_average : sum instead of average
    missing : value of frames that no chunk has a score for

    Returns
    -------
    aggregated : float32 array, shape (num_frames, num_classes)
    frames : its time axis
    """
    num_chunks, num_frames_per_chunk, num_classes = scores.shape
    grid = FrameGrid(chunks, frames, num_chunks, num_frames_per_chunk, frame_axis)
    weights = np.hamming(num_frames_per_chunk) if hamming else np.ones(num_frames_per_chunk)
    weights = (weights * _warm_up_window(warm_up, chunks.duration, num_frames_per_chunk))[:, None]

    total = np.zeros((grid.num_frames, num_classes), dtype=np.float32)
    weight = np.zeros_like(total)
    covered = np.zeros(total.shape, dtype=bool)
    for start, chunk_scores in zip(grid.starts, scores, strict=True):
        here = slice(start, start + num_frames_per_chunk)
        valid = ~np.isnan(chunk_scores)
        total[here] += np.where(valid, chunk_scores, 0.0) * weights
        weight[here] += valid * weights
        covered[here] |= valid
    aggregated = total if skip_average else total / np.maximum(weight, np.float32(_EPSILON))
    aggregated[~covered] = missing
    return aggregated, grid.frames


def _warm_up_window(warm_up: tuple[float, float], chunk_duration: float, num_frames: int) -> np.ndarray:
    """One, and almost zero in the warm-up frames: float64 array (num_frames,)."""
    left, right = (round(seconds / chunk_duration * num_frames) for seconds in warm_up)
    window = np.ones(num_frames)
    window[:left] = _EPSILON
    window[num_frames - right :] = _EPSILON
    return window


def speaker_count(
    features: Features, frame_axis: FrameAxis = "receptive_field", onset: float = 0.5
) -> np.ndarray:
    """How many speakers are active at once, averaged over the chunks that see a frame.

    Parameters
    ----------
    features : segmentations and time axes
    frame_axis : how frames are placed in time
    onset : one speaker more counts where more than this fraction of the chunks hear one more; with 1,
        only what all of them hear counts

    Returns
    -------
    count : uint8 array, shape (num_frames,)
        With the onset of 0.5, halves round to even: an average of 0.5 counts 0, of 1.5 counts 2.
    """
    return round_count(average_speakers(features, frame_axis), onset)


def average_speakers(features: Features, frame_axis: FrameAxis = "receptive_field") -> np.ndarray:
    """Active speakers, averaged over the chunks that see a frame: float32 array (num_frames,)."""
    active = np.einsum("cfs->cf", features.segmentations)[..., None]  # whole numbers: exact in any order
    average, _ = aggregate(active, features.chunks, features.frames, missing=0.0, frame_axis=frame_axis)
    return average[:, 0]


def round_count(average: np.ndarray, onset: float = 0.5) -> np.ndarray:
    """Whole speakers from averages over chunks, uint8: a part above `onset` counts as one more.

    Examples
    --------
    >>> average = np.array([0.5, 1.0, 1.3, 1.5, 2.4], dtype=np.float32)
    >>> [round_count(average, onset).tolist() for onset in (0.3, 0.5, 1.0)]
    [[1, 1, 1, 2, 3], [0, 1, 1, 2, 2], [0, 1, 1, 1, 2]]
    """
    if onset == 0.5:
        return np.rint(average).astype(np.uint8)  # halves to even, as the reference
    # rounding a shifted average would send its halves to even, too: 1.3 up and 0.3 down, for 0.3
    whole = np.floor(average)
    return (whole + (average - whole > onset + _ROUNDING)).astype(np.uint8)
