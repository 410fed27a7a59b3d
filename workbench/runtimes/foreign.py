"""ONNX files of other programs, described once by a small TOML of the same name beside them.

`model.onnx` is described by `model.toml`: what goes in and comes out under which name, in which
order of axes, and what the graph itself cannot say, such as the chunk length and the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

from workbench.errors import InputError, nearest
from workbench.fbank import KaldiFbankDims, check_fbank
from workbench.powerset import powerset_classes
from workbench.runtimes.geometry import geometry_from_json
from workbench.runtimes.graph_metadata import (
    FBANK_AXES,
    VALUES,
    WAVEFORM_AXES,
    GraphMetadata,
    Wiring,
    min_embedding_samples,
)
from workbench.tomlfiles import read_toml

_COMMON = {"kind", "sample_rate", "input", "input_axes", "output", "output_axes", "max_batch"}
_SEGMENTATION = _COMMON | {
    "values",
    "chunk_duration",
    "chunk_step",
    "frame_start",
    "frame_duration",
    "frame_step",
    "num_speakers",
    "max_set_size",
    "powerset",
    "min_num_samples",
}
_EMBEDDING = _COMMON | {"feats", "num_mel_bins", "mean_normalised", "weights", "min_frames"}
_MOST_CLASSES = 4096  # of a powerset
_VALUES = (*VALUES, "multilabel")
_FEATS = ("kaldi-fbank", "waveform")
_DEFAULT_MIN_FRAMES = 9  # a WeSpeaker ResNet divides time by eight, and one frame has no deviation


def description_of(model: Path) -> Path:
    """The TOML that describes a model file."""
    return model.with_suffix(".toml")


def read_description(path: Path) -> GraphMetadata:
    """What the TOML beside a foreign model file says; every key and value is checked."""
    reader = _Reader(read_toml(path), path)
    kind = reader.word("kind", ("segmentation", "embedding"))
    reader.refuse_unknown(_SEGMENTATION if kind == "segmentation" else _EMBEDDING)
    return _segmentation(reader) if kind == "segmentation" else _embedding(reader)


def _segmentation(reader: _Reader) -> GraphMetadata:
    values = reader.word("values", _VALUES, "log_probs")
    duration = reader.number("chunk_duration")
    if "powerset" in reader.content:
        classes = reader.content["powerset"]
    else:
        speakers, largest = reader.count("num_speakers"), reader.count("max_set_size", 2)
        if largest > speakers or speakers > 32:
            raise reader.error(f"max_set_size {largest} of num_speakers {speakers} makes no powerset")
        if sum(comb(speakers, size) for size in range(largest + 1)) > _MOST_CLASSES:
            raise reader.error(
                f"max_set_size {largest} of num_speakers {speakers} makes more than {_MOST_CLASSES} classes"
            )
        classes = [list(members) for members in powerset_classes(speakers, largest)]
    step = reader.number("frame_step")
    geometry = {
        "sample_rate": reader.count("sample_rate", 16000),
        "chunk_duration": duration,
        "chunk_step": reader.number("chunk_step", 0.1 * duration),
        "frame_start": reader.number("frame_start", 0.0),
        "frame_duration": reader.number("frame_duration", step),
        "frame_step": step,
        "powerset": classes,
    }
    return GraphMetadata(
        kind="segmentation",
        output="multilabel" if values == "multilabel" else "powerset",
        min_num_samples=reader.count("min_num_samples", 1),
        geometry=geometry_from_json(geometry, reader.path),
        wiring=reader.wiring(WAVEFORM_AXES, ("batch", "time", "class"), values),
    )


def _embedding(reader: _Reader) -> GraphMetadata:
    inside = reader.word("feats", _FEATS, _FEATS[0]) == "waveform"
    dims = KaldiFbankDims(
        sample_rate=reader.count("sample_rate", 16000), num_mel_bins=reader.count("num_mel_bins", 80)
    )
    check_fbank(dims, reader.path)
    min_frames = reader.count("min_frames", _DEFAULT_MIN_FRAMES)
    weighted = "weights" in reader.content
    return GraphMetadata(
        kind="embedding",
        output="embedding",
        min_num_samples=min_embedding_samples(dims, min_frames),
        fbank=dims,
        fbank_inside=inside,
        centred=reader.flag("mean_normalised", True),
        masks="weights" if weighted else "frames",
        min_frames=min_frames,
        wiring=reader.wiring(
            ("batch", "time") if inside else FBANK_AXES,
            ("batch", "speaker", "embedding") if weighted else ("batch", "embedding"),
            "embedding",
        ),
    )


class _Reader:
    """Checked access to the keys of one TOML."""

    def __init__(self, content: Mapping[str, Any], path: Path):
        self.content, self.path = content, path

    def error(self, problem: str) -> InputError:
        return InputError.at(self.path, problem)

    def refuse_unknown(self, known: set[str]) -> None:
        for key in self.content:
            if key not in known:
                raise self.error(
                    f"unknown key {key!r}{nearest(key, known)}; known are {', '.join(sorted(known))}"
                )

    def word(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        value = self.content.get(key, default)
        if value not in allowed:
            raise self.error(f"{key} must be one of {', '.join(allowed)}, found {value!r}")
        return str(value)

    def name(self, key: str) -> str | None:
        value = self.content.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.error(f"{key} must name an input or output of the graph, found {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, found {value!r}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 10**9:
            raise self.error(f"{key} must be a whole number of at least 1, found {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise self.error(f"{key} must be a number, found {value!r}")
        return float(value)

    def axes(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.content.get(key, list(default))
        optional = {"channel"} if key == "input_axes" else set()
        if (
            not isinstance(value, list)
            or any(not isinstance(axis, str) for axis in value)
            or len(set(value)) != len(value)
            or set(value) | optional != set(default) | optional
        ):
            raise self.error(f"{key} must order the axes {', '.join(default)}, found {value!r}")
        return tuple(value)

    def wiring(self, input_axes: tuple[str, ...], output_axes: tuple[str, ...], values: str) -> Wiring:
        """The keys that say how the graph is fed and read."""
        return Wiring(
            input=self.name("input"),
            weights=self.name("weights") or "weights",
            output=self.name("output"),
            input_axes=self.axes("input_axes", input_axes),
            output_axes=self.axes("output_axes", output_axes),
            values=values,
            max_batch=self.count("max_batch") if "max_batch" in self.content else None,
        )


def template(
    inputs: Sequence[tuple[str, Sequence[Any]]], outputs: Sequence[tuple[str, Sequence[Any]]]
) -> str:
    """A TOML to fill in, with what the graph says about itself."""
    (name, shape), (output, output_shape) = inputs[0], outputs[0]
    fixed = [
        f"max_batch = {shape[0]}             # the graph takes no larger batch"
        if shape and isinstance(shape[0], int)
        else "# max_batch = 1           # if the graph takes no larger batch"
    ]
    if shape and shape[-1] in (40, 64, 80):
        return "\n".join(
            [
                'kind = "embedding"',
                "sample_rate = 16000     # Hz",
                f'input = "{name}"',
                'input_axes = ["batch", "time", "mel"]',
                'feats = "kaldi-fbank"   # features are made outside of the graph; or "waveform"',
                f"num_mel_bins = {shape[-1]}",
                "mean_normalised = true  # features lose their mean over time",
                f'output = "{output}"',
                'output_axes = ["batch", "embedding"]',
                f"min_frames = {_DEFAULT_MIN_FRAMES}          # fewest feature frames that give an embedding",
                *fixed,
            ]
        )
    classes = output_shape[-1] if len(output_shape) == 3 and isinstance(output_shape[-1], int) else None
    speakers = {7: 3, 11: 4, 16: 5}.get(classes or 0, 3)
    return "\n".join(
        [
            'kind = "segmentation"',
            "sample_rate = 16000        # Hz",
            f'input = "{name}"',
            'input_axes = ["batch", "time"]'
            if len(shape) == 2
            else 'input_axes = ["batch", "channel", "time"]',
            f'output = "{output}"',
            'output_axes = ["batch", "time", "class"]',
            f'values = "log_probs"       # of the classes: one of {", ".join(_VALUES)}',
            f"num_speakers = {speakers}           # local speakers; with max_set_size this lists the classes"
            + (f" ({classes} here)" if classes else ""),
            "max_set_size = 2           # speakers at once",
            "chunk_duration = 10.0      # s, what the model was trained on",
            "frame_step = 0.016875      # s: 0.016875 for PyanNet (segmentation-3.0), 0.02 for WavLM",
            "frame_duration = 0.0619375 # s: 0.0619375 for PyanNet, 0.025 for WavLM",
            *fixed,
        ]
    )
