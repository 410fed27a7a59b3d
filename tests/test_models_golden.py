"""Networks against activations of the original implementations, stage by stage."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.powerset import to_multilabel
from workbench.runtimes import load_runtime

FBANK = ("fbank_conformer_tiny", "fbank_conformer_tiny_posi")
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


@pytest.mark.parametrize("name", FBANK)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_log_probs_of_every_checkpoint(golden, name, checkpoint):
    io = np.load(golden / name / "io.npz")
    key = f"{CHECKPOINTS[checkpoint]}/log_probs"
    if key not in io.files:
        assert name == "fbank_conformer_tiny_posi"  # which was trained for two epochs only
        assert checkpoint in ("epoch_0003", "avg:3")
        return
    runtime = load_runtime(f"torch:{golden / name}@{checkpoint}")
    np.testing.assert_allclose(runtime.segment(waveforms_of(io["wav_4s"])), io[key], atol=5e-4)


@pytest.mark.parametrize("name", FBANK)
def test_every_stage_and_the_hard_decisions(golden, name):
    io = np.load(golden / name / "io.npz")
    runtime = load_runtime(f"torch:{golden / name}@epoch_0001")
    stages = runtime.stages(waveforms_of(io["wav_4s"]))
    recorded = {key.removeprefix("e1_4s/") for key in io.files if key.startswith("e1_4s/")}
    assert set(stages) == recorded - {"multilabel", "multilabel_soft"}
    for stage, array in stages.items():
        expected = io[f"e1_4s/{stage}"]
        atol = 5e-4 if stage in ("logits", "log_probs") else 2e-4  # fbank is in dB
        np.testing.assert_allclose(
            array[:, : expected.shape[1]], expected, rtol=1e-3, atol=atol, err_msg=stage
        )
    multilabel = to_multilabel(stages["log_probs"], runtime.geometry.powerset)
    np.testing.assert_array_equal(multilabel, io["e1_4s/multilabel"])


@pytest.mark.parametrize("name", FBANK)
def test_silence_and_odd_lengths(golden, name):
    io = np.load(golden / name / "io.npz")
    runtime = load_runtime(f"torch:{golden / name}@epoch_0001")
    silence = runtime.segment(np.zeros((1, 64000), dtype=np.float32))
    np.testing.assert_allclose(silence, io["zeros_4s/log_probs"], atol=5e-4)
    np.testing.assert_allclose(runtime.segment(waveforms_of(io["odd_wav"])), io["odd/log_probs"], atol=5e-4)


@pytest.mark.parametrize("name", FBANK)
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
