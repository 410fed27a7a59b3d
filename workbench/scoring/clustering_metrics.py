"""JER and clustering metrics as dscore counts them, and purity and coverage as pyannote.metrics does.

dscore compares labels of 10 ms frames without any collar. Frames are counted in runs here, which
changes no number: every turn covers the frames whose start lies in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyannote.core import Timeline
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, find

from workbench.scoring.slots import in_common, matched
from workbench.scoring.turns import Activity, Turns, activities, covered, dense, regions_of

FRAME = 0.01  # s, dscore's step


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameLabels:
    """Runs of equal frames of one recording.

    Attributes
    ----------
    reference, hypothesis : bool array, shape (num_runs, num_speakers)
        Both are sparse where there are many speakers.
    frames : int array, shape (num_runs,)
        Length of every run.
    """

    reference: Activity
    hypothesis: Activity
    frames: np.ndarray


def frame_labels(
    reference: Turns, hypothesis: Turns, uem: Timeline | None = None, step: float = FRAME
) -> FrameLabels:
    """Frames of the scored regions and who speaks in them.

    Parameters
    ----------
    uem : Timeline, optional
        By default from the first start to the last end of either side.
    step : float
        Seconds between two frames.
    """
    regions = regions_of(uem, reference, hypothesis)
    num_frames = int(regions[:, 1].max() / step) if len(regions) else 0
    # Exactly dscore's expressions: whether a turn includes a frame hangs on the last bit.
    times = step * np.arange(num_frames)
    sides = [within(side, regions) for side in (reference, hypothesis)]
    in_frames = [
        Turns(
            np.searchsorted(times, side.starts), np.searchsorted(times, side.ends), side.speakers, side.labels
        )
        for side in sides
    ]
    region_frames = np.searchsorted(times, regions)
    edges = [edge for side in in_frames for edge in (side.starts, side.ends)]
    boundaries = np.unique(np.concatenate([*region_frames.T, *edges]))
    kept = covered(boundaries, region_frames)
    ref, hyp = (active[kept] > 0 for active in activities(boundaries, *in_frames))
    return FrameLabels(reference=ref, hypothesis=hyp, frames=np.diff(boundaries)[kept])


def within(turns: Turns, regions: np.ndarray) -> Turns:
    """Turns that reach into a scored region; speakers without any are no speakers."""
    first = np.searchsorted(regions[:, 1], turns.starts, side="right")  # region that ends after the start
    beginnings = np.append(regions[:, 0], np.inf)
    inside = beginnings[first] < turns.ends
    present, speakers = np.unique(turns.speakers[inside], return_inverse=True)
    labels = tuple(turns.labels[index] for index in present)
    return Turns(turns.starts[inside], turns.ends[inside], speakers, labels)


@dataclass(frozen=True, kw_only=True)
class SpeakerErrors:
    """Jaccard error of every reference speaker; those of several recordings add up to one list.

    Ryant et al., "The Second DIHARD Diarization Challenge", 2019.
    """

    errors: tuple[float, ...] = ()  # fractions, one per reference speaker
    num_hypothesis: int = 0  # speakers of the hypothesis

    @classmethod
    def of(cls, labels: FrameLabels) -> SpeakerErrors:
        """Errors under the mapping with the smallest sum."""
        return cls.of_frames(
            in_common(labels.reference, labels.hypothesis, labels.frames),
            labels.frames @ labels.reference,
            labels.frames @ labels.hypothesis,
            labels.hypothesis.shape[1],
        )

    @classmethod
    def of_frames(
        cls, shared: Activity, alone_ref: np.ndarray, alone_hyp: np.ndarray, num_hyp: int
    ) -> SpeakerErrors:
        """The same from numbers of frames.

        Parameters
        ----------
        shared : array, shape (num_ref_speakers, num_hyp_speakers)
            Frames in which both speak.
        alone_ref, alone_hyp : arrays, shape (num_ref_speakers,) and (num_hyp_speakers,)
            Frames in which each speaks at all.
        num_hyp : speakers of the hypothesis
        """
        errors = np.ones(len(alone_ref))
        if isinstance(shared, csr_array):  # an entry only where there are frames in common
            ref, hyp, both = find(shared)
            agreement = csr_array(
                (both / (alone_ref[ref] + alone_hyp[hyp] - both), (ref, hyp)), shape=shared.shape
            )
            for mapped_ref, mapped_hyp in matched(agreement):
                errors[mapped_ref] = 1 - agreement[mapped_ref, mapped_hyp]
        else:
            # two speakers who have no frame at all agree on nothing
            jaccard_error = 1 - shared / np.maximum(alone_ref[:, None] + alone_hyp - shared, 1)
            mapped = linear_sum_assignment(jaccard_error)
            errors[mapped[0]] = jaccard_error[mapped]
        return cls(errors=tuple(errors.tolist()), num_hypothesis=num_hyp)

    @property
    def jer(self) -> float:
        """Jaccard error rate, a fraction: the mean over reference speakers."""
        if not self.errors:
            return float(self.num_hypothesis > 0)
        return float(np.mean(self.errors))

    def __add__(self, other: SpeakerErrors) -> SpeakerErrors:
        if not isinstance(other, SpeakerErrors):
            return NotImplemented
        return SpeakerErrors(
            errors=self.errors + other.errors, num_hypothesis=self.num_hypothesis + other.num_hypothesis
        )


@dataclass(frozen=True, kw_only=True)
class ClusteringMetrics:
    """How far one labelling of the frames tells the other; entropies in bits, NaN where undefined."""

    b3_precision: float = math.nan  # B-cubed (Bagga and Baldwin, 1998)
    b3_recall: float = math.nan
    b3_f1: float = math.nan
    gkt_ref_sys: float = math.nan  # Goodman-Kruskal tau: what the reference tells of the hypothesis
    gkt_sys_ref: float = math.nan  # and the reverse
    h_ref_sys: float = math.nan  # conditional entropy of the reference given the hypothesis
    h_sys_ref: float = math.nan  # and the reverse
    mi: float = math.nan  # mutual information
    nmi: float = math.nan  # over the geometric mean of the two entropies


@dataclass(frozen=True, kw_only=True, eq=False)
class Contingency:
    """Frames by reference class and hypothesis class; a class is a set of active speakers.

    Only cells that occur are kept. Side by side, the tables of several recordings share no class,
    not even silence: so dscore counts overall figures.

    Attributes
    ----------
    frames : float64 array, shape (num_cells,)
    ref_class, hyp_class : int array, shape (num_cells,)
    """

    frames: np.ndarray
    ref_class: np.ndarray
    hyp_class: np.ndarray

    @classmethod
    def of(cls, labels: FrameLabels) -> Contingency:
        """The table of one recording."""
        occurring = labels.frames > 0
        ref_class = _classes(labels.reference[occurring])
        hyp_class = _classes(labels.hypothesis[occurring])
        cells, cell = np.unique(np.stack([ref_class, hyp_class]), axis=1, return_inverse=True)
        frames = np.bincount(cell, weights=labels.frames[occurring], minlength=cells.shape[1])
        return cls(frames=frames, ref_class=cells[0], hyp_class=cells[1])

    @classmethod
    def side_by_side(cls, tables: Sequence[Contingency]) -> Contingency:
        """The table of several recordings together."""
        ref_class, hyp_class, ref_offset, hyp_offset = [], [], 0, 0
        for table in tables:
            ref_class.append(table.ref_class + ref_offset)
            hyp_class.append(table.hyp_class + hyp_offset)
            ref_offset += table.num_ref_classes
            hyp_offset += table.num_hyp_classes
        return cls(
            frames=np.concatenate([table.frames for table in tables] or [np.empty(0)]),
            ref_class=np.concatenate(ref_class or [np.empty(0, np.intp)]),
            hyp_class=np.concatenate(hyp_class or [np.empty(0, np.intp)]),
        )

    @property
    def num_ref_classes(self) -> int:
        """Different sets of reference speakers."""
        return int(self.ref_class.max(initial=-1)) + 1

    @property
    def num_hyp_classes(self) -> int:
        """Different sets of hypothesis speakers."""
        return int(self.hyp_class.max(initial=-1)) + 1

    def metrics(self) -> ClusteringMetrics:
        """All metrics of the table; NaN where it is empty."""
        total = self.frames.sum()
        if not total:
            return ClusteringMetrics()
        cell = self.frames / total
        ref = np.bincount(self.ref_class, weights=cell)  # marginal distributions
        hyp = np.bincount(self.hyp_class, weights=cell)
        given_hyp, given_ref = cell / hyp[self.hyp_class], cell / ref[self.ref_class]
        precision, recall = float(cell @ given_hyp), float(cell @ given_ref)
        h_ref_sys, h_sys_ref = float(-cell @ np.log2(given_hyp)), float(-cell @ np.log2(given_ref))
        mutual = max(float(cell @ np.log2(given_hyp / ref[self.ref_class])), 0.0)
        return ClusteringMetrics(
            b3_precision=precision,
            b3_recall=recall,
            b3_f1=2 * precision * recall / (precision + recall),
            gkt_ref_sys=_tau(recall, hyp),
            gkt_sys_ref=_tau(precision, ref),
            h_ref_sys=h_ref_sys + 0.0,  # no minus zero
            h_sys_ref=h_sys_ref + 0.0,
            mi=mutual if len(ref) > 1 and len(hyp) > 1 else 0.0,
            nmi=_normalized(mutual, ref, hyp),
        )


def _classes(active: Activity) -> np.ndarray:
    """Number of the set of speakers in each row of `active` (num_runs, num_speakers)."""
    if not active.shape[1]:
        return np.zeros(active.shape[0], dtype=np.intp)
    if isinstance(active, csr_array):
        active.sort_indices()
        rows = np.split(active.indices, active.indptr[1:-1])[: active.shape[0]]
        numbers: dict[bytes, int] = {}
        return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], dtype=np.intp)
    return np.unique(active, axis=0, return_inverse=True)[1].reshape(-1)


def _tau(agreement: float, marginal: np.ndarray) -> float:
    """Goodman-Kruskal tau: the part of the impurity of `marginal` that the other side explains.

    `agreement`, the expected purity given the other side, is a B-cubed score; a constant is
    always explained.
    """
    if len(marginal) == 1:
        return 1.0
    chance = float(marginal @ marginal)
    return (agreement - chance) / (1 - chance)


def _normalized(mutual: float, ref: np.ndarray, hyp: np.ndarray) -> float:
    """Mutual information over the geometric mean of the entropies; two constants agree fully."""
    if len(ref) == 1 or len(hyp) == 1:
        return float(len(ref) == len(hyp))
    entropies = [-float(p @ np.log2(p)) for p in (ref, hyp)]
    return min(mutual / math.sqrt(entropies[0] * entropies[1]), 1.0)


def _largest(shared: Activity, axis: int) -> np.ndarray:
    """Largest entry of every column (axis 0) or row (axis 1), not below 0."""
    if isinstance(shared, csr_array):
        return dense(shared.max(axis=axis)) if min(shared.shape) else np.zeros(1)
    return shared.max(axis=axis, initial=0.0)


@dataclass(frozen=True, kw_only=True)
class PurityCounts:
    """Seconds that purity and coverage are ratios of; counts of recordings add.

    As pyannote.metrics 4.2 counts them: over whole recordings, whatever the UEM and the collar.
    """

    hypothesis: float = 0.0  # time of the hypothesis speakers
    hypothesis_largest: float = 0.0  # of it, with the largest reference speaker of each
    reference: float = 0.0
    reference_largest: float = 0.0

    @classmethod
    def of(cls, reference: Turns, hypothesis: Turns) -> PurityCounts:
        """The counts of one recording; a speaker who overlaps themselves counts once."""
        sides = (reference, hypothesis)
        boundaries = np.unique(np.concatenate([edge for side in sides for edge in (side.starts, side.ends)]))
        seconds = np.diff(boundaries)
        ref, hyp = ((active > 0).astype(float) for active in activities(boundaries, *sides))
        shared = in_common(ref, hyp, seconds)  # (reference, hypothesis) speakers
        return cls(
            hypothesis=float((seconds @ hyp).sum()),
            hypothesis_largest=float(_largest(shared, 0).sum()),
            reference=float((seconds @ ref).sum()),
            reference_largest=float(_largest(shared, 1).sum()),
        )

    @property
    def purity(self) -> float:
        """How far each hypothesis speaker is one reference speaker; 1 without any."""
        return self.hypothesis_largest / self.hypothesis if self.hypothesis else 1.0

    @property
    def coverage(self) -> float:
        """How far each reference speaker is one hypothesis speaker; 1 without any."""
        return self.reference_largest / self.reference if self.reference else 1.0

    def __add__(self, other: PurityCounts) -> PurityCounts:
        if not isinstance(other, PurityCounts):
            return NotImplemented
        return PurityCounts(
            hypothesis=self.hypothesis + other.hypothesis,
            hypothesis_largest=self.hypothesis_largest + other.hypothesis_largest,
            reference=self.reference + other.reference,
            reference_largest=self.reference_largest + other.reference_largest,
        )
