"""The clustering stage as a whole: select, cluster, assign."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from workbench.clustering.ahc import Dendrogram, agglomerate, unit_length
from workbench.clustering.assignment import (
    constrained_argmax,
    mark_inactive,
    rank_labels,
    similarities,
)
from workbench.clustering.filtering import is_active, training_mask
from workbench.clustering.params import (
    AHCParams,
    ClusteringParams,
    Convention,
    VBxParams,
    XVectorParams,
    speaker_bounds,
)
from workbench.clustering.plda import PLDA
from workbench.clustering.vbx import MIN_PRIOR, VBxResult, initial_responsibilities, vbx
from workbench.clustering.xvectors import SegmentSet, cluster_segments
from workbench.errors import InputError, expect
from workbench.types import Features, SegmentFeatures


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusteringResult:
    """What a clustering found.

    Attributes
    ----------
    hard_clusters : int64 array, shape (num_chunks, num_local_speakers)
        Cluster of every local speaker, active or not, exactly as the original returns it.
        `INACTIVE` where no cluster was left.
    active_clusters : int64 array, shape (num_chunks, num_local_speakers)
        The same with `INACTIVE` for local speakers that are active in no frame; this is what
        takes part in reconstruction.
    centroids : float array, shape (num_clusters, dimension)
    num_clusters : number of clusters that embeddings were compared with
    elbo : float64 array, shape (num_iterations,)
        Bound after every VBx iteration; empty where VBx did not run.
    converged : whether VBx stopped by itself; True where it did not run
    """

    hard_clusters: np.ndarray
    active_clusters: np.ndarray
    centroids: np.ndarray
    num_clusters: int
    elbo: np.ndarray = field(default_factory=lambda: np.zeros(0))
    converged: bool = True


class TrainingSet:
    """The embeddings of one recording that clusters are made of, and what they share over many parameters.

    A sweep makes one per recording (and convention) and passes it to `run_clustering` again and
    again: the dendrogram and the PLDA features are computed on first use and then kept.

    Attributes
    ----------
    embeddings : float array, shape (num_embeddings, dimension)
        Chunk by chunk, not normalised.
    mask : bool array, shape (num_chunks, num_local_speakers)
        Where they come from.
    """

    def __init__(self, features: Features, convention: Convention):
        self.convention = convention
        self.mask = training_mask(features.segmentations, features.embeddings, convention)
        self.embeddings = features.embeddings[self.mask]
        self._dendrograms: dict[str, Dendrogram] = {}
        self._projected: tuple[PLDA, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def embeddings_f64(self) -> np.ndarray:
        """The embeddings in double precision, for sums that are taken again and again."""
        return self.embeddings.astype(np.float64)

    def dendrogram(self, linkage: str = "centroid") -> Dendrogram:
        """Dendrogram of the embeddings, computed once per kind of linkage."""
        if linkage not in self._dendrograms:
            self._dendrograms[linkage] = Dendrogram.of(self.embeddings, linkage)
        return self._dendrograms[linkage]

    def project(self, plda: PLDA) -> np.ndarray:
        """VBx features (num_embeddings, num_lda), computed once per PLDA."""
        if self._projected is None or self._projected[0] is not plda:
            self._projected = plda, plda.transform(self.embeddings)
        return self._projected[1]


def cluster(
    features: Features | SegmentFeatures,
    params: ClusteringParams | XVectorParams,
    plda: PLDA | str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Cluster of every local speaker, as the original implementation returns it.

    Parameters
    ----------
    features : segmentations and embeddings of one recording, or the embeddings of its segments
    params : `AHCParams` or `VBxParams`, or `PipelineParams`, which hold one of them; for segments,
        `XVectorParams`
    plda : model or its folder, needed by VBx and for segments

    Returns
    -------
    hard_clusters : int64 array, shape (num_chunks, num_local_speakers), or (num_segments,)
        Speakers without an active frame have a cluster, too. `reconstruct` leaves them out by
        itself; `mark_inactive(hard_clusters, features.segmentations)` does so explicitly.
    """
    return run_clustering(features, params, plda).hard_clusters


def run_clustering(
    features: Features | SegmentFeatures,
    params: ClusteringParams | XVectorParams,
    plda: PLDA | str | os.PathLike[str] | None = None,
    training: TrainingSet | None = None,
) -> ClusteringResult:
    """`cluster` with everything it found on the way.

    Parameters
    ----------
    training : kept from an earlier call for the same features and convention, to save its work
    """
    expect(features, (Features, SegmentFeatures), "features must be Features, as load_features gives them")
    params = getattr(params, "clustering", params)  # those of a whole pipeline, from further up
    if isinstance(plda, str | os.PathLike):
        plda = PLDA.load(plda)
    if isinstance(features, SegmentFeatures):
        if not isinstance(params, XVectorParams):
            raise InputError(
                f"{features.uri}: has one embedding per segment; this clustering needs segmentations and an "
                "embedding per chunk and local speaker, as `workbench diarize --features-dir` writes them; "
                "for segments, pass XVectorParams"
            )
        return _run_segments(features, params, plda)
    if not isinstance(params, ClusteringParams):
        raise InputError(f"params must be AHCParams or VBxParams, got {type(params).__name__}")
    if training is None:
        training = TrainingSet(features, params.convention)
    elif training.convention != params.convention:
        raise ValueError(
            f"the training set was selected by the convention {training.convention!r}, "
            f"the parameters ask for {params.convention!r}; make another TrainingSet"
        )
    if isinstance(params, AHCParams):
        return _run_ahc(features, params, training)
    return _run_vbx(features, params, training, plda)


def _run_segments(features: SegmentFeatures, params: XVectorParams, plda: PLDA | None) -> ClusteringResult:
    if plda is None:
        raise InputError("x-vectors need a PLDA model; name its folder with --plda")
    segments = SegmentSet(features, plda)
    hard_clusters, found = cluster_segments(features, params, plda, segments)
    clusters = np.unique(hard_clusters[hard_clusters >= 0])
    centroids = [segments.embeddings[hard_clusters[segments.mask] == each].mean(axis=0) for each in clusters]
    return ClusteringResult(
        hard_clusters=hard_clusters,
        active_clusters=hard_clusters,
        centroids=np.array(centroids).reshape(len(clusters), features.embeddings.shape[1]),
        num_clusters=len(clusters),
        elbo=np.zeros(0) if found is None else found.elbo,
        converged=True if found is None else found.converged,
    )


def _run_ahc(features: Features, params: AHCParams, training: TrainingSet) -> ClusteringResult:
    if min(len(training), speaker_bounds(params)[1]) < 2:
        return _one_cluster(features, training)
    labels = agglomerate(training.embeddings, training.dendrogram(params.linkage), params)
    return _result(features, *assign_ahc(features, params, training, labels))


def assign_ahc(
    features: Features, params: AHCParams, training: TrainingSet, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of all local speakers, and the centroids, from the clusters of the training embeddings.

    Parameters
    ----------
    labels : int array, shape (num_embeddings,)
    """
    centroids = cluster_means(training.embeddings, labels)
    similarity = similarities(features.embeddings, centroids)
    if params.convention == "diarizen":
        return constrained_argmax(similarity), centroids
    return similarity.argmax(axis=2), centroids


def _run_vbx(
    features: Features, params: VBxParams, training: TrainingSet, plda: PLDA | None
) -> ClusteringResult:
    if plda is None:
        raise InputError("VBx clustering needs a PLDA model; name its folder with --plda, or use AHC")
    if len(training) < 2:
        return _one_cluster(features, training)
    lda_dim = plda.num_lda if params.lda_dim is None else min(int(params.lda_dim), plda.num_lda)
    start = training.dendrogram().cut(params.ahc_threshold, params.ahc_criterion)
    posterior = vbx(
        training.project(plda)[:, :lda_dim],
        plda.phi[:lda_dim],
        initial_responsibilities(start),
        Fa=params.Fa,
        Fb=params.Fb,
        max_iters=int(params.max_iters),
    )
    weights = posterior.gamma[:, posterior.pi > MIN_PRIOR]
    return _result(features, *assign_vbx(features, params, training, weights), posterior)


def assign_vbx(
    features: Features, params: VBxParams, training: TrainingSet, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of all local speakers, and the centroids, from what VBx found.

    Parameters
    ----------
    weights : float array, shape (num_embeddings, num_clusters)
        Responsibilities of the speakers that are kept.
    """
    centroids = weights.T @ training.embeddings  # cosine distance does not see their length
    if params.convention == "diarizen":
        return rank_labels(constrained_argmax(similarities(features.embeddings, centroids))), centroids

    centroids = centroids / weights.sum(axis=0)[:, None]
    target = wanted_clusters(params, len(centroids), len(training))
    if target != len(centroids):
        centroids = kmeans_centroids(training.embeddings, target)
        # one to one would leave speakers over and so bring back another number of clusters
        return similarities(features.embeddings, centroids).argmax(axis=2), centroids
    similarity = similarities(features.embeddings, centroids)
    # Below everything else, so that they only get what active speakers leave. Not nanmin: with a
    # NaN embedding anywhere, pyannote's score is NaN too, which counts as the lowest finite one.
    similarity[~is_active(features.segmentations)] = similarity.min() - 1.0
    return constrained_argmax(similarity), centroids


def wanted_clusters(params: VBxParams, num_found: int, num_embeddings: int) -> int:
    """`num_found` moved into the bounds; never more clusters than embeddings."""
    lower, upper = speaker_bounds(params)
    return int(min(max(num_found, lower), upper, max(num_embeddings, 1)))


def kmeans_centroids(embeddings: np.ndarray, num_clusters: int) -> np.ndarray:
    """Means of `num_clusters` clusters that k-means finds among the unit-length embeddings.

    There are fewer where fewer embeddings differ.
    """
    from sklearn.cluster import KMeans  # heavy, and needed only here
    from sklearn.exceptions import ConvergenceWarning

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal embeddings: handled below
        kmeans = KMeans(n_clusters=num_clusters, n_init=3, random_state=42)  # as pyannote's
        labels = kmeans.fit_predict(unit_length(embeddings))
    return cluster_means(embeddings, labels)


def cluster_means(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of every cluster that has members, in the order of their labels."""
    return np.stack([np.mean(embeddings[labels == label], axis=0) for label in np.unique(labels)])


def _one_cluster(features: Features, training: TrainingSet) -> ClusteringResult:
    """All local speakers are one: nothing to tell apart, or not allowed to."""
    dimension = features.embeddings.shape[2]
    centroid = training.embeddings.mean(axis=0) if len(training) else np.full(dimension, np.nan)
    hard_clusters = np.zeros(features.embeddings.shape[:2], dtype=np.int64)
    return _result(features, hard_clusters, centroid[None])


def _result(
    features: Features, hard_clusters: np.ndarray, centroids: np.ndarray, posterior: VBxResult | None = None
) -> ClusteringResult:
    hard_clusters = hard_clusters.astype(np.int64, copy=False)
    return ClusteringResult(
        hard_clusters=hard_clusters,
        active_clusters=mark_inactive(hard_clusters, features.segmentations),
        centroids=centroids,
        num_clusters=len(centroids),
        elbo=np.zeros(0) if posterior is None else posterior.elbo,
        converged=True if posterior is None else posterior.converged,
    )
