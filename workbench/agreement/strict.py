"""Everything set for exact equality, and what remains all the same.

One runtime run twice can be made equal to the last bit. Two engines cannot: they add the same numbers in
another order, and float32 sums depend on it. What is left is measured against the same network in double
precision: where both sides are as far from it as from each other, rounding is all there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.conditions import ConditionsTable, observe_conditions
from workbench.agreement.findings import Finding
from workbench.agreement.layers import layer_ladder
from workbench.runtimes import Runtime, RuntimeSpec, load_runtime, parse_spec
from workbench.runtimes.spec import with_options
from workbench.types import Geometry, Kind

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "torch": {"threads": "1", "tf32": "0", "deterministic": "1", "dtype": "fp32", "denormal": "keep"},
    "onnx": {
        "threads": "1",
        "tf32": "0",
        "deterministic": "1",
        "optimization": "none",
        "denormal": "keep",
    },
    "recorded": {},
}
"""What `strict` sets, by engine. Batches of one come from `OneByOne`."""

_ROUNDING = 20  # times the error against double precision that a difference of two roundings may have


def strict(spec: str | RuntimeSpec) -> RuntimeSpec:
    """The same runtime with every option set that exact equality needs; device and providers stay.

    Examples
    --------
    >>> str(strict("onnx:m.onnx?threads=4&providers=cpu"))
    'onnx:m.onnx?threads=1&providers=cpu&tf32=0&deterministic=1&optimization=none&denormal=keep'
    """
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    return with_options(parsed, OPTIONS[parsed.engine])


class OneByOne:
    """A runtime that is fed waveforms one at a time, so that no result depends on its neighbours.

    Parameters
    ----------
    wrapped : the runtime
    """

    def __init__(self, wrapped: Runtime):
        self.wrapped = wrapped

    def __str__(self) -> str:
        return str(self.wrapped)

    @property
    def kind(self) -> Kind:
        """Which of `segment` and `embed` it can do."""
        return self.wrapped.kind

    @property
    def geometry(self) -> Geometry | None:
        """How a segmentation model sees time and speakers; None for embedding models."""
        return self.wrapped.geometry

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that `segment` or `embed` accepts."""
        return self.wrapped.min_num_samples

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        """Log-probabilities (batch, frames, classes) of waveforms (batch, samples)."""
        return np.concatenate([self.wrapped.segment(each[None]) for each in np.asarray(waveforms)])

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Embeddings of waveforms (batch, samples), one per mask where masks are given."""
        rows = range(len(waveforms))
        parts = [
            self.wrapped.embed(waveforms[i : i + 1], None if masks is None else masks[i : i + 1])
            for i in rows
        ]
        return np.concatenate(parts)

    def stages(self, waveforms: np.ndarray, **more: Any) -> dict[str, np.ndarray]:
        """Arrays on the way from waveform to output by name, in the order of computation."""
        given = more.pop("given", None) or {}
        parts = []
        for i in range(len(waveforms)):
            if given:
                more["given"] = {name: array[i : i + 1] for name, array in given.items()}
            parts.append(self.wrapped.stages(waveforms[i : i + 1], **more))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def load_strict(spec: str | RuntimeSpec, kind: Kind | None = None) -> Runtime:
    """A runtime under `strict`, fed one by one; recorded ones are what they are."""
    changed = strict(spec)
    runtime = load_runtime(changed, kind)
    return runtime if changed.engine == "recorded" else OneByOne(runtime)


@dataclass(frozen=True, kw_only=True)
class Remainder:
    """One comparison under strict conditions."""

    name: str
    exact: bool  # not a bit differs
    max_abs_diff: float
    why: str  # in words


@dataclass(frozen=True, kw_only=True)
class StrictReport:
    """What strict conditions achieved, and what remains and why."""

    baseline: str
    candidate: str
    rows: tuple[Remainder, ...]
    conditions: tuple[ConditionsTable, ...] = ()

    def table(self) -> pd.DataFrame:
        """One row per comparison: name, exact, max_abs_diff, why."""
        return pd.DataFrame([asdict(row) for row in self.rows], columns=list(Remainder.__dataclass_fields__))

    def __getitem__(self, name: str) -> Remainder:
        """The row of a comparison."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def findings(self) -> list[Finding]:
        """What remains, as notes; what should be exact and is not, as a fault."""
        found = [finding for table in self.conditions for finding in table.findings]
        for row in self.rows:
            if row.exact:
                continue
            repeat = row.name.endswith("repeated")
            found.append(
                Finding(
                    kind="strict_not_repeatable" if repeat else "strict_remainder",
                    words=f"{row.name}: differs by up to {row.max_abs_diff:.3g}: {row.why}",
                    severity="fault" if repeat else "note",
                    details=asdict(row),
                )
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "baseline": self.baseline,
            "candidate": self.candidate,
            "options": {engine: dict(options) for engine, options in OPTIONS.items() if options},
            "rows": [asdict(row) for row in self.rows],
            "conditions": [table.to_dict() for table in self.conditions],
        }


def strict_report(
    baseline: str | RuntimeSpec,
    candidate: str | RuntimeSpec,
    waveforms: np.ndarray,
    *,
    kind: Kind | None = None,
    other_threads: int = 2,
) -> StrictReport:
    """Run both sides under strict conditions and measure what is left.

    Parameters
    ----------
    baseline, candidate : runtime strings of models that can be run
    waveforms : float array, shape (batch, num_samples), in [-1, 1)
    kind : which of the models of a hub-layout folder
    other_threads : number of threads that each side is also run with, to see whether it matters
    """
    specs = (strict(baseline), strict(candidate))
    rows = []
    outputs = []
    sides = []
    for name, spec in zip(("baseline", "candidate"), specs, strict=True):
        runtime = load_strict(spec, kind)
        first, again = _run(runtime, waveforms), _run(runtime, waveforms)
        rows.append(_repeated(name, first, again))
        afresh = _run(load_strict(spec, kind), waveforms)
        rows.append(_row(f"{name} loaded anew", first, afresh, "the file is read into the same network"))
        more = with_options(spec, {"threads": str(other_threads)})
        threaded = _run(OneByOne(load_runtime(more, kind)), waveforms)
        why = f"{other_threads} threads share sums in another way than one; strict therefore takes one"
        rows.append(_row(f"{name} with {other_threads} threads", first, threaded, why))
        together = _run(load_runtime(spec, kind), waveforms)
        why = "sums over a batch may be blocked in another way; strict therefore feeds one by one"
        rows.append(_row(f"{name} in a batch of {len(waveforms)}", first, together, why))
        outputs.append(first)
        sides.append(runtime)
    rows.append(_between_engines(specs, (sides[0], sides[1]), (outputs[0], outputs[1]), waveforms))
    return StrictReport(
        baseline=str(specs[0]),
        candidate=str(specs[1]),
        rows=tuple(rows),
        conditions=tuple(observe_conditions(side, waveforms[:1]) for side in sides),
    )


def _run(runtime: Runtime, waveforms: np.ndarray) -> np.ndarray:
    return np.array(
        runtime.segment(waveforms) if runtime.kind == "segmentation" else runtime.embed(waveforms)
    )


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(one.astype(np.float64) - other)).max(initial=0.0))


def _row(name: str, one: np.ndarray, other: np.ndarray, why: str) -> Remainder:
    """A comparison; the reason counts where something differs."""
    exact = bool(np.array_equal(one, other, equal_nan=True))
    return Remainder(name=name, exact=exact, max_abs_diff=_difference(one, other), why="" if exact else why)


def _repeated(name: str, first: np.ndarray, again: np.ndarray) -> Remainder:
    why = "something in it is random, or remembers; no setting here can mend that"
    return _row(f"{name} repeated", first, again, why)


def _between_engines(
    specs: tuple[RuntimeSpec, RuntimeSpec],
    sides: tuple[Runtime, Runtime],
    outputs: tuple[np.ndarray, np.ndarray],
    waveforms: np.ndarray,
) -> Remainder:
    """What remains between the two sides, judged by double precision where torch can give it."""
    name = "baseline against candidate"
    if np.array_equal(outputs[0], outputs[1], equal_nan=True):
        return _row(name, outputs[0], outputs[1], "")
    largest = _difference(outputs[0], outputs[1])
    if specs[0].engine == specs[1].engine:
        why = "the two are different models, or files of different precision"
    else:
        why = "the engines add the same numbers in different orders and with different kernels"
    piece = {"first": waveforms[:1]}
    first = layer_ladder(sides[0], sides[1], piece, tolerance=0.0, own_errors=False).first_divergence
    if first is not None:
        why += f"; the first stage with other bits is {first.stage} ({first.max_abs_diff:.2g})"
    exact = _exact(sides, waveforms)
    if exact is None or exact.shape != outputs[0].shape or exact.shape != outputs[1].shape:
        why += "; no side gives double precision to judge by"
        return Remainder(name=name, exact=False, max_abs_diff=largest, why=why)
    errors = [_difference(exact, output) for output in outputs]
    said = (
        f"against double precision the baseline is off by {errors[0]:.2g}, the candidate by {errors[1]:.2g}"
    )
    if max(errors) <= _ROUNDING * max(min(errors), 1e-7):
        why = f"{why}; {said}: both are as near to the exact result, so this is rounding"
    else:
        worse = ("baseline", "candidate")[int(errors[1] > errors[0])]
        why = f"{said}: this is no rounding, the {worse} computes something else"
    return Remainder(name=name, exact=False, max_abs_diff=largest, why=why)


def _exact(sides: tuple[Runtime, Runtime], waveforms: np.ndarray) -> np.ndarray | None:
    """The output in double precision of the first side that is torch's."""
    for side in sides:
        runtime: Any = getattr(side, "wrapped", side)
        if hasattr(runtime, "network"):
            from workbench.runtimes.torch_conditions import exact_output

            parts = [exact_output(runtime, each[None]) for each in waveforms]
            found = [part for part in parts if part is not None]
            return np.concatenate(found) if len(found) == len(parts) else None
    return None
