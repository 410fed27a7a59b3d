"""Stages of a side that a folder of recorded steps gives instead of a model.

A recorded stage answers as it did on its own input, whatever the stage before it is exchanged for: labels and
embeddings belong to chunks and local speakers by their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import InputError, RecordingError
from workbench.segmentation import Chunking
from workbench.steps.reading import StepsFolder
from workbench.types import Features, Geometry

if TYPE_CHECKING:
    from workbench.steps.stages import SideStages, Source

ACCEPTED: Mapping[str, tuple[str, ...]] = {
    "front end": ("samples",),
    "segmentation": ("log_probs", "segmentations"),
    "embeddings": ("embeddings",),
    "clustering": ("hard_clusters",),
}
"""Arrays that a stage is taken from, the first that is there."""


def offered(folder: StepsFolder) -> dict[str, str]:
    """Stage -> array that gives it, of those that every recording of the folder has.

    A folder that gives none is an `InputError`, which says what would be accepted.
    """
    names = [set(folder.names(uri)) for uri in folder.uris]
    common = set.intersection(*names) if names else set()
    found = {
        stage: array
        for stage, arrays in ACCEPTED.items()
        if (array := next((each for each in arrays if each in common), None)) is not None
    }
    if not found:
        accepted = ", ".join(f"{' or '.join(arrays)} ({stage})" for stage, arrays in ACCEPTED.items())
        has = sorted(set().union(*names))
        raise InputError(
            f"{folder.name}: has no array that a stage could be taken from, in every recording; swap accepts "
            f"{accepted}; this folder has {', '.join(has) or 'none'}"
            + (" (other steps follow from these and are computed)" if has else "")
        )
    return found


@dataclass(frozen=True, kw_only=True)
class RecordedAudio:
    """Front end: the samples that a folder holds."""

    name: str
    folder: StepsFolder = field(compare=False)

    def __call__(self, uri: str, source: Source) -> np.ndarray:
        """Waveform, float32 (num_samples,)."""
        samples = load_step(self.folder, uri, "samples").reshape(-1).astype(np.float32)
        if not np.isfinite(samples).all() or (np.abs(samples).max(initial=0.0) > 2.0):
            raise RecordingError(
                f"{self.folder.name}: samples of {uri!r} must be finite and in [-1, 1); divide those in the "
                "range of 16-bit numbers by 32768"
            )
        return samples


@dataclass(frozen=True, kw_only=True)
class RecordedSegments:
    """Segmentation: who is active in which chunk, as a folder says."""

    name: str
    geometry: Geometry = field(compare=False)
    folder: StepsFolder = field(compare=False)

    def __call__(self, uri: str, waveform: np.ndarray) -> Features:
        """Features whose embeddings are yet to come."""
        active = load_step(self.folder, uri, "segmentations").astype(np.float32)
        geometry = self.geometry
        chunking = Chunking(
            num_samples=len(waveform),
            seg_duration=geometry.chunk_duration,
            segmentation_step=geometry.chunk_step / geometry.chunk_duration,
        )
        if active.ndim != 3 or len(active) != chunking.num_chunks:
            raise RecordingError(
                f"{self.folder.name}: segmentations of {uri!r} have shape {active.shape}, expected "
                f"({chunking.num_chunks}, num_frames, num_local_speakers)"
            )
        return without_embeddings(uri, active, chunking, geometry)


def without_embeddings(
    uri: str, segmentations: np.ndarray, chunking: Chunking, geometry: Geometry
) -> Features:
    """Features whose embeddings are yet to come: one dimension of NaN stands in for them."""
    return Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=np.full((*segmentations.shape[::2], 1), np.nan, dtype=np.float32),
        chunks=chunking.axis,
        frames=geometry.frames,
    )


@dataclass(frozen=True, kw_only=True)
class RecordedClusters:
    """Clustering: the labels that a folder holds."""

    name: str
    folder: StepsFolder = field(compare=False)

    def __call__(self, features: Features) -> np.ndarray:
        """Hard clusters, int64 (num_chunks, num_local_speakers)."""
        labels = load_step(self.folder, features.uri, "hard_clusters").astype(np.int64)
        expected = features.segmentations.shape[::2]
        if labels.shape != expected:
            raise RecordingError(
                f"{self.folder.name}: hard_clusters of {features.uri!r} have shape {labels.shape}, expected "
                f"{expected} (chunk, local speaker)"
            )
        return labels


def with_recorded(stages: SideStages, folder: StepsFolder, taken: Mapping[str, str]) -> SideStages:
    """The stages of a side with those that only a folder of steps gives: samples, segmentations, labels.

    Scores and embeddings are read by the runtimes already.
    """
    found = stages
    if "front end" in taken:
        found = replace(found, front_end=RecordedAudio(name=folder.name, folder=folder))
    if taken.get("segmentation") == "segmentations":
        if folder.geometry is None:
            raise InputError(
                f"{folder.name}: segmentations need a geometry.json, which says where chunks and frames lie"
            )
        recorded = RecordedSegments(name=folder.name, geometry=folder.geometry, folder=folder)
        found = replace(found, segmentation=recorded)
    if "clustering" in taken:
        found = replace(found, clustering=RecordedClusters(name=folder.name, folder=folder))
    return found


def load_step(folder: StepsFolder, uri: str, array: str) -> np.ndarray:
    """An array of a recording by the name of its step."""
    if uri not in folder.recordings:
        raise RecordingError(f"{folder.name}: holds no recording {uri!r}")
    names = folder.names(uri)
    if array not in names:
        raise RecordingError(f"{folder.name}: {uri!r} lacks {array}")
    return folder.load(uri, names[array][0])
