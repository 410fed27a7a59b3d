"""Kaldi-compatible log-mel filterbank in torch: the twin of `workbench.fbank`, which defines it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.fbank import KaldiFbankDims, analysis_matrix, mel_triangles
from workbench.models.framing import cut_frames


class KaldiFbank(nn.Module):
    """Log-mel filterbank energies, without mean subtraction.

    Everything from DC removal to the power spectrum is one product with a fixed matrix, in
    double precision, so that the numpy, torch and ONNX versions agree to the last float32 bits.
    """

    analysis: Tensor
    mel: Tensor

    def __init__(self, dims: KaldiFbankDims | None = None):
        super().__init__()
        self.dims = dims = dims or KaldiFbankDims()
        self.register_buffer("analysis", torch.tensor(analysis_matrix(dims)), persistent=False)
        self.register_buffer("mel", torch.tensor(mel_triangles(dims)), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, sample) in [-1, 1) -> (batch, frame, mel); complete frames only."""
        scaled = waveform.double() * self.dims.scale
        frames = cut_frames(scaled, self.dims.length_samples, self.dims.shift_samples)
        real, imaginary = (frames @ self.analysis).chunk(2, dim=-1)  # (batch, frame, bin) each
        energy = (real.square() + imaginary.square()) @ self.mel  # (batch, frame, mel)
        return energy.clamp(min=self.dims.log_floor).log().float()


def centre(fbank: Tensor) -> Tensor:
    """Subtract from every mel bin its mean over all frames: (batch, frame, mel) float32."""
    exact = fbank.double()
    return (exact - exact.mean(dim=-2, keepdim=True)).float()


def kaldi_fbank(waveform: Tensor, dims: KaldiFbankDims | None = None) -> Tensor:
    """`KaldiFbank` as a function: waveform (batch, sample) -> (batch, frame, mel)."""
    return KaldiFbank(dims).to(waveform.device)(waveform)
