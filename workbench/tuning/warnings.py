"""What a user should be told about a sweep although nothing failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.errors import InputError, expect, expect_number
from workbench.tuning.cells import CellTable, rate
from workbench.tuning.lattice import Lattice
from workbench.tuning.words import points

Kind = Literal[
    "no effect",
    "count not obeyed",
    "not converged",
    "phantom speakers",
    "edge",
    "too many speakers",
    "incomplete",
]

COUNT_PARAMETERS = ("num_speakers_forced", "min_speakers", "max_speakers")

_TIE = 1e-12  # DER (fraction): cells that differ by less are equally good

PHANTOM_SHARE = 0.03
"""Share of a recording's speech below which a speaker is called a phantom."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One warning: of what kind, in words, and about which recordings."""

    kind: Kind
    text: str
    uris: tuple[str, ...] = ()


def find_warnings(
    results: pd.DataFrame | CellTable,
    cell: int | None = None,
    *,
    hypotheses: Mapping[str, Any] | None = None,
    min_share: float = PHANTOM_SHARE,
) -> tuple[Notice, ...]:
    """Everything worth a warning about a sweep, and about one of its cells.

    Parameters
    ----------
    results : of a sweep, one row per recording and cell
    cell : number of the cell that is looked at closely, as a rule the chosen one; by default the best
    hypotheses : uri -> Annotation of that cell, to look for speakers who hardly speak
    min_share : share of the speech below which a speaker is a phantom
    """
    table = CellTable.of(results)
    _check_share(min_share)
    if cell is None:
        cell = int(np.nanargmin(table.der)) if table.total.sum() > 0 else 0
    table.values(cell)  # refuses what is no cell
    notices = [
        *_incomplete(table),
        *_without_effect(table),
        *_not_obeyed(table, cell),
        *_not_converged(table, cell),
        *_too_many(table, cell),
        *_on_edge(table, cell),
    ]
    if hypotheses is not None:
        notices += _phantoms(phantom_speakers(hypotheses, min_share), min_share)
    return tuple(notices)


def recordings_without_effect(results: pd.DataFrame | CellTable, parameter: str) -> tuple[str, ...]:
    """Recordings whose output is the same for all values of a parameter, whatever the others are.

    Only cells that differ in nothing else are compared. None are found if a value has no such cell to be
    compared with, as in a random search, where every value comes with other ones of the other parameters.
    """
    table = CellTable.of(results)
    expect(parameter, str, "the name of a parameter must be given")
    if parameter not in table.parameters:
        raise InputError(f"{parameter} was not swept; swept are {', '.join(table.parameters)}")
    rest = [name for name in table.parameters if name != parameter]
    group = table.cells.groupby(rest, dropna=False).ngroup().to_numpy() if rest else np.zeros(len(table), int)
    value = table.cells.groupby(parameter, dropna=False).ngroup().to_numpy()
    several = pd.Series(value).groupby(group).transform("nunique").to_numpy() > 1
    if len(np.unique(value[several])) < len(np.unique(value)):
        return ()
    _, first = np.unique(group, return_index=True)
    same = (table.partition == table.partition[:, first[group]]).all(axis=1)
    return tuple(uri for uri, unchanged in zip(table.uris, same, strict=True) if unchanged)


def phantom_speakers(hypotheses: Mapping[str, Any], min_share: float = PHANTOM_SHARE) -> pd.DataFrame:
    """Speakers who hardly speak.

    Parameters
    ----------
    hypotheses : uri -> Annotation
    min_share : share of the recording's speech (all speakers together) below which one is a phantom

    Returns
    -------
    phantoms : one row per phantom: `uri`, `speaker`, `seconds`, `share`, `num_speakers`
    """
    expect(hypotheses, Mapping, "hypotheses must be Annotations by recording")
    _check_share(min_share)
    rows = []
    for uri, annotation in hypotheses.items():
        expect(annotation, Annotation, f"the hypothesis of {uri} must be an Annotation")
        spoken = annotation.chart()
        everything = sum(seconds for _, seconds in spoken)
        rows += [
            (uri, str(speaker), float(seconds), seconds / everything, len(spoken))
            for speaker, seconds in spoken
            if seconds < min_share * everything
        ]
    return pd.DataFrame(rows, columns=["uri", "speaker", "seconds", "share", "num_speakers"])


def _check_share(min_share: float) -> None:
    expect_number(min_share, "min_share must be a share of the speech from 0 to 1", low=0, high=1)


def _incomplete(table: CellTable) -> list[Notice]:
    if not table.incomplete:
        return []
    text = f"{_recordings(table.incomplete)} lacked some cells and took no part in anything below"
    return [Notice(kind="incomplete", text=text, uris=table.incomplete)]


def _without_effect(table: CellTable) -> list[Notice]:
    """Parameters that change nothing anywhere; those of the number of speakers, on any recording."""
    notices = []
    for name in table.parameters:
        if table.cells[name].nunique(dropna=False) < 2:
            continue
        unchanged = recordings_without_effect(table, name)
        everywhere = len(unchanged) == len(table.uris)
        if unchanged and (everywhere or name in COUNT_PARAMETERS):
            shown = name.removesuffix("_forced")
            where = "any recording" if everywhere else _recordings(unchanged)
            text = f"{shown} had no effect on {where}: all its values give the same output"
            notices.append(Notice(kind="no effect", text=text, uris=unchanged))
    return notices


def _not_obeyed(table: CellTable, cell: int) -> list[Notice]:
    if "num_speakers_forced" not in table.parameters:
        return []
    asked = table.cells["num_speakers_forced"].to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(asked[cell]):
        return []
    wrong = table.num_speakers[:, cell] != asked[cell]
    uris = _chosen(table, wrong)
    if not uris:
        return []
    text = (
        f"num_speakers = {asked[cell]:g} was asked for, but {_recordings(uris)} came out with another "
        "number; VBx with DiariZen's convention does not force it"
    )
    return [Notice(kind="count not obeyed", text=text, uris=uris)]


def _not_converged(table: CellTable, cell: int) -> list[Notice]:
    uris = _chosen(table, ~table.converged[:, cell])
    notices = []
    if uris:
        text = f"VBx hit the iteration cap on {_recordings(uris)} in the chosen cell: raise max_iters"
        notices.append(Notice(kind="not converged", text=text, uris=uris))
    stopped = ~table.converged
    if stopped.any():
        text = f"{points(stopped.mean())} of all runs hit the iteration cap; their results are not final"
        notices.append(
            Notice(kind="not converged", text=text, uris=_chosen(table, np.asarray(stopped.any(axis=1))))
        )
    return notices


def _too_many(table: CellTable, cell: int) -> list[Notice]:
    known = table.num_reference_speakers >= 0
    uris = _chosen(table, known & (table.num_speakers[:, cell] > table.num_reference_speakers))
    if not uris:
        return []
    text = f"the chosen cell finds more speakers than the reference has on {_recordings(uris)}"
    return [Notice(kind="too many speakers", text=text, uris=uris)]


def _on_edge(table: CellTable, cell: int) -> list[Notice]:
    lattice = Lattice.of(table.cells)
    if lattice is None:
        return []
    equals = np.flatnonzero(np.abs(table.der - table.der[cell]) <= _TIE)
    return [
        Notice(kind="edge", text=f"the chosen cell lies on the grid's edge: {edge}; widen the grid")
        for edge in lattice.edges(cell, equals)
    ]


def _phantoms(phantoms: pd.DataFrame, min_share: float) -> list[Notice]:
    notices = []
    for uri, rows in phantoms.groupby("uri", sort=False):
        count, total = len(rows), int(rows["num_speakers"].iloc[0])
        together = float(rate(rows["share"].sum(), 1.0))
        text = (
            f"{uri}: {count} of {total} speakers hold less than {100 * min_share:g} % of the speech each, "
            f"{100 * together:.1f} % together; perhaps they are nobody"
        )
        notices.append(Notice(kind="phantom speakers", text=text, uris=(str(uri),)))
    return notices


def _chosen(table: CellTable, which: np.ndarray) -> tuple[str, ...]:
    return tuple(uri for uri, chosen in zip(table.uris, which, strict=True) if chosen)


def _recordings(uris: tuple[str, ...]) -> str:
    """How many, and which if they are few."""
    named = f" ({', '.join(uris)})" if len(uris) <= 3 else ""
    return f"{len(uris)} recording{'' if len(uris) == 1 else 's'}{named}"
