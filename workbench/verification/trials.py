"""Trial lists: pairs of recordings, and whether one speaker is heard in both."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.audio import AUDIO_SUFFIXES
from workbench.errors import InputError, nearest
from workbench.extraction import Item
from workbench.files import atomic_write
from workbench.textfiles import read_lines, split_fields

_KALDI = {"target": True, "nontarget": False}
_VOXCELEB = {"1": True, "0": False}
_FRAGMENT = re.compile(r"(?P<file>.+)#t=(?P<start>[^,]*),(?P<end>[^,]*)")


@dataclass(frozen=True, eq=False, kw_only=True)
class Trials:
    """Trials in the order of their list.

    Attributes
    ----------
    enroll, test : names of the two sides, as they are written
    target : bool array, shape (num_trials,)
        Whether both are the same speaker.
    """

    enroll: tuple[str, ...]
    test: tuple[str, ...]
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.enroll)

    @property
    def names(self) -> tuple[str, ...]:
        """Every side once, in the order of first mention."""
        sides = (name for pair in zip(self.enroll, self.test, strict=True) for name in pair)
        return tuple(dict.fromkeys(sides))

    def only(self, kept: np.ndarray) -> Trials:
        """The trials that a bool array (num_trials,) picks."""
        rows = np.flatnonzero(kept)
        return Trials(
            enroll=tuple(self.enroll[row] for row in rows),
            test=tuple(self.test[row] for row in rows),
            target=self.target[rows],
        )


def read_trials(path: str | os.PathLike[str]) -> Trials:
    """Read `label a b` (VoxCeleb: 1 same, 0 different) or `a b target|nontarget` (Kaldi).

    The first line decides which; fields are separated by blanks, or by tabs where a line has some.
    """
    path = Path(path)
    enroll: list[str] = []
    test: list[str] = []
    target: list[bool] = []
    form: str | None = None
    for number, line in read_lines(path):
        fields = (
            [field.strip() for field in line.split("\t")] if line.count("\t") == 2 else split_fields(line)
        )
        if len(fields) != 3:
            raise InputError.at(
                path, f"a trial has three fields, found {len(fields)}: {line[:120]!r}", number
            )
        form = form or ("kaldi" if fields[2] in _KALDI else "voxceleb")
        if form == "kaldi":
            (first, second, word), labels, shown = fields, _KALDI, "a b target|nontarget"
        else:
            (word, first, second), labels, shown = fields, _VOXCELEB, "label a b with label 1 or 0"
        if word not in labels:
            raise InputError.at(
                path,
                f"expected '{shown}', found the label {word[:40]!r}"
                + ("" if enroll else "; the other form is 'a b target|nontarget'"),
                number,
            )
        enroll.append(first)
        test.append(second)
        target.append(labels[word])
    if not enroll:
        raise InputError.at(path, "holds no trials; expected lines 'label a b' or 'a b target|nontarget'")
    return Trials(enroll=tuple(enroll), test=tuple(test), target=np.array(target))


def write_trials(path: str | os.PathLike[str], trials: Trials) -> None:
    """Write trials as VoxCeleb has them: `1 a b` for one speaker, `0 a b` for two."""
    rows = zip(trials.target, trials.enroll, trials.test, strict=True)
    with atomic_write(path) as temporary:
        temporary.write_text(
            "".join(f"{int(same)} {enroll} {test}\n" for same, enroll, test in rows), encoding="utf-8"
        )


def trial_items(
    trials: Trials, root: Path, recordings: Mapping[str, Path] | None = None
) -> tuple[list[Item], list[tuple[str, str]]]:
    """What has to be embedded for the trials.

    Parameters
    ----------
    trials : their sides are paths below `root`, or names in `recordings`; `#t=1.5,4` behind one
        means the part from 1.5 to 4 s (as in W3C Media Fragments)
    root : folder that paths start from
    recordings : paths by name, as a `wav.scp` has them

    Returns
    -------
    items, failed : one item per side, and sides that name no recording, with the reason
    """
    items: list[Item] = []
    failed: list[tuple[str, str]] = []
    for name in trials.names:
        try:
            items.append(side_item(name, root, recordings))
        except InputError as error:
            failed.append((name, str(error)))
    return items, failed


def side_item(name: str, root: Path, recordings: Mapping[str, Path] | None = None) -> Item:
    """The recording, or part of one, that one side of a trial names."""
    match = _FRAGMENT.fullmatch(name)
    plain, start, end = name, None, None
    if match and not (root / name).exists():
        plain, (start, end) = match["file"], _times(name, match["start"], match["end"])
    if recordings is not None:
        if plain not in recordings:
            raise InputError(f"{plain!r} is not in the list of recordings{nearest(plain, recordings)}")
        path = recordings[plain]
    else:
        path = _find(root, plain)
    return Item(name=name, path=path, uri=plain, start=start, end=end)


def _find(root: Path, name: str) -> Path:
    """The file of a side; Kaldi's names have no ending."""
    path = root / name
    if path.is_file() or path.suffix.lower() in AUDIO_SUFFIXES:
        return path
    for suffix in AUDIO_SUFFIXES:
        candidate = path.with_name(path.name + suffix)
        if candidate.is_file():
            return candidate
    return path


def _times(name: str, start: str, end: str) -> tuple[float, float]:
    try:
        times = float(start or 0), float(end)
    except ValueError:
        raise InputError(f"{name!r}: expected '#t=<start>,<end>' in seconds") from None
    if not (0 <= times[0] < times[1] < math.inf):
        raise InputError(f"{name!r}: the start must lie before the end, both in seconds")
    return times
