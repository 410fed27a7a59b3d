"""The two sides of a comparison: models that are run chunk by chunk, or arrays that were recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from workbench.errors import InputError, RecordingError
from workbench.graph_card import read_graph_card
from workbench.runtimes import Runtime, load_runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, cut_chunks
from workbench.types import Geometry, Kind

SAMPLE_RATE = 16000  # Hz, of the waveforms that are handed in


def waveform_digest(waveform: np.ndarray) -> str:
    """SHA-256 of the samples as the models hear them: float32 at 16 kHz, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(waveform, dtype="<f4").tobytes()).hexdigest()


def load_pair(
    baseline: str | Runtime, candidate: str | Runtime, kind: Kind | None = None
) -> tuple[Runtime, Runtime]:
    """Both runtimes, of one kind.

    A hub-layout folder holds two models; it stands for the one that the other side is of.
    """
    first = load_runtime(baseline, kind) if isinstance(baseline, str) else baseline
    second = load_runtime(candidate, kind) if isinstance(candidate, str) else candidate
    if first.kind != second.kind:
        # only a hub folder can be of the other kind as well
        if isinstance(baseline, str) and baseline.startswith("torch:"):
            first = load_runtime(baseline, second.kind)
        elif isinstance(candidate, str) and candidate.startswith("torch:"):
            second = load_runtime(candidate, first.kind)
        else:
            raise InputError(
                f"{baseline} is a {first.kind} model and {candidate} a {second.kind} model; only models of "
                "one kind can be compared"
            )
    return first, second


def runtime_geometry(runtime: Runtime, name: str) -> Geometry:
    """The geometry of a segmentation model with powerset output, or an error."""
    geometry = runtime.geometry
    if geometry is None or not geometry.powerset:
        raise InputError(
            f"{name} {runtime}: has no powerset, the list of the speakers of every class; it is needed "
            "to say what a frame was decided as"
        )
    return geometry


def declared_precision(runtime: Runtime) -> str:
    """`bf16`, `fp16`, `int8` or `tf32`, where the runtime's options or its graph say so; empty for fp32."""
    options = getattr(runtime, "options", None)
    dtype = getattr(options, "dtype", "fp32")
    if dtype != "fp32":
        return str(dtype)
    path = getattr(runtime, "path", None)
    if isinstance(path, Path) and path.suffix == ".onnx":
        try:
            types = read_graph_card(path).weight_types
        except (InputError, ImportError):  # without the onnx package nothing is known
            return ""
        for name, found in (("int8", {"int8", "uint8"}), ("fp16", {"float16"}), ("bf16", {"bfloat16"})):
            if found & types.keys():
                return name
    on_gpu = "cuda" in str(getattr(options, "device", "")) or "cuda" in getattr(options, "providers", ())
    return "tf32" if on_gpu and getattr(options, "tf32", False) else ""


class Feed(Protocol):
    """The log-probabilities of one recording, chunk by chunk, on one side.

    Attributes
    ----------
    num_chunks : chunks there are
    seconds : that the model took for what `run` gave so far
    """

    num_chunks: int
    seconds: float | None

    def run(self, chunks: np.ndarray) -> np.ndarray:
        """Log-probabilities (len(chunks), num_frames, num_classes) of the chunks with these numbers."""
        ...

    def stages(self, chunk: int, names: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Named arrays of one chunk, each of shape (1, ...), in the order of computation."""
        ...


class LiveFeed(Feed):
    """A model that is run."""

    def __init__(self, runtime: Runtime, waveform: np.ndarray, chunking: Chunking):
        self.runtime, self.chunking = runtime, chunking
        self.waveform = _at_rate(waveform, chunking.sample_rate)
        self.num_chunks = chunking.num_chunks
        self.seconds: float | None = 0.0

    def waveforms(self, chunks: np.ndarray) -> np.ndarray:
        """What the model hears in the chunks with these numbers: (len(chunks), num_samples) float32."""
        return cut_chunks(self.waveform, self.chunking.starts[chunks], self.chunking.window_samples)

    def run(self, chunks: np.ndarray) -> np.ndarray:
        """Run the model; the time it takes is added to `seconds`."""
        waveforms = self.waveforms(chunks)
        began = perf_counter()
        log_probs = self.runtime.segment(waveforms)
        self.seconds = (self.seconds or 0.0) + perf_counter() - began
        return _checked(np.asarray(log_probs), len(chunks), str(self.runtime))

    def stages(self, chunk: int, names: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Every stage that the runtime offers."""
        return self.runtime.stages(self.waveforms(np.array([chunk])))


class RecordedFeed(Feed):
    """Arrays out of a recorded folder; values that are not finite are kept, to be named."""

    def __init__(self, runtime: RecordedRuntime, uri: str):
        self.arrays = runtime.arrays(uri)
        self.path = runtime.path(uri)
        if "log_probs" not in self.arrays:
            raise RecordingError(
                f"{self.path}: holds no array 'log_probs'; it has {', '.join(self.arrays) or 'none'}"
            )
        self.log_probs = _checked(self.arrays["log_probs"], None, str(self.path))
        self.num_chunks = len(self.log_probs)
        self.seconds = None

    def run(self, chunks: np.ndarray) -> np.ndarray:
        """The recorded chunks as float32."""
        return self.log_probs[chunks].astype(np.float32, copy=False)

    def keep(self, num_chunks: int) -> None:
        """Leave out the chunks behind the first ones, which are padding."""
        before = self.num_chunks
        self.arrays = {
            name: array[:num_chunks] if array.ndim > 1 and len(array) == before else array
            for name, array in self.arrays.items()
        }
        self.log_probs = self.log_probs[:num_chunks]
        self.num_chunks = num_chunks

    def stages(self, chunk: int, names: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """The recorded arrays that have one entry per chunk."""
        arrays = self.arrays | {"log_probs": self.log_probs}  # whose axes may have been put in order
        return {
            name: array[chunk : chunk + 1].astype(np.float32)
            for name, array in arrays.items()
            if array.ndim > 1 and len(array) == self.num_chunks
        }


def recorded_audio(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """What `workbench record` noted about the audio of every recording; empty for other folders."""
    if not isinstance(runtime, RecordedRuntime):
        return {}
    try:
        content = json.loads((runtime.folder / "geometry.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    audio = content.get("audio") if isinstance(content, dict) else None
    return audio if isinstance(audio, dict) else {}


def check_audio(runtime: Runtime, uri: str, waveform: np.ndarray) -> None:
    """An error where a recorded folder was made from other samples under the same name."""
    noted = recorded_audio(runtime).get(uri)
    if not isinstance(noted, dict) or not isinstance(noted.get("sha256"), str):
        return
    digest = waveform_digest(waveform)
    if noted["sha256"] != digest:
        found = noted.get("num_samples")
        lengths = f" ({found} samples against {len(waveform)} now)" if found != len(waveform) else ""
        raise RecordingError(
            f"{runtime}: was recorded from other audio that is also called {uri!r}{lengths}: digest "
            f"{noted['sha256'][:12]}… against {digest[:12]}…; record it again, or rename one"
        )


def open_feeds(
    uri: str,
    waveform: np.ndarray,
    baseline: Runtime,
    candidate: Runtime,
    segmentation_step: float | None = None,
) -> tuple[Feed, Feed, Chunking]:
    """Both sides of one recording over the same chunks, where they can be made the same.

    A model that is run takes the chunk length and step of the recorded side; two models take the
    baseline's. Where two recorded sides differ, each keeps its own.

    Returns
    -------
    baseline, candidate : Feed
    chunking : where the baseline's chunks lie
    """
    sides = (baseline, candidate)
    recorded = [isinstance(side, RecordedRuntime) for side in sides]
    geometries = [runtime_geometry(s, n) for s, n in zip(sides, ("baseline", "candidate"), strict=True)]
    lead = geometries[1] if recorded[1] and not recorded[0] else geometries[0]
    step = lead.chunk_step / lead.chunk_duration
    if segmentation_step is not None:
        if any(recorded) and not isclose(step, segmentation_step, rel_tol=1e-6):
            raise InputError(
                f"the recorded side has a segmentation_step of {step:g}; {segmentation_step:g} was asked for"
            )
        step = segmentation_step
    feeds: list[Feed] = []
    chunkings = []
    for side, geometry, is_recorded in zip(sides, geometries, recorded, strict=True):
        check_audio(side, uri, waveform)
        own = geometry if is_recorded else lead
        chunking = Chunking(
            num_samples=round(len(waveform) * geometry.sample_rate / SAMPLE_RATE),
            seg_duration=own.chunk_duration,
            segmentation_step=own.chunk_step / own.chunk_duration if is_recorded else step,
            sample_rate=geometry.sample_rate,
        )
        chunkings.append(chunking)
        if isinstance(side, RecordedRuntime):
            feeds.append(RecordedFeed(side, uri))
        else:
            feeds.append(LiveFeed(side, waveform, chunking))
    return feeds[0], feeds[1], chunkings[0]


def batches(num_chunks: int, num_full: int, batch_size: int) -> list[np.ndarray]:
    """Numbers of the chunks that are run together; the padded last one runs alone, as in the pipeline."""
    full = [
        np.arange(first, min(first + batch_size, num_full, num_chunks))
        for first in range(0, min(num_full, num_chunks), batch_size)
    ]
    return full + [np.array([chunk]) for chunk in range(min(num_full, num_chunks), num_chunks)]


def as_waveforms(waveforms: Any) -> dict[str, np.ndarray | Path]:
    """Recordings by name: from a mapping, a list, paths, or an array (samples,) or (batch, samples)."""
    if isinstance(waveforms, Mapping):
        named = dict(waveforms)
    elif isinstance(waveforms, np.ndarray):
        if waveforms.ndim not in (1, 2):
            raise InputError(
                f"waveforms must have shape (samples,) or (batch, samples), got {waveforms.shape}"
            )
        several = waveforms if waveforms.ndim == 2 else waveforms[None]
        named = _numbered(list(several))
    elif isinstance(waveforms, str | Path):
        named = {Path(waveforms).stem: Path(waveforms)}
    else:
        given = list(waveforms)
        if given and all(isinstance(each, str | Path) for each in given):
            named = {Path(each).stem: Path(each) for each in given}
            if len(named) < len(given):
                raise InputError("two recordings have one name; give a mapping from names to paths")
        else:
            named = _numbered([np.asarray(each) for each in given])
    if not named:
        raise InputError("no recordings given to compare on")
    return {uri: Path(each) if isinstance(each, str) else each for uri, each in named.items()}


def _numbered(several: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {"waveform" if len(several) == 1 else f"waveform_{i:03d}": each for i, each in enumerate(several)}


def _at_rate(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """`waveform` (at 16 kHz) at the rate that a model hears."""
    if sample_rate == SAMPLE_RATE:
        return waveform
    import soxr  # only where a model wants another rate

    return np.asarray(soxr.resample(waveform, SAMPLE_RATE, sample_rate, quality="HQ"), dtype=np.float32)


def _checked(log_probs: np.ndarray, num_chunks: int | None, name: str) -> np.ndarray:
    if log_probs.ndim != 3 or (num_chunks is not None and len(log_probs) != num_chunks):
        expected = "num_chunks" if num_chunks is None else num_chunks
        raise RecordingError(
            f"{name}: gave log_probs of shape {log_probs.shape}, expected ({expected}, num_frames, "
            "num_powerset_classes)"
        )
    if 0 in log_probs.shape:
        raise RecordingError(f"{name}: log_probs of shape {log_probs.shape} hold nothing")
    return log_probs
