"""Model repositories of the Triton inference server.

The layout is `<folder>/<name>/config.pbtxt` and `<folder>/<name>/<version>/model.onnx`; the
configuration is the text form of `inference.ModelConfig` of Triton's `model_config.proto`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import InputError
from workbench.files import atomic_write
from workbench.runtimes.onnx_runtime import OnnxRuntime, load_onnx
from workbench.runtimes.spec import OnnxOptions, parse_spec
from workbench.serving.engines import EngineShapes, atc_command, trtexec_command
from workbench.serving.shapes import Tensor, seconds_of, tensors_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
# entries of an exported file that a client needs: how to feed it, how to read it, where it is from
_PARAMETERS = (
    "kind",
    "output",
    "sample_rate",
    "geometry",
    "powerset",
    "fbank",
    "fbank_inside",
    "masks",
    "min_frames",
    "source_digest",
)


@dataclass(frozen=True, kw_only=True)
class TritonSettings:
    """How a server is to run a model."""

    max_batch_size: int = 64  # requests that run together; taken as 0 where the graph's batch is fixed
    max_queue_delay_ms: float = 5.0  # that a request waits for others
    kind: str = "auto"  # auto, gpu or cpu
    instances: int = 1  # copies of the model
    version: int = 1  # name of the version's folder


def write_triton_model(
    onnx: Path, folder: Path, name: str | None = None, settings: TritonSettings | None = None
) -> Path:
    """Put an exported model into a Triton model repository.

    Parameters
    ----------
    onnx : exported model
    folder : the repository; other models in it stay
    name : of the model; by default `segmentation` or `embedding`
    settings : how it is to run

    Returns
    -------
    config : the `config.pbtxt` written; beside it, `engines.md` has the commands for TensorRT and Ascend
    """
    settings = settings or TritonSettings()
    runtime = load_onnx(parse_spec(f"onnx:{onnx}"), OnnxOptions(), None)
    name = runtime.kind if name is None else name
    if not _NAME.fullmatch(name):
        raise InputError(f"a Triton model's name has letters, digits, '_', '-' and '.', got {name!r}")
    config = triton_config(runtime, name, settings)
    model = folder / name / str(settings.version) / "model.onnx"
    with atomic_write(model) as temporary:
        shutil.copyfile(onnx, temporary)
    data = onnx.with_name(onnx.name + ".data")
    if data.is_file():  # weights outside of the file
        with atomic_write(model.with_name(data.name)) as temporary:
            shutil.copyfile(data, temporary)
    path = folder / name / "config.pbtxt"
    notes = engine_notes(load_onnx(parse_spec(f"onnx:{model}"), OnnxOptions(), None))
    for target, text in ((folder / name / "engines.md", notes), (path, config)):
        with atomic_write(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def triton_config(runtime: OnnxRuntime, name: str, settings: TritonSettings) -> str:
    """The text of a model's `config.pbtxt`."""
    if settings.kind not in _KINDS:
        raise InputError(f"kind must be one of {', '.join(_KINDS)}, got {settings.kind!r}")
    if settings.max_batch_size < 0 or settings.instances < 1 or settings.version < 1:
        raise InputError("the batch size must be at least 0, instances and version at least 1")
    inputs, outputs = tensors_of(runtime)
    batched = settings.max_batch_size > 0 and all(
        each.dims and isinstance(each.dims[0], str) for each in inputs + outputs
    )
    lines = [
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {settings.max_batch_size if batched else 0}",
        *_tensors("input", inputs, batched),
        *_tensors("output", outputs, batched),
        "instance_group [",
        "  {",
        f"    count: {settings.instances}",
        f"    kind: {_KINDS[settings.kind]}",
        "  }",
        "]",
    ]
    if batched:
        lines += [
            "# Requests are joined into a batch only if they are equally long: send chunks of one length.",
            "dynamic_batching {",
            f"  max_queue_delay_microseconds: {round(1000 * settings.max_queue_delay_ms)}",
            "}",
        ]
    lines += [f"version_policy {{ specific {{ versions: [ {settings.version} ] }} }}"]
    fields: Mapping[str, str] = runtime.session.get_modelmeta().custom_metadata_map
    for key in _PARAMETERS:
        if key in fields:
            value = _quoted(fields[key])
            lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {value} }} }}")
    return "\n".join(lines) + "\n"


def _tensors(word: str, tensors: Sequence[Tensor], batched: bool) -> list[str]:
    lines = [f"{word} ["]
    for place, tensor in enumerate(tensors):
        dims = tensor.dims[1:] if batched else tensor.dims
        axes = ", ".join(map(str, dims))
        lines += [
            f"  {{  # {'batch, ' if batched else ''}{axes}",
            f"    name: {_quoted(tensor.name)}",
            f"    data_type: TYPE_{tensor.data_type}",
            f"    dims: [ {', '.join(str(dim) if isinstance(dim, int) else '-1' for dim in dims)} ]",
            "  }" + ("," if place + 1 < len(tensors) else ""),
        ]
    return [*lines, "]"]


def engine_notes(runtime: OnnxRuntime) -> str:
    """How to make engines of the model and bring their results back, as Markdown."""
    metadata = runtime.metadata
    what = {"segmentation": "log_probs", "embedding": "embeddings"}[metadata.kind]
    note = ""
    if metadata.fbank is not None and not metadata.fbank_inside:
        rate = metadata.fbank.sample_rate
        note = (
            f"\nThe input is features, {metadata.fbank.num_mel_bins} per frame, "
            f"{'with' if metadata.centred else 'without'} their mean over time subtracted: 2 s at {rate} Hz "
            f"are 198 frames, and 200 frames take {seconds_of(200, metadata.fbank):g} s. Dither must be 0.\n"
        )
    return f"""# Engines of {runtime.path.name}
{note}
TensorRT, for inputs between the smallest and the largest shape (`--noTF32` keeps float32 products;
without it, differences of 1e-3 are normal):

    {trtexec_command(runtime, EngineShapes())}

For Triton, put the engine beside the ONNX file as `model.plan`, and in `config.pbtxt` say
`platform: "tensorrt_plan"` and `default_model_filename: "model.plan"` instead of what stands there.

Ascend, one model per input size:

    {atc_command(runtime)}

Results come back as a recorded folder: one `<uri>.npz` per recording with the array `{what}`, and
`geometry.json` beside them, which `workbench record` writes for the model this file was made of.
`recorded:DIR` is then a runtime like any other, for example for `workbench verify` or `workbench parity`.
Embeddings may also come as Kaldi's ark and scp: `workbench verify embeddings.scp TRIALS`.
"""


def _quoted(text: str) -> str:
    """A string of protobuf's text form: bytes outside of printable ASCII are escaped."""
    parts = []
    for byte in text.encode("utf-8", "surrogateescape"):
        character = chr(byte)
        if character in '"\\':
            parts.append("\\" + character)
        else:
            parts.append(character if 32 <= byte < 127 else f"\\{byte:03o}")
    return f'"{"".join(parts)}"'
