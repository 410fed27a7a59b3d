"""Which stage is to blame: the pipeline run with every stage from either side, in all combinations.

With five stages there are 32 outputs per recording, but a stage whose input is the same as before runs only
once. The change of the error from the baseline to the candidate is split over the stages by Shapley's
shares, which do not depend on the order in which stages are exchanged; what two faults do only together is
named as an interaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Segment, Timeline

from workbench.errors import InputError, RecordingError
from workbench.manifest import digest_arrays
from workbench.scoring import DiarizationCounts, score
from workbench.scoring.regions import find_changes
from workbench.steps.shapley import Coalition, coalitions, interactions, shapley_shares
from workbench.steps.stages import STAGES, SideStages, Source
from workbench.types import Features

NOTABLE = 0.05
"""Interactions below this share of everything that moved are not spoken of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingSwap:
    """All combinations on one recording.

    Attributes
    ----------
    players : stages that differ between the sides
    outputs : set of stages taken from the candidate -> Annotation
    counts : the same -> error counts against the reference (without one, against the baseline's output)
    regions : DataFrame, one row per stretch in which baseline and candidate err differently: start, end (s),
        seconds (of error the candidate makes more, negative where it is better), one column per player with
        its share of them, `cause`: the player with the largest one
    features : features of the baseline, and with the candidate's embeddings where these differ
    """

    uri: str
    players: tuple[str, ...]
    outputs: Mapping[Coalition, Annotation]
    counts: Mapping[Coalition, DiarizationCounts]
    regions: pd.DataFrame
    features: tuple[Features, Features] | None = None

    @property
    def values(self) -> dict[Coalition, float]:
        """Seconds of error of every combination."""
        return {each: _errors(counts) for each, counts in self.counts.items()}

    @property
    def total(self) -> float:
        """Seconds of reference speech."""
        return self.counts[frozenset()].total

    @property
    def change(self) -> float:
        """Seconds of error that the candidate makes more than the baseline."""
        return _errors(self.counts[frozenset(self.players)]) - _errors(self.counts[frozenset()])

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        values = self.values
        return {
            "der_baseline": self.counts[frozenset()].der,
            "der_candidate": self.counts[frozenset(self.players)].der,
            "total": self.total,
            "change_seconds": self.change,
            "shares_seconds": shapley_shares(values, self.players),
            "interactions_seconds": {
                " + ".join(each): value for each, value in interactions(values, self.players).items()
            },
            "combinations": [
                {
                    "from_candidate": [player for player in self.players if player in each],
                    "der": self.counts[each].der,
                    "error_seconds": value,
                }
                for each, value in values.items()
            ],
            "regions": self.regions.to_dict("records"),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapResult:
    """All recordings; seconds of error add, so shares do.

    Attributes
    ----------
    players : stages that differ; others are the same on both sides and have no share
    recordings : uri -> RecordingSwap
    failed : (uri, error)
    against_reference : False where outputs were scored against the baseline's own
    """

    baseline: str
    candidate: str
    players: tuple[str, ...]
    recordings: Mapping[str, RecordingSwap]
    failed: tuple[tuple[str, str], ...] = ()
    against_reference: bool = True

    @property
    def values(self) -> dict[Coalition, float]:
        """Seconds of error of every combination, all recordings together."""
        return {
            each: sum(recording.values[each] for recording in self.recordings.values())
            for each in coalitions(self.players)
        }

    @property
    def total(self) -> float:
        """Seconds of reference speech."""
        return sum(recording.total for recording in self.recordings.values())

    @property
    def change(self) -> float:
        """Seconds of error that the candidate makes more."""
        values = self.values
        return values[frozenset(self.players)] - values[frozenset()]

    @property
    def shares(self) -> pd.DataFrame:
        """One row per stage.

        `stage`, `seconds` (Shapley share of the change), `points` (the same, in percentage points of DER),
        `share` (fraction of the change; NaN where nothing changed), `alone` (seconds when this stage alone
        is the candidate's), `last` (seconds that it adds when all others are), `differs`.
        """
        values, change, total = self.values, self.change, self.total
        found = shapley_shares(values, self.players)
        everything = frozenset(self.players)
        rows = []
        for stage in STAGES:
            seconds = found.get(stage, 0.0)
            there = stage in found
            rows.append(
                {
                    "stage": stage,
                    "seconds": seconds,
                    "points": 100 * seconds / total if total else np.nan,
                    "share": seconds / change if abs(change) > 1e-9 else np.nan,
                    "alone": values[frozenset({stage})] - values[frozenset()] if there else 0.0,
                    "last": values[everything] - values[everything - {stage}] if there else 0.0,
                    "differs": there,
                }
            )
        return pd.DataFrame(rows)

    @property
    def interactions(self) -> pd.DataFrame:
        """What sets of stages do only together: `stages`, `seconds`, `points`; largest first."""
        total = self.total
        rows = [
            {"stages": " + ".join(each), "seconds": value, "points": 100 * value / total if total else np.nan}
            for each, value in interactions(self.values, self.players).items()
        ]
        table = pd.DataFrame(rows, columns=["stages", "seconds", "points"])
        return table.sort_values("seconds", key=np.abs, ascending=False, ignore_index=True, kind="stable")

    @property
    def notable_interactions(self) -> pd.DataFrame:
        """Those worth a word: a twentieth of everything that the stages alone and together move."""
        table = self.interactions
        moved = self.shares["alone"].abs().sum() + table["seconds"].abs().sum()
        return table[table["seconds"].abs() > max(NOTABLE * moved, 1e-6)].reset_index(drop=True)

    def waterfall(self) -> pd.DataFrame:
        """Baseline, shares of the stages that differ, candidate: `label`, `kind`, `points` of DER (%)."""
        values, total = self.values, self.total or np.nan
        rows = [("baseline", "absolute", 100 * values[frozenset()] / total)]
        rows += [
            (row["stage"], "relative", row["points"])
            for row in self.shares[self.shares["differs"]].to_dict("records")
        ]
        rows.append(("candidate", "total", 100 * values[frozenset(self.players)] / total))
        return pd.DataFrame(rows, columns=["label", "kind", "points"])

    def per_recording(self) -> pd.DataFrame:
        """One row per recording: `uri`, `change` (s) and the share (s) of every stage that differs."""
        rows = [
            {"uri": uri, "change": each.change, **shapley_shares(each.values, self.players)}
            for uri, each in self.recordings.items()
        ]
        return pd.DataFrame(rows, columns=["uri", "change", *self.players])

    @property
    def verdict(self) -> str:
        """One or two sentences."""
        if not self.recordings:
            return "Nothing was compared."
        if not self.players:
            return "Both sides are the same in every stage."
        what = "DER" if self.against_reference else "cross-DER"
        points = 100 * self.change / self.total if self.total else float("nan")
        notable = self.notable_interactions
        if abs(self.change) < 1e-9 and not len(notable):
            same = list(self.players)
            return f"{what} does not change, although {_listed(same)} differ{'s' if len(same) == 1 else ''}."
        rows = self.shares.sort_values("seconds", key=np.abs, ascending=False)
        rows = rows[rows["seconds"].abs() > max(0.01 * rows["seconds"].abs().sum(), 1e-9)]
        told = [f"{row['stage']} {row['points']:+.2f}" for row in rows.to_dict("records")]
        text = f"{what} changes by {points:+.2f} points: {', '.join(told) or 'no stage alone'}."
        if len(notable):
            pairs = [f"{row['stages']} {row['points']:+.2f}" for row in notable.head(3).to_dict("records")]
            text += f" Only together: {', '.join(pairs)}."
        return text

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        values, total = self.values, self.total
        return {
            "baseline": self.baseline,
            "candidate": self.candidate,
            "players": list(self.players),
            "against_reference": self.against_reference,
            "verdict": self.verdict,
            "overall": {
                "total": total,
                "der_baseline": values[frozenset()] / total if total else None,
                "der_candidate": values[frozenset(self.players)] / total if total else None,
                "change_seconds": self.change,
                "shares": self.shares.to_dict("records"),
                "interactions": self.interactions.to_dict("records"),
            },
            "recordings": {uri: each.to_json() for uri, each in self.recordings.items()},
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
        }


def swap_stages(
    baseline: SideStages,
    candidate: SideStages,
    recordings: Mapping[str, Source],
    *,
    references: Mapping[str, Annotation] | None = None,
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    on_recording: Callable[[str, RecordingSwap | None, str | None], None] | None = None,
) -> SwapResult:
    """Run every combination of the two sides' stages, and attribute the change of the error.

    Parameters
    ----------
    baseline, candidate : their stages
    recordings : uri -> file, or float array (num_samples,) at 16 kHz
    references : uri -> Annotation; without any, outputs are scored against the baseline's
    uem, collar, skip_overlap : as of `score`
    on_recording : called with uri, result and error
    """
    if not recordings:
        raise InputError("no recordings given to swap stages on")
    players = tuple(stage for stage in STAGES if baseline.stage(stage) != candidate.stage(stage))
    done: dict[str, RecordingSwap] = {}
    failed: list[tuple[str, str]] = []
    for uri, source in recordings.items():
        found, problem = None, None
        reference = None if references is None else references.get(uri)
        if references is not None and reference is None:
            problem = f"no reference names {uri!r}"
        else:
            how: dict[str, Any] = {"collar": collar, "skip_overlap": skip_overlap}
            regions = None if uem is None else uem.get(uri)
            try:
                runner = _Runner(uri, source, baseline, candidate)
                found = _swap_recording(runner, players, reference, regions, how)
            except RecordingError as error:
                problem = str(error)
        if found is not None:
            done[uri] = found
        if problem is not None:
            failed.append((uri, problem))
        if on_recording is not None:
            on_recording(uri, found, problem)
    return SwapResult(
        baseline=baseline.name,
        candidate=candidate.name,
        players=players,
        recordings=done,
        failed=tuple(failed),
        against_reference=references is not None,
    )


class _Runner:
    """One recording; stages run once per side and input."""

    def __init__(self, uri: str, source: Source, baseline: SideStages, candidate: SideStages):
        self.uri, self.source = uri, source
        self.sides = (baseline, candidate)
        self._known: dict[tuple[str, bool, str], tuple[Any, str]] = {}

    def output(self, chosen: Coalition) -> Annotation:
        """What comes out if the stages in `chosen` are the candidate's."""
        features, mark = self.features(chosen)
        clusters, clustered = self._run("clustering", chosen, mark, (features,))
        annotation, _ = self._run("post-processing", chosen, f"{mark} {clustered}", (features, clusters))
        result: Annotation = annotation
        return result

    def features(self, chosen: Coalition) -> tuple[Features, str]:
        """Features of a combination, and a mark of their content."""
        waveform, heard = self._run("front end", chosen, "", (self.uri, self.source))
        features, decided = self._run("segmentation", chosen, heard, (self.uri, waveform))
        embeddings, embedded = self._run(
            "embeddings", chosen, f"{heard} {decided}", (self.uri, waveform, features)
        )
        return replace(features, embeddings=embeddings), f"{decided} {embedded}"

    def _run(self, stage: str, chosen: Coalition, mark: str, arguments: tuple[Any, ...]) -> tuple[Any, str]:
        side = stage in chosen and self.sides[0].stage(stage) != self.sides[1].stage(stage)
        key = (stage, side, mark)
        if key not in self._known:
            result = self.sides[side].stage(stage)(*arguments)
            self._known[key] = (result, _mark(result))
        return self._known[key]


def _mark(result: Any) -> str:
    """Digest of what a stage gave, so that equal results are followed up once."""
    if isinstance(result, np.ndarray):
        return digest_arrays({"array": result})
    if isinstance(result, Features):
        axes = np.array([[w.start, w.duration, w.step] for w in (result.chunks, result.frames)])
        return digest_arrays({"segmentations": result.segmentations, "axes": axes})
    return ""  # an annotation: nothing follows


def _swap_recording(
    runner: _Runner,
    players: Sequence[str],
    reference: Annotation | None,
    uem: Timeline | Segment | None,
    how: Mapping[str, Any],
) -> RecordingSwap:
    outputs = {each: runner.output(each) for each in coalitions(players)}
    nothing, everything = frozenset[str](), frozenset(players)
    truth = outputs[nothing] if reference is None else reference
    if uem is None:  # the same stretch for all, so that their errors can be subtracted
        extent = truth.get_timeline()
        for output in outputs.values():
            extent = extent.union(output.get_timeline())
        uem = extent.extent() if len(extent) else None
    # equal outputs are one object: score each once
    distinct = {id(output): output for output in outputs.values()}
    scored = {key: score(truth, output, uem=uem, **how) for key, output in distinct.items()}
    changed = {
        key: find_changes(truth, outputs[nothing], output, uem, **how) for key, output in distinct.items()
    }
    regions = _regions(
        changed[id(outputs[everything])],
        {each: changed[id(output)] for each, output in outputs.items()},
        players,
    )
    features = None
    if "embeddings" in players:
        features = (runner.features(nothing)[0], runner.features(frozenset({"embeddings"}))[0])
    return RecordingSwap(
        uri=runner.uri,
        players=tuple(players),
        outputs=outputs,
        counts={each: scored[id(output)] for each, output in outputs.items()},
        regions=regions,
        features=features,
    )


def _regions(
    changes: pd.DataFrame, of_all: Mapping[Coalition, pd.DataFrame], players: Sequence[str]
) -> pd.DataFrame:
    """Stretches in which the error changed, with every player's share."""
    rows = []
    for start, end in zip(changes["start"].tolist(), changes["end"].tolist(), strict=True):
        values = {each: _seconds_within(table, start, end) for each, table in of_all.items()}
        shares = shapley_shares(values, players)
        cause = max(shares, key=lambda player: abs(shares[player]), default="")
        rows.append(
            {
                "start": start,
                "end": end,
                "seconds": values[frozenset(players)],
                "cause": cause,
                **shares,
            }
        )
    return pd.DataFrame(rows, columns=["start", "end", "seconds", "cause", *players])


def _seconds_within(changes: pd.DataFrame, start: float, end: float) -> float:
    """Seconds of error that were added in a stretch; negative where they were saved."""
    sign = np.where(changes["change"] == "broken", 1.0, -1.0) * changes["speakers"].to_numpy(float)
    starts, ends = changes["start"].to_numpy(float), changes["end"].to_numpy(float)
    return float(sign @ np.clip(np.minimum(ends, end) - np.maximum(starts, start), 0.0, None))


def _errors(counts: DiarizationCounts) -> float:
    return counts.missed + counts.false_alarm + counts.confusion


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
