"""The cells of a sweep, cut into blocks: which recording's come next, and how many at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

FIRST_BLOCK, SMALLEST_BLOCK, LARGEST_BLOCK = 256, 16, 4096  # cells
BLOCK_SECONDS = 4.0  # what a block aims at: so much is lost at most when a run is killed
_FAST = {"Fa", "Fb"}  # parameters whose cells are computed together; all others order the blocks


class Block:
    """Some cells of one recording."""

    def __init__(self, uri: str, cells: pd.DataFrame, keys: list[str]):
        self.uri, self.cells, self.keys = uri, cells, keys
        self.num_deaths = 0  # of workers, while it was under way


class Work:
    """Which cells of which recordings are still to be given out."""

    def __init__(self, tables: list[pd.DataFrame], keys: list[list[str]]):
        self._tables, self._keys = tables, keys
        self._places = [(table, cell) for table, each in enumerate(tables) for cell in block_order(each)]
        self._left: dict[str, deque[tuple[int, int]]] = {}
        self._total: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._size: dict[str, int] = {}
        self._begun: set[str] = set()

    @property
    def order(self) -> Iterator[str]:
        """Recordings in their order."""
        return iter(self._total)

    def add(self, uri: str, known: set[str]) -> None:
        """A recording, with the rows that it has already; equal cells are computed once."""
        wanted = {self._keys[table][cell]: (table, cell) for table, cell in reversed(self._places)}
        places = [p for p in self._places if wanted[self._keys[p[0]][p[1]]] == p]
        self._left[uri] = deque(p for p in places if self._keys[p[0]][p[1]] not in known)
        self._total[uri], self._running[uri], self._size[uri] = len(places), 0, FIRST_BLOCK

    def next_block(self, last: str | None) -> Block | None:
        """Cells of `last` if it has some left, else of a new recording, else of the one with most left."""
        open_ones = [uri for uri, left in self._left.items() if left]
        if not open_ones:
            return None
        fresh = [uri for uri in open_ones if uri not in self._begun]
        helps = False
        if last in open_ones:
            uri = str(last)
        elif fresh:
            uri = fresh[0]
        else:
            uri = max(open_ones, key=lambda each: len(self._left[each]))
            helps = self._running[uri] > 0
        self._begun.add(uri)
        left = self._left[uri]
        size = self._size[uri]
        if helps:  # from the other end, so that both find cells that share their preparation
            size = min(size, -(-len(left) // 2))
        take = left.pop if helps else left.popleft
        places = [take()]
        while left and len(places) < size and left[-1 if helps else 0][0] == places[0][0]:
            places.append(take())
        table, chosen = places[0][0], [cell for _, cell in places]
        self._running[uri] += len(places)
        return Block(
            uri,
            self._tables[table].iloc[chosen].reset_index(drop=True),
            [self._keys[table][c] for c in chosen],
        )

    def finish(self, block: Block, seconds: float) -> None:
        """A block is done; blocks grow or shrink towards `BLOCK_SECONDS`."""
        self._running[block.uri] -= len(block.keys)
        if len(block.keys) > 1:
            factor = min(max(BLOCK_SECONDS / max(seconds, 1e-3), 0.25), 4.0)
            size = round(len(block.keys) * factor)
            self._size[block.uri] = min(max(size, SMALLEST_BLOCK), LARGEST_BLOCK)

    def drop(self, uri: str) -> None:
        """Give nothing of a recording out any more."""
        self._left[uri].clear()
        self._running[uri] = 0

    def is_finished(self, uri: str) -> bool:
        """Whether no cell is left or under way."""
        return not self._left[uri] and self._running[uri] <= 0

    def state(self, uri: str) -> tuple[int, int]:
        """Cells done and cells in all."""
        total = self._total[uri]
        return total - len(self._left[uri]) - self._running[uri], total


def cell_dicts(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Every cell as a mapping of names to values."""
    return [{str(name): value for name, value in row.items()} for row in cells.to_dict("records")]


def block_order(cells: pd.DataFrame) -> list[int]:
    """Positions of the cells such that those that differ in Fa and Fb alone are neighbours."""
    slow = [pd.factorize(cells[name])[0] for name in cells.columns if name not in _FAST]
    if not slow:
        return list(range(len(cells)))
    return [int(place) for place in np.lexsort(slow[::-1])]  # stable: otherwise as given
