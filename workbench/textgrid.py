"""Praat TextGrid files: tiers of labelled intervals, in the long and the short form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.errors import InputError
from workbench.files import atomic_write
from workbench.textfiles import LATEST, quoted, read_text

Interval = tuple[float, float, str]  # start (s), end (s), text

# What carries a value, in both forms: quoted text (a quote inside is doubled), flags such as <exists>,
# and numbers that are no index `[1]:` of the long form. All other words are decoration.
_TOKEN = re.compile(
    r'"((?:[^"]|"")*)"|<(\w+)>|\[\d*\]|(?<![\w.\[])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.\]])'
)


def read_tiers(path: str | Path) -> dict[str, list[Interval]]:
    """Intervals with some text, by tier; tiers of points are left out.

    Parameters
    ----------
    path : file
        UTF-8 or UTF-16, as Praat writes it.
    """
    path = Path(path)
    text = read_text(path)
    matches = (match for match in _TOKEN.finditer(text) if any(group is not None for group in match.groups()))
    place = 0

    def following() -> str | float | None:
        nonlocal place
        match = next(matches, None)
        if match is None:
            place = len(text.rstrip())
            return None
        place = match.start()
        quoted_text, flag, digits = match.groups()
        return quoted_text if quoted_text is not None else flag if flag is not None else float(digits)

    def fail(problem: str) -> InputError:
        return InputError.at(path, problem, text.count("\n", 0, place) + 1)

    def unexpected(what: str, token: str | float | None) -> InputError:
        found = "the end of the file" if token is None else quoted(str(token))
        return fail(f"expected {what}, found {found}; is it a TextGrid?")

    def word(what: str) -> str:
        token = following()
        if not isinstance(token, str):
            raise unexpected(what, token)
        return token.replace('""', '"')

    def number(what: str) -> float:
        token = following()
        if not isinstance(token, float):
            raise unexpected(what, token)
        return token

    def count(what: str) -> int:
        value = number(what)
        if not (value.is_integer() and value >= 0):
            raise unexpected(what, value)
        return int(value)

    if word('"ooTextFile"') != "ooTextFile" or word('"TextGrid"') != "TextGrid":
        raise fail("is not a TextGrid: it must begin with ooTextFile and TextGrid")
    number("the start (xmin)"), number("the end (xmax)"), word("<exists>")
    tiers: dict[str, list[Interval]] = {}
    for _ in range(count("the number of tiers")):
        kind, name = word("the class of a tier"), word("the name of a tier")
        number("the tier's start"), number("the tier's end")
        intervals = tiers.setdefault(name, []) if kind == "IntervalTier" else []
        for _ in range(count("the number of intervals")):
            if kind != "IntervalTier":
                number("the time of a point"), word("the mark of a point")
                continue
            start, end = number("a start"), number("an end")
            if not 0 <= start < end <= LATEST:
                raise fail(f"tier {name!r}: an interval goes from {start} to {end} s")
            label = word("a text").strip()
            if label:
                intervals.append((start, end, label))
    rest = following()
    if rest is not None:
        raise unexpected("the end of the file", rest)
    return tiers


def write_tiers(path: str | Path, tiers: Mapping[str, Sequence[Interval]], end: float | None = None) -> None:
    """Write intervals as a TextGrid in the long form.

    Intervals of one tier must not overlap (`stack` spreads them over several tiers); the gaps between
    them become intervals without text, as the format demands.

    Parameters
    ----------
    end : s, of the recording; by default the last end
    """
    last = max((stop for intervals in tiers.values() for _, stop, _ in intervals), default=0.0)
    end = max(last, end or 0.0) or 1.0  # Praat refuses an empty time domain
    head = ["xmin = 0", f"xmax = {end!r}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *head]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        filled = _with_gaps(path, name, intervals, end)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {end!r}",
            f"        intervals: size = {len(filled)}",
        ]
        for index, (start, stop, text) in enumerate(filled, start=1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start!r}",
                f"            xmax = {stop!r}",
                f"            text = {_quoted(text)}",
            ]
    with atomic_write(Path(path)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def stack(intervals: Sequence[Interval]) -> list[list[Interval]]:
    """Intervals spread over as few rows as it takes for none to overlap within a row.

    Examples
    --------
    >>> stack([(0.0, 2.0, "a"), (1.0, 3.0, "b"), (2.0, 4.0, "c")])
    [[(0.0, 2.0, 'a'), (2.0, 4.0, 'c')], [(1.0, 3.0, 'b')]]
    """
    rows: list[list[Interval]] = []
    for interval in sorted(intervals):
        row = next((row for row in rows if row[-1][1] <= interval[0]), None)
        if row is None:
            rows.append([interval])
        else:
            row.append(interval)
    return rows


def _with_gaps(path: str | Path, name: str, intervals: Sequence[Interval], end: float) -> list[Interval]:
    filled: list[Interval] = []
    reached = 0.0
    for start, stop, text in sorted(intervals):
        if start < reached:
            raise InputError.at(
                path, f"tier {name!r}: intervals overlap at {start} s, which TextGrid cannot hold"
            )
        if start > reached:
            filled.append((reached, float(start), ""))
        filled.append((float(start), float(stop), text))
        reached = float(stop)
    if reached < end:
        filled.append((reached, end, ""))
    return filled


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
