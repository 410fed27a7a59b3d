"""From local speakers and their clusters to who spoke when."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pyannote.core import Annotation, Segment

from workbench.aggregation import FrameAxis, FrameGrid, speaker_count
from workbench.binarization import binarize
from workbench.clustering.xvectors import merge_segments
from workbench.errors import expect
from workbench.types import INACTIVE, Features, SegmentFeatures, SlidingWindow

Labels = Literal["integer", "SPEAKER_00"]

RECONSTRUCTION_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "diarizen": MappingProxyType({"max_speakers": 20}),
        "pyannote-3.1": MappingProxyType({"frame_axis": "chunk", "labels": "SPEAKER_00"}),
        "community-1": MappingProxyType({"labels": "SPEAKER_00"}),
    }
)
"""Keyword arguments of `reconstruct` for the presets, by name."""


def cluster_activations(
    features: Features, hard_clusters: np.ndarray, frame_axis: FrameAxis = "receptive_field"
) -> np.ndarray:
    """How many chunks say, at each frame, that a cluster is active.

    Local speakers of one chunk that share a cluster count once.

    Parameters
    ----------
    features : segmentations and time axes
    hard_clusters : int array, shape (num_chunks, num_local_speakers)
        Negative ids, and local speakers without an active frame, take no part.

    Returns
    -------
    activations : float32 array, shape (num_frames, num_clusters)
        `num_clusters` is the largest id in use plus one.
    """
    segmentations = features.segmentations
    num_chunks, num_frames_per_chunk, num_speakers = segmentations.shape
    if np.shape(hard_clusters) != (num_chunks, num_speakers):
        raise ValueError(
            f"hard_clusters must have shape (num_chunks, num_local_speakers) = {(num_chunks, num_speakers)} "
            f"like the segmentations, got {np.shape(hard_clusters)}"
        )
    grid = FrameGrid.of(features, frame_axis)
    active = np.ascontiguousarray(segmentations.transpose(0, 2, 1))  # (chunk, speaker, frame)
    clusters = np.where(active.any(axis=2), hard_clusters, INACTIVE).astype(np.int64)
    num_clusters = max(0, int(clusters.max(initial=-1)) + 1)
    for kept, merged in combinations(range(num_speakers), 2):
        same = (clusters[:, kept] == clusters[:, merged]) & (clusters[:, kept] >= 0)
        active[same, kept] = np.maximum(active[same, kept], active[same, merged])
        clusters[same, merged] = INACTIVE

    activations = np.zeros((num_clusters, grid.num_frames), dtype=np.float32)  # long rows add fast
    for chunk, speaker in np.argwhere(clusters >= 0):
        start = grid.starts[chunk]
        activations[clusters[chunk, speaker], start : start + num_frames_per_chunk] += active[chunk, speaker]
    return activations.T


def select_speakers(activations: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The `count` most active clusters of every frame.

    Ties go to the lowest column. (The reference sorts with numpy's unstable default, so there the
    outcome of a tie depends on the processor.) Columns without any evidence are appended, and may
    be selected, where more speakers are counted than there are clusters.

    Parameters
    ----------
    activations : float array, shape (num_frames, num_clusters)
    count : int array, shape (num_frames,)

    Returns
    -------
    discrete : uint8 array, shape (num_frames, max(num_clusters, max(count)))
        0 or 1.
    """
    num_frames, num_clusters = activations.shape
    num_columns = max(num_clusters, int(count.max(initial=0)))
    activations = np.pad(activations, ((0, 0), (0, num_columns - num_clusters)))
    discrete = np.zeros((num_frames, num_columns), dtype=np.uint8)
    occupied = np.flatnonzero(count)  # most frames of a meeting have few speakers; silence has none
    order = np.argsort(-activations[occupied], axis=1, kind="stable")
    selected = np.arange(num_columns) < count[occupied, None]
    rows = np.zeros((len(occupied), num_columns), dtype=np.uint8)
    np.put_along_axis(rows, order, selected.astype(np.uint8), axis=1)
    discrete[occupied] = rows
    return discrete


def discrete_diarization(
    features: Features,
    hard_clusters: np.ndarray,
    *,
    max_speakers: int | None = None,
    frame_axis: FrameAxis = "receptive_field",
    exclusive: bool = False,
    count_onset: float = 0.5,
) -> tuple[np.ndarray, SlidingWindow]:
    """Which cluster is active in which frame of the recording.

    Parameters
    ----------
    features : segmentations and time axes
    hard_clusters : int array, shape (num_chunks, num_local_speakers)
        As `cluster` returns it; negative ids take no part.
    max_speakers : at most this many speakers at once
    frame_axis : how frames are placed in time
    exclusive : at most one speaker at once, as pyannote 4's exclusive diarization
    count_onset : see `speaker_count`

    Returns
    -------
    discrete : uint8 array, shape (num_frames, num_clusters)
        0 or 1. Without any active local speaker (the reference fails there) there is no column.
    frames : its time axis
    """
    grid = FrameGrid.of(features, frame_axis)
    activations = cluster_activations(features, hard_clusters, frame_axis)
    if activations.shape[1] == 0:
        return np.zeros((grid.num_frames, 0), dtype=np.uint8), grid.frames
    count = speaker_count(features, frame_axis, count_onset)
    if max_speakers is not None:
        count = np.minimum(count, max_speakers)
    if exclusive:
        count = np.minimum(count, 1)
    return select_speakers(activations, count), grid.frames


def reconstruct_segments(features: SegmentFeatures, hard_clusters: np.ndarray) -> Annotation:
    """Who spoke when, from the speaker of every segment, as the recipes of VBx write it.

    Neighbours of one speaker are joined; where segments of two overlap, the boundary is the middle of
    the overlap. Labels are the clusters plus one.
    """
    spoken = hard_clusters >= 0
    turns, labels = merge_segments(features.segments[spoken], hard_clusters[spoken])
    annotation = Annotation(uri=features.uri)
    for (start, end), label in zip(turns.tolist(), labels.tolist(), strict=True):
        annotation[Segment(start, end), label + 1] = label + 1
    return annotation


def reconstruct(
    features: Features | SegmentFeatures,
    hard_clusters: np.ndarray,
    *,
    max_speakers: int | None = None,
    frame_axis: FrameAxis = "receptive_field",
    onset: float = 0.5,
    offset: float = 0.5,
    min_duration_on: float = 0.0,
    min_duration_off: float = 0.0,
    exclusive: bool = False,
    count_onset: float = 0.5,
    labels: Labels = "integer",
) -> Annotation:
    """Who spoke when.

    Parameters
    ----------
    features : segmentations and time axes of one recording
        Or its segments, to which nothing but `hard_clusters` applies: see `reconstruct_segments`.
    hard_clusters : int array, shape (num_chunks, num_local_speakers)
        As `cluster` returns it; negative ids take no part.
    max_speakers, frame_axis, exclusive, count_onset : see `discrete_diarization`
    onset, offset, min_duration_on, min_duration_off : see `binarize`, in seconds
    labels : "integer": the cluster id; "SPEAKER_00": numbered names as pyannote gives them, in
        the order of the ids as text (0, 1, 10, 11, 2, ...)

    Returns
    -------
    annotation : segments with their speakers; `uri` is that of the features
    """
    expect(features, (Features, SegmentFeatures), "features must be Features, as load_features gives them")
    if labels not in ("integer", "SPEAKER_00"):
        raise ValueError(f"labels must be 'integer' or 'SPEAKER_00', got {labels!r}")
    if isinstance(features, SegmentFeatures):
        return reconstruct_segments(features, hard_clusters)

    def annotate(exclusive: bool) -> Annotation:
        discrete, frames = discrete_diarization(
            features,
            hard_clusters,
            max_speakers=max_speakers,
            frame_axis=frame_axis,
            exclusive=exclusive,
            count_onset=count_onset,
        )
        return binarize(
            discrete,
            frames,
            onset=onset,
            offset=offset,
            min_duration_on=min_duration_on,
            min_duration_off=min_duration_off,
            uri=features.uri,
        )

    annotation = annotate(exclusive)
    if labels == "integer":
        return annotation
    # an exclusive diarization shares its names with the full one
    named = annotate(False).labels() if exclusive else annotation.labels()
    named += [label for label in annotation.labels() if label not in named]
    return annotation.rename_labels({label: f"SPEAKER_{index:02d}" for index, label in enumerate(named)})
