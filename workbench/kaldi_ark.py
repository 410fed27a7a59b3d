"""Vectors and matrices as Kaldi keeps them: `ark` archives, binary or text, and `scp` lists of their places.

The format is that of Kaldi's `io-funcs`, `kaldi-vector` and `compressed-matrix`; kaldiio and
WeSpeaker write the same. Nothing is ever executed: commands and pipes are refused.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from workbench.errors import InputError
from workbench.files import atomic_write
from workbench.textfiles import read_lines, split_fields

ARK_SUFFIXES = (".ark", ".scp")

_BINARY = b"\0B"
_LONGEST_KEY = 4096  # bytes; a file of another kind rarely has a blank this early
_REALS = {b"FV": "<f4", b"DV": "<f8", b"FM": "<f4", b"DM": "<f8"}
_WRITTEN = {("f", 4, 1): b"FV ", ("f", 8, 1): b"DV ", ("f", 4, 2): b"FM ", ("f", 8, 2): b"DM "}


def read_kaldi(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every vector or matrix of an archive or list, by name, in the order of the file.

    Parameters
    ----------
    path : path, or a Kaldi read specifier such as ``ark:x.ark``, ``ark,t:x.txt``, ``scp:x.scp``
        Without a specifier a name that ends in `.scp` is a list and anything else an archive.
        Whether an archive is binary or text is seen from its content.

    Returns
    -------
    arrays : dict, name -> float32 or float64 array, shape (dimension,) or (rows, columns)
        Text is read as float64 values rounded to float32, which is what Kaldi writes.
    """
    kind, path = _specified(path)
    arrays: dict[str, np.ndarray] = {}
    for key, array in iterate_scp(path) if kind == "scp" else iterate_ark(path):
        if key in arrays:
            raise InputError.at(path, f"names {key!r} twice; every name must stand once")
        arrays[key] = array
    if not arrays:
        raise InputError.at(path, "holds no vectors; is it the right file?")
    return arrays


def read_vectors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """`read_kaldi` for a file of vectors of one dimension; a matrix of one row counts as a vector."""
    vectors: dict[str, np.ndarray] = {}
    dimension: int | None = None
    for key, array in read_kaldi(path).items():
        if array.ndim == 2 and array.shape[0] != 1:
            raise InputError.at(
                os.fspath(path),
                f"{key!r} is a matrix of {array.shape[0]} rows, but one vector per name is needed here",
            )
        vector = array.reshape(-1)
        dimension = len(vector) if dimension is None else dimension
        if len(vector) != dimension or not len(vector):
            raise InputError.at(
                os.fspath(path),
                f"{key!r} has {len(vector)} values, but the first vector has {dimension}; "
                "all must come from one model",
            )
        vectors[key] = vector
    return vectors


def iterate_ark(path: str | os.PathLike[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of an archive, one after the other, so that it need not fit into memory."""
    with _open(Path(path)) as file:
        reader = KaldiReader(file, Path(path))
        while (key := reader.key()) is not None:
            yield key, reader.array(key)


def iterate_scp(path: str | os.PathLike[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of a list of lines `<name> <ark>:<offset>`, or `<name> <file of one array>`.

    A relative path counts from the working folder, as in Kaldi, or else from the list's folder.
    """
    path = Path(path)
    with ExitStack() as stack:
        opened: dict[Path, KaldiReader] = {}
        for number, line in read_lines(path):
            fields = split_fields(line, maximum=2)
            if len(fields) < 2:
                raise InputError.at(path, f"expected '<name> <ark>:<offset>', found {line[:80]!r}", number)
            key, target = fields
            archive, offset = _target(path, target, number)
            if archive not in opened:
                if len(opened) >= 64:  # far fewer than a process may keep open
                    stack.close()
                    opened.clear()
                opened[archive] = KaldiReader(stack.enter_context(_open(archive, path, number)), archive)
            reader = opened[archive]
            if offset > reader.size:
                raise InputError.at(
                    path, f"{archive} has {reader.size} bytes, found the offset {offset}", number
                )
            reader.file.seek(offset)
            yield key, reader.array(key)


def write_ark(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]],
    *,
    scp: str | os.PathLike[str] | None = None,
    text: bool = False,
) -> None:
    """Write vectors or matrices as an archive and, if wanted, the list of where each stands in it.

    Parameters
    ----------
    path : archive to write
    arrays : name -> float array, shape (dimension,) or (rows, columns)
        float32 is written as Kaldi's float, float64 as its double; both come back bit by bit,
        from text as float32.
    scp : list to write beside it; it names the archive as `path` does, which Kaldi reads from its
        working folder
    text : write numbers as text
    """
    path = Path(path)
    entries = arrays.items() if isinstance(arrays, Mapping) else arrays
    offsets: dict[str, int] = {}
    with ExitStack() as stack:
        list_file = None if scp is None else stack.enter_context(atomic_write(scp))
        with open(stack.enter_context(atomic_write(path)), "wb") as file:
            for key, array in entries:
                if key in offsets:
                    raise InputError(f"{path}: two arrays are named {key!r}; rename one")
                file.write(_checked_key(key, path) + b" ")
                offsets[key] = file.tell()
                file.write(_as_text(array) if text else _as_binary(array))
        if list_file is not None:
            lines = [f"{key} {path}:{offset}\n" for key, offset in offsets.items()]
            list_file.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))


class KaldiReader:
    """Reads one value after the other; every length is checked against what the file still holds."""

    def __init__(self, file: BinaryIO, path: Path, text_dtype: str = "f4"):
        self.file, self.path, self.text_dtype = file, path, text_dtype
        self.size = os.fstat(file.fileno()).st_size

    def error(self, problem: str) -> InputError:
        """A fault, and where the reader stands."""
        return InputError.at(self.path, f"{problem} (at byte {self.file.tell()})")

    def key(self) -> str | None:
        """The next name, None at the end."""
        raw = bytearray()
        while (byte := self.file.read(1)) not in (b"", b" ", b"\t"):
            if byte in b"\r\n" and not raw:
                continue  # blank lines between the entries of a text archive
            raw += byte
            if len(raw) > _LONGEST_KEY or byte in b"\r\n\0":
                break
        if not raw and not byte:
            return None
        if not byte or byte in b"\r\n\0" or not raw or len(raw) > _LONGEST_KEY:
            raise self.error(
                "is no Kaldi archive: expected '<name> ' and then a vector or matrix, "
                f"found {bytes(raw[:20])!r}"
            )
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(f"is no Kaldi archive: the name {bytes(raw[:20])!r} is not UTF-8") from None

    def array(self, key: str) -> np.ndarray:
        """The array that starts here."""
        start = self.file.tell()
        head = self.file.read(2)
        if head == _BINARY:
            return self.binary(key)
        self.file.seek(start)
        return self._text(key)

    def binary(self, key: str) -> np.ndarray:
        """The binary array that starts here, behind the mark of binary data."""
        token = bytearray()
        while (byte := self.file.read(1)) not in (b" ", b"") and len(token) < 4:
            token += byte
        kind = bytes(token)
        if kind in (b"FV", b"DV"):
            return self._values(key, _REALS[kind], (self._int(key),))
        if kind in (b"FM", b"DM"):
            return self._values(key, _REALS[kind], (self._int(key), self._int(key)))
        if kind in (b"CM", b"CM2", b"CM3"):
            return self._compressed(key, kind)
        raise self.error(
            f"{key!r} is of the type {kind!r}; vectors (FV, DV) and matrices (FM, DM, CM, CM2, CM3) are read"
        )

    def _int(self, key: str) -> int:
        """A dimension: the byte 4, then four bytes."""
        raw = self._bytes(key, 5)
        value: int = struct.unpack("<i", raw[1:])[0]
        if raw[0] != 4 or value < 0:
            raise self.error(f"the size of {key!r} is damaged: found the bytes {raw.hex(' ')}")
        return value

    def _bytes(self, key: str, count: int) -> bytes:
        left = self.size - self.file.tell()
        if count > left:  # before memory is asked for
            raise self.error(f"{key!r} takes {count} more bytes, the file has {left}; copy it again")
        return self.file.read(count)

    def _values(self, key: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod([*shape], dtype=object))
        raw = self._bytes(key, count * np.dtype(dtype).itemsize)
        return np.frombuffer(raw, dtype).reshape(shape).astype(dtype[1:])

    def _compressed(self, key: str, kind: bytes) -> np.ndarray:
        """A matrix in eight or sixteen bits per value, as Kaldi's `CompressedMatrix` has it."""
        low, span, rows, columns = struct.unpack("<ffii", self._bytes(key, 16))
        if rows < 0 or columns < 0:
            raise self.error(f"the size of {key!r} is damaged: {rows} x {columns}")
        low, span = np.float32(low), np.float32(span)
        if kind == b"CM2":
            return low + span / np.float32(65535) * self._values(key, "<u2", (rows, columns)).astype("f4")
        if kind == b"CM3":
            return low + span / np.float32(255) * self._values(key, "<u1", (rows, columns)).astype("f4")
        points = self._values(key, "<u2", (columns, 4)).astype("f4")
        points = (low + span / np.float32(65535) * points)[..., None]  # percentiles 0, 25, 75, 100
        codes = self._values(key, "<u1", (columns, rows)).astype("f4")
        first, second, third, fourth = points.transpose(1, 0, 2)
        matrix = np.where(
            codes <= 64,
            first + (second - first) * codes / np.float32(64),
            np.where(
                codes <= 192,
                second + (third - second) * (codes - np.float32(64)) / np.float32(128),
                third + (fourth - third) * (codes - np.float32(192)) / np.float32(63),
            ),
        )
        return np.ascontiguousarray(matrix.T)

    def _text(self, key: str) -> np.ndarray:
        """`[ 1 2 3 ]`, a matrix with a line per row, or bare numbers up to the end of the line."""
        line = self.file.readline()
        if b"[" not in line:
            return self._row(key, line)
        before, _, rest = line.partition(b"[")
        if before.strip():
            raise self.error(f"expected '[' after the name {key!r}, found {before.strip()[:40]!r}")
        lines = [rest]
        while b"]" not in lines[-1]:
            following = self.file.readline()
            if not following:
                raise self.error(f"{key!r} has no closing ']'; the file was cut off")
            lines.append(following)
        lines[-1], _, after = lines[-1].partition(b"]")
        if after.strip():
            raise self.error(f"expected the end of the line after ']' of {key!r}, found {after[:40]!r}")
        rows = [self._row(key, line, empty=True) for line in lines if line.strip()]
        if len(lines) == 1:
            return rows[0] if rows else np.empty(0, "f4")
        if len({len(row) for row in rows}) > 1:
            raise self.error(f"the rows of the matrix {key!r} differ in length")
        return np.stack(rows) if rows else np.empty((0, 0), "f4")

    def _row(self, key: str, line: bytes, empty: bool = False) -> np.ndarray:
        fields = line.split()
        if not fields and not empty:
            raise self.error(f"no values after the name {key!r}")
        try:
            values = np.array([float(field) for field in fields], dtype=np.float64)
            with np.errstate(over="ignore"):  # beyond float32 is infinite, as in Kaldi
                return values.astype(self.text_dtype)
        except ValueError:
            bad = next(field for field in fields if not _is_number(field))
            shown = bad[:40].decode("utf-8", "replace")
            raise self.error(f"{key!r} holds {shown!r}, which is no number") from None


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _as_binary(array: np.ndarray) -> bytes:
    array = _checked(array)
    head = _WRITTEN[array.dtype.kind, array.dtype.itemsize, array.ndim]
    sizes = b"".join(b"\4" + struct.pack("<i", size) for size in array.shape)
    return _BINARY + head + sizes + array.astype(array.dtype.newbyteorder("<")).tobytes()


def _as_text(array: np.ndarray) -> bytes:
    """Numpy's shortest text of a number, which gives the same bits back."""
    array = _checked(array)
    if array.ndim == 1:
        return (" [ " + " ".join(map(str, array)) + " ]\n").encode()
    rows = "\n".join("  " + " ".join(map(str, row)) for row in array)
    return f" [\n{rows} ]\n".encode()


def _checked(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if array.ndim not in (1, 2):
        raise ValueError(f"Kaldi files hold vectors and matrices, got an array of shape {array.shape}")
    return array


def is_key(name: str) -> bool:
    """Whether a Kaldi file can hold the name: a blank would end it."""
    return bool(name) and not any(character.isspace() or character == "\0" for character in name)


def _checked_key(key: str, path: Path) -> bytes:
    if not is_key(key):
        raise InputError(
            f"{path}: the name {key!r} cannot stand in a Kaldi file, where a blank ends it; rename it"
        )
    return key.encode("utf-8", "surrogateescape")


def _specified(text: str | os.PathLike[str]) -> tuple[str, Path]:
    """`ark` or `scp`, and the path, of a path or a Kaldi read specifier."""
    name = os.fspath(text)
    kind = "scp" if name.lower().endswith(".scp") else "ark"
    match = re.fullmatch(r"((?:ark|scp)(?:,\w+)*):(.*)", name, flags=re.DOTALL)
    if match and not Path(name).exists():
        words, name = match[1].split(","), match[2].strip()
        kind = words[0]
        if {"ark", "scp"} <= set(words):
            raise InputError(
                f"{match[0]}: names two files, which is a way to write; give one of them to read"
            )
    _refuse_command(name, name)
    return kind, Path(name)


def _refuse_command(target: str, where: str | Path, line: int | None = None) -> None:
    if target == "-" or target.startswith("|") or target.endswith("|"):
        what = "is standard input" if target == "-" else "is a command"
        raise InputError.at(
            where, f"{target!r} {what}, which is not read; write it to a file and name the file", line
        )


def _target(scp: Path, target: str, line: int) -> tuple[Path, int]:
    """Archive and offset that one line of a list names."""
    _refuse_command(target, scp, line)
    if target.endswith("]"):
        raise InputError.at(scp, f"{target!r} takes a part of a matrix, which is not supported", line)
    name, colon, digits = target.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit()):
        name, digits = target, "0"
    archive = Path(name)
    beside = scp.parent / name
    return (beside if not archive.exists() and beside.exists() else archive), int(digits[:19])


def _open(path: Path, scp: Path | None = None, line: int | None = None) -> BinaryIO:
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if scp is None:
            raise InputError.at(path, f"cannot be read ({reason})") from None
        raise InputError.at(scp, f"{path} cannot be read ({reason})", line) from None
