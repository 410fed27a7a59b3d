"""Chunks behind the end of a recording, with which a batch of fixed size was filled up."""

from __future__ import annotations

import numpy as np


def what_fills(array: np.ndarray, expected: int) -> str:
    """What the entries behind the first `expected` hold, where it is padding; empty where it is not.

    Parameters
    ----------
    array : shape (num_chunks, ...), with more chunks than there should be
    expected : chunks that there should be

    Examples
    --------
    >>> scores = np.arange(6.0).reshape(3, 2)
    >>> what_fills(np.concatenate([scores, np.zeros((2, 2))]), 3)
    'zeros'
    >>> what_fills(np.concatenate([scores, scores[-1:], scores[-1:]]), 3)
    'copies of the last chunk'
    >>> what_fills(np.concatenate([scores, scores[:1] + 10]), 3)
    ''
    """
    array = np.asarray(array)
    if not 0 < expected < len(array) or array.ndim < 2:
        return ""
    surplus, last = array[expected:], array[expected - 1]
    if not np.nan_to_num(surplus).any():
        return "zeros"
    if _equal(surplus, last):
        return "copies of the last chunk"
    if _equal(surplus, array[0]):
        return "copies of the first chunk"
    if len(surplus) > 1 and _equal(surplus, surplus[0]):
        return "one and the same answer, as a model gives to zeros"
    if len(surplus) <= expected and _equal(surplus, array[: len(surplus)]):
        return "copies of the first chunks"
    return ""


def _equal(several: np.ndarray, one: np.ndarray) -> bool:
    return bool(
        np.array_equal(several, np.broadcast_to(one, several.shape), equal_nan=several.dtype.kind == "f")
    )
