"""Scores agree with pyannote.metrics, dscore and published tables."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from pyannote.core import Annotation

from workbench.rttm import read_rttm, read_uem
from workbench.scoring import Turns, score, score_files
from workbench.scoring.prepared import PreparedReference
from workbench.scoring.slots import SHORTEST
from workbench.scoring.turns import activity

COMPONENTS = {
    "total": "total",
    "correct": "correct",
    "missed": "missed detection",
    "false_alarm": "false alarm",
    "confusion": "confusion",
    "der": "diarization error rate",
}
DSCORE = {
    "b3_precision": "bcubed_precision",
    "b3_recall": "bcubed_recall",
    "b3_f1": "bcubed_f1",
    "gkt_ref_sys": "tau_ref_sys",
    "gkt_sys_ref": "tau_sys_ref",
    "h_ref_sys": "ce_ref_sys",
    "h_sys_ref": "ce_sys_ref",
    "mi": "mi",
    "nmi": "nmi",
}


@pytest.fixture(scope="module")
def pairs(golden):
    """References, hypotheses and UEM of all golden pairs."""
    folder = golden / "scoring"
    names = json.loads((folder / "index.json").read_text())["files"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*turns of no length", category=UserWarning)
        sides = [
            {
                name: read_rttm(folder / f"{name}.{side}.rttm").get(name, Annotation(uri=name))
                for name in names
            }
            for side in ("ref", "hyp")
        ]
    return *sides, {name: read_uem(folder / f"{name}.uem")[name] for name in names}


@pytest.fixture(scope="module")
def pyannote_scores(golden):
    return json.loads((golden / "scoring/pyannote_metrics.json").read_text())


@pytest.fixture(scope="module")
def dscore(golden):
    return json.loads((golden / "scoring/dscore.json").read_text())["results"]


@pytest.mark.parametrize("uem", ["uem", "no_uem"])
@pytest.mark.parametrize("width", ["0", "0.25", "0.5"])
@pytest.mark.parametrize("skip_overlap", [False, True])
def test_counts_are_those_of_pyannote_metrics(pairs, pyannote_scores, uem, width, skip_overlap):
    references, hypotheses, regions = pairs
    key = f"der_collar{width}_skip{int(skip_overlap)}"
    collar = float(width) / 2  # pyannote gives the whole width
    for uri, expected in pyannote_scores[uem]["files"].items():
        region = regions[uri] if uem == "uem" else None
        counts = score(references[uri], hypotheses[uri], region, collar, skip_overlap)
        for ours, theirs in COMPONENTS.items():
            assert getattr(counts, ours) == pytest.approx(expected[key][theirs], abs=1e-9), (uri, ours)
    report = score_files(references, hypotheses, regions if uem == "uem" else None, collar, skip_overlap)
    expected = pyannote_scores[uem]["aggregate"][key]
    for ours, theirs in {**COMPONENTS, "der": "value"}.items():
        assert getattr(report.overall.counts, ours) == pytest.approx(expected[theirs], abs=1e-8), ours


@pytest.mark.parametrize("metric", ["purity", "coverage"])
def test_purity_and_coverage_are_those_of_pyannote_metrics(pairs, pyannote_scores, metric):
    references, hypotheses, regions = pairs
    for uem in (regions, None):
        expected = pyannote_scores["uem" if uem else "no_uem"]
        report = score_files(references, hypotheses, uem, collar=0.125)
        key = f"{metric}_collar0.25_skip0"
        for uri, row in report.recordings.items():
            assert getattr(row, metric) == pytest.approx(expected["files"][uri][key][metric], abs=1e-9), uri
        assert getattr(report.overall, metric) == pytest.approx(expected["aggregate"][key]["value"], abs=1e-9)


@pytest.mark.parametrize("uem", ["uem", "no_uem"])
@pytest.mark.parametrize("collar", [0, 0.25])
@pytest.mark.parametrize("ignore", [False, True])
def test_jer_and_clustering_metrics_are_those_of_dscore(pairs, dscore, uem, collar, ignore):
    references, hypotheses, regions = pairs
    expected = dscore[f"{uem}_collar{collar}_ignore{int(ignore)}"]
    uris = expected["aggregate_files"]  # all that dscore can read
    report = score_files(
        {uri: references[uri] for uri in uris},
        {uri: hypotheses[uri] for uri in uris},
        regions if uem == "uem" else None,
        collar,
        ignore,
    )
    expected_rows = {**expected["files"], **expected["differs_in_joint_run"]}
    rows = {uri: (row, expected_rows[uri]) for uri, row in report.recordings.items()}
    rows["overall"] = report.overall, expected["aggregate"]
    assert len(rows) == 33
    for uri, (row, theirs) in rows.items():
        values = row.to_dict()
        assert values["jer"] == pytest.approx(theirs["jer"] / 100, abs=1e-9), uri
        for ours, name in DSCORE.items():
            assert values[ours] == pytest.approx(theirs[name], abs=1e-9), (uri, ours)


@pytest.mark.parametrize("uem", ["uem", "no_uem"])
def test_the_jer_of_a_prepared_reference_is_that_of_dscore(pairs, dscore, uem):
    """Which thousands of hypotheses of a sweep are scored with."""
    references, hypotheses, regions = pairs
    expected = dscore[f"{uem}_collar0_ignore0"]
    jer = {uri: row.get("jer") for uri, row in (expected["files"] | expected["differs_in_joint_run"]).items()}
    compared = 0
    for uri in expected["aggregate_files"]:
        hypothesis = Turns.of(hypotheses[uri])
        times = np.unique(np.concatenate([hypothesis.starts, hypothesis.ends]))
        if (np.diff(times) <= 2 * SHORTEST).any():
            continue  # no pipeline has frames as short
        turns = hypothesis.starts, hypothesis.ends, hypothesis.speakers
        active = activity(times, *turns, len(hypothesis.labels))
        rows = np.append(active > 0, np.zeros((1, active.shape[1]), dtype=bool), axis=0)[: len(times)]
        prepared = PreparedReference(references[uri], times, regions[uri] if uem == "uem" else None)
        _, speakers = prepared.score_runs_fully(np.arange(len(times)), rows)
        assert speakers.jer == pytest.approx(jer[uri] / 100, abs=1e-9), uri
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("collar", [0, 0.25])
def test_der_is_that_of_md_eval_where_both_count_alike(pairs, dscore, collar):
    """Unlike pyannote, dscore merges what one speaker says twice, and md-eval rounds to 10 ms."""
    references, hypotheses, regions = pairs
    expected = dscore[f"uem_collar{collar}_ignore0"]["files"]
    compared = 0
    for uri, theirs in expected.items():
        ref, hyp = references[uri], hypotheses[uri]
        self_overlap = any(
            sum(
                segment.duration
                for segment, _, label in side.itertracks(yield_label=True)
                if label == speaker
            )
            > side.label_duration(speaker) + 1e-6
            for side in (ref, hyp)
            for speaker in side.labels()
        )
        if "error" not in theirs and not self_overlap:
            compared += 1
            der = score(ref, hyp, regions[uri], collar).der
            assert 100 * der == pytest.approx(theirs["der"], abs=0.02), uri
    assert compared >= 12


@pytest.mark.parametrize(
    ("collar", "skip_overlap", "mix_headset", "beamformed"),
    [(0.25, True, 1.56, 2.80), (0.25, False, 9.68, 10.81), (0, False, 16.33, 17.66)],
)
def test_published_figures_of_the_ami_meetings(shared_data, collar, skip_overlap, mix_headset, beamformed):
    folder = shared_data / "ami-meetings"
    references, uem = read_rttm(folder / "reference.rttm"), read_uem(folder / "all.uem")
    for name, published in (("mix-headset", mix_headset), ("beamformed", beamformed)):
        hypotheses = read_rttm(folder / f"vbx_{name}.rttm")
        report = score_files(references, hypotheses, uem, collar, skip_overlap)
        assert len(report.recordings) == 18
        assert round(100 * report.overall.counts.der, 2) == published


def test_published_score_of_the_vbx_example(golden):
    folder = golden / "es2005a"
    reference = read_rttm(folder / "ES2005a.ref.rttm")["ES2005a"]
    hypothesis = read_rttm(folder / "ES2005a.published_hyp.rttm")["ES2005a"]
    report = score_files({"a": reference}, {"a": hypothesis}, collar=0.25, skip_overlap=True)
    assert round(100 * report.overall.counts.der, 2) == 7.06
    assert round(100 * report.overall.jer, 2) == 29.99
