"""Cutting a signal into overlapping frames."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_frames(signal: Tensor, size: int, step: int) -> Tensor:
    """Complete frames only: signal (..., sample) -> (..., frame, size).

    The same as `signal.unfold(-1, size, step)`, as a gather that every ONNX exporter and opset
    can express with a dynamic number of samples.
    """
    start = torch.arange(0, signal.shape[-1] - size + 1, step, device=signal.device)
    offset = torch.arange(size, device=signal.device)
    return signal[..., start[:, None] + offset]
