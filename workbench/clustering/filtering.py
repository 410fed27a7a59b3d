"""Which of the embeddings are good enough to find clusters in."""

from __future__ import annotations

import numpy as np

from workbench.clustering.params import Convention


def is_active(segmentations: np.ndarray) -> np.ndarray:
    """Local speakers with at least one active frame: bool array (num_chunks, num_speakers)."""
    # several times as fast as `sum`, and whole numbers add exactly in any order
    return np.asarray(np.einsum("cfs->cs", segmentations) > 0)


def num_clean_frames(segmentations: np.ndarray) -> np.ndarray:
    """Frames in which a local speaker is the only active one: int array (num_chunks, num_speakers)."""
    alone = np.einsum("cfs->cf", segmentations) == 1
    return np.einsum("cfs,cf->cs", segmentations, alone.astype(segmentations.dtype)).astype(np.int64)


def training_mask(segmentations: np.ndarray, embeddings: np.ndarray, convention: Convention) -> np.ndarray:
    """The embeddings that clusters are made of; all others are only assigned to them afterwards.

    =============  ===================================================================
    convention     an embedding is kept if it is finite and
    =============  ===================================================================
    diarizen       its speaker is active, alone in at least ``round(0.1 * num_frames)``
                   frames; the latter is dropped if fewer than two would remain
    pyannote-3.1   its speaker is active
    community-1    its speaker is alone in at least ``0.2 * num_frames`` frames
    =============  ===================================================================

    Parameters
    ----------
    segmentations : float array, shape (num_chunks, num_frames, num_local_speakers)
    embeddings : float array, shape (num_chunks, num_local_speakers, dimension)

    Returns
    -------
    mask : bool array, shape (num_chunks, num_local_speakers)
    """
    num_frames = segmentations.shape[1]
    with np.errstate(over="ignore"):
        length = np.linalg.norm(embeddings, axis=2)
    # what has no length in its own precision has no direction that could be compared; networks return none
    finite = np.isfinite(length) & (length > 0)
    if convention == "community-1":
        return finite & (num_clean_frames(segmentations) >= 0.2 * num_frames)
    usable = finite & is_active(segmentations)
    if convention == "pyannote-3.1":
        return usable
    clean = usable & (num_clean_frames(segmentations) >= round(0.1 * num_frames))
    return clean if clean.sum() >= 2 else usable
