"""ONNX graphs in half precision, but for chosen nodes, whose values never leave single precision.

(The converter that comes with ONNX Runtime rounds what passes between two excluded nodes, and the
inputs of the graph, which a front end does not survive.)
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_LARGEST, _SMALLEST = 65504.0, 6e-8  # of half precision; smaller ones become this, not zero
_CREATORS = {"Constant", "ConstantOfShape"}  # hold floats in attributes


def to_half(model: ModelProto, kept: Set[str]) -> ModelProto:
    """Half precision everywhere but in the nodes named in `kept`; inputs and outputs stay as they are."""
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    types = tensor_types(inferred)
    floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
    builder = _Builder(graph, floats)
    for node in list(graph.node):
        builder.add(node, half=node.name not in kept and _can_be_half(node, types.keys()))
    builder.finish()
    del graph.value_info[:]
    return inferred


def tensor_types(model: ModelProto) -> dict[str, int]:
    """Number formats by tensor: those that shape inference found, and what follows from the operators."""
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in [*graph.value_info, *graph.output, *graph.input]:
        types[value.name] = value.type.tensor_type.elem_type
    types = {name: kind for name, kind in types.items() if kind}
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    for node in graph.node:
        if node.domain or not onnx.defs.has(node.op_type):
            continue
        schema = onnx.defs.get_schema(node.op_type, version)
        # inference gives up on shapes it cannot follow, but a type variable such as T is one everywhere
        bound = {
            formal.type_str: types[name]
            for formal, name in zip(schema.inputs, node.input, strict=False)
            if name in types
        }
        for formal, name in zip(schema.outputs, node.output, strict=False):
            if name and name not in types and formal.type_str in bound:
                types[name] = bound[formal.type_str]
            elif name and name not in types and formal.type_str.startswith("tensor("):
                types[name] = TensorProto.DataType.Value(formal.type_str[len("tensor(") : -1].upper())
    return types


def _can_be_half(node: NodeProto, known: Set[str]) -> bool:
    """Nodes with graphs inside them are left alone, and those that meet tensors of an unknown type."""
    names = [name for name in (*node.input, *node.output) if name]
    return all(name in known for name in names) and not any(
        a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute
    )


class _Builder:
    """The nodes of the new graph, with casts where the two precisions meet."""

    def __init__(self, graph: GraphProto, floats: set[str]):
        self.graph, self.floats = graph, floats
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.halves: set[str] = set()  # tensors that are half precision now
        self.nodes: list[NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}  # (tensor, type) -> its copy
        self.added: list[TensorProto] = []

    def add(self, node: NodeProto, half: bool) -> None:
        """A node, its inputs in the precision it works in."""
        new = NodeProto()
        new.CopyFrom(node)
        for index, name in enumerate(node.input):
            if name in self.floats or name in self.halves:
                new.input[index] = self.as_type(name, TensorProto.FLOAT16 if half else TensorProto.FLOAT)
        if half:
            _round_attributes(new)
            self.halves |= {name for name in node.output if name in self.floats}
        self.nodes.append(new)

    def as_type(self, name: str, kind: int) -> str:
        """The name under which a tensor is to be had in a precision."""
        if (kind == TensorProto.FLOAT16) == (name in self.halves):
            return name
        if (name, kind) not in self.casts:
            copy = f"{name}_{'half' if kind == TensorProto.FLOAT16 else 'single'}"
            self.casts[name, kind] = copy
            if name in self.weights:
                array = rounded(numpy_helper.to_array(self.weights[name]))
                self.added.append(numpy_helper.from_array(array, copy))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [copy], f"{copy}_cast", to=kind))
        return self.casts[name, kind]

    def finish(self) -> None:
        """Put the new nodes and weights into the graph; outputs get their precision back."""
        renamed = {}
        for output in self.graph.output:
            if output.name in self.halves:
                renamed[output.name] = f"{output.name}_half"
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = renamed.get(name, name)
        for name, half in renamed.items():
            cast = helper.make_node("Cast", [half], [name], f"{name}_cast", to=TensorProto.FLOAT)
            self.nodes.append(cast)
        used = {name for node in self.nodes for name in node.input}
        weights = [tensor for tensor in [*self.graph.initializer, *self.added] if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(weights)


def _round_attributes(node: NodeProto) -> None:
    """Floats that a node creates, and casts to float, in half precision."""
    for attribute in node.attribute:
        if node.op_type in _CREATORS and attribute.t.data_type == TensorProto.FLOAT:
            array = rounded(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(array))
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


def rounded(array: np.ndarray) -> np.ndarray:
    """Half precision without infinities and without new zeros: an epsilon must not vanish.

    Examples
    --------
    >>> rounded(np.array([1e9, -1e-12, 0.0, 1.5], dtype=np.float32))
    array([ 6.55e+04, -5.96e-08,  0.00e+00,  1.50e+00], dtype=float16)
    """
    clipped = np.clip(array, -_LARGEST, _LARGEST)
    clipped = np.where(
        (clipped != 0) & (np.abs(clipped) < _SMALLEST), np.copysign(_SMALLEST, clipped), clipped
    )
    return clipped.astype(np.float16)
