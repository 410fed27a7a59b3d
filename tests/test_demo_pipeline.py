"""The shipped models on the shipped recordings."""

from __future__ import annotations

import pytest

from workbench.audio import crop_audio
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
