"""The cells of a grid on features with one embedding per chunk and local speaker.

Cells are grouped by what they share: the segmentations (after a median filter), the training embeddings
of a convention, one dendrogram per linkage, one start partition of VBx. Equal clusterings are
reconstructed once, equal outputs scored once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.aggregation import FrameAxis
from workbench.clustering import PLDA, AHCParams, ClusteringParams, Dendrogram, TrainingSet, VBxParams
from workbench.clustering.ahc import Agglomerations
from workbench.clustering.batched_assignment import Assigner, rank_found
from workbench.clustering.batched_vbx import VBxCell, VBxStart, plain_cell, vbx_many
from workbench.clustering.filtering import is_active
from workbench.clustering.params import Convention, speaker_bounds
from workbench.clustering.run import assign_ahc, assign_vbx, cluster_means, wanted_clusters
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import initial_responsibilities
from workbench.errors import InputError, RecordingError
from workbench.powerset import median_filter
from workbench.reconstruction import reconstruct
from workbench.scoring.prepared import PreparedReference
from workbench.sweeps.activation import Runs, SlotActivity
from workbench.sweeps.outcome import Outcome, Output, Scored
from workbench.sweeps.pools import usable_cores
from workbench.sweeps.settings import PluginParams, SweepSettings
from workbench.types import INACTIVE, Features

_FINISHED_TOGETHER = 16  # cells of VBx whose centroids are compared with all embeddings in one go
_KEPT = 20_000  # outputs that are remembered at most: a few hundred bytes each


class ChunkSweep:
    """One recording with what all cells share, computed on first use.

    Parameters
    ----------
    features, reference, plda : see `RecordingSweep`
    scoring : keyword arguments of `score`
    """

    def __init__(
        self,
        features: Features,
        reference: Annotation | None,
        plda: PLDA | None,
        scoring: Mapping[str, Any],
    ):
        self.features, self.reference, self.plda, self.scoring = features, reference, plda, scoring
        self._views: dict[int, View] = {}
        self._prepared: dict[FrameAxis, PreparedReference] = {}
        self._outputs: dict[tuple[Any, ...], Output] = {}
        self._scores: dict[int, Output] = {}
        self._last_start: tuple[tuple[Any, ...], VBxStart] | None = None

    def check(self, settings: Sequence[SweepSettings]) -> None:
        """Refuse settings that these features cannot be clustered with."""
        for each in settings:
            if isinstance(each.clustering, VBxParams) and self.plda is None:
                raise InputError("VBx clustering needs a PLDA model; name its folder with --plda, or use AHC")
            if not isinstance(each.clustering, AHCParams | VBxParams | PluginParams):
                raise InputError(
                    f"{self.features.uri}: {type(each.clustering).__name__} is for one embedding per "
                    "segment, this recording has one per chunk and local speaker; use AHCParams or VBxParams"
                )

    def run(self, settings: Sequence[SweepSettings]) -> Iterator[tuple[int, Scored]]:
        """Position and result of every cell, as they are finished."""
        for index, outcome in self.outcomes(settings):
            yield index, Scored.of(outcome, self._output(settings[index], outcome))

    def outcomes(
        self, settings: Sequence[SweepSettings], *, threads: int = 1
    ) -> Iterator[tuple[int, Outcome]]:
        """Position and clustering of every cell, as they are finished; equal ones are computed once."""
        jobs: dict[Job, list[int]] = {}
        for index, each in enumerate(settings):
            jobs.setdefault(Job.of(each), []).append(index)
        for job, outcome in self._cluster(list(jobs), threads):
            for index in jobs[job]:
                yield index, outcome

    def outcome(self, settings: SweepSettings) -> Outcome:
        """The clustering of one cell, by all cores: someone is waiting for it."""
        ((_, outcome),) = self.outcomes([settings], threads=usable_cores())
        return outcome

    def annotation(self, settings: SweepSettings) -> Annotation:
        """The hypothesis of one cell."""
        features = self.view(settings.median_filter).features
        options = settings.reconstruction_options()
        return reconstruct(features, self.outcome(settings).hard_clusters, **options)

    def show(self, settings: SweepSettings, outcome: Outcome) -> dict[str, Any]:
        """Fields of `LiveCell`."""
        runs = self._runs(settings, outcome.hard_clusters)
        first, last, speaker = runs.turns()
        middles = runs.frames.middle_of(np.arange(runs.num_frames))
        turns = pd.DataFrame({"start": middles[first], "end": middles[last], "speaker": speaker})
        output = self._score(settings, runs)
        return {
            "hard_clusters": outcome.hard_clusters,
            "starts": runs.starts,
            "rows": runs.rows,
            "turns": turns.sort_values(["start", "end", "speaker"], ignore_index=True),
            "counts": output.counts,
            "num_speakers": output.num_speakers,
            "elbo": outcome.elbo,
            "converged": outcome.converged,
        }

    def view(self, num_frames: int) -> View:
        """The recording after a median filter over `num_frames`."""
        if num_frames not in self._views:
            features = self.features
            if num_frames > 1:
                filtered = median_filter(features.segmentations, num_frames)
                features = dataclasses.replace(features, segmentations=filtered)
            self._views[num_frames] = View(features)
        return self._views[num_frames]

    def _cluster(self, jobs: Sequence[Job], threads: int) -> Iterator[tuple[Job, Outcome]]:
        """Every job with its outcome, in an order that lets them share work."""
        batches: dict[tuple[Any, ...], list[Job]] = {}
        for job in jobs:
            view, params = self.view(job.median_filter), job.clustering
            if isinstance(params, PluginParams):
                yield job, _run_plugin(view, params)
                continue
            training = view.training(params.convention)
            if len(training) < 2 or (isinstance(params, AHCParams) and speaker_bounds(params)[1] < 2):
                yield job, view.one_cluster()
            elif isinstance(params, AHCParams):
                yield job, view.run_ahc(params)
            else:
                start = _start_of(params, training.dendrogram())
                key: tuple[Any, ...] = (job.median_filter, params.convention, start, params.lda_dim)
                key += (job.init_smoothing, job.loop_prob is None, job.precision)
                batches.setdefault(key, []).append(job)
        for batch in batches.values():
            yield from self._run_vbx(batch, threads)

    def _run_vbx(self, batch: Sequence[Job], threads: int) -> Iterator[tuple[Job, Outcome]]:
        """Jobs that start from the same partition."""
        first = batch[0]
        view, start = self.view(first.median_filter), self._vbx_start(first)
        cells = vbx_many(
            start,
            [job.vbx.Fa for job in batch],
            [job.vbx.Fb for job in batch],
            max_iters=[int(job.vbx.max_iters) for job in batch],
            loop_prob=None if first.loop_prob is None else [float(job.loop_prob or 0.0) for job in batch],
            threads=threads,
        )
        while found := list(islice(cells, _FINISHED_TOGETHER)):
            outcomes = view.finish_vbx([(batch[index].vbx, cell) for index, cell in found])
            for (index, cell), outcome in zip(found, outcomes, strict=True):
                if outcome is None:
                    if not cell.recomputed and first.precision == "f64":
                        cell = self._again(start, batch[index])
                    outcome = view.finish_plainly(batch[index].vbx, cell)
                yield batch[index], outcome

    def _vbx_start(self, job: Job) -> VBxStart:
        """Where a job starts from; the last is kept, for whoever asks for one Fa and Fb after the other."""
        params = job.vbx
        training = self.view(job.median_filter).training(params.convention)
        dendrogram = training.dendrogram()
        key: tuple[Any, ...] = (job.median_filter, params.convention, _start_of(params, dendrogram))
        key += (params.lda_dim, job.init_smoothing, job.precision)
        if self._last_start is not None and self._last_start[0] == key:
            return self._last_start[1]
        assert self.plda is not None  # `check` has seen to it
        lda_dim = self.plda.num_lda if params.lda_dim is None else min(params.lda_dim, self.plda.num_lda)
        labels = dendrogram.cut(params.ahc_threshold, params.ahc_criterion)
        # everyone of a cluster starts alike: one row for each of them, instead of for each embedding
        responsibilities = initial_responsibilities(np.arange(labels.max() + 1), job.init_smoothing)
        start = VBxStart(
            training.project(self.plda)[:, :lda_dim],
            self.plda.phi[:lda_dim],
            responsibilities,
            job.precision,
            labels,
        )
        self._last_start = (key, start)
        return start

    def _again(self, start: VBxStart, job: Job) -> VBxCell:
        """VBx without short cuts, for a cell in which something is too close."""
        params = job.vbx
        return plain_cell(
            start, params.Fa, params.Fb, max_iters=int(params.max_iters), loop_prob=job.loop_prob
        )

    def _output(self, settings: SweepSettings, outcome: Outcome) -> Output:
        key = (outcome.digest, settings.median_filter, *settings.reconstruction_options().items())
        if key not in self._outputs:
            if len(self._outputs) >= _KEPT:
                self._outputs.clear()
                self._scores.clear()
            self._outputs[key] = self._score(settings, self._runs(settings, outcome.hard_clusters))
        return self._outputs[key]

    def _runs(self, settings: SweepSettings, hard_clusters: np.ndarray) -> Runs:
        options = settings.reconstruction_options()
        activity = self.view(settings.median_filter).activity(options.get("frame_axis", "receptive_field"))
        runs = activity.diarize(hard_clusters, activity.count(settings.onset, options["max_speakers"]))
        if settings.min_duration_on > 0 or settings.min_duration_off > 0:
            runs = runs.smoothed(settings.min_duration_on, settings.min_duration_off)
        return runs

    def _score(self, settings: SweepSettings, runs: Runs) -> Output:
        runs = runs.canonical()
        partition = runs.fingerprint()
        if partition not in self._scores:
            counts = speakers = None
            if self.reference is not None:
                axis = settings.reconstruction_options().get("frame_axis", "receptive_field")
                if axis not in self._prepared:
                    boundaries = runs.frames.middle_of(np.arange(runs.num_frames))
                    self._prepared[axis] = PreparedReference(self.reference, boundaries, **self.scoring)
                counts, speakers = self._prepared[axis].score_runs_fully(runs.starts, runs.rows)
            self._scores[partition] = Output(runs.num_speakers(), partition, counts, speakers)
        return self._scores[partition]


@dataclasses.dataclass(frozen=True)
class Job:
    """What decides about a clustering: cells that agree in it differ only in what follows."""

    median_filter: int
    clustering: ClusteringParams | PluginParams
    init_smoothing: float = 0.0
    loop_prob: float | None = None
    precision: str = ""

    @classmethod
    def of(cls, settings: SweepSettings) -> Job:
        """The part of `settings` that clustering depends on."""
        params = settings.clustering
        if not isinstance(params, VBxParams):
            assert isinstance(params, AHCParams | PluginParams)
            return cls(settings.median_filter, params)
        if params.convention == "diarizen":  # there the bounds only cap how many speak at once
            params = dataclasses.replace(params, min_speakers=None, max_speakers=None, num_speakers=None)
        return cls(
            settings.median_filter, params, settings.init_smoothing, settings.loop_prob, settings.precision
        )

    @property
    def vbx(self) -> VBxParams:
        """The clustering of a job that runs VBx."""
        assert isinstance(self.clustering, VBxParams)
        return self.clustering


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

    def run_ahc(self, params: AHCParams) -> Outcome:
        """Agglomerative clustering; equal partitions of the training embeddings are assigned once."""
        training = self.training(params.convention)
        cuts = self._agglomerations.get((params.convention, params.linkage))
        if cuts is None:
            cuts = Agglomerations(training.embeddings, training.dendrogram(params.linkage))
            self._agglomerations[params.convention, params.linkage] = cuts
        labels = cuts.find(params)
        known, digest = self._digests.get(id(labels), (None, b""))
        if known is not labels:  # else the very array that was found before
            digest = hashlib.blake2b(labels.tobytes(), digest_size=16).digest()
            self._digests[id(labels)] = labels, digest
        key = (params.convention, digest)
        if key not in self._ahc:
            centroids = cluster_means(training.embeddings, labels)
            (cosines,) = self.assigner.cosines([centroids])
            if params.convention == "diarizen":
                found = self.assigner.one_to_one(cosines)
            else:
                found = self.assigner.best(cosines)
            if found is None:
                found, _ = assign_ahc(self.features, params, training, labels)
            self._ahc[key] = self._outcome(found, len(centroids))
        return self._ahc[key]

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
        outcomes: list[Outcome | None] = []
        for (params, cell), cosines in zip(found, self.assigner.cosines(centroids), strict=True):
            hard_clusters = self._assign(params, cell, cosines, len(training))
            outcomes.append(None if hard_clusters is None else self._with_trace(cell, hard_clusters))
        return outcomes

    def _assign(
        self, params: VBxParams, cell: VBxCell, cosines: np.ndarray | None, num_embeddings: int
    ) -> np.ndarray | None:
        num_found = len(cell.weights)
        if params.convention == "diarizen":
            chosen = self.assigner.one_to_one(cosines)
            return None if chosen is None else rank_found(chosen, num_found)
        target = wanted_clusters(params, num_found, num_embeddings)
        if target == num_found:
            return self.assigner.one_to_one(cosines, active_first=True)
        key = (params.convention, target)  # k-means sees nothing of what VBx found but the number
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


def _start_of(params: VBxParams, dendrogram: Dendrogram) -> tuple[str, float]:
    """Equal for parameters that VBx starts from the same partition with."""
    if params.ahc_criterion == "distance":
        return "distance", dendrogram.level(params.ahc_threshold)
    return params.ahc_criterion, params.ahc_threshold


def _run_plugin(view: View, params: PluginParams) -> Outcome:
    name = getattr(params.function, "__name__", "clustering")
    features = view.features
    found = np.asarray(params.function(features, **dict(params.values)))
    if found.shape != features.segmentations.shape[::2] or found.dtype.kind not in "iu":
        raise RecordingError(
            f"{features.uri}: {name} must return whole numbers of shape (num_chunks, num_local_speakers) = "
            f"{features.segmentations.shape[::2]}, got {found.dtype} of shape {found.shape}"
        )
    active = np.where(view.active, found, INACTIVE).astype(np.int64)
    return Outcome(hard_clusters=active, num_clusters=len(np.unique(active[active >= 0])))
