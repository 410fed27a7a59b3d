"""The assignment of local speakers to clusters for all chunks of a recording at once.

What the Hungarian method finds chunk by chunk is found here by dynamic programming over the clusters,
with the set of local speakers that have one already as state: sixteen states for four speakers. Every
step works on all chunks. Where two assignments are so close that rounding could turn the decision, it
says so, and the caller takes the plain way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from workbench.clustering.filtering import is_active
from workbench.clustering.threads import single_blas_thread
from workbench.types import INACTIVE, Features

CLOSE = 1e-11  # similarities this near to each other are left to the plain way; rounding is below 1e-12
_MOST_SLOTS = 6  # local speakers per chunk, for 64 states
_EXTRA = 1  # candidates per speaker beyond the number of speakers, so that ties at the end are seen


class Assigner:
    """Similarities of all local speakers of a recording to any clusters, and their best assignment."""

    def __init__(self, features: Features):
        self.num_chunks, self.num_slots = features.embeddings.shape[:2]
        self.active = is_active(features.segmentations)
        rows = features.embeddings.reshape(-1, features.embeddings.shape[2]).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        valid = np.isfinite(unit).all(axis=1)
        unit[~valid] = 0.0
        # Networks have one answer to silence, so that many are equal.
        as_bytes = np.ascontiguousarray(unit).view(np.dtype((np.void, unit.itemsize * unit.shape[1])))
        which = np.unique(as_bytes.ravel(), return_inverse=True)[1] if len(unit) else np.zeros(0, np.int64)
        self._which = which.reshape(self.num_chunks, self.num_slots)
        self.valid = valid.reshape(self.num_chunks, self.num_slots)
        by_slot = unit.reshape(self.num_chunks, self.num_slots, -1).swapaxes(0, 1)
        self._unit = np.ascontiguousarray(by_slot).reshape(unit.shape)

    def cosines(self, centroids: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Cosine similarities (num_clusters, num_slots, num_chunks) for several sets of centroids at once.

        They are 0 for speakers without embedding, and None if a centroid has no direction.
        """
        norms = [np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True) for each in centroids]
        fine = [bool(np.isfinite(norm).all() and (norm > 0).all()) for norm in norms]
        unit = [c / n for c, n, good in zip(centroids, norms, fine, strict=True) if good]
        if not unit:
            return [None] * len(fine)
        stacked = np.concatenate(unit)
        if len(stacked) == 1:  # another routine, which rounds differently
            stacked = np.repeat(stacked, 2, axis=0)
        with single_blas_thread():
            similarity = (stacked @ self._unit.T).reshape(-1, self.num_slots, self.num_chunks)
        ends = np.cumsum([len(each) for each in unit])
        parts = iter(np.split(similarity, ends))
        return [next(parts) if good else None for good in fine]

    def best(self, cosines: np.ndarray | None) -> np.ndarray | None:
        """Most similar cluster of everyone, (num_chunks, num_local_speakers); None if it is too close."""
        if cosines is None:
            return None
        chosen, lead = _best_two(cosines)
        if lead[self.valid.T].min(initial=np.inf) < CLOSE:
            return None
        return np.where(self.valid, chosen.T, 0)

    def one_to_one(self, cosines: np.ndarray | None, *, active_first: bool = False) -> np.ndarray | None:
        """Assignment with the largest summed similarity; None if it is too close.

        Local speakers without an active frame may get any of several equally good clusters, or none.

        Parameters
        ----------
        cosines : one of the results of `cosines`
        active_first : speakers without an active frame only get what the others leave
        """
        if cosines is None or self.num_slots > _MOST_SLOTS:
            return None
        competing = self.valid & self.active if active_first else self.valid
        hard_clusters, margin = self._solve(cosines, competing)
        if margin.min(initial=np.inf) < CLOSE:
            return None
        # Whoever has no usable embedding counts as similar as the least similar of all: who is heard takes
        # a cluster that is left, and where too few are there, the least similar is no better. Scipy decides.
        lowest = cosines[:, competing.T].min(initial=np.inf)
        odd = (self.active & ~self.valid).any(axis=1)
        if len(cosines) < self.num_slots and not self.valid.all():
            as_low = (cosines.min(axis=0) < lowest + CLOSE).T & competing
            odd |= as_low.any(axis=1) & ~competing.all(axis=1)
        if (odd & ((~competing).sum(axis=1) > 1)).any():
            return None  # among several of them, rounding decides
        if odd.any():
            self._assign_odd(cosines, competing, lowest if np.isfinite(lowest) else 0.0, odd, hard_clusters)
        return hard_clusters

    def _assign_odd(
        self, cosines: np.ndarray, competing: np.ndarray, lowest: float, odd: np.ndarray, found: np.ndarray
    ) -> None:
        for chunk in np.flatnonzero(odd):
            scores = 1.0 + np.where(competing[chunk, :, None], cosines[:, :, chunk].T, lowest)
            speakers, clusters = linear_sum_assignment(scores, maximize=True)
            found[chunk] = INACTIVE
            found[chunk, speakers] = clusters

    def _solve(self, cosines: np.ndarray, competing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Best assignment of the competing speakers, and by how much the next best is worse."""
        num_clusters, num_slots, num_chunks = cosines.shape
        best, lead = _best_two(cosines)
        best = np.where(competing.T, best, -1 - np.arange(num_slots)[:, None])
        # Where all want different clusters, all get what they want.
        settled = np.where(competing.T, lead, np.inf).min(axis=0, initial=np.inf) >= CLOSE
        for first, second in combinations(range(num_slots), 2):
            settled &= best[first] != best[second]
        chosen = np.where(competing, best.T, INACTIVE)
        rest = np.flatnonzero(~settled)
        if len(rest) == 0:
            return chosen, np.full(num_chunks, np.inf)
        scores = np.where(competing[rest].T, cosines[:, :, rest], -np.inf)
        names = None
        if num_clusters > num_slots * (num_slots + _EXTRA):
            scores, names = _candidates(scores, num_slots + _EXTRA)
        twins = {pair: penalty[rest] for pair, penalty in self._twins.items()}
        sizes = np.minimum(competing[rest].sum(axis=1), num_clusters)
        found, margin = _backward(_forward(scores, twins), scores, twins, sizes)
        if names is not None:
            picked = np.take_along_axis(names, np.maximum(found, 0), axis=1)
            found = np.where(found >= 0, picked, INACTIVE)
        chosen[rest] = found
        return chosen, margin

    @cached_property
    def _twins(self) -> dict[tuple[int, int], np.ndarray]:
        """Pairs of local speakers -> 0, or minus infinity in the chunks where they are silent and equal.

        Exchanging the two changes nothing, so the second is only looked at when the first has a cluster.
        Who is heard is no twin: which of two equal ones gets a cluster, scipy's rounding decides.
        """
        twins = {}
        for first, second in combinations(range(self.num_slots), 2):
            same = self._which[:, first] == self._which[:, second]
            same &= self.valid[:, first] & ~self.active[:, first] & ~self.active[:, second]
            if same.any():
                twins[first, second] = np.where(same, -np.inf, 0.0)
        return twins


def rank_found(hard_clusters: np.ndarray, num_clusters: int) -> np.ndarray | None:
    """`rank_labels` of what `one_to_one` found.

    None if a cluster is left that only someone silent may have: then it matters who has it.
    """
    if hard_clusters.size == 0:
        return hard_clusters
    used = np.zeros(num_clusters, dtype=bool)
    used[hard_clusters[hard_clusters >= 0]] = True
    if not used.all():
        return None
    # somebody is left over wherever there are more local speakers than clusters
    first = 1 if hard_clusters.shape[1] > num_clusters else 0
    return np.where(hard_clusters >= 0, hard_clusters + first, 0)


def _best_two(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most similar cluster, and its lead before the second: arrays of (num_slots, num_chunks)."""
    first = cosines[0].copy()
    second = np.full_like(first, -np.inf)
    best = np.zeros(first.shape, dtype=np.int64)
    for cluster, each in enumerate(cosines[1:], start=1):
        np.maximum(second, np.minimum(first, each), out=second)
        best[each > first] = cluster
        np.maximum(first, each, out=first)
    return best, first - second


def _candidates(scores: np.ndarray, num_best: int) -> tuple[np.ndarray, np.ndarray]:
    """Only the clusters that are among the best of someone in the chunk.

    Returns
    -------
    scores : float64 array, shape (num_candidates, num_slots, num_chunks)
    names : int array, shape (num_chunks, num_candidates)
        Which clusters they are.
    """
    num_chunks = scores.shape[2]
    best = np.argpartition(-scores, num_best - 1, axis=0)[:num_best]  # (rank, slot, chunk)
    names = np.sort(best.reshape(-1, num_chunks), axis=0)
    chosen = np.take_along_axis(scores, names[:, None], axis=0)
    repeated = np.zeros(names.shape, dtype=bool)
    repeated[1:] = names[1:] == names[:-1]
    return np.where(repeated[:, None], -np.inf, chosen), names.T


def _forward(scores: np.ndarray, twins: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Largest sum for every set of served speakers after every cluster.

    Returns
    -------
    history : float64 array, shape (num_clusters + 1, 2, ..., 2, num_chunks)
        One axis of length 2 per speaker: served or not.
    """
    num_clusters, num_slots, num_chunks = scores.shape
    history = np.full((num_clusters + 1, *(2,) * num_slots, num_chunks), -np.inf)
    history[(0, *(0,) * num_slots)] = 0.0
    for cluster in range(num_clusters):
        before, after = history[cluster], history[cluster + 1]
        after[...] = before
        for slot in range(num_slots):
            without: list[int | slice] = [slice(None)] * num_slots
            served = without.copy()
            without[slot], served[slot] = 0, 1
            gained = before[tuple(without)] + scores[cluster, slot]
            for (first, second), penalty in twins.items():
                if second == slot:
                    unserved: list[int | slice] = [slice(None)] * (num_slots - 1)
                    unserved[first] = 0
                    gained[tuple(unserved)] += penalty
            np.maximum(after[tuple(served)], gained, out=after[tuple(served)])
    return history


def _backward(
    history: np.ndarray, scores: np.ndarray, twins: dict[tuple[int, int], np.ndarray], sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The clusters of the best way through `history`, and how much the best other way loses."""
    num_clusters, num_slots, num_chunks = scores.shape
    flat = history.reshape(num_clusters + 1, 2**num_slots, num_chunks)
    bits = [2 ** (num_slots - 1 - slot) for slot in range(num_slots)]
    served = np.array([bin(state).count("1") for state in range(2**num_slots)])
    final = np.where(served[:, None] == sizes, flat[-1], -np.inf)
    state = final.argmax(axis=0)
    margin = _lead(final)
    everywhere = np.arange(num_chunks)
    chosen = np.full((num_chunks, num_slots), INACTIVE, dtype=np.int64)
    for cluster in range(num_clusters - 1, -1, -1):
        ways = np.full((num_slots + 1, num_chunks), -np.inf)
        ways[num_slots] = flat[cluster, state, everywhere]  # nobody takes this cluster
        for slot, bit in enumerate(bits):
            has = (state & bit) > 0
            value = flat[cluster, state & ~bit, everywhere] + scores[cluster, slot]
            for (first, second), penalty in twins.items():
                if second == slot:
                    value = value + np.where(state & bits[first], 0.0, penalty)
            ways[slot, has] = value[has]
        margin = np.minimum(margin, _lead(ways))
        taker = ways.argmax(axis=0)
        someone = taker < num_slots
        chosen[everywhere[someone], taker[someone]] = cluster
        state = state & ~np.append(bits, 0)[taker]
    return chosen, margin


def _lead(values: np.ndarray) -> np.ndarray:
    """How much the largest of every column leads before the second; infinite where there is no other."""
    if len(values) < 2:
        return np.full(values.shape[1], np.inf)
    second, first = np.partition(values, -2, axis=0)[-2:]
    return np.where(np.isfinite(second), first - np.where(np.isfinite(second), second, 0.0), np.inf)
