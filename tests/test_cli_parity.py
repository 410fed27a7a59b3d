"""`workbench record` and `workbench parity`, with the demo model and folders that something is wrong with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import run
from parity_fakes import rewritten

from workbench.audio import crop_audio


@pytest.fixture(scope="module")
def model(repository) -> str:
    return f"onnx:{repository}/models/demo/onnx/segmentation.onnx?threads=1"


@pytest.fixture(scope="module")
def audio(repository, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    for name, start in (("one", 20), ("two", 50)):
        waveform = crop_audio(repository / "data/demo/demo02_overlap.flac", start, start + 12)
        soundfile.write(folder / f"{name}.wav", waveform, 16000, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def recorded(model, audio, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "onnx"
    assert run("record", model, audio, "--out", folder, "--quiet").exit_code == 0
    return folder


@pytest.fixture
def copy(recorded, tmp_path) -> Path:
    shutil.copytree(recorded, tmp_path / "copy")
    return tmp_path / "copy"


def parity(recorded: Path, other: object, audio: Path, *options: object):
    return run("parity", f"recorded:{recorded}", other, audio, "--json", "-", "--quiet", *options)


def test_a_recorded_folder_is_what_the_contract_says(recorded, model):
    with np.load(recorded / "one.npz", allow_pickle=False) as content:
        assert content.files == ["log_probs"]
        assert content["log_probs"].dtype == np.float32
        assert content["log_probs"].shape[1:] == (401, 11)
    geometry = json.loads((recorded / "geometry.json").read_text())
    assert geometry.keys() >= {
        "sample_rate", "chunk_duration", "chunk_step", "frame_start", "frame_duration", "frame_step",
        "powerset", "runtime", "created_by",
    }  # fmt: skip
    assert geometry["runtime"] == model
    assert set(geometry["audio"]) == {"one", "two"}
    assert not list(recorded.glob(".tmp*"))


def test_recording_again_goes_on_where_it_stopped(copy, model, audio):
    before = (copy / "one.npz").stat().st_mtime_ns
    (copy / "two.npz").unlink()
    report = run("record", model, audio, "--out", copy, "--json", "-", "--quiet").json
    assert report["recordings"]["one"]["remark"] == "recorded already"
    assert report["recordings"]["two"]["remark"] is None
    assert (copy / "one.npz").stat().st_mtime_ns == before


def test_a_folder_of_another_runtime_is_not_added_to(copy, model, audio):
    result = run("record", f"{model}&optimization=none", audio, "--out", copy)
    assert result.exit_code == 2
    assert "choose another folder" in result.stderr


def test_all_stages_are_recorded_by_name_and_an_unknown_one_is_named(model, audio, tmp_path):
    one = audio / "one.wav"
    assert run("record", model, one, "--stages", "fbank,proj", "--out", tmp_path / "r", "-q").exit_code == 0
    with np.load(tmp_path / "r/one.npz") as content:
        assert content.files == ["fbank", "proj", "log_probs"]
    result = run("record", model, one, "--stages", "fbnak", "--out", tmp_path / "s")
    assert result.exit_code == 2
    assert "did you mean 'fbank'" in result.stderr


def test_a_live_model_against_its_own_recording_agrees_exactly(recorded, model, audio, repository):
    result = parity(recorded, model, audio, "--max-flip-rate", "0", "--max-diff", "0")
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert report["failed"] == []
    row = report["recordings"]["one"]
    assert (row["flips"], row["max_abs_diff"], row["first_divergence"]) == (0, 0.0, None)
    assert row["rtf_baseline"] is None
    assert row["rtf_candidate"] > 0
    assert report["adequacy"]["adequate"]


def test_limits_decide_the_exit_code(recorded, copy, audio):
    with rewritten(copy / "one.npz") as arrays:
        arrays["log_probs"] = np.roll(arrays["log_probs"], 2, axis=1)
    other = f"recorded:{copy}"
    assert parity(recorded, other, audio).exit_code == 0
    result = parity(recorded, other, audio, "--max-flip-rate", "0.001")
    assert result.exit_code == 1
    assert "flip rate" in result.stderr
    assert result.json["limits"]["exceeded"]
    (finding,) = [f for f in result.json["findings"] if f["severity"] == "fault"]
    assert (finding["kind"], finding["details"]["milliseconds"]) == ("frame_shift", 40.0)
    assert finding["details"]["recordings"] == ["one"]
    assert parity(recorded, other, audio, "--max-flip-rate", "0", "--align").exit_code == 0


def test_the_verdict_is_printed_in_words(recorded, copy, audio, repository):
    with rewritten(copy / "two.npz") as arrays:
        arrays["log_probs"][:, 30:40, 3] += 4
    reference = repository / "data/demo/demo.rttm"
    result = run("parity", f"recorded:{recorded}", f"recorded:{copy}", audio, "--reference", reference)
    assert result.exit_code == 0, result.stderr
    assert "of frames flip (" in result.stdout
    assert " real." in result.stdout
    assert "worst recording: two" in result.stdout
    assert "no reference names" in result.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:-3], "is cut off"),
        (lambda a: a.astype(np.int8), "quantised codes"),
        (lambda a: a[..., :7], "have no axis of 11 classes"),
        (lambda a: a[0], "expected (num_chunks, num_frames"),
        (lambda a: a.astype("U8"), "must hold numbers"),
    ],
)
def test_a_dump_that_is_wrong_fails_alone_and_says_why(recorded, copy, audio, change, words):
    with rewritten(copy / "one.npz") as arrays:
        arrays["log_probs"] = change(arrays["log_probs"])
    result = parity(recorded, f"recorded:{copy}", audio)
    assert result.exit_code == 1
    ((failed),) = result.json["failed"]
    assert failed["uri"] == "one"
    assert words in failed["error"]
    assert list(result.json["recordings"]) == ["two"]


def test_dumps_of_another_order_or_format_are_read_and_named(recorded, copy, audio):
    with rewritten(copy / "one.npz") as arrays:
        arrays["log_probs"] = arrays["log_probs"].transpose(0, 2, 1)
    with rewritten(copy / "two.npz") as arrays:
        arrays["log_probs"] = arrays["log_probs"].astype(">f8")
    report = parity(recorded, f"recorded:{copy}", audio).json
    assert report["overall"]["flips"] == 0
    assert [f["kind"] for f in report["findings"]] == ["axis_order"]


def test_a_file_that_is_no_archive_fails_alone(recorded, copy, audio):
    (copy / "one.npz").write_bytes((copy / "one.npz").read_bytes()[:3000])
    result = parity(recorded, f"recorded:{copy}", audio)
    assert result.exit_code == 1
    assert [each["uri"] for each in result.json["failed"]] == ["one"]


def test_a_recording_that_one_side_lacks_is_named(recorded, copy, audio):
    (copy / "two.npz").unlink()
    result = parity(recorded, f"recorded:{copy}", audio)
    assert result.exit_code == 1
    assert "holds no two.npz" in result.json["failed"][0]["error"]


def test_other_audio_under_the_same_name_is_noticed(recorded, audio, tmp_path):
    (tmp_path / "audio").mkdir()
    shutil.copy(audio / "two.wav", tmp_path / "audio/one.wav")
    result = parity(recorded, f"recorded:{recorded}", tmp_path / "audio")
    assert result.exit_code == 1
    assert "other audio that is also called 'one'" in result.json["failed"][0]["error"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("onnx:{repository}/models/demo/onnx/segmentation.onnx?providers=tensorrt", "provider 'tensorrt'"),
        ("recorded:{copy}", "geometry.json: no such file"),
    ],
)
def test_what_cannot_be_used_at_all_ends_with_2(recorded, copy, audio, repository, spec, words):
    (copy / "geometry.json").unlink()
    result = run("parity", f"recorded:{recorded}", spec.format(repository=repository, copy=copy), audio)
    assert result.exit_code == 2
    assert words in result.stderr


def test_chunks_cut_at_other_places_are_matched_under_align(model, recorded, audio, tmp_path):
    other = tmp_path / "other"
    assert run("record", model, audio, "--segmentation-step", "0.25", "--out", other, "-q").exit_code == 0
    result = parity(recorded, f"recorded:{other}", audio)
    assert result.exit_code == 1
    assert "step between chunks" in json.dumps(result.json["findings"])
    aligned = parity(recorded, f"recorded:{other}", audio, "--align").json
    assert aligned["failed"] == []
    assert aligned["overall"]["flip_rate"] < 0.2  # other chunks hear another context


def test_embeddings_are_recorded_and_compared(repository, audio, tmp_path):
    model = f"onnx:{repository}/models/demo/onnx/embedding.onnx?threads=1"
    one = audio / "one.wav"
    assert run("record", model, one, "--out", tmp_path / "e", "--quiet").exit_code == 0
    report = run("parity", f"recorded:{tmp_path / 'e'}", model, one, "--json", "-", "-q").json
    assert report["kind"] == "embedding"
    assert report["recordings"]["one"]["embeddings"]["min_cosine"] == pytest.approx(1.0)
    assert report["overall"]["max_abs_diff"] == 0.0


def test_a_dump_without_the_padded_chunk_is_compared_only_if_asked(recorded, copy, audio):
    with rewritten(copy / "one.npz") as arrays:
        arrays["log_probs"] = arrays["log_probs"][:-1]
    assert parity(recorded, f"recorded:{copy}", audio).exit_code == 1
    result = parity(recorded, f"recorded:{copy}", audio, "--align")
    assert result.exit_code == 0, result.stderr
    assert [finding["kind"] for finding in result.json["findings"]] == ["last_chunk"]
    assert result.json["overall"]["flips"] == 0


def test_strict_sets_all_options_and_says_what_remains(model, audio):
    report = run("parity", model, model, audio / "one.wav", "--strict", "--json", "-", "-q").json
    assert "optimization=none" in report["baseline"]
    assert report["overall"]["max_abs_diff"] == 0.0
    assert all(row["exact"] for row in report["strict"]["rows"] if row["name"].endswith("repeated"))
    assert {row["condition"] for row in report["conditions"]["candidate"]["rows"]} >= {"provider"}


def test_a_page_shows_the_comparison_and_layers_say_where_it_starts(recorded, model, audio, tmp_path):
    page = tmp_path / "page.html"
    done = run(
        "parity", f"recorded:{recorded}", model, audio, "--layers", "--html", page, "--no-checks", "--quiet"
    )
    assert done.exit_code == 0
    assert "layer by layer:" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "100 % of frames agree" in text
    assert "posteriors" not in text.split("<script", 1)[0]
    assert "data:image/png;base64" in text
