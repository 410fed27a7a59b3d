"""VBx for many (Fa, Fb) at once, from one start partition.

The numbers are those of `vbx`, up to the rounding of sums in another order. Three things make it fast:

- what cells share is computed once: the features, the statistics of the start partition;
- a cell whose updates have ended leaves, with the iteration at which `vbx` ends;
- speakers that VBx has switched off become alike: with next to no mass each is described by its prior
  alone. One column then stands for all of them, with its multiplicity.

Where a decision is so close that rounding could turn it (whether the updates end, whether a speaker is
kept) the cell is computed again by `vbx` itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.clustering.forward_backward import hmm_posteriors
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import EPSILON, MIN_PRIOR, TINY, vbx

_COLUMNS_AT_ONCE = 2**22  # responsibilities of hidden Markov models that are updated together
_NARROW = 8  # columns
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
    rho: np.ndarray = field(init=False)
    evidence: float = field(init=False)
    mass: np.ndarray = field(init=False)
    first_order: np.ndarray = field(init=False)
    longest: float = field(init=False)

    def __post_init__(self) -> None:
        dtype = np.float64 if self.precision == "f64" else np.float32
        with single_blas_thread():
            rho = self.features * np.sqrt(self.phi)  # (18)
            object.__setattr__(self, "mass", self.gamma.sum(axis=0))
            object.__setattr__(self, "first_order", self.gamma.T @ rho)  # (speaker, dimension)
        object.__setattr__(self, "longest", float(np.sum(rho**2, axis=1).max(initial=0.0)))
        constant = np.sum(self.features**2) + self.features.size * np.log(2 * np.pi)
        object.__setattr__(self, "evidence", float(-0.5 * constant))  # (23), summed over embeddings
        object.__setattr__(self, "rho", np.ascontiguousarray(rho, dtype=dtype))


def vbx_many(
    start: VBxStart,
    Fa: Sequence[float] | np.ndarray,
    Fb: Sequence[float] | np.ndarray,
    *,
    max_iters: int | Sequence[int] | np.ndarray = 20,
    epsilon: float = EPSILON,
    loop_prob: float | Sequence[float] | np.ndarray | None = None,
    num_columns: int | None = None,
) -> Iterator[tuple[int, VBxCell]]:
    """Results of `vbx` for every pair (Fa[i], Fb[i]), each as soon as it is there.

    Parameters
    ----------
    start : shared by all cells
    Fa, Fb : scale of the statistics, and of the speaker regularisation, one per cell
    max_iters : updates at most, for all or one per cell
    epsilon : as of `vbx`
    loop_prob : as of `vbx`, for all or one per cell
    num_columns : numbers of the hidden Markov model that are worked on together, embeddings x speakers.
        The results do not depend on it.

    Yields
    ------
    index : position of the cell in `Fa`
    cell : VBxCell
    """
    Fa, Fb = np.asarray(Fa, dtype=np.float64), np.asarray(Fb, dtype=np.float64)
    iterations = np.broadcast_to(np.asarray(max_iters, dtype=np.int64), Fa.shape)
    stays = np.broadcast_to(np.asarray(np.nan if loop_prob is None else loop_prob, np.float64), Fa.shape)
    waiting = deque(
        _Cell(start, index, *values)
        for index, values in enumerate(
            zip(Fa.tolist(), Fb.tolist(), iterations.tolist(), stays.tolist(), strict=True)
        )
    )
    # The recursion over time is a loop of small steps, which many cells share; a cell of the mixture
    # keeps the processor busy alone. Places that cells leave are taken at once.
    room = _COLUMNS_AT_ONCE if num_columns is None else num_columns
    room = 0 if loop_prob is None else max(room // max(len(start.rho), 1), 1)
    running: list[_Cell] = []
    while waiting or running:
        taken = sum(cell.width for cell in running)
        while waiting and (not running or taken + waiting[0].width <= room):
            taken += waiting[0].width
            running.append(waiting.popleft())
        with single_blas_thread():
            found = _mixture(running[0]) if loop_prob is None else _markov(running)
        going_on = []
        for cell, gamma in zip(running, found, strict=True):
            verdict = cell.verdict(epsilon)
            if verdict == "goes on":
                with single_blas_thread():
                    cell.maximise(gamma)
                going_on.append(cell)
            elif verdict == "ended":
                yield cell.index, cell.result(gamma, epsilon)
            else:
                yield (
                    cell.index,
                    plain_cell(
                        start,
                        cell.Fa,
                        cell.Fb,
                        max_iters=cell.max_iters,
                        epsilon=epsilon,
                        loop_prob=None if loop_prob is None else cell.loop_prob,
                    ),
                )
        running = going_on


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


class _Cell:
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

    def log_likelihoods(self, out: np.ndarray) -> float:
        """Log-likelihood (23) of every embedding under every column, into `out` (column, embedding).

        Without what is the same for all columns. Returns the regularisation of the bound (25).
        """
        phi, rho, ratio = self.start.phi, self.start.rho, self.Fa / self.Fb
        inv_l = 1.0 / (1.0 + ratio * self.mass[:, None] * phi)  # (17)
        alpha = ratio * inv_l * self.first_order  # (16)
        squares = alpha**2
        np.matmul((self.Fa * alpha).astype(rho.dtype, copy=False), rho.T, out=out)
        offset = -0.5 * self.Fa * ((inv_l + squares) @ phi)
        out += offset[:, None].astype(out.dtype, copy=False)
        regular = (np.log(inv_l) - inv_l - squares + 1).sum(axis=1)
        return 0.5 * self.Fb * float(regular @ self.copies)

    def take(self, gamma: np.ndarray, pi: np.ndarray | None, likelihood: float, regular: float) -> None:
        """The outcome of an iteration: responsibilities, priors (None: as `gamma` has it), the bound."""
        mass = gamma.sum(axis=1, dtype=np.float64)
        pi = mass / mass.sum() if pi is None else pi
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
        return min(_SAME_MASS, _SAME_PRIOR * len(self.start.rho))

    def maximise(self, gamma: np.ndarray) -> None:
        """Statistics of the responsibilities (column, embedding)."""
        off = (self.mass < self._off_limit) | self._at_the_floor()
        off &= (self.pi <= _SAME_PRIOR) & (self.copies > 0)
        if off.sum() > 1:
            gamma = self._absorb(gamma, off)
        first_order = (gamma @ self.start.rho).astype(np.float64, copy=False)
        self.first_order = first_order / np.maximum(self.copies, 1)[:, None]

    def _at_the_floor(self) -> np.ndarray:
        """Speakers with a little more mass, whom the constant beside the prior keeps all at one level."""
        floor = self.mass.min(where=self.copies > 0, initial=np.inf)
        if not 0 < floor < 10 * self._off_limit:
            return np.zeros(self.width, dtype=bool)
        feedback = self.Fa**2 / self.Fb * floor * self.start.longest  # how much their mean can matter
        return (self.mass - floor < _SAME_LEVEL * floor) & (feedback < _SAME_LEVEL)

    def _absorb(self, gamma: np.ndarray, off: np.ndarray) -> np.ndarray:
        """Let one column stand for all speakers that have been switched off."""
        kept = np.flatnonzero(~off & (self.copies > 0))
        copies = self.copies[off]
        together = off.astype(gamma.dtype) @ gamma
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
        nothing = np.zeros((empty, gamma.shape[1]), dtype=gamma.dtype)
        return np.concatenate([gamma[kept], together[None], nothing])

    def result(self, gamma: np.ndarray, epsilon: float) -> VBxCell:
        """What was found, after the last iteration."""
        columns = np.flatnonzero(self.copies == 1)
        pi = np.zeros(self.start.gamma.shape[1])
        pi[self.speaker[columns]] = self.pi[columns]
        if len(self.absorbed):
            pi[self.absorbed] = self.pi[np.argmax(self.copies)]
        shown = columns[self.pi[columns] > MIN_PRIOR]
        elbo = np.array(self.elbo)
        return VBxCell(
            weights=gamma[shown],
            speakers=self.speaker[shown],
            pi=pi,
            elbo=elbo,
            converged=len(elbo) > 1 and bool(elbo[-1] - elbo[-2] < epsilon),
        )


def _mixture(cell: _Cell) -> list[np.ndarray]:
    """One iteration where embeddings are independent: responsibilities (column, embedding)."""
    joint = np.empty((cell.width, len(cell.start.rho)), dtype=cell.start.rho.dtype)
    regular = cell.log_likelihoods(joint)
    with np.errstate(divide="ignore"):
        prior = np.log(cell.pi + TINY) + np.log(cell.copies)
    joint += prior[:, None].astype(joint.dtype, copy=False)
    top = joint.max(axis=0)
    joint -= top
    np.exp(joint, out=joint)
    denominator = joint.sum(axis=0)
    joint /= denominator
    likelihood = (top + np.log(denominator)).sum(dtype=np.float64)
    cell.take(joint, None, float(likelihood), regular)
    return [joint]


def _markov(cells: list[_Cell]) -> list[np.ndarray]:
    """One iteration of hidden Markov models: responsibilities (column, embedding) of every cell."""
    found: dict[int, np.ndarray] = {}
    for narrow in (True, False):  # few wide cells must not make all others wide
        alike = [cell for cell in cells if (cell.width <= _NARROW) == narrow]
        if not alike:
            continue
        width = max(cell.width for cell in alike)
        joint = np.zeros((len(alike), width, len(cells[0].start.rho)), dtype=cells[0].start.rho.dtype)
        pi, copies = np.zeros(joint.shape[:2]), np.zeros(joint.shape[:2])
        regular = []
        for number, cell in enumerate(alike):
            regular.append(cell.log_likelihoods(joint[number, : cell.width]))
            pi[number, : cell.width], copies[number, : cell.width] = cell.pi, cell.copies
        stays = np.array([cell.loop_prob for cell in alike])
        gamma, pi, likelihood = hmm_posteriors(joint, pi, copies, stays)
        for number, cell in enumerate(alike):
            found[cell.index] = gamma[number, : cell.width]
            cell.take(found[cell.index], pi[number, : cell.width], float(likelihood[number]), regular[number])
    return [found[cell.index] for cell in cells]
