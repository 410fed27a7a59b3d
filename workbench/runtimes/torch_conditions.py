"""What torch does under the options of a runtime: settings as torch reports them, and canaries."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from workbench.runtimes.probes import DENORMAL_BITS, busy_threads, make_product
from workbench.runtimes.torch_runtime import TorchRuntime

_SCATTER_SIZE = 200_000  # additions into few places: with scheduling, the order of sums would show
_REPEATS = 4


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """Settings inside a call of a runtime, and what was observed there."""

    device: str
    devices_of_outputs: dict[str, int]  # device -> modules whose output lies there
    dtypes_of_outputs: dict[str, int]  # number format -> modules whose output has it
    dtypes_of_weights: dict[str, int]
    matmul_tf32: bool | None  # as torch reports it; None on a CPU
    cudnn_tf32: bool | None
    matmul_error: float  # of float32 products, relative
    conv_error: float
    deterministic: bool  # as torch reports it
    fills_memory: bool  # whether new memory is filled, which torch does under deterministic algorithms alone
    scatter_repeats: bool  # whether repeated additions into few places have the same bits
    cudnn_deterministic: bool | None
    workspace: str | None  # CUBLAS_WORKSPACE_CONFIG
    threads: int  # as torch reports it
    threads_before: int  # outside of the call
    busy_threads: int | None  # that were seen computing
    flushed: float  # share of denormals that became zero


def observe_torch(runtime: TorchRuntime, waveforms: np.ndarray) -> TorchFacts:
    """Run canaries, and the network on waveforms (batch, samples), under the options of a runtime."""
    threads_before = torch.get_num_threads()
    devices: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    _watch(runtime, waveforms, devices, dtypes)
    product = make_product()
    device = runtime.device
    cuda = device.type == "cuda"
    backends: Any = torch.backends
    with runtime._numerics(), torch.autocast(device.type, enabled=False):
        left, right = (torch.from_numpy(each).to(device) for each in (product.left, product.right))
        return TorchFacts(
            device=str(device),
            devices_of_outputs=dict(devices),
            dtypes_of_outputs=dict(dtypes),
            dtypes_of_weights=dict(Counter(_word(p.dtype) for p in runtime.network.parameters())),
            matmul_tf32=_reported(backends.cuda.matmul, "allow_tf32") if cuda else None,
            cudnn_tf32=_reported(backends.cudnn, "allow_tf32") if cuda else None,
            matmul_error=product.error((left @ right).cpu().numpy()),
            # the same product as a convolution of width 1
            conv_error=product.error(
                nn.functional.conv1d(right.T[:, :, None].contiguous(), left[:, :, None])
                .squeeze(-1)
                .T.cpu()
                .numpy()
            ),
            deterministic=torch.are_deterministic_algorithms_enabled(),
            fills_memory=bool(torch.isnan(torch.empty(8, device=device)).all()),
            scatter_repeats=_scatter_repeats(device),
            cudnn_deterministic=_reported(backends.cudnn, "deterministic") if cuda else None,
            workspace=os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            threads=torch.get_num_threads(),
            threads_before=threads_before,
            busy_threads=None if cuda else busy_threads(_work),
            flushed=_flushed(device),
        )


def _reported(switches: Any, name: str) -> bool | None:
    """A switch of torch; None where it refuses to say, as when its older and newer names were mixed."""
    try:
        return bool(getattr(switches, name))
    except RuntimeError:
        return None


def _watch(runtime: TorchRuntime, waveforms: np.ndarray, devices: Counter[str], dtypes: Counter[str]) -> None:
    """Count where the outputs of all innermost modules lie, and in which format."""

    def after(_module: nn.Module, _inputs: object, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):
            devices[first.device.type] += 1
            dtypes[_word(first.dtype)] += 1

    leaves = [module for module in runtime.network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(after) for module in leaves]
    try:
        runtime.segment(waveforms) if runtime.kind == "segmentation" else runtime.embed(waveforms)
    finally:
        for handle in handles:
            handle.remove()


def _flushed(device: torch.device) -> float:
    """Share of denormals that became zero when they were halved; made and looked at as bits."""
    tiny = torch.full((1000, 1000), DENORMAL_BITS, dtype=torch.int32, device=device).view(torch.float32)
    return float(((tiny * 0.5).view(torch.int32) == 0).float().mean())


def _scatter_repeats(device: torch.device) -> bool:
    """Whether `index_add` gives the same bits every time."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 16, (_SCATTER_SIZE,), generator=generator).to(device)
    values = torch.randn(_SCATTER_SIZE, generator=generator).to(device)
    sums = [torch.zeros(16, device=device).index_add(0, index, values) for _ in range(_REPEATS)]
    return all(torch.equal(sums[0], each) for each in sums[1:])


def _work() -> None:
    """Matrix products that torch spreads over its threads."""
    left = torch.ones(384, 384)
    for _ in range(4):
        left = (left @ left).clamp_(max=1)


def exact_output(runtime: TorchRuntime, waveforms: np.ndarray) -> np.ndarray | None:
    """The network's output in double precision, as near to exact arithmetic as it gets; None if it refuses.

    Parameters
    ----------
    waveforms : float array, shape (batch, num_samples), in [-1, 1)
    """
    import copy

    network = copy.deepcopy(runtime.network).double()
    # layers that return float32 on purpose, such as the features, are followed by double ones
    handles = [
        module.register_forward_pre_hook(lambda _m, inputs: tuple(_doubled(each) for each in inputs))
        for module in network.modules()
    ]
    try:
        with torch.inference_mode():
            sound = torch.from_numpy(np.asarray(waveforms, dtype=np.float64)).to(runtime.device)
            output = network(sound[:, None] if runtime.kind == "segmentation" else sound)
        return np.asarray(output.cpu().numpy())
    except RuntimeError:  # a layer that mixes precisions by itself
        return None
    finally:
        for handle in handles:
            handle.remove()


def _doubled(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.double()
    return value


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def torch_build() -> dict[str, Any]:
    """Version, devices and libraries of the torch that is installed, for `workbench doctor`."""
    cuda: dict[str, Any] = {"compiled": torch.version.cuda, "available": torch.cuda.is_available()}
    if cuda["available"]:
        cuda["devices"] = [
            {
                "name": properties.name,
                "memory": int(properties.total_memory),
                "capability": f"{properties.major}.{properties.minor}",
            }
            for properties in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ]
    return {
        "version": torch.__version__,
        "cuda": cuda,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": torch.backends.mkldnn.is_available(),
    }
