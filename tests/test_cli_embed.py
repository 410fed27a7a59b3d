from __future__ import annotations

import numpy as np
import pytest
from command import run
from hubs import make_reference, write_speech

from workbench.embedding_files import load_embeddings
from workbench.extraction import Item
from workbench.extraction_store import PartialResults
from workbench.rttm import write_rttm


@pytest.fixture(scope="module")
def model(tiny_hub):
    return f"onnx:{tiny_hub}/onnx/embedding.onnx"


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for seed, name in enumerate(["b", "a", "c"]):
        write_speech(folder / f"{name}.wav", 3.0, seed)
    return folder


@pytest.mark.parametrize("ending", ["npz", "ark", "parquet"])
def test_recordings_are_embedded_in_their_order(model, recordings, tmp_path, ending):
    out = tmp_path / f"e.{ending}"
    files = [recordings / f"{name}.wav" for name in "bca"]
    result = run("embed", model, *files, "--out", out, "--json", "-")
    assert result.exit_code == 0, result.stderr
    found = load_embeddings(out)
    assert found.names == ("b", "c", "a")
    report = result.json
    assert (report["embeddings"], report["dimension"], report["failed"]) == (3, found.dimension, [])
    assert report["out"][0] == str(out)
    assert not list(tmp_path.glob(".*"))


def test_a_wav_scp_keeps_its_names_and_the_archive_can_be_text(model, recordings, tmp_path):
    (tmp_path / "wav.scp").write_text("utt-2 audio/a.wav\nutt-1 audio/b.wav\n")
    assert (
        run("embed", model, tmp_path / "wav.scp", "--out", tmp_path / "e.scp", "--text", "-q").exit_code == 0
    )
    assert (tmp_path / "e.ark").read_text().startswith("utt-2  [ ")
    assert load_embeddings(tmp_path / "e.scp").names == ("utt-2", "utt-1")


def test_chunks_and_the_mean_change_the_embeddings_as_they_should(model, recordings, tmp_path):
    outs = {}
    np.save(tmp_path / "mean.npy", np.full(load_dimension(model), 0.5))
    for name, options in {
        "whole": [],
        "chunks": ["--chunk-duration", "1.0"],
        "centred": ["--mean", tmp_path / "mean.npy"],
    }.items():
        outs[name] = tmp_path / f"{name}.npz"
        assert run("embed", model, recordings, "--out", outs[name], *options).exit_code == 0
    whole, chunks, centred = (load_embeddings(path).embeddings for path in outs.values())
    np.testing.assert_allclose(whole - centred, 0.5, rtol=1e-4, atol=1e-6)
    assert np.abs(whole - chunks).max() > 0


def load_dimension(model):
    from workbench.runtimes import load_runtime

    return load_runtime(model).embed(np.zeros((1, 8000), np.float32)).shape[1]


def test_the_turns_of_an_rttm_are_embedded_one_by_one(model, recordings, tmp_path):
    reference = make_reference(3.0, 1, uri="a")
    write_rttm(tmp_path / "r.rttm", reference)
    out = tmp_path / "e.npz"
    result = run(
        "embed", model, recordings, "--segments", tmp_path / "r.rttm", "--out", out, "--min-duration", "0.1"
    )
    assert result.exit_code == 0, result.stderr
    found = load_embeddings(out)
    turns = [each for each in reference.itertracks(yield_label=True) if each[0].duration >= 0.1]
    assert set(found.uris) == {"a"}
    assert list(found.speakers) == [label for _, _, label in turns]
    np.testing.assert_allclose(found.segments, [[s.start, s.end] for s, _, _ in turns], atol=2e-3)


def test_bad_recordings_are_named_and_only_they_are_tried_again(model, recordings, tmp_path):
    bad = recordings / "bad.wav"
    bad.write_bytes(b"RIFF")
    out = tmp_path / "e.npz"
    first = run("embed", model, recordings, "--out", out, "--json", "-")
    assert first.exit_code == 1
    assert [failure["uri"] for failure in first.json["failed"]] == ["bad"]
    assert "FAILED bad" in first.stderr
    assert load_embeddings(out).names == ("a", "b", "c")
    write_speech(bad, 2.0)
    second = run("embed", model, recordings, "--out", out, "--json", "-")
    assert second.exit_code == 0, second.stderr
    assert (second.json["resumed"], second.json["embeddings"]) == (3, 4)
    assert load_embeddings(out).names == ("a", "b", "bad", "c")
    assert not list(tmp_path.glob(".*"))


def test_a_name_that_kaldi_cannot_hold_costs_only_its_recording(model, recordings, tmp_path):
    (recordings / "a.wav").rename(recordings / "a a.wav")
    result = run("embed", model, recordings, "--out", tmp_path / "e.ark", "--json", "-")
    assert result.exit_code == 1
    assert [failure["uri"] for failure in result.json["failed"]] == ["a a"]
    assert load_embeddings(tmp_path / "e.scp").names == ("b", "c")


def test_what_an_interrupted_call_has_found_is_used(model, recordings, tmp_path):
    out = tmp_path / "e.npz"
    marked = np.full(load_dimension(model), 7.0, np.float32)
    with PartialResults(out, {"runtime": model, "chunk_duration": None}) as store:
        store.add(Item(name="b", path=recordings / "b.wav"), marked)
    result = run("embed", model, recordings, "--out", out)
    assert "1 of 3 embeddings were made by an earlier call" in result.stderr
    np.testing.assert_array_equal(load_embeddings(out)["b"], marked)
    # the parts are gone, so that the next call embeds everything
    assert run("embed", model, recordings, "--out", out).exit_code == 0
    assert not np.array_equal(load_embeddings(out)["b"], marked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "e.csv"], "must end in one of"),
        (["--out", "e.npz", "--mean", "nowhere.npy"], "nowhere.npy"),
        (["--out", "e.npz", "--segments", "nowhere.rttm"], "nowhere.rttm"),
        (["--out", "e.npz", "--chunk-duration", "0.01"], "chunk duration must be at least"),
        (["--out", "e.npz", "--chunk-duration", "nan"], "--chunk-duration must be a number of seconds"),
        (["--out", "e.npz", "--batch-size", "0"], "batch size"),
    ],
)
def test_calls_that_make_no_sense_end_with_code_2(model, recordings, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = run("embed", model, recordings, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_segmentation_model_cannot_embed(tiny_hub, recordings, tmp_path):
    result = run("embed", f"onnx:{tiny_hub}/onnx/segmentation.onnx", recordings, "--out", tmp_path / "e.npz")
    assert result.exit_code == 2
    assert "an embedding model is needed" in result.stderr
