"""What a sweep leaves in its folder: two tables, the best parameters in two forms, how it came about."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect_path
from workbench.files import atomic_write, json_bytes
from workbench.manifest import plain
from workbench.sweeps.blocks import cell_dicts
from workbench.sweeps.settings import SweepSettings
from workbench.sweeps.summary import COUNTS, summarize
from workbench.tuning.choice import Choice
from workbench.tuning.lattice import LARGEST, SMALLEST
from workbench.tuning.outputs import write_best
from workbench.tuning.search import Search, SearchParams
from workbench.tuning.space import Space
from workbench.tuning.summary import TuningSummary, summarise_tuning
from workbench.tuning.trials import OBJECTIVES
from workbench.tuning.words import advice

_SAME = 1e-12  # objectives that differ by less are equal: sums of seconds are rounded


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The cell that a search ends with.

    Attributes
    ----------
    place : its row in the summary
    settings : its parameters, in full
    row : its row
    ties : how many other cells are exactly as good
    at_edge : parameters whose best value is the first or last of three or more that were tried
    feasible : whether it keeps the limit on single recordings; if no cell does, the best of all is named
    """

    place: int
    settings: SweepSettings
    row: pd.Series
    ties: int
    at_edge: tuple[str, ...]
    feasible: bool


def find_best(search: Search, space: Space, objectives: Sequence[str] = ("der",)) -> Best:
    """The feasible cell with the lowest first objective, then the lowest second one, and so on.

    Among equals, the one that changes the fewest parameters, then the first.
    """
    summary = search.summary
    feasible = summary["feasible"].to_numpy(bool)
    places = np.flatnonzero(feasible if feasible.any() else np.ones(len(summary), bool))
    for name in objectives:
        values = np.nan_to_num(summary[OBJECTIVES[name]].to_numpy(float)[places], nan=np.inf)
        places = places[values <= values.min() + _SAME] if np.isfinite(values.min()) else places
    cells = cell_dicts(search.cells)
    changed = [
        sum(space.base.value_of(name) != value for name, value in cells[place].items()) for place in places
    ]
    place = int(places[int(np.argmin(changed))])
    return Best(
        place=place,
        settings=space.base.replace(**cells[place]),
        row=summary.iloc[place],
        ties=len(places) - 1,
        at_edge=edges(search.cells, place, places),
        feasible=bool(feasible[place]),
    )


def edges(cells: pd.DataFrame, place: int, equals: Sequence[int] | np.ndarray = ()) -> tuple[str, ...]:
    """Numeric parameters whose value in the cell is the smallest or largest of at least three.

    Not where the parameter can go no further, nor where one of the cells that are `equals` lies inside.
    """
    found = []
    for name in cells.columns:
        if not pd.api.types.is_numeric_dtype(cells[name]):
            continue
        values = cells[name].dropna().astype(float)
        if values.nunique() < 3 or pd.isna(cells[name].iloc[place]):
            continue
        limits = {values.min(): SMALLEST, values.max(): LARGEST}
        ends = [end for end, limit in limits.items() if end != limit.get(str(name))]
        if cells[name].iloc[[place, *equals]].astype(float).isin(ends).all():
            found.append(str(name))
    return tuple(found)


def describe_sweep(search: Search, space: Space, params: SearchParams, best: Best) -> dict[str, Any]:
    """What `sweep.json` says about the search itself."""
    evaluation = search.evaluation
    base = summarize(evaluation.base, ()).iloc[0]
    content = {
        "grid": space.describe(),
        "base": plain(space.base),
        "search": {
            "sampler": params.sampler,
            "objectives": list(params.objectives),
            "max_worse": params.max_worse,
            "study_name": search.study_name,
            "storage": search.storage,
            "trials": search.num_trials,
        },
        "recordings": list(dict.fromkeys(evaluation.results["uri"])),
        "cells": len(search.cells),
        "rows_computed": evaluation.num_computed,
        "rows_found": evaluation.num_found,
        "best": {
            "parameters": _cell(search.cells, best.place),
            "settings": plain(best.settings),
            **_numbers(best.row),
            "worst_increase": _number(best.row["worst_increase"]),
            "equal_cells": best.ties,
            "at_edge": list(best.at_edge),
            "feasible": best.feasible,
        },
        "default": {
            "parameters": {name: plain(space.base.value_of(name)) for name in space.names},
            **_numbers(base),
            "recordings": {
                row["uri"]: {name: _number(row[name]) for name in (*COUNTS, "der", "jer", "num_speakers")}
                for row in evaluation.base.to_dict("records")
            },
        },
        "failed": evaluation.failed,
    }
    if len(params.objectives) > 1:
        content["pareto"] = [
            {"parameters": _cell(search.cells, int(place))}
            | {name: _number(search.summary[OBJECTIVES[name]].iloc[place]) for name in params.objectives}
            for place in np.flatnonzero(search.summary["pareto"])
        ]
    return content


def write_folder(
    out: str | os.PathLike[str],
    search: Search,
    space: Space,
    params: SearchParams,
    manifest: Mapping[str, Any],
    *,
    config: str | os.PathLike[str] | None = None,
    convention: str = "",
) -> tuple[Best, dict[str, Any], TuningSummary | None]:
    """Write `results.parquet`, `summary.parquet`, `best.toml`, `best.yaml` and `sweep.json`.

    Parameters
    ----------
    manifest : of the run, as `run_manifest` returns it; becomes a part of `sweep.json`
    config : DiariZen configuration that `best.toml` is merged into
    convention : of the scores, as `describe_convention` words it

    Returns
    -------
    best : the chosen cell
    report : the content of `sweep.json`
    summary : what the best is worth; None where the references hold no speech
    """
    out = Path(out)
    best = find_best(search, space, params.objectives)
    report = {**describe_sweep(search, space, params, best), "convention": convention, **manifest}
    summary = _summarise(search, space, params, best, convention, manifest)
    if summary is not None:
        report["choice"] = _worth(summary)
    for name, table in (
        ("results", search.evaluation.results),
        # how long a cell took is no property of the cell: it would differ from run to run
        ("summary", search.summary.drop(columns="seconds")),
    ):
        with atomic_write(out / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    lines = remarks(search, best, report, None if summary is None else summary.choice)
    write_best(out, best.settings, config=config, remarks=lines, names=space.names)
    with atomic_write(out / "sweep.json") as temporary:
        temporary.write_bytes(json_bytes(report))
    return best, report, summary


def _summarise(
    search: Search,
    space: Space,
    params: SearchParams,
    best: Best,
    convention: str,
    manifest: Mapping[str, Any],
) -> TuningSummary | None:
    """What the best cell is worth on recordings it has not seen; None where nothing was said at all."""
    if not search.evaluation.results["total"].sum() > 0:
        return None
    return summarise_tuning(
        search.evaluation.results,
        {name: space.base.value_of(name) for name in space.names},
        default_results=search.evaluation.base,
        best=cell_dicts(search.cells)[best.place],
        max_loss=params.max_worse,
        convention=convention,
        manifest=manifest,
    )


def _worth(summary: TuningSummary) -> dict[str, Any]:
    """The statistics of a choice, for JSON."""
    choice = summary.choice
    return {
        "verdict": choice.verdict,
        "words": summary.verdict,
        "recommended": None if choice.recommended is None else _cell(choice.table.cells, choice.recommended),
        "der_out_of_fold": _number(choice.der_out_of_fold),
        "optimism": _number(choice.optimism),
        "p": _number(choice.p),
        "headroom": _number(choice.headroom),
        "warnings": [notice.text for notice in summary.notices],
    }


def remarks(search: Search, best: Best, report: Mapping[str, Any], choice: Choice | None = None) -> list[str]:
    """What stands above the best parameters: where they come from and what they are worth."""
    default, chosen = report["default"]["der"], report["best"]["der"]
    recordings = report["recordings"]
    lines = [
        f"Best of {len(search.cells)} combinations tried on {len(recordings)} "
        f"recording{'' if len(recordings) == 1 else 's'} by workbench sweep: "
        f"{', '.join(f'{name}={value}' for name, value in report['best']['parameters'].items())}",
        f"DER {percent(chosen)} on these recordings, {percent(default)} with the parameters to begin with.",
    ]
    if choice is not None:
        if not math.isnan(choice.der_out_of_fold):
            lines.append(
                f"DER {percent(choice.der_out_of_fold)} if chosen without the recordings it is judged on: "
                "what to expect of others."
            )
        lines.append(f"Verdict: {advice(choice)}")
        if choice.recommended is None and choice.best != choice.default:
            lines.append("The values below are the best of those tried, not a recommendation.")
    if not best.feasible:
        lines.append("No combination keeps the limit on how much a single recording may lose.")
    return lines


def percent(value: float | None) -> str:
    """A DER as people read it."""
    return "undefined" if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def read_sweep(out: str | os.PathLike[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`results` and `summary` of a folder that `workbench sweep` filled."""
    tables = []
    for name in ("results.parquet", "summary.parquet"):
        path = expect_path(out, "a folder that workbench sweep filled") / name
        if not path.is_file():
            raise InputError.at(path, "does not exist; is this a folder that `workbench sweep` finished?")
        tables.append(pd.read_parquet(path))
    return tables[0], tables[1]


def _cell(cells: pd.DataFrame, place: int) -> dict[str, Any]:
    # a row of a table has one type: take every value from its own column
    return {str(name): _number(cells[name].iloc[place]) for name in cells.columns}


def _numbers(row: pd.Series) -> dict[str, Any]:
    names = (*COUNTS, "der", "jer", "num_speakers_error", "worst_der", "not_converged")
    return {name: _number(row[name]) for name in names}


def _number(value: Any) -> Any:
    """A value for JSON: null for what is missing or not a number."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if hasattr(value, "item") else value
