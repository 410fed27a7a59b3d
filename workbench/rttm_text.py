"""RTTM lines from plain numbers, for programs that run where pyannote is not installed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from workbench.errors import RecordingError
from workbench.files import atomic_write

Turn = tuple[float, float, str]
"""Start (s), end (s) and speaker."""


def format_rttm(uri: str, turns: Iterable[Turn]) -> str:
    r"""RTTM of one recording, its turns in order of start, end and speaker.

    Examples
    --------
    >>> format_rttm("a", [(1.0, 1.5, "S1"), (0.25, 2.0, "S0")])
    'SPEAKER a 1 0.250 1.750 <NA> <NA> S0 <NA> <NA>\nSPEAKER a 1 1.000 0.500 <NA> <NA> S1 <NA> <NA>\n'
    """
    if not uri or any(character.isspace() for character in uri):
        raise RecordingError(
            f"recording id {uri!r} is empty or holds a blank, which RTTM cannot; rename the recording"
        )
    return "".join(
        f"SPEAKER {uri} 1 {start:.3f} {end - start:.3f} <NA> <NA> {speaker} <NA> <NA>\n"
        for start, end, speaker in sorted(turns)
    )


def write_rttm_text(path: Path, uri: str, turns: Iterable[Turn]) -> None:
    """Write one recording's RTTM; a recording without turns gives an empty file."""
    text = format_rttm(uri, turns)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
