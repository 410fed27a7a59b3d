"""What a clustering grid knows: results, the choice made from them, and what any cell puts out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.audio import find_recordings
from workbench.clustering import PLDA
from workbench.errors import InputError
from workbench.review import HypothesisView, ScoringParams
from workbench.scoring import score
from workbench.scoring.breakdown import confusion_matrix
from workbench.scoring.regions import find_changes, find_errors, match_speakers
from workbench.sweeps import Grid, RecordingSweep, SweepSettings, sweep
from workbench.sweeps.inputs import (
    AnyFeatures,
    Source,
    read_features,
    read_grid,
    read_plda,
    read_references,
    read_regions,
)
from workbench.timeline import find_turns
from workbench.tuning.cells import CellTable
from workbench.tuning.choice import Choice, choose
from workbench.tuning.effects import EffectCard, effect_cards
from workbench.tuning.plateau import StableCell, choose_stable, find_plateaus
from workbench.tuning.stability import summarise_stability
from workbench.tuning.warnings import Notice, find_warnings
from workbench.tuning.words import choice_words
from workbench.types import SegmentFeatures


class GridStudy:
    """Recordings with their references, and a grid of parameters to judge on them.

    Parameters
    ----------
    features : of several recordings: objects, files (.npz), or a folder of them
    references : RTTM file, or annotations by recording
    grid : `Grid`, a mapping of names to values, or texts ``NAME=a,b,c`` and ``NAME=start:stop:num``
    base : settings of everything that the grid does not name; its values are the default
    plda : model or its folder
    audio : files and folders of recordings, or uri -> path, optional
    uem : UEM file, or uri -> Timeline, optional
    scoring : how errors are counted
    results : of a sweep over this grid that has been run already, optional
    stability : as `noise_stability` returns it for (some of) the cells, optional
    """

    def __init__(
        self,
        features: Source | Iterable[Source],
        references: Annotation | str | os.PathLike[str] | Mapping[str, Annotation],
        grid: Grid | Mapping[str, Any] | Iterable[str],
        *,
        base: SweepSettings | None = None,
        plda: PLDA | str | os.PathLike[str] | None = None,
        audio: str | Path | list[str | Path] | Mapping[str, Path] | None = None,
        uem: str | Path | Mapping[str, Timeline] | None = None,
        scoring: ScoringParams | None = None,
        results: pd.DataFrame | None = None,
        stability: pd.DataFrame | None = None,
    ):
        self.features = {each.uri: each for each in read_features(features)}
        if not self.features:
            raise InputError("no features to sweep over; give at least one recording")
        self.references = read_references(references, self.uris)
        self.plda = read_plda(plda)
        self.uem = read_regions(uem, self.uris)
        self.audio = _audio(audio)
        self.scoring = scoring or ScoringParams()
        self.grid = read_grid(grid, next(iter(self.features.values())), base)
        self.base = self.grid.base
        self.stability = stability
        self._sweeps: dict[str, RecordingSweep] = {}
        self._views: dict[tuple[str, int | None], HypothesisView] = {}
        self._found: Found | None = None if results is None else Found.of(self, results)

    @property
    def uris(self) -> list[str]:
        """Recordings, in the order given."""
        return list(self.features)

    @property
    def default(self) -> dict[str, Any]:
        """Values of the swept parameters that are used today; None also where they have no meaning."""
        return {name: self.base.value_of(name) for name in self.grid.names}

    @property
    def is_run(self) -> bool:
        """Whether the grid has been computed."""
        return self._found is not None

    @property
    def found(self) -> Found:
        """Everything that follows from the results."""
        if self._found is None:
            raise InputError("the grid has not been run yet; call run() first")
        return self._found

    def run(self, hook: Callable[[int, int], None] | None = None, jobs: int = 1) -> Found:
        """Compute every cell on every recording, once.

        Parameters
        ----------
        hook : called as ``hook(done, total)`` with numbers of cells; what it raises ends the work
        jobs : worker processes
        """
        if self._found is None:
            results = sweep(
                list(self.features.values()),
                self.references,
                self.grid,
                base=self.base,
                plda=self.plda,
                uem=self.uem,
                collar=self.scoring.collar,
                skip_overlap=self.scoring.skip_overlap,
                hook=hook,
                jobs=jobs,
            )
            self._found = Found.of(self, results)
        return self._found

    def sweep_of(self, uri: str) -> RecordingSweep:
        """One recording, prepared for any cell."""
        if uri not in self._sweeps:
            self._sweeps[uri] = RecordingSweep(
                self.features[uri],
                self.references[uri],
                base=self.base,
                plda=self.plda,
                uem=self.uem.get(uri),
                collar=self.scoring.collar,
                skip_overlap=self.scoring.skip_overlap,
            )
        return self._sweeps[uri]

    def hypothesis(self, uri: str, cell: int | None) -> Annotation:
        """Output of a cell, of the default where it is None."""
        values = {} if cell is None else self.found.table.values(cell)
        return self.sweep_of(uri).hypothesis(values)

    def view(self, uri: str, cell: int | None) -> HypothesisView:
        """Turns, matches and errors of a cell, of the default where it is None."""
        if cell is not None:  # cells with one output share it
            place = self.found.table.uris.index(uri)
            partition = self.found.table.partition[place]
            cell = int(np.flatnonzero(partition == partition[cell])[0])
        key = (uri, cell)
        if key not in self._views:
            hypothesis = self.hypothesis(uri, cell)
            regions, scoring = self.uem.get(uri), self.scoring
            sides = (self.references[uri], hypothesis, regions, scoring.collar, scoring.skip_overlap)
            self._views[key] = HypothesisView(
                system="default" if cell is None else "this cell",
                turns=find_turns(hypothesis),
                matching=match_speakers(*sides),
                errors=find_errors(*sides),
                confusion=confusion_matrix(*sides),
                counts=score(*sides),
            )
        return self._views[key]

    def changes(self, uri: str, cell: int) -> pd.DataFrame:
        """What a cell fixed and broke against the default, in the columns of errors."""
        sides = (self.hypothesis(uri, None), self.hypothesis(uri, cell), self.uem.get(uri))
        table = find_changes(
            self.references[uri], *sides, self.scoring.collar, self.scoring.skip_overlap
        ).rename(columns={"change": "kind"})
        nobody = pd.Series([None] * len(table), dtype=object)
        return table.assign(reference_speaker=nobody, hypothesis_speaker=nobody)

    def turns(self, uri: str) -> pd.DataFrame:
        """Reference turns."""
        return find_turns(self.references[uri])

    def duration(self, uri: str) -> float:
        """How long a recording is (s), as far as features and reference show."""
        return recording_duration(self.features[uri], self.references[uri])


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Results of a grid and everything that is said about them."""

    results: pd.DataFrame
    default_results: pd.DataFrame  # one row per recording
    table: CellTable
    choice: Choice
    plateaus: pd.DataFrame
    stable: StableCell | None
    cards: tuple[EffectCard, ...]
    noise: pd.DataFrame | None  # as `summarise_stability` returns it
    notices: tuple[Notice, ...]

    @classmethod
    def of(cls, study: GridStudy, results: pd.DataFrame) -> Found:
        """All that follows from the results of `study`."""
        default = study.default
        as_it_is = pd.DataFrame(index=range(1))  # the base may lack a parameter that only another method has
        rows = [study.sweep_of(uri).evaluate(as_it_is) for uri in study.uris]
        defaults = pd.concat(rows, ignore_index=True)
        table = CellTable.of(results, study.grid.names)
        choice = choose(table, default, default_results=defaults)
        plateaus = find_plateaus(table)
        best = {uri: study.sweep_of(uri).hypothesis(table.values(choice.best)) for uri in table.uris}
        return cls(
            results=results,
            default_results=defaults,
            table=table,
            choice=choice,
            plateaus=plateaus,
            stable=choose_stable(plateaus, admissible=choice.admissible) if choice.admissible.any() else None,
            cards=effect_cards(table, default),
            noise=None if study.stability is None else summarise_stability(study.stability),
            notices=find_warnings(table, choice.best, hypotheses=best),
        )

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        return choice_words(self.choice, self.plateaus, self.noise, self.stable)

    @cached_property
    def default_table(self) -> pd.DataFrame:
        """The default's results, indexed by recording."""
        return self.default_results.set_index("uri")


def recording_duration(features: AnyFeatures, reference: Annotation | None) -> float:
    """End of the last chunk, segment or turn, in seconds."""
    if isinstance(features, SegmentFeatures):
        end = float(features.segments[:, 1].max(initial=0.0))
    else:
        end = float(features.chunks.start_of(len(features.segmentations) - 1)) + features.chunks.duration
    return max(end, 0.0 if reference is None else float(reference.get_timeline().extent().end))


def _audio(audio: Any) -> dict[str, Path]:
    if audio is None:
        return {}
    if isinstance(audio, Mapping):
        return {uri: Path(path) for uri, path in audio.items()}
    return find_recordings([audio] if isinstance(audio, str | Path) else audio)
