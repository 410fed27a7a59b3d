"""Whether an ONNX file computes what its source computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.checkpoints import LoadedModel
from workbench.powerset import to_multilabel
from workbench.runtimes.onnx_runtime import OnnxRuntime
from workbench.runtimes.torch_runtime import TorchRuntime

_BATCHES = (1, 3)
_OTHER_SECONDS = (2.0, 1.2345)  # lengths besides the chunk's own, which is also tried 77 samples shorter
_EMBEDDING_SECONDS = 5.0  # embedding models have no chunk of their own


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Largest differences between an ONNX file and its source, over several batch sizes and lengths."""

    max_abs_diff: float  # of any output value
    frames: int  # segmentation frames compared
    flips: int  # frames whose best class differs
    inputs: tuple[tuple[int, int], ...]  # (batch, samples) of every comparison
    real_audio: bool  # whether any of it was real
    problem: str = ""  # why the file is refused; empty if it agrees

    @property
    def ok(self) -> bool:
        """Whether the file may stay."""
        return not self.problem


def verify(path: Path, model: LoadedModel, waveforms: Sequence[np.ndarray], tolerance: float) -> Agreement:
    """Run a file and its source side by side.

    Parameters
    ----------
    path : the ONNX file
    model : what it was exported from
    waveforms : float arrays, shape (num_samples,), in [-1, 1)
        Real audio; without any, noise modulated like speech.
    tolerance : largest difference of an output value, relative to the largest where that is above 1
    """
    torch_runtime, onnx_runtime = TorchRuntime(model, name="source"), OnnxRuntime(path)
    compare = _compare_segmentation if model.kind == "segmentation" else _compare_embedding
    worst, frames, flips = 0.0, 0, 0
    inputs: list[tuple[int, int]] = []
    problem = ""
    for batch in _batches(model, waveforms):
        difference, num_frames, num_flips, complaint = compare(torch_runtime, onnx_runtime, batch, tolerance)
        worst, frames, flips = max(worst, difference), frames + num_frames, flips + num_flips
        inputs.append((len(batch), batch.shape[1]))
        if complaint and not problem:
            problem = f"{complaint} (batch of {len(batch)} waveforms of {batch.shape[1]} samples)"
    return Agreement(
        max_abs_diff=worst,
        frames=frames,
        flips=flips,
        inputs=tuple(inputs),
        real_audio=len(waveforms) > 0,
        problem=problem,
    )


_Comparison = tuple[float, int, int, str]  # largest difference, frames, flips, complaint


def _compare_segmentation(
    source: TorchRuntime, exported: OnnxRuntime, waveforms: np.ndarray, tolerance: float
) -> _Comparison:
    """Log-probabilities, best classes, and hard decisions of either kind of graph."""
    baseline = source.segment(waveforms)
    classes = source.geometry.powerset if source.geometry else ()
    decided = exported.decide(waveforms)
    # of a multilabel graph, the log-probabilities inside it
    candidate = (
        exported.stages(waveforms)["log_probs"]
        if exported.metadata.output == "multilabel"
        else exported.segment(waveforms)
    )
    if candidate.shape != baseline.shape:
        return np.inf, 0, 0, f"log-probabilities have shape {candidate.shape}, expected {baseline.shape}"
    difference = _largest_difference(baseline, candidate)
    flips = int((baseline.argmax(axis=-1) != candidate.argmax(axis=-1)).sum())
    num_frames = baseline[..., 0].size
    complaint = _complain(difference, baseline, tolerance)
    wrong = int((decided != to_multilabel(candidate, classes)).any(axis=-1).sum())
    if wrong and not complaint:
        complaint = f"{wrong} of {num_frames} hard decisions are not the best class"
    return difference, num_frames, flips, complaint


def _compare_embedding(
    source: TorchRuntime, exported: OnnxRuntime, waveforms: np.ndarray, tolerance: float
) -> _Comparison:
    """Embeddings of four speakers (one alone, two that overlap, one silent), and without masks."""
    num_frames = max(4, waveforms.shape[1] // 160)
    masks = np.zeros((len(waveforms), 4, num_frames), dtype=np.float32)
    quarter = num_frames // 4
    masks[:, 0, :quarter] = masks[:, 1, quarter : 3 * quarter] = masks[:, 2, 2 * quarter :] = 1
    worst, complaint = 0.0, ""
    for given in (masks, None):
        baseline, candidate = source.embed(waveforms, given), exported.embed(waveforms, given)
        if candidate.shape != baseline.shape:
            return np.inf, 0, 0, f"embeddings have shape {candidate.shape}, expected {baseline.shape}"
        difference = _largest_difference(baseline, candidate)
        worst, complaint = max(worst, difference), complaint or _complain(difference, baseline, tolerance)
    return worst, 0, 0, complaint


def _largest_difference(baseline: np.ndarray, candidate: np.ndarray) -> float:
    """Infinite where either is not finite: no file may hide behind a NaN."""
    difference = np.abs(baseline.astype(np.float64) - candidate).max()
    return float(difference) if np.isfinite(difference) else np.inf


def _complain(difference: float, baseline: np.ndarray, tolerance: float) -> str:
    limit = tolerance * max(1.0, float(np.abs(baseline).max()))
    return (
        f"the largest difference is {difference:.3g}, above the limit of {limit:.3g}"
        if difference > limit
        else ""
    )


def _batches(model: LoadedModel, waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Batches of several sizes and lengths: the chunk's own, one a little shorter, and two others."""
    geometry = model.geometry
    rate = geometry.sample_rate if geometry else 16000
    chunk = round((geometry.chunk_duration if geometry else _EMBEDDING_SECONDS) * rate)
    lengths = dict.fromkeys([chunk, chunk - 77, *(round(seconds * rate) for seconds in _OTHER_SECONDS)])
    rng = np.random.default_rng(0)
    audio = (
        np.concatenate([np.ravel(w) for w in waveforms])
        if len(waveforms)
        else speech_like(rng, 4 * chunk, rate)
    )
    for length in lengths:
        signal = np.resize(audio, max(len(audio), length + max(_BATCHES)))  # repeated where it is too short
        starts = np.linspace(0, len(signal) - length, max(_BATCHES)).astype(int)
        batch = np.stack([signal[start : start + length] for start in starts]).astype(np.float32)
        for size in _BATCHES:
            yield batch[:size]


def speech_like(rng: np.random.Generator, num_samples: int, sample_rate: int) -> np.ndarray:
    """Harmonics and noise in bursts, with pauses: float32, shape (num_samples,), in [-1, 1)."""
    time = np.arange(num_samples) / sample_rate
    pitch = 120 + 60 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voiced = sum(np.sin(k * phase) / k for k in range(1, 20))
    bursts = np.clip(np.sin(2 * np.pi * 1.3 * time) + 0.3 * np.sin(2 * np.pi * 4.1 * time), 0, None)
    signal = 0.1 * bursts * (voiced + 0.2 * rng.standard_normal(num_samples))
    return (signal + 1e-4 * rng.standard_normal(num_samples)).astype(np.float32)
