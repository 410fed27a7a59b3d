"""Under which conditions a runtime computes: what was asked for, what was accepted, what was observed.

A setting that is accepted need not do anything (ONNX Runtime takes any session entry), and one that works on
one machine need not exist on another. So every row is *observed* by a computation: a product whose error
betrays TF32, a denormal that is halved, additions that are repeated, the profile of a run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from workbench.agreement.findings import Finding
from workbench.errors import InputError
from workbench.runtimes import Runtime
from workbench.runtimes.probes import noise

Status = Literal["holds", "contradicted", "no effect", "fell back", "not applicable", "not observed"]
"""`holds`: observed as requested. `contradicted`: observed otherwise. `no effect`: accepted, yet nothing
changes. `fell back`: runs on another provider than asked for. `not applicable`: means nothing here, such as
TF32 on a CPU; never a pass. `not observed`: cannot be seen here."""

_SECONDS = 2.0  # of the noise that the model is watched on
COLUMNS = ("condition", "requested", "accepted", "observed", "status", "note")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One row: everything in words."""

    name: str
    requested: str
    accepted: str
    observed: str
    status: Status
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ConditionsTable:
    """The conditions of one runtime; both engines have the same rows, in the same order."""

    runtime: str
    engine: str  # torch, onnx, recorded or other
    rows: tuple[Condition, ...]
    allow_fallback: bool = False

    def __getitem__(self, name: str) -> Condition:
        """The row of a condition."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def table(self) -> pd.DataFrame:
        """One row per condition: condition, requested, accepted, observed, status, note."""
        rows = [{"condition": row.name, **asdict(row)} for row in self.rows]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    @property
    def findings(self) -> list[Finding]:
        """What to say about it: faults first in the order of the rows, flags without effect as warnings."""
        found = []
        for row in self.rows:
            if row.status == "fell back" and row.name != "provider":
                continue  # it is said once
            words = f"{self.runtime}: {row.name}: requested {row.requested}, observed {row.observed}"
            words += f" ({row.note})" if row.note else ""
            if row.status == "contradicted" or (row.status == "fell back" and not self.allow_fallback):
                kind = "provider_fallback" if row.status == "fell back" else "condition_contradicted"
                found.append(Finding(kind=kind, words=words, details=asdict(row)))
            elif row.status == "fell back":
                kind = "provider_fallback"
                found.append(Finding(kind=kind, words=words, severity="warning", details=asdict(row)))
            elif row.status == "no effect":
                words = f"{self.runtime}: {row.name}: {row.requested} was accepted and has no effect"
                words += f" ({row.note})" if row.note else ""
                found.append(
                    Finding(kind="flag_without_effect", words=words, severity="warning", details=asdict(row))
                )
        return found

    @property
    def ok(self) -> bool:
        """Whether nothing was observed that contradicts what was requested."""
        return not any(finding.severity == "fault" for finding in self.findings)

    def check(self) -> None:
        """Raise an `InputError` where a provider fell back without leave or a request was contradicted."""
        faults = [finding.words for finding in self.findings if finding.severity == "fault"]
        if faults:
            raise InputError("; ".join(faults))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "runtime": self.runtime,
            "engine": self.engine,
            "ok": self.ok,
            "rows": self.table().to_dict("records"),
        }


def observe_conditions(
    runtime: Runtime, waveforms: np.ndarray | None = None, *, allow_fallback: bool | None = None
) -> ConditionsTable:
    """Requested, accepted and observed conditions of a runtime.

    Parameters
    ----------
    runtime : a runtime of any engine
    waveforms : float array, shape (batch, num_samples), in [-1, 1), optional
        What the model is watched on; two seconds of noise by default.
    allow_fallback : bool, optional
        Whether running on another provider than the first one asked for may pass. By default what the
        runtime string says (`allow_fallback=1`).

    Examples
    --------
    >>> from workbench.runtimes import load_runtime
    >>> runtime = load_runtime("onnx:models/demo/onnx/segmentation.onnx?threads=1")
    >>> observe_conditions(runtime)["tf32 products"].status
    'not applicable'
    """
    from workbench.runtimes.onnx_runtime import OnnxRuntime
    from workbench.runtimes.recorded import RecordedRuntime

    runtime = getattr(runtime, "wrapped", runtime)  # such as a runtime that is fed one by one
    options = getattr(runtime, "options", None)
    if allow_fallback is None:
        allow_fallback = bool(getattr(options, "allow_fallback", False))
    if isinstance(runtime, RecordedRuntime):
        engine, rows = "recorded", _recorded_rows(runtime)
    elif isinstance(runtime, OnnxRuntime):
        engine, rows = "onnx", _onnx_rows(runtime, _heard(runtime, waveforms))
    elif hasattr(runtime, "network"):
        engine, rows = "torch", _torch_rows(runtime, _heard(runtime, waveforms))
    else:
        engine, rows = "other", _unknown_rows(f"{type(runtime).__name__} does not say how it computes")
    return ConditionsTable(
        runtime=str(runtime), engine=engine, rows=tuple(rows), allow_fallback=allow_fallback
    )


def compare_conditions(baseline: ConditionsTable, candidate: ConditionsTable) -> pd.DataFrame:
    """Both sides' observations side by side: condition, baseline, candidate, same."""
    theirs = {row.name: row for row in candidate.rows}
    rows = [
        (row.name, row.observed, theirs[row.name].observed, row.observed == theirs[row.name].observed)
        for row in baseline.rows
        if row.name in theirs
    ]
    return pd.DataFrame(rows, columns=["condition", "baseline", "candidate", "same"])


def _heard(runtime: Runtime, waveforms: np.ndarray | None) -> np.ndarray:
    if waveforms is not None:
        return np.asarray(waveforms, dtype=np.float32)
    return noise(max(round(_SECONDS * 16000), runtime.min_num_samples))


def _torch_rows(runtime: Any, waveforms: np.ndarray) -> list[Condition]:
    from workbench.agreement.condition_rows import torch_rows
    from workbench.runtimes.torch_conditions import observe_torch

    return torch_rows(runtime.options, observe_torch(runtime, waveforms))


def _onnx_rows(runtime: Any, waveforms: np.ndarray) -> list[Condition]:
    from workbench.agreement.condition_rows import onnx_rows
    from workbench.runtimes.onnx_conditions import observe_onnx

    return onnx_rows(runtime.options, observe_onnx(runtime, waveforms))


def _recorded_rows(runtime: Any) -> list[Condition]:
    made_by = _made_by(runtime)
    rows = _unknown_rows(f"arrays recorded earlier{made_by}; nothing is computed here")
    return [
        Condition(
            name=row.name,
            requested="-",
            accepted="-",
            observed="-",
            status="not applicable",
            note=row.note,
        )
        for row in rows
    ]


def _made_by(runtime: Any) -> str:
    """What the folder says about its origin."""
    import json

    try:
        content = json.loads((runtime.folder / "geometry.json").read_text(encoding="utf-8"))
        words = [str(content[key]) for key in ("runtime", "created_by") if content.get(key)]
    except (OSError, ValueError, AttributeError):
        return ""
    return f" by {', '.join(words)}" if words else ""


def _unknown_rows(note: str) -> list[Condition]:
    from workbench.agreement.condition_rows import NAMES

    return [
        Condition(name=n, requested="-", accepted="-", observed="-", status="not observed", note=note)
        for n in NAMES
    ]
