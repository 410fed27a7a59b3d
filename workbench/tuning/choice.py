"""Choosing well, not just choosing low: what the best cell of a grid is worth on other recordings.

The lowest of many error rates is low partly by luck. Beside it stand here what the same choice would
have cost on recordings that took no part in it, whether the gain over the default is more than a search
among equals would have found, and what each recording's own optimum would have been.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect_count, expect_number
from workbench.scoring.significance import Interval, pooled_interval, units_needed
from workbench.tuning.cells import CellTable, expect_table, rate
from workbench.tuning.lattice import Lattice, most_central
from workbench.tuning.multiplicity import SearchTest, correct_for_search, detectable, search_interval

Verdict = Literal[
    "change", "keep the default", "default is best", "cannot tell", "no default", "nothing admissible"
]
Criterion = Literal["lowest", "plateau"]

_TIE = 1e-12  # DER (fraction): cells that differ by less are equally good


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """A cell, what it is worth, and how sure that is. Rates are fractions, pooled over the recordings.

    Attributes
    ----------
    folds : one row per recording: `uri`, `fold`, `total` (s), `cell` (chosen without the fold),
        `errors`, `errors_default` (s), `der`, `der_default`
    per_recording : one row per recording: `uri`, `total` (s), `der_default`, `der_best`, `change`,
        `der_own` (of the recording's own best cell), `own_cell`, `num_speakers_default`,
        `num_speakers_best`, `num_reference_speakers`
    not_worse : bool array, shape (num_cells,)
        The cells that are not significantly worse than the best one, corrected for their number.
    p_worse : float array, shape (num_cells,); the corrected p of each against the best
    admissible : bool array, shape (num_cells,); the cells that meet the constraint
    """

    table: CellTable
    criterion: Criterion
    best: int  # the cell that the criterion chooses on all recordings
    default: int | None  # None: not a cell of the grid, or not given
    default_values: Mapping[str, Any] | None
    recommended: int | None  # the cell to take; None: stay with the default
    most_chosen: int  # the cell that most folds choose
    times_chosen: int  # folds that choose it
    num_folds: int
    der_best: float  # on the recordings it was chosen on
    der_out_of_fold: float  # of the same choice on recordings that took no part in it; NaN if unknown
    der_default: float  # NaN without a default
    der_own: float  # every recording with its own best cell
    interval_default: Interval  # of der_default, NaN without a default
    interval_best: Interval  # of der_best as if it had not been searched for
    gain: Interval  # best less default, negative is better; its bounds hold for all cells at once
    test: SearchTest | None  # every cell against the default; None without a default
    minimum_detectable: float  # gain that this search would have found with a power of 80 %
    max_loss: float | None  # DER that any recording may lose against the default
    admissible: np.ndarray
    not_worse: np.ndarray
    p_worse: np.ndarray
    edges: tuple[str, ...]  # parameters on whose end of the grid the best cell lies, in words
    folds: pd.DataFrame
    per_recording: pd.DataFrame
    verdict: Verdict

    @property
    def optimism(self) -> float:
        """The winner's curse: how much better the best cell looks than choosing like this is."""
        return self.der_out_of_fold - self.der_best

    @property
    def headroom(self) -> float:
        """What a perfect choice per recording would gain over the best shared cell; at most that much."""
        return self.der_best - self.der_own

    @property
    def p(self) -> float:
        """Of the best cell against the default, corrected for the search; NaN without a default."""
        return math.nan if self.test is None else float(self.test.p[self.best])

    @property
    def p_alone(self) -> float:
        """The same if the best cell had been the only one tried: what is usually, and wrongly, reported."""
        return math.nan if self.test is None else float(self.test.p_alone[self.best])

    @property
    def words(self) -> str:
        """The result in a few sentences."""
        from workbench.tuning.words import choice_words

        return choice_words(self)


def choose(
    results: pd.DataFrame | CellTable,
    default: Mapping[str, Any] | None = None,
    *,
    default_results: pd.DataFrame | None = None,
    folds: int | Mapping[str, Any] | None = None,
    criterion: Criterion = "lowest",
    best: Mapping[str, Any] | None = None,
    max_loss: float | None = None,
    level: float = 0.95,
    num_resamples: int = 5000,
    seed: int = 0,
) -> Choice:
    """Choose a cell of a sweep, and say what it is worth.

    Parameters
    ----------
    results : of `workbench.sweep`, one row per recording and cell, or a `CellTable` of them
    default : values of the swept parameters that are used today; others are ignored
    default_results : one row per recording with the default's results, where it is no cell of the grid
    folds : recordings are left out one by one (None), in that many random groups, or together as a
        mapping uri -> group (corpus, series of meetings, speaker) says
    criterion : `lowest` pooled DER, or `plateau`: the lowest DER of a cell's worst neighbour
    best : the cell, where it has been chosen already; unless the criterion would have chosen one that is
        as good, nothing can then be said out of fold
    max_loss : DER (fraction) that no recording may lose against the default
    level : 1 - `level` is the bound for the corrected p
    num_resamples : of the tests and intervals

    Returns
    -------
    choice : Choice
        A change is recommended if the gain is significant after correction for the search, and is there
        out of fold as well.
    """
    table = CellTable.of(results)
    if not isinstance(criterion, str) or criterion not in get_args(Criterion):
        raise InputError(f"criterion must be one of {', '.join(get_args(Criterion))}, got {criterion!r}")
    if max_loss is not None:
        expect_number(max_loss, "max_loss must be a DER (fraction) of at least 0, or None", low=0)
    expect_number(level, "level must be a share of at least 0.5 and below 1", low=0.5, high=1 - 1e-9)
    expect_count(num_resamples, "num_resamples must be a whole number of at least 1", low=1)
    expect_count(seed, "seed must be a whole number of at least 0")
    if not table.total.sum() > 0:
        raise InputError("the references hold no speech in what was scored: no cell is better than another")
    errors, total = table.errors, table.total
    number, baseline = _baseline(table, default, default_results)
    if max_loss is not None and baseline is None:
        raise InputError(
            "a limit on the loss of single recordings needs the default's results: add its values to the grid"
        )
    lattice = Lattice.of(table.cells)
    harmed = np.zeros(errors.shape, dtype=bool)
    if max_loss is not None and baseline is not None:
        harmed = rate(errors - baseline[:, None], total[:, None]) > max_loss + _TIE
    admissible = np.asarray(~harmed.any(axis=0))

    def pick(kept: np.ndarray) -> int:
        return _pick(
            errors[kept].sum(axis=0) / total[kept].sum(), ~harmed[kept].any(axis=0), lattice, criterion
        )

    given = None
    if best is not None:
        given = chosen = table.find(best)
        if chosen is None:
            raise InputError(f"the cell {dict(best)} is not in the results")
    elif admissible.any():
        chosen = pick(np.ones(len(total), dtype=bool))
    else:  # not even the default is, for it is no cell
        chosen = _pick(table.der, np.ones(len(table), dtype=bool), lattice, criterion)
    left_out = _folds(table, folds, seed)
    fold_table = _choose_out_of_fold(table, left_out, pick, harmed, chosen, baseline)
    most_chosen, times = _most_chosen(fold_table, chosen)
    per_recording = _per_recording(table, chosen, number, baseline)
    test = None
    gain = Interval(estimate=math.nan, low=math.nan, high=math.nan, level=level, num_units=len(total))
    minimum = math.nan
    if baseline is not None:
        test = correct_for_search(errors, baseline, alpha=1 - level, num_resamples=num_resamples, seed=seed)
        gain = search_interval(errors[:, chosen] - baseline, total, test)
        minimum = detectable(errors[:, chosen] - baseline, total, test)
    against_best = correct_for_search(
        errors, errors[:, chosen], alpha=1 - level, num_resamples=num_resamples, seed=seed
    )
    worse = errors.sum(axis=0) > errors[:, chosen].sum()
    everything = total.sum()
    der_default = math.nan if baseline is None else float(baseline.sum() / everything)
    several = fold_table["fold"].nunique() > 1
    # what the criterion is worth out of fold says nothing about a cell that it would not choose
    foreign = given is not None and not _is_choice(given, pick, table, admissible)
    der_out_of_fold = float(fold_table["errors"].sum() / everything) if several and not foreign else math.nan
    holds = foreign or der_out_of_fold < der_default
    verdict = _verdict(test, chosen, number, baseline, errors, admissible, holds=holds)
    intervals = [
        pooled_interval(values, total, level=level, num_resamples=num_resamples, seed=seed)
        if values is not None
        else gain
        for values in (baseline, errors[:, chosen])
    ]
    return Choice(
        table=table,
        criterion=criterion,
        best=chosen,
        default=number,
        default_values=None if default is None else dict(default),
        recommended=chosen if verdict == "change" else None,
        most_chosen=most_chosen,
        times_chosen=times,
        num_folds=int(fold_table["fold"].nunique()),
        der_best=float(table.der[chosen]),
        der_out_of_fold=der_out_of_fold,
        der_default=der_default,
        der_own=float(errors.min(axis=1).sum() / everything),
        interval_default=intervals[0],
        interval_best=intervals[1],
        gain=gain,
        test=test,
        minimum_detectable=minimum,
        max_loss=max_loss,
        admissible=admissible,
        not_worse=~(worse & (against_best.p <= 1 - level)),
        p_worse=np.where(worse, against_best.p, 1.0),
        edges=() if lattice is None else tuple(lattice.edges(chosen, _equals(table, chosen, admissible))),
        folds=fold_table,
        per_recording=per_recording,
        verdict=verdict,
    )


def _equals(table: CellTable, cell: int, admissible: np.ndarray) -> np.ndarray:
    """Cells that may be chosen and are exactly as good."""
    same = np.abs(table.der - table.der[cell]) <= _TIE
    return np.flatnonzero(same & (admissible | ~admissible.any()))


def _baseline(
    table: CellTable, default: Mapping[str, Any] | None, default_results: pd.DataFrame | None
) -> tuple[int | None, np.ndarray | None]:
    """The default's number among the cells, and its errors (s) per recording."""
    number = None if default is None else table.find(default)
    if default_results is None:
        return number, None if number is None else table.errors[:, number]
    needed = ("uri", "missed", "false_alarm", "confusion")
    expect_table(default_results, "default's results", needed, "workbench.sweep")
    rows = default_results.drop_duplicates("uri").set_index("uri")
    if missing := [uri for uri in table.uris if uri not in rows.index]:
        raise InputError(f"the default's results lack the recording {missing[0]!r}")
    rows = rows.loc[list(table.uris)]
    errors = (rows["missed"] + rows["false_alarm"] + rows["confusion"]).to_numpy(dtype=float)
    return number, errors


def _pick(der: np.ndarray, admissible: np.ndarray, lattice: Lattice | None, criterion: Criterion) -> int:
    """The admissible cell that the criterion prefers; among equals the steadiest, then the most central."""
    worst = None
    if criterion == "plateau" and lattice is not None:
        worst = lattice.worst_within_step(der)
    values = der if worst is None else worst
    values = np.where(admissible, values, np.inf)
    tied = np.flatnonzero(values <= values.min() + _TIE)
    if len(tied) > 1 and lattice is not None:
        second = lattice.worst_within_step(der) if worst is None else der
        tied = tied[second[tied] <= second[tied].min() + _TIE]
    return most_central(lattice, tied)


def _is_choice(cell: int, pick: Any, table: CellTable, admissible: np.ndarray) -> bool:
    """Whether the criterion's own choice has the same DER."""
    if not admissible.any():
        return False
    der = table.der
    return bool(abs(der[cell] - der[pick(np.ones(len(table.total), dtype=bool))]) <= _TIE)


def _folds(table: CellTable, folds: int | Mapping[str, Any] | None, seed: int) -> np.ndarray:
    """Fold of every recording, int array (num_recordings,)."""
    count = len(table.uris)
    if folds is None:
        return np.arange(count)
    if not isinstance(folds, Mapping):
        expect_count(folds, "folds must be a whole number of at least 2, or a group for every uri", low=2)
        fold = np.arange(count) % min(folds, count)
        return np.random.default_rng(seed).permutation(fold)
    if missing := [uri for uri in table.uris if uri not in folds]:
        raise InputError(f"no group is given for the recording {missing[0]!r}")
    return pd.factorize(np.array([str(folds[uri]) for uri in table.uris]))[0]


def _choose_out_of_fold(
    table: CellTable,
    fold: np.ndarray,
    pick: Any,
    harmed: np.ndarray,
    best: int,
    baseline: np.ndarray | None,
) -> pd.DataFrame:
    """The choice without each fold, and what it does to the fold."""
    chosen = np.full(len(fold), best)
    for number in np.unique(fold):
        kept = fold != number
        # nothing to choose from, or on: the whole is all there is (a single recording)
        if table.total[kept].sum() > 0 and not harmed[kept].any(axis=0).all():
            chosen[~kept] = pick(kept)
    errors = table.errors[np.arange(len(fold)), chosen]
    default = np.full(len(fold), np.nan) if baseline is None else baseline
    return pd.DataFrame(
        {
            "uri": table.uris,
            "fold": fold,
            "total": table.total,
            "cell": chosen,
            "errors": errors,
            "errors_default": default,
            "der": rate(errors, table.total),
            "der_default": rate(default, table.total),
        }
    )


def _most_chosen(folds: pd.DataFrame, best: int) -> tuple[int, int]:
    """The cell that most folds choose, `best` among equals, and how many do."""
    counts = folds.drop_duplicates("fold")["cell"].value_counts()
    most = int(counts.max())
    cell = best if counts.get(best, 0) == most else int(counts.index[counts == most].min())
    return cell, most


def _per_recording(
    table: CellTable, best: int, default: int | None, baseline: np.ndarray | None
) -> pd.DataFrame:
    own = table.errors.argmin(axis=1)
    der_best = table.der_per_recording[:, best]
    der_default = np.full(len(own), np.nan) if baseline is None else rate(baseline, table.total)
    none = np.full(len(own), -1)
    return pd.DataFrame(
        {
            "uri": table.uris,
            "total": table.total,
            "der_default": der_default,
            "der_best": der_best,
            "change": der_best - der_default,
            "der_own": table.der_per_recording[np.arange(len(own)), own],
            "own_cell": own,
            "num_speakers_default": none if default is None else table.num_speakers[:, default],
            "num_speakers_best": table.num_speakers[:, best],
            "num_reference_speakers": table.num_reference_speakers,
        }
    )


def _verdict(
    test: SearchTest | None,
    best: int,
    default: int | None,
    baseline: np.ndarray | None,
    errors: np.ndarray,
    admissible: np.ndarray,
    *,
    holds: bool,
) -> Verdict:
    if test is None or baseline is None:
        return "no default"
    if not admissible.any():
        return "nothing admissible"
    if best == default or errors[:, best].sum() >= baseline.sum():
        return "default is best"
    if len(errors) < units_needed(test.alpha):
        return "cannot tell"
    return "change" if test.p[best] <= test.alpha and holds else "keep the default"
