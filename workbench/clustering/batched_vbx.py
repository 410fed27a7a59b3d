"""VBx for many (Fa, Fb) at once, from one start partition or several.

The numbers are those of `vbx`, up to the rounding of sums in another order. What makes it fast:

- what cells share is computed once: the features, the statistics of the start partition;
- hidden Markov models step through time together (`vbx_steps`);
- a cell whose updates have ended leaves, with the iteration at which `vbx` ends;
- speakers that VBx has switched off share a column (`vbx_cells`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from workbench.clustering.forward_backward import Scratch
from workbench.clustering.vbx import EPSILON
from workbench.clustering.vbx_cells import RunningCell, VBxCell, VBxStart, plain_cell
from workbench.clustering.vbx_steps import MixtureBuffer, markov_step, mixture_step

__all__ = ["VBxCell", "VBxStart", "plain_cell", "vbx_many", "worthwhile"]

_COLUMNS_AT_ONCE = 2**22  # responsibilities of hidden Markov models that are updated together
_WAITING = 2**18  # columns whose statistics are kept, 268 MB with 128 dimensions; more only of one batch
_COST_OF_A_PASS = 800  # columns that take as long as the steps of one pass through time


def vbx_many(
    start: VBxStart | Sequence[VBxStart],
    Fa: Sequence[float] | np.ndarray,
    Fb: Sequence[float] | np.ndarray,
    *,
    max_iters: int | Sequence[int] | np.ndarray = 20,
    epsilon: float = EPSILON,
    loop_prob: float | Sequence[float] | np.ndarray | None = None,
    num_columns: int | None = None,
    threads: int = 1,
) -> Iterator[tuple[int, VBxCell]]:
    """Results of `vbx` for every pair (Fa[i], Fb[i]), each as soon as it is there.

    Parameters
    ----------
    start : for all cells, or one per cell; then all have the same features and precision
    Fa, Fb : scale of the statistics, and of the speaker regularisation, one per cell
    max_iters : updates at most, for all or one per cell
    epsilon : as of `vbx`
    loop_prob : as of `vbx`, for all or one per cell
    num_columns : numbers of the hidden Markov model that are worked on together, embeddings x speakers.
        The results do not depend on it.
    threads : that share the work on a mixture; the results do not depend on it either

    Yields
    ------
    index : position of the cell in `Fa`
    cell : VBxCell
    """
    Fa, Fb = np.asarray(Fa, dtype=np.float64), np.asarray(Fb, dtype=np.float64)
    iterations = np.broadcast_to(np.asarray(max_iters, dtype=np.int64), Fa.shape)
    stays = np.broadcast_to(np.asarray(np.nan if loop_prob is None else loop_prob, np.float64), Fa.shape)
    starts = [start] * len(Fa) if isinstance(start, VBxStart) else start
    order = sorted(range(len(Fa)), key=lambda index: len(starts[index].mass))
    cells = (
        RunningCell(starts[i], i, float(Fa[i]), float(Fb[i]), int(iterations[i]), float(stays[i]))
        for i in order
    )
    if loop_prob is None:  # a cell of the mixture keeps the processor busy alone
        buffer = MixtureBuffer()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
            for cell in cells:
                while (
                    verdict := mixture_step(cell, buffer, epsilon, pool.map if pool else map)
                ) == "goes on":
                    pass
                yield cell.index, cell.outcome(verdict, epsilon, buffer.shown)
        return
    # The recursion over time is a loop of small steps, which cells of similar width share. All make their
    # first iteration first, where memory lets them: most need few columns after it, and the more cells there
    # are, the better they fit together.
    num_embeddings = max(len(starts[0].design), 1) if len(starts) else 1
    room = max((_COLUMNS_AT_ONCE if num_columns is None else num_columns) // num_embeddings, 1)
    scratch = Scratch()
    waiting: list[RunningCell] = []
    fresh = next(cells, None)
    while waiting or fresh is not None:
        batch: list[RunningCell] = []
        if fresh is not None and sum(map(_width, waiting)) <= _WAITING:
            width = fresh.width
            while (
                fresh is not None and fresh.width == width and (not batch or width * (len(batch) + 1) <= room)
            ):
                batch.append(fresh)
                fresh = next(cells, None)
        else:
            waiting.sort(key=_width, reverse=True)
            chosen = worthwhile(np.array([cell.width for cell in waiting]), room)
            batch, waiting[chosen] = waiting[chosen], []
        for cell, verdict, gamma in markov_step(batch, epsilon, scratch):
            if verdict == "goes on":
                waiting.append(cell)
            else:
                yield cell.index, cell.outcome(verdict, epsilon, gamma.__getitem__, markov=True)


def worthwhile(widths: np.ndarray, room: int) -> slice:
    """Which cells to fill up to the same width and step through time together.

    Parameters
    ----------
    widths : int array, shape (num_cells,), descending
    room : columns at most, unless there is one cell only
    """
    totals = np.append(0, np.cumsum(widths))
    best, chosen = 0.0, slice(0, 1)
    for first in np.flatnonzero(np.append(True, widths[1:] != widths[:-1])).tolist():
        width = int(widths[first])
        number = np.arange(1, max(min(room // width, len(widths) - first), 1) + 1)
        useful = totals[first + number] - totals[first]
        worth = useful / (_COST_OF_A_PASS + number * width)
        if worth.max() > best:
            best = float(worth.max())
            chosen = slice(first, first + int(number[worth.argmax()]))
    return chosen


def _width(cell: RunningCell) -> int:
    return cell.width
