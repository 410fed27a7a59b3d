"""data/demo/hypotheses/*.rttm: the demo recordings diarized by the final checkpoint and by an early one.

The two systems of notebook 02. They share embeddings, PLDA and parameters; only the segmentation model has
been trained for longer in one of them. Run it again whenever models/demo has changed:

    .venv/bin/python scripts/make_demo_hypotheses.py
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from workbench.audio import find_recordings  # noqa: E402
from workbench.config import read_config  # noqa: E402
from workbench.pipeline import Runtimes, diarize  # noqa: E402
from workbench.rttm import write_rttm  # noqa: E402


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--models", type=Path, default=ROOT / "models" / "demo", help="hub-layout folder")
    arguments.add_argument("--audio", type=Path, default=ROOT / "data" / "demo", help="folder of recordings")
    arguments.add_argument("--out", type=Path, default=ROOT / "data" / "demo" / "hypotheses")
    arguments.add_argument(
        "--early", help="checkpoint of the early system; by default the first that is kept"
    )
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    recordings = find_recordings([options.audio])
    early = options.early or first_epoch(options.models / "experiment" / "checkpoints")
    for name, checkpoint in {"final": "best", "early": early}.items():
        started = time.perf_counter()
        annotations = {uri: each for uri, each in run(options.models, checkpoint, recordings)}
        write_rttm(options.out / f"{name}.rttm", annotations)
        seconds = time.perf_counter() - started
        print(f"{options.out / name}.rttm: @{checkpoint}, {len(annotations)} recordings, {seconds:.0f} s")


def first_epoch(checkpoints: Path) -> str:
    """Name of the earliest checkpoint that the training kept."""
    epochs = sorted(path.name for path in checkpoints.glob("epoch_*"))
    if not epochs:
        raise SystemExit(f"{checkpoints} holds no epoch_*; run scripts/train_demo.py, or give --early")
    return epochs[0]


def run(models: Path, checkpoint: str, recordings: dict[str, Path]):
    """Name and annotation of every recording, with the segmentation model of one checkpoint."""
    runtimes = Runtimes.load(
        f"torch:{models / 'experiment'}@{checkpoint}",
        f"torch:{models / 'embedding' / 'pytorch_model.bin'}",
        models / "plda",
    )
    params = read_config(models / "config.toml")
    for uri, path in recordings.items():
        yield uri, diarize(path, runtimes, params, uri=uri)


if __name__ == "__main__":
    main()
