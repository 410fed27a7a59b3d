"""The hidden Markov model of VBx in time proportional to the number of states.

Its transition matrix is a multiple of the identity plus equal rows, so the recursions need one sum and
one product per state. They run in the linear domain, scaled at every step, for many models at once: a
step in time costs a few calls on arrays that hold all of them. Weighted by how likely a state is entered,
the backward recursion is the forward recursion with time reversed, so that one call does a step of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from workbench.clustering.vbx import TINY

_STEPS = 16  # in time, that are worked on while the processor's cache holds them
_BUFFER = 512  # numbers


class Scratch:
    """Large arrays that are used again: to get fresh ones takes as long as to compute what is in them."""

    def __init__(self) -> None:
        self._memory: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A float64 array with anything in it; what the last one of this name held is lost."""
        size = int(np.prod(shape))
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = np.empty(size)
        return self._memory[name][:size].reshape(shape)


def hmm_posteriors(
    log_p: np.ndarray,
    pi: np.ndarray,
    copies: np.ndarray,
    loop_prob: np.ndarray,
    scratch: Scratch | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """State posteriors, their sums, new priors and log-likelihoods of several models on equal embeddings.

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
    scratch : memory that is kept from call to call

    Returns
    -------
    posteriors : float64 array of the shape of `log_p`
        Of all copies together, as `pi` is.
    mass : float64 array of the shape of `pi`
        Sum of the posteriors over embeddings.
    pi : float64 array of the shape of `pi`
    log_likelihood : float64 array, shape (num_models,)
    """
    num_embeddings = len(log_p)
    recursion = _Recursion(pi, copies, loop_prob)
    likelihood = log_p  # from here on, block by block
    tops = []  # of every block, the logarithms of the largest, which are taken off
    # The recursions start at both ends. What embeddings need of the one that comes by first is kept until
    # the other one does, in the second half of the steps.
    half = -(-num_embeddings // 2)
    scratch = Scratch() if scratch is None else scratch
    kept = scratch.array("kept", (half + 1, 2, *pi.shape))
    kept[0] = recursion.begin
    with _small_buffers():
        for first in range(0, half, _STEPS):
            last = min(first + _STEPS, half)
            tops.append(_exponentiate(likelihood[first:last]))
            tops.append(_exponentiate(likelihood[max(num_embeddings - last, last) : num_embeddings - first]))
            recursion.go(likelihood, range(first, last), kept[first : last + 1])

        posteriors = likelihood  # again block by block
        if num_embeddings % 2:
            middle = kept[half - 1 : half]
            recursion.combine(posteriors[half - 1 : half], middle[:, 0], middle[:, 1], begins=half == 1)
        block = np.empty((_STEPS + 1, 2, *pi.shape))
        block[0] = kept[half]
        for first in range(half, num_embeddings, _STEPS):
            last = min(first + _STEPS, num_embeddings)
            recursion.go(likelihood, range(first, last), block[: last - first + 1])
            new, met = block[: last - first], kept[num_embeddings - last : num_embeddings - first]
            recursion.combine(posteriors[first:last], new[:, 0], met[::-1, 1])
            early = posteriors[num_embeddings - last : num_embeddings - first]
            recursion.combine(early, met[:, 0], new[::-1, 1], begins=last == num_embeddings)
            block[0] = block[last - first]

    # every model's terms in one row, so that they are summed in the same way however many models there are
    terms = np.concatenate([np.stack(tops), np.log(np.stack(recursion.scales))])
    log_likelihood = np.ascontiguousarray(terms.T).sum(axis=1)
    entered = recursion.entered * recursion.unweight  # (24): how often every speaker was entered anew
    new_pi = posteriors[0] + (1 - loop_prob) * (copies * pi) * entered
    return posteriors, recursion.mass, new_pi / new_pi.sum(axis=0), log_likelihood


class _Recursion:
    """Forward and backward recursion of all models, a step of both at once.

    Their state is what is known before an embedding has been looked at: float64 array (2, num_states,
    num_models). The forward part sums to 1 in every model; the backward one, which starts with the last
    embedding, is weighted by how likely states are entered.
    """

    def __init__(self, pi: np.ndarray, copies: np.ndarray, loop_prob: np.ndarray):
        enters = copies * ((1 - loop_prob) * pi + TINY)
        # before the first embedding nobody was there: each state is as likely as its prior
        self.begin = np.stack([copies * (pi + TINY), enters])
        self.unweight = np.divide(1.0, enters, out=np.zeros_like(enters), where=enters > 0)
        self.scales: list[np.ndarray] = []  # of the forward recursion, multiplied over the steps of a block
        self.mass = np.zeros_like(enters)
        self.entered = np.zeros_like(enters)  # weighted, too
        self._loop_prob = loop_prob
        self._enters = np.stack([enters, enters])
        self._joint = np.empty((_STEPS, *enters.shape))

    def go(self, likelihood: np.ndarray, steps: range, states: np.ndarray) -> None:
        """Some steps of both, from ``states[0]``; the states after each are put behind it."""
        multiply, add, reduce, divide = np.multiply, np.add, np.add.reduce, np.divide
        loop_prob, enters = self._loop_prob, self._enters
        after = np.empty_like(enters)
        totals = np.empty((len(steps), 2, states.shape[-1]))
        stays = np.empty_like(totals[0])
        factors = stays[:, None]
        for step, total, state, new in zip(steps, totals, states[:-1], states[1:], strict=True):
            multiply(state, _both_ends(likelihood, step), after)
            reduce(after, axis=1, out=total)
            divide(loop_prob, total, stays)
            multiply(after, factors, after)
            # scaled, the step before sums to 1, so that everyone may enter with the whole of it
            add(after, enters, new)
        # no step makes it smaller than TINY, so that the product is far from underflow
        self.scales.append(np.multiply.reduce(totals[:, 0]))

    def combine(
        self, values: np.ndarray, forward: np.ndarray, backward: np.ndarray, *, begins: bool = False
    ) -> None:
        """Likelihoods of some embeddings become posteriors, by the states before and behind each.

        Parameters
        ----------
        values, forward, backward : float64 arrays, shape (num_steps, num_states, num_models)
        begins : whether the first embedding is among them, which nobody enters at
        """
        values *= backward
        joint = np.multiply(values, forward, out=self._joint[: len(values)])
        joint *= self.unweight
        inverse = 1.0 / np.add.reduce(joint, 1)
        since = int(begins)
        self.entered += np.einsum("tsm,tm->sm", values[since:], inverse[since:])
        np.multiply(joint, inverse[:, None], out=values)
        self.mass += np.add.reduce(values)


def _both_ends(values: np.ndarray, step: int) -> np.ndarray:
    """Values at `step` from the beginning and from the end; no copy unless they are the same."""
    other = len(values) - 1 - step
    if step < other:
        return values[step : other + 1 : other - step]
    if step > other:
        return values[step : other - 1 if other else None : other - step]
    return values[[step, step]]


def _exponentiate(values: np.ndarray) -> np.ndarray:
    """From logarithms to values of which the largest of every model is 1; what that takes off, summed."""
    top = np.maximum.reduce(values, 1)
    values -= top[:, None]
    np.exp(values, out=values)
    return np.asarray(np.add.reduce(top))


@contextmanager
def _small_buffers() -> Iterator[None]:
    """Keep numpy from copying operands whose rows are not neighbours: longer rows it reads where they are."""
    before = np.setbufsize(_BUFFER)
    try:
        yield
    finally:
        np.setbufsize(before)
