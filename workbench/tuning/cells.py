"""The results of a sweep as arrays: recordings by cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect, expect_count

MEASURED = (
    "uri", "num_speakers", "num_reference_speakers", "total", "correct", "missed", "false_alarm",
    "confusion", "der", "jer", "num_scored_speakers", "partition", "converged", "iterations", "elbo",
    "speakers_with_mass", "seconds",
)  # fmt: skip
"""Columns of a results table that are no parameters."""

_NEEDED = ("uri", "num_speakers", "total", "missed", "false_alarm", "confusion")
_CLOSE = 1e-9  # relative: values of one parameter that differ by less are the same value


@dataclass(frozen=True, kw_only=True, eq=False)
class CellTable:
    """What every cell did to every recording.

    Attributes
    ----------
    uris : names of the recordings
    cells : table, one row per cell, the swept parameters as columns
    total : float array, shape (num_recordings,), in seconds
        Speaker time of the reference.
    missed, false_alarm, confusion : float arrays, shape (num_recordings, num_cells), in seconds
    jer : float array, shape (num_recordings, num_cells)
        Jaccard error rate (fraction); NaN where the table does not say.
    num_scored_speakers : int array, shape (num_recordings,)
        Reference speakers that the JER is the mean of.
    num_speakers : int array, shape (num_recordings, num_cells)
    num_reference_speakers : int array, shape (num_recordings,); -1 where the table does not say
    partition : int array, shape (num_recordings, num_cells)
        Cells of one recording with the same number have identical output.
    converged : bool array, shape (num_recordings, num_cells)
    incomplete : recordings that lack some cells and are therefore left out of everything else
    """

    uris: tuple[str, ...]
    cells: pd.DataFrame
    total: np.ndarray
    missed: np.ndarray
    false_alarm: np.ndarray
    confusion: np.ndarray
    jer: np.ndarray
    num_scored_speakers: np.ndarray
    num_speakers: np.ndarray
    num_reference_speakers: np.ndarray
    partition: np.ndarray
    converged: np.ndarray
    incomplete: tuple[str, ...] = ()

    @classmethod
    def of(cls, results: pd.DataFrame | CellTable, parameters: Sequence[str] | None = None) -> CellTable:
        """Arrays of a results table (one row per recording and cell); a `CellTable` comes back as it is.

        Parameters
        ----------
        results : as `workbench.sweep` returns it
        parameters : the swept columns; by default all that are not known to be measured
        """
        if isinstance(results, CellTable):
            return results
        expect_table(results, "results", _NEEDED, "workbench.sweep")
        if results.empty:
            raise InputError("the results hold no rows: nothing was swept")
        names = [str(name) for name in results.columns if name not in MEASURED]
        if parameters is not None:
            expect(parameters, (list, tuple), "parameters must list columns of the results")
            for name in parameters:
                if name not in names:
                    raise InputError(f"the results have no parameter {name!r}; there are {', '.join(names)}")
            names = list(parameters)
        cell, cells = _number_cells(results, names)
        results = results.assign(_cell=cell).drop_duplicates(["uri", "_cell"], keep="last")  # trials repeat
        found = results.groupby("uri", sort=False)["_cell"].count()
        complete = [str(uri) for uri in found.index[found == len(cells)]]
        if not complete:
            raise InputError(
                f"no recording has all {len(cells)} cells, so cells cannot be compared; finish "
                "the sweep first"
            )
        results = results[results["uri"].isin(complete)]
        row = pd.Categorical(results["uri"], categories=complete).codes
        place = (row, results["_cell"].to_numpy())
        shape = (len(complete), len(cells))

        def matrix(name: str, default: Any, kind: type) -> np.ndarray:
            values: np.ndarray = np.full(shape, default, dtype=kind)
            if name in results.columns:
                values[place] = results[name].to_numpy(dtype=kind)
            return values

        total = matrix("total", math.nan, float)
        if np.isnan(total).any():
            raise InputError(
                "the sweep was not scored: `total` is missing; give it references, and sweep again"
            )
        if not np.allclose(total, total[:, :1], rtol=1e-9, atol=1e-6):
            raise InputError("the cells of one recording were scored against different references (total)")
        partition = matrix("partition", -1, np.int64)
        if "partition" not in results.columns:
            partition[:] = np.arange(len(cells))
        return cls(
            uris=tuple(complete),
            cells=cells,
            total=total[:, 0],
            missed=matrix("missed", math.nan, float),
            false_alarm=matrix("false_alarm", math.nan, float),
            confusion=matrix("confusion", math.nan, float),
            jer=matrix("jer", math.nan, float),
            num_scored_speakers=matrix("num_scored_speakers", 0, np.int64)[:, 0],
            num_speakers=matrix("num_speakers", -1, np.int64),
            num_reference_speakers=matrix("num_reference_speakers", -1, np.int64)[:, 0],
            partition=partition,
            converged=matrix("converged", True, bool),
            incomplete=tuple(str(uri) for uri in found.index[found < len(cells)]),
        )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the swept parameters."""
        return tuple(str(name) for name in self.cells.columns)

    @property
    def errors(self) -> np.ndarray:
        """Missed, false alarm and confusion together (s), shape (num_recordings, num_cells)."""
        return self.missed + self.false_alarm + self.confusion

    @property
    def der(self) -> np.ndarray:
        """Pooled DER (fraction) of every cell, shape (num_cells,); NaN where nobody speaks."""
        return rate(self.errors.sum(axis=0), self.total.sum())

    @property
    def der_per_recording(self) -> np.ndarray:
        """DER (fraction), shape (num_recordings, num_cells); NaN where nobody speaks."""
        return rate(self.errors, self.total[:, None])

    def find(self, cell: Mapping[str, Any]) -> int | None:
        """Number of the cell with these values; None if it was not swept.

        Names that were not swept are ignored; a swept one that has several values must be given.
        """
        expect_cell(cell)
        chosen = np.ones(len(self), dtype=bool)
        for name in self.parameters:
            column = self.cells[name]
            if name in cell:
                chosen &= same_value(column, cell[name])
            elif column.nunique(dropna=False) > 1:
                raise InputError(f"cell {dict(cell)} does not say {name}, which was swept")
        found = np.flatnonzero(chosen)
        return int(found[0]) if len(found) else None

    def values(self, cell: int) -> dict[str, Any]:
        """Parameters of a cell, as Python values; None where there is none."""
        expect_count(cell, f"a cell must be given by its number, from 0 to {len(self) - 1}")
        if cell >= len(self):
            raise InputError(f"there is no cell {cell}; the last one is {len(self) - 1}")
        return {name: plain_value(self.cells[name].iloc[cell]) for name in self.parameters}

    def name(self, cell: int) -> str:
        """A cell in words: `Fa 0.07, Fb 0.8`, parameters with a single value left out."""
        varied = [name for name in self.parameters if self.cells[name].nunique(dropna=False) > 1]
        values = self.values(cell)
        return ", ".join(f"{name} {format_value(values[name])}" for name in varied or self.parameters)


def expect_table(table: object, what: str, columns: Iterable[str], made_by: str) -> None:
    """An `InputError` unless `table` is a DataFrame with these columns."""
    expect(table, pd.DataFrame, f"{what} must be a table, as {made_by} returns it")
    assert isinstance(table, pd.DataFrame)
    for name in columns:
        if name not in table.columns:
            raise InputError(f"the {what} lack the column {name!r}; expected {', '.join(columns)}")


def expect_cell(cell: object) -> None:
    """An `InputError` unless `cell` maps names of parameters to single values, or is a row of a table."""
    wanted = "a cell must map names of parameters to values, as {'Fa': 0.07} does"
    expect(cell, (Mapping, pd.Series), wanted)
    assert isinstance(cell, Mapping | pd.Series)
    for name, value in cell.items():
        expect(name, str, wanted)
        if not pd.api.types.is_scalar(value):
            raise InputError(f"{name} must have one value in a cell, got {type(value).__name__}")


def rate(errors: np.ndarray | float, total: np.ndarray | float) -> np.ndarray:
    """Errors over total, NaN where the total is 0."""
    total = np.asarray(total, dtype=float)
    return np.divide(errors, total, out=np.full(np.broadcast(errors, total).shape, np.nan), where=total > 0)


def same_value(column: pd.Series, value: Any) -> np.ndarray:
    """Where a column holds `value`; floats may differ in their last digits, missing equals missing."""
    if value is None or value is pd.NA or value != value:
        return column.isna().to_numpy()
    if isinstance(value, str) or not pd.api.types.is_numeric_dtype(column):
        return (column.astype(str) == str(value)).to_numpy()
    if not isinstance(value, Real):
        return np.zeros(len(column), dtype=bool)
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    return np.isclose(numbers, float(value), rtol=_CLOSE, atol=0.0)


def plain_value(value: Any) -> Any:
    """A table's value as Python's own type, None where it is missing."""
    if value is None or value is pd.NA or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def format_value(value: Any) -> str:
    """A parameter's value as people write it.

    Examples
    --------
    >>> format_value(0.07), format_value(None), format_value("vbx"), format_value(0.7045654963945799)
    ('0.07', 'none', 'vbx', '0.704565')
    """
    if pd.isna(value):  # columns of numbers hold NaN for None
        return "none"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _number_cells(results: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """Number of every row's cell, in order of appearance, and the cells."""
    if not names:
        return np.zeros(len(results), dtype=np.int64), pd.DataFrame(index=range(1))
    number = results.groupby(names, sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(number, return_index=True)
    return number, results[names].iloc[first].reset_index(drop=True)
