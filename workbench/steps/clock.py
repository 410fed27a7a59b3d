"""When the elements of a step's array lie in the recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.steps.names import Step
from workbench.types import Geometry

SAMPLE_RATE = 16000  # Hz
FEATURE_STEP = 0.01  # s, of Kaldi's features


@dataclass(frozen=True, kw_only=True, eq=False)
class Clock:
    """Time of every index.

    Attributes
    ----------
    geometry : of either side; None where neither says
    embedding_chunks : int array, chunk of every filtered embedding; None where it is not known
    """

    geometry: Geometry | None
    embedding_chunks: np.ndarray | None = None

    def spans(self, step: Step, indices: np.ndarray) -> np.ndarray:
        """Start and end (s) of elements, float64 (num_elements, 2); NaN where nobody knows.

        Parameters
        ----------
        indices : int array, shape (num_elements, num_axes)
        """
        found = np.full((len(indices), 2), np.nan)
        axes = {name: indices[:, place] for place, name in enumerate(step.axes[: indices.shape[1]])}
        if "sample" in axes:
            rate = self.geometry.sample_rate if self.geometry else SAMPLE_RATE
            return np.stack([axes["sample"] / rate, (axes["sample"] + 1) / rate], axis=1)
        chunk = axes.get("chunk")
        if "embedding" in axes and self.embedding_chunks is not None:
            known = axes["embedding"] < len(self.embedding_chunks)
            chunk = np.where(known, self.embedding_chunks[np.where(known, axes["embedding"], 0)], -1)
        if self.geometry is None:
            return found
        if "time_frame" in axes:
            start = axes["time_frame"] * self.geometry.frame_step
            return np.stack([start, start + self.geometry.frame_step], axis=1)
        if chunk is None:
            return found
        start = np.where(chunk >= 0, chunk * self.geometry.chunk_step, np.nan)
        for name, width in (("frame", self.geometry.frame_step), ("feature_frame", FEATURE_STEP)):
            if name in axes:
                start = start + axes[name] * width
                return np.stack([start, start + width], axis=1)
        return np.stack([start, start + self.geometry.chunk_duration], axis=1)


def chunks_of_embeddings(filtered: np.ndarray, embeddings: np.ndarray) -> np.ndarray | None:
    """Chunk of every filtered embedding, found by its values; None where one is not among the embeddings.

    Parameters
    ----------
    filtered : float array, shape (num_embeddings, dimension)
    embeddings : float array, shape (num_chunks, num_local_speakers, dimension)
    """
    if embeddings.ndim != 3 or filtered.ndim != 2 or filtered.dtype != embeddings.dtype:
        return None
    place: dict[bytes, int] = {}
    for chunk, rows in enumerate(np.ascontiguousarray(embeddings)):
        for row in rows:
            place.setdefault(row.tobytes(), chunk)
    found = [place.get(row.tobytes(), -1) for row in np.ascontiguousarray(filtered)]
    return None if -1 in found else np.array(found, dtype=np.int64)
