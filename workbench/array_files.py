"""Arrays as other programs write them: npy, npz, text, raw binary, Polygraphy's JSON, Kaldi archives."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import RecordingError, nearest
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
    runner : of Polygraphy's files, which hold the outputs of several; None: the only one
    """

    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    order: str = "C"
    byte_order: str = "little"
    transpose: tuple[int, ...] | None = None
    runner: str | None = None


FORM_KEYS = ("dtype", "shape", "axes", "order", "byte_order", "runner")
"""Keys that describe an array in `geometry.json` and `steps.toml`."""


def parse_form(
    entry: Mapping[str, Any], axes: Sequence[str] | None, error: Callable[[str], Exception]
) -> ArrayForm:
    """The form that the `FORM_KEYS` of a table describe, every value checked.

    Parameters
    ----------
    entry : may hold other keys, which are not looked at
    axes : of the array as it is wanted; None: unknown, and `axes` in the entry is refused
    error : makes the exception from what is wrong
    """
    dtype, order, byte_order = entry.get("dtype"), entry.get("order", "C"), entry.get("byte_order", "little")
    if dtype is not None and dtype not in DTYPES:
        raise error(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}{nearest(str(dtype), DTYPES)}")
    if order not in ("C", "F"):
        raise error(f"order must be C (last axis fastest) or F, found {order!r}")
    if byte_order not in ("little", "big"):
        raise error(f"byte_order must be little or big, found {byte_order!r}")
    shape = entry.get("shape")
    if shape is not None and (
        not isinstance(shape, list)
        or any(isinstance(size, bool) or not isinstance(size, int) or size < -1 for size in shape)
        or shape.count(-1) > 1
    ):
        raise error(f"shape must list whole numbers, at most one of them -1, found {shape!r}")
    named = entry.get("axes")
    if named is not None:
        if axes is None:
            raise error("axes are known of log_probs and embeddings alone; leave the key out")
        if not isinstance(named, list) or sorted(map(str, named)) != sorted(axes):
            raise error(f"axes must order {', '.join(axes)}, found {named!r}")
    runner = entry.get("runner")
    if runner is not None and not isinstance(runner, str):
        raise error(f"runner must be the name of one of Polygraphy's runners, found {runner!r}")
    return ArrayForm(
        dtype=dtype,
        shape=None if shape is None else tuple(shape),
        order=order,
        byte_order=byte_order,
        transpose=None if named is None or axes is None else tuple(named.index(axis) for axis in axes),
        runner=runner,
    )


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
        found = _json(path, form.runner)
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
            f"the file is truncated, or of another dtype{_fitting(len(content))}"
        )
    return apply_form(path, np.frombuffer(content, dtype), form)


def _fitting(num_bytes: int) -> str:
    """Floating-point types that a file of this size may hold."""
    names = [name for name in ("float64", "float16") if num_bytes % np.dtype(name).itemsize == 0]
    return f' (if it is {names[0]}, say so with "dtype": "{names[0]}")' if names else ""


def _text(path: Path) -> np.ndarray:
    """Numbers row by row, separated by blanks, commas or tabs; what follows #, % or // is a comment."""
    rows: list[list[float]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: is not readable text: {error}") from None
    for number, line in enumerate(lines, start=1):
        fields = re.split(r"#|%|//", line, maxsplit=1)[0].replace(",", " ").replace(";", " ").split()
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


def _json(path: Path, runner: str | None) -> dict[str, np.ndarray]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: is not readable JSON: {error}") from None
    runners: dict[str, list[dict[str, np.ndarray]]] = {}
    for name, iteration in _polygraphy(content, "", path):
        runners.setdefault(name, []).append(iteration)
    if runners:
        return _iterations(_chosen(runners, runner, path), path)
    try:
        if isinstance(content, Mapping):
            return {str(name): _numbers(value) for name, value in content.items()}
        return {path.stem: _numbers(content)}
    except (TypeError, ValueError):
        raise RecordingError(
            f"{path}: expected arrays, as nested lists or as Polygraphy saves them"
        ) from None


def _polygraphy(value: Any, runner: str, path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Runner and outputs of every iteration in a file that Polygraphy saved.

    `--save-outputs` writes pairs of a runner's name and its iterations, `--save-inputs` iterations alone;
    both are wrapped differently from version to version.
    """
    if isinstance(value, Mapping):
        arrays = {str(name): _packed(each) for name, each in value.items()}
        found = {name: packed for name, packed in arrays.items() if packed is not None}
        if found:
            yield runner, {name: _unpacked(packed, name, path) for name, packed in found.items()}
            return
        named = value.get("runner_name")
        for each in value.values():
            yield from _polygraphy(each, runner or (named if isinstance(named, str) else ""), path)
    elif isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list):
            yield from _polygraphy(value[1], value[0], path)
            return
        for each in value:
            yield from _polygraphy(each, runner, path)


def _packed(value: Any) -> str | None:
    """The text of an array, which may be wrapped as one that is loaded late."""
    if isinstance(value, Mapping) and isinstance(value.get("values"), Mapping):
        value = value["values"]
    if isinstance(value, Mapping) and isinstance(value.get("array"), str):
        marked = value.get("polygraphy_class") == "ndarray" or "__polygraphy_encoded_ndarray" in value
        return value["array"] if marked else None
    return None


def _unpacked(packed: str, name: str, path: Path) -> np.ndarray:
    """Base64 of what `np.save` writes, or of an .npz with one array."""
    try:
        found = np.load(io.BytesIO(base64.b64decode(packed, validate=True)), allow_pickle=False)
        return found if isinstance(found, np.ndarray) else next(iter(found.values()))
    except (ValueError, EOFError, OSError, StopIteration, zipfile.BadZipFile, binascii.Error) as error:
        raise RecordingError(f"{path}: array {name!r} cannot be read: {error}") from None


def _chosen(
    runners: Mapping[str, list[dict[str, np.ndarray]]], runner: str | None, path: Path
) -> list[dict[str, np.ndarray]]:
    if runner is None and len(runners) == 1:
        return next(iter(runners.values()))
    if runner is None or runner not in runners:
        what = f"holds no runner {runner!r}" if runner is not None else "holds the outputs of several runners"
        raise RecordingError(
            f"{path}: {what}; there are {', '.join(runners)}: say which in geometry.json with the line "
            f'"runner": "{next(iter(runners))}",'
        )
    return runners[runner]


def _iterations(iterations: Sequence[Mapping[str, np.ndarray]], path: Path) -> dict[str, np.ndarray]:
    """Every output over all iterations, one batch after the other."""
    if any(each.keys() != iterations[0].keys() for each in iterations):
        raise RecordingError(f"{path}: not every iteration has the same outputs")
    return {name: joined([each[name] for each in iterations], path, name) for name in iterations[0]}


def joined(parts: Sequence[np.ndarray], path: Path, name: str) -> np.ndarray:
    """Batches along the first axis; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    if any(part.ndim == 0 or part.shape[1:] != parts[0].shape[1:] for part in parts):
        shapes = ", ".join(str(shape) for shape in dict.fromkeys(part.shape for part in parts))
        raise RecordingError(f"{path}: the batches of {name} differ in shape: {shapes}")
    return np.concatenate(parts)


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
