"""What `workbench inspect` says about every kind of model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from command import run

from workbench.errors import InputError
from workbench.graph_card import read_graph_card
from workbench.inspection import inspect_runtime
from workbench.runtimes import load_runtime
from workbench.runtimes.geometry import geometry_to_json


@pytest.mark.parametrize(
    "name", ["wavlm_conformer_pruned_tiny", "wavlm_conformer_tiny_large", "fbank_conformer_tiny_posi"]
)
def test_a_diarizen_experiment_is_described(golden, name):
    facts = json.loads((golden / name / "io.json").read_text())
    card = inspect_runtime(f"torch:{golden / name}")
    assert (card.engine, card.kind) == ("torch", "segmentation")
    assert card.parameters == facts["num_params"]
    assert sum(block.parameters for block in card.blocks) == facts["num_params"]
    wavlm = name.startswith("wavlm")
    per_second, surplus = (50, -1) if wavlm else (100, 1)
    assert card.frames_per_chunk == per_second * card.chunk_duration + surplus
    field = facts["receptive_field"]
    assert (card.frame_start, card.frame_duration, card.frame_step) == (
        field["start"],
        field["duration"],
        field["step"],
    )
    assert len(card.powerset) == facts["num_powerset"]
    assert card.chunk_duration == card.training["model.args.chunk_size"]
    assert len(card.layer_weights) == (card.training["model.args.wavlm_layer_num"] if wavlm else 0)


def test_a_pyannote_file_and_an_embedding_model_are_described(golden):
    card = inspect_runtime(f"torch:{golden / 'pyannet_tiny'}")
    assert (card.architecture, card.frames_per_chunk, card.chunk_duration) == ("PyanNet", 589, 10.0)
    card = inspect_runtime(f"torch:{golden / 'wespeaker_ecapa_tiny'}")
    assert (card.architecture, card.embedding_dimension, card.powerset) == ("ECAPAEncoder", 16, ())
    card = inspect_runtime(f"torch:{golden / 'hub_tiny'}", kind="embedding")
    assert (card.embedding_dimension, card.sample_rate) == (64, 16000)


def test_an_onnx_file_and_its_family(tiny_hub, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(tiny_hub / "onnx" / "segmentation.onnx", tmp_path / name)
    shutil.copy(tiny_hub / "onnx" / "embedding.onnx", tmp_path / "other.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\xff")
    card = inspect_runtime(f"onnx:{tmp_path / 'a.onnx'}")
    source = inspect_runtime(f"torch:{tiny_hub}")
    assert card.graph is not None
    assert card.graph.opset == 18
    assert card.graph.source_digest == source.files[0]["sha256"]
    assert card.graph.sha256 == card.files[0]["sha256"]
    assert sum(card.graph.operations.values()) == card.graph.num_nodes
    assert card.graph.inputs == {"waveforms": "float (batch, 1, samples)"}
    assert [member.file for member in card.graph.family] == ["a.onnx", "b.onnx"]
    assert card.graph.family[0].flips == 0
    assert card.frames_per_chunk == source.frames_per_chunk
    assert card.powerset == source.powerset


def test_a_lonely_file_has_no_family(tiny_hub, tmp_path):
    shutil.copy(tiny_hub / "onnx" / "embedding.onnx", tmp_path / "m.onnx")
    assert read_graph_card(tmp_path / "m.onnx").family == ()


def test_a_recorded_folder_is_described(tiny_hub, tmp_path):
    geometry = load_runtime(f"torch:{tiny_hub}").geometry
    np.savez(tmp_path / "a.npz", log_probs=np.zeros((2, 101, 11)))
    (tmp_path / "geometry.json").write_text(json.dumps(geometry_to_json(geometry)))
    card = inspect_runtime(f"recorded:{tmp_path}")
    assert (card.engine, card.recordings, card.frames_per_chunk) == ("recorded", 1, 101)


def test_the_command_prints_a_table_and_json(tiny_hub):
    result = run("inspect", f"torch:{tiny_hub}")
    assert result.exit_code == 0, result.stderr
    for words in (
        "FBankConformer",
        "11 classes of 4 speakers",
        "frames per chunk",
        "conformer",
        "parameters",
    ):
        assert words in result.stdout
    result = run("inspect", f"onnx:{tiny_hub}/onnx/segmentation.onnx", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert result.json["graph"]["operations"]["MatMul"] > 0
    assert result.json["failed"] == []
    result = run("inspect", f"torch:{tiny_hub}", "--kind", "embedding", "--json", "-")
    assert result.json["embedding_dimension"] == 16


def test_what_is_no_model_ends_with_code_2(tmp_path):
    assert run("inspect", f"torch:{tmp_path}").exit_code == 2
    assert run("inspect", "onnx:nothing.onnx").exit_code == 2
    with pytest.raises(InputError, match="no such file"):
        inspect_runtime(f"onnx:{tmp_path / 'm.onnx'}")
