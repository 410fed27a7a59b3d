"""Triton repositories against Triton's published schema, and the commands for TensorRT and Ascend."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from command import run
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from workbench.errors import InputError
from workbench.fbank import kaldi_fbank
from workbench.runtimes import load_runtime
from workbench.serving import EngineShapes, atc_command, frames_of, seconds_of, trtexec_command
from workbench.serving.triton import TritonSettings, triton_config, write_triton_model

# The part of `model_config.proto` (triton-inference-server/common, package inference, proto3) that is
# written here: message -> field -> (number, type); types in capitals are those of protobuf.
SCHEMA = {
    "ModelConfig": {
        "name": (1, "STRING"),
        "platform": (2, "STRING"),
        "version_policy": (3, "ModelVersionPolicy"),
        "max_batch_size": (4, "INT32"),
        "input": (5, "ModelInput*"),
        "output": (6, "ModelOutput*"),
        "instance_group": (7, "ModelInstanceGroup*"),
        "default_model_filename": (8, "STRING"),
        "dynamic_batching": (11, "ModelDynamicBatching"),
        "parameters": (14, "ParametersEntry*"),
        "backend": (17, "STRING"),
    },
    "ModelInput": {
        "name": (1, "STRING"),
        "data_type": (2, "enum DataType"),
        "dims": (4, "INT64*"),
        "is_shape_tensor": (6, "BOOL"),
        "allow_ragged_batch": (7, "BOOL"),
        "optional": (8, "BOOL"),
    },
    "ModelOutput": {
        "name": (1, "STRING"),
        "data_type": (2, "enum DataType"),
        "dims": (3, "INT64*"),
        "label_filename": (4, "STRING"),
        "is_shape_tensor": (6, "BOOL"),
    },
    "ModelInstanceGroup": {
        "name": (1, "STRING"),
        "count": (2, "INT32"),
        "gpus": (3, "INT32*"),
        "kind": (4, "enum ModelInstanceGroup.Kind"),
        "profile": (5, "STRING*"),
        "passive": (7, "BOOL"),
        "host_policy": (9, "STRING"),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, "INT32*"),
        "max_queue_delay_microseconds": (2, "UINT64"),
        "preserve_ordering": (3, "BOOL"),
    },
    "ModelVersionPolicy": {
        "latest": (1, "ModelVersionPolicy.Latest"),
        "specific": (3, "ModelVersionPolicy.Specific"),
    },
    "ModelVersionPolicy.Latest": {"num_versions": (1, "UINT32")},
    "ModelVersionPolicy.Specific": {"versions": (1, "INT64*")},
    "ModelParameter": {"string_value": (1, "STRING")},
    "ModelConfig.ParametersEntry": {"key": (1, "STRING"), "value": (2, "ModelParameter")},
}
DATA_TYPES = "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"
KINDS = "KIND_AUTO KIND_GPU KIND_CPU KIND_MODEL"


def add_enum(holder, name, values):
    enum = holder.enum_type.add(name=name)
    for number, value in enumerate(values):
        enum.value.add(name=value, number=number)


@pytest.fixture(scope="module")
def model_config():
    """The message class of a model's configuration."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    add_enum(file, "DataType", [f"TYPE_{word}" for word in DATA_TYPES.split()])
    holders = {}
    for name in SCHEMA:
        outer, _, inner = name.rpartition(".")
        parent = holders[outer].nested_type if outer else file.message_type
        holders[name] = parent.add(name=inner)
    add_enum(holders["ModelInstanceGroup"], "Kind", KINDS.split())
    holders["ModelConfig.ParametersEntry"].options.map_entry = True
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in SCHEMA.items():
        for name, (number, word) in fields.items():
            label = kinds.LABEL_REPEATED if word.endswith("*") else kinds.LABEL_OPTIONAL
            word = word.rstrip("*")
            field = holders[message].field.add(name=name, number=number, label=label)
            if word.isupper() or word.rstrip("0123456789").isupper():
                field.type = getattr(kinds, f"TYPE_{word}")
                continue
            field.type = kinds.TYPE_ENUM if word.startswith("enum ") else kinds.TYPE_MESSAGE
            word = word.removeprefix("enum ")
            word = "ModelConfig.ParametersEntry" if word == "ParametersEntry" else word
            field.type_name = f".inference.{word}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def parse(model_config, text):
    return text_format.Parse(text, model_config())


@pytest.fixture(scope="module")
def exported(tiny_hub):
    return {kind: tiny_hub / "onnx" / f"{kind}.onnx" for kind in ("segmentation", "embedding")}


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
def test_a_repository_follows_the_schema_and_the_graph(model_config, exported, tmp_path, kind):
    path = write_triton_model(exported[kind], tmp_path)
    assert path == tmp_path / kind / "config.pbtxt"
    served = tmp_path / kind / "1" / "model.onnx"
    assert served.read_bytes() == exported[kind].read_bytes()
    config = parse(model_config, path.read_text(encoding="utf-8"))
    runtime = load_runtime(f"onnx:{served}")
    assert (config.name, config.backend, config.max_batch_size) == (kind, "onnxruntime", 64)
    graph = runtime.session
    for written, given in ((config.input, graph.get_inputs()), (config.output, graph.get_outputs()[:1])):
        assert [each.name for each in written] == [each.name for each in given]
        for one, other in zip(written, given, strict=True):
            assert one.data_type == 11  # TYPE_FP32
            shape = [dim if isinstance(dim, int) else -1 for dim in other.shape]
            assert list(one.dims) == shape[1:]
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].count == 1
    assert list(config.version_policy.specific.versions) == [1]
    assert config.parameters["kind"].string_value == kind
    if kind == "segmentation":
        powerset = json.loads(config.parameters["powerset"].string_value)
        assert [tuple(each) for each in powerset] == list(runtime.geometry.powerset)


def test_settings_reach_the_configuration(model_config, exported, tmp_path):
    settings = TritonSettings(max_batch_size=8, kind="gpu", instances=2, version=3, max_queue_delay_ms=0.5)
    path = write_triton_model(exported["embedding"], tmp_path, "speaker", settings)
    config = parse(model_config, path.read_text(encoding="utf-8"))
    assert (tmp_path / "speaker" / "3" / "model.onnx").is_file()
    assert (config.name, config.max_batch_size) == ("speaker", 8)
    assert (config.instance_group[0].count, config.instance_group[0].kind) == (2, 1)
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(config.version_policy.specific.versions) == [3]
    for name in ("", "../up", "a b", ".hidden"):
        with pytest.raises(InputError, match="a Triton model's name"):
            write_triton_model(exported["embedding"], tmp_path, name)


def test_without_batching_all_axes_are_written(model_config, exported):
    runtime = load_runtime(f"onnx:{exported['embedding']}")
    config = parse(model_config, triton_config(runtime, "e", TritonSettings(max_batch_size=0)))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [-1, -1, 80]


def test_strings_are_escaped_as_protobuf_reads_them(model_config, exported, monkeypatch):
    runtime = load_runtime(f"onnx:{exported['embedding']}")
    text = triton_config(runtime, 'a"b\\c\né', TritonSettings())
    assert parse(model_config, text).name == 'a"b\\c\né'


def test_seconds_and_frames_agree_with_the_filter_bank(rng):
    assert (frames_of(2.0), seconds_of(200)) == (198, 2.015)
    for seconds in [0.0, 0.02, 0.025, 0.0349, 0.035, *rng.uniform(0, 3, 20)]:
        waveform = np.zeros(round(seconds * 16000), np.float32)
        assert frames_of(seconds) == len(kaldi_fbank(waveform))
    for frames in (1, 2, 198, 200):
        assert frames_of(seconds_of(frames)) == frames
        assert frames_of(seconds_of(frames) - 1 / 16000) == frames - 1


def shapes_of(command, flag):
    value = next(word for word in shlex.split(command) if word.startswith(f"--{flag}="))
    return dict(each.split(":") for each in re.split("[,;](?=[a-z])", value.partition("=")[2]))


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
def test_the_shapes_of_trtexec_run_through_the_graph(exported, kind):
    runtime = load_runtime(f"onnx:{exported[kind]}")
    command = trtexec_command(runtime, EngineShapes(batch=(1, 2, 3), seconds=(0.5, 1.0, 2.0)))
    assert "--noTF32" in command
    for flag in ("minShapes", "optShapes", "maxShapes"):
        found = shapes_of(command, flag)
        inputs = {
            name: np.ones([int(size) for size in shape.split("x")], np.float32)
            for name, shape in found.items()
        }
        assert np.isfinite(runtime.session.run(None, inputs)[0]).all()
    if kind == "embedding":
        assert shapes_of(command, "maxShapes") == {"fbank": "3x198x80", "weights": "3x4x198"}
    with pytest.raises(InputError, match="min <= usual <= max"):
        EngineShapes(batch=(4, 2, 8))


def test_atc_gets_one_fixed_shape(exported):
    runtime = load_runtime(f"onnx:{exported['embedding']}")
    command = atc_command(runtime, batch=4)
    assert shapes_of(command, "input_shape") == {"fbank": "4,200,80", "weights": "4,1,200"}
    assert {"--framework=5", "--input_format=ND", "--output=embedding_bs4"} <= set(shlex.split(command))
    segmentation = load_runtime(f"onnx:{exported['segmentation']}")
    samples = round(segmentation.geometry.chunk_duration * 16000)
    assert shapes_of(atc_command(segmentation), "input_shape") == {"waveforms": f"1,1,{samples}"}


def test_export_puts_a_model_into_a_repository(model_config, tiny_hub, exported, tmp_path):
    repository = tmp_path / "repository"
    result = run(
        "export", f"torch:{tiny_hub}", "--output", "embedding", "--triton", repository, "--json", "-"
    )
    assert result.exit_code == 0, result.stderr
    assert result.json["triton"] == str(repository / "embedding" / "config.pbtxt")
    again = run("export", f"onnx:{exported['segmentation']}", "--triton", repository, "--triton-kind", "cpu")
    assert again.exit_code == 0, again.stderr
    assert sorted(path.name for path in repository.iterdir()) == ["embedding", "segmentation"]
    for name in ("embedding", "segmentation"):
        config = parse(model_config, (repository / name / "config.pbtxt").read_text())
        assert config.name == name
        notes = (repository / name / "engines.md").read_text()
        assert "trtexec --onnx=" in notes
        assert "atc --model=" in notes
    nowhere = run("export", f"torch:{tiny_hub}")
    assert nowhere.exit_code == 2
    assert "--out FILE.onnx, or --triton DIR" in nowhere.stderr
