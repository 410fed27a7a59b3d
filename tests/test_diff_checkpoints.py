"""Which tensors differ, by how much, worst first; whatever holds weights can be compared."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from command import run
from experiments import make_experiment

from workbench.checkpoints.difference import diff_checkpoints, diff_states, load_weights
from workbench.errors import InputError


def rows_of(difference):
    return {row["tensor"]: row for row in difference.table.to_dict("records")}


def test_figures_are_those_of_the_arithmetic():
    a = {"w": torch.tensor([3.0, 4.0, 0.0, 0.0])}
    b = {"w": torch.tensor([3.0, 0.0, 0.0, 0.0])}
    row = rows_of(diff_states(a, b))["w"]
    assert row["status"] == "values differ"
    assert row["max_abs"] == 4
    assert row["relative"] == pytest.approx(0.8)
    assert row["cosine"] == pytest.approx(0.6)
    assert row["fraction_changed"] == 0.25


def test_rows_come_by_damage():
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(50, generator=rng)
    a = {"same": base, "little": base, "much": base, "half": base.half().float(), "gone": base, "shape": base}
    b = {
        "same": base.clone(),
        "little": base * 1.001,
        "much": base * 2,
        "half": base.half(),
        "new": base,
        "shape": base[:40],
    }
    difference = diff_states(a, b)
    assert list(difference.table["tensor"]) == ["gone", "new", "shape", "much", "little", "half", "same"]
    assert difference.counts() == {
        "only in A": 1,
        "only in B": 1,
        "shape differs": 1,
        "values differ": 2,
        "dtype differs": 1,
        "identical": 1,
    }
    assert difference.num_identical == 1
    assert difference.max_abs == float("inf")


def test_a_checkpoint_equals_itself_nan_and_all():
    state = {
        "w": torch.tensor([1.0, float("nan"), float("inf")]),
        "n": torch.tensor(3),
        "e": torch.zeros(0, 4),
    }
    difference = diff_states(state, {key: value.clone() for key, value in state.items()})
    assert difference.identical
    assert difference.max_abs == 0


def test_nan_on_one_side_is_the_worst_change():
    a = {"w": torch.ones(3), "v": torch.ones(3)}
    b = {"w": torch.tensor([1.0, 1.0, float("nan")]), "v": torch.ones(3) * 5}
    difference = diff_states(a, b)
    assert list(difference.table["tensor"]) == ["w", "v"]
    assert difference.max_abs == float("inf")


def test_from_zero_the_relative_change_is_infinite():
    row = rows_of(diff_states({"b": torch.zeros(2)}, {"b": torch.ones(2)}))["b"]
    assert row["relative"] == float("inf")
    assert np.isnan(row["cosine"])


def test_a_tensor_that_claims_more_than_its_file_holds_is_not_expanded():
    huge = torch.zeros(1).expand(10**12)
    assert diff_states({"w": huge}, {"w": huge}).counts() == {"cannot be compared": 1}


@pytest.fixture(scope="module")
def experiment(tiny_hub, tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("training") / "exp", tiny_hub)


def test_everything_that_holds_weights_can_be_named(experiment, tiny_hub):
    hub = load_weights(tiny_hub)
    for name in (
        experiment,
        f"{experiment}@epoch_0003",
        f"torch:{experiment}@best",
        experiment / "checkpoints" / "best" / "pytorch_model.bin",
    ):
        assert diff_states(hub, load_weights(name)).identical
    assert any(key.startswith("resnet.") for key in load_weights(tiny_hub / "embedding"))


def test_an_average_is_the_mean_of_its_members(experiment):
    states = [load_weights(f"{experiment}@epoch_{epoch:04d}") for epoch in (3, 2)]
    mean = {
        key: (value + states[1][key]) / 2 if value.is_floating_point() else value
        for key, value in states[0].items()
    }
    assert diff_states(load_weights(f"{experiment}@avg:2"), mean).max_abs < 1e-7


@pytest.mark.golden
def test_the_recorded_checkpoints_can_be_compared(golden):
    folder = golden / "fbank_conformer_tiny"
    difference = diff_checkpoints(f"{folder}@epoch_0001", f"{folder}@epoch_0002")
    assert "only in A" not in difference.counts()
    assert difference.counts()["values differ"] > 50


def test_code_inside_a_file_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("this must not run",))

    with (tmp_path / "bad.bin").open("wb") as file:
        pickle.dump(Hostile(), file)
    with pytest.raises(InputError, match=r"bad\.bin"):
        load_weights(tmp_path / "bad.bin")


@pytest.mark.parametrize("name", ["nothing", ".", "x.txt", "x.txt@best"])
def test_what_holds_no_weights_is_an_input_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("no weights")
    with pytest.raises(InputError):
        load_weights(name)


def test_epochs_of_different_shapes_are_not_averaged(experiment, tiny_hub, tmp_path):
    other = make_experiment(tmp_path / "exp", tiny_hub)
    torch.save({"w": torch.ones(3)}, other / "checkpoints" / "epoch_0002" / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be averaged"):
        load_weights(f"{other}@avg:2")


def test_the_command_shows_the_worst_tensors(experiment):
    done = run("diff-checkpoints", f"{experiment}@epoch_0001", f"{experiment}@best", "--limit", 3)
    assert done.exit_code == 0
    assert "values differ" in done.stdout
    assert "tensors more" in done.stdout
    same = run("diff-checkpoints", experiment, f"{experiment}@epoch_0003")
    assert same.stdout.startswith("identical: all 44 tensors")


def test_the_command_reports_json(experiment):
    report = run("diff-checkpoints", f"{experiment}@epoch_0002", f"{experiment}@best", "--json", "-").json
    assert report["identical"] is False
    assert report["counts"]["identical"] + len(report["differences"]) == report["tensors"] == 44
    first = report["differences"][0]
    assert first["relative"] == max(row["relative"] for row in report["differences"])
    assert first["shape_a"] == first["shape_b"]


def test_a_limit_that_is_exceeded_exits_with_1(experiment, tiny_hub):
    pair = (f"{experiment}@epoch_0002", f"{experiment}@best")
    assert run("diff-checkpoints", *pair, "--max-diff", 0.01).exit_code == 1
    assert run("diff-checkpoints", *pair, "--max-diff", 100).exit_code == 0
    other = run("diff-checkpoints", tiny_hub, tiny_hub / "embedding", "--max-diff", 100)
    assert other.exit_code == 1
    assert "missing" in other.stderr


def test_an_unknown_checkpoint_exits_with_2(experiment):
    done = run("diff-checkpoints", f"{experiment}@epoch_0009", experiment)
    assert done.exit_code == 2
    assert "epoch_0009" in done.stderr
