"""From a traced network to a tidy ONNX file: readable names, our metadata, nothing of this machine."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import onnx
import torch

from workbench import __version__
from workbench.checkpoints import LoadedModel
from workbench.export.graphs import Graph
from workbench.models.speaker_encoder import ECAPAEncoder, SpeakerEncoder
from workbench.runtimes.geometry import geometry_to_json

# Torch has two exporters. The tracing one is ten times as fast and keeps double-precision constants;
# operator sets above 20 only exist in the newer one.
TRACED_UP_TO = 20


def write_graph(graph: Graph, path: Path, opset: int) -> None:
    """Trace a graph and write it with dynamic axes; stages stay inside under their names."""
    inputs = graph.example()
    if opset > TRACED_UP_TO and any(isinstance(module, torch.nn.RNNBase) for module in graph.modules()):
        raise ValueError(
            f"its LSTM would be tied to one length of audio; opsets up to {TRACED_UP_TO} have a dynamic one"
        )
    with torch.no_grad(), _quiet():
        graph(*inputs)  # which stages there are
        input_names, output_names = list(graph.inputs), [graph.output, *graph.stages]
        dynamic = [
            {axis: torch.export.Dim.DYNAMIC for axis, name in enumerate(axes) if name}
            for axes in graph.inputs.values()
        ]
        if opset > TRACED_UP_TO:
            # its optimizer takes the 1e-8 of the pooling for zero and drops it, hence optimize=False
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=(tuple(dynamic),),
                verbose=False,
                optimize=False,
                input_names=input_names,
                output_names=output_names,
            )
            assert program is not None  # for the type checker: with dynamo a program is returned
            program.save(str(path))
        else:
            axes = {name: _named(axes) for name, axes in graph.inputs.items()}
            torch.onnx.export(
                graph,
                inputs,
                str(path),
                dynamo=False,
                opset_version=opset,
                dynamic_axes=axes | {graph.output: _named(graph.output_axes)},
                input_names=input_names,
                output_names=output_names,
            )


def finish_file(path: Path, graph: Graph, fields: Mapping[str, str]) -> None:
    """Hide the stages, name the axes, drop traces of the exporting machine, and add the metadata."""
    model = onnx.load(str(path))
    aliases = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    del model.graph.output[1:]
    _remove_dead_nodes(model.graph)
    produced = {tensor for node in model.graph.node for tensor in node.output}
    stages = {stage: stage if stage in produced else aliases.get(stage, "") for stage in graph.stages}
    for value, axes in zip(model.graph.input, graph.inputs.values(), strict=True):
        _name_axes(value, axes)
    _name_axes(model.graph.output[0], graph.output_axes)
    # inferred shapes speak of axes by the exporter's names; runtimes infer them again
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        kept = [entry for entry in node.metadata_props if entry.key.endswith("name_scopes")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:]
    known = {stage: tensor for stage, tensor in stages.items() if tensor in produced}
    onnx.helper.set_model_props(model, {**fields, "stages": json.dumps(known)})
    onnx.save(model, str(path))


def add_metadata(path: Path, fields: Mapping[str, str]) -> None:
    """Write more fields into a finished file."""
    model = onnx.load(str(path))
    known = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**known, **fields})
    onnx.save(model, str(path))


def metadata(
    model: LoadedModel, output: str, opset: int, precision: str = "fp32", with_fbank: bool = False
) -> dict[str, str]:
    """What a file says about itself."""
    fields = {
        "kind": model.kind,
        "output": output,
        "opset": str(opset),
        "precision": precision,
        "source_digest": model.digest,
        "architecture": type(model.network).__name__,
        "workbench_version": __version__,
    }
    if isinstance(model.network, SpeakerEncoder):
        dims = model.network.fbank.dims
        return fields | {
            "sample_rate": str(dims.sample_rate),
            "fbank": json.dumps(asdict(dims)),
            "fbank_inside": json.dumps(with_fbank),
            "masks": "frames" if isinstance(model.network, ECAPAEncoder) else "weights",
            "min_frames": str(model.network.min_num_frames),
        }
    if model.geometry is None:
        raise TypeError("a segmentation model has a geometry")
    geometry = geometry_to_json(model.geometry)
    return fields | {
        "sample_rate": str(model.geometry.sample_rate),
        "powerset": json.dumps(geometry.pop("powerset")),
        "geometry": json.dumps(geometry),
        "min_num_samples": str(getattr(model.network, "min_num_samples", 1)),
        "attention_heads": str(attention_heads(model.network)),
    }


def attention_heads(network: torch.nn.Module) -> int:
    """Most heads of any self-attention, each of which compares every frame with every other; 0 without."""
    dims = getattr(network, "dims", None)
    wavlm = getattr(dims, "wavlm", None)
    return max([getattr(dims, "num_head", 0), *getattr(wavlm, "encoder_total_num_heads", ())])


def _named(axes: tuple[str | None, ...]) -> dict[int, str]:
    return {axis: name for axis, name in enumerate(axes) if name}


def _name_axes(value: onnx.ValueInfoProto, axes: tuple[str | None, ...]) -> None:
    """Give the dynamic axes of an input or output the names that people know."""
    for dimension, name in zip(value.type.tensor_type.shape.dim, axes, strict=True):
        if name:
            dimension.dim_param = name


def _remove_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove nodes nobody reads, such as the copy that made one tensor two stages."""
    while True:
        read = {tensor for node in graph.node for tensor in node.input} | {o.name for o in graph.output}
        alive = [node for node in graph.node if read & set(node.output)]
        if len(alive) == len(graph.node):
            return
        del graph.node[:]
        graph.node.extend(alive)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
