"""DiariZen's FBank-Conformer: log-mel features, a conformer, powerset classes per frame.

Compatible with `diarizen.models.eend.model_fbank_conformer.Model`, whose features come from
SpeechBrain (Ravanelli et al., 2021). Attribute names are the checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor, nn

from workbench.models.conformer import ConformerDims, ConformerEncoder
from workbench.models.framing import cut_frames
from workbench.models.segmentation_dims import SegmentationDims


@dataclass(frozen=True, kw_only=True)
class FBankConformerDims(ConformerDims, SegmentationDims):
    """`[model.args]` of a DiariZen FBank experiment, as far as it decides shapes and numbers."""

    n_fft: int = 400  # samples per transform
    n_mels: int = 80
    win_length: int = 25  # ms
    hop_length: int = 10  # ms, between two frames

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hop_samples < 1 or not 1 <= self.win_samples <= self.n_fft:
            raise ValueError(
                f"hop_length ({self.hop_length} ms) and win_length ({self.win_length} ms) must be at least "
                f"one sample at {self.sample_rate} Hz, and win_length at most n_fft = {self.n_fft} samples"
            )

    @property
    def hop_samples(self) -> int:
        """Samples between two frames."""
        return round(self.sample_rate * self.hop_length / 1000)

    @property
    def win_samples(self) -> int:
        """Samples of the analysis window."""
        return round(self.sample_rate * self.win_length / 1000)


class Deltas(nn.Module):
    """Holds the derivative kernel that SpeechBrain stores in every checkpoint and never uses here."""

    def __init__(self, num_mels: int):
        super().__init__()
        self.register_buffer("kernel", torch.arange(-2.0, 3.0).repeat(num_mels, 1, 1))


class LogMelFilterbank(nn.Module):
    """Mel filterbank energies in dB, floored 80 dB below the loudest of the chunk.

    The transform is a product with a fixed matrix, in double precision: it costs little next to
    the conformer, exports to every ONNX opset, and leaves no rounding by which two runtimes
    could come to different decisions.
    """

    dft: Tensor
    mel: Tensor
    decibel: Tensor

    def __init__(self, dims: FBankConformerDims):
        super().__init__()
        self.hop_samples, self.n_fft = dims.hop_samples, dims.n_fft
        self.compute_deltas = Deltas(dims.n_mels)
        num_bins = dims.n_fft // 2 + 1
        sample = torch.arange(dims.n_fft, dtype=torch.float64)
        angle = 2 * pi / dims.n_fft * torch.outer(sample, torch.arange(num_bins, dtype=torch.float64))
        # Periodic Hamming window, centred in the transform where it is shorter.
        window = torch.hamming_window(dims.win_samples, periodic=True, dtype=torch.float64)
        left = (dims.n_fft - dims.win_samples) // 2
        window = nn.functional.pad(window, (left, dims.n_fft - dims.win_samples - left))
        dft = torch.cat([angle.cos(), -angle.sin()], dim=1) * window[:, None]  # (sample, real and imaginary)
        self.register_buffer("dft", dft, persistent=False)
        self.register_buffer("mel", mel_filters(dims, num_bins), persistent=False)
        # A tensor, because torch's newer ONNX exporter rounds Python numbers to single precision.
        decibel = torch.tensor(10 / log(10), dtype=torch.float64)
        self.register_buffer("decibel", decibel, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, sample) -> (batch, frame, mel), in dB."""
        padded = nn.functional.pad(waveform, (self.n_fft // 2, self.n_fft // 2))
        frames = cut_frames(padded, self.n_fft, self.hop_samples).double()  # (batch, frame, sample)
        real, imaginary = (frames @ self.dft).chunk(2, dim=-1)  # (batch, frame, bin) each
        energy = (real.square() + imaginary.square()) @ self.mel  # (batch, frame, mel)
        decibel = energy.clamp(min=1e-10).log() * self.decibel
        floor = decibel.amax(dim=(1, 2), keepdim=True) - 80
        return torch.maximum(decibel, floor).float()


def mel_filters(dims: FBankConformerDims, num_bins: int) -> Tensor:
    """Triangles of shape (bin, mel), symmetric in Hz: both slopes use the *left* half width."""
    highest = torch.tensor(1 + dims.sample_rate / 2 / 700, dtype=torch.float64, device="cpu")
    top = 2595 * torch.log10(highest)  # a number, also where the network is built without memory
    mel = torch.linspace(0, float(top), dims.n_mels + 2, dtype=torch.float64)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    centre, half_width = hertz[1:-1], (hertz[1:] - hertz[:-1])[:-1]
    slope = (
        torch.linspace(0, dims.sample_rate // 2, num_bins, dtype=torch.float64)[:, None] - centre
    ) / half_width
    return torch.minimum(1 + slope, 1 - slope).clamp(min=0)


class FBankConformer(nn.Module):
    """Waveform chunks to log-probabilities of powerset classes."""

    def __init__(self, dims: FBankConformerDims):
        super().__init__()
        self.dims = dims
        self.make_feats = LogMelFilterbank(dims)
        self.proj = nn.Linear(dims.n_mels, dims.attention_in)
        self.lnorm = nn.LayerNorm(dims.attention_in)
        self.conformer = ConformerEncoder(dims)
        self.classifier = nn.Linear(dims.attention_in, dims.num_classes)

    def num_frames(self, num_samples: int) -> int:
        """Output frames for a chunk of `num_samples`."""
        return 1 + num_samples // self.dims.hop_samples

    def receptive_field(self) -> tuple[float, float, float]:
        """Start, duration and step of the output frames, in seconds."""
        start = -(self.dims.n_fft - 1) / 2 / self.dims.sample_rate
        return start, self.dims.n_fft / self.dims.sample_rate, self.dims.hop_samples / self.dims.sample_rate

    def classify(self, features: Tensor) -> Tensor:
        """features (batch, frame, mel) in dB -> log-probabilities (batch, frame, class)."""
        h = self.lnorm(self.proj(features))  # (batch, frame, width)
        return torch.log_softmax(self.classifier(self.conformer(h)), dim=-1)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, channel, sample) -> log-probabilities (batch, frame, class)."""
        return self.classify(self.make_feats(waveform[:, self.dims.selected_channel]))
