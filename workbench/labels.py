"""Who spoke when in the formats of other programs: TextGrid, Audacity labels, CTM, STM, SegLST.

Every reader returns annotations by recording, every writer takes them. RTTM and LAB are in `rttm`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyannote.core import Annotation, Segment

from workbench.errors import InputError
from workbench.files import atomic_write
from workbench.rttm import read_lab, read_rttm, write_lab, write_rttm
from workbench.textfiles import read_lines, split_fields
from workbench.textgrid import read_tiers, write_tiers

Annotations = dict[str, Annotation]
_Turn = tuple[float, float, str]
_SHORTEST = 1e-6  # s, up to which pyannote.core takes a segment for empty
_COMMENT = ";;"


def read_annotations(path: str | Path) -> Annotations:
    """Annotations by recording from a file of any known format, which its ending tells.

    `.rttm`, `.lab`, `.TextGrid`, `.txt` (Audacity labels), `.ctm`, `.stm`, `.json` (SegLST). A format
    without recording names holds one recording, named like the file.
    """
    return _format(path, READERS)(Path(path))


def write_annotations(path: str | Path, annotations: Annotation | Mapping[str, Annotation]) -> None:
    """Write annotations in the format that the ending of `path` tells (see `read_annotations`).

    A format without recording names takes one recording.
    """
    by_uri = (
        {annotations.uri or Path(path).stem: annotations}
        if isinstance(annotations, Annotation)
        else annotations
    )
    _format(path, WRITERS)(Path(path), by_uri)


def read_textgrid(path: str | Path) -> Annotations:
    """One recording; every tier of intervals is a speaker, every interval with some text a turn."""
    tiers = read_tiers(path)
    turns = [(start, end, name) for name, intervals in tiers.items() for start, end, _ in intervals]
    return {Path(path).stem: _annotation(Path(path).stem, turns)}


def write_textgrid(path: str | Path, annotations: Mapping[str, Annotation]) -> None:
    """One tier per speaker; turns of one speaker that overlap become one, for a tier cannot hold both."""
    annotation = _only(path, annotations)
    tiers = {
        str(label): [(segment.start, segment.end, str(label)) for segment in annotation.label_support(label)]
        for label in annotation.labels()
    }
    write_tiers(path, tiers)


def read_audacity(path: str | Path) -> Annotations:
    """One recording: lines `start TAB end TAB speaker`; lines of frequency ranges are left out."""
    path = Path(path)
    turns = []
    for number, line in read_lines(path):
        if line.startswith("\\"):
            continue
        fields = line.split("\t", 2)
        if len(fields) != 3 or not fields[2]:
            raise InputError.at(path, f"expected 'start TAB end TAB speaker', found {line!r}", number)
        turns.append(_turn(path, number, fields[0], fields[1], fields[2]))
    return {path.stem: _annotation(path.stem, turns)}


def write_audacity(path: str | Path, annotations: Mapping[str, Annotation]) -> None:
    """Lines `start TAB end TAB speaker`, ordered by time."""
    turns = sorted(_turns(_only(path, annotations)))
    write_audacity_labels(path, turns)


def write_audacity_labels(path: str | Path, labels: Iterable[tuple[float, float, str]]) -> None:
    """Write `(start, end, text)`, times in seconds, as a label track."""
    lines = [f"{start:.6f}\t{end:.6f}\t{' '.join(text.split())}" for start, end, text in labels]
    _write(path, lines)


def read_ctm(path: str | Path, max_gap: float = 0.0) -> Annotations:
    """Words of a CTM as turns: `recording channel start duration word [confidence [type [speaker]]]`.

    Parameters
    ----------
    max_gap : s
        Words of one speaker no further apart are one turn. The speaker is the eighth field, or the
        channel where there is none.
    """
    path = Path(path)
    turns: dict[str, list[_Turn]] = defaultdict(list)
    for number, line in read_lines(path):
        if line.startswith(_COMMENT):
            continue
        fields = split_fields(line)
        if not 5 <= len(fields) <= 8:
            raise InputError.at(path, f"expected 5 to 8 fields, found {len(fields)}: {line!r}", number)
        start = _time(path, number, fields[2])
        end = start + _time(path, number, fields[3], "a duration")
        turns[fields[0]].append((start, end, fields[7] if len(fields) == 8 else fields[1]))
    return {uri: _joined(_annotation(uri, own), max_gap) for uri, own in turns.items()}


def write_ctm(path: str | Path, annotations: Mapping[str, Annotation]) -> None:
    """One line per turn, with `<turn>` in place of the word, of which an annotation knows nothing."""
    _write(
        path,
        [
            f"{_field(path, uri)} 1 {start:.3f} {end - start:.3f} <turn> NA non-lex {_field(path, speaker)}"
            for uri, annotation in annotations.items()
            for start, end, speaker in sorted(_turns(annotation))
        ],
    )


def read_stm(path: str | Path) -> Annotations:
    """Turns of an STM: `recording channel speaker start end [<label>] [transcript]`.

    Regions that are not to be scored (speakers `excluded_region`, `inter_segment_gap`) are left out.
    """
    path = Path(path)
    turns: dict[str, list[_Turn]] = defaultdict(list)
    for number, line in read_lines(path):
        if line.startswith(_COMMENT):
            continue
        fields = split_fields(line, 6)
        if len(fields) < 5:
            raise InputError.at(
                path, f"expected 'recording channel speaker start end', found {line!r}", number
            )
        if fields[2].lower() not in ("excluded_region", "inter_segment_gap"):
            turns[fields[0]].append(_turn(path, number, fields[3], fields[4], fields[2]))
    return {uri: _annotation(uri, own) for uri, own in turns.items()}


def write_stm(path: str | Path, annotations: Mapping[str, Annotation]) -> None:
    """One line per turn, without a transcript."""
    _write(
        path,
        [
            f"{_field(path, uri)} 1 {_field(path, speaker)} {start:.3f} {end:.3f} <NA>"
            for uri, annotation in annotations.items()
            for start, end, speaker in sorted(_turns(annotation))
        ],
    )


def read_seglst(path: str | Path) -> Annotations:
    """Segments of a SegLST file: a JSON list of `session_id`, `speaker`, `start_time`, `end_time`, ..."""
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"is not JSON: {error}", getattr(error, "lineno", None)) from error
    if not isinstance(entries, list):
        raise InputError.at(path, f"expected a list of segments (SegLST), found {type(entries).__name__}")
    turns: dict[str, list[_Turn]] = defaultdict(list)
    for number, entry in enumerate(entries, start=1):
        where = f"segment {number}"
        missing = {"session_id", "speaker", "start_time", "end_time"} - set(
            entry if isinstance(entry, dict) else ()
        )
        if missing:
            raise InputError.at(path, f"{where} lacks {', '.join(sorted(missing))}")
        start, end = (_number(path, where, entry[key]) for key in ("start_time", "end_time"))
        if end < start:
            raise InputError.at(path, f"{where} ends ({end}) before it starts ({start})")
        turns[str(entry["session_id"])].append((start, end, str(entry["speaker"])))
    return {uri: _annotation(uri, own) for uri, own in turns.items()}


def write_seglst(path: str | Path, annotations: Mapping[str, Annotation]) -> None:
    """One entry per turn, `words` empty."""
    entries = [
        {"session_id": uri, "speaker": speaker, "start_time": start, "end_time": end, "words": ""}
        for uri, annotation in annotations.items()
        for start, end, speaker in sorted(_turns(annotation))
    ]
    _write(path, [json.dumps(entries, indent=2, ensure_ascii=False)])


READERS: Mapping[str, Callable[[Path], Annotations]] = {
    ".rttm": read_rttm,
    ".lab": lambda path: {path.stem: read_lab(path)},
    ".textgrid": read_textgrid,
    ".txt": read_audacity,
    ".ctm": read_ctm,
    ".stm": read_stm,
    ".json": read_seglst,
}
WRITERS: Mapping[str, Callable[[Path, Mapping[str, Annotation]], None]] = {
    ".rttm": write_rttm,
    ".lab": lambda path, annotations: write_lab(path, _only(path, annotations)),
    ".textgrid": write_textgrid,
    ".txt": write_audacity,
    ".ctm": write_ctm,
    ".stm": write_stm,
    ".json": write_seglst,
}


def _format(path: str | Path, formats: Mapping[str, Any]) -> Any:
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise InputError.at(path, f"unknown ending {suffix!r}; known are {', '.join(formats)}")
    return formats[suffix]


def _only(path: str | Path, annotations: Mapping[str, Annotation]) -> Annotation:
    if len(annotations) != 1:
        raise InputError.at(
            path,
            f"this format holds one recording, found {len(annotations)}; write one file for each",
        )
    return next(iter(annotations.values()))


def _annotation(uri: str, turns: Iterable[_Turn]) -> Annotation:
    """Every turn of some length as a track of its own, numbered within its segment."""
    annotation = Annotation(uri=uri)
    tracks: dict[Segment, int] = defaultdict(int)
    for start, end, speaker in sorted(turns):
        if end - start <= _SHORTEST:
            continue
        segment = Segment(start, end)
        annotation[segment, tracks[segment]] = speaker
        tracks[segment] += 1
    return annotation


def _joined(annotation: Annotation, max_gap: float) -> Annotation:
    """Turns of one speaker that touch, or are no further apart than `max_gap`, as one."""
    # rounded times that touch differ in the last bits
    return annotation.support(collar=max(max_gap, 1e-4))


def _turns(annotation: Annotation) -> Iterator[_Turn]:
    for segment, _, label in annotation.itertracks(yield_label=True):
        yield segment.start, segment.end, str(label)


def _turn(path: Path, number: int, start: str, end: str, speaker: str) -> _Turn:
    times = _time(path, number, start), _time(path, number, end)
    if times[1] < times[0]:
        raise InputError.at(path, f"the end ({end}) lies before the start ({start})", number)
    return *times, speaker


def _time(path: Path, number: int, text: str, what: str = "a time") -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError.at(path, f"expected {what} in seconds, 0 or more, found {text!r}", number)
    return value


def _number(path: Path, where: str, value: object) -> float:
    # meeteval writes numbers, CHiME's files text
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise InputError.at(path, f"{where}: expected a time in seconds, found {value!r}")
    return number


def _field(path: str | Path, name: str) -> str:
    if not name or name.split() != [name]:
        raise InputError.at(
            path, f"the name {name!r} is empty or holds a blank, which this format cannot; rename it"
        )
    return name


def _write(path: str | Path, lines: Iterable[str]) -> None:
    with atomic_write(Path(path)) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
