"""What a run of the recipe is given, and where each stage leaves its product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much of everything is made; a quick run only shows that the recipe works."""

    num_sentences: int = 80  # per human voice
    num_espeak_sentences: int = 26
    num_readers: int | None = None  # None takes all
    num_shards: int = 32  # of training chunks
    num_recordings: int = 100  # per shard, 64 s each
    num_heldout_recordings: int = 60
    num_copies: int = 4  # acoustic copies of every speaker for the embedding
    segmentation_steps: int = 3000
    segmentation_batch: int = 16  # chunks
    embedding_steps: int = 1600
    embedding_batch: int = 64  # crops
    num_plda_recordings: int = 120
    num_evaluated: int | None = None  # recordings of each split and folder; None takes all
    num_epochs: int = 10  # checkpoints of the segmentation run


QUICK = Amounts(
    num_sentences=6,
    num_espeak_sentences=4,
    num_readers=12,
    num_shards=1,
    num_recordings=4,
    num_heldout_recordings=2,
    num_copies=2,
    segmentation_steps=6,
    segmentation_batch=4,
    embedding_steps=6,
    embedding_batch=8,
    num_plda_recordings=4,
    num_evaluated=1,
    num_epochs=3,
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the recipe."""

    readers: tuple[Path, ...]  # folders of single-speaker utterances
    work: Path
    out: Path  # the hub-layout folder
    corpus: Path
    seed: int = 0
    minutes: float | None = None  # wall clock for each training; None counts steps
    amounts: Amounts = Amounts()
    ami: Path | None = None  # excerpts to evaluate on
    verification: Path | None = None  # unseen readers to evaluate the embedding on

    def rng(self, *purpose: int) -> np.random.Generator:
        """A generator of its own for every purpose, so that skipping a stage changes no other."""
        return np.random.default_rng([self.seed, *purpose])

    @property
    def speakers(self) -> Path:
        return self.work / "speakers.npz"

    @property
    def shards(self) -> Path:
        return self.work / "chunks"

    @property
    def heldout_chunks(self) -> Path:
        return self.work / "heldout_chunks"

    @property
    def voice_bank(self) -> Path:
        return self.work / "voice_bank"

    @property
    def segmentation(self) -> Path:
        return self.work / "segmentation"

    @property
    def embedding(self) -> Path:
        return self.work / "embedding"

    @property
    def plda(self) -> Path:
        return self.work / "plda"


def pick_device() -> torch.device:
    """The first GPU, or the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
