"""WeSpeaker's ResNet speaker encoder with masked statistics pooling.

Compatible with `wespeaker/models/resnet.py` (He et al., "Deep residual learning", 2016; Zeinali
et al., "BUT system description to VoxCeleb SRC 2019") and with pyannote's copy, whose pooling
takes weights. Attribute names are the checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ResNetDims:
    """Sizes of a ResNet; all of them can be read off a state dict."""

    num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)  # ResNet34
    num_channels: int = 32  # of the first stage; doubled by every further one
    num_mels: int = 80
    embedding: int = 256
    bottleneck: bool = False  # ResNet50 and larger
    two_emb_layer: bool = False  # a second linear layer after the first embedding
    pooling_epsilon: float = 0.0  # added to the variance: 1e-7 in WeSpeaker, 0 in pyannote


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, num_in: int, num_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.shortcut = make_shortcut(num_in, num_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, mel, frame) -> (batch, channel, mel / stride, frame / stride)."""
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, num_in: int, num_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.conv3 = nn.Conv2d(num_out, self.expansion * num_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * num_out)
        self.shortcut = make_shortcut(num_in, self.expansion * num_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, mel, frame) -> (batch, 4 * channel, mel / stride, frame / stride)."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        return F.relu(self.bn3(self.conv3(h)) + self.shortcut(x))


def make_shortcut(num_in: int, num_out: int, stride: int) -> nn.Sequential:
    """Identity, or a strided 1x1 convolution where the shape changes."""
    if stride == 1 and num_in == num_out:
        return nn.Sequential()
    conv = nn.Conv2d(num_in, num_out, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(num_out))


def make_stage(
    num_blocks: int, num_in: int, num_out: int, stride: int, block: type[BasicBlock] | type[Bottleneck]
) -> nn.Sequential:
    """Blocks of one stage; only the first one strides, in both axes."""
    blocks = [block(num_in, num_out, stride)]
    blocks += [block(num_out * block.expansion, num_out, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


class WeSpeakerResNet(nn.Module):
    """Kaldi fbank, mean-subtracted, to one embedding per mask."""

    def __init__(self, dims: ResNetDims):
        super().__init__()
        self.dims = dims
        block = Bottleneck if dims.bottleneck else BasicBlock
        width = dims.num_channels
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        wide = width * block.expansion
        self.layer1 = make_stage(dims.num_blocks[0], width, width, 1, block)
        self.layer2 = make_stage(dims.num_blocks[1], wide, 2 * width, 2, block)
        self.layer3 = make_stage(dims.num_blocks[2], 2 * wide, 4 * width, 2, block)
        self.layer4 = make_stage(dims.num_blocks[3], 4 * wide, 8 * width, 2, block)
        num_statistics = 2 * 8 * wide * (dims.num_mels // 8)
        self.seg_1 = nn.Linear(num_statistics, dims.embedding)
        if dims.two_emb_layer:
            self.seg_bn_1 = nn.BatchNorm1d(dims.embedding, affine=False)
            self.seg_2 = nn.Linear(dims.embedding, dims.embedding)

    def trunk(self, fbank: Tensor) -> Tensor:
        """fbank (batch, frame, mel) -> (batch, feature, frame / 8): all that no mask touches."""
        h = fbank.transpose(1, 2)[:, None]  # (batch, 1, mel, frame)
        h = F.relu(self.bn1(self.conv1(h)))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))  # (batch, channel, mel / 8, frame / 8)
        return h.flatten(1, 2)  # channel-major

    def project(self, statistics: Tensor) -> Tensor:
        """statistics (..., 2 * feature) -> embeddings (..., embedding)."""
        embedding = self.seg_1(statistics)
        if self.dims.two_emb_layer:
            # BatchNorm1d wants (row, channel): masks of one chunk become rows of their own.
            rows = F.relu(embedding).flatten(0, -2)
            embedding = self.seg_2(self.seg_bn_1(rows)).view(embedding.shape)
        return embedding

    def forward(self, fbank: Tensor, weights: Tensor | None = None) -> Tensor:
        """One embedding per input, or per mask where several are given.

        fbank (batch, frame, mel), weights None or (batch, mask frame) -> (batch, embedding);
        weights (batch, speaker, mask frame) -> (batch, speaker, embedding). Masks of another
        length than the trunk's are resampled by nearest neighbour; the trunk runs once however
        many masks there are.
        """
        features = self.trunk(fbank)  # (batch, feature, frame)
        if weights is None:
            return self.project(pool_statistics(features, self.dims.pooling_epsilon))
        several = weights if weights.ndim == 3 else weights[:, None]  # (batch, speaker, mask frame)
        embeddings = self.project(pool_weighted_statistics(features, several, self.dims.pooling_epsilon))
        return embeddings if weights.ndim == 3 else embeddings[:, 0]


def pool_statistics(features: Tensor, epsilon: float) -> Tensor:
    """Mean and unbiased deviation over time: (batch, feature, frame) -> (batch, 2 * feature)."""
    return torch.cat([features.mean(dim=-1), (features.var(dim=-1) + epsilon).sqrt()], dim=-1)


def pool_weighted_statistics(features: Tensor, weights: Tensor, epsilon: float = 0.0) -> Tensor:
    """Weighted mean and deviation, with reliability weights as pyannote's `StatsPool` uses them.

    features (batch, feature, frame), weights (batch, speaker, mask frame) ->
    (batch, speaker, 2 * feature). All-zero weights give zeros, hence a finite embedding.
    """
    w = resample_nearest(weights, features.shape[-1])  # (batch, speaker, frame)
    v1 = w.sum(dim=-1, keepdim=True) + 1e-8  # (batch, speaker, 1)
    v2 = w.square().sum(dim=-1, keepdim=True)
    mean = (w @ features.transpose(1, 2)) / v1  # (batch, speaker, feature)
    deviation = features[:, None] - mean[..., None]  # (batch, speaker, feature, frame)
    variance = (w[:, :, None] * deviation.square()).sum(dim=-1) / (v1 - v2 / v1 + 1e-8)
    return torch.cat([mean, (variance + epsilon).sqrt()], dim=-1)


def resample_nearest(weights: Tensor, num_frames: int) -> Tensor:
    """weights (..., mask frame) -> (..., num_frames): entry i is ``weights[floor(i * ratio)]``.

    The ratio is a float32 as in torch's nearest interpolation, whose choice at exact
    multiples it decides; written out because ONNX runtimes round theirs differently.
    """
    num_given = weights.shape[-1]
    position = torch.arange(num_frames, device=weights.device, dtype=torch.float32)
    index = (position * (num_given / num_frames)).floor().long().clamp(max=num_given - 1)
    return weights.index_select(-1, index).to(torch.float32)
