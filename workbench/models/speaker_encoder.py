"""Waveform to speaker embedding: Kaldi fbank, centred, and a WeSpeaker network.

With a ResNet it is the module that pyannote calls `WeSpeakerResNet34`: its checkpoints hold the
network's keys behind the prefix `resnet.`, which is the attribute's name here.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from workbench.fbank import KaldiFbankDims
from workbench.models.ecapa_tdnn import ECAPATDNN, ECAPADims
from workbench.models.kaldi_fbank import KaldiFbank, centre
from workbench.models.resnet import ResNetDims, WeSpeakerResNet, resample_nearest


class Centre(nn.Module):
    """Mean subtraction over all frames of the input, as a layer that can be hooked."""

    def forward(self, fbank: Tensor) -> Tensor:
        """fbank (batch, frame, mel) -> the same shape."""
        return centre(fbank)


class SpeakerEncoder(nn.Module):
    """Waveforms and masks to one embedding per mask; each network has its own way with masks."""

    def __init__(self, fbank: KaldiFbankDims | None = None):
        super().__init__()
        self.fbank = KaldiFbank(fbank)
        self.centre = Centre()

    @property
    def min_num_frames(self) -> int:
        """Fewest fbank frames that give an embedding."""
        return 1

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that gives an embedding."""
        dims = self.fbank.dims
        return dims.length_samples + (self.min_num_frames - 1) * dims.shift_samples

    def features(self, waveform: Tensor) -> Tensor:
        """waveform (batch, sample) -> centred fbank (batch, frame, mel)."""
        return self.centre(self.fbank(waveform))

    @abstractmethod
    def embed_features(self, fbank: Tensor, weights: Tensor | None = None) -> Tensor:
        """What `forward` makes of centred fbank (batch, frame, mel)."""


class ResNetEncoder(SpeakerEncoder):
    """A ResNet, whose pooling takes the masks as weights: its trunk runs once for all of them."""

    def __init__(self, dims: ResNetDims, fbank: KaldiFbankDims | None = None):
        super().__init__(fbank)
        self.resnet = WeSpeakerResNet(dims)

    def forward(self, waveform: Tensor, weights: Tensor | None = None) -> Tensor:
        """One embedding per waveform, or per mask where several are given.

        waveform (batch, sample), weights None or (batch, mask frame) -> (batch, embedding);
        weights (batch, speaker, mask frame) -> (batch, speaker, embedding).
        """
        return self.embed_features(self.features(waveform), weights)

    def embed_features(self, fbank: Tensor, weights: Tensor | None = None) -> Tensor:
        """What `forward` makes of centred fbank (batch, frame, mel)."""
        return self.resnet(fbank, weights)


class ECAPAEncoder(SpeakerEncoder):
    """An ECAPA-TDNN, whose attentive pooling knows no weights: a mask picks the frames it hears.

    As pyannote's ONNX wrapper has it: features are centred over the whole waveform, the mask is
    resampled to their frames, those above 0.5 are joined and embedded on their own. A mask that
    leaves too few gives NaN, the sign of "no embedding".
    """

    def __init__(self, dims: ECAPADims, fbank: KaldiFbankDims | None = None):
        super().__init__(fbank)
        self.ecapa = ECAPATDNN(dims)

    @property
    def min_num_frames(self) -> int:
        """Fewest fbank frames that give an embedding: the deviation of the global context takes two."""
        return 2 if self.ecapa.dims.global_context_att else 1

    def forward(self, waveform: Tensor, weights: Tensor | None = None) -> Tensor:
        """Shapes as of `ResNetEncoder`."""
        return self.embed_features(self.features(waveform), weights)

    def embed_features(self, fbank: Tensor, weights: Tensor | None = None) -> Tensor:
        """What `forward` makes of centred fbank (batch, frame, mel)."""
        if weights is None:
            return self.ecapa(fbank)
        several = weights if weights.ndim == 3 else weights[:, None]  # (batch, speaker, mask frame)
        selected = resample_nearest(several, fbank.shape[1]) > 0.5  # (batch, speaker, frame)
        if selected.all():
            embeddings = self.ecapa(fbank)[:, None].expand(-1, several.shape[1], -1)
        else:
            embeddings = torch.stack(
                [
                    torch.stack([self.embed_selected(frames, mask) for mask in masks])
                    for frames, masks in zip(fbank, selected, strict=True)
                ]
            )
        return embeddings if weights.ndim == 3 else embeddings[:, 0]

    def embed_selected(self, frames: Tensor, selected: Tensor) -> Tensor:
        """frames (frame, mel), selected (frame) bool -> (embedding)."""
        if int(selected.sum()) < self.min_num_frames:
            return frames.new_full((self.ecapa.dims.embedding,), float("nan"))
        return self.ecapa(frames[selected][None])[0]
