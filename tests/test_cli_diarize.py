from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import run
from hubs import make_reference, make_speech, write_speech

import workbench.pipeline
from workbench.features import load_features
from workbench.pipeline import load_hub
from workbench.rttm import read_rttm
from workbench.scoring import score


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for seed, name in enumerate(["one.wav", "deep/two.flac"]):
        write_speech(folder / name, 7.3, seed)
    return folder


@pytest.fixture(scope="module")
def diarized(tiny_hub, recordings, tmp_path_factory):
    """One run that many tests look at."""
    out = tmp_path_factory.mktemp("out")
    result = run(
        "diarize",
        recordings,
        "--hub",
        tiny_hub,
        "--out",
        out / "rttm",
        "--features-dir",
        out / "features",
        "--json",
        "-",
    )
    assert result.exit_code == 0, result.stderr
    return out, result


def test_every_recording_gets_an_rttm_of_its_own(diarized):
    out, _ = diarized
    assert sorted(path.name for path in (out / "rttm").iterdir()) == ["one.rttm", "two.rttm"]
    hypothesis = read_rttm(out / "rttm" / "one.rttm")
    assert list(hypothesis) == ["one"]
    assert score(make_reference(7.3, 0), hypothesis["one"]).der < 0.5


def test_json_on_standard_output_is_alone_there(diarized):
    out, result = diarized
    report = result.json
    assert report["failed"] == []
    assert list(report["recordings"]) == ["two", "one"]
    row = report["recordings"]["one"]
    assert row["duration"] == 7.3
    assert row["num_speakers"] == len(read_rttm(out / "rttm" / "one.rttm")["one"].labels())
    assert row["rttm"] == str(out / "rttm" / "one.rttm")
    assert row["rtf"] > 0
    assert report["params"]["clustering"]["Fa"] == 0.5


def test_progress_is_one_plain_line_per_recording_on_standard_error(diarized):
    lines = diarized[1].stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["[1/2] two", "[2/2] one"]


def test_kept_features_give_the_same_rttm_again(diarized, tiny_hub, tmp_path):
    out, _ = diarized
    features = load_features(out / "features" / "one.npz")
    assert features.uri == "one"
    config = tiny_hub / "config.toml"
    result = run(
        "cluster", out / "features", "--out", tmp_path, "--plda", tiny_hub / "plda", "--config", config
    )
    assert result.exit_code == 0
    for name in ("one.rttm", "two.rttm"):
        assert (tmp_path / name).read_text() == (out / "rttm" / name).read_text()


def test_with_a_cache_no_model_runs_twice(tiny_hub, recordings, tmp_path, monkeypatch):
    first = diarize_cached(tiny_hub, recordings, tmp_path, "first")
    assert {row["cached"] for row in first["recordings"].values()} == {False}

    def refuse(*arguments, **options):
        raise AssertionError("a model was loaded although everything is in the cache")

    monkeypatch.setattr(workbench.pipeline.Runtimes, "load", refuse)
    again = diarize_cached(tiny_hub, recordings, tmp_path, "again", "--Fb", 2)
    assert {row["cached"] for row in again["recordings"].values()} == {True}
    assert again["failed"] == []


def diarize_cached(hub, recordings, folder, name, *options):
    out = run(
        *("diarize", recordings, "--hub", hub, "--out", folder / name),
        *("--cache", folder / "cache", "--json", "-", *options),
    )
    assert out.exit_code == 0, out.stderr
    return json.loads(out.stdout)


def test_torch_and_onnx_write_the_same_files(diarized, tiny_hub, recordings, tmp_path):
    out, _ = diarized
    assert run("diarize", recordings, "--hub", tiny_hub, "--engine", "onnx", "--out", tmp_path).exit_code == 0
    for name in ("one.rttm", "two.rttm"):
        assert (tmp_path / name).read_text() == (out / "rttm" / name).read_text()


def test_models_named_singly_with_a_config_are_the_hub(diarized, tiny_hub, recordings, tmp_path):
    out, _ = diarized
    result = run(
        "diarize", recordings / "one.wav", "--out", tmp_path, "--config", tiny_hub / "config.toml",
        "--segmentation", f"onnx:{tiny_hub}/onnx/segmentation.onnx?threads=1",
        "--embedding", f"torch:{tiny_hub}", "--plda", tiny_hub / "plda",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "one.rttm").read_text() == (out / "rttm" / "one.rttm").read_text()


def test_every_parameter_is_an_option_with_diarizens_name(tiny_hub, recordings, tmp_path):
    vbx = run(
        "diarize", recordings / "one.wav", "--hub", tiny_hub, "--out", tmp_path, "--json", "-",
        "--clustering", "vbx", "--Fa", 0.3, "--Fb", 2, "--ahc-threshold", 0.9, "--ahc-criterion", "distance",
        "--lda-dim", 5, "--max-iters", 7, "--min-speakers", 1, "--max-speakers", 9,
        "--segmentation-step", 0.5, "--seg-duration", 1, "--batch-size", 3, "--no-apply-median-filtering",
    )  # fmt: skip
    assert vbx.exit_code == 0, vbx.stderr
    params = vbx.json["params"]
    clustering = params.pop("clustering")
    assert params == {
        "seg_duration": 1.0,
        "segmentation_step": 0.5,
        "batch_size": 3,
        "apply_median_filtering": False,
        "embedding_exclude_overlap": True,
    }
    expected = {"Fa": 0.3, "Fb": 2, "ahc_threshold": 0.9, "lda_dim": 5, "max_iters": 7, "max_speakers": 9}
    assert {name: clustering[name] for name in expected} == expected
    ahc = run(
        "diarize", recordings / "one.wav", "--hub", tiny_hub, "--out", tmp_path, "--json", "-",
        "--clustering", "ahc", "--min-cluster-size", 2, "--num-speakers", 2, "--apply-median-filtering",
    )  # fmt: skip
    assert ahc.exit_code == 0, ahc.stderr
    assert ahc.json["recordings"]["one"]["num_speakers"] == 2
    assert ahc.json["params"]["clustering"]["min_cluster_size"] == 2


def test_a_preset_changes_names_and_parameters_but_not_the_chunks(tiny_hub, recordings, tmp_path):
    result = run(
        "diarize",
        recordings / "one.wav",
        "--hub",
        tiny_hub,
        "--preset",
        "pyannote-3.1",
        "--out",
        tmp_path,
        "--json",
        "-",
    )
    assert result.exit_code == 0, result.stderr
    assert result.json["params"]["seg_duration"] == 2
    assert result.json["params"]["clustering"]["min_cluster_size"] == 12
    assert "SPEAKER_00" in (tmp_path / "one.rttm").read_text()


def test_a_number_of_speakers_that_vbx_ignores_is_said(tiny_hub, recordings, tmp_path):
    result = run("diarize", recordings / "one.wav", "--hub", tiny_hub, "--num-speakers", 2, "--out", tmp_path)
    assert result.exit_code == 0
    assert "warning: DiariZen's VBx does not enforce num_speakers" in result.stderr


def test_quiet_says_nothing(tiny_hub, recordings, tmp_path):
    result = run("diarize", recordings, "--hub", tiny_hub, "--out", tmp_path, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_session_ids_can_keep_the_folders(tiny_hub, recordings, tmp_path):
    result = run("diarize", recordings, "--hub", tiny_hub, "--out", tmp_path, "--session-id", "relative")
    assert result.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep__two.rttm", "one.rttm"]
    assert " deep__two 1 " in (tmp_path / "deep__two.rttm").read_text()


def test_a_wav_scp_names_the_recordings(tiny_hub, recordings, tmp_path):
    scp = tmp_path / "wav.scp"
    scp.write_text(f"meeting {recordings / 'one.wav'}\n")
    assert run("diarize", scp, "--hub", tiny_hub, "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "meeting.rttm").read_text().startswith("SPEAKER meeting 1 ")


def test_one_bad_recording_does_not_lose_the_others(tiny_hub, recordings, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("not audio")
    result = run(
        "diarize",
        bad,
        recordings / "one.wav",
        "--hub",
        tiny_hub,
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "r.json",
    )
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "FAILED bad: " in result.stderr
    assert "1 of 2 recordings failed" in result.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report["recordings"]) == ["one"]
    assert [failure["uri"] for failure in report["failed"]] == ["bad"]
    assert "bad.wav" in report["failed"][0]["error"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.rttm"]


def test_a_fault_of_our_own_is_named_and_shown_only_with_debug(tiny_hub, recordings, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("one over nothing")

    monkeypatch.setattr(workbench.pipeline, "extract_features", broken)
    arguments = ["diarize", recordings / "one.wav", "--hub", tiny_hub, "--out", tmp_path]
    result = run(*arguments)
    assert result.exit_code == 1
    assert "FAILED one: ZeroDivisionError: one over nothing" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run(*arguments, "--debug").stderr


def test_nothing_half_written_stays_behind(tiny_hub, recordings, tmp_path, monkeypatch):
    def full_disk(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    result = run("diarize", recordings / "one.wav", "--hub", tiny_hub, "--out", tmp_path)
    assert result.exit_code in (1, 2)
    assert "No space left on device" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--segmentation and --embedding is missing"),
        (["--segmentation", "torch:x"], "--embedding is missing"),
        (["--hub", "nowhere"], "nowhere: is no folder"),
        (["--engine", "onnx"], "--engine chooses what runs the models of --hub"),
        (["--hub", "HUB", "--Fa", "0"], "Fa must be a number above 0"),
        (["--hub", "HUB", "--clustering", "ahc", "--Fa", "1"], "Fa is no parameter of the clustering 'ahc'"),
        (["--hub", "HUB", "--min-speakers", "4", "--max-speakers", "3"], "must not exceed max_speakers"),
        (["--hub", "HUB", "--segmentation-step", "0"], "segmentation_step must be a fraction"),
        (["--hub", "HUB", "--seg-duration", "-1"], "seg_duration must be a number of seconds above 0"),
        (["--hub", "HUB", "--batch-size", "0"], "batch_size must be a whole number"),
        (["--hub", "HUB", "--segmentation", "tensor:x"], "must start with torch:, onnx: or recorded:"),
        (
            ["--hub", "HUB", "--segmentation", "torch:HUB?devise=cpu"],
            "unknown option 'devise', did you mean 'device'?",
        ),
        (["--hub", "HUB", "--treshold", "1"], "No such option: --treshold"),
        (["--hub", "HUB", "--preset", "pyannote-4"], "'pyannote-4' is not one of"),
        (["--hub", "HUB", "--plda", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_calls_that_make_no_sense_end_with_code_2(tiny_hub, recordings, tmp_path, arguments, message):
    arguments = [argument.replace("HUB", str(tiny_hub)) for argument in arguments]
    result = run("diarize", recordings / "one.wav", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not list(tmp_path.glob("out/*"))


def test_help_shows_an_example_and_every_option():
    text = run("diarize", "--help").stdout
    assert "workbench diarize meeting.wav --hub models/demo --out hypothesis" in text
    for option in ("--Fa", "--lda-dim", "--num-speakers", "--features-dir", "--no-apply-median-filtering"):
        assert option in text, option


def test_an_interrupt_ends_with_code_130_and_without_traceback(tiny_hub, tmp_path):
    waveform = tmp_path / "long.wav"
    import soundfile

    soundfile.write(waveform, np.tile(make_speech(30.0), 40), 16000)
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "diarize", str(waveform), "--hub", str(tiny_hub),
         "--out", str(tmp_path / "o"),
         "--segmentation-step", "0.02"],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "o").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # in the middle of the models
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == "interrupted"
    assert list((tmp_path / "o").iterdir()) == []


def test_features_of_a_run_hold_what_the_contract_says(diarized):
    with np.load(diarized[0] / "features" / "two.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"uri", "segmentations", "embeddings", "chunks", "frames"}
        assert archive["segmentations"].dtype == archive["embeddings"].dtype == np.float32
        assert archive["chunks"].tolist() == [0.0, 2.0, 0.5]
        assert archive["frames"].tolist() == [0.0, 0.025, 0.02]


def test_names_that_rttm_or_files_cannot_bear_fail_alone(tiny_hub, tmp_path):
    names = ["my meeting", "good", os.fsdecode(b"\xff")]
    for name in names:
        write_speech(tmp_path / "in" / "x.wav", 3.0).rename(tmp_path / "in" / f"{name}.wav")
    result = run("diarize", tmp_path / "in", "--hub", tiny_hub, "--out", tmp_path / "out", "--json", "-")
    assert result.exit_code == 1, result.stderr
    assert list(result.json["recordings"]) == ["good"]
    assert {entry["uri"] for entry in result.json["failed"]} == {"my meeting", os.fsdecode(b"\xff")}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.rttm"]


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_hub_needs_no_embedding_model_where_one_is_named(tiny_hub, tmp_path, engine):
    shutil.copytree(tiny_hub, tmp_path / "hub")
    shutil.rmtree(tmp_path / "hub" / "embedding")
    (tmp_path / "hub" / "onnx" / "embedding.onnx").unlink()
    speech = write_speech(tmp_path / "speech.wav", 5.0)
    spec = {"torch": f"torch:{tiny_hub}/embedding", "onnx": f"onnx:{tiny_hub}/onnx/embedding.onnx"}[engine]
    common = ("--engine", engine, "--quiet", "--out")
    whole = run("diarize", speech, "--hub", tiny_hub, *common, tmp_path / "a")
    apart = run("diarize", speech, "--hub", tmp_path / "hub", "--embedding", spec, *common, tmp_path / "b")
    assert (whole.exit_code, apart.exit_code) == (0, 0), apart.stderr
    assert (tmp_path / "a/speech.rttm").read_text() == (tmp_path / "b/speech.rttm").read_text()
    runtimes, _ = load_hub(tmp_path / "hub", engine, embedding=spec)
    assert str(runtimes.embedding) == spec
