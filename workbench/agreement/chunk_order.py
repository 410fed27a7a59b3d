"""Chunks that one side has in another order: a batch that came back reversed, files joined by name."""

from __future__ import annotations

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.flips import FrameComparison

_MOST = 64  # chunks that disagree, whose place is looked for
_DISAGREES = 0.95  # share of equal frames below which a chunk is not where it should be
_THE_SAME = 0.98  # share of equal frames from which two chunks are the same one
_CHANGES = 2  # of the class, that a chunk needs to be recognised by
_MOVED = 0.8  # share of the chunks that disagree which must be found elsewhere
_SHOWN = 6


def find_chunk_order(comparison: FrameComparison) -> Finding | None:
    """The chunks of the candidate that hold what the baseline has in another chunk; None if there are none.

    Examples
    --------
    >>> classes = np.random.default_rng(0).integers(0, 4, (6, 50)).astype(np.uint8)
    >>> zero = np.zeros((6, 50), dtype=np.float32)
    >>> swapped = classes[[0, 2, 1, 3, 4, 5]]
    >>> comparison = FrameComparison(
    ...     baseline=classes, candidate=swapped, margin=zero, candidate_margin=zero, difference=zero,
    ...     valid=zero == 0,
    ... )
    >>> print(find_chunk_order(comparison))
    the candidate's chunks are in another order: its chunk 1 is the baseline's 2, its 2 the baseline's 1
    """
    baseline, candidate = comparison.baseline, comparison.candidate
    num_chunks = len(baseline)
    equal = (baseline == candidate).mean(axis=1)
    telling = (np.diff(candidate.astype(np.int64), axis=1) != 0).sum(axis=1) >= _CHANGES
    moved = np.flatnonzero((equal < _DISAGREES) & telling)
    if num_chunks < 2 or not len(moved):
        return None
    looked_at = moved[np.unique(np.linspace(0, len(moved) - 1, min(_MOST, len(moved))).astype(int))]
    place = np.full(len(looked_at), -1)
    for index, chunk in enumerate(looked_at):
        alike = (baseline == candidate[chunk]).mean(axis=1)
        if alike.max() >= _THE_SAME:
            place[index] = int(alike.argmax())
    found = place >= 0
    if found.mean() < _MOVED or found.sum() < 2:
        return None
    pairs = [(int(c), int(p)) for c, p in zip(looked_at[found], place[found], strict=True)]
    offsets = {p - c for c, p in pairs}
    if all(c + p == num_chunks - 1 for c, p in pairs):
        how = "they are reversed"
    elif len(offsets) == 1:
        offset = offsets.pop()
        how = f"they are {'late' if offset < 0 else 'early'} by {abs(offset)} chunk{'s' * (abs(offset) > 1)}"
    else:
        first, *rest = pairs[:_SHOWN]
        how = f"its chunk {first[0]} is the baseline's {first[1]}"
        how += "".join(f", its {c} the baseline's {p}" for c, p in rest)
        how += " …" if len(pairs) > _SHOWN else ""
    words = f"the candidate's chunks are in another order: {how}"
    if all(equal[p] >= _THE_SAME for _, p in pairs):  # those are in their own places, too
        (begin, source), (last, end) = pairs[0], pairs[-1]
        words = (
            f"the candidate has chunks of before again (at least {len(moved)} of {num_chunks}, from "
            f"chunk {begin} to {last}; chunk {begin} is {source}, {last} is {end}): a buffer that was not "
            "filled again"
        )
    return Finding(kind="chunk_order", words=words, side="candidate", details={"chunks": pairs[:_MOST]})
