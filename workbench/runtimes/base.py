"""What every runtime offers, and the checks they share."""

from __future__ import annotations

from typing import NoReturn, Protocol, runtime_checkable

import numpy as np

from workbench.errors import InputError
from workbench.fbank import KaldiFbankDims
from workbench.types import Geometry, Kind


@runtime_checkable
class Runtime(Protocol):
    """Something that runs a segmentation or a speaker embedding model.

    `str(runtime)` is the string it was made from, for messages and reports.
    """

    @property
    def kind(self) -> Kind:
        """Which of `segment` and `embed` it can do."""
        ...

    @property
    def geometry(self) -> Geometry | None:
        """How a segmentation model sees time and speakers; None for embedding models."""
        ...

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that `segment` or `embed` accepts."""
        ...

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        """Log-probabilities of powerset classes.

        Parameters
        ----------
        waveforms : float array, shape (batch, num_samples), in [-1, 1)

        Returns
        -------
        log_probs : float32 array, shape (batch, num_frames, num_powerset_classes)
        """
        ...

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Speaker embeddings, not normalised in length.

        Parameters
        ----------
        waveforms : float array, shape (batch, num_samples), in [-1, 1)
        masks : float array, shape (batch, num_frames) or (batch, num_speakers, num_frames), optional
            Weight of every frame, usually 0 or 1, on any regular grid over the waveform.
            Without masks all frames count. However many speakers there are, the trunk of the
            network runs once per waveform.

        Returns
        -------
        embeddings : float32 array, shape (batch, dimension) or (batch, num_speakers, dimension)
            The second form where masks of several speakers were given.
        """
        ...

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays on the way from waveform to output by name, in the order of computation."""
        ...


@runtime_checkable
class FeatureEmbedder(Protocol):
    """An embedding runtime that also takes features made outside, as WeSpeaker's programs feed them."""

    @property
    def fbank_dims(self) -> KaldiFbankDims | None:
        """Settings of the features; None where only waveforms are taken."""
        ...

    def embed_features(self, fbank: np.ndarray) -> np.ndarray:
        """Embeddings float32 (batch, dimension) of fbank (batch, num_frames, num_mels), not centred."""
        ...


def check_waveforms(waveforms: np.ndarray, min_num_samples: int) -> np.ndarray:
    """`waveforms` as contiguous float32, or an error that says what shape is meant."""
    waveforms = np.asarray(waveforms)
    if waveforms.ndim != 2 or waveforms.shape[0] < 1:
        raise InputError(
            f"waveforms must have shape (batch, num_samples), got {waveforms.shape}; "
            "for a single waveform pass waveform[None]"
        )
    if waveforms.shape[1] < min_num_samples:
        raise InputError(
            f"waveforms must have at least {min_num_samples} samples for this model, got {waveforms.shape[1]}"
        )
    return np.ascontiguousarray(waveforms, dtype=np.float32)


def check_masks(masks: np.ndarray | None, batch: int) -> np.ndarray:
    """Masks as float32 (batch, num_speakers, num_frames); all ones where there are none.

    An all-ones mask gives what the unmasked pooling gives, but for float rounding, and stays
    finite on a single frame.
    """
    if masks is None:
        return np.ones((batch, 1, 1), dtype=np.float32)
    masks = np.asarray(masks)
    if masks.ndim not in (2, 3) or masks.shape[0] != batch or 0 in masks.shape:
        raise InputError(
            f"masks must have shape ({batch}, num_frames) or ({batch}, num_speakers, num_frames) for "
            f"{batch} waveforms, got {masks.shape}"
        )
    several = masks if masks.ndim == 3 else masks[:, None]
    return np.ascontiguousarray(several, dtype=np.float32)


def like_masks(embeddings: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    """Embeddings (batch, num_speakers, dimension) in the form that the masks given ask for."""
    return embeddings if masks is not None and np.ndim(masks) == 3 else embeddings[:, 0]


def refuse_segment(name: object) -> NoReturn:
    """The error of an embedding model that is asked for a segmentation."""
    raise InputError(
        f"{name}: is a speaker embedding model and cannot segment; give a segmentation model, for "
        "example a DiariZen experiment directory"
    )


def refuse_embed(name: object) -> NoReturn:
    """The error of a segmentation model that is asked for embeddings."""
    raise InputError(
        f"{name}: is a segmentation model and gives no speaker embeddings; give an embedding model, for "
        "example pyannote/wespeaker-voxceleb-resnet34-LM"
    )
