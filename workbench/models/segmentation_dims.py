"""What all segmentation networks have in common: speakers, powerset classes, chunks."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb


@dataclass(frozen=True, kw_only=True)
class SegmentationDims:
    """The part of `[model.args]` that does not depend on the architecture."""

    sample_rate: int = 16000  # Hz
    max_speakers_per_chunk: int = 4  # local speakers
    max_speakers_per_frame: int = 2  # largest set with a class of its own
    chunk_size: float = 5  # s, the chunk it was trained on
    selected_channel: int = 0  # the only channel that is used

    @property
    def num_classes(self) -> int:
        """Sets of at most `max_speakers_per_frame` out of `max_speakers_per_chunk` speakers."""
        return sum(comb(self.max_speakers_per_chunk, size) for size in range(self.max_speakers_per_frame + 1))
