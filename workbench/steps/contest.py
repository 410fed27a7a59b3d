"""Two whole pipelines on the same recordings: do they agree, and are they right? Two lamps, never one.

Two runtimes can agree to the last bit and both be wrong, or differ in a thousand frames and be equally
good. So agreement (flips of the segmentation, speech on which the outputs differ) and correctness (errors
against references, with a paired test) are reported side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyannote.core import Annotation, Timeline

from workbench.agreement import ParityParams, ParityResult, parity
from workbench.audio import check_uri, read_audio
from workbench.errors import InputError, RecordingError
from workbench.pipeline import SAMPLE_RATE, diarize_features, extract_features
from workbench.rttm import write_rttm
from workbench.runtimes import Runtime
from workbench.scoring import DiarizationCounts, ScoreReport, describe_convention, score, score_files
from workbench.scoring.comparison import SystemComparison, compare_files
from workbench.scoring.significance import permutation_p
from workbench.steps.sides import PipelineSide

Light = Literal["green", "amber", "red", "dark"]
"""`dark`: nothing could be seen."""

MAX_DER = 0.5
"""Above this an output is wrong whatever else agrees with it."""

SAME_OUTPUT, NEAR_OUTPUT = 0.001, 0.01
"""Cross-DER up to which outputs count as the same, and as nearly the same."""

HIGHER_IS_BETTER = {
    "b3_precision", "b3_recall", "b3_f1", "gkt_ref_sys", "gkt_sys_ref", "mi", "nmi", "purity", "coverage",
}  # fmt: skip
TESTED = (
    "der", "jer", "b3_precision", "b3_recall", "b3_f1", "gkt_ref_sys", "gkt_sys_ref", "h_ref_sys",
    "h_sys_ref", "mi", "nmi",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Lamp:
    """One of the two verdicts."""

    light: Light
    words: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ContestResult:
    """Both sides on all recordings.

    Attributes
    ----------
    scores : of `a` and `b` against the references
    cross : counts of B's outputs against A's, by recording
    parities : of the segmentation and of the embedding models, where these differ
    comparison : the paired test of the DER, and what B fixed and broke
    tests : metric -> a, b, difference (overall), p of the recordings' differences
    trivial_der : of the answer that one speaker talks wherever A hears anybody
    """

    a: str
    b: str
    outputs: Mapping[str, Mapping[str, Annotation]]
    scores: Mapping[str, ScoreReport]
    cross: Mapping[str, DiarizationCounts]
    parities: Mapping[str, ParityResult]
    comparison: SystemComparison
    tests: Mapping[str, Mapping[str, Any]]
    trivial_der: float
    max_der: float
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def cross_total(self) -> DiarizationCounts:
        """Counts of B's outputs against A's, all recordings together."""
        return sum(self.cross.values(), DiarizationCounts())

    @property
    def agreement(self) -> Lamp:
        """Whether the two put out the same."""
        if not self.cross:
            return Lamp(light="dark", words="nothing was compared")
        cross = self.cross_total
        words = f"outputs differ in {100 * cross.der:.2f} % of the speech"
        real = 0
        for kind, result in self.parities.items():
            if kind == "segmentation":
                real = result.num_real
                words += f"; {result.num_flips} of {result.num_frames} frames flip, {real} of them real"
            elif result.compared:
                cosines = [e.embeddings.cosine.min() for e in result.compared if e.embeddings is not None
                           and len(e.embeddings.cosine)]  # fmt: skip
                words += f"; embeddings have a cosine of at least {min(cosines):.5f}" if cosines else ""
            if result.failed:
                return Lamp(light="red", words=f"{words}; {result.failed[0][1]}")
        if not self.parities:
            words += "; the models are the same"
        if cross.der <= SAME_OUTPUT and not real:
            return Lamp(light="green", words=words)
        return Lamp(light="amber" if cross.der <= NEAR_OUTPUT else "red", words=words)

    @property
    def correctness(self) -> Lamp:
        """Whether they are right."""
        ders = {side: report.overall.counts.der for side, report in self.scores.items()}
        words = f"DER {100 * ders['a']:.2f} % and {100 * ders['b']:.2f} %"
        if not self.scores["a"].overall.counts.total:
            return Lamp(light="dark", words="the references hold no speech")
        wrong = [side.upper() for side in ("a", "b") if not ders[side] <= self.max_der]
        if wrong:
            return Lamp(
                light="red",
                words=f"{words}: {' and '.join(wrong)} above the limit of {100 * self.max_der:g} %",
            )
        test = self.comparison.test
        words += f"; {self.comparison.words}"
        if test.verdict == "worse" and test.difference.estimate > 0.002:
            return Lamp(light="red", words=words)
        if max(ders.values()) >= self.trivial_der:
            return Lamp(
                light="amber",
                words=f"{words}; one speaker for everything would have {100 * self.trivial_der:.2f} %",
            )
        return Lamp(light="green", words=words)

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`, but for the manifest."""
        test = self.comparison.test
        cross = self.cross_total
        return {
            "a": self.a,
            "b": self.b,
            "lamps": {
                "parity": dataclasses.asdict(self.agreement),
                "correctness": dataclasses.asdict(self.correctness),
            },
            "scores": {side: report.to_dict() for side, report in self.scores.items()},
            "test": dataclasses.asdict(test) | {"words": test.words},
            "tests": {metric: dict(found) for metric, found in self.tests.items()},
            "fixed": self.comparison.fixed,
            "broken": self.comparison.broken,
            "changes": self.comparison.changes.head(100).to_dict("records"),
            "cross": dataclasses.asdict(cross)
            | {
                "der": cross.der if cross.total else None,
                "recordings": {uri: each.der if each.total else None for uri, each in self.cross.items()},
            },
            "parity": _report_of(self.parities.get("segmentation")),
            "embedding_parity": _report_of(self.parities.get("embedding")),
            "trivial_der": self.trivial_der,
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
        }


def run_contest(
    a: PipelineSide,
    b: PipelineSide,
    recordings: Mapping[str, Path],
    references: Mapping[str, Annotation],
    *,
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    out: Path | None = None,
    max_der: float = MAX_DER,
    on_recording: Callable[[str, str | None], None] | None = None,
) -> ContestResult:
    """Diarize with both, score both, test the difference.

    Parameters
    ----------
    a, b : pipelines
    recordings : uri -> audio file
    references : uri -> Annotation; a recording without one fails
    uem, collar, skip_overlap : as of `score`
    out : folder for `a/<uri>.rttm` and `b/<uri>.rttm`
    max_der : above it the lamp of correctness is red
    on_recording : called with uri and error

    Returns
    -------
    result : ContestResult
        Recordings that fail on either side are left out of both.
    """
    outputs: dict[str, dict[str, Annotation]] = {"a": {}, "b": {}}
    failed: list[tuple[str, str]] = []
    for uri, path in recordings.items():
        problem = None
        try:
            check_uri(uri)
            if uri not in references:
                raise RecordingError(f"no reference names {uri!r}")
            waveform = read_audio(path, SAMPLE_RATE)
            found = {}
            for side, pipeline in (("a", a), ("b", b)):
                features = extract_features(waveform, pipeline.runtimes, pipeline.params, uri=uri)
                found[side] = diarize_features(features, pipeline.params, pipeline.runtimes.plda)
            for side, annotation in found.items():
                outputs[side][uri] = annotation
                if out is not None:
                    write_rttm(out / side / f"{uri}.rttm", annotation)
        except RecordingError as error:
            problem = str(error)
            failed.append((uri, problem))
        if on_recording is not None:
            on_recording(uri, problem)
    done = {uri: path for uri, path in recordings.items() if uri in outputs["b"]}
    if not done:
        reasons = "; ".join(f"{uri}: {error}" for uri, error in failed[:3])
        raise InputError(f"nothing to compare: every recording failed ({reasons})")
    truth = {uri: references[uri] for uri in done}
    # without a UEM, one stretch for both sides, so that their errors can be compared
    regions = _regions(truth, outputs) if uem is None else {uri: uem[uri] for uri in done if uri in uem}
    how: dict[str, Any] = {"collar": collar, "skip_overlap": skip_overlap}
    scores = {side: score_files(truth, outputs[side], regions, **how) for side in outputs}
    if uem is None:
        said = describe_convention(collar, skip_overlap, has_uem=False)
        said = said.replace("reference and hypothesis", "reference and both outputs")
        scores = {side: dataclasses.replace(report, convention=said) for side, report in scores.items()}
    comparison = compare_files(truth, outputs["a"], outputs["b"], regions, **how)
    trivial = {uri: _one_speaker(annotation) for uri, annotation in outputs["a"].items()}
    return ContestResult(
        a=a.name,
        b=b.name,
        outputs=outputs,
        scores=scores,
        cross={uri: score(outputs["a"][uri], outputs["b"][uri]) for uri in done},
        parities=_parities(a, b, done),
        comparison=comparison,
        tests=paired_tests(scores["a"], scores["b"]),
        trivial_der=score_files(truth, trivial, regions, **how).overall.counts.der,
        max_der=max_der,
        failed=tuple(failed),
    )


def paired_tests(a: ScoreReport, b: ScoreReport) -> dict[str, dict[str, Any]]:
    """Every metric overall on both sides, and whether the recordings' differences could be chance.

    Returns
    -------
    tests : metric -> `a`, `b`, `difference` (overall, B less A), `higher_is_better`, `p` (signs of the
        recordings' differences swapped; every recording counts the same), `num_recordings`
    """
    found = {}
    rows = [
        (a.recordings[uri].to_dict(), b.recordings[uri].to_dict())
        for uri in a.recordings
        if uri in b.recordings
    ]
    whole = a.overall.to_dict(), b.overall.to_dict()
    for metric in TESTED:
        pairs = [
            (first, second)
            for row in rows
            if (first := row[0][metric]) is not None and (second := row[1][metric]) is not None
        ]
        difference = np.array([second - first for first, second in pairs])
        before, after = whole[0][metric], whole[1][metric]
        found[metric] = {
            "a": before,
            "b": after,
            "difference": None if before is None or after is None else after - before,
            "higher_is_better": metric in HIGHER_IS_BETTER,
            "p": permutation_p(difference) if len(difference) else None,
            "num_recordings": len(difference),
        }
    return found


def _parities(a: PipelineSide, b: PipelineSide, recordings: Mapping[str, Path]) -> dict[str, ParityResult]:
    """Agreement of the models that differ; what cannot be compared has its reason in `failed`."""
    found = {}
    params = ParityParams(
        checks=False, consequences=False, segmentation_step=a.params.segmentation_step,
        batch_size=a.params.batch_size,
    )  # fmt: skip
    pairs: dict[str, tuple[Runtime, Runtime]] = {
        "segmentation": (a.runtimes.segmentation, b.runtimes.segmentation),
        "embedding": (a.runtimes.embedding, b.runtimes.embedding),
    }
    for kind, (first, second) in pairs.items():
        if a.models[kind] == b.models[kind]:
            continue
        how = params if kind == "segmentation" else dataclasses.replace(params, segmentation_step=None)
        found[kind] = parity(first, second, dict(recordings), params=how)
    return found


def _regions(
    truth: Mapping[str, Annotation], outputs: Mapping[str, Mapping[str, Annotation]]
) -> dict[str, Timeline]:
    """From the first start to the last end of reference and both outputs."""
    found = {}
    for uri, reference in truth.items():
        everything = reference.get_timeline()
        for side in outputs.values():
            everything = everything.union(side[uri].get_timeline())
        found[uri] = Timeline([everything.extent()] if len(everything) else [], uri=uri)
    return found


def _one_speaker(annotation: Annotation) -> Annotation:
    """The same speech, all of it by one speaker."""
    found = Annotation(uri=annotation.uri)
    for segment in annotation.get_timeline().support():
        found[segment] = "everybody"
    return found


def _report_of(result: ParityResult | None) -> dict[str, Any] | None:
    return None if result is None else result.to_json()
