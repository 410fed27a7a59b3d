"""A training directory as one record: its TOML, its checkpoints and every logged number."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.checkpoints.experiment import SUMMARY, WEIGHTS, EpochScore, ExperimentDir, lowest_first
from workbench.errors import InputError, expect_path
from workbench.tfevents import PATTERN, read_events
from workbench.tomlfiles import read_toml
from workbench.training.logs import LogContent, read_log
from workbench.training.names import counts_epochs, meaning_of

COLUMNS = ("quantity", "series", "epoch", "step", "value", "source")
MOST_POINTS = 400  # of a curve, before neighbouring steps are summarised

_Row = tuple[str, str, float, float, float, str]  # as COLUMNS


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRecord:
    """What a training left behind.

    Attributes
    ----------
    path : the experiment directory
    config : content of the newest training TOML, empty where there is none
    config_path : that TOML
    history : DataFrame
        One row per logged number: `quantity` (one of `training.QUANTITIES`), `series` (training,
        validation, or which optimizer), `epoch` (a fraction within an epoch, NaN where unknown),
        `step` (NaN for numbers of a whole epoch), `value` and `source` (the file). Where several
        files hold the same number, the most exact one is kept: TensorBoard's, then the log's, then
        the metric summary's, which is rounded to three decimals.
    scores : validation loss and DER by epoch, as `avg:N` chooses by
    kept : epochs whose weights are on disk
    has_best : whether `checkpoints/best` is there
    remarks : what could not be read, and what was guessed
    """

    path: Path
    config: Mapping[str, Any]
    config_path: Path | None
    history: pd.DataFrame
    scores: tuple[EpochScore, ...]
    kept: tuple[int, ...]
    has_best: bool
    remarks: tuple[str, ...] = ()

    @property
    def best_epoch(self) -> int | None:
        """The epoch of lowest validation loss, the first of equal ones: what `best` holds."""
        losses = self.curve("loss", "validation").dropna(subset=["value"])
        if losses.empty:
            return None
        return int(losses["epoch"].iloc[int(losses["value"].argmin())])

    def average_order(self) -> tuple[int, ...]:
        """Epochs in the order in which `avg:N` takes them: by logged loss, ties as logged."""
        return tuple(score.epoch for score in sorted(self.scores, key=lambda score: lowest_first(score.loss)))

    @property
    def largest_average(self) -> int:
        """The largest N for which all members of `avg:N` are on disk."""
        number = 0
        for epoch in self.average_order():
            if epoch not in self.kept:
                break
            number += 1
        return number

    def checkpoints(self) -> tuple[str, ...]:
        """All that can be loaded: `best`, every epoch on disk, `avg:2` and so on."""
        best = ("best",) if self.has_best else ()
        epochs = tuple(f"epoch_{epoch:04d}" for epoch in self.kept)
        return best + epochs + tuple(f"avg:{number}" for number in range(2, self.largest_average + 1))

    def series(self, quantity: str) -> list[str]:
        """Names of the curves of a quantity, training first."""
        names = self.history.loc[self.history["quantity"] == quantity, "series"].unique()
        return sorted(names, key=lambda name: (not name.startswith("training"), name))

    def curve(self, quantity: str, series: str, most: int = MOST_POINTS) -> pd.DataFrame:
        """One curve over the epochs: `epoch`, `value`, `low`, `high`.

        A curve of more than `most` points is summarised by the median of every stretch of steps and
        the range from its 10th to its 90th percentile; otherwise `low` and `high` are NaN.
        """
        chosen = self.history[(self.history["quantity"] == quantity) & (self.history["series"] == series)]
        if chosen["step"].isna().any():  # numbers of whole epochs, where they exist, say it without the noise
            chosen = chosen[chosen["step"].isna()]
        chosen = chosen.dropna(subset=["epoch"]).sort_values("epoch", kind="stable")
        points = pd.DataFrame({"epoch": chosen["epoch"], "value": chosen["value"]}).reset_index(drop=True)
        if len(points) <= most:
            return points.assign(low=np.nan, high=np.nan)
        stretches = points.groupby(np.arange(len(points)) * most // len(points))
        spread = stretches["value"].quantile(np.array([0.1, 0.5, 0.9])).unstack()
        summary = {
            "epoch": stretches["epoch"].mean(),
            "value": spread[0.5],
            "low": spread[0.1],
            "high": spread[0.9],
        }
        return pd.DataFrame(summary).reset_index(drop=True)

    def epochs(self) -> pd.DataFrame:
        """One row per epoch: losses, DER, learning rate, gradient norm, and what became of it.

        `training_loss`, `learning_rate` (the largest, where there are several) and `gradient_norm`
        are medians over the steps of the epoch; `kept` says whether its weights are on disk, `best`
        whether it has the lowest loss, `average_rank` from which N on `avg:N` contains it.
        """
        history = self.history.dropna(subset=["epoch"])
        whole = np.ceil(history["epoch"]).astype(int)
        rank = {epoch: number for number, epoch in enumerate(self.average_order(), start=1)}
        known = {*self.kept, *rank, *whole[history["step"].isna()]}
        table = pd.DataFrame({"epoch": sorted(known)})
        for column, quantity, series in (
            ("training_loss", "loss", "training"),
            ("loss", "loss", "validation"),
            ("der", "der", "validation"),
            ("learning_rate", "learning_rate", None),
            ("gradient_norm", "gradient_norm", None),
        ):
            chosen = history["quantity"] == quantity
            if series is not None:
                chosen &= history["series"] == series
            rows = history[chosen]
            by_series = rows.groupby([whole[chosen], rows["series"]])["value"].median()
            table[column] = table["epoch"].map(by_series.groupby(level=0).max()).astype(float)
        table["kept"] = table["epoch"].isin(self.kept)
        table["best"] = table["epoch"] == self.best_epoch
        table["average_rank"] = table["epoch"].map(rank).astype("Int64")
        return table


def read_training(path: str | os.PathLike[str]) -> TrainingRecord:
    """Everything a training directory says about its training.

    Read are the newest `config__*.toml`, `val_metric_summary.lst`, every `*.log`, the TensorBoard
    event files below `tb_log/`, and the names of the checkpoints. Any of them may be missing; a
    folder that has none of them is an `InputError`.
    """
    path = expect_path(path, "an experiment directory")
    if not path.is_dir():
        raise InputError.at(
            path, "no such folder" if not path.exists() else "is a file, not an experiment directory"
        )
    experiment = ExperimentDir(path)
    logs = [read_log(file) for file in sorted(path.glob("*.log"))]
    event_files = sorted((path / "tb_log").rglob(PATTERN)) or sorted(path.glob(PATTERN))
    kept = _epochs_on_disk(experiment)
    has_best = "best" in experiment.checkpoints
    configs = sorted(path.glob("config__*.toml")) or sorted(path.glob("*.toml"))
    remarks: list[str] = []
    scores = _read_scores(experiment, remarks)
    if not (configs and (path / "checkpoints").is_dir()) and not (kept or has_best or scores or event_files):
        raise InputError.at(
            path,
            "is no experiment directory: found no checkpoints/*/"
            f"{WEIGHTS}, no {SUMMARY}, no log with 'Validation Loss/DER' lines and no TensorBoard files in "
            "tb_log/; name the folder that training wrote, <save_dir>/<experiment>",
        )
    clock = _Clock.of(logs)
    rows = [(*_scored(score, name), SUMMARY) for score in scores for name in ("loss", "der")]
    rows += _rows_of_logs(logs, clock)
    last_epoch = max([*kept, *(score.epoch for score in scores)], default=0)
    rows += _rows_of_events(event_files, path, clock, last_epoch, remarks)
    return TrainingRecord(
        path=path,
        config=read_toml(configs[-1]) if configs else {},
        config_path=configs[-1] if configs else None,
        history=_as_history(rows),
        scores=tuple(scores),
        kept=kept,
        has_best=has_best,
        remarks=tuple(remarks),
    )


@dataclass(frozen=True)
class _Clock:
    """Where in the epochs a training step lies."""

    ends: tuple[tuple[int, int], ...]  # epoch and its last step, ascending

    @classmethod
    def of(cls, logs: Iterable[LogContent]) -> _Clock:
        ends: dict[int, int] = {}
        for log in logs:
            ends |= log.ends
            if log.steps_per_epoch:
                ends |= {1: log.steps_per_epoch}
        known = sorted(ends.items())
        # a restart may count its steps anew: only what rises can be an axis
        rising = [
            end for index, end in enumerate(known) if end[1] > max([0, *(step for _, step in known[:index])])
        ]
        return cls(tuple(rising))

    def epoch_of(self, step: float) -> float:
        """1.5 is the middle of the second epoch's steps; NaN where nothing is known."""
        if not self.ends:
            return np.nan
        epochs, steps = [0, *(epoch for epoch, _ in self.ends)], [0, *(step for _, step in self.ends)]
        if step <= steps[-1]:
            return float(np.interp(step, steps, epochs))
        return epochs[-1] + (step - steps[-1]) * epochs[-1] / steps[-1]


def _scored(score: EpochScore, name: str) -> tuple[str, str, float, float, float]:
    return name, "validation", float(score.epoch), np.nan, score.loss if name == "loss" else score.der


def _rows_of_logs(logs: Iterable[LogContent], clock: _Clock) -> list[_Row]:
    rows: list[_Row] = []
    for log in logs:
        for each in log.values:
            epoch = float(each.epoch) if each.epoch is not None else clock.epoch_of(each.step or 0)
            step = np.nan if each.step is None else float(each.step)
            rows.append((each.quantity, each.series, epoch, step, each.value, log.path.name))
    return rows


def _rows_of_events(
    files: Iterable[Path], folder: Path, clock: _Clock, last_epoch: int, remarks: list[str]
) -> list[_Row]:
    """Scalars of event files; a tag's steps are epochs or training steps, as its name or size tells."""
    contents = [read_events(file) for file in files]
    names = [content.path.relative_to(folder).as_posix() for content in contents]
    remarks += [
        f"{name}: {content.problem}" for name, content in zip(names, contents, strict=True) if content.problem
    ]
    largest: dict[str, int] = {}
    for content in contents:
        for scalar in content.scalars:
            largest[scalar.tag] = max(largest.get(scalar.tag, 0), scalar.step)
    said = {tag: counts_epochs(tag) for tag in largest}
    last_epoch = max([last_epoch, *(largest[tag] for tag, epochs in said.items() if epochs)])
    in_epochs = {
        tag: largest[tag] <= last_epoch if epochs is None else epochs for tag, epochs in said.items()
    }
    last_step = max((largest[tag] for tag, epochs in in_epochs.items() if not epochs), default=0)
    if last_step and not clock.ends and last_epoch:
        clock = _Clock(((last_epoch, last_step),))
        remarks.append(
            f"no log says how many steps an epoch has: the last of {last_step} steps is taken for the end of "
            f"epoch {last_epoch}"
        )
    rows: list[_Row] = []
    for name, content in zip(names, contents, strict=True):
        for scalar in content.scalars:
            quantity, series = meaning_of(scalar.tag)
            if in_epochs[scalar.tag]:
                rows.append((quantity, series, float(scalar.step), np.nan, scalar.value, name))
            else:
                epoch = clock.epoch_of(scalar.step)
                rows.append((quantity, series, epoch, float(scalar.step), scalar.value, name))
    return rows


def _as_history(rows: list[_Row]) -> pd.DataFrame:
    """The rows as a table; of the same number twice the later one is kept, from the better source."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"epoch": float, "step": float, "value": float})
    table = table.drop_duplicates(["quantity", "series", "epoch", "step"], keep="last")
    return table.sort_values(["quantity", "series", "epoch", "step"], kind="stable", ignore_index=True)


def _epochs_on_disk(experiment: ExperimentDir) -> tuple[int, ...]:
    """Epochs with a weight file."""
    names = (n.removeprefix("epoch_") for n in experiment.checkpoints if n.startswith("epoch_"))
    return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit()))


def _read_scores(experiment: ExperimentDir, remarks: list[str]) -> list[EpochScore]:
    """Validation scores by epoch; without any, a remark instead, but a broken summary stays an error."""
    if not (experiment.path / SUMMARY).is_file() and not any(experiment.path.glob("*.log")):
        remarks.append(f"no {SUMMARY} and no log: which epochs are best is unknown, so there is no avg:N")
        return []
    try:
        return experiment.scores()
    except InputError as error:
        if (experiment.path / SUMMARY).is_file():
            raise
        remarks.append(str(error))
        return []
