"""The shipped models on the shipped recordings."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.audio import crop_audio
from workbench.features import load_features
from workbench.pipeline import diarize_features, extract_features, load_hub
from workbench.rttm import write_rttm


@pytest.mark.parametrize("recording", ["demo01_easy", "demo02_overlap"])
def test_the_demo_models_write_the_same_rttm_with_torch_and_onnx(repository, tmp_path, recording):
    waveform = crop_audio(repository / "data" / "demo" / f"{recording}.flac", 10, 35)
    for engine in ("torch", "onnx"):
        runtimes, params = load_hub(repository / "models" / "demo", engine)
        features = extract_features(waveform, runtimes, params, uri=recording)
        write_rttm(tmp_path / f"{engine}.rttm", diarize_features(features, params, runtimes.plda))
    assert (tmp_path / "torch.rttm").read_text() == (tmp_path / "onnx.rttm").read_text() != ""


def test_the_shipped_features_are_what_the_demo_models_compute(repository):
    """Of all chunks within the first half minute; on other machines, sums are added up in another order."""
    recording = "demo07_single"
    shipped = load_features(repository / "data" / "demo" / "features" / f"{recording}.npz")
    runtimes, params = load_hub(repository / "models" / "demo")
    waveform = crop_audio(repository / "data" / "demo" / f"{recording}.flac", 0, 30)
    computed = extract_features(waveform, runtimes, params, uri=recording)
    assert (computed.chunks, computed.frames) == (shipped.chunks, shipped.frames)
    inside = int((30 - shipped.chunks.duration) / shipped.chunks.step) + 1
    assert inside > 10
    ours, theirs = computed.segmentations[:inside], shipped.segmentations[:inside]
    assert np.mean(ours != theirs) < 1e-3
    same = (ours == theirs).all(axis=(1, 2))  # elsewhere, an embedding is of other frames
    assert same.mean() > 0.9
    np.testing.assert_allclose(
        computed.embeddings[:inside][same], shipped.embeddings[:inside][same], rtol=1e-3, atol=1e-2
    )
