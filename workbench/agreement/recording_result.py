"""What a parity run finds on one recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.adequacy import Exercise
from workbench.agreement.consequences import Consequences
from workbench.agreement.diagnosis import StageDifference, first_divergence
from workbench.agreement.findings import Finding
from workbench.agreement.flips import FrameComparison
from workbench.agreement.statistics import DifferenceStatistics
from workbench.scoring import DiarizationCounts
from workbench.types import Geometry


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingDifference:
    """Embeddings of both sides, pair by pair."""

    cosine: np.ndarray  # float32, one per embedding both sides have
    missing_baseline: int  # embeddings that are NaN there alone
    missing_candidate: int

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        some = len(self.cosine) > 0
        return {
            "embeddings": len(self.cosine),
            "min_cosine": float(self.cosine.min()) if some else None,
            "mean_cosine": float(self.cosine.mean()) if some else None,
            "missing_baseline": self.missing_baseline,
            "missing_candidate": self.missing_candidate,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingParity:
    """Both sides of one recording.

    Attributes
    ----------
    uri, duration : name, and length in seconds
    geometry : of the baseline
    frame_count_baseline, frame_count_candidate : frames per chunk, as each side gives them
    comparison : frame by frame; None where the two could not be laid on top of each other
    statistics : of all log-probabilities (or embeddings) that were compared
    flips : as `find_flips` gives them, with what became of each where `consequences` is there
    tables : as `count_flips` gives them
    multilabel_flips : decisions (frame and local speaker) that change
    rtf_baseline, rtf_candidate : seconds of work per second of audio, from calls in alternation; None
        where the side was recorded
    stages : differences of the stages that both sides name, on the chunk that differs most
    findings : what is wrong, in words
    aligned : whether the candidate was brought onto the baseline's frames and classes
    consequences : what it did to the output
    posteriors : float16 arrays (num_chunks, num_frames, num_classes) of both sides, where they were kept
    """

    uri: str
    duration: float
    geometry: Geometry | None
    frame_count_baseline: int | None
    frame_count_candidate: int | None
    comparison: FrameComparison | None = None
    statistics: DifferenceStatistics = field(default_factory=DifferenceStatistics)
    flips: pd.DataFrame = field(default_factory=pd.DataFrame)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    multilabel_flips: int = 0
    rtf_baseline: float | None = None
    rtf_candidate: float | None = None
    stages: tuple[StageDifference, ...] = ()
    findings: tuple[Finding, ...] = ()
    aligned: bool = False
    exercise: Exercise | None = None
    consequences: Consequences | None = None
    embeddings: EmbeddingDifference | None = None
    posteriors: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def num_frames(self) -> int:
        """Frames that were compared (embeddings, for embedding models)."""
        if self.embeddings is not None:
            return len(self.embeddings.cosine)
        return 0 if self.comparison is None else self.comparison.num_frames

    @property
    def num_flips(self) -> int:
        """Frames whose best class differs."""
        return len(self.flips)

    @property
    def num_real(self) -> int:
        """Flips with a margin above a near-tie."""
        return int((~self.flips["near_tie"]).sum()) if len(self.flips) else 0

    @property
    def compared(self) -> bool:
        """Whether the two could be laid on top of each other."""
        return self.comparison is not None or self.embeddings is not None

    def to_json(self) -> dict[str, Any]:
        """The row of the contract, and more."""
        first = first_divergence(self.stages)
        row = count_numbers(
            self.statistics,
            self.flips,
            self.num_frames,
            self.multilabel_flips,
            segmentation=self.comparison is not None,
        )
        row |= {
            "rtf_baseline": self.rtf_baseline,
            "rtf_candidate": self.rtf_candidate,
            "first_divergence": None
            if first is None
            else {"stage": first.stage, "max_abs_diff": first.max_abs_diff},
            "frame_count_baseline": self.frame_count_baseline,
            "frame_count_candidate": self.frame_count_candidate,
            "duration": self.duration,
            "aligned": self.aligned,
            "findings": [finding.to_json() for finding in self.findings],
            "stages": [stage.to_json() for stage in self.stages],
            "statistics": self.statistics.to_json(),
        }
        if self.embeddings is not None:
            row["embeddings"] = self.embeddings.to_json()
        if self.consequences is not None:
            row |= name_ders(self.consequences.baseline_counts, self.consequences.candidate_counts)
            row["consequences"] = self.consequences.to_json()
        return row


def count_numbers(
    statistics: DifferenceStatistics,
    flips: pd.DataFrame,
    frames: int,
    multilabel_flips: int,
    segmentation: bool,
) -> dict[str, Any]:
    """The numbers of the contract's row, of one recording or of all of them."""
    real = int((~flips["near_tie"]).sum()) if len(flips) else 0
    return {
        "frames": frames,
        "flips": len(flips) if segmentation else None,
        "flip_rate": len(flips) / frames if segmentation and frames else None,
        "near_tie_flips": len(flips) - real if segmentation else None,
        "real_flips": real if segmentation else None,
        "multilabel_flips": multilabel_flips if segmentation else None,
        "max_abs_diff": statistics.max_abs if statistics.abs_histogram is not None else None,
        "mean_abs_diff": statistics.mean_abs,
        "max_flip_margin": (float(flips["margin"].max()) if len(flips) else 0.0) if segmentation else None,
    }


def name_ders(first: DiarizationCounts | None, second: DiarizationCounts | None) -> dict[str, Any]:
    """The DER of both sides, where both are known."""
    if first is None or second is None:
        return {}
    return {"der_baseline": first.der, "der_candidate": second.der}
