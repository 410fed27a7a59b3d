"""From scores to log-likelihood ratios, and from those to decisions and probabilities."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit

from workbench.errors import InputError
from workbench.files import atomic_write, json_bytes

_RIDGE = 1e-6  # keeps the scale finite where scores separate the trials completely
_MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Log-likelihood ratio (nats) = scale * score + offset."""

    scale: float
    offset: float
    prior: float = 0.5  # probability of a target that the fit was weighted for
    scoring: str = "cosine"  # what the scores are; calibration belongs to it
    runtime: str = ""  # model that the embeddings came from

    def llr(self, scores: np.ndarray) -> np.ndarray:
        """Log-likelihood ratios (nats) of scores, any shape."""
        result: np.ndarray = self.scale * np.asarray(scores, dtype=np.float64) + self.offset
        return result

    def probability(self, scores: np.ndarray, prior: float = 0.5) -> np.ndarray:
        """Probability that both sides are one speaker, where a share `prior` of trials is."""
        result: np.ndarray = expit(self.llr(scores) + np.log(prior / (1 - prior)))
        return result

    def threshold(self, prior: float = 0.5, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """Score from which accepting costs less than rejecting."""
        bayes = np.log(c_fa * (1 - prior)) - np.log(c_miss * prior)
        return float((bayes - self.offset) / self.scale)


def fit_calibration(
    scores: np.ndarray, target: np.ndarray, prior: float = 0.5, scoring: str = "cosine", runtime: str = ""
) -> Calibration:
    """Logistic regression on scored trials, both kinds weighted as the prior has them.

    Parameters
    ----------
    scores : float array, shape (num_trials,)
    target : bool array, shape (num_trials,)
    prior : probability of a target
    scoring, runtime : what the scores are, to be remembered

    Notes
    -----
    Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.
    """
    scores, target = np.asarray(scores, dtype=np.float64), np.asarray(target, dtype=bool)
    if not target.any() or target.all():
        raise InputError("a calibration takes trials of the same and of different speakers")
    if not 0 < prior < 1:
        raise InputError(f"the prior of a target must lie between 0 and 1, got {prior:g}")
    centre, spread = scores.mean(), scores.std() or 1.0
    inputs = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1)  # (trial, 2)
    weights = np.where(target, prior / target.sum(), (1 - prior) / (~target).sum())
    shift = np.log(prior / (1 - prior))
    ridge = np.diag([_RIDGE, 0.0])
    solution = np.zeros(2)

    def loss(values: np.ndarray) -> float:
        logits = inputs @ values + shift
        signed = np.where(target, -logits, logits)
        return float(weights @ np.logaddexp(0, signed) + 0.5 * values @ ridge @ values)

    for _ in range(_MAX_STEPS):  # Newton's method; the problem is convex
        predicted = expit(inputs @ solution + shift)
        gradient = inputs.T @ (weights * (predicted - target)) + ridge @ solution
        curvature = (inputs.T * (weights * predicted * (1 - predicted))) @ inputs + ridge
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        length = 1.0
        while loss(solution - length * step) > loss(solution) and length > 1e-6:
            length /= 2
        solution = solution - length * step
        if np.abs(length * step).max() < 1e-10:
            break
    scale = float(solution[0] / spread)
    if scale <= 0:
        raise InputError("scores of the same speaker are not higher than the others; nothing to calibrate")
    return Calibration(
        scale=scale,
        offset=float(solution[1] - scale * centre),
        prior=prior,
        scoring=scoring,
        runtime=runtime,
    )


def cllr(llr: np.ndarray, target: np.ndarray) -> float:
    """Cost of log-likelihood ratios (bits): 0 if they are perfect, 1 if they say nothing."""
    same = np.logaddexp(0, -llr[target]).mean()
    different = np.logaddexp(0, llr[~target]).mean()
    return float((same + different) / (2 * np.log(2)))


def actual_dcf(
    llr: np.ndarray, target: np.ndarray, prior: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Detection cost at the threshold that calibrated ratios should have, relative as `min_dcf` is."""
    threshold = np.log(c_fa * (1 - prior)) - np.log(c_miss * prior)
    miss, false_alarm = np.mean(llr[target] < threshold), np.mean(llr[~target] >= threshold)
    cost = c_miss * prior * miss + c_fa * (1 - prior) * false_alarm
    return float(cost / min(c_miss * prior, c_fa * (1 - prior)))


def save_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(json_bytes(asdict(calibration)))


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read a calibration; what is missing or wrong is named."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError.at(path, f"cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError.at(path, "must be a JSON object with scale and offset")
    for key in ("scale", "offset"):
        if isinstance(content.get(key), bool) or not isinstance(content.get(key), int | float):
            raise InputError.at(path, f"{key} must be a number, found {content.get(key)!r}")
    if not content["scale"] > 0:
        raise InputError.at(path, f"scale must be positive, found {content['scale']!r}")
    known = {key: content[key] for key in Calibration.__dataclass_fields__ if key in content}
    return Calibration(**known)
