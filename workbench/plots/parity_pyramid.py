"""An hour at every zoom, computed once: columns of doubling width that keep the largest and every flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.agreement.frame_axis import FrameAxis

FINEST = 0.005  # s: shorter than any frame, so a column holds flips of one moment only
COARSEST = 100  # columns of the last level: fewer are never drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class FlipColumns:
    """Flips of one kind in one column as one: the one with the largest margin, or without numbers.

    Every array has shape (num_marks,); marks are sorted by `column`.

    Attributes
    ----------
    column : int64, which column of the level
    time : float64, s
    row : int64, position in the table of flips
    flips : int64, how many share the column
    near_tie : bool; real flips and near-ties never share a mark
    margin : float64, nats
    rank : float64, the margin; infinite where scores of a side are not numbers, which is worst of all
    """

    column: np.ndarray
    time: np.ndarray
    row: np.ndarray
    flips: np.ndarray
    near_tie: np.ndarray
    margin: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.column)

    def part(self, rows: slice | np.ndarray) -> FlipColumns:
        """Some of the marks."""
        return FlipColumns(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True, eq=False)
class FlipPyramid:
    """Flips in columns of `FINEST` s, and of twice, four times, ... as much.

    Columns are counted from the beginning of the recording, so that marks stay where they are while the view
    moves.
    """

    levels: Sequence[FlipColumns]

    @classmethod
    def of(cls, flips: pd.DataFrame, duration: float) -> FlipPyramid:
        """All levels of flips that are sorted by `time`.

        Parameters
        ----------
        flips : with `time` (s), `margin` and `candidate_margin` (nats), and `near_tie`
        duration : of the recording, s
        """
        time = flips["time"].to_numpy(dtype=np.float64)
        margins = [flips[name].to_numpy(dtype=np.float64) for name in ("margin", "candidate_margin")]
        level = FlipColumns(
            column=np.floor(time / FINEST).astype(np.int64),
            time=time,
            row=np.arange(len(flips)),
            flips=np.ones(len(flips), dtype=np.int64),
            near_tie=flips["near_tie"].to_numpy(dtype=bool),
            margin=margins[0],
            rank=np.where(np.isnan(margins).any(axis=0), np.inf, margins[0]),
        )
        levels = [_merged(level, level.column)]
        while duration / (FINEST * 2 ** (len(levels) - 1)) > 2 * COARSEST:
            levels.append(_merged(levels[-1], levels[-1].column // 2))
        return cls(levels=levels)

    def between(self, start: float, end: float, widest: float) -> FlipColumns:
        """Marks that stand for every flip between `start` and `end` (s).

        Parameters
        ----------
        widest : s, what a column may span; columns never become narrower than `FINEST`
        """
        number = _level_below(widest / FINEST, len(self.levels))
        level, width = self.levels[number], FINEST * 2**number
        first = np.searchsorted(level.column, np.floor(start / width), "left")
        last = np.searchsorted(level.column, np.floor(end / width), "right")
        return level.part(slice(int(first), int(last)))


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisColumns:
    """What a stretch of a `FrameAxis` looks like, column by column.

    Attributes
    ----------
    first : first moment of the first column
    moments : how many moments a column holds
    baseline, candidate : uint8 arrays, shape (num_columns, num_classes), largest probability times 255
    difference : float32 array, shape (num_columns,), largest, in nats
    """

    first: int
    moments: int
    baseline: np.ndarray
    candidate: np.ndarray
    difference: np.ndarray

    def __len__(self) -> int:
        return len(self.difference)


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisPyramid:
    """A `FrameAxis` in columns of one moment, of two, of four, ...: of each class the largest probability."""

    axis: FrameAxis
    levels: Sequence[AxisColumns]

    @classmethod
    def of(cls, axis: FrameAxis) -> AxisPyramid:
        """All levels of `axis`."""
        whole = AxisColumns(
            first=0,
            moments=1,
            baseline=axis.baseline,
            candidate=axis.candidate,
            difference=axis.difference,
        )
        levels = [whole]
        while len(levels[-1]) > 2 * COARSEST:
            below = levels[-1]
            levels.append(
                AxisColumns(
                    first=0,
                    moments=2 * below.moments,
                    baseline=_pairs(below.baseline),
                    candidate=_pairs(below.candidate),
                    difference=_pairs(below.difference),
                )
            )
        return cls(axis=axis, levels=levels)

    def between(self, start: float, end: float, narrowest: float) -> AxisColumns:
        """Columns from `start` to `end` (s), of at least `narrowest` seconds where there are any so wide."""
        axis = self.axis
        number = 0
        while number + 1 < len(self.levels) and self.levels[number].moments * axis.step < narrowest:
            number += 1
        level = self.levels[number]
        moment = (np.array([start, end]) - axis.offset) / axis.step + 0.5
        first, last = np.floor(moment / level.moments).astype(np.int64)
        first = int(np.clip(first, 0, len(level) - 1))
        last = int(np.clip(last + 1, first + 1, len(level)))
        return AxisColumns(
            first=first * level.moments,
            moments=level.moments,
            baseline=level.baseline[first:last],
            candidate=level.candidate[first:last],
            difference=level.difference[first:last],
        )


def _merged(marks: FlipColumns, column: np.ndarray) -> FlipColumns:
    """Marks of one kind that come to share a column as one."""
    place = 2 * column + marks.near_tie
    order = np.lexsort((-marks.rank, place))
    begins = np.flatnonzero(np.diff(place[order], prepend=-1))
    best = marks.part(order[begins])
    return FlipColumns(
        column=column[order[begins]],
        time=best.time,
        row=best.row,
        flips=np.add.reduceat(marks.flips[order], begins) if len(begins) else marks.flips,
        near_tie=best.near_tie,
        margin=best.margin,
        rank=best.rank,
    )


def _pairs(values: np.ndarray) -> np.ndarray:
    """The larger of every two neighbours; a last one without a neighbour stays."""
    paired = values[0::2].copy()
    np.maximum(paired[: len(values) // 2], values[1::2], out=paired[: len(values) // 2])
    return paired


def _level_below(ratio: float, num_levels: int) -> int:
    """The highest level of doubling whose columns are at most `ratio` times the finest."""
    return int(np.clip(np.floor(np.log2(max(ratio, 1.0))), 0, num_levels - 1))
