"""The Kaldi filterbank, in numpy and in torch, against two independent implementations."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch

from workbench.fbank import KaldiFbankDims, centre, kaldi_fbank
from workbench.models import kaldi_fbank as twin


def in_torch(waveform: np.ndarray) -> np.ndarray:
    return (
        twin.kaldi_fbank(torch.from_numpy(np.atleast_2d(waveform)))
        .numpy()
        .reshape(*waveform.shape[:-1], -1, 80)
    )


BOTH = pytest.mark.parametrize("fbank", [kaldi_fbank, in_torch], ids=["numpy", "torch"])


def by_kaldi(waveform: np.ndarray) -> np.ndarray:
    """Features of kaldi-native-fbank, which is written in C++ after Kaldi itself."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hamming"
    options.frame_opts.samp_freq = 16000
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 80
    options.mel_opts.low_freq = 20
    options.use_energy = False
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(16000, (waveform * 32768).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@BOTH
@pytest.mark.parametrize("num_samples", [400, 559, 560, 16000, 31999])
def test_features_are_those_of_kaldi(fbank, rng, num_samples):
    waveform = (0.1 * rng.standard_normal(num_samples)).astype(np.float32)
    expected = by_kaldi(waveform)
    features = fbank(waveform)
    assert features.shape == expected.shape == (1 + (num_samples - 400) // 160, 80)
    np.testing.assert_allclose(features, expected, atol=1e-3)


@BOTH
@pytest.mark.parametrize("clip", [0, 1, 2])
def test_features_are_those_of_wespeaker(fbank, golden, clip):
    io = np.load(golden / "wespeaker_resnet_tiny" / "io.npz")
    features = fbank(io[f"wav{clip}"].astype(np.float32) / 32768)
    np.testing.assert_allclose(features, io[f"fbank{clip}"], atol=1e-3)


def test_numpy_and_torch_agree_to_the_last_bit_but_one(rng):
    waveforms = (0.1 * rng.standard_normal((3, 32077))).astype(np.float32)
    np.testing.assert_array_max_ulp(kaldi_fbank(waveforms), in_torch(waveforms), maxulp=1)
    features = kaldi_fbank(waveforms)
    np.testing.assert_array_max_ulp(
        centre(features), twin.centre(torch.from_numpy(features)).numpy(), maxulp=1
    )


@BOTH
def test_silence_sits_on_the_floor(fbank):
    np.testing.assert_allclose(fbank(np.zeros(400, dtype=np.float32)), -15.9424, atol=1e-4)


def test_a_waveform_shorter_than_a_frame_gives_no_frames():
    assert kaldi_fbank(np.zeros(399)).shape == (0, 80)
    assert kaldi_fbank(np.zeros((2, 0))).shape == (2, 0, 80)


def test_a_batch_gives_what_its_waveforms_give_alone(rng):
    waveforms = rng.standard_normal((2, 3, 1000))
    alone = np.stack([[kaldi_fbank(waveform) for waveform in row] for row in waveforms])
    np.testing.assert_array_max_ulp(kaldi_fbank(waveforms), alone, maxulp=1)


def test_gain_cancels_in_the_centring(rng):
    waveform = 0.1 * rng.standard_normal(16000)
    np.testing.assert_allclose(centre(kaldi_fbank(waveform)), centre(kaldi_fbank(3 * waveform)), atol=1e-5)
    np.testing.assert_allclose(centre(kaldi_fbank(waveform)).mean(axis=0), 0, atol=1e-6)


def test_other_settings_change_shape_and_frame_rate():
    dims = KaldiFbankDims(num_mel_bins=40, frame_shift=20.0)
    assert kaldi_fbank(np.zeros(16000), dims).shape == (1 + (16000 - 400) // 320, 40)
