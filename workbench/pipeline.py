"""The whole way from a recording to an annotation, step by step as DiariZen's pipeline goes.

Chunks, powerset decoding, median filter, embeddings without overlap, clustering and
reconstruction. One thing differs on purpose: a recording that is not at 16 kHz is resampled once,
as a whole, so that both models see the same samples (DiariZen resamples every chunk again for the
embeddings, which changes samples near chunk edges). Channels: the first one is kept, whatever the
preset.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.audio import read_audio
from workbench.clustering import PLDA, ClusteringParams, cluster
from workbench.config import PipelineParams, read_config
from workbench.embedding import embed_recording
from workbench.errors import InputError, RecordingError, expect, expect_path
from workbench.hub import local_hub
from workbench.reconstruction import reconstruct
from workbench.runtimes import Runtime, load_runtime
from workbench.segmentation import Chunking, segment_recording, segmentation_geometry
from workbench.types import Features, Kind, SegmentFeatures

if TYPE_CHECKING:
    from pyannote.core import Annotation

SAMPLE_RATE = 16000  # Hz, what every model hears

Hook = Callable[[str, int, int], None]
"""Called as ``hook(stage, done, total)`` while a recording is worked on."""

ENGINES = ("torch", "onnx")

_OUTPUTS = {"segmentation": "powerset", "embedding": "embedding"}  # what the exports of a hub end in


@dataclass(frozen=True, kw_only=True)
class Runtimes:
    """What the pipeline runs: two models and, for VBx, the PLDA that was trained with the second."""

    segmentation: Runtime
    embedding: Runtime
    plda: PLDA | None = None

    @classmethod
    def load(
        cls,
        segmentation: str | Runtime,
        embedding: str | Runtime,
        plda: str | os.PathLike[str] | PLDA | None = None,
    ) -> Runtimes:
        """From runtime strings (``torch:PATH``, ``onnx:FILE``, ...) and a PLDA folder.

        What is loaded already is taken as it is.
        """
        return cls(
            segmentation=_loaded(segmentation, "segmentation"),
            embedding=_loaded(embedding, "embedding"),
            plda=PLDA.load(plda) if isinstance(plda, str | os.PathLike) else plda,
        )


def _loaded(runtime: str | Runtime, kind: Kind) -> Runtime:
    """The runtime itself, or the one that a string names."""
    return load_runtime(runtime, kind=kind) if isinstance(runtime, str) else runtime


def hub_specs(
    path: str | os.PathLike[str], engine: str = "torch", elsewhere: Collection[str] = ()
) -> dict[str, str]:
    """Runtime strings `segmentation` and `embedding` of a hub-layout folder, and its `plda` folder if any.

    The models named in `elsewhere` come from another place, so the folder need not have them:
    published DiariZen models bring no embedding model.
    """
    hub = local_hub(expect_path(path, "a hub-layout folder"))
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if not hub.is_dir():
        raise InputError.at(hub, "is no folder; --hub names a folder with config.toml and the models")
    if not (hub / "config.toml").is_file():
        raise InputError.at(
            hub, "holds no config.toml, so it is no hub-layout folder; name its models singly instead"
        )
    specs = {kind: f"torch:{hub}" for kind in _OUTPUTS if kind not in elsewhere}
    if engine == "onnx":
        for kind in specs:
            output, file = _OUTPUTS[kind], hub / "onnx" / f"{kind}.onnx"
            if not file.is_file():
                raise InputError.at(
                    file,
                    "does not exist; make it with `workbench export "
                    f"torch:{hub} --output {output} --out {file}`, or use --engine torch",
                )
            specs[kind] = f"onnx:{file}"
    if (hub / "plda").is_dir() and "plda" not in elsewhere:
        specs["plda"] = str(hub / "plda")
    return specs


def load_hub(
    path: str | os.PathLike[str], engine: str = "torch", *, embedding: str | Runtime | None = None
) -> tuple[Runtimes, PipelineParams]:
    """Models and parameters of a hub-layout folder.

    Parameters
    ----------
    path : folder with config.toml, pytorch_model.bin, an embedding model and, for VBx, plda/
        Or its Hugging Face id.
    engine : {"torch", "onnx"}
        What runs the models; "onnx" takes ``onnx/segmentation.onnx`` and ``onnx/embedding.onnx``.
    embedding : the embedding model, where it lies elsewhere, as with published DiariZen models
    """
    given: dict[str, Any] = {} if embedding is None else {"embedding": embedding}
    hub = local_hub(expect_path(path, "a hub-layout folder"))
    specs = hub_specs(hub, engine, elsewhere=given)
    params = read_config(hub / "config.toml")
    return Runtimes.load(**specs, **given), params


def as_runtimes(
    runtimes: Runtimes | Mapping[str, Any] | str | os.PathLike[str],
    params: PipelineParams | ClusteringParams | None = None,
) -> tuple[Runtimes, PipelineParams]:
    """Loaded runtimes and parameters from whatever names them; a hub folder brings parameters of its own.

    Parameters of a clustering alone replace that part of what would hold without them.
    """
    if isinstance(params, ClusteringParams):
        loaded, own = as_runtimes(runtimes)
        return loaded, replace(own, clustering=params)
    if params is not None and not isinstance(params, PipelineParams):
        raise InputError(
            f"params must be PipelineParams, AHCParams or VBxParams, got {type(params).__name__}"
        )
    if isinstance(runtimes, Runtimes):
        return runtimes, params or PipelineParams()
    if isinstance(runtimes, Mapping):
        if unknown := set(runtimes) - {"segmentation", "embedding", "plda"}:
            raise InputError(
                f"runtimes has unknown entries {sorted(unknown)}; known: segmentation, embedding, plda"
            )
        if missing := {"segmentation", "embedding"} - set(runtimes):
            raise InputError(f"runtimes lacks {sorted(missing)}; give a runtime string for each")
        return Runtimes.load(**runtimes), params or PipelineParams()
    if not isinstance(runtimes, str | os.PathLike):
        raise InputError(
            "runtimes must be Runtimes, a mapping with segmentation, embedding and plda, or a hub folder, "
            f"got {type(runtimes).__name__}"
        )
    loaded, own = load_hub(runtimes)
    return loaded, params or own


def diarize(
    audio: str | os.PathLike[str] | np.ndarray,
    runtimes: Runtimes | Mapping[str, Any] | str | os.PathLike[str],
    params: PipelineParams | ClusteringParams | None = None,
    *,
    uri: str | None = None,
    sample_rate: int = SAMPLE_RATE,
    hook: Hook | None = None,
) -> Annotation:
    """Who speaks when.

    Parameters
    ----------
    audio : path, or float array of shape (num_samples,) in [-1, 1)
    runtimes : `Runtimes`, a mapping of runtime strings (segmentation, embedding, plda), or a hub folder
        What a mapping holds may be loaded already.
    params : `PipelineParams`, or `AHCParams` or `VBxParams` alone, optional
        By default the hub folder's own, else DiariZen's.
    uri : name of the recording; by default the file name without extension, or "waveform"
    sample_rate : of an array, in Hz; must be 16000
    hook : called as ``hook(stage, done, total)``

    Returns
    -------
    annotation : pyannote.core.Annotation
        Empty if nobody speaks.
    """
    loaded, params = as_runtimes(runtimes, params)
    features = extract_features(audio, loaded, params, uri=uri, sample_rate=sample_rate, hook=hook)
    return diarize_features(features, params, loaded.plda, hook=hook)


def extract_features(
    audio: str | os.PathLike[str] | np.ndarray,
    runtimes: Runtimes | Mapping[str, Any] | str | os.PathLike[str],
    params: PipelineParams | ClusteringParams | None = None,
    *,
    uri: str | None = None,
    sample_rate: int = SAMPLE_RATE,
    hook: Hook | None = None,
) -> Features:
    """Segmentations and embeddings of one recording: all that the models are needed for.

    Arguments as of `diarize`. What clustering and reconstruction vary does not change the result.
    """
    loaded, params = as_runtimes(runtimes, params)
    waveform, name = waveform_of(audio, uri, sample_rate)
    report = hook or (lambda stage, done, total: None)
    geometry = segmentation_geometry(loaded.segmentation)
    if geometry.sample_rate != SAMPLE_RATE:
        raise InputError(
            f"the segmentation model expects {geometry.sample_rate} Hz; only {SAMPLE_RATE} is supported"
        )
    chunking = Chunking(
        num_samples=len(waveform),
        seg_duration=geometry.chunk_duration if params.seg_duration is None else params.seg_duration,
        segmentation_step=params.segmentation_step,
    )
    segmentations = segment_recording(
        waveform,
        loaded.segmentation,
        chunking,
        batch_size=params.batch_size,
        apply_median_filtering=params.apply_median_filtering,
        on_batch=lambda done, total: report("segmentation", done, total),
        uri=name,
    )
    embeddings = embed_recording(
        waveform,
        segmentations,
        loaded.embedding,
        chunking,
        batch_size=params.batch_size,
        exclude_overlap=params.embedding_exclude_overlap,
        on_batch=lambda done, total: report("embedding", done, total),
        uri=name,
    )
    return Features(
        uri=name,
        segmentations=segmentations,
        embeddings=embeddings,
        chunks=chunking.axis,
        frames=geometry.frames,
    )


def diarize_features(
    features: Features,
    params: PipelineParams | None = None,
    plda: PLDA | None = None,
    *,
    hook: Hook | None = None,
) -> Annotation:
    """Clustering and reconstruction alone, from features computed earlier."""
    expect(features, (Features, SegmentFeatures), "features must be Features, as load_features gives them")
    params = params or PipelineParams()
    report = hook or (lambda stage, done, total: None)
    report("clustering", 0, 1)
    hard_clusters = cluster(features, params.clustering, plda)
    report("reconstruction", 0, 1)
    annotation = reconstruct(features, hard_clusters, **params.reconstruction_options())
    report("reconstruction", 1, 1)
    return annotation


def waveform_of(
    audio: str | os.PathLike[str] | np.ndarray, uri: str | None = None, sample_rate: int = SAMPLE_RATE
) -> tuple[np.ndarray, str]:
    """Samples (num_samples,) float32 at 16 kHz, and the name of the recording."""
    if not isinstance(audio, np.ndarray):
        path = expect_path(audio, "a recording, or an array of its samples,")
        return read_audio(path, SAMPLE_RATE), uri or path.stem
    if sample_rate != SAMPLE_RATE:
        raise InputError(
            f"sample_rate of an array must be {SAMPLE_RATE} Hz, got {sample_rate}; resample it first"
        )
    if audio.ndim != 1 or audio.dtype.kind != "f":
        raise InputError(
            "audio must be a path or a float array of shape (num_samples,) in [-1, 1), got "
            f"{audio.dtype} of shape {audio.shape}; take one channel, and divide integers by their full scale"
        )
    if not np.isfinite(audio).all():
        raise RecordingError("audio holds samples that are not finite")
    return audio.astype(np.float32, copy=False), uri or "waveform"


def describe(annotation: Annotation) -> dict[str, Any]:
    """Speakers, segments and seconds of speech of an annotation, for reports."""
    return {
        "num_speakers": len(annotation.labels()),
        "num_segments": sum(1 for _ in annotation.itertracks()),
        "speech": float(sum(segment.duration for segment, _ in annotation.itertracks())),
    }
