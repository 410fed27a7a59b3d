"""RTTM, UEM and LAB files to annotations and timelines, and back.

Names are kept as they are written (UTF-8, composed or decomposed). Times are read as
`start` and `start + duration` in float64, as pyannote and dscore do.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pyannote.core import Annotation, Segment, Timeline

from workbench.errors import InputError, expect_path
from workbench.files import atomic_write
from workbench.textfiles import parse_seconds, quoted, read_lines, split_fields

_OTHER_TYPES = {
    *("SEGMENT", "NOSCORE", "NO_RT_METADATA"),
    *("LEXEME", "NON-LEX", "NON-SPEECH"),
    *("FILLER", "EDIT", "SU", "IP", "CB", "A/P"),
    "SPKR-INFO",
}
"""Objects of the RT-09 evaluation plan that say nothing about who speaks when."""

_COMMENT = (";;", "#")

_SHORTEST = 1e-6  # s, below which pyannote.core takes a segment for empty

_Turn = tuple[float, float, str]  # start, end, label


def read_rttm(path: str | Path) -> dict[str, Annotation]:
    """Speaker turns of every recording in an RTTM file.

    Parameters
    ----------
    path : file
        `SPEAKER` lines of 9 or 10 fields separated by blanks or tabs. Blank lines, comments
        (`;;` or `#`) and lines of the other RTTM types are left out.

    Returns
    -------
    annotations : dict, uri -> Annotation
        In order of appearance. Every line of some length is a track of its own, also where one
        speaker overlaps themselves. Tracks are numbered within a segment by label, so that what
        `write_rttm` wrote is read back equal. Turns of no length, which no scorer counts, are left
        out with a warning.
    """
    path = expect_path(path, "an RTTM file")
    turns: dict[str, list[_Turn]] = defaultdict(list)
    empty: list[int] = []
    for number, line in _content(path):
        fields = split_fields(line)
        if fields[0] in _OTHER_TYPES:
            continue
        if fields[0] != "SPEAKER":
            raise InputError.at(
                path, f"expected an RTTM line such as 'SPEAKER ...', found {quoted(line)}", number
            )
        if len(fields) not in (9, 10):
            problem = f"expected 9 or 10 fields, found {len(fields)}: {quoted(line)}"
            raise InputError.at(path, problem + (_BLANK_HINT if len(fields) > 10 else ""), number)
        if len(fields) == 9 and fields[7] == "<NA>":
            # what a ten-field line looks like that lost one before the name
            problem = f"a column is missing: the name (field 8 of 9) is <NA>: {quoted(line)}"
            raise InputError.at(path, problem, number)
        start = parse_seconds(fields[3], "the start (field 4)", path, number)
        duration = parse_seconds(fields[4], "the duration (field 5)", path, number)
        if duration <= _SHORTEST:
            empty.append(number)
        turns[fields[1]].append((start, start + duration, fields[7]))
    if empty:
        warnings.warn(
            f"{path}:{empty[0]}: {len(empty)} turns of no length are left out (the first is here)",
            stacklevel=2,
        )
    return {uri: _annotation(uri, rows) for uri, rows in turns.items()}


_BLANK_HINT = "; names must not hold blanks"


def read_rttms(path: str | Path) -> dict[str, Annotation]:
    """Speaker turns of an RTTM file, or of all files `*.rttm` in a folder.

    In a folder a file without turns is a silent recording that has the name of the file, as
    `workbench diarize` writes it. No recording may appear in two files.
    """
    path = Path(path)
    if not path.is_dir():
        return read_rttm(path)
    annotations: dict[str, Annotation] = {}
    origin: dict[str, Path] = {}
    for file in sorted(path.glob("*.rttm")):
        for uri, annotation in (read_rttm(file) or {file.stem: Annotation(uri=file.stem)}).items():
            if uri in annotations:
                raise InputError(f"{origin[uri]} and {file} both have turns of {uri!r}; keep one of them")
            annotations[uri], origin[uri] = annotation, file
    if not annotations:
        raise InputError.at(path, "the folder holds no .rttm file")
    return annotations


def write_rttm(
    path: str | Path, annotations: Annotation | Mapping[str, Annotation], decimals: int | None = 3
) -> None:
    """Write annotations as RTTM, one `SPEAKER` line per track.

    Parameters
    ----------
    path : file to write, replaced as a whole
    annotations : Annotation, or dict uri -> Annotation
        Recordings in the order given; turns by start, end, then label as a string.
    decimals : int, optional
        Of start and duration. The duration is rounded from the exact difference of the ends, so
        reading back differs from what was written by at most one unit of the last decimal, and by
        nothing where `annotations` were read from a file with no more decimals. None writes as
        many digits as it takes to read back the very same float64 times.
    """
    lines = []
    for uri, annotation in _by_uri(annotations):
        for start, end, label in sorted(_turns(annotation)):
            shown_start, shown_duration = _number(start, decimals), _number(end - start, decimals)
            if decimals is None:
                shown_duration = repr(_exact_duration(start, end))
            name, speaker = _name(uri, "recording", path), _name(label, "speaker", path)
            lines.append(f"SPEAKER {name} 1 {shown_start} {shown_duration} <NA> <NA> {speaker} <NA> <NA>\n")
    _write(path, lines)


def read_uem(path: str | Path) -> dict[str, Timeline]:
    """Regions to be scored, of every recording in a UEM file (`<uri> <channel> <start> <end>`)."""
    path = expect_path(path, "a UEM file")
    regions: dict[str, list[Segment]] = defaultdict(list)
    for number, line in _content(path):
        fields = split_fields(line)
        if len(fields) != 4:
            raise InputError.at(
                path,
                f"expected '<uri> <channel> <start> <end>', found {len(fields)} fields: {quoted(line)}",
                number,
            )
        regions[fields[0]].append(_segment(fields[2], fields[3], path, number))
    return {uri: Timeline(segments, uri=uri) for uri, segments in regions.items()}


def write_uem(path: str | Path, uem: Mapping[str, Timeline], decimals: int | None = 3) -> None:
    """Write regions as UEM; `decimals` None writes digits that read back as the same float64."""
    lines = []
    for uri, timeline in uem.items():
        name = _name(uri, "recording", path)
        if name.startswith(_COMMENT):
            raise InputError.at(path, f"the recording name {uri!r} would be read as a comment; rename it")
        for start, end in timeline:
            lines.append(f"{name} 1 {_number(start, decimals)} {_number(end, decimals)}\n")
    _write(path, lines)


def read_lab(path: str | Path) -> Annotation:
    """Labelled regions of one recording, whose uri is the file's name without extension.

    Lines are `<start> <end> <label>`, as speech activity labels of VBx (`sp`) or as pyannote
    writes speakers. `read_lab(path).get_timeline()` has the regions alone.
    """
    path = expect_path(path, "a LAB file")
    turns: list[_Turn] = []
    for number, line in _content(path):
        fields = split_fields(line)
        if len(fields) != 3:
            problem = f"expected '<start> <end> <label>', found {len(fields)} fields: {quoted(line)}"
            raise InputError.at(path, problem + (_BLANK_HINT if len(fields) > 3 else ""), number)
        segment = _segment(fields[0], fields[1], path, number)
        turns.append((segment.start, segment.end, fields[2]))
    return _annotation(path.stem, turns)


def write_lab(path: str | Path, annotation: Annotation | Timeline, decimals: int | None = 3) -> None:
    """Write one recording's labelled regions; those of a Timeline are labelled `sp`."""
    if isinstance(annotation, Timeline):
        annotation = annotation.to_annotation(generator=iter(lambda: "sp", None))
    lines = [
        f"{_number(start, decimals)} {_number(end, decimals)} {_name(label, 'label', path)}\n"
        for start, end, label in sorted(_turns(annotation))
    ]
    _write(path, lines)


def _content(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are neither blank nor comments."""
    return ((number, line) for number, line in read_lines(path) if not line.startswith(_COMMENT))


def _segment(start: str, end: str, path: Path, number: int) -> Segment:
    """The region between two times, which must have some length."""
    segment = Segment(
        parse_seconds(start, "the start", path, number), parse_seconds(end, "the end", path, number)
    )
    if not segment:
        raise InputError.at(path, f"the end ({end}) must lie after the start ({start})", number)
    return segment


def _annotation(uri: str, turns: Iterable[_Turn]) -> Annotation:
    """One track per turn, numbered within its segment in order of the labels."""
    annotation = Annotation(uri=uri)
    tracks: dict[Segment, int] = defaultdict(int)
    for start, end, label in sorted(turns):
        segment = Segment(start, end)
        annotation[segment, tracks[segment]] = label
        tracks[segment] += 1
    return annotation


def _turns(annotation: Annotation) -> Iterator[_Turn]:
    for segment, _, label in annotation.itertracks(yield_label=True):
        yield segment.start, segment.end, str(label)


def _by_uri(annotations: Annotation | Mapping[str, Annotation]) -> list[tuple[str, Annotation]]:
    if isinstance(annotations, Annotation):
        return [(annotations.uri or "<NA>", annotations)]
    return list(annotations.items())


def _number(value: float, decimals: int | None) -> str:
    return repr(float(value)) if decimals is None else f"{value:.{decimals}f}"


def _exact_duration(start: float, end: float) -> float:
    """The float d for which `start + d` rounds to `end`: the difference or one of its neighbours."""
    duration = end - start
    for candidate in (duration, math.nextafter(duration, math.inf), math.nextafter(duration, 0.0)):
        if start + candidate == end:
            return candidate
    return duration


def _name(name: object, what: str, path: str | Path) -> str:
    """`name`, unless it would not be one field of the line."""
    text = str(name)
    if not text or any(character in " \t\n\r\v\f" for character in text):
        raise InputError.at(
            path, f"the {what} name {text!r} is empty or holds a blank, which this format cannot; rename it"
        )
    return text


def _write(path: str | Path, lines: Iterable[str]) -> None:
    with atomic_write(Path(path)) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
