"""Systems scored on the same recordings under one convention, each answer computed once and kept."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.audio import audio_duration, find_recordings
from workbench.errors import InputError
from workbench.rttm import read_rttms, read_uem
from workbench.scoring import DiarizationCounts, score
from workbench.scoring.breakdown import By, breakdown, confusion_matrix
from workbench.scoring.comparison import SystemComparison, compare_files, der_interval
from workbench.scoring.references import require_references
from workbench.scoring.regions import find_errors, find_longest_errors, match_speakers
from workbench.scoring.significance import Interval
from workbench.timeline import find_turns

Annotations = Mapping[str, Annotation]
SIDES = ("reference_speaker", "hypothesis_speaker")


@dataclass(frozen=True, kw_only=True)
class ScoringParams:
    """How errors are counted."""

    collar: float = 0.0  # s left out on each side of a reference boundary
    skip_overlap: bool = False  # leave out the time in which several reference speakers talk


@dataclass(frozen=True, kw_only=True, eq=False)
class SystemScore:
    """One system on all recordings."""

    system: str
    recordings: pd.DataFrame  # indexed by uri: total, correct, missed, false_alarm, confusion, errors, der
    counts: DiarizationCounts  # pooled
    interval: Interval  # of the pooled DER
    unit: str  # what the interval takes for independent: `recording`, or a block of time


@dataclass(frozen=True, kw_only=True, eq=False)
class HypothesisView:
    """One system on one recording."""

    system: str
    turns: pd.DataFrame
    matching: Mapping[Hashable, Hashable]  # hypothesis -> reference speaker
    errors: pd.DataFrame  # as `find_errors` returns them
    confusion: pd.DataFrame  # as `confusion_matrix` returns it
    counts: DiarizationCounts


class Review:
    """References, the systems to look at, and what they are scored on.

    Parameters
    ----------
    references : RTTM file, folder of them, or uri -> Annotation
    systems : name -> RTTM file, folder of them, or uri -> Annotation
    audio : files and folders of recordings, or uri -> path, optional
    uem : UEM file, or uri -> Timeline, optional
        Regions that are scored; recordings that it does not name are left out.

    Attributes
    ----------
    uris : recordings that are scored
    remarks : what is worth knowing about references and hypotheses, in words
    """

    def __init__(
        self,
        references: str | Path | Annotations,
        systems: Mapping[str, str | Path | Annotations],
        audio: str | Path | list[str | Path] | Mapping[str, Path] | None = None,
        uem: str | Path | Mapping[str, Timeline] | None = None,
    ):
        if not systems:
            raise InputError("there is no system to look at; give systems={'name': hypotheses}")
        self.references = _read(references)
        self.systems = {name: _read(hypotheses) for name, hypotheses in systems.items()}
        self.uem = read_uem(uem) if isinstance(uem, str | Path) else uem
        self.audio = _find(audio)
        durations = {uri: audio_duration(path) for uri, path in self.audio.items() if uri in self.references}
        self.remarks: list[str] = []
        for name, hypotheses in self.systems.items():
            found = require_references(self.references, hypotheses, self.uem, durations)
            self.remarks += [f"{name}: {finding}" for finding in found]
        self.uris = [uri for uri in sorted(self.references) if self.uem is None or uri in self.uem]
        if not self.uris:
            raise InputError("the UEM names none of the recordings of the reference; compare their names")
        self._durations = durations
        self._kept: dict[tuple[object, ...], object] = {}

    def _hypotheses(self, system: str) -> dict[str, Annotation]:
        """Those that a reference names; the others, remarked on, cannot be right or wrong."""
        return {uri: each for uri, each in self.systems[system].items() if uri in self.references}

    def duration(self, uri: str) -> float:
        """Duration of the audio, else the last moment that anyone speaks or that is scored (s)."""
        if uri in self._durations:
            return self._durations[uri]
        ends = [self.references[uri].get_timeline().extent().end]
        ends += [
            hypotheses[uri].get_timeline().extent().end
            for hypotheses in self.systems.values()
            if uri in hypotheses
        ]
        if self.uem is not None:
            ends.append(self.uem[uri].extent().end)
        return max(ends)

    @property
    def num_turns(self) -> int:
        """Turns of all recordings and systems: how much there is to score."""
        sides = [self.references, *self.systems.values()]
        return sum(len(annotation) for side in sides for annotation in side.values())

    def score(self, system: str, params: ScoringParams) -> SystemScore:
        """Counts of every recording, their sum, and how sure it is."""
        return self._once(("score", system, params), lambda: self._score(system, params))

    def _score(self, system: str, params: ScoringParams) -> SystemScore:
        sides = (self.references, self._hypotheses(system), self.uem, params.collar, params.skip_overlap)
        table = breakdown(*sides, by="recording").set_index("uri")
        kinds = ("total", "correct", "missed", "false_alarm", "confusion")
        interval, unit = der_interval(*sides)
        return SystemScore(
            system=system,
            recordings=table,
            counts=DiarizationCounts(**{kind: float(table[kind].sum()) for kind in kinds}),
            interval=interval,
            unit=unit,
        )

    def view(self, system: str, uri: str, params: ScoringParams) -> HypothesisView:
        """One system on one recording: its turns, whom they are matched to, every error."""
        return self._once(("view", system, uri, params), lambda: self._view(system, uri, params))

    def _view(self, system: str, uri: str, params: ScoringParams) -> HypothesisView:
        reference, hypothesis = self.references[uri], self.systems[system].get(uri, Annotation(uri=uri))
        regions = None if self.uem is None else self.uem[uri]
        sides = (reference, hypothesis, regions, params.collar, params.skip_overlap)
        return HypothesisView(
            system=system,
            turns=find_turns(hypothesis),
            matching=match_speakers(*sides),
            errors=find_errors(*sides),
            confusion=confusion_matrix(*sides),
            counts=score(*sides),
        )

    def turns(self, uri: str) -> pd.DataFrame:
        """Reference turns of a recording."""
        return self._once(("turns", uri), lambda: find_turns(self.references[uri]))

    def breakdown(self, system: str, params: ScoringParams, by: By, uri: str | None = None) -> pd.DataFrame:
        """`scoring.breakdown` of one recording, or of all of them."""
        return self._once(
            ("breakdown", system, params, by, uri), lambda: self._breakdown(system, params, by, uri)
        )

    def _breakdown(self, system: str, params: ScoringParams, by: By, uri: str | None) -> pd.DataFrame:
        references, hypotheses = self.references, self._hypotheses(system)
        if uri is not None:
            references, hypotheses = (
                {uri: side[uri]} if uri in side else {} for side in (references, hypotheses)
            )
        return breakdown(references, hypotheses, self.uem, params.collar, params.skip_overlap, by=by)

    def errors(self, system: str, params: ScoringParams, uri: str | None = None) -> pd.DataFrame:
        """Errors of one recording, or of all of them, longest first."""
        table = self._once(
            ("errors", system, params),
            lambda: find_longest_errors(
                self.references, self._hypotheses(system), self.uem, params.collar, params.skip_overlap
            ),
        )
        return table if uri is None else table[table["uri"] == uri].reset_index(drop=True)

    def compare(self, first: str, second: str, params: ScoringParams) -> SystemComparison:
        """System `second` (B) against `first` (A)."""
        return self._once(
            ("compare", first, second, params),
            lambda: compare_files(
                self.references,
                self.systems[first],
                self.systems[second],
                self.uem,
                params.collar,
                params.skip_overlap,
            ),
        )

    def changes(self, first: str, second: str, params: ScoringParams, uri: str | None = None) -> pd.DataFrame:
        """What `second` (B) fixed and broke, longest first: columns as of `errors`.

        The kind is `fixed` or `broken`; the speakers are those of the longest error of A that was fixed
        there, or of B that came up.
        """
        table = self._once(("changes", first, second, params), lambda: self._changes(first, second, params))
        return table if uri is None else table[table["uri"] == uri].reset_index(drop=True)

    def _changes(self, first: str, second: str, params: ScoringParams) -> pd.DataFrame:
        table = self.compare(first, second, params).changes.rename(columns={"change": "kind"})
        table["duration"] = table["end"] - table["start"]
        table["reference_speaker"] = table["hypothesis_speaker"] = None
        table = table[["uri", "start", "end", "duration", "kind", *SIDES]].astype(
            dict.fromkeys(SIDES, object)
        )
        for uri, kind in table[["uri", "kind"]].drop_duplicates().to_numpy(dtype=object):
            rows = (table["uri"] == uri) & (table["kind"] == kind)
            errors = self.errors(first if kind == "fixed" else second, params, uri)
            table.loc[rows, list(SIDES)] = _speakers_behind(table[rows], errors)
        return table.sort_values("duration", ascending=False, ignore_index=True, kind="stable")

    def is_known(self, what: str, *key: object) -> bool:
        """Whether an answer has been computed already."""
        return (what, *key) in self._kept

    def _once(self, key, compute):
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def filter_errors(
    errors: pd.DataFrame,
    *,
    kind: str | None = None,
    min_duration: float = 0.0,
    speaker: Hashable | None = None,
) -> pd.DataFrame:
    """The errors of one kind, of some duration (s), that a speaker of either side has a part in.

    Parameters
    ----------
    errors : as `Review.errors` returns them
    kind, speaker : None for all of them

    Examples
    --------
    >>> errors = pd.DataFrame({"duration": [2.0, 0.5], "kind": ["missed", "confusion"],
    ...                        "reference_speaker": ["A", "B"], "hypothesis_speaker": [None, "x"]})
    >>> filter_errors(errors, speaker="x")["kind"].tolist()
    ['confusion']
    """
    kept = errors["duration"] >= min_duration
    if kind is not None:
        kept &= errors["kind"] == kind
    if speaker is not None:
        kept &= (errors["reference_speaker"] == speaker) | (errors["hypothesis_speaker"] == speaker)
    return errors[kept].reset_index(drop=True)


def _speakers_behind(changes: pd.DataFrame, errors: pd.DataFrame) -> np.ndarray:
    """Both speakers of the error that shares the most time with each change, shape (num_changes, 2)."""
    found = np.full((len(changes), 2), None, dtype=object)
    errors = errors.reset_index(drop=True).sort_values("start", kind="stable")
    starts, ends = errors["start"].to_numpy(dtype=float), errors["end"].to_numpy(dtype=float)
    speakers = errors[list(SIDES)].to_numpy(dtype=object)
    place = errors.index.to_numpy()  # errors come longest first, and of equals the longest is meant
    # Only errors that begin before the end of a change, and not those all over before its start.
    reach = np.maximum.accumulate(ends) if len(ends) else ends
    sides = changes[["start", "end"]].to_numpy(dtype=float)
    first = np.searchsorted(reach, sides[:, 0], side="right")
    last = np.searchsorted(starts, sides[:, 1], side="left")
    for row, (start, end) in enumerate(sides):
        near = slice(first[row], last[row])
        shared = np.minimum(ends[near], end) - np.maximum(starts[near], start)
        if len(shared) and shared.max() > 0:
            best = np.flatnonzero(shared == shared.max())
            found[row] = speakers[near][best[place[near][best].argmin()]]
    return found


def _read(source: str | Path | Annotations) -> dict[str, Annotation]:
    return read_rttms(source) if isinstance(source, str | Path) else dict(source)


def _find(audio: str | Path | list[str | Path] | Mapping[str, Path] | None) -> dict[str, Path]:
    if audio is None:
        return {}
    if isinstance(audio, Mapping):
        return {uri: Path(path) for uri, path in audio.items()}
    return find_recordings([audio] if isinstance(audio, str | Path) else audio)
