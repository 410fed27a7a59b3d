"""One step on two sides: values, decisions and shapes. Clusterings are compared in `partitions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from workbench.agreement.feature_relations import relate_features
from workbench.agreement.padding import what_fills
from workbench.agreement.samples import relate_samples
from workbench.steps.clock import FEATURE_STEP, SAMPLE_RATE, Clock
from workbench.steps.names import Step
from workbench.steps.results import StepDifference

_BLOCK = 1 << 22  # values that are compared at once
_UNITS = {
    "chunk": "chunks",
    "frame": "frames per chunk",
    "time_frame": "frames",
    "sample": "samples",
    "feature_frame": "feature frames per chunk",
    "class": "classes",
    "local_speaker": "local speakers",
    "dimension": "dimensions",
    "embedding": "embeddings",
    "merge": "merges",
    "speaker": "speakers",
    "segment": "segments",
    "mel": "mel bands",
}


def compare_values(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """Numbers within `absolute + relative * (largest of the row)`; decisions exactly.

    Both are NaN: the same. Only one is: different.
    """
    if baseline.shape != candidate.shape:
        return shape_difference(step, baseline, candidate, clock)
    return _elementwise(step, baseline, candidate, clock)


def compare_columns(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """Values whose columns may have the other sign, as eigenvectors have."""
    if baseline.shape != candidate.shape:
        return shape_difference(step, baseline, candidate, clock)
    turned = (np.nan_to_num(baseline) * np.nan_to_num(candidate)).sum(axis=0) < 0
    found = _elementwise(step, baseline, np.where(turned, -candidate, candidate), clock)
    return _with_note(found, f"{int(turned.sum())} columns have the other sign", turned.any())


def compare_matched(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """Values whose columns (or, of a vector, elements) may come in another order."""
    if baseline.ndim != candidate.ndim or len(baseline) != len(candidate) or baseline.ndim > 2:
        if baseline.ndim == candidate.ndim == 1:
            size = max(len(baseline), len(candidate))
            first, second = (np.pad(each, (0, size - len(each))) for each in (baseline, candidate))
            return compare_matched(step, first, second, clock)
        return shape_difference(step, baseline, candidate, clock)
    if baseline.ndim == 1:
        straight = _elementwise(step, baseline, candidate, clock)
        if straight.status != "differs":
            return straight
        return _elementwise(step, np.sort(baseline)[::-1], np.sort(candidate)[::-1], clock)
    ordered, moved = match_columns(baseline, candidate)
    width = max(baseline.shape[1], candidate.shape[1])
    padded = np.pad(baseline, ((0, 0), (0, width - baseline.shape[1])))
    return _with_note(_elementwise(step, padded, ordered, clock), "columns come in another order", moved)


def match_columns(baseline: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, bool]:
    """Candidate's columns in the order that fits the baseline's best, zeros where it has none.

    Columns left over follow. Also whether the order is another one.
    """
    first = np.nan_to_num(baseline.astype(np.float64))
    second = np.nan_to_num(candidate.astype(np.float64))
    width = max(first.shape[1], second.shape[1])
    first = np.pad(first, ((0, 0), (0, width - first.shape[1])))
    padded = np.pad(candidate, ((0, 0), (0, width - candidate.shape[1])))
    second = np.pad(second, ((0, 0), (0, width - second.shape[1])))
    distance = (first**2).sum(0)[:, None] + (second**2).sum(0)[None] - 2 * first.T @ second
    distance -= 1e-9 * np.eye(width)  # among equals, the order as it is
    _, columns = linear_sum_assignment(distance)
    return padded[:, columns], bool((columns != np.arange(width)).any())


def _elementwise(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    largest, count = 0.0, 0
    exact = True
    first: tuple[int, ...] | None = None
    low = high = np.nan
    rows = max(1, _BLOCK // max(1, baseline[:1].size))
    for begin in range(0, len(baseline), rows):
        a = np.asarray(baseline[begin : begin + rows], dtype=np.float64)
        b = np.asarray(candidate[begin : begin + rows], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            gap = np.where(a == b, 0.0, np.abs(a - b))
        gap[np.isnan(a) & np.isnan(b)] = 0.0
        gap[np.isnan(gap)] = np.inf
        exact &= not gap.any()
        largest = max(largest, float(gap.max(initial=0.0)))
        scale = np.nan_to_num(np.abs(a), posinf=0.0)
        scale = scale.max(axis=-1, keepdims=True) if a.ndim > 1 else scale
        over = np.argwhere(gap > step.absolute + step.relative * scale)
        if len(over):
            over[:, 0] += begin
            count += len(over)
            first = tuple(int(i) for i in over[0]) if first is None else first
            spans = clock.spans(step, over)
            low, high = (
                np.fmin(low, np.nanmin(spans[:, 0], initial=np.inf)),
                np.fmax(high, np.nanmax(spans[:, 1], initial=-np.inf)),
            )
    if first is None:
        words = "the same" if exact else f"differs by up to {largest:.3g}, within the tolerance"
        return StepDifference(
            step=step.name,
            status="same" if exact else "within",
            max_abs_diff=largest,
            num_values=baseline.size,
            words=words,
        )
    at = clock.spans(step, np.array([first]))[0]
    values = (float(baseline[first]), float(candidate[first]))
    place = ", ".join(f"{axis} {index}" for axis, index in zip(step.axes, first, strict=False))
    when = f" ({at[0]:.3f}–{at[1]:.3f} s)" if np.isfinite(at).all() else ""
    return StepDifference(
        step=step.name,
        status="differs",
        max_abs_diff=largest,
        num_different=count,
        num_values=baseline.size,
        index=first,
        values=values,
        at=(float(at[0]), float(at[1])) if np.isfinite(at).all() else None,
        start=_finite(low),
        end=_finite(high),
        words=(
            f"{count} of {baseline.size} values differ, by up to {largest:.3g}; the first at {place}{when}: "
            f"{values[0]:.6g} against {values[1]:.6g}{_relation(step, baseline, candidate, clock)}"
        ),
    )


def shape_difference(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """What other sizes mean, in words and milliseconds; batches that were filled up are cut."""
    if filled := _filled(step, baseline, candidate, clock):
        return filled
    words = _transposed(step, baseline, candidate)
    if words is None and baseline.ndim != candidate.ndim:
        words = (
            f"{baseline.ndim} axes against {candidate.ndim} (shapes {baseline.shape} and {candidate.shape})"
        )
    elif words is None:
        if step.axes == ("sample",) and (said := _samples(baseline, candidate, clock)):
            words = said
        words = words or "; ".join(
            _sizes(axis, a, b, clock)
            for axis, a, b in zip(step.axes, baseline.shape, candidate.shape, strict=False)
            if a != b
        )
        common = tuple(slice(0, min(a, b)) for a, b in zip(baseline.shape, candidate.shape, strict=True))
        if len([1 for a, b in zip(baseline.shape, candidate.shape, strict=True) if a != b]) == 1:
            part = _elementwise(step, baseline[common], candidate[common], clock)
            same = part.status != "differs"
            words += "; what both have is the same" if same else f"; of what both have, {part.words}"
            if not same:
                return StepDifference(**{**part.__dict__, "words": words})
    return StepDifference(
        step=step.name,
        status="differs",
        num_values=baseline.size,
        num_different=abs(baseline.size - candidate.size),
        words=words,
        details={"shape_baseline": list(baseline.shape), "shape_candidate": list(candidate.shape)},
    )


def _filled(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference | None:
    """The comparison without the chunks that filled up a batch of fixed size; None: there are none."""
    if step.axes[:1] != ("chunk",) or baseline.shape[1:] != candidate.shape[1:]:
        return None
    padding = what_fills(candidate, len(baseline))
    if not padding:
        return None
    surplus = len(candidate) - len(baseline)
    note = (
        f"{surplus} chunk{'s' * (surplus > 1)} too many with {padding}, as a batch of fixed size is filled up"
    )
    found = _elementwise(step, baseline, candidate[: len(baseline)], clock)
    return replace(
        found,
        status="within" if found.status == "same" else found.status,
        words=f"{note}; without them: {found.words}",
        details={**found.details, "padding": note},
    )


def _sizes(axis: str, baseline: int, candidate: int, clock: Clock) -> str:
    words = f"{baseline} {_UNITS.get(axis, axis)} against {candidate}"
    geometry = clock.geometry
    if geometry is None or not baseline or not candidate:
        return words
    if axis == "frame":
        drift = abs(baseline - candidate) * geometry.frame_step
        return (
            f"{words}: scale {candidate / baseline:.3f}, {1000 * geometry.chunk_duration / candidate:.3f} ms "
            f"per frame instead of {1000 * geometry.chunk_duration / baseline:.3f} if a chunk of "
            f"{geometry.chunk_duration:g} s is filled, or boundaries drift by up to {drift:.2f} s"
        )
    seconds = {
        "sample": 1 / geometry.sample_rate,
        "time_frame": geometry.frame_step,
        "chunk": geometry.chunk_step,
        "feature_frame": 0.01,
    }.get(axis)
    if seconds is None:
        return words
    sign = "longer" if candidate > baseline else "shorter"
    return f"{words}: {1000 * abs(candidate - baseline) * seconds:.1f} ms {sign}"


def _transposed(step: Step, baseline: np.ndarray, candidate: np.ndarray) -> str | None:
    """Whether the axes, or the order in memory, are another one."""
    if baseline.size != candidate.size:
        return None
    loose = Step(
        name=step.name, array=step.array, axes=step.axes, absolute=1e-6 + step.absolute, relative=1e-3
    )
    clock = Clock(geometry=None)
    if candidate.ndim == baseline.ndim:
        for order in permutations(range(baseline.ndim)):
            turned = candidate.transpose(order)
            if (
                order != tuple(range(baseline.ndim))
                and turned.shape == baseline.shape
                and _elementwise(loose, baseline, turned, clock).status != "differs"
            ):
                # axis k of the candidate is the baseline's `inverse[k]`
                inverse = np.argsort(order)
                return f"the same values with axes in the order ({', '.join(step.axes[i] for i in inverse)})"
    if _elementwise(loose, baseline, candidate.reshape(baseline.shape), clock).status != "differs":
        return f"the same values in the shape {candidate.shape} instead of {baseline.shape}"
    return None


def _samples(baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> str:
    """How one waveform is shifted, noisy, or of another rate; empty where it is not."""
    rate = clock.geometry.sample_rate if clock.geometry is not None else SAMPLE_RATE
    relation = relate_samples(baseline, candidate, rate)
    telling = relation is not None and {"rate", "noise_steps", "milliseconds"} & relation.details.keys()
    return relation.words if relation is not None and telling else ""


def _relation(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> str:
    """What turns one side into the other, where something simple does."""
    if step.axes[-1] == "mel" and (related := relate_features(baseline, candidate, FEATURE_STEP)):
        return f"; the candidate's features are {related.words}"
    if step.comparison == "decisions" or not baseline.size or baseline.size > _BLOCK:
        return ""
    a, b = np.nan_to_num(baseline.astype(float)), np.nan_to_num(candidate.astype(float))
    tests: list[tuple[str, Callable[[], np.ndarray]]] = []
    power = float((a * a).sum())
    if power > 0:
        factor = float((a * b).sum()) / power
        if abs(factor) > 1e-6 and abs(factor - 1) > 1e-3:
            tests.append((f"; the same times {factor:.6g}", lambda: b / factor))
    offset = float((b - a).mean())
    if abs(offset) > 0:
        tests.append((f"; the same plus {offset:.6g}", lambda: b - offset))
    if baseline.ndim > 1 and baseline.ndim == candidate.ndim:
        tests.append(("; the same numbers read in Fortran order", lambda: _fortran(b)))
    loose = Step(name=step.name, array=step.array, axes=step.axes, absolute=1e-7, relative=1e-3)
    spread = float(np.abs(a).max(initial=0.0))
    for words, undo in tests:
        if np.abs(a - undo()).max(initial=0.0) <= max(loose.relative * spread * 0.1, step.absolute):
            return words
    if step.axes == ("sample",) and (said := _samples(baseline, candidate, clock)):
        return f"; {said}"
    return ""


def _fortran(array: np.ndarray) -> np.ndarray:
    """The same memory, had it been written first axis fastest."""
    return array.reshape(-1).reshape(array.shape, order="F")


def _with_note(found: StepDifference, note: str, there: bool) -> StepDifference:
    if not there:
        return found
    words = f"{note}, otherwise {found.words}" if found.status != "differs" else f"{found.words}; {note}"
    return StepDifference(**{**found.__dict__, "words": words})


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
