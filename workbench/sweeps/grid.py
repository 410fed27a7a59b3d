"""Grids of parameters: from `NAME=a,b,c` and `NAME=start:stop:num` to a table of cells."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import InputError, expect
from workbench.sweeps.outcome import RESULT_COLUMNS
from workbench.sweeps.settings import (
    INTEGERS,
    NULLABLE,
    TEXTS,
    PluginParams,
    SweepSettings,
    check_base,
    column_name,
    expect_meaningful,
    from_cell,
    parameter_names,
    unknown_parameter,
)

__all__ = ["Grid", "SweepSettings"]

# Values of these decide together whether a combination is possible; all others stand alone.
_INTERACTING = (
    "preset",
    "method",
    "ahc_criterion",
    "ahc_threshold",
    "min_speakers",
    "max_speakers",
    "num_speakers_forced",
)
_MOST_VALUES = 100_000  # of one parameter; more is a slip of the pen
_LARGEST_WHOLE = 2**63 - 1  # that a column of a table can hold
_MOST_CELLS = 10_000_000  # to be listed; a search may choose from more


class Grid:
    """All combinations of the values given for some parameters.

    Attributes
    ----------
    values : dict
        Name -> its values, in the order given. `num_speakers` is called `num_speakers_forced` here and in
        all tables, where the column `num_speakers` says how many were found.
    base : SweepSettings
        What the other parameters are set to.

    Examples
    --------
    >>> grid = Grid.parse(["Fa=0.05,0.07", "ahc_threshold=0.5:0.7:3"])
    >>> len(grid)
    6
    >>> grid.cells().head(3)
         Fa  ahc_threshold
    0  0.05            0.5
    1  0.05            0.6
    2  0.05            0.7
    """

    def __init__(self, values: Mapping[str, tuple[Any, ...]], base: SweepSettings | None = None):
        expect(values, Mapping, "a grid must map names of parameters to tuples of values")
        check_base(base)
        for name, listed in values.items():
            expect(name, str, "a grid must map names of parameters to values")
            expect(listed, (tuple, list), f"{name} must list its values in a tuple")
        self.values = {name: tuple(listed) for name, listed in values.items()}
        self.base = base or SweepSettings()
        self._check()

    @classmethod
    def parse(cls, specs: Iterable[str], base: SweepSettings | None = None) -> Grid:
        """From texts `NAME=a,b,c` or `NAME=start:stop:num` (evenly spaced, both ends included)."""
        wanted = "grid must map names to values, or list texts NAME=a,b,c or NAME=start:stop:num"
        expect(specs, Iterable, wanted)
        check_base(base)
        values: dict[str, tuple[Any, ...]] = {}
        for spec in [specs] if isinstance(specs, str) else specs:
            expect(spec, str, wanted)
            name, equals, text = spec.partition("=")
            name = column_name(name.strip())
            if not equals or not name:
                raise InputError(f"grid {spec!r} must read NAME=a,b,c or NAME=start:stop:num")
            _check_name(name, base)
            if name in values:
                raise InputError(f"{name} is given twice; list its values once: {name}=a,b,c")
            values[name] = _parse_values(name, text)
        return cls(values, base)

    @classmethod
    def of(cls, values: Mapping[str, Any], base: SweepSettings | None = None) -> Grid:
        """From a mapping of names to sequences of values (or to one value)."""
        expect(values, Mapping, "a grid must map names of parameters to values")
        check_base(base)
        listed: dict[str, tuple[Any, ...]] = {}
        for asked, given in values.items():
            expect(asked, str, "a grid must map names of parameters to values")
            name = column_name(asked)
            _check_name(name, base)
            if name in listed:
                raise InputError(f"{asked} and {name} are two names of one parameter; give one")
            single = isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
            listed[name] = tuple(_typed(name, value) for value in ([given] if single else given))
        return cls(listed, base)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the swept parameters."""
        return tuple(self.values)

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.values.values())

    def cells(self) -> pd.DataFrame:
        """One row per combination, the last parameter changing fastest."""
        if len(self) > _MOST_CELLS:
            raise InputError(
                f"the grid has {len(self)} combinations, at most {_MOST_CELLS} can be listed; give fewer "
                "values, or search with tpe"
            )
        index = pd.MultiIndex.from_product(list(self.values.values())) if self.values else None
        columns = {
            name: column_of(name, index.get_level_values(level) if index is not None else [])
            for level, name in enumerate(self.values)
        }
        return pd.DataFrame(columns, index=range(len(self)))

    def settings(self) -> Iterator[SweepSettings]:
        """The settings of every cell, in the order of `cells`."""
        for combination in product(*self.values.values()):
            yield self.base.replace(**dict(zip(self.values, combination, strict=True)))

    def _check(self) -> None:
        for name, values in self.values.items():
            if len(values) == 0:
                raise InputError(f"{name} has no values; give at least one, or leave it out of the grid")
            seen: set[Any] = set()
            for value in values:
                if value in seen:
                    raise InputError(f"{name} lists {value!r} twice")
                seen.add(value)
        chooses: dict[str, tuple[Any, ...]] = {
            name: self.values[name] for name in ("preset", "method") if name in self.values
        }
        together = [name for name in _INTERACTING if name in self.values]
        for name, values in self.values.items():
            if name in together:
                continue
            for value in values:
                self._check_alone(name, value, chooses)
        for combination in product(*(self.values[name] for name in together)):
            self.base.replace(**dict(zip(together, combination, strict=True)))

    def _check_alone(self, name: str, value: Any, chooses: Mapping[str, tuple[Any, ...]]) -> None:
        """One value must be possible with some method: those that lack the parameter leave it out."""
        for combination in product(*chooses.values()):
            self.base.replace(**{name: value}, **dict(zip(chooses, combination, strict=True)))


def column_of(name: str, values: Iterable[Any]) -> Any:
    """Values of a parameter as a column of a fixed type, whatever the values are."""
    values = list(values)
    missing = any(value is None or value is pd.NA or value != value for value in values)
    if name in TEXTS or all(isinstance(value, str) for value in values):
        return pd.array([str(value) for value in values], dtype="str")
    if name in INTEGERS:
        return pd.array(values, dtype="Int64") if missing else np.array(values, dtype=np.int64)
    if not missing and name not in parameter_names():  # of someone's own clustering: as it was given
        for kind in (bool, int):
            if all(type(value) is kind for value in values):
                return np.array(values, dtype=kind)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _check_name(name: str, base: SweepSettings | None) -> None:
    if name == "uri" or name in RESULT_COLUMNS:
        raise InputError(f"{name} is a column of the results; a parameter must have another name")
    if base is not None and isinstance(base.clustering, PluginParams):
        return  # its parameters are its own
    if name not in parameter_names():
        raise unknown_parameter(name)


def _parse_values(name: str, text: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not text.strip():
        raise InputError(f"{name} has no values; give at least one, as {name}=a,b,c")
    if len(parts) == 1 and text.count(":") == 2 and name not in TEXTS:
        return _parse_range(name, text)
    return tuple(_typed(name, _number(name, part)) for part in parts)


def _parse_range(name: str, text: str) -> tuple[Any, ...]:
    start, stop, num = (_number(name, part.strip()) for part in text.split(":"))
    whole = num is not None and math.isfinite(num) and num == int(num) and num >= 1
    if start is None or stop is None or not whole:
        raise InputError(f"{name}={text} must read start:stop:num with num a whole number of at least 1")
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise InputError(f"{name}={text} must lead from one finite number to another")
    if num > _MOST_VALUES:
        raise InputError(f"{name}={text} asks for {num} values; give at most {_MOST_VALUES}")
    # 0.45 rather than 0.45000000000000001: what is printed is what was run
    return tuple(_typed(name, float(f"{value:.12g}")) for value in np.linspace(start, stop, int(num)))


def _number(name: str, text: str) -> Any:
    if name in TEXTS:
        return text
    if text.casefold() == "none" and name in NULLABLE:
        return None
    try:
        # what has more digits is no count, and Python reads only so many
        return int(text) if text.lstrip("+-").isdigit() and len(text) < 20 else float(text)
    except ValueError:
        raise InputError(f"{name} takes numbers, got {text!r}") from None


def _typed(name: str, value: Any) -> Any:
    """The value in the parameter's own type, or an error that names it."""
    value = from_cell(name, value)
    if name in TEXTS and not isinstance(value, str):
        raise InputError(f"{name} takes names, got {value!r}")
    own = name not in parameter_names()  # of someone's own clustering
    if value is None or isinstance(value, str) or (own and isinstance(value, bool)):
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and math.isfinite(value)):
        raise InputError(f"{name} takes finite numbers, got {value!r}")
    if not own:
        expect_meaningful(name, value)
    elif whole and abs(value) > _LARGEST_WHOLE:
        raise InputError(f"{name} takes whole numbers up to {_LARGEST_WHOLE}, got {reprlib.repr(value)}")
    if name in INTEGERS and not isinstance(value, int):
        raise InputError(f"{name} takes whole numbers, got {value!r}")
    return value if name in INTEGERS or own else float(value)
