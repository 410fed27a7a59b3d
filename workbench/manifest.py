"""What a result was made from: digests of every file, all options, the software and the machine.

A manifest is plain data, ready for JSON. Two results whose manifests agree but for `timing` came
from the same inputs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from workbench.errors import InputError
from workbench.files import file_digest

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "pyannote.core",
    "pyannote.metrics",
    "torch",
    "onnxruntime",
    "optuna",
)
"""Packages whose versions can change a result."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")

Inputs = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A file, a folder, or several of them."""


class Stopwatch:
    """When a run began and how long it has taken.

    Examples
    --------
    >>> sorted(Stopwatch().read())
    ['began', 'seconds']
    """

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self._start = perf_counter()

    def read(self) -> dict[str, Any]:
        """Start in UTC as ISO 8601, and seconds since then."""
        return {
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round(perf_counter() - self._start, 3),
        }


def run_manifest(
    command: str,
    *,
    files: Mapping[str, Inputs | None],
    options: Mapping[str, Any],
    stopwatch: Stopwatch | None = None,
) -> dict[str, Any]:
    """Everything needed to tell whether a run could be repeated with the same result.

    Parameters
    ----------
    command : what ran, for instance ``workbench sweep``
    files : role (``features``, ``weights``, ``reference``, ...) -> files or folders; None: not given
        Folders are walked. Every file is named with its size in bytes and its SHA-256.
    options : all parameters, however nested; dataclasses, paths and numpy values are understood
    stopwatch : started when the run began

    Returns
    -------
    manifest : dict
        ``command``, ``options``, ``files`` (role -> path -> {"sha256", "bytes"}), ``software``,
        ``machine`` and, with a stopwatch, ``timing``.
    """
    found = {role: describe_files(given) for role, given in files.items() if given is not None}
    manifest = {
        "command": command,
        "options": plain(options),
        "files": found,
        "software": describe_software(),
        "machine": describe_machine(),
    }
    return manifest if stopwatch is None else manifest | {"timing": stopwatch.read()}


def describe_files(given: Inputs) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file, by its path as given; folders are walked."""
    paths = [Path(given)] if isinstance(given, str | os.PathLike) else [Path(each) for each in given]
    return {str(file): {"sha256": digest_of(file), "bytes": file.stat().st_size} for file in walk(paths)}


def walk(paths: Iterable[Path]) -> list[Path]:
    """The files themselves and those below the folders, hidden and temporary ones left out."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                each
                for each in path.rglob("*")
                if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
            )
        elif path.exists():
            files.append(path)
        else:
            raise InputError.at(path, "does not exist; expected a file or a folder")
    return files


def digest_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, computed once as long as neither its size nor its time of change differ."""
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    return _digest(str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _digest(path: str, _size: int, _changed: int, _moved: int) -> str:
    return file_digest(path)


def digest_values(value: Any) -> str:
    """SHA-256 of plain values, dataclasses and arrays, independent of the order of keys.

    Examples
    --------
    >>> digest_values({"a": 1, "b": [2.0]}) == digest_values({"b": [2.0], "a": 1})
    True
    >>> digest_values({"a": 1}) == digest_values({"a": 2})
    False
    """
    content = json.dumps(plain(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def code_digest(modules: Iterable[str], packages: Iterable[str] = ()) -> str:
    """SHA-256 of the source of our modules or subpackages (``clustering``, ``types``) and package versions.

    What was computed by other code is never taken for what this code would compute.
    """
    root = Path(__file__).parent
    files: list[Path] = []
    for module in modules:
        path = root.joinpath(*module.split("."))
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    sources = {file.relative_to(root).as_posix(): digest_of(file) for file in files}
    return digest_values({"sources": sources, "versions": {name: version_of(name) for name in packages}})


def version_of(package: str) -> str | None:
    """Installed version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe_software() -> dict[str, Any]:
    """Versions of the workbench, of Python and of the packages that can change a result."""
    versions = {package: version_of(package) for package in PACKAGES}
    return {
        "workbench": _own_version(),
        "revision": git_revision(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {package: version for package, version in versions.items() if version is not None},
    }


def describe_machine() -> dict[str, Any]:
    """Operating system, processor, usable cores, and what the environment says about threads."""
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "executable": sys.executable,
        "environment": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


@cache
def git_revision(folder: Path) -> str | None:
    """Commit of the working copy that holds `folder`, with ``+changes`` if files differ; None outside one."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    # a status that other processes may be waiting for must not be written: no optional locks
    command = ["git", "--no-optional-locks", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return run.stdout.strip()


def _own_version() -> str:
    from workbench import __version__

    return __version__


def plain(value: Any) -> Any:
    """`value` in terms of JSON: dataclasses as mappings, paths as text, numbers that JSON lacks as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        # two kinds of parameters may have the same values and still mean something else
        return {"kind": type(value).__name__, **{name: plain(each) for name, each in named.items()}}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
