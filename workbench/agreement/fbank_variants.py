"""Kaldi-like filter banks under any settings, to find out under which another program made its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workbench.fbank import DEFAULT_DIMS, KaldiFbankDims, mel_triangles


@dataclass(frozen=True, kw_only=True)
class FrontEndSettings:
    """Everything in which Kaldi-like filter banks differ from each other; the defaults are WeSpeaker's."""

    scale: float = 32768.0  # from [-1, 1) to the range of int16
    window: str = "hamming"  # hamming, hann, povey, blackman or rectangular; symmetric unless `periodic`
    periodic: bool = False
    preemphasis: float = 0.97
    remove_dc: bool = True
    power: bool = True  # power spectrum, or its root
    centred: bool = True  # minus the mean over time
    low_hz: float = 20.0  # lower edge of the first triangle
    log: str = "natural"  # natural, or decimal
    dither: float = 0.0  # standard deviation of added noise, in units of int16


def fbank_variant(
    waveforms: np.ndarray, settings: FrontEndSettings, dims: KaldiFbankDims = DEFAULT_DIMS
) -> np.ndarray:
    """Filter banks under any settings: waveforms (batch, sample) -> float64 (batch, frame, mel).

    With the defaults, `workbench.fbank.kaldi_fbank` less its mean.

    Examples
    --------
    >>> from workbench.fbank import centre, kaldi_fbank
    >>> waveforms = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8000)).astype(np.float32)
    >>> ours = fbank_variant(waveforms, FrontEndSettings())
    >>> bool(np.abs(ours - centre(kaldi_fbank(waveforms))).max() < 1e-5)
    True
    """
    size, shift = dims.length_samples, dims.shift_samples
    scaled = waveforms.astype(np.float64) * settings.scale
    frames = np.lib.stride_tricks.sliding_window_view(scaled, size, axis=-1)[:, ::shift]
    if settings.dither:
        frames = frames + settings.dither * np.random.default_rng(0).standard_normal(frames.shape)
    if settings.remove_dc:
        frames = frames - frames.mean(axis=-1, keepdims=True)
    if settings.preemphasis:
        before = np.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
        frames = frames - settings.preemphasis * before
    spectrum = np.fft.rfft(frames * make_window(settings.window, size, settings.periodic), dims.n_fft)
    power = np.abs(spectrum[..., :-1]) ** (2 if settings.power else 1)  # the Nyquist bin has no weight
    energy = power @ mel_triangles(replace(dims, low_hz=settings.low_hz))
    logarithm = np.log(np.maximum(energy, dims.log_floor))
    if settings.log == "decimal":
        logarithm = logarithm / np.log(10)
    if settings.centred:
        logarithm = logarithm - logarithm.mean(axis=-2, keepdims=True)
    return np.asarray(logarithm)


def make_window(name: str, size: int, periodic: bool = False) -> np.ndarray:
    """A window by name, shape (size,); symmetric, or one period of it."""
    phase = 2 * np.pi * np.arange(size) / (size if periodic else size - 1)
    windows = {
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "hann": 0.5 - 0.5 * np.cos(phase),
        "povey": (0.5 - 0.5 * np.cos(phase)) ** 0.85,
        "blackman": 0.42 - 0.5 * np.cos(phase) + 0.08 * np.cos(2 * phase),
        "rectangular": np.ones(size),
    }
    return windows[name]
