"""The features apart from the network: where two front ends differ, and which setting explains it.

Filter banks go wrong in few ways, all seen in ports: random dither left on, samples in [-1, 1) instead of
the int16 range, another window, pre-emphasis or DC removal forgotten, magnitude for power, means not
subtracted. Each is tried in turn, then in pairs; the one that turns our features into the candidate's is the
explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.fbank_variants import FrontEndSettings, fbank_variant
from workbench.agreement.findings import Finding
from workbench.agreement.sides import as_waveforms
from workbench.audio import read_audio
from workbench.errors import InputError
from workbench.fbank import DEFAULT_DIMS, KaldiFbankDims
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime

TOLERANCE = 1e-3
"""Nats (or dB) that another program's rounding of a log energy may make, in single precision."""

_STAGE = "fbank"
_MOST_FRAMES = 400  # that settings are tried on: 4 s around the largest difference
_DITHER_RANGE = (0.02, 8.0)  # standard deviations that are in use, in units of int16
_DITHER_SPREAD = 0.35  # of log ratios between the noise found and dither's own, over energies
_ENERGY_BINS = 8
_NO_MEAN = 1e-3  # nats that the mean over time is off zero by, where it was subtracted
_EXPLAINED = 0.1  # share of a difference that an explanation may leave


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
_WORDS = {
    "scale": "the scale of the samples",
    "window": "the window",
    "periodic": "the window's symmetry",
    "preemphasis": "pre-emphasis",
    "remove_dc": "removal of the DC offset",
    "power": "power against magnitude",
    "centred": "subtraction of the mean over time",
    "low_hz": "the lowest frequency",
    "log": "the base of the logarithm",
    "dither": "dither",
}


@dataclass(frozen=True, kw_only=True)
class FrontEndCheck:
    """Features of two runtimes compared, and why they differ."""

    baseline: str
    candidate: str
    stage: str  # empty where one side has no features to compare
    max_abs_diff: float
    tolerance: float
    causes: tuple[str, ...] = ()  # settings that differ: names of fields of `FrontEndSettings`
    baseline_settings: FrontEndSettings | None = None  # that give the baseline's features
    candidate_settings: FrontEndSettings | None = None
    residual: float = float("nan")  # largest difference that the causes leave
    words: str = ""
    tried: pd.DataFrame | None = None  # setting, value, residual: the best of those tried for the candidate

    @property
    def agrees(self) -> bool:
        """Whether the features are the same within the tolerance."""
        return self.max_abs_diff <= self.tolerance

    @property
    def findings(self) -> list[Finding]:
        """A fault where features differ, with its cause."""
        if self.agrees or not self.stage:
            return []
        details = {"causes": list(self.causes), "max_abs_diff": self.max_abs_diff, "residual": self.residual}
        return [Finding(kind="front_end", words=self.words, side="candidate", details=details)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        settings = {
            name: None if value is None else asdict(value)
            for name, value in (("baseline", self.baseline_settings), ("candidate", self.candidate_settings))
        }
        return {
            "stage": self.stage,
            "agrees": self.agrees,
            "max_abs_diff": self.max_abs_diff,
            "causes": list(self.causes),
            "settings": settings,
            "residual": self.residual,
            "words": self.words,
        }


def check_front_end(
    baseline: Runtime,
    candidate: Runtime,
    waveforms: Mapping[str, Any] | Sequence[Any] | np.ndarray,
    *,
    tolerance: float = TOLERANCE,
) -> FrontEndCheck:
    """Compare the features of two runtimes, and name the setting that makes them differ.

    Parameters
    ----------
    baseline, candidate : runtimes of one kind; recorded ones need the stage `fbank`
    waveforms : recordings as for `layer_ladder`; of recorded runtimes, by name, as they were recorded
    tolerance : largest difference of a log energy
    """
    names = (str(baseline), str(candidate))
    largest, kept = -1.0, None
    random = False
    for uri, recording in as_waveforms(waveforms).items():
        waveform = read_audio(recording) if not isinstance(recording, np.ndarray) else recording
        several = np.atleast_2d(np.asarray(waveform, dtype=np.float32))
        found = [_features(side, uri, several) for side in (baseline, candidate)]
        if found[0] is None or found[1] is None:
            return FrontEndCheck(
                baseline=names[0],
                candidate=names[1],
                stage="",
                max_abs_diff=float("nan"),
                tolerance=tolerance,
                words="one side gives no features to compare; the network's first stage is where to look",
            )
        again = None if isinstance(candidate, RecordedRuntime) else _features(candidate, uri, several)
        random |= again is not None and not np.array_equal(again, found[1])
        if found[0].shape != found[1].shape:
            return _other_shape(names, found[0].shape, found[1].shape, tolerance)
        difference = float(np.abs(found[0].astype(np.float64) - found[1]).max(initial=0.0))
        if difference > largest:
            largest, kept = difference, (several, found[0], found[1])
    if kept is None:
        raise InputError("no recordings given to compare features on")
    if largest <= tolerance and not random:
        return FrontEndCheck(
            baseline=names[0],
            candidate=names[1],
            stage=_STAGE,
            max_abs_diff=largest,
            tolerance=tolerance,
            words=f"features agree within {largest:.2g}",
        )
    dims = getattr(getattr(baseline, "metadata", None), "fbank", None)
    dims = dims or getattr(getattr(getattr(baseline, "network", None), "fbank", None), "dims", None)
    check = explain_features(kept[1], kept[2], kept[0], dims=dims or DEFAULT_DIMS, tolerance=tolerance)
    check = replace(check, baseline=names[0], candidate=names[1], max_abs_diff=largest)
    if random and "dither" not in check.causes:
        words = "the candidate's features change from run to run: dither is on; set it to 0"
        check = replace(check, causes=("dither", *check.causes), words=f"{words}. {check.words}".strip())
    return check


def name_front_end(
    findings: Sequence[Finding],
    baseline: Mapping[str, np.ndarray],
    candidate: Mapping[str, np.ndarray],
    waveforms: np.ndarray,
) -> list[Finding]:
    """`findings`, where one that blames the features says which setting of the filter bank differs.

    Parameters
    ----------
    findings : of the stages below
    baseline, candidate : stages by name, `fbank` of shape (1, num_frames, num_mels)
    waveforms : float array, shape (1, num_samples), that both were made from
    """
    named = []
    for finding in findings:
        blamed = finding.kind == "front_end" and finding.details.get("stage") == _STAGE
        if blamed and finding.side == "candidate" and "offset" not in finding.details:
            check = explain_features(baseline[_STAGE], candidate[_STAGE], waveforms)
            if check.causes:
                words = f"the candidate's front end: {check.words}"
                details = {**finding.details, "causes": list(check.causes), "residual": check.residual}
                finding = replace(finding, words=words, details=details)
        named.append(finding)
    return named


def explain_features(
    baseline: np.ndarray,
    candidate: np.ndarray,
    waveforms: np.ndarray,
    *,
    dims: KaldiFbankDims = DEFAULT_DIMS,
    tolerance: float = TOLERANCE,
) -> FrontEndCheck:
    """Which settings of a filter bank explain the difference of two sets of features.

    Parameters
    ----------
    baseline, candidate : float arrays, shape (batch, num_frames, num_mels)
    waveforms : float array, shape (batch, num_samples), in [-1, 1), that both were made from
    dims : frame lengths and mel bands of the baseline
    tolerance : largest difference of a log energy that counts as none
    """
    largest = float(np.abs(baseline.astype(np.float64) - candidate).max(initial=0.0))
    shared: dict[str, Any] = {
        "baseline": "baseline",
        "candidate": "candidate",
        "stage": _STAGE,
        "max_abs_diff": largest,
        "tolerance": tolerance,
    }
    start = FrontEndSettings(scale=dims.scale, preemphasis=dims.preemphasis, low_hz=dims.low_hz)
    waveforms, (one, other), means = _crop(waveforms, (baseline, candidate), dims)
    mine, residual = _fit(one, waveforms, dims, replace(start, centred=means[0]), tolerance)
    if residual > tolerance:
        return FrontEndCheck(**shared, **_without_a_model(baseline, candidate, largest))
    begin = replace(mine, centred=means[1])
    theirs, residual = _fit(other, waveforms, dims, begin, tolerance, pairs=False)
    if residual > tolerance:
        dithered, left = _fit_dither(other, waveforms, dims, begin)
        if dithered is not None:
            theirs, residual = dithered, left
        else:
            theirs, residual = _fit(other, waveforms, dims, begin, tolerance)
    tried = _table(other, waveforms, dims, begin)
    causes = tuple(name for name in _WORDS if getattr(mine, name) != getattr(theirs, name))
    solved = bool(causes) and (residual <= tolerance or residual <= _EXPLAINED * largest)
    if not solved:
        return FrontEndCheck(**shared, **_without_a_model(baseline, candidate, largest), tried=tried)
    said = ", ".join(
        f"{_WORDS[name]}: {getattr(theirs, name)} instead of {getattr(mine, name)}" for name in causes
    )
    return FrontEndCheck(
        **shared,
        causes=causes,
        baseline_settings=mine,
        candidate_settings=theirs,
        residual=residual,
        words=f"features differ by up to {largest:.3g}, explained by {said} (what is left: {residual:.2g})",
        tried=tried,
    )


def _crop(
    waveforms: np.ndarray, several: tuple[np.ndarray, np.ndarray], dims: KaldiFbankDims
) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[bool, ...]]:
    """Waveforms and features around the largest difference, and whose features have lost their mean.

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
    return waveforms[row : row + 1, samples], tuple(pieces), means


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


def _fit(
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


def _fit_dither(
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


def _table(
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


def _without_a_model(one: np.ndarray, other: np.ndarray, largest: float) -> dict[str, Any]:
    """What can be said of features that no setting gives: an offset, a slope over the bands, noise."""
    difference = other.astype(np.float64) - one
    offset = float(np.median(difference))
    left = float(np.abs(difference - offset).max(initial=0.0))
    by_band = np.median(difference, axis=(0, 1))
    left_by_band = float(np.abs(difference - by_band).max(initial=0.0))
    said = f"features differ by up to {largest:.3g}; no known setting of a filter bank explains it"
    if left <= _EXPLAINED * largest:
        nats, decibels = float(np.exp(offset / 2)), float(10 ** (offset / 20))
        words = f"features differ by a constant of {offset:.4g}: samples scaled by {nats:.4g} if they are in "
        words += f"nats, by {decibels:.4g} if they are in dB"
        return {"causes": ("scale",), "residual": left, "words": words}
    if left_by_band <= _EXPLAINED * largest:
        words = (
            "features differ by a constant per band: subtraction of the mean over time, or a filter such as "
        )
        words += "pre-emphasis"
        return {"causes": ("centred",), "residual": left_by_band, "words": words}
    return {"causes": (), "residual": largest, "words": said}


def _features(runtime: Runtime, uri: str, waveforms: np.ndarray) -> np.ndarray | None:
    """The stage `fbank`, shape (batch, num_frames, num_mels); None where there is none."""
    if isinstance(runtime, RecordedRuntime):
        return runtime.stage(uri, _STAGE) if _STAGE in runtime.stage_names(uri) else None
    return runtime.stages(waveforms).get(_STAGE)


def _other_shape(
    names: tuple[str, str], one: tuple[int, ...], other: tuple[int, ...], tolerance: float
) -> FrontEndCheck:
    words = f"features have shape {other} instead of {one}"
    if one[0] == other[0] and one[1:] == other[:0:-1]:
        words += ": the axes of time and bands are swapped"
    elif one[-1] != other[-1]:
        words += f": {other[-1]} mel bands instead of {one[-1]}"
    else:
        words += (
            f": {other[1]} frames instead of {one[1]}; frame length, step, or padding at the edges differ"
        )
    return FrontEndCheck(
        baseline=names[0],
        candidate=names[1],
        stage=_STAGE,
        max_abs_diff=float("inf"),
        tolerance=tolerance,
        causes=("shape",),
        words=words,
    )
