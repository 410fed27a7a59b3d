"""What a parity run gives back: typed, frozen, and with counts that add over recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.adequacy import Adequacy
from workbench.agreement.conditions import ConditionsTable
from workbench.agreement.diagnosis import first_divergence
from workbench.agreement.findings import Finding
from workbench.agreement.flips import add_tables, class_name
from workbench.agreement.length_ladder import LengthLadder
from workbench.agreement.ranking import Damage, rank
from workbench.agreement.recording_result import RecordingParity, count_numbers, name_ders
from workbench.agreement.repeatability import Repeatability
from workbench.agreement.statistics import DifferenceStatistics
from workbench.scoring import DiarizationCounts

_OUTPUTS = ("log_probs", "embedding")  # the last stages


@dataclass(frozen=True, kw_only=True, eq=False)
class ParityResult:
    """Both sides over all recordings.

    Attributes
    ----------
    baseline, candidate : what was compared, as runtime strings
    recordings : dict, uri -> RecordingParity, in the order they were given
    failed : (uri, error) of those that could not be compared
    findings : of the runtimes as such: geometries, repeatability, lengths
    adequacy : whether agreement on this input means anything
    """

    baseline: str
    candidate: str
    kind: str
    near_tie: float
    classes: tuple[tuple[int, ...], ...]
    recordings: Mapping[str, RecordingParity]
    failed: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    adequacy: Adequacy
    repeatability: Mapping[str, Repeatability] = field(default_factory=dict)
    ladder: LengthLadder | None = None
    conditions: Mapping[str, ConditionsTable] = field(default_factory=dict)
    backend: str = ""  # what followed the segmentation

    @cached_property
    def compared(self) -> list[RecordingParity]:
        """Recordings that could be compared."""
        return [each for each in self.recordings.values() if each.compared]

    @cached_property
    def statistics(self) -> DifferenceStatistics:
        """Of all recordings together."""
        return sum((each.statistics for each in self.compared), DifferenceStatistics())

    @cached_property
    def flips(self) -> pd.DataFrame:
        """Those of all recordings, with a column `uri`."""
        tables = [each.flips.assign(uri=each.uri) for each in self.compared if len(each.flips)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Flips of all recordings by transition, boundary, overlap and edge."""
        return add_tables([dict(each.tables) for each in self.compared if each.tables])

    @cached_property
    def damage(self) -> Damage:
        """Recordings, worst first."""
        rows = [
            {
                "uri": each.uri,
                "frames": each.num_frames,
                "flips": each.num_flips,
                "real": each.num_real,
                "max_abs_diff": each.statistics.max_abs,
            }
            for each in self.compared
        ]
        return rank(pd.DataFrame(rows, columns=["uri", "frames", "flips", "real", "max_abs_diff"]))

    @property
    def num_frames(self) -> int:
        """Frames that were compared."""
        return sum(each.num_frames for each in self.compared)

    @property
    def num_flips(self) -> int:
        """Frames whose best class differs."""
        return sum(each.num_flips for each in self.compared)

    @property
    def num_real(self) -> int:
        """Flips with a margin above a near-tie."""
        return sum(each.num_real for each in self.compared)

    @property
    def flip_rate(self) -> float:
        """Flips over frames, pooled; NaN where nothing was compared."""
        return self.num_flips / self.num_frames if self.num_frames else float("nan")

    @property
    def overall(self) -> dict[str, Any]:
        """The contract's row of all recordings together."""
        row: dict[str, Any] = self.to_json()["overall"]
        return row

    @property
    def bound_holds(self) -> bool:
        """Whether every flip has a margin of at most twice the difference of its frame."""
        return bool(self.flips["within_bound"].all()) if len(self.flips) else True

    @cached_property
    def all_findings(self) -> list[Finding]:
        """Those of the runtimes, and every kind of those of recordings once, with how many show it."""
        found = list(self.findings)
        # a side whose answers change has no stage at which it differs
        changing = any(f.kind in ("state_leak", "not_repeatable", "batch_dependent") for f in self.findings)
        grouped: dict[tuple[str, str, str], list[tuple[str, Finding]]] = {}
        for each in self.recordings.values():
            for finding in each.findings:
                known = any(f.words == finding.words for f in self.findings)
                if not known and not (changing and finding.details.get("stage") in _OUTPUTS):
                    grouped.setdefault((finding.kind, finding.side, finding.severity), []).append(
                        (each.uri, finding)
                    )
        for cases in grouped.values():
            uri, first = cases[0]
            where = uri if len(cases) == 1 else f"{uri} and {len(cases) - 1} more"
            alone = len(self.recordings) == 1
            found.append(
                Finding(
                    kind=first.kind,
                    words=first.words if alone else f"{first.words} [{where}]",
                    severity=first.severity,
                    side=first.side,
                    details=dict(first.details) | {"recordings": [name for name, _ in cases]},
                )
            )
        return found

    @cached_property
    def cross(self) -> DiarizationCounts | None:
        """Counts of the candidate's outputs against the baseline's, pooled."""
        counts = [each.consequences.cross for each in self.compared if each.consequences is not None]
        return sum(counts, DiarizationCounts()) if counts else None

    @cached_property
    def counts(self) -> tuple[DiarizationCounts | None, DiarizationCounts | None]:
        """Counts of both sides against the references, pooled over the recordings that have one."""
        both = [
            (each.consequences.baseline_counts, each.consequences.candidate_counts)
            for each in self.compared
            if each.consequences is not None
        ]
        first = [b for b, c in both if b is not None and c is not None]
        second = [c for b, c in both if b is not None and c is not None]
        if not first:
            return None, None
        return sum(first, DiarizationCounts()), sum(second, DiarizationCounts())

    @property
    def verdict(self) -> str:
        """One or two sentences: how much differs, whether it was close, what it costs."""
        if not self.compared:
            return "Nothing could be compared."
        if self.kind == "embedding":
            cosines = np.concatenate([e.embeddings.cosine for e in self.compared if e.embeddings is not None])
            lowest = f"{cosines.min():.6f}" if len(cosines) else "undefined"
            return (
                f"{len(cosines):,} embeddings compared: lowest cosine {lowest}, largest difference "
                f"{self.statistics.max_abs:.3g}."
            )
        flips, frames, real = self.num_flips, self.num_frames, self.num_real
        if flips:
            text = (
                f"{percent(self.flip_rate)} of frames flip ({flips:,} of {frames:,}): {flips - real:,} "
                f"near-tie{'' if flips - real == 1 else 's'}, {real:,} real."
            )
            if not self.adequacy.adequate:
                text += f" The input shows little: {'; '.join(self.adequacy.problems)}."
        elif not self.adequacy.adequate:
            text = (
                f"No frame of {frames:,} flips, which proves nothing: {'; '.join(self.adequacy.problems)}. "
                "Compare on speech of several speakers."
            )
        else:
            text = f"100 % of frames agree (none of {frames:,} flips)."
        text += f" Largest difference {self.statistics.max_abs:.3g}."
        if self.cross is not None and self.cross.total:
            text += f" Cross-DER {percent(self.cross.der)}"
            first, second = self.counts
            if first is not None and second is not None:
                text += f", DER {100 * first.der:.2f} → {100 * second.der:.2f} %"
            text += "."
        if not self.bound_holds:
            text += (
                " Some flips have a margin above twice the difference, which cannot be: the arrays are wrong."
            )
        return text

    def exceeded(self, max_flip_rate: float | None = None, max_diff: float | None = None) -> list[str]:
        """Limits and conditions that were not kept, in words; without anything compared no limit is kept."""
        over = [
            finding.words
            for table in self.conditions.values()
            for finding in table.findings
            if finding.severity == "fault"  # what ran is not what was asked for
        ]
        if max_flip_rate is not None and not self.flip_rate <= max_flip_rate and self.kind == "segmentation":
            over.append(f"flip rate {percent(self.flip_rate)} is above the limit of {percent(max_flip_rate)}")
        if max_diff is not None and not (self.compared and self.statistics.max_abs <= max_diff):
            over.append(
                f"largest difference {self.statistics.max_abs:.3g} is above the limit of {max_diff:g}"
            )
        if (max_flip_rate is not None or max_diff is not None) and not self.adequacy.adequate:
            over.append(f"the input cannot show that limits are kept: {'; '.join(self.adequacy.problems)}")
        return over

    def to_json(self) -> dict[str, Any]:
        """The report of the contract, and more."""
        overall = count_numbers(
            self.statistics,
            self.flips,
            self.num_frames,
            sum(each.multilabel_flips for each in self.compared),
            segmentation=self.kind == "segmentation" and bool(self.compared),
        )
        firsts = [(f, e) for e in self.recordings.values() if (f := first_divergence(e.stages)) is not None]
        earliest = min(firsts, key=lambda pair: pair[1].stages.index(pair[0]), default=None)
        counts_of = {
            name: {getattr(each, f"frame_count_{name}") for each in self.recordings.values()}
            for name in ("baseline", "candidate")
        }
        overall |= {
            "rtf_baseline": self._rtf("rtf_baseline"),
            "rtf_candidate": self._rtf("rtf_candidate"),
            "first_divergence": None
            if earliest is None
            else {"stage": earliest[0].stage, "max_abs_diff": earliest[0].max_abs_diff},
            **{
                f"frame_count_{name}": found.pop() if len(found) == 1 else None
                for name, found in counts_of.items()
            },
            "bound_holds": self.bound_holds,
        }
        if self.cross is not None:
            overall["cross_der"] = self.cross.der if self.cross.total else None
            overall |= name_ders(*self.counts)
        return {
            "baseline": self.baseline,
            "candidate": self.candidate,
            "kind": self.kind,
            "verdict": self.verdict,
            "near_tie": self.near_tie,
            "recordings": {uri: each.to_json() for uri, each in self.recordings.items()},
            "overall": overall,
            "findings": [finding.to_json() for finding in self.all_findings],
            "adequacy": self.adequacy.to_json(),
            "damage": self.damage.to_json(),
            "tables": self._tables(),
            "repeatability": {side: each.to_json() for side, each in self.repeatability.items()},
            "length_ladder": None if self.ladder is None else self.ladder.to_json(),
            "conditions": {side: each.to_dict() for side, each in self.conditions.items()},
            "backend": self.backend,
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
        }

    def _tables(self) -> dict[str, Any]:
        """Tables with names instead of numbers of classes."""
        tables = {name: table.to_dict("records") for name, table in self.tables.items()}
        for row in tables.get("transition", []):
            row |= {name: class_name(self.classes[row[name]]) for name in ("baseline", "candidate")}
        return tables

    def _rtf(self, name: str) -> float | None:
        """Pooled over recordings: one sum, then one division."""
        timed = [(getattr(e, name), e.duration) for e in self.compared if getattr(e, name) is not None]
        duration = sum(seconds for _, seconds in timed)
        return sum(rtf * seconds for rtf, seconds in timed) / duration if duration else None


def percent(rate: float) -> str:
    """A fraction in per cent, with the digits that it needs: what is not zero never reads as zero.

    Examples
    --------
    >>> percent(0.0042), percent(0.00001), percent(0)
    ('0.42 %', '0.001 %', '0.00 %')
    """
    if rate and abs(rate) < 5e-5:
        return f"{100 * rate:.1g} %"
    return f"{100 * rate:.2f} %"
