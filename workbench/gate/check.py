"""Every number of a report against the baseline's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from workbench.errors import InputError
from workbench.gate.limits import ALWAYS, DEFAULT, PAIRED, Budget, Limit, read_budget
from workbench.gate.reports import Report, load_report, read_report
from workbench.scoring.significance import pooled_interval

Outcome = Literal["pass", "fail", "warn"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number against its limit."""

    metric: str
    where: str  # a recording, a row, or `overall`
    outcome: Outcome
    words: str
    baseline: float | None = None
    current: float | None = None
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """All checks; passes only if at least one number was measured and none fails."""

    kind: str
    report: str
    baseline: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> list[Check]:
        """What failed."""
        return [check for check in self.checks if check.outcome == "fail"]

    @property
    def warnings(self) -> list[Check]:
        """What a person should look at."""
        return [check for check in self.checks if check.outcome == "warn"]

    @property
    def passed(self) -> bool:
        """The verdict."""
        measured = any(check.current is not None for check in self.checks)
        return measured and not self.failures

    @property
    def verdict(self) -> str:
        """One sentence."""
        passed = sum(check.outcome == "pass" for check in self.checks)
        if self.passed:
            return f"passed: {passed} checks, {len(self.warnings)} warnings"
        return f"FAILED: {len(self.failures)} of {len(self.checks)} checks, {len(self.warnings)} warnings"

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        return {
            "kind": self.kind,
            "report": self.report,
            "baseline": self.baseline,
            "passed": self.passed,
            "verdict": self.verdict,
            "checks": [
                {name: getattr(check, name) for name in Check.__dataclass_fields__} for check in self.checks
            ],
        }


def check_report(
    report: Mapping[str, Any],
    baseline: Mapping[str, Any],
    budget: Budget | None = None,
    *,
    names: tuple[str, str] = ("report", "baseline"),
) -> GateResult:
    """Compare a report with the committed one of the same kind.

    Parameters
    ----------
    report, baseline : JSON reports
    budget : limits; kinds and metrics that it does not name keep the usual ones
    names : of the two, for messages

    Returns
    -------
    result : GateResult
        Reports that cannot be compared (of other kinds, scored by other conventions) are an `InputError`.
    """
    budget = budget or DEFAULT
    now, before = read_report(report, names[0]), read_report(baseline, names[1])
    if now.kind != before.kind:
        raise InputError(
            f"{names[0]} is a {now.kind} report and {names[1]} a {before.kind} report; give two of one kind"
        )
    for key, value in before.convention.items():
        if now.convention.get(key) != value:
            raise InputError(
                f"{names[0]} has {key} {now.convention.get(key)!r} and {names[1]} {value!r}; their numbers "
                "cannot be compared"
            )
    limits = budget.limits.get(now.kind) or DEFAULT.limits[now.kind]
    required = limits is not DEFAULT.limits[now.kind]
    checks: list[Check] = []
    checks += _coverage(now, before, budget)
    checks += [
        Check(metric="setting", where="overall", outcome="warn", words=remark)
        for remark in _remarks(now, before)
    ]
    measured = 0
    for metric, limit in limits.items():
        found = _checks_of(metric, limit, now, before, required)
        measured += sum(check.current is not None for check in found)
        checks += found
    if not measured:
        checks.append(
            Check(
                metric="measured",
                where="overall",
                outcome="fail",
                words="nothing was measured: the report holds none of the numbers that the budget limits",
            )
        )
    return GateResult(kind=now.kind, report=names[0], baseline=names[1], checks=tuple(checks))


def gate_files(report: Path, baseline: Path, budget: Path | None = None) -> GateResult:
    """`check_report` on files; a report is never compared with itself."""
    for path in (report, baseline):
        if not path.is_file():
            raise InputError.at(path, "no such file; expected the JSON report of a command")
    if report.resolve() == baseline.resolve() or report.samefile(baseline):
        raise InputError.at(report, "is the baseline itself; a report must be compared with an earlier one")
    return check_report(
        load_report(report),
        load_report(baseline),
        None if budget is None else read_budget(budget),
        names=(str(report), str(baseline)),
    )


def _checks_of(metric: str, limit: Limit, now: Report, before: Report, required: bool) -> list[Check]:
    """The checks of one metric; `required`: a budget names it, so that its absence is a failure."""
    if now.kind == "benchmark":
        found_rows = [
            _check(metric, limit, row, now.rows[row].get(metric), before.rows[row].get(metric))
            for row in before.rows
            if row in now.rows and metric in before.rows[row]
        ]
        if required and not found_rows:
            words = "a budget limits it, but the baseline has no such number"
            return [Check(metric=metric, where="overall", outcome="fail", words=words)]
        return found_rows
    if before.overall.get(metric) is None and now.overall.get(metric) is None:
        words = "not measured on either side"
        if required or metric in ALWAYS:
            return [Check(metric=metric, where="overall", outcome="fail", words=words)]
        there = metric in before.overall or metric in now.overall
        return [Check(metric=metric, where="overall", outcome="warn", words=words)] if there else []
    found = _check(metric, limit, "overall", now.overall.get(metric), before.overall.get(metric))
    if found.outcome == "fail" and limit.confidence is not None and found.current is not None:
        found = _with_confidence(found, limit, now, before)
    checks = [found]
    if limit.per_recording:
        checks += [
            _check(metric, limit, uri, now.rows[uri].get(metric), before.rows[uri].get(metric))
            for uri in before.rows
            if uri in now.rows
        ]
    return checks


def _check(metric: str, limit: Limit, where: str, now: float | None, before: float | None) -> Check:
    if now is None or not math.isfinite(now):
        words = f"not measured (no number), was {before:.6g}" if before is not None else "not measured"
        return Check(metric=metric, where=where, outcome="fail", words=words, baseline=before)
    if before is None or not math.isfinite(before):
        # the baseline knows nothing of it: only a ceiling can be held
        if limit.max is None:
            words = f"{now:.6g}, but the baseline has no number to compare it with"
            return Check(metric=metric, where=where, outcome="warn", words=words, current=now)
        bound = limit.max
    else:
        bound = limit.allowed(before)
    ok = now <= bound + 1e-12
    words = (
        f"{now:.6g} against {'nothing' if before is None else f'{before:.6g}'}, at most {bound:.6g} allowed"
    )
    return Check(
        metric=metric,
        where=where,
        outcome="pass" if ok else "fail",
        words=words,
        baseline=before,
        current=now,
        limit=bound,
    )


def _with_confidence(found: Check, limit: Limit, now: Report, before: Report) -> Check:
    """A growth that chance explains does not fail; one that nothing is known about does."""
    if limit.max is not None and found.current is not None and found.current > limit.max:
        return found
    name = PAIRED[found.metric]
    pairs = [
        (now.rows[uri].get(name), before.rows[uri].get(name), before.rows[uri].get("total"))
        for uri in before.rows
        if uri in now.rows
    ]
    known = [(a, b, total) for a, b, total in pairs if a is not None and b is not None and total is not None]
    low = math.nan
    if known:
        after, earlier, totals = (np.array(column, dtype=float) for column in zip(*known, strict=True))
        low = pooled_interval(after - earlier, totals, level=limit.confidence or 0.95).low
    if not math.isfinite(low):
        words = f"{found.words}; too few recordings for a confidence bound, so the growth counts"
        return Check(**{**found.__dict__, "words": words})
    words = f"{found.words}; the change is at least {100 * low:+.2f} points ({limit.confidence:.0%}, paired)"
    if low > 0:
        return Check(**{**found.__dict__, "words": words})
    return Check(**{**found.__dict__, "outcome": "warn", "words": f"{words}: may be chance"})


def _coverage(now: Report, before: Report, budget: Budget) -> list[Check]:
    """Rows that are missing, new, or failed."""
    noun = "row" if now.kind == "benchmark" else "recording"
    checks = [
        Check(
            metric="failed",
            where=uri,
            outcome="warn" if uri in before.failed else budget.failed,
            words=f"failed: {error}" + ("; it did before, too" if uri in before.failed else ""),
        )
        for uri, error in now.failed.items()
    ]
    missing = [uri for uri in before.rows if uri not in now.rows]
    lost = bool(before.rows) and len(missing) == len(before.rows)
    checks += [
        Check(
            metric="missing",
            where=uri,
            outcome="fail" if lost else budget.missing,
            words=f"the baseline has this {noun}, the report has not",
        )
        for uri in missing
    ]
    checks += [
        Check(metric="new", where=uri, outcome="warn", words=f"the baseline has no such {noun}: not compared")
        for uri in now.rows
        if uri not in before.rows
    ]
    return checks


def _remarks(now: Report, before: Report) -> list[str]:
    return [remark for remark in now.remarks] + [f"baseline: {remark}" for remark in before.remarks]
