"""Choosing a cell: what it is worth on other recordings, and whether it beats the default."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sweep_tables import AXES, DEFAULT, noise_cells, noise_grid, results_table

from workbench.errors import InputError
from workbench.scoring.significance import permutation_p
from workbench.tuning.cells import CellTable
from workbench.tuning.choice import choose
from workbench.tuning.multiplicity import correct_for_search, search_interval

RUNS = 300


def three_cells(*columns: list[float], totals: list[float] | None = None, **more: np.ndarray) -> pd.DataFrame:
    """Errors (s) of some cells, a column each, on recordings of 100 s."""
    errors = np.array(columns, dtype=float).T
    return results_table(
        {"Fa": [0.1 * (number + 1) for number in range(errors.shape[1])]},
        errors,
        np.full(len(errors), 100.0) if totals is None else np.array(totals),
        **more,
    )


@pytest.mark.parametrize("kind", ["independent", "smooth", "plateaus", "cliff"])
@pytest.mark.parametrize("num_recordings", [6, 16])
def test_on_pure_noise_no_change_is_recommended_in_95_percent_of_runs(kind, num_recordings):
    rng = np.random.default_rng(1)
    changes, naive = 0, 0
    for seed in range(RUNS // 2):
        table = noise_cells(rng, kind, num_recordings)
        choice = choose(table, DEFAULT, num_resamples=400, seed=seed)
        changes += choice.verdict == "change"
        naive += choice.p_alone <= 0.05
        assert (choice.recommended is None) == (choice.verdict != "change")
    assert changes / (RUNS // 2) <= 0.05
    assert naive >= changes  # what tuning in sample would have called significant


def test_on_30_recordings_of_noise_a_test_that_ignores_the_search_errs_often_and_ours_does_not():
    rng = np.random.default_rng(2)
    choices = [
        choose(noise_cells(rng, "independent", 30), DEFAULT, num_resamples=300, seed=seed)
        for seed in range(RUNS // 2)
    ]
    assert np.mean([choice.verdict == "change" for choice in choices]) <= 0.05
    assert np.mean([choice.p_alone <= 0.05 for choice in choices]) > 0.2


@pytest.mark.parametrize(("gain", "least"), [(0.02, 0.3), (0.03, 0.8)])
def test_a_real_gain_is_found(gain, least):
    rng = np.random.default_rng(3)
    found = 0
    for seed in range(50):
        choice = choose(noise_cells(rng, "smooth", 16, gain=gain), DEFAULT, num_resamples=400, seed=seed)
        if choice.verdict == "change":
            found += 1
            rank = [list(AXES[name]).index(choice.table.values(choice.best)[name]) for name in ("Fa", "Fb")]
            assert rank[0] in (7, 8, 9)  # the patch that is better
            assert rank[1] in (1, 2, 3)
            assert choice.gain.high < 0
    assert found / 50 >= least


def test_power_grows_with_the_recordings():
    rng = np.random.default_rng(4)
    found = [
        sum(
            choose(noise_cells(rng, "smooth", count, gain=0.02), DEFAULT, num_resamples=300).verdict
            == "change"
            for _ in range(30)
        )
        for count in (8, 16, 30)
    ]
    assert found[0] < found[1] < found[2]


def test_the_out_of_fold_estimate_is_honest_and_the_tuned_one_is_not():
    rng = np.random.default_rng(5)
    tuned, out_of_fold, truth = [], [], []
    for _ in range(200):
        choice = choose(noise_cells(rng, "independent", 10), DEFAULT, num_resamples=1)
        # all cells are as good as each other: what the mean cell errs is what any is worth
        truth.append(choice.table.der.mean())
        tuned.append(choice.der_best)
        out_of_fold.append(choice.der_out_of_fold)
    assert np.mean(tuned) < np.mean(truth) - 0.01
    assert np.mean(out_of_fold) == pytest.approx(np.mean(truth), abs=0.002)


def test_two_cells_one_better_everywhere():
    choice = choose(three_cells([20] * 8, [10, 11, 12, 13, 14, 15, 16, 17]), {"Fa": 0.1})
    assert choice.verdict == "change"
    assert choice.best == choice.recommended == choice.most_chosen == 1
    assert (choice.times_chosen, choice.num_folds) == (8, 8)
    assert choice.der_default == pytest.approx(0.2)
    assert choice.der_best == choice.der_out_of_fold == pytest.approx(108 / 800)
    assert choice.optimism == 0
    assert choice.p == choice.p_alone == 2 / 2**8  # every sign alike: one of 256 patterns, and its mirror
    assert choice.gain.estimate == pytest.approx(108 / 800 - 0.2)
    assert choice.gain.low < choice.gain.estimate < choice.gain.high < 0
    assert "is significant" in choice.words
    assert "take Fa 0.2" in choice.words


def test_each_recording_is_judged_by_the_cell_that_the_others_choose():
    # without r00 (10 s in cell 1) the other recordings prefer cell 0, and so on
    choice = choose(three_cells([10, 20, 20], [0, 25, 22]), {"Fa": 0.1})
    assert choice.folds["cell"].tolist() == [0, 1, 1]
    assert choice.folds["errors"].tolist() == [10, 25, 22]
    assert choice.der_out_of_fold == pytest.approx(57 / 300)
    assert choice.der_best == pytest.approx(47 / 300)
    assert choice.optimism == pytest.approx(10 / 300)
    assert choice.der_own == pytest.approx((0 + 20 + 20) / 300)
    assert choice.headroom == pytest.approx(7 / 300)
    assert choice.per_recording["own_cell"].tolist() == [1, 0, 0]


def test_groups_leave_together():
    table = three_cells([10, 20, 20, 20], [0, 1, 30, 30])
    groups = {"r00": "AMI", "r01": "AMI", "r02": "VoxConverse", "r03": "VoxConverse"}
    choice = choose(table, {"Fa": 0.1}, folds=groups)
    assert choice.folds["cell"].tolist() == [0, 0, 1, 1]
    assert choice.num_folds == 2
    with pytest.raises(InputError, match="r03"):
        choose(table, folds={"r00": 0, "r01": 0, "r02": 1})


def test_k_folds_split_evenly_and_by_the_seed():
    table = noise_grid(np.random.default_rng(0), num_recordings=11)
    folds = choose(table, DEFAULT, folds=4, num_resamples=1).folds["fold"]
    assert sorted(folds.value_counts()) == [2, 3, 3, 3]
    assert folds.tolist() == choose(table, DEFAULT, folds=4, num_resamples=1).folds["fold"].tolist()
    with pytest.raises(InputError, match="at least 2"):
        choose(table, DEFAULT, folds=1)


@pytest.mark.parametrize("num_recordings", [1, 3, 5])
def test_few_recordings_cannot_tell(num_recordings):
    choice = choose(three_cells([20] * num_recordings, [1] * num_recordings), {"Fa": 0.1})
    assert choice.verdict == "cannot tell"
    assert choice.recommended is None
    assert "at least 6 are needed" in choice.words
    assert choice.not_worse.all()
    assert math.isnan(choice.der_out_of_fold) == (num_recordings == 1)


def test_the_default_may_be_best_missing_or_outside_the_grid():
    table = three_cells([10] * 7, [20] * 7)
    assert choose(table, {"Fa": 0.1}).verdict == "default is best"
    assert choose(table).verdict == "no default"
    assert choose(table, {"Fa": 0.15}).verdict == "no default"
    outside = three_cells([30] * 7)
    choice = choose(table, {"Fa": 0.15}, default_results=outside)
    assert choice.verdict == "change"
    assert choice.der_default == pytest.approx(0.3)
    with pytest.raises(InputError, match="r06"):
        choose(table, default_results=outside[:-1])


def test_a_limit_on_single_recordings_excludes_cells_that_harm_one():
    table = three_cells([20] * 8, [5] * 7 + [23], [15] * 8)
    assert choose(table, {"Fa": 0.1}).best == 1
    choice = choose(table, {"Fa": 0.1}, max_loss=0.02)
    assert choice.best == 2
    assert choice.admissible.tolist() == [True, False, True]
    assert choose(table, {"Fa": 0.1}, max_loss=0.03).best == 1  # exactly 3 points are allowed
    # the fold that leaves the harmed recording out cannot know
    assert choice.folds["cell"].tolist() == [2] * 7 + [1]
    with pytest.raises(InputError, match="default's results"):
        choose(table, max_loss=0.02)


def test_if_no_cell_keeps_the_limit_the_default_stays():
    choice = choose(three_cells([5] * 7 + [40]), default_results=three_cells([20] * 8), max_loss=0.01)
    assert choice.verdict == "nothing admissible"
    assert "keep the default" in choice.words


def test_among_equal_cells_the_middle_of_the_plateau_is_taken():
    errors = [[30.0] * 6, [10.0] * 6, [10.0] * 6, [10.0] * 6, [10.0] * 6, [10.0] * 6, [30.0] * 6]
    assert choose(three_cells(*errors), {"Fa": 0.1}).best == 3


def test_plateau_as_criterion_avoids_the_lonely_minimum():
    errors = [[30.0] * 7, [5.0] * 7, [30.0] * 7, [10.0] * 7, [10.0] * 7, [10.0] * 7, [30.0] * 7]
    table = three_cells(*errors)
    assert choose(table, {"Fa": 0.1}).best == 1
    assert choose(table, {"Fa": 0.1}, criterion="plateau").best == 4


def test_a_cell_chosen_elsewhere_is_judged_as_it_is():
    choice = choose(three_cells([20] * 7, [5] * 7, [10] * 7), {"Fa": 0.1}, best={"Fa": 0.3})
    assert choice.best == 2
    assert choice.der_best == pytest.approx(0.1)
    assert math.isnan(choice.der_out_of_fold)  # the folds would choose Fa 0.2, not this
    assert choice.verdict == "change"
    assert choice.words.startswith("Chosen of 3 cells on 7 recordings: 10.0 % DER")
    assert "out of fold" not in choice.words
    same = choose(three_cells([20] * 7, [5] * 7, [10] * 7), {"Fa": 0.1}, best={"Fa": 0.2})
    assert same.der_out_of_fold == pytest.approx(0.05)
    with pytest.raises(InputError, match="not in the results"):
        choose(three_cells([20] * 7), best={"Fa": 0.9})


def test_the_best_cell_on_the_grids_edge_is_reported():
    choice = choose(three_cells([20] * 7, [15] * 7, [5] * 7), {"Fa": 0.1})
    assert choice.edges == ("Fa = 0.3 is the highest value tried",)
    assert "widen the grid" in choice.words
    assert choose(three_cells([20] * 7, [5] * 7, [15] * 7), {"Fa": 0.1}).edges == ()
    assert choose(three_cells([20] * 7, [5] * 7), {"Fa": 0.1}).edges == ()  # two values have no middle


def test_the_set_of_cells_not_worse_than_the_best_covers_the_truly_best():
    rng = np.random.default_rng(6)
    covered = 0
    for seed in range(100):
        axes = {"Fa": list(range(20))}
        worth = 0.002 * np.abs(np.arange(20) - 7)
        noise = rng.normal(0, 0.02, (12, 20))
        choice = choose(
            results_table(axes, 1000 * (0.3 + worth + noise), np.full(12, 1000.0)), num_resamples=1, seed=seed
        )
        covered += choice.not_worse[7]
        assert choice.not_worse[choice.best]
    assert covered >= 95


def test_cells_clearly_worse_than_the_best_are_left_out_of_the_set():
    table = three_cells([20.0] * 10, [10.0] * 10, [10.5] * 5 + [9.7] * 5)
    assert choose(table).not_worse.tolist() == [False, True, True]


def test_one_cell_alone_is_tested_as_two_systems_are(rng):
    difference = rng.normal(1, 2, (9, 1))
    found = correct_for_search(difference + 10, np.full(9, 10.0))
    assert found.p[0] == found.p_alone[0] == pytest.approx(permutation_p(difference[:, 0]))


def test_cells_that_repeat_others_cost_nothing(rng):
    errors = rng.normal(10, 1, (12, 5))
    baseline = rng.normal(11, 1, 12)
    once = correct_for_search(errors, baseline)
    often = correct_for_search(np.repeat(errors, 40, axis=1), baseline)
    np.testing.assert_allclose(often.p[::40], once.p)


@pytest.mark.parametrize("num_recordings", [7, 20])
def test_the_interval_leaves_out_zero_exactly_where_p_is_significant(rng, num_recordings):
    significant = 0
    for seed in range(60):
        total = rng.uniform(600, 1200, num_recordings)
        errors = rng.normal(0, 20, (num_recordings, 6)) - seed / 2
        found = correct_for_search(errors, np.zeros(num_recordings), num_resamples=999, seed=seed)
        for cell in range(6):
            interval = search_interval(errors[:, cell], total, found)
            assert (interval.low > 0 or interval.high < 0) == (found.p[cell] <= 0.05)
            significant += found.p[cell] <= 0.05
    assert 20 < significant < 340


def test_recordings_that_lack_cells_are_left_out_and_named():
    table = three_cells([20] * 7, [10] * 7).iloc[:-1]
    cells = CellTable.of(table)
    assert cells.incomplete == ("r06",)
    assert cells.uris == tuple(f"r{number:02d}" for number in range(6))


def test_a_table_finds_its_cells_whatever_their_types():
    cells = pd.DataFrame(
        {"method": ["ahc", "vbx"], "ahc_threshold": [0.7045654963945799, 0.6], "max_speakers": [None, 20]}
    )
    rows = results_table({"cell": [0, 1]}, np.full((2, 2), 5.0), np.full(2, 100.0))
    rows = pd.concat([rows.drop(columns="cell"), pd.concat([cells] * 2, ignore_index=True)], axis=1)
    rows["max_speakers"] = rows["max_speakers"].astype("Int64")
    table = CellTable.of(rows)
    assert table.parameters == ("method", "ahc_threshold", "max_speakers")
    first = {"method": "ahc", "ahc_threshold": 0.70456549639458, "max_speakers": None, "onset": 0.5}
    assert table.find(first) == 0
    assert table.find({"method": "vbx", "ahc_threshold": 0.6, "max_speakers": 20}) == 1
    assert table.find({"method": "vbx", "ahc_threshold": 0.7, "max_speakers": 20}) is None
    assert table.values(0)["max_speakers"] is None
    assert table.name(1) == "method vbx, ahc_threshold 0.6, max_speakers 20"
    with pytest.raises(InputError, match="max_speakers"):
        table.find({"method": "vbx", "ahc_threshold": 0.6})


def test_useless_tables_are_refused():
    with pytest.raises(InputError, match="lack the column 'total'"):
        CellTable.of(pd.DataFrame({"uri": ["a"], "num_speakers": [1]}))
    unscored = three_cells([1.0, 2.0])
    unscored["total"] = np.nan
    with pytest.raises(InputError, match="not scored"):
        CellTable.of(unscored)
    two = three_cells([1.0], [1.0])
    two.loc[1, "total"] = 50.0
    with pytest.raises(InputError, match="different references"):
        CellTable.of(two)
    silent = three_cells([1.0] * 7, totals=[0.0] * 7)
    with pytest.raises(InputError, match="no speech"):
        choose(silent)
