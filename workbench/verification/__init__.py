"""Speaker verification: trials, scores, error rates, calibration, and two runtimes side by side."""

from __future__ import annotations

from workbench.verification.agreement import (
    EmbeddingAgreement,
    compare_embeddings,
    compare_verification,
)
from workbench.verification.calibration import Calibration, cllr, fit_calibration
from workbench.verification.metrics import (
    PRIORS,
    ErrorRates,
    Verification,
    det_curve,
    equal_error_rate,
    error_rates,
    evaluate,
    min_dcf,
    rates_at,
    roc_auc,
    roc_curve,
)
from workbench.verification.scoring import (
    CosineScorer,
    PLDAScorer,
    Scorer,
    cohort_statistics,
    cosine,
    normalise_scores,
    score_trials,
)
from workbench.verification.throughput import throughput_table
from workbench.verification.trials import Trials, read_trials, trial_items, write_trials

__all__ = [
    "PRIORS",
    "Calibration",
    "CosineScorer",
    "EmbeddingAgreement",
    "ErrorRates",
    "PLDAScorer",
    "Scorer",
    "Trials",
    "Verification",
    "cllr",
    "cohort_statistics",
    "compare_embeddings",
    "compare_verification",
    "cosine",
    "det_curve",
    "equal_error_rate",
    "error_rates",
    "evaluate",
    "fit_calibration",
    "min_dcf",
    "normalise_scores",
    "rates_at",
    "read_trials",
    "roc_auc",
    "roc_curve",
    "score_trials",
    "throughput_table",
    "trial_items",
    "write_trials",
]
