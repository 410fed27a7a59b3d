"""ONNX files of other programs, described once by a TOML beside them."""

from __future__ import annotations

import shutil
import tomllib

import numpy as np
import onnx
import pytest
import torch

from workbench.checkpoints import load_model
from workbench.errors import InputError
from workbench.runtimes import load_runtime

SEGMENTATION = """\
kind = "segmentation"
input = "input_values"
output = "logits"
num_speakers = 3
max_set_size = 2
chunk_duration = 10.0
frame_step = 0.016875
frame_duration = 0.0619375
min_num_samples = 1261
"""
EMBEDDING = """\
kind = "embedding"
input = "feats"
output = "embs"
feats = "kaldi-fbank"
mean_normalised = true
min_frames = 9
"""


class Foreign(torch.nn.Module):
    """A network as another program might export it."""

    def __init__(self, network, form):
        super().__init__()
        self.network, self.form = network, form

    def forward(self, x):
        y = self.network(x[:, None] if "flat" in self.form else x)
        if "transposed" in self.form:
            y = y.transpose(1, 2)
        return y.exp() if "probs" in self.form else 3 + y if "logits" in self.form else y


def write(path, network, example, names, form="", batch="batch"):
    axes = {
        names[0]: {example.ndim - 1 if names[0] == "input_values" else 1: "time"},
        names[1]: {1: "frames"},
    }
    if names[1] == "embs":
        axes.pop("embs")
    if batch:
        for name in names:
            axes.setdefault(name, {})[0] = batch
    torch.onnx.export(
        Foreign(network, form).eval(),
        (example,),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes=axes,
    )
    return path


@pytest.fixture(scope="module")
def segmentation(golden, tmp_path_factory):
    """`make(form, batch)` writes a segmentation-3.0-like file once."""
    folder, made = tmp_path_factory.mktemp("foreign"), {}
    network = load_model(golden / "pyannet_tiny").network

    def make(form="", batch="batch"):
        if (form, batch) not in made:
            example = torch.randn(1, 16000) if "flat" in form else torch.randn(1, 1, 16000)
            made[form, batch] = write(
                folder / f"{len(made)}.onnx", network, example, ("input_values", "logits"), form, batch
            )
        return made[form, batch]

    return make


@pytest.fixture(scope="module")
def embedding(golden, tmp_path_factory):
    """A WeSpeaker export: `feats`, batch of 1."""
    path = tmp_path_factory.mktemp("wespeaker") / "model.onnx"
    network = load_model(golden / "wespeaker_resnet_tiny").network.resnet
    return write(path, network, torch.randn(1, 200, 80), ("feats", "embs"), batch=None)


def described(tmp_path, file, text):
    path = tmp_path / "model.onnx"
    shutil.copy(file, path)
    path.with_suffix(".toml").write_text(text)
    return path


pytestmark = pytest.mark.filterwarnings("ignore")  # what the exporter thinks of itself


@pytest.mark.parametrize(
    ("form", "batch", "extra"),
    [
        ("", "batch", ""),
        ("", None, "max_batch = 1\n"),
        ("", None, ""),
        ("flat", "batch", 'input_axes = ["batch", "time"]\n'),
        ("transposed", "batch", 'output_axes = ["batch", "class", "time"]\n'),
        ("probs", "batch", 'values = "probs"\n'),
        ("logits", "batch", 'values = "logits"\n'),
    ],
)
def test_a_described_segmentation_file_is_a_full_runtime(
    segmentation, golden, tmp_path, rng, form, batch, extra
):
    path = described(tmp_path, segmentation(form, batch), SEGMENTATION + extra)
    source, file = load_runtime(f"torch:{golden / 'pyannet_tiny'}"), load_runtime(f"onnx:{path}")
    assert file.geometry == source.geometry
    waveforms = (0.1 * rng.standard_normal((3, 40077))).astype(np.float32)
    np.testing.assert_allclose(file.segment(waveforms), source.segment(waveforms), atol=1e-3)
    assert file.decide(waveforms).shape == (*file.segment(waveforms).shape[:2], 3)
    assert list(file.stages(waveforms)) == ["log_probs"]


def test_a_batch_that_is_part_of_the_graph_is_kept_to(segmentation, tmp_path, rng):
    folders = [tmp_path / name for name in ("any", "four")]
    for folder in folders:
        folder.mkdir()
    any_batch, fixed = (described(folder, segmentation(), SEGMENTATION) for folder in folders)
    graph = onnx.load(fixed)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(graph, fixed)
    waveforms = rng.normal(0, 0.1, (6, 16000)).astype(np.float32)
    found = load_runtime(f"onnx:{fixed}").segment(waveforms)
    expected = load_runtime(f"onnx:{any_batch}").segment(waveforms)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_described_wespeaker_file_picks_frames_by_masks(embedding, golden, tmp_path, rng):
    path = described(tmp_path, embedding, EMBEDDING + "max_batch = 1\n")
    source, file = load_runtime(f"torch:{golden / 'wespeaker_resnet_tiny'}"), load_runtime(f"onnx:{path}")
    assert file.min_num_samples == 1680
    waveforms = (0.1 * rng.standard_normal((2, 24077))).astype(np.float32)
    np.testing.assert_allclose(file.embed(waveforms), source.embed(waveforms), rtol=1e-3, atol=1e-4)
    masks = np.zeros((2, 3, 100), dtype=np.float32)
    masks[:, 0, 20:80] = masks[:, 1] = 1
    masks[0, 2, :3] = 1  # fewer frames than the model needs
    several = file.embed(waveforms, masks)
    np.testing.assert_allclose(several[:, 1], source.embed(waveforms), rtol=1e-3, atol=1e-4)
    assert np.isnan(several[:, 2]).all()
    assert np.isfinite(several[:, 0]).all()
    assert np.abs(several[:, 0] - several[:, 1]).max() > 1e-3


def test_without_a_description_the_error_has_one_to_fill_in(segmentation, embedding, tmp_path):
    for kind, file in (("segmentation", segmentation()), ("embedding", embedding)):
        path = tmp_path / f"{kind}.onnx"
        shutil.copy(file, path)
        with pytest.raises(InputError) as caught:
            load_runtime(f"onnx:{path}")
        message = str(caught.value)
        assert f"describe it once in {path.with_suffix('.toml')}" in message
        suggested = message[message.index("kind =") :]
        assert tomllib.loads(suggested)["kind"] == kind
        path.with_suffix(".toml").write_text(suggested)
        assert load_runtime(f"onnx:{path}").kind == kind  # the suggestion is usable as it stands


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kind = "segmentation"', 'kind = "diarization"', "kind must be one of segmentation, embedding"),
        ("frame_step", "frame_stepp", "unknown key 'frame_stepp', did you mean 'frame_step'"),
        ("frame_step = 0.016875", "frame_step = true", "frame_step must be a number, found True"),
        ("chunk_duration = 10.0", "", "chunk_duration must be a number, found None"),
        ("num_speakers = 3", "num_speakers = 0", "num_speakers must be a whole number of at least 1"),
        ("max_set_size = 2", "max_set_size = 4", "max_set_size 4 of num_speakers 3 makes no powerset"),
        ('input = "input_values"', 'input = "input"', "has no input 'input'.*it has input_values"),
        ('output = "logits"', 'output = "y"', "has no output 'y'; it has logits"),
        ("num_speakers", 'output_axes = ["time", "class"]\nnum_speakers', "output_axes must order the axes"),
        ("kind", "[kind", "is not valid TOML"),
    ],
)
def test_a_description_that_is_wrong_names_the_key(segmentation, tmp_path, old, new, problem):
    assert old in SEGMENTATION
    path = described(tmp_path, segmentation(), SEGMENTATION.replace(old, new, 1))
    with pytest.raises(InputError, match=problem):
        load_runtime(f"onnx:{path}")


def test_a_files_own_metadata_wins_over_a_toml(tiny_hub, tmp_path):
    path = described(tmp_path, tiny_hub / "onnx" / "segmentation.onnx", "nonsense = 1\n")
    assert load_runtime(f"onnx:{path}").geometry.chunk_duration == 2
    assert {entry.key for entry in onnx.load(path).metadata_props} >= {"kind", "geometry"}
