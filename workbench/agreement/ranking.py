"""Recordings by how much they lost: a mean hides the one that broke."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, comb

import numpy as np
import pandas as pd

_TIMES = 5  # a recording stands out if it loses this many times the median,
_LEAST = 0.002  # and at least this part of its frames


@dataclass(frozen=True, kw_only=True)
class Damage:
    """How the damage is spread over recordings.

    Attributes
    ----------
    table : DataFrame, worst first
        `uri`, `frames`, `flips`, `flip_rate`, `real`, `real_rate`, `max_abs_diff`, `stands_out`.
    """

    table: pd.DataFrame
    pooled_rate: float  # flips of all recordings over their frames
    median_rate: float
    worst_decile_rate: float  # pooled over the worst tenth of the recordings (at least one)
    files_needed: int | None  # recordings to draw at random to meet one that stands out in 95 of 100 draws

    @property
    def standing_out(self) -> list[str]:
        """Recordings that lose far more than the median."""
        return self.table.loc[self.table["stands_out"], "uri"].tolist()

    @property
    def words(self) -> str:
        """One sentence."""
        if not len(self.table):
            return "nothing was compared"
        worst = self.table.iloc[0]
        text = (
            f"worst recording: {worst['uri']} with {100 * worst['flip_rate']:.2f} % flips "
            f"(median {100 * self.median_rate:.2f} %, pooled {100 * self.pooled_rate:.2f} %)"
        )
        if self.standing_out and self.files_needed and len(self.table) > 2:
            text += (
                f"; {len(self.standing_out)} of {len(self.table)} recordings stand out, {self.files_needed} "
                "drawn at random are needed to see one with 95 % certainty"
            )
        return text

    def to_json(self) -> dict[str, object]:
        """As reports have it."""
        return {
            "worst": self.table.to_dict("records"),
            "pooled_flip_rate": self.pooled_rate,
            "median_flip_rate": self.median_rate,
            "worst_decile_flip_rate": self.worst_decile_rate,
            "standing_out": self.standing_out,
            "files_needed": self.files_needed,
        }


def rank(rows: pd.DataFrame) -> Damage:
    """Order recordings by damage: by the rate of flips, then of real flips, then by the largest difference.

    Parameters
    ----------
    rows : DataFrame with columns `uri`, `frames`, `flips`, `real`, `max_abs_diff`
    """
    table = rows.copy()
    frames = table["frames"].clip(lower=1)
    table["flip_rate"] = table["flips"] / frames
    table["real_rate"] = table["real"] / frames
    table = table.sort_values(
        ["flip_rate", "real_rate", "max_abs_diff", "uri"],
        ascending=[False, False, False, True],
        ignore_index=True,
    )
    rates = table["flip_rate"].to_numpy(dtype=np.float64)
    median = float(np.median(rates)) if len(rates) else 0.0
    table["stands_out"] = (rates > _TIMES * median) & (rates > _LEAST)
    decile = table.iloc[: max(1, ceil(0.1 * len(table)))]
    return Damage(
        table=table,
        pooled_rate=_rate(table),
        median_rate=median,
        worst_decile_rate=_rate(decile),
        files_needed=files_needed(len(table), int(table["stands_out"].sum())),
    )


def files_needed(num_files: int, num_bad: int, certainty: float = 0.95) -> int | None:
    """How many recordings must be drawn at random to meet a bad one with this probability.

    None where there is no bad one. Drawn without putting back, so the chance to miss all of them follows
    the hypergeometric distribution.

    Examples
    --------
    >>> files_needed(50, 1), files_needed(50, 10)
    (48, 12)
    """
    if num_bad < 1:
        return None
    for drawn in range(1, num_files + 1):
        if 1 - comb(num_files - num_bad, drawn) / comb(num_files, drawn) >= certainty:
            return drawn
    return num_files


def _rate(table: pd.DataFrame) -> float:
    frames = int(table["frames"].sum())
    return float(table["flips"].sum() / frames) if frames else 0.0
