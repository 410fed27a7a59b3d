from __future__ import annotations

import numpy as np
import onnx
import pytest
from command import run
from hubs import make_speech, write_speech

from workbench.powerset import to_multilabel
from workbench.runtimes import load_runtime


@pytest.mark.parametrize("output", ["powerset", "multilabel", "embedding"])
def test_every_output_is_exported_checked_and_reported(tiny_hub, tmp_path, output):
    path = tmp_path / "models" / "model.onnx"
    result = run("export", f"torch:{tiny_hub}", "--out", path, "--output", output, "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    report = result.json
    assert (report["output"], report["opset"], report["failed"]) == (output, 18, [])
    assert report["bytes"] == path.stat().st_size
    assert report["max_abs_diff"] < 1e-2
    assert "agrees with its source" in result.stderr


def test_an_exported_file_can_be_checked_on_real_audio_and_says_what_it_is(tiny_hub, tmp_path):
    path = tmp_path / "model.onnx"
    speech = write_speech(tmp_path / "speech.wav", 6.0)
    result = run(
        "export", f"torch:{tiny_hub}", "--out", path, "--audio", speech, "--opset", 17, "--json", "-"
    )
    assert result.exit_code == 0, result.stderr
    assert result.json["checked_on_real_audio"] is True
    assert result.json["output"] == "powerset"
    model = onnx.load(path)
    assert model.opset_import[0].version == 17
    assert {entry.key for entry in model.metadata_props}
    source, exported = load_runtime(f"torch:{tiny_hub}"), load_runtime(f"onnx:{path}")
    assert exported.geometry == source.geometry
    waveforms = make_speech(6.0).reshape(3, -1)
    classes = source.geometry.powerset
    np.testing.assert_array_equal(
        to_multilabel(exported.segment(waveforms), classes), to_multilabel(source.segment(waveforms), classes)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["torch:nowhere", "--out", "model.onnx"], "nowhere"),
        (["torch:HUB", "--out", "model.bin"], "must name a file that ends in .onnx"),
        (["torch:HUB", "--out", "model.onnx", "--opset", "3"], "opset must be"),
        (["torch:HUB", "--out", "model.onnx", "--output", "labels"], "'labels' is not one of"),
        (["torch:HUB", "--out", "model.onnx", "--audio", "nowhere.wav"], "nowhere.wav"),
        (["onnx:model.onnx", "--out", "model.onnx"], "only torch: models"),
        (["torch:HUB", "--out", "HUB/config.toml/model.onnx"], "cannot be written to"),
    ],
)
def test_exports_that_make_no_sense_end_with_code_2(tiny_hub, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("export", *(argument.replace("HUB", str(tiny_hub)) for argument in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []
