"""Runtimes that compute next to nothing, for tests of what surrounds a model."""

from __future__ import annotations

import numpy as np

from workbench.types import Geometry

POWERSET = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))


class FakeSegmentation:
    """100 frames per chunk; speaker 0 talks where the frame's mean level is high, nobody else."""

    kind = "segmentation"
    min_num_samples = 400
    geometry = Geometry(
        sample_rate=16000,
        chunk_duration=2.0,
        chunk_step=0.2,
        frame_start=0.0,
        frame_duration=0.025,
        frame_step=0.02,
        powerset=POWERSET,
    )

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        self.seen.append(waveforms)
        level = (
            np.abs(waveforms[:, : waveforms.shape[1] // 100 * 100])
            .reshape(len(waveforms), 100, -1)
            .mean(axis=2)
        )
        log_probs = np.full((*level.shape, len(POWERSET)), -10.0, dtype=np.float32)
        log_probs[..., 0] = np.log(0.1)
        log_probs[..., 1] = np.log(np.maximum(level, 1e-9))
        return log_probs

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        raise AssertionError("a segmentation model was asked for embeddings")

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        return {"log_probs": self.segment(waveforms)}


class FakeEmbedding:
    """Embeds a mask as (number of frames, first sample of the chunk)."""

    kind = "embedding"
    geometry = None

    def __init__(self, min_num_samples: int = 400) -> None:
        self.min_num_samples = min_num_samples
        self.calls: list[tuple[np.ndarray, np.ndarray]] = []

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        raise AssertionError("an embedding model was asked for a segmentation")

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        assert masks is not None
        self.calls.append((waveforms, masks))
        first = np.broadcast_to(waveforms[:, None, :1], (*masks.shape[:2], 1))
        return np.concatenate([masks.sum(axis=2, keepdims=True), first], axis=2)

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        return {}
