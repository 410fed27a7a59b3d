"""Parity names the setting of a filter bank that differs, from recordings of another program's features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import run

from workbench.agreement.diagnosis import compare_stages, explain
from workbench.agreement.fbank_variants import FrontEndSettings, fbank_variant
from workbench.audio import crop_audio
from workbench.fbank import DEFAULT_DIMS
from workbench.steps.sides import shared_hub

OURS = FrontEndSettings(
    scale=DEFAULT_DIMS.scale, preemphasis=DEFAULT_DIMS.preemphasis, low_hz=DEFAULT_DIMS.low_hz
)


@pytest.fixture(scope="module")
def speech(repository) -> np.ndarray:
    return crop_audio(repository / "data/demo/demo02_overlap.flac", 20, 22)


def recorded(folder: Path, fbank: np.ndarray, embeddings: np.ndarray) -> Path:
    folder.mkdir()
    np.savez(folder / "one.npz", embeddings=embeddings.astype("f4"), fbank=fbank.astype("f4"))
    said = {"sample_rate": 16000, "chunk_duration": 2.0, "chunk_step": 2.0, "powerset": []}
    said |= {"frame_start": 0.0, "frame_duration": 2.0, "frame_step": 2.0}
    (folder / "geometry.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": "hann"}, "explained by the window: hann instead of hamming"),
        ({"preemphasis": 0.0}, "explained by pre-emphasis: 0.0 instead of 0.97"),
        ({"dither": 1.0}, "explained by dither"),
    ],
)
def test_embeddings_that_differ_by_the_front_end_say_which_setting(tmp_path, rng, speech, change, words):
    soundfile.write(tmp_path / "one.wav", speech, 16000, subtype="FLOAT")
    embeddings = rng.normal(size=(1, 1, 32))
    sides = [
        recorded(tmp_path / name, fbank_variant(speech[None], settings, DEFAULT_DIMS), embeddings + noise)
        for name, settings, noise in (("a", OURS, 0.0), ("b", replace(OURS, **change), 0.01))
    ]
    result = run("parity", *(f"recorded:{side}" for side in sides), tmp_path / "one.wav", "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "the candidate's front end: features differ by up to" in result.stdout
    assert words in result.stdout


def test_a_level_is_told_from_the_features_that_are_not_cut_off(rng):
    energies = rng.uniform(-60, 20, (1, 300, 80))
    quiet = np.maximum(energies - 90.309, -100.0)  # samples in [-1, 1) divided by 32768 once more, in dB
    stages = ({"fbank": energies}, {"fbank": quiet})
    assert "samples scaled by 3.05e-05" in str(explain(compare_stages(*stages), *stages)[0])


def test_centred_features_say_nothing_about_the_level(rng):
    energies = rng.normal(size=(1, 300, 80))
    shaken = energies + rng.uniform(-0.01, 0.01, energies.shape)
    stages = ({"fbank": energies}, {"fbank": shaken})
    assert "level" not in str(explain(compare_stages(*stages), *stages)[0])


def test_the_hub_folder_of_one_side_serves_the_other(repository):
    hub = repository / "models" / "demo"
    graph = f"onnx:{hub}/onnx/segmentation.onnx?threads=1"
    assert shared_hub("onnx:elsewhere.onnx", f"torch:{hub}") == hub
    assert shared_hub(graph, graph) == hub
    assert shared_hub("onnx:elsewhere.onnx", "torch:nowhere") is None
