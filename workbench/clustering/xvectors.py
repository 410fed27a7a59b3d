"""One embedding per segment, clustered as the recipes of VBx's own repository do it (`vbhmm.py`).

Cosine AHC with a threshold calibrated on the recording, then VBx as a hidden Markov model.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from workbench.clustering.ahc import Dendrogram
from workbench.clustering.batched_vbx import VBxStart
from workbench.clustering.params import XVectorParams
from workbench.clustering.plda import PLDA
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import VBxResult, initial_responsibilities, vbx
from workbench.types import INACTIVE, SegmentFeatures

EPSILON = 1e-6  # of the recipe: an iteration that gains less ends the updates
_GMM_ITERATIONS = 20


class SegmentSet:
    """The embeddings of one recording, and what many parameters share: computed on first use, then kept.

    Attributes
    ----------
    mask : bool array, shape (num_segments,)
        Segments with a usable embedding; the others belong to no speaker.
    """

    def __init__(self, features: SegmentFeatures, plda: PLDA):
        embeddings = np.asarray(features.embeddings)
        self.features = features
        self.plda = plda if plda.of_segments is None else plda.of_segments
        self.mask = np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)
        self.embeddings = embeddings[self.mask]

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def projected(self) -> np.ndarray:
        """Unit-length embeddings in LDA space: float64 array (num_usable, num_lda)."""
        return self.plda.project(self.embeddings, scaled=False)

    @cached_property
    def vbx_features(self) -> np.ndarray:
        """What VBx models: float64 array (num_usable, num_lda)."""
        return self.plda.diagonalise(self.projected)

    @cached_property
    def _similarities(self) -> np.ndarray:
        """Cosine similarity of every two embeddings (num_usable, num_usable)."""
        with single_blas_thread():
            unit = self.projected / np.linalg.norm(self.projected, axis=1, keepdims=True)
            return unit @ unit.T

    @cached_property
    def gmm_threshold(self) -> float:
        """Similarity at which two segments are as likely of one speaker as of two."""
        return calibrate(self._similarities)

    @cached_property
    def _linkage(self) -> np.ndarray:
        """Average linkage of the negated similarities: heights are negative where segments are alike."""
        return linkage(squareform(-self._similarities, checks=False), method="average")

    @cached_property
    def dendrogram(self) -> Dendrogram:
        """The merges, with heights raised by `offset`."""
        if len(self) < 2:
            return Dendrogram(np.zeros((0, 4)), len(self))
        merges = self._linkage.copy()
        merges[:, 2] += self.offset
        return Dendrogram(merges, len(self))

    @property
    def offset(self) -> float:
        """What the recipe adds to heights so that none is negative."""
        return float(abs(self._linkage[:, 2].min()))

    def height(self, threshold: float) -> float:
        """Where `threshold`, relative to the calibrated one, cuts the dendrogram."""
        return -(self.gmm_threshold + threshold) + self.offset

    def start(self, params: XVectorParams) -> np.ndarray:
        """Clusters that AHC finds: int64 array (num_usable,)."""
        if len(self) < 2:
            return np.zeros(len(self), dtype=np.int64)
        return self.dendrogram.cut(self.height(params.threshold))

    def model(self, params: XVectorParams) -> VBxStart:
        """Where VBx starts from."""
        lda_dim = self.plda.num_lda if params.lda_dim is None else min(params.lda_dim, self.plda.num_lda)
        gamma = initial_responsibilities(self.start(params), params.init_smoothing)
        return VBxStart(self.vbx_features[:, :lda_dim], self.plda.phi[:lda_dim], gamma)

    def spread(self, labels: np.ndarray) -> np.ndarray:
        """Labels of the usable segments as labels of all: `INACTIVE` for the others."""
        hard_clusters = np.full(len(self.mask), INACTIVE, dtype=np.int64)
        hard_clusters[self.mask] = labels
        return hard_clusters


def cluster_segments(
    features: SegmentFeatures, params: XVectorParams, plda: PLDA, segments: SegmentSet | None = None
) -> tuple[np.ndarray, VBxResult | None]:
    """Speaker of every segment, and what VBx found (None where it did not run).

    Returns
    -------
    hard_clusters : int64 array, shape (num_segments,)
        `INACTIVE` for segments without a usable embedding.
    """
    segments = SegmentSet(features, plda) if segments is None else segments
    if params.method == "ahc" or len(segments) < 2:
        return segments.spread(segments.start(params)), None
    model = segments.model(params)
    found = vbx(
        model.features,
        model.phi,
        model.gamma,
        Fa=params.Fa,
        Fb=params.Fb,
        max_iters=int(params.max_iters),
        epsilon=EPSILON,
        loop_prob=params.loop_prob,
    )
    return segments.spread(found.gamma.argmax(axis=1)), found


def calibrate(similarities: np.ndarray) -> float:
    """Threshold between two Gaussians of one variance, fitted to all similarities of a recording.

    Parameters
    ----------
    similarities : float64 array, shape (num_segments, num_segments)
        Symmetric; the diagonal takes part, as in the recipe.

    Returns
    -------
    threshold : float
        That of the iteration before the variance vanishes, where it does; the recipe goes on, to NaN.
        The smallest similarity where all are equal; 0 without segments.
    """
    if not len(similarities):
        return 0.0
    # every pair once, with the weight of both orders
    values = np.concatenate([similarities[np.triu_indices(len(similarities), 1)], np.diag(similarities)])
    times = np.ones(len(values))
    times[: len(values) - len(similarities)] = 2.0
    total = times.sum()
    mean = values @ times / total
    variance = (values - mean) ** 2 @ times / total
    weights, means = np.array([0.5, 0.5]), mean + np.sqrt(variance) * np.array([-1.0, 1.0])
    threshold = float("nan")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_GMM_ITERATIONS):
            low, high = (
                np.log(weight) - 0.5 * (values - centre) ** 2 / variance
                for weight, centre in zip(weights, means, strict=True)
            )
            second = times / (1 + np.exp(low - high))
            first = times - second
            counts = np.array([first.sum(), second.sum()])
            weights = counts / counts.sum()
            means = np.array([values @ first, values @ second]) / counts
            squares = np.array([values**2 @ first, values**2 @ second]) / counts
            variance = (squares - means**2) @ weights
            offsets = np.log(weights**2 / variance) - means**2 / variance
            found = -0.5 * (offsets[0] - offsets[1]) / ((means[0] - means[1]) / variance)
            if not np.isfinite(found):
                break
            threshold = float(found)
    return threshold if np.isfinite(threshold) else float(values.min())


def merge_segments(segments: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns of segments in order: neighbours of one speaker are joined, overlaps of two are halved.

    Parameters
    ----------
    segments : float64 array, shape (num_segments, 2), in seconds
    labels : int array, shape (num_segments,)

    Returns
    -------
    turns : float64 array, shape (num_turns, 2)
    labels : int array, shape (num_turns,)
    """
    if not len(segments):
        return segments.reshape(0, 2).copy(), labels
    starts, ends = segments[:, 0], segments[:, 1]
    touch = np.isclose(ends[:-1], starts[1:]) | (ends[:-1] > starts[1:])
    splits = np.flatnonzero(~touch | (labels[1:] != labels[:-1]))
    first, last = np.append(0, splits + 1), np.append(splits, len(labels) - 1)
    turns, labels = np.stack([starts[first], ends[last]], axis=1), labels[first]
    overlapping = np.flatnonzero(turns[1:, 0] < turns[:-1, 1])
    middle = (turns[overlapping, 1] + turns[overlapping + 1, 0]) / 2.0
    turns[overlapping, 1] = turns[overlapping + 1, 0] = middle
    return turns, labels
