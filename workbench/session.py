"""A models folder and some recordings, prepared once and then diarized again and again in milliseconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation, Timeline

from workbench.audio import audio_duration, find_recordings, read_audio
from workbench.clustering import ClusteringParams, VBxParams
from workbench.clustering.ahc import unit_length
from workbench.clustering.run import TrainingSet, run_clustering
from workbench.config import PipelineParams
from workbench.errors import InputError
from workbench.overview import Diarization, Envelope, LocalSpeakers, Recording, map_local_speakers
from workbench.pipeline import SAMPLE_RATE, Hook, Runtimes, extract_features, load_hub
from workbench.powerset import to_multilabel
from workbench.reconstruction import reconstruct
from workbench.rttm import read_rttm, read_uem
from workbench.runtimes import Runtime
from workbench.scoring import score
from workbench.segmentation import segmentation_geometry
from workbench.timeline import (
    crop_turns,
    find_errors,
    find_turns,
    match_speakers,
    order_speakers,
    speaker_errors,
)
from workbench.types import Features


class Session:
    """Recordings, their references and the models to try on them.

    Parameters
    ----------
    models : a hub-layout folder (config.toml, segmentation, embedding, plda/), or `Runtimes` loaded already
    audio : files and folders of recordings
    references : RTTM file, or uri -> Annotation, optional
        Without it, an RTTM beside a recording (same name, `.rttm`) is its reference.
    uem : UEM file, or uri -> Timeline, optional
        Regions that are scored; by default from the first to the last turn of either side.
    params : `PipelineParams`, optional
        By default those of the folder.
    """

    def __init__(
        self,
        models: str | Path | Runtimes,
        audio: str | Path | list[str | Path],
        references: str | Path | Mapping[str, Annotation] | None = None,
        uem: str | Path | Mapping[str, Timeline] | None = None,
        params: PipelineParams | None = None,
    ):
        self.models = models
        self.audio = find_recordings([audio] if isinstance(audio, str | Path) else audio)
        if not self.audio:
            raise InputError(f"no recordings in {audio}; give audio files, or a folder that holds some")
        self.references = _read(references, read_rttm)
        self.uem = _read(uem, read_uem)
        self.descriptions = _descriptions(self.audio)
        self._params = params
        self._loaded: dict[str, tuple[Runtimes, PipelineParams]] = {}
        self._prepared: dict[tuple[str, str], Prepared] = {}

    @property
    def engines(self) -> tuple[str, ...]:
        """What can run the models: torch, and onnx where the folder holds the exports."""
        if isinstance(self.models, Runtimes):
            return ("as given",)
        exported = (Path(self.models) / "onnx" / "segmentation.onnx").is_file()
        return ("torch", "onnx") if exported else ("torch",)

    def load(self, engine: str) -> tuple[Runtimes, PipelineParams]:
        """Models and parameters, loaded on first use."""
        if engine not in self._loaded:
            if isinstance(self.models, Runtimes):
                runtimes, params = self.models, PipelineParams()
            else:
                runtimes, params = load_hub(self.models, engine)
            self._loaded[engine] = runtimes, self._params or params
        return self._loaded[engine]

    def reference(self, uri: str) -> Annotation | None:
        """Reference of a recording; None if there is none."""
        if uri in self.references:
            return self.references[uri]
        beside = self.audio[uri].with_suffix(".rttm")
        if not self.references and beside.is_file():
            found = read_rttm(beside)
            # a file of its own may name the recording as it likes
            return found.get(uri) or (next(iter(found.values())) if len(found) == 1 else None)
        return None

    def duration(self, uri: str) -> float:
        """Duration of a recording, in seconds."""
        return audio_duration(self.audio[uri])

    def preview(self, uri: str) -> tuple[Recording, Diarization]:
        """What can be shown of a recording before any model has run: waveform and reference."""
        waveform = read_audio(self.audio[uri], SAMPLE_RATE)
        reference = self.reference(uri)
        recording = Recording(
            uri=uri,
            duration=len(waveform) / SAMPLE_RATE,
            envelope=Envelope.of(waveform, SAMPLE_RATE),
            local_speakers=LocalSpeakers.none(),
            reference=None if reference is None else find_turns(reference),
        )
        return recording, Diarization.none()

    def is_prepared(self, uri: str, engine: str) -> bool:
        """Whether `prepare` would return at once."""
        return (uri, engine) in self._prepared

    def prepare(self, uri: str, engine: str = "torch", hook: Hook | None = None) -> Prepared:
        """Run the models on a recording; the result is kept, so this takes time only once.

        Parameters
        ----------
        uri : name of the recording
        engine : one of `engines`
        hook : called as ``hook(stage, done, total)``; what it raises ends the work
        """
        key = (uri, engine)
        if key not in self._prepared:
            if uri not in self.audio:
                raise InputError(f"no recording {uri!r}; there are {', '.join(self.audio)}")
            runtimes, params = self.load(engine)
            waveform = read_audio(self.audio[uri], SAMPLE_RATE)
            tap = _SegmentationTap(runtimes.segmentation)
            tapped = dataclasses.replace(runtimes, segmentation=tap)
            features = extract_features(waveform, tapped, params, uri=uri, hook=hook)
            self._prepared[key] = Prepared(
                features=features,
                posteriors=np.concatenate(tap.posteriors),
                waveform=waveform,
                runtimes=runtimes,
                params=params,
                reference=self.reference(uri),
                uem=self.uem.get(uri),
            )
        return self._prepared[key]


class Prepared:
    """One recording with all that the models have to say about it.

    Attributes
    ----------
    recording : what a screen shows whatever the clustering
    features : segmentations and embeddings
    params : parameters to begin with
    """

    def __init__(
        self,
        *,
        features: Features,
        posteriors: np.ndarray,
        waveform: np.ndarray,
        runtimes: Runtimes,
        params: PipelineParams,
        reference: Annotation | None,
        uem: Timeline | None,
    ):
        duration = len(waveform) / SAMPLE_RATE
        self.features, self.runtimes, self.params = features, runtimes, params
        self._reference, self._uem = reference, uem
        self.recording = Recording(
            uri=features.uri,
            duration=duration,
            envelope=Envelope.of(waveform, SAMPLE_RATE),
            local_speakers=LocalSpeakers.of(posteriors, features.chunks, features.frames, duration),
            reference=None if reference is None else find_turns(reference),
        )
        self._training = TrainingSet(features, params.clustering.convention)
        self._map, self.shares = map_local_speakers(features, self._points(), self._training.mask, reference)

    def _points(self) -> np.ndarray:
        """What the map shows: what the clustering compares, PLDA features for VBx and directions for AHC."""
        params, plda = self.params.clustering, self.runtimes.plda
        if not len(self._training):
            return self._training.embeddings
        if isinstance(params, VBxParams) and plda is not None:
            return self._training.project(plda)[:, : params.lda_dim]
        return unit_length(self._training.embeddings)

    def diarize(self, **clustering: Any) -> Diarization:
        """Clustering, reconstruction and score under the given clustering parameters.

        Parameters
        ----------
        clustering : by name, as `ahc_threshold=0.6`; those not named keep the value of `params`
        """
        params = dataclasses.replace(self.params, clustering=changed(self.params.clustering, **clustering))
        result = run_clustering(self.features, params.clustering, self.runtimes.plda, self._training)
        options = params.reconstruction_options() | {"labels": "integer"}  # labels stay cluster ids
        hypothesis = reconstruct(self.features, result.hard_clusters, **options)
        reference, uem = self._reference, self._uem
        cluster = result.active_clusters[self._map["chunk"], self._map["local_speaker"]]
        common: dict[str, Any] = {
            "hypothesis": find_turns(hypothesis),
            "hard_clusters": result.active_clusters,
            "local_map": self._map.assign(cluster=cluster),
        }
        if reference is None or self.recording.reference is None:
            return Diarization(**common, matching={}, errors=None, by_speaker=None, counts=None)
        errors = find_errors(reference, hypothesis, uem)
        turns = self.recording.reference
        return Diarization(
            **common,
            matching=match_speakers(reference, hypothesis, uem),
            errors=errors,
            by_speaker=speaker_errors(crop_turns(turns, uem), errors, order_speakers(turns)),
            counts=score(reference, hypothesis, uem),
        )


def changed(params: ClusteringParams, **values: Any) -> ClusteringParams:
    """`params` with other values; names that this kind of clustering does not have are an error."""
    known = {entry.name for entry in dataclasses.fields(params)}
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"{type(params).__name__} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return dataclasses.replace(params, **values)


class _SegmentationTap:
    """A segmentation runtime that also keeps what it said, as one probability per local speaker."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._powerset = segmentation_geometry(runtime).powerset
        self.posteriors: list[np.ndarray] = []  # each (batch, num_frames, num_local_speakers)

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        log_probs = self._runtime.segment(waveforms)
        # half precision is plenty for a picture, and half the memory
        self.posteriors.append(to_multilabel(log_probs, self._powerset, soft=True).astype(np.float16))
        return log_probs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def __str__(self) -> str:
        return str(self._runtime)


def _read(source: Any, reader: Any) -> dict[str, Any]:
    """A mapping as it is, a file through its reader, nothing as an empty mapping."""
    if source is None:
        return {}
    return dict(source) if isinstance(source, Mapping) else reader(source)


def _descriptions(audio: Mapping[str, Path]) -> dict[str, str]:
    """What `manifest.json` beside the recordings says about their difficulty, if there is one."""
    found: dict[str, str] = {}
    for folder in {path.parent for path in audio.values()}:
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            entries = manifest["recordings"].items()
            found |= {uri: str(entry["difficulty"]) for uri, entry in entries if uri in audio}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # someone else's manifest, or none: a label is not worth an error
    return found
