"""Clusterings, merges, activity and turns on two sides: what counts is who is together, not the names."""

from __future__ import annotations

import numpy as np
from pyannote.core import Annotation, Segment
from scipy.optimize import linear_sum_assignment

from workbench.scoring import score
from workbench.scoring.regions import find_errors
from workbench.steps.clock import Clock
from workbench.steps.differences import match_columns, shape_difference
from workbench.steps.names import Step
from workbench.steps.results import StepDifference
from workbench.tuning.stability import adjusted_rand_index


def compare_partitions(
    step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock, active: np.ndarray | None = None
) -> StepDifference:
    """Labels up to their names: adjusted Rand index, and the items that moved.

    Parameters
    ----------
    baseline, candidate : int arrays of one shape; negative: takes no part
    active : bool array of the same shape, optional
        Items that count: local speakers who never talk have labels without meaning.
    """
    if baseline.shape != candidate.shape:
        return shape_difference(step, baseline, candidate, clock)
    first, second = baseline.astype(np.int64), candidate.astype(np.int64)
    used = (first >= 0) & (second >= 0)
    if active is not None and active.shape == first.shape:
        used |= active & ((first >= 0) | (second >= 0))
        used &= active
    a, b = first[used], second[used]
    matched = _matched_labels(a, b)
    moved = np.zeros(first.shape, dtype=bool)
    moved[used] = matched != a
    ari = adjusted_rand_index(a, b) if len(a) else 1.0
    sizes = (len(np.unique(a[a >= 0])), len(np.unique(b[b >= 0])))
    details = {
        "ari": ari,
        "moved": int(moved.sum()),
        "num_clusters_baseline": sizes[0],
        "num_clusters_candidate": sizes[1],
    }
    if not moved.any():
        renamed = bool((a != b).any())
        return StepDifference(
            step=step.name,
            status="same",
            max_abs_diff=0.0,
            num_values=int(used.sum()),
            words="the same speakers under other numbers" if renamed else "the same",
            details=details,
        )
    places = np.argwhere(moved)
    index = tuple(int(each) for each in places[0])
    spans = clock.spans(step, places)
    place = ", ".join(f"{axis} {number}" for axis, number in zip(step.axes, index, strict=False))
    when = f" ({spans[0, 0]:.2f}–{spans[0, 1]:.2f} s)" if np.isfinite(spans[0]).all() else ""
    return StepDifference(
        step=step.name,
        status="differs",
        max_abs_diff=float(moved.sum()),
        num_different=int(moved.sum()),
        num_values=int(used.sum()),
        index=index,
        values=(int(first[index]), int(second[index])),
        at=(float(spans[0, 0]), float(spans[0, 1])) if when else None,
        start=float(np.nanmin(spans[:, 0])) if np.isfinite(spans).any() else None,
        end=float(np.nanmax(spans[:, 1])) if np.isfinite(spans).any() else None,
        words=(
            f"{int(moved.sum())} of {int(used.sum())} items moved (adjusted Rand index {ari:.4f}; {sizes[0]} "
            f"clusters against {sizes[1]}), the first at {place}{when}: {first[index]} against "
            f"{second[index]}"
        ),
        details=details,
    )


def _matched_labels(baseline: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Candidate's labels renamed so that most items agree; -1 where a label has no partner."""
    old, first = np.unique(baseline, return_inverse=True)
    new, second = np.unique(candidate, return_inverse=True)
    if not len(baseline):
        return baseline
    table = np.zeros((len(old), len(new)), dtype=np.int64)
    np.add.at(table, (first, second), 1)
    for labels, axis in ((old, 0), (new, 1)):  # who takes no part is nobody's partner
        table.swapaxes(0, axis)[labels < 0] = 0
    rows, columns = linear_sum_assignment(-table)
    names = np.full(len(new), -1, dtype=np.int64)
    names[columns] = old[rows]
    names[new < 0] = -2
    renamed: np.ndarray = names[second]
    return np.where((baseline < 0) & (candidate < 0), baseline, renamed)


def compare_linkages(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """Linkage matrices row by row; the two clusters of a merge may be in either order.

    Inversions (a merge below the one before) are allowed, as centroid linkage makes them. A tree whose
    merges are the same in another order of rows is the same tree, and is named as such.
    """
    if baseline.shape != candidate.shape or baseline.ndim != 2 or baseline.shape[1] != 4:
        return shape_difference(step, baseline, candidate, clock)
    first, second = baseline.astype(np.float64), candidate.astype(np.float64)
    for each in (first, second):
        each[:, :2] = np.sort(each[:, :2], axis=1)
    limit = step.absolute + step.relative * np.abs(first[:, 2])
    gap = np.abs(first[:, 2] - second[:, 2])
    heights, pairs = gap > limit, (first[:, :2] != second[:, :2]).any(axis=1)
    wrong = heights | pairs | (first[:, 3] != second[:, 3]) | np.isnan(gap)
    inversions = [int((np.diff(each[:, 2]) < 0).sum()) for each in (first, second)]
    details = {"inversions_baseline": inversions[0], "inversions_candidate": inversions[1]}
    if not wrong.any():
        exact = not gap.any()
        return StepDifference(
            step=step.name,
            status="same" if exact else "within",
            max_abs_diff=float(gap.max(initial=0.0)),
            num_values=len(first),
            words=f"{'the same merges' if exact else f'heights differ by up to {gap.max():.3g}'}, with "
            f"{inversions[0]} inversions",
            details=details,
        )
    if _same_tree(first, second, step):
        return StepDifference(
            step=step.name,
            status="within",
            max_abs_diff=float(np.abs(np.sort(first[:, 2]) - np.sort(second[:, 2])).max()),
            num_values=len(first),
            words="the same tree, its merges in another order of rows",
            details=details,
        )
    row = int(np.flatnonzero(wrong)[0])
    a, b = first[row], second[row]
    what = (
        f"clusters {a[0]:.0f} and {a[1]:.0f} merge, against {b[0]:.0f} and {b[1]:.0f}"
        if pairs[row]
        else f"clusters {a[0]:.0f} and {a[1]:.0f} merge at height {a[2]:.6g} against {b[2]:.6g}"
    )
    column = 2 if heights[row] else (0 if pairs[row] else 3)
    if pairs[row] and a[0] == b[0]:
        column = 1
    return StepDifference(
        step=step.name,
        status="differs",
        max_abs_diff=float(np.nanmax(gap)),
        num_different=int(wrong.sum()),
        num_values=len(first),
        index=(row, column),
        values=(float(a[column]), float(b[column])),
        words=(
            f"{int(wrong.sum())} of {len(first)} merges differ, the first in row {row}: {what} (heights "
            f"{a[2]:.6g} and {b[2]:.6g}; {inversions[0]} inversions against {inversions[1]})"
        ),
        details=details,
    )


def _same_tree(first: np.ndarray, second: np.ndarray, step: Step) -> bool:
    """Whether both join the same sets of leaves at the same heights, in whatever order."""
    leaves = np.random.default_rng(0).integers(1, 2**63, len(first) + 1, dtype=np.uint64)
    found = []
    for merges in (first, second):
        marks = [int(leaf) for leaf in leaves]
        sets = []
        for left, right, height, _ in merges:
            if max(left, right) >= len(marks) or min(left, right) < 0:
                return False
            marks.append((marks[int(left)] + marks[int(right)]) % 2**64)
            sets.append((marks[-1], height))
        found.append(sorted(sets))
    if [mark for mark, _ in found[0]] != [mark for mark, _ in found[1]]:
        return False
    heights = [np.array([height for _, height in sets]) for sets in found]
    gap: np.ndarray = np.abs(heights[0] - heights[1])
    return bool((gap <= step.absolute + step.relative * np.abs(heights[0])).all())


def compare_activity(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """Frames of speakers, up to the order of the speakers: 0/1 arrays (num_frames, num_speakers)."""
    if baseline.ndim != 2 or candidate.ndim != 2:
        return shape_difference(step, baseline, candidate, clock)
    note = ""
    if len(baseline) != len(candidate):
        whole = shape_difference(step, baseline[:, :1] * 0, candidate[:, :1] * 0, clock)
        note = whole.words.split("; what both")[0]
        size = min(len(baseline), len(candidate))
        baseline, candidate = baseline[:size], candidate[:size]
    ordered, _ = match_columns(baseline, candidate)
    width = ordered.shape[1]
    first = np.pad(baseline, ((0, 0), (0, width - baseline.shape[1]))) > 0.5
    wrong = first != (ordered > 0.5)
    frames = np.flatnonzero(wrong.any(axis=1))
    details = {"frames": len(frames)}
    if not len(frames):
        return StepDifference(
            step=step.name,
            status="differs" if note else "same",
            max_abs_diff=0.0,
            num_values=first.size,
            words=f"{note}; what both have is the same" if note else "the same",
            details=details,
        )
    places = np.argwhere(wrong)
    spans = clock.spans(step, places)
    index = tuple(int(each) for each in places[0])
    when = f" ({spans[0, 0]:.2f}–{spans[0, 1]:.2f} s)" if np.isfinite(spans[0]).all() else ""
    return StepDifference(
        step=step.name,
        status="differs",
        max_abs_diff=1.0,
        num_different=int(wrong.sum()),
        num_values=first.size,
        index=index,
        values=(int(first[index]), int(ordered[index] > 0.5)),
        at=(float(spans[0, 0]), float(spans[0, 1])) if when else None,
        start=float(spans[:, 0].min()) if np.isfinite(spans).all() else None,
        end=float(spans[:, 1].max()) if np.isfinite(spans).all() else None,
        words=f"{note + '; ' if note else ''}speakers differ in {len(frames)} of {len(first)} frames, the "
        f"first frame {index[0]}{when}",
        details=details,
    )


def compare_segments(step: Step, baseline: np.ndarray, candidate: np.ndarray, clock: Clock) -> StepDifference:
    """Turns (num_segments, 3): start, end (s), speaker; up to the names of the speakers."""
    if any(each.ndim != 2 or each.shape[1] != 3 for each in (baseline, candidate)):
        return shape_difference(step, baseline, candidate, clock)
    first, second = as_annotation(baseline), as_annotation(candidate)
    counts = score(first, second)
    errors = find_errors(first, second)
    real = errors[errors["end"] - errors["start"] > step.absolute]
    seconds = counts.missed + counts.false_alarm + counts.confusion
    details = {
        "cross_der": counts.der if counts.total else None,
        "seconds": seconds,
        "num_segments_baseline": len(baseline),
        "num_segments_candidate": len(candidate),
    }
    if not len(real):
        exact = seconds == 0
        return StepDifference(
            step=step.name,
            status="same" if exact else "within",
            max_abs_diff=seconds,
            num_values=len(baseline),
            words="the same" if exact else "boundaries differ by less than the tolerance",
            details=details,
        )
    row = real.iloc[0]
    return StepDifference(
        step=step.name,
        status="differs",
        max_abs_diff=seconds,
        num_different=len(real),
        num_values=len(baseline),
        values=(row["reference_speaker"], row["hypothesis_speaker"]),
        at=(float(row["start"]), float(row["end"])),
        start=float(real["start"].min()),
        end=float(real["end"].max()),
        words=(
            f"{seconds:.2f} s of speech differ in {len(real)} regions, the first {row['start']:.2f}–"
            f"{row['end']:.2f} s: {str(row['kind']).replace('_', ' ')}"
        ),
        details=details,
    )


def as_annotation(segments: np.ndarray) -> Annotation:
    """Turns (num_segments, 3) as an annotation."""
    annotation = Annotation()
    for number, (start, end, speaker) in enumerate(segments.tolist()):
        annotation[Segment(start, end), number] = f"{speaker:g}"
    return annotation
