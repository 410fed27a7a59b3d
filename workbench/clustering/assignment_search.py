"""Best one-to-one assignments in many small tables of scores at once, and by how much they lead.

Dynamic programming over the clusters, with the set of local speakers that have one already as state:
sixteen states for four speakers. Every step works on all chunks.
"""

from __future__ import annotations

import numpy as np

from workbench.types import INACTIVE

_EXTRA = 1  # candidates per speaker beyond the number of speakers, so that ties at the end are seen
_AT_ONCE = 2048  # chunks; fewer of them are mostly overhead
_SCORES_AT_ONCE = 2**22  # where there are very many clusters


def best_assignments(
    scores: np.ndarray, twins: dict[tuple[int, int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Different clusters for the local speakers of every chunk, with the largest sum of scores.

    Parameters
    ----------
    scores : float64 array, shape (num_clusters, num_local_speakers, num_chunks)
        Minus infinity for a speaker who takes no part; all others get a cluster, as far as there are any.
    twins : pairs of local speakers -> bool array, shape (num_chunks,)
        Where exchanging the two changes nothing. The first then gets the earlier of their clusters.

    Returns
    -------
    hard_clusters : int64 array, shape (num_chunks, num_local_speakers)
        `INACTIVE` for who gets none.
    margin : float64 array, shape (num_chunks,)
        By how much any other assignment is worse.

    Examples
    --------
    >>> scores = np.array([[0.9, 0.8], [0.5, 0.1]])[..., None]  # both speakers prefer cluster 0
    >>> best_assignments(scores, {})
    (array([[1, 0]]), array([0.3]))
    """
    num_clusters, num_slots, num_chunks = scores.shape
    hard_clusters = np.full((num_chunks, num_slots), INACTIVE, dtype=np.int64)
    margin = np.full(num_chunks, np.inf)
    length = max(1, min(_AT_ONCE, _SCORES_AT_ONCE // max(num_clusters * num_slots, 1)))
    for start in range(0, num_chunks, length):
        here = slice(start, start + length)
        part, names = scores[:, :, here], None
        sizes = np.minimum((part[0] > -np.inf).sum(axis=0), num_clusters)
        if num_clusters > num_slots * (num_slots + _EXTRA):
            part, names = _candidates(part, num_slots + _EXTRA)
        penalties = {pair: np.where(same[here], -np.inf, 0.0) for pair, same in twins.items()}
        found, margin[here] = _backward(_forward(part, penalties), part, penalties, sizes)
        if names is not None:
            picked = np.take_along_axis(names, np.maximum(found, 0), axis=1)
            found = np.where(found >= 0, picked, INACTIVE)
        hard_clusters[here] = found
    return hard_clusters, margin


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
    state, margin = _lead(final)
    everywhere = np.arange(num_chunks)
    chosen = np.full((num_chunks, num_slots), INACTIVE, dtype=np.int64)
    for cluster in range(num_clusters - 1, -1, -1):
        ways = np.empty((num_slots + 1, num_chunks))
        ways[num_slots] = flat[cluster, state, everywhere]  # nobody takes this cluster
        for slot, bit in enumerate(bits):
            value = flat[cluster, state & ~bit, everywhere] + scores[cluster, slot]
            for (first, second), penalty in twins.items():
                if second == slot:
                    value = value + np.where(state & bits[first], 0.0, penalty)
            ways[slot] = np.where(state & bit, value, -np.inf)
        taker, lead = _lead(ways)
        np.minimum(margin, lead, out=margin)
        someone = taker < num_slots
        chosen[everywhere[someone], taker[someone]] = cluster
        state = state & ~np.append(bits, 0)[taker]
    return chosen, margin


def _lead(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which is the largest of every column, and how much it leads before the second: `values` are used up.

    The lead is infinite where there is no other.
    """
    everywhere = np.arange(values.shape[1])
    best = values.argmax(axis=0)
    first = values[best, everywhere]
    values[best, everywhere] = -np.inf
    second = values.max(axis=0)
    return best, np.where(second > -np.inf, first - np.where(second > -np.inf, second, 0.0), np.inf)
