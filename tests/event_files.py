"""TensorBoard event files, written byte by byte from the public description of the format.

Nothing here comes from the reader under test: the checksum is computed bit by bit, messages are put
together from protobuf's wire format.
"""

from __future__ import annotations

import struct


def crc32c_bit_by_bit(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c_bit_by_bit(data)
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    groups = []
    while True:
        groups.append(number & 0x7F)
        number >>= 7
        if not number:
            break
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + content


def block(number: int, content: bytes) -> bytes:
    return field(number, 2, varint(len(content)) + content)


def float_bytes(value: float) -> bytes:
    return struct.pack("<f", value)


def event(step: int, *values: bytes, wall_time: float = 1.5e9) -> bytes:
    summary = b"".join(block(1, value) for value in values)
    return field(1, 1, struct.pack("<d", wall_time)) + field(2, 0, varint(step)) + block(5, summary)


def simple(tag: str, value: float) -> bytes:
    return block(1, tag.encode()) + field(2, 5, float_bytes(value))


def tensor(tag: str, dtype: int, content: bytes) -> bytes:
    """A value whose tensor has `dtype`, no dimensions and the fields `content`; as TensorFlow 2 writes it."""
    metadata = block(9, block(1, block(1, b"scalars")))
    return block(1, tag.encode()) + metadata + block(8, field(1, 0, varint(dtype)) + block(2, b"") + content)


def version() -> bytes:
    """The first record of every event file."""
    return record(field(1, 1, struct.pack("<d", 1.5e9)) + block(3, b"brain.Event:2"))


def scalars(*points: tuple[str, int, float]) -> bytes:
    """Records of (tag, step, value), without the first one of a file."""
    return b"".join(record(event(step, simple(tag, value))) for tag, step, value in points)
