"""Features files: one `.npz` per recording with all that clustering needs."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from workbench.errors import InputError, RecordingError, expect, expect_path
from workbench.files import atomic_write, load_arrays
from workbench.types import Features, SegmentFeatures, SlidingWindow

_CHUNK_KEYS = ("uri", "segmentations", "embeddings", "chunks", "frames")
_SEGMENT_KEYS = ("uri", "embeddings", "segments")


def save_features(path: str | os.PathLike[str], features: Features | SegmentFeatures) -> None:
    """Write `features` to a compressed `.npz`; `load_features` reads the same values back."""
    expect(features, (Features, SegmentFeatures), "features must be Features or SegmentFeatures")
    arrays: dict[str, Any]
    if isinstance(features, SegmentFeatures):
        arrays = {"embeddings": features.embeddings, "segments": features.segments}
    else:
        arrays = {
            "segmentations": np.asarray(features.segmentations, dtype=np.float32),
            "embeddings": np.asarray(features.embeddings, dtype=np.float32),
            "chunks": _axis_values(features.chunks),
            "frames": _axis_values(features.frames),
        }
    if expect_path(path, "a features file").suffix != ".npz":
        raise InputError.at(os.fspath(path), "a features file must be named *.npz; add the ending")
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, uri=np.array(features.uri), **arrays)


def load_features(path: str | os.PathLike[str]) -> Features | SegmentFeatures:
    """Read one features file of either kind.

    Returns
    -------
    features : `Features` (one embedding per chunk and local speaker, has `segmentations`) or
        `SegmentFeatures` (one per segment, has `segments`)

    Raises
    ------
    InputError : there is no such file
    RecordingError : its content does not make sense; other recordings may still be fine
    """
    path = expect_path(path, "a features file")
    if not path.is_file():
        raise InputError.at(path, "no such features file; `workbench diarize --features-dir` writes them")
    arrays = load_arrays(path, RecordingError)
    if "segments" in arrays and "segmentations" not in arrays:
        return _segment_features(path, arrays)
    return _chunk_features(path, arrays)


def read_header(path: str | os.PathLike[str]) -> tuple[str, Literal["chunks", "segments"]]:
    """Recording and kind of a features file, without reading its arrays.

    Raises
    ------
    InputError : there is no such file
    RecordingError : it is no features file
    """
    path = Path(path)
    if not path.is_file():
        raise InputError.at(path, "no such features file; `workbench diarize --features-dir` writes them")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            names = set(archive.files)
            header = {"uri": archive["uri"]} if "uri" in names else {}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error):
        load_features(path)  # says what is wrong
        raise RecordingError(f"{path}: is no features file") from None
    _require_keys(path, header, ("uri",))
    kind: Literal["chunks", "segments"] = (
        "segments" if "segments" in names and "segmentations" not in names else "chunks"
    )
    return _uri(path, header), kind


def read_duration(path: str | os.PathLike[str]) -> float | None:
    """Where the last chunk of a features file ends (s), without reading its arrays.

    None for features of segments, and for files that `load_features` refuses.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            start, duration, step = archive["chunks"].tolist()
            with archive.zip.open("segmentations.npy") as member:
                np.lib.format.read_magic(member)
                (num_chunks, *_), _, _ = np.lib.format.read_array_header_1_0(member)
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error):
        return None
    return float(start + duration + step * (num_chunks - 1)) if num_chunks else None


def _chunk_features(path: Path, arrays: dict[str, np.ndarray]) -> Features:
    _require_keys(path, arrays, _CHUNK_KEYS)
    segmentations = _numbers(path, arrays, "segmentations", "(num_chunks, num_frames, num_local_speakers)", 3)
    embeddings = _numbers(path, arrays, "embeddings", "(num_chunks, num_local_speakers, dimension)", 3)
    num_chunks, num_frames, num_speakers = segmentations.shape
    if embeddings.shape[:2] != (num_chunks, num_speakers):
        raise RecordingError(
            f"{path}: embeddings {embeddings.shape} do not fit segmentations {segmentations.shape}: expected "
            f"({num_chunks}, {num_speakers}, dimension), one embedding per chunk and local speaker"
        )
    if num_chunks and (num_frames == 0 or num_speakers == 0):
        raise RecordingError(f"{path}: segmentations {segmentations.shape} have no frames or no speakers")
    if not np.isin(segmentations, (0.0, 1.0)).all():
        raise RecordingError(
            f"{path}: segmentations must be 0 or 1 (after powerset decoding), found values between "
            f"{segmentations.min()} and {segmentations.max()}; decode them first"
        )
    if np.isinf(embeddings).any():
        raise RecordingError(f"{path}: embeddings hold infinite values; a missing embedding must be NaN")
    return Features(
        uri=_uri(path, arrays),
        segmentations=segmentations.astype(np.float32, copy=False),
        embeddings=embeddings.astype(np.float32, copy=False),
        chunks=_axis(path, arrays, "chunks"),
        frames=_axis(path, arrays, "frames"),
    )


def _segment_features(path: Path, arrays: dict[str, np.ndarray]) -> SegmentFeatures:
    _require_keys(path, arrays, _SEGMENT_KEYS)
    embeddings = _numbers(path, arrays, "embeddings", "(num_segments, dimension)", 2)
    segments = _numbers(path, arrays, "segments", "(num_segments, 2)", 2).astype(np.float64, copy=False)
    if segments.shape != (len(embeddings), 2):
        raise RecordingError(
            f"{path}: segments {segments.shape} do not fit embeddings {embeddings.shape}: expected "
            f"({len(embeddings)}, 2), start and end of every segment"
        )
    if not (np.isfinite(segments).all() and (segments[:, 1] > segments[:, 0]).all()):
        raise RecordingError(f"{path}: segments must be finite with end after start, in seconds")
    if (np.diff(segments[:, 0]) < 0).any():
        raise RecordingError(f"{path}: segments must stand in the order of their starts; sort them by time")
    if np.isinf(embeddings).any():
        raise RecordingError(f"{path}: embeddings hold infinite values; a missing embedding must be NaN")
    return SegmentFeatures(uri=_uri(path, arrays), embeddings=embeddings, segments=segments)


def _require_keys(path: Path, arrays: dict[str, np.ndarray], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in arrays]
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise RecordingError(
            f"{path}: misses {', '.join(missing)}; a features file holds {', '.join(keys)}, found {found}"
        )


def _numbers(path: Path, arrays: dict[str, np.ndarray], key: str, shape: str, ndim: int) -> np.ndarray:
    array = arrays[key]
    if array.ndim != ndim or array.dtype.kind not in "fiub":
        raise RecordingError(
            f"{path}: {key} must be numbers of shape {shape}, found {array.dtype} of shape {array.shape}"
        )
    return array


def _uri(path: Path, arrays: dict[str, np.ndarray]) -> str:
    uri = arrays["uri"]
    if uri.size != 1 or uri.dtype.kind != "U" or not uri.item():
        raise RecordingError(
            f"{path}: uri must be one non-empty text, found {uri.dtype} of shape {uri.shape}; "
            "store np.array('name of the recording')"
        )
    return str(uri.item())


def _axis(path: Path, arrays: dict[str, np.ndarray], key: str) -> SlidingWindow:
    values = _numbers(path, arrays, key, "(3,): start, duration, step in seconds", 1).astype(np.float64)
    if values.shape != (3,) or not np.isfinite(values).all() or values[1] <= 0 or values[2] <= 0:
        raise RecordingError(
            f"{path}: {key} must be (start, duration, step) in seconds, duration and step above 0, "
            f"found {values.tolist()}"
        )
    return SlidingWindow(*values.tolist())


def _axis_values(axis: SlidingWindow) -> np.ndarray:
    return np.array([axis.start, axis.duration, axis.step], dtype=np.float64)
