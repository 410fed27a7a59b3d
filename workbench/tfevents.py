"""Scalars out of TensorBoard event files, without TensorFlow or TensorBoard.

An event file is a row of records (TFRecord framing: length, checksum of the length, payload,
checksum of the payload), and a payload is an `Event` message in protobuf's wire format. Only the
few fields that lead to a scalar are decoded; everything else is stepped over.

A file whose tail is missing, because training still runs or the machine stopped, gives what stands
before the break and says so. Nothing in a file is trusted: lengths are checked before anything is
read, and numbers and names stay numbers and names.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from workbench.errors import InputError

PATTERN = "*tfevents*"  # events.out.tfevents.<seconds>.<host>.<process>.<number>
LARGEST = 1 << 20  # bytes; a scalar takes about a hundred, what is larger is a graph or a picture
LONGEST_TAG = 200  # characters

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed
_MASK = 0xA282EAD8  # added by TFRecord, so that checksums of checksums differ
_HEADER = struct.Struct("<QI")  # length of the payload, masked checksum of those eight bytes

# Wire types of protobuf: how a field's value is laid out.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# TensorFlow's numbers of data types, the field of `TensorProto` that lists values of each, and how
# both that list and `tensor_content` store them.
_DTYPES = {1: (5, "<f4"), 2: (6, "<f8"), 3: (7, "<i4"), 9: (10, "<i8")}
_TENSOR_CONTENT = 4


@dataclass(frozen=True)
class Scalar:
    """One point of one curve."""

    tag: str  # name of the curve, such as Train_Epoch/Loss
    step: int
    value: float
    wall_time: float  # s since 1970


@dataclass(frozen=True, kw_only=True)
class EventFile:
    """The scalars of one event file, in the order in which they were written."""

    path: Path
    scalars: tuple[Scalar, ...]
    problem: str | None = None  # what kept the rest of the file from being read


class _Malformed(ValueError):
    """A payload that is no message; its record is left out."""


def read_events(path: str | os.PathLike[str]) -> EventFile:
    """All scalars of an event file; damage ends or thins the list and is named in `problem`.

    Both ways of storing a scalar are read: `simple_value`, which PyTorch writes, and a tensor of one
    number, which TensorFlow 2 writes. Text, images, histograms and graphs are stepped over.
    """
    path = Path(path)
    scalars: list[Scalar] = []
    problems: list[str] = []
    num_damaged = 0
    try:
        with path.open("rb") as file:
            for payload in _records(file, os.fstat(file.fileno()).st_size, problems):
                try:
                    scalars += _event(payload) if payload is not None else []
                    num_damaged += payload is None
                except _Malformed:
                    num_damaged += 1
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    if num_damaged:
        problems.append(f"{num_damaged} damaged record{'s' if num_damaged > 1 else ''} left out")
    return EventFile(path=path, scalars=tuple(scalars), problem="; ".join(problems) or None)


def _records(file: BinaryIO, size: int, problems: list[str]) -> Iterator[bytes | None]:
    """Payloads, None for one whose checksum is wrong; ends at the first break in the framing."""
    position = 0
    while position < size:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            problems.append(f"ends within a record, at byte {position}; what stands before was read")
            return
        length, checksum = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != checksum:
            # without a trustworthy length nobody knows where the next record starts
            where = (
                "is no event file"
                if position == 0
                else f"is damaged at byte {position}; what stands before was read"
            )
            problems.append(where)
            return
        end = position + _HEADER.size + length + 4
        if end > size:
            problems.append(f"ends within a record, at byte {position}; what stands before was read")
            return
        if length > LARGEST:
            file.seek(end)
        else:
            payload = file.read(length)
            (checksum,) = struct.unpack("<I", file.read(4))
            yield payload if masked_crc32c(payload) == checksum else None
        position = end


def _make_table() -> tuple[int, ...]:
    """CRC-32C of every single byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _event(payload: bytes) -> list[Scalar]:
    """The scalars of an `Event` message: wall_time = 1, step = 2, summary = 5."""
    wall_time, step = 0.0, 0
    summaries: list[bytes] = []
    for number, kind, value in _fields(payload):
        if (number, kind) == (1, _FIXED64):
            wall_time = struct.unpack("<d", _as_bytes(value))[0]
        elif (number, kind) == (2, _VARINT):
            step = _signed(value)
        elif (number, kind) == (5, _BYTES):
            summaries.append(_as_bytes(value))
    found = []
    for summary in summaries:
        for number, kind, value in _fields(summary):
            if (number, kind) == (1, _BYTES) and (named := _value(_as_bytes(value))) is not None:
                found.append(Scalar(tag=named[0], step=step, value=named[1], wall_time=wall_time))
    return found


def _value(payload: bytes) -> tuple[str, float] | None:
    """Tag and number of a `Summary.Value`: tag = 1, simple_value = 2, tensor = 8; None for other kinds."""
    tag, number = "", None
    for field, kind, value in _fields(payload):
        if (field, kind) == (1, _BYTES):
            tag = _readable(_as_bytes(value))
        elif (field, kind) == (2, _FIXED32):
            number = float(struct.unpack("<f", _as_bytes(value))[0])
        elif (field, kind) == (8, _BYTES):
            number = _tensor(_as_bytes(value))
    return None if number is None else (tag, number)


def _tensor(payload: bytes) -> float | None:
    """The number in a `TensorProto` that holds exactly one; None for every other tensor."""
    fields = list(_fields(payload))
    dtype = next((value for number, kind, value in fields if (number, kind) == (1, _VARINT)), 0)
    if dtype not in _DTYPES:
        return None
    listed, layout = _DTYPES[int(dtype)] if isinstance(dtype, int) else (0, "")
    numbers: list[float] = []
    for number, kind, value in fields:
        if number == _TENSOR_CONTENT or (number == listed and kind == _BYTES and layout[1] == "f"):
            content = _as_bytes(value)
            if len(content) != np.dtype(layout).itemsize:
                return None  # several numbers, or none
            numbers.append(float(np.frombuffer(content, dtype=layout)[0]))
        elif number == listed and kind == _BYTES:  # packed varints
            numbers += [float(_signed(each)) for each in _varints(_as_bytes(value))]
        elif number == listed:
            numbers.append(float(_signed(value)) if kind == _VARINT else _fixed(value, layout))
    return numbers[0] if len(numbers) == 1 else None


def _fixed(value: int | bytes, layout: str) -> float:
    """A number of fixed width that stands alone in its field."""
    content = _as_bytes(value)
    if len(content) != np.dtype(layout).itemsize:
        raise _Malformed
    return float(np.frombuffer(content, dtype=layout)[0])


def _fields(payload: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of the fields of a message; varints as int, everything else as bytes."""
    position = 0
    while position < len(payload):
        key, position = _varint(payload, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(payload, position)
            yield number, kind, value
            continue
        if kind == _BYTES:
            length, position = _varint(payload, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _Malformed  # groups, which nothing here uses, or no message at all
        if position + length > len(payload):
            raise _Malformed
        yield number, kind, payload[position : position + length]
        position += length


def _varint(payload: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends; ten bytes hold 64 bits."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(payload):
            raise _Malformed
        byte = payload[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise _Malformed


def _varints(payload: bytes) -> Iterator[int]:
    """Packed varints."""
    position = 0
    while position < len(payload):
        value, position = _varint(payload, position)
        yield value


def _signed(value: int | bytes) -> int:
    """A 64-bit varint as the signed number it stands for."""
    if isinstance(value, bytes):
        raise _Malformed
    return value - (1 << 64) if value >= 1 << 63 else value


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Malformed
    return value


def _readable(text: bytes) -> str:
    """A tag that can be printed: unprintable characters replaced, cut where it is absurdly long."""
    decoded = text[: 4 * LONGEST_TAG].decode("utf-8", errors="replace")[:LONGEST_TAG]
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in decoded
    )
