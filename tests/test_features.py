from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import InputError, RecordingError
from workbench.features import load_features, save_features
from workbench.types import Features, SegmentFeatures, SlidingWindow


@pytest.fixture
def arrays(rng):
    return {
        "uri": np.array("übung"),
        "segmentations": rng.integers(0, 2, (3, 20, 2)).astype(np.float32),
        "embeddings": rng.normal(size=(3, 2, 4)).astype(np.float32),
        "chunks": np.array([0.0, 0.4, 0.1 * 0.4]),
        "frames": np.array([0.0, 0.025, 0.02]),
    }


def test_chunk_features_come_back_as_they_were(tmp_path, arrays):
    arrays["embeddings"][1, 0] = np.nan
    features = Features(
        uri="übung",
        segmentations=arrays["segmentations"],
        embeddings=arrays["embeddings"],
        chunks=SlidingWindow(*arrays["chunks"].tolist()),
        frames=SlidingWindow(*arrays["frames"].tolist()),
    )
    save_features(tmp_path / "a.npz", features)
    loaded = load_features(tmp_path / "a.npz")
    assert isinstance(loaded, Features)
    assert (loaded.uri, loaded.chunks, loaded.frames) == (features.uri, features.chunks, features.frames)
    np.testing.assert_array_equal(loaded.segmentations, features.segmentations)
    np.testing.assert_array_equal(loaded.embeddings, features.embeddings)
    assert loaded.segmentations.dtype == loaded.embeddings.dtype == np.float32


def test_segment_features_come_back_as_they_were(tmp_path, rng):
    features = SegmentFeatures(
        uri="a", embeddings=rng.normal(size=(2, 3)), segments=np.array([[0.0, 1.5], [0.25, 1.75]])
    )
    save_features(tmp_path / "a.npz", features)
    loaded = load_features(tmp_path / "a.npz")
    assert isinstance(loaded, SegmentFeatures)
    assert loaded.uri == "a"
    np.testing.assert_array_equal(loaded.embeddings, features.embeddings)
    np.testing.assert_array_equal(loaded.segments, features.segments)


def test_a_recording_without_chunks_is_fine(tmp_path, arrays):
    arrays["segmentations"], arrays["embeddings"] = np.zeros((0, 20, 2)), np.zeros((0, 2, 4))
    np.savez(tmp_path / "a.npz", **arrays)
    assert load_features(tmp_path / "a.npz").segmentations.shape == (0, 20, 2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("embeddings", np.zeros((3, 3, 4)), r"do not fit segmentations .*expected \(3, 2, dimension\)"),
        ("embeddings", np.full((3, 2, 4), np.inf), "infinite"),
        ("embeddings", np.zeros((3, 2)), r"embeddings must be numbers of shape"),
        ("embeddings", np.full((3, 2, 4), "x"), r"embeddings must be numbers"),
        ("segmentations", np.full((3, 20, 2), 0.5), "must be 0 or 1"),
        ("segmentations", np.full((3, 20, 2), np.nan), "must be 0 or 1"),
        ("segmentations", np.zeros((3, 0, 2)), "no frames"),
        ("chunks", np.array([0.0, 8.0]), r"chunks must be \(start, duration, step\)"),
        ("frames", np.array([0.0, 0.025, 0.0]), "duration and step above 0"),
        ("frames", np.array([np.nan, 0.025, 0.02]), "frames must be"),
        ("uri", np.array(""), "uri must be one non-empty text"),
        ("uri", np.array(["a", "b"]), "uri must be one non-empty text"),
    ],
)
def test_content_that_makes_no_sense_is_named(tmp_path, arrays, key, value, message):
    np.savez(tmp_path / "a.npz", **{**arrays, key: value})
    with pytest.raises(RecordingError, match=rf"a\.npz: .*{message}"):
        load_features(tmp_path / "a.npz")


def test_a_missing_key_is_named(tmp_path, arrays):
    del arrays["chunks"]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(RecordingError, match=r"a\.npz: misses chunks"):
        load_features(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([[0.0, 1.0]], "do not fit"),
        ([[0.0, 1.0], [2.0, 2.0]], "end after start"),
        ([[2.0, 3.0], [0.0, 1.0]], "in the order of their starts"),
    ],
)
def test_segments_that_make_no_sense_are_named(tmp_path, segments, message):
    np.savez(tmp_path / "a.npz", uri="a", embeddings=np.zeros((2, 3)), segments=np.array(segments))
    with pytest.raises(RecordingError, match=message):
        load_features(tmp_path / "a.npz")


def test_what_is_no_npz_is_named(tmp_path, arrays):
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "pickled.npz", **{**arrays, "uri": np.array(["a", None], dtype=object)})
    np.savez_compressed(tmp_path / "whole.npz", **arrays)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("text.npz", "single.npy", "pickled.npz", "cut.npz"):
        with pytest.raises(RecordingError, match=name):
            load_features(tmp_path / name)
    with pytest.raises(InputError, match=r"missing\.npz: no such features file"):
        load_features(tmp_path / "missing.npz")


def test_features_are_saved_only_under_a_name_that_can_be_loaded(tmp_path, rng):
    features = SegmentFeatures(uri="a", embeddings=np.zeros((1, 3)), segments=np.array([[0.0, 1.0]]))
    with pytest.raises(InputError, match=r"\.npz"):
        save_features(tmp_path / "a.bin", features)
