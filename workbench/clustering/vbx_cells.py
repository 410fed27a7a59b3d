"""One cell of a VBx grid on its way through the updates: what it has, and how it goes on.

Speakers that VBx has switched off become alike: with next to no mass each is described by its prior alone.
One column then stands for all of them, with its multiplicity.

Where a decision is so close that rounding could turn it (whether the updates end, whether a speaker is
kept) the cell is computed again by `vbx` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import EPSILON, MIN_PRIOR, vbx

_WIDTHS = np.array([2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])  # columns that models are filled up to
_CLOSE_GAIN = 1e-4  # gains that differ from epsilon by less than this part of it are left to `vbx`;
_ROUNDING = 1e-9  # and by less than this: what rounding does to the bound is ten times smaller
_CLOSE_PRIOR = 1e-9  # and priors this near to MIN_PRIOR
_SAME_MASS = 1e-6  # embeddings: speakers with less are alike; products of two such numbers are neglected
_SAME_LEVEL = 1e-4  # relative difference of masses at the floor; its square times the mass is neglected
_SAME_PRIOR = 1e-9  # the same as a fraction of all embeddings, which must be small against TINY


@dataclass(frozen=True, eq=False)
class VBxCell:
    """What VBx found for one pair (Fa, Fb).

    Attributes
    ----------
    weights : float array, shape (num_shown, num_embeddings)
        Responsibilities of the speakers whose prior is above `MIN_PRIOR`, in their order.
    speakers : int array, shape (num_shown,)
        Which they are.
    pi : float64 array, shape (num_speakers,)
        Prior of every speaker.
    elbo : float64 array, shape (num_iterations,)
        Bound after every iteration.
    converged : whether the updates ended before the iterations were used up
    recomputed : whether a close decision was left to `vbx`
    """

    weights: np.ndarray
    speakers: np.ndarray
    pi: np.ndarray
    elbo: np.ndarray
    converged: bool
    recomputed: bool = False

    @property
    def num_kept(self) -> int:
        """Speakers that have not been switched off."""
        return int((self.pi > MIN_PRIOR).sum())


@dataclass(frozen=True, eq=False)
class VBxStart:
    """Where the updates of many cells start: everything that does not depend on Fa and Fb.

    Attributes
    ----------
    features : float64 array, shape (num_embeddings, lda_dim)
        As `vbx` takes them.
    phi : float64 array, shape (lda_dim,)
    gamma : float64 array, shape (num_embeddings, num_speakers)
    precision : "f64", or "f32": faster, but then nothing is exact
    """

    features: np.ndarray
    phi: np.ndarray
    gamma: np.ndarray
    precision: str = "f64"
    design: np.ndarray = field(init=False)  # `rho`, and a column of ones that offsets are multiplied by
    evidence: float = field(init=False)
    mass: np.ndarray = field(init=False)
    first_order: np.ndarray = field(init=False)
    longest: float = field(init=False)
    total: np.ndarray = field(init=False)  # sum of `rho` over embeddings

    def __post_init__(self) -> None:
        dtype = np.float64 if self.precision == "f64" else np.float32
        with single_blas_thread():
            rho = self.features * np.sqrt(self.phi)  # (18)
            object.__setattr__(self, "mass", self.gamma.sum(axis=0))
            object.__setattr__(self, "first_order", self.gamma.T @ rho)  # (speaker, dimension)
        object.__setattr__(self, "longest", float(np.sum(rho**2, axis=1).max(initial=0.0)))
        constant = np.sum(self.features**2) + self.features.size * np.log(2 * np.pi)
        object.__setattr__(self, "evidence", float(-0.5 * constant))  # (23), summed over embeddings
        ones = np.ones((len(rho), 1))
        object.__setattr__(self, "design", np.concatenate([rho, ones], axis=1).astype(dtype, copy=False))
        object.__setattr__(self, "total", rho.sum(axis=0))


def plain_cell(
    start: VBxStart,
    Fa: float,
    Fb: float,
    *,
    max_iters: int = 20,
    epsilon: float = EPSILON,
    loop_prob: float | None = None,
) -> VBxCell:
    """The same for one cell, by `vbx`."""
    found = vbx(
        start.features,
        start.phi,
        start.gamma,
        Fa=float(Fa),
        Fb=float(Fb),
        max_iters=max_iters,
        epsilon=epsilon,
        loop_prob=loop_prob,
    )
    speakers = np.flatnonzero(found.pi > MIN_PRIOR)
    weights = np.ascontiguousarray(found.gamma[:, speakers].T)
    return VBxCell(weights, speakers, found.pi, found.elbo, found.converged, recomputed=True)


class RunningCell:
    """One pair (Fa, Fb) on its way.

    A column of its arrays is a speaker; the last one may stand for all that are switched off, and
    `copies` says for how many. There are two columns at least, for one row alone would be multiplied
    by another routine, which rounds differently.
    """

    def __init__(self, start: VBxStart, index: int, Fa: float, Fb: float, max_iters: int, loop_prob: float):
        self.start, self.index = start, index
        self.Fa, self.Fb, self.max_iters, self.loop_prob = Fa, Fb, max_iters, loop_prob
        num_speakers = start.gamma.shape[1]
        missing = max(2 - num_speakers, 0)
        self.mass = np.pad(start.mass, (0, missing))
        self.first_order = np.pad(start.first_order, ((0, missing), (0, 0)))
        self.copies = np.pad(np.ones(num_speakers), (0, missing))
        self.pi = self.copies / max(num_speakers, 1)
        self.speaker = np.arange(len(self.copies))
        self.absorbed = np.zeros(0, dtype=np.int64)
        self.elbo: list[float] = []

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.copies)

    @property
    def room(self) -> int:
        """Columns that it is filled up to beside others."""
        place = np.searchsorted(_WIDTHS, self.width)
        return int(_WIDTHS[place]) if place < len(_WIDTHS) else -(-self.width // 64) * 64

    def take(self, mass: np.ndarray, pi: np.ndarray, likelihood: float, regular: float) -> None:
        """The outcome of an iteration: mass and priors, of all copies together, and the bound."""
        there = np.maximum(self.copies, 1)
        self.mass, self.pi = mass / there, pi / there
        self.elbo.append(likelihood + self.Fa * self.start.evidence + regular)

    def verdict(self, epsilon: float) -> str:
        """Whether the cell "goes on", has "ended", or something is too "close" to tell."""
        exact = self.start.precision == "f64"
        gain = self.elbo[-1] - self.elbo[-2] if len(self.elbo) > 1 else np.inf
        if exact and abs(gain - epsilon) < max(_CLOSE_GAIN * abs(epsilon), _ROUNDING):
            return "close"
        gained = (self.mass > 100 * self._off_limit) | (self.pi > 10 * _SAME_PRIOR)
        if (gained & (self.copies > 1)).any():
            return "close"  # those who were switched off, and taken for alike, are back
        if gain >= epsilon and len(self.elbo) < self.max_iters:
            return "goes on"
        if exact and ((abs(self.pi - MIN_PRIOR) < _CLOSE_PRIOR) & (self.copies > 0)).any():
            return "close"
        return "ended"

    @property
    def _off_limit(self) -> float:
        """Mass below which a speaker is switched off."""
        return min(_SAME_MASS, _SAME_PRIOR * len(self.start.design))

    def switched_off(self) -> np.ndarray:
        """Columns that one column can stand for from now on."""
        off = (self.mass < self._off_limit) | self._at_the_floor()
        off &= (self.pi <= _SAME_PRIOR) & (self.copies > 0)
        return off if off.sum() > 1 else np.zeros(self.width, dtype=bool)

    def maximise(self, first_order: np.ndarray, off: np.ndarray) -> None:
        """Statistics (column, dimension) of the responsibilities; rows of those switched off are not read."""
        if off.any():
            first_order = self._absorb(first_order, off)
        self.first_order = first_order / np.maximum(self.copies, 1)[:, None]

    def _at_the_floor(self) -> np.ndarray:
        """Speakers with a little more mass, whom the constant beside the prior keeps all at one level."""
        floor = self.mass.min(where=self.copies > 0, initial=np.inf)
        if not 0 < floor < 10 * self._off_limit:
            return np.zeros(self.width, dtype=bool)
        feedback = self.Fa**2 / self.Fb * floor * self.start.longest  # how much their mean can matter
        return (self.mass - floor < _SAME_LEVEL * floor) & (feedback < _SAME_LEVEL)

    def _absorb(self, first_order: np.ndarray, off: np.ndarray) -> np.ndarray:
        """Let one column stand for all speakers that have been switched off."""
        kept = np.flatnonzero(~off & (self.copies > 0))
        copies = self.copies[off]
        # responsibilities sum to 1, so that these have what the others leave
        together = self.start.total - first_order[kept].sum(axis=0)
        self.absorbed = np.concatenate([self.absorbed, self.speaker[off][copies == 1]])
        empty = max(1 - len(kept), 0)
        for name, value in (
            ("mass", np.average(self.mass[off], weights=copies)),
            ("pi", np.average(self.pi[off], weights=copies)),
            ("copies", copies.sum()),
            ("speaker", -1),
        ):
            values = getattr(self, name)
            setattr(self, name, np.concatenate([values[kept], [value], np.zeros(empty, values.dtype)]))
        return np.concatenate([first_order[kept], together[None], np.zeros((empty, len(together)))])

    def outcome(
        self, verdict: str, epsilon: float, rows: Callable[[np.ndarray], np.ndarray], *, markov: bool = False
    ) -> VBxCell:
        """What was found, after the last iteration; `rows` gives responsibilities of some columns."""
        if verdict == "close":
            return plain_cell(
                self.start,
                self.Fa,
                self.Fb,
                max_iters=self.max_iters,
                epsilon=epsilon,
                loop_prob=self.loop_prob if markov else None,
            )
        columns = np.flatnonzero(self.copies == 1)
        pi = np.zeros(self.start.gamma.shape[1])
        pi[self.speaker[columns]] = self.pi[columns]
        if len(self.absorbed):
            pi[self.absorbed] = self.pi[np.argmax(self.copies)]
        shown = columns[self.pi[columns] > MIN_PRIOR]
        elbo = np.array(self.elbo)
        return VBxCell(
            weights=np.ascontiguousarray(rows(shown)),
            speakers=self.speaker[shown],
            pi=pi,
            elbo=elbo,
            converged=len(elbo) > 1 and bool(elbo[-1] - elbo[-2] < epsilon),
        )
