"""What the dendrogram of the live screen joins: local speakers of chunks, or segments."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.clustering import PLDA, AHCParams, VBxParams, XVectorParams
from workbench.clustering.ahc import unit_length
from workbench.errors import InputError
from workbench.overview import MAP_POINTS, map_local_speakers, principal_plane, talking_most
from workbench.plots.grid_live import Tree
from workbench.sweeps import RecordingSweep
from workbench.types import Features, SegmentFeatures


@dataclass(frozen=True, kw_only=True, eq=False)
class Leaves:
    """The embeddings of one recording, as the screen shows them.

    Attributes
    ----------
    tree : their dendrogram, over the threshold
    places : int arrays, shape (num_leaves,)
        Where every leaf, from left to right, is in the clusters of a cell.
    speakers : reference speaker of every leaf, or None
    points : DataFrame
        What is on the map: `columns`, start and end (s), x, y, reference_speaker.
    columns : of `points`, that say where a point is in the clusters of a cell; the first numbers it
    shares : of the variance on the map
    name : of the leaves
    threshold_title : what the threshold is, with its unit
    calibrated : similarity that the threshold is relative to, or None
    """

    tree: Tree
    places: tuple[np.ndarray, ...]
    speakers: Sequence[Hashable]
    points: pd.DataFrame
    columns: tuple[str, ...]
    shares: tuple[float, float]
    name: str
    threshold_title: str
    calibrated: float | None = None

    @property
    def point_places(self) -> tuple[np.ndarray, ...]:
        """Where every point of the map is in the clusters of a cell: int arrays, shape (num_points,)."""
        return tuple(self.points[name].to_numpy(dtype=np.int64) for name in self.columns)


def find_leaves(sweep: RecordingSweep, reference: Annotation, plda: PLDA | None) -> Leaves:
    """The leaves of a recording, as its clustering sees them."""
    if isinstance(sweep.features, SegmentFeatures):
        return _of_segments(sweep, sweep.features, reference)
    return _of_chunks(sweep, sweep.features, reference, plda)


def _of_chunks(sweep: RecordingSweep, features: Features, reference: Annotation, plda: PLDA | None) -> Leaves:
    clustering = sweep.base.clustering
    if not isinstance(clustering, AHCParams | VBxParams):
        raise InputError("the live screen needs AHC or VBx clustering")
    training = sweep.training
    linkage = clustering.linkage if isinstance(clustering, AHCParams) else "centroid"
    tree = Tree.of(training.dendrogram(linkage), training.embeddings)
    points = training.embeddings
    if len(training):
        is_vbx = isinstance(clustering, VBxParams) and plda is not None
        points = training.project(plda)[:, :128] if is_vbx and plda else unit_length(points)
    table, shares = map_local_speakers(features, points, training.mask, reference)
    chunk, slot = np.nonzero(training.mask)
    places = chunk[tree.leaves], slot[tree.leaves]
    has_truth = bool(len(reference.labels())) and len(places[0])
    return Leaves(
        tree=tree,
        places=places,
        speakers=talking_most(features, reference, *places) if has_truth else [None],
        points=table,
        columns=("chunk", "local_speaker"),
        shares=shares,
        name="local speakers",
        threshold_title="Distance" if linkage in ("centroid", "ward") else "Cosine distance",
    )


def _of_segments(sweep: RecordingSweep, features: SegmentFeatures, reference: Annotation) -> Leaves:
    """Of x-vectors: heights are similarities less the calibrated one, as the threshold is."""
    segments, clustering = sweep.segments, sweep.base.clustering
    assert isinstance(clustering, XVectorParams)  # `segments` has seen to it
    tree, calibrated = Tree.of(segments.dendrogram, segments.projected), 0.0
    if len(segments) > 1:
        tree, calibrated = tree.hung_from(segments.height(0.0)), segments.gmm_threshold
    usable = np.flatnonzero(segments.mask)
    speakers = np.array(spoken_most(features.segments[usable], reference), dtype=object)
    kept = np.arange(len(usable))
    if len(kept) > MAP_POINTS:
        kept = np.linspace(0, len(usable) - 1, MAP_POINTS).astype(np.int64)
    is_vbx = clustering.method == "vbx"
    points = segments.vbx_features[:, : clustering.lda_dim] if is_vbx else segments.projected
    plane, shares = principal_plane(points[kept])
    start, end = features.segments[usable[kept]].T
    table = pd.DataFrame(
        {"segment": usable[kept], "start": start, "end": end, "x": plane[:, 0], "y": plane[:, 1]}
    )
    table["reference_speaker"] = pd.Series(list(speakers[kept]), dtype=object)  # keeps None as it is
    return Leaves(
        tree=tree,
        places=(usable[tree.leaves],),
        speakers=list(speakers[tree.leaves]),
        points=table,
        columns=("segment",),
        shares=shares,
        name="segments",
        threshold_title=f"Similarity − {calibrated:.3f} (calibrated)",
        calibrated=calibrated,
    )


def spoken_most(segments: np.ndarray, reference: Annotation) -> list[Hashable | None]:
    """Reference speaker with most speech in each of the segments; None if there is none.

    Parameters
    ----------
    segments : float64 array, shape (num_segments, 2), in seconds
    """
    labels = sorted(reference.labels(), key=str)
    if not labels or not len(segments):
        return [None] * len(segments)
    seconds = np.zeros((len(segments), len(labels)))
    for column, label in enumerate(labels):
        turns = np.array([tuple(turn) for turn in reference.label_timeline(label).support()])
        lengths = turns[:, 1] - turns[:, 0]
        said = np.stack([np.cumsum(lengths) - lengths, np.cumsum(lengths)], axis=1)
        seconds[:, column] = np.diff(np.interp(segments, turns.ravel(), said.ravel()), axis=1)[:, 0]
    return [
        labels[best] if most > 0 else None
        for best, most in zip(seconds.argmax(axis=1), seconds.max(axis=1), strict=True)
    ]
