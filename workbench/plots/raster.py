"""Small images made of numbers: PNG with nothing but zlib, as plotly's layout images take them."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from workbench.overview import LocalSpeakers
from workbench.plots.theme import UNMATCHED, rgb

ROW_PIXELS = 7  # of one local speaker
GAP_PIXELS = 1  # between two, so that browsers' smoothing does not mix them


def png(pixels: np.ndarray) -> bytes:
    """PNG file of `pixels`, uint8 array of shape (height, width, 4): red, green, blue, opacity."""
    height, width, _ = pixels.shape
    # every line starts with its filter type: 0, none
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    return _png_file(width, height, 6, [], zlib.compress(lines.tobytes(), 3))


def palette_png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """PNG file of a picture with few colours, a quarter of the work of `png`.

    Parameters
    ----------
    indices : uint8 array, shape (height, width)
        Rows of `palette`.
    palette : uint8 array, shape (num_colors, 4): red, green, blue, opacity
    """
    height, width = indices.shape
    lines = np.zeros((height, 1 + width), dtype=np.uint8)
    lines[:, 1:] = indices
    colors = [(b"PLTE", palette[:, :3].tobytes()), (b"tRNS", palette[:, 3].tobytes())]
    return _png_file(width, height, 3, colors, zlib.compress(lines.tobytes(), 1))


def _png_file(width: int, height: int, kind: int, more: list[tuple[bytes, bytes]], data: bytes) -> bytes:
    """Eight bits per value; `kind` is the colour type, `more` the chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def data_uri(pixels: np.ndarray) -> str:
    """`pixels` as an address that carries its own content."""
    return png_uri(png(pixels))


def png_uri(file: bytes) -> str:
    """A PNG file as an address that carries its own content."""
    return "data:image/png;base64," + base64.b64encode(file).decode("ascii")


def local_speaker_pixels(
    local_speakers: LocalSpeakers,
    hard_clusters: np.ndarray,
    colors: dict[int, str],
    start: float,
    end: float,
    num_columns: int,
) -> np.ndarray:
    """Posteriors as opacity, the cluster of every local speaker as colour.

    Parameters
    ----------
    local_speakers : what to draw
    hard_clusters : int array, shape (num_chunks, num_local_speakers)
    colors : cluster -> `#rrggbb`; all others are grey
    start, end : s
    num_columns : at most, of the picture

    Returns
    -------
    pixels : uint8 array, shape (height, width, 4)
    """
    frames = local_speakers.frames
    first = min(max(int(start / frames.step), 0), len(local_speakers.chunk) - 1)
    last = max(min(int(np.ceil(end / frames.step)), len(local_speakers.chunk)), first + 1)
    # At most four frames per column: more would change no pixel that anyone can see.
    stride = max((last - first) // (4 * num_columns), 1)
    shown = slice(first, last, stride)
    opacity = local_speakers.posteriors[shown].T  # (local speaker, frame)
    cluster = hard_clusters[local_speakers.chunk[shown]].T

    palette = np.array([rgb(UNMATCHED), *(rgb(color) for color in colors.values())], dtype=np.float32)
    index = np.zeros(cluster.shape, dtype=np.intp)
    for number, label in enumerate(colors, start=1):
        index[cluster == label] = number
    weighted = palette[index] * opacity[..., None]

    edges = np.unique(np.linspace(0, opacity.shape[1], num_columns, endpoint=False).astype(np.int64))
    width = np.diff([*edges, opacity.shape[1]])
    color_sum = np.add.reduceat(weighted, edges, axis=1)
    opacity_sum = np.add.reduceat(opacity, edges, axis=1)
    rows = np.empty((*opacity_sum.shape, 4), dtype=np.uint8)
    rows[..., :3] = np.rint(color_sum / np.maximum(opacity_sum, 1e-6)[..., None])
    rows[..., 3] = np.rint(255 * np.clip(opacity_sum / width, 0, 1))

    lines = np.zeros((len(rows), ROW_PIXELS + GAP_PIXELS, rows.shape[1], 4), dtype=np.uint8)
    lines[:, :ROW_PIXELS] = rows[:, None]
    return lines.reshape(-1, rows.shape[1], 4)
