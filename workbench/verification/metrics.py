"""Error rates of scored trials: EER, minDCF, ROC-AUC, and the curves behind them.

Higher scores speak for the same speaker, and a trial is accepted from a threshold on: `score >=
threshold`. Definitions are those of the NIST scoring scripts, which WeSpeaker uses, but that
trials of equal score are accepted or rejected together, as scikit-learn has it: an order among
them would be an accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from workbench.errors import InputError

PRIORS = (0.001, 0.01, 0.05)
"""Probabilities of a target that minDCF is given for: SRE 2010, SRE 2008 and WeSpeaker, VoxSRC."""


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """How often targets are missed and others accepted, at every threshold that makes a difference.

    Attributes
    ----------
    thresholds : float64 array, shape (num_points,)
        Ascending: all distinct scores, then infinity, where nothing is accepted.
    miss : float64 array, shape (num_points,)
        Share of the targets that score below the threshold; from 0 to 1.
    false_alarm : float64 array, shape (num_points,)
        Share of the other trials that reach the threshold; from 1 to 0.
    """

    thresholds: np.ndarray
    miss: np.ndarray
    false_alarm: np.ndarray


def error_rates(scores: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> ErrorRates:
    """Rates at all thresholds.

    Parameters
    ----------
    scores : float array, shape (num_trials,)
    target : bool array, shape (num_trials,)
        Whether both sides are the same speaker.
    weights : float array, shape (num_trials,), optional
        How often each trial counts; once by default.
    """
    scores, target = np.asarray(scores, dtype=np.float64), np.asarray(target, dtype=bool)
    if scores.ndim != 1 or scores.shape != target.shape:
        raise ValueError(f"scores and target must be of one length, got {scores.shape} and {target.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite; leave out trials that could not be scored")
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    mass = weights[target].sum(), weights[~target].sum()
    if min(mass) <= 0:
        raise InputError(
            f"error rates take trials of both kinds, found {int(target.sum())} of the same speaker "
            f"and {int((~target).sum())} of different ones"
        )
    thresholds, place = np.unique(scores, return_inverse=True)
    below = np.stack(
        [
            np.concatenate([[0.0], np.cumsum(np.bincount(place, weights * kind, len(thresholds)))])
            for kind in (target, ~target)
        ]
    )
    below /= below[:, -1:]  # of all of its kind; ends in exactly 1
    return ErrorRates(np.append(thresholds, np.inf), below[0], 1 - below[1])


def equal_error_rate(rates: ErrorRates) -> tuple[float, float]:
    """The rate at which misses and false alarms are equally frequent, and the score where that is.

    Between the two operating points on either side, both rates change linearly (as in the NIST
    scripts and in WeSpeaker). The score is the highest one that has to be rejected for misses to
    become at least as frequent as false alarms: WeSpeaker's threshold.

    Examples
    --------
    >>> rates = error_rates(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    >>> equal_error_rate(rates)
    (0.5, 0.35)
    """
    difference = rates.miss - rates.false_alarm  # ascends from -1 to 1
    after = int(np.argmax(difference >= 0))
    before = after - 1
    step = difference[after] - difference[before]
    share = difference[after] / step
    rate = rates.miss[after] - share * (rates.miss[after] - rates.miss[before])
    return float(rate), float(rates.thresholds[before])


def min_dcf(rates: ErrorRates, prior: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Smallest detection cost over all thresholds, relative to that of the better constant answer.

    Parameters
    ----------
    rates : of the trials
    prior : probability of a target, above 0 and below 1
    c_miss, c_fa : cost of a miss and of a false alarm

    Returns
    -------
    cost : float
        0 where the scores separate the trials, at most 1.
    """
    check_costs([prior], c_miss, c_fa)
    costs = c_miss * prior * rates.miss + c_fa * (1 - prior) * rates.false_alarm
    return float(costs.min() / min(c_miss * prior, c_fa * (1 - prior)))


def check_costs(priors: Sequence[float], c_miss: float, c_fa: float) -> None:
    """Refuse probabilities and costs that make no detection cost."""
    for prior in priors:
        if not 0 < prior < 1:
            raise InputError(f"the prior of a target must lie between 0 and 1, got {prior:g}")
    if not (0 < c_miss < np.inf and 0 < c_fa < np.inf):
        raise InputError(f"costs must be positive, got c_miss {c_miss:g} and c_fa {c_fa:g}")


def roc_auc(rates: ErrorRates) -> float:
    """Probability that a target scores above another trial; equal scores count half."""
    return float(np.trapezoid((1 - rates.miss)[::-1], rates.false_alarm[::-1]))


def rates_at(rates: ErrorRates, threshold: float) -> tuple[float, float]:
    """Miss and false alarm rate of accepting from `threshold` on."""
    point = min(int(np.searchsorted(rates.thresholds, threshold)), len(rates.thresholds) - 1)
    return float(rates.miss[point]), float(rates.false_alarm[point])


def roc_curve(rates: ErrorRates) -> pd.DataFrame:
    """ROC as a table: `threshold`, `false_alarm`, `hit`; only the corners of the staircase."""
    kept = _corners(rates)
    return pd.DataFrame(
        {
            "threshold": rates.thresholds[kept],
            "false_alarm": rates.false_alarm[kept],
            "hit": 1 - rates.miss[kept],
        }
    )


def det_curve(rates: ErrorRates, floor: float = 1e-5) -> pd.DataFrame:
    """DET curve as a table: `threshold`, `false_alarm`, `miss`, and both as normal deviates.

    Parameters
    ----------
    rates : of the trials
    floor : rates are kept this far from 0 and 1, whose deviates are infinite

    Notes
    -----
    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    kept = _corners(rates)
    false_alarm, miss = rates.false_alarm[kept], rates.miss[kept]
    return pd.DataFrame(
        {
            "threshold": rates.thresholds[kept],
            "false_alarm": false_alarm,
            "miss": miss,
            "false_alarm_deviate": ndtri(np.clip(false_alarm, floor, 1 - floor)),
            "miss_deviate": ndtri(np.clip(miss, floor, 1 - floor)),
        }
    )


def _corners(rates: ErrorRates) -> np.ndarray:
    """Points at which a curve bends: those between two steps in the same direction are left out."""
    steps = np.stack([np.diff(rates.miss) > 0, np.diff(rates.false_alarm) < 0])
    pure = steps.sum(axis=0) == 1  # a step up or a step aside; a tie makes an oblique one
    same = pure[1:] & pure[:-1] & (steps[0, 1:] == steps[0, :-1])
    kept: np.ndarray = np.concatenate([[True], ~same, [True]])
    return kept


@dataclass(frozen=True, eq=False, kw_only=True)
class Verification:
    """How well scores tell trials of one speaker from those of two."""

    scores: np.ndarray  # (num_trials,)
    target: np.ndarray  # (num_trials,) bool
    rates: ErrorRates
    eer: float
    threshold_eer: float
    roc_auc: float
    min_dcf: dict[float, float]  # prior -> cost
    c_miss: float = 1.0
    c_fa: float = 1.0

    def to_dict(self) -> dict[str, object]:
        """As the JSON of `workbench verify` has it."""
        return {
            "trials": len(self.scores),
            "targets": int(self.target.sum()),
            "nontargets": int((~self.target).sum()),
            "eer": self.eer,
            "roc_auc": self.roc_auc,
            "min_dcf": {f"{prior:g}": cost for prior, cost in self.min_dcf.items()},
            "threshold_eer": self.threshold_eer,
            "c_miss": self.c_miss,
            "c_fa": self.c_fa,
        }


def evaluate(
    scores: np.ndarray,
    target: np.ndarray,
    priors: Sequence[float] = PRIORS,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> Verification:
    """All the numbers of scored trials; shapes as of `error_rates`."""
    check_costs(priors, c_miss, c_fa)
    rates = error_rates(scores, target)
    eer, threshold = equal_error_rate(rates)
    return Verification(
        scores=np.asarray(scores, dtype=np.float64),
        target=np.asarray(target, dtype=bool),
        rates=rates,
        eer=eer,
        threshold_eer=threshold,
        roc_auc=roc_auc(rates),
        min_dcf={prior: min_dcf(rates, prior, c_miss, c_fa) for prior in priors},
        c_miss=c_miss,
        c_fa=c_fa,
    )
