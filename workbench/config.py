"""Parameters of the whole pipeline: defaults, presets, DiariZen's TOML tables, single options."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.clustering import (
    CLUSTERING_PRESETS,
    AHCParams,
    ClusteringParams,
    VBxParams,
    read_clustering_args,
)
from workbench.clustering.params import speaker_bounds, unknown_name
from workbench.errors import InputError, expect_path
from workbench.reconstruction import RECONSTRUCTION_PRESETS
from workbench.tomlfiles import read_toml

METHODS: Mapping[str, type[AHCParams] | type[VBxParams]] = {"ahc": AHCParams, "vbx": VBxParams}
"""Clusterings by the names that `--clustering` takes."""


@dataclass(frozen=True, kw_only=True)
class PipelineParams:
    """What the pipeline may vary; names as in DiariZen's `[inference.args]`."""

    seg_duration: float | None = None  # s, length of a chunk; None: what the segmentation model was made for
    segmentation_step: float = 0.1  # distance between two chunks, as a fraction of their length
    batch_size: int = 32  # chunks per call of a model
    apply_median_filtering: bool = True  # smooth the decisions over 11 frames
    embedding_exclude_overlap: bool = True  # embed speakers from where they talk alone, where that is enough
    clustering: ClusteringParams = field(default_factory=VBxParams)

    def __post_init__(self) -> None:
        if self.seg_duration is not None:
            _check_number("seg_duration", self.seg_duration, "a number of seconds above 0")
        _check_number("segmentation_step", self.segmentation_step, "a fraction above 0, at most 1", largest=1)
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InputError(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
        for name in ("apply_median_filtering", "embedding_exclude_overlap"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {getattr(self, name)!r}")

    @classmethod
    def preset(cls, name: str) -> PipelineParams:
        """The behaviour and parameters of `diarizen`, `pyannote-3.1` or `community-1`.

        The chunk length stays that of the model: 16 s in DiariZen's hub models, 10 s in
        pyannote's. pyannote averages channels, which no preset does: the first one is kept.
        """
        if name not in CLUSTERING_PRESETS:
            raise InputError(f"unknown preset {name!r}; known are {', '.join(CLUSTERING_PRESETS)}")
        return cls(apply_median_filtering=name == "diarizen", clustering=CLUSTERING_PRESETS[name])

    def reconstruction_options(self) -> dict[str, Any]:
        """Keyword arguments of `reconstruct`: the convention's, and the bound on speakers at once."""
        _, most = speaker_bounds(self.clustering)
        preset = RECONSTRUCTION_PRESETS[self.clustering.convention]
        return {**preset, "max_speakers": None if math.isinf(most) else int(most)}

    def to_dict(self) -> dict[str, Any]:
        """All values, with the clustering's name under `clustering.method`, for reports."""
        method = next(name for name, kind in METHODS.items() if isinstance(self.clustering, kind))
        values = dataclasses.asdict(self)
        return {**values, "clustering": {"method": method, **values["clustering"]}}


_INFERENCE = {entry.name for entry in dataclasses.fields(PipelineParams)} - {"clustering"}
_CLUSTERING = {entry.name for kind in METHODS.values() for entry in dataclasses.fields(kind)}


def read_config(path: str | os.PathLike[str]) -> PipelineParams:
    """Parameters from `[inference.args]` and `[clustering.args]` of a DiariZen or hub `config.toml`.

    Other tables (`[model]` and what training needs) are left alone. An unknown key in the two is
    an error that names the nearest known one.
    """
    path = expect_path(path, "a TOML file")
    config = read_toml(path)
    inference = config.get("inference", {})
    args = inference.get("args", {}) if isinstance(inference, Mapping) else None
    if not isinstance(args, Mapping):
        raise InputError.at(path, "[inference.args] must be a table")
    for key in args:
        if key not in _INFERENCE:
            raise InputError.at(path, f"[inference.args] {unknown_name(key, _INFERENCE)}")
    clustering = read_clustering_args(config, path)
    try:
        return PipelineParams(**args, clustering=clustering)
    except InputError as error:
        raise InputError.at(path, f"[inference.args] {error}") from None


def with_preset(params: PipelineParams, preset: str | None) -> PipelineParams:
    """`preset` in place of `params`, but for how the recording is cut into chunks and batches."""
    if preset is None:
        return params
    kept = {name: getattr(params, name) for name in ("seg_duration", "segmentation_step", "batch_size")}
    return dataclasses.replace(PipelineParams.preset(preset), **kept)


def with_options(params: PipelineParams, clustering: str | None = None, **options: Any) -> PipelineParams:
    """`params` with single parameters replaced, whichever part they belong to.

    Parameters
    ----------
    params : where everything else comes from
    clustering : {"ahc", "vbx"}, optional
        Switch to this method; its own parameters then start from their defaults, and only the
        bounds of the number of speakers and the convention are kept.
    options : parameters by name; None leaves one as it is
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in _INFERENCE | _CLUSTERING:
            raise InputError(unknown_name(name, _INFERENCE | _CLUSTERING))
    current = params.clustering
    if clustering is not None:
        if clustering not in METHODS:
            raise InputError(f"clustering must be one of {', '.join(METHODS)}, got {clustering!r}")
        if not isinstance(current, METHODS[clustering]):
            shared = ("min_speakers", "max_speakers", "num_speakers", "convention")
            current = METHODS[clustering](**{name: getattr(current, name) for name in shared})
    own = {entry.name for entry in dataclasses.fields(current)}
    for name in given:
        if name in _CLUSTERING - own:
            method, other = ("vbx", "ahc") if isinstance(current, VBxParams) else ("ahc", "vbx")
            raise InputError(
                f"{name} is no parameter of the clustering {method!r}; leave it out, "
                f"or choose --clustering {other}"
            )
    inference = {name: value for name, value in given.items() if name in _INFERENCE}
    current = dataclasses.replace(current, **{name: value for name, value in given.items() if name in own})
    return dataclasses.replace(params, **inference, clustering=current)


def _check_number(name: str, value: Any, expected: str, largest: float = math.inf) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not 0 < value <= largest:
        raise InputError(f"{name} must be {expected}, got {value!r}")
