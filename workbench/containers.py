"""What an audio file says of its own length, to find the ones that were cut off.

libsndfile reports the frames it can find, so that a WAV or an Ogg that was cut off looks merely short.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_UNKNOWN_SIZES = {0, 0x7FFFFFFF, 0xFFFFFFFF}
"""Sizes that programs write when they stream a WAV and cannot know its length."""

_LARGEST_PAGE = 27 + 255 + 255 * 255  # bytes of an Ogg page: header, segment table, segments

_XING_OFFSETS = (13, 21, 36)  # bytes into the frame, by MPEG version and channels

_LARGEST_MP3_FRAME = 2881  # bytes

_STREAMED = range(0x7FFFF000, 0x80000000)  # sox, writing to a pipe, rounds its largest size down


def promised_frames(stream: BinaryIO, size: int) -> int | None:
    """Frames (samples per channel) that the header of a WAV promises.

    Parameters
    ----------
    stream : the file, opened in binary mode, at its start
    size : length of the file in bytes

    Returns
    -------
    frames : int, or None
        None for other formats, and where the header does not state a length.
    """
    form = stream.read(12)
    if len(form) < 12 or form[:4] not in (b"RIFF", b"RIFX", b"RF64") or form[8:] != b"WAVE":
        return None
    order = ">" if form[:4] == b"RIFX" else "<"
    block_align = 0
    long_size: int | None = None  # of the data chunk, where 32 bits do not hold it
    while stream.tell() + 8 <= size:
        name, length = struct.unpack(f"{order}4sI", stream.read(8))
        if name == b"data":
            if long_size is not None:
                length = long_size
            elif length in _UNKNOWN_SIZES or length in _STREAMED:
                return None
            return length // block_align if block_align else None
        body = stream.read(min(length, 40)) if name in (b"fmt ", b"ds64") else b""
        if name == b"fmt " and len(body) >= 14:
            block_align = struct.unpack(f"{order}H", body[12:14])[0]
            if struct.unpack(f"{order}H", body[:2])[0] not in (1, 3, 0xFFFE):
                return None  # compressed: a block is not a frame
        elif name == b"ds64" and len(body) >= 16:
            long_size = struct.unpack("<Q", body[8:16])[0]
        # chunks are padded to an even length
        stream.seek(length - len(body) + length % 2, 1)
    return None


def ends_inside_mp3(stream: BinaryIO, size: int) -> bool:
    """Whether an mp3 is shorter than its Xing header says; without that header nothing is known."""
    stream.seek(0)
    start = stream.read(10)
    first = 0  # byte of the first frame: behind the tags, if there are any
    if start[:3] == b"ID3" and len(start) == 10:
        first = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True)
        )
    stream.seek(first)
    frame = stream.read(64)
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return False
    for at in _XING_OFFSETS:
        if frame[at : at + 4] in (b"Xing", b"Info"):
            flags, frames_or_bytes, num_bytes = struct.unpack(">III", frame[at + 4 : at + 16])
            if not flags & 2:
                return False
            promised = num_bytes if flags & 1 else frames_or_bytes
            return size - first < promised - _LARGEST_MP3_FRAME  # some count the header's frame, some do not
    return False


def ends_inside_page(stream: BinaryIO, size: int) -> bool:
    """Whether an Ogg file (Vorbis, Opus) breaks off inside its last page."""
    stream.seek(0)
    if stream.read(4) != b"OggS":
        return False
    stream.seek(max(0, size - 2 * _LARGEST_PAGE))
    tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return True
    num_segments = page[26]
    lengths = page[27 : 27 + num_segments]
    return len(lengths) < num_segments or len(page) < 27 + num_segments + sum(lengths)
