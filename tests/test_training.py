"""What a training directory says is read whole, from whichever of its files are there."""

from __future__ import annotations

import event_files as ev
import numpy as np
import pandas as pd
import pytest

from workbench.errors import InputError
from workbench.plots.training import plot_training
from workbench.training import read_training
from workbench.training.logs import read_log
from workbench.training.names import meaning_of

SCORES = ((1, 0.812, 0.441), (2, 0.655, 0.302), (3, 0.701, 0.288))
LINE = "11-21 11:45:28 INFO     [trainer.py:80]: "


def summary_of(scores=SCORES) -> str:
    return "".join(f" Validation Loss/DER on epoch {epoch}: {loss} / {der}\n" for epoch, loss, der in scores)


@pytest.fixture
def experiment(tmp_path):
    """An experiment directory with everything; weights are never opened here."""
    folder = tmp_path / "exp"
    for name in ("best", "epoch_0001", "epoch_0002", "epoch_0003"):
        (folder / "checkpoints" / name).mkdir(parents=True)
        (folder / "checkpoints" / name / "pytorch_model.bin").write_bytes(b"")
    (folder / "config__2026_01_01--00_00_00.toml").write_text("[optimizer.args]\nlr = 1.0\n")
    (folder / "config__2026_02_01--00_00_00.toml").write_text("[optimizer.args]\nlr = 0.001\n")
    (folder / "val_metric_summary.lst").write_text(summary_of())
    log = [LINE + "`steps_per_epoch`: 10"]
    for epoch, loss, der in SCORES:
        log.append(f"{LINE}Training Loss 'Loss' on epoch {epoch}: {loss / 2}")
        log.append(f"{LINE}Validation Loss/DER on epoch {epoch}: {loss} / {der}")
    (folder / "exp_2026.log").write_text("\n".join(log))
    points = [("Train_Step/norm", step, 2.0 + step % 2) for step in range(1, 31)]
    for epoch, loss, der in SCORES:
        points += [("Train_Epoch/lr_small", epoch, 2e-5), ("Train_Epoch/lr_big", epoch, 1e-3 / epoch)]
        points += [("Validation_Epoch/Loss", epoch, loss + 2.0**-12), ("Validation_Epoch/DER", epoch, der)]
    (folder / "tb_log").mkdir()
    (folder / "tb_log" / "events.out.tfevents.1.host").write_bytes(ev.version() + ev.scalars(*points))
    return folder


def test_the_epochs_table_joins_every_source(experiment):
    found = read_training(experiment).epochs()
    expected = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "training_loss": [0.406, 0.3275, 0.3505],
            "loss": [0.812, 0.655, 0.701],
            "der": [0.441, 0.302, 0.288],
            "learning_rate": [1e-3, 5e-4, 1e-3 / 3],
            "gradient_norm": [2.5, 2.5, 2.5],
            "kept": [True, True, True],
            "best": [False, True, False],
            "average_rank": pd.array([3, 1, 2], dtype="Int64"),
        }
    )
    pd.testing.assert_frame_equal(found, expected, atol=3e-4, rtol=0)


def test_of_one_number_in_several_files_the_unrounded_one_is_kept(experiment):
    history = read_training(experiment).history
    losses = history[(history["quantity"] == "loss") & (history["series"] == "validation")]
    assert list(losses["source"].unique()) == ["tb_log/events.out.tfevents.1.host"]
    np.testing.assert_allclose(losses["value"], np.float32([loss + 2.0**-12 for _, loss, _ in SCORES]))


def test_steps_lie_within_their_epoch_as_the_log_counts_them(experiment):
    norms = read_training(experiment).curve("gradient_norm", "all parameters")
    np.testing.assert_allclose(norms["epoch"], np.arange(1, 31) / 10)


def test_checkpoints_are_those_on_disk_and_the_averages_they_allow(experiment):
    record = read_training(experiment)
    assert record.checkpoints() == ("best", "epoch_0001", "epoch_0002", "epoch_0003", "avg:2", "avg:3")
    (experiment / "checkpoints" / "epoch_0001" / "pytorch_model.bin").unlink()  # third in the order
    assert read_training(experiment).checkpoints() == ("best", "epoch_0002", "epoch_0003", "avg:2")
    (experiment / "checkpoints" / "epoch_0002" / "pytorch_model.bin").unlink()  # first
    assert read_training(experiment).checkpoints() == ("best", "epoch_0003")


def test_the_newest_config_counts(experiment):
    assert read_training(experiment).config["optimizer"]["args"]["lr"] == 0.001


def test_the_first_of_equal_losses_is_best(tmp_path):
    (tmp_path / "val_metric_summary.lst").write_text(
        summary_of([(1, 0.5, 0.2), (2, 0.4, 0.3), (3, 0.4, 0.1)])
    )
    record = read_training(tmp_path)
    assert record.best_epoch == 2
    assert record.average_order() == (2, 3, 1)


def test_a_truncated_event_file_is_read_up_to_there_and_said(experiment):
    file = experiment / "tb_log" / "events.out.tfevents.1.host"
    file.write_bytes(file.read_bytes()[:-5])
    record = read_training(experiment)
    assert len(record.curve("loss", "validation")) == 3
    assert any("ends within a record" in remark for remark in record.remarks)


def test_a_restart_overwrites_what_it_repeats(experiment):
    restarted = ev.version() + ev.scalars(("Validation_Epoch/Loss", 3, 0.25))
    (experiment / "tb_log" / "events.out.tfevents.2.host").write_bytes(restarted)
    record = read_training(experiment)
    assert record.best_epoch == 3
    assert list(record.curve("loss", "validation")["epoch"]) == [1, 2, 3]


def test_without_a_log_the_last_step_ends_the_last_epoch(experiment):
    next(experiment.glob("*.log")).unlink()
    record = read_training(experiment)
    assert record.curve("gradient_norm", "all parameters")["epoch"].max() == 3
    assert any("taken for the end of epoch 3" in remark for remark in record.remarks)


def test_lines_of_other_trainers_count_steps_between_validations(tmp_path):
    lines = ["step 50 done 0.1 loss 1.5 lr 1e-3", "step 100 done 0.2 loss 1.25 grad_norm 0.5"]
    lines += ["[INFO]: Validation Loss/DER on epoch 1: 0.9 / 0.4", "step 150 loss 1.0 learning rate 5e-4"]
    lines += ["step 200 loss nan", "[INFO]: Validation Loss/DER on epoch 2: 0.8 / 0.3"]
    (tmp_path / "training.log").write_text("\n".join(lines))
    record = read_training(tmp_path)
    loss = record.curve("loss", "training")
    np.testing.assert_allclose(loss["epoch"], [0.5, 1, 1.5, 2])
    np.testing.assert_allclose(loss["value"], [1.5, 1.25, 1, np.nan])
    assert list(record.curve("learning_rate", "all parameters")["value"]) == [1e-3, 5e-4]
    assert list(record.curve("gradient_norm", "all parameters")["value"]) == [0.5]


def test_logs_of_pruning_name_several_losses(tmp_path):
    line = f"{LINE}Validation Loss | Loss_distill | Loss_reg on epoch 7: 0.5 | 0.25 | 0.125"
    (tmp_path / "a.log").write_text(line)
    found = [
        (each.quantity, each.series, each.epoch, each.value) for each in read_log(tmp_path / "a.log").values
    ]
    assert found == [
        ("loss", "validation", 7, 0.5),
        ("loss", "validation distill", 7, 0.25),
        ("loss", "validation reg", 7, 0.125),
    ]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("Validation_Epoch/FA", ("false_alarm", "validation")),
        ("Validation_Epoch/Miss", ("missed", "validation")),
        ("loss/val", ("loss", "validation")),
        ("learning_rate", ("learning_rate", "all parameters")),
        ("grad_norm/encoder", ("gradient_norm", "encoder")),
        ("valDER", ("der", "validation")),
        ("Order/Folder", ("other", "Order/Folder")),
    ],
)
def test_tags_are_grouped_by_their_words(tag, expected):
    assert meaning_of(tag) == expected


@pytest.mark.parametrize("kind", ["empty folder", "file", "nothing", "hub folder"])
def test_what_is_no_experiment_is_an_input_error(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("")
    elif kind != "nothing":
        path.mkdir()
    if kind == "hub folder":
        (path / "config.toml").write_text("")
    with pytest.raises(InputError, match="experiment directory|no such folder"):
        read_training(path)


def test_a_broken_summary_or_config_is_an_input_error(experiment):
    (experiment / "config__2026_03_01--00_00_00.toml").write_text("lr = = 1")
    with pytest.raises(InputError, match="config__2026_03"):
        read_training(experiment)
    (experiment / "config__2026_03_01--00_00_00.toml").unlink()
    (experiment / "val_metric_summary.lst").write_text("Validation Loss/DER on epoch one: a / b\n")
    with pytest.raises(InputError, match=r"val_metric_summary\.lst:1"):
        read_training(experiment)


def test_many_steps_are_summarised_by_their_median_and_spread(tmp_path, rng):
    points = [("Train_Step/norm", step, float(rng.random())) for step in range(1, 5001)]
    (tmp_path / "tb_log").mkdir()
    content = ev.version() + ev.scalars(*points, ("Train_Epoch/Loss", 2, 1.0))
    (tmp_path / "tb_log" / "events.out.tfevents.1.h").write_bytes(content)
    curve = read_training(tmp_path).curve("gradient_norm", "all parameters", most=10)
    assert len(curve) == 10
    assert curve["low"].between(0.04, 0.16).all()
    assert curve["value"].between(0.4, 0.6).all()
    assert curve["high"].between(0.84, 0.96).all()


@pytest.mark.golden
def test_the_recorded_experiments_are_read(golden):
    record = read_training(golden / "fbank_conformer_tiny")
    assert [(score.epoch, score.loss, score.der) for score in record.scores] == list(SCORES)
    assert record.best_epoch == 2
    assert record.config["model"]["args"]["attention_in"] == 24


def test_the_figure_has_a_panel_per_quantity_and_marks_best_and_average(experiment):
    figure = plot_training(read_training(experiment), average=2)
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == ["Loss (nats per frame)", "DER (%)", "Learning rate", "Gradient norm (L2)"]
    assert {axis.title.text for axis in figure.select_xaxes()} == {"Epoch"}
    traces = {trace.name: trace for trace in figure.data if trace.showlegend is not False}
    assert set(traces) == {
        "training",
        "validation",
        "members of avg:2",
        "best: epoch 2",
        "learning rate big",
        "learning rate small",
    }
    assert sorted(traces["members of avg:2"].x) == [2, 3]
    assert list(traces["best: epoch 2"].x) == [2]
    der = next(trace for trace in figure.data if trace.yaxis == "y2")
    np.testing.assert_allclose(der.y, [44.1, 30.2, 28.8], rtol=1e-5)
    assert {shape.x0 for shape in figure.layout.shapes} == {2}


def test_a_figure_of_nothing_says_so(tmp_path):
    (tmp_path / "checkpoints" / "epoch_0001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "epoch_0001" / "pytorch_model.bin").write_bytes(b"")
    figure = plot_training(read_training(tmp_path))
    assert "Nothing was logged" in figure.layout.annotations[0].text
