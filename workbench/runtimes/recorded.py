"""Arrays recorded earlier, by this program or any other: a folder of `<uri>.npz` and `geometry.json`.

In place of the `.npz` there may be dumps of other programs: see `workbench.runtimes.dumps`.
"""

from __future__ import annotations

import zipfile
from math import ceil
from pathlib import Path
from typing import NoReturn

import numpy as np

from workbench.errors import InputError, RecordingError, nearest
from workbench.files import load_arrays, safe_name
from workbench.runtimes.dumps import ALIASES, DumpFolder, read_head
from workbench.runtimes.geometry import geometry_from_json
from workbench.runtimes.spec import RuntimeSpec
from workbench.types import Geometry, Kind

_RANK = {"log_probs": 3, "embeddings": 3}
# arrays of the pipeline's other steps, which alone are no scores
_STEPS = ("samples", "count", "masks", "segmentations", "multilabel", "hard_clusters", "segments", "fbank")
_AXES = {
    "log_probs": "(num_chunks, num_frames, num_powerset_classes)",
    "embeddings": "(num_chunks, num_local_speakers, dimension)",
}


class RecordedRuntime:
    """What a model put out for certain recordings; it cannot be run on anything else."""

    def __init__(self, folder: Path, name: str | None = None):
        self.folder = folder
        self.name = name or f"recorded:{folder}"
        if not folder.is_dir():
            raise InputError.at(folder, "no such folder")
        head = read_head(folder / "geometry.json")
        self._geometry = geometry_from_json(head, folder / "geometry.json")
        self.uris = tuple(sorted(path.stem for path in folder.glob("*.npz")))
        self._dumps = None if self.uris else DumpFolder(folder, head, self._geometry)
        if self._dumps is not None:
            self.uris = self._dumps.uris
        if not self.uris:
            raise InputError.at(
                folder,
                "holds no <uri>.npz, nor dumps of another program (.bin, .txt, .npy, .json, .scp, ...); a "
                "recorded folder has one per recording",
            )
        self._called = self._other_name()
        self._kind: Kind = "segmentation" if "log_probs" in self._first_names() else "embedding"
        if self._kind == "segmentation" and not self._geometry.powerset:
            raise InputError.at(
                folder / "geometry.json", "lacks powerset, the list of the speakers of every class"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> Kind:
        """`segmentation` if log-probabilities were recorded, else `embedding`."""
        return self._kind

    @property
    def geometry(self) -> Geometry:
        """How the recorded model sees time and speakers."""
        return self._geometry

    @property
    def min_num_samples(self) -> int:
        """Nothing is run, so nothing is too short."""
        return 1

    def log_probs(self, uri: str) -> np.ndarray:
        """Log-probabilities of a recording, shape (num_chunks, num_frames, num_powerset_classes)."""
        array = self.stage(uri, "log_probs")
        path, geometry = self._path(uri), self._geometry
        num_frames, num_classes = array.shape[1:]
        if num_classes != len(geometry.powerset):
            raise InputError.at(
                path, f"log_probs has {num_classes} classes, but geometry.json lists {len(geometry.powerset)}"
            )
        expected = geometry.chunk_duration / geometry.frame_step
        # networks leave out or add the frames that overlap an edge
        slack = 1 + ceil(geometry.frame_duration / geometry.frame_step)
        if abs(num_frames - expected) > slack:
            raise InputError.at(
                path,
                f"log_probs has {num_frames} frames per chunk, but {geometry.chunk_duration:g} s in steps of "
                f"{geometry.frame_step:g} s make about {expected:.0f}; correct geometry.json",
            )
        return array

    def embeddings(self, uri: str) -> np.ndarray:
        """Embeddings of a recording, shape (num_chunks, num_local_speakers, dimension); NaN where none."""
        return self.stage(uri, "embeddings")

    @property
    def holds_whole_recordings(self) -> bool:
        """Whether there is one embedding for a whole recording, as Kaldi's vectors are, and not per chunk."""
        return self._dumps is not None and self._dumps.whole

    def arrays(self, uri: str) -> dict[str, np.ndarray]:
        """All arrays of a recording as recorded; a `RecordingError` where it is missing or damaged."""
        if uri not in self.uris:
            raise RecordingError(
                f"{self}: holds no {uri}{'.npz' if self._dumps is None else ''}; record {uri!r} there, or "
                "leave it out"
            )
        path = self.path(uri)
        found = self._dumps.arrays(uri) if self._dumps is not None else load_arrays(path, RecordingError)
        for name, array in found.items():
            if array.dtype.kind not in "fiu":
                raise RecordingError(f"{path}: {name} must hold numbers, found {array.dtype}")
        return {self._ours(name): array for name, array in found.items()}

    def path(self, uri: str) -> Path:
        """The file of a recording."""
        return self.folder / f"{uri}.npz" if self._dumps is None else self._dumps.path(uri)

    def stage(self, uri: str, name: str) -> np.ndarray:
        """One recorded array as float32."""
        path = self._path(uri)
        if self._dumps is not None:
            content = self._dumped(uri)
            if name not in content:
                raise InputError.at(path, f"holds no array {name!r}; it has {', '.join(content) or 'none'}")
            return self._checked(path, name, content[name])
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
                stored = next((each for each in content.files if self._ours(each) == name), name)
                if stored not in content.files:
                    raise InputError.at(
                        path, f"holds no array {name!r}; it has {', '.join(content.files) or 'none'}"
                    )
                array = content[stored]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError.at(path, f"is not a readable npz file: {error}") from error
        return self._checked(path, name, array)

    def _dumped(self, uri: str) -> dict[str, np.ndarray]:
        try:
            return self.arrays(uri)
        except RecordingError as error:
            raise InputError(str(error)) from None

    @staticmethod
    def _checked(path: Path, name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind not in "fiu":
            raise InputError.at(path, f"{name} must hold numbers, found {array.dtype}")
        if name in _RANK and array.ndim != _RANK[name]:
            raise InputError.at(path, f"{name} must have shape {_AXES[name]}, found {array.shape}")
        if name != "embeddings" and not np.isfinite(array).all():
            raise InputError.at(path, f"{name} holds values that are not finite")
        return array.astype(np.float32, copy=False)

    def stage_names(self, uri: str) -> tuple[str, ...]:
        """Names of the arrays recorded for a recording."""
        path = self._path(uri)
        if self._dumps is not None:
            return tuple(self._dumped(uri))
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
                return tuple(self._ours(name) for name in content.files)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError.at(path, f"is not a readable npz file: {error}") from error

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        """Refused: there is no model here, only what one put out."""
        self._refuse()

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Refused: there is no model here, only what one put out."""
        self._refuse()

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """Refused: recorded stages are found by the name of the recording."""
        self._refuse()

    def _ours(self, name: str) -> str:
        """Our name of an array as another program may have called it."""
        return "log_probs" if name and name == self._called else name

    def _other_name(self) -> str:
        """What the scores are called where no array has our name: a usual one, or the only one there is."""
        self._called = ""
        names = self._first_names()
        if self._dumps is not None or not self._geometry.powerset or {"log_probs", "embeddings"} & {*names}:
            return ""
        usual = [name for name in names if name in ALIASES["log_probs"]]
        return usual[0] if usual else names[0] if len(names) == 1 and names[0] not in _STEPS else ""

    def _first_names(self) -> tuple[str, ...]:
        """Stages of the first recording that can be read: a damaged file fails alone, when asked for."""
        if self._dumps is not None:
            return self._dumps.stages(self.uris[0])
        for uri in self.uris[:-1]:
            try:
                return self.stage_names(uri)
            except InputError:
                continue
        return self.stage_names(self.uris[-1])

    def _path(self, uri: str) -> Path:
        path = self.folder / f"{safe_name(uri)}.npz" if self._dumps is None else self._dumps.path(uri)
        if uri not in self.uris and (self._dumps is not None or not path.is_file()):
            raise InputError.at(
                path, f"no recording {uri!r} here{nearest(uri, self.uris)}; there are {len(self.uris)} others"
            )
        return path

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self}: holds arrays recorded earlier and cannot run on a waveform; read them by the name of "
            "the recording, or give a torch: or onnx: runtime"
        )


def load_recorded(spec: RuntimeSpec, kind: Kind | None) -> RecordedRuntime:
    """The runtime of a `recorded:` string."""
    runtime = RecordedRuntime(spec.path, str(spec))
    names = runtime._first_names()
    needed = {"segmentation": "log_probs", "embedding": "embeddings", None: None}[kind]
    if needed is not None and needed not in names:
        raise InputError.at(spec.path, f"holds no {needed}, so it cannot serve as the {kind} model")
    return runtime
