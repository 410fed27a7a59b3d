"""One embedding per chunk and local speaker, from the frames in which that speaker talks alone."""

from __future__ import annotations

from math import ceil

import numpy as np

from workbench.errors import InputError, RecordingError
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, OnBatch, cut_chunks, explain_memory


def min_clean_frames(num_frames: int, num_min_samples: int, chunking: Chunking) -> int:
    """Overlap is left out only if more than this many frames remain.

    Parameters
    ----------
    num_frames : frames per chunk
    num_min_samples : smallest input the embedding model accepts, in samples
    chunking : gives the nominal length of a chunk
    """
    return ceil(num_frames * num_min_samples / (chunking.seg_duration * chunking.sample_rate))


def embedding_masks(segmentations: np.ndarray, min_frames: int) -> np.ndarray:
    """Frames of every local speaker that its embedding is pooled over.

    Parameters
    ----------
    segmentations : float array, shape (num_chunks, num_frames, num_local_speakers)
        0 or 1.
    min_frames : int
        The frames without overlap are taken if there are *more* than this many, all frames
        of the speaker otherwise. -1 gives the frames without overlap in any case.

    Returns
    -------
    masks : float32 array, shape (num_chunks, num_local_speakers, num_frames)

    Examples
    --------
    Two speakers overlap in the middle frame; one frame alone is enough if none are required.

    >>> overlapping = np.array([[[1, 0], [1, 1], [0, 1]]])
    >>> embedding_masks(overlapping, min_frames=0)[0]
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    >>> embedding_masks(overlapping, min_frames=1)[0]
    array([[1., 1., 0.],
           [0., 1., 1.]], dtype=float32)
    """
    full = segmentations.transpose(0, 2, 1).astype(np.float32)  # (chunk, speaker, frame)
    clean = full * (full.sum(axis=1, keepdims=True) < 2)
    enough = clean.sum(axis=2, keepdims=True) > min_frames
    return np.where(enough, clean, full)


def embed_recording(
    waveform: np.ndarray,
    segmentations: np.ndarray,
    runtime: Runtime,
    chunking: Chunking,
    *,
    batch_size: int = 32,
    exclude_overlap: bool = True,
    on_batch: OnBatch | None = None,
    uri: str | None = None,
) -> np.ndarray:
    """Embeddings of all local speakers, active or not.

    The network's trunk runs once per chunk: masks only enter its pooling, so all local
    speakers of a chunk are handed to the runtime together. An inactive speaker gets what the
    model makes of an all-zero mask (for WeSpeaker, the bias of its last layer).

    Parameters
    ----------
    waveform : float32 array, shape (num_samples,), in [-1, 1)
    segmentations : float array, shape (num_chunks, num_frames, num_local_speakers)
        0 or 1.
    runtime : the embedding model
    chunking : where the chunks lie
    batch_size : pairs of chunk and local speaker per call of the model
    exclude_overlap : leave out overlapped frames where enough others remain
    on_batch : progress callback
    uri : name of the recording, by which a recorded run finds its arrays

    Returns
    -------
    embeddings : float32 array, shape (num_chunks, num_local_speakers, dimension)
    """
    num_chunks, num_frames, num_speakers = segmentations.shape
    if isinstance(runtime, RecordedRuntime):
        return recorded_embeddings(runtime, uri, num_chunks, num_speakers)
    min_frames = min_clean_frames(num_frames, runtime.min_num_samples, chunking)
    starts = chunking.labelled_starts
    # As much memory as DiariZen's batches need, which hold a waveform per chunk and speaker.
    chunks_per_batch = ceil(batch_size / num_speakers)
    embeddings = np.empty((num_chunks, num_speakers, 0), np.float32)  # one array: see `segment_recording`
    for first in range(0, num_chunks, chunks_per_batch):
        batch = slice(first, first + chunks_per_batch)
        waveforms = cut_chunks(waveform, starts[batch], chunking.window_samples)
        masks = (
            embedding_masks(segmentations[batch], min_frames)
            if exclude_overlap
            else segmentations[batch].transpose(0, 2, 1).astype(np.float32)
        )
        with explain_memory(chunking, chunks_per_batch):
            embedded = np.asarray(runtime.embed(waveforms, masks), dtype=np.float32)
        if embedded.shape[:2] != (len(waveforms), num_speakers):
            raise InputError(
                f"{runtime}: returned embeddings of shape {embedded.shape} for {len(waveforms)} chunks of "
                f"{num_speakers} local speakers; expected ({len(waveforms)}, {num_speakers}, dimension)"
            )
        if first == 0:
            embeddings = np.empty((num_chunks, num_speakers, embedded.shape[2]), dtype=np.float32)
        embeddings[batch] = embedded
        if on_batch is not None:
            on_batch(min(batch.stop, num_chunks), num_chunks)
    return embeddings


def recorded_embeddings(
    runtime: RecordedRuntime, uri: str | None, num_chunks: int, num_speakers: int
) -> np.ndarray:
    """What another run put out for this recording, if it has as many chunks and local speakers."""
    if uri is None:
        raise InputError(f"{runtime}: recorded arrays belong to recordings; say which one (uri)")
    try:
        embeddings = runtime.embeddings(uri)
    except InputError as error:  # other recordings may be there
        raise RecordingError(str(error)) from None
    if embeddings.shape[:2] != (num_chunks, num_speakers):
        raise RecordingError(
            f"{runtime}: embeddings of {uri!r} have shape {embeddings.shape}, but the segmentation has "
            f"{num_chunks} chunks of {num_speakers} local speakers"
        )
    return embeddings
