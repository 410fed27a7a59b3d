"""Segmentation networks from DiariZen TOML files: architecture, arguments, geometry.

Nothing is imported from what `model.path` says: it is looked up among the architectures known here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from workbench.checkpoints.weights import StateDict
from workbench.errors import InputError, nearest
from workbench.models.fbank_conformer import FBankConformer, FBankConformerDims
from workbench.powerset import powerset_classes
from workbench.types import Geometry

_DEFAULT_STEP = 0.1  # between two chunks, as a fraction of their length (DiariZen's default)
_UNUSED = frozenset({"num_channels"})  # accepted by every architecture, without effect on the network
_UNUSED_KERNEL = "make_feats.compute_deltas.kernel"

SegmentationDims = FBankConformerDims


@dataclass(frozen=True)
class Architecture:
    """How one `model.path` becomes a network."""

    dims: type[SegmentationDims]
    network: Callable[[Any], nn.Module]
    fixed: frozenset[str] = frozenset()  # fields of dims that the original does not take as arguments


ARCHITECTURES: Mapping[str, Architecture] = {
    "diarizen.models.eend.model_fbank_conformer.Model": Architecture(
        FBankConformerDims, FBankConformer, fixed=frozenset({"max_speakers_per_frame"})
    ),
}


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """What a DiariZen TOML says about its model."""

    path: Path  # the TOML
    architecture: str  # a key of ARCHITECTURES
    dims: SegmentationDims
    chunk_duration: float  # s
    chunk_step: float  # s

    def build(self) -> nn.Module:
        """The network, with random weights."""
        return ARCHITECTURES[self.architecture].network(self.dims)

    def complete(self, state: StateDict, network: nn.Module) -> StateDict:
        """`state` with the buffer that some SpeechBrain versions stored and others did not."""
        own = network.state_dict()
        if _UNUSED_KERNEL in own and _UNUSED_KERNEL not in state:
            return {_UNUSED_KERNEL: own[_UNUSED_KERNEL], **state}
        return state

    def geometry(self, network: nn.Module) -> Geometry:
        """How the network sees time and speakers."""
        start, duration, step = network.receptive_field()  # type: ignore[operator]
        dims = self.dims
        return Geometry(
            sample_rate=dims.sample_rate,
            chunk_duration=self.chunk_duration,
            chunk_step=self.chunk_step,
            frame_start=start,
            frame_duration=duration,
            frame_step=step,
            powerset=powerset_classes(dims.max_speakers_per_chunk, dims.max_speakers_per_frame),
        )


def read_config(path: Path) -> SegmentationConfig:
    """The `[model]` of a training or hub TOML; `[inference.args]` of a hub decides the chunks."""
    content = _read_toml(path)
    model = _table(content, "model", path, required=True)
    name = model.get("path")
    if not isinstance(name, str):
        raise InputError.at(path, f"[model] needs path, the name of an architecture; {_offer()}")
    if name not in ARCHITECTURES:
        raise InputError.at(path, f"unknown architecture model.path = {name!r}; {_offer()}")
    dims = _read_dims(_table(model, "args", path, prefix="model."), ARCHITECTURES[name], path)
    inference = _table(_table(content, "inference", path), "args", path, prefix="inference.")
    duration = _positive(inference, "seg_duration", dims.chunk_size, path)
    step = _positive(inference, "segmentation_step", _DEFAULT_STEP, path)
    return SegmentationConfig(
        path=path, architecture=name, dims=dims, chunk_duration=duration, chunk_step=step * duration
    )


def _offer() -> str:
    return f"known are {', '.join(ARCHITECTURES)}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"is not valid TOML: {error}") from None


def _table(
    content: Mapping[str, Any], name: str, path: Path, *, prefix: str = "", required: bool = False
) -> Mapping[str, Any]:
    """A table of the TOML, empty where it is absent and not required."""
    table = content.get(name)
    if table is None and not required:
        return {}
    if not isinstance(table, dict):
        found = "it is missing" if table is None else f"found {table!r}"
        raise InputError.at(path, f"needs a table [{prefix}{name}] that describes the network; {found}")
    return table


def _read_dims(args: Mapping[str, Any], architecture: Architecture, path: Path) -> SegmentationDims:
    """`[model.args]` as the sizes of a network; every key and type is checked."""
    types = {field.name: str(field.type) for field in fields(architecture.dims)}
    known = (types.keys() - architecture.fixed) | _UNUSED
    values: dict[str, Any] = {}
    for key, value in args.items():
        if key not in known:
            raise InputError.at(
                path,
                f"[model.args] has an unknown key {key!r}{nearest(key, known)}; known are "
                f"{', '.join(sorted(known))}",
            )
        if key not in _UNUSED:
            values[key] = _checked(key, value, types[key], path)
    try:
        return architecture.dims(**values)
    except ValueError as error:
        raise InputError.at(path, f"[model.args]: {error}") from None


def _checked(key: str, value: Any, kind: str, path: Path) -> Any:
    """A value of `[model.args]`, if it has the type of the field it is for."""
    if kind == "str | None":
        if value is False or isinstance(value, str):
            return value or None
        expected = "false or the name of an activation"
    elif kind == "bool":
        if isinstance(value, bool):
            return value
        expected = "true or false"
    elif kind == "int":
        least = 0 if key == "selected_channel" else 1
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        expected = f"a whole number of at least {least}"
    else:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
            return value
        expected = "a number that is not negative"
    raise InputError.at(path, f"[model.args] {key} must be {expected}, found {value!r}")


def _positive(table: Mapping[str, Any], key: str, default: float, path: Path) -> float:
    """A number above 0 from `[inference.args]`."""
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise InputError.at(path, f"[inference.args] {key} must be a number above 0, found {value!r}")
    return float(value)
