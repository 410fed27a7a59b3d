"""What one array is of another: samples, features, padding, and local speakers in another order."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict

import numpy as np
import pytest

from workbench.agreement.fbank_variants import FrontEndSettings, fbank_variant
from workbench.agreement.feature_relations import relate_features
from workbench.agreement.front_end import explain_features
from workbench.agreement.samples import relate_samples
from workbench.powerset import permute_classes
from workbench.steps import walk_steps
from workbench.types import Geometry

NOISE = np.random.default_rng(0).normal(0, 0.1, 20000)
FBANK = np.random.default_rng(1).normal(-5, 3, (1, 300, 40))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: np.concatenate([x[25:], np.zeros(25)]), "early by 25 samples (1.56 ms)"),
        (lambda x: -x, "turned upside down"),
        (lambda x: 0.5 * x, "scaled by 0.5"),
        (lambda x: x + 0.01, "moved by an offset of 0.01"),
        (lambda x: x + np.random.default_rng(2).normal(0, 2**-15, x.shape), "noisy by 1 steps of 16 bits"),
        (lambda x: x[:-160], "shorter by 160 samples (10.00 ms)"),
        (lambda x: np.repeat(x, 3), "as if audio at 48000 Hz had been taken for 16000 Hz"),
    ],
)
def test_samples_say_what_was_done_to_them(change, words):
    relation = relate_samples(NOISE, change(NOISE))
    assert relation is not None
    assert words in relation.words
    assert relate_samples(NOISE, NOISE + 1e-6) is None
    assert relate_samples(NOISE, np.random.default_rng(5).normal(0, 0.1, 20000)) is None


DB = 10 / np.log(10)


@pytest.mark.parametrize(
    ("one", "other", "cause", "words"),
    [
        (DB * FBANK, FBANK, "units", "natural logarithms instead of decibels of power (times ln 10/10)"),
        (FBANK, FBANK / np.log(10), "units", "decimal logarithms instead of natural ones"),
        (FBANK, DB * FBANK + 3.0, "units", "(times 10/ln 10), and plus 3"),
        (FBANK, np.roll(FBANK, -2, axis=1), "shift", "early by 2 frames (20 ms)"),
        (FBANK, FBANK[..., ::-1], "band_order", "mel bands in reverse order"),
        (np.maximum(FBANK, -8), np.maximum(FBANK, -6), "floor", "cut off below at -6 instead of -8"),
        (FBANK, np.log(np.exp(FBANK) + 1e-3), "floor", "an energy of 0.001 more before the logarithm"),
        (FBANK, FBANK * np.linspace(0.5, 2, 40) + 1, "statistics", "another offset in every band"),
    ],
)
def test_features_say_what_they_are_of_others(one, other, cause, words):
    relation = relate_features(one, other)
    assert relation is not None
    assert relation.cause == cause
    assert words in relation.words


def test_a_level_that_no_logarithm_undoes_is_looked_at_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relation = relate_features(FBANK - 500, FBANK - 500 + NOISE[: 300 * 40].reshape(FBANK.shape))
    assert relation is None


def test_features_of_another_kind_have_no_simple_relation(rng):
    assert relate_features(FBANK, rng.normal(-5, 3, FBANK.shape)) is None
    assert relate_features(FBANK, FBANK[:, :200]) is None


def test_decibels_are_named_where_the_front_end_is_no_kaldi_filter_bank(rng):
    waveform = rng.normal(0, 0.1, (1, 96000)).astype(np.float32)  # 300 frames of 20 ms
    check = explain_features(DB * FBANK, FBANK, waveform)
    assert check.causes == ("units",)
    assert "natural logarithms instead of decibels" in check.words


def test_a_shift_by_part_of_a_feature_frame_is_given_in_milliseconds(rng):
    waveform = np.cumsum(rng.normal(0, 0.01, (1, 24000)), axis=1).astype(np.float32)
    waveform -= waveform.mean()
    late = np.concatenate([np.zeros((1, 37), np.float32), waveform[:, :-37]], axis=1)
    features = [fbank_variant(each, FrontEndSettings()) for each in (waveform, late)]
    check = explain_features(features[0], features[1], waveform)
    assert check.causes == ("shift",)
    assert "late by 37 (2.31 ms)" in check.words


# --- local speakers -------------------------------------------------------------------------------

GEOMETRY = Geometry(
    sample_rate=16000,
    chunk_duration=2.0,
    chunk_step=0.5,
    frame_start=0.0,
    frame_duration=0.02,
    frame_step=0.02,
    powerset=((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)),
)
ORDERS = {1: (1, 0, 2), 4: (2, 0, 1)}  # chunk -> the candidate's speaker for every one of the baseline


@pytest.fixture
def arrays(rng) -> dict[str, np.ndarray]:
    embeddings = rng.standard_normal((6, 3, 8)).astype(np.float32)
    active = (rng.random((6, 50, 3)) < 0.5).astype(np.float32)
    return {
        "log_probs": np.log(rng.dirichlet(np.ones(7), (6, 50))).astype(np.float32),
        "segmentations": active,
        "masks": active.transpose(0, 2, 1),
        "embeddings": embeddings,
        "filtered_embeddings": embeddings.reshape(-1, 8),
        "ahc_labels": np.arange(18) % 4,
        "hard_clusters": np.arange(18).reshape(6, 3) % 4,
    }


def permuted(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {name: array.copy() for name, array in arrays.items()}
    for chunk, order in ORDERS.items():
        inverse = tuple(int(each) for each in np.argsort(order))
        found["log_probs"][chunk] = arrays["log_probs"][chunk][:, permute_classes(GEOMETRY.powerset, inverse)]
        found["segmentations"][chunk] = arrays["segmentations"][chunk][:, inverse]
        for name in ("masks", "embeddings", "hard_clusters"):
            found[name][chunk] = arrays[name][chunk][list(inverse)]
        rows = 3 * chunk + np.array(inverse)
        found["ahc_labels"][3 * chunk : 3 * chunk + 3] = arrays["ahc_labels"][rows]
    found["filtered_embeddings"] = found["embeddings"].reshape(-1, 8)
    return found


def walk(folder, first, second):
    for name, content in (("a", first), ("b", second)):
        (folder / name).mkdir()
        np.savez(folder / name / "one.npz", **content)
        (folder / name / "geometry.json").write_text(json.dumps(asdict(GEOMETRY)))
    return walk_steps([str(folder / "a"), str(folder / "b")])


@pytest.mark.parametrize("without", [(), ("log_probs",), ("log_probs", "segmentations")])
def test_permuted_local_speakers_are_said_and_undone(tmp_path, arrays, without):
    first, second = (
        {name: array for name, array in side.items() if name not in without}
        for side in (arrays, permuted(arrays))
    )
    result = walk(tmp_path, first, second)
    assert result.agree
    steps = {step.step: step for step in result.walks[0].steps if step.status != "absent"}
    assert "local speakers of 2 of 6 chunks are permuted" in steps["embeddings"].words
    assert {step.max_abs_diff for step in steps.values()} == {0.0}
    (remark,) = result.remarks
    assert "local speakers of 2 chunks are permuted, from step" in remark


def test_what_differs_behind_a_permutation_is_still_found(tmp_path, arrays):
    other = permuted(arrays)
    other["embeddings"][5, 2, 3] += 1
    other["filtered_embeddings"] = other["embeddings"].reshape(-1, 8)
    first = walk(tmp_path, arrays, other).walks[0].first
    assert first is not None
    assert (first.step, first.index) == ("embeddings", (5, 2, 3))


def test_a_batch_that_was_filled_up_is_cut_in_every_step(tmp_path, arrays):
    names = ("log_probs", "segmentations", "embeddings")
    filled = {
        name: np.concatenate([arrays[name], np.zeros((2, *arrays[name].shape[1:]), arrays[name].dtype)])
        for name in names
    }
    result = walk(tmp_path, {name: arrays[name] for name in names}, filled)
    assert result.agree
    assert "2 chunks too many with zeros" in result.remarks[0]


def test_samples_that_are_late_are_said_in_milliseconds(tmp_path):
    noise = NOISE.astype(np.float32)
    late = np.concatenate([np.zeros(50, np.float32), noise[:-50]])
    first = walk(tmp_path, {"samples": noise}, {"samples": late}).walks[0].first
    assert first is not None
    assert "late by 50 samples (3.12 ms)" in first.words


def test_decibels_in_the_step_of_features_are_named(tmp_path):
    fbank = FBANK.astype(np.float32)
    first = walk(tmp_path, {"embedding_fbank": fbank}, {"embedding_fbank": 4.3429448 * fbank}).walks[0].first
    assert first is not None
    assert "4.34294" in first.words or "times 10/ln 10" in first.words
