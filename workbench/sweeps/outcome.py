"""What a cell of a sweep leaves behind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench.scoring import DiarizationCounts, SpeakerErrors

RESULT_COLUMNS: dict[str, Any] = {
    "num_speakers": np.int64,  # in the output
    "num_reference_speakers": np.int64,
    "total": np.float64,  # s, as are the next four
    "correct": np.float64,
    "missed": np.float64,
    "false_alarm": np.float64,
    "confusion": np.float64,
    "der": np.float64,  # fraction; NaN where there is no reference speech
    "jer": np.float64,  # fraction, mean over the next; as dscore has it, so without regard to the collar
    "num_scored_speakers": np.int64,  # of the reference, within the UEM
    "partition": np.int64,  # equal where the output is, up to the names of speakers
    "converged": np.bool_,
    "iterations": np.int64,  # of VBx
    "elbo": np.float64,  # the last; NaN where VBx did not run
    "speakers_with_mass": np.int64,  # of VBx; clusters of AHC
}
"""Columns that a sweep adds to the parameters, with their types."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a clustering found.

    Attributes
    ----------
    hard_clusters : int64 array, shape (num_chunks, num_local_speakers), or (num_segments,)
        `INACTIVE` where someone takes no part.
    num_clusters : clusters that have mass
    elbo : float64 array, shape (num_iterations,); empty where VBx did not run
    converged : whether VBx ended by itself; True where it did not run
    """

    hard_clusters: np.ndarray
    num_clusters: int
    elbo: np.ndarray = field(default_factory=lambda: np.zeros(0))
    converged: bool = True

    @cached_property
    def digest(self) -> bytes:
        """Equal for equal clusterings; cells that share an outcome share it, too."""
        return hashlib.blake2b(self.hard_clusters.tobytes(), digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class Output:
    """Of one hypothesis: how it scores and how to tell it from others."""

    num_speakers: int
    partition: int
    counts: DiarizationCounts | None  # None without a reference, as are
    speakers: SpeakerErrors | None


@dataclass(frozen=True, eq=False)
class Scored:
    """One row of results: how a clustering went, and its output."""

    converged: bool
    iterations: int
    last_elbo: float
    num_clusters: int
    output: Output

    @classmethod
    def of(cls, outcome: Outcome, output: Output) -> Scored:
        """The few numbers that are kept of an outcome."""
        last = float(outcome.elbo[-1]) if len(outcome.elbo) else float("nan")
        return cls(outcome.converged, len(outcome.elbo), last, outcome.num_clusters, output)

    def row(self, num_reference_speakers: int) -> tuple[Any, ...]:
        """Values of `RESULT_COLUMNS`."""
        counts, speakers = self.output.counts, self.output.speakers
        seconds = (float("nan"),) * 5
        der, jer, num_scored = float("nan"), float("nan"), 0
        if counts is not None:
            seconds = (counts.total, counts.correct, counts.missed, counts.false_alarm, counts.confusion)
            der = counts.der if counts.total > 0 else der
        if speakers is not None:
            jer, num_scored = speakers.jer, len(speakers.errors)
        return (
            self.output.num_speakers,
            num_reference_speakers,
            *seconds,
            der,
            jer,
            num_scored,
            self.output.partition,
            self.converged,
            self.iterations,
            self.last_elbo,
            self.num_clusters,
        )
