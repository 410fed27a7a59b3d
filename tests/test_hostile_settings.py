"""Settings and weights that would take all memory, run for ever, or end in another error than ours."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
import torch
from experiments import make_experiment

from workbench.audio import find_recordings
from workbench.checkpoints import load_model
from workbench.checkpoints.experiment import ExperimentDir
from workbench.errors import InputError
from workbench.runtimes import load_runtime
from workbench.tomlfiles import read_toml
from workbench.training import read_training

DEEP = "[" * 20_000


@pytest.fixture
def hub(tiny_hub, tmp_path):
    return shutil.copytree(tiny_hub, tmp_path / "hub")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"a = {DEEP}".encode(), "nested too deeply"),
        (b"a = " + b"9" * 6000, "is not valid TOML: Exceeds the limit"),
        ('a = "é"'.encode("latin-1"), "is not valid TOML: 'utf-8' codec"),
        ("a = 1".encode("utf-16"), "is not valid TOML"),
        (b"#" * (1 << 21), "far more than settings in TOML need"),
    ],
)
def test_a_toml_that_is_none_is_an_input_error(tmp_path, content, problem):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_toml(path)


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(path) == {"a": 1}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("attention_in", 10**13, "attention_in must be a whole number of at most"),
        ("attention_in", 10**6, r"of another shape: .* expected \(1000000"),
        ("num_layer", 10**9, "num_layer must be a whole number of at most 256"),
        ("ffn_hidden", 10**6, "of another shape"),
        ("max_speakers_per_chunk", 10**6, "max_speakers_per_chunk must be a whole number of at most 64"),
        ("n_fft", 10**6, "n_fft must be a whole number of at most 4096"),
        ("win_length", 26, "win_length at most n_fft"),
        ("hop_length", 10**6, None),
        ("dropout", 7.0, "dropout must be a number that is not negative and at most 1"),
    ],
)
def test_absurd_sizes_end_in_an_error_and_not_in_all_memory(hub, key, value, problem):
    config = hub / "config.toml"
    lines = [
        f"{key} = {value}" if line.startswith(f"{key} =") else line
        for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines))
    if problem is None:  # odd, but it can be built
        assert load_model(hub).kind == "segmentation"
        return
    with pytest.raises(InputError, match=problem):
        load_model(hub)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensor: tensor.to_sparse(), "is stored as sparse_coo float32"),
        (lambda tensor: tensor.to(torch.complex64), "complex64; expected plain real numbers"),
        (lambda tensor: tensor.to("meta"), "on the device meta"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_refused(hub, change, problem):
    path = hub / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    state["classifier.weight"] = change(state["classifier.weight"])
    torch.save(state, path)
    with pytest.raises(InputError, match=problem):
        load_model(hub)


def test_half_and_double_precision_weights_are_read(hub):
    path = hub / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    torch.save(
        {key: value.double() if value.is_floating_point() else value for key, value in state.items()}, path
    )
    torch.testing.assert_close(dict(load_model(hub).network.state_dict()), state, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("lstm.weight_hh_l100000000", torch.ones(1)),
        ("linear.100000000.weight", torch.ones(1)),
        ("lstm.weight_hh_l0", torch.ones(1).expand(4, 10**9)),
        ("lstm.weight_hh_l0", torch.ones(4, 0)),
    ],
)
def test_absurd_tensors_of_a_pyannet_are_refused(golden, tmp_path, key, tensor):
    content = torch.load(golden / "pyannet_tiny" / "pytorch_model.bin", weights_only=True)
    state = dict(content.get("state_dict", content)) | {key: tensor}
    torch.save({"state_dict": state, "hyper_parameters": None}, tmp_path / "model.bin")
    with pytest.raises(InputError, match=r"do not fit the network|cannot be built"):
        load_model(tmp_path / "model.bin")


def test_deep_yaml_and_empty_convolutions_of_wespeaker_are_refused(golden, tmp_path):
    folder = shutil.copytree(golden / "wespeaker_resnet_tiny", tmp_path / "model")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(f"a: {DEEP}")
    with pytest.raises(InputError, match="nested too deeply"):
        load_model(folder)
    (folder / "config.yaml").write_text(config)
    content = torch.load(folder / "avg_model.pt", weights_only=True)
    state = dict(content.get("state_dict", content)) | {"conv1.weight": torch.ones(0, 0, 0, 0)}
    torch.save(state, folder / "avg_model.pt")
    with pytest.raises(InputError, match="is not a ResNet speaker model"):
        load_model(folder)


@pytest.mark.parametrize(
    ("kind", "field", "value", "problem"),
    [
        ("segmentation", "min_num_samples", "-5", "min_num_samples must be at least 1, found -5"),
        ("segmentation", "min_num_samples", DEEP, "nested too deeply"),
        ("segmentation", "min_num_samples", "9" * 5000, "min_num_samples is not valid JSON"),
        ("segmentation", "stages", '{"proj": 5}', "stages must name a tensor"),
        ("segmentation", "powerset", "[[], [0]]", "puts out 11 numbers per frame, .* has 2 classes"),
        ("embedding", "min_frames", "0", "min_frames must be at least 1"),
        ("embedding", "masks", "frames", "has an input 'weights' that nothing is known about"),
        ("embedding", "fbank", '{"num_mel_bins": "x"}', "fbank num_mel_bins must be a number"),
        ("embedding", "fbank", '{"num_mel_bins": 1000000000}', "num_mel_bins must be a"),
        ("embedding", "fbank", '{"sample_rate": 0}', "must have 2 to 16384 samples"),
        ("embedding", "fbank", '{"frame_shift": 0}', "start at least one sample apart"),
        ("embedding", "fbank", '{"low_hz": 9000}', "low_hz must lie below half the sample rate"),
    ],
)
def test_onnx_metadata_of_wrong_types_or_sizes_is_refused(tiny_hub, tmp_path, kind, field, value, problem):
    model = onnx.load(str(tiny_hub / "onnx" / f"{kind}.onnx"))
    fields = {entry.key: entry.value for entry in model.metadata_props} | {field: value}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, fields)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(InputError, match=problem):
        load_runtime(f"onnx:{tmp_path / 'model.onnx'}")


def test_a_powerset_of_millions_of_classes_is_refused_before_it_is_made(tiny_hub, tmp_path):
    model = onnx.load(str(tiny_hub / "onnx" / "segmentation.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "model.onnx"))
    (tmp_path / "model.toml").write_text(
        'kind = "segmentation"\nnum_speakers = 30\nmax_set_size = 15\nchunk_duration = 8.0\n'
        "frame_step = 0.01\n"
    )
    with pytest.raises(InputError, match="makes more than 4096 classes"):
        load_runtime(f"onnx:{tmp_path / 'model.onnx'}")


def test_weights_in_a_file_beside_the_model_change_nothing_to_any_stage(tiny_hub, tmp_path, rng):
    one_file = tiny_hub / "onnx" / "segmentation.onnx"
    path = tmp_path / "model.onnx"
    onnx.save_model(
        onnx.load(str(one_file)),
        str(path),
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    assert (tmp_path / "model.data").stat().st_size > 10_000
    waveforms = (0.1 * rng.standard_normal((2, 32077))).astype(np.float32)
    expected, found = (load_runtime(f"onnx:{file}").stages(waveforms) for file in (one_file, path))
    assert list(found) == list(expected)
    assert len(found) > 3
    for stage in expected:
        np.testing.assert_array_equal(found[stage], expected[stage])


def test_epochs_whose_loss_is_no_number_are_the_last_choice(tiny_hub, tmp_path):
    folder = make_experiment(tmp_path / "experiment", tiny_hub)
    losses = ((1, "nan"), (2, "0.6"), (3, "0.5"))
    lines = (f" Validation Loss/DER on epoch {epoch}: {loss} / 0.2\n" for epoch, loss in losses)
    (folder / "val_metric_summary.lst").write_text("".join(lines))
    assert ExperimentDir(folder).select_epochs(2) == [3, 2]
    record = read_training(folder)
    assert record.average_order() == (3, 2, 1)
    assert record.best_epoch == 3


def test_an_epoch_no_training_reaches_is_a_malformed_line(tiny_hub, tmp_path):
    folder = make_experiment(tmp_path / "experiment", tiny_hub)
    (folder / "val_metric_summary.lst").write_text(f" Validation Loss/DER on epoch {10**30}: 0.5 / 0.2\n")
    with pytest.raises(InputError, match=r"val_metric_summary\.lst:1: expected"):
        read_training(folder)


def test_bytes_are_no_paths_of_recordings():
    with pytest.raises(InputError, match="the path of a recording"):
        find_recordings(b"x")
