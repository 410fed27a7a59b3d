"""PyanNet: learnable sinc filters, LSTMs and linear layers to powerset classes per frame.

Compatible with `pyannote.audio.models.segmentation.PyanNet` (Bredin and Laurent, "End-to-end
speaker segmentation for overlap-aware resegmentation", Interspeech 2021; segmentation-3.0) and
with DiariZen's copy. The filterbank follows asteroid-filterbanks (Ravanelli and Bengio,
"Speaker recognition from raw waveform with SincNet", 2018; Pariente et al., 2020). Attribute
names are the checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.models.receptive_field import count_frames, receptive_field
from workbench.models.segmentation_dims import SegmentationDims

NUM_FILTERS = 80  # half of them cosine, half of them sine
FILTER_LENGTH = 251  # taps, odd
MIN_LOW_HZ = MIN_BAND_HZ = 50.0


@dataclass(frozen=True, kw_only=True)
class PyanNetDims(SegmentationDims):
    """Sizes of a PyanNet; the defaults are DiariZen's."""

    sincnet_stride: int = 10
    lstm_hidden_size: int = 128
    lstm_num_layers: int = 4
    lstm_bidirectional: bool = True
    linear_hidden_size: int = 128
    linear_num_layers: int = 2
    chunk_size: float = 8  # s, the chunk it was trained on


class SincFilterbank(nn.Module):
    """Band-pass filters of which only the edges are learnt."""

    window_: Tensor
    n_: Tensor

    def __init__(self, sample_rate: int):
        super().__init__()
        half = FILTER_LENGTH // 2
        self.top_hz = sample_rate / 2
        self.low_hz_ = nn.Parameter(torch.linspace(30, self.top_hz - 100, NUM_FILTERS // 2)[:, None])
        self.band_hz_ = nn.Parameter(torch.full((NUM_FILTERS // 2, 1), 100.0))
        self.register_buffer("window_", torch.hamming_window(FILTER_LENGTH, periodic=False)[:half])
        self.register_buffer("n_", 2 * pi * torch.arange(-half, 0.0)[None] / sample_rate)

    def forward(self) -> Tensor:
        """The filters, shape (filter, 1, tap)."""
        low = MIN_LOW_HZ + self.low_hz_.abs()  # (filter, 1)
        high = (low + MIN_BAND_HZ + self.band_hz_.abs()).clamp(MIN_LOW_HZ, self.top_hz)
        band = high - low
        scale = self.window_ / (self.n_ / 2)  # (1, half)
        cosine = ((high * self.n_).sin() - (low * self.n_).sin()) * scale  # (filter, half)
        sine = ((low * self.n_).cos() - (high * self.n_).cos()) * scale
        cosine = torch.cat([cosine, 2 * band, cosine.flip(1)], dim=1) / (2 * band)
        sine = torch.cat([sine, torch.zeros_like(band), -sine.flip(1)], dim=1) / (2 * band)
        return torch.cat([cosine, sine])[:, None]


class SincConvolution(nn.Module):
    """Convolution of the waveform with a sinc filterbank."""

    def __init__(self, dims: PyanNetDims):
        super().__init__()
        self.stride = dims.sincnet_stride
        self.filterbank = SincFilterbank(dims.sample_rate)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, 1, sample) -> (batch, filter, frame)."""
        return F.conv1d(waveform, self.filterbank(), stride=self.stride)


class SincNet(nn.Module):
    """Waveform to features: three convolutions, each pooled and normalised over time."""

    def __init__(self, dims: PyanNetDims):
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList(
            [SincConvolution(dims), nn.Conv1d(NUM_FILTERS, 60, 5), nn.Conv1d(60, 60, 5)]
        )
        self.pool1d = nn.ModuleList(nn.MaxPool1d(3) for _ in range(3))
        self.norm1d = nn.ModuleList(nn.InstanceNorm1d(width, affine=True) for width in (NUM_FILTERS, 60, 60))

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, 1, sample) -> (batch, 60, frame)."""
        h = self.wav_norm1d(waveform)
        for i, (conv, pool, norm) in enumerate(zip(self.conv1d, self.pool1d, self.norm1d, strict=True)):
            h = conv(h)
            if i == 0:
                h = h.abs()
            h = F.leaky_relu(norm(pool(h)))
        return h


class PyanNet(nn.Module):
    """Waveform chunks to log-probabilities of powerset classes."""

    def __init__(self, dims: PyanNetDims):
        super().__init__()
        self.dims = dims
        self.sincnet = SincNet(dims)
        self.lstm = nn.LSTM(
            60,
            dims.lstm_hidden_size,
            num_layers=dims.lstm_num_layers,
            bidirectional=dims.lstm_bidirectional,
            batch_first=True,
        )
        width = dims.lstm_hidden_size * (2 if dims.lstm_bidirectional else 1)
        widths = [width] + [dims.linear_hidden_size] * dims.linear_num_layers
        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.classifier = nn.Linear(widths[-1], dims.num_classes)

    @property
    def conv_layers(self) -> list[tuple[int, int]]:
        """(kernel, stride) of convolutions and poolings between waveform and frames."""
        return [(FILTER_LENGTH, self.dims.sincnet_stride), (3, 3), (5, 1), (3, 3), (5, 1), (3, 3)]

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform: two frames, as one alone cannot be normalised over time."""
        _, size, step = receptive_field(self.conv_layers)
        return size + step

    def num_frames(self, num_samples: int) -> int:
        """Output frames for a chunk of `num_samples`."""
        return count_frames(num_samples, self.conv_layers)

    def receptive_field(self) -> tuple[float, float, float]:
        """Start, duration and step of the output frames, in seconds."""
        start, size, step = receptive_field(self.conv_layers)
        rate = self.dims.sample_rate
        return start / rate, size / rate, step / rate

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, channel, sample) -> log-probabilities (batch, frame, class)."""
        channel = self.dims.selected_channel
        h = self.sincnet(waveform[:, channel : channel + 1])  # (batch, 60, frame)
        h, _ = self.lstm(h.transpose(1, 2))  # (batch, frame, width)
        for linear in self.linear:
            h = F.leaky_relu(linear(h))
        return torch.log_softmax(self.classifier(h), dim=-1)
