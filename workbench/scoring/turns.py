"""Turns as arrays, and who is active between any two neighbouring boundaries."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from pyannote.core import Annotation, Segment, Timeline


@dataclass(frozen=True, eq=False)
class Turns:
    """The turns of one recording.

    Attributes
    ----------
    starts, ends : float64 array, shape (num_turns,), in seconds
    speakers : int array, shape (num_turns,)
        Index into `labels`.
    labels : names of the speakers, sorted as strings
    """

    starts: np.ndarray
    ends: np.ndarray
    speakers: np.ndarray
    labels: tuple[Hashable, ...]

    @classmethod
    def of(cls, annotation: Annotation) -> Turns:
        """Every track of `annotation`."""
        rows = [
            (segment.start, segment.end, label)
            for segment, _, label in annotation.itertracks(yield_label=True)
        ]
        labels = tuple(sorted({label for _, _, label in rows}, key=str))
        index = {label: number for number, label in enumerate(labels)}
        return cls(
            np.array([start for start, _, _ in rows], dtype=np.float64),
            np.array([end for _, end, _ in rows], dtype=np.float64),
            np.array([index[label] for _, _, label in rows], dtype=np.intp),
            labels,
        )

    def __len__(self) -> int:
        return len(self.starts)


def regions_of(uem: Timeline | Segment | None, *sides: Turns) -> np.ndarray:
    """Scored regions, shape (num_regions, 2), in seconds.

    Without a UEM: from the first start to the last end of any turn of `sides`.
    """
    if isinstance(uem, Segment):
        uem = Timeline([uem])
    if uem is not None:
        return np.array([(region.start, region.end) for region in uem.support()], dtype=np.float64).reshape(
            -1, 2
        )
    spoken = [side for side in sides if len(side)]
    if not spoken:
        return np.empty((0, 2))
    return np.array([[min(side.starts.min() for side in spoken), max(side.ends.max() for side in spoken)]])


def activity(
    boundaries: np.ndarray, starts: np.ndarray, ends: np.ndarray, groups: np.ndarray, num_groups: int
) -> np.ndarray:
    """How many intervals of each group cover each slot between two neighbouring boundaries.

    Parameters
    ----------
    boundaries : sorted array, shape (num_slots + 1,)
        Among them every start and end.
    starts, ends, groups : arrays, shape (num_intervals,)
        `groups` holds integers below `num_groups`: speakers, or zeros.

    Returns
    -------
    active : int array, shape (num_slots, num_groups)
    """
    changes = np.zeros((len(boundaries), num_groups), dtype=np.int64)
    np.add.at(changes, (np.searchsorted(boundaries, starts), groups), 1)
    np.add.at(changes, (np.searchsorted(boundaries, ends), groups), -1)
    return changes.cumsum(axis=0)[:-1]


def covered(boundaries: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Whether any of `regions` (num_regions, 2) covers each slot; bool, shape (num_slots,)."""
    zeros = np.zeros(len(regions), dtype=np.intp)
    return activity(boundaries, regions[:, 0], regions[:, 1], zeros, 1)[:, 0] > 0
