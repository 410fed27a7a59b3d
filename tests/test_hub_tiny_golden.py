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
from workbench.powerset import median_filter
from workbench.reconstruction import discrete_diarization, reconstruct
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
