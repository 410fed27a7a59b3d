"""Several stretches of a recording as one clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from workbench.audio import crop_audio
from workbench.explorers.playback import CLIP_LIMIT, SAMPLE_RATE, wav_bytes

PAUSE = 0.25  # s of silence between two stretches: the ear hears that something was left out
NOWHERE = -1e6  # s, start of a clip that lies in no single place of the recording


def cut_clips(
    path: Path, stretches: Iterable[tuple[float, float]], limit: float = CLIP_LIMIT
) -> tuple[bytes, int, float]:
    """Stretches (start, end in s) one after the other, as WAV.

    Returns
    -------
    wav : bytes
    num_stretches : how many are heard, the last perhaps in part
    duration : s of speech heard, at most `limit`
    """
    return join_clips(((path, start, end) for start, end in stretches), limit)


def join_clips(
    stretches: Iterable[tuple[Path, float, float]], limit: float = CLIP_LIMIT
) -> tuple[bytes, int, float]:
    """As `cut_clips`, from several recordings: stretches are path, start and end (s)."""
    silence = np.zeros(round(PAUSE * SAMPLE_RATE), dtype=np.float32)
    pieces: list[np.ndarray] = []
    heard, number = 0.0, 0
    for path, start, end in stretches:
        if heard >= limit:
            break
        piece = crop_audio(path, start, min(end, start + limit - heard))
        pieces += [piece, silence]
        heard += len(piece) / SAMPLE_RATE
        number += 1
    return wav_bytes(np.concatenate(pieces or [silence])), number, heard
