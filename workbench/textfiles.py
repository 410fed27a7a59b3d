"""Lines of small text files (RTTM, UEM, LAB, wav.scp, lists), decoded with errors that name the line."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import InputError

_LINE_BREAK = re.compile(rb"\r\n|\n|\r")
_BLANKS = re.compile(r"[ \t]+")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NUL = "holds a NUL byte: is it UTF-16 or no text? save it as UTF-8"
LATEST = 1e10  # s, three centuries: float64 still tells microseconds apart; more is another unit


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Every line that is not blank: its number, counted from 1, and its text, stripped.

    The file is UTF-8, with or without a byte order mark; line ends may be LF, CRLF or CR. Names
    are kept as they are written: composed and decomposed accents are not the same name.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error.strerror or error}") from error
    if content.startswith(_UTF16):
        raise InputError.at(path, "is UTF-16; save it as UTF-8", 1)
    content = content.removeprefix(codecs.BOM_UTF8)
    # Decoded line by line, so that a bad byte is reported where it stands. Other separators that
    # str.splitlines would break at (U+2028, form feed) are ordinary characters of a name here.
    for number, raw in enumerate(_LINE_BREAK.split(content), start=1):
        try:
            line = raw.decode("utf-8").strip(" \t")
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            raise InputError.at(
                path,
                f"is not UTF-8 (byte 0x{byte:02x} at column {error.start + 1}); save it as UTF-8",
                number,
            ) from error
        if "\0" in line:
            raise InputError.at(path, _NUL, number)
        if line:
            yield number, line


def read_text(path: str | Path) -> str:
    """A whole file, UTF-8 or, with a byte order mark, UTF-16."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error.strerror or error}") from error
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is neither UTF-8 nor UTF-16 ({error.reason} at byte {error.start}); save it as UTF-8"
        raise InputError.at(path, problem, content.count(b"\n", 0, error.start) + 1) from error
    if "\0" in text:
        raise InputError.at(path, _NUL, text.count("\n", 0, text.index("\0")) + 1)
    return text


def split_fields(line: str, maximum: int = 0) -> list[str]:
    """Fields of `line`, separated by blanks and tabs alone: a no-break space belongs to a name.

    With a `maximum` (2 or more), the last field holds the rest of the line.
    """
    return _BLANKS.split(line, maxsplit=max(maximum - 1, 0))


def quoted(text: str) -> str:
    """A piece of a file for a message: in quotes, shortened where it is long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def parse_seconds(text: str, what: str, path: str | Path | None = None, number: int | None = None) -> float:
    """A time in seconds: a finite number that is not negative.

    Parameters
    ----------
    what : how a message calls it, such as `the start (field 4)`
    path, number : file and line that it stands in; without them a `ValueError` says what is wrong
    """
    try:  # float() alone would read 1_0 as ten, and digits of any script
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problem = f"expected {what} in seconds, found {quoted(text)}"
    elif value < 0:
        problem = f"{what} is negative: {text}"
    elif value > LATEST:
        problem = f"expected {what} in seconds, found {quoted(text)}, which is too large"
    else:
        return value
    raise ValueError(problem) if path is None else InputError.at(path, problem, number)
