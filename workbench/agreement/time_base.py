"""Why two runs do not lie on top of each other: frames, steps, offsets, orders of classes and speakers.

Everything is found from the posteriors of a few chunks and said in words and milliseconds; the same
findings give the `Alignment` under which the comparison can go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from workbench.agreement.alignment import (
    Alignment,
    best_order,
    clipped,
    distance,
    interpolate_frames,
    values_as_log_probs,
)
from workbench.agreement.findings import Finding
from workbench.errors import RecordingError
from workbench.types import Geometry

_MAX_LAG = 1.0  # s, how far a shift is searched for
_NOTICEABLE = 2e-3  # mean total variation below which two runs need no explanation
_BETTER = 0.5  # an explanation leaves at most this part of the distance
_HALF_BETTER = 0.85  # a shift by half a frame can only be undone approximately
_ROUNDS = 3  # explanations that are put on top of each other


def diagnose(
    baseline: np.ndarray,
    candidate: np.ndarray,
    geometry: Geometry,
    other: Geometry,
    alignment: Alignment | None = None,
) -> tuple[Alignment, list[Finding]]:
    """Compare a few chunks of both sides and say what keeps them apart.

    Parameters
    ----------
    baseline : float array, shape (num_chunks, num_frames, num_classes)
    candidate : float array, shape (num_chunks, num_candidate_frames, num_classes)
        The same chunks; axes ordered already.
    geometry, other : of the baseline and of the candidate, as they say
    alignment : what is known already: the order of the axes and of the chunks
    """
    alignment = alignment or Alignment()
    findings: list[Finding] = []
    normalise, found = _values(candidate)
    base_normalise, base_found = _values(baseline, "baseline")
    findings += found + base_found
    baseline = values_as_log_probs(baseline, base_normalise)
    columns, found = declared_classes(geometry, other)
    findings += found
    alignment = replace(alignment, normalise=normalise, classes=columns)
    given, candidate = candidate, alignment.columns(candidate)
    num_frames, num_other = baseline.shape[1], candidate.shape[1]
    if alignment.frames is None and num_frames != num_other:
        position, found = frame_counts(baseline, candidate, geometry, other)
        findings += found
        alignment = replace(alignment, frames=position[None])
    for _ in range(_ROUNDS):  # one explanation may uncover the next
        alignment, finding = _explain(baseline, given, geometry, alignment)
        if finding is None:
            break
        findings.append(finding)
    return alignment, findings


def _explain(
    baseline: np.ndarray, candidate: np.ndarray, geometry: Geometry, alignment: Alignment
) -> tuple[Alignment, Finding | None]:
    """The best single explanation of what the alignment so far leaves, if there is one."""
    num_frames, identity = baseline.shape[1], tuple(range(geometry.num_speakers))
    placed, valid = alignment.apply(baseline, candidate, geometry.powerset)
    now = distance(baseline[valid], placed[valid])
    if not now > _NOTICEABLE or alignment.local_speakers:
        return alignment, None
    share, several = chunk_orders(baseline, placed, geometry.powerset)
    order, columns, before, after = best_order(baseline, placed, geometry.powerset)
    if not several and order != identity and after < _BETTER * before:
        return _with_columns(alignment, columns), _speaker_order(order)
    lag, left = best_lag(baseline, placed, geometry.frame_step)
    if lag and left < (_BETTER if lag == int(lag) else _HALF_BETTER) * now:
        return _moved(alignment, lag, num_frames, candidate.shape[1]), _shifted(lag, geometry)
    columns, gain = best_columns(baseline, placed)
    if gain < _BETTER:
        return _with_columns(alignment, columns), _class_order(columns, geometry)
    if share > 0:
        words = (
            f"the candidate has the local speakers in another order in {share:.0%} of the chunks looked at; "
            "single frames can only be compared once that is undone (--align)"
        )
        finding = Finding(kind="local_speaker_order", words=words, side="candidate", details={"share": share})
        return replace(alignment, local_speakers=True), finding
    scale, offset = drift(baseline, placed, geometry.frame_step)
    if scale != 1.0 and alignment.frames is None:
        late = abs(scale - 1) * num_frames * geometry.frame_step
        words = (
            f"the candidate's frames run at a scale of {scale:.3f}: boundaries drift by up to {late:.2f} s "
            f"within a chunk of {geometry.chunk_duration:g} s"
        )
        details = {"scale": scale, "offset_frames": offset, "drift": late}
        position = offset + scale * np.arange(num_frames)
        return replace(alignment, frames=position[None]), Finding(
            kind="time_scale", words=words, side="candidate", details=details
        )
    # shifted and reordered at once: sorted probabilities know no order
    mine, theirs = np.sort(baseline, axis=-1), np.sort(placed, axis=-1)
    lag, left = best_lag(mine, theirs, geometry.frame_step)
    if lag and left < _BETTER * distance(mine, theirs):
        moved = interpolate_frames(placed, np.arange(num_frames)[None] + np.full((len(placed), 1), lag))
        if best_columns(baseline, moved)[1] < _BETTER:  # the next round finds the order itself
            return _moved(alignment, lag, num_frames, candidate.shape[1]), _shifted(lag, geometry)
    return alignment, None


def _moved(alignment: Alignment, lag: float, num_frames: int, num_other: int) -> Alignment:
    """The alignment with a further shift, in frames of the baseline."""
    base = np.arange(num_frames, dtype=np.float64)[None] if alignment.frames is None else alignment.frames
    rate = 1.0 if alignment.frames is None or alignment.chunks is not None else num_other / num_frames
    return replace(alignment, frames=base + lag * rate)


def declared_classes(geometry: Geometry, other: Geometry) -> tuple[np.ndarray | None, list[Finding]]:
    """Column of the candidate for every class of the baseline, where the two say different orders."""
    if geometry.powerset == other.powerset:
        return None, []
    index = {frozenset(members): column for column, members in enumerate(other.powerset)}
    wanted = [frozenset(members) for members in geometry.powerset]
    if set(index) != set(wanted):
        raise RecordingError(
            f"the candidate has {len(other.powerset)} powerset classes of {other.num_speakers} speakers, the "
            f"baseline {len(wanted)} of {geometry.num_speakers}: they cannot be compared class by class"
        )
    columns = np.array([index[members] for members in wanted], dtype=np.int64)
    words = (
        "the sides declare their classes in different orders (the candidate's columns "
        f"{columns.tolist()} are the baseline's 0 to {len(columns) - 1}); compared by what they declare"
    )
    details = {"columns": columns.tolist()}
    return columns, [Finding(kind="declared_class_order", words=words, severity="note", details=details)]


def declared_axes(geometry: Geometry, other: Geometry) -> list[Finding]:
    """What the two geometries say differently, in words."""
    said = (
        ("sample_rate", "Hz", "sample rate"),
        ("chunk_duration", "s", "chunk length"),
        ("chunk_step", "s", "step between chunks"),
        ("frame_step", "s", "step between frames"),
        ("frame_duration", "s", "receptive field of a frame"),
        ("frame_start", "s", "start of the first frame"),
    )
    findings = []
    for name, unit, meaning in said:
        mine, theirs = getattr(geometry, name), getattr(other, name)
        if abs(mine - theirs) <= 1e-9 * max(1.0, abs(mine)):
            continue
        words = f"{meaning}: {theirs:g} {unit} on the candidate's side against {mine:g} {unit}"
        if name == "frame_step":
            lost = geometry.chunk_duration * abs(1 - mine / theirs)
            words += (
                f" (scale {theirs / mine:.3f}; counted with the wrong step, boundaries would drift by up to "
                f"{lost:.2f} s in a chunk)"
            )
        elif name == "frame_start":
            words += f" ({1000 * (theirs - mine):+.1f} ms)"
        findings.append(
            Finding(
                kind=name,
                words=words,
                severity="warning",
                details={"baseline": mine, "candidate": theirs},
            )
        )
    return findings


def order_axes(array: np.ndarray, num_classes: int, num_chunks: int) -> tuple[tuple[int, int, int], str]:
    """Transposition of a dump to (chunk, frame, class), and the order it was in; empty where it is right."""
    if array.shape[-1] == num_classes:
        if array.shape[1] != num_chunks or array.shape[0] == num_chunks:
            return (0, 1, 2), ""
        return (1, 0, 2), "(frame, chunk, class)"
    if num_classes in array.shape:
        where = array.shape.index(num_classes)
        if where == 1:
            return (0, 2, 1), "(chunk, class, frame)"
        chunk = 1 if array.shape[1] == num_chunks or array.shape[2] != num_chunks else 2
        return (chunk, 3 - chunk, 0), "(class, chunk, frame)" if chunk == 1 else "(class, frame, chunk)"
    return (0, 1, 2), ""


def frame_counts(
    baseline: np.ndarray, candidate: np.ndarray, geometry: Geometry, other: Geometry
) -> tuple[np.ndarray, list[Finding]]:
    """Where the baseline's frames lie among another number of frames per chunk.

    Three readings are tried on the posteriors: the frames are spread over the chunk, or they are the first
    ones, or the last.

    Returns
    -------
    position : float64 array, shape (num_frames,)
    findings : what was found, in words
    """
    mine, theirs = baseline.shape[1], candidate.shape[1]
    frame = np.arange(mine)
    readings = {
        "spread": (frame + 0.5) * theirs / mine - 0.5,
        "start": frame.astype(np.float64),
        "end": frame + float(theirs - mine),
    }
    lost = {
        name: distance(baseline[:, ok], interpolate_frames(candidate, _rows(position[ok], candidate)))
        for name, position in readings.items()
        if (ok := (position > -0.5) & (position < theirs - 0.5)).any()
    }
    best = min(lost, key=lambda name: lost[name])
    scale, span = theirs / mine, mine * geometry.frame_step
    drifting = abs(1 - scale) * span
    words = f"{theirs} frames against {mine}"
    if best == "spread":
        same = abs(geometry.frame_step - other.frame_step) < 1e-9
        words += f": scale {scale:.3f}, boundaries drift by up to {drifting:.2f} s"
        if same:
            words += (
                f" if both count {1000 * geometry.frame_step:g} ms per frame, as both geometries say; the "
                f"candidate's step fits {1000 * span / theirs:.4g} ms"
            )
    else:
        missing, which = abs(theirs - mine), "last" if best == "start" else "first"
        more = "lacks" if theirs < mine else "has in addition"
        words += f": same step, the candidate {more} the {which} {missing} ({missing * 20:d} ms at 20 ms)"
        words = words.replace(
            f"({missing * 20:d} ms at 20 ms)", f"({1000 * missing * geometry.frame_step:.1f} ms)"
        )
    details = {
        "baseline": mine,
        "candidate": theirs,
        "scale": scale,
        "drift": drifting,
        "reading": best,
        "left": lost[best],
    }
    return readings[best], [Finding(kind="frame_count", words=words, side="candidate", details=details)]


def best_lag(baseline: np.ndarray, candidate: np.ndarray, frame_step: float) -> tuple[float, float]:
    """Shift in frames, in halves, that brings the candidate nearest to the baseline.

    Returns
    -------
    lag : the candidate's frame ``f + lag`` is the baseline's ``f``: above 0 it is late
    left : the distance that remains
    """
    num_frames = baseline.shape[1]
    most = max(1, min(num_frames // 4, round(_MAX_LAG / frame_step)))
    p, q = (np.exp(np.minimum(each.astype(np.float32), 0)) for each in (baseline, candidate))

    def left(lag: int, other: np.ndarray) -> float:
        first, last = max(0, -lag), min(num_frames, other.shape[1] - lag)
        return 0.5 * float(np.abs(p[:, first:last] - other[:, first + lag : last + lag]).sum(axis=-1).mean())

    tried: dict[float, float] = {lag: left(lag, q) for lag in range(-most, most + 1)}
    best = min(tried, key=lambda lag: (tried[lag], abs(lag)))
    halves = 0.5 * (q[:, 1:] + q[:, :-1])
    before, behind = (left(lag, halves) for lag in (int(best) - 1, int(best)))
    for lag, value, opposite in ((best - 0.5, before, behind), (best + 0.5, behind, before)):
        # the mean of two frames also has less noise: what helps on either side alike is no shift
        if value < 0.9 * tried[best] and value < 0.9 * opposite:
            tried[lag] = value
    best = min(tried, key=lambda lag: (tried[lag], abs(lag)))
    return float(best), tried[best]


def drift(baseline: np.ndarray, candidate: np.ndarray, frame_step: float) -> tuple[float, float]:
    """Scale and offset (frames) of the candidate's time axis, from the shifts of its first and last third."""
    num_frames = baseline.shape[1]
    third = num_frames // 3
    if third < 8:
        return 1.0, 0.0
    lags = []
    for part in (slice(0, third), slice(num_frames - third, num_frames)):
        before = distance(baseline[:, part], candidate[:, part])
        lag, left = best_lag(baseline[:, part], candidate[:, part], frame_step)
        lags.append(lag if left < 0.8 * before else 0.0)
    if abs(lags[1] - lags[0]) < 2:
        return 1.0, 0.0
    frames = np.arange(num_frames)
    centre = (0.5 * third, num_frames - 0.5 * third)
    slope = (lags[1] - lags[0]) / (centre[1] - centre[0])
    tried = []
    for scale in 1 + slope * np.linspace(0.5, 1.5, 41):
        position = _rows(scale * (frames + 0.5) - 0.5, candidate)
        inside = (position[0] > -0.5) & (position[0] < num_frames - 0.5)
        moved = interpolate_frames(candidate, position)
        tried.append((distance(baseline[:, inside], moved[:, inside]), float(scale)))
    left, best = min(tried)
    if left > _HALF_BETTER * distance(baseline, candidate):
        return 1.0, 0.0
    return best, 0.5 * best - 0.5


def best_columns(baseline: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, float]:
    """The candidate's column for every class of the baseline, and what part of the difference that leaves."""
    b, c = clipped(baseline), clipped(candidate)
    num_classes = b.shape[-1]
    cost = np.array(
        [[np.abs(b[..., i] - c[..., j]).mean() for j in range(num_classes)] for i in range(num_classes)]
    )
    rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e3))
    before = cost[rows, rows].sum()
    if (columns == rows).all() or not before > 0:
        return rows, 1.0
    return columns, float(cost[rows, columns].sum() / before)


def chunk_orders(
    baseline: np.ndarray, candidate: np.ndarray, powerset: Sequence[Sequence[int]]
) -> tuple[float, bool]:
    """Share of the chunks whose local speakers are in another order, and whether those orders differ."""
    identity = tuple(range(1 + max((s for members in powerset for s in members), default=-1)))
    found = [best_order(b[None], c[None], powerset) for b, c in zip(baseline, candidate, strict=True)]
    changed = [order != identity and after < _BETTER * before for order, _, before, after in found]
    orders = {order for order, _, before, after in found if before > 0 and after < 0.1 * before}
    fitting = {order for order, _, before, after in found if order == identity and before < 0.05}
    return float(np.mean(changed)), len(orders | fitting) > 1


def nearest_chunks(
    geometry: Geometry, other: Geometry, num_chunks: int, num_other: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """For every chunk of the baseline the candidate's whose middle is nearest, and where its frames lie.

    Returns
    -------
    chunks : int64 array, shape (num_chunks,)
    position : float64 array, shape (num_chunks, num_frames)
        Of the baseline's frames among that chunk's; outside of it below 0 or beyond the last.
    """
    start = np.arange(num_chunks) * geometry.chunk_step
    middle = start + 0.5 * geometry.chunk_duration
    chunks = np.rint((middle - 0.5 * other.chunk_duration) / other.chunk_step).astype(np.int64)
    chunks = np.clip(chunks, 0, max(num_other - 1, 0))
    time = start[:, None] + geometry.frame_step * np.arange(num_frames)[None] + 0.5 * geometry.frame_step
    begin = (chunks * other.chunk_step)[:, None]
    return chunks, np.round((time - begin) / other.frame_step - 0.5, 6)


def _values(values: np.ndarray, side: str = "candidate") -> tuple[str, list[Finding]]:
    """How to make log-probabilities of what a side put out, and what was wrong with it."""
    finite = values[np.isfinite(values).all(axis=-1)].astype(np.float64)
    if not len(finite):
        return "", []
    written = (
        np.ptp(finite, axis=-1) > 0
    )  # frames of zeros were never computed, and say nothing of the others
    finite = finite[written] if written.any() else finite
    if np.isin(finite[:1000], (0.0, 1.0)).all() and np.isin(finite, (0.0, 1.0)).all():
        words = f"the {side} puts out hard decisions (0 and 1), so margins and differences mean nothing"
        return "log", [Finding(kind="values", words=words, side=side, details={"values": "decisions"})]
    if finite.min() >= 0 and np.abs(finite.sum(axis=-1) - 1).max() < 0.02:
        words = f"the {side} puts out probabilities, not their logarithms"
        return "log", [Finding(kind="values", words=words, side=side, details={"values": "probs"})]
    with np.errstate(over="ignore"):
        total = np.log(np.exp(finite - finite.max(axis=-1, keepdims=True)).sum(axis=-1)) + finite.max(axis=-1)
    if abs(np.median(total)) > 0.05:
        with np.errstate(over="ignore"):
            negated = np.exp(-finite).sum(axis=-1)
        if np.abs(negated - 1).max() < 0.02:
            words = f"the {side} puts out log-probabilities with the sign turned (negative log-likelihoods)"
            return "negated", [Finding(kind="values", words=words, side=side, details={"values": "negated"})]
        for base in (10, 2):
            with np.errstate(over="ignore"):
                sums = np.power(float(base), finite).sum(axis=-1)
            if np.abs(sums - 1).max() < 0.02:
                words = f"the {side} puts out logarithms to the base of {base}, not natural ones"
                details = {"values": f"log{base}"}
                return f"base_{base}", [Finding(kind="values", words=words, side=side, details=details)]
        words = (
            f"the {side}'s values are no log-probabilities: they sum to {np.exp(np.median(total)):.3g} in "
            "the median frame instead of 1; the log-softmax is missing, or the values were rounded or scaled"
        )
        return "log_softmax", [Finding(kind="values", words=words, side=side, details={"values": "logits"})]
    return "", []


def _with_columns(alignment: Alignment, columns: np.ndarray) -> Alignment:
    """The alignment with a further reordering of the classes, after the declared one."""
    first = alignment.classes
    return replace(alignment, classes=columns if first is None else first[columns])


def _rows(position: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    return np.broadcast_to(position, (len(candidate), len(position)))


def _shifted(lag: float, geometry: Geometry) -> Finding:
    milliseconds = abs(lag) * 1000 * geometry.frame_step
    number = f"{abs(lag):g} frame{'' if abs(lag) == 1 else 's'}"
    words = f"the candidate is {'late' if lag > 0 else 'early'} by {number} ({milliseconds:.1f} ms)"
    details: dict[str, float] = {"frames": lag, "milliseconds": 1000 * lag * geometry.frame_step}
    steps = abs(lag) * geometry.frame_step / geometry.chunk_step
    if round(steps) and abs(steps - round(steps)) * geometry.chunk_step < 0.75 * geometry.frame_step:
        number = "one step" if round(steps) == 1 else f"{round(steps)} steps"
        words += f": as long as {number} between chunks, so its chunks may be numbered otherwise"
        details["chunks"] = round(steps)
    return Finding(kind="frame_shift", words=words, side="candidate", details=details)


def _speaker_order(order: Sequence[int]) -> Finding:
    words = (
        "the candidate's local speakers are in another order: the baseline's "
        f"{', '.join(map(str, range(len(order))))} are its {', '.join(map(str, order))}"
    )
    return Finding(
        kind="speaker_order", words=words, side="candidate", details={"speakers": [int(s) for s in order]}
    )


def _class_order(columns: np.ndarray, geometry: Geometry) -> Finding:
    moved = [index for index, column in enumerate(columns) if index != column]
    pairs = ", ".join(f"{index} in column {columns[index]}" for index in moved[:6])
    words = (
        f"the candidate's classes are in another order than its geometry says: class {pairs}"
        f"{' …' if len(moved) > 6 else ''}"
    )
    return Finding(
        kind="class_order", words=words, side="candidate", details={"columns": [int(c) for c in columns]}
    )
