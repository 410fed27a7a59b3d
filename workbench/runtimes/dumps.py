"""Folders of raw text or binary dumps, as other runtimes write them, read as recordings.

A dump says little about itself, so `geometry.json` beside it may say more than the geometry:

| key | means | without it |
| --- | --- | --- |
| `num_frames` | frames of one chunk | the array must have its shape already |
| `dtype` | of raw files: `float32`, `float16`, ... | the ending (`.f16`), else `float32` |
| `shape` | of one file, one size may be -1, such as `[-1, 401, 11]` | made from `num_frames` and `powerset` |
| `axes` | order in the file, such as `["chunk", "class", "frame"]` | chunk, frame, class |
| `order` | `C`, the last axis runs fastest, or `F` | `C` |
| `byte_order` | of raw files: `little` or `big` | `little` |
| `stage` | what the files hold: `log_probs` or `embeddings` | `log_probs` where there is a powerset |
| `num_local_speakers` | of embeddings: speakers of one chunk | 1 |
| `dimension` | of embeddings in flat files: values of each | all values of the file are one embedding |
| `output` | which output to take: a name (Polygraphy) or a number (msame) | the only one |
| `runner` | which of Polygraphy's runners | the only one |
| `files` | `recording`, `output` or `batch`: what the last number of a file name counts | see below |
| `arrays` | a table per stage with the keys above, for `<uri>.<stage>.bin` or `<uri>/<stage>.bin` | |

Names of files. `<uri>.bin`, `.txt`, `.npy`, `.json`, ... hold one recording each (`files: recording`).
Ascend's msame appends the number of the output, `<uri>_0.bin` or `<uri>_output_0.txt`, which is seen where
all files end in a number and every recording has a 0 (`files: output`). With `files: batch`, `<uri>_0.bin`,
`<uri>_1.bin`, ... (msame: `<uri>_0_0.bin`, `<uri>_1_0.bin`) are the batches of one recording. Kaldi's `.scp`
and `.ark` files hold a vector or matrix per recording. Where all lies in one inner folder, as msame makes it
by the time of day, that one is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from workbench.array_files import (
    KALDI,
    RAW,
    SUFFIXES,
    TEXT,
    ArrayForm,
    apply_form,
    joined,
    parse_form,
    read_array_file,
)
from workbench.errors import InputError, RecordingError
from workbench.kaldi_ark import read_kaldi
from workbench.types import Geometry

AXES = {"log_probs": ("chunk", "frame", "class"), "embeddings": ("chunk", "local_speaker", "dimension")}
"""Axes of the stages that are put into shape; others stay as they are."""

COUNTS = ("num_frames", "num_local_speakers", "dimension")
"""Keys of `geometry.json` that give a flat array its shape."""

ALIASES = {
    "log_probs": ("scores", "powerset_log_probs", "segmentation_scores"),
    "embeddings": ("embedding", "embeddings_data"),
}
"""What other programs call the stages."""

_FILES = ("recording", "output", "batch")
# notes of recording programs; ais_bench spells its own without the second m
_ABOUT_THE_REST = ("geometry", "manifest", "metadata", "summary", "sumary", "readme", "steps")


@dataclass(frozen=True, kw_only=True)
class StageForm:
    """What `geometry.json` says of the files of one stage."""

    form: ArrayForm
    num_frames: int | None
    num_local_speakers: int
    dimension: int | None
    output: str | None


@dataclass(frozen=True, kw_only=True)
class _Named:
    """What a file's name says."""

    uri: str
    stage: str | None  # None: not said
    batch: int = 0
    output: str | None = None


class DumpFolder:
    """The recordings of a folder of dumps; arrays are read when they are asked for.

    Parameters
    ----------
    folder : with `geometry.json`
    content : of `geometry.json`
    geometry : read from it
    """

    def __init__(self, folder: Path, content: Mapping[str, Any], geometry: Geometry):
        self.folder, self.geometry = folder, geometry
        self.source = folder / "geometry.json"
        tables = content.get("arrays", {})
        if not isinstance(tables, Mapping) or not all(isinstance(each, Mapping) for each in tables.values()):
            raise self._error("arrays must be a table with one table per array")
        self.stage = content.get("stage", "log_probs" if geometry.powerset else "embeddings")
        if self.stage not in AXES:
            raise self._error(f"stage must be {' or '.join(AXES)}, found {self.stage!r}")
        self._names = {alias: stage for stage, aliases in ALIASES.items() for alias in aliases}
        self._names |= {stage: stage for stage in AXES}
        self._names |= {
            name: self._names.get(str(each.get("step", name)), name) for name, each in tables.items()
        }
        general = {key: value for key, value in content.items() if key not in ("arrays", "stage")}
        self._forms = {self.stage: self._form(general, self.stage, "")}
        for name, each in tables.items():
            stage = self._names[name]
            base = general if stage == self.stage else {}
            self._forms[stage] = self._form({**base, **each}, stage, f"arrays.{name}: ")
        self.files = content.get("files")
        if self.files is not None and self.files not in _FILES:
            raise self._error(f"files must be {', '.join(_FILES[:-1])} or {_FILES[-1]}, found {self.files!r}")
        self._vectors: dict[Path, dict[str, np.ndarray]] = {}
        self._index = self._find()
        self._kept: tuple[str, dict[str, np.ndarray]] | None = None

    @property
    def uris(self) -> tuple[str, ...]:
        """Names of the recordings."""
        return tuple(sorted(self._index))

    @property
    def whole(self) -> bool:
        """Whether Kaldi's files hold a vector per recording."""
        return bool(self._vectors) and all(
            array.ndim == 1 for vectors in self._vectors.values() for array in vectors.values()
        )

    def stages(self, uri: str) -> tuple[str, ...]:
        """Stages of a recording as its file names tell; other outputs in the same files are not counted."""
        return tuple(self._index[uri])

    def path(self, uri: str) -> Path:
        """The file of a recording, for messages: its first."""
        found = self._index.get(uri)
        return next(iter(found.values()))[0][2] if found else self.folder / uri

    def arrays(self, uri: str) -> dict[str, np.ndarray]:
        """All arrays of a recording by stage; `log_probs` and `embeddings` in the shape that is recorded.

        What cannot be read is a `RecordingError`, which fails this recording alone.
        """
        if self._kept is None or self._kept[0] != uri:
            found: dict[str, np.ndarray] = {}
            for stage, parts in self._index[uri].items():
                found |= self._stage(uri, stage, parts)
            self._kept = (uri, found)
        return dict(self._kept[1])

    def _error(self, problem: str) -> InputError:
        return InputError.at(self.source, problem)

    def _form(self, entry: Mapping[str, Any], stage: str, where: str) -> StageForm:
        counts: dict[str, int | None] = {}
        for key in COUNTS:
            value = entry.get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise self._error(f"{where}{key} must be a whole number above 0, found {value!r}")
            counts[key] = value
        output = entry.get("output")
        if output is not None and (isinstance(output, bool) or not isinstance(output, str | int)):
            raise self._error(f"{where}output must be a name or a number, found {output!r}")
        return StageForm(
            form=parse_form(entry, AXES.get(stage), lambda problem: self._error(f"{where}{problem}")),
            num_frames=counts["num_frames"],
            num_local_speakers=counts["num_local_speakers"] or 1,
            dimension=counts["dimension"],
            output=None if output is None else str(output),
        )

    def _find(self) -> dict[str, dict[str, list[tuple[int, str | None, Path]]]]:
        """uri -> stage -> batch number, output and file; a Kaldi file stands under each of its names."""
        folder, files = self.folder, _dumps(self.folder)
        inner = {path: _dumps(path) for path in sorted(folder.iterdir()) if path.is_dir()}
        inner = {path: found for path, found in inner.items() if found}
        if not files and len(inner) == 1 and not any(self._ends(p.stem) for p in next(iter(inner.values()))):
            (folder, files), inner = next(iter(inner.items())), {}
        index: dict[str, dict[str, list[tuple[int, str | None, Path]]]] = {}
        lists = [path for path in files if path.suffix.lower() == ".scp"]
        plain = [path for path in files if path.suffix.lower() not in KALDI]
        for path in lists or [path for path in files if path.suffix.lower() == ".ark"]:
            stage = self._names.get(path.stem, self.stage)
            self._vectors[path] = read_kaldi(path)
            for uri in self._vectors[path]:
                named = _numbered(uri, self.files == "batch", False)
                index.setdefault(named.uri, {}).setdefault(stage, []).append((named.batch, uri, path))
        for path, named in zip(plain, self._named([path.stem for path in plain], plain), strict=True):
            uri = named.uri or folder.resolve().name
            stages = index.setdefault(uri, {})
            stages.setdefault(named.stage or self.stage, []).append((named.batch, named.output, path))
        for directory, found in inner.items():
            for path in found:
                stage = self._ends(path.stem) or self._ends(re.sub(r"(_output)?_\d+$", "", path.stem))
                if stage is not None:
                    stages = index.setdefault(directory.name, {})
                    stages.setdefault(stage[1], []).append((0, None, path))
        for stages in index.values():
            for parts in stages.values():
                parts.sort(key=lambda part: (part[0], part[1] or "", part[2].name))
        return index

    def _ends(self, stem: str) -> tuple[str, str] | None:
        """Recording and stage, where a name is that of a stage or ends in it."""
        if stem in self._names:
            return "", self._names[stem]
        ends = [name for name in self._names for mark in ".-_" if stem.endswith(f"{mark}{name}")]
        if not ends:
            return None
        longest = max(ends, key=len)
        return stem[: -len(longest) - 1], self._names[longest]

    def _named(self, stems: list[str], paths: list[Path]) -> list[_Named]:
        """What the names say, all of them seen together."""
        dumped = [path.suffix.lower() in (*RAW, *TEXT) for path in paths]
        numbers = [re.fullmatch(r"(.+?)(?:_output)?_(0|[1-9]\d*)", stem) for stem in stems]
        bases = {match[1] for match in numbers if match}
        zeros = {match[1] for match in numbers if match and match[2] == "0"}
        counted = bool(stems) and all(dumped) and all(numbers) and bases == zeros
        twice = counted and all(re.search(r"[_.-]\d+(_output)?_\d+$", stem) for stem in stems)
        result = []
        for stem, match in zip(stems, numbers, strict=True):
            if self.files == "batch":
                named = _numbered(stem, True, twice)
            elif match is not None and (self.files == "output" or (self.files is None and counted)):
                named = _Named(uri=match[1], stage=None, output=match[2])
            else:
                named = _Named(uri=stem, stage=None)
            ends = self._ends(named.uri)
            result.append(named if ends is None else replace(named, uri=ends[0], stage=ends[1]))
        return result

    def _stage(
        self, uri: str, stage: str, parts: list[tuple[int, str | None, Path]]
    ) -> dict[str, np.ndarray]:
        """The arrays of the files of one stage: the stage, and other outputs beside it."""
        said = self._forms.get(stage) or self._form({}, stage, "")
        kaldi = [(batch, key, path) for batch, key, path in parts if path.suffix.lower() in KALDI]
        chosen = kaldi or self._outputs(uri, parts, said)
        batches = [batch for batch, _, _ in chosen]
        if batches != list(range(len(batches))):
            if len(set(batches)) < len(batches):
                names = ", ".join(path.name for _, _, path in chosen[:4])
                raise RecordingError(f"{self.folder}: {uri!r} has several files ({names}); leave one of them")
            missing = next(i for i, batch in enumerate(batches) if batch != i)
            raise RecordingError(
                f"{self.folder}: batch {missing} of {uri!r} is missing; there are "
                f"{', '.join(str(batch) for batch in batches)}: record it, or correct files in "
                "geometry.json"
            )
        found: dict[str, list[np.ndarray]] = {}
        for _, key, path in chosen:
            if path in self._vectors and key is not None:
                whole = {stage: self._fitted(self._vectors[path][key], stage, said, path)}
            else:
                whole = self._file(path, stage, said)
            for name, array in whole.items():
                found.setdefault(name, []).append(array)
        return {name: joined(arrays, chosen[0][2], name) for name, arrays in found.items()}

    def _outputs(
        self, uri: str, parts: list[tuple[int, str | None, Path]], said: StageForm
    ) -> list[tuple[int, str | None, Path]]:
        """The files of the output that is wanted, where the names count outputs."""
        outputs = list(dict.fromkeys(output for _, output, _ in parts))
        if len(outputs) < 2 and (said.output is None or outputs == [None] or outputs == [said.output]):
            return parts
        if said.output is None or said.output not in outputs:
            problem = f"{uri!r} has the outputs {', '.join(str(output) for output in outputs)}"
            if said.output is not None:
                problem += f", not {said.output}"
            raise RecordingError(
                f'{self.source}: {problem}; say which one it is with the line "output": {outputs[0]}, or, if '
                'the numbers count batches, "files": "batch", or, if they are part of the names, "files": '
                '"recording",'
            )
        return [part for part in parts if part[1] == said.output]

    def _file(self, path: Path, stage: str, said: StageForm) -> dict[str, np.ndarray]:
        form = said.form
        several = path.suffix.lower() == ".json"
        # in a file of several outputs, shape and axes are those of one of them
        plain = replace(form, shape=None, transpose=None, order="C", dtype=None) if several else form
        if not several and form.shape is None:
            plain = replace(plain, transpose=None)
        arrays = read_array_file(path, plain)
        if len(arrays) == 1 and (said.output is None or not several):
            key = next(iter(arrays))
        else:
            wanted = [said.output] if said.output is not None else [stage, *ALIASES.get(stage, ())]
            key = next((name for name in wanted if name in arrays), "")
            if not key:
                raise RecordingError(
                    f"{path}: holds no output {wanted[0]!r}; it has {', '.join(arrays)}: say which is the "
                    f'{stage} in geometry.json with the line "output": "{next(iter(arrays))}",'
                )
        main = arrays.pop(key)
        if several and form.shape is not None:
            main = apply_form(path, main, replace(form, dtype=None))
        elif several or form.shape is None:
            main = self._fitted(main, stage, said, path)
        return {stage: self._ranked(main, stage), **arrays}

    def _fitted(self, array: np.ndarray, stage: str, said: StageForm, path: Path) -> np.ndarray:
        """A flat array, or one without all its axes, in the shape of its stage."""
        form = said.form
        if form.shape is not None:
            return self._ranked(apply_form(path, array, replace(form, dtype=None)), stage)
        if stage == "log_probs":
            array = self._scores(array, said, path)
        elif stage == "embeddings":
            if array.ndim == 1 and said.dimension is None and said.num_local_speakers == 1:
                return array[None, None]
            if array.ndim < 3:
                dimension = said.dimension or (array.shape[-1] if array.ndim == 2 else None)
                if dimension is None:
                    raise RecordingError(
                        f"{path}: {array.size} values without shape; add to geometry.json the line "
                        '"dimension": 256, (values of one embedding)'
                    )
                sizes = {"chunk": -1, "local_speaker": said.num_local_speakers, "dimension": dimension}
                array = self._axes(array, stage, sizes, form, path)
            elif form.transpose is not None:
                array = array.transpose(form.transpose)
        return self._ranked(array, stage)

    def _scores(self, array: np.ndarray, said: StageForm, path: Path) -> np.ndarray:
        num_classes, geometry = len(self.geometry.powerset), self.geometry
        expected = geometry.chunk_duration / geometry.frame_step
        if array.ndim >= 3:
            return array if said.form.transpose is None else array.transpose(said.form.transpose)
        if not num_classes:
            raise RecordingError(
                f"{self.source}: lacks powerset; add the speakers of every class, such as "
                '"powerset": [[], [0], [1], [0, 1]],'
            )
        if said.num_frames is None:
            if array.ndim == 2 and array.shape[1] == num_classes and abs(len(array) - expected) <= 2:
                return array[None]  # one chunk
            near = sorted(range(round(expected) - 2, round(expected) + 3), key=lambda n: abs(n - expected))
            fitting = [n for n in near if n > 0 and array.size and array.size % (n * num_classes) == 0]
            raise RecordingError(
                f"{path}: {array.size} values without shape; add to geometry.json the line "
                f'"num_frames": {fitting[0] if fitting else round(expected)}, (frames of one chunk; '
                f"{geometry.chunk_duration:g} s in steps of {geometry.frame_step:g} s make about "
                f"{expected:.0f})"
            )
        return self._axes(
            array, "log_probs", {"chunk": -1, "frame": said.num_frames, "class": num_classes}, said.form, path
        )

    def _axes(
        self, array: np.ndarray, stage: str, sizes: Mapping[str, int], form: ArrayForm, path: Path
    ) -> np.ndarray:
        """A flat array in the shape that the sizes of its axes make, in the order of the stage."""
        whole = {axis: size for axis, size in sizes.items() if size > 0}
        each = prod(whole.values())
        if array.size == 0 or array.size % each:
            product = " x ".join(f"{size} {axis}" for axis, size in whole.items())
            raise RecordingError(
                f"{path}: {array.size} values are {array.size / each:.3f} chunks of {product} = {each}; the "
                "file is truncated, or num_frames, dtype or powerset in geometry.json are of another model"
            )
        axes = AXES[stage]
        order = axes if form.transpose is None else _order(axes, form.transpose)
        shape = tuple(sizes[axis] for axis in order)
        return apply_form(path, array, replace(form, dtype=None, shape=shape))

    def _ranked(self, array: np.ndarray, stage: str) -> np.ndarray:
        """A single chunk gets its first axis."""
        return array[None] if stage in AXES and array.ndim == 2 else array


def _order(axes: tuple[str, ...], transpose: tuple[int, ...]) -> tuple[str, ...]:
    """Axes as they stand in the file."""
    found = dict(zip(transpose, axes, strict=True))
    return tuple(found[i] for i in range(len(axes)))


def _dumps(folder: Path) -> list[Path]:
    """Files that may hold arrays, in the order of their names."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.suffix.lower() in SUFFIXES
        and path.suffix.lower() != ".npz"
        and not path.name.startswith(".")
        and path.stem.lower() not in _ABOUT_THE_REST
    ]


def _numbered(stem: str, batches: bool, outputs: bool) -> _Named:
    """Recording, batch and output of a name such as `meeting_003_0`."""
    pattern = r"(.+?)[_.-](\d+)" + (r"(?:_output)?_(\d+)" if outputs else "")
    match = re.fullmatch(pattern, stem) if batches else None
    if match is None:
        return _Named(uri=stem, stage=None)
    return _Named(uri=match[1], stage=None, batch=int(match[2]), output=match[3] if outputs else None)


def read_head(path: Path) -> Mapping[str, Any]:
    """`geometry.json` as an object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError.at(
            path,
            "no such file; it must say sample_rate, chunk_duration, chunk_step, frame_start, frame_duration, "
            "frame_step and powerset of the recorded model",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError.at(path, f"is not readable JSON: {error}") from None
    if not isinstance(content, Mapping):
        raise InputError.at(path, f"the geometry must be a JSON object, found {type(content).__name__}")
    return content
