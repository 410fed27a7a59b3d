"""The hidden Markov model of VBx in time proportional to the number of states.

Its transition matrix is a multiple of the identity plus equal rows, so the recursions need one sum and
one product per state. They run in the linear domain, scaled at every step, for many models at once: a
step in time costs a few calls on arrays that hold all of them.
"""

from __future__ import annotations

import numpy as np

from workbench.clustering.vbx import TINY

_STEPS = 16  # in time, that are worked on while the processor's cache holds them


def hmm_posteriors(
    log_p: np.ndarray, pi: np.ndarray, copies: np.ndarray, loop_prob: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State posteriors, new priors and log-likelihoods of several models over the same embeddings.

    The results are those of `forward_backward` with transitions ``P * identity + (1 - P) * pi``
    (Landini et al. 2022, equations 1 and 24).

    Parameters
    ----------
    log_p : float64 array, shape (num_embeddings, num_states, num_models), contiguous; overwritten
        Log-likelihood of every embedding in every state. At least two models: with one alone, sums over
        states would be taken in another order.
    pi : float64 array, shape (num_states, num_models)
    copies : float64 array, shape (num_states, num_models)
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
    num_embeddings, num_states, num_models = log_p.shape
    enters = copies * ((1 - loop_prob) * pi + TINY)
    likelihood = log_p  # from here on, block by block
    forward = np.empty_like(likelihood)  # each model sums to `scale`
    top = np.empty((num_embeddings, num_models))
    scale = np.empty_like(top)
    stays = np.empty_like(top)  # loop_prob / scale
    # of one length however many models there are, so that sums are taken in the same order
    blocks = [slice(first, first + _STEPS) for first in range(0, num_embeddings, _STEPS)]

    # before the first embedding nobody was there: what is added to `enters` makes it the priors
    before = copies * (pi + TINY) - enters
    for block in blocks:
        values = likelihood[block]
        values.max(axis=1, out=top[block])
        values -= top[block][:, None]
        np.exp(values, out=values)
        for here, state, total, stay in zip(values, forward[block], scale[block], stays[block], strict=True):
            # the step before sums to 1, so that everyone may enter with the whole of it
            np.add(before, enters, out=before)
            np.multiply(before, here, out=state)
            np.add.reduce(state, axis=0, out=total)
            np.divide(loop_prob, total, out=stay)
            np.multiply(state, stay, out=before)

    inverse = 1.0 / scale
    entered = np.zeros_like(enters)  # (24): how often every speaker was entered anew
    backward = np.empty_like(enters)
    backward[...] = inverse[-1]
    again = np.empty(num_models)
    weighted = np.empty_like(enters)
    for block in reversed(blocks):
        values = likelihood[block]
        behind = np.empty_like(values)
        for t in range(len(values) - 1, -1, -1):
            ahead = values[t]
            behind[t] = backward
            np.multiply(ahead, backward, out=ahead)
            np.multiply(ahead, enters, out=weighted)
            np.add.reduce(weighted, axis=0, out=again)
            step = block.start + t - 1  # the last one, -1, is not used any more
            np.multiply(again, inverse[step], out=again)
            np.multiply(ahead, stays[step], out=backward)
            np.add(backward, again, out=backward)
        forward[block] *= behind
        entered += (values[1:] if block.start == 0 else values).sum(axis=0)

    # every model's terms in one row, so that they are summed in the same way however many models there are
    log_likelihood = np.ascontiguousarray((top + np.log(scale)).T).sum(axis=1)
    new = forward[0] + (1 - loop_prob) * (copies * pi) * entered
    return forward, new / new.sum(axis=0), log_likelihood
