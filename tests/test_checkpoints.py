"""Checkpoint selection, averaging, and every way in which a checkpoint can be unusable."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.checkpoints import ExperimentDir, load_model
from workbench.checkpoints.weights import average, read_state_dict
from workbench.errors import InputError

TINY = """\
[model]
path = "diarizen.models.eend.model_fbank_conformer.Model"

[model.args]
attention_in = 8
ffn_hidden = 8
num_head = 2
num_layer = 1
kernel_size = 3
max_speakers_per_chunk = 2
"""
EMBEDDING_FILE = Path("hub_tiny/embedding/pytorch_model.bin")


@pytest.fixture
def experiment(tmp_path) -> Path:
    """An experiment directory with two epochs of random weights."""
    folder = tmp_path / "exp"
    folder.mkdir()
    (folder / "config__2026_01_01--00_00_00.toml").write_text(TINY)
    from workbench.checkpoints.segmentation import read_config

    for epoch in (1, 2):
        torch.manual_seed(epoch)
        network = read_config(folder / "config__2026_01_01--00_00_00.toml").build()
        target = folder / "checkpoints" / f"epoch_{epoch:04d}"
        target.mkdir(parents=True)
        torch.save(network.state_dict(), target / "pytorch_model.bin")
    shutil.copytree(folder / "checkpoints" / "epoch_0002", folder / "checkpoints" / "best")
    return folder


@pytest.fixture
def hub(experiment, tmp_path) -> Path:
    """A hub-layout folder without an embedding model, as published ones are."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.toml").write_text(
        TINY + "[inference.args]\nseg_duration = 16\nsegmentation_step = 0.2\n"
    )
    shutil.copy(experiment / "checkpoints" / "best" / "pytorch_model.bin", folder)
    return folder


def weights_of(experiment: Path, name: str = "best") -> Path:
    return experiment / "checkpoints" / name / "pytorch_model.bin"


def edit_state(path: Path, edit) -> None:
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


# --- choosing and averaging ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["fbank_conformer_tiny", "fbank_conformer_tiny_posi", "wavlm_conformer_tiny"]
)
def test_epochs_are_chosen_as_diarizen_chooses_them(golden, name):
    chosen = json.loads((golden / name / "io.json").read_text())["averaged_epochs"]
    experiment = ExperimentDir(golden / name)
    for key, epochs in chosen.items():
        rule = key.removesuffix("_DER").rstrip("0123456789")
        number = int(key.removesuffix("_DER").removeprefix(rule))
        metric = "DER" if key.endswith("_DER") else "Loss"
        assert experiment.select_epochs(number, rule, metric) == epochs, key


def test_averages_are_those_of_diarizen_to_the_last_bit(golden):
    folder = golden / "fbank_conformer_tiny"
    io = np.load(folder / "io.npz")
    state = load_model(folder, "avg:2").network.state_dict()
    keys = [key for key in io.files if key.startswith("avg_best2_state/")]
    assert len(keys) == 4
    for key in keys:
        np.testing.assert_array_equal(state[key.removeprefix("avg_best2_state/")].numpy(), io[key])


def test_ties_keep_the_order_of_the_log_and_the_sum_follows_it(tmp_path):
    (tmp_path / "val_metric_summary.lst").write_text(
        "".join(
            f" Validation Loss/DER on epoch {n}: {loss} / 0.5\n"
            for n, loss in [(1, 0.9), (2, 0.7), (3, 0.7), (4, 0.8)]
        )
    )
    experiment = ExperimentDir(tmp_path)
    assert experiment.select_epochs(3) == [2, 3, 4]
    assert experiment.select_epochs(2, "prev") == [1, 2]
    assert experiment.select_epochs(3, "center") == [1, 2, 3]


@pytest.mark.parametrize(("number", "rule"), [(5, "best"), (3, "prev"), (5, "center"), (2, "center")])
def test_a_rule_that_finds_fewer_epochs_is_refused(golden, number, rule):
    with pytest.raises(InputError, match=f"cannot average {number} epochs by the rule '{rule}'"):
        ExperimentDir(golden / "fbank_conformer_tiny").select_epochs(number, rule)


def test_without_a_summary_the_largest_log_is_read(golden, tmp_path):
    source = golden / "fbank_conformer_tiny"
    (log,) = source.glob("*.log")
    shutil.copy(log, tmp_path / "run.log")
    (tmp_path / "old.log").write_text("[time]: started\n")
    assert ExperimentDir(tmp_path).scores() == ExperimentDir(source).scores()


def test_a_malformed_summary_names_its_line(tmp_path):
    (tmp_path / "val_metric_summary.lst").write_text(" Validation Loss/DER on epoch 1: 0.8 / 0.4\nnonsense\n")
    with pytest.raises(InputError, match=r"val_metric_summary\.lst:2: expected .* found 'nonsense'"):
        ExperimentDir(tmp_path).scores()


def test_the_newest_config_counts(experiment):
    newer = experiment / "config__2026_02_01--00_00_00.toml"
    newer.write_text(TINY + "chunk_size = 11\n")
    model = load_model(experiment)
    assert model.config == newer
    assert model.geometry.chunk_duration == 11


def test_average_truncates_counters_and_divides_once():
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(1)},
        {"w": torch.tensor([2.0, 4.0]), "n": torch.tensor(2)},
    ]
    mean = average(states)
    assert mean["w"].tolist() == [1.5, 3.0]
    assert (mean["n"].item(), mean["n"].dtype) == (1, torch.int64)


# --- what is chosen where -----------------------------------------------------------------------


def test_a_hub_config_decides_the_chunks(hub):
    geometry = load_model(hub).geometry
    assert (geometry.chunk_duration, geometry.chunk_step) == (16.0, 0.2 * 16.0)


def test_a_hub_serves_as_either_model(golden):
    assert load_model(golden / "hub_tiny", kind="embedding").kind == "embedding"


def test_a_hub_without_embedding_model_says_where_to_get_one(hub):
    with pytest.raises(InputError, match="pyannote/wespeaker-voxceleb-resnet34-LM"):
        load_model(hub, kind="embedding")


@pytest.mark.parametrize("kernel", ["present", "absent"])
def test_the_unused_speechbrain_buffer_may_be_absent(experiment, kernel):
    if kernel == "absent":
        edit_state(weights_of(experiment), lambda state: state.pop("make_feats.compute_deltas.kernel"))
    assert load_model(experiment).kind == "segmentation"


def test_a_model_of_the_other_kind_is_refused(experiment, golden):
    with pytest.raises(InputError, match="is a segmentation model, but an embedding model is needed"):
        load_model(experiment, kind="embedding")
    with pytest.raises(InputError, match="is an embedding model, but a segmentation model is needed"):
        load_model(golden / EMBEDDING_FILE, kind="segmentation")


def test_digests_tell_checkpoints_apart(experiment):
    digests = {load_model(experiment, name).digest for name in ("epoch_0001", "epoch_0002", "best")}
    assert len(digests) == 2  # best is epoch 2


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checkpoint", "problem"),
    [
        (
            "epoch_0003",
            r"'epoch_0003', did you mean 'epoch_000.'\?; there are best, epoch_0001, epoch_0002",
        ),
        ("bset", r"did you mean 'best'"),
        ("../best", r"no checkpoint '\.\./best'"),
        ("avg:0", "expected avg:N"),
        ("avg:two", "expected avg:N"),
        ("avg:2", "val_metric_summary.lst"),
    ],
)
def test_an_unknown_checkpoint_names_those_there_are(experiment, checkpoint, problem):
    with pytest.raises(InputError, match=problem):
        load_model(experiment, checkpoint)


def test_keys_that_do_not_fit_are_named_first_ones_first(experiment):
    def edit(state):
        state["classifier.wieght"] = state.pop("classifier.weight")
        state["proj.weight"] = torch.zeros(9, 80)

    edit_state(weights_of(experiment), edit)
    with pytest.raises(InputError) as caught:
        load_model(experiment)
    message = str(caught.value)
    assert message.startswith(str(weights_of(experiment)))
    assert "config__2026_01_01--00_00_00.toml" in message
    assert "1 missing: classifier.weight" in message
    assert "1 unexpected: classifier.wieght" in message
    assert "proj.weight is (9, 80), expected (8, 80)" in message


class Launcher:
    """Unpickling this without care would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_code_is_refused_and_not_run(experiment, tmp_path):
    marker = tmp_path / "marker"
    torch.save({"state_dict": Launcher(marker)}, weights_of(experiment))
    with pytest.raises(InputError, match=r"pytorch_model\.bin: holds the Python object \S+, .* refused"):
        load_model(experiment)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1, 2], "is not a state dict: expected tensors by name, found a list"),
        ({}, "is not a state dict: it is an empty dict"),
        ({"weight": 3}, "expected tensors by name, found an int under 'weight'"),
        ({"state": {}, "param_groups": []}, "expected tensors by name, found a dict under 'state'"),
    ],
)
def test_a_file_that_is_no_state_dict_says_what_it_is(tmp_path, content, problem):
    torch.save(content, tmp_path / "weights.bin")
    with pytest.raises(InputError, match=problem):
        read_state_dict(tmp_path / "weights.bin")


def test_damaged_files_are_refused(experiment, tmp_path):
    whole = weights_of(experiment).read_bytes()
    for name, content in {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not weights at all\n",
        "pickle": pickle.dumps({"a": 1}),
    }.items():
        path = tmp_path / f"{name}.bin"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.bin: (is|holds)"):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("model]\n", "modle]\n", r"\[model\] needs path"),
        (TINY, "[inference.args]\n", r"needs a table \[model\]"),
        ("path =", "pth =", r"\[model\] needs path"),
        ("model_fbank_conformer", "model_fbank", r"unknown architecture .* known are diarizen\.models"),
        ("ffn_hidden", "ffn_hiden", r"unknown key 'ffn_hiden', did you mean 'ffn_hidden'\?"),
        ("ffn_hidden", "max_speakers_per_frame", "unknown key 'max_speakers_per_frame'"),
        ("num_head = 2", 'num_head = "two"', "num_head must be a whole number of at least 1, found 'two'"),
        ("num_head = 2", "num_head = 0", "num_head must be a whole number of at least 1, found 0"),
        ("num_head = 2", "num_head = 3", "attention_in must be a multiple of num_head"),
        ("kernel_size = 3", "kernel_size = 4", "kernel_size must be odd"),
        (
            "num_layer = 1",
            'output_activate_function = "Softsign"',
            "output_activate_function must be false or one of",
        ),
        ("num_layer = 1", "use_posi = 1", "use_posi must be true or false"),
        ("[model]", "[model", "is not valid TOML"),
    ],
)
def test_a_config_that_describes_no_network_names_the_key(experiment, old, new, problem):
    config = experiment / "config__2026_01_01--00_00_00.toml"
    config.write_text(TINY.replace(old, new, 1))
    with pytest.raises(InputError, match=problem) as caught:
        load_model(experiment)
    assert str(caught.value).startswith(str(config))


def test_missing_files_are_named(experiment, hub, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(InputError, match="is no model this program knows"):
        load_model(tmp_path / "void")
    (hub / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"hub/pytorch_model\.bin: no such file"):
        load_model(hub)
    next(experiment.glob("*.toml")).unlink()
    with pytest.raises(InputError, match=r"holds no config__\*\.toml"):
        load_model(experiment)


def test_a_checkpoint_of_what_has_none_is_refused(hub):
    with pytest.raises(InputError, match="@best means nothing here"):
        load_model(hub, "best")


def test_segmentation_weights_are_no_embedding_model(experiment):
    with pytest.raises(InputError, match=r"no key starts with 'resnet\.'.*torch:EXPERIMENT@epoch_0010"):
        load_model(weights_of(experiment), kind="embedding")


def wespeaker_copy(golden: Path, tmp_path: Path, old: str, new: str) -> Path:
    folder = tmp_path / "wespeaker"
    folder.mkdir()
    shutil.copy(golden / "wespeaker_resnet_tiny" / "avg_model.pt", folder)
    config = (golden / "wespeaker_resnet_tiny" / "config.yaml").read_text()
    assert old in config
    (folder / "config.yaml").write_text(config.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("model: ResNet34", "model: ResNet35", "unknown model 'ResNet35'"),
        ("model: ResNet34", "model: ResNet18", "the weights do not fit .* unexpected: resnet.layer1.2"),
        ("pooling_func: TSTP", "pooling_func: MQMHASTP", "pooling_func must be TSTP"),
        ("embed_dim: 48", "embed_dim: 64", "embed_dim is 64, but the weights"),
        ("dataset_args:", "dataset_args:\n  frontend: s3prl", "frontend must be fbank, found 's3prl'"),
        ("model_args:", "model_args: [", "is not valid YAML"),
    ],
)
def test_a_wespeaker_config_that_does_not_fit_names_the_key(golden, tmp_path, old, new, problem):
    with pytest.raises(InputError, match=problem):
        load_model(wespeaker_copy(golden, tmp_path, old, new))


def test_embedding_weights_that_are_no_resnet_name_what_is_missing(golden, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    shutil.copy(golden / EMBEDDING_FILE, path)
    edit_state(path, lambda content: content["state_dict"].pop("resnet.seg_1.weight"))
    with pytest.raises(InputError, match=r"is not a ResNet speaker model: missing resnet\.seg_1\.weight"):
        load_model(path)


def test_unsupported_front_ends_are_refused(golden, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    for change, problem in [
        ({"window_type": "povey"}, "window_type must be 'hamming', found 'povey'"),
        ({"num_mel_bin": 80}, "unknown hyper_parameters.num_mel_bin, did you mean 'num_mel_bins'"),
        ({"num_mel_bins": 40}, "num_mel_bins is 40, but the weights are for 80"),
        ({"frame_shift": -1}, "frame_shift must be a number above 0"),
    ]:
        shutil.copy(golden / EMBEDDING_FILE, path)
        edit_state(path, lambda content, change=change: content["hyper_parameters"].update(change))
        with pytest.raises(InputError, match=problem):
            load_model(path)
