"""Error rates of speaker diarization: exact counts in seconds, and the metrics of dscore."""

from workbench.scoring.clustering_metrics import ClusteringMetrics, PurityCounts, SpeakerErrors
from workbench.scoring.diarization import DiarizationCounts, score
from workbench.scoring.report import ScoreReport, ScoreRow, describe_convention, score_files
from workbench.scoring.turns import Turns

__all__ = [
    "ClusteringMetrics",
    "DiarizationCounts",
    "PurityCounts",
    "ScoreReport",
    "ScoreRow",
    "SpeakerErrors",
    "Turns",
    "describe_convention",
    "score",
    "score_files",
]
