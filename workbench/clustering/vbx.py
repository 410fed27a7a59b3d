"""VBx: variational Bayes clustering of embeddings in PLDA space.

Equation numbers are those of Landini, Profant, Diez and Burget, "Bayesian HMM clustering of
x-vector sequences (VBx) in speaker diarization: theory, implementation and analysis of standard
tasks", Computer Speech & Language 71, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax

from workbench.clustering.threads import single_blas_thread

INIT_SMOOTHING = 7.0  # of DiariZen and pyannote: the weight of the initial cluster is e^7 to 1
EPSILON = 1e-4  # an iteration that gains less ends the updates
MIN_PRIOR = 1e-7  # speakers with a smaller prior have been switched off
TINY = 1e-8  # keeps the logarithm of a vanished speaker finite, as the reference does


@dataclass(frozen=True, eq=False)
class VBxResult:
    """Posterior of a VBx model.

    Attributes
    ----------
    gamma : float64 array, shape (num_embeddings, num_speakers)
        Responsibility of every speaker for every embedding; rows sum to 1.
    pi : float64 array, shape (num_speakers,)
        Prior of every speaker; sums to 1. Superfluous speakers tend to 0.
    elbo : float64 array, shape (num_iterations,)
        Lower bound on the evidence after every iteration.
    alpha, invL : float64 arrays, shape (num_speakers, lda_dim)
        Mean and (diagonal) covariance of every speaker's latent variable.
    converged : whether the gain fell below `epsilon` before the iterations were used up
    """

    gamma: np.ndarray
    pi: np.ndarray
    elbo: np.ndarray
    alpha: np.ndarray
    invL: np.ndarray
    converged: bool


def initial_responsibilities(labels: np.ndarray, smoothing: float = INIT_SMOOTHING) -> np.ndarray:
    """Soft version of a hard clustering: float64 array (num_embeddings, num_clusters)."""
    return softmax(np.eye(labels.max() + 1)[labels] * smoothing, axis=1)


def vbx(
    features: np.ndarray,
    phi: np.ndarray,
    gamma: np.ndarray,
    *,
    Fa: float,
    Fb: float,
    max_iters: int = 20,
    epsilon: float = EPSILON,
    loop_prob: float | None = None,
    pi: np.ndarray | None = None,
    speakers: tuple[np.ndarray, np.ndarray] | None = None,
) -> VBxResult:
    """Infer speakers by variational updates from given responsibilities.

    Runs on one BLAS thread: the result does not depend on how many the machine has.

    Parameters
    ----------
    features : float64 array, shape (num_embeddings, lda_dim)
        Within-speaker covariance is the identity, as `PLDA.transform` returns them.
    phi : float64 array, shape (lda_dim,)
        Between-speaker variance of every dimension.
    gamma : float64 array, shape (num_embeddings, num_speakers)
        Where the updates start.
    Fa, Fb : scale of the statistics, and of the speaker regularisation
    max_iters, epsilon : updates end after `max_iters`, or when the bound gains less than `epsilon`
    loop_prob : probability of staying with a speaker from one embedding to the next; None takes
        embeddings as independent (the mixture that DiariZen and pyannote use)
    pi : start of the speaker priors; None for equal ones
    speakers : `alpha` and `invL` to start from instead of computing them from `gamma`
    """
    num_embeddings, lda_dim = features.shape
    pi = np.full(gamma.shape[1], 1.0 / gamma.shape[1]) if pi is None else pi
    elbo: list[float] = []
    converged = False
    with single_blas_thread():
        evidence = -0.5 * (np.sum(features**2, axis=1, keepdims=True) + lda_dim * np.log(2 * np.pi))  # (23)
        rho = features * np.sqrt(phi)  # (18)
        for iteration in range(max_iters):
            if iteration == 0 and speakers is not None:
                alpha, inv_l = speakers
            else:
                alpha, inv_l = _speaker_posteriors(rho, phi, gamma, Fa / Fb)
            log_p = Fa * (rho @ alpha.T - 0.5 * (inv_l + alpha**2) @ phi + evidence)  # (23)
            if loop_prob is None:
                gamma, pi, log_likelihood = _mixture_step(log_p, pi)
            else:
                gamma, pi, log_likelihood = _hmm_step(log_p, pi, loop_prob)
            bound = log_likelihood + Fb * 0.5 * np.sum(np.log(inv_l) - inv_l - alpha**2 + 1)  # (25)
            elbo.append(float(bound))
            if iteration > 0 and elbo[-1] - elbo[-2] < epsilon:
                converged = True
                break
    return VBxResult(gamma, pi, np.array(elbo), alpha, inv_l, converged)


def _speaker_posteriors(
    rho: np.ndarray, phi: np.ndarray, gamma: np.ndarray, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (16) and covariance (17) of every speaker, given responsibilities; `ratio` is Fa / Fb."""
    inv_l = 1.0 / (1.0 + ratio * gamma.sum(axis=0)[:, None] * phi)  # (speaker, dimension)
    return ratio * inv_l * (gamma.T @ rho), inv_l


def _mixture_step(log_p: np.ndarray, pi: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Responsibilities, priors and log-likelihood if embeddings are independent."""
    joint = log_p + np.log(pi + TINY)  # (embedding, speaker)
    log_likelihood = logsumexp(joint, axis=1)
    gamma = np.exp(joint - log_likelihood[:, None])
    pi = gamma.sum(axis=0)
    return gamma, pi / pi.sum(), float(log_likelihood.sum())


def _hmm_step(log_p: np.ndarray, pi: np.ndarray, loop_prob: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Responsibilities, priors and log-likelihood if speakers follow each other as in an HMM."""
    transitions = loop_prob * np.eye(len(pi)) + (1 - loop_prob) * pi  # (1): from row to column
    gamma, log_likelihood, log_forward, log_backward = forward_backward(log_p, transitions, pi)
    entered = np.exp(  # (24): how often every speaker was entered anew
        logsumexp(log_forward[:-1], axis=1, keepdims=True) + log_p[1:] + log_backward[1:] - log_likelihood
    )
    pi = gamma[0] + (1 - loop_prob) * pi * entered.sum(axis=0)
    return gamma, pi / pi.sum(), log_likelihood


def forward_backward(
    log_p: np.ndarray, transitions: np.ndarray, initial: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """State posteriors of a hidden Markov model, computed in the log domain.

    Parameters
    ----------
    log_p : float64 array, shape (num_embeddings, num_states)
        Log-likelihood of every embedding in every state.
    transitions : float64 array, shape (num_states, num_states)
        From row to column.
    initial : float64 array, shape (num_states,)

    Returns
    -------
    posteriors : float64 array, shape (num_embeddings, num_states)
    log_likelihood : of the whole sequence
    log_forward, log_backward : float64 arrays, shape (num_embeddings, num_states)
    """
    # Only the sum over transitions leaves the log domain, relative to its best state: no transition
    # is below TINY, so what underflows there could not have changed the sum.
    transitions = transitions + TINY
    log_forward = np.empty_like(log_p)
    log_backward = np.zeros_like(log_p)
    log_forward[0] = log_p[0] + np.log(initial + TINY)
    for t in range(1, len(log_p)):
        best = log_forward[t - 1].max()
        log_forward[t] = log_p[t] + np.log(np.exp(log_forward[t - 1] - best) @ transitions) + best
    for t in reversed(range(len(log_p) - 1)):
        ahead = log_p[t + 1] + log_backward[t + 1]
        best = ahead.max()
        log_backward[t] = np.log(transitions @ np.exp(ahead - best)) + best
    log_likelihood = float(logsumexp(log_forward[-1]))
    return np.exp(log_forward + log_backward - log_likelihood), log_likelihood, log_forward, log_backward
