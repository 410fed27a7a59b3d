"""Lists of recordings with their references: pyannote `database.yml` and plain file lists."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pyannote.core import Annotation, Timeline

from workbench.errors import InputError
from workbench.rttm import read_rttm, read_uem
from workbench.textfiles import read_lines

SUBSETS = ("train", "development", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetEntry:
    """One recording of a protocol, with all that the protocol says about it."""

    uri: str
    subset: str  # "train", "development" or "test"
    audio: Path | None  # None where the file has no entry under `Databases`
    reference: Annotation | None  # None where the subset has no `annotation`
    uem: Timeline | None  # regions annotated, None where the subset has no `annotated`


def read_list(path: str | Path) -> list[str]:
    """Entries of a list with one name (or path) per line, in order; a repeated one is an error."""
    path = Path(path)
    entries: dict[str, int] = {}
    for number, line in read_lines(path):
        if line in entries:
            raise InputError.at(path, f"{line!r} was already listed on line {entries[line]}", number)
        entries[line] = number
    if not entries:
        raise InputError.at(path, "lists nothing; expected one name per line")
    return list(entries)


def list_protocols(path: str | Path) -> list[str]:
    """Names (`Database.SpeakerDiarization.Name`) of the protocols that a `database.yml` defines."""
    path = Path(path)
    return sorted(_protocols(_load(path), path))


def read_database(
    path: str | Path, protocol: str | None = None, subset: str | None = None
) -> dict[str, DatasetEntry]:
    """Recordings of a speaker diarization protocol defined in a pyannote `database.yml`.

    Parameters
    ----------
    path : the yml file; the paths inside are relative to its folder
    protocol : `Database.SpeakerDiarization.Name`
        May be left out where the file defines just one.
    subset : {"train", "development", "test"}, optional
        All subsets by default.

    Returns
    -------
    entries : dict, uri -> DatasetEntry
        In the order of the lists. A recording without turns has an empty reference.
    """
    path = Path(path)
    content = _load(path)
    protocols = _protocols(content, path)
    listed = ", ".join(sorted(protocols))
    if protocol is None:
        if len(protocols) != 1:
            raise InputError.at(path, f"defines {len(protocols)} protocols; choose one of {listed}")
        protocol = next(iter(protocols))
    if protocol not in protocols:
        raise InputError.at(path, f"defines no protocol {protocol!r}; it has {listed}")
    if subset is not None and subset not in SUBSETS:
        raise InputError.at(path, f"a subset is one of {', '.join(SUBSETS)}, got {subset!r}")

    subsets = protocols[protocol]
    unknown = sorted(str(name) for name in subsets if name not in SUBSETS)
    if unknown:
        raise InputError.at(
            path, f"{protocol} has the unknown subset {unknown[0]!r}; expected {', '.join(SUBSETS)}"
        )
    wanted = [name for name in SUBSETS if name in subsets and subset in (None, name)]
    if not wanted:
        raise InputError.at(
            path, f"{protocol} has no subset {subset or 'at all'}; it has {', '.join(subsets) or 'none'}"
        )

    database = protocol.split(".")[0]
    templates = _templates(content, database, path)
    entries: dict[str, DatasetEntry] = {}
    for name in wanted:
        where = f"{protocol}.{name}"
        for entry in _read_subset(path, where, name, _mapping(subsets[name], where, path), templates):
            if entry.uri in entries:
                raise InputError.at(
                    path, f"{entry.uri!r} is in both {entries[entry.uri].subset} and {name} of {protocol}"
                )
            entries[entry.uri] = entry
    return entries


def _load(path: Path) -> Mapping[str, Any]:
    """The yml file as a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError.at(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError.at(path, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise InputError.at(path, f"is not YAML: {problem}", mark.line + 1 if mark else None) from error
    return _mapping(content, "the file", path)


def _protocols(content: Mapping[str, Any], path: Path) -> dict[str, Mapping[str, Any]]:
    """Speaker diarization protocols: full name -> its subsets."""
    protocols: dict[str, Mapping[str, Any]] = {}
    for database, tasks in _mapping(content.get("Protocols"), "Protocols", path).items():
        names = _mapping(tasks, f"Protocols.{database}", path).get("SpeakerDiarization", {})
        for name, subsets in _mapping(names, f"Protocols.{database}.SpeakerDiarization", path).items():
            full = f"{database}.SpeakerDiarization.{name}"
            protocols[full] = _mapping(subsets, full, path)
    if not protocols:
        raise InputError.at(
            path, "defines no protocol; expected Protocols: <database>: SpeakerDiarization: <name>:"
        )
    return protocols


def _templates(content: Mapping[str, Any], database: str, path: Path) -> list[str]:
    """Path templates of a database's audio; none where `Databases` does not name it."""
    value = _mapping(content.get("Databases") or {}, "Databases", path).get(database, [])
    templates = [value] if isinstance(value, str) else value
    if not isinstance(templates, list) or not all(isinstance(item, str) for item in templates):
        raise InputError.at(
            path, f"Databases.{database}: expected a path such as audio/{{uri}}.wav, found {value!r}"
        )
    return templates


def _read_subset(
    path: Path, where: str, subset: str, keys: Mapping[str, Any], templates: list[str]
) -> list[DatasetEntry]:
    """Entries of one subset: its `uri` list, `annotation` RTTM and `annotated` UEM."""
    for key in ("uri", "annotation", "annotated"):
        if key in keys and not isinstance(keys[key], str):
            raise InputError.at(path, f"{where}.{key}: expected the path of a file, found {keys[key]!r}")
    if "uri" in keys:
        uris = read_list(path.parent / keys["uri"])
    elif "annotation" in keys and "{uri}" not in keys["annotation"]:
        uris = list(read_rttm(path.parent / keys["annotation"]))
    else:
        raise InputError.at(path, f"{where}: expected the key 'uri', the list of its recordings")
    references: dict[str, Annotation] = {}
    regions: dict[str, Timeline] = {}
    for file in _files(path, keys.get("annotation"), uris):
        references.update(read_rttm(file))
    for file in _files(path, keys.get("annotated"), uris):
        regions.update(read_uem(file))
    missing = [uri for uri in uris if uri not in regions]
    if "annotated" in keys and missing:
        raise InputError.at(path, f"{where}.annotated: names no region of {missing[0]!r}")
    return [
        DatasetEntry(
            uri=uri,
            subset=subset,
            audio=_audio(path, uri, templates),
            reference=references.get(uri, Annotation(uri=uri)) if "annotation" in keys else None,
            uem=regions.get(uri),
        )
        for uri in uris
    ]


def _files(path: Path, template: str | None, uris: list[str]) -> list[Path]:
    """The one file that `template` names, or one per recording where it holds `{uri}`."""
    if template is None:
        return []
    if "{uri}" not in template:
        return [path.parent / template]
    return [path.parent / template.replace("{uri}", uri) for uri in uris]


def _audio(path: Path, uri: str, templates: list[str]) -> Path | None:
    """Audio of `uri`: the first template that names a file, else what the first one says."""
    candidates: list[Path] = []
    for template in templates:
        if "*" in template or "?" in template:
            pattern = str(Path(glob.escape(str(path.parent)), template.replace("{uri}", glob.escape(uri))))
            candidates += map(Path, sorted(glob.glob(pattern, recursive=True)))
        else:
            candidates.append(path.parent / template.replace("{uri}", uri))
    return next(
        (candidate for candidate in candidates if candidate.is_file()), candidates[0] if candidates else None
    )


def _mapping(value: Any, where: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError.at(path, f"{where}: expected keys with values, found {value!r}")
    return value
