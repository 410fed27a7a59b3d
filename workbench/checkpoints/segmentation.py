"""Segmentation networks from DiariZen TOML files: architecture, arguments, geometry.

Nothing is imported from what `model.path` says: it is looked up among the architectures known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from workbench.checkpoints.wavlm import find_wavlm, refuse_unpruned_student
from workbench.checkpoints.weights import StateDict, read_state_dict
from workbench.errors import InputError, nearest
from workbench.models.fbank_conformer import Deltas, FBankConformer, FBankConformerDims
from workbench.models.pyannet import PyanNet, PyanNetDims
from workbench.models.segmentation_dims import SegmentationDims
from workbench.models.wavlm import WavLMDims
from workbench.models.wavlm_conformer import WavLMConformer, WavLMConformerDims
from workbench.powerset import powerset_classes
from workbench.tomlfiles import read_toml
from workbench.types import Geometry

_MOST = {  # far above any model, far below what takes all memory before the weights tell it is wrong
    "num_layer": 256,
    "max_speakers_per_chunk": 64,
    "max_speakers_per_frame": 64,
    "n_fft": 4096,
}
_MOST_OTHERS = 10**6
_DEFAULT_STEP = 0.1  # between two chunks, as a fraction of their length (DiariZen's default)
_UNUSED = frozenset({"num_channels"})  # accepted by every architecture, without effect on the network
_UNUSED_KERNEL = "make_feats.compute_deltas.kernel"
_OLD_WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


@dataclass(frozen=True)
class Architecture:
    """How one `model.path` becomes a network."""

    dims: type[SegmentationDims]
    network: Callable[[Any], nn.Module]
    fixed: frozenset[str] = frozenset()  # fields of dims that the original does not take as arguments
    extra: Mapping[str, Any] = field(default_factory=dict)  # arguments that are no fields, with defaults


ARCHITECTURES: Mapping[str, Architecture] = {
    "diarizen.models.eend.model_fbank_conformer.Model": Architecture(
        FBankConformerDims, FBankConformer, fixed=frozenset({"max_speakers_per_frame"})
    ),
    "diarizen.models.eend.model_wavlm_conformer.Model": Architecture(
        WavLMConformerDims,
        WavLMConformer,
        fixed=frozenset({"wavlm"}),
        extra={"wavlm_src": "wavlm_base", "wavlm_layer_num": 13, "wavlm_feat_dim": 768},
    ),
    "diarizen.models.eend.model_pyannote.Model": Architecture(
        PyanNetDims,
        PyanNet,
        fixed=frozenset(each.name for each in fields(PyanNetDims))
        - {"max_speakers_per_chunk", "chunk_size", "selected_channel"},
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

    def complete(self, state: StateDict, path: Path) -> StateDict:
        """`state`, read from `path`, as current versions of DiariZen's libraries would have written it.

        Added is the buffer that some SpeechBrain versions stored and others did not; weight norms get
        their newer names.
        """
        refuse_unpruned_student(state, path)
        state = {_modern_name(key): value for key, value in state.items()}
        if isinstance(self.dims, FBankConformerDims) and _UNUSED_KERNEL not in state:
            kernel = Deltas(self.dims.n_mels).get_buffer("kernel")
            return {_UNUSED_KERNEL: kernel, **state}
        return state

    def geometry(self, network: nn.Module) -> Geometry:
        """How the network sees time and speakers."""
        return make_geometry(network, self.dims, self.chunk_duration, self.chunk_step)


def make_geometry(
    network: nn.Module,
    dims: SegmentationDims,
    chunk_duration: float,
    chunk_step: float | None = None,
) -> Geometry:
    """How a segmentation network sees time and speakers; durations in s, DiariZen's step by default."""
    start, duration, step = network.receptive_field()  # type: ignore[operator]
    return Geometry(
        sample_rate=dims.sample_rate,
        chunk_duration=float(chunk_duration),
        chunk_step=_DEFAULT_STEP * chunk_duration if chunk_step is None else chunk_step,
        frame_start=start,
        frame_duration=duration,
        frame_step=step,
        powerset=powerset_classes(dims.max_speakers_per_chunk, dims.max_speakers_per_frame),
    )


def _modern_name(key: str) -> str:
    """The name of a weight norm's tensors since torch 2.1."""
    stem, _, last = key.rpartition(".")
    return f"{stem}.{_OLD_WEIGHT_NORM[last]}" if last in _OLD_WEIGHT_NORM else key


def read_config(path: Path, weights: Path | None = None) -> SegmentationConfig:
    """The `[model]` of a training or hub TOML; `[inference.args]` of a hub decides the chunks.

    `weights` tell the sizes of a WavLM whose own file is gone.
    """
    content = read_toml(path)
    model = _table(content, "model", path, required=True)
    name = model.get("path")
    if not isinstance(name, str):
        raise InputError.at(path, f"[model] needs path, the name of an architecture; {_offer()}")
    if name not in ARCHITECTURES:
        raise InputError.at(path, f"unknown architecture model.path = {name!r}; {_offer()}")
    dims = _read_dims(_table(model, "args", path, prefix="model."), ARCHITECTURES[name], path, weights)
    inference = _table(_table(content, "inference", path), "args", path, prefix="inference.")
    duration = _positive(inference, "seg_duration", dims.chunk_size, path)
    step = _positive(inference, "segmentation_step", _DEFAULT_STEP, path)
    return SegmentationConfig(
        path=path, architecture=name, dims=dims, chunk_duration=duration, chunk_step=step * duration
    )


def _offer() -> str:
    return f"known are {', '.join(ARCHITECTURES)}"


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


def _read_dims(
    args: Mapping[str, Any], architecture: Architecture, path: Path, weights: Path | None
) -> SegmentationDims:
    """`[model.args]` as the sizes of a network; every key and type is checked."""
    types = {each.name: str(each.type) for each in fields(architecture.dims)}
    types |= {name: type(default).__name__ for name, default in architecture.extra.items()}
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
    given = {name: values.pop(name, default) for name, default in architecture.extra.items()}
    if "wavlm_src" in given:
        values["wavlm"] = _read_wavlm(given, path, weights)
    try:
        return architecture.dims(**values)
    except ValueError as error:
        raise InputError.at(path, f"[model.args]: {error}") from None


def _read_wavlm(given: Mapping[str, Any], path: Path, weights: Path | None) -> WavLMDims:
    """What `wavlm_src` stands for, which the two numbers beside it must fit."""
    read_state = None if weights is None else lambda: read_state_dict(weights)
    dims = find_wavlm(given["wavlm_src"], path, read_state)
    for key, found in (
        ("wavlm_layer_num", dims.encoder_num_layers + 1),
        ("wavlm_feat_dim", dims.encoder_embed_dim),
    ):
        if given[key] != found:
            raise InputError.at(
                path,
                f"[model.args] {key} is {given[key]}, but wavlm_src {given['wavlm_src']!r} has {found}",
            )
    return dims


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
    elif kind == "str":
        if isinstance(value, str) and value:
            return value
        expected = "a text in quotes"
    elif kind == "int":
        least, most = 0 if key == "selected_channel" else 1, _MOST.get(key, _MOST_OTHERS)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        too_large = isinstance(value, int) and value > most
        expected = f"a whole number of at {f'most {most}' if too_large else f'least {least}'}"
    else:
        highest = 1 if key == "dropout" else _MOST_OTHERS
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= highest:
            return value
        expected = f"a number that is not negative and at most {highest}"
    raise InputError.at(path, f"[model.args] {key} must be {expected}, found {value!r}")


def _positive(table: Mapping[str, Any], key: str, default: float, path: Path) -> float:
    """A number above 0 from `[inference.args]`."""
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise InputError.at(path, f"[inference.args] {key} must be a number above 0, found {value!r}")
    return float(value)
