"""Speed and memory of the models: torch against ONNX Runtime, chunk by chunk, and a whole hour.

    python benchmarks/inference.py                       # some 20 minutes on two cores
    python benchmarks/inference.py --quick               # the demo model, few repetitions, a minute
    python benchmarks/inference.py --threads 2 --json inference.json

Two models: one of WavLM-base size with random weights (100 M parameters, 94 M of them WavLM), and
the demo model. Both engines run in alternation on the same chunks, in a process of their own for
every model and input size; the medians are compared. Peak memory is that of a fresh process that
loads and runs one engine alone. Then recordings of growing length go through the whole pipeline
with the demo models: memory must stay under 3 GB and grow by no more than the features do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_RATE = 16000
ENGINES = ("torch", "onnx")
MOST_GIGABYTES = 3.0  # for an hour through the pipeline
BASE_CONFIG = """\
[model]
path = "diarizen.models.eend.model_wavlm_conformer.Model"
[model.args]
wavlm_src = "wavlm_base"
chunk_size = 8
"""


def write_base_model(folder: Path) -> None:
    """A hub-layout folder with a model of WavLM-base size, and its export."""
    import torch

    from workbench.checkpoints.segmentation import read_config
    from workbench.export import export_onnx

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(BASE_CONFIG)
    torch.manual_seed(0)
    torch.save(read_config(folder / "config.toml").build().state_dict(), folder / "pytorch_model.bin")
    export_onnx(f"torch:{folder}", folder / "onnx" / "segmentation.onnx")


def load(folder: Path, engine: str, threads: int) -> Any:
    """The segmentation model of a hub-layout folder."""
    from workbench.runtimes import load_runtime

    path = folder if engine == "torch" else folder / "onnx" / "segmentation.onnx"
    return load_runtime(f"{engine}:{path}?threads={threads}")


def noise(batch: int, seconds: float) -> np.ndarray:
    """Waveforms (batch, samples)."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((batch, round(seconds * SAMPLE_RATE)))).astype(np.float32)


def time_alternating(work: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of every function; they take turns, and turns begin with another one each time."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for name in names:
        work[name]()  # warm up
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            began = perf_counter()
            work[name]()
            seconds[name].append(perf_counter() - began)
    return {name: median(values) for name, values in seconds.items()}


def peak_bytes() -> int:
    """Largest memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


# --- what runs in processes of its own -----------------------------------------------------------


def task_export(folder: str) -> dict[str, Any]:
    """Make the model of WavLM-base size."""
    write_base_model(Path(folder))
    return {}


def task_speed(folder: str, batch: int, seconds: float, threads: int, repeats: int) -> dict[str, Any]:
    """Real-time factors of both engines on one input size, in alternation."""
    models = {engine: load(Path(folder), engine, threads) for engine in ENGINES}
    waveforms = noise(batch, seconds)
    found = time_alternating(
        {engine: (lambda model=model: model.segment(waveforms)) for engine, model in models.items()}, repeats
    )
    return {engine: value / (batch * seconds) for engine, value in found.items()}


def task_memory(folder: str, batch: int, seconds: float, threads: int, engine: str) -> dict[str, Any]:
    """Peak memory of one engine that loads a model and runs it twice."""
    model = load(Path(folder), engine, threads)
    loaded = peak_bytes()
    for _ in range(2):
        model.segment(noise(batch, seconds))
    return {"loaded": loaded, "peak": peak_bytes()}


def task_pipeline(folder: str, minutes: float, threads: int, engine: str) -> dict[str, Any]:
    """A recording of some length through the whole pipeline."""
    from workbench.audio import read_audio
    from workbench.config import read_config
    from workbench.pipeline import Runtimes, diarize_features, extract_features, hub_specs

    specs = hub_specs(folder, engine)
    for kind in ("segmentation", "embedding"):
        specs[kind] += f"?threads={threads}"
    runtimes, params = Runtimes.load(**specs), read_config(Path(folder) / "config.toml")
    demo = [read_audio(path) for path in sorted((ROOT / "data" / "demo").glob("*.flac"))]
    speech = np.concatenate(demo) if demo else noise(1, 60)[0]
    waveform = np.resize(speech, round(60 * minutes * SAMPLE_RATE))
    del demo, speech
    began = perf_counter()
    features = extract_features(waveform, runtimes, params)
    extracted = perf_counter()
    annotation = diarize_features(features, params, runtimes.plda)
    return {
        "minutes": minutes,
        "rtf": (perf_counter() - began) / (60 * minutes),
        "rtf_clustering": (perf_counter() - extracted) / (60 * minutes),
        "peak": peak_bytes(),
        "features": features.segmentations.nbytes + features.embeddings.nbytes,
        "waveform": waveform.nbytes,
        "num_speakers": len(annotation.labels()),
    }


TASKS = {task.__name__: task for task in (task_export, task_speed, task_memory, task_pipeline)}


def apart(task: Callable[..., dict[str, Any]], **given: Any) -> dict[str, Any]:
    """Run a task in a fresh process, whose memory is its own."""
    threads = str(given.get("threads", 1))
    environment = os.environ | {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, str(Path(__file__).resolve()), "--task", task.__name__, json.dumps(given)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{task.__name__} {given} failed:\n{run.stderr[-2000:]}")
    return dict(json.loads(run.stdout.splitlines()[-1]))


# --- the report ----------------------------------------------------------------------------------


def measure_models(
    models: Mapping[str, Path], sizes: list[tuple[int, float]], threads: int, repeats: int
) -> list[dict[str, Any]]:
    """A row per model and input size."""
    rows = []
    print(f"{'model':<12}{'batch':>6}{'chunk s':>9}{'torch':>10}{'onnx':>10}{'torch/onnx':>12}", end="")
    print(f"{'torch GB':>10}{'onnx GB':>9}\n{'-' * 78}")
    for name, folder in models.items():
        for batch, seconds in sizes:
            given: dict[str, Any] = {
                "folder": str(folder), "batch": batch, "seconds": seconds, "threads": threads
            }  # fmt: skip
            number = max(1, min(repeats, round(repeats * 8 / (batch * seconds / 8))))
            speed = apart(task_speed, **given, repeats=number)
            memory = {engine: apart(task_memory, **given, engine=engine)["peak"] for engine in ENGINES}
            ratio = speed["torch"] / speed["onnx"]
            rows.append(
                {"model": name, "batch": batch, "seconds": seconds, "repeats": number, "rtf": speed}
                | {"ratio": ratio, "peak_bytes": memory}
            )
            print(
                f"{name:<12}{batch:>6}{seconds:>9g}{speed['torch']:>10.4f}{speed['onnx']:>10.4f}{ratio:>12.2f}"
                f"{memory['torch'] / 1e9:>10.2f}{memory['onnx'] / 1e9:>9.2f}",
                flush=True,
            )
    return rows


def measure_pipeline(hub: Path, minutes: list[float], threads: int) -> tuple[list[dict[str, Any]], str]:
    """A row per length and engine, and what is wrong with their memory, empty if nothing is."""
    rows, problem = [], ""
    print(f"\n{'pipeline':<10}{'minutes':>9}{'RTF':>10}{'peak GB':>10}{'features MB':>13}{'audio MB':>10}")
    print("-" * 62)
    for engine in ENGINES:
        for length in minutes:
            row = apart(task_pipeline, folder=str(hub), minutes=length, threads=threads, engine=engine)
            rows.append({"engine": engine, **row})
            print(
                f"{engine:<10}{length:>9g}{row['rtf']:>10.4f}{row['peak'] / 1e9:>10.2f}"
                f"{row['features'] / 1e6:>13.1f}{row['waveform'] / 1e6:>10.1f}",
                flush=True,
            )
            if row["peak"] > MOST_GIGABYTES * 1e9:
                problem = (
                    f"{engine}: {row['peak'] / 1e9:.2f} GB for {length:g} minutes, above {MOST_GIGABYTES} GB"
                )
    for engine in ENGINES:
        own = [row for row in rows if row["engine"] == engine]
        if len(own) > 1:
            short, long = own[0], own[-1]
            grown = (long["peak"] - short["peak"]) / 1e6
            held = sum(long[key] - short[key] for key in ("features", "waveform")) / 1e6
            print(f"{engine}: {grown:.0f} MB more memory; features and audio are {held:.0f} MB more")
    return rows, problem


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hub", type=Path, default=ROOT / "models" / "demo", help="folder with both engines")
    parser.add_argument("--repeats", type=int, default=5, help="of the smallest input (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of every engine (default: 1)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60], help="through the pipeline")
    parser.add_argument("--quick", action="store_true", help="the demo model only, small sizes, two minutes")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--task", nargs=2, metavar=("NAME", "JSON"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.task:
        print(json.dumps(TASKS[given.task[0]](**json.loads(given.task[1]))))
        return 0

    sizes = [(batch, seconds) for seconds in (8.0, 16.0) for batch in (1, 8, 32)]
    minutes, repeats, models = given.minutes, given.repeats, {"demo": given.hub}
    if given.quick:
        sizes, minutes, repeats = [(1, 8.0), (8, 8.0)], [1.0, 2.0], 2
    about = {"cpus": os.cpu_count(), "threads": given.threads} | {
        name: version(name) for name in ("torch", "onnxruntime", "numpy")
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        if not given.quick:
            models = {"wavlm base": Path(folder) / "base", **models}
            apart(task_export, folder=str(models["wavlm base"]))
        rows = measure_models(models, sizes, given.threads, repeats)
    print("Real-time factors (s of work per s of audio), medians, both engines in alternation.")
    pipeline, problem = measure_pipeline(given.hub, minutes, given.threads)
    if given.json:
        report = {"about": about, "models": rows, "pipeline": pipeline}
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if problem:
        print(f"MEMORY: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
