"""Smaller numbers in an ONNX file: half precision, or dynamically quantized products.

What must not be rounded stays in single precision: the front end up to the first features (a
waveform's energies span more than half precision does), statistics pooling (differences of squares,
divisions by 1e-8), everything that ends as an index (buckets of relative positions, resampled
masks), and the last softmax.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from workbench.errors import InputError
from workbench.export.half import to_half

PRECISIONS = ("fp32", "fp16", "int8")
_RECURRENT = {"LSTM", "GRU", "RNN"}
_SHAPES = {"Shape", "Size"}  # what follows depends on sizes, not on the values before
_INTEGERS = {TensorProto.INT32, TensorProto.INT64}
_FEATURES = ("conv_0", "fbank")  # stages up to which nothing is rounded; the first that is there
_POOLING = (("layer4", "pool"), ("conv", "pool"))  # from and to, in a ResNet and an ECAPA-TDNN


def check_precision(model: onnx.ModelProto, precision: str) -> None:
    """An error for what could not run: ONNX Runtime's CPU build crashes on half precision LSTMs."""
    recurrent = sorted({node.op_type for node in model.graph.node} & _RECURRENT)
    if precision == "fp16" and recurrent:
        raise InputError(
            f"fp16 is not offered for models with {', '.join(recurrent)} layers: ONNX Runtime's CPU build "
            "crashes when it loads one (segmentation fault). Use fp32, or int8, which leaves these layers as "
            "they are"
        )


def reduce_precision(path: Path, precision: str) -> None:
    """Rewrite a file in place; inputs and outputs stay single precision."""
    if precision == "fp32":
        return
    model = onnx.load(str(path))
    check_precision(model, precision)
    fold_transposes(model.graph)
    kept = sorted(exact_nodes(model))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    with _quiet():
        if precision == "fp16":
            converted = to_half(model, set(kept))
        else:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            del model.graph.value_info[:]  # stale shapes stop the quantizer
            quantize_dynamic(
                model,
                str(path),
                op_types_to_quantize=["MatMul", "Gemm"],  # quantized convolutions are slower on CPUs
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=[*kept, *_classifier(model)],  # it is small, and decides
                extra_options={"DefaultTensorType": TensorProto.FLOAT},
            )
            converted = onnx.load(str(path))
            if not any(node.op_type == "MatMulInteger" for node in converted.graph.node):
                raise InputError(
                    "int8 is of no use here: the graph has no matrix products with fixed weights"
                )
    del converted.graph.value_info[:]
    produced = {tensor for node in converted.graph.node for tensor in node.output}
    stages = json.loads(properties.get("stages", "{}"))
    properties["stages"] = json.dumps({name: tensor for name, tensor in stages.items() if tensor in produced})
    del converted.metadata_props[:]
    onnx.helper.set_model_props(converted, properties)
    onnx.save(converted, str(path))


def fold_transposes(graph: GraphProto) -> None:
    """Turn weights that the graph transposes into transposed weights, which can be quantized."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Transpose" and node.input[0] in weights:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            array = numpy_helper.to_array(weights[node.input[0]]).transpose(order)
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), node.output[0]))
            graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for name in weights.keys() - used:
        graph.initializer.remove(weights[name])


def exact_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that stay in single precision."""
    nodes = list(model.graph.node)
    producer = {tensor: node for node in nodes for tensor in node.output}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    stages: dict[str, str] = json.loads(properties.get("stages", "{}"))
    kept: set[str] = set()
    for stage in _FEATURES:
        if stage in stages:
            kept |= _before(stages[stage], producer)
            break
    for first, last in _POOLING:
        if first in stages and last in stages:
            kept |= _before(stages[last], producer) - _before(stages[first], producer)
            break
    for node in nodes:
        target = next((a.i for a in node.attribute if a.name == "to"), None)
        if node.op_type == "LogSoftmax":
            kept.add(node.name)
        if node.op_type == "Cast" and target in _INTEGERS:
            kept |= _before(node.output[0], producer)
    return kept


def _classifier(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes of the last linear layer, of a segmentation model."""
    producer = {tensor: node for node in model.graph.node for tensor in node.output}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    logits = producer.get(json.loads(properties.get("stages", "{}")).get("logits", ""))
    if logits is None:
        return []
    before = [producer[name] for name in logits.input if name in producer]
    return [node.name for node in (logits, *before) if node.op_type in ("MatMul", "Gemm")]


def _before(tensor: str, producer: dict[str, NodeProto]) -> set[str]:
    """Names of all nodes whose values a tensor depends on."""
    found: set[str] = set()
    waiting = [tensor]
    while waiting:
        node = producer.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        if node.op_type not in _SHAPES:
            waiting.extend(node.input)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' advice off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
