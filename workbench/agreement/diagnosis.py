"""Where two networks part, and what kind of fault looks like that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.statistics import DifferenceStatistics

STAGE_TOLERANCE = 1e-4
"""Largest difference of a stage, relative to its largest value (at least 1), that rounding explains."""

_FRONT_END = ("fbank", "wav_norm")  # stages before the network proper
_OUTPUT = "log_probs"
_GROWTH = 30  # times that rounding may grow from the first product to the output
_LOUD = (2.0**15, 2.0**31)  # full scales that samples are wrongly multiplied or divided by
_FLOAT16, _BFLOAT16 = 2.0**-11, 2.0**-8  # rounding of a number with 11 and 8 significant bits


@dataclass(frozen=True, kw_only=True)
class StageDifference:
    """How far one stage lies apart."""

    stage: str
    max_abs_diff: float
    relative_max: float  # over the baseline's largest value, at least 1
    relative_rms: float
    bias: float  # mean of candidate - baseline
    shape_baseline: tuple[int, ...]
    shape_candidate: tuple[int, ...]

    @property
    def over_tolerance(self) -> bool:
        """Whether rounding cannot explain it."""
        return not self.relative_max <= STAGE_TOLERANCE

    def to_json(self) -> dict[str, object]:
        """As reports have it."""
        return {
            "stage": self.stage,
            "max_abs_diff": self.max_abs_diff,
            "relative_max": self.relative_max,
            "relative_rms": self.relative_rms,
            "shape_baseline": list(self.shape_baseline),
            "shape_candidate": list(self.shape_candidate),
        }


_FLOOR = 1e-3  # how far above its smallest value a feature is no longer cut off
_ABOVE_FLOOR = 0.01  # share of features that must be, to tell the level from them


def compare_stages(
    baseline: Mapping[str, np.ndarray], candidate: Mapping[str, np.ndarray]
) -> list[StageDifference]:
    """Every stage that both sides name, in the order of the baseline."""
    found = []
    for stage, mine in baseline.items():
        if stage not in candidate:
            continue
        theirs = candidate[stage]
        if mine.shape != theirs.shape:
            found.append(
                StageDifference(
                    stage=stage,
                    max_abs_diff=float("inf"),
                    relative_max=float("inf"),
                    relative_rms=float("inf"),
                    bias=float("nan"),
                    shape_baseline=mine.shape,
                    shape_candidate=theirs.shape,
                )
            )
            continue
        statistics = DifferenceStatistics.of(mine, theirs)
        finite = np.abs(mine[np.isfinite(mine)])
        found.append(
            StageDifference(
                stage=stage,
                max_abs_diff=statistics.max_abs,
                relative_max=statistics.max_abs / max(1.0, float(finite.max(initial=0.0))),
                relative_rms=statistics.relative_rms,
                bias=statistics.bias,
                shape_baseline=mine.shape,
                shape_candidate=theirs.shape,
            )
        )
    return found


def first_divergence(stages: Sequence[StageDifference]) -> StageDifference | None:
    """The first stage over tolerance, None where all agree."""
    return next((stage for stage in stages if stage.over_tolerance), None)


def explain(
    stages: Sequence[StageDifference],
    baseline: Mapping[str, np.ndarray],
    candidate: Mapping[str, np.ndarray],
    declared: str = "",
) -> list[Finding]:
    """What the first stage that differs, and the way the difference grows, says about the fault.

    `declared` is the lower precision that the candidate says it computes in; empty if it says none.
    """
    first = first_divergence(stages)
    if first is None:
        return []
    index = [stage.stage for stage in stages].index(first.stage)
    before = stages[index - 1] if index else None
    agree = (
        f"all before it agree (the last, {before.stage}, within {before.relative_max:.1e})"
        if before is not None
        else "it is the first that both sides show"
    )
    details: dict[str, object] = {
        "stage": first.stage,
        "max_abs_diff": first.max_abs_diff,
        "relative_rms": first.relative_rms,
        "before": None if before is None else before.stage,
    }
    if first.shape_baseline != first.shape_candidate:
        words = (
            f"stage {first.stage} has shape {first.shape_candidate} on the candidate's side and "
            f"{first.shape_baseline} on the baseline's; {agree}"
        )
        if order := _other_axes(baseline[first.stage], candidate[first.stage]):
            words += f": the same values with axes in the order {order}"
        return [Finding(kind="stage_shape", words=words, side="candidate", details=details)]
    if first.stage == "fbank" and (found := _front_end(baseline["fbank"], candidate["fbank"], details)):
        return [found]
    later = [stage.relative_rms for stage in stages[index:]]
    # a stage of the network that agrees rules out a precision that holds for the whole network
    at_start = all(stage.stage in _FRONT_END for stage in stages[:index])
    steady = bool(np.isfinite(later).all()) and max(later) < _GROWTH * max(later[0], 1e-12)
    rounded = precision_of(candidate[first.stage]) if not precision_of(baseline[first.stage]) else ""
    level = f"{later[0]:.1e} of its size"
    if rounded:
        words = f"the candidate's stage {first.stage} is rounded to {rounded} ({level}); {agree}"
        return [Finding(kind="precision", words=words, side="candidate", details=details)]
    if declared and first.stage not in _FRONT_END and steady:
        words = f"the candidate computes in {declared}, and differs from stage {first.stage} on ({level})"
        words += f"; {agree}"
        details["declared"] = declared
        return [Finding(kind="precision", words=words, severity="warning", side="candidate", details=details)]
    if at_start and steady and later[0] < 2 * _BFLOAT16 and first.stage not in _FRONT_END:
        bits = "bfloat16 (8 bits)" if later[0] > 2 * _FLOAT16 else "float16 or TF32 (11 bits)"
        if len(stages) == 1:
            words = (
                f"only the outputs are known on both sides; they differ by {level}, which {bits} "
                "would explain, and so would slightly other weights, or dither: record both with --stages "
                "all to tell"
            )
        else:
            words = (
                f"the difference starts at stage {first.stage}, the first of the network, at {level} and "
                f"stays at that level ({max(later):.1e} at most): as lower precision does, {bits}; {agree}"
            )
        return [Finding(kind="precision", words=words, side="candidate", details=details)]
    if len(stages) == 1 and first.stage == _OUTPUT:
        words = (
            f"only the outputs are known on both sides; they differ by up to {first.max_abs_diff:.3g}, "
            f"{level}: other weights, another computation, or other samples or features (record both with "
            "--stages all to tell)"
        )
        return [Finding(kind="weights", words=words, side="candidate", details=details)]
    front = first.stage in _FRONT_END
    cause = (
        "another front end (window, dither, scaling, or samples that are shifted)"
        if front
        else f"other weights or another computation in {first.stage}"
    )
    words = (
        f"the sides part at stage {first.stage}: up to {first.max_abs_diff:.3g}, {level}; {agree}: {cause}"
    )
    return [Finding(kind="front_end" if front else "weights", words=words, side="candidate", details=details)]


def _other_axes(baseline: np.ndarray, candidate: np.ndarray) -> tuple[int, ...] | None:
    """The baseline's axis for every one of the candidate's, where nothing else differs."""
    if baseline.ndim != candidate.ndim or sorted(baseline.shape) != sorted(candidate.shape):
        return None
    for order in permutations(range(baseline.ndim)):
        turned = baseline.transpose(order)
        if turned.shape == candidate.shape and np.allclose(turned, candidate, rtol=1e-3, atol=1e-3):
            return order
    return None


def precision_of(values: np.ndarray) -> str:
    """`float16` or `bfloat16` where all values have that few bits, else an empty string."""
    values = np.asarray(values, dtype=np.float32)
    finite = values[np.isfinite(values)]
    finite = finite[np.abs(finite) > 1e-4]  # float16 has fewer bits below
    if len(np.unique(finite)) < 100:
        return ""
    if not (finite.view(np.uint32) & 0xFFFF).any():
        return "bfloat16"
    with np.errstate(over="ignore"):
        if (finite.astype(np.float16).astype(np.float32) == finite).all():
            return "float16"
    return ""


def output_precision(baseline: np.ndarray, candidate: np.ndarray) -> list[Finding]:
    """A side whose outputs are rounded to fewer bits than the other's."""
    names = {"baseline": precision_of(baseline), "candidate": precision_of(candidate)}
    if names["baseline"] == names["candidate"]:
        return []
    return [
        Finding(
            kind="precision",
            words=f"the {side}'s log-probabilities are rounded to {name}",
            severity="warning",
            side=side,
            details={"dtype": name},
        )
        for side, name in names.items()
        if name
    ]


def _front_end(baseline: np.ndarray, candidate: np.ndarray, details: dict[str, object]) -> Finding | None:
    """Features that differ by a constant: samples of another scale, or no mean subtraction."""
    difference = candidate.astype(np.float64) - baseline
    spread, offset = float(np.nanstd(difference)), float(np.nanmean(difference))
    if spread <= 1e-2 and abs(offset) < max(_FLOOR, spread):
        return None  # features that have lost their mean have lost their level with it
    if abs(offset) < 20 * spread and spread > 1e-2:
        # log energies are cut off below: what one side has at its floor says nothing about the level
        above = (baseline > np.nanmin(baseline) + _FLOOR) & (candidate > np.nanmin(candidate) + _FLOOR)
        if above.mean() < _ABOVE_FLOOR:
            return None
        spread, offset = float(np.std(difference[above])), float(np.mean(difference[above]))
        if abs(offset) < max(_FLOOR, 20 * spread):  # the same above the floors: another floor
            return None
    gains = {"natural logarithms": float(np.exp(offset / 2)), "decibels": float(10 ** (offset / 20))}
    known = [
        f"samples scaled by {1 / full:.3g}" if gain < 1 else f"samples scaled by {full:.0f}"
        for gain in gains.values()
        for full in _LOUD
        if abs(max(gain, 1 / gain) / full - 1) < 0.05
    ]
    scale = known[0] if known else " or ".join(f"{g:.4g} ({unit})" for unit, g in gains.items())
    words = f"the features differ by a constant of {offset:+.3f}: the front end hears another level, {scale}"
    gain = gains["decibels"]
    return Finding(
        kind="front_end", words=words, side="candidate", details=details | {"offset": offset, "gain": gain}
    )
