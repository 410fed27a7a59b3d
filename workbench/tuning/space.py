"""What a search may choose from: the values of a grid, or whole intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.errors import InputError, expect
from workbench.sweeps.grid import Grid, column_of
from workbench.sweeps.settings import INTEGERS, TEXTS, SweepSettings, column_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Space:
    """Parameters and the values that they may take.

    Attributes
    ----------
    grid : Grid
        Of the parameters with listed values; an interval takes part with its two ends, to be checked.
    intervals : dict
        Name -> (low, high), every value between them allowed.

    Examples
    --------
    >>> space = Space.parse(["Fa=0.05,0.07", "Fb=0.5:20"])
    >>> space.names, space.size
    (('Fa', 'Fb'), inf)
    """

    def __init__(self, grid: Grid, intervals: Mapping[str, tuple[float, float]] | None = None):
        expect(grid, Grid, "a space needs a Grid; Space.parse makes one of texts")
        expect(intervals, (Mapping, type(None)), "intervals must map names to (low, high)")
        self.grid, self.intervals = grid, dict(intervals or {})
        for name, ends in self.intervals.items():
            if name not in grid.values:
                raise InputError(f"{name!r} has an interval, but is no parameter of the grid")
            if not isinstance(ends, tuple) or len(ends) != 2:
                raise InputError(f"the interval of {name} must be (low, high), got {ends!r}")

    @classmethod
    def parse(cls, specs: Iterable[str], base: SweepSettings | None = None) -> Space:
        """From texts as `Grid.parse` takes them, and `NAME=low:high` for an interval."""
        wanted = "a space must list texts NAME=a,b,c, NAME=start:stop:num or NAME=low:high"
        expect(specs, Iterable, wanted)
        listed, intervals = [], {}
        for spec in [specs] if isinstance(specs, str) else specs:
            expect(spec, str, wanted)
            name, _, text = spec.partition("=")
            if text.count(":") == 1 and "," not in text and name.strip() not in TEXTS:
                low, high = text.split(":")
                # the ends as a list: checked, and typed, like any other values
                listed.append(f"{name}={low},{high}")
                intervals[column_name(name.strip())] = text
            else:
                listed.append(spec)
        grid = Grid.parse(listed, base)
        ends: dict[str, tuple[float, float]] = {}
        for name, text in intervals.items():
            first, last = grid.values[name]
            if first is None or last is None or not first < last:
                raise InputError(f"{name}={text} must read low:high with low below high")
            ends[name] = (first, last)
        return cls(grid, ends)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.grid.names

    @property
    def base(self) -> SweepSettings:
        """What all other parameters are."""
        return self.grid.base

    @property
    def size(self) -> float:
        """Number of cells; infinity where there is an interval."""
        return math.inf if self.intervals else len(self.grid)

    def expect_listed(self) -> None:
        """An `InputError` if some parameter has an interval, which no grid can list."""
        for name, (low, high) in self.intervals.items():
            raise InputError(
                f"{name}={low:g}:{high:g} is an interval, which a grid cannot list; give "
                f"{name}=start:stop:num, or search with tpe"
            )

    def distributions(self) -> dict[str, BaseDistribution]:
        """For Optuna: a distribution per parameter, ordered where the values are numbers evenly spaced."""
        from optuna.distributions import FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for name, values in self.grid.values.items():
            if name not in self.intervals:
                found[name] = distribution_of(values)
            elif name in INTEGERS:
                low, high = self.intervals[name]
                found[name] = IntDistribution(int(low), int(high))
            else:
                found[name] = FloatDistribution(*self.intervals[name])
        return found

    def cell(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """The cell that a trial means: listed values exactly as they were listed."""
        return {
            name: suggested[name] if name in self.intervals else nearest_value(values, suggested[name])
            for name, values in self.grid.values.items()
        }

    def base_cell(self) -> dict[str, Any] | None:
        """The base parameters as a cell, if the space holds them."""
        cell = {name: self.base.value_of(name) for name in self.names}
        for name, value in cell.items():
            if name in self.intervals:
                low, high = self.intervals[name]
                if value is None or not low <= value <= high:
                    return None
            elif value not in self.grid.values[name]:
                return None
        return cell

    def table(self, cells: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        """Cells as a table with the types of the grid's own."""
        rows = list(cells)
        columns = {name: column_of(name, [row[name] for row in rows]) for name in self.names}
        return pd.DataFrame(columns, index=range(len(rows)))

    def describe(self) -> dict[str, Any]:
        """For reports: name -> list of values, or {"low", "high"}."""
        return {
            name: dict(zip(("low", "high"), self.intervals[name], strict=True))
            if name in self.intervals
            else list(values)
            for name, values in self.grid.values.items()
        }


def distribution_of(values: tuple[Any, ...]) -> BaseDistribution:
    """Ordered if the values are at least three numbers with one step between them, else a choice."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if len(values) > 2 and numbers:
        # in decimal: Optuna shortens a range that is no whole number of steps, to the last digit
        step = Decimal(f"{(values[-1] - values[0]) / (len(values) - 1):.9g}")
        exact = [Decimal(str(values[0])) + step * place for place in range(len(values))]
        close = all(
            math.isclose(value, each, rel_tol=1e-6) for value, each in zip(values, exact, strict=True)
        )
        if close and step > 0:
            if all(isinstance(value, int) for value in values):
                return IntDistribution(values[0], values[-1], step=int(step))
            return FloatDistribution(float(values[0]), float(exact[-1]), step=float(step))
    return CategoricalDistribution(list(values))


def nearest_value(values: tuple[Any, ...], suggested: Any) -> Any:
    """The listed value that is meant: Optuna's evenly spaced ones can differ in the last digit.

    Examples
    --------
    >>> nearest_value((0.1, 0.2, 0.3), 0.30000000000000004)
    0.3
    """
    if suggested in values:
        return suggested
    return min(values, key=lambda value: abs(value - suggested))
