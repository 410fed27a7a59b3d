"""Real-time factor of every stage of the pipeline, torch and ONNX Runtime side by side.

    python benchmarks/pipeline.py                              # data/demo with models/demo
    python benchmarks/pipeline.py meeting.wav --hub models/demo --threads 2 --json bench.json

The two engines run in alternation within one process, every stage on the same inputs, and the
medians are compared: what else the machine does then hits both alike. A second table compares
embeddings of all local speakers from one run of the network's trunk with one full network pass
per speaker, on chunks with at least three of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from workbench.audio import crop_audio, find_recordings
from workbench.clustering import cluster
from workbench.config import PipelineParams, read_config
from workbench.embedding import embed_recording
from workbench.fbank import kaldi_fbank
from workbench.pipeline import SAMPLE_RATE, Runtimes, hub_specs
from workbench.reconstruction import reconstruct
from workbench.segmentation import Chunking, cut_chunks, segment_recording, segmentation_geometry
from workbench.types import Features

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("torch", "onnx")
MIN_SPEAKERS = 3  # local speakers per chunk from which the shared trunk is measured


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Medians over the repetitions; None where an engine has no part in a stage."""

    stage: str
    torch: float | None  # seconds of work per second of audio
    onnx: float | None
    shared: float | None = None  # of stages that no engine runs

    @property
    def ratio(self) -> float | None:
        """How many times faster ONNX Runtime is."""
        return None if self.torch is None or self.onnx is None else self.torch / self.onnx


@dataclass(frozen=True, kw_only=True)
class TrunkTiming:
    """Embedding chunks with several local speakers in two ways."""

    engine: str
    num_chunks: int
    num_speakers: float  # per chunk, on average
    found: bool  # by the segmentation model; else three speakers were assumed in every chunk
    shared_trunk: float  # seconds for all chunks, one run of the trunk each
    pass_per_speaker: float  # seconds for all chunks, one full pass per chunk and speaker

    @property
    def speedup(self) -> float:
        """How many times faster the shared trunk is."""
        return self.pass_per_speaker / self.shared_trunk


def load_engines(hub: Path, threads: int) -> dict[str, Runtimes]:
    """Both engines of a hub folder, with equally many threads."""
    engines = {}
    for engine in ENGINES:
        specs = hub_specs(hub, engine)
        for kind in ("segmentation", "embedding"):
            specs[kind] += f"?threads={threads}"
        engines[engine] = Runtimes.load(**specs)
    return engines


def time_alternating(work: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of every function; they take turns, and turns begin with another one each time."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for name in names:
        work[name]()  # warm up: allocations, caches, lazy compilation
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            began = perf_counter()
            work[name]()
            seconds[name].append(perf_counter() - began)
    return {name: median(values) for name, values in seconds.items()}


def chunking_of(waveform: np.ndarray, runtimes: Runtimes, params: PipelineParams) -> Chunking:
    """Where the pipeline would cut the recording."""
    seg_duration = params.seg_duration or segmentation_geometry(runtimes.segmentation).chunk_duration
    return Chunking(
        num_samples=len(waveform), seg_duration=seg_duration, segmentation_step=params.segmentation_step
    )


def features_of(
    waveform: np.ndarray, runtimes: Runtimes, params: PipelineParams, chunking: Chunking
) -> Features:
    """What later stages work on."""
    segmentations = segment_recording(waveform, runtimes.segmentation, chunking, batch_size=params.batch_size)
    embeddings = embed_recording(
        waveform, segmentations, runtimes.embedding, chunking, batch_size=params.batch_size
    )
    frames = segmentation_geometry(runtimes.segmentation).frames
    return Features(
        uri="benchmark",
        segmentations=segmentations,
        embeddings=embeddings,
        chunks=chunking.axis,
        frames=frames,
    )


def time_stages(
    waveforms: list[np.ndarray], engines: Mapping[str, Runtimes], params: PipelineParams, repeats: int
) -> list[Timing]:
    """Every stage over all recordings, as seconds of work per second of audio."""
    import torch

    from workbench.models.kaldi_fbank import KaldiFbank

    duration = sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
    reference = engines["torch"]
    cut = [chunking_of(waveform, reference, params) for waveform in waveforms]
    features = [
        features_of(w, reference, params, chunking) for w, chunking in zip(waveforms, cut, strict=True)
    ]
    labels = [cluster(one, params.clustering, reference.plda) for one in features]
    torch_fbank = KaldiFbank()

    def fbank(engine: str) -> None:
        for waveform, chunking in zip(waveforms, cut, strict=True):
            for start in chunking.labelled_starts:
                chunk = cut_chunks(waveform, np.array([start]), chunking.window_samples)
                if engine == "torch":
                    with torch.inference_mode():
                        torch_fbank(torch.from_numpy(chunk))
                else:
                    kaldi_fbank(chunk)

    def segmentation(engine: str) -> None:
        for waveform, chunking in zip(waveforms, cut, strict=True):
            segment_recording(waveform, engines[engine].segmentation, chunking, batch_size=params.batch_size)

    def embedding(engine: str) -> None:
        for waveform, chunking, one in zip(waveforms, cut, features, strict=True):
            embed_recording(
                waveform,
                one.segmentations,
                engines[engine].embedding,
                chunking,
                batch_size=params.batch_size,
            )

    timings = []
    for stage in (fbank, segmentation, embedding):
        seconds = time_alternating({engine: partial(stage, engine) for engine in ENGINES}, repeats)
        timings.append(
            Timing(stage=stage.__name__, torch=seconds["torch"] / duration, onnx=seconds["onnx"] / duration)
        )
    rest = time_alternating(
        {
            "clustering": lambda: [cluster(one, params.clustering, reference.plda) for one in features],
            "reconstruction": lambda: [
                reconstruct(one, hard, **params.reconstruction_options())
                for one, hard in zip(features, labels, strict=True)
            ],
        },
        repeats,
    )
    timings += [
        Timing(stage=stage, torch=None, onnx=None, shared=value / duration) for stage, value in rest.items()
    ]
    shared = sum(rest.values()) / duration
    # fbank is part of embedding and not counted twice
    total = {e: sum(getattr(t, e) for t in timings[1:3]) + shared for e in ENGINES}
    return [*timings, Timing(stage="whole pipeline", torch=total["torch"], onnx=total["onnx"])]


def busy_chunks(
    waveforms: list[np.ndarray], runtimes: Runtimes, params: PipelineParams, most: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Chunks with at least three local speakers, busiest first, and their masks.

    Where the recordings have none, their first chunks serve, with a third of the time for each of
    three speakers: what a mask holds does not change the cost.

    Returns
    -------
    chunks : float32 array, shape (num_chunks, num_samples)
    masks : float32 array, shape (num_chunks, num_local_speakers, num_frames)
    found : whether the masks are what the segmentation model found
    """
    chunks, masks = [], []
    for waveform in waveforms:
        chunking = chunking_of(waveform, runtimes, params)
        segmentations = segment_recording(
            waveform, runtimes.segmentation, chunking, batch_size=params.batch_size
        )
        chunks.append(cut_chunks(waveform, chunking.labelled_starts, chunking.window_samples))
        masks.append(segmentations.transpose(0, 2, 1))
    all_chunks, all_masks = np.concatenate(chunks), np.concatenate(masks)
    num_active = all_masks.any(axis=2).sum(axis=1)
    busiest = np.argsort(-num_active, kind="stable")[:most]
    busiest = busiest[num_active[busiest] >= MIN_SPEAKERS]
    if len(busiest):
        return all_chunks[busiest], all_masks[busiest], True
    num_chunks, num_frames = min(most, len(all_chunks)), all_masks.shape[2]
    thirds = (np.arange(num_frames) * MIN_SPEAKERS // num_frames) == np.arange(MIN_SPEAKERS)[:, None]
    return all_chunks[:num_chunks], np.repeat(thirds[None].astype(np.float32), num_chunks, axis=0), False


def time_trunk(
    chunks: np.ndarray, masks: np.ndarray, found: bool, engines: Mapping[str, Runtimes], repeats: int
) -> list[TrunkTiming]:
    """All speakers from one run of the trunk, against one full pass for every *active* speaker."""
    active = masks.any(axis=2)  # (chunk, speaker)
    timings = []
    for engine, runtimes in engines.items():

        def together(model=runtimes.embedding) -> list[np.ndarray]:
            return [
                model.embed(chunk[None], mask[None, speaking])[0]
                for chunk, mask, speaking in zip(chunks, masks, active, strict=True)
            ]

        def apart(model=runtimes.embedding) -> list[np.ndarray]:
            return [
                np.concatenate([model.embed(chunk[None], one[None]) for one in mask[speaking]])
                for chunk, mask, speaking in zip(chunks, masks, active, strict=True)
            ]

        for shared, single in zip(together(), apart(), strict=True):
            np.testing.assert_allclose(shared, single, rtol=1e-3, atol=1e-4)  # same numbers, less work
        seconds = time_alternating({"together": together, "apart": apart}, repeats)
        timings.append(
            TrunkTiming(
                engine=engine,
                num_chunks=len(chunks),
                num_speakers=float(active.sum(axis=1).mean()),
                found=found,
                shared_trunk=seconds["together"],
                pass_per_speaker=seconds["apart"],
            )
        )
    return timings


def format_report(timings: list[Timing], trunk: list[TrunkTiming]) -> str:
    """Both tables as text."""

    def show(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [f"{'stage':<16}{'torch':>10}{'onnx':>10}{'either':>10}{'torch / onnx':>14}", "-" * 60]
    for t in timings:
        if t.stage == "whole pipeline":
            lines.append("-" * 60)
        values = (show(t.torch, 5), show(t.onnx, 5), show(t.shared, 5), show(t.ratio, 2))
        lines.append(
            f"{t.stage:<16}" + "".join(f"{v:>{w}}" for v, w in zip(values, (10, 10, 10, 14), strict=True))
        )
    lines += ["Real-time factors (s of work per s of audio), medians. Fbank is part of embedding.", ""]
    lines += [f"{'embedding':<16}{'one trunk':>12}{'per speaker':>14}{'speed-up':>12}", "-" * 60]
    for t in trunk:
        lines.append(
            f"{t.engine:<16}{t.shared_trunk:>10.3f} s{t.pass_per_speaker:>12.3f} s{t.speedup:>11.2f}x"
        )
    origin = "found by the model" if trunk[0].found else "assumed: the model finds fewer in all chunks"
    lines.append(f"{trunk[0].num_chunks} chunks, {trunk[0].num_speakers:.1f} local speakers each ({origin}).")
    return "\n".join(lines)


def machine(threads: int) -> dict[str, object]:
    """What the numbers were measured on."""
    packages = ("torch", "onnxruntime", "numpy", "scipy")
    return {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audio", nargs="*", type=Path, help="files or folders (default: data/demo)")
    parser.add_argument("--hub", type=Path, default=ROOT / "models" / "demo", help="folder with both engines")
    parser.add_argument("--repeats", type=int, default=5, help="how often every stage runs (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of every engine (default: 1)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of every recording (default: 30)")
    parser.add_argument("--max-files", type=int, default=3, help="recordings at most (default: 3)")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args(arguments)

    recordings = find_recordings(given.audio or [ROOT / "data" / "demo"])
    chosen = dict(list(recordings.items())[: given.max_files])
    waveforms = [crop_audio(path, 0, given.seconds) for path in chosen.values()]
    engines, params = load_engines(given.hub, given.threads), read_config(given.hub / "config.toml")

    timings = time_stages(waveforms, engines, params, given.repeats)
    chunks, masks, found = busy_chunks(waveforms, engines["torch"], params, most=16)
    trunk = time_trunk(chunks, masks, found, engines, given.repeats)

    about = machine(given.threads)
    seconds = sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
    print(f"{', '.join(chosen)}: {seconds:.0f} s of audio, {given.hub}")
    print(", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
    print(format_report(timings, trunk))
    if given.json:
        report = {
            "about": about,
            "audio": {"recordings": list(chosen), "seconds": seconds},
            "stages": [{**asdict(t), "ratio": t.ratio} for t in timings],
            "shared_trunk": [{**asdict(t), "speedup": t.speedup} for t in trunk],
        }
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
