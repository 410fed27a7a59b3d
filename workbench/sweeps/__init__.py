"""Whole grids of clustering parameters over features computed once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Any

import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA
from workbench.errors import InputError, RecordingError
from workbench.sweeps.grid import Grid
from workbench.sweeps.inputs import (
    Source,
    check_options,
    read_features,
    read_grid,
    read_plda,
    read_references,
    read_regions,
)
from workbench.sweeps.outcome import RESULT_COLUMNS
from workbench.sweeps.pools import Given, InProcess, Processes
from workbench.sweeps.recording import Hook, LiveCell, RecordingSweep
from workbench.sweeps.run import Common, Evaluator, Progress, Recording
from workbench.sweeps.settings import PluginParams, SweepSettings, default_settings
from workbench.sweeps.store import Store, locked

__all__ = [
    "RESULT_COLUMNS",
    "Grid",
    "LiveCell",
    "PluginParams",
    "RecordingSweep",
    "SweepSettings",
    "default_settings",
    "sweep",
]


def sweep(
    features: Source | Iterable[Source],
    references: Annotation | Mapping[str, Annotation] | str | os.PathLike[str] | None,
    grid: Grid | Mapping[str, Any] | Iterable[str],
    *,
    base: SweepSettings | None = None,
    plda: PLDA | str | os.PathLike[str] | None = None,
    uem: Mapping[str, Timeline] | str | os.PathLike[str] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    clustering: Callable[..., Any] | None = None,
    hook: Hook | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Every combination of a grid on every recording, scored against its reference.

    The result is exact: that of clustering, reconstructing and scoring every combination on its own.

    Parameters
    ----------
    features : of one recording or of several: objects, files (.npz), or a folder of them
    references : RTTM file, annotations by recording, or one annotation; None leaves scores empty
    grid : `Grid`, a mapping of names to values, or texts ``NAME=a,b,c`` and ``NAME=start:stop:num``; the
        values of `num_speakers` come back as `num_speakers_forced`, for `num_speakers` is what was found
    base : settings of everything that the grid does not name
    plda : model or its folder, needed by VBx and for segment features
    uem, collar, skip_overlap : as of `score`; `uem` by recording, or a UEM file
    clustering : a function ``(features, **parameters) -> hard_clusters`` in place of the built-in
        methods; the grid's names are then its parameters
    hook : called as ``hook(done, total)`` with numbers of cells
    jobs : worker processes; 1 computes in this one
    executor : any `concurrent.futures.Executor` to compute in instead; the result is the same
    out : folder in which rows are kept: what it holds already is not computed again

    Returns
    -------
    results : DataFrame
        One row per recording and combination: `uri`, the parameters, and `RESULT_COLUMNS`. A recording that
        fails is left out, with a warning; if all do, that is an error.
    """
    check_options(collar=collar, skip_overlap=skip_overlap, hook=hook, jobs=jobs, executor=executor, out=out)
    left_out: list[RecordingError] = []
    loaded = read_features(features, left_out)
    if left_out and not loaded:
        raise left_out[0]
    for error in left_out:
        warnings.warn(f"a recording is left out: {error}", stacklevel=2)
    if not loaded:
        raise InputError("no features to sweep over; give at least one recording")
    grid = read_grid(grid, loaded[0], base, clustering)
    plda = read_plda(plda)
    uris = [each.uri for each in loaded]
    known = {} if references is None else read_references(references, uris)
    regions = read_regions(uem, uris)
    recordings = [
        Recording(uri=each.uri, features=each, reference=known.get(each.uri), uem=regions.get(each.uri))
        for each in loaded
    ]
    common = Common(base=grid.base, plda=plda, collar=collar, skip_overlap=skip_overlap)
    pool = Given(executor) if executor is not None else Processes(jobs) if jobs > 1 else InProcess()
    with nullcontext() if out is None else locked(out):
        store = None if out is None else Store(out, warnings.warn)
        with Evaluator(recordings, common, pool=pool, store=store) as evaluator:
            found = evaluator.evaluate(grid.cells(), progress=_summed(hook, len(recordings) * len(grid)))
    for failure in found.failed:
        if len(found.failed) == len(recordings):
            raise RecordingError(f"{failure['uri']}: {failure['error']}")
        warnings.warn(f"{failure['uri']} is left out: {failure['error']}", stacklevel=2)
    return found.results


def _summed(hook: Hook | None, total: int) -> Progress | None:
    """Progress of single recordings as one number of cells."""
    if hook is None:
        return None
    done: dict[str, int] = {}

    def progress(uri: str, cells: int, _cells: int) -> None:
        if done.get(uri) != cells and (cells or done.get(uri)):
            done[uri] = cells
            hook(sum(done.values()), total)

    return progress
