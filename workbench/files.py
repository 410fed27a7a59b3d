"""Writing files so that a reader never sees half of one, and naming them so that none leaves its folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import InputError, RecordingError

_BLOCK_BYTES = 1 << 20
_LONGEST_NAME = 240  # bytes; most file systems allow 255, endings such as .labels.npy included


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary path beside `path` that replaces `path` when the block succeeds.

    The folder is created. If the block raises, the temporary file is removed and an
    existing `path` stays as it was.

    Parameters
    ----------
    path : path
        Final name of the file.

    Yields
    ------
    temporary : Path
        An empty file in the same folder, with the same suffix, because `np.savez` and
        soundfile choose the format by it.

    Examples
    --------
    >>> target = Path(tempfile.mkdtemp()) / "a" / "b.txt"
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("done")
    >>> target.read_text()
    'done'
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    except OSError as error:
        raise InputError(
            f"{path}: cannot write into the folder {path.parent} ({error.strerror or error}); "
            "choose a folder that can be written"
        ) from None
    os.close(descriptor)
    temporary = Path(name)
    try:
        # mkstemp makes private files; results follow the user's umask like any other file
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be replaced ({error.strerror or error}); remove what stands there "
                "or choose another name"
            ) from None
    finally:
        temporary.unlink(missing_ok=True)


def safe_name(uri: str) -> str:
    """`uri` itself if it is usable as a file name inside a folder, else an `InputError`.

    Refused: an empty uri, `.` and `..`, and any with a path separator or a control
    character, so that `out / f"{uri}.rttm"` always lies in `out` and on one line; one that is
    longer than a file name may be, endings included; and a file name that is not UTF-8.

    Examples
    --------
    >>> safe_name("EN2002a.part-1")
    'EN2002a.part-1'
    """
    if not uri or uri in {".", ".."} or any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in uri):
        raise InputError(
            f"recording id {uri!r} cannot name an output file: it must be non-empty, without path "
            "separators or control characters, and not '.' or '..'; rename the recording"
        )
    try:
        length = len(uri.encode())
    except UnicodeEncodeError:
        raise InputError(f"recording id {uri!r} is not UTF-8; rename the recording") from None
    if length > _LONGEST_NAME:
        raise InputError(
            f"recording id {uri[:40]!r}... has {length} bytes, files can be named after {_LONGEST_NAME} at "
            "most; rename the recording"
        )
    return uri


def json_bytes(value: Any) -> bytes:
    r"""`value` as JSON text in UTF-8; a file name that is not UTF-8 is escaped.

    Examples
    --------
    >>> json_bytes(["é", os.fsdecode(b"\xff")]).decode()
    '[\n  "é",\n  "\\udcff"\n]\n'
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Python's escape of a lone surrogate is JSON's, too
    return text.encode("utf-8", errors="backslashreplace")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def load_arrays(
    path: str | os.PathLike[str], failure: type[InputError] | type[RecordingError] = InputError
) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`, by name; nothing pickled is ever loaded.

    Parameters
    ----------
    path : the file
    failure : what to raise if it cannot be read
    """
    try:
        with open(path, "rb") as file:  # numpy leaves a broken file open
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array")
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):  # numpy advises to load it unsafely
            raise failure(
                f"{os.fspath(path)}: is no .npz, or holds Python objects, which are never loaded"
            ) from None
        raise failure(f"{os.fspath(path)}: cannot be read as .npz without pickle: {error}") from None


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0o022)
    os.umask(umask)
    return umask
