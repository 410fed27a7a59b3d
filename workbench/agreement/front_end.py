"""The features apart from the network: where two front ends differ, and which setting explains it.

Filter banks go wrong in few ways, all seen in ports: random dither left on, samples in [-1, 1) instead of
the int16 range, another window, pre-emphasis or DC removal forgotten, magnitude for power, means not
subtracted. Each is tried in turn, then in pairs; the one that turns our features into the candidate's is the
explanation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.agreement.fbank_fit import (
    EXPLAINED,
    crop_around,
    find_sample_shift,
    fit_dither,
    fit_settings,
    table_of_changes,
)
from workbench.agreement.fbank_variants import FrontEndSettings
from workbench.agreement.feature_relations import FeatureRelation, relate_features
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
_CERTAIN = ("units", "shift", "band_order", "floor")  # relations that no setting of a filter bank makes


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
    # other networks have features at other steps, of whole milliseconds
    frame_step = round(waveforms.shape[1] / baseline.shape[1] / dims.sample_rate, 3)
    relation = relate_features(baseline, candidate, frame_step)
    if relation is not None and relation.cause in _CERTAIN:
        return FrontEndCheck(**shared, **_related(relation, largest))
    start = FrontEndSettings(scale=dims.scale, preemphasis=dims.preemphasis, low_hz=dims.low_hz)
    whole = waveforms
    waveforms, (one, other), means, place = crop_around(waveforms, (baseline, candidate), dims)
    mine, residual = fit_settings(one, waveforms, dims, replace(start, centred=means[0]), tolerance)
    if residual > tolerance:
        return FrontEndCheck(**shared, **_without_a_model(relation, largest))
    begin = replace(mine, centred=means[1])
    theirs, residual = fit_settings(other, waveforms, dims, begin, tolerance, pairs=False)
    if residual > tolerance:
        shift = find_sample_shift(other, whole, place, dims, begin, tolerance)
        if shift:
            return FrontEndCheck(**shared, **_moved(shift, dims, largest))
        dithered, left = fit_dither(other, waveforms, dims, begin)
        if dithered is not None:
            theirs, residual = dithered, left
        else:
            theirs, residual = fit_settings(other, waveforms, dims, begin, tolerance)
    tried = table_of_changes(other, waveforms, dims, begin)
    causes = tuple(name for name in _WORDS if getattr(mine, name) != getattr(theirs, name))
    solved = bool(causes) and (residual <= tolerance or residual <= EXPLAINED * largest)
    if not solved:
        return FrontEndCheck(**shared, **_without_a_model(relation, largest), tried=tried)
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


def _moved(shift: int, dims: KaldiFbankDims, largest: float) -> dict[str, Any]:
    """A shift of the samples in words."""
    milliseconds = 1000 * abs(shift) / dims.sample_rate
    words = (
        f"features differ by up to {largest:.3g}, explained by samples that are "
        f"{'late' if shift > 0 else 'early'} by {abs(shift)} ({milliseconds:.2f} ms)"
    )
    return {"causes": ("shift",), "residual": 0.0, "words": words}


def _related(relation: FeatureRelation, largest: float) -> dict[str, Any]:
    """A relation in words."""
    words = f"features differ by up to {largest:.3g}, explained by this: they are {relation.words}"
    words += f" (what is left: {relation.residual:.2g})" if np.isfinite(relation.residual) else ""
    return {"causes": (relation.cause,), "residual": relation.residual, "words": words}


def _without_a_model(relation: FeatureRelation | None, largest: float) -> dict[str, Any]:
    """What can be said of features that no setting gives: a scale, an offset, statistics of the bands."""
    if relation is None:
        words = f"features differ by up to {largest:.3g}; no known setting of a filter bank explains it"
        return {"causes": (), "residual": largest, "words": words}
    found = _related(relation, largest)
    if relation.cause == "scale" and abs(relation.details["factor"] - 1) < 1e-3:
        offset = relation.details["offset"]
        nats, decibels = float(np.exp(offset / 2)), float(10 ** (offset / 20))
        found["words"] = (
            f"features differ by a constant of {offset:.4g}: samples scaled by {nats:.4g} if they are in "
            f"nats, by {decibels:.4g} if they are in dB"
        )
    return found


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
