"""What a cell of a grid can be coloured by: one number per cell, with its name, unit and direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.sweeps.summary import pooled_jer
from workbench.tuning.cells import CellTable, rate
from workbench.tuning.lattice import Lattice

PERCENT = " %"

MEASURES = {
    "der": "DER",
    "missed": "Missed",
    "false_alarm": "False alarm",
    "confusion": "Confusion",
    "jer": "JER",
    "num_speakers": "Speakers found",
    "speakers_error": "Speakers too many or few",
    "converged": "Converged",
    "worst_step": "DER one step beside",
    "p_worse": "p against the best",
    "noise": "Speech moved by noise",
}
"""Names for people, by which a reader chooses."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """One number per cell.

    Attributes
    ----------
    values : float array, shape (num_cells,); NaN where unknown
    title : with the unit
    suffix : of a value in words
    decimals : of a value in words
    small_is_good : whether bright colours stand for small values
    """

    name: str
    values: np.ndarray
    title: str
    suffix: str
    decimals: int
    small_is_good: bool = True

    def words(self, value: float) -> str:
        """A value as people read it."""
        return "–" if np.isnan(value) else f"{value:.{self.decimals}f}{self.suffix}"


def measure_cells(
    table: CellTable,
    name: str,
    uris: Sequence[str],
    *,
    p_worse: np.ndarray | None = None,
    noise: pd.DataFrame | None = None,
) -> Measure:
    """One number per cell over some recordings.

    Parameters
    ----------
    table : of the sweep
    name : one of `MEASURES`
    uris : recordings that count; error rates are pooled over them
    p_worse : float array, shape (num_cells,); of all recordings, for the measure of this name
    noise : as `summarise_stability` returns it, for the measure of this name
    """
    rows = [table.uris.index(uri) for uri in uris]
    total = table.total[rows].sum()
    pooled = 100 * rate(table.errors[rows].sum(axis=0), total)
    title = MEASURES[name]
    if name == "der":
        return Measure(name=name, values=pooled, title=f"{title} (%)", suffix=PERCENT, decimals=1)
    if name in ("missed", "false_alarm", "confusion"):
        values = 100 * rate(getattr(table, name)[rows].sum(axis=0), total)
        return Measure(name=name, values=values, title=f"{title} (% of speech)", suffix=PERCENT, decimals=1)
    if name == "jer":
        values = 100 * jer_of_cells(table, rows)
        return Measure(name=name, values=values, title=f"{title} (%)", suffix=PERCENT, decimals=1)
    if name == "num_speakers":
        values, title = table.num_speakers[rows].mean(axis=0), "Speakers found (mean)"
        return Measure(name=name, values=values, title=title, suffix="", decimals=1, small_is_good=False)
    if name == "speakers_error":
        distance = np.abs(table.num_speakers[rows] - table.num_reference_speakers[rows, None])
        return Measure(
            name=name, values=distance.mean(axis=0), title=f"{title} (mean)", suffix="", decimals=1
        )
    if name == "converged":
        values = 100 * table.converged[rows].mean(axis=0)
        title = "Recordings that converged (%)"
        return Measure(name=name, values=values, title=title, suffix=PERCENT, decimals=0, small_is_good=False)
    if name == "worst_step":
        lattice = Lattice.of(table.cells)
        values = np.full(len(table), np.nan) if lattice is None else lattice.worst_within_step(pooled)
        return Measure(name=name, values=values, title=f"{title} (%)", suffix=PERCENT, decimals=1)
    if name == "p_worse":
        values = np.full(len(table), np.nan) if p_worse is None else p_worse
        return Measure(name=name, values=values, title=title, suffix="", decimals=3, small_is_good=False)
    values = np.full(len(table), np.nan)
    if noise is not None and len(noise):
        worst = noise[noise["level"] == noise["level"].max()]
        values[worst["cell"].to_numpy()] = 100 * worst["cross_der"].to_numpy()
    return Measure(name=name, values=values, title=f"{title} (%)", suffix=PERCENT, decimals=1)


def jer_of_cells(table: CellTable, rows: Sequence[int]) -> np.ndarray:
    """JER (fraction) of every cell over some recordings, by their place in the table; NaN where unknown."""
    jer, speakers = table.jer[rows], table.num_scored_speakers[rows]
    return pooled_jer(speakers @ jer, np.full(len(table), speakers.sum(), dtype=float), jer.sum(axis=0))
