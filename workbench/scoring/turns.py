"""Turns as arrays, and who is active between any two neighbouring boundaries."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from pyannote.core import Annotation, Segment, Timeline

from workbench.errors import InputError


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
        # not `itertracks`, which sorts the tracks of every segment: that takes longer than scoring
        tracks = annotation._tracks.items()
        rows = [(segment.start, segment.end, label) for segment, named in tracks for label in named.values()]
        labels = tuple(sorted({label for _, _, label in rows}, key=str))
        index = {label: number for number, label in enumerate(labels)}
        starts = np.array([start for start, _, _ in rows], dtype=np.float64)
        ends = np.array([end for _, end, _ in rows], dtype=np.float64)
        # a difference that is NaN or infinite has a time that is
        if not np.isfinite(ends - starts).all():
            start, end, label = rows[int(np.flatnonzero(~np.isfinite(ends - starts))[0])]
            raise InputError(
                f"a turn of {label!r} goes from {start} to {end}; times must be finite, in seconds"
            )
        return cls(starts, ends, np.array([index[label] for _, _, label in rows], dtype=np.intp), labels)

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
    if len(boundaries) < 2 or not num_groups:
        return np.zeros((max(len(boundaries) - 1, 0), num_groups), dtype=np.int64)
    size = len(boundaries) * num_groups
    begun = np.bincount(np.searchsorted(boundaries, starts) * num_groups + groups, minlength=size)
    over = np.bincount(np.searchsorted(boundaries, ends) * num_groups + groups, minlength=size)
    return (begun - over).reshape(-1, num_groups).cumsum(axis=0)[:-1]


def covered(boundaries: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Whether any of `regions` (num_regions, 2) covers each slot; bool, shape (num_slots,)."""
    zeros = np.zeros(len(regions), dtype=np.intp)
    return activity(boundaries, regions[:, 0], regions[:, 1], zeros, 1)[:, 0] > 0
