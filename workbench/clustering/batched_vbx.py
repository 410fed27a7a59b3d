"""VBx for many (Fa, Fb) at once, from one start partition or several.

The numbers are those of `vbx`, up to the rounding of sums in another order. What makes it fast:

- what cells share is computed once: the features, the statistics of the start partition;
- hidden Markov models step through time together (`vbx_steps`);
- a cell whose updates have ended leaves, with the iteration at which `vbx` ends;
- speakers that VBx has switched off share a column (`vbx_cells`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from workbench.clustering.vbx import EPSILON
from workbench.clustering.vbx_cells import RunningCell, VBxCell, VBxStart, plain_cell
from workbench.clustering.vbx_steps import MixtureBuffer, markov_step, mixture_step

__all__ = ["VBxCell", "VBxStart", "plain_cell", "vbx_many"]

_COLUMNS_AT_ONCE = 2**22  # responsibilities of hidden Markov models that are updated together
_WAITING = 4  # times as many are under way, so that there are enough of every width
_WORTH_A_PASS = 500  # columns that cost as much as the steps of one pass through time


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
    cells = (
        RunningCell(start, index, *values)
        for index, (start, *values) in enumerate(
            zip(starts, Fa.tolist(), Fb.tolist(), iterations.tolist(), stays.tolist(), strict=True)
        )
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
    # The recursion over time is a loop of small steps, which cells of similar width share; those of the
    # width that most have at the moment take turns.
    num_embeddings = max(len(starts[0].design), 1) if len(starts) else 1
    room = max((_COLUMNS_AT_ONCE if num_columns is None else num_columns) // num_embeddings, 1)
    groups: dict[int, deque[RunningCell]] = {}
    more: RunningCell | None = next(cells, None)
    taken = 0
    while taken or more is not None:
        while more is not None and (not taken or taken + more.room <= _WAITING * room):
            groups.setdefault(more.room, deque()).append(more)
            taken += more.room
            more = next(cells, None)
        width = max(groups, key=lambda each: each * len(groups[each]))
        places = max(room // width, 1)
        batch: list[RunningCell] = []
        for narrower in sorted((each for each in groups if each <= width), reverse=True):
            group = groups[narrower]
            # a few narrow ones are filled up to this width rather than stepped through time on their own
            if (width - narrower) * len(group) < _WORTH_A_PASS:
                chosen = [group.popleft() for _ in range(min(len(group), places - len(batch)))]
                taken -= narrower * len(chosen)
                batch += chosen
        for cell, verdict, gamma in markov_step(batch, width, epsilon):
            if verdict == "goes on":
                groups.setdefault(cell.room, deque()).append(cell)
                taken += cell.room
            else:
                yield cell.index, cell.outcome(verdict, epsilon, gamma.__getitem__, markov=True)
