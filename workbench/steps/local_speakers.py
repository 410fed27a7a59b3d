"""Local speakers that one side has in another order, chunk by chunk: found, and put right.

Who is the first and who the second speaker of a chunk is nobody's business but the network's: clusters and
turns do not depend on it. Everything from the scores to the labels does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from workbench.powerset import permute_classes
from workbench.steps.names import Step
from workbench.types import Geometry

_MOST_SPEAKERS = 6  # whose orders are tried one by one
_BETTER = 0.1  # part of the difference that the right order leaves at most
_DETECTED_IN = ("log_probs", "multilabel", "segmentations", "masks")
_FLOOR = -20.0  # nats: below, log-probabilities say no more than "no"

Arrays = Callable[[str], tuple[np.ndarray, np.ndarray]]
"""Gives an array of both sides by the name of its step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalOrder:
    """Where the candidate has the baseline's local speakers.

    Attributes
    ----------
    orders : int array, shape (num_chunks, num_local_speakers)
        Of a chunk, the baseline's speaker s is the candidate's ``orders[chunk, s]``.
    rows : int array, the candidate's filtered embedding for every one of the baseline; None: not known
    classes : the powerset
    """

    orders: np.ndarray
    rows: np.ndarray | None
    classes: tuple[tuple[int, ...], ...]

    @property
    def moved(self) -> np.ndarray:
        """Numbers of the chunks that are in another order."""
        identity = np.arange(self.orders.shape[1])
        return np.flatnonzero((self.orders != identity).any(axis=1))

    @property
    def words(self) -> str:
        """One clause."""
        count = len(self.moved)
        return f"local speakers of {count} of {len(self.orders)} chunks are permuted"

    def apply(self, step: Step, array: np.ndarray) -> np.ndarray:
        """The candidate's array of a step in the baseline's order; others than these as they are."""
        num_chunks, num_speakers = self.orders.shape
        if step.axes[:1] == ("embedding",) and self.rows is not None and len(array) == len(self.rows):
            return array[self.rows]
        if step.comparison == "linkage" and self.rows is not None and len(array) == len(self.rows) - 1:
            return self._relabelled(array)
        if step.axes[:1] != ("chunk",) or array.ndim != len(step.axes) or len(array) != num_chunks:
            return array
        if step.axes[-1] == "class" and array.shape[-1] == len(self.classes):
            columns = np.stack(
                [permute_classes(self.classes, tuple(order)) for order in self.orders.tolist()]
            )
            found: np.ndarray = np.take_along_axis(array, columns[:, None], axis=2)
            return found
        if "local_speaker" not in step.axes:
            return array
        axis = step.axes.index("local_speaker")
        if array.shape[axis] != num_speakers:
            return array
        shape = [1] * array.ndim
        shape[0], shape[axis] = num_chunks, num_speakers
        taken: np.ndarray = np.take_along_axis(array, self.orders.reshape(shape), axis=axis)
        return taken

    def _relabelled(self, merges: np.ndarray) -> np.ndarray:
        """A linkage whose leaves have the baseline's numbers."""
        if self.rows is None:
            return merges
        place = np.empty(len(self.rows), dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        merges = merges.astype(np.float64).copy()
        leaves = merges[:, :2] < len(place)
        numbers = np.where(leaves, merges[:, :2], 0).astype(np.int64)
        merges[:, :2] = np.where(leaves, place[numbers], merges[:, :2])
        return merges


def find_local_order(
    shared: Mapping[str, Step], load: Arrays, geometry: Geometry | None
) -> LocalOrder | None:
    """The order of the candidate's local speakers, from the first step that tells; None: nothing is permuted.

    Parameters
    ----------
    shared : array of a step -> step, of those that both sides have
    load : gives their arrays
    geometry : of either side
    """
    classes = geometry.powerset if geometry is not None else ()
    for name in _DETECTED_IN:
        if name not in shared or (name == "log_probs" and not classes):
            continue
        one, other = load(name)
        if (
            one.shape != other.shape
            or one.ndim != 3
            or (name == "log_probs" and one.shape[2] != len(classes))
        ):
            continue
        orders = _orders(name, one, other, classes)
        if orders is None:
            return None
        return LocalOrder(orders=orders, rows=_rows(shared, load, orders), classes=classes)
    return None


def _orders(
    name: str, one: np.ndarray, other: np.ndarray, classes: tuple[tuple[int, ...], ...]
) -> np.ndarray | None:
    if name == "log_probs":
        one, other = np.maximum(one, _FLOOR), np.maximum(other, _FLOOR)
        num_speakers = 1 + max((speaker for members in classes for speaker in members), default=-1)
    else:
        if name == "masks":
            one, other = one.transpose(0, 2, 1), other.transpose(0, 2, 1)
        num_speakers = one.shape[2]
    if not 2 <= num_speakers <= _MOST_SPEAKERS:
        return None
    identity = tuple(range(num_speakers))
    tried: list[tuple[tuple[int, ...], np.ndarray]] = []
    for order in permutations(identity):
        try:
            columns = permute_classes(classes, order) if name == "log_probs" else np.array(order)
        except KeyError:  # a powerset that lacks some sets has not every order
            continue
        tried.append((order, columns))
    orders = np.tile(identity, (len(one), 1))
    for chunk, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        before = np.nansum(np.abs(mine - theirs), dtype=np.float64)
        if not before > 1e-6 * mine.size:
            continue
        left = [np.nansum(np.abs(mine - theirs[:, columns]), dtype=np.float64) for _, columns in tried]
        best = int(np.argmin(left))
        if left[best] <= _BETTER * before:
            orders[chunk] = tried[best][0]
    return orders if (orders != identity).any() else None


def _rows(shared: Mapping[str, Step], load: Arrays, orders: np.ndarray) -> np.ndarray | None:
    """The candidate's filtered embedding that belongs to every one of the baseline."""
    if not {"filtered_embeddings", "embeddings"} <= shared.keys():
        return None
    places = [_places(*pair) for pair in zip(load("filtered_embeddings"), load("embeddings"), strict=True)]
    if places[0] is None or places[1] is None or len(places[0]) != len(places[1]):
        return None
    theirs = {place: row for row, place in enumerate(places[1])}
    wanted = [(chunk, int(orders[chunk, speaker])) for chunk, speaker in places[0]]
    found = [theirs.get(place, -1) for place in wanted]
    return None if -1 in found or len(set(found)) < len(found) else np.array(found, dtype=np.int64)


def _places(filtered: np.ndarray, embeddings: np.ndarray) -> list[tuple[int, int]] | None:
    """Chunk and local speaker of every filtered embedding, by its values."""
    if embeddings.ndim != 3 or filtered.ndim != 2 or filtered.dtype != embeddings.dtype:
        return None
    known: dict[bytes, tuple[int, int]] = {}
    for chunk, several in enumerate(np.ascontiguousarray(embeddings)):
        for speaker, row in enumerate(several):
            known.setdefault(row.tobytes(), (chunk, speaker))
    found = [known.get(row.tobytes()) for row in np.ascontiguousarray(filtered)]
    return None if None in found else [place for place in found if place is not None]
