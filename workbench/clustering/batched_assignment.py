"""The assignment of local speakers to clusters for all chunks of a recording at once.

What the Hungarian method finds chunk by chunk is read off where all speakers want different clusters, or
only two the same. Elsewhere it is found by dynamic programming over the clusters, for the chunks of several
clusterings together. Where two assignments are so close that rounding could turn the decision, it says so,
and the caller takes the plain way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from workbench.clustering.assignment_search import best_assignments
from workbench.clustering.filtering import is_active
from workbench.clustering.threads import single_blas_thread
from workbench.types import INACTIVE, Features

CLOSE = 1e-11  # similarities this near to each other are left to the plain way; rounding is below 1e-12
_MOST_SLOTS = 6  # local speakers per chunk, for 64 states
_AT_ONCE = 2**22  # similarities of clusterings that are solved together, unless there is one only


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
        """`each_one_to_one` for one of the results of `cosines`."""
        return self.each_one_to_one([cosines], active_first=active_first)[0]

    def each_one_to_one(
        self, cosines: Sequence[np.ndarray | None], *, active_first: bool = False
    ) -> list[np.ndarray | None]:
        """Assignments with the largest summed similarity; None where it is too close.

        Local speakers without an active frame may get any of several equally good clusters, or none.

        Parameters
        ----------
        cosines : as of the method of this name
        active_first : speakers without an active frame only get what the others leave
        """
        found: list[np.ndarray | None] = [None] * len(cosines)
        if self.num_slots > _MOST_SLOTS:
            return found
        competing = self.valid & self.active if active_first else self.valid
        by_size: dict[int, list[tuple[int, np.ndarray]]] = {}
        for index, each in enumerate(cosines):
            if each is not None:
                by_size.setdefault(len(each), []).append((index, each))
        for group in by_size.values():
            together = max(1, _AT_ONCE // max(group[0][1].size, 1))
            for start in range(0, len(group), together):
                indices, sets = zip(*group[start : start + together], strict=True)
                solved = self._solve(sets, competing)
                for index, each, hard_clusters in zip(indices, sets, solved, strict=True):
                    if hard_clusters is not None and self._add_odd(each, competing, hard_clusters):
                        found[index] = hard_clusters
        return found

    def _add_odd(self, cosines: np.ndarray, competing: np.ndarray, found: np.ndarray) -> bool:
        """Assign who is heard without a usable embedding; False where rounding would decide.

        They count as similar as the least similar of all: they take a cluster that is left, and where too
        few are there, the least similar is no better. Scipy decides.
        """
        if self.valid.all():
            return True
        lowest = cosines[:, competing.T].min(initial=np.inf)
        odd = (self.active & ~self.valid).any(axis=1)
        if len(cosines) < self.num_slots:
            as_low = (cosines.min(axis=0) < lowest + CLOSE).T & competing
            odd |= as_low.any(axis=1) & ~competing.all(axis=1)
        if (odd & ((~competing).sum(axis=1) > 1)).any():
            return False  # among several of them, rounding decides
        instead = lowest if np.isfinite(lowest) else 0.0
        for chunk in np.flatnonzero(odd):
            scores = 1.0 + np.where(competing[chunk, :, None], cosines[:, :, chunk].T, instead)
            speakers, clusters = linear_sum_assignment(scores, maximize=True)
            found[chunk] = INACTIVE
            found[chunk, speakers] = clusters
        return True

    def _solve(self, cosines: Sequence[np.ndarray], competing: np.ndarray) -> list[np.ndarray | None]:
        """Best assignments of the competing speakers to sets of equally many clusters."""
        chosen, disputed = zip(*(self._undisputed(each, competing) for each in cosines), strict=True)
        chunks = np.concatenate(disputed)
        scores = np.concatenate([c[:, :, rest] for c, rest in zip(cosines, disputed, strict=True)], axis=2)
        scores[:, ~competing[chunks].T] = -np.inf
        twins = {pair: same[chunks] for pair, same in self._twins.items()}
        hard_clusters, margin = best_assignments(scores, twins)
        ends = np.cumsum([len(rest) for rest in disputed])[:-1]
        parts = zip(chosen, disputed, np.split(hard_clusters, ends), np.split(margin, ends), strict=True)
        solved: list[np.ndarray | None] = []
        for found, rest, here, leads in parts:
            found[rest] = here
            solved.append(None if leads.min(initial=np.inf) < CLOSE else found)
        return solved

    def _undisputed(self, cosines: np.ndarray, competing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Best assignment, and the chunks where it must be searched for.

        Where all want different clusters, all get what they want. Where two want the same one, let it have
        a price at which the one who would lose less likes the next best as much: if nobody else wants that,
        everyone has what they like best at these prices, and no assignment has a larger sum.
        """
        best, lead = _best_two(cosines)
        best = np.where(competing.T, best, -1 - np.arange(self.num_slots)[:, None])
        close = competing.T & (lead < CLOSE)
        pairs = np.array(list(combinations(range(self.num_slots), 2)), dtype=np.int64).reshape(-1, 2)
        same = best[pairs[:, 0]] == best[pairs[:, 1]]
        num_clashes = same.sum(axis=0)
        disputed = close.any(axis=0) | (num_clashes > 0)
        chosen = np.where(competing, best.T, INACTIVE)
        chunk = np.flatnonzero(num_clashes == 1)
        if len(cosines) >= self.num_slots and len(chunk):
            everyone = np.arange(len(chunk))
            pair = same[:, chunk].argmax(axis=0)
            one, other = pairs[pair].T
            gives_way = np.where(lead[one, chunk] < lead[other, chunk], one, other)
            rest = cosines[:, gives_way, chunk]
            rest[best[gives_way, chunk], everyone] = -np.inf
            instead, ahead = _best_two(rest)
            unsure = close[:, chunk]
            unsure[one, everyone] = unsure[other, everyone] = False
            # which of two twins gives way does not matter
            clear = np.abs(lead[one, chunk] - lead[other, chunk]) >= CLOSE
            clear |= self._are_twins[pair, chunk]
            clear &= (ahead >= CLOSE) & ~unsure.any(axis=0) & (best[:, chunk] != instead).all(axis=0)
            chosen[chunk[clear], gives_way[clear]] = instead[clear]
            disputed[chunk[clear]] = False
        return chosen, np.flatnonzero(disputed)

    @cached_property
    def _are_twins(self) -> np.ndarray:
        """Silent and equal, for every pair of local speakers: bool array (num_pairs, num_chunks).

        Exchanging the two changes nothing. Who is heard is no twin: which of two equal ones gets a
        cluster, scipy's rounding decides.
        """
        one, other = np.array(list(combinations(range(self.num_slots), 2)), dtype=np.int64).reshape(-1, 2).T
        silent = self.valid & ~self.active
        same = self._which[:, one] == self._which[:, other]
        return np.asarray(same & silent[:, one] & silent[:, other]).T

    @cached_property
    def _twins(self) -> dict[tuple[int, int], np.ndarray]:
        """Those pairs that are alike in some chunk."""
        pairs = combinations(range(self.num_slots), 2)
        return {pair: same for pair, same in zip(pairs, self._are_twins, strict=True) if same.any()}


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
