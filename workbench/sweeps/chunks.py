"""The cells of a grid on features with one embedding per chunk and local speaker.

Cells are grouped by what they share: the segmentations (after a median filter), the training embeddings
of a convention, one dendrogram per linkage, one start partition of VBx. Equal clusterings are
reconstructed once, equal outputs scored once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.aggregation import FrameAxis
from workbench.clustering import PLDA, AHCParams, ClusteringParams, Dendrogram, VBxParams
from workbench.clustering.batched_vbx import VBxCell, VBxStart, plain_cell, vbx_many
from workbench.clustering.params import Convention, speaker_bounds
from workbench.clustering.vbx import initial_responsibilities
from workbench.errors import InputError, RecordingError
from workbench.powerset import median_filter
from workbench.reconstruction import reconstruct
from workbench.scoring.prepared import PreparedReference
from workbench.sweeps.activation import Runs
from workbench.sweeps.outcome import Outcome, Output, Scored
from workbench.sweeps.pools import usable_cores
from workbench.sweeps.settings import PluginParams, SweepSettings
from workbench.sweeps.views import FINISHED_TOGETHER, View
from workbench.types import INACTIVE, Features

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
            "speakers": output.speakers,
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
        agglomerative: dict[tuple[int, Convention], list[Job]] = {}
        for job in jobs:
            view, params = self.view(job.median_filter), job.clustering
            if isinstance(params, PluginParams):
                yield job, _run_plugin(view, params)
                continue
            training = view.training(params.convention)
            if len(training) < 2 or (isinstance(params, AHCParams) and speaker_bounds(params)[1] < 2):
                yield job, view.one_cluster()
            elif isinstance(params, AHCParams):
                agglomerative.setdefault((job.median_filter, params.convention), []).append(job)
            else:
                start = _start_of(params, training.dendrogram())
                key: tuple[Any, ...] = (job.median_filter, params.convention, start, params.lda_dim)
                key += (job.init_smoothing, job.loop_prob is None, job.precision)
                batches.setdefault(key, []).append(job)
        for (num_frames, _), batch in agglomerative.items():
            for index, outcome in self.view(num_frames).run_ahc([job.ahc for job in batch]):
                yield batch[index], outcome
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
        while found := list(islice(cells, FINISHED_TOGETHER)):
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
    def ahc(self) -> AHCParams:
        """The clustering of a job that is agglomerative only."""
        assert isinstance(self.clustering, AHCParams)
        return self.clustering

    @property
    def vbx(self) -> VBxParams:
        """The clustering of a job that runs VBx."""
        assert isinstance(self.clustering, VBxParams)
        return self.clustering


def _start_of(params: VBxParams, dendrogram: Dendrogram) -> tuple[str, float]:
    """Equal for parameters that VBx starts from the same partition with."""
    if params.ahc_criterion == "distance":
        return "distance", dendrogram.level(params.ahc_threshold)
    return params.ahc_criterion, params.ahc_threshold


def _run_plugin(view: View, params: PluginParams) -> Outcome:
    name = getattr(params.function, "__name__", "clustering")
    features = view.features
    guarded = dataclasses.replace(
        features, segmentations=_read_only(features.segmentations), embeddings=_read_only(features.embeddings)
    )
    try:
        found = np.asarray(params.function(guarded, **dict(params.values)))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise RecordingError(
            f"{features.uri}: {name} writes into the features, which other cells need as they are; let it "
            "change a copy, such as features.embeddings.copy()"
        ) from error
    if found.shape != features.segmentations.shape[::2] or found.dtype.kind not in "iu":
        raise RecordingError(
            f"{features.uri}: {name} must return whole numbers of shape (num_chunks, num_local_speakers) = "
            f"{features.segmentations.shape[::2]}, got {found.dtype} of shape {found.shape}"
        )
    active = np.where(view.active, found, INACTIVE).astype(np.int64)
    return Outcome(hard_clusters=active, num_clusters=len(np.unique(active[active >= 0])))


def _read_only(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.flags.writeable = False
    return view
