"""Intervals and tests of pooled rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scoring_pairs import random_turns, spoken

from workbench.scoring.comparison import compare_files, der_interval, error_units
from workbench.scoring.significance import (
    bootstrap_p,
    compare_systems,
    find_block_width,
    join_blocks,
    minimum_detectable_difference,
    permutation_p,
    pooled_interval,
    units_needed,
)

TRIALS = 2500


def equal_systems(rng: np.random.Generator, num_units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two systems that are as good as each other, and speech, of meetings of unequal length."""
    totals = rng.uniform(600, 2400, num_units)
    difficulty = rng.beta(2, 10, num_units)
    errors_a, errors_b = totals * (difficulty + rng.normal(0, 0.02, (2, num_units)))
    return errors_a, errors_b, totals


@pytest.mark.parametrize("num_units", [10, 18])
def test_tests_of_equal_systems_err_at_five_percent(rng, num_units):
    rejected = np.zeros(3)
    for seed in range(TRIALS):
        errors_a, errors_b, totals = equal_systems(rng, num_units)
        difference = errors_b - errors_a
        p = [
            permutation_p(difference, num_resamples=1000, seed=seed),
            bootstrap_p(difference, totals, num_resamples=1000, seed=seed),
            float(stats.ttest_1samp(difference / totals, 0).pvalue),
        ]
        rejected += np.array(p) <= 0.05
    assert rejected / TRIALS == pytest.approx(0.05, abs=0.015)


def test_the_interval_covers_the_true_rate(rng):
    covered = 0
    for seed in range(1000):
        totals = rng.uniform(600, 2400, 16)
        interval = pooled_interval(totals * rng.beta(2, 10, 16), totals, num_resamples=1000, seed=seed)
        covered += interval.low <= 1 / 6 <= interval.high  # of Beta(2, 10)
    assert covered / 1000 == pytest.approx(0.95, abs=0.025)


def test_the_estimate_is_pooled_and_inside_its_interval():
    interval = pooled_interval(np.array([10.0, 30.0, 5.0]), np.array([100.0, 100.0, 200.0]))
    assert interval.estimate == 45 / 400
    assert interval.low <= interval.estimate <= interval.high
    assert math.isnan(pooled_interval(np.array([1.0]), np.array([10.0])).low)


def test_all_sign_patterns_are_gone_through_where_they_are_few():
    # of the 16 patterns of 1, 2, 3, 4 only all-plus and all-minus reach a sum of 10
    assert permutation_p(np.array([1.0, 2.0, 3.0, 4.0])) == 2 / 16
    assert permutation_p(np.array([1.0, -1.0, 0.0])) == 1.0
    assert permutation_p(np.zeros(5)) == 1.0


def test_random_patterns_agree_with_all_of_them(rng):
    difference = rng.normal(0.5, 1, 14)
    exact = permutation_p(difference)
    padded = np.concatenate([difference, [1e-12, -1e-12]])  # beyond the exact limit, and nothing else
    assert permutation_p(padded, num_resamples=50_000) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("num_units", [1, 2, 5])
def test_with_too_few_recordings_it_cannot_tell(num_units):
    errors = np.full(num_units, 10.0)
    comparison = compare_systems(errors + 50, errors, np.full(num_units, 100.0))
    assert comparison.verdict == "cannot tell"
    assert comparison.smallest_p == 2.0 ** (1 - num_units)
    assert comparison.words.startswith("cannot tell: -50.00 points, but from")
    assert comparison.words.endswith("at least 6 are needed")


def test_six_recordings_are_enough_to_tell():
    assert units_needed(0.05) == 6
    errors = np.array([10.0, 12.0, 9.0, 14.0, 11.0, 10.0])
    better = compare_systems(errors + [5, 6, 7, 5, 8, 6], errors, np.full(6, 100.0))
    assert (better.verdict, better.p_permutation) == ("better", 2 / 64)
    assert better.words.startswith("B is better: -6.17 points [")
    assert compare_systems(errors, errors + [5, 6, 7, 5, 8, 6], np.full(6, 100.0)).verdict == "worse"


def test_paired_tests_are_those_of_scipy(rng):
    errors_a, errors_b, totals = equal_systems(rng, 12)
    comparison = compare_systems(errors_a, errors_b, totals)
    a, b = errors_a / totals, errors_b / totals
    assert comparison.p_t == pytest.approx(stats.ttest_rel(b, a).pvalue)
    assert comparison.p_wilcoxon == pytest.approx(stats.wilcoxon(b, a).pvalue)
    assert comparison.cohens_d == pytest.approx((b - a).mean() / (b - a).std(ddof=1))
    assert comparison.difference.estimate == pytest.approx((errors_b.sum() - errors_a.sum()) / totals.sum())


def test_a_system_does_not_differ_from_itself():
    errors = np.arange(1.0, 9.0)
    comparison = compare_systems(errors, errors, np.full(8, 50.0))
    assert comparison.verdict == "no difference shown"
    p = (comparison.p_permutation, comparison.p_bootstrap, comparison.p_t, comparison.p_wilcoxon)
    assert p == (1, 1, 1, 1)
    assert comparison.cohens_d == 0


def test_the_minimum_detectable_difference_is_found_with_a_power_of_eighty_percent(rng):
    totals = rng.uniform(600, 2400, 16)
    noise = 0.02
    typical = np.median(
        [minimum_detectable_difference(totals * rng.normal(0, noise, 16), totals) for _ in range(200)]
    )
    found = [
        permutation_p(totals * rng.normal(typical, noise, 16), num_resamples=500, seed=seed) <= 0.05
        for seed in range(600)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_the_power_holds_for_few_recordings_of_unequal_length(rng):
    found = []
    for _ in range(12):
        totals, noise = rng.uniform(300, 2400, 8), 0.03
        drawn = totals * rng.normal(0, noise, (100, 8))
        typical = np.mean([minimum_detectable_difference(each, totals) for each in drawn])
        found += [permutation_p(totals * rng.normal(typical, noise, 8)) <= 0.05 for _ in range(60)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def bursts(rng, num_blocks, mean):
    """Seconds of error per block of 60 s; errors last `mean` seconds, the pauses four times as long."""
    number = num_blocks * 60 // mean
    lengths = rng.exponential(np.tile([4 * mean, mean], number)).astype(int) + 1
    wrong = np.repeat(np.tile([0.0, 1.0], number), lengths)[: num_blocks * 60]
    return wrong.reshape(num_blocks, 60).sum(axis=1)


def test_equal_systems_on_one_recording_differ_in_five_of_a_hundred_though_errors_last(rng):
    rejected, narrow = [], []
    for seed in range(600):
        difference = bursts(rng, 180, 15) - bursts(rng, 180, 15)
        width = find_block_width(difference, np.full(180, 60.0))
        rejected.append(permutation_p(join_blocks(difference, width), num_resamples=500, seed=seed) <= 0.05)
        narrow.append(permutation_p(difference, num_resamples=500, seed=seed) <= 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.02)
    assert np.mean(narrow) > np.mean(rejected)  # blocks of a minute are not independent of each other


def test_independent_blocks_stay_as_they_are(rng):
    totals = rng.uniform(20, 60, 60)
    widths = [find_block_width(totals * rng.normal(0.2, 0.1, 60), totals) for _ in range(100)]
    assert np.median(widths) == 1
    assert find_block_width(np.arange(23.0), np.ones(23)) == 1  # too few to be joined
    assert find_block_width(np.arange(48.0), np.ones(48)) == 4  # a trend goes on and on: until 12 are left
    assert find_block_width(np.zeros(30), np.zeros(30)) == 1


def test_numbers_that_are_no_seconds_are_refused():
    with pytest.raises(ValueError, match="one number per unit"):
        pooled_interval(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="finite seconds"):
        pooled_interval(np.array([np.nan, 1]), np.ones(2))


# Files


def test_one_recording_is_compared_in_blocks_of_time(rng):
    references = {"a": random_turns(rng, 60, 3)}
    hypotheses = {"a": random_turns(rng, 60, 3)}
    interval, unit = der_interval(references, hypotheses, block=3.0)
    assert unit == "block of 3 s"
    assert interval.num_units >= 10
    comparison = compare_files(references, hypotheses, references, block=3.0)
    assert comparison.test.verdict == "better"
    assert comparison.broken == 0
    assert comparison.test.der_b == 0
    assert "blocks of 3 s" in comparison.words


def test_several_recordings_are_units_and_changes_name_them():
    references = {uri: spoken((0, 10, "A")) for uri in "abcdefg"}
    worse = {uri: spoken((0, 9, "x")) for uri in "abcdefg"}
    better = worse | {"a": spoken((0, 10, "x")), "b": spoken((0, 8, "x"))}
    totals, errors, unit = error_units(references, worse)
    assert (totals.tolist(), errors.tolist(), unit) == ([10] * 7, [1] * 7, "recording")
    comparison = compare_files(references, worse, better)
    assert (comparison.fixed, comparison.broken) == (1, 1)
    assert comparison.changes[["uri", "start", "end", "change"]].to_numpy().tolist() == [
        ["a", 9, 10, "fixed"],
        ["b", 8, 9, "broken"],
    ]
    assert comparison.test.verdict == "no difference shown"
