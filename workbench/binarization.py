"""Scores per frame to segments in time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from pyannote.core import Annotation, Segment

from workbench.types import SlidingWindow


def hysteresis(
    scores: np.ndarray, onset: float = 0.5, offset: float | None = None, initial_state: bool | None = None
) -> np.ndarray:
    """On above `onset`, off below `offset`, unchanged in between.

    Parameters
    ----------
    scores : float array, shape (..., num_frames)
        NaN counts as 0.
    onset, offset : `offset` is `onset` unless given
    initial_state : before the first frame that decides; None takes on if the first score is in
        the upper half between `offset` and `onset`

    Returns
    -------
    active : bool array, shape (..., num_frames)
    """
    offset = onset if offset is None else offset
    scores = np.nan_to_num(scores)
    on = scores > onset
    decides = on | (scores < offset)
    # index of the last frame that decided, -1 where none did so far
    last = np.maximum.accumulate(np.where(decides, np.arange(scores.shape[-1]), -1), axis=-1)
    held = np.take_along_axis(on, np.maximum(last, 0), axis=-1)
    before = scores[..., :1] >= 0.5 * (onset + offset) if initial_state is None else initial_state
    return np.where(last >= 0, held, before)


def binarize(
    scores: np.ndarray,
    frames: SlidingWindow,
    *,
    onset: float = 0.5,
    offset: float | None = None,
    min_duration_on: float = 0.0,
    min_duration_off: float = 0.0,
    pad_onset: float = 0.0,
    pad_offset: float = 0.0,
    labels: Sequence[Hashable] | None = None,
    uri: str | None = None,
) -> Annotation:
    """Active regions of every column.

    A region starts at the middle of its first active frame and ends at the middle of the first
    inactive one, or of the last frame there is; so a lone active last frame leaves nothing.

    Parameters
    ----------
    scores : float array, shape (num_frames, num_columns)
    frames : time axis of the frames
    onset, offset : thresholds, see `hysteresis`
    min_duration_on : shorter regions are removed, in seconds
    min_duration_off : shorter gaps within a column are filled, in seconds
    pad_onset, pad_offset : regions are extended by this much, in seconds
    labels : of the columns; None numbers them
    uri : name of the recording

    Returns
    -------
    annotation : label and times of every region
    """
    annotation = Annotation(uri=uri)
    num_frames, num_columns = scores.shape
    if num_frames == 0:
        return annotation
    middles = frames.middle_of(np.arange(num_frames))
    active = hysteresis(scores.T, onset, offset, initial_state=False)  # (column, frame)
    # +1 where a region starts, -1 in the first frame after it
    edges = np.diff(active.astype(np.int8), axis=1, prepend=0, append=0)
    for column in range(num_columns):
        starts = np.flatnonzero(edges[column] == 1)
        ends = np.minimum(np.flatnonzero(edges[column] == -1), num_frames - 1)
        label = column if labels is None else labels[column]
        for start, end in zip(middles[starts].tolist(), middles[ends].tolist(), strict=True):
            annotation[Segment(start - pad_onset, end + pad_offset), column] = label
    if pad_onset > 0 or pad_offset > 0 or min_duration_off > 0:
        annotation = annotation.support(collar=min_duration_off)
    if min_duration_on > 0:
        for segment, track in list(annotation.itertracks()):
            if segment.duration < min_duration_on:
                del annotation[segment, track]
    return annotation
