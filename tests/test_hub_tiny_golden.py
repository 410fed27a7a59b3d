"""Whole runs of DiariZen's pipeline, from its segmentations and embeddings onward."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
from rttm_lines import rttm_lines

from workbench.aggregation import speaker_count
from workbench.clustering import PLDA, mark_inactive, read_clustering_args, run_clustering
from workbench.clustering.params import speaker_bounds
from workbench.config import read_config
from workbench.pipeline import diarize_features, extract_features, load_hub
from workbench.powerset import median_filter
from workbench.reconstruction import discrete_diarization, reconstruct
from workbench.rttm import read_rttm, write_rttm
from workbench.scoring import score
from workbench.types import Features, SlidingWindow

pytestmark = pytest.mark.golden

RUNS = ["vbx_hub_config", "vbx_strict", "vbx_more", "vbx_maxclust_nofilter", "ahc", "ahc_2spk"]
SHARING = {"vbx_strict", "vbx_more", "ahc"}  # the segmentations and embeddings of vbx_hub_config


@pytest.fixture(scope="module")
def hub(golden):
    return golden / "hub_tiny"


@pytest.fixture(scope="module")
def expected(hub):
    with np.load(hub / "expected" / "expected.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def plda(hub):
    return PLDA.load(hub / "plda")


def config_of(hub, run):
    config = json.loads((hub / "expected" / "expected.json").read_text())["runs"][run]["config"]
    return tomllib.loads((hub / config).read_text()) if isinstance(config, str) else config


def test_every_run_of_the_pack_is_compared(hub):
    assert sorted(json.loads((hub / "expected" / "expected.json").read_text())["runs"]) == sorted(RUNS)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_ends_as_the_original_did(hub, expected, plda, run):
    config = config_of(hub, run)
    inference = config["inference"]["args"]
    source = "vbx_hub_config" if run in SHARING else run

    segmentations = expected[f"{source}/segmentations"].astype(np.float32)
    if inference["apply_median_filtering"]:
        segmentations = median_filter(segmentations)
    np.testing.assert_array_equal(segmentations, expected[f"{source}/segmentations_filtered"])

    duration = inference["seg_duration"]
    features = Features(
        uri="EN2002a_30s",
        segmentations=segmentations,
        embeddings=expected[f"{source}/embeddings"],
        chunks=SlidingWindow(0.0, duration, inference["segmentation_step"] * duration),
        frames=SlidingWindow(0.0, 0.025, 0.02),
    )
    count = speaker_count(features)
    np.testing.assert_array_equal(count, expected[f"{source}/count"][:, 0])

    params = read_clustering_args(config, "config.toml")
    result = run_clustering(features, params, plda)
    raw = expected[f"{run}/hard_clusters_raw"]
    np.testing.assert_array_equal(mark_inactive(raw, segmentations), expected[f"{run}/hard_clusters"])
    np.testing.assert_array_equal(result.active_clusters, expected[f"{run}/hard_clusters"])
    np.testing.assert_allclose(result.centroids, expected[f"{run}/centroids"], rtol=1e-4, atol=1e-5)

    max_speakers = int(speaker_bounds(params)[1])
    np.testing.assert_array_equal(np.minimum(count, max_speakers), expected[f"{run}/count_capped"][:, 0])
    discrete, _ = discrete_diarization(features, result.hard_clusters, max_speakers=max_speakers)
    np.testing.assert_array_equal(discrete, expected[f"{run}/discrete"])

    annotation = reconstruct(features, result.hard_clusters, max_speakers=max_speakers)
    assert rttm_lines(annotation) == (hub / "expected" / f"{run}.rttm").read_text().splitlines()


@pytest.fixture(scope="module")
def loaded(hub):
    return load_hub(hub)[0]


@pytest.fixture(scope="module")
def features_of(hub, loaded):
    """Features computed from the audio, once per way of cutting and filtering."""
    made = {}

    def compute(params):
        key = (params.seg_duration, params.segmentation_step, params.apply_median_filtering)
        if key not in made:
            made[key] = extract_features(hub / "EN2002a_30s.wav", loaded, params)
        return made[key]

    return compute


@pytest.mark.parametrize("run", RUNS)
def test_from_audio_to_rttm(hub, expected, loaded, features_of, tmp_path, run):
    """Our own models this time; a frame may differ where the original's margin is below 1e-3."""
    config = config_of(hub, run)
    (tmp_path / "config.toml").write_text(as_toml(config))
    params = read_config(tmp_path / "config.toml")
    features = features_of(params)
    source = "vbx_hub_config" if run in SHARING else run

    segmentations = expected[f"{source}/segmentations_filtered"]
    differing = (features.segmentations != segmentations).any(axis=-1)
    if f"{source}/margin" in expected:
        narrow = np.zeros(differing.shape, dtype=bool)
        margin = expected[f"{source}/margin"]
        narrow[: len(margin)] = margin < 1e-3
        assert not (differing & ~narrow).any()
    else:
        assert differing.mean() < 1e-3
    np.testing.assert_allclose(features.embeddings, expected[f"{source}/embeddings"], rtol=1e-3, atol=1e-4)
    # both rounded to milliseconds, as RTTM has them
    write_rttm(tmp_path / "found.rttm", diarize_features(features, params, loaded.plda))
    found, original = (read_rttm(p) for p in (tmp_path / "found.rttm", hub / "expected" / f"{run}.rttm"))
    assert score(original["EN2002a_30s"], found["EN2002a_30s"]).der <= 0.005


def as_toml(config):
    """Two levels of tables, as DiariZen's inference and clustering arguments are."""
    lines = []
    for table in ("inference", "clustering"):
        lines.append(f"[{table}.args]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in config[table]["args"].items()]
    return "\n".join(lines)
