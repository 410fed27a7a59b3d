"""Random annotations that overlap, nest, touch and repeat, and regions to score them in."""

from __future__ import annotations

import numpy as np
from pyannote.core import Annotation, Segment, Timeline

COMPONENTS = ("total", "correct", "missed", "false_alarm", "confusion")


def spoken(*turns: tuple[float, float, str], uri: str = "a") -> Annotation:
    annotation = Annotation(uri=uri)
    for number, (start, end, label) in enumerate(turns):
        annotation[Segment(start, end), number] = label
    return annotation


def annotate(uri: str, *turns: tuple[float, float, str]) -> Annotation:
    return spoken(*turns, uri=uri)


def random_turns(
    rng: np.random.Generator, num_turns: int, num_speakers: int, grid: float | None = None
) -> Annotation:
    annotation = Annotation(uri="a")
    for number in range(num_turns):
        start, end = np.sort(
            rng.uniform(0, 30, 2) if rng.random() < 0.2 else rng.uniform(0, 30) + rng.uniform(0, 4, 2)
        )
        if grid is not None:
            start, end = round(start / grid) * grid, round(end / grid) * grid
        label = f"s{rng.integers(num_speakers)}"
        annotation[Segment(start, end), number] = label
        if rng.random() < 0.1:
            annotation[Segment(start, end), f"again {number}"] = label
    return annotation


def random_uem(rng: np.random.Generator) -> Timeline | None:
    if rng.random() < 0.3:
        return None
    edges = rng.uniform(-1, 36, (rng.integers(1, 4), 2))
    return Timeline([Segment(*sorted(pair)) for pair in edges])


def random_settings(rng: np.random.Generator) -> dict[str, object]:
    """Keyword arguments of `score`."""
    return {
        "uem": random_uem(rng),
        "collar": float(rng.choice([0, 0.1, 0.25, 1.0])),
        "skip_overlap": bool(rng.integers(2)),
    }
