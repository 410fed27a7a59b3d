"""PLDA estimation on data drawn from a known model, and the forms that PLDA files come in."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pytest
from command import run

from workbench.clustering import PLDA, XVectorParams, cluster
from workbench.clustering.plda_estimation import (
    PLDAEstimation,
    diagonalise,
    estimate_plda,
    log_likelihood,
    speaker_scatter,
    two_covariances,
)
from workbench.clustering.plda_files import read_kaldi_plda, save_plda
from workbench.embedding_files import EmbeddingSet, save_embeddings
from workbench.errors import InputError
from workbench.types import SegmentFeatures


def draw(rng, within, between, num_speakers, most):
    """Rows of speakers who are heard 2 to `most` times, and who they are."""
    counts = rng.integers(2, most + 1, num_speakers)
    labels = np.repeat(np.arange(num_speakers), counts)
    dimension = len(within)
    means = rng.multivariate_normal(np.zeros(dimension), between, num_speakers)
    return means[labels] + rng.multivariate_normal(np.zeros(dimension), within, len(labels)), labels


def random_covariance(rng, dimension, scale):
    root = rng.normal(size=(dimension, dimension))
    return scale * (root @ root.T / dimension + 0.3 * np.eye(dimension))


def test_the_covariances_of_a_known_model_are_found(rng):
    within, between = random_covariance(rng, 4, 1.0), random_covariance(rng, 4, 3.0)
    rows, labels = draw(rng, within, between, 3000, 8)
    start = speaker_scatter(rows, labels)
    found = two_covariances(rows - rows.mean(axis=0), labels, start, 20)
    np.testing.assert_allclose(found[0], within, atol=0.06 * within.max())
    np.testing.assert_allclose(found[1], between, atol=0.08 * between.max())


def test_every_step_raises_the_likelihood_which_is_that_of_the_joint_gaussian(rng):
    within, between = random_covariance(rng, 3, 1.0), random_covariance(rng, 3, 1.0)
    rows, labels = draw(rng, within, between, 25, 5)
    rows = rows - rows.mean(axis=0)
    values = [
        log_likelihood(rows, labels, *two_covariances(rows, labels, (np.eye(3), np.eye(3)), steps))
        for steps in (0, 1, 2, 5, 30)
    ]
    assert np.all(np.diff(values) > 0)
    expected = 0.0
    for speaker in np.unique(labels):
        own = rows[labels == speaker]
        count = len(own)
        joint = np.kron(np.eye(count), within) + np.kron(np.ones((count, count)), between)
        flat = own.reshape(-1)
        expected -= 0.5 * (np.linalg.slogdet(2 * np.pi * joint)[1] + flat @ np.linalg.solve(joint, flat))
    assert log_likelihood(rows, labels, within, between) == pytest.approx(expected, rel=1e-10)


def test_an_estimated_plda_whitens_its_own_speakers_and_survives_its_files(rng, tmp_path):
    rows, labels = draw(rng, random_covariance(rng, 12, 0.5), random_covariance(rng, 12, 2.0), 400, 9)
    plda = estimate_plda(rows + 5, labels, PLDAEstimation(num_lda=6))
    features = plda.transform(rows + 5)
    within, between = two_covariances(
        features, labels, (np.eye(6), np.diag(plda.phi)), 1
    )  # a fixed point of the estimation
    np.testing.assert_allclose(within, np.eye(6), atol=0.05)
    np.testing.assert_allclose(between, np.diag(plda.phi), atol=0.05 * plda.phi[0])
    assert np.all(np.diff(plda.phi) <= 1e-9)
    save_plda(tmp_path / "plda", plda)
    np.testing.assert_array_equal(PLDA.load(tmp_path / "plda").transform(rows), plda.transform(rows))


def test_shrinkage_makes_few_embeddings_enough(rng):
    rows, labels = draw(rng, np.eye(40), 2 * np.eye(40), 12, 3)
    with pytest.raises(InputError, match="singular"):
        estimate_plda(rows, labels, PLDAEstimation(num_lda=20))
    plda = estimate_plda(rows, labels, PLDAEstimation(num_lda=20, shrinkage=0.3))
    assert np.isfinite(plda.transform(rows)).all()
    assert (plda.psi > 0).all()


@pytest.mark.parametrize(
    ("labels", "params", "message"),
    [
        (["a"] * 6, {}, "found 1 speakers"),
        ([*"abcdef"], {}, "of whom 0 have more than one"),
        ([*"aabbcc"], {"num_lda": 9}, "num_lda must be 1 to 4"),
        ([*"aabbcc"], {"num_lda": 2, "shrinkage": 2.0}, "shrinkage"),
    ],
)
def test_what_cannot_be_estimated_is_refused(rng, labels, params, message):
    with pytest.raises(InputError, match=message):
        estimate_plda(rng.normal(size=(6, 4)), labels, PLDAEstimation(**{"num_lda": 2, **params}))


# --- files ----------------------------------------------------------------------------------------


def kaldi_binary(mu, tr, psi):
    """Kaldi's binary form by its definition."""

    def size(number):
        return b"\4" + struct.pack("<i", number)

    def vector(values):
        return b"DV " + size(len(values)) + values.astype("<f8").tobytes()

    matrix = b"DM " + size(len(tr)) + size(tr.shape[1]) + tr.astype("<f8").tobytes()
    return b"\0B<Plda> " + vector(mu) + matrix + vector(psi) + b"</Plda> "


def kaldi_text(mu, tr, psi):
    def row(values):
        return " ".join(repr(float(value)) for value in values)

    rows = "\n".join(f"  {row(values)} " for values in tr)
    return f"<Plda>  [ {row(mu)} ]\n [\n{rows}]\n [ {row(psi)} ]\n</Plda> ".encode()


def write_vbx_folder(out, folder, form=kaldi_binary):
    """The arrays of a hub's folder in the files of VBx's repository."""
    with np.load(folder / "xvec_transform.npz") as transform, np.load(folder / "plda.npz") as model:
        with h5py.File(out / "transform.h5", "w") as file:
            for key in transform.files:
                file[key] = transform[key]
        (out / "plda").write_bytes(form(model["mu"], model["tr"], model["psi"]))


@pytest.mark.parametrize("form", [kaldi_binary, kaldi_text])
def test_vbx_models_give_the_features_that_vbx_computed(golden, tmp_path, form):
    folder = golden / "es2005a"
    write_vbx_folder(tmp_path, folder, form)
    plda = PLDA.load(tmp_path)
    with np.load(folder / "xvectors.npz") as vectors, np.load(folder / "grid.npz") as recorded:
        xvectors = vectors["xvectors"][:64]
        np.testing.assert_allclose(plda.project(xvectors), np.sqrt(128) * recorded["x_ldaspace"], atol=1e-9)
        features = plda.transform(xvectors)
        np.testing.assert_allclose(abs(features), abs(recorded["fea"]), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(plda.phi, recorded["phi"], rtol=1e-8)


@pytest.mark.golden
def test_x_vectors_take_a_vbx_model_as_its_recipe_does(golden, tmp_path):
    folder = golden / "es2005a"
    write_vbx_folder(tmp_path, folder)
    with np.load(folder / "xvectors.npz") as vectors:
        segments = np.stack([vectors["start"], vectors["end"]], axis=1)
        features = SegmentFeatures(uri="ES2005a", embeddings=vectors["xvectors"], segments=segments)
    published, ours = (cluster(features, XVectorParams(), plda=each) for each in (tmp_path, folder))
    np.testing.assert_array_equal(published, ours)


def test_kaldis_two_forms_hold_the_same(rng, tmp_path):
    model = rng.normal(size=5), rng.normal(size=(5, 5)), rng.uniform(0.1, 3, 5)
    for form in (kaldi_binary, kaldi_text):
        (tmp_path / "plda").write_bytes(form(*model))
        for found, expected in zip(read_kaldi_plda(tmp_path / "plda"), model, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0BFV \4\3\0\0\0", "expected <Plda>"),
        (kaldi_binary(np.ones(3), np.eye(3), np.ones(3))[:60], "more bytes"),
        (kaldi_binary(np.ones(3), np.eye(2), np.ones(3)), "found \\(3,\\), \\(2, 2\\) and \\(3,\\)"),
        (kaldi_binary(np.ones(3), np.eye(3), -np.ones(3)), "non-positive"),
        (kaldi_binary(np.ones(3), np.ones((3, 3)), np.ones(3)), "singular"),
        (b"<Plda> [ 1 ] [ 1 ] </Plda>", "three arrays in brackets, found 2"),
        (b"<Plda> [ x ] [\n 1 ] [ 1 ] </Plda>", "no number"),
        (b"hello", "is no PLDA of Kaldi"),
    ],
)
def test_damaged_kaldi_models_are_refused(tmp_path, content, message):
    (tmp_path / "plda").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_kaldi_plda(tmp_path / "plda")


def test_folders_without_a_plda_say_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"holds xvec_transform.npz and plda.npz, or transform.h5 and plda"):
        PLDA.load(tmp_path)
    (tmp_path / "plda").write_bytes(kaldi_binary(np.ones(3), np.eye(3), np.ones(3)))
    (tmp_path / "t.h5").write_bytes(b"no h5")
    with pytest.raises(InputError, match="cannot be read as h5"):
        PLDA.load(tmp_path)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["mean1"] = np.zeros(4)
    with pytest.raises(InputError, match="lacks mean2, lda"):
        PLDA.load(tmp_path)


def test_the_command_estimates_and_checks_dimensions(rng, tmp_path):
    rows, labels = draw(rng, np.eye(10), 3 * np.eye(10), 20, 6)
    names = tuple(f"u{n}" for n in range(len(rows)))
    save_embeddings(tmp_path / "e.ark", EmbeddingSet(names=names, embeddings=rows.astype(np.float32)))
    call = ["plda", tmp_path / "e.ark", "--out", tmp_path / "plda", "--lda-dim", "6", "--shrinkage", "0.1"]
    refused = run(*call)
    assert refused.exit_code == 2
    assert "names no speakers" in refused.stderr
    pairs = zip(names, labels, strict=True)
    (tmp_path / "utt2spk").write_text("".join(f"{name} s{label}\n" for name, label in pairs))
    result = run(*call, "--speakers", tmp_path / "utt2spk", "--check", "2,6", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert [row["lda_dim"] for row in result.json["check"]] == [0, 2, 6]
    assert PLDA.load(tmp_path / "plda").num_lda == 6
    assert run(*call, "--speakers", tmp_path / "utt2spk", "--check", "a").exit_code == 2


def test_diagonalise_turns_one_covariance_into_the_identity(rng):
    within, between = random_covariance(rng, 5, 1.0), random_covariance(rng, 5, 1.0)
    rows, psi = diagonalise(within, between)
    np.testing.assert_allclose(rows @ within @ rows.T, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(rows @ between @ rows.T, np.diag(psi), atol=1e-10)
