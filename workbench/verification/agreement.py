"""Two embedding runtimes on the same audio: vectors, scores, error rates and decisions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError
from workbench.verification.metrics import (
    Verification,
    equal_error_rate,
    error_rates,
    roc_auc,
)
from workbench.verification.scoring import CosineScorer
from workbench.verification.trials import Trials

NUM_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference, candidate minus baseline, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingAgreement:
    """What changes where the candidate takes the baseline's place.

    Attributes
    ----------
    embeddings : table, a row per embedding
        `name`, `cosine` between the two runtimes' vectors, `cosine_distance` (1 - cosine),
        `relative_difference` (length of the difference over the baseline's length).
    trials : table, a row per trial
        `enroll`, `test`, `target`, `baseline` and `candidate` (scores), `flip` (decided otherwise).
    threshold : score from which a trial is accepted, for both sides
    baseline, candidate : error rates of either side
    eer_difference, roc_auc_difference : with 95 % intervals over other draws of recordings
    """

    embeddings: pd.DataFrame
    trials: pd.DataFrame
    threshold: float
    baseline: Verification
    candidate: Verification
    eer_difference: Interval
    roc_auc_difference: Interval

    @property
    def flips(self) -> pd.DataFrame:
        """Trials that are decided otherwise, the largest change of the score first."""
        flipped = self.trials[self.trials["flip"]]
        change = (flipped["candidate"] - flipped["baseline"]).abs()
        return flipped.loc[change.sort_values(ascending=False).index].reset_index(drop=True)

    def to_dict(self) -> dict[str, object]:
        """As the JSON of `workbench verify --candidate` has it."""
        cosine = self.embeddings["cosine"].to_numpy()
        change = np.abs(self.candidate.scores - self.baseline.scores)
        return {
            "embeddings": len(cosine),
            "min_cosine": float(cosine.min()),
            "max_cosine_distance": float(self.embeddings["cosine_distance"].max()),
            "mean_cosine": float(cosine.mean()),
            "max_relative_difference": float(self.embeddings["relative_difference"].max()),
            "max_score_difference": float(change.max()),
            "mean_score_difference": float(change.mean()),
            "threshold": self.threshold,
            "flips": int(self.trials["flip"].sum()),
            "flip_rate": float(self.trials["flip"].mean()),
            "eer_difference": vars(self.eer_difference),
            "roc_auc_difference": vars(self.roc_auc_difference),
        }


def compare_embeddings(baseline: EmbeddingSet, candidate: EmbeddingSet) -> pd.DataFrame:
    """One row per embedding that both sides have: `name`, `cosine`, `cosine_distance`, `relative_difference`.

    Notes
    -----
    The distance (1 - cosine) is computed from the difference of the vectors, which keeps the digits that
    1 - 1e-9 would lose.
    """
    names = [name for name in baseline.names if name in candidate]
    if not names:
        raise InputError("the two sides have no recording in common; were they given the same audio?")
    if baseline.dimension != candidate.dimension:
        raise InputError(
            f"embeddings of {baseline.dimension} and of {candidate.dimension} values cannot be compared"
        )
    a = np.stack([baseline[name] for name in names]).astype(np.float64)
    b = np.stack([candidate[name] for name in names]).astype(np.float64)
    scorer = CosineScorer()
    chord = scorer.prepare(a) - scorer.prepare(b)
    relative = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-30)
    distance = 0.5 * (chord**2).sum(axis=1)
    return pd.DataFrame(
        {
            "name": names,
            "cosine": 1 - distance,
            "cosine_distance": distance,
            "relative_difference": relative,
        }
    )


def compare_verification(
    trials: Trials,
    embeddings: tuple[EmbeddingSet, EmbeddingSet],
    verifications: tuple[Verification, Verification],
    threshold: float | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> EmbeddingAgreement:
    """Put two verifications of the same trials side by side.

    Parameters
    ----------
    trials : those that both sides scored, in the order of the scores
    embeddings, verifications : of the baseline and of the candidate
    threshold : score from which trials are accepted; by default where the baseline's errors are equal,
        half way to the next score, as far as can be from deciding a trial by rounding
    num_resamples : draws for the intervals; 0 leaves them at the differences themselves
    seed : of the draws
    """
    baseline, candidate = verifications
    threshold = _between(baseline) if threshold is None else threshold
    table = pd.DataFrame(
        {
            "enroll": trials.enroll,
            "test": trials.test,
            "target": trials.target,
            "baseline": baseline.scores,
            "candidate": candidate.scores,
            "flip": (baseline.scores >= threshold) != (candidate.scores >= threshold),
        }
    )
    differences = np.array([candidate.eer - baseline.eer, candidate.roc_auc - baseline.roc_auc])
    low, high = _interval(trials, (baseline.scores, candidate.scores), num_resamples, seed, differences)
    eer, auc = (
        Interval(value=float(value), low=float(below), high=float(above))
        for value, below, above in zip(differences, low, high, strict=True)
    )
    return EmbeddingAgreement(
        embeddings=compare_embeddings(*embeddings),
        trials=table,
        threshold=threshold,
        baseline=baseline,
        candidate=candidate,
        eer_difference=eer,
        roc_auc_difference=auc,
    )


def _between(verification: Verification) -> float:
    """Middle between the score at which errors are equal and the next higher one."""
    thresholds = verification.rates.thresholds
    after = thresholds[np.searchsorted(thresholds, verification.threshold_eer) + 1]
    return float(
        (verification.threshold_eer + after) / 2 if np.isfinite(after) else verification.threshold_eer
    )


def _interval(
    trials: Trials,
    scores: Sequence[np.ndarray],
    num_resamples: int,
    seed: int,
    differences: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles 2.5 and 97.5 of both differences over draws of recordings.

    Trials that share a recording are no independent observations: recordings are drawn, and a trial
    counts as often as both of its sides were drawn together.
    """
    rng = np.random.default_rng(seed)
    place = {name: index for index, name in enumerate(trials.names)}
    enroll = np.array([place[name] for name in trials.enroll])
    test = np.array([place[name] for name in trials.test])
    drawn = []
    for _ in range(num_resamples):
        counts = np.bincount(rng.integers(len(place), size=len(place)), minlength=len(place))
        weights = counts[enroll] * counts[test]
        if not weights[trials.target].any() or not weights[~trials.target].any():
            continue
        rates = [error_rates(side, trials.target, weights) for side in scores]
        (first, second), areas = [equal_error_rate(rate)[0] for rate in rates], [roc_auc(r) for r in rates]
        drawn.append((second - first, areas[1] - areas[0]))
    if not drawn:
        return differences, differences
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high
