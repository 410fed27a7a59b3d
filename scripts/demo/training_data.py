"""What the two networks see: 8 s chunks of conversations, and noisy copies of single voices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scripts.demo import acoustics
from scripts.demo.conversations import (
    ACTIVITY_STEP,
    Conversation,
    draw_cast,
    draw_conversation,
    draw_params,
)
from scripts.demo.voices import SAMPLE_RATE, Speaker
from workbench.models.fbank_conformer import FBankConformerDims, LogMelFilterbank
from workbench.models.kaldi_fbank import KaldiFbank

SEGMENTATION_DIMS = FBankConformerDims(
    attention_in=96, ffn_hidden=256, num_head=4, num_layer=4, hop_length=20, chunk_size=8, dropout=0.05
)
CHUNK = 8.0  # s
FRAME_STEP = SEGMENTATION_DIMS.hop_length / 1000  # s
NUM_FRAMES = 1 + round(CHUNK / FRAME_STEP)
NUM_SLOTS = SEGMENTATION_DIMS.max_speakers_per_chunk
_CHUNK_HOP = 4.0  # s, between the chunks taken from one recording
_RECORDING = 64.0  # s
_VOICE = 60.0  # s of a speaker in the voice bank at most
_FIFTH_SPEAKER = 0.5  # s of a fifth speaker after which a chunk is skipped


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Features and truth of segmentation chunks."""

    features: np.ndarray  # float16 (chunk, frame, mel), dB
    targets: np.ndarray  # uint8 (chunk, frame, slot), slots sorted by talk time

    def __len__(self) -> int:
        return len(self.features)


def frame_activity(activity: np.ndarray, start: float, num_frames: int) -> np.ndarray:
    """Activity at the middles of the pipeline's frames, (frame, speaker), from rows of 10 ms.

    The pipeline says that frame i is centred at 0.0125 s + i * step, half a window later than the transform
    that it comes from, and cuts segments there.
    """
    middle = start + 0.0125 + FRAME_STEP * np.arange(num_frames)
    index = np.minimum((middle / ACTIVITY_STEP).astype(int), activity.shape[1] - 1)
    return activity[:, index].T


def sort_slots(active: np.ndarray) -> np.ndarray | None:
    """The four speakers with most talk, (frame, 4), or None where a fifth one says too much."""
    talk = active.sum(axis=0)
    order = np.argsort(-talk, kind="stable")
    if len(order) > NUM_SLOTS and talk[order[NUM_SLOTS:]].sum() * FRAME_STEP > _FIFTH_SPEAKER:
        return None
    slots = np.zeros((len(active), NUM_SLOTS), dtype=np.uint8)
    kept = order[:NUM_SLOTS]
    slots[:, : len(kept)] = active[:, kept]
    return slots


def cut_chunks(conversation: Conversation) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Waveform and slots of the chunks of a recording."""
    duration = len(conversation.waveform) / SAMPLE_RATE
    for start in np.arange(0, duration - CHUNK + 0.01, _CHUNK_HOP):
        slots = sort_slots(frame_activity(conversation.activity, start, NUM_FRAMES))
        if slots is None:
            continue
        first = int(start * SAMPLE_RATE)
        yield conversation.waveform[first : first + int(CHUNK * SAMPLE_RATE)], slots


def make_chunks(rng: np.random.Generator, speakers: list[Speaker], num_recordings: int) -> Chunks:
    """Chunks of freshly drawn conversations."""
    filterbank = LogMelFilterbank(SEGMENTATION_DIMS)
    features, targets = [], []
    for _ in range(num_recordings):
        params = draw_params(rng, _RECORDING)
        cast = draw_cast(rng, speakers, params.num_speakers)
        chunks = list(cut_chunks(draw_conversation(rng, cast, params, speakers)))
        if chunks:
            waveforms, slots = zip(*chunks, strict=True)
            features.append(filterbank(torch.from_numpy(np.stack(waveforms))).numpy().astype(np.float16))
            targets.append(np.stack(slots))
    return Chunks(features=np.concatenate(features), targets=np.concatenate(targets))


def save_chunks(folder: Path, chunks: Chunks) -> None:
    """A folder with two arrays, complete as soon as it exists."""
    temporary = folder.with_name(folder.name + ".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    np.save(temporary / "features.npy", chunks.features)
    np.save(temporary / "targets.npy", chunks.targets)
    temporary.rename(folder)


def load_chunks(folder: Path) -> Chunks:
    """What `save_chunks` wrote; the features stay on disk until they are used."""
    return Chunks(
        features=np.load(folder / "features.npy", mmap_mode="r"), targets=np.load(folder / "targets.npy")
    )


@dataclass(frozen=True, kw_only=True)
class VoiceBank:
    """Log-mel features of single speakers, several acoustic copies of each, end to end."""

    fbank: np.ndarray  # float16 (frame, mel), not centred
    bounds: np.ndarray  # int64 (speaker, copy, 2): first and last frame + 1
    names: np.ndarray  # of the speakers
    bases: np.ndarray
    kinds: np.ndarray


def make_voice_bank(rng: np.random.Generator, speakers: list[Speaker], num_copies: int) -> VoiceBank:
    """The first copy of every speaker is clean, the others are reverberant and noisy."""
    filterbank = KaldiFbank()
    fbank, bounds, total = [], np.zeros((len(speakers), num_copies, 2), dtype=np.int64), 0
    for i, speaker in enumerate(speakers):
        voice = np.concatenate(speaker.pieces)[: int(_VOICE * SAMPLE_RATE)].astype(np.float32)
        for copy in range(num_copies):
            waveform = acoustics.scale_to(voice, rng.uniform(-35, -18))
            if copy:
                waveform = degrade(rng, waveform)
            frames = filterbank(torch.from_numpy(waveform)[None])[0].numpy().astype(np.float16)
            fbank.append(frames)
            bounds[i, copy] = total, total + len(frames)
            total += len(frames)
    columns = {key + "s": np.array([getattr(s, key) for s in speakers]) for key in ("name", "base", "kind")}
    return VoiceBank(fbank=np.concatenate(fbank), bounds=bounds, **columns)


def degrade(rng: np.random.Generator, waveform: np.ndarray) -> np.ndarray:
    """The waveform in a room, with noise, through a microphone; as long as before."""
    num_samples, level = len(waveform), np.sqrt(np.mean(waveform**2))
    if rng.random() < 0.7:
        response = acoustics.draw_impulse_response(rng, acoustics.draw_room(rng))
        waveform = acoustics.reverberate(waveform, response)[:num_samples]
    noise = acoustics.draw_coloured_noise(rng, num_samples)
    noisy = waveform + np.float32(level * acoustics.db_to_gain(-rng.uniform(3, 35))) * noise
    return acoustics.apply_channel(rng, noisy)


def save_voice_bank(folder: Path, bank: VoiceBank) -> None:
    """A folder with the frames and their table, complete as soon as it exists."""
    temporary = folder.with_name(folder.name + ".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    np.save(temporary / "fbank.npy", bank.fbank)
    np.savez(
        temporary / "table.npz", bounds=bank.bounds, names=bank.names, bases=bank.bases, kinds=bank.kinds
    )
    temporary.rename(folder)


def load_voice_bank(folder: Path) -> VoiceBank:
    """What `save_voice_bank` wrote."""
    with np.load(folder / "table.npz") as table:
        columns = {key: table[key] for key in table.files}
    return VoiceBank(fbank=np.load(folder / "fbank.npy", mmap_mode="r"), **columns)
