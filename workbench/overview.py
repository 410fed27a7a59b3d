"""What a screen shows of one recording: loudness, local speakers and a map of their embeddings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyannote.core import Annotation

from workbench.scoring import DiarizationCounts
from workbench.types import INACTIVE, Features, SlidingWindow

MAP_POINTS = 2500  # more cannot be told apart on a screen, and slow every redraw


@dataclass(frozen=True, kw_only=True, eq=False)
class Envelope:
    """Lowest and highest sample of every few milliseconds: a waveform of any length, ready to be drawn.

    Attributes
    ----------
    low, high : float32 arrays, shape (num_steps,)
    step : s
    """

    low: np.ndarray
    high: np.ndarray
    step: float

    @classmethod
    def of(cls, waveform: np.ndarray, sample_rate: int = 16000, step: float = 0.002) -> Envelope:
        """Envelope of `waveform`, float array of shape (num_samples,)."""
        samples = round(step * sample_rate)
        starts = np.arange(0, len(waveform), samples)
        if not len(starts):
            return cls(low=np.zeros(0, np.float32), high=np.zeros(0, np.float32), step=step)
        low, high = np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)
        return cls(low=low.astype(np.float32), high=high.astype(np.float32), step=samples / sample_rate)

    @property
    def peak(self) -> float:
        """Largest absolute sample; 1 for silence, so that it can be divided by."""
        return max(float(self.high.max(initial=0)), -float(self.low.min(initial=0))) or 1.0

    def between(
        self, start: float, end: float, num_columns: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Time (s), low and high of at most `num_columns` columns between `start` and `end` (s)."""
        first = max(int(start / self.step), 0)
        last = min(int(np.ceil(end / self.step)), len(self.low))
        if last <= first:
            empty = np.zeros(0)
            return empty, empty, empty
        starts = np.unique(np.linspace(first, last, num_columns, endpoint=False).astype(np.int64))
        low = np.minimum.reduceat(self.low[:last], starts)
        high = np.maximum.reduceat(self.high[:last], starts)
        return (starts + 0.5) * self.step, low, high


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalSpeakers:
    """What the segmentation model says, each moment taken from the chunk that has it nearest its middle.

    Attributes
    ----------
    posteriors : float32 array, shape (num_frames, num_local_speakers), 0 to 1
    chunk : int array, shape (num_frames,)
        The chunk a frame was taken from: local speaker 0 of one chunk need not be that of the next.
    frames : time axis of both
    """

    posteriors: np.ndarray
    chunk: np.ndarray
    frames: SlidingWindow

    @classmethod
    def of(
        cls, posteriors: np.ndarray, chunks: SlidingWindow, frames: SlidingWindow, duration: float
    ) -> LocalSpeakers:
        """From posteriors (num_chunks, num_frames, num_local_speakers) of a recording of `duration` (s)."""
        num_chunks, per_chunk, num_speakers = posteriors.shape
        num_frames = max(int(np.ceil(duration / frames.step)), 1)
        first = np.rint(chunks.start_of(np.arange(num_chunks)) / frames.step).astype(
            np.int64
        )  # of every chunk
        index = np.arange(num_frames)
        nearest = np.rint((index - per_chunk / 2) * frames.step / chunks.step).astype(np.int64)
        chunk = np.clip(nearest, 0, num_chunks - 1)
        inside = np.clip(index - first[chunk], 0, per_chunk - 1)
        return cls(posteriors=posteriors[chunk, inside].astype(np.float32), chunk=chunk, frames=frames)

    @classmethod
    def none(cls, num_speakers: int = 4) -> LocalSpeakers:
        """Before the segmentation has run."""
        posteriors = np.zeros((1, num_speakers), dtype=np.float32)
        return cls(
            posteriors=posteriors, chunk=np.zeros(1, dtype=np.int64), frames=SlidingWindow(0.0, 0.02, 0.02)
        )

    @property
    def num_speakers(self) -> int:
        """Local speakers per chunk."""
        return self.posteriors.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """What does not change while clustering is tuned."""

    uri: str
    duration: float
    envelope: Envelope
    local_speakers: LocalSpeakers
    reference: pd.DataFrame | None  # turns, as `timeline.find_turns` returns them


@dataclass(frozen=True, kw_only=True, eq=False)
class Diarization:
    """What does: one hypothesis, its score and the clusters behind it."""

    hypothesis: pd.DataFrame  # turns
    hard_clusters: np.ndarray  # (num_chunks, num_local_speakers), `INACTIVE` where none
    local_map: pd.DataFrame  # as `map_local_speakers` returns it, with a column `cluster`
    matching: Mapping[Hashable, Hashable]  # hypothesis -> reference speaker
    errors: pd.DataFrame | None  # as `timeline.find_errors` returns them
    by_speaker: pd.DataFrame | None  # as `timeline.speaker_errors` returns them
    counts: DiarizationCounts | None

    @classmethod
    def none(cls, num_local_speakers: int = 4) -> Diarization:
        """Before anything has been clustered."""
        names = pd.Series([], dtype=object)
        numbers = ("chunk", "local_speaker", "start", "end", "x", "y", "cluster")
        return cls(
            hypothesis=pd.DataFrame({"start": [], "end": [], "speaker": names}),
            hard_clusters=np.full((1, num_local_speakers), INACTIVE),
            local_map=pd.DataFrame({name: np.zeros(0) for name in numbers} | {"reference_speaker": names}),
            matching={},
            errors=None,
            by_speaker=None,
            counts=None,
        )

    @property
    def num_speakers(self) -> int:
        """Speakers in the hypothesis."""
        return int(self.hypothesis["speaker"].nunique())


def map_local_speakers(
    features: Features, points: np.ndarray, mask: np.ndarray, reference: Annotation | None = None
) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Local speakers on a plane: the first two principal components of their embeddings.

    Parameters
    ----------
    features : of the recording
    points : float array, shape (num_points, dimension)
        Embeddings, or what the clustering makes of them, chunk by chunk.
    mask : bool array, shape (num_chunks, num_local_speakers)
        Where the points come from.
    reference : Annotation, optional

    Returns
    -------
    table : DataFrame
        chunk, local_speaker, start and end of the chunk (s), x, y, reference_speaker (who talks most
        while the local speaker does, None without a reference). At most `MAP_POINTS` rows.
    shares : share of the variance that x and y show
    """
    chunk, local_speaker = np.nonzero(mask)
    kept = (
        np.linspace(0, len(chunk) - 1, MAP_POINTS).astype(np.int64)
        if len(chunk) > MAP_POINTS
        else slice(None)
    )
    chunk, local_speaker = chunk[kept], local_speaker[kept]
    plane, shares = principal_plane(points[kept])
    start = features.chunks.start_of(chunk)
    table = pd.DataFrame(
        {
            "chunk": chunk,
            "local_speaker": local_speaker,
            "start": start,
            "end": start + features.chunks.duration,
            "x": plane[:, 0],
            "y": plane[:, 1],
            "reference_speaker": pd.Series([None] * len(chunk), dtype=object),
        }
    )
    if reference is not None and len(reference.labels()):
        talking = talking_most(features, reference, chunk, local_speaker)
        table["reference_speaker"] = pd.Series(talking, dtype=object)  # keeps None as it is
    return table, shares


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Projection (num_points, 2) onto the two directions of most variance, and the share of each.

    Directions are signed so that the largest deviation points right and up: the same picture
    whatever the linear algebra library.
    """
    if len(points) == 0:
        return np.zeros((0, 2)), (0.0, 0.0)
    centred = points - points.mean(axis=0)
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    found = centred @ directions[:2].T
    largest = found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])]
    plane[:, : found.shape[1]] = found * np.where(largest < 0, -1, 1)
    variance = scales**2 / max((scales**2).sum(), np.finfo(float).tiny)
    first, second = [*variance[:2], 0.0, 0.0][:2]
    return plane, (float(first), float(second))


def talking_most(
    features: Features, reference: Annotation, chunks: np.ndarray, local_speakers: np.ndarray
) -> list[Hashable | None]:
    """Reference speaker with most time in common with each of the local speakers; None if none has any."""
    if not len(chunks):
        return []
    labels = sorted(reference.labels(), key=str)
    per_chunk, step = features.segmentations.shape[1], features.frames.step
    first = np.rint(features.chunks.start_of(np.arange(len(features.segmentations))) / step).astype(np.int64)
    active = np.zeros((first[-1] + per_chunk, len(labels)), dtype=np.float32)
    for segment, _, label in reference.itertracks(yield_label=True):
        active[max(round(segment.start / step), 0) : round(segment.end / step), labels.index(label)] = 1
    common = np.stack([features.segmentations[c].T @ active[first[c] : first[c] + per_chunk] for c in chunks])
    own = common[np.arange(len(chunks)), local_speakers]  # (point, reference speaker)
    return [
        labels[best] if most > 0 else None
        for best, most in zip(own.argmax(axis=1), own.max(axis=1), strict=True)
    ]
