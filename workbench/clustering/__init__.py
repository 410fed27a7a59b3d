"""Clustering: the embeddings of local speakers in, one cluster per local speaker out.

Two methods, agglomerative clustering (`AHCParams`) and VBx (`VBxParams`), in the variants of three
implementations (`convention`):

=======================  ======================  ===================  =========================
what differs             diarizen                pyannote-3.1         community-1
=======================  ======================  ===================  =========================
training embeddings      clean in 10 % of the    active               clean in 20 % of the
                         frames, with fallback                        frames, no fallback
AHC assignment           constrained             best cluster         best cluster
VBx: inactive speakers   compete for clusters    (no VBx)             are assigned last
VBx: left-over speakers  gathered in cluster 0   (no VBx)             stay `INACTIVE`
VBx: wrong number of     kept                    (no VBx)             k-means, then best
speakers                                                              cluster
=======================  ======================  ===================  =========================
"""

from workbench.clustering.ahc import Dendrogram
from workbench.clustering.assignment import constrained_argmax, mark_inactive
from workbench.clustering.params import (
    CLUSTERING_METHODS,
    CLUSTERING_PRESETS,
    AHCParams,
    ClusteringParams,
    VBxParams,
    XVectorParams,
    read_clustering_args,
)
from workbench.clustering.plda import PLDA
from workbench.clustering.run import ClusteringResult, TrainingSet, cluster, run_clustering
from workbench.clustering.vbx import VBxResult, vbx

__all__ = [
    "CLUSTERING_METHODS",
    "CLUSTERING_PRESETS",
    "PLDA",
    "AHCParams",
    "ClusteringParams",
    "ClusteringResult",
    "Dendrogram",
    "TrainingSet",
    "VBxParams",
    "VBxResult",
    "XVectorParams",
    "cluster",
    "constrained_argmax",
    "mark_inactive",
    "read_clustering_args",
    "run_clustering",
    "vbx",
]
