"""Arrays as other programs write them: npy, npz, text, raw binary, Polygraphy's JSON, Kaldi archives."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import RecordingError
from workbench.files import load_arrays
from workbench.kaldi_ark import read_kaldi

TEXT = (".txt", ".csv", ".tsv")
RAW = (".bin", ".raw", ".f16", ".f32", ".f64", ".i8", ".u8", ".i16", ".i32", ".i64")
KALDI = (".ark", ".scp")
SUFFIXES = (".npy", ".npz", ".json", *TEXT, *RAW, *KALDI)
"""Endings of files that hold arrays."""

_OF_SUFFIX = {
    ".f16": "float16",
    ".f32": "float32",
    ".f64": "float64",
    ".i8": "int8",
    ".u8": "uint8",
    ".i16": "int16",
    ".i32": "int32",
    ".i64": "int64",
}
DTYPES = (*dict.fromkeys(_OF_SUFFIX.values()), "bool", "uint16", "uint32", "uint64")


@dataclass(frozen=True, kw_only=True)
class ArrayForm:
    """What a raw or text file does not say about itself.

    Attributes
    ----------
    dtype : numpy's name of the type; None: what the file or its ending says, float32 for others
    shape : as it was written; one size may be -1; None: as the file has it
    order : `C`, the last axis runs fastest, or `F`, the first does
    byte_order : of raw files
    transpose : axis of the file for every axis of the result
    """

    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    order: str = "C"
    byte_order: str = "little"
    transpose: tuple[int, ...] | None = None


def read_array_file(path: Path, form: ArrayForm | None = None) -> dict[str, np.ndarray]:
    """The arrays of one file by name; a file with a single unnamed one is named after itself.

    A file that cannot be read is a `RecordingError`, which says what was expected and found.
    """
    form = form or ArrayForm()
    suffix = path.suffix.lower()
    if suffix == ".npz":
        found = load_arrays(path, RecordingError)
    elif suffix == ".npy":
        found = {path.stem: _npy(path)}
    elif suffix == ".json":
        found = _json(path)
    elif suffix in KALDI:
        try:
            vectors = read_kaldi(path)
        except ValueError as error:
            raise RecordingError(str(error)) from None
        found = {path.stem: _stacked(path, list(vectors.values()))}
    elif suffix in TEXT:
        found = {path.stem: _text(path)}
    elif suffix in RAW:
        return {path.stem: _raw(path, form)}
    else:
        raise RecordingError(f"{path}: no array file; known endings are {', '.join(SUFFIXES)}")
    return {name: apply_form(path, array, form) for name, array in found.items()}


def _npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "allow_pickle" in str(error):
            raise RecordingError(f"{path}: is no .npy, or holds Python objects, never loaded") from None
        raise RecordingError(f"{path}: cannot be read as .npy: {error}") from None
    if not isinstance(array, np.ndarray):
        raise RecordingError(f"{path}: is no .npy file")
    return array


def _raw(path: Path, form: ArrayForm) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error})") from None
    name = form.dtype or _OF_SUFFIX.get(path.suffix.lower(), "float32")
    dtype = np.dtype(name).newbyteorder(">" if form.byte_order == "big" else "<")
    if len(content) % dtype.itemsize:
        raise RecordingError(
            f"{path}: {len(content)} bytes are no whole number of {name} values of {dtype.itemsize} bytes; "
            "the file is truncated, or of another dtype"
        )
    return apply_form(path, np.frombuffer(content, dtype), form)


def _text(path: Path) -> np.ndarray:
    """Numbers row by row, separated by blanks, commas or tabs; lines with # are comments."""
    rows: list[list[float]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: is not readable text: {error}") from None
    for number, line in enumerate(lines, start=1):
        fields = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not fields:
            continue
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            raise RecordingError(f"{path}:{number}: expected numbers, found {line.strip()[:60]!r}") from None
    if not rows:
        raise RecordingError(f"{path}: holds no numbers")
    if len({len(row) for row in rows}) > 1:
        if len(rows[-1]) < len(rows[0]) and len({len(row) for row in rows[:-1]}) == 1:
            # programs that print a fixed number of values per line leave the last one shorter
            return np.array([value for row in rows for value in row])
        raise RecordingError(f"{path}: its lines hold different numbers of values")
    array = np.array(rows)
    return array[:, 0] if array.shape[1] == 1 else array


def _json(path: Path) -> dict[str, np.ndarray]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path}: is not readable JSON: {error}") from None
    named = dict(_polygraphy(content, path.stem, path))
    if named:
        return named
    try:
        if isinstance(content, Mapping):
            return {str(name): _numbers(value) for name, value in content.items()}
        return {path.stem: _numbers(content)}
    except (TypeError, ValueError):
        raise RecordingError(
            f"{path}: expected arrays, as nested lists or as Polygraphy saves them"
        ) from None


def _polygraphy(value: Any, name: str, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a file that Polygraphy saved (`--save-outputs`): base64 of what `np.save` writes."""
    if isinstance(value, Mapping):
        packed = value.get("array")
        if value.get("polygraphy_class") == "ndarray" and isinstance(packed, str):
            try:
                yield name, np.load(io.BytesIO(base64.b64decode(packed, validate=True)), allow_pickle=False)
            except (ValueError, EOFError, OSError, binascii.Error) as error:
                raise RecordingError(f"{path}: array {name!r} cannot be read: {error}") from None
            return
        for key, each in value.items():
            yield from _polygraphy(each, str(key), path)
    elif isinstance(value, list):
        for each in value:
            yield from _polygraphy(each, name, path)


def _numbers(value: Any) -> np.ndarray:
    array = np.array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError("no numbers")
    return array


def _stacked(path: Path, vectors: Sequence[np.ndarray]) -> np.ndarray:
    if not vectors:
        raise RecordingError(f"{path}: holds no vector")
    if len({vector.shape for vector in vectors}) > 1:
        raise RecordingError(f"{path}: holds vectors of different sizes")
    return np.stack(vectors)


def apply_form(path: Path, array: np.ndarray, form: ArrayForm) -> np.ndarray:
    """The array in the shape and order that its description says."""
    if form.dtype is not None and path.suffix.lower() not in RAW and array.dtype != np.dtype(form.dtype):
        if path.suffix.lower() not in (*TEXT, ".json"):
            raise RecordingError(f"{path}: holds {array.dtype}, but {form.dtype} is said to be there")
        array = array.astype(form.dtype)
    if form.shape is not None:
        known = prod(size for size in form.shape if size >= 0)
        whole = -1 in form.shape
        if (whole and (known == 0 or array.size % known)) or (not whole and array.size != known):
            raise RecordingError(
                f"{path}: {array.size} values do not fill the shape {form.shape}{_hint(array, form)}"
            )
        array = array.reshape(form.shape, order="F" if form.order == "F" else "C")
    if form.transpose is not None:
        if sorted(form.transpose) != list(range(array.ndim)):
            raise RecordingError(
                f"{path}: axes are named for {len(form.transpose)} dimensions, found {array.shape}"
            )
        array = array.transpose(form.transpose)
    return array


def _hint(array: np.ndarray, form: ArrayForm) -> str:
    """What the bytes would fill, if they were of another type."""
    if form.shape is None or -1 in form.shape:
        return ""
    size, wanted = array.size * array.dtype.itemsize, prod(form.shape)
    fitting = [name for name in DTYPES if np.dtype(name).itemsize * wanted == size]
    if fitting:
        return f"; as {' or '.join(fitting[:3])} they would"
    return "; the file is truncated" if array.size < wanted else ""
