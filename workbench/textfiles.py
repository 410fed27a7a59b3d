"""Lines of small text files (RTTM, UEM, LAB, wav.scp, lists), decoded with errors that name the line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import InputError

_LINE_BREAK = re.compile(rb"\r\n|\n|\r")
_BLANKS = re.compile(r"[ \t]+")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
        if line:
            yield number, line


def split_fields(line: str, maximum: int = 0) -> list[str]:
    """Fields of `line`, separated by blanks and tabs alone: a no-break space belongs to a name.

    With a `maximum` (2 or more), the last field holds the rest of the line.
    """
    return _BLANKS.split(line, maxsplit=max(maximum - 1, 0))
