"""A small network made of numpy, and runtimes that do one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from workbench.powerset import powerset_classes
from workbench.types import Geometry

POWERSET = powerset_classes(3, 2)
FRAME = 320  # samples
BANDS = 8


def speech(seed: int = 0, seconds: float = 12.0) -> np.ndarray:
    """Noise whose colour and loudness change several times a second."""
    rng = np.random.default_rng(seed)
    num_samples = int(seconds * 16000)
    time = np.arange(num_samples) / 16000
    signal = np.zeros(num_samples)
    for band in range(BANDS):
        rate = 0.7 + 0.45 * band
        level = np.clip(np.sin(2 * np.pi * rate * time + rng.uniform(0, 6.3)), 0, None)
        signal += level * np.sin(2 * np.pi * (band + 1) * 50.0 * 8 * time + rng.uniform(0, 6.3))
    return (0.1 * signal + 1e-3 * rng.standard_normal(num_samples)).astype(np.float32)


class Network:
    """Energies of eight bands per frame, a recurrent smoothing, and a projection to seven classes."""

    kind = "segmentation"
    min_num_samples = 800
    name = "network"

    def __init__(self, chunk_duration: float = 2.0, gain: float = 6.0):
        rng = np.random.default_rng(7)
        self.hidden = rng.standard_normal((BANDS, 12)).astype(np.float32)
        self.out = rng.standard_normal((12, len(POWERSET))).astype(np.float32) * np.float32(gain / 10)
        self.geometry = Geometry(
            sample_rate=16000,
            chunk_duration=chunk_duration,
            chunk_step=0.2 * chunk_duration,
            frame_start=0.0,
            frame_duration=0.02,
            frame_step=0.02,
            powerset=POWERSET,
        )

    def __str__(self) -> str:
        return self.name

    def fbank(self, waveforms: np.ndarray) -> np.ndarray:
        num_frames = waveforms.shape[1] // FRAME
        frames = waveforms[:, : num_frames * FRAME].reshape(len(waveforms), num_frames, FRAME)
        spectrum = np.abs(np.fft.rfft(frames, axis=-1))[..., 1 : 8 * BANDS + 1]
        energy = np.square(spectrum.reshape(len(waveforms), num_frames, BANDS, 8)).sum(axis=-1)
        return np.log(energy + 1e-6).astype(np.float32)

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        fbank = self.fbank(np.asarray(waveforms, dtype=np.float32))
        hidden = np.tanh(0.3 * np.einsum("cfb,bh->cfh", fbank, self.hidden))
        logits = np.einsum("cfh,hk->cfk", hidden, self.out)
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return {"fbank": fbank, "hidden": hidden, "logits": logits, "log_probs": log_probs}

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        return self.stages(waveforms)["log_probs"]

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        raise AssertionError("a segmentation model was asked for embeddings")


class Faulty(Network):
    """The network with something done to what goes in or comes out."""

    name = "faulty"

    def __init__(
        self,
        after: Callable[[np.ndarray], np.ndarray] = lambda log_probs: log_probs,
        before: Callable[[np.ndarray], np.ndarray] = lambda waveforms: waveforms,
    ):
        super().__init__()
        self.after, self.before = after, before

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        found = super().stages(self.before(np.asarray(waveforms)))
        return found | {"log_probs": self.after(found["log_probs"])}


class Forgetless(Network):
    """Adds a trace of the chunk before to every answer."""

    name = "forgetless"

    def __init__(self) -> None:
        super().__init__()
        self.before = 0.0

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        log_probs = super().segment(waveforms) + np.float32(self.before) * np.sin(
            np.arange(len(POWERSET), dtype=np.float32)
        )
        self.before = float(np.abs(waveforms[:, : waveforms.shape[1] // 2]).mean()) * 5
        return log_probs.astype(np.float32)


class Embedder:
    """Band energies of the whole waveform as an embedding."""

    kind = "embedding"
    geometry = None
    min_num_samples = 800

    def __init__(self, error: float = 0.0, name: str = "embedder"):
        self.error, self.name, self.network = error, name, Network()

    def __str__(self) -> str:
        return self.name

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        raise AssertionError("an embedding model was asked for a segmentation")

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        return self.stages(waveforms)["embedding"]

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        fbank = self.network.fbank(np.asarray(waveforms, dtype=np.float32))
        embedding = fbank.mean(axis=1)
        return {
            "fbank": fbank,
            "embedding": embedding + np.float32(self.error) * np.roll(embedding, 1, axis=1),
        }


@contextmanager
def rewritten(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of an .npz, written back after they were changed."""
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    yield arrays
    np.savez(path, **arrays)
