"""Make the demo models and the demo corpus: one command, seeded, resumable.

    python scripts/train_demo.py --readers LIBRISPEECH/train-clean-100 --work build/demo \
        --out models/demo --corpus data/demo

Every stage writes its product under `--work` in one move and is skipped when the product is there, so a
stopped run goes on where it was. `--stage NAME` runs one stage; two trainings can run side by side that way.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the command is run from anywhere

import torch

from scripts.demo import stages, steps


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readers", type=Path, action="append", default=[], help="single-speaker utterances")
    parser.add_argument("--work", type=Path, default=Path("build/demo"))
    parser.add_argument("--out", type=Path, default=Path("models/demo"))
    parser.add_argument("--corpus", type=Path, default=Path("data/demo"))
    parser.add_argument("--stage", choices=list(steps.STAGES), action="append", help="only these, in order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="wall clock of each training, instead of its steps")
    parser.add_argument("--quick", action="store_true", help="a minute or two, to see that it works")
    parser.add_argument("--ami", type=Path, help="excerpts to evaluate on (never to train)")
    parser.add_argument("--verification", type=Path, help="unseen readers to evaluate the embedding on")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the stages asked for."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)  # the two trainings share a small machine better that way
    run = stages.Run(
        readers=tuple(options.readers),
        work=options.work,
        out=options.out,
        corpus=options.corpus,
        seed=options.seed,
        minutes=options.minutes,
        amounts=stages.QUICK if options.quick else stages.Amounts(),
        ami=options.ami,
        verification=options.verification,
    )
    run.work.mkdir(parents=True, exist_ok=True)
    for name in options.stage or steps.STAGES:
        started = time.monotonic()
        steps.STAGES[name](run)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
