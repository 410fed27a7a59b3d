"""Two embedding models on the same recordings: cosines instead of flips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from workbench.agreement.adequacy import SILENT, Adequacy, loudest
from workbench.agreement.diagnosis import compare_stages, explain
from workbench.agreement.findings import Finding, unique
from workbench.agreement.front_end import name_front_end
from workbench.agreement.recording_result import EmbeddingDifference, RecordingParity
from workbench.agreement.repeatability import Repeatability, check_repeatability
from workbench.agreement.results import ParityResult
from workbench.agreement.sides import SAMPLE_RATE, batches, check_audio
from workbench.agreement.statistics import DifferenceStatistics
from workbench.audio import read_audio
from workbench.errors import InputError, RecordingError
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, cut_chunks

CHUNK_DURATION = 8.0
"""Seconds of a chunk that is embedded as a whole, where no recorded side says otherwise."""


def compare(
    baseline: Runtime,
    candidate: Runtime,
    recordings: Mapping[str, Any],
    names: tuple[str, str],
    batch_size: int,
    on_recording: Callable[..., None] | None = None,
) -> ParityResult:
    """Embeddings of whole chunks on both sides, or of two recorded folders as they stand."""
    done: dict[str, RecordingParity] = {}
    failed: list[tuple[str, str]] = []
    repeatability: dict[str, Repeatability] = {}
    findings: list[Finding] = []
    loud = []
    for uri, source in recordings.items():
        row, problem = None, None
        try:
            waveform = read_audio(source, SAMPLE_RATE) if isinstance(source, Path) else np.asarray(source)
            row = _recording(uri, waveform.astype(np.float32), baseline, candidate, batch_size)
            done[uri] = row
            loud.append(loudest(waveform))
            if not repeatability:
                repeatability = _repeated(waveform, baseline, candidate)
                findings += [f for each in repeatability.values() for f in each.findings]
        except InputError:
            raise
        except RecordingError as error:
            problem = str(error)
            failed.append((uri, problem))
        if on_recording is not None:
            on_recording(uri, row, problem)
    problems = (
        () if loud and max(loud) > SILENT else ("the input is silent" if loud else "nothing was compared",)
    )
    count = sum(each.num_frames for each in done.values())
    return ParityResult(
        baseline=names[0],
        candidate=names[1],
        kind="embedding",
        near_tie=0.0,
        classes=(),
        recordings=done,
        failed=tuple(failed),
        findings=unique(findings),
        adequacy=Adequacy(problems=problems, remarks=(), exercised=f"{count} embeddings"),
        repeatability=repeatability,
    )


def _recording(
    uri: str, waveform: np.ndarray, baseline: Runtime, candidate: Runtime, batch_size: int
) -> RecordingParity:
    sides = (baseline, candidate)
    lead = next((s.geometry for s in sides if isinstance(s, RecordedRuntime)), None)
    length = CHUNK_DURATION if lead is None else lead.chunk_duration
    step = 1.0 if lead is None else lead.chunk_step / lead.chunk_duration
    if any(isinstance(side, RecordedRuntime) and side.holds_whole_recordings for side in sides):
        length, step = len(waveform) / SAMPLE_RATE, 1.0
    chunking = Chunking(num_samples=len(waveform), seg_duration=length, segmentation_step=step)
    arrays, seconds = [], []
    everything = batches(chunking.num_chunks, chunking.num_full, batch_size)
    for side in sides:
        check_audio(side, uri, waveform)
    stored = {i: _stored(side, uri) for i, side in enumerate(sides) if isinstance(side, RecordedRuntime)}
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    clocks = [0.0, 0.0]
    for number, chunks in enumerate(everything):
        waveforms = cut_chunks(waveform, chunking.labelled_starts[chunks], chunking.window_samples)
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            if index in stored:
                continue
            began = perf_counter()
            parts[index].append(np.asarray(sides[index].embed(waveforms), dtype=np.float32))
            clocks[index] += perf_counter() - began
    for index in range(2):
        arrays.append(stored[index] if index in stored else np.concatenate(parts[index])[:, None])
        seconds.append(None if index in stored else clocks[index] * SAMPLE_RATE / len(waveform))
    first, second = arrays
    if first.shape != second.shape:
        hint = ""
        if first.shape[1] != second.shape[1] and stored:
            hint = "; a side that is run embeds whole chunks: record the other one with the same segmentation"
        raise RecordingError(
            f"the sides have embeddings of shape {first.shape} and {second.shape} (chunk, speaker, dimension)"
            f"{hint}"
        )
    there = [np.isfinite(each).all(axis=-1) for each in arrays]
    both = there[0] & there[1]
    b, c = first[both].astype(np.float64), second[both].astype(np.float64)
    norms = np.linalg.norm(b, axis=1) * np.linalg.norm(c, axis=1)
    cosine = (b * c).sum(axis=1) / np.maximum(norms, 1e-12)
    stages, findings = [], []
    missing = (int((~there[0] & there[1]).sum()), int((there[0] & ~there[1]).sum()))
    for name, count in zip(("baseline", "candidate"), missing, strict=True):
        if count:
            words = f"the {name} has no finite embedding in {count} places where the other side has one"
            findings.append(Finding(kind="non_finite", words=words, side=name, details={"count": count}))
    if both.any():
        distance = np.full(both.shape, -np.inf)
        distance[both] = -cosine
        worst = int(distance.argmax()) // both.shape[1]
        if worst < chunking.num_chunks:
            chunk = cut_chunks(waveform, chunking.labelled_starts[[worst]], chunking.window_samples)
            mine, theirs = (_stages(side, uri, worst, len(first), chunk) for side in sides)
            stages = compare_stages(mine, theirs)
            findings += name_front_end(explain(stages, mine, theirs), mine, theirs, chunk)
    return RecordingParity(
        uri=uri,
        duration=len(waveform) / SAMPLE_RATE,
        geometry=lead,
        frame_count_baseline=None,
        frame_count_candidate=None,
        statistics=DifferenceStatistics.of(first[both], second[both]),
        rtf_baseline=seconds[0],
        rtf_candidate=seconds[1],
        stages=tuple(stages),
        findings=unique(findings),
        embeddings=EmbeddingDifference(
            cosine=cosine.astype(np.float32), missing_baseline=missing[0], missing_candidate=missing[1]
        ),
    )


def _stored(runtime: RecordedRuntime, uri: str) -> np.ndarray:
    arrays = runtime.arrays(uri)
    if "embeddings" not in arrays:
        raise RecordingError(f"{runtime}: holds no array 'embeddings' for {uri!r}")
    found = arrays["embeddings"]
    if found.ndim != 3:
        raise RecordingError(
            f"{runtime}: embeddings of {uri!r} have shape {found.shape}, expected (chunk, speaker, dimension)"
        )
    return found.astype(np.float32, copy=False)


def _stages(
    runtime: Runtime, uri: str, chunk: int, num_chunks: int, waveform: np.ndarray
) -> dict[str, np.ndarray]:
    """Stages of one chunk: of the model that is run, or what was recorded of every chunk."""
    if not isinstance(runtime, RecordedRuntime):
        return runtime.stages(waveform)
    arrays = {name: each for name, each in runtime.arrays(uri).items() if each.ndim > 1}
    return {
        name: each[chunk : chunk + 1].astype(np.float32)
        for name, each in arrays.items()
        if len(each) == num_chunks and name != "embeddings"
    }


def _repeated(waveform: np.ndarray, *sides: Runtime) -> dict[str, Repeatability]:
    found = {}
    for name, side in zip(("baseline", "candidate"), sides, strict=True):
        if isinstance(side, RecordedRuntime):
            found[name] = Repeatability(side=name, checks=(), skipped="recorded, not run")
            continue
        size = min(len(waveform), round(CHUNK_DURATION * SAMPLE_RATE))
        starts = np.unique(np.linspace(0, len(waveform) - size, 3).astype(np.int64))
        chunks = np.stack([waveform[start : start + size] for start in starts]).astype(np.float32)
        found[name] = check_repeatability(side, chunks, name)
    return found
