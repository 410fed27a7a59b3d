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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench.clustering.forward_backward import hmm_posteriors
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import EPSILON, MIN_PRIOR, TINY, vbx

_BLOCK = 2**22  # responsibilities that are updated together, at most
_CLOSE_GAIN = 1e-8  # gains this near to epsilon are left to `vbx`; rounding is a hundred times smaller
_CLOSE_PRIOR = 1e-9  # and priors this near to MIN_PRIOR
_SAME_MASS = 1e-6  # embeddings: speakers with less are alike; products of two such numbers are neglected
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

    def __post_init__(self) -> None:
        dtype = np.float64 if self.precision == "f64" else np.float32
        with single_blas_thread():
            rho = self.features * np.sqrt(self.phi)  # (18)
            object.__setattr__(self, "mass", self.gamma.sum(axis=0))
            object.__setattr__(self, "first_order", self.gamma.T @ rho)  # (speaker, dimension)
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
    block_size: int | None = None,
) -> Iterator[tuple[int, VBxCell]]:
    """Results of `vbx` for every pair (Fa[i], Fb[i]), each as soon as it is there.

    Parameters
    ----------
    start : shared by all cells
    Fa, Fb : scale of the statistics, and of the speaker regularisation, one per cell
    max_iters : updates at most, for all or one per cell
    epsilon : as of `vbx`
    loop_prob : as of `vbx`, for all or one per cell
    block_size : cells of the hidden Markov model that are worked on together. The results do not
        depend on it.

    Yields
    ------
    index : position of the cell in `Fa`
    cell : VBxCell
    """
    Fa, Fb = np.asarray(Fa, dtype=np.float64), np.asarray(Fb, dtype=np.float64)
    iterations = np.broadcast_to(np.asarray(max_iters, dtype=np.int64), Fa.shape)
    staying = None if loop_prob is None else np.broadcast_to(np.asarray(loop_prob, np.float64), Fa.shape)
    if staying is None:
        block_size = 1  # one cell keeps the processor busy, and its columns need no filling up
    elif block_size is None:
        # the recursion over time is a loop of small steps, which many cells share
        block_size = max(1, _BLOCK // max(start.gamma.size, 1))
    for first in range(0, len(Fa), block_size):
        chosen = np.arange(first, min(first + block_size, len(Fa)))
        stays = None if staying is None else staying[chosen]
        block = _Block(start, chosen, Fa[chosen], Fb[chosen], iterations[chosen], epsilon, stays)
        for index, cell in block.run():
            if cell is None:
                cell = plain_cell(
                    start,
                    Fa[index],
                    Fb[index],
                    max_iters=int(iterations[index]),
                    epsilon=epsilon,
                    loop_prob=None if staying is None else float(staying[index]),
                )
            yield index, cell


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


class _Block:
    """Cells that are updated together; arrays have the axes (cell, speaker, ...).

    `members` holds the speakers that a column stands for: usually one; in the last column of a cell
    all that are switched off. A cell with fewer columns than the block has empty ones at its end.
    """

    def __init__(
        self,
        start: VBxStart,
        index: np.ndarray,
        Fa: np.ndarray,
        Fb: np.ndarray,
        max_iters: np.ndarray,
        epsilon: float,
        loop_prob: np.ndarray | None,
    ):
        self.start, self.epsilon, self.loop_prob = start, epsilon, loop_prob
        self.index, self.Fa, self.Fb, self.max_iters = index, Fa, Fb, max_iters
        num_cells, num_speakers = len(index), start.gamma.shape[1]
        self.num_speakers = num_speakers
        # one row alone would be multiplied by another routine, which rounds differently
        width = max(num_speakers, 2)
        self.mass = np.zeros((num_cells, width))
        self.mass[:, :num_speakers] = start.mass
        self.first_order = np.zeros((num_cells, width, start.rho.shape[1]))
        self.first_order[:, :num_speakers] = start.first_order
        self.pi = np.full((num_cells, width), 1.0 / max(num_speakers, 1))
        self.copies = np.zeros((num_cells, width))
        self.copies[:, :num_speakers] = 1.0
        self.speaker = np.tile(np.arange(width), (num_cells, 1))
        self.absorbed = [np.zeros(0, dtype=np.int64) for _ in index]
        self.elbo: list[list[float]] = [[] for _ in index]

    def run(self) -> Iterator[tuple[int, VBxCell | None]]:
        """Every cell when its updates end; None where a decision was too close."""
        for _ in range(int(self.max_iters.max(initial=0))):
            with single_blas_thread():
                gamma = self._expect()
            ended, doubtful = self._ended()
            doubtful |= (ended & self._doubtful_priors()) | self._revived()
            for cell in np.flatnonzero(ended | doubtful).tolist():
                yield int(self.index[cell]), None if doubtful[cell] else self._result(cell, gamma[cell])
            going_on = ~(ended | doubtful)
            if not going_on.any():
                return
            with single_blas_thread():
                self._maximise(gamma, going_on)

    def _expect(self) -> list[np.ndarray]:
        """Responsibilities (speaker, embedding) of every cell, priors and the bound, given the statistics."""
        phi, rho = self.start.phi, self.start.rho
        num_cells, width, _ = self.first_order.shape
        ratio = (self.Fa / self.Fb)[:, None, None]
        inv_l = 1.0 / (1.0 + ratio * self.mass[:, :, None] * phi)  # (17)
        alpha = ratio * inv_l * self.first_order  # (16)
        squares = alpha**2
        offset = -0.5 * self.Fa[:, None] * np.einsum("csd,d->cs", inv_l + squares, phi)
        regular = (np.log(inv_l) - inv_l - squares + 1).sum(axis=2)
        # one after the other, so that empty columns at the end change nothing
        regular = 0.5 * self.Fb * np.cumsum(regular * self.copies, axis=1)[:, -1]

        gamma, likelihood = [np.empty(0)] * num_cells, np.zeros(num_cells)
        together = np.zeros((num_cells, width))
        for cells in self._alike():
            used = [self._used[cell] for cell in cells]
            joint = np.zeros((len(cells), max(used), len(rho)), dtype=rho.dtype)
            for cell, out, count in zip(cells, joint, used, strict=True):
                scaled = (self.Fa[cell] * alpha[cell, :count]).astype(rho.dtype, copy=False)
                np.matmul(scaled, rho.T, out=out[:count])  # a larger product could round differently
            near = np.ix_(cells, range(max(used)))
            if self.loop_prob is not None:
                joint += offset[near][:, :, None]
                joint, self.pi[near], likelihood[cells] = hmm_posteriors(
                    joint, self.pi[near], self.copies[near], self.loop_prob[cells]
                )
            else:
                with np.errstate(divide="ignore"):
                    prior = np.log(self.pi[near] + TINY) + np.log(self.copies[near])
                likelihood[cells] = _softmax(joint, offset[near] + prior)
            together[near] = joint.sum(axis=2, dtype=np.float64)
            for cell, found, count in zip(cells, joint, used, strict=True):
                gamma[cell] = found[:count]
        if self.loop_prob is None:
            self.pi = together / together.sum(axis=1, keepdims=True)
        np.divide(together, self.copies, out=self.mass, where=self.copies > 0)
        np.divide(self.pi, self.copies, out=self.pi, where=self.copies > 0)
        bounds = likelihood + self.Fa * self.start.evidence + regular  # (25)
        for trace, bound in zip(self.elbo, bounds.tolist(), strict=True):
            trace.append(bound)
        return gamma

    def _alike(self) -> list[list[int]]:
        """The cells, those with about as many columns together."""
        classes: dict[int, list[int]] = {}
        for cell, used in enumerate(self._used):
            classes.setdefault((used - 1).bit_length(), []).append(cell)
        return list(classes.values())

    def _ended(self) -> tuple[np.ndarray, np.ndarray]:
        """Which cells end after this iteration, and for which that is too close to tell."""
        done = len(self.elbo[0])
        ended = self.max_iters <= done
        doubtful = np.zeros(len(ended), dtype=bool)
        if done > 1:
            gain = np.array([trace[-1] - trace[-2] for trace in self.elbo])
            ended |= gain < self.epsilon
            doubtful = self._is_exact & (np.abs(gain - self.epsilon) < _CLOSE_GAIN)
        return ended, doubtful

    @property
    def _is_exact(self) -> bool:
        return self.start.precision == "f64"

    def _doubtful_priors(self) -> np.ndarray:
        """Cells in which it is too close to tell whether a speaker is kept."""
        close = (np.abs(self.pi - MIN_PRIOR) < _CLOSE_PRIOR) & (self.copies > 0)
        return np.asarray(close.any(axis=1)) & self._is_exact

    def _revived(self) -> np.ndarray:
        """Cells in which speakers that were switched off, and taken for alike, have gained mass."""
        gained = (self.mass > 10 * self._off_limit) | (self.pi > 10 * _SAME_PRIOR)
        return np.asarray((gained & (self.copies > 1)).any(axis=1))

    @property
    def _used(self) -> list[int]:
        """Columns of every cell that are worked with: those at its beginning, and two at least."""
        return np.maximum((self.copies > 0).sum(axis=1), 2).tolist()

    @property
    def _off_limit(self) -> float:
        """Mass below which a speaker is switched off."""
        return min(_SAME_MASS, _SAME_PRIOR * len(self.start.rho))

    def _result(self, cell: int, gamma: np.ndarray) -> VBxCell:
        single = self.copies[cell] == 1
        columns = np.flatnonzero(single)
        columns = columns[np.argsort(self.speaker[cell, columns])]
        pi = np.zeros(self.num_speakers)
        pi[self.speaker[cell, columns]] = self.pi[cell, columns]
        if len(self.absorbed[cell]):
            pi[self.absorbed[cell]] = self.pi[cell, np.argmax(self.copies[cell])]
        elbo = np.array(self.elbo[cell])
        shown = columns[self.pi[cell, columns] > MIN_PRIOR]
        return VBxCell(
            weights=gamma[shown],
            speakers=self.speaker[cell, shown],
            pi=pi,
            elbo=elbo,
            converged=len(elbo) > 1 and bool(elbo[-1] - elbo[-2] < self.epsilon),
        )

    def _maximise(self, gamma: list[np.ndarray], going_on: np.ndarray) -> None:
        """Statistics of the responsibilities of the cells that go on."""
        kept = np.flatnonzero(going_on).tolist()
        if len(kept) < len(gamma):
            gamma = [gamma[cell] for cell in kept]
            self.absorbed = [self.absorbed[cell] for cell in kept]
            self.elbo = [self.elbo[cell] for cell in kept]
            for name in ("index", "Fa", "Fb", "max_iters", "mass", "pi", "copies", "speaker"):
                setattr(self, name, getattr(self, name)[kept])
            if self.loop_prob is not None:
                self.loop_prob = self.loop_prob[kept]
        gamma = self._absorb(gamma)
        self.first_order = np.zeros((*self.mass.shape, self.start.rho.shape[1]))
        for each, out in zip(gamma, self.first_order, strict=True):
            out[: len(each)] = each @ self.start.rho
        many = self.copies[:, :, None] > 1
        np.divide(self.first_order, self.copies[:, :, None], out=self.first_order, where=many)

    def _absorb(self, gamma: list[np.ndarray]) -> list[np.ndarray]:
        """Let one column stand for all speakers of a cell that have been switched off."""
        off = (self.mass < self._off_limit) & (self.pi <= _SAME_PRIOR) & (self.copies > 0)
        several = off.sum(axis=1) > 1
        if not several.any():
            return gamma
        off &= several[:, None]
        alone = (self.copies > 0) & ~off
        width = max(2, int((alone.sum(axis=1) + several).max()))
        old = {name: getattr(self, name) for name in ("mass", "pi", "copies", "speaker")}
        for name, values in old.items():
            setattr(self, name, np.zeros((len(off), width), dtype=values.dtype))
        merged = []
        for cell, each in enumerate(gamma):
            kept, gone = np.flatnonzero(alone[cell]), np.flatnonzero(off[cell])
            for name, values in old.items():
                getattr(self, name)[cell, : len(kept)] = values[cell, kept]
            if not len(gone):
                merged.append(each)
                continue
            copies, last = old["copies"][cell, gone], len(kept)
            for name in ("mass", "pi"):
                getattr(self, name)[cell, last] = np.average(old[name][cell, gone], weights=copies)
            self.copies[cell, last] = copies.sum()
            columns = np.zeros((max(2, last + 1), each.shape[1]), dtype=each.dtype)
            columns[:last] = each[kept]
            columns[last] = off[cell, : len(each)].astype(each.dtype) @ each
            merged.append(columns)
            singles = old["speaker"][cell, gone[copies == 1]]
            self.absorbed[cell] = np.concatenate([self.absorbed[cell], singles])
        return merged


def _softmax(joint: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Put the softmax over speakers of `joint` + `offset` into `joint`; log of its denominators, summed.

    Parameters
    ----------
    joint : float array, shape (num_cells, num_speakers, num_embeddings)
    offset : float64 array, shape (num_cells, num_speakers)
        Minus infinity for columns that do not exist.
    """
    joint += offset[:, :, None].astype(joint.dtype, copy=False)
    top = joint.max(axis=1)
    joint -= top[:, None]
    np.exp(joint, out=joint)
    denominator = joint.sum(axis=1)
    joint /= denominator[:, None]
    return np.asarray((top + np.log(denominator)).sum(axis=1, dtype=np.float64))
