"""Studies that are interrupted: by a recording that fails, a process that is killed, a file cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from test_search import BASE, SPECS, load, make_recordings

from workbench.errors import InputError
from workbench.features import save_features
from workbench.sweeps.run import Common, Evaluator
from workbench.tuning.journal import WholeLines
from workbench.tuning.search import Search, SearchParams, run_search
from workbench.tuning.space import Space
from workbench.tuning.studies import create_study, is_dead, is_here, open_storage, this_worker

HOST = os.uname().nodename
DEAD = f"{HOST}:{2**22 + 1}@17"  # beyond the largest number of a process
INTERVALS = ["ahc_threshold=0.3:1.3", "min_cluster_size=1:9"]


def quiet(_line: str) -> None:
    """For what need not be said."""


@contextmanager
def opened() -> Iterator[Evaluator]:
    with Evaluator(make_recordings(), Common(base=BASE), keep=3) as evaluator:
        yield evaluator


def look(params: SearchParams, specs: list[str] = INTERVALS) -> Search:
    with opened() as evaluator:
        return run_search(evaluator, Space.parse(specs, BASE), params)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def losing(evaluator: Evaluator, after: int) -> Callable[[int, int], None]:
    """For `on_trial`: recording b fails after so many trials."""

    def on_trial(done: int, _total: int) -> None:
        if done == after:
            evaluator.failed["b"] = "its worker ended"

    return on_trial


def test_a_recording_that_fails_midway_ends_the_search_and_a_rerun_goes_on(tmp_path):
    params = SearchParams(sampler="tpe", trials=6, storage=str(tmp_path / "s.log"))
    space, said = Space.parse(INTERVALS, BASE), []
    with opened() as evaluator:
        first = run_search(evaluator, space, params, on_trial=losing(evaluator, 3), say=said.append)
    study = load(params.storage, first.study_name)
    assert states(study) == ["COMPLETE"] * 3 + ["FAIL"]
    assert study.trials[3].user_attrs["error"] == "b: its worker ended"
    assert len(said) == 1
    assert said[0].startswith("the search stopped after 3 of 6 trials, since b failed")
    assert first.evaluation.failed == [{"uri": "b", "error": "its worker ended"}]
    # what was finished before is over all recordings, in the table as in the study
    assert first.evaluation.results.groupby("uri").size().to_dict() == {"a": 3, "b": 3, "c": 3}
    assert first.summary["der"].tolist() == [trial.value for trial in study.trials[:3]]

    second = look(params)
    study = load(params.storage, second.study_name)
    assert second.study_name == first.study_name
    assert states(study) == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 3
    assert all(len(trial.user_attrs["recordings"]) == 3 for trial in study.trials if trial.values)
    assert study.best_trial.value == second.summary["der"].min()
    assert second.evaluation.failed == []


def test_a_search_that_loses_a_recording_in_its_first_trial_has_tried_nothing(tmp_path, monkeypatch):
    params = SearchParams(sampler="random", trials=3, storage=str(tmp_path / "s.log"))
    evaluate = Evaluator.evaluate

    def lose(self, cells, **kwargs):
        if len(self.known("a")):  # the base parameters have been tried
            self.failed["b"] = "its worker ended"
        return evaluate(self, cells, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", lose)
        search = look(params)
    assert states(load(params.storage, search.study_name)) == ["FAIL"]
    assert search.evaluation.results.empty
    assert search.summary.empty
    assert [each["uri"] for each in search.evaluation.failed] == ["b"]
    assert look(params).num_trials == 3


def test_a_recording_that_fails_at_once_is_in_no_trial_of_the_study(tmp_path):
    recordings = make_recordings()
    half = recordings[1].features.segmentations.copy()
    half[0, 0, 0] = 0.5
    save_features(tmp_path / "b.npz", replace(recordings[1].features, segmentations=half))
    broken = replace(recordings[1], features=tmp_path / "b.npz")  # noticed when it is read
    params = SearchParams(sampler="tpe", trials=3, storage=str(tmp_path / "s.log"))
    space, said = Space.parse(INTERVALS, BASE), []

    def with_b(b):
        with Evaluator([recordings[0], b, recordings[2]], Common(base=BASE)) as evaluator:
            return run_search(evaluator, space, params, say=said.append)

    first = with_b(broken)
    assert said == ["the search leaves out b, and all of its trials are over the recordings left"]
    assert [each["uri"] for each in first.evaluation.failed] == ["b"]
    trials = load(params.storage, first.study_name).trials
    assert [set(trial.user_attrs["recordings"]) for trial in trials] == [{"a", "c"}] * 3
    assert with_b(broken).num_trials == 3  # the same study
    whole = with_b(recordings[1])
    assert whole.study_name != first.study_name
    trials = load(params.storage, whole.study_name).trials
    assert [set(trial.user_attrs["recordings"]) for trial in trials] == [{"a", "b", "c"}] * 3


def test_a_shared_grid_that_loses_a_recording_tells_the_study_nothing_partial(tmp_path):
    params = SearchParams(storage=str(tmp_path / "s.log"))
    space, said, parts = Space.parse(SPECS, BASE), [], []
    with opened() as evaluator:

        def progress(uri: str, done: int, total: int) -> None:
            parts.append(uri)
            if len(parts) == 10:
                evaluator.failed["b"] = "its worker ended"

        first = run_search(evaluator, space, params, progress=progress, say=said.append)
    study = load(params.storage, first.study_name)
    assert 0 < len(study.trials) < 33
    assert all(len(trial.user_attrs["recordings"]) == 3 for trial in study.trials)
    assert "gets no more cells, since b failed" in said[0]
    assert first.evaluation.results.groupby("uri").size().to_dict() == {"a": 33, "c": 33}
    assert [each["uri"] for each in first.evaluation.failed] == ["b"]
    second = look(params, SPECS)
    assert len(load(params.storage, second.study_name).trials) == 33


class Killed(BaseException):
    """In the place of SIGKILL: what comes after it is not carried out."""


def killed_in(monkeypatch: pytest.MonkeyPatch, params: SearchParams, trial: int) -> None:
    """A search that is killed while it evaluates a trial: nothing is told, and no goodbye said."""
    evaluate, tell, calls = Evaluator.evaluate, optuna.Study.tell, []

    def stop(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == trial + 2:  # the base parameters come first
            raise Killed
        return evaluate(self, *args, **kwargs)

    def tell_if_alive(self, *args, **kwargs):
        return tell(self, *args, **kwargs) if len(calls) < trial + 2 else None

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", stop)
        patch.setattr(optuna.Study, "tell", tell_if_alive)
        patch.setattr("workbench.tuning.search.end_sampling", lambda study: None)
        for module in ("sampling", "sharing", "studies"):
            patch.setattr(f"workbench.tuning.{module}.this_worker", lambda: DEAD)
        with pytest.raises(Killed):
            look(params)


@pytest.mark.parametrize("storage", ["s.log", "s.db"])
def test_a_search_killed_in_its_first_trial_still_tries_the_setting_to_begin_with(
    tmp_path, monkeypatch, storage
):
    params = SearchParams(sampler="tpe", trials=3, storage=str(tmp_path / storage))
    killed_in(monkeypatch, params, 0)
    search = look(params)
    assert search.cells.iloc[0].to_dict() == {"ahc_threshold": 1.2, "min_cluster_size": 1}
    assert states(load(params.storage, search.study_name)) == ["FAIL"] + ["COMPLETE"] * 3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_killed_twice_finds_what_an_undisturbed_one_does(tmp_path, monkeypatch, sampler):
    # the second time, beyond the ten random trials that tpe begins with
    params = SearchParams(sampler=sampler, trials=16, seed=3, storage=str(tmp_path / "killed.log"))
    killed_in(monkeypatch, params, 4)
    killed_in(monkeypatch, params, 9)
    resumed = look(params)
    undisturbed = look(replace(params, storage=str(tmp_path / "whole.log")))
    assert states(load(params.storage, resumed.study_name)).count("FAIL") == 2
    pd.testing.assert_frame_equal(resumed.cells, undisturbed.cells, check_exact=True)
    columns = resumed.summary.columns.drop("seconds")
    pd.testing.assert_frame_equal(resumed.summary[columns], undisturbed.summary[columns], check_exact=True)


def test_neighbouring_seeds_draw_different_cells():
    cells = [
        look(SearchParams(sampler="random", trials=5, seed=seed), ["ahc_threshold=0.3:1.1"]).cells
        for seed in (0, 1)
    ]
    assert not set(cells[0]["ahc_threshold"]) & set(cells[1]["ahc_threshold"])


def test_what_ends_every_process_that_tries_it_is_given_up(tmp_path):
    params = SearchParams(sampler="random", trials=1, storage=str(tmp_path / "s.log"))
    space = Space.parse(INTERVALS, BASE)
    study = load(params.storage, look(params).study_name)
    deadly = {"ahc_threshold": 0.7, "min_cluster_size": 4}
    for num_tries in (1, 2, 3):
        if num_tries == 1:
            study.enqueue_trial(deadly)
        trial = study.ask(space.distributions())
        assert trial.params == deadly
        trial.set_user_attr("worker", DEAD)
        look(params)  # releases it, and has nothing else to do
        waiting = load(params.storage, study.study_name).get_trials(states=(optuna.trial.TrialState.WAITING,))
        assert len(waiting) == (num_tries < 3)
    assert look(replace(params, trials=2)).num_trials == 2


def test_a_trial_of_a_process_killed_while_it_asked_is_closed(tmp_path):
    params = SearchParams(sampler="random", trials=2, storage=str(tmp_path / "s.log"))
    study = load(params.storage, look(params).study_name)
    study.ask()
    look(replace(params, trials=3))
    assert states(study) == ["COMPLETE", "COMPLETE", "RUNNING", "COMPLETE"]  # perhaps of another program
    study.set_user_attr(f"sampling: {DEAD}", True)
    look(replace(params, trials=4))
    assert states(study) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_the_number_of_a_process_that_is_given_out_again_is_no_life():
    assert is_here(this_worker())
    host_and_number, _, began = this_worker().partition("@")
    assert is_here(host_and_number)  # as older studies have it
    assert is_dead(f"{host_and_number}@{int(began) + 1}")
    assert is_dead(f"{HOST}:1@0")
    assert is_dead(DEAD)
    assert not is_dead("elsewhere:1@17")


def test_a_process_that_nobody_has_asked_after_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_here(f"{HOST}:{process.pid}")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table
    assert is_dead(f"{HOST}:{process.pid}")
    process.communicate()


def make_journal(tmp_path: Path) -> tuple[Path, str]:
    """A journal with a study of two trials, and what is in it."""
    path = tmp_path / "s.log"
    study = create_study(str(path), "mine", 1)
    for value in (0.5, 0.25):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), value)
    return path, path.read_text()


@pytest.mark.parametrize("lost", [1, 40])
def test_a_journal_that_ends_within_a_line_goes_on_from_its_whole_lines(tmp_path, lost):
    path, text = make_journal(tmp_path)
    cut = text[:-lost]
    path.write_text(cut)
    said: list[str] = []
    study = create_study(str(path), "mine", 1, said.append)
    whole = cut[: cut.rindex("\n") + 1]
    assert path.read_text().startswith(whole)
    assert said == [
        f"{path}: cut {len(cut) - len(whole)} bytes off the end, a line that was never written in full"
    ]
    study.tell(study.ask(), 0.125)
    assert load(str(path), "mine").best_value == 0.125


def test_a_line_that_found_no_room_does_not_spoil_the_next(tmp_path):
    path, text = make_journal(tmp_path)
    study = load(str(path), "mine")
    with path.open("a") as file:
        file.write('{"op_code":4,"worker')  # by another process, while this one goes on
    study.tell(study.ask(), 0.125)
    assert path.read_text().startswith(text + "{")
    assert load(str(path), "mine").best_value == 0.125


def test_what_is_wrong_within_a_journal_is_named_by_its_line(tmp_path):
    path, text = make_journal(tmp_path)
    lines = text.splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "\0\0\n", *lines[3:]]))
    with pytest.raises(InputError, match=r"s\.log:3: expected an entry of an Optuna journal"):
        create_study(str(path), "mine", 1)


@pytest.mark.parametrize(
    "text", ["a log of something else", "one line\nanother", '{"time": 1}\n{"ti', "[1]\n"]
)
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, text):
    path = tmp_path / "s.log"
    path.write_text(text)
    with pytest.raises(InputError, match=r"s\.log.*journal"):
        create_study(str(path), "mine", 1)
    assert path.read_text() == text


def test_the_lock_of_a_process_that_is_gone_holds_nobody_up(tmp_path, monkeypatch):
    path, _ = make_journal(tmp_path)
    path.with_name("s.log.lock").symlink_to(path)  # Optuna's own, which would be waited for
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits"))
    study = create_study(str(path), "mine", 1)
    study.tell(study.ask(), 0.125)
    assert open_storage(str(path)).get_best_trial(0).value == 0.125


HOLDER = """
import sys
from pathlib import Path
from workbench.tuning.journal import WholeLines
lock = WholeLines(Path(sys.argv[1]), print)
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_only_one_process_holds_a_journal_until_it_ends(tmp_path):
    import fcntl

    path, _ = make_journal(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.kill()
    process.communicate()
    lock = WholeLines(path, quiet)
    assert lock.acquire()
    lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
