"""Who spoke when in the formats of other programs: TextGrid, Audacity labels, CTM, STM, SegLST.

Every reader returns annotations by recording, every writer takes them. RTTM and LAB are in `rttm`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyannote.core import Annotation, Segment

from workbench.errors import InputError
from workbench.files import atomic_write
from workbench.rttm import read_lab, read_rttm, write_lab, write_rttm
from workbench.textfiles import parse_seconds, quoted, read_lines, read_text, split_fields
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
            raise InputError.at(path, f"expected 'start TAB end TAB speaker', found {quoted(line)}", number)
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
            raise InputError.at(path, f"expected 5 to 8 fields, found {len(fields)}: {quoted(line)}", number)
        start = parse_seconds(fields[2], "the start (field 3)", path, number)
        end = start + parse_seconds(fields[3], "the duration (field 4)", path, number)
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
                path, f"expected 'recording channel speaker start end', found {quoted(line)}", number
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
    text = read_text(path)
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:  # or numbers of thousands of digits, endless nesting
        raise InputError.at(path, f"is not JSON: {error}", getattr(error, "lineno", None)) from error
    if not isinstance(entries, list):
        raise InputError.at(path, f"expected a list of segments (SegLST), found {type(entries).__name__}")
    turns: dict[str, list[_Turn]] = defaultdict(list)
    for place, entry in enumerate(entries):
        try:
            session, turn = _seglst_turn(entry)
        except ValueError as problem:
            line = _line_of_entry(text, place)
            raise InputError.at(path, f"segment {place + 1}: {problem}", line) from None
        turns[session].append(turn)
    return {uri: _annotation(uri, own) for uri, own in turns.items()}


def _seglst_turn(entry: Any) -> tuple[str, _Turn]:
    """Recording and turn of one entry; a `ValueError` says what is wrong with it."""
    missing = {"session_id", "speaker", "start_time", "end_time"} - set(
        entry if isinstance(entry, dict) else ()
    )
    if missing:
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    session, speaker = (_json_name(key, entry[key]) for key in ("session_id", "speaker"))
    start, end = (_json_seconds(key, entry[key]) for key in ("start_time", "end_time"))
    if end < start:
        raise ValueError(f"ends ({end}) before it starts ({start})")
    return session, (start, end, speaker)


def _json_name(key: str, value: object) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"expected a name in {key}, found {quoted(str(value))}")
    name = str(value)
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"the name in {key} is no text: {quoted(name)}")
    return name


def _json_seconds(key: str, value: object) -> float:
    # meeteval writes numbers, CHiME's files text
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise ValueError(f"expected {key} in seconds, found {quoted(str(value))}")
    return parse_seconds(str(value), key)


def _line_of_entry(text: str, place: int) -> int:
    """Line of an entry of the list that a JSON text holds; entries are counted from 0."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    for number in range(place + 1):
        while text[position] in " \t\r\n,":
            position += 1
        if number < place:
            _, position = decoder.raw_decode(text, position)
    return text.count("\n", 0, position) + 1


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
    times = parse_seconds(start, "the start", path, number), parse_seconds(end, "the end", path, number)
    if times[1] < times[0]:
        raise InputError.at(path, f"the end ({end}) lies before the start ({start})", number)
    return *times, speaker


def _field(path: str | Path, name: str) -> str:
    if not name or name.split() != [name]:
        raise InputError.at(
            path, f"the name {name!r} is empty or holds a blank, which this format cannot; rename it"
        )
    return name


def _write(path: str | Path, lines: Iterable[str]) -> None:
    with atomic_write(Path(path)) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
