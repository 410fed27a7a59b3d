"""Files of speaker embeddings, one per recording or segment: npz, Kaldi ark+scp, Parquet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workbench.errors import InputError
from workbench.files import atomic_write, load_arrays
from workbench.kaldi_ark import read_vectors, write_ark

KALDI_SUFFIXES = (".ark", ".scp", ".txt")
SUFFIXES = (".npz", *KALDI_SUFFIXES, ".parquet")


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingSet:
    """Embeddings with their names, in the order in which they were asked for.

    Attributes
    ----------
    names : unique names, one per embedding
    embeddings : float32 array, shape (num_embeddings, dimension), not normalised
    uris : recording that each embedding comes from; by default its name
    segments : float64 array, shape (num_embeddings, 2), optional
        Start and end of each segment (s); None where whole recordings were embedded.
    speakers : label of each segment's speaker; empty for whole recordings
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    uris: tuple[str, ...] = ()
    segments: np.ndarray | None = None
    speakers: tuple[str, ...] = ()
    _rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.names):
            raise ValueError(
                f"embeddings must have shape ({len(self.names)}, dimension) for {len(self.names)} names, "
                f"got {self.embeddings.shape}"
            )
        if not self.uris:
            object.__setattr__(self, "uris", self.names)
        object.__setattr__(self, "_rows", {name: row for row, name in enumerate(self.names)})
        if len(self._rows) != len(self.names):
            double = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"two embeddings are named {double!r}; rename one")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> np.ndarray:
        return self.embeddings[self._rows[name]]

    @property
    def dimension(self) -> int:
        """Values per embedding."""
        return int(self.embeddings.shape[1])


def save_embeddings(path: str | os.PathLike[str], found: EmbeddingSet, *, text: bool = False) -> list[Path]:
    """Write embeddings in the form that the name's ending asks for.

    Parameters
    ----------
    path : `.npz`; `.ark` or `.scp` (both are written side by side); `.txt` (a text archive); `.parquet`
    text : write the Kaldi archive as text

    Returns
    -------
    written : paths of the files
    """
    path = Path(path)
    suffix = embedding_suffix(path)
    if suffix in KALDI_SUFFIXES:
        archive = path.with_suffix(".ark") if suffix == ".scp" else path
        scp = path.with_suffix(".scp")
        rows = zip(found.names, found.embeddings.astype(np.float32), strict=True)
        write_ark(archive, rows, scp=scp, text=text or suffix == ".txt")
        return [archive, scp]
    with atomic_write(path) as temporary:
        if suffix == ".npz":
            np.savez(temporary, **_arrays(found))  # type: ignore[arg-type]
        else:
            _save_parquet(temporary, found)
    return [path]


def embedding_suffix(path: Path) -> str:
    """The ending of a file of embeddings, if it is one that is written and read."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError.at(
            path, f"must end in one of {', '.join(SUFFIXES)}, found {suffix or 'no ending'!r}"
        )
    return suffix


def load_embeddings(path: str | os.PathLike[str]) -> EmbeddingSet:
    """Read embeddings that `save_embeddings`, Kaldi, kaldiio or WeSpeaker wrote.

    An `.npz` may hold `names` and `embeddings`, a features file of segments (`uri`, `embeddings`,
    `segments`), or one vector per name.
    """
    path = Path(path)
    suffix = embedding_suffix(path)
    if suffix in KALDI_SUFFIXES:
        vectors = read_vectors(path)
        return EmbeddingSet(names=tuple(vectors), embeddings=np.stack([*vectors.values()]).astype(np.float32))
    return _load_parquet(path) if suffix == ".parquet" else _load_npz(path)


def _arrays(found: EmbeddingSet) -> dict[str, np.ndarray]:
    arrays = {
        "names": np.array(found.names, dtype=np.str_),
        "uri": np.array(found.uris, dtype=np.str_),
        "embeddings": found.embeddings.astype(np.float32),
    }
    if found.segments is not None:
        arrays["segments"] = found.segments.astype(np.float64)
    if found.speakers:
        arrays["speakers"] = np.array(found.speakers, dtype=np.str_)
    return arrays


def _load_npz(path: Path) -> EmbeddingSet:
    arrays = load_arrays(path)
    if "embeddings" not in arrays:
        vectors = {name: array.reshape(-1) for name, array in arrays.items() if array.dtype.kind == "f"}
        if not vectors or len(vectors) != len(arrays) or len({len(v) for v in vectors.values()}) != 1:
            raise InputError.at(
                path,
                f"holds neither embeddings nor one vector per name; it has {', '.join(arrays) or 'nothing'}",
            )
        return EmbeddingSet(names=tuple(vectors), embeddings=np.stack([*vectors.values()]).astype(np.float32))
    embeddings = arrays["embeddings"]
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        raise InputError.at(
            path,
            f"embeddings must have shape (num_embeddings, dimension), found {embeddings.dtype} of shape "
            f"{embeddings.shape}; chunk-wise features are for `workbench cluster`",
        )
    count = len(embeddings)
    uris = _texts(path, arrays, "uri", count, single=True)
    names = _texts(path, arrays, "names", count)
    if not names:
        if not uris:
            raise InputError.at(path, f"lacks names; it has {', '.join(arrays)}")
        names = tuple(f"{uri}-{row:06d}" for row, uri in enumerate(uris))
    segments = arrays.get("segments")
    if segments is not None and segments.shape != (count, 2):
        raise InputError.at(path, f"segments must have shape ({count}, 2), found {segments.shape}")
    return EmbeddingSet(
        names=names,
        embeddings=embeddings.astype(np.float32),
        uris=uris,
        segments=None if segments is None else segments.astype(np.float64),
        speakers=_texts(path, arrays, "speakers", count),
    )


def _texts(
    path: Path, arrays: dict[str, np.ndarray], key: str, count: int, single: bool = False
) -> tuple[str, ...]:
    """One text per embedding; a `single` one may stand for all."""
    if key not in arrays:
        return ()
    array = arrays[key]
    if single and array.ndim == 0:
        array = np.repeat(array, count)
    if array.shape != (count,) or array.dtype.kind != "U":
        raise InputError.at(path, f"{key} must be {count} texts, found {array.dtype} of shape {array.shape}")
    return tuple(array.tolist())


def _save_parquet(path: Path, found: EmbeddingSet) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.array(found.embeddings.astype(np.float32).reshape(-1))
    columns = {"name": pa.array(found.names, pa.string()), "uri": pa.array(found.uris, pa.string())}
    if found.segments is not None:
        columns |= {"start": pa.array(found.segments[:, 0]), "end": pa.array(found.segments[:, 1])}
    if found.speakers:
        columns["speaker"] = pa.array(found.speakers, pa.string())
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, found.dimension)
    pq.write_table(pa.table(columns), path)


def _load_parquet(path: Path) -> EmbeddingSet:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # From memory and in this thread: with Arrow's threads on a Python file, a process that ends soon
        # after may abort.
        content = pa.BufferReader(path.read_bytes())
        table = pq.ParquetFile(content, pre_buffer=False).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise InputError.at(path, f"cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    for column in ("name", "embedding"):
        if column not in table.column_names:
            raise InputError.at(path, f"lacks the column {column!r}; it has {', '.join(table.column_names)}")
    names = tuple(table["name"].to_pylist())
    rows: Sequence[Sequence[float]] = table["embedding"].to_pylist()
    if not rows or any(row is None or len(row) != len(rows[0]) for row in rows):
        raise InputError.at(path, "embedding must hold one list of numbers per row, all of the same length")
    columns = table.column_names
    segments = None
    if {"start", "end"} <= set(columns):
        segments = np.stack([table["start"].to_numpy(), table["end"].to_numpy()], axis=1)
    return EmbeddingSet(
        names=names,
        embeddings=np.array(rows, dtype=np.float32),
        uris=tuple(table["uri"].to_pylist()) if "uri" in columns else (),
        segments=segments,
        speakers=tuple(table["speaker"].to_pylist()) if "speaker" in columns else (),
    )
