"""Conformer encoder as DiariZen builds it (`diarizen/models/module/conformer.py`).

After Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition",
Interspeech 2020: pre-norm sub-blocks in the order feed-forward (half weight), attention,
convolution, feed-forward (half weight), final norm. Attribute names are the checkpoint's keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_RELATIVE_POSITION = 1000  # farther frames share the embedding of this distance
ACTIVATIONS = {"Tanh", "ReLU", "ReLU6", "LeakyReLU", "PReLU", "Sigmoid"}


@dataclass(frozen=True, kw_only=True)
class ConformerDims:
    """Sizes of a conformer encoder."""

    attention_in: int = 256  # width of the encoder
    ffn_hidden: int = 1024  # width inside a feed-forward block
    num_head: int = 4  # attention heads; must divide attention_in
    num_layer: int = 4  # blocks
    kernel_size: int = 31  # taps of the depthwise convolution, odd
    dropout: float = 0.1  # no effect at inference
    use_posi: bool = False  # relative positions in the attention
    output_activate_function: str | None = None  # name of a torch activation after the last block

    def __post_init__(self) -> None:
        if self.attention_in % self.num_head:
            raise ValueError(
                f"attention_in must be a multiple of num_head, got {self.attention_in} and {self.num_head}"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        if self.output_activate_function not in {None, *ACTIVATIONS}:
            raise ValueError(
                f"output_activate_function must be false or one of {sorted(ACTIVATIONS)}, "
                f"got {self.output_activate_function!r}"
            )


class FeedForward(nn.Module):
    """Half-weight feed-forward sub-block, residual included."""

    def __init__(self, dims: ConformerDims):
        super().__init__()
        self.ln_norm = nn.LayerNorm(dims.attention_in)
        self.w_1 = nn.Linear(dims.attention_in, dims.ffn_hidden)
        self.w_2 = nn.Linear(dims.ffn_hidden, dims.attention_in)
        self.dropout = nn.Dropout(dims.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        h = self.dropout(F.silu(self.w_1(self.ln_norm(x))))  # (batch, frame, hidden)
        return x + 0.5 * self.dropout(self.w_2(h))


class MultiHeadSelfAttention(nn.Module):
    """Scaled dot-product attention over all frames of the chunk, without a mask."""

    def __init__(self, dims: ConformerDims):
        super().__init__()
        self.num_head = dims.num_head
        self.linearQ = nn.Linear(dims.attention_in, dims.attention_in)
        self.linearK = nn.Linear(dims.attention_in, dims.attention_in)
        self.linearV = nn.Linear(dims.attention_in, dims.attention_in)
        self.linearO = nn.Linear(dims.attention_in, dims.attention_in)
        self.dropout = nn.Dropout(dims.dropout)

    def split_heads(self, x: Tensor) -> Tensor:
        """(batch, frame, width) -> (batch, head, frame, width / head)."""
        return x.unflatten(-1, (self.num_head, -1)).transpose(1, 2)

    def forward(self, x: Tensor, position: Tensor | None) -> Tensor:
        """x (batch, frame, width), position (frame, frame, width / head) or None -> like x."""
        q = self.split_heads(self.linearQ(x))  # (batch, head, frame, head width)
        k = self.split_heads(self.linearK(x))
        v = self.split_heads(self.linearV(x))
        scores = q @ k.transpose(-2, -1)  # (batch, head, frame, frame)
        if position is not None:
            # The same position term for every head, added before the scaling.
            scores = scores + torch.einsum("bhid,ijd->bhij", q, position)
        weights = torch.softmax(scores / q.shape[-1] ** 0.5, dim=-1)
        mixed = self.dropout(weights) @ v  # (batch, head, frame, head width)
        return self.linearO(mixed.transpose(1, 2).flatten(2))


class SelfAttention(nn.Module):
    """Attention sub-block, residual included."""

    def __init__(self, dims: ConformerDims):
        super().__init__()
        self.ln_norm = nn.LayerNorm(dims.attention_in)
        self.mha = MultiHeadSelfAttention(dims)
        self.dropout = nn.Dropout(dims.dropout)

    def forward(self, x: Tensor, position: Tensor | None) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        return x + self.dropout(self.mha(self.ln_norm(x), position))


class Convolution(nn.Module):
    """Gated depthwise convolution sub-block, residual included."""

    def __init__(self, dims: ConformerDims):
        super().__init__()
        width, kernel = dims.attention_in, dims.kernel_size
        self.ln_norm = nn.LayerNorm(width)
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, kernel_size=1)
        self.depthwise_conv = nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2, groups=width)
        self.bn_norm = nn.BatchNorm1d(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, kernel_size=1)
        self.dropout = nn.Dropout(dims.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        h = self.ln_norm(x).transpose(1, 2)  # (batch, width, frame)
        h = F.glu(self.pointwise_conv1(h), dim=1)  # (batch, width, frame)
        h = F.silu(self.bn_norm(self.depthwise_conv(h)))
        return x + self.dropout(self.pointwise_conv2(h).transpose(1, 2))


class ConformerBlock(nn.Module):
    """Feed-forward, attention, convolution, feed-forward, norm."""

    def __init__(self, dims: ConformerDims):
        super().__init__()
        self.ffn1 = FeedForward(dims)
        self.mha = SelfAttention(dims)
        self.conv = Convolution(dims)
        self.ffn2 = FeedForward(dims)
        self.ln_norm = nn.LayerNorm(dims.attention_in)

    def forward(self, x: Tensor, position: Tensor | None) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        return self.ln_norm(self.ffn2(self.conv(self.mha(self.ffn1(x), position))))


class RelativePosition(nn.Module):
    """One learned vector per clamped distance between two frames, shared by all heads."""

    def __init__(self, width: int):
        super().__init__()
        self.pe_k = nn.Embedding(2 * MAX_RELATIVE_POSITION, width)

    def forward(self, frame: Tensor) -> Tensor:
        """frame (frame,) int64 -> (frame, frame, width), entry [i, j] for the distance i - j."""
        distance = frame[:, None] - frame[None, :]
        index = distance.clamp(-MAX_RELATIVE_POSITION, MAX_RELATIVE_POSITION - 1) + MAX_RELATIVE_POSITION
        return self.pe_k(index)


class ConformerEncoder(nn.Module):
    """A stack of conformer blocks, with relative positions and an output activation if asked for."""

    def __init__(self, dims: ConformerDims):
        super().__init__()
        self.pos_emb = RelativePosition(dims.attention_in // dims.num_head) if dims.use_posi else None
        self.conformer_layer = nn.ModuleList(ConformerBlock(dims) for _ in range(dims.num_layer))
        name = dims.output_activate_function
        self.activate_function = getattr(nn, name)() if name else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, frame, width) -> the same shape."""
        position = None
        if self.pos_emb is not None:
            position = self.pos_emb(torch.arange(x.shape[1], device=x.device))  # (frame, frame, head width)
        for block in self.conformer_layer:
            x = block(x, position)
        return self.activate_function(x)
