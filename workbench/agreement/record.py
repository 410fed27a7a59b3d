"""Recording what a runtime puts out, so that it can be compared where the runtime cannot run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.agreement.embedding_parity import CHUNK_DURATION
from workbench.agreement.sides import SAMPLE_RATE, batches, waveform_digest
from workbench.embedding import embed_recording
from workbench.errors import InputError, RecordingError, nearest
from workbench.files import file_digest
from workbench.recording_folder import RecordingFolder, StageWriter
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, cut_chunks, segment_recording, segmentation_geometry
from workbench.types import Geometry

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class RecordParams:
    """What is recorded, and over which chunks."""

    stages: tuple[str, ...] = ()  # names of stages, or `all`; empty: the output alone
    segmentation_step: float | None = None  # fraction of a chunk; None: the pipeline's
    batch_size: int = 32  # chunks per call of the model


class Recorder:
    """Runs one runtime over recordings and fills a recorded folder.

    Parameters
    ----------
    runtime : what is recorded
    folder : where to
    params : what is recorded
    segmentation : for embedding models: gives the local speakers of every chunk; without one every chunk
        is embedded as a whole
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: Path,
        params: RecordParams | None = None,
        segmentation: Runtime | None = None,
    ):
        if isinstance(runtime, RecordedRuntime):
            raise InputError(f"{runtime}: is recorded already; give a runtime that can be run")
        self.runtime, self.params = runtime, params or RecordParams()
        self.segmentation = segmentation
        self.output = "log_probs" if runtime.kind == "segmentation" else "embeddings"
        self.stages = self.params.stages or (self.output,)
        if runtime.kind == "segmentation":
            geometry = segmentation_geometry(runtime)
            step = self.params.segmentation_step
            step = geometry.chunk_step / geometry.chunk_duration if step is None else step
        elif segmentation is not None:
            geometry, step = segmentation_geometry(segmentation), self.params.segmentation_step or 0.1
        else:
            geometry = _whole_chunks()
            step = self.params.segmentation_step or 1.0
        if geometry.sample_rate != SAMPLE_RATE:
            raise InputError(
                f"{runtime}: expects {geometry.sample_rate} Hz; only {SAMPLE_RATE} Hz can be recorded"
            )
        self.step = step
        self.geometry = replace(geometry, chunk_step=step * geometry.chunk_duration)
        self.folder = RecordingFolder(folder, self.geometry, str(runtime), self.stages, model_digest(runtime))

    def record(
        self, uri: str, waveform: np.ndarray, on_batch: Callable[[int, int], None] | None = None
    ) -> str | None:
        """Record one recording.

        Returns
        -------
        remark : None, or why nothing was to be done
        """
        digest = waveform_digest(waveform)
        if self.folder.has(uri, digest):
            return "recorded already"
        self.folder.forget(uri)
        chunking = Chunking(
            num_samples=len(waveform), seg_duration=self.geometry.chunk_duration, segmentation_step=self.step
        )
        with StageWriter(self.folder.path(uri)) as writer:
            if self.runtime.kind == "embedding" and self.segmentation is not None:
                writer.add({"embeddings": self._speakers(waveform, chunking, uri)})
            else:
                self._chunks(waveform, chunking, writer, on_batch)
        self.folder.note(uri, digest, len(waveform))
        return None

    def _chunks(
        self,
        waveform: np.ndarray,
        chunking: Chunking,
        writer: StageWriter,
        on_batch: Callable[[int, int], None] | None,
    ) -> None:
        done = 0
        for chunks in batches(chunking.num_chunks, chunking.num_full, self.params.batch_size):
            waveforms = cut_chunks(waveform, chunking.starts[chunks], chunking.window_samples)
            writer.add(self._named(waveforms))
            done += len(chunks)
            if on_batch is not None:
                on_batch(done, chunking.num_chunks)

    def _named(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """The stages that were asked for, of a batch; the output as the runtime's own call gives it."""
        if self.runtime.kind == "segmentation":
            output = self.runtime.segment(waveforms)
        else:
            output = self.runtime.embed(waveforms)[:, None]
        if self.stages == (self.output,):
            return {self.output: output}
        # stages may be read in a session of their own, so the output is not taken from it
        found = {**self.runtime.stages(waveforms), self.output: output}
        if ALL in self.stages:
            return found
        for name in self.stages:
            if name not in found:
                raise InputError(
                    f"{self.runtime}: has no stage {name!r}{nearest(name, found)}; it has {', '.join(found)}"
                )
        return {name: found[name] for name in found if name in {*self.stages, self.output}}

    def _speakers(self, waveform: np.ndarray, chunking: Chunking, uri: str) -> np.ndarray:
        """One embedding per chunk and local speaker, as the pipeline makes them."""
        if self.segmentation is None:
            raise RecordingError("local speakers need a segmentation")
        decided = segment_recording(
            waveform, self.segmentation, chunking, batch_size=self.params.batch_size, uri=uri
        )
        return embed_recording(
            waveform, decided, self.runtime, chunking, batch_size=self.params.batch_size, uri=uri
        )


def model_digest(runtime: Runtime) -> str | None:
    """SHA-256 of the files a runtime was loaded from; None where it has none."""
    model = getattr(runtime, "model", None)
    digest = getattr(model, "digest", None)
    if isinstance(digest, str):
        return digest
    path = getattr(runtime, "path", None)
    return file_digest(path) if isinstance(path, Path) and path.is_file() else None


def parse_stages(text: str | None) -> tuple[str, ...]:
    """Names of stages out of `a,b,c`.

    Examples
    --------
    >>> parse_stages("fbank, log_probs")
    ('fbank', 'log_probs')
    """
    names: Sequence[str] = [name.strip() for name in (text or "").split(",")]
    return tuple(name for name in names if name)


def _whole_chunks() -> Geometry:
    """Chunks that are embedded as a whole: one frame, one speaker."""
    return Geometry(
        sample_rate=SAMPLE_RATE,
        chunk_duration=CHUNK_DURATION,
        chunk_step=CHUNK_DURATION,
        frame_start=0.0,
        frame_duration=CHUNK_DURATION,
        frame_step=CHUNK_DURATION,
        powerset=(),
    )
