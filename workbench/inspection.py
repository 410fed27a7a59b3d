"""What a model is, before it is run: architecture, sizes, how it sees time and speakers, its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.files import file_digest
from workbench.graph_card import GraphCard, read_graph_card
from workbench.runtimes import load_runtime, parse_spec
from workbench.tomlfiles import read_toml
from workbench.types import Geometry, Kind

_TRAINING_TABLES = ("optimizer", "trainer", "finetune", "train_dataset", "meta")
_SHOWN_LAYERS = "weight_sum"  # the block that weighs the layers of a WavLM


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a network."""

    name: str
    parameters: int
    tensors: int


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """All that can be said about a runtime without running it; durations in seconds."""

    runtime: str
    engine: str  # torch, onnx or recorded
    kind: Kind
    architecture: str
    files: tuple[dict[str, Any], ...]  # path, bytes and SHA-256 of each
    min_num_samples: int
    sample_rate: int | None = None
    parameters: int | None = None
    blocks: tuple[Block, ...] = ()  # outermost parts; those of a WavLM one level deeper
    chunk_duration: float | None = None
    chunk_step: float | None = None
    frames_per_chunk: int | None = None
    frame_start: float | None = None
    frame_duration: float | None = None  # the receptive field of one output frame
    frame_step: float | None = None
    num_speakers: int | None = None  # local speakers of a chunk
    powerset: tuple[tuple[int, ...], ...] = ()
    embedding_dimension: int | None = None
    layer_weights: tuple[
        float, ...
    ] = ()  # of the sum over a WavLM's layers, the input of the first one first
    training: Mapping[str, Any] = field(default_factory=dict)  # from the TOML: `optimizer.args.lr` -> value
    graph: GraphCard | None = None
    recordings: int | None = None  # of a recorded folder

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON has it."""
        return asdict(self) | {"training": dict(self.training)}


def inspect_runtime(runtime: str, kind: Kind | None = None) -> ModelCard:
    """The card of a model.

    Parameters
    ----------
    runtime : `torch:PATH[@CHECKPOINT]`, `onnx:FILE` or `recorded:DIR`
    kind : {"segmentation", "embedding"}, optional
        Which of the two models of a hub-layout folder; the segmentation model by default.
    """
    spec = parse_spec(runtime)
    return {"torch": _torch_card, "onnx": _onnx_card, "recorded": _recorded_card}[spec.engine](runtime, kind)


def _torch_card(runtime: str, kind: Kind | None) -> ModelCard:
    from workbench.runtimes.torch_runtime import TorchRuntime

    loaded = load_runtime(runtime, kind)
    if not isinstance(loaded, TorchRuntime):
        raise TypeError("a torch: string gives a torch runtime")
    model = loaded.model
    network: Any = model.network
    blocks = [
        Block(
            name=name,
            parameters=sum(each.numel() for each in block.parameters()),
            tensors=len(block.state_dict()),
        )
        for name, block in _parts(network)
    ]
    weights = dict(network.named_children()).get(_SHOWN_LAYERS)
    dims = getattr(getattr(network, "resnet", None) or getattr(network, "ecapa", None), "dims", None)
    geometry = model.geometry
    return ModelCard(
        runtime=runtime,
        engine="torch",
        kind=model.kind,
        architecture=type(network).__name__,
        files=tuple(_file(path) for path in model.files),
        min_num_samples=loaded.min_num_samples,
        parameters=sum(each.numel() for each in network.parameters()),
        blocks=tuple(block for block in blocks if block.tensors),
        embedding_dimension=None if dims is None else dims.embedding,
        layer_weights=()
        if weights is None
        else tuple(float(each) for each in weights.weight.detach().flatten().tolist()),
        training=read_training(model.config) if model.config is not None else {},
        frames_per_chunk=_frames_per_chunk(network, geometry),
        **(
            {"sample_rate": network.fbank.dims.sample_rate}
            if geometry is None
            else _geometry_fields(geometry)
        ),
    )


def _parts(network: Any) -> list[tuple[str, Any]]:
    """The outermost blocks, those that hold nearly everything taken apart once more."""
    total = sum(each.numel() for each in network.parameters())
    parts: list[tuple[str, Any]] = []
    for name, block in network.named_children():
        inner = list(block.named_children())
        if inner and sum(each.numel() for each in block.parameters()) > 0.5 * total:
            parts += _remainder(name, block, inner)
        else:
            parts.append((name, block))
    return parts


def _remainder(name: str, block: Any, inner: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The parts of a block; a WavLM's encoder becomes projection, positions and layers."""
    found = []
    for child, part in inner:
        below = list(part.named_children())
        if child in ("encoder", "transformer") and below:
            found += _remainder(f"{name}.{child}", part, below)
        else:
            found.append((f"{name}.{child}", part))
    return found


def _onnx_card(runtime: str, kind: Kind | None) -> ModelCard:
    from workbench.runtimes.onnx_runtime import OnnxRuntime

    loaded = load_runtime(runtime, kind)
    if not isinstance(loaded, OnnxRuntime):
        raise TypeError("an onnx: string gives an ONNX runtime")
    graph = read_graph_card(loaded.path)
    geometry, fbank = loaded.geometry, loaded.metadata.fbank
    fields: dict[str, Any] = {} if geometry is None else _geometry_fields(geometry)
    if fbank is not None:
        fields = {"sample_rate": fbank.sample_rate}
        last = loaded.session.get_outputs()[0].shape[-1]
        fields["embedding_dimension"] = last if isinstance(last, int) else None
    return ModelCard(
        runtime=runtime,
        engine="onnx",
        kind=loaded.kind,
        architecture=graph.metadata.get("architecture", "unknown"),
        files=(_file(loaded.path),),
        min_num_samples=loaded.min_num_samples,
        parameters=graph.num_parameters,
        frames_per_chunk=None if geometry is None else _estimated_frames(geometry),
        graph=graph,
        **fields,
    )


def _recorded_card(runtime: str, kind: Kind | None) -> ModelCard:
    from workbench.runtimes.recorded import RecordedRuntime

    loaded = load_runtime(runtime, kind)
    if not isinstance(loaded, RecordedRuntime):
        raise TypeError("a recorded: string gives a recorded runtime")
    return ModelCard(
        runtime=runtime,
        engine="recorded",
        kind=loaded.kind,
        architecture="recorded: " + ", ".join(loaded.stage_names(loaded.uris[0])),
        files=(_file(loaded.folder / "geometry.json"),),
        min_num_samples=loaded.min_num_samples,
        recordings=len(loaded.uris),
        frames_per_chunk=_estimated_frames(loaded.geometry),
        **_geometry_fields(loaded.geometry),
    )


def _geometry_fields(geometry: Geometry) -> dict[str, Any]:
    return {
        "sample_rate": geometry.sample_rate,
        "chunk_duration": geometry.chunk_duration,
        "chunk_step": geometry.chunk_step,
        "frame_start": geometry.frame_start,
        "frame_duration": geometry.frame_duration,
        "frame_step": geometry.frame_step,
        "num_speakers": geometry.num_speakers,
        "powerset": geometry.powerset,
    }


def _frames_per_chunk(network: Any, geometry: Geometry | None) -> int | None:
    if geometry is None:
        return None
    return int(network.num_frames(round(geometry.chunk_duration * geometry.sample_rate)))


def _estimated_frames(geometry: Geometry) -> int:
    """Frames of a chunk: complete receptive fields, or centred ones, if the first begins before the chunk."""
    if geometry.frame_start < -geometry.frame_duration / 2 + geometry.frame_step / 2:
        return 1 + int(geometry.chunk_duration / geometry.frame_step + 1e-6)
    span = geometry.chunk_duration - geometry.frame_duration
    return 1 + int(span / geometry.frame_step + 1e-6)


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": file_digest(path)}


def read_training(config: Path) -> dict[str, Any]:
    """What the TOML of a training says about it, by dotted names; empty for other files and hubs."""
    if config.suffix != ".toml":
        return {}
    content = read_toml(config)
    chosen = {
        name: table
        for name, table in content.items()
        if name == "model" or any(name.startswith(wanted) for wanted in _TRAINING_TABLES)
    }
    return dict(_flat(chosen))


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested tables as dotted names."""
    entries: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            entries += _flat(value, f"{prefix}{key}.")
        else:
            entries.append((f"{prefix}{key}", value))
    return entries
