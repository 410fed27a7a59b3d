"""One cell of a sweep the straightforward way: every stage of the pipeline, one after the other."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from pyannote.core import Annotation
from pyannote.metrics.diarization import DiarizationErrorRate

from workbench.clustering import PLDA, AHCParams, TrainingSet, VBxParams, run_clustering, vbx
from workbench.clustering.run import assign_vbx
from workbench.clustering.vbx import MIN_PRIOR, initial_responsibilities
from workbench.powerset import median_filter
from workbench.reconstruction import reconstruct
from workbench.scoring import score_files
from workbench.sweeps import SweepSettings
from workbench.types import Features


def cluster_plainly(
    features: Features, settings: SweepSettings, plda: PLDA | None, training: TrainingSet | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of all local speakers, and the trace of the bound."""
    params = settings.clustering
    assert isinstance(params, AHCParams | VBxParams)
    training = TrainingSet(features, params.convention) if training is None else training
    as_in_pipeline = settings.init_smoothing == 7.0 and settings.loop_prob is None
    if isinstance(params, AHCParams) or as_in_pipeline or len(training) < 2:
        result = run_clustering(features, params, plda, training)
        return result.hard_clusters, result.elbo
    start = training.dendrogram().cut(params.ahc_threshold, params.ahc_criterion)
    found = vbx(
        training.project(plda)[:, : params.lda_dim],
        plda.phi[: params.lda_dim],
        initial_responsibilities(start, settings.init_smoothing),
        Fa=params.Fa,
        Fb=params.Fb,
        max_iters=params.max_iters,
        loop_prob=settings.loop_prob,
    )
    return assign_vbx(features, params, training, found.gamma[:, found.pi > MIN_PRIOR])[0], found.elbo


def filtered(features: Features, settings: SweepSettings) -> Features:
    """The recording after the median filter of a cell."""
    smooth = median_filter(features.segmentations, settings.median_filter)
    return dataclasses.replace(features, segmentations=smooth)


def run_plainly(features: Features, settings: SweepSettings, plda: PLDA | None) -> Annotation:
    """The hypothesis of a cell."""
    features = filtered(features, settings)
    hard_clusters, _ = cluster_plainly(features, settings, plda)
    return reconstruct(features, hard_clusters, **settings.reconstruction_options())


def score_plainly(
    reference: Annotation, hypothesis: Annotation, uem: Any = None, collar: float = 0.0, skip: bool = False
) -> dict[str, float]:
    """Components of pyannote.metrics, by our names. Its collar is the whole width."""
    metric = DiarizationErrorRate(collar=2 * collar, skip_overlap=skip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a UEM, it says that it takes the extent of both sides
        found = metric(reference, hypothesis, uem=uem, detailed=True)
    names = {"missed": "missed detection", "false_alarm": "false alarm"}
    return {
        name: found[names.get(name, name)]
        for name in ("total", "correct", "missed", "false_alarm", "confusion")
    }


def jer_plainly(reference: Annotation, hypothesis: Annotation, uem: Any = None) -> float:
    """JER of a scored file; its collar and overlap do not matter."""
    regions = None if uem is None else {"": uem}
    return score_files({"": reference}, {"": hypothesis}, regions).overall.jer
