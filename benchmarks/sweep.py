"""Cells per second of a sweep: ours against the straightforward loop over the same features.

    python benchmarks/sweep.py                       # some minutes on two free cores
    python benchmarks/sweep.py --quick               # ten minutes of audio, small grids, a minute
    python benchmarks/sweep.py --long                # five and ten hours of audio as well: many minutes more
    python benchmarks/sweep.py --jobs 2 --json sweep.json

The loop does for every cell what a pipeline does: linkage, cut, VBx, assignment, reconstruction,
binarizing, `pyannote.metrics`. It is timed on cells drawn at random, whose rates must be those of the
sweep; it has one process, and VBx one BLAS thread on both sides. What is compared: a grid of 20 x 20 x 10
values of (Fa, Fb, ahc_threshold) on one synthetic hour and, where the shared folder is there, on the
x-vectors of ES2005a; 1,000 cells of AHC on 16 meetings; then growth with hours and grid size, and memory.

The loop over ES2005a is timed twice: with the forward-backward recursion of VBx's repository, which takes
scipy's logsumexp at every step, and with our plain one, which `workbench cluster` uses and which is faster.

The grid is computed whole by `--jobs` processes, and a tenth of it, drawn at random, by one. Seconds of the
clock depend on what else the machine does; seconds of processors hardly do, so both are given.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from pyannote.core import Annotation
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.special import logsumexp

from workbench.clustering import PLDA, AHCParams, XVectorParams, ahc, run_clustering
from workbench.clustering.vbx import TINY, forward_backward
from workbench.reconstruction import reconstruct
from workbench.rttm import read_rttm
from workbench.sweeps import Grid, RecordingSweep, SweepSettings
from workbench.synthetic import make_meeting, make_plda
from workbench.types import Features, SegmentFeatures

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("WORKBENCH_SHARED", ROOT.parent / "shared"))
BLOCK = 100  # cells of the mixture that a process is given at once

_engines: dict[str, RecordingSweep] = {}


def published_recursion(
    log_p: np.ndarray, transitions: np.ndarray, initial: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """What `vbx.forward_backward` computes, step by step as Landini et al. (2022) published it."""
    log_transitions = np.log(transitions + TINY)
    log_forward, log_backward = np.empty_like(log_p), np.zeros_like(log_p)
    log_forward[0] = log_p[0] + np.log(initial + TINY)
    for t in range(1, len(log_p)):
        log_forward[t] = log_p[t] + logsumexp(log_forward[t - 1] + log_transitions.T, axis=1)
    for t in reversed(range(len(log_p) - 1)):
        log_backward[t] = logsumexp(log_transitions + log_p[t + 1] + log_backward[t + 1], axis=1)
    log_likelihood = float(logsumexp(log_forward[-1]))
    return np.exp(log_forward + log_backward - log_likelihood), log_likelihood, log_forward, log_backward


def plain_cell(
    features: Features | SegmentFeatures, reference: Annotation, settings: SweepSettings, plda: PLDA
) -> float:
    """Diarization error rate of one cell, every stage from the start."""
    result = run_clustering(features, settings.clustering, plda)
    hypothesis = reconstruct(features, result.hard_clusters, **settings.reconstruction_options())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the extent of both sides is scored, as asked
        return float(DiarizationErrorRate()(reference, hypothesis))


def time_loop(
    engine: RecordingSweep,
    reference: Annotation,
    plda: PLDA,
    grid: Grid,
    table: pd.DataFrame,
    num_cells: int,
    recursion: Callable[..., Any],
) -> tuple[float, float]:
    """Seconds per cell, and of a processor, of the loop over some random cells; rates must be the table's."""
    chosen = np.random.default_rng(0).choice(len(grid), size=min(num_cells, len(grid)), replace=False)
    cells, seconds, processor = grid.cells(), 0.0, 0.0
    for index in chosen:
        cell = {str(name): value for name, value in cells.iloc[index].items()}
        settings = engine.base.replace(**cell)
        begin, used = perf_counter(), process_time()
        with (
            mock.patch.object(ahc, "MOST_IN_A_MATRIX", 10**9),  # scipy's linkage, as everyone's loop has it
            mock.patch("workbench.clustering.vbx.forward_backward", recursion),
        ):
            rate = plain_cell(engine.features, reference, settings, plda)
        seconds, processor = seconds + perf_counter() - begin, processor + process_time() - used
        assert abs(rate - table["der"].iloc[index]) < 1e-9, (cell, rate, table["der"].iloc[index])
    return seconds / len(chosen), processor / len(chosen)


def evaluate_block(key: str, cells: pd.DataFrame) -> pd.DataFrame:
    """In a worker: rows of some cells of a recording that it was given when it started."""
    return _engines[key].evaluate(cells)


def run_grid(key: str, cells: pd.DataFrame, jobs: int, pool: Executor | None) -> tuple[pd.DataFrame, float]:
    """Rows of all cells and the seconds they took.

    Workers take blocks in the order of thresholds, whose start partitions they then share. Hidden Markov
    models rather have as much company as there is: every process gets a part of each threshold at once.
    """
    begin = perf_counter()
    if pool is None:
        return _engines[key].evaluate(cells), perf_counter() - begin
    last = cells.columns[-1]
    order = np.argsort(cells[last].to_numpy(), kind="stable")
    if isinstance(_engines[key].features, SegmentFeatures):
        blocks = [order[job::jobs] for job in range(jobs)]
    else:
        size = min(BLOCK, -(-len(order) // 4))
        blocks = [order[first : first + size] for first in range(0, len(order), size)]
    done = [pool.submit(evaluate_block, key, cells.iloc[block]) for block in blocks]
    table = pd.concat([future.result() for future in done], ignore_index=True)
    table.index = pd.Index(np.concatenate(blocks))
    return table.sort_index(), perf_counter() - begin


def with_pool(jobs: int, work: Callable[[Executor | None], Any]) -> Any:
    """`work` with processes that have inherited the recordings; without any for one job."""
    if jobs == 1:
        return work(None)
    import multiprocessing

    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        return work(pool)


def processor_seconds() -> float:
    """Of this process and of all children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def compare(
    name: str, engine: RecordingSweep, reference: Annotation, plda: PLDA, grid: Grid, jobs: int, loops: int
) -> dict[str, Any]:
    """One grid, ours with one process and with `jobs`, against the loop; everything per cell."""
    cells = grid.cells()
    result: dict[str, Any] = {"name": name, "cells": len(grid), "jobs": jobs, "load": os.getloadavg()[0]}
    some = np.random.default_rng(2).choice(len(cells), size=-(-len(cells) // 10), replace=False)
    for number, chosen in ((1, np.sort(some)), (jobs, np.arange(len(cells)))):
        # a fresh engine: what cells share is part of what they cost
        _engines[name] = RecordingSweep(engine.features, reference, base=grid.base, plda=plda)
        part = cells.iloc[chosen].reset_index(drop=True)
        used = processor_seconds()
        table, seconds = with_pool(number, partial(run_grid, name, part, number))
        result[f"seconds_{number}"] = seconds / len(part)
        result[f"processor_seconds_{number}"] = (processor_seconds() - used) / len(part)
    result["partitions"] = int(table["partition"].nunique())
    result["loop_cells"] = min(loops, len(grid))
    what = engine, reference, plda, grid, table, loops
    result["loop_seconds"], result["loop_processor_seconds"] = time_loop(*what, published_recursion)
    if isinstance(engine.features, SegmentFeatures):
        result["own_loop_seconds"], result["own_loop_processor_seconds"] = time_loop(*what, forward_backward)
    return result


def es2005a() -> tuple[SegmentFeatures, Annotation, PLDA] | None:
    """The real x-vectors, where the shared folder is there."""
    folder = SHARED / "golden" / "es2005a"
    if not folder.is_dir():
        return None
    with np.load(folder / "xvectors.npz") as archive:
        segments = np.stack([archive["start"], archive["end"]], axis=1)
        features = SegmentFeatures(uri="ES2005a", embeddings=archive["xvectors"], segments=segments)
    return features, read_rttm(folder / "ES2005a.ref.rttm")["ES2005a"], PLDA.load(folder)


def live(engine: RecordingSweep, num_cells: int) -> dict[str, float]:
    """Milliseconds from a slider to the new hypothesis and its score, over random positions."""
    rng, times = np.random.default_rng(1), []
    for _ in range(num_cells + 3):
        cell = {
            "Fa": float(rng.uniform(0.02, 0.4)),
            "Fb": float(rng.uniform(0.2, 15.0)),
            "ahc_threshold": float(rng.uniform(0.5, 0.8)),
        }
        begin = perf_counter()
        engine.live(cell)
        times.append(1e3 * (perf_counter() - begin))
    times = times[3:]
    return {"median_ms": float(np.median(times)), "p95_ms": float(np.percentile(times, 95))}


def memory_gigabytes() -> float:
    """Largest resident size so far of this process and of a worker."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) / 2**20


def say(line: str) -> None:
    print(line, flush=True)


def describe(result: dict[str, Any]) -> None:
    jobs, loop = result["jobs"], result["loop_seconds"]
    say(
        f"{result['name']}: {result['cells']} cells ({result['partitions']} different outputs) in "
        f"{result['cells'] * result[f'seconds_{jobs}']:.0f} s with {jobs} processes, "
        f"load {result['load']:.1f}\n"
        f"  ms per cell, of the clock (of processors): the loop {1e3 * loop:.0f} "
        f"({1e3 * result['loop_processor_seconds']:.0f}; mean of {result['loop_cells']})"
    )
    if own := result.get("own_loop_seconds"):
        say(
            f"  the loop with our plain recursion {1e3 * own:.0f} "
            f"({1e3 * result['own_loop_processor_seconds']:.0f})"
        )
    for number in sorted({1, jobs}):
        clock, used = result[f"seconds_{number}"], result[f"processor_seconds_{number}"]
        beside = f" ({own / clock:.0f} times the loop with our recursion)" if own else ""
        say(
            f"  {number} process{'es' if number > 1 else ''}: {1e3 * clock:.1f} ({1e3 * used:.1f}): "
            f"{loop / clock:.0f} times as fast by the clock{beside}, "
            f"{result['loop_processor_seconds'] / used:.0f} times by processor time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small: to see that it runs")
    parser.add_argument("--long", action="store_true", help="five and ten hours as well")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--loop-cells", type=int, default=None, help="cells that the loop is timed on")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    quick, jobs = args.quick, args.jobs
    loops = args.loop_cells or (3 if quick else 12)
    seconds, sizes = (600.0, (4, 4, 3)) if quick else (3600.0, (20, 20, 10))
    rng = np.random.default_rng(0)
    plda = make_plda(rng)
    results: dict[str, Any] = {}

    features, reference = make_meeting(rng, plda, seconds=seconds)
    specs = [f"Fa=0.02:0.4:{sizes[0]}", f"Fb=0.2:15:{sizes[1]}", f"ahc_threshold=0.5:0.8:{sizes[2]}"]
    grid = Grid.parse(specs)
    engine = RecordingSweep(features, reference, plda=plda)
    say(f"{seconds / 3600:.2g} h: {features.segmentations.shape[0]} chunks x 4 speakers, {', '.join(specs)}")
    results["hour"] = compare("synthetic hour", engine, reference, plda, grid, jobs, loops)
    describe(results["hour"])
    results["live"] = live(engine, 20 if quick else 200)
    say(f"live: median {results['live']['median_ms']:.0f} ms, p95 {results['live']['p95_ms']:.0f} ms")

    real = es2005a()
    if real is not None:
        xvectors, truth, model = real
        base = SweepSettings(clustering=XVectorParams())
        specs = [f"Fa=0.05:0.5:{sizes[0]}", f"Fb=2:64:{sizes[1]}", f"threshold=-0.2:0.1:{sizes[2]}"]
        engine = RecordingSweep(xvectors, truth, base=base, plda=model)
        results["es2005a"] = compare("ES2005a", engine, truth, model, Grid.parse(specs, base), jobs, loops)
        describe(results["es2005a"])

    base = SweepSettings(clustering=AHCParams())
    points, largest = ((10, 5), 37) if quick else ((50, 20), 39)
    cells = Grid.parse(
        [f"ahc_threshold=0.3:1.1:{points[0]}", f"min_cluster_size=1:{largest}:{points[1]}"], base
    )
    for number in range(2 if quick else 16):
        meeting, truth = make_meeting(rng, plda, seconds=seconds / 2, uri=f"meeting{number}")
        _engines[f"meeting{number}"] = RecordingSweep(meeting, truth, base=base, plda=plda)
    names = [name for name in _engines if name.startswith("meeting")]

    def over_meetings(pool: Executor | None) -> float:
        begin = perf_counter()
        if pool is None:
            for name in names:
                evaluate_block(name, cells.cells())
        else:
            for future in [pool.submit(evaluate_block, name, cells.cells()) for name in names]:
                future.result()
        return perf_counter() - begin

    used = processor_seconds()
    results["ahc_seconds"] = with_pool(jobs, over_meetings)
    results["ahc_processor_seconds"] = processor_seconds() - used
    where = f"{len(names)} meetings of {seconds / 7200:.2g} h"
    say(
        f"AHC: {len(cells)} cells on {where} in {results['ahc_seconds']:.1f} s "
        f"with {jobs} processes, {results['ahc_processor_seconds']:.1f} s of processors, "
        f"load {os.getloadavg()[0]:.1f}"
    )

    results["growth"] = []
    hours_of = (0.1, 0.2) if quick else (1, 2, 5, 10) if args.long else (1, 2)
    for hours in hours_of:
        meeting, truth = make_meeting(rng, plda, seconds=3600 * hours)
        sizes_of = (["Fa=0.05:0.4:5", "Fb=0.5:10:4"], ["Fa=0.05:0.4:10", "Fb=0.5:10:8"])
        for specs in sizes_of if hours <= 1 else sizes_of[:1]:
            grid = Grid.parse([*specs, "ahc_threshold=0.6"])
            sweep, used = RecordingSweep(meeting, truth, plda=plda), process_time()
            sweep.training.dendrogram()
            linkage = process_time() - used
            sweep.evaluate(grid.cells())
            row = {"hours": hours, "cells": len(grid), "memory_gigabytes": memory_gigabytes()}
            row |= {"linkage_processor_seconds": linkage, "processor_seconds": process_time() - used}
            results["growth"].append(row)
            say(
                f"growth: {hours:g} h, {len(grid)} cells: {row['processor_seconds']:.1f} s of a processor, "
                f"{linkage:.1f} of them for the linkage; {row['memory_gigabytes']:.1f} GB at most so far"
            )
    results["memory_gigabytes"] = memory_gigabytes()
    say(f"memory: {results['memory_gigabytes']:.1f} GB at most")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
