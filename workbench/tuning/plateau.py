"""Where a setting may be a little wrong and nothing happens: plateaus of the error rate.

A single low cell among high ones is luck or a cliff. A good setting is as good one grid step away, on
other recordings of the same kind, and under small numerical noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect_count, expect_number
from workbench.tuning.cells import CellTable, expect_table, rate
from workbench.tuning.lattice import Lattice, most_central

TOLERANCE = 0.002
"""DER (fraction) that a neighbour may be worse and still belong to the same plateau."""


@dataclass(frozen=True, kw_only=True)
class StableCell:
    """The cell to take where stability counts."""

    cell: int
    der: float  # pooled, fraction, of the cell itself
    worst_step: float  # pooled, fraction, of the worst cell within one grid step; NaN without neighbours
    width: int  # cells, along the parameter on which the plateau is narrowest


def find_plateaus(
    results: pd.DataFrame | CellTable,
    *,
    tolerance: float = TOLERANCE,
    num_resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """How robust every cell is against a step on the grid and against other recordings.

    Parameters
    ----------
    results : of a sweep, one row per recording and cell
    tolerance : DER (fraction) that may be lost within a plateau
    num_resamples : times the recordings are drawn again; 0 leaves `near_best` NaN

    Returns
    -------
    plateaus : one row per cell
        The parameters, `der`, `worst_step` (DER of the worst cell within one step of every parameter,
        diagonals included; NaN where there is none), `width` (cells in a row that lose at most
        `tolerance`, on the parameter on which they are fewest; 0 where the cells form no grid),
        `width_<parameter>`, `region` (exact plateaus: connected cells whose output is the same on every
        recording have one number), `region_cells`, `near_best` (share of resamples of the recordings in
        which the cell is within `tolerance` of the best).
    """
    table = CellTable.of(results)
    _check(tolerance, num_resamples, seed)
    der = table.der
    lattice = Lattice.of(table.cells)
    plateaus = table.cells.copy()
    plateaus["der"] = der
    if lattice is None:
        plateaus["worst_step"], plateaus["width"] = np.nan, 0
        _, region = np.unique(table.partition, axis=1, return_inverse=True)
    else:
        has_neighbours = lattice.num_neighbours() > 0
        plateaus["worst_step"] = np.where(has_neighbours, lattice.worst_within_step(der), np.nan)
        widths = lattice.widths(der, tolerance)
        along = list(lattice.steps)
        plateaus["width"] = widths[:, along].min(axis=1) if along else 1
        for axis in along:
            plateaus[f"width_{lattice.axes[axis].name}"] = widths[:, axis]
        region = lattice.regions(table.partition)
    plateaus["region"] = region
    plateaus["region_cells"] = np.bincount(region)[region]
    plateaus["near_best"] = near_best(table, tolerance=tolerance, num_resamples=num_resamples, seed=seed)
    return plateaus


def near_best(
    results: pd.DataFrame | CellTable,
    *,
    tolerance: float = TOLERANCE,
    num_resamples: int = 500,
    seed: int = 0,
) -> np.ndarray:
    """Share of resamples of the recordings in which each cell is within `tolerance` of the best."""
    table = CellTable.of(results)
    _check(tolerance, num_resamples, seed)
    num_recordings = len(table.uris)
    if num_recordings < 2 or num_resamples < 1:
        return np.full(len(table), np.nan)
    drawn = np.random.default_rng(seed).multinomial(
        num_recordings, np.full(num_recordings, 1 / num_recordings), num_resamples
    )
    near = np.zeros(len(table))
    errors = table.errors
    for some in np.array_split(drawn, max(1, len(drawn) * len(table) // 2_000_000)):  # 16 MB at a time
        der = rate(some @ errors, (some @ table.total)[:, None])
        near += (der <= der.min(axis=1, keepdims=True) + tolerance).sum(axis=0)
    return near / num_resamples


def choose_stable(
    plateaus: pd.DataFrame,
    stability: pd.DataFrame | None = None,
    *,
    max_moved: float = 0.01,
    admissible: np.ndarray | None = None,
) -> StableCell:
    """The cell whose worst neighbour is best, of those that survive the noise.

    Parameters
    ----------
    plateaus : as `find_plateaus` returns it
    stability : as `workbench.tuning.stability.summarise_stability` returns it, one row per tested cell
        Only cells in it can be chosen then.
    max_moved : share of the speech that may change its speaker under the noise
    admissible : bool array, shape (num_cells,); which cells may be chosen at all
    """
    expect_table(plateaus, "plateaus", ("der", "worst_step", "width"), "find_plateaus")
    expect_number(max_moved, "max_moved must be a share of the speech from 0 to 1", low=0, high=1)
    allowed = np.ones(len(plateaus), dtype=bool)
    if admissible is not None:
        allowed = np.array(admissible)
        if allowed.shape != (len(plateaus),) or allowed.dtype != bool:
            raise InputError(
                f"admissible must say True or False of each of the {len(plateaus)} cells, got "
                f"{allowed.dtype} of shape {allowed.shape}"
            )
    if stability is not None:
        expect_table(stability, "stability", ("cell", "cross_der"), "summarise_stability")
        survived = stability.loc[stability["cross_der"] <= max_moved, "cell"].unique()
        allowed &= np.isin(np.arange(len(plateaus)), survived)
    if not allowed.any():
        raise InputError(
            f"no cell keeps at least {100 * (1 - max_moved):g} % of the speech where it was under this noise "
            "and meets the constraints; allow more, or test more cells"
        )
    worst = plateaus["worst_step"].to_numpy()
    worst = np.where(np.isnan(worst), plateaus["der"], worst)  # without neighbours, it stands for itself
    der = plateaus["der"].to_numpy()
    worst, der = np.where(allowed, worst, np.inf), np.where(allowed, der, np.inf)
    tied = np.flatnonzero(worst <= worst.min() + 1e-12)
    tied = tied[der[tied] <= der[tied].min() + 1e-12]
    names = list(plateaus.columns[: plateaus.columns.get_loc("der")])
    cell = most_central(Lattice.of(plateaus[names]), tied)
    return StableCell(
        cell=cell,
        der=float(der[cell]),
        worst_step=float(plateaus["worst_step"].iloc[cell]),
        width=int(plateaus["width"].iloc[cell]),
    )


def _check(tolerance: float, num_resamples: int, seed: int) -> None:
    expect_number(tolerance, "tolerance must be a DER (fraction) of at least 0", low=0)
    expect_count(num_resamples, "num_resamples must be a whole number of at least 0")
    expect_count(seed, "seed must be a whole number of at least 0")
