"""From a waveform to who is active among the local speakers of every chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import floor, isclose

import numpy as np

from workbench.errors import InputError, RecordingError
from workbench.powerset import median_filter, to_multilabel
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.types import Geometry, SlidingWindow

MOST_SECONDS = 3600.0  # of a chunk

OnBatch = Callable[[int, int], None]
"""Called after every batch with the number of chunks done and to do."""


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad allocation")


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """Where the chunks of one recording lie, in samples for the models and in seconds for the output.

    The two disagree on purpose where the step is no whole number of samples: chunk c starts at
    sample ``c * step_samples`` but is *labelled* ``c * step``, as in pyannote.audio.
    """

    num_samples: int  # of the recording
    seg_duration: float  # s, length of a chunk
    segmentation_step: float = 0.1  # between two chunks, as a fraction of their length
    sample_rate: int = 16000  # Hz

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise RecordingError("the recording has no samples: nothing to diarize")
        if self.seg_duration > MOST_SECONDS:
            raise InputError(
                f"seg_duration must be at most {MOST_SECONDS:g} s, got {self.seg_duration:g} s: a chunk goes "
                "through the model in one piece, and models are trained on chunks of 5 to 30 s"
            )
        if not 0 < self.segmentation_step <= 1:
            raise InputError(
                f"segmentation_step must be above 0 and at most 1, got {self.segmentation_step}; it is the "
                "distance between two chunks as a fraction of the chunk length (DiariZen uses 0.1)"
            )
        if not np.isfinite(self.seg_duration) or self.window_samples < 1 or self.step_samples < 1:
            raise InputError(
                f"seg_duration must give chunks and steps of at least one sample, got {self.seg_duration} s "
                f"with segmentation_step {self.segmentation_step}"
            )

    @property
    def step(self) -> float:
        """Distance between the labelled starts of two chunks, in seconds."""
        return self.segmentation_step * self.seg_duration

    @property
    def window_samples(self) -> int:
        """Samples per chunk."""
        return floor(self.seg_duration * self.sample_rate)

    @property
    def step_samples(self) -> int:
        """Samples between two chunks; halves round to even."""
        return round(self.step * self.sample_rate)

    @property
    def num_full(self) -> int:
        """Chunks that lie inside the recording."""
        if self.num_samples < self.window_samples:
            return 0
        return 1 + (self.num_samples - self.window_samples) // self.step_samples

    @property
    def num_chunks(self) -> int:
        """All chunks: the full ones, and one that is padded with zeros if any samples are left over."""
        rest = self.num_samples - self.window_samples
        return self.num_full + int(rest < 0 or rest % self.step_samples > 0)

    @property
    def axis(self) -> SlidingWindow:
        """Time axis of the chunks."""
        return SlidingWindow(0.0, self.seg_duration, self.step)

    @property
    def starts(self) -> np.ndarray:
        """First sample of every chunk, as the segmentation model sees it."""
        return np.arange(self.num_chunks) * self.step_samples

    @property
    def labelled_starts(self) -> np.ndarray:
        """First sample of every chunk, found from its label: what the embedding model sees.

        The same as `starts` for steps of a whole number of samples, rounding down otherwise.
        """
        return np.floor(self.axis.start_of(np.arange(self.num_chunks)) * self.sample_rate).astype(np.int64)


def cut_chunks(waveform: np.ndarray, starts: np.ndarray, num_samples: int) -> np.ndarray:
    """Chunks of `num_samples` from `starts` on, with zeros after the end of the waveform.

    Parameters
    ----------
    waveform : float array, shape (num_recording_samples,)
    starts : int array, shape (batch,)
    num_samples : length of every chunk

    Returns
    -------
    chunks : float32 array, shape (batch, num_samples)

    Examples
    --------
    >>> cut_chunks(np.arange(5.0), np.array([0, 3]), 3)
    array([[0., 1., 2.],
           [3., 4., 0.]], dtype=float32)
    """
    chunks = np.zeros((len(starts), num_samples), dtype=np.float32)
    for row, start in zip(chunks, starts, strict=True):
        piece = waveform[start : start + num_samples]
        row[: len(piece)] = piece
    return chunks


def run_segmentation(
    waveform: np.ndarray, runtime: Runtime, chunking: Chunking, batch_size: int = 32
) -> Iterator[np.ndarray]:
    """Log-probabilities of the powerset classes, batch by batch in the order of the chunks.

    Full chunks run together; the zero-padded last one runs alone, because batch size changes
    the last bits and this is how DiariZen batches.

    Parameters
    ----------
    waveform : float32 array, shape (num_samples,), in [-1, 1)
    runtime : the segmentation model
    chunking : where the chunks lie
    batch_size : full chunks per call of the model

    Yields
    ------
    log_probs : float32 array, shape (batch, num_frames, num_powerset_classes)
    """
    starts, num_full = chunking.starts, chunking.num_full
    batches = [starts[first : min(first + batch_size, num_full)] for first in range(0, num_full, batch_size)]
    batches += [starts[num_full:]] if chunking.num_chunks > num_full else []
    for batch in batches:
        with explain_memory(chunking, batch_size):
            log_probs = runtime.segment(cut_chunks(waveform, batch, chunking.window_samples))
        yield log_probs


@contextmanager
def explain_memory(chunking: Chunking, batch_size: int) -> Iterator[None]:
    """Running out of memory as an `InputError` that says what to make smaller."""
    try:
        yield
    except Exception as error:
        # torch has no class of its own for it on CPUs, and ONNX Runtime's messages come in a RecordingError
        words = str(error).lower()
        if not isinstance(error, MemoryError) and not any(said in words for said in _OUT_OF_MEMORY):
            raise
        raise InputError(
            f"{batch_size} chunks of {chunking.seg_duration:g} s at once do not fit into memory; use a "
            "smaller --batch-size or --seg-duration"
        ) from error


def segment_recording(
    waveform: np.ndarray,
    runtime: Runtime,
    chunking: Chunking,
    *,
    batch_size: int = 32,
    apply_median_filtering: bool = True,
    on_batch: OnBatch | None = None,
    uri: str | None = None,
) -> np.ndarray:
    """Hard decisions for every chunk, frame and local speaker.

    Parameters
    ----------
    waveform : float32 array, shape (num_samples,), in [-1, 1)
    runtime : the segmentation model
    chunking : where the chunks lie
    batch_size : full chunks per call of the model
    apply_median_filtering : smooth every local speaker over 11 frames
    on_batch : progress callback
    uri : name of the recording, by which a recorded run finds its arrays

    Returns
    -------
    segmentations : float32 array, shape (num_chunks, num_frames, num_local_speakers)
        0 or 1. After the median filter more speakers may be active in a frame than the
        powerset allows.
    """
    geometry = segmentation_geometry(runtime)
    # One array from the start: results kept one by one would lie between the networks' large blocks,
    # which the allocator could then not give back, so that memory grew with the recording.
    segmentations = np.empty((0, 0, 0), dtype=np.float32)
    done = 0
    batches: Iterable[np.ndarray]
    if isinstance(runtime, RecordedRuntime):
        batches = [recorded_log_probs(runtime, uri, chunking)]
    else:
        batches = run_segmentation(waveform, runtime, chunking, batch_size)
    for log_probs in batches:
        multilabel = decode(log_probs, geometry, apply_median_filtering)
        if done == 0:
            segmentations = np.empty((chunking.num_chunks, *multilabel.shape[1:]), dtype=np.float32)
        segmentations[done : done + len(multilabel)] = multilabel
        done += len(multilabel)
        if on_batch is not None:
            on_batch(done, chunking.num_chunks)
    if done != chunking.num_chunks:
        raise InputError(f"{runtime}: returned {done} chunks of {chunking.num_chunks}")
    return segmentations


def recorded_log_probs(runtime: RecordedRuntime, uri: str | None, chunking: Chunking) -> np.ndarray:
    """What another run put out for this recording, if it cut the recording into the same chunks."""
    if uri is None:
        raise InputError(f"{runtime}: recorded arrays belong to recordings; say which one (uri)")
    recorded = runtime.geometry
    for name, found, wanted in (
        ("seg_duration", recorded.chunk_duration, chunking.seg_duration),
        ("segmentation_step", recorded.chunk_step / recorded.chunk_duration, chunking.segmentation_step),
    ):
        if not isclose(found, wanted, rel_tol=1e-6):
            raise InputError(
                f"{runtime}: was recorded with {name} {found:g}, but the pipeline has {wanted:g}; "
                f"use --{name.replace('_', '-')} {found:g}"
            )
    try:
        log_probs = runtime.log_probs(uri)
    except InputError as error:  # other recordings may be there
        raise RecordingError(str(error)) from None
    if len(log_probs) != chunking.num_chunks:
        raise RecordingError(
            f"{runtime}: holds {len(log_probs)} chunks of {uri!r}, but {chunking.num_samples} samples make "
            f"{chunking.num_chunks}; was another version of the recording recorded?"
        )
    return log_probs


def decode(log_probs: np.ndarray, geometry: Geometry, apply_median_filtering: bool = True) -> np.ndarray:
    """Log-probabilities (chunk, frame, class) to 0/1 decisions (chunk, frame, local speaker), float32."""
    if log_probs.ndim != 3 or log_probs.shape[-1] != len(geometry.powerset):
        raise InputError(
            f"the segmentation model returned an array of shape {log_probs.shape}, but its powerset has "
            f"{len(geometry.powerset)} classes, so (num_chunks, num_frames, {len(geometry.powerset)}) was "
            "expected; check that the file is a segmentation model with powerset output"
        )
    if not np.isfinite(log_probs).all():
        raise RecordingError(
            "the segmentation model returned values that are not finite; check the recording and the model"
        )
    multilabel = to_multilabel(log_probs, geometry.powerset)
    if apply_median_filtering:
        multilabel = median_filter(multilabel)
    return multilabel.astype(np.float32, copy=False)


def segmentation_geometry(runtime: Runtime) -> Geometry:
    """Geometry of a segmentation runtime; an error for a runtime that has none or no powerset."""
    geometry = runtime.geometry
    if geometry is None or not geometry.powerset:
        raise InputError(
            f"{runtime}: not a segmentation model with powerset output; give one as --segmentation, and the "
            "speaker embedding model as --embedding"
        )
    return geometry
