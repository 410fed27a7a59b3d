"""A grid of parameters seen from above: two of them across and down, the others held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.grid_measures import Measure
from workbench.tuning.cells import CellTable, format_value, same_value
from workbench.tuning.lattice import Axis, Lattice

MOST_WRITTEN = 150  # cells whose values are written into them
MOST_TICKS = 12
UNITS = {
    "ahc_threshold": "distance",
    "threshold": "similarity, relative",
    "min_duration_on": "s",
    "min_duration_off": "s",
    "median_filter": "frames",
    "min_cluster_size": "embeddings",
    "max_iters": "iterations",
    "lda_dim": "dimensions",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The cells that lie on a plane of the grid.

    Attributes
    ----------
    x, y : the parameters across and down
    cells : int array, shape (num_y, num_x); -1 where the grid has a hole
    others : values at which the other parameters are held
    """

    x: Axis
    y: Axis
    cells: np.ndarray
    others: Mapping[str, Any]

    @classmethod
    def of(cls, table: CellTable, x: str, y: str, others: Mapping[str, Any]) -> Slice:
        """The plane through `others` on which `x` and `y` vary."""
        x_axis, x_rank = axis_of(table, x)
        y_axis, y_rank = axis_of(table, y)
        on = np.ones(len(table), dtype=bool)
        for name in table.parameters:
            if name not in (x, y):
                on &= same_value(table.cells[name], others[name])
        cells = np.full((len(y_axis.values), len(x_axis.values)), -1)
        cells[y_rank[on], x_rank[on]] = np.flatnonzero(on)
        held = {name: others[name] for name in table.parameters if name not in (x, y)}
        return cls(x=x_axis, y=y_axis, cells=cells, others=held)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values of all cells on the plane, float array (num_y, num_x); NaN in holes."""
        return np.where(self.cells >= 0, np.asarray(values, dtype=float)[self.cells], np.nan)

    def place(self, values: Mapping[str, Any]) -> tuple[float, float] | None:
        """Where parameters lie on the plane, between cells if need be; None if they do not lie on it."""
        for name, held in self.others.items():
            if not bool(same_value(pd.Series([held]), values.get(name))[0]):
                return None
        ranks = [_rank(axis, values.get(axis.name)) for axis in (self.x, self.y)]
        return None if None in ranks else (ranks[0], ranks[1])  # type: ignore[return-value]

    def find(self, cell: int) -> tuple[int, int] | None:
        """Column and row of a cell; None if it lies elsewhere."""
        rows, columns = np.nonzero(self.cells == cell)
        return (int(columns[0]), int(rows[0])) if len(rows) else None


def axis_of(table: CellTable, name: str) -> tuple[Axis, np.ndarray]:
    """A parameter's values in order, and every cell's place among them."""
    lattice = Lattice.of(table.cells[[name]])
    if lattice is None or not lattice.axes:  # a single value
        value = table.values(0)[name]
        return Axis(name=name, values=(value,), ordered=False), np.zeros(len(table), dtype=np.int64)
    return lattice.axes[0], lattice.ranks[:, 0]


def cell_trace(plane: Slice, measure: Measure, hover: Sequence[str]) -> go.Heatmap:
    """Discrete cells, holes blank.

    Parameters
    ----------
    hover : what is said of each cell of the whole grid
    """
    z = plane.spread(measure.values)
    known = z[np.isfinite(z)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    written = plane.cells.size <= MOST_WRITTEN
    text = [
        [f"{value:.{measure.decimals}f}" if written and np.isfinite(value) else "" for value in row]
        for row in z
    ]
    said = np.array([*hover, ""], dtype=object)  # the last one is for holes: index -1
    return go.Heatmap(
        name="cells",
        z=z,
        x=np.arange(z.shape[1], dtype=float),
        y=np.arange(z.shape[0], dtype=float),
        xaxis="x2",
        yaxis="y6",
        zmin=low,
        zmax=high if high > low else low + 1e-9,
        colorscale=theme.sequential(reverse=not measure.small_is_good),
        xgap=1,
        ygap=1,
        zsmooth=False,
        text=text,
        texttemplate="%{text}",
        textfont={"size": 10},
        customdata=said[plane.cells],
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        colorbar={
            "title": {"text": measure.title, "side": "right", "font": {"size": 11, "color": theme.TEXT}},
            "tickfont": {"size": 10, "color": theme.TEXT},
            "thickness": 9,
            "outlinewidth": 0,
            "xpad": 0,
            "ypad": 0,
            "nticks": 6,
        },
    )


def outline(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lines around cells of one group.

    Parameters
    ----------
    groups : int array, shape (num_rows, num_columns)
        Negative ones belong to none.

    Returns
    -------
    x, y : float arrays; NaN between two lines. Cells are squares of side 1 around whole numbers.
    """
    padded = np.pad(groups, 1, constant_values=-1)
    lines: list[tuple[float, float, float, float]] = []
    rows, columns = np.nonzero(padded[:, 1:] != padded[:, :-1])
    lines += [(c - 0.5, r - 1.5, c - 0.5, r - 0.5) for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(padded[1:] != padded[:-1])
    lines += [(c - 1.5, r - 0.5, c - 0.5, r - 0.5) for r, c in zip(rows, columns, strict=True)]
    return _joined(lines)


def hatching(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two strokes in the lower left corner of the chosen cells: `x`, `y` as of `outline`."""
    lines = []
    for row, column in zip(*np.nonzero(chosen), strict=True):
        for shift in (0.0, 0.12):
            lines.append((column + shift - 0.42, row - 0.42, column + shift - 0.30, row - 0.16))
    return _joined(lines)


def plateau_groups(plane: Slice, regions: np.ndarray) -> np.ndarray:
    """Number of the region of every cell that has neighbours in it, -1 elsewhere."""
    group = np.where(plane.cells >= 0, regions[plane.cells], -1)
    sizes = np.bincount(group[group >= 0], minlength=1)
    return np.where((group >= 0) & (sizes[np.maximum(group, 0)] > 1), group, -1)


def line_trace(
    name: str, lines: tuple[np.ndarray, np.ndarray], width: float, dash: str = "solid", opacity: float = 1.0
) -> go.Scatter:
    """Lines over the cells."""
    return go.Scatter(
        name=name,
        x=lines[0],
        y=lines[1],
        xaxis="x2",
        yaxis="y6",
        mode="lines",
        line={"width": width, "color": theme.ON_CELLS, "dash": dash},
        opacity=opacity,
        hoverinfo="skip",
        connectgaps=False,
    )


def mark_trace(
    name: str, places: Sequence[tuple[float, float]], symbol: str, size: float, fill: str = theme.BEHIND_MARKS
) -> go.Scatter:
    """A symbol on (or between) cells, with a dark rim: it can be seen on all of their colours."""
    return go.Scatter(
        name=name,
        x=[place[0] for place in places],
        y=[place[1] for place in places],
        xaxis="x2",
        yaxis="y6",
        mode="markers",
        marker={
            "symbol": symbol,
            "size": size,
            "color": fill,
            "line": {"width": 1.3, "color": theme.ON_CELLS},
        },
        hoverinfo="skip",  # the cell below answers the mouse
    )


def cell_axes(plane: Slice, width: float, height: float) -> tuple[dict[str, object], dict[str, object]]:
    """Axes of the plane: one place per value.

    Parameters
    ----------
    width, height : px of the plot
    """
    return (
        _axis(plane.x, int(min(MOST_TICKS, width // 34))),
        _axis(plane.y, int(min(MOST_TICKS + 4, height // 18))),
    )


def parameter_title(name: str) -> str:
    """A parameter with its unit."""
    return f"{name} ({UNITS[name]})" if name in UNITS else name


def _axis(axis: Axis, most: int) -> dict[str, object]:
    step = -(-len(axis.values) // max(most, 1))
    shown = list(range(0, len(axis.values), step))
    return {
        "range": [-0.5, len(axis.values) - 0.5],
        "tickmode": "array",
        "tickvals": shown,
        "ticktext": [axis.label(rank) for rank in shown],
        "title": {"text": parameter_title(axis.name)},
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "ticks": "",
    }


def _rank(axis: Axis, value: Any) -> float | None:
    """Place of a value among those of an axis, between two of them if need be."""
    labels = [format_value(each) for each in axis.values]
    if format_value(value) in labels:
        return float(labels.index(format_value(value)))
    numbers = [each for each in axis.values if isinstance(each, int | float)]
    inside = isinstance(value, int | float) and len(numbers) > 1 and numbers[0] <= value <= numbers[-1]
    return float(np.interp(value, numbers, np.arange(len(numbers)))) if inside else None


def _joined(lines: Sequence[tuple[float, float, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(lines, dtype=float).reshape(-1, 4)
    gap = np.full(len(table), np.nan)
    x = np.stack([table[:, 0], table[:, 2], gap], axis=1).ravel()
    y = np.stack([table[:, 1], table[:, 3], gap], axis=1).ravel()
    return x, y
