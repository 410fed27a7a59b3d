"""What is called from Python with the wrong kind of thing says what was wanted."""

from __future__ import annotations

import numpy as np
import pytest

import workbench
from workbench.audio import audio_duration, find_recordings, read_audio
from workbench.clustering import PLDA, AHCParams
from workbench.config import read_config
from workbench.errors import InputError
from workbench.export import export_onnx
from workbench.inspection import inspect_runtime
from workbench.memory import available_bytes
from workbench.rttm import read_lab, read_uem
from workbench.selection import compare_models, score_checkpoints
from workbench.training import read_training

WRONG = [None, 5, b"bytes", ["list"], np.zeros((2, 2), dtype=int)]

CALLS = {
    "load_runtime": workbench.load_runtime,
    "load_hub": workbench.load_hub,
    "load_features": workbench.load_features,
    "save_features": lambda given: workbench.save_features("unwritten.npz", given),
    "read_rttm": workbench.read_rttm,
    "read_uem": read_uem,
    "read_lab": read_lab,
    "read_audio": read_audio,
    "audio_duration": audio_duration,
    "read_config": read_config,
    "read_training": read_training,
    "PLDA.load": PLDA.load,
    "score reference": lambda given: workbench.score(given, given),
    "cluster features": lambda given: workbench.cluster(given, AHCParams()),
    "cluster params": lambda given: workbench.cluster(None, given),
    "reconstruct": lambda given: workbench.reconstruct(given, np.zeros((1, 1), dtype=int)),
    "diarize": lambda given: workbench.diarize("a.wav", given),
    "diarize_features": workbench.diarize_features,
    "inspect_runtime": inspect_runtime,
    "export_onnx": lambda given: export_onnx(given, "unwritten.onnx"),
    "score_checkpoints": lambda given: score_checkpoints(given, {}, {}),
    "compare_models": lambda given: compare_models(given, {}, {}),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("given", WRONG, ids=lambda given: type(given).__name__)
def test_the_wrong_kind_of_thing_is_an_input_error(name, given):
    with pytest.raises(InputError):
        CALLS[name](given)


def test_the_message_says_what_was_wanted_and_what_was_given():
    with pytest.raises(InputError, match="named by one string, for example torch:.*, got NoneType"):
        workbench.load_runtime(None)
    with pytest.raises(InputError, match="path of an RTTM file must be given, got int"):
        workbench.read_rttm(5)


def test_an_unknown_kind_of_model_is_refused(tiny_hub):
    with pytest.raises(InputError, match="segmentation or embedding, got 'speaker'"):
        workbench.load_runtime(f"torch:{tiny_hub}", kind="speaker")


def test_recordings_are_named_by_paths():
    with pytest.raises(InputError):
        find_recordings(5)


def test_the_memory_left_is_a_number_of_bytes_where_the_system_says(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:  500 kB\n")
    monkeypatch.setattr("workbench.memory._MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("workbench.memory._CGROUP", tmp_path / "absent")
    assert available_bytes() == 500 * 1024
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("200000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    monkeypatch.setattr("workbench.memory._CGROUP", tmp_path)
    assert available_bytes() == 150000
    monkeypatch.setattr("workbench.memory._MEMINFO", tmp_path / "absent")
    monkeypatch.setattr("workbench.memory._CGROUP", tmp_path / "absent")
    assert available_bytes() is None
