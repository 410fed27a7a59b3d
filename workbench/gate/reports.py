"""Reports of `parity`, `score`, `compare` and `benchmark` as rows of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import InputError
from workbench.gate.limits import Kind


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report as rows of numbers."""

    kind: Kind
    overall: Mapping[str, float | None]
    rows: Mapping[str, Mapping[str, float | None]]
    failed: Mapping[str, str]
    convention: Mapping[str, Any]  # what must be the same for numbers to be comparable
    remarks: tuple[str, ...] = ()


def load_report(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError.at(path, f"is not readable JSON: {error}") from None
    if not isinstance(content, Mapping):
        raise InputError.at(path, "is no report: expected a JSON object")
    return content


def read_report(report: Mapping[str, Any], name: str) -> Report:
    """The numbers of a report of any kind."""
    if "lamps" in report:
        return _read_compare(report, name)
    if "batches" in report:
        return _read_benchmark(report, name)
    if "baseline" in report and "candidate" in report and "recordings" in report:
        return _read_parity(report, name)
    if "collar" in report and "recordings" in report:
        return _read_score(report, name)
    raise InputError(
        f"{name}: is no report that the gate knows; expected the --json of parity, score or benchmark, or "
        "the report.json of compare"
    )


def _read_parity(report: Mapping[str, Any], name: str) -> Report:
    rows = {
        uri: _with_change(row, "der_baseline", "der_candidate") | _cross(row)
        for uri, row in _objects(report, "recordings", name).items()
    }
    overall = _with_change(_object(report, "overall", name), "der_baseline", "der_candidate")
    adequacy = report.get("adequacy")
    remarks: tuple[str, ...] = ()
    if isinstance(adequacy, Mapping) and adequacy.get("adequate") is False:
        # agreement on silence is no measurement
        overall = dict.fromkeys(overall)
        remarks = (f"the input shows nothing: {'; '.join(map(str, adequacy.get('problems', [])))}",)
    return Report(
        kind="parity", overall=overall, rows=rows, failed=_failed(report), convention={}, remarks=remarks
    )


def _read_score(report: Mapping[str, Any], name: str) -> Report:
    def numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
        found = _numbers(row)
        parts = [found.get(part) for part in ("missed", "false_alarm", "confusion")]
        found["errors"] = None if None in parts else sum(part for part in parts if part is not None)
        return found

    rows = {uri: numbers(row) for uri, row in _objects(report, "recordings", name).items()}
    overall = numbers(_object(report, "overall", name))
    if not overall.get("total"):
        overall = dict.fromkeys(overall)  # no speech was scored
    keys = ("collar", "skip_overlap", "convention")
    return Report(
        kind="score",
        overall=overall,
        rows=rows,
        failed=_failed(report),
        convention={key: report[key] for key in keys if key in report},
        remarks=tuple(
            f"{uri} has no hypothesis: all of its speech counts as missed"
            for uri in report.get("without_hypothesis", [])
        ),
    )


def _read_compare(report: Mapping[str, Any], name: str) -> Report:
    scores = _object(report, "scores", name)
    sides = {side: _read_score(_object(scores, side, name), f"{name}: {side}") for side in ("a", "b")}
    parity = report.get("parity")
    agreement = _read_parity(parity, name) if isinstance(parity, Mapping) else None

    def joined(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> dict[str, float | None]:
        found: dict[str, float | None] = {"total": a.get("total")}
        for side, row in (("a", a), ("b", b)):
            found |= {f"{key}_{side}": row.get(key) for key in ("der", "jer", "errors")}
        found["der_change"] = _less(b.get("der"), a.get("der"))
        return found

    overall = joined(sides["a"].overall, sides["b"].overall)
    if agreement is not None:
        overall |= {key: agreement.overall.get(key) for key in ("flip_rate", "real_flips", "max_abs_diff")}
    cross = report.get("cross")
    if isinstance(cross, Mapping):
        overall["cross_der"] = _number(cross.get("der"))
    rows = {
        uri: joined(row, sides["b"].rows[uri])
        for uri, row in sides["a"].rows.items()
        if uri in sides["b"].rows
    }
    return Report(
        kind="compare",
        overall=overall,
        rows=rows,
        failed=_failed(report),
        convention=sides["a"].convention,
        remarks=() if agreement is None else agreement.remarks,
    )


def _read_benchmark(report: Mapping[str, Any], name: str) -> Report:
    rows: dict[str, Mapping[str, float | None]] = {}
    for row in report.get("batches") or []:
        rows[f"{row.get('runtime')}, batch of {row.get('batch_size')}"] = _numbers(row)
    for row in report.get("stages") or []:
        rows[f"{row.get('runtime')}, {row.get('stage')}"] = _numbers(row)
    for runtime, row in (report.get("cold_start") or {}).items():
        rows[f"{runtime}, cold start"] = _numbers(row)
    machine = report.get("machine")
    warning = machine.get("warning") if isinstance(machine, Mapping) else None
    return Report(
        kind="benchmark",
        overall={},
        rows=rows,
        failed=_failed(report),
        convention={},
        remarks=(str(warning),) if warning else (),
    )


def _with_change(row: Mapping[str, Any], before: str, after: str) -> dict[str, float | None]:
    found = _numbers(row)
    if before in found or after in found:
        found["der_change"] = _less(found.get(after), found.get(before))
    return found


def _cross(row: Mapping[str, Any]) -> dict[str, float | None]:
    consequences = row.get("consequences")
    return {"cross_der": _number(consequences.get("cross_der"))} if isinstance(consequences, Mapping) else {}


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        key: _number(value) for key, value in row.items() if value is None or isinstance(value, int | float)
    }


def _number(value: Any) -> float | None:
    """A finite number; None for everything else, NaN among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _object(report: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any]:
    value = report.get(key)
    if not isinstance(value, Mapping):
        raise InputError(f"{name}: {key} must be a JSON object; the report is incomplete")
    return value


def _objects(report: Mapping[str, Any], key: str, name: str) -> Mapping[str, Mapping[str, Any]]:
    rows = _object(report, key, name)
    for uri, row in rows.items():
        if not isinstance(row, Mapping):
            raise InputError(f"{name}: {key}.{uri} must be a JSON object; the report is incomplete")
    return rows


def _failed(report: Mapping[str, Any]) -> dict[str, str]:
    entries: Sequence[Any] = report.get("failed") or []
    return {str(entry.get("uri")): str(entry.get("error")) for entry in entries if isinstance(entry, Mapping)}
