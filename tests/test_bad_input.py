"""What users really have: every kind of unusual or broken input, through the command line."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import Run, run
from hubs import SAMPLE_RATE, make_reference, make_speech, write_speech

from workbench.rttm import read_rttm
from workbench.scoring import score

DURATION = 8.0  # s


@pytest.fixture
def hub_copy(tiny_hub, tmp_path) -> Path:
    """A hub folder to spoil."""
    return shutil.copytree(tiny_hub, tmp_path / "hub")


def diarize(audio: Path, hub: Path, out: Path, *options: object) -> Run:
    return run("diarize", audio, "--hub", hub, "--out", out, *options)


# -- audio that is unusual but fine ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "subtype", "suffix"),
    [
        (16000, "PCM_16", "wav"),
        (8000, "PCM_16", "wav"),
        (44100, "PCM_16", "wav"),
        (16000, "PCM_24", "wav"),
        (16000, "PCM_24", "flac"),
        (16000, "FLOAT", "wav"),
        (16000, "DOUBLE", "wav"),
        (16000, "PCM_U8", "wav"),
        (48000, "VORBIS", "ogg"),
    ],
)
def test_every_rate_and_sample_format_is_diarized(tiny_hub, tmp_path, rate, subtype, suffix):
    waveform = make_speech(DURATION, seed=4)
    time = np.arange(round(DURATION * rate)) / rate
    resampled = np.interp(time, np.arange(len(waveform)) / SAMPLE_RATE, waveform)
    soundfile.write(tmp_path / f"speech.{suffix}", resampled, rate, subtype)
    result = diarize(tmp_path / f"speech.{suffix}", tiny_hub, tmp_path / "out", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert result.json["recordings"]["speech"]["duration"] == pytest.approx(DURATION)
    if rate == SAMPLE_RATE and subtype != "PCM_U8":  # the tiny models have heard nothing else
        hypothesis = read_rttm(tmp_path / "out" / "speech.rttm")["speech"]
        assert score(make_reference(DURATION, 4), hypothesis).der < 0.3


def test_of_a_stereo_recording_the_first_channel_counts(tiny_hub, tmp_path):
    left, right = make_speech(DURATION, seed=4), make_speech(DURATION, seed=5)
    soundfile.write(tmp_path / "mono.wav", left, SAMPLE_RATE, "FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), SAMPLE_RATE, "FLOAT")
    for name in ("mono", "stereo"):
        assert diarize(tmp_path / f"{name}.wav", tiny_hub, tmp_path / "out").exit_code == 0
    mono = (tmp_path / "out" / "mono.rttm").read_text()
    assert mono.replace(" mono ", " stereo ") == (tmp_path / "out" / "stereo.rttm").read_text() != ""


@pytest.mark.parametrize("duration", [1.0, 1.9, 0.05])
def test_recordings_shorter_than_a_chunk_are_diarized(tiny_hub, tmp_path, duration):
    speech = make_speech(DURATION, seed=4)[16000 : 16000 + round(duration * SAMPLE_RATE)]
    soundfile.write(tmp_path / "short.wav", speech, SAMPLE_RATE)
    result = diarize(tmp_path / "short.wav", tiny_hub, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "short.rttm").is_file()


@pytest.mark.parametrize("clustering", ["vbx", "ahc"])
@pytest.mark.parametrize("duration", [1.0, 7.0])
def test_silence_gives_an_empty_rttm(tiny_hub, tmp_path, clustering, duration):
    soundfile.write(tmp_path / "silence.wav", np.zeros(round(duration * SAMPLE_RATE)), SAMPLE_RATE)
    result = diarize(
        tmp_path / "silence.wav", tiny_hub, tmp_path / "out", "--clustering", clustering, "--json", "-",
        "--features-dir", tmp_path / "features",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "silence.rttm").read_bytes() == b""
    assert result.json["recordings"]["silence"]["num_speakers"] == 0
    assert (tmp_path / "features" / "silence.npz").is_file()


# -- audio that cannot be used ---------------------------------------------------------------


def missing(path: Path) -> None:
    """Nothing at all."""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_length(path: Path) -> None:
    soundfile.write(path, np.zeros(0), SAMPLE_RATE)


def truncated(path: Path) -> None:
    soundfile.write(path, make_speech(3.0), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:20000])


def only_a_header(path: Path) -> None:
    soundfile.write(path, make_speech(3.0), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:30])


def text(path: Path) -> None:
    path.write_text("This is not a recording.\n" * 50)


def not_a_number(path: Path) -> None:
    waveform = make_speech(3.0)
    waveform[20000] = np.nan
    soundfile.write(path, waveform, SAMPLE_RATE, "FLOAT")


def infinite(path: Path) -> None:
    waveform = make_speech(3.0)
    waveform[20000:20010] = -np.inf
    soundfile.write(path, waveform, SAMPLE_RATE, "FLOAT")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (missing, "No such file"),
        (empty, "is empty"),
        (zero_length, "no samples"),
        (truncated, "truncated"),
        (only_a_header, "bad.wav"),
        (text, "not readable as audio"),
        (not_a_number, "sample 20000"),
        (infinite, "10 samples are not finite"),
    ],
    ids=lambda value: getattr(value, "__name__", "reason"),
)
def test_a_broken_recording_is_named_and_the_others_are_done(tiny_hub, tmp_path, spoil, reason):
    good = write_speech(tmp_path / "good.wav", 3.0)
    spoil(tmp_path / "bad.wav")
    result = run(
        "diarize", tmp_path / "bad.wav", good, "--hub", tiny_hub, "--out", tmp_path / "out", "--json", "-",
        "--features-dir", tmp_path / "features",
    )  # fmt: skip
    assert result.exit_code == 1, result.stderr
    assert list(result.json["recordings"]) == ["good"]
    (failure,) = result.json["failed"]
    assert failure["uri"] == "bad"
    assert "bad.wav" in failure["error"]
    assert reason in failure["error"]
    assert f"FAILED bad: {failure['error']}" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.rttm"]
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["good.npz"]


def test_no_audio_at_all_ends_with_code_2(tiny_hub, tmp_path):
    (tmp_path / "folder").mkdir()
    result = diarize(tmp_path / "folder", tiny_hub, tmp_path / "out")
    assert result.exit_code == 2
    assert "holds no audio" in result.stderr


def test_two_recordings_of_one_name_end_with_code_2(tiny_hub, tmp_path):
    for folder in "ab":
        write_speech(tmp_path / "in" / folder / "speech.wav", 1.0)
    result = diarize(tmp_path / "in", tiny_hub, tmp_path / "out")
    assert result.exit_code == 2
    assert "--session-id relative" in result.stderr
    assert not (tmp_path / "out").exists()
    assert diarize(tmp_path / "in", tiny_hub, tmp_path / "out", "--session-id", "relative").exit_code == 0


def test_a_recording_cannot_be_named_out_of_the_output_folder(tiny_hub, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 1.0)
    (tmp_path / "wav.scp").write_text(f"../escaped {speech}\n")
    result = diarize(tmp_path / "wav.scp", tiny_hub, tmp_path / "out")
    assert result.exit_code == 1
    assert "../escaped" in result.stderr
    assert not (tmp_path / "escaped.rttm").exists()


# -- RTTM ------------------------------------------------------------------------------------

GOOD_LINE = "SPEAKER one 1 0.000 5.000 <NA> <NA> A <NA> <NA>\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER one 1 2.000 -1.000 <NA> <NA> A <NA> <NA>", "duration"),
        ("SPEAKER one 1 2.000 <NA> <NA> A <NA> <NA>", "8"),
        ("SPEAKER one 1 two 1.000 <NA> <NA> A <NA> <NA>", "start"),
        ("SPEAKER one 1 nan 1.000 <NA> <NA> A <NA> <NA>", "start"),
        ("SPEAKR one 1 2.000 1.000 <NA> <NA> A <NA> <NA>", "SPEAKR"),
        ("hello", "hello"),
    ],
)
@pytest.mark.parametrize("side", ["reference", "hypothesis"])
def test_a_malformed_rttm_is_refused_with_file_and_line(tmp_path, side, line, message):
    for name in ("reference", "hypothesis"):
        (tmp_path / f"{name}.rttm").write_text(GOOD_LINE)
    bad = tmp_path / f"{side}.rttm"
    bad.write_text(GOOD_LINE + line + "\n")
    result = run("score", tmp_path / "reference.rttm", tmp_path / "hypothesis.rttm")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{bad}:2: ")
    assert message in result.stderr


def test_an_rttm_that_names_other_recordings_is_refused_with_both_names(tmp_path):
    (tmp_path / "reference.rttm").write_text(GOOD_LINE)
    (tmp_path / "hypothesis.rttm").write_text(GOOD_LINE.replace("one", "other"))
    result = run("score", tmp_path / "reference.rttm", tmp_path / "hypothesis.rttm")
    assert result.exit_code == 2
    assert "no recording in common" in result.stderr
    assert "one" in result.stderr
    assert "other" in result.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", None], ids=["binary", "missing"])
def test_an_rttm_that_is_none_is_named(tmp_path, content):
    (tmp_path / "reference.rttm").write_text(GOOD_LINE)
    if content is not None:
        (tmp_path / "hypothesis.rttm").write_bytes(content)
    result = run("score", tmp_path / "reference.rttm", tmp_path / "hypothesis.rttm")
    assert result.exit_code == 2
    assert "hypothesis.rttm" in result.stderr


# -- models ----------------------------------------------------------------------------------


def test_a_checkpoint_that_does_not_fit_its_config_names_the_keys(hub_copy, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    file = hub_copy / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    state["proj.wait"] = state.pop("proj.weight")
    torch.save(state, file)
    result = diarize(speech, hub_copy, tmp_path / "out")
    assert result.exit_code == 2
    assert "pytorch_model.bin" in result.stderr
    assert "proj.wait" in result.stderr
    assert "proj.weight" in result.stderr


def test_a_checkpoint_of_other_sizes_names_the_first_that_differs(hub_copy, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    config = hub_copy / "config.toml"
    config.write_text(config.read_text().replace("ffn_hidden = 16", "ffn_hidden = 24"))
    result = diarize(speech, hub_copy, tmp_path / "out")
    assert result.exit_code == 2
    assert "ffn1.w_1" in result.stderr
    assert "16" in result.stderr
    assert "24" in result.stderr


class Payload:
    """Writes a file if it is ever unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("content", ["number", "payload", "garbage", "empty"])
def test_a_file_that_is_no_state_dict_is_refused_and_never_executed(hub_copy, tmp_path, content):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    file, touched = hub_copy / "pytorch_model.bin", tmp_path / "touched"
    if content == "number":
        file.write_bytes(pickle.dumps(42))
    elif content == "payload":
        torch.save({"proj.weight": Payload(touched)}, file)
    else:
        file.write_bytes(b"" if content == "empty" else b"\x80garbage" * 100)
    result = diarize(speech, hub_copy, tmp_path / "out")
    assert result.exit_code == 2
    assert "pytorch_model.bin" in result.stderr
    assert not touched.exists()


def test_a_config_without_clustering_says_so(hub_copy, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    config = hub_copy / "config.toml"
    config.write_text(config.read_text().partition("[clustering.args]")[0])
    result = diarize(speech, hub_copy, tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{config}: ")
    assert "[clustering.args]" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_parameter_in_the_config_names_the_nearest(hub_copy, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    config = hub_copy / "config.toml"
    config.write_text(config.read_text().replace("segmentation_step", "segmentation_stop"))
    result = diarize(speech, hub_copy, tmp_path / "out")
    assert result.exit_code == 2
    assert "'segmentation_stop'" in result.stderr
    assert "'segmentation_step'" in result.stderr


def test_a_file_that_is_no_onnx_model_is_named(tiny_hub, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    result = diarize(speech, tiny_hub, tmp_path / "out", "--segmentation", f"onnx:{tmp_path}/model.onnx")
    assert result.exit_code == 2
    assert "model.onnx" in result.stderr


# -- output ----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--out", "--features-dir", "--json"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(tiny_hub, tmp_path, monkeypatch, option):
    def never(*args, **kwargs):
        raise AssertionError("a model was loaded although the output cannot be written")

    monkeypatch.setattr("workbench.pipeline.load_runtime", never)
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    (tmp_path / "file").write_text("in the way")
    outputs = {"--out": tmp_path / "out", option: tmp_path / "file" / "below"}
    result = run("diarize", speech, "--hub", tiny_hub, *(part for pair in outputs.items() for part in pair))
    assert result.exit_code == 2
    assert str(tmp_path / "file") in result.stderr
    assert "cannot be written to" in result.stderr


@pytest.mark.parametrize("command", ["diarize", "cluster", "infer"])
def test_a_folder_without_permission_is_refused(tiny_hub, tmp_path, command):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    out = closed / "out"
    if os.geteuid() == 0:  # root may write everywhere but here
        out = Path("/proc/workbench")
    speech = write_speech(tmp_path / "speech.wav", 1.0)
    arguments = {
        "diarize": (speech, "--hub", tiny_hub),
        "cluster": (tmp_path / "a.npz", "--clustering", "ahc"),
        "infer": (speech, "--onnx", tiny_hub / "onnx" / "segmentation.onnx"),
    }
    (tmp_path / "a.npz").write_bytes(b"")
    result = run(command, *arguments[command], "--out", out)
    assert result.exit_code == 2
    assert f"{out}: cannot be written to" in result.stderr
