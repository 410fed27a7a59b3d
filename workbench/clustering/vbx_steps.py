"""One update of VBx, for a cell of the mixture or for many hidden Markov models together.

Offsets and priors are one more dimension of a matrix product. What has passed through it is worked on
while the processor's cache holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from workbench.clustering.forward_backward import Scratch, hmm_posteriors
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import TINY
from workbench.clustering.vbx_cells import RunningCell, switched_off, verdicts

_TOGETHER = 4  # models are filled up to a multiple of this, for matrix products of whole tiles
_TILE = 16  # columns of a matrix product, whose last tile would be rounded differently if it was not full
_CACHED = 2**17  # responsibilities of a mixture that the cache holds
_SHORTEST = 512  # embeddings: a product with fewer takes longer to arrange its factors in memory
_NOWHERE = -1e300  # log-likelihood of a column that only fills up


def _model(
    cells: Sequence[RunningCell], mass: np.ndarray, first_order: np.ndarray, copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `design` is multiplied by for log-likelihoods (23), and the regularisation of the bound (25).

    Without what is the same for all columns.

    Parameters
    ----------
    mass, copies : float64 arrays, shape (num_columns, num_cells)
    first_order : float64 array, shape (num_columns, num_cells, lda_dim)

    Returns
    -------
    weights : float64 array, shape (num_columns, num_cells, lda_dim + 1)
    regular : float64 array, shape (num_cells,)
    """
    phi = cells[0].start.phi
    Fa, Fb = np.array([cell.Fa for cell in cells]), np.array([cell.Fb for cell in cells])
    ratio = (Fa / Fb)[:, None]
    weights = np.empty((*first_order.shape[:2], len(phi) + 1))
    scatter = ratio * phi * mass[..., None]
    scatter += 1.0
    inv_l = np.reciprocal(scatter)  # (17)
    alpha = np.multiply(first_order, inv_l, out=weights[..., :-1])  # (16)
    alpha *= ratio
    uncertain = np.square(alpha)
    uncertain += inv_l
    weights[..., -1] = np.einsum("sbd,d->sb", uncertain, phi)
    weights[..., -1] *= -0.5 * Fa
    alpha *= Fa[:, None]
    np.log(scatter, out=scatter)
    uncertain += scatter
    regular = (len(phi) - uncertain.sum(axis=2)) * copies
    return weights, 0.5 * Fb * regular.sum(axis=0)


class MixtureBuffer:
    """Responsibilities of a mixture, embedding by embedding up to a factor, in blocks that fit the cache."""

    def __init__(self) -> None:
        self.memory = np.zeros(0)
        self.blocks = np.zeros((0, 0, 0))  # (block, column, embedding)
        self.inverse = np.zeros(0)  # of the sum over columns, for every embedding

    def reshape(self, num_columns: int, num_embeddings: int, dtype: np.dtype) -> None:
        """Make room; what was there is lost."""
        length = min(max(_CACHED // num_columns, _SHORTEST), max(num_embeddings, 1))
        num_blocks = -(-num_embeddings // length)
        size = num_blocks * num_columns * length
        if len(self.memory) < size or self.memory.dtype != dtype:
            self.memory = np.empty(size, dtype=dtype)
        self.blocks = self.memory[:size].reshape(num_blocks, num_columns, length)
        self.inverse = np.empty(num_embeddings, dtype=dtype)

    def parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Embeddings of every block, and its responsibilities (column, embedding)."""
        length = self.blocks.shape[2]
        for number, block in enumerate(self.blocks):
            here = slice(number * length, min((number + 1) * length, len(self.inverse)))
            width = here.stop - here.start
            # the last is shorter, but contiguous too
            yield here, block if width == length else block.ravel()[: len(block) * width].reshape(-1, width)

    def shown(self, columns: np.ndarray) -> np.ndarray:
        """Responsibilities (column, embedding) of some columns."""
        rows = [part[columns] for _, part in self.parts()]
        return np.concatenate(rows, axis=1) * self.inverse


def mixture_step(
    cell: RunningCell, buffer: MixtureBuffer, epsilon: float, each: Callable[..., Iterable[Any]]
) -> str:
    """One iteration where embeddings are independent; the responsibilities stay in `buffer`.

    `each` is `map` or does the same with several threads; sums are taken in the order of the blocks.
    """
    design = cell.start.design
    buffer.reshape(cell.width, len(design), design.dtype)
    weights, regular = _model([cell], cell.mass[:, None], cell.first_order[:, None], cell.copies[:, None])
    with np.errstate(divide="ignore"):
        weights[:, 0, -1] += np.log(cell.pi + TINY) + np.log(cell.copies)
    weights = np.maximum(weights[:, 0], _NOWHERE if design.dtype == np.float64 else -1e30)
    weights = weights.astype(design.dtype, copy=False)

    def expect(here: slice, joint: np.ndarray) -> tuple[np.ndarray, float]:
        np.matmul(weights, design[here].T, out=joint)
        top = joint.max(axis=0)
        joint -= top
        np.exp(joint, out=joint)
        denominator = joint.sum(axis=0)
        inverse = np.divide(1.0, denominator, out=buffer.inverse[here])
        return joint @ inverse, (top + np.log(denominator)).sum(dtype=np.float64)

    mass, likelihood = np.zeros(cell.width), 0.0
    with single_blas_thread():
        for masses, likelihoods in each(expect, *zip(*buffer.parts(), strict=True)):
            mass += masses
            likelihood += likelihoods
    there = np.maximum(cell.copies, 1)
    cell.take(mass / there, mass / mass.sum() / there, likelihood + cell.constant + float(regular[0]))
    state = cell.mass[:, None], cell.pi[:, None], cell.copies[:, None]
    capped = np.array([len(cell.elbo) >= cell.max_iters])
    last = np.array(cell.elbo[-1:]), np.array([cell.gain])
    (goes_on,), (close,) = verdicts(*state, *last, capped, epsilon, cell.start)
    if not goes_on:
        return "close" if close else "ended"
    off = switched_off(*state, np.array([cell.Fa]), np.array([cell.Fb]), cell.start)[:, 0]
    kept: np.ndarray | slice = np.flatnonzero(~off & (cell.copies > 0)) if off.any() else slice(None)
    num_kept = len(cell.mass[kept])
    if isinstance(kept, np.ndarray) and num_kept == 1:  # another routine, which rounds differently
        kept = np.repeat(kept, 2)

    def accumulate(here: slice, part: np.ndarray) -> np.ndarray:
        inverse, rho = buffer.inverse[here], design[here, :-1]
        if cell.width < design.shape[1]:
            return np.asarray((part[kept] * inverse) @ rho)
        return np.asarray(part[kept] @ (rho * inverse[:, None]))

    with single_blas_thread():
        first_order = sum(each(accumulate, *zip(*buffer.parts(), strict=True)))
    cell.maximise(np.asarray(first_order)[:num_kept], off)
    return "goes on"


def markov_step(
    cells: list[RunningCell], epsilon: float, scratch: Scratch
) -> list[tuple[RunningCell, str, np.ndarray]]:
    """One iteration of hidden Markov models: how each goes on, and responsibilities (column, embedding).

    The responsibilities stay in `scratch`.
    """
    design, first = cells[0].start.design, cells[0].start
    batch = _Batch(cells)
    weights, regular = _model(batch.cells, batch.mass, batch.first_order, batch.copies)
    weights[batch.copies == 0] = 0.0
    weights[batch.copies == 0, -1] = _NOWHERE if design.dtype == np.float64 else -1e30
    flat = weights.reshape(-1, weights.shape[2])
    log_p = scratch.array("log_p", (len(design), len(flat)))
    with single_blas_thread():
        if design.dtype == log_p.dtype:
            np.matmul(design, flat.T, out=log_p)
        else:
            log_p[:] = design @ flat.T.astype(design.dtype)
    gamma, mass, pi, likelihood = hmm_posteriors(
        log_p.reshape(len(design), *batch.shape), batch.pi, batch.copies, batch.loop_prob, scratch
    )
    there = np.maximum(batch.copies, 1)
    mass /= there
    pi /= there
    bounds = likelihood + regular + batch.constants
    for number, cell in enumerate(cells):
        columns = slice(cell.width)
        cell.take(mass[columns, number], pi[columns, number], float(bounds[number]))
    state = mass, pi, batch.copies
    gain = np.array([cell.gain for cell in batch.cells])
    capped = np.array([len(cell.elbo) >= cell.max_iters for cell in batch.cells])
    goes_on, close = verdicts(*state, bounds, gain, capped, epsilon, first)
    off = switched_off(*state, batch.Fa, batch.Fb, first)
    chosen = batch.inside & goes_on & ~off
    chosen &= (batch.copies > 0) | ~off.any(axis=0)
    statistics = _first_order(gamma, chosen, design, scratch)
    ends = np.cumsum(chosen.sum(axis=0))
    rows = np.split(statistics, ends[:-1])
    found = []
    for number, cell in enumerate(cells):
        verdict = "goes on" if goes_on[number] else "close" if close[number] else "ended"
        values = gamma[:, : cell.width, number].T
        if goes_on[number]:
            cell.maximise(rows[number], off[: cell.width, number])
        found.append((cell, verdict, values))
    return found


class _Batch:
    """The state of cells side by side, filled up with columns and cells that change nothing.

    Arrays of shape (num_columns, num_cells) have columns first, so that sums over them are sums of rows.
    """

    def __init__(self, cells: list[RunningCell]):
        width = max(cell.width for cell in cells)
        together = _TOGETHER if width % 2 == 0 else 2 * _TOGETHER
        self.shape = width, -(-len(cells) // together) * together
        self.cells = [*cells, *[cells[-1]] * (self.shape[1] - len(cells))]
        self.mass, self.pi, self.copies = np.zeros(self.shape), np.zeros(self.shape), np.zeros(self.shape)
        self.first_order = np.zeros((*self.shape, cells[0].first_order.shape[1]))
        for number, cell in enumerate(cells):
            columns = slice(cell.width)
            self.mass[columns, number], self.pi[columns, number] = cell.mass, cell.pi
            self.copies[columns, number] = cell.copies
            self.first_order[columns, number] = cell.first_order
        widths = np.array([cell.width for cell in cells] + [0] * (self.shape[1] - len(cells)))
        self.inside = np.arange(width)[:, None] < widths  # columns of the cells themselves
        self.copies[0, len(cells) :] = self.pi[0, len(cells) :] = 1.0
        self.Fa = np.array([cell.Fa for cell in self.cells])
        self.Fb = np.array([cell.Fb for cell in self.cells])
        self.loop_prob = np.array([cell.loop_prob for cell in self.cells])
        self.constants = np.array([cell.constant for cell in self.cells])


def _first_order(gamma: np.ndarray, chosen: np.ndarray, design: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Statistics (chosen column, dimension) of responsibilities, cell by cell.

    Parameters
    ----------
    gamma : float64 array, shape (num_embeddings, num_columns, num_cells)
    chosen : bool array, shape (num_columns, num_cells)
    """
    number, column = np.nonzero(chosen.T)
    where = column * chosen.shape[1] + number
    tiles = -(-len(where) // _TILE) * _TILE
    filled = np.concatenate([where, np.zeros(tiles - len(where), dtype=where.dtype)])
    gathered = scratch.array("gathered", (len(gamma), tiles))
    np.take(gamma.reshape(len(gamma), -1), filled, axis=1, out=gathered, mode="clip")
    with single_blas_thread():  # of the ways to write this product, the fastest
        return np.ascontiguousarray((design[:, :-1].T @ gathered).T[: len(where)])
