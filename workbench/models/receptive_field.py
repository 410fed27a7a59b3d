"""Frames and receptive field of a stack of unpadded 1-d convolutions and poolings."""

from __future__ import annotations

from collections.abc import Sequence

Layers = Sequence[tuple[int, int]]
"""(kernel, stride) of every layer, from the waveform on."""


def count_frames(num_samples: int, layers: Layers) -> int:
    """Output frames for `num_samples` input samples."""
    for kernel, stride in layers:
        num_samples = 1 + (num_samples - kernel) // stride
    return max(0, num_samples)


def receptive_field(layers: Layers) -> tuple[float, int, int]:
    """Start, size and step of the output frames, in samples.

    The start follows pyannote's convention, in which a kernel of even length is centred on the
    left one of its two middle samples.
    """
    centre, size, step = 0, 1, 1
    for kernel, stride in reversed(layers):
        centre = centre * stride + (kernel - 1) // 2
        size = kernel + (size - 1) * stride
        step *= stride
    return centre - (size - 1) / 2, size, step
