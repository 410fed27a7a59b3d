"""Real voices: any folder of single-speaker utterances, named as LibriSpeech names them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from scripts.demo.voices import SAMPLE_RATE, frame_energy_db, read_piece, trim

AUDIO_SUFFIXES = {".flac", ".wav", ".ogg"}
HELDOUT_EVERY = 10  # of ten readers one chooses checkpoints
_MIN_PIECE = 0.4  # s


def find_utterances(folder: Path) -> dict[str, list[Path]]:
    """Files of every reader: the reader is the file name up to the first hyphen."""
    utterances = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix in AUDIO_SUFFIXES:
            utterances[path.stem.split("-")[0]].append(path)
    return dict(utterances)


def read_reader(paths: list[Path], rng: np.random.Generator) -> list[np.ndarray]:
    """A reader's utterances, each cut into two to six pieces."""
    return [piece for path in paths for piece in cut(read_piece(path), rng)]


def cut(utterance: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Two to six pieces of an utterance, cut where it is quiet.

    Every cut is the quietest 10 ms in the neighbourhood of a random point, so that a reader without pauses
    still gives several turns. Pieces shorter than 0.4 s are dropped.
    """
    if len(utterance) < 2 * _MIN_PIECE * SAMPLE_RATE:
        return [utterance]
    step = SAMPLE_RATE // 100
    energy = np.convolve(frame_energy_db(utterance.astype(np.float32), step), np.ones(5) / 5, mode="same")
    num_pieces = int(rng.integers(2, 7))
    # Random widths make a few short pieces (back-channels) and a few long ones (turns).
    targets = np.cumsum(rng.dirichlet(np.full(num_pieces, 2.0)))[:-1] * len(energy)
    cuts = [0]
    for target in targets:
        first, last = int(max(0, target - 60)), int(min(len(energy), target + 60))
        cuts.append(step * (first + int(np.argmin(energy[first:last]))))
    cuts = [*sorted(cuts), len(utterance)]
    pieces = [trim(utterance[a:b]) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]
    return [piece for piece in pieces if len(piece) >= _MIN_PIECE * SAMPLE_RATE]
