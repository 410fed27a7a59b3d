"""What a sweep has found so far, in files that survive being killed.

Every block of cells becomes one Parquet file, written under a temporary name and renamed when it is
whole. A row is found again by content: by the digest of all that the recording's numbers depend on
(features, reference, regions, scoring, PLDA, our code) and the digest of the fully specified
parameters of its cell. Nothing else is remembered, so a run that was killed, a larger grid and a
second search in the same folder all take up what is there, and rows of other inputs never mix in.
A file's name holds a checksum of all its bytes, so that what is read is what was written.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA
from workbench.errors import InputError
from workbench.files import atomic_write, safe_name
from workbench.manifest import code_digest, digest_arrays, digest_of, digest_values
from workbench.sweeps.settings import PluginParams, SweepSettings
from workbench.types import Features, SegmentFeatures

CODE = (
    "sweeps",
    "clustering",
    "scoring",
    "reconstruction",
    "aggregation",
    "binarization",
    "powerset",
    "features",
    "types",
)
"""Our modules whose code decides what a row says."""

PACKAGES = ("numpy", "scipy", "scikit-learn", "pyannote.core")

SHARDS = "shards"
LOCK = "sweep.lock"
_METADATA = b"workbench"
_DAMAGED = ".damaged"  # added to the name of a shard that is not what was written
_KEY_LENGTH = 32  # hexadecimal digits kept of a digest: 128 bits
_WORDS = {
    "features": "the features file",
    "reference": "the reference",
    "uem": "the UEM",
    "scoring": "the collar or the treatment of overlap",
    "plda": "the PLDA",
    "clustering": "the clustering function",
    "code": "the version of the workbench or of a library",
}


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """Digests of all that the numbers of one recording depend on, but for the cell's parameters."""

    features: str
    reference: str
    uem: str
    scoring: str
    plda: str
    clustering: str
    code: str

    @property
    def key(self) -> str:
        """Digest of all of them, as file names have it."""
        return digest_values(asdict(self))[:_KEY_LENGTH]

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """What is not the same, in words."""
        return [_WORDS[name] for name, value in asdict(self).items() if other.get(name) != value]


def digest_features(features: str | os.PathLike[str] | Features | SegmentFeatures) -> str:
    """Digest of a features file, or of features in memory (which is another one)."""
    if isinstance(features, SegmentFeatures):
        return digest_arrays({"embeddings": features.embeddings, "segments": features.segments})
    if isinstance(features, Features):
        axes = [[axis.start, axis.duration, axis.step] for axis in (features.chunks, features.frames)]
        arrays = {"segmentations": features.segmentations, "embeddings": features.embeddings}
        return digest_arrays(arrays | {"axes": np.array(axes)})
    return digest_of(features)


def digest_annotation(annotation: Annotation | None) -> str:
    """Digest of who speaks when, whatever the order and the recording's name."""
    if annotation is None:
        return "none"
    turns = annotation.itertracks(yield_label=True)
    return digest_values(sorted([turn.start, turn.end, str(label)] for turn, _, label in turns))


def digest_regions(regions: Timeline | None) -> str:
    """Digest of the regions to be scored."""
    return "none" if regions is None else digest_values([[each.start, each.end] for each in regions])


def digest_plda(plda: PLDA | None) -> str:
    """Digest of a model's arrays."""
    if plda is None:
        return "none"
    values = {entry.name: getattr(plda, entry.name) for entry in fields(plda)}
    own = digest_arrays({name: value for name, value in values.items() if isinstance(value, np.ndarray)})
    return own if plda.of_segments is None else f"{own} {digest_plda(plda.of_segments)}"


@cache
def digest_code() -> str:
    """Digest of the code and the library versions that decide what a row says, as this process found them."""
    return code_digest(CODE, PACKAGES)


def digest_settings(settings: SweepSettings) -> str:
    """Key of a fully specified cell; a plugged-in clustering is in the ingredients, its parameters here."""
    if isinstance(settings.clustering, PluginParams):
        values = {name: value for name, value in vars(settings).items() if name != "clustering"}
        plugin = [settings.clustering.values, settings.clustering.convention]
        return digest_values([values, plugin])[:_KEY_LENGTH]
    return digest_values(settings)[:_KEY_LENGTH]


class Store:
    """The shards of one folder.

    Parameters
    ----------
    folder : where `shards/` is, made if missing
    say : called with a line whenever something found there cannot be used
    """

    def __init__(self, folder: str | os.PathLike[str], say: Callable[[str], None] | None = None):
        self.folder = Path(folder)
        self._say = say or (lambda line: None)
        self._left_aside: dict[str, list[str]] = {}  # what changed since -> recordings

    def load(self, uri: str, ingredients: Ingredients) -> pd.DataFrame:
        """Rows of one recording that were computed from the same ingredients, by the key of their cell.

        A shard that is not as it was written is renamed, so that it is said once and not in every later
        run. Where all rows are of other ingredients, `say_left_aside` tells.
        """
        tables: list[pd.DataFrame] = []
        others: dict[str, Path] = {}  # a shard of every other key
        for path in sorted(self._folder_of(uri).glob("[!.]*.parquet")):
            key, _, checksum = path.stem.partition("-")
            if key != ingredients.key:
                others[key] = path
                continue
            try:
                content = path.read_bytes()
                if _checksum(content) == checksum:  # before anything in it is decoded, let alone believed
                    tables.append(pq.read_table(pa.BufferReader(content)).to_pandas())
                else:
                    aside = path.replace(path.with_name(f"{path.name}{_DAMAGED}"))
                    self._say(f"{aside}: is not as it was written; set aside, its cells are computed again")
            except (OSError, pa.ArrowException) as error:
                self._say(f"{path}: cannot be used ({error}); its cells are computed again")
        if not tables:
            changed = _what_changed(others.values(), ingredients)
            if changed:
                self._left_aside.setdefault(changed, []).append(uri)
            return pd.DataFrame(index=pd.Index([], name="cell", dtype=object))
        rows = pd.concat(tables, ignore_index=True).drop_duplicates("cell", keep="first")
        return rows.set_index("cell")

    def save(self, uri: str, ingredients: Ingredients, rows: pd.DataFrame) -> Path:
        """Write the rows of one block, indexed by the key of their cell, as a file named by its content."""
        table = pa.Table.from_pandas(rows.rename_axis("cell").reset_index(), preserve_index=False)
        about = {_METADATA: json.dumps({"uri": uri, "ingredients": asdict(ingredients)}).encode()}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **about})
        content = io.BytesIO()
        pq.write_table(table, content)
        path = self._folder_of(uri) / f"{ingredients.key}-{_checksum(content.getvalue())}.parquet"
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getvalue())
        return path

    def say_left_aside(self) -> None:
        """Say once per reason for how many recordings `load` found rows of other ingredients alone."""
        for changed, uris in self._left_aside.items():
            whose = uris[0] if len(uris) == 1 else f"{len(uris)} recordings"
            self._say(f"{whose}: earlier results are left aside, because {changed} changed since")
        self._left_aside.clear()

    def remove_leftovers(self) -> None:
        """Delete what a killed run was just writing; only with the folder's lock held."""
        for path in (self.folder / SHARDS).glob("*/.tmp-*"):
            path.unlink(missing_ok=True)

    def _folder_of(self, uri: str) -> Path:
        return self.folder / SHARDS / safe_name(uri)


def _checksum(content: bytes) -> str:
    return sha256(content).hexdigest()[:_KEY_LENGTH]


def _what_changed(shards: Iterable[Path], ingredients: Ingredients) -> str:
    """In words, since the one of these shards whose ingredients are nearest; nothing where there are none."""
    changes: list[list[str]] = []
    for path in shards:
        try:
            about = json.loads(pq.read_schema(path).metadata[_METADATA])
            changes.append(ingredients.differences(about["ingredients"]))
        except Exception:  # a damaged file: Arrow, UTF-8 and JSON have their say, and what they read is odd
            changes.append(["what it was computed from"])
    nearest = min(changes, key=len, default=[])
    return " and ".join(nearest)


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder's lock, so that two sweeps never write into it at once.

    The operating system lets go of the lock when the process ends, however it ends.
    """
    path = Path(folder) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError.at(
                path.parent, f"another sweep is writing here ({holder}); wait for it, or choose another --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)
