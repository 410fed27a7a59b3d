"""Whether a runtime gives the same answer again: repeated, in another batch, after other inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.agreement.findings import Finding
from workbench.runtimes import Runtime

ROUNDING = 1e-4
"""Difference (relative to the largest value, at least 1) that another order of float32 sums explains."""

_MOST = 4  # waveforms that are tried


@dataclass(frozen=True, kw_only=True)
class Check:
    """One way of asking twice."""

    name: str  # `repeat`, `batch` or `state`
    max_abs_diff: float  # between the two answers; infinite where a value is not finite
    flips: int  # frames whose best class differs
    frames: int
    exact: bool  # not a bit differs
    passed: bool  # for `batch`: within rounding; otherwise exact
    words: str


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """What came of the checks on one side."""

    side: str
    checks: tuple[Check, ...]
    skipped: str = ""  # why nothing was checked

    @property
    def findings(self) -> list[Finding]:
        """Checks that failed."""
        kinds = {"repeat": "not_repeatable", "batch": "batch_dependent", "state": "state_leak"}
        return [
            Finding(
                kind=kinds[check.name],
                words=f"the {self.side} {check.words}",
                side=self.side,
                details={"max_abs_diff": check.max_abs_diff, "flips": check.flips, "frames": check.frames},
            )
            for check in self.checks
            if not check.passed and not (check.name == "repeat" and self._remembers)
        ]

    @property
    def _remembers(self) -> bool:
        """Whether state explains that answers change."""
        return any(check.name == "state" and not check.passed for check in self.checks)

    def to_json(self) -> dict[str, object]:
        """As reports have it."""
        return {
            **{
                check.name: {
                    "exact": check.exact,
                    "passed": check.passed,
                    "max_abs_diff": check.max_abs_diff,
                    "flips": check.flips,
                    "frames": check.frames,
                }
                for check in self.checks
            },
            **({"skipped": self.skipped} if self.skipped else {}),
        }


def check_repeatability(runtime: Runtime, waveforms: np.ndarray, side: str = "runtime") -> Repeatability:
    """Ask for the same chunks repeatedly, one by one and together, and after other chunks.

    The order of the calls tells the faults apart. `A A`: an answer that changes at once is random, or the
    runtime remembers. `A B A`: one that changes only after *another* input comes from state that B left
    behind. `A` alone against `A` in a batch: another order of sums may change the last bits, nothing more.

    Parameters
    ----------
    runtime : segmentation or embedding model that can be run
    waveforms : float array, shape (batch, num_samples), in [-1, 1)
        Chunks with speech; at least two that differ, or a second one is made by reversing the first.
    side : what the runtime is called in messages
    """
    run: Callable[[np.ndarray], np.ndarray] = (
        runtime.segment if runtime.kind == "segmentation" else runtime.embed
    )
    waveforms = np.asarray(waveforms, dtype=np.float32)[:_MOST]
    if len(waveforms) == 1 or (waveforms[0] == waveforms[1]).all():
        waveforms = np.concatenate([waveforms[:1], waveforms[:1, ::-1]])
    first, other = waveforms[:1], waveforms[1:2]
    start = np.array(run(first))
    again = [np.array(run(first)), np.array(run(first))]
    after = []
    for _ in range(2):
        run(other)
        after.append(np.array(run(first)))
    half = first.shape[1] // 2
    if half >= max(1, runtime.min_num_samples):
        try:
            run(other[:, :half])
            after.append(np.array(run(first)))
        except Exception:  # a length that it cannot take is a matter of the length ladder
            after.append(np.array(run(first)))
    random = not np.array_equal(again[0], again[1], equal_nan=True)
    changed = [each for each in after if not np.array_equal(each, again[1], equal_nan=True)]
    found = changed[0] if changed else after[0]
    # an answer that depends on what came before is the same after the same; noise never is
    same_again = _difference(after[0], after[1]) < 0.5 * _difference(again[1], after[0])
    drifts = [_difference(start, each) for each in [*again, *after]]
    builds_up = drifts[0] > 0 and drifts == sorted(drifts) and drifts[-1] > 1.5 * drifts[0]
    leaks = bool(changed) and (not random or same_again or builds_up)
    checks = [_repeat(start, again)]
    checks.append(
        _check(
            "state",
            again[1],
            found,
            passed=not leaks,
            words="remembers earlier inputs"
            + (", and drifts with every call" if builds_up else "")
            + ": the same chunk gives another answer after a different one was run (A-B-A)",
        )
    )
    together = np.array(run(waveforms))
    alone = np.concatenate([np.array(run(waveforms[i : i + 1])) for i in range(len(waveforms))])
    size = max(1.0, float(np.nanmax(np.abs(alone), initial=0.0)))
    within = alone.shape == together.shape and _difference(alone, together) <= ROUNDING * size
    checks.append(
        _check(
            "batch",
            alone,
            together,
            passed=within or random or leaks,  # those explain it already
            words=f"answers otherwise in a batch of {len(waveforms)} than one by one",
        )
    )
    return Repeatability(side=side, checks=tuple(checks))


def _repeat(start: np.ndarray, again: list[np.ndarray]) -> Check:
    differs_at_once = not np.array_equal(start, again[0], equal_nan=True)
    settles = differs_at_once and np.array_equal(again[0], again[1], equal_nan=True)
    other = again[0] if differs_at_once else again[1]
    words = "does not repeat itself: the same chunk, run again, gives another answer"
    if settles:
        words += " the first time, and settles then (state, or a warm-up that changes kernels)"
    return _check("repeat", start, other, passed=np.array_equal(start, other, equal_nan=True), words=words)


def _check(name: str, one: np.ndarray, other: np.ndarray, *, passed: bool, words: str) -> Check:
    same_shape = one.shape == other.shape
    flips = int((one.argmax(axis=-1) != other.argmax(axis=-1)).sum()) if same_shape and one.ndim == 3 else 0
    largest = _difference(one, other)
    frames = int(np.prod(one.shape[:-1]))
    said = f"{words} (differs by up to {largest:.3g}, {flips} of {frames} frames flip)"
    if not same_shape:
        said = f"{words} (shape {other.shape} instead of {one.shape})"
    return Check(
        name=name,
        max_abs_diff=largest,
        flips=flips,
        frames=frames,
        exact=bool(np.array_equal(one, other, equal_nan=True)),
        passed=bool(passed),
        words=said,
    )


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.abs(one.astype(np.float64) - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    largest = float(np.where(same, 0.0, difference).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")
