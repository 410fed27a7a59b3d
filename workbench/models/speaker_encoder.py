"""Waveform to speaker embedding: Kaldi fbank, centred, and a WeSpeaker ResNet.

The module that pyannote calls `WeSpeakerResNet34`: its checkpoints hold the network's keys behind
the prefix `resnet.`, which is the attribute's name here.
"""

from __future__ import annotations

from torch import Tensor, nn

from workbench.fbank import KaldiFbankDims
from workbench.models.kaldi_fbank import KaldiFbank, centre
from workbench.models.resnet import ResNetDims, WeSpeakerResNet


class Centre(nn.Module):
    """Mean subtraction over all frames of the input, as a layer that can be hooked."""

    def forward(self, fbank: Tensor) -> Tensor:
        """fbank (batch, frame, mel) -> the same shape."""
        return centre(fbank)


class SpeakerEncoder(nn.Module):
    """Waveforms and masks to one embedding per mask."""

    def __init__(self, dims: ResNetDims, fbank: KaldiFbankDims | None = None):
        super().__init__()
        self.fbank = KaldiFbank(fbank)
        self.centre = Centre()
        self.resnet = WeSpeakerResNet(dims)

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that gives a frame."""
        return self.fbank.dims.length_samples

    def forward(self, waveform: Tensor, weights: Tensor | None = None) -> Tensor:
        """One embedding per waveform, or per mask where several are given.

        waveform (batch, sample), weights None or (batch, mask frame) -> (batch, embedding);
        weights (batch, speaker, mask frame) -> (batch, speaker, embedding).
        """
        return self.resnet(self.centre(self.fbank(waveform)), weights)
