"""From one row per recording and cell to one row per cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

COUNTS = ("total", "correct", "missed", "false_alarm", "confusion")
"""Seconds, which add."""


def summarize(results: pd.DataFrame, names: Sequence[str], base: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per cell, in the order in which cells first appear.

    Parameters
    ----------
    results : one row per recording and cell
    names : of the parameters
    base : rows of the base parameters, one per recording, optional

    Returns
    -------
    summary : table
        The parameters; the summed counts in seconds; `der`, pooled over the recordings (NaN without any
        reference speech); `jer`, the mean over all reference speakers; `num_speakers_error`, the mean of
        how many speakers were found too many or too few; `worst_der`; `not_converged`, recordings in
        which VBx met its limit of iterations; `recordings`; and with `base` also `worst_increase`, the
        largest rise of a recording's DER over that of the base parameters.

    Examples
    --------
    >>> row = dict(total=10.0, correct=8.0, missed=2.0, false_alarm=0.0, confusion=0.0, der=0.2)
    >>> row |= dict(num_speakers=3, num_reference_speakers=2, converged=True, Fa=0.1)
    >>> row |= dict(jer=0.25, num_scored_speakers=2)
    >>> summarize(pd.DataFrame([row | {"uri": "a"}, row | {"uri": "b"}]), ["Fa"])["der"].tolist()
    [0.2]
    """
    names = list(names)
    if names:
        groups = results.groupby(names, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    else:
        groups = np.zeros(len(results), dtype=np.int64)
    _, first = np.unique(groups, return_index=True)

    def total(values: pd.Series | np.ndarray) -> np.ndarray:
        """Sums over recordings in their order: the same to the last bit, however many cells there are."""
        return np.bincount(groups, np.asarray(values, dtype=np.float64), minlength=len(first))

    def largest(values: pd.Series | np.ndarray) -> np.ndarray:
        """The largest of every cell, NaN only where all are."""
        found = np.full(len(first), -np.inf)
        np.fmax.at(found, groups, np.asarray(values, dtype=np.float64))
        return np.where(np.isneginf(found), np.nan, found)

    summary = results[names].iloc[first].reset_index(drop=True)
    for name in COUNTS:
        summary[name] = total(results[name])
    summary["der"] = pooled_der(summary)
    speakers = results["num_scored_speakers"].to_numpy(dtype=np.float64)
    found = np.asarray(results["jer"], dtype=np.float64)
    summary["jer"] = pooled_jer(total(found * speakers), total(speakers), total(found))
    recordings = total(np.ones(len(results)))
    wrong = (results["num_speakers"] - results["num_reference_speakers"]).abs()
    summary["num_speakers_error"] = total(wrong) / recordings
    summary["worst_der"] = largest(results["der"])
    summary["not_converged"] = total(~results["converged"].to_numpy(bool)).astype(np.int64)
    summary["recordings"] = recordings.astype(np.int64)
    if base is not None:
        before = results["uri"].map(base.set_index("uri")["der"])
        summary["worst_increase"] = largest(results["der"] - before)
    return summary


def pooled_jer(errors: np.ndarray, speakers: np.ndarray, jers: np.ndarray) -> np.ndarray:
    """Mean error of a reference speaker, as dscore pools recordings.

    Parameters
    ----------
    errors : sums over recordings of JER times reference speakers
    speakers : reference speakers of all recordings; without any, all that is said is an error
    jers : sums of the JER alone
    """
    alone = np.where(np.isnan(jers), np.nan, np.minimum(jers, 1.0))
    return np.divide(errors, speakers, out=alone, where=speakers > 0)


def pooled_der(counts: pd.DataFrame) -> np.ndarray:
    """Errors by reference speaker time, NaN where there is none of that."""
    # spelled out: how pandas adds up columns depends on the number of rows, in the last bit
    errors = sum(counts[name].to_numpy(dtype=np.float64) for name in ("missed", "false_alarm", "confusion"))
    total = counts["total"].to_numpy(dtype=np.float64)
    return np.divide(errors, total, out=np.full(len(total), np.nan), where=total > 0)
