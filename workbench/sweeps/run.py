"""Evaluate cells on recordings: in parallel, stored as they come, resumed where a run ended.

The work is cut into blocks of cells of one recording. A worker goes on with the recording that it
has just worked on, so what cells share (dendrogram, PLDA features, prepared reference) is computed
about once; when its cells are all given out, the worker takes another recording, or helps with the
one that has most left. Rows do not depend on who computed them or in which block.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA
from workbench.errors import InputError, RecordingError
from workbench.features import load_features
from workbench.sweeps.blocks import Block, Work, cell_dicts
from workbench.sweeps.plugins import digest_plugin
from workbench.sweeps.pools import DaskCluster, Given, InProcess, Pool, died
from workbench.sweeps.settings import SweepSettings
from workbench.sweeps.store import (
    Ingredients,
    Store,
    digest_annotation,
    digest_code,
    digest_features,
    digest_plda,
    digest_regions,
    digest_settings,
)
from workbench.types import Features, SegmentFeatures

if TYPE_CHECKING:
    from workbench.sweeps.recording import RecordingSweep

_KEPT = 2  # recordings that a worker keeps ready
_MOST_DEATHS = 3  # of workers under one block, before its recording is given up


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """What a sweep is given of one recording."""

    uri: str
    features: Path | Features | SegmentFeatures
    reference: Annotation | None
    uem: Timeline | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Common:
    """What all recordings of a sweep share."""

    base: SweepSettings  # every parameter that a cell does not name
    plda: PLDA | None = None
    collar: float = 0.0  # s, on each side of a reference boundary
    skip_overlap: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Rows of all recordings that did not fail.

    Attributes
    ----------
    results : one row per recording and cell, recordings in the order given, then cells in their order
    base : one row per recording: the base parameters, whether or not the grid holds them
    failed : ``{"uri", "error"}`` of every recording that could not be evaluated
    num_computed, num_found : rows computed now, and found in the store
    seconds : time spent on every cell, summed over recordings, when it was computed; shape (num_cells,)
    """

    results: pd.DataFrame
    base: pd.DataFrame
    failed: list[dict[str, str]]
    num_computed: int
    num_found: int
    seconds: np.ndarray


Progress = Callable[[str, int, int], None]
"""Called as ``progress(uri, done, total)``, in cells of that recording, whenever a block is done."""


class Evaluator:
    """Evaluates cells on a fixed set of recordings; a context manager that stops its workers at the end.

    Parameters
    ----------
    recordings : with ids of their own
    common : what they share
    pool : where blocks are computed, by default in this process
    store : where rows are kept, by default only in memory
    say : called with lines worth reading
    keep : recordings that each worker keeps ready; a search, which comes back to all of them, keeps all
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        common: Common,
        *,
        pool: Pool | None = None,
        store: Store | None = None,
        say: Callable[[str], None] | None = None,
        keep: int = _KEPT,
    ):
        self.recordings = {recording.uri: recording for recording in recordings}
        if len(self.recordings) != len(recordings):
            raise InputError("two recordings have the same id; rename one")
        self.common, self.keep = common, keep
        self.failed: dict[str, str] = {}
        self.num_computed = 0  # rows of all calls of `evaluate`
        self.code = digest_code()
        self._unusable: dict[str, InputError] = {}
        self._pool, self._store = pool or InProcess(), store
        self._say = say or (lambda line: None)
        self._rows: dict[str, list[pd.DataFrame]] = {}  # uri -> tables of rows, by the key of the cell
        self._known: dict[str, set[str]] = {}  # uri -> all keys in these
        self._held: dict[str, Any] = {}
        lasting = store is not None or not isinstance(self._pool, InProcess | Given)
        self._shared = {
            "scoring": f"collar {common.collar!r}, skip_overlap {common.skip_overlap}",
            "plda": digest_plda(common.plda),
            "clustering": digest_plugin(common.base.clustering, lasting=lasting),
            "code": self.code,
        }
        self.ingredients: dict[str, Ingredients] = {}
        for recording in recordings:
            self._take_in(recording)
        if store is not None:
            store.say_left_aside()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_error: object) -> None:
        self._held.clear()
        self._pool.close()

    def evaluate(
        self, cells: pd.DataFrame, *, with_base: bool = False, progress: Progress | None = None
    ) -> Evaluation:
        """Rows of `cells` (one column per parameter) on every recording that has not failed.

        Raises
        ------
        InputError : if that is what was wrong with every single recording
        """
        tables = [pd.DataFrame(index=[0]), cells] if with_base else [cells]
        keys = [self.keys(table) for table in tables]
        work = Work(tables, keys)
        num_found = 0
        for uri in self.alive:
            num_found += len(self.known(uri) & {key for group in keys for key in group})
            work.add(uri, self._known[uri])
        num_before = self.num_computed
        if progress is not None:
            for uri in work.order:
                progress(uri, *work.state(uri))
        self._work_off(work, progress)
        if self.failed and len(self._unusable) == len(self.recordings):
            raise next(iter(self._unusable.values()))
        alive = self.alive
        results, seconds = self._assemble(alive, cells, keys[-1])
        base = self._assemble(alive, tables[0], keys[0])[0] if with_base else results.iloc[:0]
        return Evaluation(
            results=results,
            base=base,
            failed=[{"uri": uri, "error": self.failed[uri]} for uri in self.recordings if uri in self.failed],
            num_computed=self.num_computed - num_before,
            num_found=num_found,
            seconds=seconds,
        )

    def keys(self, cells: pd.DataFrame) -> list[str]:
        """The key of every cell: equal where all of its parameters are."""
        return [digest_settings(self.common.base.replace(**cell)) for cell in cell_dicts(cells)]

    def rows(self, keys: Sequence[str]) -> dict[str, pd.DataFrame]:
        """What is known of the cells with these keys on every recording that has not failed.

        Returns
        -------
        rows : recording -> one row per key that is known, indexed by it: `RESULT_COLUMNS`, and `seconds`, how
            long it took; the numbers in `partition` compare with those of every other row
        """
        return {
            uri: self._table(uri).loc[[key for key in keys if key in self._known[uri]]] for uri in self.alive
        }

    @property
    def alive(self) -> list[str]:
        """The recordings that have not failed."""
        return [uri for uri in self.recordings if uri not in self.failed]

    def known(self, uri: str) -> Set[str]:
        """Keys of all cells that are known for a recording."""
        return self._known.get(uri, set())

    def adopt(self, rows: Mapping[str, pd.DataFrame]) -> None:
        """Take over rows that another process computed from the same `ingredients`, as `rows` has them."""
        for uri, found in rows.items():
            new = found[~found.index.isin(self._known[uri])]
            if len(new):
                self._keep(uri, new)

    def _table(self, uri: str) -> pd.DataFrame:
        """All rows of a recording, by key."""
        if len(self._rows[uri]) != 1:
            self._rows[uri] = [pd.concat(self._rows[uri]) if self._rows[uri] else pd.DataFrame()]
        return self._rows[uri][0]

    def _keep(self, uri: str, rows: pd.DataFrame) -> None:
        """Remember rows of new cells, indexed by key, here and in the store."""
        self._rows[uri].append(rows)
        self._known[uri].update(rows.index)
        if self._store is not None:
            self._store.save(uri, self.ingredients[uri], rows)

    def _take_in(self, recording: Recording) -> None:
        """Digest the inputs of a recording and load the rows that are known for them."""
        try:
            ingredients = Ingredients(
                features=digest_features(recording.features),
                reference=digest_annotation(recording.reference),
                uem=digest_regions(recording.uem),
                **self._shared,
            )
            known = pd.DataFrame() if self._store is None else self._store.load(recording.uri, ingredients)
        except (InputError, RecordingError, OSError) as error:
            self._fail(recording.uri, str(error))
            return
        self.ingredients[recording.uri] = ingredients
        self._rows[recording.uri] = [known] if len(known) else []
        self._known[recording.uri] = set(known.index)

    def _fail(self, uri: str, error: str) -> None:
        error = error.removeprefix(f"{uri}: ")  # named beside it wherever it is shown
        self.failed[uri] = error
        self._say(f"FAILED {uri}: {error}")

    def _work_off(self, work: Work, progress: Progress | None) -> None:
        """Give out blocks until none is left."""
        running: dict[Future[Any], Block] = {}
        suspects: deque[Block] = deque()  # were under way when a worker died: computed alone from now on

        def start(block: Block) -> None:
            running[self._submit(block)] = block

        last: str | None = None
        while True:
            while suspects and suspects[0].uri in self.failed:
                suspects.popleft()
            if suspects:
                if not running:
                    start(suspects.popleft())
            else:
                while len(running) < self._pool.slots and (block := work.next_block(last)):
                    last = None
                    start(block)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            for future in done:
                block = running.pop(future)
                error = future.exception() if not future.cancelled() else None
                if future.cancelled() or (error is not None and died(error)):
                    lost.append(block)
                elif error is not None:
                    self._give_up(work, block.uri, f"{type(error).__name__}: {error}")
                else:
                    self._finish(work, block, future.result())
                    last = block.uri
                if progress is not None and block not in lost and block.uri not in self.failed:
                    progress(block.uri, *work.state(block.uri))
            if lost:
                can_restart = self._pool.restart()
                alone = len(lost) == 1 and not running
                for block in [*lost, *running.values()]:
                    block.num_deaths += 1
                    if can_restart and not (alone and block.num_deaths >= _MOST_DEATHS):
                        suspects.append(block)
                    elif block in lost:
                        self._give_up(work, block.uri, self._pool.obituary)
                if can_restart:
                    running.clear()
                    self._held.clear()

    def _submit(self, block: Block) -> Future[Any]:
        uri = block.uri
        failed: Future[Any]
        if uri not in self._held:
            recording = self.recordings[uri]
            if isinstance(self._pool, DaskCluster) and isinstance(recording.features, Path):
                # the cluster's machines need not see our files
                try:
                    loaded = load_features(recording.features)
                except (InputError, RecordingError) as error:
                    failed = Future()
                    failed.set_result(_Failure(error=str(error), unusable=isinstance(error, InputError)))
                    return failed
                recording = Recording(
                    uri=uri, features=loaded, reference=recording.reference, uem=recording.uem
                )
            key = self.ingredients[uri].key + digest_settings(self.common.base)
            self._held[uri] = self._pool.hold(_Inputs(recording=recording, common=self.common, key=key))
        try:
            return self._pool.submit(compute_block, self._held[uri], block.cells, self.keep)
        except BrokenExecutor as error:  # its workers died while they had nothing to do
            failed = Future()
            failed.set_exception(error)
            return failed

    def _finish(self, work: Work, block: Block, result: _Done | _Failure) -> None:
        """Keep the rows of a block, or give its recording up."""
        if isinstance(result, _Done) and result.code != self.code:
            result = _Failure(
                error="a worker runs another version of the workbench or of a library; install the same there"
            )
        if isinstance(result, _Failure):
            if result.unusable:
                self._unusable[block.uri] = InputError(result.error)
            self._give_up(work, block.uri, result.error)
            return
        rows = result.rows.set_axis(block.keys, axis=0)
        rows["seconds"] = result.seconds / len(rows)
        self._keep(block.uri, rows)
        self.num_computed += len(block.keys)
        work.finish(block, result.seconds)
        if work.is_finished(block.uri):
            self._held.pop(block.uri, None)

    def _give_up(self, work: Work, uri: str, error: str) -> None:
        work.drop(uri)
        self._held.pop(uri, None)
        if uri not in self.failed:
            self._fail(uri, error)

    def _assemble(
        self, uris: list[str], cells: pd.DataFrame, keys: list[str]
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """The rows of `cells` for every recording, and the seconds that each cell took."""
        parts, seconds = [], np.zeros(len(cells))
        for uri in uris:
            rows = self._table(uri).loc[keys].reset_index(drop=True)
            seconds += rows.pop("seconds").to_numpy()
            rows["partition"] = pd.factorize(rows["partition"])[0]  # numbered by first appearance
            part = pd.concat([cells.reset_index(drop=True), rows], axis=1)
            part.insert(0, "uri", uri)
            parts.append(part)
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["uri", *cells])
        return table, seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class _Inputs:
    """What a worker needs for the blocks of one recording."""

    recording: Recording
    common: Common
    key: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Done:
    """Rows of a block, without the recording's name and the cells' parameters."""

    rows: pd.DataFrame
    seconds: float
    code: str


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """Why a recording cannot be evaluated."""

    error: str
    unusable: bool = False  # an `InputError`: likely to hold for all recordings


_ready = threading.local()  # of every thread of a worker: the recordings it worked on last


def compute_block(inputs: _Inputs, cells: pd.DataFrame, keep: int) -> _Done | _Failure:
    """Evaluate some cells; runs in a worker. Errors come back as values: not every one can be pickled."""
    began = perf_counter()
    try:
        rows = _recording(inputs, keep).evaluate(cells)
    except Exception as error:
        if isinstance(error, InputError | RecordingError):
            return _Failure(error=str(error), unusable=isinstance(error, InputError))
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"
        return _Failure(error=f"{type(error).__name__}: {error} ({place})")
    rows = rows[[name for name in rows.columns if name != "uri" and name not in cells.columns]]
    return _Done(rows=rows, seconds=perf_counter() - began, code=digest_code())


def _recording(inputs: _Inputs, keep: int) -> RecordingSweep:
    """What this thread has prepared for the recording, or a new preparation."""
    from workbench.sweeps.recording import (
        RecordingSweep,
    )  # a warm rerun, which computes nothing, is sooner there

    kept: OrderedDict[str, RecordingSweep] = _ready.__dict__.setdefault("kept", OrderedDict())
    if inputs.key in kept:
        kept.move_to_end(inputs.key)
        return kept[inputs.key]
    while len(kept) >= keep:
        kept.popitem(last=False)
    recording, common = inputs.recording, inputs.common
    features = recording.features
    loaded = load_features(features) if isinstance(features, Path) else features
    kept[inputs.key] = RecordingSweep(
        loaded,
        recording.reference,
        base=common.base,
        plda=common.plda,
        uem=recording.uem,
        collar=common.collar,
        skip_overlap=common.skip_overlap,
    )
    return kept[inputs.key]
