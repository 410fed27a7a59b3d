"""`workbench benchmark` on tiny models."""

from __future__ import annotations

import json

import pytest
from command import run
from port_data import write_recordings


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("benchmark"), seconds=4.0)[0] / "one.wav"


def test_a_pipeline_and_a_single_model_side_by_side(audio, tiny_hub, tmp_path):
    single, hub = f"onnx:{tiny_hub}/onnx/segmentation.onnx", f"torch:{tiny_hub}"
    out = tmp_path / "bench.json"
    result = run(
        "benchmark", hub, single, "--batch-sizes", "2,1", "--repeats", "3", "--seconds", "60",
        "--no-cold-start", "--", audio, "--json", out, "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads(out.read_text())
    assert {row["runtime"] for row in report["batches"]} == {hub, single, f"{hub} (embedding)"}
    assert {row["batch_size"] for row in report["batches"]} == {1, 2}
    for row in report["batches"]:
        assert 0 < row["p50"] <= row["p90"] <= row["p99"]
    assert report["best_batch"].keys() == {hub, single, f"{hub} (embedding)"}
    stages = {row["stage"]: row for row in report["stages"]}
    assert stages.keys() == {"segmentation", "embeddings", "clustering", "reconstruction", "whole"}
    assert len(report["calls"]) == 3 * 2 * 3
    assert report["machine"]["before"]["cores"] >= 1
    assert "ratio" in result.stdout
    assert "best" in result.stdout
    assert report["cut"] == []


def test_what_time_cuts_is_in_the_report(audio, tiny_hub):
    single = f"onnx:{tiny_hub}/onnx/segmentation.onnx"
    call = ("benchmark", single, "--repeats", "500", "--seconds", "0.01", "--no-cold-start", "--", audio)
    result = run(*call)
    assert result.exit_code == 0, result.stderr
    assert "cut by --seconds 0.01:" in result.stdout
    assert "fewer calls than 500" in result.stdout
    assert "takes about 0 s" in result.stderr
    assert "batch size 64 of 64" in result.stderr


def test_a_cold_start_has_a_process_of_its_own(audio, tiny_hub):
    spec = f"onnx:{tiny_hub}/onnx/segmentation.onnx"
    result = run("benchmark", spec, "--batch-sizes", "1", "--repeats", "2", "--json", "-", "-q", "--", audio)
    assert result.exit_code == 0, result.stderr
    found = result.json["cold_start"][spec]
    assert found["process"] > found["load"] + found["first_call"] > 0
    assert found["peak_memory"] > 2**20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("AUDIO",), "no runtime"),
        (("onnx:HUB/onnx/segmentation.onnx",), "no audio"),
        (("onnx:nowhere.onnx", "AUDIO"), "nowhere.onnx"),
        (("onnx:HUB/onnx/segmentation.onnx", "AUDIO", "--batch-sizes", "0"), "--batch-sizes"),
        (("onnx:HUB/onnx/segmentation.onnx", "AUDIO", "--batch-sizes", "two"), "--batch-sizes"),
    ],
)
def test_unusable_calls_end_with_two(arguments, words, audio, tiny_hub):
    call = [each.replace("HUB", str(tiny_hub)).replace("AUDIO", str(audio)) for each in arguments]
    result = run("benchmark", *call)
    assert result.exit_code == 2
    assert words in result.stderr
