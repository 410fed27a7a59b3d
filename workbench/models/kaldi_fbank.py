"""Kaldi-compatible log-mel filterbank in torch: what WeSpeaker and pyannote feed to embeddings.

Definition as in `torchaudio.compliance.kaldi.fbank` with WeSpeaker's settings: samples in the
int16 range, 25/10 ms, DC removal, pre-emphasis 0.97, symmetric Hamming window, 512-point power
spectrum, 80 triangles linear in mel from 20 Hz to 8 kHz, natural log, no dither. The numpy twin
is `workbench.fbank`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn


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
        """Samples per frame."""
        return int(self.sample_rate * self.frame_length * 0.001)

    @property
    def shift_samples(self) -> int:
        """Samples between two frames."""
        return int(self.sample_rate * self.frame_shift * 0.001)

    @property
    def n_fft(self) -> int:
        """Points of the transform: the next power of two."""
        return 1 << (self.length_samples - 1).bit_length()


class KaldiFbank(nn.Module):
    """Log-mel filterbank energies, without mean subtraction.

    Everything from DC removal to the power spectrum is one product with a fixed matrix, in
    double precision, so that the numpy, torch and ONNX versions agree to the last float32 bits.
    """

    def __init__(self, dims: KaldiFbankDims | None = None):
        super().__init__()
        self.dims = dims = dims or KaldiFbankDims()
        self.register_buffer("analysis", analysis_matrix(dims), persistent=False)
        self.register_buffer("mel", mel_triangles(dims), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, sample) in [-1, 1) -> (batch, frame, mel); complete frames only."""
        scaled = waveform.double() * self.dims.scale
        frames = scaled.unfold(
            -1, self.dims.length_samples, self.dims.shift_samples
        )  # (batch, frame, sample)
        real, imaginary = (frames @ self.analysis).chunk(2, dim=-1)  # (batch, frame, bin) each
        energy = (real.square() + imaginary.square()) @ self.mel  # (batch, frame, mel)
        return energy.clamp(min=self.dims.log_floor).log().float()


def analysis_matrix(dims: KaldiFbankDims) -> Tensor:
    """DC removal, pre-emphasis, window and Fourier transform as one (sample, 2 * bin) matrix."""
    size = dims.length_samples
    centre = torch.eye(size, dtype=torch.float64) - 1 / size
    # y[i] = x[i] - p * x[i - 1]; the first sample is its own predecessor.
    shift = torch.diag(torch.ones(size - 1, dtype=torch.float64), diagonal=1)
    shift[0, 0] = 1
    emphasis = torch.eye(size, dtype=torch.float64) - dims.preemphasis * shift
    window = torch.hamming_window(size, periodic=False, dtype=torch.float64)
    sample = torch.arange(size, dtype=torch.float64)
    bins = torch.arange(dims.n_fft // 2, dtype=torch.float64)  # the Nyquist bin has no weight
    angle = 2 * pi / dims.n_fft * torch.outer(sample, bins)
    transform = torch.cat([angle.cos(), -angle.sin()], dim=1)
    return centre @ emphasis @ (window[:, None] * transform)


def mel_triangles(dims: KaldiFbankDims) -> Tensor:
    """Triangular weights of shape (bin, mel), with slopes linear in mel."""

    def to_mel(hertz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hertz / 700)

    low, high = to_mel(torch.tensor([dims.low_hz, dims.sample_rate / 2], dtype=torch.float64))
    step = (high - low) / (dims.num_mel_bins + 1)
    left = low + torch.arange(dims.num_mel_bins, dtype=torch.float64) * step
    bins = torch.arange(dims.n_fft // 2, dtype=torch.float64) * dims.sample_rate / dims.n_fft
    rising = (to_mel(bins)[:, None] - left) / step
    return torch.minimum(rising, 2 - rising).clamp(min=0)


def kaldi_fbank(waveform: Tensor, dims: KaldiFbankDims | None = None) -> Tensor:
    """`KaldiFbank` as a function: waveform (batch, sample) -> (batch, frame, mel)."""
    return KaldiFbank(dims).to(waveform.device)(waveform)
