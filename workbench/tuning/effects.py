"""What a parameter does on the user's own data: direction-of-effect cards.

Manuals and issue threads say what a parameter is supposed to do, and some say the reverse of what it
does. A card shows the number of speakers and the DER against the value, says in which direction the
number goes, and lists the stretches where it goes the other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect
from workbench.tuning.cells import CellTable, expect_cell, format_value, rate, same_value
from workbench.tuning.lattice import Lattice, num_in_row

Direction = Literal["grows", "shrinks", "none", "mixed", "not ordered", "unknown"]
Others = Literal["default", "average"]

FOLKLORE: Mapping[str, Direction] = {
    "Fa": "shrinks",  # "a smaller Fa finds more speakers"; measurements say the reverse
    "Fb": "shrinks",
    "ahc_threshold": "shrinks",
    "min_cluster_size": "shrinks",
}
"""What is often said to happen to the number of speakers as a parameter grows."""

_MIXED = 0.25  # of the movement may go the other way before a direction is no longer one


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectCard:
    """One parameter against the number of speakers and the DER.

    Attributes
    ----------
    curve : one row per value: `value`, `num_speakers` (mean over the recordings), `der` (pooled,
        fraction), `num_speakers_error` (mean distance from the reference, NaN without)
    num_in_row : how many of its rows follow each other; one that stands apart, where the parameter is
        unset, comes after them and takes no part in directions, inversions and minima
    per_recording : one row per recording and value: `uri`, `value`, `num_speakers`, `der`
    speakers : what the mean number of speakers does as the value grows; `unknown` where the values were
        tried with different values of the other parameters, as in a random search: nothing that changes
        along the curve can then be put down to this one, and no inversions or minima are listed
    inversions : stretches against that: `uri`, `start`, `end` (values), `num_speakers_start`,
        `num_speakers_end`; monotone stretches against the recording's own main direction
    der_minima : values at which the pooled DER has a local minimum, in order
    """

    parameter: str
    others: Others  # where the other parameters stand: at the default, or averaged over
    curve: pd.DataFrame
    num_in_row: int
    per_recording: pd.DataFrame
    speakers: Direction
    folklore: Direction | None
    inversions: pd.DataFrame
    der_minima: tuple[Any, ...]
    num_recordings: int
    num_growing: int  # recordings that have more speakers at the last value than at the first
    num_shrinking: int  # the reverse
    num_unaffected: int  # recordings whose number is the same at all values that follow each other

    @property
    def best_value(self) -> Any:
        """The value with the lowest pooled DER, the others as `others` says."""
        return self.curve["value"].iloc[int(self.curve["der"].to_numpy().argmin())]

    @property
    def against_folklore(self) -> bool:
        """Whether the data contradict what is often said."""
        return (self.folklore, self.speakers) in (("shrinks", "grows"), ("grows", "shrinks"))

    @property
    def words(self) -> str:
        """The card in a few sentences."""
        row, apart = self.curve.iloc[: self.num_in_row], self.curve.iloc[self.num_in_row :]
        low, high = (_number(number) for number in row["num_speakers"].iloc[[0, -1]])
        first, last = (format_value(value) for value in row["value"].iloc[[0, -1]])
        ends = f"on average {low} at {first}, {high} at {last}"
        name = self.parameter
        if self.speakers == "unknown":
            return f"{len(self.curve)} values of {name} were tried, but not with the same other parameters."
        is_ordered = self.speakers != "not ordered"
        as_long = ", as long as it is set" if len(apart) and is_ordered else ""
        sentences = [
            {
                "grows": f"A larger {name} finds more speakers on this data ({ends}).",
                "shrinks": f"A larger {name} finds fewer speakers on this data ({ends}).",
                "mixed": f"The number of speakers has no one direction in {name} ({ends}).",
                "none": f"{name} changes the number of speakers on no recording{as_long}.",
                "not ordered": f"{name} names alternatives: {self._alternatives()}.",
            }[self.speakers]
        ]
        if len(apart) and is_ordered:
            found, unset = apart["num_speakers"].iloc[0], format_value(apart["value"].iloc[0])
            sentences.append(f"Left unset ({unset}), {_number(found)} on average.")
        if self.against_folklore:
            sentences.append("The reverse is often said.")
        if contrary := {"grows": self.num_shrinking, "shrinks": self.num_growing}.get(self.speakers, 0):
            sentences.append(f"On {contrary} of {self.num_recordings} recordings it is the other way round.")
        if self.num_unaffected > 0 and self.speakers != "none":
            sentences.append(
                f"On {self.num_unaffected} of {self.num_recordings} recordings the number never "
                f"changes{as_long}."
            )
        if len(self.inversions):
            worst = self.inversions.iloc[0]
            recordings = self.inversions["uri"].nunique()
            sentences.append(
                f"Not monotone on {recordings} of {self.num_recordings} recordings, most on {worst['uri']}: "
                f"{_number(worst['num_speakers_start'], 3)} to {_number(worst['num_speakers_end'], 3)} "
                f"speakers from {format_value(worst['start'])} to {format_value(worst['end'])}."
            )
        der = 100 * self.curve["der"]
        sentences.append(
            f"DER lies between {der.min():.1f} % (at {format_value(self.best_value)}) and {der.max():.1f} %."
        )
        if len(self.der_minima) > 1:
            sentences.append(f"It has {len(self.der_minima)} local minima.")
        return " ".join(sentences)

    def _alternatives(self) -> str:
        pairs = zip(self.curve["value"], self.curve["num_speakers"], strict=True)
        return ", ".join(f"{format_value(value)} finds {_number(number)} speakers" for value, number in pairs)


def effect_cards(
    results: pd.DataFrame | CellTable,
    default: Mapping[str, Any] | None = None,
    others: Others | None = None,
) -> tuple[EffectCard, ...]:
    """A card for every parameter that was swept over more than one value."""
    table = CellTable.of(results)
    varied = [name for name in table.parameters if table.cells[name].nunique(dropna=False) > 1]
    return tuple(effect_card(table, name, default, others) for name in varied)


def effect_card(
    results: pd.DataFrame | CellTable,
    parameter: str,
    default: Mapping[str, Any] | None = None,
    others: Others | None = None,
) -> EffectCard:
    """What one parameter does.

    Parameters
    ----------
    results : of a sweep, one row per recording and cell
    parameter : its name
    default : values at which the other parameters are held
    others : `default` holds the others there, `average` takes the mean over everything that was swept;
        by default the former where the grid has that line, else the latter
    """
    table = CellTable.of(results)
    expect(parameter, str, "the name of a parameter must be given")
    if default is not None:
        expect_cell(default)
    if others is not None and (not isinstance(others, str) or others not in get_args(Others)):
        raise InputError(f"others must be one of {', '.join(get_args(Others))}, or None, got {others!r}")
    if parameter not in table.parameters:
        raise InputError(f"{parameter} was not swept; swept are {', '.join(table.parameters)}")
    lattice = Lattice.of(table.cells[[parameter]])
    assert lattice is not None
    if not lattice.axes:
        raise InputError(f"{parameter} has a single value in this sweep, so it has no effect to show")
    axis, rank = lattice.axes[0], lattice.ranks[:, 0]
    line = None if default is None or others == "average" else _line(table, parameter, default)
    if line is not None and len(np.unique(rank[line])) < 2:
        line = None
    if line is None:
        if others == "default":
            raise InputError(
                f"the grid has no line along {parameter} through the default; use others='average'"
            )
        line = np.arange(len(table))
        held: Others = "average"
    else:
        held = "default"
    values = np.unique(rank[line])
    # mean over the cells with one value; a line has one cell each
    weight = (rank[line] == values[:, None]).astype(float)
    weight = (weight / weight.sum(axis=1, keepdims=True)).T  # (num_cells_of_line, num_values)
    speakers = table.num_speakers[:, line] @ weight
    errors = table.errors[:, line] @ weight
    known = table.num_reference_speakers >= 0
    distance = np.abs(table.num_speakers[:, line] - table.num_reference_speakers[:, None])[known] @ weight
    named = [axis.values[value] for value in values]
    curve = pd.DataFrame(
        {
            "value": named,
            "num_speakers": speakers.mean(axis=0),
            "der": rate(errors.sum(axis=0), table.total.sum()),
            "num_speakers_error": distance.mean(axis=0) if known.any() else np.nan,
        }
    )
    per_recording = pd.DataFrame(
        {
            "uri": np.repeat(table.uris, len(values)),
            "value": named * len(table.uris),
            "num_speakers": speakers.ravel(),
            "der": rate(errors, table.total[:, None]).ravel(),
        }
    )
    in_row = num_in_row(parameter, named)
    comparable = held == "default" or _is_whole(table, parameter)
    ordered = comparable and axis.ordered and in_row > 1
    going = speakers[:, :in_row]
    steps = np.diff(going, axis=1)
    steps[np.abs(steps) < 1e-9] = 0.0
    return EffectCard(
        parameter=parameter,
        others=held,
        curve=curve,
        num_in_row=in_row,
        per_recording=per_recording,
        speakers=_direction(steps) if ordered else "not ordered" if comparable else "unknown",
        folklore=FOLKLORE.get(parameter),
        inversions=_inversions(table.uris, named, speakers, steps, ordered),
        der_minima=_minima(named, curve["der"].to_numpy()[:in_row]) if ordered else (),
        num_recordings=len(table.uris),
        num_growing=int((going[:, -1] - going[:, 0] > 1e-9).sum()),
        num_shrinking=int((going[:, 0] - going[:, -1] > 1e-9).sum()),
        num_unaffected=int((np.ptp(going if ordered else speakers, axis=1) < 1e-9).sum()),
    )


def _line(table: CellTable, parameter: str, default: Mapping[str, Any]) -> np.ndarray | None:
    """Cells on the line along `parameter` through the default; None if there are none."""
    on = np.ones(len(table), dtype=bool)
    for name in table.parameters:
        if name == parameter:
            continue
        if name in default:
            on &= same_value(table.cells[name], default[name])
        elif table.cells[name].nunique(dropna=False) > 1:
            return None
    return np.flatnonzero(on) if on.any() else None


def _is_whole(table: CellTable, parameter: str) -> bool:
    """Whether every value was tried with the same values of the other parameters."""
    rest = table.cells.drop(columns=parameter)
    num_others = len(rest.drop_duplicates()) if len(rest.columns) else 1
    return len(table) == num_others * table.cells[parameter].nunique(dropna=False)


def _number(value: float, digits: int = 2) -> str:
    """A mean number of speakers with so many digits, large ones whole.

    Examples
    --------
    >>> _number(2.333), _number(4.0), _number(123.4)
    ('2.3', '4', '123')
    """
    return f"{value:.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def _direction(steps: np.ndarray) -> Direction:
    """Where the mean number of speakers goes, from the recordings' steps (num_recordings, num_values - 1)."""
    if not steps.any():
        return "none"
    mean = steps.mean(axis=0)
    up, down = float(mean[mean > 0].sum()), float(-mean[mean < 0].sum())
    if min(up, down) > _MIXED * max(up, down) or max(up, down) < 1e-9:
        return "mixed"
    return "grows" if up > down else "shrinks"


def _inversions(
    uris: tuple[str, ...], values: list[Any], speakers: np.ndarray, steps: np.ndarray, ordered: bool
) -> pd.DataFrame:
    """Monotone stretches against each recording's main direction, the largest first."""
    rows = []
    for uri, numbers, step in zip(uris, speakers, steps, strict=True):
        main = 1.0 if step.sum() >= 0 else -1.0
        against = step * main < 0
        number = 0
        while ordered and number < len(step):
            if not against[number]:
                number += 1
                continue
            end = number
            while end + 1 < len(step) and step[end + 1] * main <= 0:
                end += 1
            while not against[end]:  # a level end belongs to no stretch
                end -= 1
            rows.append((uri, values[number], values[end + 1], numbers[number], numbers[end + 1]))
            number = end + 1
    names = ["uri", "start", "end", "num_speakers_start", "num_speakers_end"]
    table = pd.DataFrame(rows, columns=names)
    size = (table["num_speakers_end"] - table["num_speakers_start"]).abs()
    return table.iloc[np.argsort(-size.to_numpy(dtype=float), kind="stable")].reset_index(drop=True)


def _minima(values: list[Any], der: np.ndarray) -> tuple[Any, ...]:
    """Values in the middle of each lowest stretch: lower than what is left and right of it."""
    level = np.flatnonzero(np.abs(np.diff(der)) > 1e-12)
    starts, ends = np.r_[0, level + 1], np.r_[level, len(der) - 1]
    heights = der[starts]
    padded = np.r_[np.inf, heights, np.inf]
    lowest = np.flatnonzero((heights < padded[:-2]) & (heights < padded[2:]))
    return tuple(values[(starts[place] + ends[place]) // 2] for place in lowest)
