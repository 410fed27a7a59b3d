"""Speaker embeddings of whole recordings or of segments, whole or averaged over chunks.

The order of work is made for throughput: recordings are read and turned into features ahead of
the model, inputs of equal length share a batch, and several batches run at once. Nothing is
padded, so an embedding is the same whatever else was asked for, up to float rounding.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.audio import crop_audio, read_audio
from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError, RecordingError
from workbench.fbank import KaldiFbankDims, kaldi_fbank
from workbench.runtimes.base import FeatureEmbedder, Runtime

if TYPE_CHECKING:
    from pyannote.core import Annotation

_WINDOW_FRAMES = 60_000  # waiting for others of their length: ten minutes of features, 19 MB
_BATCH_FRAMES = 25_600  # at most in one batch: activations of a ResNet34 stay below a gigabyte


@dataclass(frozen=True, kw_only=True)
class Item:
    """What one embedding is made of: a recording or a part of it."""

    name: str
    path: Path  # of the recording; only a name where the waveform is given
    uri: str = ""  # name of the recording; by default that of the item
    start: float | None = None  # s; None: the whole recording
    end: float | None = None
    speaker: str = ""
    waveform: np.ndarray | None = field(default=None, repr=False, compare=False)  # instead of a file

    @property
    def recording(self) -> str:
        """Name of the recording."""
        return self.uri or self.name


@dataclass(frozen=True, kw_only=True)
class ExtractionParams:
    """How embeddings are made of what is heard."""

    chunk_duration: float | None = None  # s; averaged over chunks of this length; None: in one piece
    batch_size: int = 32  # inputs of equal length that run together


Outcome = tuple[int, "np.ndarray | RecordingError"]
Failures = list[tuple[str, str]]


def whole_recordings(recordings: Mapping[str, Path]) -> list[Item]:
    """An item for every recording, in their order."""
    return [Item(name=uri, path=path) for uri, path in recordings.items()]


def segment_items(
    recordings: Mapping[str, Path], segments: Mapping[str, Annotation], min_duration: float = 0.0
) -> list[Item]:
    """An item for every turn of at least `min_duration` (s), by recording and time.

    Named `<uri>-<speaker>-<start>-<end>`, times in milliseconds; equal turns are numbered.
    """
    items: list[Item] = []
    known: dict[str, int] = defaultdict(int)
    for uri, path in recordings.items():
        if uri not in segments:
            continue
        for segment, _, label in segments[uri].itertracks(yield_label=True):
            if segment.duration < min_duration:
                continue
            name = f"{uri}-{label}-{round(1000 * segment.start):07d}-{round(1000 * segment.end):07d}"
            known[name] += 1
            if known[name] > 1:
                name = f"{name}-{known[name]}"
            items.append(
                Item(name=name, path=path, uri=uri, start=segment.start, end=segment.end, speaker=str(label))
            )
    return items


def num_chunk_frames(chunk_duration: float, dims: KaldiFbankDims) -> int:
    """Features frames of a chunk, as WeSpeaker's `samples_per_chunk` counts them.

    Examples
    --------
    >>> num_chunk_frames(2.0, KaldiFbankDims())
    198
    """
    finite = math.isfinite(chunk_duration)
    samples = round(chunk_duration * dims.sample_rate) if finite else 0
    if samples < dims.length_samples:
        raise InputError(
            f"chunk duration must be at least {dims.length_samples / dims.sample_rate:g} s, "
            f"got {chunk_duration:g}"
        )
    return 1 + (samples - dims.length_samples) // dims.shift_samples


def cut_blocks(fbank: np.ndarray, num_frames: int) -> np.ndarray:
    """Features in consecutive blocks, the last one completed, as WeSpeaker's C++ runtime does it.

    Parameters
    ----------
    fbank : float array, shape (total_frames, num_mels)
        Not centred: the mean is subtracted from every block after this.
    num_frames : frames per block

    Returns
    -------
    blocks : float array, shape (num_blocks, num_frames, num_mels)
        What is left of the frames is completed by the first frames of the first block, or where
        there is no full block, by repeating the frames from their beginning.

    Examples
    --------
    >>> cut_blocks(np.arange(5.0)[:, None], 3)[..., 0]
    array([[0., 1., 2.],
           [3., 4., 0.]])
    >>> cut_blocks(np.arange(2.0)[:, None], 5)[..., 0]
    array([[0., 1., 0., 1., 0.]])
    """
    total = len(fbank)
    index = np.arange(-(-total // num_frames) * num_frames)
    # with a full block there are fewer frames missing than it has; without one, periods of `total`
    return fbank[index % total].reshape(-1, num_frames, fbank.shape[1])


def extract(
    items: Sequence[Item],
    runtime: Runtime,
    params: ExtractionParams | None = None,
    *,
    workers: int = 1,
) -> Iterator[Outcome]:
    """Embed every item; results come as they are ready.

    Parameters
    ----------
    items : what to embed
    runtime : embedding model
    params : chunks and batches
    workers : batches that run at once; worth as many as there are CPUs where the runtime has
        `threads=1`, and 1 on a GPU

    Yields
    ------
    index, embedding : position in `items` and its float32 array, shape (dimension,), or the
        RecordingError that says why there is none
    """
    params = params or ExtractionParams()
    if params.batch_size < 1 or workers < 1:
        raise InputError(f"batch size and workers must be at least 1, got {params.batch_size} and {workers}")
    front = _Front(runtime, params)
    by_recording: dict[Path, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_recording[item.path].append(index)
    averages: dict[int, _Average] = {}
    with (
        ThreadPoolExecutor(workers, "read") as readers,
        ThreadPoolExecutor(workers, "embed") as embedders,
    ):
        try:
            running: set[Future[list[tuple[int, np.ndarray | RecordingError]]]] = set()
            for ready in _batches(_prepared(readers, items, by_recording.values(), front, workers), params):
                if isinstance(ready, tuple):
                    yield ready
                    continue
                for index, _, count in ready:
                    averages.setdefault(index, _Average(count))
                running.add(embedders.submit(front.embed, ready))
                if len(running) >= 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from _finished(done, averages, items)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from _finished(done, averages, items)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            embedders.shutdown(wait=False, cancel_futures=True)


def extract_all(
    items: Sequence[Item],
    runtime: Runtime,
    params: ExtractionParams | None = None,
    *,
    workers: int = 1,
    mean: np.ndarray | None = None,
) -> tuple[EmbeddingSet, Failures]:
    """`extract`, gathered in the order of `items`, and what failed: (name, reason)."""
    found: dict[int, np.ndarray] = {}
    failed: dict[int, str] = {}
    for index, outcome in extract(items, runtime, params, workers=workers):
        if isinstance(outcome, RecordingError):
            failed[index] = str(outcome)
        else:
            found[index] = outcome
    return (
        gather(items, found, mean),
        [(items[index].name, failed[index]) for index in sorted(failed)],
    )


def extract_arrays(
    waveforms: Sequence[np.ndarray],
    runtime: Runtime,
    params: ExtractionParams | None = None,
    *,
    workers: int = 1,
) -> np.ndarray:
    """Embeddings float32 (num_waveforms, dimension) of waveforms (num_samples,) at the model's rate."""
    items = [Item(name=str(row), path=Path(str(row)), waveform=each) for row, each in enumerate(waveforms)]
    found = dict(extract(items, runtime, params, workers=workers))
    failed = [outcome for outcome in found.values() if isinstance(outcome, RecordingError)]
    if failed:
        raise failed[0]
    return np.stack([np.asarray(found[row]) for row in range(len(items))])


def gather(
    items: Sequence[Item], found: Mapping[int, np.ndarray], mean: np.ndarray | None = None
) -> EmbeddingSet:
    """The embeddings found, in the order of `items`, less the vector `mean` where one is given."""
    kept = [index for index in range(len(items)) if index in found]
    embeddings = np.stack([found[index] for index in kept]) if kept else np.empty((0, 0), np.float32)
    if mean is not None and kept:
        if mean.shape != embeddings.shape[1:]:
            raise InputError(
                f"the mean must have the embeddings' {embeddings.shape[1]} values, found shape {mean.shape}"
            )
        embeddings = embeddings - mean.astype(np.float32)
    chosen = [items[index] for index in kept]
    segmented = bool(chosen) and all(item.start is not None for item in chosen)
    return EmbeddingSet(
        names=tuple(item.name for item in chosen),
        embeddings=embeddings.astype(np.float32),
        uris=tuple(item.recording for item in chosen),
        segments=np.array([(item.start, item.end) for item in chosen], dtype=float) if segmented else None,
        speakers=tuple(item.speaker for item in chosen) if any(item.speaker for item in chosen) else (),
    )


def load_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """A mean embedding, shape (dimension,), from a `.npy`."""
    try:
        mean = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        problem = "holds Python objects, which are never loaded" if "pickle" in str(error) else str(error)
        raise InputError.at(os.fspath(path), f"cannot be read as .npy: {problem}") from None
    if (
        not isinstance(mean, np.ndarray)
        or mean.dtype.kind not in "fiu"
        or mean.size != max(mean.shape, default=0)
    ):
        raise InputError.at(os.fspath(path), "must hold one vector of numbers in a .npy")
    if not np.isfinite(mean).all():
        raise InputError.at(os.fspath(path), "holds values that are not finite")
    return mean.reshape(-1)


Piece = tuple[int, np.ndarray, int]  # item, one input of the model, how many inputs the item has


class _Front:
    """From an item to inputs of the model, and from a batch of those to embeddings."""

    def __init__(self, runtime: Runtime, params: ExtractionParams):
        if runtime.kind != "embedding":
            raise InputError(f"{runtime}: is a segmentation model and gives no speaker embeddings")
        self.runtime = runtime
        self.feature_runtime = (
            runtime if isinstance(runtime, FeatureEmbedder) and runtime.fbank_dims is not None else None
        )
        dims = None if self.feature_runtime is None else self.feature_runtime.fbank_dims
        self.dims = dims or KaldiFbankDims()
        self.num_frames = (
            None if params.chunk_duration is None else num_chunk_frames(params.chunk_duration, self.dims)
        )
        if self.num_frames is not None and self.feature_runtime is None:
            raise InputError(
                f"{runtime}: makes its features itself, but chunks are cut from features; export the model "
                "without --with-fbank, or embed whole recordings"
            )

    def read(self, items: Sequence[Item]) -> list[np.ndarray | RecordingError]:
        """Inputs (num_inputs, frame, mel) or (1, sample) of the items of one recording, read once."""
        rate = self.dims.sample_rate
        whole: np.ndarray | None = None
        found: list[np.ndarray | RecordingError] = []
        for item in items:
            try:
                if item.waveform is not None:
                    waveform = item.waveform
                elif item.start is None:
                    waveform = read_audio(item.path, rate) if whole is None else whole
                elif len(items) == 1:
                    waveform = crop_audio(item.path, item.start, _end(item), rate)
                else:
                    whole = read_audio(item.path, rate) if whole is None else whole
                    waveform = whole[round(item.start * rate) : round(_end(item) * rate)]
                found.append(self.inputs(waveform, item))
            except RecordingError as error:
                found.append(error)
            except (InputError, ValueError, MemoryError) as error:  # this recording's fault, not the call's
                found.append(RecordingError(f"{item.path}: {error}"))
        return found

    def inputs(self, waveform: np.ndarray, item: Item) -> np.ndarray:
        needed = self.dims.length_samples if self.num_frames is not None else self.runtime.min_num_samples
        if len(waveform) < max(needed, 1):
            rate = self.dims.sample_rate
            raise RecordingError(
                f"{item.path}: {len(waveform) / rate:.3f} s are too short, "
                f"the model needs {needed / rate:.3f} s"
            )
        if self.feature_runtime is None:
            return waveform[None]
        fbank = kaldi_fbank(waveform, self.dims)
        return fbank[None] if self.num_frames is None else cut_blocks(fbank, self.num_frames)

    def embed(self, pieces: Sequence[Piece]) -> list[tuple[int, np.ndarray | RecordingError]]:
        """Embeddings of inputs of equal length; if they fail together, each is tried alone."""
        batch = np.stack([array for _, array, _ in pieces])
        try:
            if self.feature_runtime is not None:
                rows = self.feature_runtime.embed_features(batch)
            else:
                rows = self.runtime.embed(batch)
        except RecordingError as error:
            if len(pieces) > 1:
                return [outcome for piece in pieces for outcome in self.embed([piece])]
            return [(pieces[0][0], error)]
        return [(index, row) for (index, _, _), row in zip(pieces, rows, strict=True)]


class _Average:
    """The mean of an item's embeddings, in the making."""

    def __init__(self, count: int):
        self.count, self.left, self.total = count, count, np.zeros(1)
        self.error: RecordingError | None = None

    def add(self, outcome: np.ndarray | RecordingError) -> bool:
        """Take one more in; True when it was the last."""
        self.left -= 1
        if isinstance(outcome, RecordingError):
            self.error = outcome
        else:
            self.total = self.total + outcome.astype(np.float64)
        return self.left == 0

    def result(self, item: Item) -> np.ndarray | RecordingError:
        mean: np.ndarray = (self.total / self.count).astype(np.float32)
        if self.error is None and not np.isfinite(mean).all():
            self.error = RecordingError(f"{item.path}: the model's embedding of {item.name!r} is not finite")
        return mean if self.error is None else self.error


def _end(item: Item) -> float:
    if item.end is None:
        raise ValueError(f"{item.name!r} has a start but no end")
    return item.end


def _prepared(
    readers: ThreadPoolExecutor,
    items: Sequence[Item],
    groups: Iterable[list[int]],
    front: _Front,
    workers: int,
) -> Iterator[tuple[int, np.ndarray | RecordingError]]:
    """Inputs of every item, read a few recordings ahead."""
    waiting = iter(groups)

    def submit(group: list[int]) -> tuple[list[int], Future[list[np.ndarray | RecordingError]]]:
        return group, readers.submit(front.read, [items[index] for index in group])

    ahead = [submit(group) for group in islice(waiting, 2 * workers)]
    while ahead:
        group, future = ahead.pop(0)
        found = future.result()
        ahead += [submit(following) for following in islice(waiting, 1)]
        yield from zip(group, found, strict=True)


def _batches(
    prepared: Iterable[tuple[int, np.ndarray | RecordingError]], params: ExtractionParams
) -> Iterator[Outcome | list[Piece]]:
    """Batches of inputs of equal length, and the failures in between."""
    bins: dict[int, list[Piece]] = defaultdict(list)
    held = 0
    for index, inputs in prepared:
        if isinstance(inputs, RecordingError):
            yield index, inputs
            continue
        length = inputs.shape[1]
        most = max(1, min(params.batch_size, _BATCH_FRAMES // _frames(inputs)))
        for row in inputs:
            bins[length].append((index, row, len(inputs)))
            held += _frames(inputs)
            if len(bins[length]) >= most:
                full = bins.pop(length)
                held -= len(full) * _frames(inputs)
                yield full
        if held > _WINDOW_FRAMES:
            yield from bins.values()
            bins.clear()
            held = 0
    yield from bins.values()


def _frames(inputs: np.ndarray) -> int:
    """Frames of one input, also where it is a waveform."""
    return max(1, inputs.shape[1] if inputs.ndim == 3 else inputs.shape[1] // 160)


def _finished(
    done: Iterable[Future[list[tuple[int, np.ndarray | RecordingError]]]],
    averages: dict[int, _Average],
    items: Sequence[Item],
) -> Iterator[Outcome]:
    for future in done:
        for index, outcome in future.result():
            if averages[index].add(outcome):
                yield index, averages.pop(index).result(items[index])
