"""Scores of a set of recordings: one row each and the pooled row, as `workbench score` reports them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyannote.core import Annotation, Timeline

from workbench.errors import InputError
from workbench.scoring.clustering_metrics import (
    ClusteringMetrics,
    Contingency,
    PurityCounts,
    SpeakerErrors,
    frame_labels,
)
from workbench.scoring.detection import DetectionCounts
from workbench.scoring.diarization import DiarizationCounts, count_errors
from workbench.scoring.references import meant
from workbench.scoring.slots import Slots
from workbench.scoring.turns import Turns


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """All figures of one recording, or of all together; rates are fractions, NaN where undefined."""

    counts: DiarizationCounts
    jer: float
    clustering: ClusteringMetrics
    purity: float
    coverage: float
    detection: DetectionCounts = DetectionCounts()
    identification: DiarizationCounts = DiarizationCounts()  # where only equal names are correct

    def to_dict(self) -> dict[str, float | None]:
        """The row of the JSON contract, None instead of NaN."""
        values = {
            **dataclasses.asdict(self.counts),
            "der": self.counts.der,
            "jer": self.jer,
            **dataclasses.asdict(self.clustering),
            "purity": self.purity,
            "coverage": self.coverage,
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    def detection_dict(self) -> dict[str, float | None]:
        """Speech, overlap and speaker count, and the identification error rate."""
        return {**self.detection.to_dict(), "identification_error_rate": self.identification.der}


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """Scores of several recordings, with what they mean and what was left out."""

    collar: float  # s on each side of a reference boundary
    skip_overlap: bool
    convention: str  # the above and the scored regions, in words
    recordings: Mapping[str, ScoreRow]  # uri -> row, in order of the names
    overall: ScoreRow  # pooled: counts are summed before they are divided
    failed: tuple[tuple[str, str], ...] = ()  # uri and reason
    without_hypothesis: tuple[str, ...] = ()  # scored as missed speech
    similar: Mapping[str, str] = field(default_factory=dict)  # of these: what is perhaps meant
    left_out: Mapping[str, str] = field(default_factory=dict)  # uri -> why it was not scored

    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON report, ready for `json.dumps`."""
        return {
            "collar": self.collar,
            "skip_overlap": self.skip_overlap,
            "convention": self.convention,
            "recordings": {uri: row.to_dict() for uri, row in self.recordings.items()},
            "overall": self.overall.to_dict(),
            "detection": {
                "recordings": {uri: row.detection_dict() for uri, row in self.recordings.items()},
                "overall": self.overall.detection_dict(),
            },
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
            "without_hypothesis": list(self.without_hypothesis),
            "left_out": dict(self.left_out),
        }


def score_files(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    only_common: bool = False,
) -> ScoreReport:
    """Score every recording that a reference or a hypothesis names, and all of them together.

    A reference without a hypothesis is missed speech. A hypothesis without a reference is false
    alarm, as dscore counts it, and is listed under `failed` unless the UEM names the recording, for
    then its reference may be silent. A UEM leaves out the recordings that it does not name.

    Parameters
    ----------
    references, hypotheses : dict, uri -> Annotation
    uem : dict, uri -> Timeline, optional
        Regions to be scored; without it, from the first start to the last end of either side.
    collar : float
        Seconds on EACH SIDE of a reference boundary (see `score`). Like `skip_overlap` it bears on
        the counts and the DER alone: JER and clustering metrics are counted without, as by dscore.
    only_common : bool
        Score only the recordings that both sides name.

    Returns
    -------
    report : ScoreReport
    """
    common = references.keys() & hypotheses.keys()
    if references and hypotheses and not common:
        raise InputError(_no_match("reference", references, "hypothesis", hypotheses))
    named = references.keys() | hypotheses.keys()
    if uem is not None and named and not named & uem.keys():
        raise InputError(_no_match("reference and hypothesis", named, "UEM", uem))
    left_out: dict[str, str] = {}
    failed: list[tuple[str, str]] = []
    chosen: list[str] = []
    for uri in sorted(named):
        if uem is not None and uri not in uem:
            left_out[uri] = "the UEM does not name it"
        elif only_common and uri not in common:
            left_out[uri] = "it has no reference" if uri in hypotheses else "it has no hypothesis"
        else:
            chosen.append(uri)
            if uri not in references and uem is None:
                failed.append((uri, _unknown_reference(uri, references)))
    if not chosen:
        raise InputError(
            "there is no recording to score: "
            + ("; ".join(f"{uri}: {why}" for uri, why in left_out.items()) or "none is named")
        )

    tables = {
        uri: _Tables.of(
            references.get(uri, Annotation(uri=uri)),
            hypotheses.get(uri, Annotation(uri=uri)),
            uem[uri] if uem is not None else None,
            collar,
            skip_overlap,
        )
        for uri in chosen
    }
    unknown = tuple(uri for uri in chosen if uri not in hypotheses)
    return ScoreReport(
        collar=collar,
        skip_overlap=skip_overlap,
        convention=describe_convention(collar, skip_overlap, has_uem=uem is not None),
        recordings={uri: table.row() for uri, table in tables.items()},
        overall=_Tables.together(tables.values()).row(),
        failed=tuple(failed),
        without_hypothesis=unknown,
        similar={uri: meant(uri, hypotheses, "hypothesis") for uri in unknown},
        left_out=left_out,
    )


def describe_convention(collar: float, skip_overlap: bool, has_uem: bool) -> str:
    """The scoring convention in words, to be printed beside every number.

    Examples
    --------
    >>> describe_convention(0.25, False, has_uem=False)
    'collar ±0.25 s, overlap scored, no UEM: extent of reference and hypothesis'
    """
    parts = [
        f"collar ±{collar:g} s" if collar else "no collar",
        "overlap not scored" if skip_overlap else "overlap scored",
        "regions of the UEM" if has_uem else "no UEM: extent of reference and hypothesis",
    ]
    return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tables:
    """What a row is computed from, of one recording or of several together."""

    counts: DiarizationCounts
    speakers: SpeakerErrors
    contingency: Contingency
    purity: PurityCounts
    detection: DetectionCounts
    identification: DiarizationCounts

    @classmethod
    def of(
        cls,
        reference: Annotation,
        hypothesis: Annotation,
        uem: Timeline | None,
        collar: float,
        skip_overlap: bool,
    ) -> _Tables:
        ref, hyp = Turns.of(reference), Turns.of(hypothesis)
        labels = frame_labels(ref, hyp, uem)
        slots = Slots.of(ref, hyp, uem, collar, skip_overlap)
        return cls(
            counts=count_errors(slots, slots.pairs),
            speakers=SpeakerErrors.of(labels),
            contingency=Contingency.of(labels),
            purity=PurityCounts.of(ref, hyp),
            detection=DetectionCounts.of(slots),
            identification=count_errors(slots, slots.same_name_pairs),
        )

    @classmethod
    def together(cls, tables: Iterable[_Tables]) -> _Tables:
        tables = list(tables)
        return cls(
            counts=sum((table.counts for table in tables), DiarizationCounts()),
            speakers=sum((table.speakers for table in tables), SpeakerErrors()),
            contingency=Contingency.side_by_side([table.contingency for table in tables]),
            purity=sum((table.purity for table in tables), PurityCounts()),
            detection=sum((table.detection for table in tables), DetectionCounts()),
            identification=sum((table.identification for table in tables), DiarizationCounts()),
        )

    def row(self) -> ScoreRow:
        return ScoreRow(
            counts=self.counts,
            jer=self.speakers.jer,
            clustering=self.contingency.metrics(),
            purity=self.purity.purity,
            coverage=self.purity.coverage,
            detection=self.detection,
            identification=self.identification,
        )


def _unknown_reference(uri: str, references: Mapping[str, Annotation]) -> str:
    """Why a hypothesis has no reference, with the name that was perhaps meant."""
    reason = "no reference names this recording; all of its speech was counted as false alarm"
    return reason + meant(uri, references, "reference")


def _no_match(first: str, firsts: Iterable[str], second: str, seconds: Iterable[str]) -> str:
    return (
        f"{first} and {second} have no recording in common: {first} names {_some(firsts)}, "
        f"{second} names {_some(seconds)}; check the recording names"
    )


def _some(names: Iterable[str]) -> str:
    """The first few names."""
    ordered = sorted(names)
    if not ordered:
        return "none"
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")
