"""From the difference between two runtimes' embeddings to what it allows the parameters to be.

The difference is measured, then given to the stability analysis of the sweeps: at how many times this noise
do labels move on this recording, and which parameters find the same speakers on both sides?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.clustering import PLDA, ClusteringParams, VBxParams
from workbench.errors import InputError
from workbench.sweeps.grid import Grid
from workbench.sweeps.recording import RecordingSweep
from workbench.sweeps.settings import SweepSettings
from workbench.tuning.stability import (
    EmbeddingNoise,
    adjusted_rand_index,
    breaking_level,
    measure_noise,
    noise_stability,
)
from workbench.types import Features

LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Multiples of the measured noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseConsequences:
    """What a measured difference of embeddings means for one recording.

    Attributes
    ----------
    relative, absolute : size of the difference: root mean square length over that of the embeddings, and
        standard deviation per dimension
    breaks_at : multiple of it at which labels first move with the parameters in use; None: at none tried
    stability : as `noise_stability` gives it, levels in multiples of the measured noise
    cells : parameters around those in use, one row each: their values, `num_speakers_baseline`,
        `num_speakers_candidate`, `ari` (of the labels on both sides) and `same` (no label differs)
    """

    uri: str
    relative: float
    absolute: float
    breaks_at: float | None
    stability: pd.DataFrame
    cells: pd.DataFrame

    @property
    def words(self) -> str:
        """One sentence."""
        size = f"embeddings differ by {self.relative:.2g} of their length"
        if self.breaks_at is None:
            moves = f"up to {LEVELS[-1]:g} times as much moves no label"
        elif self.breaks_at <= 1:
            moves = (
                "as much noise moves labels"
                if self.breaks_at == 1
                else f"{self.breaks_at:g} times as much noise already moves labels"
            )
        else:
            moves = f"labels first move at {self.breaks_at:g} times as much"
        same = int(self.cells["same"].sum())
        return f"{self.uri}: {size}; {moves}; {same} of {len(self.cells)} settings label both sides alike"

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        return {
            "relative": self.relative,
            "absolute": self.absolute,
            "breaks_at": self.breaks_at,
            "words": self.words,
            "cells": self.cells.to_dict("records"),
        }


def noise_consequences(
    baseline: Features,
    candidate: Features,
    clustering: ClusteringParams,
    plda: PLDA | None = None,
    *,
    reference: Annotation | None = None,
    grid: Mapping[str, Any] | None = None,
    levels: tuple[float, ...] = LEVELS,
    num_repeats: int = 2,
) -> NoiseConsequences:
    """Measure the noise between two sides' embeddings, and follow it into the clustering.

    Parameters
    ----------
    baseline, candidate : the same segmentations with the embeddings of either side
    clustering, plda : the parameters in use
    reference : who really spoke when, for the scores of `stability`
    grid : parameter -> values; by default half, once and twice Fa and Fb, and thresholds 0.1 apart
    levels, num_repeats : of `noise_stability`
    """
    if not np.array_equal(baseline.segmentations, candidate.segmentations):
        raise InputError(
            f"{baseline.uri}: the embeddings belong to different segmentations, so their difference is no "
            "noise; take both from the baseline's"
        )
    size = measure_noise(baseline.embeddings, candidate.embeddings)
    base = SweepSettings(clustering=clustering)
    cells = Grid.of(_around(clustering) if grid is None else grid, base).cells()
    sides = [RecordingSweep(each, reference, base=base, plda=plda) for each in (baseline, candidate)]
    rows = []
    for values in cells.to_dict("records"):
        live = [side.live({str(name): value for name, value in values.items()}) for side in sides]
        ari = adjusted_rand_index(live[0].hard_clusters, live[1].hard_clusters)
        rows.append(
            {
                **values,
                "num_speakers_baseline": live[0].num_speakers,
                "num_speakers_candidate": live[1].num_speakers,
                "ari": ari,
                "same": ari == 1.0,
            }
        )
    here = Grid.of({name: [base.value_of(str(name))] for name in cells.columns}, base).cells()
    noise = EmbeddingNoise.between(baseline.embeddings, candidate.embeddings)
    stability = noise_stability(
        [baseline],
        {} if reference is None else {baseline.uri: reference},
        here,
        base=base,
        plda=plda,
        noise=noise,
        levels=levels,
        num_repeats=num_repeats,
    )
    level = float(breaking_level(stability)["level"].iloc[0])
    return NoiseConsequences(
        uri=baseline.uri,
        relative=size["relative"],
        absolute=size["absolute"],
        breaks_at=level if np.isfinite(level) else None,
        stability=stability,
        cells=pd.DataFrame(rows),
    )


def _around(clustering: ClusteringParams) -> dict[str, list[float]]:
    """A few values of the parameters that matter most, those in use in the middle."""
    threshold = clustering.ahc_threshold
    thresholds = [round(each, 6) for each in (threshold - 0.1, threshold, threshold + 0.1) if each > 0]
    if isinstance(clustering, VBxParams):
        return {
            "Fa": [clustering.Fa / 2, clustering.Fa, 2 * clustering.Fa],
            "Fb": [clustering.Fb / 2, clustering.Fb, 2 * clustering.Fb],
            "ahc_threshold": thresholds,
        }
    size = clustering.min_cluster_size
    return {"ahc_threshold": thresholds, "min_cluster_size": sorted({max(1, size // 2), size, 2 * size})}
