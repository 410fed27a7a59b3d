"""DiariZen experiment directories: which config and which weight files a checkpoint name means.

Layout and selection rules follow DiariZen (`diarizen/ckpt_utils.py`, `recipes/diar_ssl/infer_avg.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Literal

from workbench.checkpoints.weights import WEIGHT_FILES, WEIGHTS, find_weights
from workbench.errors import InputError, nearest

__all__ = ["SUMMARY", "WEIGHTS", "EpochScore", "ExperimentDir", "Metric", "Rule"]

_MOST_EPOCHS = 10**9
SUMMARY = "val_metric_summary.lst"

Rule = Literal["best", "prev", "center"]
Metric = Literal["Loss", "DER"]


@dataclass(frozen=True)
class EpochScore:
    """One line of the metric summary."""

    epoch: int
    loss: float
    der: float


@dataclass(frozen=True)
class ExperimentDir:
    """A DiariZen experiment directory."""

    path: Path

    @property
    def config(self) -> Path:
        """The newest training TOML: every restart writes one, named by its time."""
        configs = sorted(self.path.glob("config__*.toml")) or sorted(self.path.glob("*.toml"))
        if not configs:
            raise InputError.at(
                self.path, "holds no config__*.toml; an experiment directory as DiariZen leaves it has one"
            )
        return configs[-1]

    def choose_config(self, name: str | None) -> Path:
        """The newest training TOML, or the one of that name in this folder, or of that path."""
        if name is None:
            return self.config
        for path in (self.path / name, Path(name)):
            if path.is_file():
                return path
        known = sorted(path.name for path in self.path.glob("*.toml"))
        raise InputError.at(
            self.path,
            f"no config {name!r}{nearest(name, known)}; there are {', '.join(known) or 'none'}",
        )

    def weights(self, checkpoint: str) -> list[Path]:
        """Weight files of a checkpoint: one for `best` and `epoch_0010`, N of them for `avg:N`.

        The order of several files is the order in which DiariZen adds them up.
        """
        if checkpoint.startswith("avg:"):
            number = checkpoint.removeprefix("avg:")
            if not re.fullmatch(r"[1-9][0-9]*", number):
                raise InputError(
                    f"checkpoint {checkpoint!r}: expected avg:N with a whole number N above 0, such as avg:5"
                )
            names = [f"epoch_{epoch:04d}" for epoch in self.select_epochs(int(number))]
        else:
            names = [checkpoint]
        return [self._weight_file(name, checkpoint) for name in names]

    def _weight_file(self, name: str, checkpoint: str) -> Path:
        file = find_weights(self.path / "checkpoints" / name) if Path(name).name == name else None
        if file is None:
            known = self.checkpoints
            meant = f" (one of {checkpoint})" if name != checkpoint else ""
            offer = f"there are {', '.join(known)}" if known else "there are none at all"
            raise InputError.at(
                self.path / "checkpoints",
                f"no checkpoint {name!r}{meant}{nearest(name, known)}; {offer} "
                f"(folders with {' or '.join(WEIGHT_FILES)})",
            )
        return file

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints on disk: `best`, `epoch_0001`, ..."""
        folders = sorted(self.path.glob("checkpoints/*/"))
        return [folder.name for folder in folders if find_weights(folder) is not None]

    def select_epochs(self, number: int, rule: Rule = "best", metric: Metric = "Loss") -> list[int]:
        """Epochs that DiariZen averages, in its order.

        Parameters
        ----------
        number : how many
        rule : {"best", "prev", "center"}
            The lowest metrics; the line of the lowest metric and those before it; or the lines
            around it.
        metric : {"Loss", "DER"}
            Lower is better. Both were rounded when logged, so ties are common; they keep the
            order of the log.
        """
        scores = self.scores()
        values = [score.loss if metric == "Loss" else score.der for score in scores]
        order = sorted(range(len(values)), key=lambda line: lowest_first(values[line]))  # stable
        if rule == "best":
            chosen = order[:number]
        else:
            before, after = (number - 1, 0) if rule == "prev" else (number // 2, number // 2)
            first, last = order[0] - before, order[0] + after
            # where the first would lie before the log, DiariZen selects nothing rather than fewer
            chosen = list(range(first, min(last + 1, len(values)))) if first >= 0 else []
        if len(chosen) != number:
            raise InputError.at(
                self.path,
                f"cannot average {number} epochs by the rule {rule!r}: {len(scores)} are in {SUMMARY} or the "
                f"log, {len(chosen)} of them fit; give a smaller number",
            )
        return [scores[index].epoch for index in chosen]

    def scores(self) -> list[EpochScore]:
        """Validation loss and DER of every epoch, in the order of the log.

        From the metric summary, or, where nobody has made one, from the largest log.
        """
        summary = self.path / SUMMARY
        if summary.is_file():
            return _parse_scores(summary, strict=True)
        logs = sorted(self.path.glob("*.log"), key=lambda path: path.stat().st_size)
        scores = _parse_scores(logs[-1], strict=False) if logs else []
        if not scores:
            raise InputError.at(
                self.path,
                f"no {SUMMARY} and no log with 'Validation Loss/DER' lines, so the best epochs are unknown",
            )
        return scores


def lowest_first(metric: float) -> tuple[bool, float]:
    """What epochs are sorted by: a metric that is no number, of a training that diverged, comes last."""
    return isnan(metric), metric


def _parse_scores(path: Path, strict: bool) -> list[EpochScore]:
    """The `Validation Loss/DER on epoch 3: 0.655 / 0.302` lines; a log has others around and before."""
    scores = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if "Validation Loss/DER" not in line:
            if strict and line.strip():
                raise InputError.at(
                    path,
                    f"expected 'Validation Loss/DER on epoch N: LOSS / DER', found {line.strip()!r}",
                    number,
                )
            continue
        fields = line.rpartition("]:")[2].split()
        try:
            epoch = int(fields[4].rstrip(":"))
            if not 0 <= epoch < _MOST_EPOCHS:
                raise ValueError("no epoch has this number")
            scores.append(EpochScore(epoch, float(fields[-3]), float(fields[-1])))
        except (IndexError, ValueError):
            raise InputError.at(
                path, f"expected 'Validation Loss/DER on epoch N: LOSS / DER', found {line.strip()!r}", number
            ) from None
    if strict and not scores:
        raise InputError.at(path, "is empty: no 'Validation Loss/DER' line")
    return scores
