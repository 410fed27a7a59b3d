"""One pair of systems, many error rates: how each scorer reads collar, UEM, overlap and averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import pandas as pd
from pyannote.core import Annotation, Segment, Timeline

from workbench.errors import InputError
from workbench.scoring.diarization import DiarizationCounts, score
from workbench.scoring.regions import each_recording


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a scorer reads its options.

    Sources: pyannote.metrics 4.2; md-eval 22 (NIST) and dscore (nryant), which calls it; spyder 0.4.
    """

    scorer: str
    collar_width: float  # s left out in all around a boundary, per second of its option
    without_uem: Literal["both", "reference"]  # whose extent is scored
    merges_own_overlap: bool  # a speaker who overlaps themselves counts once
    average: Literal["pooled", "mean"]  # over recordings, by default

    @property
    def words(self) -> dict[str, str]:
        """Its readings, for a table."""
        half = self.collar_width / 2
        both = self.without_uem == "both"
        return {
            "collar_means": "the width on each side" if half == 1 else "the whole width",
            "without_uem": "extent of reference and hypothesis" if both else "extent of the reference",
            "own_overlap": "counts once" if self.merges_own_overlap else "counts twice",
        }


CONVENTIONS = (
    Convention(
        scorer="workbench", collar_width=2, without_uem="both", merges_own_overlap=False, average="pooled"
    ),
    Convention(
        scorer="pyannote.metrics",
        collar_width=1,
        without_uem="both",
        merges_own_overlap=False,
        average="pooled",
    ),
    Convention(
        scorer="dscore", collar_width=2, without_uem="both", merges_own_overlap=True, average="pooled"
    ),
    Convention(
        scorer="md-eval", collar_width=2, without_uem="reference", merges_own_overlap=True, average="pooled"
    ),
    Convention(
        scorer="spyder", collar_width=2, without_uem="both", merges_own_overlap=False, average="pooled"
    ),
)

PROTOCOLS: Mapping[str, tuple[float, bool]] = MappingProxyType(
    {"forgiving": (0.25, True), "fair": (0.25, False), "full": (0.0, False)}
)
"""Collar (s on each side) and skip_overlap of the three protocols of Landini et al., "Bayesian HMM
clustering of x-vector sequences (VBx)", 2022."""


def convention_table(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.25,
) -> pd.DataFrame:
    """The DER that every scorer would print for these recordings, option by option.

    Parameters
    ----------
    references, hypotheses : dict, uri -> Annotation
    uem : dict, uri -> Timeline, optional
        With it every scorer is run with and without it; without it only without.
    collar : float
        The number given to every scorer, whatever it takes it for.

    Returns
    -------
    table : DataFrame, one row per scorer and setting
        scorer; collar_given and collar_each_side (s); collar_means; uem (`given` or what is scored
        without it); overlap (`scored` or `skipped`); own_overlap; average (`pooled`: seconds are summed
        before dividing; `mean` of the recordings' rates); der (fraction).
    """
    if not references:
        raise InputError("there is no reference to score against")
    merged = [{uri: each.support() for uri, each in side.items()} for side in (references, hypotheses)]
    rows = []
    for convention in CONVENTIONS:
        ref, hyp = references, hypotheses
        if convention.merges_own_overlap:
            ref, hyp = merged
        for given in dict.fromkeys([0.0, collar]):
            for regions in dict.fromkeys([uem is not None, False]):
                for skip in (False, True):
                    each_side = given * convention.collar_width / 2
                    counts = _score_all(ref, hyp, uem if regions else None, convention, each_side, skip)
                    words = convention.words
                    for average in ("pooled", "mean"):
                        rows.append(
                            {
                                "scorer": convention.scorer,
                                "collar_given": given,
                                "collar_each_side": each_side,
                                "collar_means": words["collar_means"],
                                "uem": "given" if regions else words["without_uem"],
                                "overlap": "skipped" if skip else "scored",
                                "own_overlap": words["own_overlap"],
                                "average": average,
                                "der": _average(counts, average),
                            }
                        )
    return pd.DataFrame(rows)


def protocol_table(
    references: Mapping[str, Annotation],
    systems: Mapping[str, Mapping[str, Annotation]],
    uem: Mapping[str, Timeline] | None = None,
) -> pd.DataFrame:
    """Pooled DER of several systems under the three published protocols, in percent.

    With the AMI meetings and the outputs of VBx it is the published table of that system.

    Parameters
    ----------
    systems : dict, name of the system -> (dict, uri -> Annotation)

    Returns
    -------
    table : DataFrame
        protocol, collar (s on each side), overlap (`scored` or `not scored`), a column per system.
    """
    rows = []
    for protocol, (collar, skip_overlap) in PROTOCOLS.items():
        row: dict[str, object] = {
            "protocol": protocol,
            "collar": collar,
            "overlap": "not scored" if skip_overlap else "scored",
        }
        for name, hypotheses in systems.items():
            counts = [
                score(reference, hypothesis, regions, collar, skip_overlap)
                for _, reference, hypothesis, regions in each_recording(references, hypotheses, uem)
            ]
            row[name] = 100 * sum(counts, DiarizationCounts()).der
        rows.append(row)
    return pd.DataFrame(rows)


def _score_all(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
    convention: Convention,
    collar: float,
    skip_overlap: bool,
) -> list[DiarizationCounts]:
    counts = []
    for _, reference, hypothesis, regions in each_recording(references, hypotheses, uem):
        scored: Timeline | Segment | None = regions
        if regions is None and convention.without_uem == "reference":
            scored = reference.get_timeline().extent() if reference else Timeline()
        counts.append(score(reference, hypothesis, scored, collar, skip_overlap))
    return counts


def _average(counts: list[DiarizationCounts], average: str) -> float:
    if average == "pooled":
        return sum(counts, DiarizationCounts()).der
    return sum(each.der for each in counts) / len(counts)
