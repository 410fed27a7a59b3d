"""Numbers out of training logs: DiariZen's lines, and lines of `step 50 … loss 1.36` as others write."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import InputError
from workbench.training.names import meaning_of

LONGEST_LINE = 2000  # characters that are looked at

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf))"
_ON_EPOCH = re.compile(r"(Training|Validation) (.{1,200}?) on epoch (\d{1,9}): (.{1,200})$")
_STEPS_PER_EPOCH = re.compile(r"`update_steps_per_epoch`: (\d{1,9})|`steps_per_epoch`: (\d{1,9})")
_STEP = re.compile(r"\bstep[ =:]{1,3}(\d{1,12})\b", re.IGNORECASE)
_VALUE = re.compile(
    rf"\b(loss|der|lr|learning[ _]rate|grad(?:ient)?[ _]norm|norm)[ =:]{{1,3}}{_NUMBER}(?![\w.])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class LoggedValue:
    """One number of a log: of an epoch, or of a training step."""

    quantity: str
    series: str
    epoch: int | None
    step: int | None
    value: float


@dataclass(frozen=True, kw_only=True)
class LogContent:
    """What a log says in numbers."""

    path: Path
    values: list[LoggedValue] = field(default_factory=list)
    ends: dict[int, int] = field(
        default_factory=dict
    )  # epoch -> last training step named before its validation
    steps_per_epoch: int | None = None


def read_log(path: Path) -> LogContent:
    """All numbers of one log; lines that hold none are passed over."""
    values: list[LoggedValue] = []
    ends: dict[int, int] = {}
    steps_per_epoch = last_step = None
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                line = line.rstrip()[:LONGEST_LINE]
                if found := _ON_EPOCH.search(line):
                    epoch = int(found[3])
                    values += _of_epoch(found[1], found[2], epoch, found[4])
                    if found[1] == "Validation" and last_step is not None:
                        ends[epoch] = last_step
                elif found := _STEPS_PER_EPOCH.search(line):
                    steps_per_epoch = int(found[1] or found[2]) or None
                elif found := _STEP.search(line):
                    last_step = int(found[1])
                    values += _of_step(last_step, line)
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    return LogContent(path=path, values=values, ends=ends, steps_per_epoch=steps_per_epoch)


def _of_epoch(phase: str, names: str, epoch: int, numbers: str) -> list[LoggedValue]:
    """`Loss/DER` and `0.655 / 0.302`, or `Loss 'Loss'` and `0.7`."""
    if phase == "Training":
        names = names.rpartition("'Loss'")[1].strip("'") or names.replace("'", " ")
    found = []
    separated = [re.split(r"[/|]", text) for text in (names, numbers)]
    for name, number in zip(*separated, strict=False):
        if re.fullmatch(_NUMBER, number.strip()):
            quantity, series = meaning_of(f"{phase} {name}")
            found.append(LoggedValue(quantity, series, epoch, None, float(number)))
    return found


def _of_step(step: int, line: str) -> list[LoggedValue]:
    """Every `name value` of a line about one training step."""
    found = []
    for name, number in _VALUE.findall(line):
        quantity, series = meaning_of(f"train {name}")
        found.append(LoggedValue(quantity, series, None, step, float(number)))
    return found
