"""Two waveforms of one recording: shifted, scaled, turned, noisy, or read at another rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

SAME = 2e-5
"""Difference of two samples in [-1, 1) that counts as none: less than one step of 16 bits."""

_MOST_SAMPLES = 1 << 20  # a minute at 16 kHz, in which a shift is looked for
_MOST_SHIFT = 32_000  # samples
_LEFT = 0.02  # share of the power that an explanation may leave
_BIT = 2.0**-15  # step of 16-bit samples
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz


@dataclass(frozen=True, kw_only=True)
class SampleRelation:
    """What turns one waveform into the other."""

    words: str
    details: dict[str, Any] = field(default_factory=dict)


def relate_samples(
    baseline: np.ndarray, candidate: np.ndarray, sample_rate: int = 16000
) -> SampleRelation | None:
    """What the candidate's samples are of the baseline's, in words; None where they are the same.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (num_samples,), in [-1, 1)
    sample_rate : of both, in Hz

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    >>> relate_samples(noise, np.concatenate([np.zeros(40), noise])).words
    "the candidate's samples are late by 40 samples (2.50 ms)"
    """
    one, other = (np.asarray(each, dtype=np.float64).reshape(-1) for each in (baseline, candidate))
    size = min(len(one), len(other))
    if not size or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    if len(one) == len(other) and np.abs(one - other).max() <= SAME:
        return None
    shift = find_shift(one[:_MOST_SAMPLES], other[:_MOST_SAMPLES])
    mine, theirs = _overlap(one, other, shift)
    power = float(mine @ mine)
    if not len(mine) or power == 0:
        return None
    gain = float(mine @ theirs) / power
    left = float(((theirs - gain * mine) ** 2).sum()) / max(float(theirs @ theirs), 1e-30)
    if left > _LEFT:
        return _other_rate(one, other, sample_rate)
    words, details = [], {"shift_samples": shift, "gain": gain}
    if shift:
        milliseconds = 1000 * abs(shift) / sample_rate
        details["milliseconds"] = 1000 * shift / sample_rate
        words.append(
            f"{'late' if shift > 0 else 'early'} by {abs(shift)} sample{'s' * (abs(shift) > 1)} "
            f"({milliseconds:.2f} ms)"
        )
    if abs(gain - 1) > 1e-3:
        if abs(gain + 1) < 1e-3:
            words.append("turned upside down")
        else:
            words.append(f"scaled by {gain:.6g}")
    residual = theirs - gain * mine
    offset = float(residual.mean())
    spread = float(np.std(residual))
    if abs(offset) > max(SAME, 0.5 * spread):
        details["offset"] = offset
        words.append(f"moved by an offset of {offset:.3g}")
    elif spread > 0.1 * _BIT:
        details["noise_steps"] = spread / _BIT
        words.append(
            f"noisy by {spread / _BIT:.2g} steps of 16 bits, as dither, rounding or a codec makes it"
        )
    if len(one) != len(other) and not shift:
        longer = len(other) - len(one)
        words.append(
            f"{'longer' if longer > 0 else 'shorter'} by {abs(longer)} samples "
            f"({1000 * abs(longer) / sample_rate:.2f} ms)"
        )
    if not words:
        return None
    return SampleRelation(words=f"the candidate's samples are {', '.join(words)}", details=details)


def find_shift(baseline: np.ndarray, candidate: np.ndarray) -> int:
    """Samples by which the candidate is late, from the peak of the cross-correlation.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (num_samples,)
    """
    size = 1 << int(len(baseline) + len(candidate) - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(baseline, size)) * np.fft.rfft(candidate, size)
    correlation = np.abs(np.fft.irfft(spectrum, size))
    most = min(_MOST_SHIFT, len(baseline) // 2)
    lags = np.concatenate([np.arange(most + 1), np.arange(-most, 0)])
    found = correlation[lags % size]
    best = int(lags[int(found.argmax())])
    return best if found.max() > correlation[0] * (1 + 1e-9) else 0


def _overlap(one: np.ndarray, other: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = (one, other[shift:]) if shift >= 0 else (one[-shift:], other)
    size = min(len(first), len(second))
    return first[:size], second[:size]


def _other_rate(one: np.ndarray, other: np.ndarray, sample_rate: int) -> SampleRelation | None:
    """Samples whose number tells that they were taken for another rate."""
    found = rate_of(len(other) / len(one), sample_rate)
    if found is None:
        return None
    words = (
        f"the candidate has {len(other)} samples where {len(one)} were expected, as if audio at {found} Hz "
        f"had been taken for {sample_rate} Hz, or the other way round: a wrong header, or no resampling"
    )
    return SampleRelation(words=words, details={"rate": found})


def rate_of(ratio: float, sample_rate: int = 16000) -> int | None:
    """The common rate (Hz) that makes a recording longer by `ratio` when its samples are taken for another.

    Examples
    --------
    >>> rate_of(3.0), rate_of(0.5), rate_of(1.01)
    (48000, 8000, None)
    """
    for rate in RATES:
        if rate != sample_rate and abs(ratio / (rate / sample_rate) - 1) < 5e-3:
            return rate
    return None
