"""The pipeline with everything on the way kept: every step of a recording as an array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.aggregation import speaker_count
from workbench.agreement.record import ALL, model_digest
from workbench.agreement.sides import SAMPLE_RATE, batches, waveform_digest
from workbench.clustering import AHCParams, TrainingSet, VBxParams, run_clustering, vbx
from workbench.clustering.ahc import agglomerate
from workbench.clustering.vbx import initial_responsibilities
from workbench.config import PipelineParams
from workbench.embedding import embed_recording, embedding_masks, min_clean_frames
from workbench.errors import InputError
from workbench.manifest import digest_values
from workbench.pipeline import Runtimes
from workbench.powerset import median_filter, to_multilabel
from workbench.reconstruction import discrete_diarization, reconstruct
from workbench.recording_folder import RecordingFolder, StageWriter
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, cut_chunks, recorded_log_probs, segmentation_geometry
from workbench.steps.names import STEPS
from workbench.types import Features

PIPELINE = "steps"
"""The word of `--stages` for the steps of the pipeline alone; `all` adds the layers of the networks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepRecorder:
    """Runs the pipeline over recordings and writes its steps to a recorded folder.

    Attributes
    ----------
    runtimes, params : the pipeline
    folder : where to
    stages : `steps`, `all` (with the segmentation network's own stages), or arrays of steps
    """

    runtimes: Runtimes
    params: PipelineParams
    folder: RecordingFolder
    chunk_duration: float
    stages: tuple[str, ...] = (PIPELINE,)

    @classmethod
    def open(
        cls, runtimes: Runtimes, params: PipelineParams, folder: Path, stages: tuple[str, ...] = (PIPELINE,)
    ) -> StepRecorder:
        """A recorder for a folder that is made, or continued."""
        if isinstance(runtimes.segmentation, RecordedRuntime):
            raise InputError(f"{runtimes.segmentation}: is recorded already; give a runtime that can be run")
        if runtimes.plda is None and isinstance(params.clustering, VBxParams):
            raise InputError("VBx clustering needs a PLDA: name its folder with --plda")
        geometry = segmentation_geometry(runtimes.segmentation)
        duration = geometry.chunk_duration if params.seg_duration is None else params.seg_duration
        geometry = replace(
            geometry,
            chunk_duration=duration,
            chunk_step=params.segmentation_step * duration,
        )
        digests = [model_digest(each) for each in (runtimes.segmentation, runtimes.embedding)]
        name = f"{runtimes.segmentation} + {runtimes.embedding}"
        return cls(
            runtimes=runtimes,
            params=params,
            folder=RecordingFolder(
                folder, geometry, name, stages, digest_values([*digests, params.to_dict()])
            ),
            chunk_duration=duration,
            stages=stages,
        )

    def record(
        self, uri: str, waveform: np.ndarray, on_batch: Callable[[int, int], None] | None = None
    ) -> str | None:
        """Record one recording; returns None, or why nothing was to be done."""
        digest = waveform_digest(waveform)
        if self.folder.has(uri, digest):
            return "recorded already"
        self.folder.forget(uri)
        chunking = Chunking(
            num_samples=len(waveform),
            seg_duration=self.chunk_duration,
            segmentation_step=self.params.segmentation_step,
        )
        with StageWriter(self.folder.path(uri)) as writer:
            log_probs = self._scores(waveform, chunking, writer, uri, on_batch)
            for name, array in run_steps(
                waveform, log_probs, self.runtimes, self.params, chunking, uri
            ).items():
                if self._wanted(name):
                    writer.add({name: array}, dtype=None)
        self.folder.note(uri, digest, len(waveform))
        return None

    def _wanted(self, name: str) -> bool:
        return bool({ALL, PIPELINE, name} & set(self.stages))

    def _scores(
        self,
        waveform: np.ndarray,
        chunking: Chunking,
        writer: StageWriter,
        uri: str,
        on_batch: Callable[[int, int], None] | None,
    ) -> np.ndarray:
        """The networks' arrays, which are written batch by batch; the scores, which are also given back."""
        segmentation, embedding = self.runtimes.segmentation, self.runtimes.embedding
        if self._wanted("samples"):
            writer.add({"samples": waveform})
        if isinstance(segmentation, RecordedRuntime):
            return recorded_log_probs(segmentation, uri, chunking)
        scores, done = [], 0
        for chunks in batches(chunking.num_chunks, chunking.num_full, self.params.batch_size):
            waveforms = cut_chunks(waveform, chunking.starts[chunks], chunking.window_samples)
            log_probs = segmentation.segment(waveforms)
            scores.append(log_probs)
            found = {"log_probs": log_probs} if self._wanted("log_probs") else {}
            if ALL in self.stages:
                found = {**segmentation.stages(waveforms), **found}
            writer.add(found)
            if self._wanted("embedding_fbank") and not isinstance(embedding, RecordedRuntime):
                heard = cut_chunks(waveform, chunking.labelled_starts[chunks], chunking.window_samples)
                fbank = embedding.stages(heard).get("fbank")
                if fbank is not None:
                    writer.add({"embedding_fbank": fbank})
            done += len(chunks)
            if on_batch is not None:
                on_batch(done, chunking.num_chunks)
        return np.concatenate(scores)


def run_steps(
    waveform: np.ndarray,
    log_probs: np.ndarray,
    runtimes: Runtimes,
    params: PipelineParams,
    chunking: Chunking,
    uri: str = "waveform",
) -> dict[str, np.ndarray]:
    """Every step after the scores, by the name of its array, in the order of the pipeline.

    Parameters
    ----------
    waveform : float32 array, shape (num_samples,)
    log_probs : float32 array, shape (num_chunks, num_frames, num_classes)
    runtimes, params : the pipeline
    chunking : where the chunks lie
    """
    geometry = segmentation_geometry(runtimes.segmentation)
    multilabel = to_multilabel(log_probs, geometry.powerset).astype(np.float32)
    decided = median_filter(multilabel) if params.apply_median_filtering else multilabel
    segmentations = decided.astype(np.float32, copy=False)
    num_frames = segmentations.shape[1]
    least = min_clean_frames(num_frames, runtimes.embedding.min_num_samples, chunking)
    masks = (
        embedding_masks(segmentations, least)
        if params.embedding_exclude_overlap
        else segmentations.transpose(0, 2, 1)
    )
    embeddings = embed_recording(
        waveform,
        segmentations,
        runtimes.embedding,
        chunking,
        batch_size=params.batch_size,
        exclude_overlap=params.embedding_exclude_overlap,
        uri=uri,
    )
    features = Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=embeddings,
        chunks=chunking.axis,
        frames=geometry.frames,
    )
    options = params.reconstruction_options()
    axis = {"frame_axis": options["frame_axis"]} if "frame_axis" in options else {}
    most = options["max_speakers"]
    found: dict[str, np.ndarray] = {
        "chunks": np.stack([chunking.starts, chunking.starts + chunking.window_samples], axis=1),
        "multilabel": multilabel,
        "segmentations": segmentations,
        "count": speaker_count(features, **axis).astype(np.int64),
        "masks": masks,
        "embeddings": embeddings,
        **clustering_steps(features, runtimes, params),
    }
    discrete, _ = discrete_diarization(features, found["hard_clusters"], max_speakers=most, **axis)
    found["discrete_diarization"] = discrete
    found["segments"] = segments_array(reconstruct(features, found["hard_clusters"], **options))
    order = [step.array for step in STEPS]
    return {name: found[name] for name in order if name in found}


def clustering_steps(features: Features, runtimes: Runtimes, params: PipelineParams) -> dict[str, np.ndarray]:
    """What the clustering does on the way, by the names of the arrays."""
    chosen, plda = params.clustering, runtimes.plda
    training = TrainingSet(features, chosen.convention)
    found: dict[str, np.ndarray] = {"filtered_embeddings": training.embeddings}
    if len(training) >= 2:
        dendrogram = training.dendrogram(getattr(chosen, "linkage", "centroid"))
        found["dendrogram"] = dendrogram.merges
        if isinstance(chosen, AHCParams):
            found["ahc_labels"] = agglomerate(training.embeddings, dendrogram, chosen)
        elif plda is not None:
            dim = plda.num_lda if chosen.lda_dim is None else min(int(chosen.lda_dim), plda.num_lda)
            found["plda_features"] = training.project(plda)[:, :dim]
            found["ahc_labels"] = dendrogram.cut(chosen.ahc_threshold, chosen.ahc_criterion)
            posterior = vbx(
                found["plda_features"],
                plda.phi[:dim],
                initial_responsibilities(found["ahc_labels"]),
                Fa=chosen.Fa,
                Fb=chosen.Fb,
                max_iters=int(chosen.max_iters),
            )
            found["vbx_gamma"], found["vbx_pi"] = posterior.gamma, posterior.pi
    found["hard_clusters"] = run_clustering(features, chosen, plda, training).active_clusters
    return found


def segments_array(annotation: object) -> np.ndarray:
    """Turns as float64 (num_segments, 3): start, end (s), number of the speaker in the order of labels."""
    labels = {label: number for number, label in enumerate(annotation.labels())}  # type: ignore[attr-defined]
    rows = [
        (segment.start, segment.end, labels[label])
        for segment, _, label in annotation.itertracks(yield_label=True)  # type: ignore[attr-defined]
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


__all__ = ["PIPELINE", "SAMPLE_RATE", "StepRecorder", "clustering_steps", "run_steps", "segments_array"]
