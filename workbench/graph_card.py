"""What an ONNX file is made of: operations, number formats, size, origin, and the files of its family."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import InputError
from workbench.files import file_digest
from workbench.runtimes.external_data import check_external_data

if TYPE_CHECKING:
    import onnx

_MOST_SIBLINGS = 64  # files of a folder that are looked at


@dataclass(frozen=True, kw_only=True)
class FamilyMember:
    """One file of those exported from the same weights for the same output."""

    file: str  # name in the folder
    precision: str  # fp32, fp16 or int8
    num_bytes: int
    opset: str
    max_abs_diff: float | None  # to the source, as measured when it was exported
    flips: int | None  # frames decided otherwise than by the source
    frames: int | None  # compared
    min_cosine: float | None  # between embeddings


@dataclass(frozen=True, kw_only=True)
class GraphCard:
    """What an ONNX file says about itself and is found to hold."""

    opset: int
    ir_version: int
    producer: str
    inputs: dict[str, str]  # name -> type and shape
    outputs: dict[str, str]
    num_nodes: int
    operations: dict[str, int]  # the most frequent first
    weight_types: dict[str, int]  # number format -> numbers stored in it
    num_parameters: int  # floating-point and quantized numbers
    num_bytes: int  # external files included
    sha256: str  # of the model file
    external_files: tuple[str, ...]
    source_digest: str | None  # SHA-256 of the checkpoint it was exported from
    precision: str | None
    stages: tuple[str, ...]
    metadata: dict[str, str]
    family: tuple[FamilyMember, ...]  # itself included, if there are others


def read_graph_card(path: Path) -> GraphCard:
    """Everything about an ONNX file; nothing is run, and no file outside of its folder is read."""
    import onnx

    external = check_external_data(path)
    model = _load(path)
    graph = model.graph
    types: Counter[str] = Counter()
    for tensor in graph.initializer:
        count = 1
        for size in tensor.dims:
            count *= size
        types[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += count
    fields = {entry.key: entry.value for entry in model.metadata_props}
    weights = {name for tensor in graph.initializer for name in [tensor.name]}
    return GraphCard(
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs={value.name: _type_of(value) for value in graph.input if value.name not in weights},
        outputs={value.name: _type_of(value) for value in graph.output},
        num_nodes=len(graph.node),
        operations=dict(Counter(node.op_type for node in graph.node).most_common()),
        weight_types=dict(types.most_common()),
        num_parameters=sum(count for kind, count in types.items() if _is_parameter(kind)),
        num_bytes=path.stat().st_size + sum(file.stat().st_size for file in external),
        sha256=file_digest(path),
        external_files=tuple(str(file.relative_to(path.parent)) for file in external),
        source_digest=fields.get("source_digest"),
        precision=fields.get("precision"),
        stages=tuple(_json(fields.get("stages"))),
        metadata=fields,
        family=find_family(path, fields),
    )


def find_family(path: Path, fields: dict[str, str]) -> tuple[FamilyMember, ...]:
    """ONNX files beside this one with the same source and output; empty where it is alone."""
    if "source_digest" not in fields:
        return ()
    members = []
    for file in sorted(path.parent.glob("*.onnx"))[:_MOST_SIBLINGS]:
        try:
            check_external_data(file)
            found = {entry.key: entry.value for entry in _load(file).metadata_props}
        except InputError:
            continue  # a neighbour that is broken is another matter
        if all(found.get(key) == fields.get(key) for key in ("source_digest", "output")):
            members.append(_member(file, found))
    return tuple(members) if len(members) > 1 else ()


def _member(file: Path, fields: dict[str, str]) -> FamilyMember:
    agreement = _json(fields.get("agreement"))
    return FamilyMember(
        file=file.name,
        precision=fields.get("precision", "fp32"),
        num_bytes=file.stat().st_size,
        opset=fields.get("opset", ""),
        max_abs_diff=agreement.get("max_abs_diff"),
        flips=agreement.get("flips"),
        frames=agreement.get("frames"),
        min_cosine=agreement.get("min_cosine"),
    )


def _load(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of protobuf, which has no types
        raise InputError.at(path, f"is not an ONNX file: {error}") from None


def _type_of(value: Any) -> str:
    """Number format and axes, such as `float (batch, 1, samples)`."""
    import onnx

    tensor = value.type.tensor_type
    axes = [dim.dim_param or (str(dim.dim_value) if dim.dim_value else "?") for dim in tensor.shape.dim]
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} ({', '.join(axes)})"


def _is_parameter(kind: str) -> bool:
    """Whether numbers of a format are weights rather than shapes and indices."""
    return kind in ("float", "float16", "bfloat16", "double", "int8", "uint8")


def _json(text: str | None) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
