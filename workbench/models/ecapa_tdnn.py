"""WeSpeaker's ECAPA-TDNN speaker encoder with attentive statistics pooling.

Compatible with `wespeaker/models/ecapa_tdnn.py` (Desplanques et al., "ECAPA-TDNN: Emphasized
Channel Attention, Propagation and Aggregation in TDNN Based Speaker Verification", Interspeech
2020), which chains its three blocks where the paper sums them. Attribute names are the
checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 8  # groups of channels in a Res2 block
AGGREGATED = 1536  # channels after the three blocks are joined


@dataclass(frozen=True, kw_only=True)
class ECAPADims:
    """Sizes of an ECAPA-TDNN; all of them can be read off a state dict."""

    channels: int = 512
    num_mels: int = 80
    embedding: int = 192
    global_context_att: bool = False  # pooling sees mean and deviation of the whole utterance
    emb_bn: bool = False  # batch norm after the embedding


class ConvUnit(nn.Module):
    """Convolution, ReLU, batch norm: in this order."""

    def __init__(self, num_in: int, num_out: int, kernel: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(num_in, num_out, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, frame) -> (batch, channel, frame)."""
        return self.bn(F.relu(self.conv(x)))


class Res2Unit(nn.Module):
    """Dilated convolutions over groups of channels, each fed with the sum of its left neighbours."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        width = channels // SCALE
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(SCALE - 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, frame) -> the same shape."""
        groups = x.chunk(SCALE, dim=1)
        outputs: list[Tensor] = []
        for group, conv, bn in zip(groups, self.convs, self.bns, strict=False):
            h = group + outputs[-1] if outputs else group
            outputs.append(bn(F.relu(conv(h))))
        return torch.cat([*outputs, groups[-1]], dim=1)  # the last group passes through


class SqueezeExcitation(nn.Module):
    """Channel gates from the mean over time."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear1 = nn.Linear(channels, 128)
        self.linear2 = nn.Linear(128, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, frame) -> the same shape."""
        gates = self.linear2(F.relu(self.linear1(x.mean(dim=2)))).sigmoid()
        return x * gates[..., None]


class SERes2Block(nn.Module):
    """Residual block: unit, Res2 unit, unit, squeeze and excitation."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.se_res2block = nn.Sequential(
            ConvUnit(channels, channels),
            Res2Unit(channels, dilation),
            ConvUnit(channels, channels),
            SqueezeExcitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, frame) -> the same shape."""
        return x + self.se_res2block(x)


class AttentiveStatistics(nn.Module):
    """Mean and deviation over time under an attention per channel (Okabe et al., 2018)."""

    def __init__(self, num_features: int, global_context: bool):
        super().__init__()
        self.global_context = global_context
        self.linear1 = nn.Conv1d(num_features * (3 if global_context else 1), 128, 1)
        self.linear2 = nn.Conv1d(128, num_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, feature, frame) -> (batch, 2 * feature)."""
        seen = x
        if self.global_context:
            mean = x.mean(dim=2, keepdim=True).expand_as(x)
            deviation = (x.var(dim=2, keepdim=True) + 1e-7).sqrt().expand_as(x)
            seen = torch.cat([x, mean, deviation], dim=1)
        attention = torch.softmax(self.linear2(self.linear1(seen).tanh()), dim=2)  # (batch, feature, frame)
        mean = (attention * x).sum(dim=2)
        variance = (attention * x.square()).sum(dim=2) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-7).sqrt()], dim=1)


class ECAPATDNN(nn.Module):
    """Kaldi fbank, mean-subtracted, to one embedding."""

    def __init__(self, dims: ECAPADims):
        super().__init__()
        self.dims = dims
        self.layer1 = ConvUnit(dims.num_mels, dims.channels, kernel=5)
        self.layer2 = SERes2Block(dims.channels, dilation=2)
        self.layer3 = SERes2Block(dims.channels, dilation=3)
        self.layer4 = SERes2Block(dims.channels, dilation=4)
        self.conv = nn.Conv1d(3 * dims.channels, AGGREGATED, 1)
        self.pool = AttentiveStatistics(AGGREGATED, dims.global_context_att)
        self.bn = nn.BatchNorm1d(2 * AGGREGATED)
        self.linear = nn.Linear(2 * AGGREGATED, dims.embedding)
        if dims.emb_bn:
            self.bn2 = nn.BatchNorm1d(dims.embedding)

    def forward(self, fbank: Tensor) -> Tensor:
        """fbank (batch, frame, mel) -> (batch, embedding)."""
        h1 = self.layer1(fbank.transpose(1, 2))  # (batch, channel, frame)
        h2 = self.layer2(h1)
        h3 = self.layer3(h2)
        h4 = self.layer4(h3)
        h = F.relu(self.conv(torch.cat([h2, h3, h4], dim=1)))  # (batch, 1536, frame)
        embedding = self.linear(self.bn(self.pool(h)))
        return self.bn2(embedding) if self.dims.emb_bn else embedding
