"""Rerunning touches no model; whatever features depend on makes it run again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hubs import write_speech

from workbench import feature_cache
from workbench.clustering import AHCParams
from workbench.config import read_config
from workbench.errors import InputError
from workbench.feature_cache import features_for, features_ingredients
from workbench.pipeline import Runtimes, extract_features, load_hub


class Forbidden:
    @staticmethod
    def load(*_args, **_kwargs):
        raise AssertionError("a model was loaded")


@pytest.fixture
def hub(tiny_hub, tmp_path) -> Path:
    shutil.copytree(tiny_hub, tmp_path / "hub")
    return tmp_path / "hub"


def test_a_second_run_makes_no_model_call_and_returns_the_same(hub, tmp_path, monkeypatch):
    audio = write_speech(tmp_path / "a.flac", 4.0)
    first = features_for(audio, hub, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(feature_cache, "Runtimes", Forbidden)
    second = features_for(audio, hub, cache_dir=tmp_path / "cache")
    assert (first.was_cached, second.was_cached) == (False, True)
    np.testing.assert_array_equal(second.features.segmentations, first.features.segmentations)
    np.testing.assert_array_equal(second.features.embeddings, first.features.embeddings)
    assert second.features.chunks == first.features.chunks
    assert second.features.frames == first.features.frames
    direct = extract_features(audio, *load_hub(hub))
    np.testing.assert_array_equal(second.features.embeddings, direct.embeddings)
    # another name, another place, another clustering: the same features
    moved = shutil.copy(audio, tmp_path / "b.flac")
    config = (hub / "config.toml").read_text()
    (hub / "config.toml").write_text(config.replace("Fa = 0.5", "Fa = 0.1"))
    third = features_for(moved, hub, cache_dir=tmp_path / "cache")
    assert third.was_cached
    assert third.features.uri == "b"


def test_whatever_features_depend_on_changes_their_key(hub, tmp_path):
    audio = write_speech(tmp_path / "a.flac", 1.0)
    specs = {"segmentation": f"torch:{hub}", "embedding": f"torch:{hub}"}
    params = read_config(hub / "config.toml")

    def key(path=audio, chosen=specs, by=params):
        return feature_cache.digest_values(features_ingredients(path, chosen, by))

    before = key()
    assert key() == before
    assert key(by=replace(params, clustering=AHCParams())) == before
    different = {
        key(by=replace(params, segmentation_step=0.5)),
        key(by=replace(params, apply_median_filtering=False)),
        key(path=write_speech(tmp_path / "b.flac", 1.0, seed=1)),
        key(chosen=specs | {"segmentation": f"torch:{hub}?threads=1"}),
        key(chosen={kind: f"onnx:{hub}/onnx/{kind}.onnx" for kind in specs}),
    }
    weights = hub / "pytorch_model.bin"
    content = weights.read_bytes()
    weights.write_bytes(content + b" ")
    different.add(key())
    weights.write_bytes(content)
    config = (hub / "config.toml").read_text()
    (hub / "config.toml").write_text(config.replace("use_posi = false", "use_posi = true"))
    different.add(key())
    assert len(different - {before}) == 7


def test_loaded_models_are_used_where_the_cache_has_nothing(hub, tmp_path):
    audio = write_speech(tmp_path / "a.flac", 1.0)
    specs = {"segmentation": f"torch:{hub}", "embedding": f"torch:{hub}"}
    runtimes = Runtimes.load(**specs)
    cached = features_for(audio, specs, cache_dir=tmp_path / "cache", runtimes=runtimes)
    assert not cached.was_cached


def test_models_without_an_embedding_are_refused(tmp_path):
    with pytest.raises(InputError, match="segmentation and embedding"):
        features_for(tmp_path / "a.wav", {"segmentation": "onnx:a.onnx"}, cache_dir=tmp_path)
