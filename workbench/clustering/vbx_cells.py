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
from scipy.sparse import csr_array

from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import EPSILON, MIN_PRIOR, vbx

_CLOSE_GAIN = 1e-4  # gains that differ from epsilon by less than this part of it are left to `vbx`;
_ROUNDING = 1e-9  # and by less than this: what rounding does to the bound is several times smaller,
_ROUNDED = 2.0**-52  # and so it is than this part of a large bound, times the root of the number of terms
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
    responsibilities : float64 array, shape (num_embeddings, num_speakers)
        Or (num_groups, num_speakers) with `groups`.
    precision : "f64", or "f32": faster, but then nothing is exact
    groups : int array, shape (num_embeddings,), optional
        Row of `responsibilities` of every embedding, where many start alike.
    """

    features: np.ndarray
    phi: np.ndarray
    responsibilities: np.ndarray
    precision: str = "f64"
    groups: np.ndarray | None = None
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
            sizes, sums = np.ones(len(rho)), rho
            if self.groups is not None:  # by far fewer products
                members = _membership(self.groups, len(self.responsibilities))
                sizes, sums = members @ sizes, members @ rho
            object.__setattr__(self, "mass", sizes @ self.responsibilities)
            object.__setattr__(self, "first_order", self.responsibilities.T @ sums)  # (speaker, dimension)
        object.__setattr__(self, "longest", float(np.sum(rho**2, axis=1).max(initial=0.0)))
        constant = np.sum(self.features**2) + self.features.size * np.log(2 * np.pi)
        object.__setattr__(self, "evidence", float(-0.5 * constant))  # (23), summed over embeddings
        ones = np.ones((len(rho), 1))
        object.__setattr__(self, "design", np.concatenate([rho, ones], axis=1).astype(dtype, copy=False))
        object.__setattr__(self, "total", rho.sum(axis=0))

    @property
    def num_speakers(self) -> int:
        """Speakers at the start."""
        return int(self.responsibilities.shape[1])

    @property
    def gamma(self) -> np.ndarray:
        """Responsibilities (num_embeddings, num_speakers)."""
        return self.responsibilities if self.groups is None else self.responsibilities[self.groups]


def _membership(groups: np.ndarray, num_groups: int) -> csr_array:
    """One row per group, with a one for each of its members."""
    entries = np.ones(len(groups)), (groups, np.arange(len(groups)))
    return csr_array(entries, shape=(num_groups, len(groups)))


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


def verdicts(
    mass: np.ndarray,
    pi: np.ndarray,
    copies: np.ndarray,
    bound: np.ndarray,
    gain: np.ndarray,
    capped: np.ndarray,
    epsilon: float,
    start: VBxStart,
) -> tuple[np.ndarray, np.ndarray]:
    """Which cells go on, and of which something is too close to tell; the others have ended.

    Parameters
    ----------
    mass, pi, copies : float64 arrays, shape (num_columns, num_cells)
        Mass and prior of every column, for each of its copies; a column without copies only fills up.
    bound, gain : float64 arrays, shape (num_cells,)
        The bound on the evidence, and by how much it has grown.
    capped : bool array, shape (num_cells,)
        Whether the iterations are used up.
    epsilon : a smaller gain ends the updates
    start : of any of the cells

    Returns
    -------
    goes_on, close : bool arrays, shape (num_cells,)
    """
    exact = start.precision == "f64"
    # the Markov model of `vbx` adds one term per embedding, so that its bound is rounded as often
    rounding = np.maximum(_ROUNDED * np.sqrt(len(start.design)) * np.abs(bound), _ROUNDING)
    near = (np.abs(gain - epsilon) < np.maximum(_CLOSE_GAIN * abs(epsilon), rounding)) & exact
    # those who were switched off, and taken for alike, are back
    gained = (mass > 100 * _off_limit(start)) | (pi > 10 * _SAME_PRIOR)
    back = (gained & (copies > 1)).any(axis=0)
    goes_on = (gain >= epsilon) & ~capped
    uncertain = (np.abs(pi - MIN_PRIOR) < _CLOSE_PRIOR) & (copies > 0)
    close = near | back | (uncertain.any(axis=0) & ~goes_on & exact)
    return goes_on & ~close, close


def switched_off(
    mass: np.ndarray, pi: np.ndarray, copies: np.ndarray, Fa: np.ndarray, Fb: np.ndarray, start: VBxStart
) -> np.ndarray:
    """Columns that one column can stand for from now on: bool array (num_columns, num_cells).

    Parameters
    ----------
    mass, pi, copies : see `verdicts`
    Fa, Fb : float64 arrays, shape (num_cells,)
    start : of any of the cells
    """
    limit = _off_limit(start)
    # with a little more mass, the constant beside the prior keeps all at one level
    floor = mass.min(axis=0, where=copies > 0, initial=np.inf)
    feedback = Fa**2 / Fb * floor * start.longest  # how much their mean can matter
    level = (floor > 0) & (floor < 10 * limit) & (feedback < _SAME_LEVEL)
    off = (mass < limit) | (level & (mass - floor < _SAME_LEVEL * floor))
    off &= (pi <= _SAME_PRIOR) & (copies > 0)
    return np.asarray(off & (off.sum(axis=0) > 1))


def _off_limit(start: VBxStart) -> float:
    """Mass below which a speaker is switched off."""
    return min(_SAME_MASS, _SAME_PRIOR * len(start.design))


class RunningCell:
    """One pair (Fa, Fb) on its way.

    A column of its arrays is a speaker; the last one may stand for all that are switched off, and
    `copies` says for how many. There are two columns at least, for one row alone would be multiplied
    by another routine, which rounds differently.
    """

    def __init__(self, start: VBxStart, index: int, Fa: float, Fb: float, max_iters: int, loop_prob: float):
        self.start, self.index = start, index
        self.Fa, self.Fb, self.max_iters, self.loop_prob = Fa, Fb, max_iters, loop_prob
        num_speakers = start.num_speakers
        missing = max(2 - num_speakers, 0)
        self.mass, self.first_order, self.copies = start.mass, start.first_order, np.ones(num_speakers)
        if missing:
            self.mass, self.copies = np.pad(self.mass, (0, missing)), np.pad(self.copies, (0, missing))
            self.first_order = np.pad(self.first_order, ((0, missing), (0, 0)))
        self.pi = self.copies / max(num_speakers, 1)
        self.speaker = np.arange(len(self.copies))
        self.absorbed = np.zeros(0, dtype=np.int64)
        self.elbo: list[float] = []

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.copies)

    @property
    def gain(self) -> float:
        """By which the bound has grown in the last iteration."""
        return self.elbo[-1] - self.elbo[-2] if len(self.elbo) > 1 else np.inf

    @property
    def constant(self) -> float:
        """Part of the bound that no iteration changes."""
        return self.Fa * self.start.evidence

    def take(self, mass: np.ndarray, pi: np.ndarray, bound: float) -> None:
        """The outcome of an iteration: mass and prior of every column, each copy's, and the bound."""
        self.mass, self.pi = mass, pi
        self.elbo.append(bound)

    def maximise(self, first_order: np.ndarray, off: np.ndarray) -> None:
        """The next model, from statistics (column, dimension) of the responsibilities.

        Parameters
        ----------
        first_order : of all columns, or of those alone that stay if some are switched off
        off : bool array, shape (num_columns,), as of `switched_off`
        """
        if off.any():
            first_order = self._absorb(first_order, off)
        self.first_order = first_order / np.maximum(self.copies, 1)[:, None]

    def _absorb(self, first_order: np.ndarray, off: np.ndarray) -> np.ndarray:
        """Let one column stand for all speakers that have been switched off."""
        kept = np.flatnonzero(~off & (self.copies > 0))
        copies = self.copies[off]
        # responsibilities sum to 1, so that these have what the others leave
        together = self.start.total - first_order.sum(axis=0)
        self.absorbed = np.concatenate([self.absorbed, self.speaker[off][copies == 1]])
        empty = max(1 - len(kept), 0)
        for name, value in (
            ("mass", self.mass[off] @ copies / copies.sum()),
            ("pi", self.pi[off] @ copies / copies.sum()),
            ("copies", copies.sum()),
            ("speaker", -1),
        ):
            values = getattr(self, name)
            setattr(self, name, np.concatenate([values[kept], [value], np.zeros(empty, values.dtype)]))
        return np.concatenate([first_order, together[None], np.zeros((empty, len(together)))])

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
        pi = np.zeros(self.start.num_speakers)
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
