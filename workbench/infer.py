"""Segmentation alone through ONNX Runtime, to RTTM; runs with numpy, onnxruntime and soundfile.

Local speakers are linked from chunk to chunk, so a label holds as long as its speaker is heard in
every overlap; telling apart who returns after a pause takes embeddings and clustering, which is
what `workbench diarize` adds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from workbench.audio import SessionId, check_uri, find_recordings, read_audio
from workbench.errors import InputError, RecordingError, expect_path
from workbench.files import atomic_write, json_bytes
from workbench.linking import active_runs, link_chunks, stitch
from workbench.memory import available_bytes
from workbench.rttm_text import Turn, write_rttm_text
from workbench.runtimes.onnx_runtime import OnnxRuntime
from workbench.runtimes.spec import OnnxOptions
from workbench.types import Geometry

_BATCH_SIZE = 8  # chunks per call of the model


@dataclass(frozen=True, kw_only=True)
class InferParams:
    """How segmentations become speaker turns."""

    whole: bool = False  # run each recording in one pass, instead of in chunks
    chunk_step: float = 0.5  # between two chunks, as a fraction of their length
    frame_step: float | None = None  # s between two output frames; None: as the model file says
    min_duration: float = 0.0  # s; shorter turns are dropped

    def __post_init__(self) -> None:
        if not 0 < self.chunk_step < 1:
            raise InputError(
                f"chunk_step must lie between 0 and 1, so that chunks overlap, got {self.chunk_step}"
            )
        if self.frame_step is not None and not 0 < self.frame_step < 10:
            raise InputError(
                f"frame_step must be a number of seconds above 0, such as 0.02, got {self.frame_step}"
            )
        if not 0 <= self.min_duration < float("inf"):
            raise InputError(f"min_duration must be a number of seconds from 0 on, got {self.min_duration}")


@dataclass(frozen=True, kw_only=True)
class InferredRecording:
    """What was found in one recording, and how fast."""

    uri: str
    duration: float  # s
    seconds: float  # that reading, running and linking took
    num_segments: int
    active_speakers: int  # tracks with at least one turn

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of work per second of audio."""
        return self.seconds / self.duration


@dataclass(frozen=True, kw_only=True)
class InferSummary:
    """All recordings of one call."""

    onnx: str
    params: InferParams
    recordings: tuple[InferredRecording, ...]
    failed: tuple[tuple[str, str], ...]  # (uri, error)

    def to_json(self) -> dict[str, object]:
        """The content of `summary.json`."""
        duration = sum(recording.duration for recording in self.recordings)
        seconds = sum(recording.seconds for recording in self.recordings)
        return {
            "onnx": self.onnx,
            "params": asdict(self.params),
            "recordings": {
                recording.uri: {
                    "duration": recording.duration,
                    "seconds": recording.seconds,
                    "rtf": recording.rtf,
                    "segments": recording.num_segments,
                    "active_speakers": recording.active_speakers,
                }
                for recording in self.recordings
            },
            "overall": {
                "recordings": len(self.recordings),
                "duration": duration,
                "seconds": seconds,
                "rtf": seconds / duration if duration else None,
            },
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
        }


def run_inference(
    paths: Iterable[str | Path],
    onnx: str | Path,
    out: str | Path,
    *,
    params: InferParams | None = None,
    options: OnnxOptions | None = None,
    max_files: int | None = None,
    session_id: SessionId = "stem",
    on_recording: Callable[[str, str | None], None] | None = None,
) -> InferSummary:
    """Segment recordings with an ONNX file and write one RTTM each, and `summary.json`.

    Parameters
    ----------
    paths : audio files, folders, or a Kaldi `wav.scp`
    onnx : segmentation model with powerset or multilabel output
    out : folder for `<uri>.rttm` and `summary.json`
    params : how segmentations become turns
    options : how ONNX Runtime runs the graph
    max_files : look only at the first of the recordings
    session_id : {"stem", "relative"}
        How recordings are named.
    on_recording : progress callback, with the uri and the error or None

    Returns
    -------
    summary : InferSummary
        A recording that cannot be used is listed in `failed`; the others are done.
    """
    params, out = params or InferParams(), expect_path(out, "the output folder")
    if max_files is not None and max_files < 1:
        raise InputError(f"max_files must be at least 1, got {max_files}")
    runtime = OnnxRuntime(expect_path(onnx, "an ONNX file"), options)
    geometry = _geometry(runtime, params)
    recordings = list(find_recordings(list(paths), session_id).items())[:max_files]
    done: list[InferredRecording] = []
    failed: list[tuple[str, str]] = []
    for uri, path in recordings:
        try:
            done.append(_infer_file(uri, path, runtime, geometry, params, out))
            reason = None
        except InputError:
            raise  # the model or the output folder: it would fail for every recording
        except RecordingError as error:
            reason = str(error)
        except Exception as error:  # whatever is wrong with this one must not lose the others
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            failed.append((uri, reason))
        if on_recording is not None:
            on_recording(uri, reason)
    summary = InferSummary(onnx=str(onnx), params=params, recordings=tuple(done), failed=tuple(failed))
    with atomic_write(out / "summary.json") as temporary:
        temporary.write_bytes(json_bytes(summary.to_json()))
    return summary


def _infer_file(
    uri: str, path: Path, runtime: OnnxRuntime, geometry: Geometry, params: InferParams, out: Path
) -> InferredRecording:
    """Read, segment and write one recording."""
    target = out / f"{check_uri(uri)}.rttm"
    started = time.perf_counter()
    waveform = read_audio(path, geometry.sample_rate)
    turns = find_turns(waveform, runtime, geometry, params)
    seconds = time.perf_counter() - started
    write_rttm_text(target, uri, turns)
    return InferredRecording(
        uri=uri,
        duration=len(waveform) / geometry.sample_rate,
        seconds=seconds,
        num_segments=len(turns),
        active_speakers=len({speaker for _, _, speaker in turns}),
    )


def find_turns(
    waveform: np.ndarray, runtime: OnnxRuntime, geometry: Geometry, params: InferParams
) -> list[Turn]:
    """Speaker turns of one waveform, shape (num_samples,), in [-1, 1)."""
    activity = (
        decide_whole(waveform, runtime, geometry)
        if params.whole
        else decide_chunks(waveform, runtime, geometry, params)
    )
    duration = len(waveform) / geometry.sample_rate
    turns = []
    for speaker, active in enumerate(activity.T):
        for first, last in active_runs(active):
            start, end = first * geometry.frame_step, min(last * geometry.frame_step, duration)
            if end - start >= max(params.min_duration, 0.5e-3):  # nothing that RTTM would print as 0.000
                turns.append((float(start), float(end), f"SPEAKER_{speaker:02d}"))
    return sorted(turns)


def decide_whole(waveform: np.ndarray, runtime: OnnxRuntime, geometry: Geometry) -> np.ndarray:
    """Activity (num_frames, num_speakers) from one pass over the whole recording, if memory suffices."""
    if len(waveform) < runtime.min_num_samples:
        raise RecordingError(
            f"has {len(waveform)} samples, the model needs {runtime.min_num_samples}; run it without --whole"
        )
    duration = len(waveform) / geometry.sample_rate
    needed = whole_bytes(duration / geometry.frame_step, runtime.attention_heads)
    left = available_bytes()
    if left is not None and needed > left:
        raise RecordingError(
            f"lasts {duration / 60:.0f} minutes; in one pass the model compares every frame with every other,"
            f" which takes about {needed / 1e9:.0f} GB, and {left / 1e9:.0f} GB are left; run it without "
            "--whole"
        )
    try:
        return runtime.decide(waveform[None])[0]
    except (RecordingError, MemoryError) as error:
        raise RecordingError(
            f"cannot be run in one pass of {duration / 60:.0f} minutes ({str(error) or 'out of memory'}); "
            "run it without --whole"
        ) from error


def whole_bytes(num_frames: float, num_heads: int) -> float:
    """Memory that one pass of a model with self-attention takes at its widest place.

    Every head has a square of float32 scores; measured on exported conformers, three and a half such
    squares live at once (scores, their softmax, and what ONNX Runtime holds in reserve).
    """
    return 3.5 * 4 * num_heads * num_frames**2


def decide_chunks(
    waveform: np.ndarray, runtime: OnnxRuntime, geometry: Geometry, params: InferParams
) -> np.ndarray:
    """Activity (num_frames, num_speakers) from overlapping chunks whose local speakers are linked.

    Chunks start on whole frames, so that overlapping ones are compared frame by frame; the last
    is filled up with zeros.
    """
    hop = max(1, round(geometry.frame_step * geometry.sample_rate))  # samples per frame
    window = round(geometry.chunk_duration * geometry.sample_rate)
    step = max(1, round(params.chunk_step * window / hop))  # frames
    num_chunks = 1 + max(0, -(-(len(waveform) - window) // (step * hop)))
    padded = np.zeros((num_chunks - 1) * step * hop + window, dtype=np.float32)
    padded[: len(waveform)] = waveform
    chunks = np.lib.stride_tricks.sliding_window_view(padded, window)[:: step * hop]
    decided = [
        runtime.decide(chunks[first : first + _BATCH_SIZE]) for first in range(0, num_chunks, _BATCH_SIZE)
    ]
    linked = link_chunks(np.concatenate(decided), step)
    return stitch(linked, step, -(-len(waveform) // hop))


def _geometry(runtime: OnnxRuntime, params: InferParams) -> Geometry:
    """The model's geometry, its frame step replaced where the user knows better."""
    geometry = runtime.geometry
    if geometry is None:
        raise InputError(f"{runtime}: is a speaker embedding model; infer needs a segmentation model")
    if params.frame_step is None:
        return geometry
    if abs(params.frame_step - geometry.frame_step) > 1e-6:
        warnings.warn(
            f"frame_step {params.frame_step} s is used, although {runtime} says {geometry.frame_step} s",
            stacklevel=3,
        )
    return replace(geometry, frame_step=params.frame_step)
