"""Trials of an Optuna sampler: asked for, evaluated and told, by as many processes as there are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import InputError
from workbench.sweeps.run import Evaluator
from workbench.sweeps.store import digest_settings
from workbench.sweeps.summary import summarize
from workbench.tuning.sharing import begin_sampling
from workbench.tuning.space import Space
from workbench.tuning.studies import experimental, find_others, is_here, this_worker
from workbench.tuning.trials import (
    cut_off,
    excess,
    finished_trials,
    has_cell,
    num_answered,
    objective_values,
    trial_attributes,
)

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler

    from workbench.tuning.search import SearchParams

_MOST_IDLE = 200  # trials in a row that bring no new cell: the sampler has nothing more to say


def sample(
    study: optuna.Study,
    evaluator: Evaluator,
    space: Space,
    params: SearchParams,
    on_trial: Callable[[int, int], None] | None,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Ask, evaluate and tell until the study has its trials or every cell has been tried.

    Several processes may do so on one study at once: together, they do as many trials as one would, or
    at most one more each.

    Returns
    -------
    lost : recordings that failed, and so ended it -> reason
    """
    from optuna.trial import TrialState

    recordings = set(evaluator.alive)
    alone, idle = begin_sampling(study), 0
    owes_base = _enqueue_owed(study, space)
    distributions = space.distributions()
    while idle < _MOST_IDLE:
        # asked again every time: other processes may be working on the same study
        finished = finished_trials(study)
        tried = {trial.user_attrs.get("cell") for trial in finished}
        others = find_others(study)
        here = sum(is_here(worker) for worker in others)  # will be finished, or released by who comes next
        enough = len(finished) + here >= params.trials or len(tried) >= space.size
        if enough and not owes_base:
            return {}
        owes_base = False  # first in the queue
        alone = alone and not others
        study.sampler = make_sampler(params, num_answered(study, space), "" if alone else this_worker())
        trial = study.ask(distributions)
        trial.set_user_attr("worker", this_worker())
        cell = space.cell(trial.params)
        try:
            key = digest_settings(space.base.replace(**cell))
        except InputError as error:  # values that exclude one another
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=TrialState.FAIL)
            idle += 1
            continue
        try:
            evaluation = evaluator.evaluate(space.table([cell]), with_base=params.max_worse is not None)
        except BaseException:
            with suppress(Exception):  # whatever it was that failed, perhaps the storage: that is the news
                study.tell(trial, state=TrialState.FAIL)
            raise
        lost = {uri: evaluator.failed[uri] for uri in evaluator.failed if uri in recordings}
        if lost:
            _lose(study, trial, lost, f"{min(len(finished), params.trials)} of {params.trials} trials", say)
            return lost
        base = evaluation.base if params.max_worse is not None else None
        row = summarize(evaluation.results, space.names, base).assign(seconds=evaluation.seconds).iloc[0]
        trial.set_user_attr("cell", key)
        for name, value in trial_attributes(evaluator, [key], row.to_frame().T)[0].items():
            trial.set_user_attr(name, value)
        if params.max_worse is not None:
            trial.set_constraint("max_worse", excess(row, params.max_worse))
        study.tell(trial, objective_values(row, params.objectives))
        idle = idle + 1 if key in tried else 0
        if on_trial is not None:
            on_trial(min(len(finished) + 1, params.trials), params.trials)
    return {}


def make_sampler(params: SearchParams, answered: int = 0, worker: str = "") -> BaseSampler:
    """Optuna's sampler for the next trial.

    What it draws depends on the seed, on how many suggestions have been answered, on the study's values
    and, beside other processes, on who draws: they would draw the same.
    """
    from optuna import samplers

    # mixed, not added: seed 1 would draw what seed 0 draws a trial later
    sequence = np.random.SeedSequence([params.seed, answered, *worker.encode()])
    seed = int(sequence.generate_state(1)[0])
    if params.sampler == "tpe":
        with experimental():
            # constant_liar: keeps away from what other processes are trying at the moment
            return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    if params.sampler == "cmaes":
        return samplers.CmaEsSampler(seed=seed)
    if params.sampler == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=min(50, max(4, params.trials // 4)))
    return samplers.RandomSampler(seed=seed)


def _lose(
    study: optuna.Study, trial: optuna.Trial, lost: dict[str, str], done: str, say: Callable[[str], None]
) -> None:
    """End a trial that not all recordings have a part in: its value would not compare with the others'."""
    from optuna.trial import TrialState

    trial.set_user_attr("error", "; ".join(f"{uri}: {error}" for uri, error in lost.items()))
    study.tell(trial, state=TrialState.FAIL)
    say(
        f"the search stopped after {done}, since {', '.join(lost)} failed and trials over fewer recordings "
        "would not compare with the others; the same command goes on from there"
    )


def _enqueue_owed(study: optuna.Study, space: Space) -> bool:
    """Queue what is to be tried before anything new; whether the base parameters are the first of it.

    These belong to every search that may choose them. What a killed process was trying comes next.
    """
    base_cell = space.base_cell()
    owes_base = base_cell is not None and not has_cell(study, space, base_cell)
    if base_cell is not None and owes_base:
        study.enqueue_trial(base_cell)
    for cell in cut_off(study, space)[0]:
        study.enqueue_trial(cell)
    return owes_base
