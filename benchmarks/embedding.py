"""Embeddings per second: torch and ONNX Runtime, batch sizes, and a loop over single files.

    python benchmarks/embedding.py                       # the demo model, some minutes
    python benchmarks/embedding.py --quick               # few sizes, half a minute
    python benchmarks/embedding.py --torch torch:wespeaker_dir --onnx onnx:model.onnx --json table.json

Every figure comes from one run in which all ways of working take turns: the loop, which reads nothing and
embeds one waveform after the other, and `workbench embed`'s way, which puts inputs of equal length into one
batch and runs as many batches at once as there are CPUs, each with one thread. The loop has all CPUs for its
one model call. Fixed inputs have 200 feature frames (2.015 s), mixed ones 1 to 8 s in quarters of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from workbench.cli.tables import align
from workbench.runtimes import Runtime, load_runtime
from workbench.verification.throughput import (
    BATCH_SIZES,
    fixed_waveforms,
    mixed_waveforms,
    throughput_table,
)

ROOT = Path(__file__).resolve().parents[1]
LOOP = "loop"


def load(spec: str, threads: int) -> Runtime:
    """An embedding model with so many threads per call."""
    return load_runtime(f"{spec}{'&' if '?' in spec else '?'}threads={threads}", kind="embedding")


def measure(
    specs: dict[str, str], count: int, batch_sizes: list[int], cpus: int, repeats: int
) -> pd.DataFrame:
    """The table: our way with a thread per batch, the loop with all threads in its one call."""
    workloads = {"fixed 200 frames": fixed_waveforms(count), "mixed 1 to 8 s": mixed_waveforms(count)}
    ours = {name: load(spec, 1) for name, spec in specs.items()}
    loops = {name: load(spec, cpus) for name, spec in specs.items()}
    return throughput_table(ours, workloads, batch_sizes, workers=cpus, repeats=repeats, loops=loops)


def text_of(table: pd.DataFrame) -> str:
    """The table for the terminal, the fastest of every engine and workload marked."""
    heading = ["inputs", "engine", "batch", "per second", "to loop", "to first engine", ""]
    rows = [
        [
            row["workload"],
            row["runtime"],
            str(row["batch_size"] or LOOP),
            f"{row['embeddings_per_second']:.1f}",
            f"{row['ratio_to_loop']:.2f}",
            f"{row['ratio_to_first']:.2f}",
            "best" if row["best"] else "",
        ]
        for _, row in table.iterrows()
    ]
    return align(heading, rows, num_left=2)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    demo = ROOT / "models" / "demo"
    parser.add_argument("--torch", default=f"torch:{demo}", help="the model in torch")
    parser.add_argument("--onnx", default=f"onnx:{demo / 'onnx' / 'embedding.onnx'}", help="and its export")
    parser.add_argument("--count", type=int, default=64, help="waveforms per workload (default: 64)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the fastest counts")
    parser.add_argument("--cpus", type=int, default=len(os.sched_getaffinity(0)), help="to use")
    parser.add_argument("--quick", action="store_true", help="few sizes, one round")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args(arguments)
    count, sizes, repeats = given.count, list(BATCH_SIZES), given.repeats
    if given.quick:
        count, sizes, repeats = min(count, 16), [1, 8], 1
    about = {"cpus": given.cpus, "load": round(os.getloadavg()[0], 2)} | {
        name: version(name) for name in ("torch", "onnxruntime", "numpy")
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
    if about["load"] > 0.5 * given.cpus:
        print("WARNING: the machine is busy with other work, the figures are not to be trusted", end="\n\n")
    table = measure({"torch": given.torch, "onnx": given.onnx}, count, sizes, given.cpus, repeats)
    print(text_of(table))
    if given.json:
        report = {"about": about, "table": table.to_dict(orient="records")}
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
