"""Settings of a filter bank found from its features, tried one by one and in pairs; dither and shifts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.fbank_variants import FrontEndSettings, fbank_variant
from workbench.fbank import KaldiFbankDims

_MOST_FRAMES = 400  # that settings are tried on: 4 s around the largest difference
_DITHER_RANGE = (0.02, 8.0)  # standard deviations that are in use, in units of int16
_DITHER_SPREAD = 0.35  # of log ratios between the noise found and dither's own, over energies
_ENERGY_BINS = 8
_NO_MEAN = 1e-3  # nats that the mean over time is off zero by, where it was subtracted
EXPLAINED = 0.1  # share of a difference that an explanation may leave
_MOST_SHIFT = 480  # samples
_COARSE = 8  # samples, of the first search for a shift
_EDGE = 4  # frames at either end that a shift moves into or out of the recording
_ALTERNATIVES: Mapping[str, tuple[Any, ...]] = {
    "scale": (1.0, 32767.0, 32768.0),
    "window": ("hamming", "hann", "povey", "blackman", "rectangular"),
    "periodic": (False, True),
    "preemphasis": (0.0, 0.95, 0.97),
    "remove_dc": (False, True),
    "power": (False, True),
    "low_hz": (0.0, 20.0),
    "log": ("natural", "decimal"),
}


def crop_around(
    waveforms: np.ndarray, several: tuple[np.ndarray, np.ndarray], dims: KaldiFbankDims
) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[bool, ...], tuple[int, slice]]:
    """Waveforms and features around the largest difference, whose features have lost their mean, and where.

    Features that have lost the mean of the whole recording lose that of the piece here.
    """
    difference = np.abs(several[0].astype(np.float64) - several[1]).max(axis=-1)  # (batch, frame)
    row, frame = np.unravel_index(int(difference.argmax()), difference.shape)
    num_frames = difference.shape[1]
    first = int(np.clip(frame - _MOST_FRAMES // 2, 0, max(0, num_frames - _MOST_FRAMES)))
    last = min(num_frames, first + _MOST_FRAMES)
    samples = slice(first * dims.shift_samples, (last - 1) * dims.shift_samples + dims.length_samples)
    means = tuple(bool(np.abs(each.mean(axis=1, dtype=np.float64)).max() < _NO_MEAN) for each in several)
    pieces = []
    for each, centred in zip(several, means, strict=True):
        piece = each[row : row + 1, first:last].astype(np.float64)
        pieces.append(piece - piece.mean(axis=1, keepdims=True) if centred else piece)
    return waveforms[row : row + 1, samples], tuple(pieces), means, (int(row), samples)


def find_sample_shift(
    features: np.ndarray,
    waveforms: np.ndarray,
    place: tuple[int, slice],
    dims: KaldiFbankDims,
    settings: FrontEndSettings,
    tolerance: float,
) -> int:
    """Samples by which the features were made from a later or earlier waveform; 0 if that explains nothing.

    Parameters
    ----------
    features : float64 array, shape (1, num_frames, num_mels), of the samples `place` says
    waveforms : float array, shape (batch, num_samples)
    """
    row, samples = place
    padded = np.pad(waveforms[row], _MOST_SHIFT + _COARSE)
    inner = slice(_EDGE, features.shape[1] - _EDGE)
    if features.shape[1] < 4 * _EDGE:
        return 0

    def centred(values: np.ndarray) -> np.ndarray:
        piece = values[:, inner]
        return piece - piece.mean(axis=1, keepdims=True) if settings.centred else piece

    target = centred(features)

    def left(shift: int) -> float:
        first = samples.start - shift + _MOST_SHIFT + _COARSE
        piece = padded[None, first : first + samples.stop - samples.start]
        made = fbank_variant(piece, replace(settings, centred=False), dims)
        return _rms(centred(made) - target)

    coarse = {shift: left(shift) for shift in range(-_MOST_SHIFT, _MOST_SHIFT + 1, _COARSE)}
    nearest = min(coarse, key=lambda shift: coarse[shift])
    fine = {shift: left(shift) for shift in range(nearest - _COARSE, nearest + _COARSE + 1)}
    best = min(fine, key=lambda shift: fine[shift])
    return best if fine[best] <= max(tolerance, EXPLAINED * coarse[0]) else 0


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _variants(start: FrontEndSettings, *, pairs: bool = True) -> Iterator[FrontEndSettings]:
    """The start, then every single change, then every pair of changes."""
    yield start
    changes = [
        (name, value)
        for name, values in _ALTERNATIVES.items()
        for value in values
        if value != getattr(start, name)
    ]
    for name, value in changes:
        yield replace(start, **{name: value})
    for (one, first), (other, second) in combinations(changes, 2) if pairs else ():
        if one != other:
            yield replace(start, **{one: first, other: second})


def fit_settings(
    features: np.ndarray,
    waveforms: np.ndarray,
    dims: KaldiFbankDims,
    start: FrontEndSettings,
    tolerance: float,
    *,
    pairs: bool = True,
) -> tuple[FrontEndSettings, float]:
    """The first settings that give the features, or those that come nearest."""
    best, least = start, float("inf")
    for settings in _variants(start, pairs=pairs):
        residual = _residual(features, waveforms, dims, settings)
        # a change must help a lot, or less is more
        if residual < 0.9 * least:
            best, least = settings, residual
        if least <= tolerance:
            break
    return best, least


def _residual(
    features: np.ndarray, waveforms: np.ndarray, dims: KaldiFbankDims, settings: FrontEndSettings
) -> float:
    expected = fbank_variant(waveforms, settings, dims)
    if expected.shape != features.shape:
        return float("inf")
    return float(np.abs(expected - features).max(initial=0.0))


def fit_dither(
    features: np.ndarray, waveforms: np.ndarray, dims: KaldiFbankDims, start: FrontEndSettings
) -> tuple[FrontEndSettings | None, float]:
    """Settings with dither whose energies are right on average, as single values cannot be.

    Noise adds the same energy to every frame: loud frames hardly change, silent ones become that noise.
    Besides dither, one other setting may differ.
    """
    best, least = None, _DITHER_SPREAD
    for settings in _variants(start, pairs=False):
        unit = settings.scale / 32768.0
        plain = fbank_variant(waveforms, settings, dims)
        if plain.shape != features.shape:
            continue
        noisy = fbank_variant(waveforms, replace(settings, dither=unit), dims)
        energy = fbank_variant(waveforms, replace(settings, centred=False), dims)
        dither, spread = _dither_of(features - plain, noisy - plain, energy)
        # a second change must help a lot, or less is more
        if spread < (least if best is None else 0.6 * least) and _between(dither, _DITHER_RANGE):
            best, least = replace(settings, dither=round(dither * unit, 3)), spread
    if best is None:
        return None, float("inf")
    plain = fbank_variant(waveforms, replace(best, dither=0.0), dims)
    return best, float(np.median(np.abs(features - plain)))


def _dither_of(found: np.ndarray, made: np.ndarray, energy: np.ndarray) -> tuple[float, float]:
    """Dither's standard deviation in units of the one that `made` was made with, and how badly it fits.

    Dither leaves loud bands alone and shakes silent ones, in a way that no other fault does: the noise
    found must be that of `made`, times a constant, at every energy.
    """
    found, made = (each - np.median(each, axis=1, keepdims=True) for each in (found, made))
    edges = np.quantile(energy, np.linspace(0, 1, _ENERGY_BINS + 1)[1:-1])
    bins = np.digitize(energy, edges)
    ratios = []
    for number in range(_ENERGY_BINS):
        there = bins == number
        sizes = [float(np.median(np.abs(each[there]))) if there.any() else 0.0 for each in (found, made)]
        if min(sizes) > 0:
            ratios.append(np.log(sizes[0] / sizes[1]))
    if len(ratios) < _ENERGY_BINS // 2:
        return float("nan"), float("inf")
    return float(np.exp(np.median(ratios))), float(np.std(ratios))


def _between(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def table_of_changes(
    features: np.ndarray, waveforms: np.ndarray, dims: KaldiFbankDims, start: FrontEndSettings
) -> pd.DataFrame:
    """What each single change leaves of the difference, best first."""
    rows = [("", "as the baseline", _residual(features, waveforms, dims, start))]
    for name, values in _ALTERNATIVES.items():
        for value in values:
            if value != getattr(start, name):
                changed = replace(start, **{name: value})
                rows.append((name, str(value), _residual(features, waveforms, dims, changed)))
    table = pd.DataFrame(rows, columns=["setting", "value", "residual"])
    return table.sort_values("residual", kind="stable", ignore_index=True)
