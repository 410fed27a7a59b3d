"""What several processes that work on one Optuna study need not compute twice: rows, and parts of a grid."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.sweeps.outcome import RESULT_COLUMNS
from workbench.sweeps.run import Evaluator
from workbench.tuning.studies import is_dead, release_dead, this_worker

if TYPE_CHECKING:
    import optuna

_COLUMNS: Mapping[str, Any] = {**RESULT_COLUMNS, "seconds": np.float64}
_PARTS, _LARGEST_PART = 16, 500  # parts of a grid, and cells of a part: what may be computed twice
_AT_WORK = "grid part of "  # attribute of a study: what a process is doing
_SAMPLING = "sampling: "  # attribute of a study: that a process is asking for trials


def plain_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `Evaluator.rows` as JSON has them: None for what is not a number."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in rows[list(_COLUMNS)].to_dict("records")
    ]


def adopt_finished(study: optuna.Study, evaluator: Evaluator) -> None:
    """Take the rows of all finished trials over, whoever computed them."""
    from optuna.trial import TrialState

    finished: dict[str, dict[str, dict[str, Any]]] = {
        trial.user_attrs["cell"]: trial.user_attrs.get("recordings", {})
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if "cell" in trial.user_attrs
    }
    found = {}
    for uri in evaluator.ingredients:
        new = finished.keys() - evaluator.known(uri)
        rows = {key: finished[key][uri] for key in finished if key in new and uri in finished[key]}
        found[uri] = _typed({key: row for key, row in rows.items() if row.keys() >= _COLUMNS.keys()})
    evaluator.adopt(found)


def parts_of(num_cells: int) -> list[np.ndarray]:
    """Places of the cells of every part of a grid, the same for every process."""
    count = min(num_cells, max(_PARTS, -(-num_cells // _LARGEST_PART)))
    return np.array_split(np.arange(num_cells), max(count, 1))


def take_part(study: optuna.Study, left: Sequence[int]) -> int:
    """One of the parts that are left, and of these one that no other process is doing, if there is any.

    A part that is said to be under way elsewhere comes last, but it does come: a process on another machine
    that was killed still seems to work on it.
    """
    for _ in left:
        taken = _taken(study)
        free = [part for part in left if part not in taken]
        if not free:
            break
        # in order if alone; beside others, everyone has a place of its own to look first
        part = free[zlib.crc32(this_worker().encode()) % len(free) if taken else 0]
        study.set_user_attr(f"{_AT_WORK}{this_worker()}", part)
        if part not in _taken(study):  # of two that said so at once, at least one sees the other
            return part
    return left[-1]


def end_part(study: optuna.Study) -> None:
    """Say that this process is doing none."""
    study.set_user_attr(f"{_AT_WORK}{this_worker()}", None)


def begin_sampling(study: optuna.Study) -> bool:
    """Say that this process asks for trials; whether no other one does, as far as can be told.

    Of two that begin at once, at least one sees the other. What killed ones left running is closed.
    """
    from optuna.trial import TrialState

    # looked up first: who asked for these has said so before, and is seen below if it is alive
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    study.set_user_attr(f"{_SAMPLING}{this_worker()}", True)
    said = {name: on for name, on in study.user_attrs.items() if name.startswith(_SAMPLING)}
    others = {name.removeprefix(_SAMPLING) for name, on in said.items() if on} - {this_worker()}
    killed = {worker for worker in others if is_dead(worker)}
    # a process that is killed while it asks leaves a trial without a name
    unnamed = {trial.number for trial in running if "worker" not in trial.user_attrs}
    release_dead(study, unnamed if killed and killed == others else ())
    for worker in killed:
        study.set_user_attr(f"{_SAMPLING}{worker}", False)
    return killed == others


def end_sampling(study: optuna.Study) -> None:
    """Say that this process asks for no more trials."""
    study.set_user_attr(f"{_SAMPLING}{this_worker()}", False)


def _taken(study: optuna.Study) -> set[int]:
    """Parts that other processes are doing, as far as can be told."""
    doing = {
        name.removeprefix(_AT_WORK): part
        for name, part in study.user_attrs.items()
        if name.startswith(_AT_WORK) and part is not None
    }
    return {part for worker, part in doing.items() if worker != this_worker() and not is_dead(worker)}


def _typed(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Rows by key, out of JSON."""
    columns = {
        name: np.array([np.nan if row[name] is None else row[name] for row in rows.values()], dtype=dtype)
        for name, dtype in _COLUMNS.items()
    }
    return pd.DataFrame(columns, index=pd.Index(list(rows), dtype=object, name="cell"))
