"""The hidden Markov model of VBx in time proportional to the number of states.

Its transition matrix is a multiple of the identity plus equal rows, so the recursions need one sum and
one product per state. They run in the linear domain, scaled at every step, for many models at once.
"""

from __future__ import annotations

import numpy as np

from workbench.clustering.vbx import TINY


def hmm_posteriors(
    log_p: np.ndarray, pi: np.ndarray, copies: np.ndarray, loop_prob: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State posteriors, new priors and log-likelihoods of several models over the same embeddings.

    The results are those of `forward_backward` with transitions ``P * identity + (1 - P) * pi``
    (Landini et al. 2022, equations 1 and 24).

    Parameters
    ----------
    log_p : float array, shape (num_models, num_states, num_embeddings)
        Log-likelihood of every embedding in every state.
    pi : float64 array, shape (num_models, num_states)
    copies : float64 array, shape (num_models, num_states)
        Equal states that each state stands for, all with this prior; 0 for one that only fills up.
    loop_prob : float64 array, shape (num_models,)
        Probability P of staying in a state.

    Returns
    -------
    posteriors : float64 array of the shape of `log_p`
        Of all copies together, as `pi` is.
    pi : float64 array of the shape of `pi`
    log_likelihood : float64 array, shape (num_models,)
    """
    num_models = len(log_p)
    if num_models == 1:  # with one alone, sums over states would be taken in another order
        log_p, pi, copies, loop_prob = (np.repeat(each, 2, axis=0) for each in (log_p, pi, copies, loop_prob))
    entering = (copies * ((1 - loop_prob[:, None]) * pi + TINY)).T  # (state, model)
    first = (copies * (pi + TINY)).T
    # a step in time is one row: (embedding, state, model)
    rows = np.ascontiguousarray(np.moveaxis(log_p, (0, 1, 2), (2, 1, 0)), dtype=np.float64)
    rows[:, copies.T == 0] = -np.inf
    top = rows.max(axis=1)
    likelihood = np.exp(np.subtract(rows, top[:, None], out=rows), out=rows)

    forward = np.empty_like(likelihood)  # each column sums to 1
    scale = np.empty(top.shape)
    state = first
    for t in range(len(likelihood)):
        if t:
            # the step before sums to 1, so that everyone may enter with the whole of it
            state = loop_prob * forward[t - 1]
            state += entering
        state = state * likelihood[t]
        state.sum(axis=0, out=scale[t])
        np.divide(state, scale[t], out=forward[t])

    likelihood /= scale[:, None]  # now what the backward recursion multiplies by
    backward = np.ones(first.shape)
    entered = np.zeros(first.shape)
    for t in range(len(likelihood) - 1, 0, -1):
        forward[t] *= backward
        ahead = np.multiply(likelihood[t], backward, out=backward)
        entered += ahead  # (24): how often every speaker was entered anew
        backward = loop_prob * ahead
        backward += (entering * ahead).sum(axis=0)
    forward[0] *= backward

    # every model's terms in one row, so that they are summed in the same way however many models there are
    log_likelihood = np.ascontiguousarray((top + np.log(scale)).T).sum(axis=1)
    new = forward[0] + (1 - loop_prob) * (copies * pi).T * entered
    new = np.ascontiguousarray((new / new.sum(axis=0)).T)
    posteriors = np.ascontiguousarray(np.moveaxis(forward, (0, 1, 2), (2, 1, 0)))
    return posteriors[:num_models], new[:num_models], log_likelihood[:num_models]
