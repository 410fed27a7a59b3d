"""Powerset classes: sets of local speakers that are active together, and decoding into single speakers.

Follows Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization",
Interspeech 2023. Only numpy is needed, so that decoding works where nothing else is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Classes = Sequence[Sequence[int]]

MEDIAN_FRAMES = 11
"""Length of DiariZen's median filter."""


def powerset_classes(num_speakers: int, max_set_size: int) -> tuple[tuple[int, ...], ...]:
    """All sets of at most `max_set_size` of `num_speakers` speakers, small sets first.

    Examples
    --------
    >>> powerset_classes(3, 2)
    ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    """
    if num_speakers < 1 or not 1 <= max_set_size <= num_speakers:
        raise ValueError(
            "a powerset needs num_speakers >= 1 and 1 <= max_set_size <= num_speakers, "
            f"got num_speakers={num_speakers} and max_set_size={max_set_size}"
        )
    sizes = range(max_set_size + 1)
    return tuple(members for size in sizes for members in combinations(range(num_speakers), size))


def mapping(classes: Classes) -> np.ndarray:
    """Which speaker is active in which class: float32 array (num_classes, num_speakers), 0 or 1.

    Examples
    --------
    >>> mapping([(), (0,), (1,), (0, 1)])
    array([[0., 0.],
           [1., 0.],
           [0., 1.],
           [1., 1.]], dtype=float32)
    """
    num_speakers = 1 + max((speaker for members in classes for speaker in members), default=-1)
    active = np.zeros((len(classes), num_speakers), dtype=np.float32)
    for index, members in enumerate(classes):
        active[index, list(members)] = 1.0
    return active


def to_multilabel(log_probs: np.ndarray, classes: Classes, soft: bool = False) -> np.ndarray:
    """Activity of every local speaker in every frame.

    Parameters
    ----------
    log_probs : float array, shape (..., num_frames, num_classes)
        Natural-log probabilities (or any scores that rank the classes, when `soft` is off).
    classes : class -> its speakers
    soft : probability of each speaker instead of the hard decision

    Returns
    -------
    multilabel : float32 array, shape (..., num_frames, num_speakers)
        0 or 1: the speakers of the best class (the first one on ties); in [0, 1] if `soft`.
    """
    _check_scores("log_probs", log_probs, len(classes), "one column per powerset class")
    table = mapping(classes)
    if soft:
        return np.exp(log_probs, dtype=np.float32) @ table
    return table[np.argmax(log_probs, axis=-1)]


def to_powerset(multilabel: np.ndarray, classes: Classes) -> np.ndarray:
    """Index of the powerset class that overlaps most with the active speakers.

    Where more speakers are active than a class may hold, the first of the equally good
    classes is taken.

    Parameters
    ----------
    multilabel : float array, shape (..., num_frames, num_speakers)
        0 or 1, or probabilities.

    Returns
    -------
    class_index : int64 array, shape (..., num_frames)
    """
    table = mapping(classes)
    _check_scores("multilabel", multilabel, table.shape[1], "one column per local speaker")
    return np.argmax(np.asarray(multilabel, dtype=np.float32) @ table.T, axis=-1)


def permute_classes(classes: Classes, permutation: Sequence[int]) -> np.ndarray:
    """Where every class comes from when local speakers are reordered.

    Parameters
    ----------
    permutation : new speaker s is the former speaker ``permutation[s]``

    Returns
    -------
    source : int64 array, shape (num_classes,)
        ``log_probs[..., source]`` are the log-probabilities after the reordering, so that
        ``to_multilabel`` of them equals ``to_multilabel(log_probs)[..., permutation]``.
    """
    index_of = {frozenset(members): index for index, members in enumerate(classes)}
    return np.array(
        [index_of[frozenset(permutation[speaker] for speaker in members)] for members in classes],
        dtype=np.int64,
    )


def median_filter(segmentations: np.ndarray, num_frames: int = MEDIAN_FRAMES) -> np.ndarray:
    """Median over `num_frames` neighbouring frames, for every chunk and speaker on its own.

    At the edges the signal is mirrored with the edge frame repeated (``b a | a b c``). The filter
    acts after the powerset decision, so more speakers than any class allows may come out active.

    Parameters
    ----------
    segmentations : float array, shape (num_chunks, num_frames, num_speakers)
    num_frames : odd length of the filter

    Returns
    -------
    filtered : array of the shape and type of `segmentations`
    """
    if num_frames < 1 or num_frames % 2 == 0:
        raise ValueError(f"the median filter needs an odd number of frames, got {num_frames}")
    if segmentations.size == 0:
        return segmentations.copy()
    half = num_frames // 2
    padded = np.pad(segmentations, ((0, 0), (half, half), (0, 0)), mode="symmetric")
    if np.isin(segmentations, (0, 1)).all():
        # the median of zeros and ones is a majority vote, which a running sum finds quickly
        sums = np.cumsum(padded, axis=1, dtype=np.int32)
        sums = np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
        votes = sums[:, num_frames:] - sums[:, :-num_frames]
        return (votes > half).astype(segmentations.dtype)
    windows = sliding_window_view(padded, num_frames, axis=1)  # (chunk, frame, speaker, neighbour)
    return np.median(windows, axis=-1).astype(segmentations.dtype)


def _check_scores(name: str, scores: np.ndarray, num_columns: int, meaning: str) -> None:
    if np.ndim(scores) < 1 or np.shape(scores)[-1] != num_columns:
        raise ValueError(
            f"{name} must have shape (..., num_frames, {num_columns}), {meaning}, got {np.shape(scores)}"
        )
