"""Exact commands that turn an ONNX file into an engine for TensorRT or an Ascend NPU.

Neither program is run here: their results come back as a folder of dumps with a `geometry.json`
beside them, which is a `recorded:` runtime.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import InputError
from workbench.fbank import DEFAULT_DIMS
from workbench.runtimes.onnx_runtime import OnnxRuntime
from workbench.serving.shapes import Tensor, frames_of, seconds_of, tensors_of


@dataclass(frozen=True, kw_only=True)
class EngineShapes:
    """Smallest, usual and largest input; TensorRT makes an engine for all of them."""

    batch: tuple[int, int, int] = (1, 16, 64)
    seconds: tuple[float, float, float] | None = None  # None: the model's chunk, or 1, 2 and 10 s
    speakers: tuple[int, int, int] = (1, 1, 4)  # masks per waveform, where the graph takes them

    def __post_init__(self) -> None:
        for name in ("batch", "seconds", "speakers"):
            values = getattr(self, name)
            if values is not None and not 0 < values[0] <= values[1] <= values[2]:
                raise InputError(f"{name} must be given as min <= usual <= max above 0, got {values}")


def trtexec_command(
    runtime: OnnxRuntime,
    shapes: EngineShapes | None = None,
    *,
    engine: str = "model.plan",
    precision: str = "fp32",
) -> str:
    """The `trtexec` call for a model's inputs.

    Parameters
    ----------
    runtime : exported model
    shapes : smallest, usual and largest input
    engine : file that trtexec is to write
    precision : `fp32` forbids TensorFloat-32, which TensorRT uses unless told otherwise; `tf32`, `fp16`
    """
    flags = {"fp32": ["--noTF32"], "tf32": [], "fp16": ["--fp16"]}
    if precision not in flags:
        raise InputError(f"precision must be one of {', '.join(flags)}, got {precision!r}")
    words = ["trtexec", f"--onnx={runtime.path}", f"--saveEngine={engine}"]
    inputs, _ = tensors_of(runtime)
    profiles = _profiles(runtime, inputs, shapes or EngineShapes())
    if any(isinstance(dim, str) for each in inputs for dim in each.dims):
        for flag, sizes in zip(("minShapes", "optShapes", "maxShapes"), profiles, strict=True):
            shown = (
                f"{each.name}:{'x'.join(map(str, size))}" for each, size in zip(inputs, sizes, strict=True)
            )
            words.append(f"--{flag}={','.join(shown)}")
    return shlex.join([*words, *flags[precision]])


def atc_command(
    runtime: OnnxRuntime,
    batch: int = 1,
    seconds: float | None = None,
    *,
    soc_version: str = "Ascend310P3",
) -> str:
    """The `atc` call for one fixed input size, as Ascend's compiler takes it.

    Parameters
    ----------
    runtime : exported model
    batch : inputs that run together
    seconds : length of a waveform; by default the model's chunk, or the 200 feature frames (2.015 s) that
        published tables are measured on
    soc_version : the chip, as `npu-smi info` names it
    """
    if seconds is None and runtime.geometry is None:
        seconds = seconds_of(200, runtime.metadata.fbank or DEFAULT_DIMS)
    one = None if seconds is None else (seconds, seconds, seconds)
    shapes = EngineShapes(batch=(batch, batch, batch), seconds=one, speakers=(1, 1, 1))
    inputs, _ = tensors_of(runtime)
    sizes = _profiles(runtime, inputs, shapes)[1]
    shown = ";".join(
        f"{each.name}:{','.join(map(str, size))}" for each, size in zip(inputs, sizes, strict=True)
    )
    return shlex.join(
        [
            "atc",
            f"--model={runtime.path}",
            "--framework=5",  # ONNX
            f"--output={Path(runtime.path).stem}_bs{batch}",
            "--input_format=ND",
            f"--input_shape={shown}",
            f"--soc_version={soc_version}",
            "--log=error",
        ]
    )


def _profiles(
    runtime: OnnxRuntime, inputs: Sequence[Tensor], shapes: EngineShapes
) -> list[list[tuple[int, ...]]]:
    """Sizes of every input, three times: smallest, usual, largest."""
    lengths = _lengths(runtime, shapes)
    result = []
    for place in range(3):
        sizes = []
        for each in inputs:
            axes = _axes(runtime, each)
            values = {
                "batch": shapes.batch[place],
                "channel": 1,
                "time": lengths[place],
                "speaker": shapes.speakers[place],
                "mask": lengths[place],
            }
            sizes.append(
                tuple(
                    dim if isinstance(dim, int) else values[axis]
                    for dim, axis in zip(each.dims, axes, strict=True)
                )
            )
        result.append(sizes)
    return result


def _lengths(runtime: OnnxRuntime, shapes: EngineShapes) -> list[int]:
    """Samples, or feature frames where the graph takes features."""
    metadata = runtime.metadata
    if metadata.geometry is not None:
        seconds = shapes.seconds or (metadata.geometry.chunk_duration,) * 3
        return [round(each * metadata.geometry.sample_rate) for each in seconds]
    dims = metadata.fbank or DEFAULT_DIMS
    seconds = shapes.seconds or (1.0, 2.0, 10.0)
    if metadata.fbank_inside:
        return [round(each * dims.sample_rate) for each in seconds]
    frames = [frames_of(each, dims) for each in seconds]
    if frames[0] < metadata.min_frames:
        raise InputError(
            f"{seconds[0]:g} s make {frames[0]} feature frames, the model needs {metadata.min_frames} "
            f"({seconds_of(metadata.min_frames, dims):g} s)"
        )
    return frames


def _axes(runtime: OnnxRuntime, tensor: Tensor) -> tuple[str, ...]:
    """What the axes of an input mean."""
    metadata = runtime.metadata
    masked = metadata.kind == "embedding" and metadata.masks == "weights"
    if masked and tensor.name == metadata.wiring.weights:
        return ("batch", "speaker", "mask")
    axes: tuple[str, ...] = metadata.wiring.input_axes
    if len(axes) != len(tensor.dims):
        raise InputError(
            f"{runtime}: {tensor.name} has {len(tensor.dims)} axes, but is described by {', '.join(axes)}"
        )
    return axes
