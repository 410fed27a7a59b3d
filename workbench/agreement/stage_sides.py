"""The named stages of a runtime, whichever engine or folder they come from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.audio import read_audio
from workbench.errors import InputError, RecordingError
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, cut_chunks

_PROBED_SECONDS = 1.0  # of audio, to learn how large stages are


class StageSide:
    """The stages of one runtime, by recording."""

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self.recorded = runtime if isinstance(runtime, RecordedRuntime) else None
        accepted = inspect.signature(runtime.stages).parameters
        self.chooses = "names" in accepted
        self.can_be_fed = "given" in accepted and self.recorded is None

    def stages(
        self,
        uri: str,
        chunks: np.ndarray | CutChunks,
        part: np.ndarray,
        names: Any,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Arrays by stage of the chunks of a recording with the numbers `part`."""
        if self.recorded is not None:
            found = {}
            for name in self.recorded.stage_names(uri):
                if name in names:
                    array = self.recorded.stage(uri, name)
                    if len(array) != len(chunks):
                        raise RecordingError(
                            f"{self.runtime}: {uri} has {len(array)} chunks in {name}, the other side "
                            f"{len(chunks)}; record it with the same chunk length and step"
                        )
                    found[name] = array[part]
            return found
        more: dict[str, Any] = {"names": names} if self.chooses else {}
        if given:
            more["given"] = given
        runtime: Any = self.runtime
        found = runtime.stages(chunks[part], **more)
        return {name: array for name, array in found.items() if name in names}

    def sizes(self, uri: str, chunks: np.ndarray | CutChunks) -> dict[str, int]:
        """Bytes of every stage of one chunk, in the order of computation."""
        if self.recorded is not None:
            names = self.recorded.stage_names(uri)
            arrays = {name: self.recorded.stage(uri, name) for name in names if name != "embeddings"}
            return {name: array[:1].nbytes for name, array in arrays.items() if array.ndim > 1}
        # a short piece shows every stage at little cost; sizes grow with length
        whole = chunks[np.array([0])]
        piece = whole[:, : max(self.runtime.min_num_samples, round(_PROBED_SECONDS * 16000))]
        factor = whole.shape[1] / piece.shape[1]
        return {name: round(factor * array.nbytes) for name, array in self.runtime.stages(piece).items()}


def match_foreign(
    sides: tuple[StageSide, StageSide], chunks: np.ndarray | CutChunks, memory_cap: int
) -> dict[str, str]:
    """Give names to the tensors of a graph that has none, if the other side has some."""
    for side, other in (sides, sides[::-1]):
        graph = getattr(side.runtime, "stage_graph", None)
        if graph is None or graph.doors or other.recorded is not None:
            continue
        from workbench.runtimes.onnx_matching import match_stages

        size = max(each.runtime.min_num_samples for each in sides) + round(_PROBED_SECONDS * 16000)
        piece = chunks[np.array([0])][:, :size]
        reference = other.runtime.stages(piece)
        graph.doors = match_stages(graph, reference, piece, memory_cap)
        return {stage: door.tensor for stage, door in graph.doors.items()}
    return {}


class CutChunks:
    """Chunks (num_chunks, num_samples) of a recording, cut when they are asked for: an hour has thousands."""

    def __init__(self, waveform: np.ndarray, chunking: Chunking):
        self.waveform, self.chunking = waveform, chunking

    def __len__(self) -> int:
        return self.chunking.num_chunks

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """The chunks with these numbers, float32 (len(numbers), num_samples)."""
        return cut_chunks(self.waveform, self.chunking.starts[numbers], self.chunking.window_samples)


def chunks_of(
    recording: Any, sides: tuple[StageSide, StageSide], segmentation_step: float = 1.0
) -> np.ndarray | CutChunks:
    """Chunks of a recording as the recorded side cut them; of two models, this part of a chunk apart."""
    waveform = read_audio(recording) if isinstance(recording, Path) else np.asarray(recording)
    if waveform.ndim == 2:
        return np.ascontiguousarray(waveform, dtype=np.float32)
    if waveform.ndim != 1:
        raise InputError(
            f"waveforms must have shape (num_samples,) or (num_chunks, num_samples), got {waveform.shape}"
        )
    lead = next((side for side in sides if side.recorded is not None), sides[0])
    geometry = lead.runtime.geometry
    if geometry is None or lead.runtime.kind == "embedding":
        return np.ascontiguousarray(waveform[None], dtype=np.float32)
    recorded_step = geometry.chunk_step / geometry.chunk_duration
    chunking = Chunking(
        num_samples=len(waveform),
        seg_duration=geometry.chunk_duration,
        segmentation_step=recorded_step if lead.recorded is not None else segmentation_step,
        sample_rate=geometry.sample_rate,
    )
    return CutChunks(waveform.astype(np.float32), chunking)
