"""The two ways in which an input can fail, and how the command line reports them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path


class InputError(ValueError):
    """The call, or an input as a whole, is unusable: the command ends with exit code 2.

    The message says which file, line, key or option is meant, what was expected, what was
    found, and what to do.
    """

    @classmethod
    def at(cls, path: str | Path, problem: str, line: int | None = None) -> InputError:
        """The error `path:line: problem` (or `path: problem` where no line is meant)."""
        where = f"{path}:{line}" if line is not None else f"{path}"
        return cls(f"{where}: {problem}")


class RecordingError(ValueError):
    """One recording is unusable: it is reported, the others go on, and the exit code is 1."""


def expect(value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """An `InputError` unless `value` is of one of `kinds`; `wanted` says in words what must be given.

    Examples
    --------
    >>> expect("torch:models/demo", str, "a runtime string must be given")
    """
    if not isinstance(value, kinds):
        raise InputError(f"{wanted}, got {type(value).__name__}")


def expect_number(value: object, wanted: str, low: float = -math.inf, high: float = math.inf) -> None:
    """An `InputError` unless `value` is a finite number from `low` to `high`; True and False are none.

    Examples
    --------
    >>> expect_number(0.25, "collar must be a number of seconds of at least 0", low=0)
    """
    # a count of numpy is an Integral, one of its floats a Real
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{wanted}, got {type(value).__name__}")
    if not (math.isfinite(value) and low <= float(value) <= high):
        raise InputError(f"{wanted}, got {value!r}")


def expect_count(value: object, wanted: str, low: int = 0) -> None:
    """An `InputError` unless `value` is a whole number of at least `low`; True and False are none.

    Examples
    --------
    >>> expect_count(3, "jobs must be a whole number of processes, at least 1", low=1)
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{wanted}, got {type(value).__name__}")
    if value < low:
        raise InputError(f"{wanted}, got {value}")


def expect_path(path: object, what: str) -> Path:
    """`path` as a `Path`; an `InputError` for what cannot be one, with `what` it should have named.

    Examples
    --------
    >>> expect_path("a.rttm", "an RTTM file").name
    'a.rttm'
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the path of {what} must be given, got {type(path).__name__}")
    return Path(path)


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest of the known names, or nothing.

    Examples
    --------
    >>> nearest("provider", ["providers", "threads"])
    ", did you mean 'providers'?"
    """
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def wrong_kind(found: str, needed: str) -> str:
    """The problem of a model that is given where another kind is needed.

    Examples
    --------
    >>> wrong_kind("embedding", "segmentation")
    'is an embedding model, but a segmentation model is needed here'
    """
    article = {word: "an" if word[0] in "aeiou" else "a" for word in (found, needed)}
    return f"is {article[found]} {found} model, but {article[needed]} {needed} model is needed here"
