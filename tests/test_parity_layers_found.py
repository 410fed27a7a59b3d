"""`workbench parity` by itself: the first stage that differs, and what stands out below the tolerance."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import soundfile
from command import run
from onnx import helper, numpy_helper

from workbench.audio import crop_audio

QUICK = ("--no-consequences", "--no-checks", "--json", "-", "-q")


@pytest.fixture(scope="module")
def graph(repository):
    return repository / "models/demo/onnx/segmentation.onnx"


@pytest.fixture(scope="module")
def audio(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    for name, start in (("one", 20), ("two", 60)):
        waveform = crop_audio(repository / "data/demo/demo02_overlap.flac", start, start + 10)
        soundfile.write(folder / f"{name}.wav", waveform, 16000, subtype="FLOAT")
    return folder


def bias_forgotten(model: onnx.ModelProto) -> None:
    name = "network.conformer.conformer_layer.1.ffn1.w_1.bias"
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), name))


def in_half_precision(model: onnx.ModelProto) -> None:
    """One product rounded to float16."""
    nodes = model.graph.node
    place = next(i for i, node in enumerate(nodes) if node.name.endswith("layer.1/mha/mha/linearO/MatMul"))
    output = nodes[place].output[0]
    nodes[place].output[0] = f"{output}_exact"
    half = onnx.TensorProto.FLOAT16
    nodes.insert(place + 1, helper.make_node("Cast", [f"{output}_exact"], [f"{output}_half"], to=half))
    back = helper.make_node("Cast", [f"{output}_half"], [output], to=onnx.TensorProto.FLOAT)
    nodes.insert(place + 2, back)


def changed(graph, path, change) -> str:
    model = onnx.load(graph)
    change(model)
    onnx.save(model, path)
    return f"onnx:{path}?threads=1"


def test_the_first_stage_that_differs_is_found_without_being_asked_for(graph, audio, tmp_path):
    other = changed(graph, tmp_path / "bias.onnx", bias_forgotten)
    result = run("parity", f"onnx:{graph}?threads=1", other, audio, *QUICK)
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert report["overall"]["first_divergence"]["stage"] == "conformer_1_ffn1"
    assert report["layers"]["culprits"] == ["conformer_1_ffn1"]
    worst = {row["worst_uri"] for row in report["layers"]["stages"] if row["verdict"] != "agrees"}
    assert len(worst) == 1  # one recording is looked at
    assert report["recordings"][worst.pop()]["first_divergence"]["stage"] == "conformer_1_ffn1"
    assert {row["chunks"] for row in report["layers"]["stages"]} == {4}


def test_one_operation_in_half_precision_stands_out(graph, audio, tmp_path):
    other = changed(graph, tmp_path / "half.onnx", in_half_precision)
    report = run("parity", f"onnx:{graph}?threads=1", other, audio / "one.wav", *QUICK).json
    (finding,) = report["layers"]["findings"]
    assert finding["kind"] == "own_outlier"
    assert finding["words"].startswith("conformer_1_mha is within the tolerance, but")


def test_nothing_is_walked_where_all_agrees(graph, audio):
    report = run("parity", *[f"onnx:{graph}?threads=1"] * 2, audio / "one.wav", *QUICK).json
    assert "layers" not in report
    assert report["overall"]["first_divergence"] is None


def test_a_dump_of_scores_alone_is_told_how_to_show_more(graph, audio, tmp_path):
    runtime = f"onnx:{graph}?threads=1"
    assert run("record", runtime, audio, "--out", tmp_path, "-q").exit_code == 0
    with np.load(tmp_path / "one.npz") as content:
        log_probs = content["log_probs"]
    log_probs[:, 30:60, 3] += 2
    np.savez(tmp_path / "one.npz", log_probs=log_probs)
    report = run("parity", runtime, f"recorded:{tmp_path}", audio, *QUICK).json
    assert "--stages all" in report["layers_missing"]
    shown = run("parity", runtime, f"recorded:{tmp_path}", audio, *QUICK[:2], "-q").stdout
    assert "layer by layer: recorded:" in shown
    assert "the output alone, so the first stage that differs is unknown" in shown


def test_a_wrong_floor_of_the_features_is_named(graph, audio, tmp_path):
    def other_floor(model: onnx.ModelProto) -> None:
        clip = next(node for node in model.graph.node if node.op_type == "Clip")
        constant = next(node for node in model.graph.node if node.output[0] == clip.input[1])
        value = numpy_helper.to_array(constant.attribute[0].t)
        constant.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(1e-4, value.dtype)))

    other = changed(graph, tmp_path / "floor.onnx", other_floor)
    report = run("parity", f"onnx:{graph}?threads=1", other, audio / "one.wav", *QUICK).json
    (finding,) = [each for each in report["findings"] if each["kind"] == "front_end"]
    assert "cut off below at -40 instead of" in finding["words"]


def test_a_stage_that_is_worse_than_its_siblings_is_named_under_int8(graph, audio, tmp_path):
    from workbench.export.precision import reduce_precision

    def shifted(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.name.endswith("layer.2/ffn1/w_1/MatMul_quant"))
        name = node.input[3]
        tensor = next(each for each in model.graph.initializer if each.name == name)
        points = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((points + 30).astype(points.dtype), name))

    reduced = tmp_path / "int8.onnx"
    reduced.write_bytes(graph.read_bytes())
    reduce_precision(reduced, "int8")
    other = changed(reduced, tmp_path / "wrong.onnx", shifted)
    report = run("parity", f"onnx:{graph}?threads=1", other, audio / "one.wav", *QUICK).json
    outliers = [each for each in report["layers"]["findings"] if each["kind"] == "own_outlier"]
    assert [each["details"]["stage"] for each in outliers] == ["conformer_2_ffn1"]
