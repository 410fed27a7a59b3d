"""DiariZen's main model: WavLM, a weighted sum of its layers, a conformer, powerset classes.

Compatible with `diarizen.models.eend.model_wavlm_conformer.Model` (Han et al., "Leveraging
Self-Supervised Learning for Speaker Diarization", ICASSP 2025). Attribute names are the
checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from workbench.models.conformer import ConformerDims, ConformerEncoder
from workbench.models.receptive_field import count_frames, receptive_field
from workbench.models.segmentation_dims import SegmentationDims
from workbench.models.wavlm import WavLM, WavLMDims


@dataclass(frozen=True, kw_only=True)
class WavLMConformerDims(ConformerDims, SegmentationDims):
    """`[model.args]` of a DiariZen WavLM experiment, as far as it decides shapes and numbers."""

    wavlm: WavLMDims = field(default_factory=WavLMDims)  # what `wavlm_src` stands for


class LayerSum(nn.Linear):
    """Sum over layers under learnt weights: raw ones, without a softmax."""

    def __init__(self, num_layers: int):
        super().__init__(num_layers, 1, bias=False)

    def forward(self, hidden: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Tensors of shape (batch, frame, width), one per layer -> (batch, frame, width)."""
        return super().forward(torch.stack(hidden, dim=-1))[..., 0]


class WavLMConformer(nn.Module):
    """Waveform chunks to log-probabilities of powerset classes."""

    def __init__(self, dims: WavLMConformerDims):
        super().__init__()
        self.dims = dims
        self.wavlm_model = WavLM(dims.wavlm)
        self.weight_sum = LayerSum(dims.wavlm.encoder_num_layers + 1)
        self.proj = nn.Linear(dims.wavlm.encoder_embed_dim, dims.attention_in)
        self.lnorm = nn.LayerNorm(dims.attention_in)
        self.conformer = ConformerEncoder(dims)
        self.classifier = nn.Linear(dims.attention_in, dims.num_classes)

    @property
    def conv_layers(self) -> list[tuple[int, int]]:
        """(kernel, stride) of the convolutions between waveform and frames."""
        return [(kernel, stride) for _, kernel, stride in self.dims.wavlm.extractor_conv_layer_config]

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that gives a frame."""
        return receptive_field(self.conv_layers)[1]

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
        hidden = self.wavlm_model(waveform[:, self.dims.selected_channel])
        h = self.weight_sum(hidden)  # (batch, frame, width)
        h = self.lnorm(self.proj(h))  # (batch, frame, conformer width)
        return torch.log_softmax(self.classifier(self.conformer(h)), dim=-1)
