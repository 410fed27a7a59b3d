"""What clustering can be told: parameters with DiariZen's names, presets, and DiariZen's TOML table."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from workbench.errors import InputError

Convention = Literal["diarizen", "pyannote-3.1", "community-1"]
"""Whose behaviour is followed where the implementations differ; see the package's docstring."""

CONVENTIONS: tuple[Convention, ...] = ("diarizen", "pyannote-3.1", "community-1")
LINKAGES = ("centroid", "average", "complete", "single", "ward")
CRITERIA = ("distance", "maxclust")


@dataclass(frozen=True, kw_only=True)
class AHCParams:
    """Agglomerative clustering of unit-length embeddings; defaults are those of DiariZen's recipes."""

    ahc_threshold: float = 0.7  # distance above which clusters are no longer merged
    min_cluster_size: int = 30  # smaller clusters are moved whole into the nearest larger one
    linkage: str = "centroid"  # how the distance of two clusters is measured
    min_speakers: int | None = 1  # None: no lower bound
    max_speakers: int | None = 20  # None: no upper bound
    num_speakers: int | None = None  # forces min_speakers = max_speakers = num_speakers
    convention: Convention = "diarizen"

    def __post_init__(self) -> None:
        _check_number("ahc_threshold", self.ahc_threshold, above=0.0, inclusive=True)
        _check_count("min_cluster_size", self.min_cluster_size)
        _check_choice("linkage", self.linkage, LINKAGES)
        _check_choice("convention", self.convention, CONVENTIONS)
        _check_speakers(self)


@dataclass(frozen=True, kw_only=True)
class VBxParams:
    """Symbols as in Landini et al., "Bayesian HMM clustering of x-vector sequences (VBx)", 2022.

    DiariZen ignores `min_speakers`, `max_speakers` and `num_speakers` here: they only cap how
    many speakers are active at once. The community-1 convention corrects the number of speakers
    by k-means.
    """

    ahc_criterion: str = "distance"  # or "maxclust": ahc_threshold is a number of clusters
    ahc_threshold: float = 0.6  # where the AHC that initialises VBx stops
    Fa: float = 0.07  # scale of the sufficient statistics
    Fb: float = 0.8  # speaker regularisation: larger finds fewer speakers
    lda_dim: int | None = 128  # leading PLDA dimensions used, of those there are; None: all
    max_iters: int = 20  # variational updates at most
    min_speakers: int | None = 1  # None: no lower bound
    max_speakers: int | None = 20  # None: no upper bound
    num_speakers: int | None = None  # forces min_speakers = max_speakers = num_speakers
    convention: Convention = "diarizen"

    def __post_init__(self) -> None:
        _check_choice("ahc_criterion", self.ahc_criterion, CRITERIA)
        _check_number("ahc_threshold", self.ahc_threshold, above=0.0, inclusive=True)
        if self.ahc_criterion == "maxclust":
            _check_count("ahc_threshold (with ahc_criterion maxclust)", self.ahc_threshold)
        _check_number("Fa", self.Fa, above=0.0)
        _check_number("Fb", self.Fb, above=0.0)
        if self.lda_dim is not None:
            _check_count("lda_dim", self.lda_dim)
        _check_count("max_iters", self.max_iters)
        _check_choice("convention", self.convention, CONVENTIONS)
        if self.convention == "pyannote-3.1":
            raise InputError("pyannote 3.1 has no VBx clustering; use AHC, or another convention")
        _check_speakers(self)


ClusteringParams = AHCParams | VBxParams


@dataclass(frozen=True, kw_only=True)
class XVectorParams:
    """Clustering of one embedding per segment, as the recipe of VBx's own repository (`vbhmm.py`).

    Defaults are those of its example.
    """

    method: str = "vbx"  # or "ahc": stop at the clusters that VBx would start from
    threshold: float = -0.015  # added to the calibrated similarity above which AHC merges
    Fa: float = 0.3  # scale of the sufficient statistics
    Fb: float = 17.0  # speaker regularisation: larger finds fewer speakers
    loop_prob: float = 0.99  # probability of staying with a speaker from one segment to the next
    lda_dim: int | None = 128  # leading PLDA dimensions used, of those there are; None: all
    init_smoothing: float = 5.0  # how much the AHC cluster outweighs the others, as exponent
    max_iters: int = 40  # variational updates at most

    def __post_init__(self) -> None:
        _check_choice("method", self.method, ("vbx", "ahc"))
        _check_number("threshold", self.threshold, above=-math.inf)
        _check_number("Fa", self.Fa, above=0.0)
        _check_number("Fb", self.Fb, above=0.0)
        _check_number("loop_prob", self.loop_prob, above=0.0, inclusive=True)
        if self.loop_prob > 1:
            raise InputError(f"loop_prob must be a probability from 0 to 1, got {self.loop_prob!r}")
        if self.lda_dim is not None:
            _check_count("lda_dim", self.lda_dim)
        _check_number("init_smoothing", self.init_smoothing, above=0.0, inclusive=True)
        _check_count("max_iters", self.max_iters)


def speaker_bounds(params: ClusteringParams) -> tuple[int, float]:
    """Smallest and largest number of speakers that `params` allow; infinity for no upper bound."""
    if params.num_speakers is not None:
        return params.num_speakers, params.num_speakers
    upper = math.inf if params.max_speakers is None else params.max_speakers
    return params.min_speakers or 1, upper


def _check_number(name: str, value: Any, *, above: float, inclusive: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < above or (value == above and not inclusive):
        relation = "of at least" if inclusive else "above"
        raise InputError(f"{name} must be a number {relation} {above:g}, got {value!r}")


def _check_count(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value != math.floor(value) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_speakers(params: ClusteringParams) -> None:
    for name in ("min_speakers", "max_speakers", "num_speakers"):
        value = getattr(params, name)
        if value is not None:
            _check_count(name, value)
    lower, upper = speaker_bounds(params)
    if lower > upper:
        raise InputError(f"min_speakers ({lower}) must not exceed max_speakers ({upper})")


CLUSTERING_PRESETS: Mapping[str, ClusteringParams] = MappingProxyType(
    {
        "diarizen": VBxParams(),
        "pyannote-3.1": AHCParams(
            ahc_threshold=0.7045654963945799,
            min_cluster_size=12,
            max_speakers=None,
            convention="pyannote-3.1",
        ),
        "community-1": VBxParams(max_speakers=None, convention="community-1"),
    }
)
"""Clustering parameters of the presets, by name."""

CLUSTERING_METHODS: Mapping[str, type[AHCParams] | type[VBxParams]] = MappingProxyType(
    {"AgglomerativeClustering": AHCParams, "VBxClustering": VBxParams}
)
"""DiariZen's names of the clustering methods."""


def read_clustering_args(config: Mapping[str, Any], source: str | Path) -> ClusteringParams:
    """Parameters from the `[clustering.args]` table of a DiariZen configuration.

    DiariZen writes the parameters of both methods into one table; those of the method that is
    not named are checked for their spelling and left out. A parameter that is not there keeps
    its default.

    Parameters
    ----------
    config : the whole configuration, as `tomllib` reads it
    source : name of the file, for messages
    """
    section = config.get("clustering")
    table = section.get("args") if isinstance(section, Mapping) else None
    if not isinstance(table, Mapping):
        raise InputError.at(
            source,
            'no table [clustering.args]; add it with at least method = "VBxClustering" or '
            'method = "AgglomerativeClustering"',
        )
    values = dict(table)
    method = values.pop("method", None)
    if not isinstance(method, str) or method not in CLUSTERING_METHODS:
        found = "nothing" if method is None else repr(method)
        raise InputError.at(
            source, f"[clustering.args] method must be one of {', '.join(CLUSTERING_METHODS)}, found {found}"
        )
    kind = CLUSTERING_METHODS[method]
    known = {field.name for one in CLUSTERING_METHODS.values() for field in dataclasses.fields(one)}
    for key in values:
        if key not in known:
            raise InputError.at(source, f"[clustering.args] {unknown_name(key, known | {'method'})}")
    wanted = {field.name for field in dataclasses.fields(kind)}
    try:
        return kind(**{key: value for key, value in values.items() if key in wanted})
    except InputError as error:
        raise InputError.at(source, f"[clustering.args] {error}") from None


def unknown_name(name: str, known: set[str]) -> str:
    """Message about an unknown parameter, with the nearest known one if any is near."""
    folded = {one.casefold(): one for one in sorted(known)}  # without case, FA is next to Fa
    nearest = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f"; did you mean {folded[nearest[0]]!r}?" if nearest else f"; known are {', '.join(sorted(known))}"
    return f"unknown parameter {name!r}{hint}"
