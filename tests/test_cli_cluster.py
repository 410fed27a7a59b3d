from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from command import run

from workbench.clustering.plda_files import save_plda
from workbench.features import save_features
from workbench.rttm import read_rttm
from workbench.synthetic import make_plda
from workbench.types import INACTIVE, Features, SegmentFeatures, SlidingWindow


def make_features(uri: str, seed: int = 0) -> Features:
    """Two voices that take turns in six chunks; the third slot never talks."""
    rng = np.random.default_rng(seed)
    segmentations = np.zeros((6, 100, 3), dtype=np.float32)
    segmentations[:, :50, 0] = segmentations[:, 50:, 1] = 1
    voices = np.eye(3, 8)
    embeddings = voices[[0, 1, 2]] + 0.01 * rng.standard_normal((6, 3, 8))
    return Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=embeddings.astype(np.float32),
        chunks=SlidingWindow(0.0, 2.0, 2.0),
        frames=SlidingWindow(0.0, 0.025, 0.02),
    )


AHC = ("--clustering", "ahc", "--ahc-threshold", 0.7, "--min-cluster-size", 2)


def test_cluster_writes_rttm_and_labels(tmp_path):
    save_features(tmp_path / "in" / "a.npz", make_features("meeting"))
    result = run("cluster", tmp_path / "in", "--out", tmp_path / "out", *AHC, "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "meeting.labels.npy",
        "meeting.rttm",
    ]
    labels = np.load(tmp_path / "out" / "meeting.labels.npy", allow_pickle=False)
    assert labels.dtype.kind == "i"
    assert labels.shape == (6, 3)
    assert (labels[:, 2] == INACTIVE).all()
    assert [set(labels[:, slot]) for slot in (0, 1)] in ([{0}, {1}], [{1}, {0}])
    hypothesis = read_rttm(tmp_path / "out" / "meeting.rttm")["meeting"]
    assert len(hypothesis.labels()) == result.json["recordings"]["meeting"]["num_speakers"] == 2
    assert hypothesis.label_duration(hypothesis.labels()[0]) == pytest.approx(6, abs=0.1)


def test_files_and_folders_can_be_mixed(tmp_path):
    save_features(tmp_path / "in" / "a.npz", make_features("a"))
    save_features(tmp_path / "b.npz", make_features("b"))
    result = run("cluster", tmp_path / "in", tmp_path / "b.npz", "--out", tmp_path / "out", *AHC)
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.rttm")) == ["a.rttm", "b.rttm"]


def test_a_broken_features_file_does_not_lose_the_others(tmp_path):
    save_features(tmp_path / "in" / "a.npz", make_features("a"))
    (tmp_path / "in" / "b.npz").write_bytes(b"PK not really")
    result = run("cluster", tmp_path / "in", "--out", tmp_path / "out", *AHC, "--json", "-")
    assert result.exit_code == 1
    assert list(result.json["recordings"]) == ["a"]
    assert [failure["uri"] for failure in result.json["failed"]] == ["b"]


def test_silent_features_give_an_empty_rttm(tmp_path):
    features = make_features("a")
    features.segmentations[:] = 0
    save_features(tmp_path / "a.npz", features)
    assert run("cluster", tmp_path / "a.npz", "--out", tmp_path, *AHC).exit_code == 0
    assert (tmp_path / "a.rttm").read_text() == ""
    assert (np.load(tmp_path / "a.labels.npy") == INACTIVE).all()


def test_a_recording_that_the_plda_does_not_fit_does_not_lose_the_others(tmp_path, rng):
    save_plda(tmp_path / "plda", make_plda(rng, 8, 4))
    for uri in "ab":
        save_features(tmp_path / "in" / f"{uri}.npz", make_features(uri))
    narrow = make_features("c")
    narrow = dataclasses.replace(narrow, embeddings=narrow.embeddings[:, :, :5])
    save_features(tmp_path / "in" / "c.npz", narrow)
    vbx = ("--plda", tmp_path / "plda", "--json", "-")
    result = run("cluster", tmp_path / "in", "--out", tmp_path / "out", *vbx)
    assert result.exit_code == 1
    assert list(result.json["recordings"]) == ["a", "b"]
    (failure,) = result.json["failed"]
    assert failure["uri"] == "c"
    assert failure["error"].startswith("the PLDA is for embeddings of 8 values, got 5")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.rttm")) == ["a.rttm", "b.rttm"]
    # where it fits none, it is the call that is wrong
    alone = run("cluster", tmp_path / "in" / "c.npz", "--out", tmp_path / "out", *vbx)
    assert alone.exit_code == 2
    assert "embeddings of 8 values, got 5" in alone.stderr


def test_vbx_without_plda_is_refused_before_any_work(tmp_path):
    save_features(tmp_path / "a.npz", make_features("a"))
    result = run("cluster", tmp_path / "a.npz", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--plda" in result.stderr


def test_an_embedding_of_another_size_than_the_plda_is_explained(tiny_hub, tmp_path):
    save_features(tmp_path / "a.npz", make_features("a"))
    result = run("cluster", tmp_path / "a.npz", "--out", tmp_path / "out", "--plda", tiny_hub / "plda")
    assert result.exit_code == 2
    assert "8" in result.stderr
    assert "16" in result.stderr


def test_two_files_of_one_recording_are_refused(tmp_path):
    for name in ("a", "b"):
        save_features(tmp_path / "in" / f"{name}.npz", make_features("same"))
    result = run("cluster", tmp_path / "in", "--out", tmp_path / "out", *AHC)
    assert result.exit_code == 2
    assert "'same' is also in" in result.stderr


def test_features_per_segment_are_explained(tmp_path):
    segments = np.array([[0.0, 1.0], [1.0, 2.0]])
    features = SegmentFeatures(uri="x", embeddings=np.zeros((2, 8), dtype=np.float32), segments=segments)
    save_features(tmp_path / "x.npz", features)
    result = run("cluster", tmp_path / "x.npz", "--out", tmp_path / "out", *AHC)
    assert result.exit_code == 2
    assert "one embedding per segment" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere.npz", "does not exist"), ("empty", "holds no features file")]
)
def test_nothing_to_cluster_is_explained(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    result = run("cluster", tmp_path / name, "--out", tmp_path / "out", *AHC)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("uri", ["a b", "../a"])
def test_a_name_that_rttm_or_files_cannot_bear_fails_alone(tmp_path, uri):
    save_features(tmp_path / "in" / "a.npz", make_features(uri))
    save_features(tmp_path / "in" / "b.npz", make_features("b"))
    (tmp_path / "in" / "folder.npz").mkdir()
    result = run("cluster", tmp_path / "in", "--out", tmp_path / "out", "--json", "-", *AHC)
    assert result.exit_code == 1, result.stderr
    assert list(result.json["recordings"]) == ["b"]
    assert [entry["uri"] for entry in result.json["failed"]] == ["a"]
