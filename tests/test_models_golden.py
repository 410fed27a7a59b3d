"""Networks against activations of the original implementations, stage by stage."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from workbench.errors import InputError
from workbench.models.wavlm_conformer import WavLMConformer, WavLMConformerDims
from workbench.models.wavlm_presets import PRESETS
from workbench.powerset import to_multilabel
from workbench.runtimes import load_runtime

WAVLM = (
    "wavlm_conformer_tiny",
    "wavlm_conformer_tiny_large",
    "wavlm_conformer_pruned_tiny",
    "wavlm_conformer_pruned_tiny_large",
)
EEND = ("fbank_conformer_tiny", "fbank_conformer_tiny_posi", *WAVLM)
TWO_EPOCHS = ("fbank_conformer_tiny_posi", "wavlm_conformer_tiny_large", "wavlm_conformer_pruned_tiny_large")
PYANNET = ("pytorch_model.bin", "pytorch_model_pickled.bin")
CHECKPOINTS = {
    "epoch_0001": "e1_4s",
    "epoch_0002": "e2_4s",
    "epoch_0003": "e3_4s",
    "best": "best_4s",
    "avg:2": "avg_best2_4s",
    "avg:3": "avg_best3_4s",
}
EMBEDDINGS = ("wespeaker_resnet_tiny/pyannote", "hub_tiny/embedding")


def waveforms_of(pcm: np.ndarray) -> np.ndarray:
    return pcm.astype(np.float32) / 32768


@pytest.mark.parametrize("name", EEND)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_log_probs_of_every_checkpoint(golden, name, checkpoint):
    io = np.load(golden / name / "io.npz")
    key = f"{CHECKPOINTS[checkpoint]}/log_probs"
    if key not in io.files:
        assert name in TWO_EPOCHS
        assert checkpoint in ("epoch_0003", "avg:3")
        return
    runtime = load_runtime(f"torch:{golden / name}@{checkpoint}")
    np.testing.assert_allclose(runtime.segment(waveforms_of(io["wav_4s"])), io[key], atol=5e-4)


@pytest.mark.parametrize("name", EEND)
def test_every_stage_and_the_hard_decisions(golden, name):
    io = np.load(golden / name / "io.npz")
    runtime = load_runtime(f"torch:{golden / name}@epoch_0001")
    stages = runtime.stages(waveforms_of(io["wav_4s"]))
    recorded = {key.removeprefix("e1_4s/") for key in io.files if key.startswith("e1_4s/")}
    assert set(stages) == recorded - {"multilabel", "multilabel_soft"}
    for stage, array in stages.items():
        expected = io[f"e1_4s/{stage}"]
        atol = 5e-4 if stage in ("logits", "log_probs") else 2e-4  # fbank is in dB
        cut = array[tuple(slice(0, size) for size in expected.shape)]
        np.testing.assert_allclose(cut, expected, rtol=1e-3, atol=atol, err_msg=stage)
    multilabel = to_multilabel(stages["log_probs"], runtime.geometry.powerset)
    np.testing.assert_array_equal(multilabel, io["e1_4s/multilabel"])


@pytest.mark.parametrize("name", EEND)
def test_silence_and_odd_lengths(golden, name):
    io = np.load(golden / name / "io.npz")
    runtime = load_runtime(f"torch:{golden / name}@epoch_0001")
    silence = runtime.segment(np.zeros((1, 64000), dtype=np.float32))
    np.testing.assert_allclose(silence, io["zeros_4s/log_probs"], atol=5e-4)
    np.testing.assert_allclose(runtime.segment(waveforms_of(io["odd_wav"])), io["odd/log_probs"], atol=5e-4)


@pytest.mark.parametrize("name", EEND)
def test_geometry(golden, name):
    facts = json.loads((golden / name / "io.json").read_text())
    runtime = load_runtime(f"torch:{golden / name}")
    geometry = runtime.geometry
    field = facts["receptive_field"]
    assert (geometry.frame_start, geometry.frame_duration, geometry.frame_step) == (
        field["start"],
        field["duration"],
        field["step"],
    )
    assert (geometry.num_speakers, len(geometry.powerset)) == (facts["classes"], facts["num_powerset"])
    for seconds, num_frames in facts["num_frames"].items():
        num_samples = 16000 * int(seconds.rstrip("s"))
        assert runtime.model.network.num_frames(num_samples) == num_frames
    assert sum(p.numel() for p in runtime.model.network.parameters()) == facts["num_params"]


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_with_every_kind_of_mask(golden, name):
    io = np.load(golden / name / "io.npz")
    runtime = load_runtime(f"torch:{golden / name}", kind="embedding")
    waveforms = waveforms_of(io["wav"])
    assert runtime.min_num_samples == io["min_num_samples"]
    np.testing.assert_allclose(runtime.embed(waveforms), io["emb_noweights"], rtol=1e-3, atol=1e-4)
    masks = [key for key in io.files if key.startswith("w_")]
    assert len(masks) == 10
    for key in masks:
        embeddings = runtime.embed(waveforms, io[key])
        np.testing.assert_allclose(embeddings, io[f"emb{key[1:]}"], rtol=1e-3, atol=1e-4, err_msg=key)


def test_published_checkpoints_with_pickled_specifications_load_safely(golden):
    folder = golden / "wespeaker_resnet_tiny" / "pyannote"
    io = np.load(folder / "io.npz")
    runtime = load_runtime(f"torch:{folder / 'pytorch_model_pickled.bin'}")
    embeddings = runtime.embed(waveforms_of(io["wav"]), io["w_binary"])
    np.testing.assert_allclose(embeddings, io["emb_binary"], rtol=1e-3, atol=1e-4)


def test_wespeaker_resnet_stage_by_stage(golden):
    io = np.load(golden / "wespeaker_resnet_tiny" / "io.npz")
    runtime = load_runtime(f"torch:{golden / 'wespeaker_resnet_tiny'}")
    for clip in range(3):
        embedding = runtime.embed(waveforms_of(io[f"wav{clip}"])[None])
        np.testing.assert_allclose(embedding, io[f"embedding{clip}"], rtol=1e-3, atol=1e-4)
    stages = runtime.stages(waveforms_of(io["wav0"])[None])
    assert list(stages) == ["fbank", "conv1", "layer1", "layer2", "layer3", "layer4", "pool", "embedding"]
    for stage in ("conv1", "layer1", "layer2", "layer3", "layer4", "pool"):
        expected = io[f"act0/{stage}"]
        array = stages[stage][..., : expected.shape[-1]]
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-4, err_msg=stage)


@pytest.mark.parametrize("name", WAVLM)
def test_longer_chunks_where_they_were_recorded(golden, name):
    io = np.load(golden / name / "io.npz")
    if "wav_8s" not in io.files:
        assert name != "wavlm_conformer_tiny"
        return
    runtime = load_runtime(f"torch:{golden / name}@epoch_0001")
    log_probs = runtime.segment(waveforms_of(io["wav_8s"]))
    np.testing.assert_allclose(log_probs, io["e1_8s/log_probs"], atol=5e-4)
    multilabel = to_multilabel(log_probs, runtime.geometry.powerset)
    np.testing.assert_array_equal(multilabel, io["e1_8s/multilabel"])


@pytest.mark.parametrize("file", PYANNET)
def test_pyannet_stage_by_stage(golden, file):
    io = np.load(golden / "pyannet_tiny" / "io.npz")
    runtime = load_runtime(f"torch:{golden / 'pyannet_tiny' / file}")
    stages = runtime.stages(waveforms_of(io["wav_4s"]))
    recorded = {key.removeprefix("4s/") for key in io.files if key.startswith("4s/")}
    assert set(stages) == recorded - {"multilabel"}
    for stage, array in stages.items():
        expected = io[f"4s/{stage}"]
        cut = array[tuple(slice(0, size) for size in expected.shape)]
        np.testing.assert_allclose(cut, expected, rtol=1e-3, atol=5e-4, err_msg=stage)
    for seconds in ("4s", "10s"):
        log_probs = runtime.segment(waveforms_of(io[f"wav_{seconds}"]))
        np.testing.assert_allclose(log_probs, io[f"{seconds}/log_probs"], atol=5e-4)
        multilabel = to_multilabel(log_probs, runtime.geometry.powerset)
        np.testing.assert_array_equal(multilabel, io[f"{seconds}/multilabel"])


@pytest.mark.parametrize("file", PYANNET)
def test_pyannet_geometry(golden, file):
    facts = json.loads((golden / "pyannet_tiny" / "io.json").read_text())
    runtime = load_runtime(f"torch:{golden / 'pyannet_tiny' / file}")
    geometry, network = runtime.geometry, runtime.model.network
    assert [geometry.frame_start, geometry.frame_duration, geometry.frame_step] == facts["receptive_field"]
    assert (geometry.num_speakers, geometry.chunk_duration) == (facts["classes"], facts["duration"])
    assert sum(p.numel() for p in network.parameters()) == facts["num_params"]
    for seconds, num_frames in facts["num_frames"].items():
        assert network.num_frames(16000 * int(seconds.rstrip("s"))) == num_frames


@pytest.mark.parametrize("name", ["wavlm_conformer_tiny", "pyannet_tiny"])
def test_the_shortest_waveform_gives_a_frame_and_a_shorter_one_an_error(golden, name):
    runtime = load_runtime(f"torch:{golden / name}")
    shortest = runtime.min_num_samples
    assert shortest == {"wavlm_conformer_tiny": 400, "pyannet_tiny": 1261}[name]
    assert np.isfinite(runtime.segment(np.full((1, shortest), 0.1))).all()
    with pytest.raises(InputError, match=f"at least {shortest} samples"):
        runtime.segment(np.zeros((1, shortest - 1)))


def test_ecapa_stage_by_stage(golden):
    io = np.load(golden / "wespeaker_ecapa_tiny" / "io.npz")
    runtime = load_runtime(f"torch:{golden / 'wespeaker_ecapa_tiny'}")
    for clip in range(2):
        embedding = runtime.embed(waveforms_of(io[f"wav{clip}"])[None])
        np.testing.assert_allclose(embedding, io[f"embedding{clip}"], rtol=1e-3, atol=1e-4)
    stages = runtime.stages(waveforms_of(io["wav0"])[None])
    assert list(stages) == [
        *["fbank", "layer1", "layer2", "layer3", "layer4"],
        *["conv", "pool", "bn", "embedding"],
    ]
    for stage in ("layer1", "layer2", "layer3", "layer4", "pool", "bn"):
        expected = io[f"act0/{stage}"]
        array = stages[stage][..., : expected.shape[-1]]
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-4, err_msg=stage)


def test_a_mask_picks_the_frames_that_an_ecapa_hears(golden):
    """Features are centred over the whole waveform, then cut; nobody talking gives NaN."""
    io = np.load(golden / "wespeaker_ecapa_tiny" / "io.npz")
    runtime = load_runtime(f"torch:{golden / 'wespeaker_ecapa_tiny'}")
    waveforms = waveforms_of(io["wav0"])[None]
    fbank = torch.from_numpy(io["fbank0"] - io["fbank0"].mean(axis=0))
    masks = np.zeros((1, 3, len(fbank)), dtype=np.float32)
    masks[0, 0, 40:120] = masks[0, 1] = 1
    with torch.no_grad():
        alone = runtime.model.network.ecapa(fbank[None, 40:120]).numpy()
    embeddings = runtime.embed(waveforms, masks)
    np.testing.assert_allclose(embeddings[:, 0], alone, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(embeddings[:, 1], io["embedding0"], rtol=1e-3, atol=1e-4)
    assert np.isnan(embeddings[0, 2]).all()


@pytest.mark.parametrize(
    ("preset", "num_tensors", "num_parameters", "of_wavlm"),
    [
        ("wavlm_base", 403, 100_673_672, 94_381_680),
        ("wavlm_large", 643, 321_810_148, 315_452_608),
        ("wavlm_base_s80_md", 381, 25_173_675, 18_881_683),
        ("wavlm_large_s80_md", 599, 69_453_070, 63_095_530),
    ],
)
def test_full_size_models_have_the_published_numbers_of_parameters(
    preset, num_tensors, num_parameters, of_wavlm
):
    with torch.device("meta"):
        network = WavLMConformer(WavLMConformerDims(wavlm=PRESETS[preset]))
    assert len(network.state_dict()) == num_tensors
    assert sum(p.numel() for p in network.parameters()) == num_parameters
    assert sum(p.numel() for p in network.wavlm_model.parameters()) == of_wavlm
