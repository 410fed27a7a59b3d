"""Faults that can be read off the scores alone: where they differ, how one side follows from the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.flips import FrameComparison

_AGREES = 1e-4  # nats: a chunk in which nothing differs by more
_MOST = 0.8  # share of the other chunks that must differ for a pattern
_FEWEST = 4  # chunks, below which a pattern means nothing
_LEFT = 0.05  # part of the difference (rms) that a relation leaves at most
_FLOOR = -12.0  # nats: below, scores say no more than "no"
_LEAST_FRAMES = 8  # that must agree on either side of a jump
_MOST_LEVELS = 256  # distinct values of 8-bit codes


def find_pattern(comparison: FrameComparison) -> Finding | None:
    """Which chunks or frames differ, where that tells what is wrong.

    Examples
    --------
    >>> zero = np.zeros((6, 4), dtype=np.float32)
    >>> later = zero + np.arange(6, dtype=np.float32)[:, None]
    >>> comparison = FrameComparison(
    ...     baseline=zero.astype(np.uint8), candidate=zero.astype(np.uint8), margin=zero,
    ...     candidate_margin=zero, difference=later, valid=zero == 0,
    ... )
    >>> find_pattern(comparison).kind
    'state_leak'
    """
    difference = np.where(comparison.valid, np.nan_to_num(comparison.difference, nan=np.inf), 0.0)
    by_chunk = difference.max(axis=1)
    num_chunks, num_frames = difference.shape
    wrong = by_chunk > _AGREES
    if not wrong.any() or num_chunks < _FEWEST:
        return None
    if wrong.sum() == 1 and wrong[-1]:
        words = (
            f"only the last chunk differs (by up to {by_chunk[-1]:.3g}): it is padded otherwise than with "
            "zeros, or starts elsewhere"
        )
        return _found("last_chunk", words, chunks=1)
    first = int(wrong.argmax())
    if first == 1 and wrong[1:].all():
        words = (
            "chunk 0 agrees and all after it differ: the candidate carries state from one chunk to the next, "
            "or its chunks are another step apart"
        )
        return _found("state_leak", words, chunks=int(wrong.sum()))
    period = _period(wrong)
    if period:
        words = (
            f"every {period}th chunk agrees and the others differ: batches of {period}, in which the "
            "candidate carries state or order from one chunk to the next"
        )
        return _found("batch_dependent", words, batch=period)
    if first >= _FEWEST and wrong[first:].mean() >= _MOST and num_chunks - first >= _FEWEST:
        words = f"chunks 0 to {first - 1} agree and those from {first} on differ"
        return _found("from_a_chunk_on", words, first=first)
    by_frame = difference[wrong].max(axis=0) > _AGREES
    frames = np.flatnonzero(by_frame)
    few = max(1, num_frames // 10)
    if frames[-1] < few:
        words = f"only the first {frames[-1] + 1} frames of a chunk differ: other padding at its start"
        return _found("chunk_edge", words, frames=int(frames[-1]) + 1)
    if frames[0] >= num_frames - few:
        count = num_frames - int(frames[0])
        words = (
            f"only the last {count} frames of a chunk differ: other padding at its end, or a length baked in"
        )
        return _found("chunk_edge", words, frames=count)
    return None


def find_relation(baseline: np.ndarray, candidate: np.ndarray) -> Finding | None:
    """How the candidate's scores follow from the baseline's, where that is simple.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (num_chunks, num_frames, num_classes), log-probabilities of the
        same chunks
    """
    if baseline.shape != candidate.shape or not np.isfinite(candidate).all():
        return None
    one, other = baseline.astype(np.float64), candidate.astype(np.float64)
    before = _rms(np.maximum(one, _FLOOR) - np.maximum(other, _FLOOR))
    if not before > _AGREES:
        return None

    def explains(made: np.ndarray) -> bool:
        return _rms(np.maximum(made, _FLOOR) - np.maximum(other, _FLOOR)) <= _LEFT * before

    if explains(one[:, ::-1]):
        return _found("time_reversed", "the candidate's frames run backwards in every chunk")
    lowest = float(other.min())
    if (
        (other <= lowest + 1e-6).mean() > 0.01
        and lowest > one.min() + 1e-3
        and explains(np.maximum(one, lowest))
    ):
        words = f"the candidate's log-probabilities are cut off at {lowest:.4g} ({np.exp(lowest):.2g})"
        return _found("values", words, floor=lowest)
    centred = [each - each.mean(axis=-1, keepdims=True) for each in (one, other)]
    factor = float((centred[0] * centred[1]).sum() / max(float((centred[0] ** 2).sum()), 1e-30))
    if abs(factor - 1) > 1e-2 and factor > 0 and explains(_log_softmax(factor * one)):
        words = (
            f"the candidate's scores before the softmax are {factor:.4g} times the baseline's: a temperature"
            ", or a scale that was forgotten"
        )
        return _found("temperature", words, factor=factor)
    added = float(np.median(np.exp(other) - np.exp(one)))
    if added > 1e-7 and explains(np.log(np.exp(one) + added)):
        words = f"the candidate adds {added:.2g} to every probability before the logarithm"
        return _found("values", words, added=added)
    if moved := _moved_from(one, other):
        frame, lag = moved
        late, was = ("late", "repeated") if lag > 0 else ("early", "dropped")
        number = f"{abs(lag)} frame{'' if abs(lag) == 1 else 's'}"
        words = (
            f"from frame {frame} of a chunk on the candidate is {late} by {number}, and before it agrees: "
            f"{number} {was} there"
        )
        return _found("frame_jump", words, frame=frame, frames=lag)
    if explains(_log_softmax(np.exp(one))):
        return _found("values", "the candidate takes the softmax twice")
    for width in (3, 5, 7, 9, 11):
        smooth = np.log(np.maximum(_smoothed(np.exp(one), width), 1e-30))
        smooth[:, : width // 2] = other[:, : width // 2]  # what is done at the ends varies
        smooth[:, -(width // 2) :] = other[:, -(width // 2) :]
        if explains(smooth):
            words = f"the candidate's probabilities are smoothed over {width} frames"
            return _found("smoothed", words, frames=width)
    return None


def find_levels(candidate: np.ndarray, baseline: np.ndarray) -> Finding | None:
    """Values of few distinct levels, as codes of 8 bits have once they are multiplied out."""
    values = np.unique(candidate[np.isfinite(candidate)])
    if not 2 < len(values) <= _MOST_LEVELS or len(np.unique(baseline)) <= 4 * len(values):
        return None
    steps = np.diff(values.astype(np.float64))
    step = float(steps.min())
    regular = step > 0 and np.abs(steps / step - np.rint(steps / step)).max() < 0.01
    if not regular:
        return None
    words = (
        f"the candidate's outputs have {len(values)} levels {step:.4g} apart: 8-bit codes that were "
        "multiplied out, which rounds every score by up to half of that"
    )
    return _found("quantised_output", words, levels=len(values), step=step)


def find_repeats(baseline: np.ndarray, candidate: np.ndarray, first: int = 0) -> list[int]:
    """Chunks in which the candidate repeats the one before, and the baseline does not.

    Chunks that are the same in every frame repeat nothing: they were never computed.
    """
    same = [
        np.array_equal(candidate[n], candidate[n - 1], equal_nan=True)
        and bool(np.ptp(candidate[n], axis=0).any())
        for n in range(1, len(candidate))
    ]
    meant = [np.allclose(baseline[n], baseline[n - 1], atol=_AGREES) for n in range(1, len(baseline))]
    return [
        first + n + 1 for n, (found, fine) in enumerate(zip(same, meant, strict=True)) if found and not fine
    ]


def repeated(chunks: list[int]) -> Finding:
    """The finding for `find_repeats`."""
    shown = ", ".join(map(str, chunks[:6])) + (" …" if len(chunks) > 6 else "")
    words = f"the candidate repeats the chunk before in chunk {shown}: a buffer that was not filled again"
    return _found("repeated_chunk", words, chunks=chunks[:64])


def _moved_from(baseline: np.ndarray, candidate: np.ndarray) -> tuple[int, int] | None:
    """Frame from which on the candidate is shifted, and by how many frames; None where nothing fits."""
    num_frames = baseline.shape[1]
    wrong = np.flatnonzero(
        np.abs(np.maximum(baseline, _FLOOR) - np.maximum(candidate, _FLOOR)).max(axis=(0, 2)) > _AGREES
    )
    if not len(wrong) or wrong[0] < _LEAST_FRAMES:
        return None
    first = int(wrong[0])
    for lag in (-1, 1, -2, 2, -3, 3, -4, 4):
        begin, end = first + max(lag, 0), num_frames + min(lag, 0)
        if end - begin < _LEAST_FRAMES:
            continue
        left = candidate[:, begin:end] - baseline[:, begin - lag : end - lag]
        before = candidate[:, begin:end] - baseline[:, begin:end]
        if _rms(np.clip(left, _FLOOR, -_FLOOR)) <= _LEFT * _rms(np.clip(before, _FLOOR, -_FLOOR)):
            return first, lag
    return None


def _period(wrong: np.ndarray) -> int:
    """Distance of the chunks that agree, if it is always the same and all between differ; else 0."""
    right = np.flatnonzero(~wrong)
    if len(right) < 2 or right[0] != 0:
        return 0
    gaps = np.diff(right)
    period = int(gaps[0])
    regular = period > 1 and bool((gaps == period).all()) and len(wrong) - int(right[-1]) <= period
    return period if regular else 0


def _found(kind: str, words: str, **details: Any) -> Finding:
    return Finding(kind=kind, words=words, side="candidate", details=details)


def _log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _smoothed(probabilities: np.ndarray, width: int) -> np.ndarray:
    """Moving average over frames; at the ends over those that there are."""
    total = np.cumsum(np.pad(probabilities, ((0, 0), (1, 0), (0, 0))), axis=1)
    num_frames, half = probabilities.shape[1], width // 2
    first = np.maximum(np.arange(num_frames) - half, 0)
    last = np.minimum(np.arange(num_frames) + half + 1, num_frames)
    result: np.ndarray = (total[:, last] - total[:, first]) / (last - first)[:, None]
    return result


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
