"""Flips, margins and what is counted about them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.agreement.flips import (
    add_tables,
    boundary_distance,
    compare_frames,
    count_flips,
    find_flips,
    powerset_margin,
)
from workbench.agreement.ranking import files_needed, rank
from workbench.agreement.statistics import DifferenceStatistics
from workbench.powerset import powerset_classes
from workbench.types import SlidingWindow

CLASSES = powerset_classes(4, 2)
CHUNKS, FRAMES = SlidingWindow(0.0, 1.0, 0.5), SlidingWindow(0.0, 0.02, 0.02)


def logs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.log(rng.dirichlet(np.ones(len(CLASSES)), size=shape)).astype(np.float32)


def flips_of(baseline: np.ndarray, candidate: np.ndarray, near_tie: float = 0.1) -> pd.DataFrame:
    return find_flips(compare_frames(baseline, candidate), CLASSES, CHUNKS, FRAMES, near_tie)


def test_flips_stay_below_twice_the_perturbation(rng):
    baseline = logs(rng, 4, 50)
    candidate = baseline + rng.uniform(-0.05, 0.05, baseline.shape).astype(np.float32)
    flips = flips_of(baseline, candidate)
    assert 0 < len(flips) < baseline[..., 0].size  # neither trivial nor total
    assert flips["margin"].max() <= 2 * 0.05
    assert flips["within_bound"].all()
    assert flips["near_tie"].all()


def test_a_flip_without_a_difference_breaks_the_bound(rng):
    """Which cannot be: margins and differences must come from other arrays than the classes."""
    comparison = compare_frames(logs(rng, 1, 20), logs(rng, 1, 20))
    comparison.difference[:] = 0
    assert not find_flips(comparison, CLASSES, CHUNKS, FRAMES)["within_bound"].any()


def test_planted_ties_are_near_ties_and_planted_decisions_are_real():
    baseline = np.full((1, 10, len(CLASSES)), -10.0, dtype=np.float32)
    baseline[..., 1] = 0.0
    baseline[0, 3, 2] = -0.01  # a tie, almost
    candidate = baseline.copy()
    candidate[0, 3, [1, 2]] = -0.01, 0.0
    candidate[0, 7, [1, 5]] = -3.0, 0.0
    flips = flips_of(baseline, candidate)
    assert flips[["frame", "baseline", "candidate", "near_tie"]].values.tolist() == [
        [3, 1, 2, True],
        [7, 1, 5, False],
    ]
    assert flips["margin"].tolist() == pytest.approx([0.01, 10.0])
    assert flips["time"].tolist() == pytest.approx([0.07, 0.15])  # the middles of frames 3 and 7
    assert flips["speakers"].tolist() == [2, 1]  # 0 -> 1 changes two speakers, 0 -> 0+1 one


def test_frames_that_are_not_finite_are_flips_and_real(rng):
    baseline = logs(rng, 2, 10)
    candidate = baseline.copy()
    candidate[1, 4] = np.nan
    assert flips_of(baseline, candidate)[["chunk", "frame"]].values.tolist() == [[1, 4]]


def test_log_probabilities_of_zero_are_ties_not_errors():
    both = np.full((1, 3, 11), -np.inf, dtype=np.float32)
    both[..., 0] = 0.0
    assert not len(flips_of(both, both.copy()))
    assert powerset_margin(np.full((1, 1, 3), -np.inf)).tolist() == [[0.0]]


def test_the_margin_refuses_an_array_without_chunks():
    with pytest.raises(ValueError, match=r"pass log_probs\[None\]"):
        powerset_margin(np.zeros((5, 7)))


def test_distance_is_to_the_nearest_change_of_class():
    best = np.array([[0, 0, 0, 1, 1], [2, 2, 2, 2, 2]])
    assert boundary_distance(best).tolist() == [[2.5, 1.5, 0.5, 0.5, 1.5], [np.inf] * 5]


def test_tables_count_every_flip_and_every_frame_once_and_add(rng):
    pairs = [(logs(rng, 3, 40), logs(rng, 3, 40)) for _ in range(2)]
    tables, number = [], 0
    for baseline, candidate in pairs:
        comparison = compare_frames(baseline, candidate)
        flips = find_flips(comparison, CLASSES, CHUNKS, FRAMES)
        number += len(flips)
        tables.append(count_flips(comparison, flips, CLASSES, FRAMES.step))
    total = add_tables(tables)
    assert {name: int(table["flips"].sum()) for name, table in total.items()} == dict.fromkeys(
        ("transition", "boundary", "edge", "overlap"), number
    )
    for name in ("boundary", "edge", "overlap"):
        assert total[name]["frames"].sum() == 2 * 3 * 40
        assert (total[name]["flips"] <= total[name]["frames"]).all()


def test_statistics_of_parts_add_up_to_those_of_the_whole(rng):
    baseline = rng.standard_normal((60, 7))
    candidate = baseline + rng.normal(0, 1e-3, baseline.shape)
    whole = DifferenceStatistics.of(baseline, candidate)
    parts = sum(
        (DifferenceStatistics.of(baseline[i : i + 20], candidate[i : i + 20]) for i in (0, 20, 40)),
        DifferenceStatistics(),
    )
    difference = np.abs(candidate - baseline)
    for each in (whole, parts):
        assert each.count == 420
        assert each.max_abs == pytest.approx(difference.max())
        assert each.mean_abs == pytest.approx(difference.mean())
        assert each.snr == pytest.approx(20 * np.log10(np.linalg.norm(baseline) / np.linalg.norm(difference)))
        for q in (0.5, 0.9, 0.99):
            exact = np.quantile(difference, q, method="inverted_cdf")
            assert exact <= each.quantile(q) <= 1.13 * exact
        assert each.histogram()["elements"].sum() == 420


def test_no_difference_has_infinite_snr_and_zero_quantiles():
    same = DifferenceStatistics.of(np.ones(5), np.ones(5))
    assert (same.snr, same.max_abs, same.quantile(0.999), same.cosine) == (np.inf, 0.0, 0.0, 1.0)


def test_no_file_hides_behind_a_nan():
    found = DifferenceStatistics.of(np.ones(4), np.array([1.0, np.nan, 1.0, 1.0]))
    assert found.max_abs == np.inf
    assert (found.count, found.nonfinite_candidate, found.nonfinite_baseline) == (3, 1, 0)


def test_one_bad_recording_of_fifty_tops_the_list_and_needs_48_draws(rng):
    rows = pd.DataFrame({"uri": [f"r{i:02d}" for i in range(50)], "frames": 1000, "max_abs_diff": 0.1})
    rows["flips"], rows["real"] = rng.integers(0, 3, 50), 0
    rows.loc[rows["uri"] == "r31", ["flips", "real"]] = 430, 400
    damage = rank(rows)
    assert damage.table["uri"].iloc[0] == "r31"
    assert damage.standing_out == ["r31"]
    assert damage.files_needed == 48
    assert damage.pooled_rate < 0.02  # a mean would have hidden it
    assert "r31" in damage.words
    assert files_needed(50, 0) is None
