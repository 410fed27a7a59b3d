"""Exports that agree with their source at any opset, batch and length, and refusals of those that do not."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

import workbench
import workbench.export as export_module
from workbench.audio import read_audio
from workbench.checkpoints import load_model
from workbench.errors import InputError
from workbench.export import ExportError, export_model, export_onnx
from workbench.export.write import write_graph
from workbench.models.resnet import resample_nearest
from workbench.powerset import to_multilabel
from workbench.runtimes import load_runtime
from workbench.runtimes.geometry import geometry_to_json

TINY = "fbank_conformer_tiny"
TINY_POSI = "fbank_conformer_tiny_posi"
EMBEDDING = "wespeaker_resnet_tiny/pyannote"
LENGTHS = (1, 400, 16000, 20077, 63999)


@pytest.fixture(scope="module")
def exported(golden, tmp_path_factory):
    """Exported files by what they were made from, each made once."""
    made = {}
    folder = tmp_path_factory.mktemp("exported")

    def make(name, output, opset=18):
        key = (name, output, opset)
        if key not in made:
            path = folder / f"{len(made)}.onnx"
            made[key] = (path, export_onnx(f"torch:{golden / name}", path, output=output, opset=opset))
        return made[key]

    return make


@pytest.mark.parametrize(
    ("name", "opset"), [(TINY, 17), (TINY, 18), (TINY, 20), (TINY, 21), (TINY_POSI, 17), (TINY_POSI, 18)]
)
def test_log_probs_agree_at_other_batch_sizes_and_lengths(exported, golden, rng, name, opset):
    path, report = exported(name, "powerset", opset)
    assert report.agreement.max_abs_diff < 1e-4
    assert report.agreement.flips == 0
    (version,) = (entry.version for entry in onnx.load(path).opset_import if entry.domain == "")
    assert version == opset
    source, file = load_runtime(f"torch:{golden / name}"), load_runtime(f"onnx:{path}?threads=1")
    for num_samples in LENGTHS:
        waveforms = (0.1 * rng.standard_normal((2, num_samples))).astype(np.float32)
        np.testing.assert_allclose(file.segment(waveforms), source.segment(waveforms), atol=1e-4)


@pytest.mark.parametrize(("name", "opset"), [(TINY, 17), (TINY, 18), (TINY_POSI, 20)])
def test_the_hard_head_is_the_argmax_of_the_soft_head_on_every_frame(exported, rng, name, opset):
    path, _ = exported(name, "multilabel", opset)
    file = load_runtime(f"onnx:{path}")
    waveforms = (0.1 * rng.standard_normal((3, 50001))).astype(np.float32)
    stages = file.stages(waveforms)
    expected = to_multilabel(stages["log_probs"], file.geometry.powerset)
    np.testing.assert_array_equal(stages["multilabel"], expected)
    np.testing.assert_array_equal(file.decide(waveforms), expected)
    with pytest.raises(InputError, match="the graph ends in hard decisions"):
        file.segment(waveforms)


def test_ties_go_to_the_lowest_class(golden, tmp_path):
    model = load_model(golden / TINY)
    with torch.no_grad():
        model.network.classifier.weight.zero_()
        model.network.classifier.bias.zero_()
        model.network.classifier.bias[1:3] = 1  # classes {0} and {1}
    export_model(model, tmp_path / "tied.onnx", output="multilabel")
    decided = load_runtime(f"onnx:{tmp_path / 'tied.onnx'}").decide(np.zeros((1, 16000)))
    assert (decided == [1, 0, 0, 0]).all()


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_embeddings_agree_for_any_number_of_speakers_and_frames(exported, golden, rng, opset):
    path, _ = exported(EMBEDDING, "embedding", opset)
    source, file = load_runtime(f"torch:{golden / EMBEDDING}"), load_runtime(f"onnx:{path}?threads=1")
    for batch, num_speakers, num_frames, num_samples in [
        (1, 1, 1, 400),
        (2, 4, 399, 32000),
        (3, 2, 801, 20077),
    ]:
        waveforms = (0.1 * rng.standard_normal((batch, num_samples))).astype(np.float32)
        masks = (rng.random((batch, num_speakers, num_frames)) > 0.5).astype(np.float32)
        masks[0, 0] = 0  # all-zero masks are common, and must stay finite
        embeddings = file.embed(waveforms, masks)
        assert np.isfinite(embeddings).all()
        np.testing.assert_allclose(embeddings, source.embed(waveforms, masks), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # what the exporter thinks of itself
def test_masks_are_resampled_as_torch_does_at_every_ratio(tmp_path, golden):
    """The pooling picks mask frames by a float32 product; both runtimes must round it alike."""
    import onnxruntime

    class Resample(torch.nn.Module):
        def forward(self, features, weights):
            return resample_nearest(weights, features.shape[-1])

    path = tmp_path / "resample.onnx"
    inputs = (torch.zeros(1, 1, 25), torch.rand(1, 1, 99))
    torch.onnx.export(
        Resample().eval(),
        inputs,
        str(path),
        dynamo=False,
        opset_version=18,
        input_names=["features", "weights"],
        dynamic_axes={"features": {2: "t"}, "weights": {2: "m"}},
    )
    session = onnxruntime.InferenceSession(str(path))
    for num_frames in (1, 2, 7, 25, 63, 100, 125, 200, 375):
        for num_given in (1, 2, 99, 399, 471, 499, 589, 799, 801, 1001):
            weights = np.arange(num_given, dtype=np.float32)[None, None]
            (found,) = session.run(
                None, {"features": np.zeros((1, 1, num_frames), np.float32), "weights": weights}
            )
            reference = torch.nn.functional.interpolate(
                torch.from_numpy(weights), size=num_frames, mode="nearest"
            )
            np.testing.assert_array_equal(found, reference.numpy(), err_msg=f"{num_given} -> {num_frames}")


def test_the_file_says_what_it_is_and_nothing_of_this_machine(exported, golden):
    path, report = exported(TINY, "powerset")
    model = onnx.load(path)
    fields = {entry.key: entry.value for entry in model.metadata_props}
    source = load_model(golden / TINY)
    geometry = geometry_to_json(source.geometry)
    assert fields["kind"], fields["output"] == ("segmentation", "powerset")
    assert fields["sample_rate"] == "16000"
    assert json.loads(fields["powerset"]) == geometry.pop("powerset")
    assert json.loads(fields["geometry"]) == geometry
    assert fields["source_digest"] == source.digest
    assert fields["workbench_version"] == workbench.__version__
    content = path.read_bytes()
    assert len(content) == report.num_bytes
    for trace in (b"site-packages", str(golden.parent).encode(), b".py"):
        assert trace not in content
    axes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert axes == {"waveforms": ["batch", 1, "samples"], "log_probs": ["batch", "frames", 11]}


def test_embedding_metadata_holds_the_front_end(exported):
    path, _ = exported(EMBEDDING, "embedding")
    model = onnx.load(path)
    fields = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(fields["fbank"])["num_mel_bins"] == 80
    assert [value.name for value in model.graph.input] == ["fbank", "weights"]
    assert [value.name for value in model.graph.output] == ["embeddings"]


def perturb(monkeypatch, name_part: str):
    """Make every export come out with one tensor changed."""

    def write(graph, path, opset):
        write_graph(graph, path, opset)
        model = onnx.load(str(path))
        (tensor,) = (t for t in model.graph.initializer if t.name.endswith(name_part))
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.flat[-1] += 1
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        onnx.save(model, str(path))

    monkeypatch.setattr(export_module, "write_graph", write)


@pytest.mark.parametrize(
    ("name", "output", "tensor", "problem"),
    [
        (TINY, "powerset", "classifier.bias", "the largest difference is"),
        (TINY, "multilabel", "mapping", "hard decisions are not the best class"),
        (EMBEDDING, "embedding", "seg_1.bias", "the largest difference is 1, above the limit"),
    ],
)
def test_a_file_that_disagrees_is_not_left_behind(
    golden, tmp_path, monkeypatch, name, output, tensor, problem
):
    perturb(monkeypatch, tensor)
    path = tmp_path / "wrong.onnx"
    with pytest.raises(ExportError, match=problem):
        export_onnx(f"torch:{golden / name}", path, output=output)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_puts_out_nan_is_not_left_behind(golden, tmp_path):
    model = load_model(golden / TINY)
    with torch.no_grad():
        model.network.classifier.bias[0] = float("nan")
    with pytest.raises(ExportError, match="the largest difference is inf"):
        export_model(model, tmp_path / "nan.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "arguments", "problem"),
    [
        ("onnx:m.onnx", {}, "only torch: models can be exported"),
        (
            f"torch:{TINY}",
            {"output": "embedding"},
            "is a segmentation model, but an embedding model is needed",
        ),
        (
            f"torch:{EMBEDDING}",
            {"output": "powerset"},
            "is an embedding model, but a segmentation model is needed",
        ),
        (f"torch:{TINY}", {"output": "powersets"}, r"output must be one of .*, did you mean 'powerset'\?"),
        (f"torch:{TINY}", {"opset": 16}, "opset must be 17 to 23, got 16"),
        (f"torch:{TINY}?threads=1", {}, "options do not change an export; leave out threads"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(golden, tmp_path, spec, arguments, problem):
    with pytest.raises(InputError, match=problem):
        export_onnx(spec.replace("torch:", f"torch:{golden}/"), tmp_path / "m.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_real_audio_is_decided_alike(exported, golden, shared_data):
    """No frame of the AMI excerpts flips, and what differs is float rounding."""
    path, _ = exported(TINY, "powerset")
    source, file = load_runtime(f"torch:{golden / TINY}"), load_runtime(f"onnx:{path}?threads=1")
    for recording in sorted((shared_data / "ami").glob("*.flac"))[:4]:
        waveform = read_audio(recording)
        chunks = np.stack([waveform[start : start + 128000] for start in (0, 120000, 240000)])
        expected, found = source.segment(chunks), file.segment(chunks)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found.argmax(axis=-1), expected.argmax(axis=-1))


def test_verification_can_use_real_audio(golden, shared_data, tmp_path):
    waveform = read_audio(shared_data / "ami" / "trn00.flac")
    report = export_onnx(f"torch:{golden / TINY}", tmp_path / "m.onnx", waveforms=[waveform])
    assert report.agreement.real_audio
    assert {batch for batch, _ in report.agreement.inputs} == {1, 3}
    assert len({samples for _, samples in report.agreement.inputs}) >= 4


def test_more_weights_than_one_file_holds_are_refused_before_tracing(tiny_hub, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.export.MOST_BYTES", 1000)
    with pytest.raises(ExportError, match="less than 2 GB"):
        export_onnx(f"torch:{tiny_hub}", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
