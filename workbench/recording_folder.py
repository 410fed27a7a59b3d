"""Writing recorded folders: one `<uri>.npz` per recording and `geometry.json`, whole files or none.

Stages are written to disk batch by batch, so that hours of audio need no more memory than one batch.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from workbench import __version__
from workbench.errors import InputError
from workbench.files import atomic_write, json_bytes, safe_name
from workbench.runtimes.geometry import geometry_from_json, geometry_to_json
from workbench.types import Geometry

GEOMETRY = "geometry.json"
_COPY_BYTES = 1 << 20


class RecordingFolder:
    """A recorded folder that is being filled; what is there already from the same runtime is kept.

    Parameters
    ----------
    folder : made if missing
    geometry : how the runtime sees time and speakers
    runtime : its string
    stages : names of the stages that were asked for, `all` among them
    model_sha256 : digest of the model's files, where it is known
    """

    def __init__(
        self,
        folder: Path,
        geometry: Geometry,
        runtime: str,
        stages: Collection[str],
        model_sha256: str | None = None,
    ):
        self.folder = folder
        self._head: dict[str, Any] = {
            **geometry_to_json(geometry),
            "runtime": runtime,
            "created_by": f"workbench {__version__}",
            "stages": sorted(stages),
        }
        if model_sha256 is not None:
            self._head["model_sha256"] = model_sha256
        self.audio: dict[str, dict[str, Any]] = {}
        path = folder / GEOMETRY
        if path.is_file():
            self._continue(path, geometry)
        elif folder.is_dir() and any(folder.glob("*.npz")):
            raise InputError.at(
                folder,
                "holds .npz files without a geometry.json, so nobody knows what recorded them; choose an "
                "empty folder",
            )

    def has(self, uri: str, sha256: str) -> bool:
        """Whether this recording was recorded already, from the same samples."""
        return self.audio.get(uri, {}).get("sha256") == sha256 and self.path(uri).is_file()

    def path(self, uri: str) -> Path:
        """The file of a recording."""
        return self.folder / f"{safe_name(uri)}.npz"

    def note(self, uri: str, sha256: str, num_samples: int) -> None:
        """Say in `geometry.json` which audio a finished recording was made from."""
        self.audio[uri] = {"sha256": sha256, "num_samples": num_samples}
        with atomic_write(self.folder / GEOMETRY) as temporary:
            temporary.write_bytes(json_bytes(self._head | {"audio": self.audio}))

    def forget(self, uri: str) -> None:
        """Remove a recording of other audio, so that its old arrays cannot be taken for the new ones."""
        self.path(uri).unlink(missing_ok=True)
        self.audio.pop(uri, None)

    def _continue(self, path: Path, geometry: Geometry) -> None:
        """Take up a folder that this program began."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError.at(path, f"is not readable JSON: {error}") from None
        known = geometry_from_json(content, path)
        for key in ("runtime", "stages", "model_sha256"):
            mine, theirs = self._head.get(key), content.get(key)
            if mine != theirs:
                raise InputError.at(
                    path,
                    f"{key} of what is recorded here is {theirs!r}, but {mine!r} is to be recorded; choose "
                    "another folder",
                )
        if known != geometry:
            raise InputError.at(
                path, "the geometry of what is recorded here is another one; choose another folder"
            )
        audio = content.get("audio")
        self.audio = dict(audio) if isinstance(audio, dict) else {}


class StageWriter:
    """The stages of one recording, chunk batch after chunk batch, to one `.npz`.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp()) / "meeting.npz"
    >>> with StageWriter(path) as writer:
    ...     for _ in range(3):
    ...         writer.add({"log_probs": np.zeros((2, 5, 4), dtype=np.float32)})
    >>> np.load(path)["log_probs"].shape
    (6, 5, 4)
    """

    def __init__(self, path: Path):
        self.path = path
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-record-")
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, list[int]] = {}
        self._dtypes: dict[str, str] = {}

    def __enter__(self) -> StageWriter:
        return self

    def add(self, stages: Mapping[str, np.ndarray], dtype: str | None = "<f4") -> None:
        """Append a batch of every stage, each of shape (batch, ...); `dtype` None keeps its own."""
        for name, array in stages.items():
            array = np.ascontiguousarray(array, dtype=dtype)
            if name not in self._files:
                number = len(self._files)
                self._files[name] = open(Path(self._folder.name) / f"{number}.raw", "w+b")  # noqa: SIM115
                self._shapes[name] = [0, *array.shape[1:]]
                self._dtypes[name] = array.dtype.str
            if list(array.shape[1:]) != self._shapes[name][1:]:
                raise InputError(
                    f"stage {name} has shape {array.shape[1:]} per chunk, and had "
                    f"{self._shapes[name][1:]} before"
                )
            self._files[name].write(array.tobytes())
            self._shapes[name][0] += len(array)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self._files.values():
                file.close()
            self._folder.cleanup()

    def _finish(self) -> None:
        """All stages into one archive, as `np.savez` writes it."""
        with atomic_write(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, file in self._files.items():
                header = {
                    "descr": self._dtypes[name],
                    "fortran_order": False,
                    "shape": tuple(self._shapes[name]),
                }
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    file.seek(0)
                    while block := file.read(_COPY_BYTES):
                        member.write(block)
