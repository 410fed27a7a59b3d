"""One cell of a sweep, fully specified: clustering parameters and what follows without a network."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from workbench.clustering import CLUSTERING_PRESETS, AHCParams, ClusteringParams, VBxParams, XVectorParams
from workbench.clustering.params import CONVENTIONS, Convention, speaker_bounds, unknown_name
from workbench.clustering.vbx import INIT_SMOOTHING
from workbench.config import METHODS
from workbench.errors import InputError, expect
from workbench.reconstruction import RECONSTRUCTION_PRESETS
from workbench.types import Features, SegmentFeatures

PRECISIONS = ("f64", "f32")

INTEGERS = frozenset(
    {
        "min_cluster_size",
        "lda_dim",
        "max_iters",
        "min_speakers",
        "max_speakers",
        "num_speakers_forced",
        "median_filter",
    }
)
"""Parameters that count something."""

TEXTS = frozenset({"method", "linkage", "ahc_criterion", "precision", "preset"})
"""Parameters that name a choice."""

NULLABLE = frozenset({"lda_dim", "min_speakers", "max_speakers", "num_speakers_forced", "loop_prob"})
"""Parameters that may be absent (None)."""

LARGEST_VALUE = 1e12
"""No parameter means anything beyond it, and the squares of much larger ones overflow."""

_WIDEST_FILTER = 9_999  # frames, minutes of them: memory grows with the width

_ALIASES = {"num_speakers_forced": "num_speakers"}  # `num_speakers` is a column of results
_COLUMNS = {name: column for column, name in _ALIASES.items()}
_AFTERWARDS = ("median_filter", "onset", "min_duration_on", "min_duration_off")  # whatever the clustering
_SHARED = ("min_speakers", "max_speakers", "num_speakers", "convention")


@dataclass(frozen=True, kw_only=True)
class PluginParams:
    """Someone else's clustering: called as ``function(features, **values) -> hard_clusters``.

    It may read the arrays of the features, but not change them.
    """

    function: Callable[..., Any]
    values: tuple[tuple[str, Any], ...] = ()  # its parameters, by name
    convention: Convention = "diarizen"  # whose reconstruction follows

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"clustering must be a function, got {self.function!r}")
        pairs = isinstance(self.values, tuple) and all(
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in self.values
        )
        if not pairs:
            raise InputError(f"values must be pairs of a name and a value, got {self.values!r}")
        if not isinstance(self.convention, str) or self.convention not in CONVENTIONS:
            raise InputError(f"convention must be one of {', '.join(CONVENTIONS)}, got {self.convention!r}")

    def replace(self, **values: Any) -> PluginParams:
        """The same with other parameters."""
        return dataclasses.replace(self, values=tuple(sorted((dict(self.values) | values).items())))


AnyClustering = ClusteringParams | XVectorParams | PluginParams


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Everything that may differ between two cells of a sweep over the same features."""

    clustering: AnyClustering = field(default_factory=VBxParams)
    init_smoothing: float = INIT_SMOOTHING  # VBx: how much the AHC cluster outweighs the others, as exponent
    loop_prob: float | None = None  # VBx: probability of staying with a speaker; None: no Markov model
    precision: str = "f64"  # VBx: of its arithmetic; f32 is faster and not exact
    median_filter: int = 1  # frames over which the segmentations are smoothed again; 1: as they are
    onset: float = 0.5  # one speaker more counts where more than this fraction of the chunks hear it
    min_duration_on: float = 0.0  # s, shorter turns are removed
    min_duration_off: float = 0.0  # s, shorter pauses within a speaker are filled

    def __post_init__(self) -> None:
        expect(
            self.clustering,
            (VBxParams, AHCParams, XVectorParams, PluginParams),
            "clustering must be VBxParams, AHCParams, XVectorParams or PluginParams",
        )
        if not isinstance(self.clustering, PluginParams):  # whose values are its own
            for name, value in vars(self.clustering).items():
                expect_meaningful(name, value)
        for name, value in vars(self).items():
            expect_meaningful(name, value)
        _check("init_smoothing", self.init_smoothing, "a number of at least 0", lambda x: x >= 0)
        if self.loop_prob is not None:
            _check("loop_prob", self.loop_prob, "a probability from 0 to 1", lambda x: 0 <= x <= 1)
        if not isinstance(self.precision, str) or self.precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        odd = isinstance(self.median_filter, int) and not isinstance(self.median_filter, bool)
        if not odd or not 1 <= self.median_filter <= _WIDEST_FILTER or self.median_filter % 2 == 0:
            raise InputError(
                "median_filter must be an odd number of frames (1 leaves the segmentations as they are, "
                f"{_WIDEST_FILTER} is the most), "
                f"got {self.median_filter!r}"
            )
        _check("onset", self.onset, "a fraction above 0 and at most 1", lambda x: 0 < x <= 1)
        for name in ("min_duration_on", "min_duration_off"):
            _check(name, getattr(self, name), "a number of seconds of at least 0", lambda x: x >= 0)

    @classmethod
    def preset(cls, name: str) -> SweepSettings:
        """The clustering of `diarizen`, `pyannote-3.1` or `community-1`."""
        return cls(clustering=_preset(name))

    @property
    def method(self) -> str:
        """`ahc`, `vbx`, or `plugin`."""
        if isinstance(self.clustering, PluginParams):
            return "plugin"
        if isinstance(self.clustering, XVectorParams):
            return self.clustering.method
        return "vbx" if isinstance(self.clustering, VBxParams) else "ahc"

    def replace(self, **cell: Any) -> SweepSettings:
        """The same with the parameters of a cell, by the names that grids use.

        A parameter of the other clustering method is left out if the cell chooses the method
        itself (`method` or `preset`), and an error if it does not.
        """
        values = {column_name(name): from_cell(column_name(name), value) for name, value in cell.items()}
        if len(values) < len(cell):
            raise InputError("num_speakers and num_speakers_forced are two names of one parameter; give one")
        if isinstance(self.clustering, PluginParams):
            return self._replace_plugin(self.clustering, values)
        for name in values:
            if name not in parameter_names():
                raise unknown_parameter(name)
        chooses = "method" in values or "preset" in values
        clustering: AnyClustering = self.clustering
        if "preset" in values:
            clustering = _preset(values.pop("preset"))
        if "method" in values:
            clustering = _with_method(clustering, values.pop("method"))
        values = {_ALIASES.get(name, name): value for name, value in values.items()}
        if isinstance(clustering, XVectorParams) and "ahc_threshold" in values:
            if "threshold" in values:
                raise InputError("threshold and ahc_threshold are two names of one parameter; give one")
            values["threshold"] = values.pop("ahc_threshold")
        own = {entry.name for entry in dataclasses.fields(clustering)}
        rest = {entry.name for entry in dataclasses.fields(self)} - {"clustering"}
        if isinstance(clustering, XVectorParams):
            rest = set()  # segments are neither smoothed nor counted
        elif isinstance(clustering, AHCParams):
            rest -= {"init_smoothing", "loop_prob", "precision"}
        foreign = sorted(set(values) - own - rest)
        if foreign and not chooses:
            kind = "segment features" if isinstance(clustering, XVectorParams) else "the clustering"
            raise InputError(
                f"{foreign[0]} is no parameter of {kind} {SweepSettings(clustering=clustering).method!r}; "
                "leave it out, or choose another method"
            )
        return dataclasses.replace(
            self,
            clustering=dataclasses.replace(
                clustering, **{name: value for name, value in values.items() if name in own}
            ),
            **{name: value for name, value in values.items() if name in rest and name not in own},
        )

    def with_function(self, function: Callable[..., Any]) -> SweepSettings:
        """The same with someone else's clustering in place of the built-in ones."""
        convention: Convention = getattr(self.clustering, "convention", "diarizen")
        clustering = PluginParams(function=function, convention=convention)
        return dataclasses.replace(self, clustering=clustering)

    def _replace_plugin(self, clustering: PluginParams, values: Mapping[str, Any]) -> SweepSettings:
        later = {name: value for name, value in values.items() if name in _AFTERWARDS}
        own = {_ALIASES.get(name, name): value for name, value in values.items() if name not in _AFTERWARDS}
        return dataclasses.replace(self, clustering=clustering.replace(**own), **later)

    def value_of(self, name: str) -> Any:
        """Value of a parameter by the name that grids use; None where the method has no such parameter."""
        expect(name, str, "the name of a parameter must be given")
        if name == "method":
            return self.method
        if isinstance(self.clustering, PluginParams) and name not in _AFTERWARDS:
            return dict(self.clustering.values).get(_ALIASES.get(name, name))
        if name == "preset":
            return getattr(self.clustering, "convention", None)
        if column_name(name) not in parameter_names():
            raise unknown_parameter(name)
        name = _ALIASES.get(name, name)
        if name == "ahc_threshold" and isinstance(self.clustering, XVectorParams):
            name = "threshold"
        return getattr(self.clustering, name, getattr(self, name, None))

    def reconstruction_options(self) -> dict[str, Any]:
        """Keyword arguments of `reconstruct`: those of the convention, and the settings here."""
        if isinstance(self.clustering, XVectorParams):
            return {}
        most = math.inf
        if not isinstance(self.clustering, PluginParams):
            _, most = speaker_bounds(self.clustering)
        return {
            **RECONSTRUCTION_PRESETS[self.clustering.convention],
            "max_speakers": None if math.isinf(most) else int(most),
            "count_onset": self.onset,
            "min_duration_on": self.min_duration_on,
            "min_duration_off": self.min_duration_off,
        }


def expect_meaningful(name: str, value: object) -> None:
    """An `InputError` for a number larger than any that a parameter can have a use for."""
    if isinstance(value, int | float) and LARGEST_VALUE < abs(value) < math.inf:
        raise InputError(f"{name} must be at most {LARGEST_VALUE:g}, got {reprlib.repr(value)}")


def check_base(base: object) -> None:
    """Refuse what is no settings to begin with."""
    expect(
        base,
        (SweepSettings, type(None)),
        "base must be SweepSettings, as SweepSettings(clustering=...) or SweepSettings.preset(name) are",
    )


def default_settings(features: Features | SegmentFeatures) -> SweepSettings:
    """What a sweep over features of this kind starts from."""
    expect(features, (Features, SegmentFeatures), "features must be what load_features gives")
    if isinstance(features, SegmentFeatures):
        return SweepSettings(clustering=XVectorParams())
    return SweepSettings()


@cache
def parameter_names() -> tuple[str, ...]:
    """Names of everything that can be swept."""
    clustering = [
        entry.name
        for kind in (VBxParams, AHCParams, XVectorParams)
        for entry in dataclasses.fields(kind)
        if entry.name not in ("convention", "num_speakers")
    ]
    own = [entry.name for entry in dataclasses.fields(SweepSettings) if entry.name != "clustering"]
    return tuple(dict.fromkeys(["method", "preset", *clustering, "num_speakers_forced", *own]))


def unknown_parameter(name: str) -> InputError:
    """What to raise for a name that cannot be swept; known are the names that people give."""
    return InputError(unknown_name(name, {_ALIASES.get(each, each) for each in parameter_names()}))


def column_name(name: str) -> str:
    """What a parameter is called in tables, where `num_speakers` is how many were found.

    Examples
    --------
    >>> column_name("num_speakers"), column_name("Fa")
    ('num_speakers_forced', 'Fa')
    """
    return _COLUMNS.get(name, name)


def from_cell(name: str, value: Any) -> Any:
    """A value out of a table as the parameter's own type: counts are int, what is missing is None."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        if name in NULLABLE:
            return None
        raise InputError(f"{name} must have a value, got {value!r}")
    if isinstance(value, np.ndarray | pd.Series | pd.DataFrame) and value.size != 1:
        raise InputError(f"{name} must have one value in every cell, got {type(value).__name__}")
    if hasattr(value, "item"):
        value = value.item()  # numpy scalars
    if name in INTEGERS and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _preset(name: Any) -> ClusteringParams:
    if not isinstance(name, str) or name not in CLUSTERING_PRESETS:
        raise InputError(f"unknown preset {name!r}; known are {', '.join(CLUSTERING_PRESETS)}")
    return CLUSTERING_PRESETS[name]


def _with_method(clustering: AnyClustering, method: Any) -> AnyClustering:
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if isinstance(clustering, XVectorParams):
        return dataclasses.replace(clustering, method=method)
    if isinstance(clustering, METHODS[method]):
        return clustering
    kept: Mapping[str, Any] = {name: getattr(clustering, name) for name in _SHARED}
    return METHODS[method](**kept)


def _check(name: str, value: Any, expected: str, holds: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not holds(value):
        raise InputError(f"{name} must be {expected}, got {value!r}")
