"""Clustering of embeddings that another runtime would have made."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweep_tables import talk

from workbench.clustering import AHCParams
from workbench.errors import InputError
from workbench.sweeps.settings import SweepSettings
from workbench.tuning.plateau import choose_stable
from workbench.tuning.stability import (
    EmbeddingNoise,
    adjusted_rand_index,
    breaking_level,
    measure_noise,
    noise_stability,
    perturb,
    summarise_stability,
)

BASE = SweepSettings(clustering=AHCParams(min_cluster_size=1))


@pytest.fixture(scope="module")
def stability() -> pd.DataFrame:
    near, near_reference = talk("near", 0.62)  # distance 0.61: just above the first threshold
    far, far_reference = talk("far", 1.5)
    cells = pd.DataFrame({"ahc_threshold": [0.6, 0.9]}, index=[3, 8])
    return noise_stability(
        [near, far], {"near": near_reference, "far": far_reference}, cells, base=BASE,
        levels=(1e-6, 0.05, 0.3), num_repeats=3,
    )  # fmt: skip


def test_every_cell_meets_every_noise(stability):
    assert len(stability) == 2 * 2 * 3 * 3
    assert sorted(stability["cell"].unique()) == [3, 8]


def test_small_noise_moves_nothing_and_is_scored_as_the_clean_run(stability):
    small = stability[stability["level"] == 1e-6]
    assert not small["changed"].any()
    assert (small["ari"] == 1).all()
    assert (small["moved"] == 0).all()
    np.testing.assert_allclose(small["der"], small["der_clean"])
    # two voices 0.61 apart are one at 0.9: half of what both say is the other's
    merged = small[(small["uri"] == "near") & (small["cell"] == 8)]
    assert (merged["num_speakers"] == 1).all()
    assert merged["der"].to_numpy() == pytest.approx(0.5, abs=0.02)


def test_labels_move_first_where_the_threshold_is_near_the_distance(stability):
    breaking = breaking_level(stability).set_index(["uri", "cell"])["level"]
    assert breaking["near", 3] == 0.3  # 0.61 against 0.6
    assert breaking.drop(("near", 3)).isna().all()
    everything = breaking_level(stability, max_cross_der=1.0)
    assert everything["level"].isna().all()


def test_the_summary_pools_recordings_and_keeps_the_worst_repeat(stability):
    summary = summarise_stability(stability)
    rows = stability[(stability["cell"] == 3) & (stability["level"] == 0.3)]
    row = summary[(summary["cell"] == 3) & (summary["level"] == 0.3)].iloc[0]
    assert row["cross_der"] == pytest.approx(rows["moved"].sum() / rows["speech"].sum())
    per_repeat = rows.groupby("repeat")[["errors", "total"]].sum()
    assert row["der_high"] == pytest.approx((per_repeat["errors"] / per_repeat["total"]).max())
    assert row["der_change"] == pytest.approx(
        max(row["der_high"] - row["der_clean"], row["der_clean"] - row["der_low"])
    )
    assert 0 < row["changed_share"] <= 1


def test_the_same_seed_gives_the_same_noise_whatever_else_is_there():
    features, reference = talk("near", 0.62)
    other, _ = talk("other", 1.0)
    cells = pd.DataFrame({"ahc_threshold": [0.6]})
    options = {"base": BASE, "levels": (0.1,), "num_repeats": 2}
    alone = noise_stability([features], {"near": reference}, cells, **options)
    both = noise_stability({"o": other, "n": features}, {"near": reference}, cells, **options)
    both_near = both[both["uri"] == "near"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both_near)
    assert both.loc[both["uri"] == "other", "der"].isna().all()  # no reference


def test_relative_noise_has_the_length_that_is_stated(rng):
    embeddings = rng.normal(size=(2000, 1, 64)) * rng.uniform(1, 9, (2000, 1, 1))
    noise = EmbeddingNoise().draw(embeddings, rng)
    share = np.linalg.norm(noise, axis=-1) / np.linalg.norm(embeddings, axis=-1)
    assert share.mean() == pytest.approx(1, abs=0.01)
    assert EmbeddingNoise(kind="absolute").draw(embeddings, rng).std() == pytest.approx(1, abs=0.01)


def test_noise_measured_between_runtimes_is_given_back(rng):
    baseline = rng.normal(size=(50, 3, 8))
    candidate = baseline + rng.normal(0, 1e-3, baseline.shape)
    candidate[4, 1] = np.nan
    noise = EmbeddingNoise.between(baseline, candidate)
    assert noise.differences.shape == (149, 8)
    drawn = noise.draw(baseline, rng).reshape(-1, 8)
    known = {tuple(row) for row in np.abs(noise.differences)}
    assert all(tuple(row) in known for row in np.abs(drawn))
    size = measure_noise(baseline, candidate)
    assert size["absolute"] == pytest.approx(1e-3, rel=0.1)
    assert size["relative"] == pytest.approx(1e-3, rel=0.1)  # the embeddings' own deviation is 1


def test_what_is_missing_stays_missing_and_types_are_kept(rng):
    features, _ = talk("a", 1.0)
    noisy = perturb(features, EmbeddingNoise().draw(features.embeddings, rng), 0.1)
    assert noisy.embeddings.dtype == features.embeddings.dtype
    np.testing.assert_array_equal(np.isnan(noisy.embeddings), np.isnan(features.embeddings))
    assert noisy.segmentations is features.segmentations


def test_impossible_noise_is_refused(rng):
    with pytest.raises(InputError, match="one shape"):
        EmbeddingNoise.between(np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(InputError, match="no embedding in common"):
        EmbeddingNoise.between(np.full((3, 4), np.nan), np.zeros((3, 4)))
    with pytest.raises(InputError, match="measured noise needs"):
        EmbeddingNoise(kind="measured")
    with pytest.raises(InputError, match="measure them on this model"):
        EmbeddingNoise.between(np.zeros((3, 4)), np.ones((3, 4))).draw(np.zeros((2, 5)), rng)
    features, reference = talk("a", 1.0)
    with pytest.raises(InputError, match="at least one level"):
        noise_stability([features], {"a": reference}, pd.DataFrame({"ahc_threshold": [0.6]}), levels=())


def test_the_rand_index_equals_that_of_scikit_learn(rng):
    from sklearn.metrics import adjusted_rand_score

    for _ in range(20):
        first, second = rng.integers(-2, 4, (2, 30))
        assert adjusted_rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second))
    assert adjusted_rand_index(np.zeros(5), np.zeros(5)) == 1
    assert adjusted_rand_index(np.arange(5), np.arange(5)) == 1


def test_a_cell_that_noise_moves_is_not_chosen(stability):
    plateaus = pd.DataFrame(
        {
            "ahc_threshold": np.arange(10) / 10,
            "der": 0.3,
            "worst_step": np.where(np.arange(10) == 3, 0.1, 0.4),
            "width": 2,
        }
    )
    summary = summarise_stability(stability)
    small, large = (summary[summary["level"] == level] for level in (1e-6, 0.3))
    assert choose_stable(plateaus, small).cell == 3
    assert choose_stable(plateaus, large).cell == 8
