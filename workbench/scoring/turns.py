"""Turns as arrays, and who is active between any two neighbouring boundaries."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from scipy.sparse import csr_array

from workbench.errors import InputError, expect

Activity: TypeAlias = np.ndarray | csr_array
"""Who is active in which slot, (num_slots, num_speakers): as an array, or sparse where that is large."""

MOST_DENSE = 2**21  # entries of an array of who is active: beyond, most of it would be zeros


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
        expect(annotation, Annotation, "an annotation must be given, as `read_rttm(path)[uri]` is one")
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


def sparse_activity(boundaries: np.ndarray, turns: Turns) -> csr_array:
    """What `activity` counts for the speakers of `turns`, in memory that grows with the speech alone."""
    shape = (max(len(boundaries) - 1, 0), len(turns.labels))
    if not len(turns) or not shape[0]:
        return csr_array(shape, dtype=np.int64)
    edges = np.concatenate(
        [np.searchsorted(boundaries, turns.starts), np.searchsorted(boundaries, turns.ends)]
    )
    # along the time of one speaker after the other: between two neighbouring changes nothing changes
    change = np.repeat([1, -1], len(turns))
    where, change_of = np.unique(np.tile(turns.speakers, 2) * len(boundaries) + edges, return_inverse=True)
    times = np.bincount(change_of, change).astype(np.int64).cumsum()
    speaker, first = np.divmod(where, len(boundaries))
    speaks = np.flatnonzero(times)  # a speaker's last change leaves nobody, so the next one is theirs, too
    length = first[speaks + 1] - first[speaks]
    before = np.cumsum(length) - length
    slot = np.arange(length.sum()) + np.repeat(first[speaks] - before, length)
    values = np.repeat(times[speaks], length)
    return csr_array((values, (slot, np.repeat(speaker[speaks], length))), shape=shape)


def activities(boundaries: np.ndarray, *sides: Turns) -> list[Activity]:
    """Who is active between neighbouring boundaries, of every side; all of them sparse, or none."""
    if len(boundaries) * max(len(side.labels) for side in sides) > MOST_DENSE:
        return [sparse_activity(boundaries, side) for side in sides]
    return [activity(boundaries, side.starts, side.ends, side.speakers, len(side.labels)) for side in sides]


def dense(array: Activity) -> np.ndarray:
    """The same numbers as an array."""
    return array if isinstance(array, np.ndarray) else array.toarray()


def covered(boundaries: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Whether any of `regions` (num_regions, 2) covers each slot; bool, shape (num_slots,)."""
    zeros = np.zeros(len(regions), dtype=np.intp)
    return activity(boundaries, regions[:, 0], regions[:, 1], zeros, 1)[:, 0] > 0
