"""Which tensors of a foreign ONNX graph are the stages of a known network: by order, shape and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from workbench.runtimes.onnx_stages import Door, StageGraph

_CERTAIN = 0.999  # likeness above which a tensor is the stage, rounding and 8-bit weights included
_TRIED = 4  # tensors for a stage behind which a fault lies
_ALIKE = 0.5  # least likeness of a stage with its faulty twin; chance rarely gets there
_SILENT = {"Constant", "ConstantOfShape", "Shape", "Range"}  # operations whose results carry no signal


def match_stages(
    graph: StageGraph, reference: Mapping[str, np.ndarray], waveforms: np.ndarray, memory_cap: int
) -> dict[str, Door]:
    """Doors for the stages of another runtime, for a graph that does not name its own.

    Tensors have the shape of a stage but for the order of axes and axes of size 1, and correlate with it.
    Among all ways to pair them that keep both in the order of computation, the one with the largest sum of
    correlations is taken. Behind a fault nothing correlates well; so the graph goes on from the reference's
    stage there, at the tensor after which the rest fits best.

    Parameters
    ----------
    graph : stages of the runtime to be matched
    reference : stage -> array, in the order of computation, on the same waveforms
    waveforms : float array, shape (batch, num_samples), in [-1, 1)
    memory_cap : bytes that the tensors read at once may take
    """
    model = graph.model
    if model is None:
        return {}
    produced = graph.produced()
    tensors = [
        tensor
        for node in model.graph.node
        if node.op_type not in _SILENT
        for tensor in node.output
        if tensor in produced
    ]
    same_as = _duplicates(reference)
    stages = [name for name in reference if name != graph.output_stage and same_as[name] == name]
    reader = _Reader(graph, reference, waveforms, memory_cap)
    found: dict[str, Door] = {}
    given: dict[str, tuple[Door, np.ndarray]] = {}
    while stages and tensors:
        table = reader.scores(stages, tensors, given)
        pairs = monotone_pairs(table.scores)
        doubtful = next((row for row, column in pairs if table.scores[row, column] < _CERTAIN), None)
        for row, column in pairs:
            if row == doubtful:
                break
            found[stages[row]] = table.doors[row, column]
        if doubtful is None:
            break
        begin = max((column + 1 for row, column in pairs if row < doubtful), default=0)
        chosen = _choose(reader, table, stages, tensors, given, doubtful, begin)
        name = stages[doubtful]
        found[name] = table.doors[doubtful, chosen]
        given = {**given, name: (found[name], reference[name])}
        stages, tensors = stages[doubtful + 1 :], tensors[chosen + 1 :]
    return {name: found[same_as[name]] for name in reference if same_as[name] in found}


@dataclass(frozen=True)
class _Table:
    """How alike stages (rows) and tensors (columns) are; 0 where they are not."""

    scores: np.ndarray
    doors: dict[tuple[int, int], Door]


@dataclass(frozen=True)
class _Reader:
    """Reads tensors under a memory cap and compares them with stages."""

    graph: StageGraph
    reference: Mapping[str, np.ndarray]
    waveforms: np.ndarray
    memory_cap: int

    def scores(
        self,
        stages: Sequence[str],
        tensors: Sequence[str],
        given: Mapping[str, tuple[Door, np.ndarray]],
    ) -> _Table:
        """Every stage against every tensor."""
        largest = max(self.reference[name].nbytes for name in stages)
        at_once = max(1, int(self.memory_cap // max(1, 8 * largest)))
        scores = np.zeros((len(stages), len(tensors)))
        doors: dict[tuple[int, int], Door] = {}
        for first in range(0, len(tensors), at_once):
            arrays = self.graph.read(tensors[first : first + at_once], self.waveforms, given)
            for column in range(first, min(first + at_once, len(tensors))):
                array = arrays[tensors[column]]
                if array.dtype.kind != "f":
                    continue
                for row, name in enumerate(stages):
                    score, axes = likeness(self.reference[name], array)
                    if score > _ALIKE:
                        scores[row, column] = score
                        same_rank = array.ndim == self.reference[name].ndim
                        shape = None if same_rank else tuple(array.shape)
                        doors[row, column] = Door(tensor=tensors[column], axes=axes, shape=shape)
        return _Table(scores, doors)


def _choose(
    reader: _Reader,
    table: _Table,
    stages: Sequence[str],
    tensors: Sequence[str],
    given: Mapping[str, tuple[Door, np.ndarray]],
    row: int,
    begin: int,
) -> int:
    """The tensor for a stage that resembles several: that from which the rest of the graph fits best."""
    columns = [column for column in range(begin, len(tensors)) if table.scores[row, column] > 0]
    columns = sorted(columns, key=lambda column: -table.scores[row, column])[:_TRIED]
    rest = stages[row + 1 :]
    totals = []
    for column in columns:
        after = tensors[column + 1 :]
        total = 0.0
        if rest and after:
            name = stages[row]
            fed = {**given, name: (table.doors[row, column], reader.reference[name])}
            scores = reader.scores(rest, after, fed).scores
            total = sum(scores[pair] for pair in monotone_pairs(scores))
        totals.append((round(total, 6), table.scores[row, column], -column))
    return -max(totals)[2]


def _duplicates(reference: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Every stage, and the first one with the same values: the end of a part is also the end of the whole."""
    first: dict[tuple[tuple[int, ...], bytes], str] = {}
    return {name: first.setdefault((a.shape, a.tobytes()), name) for name, a in reference.items()}


def likeness(stage: np.ndarray, array: np.ndarray) -> tuple[float, tuple[int, ...] | None]:
    """How alike an array and a stage are, over the orders of the array's axes, and the best order.

    The mean of two correlations: Pearson's, which a wrong scale does not disturb, and Lin's, which tells an
    array from itself before or after a normalisation; 1 for equal arrays.

    Examples
    --------
    >>> stage = np.random.default_rng(0).standard_normal((1, 5, 3))
    >>> score, axes = likeness(stage, stage.transpose(0, 2, 1))
    >>> round(score, 3), axes
    (1.0, (0, 2, 1))
    """
    if stage.size != array.size or not np.isfinite(array).all():
        return 0.0, None
    if array.ndim != stage.ndim:
        array = array.squeeze()
        if array.ndim != stage.ndim:
            return 0.0, None
    best: tuple[float, tuple[int, ...] | None] = (0.0, None)
    for axes in permutations(range(stage.ndim)):
        if tuple(array.shape[axis] for axis in axes) != stage.shape:
            continue
        score = _correlation(stage.astype(np.float64), array.transpose(axes).astype(np.float64))
        if score > best[0]:
            best = (score, None if axes == tuple(range(stage.ndim)) else axes)
    return best


def monotone_pairs(scores: np.ndarray) -> Sequence[tuple[int, int]]:
    """Pairs (row, column), both rising, with the largest sum of scores; each row and column once at most.

    Examples
    --------
    >>> monotone_pairs(np.array([[0.0, 0.9, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 0.7]]))
    [(0, 1), (2, 2)]
    """
    num_rows, num_columns = scores.shape
    best = np.zeros((num_rows + 1, num_columns + 1))
    for row in range(num_rows):
        taken = best[row, :-1] + scores[row]
        taken[scores[row] <= 0] = -np.inf
        # the best of: leave the row out, take a column, or do as well with a column less
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(best[row, 1:], taken))
    pairs = []
    row, column = num_rows, num_columns
    while row and column:
        if best[row, column] == best[row, column - 1]:
            column -= 1
        elif best[row, column] == best[row - 1, column]:
            row -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return pairs[::-1]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Mean of Pearson's and Lin's (1989) correlation coefficients; 0 where one array is constant."""
    means = one.mean(), other.mean()
    covariance = float(((one - means[0]) * (other - means[1])).mean())
    variances = float(one.var()), float(other.var())
    if min(variances) <= 0:
        return 0.0
    pearson = covariance / np.sqrt(variances[0] * variances[1])
    lin = 2 * covariance / (sum(variances) + (means[0] - means[1]) ** 2)
    return float((pearson + lin) / 2)
