"""What running an ONNX graph takes to know, as `workbench export` writes it into the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import InputError
from workbench.fbank import KaldiFbankDims, check_fbank
from workbench.runtimes.geometry import geometry_from_json
from workbench.types import Geometry, Kind

OUTPUTS: Mapping[Kind, tuple[str, ...]] = {
    "segmentation": ("powerset", "multilabel"),
    "embedding": ("embedding",),
}
WAVEFORM_AXES = ("batch", "channel", "time")
FBANK_AXES = ("batch", "time", "mel")
VALUES = ("log_probs", "probs", "logits")
MASKS = ("weights", "frames")


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """How arrays become inputs of a graph and its output becomes what the runtime returns."""

    input: str | None = None  # name of the waveforms' or features' input; None: the first
    weights: str = "weights"  # name of the masks' input, where there is one
    output: str | None = None  # None: the first
    input_axes: tuple[str, ...] = WAVEFORM_AXES
    output_axes: tuple[str, ...] = ("batch", "time", "class")
    values: str = "log_probs"  # what the classes of a powerset get: see VALUES
    max_batch: int | None = None  # waveforms per run of the graph


@dataclass(frozen=True, kw_only=True)
class GraphMetadata:
    """What a model file says about itself, or a TOML beside it."""

    kind: Kind
    output: str  # powerset, multilabel or embedding
    min_num_samples: int
    stages: Mapping[str, str] = field(default_factory=dict)  # stage -> tensor of the graph
    geometry: Geometry | None = None  # of segmentation models
    fbank: KaldiFbankDims | None = None  # of embedding models
    fbank_inside: bool = False  # whether the graph makes the features itself
    centred: bool = True  # whether features made outside lose their mean
    masks: str = "weights"  # how an embedding model takes them: as weights, or by picking frames
    min_frames: int = 1  # fbank frames below which there is no embedding
    attention_heads: int = 0  # of the widest self-attention: its memory grows with the square of the length
    wiring: Wiring = field(default_factory=Wiring)


def read_metadata(fields: Mapping[str, str], path: Path) -> GraphMetadata:
    """What the metadata of a model file says; an `InputError` names what is missing."""
    required = ["kind", "output", "sample_rate"]
    required += ["fbank"] if fields.get("kind") == "embedding" else ["geometry", "powerset"]
    missing = [name for name in required if name not in fields]
    if missing:
        raise InputError.at(
            path,
            f"lacks the metadata {', '.join(missing)}, so its input, time axis and classes are unknown; "
            "export it with workbench export, or add them to the model's metadata_props",
        )
    kind, output = fields["kind"], fields["output"]
    if kind not in OUTPUTS:
        raise InputError.at(path, f"metadata kind must be one of {', '.join(OUTPUTS)}, found {kind!r}")
    known_kind: Kind = "embedding" if kind == "embedding" else "segmentation"
    if output not in OUTPUTS[known_kind]:
        raise InputError.at(
            path, f"metadata output must be one of {', '.join(OUTPUTS[known_kind])}, found {output!r}"
        )
    stages = _json(fields, "stages", {}, path)
    if not all(isinstance(tensor, str) for tensor in stages.values()):
        raise InputError.at(path, "metadata stages must name a tensor of the graph for every stage")
    if known_kind == "embedding":
        return _embedding_metadata(fields, output, stages, path)
    content = _json(fields, "geometry", {}, path)
    if isinstance(content, dict):
        content = content | {"powerset": _json(fields, "powerset", [], path)}
    return GraphMetadata(
        kind=known_kind,
        output=output,
        min_num_samples=_count(fields, "min_num_samples", path),
        stages=stages,
        geometry=geometry_from_json(content, path),
        attention_heads=_attention_heads(fields),
    )


def _attention_heads(fields: Mapping[str, str]) -> int:
    """As the file says; of one that was exported before files said it, what its architecture usually has."""
    said = fields.get("attention_heads", "")
    if said.isascii() and said.isdigit():
        return int(said)
    return {"FBankConformer": 4, "WavLMConformer": 12}.get(fields.get("architecture", ""), 0)


def _embedding_metadata(
    fields: Mapping[str, str], output: str, stages: Mapping[str, str], path: Path
) -> GraphMetadata:
    dims = fbank_dims(_json(fields, "fbank", {}, path), path)
    masks = fields.get("masks", MASKS[0])
    if masks not in MASKS:
        raise InputError.at(path, f"metadata masks must be one of {', '.join(MASKS)}, found {masks!r}")
    inside = _json(fields, "fbank_inside", False, path)
    min_frames = _count(fields, "min_frames", path)
    return GraphMetadata(
        kind="embedding",
        output=output,
        min_num_samples=min_embedding_samples(dims, min_frames),
        stages=stages,
        fbank=dims,
        fbank_inside=inside,
        masks=masks,
        min_frames=min_frames,
        wiring=Wiring(
            input_axes=("batch", "time") if inside else FBANK_AXES,
            output_axes=("batch", "speaker", "embedding") if masks == "weights" else ("batch", "embedding"),
        ),
    )


def min_embedding_samples(dims: KaldiFbankDims, min_frames: int) -> int:
    """Shortest waveform that gives `min_frames` frames."""
    return dims.length_samples + (min_frames - 1) * dims.shift_samples


def fbank_dims(fields: Mapping[str, Any], path: Path) -> KaldiFbankDims:
    """Settings of the filterbank, from the metadata."""
    try:
        dims = KaldiFbankDims(**fields)
    except TypeError as error:
        raise InputError.at(path, f"metadata fbank does not describe a filterbank: {error}") from None
    check_fbank(dims, path)
    return dims


def _count(fields: Mapping[str, str], name: str, path: Path) -> int:
    """A metadata entry that counts something, 1 by default."""
    value: int = _json(fields, name, 1, path)
    if not 1 <= value < 10**9:
        raise InputError.at(path, f"metadata {name} must be at least 1, found {value}")
    return value


def _json(fields: Mapping[str, str], name: str, default: Any, path: Path) -> Any:
    """One metadata entry that holds JSON of the same type as `default`."""
    if name not in fields:
        return default
    try:
        value = json.loads(fields[name])
    except RecursionError:  # the parser calls itself for every bracket
        raise InputError.at(path, f"metadata {name} is not valid JSON: nested too deeply") from None
    except ValueError as error:  # syntax, and numbers with too many digits
        raise InputError.at(path, f"metadata {name} is not valid JSON: {error}") from None
    if type(value) is not type(default):
        raise InputError.at(
            path, f"metadata {name} must be a {type(default).__name__}, found {type(value).__name__}"
        )
    return value
