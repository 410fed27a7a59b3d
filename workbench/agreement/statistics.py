"""How far two arrays lie apart: counts and histograms that add, so that hours need no memory."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

_PER_DECADE = 20  # bins; a quantile is known to 12 %
_LOWEST, _HIGHEST = -12, 5  # powers of ten
EDGES = np.logspace(_LOWEST, _HIGHEST, (_HIGHEST - _LOWEST) * _PER_DECADE + 1)
"""Bin edges of the histograms; in front of them lies a bin for smaller differences, 0 among them."""

_TINY = 1e-6  # a relative difference is relative to at least this much
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class DifferenceStatistics:
    """Elementwise differences of two arrays of one shape; those of several recordings add.

    A value that is not finite on one side only, or differently on both, makes `max_abs` infinite: no file
    may hide behind a NaN. The other figures are of the finite elements.
    """

    count: int = 0  # elements that are finite on both sides
    nonfinite_baseline: int = 0
    nonfinite_candidate: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    sum_abs: float = 0.0
    sum_difference: float = 0.0  # candidate - baseline
    sum_squares: float = 0.0  # of the differences
    baseline_squares: float = 0.0
    candidate_squares: float = 0.0
    product: float = 0.0  # baseline times candidate
    abs_histogram: np.ndarray | None = None  # int64, shape (len(EDGES) + 1,)
    rel_histogram: np.ndarray | None = None

    @classmethod
    def of(cls, baseline: np.ndarray, candidate: np.ndarray) -> DifferenceStatistics:
        """Of two arrays of one shape."""
        if baseline.shape != candidate.shape:
            raise ValueError(
                f"baseline and candidate must have one shape, got {baseline.shape} and {candidate.shape}"
            )
        b = np.asarray(baseline, dtype=np.float64).ravel()
        c = np.asarray(candidate, dtype=np.float64).ravel()
        both = np.isfinite(b) & np.isfinite(c)
        unequal = bool((~both & ~((b == c) | (np.isnan(b) & np.isnan(c)))).any())
        lost = (int((~np.isfinite(b)).sum()), int((~np.isfinite(c)).sum()))
        if not both.all():
            b, c = b[both], c[both]
        difference = c - b
        absolute = np.abs(difference)
        relative = absolute / np.maximum(np.abs(b), _TINY)
        return cls(
            count=len(b),
            nonfinite_baseline=lost[0],
            nonfinite_candidate=lost[1],
            max_abs=np.inf if unequal else float(absolute.max(initial=0.0)),
            max_rel=float(relative.max(initial=0.0)),
            sum_abs=float(absolute.sum()),
            sum_difference=float(difference.sum()),
            sum_squares=float(difference @ difference),
            baseline_squares=float(b @ b),
            candidate_squares=float(c @ c),
            product=float(b @ c),
            abs_histogram=_histogram(absolute),
            rel_histogram=_histogram(relative),
        )

    def __add__(self, other: DifferenceStatistics) -> DifferenceStatistics:
        if not isinstance(other, DifferenceStatistics):
            return NotImplemented
        values = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name.startswith("max_"):
                values[field.name] = max(mine, theirs)
            elif mine is None or theirs is None:
                values[field.name] = theirs if mine is None else mine
            else:
                values[field.name] = mine + theirs
        return DifferenceStatistics(**values)

    def __radd__(self, other: object) -> DifferenceStatistics:
        """Lets `sum(statistics)` start from 0."""
        return self if other == 0 else NotImplemented

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference; NaN where nothing was compared."""
        return self.sum_abs / self.count if self.count else np.nan

    @property
    def bias(self) -> float:
        """Mean of candidate - baseline."""
        return self.sum_difference / self.count if self.count else np.nan

    @property
    def relative_rms(self) -> float:
        """Root of the squared differences over that of the baseline: 2**-11 is float16's rounding."""
        if not self.baseline_squares:
            return 0.0 if not self.sum_squares else np.inf
        return float(np.sqrt(self.sum_squares / self.baseline_squares))

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio in dB, the baseline being the signal; infinite where nothing differs."""
        rms = self.relative_rms
        return np.inf if rms == 0 else -20 * float(np.log10(rms))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two arrays, taken as vectors."""
        norm = np.sqrt(self.baseline_squares * self.candidate_squares)
        return float(self.product / norm) if norm else 1.0

    def quantile(self, q: float, relative: bool = False) -> float:
        """Difference that a fraction `q` of the elements does not exceed; an upper bound within 12 %."""
        histogram = self.rel_histogram if relative else self.abs_histogram
        largest = self.max_rel if relative else self.max_abs
        if histogram is None or not self.count:
            return np.nan
        if q >= 1:
            return largest
        index = int(np.searchsorted(np.cumsum(histogram), q * self.count))
        if index == 0:
            return 0.0
        return float(min(EDGES[min(index, len(EDGES) - 1)], largest))

    def table(self) -> pd.DataFrame:
        """Quantiles of the absolute and the relative difference: columns quantile, absolute, relative."""
        return pd.DataFrame(
            {
                "quantile": QUANTILES,
                "absolute": [self.quantile(q) for q in QUANTILES],
                "relative": [self.quantile(q, relative=True) for q in QUANTILES],
            }
        )

    def histogram(self, relative: bool = False) -> pd.DataFrame:
        """Elements per bin of the difference, empty bins left out: columns low, high, elements."""
        counts = self.rel_histogram if relative else self.abs_histogram
        counts = np.zeros(len(EDGES) + 1, dtype=np.int64) if counts is None else counts
        low, high = np.concatenate([[0.0], EDGES]), np.concatenate([EDGES, [np.inf]])
        table = pd.DataFrame({"low": low, "high": high, "elements": counts})
        return table[table["elements"] > 0].reset_index(drop=True)

    def to_json(self) -> dict[str, object]:
        """What reports show."""
        return {
            "elements": self.count,
            "nonfinite_baseline": self.nonfinite_baseline,
            "nonfinite_candidate": self.nonfinite_candidate,
            "relative_rms": self.relative_rms,
            "snr_db": self.snr,
            "cosine": self.cosine,
            "quantiles": self.table().to_dict("records"),
        }


def _histogram(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        power = np.log10(values)
    index = np.floor((np.maximum(power, _LOWEST - 1) - _LOWEST) * _PER_DECADE).astype(np.int64) + 1
    return np.bincount(np.clip(index, 0, len(EDGES)), minlength=len(EDGES) + 1)
