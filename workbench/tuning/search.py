"""Searches: every cell of a grid, or the cells that a sampler of Optuna asks for, on one objective.

A study is a plain Optuna study, as optuna-dashboard opens it: parameters under their own names,
objectives as values, and what every recording contributed as user attributes in seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect, expect_count, expect_number, nearest
from workbench.manifest import digest_values
from workbench.sweeps.blocks import cell_dicts
from workbench.sweeps.run import Evaluation, Evaluator, Progress
from workbench.sweeps.summary import summarize
from workbench.tuning.sampling import sample
from workbench.tuning.sharing import (
    adopt_finished,
    end_part,
    end_sampling,
    parts_of,
    take_part,
)
from workbench.tuning.space import Space
from workbench.tuning.studies import (
    connect,
    create_study,
    experimental,
    find_study,
)
from workbench.tuning.trials import (
    OBJECTIVES,
    cells_of,
    excess,
    finished_trials,
    objective_values,
    plain_value,
    trial_attributes,
)

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

SAMPLERS = ("grid", "tpe", "random", "cmaes", "nsga2")
_LOOK_EVERY = 8  # cells of a grid that are added before looking again what others have added


@dataclass(frozen=True, kw_only=True)
class SearchParams:
    """How to search."""

    sampler: str = "grid"  # one of SAMPLERS
    trials: int = 100  # finished trials that the study is to have; a grid takes all of its cells
    objectives: tuple[str, ...] = ("der",)  # minimized; the first one decides what is best
    max_worse: float | None = None  # DER that no recording may lose against the base (0.005: half a point)
    storage: str | None = None  # journal file, SQLite file or any storage URL; None: no study kept
    study_name: str | None = None  # None: a name made from the digest of all inputs
    seed: int = 0

    def __post_init__(self) -> None:
        expect(self.sampler, str, f"search must be one of {', '.join(SAMPLERS)}")
        expect(self.objectives, tuple, f"objectives must be a tuple of {', '.join(OBJECTIVES)}")
        expect_count(self.trials, "trials must be a whole number of at least 1", low=1)
        expect_count(self.seed, "seed must be a whole number of at least 0")
        for name, text in (("storage", self.storage), ("study_name", self.study_name)):
            expect(text, (str, type(None)), f"{name} must be a text, or None")
        if self.sampler not in SAMPLERS:
            raise InputError(
                f"search must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}"
                + nearest(self.sampler, SAMPLERS)
            )
        for name in self.objectives:
            expect(name, str, f"objectives must be among {', '.join(OBJECTIVES)}")
            if name not in OBJECTIVES:
                raise InputError(
                    f"unknown objective {name!r}{nearest(name, OBJECTIVES)}; "
                    f"known are {', '.join(OBJECTIVES)}"
                )
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise InputError("name at least one objective, and each once")
        if self.max_worse is not None:
            expect_number(self.max_worse, "max_worse must be a DER of at least 0", low=0)
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise InputError("cmaes follows one objective; take tpe or nsga2 for several")
        if self.sampler == "cmaes" and find_spec("cmaes") is None:
            raise InputError("the sampler cmaes needs the package cmaes, which is not installed; take tpe")


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What a search has looked at.

    Attributes
    ----------
    cells : one row per cell, in the order in which they were tried
    evaluation : their rows on every recording
    summary : one row per cell, with the objectives, `feasible` and `pareto` beside the columns of `summarize`
    study_name, storage : where the study is, if it is kept
    num_trials : finished trials of the study; a cell that two grid searches have added at once is one
    """

    cells: pd.DataFrame
    evaluation: Evaluation
    summary: pd.DataFrame
    study_name: str | None = None
    storage: str | None = None
    num_trials: int = 0


def run_search(
    evaluator: Evaluator,
    space: Space,
    params: SearchParams,
    *,
    progress: Progress | None = None,
    on_trial: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Search:
    """Evaluate the whole grid, or as many trials as asked for.

    All trials of a study are over the same recordings. One that cannot be evaluated with the base parameters
    is left out of the whole search; once one fails later, no trial is added any more, and the search is
    what there was until then. A study that was interrupted goes on; if no other process works on it, a search
    with `tpe` or `random` then finds what it would have found undisturbed, unless it looks at `seconds`.

    Parameters
    ----------
    evaluator : the recordings
    space : what may be chosen
    params : how
    progress : called as ``progress(uri, done, total)`` while a grid is evaluated
    on_trial : called as ``on_trial(done, total)`` after every trial of a sampler
    say : called with lines worth reading
    """
    say = say or (lambda line: None)
    if params.sampler == "grid":
        space.expect_listed()
        cells = space.grid.cells()
        if params.storage is None:
            return _finish(space, cells, evaluator.evaluate(cells, with_base=True, progress=progress), params)
    storage = connect(params.storage, say)
    before = evaluator.num_computed
    first = _try_base(storage, evaluator, space, params, say)
    if first.results.empty:  # no recording is left; each has said why
        return _finish(space, space.table([]), first, params)
    study = open_study(evaluator, space, params, storage)
    lost: dict[str, str] = {}
    if params.sampler == "grid":
        _share_grid(study, evaluator, space, params, cells, progress, say)
    else:
        try:
            lost = sample(study, evaluator, space, params, on_trial, say)
        finally:
            end_sampling(study)
        cells = cells_of(study, space)
    adopt_finished(study, evaluator)
    for uri in lost:
        del evaluator.failed[uri]  # the cells that were finished before are known for it
    evaluation = evaluator.evaluate(cells, with_base=True)
    evaluator.failed.update(lost)
    failed = {each["uri"]: each["error"] for each in evaluation.failed} | lost
    # that call found what had been computed for the study
    num_computed = evaluator.num_computed - before
    num_rows = evaluation.num_computed + evaluation.num_found
    evaluation = dataclasses.replace(
        evaluation,
        failed=[{"uri": uri, "error": error} for uri, error in failed.items()],
        num_computed=num_computed,
        num_found=max(num_rows - num_computed, 0),
    )
    return _finish(space, cells, evaluation, params, study)


def open_study(
    evaluator: Evaluator, space: Space, params: SearchParams, storage: str | BaseStorage | None
) -> optuna.Study:
    """The study of these inputs, on the recordings that have not failed: a new one, or one begun earlier."""
    inputs, name = _identify(evaluator, space, params)
    study = create_study(storage, name, len(params.objectives))
    known = study.user_attrs.get("inputs")
    if known is None:
        study.set_user_attr("inputs", inputs)
        with experimental():
            study.set_metric_names(list(params.objectives))
    elif known != inputs or len(study.directions) != len(params.objectives):
        raise InputError(
            f"study {name!r} was made from other recordings, references, base parameters or objectives"
            + (f" ({', '.join(evaluator.failed)} failed just now)" if evaluator.failed else "")
            + "; choose another --study-name"
        )
    return study


def _identify(evaluator: Evaluator, space: Space, params: SearchParams) -> tuple[str, str]:
    """Digest of what the values of a study depend on, and the name of the study."""
    inputs = digest_values(
        {
            "recordings": {uri: evaluator.ingredients[uri].key for uri in sorted(evaluator.alive)},
            # of older studies, without this, trials may be over fewer recordings than others
            "trials": "over all of these recordings",
            "base": evaluator.common.base,
            "objectives": params.objectives,
            "max_worse": params.max_worse,
        }
    )
    return inputs, params.study_name or f"workbench-{digest_values([inputs, space.describe()])[:12]}"


def _try_base(
    storage: BaseStorage | None,
    evaluator: Evaluator,
    space: Space,
    params: SearchParams,
    say: Callable[[str], None],
) -> Evaluation:
    """Rows of the base parameters, which every search needs: who fails here is in no trial."""
    inputs, name = _identify(evaluator, space, params)
    known = None if storage is None else find_study(storage, name)
    if known is not None and known.user_attrs.get("inputs") == inputs:
        adopt_finished(known, evaluator)
    evaluation = evaluator.evaluate(pd.DataFrame(index=[0]), with_base=True)
    if evaluator.failed and not evaluation.results.empty:
        left_out = ", ".join(evaluator.failed)
        say(f"the search leaves out {left_out}, and all of its trials are over the recordings left")
    return evaluation


def _share_grid(
    study: optuna.Study,
    evaluator: Evaluator,
    space: Space,
    params: SearchParams,
    cells: pd.DataFrame,
    progress: Progress | None,
    say: Callable[[str], None],
) -> None:
    """Evaluate a grid part by part, and take over what other processes have added to the study meanwhile.

    Ends early when a recording fails: the study is to compare all cells on the same recordings.
    """
    recordings = set(evaluator.alive)
    wanted = {*evaluator.keys(cells), *evaluator.keys(pd.DataFrame(index=[0]))}  # with the base

    def in_all(uri: str, _done: int, _total: int) -> None:
        if progress is not None:
            progress(uri, len(evaluator.known(uri) & wanted), len(wanted))

    parts = parts_of(len(cells))
    left = list(range(len(parts)))
    while left:
        part = take_part(study, left)
        left.remove(part)
        try:
            adopt_finished(study, evaluator)
            chosen = cells.iloc[parts[part]].reset_index(drop=True)
            evaluation = evaluator.evaluate(chosen, with_base=True, progress=in_all)
            if lost := recordings & evaluator.failed.keys():
                say(
                    f"study {study.study_name!r} gets no more cells, since {', '.join(sorted(lost))} failed; "
                    "the table goes on without, and the same command adds the rest"
                )
                return
            _add_cells(study, evaluator, _finish(space, chosen, evaluation, params), space, params)
        finally:
            end_part(study)


def _add_cells(
    study: optuna.Study, evaluator: Evaluator, search: Search, space: Space, params: SearchParams
) -> None:
    """Every cell of a part of a grid as a finished trial, unless the study has it already."""
    import optuna

    distributions = space.distributions()
    keys = evaluator.keys(search.cells)
    attributes = trial_attributes(evaluator, keys, search.summary)
    known: set[Any] = set()
    for place, (cell, key) in enumerate(zip(cell_dicts(search.cells), keys, strict=True)):
        if place % _LOOK_EVERY == 0:
            known.update(trial.user_attrs.get("cell") for trial in study.get_trials(deepcopy=False))
        if key in known:
            continue
        row = search.summary.iloc[place]
        trial = optuna.trial.create_trial(
            params={name: plain_value(value) for name, value in cell.items()},
            distributions=distributions,
            values=objective_values(row, params.objectives),
            user_attrs={"cell": key, **attributes[place]},
            constraints=None if params.max_worse is None else {"max_worse": excess(row, params.max_worse)},
        )
        study.add_trial(trial)
        known.add(key)


def _finish(
    space: Space,
    cells: pd.DataFrame,
    evaluation: Evaluation,
    params: SearchParams,
    study: optuna.Study | None = None,
) -> Search:
    """The summary of what was evaluated, and what of it may be chosen."""
    summary = cells
    if not evaluation.results.empty:
        summary = summarize(evaluation.results, space.names, evaluation.base)
        summary["seconds"] = evaluation.seconds
        limit = math.inf if params.max_worse is None else params.max_worse
        summary["feasible"] = ~(summary["worst_increase"] > limit + 1e-12)
        summary["pareto"] = pareto(summary, params.objectives)
    return Search(
        cells=cells,
        evaluation=evaluation,
        summary=summary,
        study_name=None if study is None else study.study_name,
        storage=params.storage,
        num_trials=0 if study is None else len(finished_trials(study)),
    )


def pareto(summary: pd.DataFrame, objectives: Sequence[str]) -> np.ndarray:
    """Which feasible cells no other feasible cell beats in one objective without losing in another.

    Examples
    --------
    >>> table = pd.DataFrame({"der": [0.1, 0.2, 0.3], "num_speakers_error": [2.0, 1.0, 1.5]})
    >>> pareto(table.assign(feasible=True), ["der", "count_error"])
    array([ True,  True, False])
    """
    values = np.nan_to_num(summary[[OBJECTIVES[name] for name in objectives]].to_numpy(float), nan=np.inf)
    feasible = summary["feasible"].to_numpy(bool)
    front = np.zeros(len(values), dtype=bool)
    for place in np.flatnonzero(feasible):
        others = values[feasible]
        no_worse, better = (others <= values[place]).all(axis=1), (others < values[place]).any(axis=1)
        front[place] = not (no_worse & better).any()
    return front
