"""Results of sweeps that never ran, with known properties, and recordings to run small ones on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Segment
from scipy.ndimage import gaussian_filter

from workbench.tuning.cells import CellTable
from workbench.types import Features, SlidingWindow

AXES = {
    "Fa": tuple(np.round(np.linspace(0.03, 0.21, 12), 3)),
    "Fb": tuple(np.round(np.linspace(0.2, 2.0, 10), 2)),
}
DEFAULT = {"Fa": AXES["Fa"][8], "Fb": AXES["Fb"][7]}


NUM_CHUNKS, DIMENSION = 24, 16  # of `talk`


def results_table(
    axes: Mapping[str, Sequence[Any]],
    errors: np.ndarray,
    totals: np.ndarray,
    **columns: np.ndarray,
) -> pd.DataFrame:
    """A results table; errors (num_recordings, num_cells) in seconds are all confusion.

    Further columns, such as `num_speakers`, have the shape of `errors`.
    """
    cells = pd.DataFrame(list(product(*axes.values())), columns=list(axes))
    num_recordings = len(totals)
    table = pd.concat([cells] * num_recordings, ignore_index=True)
    table.insert(0, "uri", np.repeat([f"r{number:02d}" for number in range(num_recordings)], len(cells)))
    num_speakers = columns.pop("num_speakers", np.full(errors.shape, 4))
    table["num_speakers"] = num_speakers.ravel()
    table["num_reference_speakers"] = 4
    table["total"] = np.repeat(totals, len(cells))
    table["correct"] = table["total"] - errors.ravel()
    table["missed"] = 0.0
    table["false_alarm"] = 0.0
    table["confusion"] = errors.ravel()
    table["der"] = table["confusion"] / table["total"]
    for name, values in columns.items():
        table[name] = values.ravel()
    return table


def scattered_table(rng: np.random.Generator, num_recordings: int = 8, num_cells: int = 40) -> pd.DataFrame:
    """Results of a random search in intervals of Fa and Fb: no value comes twice."""
    errors = rng.uniform(5, 40, (num_recordings, num_cells))
    numbers = rng.integers(2, 8, errors.shape)
    table = results_table(
        {"Fa": rng.uniform(0.03, 0.3, num_cells)}, errors, np.full(num_recordings, 100.0),
        num_speakers=numbers, partition=np.arange(errors.size).reshape(errors.shape),
    )  # fmt: skip
    table.insert(2, "Fb", np.tile(rng.uniform(0.2, 17, num_cells), num_recordings))
    return table


def noise_grid(rng: np.random.Generator, *args: Any, **options: Any) -> pd.DataFrame:
    """The results table of `noise_errors`."""
    axes = options.get("axes", AXES)
    errors, totals, partition = noise_errors(rng, *args, **options)
    return results_table(axes, errors, totals, partition=partition)


def noise_cells(rng: np.random.Generator, *args: Any, **options: Any) -> CellTable:
    """The same without the detour over a table, which takes most of the time."""
    axes = options.get("axes", AXES)
    errors, totals, partition = noise_errors(rng, *args, **options)
    return CellTable(
        uris=tuple(f"r{number:02d}" for number in range(len(totals))),
        cells=pd.DataFrame(list(product(*axes.values())), columns=list(axes)),
        total=totals,
        missed=np.zeros_like(errors),
        false_alarm=np.zeros_like(errors),
        confusion=errors,
        jer=np.full(errors.shape, np.nan),
        num_scored_speakers=np.full(len(totals), 4),
        num_speakers=np.full(errors.shape, 4),
        num_reference_speakers=np.full(len(totals), 4),
        partition=partition,
        converged=np.ones(errors.shape, dtype=bool),
    )


def noise_errors(
    rng: np.random.Generator,
    kind: str = "smooth",
    num_recordings: int = 16,
    *,
    gain: float = 0.0,
    axes: Mapping[str, Sequence[Any]] = AXES,
    spread: float = 0.02,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells of equal worth on meetings of unequal length and difficulty, noise of `spread` DER on top.

    `independent`: every cell for itself. `smooth`: neighbours alike. `plateaus`: few distinct outputs per
    recording, errors skewed. `cliff`: smooth, and half of the grid is much worse.
    With a `gain` a patch of 3 x 3 cells is better by so much. Returned are the errors (num_recordings,
    num_cells) and the speech (num_recordings,) in seconds, and the partitions, shaped as the errors.
    """
    shape = tuple(len(values) for values in axes.values())
    noise = rng.normal(size=(num_recordings, *shape))
    if kind != "independent":
        noise = gaussian_filter(noise, (0, *[1.5] * len(shape)), mode="nearest")
    noise *= spread / noise.std()
    partition = np.arange(noise.size).reshape(noise.shape)
    if kind == "plateaus":
        partition = np.clip(np.floor(2 * noise / spread) + 4, 0, 8).astype(np.int64)
        worth = rng.exponential(spread, (num_recordings, 9))
        noise = np.take_along_axis(worth, partition.reshape(num_recordings, -1), axis=1).reshape(noise.shape)
    if kind == "cliff":
        noise = noise + 0.3 * (np.arange(shape[0]) < shape[0] // 2)[:, None]
    noise[:, 7:10, 1:4] -= gain
    totals = rng.uniform(600, 2400, num_recordings)
    difficulty = rng.beta(4, 12, num_recordings)
    errors = totals[:, None] * np.maximum(difficulty[:, None] + noise.reshape(num_recordings, -1), 0)
    return errors, totals, partition.reshape(num_recordings, -1)


def talk(uri: str, angle: float) -> tuple[Features, Annotation]:
    """Two people in turns of 6 s, their voices two unit vectors that are `angle` (rad) apart."""
    voices = np.zeros((2, DIMENSION))
    voices[0, 0], voices[1, :2] = 1.0, (np.cos(angle), np.sin(angle))
    who = np.arange(NUM_CHUNKS) // 6 % 2
    segmentations = np.zeros((NUM_CHUNKS, 10, 2), dtype=np.float32)
    segmentations[:, :, 0] = 1
    embeddings = np.full((NUM_CHUNKS, 2, DIMENSION), np.nan, dtype=np.float32)
    embeddings[:, 0] = voices[who]
    reference = Annotation(uri=uri)
    for turn in range(NUM_CHUNKS // 6):
        reference[Segment(6.0 * turn, 6.0 * (turn + 1))] = f"speaker {who[6 * turn]}"
    chunks, frames = SlidingWindow(0.0, 1.0, 1.0), SlidingWindow(0.0, 0.1, 0.1)
    features = Features(
        uri=uri, segmentations=segmentations, embeddings=embeddings, chunks=chunks, frames=frames
    )
    return features, reference
