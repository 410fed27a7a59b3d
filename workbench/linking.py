"""Local speakers of overlapping chunks linked into tracks, by who is active together in the overlap."""

from __future__ import annotations

from itertools import permutations

import numpy as np

_MAX_BRUTE_FORCE = 6  # speakers; 720 permutations


def link_chunks(multilabel: np.ndarray, step: int) -> np.ndarray:
    """Put the local speakers of every chunk in the order of the chunk before.

    Parameters
    ----------
    multilabel : float array, shape (num_chunks, num_frames, num_speakers)
        0 or 1.
    step : frames between the starts of two chunks

    Returns
    -------
    linked : array like `multilabel`
        Speaker s of a chunk and speaker s of the next are the best match over their overlap.
    """
    linked = multilabel.copy()
    for previous, current in zip(linked[:-1], linked[1:], strict=True):
        before, after = previous[step:], current[: len(current) - step]
        current[:] = current[:, best_permutation(before.T @ after)]
    return linked


def best_permutation(coactivity: np.ndarray) -> np.ndarray:
    """Column for every row so that the sum of the chosen entries is largest.

    Parameters
    ----------
    coactivity : float array, shape (num_speakers, num_speakers)
        Frames in which speaker `row` of one chunk and speaker `column` of the next are active.

    Returns
    -------
    permutation : int array, shape (num_speakers,)
        Among equally good ones the first in lexicographic order: whoever shares nothing keeps
        their place if they can. Above 6 speakers the best pairs are taken one after the other.

    Examples
    --------
    >>> best_permutation(np.array([[0, 5, 0], [3, 1, 0], [0, 0, 0]]))
    array([1, 0, 2])
    """
    num_speakers = len(coactivity)
    if num_speakers > _MAX_BRUTE_FORCE:
        return _greedy(coactivity)
    candidates = np.array(list(permutations(range(num_speakers))), dtype=np.int64)
    sums = coactivity[np.arange(num_speakers), candidates].sum(axis=1)
    return candidates[sums.argmax()]


def _greedy(coactivity: np.ndarray) -> np.ndarray:
    permutation = np.full(len(coactivity), -1)
    for index in np.argsort(-coactivity, axis=None, kind="stable"):
        row, column = np.unravel_index(index, coactivity.shape)
        if permutation[row] < 0 and column not in permutation:
            permutation[row] = column
    return permutation


def stitch(linked: np.ndarray, step: int, num_frames: int) -> np.ndarray:
    """One activity per track: every frame is decided by the chunk in whose middle it lies most.

    Parameters
    ----------
    linked : float array, shape (num_chunks, num_chunk_frames, num_speakers)
    step : frames between the starts of two chunks
    num_frames : frames of the recording

    Returns
    -------
    activity : array, shape (num_frames, num_speakers)
    """
    num_chunks, num_chunk_frames, _ = linked.shape
    frame = np.arange(num_frames)
    chunk = np.clip((frame - (num_chunk_frames - step) // 2) // step, 0, num_chunks - 1)
    within = np.minimum(frame - chunk * step, num_chunk_frames - 1)
    return linked[chunk, within]


def active_runs(active: np.ndarray) -> np.ndarray:
    """First and one-past-last frame of every run of active frames: int array (num_runs, 2).

    Examples
    --------
    >>> active_runs(np.array([0, 1, 1, 0, 1]))
    array([[1, 3],
           [4, 5]])
    """
    padded = np.concatenate([[0], np.asarray(active) > 0, [0]]).astype(np.int8)
    return np.flatnonzero(np.diff(padded)).reshape(-1, 2)
