"""A cell as a trial of an Optuna study, and back.

Objectives are the values of a trial; what every recording contributed are its user attributes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.sweeps.run import Evaluator
from workbench.sweeps.summary import COUNTS
from workbench.tuning.sharing import plain_rows
from workbench.tuning.space import Space
from workbench.tuning.studies import is_dead

if TYPE_CHECKING:
    import optuna

OBJECTIVES = {
    "der": "der",
    "jer": "jer",
    "count_error": "num_speakers_error",
    "worst_der": "worst_der",
    "seconds": "seconds",
}
"""What can be minimized -> column of the summary."""

_TRIES = 3  # of parameters whose process ended each time: they may be what ends it


def objective_values(row: pd.Series, objectives: Sequence[str]) -> list[float]:
    """What is minimized; infinity for a DER without reference speech, which no study could order."""
    values = [float(row[OBJECTIVES[name]]) for name in objectives]
    return [math.inf if math.isnan(value) else value for value in values]


def excess(row: pd.Series, max_worse: float) -> float:
    """How far the worst recording is beyond the limit; at most 0 where all keep it."""
    worst = float(row["worst_increase"])
    return -max_worse if math.isnan(worst) else worst - max_worse


def trial_attributes(
    evaluator: Evaluator, keys: Sequence[str], summary: pd.DataFrame
) -> list[dict[str, Any]]:
    """User attributes of the trials of some cells: all that is known of every recording, and sums.

    Parameters
    ----------
    keys : of the cells
    summary : their rows
    """
    rows = {uri: plain_rows(table) for uri, table in evaluator.rows(keys).items()}
    return [
        {
            "recordings": {uri: found[place] for uri, found in rows.items()},
            **{name: float(row[name]) for name in COUNTS},
            "jer": float(row["jer"]),
            "num_speakers_error": float(row["num_speakers_error"]),
            "not_converged": int(row["not_converged"]),
        }
        for place, row in enumerate(summary.to_dict("records"))
    ]


def finished_trials(study: optuna.Study) -> list[Any]:
    """The finished trials.

    Two grid searches can add the same cell at the same moment: that counts once. A sampler that tries a cell
    again has done so, in a trial of its own.
    """
    from optuna.trial import TrialState

    seen: set[Any] = set()
    kept = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        key = trial.user_attrs.get("cell")
        if key is None or key not in seen or "worker" in trial.user_attrs:
            kept.append(trial)
        seen.add(key)
    return kept


def cells_of(study: optuna.Study, space: Space) -> pd.DataFrame:
    """The distinct cells of all finished trials, in their order; trials of other parameters are left out."""
    cells: dict[str, dict[str, Any]] = {}
    for trial in finished_trials(study):
        if set(trial.params) == set(space.names):
            cells.setdefault(str(trial.user_attrs.get("cell")), space.cell(trial.params))
    return space.table(cells.values())


def has_failed(trial: Any) -> bool:
    """Whether a trial failed for a reason that it names, and not only because its process ended."""
    return trial.state.name == "FAIL" and "error" in trial.user_attrs


def cut_off(study: optuna.Study, space: Space) -> tuple[list[dict[str, Any]], int]:
    """Parameters that were suggested and never finished, since a process was stopped or killed.

    Returns
    -------
    again : those that nobody has tried since, nor is about to
    num_given_up : how many others have ended their process as often as they may
    """
    ended: dict[tuple[Any, ...], list[Any]] = {}
    taken = set()
    for trial in study.get_trials(deepcopy=False):
        params = _params_of(trial)
        if set(params) != set(space.names):
            continue
        key = tuple(params[name] for name in space.names)
        if trial.state.name != "FAIL" or has_failed(trial):
            taken.add(key)
        elif "worker" in trial.user_attrs:
            ended.setdefault(key, []).append(params)
    left = [params for key, params in ended.items() if key not in taken]
    again = [params[0] for params in left if len(params) < _TRIES]
    return again, len(left) - len(again)


def num_answered(study: optuna.Study, space: Space) -> int:
    """How many suggestions have been dealt with: the same after a search was killed and taken up again."""
    failed = sum(has_failed(trial) for trial in study.get_trials(deepcopy=False))
    return len(finished_trials(study)) + failed + cut_off(study, space)[1]


def has_cell(study: optuna.Study, space: Space, cell: dict[str, Any]) -> bool:
    """Whether a trial of a cell is finished, under way or to come."""
    for trial in study.get_trials(deepcopy=False):
        params, state = _params_of(trial), trial.state.name
        if set(params) != set(space.names) or space.cell(params) != cell:
            continue
        worker = str(trial.user_attrs.get("worker", ""))
        if state in ("COMPLETE", "WAITING") or (state == "RUNNING" and worker and not is_dead(worker)):
            return True
    return False


def _params_of(trial: Any) -> dict[str, Any]:
    """What a trial tries, or is to try once it has been taken up."""
    return dict(trial.params or trial.system_attrs.get("fixed_params", {}))


def plain_value(value: Any) -> Any:
    """A value of a table as Optuna takes it."""
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value
