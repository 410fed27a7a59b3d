"""Which LDA dimension helps: PLDA scores of speakers that the PLDA has never heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from workbench.clustering.plda_estimation import PLDAEstimation, estimate_plda
from workbench.errors import InputError
from workbench.verification.metrics import evaluate
from workbench.verification.scoring import CosineScorer, PLDAScorer, Scorer

PRIOR = 0.05  # of minDCF in the table


def lda_dimension_table(
    embeddings: np.ndarray,
    labels: Sequence[object] | np.ndarray,
    dimensions: Sequence[int],
    params: PLDAEstimation | None = None,
    *,
    num_folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Error rates of PLDA scoring for each `lda_dim`, on speakers left out of the estimation.

    Speakers are dealt into folds; for each, a PLDA is estimated on the others, and all pairs of the
    fold's embeddings are trials. Scores of all folds are evaluated together.

    Parameters
    ----------
    embeddings : float array, shape (num_embeddings, dimension), not normalised
    labels : speaker of each embedding, (num_embeddings,)
    dimensions : values of `lda_dim`, as VBx has it: the first dimensions of one PLDA
    params : of the estimation; its `num_lda` is raised to the largest of `dimensions`
    num_folds : groups of speakers
    seed : of the dealing

    Returns
    -------
    table : one row per dimension, and one for the cosine (`lda_dim` 0)
        `scoring`, `lda_dim`, `eer`, `min_dcf` (prior 0.05), `roc_auc`, `trials`.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    names, speakers = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    if num_folds < 2 or len(names) < 2 * num_folds:
        raise InputError(
            f"{num_folds} folds take at least {2 * num_folds} speakers and 2 folds at least 4, "
            f"found {len(names)} speakers"
        )
    wanted = sorted(set(dimensions))
    if not wanted or wanted[0] < 1:
        raise InputError(f"LDA dimensions must be at least 1, got {list(dimensions)}")
    params = replace(params or PLDAEstimation(), num_lda=wanted[-1])
    fold = np.random.default_rng(seed).permutation(len(names)) % num_folds
    scored: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {dim: [] for dim in [0, *wanted]}
    for held in range(num_folds):
        inside = fold[speakers] == held
        plda = estimate_plda(rows[~inside], speakers[~inside], params)
        first, second = np.triu_indices(int(inside.sum()), k=1)
        same = speakers[inside][first] == speakers[inside][second]
        for dim in scored:
            scorer: Scorer = PLDAScorer(plda, dim) if dim else CosineScorer()
            features = scorer.prepare(rows[inside])
            scored[dim].append((scorer.matrix(features, features)[first, second], same))
    table = []
    for dim, parts in scored.items():
        scores, target = (np.concatenate(each) for each in zip(*parts, strict=True))
        found = evaluate(scores, target, [PRIOR])
        table.append(
            ("plda" if dim else "cosine", dim, found.eer, found.min_dcf[PRIOR], found.roc_auc, len(scores))
        )
    return pd.DataFrame(table, columns=["scoring", "lda_dim", "eer", "min_dcf", "roc_auc", "trials"])
