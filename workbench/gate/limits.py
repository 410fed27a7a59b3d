"""How much worse numbers may get: limits, and the TOML that sets them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workbench.errors import InputError, nearest

Kind = Literal["parity", "score", "compare", "benchmark"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much worse a number may be than the baseline's; a bigger number is worse.

    Without `abs`, `rel` and `max` it may not get worse at all.
    """

    abs: float = 0.0  # may grow by this much
    rel: float = 0.0  # or by this fraction of the baseline, whichever is more
    max: float | None = None  # and is never to be above this
    confidence: float | None = None  # fails only if the lower bound of the paired change is above 0, too
    per_recording: bool = False  # whether every recording is checked as well

    def allowed(self, baseline: float) -> float:
        """Largest number that passes.

        Examples
        --------
        >>> Limit(abs=0.03, rel=0.2).allowed(0.1), Limit(abs=0.03, rel=0.2).allowed(1.0)
        (0.13, 1.2)
        """
        grown = baseline + max(self.abs, self.rel * abs(baseline))
        return grown if self.max is None else min(grown, self.max)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits by kind of report and metric, and what missing rows mean."""

    missing: Literal["fail", "warn"] = "fail"  # recordings (or rows) of the baseline that the report lacks
    failed: Literal["fail", "warn"] = "fail"  # recordings that failed now and did not before
    limits: Mapping[str, Mapping[str, Limit]] = field(default_factory=dict)


DEFAULT = Budget(
    limits={
        "parity": {
            "max_abs_diff": Limit(abs=1e-4, rel=0.5),
            "flip_rate": Limit(abs=1e-4, rel=0.2),
            "real_flips": Limit(abs=0.0, rel=0.2),
            "cross_der": Limit(abs=0.002, rel=0.2),
            "der_change": Limit(abs=0.002),
        },
        "score": {
            "der": Limit(abs=0.002, confidence=0.95),
            "jer": Limit(abs=0.01),
        },
        "compare": {
            "der_b": Limit(abs=0.002, confidence=0.95),
            "der_change": Limit(abs=0.002),
            "flip_rate": Limit(abs=1e-4, rel=0.2),
            "cross_der": Limit(abs=0.002, rel=0.2),
        },
        # per second of audio: pipelines may have heard more or less of it
        "benchmark": {"p50": Limit(rel=0.25), "p99": Limit(rel=0.75), "rtf": Limit(rel=0.25)},
    }
)
"""What holds without a budget: DER fails if it is 0.2 points up and the lower bound is above 0."""

METRICS: Mapping[str, tuple[str, ...]] = {
    "parity": (
        "max_abs_diff",
        "mean_abs_diff",
        "flip_rate",
        "multilabel_flips",
        "real_flips",
        "max_flip_margin",
        "cross_der",
        "der_candidate",
        "der_change",
        "rtf_candidate",
    ),
    "score": ("der", "jer", "missed", "false_alarm", "confusion"),
    "compare": (
        "der_a",
        "der_b",
        "der_change",
        "jer_b",
        "flip_rate",
        "real_flips",
        "max_abs_diff",
        "cross_der",
    ),
    "benchmark": ("mean", "p50", "p90", "p99", "rtf", "seconds", "first_call", "peak_memory"),
}
"""What a budget may limit, by kind of report."""

ALWAYS = ("der", "der_b", "max_abs_diff")
"""Metrics without which a report says nothing."""

PAIRED = {"der": "errors", "der_b": "errors_b"}
"""Metrics with a confidence bound, and the seconds of error of every recording that it is made from."""


def read_budget(path: Path) -> Budget:
    """Limits from a TOML file.

    ``[gate]`` takes `missing` and `failed` ("fail" or "warn"); ``[parity]``, ``[score]``, ``[compare]`` and
    ``[benchmark]`` take one table per metric with `abs`, `rel`, `max`, `confidence`, `per_recording`.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"is not valid TOML: {error}") from None
    tables = ("gate", *METRICS)
    for key in content:
        if key not in tables:
            raise InputError.at(
                path, f"unknown table {key!r}{nearest(key, tables)}; known are {', '.join(tables)}"
            )
    general = _table(content.get("gate", {}), "gate", path)
    choices = {}
    for key, value in general.items():
        if key not in ("missing", "failed"):
            raise InputError.at(path, f"gate: unknown key {key!r}; known are missing and failed")
        if value not in ("fail", "warn"):
            raise InputError.at(path, f"gate.{key} must be 'fail' or 'warn', found {value!r}")
        choices[key] = value
    limits = dict(DEFAULT.limits)
    for kind in METRICS:
        if kind in content:
            entries = _table(content[kind], kind, path)
            if not entries:
                raise InputError.at(path, f"{kind}: limits nothing, so everything would pass; name a metric")
            limits[kind] = {metric: _limit(kind, metric, entry, path) for metric, entry in entries.items()}
    return Budget(limits=limits, **choices)


def _limit(kind: str, metric: str, entry: Any, path: Path) -> Limit:
    if metric not in METRICS[kind]:
        raise InputError.at(
            path,
            f"{kind}: no metric {metric!r}{nearest(metric, METRICS[kind])}; known are "
            f"{', '.join(METRICS[kind])}",
        )
    known = tuple(Limit.__dataclass_fields__)
    values: dict[str, Any] = {}
    for key, value in _table(entry, f"{kind}.{metric}", path).items():
        if key not in known:
            raise InputError.at(
                path,
                f"{kind}.{metric}: unknown key {key!r}{nearest(key, known)}; known are {', '.join(known)}",
            )
        if key == "per_recording":
            if not isinstance(value, bool):
                raise InputError.at(path, f"{kind}.{metric}.{key} must be true or false, found {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise InputError.at(
                path, f"{kind}.{metric}.{key} must be a number of at least 0, found {value!r}"
            )
        values[key] = value
    if "confidence" in values:
        if not 0 < values["confidence"] < 1:
            raise InputError.at(path, f"{kind}.{metric}.confidence must be between 0 and 1")
        if metric not in PAIRED:
            raise InputError.at(path, f"{kind}.{metric}: only {', '.join(PAIRED)} have a confidence bound")
    return Limit(**values)


def _table(value: Any, name: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError.at(path, f"{name} must be a table, found {value!r}")
    return value
