"""What an extraction has found so far, kept beside its output so that the next call goes on there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import numpy as np

from workbench.errors import InputError
from workbench.extraction import Item
from workbench.files import atomic_write, json_bytes, load_arrays

_KEEP_EVERY = 5.0  # s: what a killed process loses at most
_VERSION = 1


class PartialResults:
    """Embeddings in a hidden folder beside the output; a context that writes what is left at its end.

    An embedding is used again only for the same model, the same way of working, and a recording whose
    file has not changed since.
    """

    def __init__(self, out: Path, params: Mapping[str, Any]):
        self.folder = out.with_name(f".{out.name}.parts")
        self.params = json_bytes(
            {"version": _VERSION, **params, "model": _model_state(str(params["runtime"]))}
        )
        self._fresh: dict[str, np.ndarray] = {}
        self._kept = monotonic()
        self._number = 0

    def load(self, items: Sequence[Item]) -> dict[int, np.ndarray]:
        """Embeddings of earlier calls by position in `items`; those of other parameters are deleted."""
        described = self.folder / "params.json"
        if not self.folder.is_dir():
            return {}
        if not described.is_file() or described.read_bytes() != self.params:
            self.remove()
            return {}
        known: dict[str, np.ndarray] = {}
        for part in sorted(self.folder.glob("*.npz")):
            try:
                arrays = load_arrays(part)
                known |= dict(zip(arrays["keys"].tolist(), arrays["embeddings"], strict=True))
            except (InputError, KeyError, ValueError):
                part.unlink()  # a part that cannot be read is made again
                continue
            self._number = int(part.stem) + 1 if part.stem.isdigit() else self._number
        keys = {index: item_key(item) for index, item in enumerate(items)}
        return {index: known[key] for index, key in keys.items() if key in known}

    def add(self, item: Item, embedding: np.ndarray) -> None:
        """Remember an embedding; it reaches the disk within seconds."""
        self._fresh[item_key(item)] = embedding
        if monotonic() - self._kept > _KEEP_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet on disk."""
        self._kept = monotonic()
        if not self._fresh:
            return
        described = self.folder / "params.json"
        if not described.is_file():
            with atomic_write(described) as temporary:
                temporary.write_bytes(self.params)
        with atomic_write(self.folder / f"{self._number:06d}.npz") as temporary:
            np.savez(
                temporary,
                keys=np.array([*self._fresh], dtype=np.str_),
                embeddings=np.stack([*self._fresh.values()]),
            )
        self._number += 1
        self._fresh = {}

    def remove(self) -> None:
        """Delete the folder: the output holds everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PartialResults:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def item_key(item: Item) -> str:
    """Digest of what an embedding depends on: the name, the file as it is now, and the part of it."""
    try:
        state = os.stat(item.path)
        version: list[object] = [state.st_size, state.st_mtime_ns]
    except OSError:
        version = []
    content = json.dumps([item.name, str(item.path.absolute()), version, item.start, item.end])
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


def _model_state(runtime: str) -> list[list[object]]:
    """Size and time of the files behind a runtime string, to see that the model is still the same."""
    from workbench.runtimes.spec import parse_spec

    path = parse_spec(runtime).path
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    return [
        [file.relative_to(path).as_posix(), (state := file.stat()).st_size, state.st_mtime_ns]
        for file in files
        if file.is_file()
    ]
