"""Scores of pairs of embeddings: cosine and PLDA, and their normalisation by a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from workbench.clustering import PLDA
from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError
from workbench.verification.trials import Trials

TOP_N = 300  # cohort scores that count, as in WeSpeaker's VoxCeleb recipes

_TINY = 1.1920929e-07  # WeSpeaker's smallest product of two lengths


class Scorer(Protocol):
    """What compares embeddings; `name` is for reports."""

    @property
    def name(self) -> str:
        """`cosine` or `plda`."""
        ...

    def prepare(self, embeddings: np.ndarray) -> np.ndarray:
        """What is done once per embedding: (num, dimension) -> float64 (num, features)."""
        ...

    def pairs(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Scores of rows with rows: prepared (num, features) twice -> (num,)."""
        ...

    def matrix(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Scores of all with all: prepared (num_a, features), (num_b, features) -> (num_a, num_b)."""
        ...


@dataclass(frozen=True)
class CosineScorer:
    """Cosine of the angle between two embeddings, from -1 to 1."""

    name: str = "cosine"

    def prepare(self, embeddings: np.ndarray) -> np.ndarray:
        """Length normalisation."""
        rows = np.asarray(embeddings, dtype=np.float64)
        length = np.linalg.norm(rows, axis=-1, keepdims=True)
        result: np.ndarray = rows / np.maximum(length, _TINY)
        return result

    def pairs(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Row by row."""
        result: np.ndarray = (a * b).sum(axis=-1)
        return result

    def matrix(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """All with all."""
        result: np.ndarray = a @ b.T
        return result


@dataclass(frozen=True, eq=False)
class PLDAScorer:
    """Log-likelihood ratio (nats) of one speaker against two, by a two-covariance PLDA.

    With the features of `PLDA.transform`, a pair of one speaker has covariance
    [[1 + phi, phi], [phi, 1 + phi]] in every dimension, a pair of two has no covariance between them.
    """

    plda: PLDA
    lda_dim: int | None = None
    name: str = "plda"

    def __post_init__(self) -> None:
        if self.lda_dim is not None and not 1 <= self.lda_dim <= self.plda.num_lda:
            raise InputError(f"lda_dim must be 1 to {self.plda.num_lda}, got {self.lda_dim}")

    @property
    def phi(self) -> np.ndarray:
        """Variance between speakers of the dimensions in use."""
        return self.plda.phi[: self.lda_dim]

    def prepare(self, embeddings: np.ndarray) -> np.ndarray:
        """Features of VBx."""
        return self.plda.transform(embeddings)[:, : self.lda_dim]

    def pairs(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Row by row."""
        own, cross, constant = self._weights()
        result: np.ndarray = constant + (a**2 + b**2) @ own + (a * b) @ cross
        return result

    def matrix(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """All with all."""
        own, cross, constant = self._weights()
        result: np.ndarray = constant + (a**2 @ own)[:, None] + (b**2 @ own)[None] + (a * cross) @ b.T
        return result

    def _weights(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Weights of the squares and of the products, and the constant."""
        total = 1 + self.phi
        determinant = total**2 - self.phi**2
        own = -0.5 * (total / determinant - 1 / total)
        cross = self.phi / determinant
        return own, cross, float((np.log(total) - 0.5 * np.log(determinant)).sum())


def score_trials(
    trials: Trials,
    embeddings: EmbeddingSet,
    scorer: Scorer | None = None,
    *,
    cohort: np.ndarray | None = None,
    top_n: int = TOP_N,
) -> np.ndarray:
    """Scores of trials, NaN where a side has no embedding.

    Parameters
    ----------
    trials : pairs of names
    embeddings : by name
    scorer : cosine by default
    cohort : float array, shape (num_cohort, dimension), optional
        Embeddings of others, by which scores are normalised (`normalise_scores`).
    top_n : how many of the cohort count, those that score highest; all of them make it S-norm

    Returns
    -------
    scores : float64 array, shape (num_trials,)
    """
    scorer = scorer or CosineScorer()
    row = {name: index for index, name in enumerate(embeddings.names)}
    enroll = np.array([row.get(name, -1) for name in trials.enroll])
    test = np.array([row.get(name, -1) for name in trials.test])
    known = (enroll >= 0) & (test >= 0)
    scores = np.full(len(trials), np.nan)
    if not known.any():
        return scores
    features = scorer.prepare(embeddings.embeddings)
    enroll, test = enroll[known], test[known]
    found = scorer.pairs(features[enroll], features[test])
    if cohort is not None:
        if cohort.ndim != 2 or cohort.shape[1] != embeddings.dimension:
            raise InputError(
                f"the cohort must have the embeddings' {embeddings.dimension} values, found {cohort.shape}"
            )
        mean, std = cohort_statistics(scorer.matrix(features, scorer.prepare(cohort)), top_n)
        found = normalise_scores(found, (mean[enroll], std[enroll]), (mean[test], std[test]))
    scores[known] = found
    return scores


def cohort_statistics(cohort_scores: np.ndarray, top_n: int = TOP_N) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the `top_n` highest scores in every row.

    Parameters
    ----------
    cohort_scores : float array, shape (num_embeddings, num_cohort)
    top_n : at least 2; all are taken where there are fewer

    Returns
    -------
    mean, std : float64 arrays, shape (num_embeddings,)
        The deviation is that of the sample itself (divided by n, as in WeSpeaker).
    """
    if top_n < 2 or cohort_scores.shape[1] < 2:
        raise InputError(
            f"score normalisation takes at least 2 of a cohort, got top_n {top_n} of {cohort_scores.shape[1]}"
        )
    top = np.sort(cohort_scores, axis=1)[:, ::-1][:, :top_n]
    mean, std = top.mean(axis=1), top.std(axis=1)
    if not (std > 0).all():
        raise InputError("the cohort's scores do not differ; give embeddings of several speakers")
    return mean, std


def normalise_scores(
    scores: np.ndarray, enroll: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Symmetric normalisation: the mean of the scores standardised by either side's cohort.

    Parameters
    ----------
    scores : float array, shape (num_trials,)
    enroll, test : mean and deviation of either side's cohort scores, each (num_trials,)

    Notes
    -----
    With the highest cohort scores of each side it is AS-norm1 of Matějka et al., "Analysis of score
    normalization in multilingual speaker recognition", Interspeech 2017; with all, S-norm.
    """
    result: np.ndarray = 0.5 * ((scores - enroll[0]) / enroll[1] + (scores - test[0]) / test[1])
    return result


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine similarity of two embeddings (dimension,), from -1 to 1.

    Examples
    --------
    >>> cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])).__round__(4)
    0.7071
    """
    scorer = CosineScorer()
    return float(scorer.pairs(scorer.prepare(a), scorer.prepare(b)))
