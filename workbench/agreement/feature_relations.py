"""What simple thing turns one front end's features into another's: units, scale, order, shift, floor.

Nothing is assumed about how either was made, so this works for any filter bank, and for dumps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_LEFT = 0.02  # share of the difference (rms) that an explanation may leave
_MOST_SHIFT = 60  # feature frames
_MOST_FRAMES = 4000  # that are looked at
_FLOOR_SHARE = 0.002  # share of the values at the smallest one from which on it is a floor
_FLOORED = 5  # values that must lie at a floor
_UNITS = (
    (10 / np.log(10), "decibels of power instead of natural logarithms (times 10/ln 10)"),
    (np.log(10) / 10, "natural logarithms instead of decibels of power (times ln 10/10)"),
    (20 / np.log(10), "decibels of magnitude instead of natural logarithms (times 20/ln 10)"),
    (np.log(10) / 20, "natural logarithms of magnitude instead of decibels (times ln 10/20)"),
    (1 / np.log(10), "decimal logarithms instead of natural ones (times 1/ln 10)"),
    (np.log(10), "natural logarithms instead of decimal ones (times ln 10)"),
    (1 / np.log(2), "binary logarithms instead of natural ones (times 1/ln 2)"),
    (np.log(2), "natural logarithms instead of binary ones (times ln 2)"),
    (10.0, "decibels instead of decimal logarithms (times 10)"),
    (0.1, "decimal logarithms instead of decibels (times 1/10)"),
    (2.0, "power instead of magnitude (times 2), or decibels of magnitude taken for power"),
    (0.5, "magnitude instead of power (times 1/2)"),
)


@dataclass(frozen=True, kw_only=True)
class FeatureRelation:
    """What turns the baseline's features into the candidate's."""

    cause: str  # a word for programs, such as `units`
    words: str
    residual: float  # largest difference that it leaves, in the candidate's unit
    details: dict[str, Any] = field(default_factory=dict)


def relate_features(
    baseline: np.ndarray, candidate: np.ndarray, frame_step: float = 0.01
) -> FeatureRelation | None:
    """The relation of two sets of features of one shape; None where it is no simple one.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (batch, num_frames, num_mels)
    frame_step : s

    Examples
    --------
    >>> fbank = np.random.default_rng(0).normal(-5, 3, (1, 200, 80))
    >>> print(relate_features(fbank, 10 / np.log(10) * fbank).words)
    decibels of power instead of natural logarithms (times 10/ln 10)
    >>> relate_features(fbank, np.roll(fbank, 3, axis=1)).words
    'late by 3 frames (30 ms)'
    """
    if baseline.shape != candidate.shape or baseline.ndim != 3 or not baseline.size:
        return None
    one, other = (each[:, :_MOST_FRAMES].astype(np.float64) for each in (baseline, candidate))
    if not (np.isfinite(one).all() and np.isfinite(other).all()) or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    tests: Sequence[Callable[[np.ndarray, np.ndarray, float], FeatureRelation | None]] = (
        _floor,
        _shifted,
        _linear,
        _bands,
        _added,
        _by_band,
        _standardised,
    )
    return next((found for test in tests if (found := test(one, other, frame_step)) is not None), None)


def _shifted(one: np.ndarray, other: np.ndarray, frame_step: float) -> FeatureRelation | None:
    num_frames = one.shape[1]
    before = _rms(other - one)
    best, left = 0, before
    for lag in range(-min(_MOST_SHIFT, num_frames // 3), min(_MOST_SHIFT, num_frames // 3) + 1):
        first, last = max(0, -lag), min(num_frames, num_frames - lag)
        remains = _rms(other[:, first + lag : last + lag] - one[:, first:last])
        if remains < left:
            best, left = lag, remains
    if not best or left > _LEFT * before:
        return None
    number = f"{abs(best)} frame{'s' * (abs(best) > 1)} ({1000 * abs(best) * frame_step:.4g} ms)"
    details = {"frames": best, "milliseconds": 1000 * best * frame_step}
    return FeatureRelation(
        cause="shift", words=f"{'late' if best > 0 else 'early'} by {number}", residual=left, details=details
    )


def _linear(one: np.ndarray, other: np.ndarray, _step: float) -> FeatureRelation | None:
    """One factor and one offset for all values that neither side has cut off."""
    kept = ~(_at_floor(one) | _at_floor(other))
    if kept.mean() < 0.05:
        return None
    factor, offset = _fit(one[kept], other[kept])
    left = np.abs(other - factor * one - offset)[kept]
    if _rms(left) > _LEFT * _rms((other - one)[kept]):
        return None
    named = next((words for known, words in _UNITS if abs(factor / known - 1) < 2e-3), "")
    words = named or (f"the same times {factor:.5g}" if abs(factor - 1) > 1e-3 else "")
    if abs(offset) > 1e-3 * max(1.0, float(np.std(other))):
        words += f"{', and' if words else 'the same'} plus {offset:.4g}"
    details = {"factor": factor, "offset": offset}
    cause = "units" if named else "scale"
    return FeatureRelation(
        cause=cause, words=words or "the same", residual=float(left.max()), details=details
    )


def _bands(one: np.ndarray, other: np.ndarray, _step: float) -> FeatureRelation | None:
    if _rms(other[..., ::-1] - one) <= _LEFT * _rms(other - one):
        residual = float(np.abs(other[..., ::-1] - one).max())
        return FeatureRelation(cause="band_order", words="mel bands in reverse order", residual=residual)
    return None


def _by_band(one: np.ndarray, other: np.ndarray, _step: float) -> FeatureRelation | None:
    """A factor and an offset of every band, as normalisation by stored statistics makes them."""
    flat = [each.reshape(-1, each.shape[-1]) for each in (one, other)]
    if len(flat[0]) < 8:
        return None
    centre = [each.mean(axis=0) for each in flat]
    spread = flat[0].std(axis=0)
    factor = ((flat[0] - centre[0]) * (flat[1] - centre[1])).mean(axis=0) / np.maximum(spread**2, 1e-12)
    offset = centre[1] - factor * centre[0]
    left = flat[1] - factor * flat[0] - offset
    if _rms(left) > _LEFT * _rms(flat[1] - flat[0]):
        return None
    words = f"another offset in every band ({offset.min():.3g} to {offset.max():.3g})"
    if np.ptp(factor) > 5e-3 * np.abs(factor).mean():
        words += f" and another factor ({factor.min():.3g} to {factor.max():.3g})"
    elif abs(float(factor.mean()) - 1) > 1e-3:
        words += f" and a factor of {factor.mean():.5g}"
    words += ": a mean over time or stored statistics that only one side subtracts, or a filter"
    return FeatureRelation(
        cause="statistics",
        words=words,
        residual=float(np.abs(left).max()),
        details={"factor": factor.tolist(), "offset": offset.tolist()},
    )


def _standardised(_one: np.ndarray, other: np.ndarray, _step: float) -> FeatureRelation | None:
    """Mean zero and deviation one in every band, which nothing else gives."""
    if np.abs(other.mean(axis=1)).max() < 1e-2 and np.abs(other.std(axis=1) - 1).max() < 2e-2:
        words = "standardised over the recording: mean 0 and deviation 1 in every band"
        return FeatureRelation(cause="statistics", words=words, residual=float("nan"))
    return None


def _floor(one: np.ndarray, other: np.ndarray, _step: float) -> FeatureRelation | None:
    """Nothing but the value below which energies are cut off."""
    floors = [float(each.min()) for each in (one, other)]
    higher = max(floors)
    wrong = ~np.isclose(one, other, rtol=1e-4, atol=1e-4)
    # where the sides differ, one of them lies at the higher floor
    if floors[0] == floors[1] or not wrong.any():
        return None
    at = one if floors[0] > floors[1] else other
    if wrong.sum() < _FLOORED or not np.isclose(at[wrong], higher, rtol=1e-5, atol=1e-4).all():
        return None
    words = (
        f"cut off below at {floors[1]:.5g} instead of {floors[0]:.5g}: another floor (eps) of the energies"
    )
    return FeatureRelation(cause="floor", words=words, residual=0.0, details={"floors": floors})


def _added(one: np.ndarray, other: np.ndarray, _step: float) -> FeatureRelation | None:
    """An energy that is added before the logarithm, as `log(x + eps)` does for `log(x)`."""
    bases = (("nats", 1.0), ("dB", np.log(10) / 10), ("decimal logarithms", np.log(10)))
    for unit, to_nats in bases:
        with np.errstate(over="ignore", invalid="ignore"):
            energies = [np.exp(np.clip(each * to_nats, -80, 80)) for each in (one, other)]
        kept = energies[0] < np.quantile(energies[0], 0.5)  # where an addition is seen
        if not kept.any():  # a level that lies beyond what a logarithm undoes
            continue
        added = float(np.median((energies[1] - energies[0])[kept]))
        if added == 0:
            continue
        raised = np.maximum(energies[0] + added, 1e-38)
        left = np.log(raised) / to_nats - other
        if _rms(left) <= 3 * _LEFT * _rms(other - one):
            sign = "more" if added > 0 else "less"
            words = f"an energy of {abs(added):.3g} {sign} before the logarithm (eps, in {unit})"
            return FeatureRelation(
                cause="floor", words=words, residual=float(np.abs(left).max()), details={"energy": added}
            )
    return None


def _at_floor(values: np.ndarray) -> np.ndarray:
    at: np.ndarray = values <= values.min() + 1e-3
    return at if at.mean() >= _FLOOR_SHARE else np.zeros_like(at)


def _fit(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Slope and offset of least squares."""
    mean = float(one.mean())
    factor = float(((one - mean) * other).sum() / max(float(((one - mean) ** 2).sum()), 1e-30))
    return factor, float(other.mean()) - factor * mean


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
