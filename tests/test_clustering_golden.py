"""Clustering against recordings of DiariZen's fork and of pyannote 4 (and VBx's own repository)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from recorded_clusterings import CONVENTIONS, load_recording, read_cases

from workbench.clustering import PLDA, TrainingSet, constrained_argmax, mark_inactive, run_clustering, vbx
from workbench.clustering.filtering import training_mask
from workbench.clustering.vbx import forward_backward, initial_responsibilities

pytestmark = pytest.mark.golden

RECORDINGS = [
    "r00_none",
    "r01_one",
    "r02_two",
    "r03_few",
    "r04_small",
    "r05_s3",
    "r06_s2",
    "r07_fewer",
    "r08_mid",
    "r09_noisy",
    "r10_big",
]


@pytest.fixture(scope="module")
def pack(golden):
    return golden / "clustering"


@pytest.fixture(scope="module")
def pldas(pack):
    return {name: PLDA.load(pack / f"plda_{name}") for name in "AB"}


def test_every_recording_of_the_pack_is_compared(pack):
    names = sorted(path.stem for path in (pack / "recordings").glob("*.npz") if "__" not in path.stem)
    assert names == RECORDINGS


@pytest.mark.parametrize("version", CONVENTIONS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_clusters_of_active_speakers_equal_the_original(pack, pldas, name, version):
    features, plda = load_recording(pack / "recordings", name)
    training = TrainingSet(features, CONVENTIONS[version])
    with np.load(pack / "recordings" / f"{name}__{version}.npz") as archive:
        expected = dict(archive)
    different, compared = [], 0
    for case, params in read_cases(pack / "recordings", name, version):
        result = run_clustering(features, params, pldas[plda], training)
        assert result.hard_clusters.shape == features.embeddings.shape[:2]
        if "error" in case or not case["stable"]:
            continue  # no answer, or one that rounding decides: ours only has to exist
        compared += 1
        hard_clusters = mark_inactive(expected["hard"][case["index"]], features.segmentations)
        if not np.array_equal(result.active_clusters, hard_clusters):
            different.append(case)
        centroids = expected.get(f"centroids_{case['index']:04d}")
        if centroids is not None:
            np.testing.assert_allclose(result.centroids, centroids, rtol=1e-4, atol=1e-5)
    assert compared > 0
    assert different == []


@pytest.mark.parametrize("version", CONVENTIONS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_training_embeddings_are_the_originals(pack, name, version):
    features, _ = load_recording(pack / "recordings", name)
    chunk, speaker = np.nonzero(
        training_mask(features.segmentations, features.embeddings, CONVENTIONS[version])
    )
    with np.load(pack / "recordings" / f"{name}__{version}.npz") as archive:
        np.testing.assert_array_equal(chunk, archive["train_chunk_idx"])
        np.testing.assert_array_equal(speaker, archive["train_speaker_idx"])


def test_constrained_argmax_equals_the_original(pack):
    with np.load(pack / "constrained_argmax.npz") as archive:
        cases = [key[4:] for key in archive.files if key.startswith("soft")]
        assert cases
        for case in cases:
            np.testing.assert_array_equal(constrained_argmax(archive[f"soft{case}"]), archive[f"hard{case}"])


@pytest.mark.parametrize("name", ["A", "B"])
def test_plda_features_equal_the_original(pack, pldas, name):
    with np.load(pack / "vbx_setup.npz") as archive:
        setup = {key[2:]: archive[key] for key in archive.files if key.startswith(name)}
    plda = pldas[name]
    np.testing.assert_allclose(plda.project(setup["x"]), setup["xvec_tf"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(plda.phi, setup["psi"], rtol=1e-6)
    features = plda.transform(setup["x"])  # columns are defined up to their sign
    half = features[:, : features.shape[1] // 2]
    np.testing.assert_allclose(abs(features), abs(setup["plda_tf"]), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(abs(half), abs(setup["plda_tf_half"]), rtol=1e-6, atol=1e-9)
    for max_iters in (1, 20):
        gamma = initial_responsibilities(setup["cluster_vbx_ahc"])
        posterior = vbx(features, plda.phi, gamma, Fa=0.07, Fb=0.8, max_iters=max_iters)
        expected = setup[f"cluster_vbx_gamma_it{max_iters}"], setup[f"cluster_vbx_pi_it{max_iters}"]
        np.testing.assert_allclose(posterior.gamma, expected[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(posterior.pi, expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("impl", ["v4", "fork", "but"])
def test_vbx_updates_equal_the_original(pack, impl):
    """`but` is the hidden Markov model of VBx's own repository, the others are the mixture."""
    lines = (pack / "vbx_lowlevel.jsonl").read_text().splitlines()
    cases = [case for case in map(json.loads, lines) if case["impl"] == impl]
    assert len(cases) > 100
    with np.load(pack / "vbx_lowlevel.npz") as archive:
        recorded = dict(archive)
    for case in cases:
        start, prefix = f"in{case['input']}_", f"c{case['index']}_"
        given = {}
        if case.get("given_model"):
            given = {
                "pi": recorded[prefix + "pi0"],
                "speakers": (recorded[prefix + "alpha0"], recorded[prefix + "invL0"]),
            }
        posterior = vbx(
            recorded[start + "X"],
            recorded[start + "Phi"],
            recorded[start + "gamma0"],
            Fa=case["Fa"],
            Fb=case["Fb"],
            max_iters=case["maxIters"],
            epsilon=case["epsilon"],
            loop_prob=case["loopProb"] if impl == "but" else None,
            **given,
        )
        assert len(posterior.elbo) == case["iterations"], case
        np.testing.assert_allclose(
            posterior.elbo, recorded[prefix + "elbo"].ravel(), rtol=1e-6, err_msg=str(case)
        )
        np.testing.assert_allclose(
            posterior.pi, recorded[prefix + "pi"], rtol=1e-6, atol=1e-9, err_msg=str(case)
        )
        for name in ("gamma", "alpha", "invL"):
            if prefix + name not in recorded:
                continue  # large arrays were not kept
            expected = recorded[prefix + name]
            np.testing.assert_allclose(
                getattr(posterior, name)[: len(expected)],
                expected,
                rtol=1e-5,
                atol=1e-6,
                err_msg=f"{name} {case}",
            )


def test_forward_backward_equals_the_original(pack):
    with np.load(pack / "vbx_lowlevel.npz") as archive:
        cases = {key.partition("_")[0] for key in archive.files if key.startswith("fb")}
        assert cases
        for case in cases:
            got = forward_backward(*(archive[f"{case}_{name}"] for name in ("lls", "tr", "ip")))
            for name, values in zip(("gamma", "tll", "lfw", "lbw"), got, strict=True):
                np.testing.assert_allclose(values, archive[f"{case}_{name}"], rtol=1e-9, atol=1e-12)
