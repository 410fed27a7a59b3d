"""Differences of two arrays of a stage, added up chunk by chunk."""

from __future__ import annotations

import numpy as np
import pandas as pd


class Tally:
    """Sums over chunks, so that a stage of hours of audio never has to be held at once.

    Parameters
    ----------
    stage : its name
    tolerance : largest difference, relative to the largest value of the chunk where that is above 1
    """

    def __init__(self, stage: str, tolerance: float):
        self.stage, self.tolerance = stage, tolerance
        self.chunks = self.chunks_over = self.non_finite = 0
        self.max_abs_diff = self.relative = 0.0
        self.worst_uri, self.worst_chunk = "", -1
        self.worst_index: tuple[int, ...] = ()
        self.problem = ""
        self._values = 0
        self._sum = self._noise = self._signal = self._candidate = self._product = 0.0
        self._rows: list[tuple[str, str, int, float, float]] = []

    def add(self, uri: str, chunk: int, baseline: np.ndarray, candidate: np.ndarray) -> None:
        """Compare one chunk, both arrays of shape (1, ...)."""
        self.chunks += 1
        if baseline.shape != candidate.shape:
            self.chunks_over += 1
            self.problem = self.problem or (
                f"shape {candidate.shape[1:]} instead of {baseline.shape[1:]} in {uri} chunk {chunk}"
            )
            self._worst(uri, chunk, float("inf"), ())
            self._rows.append((self.stage, uri, chunk, float("nan"), float("inf")))
            return
        one, other = baseline.astype(np.float64), candidate.astype(np.float64)
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(other - one))
        lost = ~np.isfinite(difference)  # infinite or no number on one side alone
        self.non_finite += int(lost.sum())
        finite = np.isfinite(one)
        largest = float(np.abs(one[finite]).max(initial=0.0))
        most = float("inf") if lost.any() else float(difference.max(initial=0.0))
        relative = most / max(1.0, largest)
        self.max_abs_diff = max(self.max_abs_diff, most)
        self.chunks_over += not relative <= self.tolerance
        if relative >= self.relative or self.worst_chunk < 0:
            where = np.unravel_index(int(np.argmax(np.where(lost, np.inf, difference))), difference.shape)
            self._worst(uri, chunk, relative, tuple(int(each) for each in where[1:]))
        self._rows.append((self.stage, uri, chunk, most, relative))
        kept = finite & ~lost
        self._values += int(kept.sum())
        self._sum += float(difference[kept].sum())
        self._noise += float((difference[kept] ** 2).sum())
        self._signal += float((one[kept] ** 2).sum())
        self._candidate += float((other[kept] ** 2).sum())
        self._product += float((one[kept] * other[kept]).sum())

    def _worst(self, uri: str, chunk: int, relative: float, index: tuple[int, ...]) -> None:
        self.worst_uri, self.worst_chunk, self.relative, self.worst_index = uri, chunk, relative, index

    @property
    def mean_abs_diff(self) -> float:
        """Mean over all finite values."""
        return self._sum / self._values if self._values else float("nan")

    @property
    def snr(self) -> float:
        """Power of the baseline over that of the difference, in dB."""
        if self.problem or not self._values:
            return float("nan")
        if self._noise == 0:
            return float("inf")
        return float(10 * np.log10(self._signal / self._noise)) if self._signal else float("-inf")

    @property
    def cosine(self) -> float:
        """Cosine of the angle between all values of both sides; 1 where both are zero."""
        if self.problem or not self._values:
            return float("nan")
        size = np.sqrt(self._signal) * np.sqrt(self._candidate)
        return float(min(1.0, self._product / size)) if size else float(self._signal == self._candidate)

    def table(self) -> pd.DataFrame:
        """One row per chunk: stage, uri, chunk, max_abs_diff, relative."""
        return pd.DataFrame(self._rows, columns=["stage", "uri", "chunk", "max_abs_diff", "relative"])
