"""What a graph takes and puts out, and how seconds become feature frames."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import InputError
from workbench.fbank import DEFAULT_DIMS, KaldiFbankDims
from workbench.runtimes.onnx_runtime import OnnxRuntime

_TYPES = {
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(double)": "FP64",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(uint8)": "UINT8",
    "tensor(bool)": "BOOL",
}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of a graph."""

    name: str
    data_type: str  # FP32, FP16, ...: Triton's names without TYPE_
    dims: tuple[int | str, ...]  # a number where it is fixed, else the name of the axis


def frames_of(seconds: float, dims: KaldiFbankDims = DEFAULT_DIMS) -> int:
    """Feature frames of a waveform: complete ones only.

    Examples
    --------
    >>> frames_of(2.0), frames_of(0.02)
    (198, 0)
    """
    samples = round(seconds * dims.sample_rate)
    return max(0, 1 + (samples - dims.length_samples) // dims.shift_samples)


def seconds_of(num_frames: int, dims: KaldiFbankDims = DEFAULT_DIMS) -> float:
    """Shortest waveform (s) that gives so many feature frames.

    Examples
    --------
    >>> seconds_of(200)
    2.015
    """
    if num_frames < 1:
        raise InputError(f"a waveform has at least one frame to count, got {num_frames}")
    return (dims.length_samples + (num_frames - 1) * dims.shift_samples) / dims.sample_rate


def tensors_of(runtime: OnnxRuntime) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a graph, the outputs of stages left out."""
    session = runtime.session
    wiring = runtime.metadata.wiring
    outputs = session.get_outputs()
    wanted = [output for output in outputs if output.name == (wiring.output or outputs[0].name)]
    inputs, chosen = (
        [_tensor(each, runtime) for each in values] for values in (session.get_inputs(), wanted)
    )
    return inputs, chosen


def _tensor(value: object, runtime: OnnxRuntime) -> Tensor:
    name, kind, shape = (getattr(value, key) for key in ("name", "type", "shape"))
    if kind not in _TYPES:
        raise InputError(f"{runtime}: {name} is of type {kind}, which is not served")
    dims = tuple(
        dim if isinstance(dim, int) else str(dim or f"axis_{axis}") for axis, dim in enumerate(shape)
    )
    return Tensor(name=name, data_type=_TYPES[kind], dims=dims)
