"""Estimate the LDA and the two-covariance PLDA of VBx from embeddings with speaker labels.

An embedding is its speaker's mean plus something of its own: x = m + e, with m drawn from N(mu,
between) and e from N(0, within). Both covariances are found by expectation-maximisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from workbench.clustering.plda import PLDA
from workbench.clustering.threads import single_blas_thread
from workbench.errors import InputError

_FLOOR = 1e-4  # of the largest variance between speakers: what the smallest is raised to


@dataclass(frozen=True, kw_only=True)
class PLDAEstimation:
    """How a PLDA is estimated."""

    num_lda: int = 128  # dimensions after LDA, as in the published hub folders
    iterations: int = 10  # of expectation-maximisation, as Kaldi has it; 0 keeps the moments it starts from
    shrinkage: float = 0.0  # of the within-speaker covariance towards its mean variance; up to 1


def estimate_plda(
    embeddings: np.ndarray, labels: Sequence[object] | np.ndarray, params: PLDAEstimation | None = None
) -> PLDA:
    """Centring, LDA with its two length normalisations, and PLDA, in the form of `PLDA`.

    Parameters
    ----------
    embeddings : float array, shape (num_embeddings, dimension), not normalised
    labels : speaker of each embedding, (num_embeddings,)
    params : how

    Notes
    -----
    The covariances maximise the likelihood as in Ioffe, "Probabilistic linear discriminant analysis",
    ECCV 2006, by the steps of Kaldi's `ivector-compute-plda`.
    """
    params = params or PLDAEstimation()
    rows = np.asarray(embeddings, dtype=np.float64)
    speakers = _checked(rows, labels, params)
    with single_blas_thread():
        mean1 = rows.mean(axis=0)
        first = np.sqrt(rows.shape[1]) * normalise_rows(rows - mean1)
        directions, _ = diagonalise(*speaker_scatter(first, speakers, params.shrinkage))
        lda = directions[: params.num_lda].T
        mean2 = (first @ lda).mean(axis=0)
        second = np.sqrt(lda.shape[1]) * normalise_rows(first @ lda - mean2)
        mu = second.mean(axis=0)
        start = speaker_scatter(second, speakers, params.shrinkage)
        within, between = two_covariances(second - mu, speakers, start, params.iterations)
        if params.shrinkage and params.iterations:
            within = shrink(within, params.shrinkage)
        tr, psi = diagonalise(within, between)
    return PLDA(mean1=mean1, lda=lda, mean2=mean2, mu=mu, tr=tr, psi=np.maximum(psi, _FLOOR * psi[0]))


def two_covariances(
    rows: np.ndarray, labels: np.ndarray, start: tuple[np.ndarray, np.ndarray], iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Within- and between-speaker covariance by expectation-maximisation.

    Parameters
    ----------
    rows : float64 array, shape (num_rows, dimension), mean 0
    labels : array, shape (num_rows,)
    start : both covariances, (dimension, dimension) each, positive definite
    iterations : steps; the likelihood never falls
    """
    within, between = start
    speakers, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(speakers), rows.shape[1]))
    np.add.at(sums, place, rows)
    means = sums / counts[:, None]
    offsets = rows - means[place]
    scatter = offsets.T @ offsets
    for _ in range(iterations):
        precise_within, precise_between = np.linalg.inv(within), np.linalg.inv(between)
        within_sum, between_sum = scatter.copy(), np.zeros_like(between)
        for count in np.unique(counts):  # the posterior's covariance depends on nothing else
            group = means[counts == count]
            covariance = np.linalg.inv(precise_between + count * precise_within)
            posterior = group @ (count * precise_within @ covariance)  # mean of m, (speaker, dimension)
            left = group - posterior
            between_sum += len(group) * covariance + posterior.T @ posterior
            within_sum += count * (len(group) * covariance + left.T @ left)
        within, between = within_sum / len(rows), between_sum / len(speakers)
        within, between = (within + within.T) / 2, (between + between.T) / 2
    return within, between


def log_likelihood(rows: np.ndarray, labels: np.ndarray, within: np.ndarray, between: np.ndarray) -> float:
    """Log-likelihood (nats) of rows (num_rows, dimension) with mean 0 under the two-covariance model."""
    tr, psi = diagonalise(within, between)
    projected = rows @ tr.T
    total = len(rows) * np.linalg.slogdet(tr)[1] - 0.5 * projected.size * np.log(2 * np.pi)
    for speaker in np.unique(labels):
        own = projected[labels == speaker]
        count, summed = len(own), own.sum(axis=0)
        # covariance 1 + psi * ones: its determinant is 1 + count * psi
        total -= 0.5 * (
            np.log1p(count * psi).sum() + (own**2).sum() - (psi / (1 + count * psi) * summed**2).sum()
        )
    return float(total)


def speaker_scatter(
    rows: np.ndarray, labels: np.ndarray, shrinkage: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Within- and between-speaker covariance of rows from moments; every speaker counts alike.

    The covariance of the speaker means contains a share of the within one, which is taken out as far as
    the result stays positive.

    Parameters
    ----------
    rows : float64 array, shape (num_rows, dimension)
    labels : array, shape (num_rows,)
    shrinkage : of the within-speaker covariance towards its mean variance, 0 to 1
    """
    speakers = np.unique(labels)
    dimension = rows.shape[1]
    within = np.zeros((dimension, dimension))
    means, shares = [], []
    for speaker in speakers:
        own = rows[labels == speaker]
        mean = own.mean(axis=0)
        means.append(mean)
        shares.append(1 / len(own))
        within += (own - mean).T @ (own - mean) / max(1, len(own) - 1)
    within /= len(speakers)
    within = shrink(within, shrinkage)
    between = np.cov(np.array(means).T) - np.mean(shares) * within
    values, vectors = np.linalg.eigh(between)
    floor = _FLOOR * values[-1]
    return within, (vectors * np.maximum(values, floor)) @ vectors.T


def shrink(covariance: np.ndarray, amount: float) -> np.ndarray:
    """A covariance drawn towards a multiple of the identity with the same trace."""
    dimension = len(covariance)
    result: np.ndarray = (1 - amount) * covariance + amount * np.trace(covariance) / dimension * np.eye(
        dimension
    )
    return result


def diagonalise(within: np.ndarray, between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that turn `within` into 1 and `between` into psi, and psi, descending."""
    try:
        psi, vectors = eigh(between, within)
    except np.linalg.LinAlgError:
        raise InputError(
            "the covariance within speakers is singular: give more embeddings per speaker than there are "
            "dimensions in all, or a shrinkage above 0"
        ) from None
    return vectors[:, ::-1].T, psi[::-1]


def normalise_rows(rows: np.ndarray) -> np.ndarray:
    """Each row with length 1."""
    result: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result


def _checked(rows: np.ndarray, labels: Sequence[object] | np.ndarray, params: PLDAEstimation) -> np.ndarray:
    """Labels as numbers; an error where nothing can be estimated."""
    if rows.ndim != 2 or len(rows) != len(labels):
        raise ValueError(
            f"embeddings must have shape ({len(labels)}, dimension), one per label, got {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise InputError("embeddings hold NaN or infinite values; leave those out")
    _, numbers, counts = np.unique(np.asarray(labels).astype(str), return_inverse=True, return_counts=True)
    if len(counts) < 2 or (counts > 1).sum() < 2:
        raise InputError(
            f"a PLDA takes several speakers with several embeddings each, found {len(counts)} speakers, of "
            f"whom {int((counts > 1).sum())} have more than one"
        )
    if not 1 <= params.num_lda <= rows.shape[1]:
        raise InputError(f"num_lda must be 1 to {rows.shape[1]}, got {params.num_lda}")
    if not 0 <= params.shrinkage <= 1 or params.iterations < 0:
        raise InputError(f"shrinkage must lie between 0 and 1, got {params.shrinkage:g}")
    return numbers
