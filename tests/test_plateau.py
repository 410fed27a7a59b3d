"""Plateaus: how much worse a neighbour may be, and what is exactly the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweep_tables import noise_grid, results_table

from workbench.errors import InputError
from workbench.tuning.cells import CellTable
from workbench.tuning.lattice import Lattice
from workbench.tuning.plateau import choose_stable, find_plateaus, near_best

GRID = np.array(
    [
        [30, 30, 30, 30, 30],
        [30, 5, 30, 11, 10],
        [30, 30, 12, 10, 11],
        [30, 30, 30, 11, 12],
    ],
    dtype=float,
)
AXES = {"Fa": [0.1, 0.2, 0.3, 0.4], "Fb": [1.0, 2.0, 3.0, 4.0, 5.0]}


def table_of(grid: np.ndarray, num_recordings: int = 3, **columns: np.ndarray) -> pd.DataFrame:
    return results_table(
        AXES, np.stack([grid.ravel()] * num_recordings), np.full(num_recordings, 100.0), **columns
    )


def test_the_worst_neighbour_counts_diagonals_and_nothing_beyond_the_grid():
    worst = find_plateaus(table_of(GRID))["worst_step"].to_numpy().reshape(GRID.shape)
    padded = np.pad(GRID, 1, constant_values=-np.inf)
    expected = [[padded[i : i + 3, j : j + 3].max() / 100 for j in range(5)] for i in range(4)]
    np.testing.assert_allclose(worst, expected)


def test_a_lonely_minimum_is_passed_over_for_a_steady_cell():
    stable = choose_stable(find_plateaus(table_of(GRID)))
    assert (stable.cell, stable.worst_step) == (2 * 5 + 4, 0.12)  # 11 %, beside nothing above 12


def test_widths_count_the_cells_in_a_row_that_are_hardly_worse():
    plateaus = find_plateaus(table_of(GRID), tolerance=0.0201)
    row = plateaus.iloc[2 * 5 + 3]  # 10 %: left 12, right 11; above 11, below 11, beyond that 30
    assert (row["width_Fb"], row["width_Fa"], row["width"]) == (3, 3, 3)
    assert plateaus.iloc[1 * 5 + 1]["width"] == 1  # the lonely minimum


def test_unset_is_no_neighbour_where_it_is_another_thing_than_a_number():
    """Without a Markov model is no step from one that always stays."""
    cells = pd.DataFrame({"Fa": np.repeat([0.1, 0.2], 3), "loop_prob": [0.5, 0.9, None] * 2})
    lattice = Lattice.of(cells)
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert lattice.worst_within_step(values).tolist() == [5, 5, 6, 5, 5, 6]
    assert lattice.widths(values, 10.0).tolist() == [[2, 2], [2, 2], [2, 1]] * 2
    assert lattice.regions(np.zeros((1, 6), dtype=int)).tolist() == [0, 0, 1, 0, 0, 1]


def test_names_have_no_neighbours_and_none_comes_after_all_numbers():
    cells = pd.DataFrame({"linkage": ["ward", "average"] * 3, "max_speakers": [5, 5, None, None, 2, 2]})
    lattice = Lattice.of(cells.astype({"max_speakers": "Int64"}))
    assert [axis.values for axis in lattice.axes] == [("ward", "average"), (2, 5, None)]
    assert lattice.steps == (1,)
    worst = lattice.worst_within_step(np.array([1.0, 10, 2, 20, 3, 30]))
    assert worst.tolist() == [3, 30, 2, 20, 3, 30]


def test_holes_in_the_grid_are_no_neighbours():
    cells = pd.DataFrame({"Fa": [1, 1, 2, 3], "Fb": [1, 2, 1, 2]})
    lattice = Lattice.of(cells)
    assert lattice.worst_within_step(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [3, 3, 4, 4]
    assert lattice.widths(np.zeros(4), 1.0).tolist() == [[2, 2], [1, 2], [2, 1], [1, 1]]
    assert np.isnan(lattice.spread(np.zeros(4))).sum() == 2


def test_scattered_cells_have_no_neighbours(rng):
    cells = pd.DataFrame(rng.random((40, 3)), columns=["Fa", "Fb", "ahc_threshold"])
    assert Lattice.of(cells) is None
    errors = 100 * rng.random((8, 40))
    table = results_table({"Fa": range(40)}, errors, np.full(8, 100.0))
    for name in cells:
        table[name] = np.tile(cells[name], 8)
    plateaus = find_plateaus(table)
    assert plateaus["worst_step"].isna().all()
    stable = choose_stable(plateaus)
    assert stable.cell == errors.sum(axis=0).argmin()
    assert np.isnan(stable.worst_step)


@pytest.mark.parametrize("num_cells", [2, 4, 40])
def test_an_interval_beside_a_list_is_no_grid(rng, num_cells):
    """However few values the other parameter has: no value of the interval comes twice."""
    cells = pd.DataFrame({"Fa": rng.random(num_cells), "Fb": np.arange(num_cells) % 2})
    assert Lattice.of(cells) is None
    assert Lattice.of(cells[["Fa"]]) is not None  # alone, its values follow each other
    assert Lattice.of(pd.DataFrame({"Fa": [1, 1, 2], "Fb": [1, 2, 1]})) is not None  # a grid with a hole


def test_a_cell_beside_holes_alone_has_no_worst_neighbour():
    cells = pd.DataFrame({"Fa": [1, 1, 1, 3, 4, 3], "Fb": [1, 2, 4, 4, 1, 2]})
    assert Lattice.of(cells).num_neighbours().tolist() == [2, 4, 3, 3, 1, 5]
    apart = pd.DataFrame({"Fa": [1, 1, 1, 3, 2, 2], "Fb": [1, 2, 4, 8, 2, 1]})
    assert Lattice.of(apart).num_neighbours().tolist() == [3, 4, 2, 0, 4, 3]
    errors = np.array([[20.0, 20.0, 20.0, 5.0, 20.0, 20.0]])
    table = results_table({"Fa": apart["Fa"]}, errors, np.full(1, 100.0)).assign(Fb=apart["Fb"])
    worst = find_plateaus(table)["worst_step"]
    assert worst.isna().tolist() == [False, False, False, True, False, False]


def test_exact_plateaus_are_connected_cells_with_equal_output_on_every_recording():
    partition = np.array([[[1, 1, 2, 2, 1]] * 4, [[1, 1, 1, 1, 1]] * 2 + [[2, 2, 2, 2, 2]] * 2])
    plateaus = find_plateaus(table_of(GRID, 2, partition=partition.reshape(2, -1)))
    region = plateaus["region"].to_numpy().reshape(4, 5)
    # the last column looks like the first but is not connected to it
    assert region.tolist() == [[0, 0, 1, 1, 2]] * 2 + [[3, 3, 4, 4, 5]] * 2
    assert plateaus["region_cells"].to_numpy().reshape(4, 5)[0].tolist() == [4, 4, 4, 4, 2]


def test_the_cell_that_wins_on_every_recording_is_near_the_best_in_every_resample():
    share = near_best(table_of(GRID), tolerance=0.001).reshape(4, 5)
    assert share[1, 1] == 1
    assert share.sum() == 1
    assert np.isnan(near_best(table_of(GRID, 1))).all()


def test_noise_spreads_who_is_near_the_best(rng):
    share = near_best(noise_grid(rng, "independent", 8), tolerance=0.0)
    assert share.sum() == pytest.approx(1)
    assert np.count_nonzero(share) > 3


def test_only_cells_that_survive_the_noise_are_chosen():
    plateaus = find_plateaus(table_of(GRID))
    stability = pd.DataFrame({"cell": [19, 13, 6], "level": 1e-3, "cross_der": [0.2, 0.0, 0.0]})
    stable = choose_stable(plateaus, stability)
    assert (stable.cell, stable.der, stable.worst_step) == (6, 0.05, 0.3)  # both stand beside 30 %
    with pytest.raises(InputError, match="no cell keeps"):
        choose_stable(plateaus, stability[:1])
    with pytest.raises(InputError, match="constraints"):
        choose_stable(plateaus, admissible=np.zeros(20, dtype=bool))


def test_ten_thousand_cells_are_no_trouble(rng):
    table = CellTable.of(noise_grid(rng, axes={"Fa": range(100), "Fb": range(100)}))
    assert len(find_plateaus(table, num_resamples=50)) == 10_000
