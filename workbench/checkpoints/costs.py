"""What a network costs: parameters, and multiply-accumulates for a stretch of audio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_OPERATIONS_PER_MAC = 2  # torch counts a product and a sum apart
_SAMPLE_RATE = 16000  # Hz
_LARGE = 0.1  # of all parameters: blocks with less are not taken apart


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """Size and work of one module, and of the modules inside it."""

    path: str  # dotted, empty for the whole network
    parameters: int
    macs: int
    inside: tuple[BlockCost, ...] = ()


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
    tree: BlockCost

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
        tree=_tree(network, "", {path.removeprefix(below): macs for path, macs in counts.items()}),
    )


def largest_blocks(costs: Costs, most: int = 24) -> pd.DataFrame:
    """Where parameters and work are: the network taken apart, its largest blocks first, as far as rows allow.

    Blocks of equal size are opened together or not at all, so that all layers of an encoder look alike.

    Parameters
    ----------
    costs : as `count_costs` returns them
    most : rows of the table, unless the outermost blocks are more

    Returns
    -------
    blocks : DataFrame
        In the network's order: `block` (dotted path), `parameters`, `macs` (for `costs.duration`
        seconds). What a block that was opened holds beside the blocks inside it has a row of its own,
        its name in parentheses, so that the columns add up to the whole.
    """
    rows = _opened(costs.tree)
    while True:
        closed = [row for row in rows if row.inside]
        largest = max((row.parameters for row in closed), default=0)
        wanted = [row for row in closed if row.parameters == largest]
        grown = [part for row in rows for part in (_opened(row) if row in wanted else [row])]
        if largest < _LARGE * costs.parameters or not wanted or len(grown) > most:
            break
        rows = grown
    return pd.DataFrame(
        [(row.path, row.parameters, row.macs) for row in rows], columns=["block", "parameters", "macs"]
    )


def _tree(module: nn.Module, path: str, counts: Mapping[str, int]) -> BlockCost:
    """A module and what is inside it; containers that are never called do the work of their members."""
    inside = [
        _tree(child, f"{path}.{name}" if path else name, counts) for name, child in module.named_children()
    ]
    below = sum(each.macs for each in inside)
    return BlockCost(
        path=path,
        parameters=sum(each.numel() for each in module.parameters()),
        macs=max(counts.get(path, 0), below),
        inside=tuple(each for each in inside if each.parameters or each.macs),
    )


def _opened(block: BlockCost) -> list[BlockCost]:
    """The parts of a block, and first what it has beside them."""
    own = BlockCost(
        path=f"({block.path})" if block.path else "(network)",
        parameters=block.parameters - sum(each.parameters for each in block.inside),
        macs=block.macs - sum(each.macs for each in block.inside),
    )
    return ([own] if own.parameters > 0 or own.macs > 0 else []) + list(block.inside)


def _recurrent_flops(inputs: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
    """Products of one direction of a recurrent layer.

    The shapes are (frame, batch, input), (gates, input) and (gates, state).
    """
    frames, batch = inputs[0], inputs[1]
    gates, width = weight_ih
    return int(_OPERATIONS_PER_MAC * frames * batch * gates * (width + weight_hh[1]))


# The CPU's fused recurrent layer, which torch itself does not count.
_RECURRENT: dict[Any, Any] = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops}
