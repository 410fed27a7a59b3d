"""Which other files an ONNX model refers to, found before anything is loaded.

Weights of an ONNX file may lie in files beside it, under names that the model gives. A hostile or
careless model can name any file of the machine; ONNX Runtime would map it into memory. The model is
walked here field by field (it is a protocol buffer), without the onnx package, without reading the
weights, and anything that is not plainly a model is refused: what this walk cannot read must not
reach a reader that can.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from workbench.errors import InputError

# Message -> field number -> message in it, along every way on which a tensor can be reached (onnx.proto).
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},  # external_data
    "entry": {},
}
_MOST_DEEP = 64  # messages inside messages
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def check_external_data(path: Path) -> tuple[Path, ...]:
    """The files that hold weights of a model, all of them in its own folder or below.

    An `InputError` names the first that is not: absolute paths, `..` and links that lead out.
    """
    folder = path.resolve().parent
    found = []
    for location in dict.fromkeys(external_locations(path)):
        problem = _problem(location, folder, path.parent)
        if problem:
            raise InputError.at(
                path,
                f"keeps weights in the external file {location!r}, {problem}; it is not loaded. Put the file "
                "into the model's folder, or save the model as one file: "
                "onnx.save(onnx.load(model), single_file)",
            )
        found.append(path.parent / location)
    return tuple(found)


def _problem(location: str, folder: Path, given_folder: Path) -> str:
    """What is wrong with the place of an external file, empty if nothing is."""
    parts = {*PurePosixPath(location).parts, *PureWindowsPath(location).parts}
    if not location or "\0" in location or PurePosixPath(location).is_absolute():
        return "which is no relative path"
    if PureWindowsPath(location).drive or PureWindowsPath(location).root:
        return "which is no relative path"
    if ".." in parts:
        return "which leads out of the model's folder"
    for base in {folder, given_folder.resolve()}:
        if not (base / location).resolve().is_relative_to(base):
            return "a link that leads out of the model's folder"
    if not (given_folder / location).is_file():
        return "which does not exist"
    return ""


def external_locations(path: Path) -> list[str]:
    """The `location` of every tensor whose data lies outside of the model file."""
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            entries = list(_entries(content, 0, len(content), "model", 0))
    except (ValueError, IndexError) as error:
        raise InputError.at(
            path, f"is not a model that ONNX Runtime can run: it is no ONNX file ({error})"
        ) from None
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    return [value.decode("utf-8", "replace") for key, value in entries if key == b"location"]


def _entries(
    content: mmap.mmap, start: int, end: int, message: str, depth: int
) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every entry of `external_data` below a message."""
    if depth > _MOST_DEEP:
        raise ValueError("its graphs are nested too deeply")
    if message == "entry":
        fields = {number: content[first:last] for number, first, last in _fields(content, start, end)}
        yield fields.get(1, b""), fields.get(2, b"")
        return
    inside = _MESSAGES[message]
    for number, first, last in _fields(content, start, end):
        if number in inside:
            yield from _entries(content, first, last, inside[number], depth + 1)


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first and last byte of the fields of a message that are messages, text or data."""
    while position < end:
        tag, position = _varint(content, position, end)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("it has a field without a number")
        if kind == _VARINT:
            _, position = _varint(content, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _BYTES:
            length, position = _varint(content, position, end)
            if position + length > end:
                raise ValueError("it is truncated")
            yield number, position, position + length
            position += length
        else:
            raise ValueError(f"it has a field of the unknown type {kind}")
        if position > end:
            raise ValueError("it is truncated")


def _varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while position < end and shift < 70:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("it is truncated")
