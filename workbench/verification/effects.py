"""What the error rate of a verification depends on: how long is listened, how many dimensions count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from workbench.clustering import PLDA
from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError
from workbench.extraction import ExtractionParams, Item
from workbench.runtimes.base import Runtime
from workbench.verification.run import embed_items, verify_trials
from workbench.verification.scoring import CosineScorer, PLDAScorer, Scorer
from workbench.verification.trials import Trials

DURATIONS = (0.5, 1.0, 2.0, 3.0)  # s
PRIOR = 0.05  # of minDCF in the tables


def shortened_items(items: Sequence[Item], duration: float) -> list[Item]:
    """The middle `duration` seconds of every item; shorter ones stay as they are."""
    cut = []
    for item in items:
        if item.start is None or item.end is None:
            raise InputError(f"{item.name}: give start and end, as in 'file.flac#t=1.5,4', to shorten it")
        spare = max(item.end - item.start - duration, 0.0)
        cut.append(replace(item, start=item.start + spare / 2, end=item.end - spare / 2))
    return cut


def duration_table(
    trials: Trials,
    items: Sequence[Item],
    runtimes: Mapping[str, Runtime],
    durations: Sequence[float] = DURATIONS,
    *,
    scorer: Scorer | None = None,
    workers: int = 1,
) -> pd.DataFrame:
    """Error rates where only the middle of every utterance is heard.

    Parameters
    ----------
    trials, items : as `trial_items` returns the items; all have a start and an end
    runtimes : name -> embedding model
    durations : s
    scorer : cosine by default
    workers : batches that run at once

    Returns
    -------
    table : one row per model and duration
        `runtime`, `duration` (s), `eer`, `min_dcf` (prior 0.05), `roc_auc`, `targets`, `nontargets`,
        `shortest` (s, of the utterances as they were heard).
    """
    rows = []
    for name, runtime in runtimes.items():
        for duration in durations:
            cut = shortened_items(items, duration)
            found, failed = embed_items(cut, runtime, ExtractionParams(), workers=workers)
            if failed:
                raise InputError(f"{failed[0]['uri']}: {failed[0]['error']}")
            result = verify_trials(trials, found, scorer, priors=[PRIOR]).verification
            targets = int(result.target.sum())
            lengths = [(item.end or 0.0) - (item.start or 0.0) for item in cut]
            rows.append(
                {
                    "runtime": name,
                    "duration": duration,
                    "eer": result.eer,
                    "min_dcf": result.min_dcf[PRIOR],
                    "roc_auc": result.roc_auc,
                    "targets": targets,
                    "nontargets": len(result.target) - targets,
                    "shortest": min(lengths),
                }
            )
    return pd.DataFrame(rows)


def plda_dimension_table(
    trials: Trials, embeddings: EmbeddingSet, plda: PLDA, dimensions: Sequence[int]
) -> pd.DataFrame:
    """Error rates of PLDA scores by `lda_dim`, and of the cosine beside them (`lda_dim` 0).

    Unlike `lda_dimension_table` nothing is estimated: it is about a PLDA that exists, on trials of others.

    Returns
    -------
    table : `scoring`, `lda_dim`, `eer`, `min_dcf` (prior 0.05), `roc_auc`, `trials`
    """
    rows = []
    for dimension in [0, *sorted(set(dimensions))]:
        scorer: Scorer = PLDAScorer(plda, dimension) if dimension else CosineScorer()
        found = verify_trials(trials, embeddings, scorer, priors=[PRIOR]).verification
        rows.append(
            (scorer.name, dimension, found.eer, found.min_dcf[PRIOR], found.roc_auc, len(found.scores))
        )
    return pd.DataFrame(rows, columns=["scoring", "lda_dim", "eer", "min_dcf", "roc_auc", "trials"])
