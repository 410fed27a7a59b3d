"""How sure a pooled error rate is, and whether two systems differ.

The unit is the recording, for errors within one hang together; where there is one recording only, a
block of time. A pooled rate is a ratio of sums, so recordings weigh by the speech they hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammaln, ndtr, ndtri, stdtr, stdtrit  # scipy.stats takes a second to import

Verdict = Literal["better", "worse", "no difference shown", "cannot tell"]

_EXACT_UP_TO = 14  # units: all 2**14 sign patterns are few enough to go through
_BLOCKS_TO_JOIN = 24  # of one recording: fewer are not joined to wider ones
_POWER = 0.8  # with which the minimum detectable difference would be found


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Confidence interval of a rate or a difference of rates, as fractions."""

    estimate: float
    low: float  # NaN where there are too few units
    high: float
    level: float
    num_units: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """System B against system A on the same recordings; differences are B less A, negative is better."""

    der_a: float  # pooled, fractions
    der_b: float
    difference: Interval  # of the pooled DER
    p_permutation: float  # swapping A and B per unit, on the pooled difference
    p_bootstrap: float  # resampling units, on the pooled difference
    p_t: float  # paired t test on the DER of the units
    p_wilcoxon: float  # signed ranks of the DER of the units
    cohens_d: float  # mean difference of the units' DER over its standard deviation
    minimum_detectable: float  # pooled difference found with a power of 80 % at this noise
    smallest_p: float  # that the permutation test can reach with these units
    num_units: int
    unit: str  # `recording`, or what a block of time is called
    alpha: float
    verdict: Verdict

    @property
    def words(self) -> str:
        """The result as a sentence."""
        found = self.difference
        points, low, high = (f"{100 * value:+.2f}" for value in (found.estimate, found.low, found.high))
        noun, *rest = self.unit.split(" ", 1)
        units = " ".join([f"{self.num_units} {noun}{'' if self.num_units == 1 else 's'}", *rest])
        if self.verdict == "cannot tell":
            return (
                f"cannot tell: {points} points, but from {units} no p below {self.smallest_p:.3g} is "
                f"possible; at least {units_needed(self.alpha)} are needed"
            )
        outcome = {
            "better": "B is better",
            "worse": "B is worse",
            "no difference shown": "no difference shown",
        }[self.verdict]
        level = f"{100 * self.difference.level:g} %"
        sentence = (
            f"{outcome}: {points} points [{low}, {high}] ({level}), p = {self.p_permutation:.2g} "
            f"(paired permutation, {units})"
        )
        if self.verdict == "no difference shown":
            sentence += f"; about {100 * self.minimum_detectable:.2f} points could be detected"
        return sentence


def units_needed(alpha: float = 0.05) -> int:
    """Fewest units with which swapping can reach a two-sided p of `alpha` or less.

    Examples
    --------
    >>> units_needed(0.05)
    6
    """
    return 1 + math.ceil(-math.log2(alpha))


def pooled_interval(
    errors: np.ndarray,
    totals: np.ndarray,
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of a pooled rate: units are drawn again, sums are divided.

    It is the expanded percentile interval of Hesterberg, "What Teachers Should Know About the
    Bootstrap", 2015: quantiles are taken as far out as Student's t demands for so many units, without
    which intervals from few recordings are too narrow.

    Parameters
    ----------
    errors, totals : float arrays, shape (num_units,), in seconds
        Errors may be differences of errors.
    """
    errors, totals = _units(errors, totals)
    num_units = len(errors)
    everything = totals.sum()
    estimate = float(errors.sum() / everything) if everything else math.nan
    if num_units < 2 or not everything:
        return Interval(estimate=estimate, low=math.nan, high=math.nan, level=level, num_units=num_units)
    rates = _resample(errors, totals, num_resamples, seed)
    effective = _effective(totals)
    if effective <= 1:
        return Interval(estimate=estimate, low=math.nan, high=math.nan, level=level, num_units=num_units)
    tail = float(ndtr(_expansion(effective) * stdtrit(num_units - 1, (1 - level) / 2)))
    low, high = np.quantile(rates, [tail, 1 - tail])
    return Interval(estimate=estimate, low=float(low), high=float(high), level=level, num_units=num_units)


def compare_systems(
    errors_a: np.ndarray,
    errors_b: np.ndarray,
    totals: np.ndarray,
    *,
    unit: str = "recording",
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Test whether system B errs differently from system A.

    Parameters
    ----------
    errors_a, errors_b : float arrays, shape (num_units,), in seconds
        Missed, false alarm and confusion together, unit by unit.
    totals : float array, shape (num_units,), in seconds
        Speaker time of the reference.
    unit : name of a unit
    level : of the interval; 1 - `level` is the bound for p

    Returns
    -------
    comparison : Comparison
        The verdict is that of the permutation test, which assumes nothing but that A and B could be
        exchanged. It is `cannot tell` where there are too few units for it to reject at all.
    """
    errors_a, totals = _units(errors_a, totals)
    errors_b, _ = _units(errors_b, totals)
    difference = errors_b - errors_a
    num_units, everything, alpha = len(totals), float(totals.sum()), 1 - level
    interval = pooled_interval(difference, totals, level=level, num_resamples=num_resamples, seed=seed)
    spoken = totals > 0  # a unit's own DER needs speech
    per_unit = difference[spoken] / totals[spoken]
    p_permutation = permutation_p(difference, seed=seed)
    smallest = min(1.0, 2.0 ** (1 - num_units))
    if num_units < units_needed(alpha):
        verdict: Verdict = "cannot tell"
    elif p_permutation <= alpha:
        verdict = "better" if interval.estimate < 0 else "worse"
    else:
        verdict = "no difference shown"
    return Comparison(
        der_a=float(errors_a.sum()) / everything if everything else math.nan,
        der_b=float(errors_b.sum()) / everything if everything else math.nan,
        difference=interval,
        p_permutation=p_permutation,
        p_bootstrap=bootstrap_p(difference, totals, num_resamples=num_resamples, seed=seed),
        p_t=_t_p(per_unit),
        p_wilcoxon=_wilcoxon_p(per_unit),
        cohens_d=_cohens_d(per_unit),
        minimum_detectable=minimum_detectable_difference(difference, totals, alpha=alpha),
        smallest_p=smallest,
        num_units=num_units,
        unit=unit,
        alpha=alpha,
        verdict=verdict,
    )


def permutation_p(difference: np.ndarray, *, num_resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of the pooled difference when A and B are swapped unit by unit.

    Swapping changes the sign of a unit's `difference` (s), and nothing of the speech that the pooled
    difference is divided by. All patterns up to 14 units, random ones beyond.
    """
    difference = np.asarray(difference, dtype=np.float64)
    difference = difference[difference != 0]  # swapping equals changes nothing
    num_units = len(difference)
    if not num_units:
        return 1.0
    observed = abs(difference.sum())
    tolerance = 1e-9 * np.abs(difference).sum()  # equal sums may differ in the last bit
    if num_units <= _EXACT_UP_TO:
        patterns = (
            np.arange(2 ** (num_units - 1))[:, None] >> np.arange(num_units) & 1
        )  # the rest mirrors them
        sums = np.abs((1 - 2 * patterns) @ difference)
        return float(np.mean(sums >= observed - tolerance))
    signs = np.random.default_rng(seed).integers(0, 2, (num_resamples, num_units)) * 2 - 1
    hits = np.count_nonzero(np.abs(signs @ difference) >= observed - tolerance)
    return (hits + 1) / (num_resamples + 1)


def bootstrap_p(
    difference: np.ndarray, totals: np.ndarray, *, num_resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p of the pooled difference: one minus the level at which `pooled_interval` leaves out 0."""
    difference, totals = _units(difference, totals)
    effective = _effective(totals)
    if effective <= 1 or not difference.any():
        return 1.0
    rates = _resample(difference, totals, num_resamples, seed)
    tail = min(np.count_nonzero(rates <= 0), np.count_nonzero(rates >= 0))
    z = max(-float(ndtri((tail + 1) / (num_resamples + 2))), 0.0)
    return float(2 * stdtr(len(totals) - 1, -z / _expansion(effective)))


def minimum_detectable_difference(
    difference: np.ndarray, totals: np.ndarray, *, alpha: float = 0.05, power: float = _POWER
) -> float:
    """Pooled difference (fraction) that these units would show with the given power; NaN below 2 units.

    From the standard error of the ratio of sums (linearised) and Student's t. Units of unequal weight
    have less freedom than their number says, and a spread that is estimated from few comes out small:
    both are corrected for.
    """
    difference, totals = _units(difference, totals)
    effective = _effective(totals)
    if len(totals) < 2 or effective <= 1:
        return math.nan
    weights = totals / totals.sum()
    squares = float(weights @ weights)
    residual = (difference - difference.sum() * weights) / totals.sum()
    # what remains of the spread once each unit is compared with a mean that it is a part of
    remains = 1 - 2 * float(weights @ weights**2) / squares + squares
    freedom = effective - 1
    bias = math.sqrt(2 / freedom) * math.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2))
    error = math.sqrt(float(residual @ residual) / remains) / bias
    return float(-(stdtrit(freedom, alpha / 2) + stdtrit(freedom, 1 - power)) * error)


def find_block_width(errors: np.ndarray, totals: np.ndarray) -> int:
    """How many neighbouring blocks of a recording make one unit, so that units hardly depend on the next.

    Errors last: where the deviation from the pooled rate goes on into the next block, tests that take
    blocks for independent reject too often. Blocks are joined, two by two, until that is over or only
    a dozen would be left.

    Parameters
    ----------
    errors, totals : float arrays, shape (num_blocks,), in seconds
        Errors may be differences of errors.
    """
    errors, totals = _units(errors, totals)
    everything = totals.sum()
    deviation = errors - (errors.sum() / everything if everything else 0.0) * totals
    width = 1
    while len(deviation) >= _BLOCKS_TO_JOIN:
        power = float(deviation @ deviation)
        following = float(deviation[1:] @ deviation[:-1])  # lag-1 autocorrelation, times the power
        if following <= 0.5 * power / math.sqrt(len(deviation)):
            break
        deviation = join_blocks(deviation, 2)
        width *= 2
    return width


def join_blocks(values: np.ndarray, width: int) -> np.ndarray:
    """Sums of `width` neighbours; the last may have fewer.

    Examples
    --------
    >>> join_blocks(np.array([1.0, 2.0, 3.0]), 2)
    array([3., 3.])
    """
    return np.add.reduceat(values, np.arange(0, len(values), width)) if len(values) else values


def _units(errors: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    errors, totals = np.asarray(errors, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if errors.ndim != 1 or errors.shape != totals.shape:
        raise ValueError(
            "errors and totals must have one number per unit each, "
            f"got shapes {errors.shape} and {totals.shape}"
        )
    if not (np.isfinite(errors).all() and np.isfinite(totals).all() and (totals >= 0).all()):
        raise ValueError("errors and totals must be finite seconds, totals not negative")
    return errors, totals


def _resample(errors: np.ndarray, totals: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    """Pooled rates of units drawn with replacement, shape (num_resamples,)."""
    num_units = len(errors)
    drawn = np.random.default_rng(seed).integers(0, num_units, (num_resamples, num_units))
    sums = totals[drawn].sum(axis=1)
    return errors[drawn].sum(axis=1) / np.where(sums > 0, sums, np.inf)


def _effective(totals: np.ndarray) -> float:
    """Units of equal weight that would be as good (Kish): long recordings among short ones count less."""
    everything = float(totals.sum())
    return everything**2 / float(totals @ totals) if everything else 0.0


def _expansion(num_units: float) -> float:
    """How much wider than the bootstrap's the spread of a mean of so many units is estimated."""
    return math.sqrt(num_units / (num_units - 1))


def _t_p(values: np.ndarray) -> float:
    if len(values) < 2 or np.ptp(values) == 0:
        return math.nan if len(values) < 2 or values.any() else 1.0
    t = float(values.mean() / (np.std(values, ddof=1) / math.sqrt(len(values))))
    return float(2 * stdtr(len(values) - 1, -abs(t)))


def _wilcoxon_p(values: np.ndarray) -> float:
    from scipy import stats

    differing = values[values != 0]
    return float(stats.wilcoxon(differing).pvalue) if len(differing) else 1.0


def _cohens_d(values: np.ndarray) -> float:
    if len(values) < 2:
        return math.nan
    spread = float(np.std(values, ddof=1))
    if spread == 0:
        return 0.0 if not values.any() else math.copysign(math.inf, float(values.mean()))
    return float(values.mean()) / spread
