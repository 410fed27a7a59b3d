"""Frames on which two runtimes decide otherwise, and whether that was a close call.

Let two runtimes differ by at most ``d`` in the log-probabilities of a frame. A class that wins on one
side by a margin above ``2 * d`` wins on the other, too: so a flip needs a margin of at most twice the
difference, and a flip with a small margin was a toss-up that rounding may decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.powerset import Classes, mapping
from workbench.types import SlidingWindow

NEAR_TIE = 0.1
"""Margin (nats) up to which a flip is a near-tie: the best class is at most 10.5 % likelier than the next."""

DISTANCES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, np.inf)
"""Edges (s) of the bins in which flips are counted by their distance from something."""

FLIP_COLUMNS = (
    "chunk",
    "frame",
    "time",
    "baseline",
    "candidate",
    "margin",
    "candidate_margin",
    "difference",
    "near_tie",
    "within_bound",
    "boundary",
    "edge",
    "overlap",
    "speakers",
)
_TABLES = {"transition": ["baseline", "candidate"], "boundary": ["distance"], "edge": ["distance"]}
_TABLES["overlap"] = ["speakers"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameComparison:
    """Two runs frame by frame, small enough to keep for hours.

    Every array has shape (num_chunks, num_frames).

    Attributes
    ----------
    baseline, candidate : uint8 or uint16, best class of every frame
    margin, candidate_margin : float32, gap between the best and the second-best class, in nats
    difference : float32, largest absolute difference of any class
    valid : bool, False where the candidate has no such frame, after alignment
    """

    baseline: np.ndarray
    candidate: np.ndarray
    margin: np.ndarray
    candidate_margin: np.ndarray
    difference: np.ndarray
    valid: np.ndarray

    @property
    def num_frames(self) -> int:
        """Frames that were compared."""
        return int(self.valid.sum())

    @property
    def flipped(self) -> np.ndarray:
        """Where the best class differs, or the candidate gives no usable values; bool."""
        unusable = np.isnan(self.difference)
        result: np.ndarray = ((self.baseline != self.candidate) | unusable) & self.valid
        return result

    @classmethod
    def concatenate(cls, parts: Sequence[FrameComparison]) -> FrameComparison:
        """Batches of chunks, one after the other."""
        names = ("baseline", "candidate", "margin", "candidate_margin", "difference", "valid")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def powerset_margin(log_probs: np.ndarray) -> np.ndarray:
    """Gap between the best and the second-best powerset class of every frame.

    Two runtimes whose log-probabilities differ by at most `eps` can disagree on a frame only where its
    margin is at most `2 * eps`.

    Parameters
    ----------
    log_probs : float array, shape (num_chunks, num_frames, num_powerset_classes)
        Natural-log probabilities, as returned by `Runtime.segment`.

    Returns
    -------
    margin : float array, shape (num_chunks, num_frames)
        In nats, never negative.

    Examples
    --------
    >>> powerset_margin(np.log([[[0.7, 0.2, 0.1]]])).round(3)
    array([[1.253]])
    """
    if log_probs.ndim != 3 or log_probs.shape[-1] < 2:
        raise ValueError(
            "log_probs must have shape (num_chunks, num_frames, num_powerset_classes) with at "
            f"least 2 classes, got {log_probs.shape}; for a single chunk pass log_probs[None]"
        )
    second, best = np.moveaxis(np.partition(log_probs, -2, axis=-1)[..., -2:], -1, 0)
    with np.errstate(invalid="ignore"):
        return np.where(best == second, 0.0, best - second)  # -inf on both is a tie


def compare_frames(
    baseline: np.ndarray, candidate: np.ndarray, valid: np.ndarray | None = None
) -> FrameComparison:
    """Best classes, margins and differences of two runs.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (num_chunks, num_frames, num_powerset_classes)
        Natural-log probabilities.
    valid : bool array, shape (num_chunks, num_frames), optional
        Which frames count; all by default.
    """
    if baseline.shape != candidate.shape:
        raise ValueError(
            f"baseline and candidate must have one shape, got {baseline.shape} and {candidate.shape}"
        )
    index = np.uint8 if baseline.shape[-1] <= 256 else np.uint16
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.where(baseline == candidate, 0.0, candidate - baseline)).max(axis=-1)
    return FrameComparison(
        baseline=baseline.argmax(axis=-1).astype(index),
        candidate=candidate.argmax(axis=-1).astype(index),
        margin=powerset_margin(baseline).astype(np.float32),
        candidate_margin=powerset_margin(candidate).astype(np.float32),
        difference=difference.astype(np.float32),
        valid=np.ones(difference.shape, dtype=bool) if valid is None else valid,
    )


def find_flips(
    comparison: FrameComparison,
    classes: Classes,
    chunks: SlidingWindow,
    frames: SlidingWindow,
    near_tie: float = NEAR_TIE,
) -> pd.DataFrame:
    """One row per frame whose class changes, in order of chunk and frame.

    Parameters
    ----------
    comparison : both runs
    classes : class -> its speakers
    chunks, frames : time axes of the chunks, and of the frames within a chunk
    near_tie : largest margin (nats) of a near-tie

    Returns
    -------
    flips : DataFrame
        `chunk`, `frame`; `time` (s, middle of the frame in the recording); `baseline` and `candidate` (best
        classes); `margin` and `candidate_margin` (nats); `difference` (largest of any class, nats);
        `near_tie`, by the baseline's margin: else the flip is real; `within_bound`, whether the margin is at
        most twice the difference, as it must be; `boundary` (s) and `edge` (s), how far the baseline's
        nearest change of class and the chunk's nearest end are; `overlap`, whether the baseline hears
        several speakers; `speakers`, how many local speakers change their state.
    """
    chunk, frame = np.nonzero(comparison.flipped)
    rows = (chunk, frame)
    table = mapping(classes)
    b, c = comparison.baseline[rows], comparison.candidate[rows]
    margin, difference = comparison.margin[rows], comparison.difference[rows]
    num_frames = comparison.baseline.shape[1]
    slack = 1e-5 * np.maximum(1.0, margin)  # the two sides are float32 and so is their gap
    return pd.DataFrame(
        {
            "chunk": chunk.astype(np.int32),
            "frame": frame.astype(np.int32),
            "time": chunks.start_of(chunk) + frames.middle_of(frame),
            "baseline": b,
            "candidate": c,
            "margin": margin,
            "candidate_margin": comparison.candidate_margin[rows],
            "difference": difference,
            "near_tie": (margin <= near_tie) & ~np.isnan(difference),
            "within_bound": ~(margin > 2 * difference + slack),
            "boundary": (boundary_distance(comparison.baseline)[rows] * frames.step).astype(np.float32),
            "edge": (np.minimum(frame, num_frames - 1 - frame) * frames.step).astype(np.float32),
            "overlap": table[b].sum(axis=1) > 1,
            "speakers": np.abs(table[b] - table[c]).sum(axis=1).astype(np.int8),
        },
        columns=list(FLIP_COLUMNS),
    )


def boundary_distance(best: np.ndarray) -> np.ndarray:
    """How far every frame's middle is from the nearest change of class in its chunk, in frames.

    Parameters
    ----------
    best : int array, shape (num_chunks, num_frames)

    Returns
    -------
    distance : float32 array, shape (num_chunks, num_frames)
        Infinite in chunks of a single class.

    Examples
    --------
    >>> boundary_distance(np.array([[0, 0, 1, 1]]))
    array([[1.5, 0.5, 0.5, 1.5]], dtype=float32)
    """
    num_chunks, num_frames = best.shape
    position = np.arange(num_frames, dtype=np.float32)
    changed = np.zeros((num_chunks, num_frames + 1), dtype=bool)  # between frame f - 1 and frame f
    changed[:, 1:-1] = best[:, 1:] != best[:, :-1]
    edge = np.arange(num_frames + 1, dtype=np.float32)
    before = np.maximum.accumulate(np.where(changed, edge, -np.inf), axis=1)[:, :-1]
    after = np.minimum.accumulate(np.where(changed, edge, np.inf)[:, ::-1], axis=1)[:, ::-1][:, 1:]
    middle = position + 0.5
    return np.minimum(middle - before, after - middle).astype(np.float32)


def count_flips(
    comparison: FrameComparison, flips: pd.DataFrame, classes: Classes, frame_step: float
) -> dict[str, pd.DataFrame]:
    """Flips by class transition, distance from a speaker change, overlap and distance from a chunk's edge.

    Parameters
    ----------
    comparison, classes : as in `find_flips`
    flips : what `find_flips` gave
    frame_step : seconds

    Returns
    -------
    tables : dict of DataFrames
        `transition`: baseline, candidate (classes), flips, real. `boundary`, `edge`: distance (lower edge of
        the bin, s), frames, flips, real. `overlap`: speakers (at once, in the baseline), frames, flips,
        real. They add: see `add_tables`.
    """
    real = ~flips["near_tie"]
    pairs = flips.groupby(["baseline", "candidate"], sort=True).agg(
        flips=("near_tie", "size"), near=("near_tie", "sum")
    )
    pairs["real"] = pairs["flips"] - pairs.pop("near")
    valid = comparison.valid
    num_frames = comparison.baseline.shape[1]
    position = np.arange(num_frames)
    edge = np.broadcast_to(np.minimum(position, num_frames - 1 - position) * frame_step, valid.shape)
    at_once = mapping(classes).sum(axis=1).astype(np.int64)[comparison.baseline]
    tables = {"transition": pairs.reset_index()}
    for name, values in (("boundary", boundary_distance(comparison.baseline) * frame_step), ("edge", edge)):
        tables[name] = pd.DataFrame(
            {
                "distance": DISTANCES[:-1],
                "frames": _binned(values[valid]),
                "flips": _binned(flips[name].to_numpy()),
                "real": _binned(flips.loc[real, name].to_numpy()),
            }
        )
    most = int(at_once.max(initial=0))
    flipped_at_once = at_once[flips["chunk"].to_numpy(), flips["frame"].to_numpy()]
    tables["overlap"] = pd.DataFrame(
        {
            "speakers": np.arange(most + 1),
            "frames": np.bincount(at_once[valid], minlength=most + 1),
            "flips": np.bincount(flipped_at_once, minlength=most + 1),
            "real": np.bincount(flipped_at_once[real.to_numpy()], minlength=most + 1),
        }
    )
    return tables


def add_tables(tables: Sequence[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables of several recordings as one."""
    return {
        name: pd.concat([each[name] for each in tables]).groupby(keys, as_index=False).sum()
        for name, keys in _TABLES.items()
        if tables
    }


def class_name(members: Sequence[int]) -> str:
    """What a powerset class is called: the speakers it says are active.

    Examples
    --------
    >>> class_name(()), class_name((0, 2))
    ('nobody', '0+2')
    """
    return "+".join(str(speaker) for speaker in members) or "nobody"


def _binned(distances: np.ndarray) -> np.ndarray:
    index = np.searchsorted(DISTANCES, distances, side="right") - 1
    return np.bincount(np.clip(index, 0, len(DISTANCES) - 2), minlength=len(DISTANCES) - 1)
