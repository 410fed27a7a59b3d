"""X-vectors against recordings of VBx's own `vbhmm.py` on ES2005a, and what it cannot be given."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from command import run

import workbench
from workbench.clustering import PLDA, XVectorParams, run_clustering
from workbench.clustering.xvectors import SegmentSet, calibrate, merge_segments
from workbench.features import save_features
from workbench.reconstruction import reconstruct
from workbench.rttm import read_rttm
from workbench.scoring import score_files
from workbench.sweeps import RecordingSweep
from workbench.synthetic import make_plda
from workbench.types import INACTIVE, SegmentFeatures


@pytest.fixture(scope="module")
def es2005a(golden):
    """Features, PLDA, reference, and the recorded grid."""
    folder = golden / "es2005a"
    with np.load(folder / "xvectors.npz") as archive:
        features = SegmentFeatures(
            uri="ES2005a",
            embeddings=archive["xvectors"],
            segments=np.stack([archive["start"], archive["end"]], axis=1),
        )
    rows = [json.loads(line) for line in (folder / "grid.jsonl").read_text().splitlines()]
    reference = read_rttm(folder / "ES2005a.ref.rttm")["ES2005a"]
    with np.load(folder / "grid.npz") as archive:
        return features, PLDA.load(folder), reference, rows, dict(archive)


def cell_of(row):
    return {
        "method": "vbx" if row["init"] == "AHC+VB" else "ahc",
        "threshold": row["threshold"],
        "Fa": row["Fa"],
        "Fb": float(row["Fb"]),
        "loop_prob": row["loopP"],
        "lda_dim": row["lda_dim"],
        "init_smoothing": row["init_smoothing"],
    }


def are_renamed(first, second):
    """Whether two labelings differ in the names of labels only."""
    pairs = np.unique(np.stack([first, second]), axis=1).shape[1]
    return pairs == len(np.unique(first)) == len(np.unique(second))


@pytest.mark.golden
def test_the_whole_recorded_grid_is_reproduced(es2005a):
    features, plda, reference, rows, recorded = es2005a
    sweep = RecordingSweep(features, reference, plda=plda)
    cells = pd.DataFrame([cell_of(row) for row in rows])
    found = sweep.evaluate(cells)
    der = [row["scores"]["pyannote_der_collar0_skip0"]["diarization error rate"] for row in rows]
    np.testing.assert_allclose(found["der"], der, atol=1e-9)
    jer = [row["scores"]["dscore_collar0_ignore0"]["jer"] / 100 for row in rows]
    # dscore read RTTM files, in which a turn that ends with a frame of 10 ms may end just after its start
    np.testing.assert_allclose(found["jer"], jer, atol=3e-4)
    for row in found.iloc[::9].itertuples():
        hypothesis = sweep.hypothesis(cells.iloc[row.Index].to_dict())
        scored = score_files({"ES2005a": reference}, {"ES2005a": hypothesis})
        assert row.jer == pytest.approx(scored.overall.jer, abs=1e-12)
    assert found["num_speakers"].tolist() == [row["num_speakers"] for row in rows]
    assert found["iterations"].tolist() == [row.get("iterations", 0) for row in rows]
    with_vbx = [index for index, row in enumerate(rows) if "iterations" in row]
    last = [recorded[f"elbo_{index:03d}"][-1] for index in with_vbx]
    np.testing.assert_allclose(found["elbo"][with_vbx], last, rtol=1e-6)
    assert found.loc[~cells["method"].eq("vbx"), "elbo"].isna().all()


@pytest.mark.golden
def test_labels_turns_and_bounds_of_single_cells_are_the_originals(es2005a, golden):
    features, plda, _, rows, recorded = es2005a
    sweep = RecordingSweep(features, None, plda=plda)
    for index in (0, 1, 4, 13, 44, 45):
        live = sweep.live(cell_of(rows[index]))
        assert are_renamed(live.hard_clusters, recorded[f"labels_{index:03d}"]), index
        if "iterations" in rows[index]:
            np.testing.assert_allclose(live.elbo, recorded[f"elbo_{index:03d}"], rtol=1e-6)
        original = read_rttm(golden / "es2005a" / f"hyp_{index:03d}.rttm")["ES2005a"]
        ours = sweep.hypothesis(cell_of(rows[index]))
        np.testing.assert_allclose(
            [list(segment) for segment in ours.itersegments()],
            [list(segment) for segment in original.itersegments()],
            atol=2e-6,  # six decimals are written
        )


@pytest.mark.golden
def test_the_threshold_is_calibrated_on_the_recording(es2005a):
    features, plda, _, rows, recorded = es2005a
    segments = SegmentSet(features, plda)
    assert segments.gmm_threshold == pytest.approx(rows[0]["gmm_threshold"], rel=1e-6)
    np.testing.assert_allclose(segments.projected[:64], recorded["x_ldaspace"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(abs(segments.vbx_features[:64]), abs(recorded["fea"]), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(plda.phi, recorded["phi"], rtol=1e-6)


@pytest.mark.golden
def test_clustering_and_sweep_give_the_same(es2005a):
    features, plda, reference, rows, _ = es2005a
    params = XVectorParams(threshold=-0.2, Fa=0.4, Fb=64.0, loop_prob=0.65, init_smoothing=7.0)
    plain = run_clustering(features, params, plda)
    table = workbench.sweep(
        features,
        reference,
        {"ahc_threshold": [-0.2], "Fa": [0.4], "Fb": [64.0], "loop_prob": [0.65], "init_smoothing": [7.0]},
        plda=plda,
    )
    counts = workbench.score(reference, reconstruct(features, plain.hard_clusters))
    assert table["der"].item() == pytest.approx(counts.der, abs=1e-12)
    assert table["iterations"].item() == len(plain.elbo)
    assert table["num_speakers"].item() == plain.num_clusters


@pytest.mark.golden
def test_the_command_clusters_segments_with_their_own_parameters(es2005a, golden, tmp_path):
    save_features(tmp_path / "ES2005a.npz", es2005a[0])
    call = ["cluster", tmp_path / "ES2005a.npz", "--out", tmp_path / "out", "--plda", golden / "es2005a"]
    result = run(*call, "--Fa", "0.3", "--Fb", "17", "--loop-prob", "0.99", "--threshold", "-0.015")
    assert result.exit_code == 0, result.stderr
    labels = np.load(tmp_path / "out" / "ES2005a.labels.npy")
    assert are_renamed(labels, es2005a[4]["labels_000"])
    result = run(*call, "--min-cluster-size", "3", "--clustering", "ahc")
    assert result.exit_code == 2
    assert "one embedding per segment: --min-cluster-size is not for it" in result.stderr


@pytest.mark.parametrize("usable", [0, 1, 2])
def test_a_handful_of_segments_is_enough(rng, usable):
    plda = make_plda(rng, 16, 8)
    embeddings = rng.standard_normal((4, 16))
    embeddings[usable:] = np.nan
    segments = np.stack([np.arange(4.0), np.arange(4.0) + 0.9], axis=1)
    features = SegmentFeatures(uri="few", embeddings=embeddings, segments=segments)
    for method in ("ahc", "vbx"):
        found = run_clustering(features, XVectorParams(method=method), plda)
        assert (found.hard_clusters[usable:] == INACTIVE).all()
        assert (found.hard_clusters[:usable] >= 0).all()
        table = workbench.sweep(features, None, {"method": [method], "Fa": [0.1, 0.3]}, plda=plda)
        assert table["num_speakers"].tolist() == [len(set(found.hard_clusters[:usable]))] * 2


def test_equal_segments_are_one_speaker(rng):
    plda = make_plda(rng, 16, 8)
    embeddings = np.tile(rng.standard_normal(16), (5, 1))
    segments = np.stack([np.arange(5.0), np.arange(5.0) + 1], axis=1)
    found = run_clustering(
        SegmentFeatures(uri="u", embeddings=embeddings, segments=segments), XVectorParams(), plda
    )
    assert len(set(found.hard_clusters)) == 1


def test_neighbours_are_joined_and_overlaps_halved():
    segments = np.array([[0.0, 1.5], [0.25, 1.75], [1.25, 2.75], [4.0, 5.0]])
    turns, labels = merge_segments(segments, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(turns, [[0.0, 1.5], [1.5, 2.75], [4.0, 5.0]])
    assert labels.tolist() == [0, 1, 1]


def test_what_segments_need_is_said(rng):
    features = SegmentFeatures(uri="u", embeddings=rng.standard_normal((3, 16)), segments=np.zeros((3, 2)))
    with pytest.raises(workbench.InputError, match="PLDA"):
        run_clustering(features, XVectorParams())
    with pytest.raises(workbench.InputError, match="PLDA"):
        workbench.sweep(features, None, {"Fa": [0.1]})
    with pytest.raises(workbench.InputError, match="min_cluster_size is no parameter of segment features"):
        workbench.sweep(features, None, {"min_cluster_size": [3]})
    with pytest.raises(workbench.InputError, match="loop_prob"):
        XVectorParams(loop_prob=1.5)


@pytest.mark.parametrize("similarity", [-0.3, -0.0129, 0.46, 0.88])
def test_two_segments_are_calibrated_between_their_similarity_and_one(similarity):
    between = calibrate(np.array([[1.0, similarity], [similarity, 1.0]]))
    assert between == pytest.approx((1.0 + similarity) / 2, abs=1e-3)  # whatever rounding leaves


def test_equal_segments_are_calibrated_to_their_similarity():
    assert calibrate(np.full((3, 3), 0.5)) == 0.5
    assert calibrate(np.zeros((0, 0))) == 0.0
