"""Tables of errors as files: CSV, RTTM, Audacity labels, Praat TextGrid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from pyannote.core import Annotation, Segment

from workbench.errors import InputError
from workbench.files import atomic_write, safe_name
from workbench.labels import write_audacity_labels
from workbench.rttm import write_rttm
from workbench.scoring.regions import ERROR_KINDS
from workbench.textgrid import stack, write_tiers

FORMATS = (".csv", ".rttm", ".txt", ".textgrid")


def write_errors(path: str | Path, errors: pd.DataFrame) -> list[Path]:
    """Write errors in the format that the ending of `path` tells.

    Parameters
    ----------
    path : file
        `.csv`; `.rttm`, where the speaker is the kind and who is meant; `.txt` for Audacity and
        `.TextGrid` for Praat. The last two hold one recording: of several, each gets a file of its own,
        `NAME.<uri>.txt`.
    errors : DataFrame
        As `find_longest_errors` returns it, or `Review.changes`.

    Returns
    -------
    written : list of Path
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        with atomic_write(path) as temporary:
            errors.to_csv(temporary, index=False, lineterminator="\n")
        return [path]
    if suffix == ".rttm":
        write_rttm(path, _annotations(errors))
        return [path]
    writers: Mapping[str, Callable[[Path, pd.DataFrame], None]] = {".txt": _audacity, ".textgrid": _textgrid}
    check_format(path)
    recordings = {str(uri): own for uri, own in errors.groupby("uri", sort=True)}
    if len(recordings) < 2:
        writers[suffix](path, errors)
        return [path]
    written = []
    for uri, own in recordings.items():
        file = path.with_name(f"{path.stem}.{safe_name(uri)}{path.suffix}")
        writers[suffix](file, own)
        written.append(file)
    return written


def check_format(path: Path) -> None:
    """Refuse an ending that no format has."""
    if path.suffix.lower() not in FORMATS:
        raise InputError.at(
            path, f"unknown ending {path.suffix!r}; errors can be written as {', '.join(FORMATS)}"
        )


def describe(kind: str, reference_speaker: object, hypothesis_speaker: object) -> str:
    """An error in a few words.

    Examples
    --------
    >>> describe("confusion", "A", "x")
    'confusion A>x'
    """
    who = ">".join(str(speaker) for speaker in (reference_speaker, hypothesis_speaker) if speaker is not None)
    return f"{kind} {who}".strip()


def _texts(errors: pd.DataFrame) -> list[tuple[float, float, str]]:
    columns = ["start", "end", "kind", "reference_speaker", "hypothesis_speaker"]
    rows = errors[columns].itertuples(index=False, name=None)
    return sorted((start, end, describe(kind, ref, hyp)) for start, end, kind, ref, hyp in rows)


def _annotations(errors: pd.DataFrame) -> dict[str, Annotation]:
    annotations = {}
    for uri, own in errors.groupby("uri", sort=True):
        annotation = Annotation(uri=str(uri))
        for number, (start, end, text) in enumerate(_texts(own)):
            annotation[Segment(start, end), number] = "_".join(text.split())  # no blank in an RTTM field
        annotations[str(uri)] = annotation
    return annotations


def _audacity(path: Path, errors: pd.DataFrame) -> None:
    write_audacity_labels(path, _texts(errors))


def _textgrid(path: Path, errors: pd.DataFrame) -> None:
    tiers = {}
    others = sorted(set(errors["kind"]) - set(ERROR_KINDS))
    for kind in others or ERROR_KINDS:
        for number, row in enumerate(stack(_texts(errors[errors["kind"] == kind])), start=1):
            tiers[kind if number == 1 else f"{kind} {number}"] = row
    write_tiers(path, tiers)
