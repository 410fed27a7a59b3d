"""The named stages inside an ONNX graph: read them, or feed them and go on from there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from workbench.runtimes.base import check_waveforms

if TYPE_CHECKING:
    import onnx

    from workbench.runtimes.onnx_runtime import OnnxRuntime

_GIVEN = "given/"  # prefix of the inputs that take the place of tensors
_MOST_SESSIONS = 4  # kept for the next batch
_FRONT_END = "fbank"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where a stage is found in a graph."""

    tensor: str
    axes: tuple[int, ...] | None = None  # its axes in the order of the stage's; None: the same
    shape: tuple[int, ...] | None = (
        None  # with the axes of size 1 that the stage does not have; None: the same
    )


class StageGraph:
    """Sessions over parts of a runtime's graph, made as they are asked for.

    Parameters
    ----------
    runtime : the runtime whose options the sessions share
    """

    def __init__(self, runtime: OnnxRuntime):
        self.runtime = runtime
        self.doors = {stage: Door(tensor=tensor) for stage, tensor in runtime.metadata.stages.items()}
        self._model: onnx.ModelProto | None = None
        self._types: dict[str, str] = {}  # tensor -> its type, as ONNX Runtime writes it
        self._sessions: OrderedDict[tuple[frozenset[str], frozenset[str]], onnxruntime.InferenceSession] = (
            OrderedDict()
        )

    @property
    def output_stage(self) -> str:
        """What the output is called as a stage."""
        if self.runtime.kind == "embedding":
            return "embedding"
        return "multilabel" if self.runtime.metadata.output == "multilabel" else "log_probs"

    @property
    def output_tensor(self) -> str:
        """What the output is called in the graph."""
        return self.runtime.metadata.wiring.output or self.runtime.session.get_outputs()[0].name

    @property
    def model(self) -> onnx.ModelProto | None:
        """The whole model; None where the onnx package is not installed."""
        if self._model is None:
            try:
                import onnx
            except ImportError:
                return None
            self._model = onnx.load(str(self.runtime.path))
        return self._model

    def run(
        self, waveforms: np.ndarray, names: Collection[str] | None, given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Stages of waveforms (batch, samples), those in `given` replaced for whoever reads them."""
        runtime = self.runtime
        features = runtime._features(check_waveforms(waveforms, runtime.min_num_samples))
        outside = features.ndim == 3
        found = {_FRONT_END: features} if outside and _wanted(_FRONT_END, names) else {}
        inputs = runtime._inputs(waveforms)
        if outside and _FRONT_END in given:
            inputs |= runtime._feed(np.asarray(given[_FRONT_END], dtype=np.float32))
        produced = self.produced()
        doors = {
            stage: door
            for stage, door in self.doors.items()
            if door.tensor in produced and _wanted(stage, names)
        }
        cuts = {
            stage: door
            for stage, door in self.doors.items()
            if door.tensor in produced and stage in given and stage != self.output_stage
        }
        tensors = {door.tensor for door in doors.values()}
        output = _wanted(self.output_stage, names)
        if not tensors and not output:
            return found
        session = self._session(frozenset(tensors | ({self.output_tensor} if output else set())), cuts)
        needed = {value.name: value.type for value in session.get_inputs()}
        feed = {name: array for name, array in inputs.items() if name in needed}
        for stage, door in cuts.items():
            self._feed_door(feed, needed, stage, door, given[stage])
        arrays = dict(zip((o.name for o in session.get_outputs()), runtime._run(session, feed), strict=True))
        first_names: dict[str, str] = {}  # tensor -> the first of the stages that it is
        for stage, door in doors.items():
            earlier = first_names.setdefault(door.tensor, stage)
            # the end of a part is the end of what it is part of: to that, it comes from outside
            fed = earlier != stage and earlier in cuts
            found[stage] = (
                np.asarray(given[earlier]) if fed else self._from_graph(stage, door, arrays[door.tensor])
            )
        if output:
            found[self.output_stage] = self._result(arrays)
        return found

    def produced(self) -> set[str]:
        """Tensors that some node of the graph puts out, besides the output."""
        model = self.model
        if model is None:
            return set()
        return {tensor for node in model.graph.node for tensor in node.output} - {self.output_tensor, ""}

    def read(
        self,
        tensors: Collection[str],
        waveforms: np.ndarray,
        given: Mapping[str, tuple[Door, np.ndarray]] | None = None,
    ) -> dict[str, np.ndarray]:
        """Tensors of the graph as they are, by their own names; `given` stages replace those behind doors."""
        given = given or {}
        session = self._session(frozenset(tensors), {stage: door for stage, (door, _) in given.items()})
        needed = {value.name: value.type for value in session.get_inputs()}
        feed = {name: a for name, a in self.runtime._inputs(waveforms).items() if name in needed}
        for stage, (door, array) in given.items():
            self._feed_door(feed, needed, stage, door, array)
        arrays = self.runtime._run(session, feed)
        return dict(zip((o.name for o in session.get_outputs()), arrays, strict=True))

    def _feed_door(
        self,
        feed: dict[str, np.ndarray],
        needed: Mapping[str, str],
        stage: str,
        door: Door,
        array: np.ndarray,
    ) -> None:
        """Put a stage where the graph takes its tensor from outside, if it does."""
        if (name := f"{_GIVEN}{door.tensor}") in needed:
            placed = self._to_graph(stage, door, np.asarray(array))
            feed[name] = placed.astype(np.float16 if "float16" in needed[name] else np.float32)

    def _result(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The output as `segment` and `embed` give it."""
        from workbench.runtimes.onnx_runtime import log_probs_of, order_output

        array = order_output(arrays[self.output_tensor], self.runtime.metadata.wiring, self.runtime)
        if self.runtime.kind == "embedding":
            return array[:, 0] if array.ndim == 3 else array  # one mask of ones stands for "all frames"
        if self.runtime.metadata.output == "multilabel":
            return array
        return log_probs_of(array, self.runtime.metadata.wiring.values)

    def _from_graph(self, stage: str, door: Door, array: np.ndarray) -> np.ndarray:
        """A tensor as the stage that it is."""
        array = array.astype(np.float32, copy=False)  # of half precision files
        if door.shape is not None:
            array = array.squeeze()
        if door.axes is not None:
            array = array.transpose(door.axes)
        if stage == "pool" and self.runtime.kind == "embedding" and array.ndim == 3:
            return array[:, 0]  # one mask of ones stands for "all frames"
        return array

    def _to_graph(self, stage: str, door: Door, array: np.ndarray) -> np.ndarray:
        """A stage as the tensor that it is."""
        if stage == "pool" and self.runtime.metadata.masks == "weights" and array.ndim == 2:
            array = array[:, None]
        if door.axes is not None:
            array = array.transpose(np.argsort(door.axes))
        if door.shape is not None:
            rest = iter(array.shape)
            array = array.reshape([1 if size == 1 else next(rest) for size in door.shape])
        return np.ascontiguousarray(array)

    def _session(self, wanted: frozenset[str], cuts: Mapping[str, Door]) -> onnxruntime.InferenceSession:
        """A session that puts out `wanted` and takes the tensors of `cuts` from outside."""
        key = (wanted, frozenset(door.tensor for door in cuts.values()))
        if key in self._sessions:
            self._sessions.move_to_end(key)
            return self._sessions[key]
        model = self.model
        if model is None:
            return self.runtime.session
        types = self._types_of(key[1]) if key[1] else {}
        self._sessions[key] = self.runtime._start(part_of(model, wanted, types).SerializeToString())
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return self._sessions[key]

    def _types_of(self, tensors: frozenset[str]) -> dict[str, str]:
        """Number formats of tensors, which ONNX Runtime knows once it has loaded the graph."""
        if not tensors <= self._types.keys():
            if self.model is None:
                raise RuntimeError("types are asked for only where the model can be read")
            session = self.runtime._start(part_of(self.model, tensors, {}).SerializeToString())
            self._types |= {output.name: output.type for output in session.get_outputs()}
        return {tensor: self._types[tensor] for tensor in tensors}


def part_of(model: onnx.ModelProto, wanted: Collection[str], given: Mapping[str, str]) -> onnx.ModelProto:
    """The part of a model that makes certain tensors, going on from others.

    Parameters
    ----------
    model : with its weights inside
    wanted : tensors to put out
    given : tensor -> type such as `tensor(float)`
        Whoever reads one of these gets the input `given/NAME` instead; the tensor itself is still
        made, if it is wanted.
    """
    import onnx

    makers = {tensor: node for node in model.graph.node for tensor in node.output if tensor}
    kept: dict[int, onnx.NodeProto] = {}  # by identity, in no order yet
    read: set[str] = set()
    todo = list(wanted)
    while todo:
        node = makers.get(todo.pop())
        if node is None or id(node) in kept:
            continue
        kept[id(node)] = node
        for name in reads(node):
            read.add(f"{_GIVEN}{name}" if name in given else name)
            if name not in given:
                todo.append(name)
    part = onnx.ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name or "part"
    for node in model.graph.node:
        if id(node) in kept:
            _redirect(part.graph.node.add(), node, given)
    read |= set(wanted)  # a graph may put out what it was given
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    part.graph.sparse_initializer.extend(
        tensor for tensor in model.graph.sparse_initializer if tensor.values.name in read
    )
    part.graph.input.extend(value for value in model.graph.input if value.name in read)
    for name, kind in given.items():
        if f"{_GIVEN}{name}" in read:
            word = kind.removeprefix("tensor(").removesuffix(")").upper()
            number = onnx.TensorProto.DataType.Value(word)
            part.graph.input.append(onnx.helper.make_tensor_value_info(f"{_GIVEN}{name}", number, None))
    outputs = {value.name: value for value in model.graph.output}
    for name in sorted(wanted):
        value = outputs.get(name) or onnx.helper.make_empty_tensor_value_info(name)
        part.graph.output.append(value)
    return part


def reads(node: onnx.NodeProto) -> list[str]:
    """Tensors that a node reads, those that its inner graphs take from outside included."""
    names = [name for name in node.input if name]
    for graph in _inner_graphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {tensor for inner in graph.node for tensor in inner.output}
        names += [name for inner in graph.node for name in reads(inner) if name not in own]
        names += [value.name for value in graph.output if value.name not in own]
    return names


def _redirect(new: onnx.NodeProto, node: onnx.NodeProto, given: Mapping[str, Any]) -> None:
    """A copy of a node that reads what is given in place of what was made."""
    new.CopyFrom(node)
    stack = [new]
    while stack:
        each = stack.pop()
        for index, name in enumerate(each.input):
            if name in given:
                each.input[index] = f"{_GIVEN}{name}"
        stack += [inner for graph in _inner_graphs(each) for inner in graph.node]


def _inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs of a loop or a branch."""
    return [
        graph
        for attribute in node.attribute
        for graph in ([attribute.g] if attribute.HasField("g") else [*attribute.graphs])
    ]


def _wanted(stage: str, names: Collection[str] | None) -> bool:
    return names is None or stage in names
