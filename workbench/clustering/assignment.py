"""From similarities between local speakers and clusters to one cluster per local speaker."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from workbench.clustering.filtering import is_active
from workbench.types import INACTIVE


def similarities(embeddings: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Two minus the cosine distance of every embedding to every centroid.

    Parameters
    ----------
    embeddings : float array, shape (num_chunks, num_local_speakers, dimension)
    centroids : float array, shape (num_clusters, dimension)

    Returns
    -------
    similarity : float64 array, shape (num_chunks, num_local_speakers, num_clusters)
        From 0 (opposite) to 2 (equal); NaN for embeddings that are NaN.
    """
    num_chunks, num_speakers, dimension = embeddings.shape
    distance = cdist(embeddings.reshape(-1, dimension), centroids, metric="cosine")
    return 2.0 - distance.reshape(num_chunks, num_speakers, len(centroids))


def constrained_argmax(similarity: np.ndarray) -> np.ndarray:
    """Best assignment in which the local speakers of a chunk go to different clusters.

    The Hungarian method (scipy's, with its order on ties) maximises the summed similarity of each
    chunk. NaN counts as the smallest finite similarity.

    Parameters
    ----------
    similarity : float array, shape (num_chunks, num_local_speakers, num_clusters)

    Returns
    -------
    hard_clusters : int64 array, shape (num_chunks, num_local_speakers)
        `INACTIVE` for local speakers that no cluster is left for. (The reference stores int8, so
        that it breaks from the 129th cluster on; ids are exact here.)
    """
    finite = ~np.isnan(similarity)
    lowest = similarity[finite].min() if finite.any() else 0.0
    hard_clusters = np.full(similarity.shape[:2], INACTIVE, dtype=np.int64)
    for chunk, scores in enumerate(np.where(finite, similarity, lowest)):
        speakers, clusters = linear_sum_assignment(scores, maximize=True)
        hard_clusters[chunk, speakers] = clusters
    return hard_clusters


def rank_labels(hard_clusters: np.ndarray) -> np.ndarray:
    """Every id replaced by its rank among the distinct ids, `INACTIVE` included.

    This is how DiariZen renumbers after VBx. As soon as one local speaker of one chunk was left
    over, rank 0 is a phantom speaker that gathers all of them, and clusters count from 1.
    """
    ranks = np.unique(hard_clusters, return_inverse=True)[1]
    return ranks.reshape(hard_clusters.shape).astype(np.int64)


def mark_inactive(hard_clusters: np.ndarray, segmentations: np.ndarray) -> np.ndarray:
    """`hard_clusters` with `INACTIVE` for local speakers that are active in no frame.

    Parameters
    ----------
    hard_clusters : int array, shape (num_chunks, num_local_speakers)
    segmentations : float array, shape (num_chunks, num_frames, num_local_speakers)
    """
    return np.where(is_active(segmentations), hard_clusters, INACTIVE)
