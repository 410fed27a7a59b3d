"""From clusters to who speaks when, in runs of equal frames instead of frames.

What every local speaker of every chunk contributes to the frames of the recording is known before any
clustering. Frames between two neighbouring changes of any of them are alike whatever the clusters are,
so they are worked on as one. The result is that of `discrete_diarization`, bit by bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from workbench.aggregation import FrameAxis, FrameGrid, average_speakers, round_count
from workbench.types import INACTIVE, Features, SlidingWindow

_AT_ONCE = 2**22  # activations (clusters x runs) that are held at once


@dataclass(frozen=True, eq=False)
class Runs:
    """A diarization as runs of equal frames.

    Attributes
    ----------
    starts : int64 array, shape (num_runs,)
        First frame of every run; the first is 0.
    rows : bool array, shape (num_runs, num_clusters)
        Who is active.
    num_frames : frames of the recording
    frames : their time axis
    """

    starts: np.ndarray
    rows: np.ndarray
    num_frames: int
    frames: SlidingWindow

    def discrete(self) -> np.ndarray:
        """The same frame by frame: uint8 array (num_frames, num_clusters)."""
        lengths = np.diff(self.starts, append=self.num_frames)
        return np.repeat(self.rows.astype(np.uint8), lengths, axis=0)

    def canonical(self) -> Runs:
        """The same turns, with speakers in an order that does not depend on their numbers.

        Who says nothing is gone, and so is what begins in the last frame, which makes no turn.
        """
        rows, starts = self.rows, self.starts
        if not rows.size:
            return Runs(starts, rows[:, :0], self.num_frames, self.frames)
        rows = rows & (starts < self.num_frames - 1)[:, None]
        if len(starts) > 1 and starts[-1] == self.num_frames - 1:
            rows, starts = rows[:-1], starts[:-1]
        used = np.flatnonzero(rows.any(axis=0))
        first = rows[:, used].argmax(axis=0)
        # by their first run; those who start together by all that they say
        packed = np.packbits(rows[:, used], axis=0).T
        order = sorted(range(len(used)), key=lambda column: (first[column], packed[column].tobytes()))
        return Runs(starts, rows[:, used[order]], self.num_frames, self.frames)

    def fingerprint(self) -> int:
        """A number that two diarizations share only if they are equal, names of speakers included."""
        digest = hashlib.blake2b(
            repr((self.frames, self.num_frames, self.rows.shape)).encode(), digest_size=8
        )
        digest.update(self.starts.tobytes())
        digest.update(np.packbits(self.rows).tobytes())
        return int.from_bytes(digest.digest(), "little", signed=True)

    def num_speakers(self) -> int:
        """Speakers with a turn; what begins in the last frame has no duration."""
        return int(self.rows[self.starts < self.num_frames - 1].any(axis=0).sum())

    def turns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First frame, frame after the end (at most the last) and speaker of every turn, by speaker."""
        edges = np.diff(self.rows.astype(np.int8), axis=0, prepend=0, append=0).T
        speaker, start = np.nonzero(edges == 1)
        _, end = np.nonzero(edges == -1)
        frame = np.append(self.starts, self.num_frames - 1)
        frame[frame > self.num_frames - 1] = self.num_frames - 1
        first, last = frame[start], frame[end]
        lasting = last > first
        return first[lasting], last[lasting], speaker[lasting]

    def smoothed(self, min_duration_on: float, min_duration_off: float) -> Runs:
        """With short pauses filled, then short turns removed, as `binarize` does.

        Parameters
        ----------
        min_duration_on, min_duration_off : seconds
        """
        if not self.num_frames:
            return self
        first, last, speaker = self.turns()
        middles = self.frames.middle_of(np.arange(self.num_frames))
        if min_duration_off > 0 and len(first):
            pause = middles[first[1:]] - middles[last[:-1]]
            joined = (speaker[1:] == speaker[:-1]) & (pause < min_duration_off)
            begins = np.append(True, ~joined)
            ends = np.append(~joined, True)
            first, last, speaker = first[begins], last[ends], speaker[begins]
        if min_duration_on > 0:
            kept = middles[last] - middles[first] >= min_duration_on
            first, last, speaker = first[kept], last[kept], speaker[kept]
        starts, where = np.unique(np.concatenate([[0], first, last]), return_inverse=True)
        changes = np.zeros((len(starts), self.rows.shape[1]), dtype=np.int32)
        np.add.at(changes, (where[1 : 1 + len(first)], speaker), 1)
        np.add.at(changes, (where[1 + len(first) :], speaker), -1)
        return Runs(starts, changes.cumsum(axis=0) > 0, self.num_frames, self.frames)


class SlotActivity:
    """When the local speakers of every chunk are active, on the frame axis of the recording.

    Parameters
    ----------
    features : segmentations and time axes
    frame_axis : how frames are placed in time, as of `reconstruct`
    """

    def __init__(self, features: Features, frame_axis: FrameAxis = "receptive_field"):
        grid = FrameGrid.of(features, frame_axis)
        self.frames, self.num_frames = grid.frames, grid.num_frames
        self.average = average_speakers(features, frame_axis)
        active = features.segmentations > 0
        self.num_chunks, _, self.num_slots = active.shape
        chunk, slot, first, last = _stretches(active)
        begin, end = grid.starts[chunk] + first, grid.starts[chunk] + last
        shared_chunk, shared_first, shared_last, self._together = _shared_stretches(active)
        changes = [begin, end, 1 + np.flatnonzero(np.diff(self.average))]
        boundaries = np.unique(np.concatenate([np.zeros(1, dtype=np.int64), *changes]))
        self.starts = boundaries[boundaries < max(self.num_frames, 1)]  # frame that every run starts with
        self._slot = chunk * self.num_slots + slot
        self._begin = np.searchsorted(self.starts, begin)
        self._end = np.searchsorted(self.starts, end)
        self._shared_chunk = shared_chunk
        self._shared_begin = np.searchsorted(self.starts, grid.starts[shared_chunk] + shared_first)
        self._shared_end = np.searchsorted(self.starts, grid.starts[shared_chunk] + shared_last)

    def count(self, onset: float = 0.5, most: float | None = None) -> np.ndarray:
        """Speakers at once in every run: int64 array (num_runs,); see `speaker_count`."""
        count = round_count(self.average[self.starts[: self.num_frames]], onset).astype(np.int64)
        return count if most is None else np.minimum(count, int(min(most, 255)))

    def diarize(self, hard_clusters: np.ndarray, count: np.ndarray) -> Runs:
        """Who speaks when, for the clusters of all local speakers.

        Parameters
        ----------
        hard_clusters : int array, shape (num_chunks, num_local_speakers)
            Negative ids take no part.
        count : int array, shape (num_runs,)
        """
        clusters = np.asarray(hard_clusters).reshape(-1)
        spoken = clusters[self._slot]  # of every stretch; slots without one do not appear
        num_clusters = max(0, int(spoken.max(initial=INACTIVE)) + 1)
        if num_clusters == 0:
            none = np.zeros((min(1, self.num_frames), 0), dtype=bool)
            return Runs(np.zeros(len(none), dtype=np.int64), none, self.num_frames, self.frames)
        cluster, run, change = self._changes(clusters, spoken)
        num_columns = max(num_clusters, int(count.max(initial=0)))
        occupied = np.flatnonzero(count)
        rows = np.zeros((len(count), num_columns), dtype=bool)
        width = max(1, _AT_ONCE // num_columns)
        carried = np.zeros((num_columns, 1), dtype=np.int32)
        in_order = np.argsort(run, kind="stable") if len(count) > width else slice(None)
        cluster, run, change = cluster[in_order], run[in_order], change[in_order]
        for start in range(0, len(count), width):
            stop = min(start + width, len(count))
            here = slice(None) if width >= len(count) else slice(*np.searchsorted(run, [start, stop]))
            activations = _sum_up(cluster[here], run[here] - start, change[here], num_columns, stop - start)
            activations[:, :1] += carried
            np.cumsum(activations, axis=1, out=activations)
            carried = activations[:, -1:].copy()
            which = occupied[slice(*np.searchsorted(occupied, [start, stop]))]
            rows[which] = _most_active(activations[:, which - start], count[which])
        differs = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
        return Runs(self.starts[differs], rows[differs], self.num_frames, self.frames)

    def _changes(self, clusters: np.ndarray, spoken: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cluster, run and change (+1 or -1) of all votes; slots of a chunk in one cluster vote once."""
        takes_part = spoken >= 0
        cluster, begin, end = spoken[takes_part], self._begin[takes_part], self._end[takes_part]
        of_chunk = clusters.reshape(self.num_chunks, self.num_slots)
        lists: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(cluster, begin, end)]
        for slot in range(1, self.num_slots):
            earlier = of_chunk[:, :slot]
            same = (earlier == of_chunk[:, slot, None]) & (of_chunk[:, slot, None] >= 0)
            if not same.any():
                continue
            chunk, together = self._shared_chunk, self._together
            twice = np.flatnonzero((same[chunk] & together[:, :slot]).any(axis=1) & together[:, slot])
            # swapped ends take the vote back
            lists.append((of_chunk[chunk[twice], slot], self._shared_end[twice], self._shared_begin[twice]))
        clusters_, begins, ends = (np.concatenate(parts) for parts in zip(*lists, strict=True))
        change = np.ones(len(clusters_), dtype=np.int32)
        return (
            np.concatenate([clusters_, clusters_]),
            np.concatenate([begins, ends]),
            np.concatenate([change, -change]),
        )


def _stretches(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Chunk, slot, first frame and frame after the last of everything said in a chunk."""
    num_chunks, num_frames, num_slots = active.shape
    padded = np.zeros((num_chunks, num_slots, num_frames + 2), dtype=bool)
    padded[:, :, 1:-1] = active.transpose(0, 2, 1)
    changes = padded[:, :, 1:] != padded[:, :, :-1]
    where = np.flatnonzero(changes)  # starts and ends alternate within a slot
    row, frame = np.divmod(where, num_frames + 1)
    chunk, slot = np.divmod(row[::2], max(num_slots, 1))
    return chunk, slot, frame[::2], frame[1::2]


def _shared_stretches(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where two or more slots of a chunk are active: chunk, first frame, frame after the last, which."""
    num_chunks, num_frames, num_slots = active.shape
    slots = np.arange(num_slots)
    which = np.zeros((num_chunks, num_frames), dtype=np.int64)  # a bit per slot
    for slot in slots:
        which |= active[:, :, slot].astype(np.int64) << slot
    which[which & (which - 1) == 0] = 0  # one alone
    differs = np.ones((num_chunks, num_frames + 1), dtype=bool)
    differs[:, 1:-1] = which[:, 1:] != which[:, :-1]
    chunk, frame = np.nonzero(differs)
    first = np.flatnonzero(frame < num_frames)
    kept = first[which[chunk[first], frame[first]] > 0]
    together = which[chunk[kept], frame[kept], None] >> slots & 1 > 0
    return chunk[kept], frame[kept], frame[kept + 1], together


def _sum_up(
    cluster: np.ndarray, run: np.ndarray, change: np.ndarray, num_columns: int, num_runs: int
) -> np.ndarray:
    """Sum of the changes per cluster and run: int32 array (num_columns, num_runs)."""
    kept = run < num_runs  # what ends with the recording changes nothing any more
    where = cluster[kept] * num_runs + run[kept]
    summed = np.bincount(where, change[kept], minlength=num_columns * num_runs)
    return summed.astype(np.int32).reshape(num_columns, num_runs)


def _most_active(activations: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The `count` most active clusters, the lowest first on ties: bool array (num_runs, num_columns)."""
    num_columns, num_runs = activations.shape
    # distinct keys: more activity first, then the lower column
    keys = activations * np.int32(num_columns) + np.arange(num_columns - 1, -1, -1, dtype=np.int32)[:, None]
    chosen = np.zeros((num_runs, num_columns), dtype=bool)
    todo = np.arange(num_runs)
    for found in range(int(count.max(initial=0))):
        going_on = count[todo] > found
        if not going_on.all():
            todo, keys = todo[going_on], keys[:, going_on]
        if not len(todo):
            break
        # the column is in the key
        best = num_columns - 1 - keys.max(axis=0) % num_columns
        chosen[todo, best] = True
        keys[best, np.arange(len(todo))] = -1
    return chosen
