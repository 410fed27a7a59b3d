"""Clusterings of one recording with one choice of segmentations, and what they share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from workbench.aggregation import FrameAxis
from workbench.clustering import AHCParams, TrainingSet, VBxParams
from workbench.clustering.ahc import Agglomerations, means_of
from workbench.clustering.batched_assignment import Assigner, rank_found
from workbench.clustering.batched_vbx import VBxCell
from workbench.clustering.filtering import is_active
from workbench.clustering.params import Convention
from workbench.clustering.run import assign_ahc, assign_vbx, wanted_clusters
from workbench.clustering.threads import single_blas_thread
from workbench.sweeps.activation import SlotActivity
from workbench.sweeps.outcome import Outcome
from workbench.types import INACTIVE, Features

FINISHED_TOGETHER = 16  # cells whose centroids are compared with all embeddings in one go
_SIMILARITIES_AT_ONCE = 2**22  # of cells of AHC that are assigned together, 32 MB


@dataclasses.dataclass(frozen=True, eq=False)
class _Partition:
    """Clusters of the training embeddings that have not been assigned yet."""

    labels: np.ndarray
    params: AHCParams  # of the first of the cells
    cells: list[int]


class View:
    """A recording with one choice of segmentations: training sets, dendrograms, activity, each made once."""

    def __init__(self, features: Features):
        self.features = features
        self._trainings: dict[Convention, TrainingSet] = {}
        self._activities: dict[FrameAxis, SlotActivity] = {}
        self._ahc: dict[tuple[Any, ...], Outcome] = {}
        self._digests: dict[int, tuple[np.ndarray, bytes]] = {}
        self._agglomerations: dict[tuple[str, str], Agglomerations] = {}
        self._kmeans: dict[tuple[Any, ...], np.ndarray] = {}

    def training(self, convention: Convention) -> TrainingSet:
        """The embeddings that clusters are made of."""
        if convention not in self._trainings:
            self._trainings[convention] = TrainingSet(self.features, convention)
        return self._trainings[convention]

    def activity(self, frame_axis: FrameAxis) -> SlotActivity:
        """When local speakers are active."""
        if frame_axis not in self._activities:
            self._activities[frame_axis] = SlotActivity(self.features, frame_axis)
        return self._activities[frame_axis]

    def one_cluster(self) -> Outcome:
        """Everyone is one speaker: nothing to tell apart, or not allowed to."""
        return self._outcome(np.zeros(self.features.embeddings.shape[:2], dtype=np.int64), 1)

    @cached_property
    def assigner(self) -> Assigner:
        """All embeddings, ready to be compared with centroids."""
        return Assigner(self.features)

    @cached_property
    def active(self) -> np.ndarray:
        """Local speakers with an active frame: bool array (num_chunks, num_local_speakers)."""
        return is_active(self.features.segmentations)

    def run_ahc(self, cells: Sequence[AHCParams]) -> Iterator[tuple[int, Outcome]]:
        """Position and outcome of agglomerative clusterings, all of one convention.

        Equal partitions of the training embeddings are assigned once.
        """
        waiting: dict[bytes, _Partition] = {}
        num_slots, num_clusters = self.active.size, 0
        # the order in which `Agglomerations` shares most
        for index in sorted(
            range(len(cells)), key=lambda i: (cells[i].ahc_threshold, cells[i].min_cluster_size)
        ):
            params = cells[index]
            labels = self._agglomerate(params)
            digest = self._digest(labels)
            if (params.convention, digest) in self._ahc:
                yield index, self._ahc[params.convention, digest]
                continue
            if digest not in waiting:
                waiting[digest] = _Partition(labels, params, [])
                num_clusters += int(labels.max()) + 1
            waiting[digest].cells.append(index)
            if len(waiting) == FINISHED_TOGETHER or num_clusters * num_slots > _SIMILARITIES_AT_ONCE:
                yield from self._finish_ahc(waiting)
                waiting, num_clusters = {}, 0
        yield from self._finish_ahc(waiting)

    def _agglomerate(self, params: AHCParams) -> np.ndarray:
        """Clusters of the training embeddings; the same array where they have been found before."""
        cuts = self._agglomerations.get((params.convention, params.linkage))
        if cuts is None:
            training = self.training(params.convention)
            cuts = Agglomerations(training.embeddings, training.dendrogram(params.linkage))
            self._agglomerations[params.convention, params.linkage] = cuts
        return cuts.find(params)

    def _digest(self, labels: np.ndarray) -> bytes:
        known, digest = self._digests.get(id(labels), (None, b""))
        if known is not labels:  # else the very array that was found before
            digest = hashlib.blake2b(labels.tobytes(), digest_size=16).digest()
            self._digests[id(labels)] = labels, digest
        return digest

    def _finish_ahc(self, partitions: Mapping[bytes, _Partition]) -> Iterator[tuple[int, Outcome]]:
        """Assignment of all local speakers to the clusters of some partitions."""
        if not partitions:
            return
        convention = next(iter(partitions.values())).params.convention
        training = self.training(convention)
        centroids = [
            means_of(training.embeddings, each.labels, np.bincount(each.labels))
            for each in partitions.values()
        ]
        cosines = self.assigner.cosines(centroids)
        if convention == "diarizen":
            assigned = self.assigner.each_one_to_one(cosines)
        else:
            assigned = [self.assigner.best(each) for each in cosines]
        for (digest, each), means, found in zip(partitions.items(), centroids, assigned, strict=True):
            if found is None:
                found, _ = assign_ahc(self.features, each.params, training, each.labels)
            self._ahc[convention, digest] = outcome = self._outcome(found, len(means))
            for index in each.cells:
                yield index, outcome

    def finish_vbx(self, found: Sequence[tuple[VBxParams, VBxCell]]) -> list[Outcome | None]:
        """Assignment of all local speakers to what VBx found; None where it is too close for this."""
        if not found:
            return []
        training = self.training(found[0][0].convention)
        embeddings = training.embeddings_f64
        weights = np.concatenate([cell.weights for _, cell in found])
        if len(weights) == 1:  # another routine, which rounds differently
            weights = np.repeat(weights, 2, axis=0)
        with single_blas_thread():
            stacked = weights @ embeddings
        centroids = np.split(stacked, np.cumsum([len(cell.weights) for _, cell in found]))[: len(found)]
        assigned = self._assign(found, self.assigner.cosines(centroids), len(training))
        return [
            None if hard_clusters is None else self._with_trace(cell, hard_clusters)
            for (_, cell), hard_clusters in zip(found, assigned, strict=True)
        ]

    def _assign(
        self,
        found: Sequence[tuple[VBxParams, VBxCell]],
        cosines: Sequence[np.ndarray | None],
        num_embeddings: int,
    ) -> list[np.ndarray | None]:
        if found[0][0].convention == "diarizen":
            chosen = self.assigner.each_one_to_one(cosines)
            return [
                None if hard_clusters is None else rank_found(hard_clusters, len(cell.weights))
                for hard_clusters, (_, cell) in zip(chosen, found, strict=True)
            ]
        targets = [wanted_clusters(params, len(cell.weights), num_embeddings) for params, cell in found]
        fits = [target == len(cell.weights) for target, (_, cell) in zip(targets, found, strict=True)]
        fitting = [each for each, fit in zip(cosines, fits, strict=True) if fit]
        one_to_one = iter(self.assigner.each_one_to_one(fitting, active_first=True))
        return [
            next(one_to_one) if fit else self._assign_to_means(*each, target)
            for fit, each, target in zip(fits, found, targets, strict=True)
        ]

    def _assign_to_means(self, params: VBxParams, cell: VBxCell, target: int) -> np.ndarray:
        """Assignment to `target` clusters of k-means, which sees nothing of what VBx found but the number."""
        key = (params.convention, target)
        if key not in self._kmeans:
            weights = cell.weights.T.astype(np.float64)
            self._kmeans[key], _ = assign_vbx(
                self.features, params, self.training(params.convention), weights
            )
        return self._kmeans[key]

    def finish_plainly(self, params: VBxParams, cell: VBxCell) -> Outcome:
        """The same without short cuts."""
        weights = cell.weights.T.astype(np.float64)
        hard_clusters, _ = assign_vbx(self.features, params, self.training(params.convention), weights)
        return self._with_trace(cell, hard_clusters)

    def _with_trace(self, cell: VBxCell, hard_clusters: np.ndarray) -> Outcome:
        found = self._outcome(hard_clusters, cell.num_kept)
        return dataclasses.replace(found, elbo=cell.elbo, converged=cell.converged)

    def _outcome(self, hard_clusters: np.ndarray, num_clusters: int) -> Outcome:
        return Outcome(
            hard_clusters=np.where(self.active, hard_clusters, INACTIVE).astype(np.int64),
            num_clusters=num_clusters,
        )
