"""All cells of a grid on one recording, with everything shared that cells have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Segment, Timeline

from workbench.clustering import PLDA, XVectorParams
from workbench.clustering.run import TrainingSet
from workbench.clustering.xvectors import SegmentSet
from workbench.errors import InputError, expect
from workbench.scoring import DiarizationCounts, SpeakerErrors
from workbench.sweeps.chunks import ChunkSweep
from workbench.sweeps.inputs import check_hook, check_options
from workbench.sweeps.outcome import RESULT_COLUMNS, Scored
from workbench.sweeps.segments import SegmentSweep
from workbench.sweeps.settings import SweepSettings, check_base, default_settings
from workbench.types import Features, SegmentFeatures

_KEPT = 128  # cells of a slider that are remembered, some hundred kilobytes each

Hook = Callable[[int, int], None]
"""Called as ``hook(done, total)`` with numbers of cells; what it raises ends the work."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveCell:
    """The output of one cell, for a slider.

    Attributes
    ----------
    settings : SweepSettings
    hard_clusters : int64 array, shape (num_chunks, num_local_speakers), or (num_segments,)
        Speakers that take part; others are `INACTIVE`. Those of segments are numbered as they appear.
    starts : int64 array, shape (num_runs,)
        First frame of every run of equal frames (empty for segment features).
    rows : bool array, shape (num_runs, num_clusters)
        Who is active in it.
    turns : DataFrame
        start (s), end (s), speaker (number of the cluster): one row per turn, in order.
    counts : DiarizationCounts, or None without a reference
    speakers : SpeakerErrors, or None without a reference
        What the JER is the mean of, as in the rows of `evaluate`: without regard to the collar.
    num_speakers : speakers with a turn
    elbo : float64 array, shape (num_iterations,)
    converged : bool
    """

    settings: SweepSettings
    hard_clusters: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    turns: pd.DataFrame
    counts: DiarizationCounts | None
    speakers: SpeakerErrors | None
    num_speakers: int
    elbo: np.ndarray
    converged: bool


class RecordingSweep:
    """One recording, prepared so that every cell of a grid costs little.

    Parameters
    ----------
    features : of one recording, of either kind
    reference : who really spoke when; None leaves the scores empty
    base : settings of everything that the cells do not say; by default VBx as DiariZen runs it, or the
        recipe of VBx's repository for segment features
    plda : model that VBx and segment features need
    uem, collar, skip_overlap : as of `score`
    clustering : a function ``(features, **parameters) -> hard_clusters`` in place of the built-in methods
    """

    def __init__(
        self,
        features: Features | SegmentFeatures,
        reference: Annotation | None,
        *,
        base: SweepSettings | None = None,
        plda: PLDA | None = None,
        uem: Timeline | Segment | None = None,
        collar: float = 0.0,
        skip_overlap: bool = False,
        clustering: Callable[..., Any] | None = None,
    ):
        expect(features, (Features, SegmentFeatures), "features must be what load_features gives")
        expect(reference, (Annotation, type(None)), "reference must be an Annotation, or None")
        check_base(base)
        expect(plda, (PLDA, type(None)), "plda must be a PLDA, or None; PLDA.load reads one")
        expect(uem, (Timeline, Segment, type(None)), "uem must be a Timeline or a Segment, or None")
        check_options(collar=collar, skip_overlap=skip_overlap)
        self.features, self.reference = features, reference
        self.base = default_settings(features) if base is None else base
        if clustering is not None:
            self.base = self.base.with_function(clustering)
        scoring = {"uem": uem, "collar": collar, "skip_overlap": skip_overlap}
        self._live: dict[SweepSettings, LiveCell] = {}
        self._engine: ChunkSweep | SegmentSweep
        if isinstance(features, SegmentFeatures):
            self._engine = SegmentSweep(features, reference, plda, scoring)
        else:
            self._engine = ChunkSweep(features, reference, plda, scoring)

    def evaluate(self, cells: pd.DataFrame, hook: Hook | None = None) -> pd.DataFrame:
        """One row per cell, in the order of `cells`.

        Parameters
        ----------
        cells : one column per swept parameter, as `Grid.cells` returns them
        hook : called as ``hook(done, total)`` while cells are finished

        Returns
        -------
        results : DataFrame
            `uri`, the columns of `cells`, and `RESULT_COLUMNS`.
        """
        expect(cells, pd.DataFrame, "cells must be a table of parameters, as Grid.cells() is one")
        for name in cells.columns:
            expect(name, str, "the columns of cells must be names of parameters")
        if not cells.columns.is_unique:
            raise InputError("the columns of cells must be parameters, each of them once")
        check_hook(hook)
        settings = [self.base.replace(**cell) for cell in _rows(cells)]
        self._engine.check(settings)
        scored: list[Scored | None] = [None] * len(settings)
        for done, (index, found) in enumerate(self._engine.run(settings), start=1):
            scored[index] = found
            if hook is not None and (done % 64 == 0 or done == len(settings)):
                hook(done, len(settings))
        return self._table(cells, [each for each in scored if each is not None])

    def hypothesis(self, cell: Mapping[str, Any]) -> Annotation:
        """What one cell puts out: who speaks when, with the names that its preset gives."""
        settings = self._settings(cell)
        self._engine.check([settings])
        return self._engine.annotation(settings)

    def live(self, cell: Mapping[str, Any]) -> LiveCell:
        """What one cell puts out, as fast as it goes: for a slider that is being dragged."""
        settings = self._settings(cell)
        found = self._live.pop(settings, None)
        if found is None:
            self._engine.check([settings])
            outcome = self._engine.outcome(settings)
            found = LiveCell(settings=settings, **self._engine.show(settings, outcome))
        self._live[settings] = found  # the one last used is the last
        if len(self._live) > _KEPT:
            del self._live[next(iter(self._live))]
        return found

    @property
    def training(self) -> TrainingSet:
        """The embeddings that clusters are made of, as the base settings choose them; of chunks only."""
        if not isinstance(self._engine, ChunkSweep) or isinstance(self.base.clustering, XVectorParams):
            raise InputError(f"{self.features.uri}: only features of chunks have a training set")
        return self._engine.view(self.base.median_filter).training(self.base.clustering.convention)

    @property
    def segments(self) -> SegmentSet:
        """The embeddings of segments, with dendrogram and calibrated threshold; of segment features only."""
        if not isinstance(self._engine, SegmentSweep):
            raise InputError(f"{self.features.uri}: only features of segments have a segment set")
        self._engine.check([self.base])
        return self._engine.segments

    def _settings(self, cell: Mapping[str, Any]) -> SweepSettings:
        """The settings of a cell, given as a mapping or as a row of a table."""
        wanted = "a cell must map names of parameters to values, as {'Fa': 0.07} does"
        expect(cell, (Mapping, pd.Series), wanted)
        values = dict(cell)
        for name in values:
            expect(name, str, wanted)
        return self.base.replace(**values)

    def _table(self, cells: pd.DataFrame, scored: list[Scored]) -> pd.DataFrame:
        columns: dict[str, Any] = {"uri": pd.array([self.features.uri] * len(cells), dtype="str")}
        columns |= {name: cells[name].array for name in cells.columns}
        num_reference = 0 if self.reference is None else len(self.reference.labels())
        rows = [each.row(num_reference) for each in scored]
        for position, (name, dtype) in enumerate(RESULT_COLUMNS.items()):
            columns[name] = np.array([row[position] for row in rows], dtype=dtype)
        return pd.DataFrame(columns, index=range(len(cells)))


def _rows(cells: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Every row as a mapping; other than `to_dict`, without turning counts into floats."""
    columns = [cells[name].tolist() for name in cells.columns]
    if not columns:
        return iter([{} for _ in range(len(cells))])
    names = [str(name) for name in cells.columns]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
