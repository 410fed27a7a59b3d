from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from command import run

from workbench.embedding_files import EmbeddingSet, save_embeddings
from workbench.verification import evaluate

NAMES = tuple(f"s{speaker}-u{utterance}" for speaker in range(8) for utterance in range(4))


@pytest.fixture
def folder(tmp_path, rng):
    """Embeddings of eight speakers, a slightly different version of them, and all trials."""
    voices = rng.normal(size=(8, 16)).repeat(4, axis=0)
    rows = voices + 0.9 * rng.normal(size=(32, 16))
    for name, noise in (("base", 0.0), ("other", 0.3)):
        embeddings = (rows + noise * rng.normal(size=rows.shape)).astype(np.float32)
        save_embeddings(tmp_path / f"{name}.npz", EmbeddingSet(names=NAMES, embeddings=embeddings))
    save_embeddings(tmp_path / "base.ark", EmbeddingSet(names=NAMES, embeddings=rows.astype(np.float32)))
    others = EmbeddingSet(
        names=tuple(f"c{n}" for n in range(20)), embeddings=rng.normal(size=(20, 16)).astype(np.float32)
    )
    save_embeddings(tmp_path / "cohort.ark", others)
    (tmp_path / "trials.txt").write_text(
        "".join(f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in combinations(NAMES, 2))
    )
    return tmp_path


def test_a_trial_list_gives_the_numbers_of_the_contract(folder):
    result = run(
        "verify", folder / "base.npz", folder / "trials.txt", "--json", "-", "--p-target", "0.01,0.05"
    )
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert {"trials", "eer", "roc_auc", "min_dcf", "threshold_eer", "failed"} <= set(report)
    rows = np.load(folder / "base.npz")["embeddings"].astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = np.triu_indices(32, k=1)
    expected = evaluate((rows @ rows.T)[first, second], first // 4 == second // 4, [0.01, 0.05])
    assert report["trials"] == 496
    assert report["eer"] == pytest.approx(expected.eer)
    assert report["min_dcf"] == pytest.approx(
        {"0.01": expected.min_dcf[0.01], "0.05": expected.min_dcf[0.05]}
    )
    again = run("verify", folder / "base.ark", folder / "trials.txt", "--json", "-")
    assert again.json["roc_auc"] == pytest.approx(report["roc_auc"], abs=1e-6)
    shown = run("verify", folder / "base.ark", folder / "trials.txt")
    assert "EER %" in shown.stdout
    assert "496 trials: 48 of one speaker, 448 of two" in shown.stdout


def test_a_candidate_is_put_beside_the_baseline(folder):
    result = run(
        "verify",
        folder / "base.npz",
        folder / "trials.txt",
        "--candidate",
        folder / "other.npz",
        "--json",
        "-",
    )
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert report["candidate"]["trials"] == report["trials"]
    agreement = report["agreement"]
    assert agreement["embeddings"] == 32
    assert 0 < agreement["flips"] == round(agreement["flip_rate"] * 496)
    assert agreement["eer_difference"]["value"] == pytest.approx(report["candidate"]["eer"] - report["eer"])


def test_normalisation_plda_calibration_and_files(folder, tmp_path, rng):
    from workbench.clustering.plda_estimation import PLDAEstimation, estimate_plda
    from workbench.clustering.plda_files import save_plda

    rows = np.load(folder / "base.npz")["embeddings"]
    save_plda(
        folder / "plda", estimate_plda(rows, np.arange(32) // 4, PLDAEstimation(num_lda=8, shrinkage=0.2))
    )
    base = ["verify", folder / "base.npz", folder / "trials.txt", "--json", "-"]
    plain = run(*base).json
    found = {
        "cosine+asnorm": run(*base, "--cohort", folder / "cohort.ark", "--top-n", "10").json,
        "plda": run(*base, "--plda", folder / "plda", "--lda-dim", "4").json,
    }
    for scoring, report in found.items():
        assert report["scoring"] == scoring
        assert report["threshold_eer"] != plain["threshold_eer"]
    saved = run(
        *base,
        "--save-calibration", tmp_path / "c.json",
        "--scores", tmp_path / "s.txt", "--curves", tmp_path / "d.csv",
    )  # fmt: skip
    assert saved.exit_code == 0, saved.stderr
    first = (tmp_path / "s.txt").read_text().splitlines()[0].split()
    assert first[:2] == ["s0-u0", "s0-u1"]
    assert first[3] == "target"
    assert (tmp_path / "d.csv").read_text().startswith("threshold,false_alarm,miss,hit,")
    applied = run(*base, "--calibration", tmp_path / "c.json").json
    assert applied["cllr"] == pytest.approx(saved.json["calibration"]["cllr"])
    assert 0 < applied["cllr"] < 1
    wrong = run(*base, "--plda", folder / "plda", "--calibration", tmp_path / "c.json")
    assert wrong.exit_code == 2
    assert "is for cosine scores, but these are plda" in wrong.stderr


def test_trials_without_an_embedding_are_left_out_and_named(folder):
    with open(folder / "trials.txt", "a") as file:
        file.write("0 s0-u0 ghost\n1 ghost s1-u1\n")
    result = run("verify", folder / "base.npz", folder / "trials.txt", "--json", "-")
    assert result.exit_code == 1
    assert (result.json["trials"], result.json["left_out"]) == (496, 2)
    assert [failure["uri"] for failure in result.json["failed"]] == ["ghost"]


def test_an_embedding_that_is_not_finite_is_named(tmp_path, rng):
    embeddings = rng.normal(size=(4, 3)).astype(np.float32)
    embeddings[3] = np.nan
    np.savez(tmp_path / "e.npz", names=np.array(list("abcd")), embeddings=embeddings)
    (tmp_path / "trials.txt").write_text("1 a b\n0 a c\n0 c d\n")
    result = run("verify", tmp_path / "e.npz", tmp_path / "trials.txt", "--json", "-")
    assert result.exit_code == 1
    assert (result.json["trials"], result.json["left_out"]) == (2, 1)
    assert [failure["uri"] for failure in result.json["failed"]] == ["d"]


def test_trials_of_one_kind_are_refused_before_a_model_is_opened(tmp_path):
    (tmp_path / "trials.txt").write_text("1 a b\n1 a c\n")
    result = run("verify", "onnx:nowhere.onnx", tmp_path / "trials.txt")
    assert result.exit_code == 2
    assert "found 2 of the same speaker and 0 of different ones" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base.npz", "nowhere.txt"], "nowhere.txt"),
        (["nowhere.npz", "trials.txt"], "nowhere.npz"),
        (["base.npz", "trials.txt", "--scoring", "plda"], "needs a PLDA"),
        (["base.npz", "trials.txt", "--lda-dim", "3"], "--lda-dim takes --plda"),
        (["base.npz", "trials.txt", "--p-target", "0.5,x"], "--p-target must be numbers"),
        (["base.npz", "trials.txt", "--cohort", "trials.txt"], "which is no number"),
        (["base.npz", "a", "b", "c"], "one trial list or two audio files"),
        (["banana:x", "trials.txt"], "must start with torch:"),
    ],
)
def test_calls_that_make_no_sense_end_with_code_2(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    result = run("verify", *arguments)
    assert result.exit_code == 2, result.stdout
    assert message in result.stderr


def test_two_files_are_compared(tiny_hub, tmp_path):
    from hubs import write_speech

    a, b = write_speech(tmp_path / "a.wav", 2.0, 0), write_speech(tmp_path / "b.wav", 2.0, 5)
    model = f"onnx:{tiny_hub}/onnx/embedding.onnx"
    same = run("verify", model, a, a, "--threshold", "0.9", "--json", "-").json
    assert same["cosine"] == pytest.approx(1)
    assert same["wespeaker_score"] == pytest.approx(1)
    assert same["same_speaker"] is True
    result = run("verify", model, a, b)
    assert result.stdout.startswith("cosine ")
    part = run("verify", model, f"{a}#t=0,1", b, "--json", "-")
    assert part.exit_code == 0, part.stderr
    missing = run("verify", model, a, tmp_path / "nowhere.wav", "--json", "-")
    assert missing.exit_code == 1
    assert missing.json["failed"][0]["uri"].endswith("nowhere.wav")


def test_unseen_voices_of_librispeech_are_told_apart_alike_by_both_engines(shared_data, repository, tmp_path):
    root = shared_data / "librispeech" / "test-other"
    files = [
        path
        for reader in sorted(root.iterdir())
        if reader.is_dir()
        for path in sorted(reader.glob("*.flac"))[:4]
    ]
    names = [path.relative_to(root) for path in files]
    (tmp_path / "t.txt").write_text(
        "".join(f"{int(a.parent == b.parent)} {a} {b}\n" for a, b in combinations(names, 2))
    )
    result = run(
        "verify", f"torch:{repository}/models/demo", tmp_path / "t.txt", "--root", root, "--json", "-",
        "--candidate", f"onnx:{repository}/models/demo/onnx/embedding.onnx", "--chunk-duration", "2.0",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert report["trials"] == len(names) * (len(names) - 1) // 2
    assert report["eer"] < 0.12
    assert report["roc_auc"] > 0.95
    assert report["agreement"]["max_cosine_distance"] < 1e-6
    assert report["agreement"]["flips"] == 0


def test_the_demo_trials_can_be_verified(repository):
    assert Path(repository / "data" / "demo" / "trials.txt").is_file()
    result = run(
        "verify",
        f"onnx:{repository}/models/demo/onnx/embedding.onnx",
        repository / "data/demo/trials.txt",
        "--json",
        "-",
    )
    assert result.exit_code == 0, result.stderr
    assert result.json["roc_auc"] > 0.9
