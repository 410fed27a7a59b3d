"""Dumps that were read in another form than they were written in: axes, byte order, number type."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

_AXES = ("chunk", "frame", "class")
_SUMS = 0.02  # how far from 1 the probabilities of a frame may sum
_MOST_ROWS = 0.9  # share of the frames that must
_MOST_CHUNKS = 64  # that are looked at for how smooth they are
_MOST_FRAMES = 20_000  # that are looked at


def other_form(array: np.ndarray, num_chunks: int | None = None) -> str:
    """The line for `geometry.json` under which the values are log-probabilities; empty where none is needed.

    Parameters
    ----------
    array : float array, shape (num_chunks, num_frames, num_powerset_classes), as it was read
    num_chunks : that there should be, of another number type there are others; None: unknown

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = np.log(rng.dirichlet(np.ones(4), (6, 10))).astype("<f4")
    >>> other_form(scores), other_form(scores.transpose(0, 2, 1).reshape(6, 10, 4))
    ('', '"axes": ["chunk", "class", "frame"]')
    >>> other_form(scores.byteswap())
    '"byte_order": "big"'
    """
    array = np.asarray(array)
    if array.ndim != 3 or array.size == 0 or _sums_to_one(array):
        return ""
    fitting = [(line, variant) for line, variant in _variants(array, num_chunks) if _sums_to_one(variant)]
    # of two axes that could be chunks and frames, scores change little from frame to frame
    return min(fitting, key=lambda each: _roughness(each[1]), default=("", array))[0]


def _variants(array: np.ndarray, num_chunks: int | None) -> Iterator[tuple[str, np.ndarray]]:
    frames, classes = array.shape[1:]
    flat = np.ascontiguousarray(array)
    sizes = dict(zip(_AXES, array.shape, strict=True))
    for order in permutations(_AXES):
        if order != _AXES:
            shaped = flat.reshape([sizes[axis] for axis in order])
            line = f'"axes": {list(order)}'.replace("'", '"')
            yield line, shaped.transpose([order.index(axis) for axis in _AXES])
    if flat.dtype == np.float32:
        yield '"byte_order": "big"', flat.byteswap()
        for name in ("float64", "float16"):
            size = flat.nbytes // np.dtype(name).itemsize
            if size % (frames * classes) == 0 and num_chunks in (None, size // (frames * classes)):
                yield f'"dtype": "{name}"', flat.reshape(-1).view(name).reshape(-1, frames, classes)


def _roughness(array: np.ndarray) -> float:
    """Mean change of probabilities from one frame to the next."""
    with np.errstate(over="ignore", invalid="ignore"):
        probabilities = np.exp(np.minimum(array[:_MOST_CHUNKS].astype(np.float64), 0.0))
        return float(np.abs(np.diff(probabilities, axis=1)).mean()) if array.shape[1] > 1 else np.inf


def _sums_to_one(array: np.ndarray) -> bool:
    """Whether the values are natural logarithms of probabilities over the last axis, in most frames."""
    step = max(1, array.shape[0] * array.shape[1] // _MOST_FRAMES)
    with np.errstate(over="ignore", invalid="ignore"):  # of bytes that are no numbers
        rows = array.reshape(-1, array.shape[-1])[::step].astype(np.float64)
        sums = np.exp(rows).sum(axis=-1)
        return bool((np.abs(sums - 1) < _SUMS).mean() > _MOST_ROWS)
