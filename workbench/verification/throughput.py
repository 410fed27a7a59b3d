"""Embeddings per second: batch sizes, equal and mixed lengths, engines next to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import numpy as np
import pandas as pd

from workbench.errors import InputError
from workbench.extraction import ExtractionParams, extract_arrays
from workbench.runtimes.base import Runtime

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
FIXED_FRAMES = 200  # of features, 2.015 s: what WeSpeaker's and the NPU's tables are measured on
_SAMPLE_RATE = 16000


def fixed_waveforms(count: int, num_frames: int = FIXED_FRAMES, seed: int = 0) -> list[np.ndarray]:
    """Noise waveforms that give `num_frames` feature frames each."""
    rng = np.random.default_rng(seed)
    num_samples = 400 + 160 * (num_frames - 1)
    return [(0.1 * rng.standard_normal(num_samples)).astype(np.float32) for _ in range(count)]


def mixed_waveforms(
    count: int, shortest: float = 1.0, longest: float = 8.0, step: float = 0.25, seed: int = 0
) -> list[np.ndarray]:
    """Noise waveforms of lengths between `shortest` and `longest` (s), in multiples of `step`."""
    rng = np.random.default_rng(seed)
    seconds = shortest + step * rng.integers(round((longest - shortest) / step) + 1, size=count)
    return [(0.1 * rng.standard_normal(round(each * _SAMPLE_RATE))).astype(np.float32) for each in seconds]


def throughput_table(
    runtimes: Mapping[str, Runtime],
    workloads: Mapping[str, Sequence[np.ndarray]],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    workers: int = 1,
    repeats: int = 3,
    loops: Mapping[str, Runtime] | None = None,
) -> pd.DataFrame:
    """Measure every runtime on every workload, in alternation, against a loop over single files.

    Parameters
    ----------
    runtimes : by the name that the table shows; the first is the one that others are compared with
    workloads : name -> float32 waveforms, shape (num_samples,)
    batch_sizes : inputs of equal length that run together
    workers : batches that run at once
    repeats : the fastest counts, so that other programs disturb least
    loops : models of the same names for the loop, which may use all CPUs in one call

    Returns
    -------
    table : one row per workload, runtime and way of working
        `workload`, `runtime`, `batch_size` (0: the loop that embeds one waveform after the other),
        `embeddings_per_second`, `seconds`, `ratio_to_loop` (of the same runtime), `ratio_to_first`
        (of the same batch size in the first runtime), `best` (the fastest of its runtime and workload).
    """
    if not runtimes or not workloads:
        raise InputError("a throughput table takes at least one runtime and one workload")
    rows = []
    for workload, waveforms in workloads.items():
        works: dict[tuple[str, int], Callable[[], object]] = {}
        for batch_size in (0, *batch_sizes):
            for name, runtime in runtimes.items():
                model = loops[name] if batch_size == 0 and loops is not None else runtime
                works[name, batch_size] = _work(model, waveforms, batch_size, workers)
        seconds = _alternate(works, repeats)
        for (name, batch_size), each in seconds.items():
            rows.append((workload, name, batch_size, len(waveforms) / each, each))
    table = pd.DataFrame(
        rows, columns=["workload", "runtime", "batch_size", "embeddings_per_second", "seconds"]
    )
    first = next(iter(runtimes))
    speed = {(workload, name, batch): value for workload, name, batch, value, _ in rows}
    table["ratio_to_loop"] = [value / speed[work, name, 0] for work, name, _, value, _ in rows]
    table["ratio_to_first"] = [value / speed[work, first, batch] for work, _, batch, value, _ in rows]
    groups = table.groupby(["workload", "runtime"])["embeddings_per_second"]
    table["best"] = table["embeddings_per_second"] == groups.transform("max")
    return table


def _work(
    runtime: Runtime, waveforms: Sequence[np.ndarray], batch_size: int, workers: int
) -> Callable[[], object]:
    """What is timed: the plain loop, or the extraction."""
    if batch_size == 0:
        return lambda: [runtime.embed(waveform[None]) for waveform in waveforms]
    params = ExtractionParams(batch_size=batch_size)
    return lambda: extract_arrays(waveforms, runtime, params, workers=workers)


def _alternate(
    works: Mapping[tuple[str, int], Callable[[], object]], repeats: int
) -> dict[tuple[str, int], float]:
    """Least seconds of every work; all take turns, so that a slow moment hits each alike."""
    seconds = {key: np.inf for key in works}
    for repeat in range(repeats + 1):
        for key, work in works.items():
            began = perf_counter()
            work()
            if repeat:  # the first round warms up
                seconds[key] = min(seconds[key], perf_counter() - began)
    return seconds
