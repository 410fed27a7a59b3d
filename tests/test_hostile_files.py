"""Files that would run code or read other files if they were loaded without care."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from command import run

from workbench.checkpoints import load_model
from workbench.checkpoints.pickles import find_imports
from workbench.errors import InputError
from workbench.runtimes import load_runtime
from workbench.runtimes.external_data import check_external_data

SPECIFICATIONS = "cpyannote.audio.core.task\nSpecifications\n"


class Payload:
    """Unpickled without care, it runs a command."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def marker(tmp_path):
    """A file that appears if code from a checkpoint ran."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "code from the file was run"


def archive(path: Path, content: bytes) -> Path:
    """A `torch.save` archive around a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", b"3\n")
        file.writestr("archive/byteorder", b"little")
    return path


def hostile(tmp_path: Path, marker: Path, form: str) -> Path:
    path = tmp_path / "pytorch_model.bin"
    payload = Payload(marker)
    if form == "bare":
        torch.save(payload, path)
    elif form == "nested":
        torch.save({"state_dict": {"w": torch.ones(2), "inner": [{"deep": (payload,)}]}}, path)
    elif form == "protocol 4":
        torch.save({"state_dict": payload}, path, pickle_protocol=4)
    elif form == "legacy":
        torch.save({"w": payload}, path, _use_new_zipfile_serialization=False)
    elif form == "raw pickle":
        path.write_bytes(pickle.dumps(payload, protocol=4))
    elif form == "in specifications":
        command = f"(V{f'touch {marker}'}\ntRs"
        state = f"}}Vproblem\ncposix\nsystem\n{command}"
        archive(path, f"{SPECIFICATIONS})\x81{state}b.".encode("latin-1"))
    elif form == "as an attribute":
        archive(path, f"cpyannote.audio.core.task\n__import__('os').system\n(V{marker}\ntR.".encode())
    return path


@pytest.mark.parametrize(
    "form", ["bare", "nested", "protocol 4", "legacy", "raw pickle", "in specifications", "as an attribute"]
)
def test_a_command_in_a_checkpoint_does_not_run_and_is_refused_by_name(tmp_path, marker, form):
    path = hostile(tmp_path, marker, form)
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "system" in message
    assert "refused" in message
    assert "weights_only" not in message  # nobody is told to load it unsafely


@pytest.mark.parametrize("command", ["inspect", "export", "diff-checkpoints"])
def test_commands_refuse_hostile_checkpoints_without_running_them(tmp_path, marker, command):
    path = hostile(tmp_path, marker, "nested")
    arguments = {
        "inspect": [f"torch:{path}"],
        "export": [f"torch:{path}", "--out", tmp_path / "m.onnx"],
        "diff-checkpoints": [path, path],
    }[command]
    result = run(command, *arguments)
    assert result.exit_code == 2
    assert "posix.system" in result.stderr


def test_a_hostile_wavlm_file_is_refused(golden, tmp_path, marker):
    config = (golden / "wavlm_conformer_tiny" / "config__2026_03_14--15_09_26.toml").read_text()
    (tmp_path / "config__1.toml").write_text(config)
    (tmp_path / "wavlm_src").mkdir()
    torch.save({"config": Payload(marker)}, tmp_path / "wavlm_src" / "wavlm_tiny.pt")
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    torch.save({"w": torch.ones(1)}, tmp_path / "checkpoints" / "best" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"wavlm_tiny\.pt: holds the Python object posix\.system"):
        load_model(tmp_path)


def test_a_path_in_a_toml_is_matched_and_never_imported(tmp_path, marker, monkeypatch):
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nModel = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "config.toml").write_text('[model]\npath = "evil.Model"\n[model.args]\n')
    torch.save({"w": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"unknown architecture model\.path = 'evil\.Model'"):
        load_model(tmp_path)


def test_a_yaml_with_python_objects_is_refused(tmp_path, marker):
    (tmp_path / "config.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {marker}']\n")
    torch.save({"w": torch.ones(1)}, tmp_path / "avg_model.pt")
    with pytest.raises(InputError, match="is not valid YAML"):
        load_model(tmp_path)


def test_imports_are_found_without_running_anything(tmp_path, marker):
    path = hostile(tmp_path, marker, "protocol 4")
    assert find_imports(path) == ["posix.system"]
    (tmp_path / "text").write_bytes(b"no pickle")
    assert find_imports(tmp_path / "text") == []


# --- ONNX external data -------------------------------------------------------------------------


def external_model(folder: Path, location: str, *, where: str = "initializer") -> Path:
    """A model whose weight lies in another file."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    make = onnx.helper
    x = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])
    y = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    if where == "initializer":
        graph = make.make_graph([make.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    elif where == "constant":
        nodes = [
            make.make_node("Constant", [], ["w"], value=weight),
            make.make_node("Add", ["x", "w"], ["y"]),
        ]
        graph = make.make_graph(nodes, "g", [x], [y])
    else:
        inner = make.make_graph([make.make_node("Add", ["x", "w"], ["y"])], "b", [], [y], [weight])
        condition = onnx.numpy_helper.from_array(np.array(True), "c")
        node = make.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        graph = make.make_graph([node], "g", [x], [y], [condition])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def secret(tmp_path):
    """Something outside of the model's folder."""
    path = tmp_path / "secret.bin"
    path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    return path


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize(
    "location", ["../secret.bin", "{secret}", "sub/../../secret.bin", "link.bin", "..\\secret.bin"]
)
def test_external_data_may_not_leave_the_models_folder(tmp_path, secret, location, where):
    folder = tmp_path / "model"
    path = external_model(folder, location.format(secret=secret), where=where)
    (folder / "sub").mkdir()
    (folder / "link.bin").symlink_to(secret)
    with pytest.raises(InputError, match=r"keeps weights in the external file .* it is not loaded"):
        load_runtime(f"onnx:{path}")
    result = run("inspect", f"onnx:{path}")
    assert result.exit_code == 2


def test_external_data_beside_the_model_is_fine(tmp_path):
    path = external_model(tmp_path / "model", "weights.bin")
    with pytest.raises(InputError, match="which does not exist"):
        check_external_data(path)
    (path.parent / "weights.bin").write_bytes(bytes(16))
    assert [file.name for file in check_external_data(path)] == ["weights.bin"]


@pytest.mark.parametrize("content", [b"\x0b\x0c", b"\x3a\xff\xff\xff\xff\x0f", b"\x00\x00", b"\xff" * 30])
def test_what_the_walk_cannot_read_reaches_no_other_reader(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match="it is no ONNX file"):
        load_runtime(f"onnx:{tmp_path / 'm.onnx'}")


def test_npz_files_with_pickled_arrays_are_refused(tmp_path, marker):
    buffer = io.BytesIO()
    np.savez(buffer, log_probs=np.array([Payload(marker)], dtype=object))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    (tmp_path / "geometry.json").write_text(
        '{"sample_rate": 16000, "chunk_duration": 2, "chunk_step": 1, "frame_start": 0, '
        '"frame_duration": 0.02, "frame_step": 0.02, "powerset": [[], [0]]}'
    )
    with pytest.raises(InputError):
        load_runtime(f"recorded:{tmp_path}").log_probs("a")
