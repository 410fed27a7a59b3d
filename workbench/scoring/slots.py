"""The time axis cut at all boundaries: who is active in every slot, and which speakers correspond.

All that is counted in seconds rests on this: the error rates, their breakdowns, single errors.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, eye_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from workbench.errors import InputError
from workbench.scoring import turns
from workbench.scoring.turns import Activity, Turns, activities, covered, dense, regions_of

SHORTEST = 1e-6  # s: pyannote.core takes a segment for empty up to this duration


@dataclass(frozen=True, eq=False)
class Slots:
    """The scored stretches of one recording in which nobody starts or stops talking.

    Attributes
    ----------
    ref, hyp : Turns
    starts, ends : float64 arrays, shape (num_slots,), in seconds
        In order; a stretch that is not scored leaves a gap.
    active_ref, active_hyp : int arrays, shape (num_slots, num_speakers)
        How many turns of each speaker cover the slot: more than one where they overlap themselves.
        Both are sparse where there are many speakers.
    """

    ref: Turns
    hyp: Turns
    starts: np.ndarray
    ends: np.ndarray
    active_ref: Activity
    active_hyp: Activity

    @classmethod
    def of(
        cls,
        reference: Annotation | Turns,
        hypothesis: Annotation | Turns,
        uem: Timeline | Segment | None = None,
        collar: float = 0.0,
        skip_overlap: bool = False,
    ) -> Slots:
        """Cut and keep what is scored; the parameters are those of `score`."""
        check_collar(collar)
        ref = reference if isinstance(reference, Turns) else Turns.of(reference)
        hyp = hypothesis if isinstance(hypothesis, Turns) else Turns.of(hypothesis)
        regions = regions_of(uem, ref, hyp)
        collars = collars_of(ref, collar)
        boundaries = np.unique(
            np.concatenate([ref.starts, ref.ends, hyp.starts, hyp.ends, *regions.T, *collars.T])
        )
        if not len(regions):
            boundaries = boundaries[:0]
        active_ref, active_hyp = activities(boundaries, ref, hyp)
        scored = np.diff(boundaries) > SHORTEST
        if uem is not None:  # otherwise the one region holds everything
            scored &= covered(boundaries, regions)
        if len(collars):
            scored &= ~covered(boundaries, collars)
        if skip_overlap:
            scored &= active_ref.sum(axis=1) < 2
        if scored.all():
            return cls(ref, hyp, boundaries[:-1], boundaries[1:], active_ref, active_hyp)
        return cls(
            ref, hyp, boundaries[:-1][scored], boundaries[1:][scored], active_ref[scored], active_hyp[scored]
        )

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def seconds(self) -> np.ndarray:
        """Duration of every slot, shape (num_slots,)."""
        return self.ends - self.starts

    @cached_property
    def num_ref(self) -> np.ndarray:
        """Reference turns in every slot, shape (num_slots,)."""
        return self.active_ref.sum(axis=1)

    @cached_property
    def num_hyp(self) -> np.ndarray:
        """Hypothesis turns in every slot, shape (num_slots,)."""
        return self.active_hyp.sum(axis=1)

    @cached_property
    def cooccurrence(self) -> Activity:
        """Seconds in common, shape (num_hyp_speakers, num_ref_speakers); sparse as `active_ref` is.

        A speaker who overlaps themselves counts with multiplicity, on both sides as a product: so
        pyannote weighs the mapping, although only the smaller number can be correct.
        """
        return in_common(self.active_hyp, self.active_ref, self.seconds)

    @cached_property
    def pairs(self) -> np.ndarray:
        """The one-to-one mapping with the most time in common: rows (hypothesis, reference) speaker.

        Speakers who share no time with their partner are left out.
        """
        return matched(self.cooccurrence)

    @cached_property
    def greedy_pairs(self) -> np.ndarray:
        """A mapping that takes the largest co-occurrence first, as pyannote's `GreedyMapper`."""
        left, pairs = dense(self.cooccurrence).copy(), []
        while left.size and left.max() > 0:
            # pyannote has reference speakers in rows: the order decides between equals
            ref, hyp = np.unravel_index(np.argmax(left.T), left.T.shape)
            pairs.append((hyp, ref))
            left[hyp, :] = left[:, ref] = 0.0
        return np.array(pairs, dtype=np.intp).reshape(-1, 2)

    @cached_property
    def same_name_pairs(self) -> np.ndarray:
        """A mapping of the speakers whose names are equal on both sides."""
        names = {label: index for index, label in enumerate(self.ref.labels)}
        pairs = [(index, names[label]) for index, label in enumerate(self.hyp.labels) if label in names]
        return np.array(pairs, dtype=np.intp).reshape(-1, 2)

    @property
    def mapping(self) -> dict[Hashable, Hashable]:
        """Hypothesis label -> reference label."""
        return {self.hyp.labels[hyp]: self.ref.labels[ref] for hyp, ref in self.pairs}

    def agreeing(self, pairs: np.ndarray) -> Activity:
        """Turns that are correct under a mapping, shape (num_slots, num_pairs)."""
        hyp, ref = self.active_hyp[:, pairs[:, 0]], self.active_ref[:, pairs[:, 1]]
        return hyp.minimum(ref) if isinstance(hyp, csr_array) else np.minimum(hyp, ref)

    def refine(self, cuts: np.ndarray) -> tuple[Slots, np.ndarray]:
        """The same slots, cut at further times as well.

        Parameters
        ----------
        cuts : float array, shape (num_cuts,), in seconds

        Returns
        -------
        slots : Slots
            Exactly the same time, so all sums stay as they are.
        parent : int array, shape (num_new_slots,)
            The slot that every new one is part of.
        """
        edges = np.unique(np.concatenate([self.starts, self.ends, np.asarray(cuts, dtype=np.float64)]))
        parent = np.searchsorted(self.starts, edges[:-1], side="right") - 1
        kept = (parent >= 0) & (edges[:-1] < self.ends[np.maximum(parent, 0)]) if len(self) else parent > 0
        parent = parent[kept]
        slots = Slots(
            self.ref,
            self.hyp,
            edges[:-1][kept],
            edges[1:][kept],
            self.active_ref[parent],
            self.active_hyp[parent],
        )
        # the mapping is a matter of the whole recording; sums over finer slots differ in the last bit
        slots.__dict__["pairs"] = self.pairs
        return slots, parent


def in_common(first: Activity, second: Activity, weights: np.ndarray) -> Activity:
    """Weight of the slots in which both speak, shape (num_first, num_second); sparse as they are."""
    weighted = second * weights[:, None]
    return csr_array(first.T @ weighted) if isinstance(first, csr_array) else first.T @ weighted


def matched(cooccurrence: Activity) -> np.ndarray:
    """Rows (hypothesis, reference) of the assignment with the largest sum, without empty pairs."""
    if isinstance(cooccurrence, csr_array):
        if np.prod(cooccurrence.shape) > turns.MOST_DENSE:
            return _matched_sparse(cooccurrence)
        cooccurrence = dense(cooccurrence)  # of several best mappings, the one that pyannote takes
    hyp, ref = linear_sum_assignment(cooccurrence, maximize=True)
    together = cooccurrence[hyp, ref] > 0
    return np.stack([hyp[together], ref[together]], axis=1)


def _matched_sparse(cooccurrence: csr_array) -> np.ndarray:
    """`matched` without ever looking at pairs that have nothing in common.

    The solver finds a partner for everybody at the least cost: so everybody also has the choice of a
    partner of their own at the cost of sharing nothing, and seconds become what is saved of that cost.
    """
    num_hyp, num_ref = cooccurrence.shape
    if not cooccurrence.nnz:
        return np.empty((0, 2), dtype=np.intp)
    nothing = float(cooccurrence.data.max()) + 1.0  # a cost of 0 would be no entry
    costs = cooccurrence.copy()
    costs.data = nothing - costs.data
    alone = nothing * eye_array(num_hyp, format="csr")
    hyp, ref = min_weight_full_bipartite_matching(hstack([costs, alone], format="csr"))
    return np.stack([hyp, ref], axis=1)[ref < num_ref].astype(np.intp)


def check_collar(collar: float) -> None:
    """Refuse a collar that is no duration."""
    if not 0 <= collar < np.inf:
        raise InputError(f"collar must be a number of seconds, 0 or more, got {collar}")


def collars_of(reference: Turns, collar: float) -> np.ndarray:
    """Unscored regions around the reference boundaries, shape (num_boundaries, 2)."""
    if collar == 0:
        return np.empty((0, 2))
    around = np.unique(np.concatenate([reference.starts, reference.ends]))
    regions = np.stack([around - collar, around + collar], axis=1)
    return regions[np.diff(regions)[:, 0] > SHORTEST]
