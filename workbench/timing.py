"""How fast runtimes and whole pipelines are: contestants in alternation, percentiles, cold starts, machine.

Every call is kept, so that percentiles can be checked against the raw times. A warm-up precedes what counts;
contestants take turns call by call, so that a slow moment of the machine hits each alike. Time is limited per
contestant and batch size; what was cut for that is said by `find_cuts`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pandas as pd

from workbench.clustering import run_clustering
from workbench.embedding import embed_recording
from workbench.errors import InputError
from workbench.manifest import describe_machine
from workbench.reconstruction import reconstruct
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking, cut_chunks, segment_recording, segmentation_geometry
from workbench.steps.sides import PipelineSide
from workbench.types import Features

SAMPLE_RATE = 16000
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
EMBEDDING_SECONDS = 2.015
"""Length of what embedding models are timed on: 200 feature frames, as in WeSpeaker's tables."""

BUSY = 0.25
"""Share of the cores that other programs may use before times are called doubtful."""


@dataclass(frozen=True, kw_only=True)
class TimingParams:
    """How long is measured."""

    batch_sizes: tuple[int, ...] = BATCH_SIZES
    warm_up: int = 2  # calls that do not count
    repeats: int = 10  # calls that do
    seconds: float = 1.0  # per contestant and batch size, the warm-up included

    def __post_init__(self) -> None:
        if not 0 < self.seconds < np.inf:
            raise InputError(f"seconds must be a number above 0, got {self.seconds}")


def time_batches(
    runtimes: Mapping[str, Runtime],
    waveform: np.ndarray,
    params: TimingParams | None = None,
    on_call: Callable[[str, int], None] | None = None,
    on_size: Callable[[int], None] | None = None,
    clock: Callable[[], float] = perf_counter,
) -> pd.DataFrame:
    """Time every runtime on every batch size; contestants take turns, call by call.

    One that has used up its seconds of a batch size makes no more calls than one to warm up and two that
    count. A batch size of which a single call would take longer than that is left out, the smallest excepted.

    Parameters
    ----------
    runtimes : name -> a model that can be run
    waveform : float32 array (num_samples,): chunks are cut from it, again from the start where it ends
    params : how long is measured
    on_call : called with name and batch size before every counted round
    on_size : called with every batch size that is done
    clock : seconds that go by

    Returns
    -------
    calls : DataFrame, one row per counted call
        `runtime`, `kind`, `batch_size`, `repeat`, `seconds`, `audio` (s of audio in the batch).
    """
    params = params or TimingParams()
    if not runtimes:
        raise InputError("nothing to time: name at least one runtime")
    for name, runtime in runtimes.items():
        if isinstance(runtime, RecordedRuntime):
            raise InputError(f"{name}: holds arrays recorded earlier; there is nothing to time")
    rows: list[tuple[str, str, int, int, float, float]] = []
    per_chunk: dict[str, float] = {}  # s, of the fastest call of the batch size before
    for batch_size in params.batch_sizes:
        works = {
            name: _work(runtime, waveform, batch_size)
            for name, runtime in runtimes.items()
            if per_chunk.get(name, 0.0) * batch_size <= params.seconds
        }
        spent = dict.fromkeys(works, 0.0)
        for repeat in range(-params.warm_up, params.repeats):
            for name, (work, seconds_of_audio) in works.items():
                if repeat not in (-1, 0, 1) and spent[name] >= params.seconds:
                    continue
                if on_call is not None and repeat >= 0:
                    on_call(name, batch_size)
                began = clock()
                work()
                seconds = clock() - began
                spent[name] += seconds
                if repeat >= 0:
                    rows.append((name, runtimes[name].kind, batch_size, repeat, seconds, seconds_of_audio))
        for name in works:
            per_chunk[name] = (
                min(row[4] for row in rows if row[:1] + row[2:3] == (name, batch_size)) / batch_size
            )
        if on_size is not None:
            on_size(batch_size)
    return pd.DataFrame(rows, columns=["runtime", "kind", "batch_size", "repeat", "seconds", "audio"])


def find_cuts(calls: pd.DataFrame, params: TimingParams) -> list[str]:
    """What the limit of time cost: batch sizes with fewer calls than asked for, and those left out.

    Parameters
    ----------
    calls : as `time_batches` returns it, under these `params`
    """
    words = []
    for name, mine in calls.groupby("runtime", sort=False):
        counts = mine.groupby("batch_size").size()
        fewer = {size: number for size, number in counts.items() if number < params.repeats}
        if fewer:
            told = ", ".join(f"{number} at batch size {size}" for size, number in fewer.items())
            words.append(f"{name}: fewer calls than {params.repeats}: {told}")
        out = [size for size in params.batch_sizes if size not in counts.index]
        if out:
            last = mine[mine["batch_size"] == counts.index.max()]
            call = float(last["seconds"].min()) / counts.index.max() * out[0]
            words.append(
                f"{name}: batch size{'s' * (len(out) > 1)} {', '.join(map(str, out))} left out; one call of "
                f"{out[0]} takes about {call:.2g} s"
            )
    return words


def _work(runtime: Runtime, waveform: np.ndarray, batch_size: int) -> tuple[Callable[[], object], float]:
    """One call of the model, and the seconds of audio in it."""
    if runtime.kind == "segmentation":
        duration = segmentation_geometry(runtime).chunk_duration
    else:
        duration = EMBEDDING_SECONDS
    size = max(round(duration * SAMPLE_RATE), runtime.min_num_samples)
    repeated = np.resize(waveform, max(len(waveform), size)).astype(np.float32)
    starts = (np.arange(batch_size) * size // 2) % max(1, len(repeated) - size + 1)
    chunks = cut_chunks(repeated, starts, size)
    call = runtime.segment if runtime.kind == "segmentation" else runtime.embed
    return (lambda: call(chunks)), batch_size * size / SAMPLE_RATE


def summarize_batches(calls: pd.DataFrame) -> pd.DataFrame:
    """Percentiles of every contestant and batch size; the first contestant is what ratios are taken to.

    Returns
    -------
    table : DataFrame
        `runtime`, `kind`, `batch_size`, `calls`, `mean`, `p50`, `p90`, `p99` (s per call), `per_chunk` (s),
        `rtf` (p50 over the audio of a batch), `throughput` (chunks per second at p50), `ratio` (speed over
        that of the first runtime of its kind at the same batch size; NaN where that has none), `best` (the
        batch size with the most chunks per second).
    """
    rows = []
    for _, group in calls.groupby(["runtime", "kind", "batch_size"], sort=False):
        name, kind, batch = group["runtime"].iloc[0], group["kind"].iloc[0], int(group["batch_size"].iloc[0])
        seconds = group["seconds"].to_numpy()
        p50, p90, p99 = np.quantile(seconds, [0.5, 0.9, 0.99])
        rows.append(
            {
                "runtime": name,
                "kind": kind,
                "batch_size": batch,
                "calls": len(seconds),
                "mean": float(seconds.mean()),
                "p50": float(p50),
                "p90": float(p90),
                "p99": float(p99),
                "per_chunk": float(p50 / batch),
                "rtf": float(p50 / group["audio"].iloc[0]),
                "throughput": float(batch / p50),
            }
        )
    table = pd.DataFrame(rows)
    first = table[table["runtime"].isin(table.drop_duplicates("kind")["runtime"])]
    speed = first.set_index(["kind", "batch_size"])["throughput"]
    # without a comparison where the first was too slow for a batch size
    beside = speed.reindex(pd.MultiIndex.from_frame(table[["kind", "batch_size"]])).to_numpy()
    table["ratio"] = table["throughput"] / beside
    fastest = table.groupby("runtime")["throughput"].transform("max")
    table["best"] = table["throughput"] == fastest
    return table


def time_pipeline(
    sides: Mapping[str, PipelineSide],
    waveform: np.ndarray,
    uri: str = "waveform",
    rounds: int = 2,
    seconds: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> pd.DataFrame:
    """Time the stages of whole pipelines on one recording, in alternation, after a short one to warm up.

    Parameters
    ----------
    sides : name -> pipeline
    waveform : float32 array (num_samples,)
    rounds : that count
    seconds : of every pipeline; where the slowest would take longer, all hear the start of the recording
        alone, two chunks at least
    clock : seconds that go by

    Returns
    -------
    calls : DataFrame
        `runtime`, `uri`, `stage` (segmentation, embeddings, clustering, reconstruction, whole), `round`,
        `seconds`, `audio` (s that were heard).
    """
    geometries = [segmentation_geometry(side.runtimes.segmentation) for side in sides.values()]
    least = round(2 * max(geometry.chunk_duration for geometry in geometries) * SAMPLE_RATE)
    speeds = []
    for side in sides.values():
        began = clock()
        _time_once(side, waveform[:least], uri, clock)
        speeds.append((clock() - began) / len(waveform[:least]))
    if seconds is not None:
        waveform = waveform[: max(least, int(seconds / rounds / max(*speeds, 1e-12)))]
    rows = []
    audio = len(waveform) / SAMPLE_RATE
    for number in range(rounds):
        for name, side in sides.items():
            found = _time_once(side, waveform, uri, clock)
            rows += [(name, uri, stage, number, spent, audio) for stage, spent in found.items()]
    return pd.DataFrame(rows, columns=["runtime", "uri", "stage", "round", "seconds", "audio"])


def _time_once(
    side: PipelineSide, waveform: np.ndarray, uri: str, clock: Callable[[], float]
) -> dict[str, float]:
    params, runtimes = side.params, side.runtimes
    geometry = segmentation_geometry(runtimes.segmentation)
    chunking = Chunking(
        num_samples=len(waveform),
        seg_duration=geometry.chunk_duration if params.seg_duration is None else params.seg_duration,
        segmentation_step=params.segmentation_step,
    )
    marks = [clock()]
    segmentations = segment_recording(
        waveform,
        runtimes.segmentation,
        chunking,
        batch_size=params.batch_size,
        apply_median_filtering=params.apply_median_filtering,
        uri=uri,
    )
    marks.append(clock())
    embeddings = embed_recording(
        waveform,
        segmentations,
        runtimes.embedding,
        chunking,
        batch_size=params.batch_size,
        exclude_overlap=params.embedding_exclude_overlap,
        uri=uri,
    )
    marks.append(clock())
    features = Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=embeddings,
        chunks=chunking.axis,
        frames=geometry.frames,
    )
    clusters = run_clustering(features, params.clustering, runtimes.plda).hard_clusters
    marks.append(clock())
    reconstruct(features, clusters, **params.reconstruction_options())
    marks.append(clock())
    names = ("segmentation", "embeddings", "clustering", "reconstruction")
    found = {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}
    return found | {"whole": marks[-1] - marks[0]}


def summarize_stages(calls: pd.DataFrame) -> pd.DataFrame:
    """Stages over all recordings: medians over rounds, summed; real-time factors, shares, ratios.

    Returns
    -------
    table : DataFrame
        `runtime`, `stage`, `seconds`, `rtf`, `share` (of the whole), `ratio` (of speed to the first).
    """
    if not len(calls):
        return pd.DataFrame(columns=["runtime", "stage", "seconds", "rtf", "share", "ratio"])
    middle = calls.groupby(["runtime", "uri", "stage"], sort=False).agg(
        seconds=("seconds", "median"), audio=("audio", "first")
    )
    table = middle.groupby(["runtime", "stage"], sort=False).sum().reset_index()
    table["rtf"] = table["seconds"] / table["audio"]
    whole = table[table["stage"] == "whole"].set_index("runtime")["seconds"]
    table["share"] = table["seconds"] / table["runtime"].map(whole)
    first = table.drop_duplicates("stage").set_index("stage")["seconds"]
    table["ratio"] = table["stage"].map(first) / table["seconds"]
    return table[["runtime", "stage", "seconds", "rtf", "share", "ratio"]]


COLD_START = """
import json, sys, time
began = time.perf_counter()
import numpy as np
from workbench.runtimes import load_runtime
imported = time.perf_counter()
runtime = load_runtime(sys.argv[1], sys.argv[2])
loaded = time.perf_counter()
waveforms = (0.1 * np.random.default_rng(0).standard_normal((1, int(sys.argv[3])))).astype(np.float32)
call = runtime.segment if runtime.kind == "segmentation" else runtime.embed
call(waveforms)
first = time.perf_counter()
call(waveforms)
second = time.perf_counter()
try:  # Linux counts the parent's memory in ru_maxrss, so its own figure comes first
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    peak = 1024 * int(line.split()[1])
except (OSError, StopIteration):
    try:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    except ImportError:
        peak = None
print(json.dumps({"import": imported - began, "load": loaded - imported, "first_call": first - loaded,
                  "second_call": second - first, "peak_memory": peak}))
"""


def cold_start(spec: str, runtime: Runtime, timeout: float = 300.0) -> dict[str, Any]:
    """Seconds until a model answers for the first time in a process of its own, and the memory it takes.

    Returns
    -------
    times : dict
        `process` (s, from the start of the process to its end), `import`, `load`, `first_call`,
        `second_call` (s), `peak_memory` (bytes; None where the system does not say); or `error`.
    """
    duration = EMBEDDING_SECONDS
    if runtime.kind == "segmentation":
        duration = segmentation_geometry(runtime).chunk_duration
    size = max(round(duration * SAMPLE_RATE), runtime.min_num_samples)
    command = [sys.executable, "-c", COLD_START, spec, runtime.kind, str(size)]
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    }
    began = perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=True, env=environment
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr or "no message").strip().splitlines()[-1]}
    except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"process": perf_counter() - began, **found}


def describe_load(seconds: float = 0.5) -> dict[str, Any]:
    """What other programs do with the machine right now, while this one waits.

    Returns
    -------
    load : dict
        `cores`, `load_average` (1, 5, 15 minutes; None where there is none), `busy` (share of the cores that
        is used; None where the system does not say), `idle` (whether that is little), `machine`.
    """
    machine = describe_machine()
    cores = machine["cores"] or 1
    averages = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    busy = _busy_share(seconds)
    return {
        "cores": cores,
        "load_average": averages,
        "busy": busy,
        "idle": None if busy is None else busy <= BUSY,
        "machine": machine,
    }


def _busy_share(seconds: float) -> float | None:
    """Share of all processors' time that was used, from two looks at /proc/stat."""

    def look() -> np.ndarray | None:
        try:
            fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:8]
            return np.array([int(field) for field in fields])
        except (OSError, ValueError, IndexError):
            return None

    before = look()
    sleep(seconds)
    after = look()
    if before is None or after is None or not (after - before).sum():
        return None
    spent = after - before
    return float(1 - (spent[3] + spent[4]) / spent.sum())


def load_warning(before: Mapping[str, Any], after: Mapping[str, Any] | None = None) -> str | None:
    """A warning where other programs were busy before or after the measurement; None where it was quiet."""
    shares = [each["busy"] for each in (before, after) if each is not None and each["busy"] is not None]
    if not shares or max(shares) <= BUSY:
        return None
    return (
        f"the machine is not idle: other programs use {max(shares):.0%} of its {before['cores']} cores; "
        "times are comparable with each other, as taken in turns, but not with those of an idle one"
    )


def as_items(items: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Runtimes and audio out of `RUNTIME... -- AUDIO...`.

    Examples
    --------
    >>> runtimes, audio = as_items(["torch:exp", "onnx:m.onnx", "recordings"])
    >>> runtimes, [path.name for path in audio]
    (['torch:exp', 'onnx:m.onnx'], ['recordings'])
    """
    runtimes = [
        item for item in items if item.partition(":")[0] in ("torch", "onnx", "recorded") and ":" in item
    ]
    audio = [Path(item) for item in items if item not in runtimes]
    for path in list(audio):
        if (path / "config.toml").is_file():  # a hub folder by its plain path
            runtimes.append(f"torch:{path}")
            audio.remove(path)
    if not runtimes:
        raise InputError(
            "no runtime given; name at least one, such as torch:models/demo, then -- and the audio"
        )
    if not audio:
        raise InputError("no audio given; name files or folders after the runtimes and --")
    if len(set(runtimes)) < len(runtimes):
        raise InputError("a runtime is named twice; each takes part once")
    return runtimes, audio
