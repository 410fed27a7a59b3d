from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command import run
from hubs import make_reference, write_speech

import workbench.infer
from workbench.rttm import read_rttm
from workbench.scoring import score


@pytest.fixture(scope="module")
def model(tiny_hub):
    return tiny_hub / "onnx" / "segmentation.onnx"


def test_infer_writes_rttm_and_a_summary(model, tmp_path):
    write_speech(tmp_path / "in" / "speech.wav", 9.0, 4)
    result = run("infer", tmp_path / "in", "--onnx", model, "--out", tmp_path / "out", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == ["[1/1] speech"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == result.json
    row = summary["recordings"]["speech"]
    hypothesis = read_rttm(tmp_path / "out" / "speech.rttm")["speech"]
    assert row["segments"] == len(list(hypothesis.itertracks()))
    assert row["active_speakers"] == len(hypothesis.labels())
    assert row["rtf"] > 0
    assert score(make_reference(9.0, 4), hypothesis).der < 0.6


def test_infer_runs_where_only_onnxruntime_numpy_and_soundfile_are(model, tmp_path):
    """Every other package of the project is made impossible to import."""
    write_speech(tmp_path / "speech.wav", 5.0)
    code = (
        "import sys\n"
        "for name in 'torch scipy pandas pyannote sklearn onnx plotly soxr yaml tqdm'.split():\n"
        "    sys.modules[name] = None\n"
        "from workbench.cli import main\n"
        "main()\n"
    )
    command = ["infer", tmp_path / "speech.wav", "--onnx", model, "--out", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[1/1] speech\n")
    assert (tmp_path / "out" / "speech.rttm").read_text().startswith("SPEAKER speech 1 ")


def test_a_command_that_lacks_a_package_says_which(model, tmp_path):
    code = "import sys; sys.modules['pyannote.core'] = None; from workbench.cli import main; main()"
    command = [sys.executable, "-c", code, "score", "a.rttm", "b.rttm"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "pyannote.core is not installed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "nowhere.onnx"], "nowhere.onnx"),
        (["--providers", "cpi"], "cpi"),
        (["--min-duration", "-1"], "min_duration"),
        (["--frame-step", "0"], "frame_step"),
        (["--max-files", "0"], "max_files"),
    ],
)
def test_infer_explains_what_it_cannot_use(model, tmp_path, arguments, message):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    result = run("infer", speech, "--onnx", model, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_embedding_model_cannot_infer(tiny_hub, tmp_path):
    speech = write_speech(tmp_path / "speech.wav", 3.0)
    result = run("infer", speech, "--onnx", tiny_hub / "onnx" / "embedding.onnx", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "segmentation model" in result.stderr


def test_infer_names_the_recordings_that_fail(model, tmp_path):
    write_speech(tmp_path / "in" / "good.wav", 3.0)
    (tmp_path / "in" / "bad.wav").write_bytes(b"")
    result = run("infer", tmp_path / "in", "--onnx", model, "--out", tmp_path / "out", "--json", "-")
    assert result.exit_code == 1
    assert "FAILED bad" in result.stderr
    assert [failure["uri"] for failure in result.json["failed"]] == ["bad"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.rttm", "summary.json"]


def test_whole_recordings_and_a_limit_of_files(model, tmp_path):
    for seed, name in enumerate("abc"):
        write_speech(tmp_path / "in" / f"{name}.wav", 4.0, seed)
    result = run(
        "infer",
        tmp_path / "in",
        "--onnx",
        model,
        "--out",
        tmp_path / "out",
        "--whole",
        "--max-files",
        2,
        "-q",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.rttm")) == ["a.rttm", "b.rttm"]


def test_names_that_rttm_or_files_cannot_bear_fail_alone(model, tmp_path):
    write_speech(tmp_path / "in" / "my meeting.wav", 3.0)
    write_speech(tmp_path / "in" / "good.wav", 3.0)
    result = run("infer", tmp_path / "in", "--onnx", model, "--out", tmp_path / "out", "--json", "-")
    assert result.exit_code == 1
    assert list(result.json["recordings"]) == ["good"]
    (failed,) = result.json["failed"]
    assert failed["uri"] == "my meeting"
    assert "holds a blank" in failed["error"]


def test_whatever_goes_wrong_with_one_recording_the_others_are_done(model, tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_speech(tmp_path / "in" / f"{name}.wav", 3.0)
    real = workbench.infer.read_audio

    def read(path, sample_rate):
        if path.stem == "a":
            raise MemoryError("too long")
        return real(path, sample_rate)

    monkeypatch.setattr(workbench.infer, "read_audio", read)
    result = run("infer", tmp_path / "in", "--onnx", model, "--out", tmp_path / "out", "--json", "-")
    assert result.exit_code == 1
    assert list(result.json["recordings"]) == ["b"]
    assert result.json["failed"] == [{"uri": "a", "error": "MemoryError: too long"}]
