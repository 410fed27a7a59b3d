"""Scoring speed: this scorer, pyannote.metrics and spyder on the same meetings, in one run.

    python benchmarks/scoring.py                                    # the 18 AMI development meetings
    python benchmarks/scoring.py reference.rttm hypothesis.rttm --uem all.uem --repeats 9 --json bench.json

The scorers take turns within one process and medians are compared: what else the machine does then
hits all alike. Each gets its input in its own form: annotations for this scorer and pyannote.metrics,
lists of turns for spyder (PyPI `spy-der`; left out, with a line saying so, where it is not installed),
arrays of turns (`Turns`) for the row that leaves out reading annotations. A second table has a prepared
reference of one hour and hypotheses given per frame, as sweeps score them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

from workbench.binarization import binarize
from workbench.rttm import read_rttm, read_uem
from workbench.scoring import DiarizationCounts, Turns, score
from workbench.scoring.prepared import PreparedReference
from workbench.types import SlidingWindow

ROOT = Path(__file__).resolve().parents[1]
MEETINGS = Path(os.environ.get("WORKBENCH_SHARED", ROOT.parent / "shared")) / "data" / "ami-meetings"
OURS = "workbench"


def time_scorers(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline],
    repeats: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds for all recordings, and the pooled DER, by scorer."""
    turns = [{uri: Turns.of(each) for uri, each in side.items()} for side in (references, hypotheses)]

    def ours() -> float:
        counts = (score(references[uri], hypotheses[uri], uem[uri]) for uri in references)
        return sum(counts, DiarizationCounts()).der

    def prepared_turns() -> float:
        counts = (score(turns[0][uri], turns[1][uri], uem[uri]) for uri in references)
        return sum(counts, DiarizationCounts()).der

    def pyannote() -> float:
        metric = DiarizationErrorRate()
        for uri in references:
            metric(references[uri], hypotheses[uri], uem=uem[uri])
        return abs(metric)

    scorers: dict[str, Callable[[], float]] = {
        OURS: ours,
        f"{OURS}, from Turns": prepared_turns,
        "pyannote.metrics": pyannote,
    }
    spyder = spyder_scorer(references, hypotheses, uem)
    if spyder is not None:
        scorers["spyder"] = spyder
    der = {name: scorer() for name, scorer in scorers.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(repeats):
        for name, scorer in scorers.items():
            started = perf_counter()
            scorer()
            seconds[name].append(perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}, der


def spyder_scorer(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline],
) -> Callable[[], float] | None:
    """Spyder on lists made beforehand; None where it is not installed."""
    try:
        spyder = importlib.import_module("spyder")
    except ImportError:
        print("spyder is left out: it is not installed (pip install spy-der)")
        return None
    sides = [
        {
            uri: [
                (str(label), segment.start, segment.end)
                for segment, _, label in each.itertracks(yield_label=True)
            ]
            for uri, each in side.items()
        }
        for side in (references, hypotheses)
    ]
    regions = {uri: [(region.start, region.end) for region in uem[uri]] for uri in references}

    def run() -> float:
        results = [spyder.DER(sides[0][uri], sides[1][uri], uem=regions[uri]) for uri in references]
        # its duration is the speaker time that was scored
        return sum(each.der * each.duration for each in results) / sum(each.duration for each in results)

    return run


def time_prepared(repeats: int, duration: float = 3600.0, seed: int = 0) -> dict[str, float]:
    """Seconds on a synthetic meeting: preparing, per hypothesis, and per hypothesis without preparing."""
    rng = np.random.default_rng(seed)
    frames = SlidingWindow(0.0, 0.025, 0.02)
    reference, active, times = synthetic_meeting(rng, frames, duration)
    hypothesis = binarize(active.astype(np.float32), frames, uri="meeting")
    started = perf_counter()
    prepared = PreparedReference(reference, times)
    preparing = perf_counter() - started
    turns, fast, plain = Turns.of(reference), [], []
    for _ in range(max(repeats, 5)):
        started = perf_counter()
        counts = prepared.score(active)
        fast.append(perf_counter() - started)
        started = perf_counter()
        expected = score(turns, hypothesis)
        plain.append(perf_counter() - started)
    differences = np.subtract(list(vars(counts).values()), list(vars(expected).values()))
    return {
        "preparing": preparing,
        "per_hypothesis": median(fast),
        "annotation_scored": median(plain),
        "largest_difference": float(np.abs(differences).max()),
        "num_frames": float(len(times)),
        "num_turns": float(len(reference)),
    }


def synthetic_meeting(
    rng: np.random.Generator, frames: SlidingWindow, duration: float
) -> tuple[Annotation, np.ndarray, np.ndarray]:
    """Four speakers who interrupt each other, and a noisy copy of it per frame."""
    times = frames.middle_of(np.arange(int(duration / frames.step)))
    reference, active, now = Annotation(uri="meeting"), np.zeros((len(times), 4), dtype=np.uint8), 0.0
    while now < duration - 10:
        length, speaker = 0.3 + rng.exponential(3.0), int(rng.integers(4))
        reference[Segment(round(now, 3), round(min(now + length, duration), 3))] = f"s{speaker}"
        heard = frames.closest(np.array([now, now + length]) + rng.normal(0, 0.1, 2))
        if rng.random() < 0.9:
            active[max(heard[0], 0) : max(heard[1], 0), speaker] = 1
        now += length * rng.uniform(0.6, 1.3)
    return reference, active, times


def format_report(seconds: Mapping[str, float], der: Mapping[str, float], hour: Mapping[str, float]) -> str:
    """Both tables as text."""
    lines = [f"{'scorer':<24}{'seconds':>10}{'times ours':>12}{'DER %':>9}", "-" * 55]
    for name, value in seconds.items():
        lines.append(f"{name:<24}{value:>10.4f}{value / seconds[OURS]:>12.1f}{100 * der[name]:>9.3f}")
    return "\n".join(
        [
            *lines,
            "",
            f"One hour, {hour['num_turns']:.0f} reference turns, {hour['num_frames']:.0f} frames, 4 speakers",
            "-" * 55,
            f"{'preparing the reference':<40}{1000 * hour['preparing']:>12.2f} ms",
            f"{'per hypothesis':<40}{1000 * hour['per_hypothesis']:>12.2f} ms",
            f"{'the same, as an annotation, by score':<40}{1000 * hour['annotation_scored']:>12.2f} ms",
            f"Largest difference of the counts: {hour['largest_difference']:.1e} s.",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", nargs="?", type=Path, default=MEETINGS / "reference.rttm")
    parser.add_argument("hypothesis", nargs="?", type=Path, default=MEETINGS / "vbx_mix-headset.rttm")
    parser.add_argument("--uem", type=Path, help="by default the extent of both sides")
    parser.add_argument("--repeats", type=int, default=5, help="how often every scorer runs (default: 5)")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args(arguments)
    if not given.reference.is_file():
        print(f"{given.reference}: not here; name a reference and a hypothesis, or set WORKBENCH_SHARED")
        return 0 if given.reference.parent == MEETINGS else 2
    references, hypotheses = read_rttm(given.reference), read_rttm(given.hypothesis)
    common = sorted(references.keys() & hypotheses.keys())
    path = given.uem or (MEETINGS / "all.uem" if given.reference.parent == MEETINGS else None)
    uem = read_uem(path) if path else {}
    for uri in common:
        both = references[uri].get_timeline().union(hypotheses[uri].get_timeline())
        uem.setdefault(uri, Timeline([both.extent()]))
    seconds, der = time_scorers(
        {uri: references[uri] for uri in common}, {uri: hypotheses[uri] for uri in common}, uem, given.repeats
    )
    hour = time_prepared(given.repeats)
    print(f"{len(common)} recordings of {given.reference}, {os.cpu_count()} processors")
    print(format_report(seconds, der, hour))
    if given.json:
        report = {"recordings": common, "seconds": seconds, "der": der, "prepared": hour}
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
