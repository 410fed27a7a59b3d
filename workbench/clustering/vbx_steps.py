"""One update of VBx, for a cell of the mixture or for many hidden Markov models together.

Offsets and priors are one more dimension of a matrix product. What has passed through it is worked on
while the processor's cache holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from workbench.clustering.forward_backward import hmm_posteriors
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import TINY
from workbench.clustering.vbx_cells import RunningCell

_TOGETHER = 4  # models are filled up to a multiple of this, for matrix products of whole tiles
_CACHED = 2**17  # responsibilities of a mixture that the cache holds
_SHORTEST = 128  # embeddings, of which rows shorter than this would be slow
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
    cell.take(mass, mass / mass.sum(), float(likelihood), float(regular[0]))
    verdict = cell.verdict(epsilon)
    if verdict == "goes on":
        off = cell.switched_off()
        first_order = np.zeros((cell.width, design.shape[1] - 1))
        kept = np.flatnonzero(~off) if off.any() else slice(None)
        if isinstance(kept, np.ndarray) and len(kept) == 1:  # another routine, which rounds differently
            kept = np.repeat(kept, 2)

        def accumulate(here: slice, part: np.ndarray) -> np.ndarray:
            inverse, rho = buffer.inverse[here], design[here, :-1]
            if cell.width < design.shape[1]:
                return np.asarray((part[kept] * inverse) @ rho)
            return np.asarray(part[kept] @ (rho * inverse[:, None]))

        with single_blas_thread():
            first_order[kept] = sum(each(accumulate, *zip(*buffer.parts(), strict=True)))
        cell.maximise(first_order, off)
    return verdict


def markov_step(
    cells: list[RunningCell], width: int, epsilon: float
) -> list[tuple[RunningCell, str, np.ndarray]]:
    """One iteration of hidden Markov models: how each goes on, and responsibilities (column, embedding)."""
    design = cells[0].start.design
    # columns first, so that sums over them are sums of rows
    shape = (width, -(-len(cells) // _TOGETHER) * _TOGETHER)
    mass, pi, copies = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    first_order = np.zeros((*shape, design.shape[1] - 1))
    for number, cell in enumerate(cells):
        columns = slice(cell.width)
        mass[columns, number], pi[columns, number] = cell.mass, cell.pi
        copies[columns, number], first_order[columns, number] = cell.copies, cell.first_order
    filled = [*cells, *[cells[-1]] * (shape[1] - len(cells))]
    for number in range(len(cells), shape[1]):
        copies[0, number] = pi[0, number] = 1.0
    weights, regular = _model(filled, mass, first_order, copies)
    weights[copies == 0] = 0.0
    weights[copies == 0, -1] = _NOWHERE if design.dtype == np.float64 else -1e30
    flat = weights.reshape(-1, weights.shape[2]).astype(design.dtype, copy=False)
    with single_blas_thread():
        log_p = (design @ flat.T).astype(np.float64, copy=False).reshape(len(design), *shape)
    stays = np.array([cell.loop_prob for cell in filled])
    gamma, pi, likelihood = hmm_posteriors(log_p, pi, copies, stays)
    mass = gamma.sum(axis=0)
    with single_blas_thread():
        first_order = (gamma.reshape(len(gamma), -1).T @ design[:, :-1]).reshape(*shape, -1)
    found = []
    for number, cell in enumerate(cells):
        columns = slice(cell.width)
        cell.take(
            mass[columns, number], pi[columns, number], float(likelihood[number]), float(regular[number])
        )
        verdict = cell.verdict(epsilon)
        if verdict == "goes on":
            cell.maximise(first_order[columns, number], cell.switched_off())
        found.append((cell, verdict, gamma[:, columns, number].T))
    return found
