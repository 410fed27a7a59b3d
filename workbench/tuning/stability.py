"""At which numerical noise labels move: clustering of embeddings that another runtime would have made.

Two runtimes, precisions or processors never give the same embeddings to the last bit. Here embeddings are
perturbed by noise of a stated size, or by differences measured between two runtimes, and every setting is
clustered, reconstructed and scored again. What moves then is what a port of the model may change without
being wrong; a gain smaller than that is no gain.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA
from workbench.errors import InputError, expect, expect_count, expect_number
from workbench.scoring import score
from workbench.sweeps.inputs import check_hook
from workbench.sweeps.recording import RecordingSweep
from workbench.sweeps.settings import SweepSettings
from workbench.tuning.cells import expect_table, rate
from workbench.types import Features, SegmentFeatures

NoiseKind = Literal["relative", "absolute", "measured"]
AnyFeatures = Features | SegmentFeatures

LEVELS = (1e-5, 1e-4, 1e-3, 1e-2)
"""From what float32 runtimes differ by, over TF32 and fp16, to int8."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingNoise:
    """What is added to every embedding.

    Attributes
    ----------
    kind : `relative`: normal noise, a level is its length over that of the embedding; `absolute`: normal
        noise, a level is its standard deviation per dimension; `measured`: rows of `differences` drawn at
        random, with a random sign, a level multiplies them (1 is as measured)
    differences : float array, shape (num_differences, dimension); candidate less baseline
    """

    kind: NoiseKind = "relative"
    differences: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in ("relative", "absolute", "measured"):
            raise InputError(f"the kind of noise must be relative, absolute or measured, got {self.kind!r}")
        if (self.kind == "measured") != (self.differences is not None):
            raise InputError("measured noise needs `differences`, and no other kind takes them")
        if self.differences is not None:
            _check_embeddings(self.differences, "differences")
            if self.differences.ndim != 2 or not len(self.differences):
                raise InputError(
                    "differences must have shape (num_differences, dimension) with at least one row, got "
                    f"{self.differences.shape}"
                )

    @classmethod
    def between(cls, baseline: np.ndarray, candidate: np.ndarray) -> EmbeddingNoise:
        """The differences of two runtimes on the same audio; embeddings that either lacks are left out.

        Parameters
        ----------
        baseline, candidate : float arrays, shape (..., dimension)
        """
        _check_embeddings(baseline, "baseline")
        _check_embeddings(candidate, "candidate")
        if baseline.shape != candidate.shape:
            raise InputError(
                "embeddings of two runtimes must have one shape to be compared, "
                f"got {baseline.shape} and {candidate.shape}"
            )
        difference = (candidate.astype(float) - baseline.astype(float)).reshape(-1, baseline.shape[-1])
        difference = difference[np.isfinite(difference).all(axis=1)]
        if not len(difference):
            raise InputError(
                "the two runtimes have no embedding in common, so their noise cannot be measured"
            )
        return cls(kind="measured", differences=difference)

    def draw(self, embeddings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Noise of level 1 for `embeddings` (..., dimension), of their shape."""
        dimension = embeddings.shape[-1]
        if self.differences is None:
            noise = rng.standard_normal(embeddings.shape)
            if self.kind == "relative":
                noise *= np.linalg.norm(embeddings, axis=-1, keepdims=True) / np.sqrt(dimension)
            return noise
        if self.differences.shape[1] != dimension:
            raise InputError(
                f"the differences have {self.differences.shape[1]} dimensions, the embeddings {dimension}; "
                "measure them on this model"
            )
        lead = embeddings.shape[:-1]
        rows = rng.integers(0, len(self.differences), lead)
        return self.differences[rows] * (rng.integers(0, 2, (*lead, 1)) * 2 - 1)


def _check_embeddings(embeddings: object, what: str) -> None:
    expect(embeddings, np.ndarray, f"{what} must be an array, shape (..., dimension)")
    assert isinstance(embeddings, np.ndarray)
    if not embeddings.ndim or embeddings.dtype.kind not in "fiu":
        raise InputError(f"{what} must hold numbers, got {embeddings.dtype} of shape {embeddings.shape}")


def measure_noise(baseline: np.ndarray, candidate: np.ndarray) -> dict[NoiseKind, float]:
    """Size of the differences between two runtimes' embeddings, in the units of `relative` and `absolute`.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (..., dimension)
    """
    noise = EmbeddingNoise.between(baseline, candidate).differences
    assert noise is not None
    rows = baseline.astype(float).reshape(-1, baseline.shape[-1])
    length = np.linalg.norm(rows[np.isfinite(rows).all(axis=1)], axis=1)
    return {
        "relative": float(np.sqrt(np.mean(np.square(noise).sum(axis=1)) / np.mean(np.square(length)))),
        "absolute": float(np.sqrt(np.mean(np.square(noise)))),
    }


def perturb(features: AnyFeatures, noise: np.ndarray, level: float) -> AnyFeatures:
    """Features with `level * noise` added to the embeddings; missing ones (NaN) stay missing."""
    embeddings = features.embeddings + level * noise
    return dataclasses.replace(features, embeddings=embeddings.astype(features.embeddings.dtype))


def noise_stability(
    features: Iterable[AnyFeatures] | Mapping[str, AnyFeatures],
    references: Mapping[str, Annotation],
    cells: pd.DataFrame,
    *,
    base: SweepSettings | None = None,
    plda: PLDA | None = None,
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    clustering: Callable[..., Any] | None = None,
    noise: EmbeddingNoise | None = None,
    levels: Sequence[float] = LEVELS,
    num_repeats: int = 3,
    seed: int = 0,
    hook: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """What becomes of every cell's output when the embeddings are noisy.

    Parameters
    ----------
    features : of the recordings
    references : uri -> who really spoke when; recordings without one have no DER
    cells : the cells to test, one row each, as `CellTable.cells`; their index is kept as `cell`
    base, plda, uem, collar, skip_overlap, clustering : as of the sweep; `uem` by uri
    noise : what is added, by default of relative size
    levels : how much of it
    num_repeats : draws of the noise; the levels of one draw have the same direction
    hook : called as ``hook(done, total)`` in units of one perturbed recording

    Returns
    -------
    stability : one row per recording, cell, level and repeat
        `uri`, `cell`, `level`, `repeat`; `changed`: any label moved; `ari`: adjusted Rand index of the
        labels, 1 where they are the same; `moved` (s): missed, false alarm and confusion of the noisy
        output against the clean one, over `speech` (s) of the clean one it is `cross_der`; `total`,
        `errors` (s), `der` of the noisy output and `errors_clean` (s), `der_clean` (fractions, against the
        reference, NaN without); `num_speakers`, `num_speakers_clean`.
    """
    expect(noise, (EmbeddingNoise, type(None)), "noise must be EmbeddingNoise, or None")
    noise = EmbeddingNoise() if noise is None else noise
    expect(features, Iterable, "features must be those of several recordings, in a list or by uri")
    given = list(features.values() if isinstance(features, Mapping) else features)
    if not given:
        raise InputError("no features to add noise to; give at least one recording")
    for each in given:
        expect(each, (Features, SegmentFeatures), "features must be what load_features gives")
    expect(references, Mapping, "references must be Annotations by recording")
    expect(cells, pd.DataFrame, "cells must be a table of parameters, as CellTable.cells is one")
    if cells.empty:
        raise InputError("no cells to test; give at least one")
    expect(uem, (Mapping, type(None)), "uem must be Timelines by recording, or None")
    expect(levels, (list, tuple, np.ndarray), "levels must list numbers of at least 0")
    for level in levels:
        expect_number(level, "every level must be a number of at least 0", low=0)
    if not len(levels):
        raise InputError("noise needs at least one level")
    expect_count(num_repeats, "num_repeats must be a whole number of at least 1", low=1)
    expect_count(seed, "seed must be a whole number of at least 0")
    check_hook(hook)
    rows: list[dict[str, Any]] = []
    steps = len(given) * len(levels) * num_repeats
    done = 0
    for each in given:
        options: dict[str, Any] = {
            "base": base,
            "plda": plda,
            "uem": None if uem is None else uem.get(each.uri),
            "collar": collar,
            "skip_overlap": skip_overlap,
            "clustering": clustering,
        }
        reference = references.get(each.uri)
        clean = _Outputs(RecordingSweep(each, reference, **options), cells)
        for repeat in range(num_repeats):
            # by name, so that a recording's noise does not depend on which others are there
            rng = np.random.default_rng([seed, zlib.crc32(each.uri.encode()), repeat])
            drawn = noise.draw(each.embeddings, rng)
            for level in levels:
                noisy = _Outputs(RecordingSweep(perturb(each, drawn, level), reference, **options), cells)
                about = {"uri": each.uri, "level": float(level), "repeat": repeat}
                rows += [about | row for row in clean.compare(noisy)]
                done += 1
                if hook is not None:
                    hook(done, steps)
    table = pd.DataFrame(rows)
    return table[["uri", "cell", *(name for name in table.columns if name not in ("uri", "cell"))]]


def summarise_stability(stability: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and level, recordings pooled.

    Returns
    -------
    summary : table
        `cell`, `level`; `changed_share`: of recordings and repeats, how many had any label move; `ari`
        (mean); `cross_der`: moved over speech, both summed; `der_clean`, `der_low`, `der_high`: pooled DER
        without noise, and the lowest and highest of the repeats; `der_change`: the largest distance of a
        repeat from `der_clean`; `num_speakers_change`: mean over recordings and repeats.
    """
    needed = ("cell", "level", "repeat", "errors", "total", "errors_clean")
    expect_table(stability, "stability", needed, "noise_stability")
    rows = []
    for (cell, level), group in stability.groupby(["cell", "level"], sort=True):
        repeats = group.groupby("repeat")[["errors", "total", "errors_clean"]].sum(min_count=1)
        der = rate(repeats["errors"].to_numpy(), repeats["total"].to_numpy())
        clean = float(rate(repeats["errors_clean"].to_numpy(), repeats["total"].to_numpy())[0])
        rows.append(
            {
                "cell": cell,
                "level": level,
                "changed_share": float(group["changed"].mean()),
                "ari": float(group["ari"].mean()),
                "cross_der": float(rate(group["moved"].sum(), group["speech"].sum())),
                "der_clean": clean,
                "der_low": float(der.min()),
                "der_high": float(der.max()),
                "der_change": float(np.abs(der - clean).max()),
                "num_speakers_change": float(
                    (group["num_speakers"] - group["num_speakers_clean"]).abs().mean()
                ),
            }
        )
    return pd.DataFrame(rows)


def breaking_level(stability: pd.DataFrame, max_cross_der: float = 0.0) -> pd.DataFrame:
    """At which noise labels move on each recording.

    Parameters
    ----------
    stability : as `noise_stability` returns it
    max_cross_der : share of the speech that may move and still count as nothing

    Returns
    -------
    breaking : one row per recording and cell: `uri`, `cell`, `level`: the lowest at which more than
        that moves in any repeat (NaN where none does), `cross_der`: the largest there
    """
    expect_table(stability, "stability", ("uri", "cell", "level"), "noise_stability")
    expect_number(max_cross_der, "max_cross_der must be a share of the speech from 0 to 1", low=0, high=1)
    rows = []
    for (uri, cell), group in stability.groupby(["uri", "cell"], sort=False):
        over = group[group["changed"] & (group["cross_der"] > max_cross_der)]
        level = over["level"].min() if len(over) else np.nan
        worst = over.loc[over["level"] == level, "cross_der"].max() if len(over) else 0.0
        rows.append({"uri": uri, "cell": cell, "level": level, "cross_der": worst})
    return pd.DataFrame(rows)


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Agreement of two labelings of the same items: 1 if equal up to names, about 0 by chance.

    Hubert and Arabie, "Comparing partitions", 1985.

    Examples
    --------
    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    1.0
    """
    _, first = np.unique(first.ravel(), return_inverse=True)
    _, second = np.unique(second.ravel(), return_inverse=True)
    both = np.bincount(first * (second.max(initial=0) + 1) + second).astype(float)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, rows, columns = pairs(both), pairs(np.bincount(first)), pairs(np.bincount(second))
    everything = len(first) * (len(first) - 1) / 2
    expected = rows * columns / everything if everything else 0.0
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


class _Outputs:
    """Labels, scores and, where they are needed, annotations of some cells on one recording."""

    def __init__(self, sweep: RecordingSweep, cells: pd.DataFrame):
        self.sweep, self.cells = sweep, cells
        self.rows = sweep.evaluate(cells).to_dict("records")
        records = cells.astype(object).to_dict("records") if len(cells.columns) else [{}] * len(cells)
        self.settings: list[dict[str, Any]] = [
            {str(name): value for name, value in record.items()} for record in records
        ]
        self._labels: dict[int, np.ndarray] = {}
        self._annotations: dict[int, Annotation] = {}

    def labels(self, place: int) -> np.ndarray:
        if place not in self._labels:
            self._labels[place] = self.sweep.live(self.settings[place]).hard_clusters
        return self._labels[place]

    def annotation(self, place: int) -> Annotation:
        if place not in self._annotations:
            self._annotations[place] = self.sweep.hypothesis(self.settings[place])
        return self._annotations[place]

    def compare(self, noisy: _Outputs) -> list[dict[str, Any]]:
        """One row per cell."""
        found = []
        for place, cell in enumerate(self.cells.index):
            before, after = self.rows[place], noisy.rows[place]
            ari = adjusted_rand_index(self.labels(place), noisy.labels(place))
            changed = ari < 1.0
            clean = self.annotation(place)
            speech = sum(seconds for _, seconds in clean.chart())
            moved = 0.0
            if changed:
                counts = score(clean, noisy.annotation(place))
                moved = counts.missed + counts.false_alarm + counts.confusion
            found.append(
                {
                    "cell": cell,
                    "changed": changed,
                    "ari": ari,
                    "moved": moved,
                    "speech": speech,
                    "cross_der": moved / speech if speech else float(moved > 0),
                    "total": after["total"],
                    "errors": after["missed"] + after["false_alarm"] + after["confusion"],
                    "der": after["der"],
                    "errors_clean": before["missed"] + before["false_alarm"] + before["confusion"],
                    "der_clean": before["der"],
                    "num_speakers": after["num_speakers"],
                    "num_speakers_clean": before["num_speakers"],
                }
            )
        return found
