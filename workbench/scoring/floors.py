"""Floors: the error that remains if a stage of the pipeline made no mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyannote.core import Annotation, Segment, Timeline

from workbench.aggregation import FrameAxis, FrameGrid
from workbench.reconstruction import reconstruct
from workbench.scoring.diarization import DiarizationCounts, score
from workbench.scoring.local import active_frames
from workbench.scoring.slots import Slots, matched
from workbench.scoring.turns import Turns, dense
from workbench.types import INACTIVE, Features

_SILENCE = Turns.of(Annotation())


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Counts of one recording under ever stronger helpers; None where clusters were not given."""

    frame_grid: DiarizationCounts  # every turn may start and end at frames only
    oracle_clustering: DiarizationCounts  # the model's speech, each voice given its true name
    oracle_segmentation: DiarizationCounts | None  # true speech, names as the clustering gave them
    system: DiarizationCounts | None  # as it is


def find_floors(
    reference: Annotation,
    features: Features,
    hard_clusters: np.ndarray | None = None,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    *,
    frame_axis: FrameAxis = "receptive_field",
    **reconstruction: Any,
) -> Floors:
    """Floors of one recording.

    Parameters
    ----------
    reference : Annotation
    features : segmentations and time axes
    hard_clusters : int array, shape (num_chunks, num_local_speakers), optional
        As `cluster` returns it.
    uem, collar, skip_overlap : as of `score`
    frame_axis, reconstruction : as of `reconstruct`
    """

    def count(hypothesis: Annotation) -> DiarizationCounts:
        return score(reference, hypothesis, uem, collar, skip_overlap)

    def rebuild(segmented: Features, clusters: np.ndarray) -> DiarizationCounts:
        return count(reconstruct(segmented, clusters, frame_axis=frame_axis, **reconstruction))

    grid = FrameGrid.of(features, frame_axis)
    boundaries = grid.frames.middle_of(np.arange(grid.num_frames))
    spoken = true_segmentations(reference, features, frame_axis)
    candidates = [rebuild(features, each) for each in oracle_clusters(spoken, features)]
    segmented, system = None, None
    if hard_clusters is not None:
        segmented = rebuild(*oracle_segmentation(spoken, features, hard_clusters))
        system = rebuild(features, hard_clusters)
    return Floors(
        frame_grid=best_on_grid(reference, boundaries, uem, collar, skip_overlap),
        oracle_clustering=min(candidates, key=lambda counts: counts.der),
        oracle_segmentation=segmented,
        system=system,
    )


def best_on_grid(
    reference: Annotation | Turns,
    boundaries: np.ndarray,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> DiarizationCounts:
    """Smallest error of any hypothesis that changes at `boundaries` only.

    Parameters
    ----------
    boundaries : float array, shape (num_frames,), in seconds
        Middles of the frames. Before the first and after the last nobody can be found.

    Notes
    -----
    In every slot between two boundaries, for every number k of speakers, the best k are those who talk
    longest in it; what is then missed or false alarm depends on k alone. The best k is taken.
    """
    if uem is None:
        ref = reference if isinstance(reference, Turns) else Turns.of(reference)
        times = np.concatenate([boundaries, ref.starts, ref.ends])
        uem = Segment(times.min() - 1, times.max() + 1) if len(times) else None
    slots, _ = Slots.of(reference, _SILENCE, uem, collar, skip_overlap).refine(boundaries)
    num_ref, seconds = slots.num_ref, slots.seconds
    frame = np.searchsorted(boundaries, slots.starts, side="right") - 1
    inside = (frame >= 0) & (frame < len(boundaries) - 1)
    outside = float(num_ref[~inside] @ seconds[~inside])

    occupied, frame = np.unique(frame[inside], return_inverse=True)  # frames with scored time
    talks = np.minimum(dense(slots.active_ref[inside]), 1) * seconds[inside, None]
    per_frame = np.zeros((len(occupied), talks.shape[1]))
    np.add.at(per_frame, frame, talks)
    longest_first = -np.sort(-per_frame, axis=1)
    none = np.zeros((len(occupied), 1))
    correct = np.concatenate([none, longest_first.cumsum(axis=1)], axis=1)  # (frame, k)
    numbers = np.arange(correct.shape[1])

    def per_count(values: np.ndarray) -> np.ndarray:  # (slot, k) -> (frame, k)
        sums = np.zeros((len(occupied), values.shape[1]))
        np.add.at(sums, frame, values * seconds[inside, None])
        return sums

    missed = per_count(np.maximum(num_ref[inside, None] - numbers, 0))
    false_alarm = per_count(np.maximum(numbers - num_ref[inside, None], 0))
    both = per_count(np.minimum(num_ref[inside, None], numbers))
    best = (missed + false_alarm + both - correct).argmin(axis=1)[:, None]
    sums = {
        name: float(np.take_along_axis(values, best, axis=1).sum())
        for name, values in (
            ("missed", missed),
            ("false_alarm", false_alarm),
            ("correct", correct),
            ("confusion", np.maximum(both - correct, 0.0)),
        )
    }
    sums["missed"] += outside
    return DiarizationCounts(total=float(num_ref @ seconds), **sums)


def true_segmentations(
    reference: Annotation, features: Features, frame_axis: FrameAxis = "receptive_field"
) -> np.ndarray:
    """Who talks in the frames of every chunk: bool, shape (num_chunks, num_frames, num_ref_speakers)."""
    grid = FrameGrid.of(features, frame_axis)
    frames = grid.starts[:, None] + np.arange(features.segmentations.shape[1])
    # A frame stands for the time up to the middle of the next one, for there `binarize` ends a turn.
    return active_frames(reference, grid.frames.middle_of(frames) + 0.5 * grid.frames.step)


def oracle_clusters(spoken: np.ndarray, features: Features) -> list[np.ndarray]:
    """Clusters (num_chunks, num_local_speakers) that name every local speaker truly, in two ways.

    One to one, as far as that goes, or every local speaker by whom they overlap most, so that a voice
    split in two is put together again. Neither is always the better one.
    """
    num_chunks, _, num_local = features.segmentations.shape
    one_to_one = np.full((num_chunks, num_local), INACTIVE)
    most = np.full((num_chunks, num_local), INACTIVE)
    for chunk in range(num_chunks):
        together = _together(features.segmentations[chunk], spoken[chunk])
        for local, ref in matched(together):
            one_to_one[chunk, local] = ref
        if together.size:
            most[chunk] = np.where(together.max(axis=1) > 0, together.argmax(axis=1), INACTIVE)
    return [one_to_one, most]


def oracle_segmentation(
    spoken: np.ndarray, features: Features, hard_clusters: np.ndarray
) -> tuple[Features, np.ndarray]:
    """True segmentations, every speaker in the cluster that their voice was put into.

    In each chunk a reference speaker takes the cluster of the local speaker who overlaps them most,
    one to one; where the model did not notice them, the cluster they have most often elsewhere.
    """
    num_chunks, _, num_ref = spoken.shape
    clusters = np.full((num_chunks, num_ref), INACTIVE)
    for chunk in range(num_chunks):
        for local, ref in matched(_together(features.segmentations[chunk], spoken[chunk])):
            clusters[chunk, ref] = hard_clusters[chunk, local]
    for ref in range(num_ref):
        known = clusters[:, ref][clusters[:, ref] >= 0]
        if len(known):
            clusters[clusters[:, ref] < 0, ref] = np.bincount(known).argmax()
    segmented = Features(
        uri=features.uri,
        segmentations=spoken.astype(np.float32),
        embeddings=np.zeros((num_chunks, num_ref, 0), dtype=np.float32),
        chunks=features.chunks,
        frames=features.frames,
    )
    return segmented, clusters


def _together(local: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """Frames in common, shape (num_local_speakers, num_ref_speakers)."""
    return np.rint(local).T @ spoken.astype(np.float64)
