"""Which cells are neighbours: the grid behind a table of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from workbench.errors import expect
from workbench.tuning.cells import format_value, plain_value

SMALLEST = dict.fromkeys(
    ("min_cluster_size", "min_speakers", "max_speakers", "num_speakers_forced", "median_filter", "lda_dim"), 1
) | dict.fromkeys(
    ("min_duration_on", "min_duration_off", "loop_prob", "init_smoothing", "ahc_threshold"), 0
)  # no parameter can be smaller
LARGEST = {"loop_prob": 1, "onset": 1}  # nor larger
# unset is another thing than any number, or (min_speakers) less than all of them
APART = frozenset({"loop_prob", "num_speakers_forced", "min_speakers"})
_MOST_PLACES = 4  # places of the lattice per cell: beyond that the cells are no grid but a search
_MOST_ALONE = 0.75  # values of an axis per cell: grids come back to each, searches in an interval never


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """One swept parameter and its values in order."""

    name: str
    values: tuple[Any, ...]  # numbers ascending, None last; texts in order of appearance
    ordered: bool  # a step to the next value means something: numbers, not names

    def label(self, rank: int) -> str:
        """A value in words."""
        return format_value(self.values[rank])

    @property
    def num_in_row(self) -> int:
        """How many of the values follow each other: all but None where that is apart."""
        return num_in_row(self.name, self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """Cells by their place on the axes.

    Attributes
    ----------
    axes : the parameters with more than one value
    ranks : int array, shape (num_cells, num_axes)
        Place of every cell on every axis.
    shape : number of values of every axis
    """

    axes: tuple[Axis, ...]
    ranks: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, cells: pd.DataFrame) -> Lattice | None:
        """The lattice of a grid; None where the cells are scattered, as those of a random search are."""
        expect(cells, pd.DataFrame, "cells must be a table of parameters, as CellTable.cells is one")
        axes, ranks = [], []
        for name in cells.columns:
            axis, rank = _axis(str(name), cells[name])
            if len(axis.values) > 1:
                axes.append(axis)
                ranks.append(rank)
        shape = tuple(len(axis.values) for axis in axes)
        if math.prod(shape) > max(_MOST_PLACES * len(cells), 16):
            return None
        if len(axes) > 1 and max(shape) > _MOST_ALONE * len(cells):
            return None
        places = np.stack(ranks, axis=1) if ranks else np.zeros((len(cells), 0), dtype=np.int64)
        return cls(axes=tuple(axes), ranks=places, shape=shape)

    @property
    def steps(self) -> tuple[int, ...]:
        """The axes along which a step means something."""
        return tuple(number for number, axis in enumerate(self.axes) if axis.ordered)

    def spread(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Values of the cells (..., num_cells) on the lattice (..., *shape); holes hold `fill`."""
        values = np.asarray(values)
        dense = np.full((*values.shape[:-1], *self.shape), fill, dtype=values.dtype)
        dense[(..., *self.ranks.T)] = values
        return dense

    def worst_within_step(self, values: np.ndarray) -> np.ndarray:
        """Largest value among each cell and all cells one step away, diagonals included; (..., num_cells)."""
        dense = self.spread(np.asarray(values, dtype=float), -np.inf)
        lead = dense.ndim - len(self.shape)
        for axis in self.steps:  # the largest of a box is that of its lines
            dense = np.moveaxis(dense, lead + axis, 0)
            best = dense.copy()
            row, row_best = (each[: self.axes[axis].num_in_row] for each in (dense, best))
            np.maximum(row_best[1:], row[:-1], out=row_best[1:])
            np.maximum(row_best[:-1], row[1:], out=row_best[:-1])
            dense = np.moveaxis(best, 0, lead + axis)
        return dense[(..., *self.ranks.T)]

    def num_neighbours(self) -> np.ndarray:
        """How many cells are one step away from each, diagonals included; int array, shape (num_cells,)."""
        dense = self.spread(np.ones(len(self.ranks), dtype=np.int64), 0)
        for axis in self.steps:  # the sum of a box is that of its lines
            dense = np.moveaxis(dense, axis, 0)
            found = dense.copy()
            row, row_found = (each[: self.axes[axis].num_in_row] for each in (dense, found))
            row_found[1:] += row[:-1]
            row_found[:-1] += row[1:]
            dense = np.moveaxis(found, 0, axis)
        return dense[tuple(self.ranks.T)] - 1

    def widths(self, values: np.ndarray, tolerance: float) -> np.ndarray:
        """How many neighbouring cells along each axis are at most `tolerance` worse, the cell included.

        Parameters
        ----------
        values : float array, shape (num_cells,)
        tolerance : in the unit of `values`

        Returns
        -------
        widths : int array, shape (num_cells, num_axes); 1 along an axis of names
        """
        dense = self.spread(np.asarray(values, dtype=float), np.inf)
        found = np.ones((len(self.ranks), len(self.shape)), dtype=np.int64)
        for axis in self.steps:
            lines = np.moveaxis(dense, axis, 0)
            all_counts = np.ones(lines.shape, dtype=np.int64)
            lines, count = (each[: self.axes[axis].num_in_row] for each in (lines, all_counts))
            for forward in (True, False):
                alive = np.ones(lines.shape, dtype=bool)
                for step in range(1, len(lines)):
                    here, there = (slice(None, -step), slice(step, None))
                    if not forward:
                        here, there = there, here
                    reached = np.zeros_like(alive)
                    # holes hold infinity, and infinity is not below infinity + tolerance minus nothing
                    reached[here] = (lines[there] <= lines[here] + tolerance) & np.isfinite(lines[there])
                    alive &= reached
                    if not alive.any():
                        break
                    count += alive
            found[:, axis] = np.moveaxis(all_counts, 0, axis)[tuple(self.ranks.T)]
        return found

    def regions(self, signature: np.ndarray) -> np.ndarray:
        """Connected cells of equal output.

        Parameters
        ----------
        signature : int array, shape (num_recordings, num_cells)
            Partition of every recording; two cells are alike if all recordings agree.

        Returns
        -------
        region : int array, shape (num_cells,)
            Numbered from 0 in order of appearance. A step along one axis connects.
        """
        _, alike = np.unique(signature, axis=1, return_inverse=True)
        number = self.spread(np.arange(len(self.ranks)), -1)
        ends = []
        for axis in self.steps:
            lines = np.moveaxis(number, axis, 0)[: self.axes[axis].num_in_row]
            pair = np.stack([lines[:-1].ravel(), lines[1:].ravel()])
            pair = pair[:, (pair >= 0).all(axis=0)]
            ends.append(pair[:, alike[pair[0]] == alike[pair[1]]])
        start, stop = np.concatenate(ends, axis=1) if ends else np.zeros((2, 0), dtype=np.int64)
        size = len(self.ranks)
        graph = coo_matrix((np.ones(len(start), dtype=bool), (start, stop)), shape=(size, size))
        _, region = connected_components(graph, directed=False)
        _, first, inverse = np.unique(region, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[inverse]

    def edges(self, cell: int, equals: Sequence[int] | np.ndarray = ()) -> list[str]:
        """Axes on whose end a cell lies, in words; axes with two numbers have nothing but ends.

        Not where the parameter can go no further or is left unset, nor where one of the cells that are
        `equals` lies inside.
        """
        found = []
        for number, axis in enumerate(self.axes):
            rank, last = int(self.ranks[cell, number]), sum(value is not None for value in axis.values) - 1
            if not axis.ordered or last < 2:
                continue
            limits = {0: SMALLEST, last: LARGEST}
            ends = [end for end, limit in limits.items() if axis.values[end] != limit.get(axis.name)]
            if np.isin(self.ranks[[cell, *equals], number], ends).all():
                side = "lowest" if rank == 0 else "highest"
                found.append(f"{axis.name} = {axis.label(rank)} is the {side} value tried")
        return found


def num_in_row(name: str, values: Sequence[Any]) -> int:
    """How many of a parameter's values, in order, follow each other: all but a last one that is apart.

    Examples
    --------
    >>> num_in_row("loop_prob", (0.5, 0.9, None)), num_in_row("lda_dim", (64, 128, None))
    (2, 3)
    """
    return len(values) - (name in APART and bool(pd.isna(values[-1])))


def most_central(lattice: Lattice | None, candidates: np.ndarray) -> int:
    """The candidate nearest to the middle of them all; the first where cells have no place."""
    if lattice is None or len(candidates) == 1:
        return int(candidates[0])
    ranks = lattice.ranks[candidates].astype(float)
    distance = np.square(ranks - ranks.mean(axis=0)).sum(axis=1)
    return int(candidates[distance.argmin()])


def _axis(name: str, column: pd.Series) -> tuple[Axis, np.ndarray]:
    """A parameter's values in order, and every cell's place among them."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=float, na_value=np.nan)
        _, rank = np.unique(numbers, return_inverse=True)  # NaN comes last, once
        ordered = True
    else:
        rank = pd.factorize(column.astype(str))[0]
        ordered = False
    _, first = np.unique(rank, return_index=True)
    values = tuple(plain_value(column.iloc[place]) for place in first)
    return Axis(name=name, values=values, ordered=ordered), rank.astype(np.int64)
