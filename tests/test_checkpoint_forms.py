"""Forms in which checkpoints arrive: WavLM files and what stands in for them, pyannote, WeSpeaker, hubs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from workbench.checkpoints import load_model
from workbench.checkpoints.wavlm import find_wavlm, read_wavlm_file
from workbench.checkpoints.weights import read_state_dict
from workbench.errors import InputError
from workbench.export import export_onnx
from workbench.models.ecapa_tdnn import ECAPATDNN, ECAPADims
from workbench.models.pyannet import PyanNet, PyanNetDims
from workbench.models.resnet import ResNetDims, WeSpeakerResNet
from workbench.models.wavlm_conformer import WavLMConformer, WavLMConformerDims
from workbench.models.wavlm_presets import PRESETS
from workbench.runtimes import load_runtime

WHOLE, PRUNED = "wavlm_conformer_tiny", "wavlm_conformer_pruned_tiny"


@pytest.fixture
def copy_of(golden, tmp_path):
    """A copy of a golden model's folder that a test may damage."""

    def copy(name: str) -> Path:
        target = tmp_path / Path(name).name
        shutil.copytree(golden / name, target, ignore=shutil.ignore_patterns("optimizer*", "io.*", "*.pkl"))
        for file in [target, *target.rglob("*")]:
            file.chmod(0o755 if file.is_dir() else 0o644)
        return target

    return copy


def config_of(experiment: Path) -> Path:
    (config,) = experiment.glob("config*.toml")
    return config


def edit(path: Path, change) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def log_probs_of(path: Path, golden: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    io = np.load(golden / name / "io.npz")
    return load_runtime(f"torch:{path}@epoch_0001").segment(io["wav_4s"] / np.float32(32768)), io[
        "e1_4s/log_probs"
    ]


# --- what wavlm_src stands for ------------------------------------------------------------------


def test_presets_are_named_in_any_case(tmp_path):
    assert find_wavlm("WavLM_Base_s80_MD", tmp_path / "c.toml") is PRESETS["wavlm_base_s80_md"]


@pytest.mark.parametrize("place", ["experiment", "absolute", "beside", "elsewhere"])
def test_the_wavlm_file_is_found_wherever_it_may_lie(copy_of, golden, tmp_path, monkeypatch, place):
    folder = copy_of(PRUNED)
    file, config = folder / "wavlm_src" / "wavlm_tiny.pt", config_of(folder)
    source = "wavlm_src/wavlm_tiny.pt"
    if place == "absolute":
        source = str(shutil.move(file, tmp_path / "far.pt"))
    elif place == "beside":
        shutil.move(file, folder / "wavlm_tiny.pt")
        source = "/home/someone/on/another/machine/wavlm_tiny.pt"
    elif place == "elsewhere":
        (tmp_path / "cwd" / "wavlm_src").mkdir(parents=True)
        shutil.move(file, tmp_path / "cwd" / source)
        monkeypatch.chdir(tmp_path / "cwd")
    config.write_text(config.read_text().replace("wavlm_src/wavlm_tiny.pt", source))
    found, expected = log_probs_of(folder, golden, PRUNED)
    np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.mark.parametrize("name", [WHOLE, "wavlm_conformer_tiny_large"])
def test_a_whole_model_is_rebuilt_from_its_weights_when_the_file_is_gone(copy_of, golden, name):
    folder = copy_of(name)
    shutil.rmtree(folder / "wavlm_src")
    found, expected = log_probs_of(folder, golden, name)
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_a_pruned_model_whose_file_is_gone_is_refused(copy_of):
    folder = copy_of(PRUNED)
    shutil.rmtree(folder / "wavlm_src")
    with pytest.raises(
        InputError, match=r"of 8 attention heads, but which ones cannot be recovered"
    ) as caught:
        load_model(folder)
    assert str(caught.value).startswith(str(config_of(folder)))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_file_that_is_gone_is_no_loss_where_the_shapes_are_those_of_a_preset(tmp_path, preset):
    with torch.device("meta"):
        state = WavLMConformer(WavLMConformerDims(wavlm=PRESETS[preset])).state_dict()
    assert find_wavlm("/gone/pruned.pt", tmp_path / "c.toml", lambda: state) == PRESETS[preset]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda c: c["config"].update(use_layerwise_prune=True),
            "use_layerwise_prune must be false, found True",
        ),
        (lambda c: c["config"].update(encoder_prune_attention_heads=1), "must be false, found 1"),
        (
            lambda c: c["state_dict"].update({"x.hard_concrete.log_alpha": torch.ones(3)}),
            "holds pruning gates",
        ),
        (lambda c: c["config"].update(encoder_widht=3), "unknown key 'encoder_widht'"),
        (lambda c: c["config"].pop("encoder_embed_dim"), "config lacks encoder_embed_dim"),
        (lambda c: c["config"].update(aux_num_out=32), "aux_num_out must be None"),
        (lambda c: c["config"].update(encoder_num_layers=9), "must have one entry per layer"),
        (lambda c: c["config"]["encoder_remaining_heads"].__setitem__(0, [9]), "numbers from 0 to 7, got"),
        (lambda c: c.pop("config"), "expected a dict with the keys config and state_dict"),
        (lambda c: (c.clear(), c.update(cfg={}, model={})), "Microsoft's release"),
    ],
)
def test_a_wavlm_file_that_cannot_be_used_names_the_key(copy_of, change, problem):
    file = copy_of(PRUNED) / "wavlm_src" / "wavlm_tiny.pt"
    edit(file, change)
    with pytest.raises(InputError, match=problem) as caught:
        read_wavlm_file(file)
    assert str(caught.value).startswith(str(file))


def test_an_unpruned_student_is_refused(copy_of):
    folder = copy_of(WHOLE)
    weights = folder / "checkpoints" / "best" / "pytorch_model.bin"
    edit(
        weights, lambda s: s.update({"wavlm_model.encoder.hard_concrete_for_heads.log_alpha": torch.ones(2)})
    )
    with pytest.raises(
        InputError, match=r"pytorch_model\.bin: holds pruning gates .*hard_concrete_for_heads"
    ):
        load_model(folder)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("wavlm_layer_num = 4", "wavlm_layer_num = 13", "wavlm_layer_num is 13, but .* has 4"),
        ("wavlm_feat_dim = 32", "wavlm_feat_dim = 768", "wavlm_feat_dim is 768, but .* has 32"),
        ('wavlm_src = "wavlm_src/wavlm_tiny.pt"', "wavlm_src = 3", "wavlm_src must be a text in quotes"),
    ],
)
def test_a_config_that_does_not_fit_its_wavlm_names_the_key(copy_of, old, new, problem):
    folder = copy_of(WHOLE)
    text = config_of(folder).read_text()
    assert old in text
    config_of(folder).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=problem):
        load_model(folder)


def test_older_names_of_weight_norms_are_known(copy_of, golden):
    folder = copy_of(WHOLE)

    def rename(state):
        stem = "wavlm_model.encoder.transformer.pos_conv_embed.conv."
        for number, letter in enumerate("gv"):
            state[f"{stem}weight_{letter}"] = state.pop(f"{stem}parametrizations.weight.original{number}")

    edit(folder / "checkpoints" / "epoch_0001" / "pytorch_model.bin", rename)
    found, expected = log_probs_of(folder, golden, WHOLE)
    np.testing.assert_allclose(found, expected, atol=5e-4)


# --- one of several configs, safetensors --------------------------------------------------------


def test_another_config_than_the_newest_can_be_chosen(copy_of):
    folder = copy_of(WHOLE)
    older = folder / "config__2020_01_01--00_00_00.toml"
    older.write_text(
        config_of(folder).read_text().replace("chunk_size = 8\nuse_posi", "chunk_size = 5\nuse_posi")
    )
    assert load_runtime(f"torch:{folder}").geometry.chunk_duration == 8
    assert load_runtime(f"torch:{folder}?config={older.name}").geometry.chunk_duration == 5
    with pytest.raises(InputError, match=r"no config 'config__2020.toml'.*; there are config__2020_01_01"):
        load_runtime(f"torch:{folder}?config=config__2020.toml")


@pytest.mark.parametrize(
    ("name", "file", "safe", "spec"),
    [
        (WHOLE, "checkpoints/best/pytorch_model.bin", "checkpoints/best/model.safetensors", ""),
        ("hub_tiny", "pytorch_model.bin", "pytorch_model.safetensors", ""),
        ("hub_tiny/embedding", "pytorch_model.bin", "model.safetensors", ""),
        ("pyannet_tiny", "pytorch_model.bin", "model.safetensors", ""),
        ("wespeaker_ecapa_tiny", "avg_model.pt", "avg_model.safetensors", ""),
        ("wespeaker_resnet_tiny", "avg_model.pt", "single.safetensors", "/single.safetensors"),
    ],
)
def test_safetensors_serve_as_well_as_pickles(copy_of, golden, name, file, safe, spec):
    folder = copy_of(name)
    state = {key: value.clone().contiguous() for key, value in read_state_dict(folder / file).items()}
    safetensors.torch.save_file(state, folder / safe)
    (folder / file).unlink()
    found, original = load_model(folder / spec.lstrip("/")), load_model(golden / name)
    assert [path.name for path in found.files] == [Path(safe).name]
    for key, value in original.network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[key], value, rtol=0, atol=0)


def test_a_broken_safetensors_file_is_an_input_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match=r"model\.safetensors: is not a readable safetensors file"):
        load_model(tmp_path)


# --- pyannote -----------------------------------------------------------------------------------


def lightning(tmp_path, dims: PyanNetDims, **about) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "pytorch_model.bin"
    torch.save({"state_dict": PyanNet(dims).state_dict(), "pyannote.audio": about}, path)
    return path


@pytest.mark.parametrize(
    ("speakers", "largest"), [(3, 2), (4, 2), (2, 2), (3, 3)], ids=["7", "11", "4", "8 classes"]
)
def test_speakers_follow_from_the_number_of_classes(tmp_path, speakers, largest):
    dims = PyanNetDims(
        max_speakers_per_chunk=speakers,
        max_speakers_per_frame=largest,
        lstm_hidden_size=4,
        lstm_num_layers=2,
        lstm_bidirectional=False,
        linear_num_layers=0,
    )
    network = load_model(lightning(tmp_path, dims)).network
    assert (network.dims.max_speakers_per_chunk, network.dims.max_speakers_per_frame) == (speakers, largest)
    assert network.dims.lstm_bidirectional is False


def test_separate_lstms_are_one_lstm(golden, copy_of):
    path = copy_of("pyannet_tiny") / "pytorch_model.bin"

    def separate(content):
        state = content["state_dict"]
        for key in [key for key in state if key.startswith("lstm.")]:
            name, layer, *reverse = (
                key.removeprefix("lstm.").replace("_l", " ").replace("_rev", " _rev").split()
            )
            state[f"lstm.{layer}.{name}_l0{''.join(reverse)}"] = state.pop(key)

    edit(path, separate)
    waveforms = np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32)
    expected = load_runtime(f"torch:{golden / 'pyannet_tiny'}").segment(waveforms)
    np.testing.assert_array_equal(load_runtime(f"torch:{path}").segment(waveforms), expected)


def test_other_pyannote_architectures_are_refused_by_name(tmp_path):
    path = lightning(tmp_path, PyanNetDims(), architecture={"module": "os", "class": "SSeRiouSS"})
    with pytest.raises(InputError, match="class must be PyanNet, found 'SSeRiouSS'"):
        load_model(path)


def test_diarizen_pyannet_experiments_load(tmp_path):
    (tmp_path / "config__1.toml").write_text(
        '[model]\npath = "diarizen.models.eend.model_pyannote.Model"\n'
        "[model.args]\nmax_speakers_per_chunk = 4\n"
    )
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    torch.save(PyanNet(PyanNetDims()).state_dict(), tmp_path / "checkpoints" / "best" / "pytorch_model.bin")
    model = load_model(tmp_path)
    assert sum(p.numel() for p in model.network.parameters()) == 1_473_781
    assert (model.geometry.chunk_duration, len(model.geometry.powerset)) == (8.0, 11)


# --- WeSpeaker ----------------------------------------------------------------------------------


def wespeaker(folder: Path, model: str, network: torch.nn.Module, arguments: str) -> Path:
    state = network.state_dict()
    state["projection.weight"] = torch.zeros(3, 4)
    state = {key: value.float() for key, value in state.items()}  # averages have float counters
    torch.save({"model": state}, folder / "avg_model.pt")
    (folder / "config.yaml").write_text(f"model: {model}\nmodel_args: {{{arguments}}}\n")
    return folder


@pytest.mark.parametrize(
    ("name", "channels", "context", "parameters"),
    [
        ("ECAPA_TDNN_c512", 512, False, 5_797_504),
        ("ECAPA_TDNN_GLOB_c512", 512, True, 6_190_720),
        ("ECAPA_TDNN_GLOB_c1024", 1024, True, 14_657_088),
    ],
)
def test_ecapa_of_published_sizes(tmp_path, name, channels, context, parameters):
    network = ECAPATDNN(ECAPADims(channels=channels, global_context_att=context))
    assert sum(p.numel() for p in network.parameters()) == parameters
    folder = wespeaker(tmp_path, name, network, "embed_dim: 192, pooling_func: ASTP, feat_dim: 80")
    model = load_model(folder)
    assert model.kind == "embedding"
    assert model.network.min_num_samples == (560 if context else 400)


@pytest.mark.parametrize(
    ("name", "blocks", "bottleneck"), [("ResNet34", (3, 4, 6, 3), False), ("ResNet152", (3, 8, 36, 3), True)]
)
@pytest.mark.parametrize("second", [False, True])
def test_resnets_of_published_depths(tmp_path, name, blocks, bottleneck, second):
    dims = ResNetDims(
        num_blocks=blocks, bottleneck=bottleneck, num_channels=2, embedding=8, two_emb_layer=second
    )
    folder = wespeaker(tmp_path, name, WeSpeakerResNet(dims), f"two_emb_layer: {str(second).lower()}")
    runtime = load_runtime(f"torch:{folder}")
    assert runtime.embed(np.full((1, 16000), 0.1)).shape == (1, 8)


def test_an_ecapa_config_that_does_not_fit_names_the_key(tmp_path):
    network = ECAPATDNN(ECAPADims(channels=16, embedding=8))
    for name, arguments, problem in [
        ("ECAPA_TDNN_c512", "", "channels is 512, but the weights in avg_model.pt have 16"),
        ("ECAPA_TDNN", "global_context_att: true", "global_context_att is True, but .* have False"),
        ("ECAPA_TDNN", "pooling_func: TSTP", "pooling_func must be ASTP"),
        ("ECAPA_TDN", "", r"unknown model 'ECAPA_TDN', did you mean 'ECAPA_TDNN'"),
        ("ResNet34", "", "is not a ResNet speaker model"),
    ]:
        with pytest.raises(InputError, match=problem):
            load_model(wespeaker(tmp_path, name, network, arguments))


# --- Hugging Face ids ---------------------------------------------------------------------------


def test_an_id_is_downloaded_once_and_then_a_folder(golden, monkeypatch, tmp_path):
    asked = []

    def download(repo_id, **options):
        asked.append((repo_id, options["allow_patterns"]))
        return str(golden / "hub_tiny")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    runtime = load_runtime("torch:BUT-FIT/diarizen-wavlm-base-s80-md")
    assert runtime.geometry == load_runtime(f"torch:{golden / 'hub_tiny'}").geometry
    assert asked[0][0] == "BUT-FIT/diarizen-wavlm-base-s80-md"
    assert "*.bin" in asked[0][1]


def test_offline_the_error_says_what_to_download_and_where(tmp_path):
    code = "import sys; from workbench.cli import app; app()"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    arguments = [sys.executable, "-c", code, "inspect", "torch:BUT-FIT/diarizen-wavlm-base-s80-md"]
    run = subprocess.run(
        arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert (
        "hf download BUT-FIT/diarizen-wavlm-base-s80-md --local-dir diarizen-wavlm-base-s80-md" in run.stderr
    )
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("path", ["models/dmeo", "/a/b", "a/b/c", "name", "../a/b"])
def test_a_misspelt_path_is_not_looked_for_on_the_network(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "demo").mkdir(parents=True)

    def download(*_args, **_options):
        raise AssertionError("network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(InputError, match="no such file or folder" + (".*'demo'" if "dmeo" in path else "")):
        load_model(Path(path))


def test_an_id_cannot_be_exported_where_it_cannot_be_loaded(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match="no route to host"):
        export_onnx("torch:pyannote/wespeaker-voxceleb-resnet34-LM", tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
