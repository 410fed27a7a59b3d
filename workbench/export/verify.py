"""Whether an ONNX file computes what its source computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.checkpoints import LoadedModel
from workbench.powerset import to_multilabel
from workbench.runtimes.onnx_runtime import OnnxRuntime
from workbench.runtimes.torch_runtime import TorchRuntime

_BATCHES = (1, 3)
_OTHER_SECONDS = (2.0, 1.2345)  # lengths besides the chunk's own, which is also tried 77 samples shorter
_SAMPLE_RATE = 16000  # Hz, of embedding models
_EMBEDDING_SECONDS = 5.0  # embedding models have no chunk of their own


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """When a file may stay. Infinite or zero limits do not limit."""

    max_diff: float = np.inf  # of an output value, relative to the largest where that is above 1
    max_flip_rate: float = np.inf  # frames whose best class changes, as a fraction
    max_shift: float = np.inf  # probability that moves between classes, on average over frames
    min_cosine: float = -np.inf  # between embeddings

    def __str__(self) -> str:
        words = (
            (self.max_diff, f"values within {self.max_diff:g}"),
            (self.max_flip_rate, f"at most {self.max_flip_rate:.0%} of frames decided otherwise"),
            (self.max_shift, f"at most {self.max_shift:g} of a frame's probability moved, on average"),
            (self.min_cosine, f"embeddings with a cosine of at least {self.min_cosine:g}"),
        )
        return ", ".join(said for limit, said in words if np.isfinite(limit))


# fp32 is bound by the tolerance of the call: ten times what float32 rounding makes. The others were set
# generously above what trained and random networks show (see `stack.md` of the references: fp16 0.1-0.2 %,
# int8 1.5-1.8 % of frames), yet a wrong scale, a lost layer or an overflow exceeds them by far.
CRITERIA: Mapping[str, Criterion] = {
    "fp32": Criterion(max_diff=1e-4),
    "fp16": Criterion(max_flip_rate=0.02, max_shift=0.01, min_cosine=0.999),
    "int8": Criterion(max_flip_rate=0.20, max_shift=0.15, min_cosine=0.98),
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What one input gave: a batch of waveforms of one length."""

    batch: int
    num_samples: int
    duration: float  # s
    max_abs_diff: float  # of any output value
    frames: int  # segmentation frames compared
    flips: int  # frames whose best class differs
    min_cosine: float  # between embeddings


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Largest differences between an ONNX file and its source, over several batch sizes and lengths."""

    max_abs_diff: float  # of any output value
    frames: int  # segmentation frames compared
    flips: int  # frames whose best class differs
    inputs: tuple[tuple[int, int], ...]  # (batch, samples) of every comparison
    real_audio: bool  # whether any of it was real
    shift: float = 0.0  # probability that moves between classes, on average over frames
    min_cosine: float = 1.0  # between embeddings
    criterion: str = ""  # what was asked of it, in words
    problem: str = ""  # why the file is refused; empty if it agrees
    comparisons: tuple[Comparison, ...] = ()  # input by input, in the order of `inputs`

    @property
    def ok(self) -> bool:
        """Whether the file may stay."""
        return not self.problem

    @property
    def flip_rate(self) -> float:
        """Frames whose best class differs, as a fraction."""
        return self.flips / self.frames if self.frames else 0.0

    def table(self) -> pd.DataFrame:
        """One row per input, its columns those of `Comparison`."""
        return pd.DataFrame(
            [asdict(each) for each in self.comparisons],
            columns=[each.name for each in fields(Comparison)],
        )


@dataclass
class _Tally:
    """What the comparisons so far found."""

    max_abs_diff: float = 0.0
    frames: int = 0
    flips: int = 0
    moved: float = 0.0  # probability, summed over frames
    min_cosine: float = 1.0
    problem: str = ""
    inputs: list[tuple[int, int]] = field(default_factory=list)

    def complain(self, problem: str) -> None:
        """Keep the first problem, with the input it arose on."""
        if problem and not self.problem:
            batch, samples = self.inputs[-1]
            self.problem = f"{problem} (batch of {batch} waveforms of {samples} samples)"

    def add(self, other: _Tally) -> None:
        """Count what another input gave."""
        self.max_abs_diff = max(self.max_abs_diff, other.max_abs_diff)
        self.frames += other.frames
        self.flips += other.flips
        self.moved += other.moved
        self.min_cosine = min(self.min_cosine, other.min_cosine)
        self.problem = self.problem or other.problem
        self.inputs += other.inputs


def verify(
    path: Path,
    model: LoadedModel,
    waveforms: Sequence[np.ndarray],
    criterion: Criterion | float = CRITERIA["fp32"],
) -> Agreement:
    """Run a file and its source side by side.

    Parameters
    ----------
    path : the ONNX file
    model : what it was exported from
    waveforms : float arrays, shape (num_samples,), in [-1, 1)
        Real audio; without any, noise modulated like speech.
    criterion : when the file may stay; a number is the largest difference of an output value
    """
    if not isinstance(criterion, Criterion):
        criterion = Criterion(max_diff=criterion)
    torch_runtime, onnx_runtime = TorchRuntime(model, name="source"), OnnxRuntime(path)
    compare = _compare_segmentation if model.kind == "segmentation" else _compare_embedding
    rate_hz = model.geometry.sample_rate if model.geometry else _SAMPLE_RATE
    tally, comparisons = _Tally(), []
    for batch in _batches(model, waveforms):
        one = _Tally(inputs=[(len(batch), batch.shape[1])])
        compare(torch_runtime, onnx_runtime, batch, criterion, one)
        tally.add(one)
        comparisons.append(
            Comparison(
                batch=len(batch),
                num_samples=batch.shape[1],
                duration=batch.shape[1] / rate_hz,
                max_abs_diff=one.max_abs_diff,
                frames=one.frames,
                flips=one.flips,
                min_cosine=one.min_cosine,
            )
        )
    rate, shift = tally.flips / max(1, tally.frames), tally.moved / max(1, tally.frames)
    if rate > criterion.max_flip_rate and not tally.problem:
        tally.problem = (
            f"{rate:.1%} of {tally.frames} frames are decided otherwise, above the limit of "
            f"{criterion.max_flip_rate:.0%}"
        )
    if shift > criterion.max_shift and not tally.problem:
        tally.problem = (
            f"{shift:.3g} of a frame's probability moves to other classes, above the limit of "
            f"{criterion.max_shift:g}"
        )
    return Agreement(
        max_abs_diff=tally.max_abs_diff,
        frames=tally.frames,
        flips=tally.flips,
        inputs=tuple(tally.inputs),
        real_audio=len(waveforms) > 0,
        shift=shift,
        min_cosine=tally.min_cosine,
        criterion=str(criterion),
        problem=tally.problem,
        comparisons=tuple(comparisons),
    )


def _compare_segmentation(
    source: TorchRuntime, exported: OnnxRuntime, waveforms: np.ndarray, criterion: Criterion, tally: _Tally
) -> None:
    """Log-probabilities, best classes, and hard decisions of either kind of graph."""
    baseline = source.segment(waveforms)
    classes = source.geometry.powerset if source.geometry else ()
    if exported.metadata.output == "multilabel":
        # both heads from one run of one session, so that rounding cannot tell them apart
        stages = exported.stages(waveforms)
        candidate, decided = stages["log_probs"], exported.decide(waveforms)
        tied = stages["multilabel"]
    else:
        candidate = exported.segment(waveforms)
        decided = tied = exported.decide(waveforms)
    if candidate.shape != baseline.shape:
        tally.max_abs_diff = np.inf
        tally.complain(f"log-probabilities have shape {candidate.shape}, expected {baseline.shape}")
        return
    _compare_values(baseline, candidate, criterion, tally)
    chosen = candidate.argmax(axis=-1)
    flipped = baseline.argmax(axis=-1) != chosen
    tally.frames += flipped.size
    tally.flips += int(flipped.sum())
    # total variation distance: half the absolute difference, summed over classes
    tally.moved += float(np.abs(np.exp(baseline) - np.exp(candidate)).sum() / 2)
    wrong = int((tied != to_multilabel(candidate, classes)).any(axis=-1).sum())
    if wrong:
        tally.complain(f"{wrong} of {flipped.size} hard decisions are not the best class")
    if decided.shape != tied.shape:
        tally.complain(f"hard decisions have shape {decided.shape}, expected {tied.shape}")


def _compare_embedding(
    source: TorchRuntime, exported: OnnxRuntime, waveforms: np.ndarray, criterion: Criterion, tally: _Tally
) -> None:
    """Embeddings of four speakers (one alone, two that overlap, one silent), and without masks."""
    num_frames = max(4, waveforms.shape[1] // 160)
    masks = np.zeros((len(waveforms), 4, num_frames), dtype=np.float32)
    quarter = num_frames // 4
    masks[:, 0, :quarter] = masks[:, 1, quarter : 3 * quarter] = masks[:, 2, 2 * quarter :] = 1
    picking = exported.metadata.masks == "frames"
    for given in (masks, None):
        if given is not None and picking and exported.metadata.fbank_inside:
            continue  # such a file takes no masks
        baseline, candidate = source.embed(waveforms, given), exported.embed(waveforms, given)
        if candidate.shape != baseline.shape:
            tally.max_abs_diff = np.inf
            tally.complain(f"embeddings have shape {candidate.shape}, expected {baseline.shape}")
            return
        if given is not None and picking:
            # who says nothing has no embedding, in either
            silent = given.sum(axis=-1) == 0
            if not np.isnan(candidate[silent]).all():
                tally.complain("an empty mask gives an embedding, expected NaN")
            baseline, candidate = baseline[~silent], candidate[~silent]
        _compare_values(baseline, candidate, criterion, tally)
        norms = np.linalg.norm(baseline, axis=-1) * np.linalg.norm(candidate, axis=-1)
        cosine = float(((baseline * candidate).sum(axis=-1) / np.maximum(norms, 1e-12)).min())
        tally.min_cosine = min(tally.min_cosine, cosine)
        if not cosine >= criterion.min_cosine:
            tally.complain(
                f"an embedding has a cosine of {cosine:.4f} to its source, below the limit of "
                f"{criterion.min_cosine:g}"
            )


def _compare_values(baseline: np.ndarray, candidate: np.ndarray, criterion: Criterion, tally: _Tally) -> None:
    """Largest difference; infinite where either is not finite: no file may hide behind a NaN."""
    found = float(np.abs(baseline.astype(np.float64) - candidate).max())
    difference = found if np.isfinite(found) else np.inf
    tally.max_abs_diff = max(tally.max_abs_diff, difference)
    limit = criterion.max_diff * max(1.0, float(np.abs(baseline).max()))
    if difference > limit or not np.isfinite(difference):
        said = f", above the limit of {limit:.3g}" if np.isfinite(limit) else ""
        tally.complain(f"the largest difference is {difference:.3g}{said}")


def _batches(model: LoadedModel, waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Batches of several sizes and lengths: the chunk's own, one a little shorter, and two others."""
    geometry = model.geometry
    rate = geometry.sample_rate if geometry else _SAMPLE_RATE
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
