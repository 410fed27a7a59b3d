"""Agglomerative hierarchical clustering: one dendrogram per recording, cut wherever it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage, maxdists
from scipy.spatial.distance import cdist

from workbench.clustering.centroid_linkage import centroid_linkage
from workbench.clustering.params import AHCParams, speaker_bounds

MOST_IN_A_MATRIX = 4096
"""Embeddings up to which centroid linkage uses scipy's matrix of distances, 8 N² bytes with its copy.

Beyond, it computes distances when it needs them, so that memory does not grow with the square.
"""

_EUCLIDEAN_ONLY = ("centroid", "ward")  # these act on unit-length embeddings instead of cosine distances


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Rows divided by their norm, in the precision they come in (float32 decides close merges)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """All merges of an agglomerative clustering.

    Attributes
    ----------
    merges : float64 array, shape (num_embeddings - 1, 4)
        As `scipy.cluster.hierarchy.linkage` returns them: the two clusters, height, size.
        Heights are not monotone for centroid linkage.
    num_embeddings : number of leaves
    """

    merges: np.ndarray
    num_embeddings: int

    @classmethod
    def of(cls, embeddings: np.ndarray, method: str = "centroid") -> Dendrogram:
        """Dendrogram of the rows of `embeddings` (num_embeddings, dimension), by cosine distance.

        Centroid and Ward linkage need Euclidean distances and therefore see unit-length rows.
        """
        num_embeddings = len(embeddings)
        if num_embeddings < 2:
            return cls(np.zeros((0, 4)), num_embeddings)
        if method == "centroid" and num_embeddings > MOST_IN_A_MATRIX:
            return cls(centroid_linkage(unit_length(embeddings)), num_embeddings)
        if method in _EUCLIDEAN_ONLY:
            return cls(linkage(unit_length(embeddings), method=method, metric="euclidean"), num_embeddings)
        return cls(linkage(embeddings, method=method, metric="cosine"), num_embeddings)

    @property
    def heights(self) -> np.ndarray:
        """Height of every merge: float64 array (num_embeddings - 1,)."""
        return self.merges[:, 2]

    @cached_property
    def levels(self) -> np.ndarray:
        """The thresholds at which the clusters change, ascending: float64 array (num_embeddings - 1,).

        For every merge the largest height inside its subtree: linkages with inversions are cut there.
        """
        return np.sort(self._largest)

    @cached_property
    def _largest(self) -> np.ndarray:
        """For every merge the largest height inside its subtree: float64 array (num_embeddings - 1,)."""
        return maxdists(self.merges) if self.num_embeddings > 1 else np.zeros(0)

    def level(self, threshold: float) -> int:
        """Thresholds with the same level cut into the same clusters (criterion "distance")."""
        return int(np.searchsorted(self.levels, threshold, side="right"))

    def cut(self, threshold: float, criterion: str = "distance") -> np.ndarray:
        """Cluster of every embedding: int array (num_embeddings,), numbered from 0 as scipy does.

        With `criterion` "distance" a subtree is one cluster if no merge anywhere inside it is
        higher than `threshold`; with "maxclust" there are at most `threshold` clusters.
        """
        if criterion != "distance" and self.num_embeddings > 1:
            return fcluster(self.merges, threshold, criterion=criterion).astype(np.int64) - 1
        return self._cut_where(self._largest > threshold)

    def cut_after(self, merge: int) -> np.ndarray:
        """Clusters once merges 0 to `merge` have happened, whatever their heights."""
        return self._cut_where(np.arange(len(self.merges)) > merge)

    def _cut_where(self, undone: np.ndarray) -> np.ndarray:
        """Clusters without some merges and all that follow them: `undone` is a bool array (num_merges,)."""
        leaves, merges = self._in_order
        labels = np.zeros(self.num_embeddings, dtype=np.int64)
        labels[leaves[1:]] = np.cumsum(undone[merges])
        return labels

    @cached_property
    def _in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """The embeddings in the order in which `fcluster` numbers them, and the merge that joins neighbours.

        In this order every cluster of every cut is without gaps. Of the two halves of a merge, the first
        comes first, unless it alone is a single embedding.

        Returns
        -------
        leaves : int64 array, shape (num_embeddings,)
        merges : int64 array, shape (num_embeddings - 1,)
        """
        number = self.num_embeddings
        leaves, merges = np.zeros(number, dtype=np.int64), np.zeros(max(number - 1, 0), dtype=np.int64)
        halves = self.merges[:, :2].astype(np.int64).tolist()
        sizes = [1] * number + self.merges[:, 3].astype(np.int64).tolist()
        begin = [0] * len(sizes)  # position of the first embedding of every subtree
        for merge in range(len(halves) - 1, -1, -1):
            first, second = halves[merge]
            if first < number <= second:
                first, second = second, first
            begin[first] = begin[number + merge]
            begin[second] = begin[first] + sizes[first]
            merges[begin[second] - 1] = merge
        leaves[begin[:number]] = np.arange(number)
        return leaves, merges

    def num_large_after(self, min_cluster_size: int) -> np.ndarray:
        """How many clusters have at least `min_cluster_size` members after each merge.

        Returns
        -------
        num_large : int array, shape (num_embeddings - 1,)
        """
        sizes = np.concatenate([np.ones(self.num_embeddings), self.merges[:, 3]])
        large = (sizes >= min_cluster_size).astype(np.int64)
        left, right = self.merges[:, 0].astype(int), self.merges[:, 1].astype(int)
        gained = large[self.num_embeddings :] - large[left] - large[right]
        return large[: self.num_embeddings].sum() + np.cumsum(gained)


def agglomerate(embeddings: np.ndarray, dendrogram: Dendrogram, params: AHCParams) -> np.ndarray:
    """Clusters of at least `min_cluster_size` embeddings, within the bounds on their number.

    Parameters
    ----------
    embeddings : float array, shape (num_embeddings, dimension)
        The leaves of `dendrogram`, not normalised.

    Returns
    -------
    labels : int64 array, shape (num_embeddings,)
        From 0, without gaps.
    """
    return Agglomerations(embeddings, dendrogram).find(params)


class Agglomerations:
    """`agglomerate` for many parameters on one dendrogram: equal cuts are made once.

    Parameters that share a threshold should follow each other, the smallest `min_cluster_size` first.

    Parameters
    ----------
    embeddings : float array, shape (num_embeddings, dimension)
        The leaves of `dendrogram`, not normalised.
    """

    def __init__(self, embeddings: np.ndarray, dendrogram: Dendrogram):
        self._embeddings, self._dendrogram = embeddings, dendrogram
        self._cuts: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        # of the last cut alone: means and distances take as much memory as the embeddings, or more
        self._clusters: tuple[tuple[str, int], _ByCluster] | None = None
        self._found: dict[tuple[tuple[str, int], int], np.ndarray] = {}

    @cached_property
    def _unit_length(self) -> np.ndarray:
        return unit_length(self._embeddings)

    def find(self, params: AHCParams) -> np.ndarray:
        """Labels of `agglomerate` for one set of parameters."""
        dendrogram, num_embeddings = self._dendrogram, len(self._embeddings)
        lower, upper = (int(max(1, min(num_embeddings, bound))) for bound in speaker_bounds(params))
        if upper < 2:  # also with fewer than two embeddings
            return np.zeros(num_embeddings, dtype=np.int64)
        # a few embeddings cannot fill clusters of the usual size
        min_size = min(int(params.min_cluster_size), max(1, round(0.1 * num_embeddings)))
        cut = ("level", dendrogram.level(params.ahc_threshold))
        if cut not in self._cuts:
            labels = dendrogram.cut(params.ahc_threshold)
            self._cuts[cut] = labels, np.bincount(labels)
        num_large = int((self._cuts[cut][1] >= min_size).sum())
        target = min(max(num_large, lower), upper)
        if num_large != target:
            cut = ("merge", _nearest_merge(dendrogram, params.ahc_threshold, min_size, target))
            if cut not in self._cuts:
                labels = dendrogram.cut_after(cut[1])
                self._cuts[cut] = labels, np.bincount(labels)
        labels, sizes = self._cuts[cut]
        # of one cut, as many large clusters are the same ones
        key = cut, int((sizes >= min_size).sum())
        if key not in self._found:
            if self._clusters is None or self._clusters[0] != cut:
                normalised = params.linkage in _EUCLIDEAN_ONLY
                embeddings = self._unit_length if normalised else self._embeddings
                self._clusters = cut, _ByCluster(embeddings, labels)
            self._found[key] = self._clusters[1].absorb_small(min_size)
        return self._found[key]


def _nearest_merge(dendrogram: Dendrogram, threshold: float, min_size: int, target: int) -> int:
    """Merge after which the number of large clusters is nearest to `target`.

    Among equally good merges, the one whose height is nearest to `threshold`.
    """
    order = np.argsort(np.abs(dendrogram.heights - threshold), kind="stable")
    order = order[dendrogram.merges[order, 3] >= min_size]  # no other merge makes a large cluster
    missing = np.abs(dendrogram.num_large_after(min_size)[order] - target)
    best = int(np.argmin(missing)) if len(missing) else 0
    # merging everything into one cluster is what a candidate has to beat
    if len(missing) == 0 or missing[best] >= abs(1 - target):
        return dendrogram.num_embeddings - 1
    return int(order[best])


def absorb_small(embeddings: np.ndarray, labels: np.ndarray, min_size: int) -> np.ndarray:
    """Every cluster below `min_size` moved whole to the large one with the most similar mean.

    Returns
    -------
    labels : int64 array, shape (num_embeddings,)
        Renumbered without gaps; all 0 if no cluster is large.
    """
    return _ByCluster(embeddings, labels).absorb_small(min_size)


def means_of(embeddings: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean of every cluster: (num_clusters, dimension), in the precision of the embeddings.

    Parameters
    ----------
    embeddings : float array, shape (num_embeddings, dimension)
    labels : int array, shape (num_embeddings,), from 0 without gaps
    sizes : int array, shape (num_clusters,)
    """
    order, first = np.argsort(labels, kind="stable"), np.cumsum(sizes) - sizes
    means = embeddings[order[first]]  # of clusters of one
    for size in np.unique(sizes[sizes > 1]):
        clusters = np.flatnonzero(sizes == size)
        members = order[first[clusters, None] + np.arange(size)]
        means[clusters] = embeddings[members].mean(axis=1)
    return means


class _ByCluster:
    """A partition with the means of its clusters, for any smallest size.

    Parameters
    ----------
    embeddings : float array, shape (num_embeddings, dimension)
    labels : int array, shape (num_embeddings,)
    """

    def __init__(self, embeddings: np.ndarray, labels: np.ndarray):
        self._embeddings, self._labels = embeddings, labels
        _, self._members, self._counts = np.unique(labels, return_inverse=True, return_counts=True)
        self._measured, self._distances = np.zeros(0, dtype=np.int64), np.zeros((0, len(self._counts)))

    @cached_property
    def _means(self) -> np.ndarray:
        """Of every cluster: (num_clusters, dimension), in the precision of the embeddings."""
        return means_of(self._embeddings, self._members, self._counts)

    def _nearest(self, large: np.ndarray) -> np.ndarray:
        """Which of some clusters has the most similar mean, for all clusters: int array (num_clusters,)."""
        if not np.isin(large, self._measured).all():  # else a larger smallest size than before
            self._measured = large
            self._distances = cdist(self._means[large], self._means, metric="cosine")
        rows = np.searchsorted(self._measured, large)
        return np.asarray(large[np.argmin(self._distances[rows], axis=0)])

    def absorb_small(self, min_size: int) -> np.ndarray:
        """See the function of this name."""
        is_large = self._counts >= min_size
        if not is_large.any():
            return np.zeros(len(self._labels), dtype=np.int64)
        if is_large.all():
            return self._labels
        goes_to = np.where(is_large, np.arange(len(is_large)), self._nearest(np.flatnonzero(is_large)))
        used = np.cumsum(is_large) - 1  # the large ones, numbered without gaps
        return used[goes_to][self._members].astype(np.int64)
