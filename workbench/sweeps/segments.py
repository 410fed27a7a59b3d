"""The cells of a grid on features with one embedding per segment (x-vectors)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.clustering import PLDA, XVectorParams
from workbench.clustering.batched_vbx import VBxStart, vbx_many
from workbench.clustering.xvectors import EPSILON, SegmentSet, cluster_segments, merge_segments
from workbench.errors import InputError
from workbench.reconstruction import reconstruct_segments
from workbench.scoring import SpeakerErrors, Turns, score
from workbench.scoring.clustering_metrics import frame_labels
from workbench.sweeps.outcome import Outcome, Output, Scored
from workbench.sweeps.settings import SweepSettings
from workbench.types import INACTIVE, SegmentFeatures

_CLOSE = 1e-9  # responsibilities this near to each other are compared by the plain loop


class SegmentSweep:
    """One recording with what all cells share, computed on first use.

    Parameters
    ----------
    features, reference, plda : see `RecordingSweep`
    scoring : keyword arguments of `score`
    """

    def __init__(
        self,
        features: SegmentFeatures,
        reference: Annotation | None,
        plda: PLDA | None,
        scoring: Mapping[str, Any],
    ):
        self.features, self.scoring = features, scoring
        self._reference = None if reference is None else Turns.of(reference)
        self._segments = None if plda is None else SegmentSet(features, plda)
        self._outputs: dict[int, Output] = {}
        self._of_labels: dict[bytes, Output] = {}

    @property
    def segments(self) -> SegmentSet:
        """The usable embeddings, with what their clusterings share."""
        if self._segments is None:
            raise InputError("x-vectors need a PLDA model; name its folder with --plda")
        return self._segments

    def check(self, settings: Sequence[SweepSettings]) -> None:
        """Refuse settings that these features cannot be clustered with."""
        for each in settings:
            if not isinstance(each.clustering, XVectorParams):
                raise InputError(
                    f"{self.features.uri}: has one embedding per segment, which {each.method!r} with "
                    f"{type(each.clustering).__name__} cannot cluster; use XVectorParams"
                )
        assert self.segments is not None  # raises where the PLDA is missing

    def run(self, settings: Sequence[SweepSettings]) -> Iterator[tuple[int, Scored]]:
        """Position and result of every cell, as they are finished."""
        jobs: dict[XVectorParams, list[int]] = {}
        for index, each in enumerate(settings):
            jobs.setdefault(_params(each), []).append(index)
        for params, outcome in self._cluster(list(jobs)):
            scored = Scored.of(outcome, self._output(outcome.hard_clusters))
            for index in jobs[params]:
                yield index, scored

    def outcome(self, settings: SweepSettings) -> Outcome:
        """The clustering of one cell."""
        ((_, outcome),) = self._cluster([_params(settings)])
        return outcome

    def annotation(self, settings: SweepSettings) -> Annotation:
        """The hypothesis of one cell."""
        return reconstruct_segments(self.features, self.outcome(settings).hard_clusters)

    def show(self, settings: SweepSettings, outcome: Outcome) -> dict[str, Any]:
        """Fields of `LiveCell`."""
        hard_clusters = _as_they_appear(outcome.hard_clusters)
        spoken = hard_clusters >= 0
        turns, labels = merge_segments(self.features.segments[spoken], hard_clusters[spoken])
        output = self._output(outcome.hard_clusters)
        return {
            "hard_clusters": hard_clusters,
            "starts": np.zeros(0, dtype=np.int64),
            "rows": np.zeros((0, 0), dtype=bool),
            "turns": pd.DataFrame({"start": turns[:, 0], "end": turns[:, 1], "speaker": labels}),
            "counts": output.counts,
            "speakers": output.speakers,
            "num_speakers": output.num_speakers,
            "elbo": outcome.elbo,
            "converged": outcome.converged,
        }

    def _cluster(self, jobs: Sequence[XVectorParams]) -> Iterator[tuple[XVectorParams, Outcome]]:
        """Every clustering with its outcome, in an order that lets them share work."""
        segments = self.segments
        batches: dict[int | None, list[XVectorParams]] = {}
        for params in jobs:
            if params.method == "ahc" or len(segments) < 2:
                found = cluster_segments(self.features, params, segments.plda, segments)
                yield params, _outcome(*found)
                continue
            batches.setdefault(params.lda_dim, []).append(params)
        for batch in batches.values():
            starts: dict[tuple[Any, ...], VBxStart] = {}  # of cells that start from the same partition
            of_cell = []
            levels: dict[float, int] = {}
            for params in batch:
                if params.threshold not in levels:
                    height = segments.height(params.threshold)
                    levels[params.threshold] = segments.dendrogram.level(height)
                key = (levels[params.threshold], params.init_smoothing)
                if key not in starts:
                    starts[key] = segments.model(params)
                of_cell.append(starts[key])
            cells = vbx_many(
                of_cell,
                [params.Fa for params in batch],
                [params.Fb for params in batch],
                max_iters=[int(params.max_iters) for params in batch],
                epsilon=EPSILON,
                loop_prob=[params.loop_prob for params in batch],
            )
            for index, cell in cells:
                params = batch[index]
                if not cell.recomputed:
                    near_best = cell.weights > cell.weights.max(axis=0) - _CLOSE
                    if (near_best.sum(axis=0) > 1).any():
                        found = cluster_segments(self.features, params, segments.plda, segments)
                        yield params, _outcome(*found)
                        continue
                labels = cell.speakers[cell.weights.argmax(axis=0)]
                yield (
                    params,
                    Outcome(
                        hard_clusters=segments.spread(labels),
                        num_clusters=cell.num_kept,
                        elbo=cell.elbo,
                        converged=cell.converged,
                    ),
                )

    def _output(self, hard_clusters: np.ndarray) -> Output:
        key = hard_clusters.tobytes()
        if key not in self._of_labels:
            self._of_labels[key] = self._find_output(hard_clusters)
        return self._of_labels[key]

    def _find_output(self, hard_clusters: np.ndarray) -> Output:
        """The output of these labels, which others may have with speakers of other numbers."""
        named = _as_they_appear(hard_clusters)
        digest = hashlib.blake2b(named.tobytes(), digest_size=8).digest()
        partition = int.from_bytes(digest, "little", signed=True)
        if partition not in self._outputs:
            annotation = reconstruct_segments(self.features, named)
            counts = speakers = None
            if self._reference is not None:
                turns = Turns.of(annotation)
                counts = score(self._reference, turns, **self.scoring)
                speakers = SpeakerErrors.of(frame_labels(self._reference, turns, self.scoring.get("uem")))
            self._outputs[partition] = Output(len(annotation.labels()), partition, counts, speakers)
        return self._outputs[partition]


def _params(settings: SweepSettings) -> XVectorParams:
    assert isinstance(settings.clustering, XVectorParams)
    return settings.clustering


def _as_they_appear(hard_clusters: np.ndarray) -> np.ndarray:
    """The same with speakers numbered from 0 in the order of their first segments."""
    spoken = hard_clusters >= 0
    _, first, labels = np.unique(hard_clusters[spoken], return_index=True, return_inverse=True)
    named = np.full(len(hard_clusters), INACTIVE, dtype=np.int64)
    named[spoken] = np.argsort(np.argsort(first))[labels]
    return named


def _outcome(hard_clusters: np.ndarray, found: Any) -> Outcome:
    if found is None:
        num_clusters = len(np.unique(hard_clusters[hard_clusters >= 0]))
        return Outcome(hard_clusters=hard_clusters, num_clusters=num_clusters)
    return Outcome(
        hard_clusters=hard_clusters,
        num_clusters=int((found.pi > 1e-7).sum()),
        elbo=found.elbo,
        converged=found.converged,
    )
