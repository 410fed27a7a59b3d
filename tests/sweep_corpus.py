"""A few small recordings with references, and one that kills, for tests of sweeps."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation, Segment

from workbench.features import save_features
from workbench.rttm import write_rttm
from workbench.types import Features, SlidingWindow

NUM_CHUNKS, NUM_FRAMES, CHUNK_STEP, FRAME_STEP = 12, 100, 1.0, 0.02


def make_features(uri: str, seed: int = 0, num_voices: int = 3, noise: float = 0.35) -> Features:
    """Three voices that take turns; two local speakers per chunk of two seconds."""
    rng = np.random.default_rng(seed)
    segmentations = np.zeros((NUM_CHUNKS, NUM_FRAMES, 2), dtype=np.float32)
    segmentations[:, :60, 0] = segmentations[:, 40:, 1] = 1
    voices = np.eye(max(num_voices, 2), 8)
    chosen = rng.integers(num_voices, size=(NUM_CHUNKS, 2))
    embeddings = voices[chosen] + noise * rng.standard_normal((NUM_CHUNKS, 2, 8)) / np.sqrt(8)
    return Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=embeddings.astype(np.float32),
        chunks=SlidingWindow(0.0, 2.0, CHUNK_STEP),
        frames=SlidingWindow(0.0, 0.025, FRAME_STEP),
    )


def make_reference(uri: str, seed: int = 0, num_voices: int = 3) -> Annotation:
    """Who talks in `make_features`, roughly."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(num_voices, size=(NUM_CHUNKS, 2))
    reference = Annotation(uri=uri)
    for chunk in range(NUM_CHUNKS):
        for slot in range(2):
            start = chunk * CHUNK_STEP + 0.8 * slot + 0.01 * seed  # no two references alike
            reference[Segment(start, start + 0.9), f"{chunk}-{slot}"] = f"voice{chosen[chunk, slot]}"
    return reference


def write_corpus(folder: Path, uris: tuple[str, ...] = ("a", "b", "c")) -> tuple[Path, Path]:
    """A folder of features files and one RTTM file for all of them."""
    lines = []
    for seed, uri in enumerate(uris):
        save_features(folder / "features" / f"{uri}.npz", make_features(uri, seed))
        write_rttm(folder / "one.rttm", make_reference(uri, seed))
        lines.append((folder / "one.rttm").read_text())
    (folder / "one.rttm").unlink()
    (folder / "ref.rttm").write_text("".join(lines))
    return folder / "features", folder / "ref.rttm"


class Bomb(Features):
    """Features that take the process down which unpickles them, as the kernel does where memory ends."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, (Path(os.environ["WORKBENCH_TEST_MARK"]), dict(vars(self)))


def explode(mark: Path, values: dict[str, Any]) -> Features:
    """Die, unless the file `mark` says that enough have died."""
    if mark.exists():
        return Features(**values)
    if os.environ.get("WORKBENCH_TEST_DEATHS") == "one":
        mark.touch()
    time.sleep(0.3)  # the other worker is in the middle of something by then
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def own_process(_inputs: object) -> int:
    """Number of the process that runs this."""
    return os.getpid()
