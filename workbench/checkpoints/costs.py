"""What a network costs: parameters, and multiply-accumulates for a stretch of audio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_OPERATIONS_PER_MAC = 2  # torch counts a product and a sum apart
_SAMPLE_RATE = 16000  # Hz


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Size and work of a network, in all and by its outermost blocks.

    MACs are those of linear, convolution and recurrent layers and of the products inside attention,
    filter banks and Fourier transforms that are written as matrix products included; element-wise
    operations and norms are left out, as is usual.
    """

    parameters: int
    macs: int  # for `duration` seconds of one channel
    duration: float  # s
    parameters_by_block: Mapping[str, int]
    macs_by_block: Mapping[str, int]

    @property
    def macs_per_second(self) -> float:
        """MACs for a second of audio, at this chunk length: attention grows with its square."""
        return self.macs / self.duration


@torch.no_grad()
def count_costs(network: nn.Module, duration: float, kind: str = "segmentation") -> Costs:
    """Run a network once on silence and count.

    Parameters
    ----------
    network : segmentation or embedding network
    duration : length of the silence in s
    kind : {"segmentation", "embedding"}
        An embedding network is run with a single mask of ones.
    """
    parameter = next(network.parameters())
    waveforms = torch.zeros(1, round(duration * _SAMPLE_RATE), device=parameter.device)
    inputs = (
        (waveforms[:, None],) if kind == "segmentation" else (waveforms, torch.ones(1, 1, 100).to(waveforms))
    )
    was_training = network.training
    counter = FlopCounterMode(display=False, custom_mapping=_RECURRENT)
    try:
        with counter:
            network.eval()(*inputs)
    finally:
        network.train(was_training)
    # FlopCounterMode names modules by their path below the class of the outermost one
    below = f"{type(network).__name__}."
    counts = {path: sum(of.values()) // _OPERATIONS_PER_MAC for path, of in counter.get_flop_counts().items()}
    blocks = {
        name: sum(each.numel() for each in block.parameters()) for name, block in network.named_children()
    }
    return Costs(
        parameters=sum(each.numel() for each in network.parameters()),
        macs=counter.get_total_flops() // _OPERATIONS_PER_MAC,
        duration=duration,
        parameters_by_block=blocks,
        macs_by_block={name: counts.get(below + name, 0) for name in blocks},
    )


def _recurrent_flops(inputs: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
    """Products of one direction of a recurrent layer.

    The shapes are (frame, batch, input), (gates, input) and (gates, state).
    """
    frames, batch = inputs[0], inputs[1]
    gates, width = weight_ih
    return int(_OPERATIONS_PER_MAC * frames * batch * gates * (width + weight_hh[1]))


# The CPU's fused recurrent layer, which torch itself does not count.
_RECURRENT: dict[Any, Any] = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops}
