"""Searches on the objective that grids have: plain Optuna studies, resumable, under constraints."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from sweep_corpus import make_features, make_reference

from workbench.clustering import AHCParams
from workbench.errors import InputError
from workbench.sweeps.grid import column_of
from workbench.sweeps.run import Common, Evaluator, Recording
from workbench.sweeps.settings import SweepSettings
from workbench.sweeps.store import Store
from workbench.tuning.folder import edges, find_best
from workbench.tuning.lattice import Lattice
from workbench.tuning.search import Search, SearchParams, pareto, run_search
from workbench.tuning.sharing import end_part, take_part
from workbench.tuning.space import Space, distribution_of, nearest_value
from workbench.tuning.studies import create_study, open_storage, this_worker

BASE = SweepSettings(clustering=AHCParams(ahc_threshold=1.2, min_cluster_size=1))
SPECS = ["ahc_threshold=0.3:1.3:11", "min_cluster_size=1,2,5"]


def make_recordings() -> list[Recording]:
    return [
        Recording(uri=uri, features=make_features(uri, seed), reference=make_reference(uri, seed))
        for seed, uri in enumerate(("a", "b", "c"))
    ]


@pytest.fixture
def evaluator(tmp_path):
    with Evaluator(make_recordings(), Common(base=BASE), store=Store(tmp_path / "out"), keep=3) as evaluator:
        yield evaluator


@pytest.fixture
def space() -> Space:
    return Space.parse(SPECS, BASE)


def load(storage: str, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(storage))


def test_a_grid_search_is_the_whole_grid(evaluator, space):
    search = run_search(evaluator, space, SearchParams())
    assert len(search.cells) == len(search.summary) == 33
    best = find_best(search, space)
    assert best.row["der"] == search.summary["der"].min()
    assert best.settings == BASE.replace(**search.cells.iloc[best.place].to_dict())


@pytest.mark.parametrize("storage", ["study.log", "study.db", "sqlite"])
@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_study_is_a_plain_one_with_counts_in_seconds(evaluator, space, tmp_path, storage, sampler):
    path = f"sqlite:///{tmp_path}/other.db" if storage == "sqlite" else str(tmp_path / storage)
    params = SearchParams(sampler=sampler, trials=5, storage=path)
    search = run_search(evaluator, space, params)
    study = load(path, search.study_name)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert len(study.trials) == search.num_trials == (33 if sampler == "grid" else 5)
    by_cell = search.summary.set_index(["ahc_threshold", "min_cluster_size"])["der"]
    for trial in study.trials:
        cell = space.cell(trial.params)
        assert trial.value == by_cell[cell["ahc_threshold"], cell["min_cluster_size"]]
        recordings = trial.user_attrs["recordings"]
        assert set(recordings) == {"a", "b", "c"}
        assert sum(each["missed"] for each in recordings.values()) == pytest.approx(
            trial.user_attrs["missed"]
        )
        errors = sum(each[k] for each in recordings.values() for k in ("missed", "false_alarm", "confusion"))
        assert errors / sum(each["total"] for each in recordings.values()) == pytest.approx(trial.value)
    if sampler == "grid":  # five trials are too few to tell
        importance = optuna.importance.get_param_importances(study)
        assert set(importance) == {"ahc_threshold", "min_cluster_size"}


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_a_sampler_stays_on_the_cells_of_the_grid_and_finds_a_good_one(evaluator, space, sampler):
    grid = run_search(evaluator, space, SearchParams())
    search = run_search(evaluator, space, SearchParams(sampler=sampler, trials=25, seed=1))
    together = search.summary.merge(grid.summary, on=list(space.names))
    assert len(together) == len(search.cells) <= 25
    np.testing.assert_array_equal(together["der_x"], together["der_y"])
    assert search.evaluation.num_computed == 0  # the grid had them
    ranked = grid.summary["der"].sort_values().to_numpy()
    assert find_best(search, space).row["der"] <= ranked[8]


def test_a_study_goes_on_where_it_ended(evaluator, space, tmp_path):
    params = SearchParams(sampler="tpe", trials=6, storage=str(tmp_path / "s.log"))
    first = run_search(evaluator, space, params)
    assert run_search(evaluator, space, params).num_trials == 6  # it has them
    second = run_search(evaluator, space, replace(params, trials=10))
    assert second.study_name == first.study_name
    assert second.num_trials == 10
    pd.testing.assert_frame_equal(second.cells[: len(first.cells)], first.cells)


def test_a_trial_that_a_killed_process_left_running_is_closed(evaluator, space, tmp_path):
    params = SearchParams(sampler="random", trials=2, storage=str(tmp_path / "s.db"))
    first = run_search(evaluator, space, params)
    study = load(params.storage, first.study_name)
    dead, alive = study.ask(), study.ask()
    dead.set_user_attr("worker", f"{os.uname().nodename}:{2**22 + 1}")
    alive.set_user_attr("worker", "elsewhere:1")
    run_search(evaluator, space, replace(params, trials=3))
    states = [trial.state.name for trial in load(params.storage, first.study_name).trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING", "COMPLETE"]


ONE_OF_SEVERAL = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_search import BASE, make_recordings
from workbench.sweeps.run import Common, Evaluator
from workbench.tuning.search import SearchParams, run_search
from workbench.tuning.space import Space
storage, own, other = Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
with Evaluator(make_recordings(), Common(base=BASE)) as evaluator:
    own.touch()
    while not other.exists():  # both make the study at the same moment
        time.sleep(0.001)
    params = SearchParams(sampler="tpe", trials=10, storage=str(storage))
    print(run_search(evaluator, Space.parse(["ahc_threshold=0.3:1.3"], BASE), params).study_name)
"""


@pytest.mark.parametrize("storage", ["study.db", "study.log"])
def test_two_processes_share_one_study(tmp_path, storage):
    path, marks = str(tmp_path / storage), [str(tmp_path / name) for name in ("one", "two")]
    arguments = [sys.executable, "-c", ONE_OF_SEVERAL, str(Path(__file__).parent), path]
    processes = [
        subprocess.Popen([*arguments, *pair], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for pair in (marks, marks[::-1])
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    (name,) = {out.strip() for out, _ in said}
    trials = load(path, name).trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert 10 <= len(trials) <= 11  # together as many as one process would do, or one more
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    by_worker = Counter(trial.user_attrs["worker"].partition("@")[0] for trial in trials)
    assert set(by_worker) == {f"{os.uname().nodename}:{process.pid}" for process in processes}
    assert all(set(trial.user_attrs["recordings"]) == {"a", "b", "c"} for trial in trials)
    # the same seed, and yet nothing is tried twice
    assert len({trial.params["ahc_threshold"] for trial in trials}) >= len(trials) - 1


def whole_grid(tmp_path, name: str, storage: str) -> Search:
    """The grid of `SPECS` into one study, from a folder of its own."""
    with Evaluator(make_recordings(), Common(base=BASE), store=Store(tmp_path / name), keep=3) as evaluator:
        return run_search(evaluator, Space.parse(SPECS, BASE), SearchParams(storage=storage))


@pytest.mark.parametrize("storage", ["study.db", "study.log"])
def test_a_grid_takes_over_what_another_process_has_finished(tmp_path, storage):
    path = str(tmp_path / storage)
    first, second = whole_grid(tmp_path, "one", path), whole_grid(tmp_path, "two", path)
    assert (first.evaluation.num_computed, second.evaluation.num_computed) == (99, 0)
    pd.testing.assert_frame_equal(second.evaluation.results, first.evaluation.results, check_exact=True)
    pd.testing.assert_frame_equal(second.evaluation.base, first.evaluation.base, check_exact=True)
    pd.testing.assert_frame_equal(second.summary, first.summary, check_exact=True)
    assert second.num_trials == len(load(path, first.study_name).trials) == 33
    # what was taken over is in its own folder as well
    with Evaluator(make_recordings(), Common(base=BASE), store=Store(tmp_path / "two")) as evaluator:
        assert run_search(evaluator, Space.parse(SPECS, BASE), SearchParams()).evaluation.num_computed == 0


def test_a_sampler_takes_over_what_another_process_has_finished(tmp_path):
    path = str(tmp_path / "s.log")
    first = whole_grid(tmp_path, "one", path)
    with Evaluator(make_recordings(), Common(base=BASE), keep=3) as evaluator:
        params = SearchParams(sampler="tpe", trials=20, storage=path)  # the study has 33 already
        second = run_search(evaluator, Space.parse(SPECS, BASE), params)
    assert second.evaluation.num_computed == 0
    columns = ["ahc_threshold", "min_cluster_size", "der", "jer"]
    pd.testing.assert_frame_equal(
        second.summary[columns].sort_values(columns, ignore_index=True),
        first.summary[columns].sort_values(columns, ignore_index=True),
        check_exact=True,
    )


def test_a_cell_that_two_grids_have_added_at_once_counts_once(tmp_path):
    path = str(tmp_path / "s.log")
    first = whole_grid(tmp_path, "one", path)
    study = load(path, first.study_name)
    study.add_trial(study.trials[5])
    assert len(study.trials) == 34
    again = whole_grid(tmp_path, "one", path)
    assert (again.num_trials, len(again.summary), len(again.evaluation.results)) == (33, 33, 99)
    assert (again.summary["recordings"] == 3).all()


HALF_OF_A_GRID = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_search import BASE, SPECS, make_recordings
from workbench.sweeps.run import Common, Evaluator
from workbench.sweeps.store import Store
from workbench.tuning.search import SearchParams, run_search
from workbench.tuning.space import Space
storage, own, other = Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
recordings = make_recordings()
with Evaluator(recordings, Common(base=BASE), store=Store(own / "out"), keep=3) as evaluator:
    (own / "ready").touch()
    while not (other / "ready").exists():
        time.sleep(0.001)
    search = run_search(evaluator, Space.parse(SPECS, BASE), SearchParams(storage=str(storage)))
search.evaluation.results.to_parquet(own / "results.parquet")
search.summary.to_parquet(own / "summary.parquet")
print(search.study_name, search.num_trials, search.evaluation.num_computed)
"""


@pytest.mark.parametrize("storage", ["study.db", "study.log"])
def test_two_processes_share_one_grid(tmp_path, storage, evaluator, space):
    path, folders = tmp_path / storage, [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    arguments = [sys.executable, "-c", HALF_OF_A_GRID, str(Path(__file__).parent), str(path)]
    processes = [
        subprocess.Popen(
            [*arguments, *map(str, pair)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for pair in (folders, folders[::-1])
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    names, counts, computed = zip(*(out.split() for out, _ in said), strict=True)
    assert len(set(names)) == 1
    assert set(counts) == {"33"}
    cells = Counter(trial.user_attrs["cell"] for trial in load(str(path), names[0]).trials)
    assert len(cells) == 33
    # 99 rows, those of the base twice at most, and at most one part of three cells done by both at the end
    assert 99 <= sum(map(int, computed)) <= 99 + 3 + 2 * 9
    alone = run_search(evaluator, space, SearchParams())
    for folder in folders:
        for name, table in (("results", alone.evaluation.results), ("summary", alone.summary)):
            pd.testing.assert_frame_equal(
                pd.read_parquet(folder / f"{name}.parquet").drop(columns="seconds", errors="ignore"),
                table.drop(columns="seconds", errors="ignore"),
                check_exact=True,
            )


def test_a_part_that_another_process_is_doing_comes_last(tmp_path):
    study = create_study(str(tmp_path / "s.log"), "grid", 1)
    assert take_part(study, [0, 1, 2]) == 0  # alone: in order
    assert take_part(study, [0, 1, 2]) == 0  # what it does itself is not taken
    study.set_user_attr("grid part of elsewhere:1", 1)
    study.set_user_attr(f"grid part of {os.uname().nodename}:{2**22 + 1}", 2)  # has ended
    assert take_part(study, [1, 2]) == 2
    assert take_part(study, [1]) == 1  # perhaps that process was killed
    end_part(study)
    assert study.user_attrs[f"grid part of {this_worker()}"] is None


def test_a_study_of_other_inputs_is_not_continued(evaluator, space, tmp_path):
    params = SearchParams(sampler="tpe", trials=2, storage=str(tmp_path / "s.log"), study_name="mine")
    run_search(evaluator, space, params)
    others = [Recording(uri="a", features=make_features("a", 9), reference=make_reference("a", 9))]
    with Evaluator(others, Common(base=BASE)) as other, pytest.raises(InputError, match="study 'mine' was"):
        run_search(other, space, params)


def test_the_first_trial_is_the_setting_to_begin_with(evaluator, tmp_path):
    space = Space.parse(["ahc_threshold=0.3:1.3", "min_cluster_size=1:9"], BASE)
    search = run_search(evaluator, space, SearchParams(sampler="tpe", trials=4))
    assert search.cells.iloc[0].to_dict() == {"ahc_threshold": 1.2, "min_cluster_size": 1}
    assert search.cells["ahc_threshold"].between(0.3, 1.3).all()
    assert search.cells["min_cluster_size"].dtype == np.int64


def test_a_small_space_ends_the_search(evaluator):
    space = Space.parse(["min_cluster_size=1,2"], BASE)
    search = run_search(evaluator, space, SearchParams(sampler="tpe", trials=500))
    assert len(search.cells) == 2
    assert search.num_trials < 500


def test_no_recording_may_lose_more_than_the_limit(evaluator, space):
    grid = run_search(evaluator, space, SearchParams(max_worse=0.0))
    results = grid.evaluation.results
    before = grid.evaluation.base.set_index("uri")["der"]
    rise = (results["der"] - results["uri"].map(before)).to_numpy().reshape(3, 33).max(axis=0)
    np.testing.assert_array_equal(grid.summary["feasible"], rise <= 1e-12)
    assert 0 < grid.summary["feasible"].sum() < 33
    best = find_best(grid, space)
    assert best.feasible
    assert best.row["worst_increase"] <= 1e-12
    search = run_search(evaluator, space, SearchParams(sampler="tpe", trials=15, max_worse=0.0))
    assert find_best(search, space).row["worst_increase"] <= 1e-12


def test_constraints_stand_in_the_study(evaluator, space, tmp_path):
    params = SearchParams(sampler="tpe", trials=8, max_worse=0.0, storage=str(tmp_path / "s.log"))
    search = run_search(evaluator, space, params)
    study = load(params.storage, search.study_name)
    feasible = search.summary[search.summary["feasible"]]["der"].min()
    assert study.best_trial.value == feasible
    assert all("max_worse" in trial.constraints for trial in study.trials)


def test_several_objectives_leave_a_front(evaluator, space, tmp_path):
    params = SearchParams(
        sampler="nsga2",
        trials=12,
        objectives=("der", "count_error", "seconds"),
        storage=str(tmp_path / "s.log"),
    )
    search = run_search(evaluator, space, params)
    study = load(params.storage, search.study_name)
    assert study.metric_names == ["der", "count_error", "seconds"]
    assert all(len(trial.values) == 3 and trial.values[2] > 0 for trial in study.trials)
    assert search.summary["pareto"].any()
    two = run_search(evaluator, space, SearchParams(objectives=("count_error", "der")))
    best = find_best(two, space, ("count_error", "der")).row
    assert best["num_speakers_error"] == two.summary["num_speakers_error"].min()


def test_the_front_is_what_no_other_cell_beats():
    table = pd.DataFrame({"der": [0.1, 0.2, 0.2, 0.0, np.nan], "num_speakers_error": [2.0, 1, 1, 0, 0]})
    table["feasible"] = [True, True, True, False, True]
    assert pareto(table, ["der", "count_error"]).tolist() == [True, True, True, False, True]


def test_equals_are_decided_by_what_changes_least(evaluator, space):
    search = run_search(evaluator, space, SearchParams())
    tied = replace(search, summary=search.summary.assign(der=0.1))
    best = find_best(tied, space)
    assert best.ties == 32
    assert best.settings == BASE


def test_the_edge_of_a_grid_is_noticed():
    cells = pd.DataFrame({"Fa": [0.1, 0.2, 0.3], "Fb": [1.0, 1.0, 2.0], "linkage": ["a", "b", "c"]})
    assert edges(cells, 0) == ("Fa",)  # two values of Fb say nothing about beyond
    assert edges(cells, 1) == ()
    assert edges(cells, 0, [1]) == ()  # one that is as good lies inside
    lattice = Lattice.of(cells[["Fa"]])
    assert lattice.edges(0) == ["Fa = 0.1 is the lowest value tried"]
    assert lattice.edges(0, [1]) == []


@pytest.mark.parametrize(
    ("name", "values", "on_edge"),
    [
        ("num_speakers_forced", [1, 3, None], []),  # unset is no end, and leaves two numbers
        ("lda_dim", [16, 32, 64, None], [0, 2]),
        ("max_speakers", [1, 2, 3, None], [2]),
        ("loop_prob", [0.5, 0.9, 1.0], [0]),
        ("onset", [0.3, 0.5, 1.0], [0]),
    ],
)
def test_no_grid_is_widened_beyond_what_a_parameter_can_be(name, values, on_edge):
    cells = pd.DataFrame({name: column_of(name, values)})
    everywhere = range(len(values))
    assert [place for place in everywhere if edges(cells, place)] == on_edge
    lattice = Lattice.of(cells)
    assert [place for place in everywhere if lattice.edges(place)] == on_edge


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((0.4, 0.5, 0.6, 0.7), "FloatDistribution"),
        (tuple(float(f"{v:.12g}") for v in np.linspace(0.4, 0.9, 13)), "FloatDistribution"),
        ((1, 2, 3), "IntDistribution"),
        ((5, 10, 15, 20), "IntDistribution"),
        ((0.1, 1.0, 10.0), "CategoricalDistribution"),
        ((0.1, 0.2), "CategoricalDistribution"),
        ((None, 32, 64), "CategoricalDistribution"),
        (("ahc", "vbx"), "CategoricalDistribution"),
        ((3.0, 2.0, 1.0), "CategoricalDistribution"),
    ],
)
def test_evenly_spaced_numbers_are_ordered_for_the_sampler(values, kind):
    distribution = distribution_of(values)
    assert type(distribution).__name__ == kind
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {nearest_value(values, study.ask({"x": distribution}).params["x"]) for _ in range(200)}
    assert drawn == set(values)


def test_intervals_belong_to_samplers(evaluator):
    space = Space.parse(["ahc_threshold=0.3:1.3"], BASE)
    assert space.size == math.inf
    with pytest.raises(InputError, match=r"ahc_threshold=0.3:1.3 is an interval"):
        run_search(evaluator, space, SearchParams())
    with pytest.raises(InputError, match="low below high"):
        Space.parse(["ahc_threshold=1.3:0.3"], BASE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "tep"}, "did you mean 'tpe'"),
        ({"objectives": ("dre",)}, "did you mean 'der'"),
        ({"objectives": ("der", "der")}, "each once"),
        ({"trials": 0}, "at least 1"),
        ({"max_worse": -0.1}, "at least 0"),
        ({"sampler": "cmaes", "objectives": ("der", "seconds")}, "one objective"),
    ],
)
def test_impossible_searches_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SearchParams(**options)


@pytest.mark.parametrize("storage", ["study.txt", "nosuch://host/db", "sqlite:////no/such/folder/s.db"])
def test_a_storage_that_cannot_be_used_is_named(evaluator, space, storage):
    with pytest.raises(InputError, match="storage"):
        run_search(evaluator, space, SearchParams(sampler="tpe", storage=storage))


def test_cmaes_runs_where_its_package_is(evaluator):
    options = {"sampler": "cmaes", "trials": 4}
    try:
        import cmaes  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="needs the package cmaes"):
            SearchParams(**options)
        return
    space = Space.parse(["ahc_threshold=0.3:1.3"], BASE)
    assert run_search(evaluator, space, SearchParams(**options)).num_trials == 4
