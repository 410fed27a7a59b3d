"""Kaldi-compatible log-mel filterbank in numpy: what WeSpeaker and pyannote feed to embeddings.

Definition as in `torchaudio.compliance.kaldi.fbank` with WeSpeaker's settings: samples in the
int16 range, 25/10 ms, DC removal, pre-emphasis 0.97, symmetric Hamming window, 512-point power
spectrum, 80 triangles linear in mel from 20 Hz to 8 kHz, natural log, no dither. The torch twin
is `workbench.models.kaldi_fbank`, which takes its settings and matrices from here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from workbench.errors import InputError

_MOST_MELS = 1024
_MOST_LENGTH = 16384  # samples of a frame


@dataclass(frozen=True, kw_only=True)
class KaldiFbankDims:
    """Settings of the front end; the defaults are WeSpeaker's."""

    sample_rate: int = 16000  # Hz
    num_mel_bins: int = 80
    frame_length: float = 25.0  # ms
    frame_shift: float = 10.0  # ms
    low_hz: float = 20.0  # lower edge of the first triangle
    scale: float = 32768.0  # from [-1, 1) to the int16 range
    preemphasis: float = 0.97
    log_floor: float = 1.1920929e-07  # smallest float32 step at 1

    @property
    def length_samples(self) -> int:
        """Samples per frame, and the shortest waveform that gives one."""
        return int(self.sample_rate * self.frame_length * 0.001)

    @property
    def shift_samples(self) -> int:
        """Samples between two frames."""
        return int(self.sample_rate * self.frame_shift * 0.001)

    @property
    def n_fft(self) -> int:
        """Points of the transform: the next power of two."""
        return 1 << (self.length_samples - 1).bit_length()


DEFAULT_DIMS = KaldiFbankDims()


def check_fbank(dims: KaldiFbankDims, path: Path) -> None:
    """An `InputError` for settings of which no filterbank can be made."""
    values = asdict(dims)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise InputError.at(path, f"fbank {name} must be a number of at least 0, found {value!r}")
    if not isinstance(dims.num_mel_bins, int) or not 1 <= dims.num_mel_bins <= _MOST_MELS:
        raise InputError.at(
            path,
            f"fbank num_mel_bins must be a whole number from 1 to {_MOST_MELS}, found {dims.num_mel_bins}",
        )
    if dims.shift_samples < 1 or not 2 <= dims.length_samples <= _MOST_LENGTH:
        raise InputError.at(
            path,
            f"fbank frames of {dims.frame_length:g} ms every {dims.frame_shift:g} ms at "
            f"{dims.sample_rate:g} Hz must have 2 to {_MOST_LENGTH} samples and start at least one sample "
            "apart",
        )
    if dims.low_hz >= dims.sample_rate / 2 or dims.log_floor <= 0:
        raise InputError.at(path, "fbank low_hz must lie below half the sample rate, and log_floor above 0")


def kaldi_fbank(waveform: np.ndarray, dims: KaldiFbankDims = DEFAULT_DIMS) -> np.ndarray:
    """Log-mel filterbank energies of complete frames, without mean subtraction.

    Everything from DC removal to the power spectrum is one product with a fixed matrix, in
    double precision, so that the numpy and torch versions agree to the last float32 bits.

    Parameters
    ----------
    waveform : float array, shape (..., num_samples), in [-1, 1)

    Returns
    -------
    fbank : float32 array, shape (..., num_frames, num_mels)
        Natural log; no frames where the waveform is shorter than one (400 samples).
    """
    waveform = np.asarray(waveform)
    if waveform.ndim < 1 or waveform.shape[-1] < dims.length_samples:
        return np.empty((*waveform.shape[:-1], 0, dims.num_mel_bins), dtype=np.float32)
    windows = sliding_window_view(waveform, dims.length_samples, axis=-1)
    frames = windows[..., :: dims.shift_samples, :].astype(np.float64) * dims.scale  # (..., frame, sample)
    spectrum = frames @ analysis_matrix(dims)  # (..., frame, 2 * bin)
    real, imaginary = np.split(spectrum, 2, axis=-1)
    energy = (real**2 + imaginary**2) @ mel_triangles(dims)  # (..., frame, mel)
    return np.log(np.maximum(energy, dims.log_floor)).astype(np.float32)


def centre(fbank: np.ndarray) -> np.ndarray:
    """Subtract from every mel bin its mean over all frames: (..., frame, mel) float32."""
    exact = fbank.astype(np.float64)
    return (exact - exact.mean(axis=-2, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=8)
def analysis_matrix(dims: KaldiFbankDims) -> np.ndarray:
    """DC removal, pre-emphasis, window and Fourier transform as one (sample, 2 * bin) matrix."""
    size = dims.length_samples
    centring = np.eye(size) - 1 / size
    # y[i] = x[i] - p * x[i - 1]; the first sample is its own predecessor.
    shift = np.eye(size, k=1)
    shift[0, 0] = 1
    emphasis = np.eye(size) - dims.preemphasis * shift
    window = 0.54 - 0.46 * np.cos(2 * np.pi / (size - 1) * np.arange(size))  # symmetric Hamming
    bins = np.arange(dims.n_fft // 2)  # the Nyquist bin has no weight
    angle = 2 * np.pi / dims.n_fft * np.outer(np.arange(size), bins)
    transform = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
    return _frozen(centring @ emphasis @ (window[:, None] * transform))


@lru_cache(maxsize=8)
def mel_triangles(dims: KaldiFbankDims) -> np.ndarray:
    """Triangular weights of shape (bin, mel), with slopes linear in mel."""
    low, high = _to_mel(np.array([dims.low_hz, dims.sample_rate / 2]))
    step = (high - low) / (dims.num_mel_bins + 1)
    left = low + np.arange(dims.num_mel_bins) * step
    hertz = np.arange(dims.n_fft // 2) * dims.sample_rate / dims.n_fft
    rising = (_to_mel(hertz)[:, None] - left) / step
    return _frozen(np.maximum(np.minimum(rising, 2 - rising), 0))


def _to_mel(hertz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hertz / 700)


def _frozen(matrix: np.ndarray) -> np.ndarray:
    """`matrix`, which is cached and therefore must not be written to."""
    matrix.setflags(write=False)
    return matrix
