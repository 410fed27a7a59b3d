"""Made-up meetings as a pipeline sees them: features with the structure of real ones, and their truth.

Turns follow each other with pauses and overlaps; every chunk sees them with its own small errors and
its own order of speakers; embeddings come from a PLDA model, noisier where less clean speech is behind
them. Examples, tests and benchmarks take them where no recording is at hand.
"""

from __future__ import annotations

import numpy as np
from pyannote.core import Annotation, Segment

from workbench.clustering import PLDA
from workbench.types import Features, SlidingWindow

CHUNK_DURATION, CHUNK_STEP = 16.0, 1.6  # s, as DiariZen's hub models
FRAMES = SlidingWindow(0.0, 0.025, 0.02)  # of WavLM
NUM_FRAMES = 799  # per chunk
NUM_LOCAL_SPEAKERS = 4


def make_plda(rng: np.random.Generator, dimension: int = 256, num_lda: int = 128) -> PLDA:
    """A PLDA model with between-speaker variances that fall as those of trained models do."""
    lda, _ = np.linalg.qr(rng.standard_normal((dimension, num_lda)))
    tr, _ = np.linalg.qr(rng.standard_normal((num_lda, num_lda)))
    return PLDA(
        mean1=0.05 * rng.standard_normal(dimension) / np.sqrt(dimension),
        mean2=0.1 * rng.standard_normal(num_lda) / np.sqrt(num_lda),
        lda=lda,
        mu=0.05 * rng.standard_normal(num_lda),
        tr=tr,
        psi=np.geomspace(8.0, 0.15, num_lda),  # their sum is about that of trained models
    )


def make_meeting(
    rng: np.random.Generator,
    plda: PLDA | None = None,
    *,
    seconds: float = 3600.0,
    num_speakers: int = 6,
    overlap: float = 0.12,
    noise: float = 1.5,
    uri: str = "meeting",
) -> tuple[Features, Annotation]:
    """Features of a made-up meeting, and who really spoke when.

    Parameters
    ----------
    rng : source of everything random
    plda : model that the embeddings fit; by default `make_plda` of the same `rng`
    seconds : duration; an hour has about 2,240 chunks
    num_speakers : people in the meeting, some of whom say little
    overlap : fraction of turns that begin before the one before has ended
    noise : of the embeddings, as a multiple of the within-speaker covariance of the model

    Returns
    -------
    features : Features
    reference : Annotation
    """
    plda = make_plda(rng) if plda is None else plda
    turns = _turns(rng, seconds, num_speakers, overlap)
    reference = Annotation(uri=uri)
    for track, (start, end, speaker) in enumerate(turns):
        reference[Segment(start, end), track] = f"speaker{int(speaker) + 1}"

    num_chunks = max(1, int(np.ceil((seconds - CHUNK_DURATION) / CHUNK_STEP)) + 1)
    activity = _activity(turns, num_chunks, num_speakers)
    voices = rng.standard_normal((num_speakers, plda.num_lda)) * np.sqrt(plda.psi)
    segmentations = np.zeros((num_chunks, NUM_FRAMES, NUM_LOCAL_SPEAKERS), dtype=np.float32)
    who = np.full((num_chunks, NUM_LOCAL_SPEAKERS), -1)
    for chunk in range(num_chunks):
        first = round(chunk * CHUNK_STEP / FRAMES.step)
        seen = _jitter(rng, activity[first : first + NUM_FRAMES])
        heard = np.argsort(-seen.sum(axis=0), kind="stable")[:NUM_LOCAL_SPEAKERS]
        heard = rng.permutation(heard[seen[:, heard].any(axis=0)])
        slots = np.sort(rng.permutation(NUM_LOCAL_SPEAKERS)[: len(heard)])
        segmentations[chunk][:, slots] = seen[:, heard]
        who[chunk, slots] = heard
    embeddings = _embeddings(rng, plda, voices, segmentations, who, noise)
    features = Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=embeddings,
        chunks=SlidingWindow(0.0, CHUNK_DURATION, CHUNK_STEP),
        frames=FRAMES,
    )
    return features, reference


def _turns(rng: np.random.Generator, seconds: float, num_speakers: int, overlap: float) -> np.ndarray:
    """Rows (start, end, speaker), ordered by start."""
    talkative = rng.dirichlet(np.full(num_speakers, 2.0))
    turns, time, speaker = [], rng.uniform(0.2, 2.0), int(rng.integers(num_speakers))
    while time < seconds - 1:
        others = np.where(np.arange(num_speakers) == speaker, 0.0, talkative + 1e-3)
        if num_speakers > 1 and rng.random() < 0.8:
            speaker = int(rng.choice(num_speakers, p=others / others.sum()))
        length = float(np.clip(rng.lognormal(0.9, 0.9), 0.3, 30.0))
        end = min(time + length, seconds - 0.5)
        turns.append((time, end, speaker))
        if rng.random() < overlap:
            time = max(time + 0.1, end - rng.uniform(0.2, 1.5))
        else:
            time = end + rng.exponential(0.5)
    return np.array(turns)


def _activity(turns: np.ndarray, num_chunks: int, num_speakers: int) -> np.ndarray:
    """Who speaks in every frame: bool array (num_frames, num_speakers), long enough for the last chunk."""
    num_frames = round((num_chunks - 1) * CHUNK_STEP / FRAMES.step) + NUM_FRAMES
    active = np.zeros((num_frames, num_speakers), dtype=bool)
    for start, end, speaker in turns:
        active[int(FRAMES.closest(start)) : max(0, int(FRAMES.closest(end))), int(speaker)] = True
    return active


def _jitter(rng: np.random.Generator, seen: np.ndarray) -> np.ndarray:
    """The activity with boundaries off by some frames and a few turns overheard."""
    noisy = np.zeros((NUM_FRAMES, seen.shape[1]), dtype=bool)
    edges = np.diff(seen.astype(np.int8), axis=0, prepend=0, append=0)
    for speaker in range(seen.shape[1]):
        starts, ends = np.flatnonzero(edges[:, speaker] == 1), np.flatnonzero(edges[:, speaker] == -1)
        for start, end in zip(starts, ends, strict=True):
            if end - start < 30 and rng.random() < 0.25:
                continue
            shift = np.rint(rng.normal(0, 3, 2)).astype(int)
            start = start + shift[0] if start > 0 else start
            end = end + shift[1] if end < len(seen) else end
            noisy[max(start, 0) : max(end, 0), speaker] = True
    return noisy


def _embeddings(
    rng: np.random.Generator,
    plda: PLDA,
    voices: np.ndarray,
    segmentations: np.ndarray,
    who: np.ndarray,
    noise: float,
) -> np.ndarray:
    """One embedding per chunk and local speaker; those who say nothing share the network's answer to that."""
    num_chunks, num_frames, num_slots = segmentations.shape
    alone = (segmentations.sum(axis=2, keepdims=True) == 1) & (segmentations > 0)
    clean = alone.sum(axis=1) / num_frames  # (chunk, slot)
    # Chunks overlap, so what is peculiar about a stretch of speech is heard in several of them.
    drift = np.empty((len(voices), num_chunks, voices.shape[1]))
    state = rng.standard_normal((len(voices), voices.shape[1]))
    for chunk in range(num_chunks):
        state = 0.9 * state + np.sqrt(1 - 0.9**2) * rng.standard_normal(state.shape)
        drift[:, chunk] = state
    own = rng.standard_normal((num_chunks, num_slots, voices.shape[1]))
    speaker = np.maximum(who, 0)
    points = voices[speaker] + np.sqrt(0.35 * noise) * drift[speaker, np.arange(num_chunks)[:, None]]
    points += np.sqrt(noise * (0.05 + 0.02 / np.maximum(clean, 0.02)))[:, :, None] * own
    # speech of a local speaker in overlap carries some of the others' voice
    mixed = np.where(clean < 0.1, 0.4, 0.05)[:, :, None]
    points = (1 - mixed) * points + mixed * np.roll(points, 1, axis=1)
    whitened = points @ np.linalg.pinv(plda.tr).T + plda.mu
    length = np.linalg.norm(whitened, axis=-1, keepdims=True)
    embeddings = (whitened / length + plda.mean2) @ plda.lda.T + plda.mean1
    embeddings += 0.1 * rng.standard_normal(embeddings.shape) / np.sqrt(plda.dimension)
    embeddings[~segmentations.any(axis=1)] = rng.standard_normal(plda.dimension) / np.sqrt(plda.dimension)
    return embeddings.astype(np.float32)
