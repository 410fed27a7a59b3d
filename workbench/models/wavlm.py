"""WavLM encoder, whole or structurally pruned, keeping the output of every layer.

After Chen et al., "WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech
Processing", 2022, in the form DiariZen prunes it (`diarizen/models/module/wav2vec2`): heads,
feed-forward units, convolution channels and whole sub-blocks may be missing. Attribute names
are the checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)


@dataclass(frozen=True, kw_only=True)
class WavLMDims:
    """Sizes of a WavLM encoder; the defaults are WavLM base. Names as in DiariZen's `config`."""

    extractor_mode: str = "group_norm"  # or "layer_norm": a norm after every convolution (large)
    extractor_conv_layer_config: tuple[tuple[int, int, int], ...] = tuple(
        (512, kernel, stride) for kernel, stride in zip(CONV_KERNELS, CONV_STRIDES, strict=True)
    )  # (channels, kernel, stride) of every convolution
    extractor_conv_bias: bool = False
    encoder_embed_dim: int = 768
    encoder_pos_conv_kernel: int = 128
    encoder_pos_conv_groups: int = 16
    encoder_num_layers: int = 12
    encoder_use_attention: tuple[bool, ...] = (True,) * 12  # per layer: is the sub-block there?
    encoder_use_feed_forward: tuple[bool, ...] = (True,) * 12
    encoder_total_num_heads: tuple[int, ...] = (12,) * 12  # per layer, before pruning
    encoder_remaining_heads: tuple[tuple[int, ...], ...] = (tuple(range(12)),) * 12  # kept heads, in order
    encoder_num_buckets: int = 320  # of the relative position bias
    encoder_max_distance: int = 800  # frames; farther ones share the last bucket
    encoder_ff_interm_features: tuple[int, ...] = (3072,) * 12  # per layer
    encoder_layer_norm_first: bool = False  # pre-norm (large) or post-norm (base)
    normalize_waveform: bool = False  # zero mean, unit variance per chunk (large)
    head_width: int = field(init=False)  # values per head, the same before and after pruning

    def __post_init__(self) -> None:
        if self.extractor_mode not in {"group_norm", "layer_norm"}:
            raise ValueError(
                f"extractor_mode must be 'group_norm' or 'layer_norm', got {self.extractor_mode!r}"
            )
        per_layer = (
            "encoder_use_attention",
            "encoder_use_feed_forward",
            "encoder_total_num_heads",
            "encoder_remaining_heads",
            "encoder_ff_interm_features",
        )
        for name in per_layer:
            if len(getattr(self, name)) != self.encoder_num_layers:
                raise ValueError(
                    f"{name} must have one entry per layer: expected {self.encoder_num_layers}, "
                    f"got {len(getattr(self, name))}"
                )
        for layer, (total, kept) in enumerate(
            zip(self.encoder_total_num_heads, self.encoder_remaining_heads, strict=True)
        ):
            if self.encoder_use_attention[layer] and not (
                kept and len(set(kept)) == len(kept) and all(0 <= head < total for head in kept)
            ):
                raise ValueError(
                    f"encoder_remaining_heads of layer {layer} must be different numbers from 0 to "
                    f"{total - 1}, got {list(kept)}"
                )
        object.__setattr__(self, "head_width", self.encoder_embed_dim // self.encoder_total_num_heads[0])


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of (batch, channel, frame)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, frame) -> the same shape."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvLayer(nn.Module):
    """Strided convolution, norm where there is one, GELU."""

    def __init__(self, num_in: int, config: tuple[int, int, int], norm: nn.Module | None, bias: bool):
        super().__init__()
        num_out, kernel, stride = config
        self.layer_norm = norm
        self.conv = nn.Conv1d(num_in, num_out, kernel, stride=stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channel, sample) -> (batch, channel, fewer samples)."""
        h = self.conv(x)
        if self.layer_norm is not None:
            h = self.layer_norm(h)
        return F.gelu(h)


class FeatureExtractor(nn.Module):
    """Seven convolutions from samples to frames of 20 ms."""

    def __init__(self, dims: WavLMDims):
        super().__init__()
        layers, num_in = [], 1
        for i, config in enumerate(dims.extractor_conv_layer_config):
            norm: nn.Module | None = None
            if dims.extractor_mode == "layer_norm":
                norm = ChannelLayerNorm(config[0])
            elif i == 0:
                norm = nn.GroupNorm(config[0], config[0])  # per channel, over time
            layers.append(ConvLayer(num_in, config, norm, dims.extractor_conv_bias))
            num_in = config[0]
        self.conv_layers = nn.ModuleList(layers)
        # The soft pruning mask of the last convolution: ones, unless the model was pruned.
        self.dummy_weight = nn.Parameter(torch.ones(num_in))

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (batch, sample) -> (batch, frame, channel)."""
        h = waveform[:, None]  # (batch, 1, sample)
        for layer in self.conv_layers:
            h = layer(h)
        return h.transpose(1, 2) * self.dummy_weight


class FeatureProjection(nn.Module):
    """Norm and linear layer from convolution channels to the encoder's width."""

    def __init__(self, dims: WavLMDims):
        super().__init__()
        num_in = dims.extractor_conv_layer_config[-1][0]
        self.layer_norm = nn.LayerNorm(num_in)
        self.projection = nn.Linear(num_in, dims.encoder_embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, frame, channel) -> (batch, frame, width)."""
        return self.projection(self.layer_norm(x))


class PositionalConvolution(nn.Module):
    """Grouped convolution over time whose output tells positions apart; one norm per tap."""

    def __init__(self, dims: WavLMDims):
        super().__init__()
        width, kernel = dims.encoder_embed_dim, dims.encoder_pos_conv_kernel
        conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=dims.encoder_pos_conv_groups)
        self.conv = weight_norm(conv, dim=2)
        self.num_surplus = 1 - kernel % 2  # an even kernel gives one frame too many

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        h = self.conv(x.transpose(1, 2))  # (batch, width, frame + surplus)
        return F.gelu(h[..., : h.shape[-1] - self.num_surplus]).transpose(1, 2)


def relative_bucket(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of a signed distance in frames: exact when near, logarithmic when far.

    The order of the float32 operations decides borderline buckets, so it is kept.
    """
    half = num_buckets // 2  # one half for each sign
    exact = half // 2
    size = distance.abs()
    scaled = (size.clamp(min=1).float() / exact).log() / log(max_distance / exact) * (half - exact)
    far = (exact + scaled.to(torch.int64)).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + half * (distance > 0)


class SelfAttention(nn.Module):
    """Attention with a gated relative position bias, over the heads that pruning kept."""

    kept: Tensor

    def __init__(self, dims: WavLMDims, layer: int):
        super().__init__()
        width, heads = dims.encoder_embed_dim, dims.encoder_total_num_heads[layer]
        kept = dims.encoder_remaining_heads[layer]
        inner = len(kept) * dims.head_width
        self.dims, self.num_kept, self.num_heads = dims, len(kept), heads
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.q_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)
        # Only the first layer has the table; the others are handed the bias it makes.
        self.rel_attn_embed = nn.Embedding(dims.encoder_num_buckets, heads) if layer == 0 else None
        self.gru_rel_pos_linear = nn.Linear(dims.head_width, 8)
        self.register_buffer("kept", torch.tensor(kept, dtype=torch.int64), persistent=False)

    def position_bias(self, num_frames: int) -> Tensor | None:
        """Bias table (head, frame, frame), made once per forward pass by the first layer."""
        if self.rel_attn_embed is None:
            return None
        frame = torch.arange(num_frames, device=self.kept.device)
        distance = frame[None, :] - frame[:, None]  # entry [i, j] is j - i
        bucket = relative_bucket(distance, self.dims.encoder_num_buckets, self.dims.encoder_max_distance)
        bias: Tensor = self.rel_attn_embed(bucket).permute(2, 0, 1)
        return bias

    def gate(self, x: Tensor) -> Tensor:
        """How much of the position bias each frame uses: (batch, kept head, frame, 1)."""
        by_head = x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, head, frame, head width)
        pair = self.gru_rel_pos_linear(by_head).unflatten(-1, (2, 4)).sum(dim=-1)  # (batch, head, frame, 2)
        a, b = pair.sigmoid().chunk(2, dim=-1)
        return (a * (b * self.gru_rel_pos_const - 1) + 2).index_select(1, self.kept)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (batch, frame, width), bias (head, frame, frame) -> (batch, frame, width)."""

        def split_heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.num_kept, -1)).transpose(1, 2)

        q = split_heads(self.q_proj(x)) * self.dims.head_width**-0.5  # (batch, head, frame, head width)
        scores = q @ split_heads(self.k_proj(x)).transpose(-2, -1)  # (batch, head, frame, frame)
        if bias is not None:
            scores = scores + self.gate(x) * bias.index_select(0, self.kept)
        mixed = torch.softmax(scores, dim=-1) @ split_heads(self.v_proj(x))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.intermediate_dense = nn.Linear(width, hidden)
        self.output_dense = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        return self.output_dense(F.gelu(self.intermediate_dense(x)))


class EncoderLayer(nn.Module):
    """Attention and feed-forward with residuals, either of which pruning may have removed."""

    def __init__(self, dims: WavLMDims, layer: int):
        super().__init__()
        width = dims.encoder_embed_dim
        self.norm_first = dims.encoder_layer_norm_first
        self.attention = SelfAttention(dims, layer) if dims.encoder_use_attention[layer] else None
        self.layer_norm = nn.LayerNorm(width)
        hidden = dims.encoder_ff_interm_features[layer]
        self.feed_forward = FeedForward(width, hidden) if dims.encoder_use_feed_forward[layer] else None
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (batch, frame, width), bias (head, frame, frame) -> like x."""
        if self.attention is not None:
            x = x + self.attention(self.layer_norm(x) if self.norm_first else x, bias)
        if not self.norm_first:
            x = self.layer_norm(x)  # even where the attention is gone
        if self.feed_forward is not None:
            x = x + self.feed_forward(self.final_layer_norm(x) if self.norm_first else x)
        return x if self.norm_first else self.final_layer_norm(x)


class Transformer(nn.Module):
    """Positions and layers; returns what enters the first layer and what leaves every one."""

    def __init__(self, dims: WavLMDims):
        super().__init__()
        self.norm_first = dims.encoder_layer_norm_first
        self.pos_conv_embed = PositionalConvolution(dims)
        # Pre-norm models store this norm, too, but nothing that DiariZen reads passes through it.
        self.layer_norm = nn.LayerNorm(dims.encoder_embed_dim)
        self.layers = nn.ModuleList(EncoderLayer(dims, i) for i in range(dims.encoder_num_layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (batch, frame, width) -> num_layers + 1 tensors of the same shape."""
        x = x + self.pos_conv_embed(x)
        if not self.norm_first:
            x = self.layer_norm(x)
        first = cast(EncoderLayer, self.layers[0]).attention
        bias = None if first is None else first.position_bias(x.shape[1])
        hidden = [x]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], bias))
        return hidden


class Encoder(nn.Module):
    """Projection and transformer."""

    def __init__(self, dims: WavLMDims):
        super().__init__()
        self.feature_projection = FeatureProjection(dims)
        self.transformer = Transformer(dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (batch, frame, channel) -> num_layers + 1 tensors (batch, frame, width)."""
        return self.transformer(self.feature_projection(x))


class WavLM(nn.Module):
    """Waveform chunks to the hidden states of all layers."""

    def __init__(self, dims: WavLMDims):
        super().__init__()
        self.dims = dims
        self.feature_extractor = FeatureExtractor(dims)
        self.encoder = Encoder(dims)

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """waveform (batch, sample) -> num_layers + 1 tensors (batch, frame, width)."""
        if self.dims.normalize_waveform:
            # Spelt out: a layer norm over all samples would fix the length of an exported graph.
            centred = waveform - waveform.mean(dim=-1, keepdim=True)
            waveform = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return self.encoder(self.feature_extractor(waveform))
