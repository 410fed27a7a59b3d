"""The five stages of a side that can be exchanged one by one: callables that compare by what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.audio import read_audio
from workbench.clustering import PLDA, ClusteringParams, cluster
from workbench.config import PipelineParams
from workbench.embedding import embed_recording
from workbench.errors import RecordingError
from workbench.pipeline import SAMPLE_RATE
from workbench.reconstruction import reconstruct
from workbench.runtimes import Runtime
from workbench.segmentation import Chunking, segment_recording, segmentation_geometry
from workbench.steps.recorded_stages import with_recorded, without_embeddings
from workbench.steps.sides import PipelineSide
from workbench.types import Features

if TYPE_CHECKING:
    from pyannote.core import Annotation

STAGES = ("front end", "segmentation", "embeddings", "clustering", "post-processing")
"""In the order of the pipeline."""

Source = Path | np.ndarray
"""A recording: its file, or its samples at 16 kHz."""


@dataclass(frozen=True, kw_only=True)
class ReadAudio:
    """Front end: the samples that the models hear.

    Attributes
    ----------
    elsewhere : uri -> file that this side hears instead, as its own front end converted it
    """

    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    def __call__(self, uri: str, source: Source) -> np.ndarray:
        """Waveform, float32 (num_samples,)."""
        if self.elsewhere:
            if uri not in self.elsewhere:
                raise RecordingError(f"the other audio has no recording {uri!r}")
            source = self.elsewhere[uri]
        return read_audio(source, SAMPLE_RATE) if isinstance(source, Path) else source


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Segmentation: who is active in which chunk."""

    model: str
    seg_duration: float | None
    segmentation_step: float
    apply_median_filtering: bool
    runtime: Runtime = field(compare=False)
    batch_size: int = field(default=32, compare=False)

    def __call__(self, uri: str, waveform: np.ndarray) -> Features:
        """Features whose embeddings are yet to come."""
        geometry = segmentation_geometry(self.runtime)
        chunking = self.chunking(waveform)
        segmentations = segment_recording(
            waveform,
            self.runtime,
            chunking,
            batch_size=self.batch_size,
            apply_median_filtering=self.apply_median_filtering,
            uri=uri,
        )
        return without_embeddings(uri, segmentations, chunking, geometry)

    def chunking(self, waveform: np.ndarray) -> Chunking:
        """Where the chunks of a recording lie."""
        geometry = segmentation_geometry(self.runtime)
        return Chunking(
            num_samples=len(waveform),
            seg_duration=geometry.chunk_duration if self.seg_duration is None else self.seg_duration,
            segmentation_step=self.segmentation_step,
        )


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Embeddings: one per chunk and local speaker."""

    model: str
    exclude_overlap: bool
    runtime: Runtime = field(compare=False)
    batch_size: int = field(default=32, compare=False)

    def __call__(self, uri: str, waveform: np.ndarray, features: Features) -> np.ndarray:
        """Embeddings, float32 (num_chunks, num_local_speakers, dimension)."""
        chunks = features.chunks
        chunking = Chunking(
            num_samples=len(waveform),
            seg_duration=chunks.duration,
            segmentation_step=chunks.step / chunks.duration,
        )
        return embed_recording(
            waveform,
            features.segmentations,
            self.runtime,
            chunking,
            batch_size=self.batch_size,
            exclude_overlap=self.exclude_overlap,
            uri=uri,
        )


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Clustering: the speaker of every local speaker."""

    params: ClusteringParams
    source: str  # of the PLDA
    plda: PLDA | None = field(default=None, compare=False)

    def __call__(self, features: Features) -> np.ndarray:
        """Hard clusters, int64 (num_chunks, num_local_speakers)."""
        return cluster(features, self.params, self.plda)


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """Post-processing: from clusters to turns."""

    options: tuple[tuple[str, object], ...]

    def __call__(self, features: Features, hard_clusters: np.ndarray) -> Annotation:
        """Who spoke when."""
        return reconstruct(features, hard_clusters, **dict(self.options))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class SideStages:
    """What one side does in every stage; `dataclasses.replace` exchanges one.

    Stages that compare equal on both sides are shared and have no part in a difference.
    """

    name: str
    front_end: Callable[[str, Source], np.ndarray]
    segmentation: Callable[[str, np.ndarray], Features]
    embeddings: Callable[[str, np.ndarray, Features], np.ndarray]
    clustering: Callable[[Features], np.ndarray]
    post_processing: Callable[[Features, np.ndarray], Annotation]

    @classmethod
    def of(cls, side: PipelineSide, audio: Mapping[str, Path] | None = None) -> SideStages:
        """The stages of a pipeline; `audio` names the files that it hears instead of the usual ones."""
        params: PipelineParams = side.params
        found = cls(
            name=side.name,
            front_end=ReadAudio(elsewhere=audio or {}),
            segmentation=Segment(
                model=side.models["segmentation"],
                seg_duration=params.seg_duration,
                segmentation_step=params.segmentation_step,
                apply_median_filtering=params.apply_median_filtering,
                runtime=side.runtimes.segmentation,
                batch_size=params.batch_size,
            ),
            embeddings=Embed(
                model=side.models["embedding"],
                exclude_overlap=params.embedding_exclude_overlap,
                runtime=side.runtimes.embedding,
                batch_size=params.batch_size,
            ),
            clustering=Cluster(
                params=params.clustering, source=side.models.get("plda", ""), plda=side.runtimes.plda
            ),
            post_processing=Reconstruct(options=tuple(sorted(params.reconstruction_options().items()))),
        )
        if side.recorded is None:
            return found
        folder, taken = side.recorded
        # audio that is named is heard, whatever was recorded
        kept = {stage: array for stage, array in taken.items() if not (audio and stage == "front end")}
        return with_recorded(found, folder, kept)

    def stage(self, name: str) -> Callable[..., object]:
        """The callable of a stage."""
        found: Callable[..., object] = getattr(self, name.replace(" ", "_").replace("-", "_"))
        return found
