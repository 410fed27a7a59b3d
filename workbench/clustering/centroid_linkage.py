"""Centroid linkage without a matrix of distances, for recordings with many embeddings.

The distance of two clusters is that of their centroids, so it can be computed whenever it is asked for.
This is Müllner's generic algorithm for vector data ("Modern hierarchical, agglomerative clustering
algorithms", 2011, §3.2): every cluster keeps a lower bound on the distance to the clusters behind it,
and only bounds that come out smallest are made exact. Memory grows with the number of embeddings, where
a matrix of distances grows with its square.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 256  # rows of distances that exist at once
_TOGETHER = 8  # bounds made exact in one product: reading the centroids is what takes the time
_CROWDED = 0.75  # share of clusters still there, below which the others are dropped from the arrays


def centroid_linkage(points: np.ndarray) -> np.ndarray:
    """The merges of centroid linkage under Euclidean distance.

    Equal to `scipy.cluster.hierarchy.linkage(points, "centroid")` up to rounding: which of several
    equally near pairs is merged first may differ, and heights in their last bits.

    Parameters
    ----------
    points : float array, shape (num_points, dimension)
        At least two, all finite.

    Returns
    -------
    merges : float64 array, shape (num_points - 1, 4)
        The two clusters, height, size, as scipy returns them.

    Examples
    --------
    >>> centroid_linkage(np.array([[0.0], [1.0], [5.0]]))
    array([[0. , 1. , 1. , 2. ],
           [2. , 3. , 4.5, 3. ]])
    """
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(
            f"points must have shape (num_points, dimension) with at least 2, got {points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError("points must be finite; leave out the embeddings that are NaN")
    clusters = _Clusters(points)
    return np.array([clusters.merge_nearest() for _ in range(len(points) - 1)])


class _Clusters:
    """The clusters that are left, as rows of arrays; a merged one takes the place of its later half."""

    def __init__(self, points: np.ndarray):
        number = len(points)
        self.centroids = points.astype(np.float64)  # a copy
        self.squares = _dot(self.centroids, self.centroids)
        self.sizes = np.ones(number)
        self.names = np.arange(number)  # as in the merges: leaves, then merges in their order
        self.next_name = number
        self.num_left = number
        self.there = np.ones(number, dtype=bool)
        self.bounds = np.full(number, np.inf)  # on the squared distance to the nearest row behind each
        self.nearest = np.zeros(number, dtype=np.int64)  # that row, where the bound is exact
        self.exact = np.ones(number, dtype=bool)
        for first in range(0, number, _BLOCK):
            self._search(np.arange(first, min(first + _BLOCK, number)))

    def merge_nearest(self) -> tuple[float, float, float, float]:
        """Merge the two nearest clusters: their names in order, their distance, the size of both."""
        first = int(np.argmin(self.bounds))
        while not self.exact[first]:
            stale = np.flatnonzero(~self.exact & self.there)
            if len(stale) > _TOGETHER:
                stale = stale[np.argpartition(self.bounds[stale], _TOGETHER)[:_TOGETHER]]
            self._search(np.sort(stale))
            first = int(np.argmin(self.bounds))
        second = int(self.nearest[first])
        height = float(np.linalg.norm(self.centroids[first] - self.centroids[second]))
        one, other = sorted((float(self.names[first]), float(self.names[second])))
        size = float(self.sizes[first] + self.sizes[second])
        self._replace(first, second, size)
        return one, other, height, size

    def _replace(self, first: int, second: int, size: float) -> None:
        """Put the union of two rows into the second."""
        weight = self.sizes[first] / size
        self.centroids[second] = weight * self.centroids[first] + (1 - weight) * self.centroids[second]
        self.squares[second] = _dot(self.centroids[second], self.centroids[second])
        self.sizes[second] = size
        self.names[second] = self.next_name
        self.next_name += 1
        self.there[first] = False
        self.squares[first] = self.bounds[first] = np.inf  # far from everything
        self.num_left -= 1
        self.exact &= (self.nearest != first) & (self.nearest != second)
        distances = self._distances(np.array([second]))[0]
        nearer = np.flatnonzero(distances[:second] < self.bounds[:second])
        nearer = nearer[self.there[nearer]]
        self.bounds[nearer], self.nearest[nearer], self.exact[nearer] = distances[nearer], second, True
        self._note(np.array([second]), distances[None, second + 1 :], second + 1)
        if self.num_left < _CROWDED * len(self.there):
            self._drop_the_others()

    def _search(self, rows: np.ndarray) -> None:
        """The nearest neighbour of rows, in ascending order, among those behind each."""
        start = int(rows[0]) + 1
        distances = self._distances(rows, start)
        behind = np.arange(start, len(self.there)) > rows[:, None]
        self._note(rows, np.where(behind, distances, np.inf), start)

    def _note(self, rows: np.ndarray, distances: np.ndarray, start: int) -> None:
        """Keep the smallest of distances (row, cluster from `start` on)."""
        self.exact[rows] = True
        if not distances.shape[1]:
            self.bounds[rows], self.nearest[rows] = np.inf, -1
            return
        best = distances.argmin(axis=1)
        self.bounds[rows] = distances[np.arange(len(rows)), best]
        self.nearest[rows] = start + best

    def _distances(self, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """Squared distances of rows to all from `start` on; infinite to those that are gone."""
        products = self.centroids[rows] @ self.centroids[start:].T
        distances: np.ndarray = self.squares[start:] - 2 * products + self.squares[rows, None]
        return np.maximum(distances, 0.0)

    def _drop_the_others(self) -> None:
        """Shorten the arrays to the clusters that are there; their order stays."""
        new = np.cumsum(self.there) - 1
        # a neighbour that is gone leaves a bound that is not exact
        self.nearest = new[self.nearest]
        for name in ("centroids", "squares", "sizes", "names", "bounds", "nearest", "exact"):
            setattr(self, name, getattr(self, name)[self.there])
        self.there = np.ones(self.num_left, dtype=bool)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of rows."""
    return np.einsum("...i,...i->...", a, b)
