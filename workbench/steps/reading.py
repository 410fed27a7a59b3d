"""Folders of steps, by this program or any other: recorded folders, fixtures, dumps of a port."""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.array_files import FORM_KEYS, SUFFIXES, ArrayForm, apply_form, parse_form, read_array_file
from workbench.errors import InputError, RecordingError, nearest
from workbench.rttm import read_rttm
from workbench.runtimes.dumps import COUNTS
from workbench.runtimes.geometry import geometry_from_json
from workbench.steps.names import BY_NAME, STEPS, Step
from workbench.steps.pipeline import segments_array
from workbench.types import Geometry

DESCRIPTION = "steps.toml"
"""What a folder's arrays are called and how its raw files are to be read."""

_KEYS = (*FORM_KEYS, "step")
_OF_RECORDED_FOLDERS = (*COUNTS, "output")  # keys that only the runtime recorded:DIR looks at
_ABOUT_THE_REST = ("geometry.json", "manifest.json", "metadata.json")


@dataclass(frozen=True, kw_only=True)
class Described:
    """One entry of `[arrays]`."""

    form: ArrayForm
    step: Step
    axes: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class StepsFolder:
    """One side: the steps of its recordings, read when they are asked for.

    Attributes
    ----------
    name : as the user gave it
    folder : Path
    geometry : how it sees time and speakers; None where it does not say
    recordings : uri -> array name as found there -> the file that holds it
    described : array name as found there -> what `steps.toml` or `geometry.json` says of it
    """

    name: str
    folder: Path
    geometry: Geometry | None
    recordings: Mapping[str, Mapping[str, Path]]
    described: Mapping[str, Described] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()  # arrays that are no step

    @property
    def uris(self) -> tuple[str, ...]:
        """Names of the recordings."""
        return tuple(self.recordings)

    def names(self, uri: str) -> dict[str, tuple[str, ...]]:
        """Array of a step -> the names under which this side has it, our own first."""
        found: dict[str, list[str]] = {}
        for name in self.recordings[uri]:
            step = self._step(name)
            if step is not None:
                found.setdefault(step.array, []).append(name)
        order = {array: step.names for array, step in ((s.array, s) for s in STEPS)}
        return {
            array: tuple(sorted(names, key=lambda n: order[array].index(n) if n in order[array] else -1))
            for array, names in found.items()
        }

    def load(self, uri: str, name: str) -> np.ndarray:
        """One array under the name it has here; axes in the order of the step."""
        path = self.recordings[uri][name]
        if path.suffix.lower() == ".rttm":
            annotations = read_rttm(path)
            if uri in annotations or len(annotations) == 1:
                return segments_array(annotations.get(uri) or next(iter(annotations.values())))
            raise RecordingError(f"{path}: names {len(annotations)} recordings, none of them {uri!r}")
        described = self.described.get(name)
        if path.suffix.lower() == ".npz":
            members = _members(path)
            key = name if name in members or len(members) != 1 else members[0]
            array = _member(path, key)
            arrays = {name: apply_form(path, array, described.form) if described else array}
        else:
            arrays = read_array_file(path, described.form if described else None)
        found = arrays.get(name) if len(arrays) != 1 else next(iter(arrays.values()))
        if found is None:
            raise RecordingError(f"{path}: holds no array {name!r}; it has {', '.join(arrays) or 'none'}")
        if found.dtype.kind not in "fiub":
            raise RecordingError(f"{path}: {name} must hold numbers, found {found.dtype}")
        return found

    def _step(self, name: str) -> Step | None:
        described = self.described.get(name)
        return described.step if described else BY_NAME.get(name)


def open_steps(text: str | Path, *, may_be_empty: bool = False) -> StepsFolder:
    """A side from its folder, or from `recorded:DIR`; one without any step is an error, if not allowed.

    Recordings are `<uri>.npz`, folders `<uri>/` of arrays, or files `<uri>.<step>.<ending>`; a folder that
    holds the arrays of one recording alone is that recording. `<uri>.rttm` gives the segments.
    """
    folder = Path(str(text).removeprefix("recorded:"))
    if not folder.is_dir():
        raise InputError.at(folder, "no such folder; expected one with the arrays of every step")
    described, geometry = _descriptions(folder)
    recordings: dict[str, dict[str, Path]] = {}
    unknown: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in (*_ABOUT_THE_REST, DESCRIPTION):
            continue
        if path.is_dir():
            inner = _loose(path, described, unknown)
            if inner:
                recordings.setdefault(path.name, {}).update(
                    {name: file for names in inner.values() for name, file in names.items()}
                )
        elif path.suffix.lower() == ".npz" and _is_recording(path, described):
            recordings.setdefault(path.stem, {}).update(dict.fromkeys(_members(path), path))
    for uri, names in _loose(folder, described, unknown).items():
        mine = uri or (next(iter(recordings)) if len(recordings) == 1 else folder.resolve().name)
        recordings.setdefault(mine, {}).update(names)
    if not recordings and not may_be_empty:
        raise InputError.at(
            folder,
            "holds no array of a step; expected <uri>.npz, folders of arrays, or files named after steps "
            f"such as log_probs.npy ({', '.join(step.array for step in STEPS[:6])}, ...; others are named in "
            f"{DESCRIPTION})",
        )
    return StepsFolder(
        name=str(text),
        folder=folder,
        geometry=geometry,
        recordings={uri: recordings[uri] for uri in sorted(recordings)},
        described=described,
        unknown=tuple(dict.fromkeys(unknown)),
    )


def _descriptions(folder: Path) -> tuple[dict[str, Described], Geometry | None]:
    """`geometry.json` and `steps.toml`, whichever are there; the latter wins."""
    geometry: Geometry | None = None
    entries: Mapping[str, Any] = {}
    source = folder / "geometry.json"
    if source.is_file():
        try:
            content = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError.at(source, f"is not readable JSON: {error}") from None
        geometry = geometry_from_json(content, source)
        entries = _table(content.get("arrays", {}), source)
    described = {name: _described(name, entry, source) for name, entry in entries.items()}
    source = folder / DESCRIPTION
    if source.is_file():
        try:
            content = tomllib.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError.at(source, f"is not valid TOML: {error}") from None
        for key in content:
            if key not in ("arrays", "geometry"):
                raise InputError.at(source, f"unknown table {key!r}; known are arrays and geometry")
        if "geometry" in content:
            geometry = geometry_from_json(content["geometry"], source)
        for name, entry in _table(content.get("arrays", {}), source).items():
            described[name] = _described(name, entry, source)
    return described, geometry


def _table(value: Any, source: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(each, Mapping) for each in value.values()):
        raise InputError.at(source, "arrays must be a table with one table per array")
    return value


def _described(name: str, entry: Mapping[str, Any], source: Path) -> Described:
    """What is said of one array, every key and value checked."""

    def error(problem: str) -> InputError:
        return InputError.at(source, f"arrays.{name}: {problem}")

    for key in entry:
        if key not in (*_KEYS, *_OF_RECORDED_FOLDERS):
            raise error(f"unknown key {key!r}{nearest(key, _KEYS)}; known are {', '.join(_KEYS)}")
    meant = entry.get("step", name)
    if meant not in BY_NAME:
        raise error(
            f"no step is called {meant!r}{nearest(str(meant), BY_NAME)}; say which one it is with step = "
            f"'...': {', '.join(step.array for step in STEPS)}"
        )
    step = BY_NAME[meant]
    return Described(form=parse_form(entry, step.axes, error), step=step)


def _loose(
    folder: Path, described: Mapping[str, Described], unknown: list[str]
) -> dict[str, dict[str, Path]]:
    """Array files of a folder by recording (empty: not said) and name."""
    known = {**BY_NAME, **described}
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or not path.is_file() or path.name in (*_ABOUT_THE_REST, DESCRIPTION):
            continue
        if suffix == ".rttm":
            uri = "" if path.stem in ("expected", "segments") else path.stem
            found.setdefault(uri, {})["segments"] = path
            continue
        if suffix not in SUFFIXES or (suffix == ".npz" and _is_recording(path, described)):
            continue
        stem = path.stem.removesuffix("_0")  # msame counts its outputs
        name = next((n for n in (path.stem, stem) if n in known), None)
        uri = ""
        if name is None:
            ends = [n for n in known for mark in ".-_" if stem.endswith(f"{mark}{n}")]
            if not ends:
                unknown.append(path.name)
                continue
            name = max(ends, key=len)
            uri = stem[: -len(name)].rstrip(".-_")
        found.setdefault(uri, {})[name] = path
    return found


def _is_recording(path: Path, described: Mapping[str, Described]) -> bool:
    """Whether an .npz holds the steps of one recording, not one array under the file's name."""
    members = _members(path)
    if len(members) == 1 and (path.stem in BY_NAME or path.stem in described):
        return False
    return len(members) != 1 or members[0] in BY_NAME or members[0] in described


def _members(path: Path) -> list[str]:
    """Names in an .npz; a damaged one is empty here and named when it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def _member(path: Path, name: str) -> np.ndarray:
    """One array of an .npz, without reading the others."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            return np.asarray(content[name])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: {name} cannot be read: {error}") from None
