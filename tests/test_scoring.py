"""Error counts, clustering metrics and the report over several recordings."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationCoverage, DiarizationErrorRate, DiarizationPurity
from scoring_pairs import random_turns, spoken

from workbench.errors import InputError
from workbench.scoring import DiarizationCounts, PurityCounts, SpeakerErrors, Turns, score, score_files
from workbench.scoring.clustering_metrics import Contingency, frame_labels

ROW = [
    *("total", "correct", "missed", "false_alarm", "confusion", "der", "jer"),
    *("b3_precision", "b3_recall", "b3_f1", "gkt_ref_sys", "gkt_sys_ref"),
    *("h_ref_sys", "h_sys_ref", "mi", "nmi", "purity", "coverage"),
]
COMPONENTS = {
    "total": "total",
    "correct": "correct",
    "missed": "missed detection",
    "false_alarm": "false alarm",
    "confusion": "confusion",
}


def random_uem(rng: np.random.Generator, grid: float | None) -> Timeline | None:
    if rng.random() < 0.3:
        return None
    edges = rng.uniform(-1, 36, 2 * rng.integers(1, 4))
    if grid is not None:
        edges = np.round(edges / grid) * grid
    return Timeline([Segment(*sorted(pair)) for pair in edges.reshape(-1, 2)])


def pyannote_counts(reference, hypothesis, uem, collar, skip_overlap) -> dict[str, float]:
    metric = DiarizationErrorRate(collar=2 * collar, skip_overlap=skip_overlap)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'uem' was approximated")
        return metric(reference, hypothesis, uem=uem, detailed=True)


# Counts


@pytest.mark.parametrize("grid", [None, 0.01, 0.5])
def test_counts_agree_with_pyannote_metrics_on_random_pairs(rng, grid):
    for _ in range(100):
        num_speakers = rng.integers(1, 6, 2)
        reference = random_turns(rng, rng.integers(0, 25), num_speakers[0], grid)
        hypothesis = random_turns(rng, rng.integers(0, 25), num_speakers[1], grid)
        uem = random_uem(rng, grid)
        collar, skip_overlap = rng.choice([0, 0.1, 0.25, 1.0]), bool(rng.integers(2))
        counts = score(reference, hypothesis, uem, collar, skip_overlap)
        theirs = pyannote_counts(reference, hypothesis, uem, collar, skip_overlap)
        for ours, name in COMPONENTS.items():
            assert getattr(counts, ours) == pytest.approx(theirs[name], abs=1e-9)
        assert counts.der == pytest.approx(theirs["diarization error rate"], abs=1e-12)


def test_counts_by_hand():
    reference = spoken((0, 10, "A"), (10, 20, "B"), (15, 18, "A"))
    hypothesis = spoken((1, 12, "x"), (12, 19, "y"), (25, 26, "y"))
    counts = score(reference, hypothesis)
    # A is x over [1, 10], B is y over [12, 19]; x alone in [10, 12] is confusion
    assert counts == DiarizationCounts(total=23, correct=16, missed=5, false_alarm=1, confusion=2)
    assert counts.der == 8 / 23


def test_the_collar_lies_on_each_side_of_reference_boundaries_alone():
    reference, hypothesis = spoken((10, 20, "A")), spoken((9, 21, "x"), (14, 15, "y"))
    counts = score(reference, hypothesis, Timeline([Segment(0, 30)]), collar=0.25)
    assert counts.total == pytest.approx(9.5)
    assert counts.false_alarm == pytest.approx(0.75 + 0.75 + 1)


def test_skipping_overlap_leaves_out_where_two_reference_turns_meet():
    reference, hypothesis = spoken((0, 10, "A"), (6, 8, "B")), spoken((0, 10, "x"))
    assert score(reference, hypothesis).missed == 2
    assert score(reference, hypothesis, skip_overlap=True) == DiarizationCounts(total=8, correct=8)


def test_without_a_uem_false_alarms_beyond_the_reference_count():
    reference, hypothesis = spoken((5, 10, "A")), spoken((0, 12, "x"))
    assert score(reference, hypothesis).false_alarm == 7
    assert score(reference, hypothesis, Timeline([Segment(5, 11)])).false_alarm == 1
    assert score(reference, hypothesis, Segment(5, 11)).false_alarm == 1


def test_an_empty_side_is_all_missed_or_all_false_alarm():
    speech, silence = spoken((0, 4, "A"), (2, 5, "B")), Annotation()
    assert score(speech, silence) == DiarizationCounts(total=7, missed=7)
    assert score(silence, speech) == DiarizationCounts(false_alarm=7)
    assert score(silence, silence) == score(speech, speech, Timeline()) == DiarizationCounts()
    assert score(speech, silence).der == score(silence, speech).der == 1
    assert score(silence, silence).der == 0


def test_counts_add_and_a_corpus_rate_is_one_division():
    counts = [
        DiarizationCounts(total=10, correct=9, missed=1),
        DiarizationCounts(total=30, correct=15, confusion=15),
    ]
    assert (
        sum(counts)
        == counts[0] + counts[1]
        == DiarizationCounts(total=40, correct=24, missed=1, confusion=15)
    )
    assert sum(counts).der == 16 / 40
    with pytest.raises(TypeError):
        counts[0] + 1


def test_prepared_turns_score_as_their_annotation(rng):
    reference, hypothesis = random_turns(rng, 20, 3, None), random_turns(rng, 20, 4, None)
    assert score(Turns.of(reference), Turns.of(hypothesis)) == score(reference, hypothesis)


@pytest.mark.parametrize("collar", [-0.1, math.nan, math.inf])
def test_an_impossible_collar_is_refused(collar):
    with pytest.raises(ValueError, match="collar must be a number of seconds, 0 or more"):
        score(spoken((0, 1, "A")), spoken((0, 1, "x")), collar=collar)


# Clustering metrics


def metrics(reference: Annotation, hypothesis: Annotation, uem: Timeline | None = None):
    return Contingency.of(frame_labels(Turns.of(reference), Turns.of(hypothesis), uem)).metrics()


def test_clustering_metrics_by_hand():
    # 100 frames of A, 100 of B; the hypothesis says x for all of A and half of B, else y
    found = metrics(spoken((0, 1, "A"), (1, 2, "B")), spoken((0, 1.5, "x"), (1.5, 2, "y")))
    assert found.b3_precision == pytest.approx(0.75 * (4 / 9 + 1 / 9) + 0.25)
    assert found.b3_recall == pytest.approx(0.5 + 0.5 * 0.5)
    assert found.h_sys_ref == pytest.approx(0.5)
    assert found.h_ref_sys == pytest.approx(0.75 * (-2 / 3 * np.log2(2 / 3) - 1 / 3 * np.log2(1 / 3)))
    assert found.mi == pytest.approx(1 - found.h_ref_sys)
    assert found.gkt_ref_sys == pytest.approx((0.75 - 0.625) / (1 - 0.625))


def test_runs_count_as_frames_do(rng):
    reference, hypothesis = random_turns(rng, 20, 3, None), random_turns(rng, 20, 4, None)
    labels = frame_labels(
        Turns.of(reference), Turns.of(hypothesis), Timeline([Segment(2, 12), Segment(15, 29.995)])
    )
    times = 0.01 * np.arange(2999)
    times = times[((times >= 2) & (times < 12)) | (times >= 15)]
    assert labels.frames.sum() == len(times)
    for side, runs in ((reference, labels.reference), (hypothesis, labels.hypothesis)):
        frames = np.repeat(runs, labels.frames, axis=0)
        for speaker, label in enumerate(side.labels()):
            active = [any(s.start <= t < s.end for s in side.label_timeline(label)) for t in times]
            np.testing.assert_array_equal(frames[:, speaker], active)


def test_jaccard_error_by_hand():
    reference = spoken((0, 1, "A"), (1, 2, "B"), (2, 3, "C"))
    hypothesis = spoken((0, 1.5, "x"), (1.5, 2, "y"))
    errors = SpeakerErrors.of(frame_labels(Turns.of(reference), Turns.of(hypothesis)))
    assert errors.errors == pytest.approx([1 / 3, 1 / 2, 1])
    assert errors.jer == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    assert (errors + SpeakerErrors(errors=(0.0,), num_hypothesis=1)).jer == pytest.approx(
        (1 / 3 + 1 / 2 + 1) / 4
    )


def test_a_speaker_shorter_than_a_frame_is_an_error_not_a_crash():
    short = spoken((0, 1, "A"), (0.501, 0.502, "B"))
    assert SpeakerErrors.of(frame_labels(Turns.of(short), Turns.of(short))).jer == 0.5


def test_more_speakers_than_bits_of_an_integer_are_told_apart():
    many = spoken(*((number, number + 1, f"s{number}") for number in range(80)))
    assert metrics(many, many).mi == pytest.approx(np.log2(80))


def test_purity_and_coverage_agree_with_pyannote_metrics_on_random_pairs(rng):
    for _ in range(50):
        reference = random_turns(rng, rng.integers(0, 25), 3, 0.01)
        hypothesis = random_turns(rng, rng.integers(0, 25), 4, 0.01)
        counts = PurityCounts.of(Turns.of(reference), Turns.of(hypothesis))
        assert counts.purity == pytest.approx(DiarizationPurity()(reference, hypothesis), abs=1e-9)
        assert counts.coverage == pytest.approx(DiarizationCoverage()(reference, hypothesis), abs=1e-9)


# Report


REFERENCES = {"a": spoken((0, 10, "A")), "b": spoken((0, 30, "A"), (20, 30, "B"))}
HYPOTHESES = {"a": spoken((0, 9, "x")), "b": spoken((0, 30, "x"))}


def test_the_report_has_the_rows_of_the_contract():
    report = score_files(REFERENCES, HYPOTHESES, collar=0.25).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {"collar", "skip_overlap", "recordings", "overall", "failed"} <= set(report)
    assert (report["collar"], report["skip_overlap"], report["failed"]) == (0.25, False, [])
    assert list(report["recordings"]) == ["a", "b"]
    for row in (report["overall"], *report["recordings"].values()):
        assert list(row) == ROW
        assert all(isinstance(value, float) for value in row.values())


def test_overall_is_pooled_not_averaged():
    overall = score_files(REFERENCES, HYPOTHESES).overall
    assert overall.counts.der == (1 + 10) / 50
    assert overall.jer == pytest.approx((0.1 + 0 + 1) / 3)  # over speakers


@pytest.mark.parametrize(
    ("collar", "skip_overlap", "uem", "words"),
    [
        (0, False, None, "no collar, overlap scored, no UEM: extent of reference and hypothesis"),
        (
            0.25,
            True,
            {"a": Timeline([Segment(0, 10)])},
            "collar ±0.25 s, overlap not scored, regions of the UEM",
        ),
    ],
)
def test_the_report_says_how_it_counted(collar, skip_overlap, uem, words):
    assert score_files(REFERENCES, HYPOTHESES, uem, collar, skip_overlap).convention == words


def test_a_reference_without_hypothesis_is_missed_speech():
    report = score_files(REFERENCES, {"a": HYPOTHESES["a"]})
    assert report.without_hypothesis == ("b",)
    assert report.recordings["b"].counts == DiarizationCounts(total=40, missed=40)
    assert report.overall.counts.total == 50
    assert report.failed == ()


def test_a_system_that_found_no_speech_at_all_is_scored():
    assert score_files(REFERENCES, {}).overall.counts == DiarizationCounts(total=50, missed=50)


def test_a_hypothesis_without_reference_is_false_alarm_and_reported():
    report = score_files({"a": REFERENCES["a"]}, HYPOTHESES)
    assert [uri for uri, _ in report.failed] == ["b"]
    assert report.recordings["b"].counts == DiarizationCounts(false_alarm=30)
    assert report.to_dict()["failed"][0]["error"].startswith("no reference names this recording")


def test_a_recording_that_the_uem_names_may_have_a_silent_reference():
    uem = {uri: Timeline([Segment(0, 20)]) for uri in "ab"}
    report = score_files({"a": REFERENCES["a"]}, HYPOTHESES, uem)
    assert report.failed == ()
    assert report.recordings["b"].counts == DiarizationCounts(false_alarm=20)


def test_a_uem_leaves_out_what_it_does_not_name():
    report = score_files(REFERENCES, HYPOTHESES, {"b": Timeline([Segment(0, 20)])})
    assert report.left_out == {"a": "the UEM does not name it"}
    assert list(report.recordings) == ["b"]


def test_only_common_recordings_can_be_asked_for():
    report = score_files(REFERENCES, {"b": HYPOTHESES["b"], "c": HYPOTHESES["a"]}, only_common=True)
    assert list(report.recordings) == ["b"]
    assert report.left_out == {"a": "it has no hypothesis", "c": "it has no reference"}
    assert report.failed == ()


@pytest.mark.parametrize(
    ("references", "hypotheses", "uem", "message"),
    [
        (
            REFERENCES,
            {"x": HYPOTHESES["a"]},
            None,
            "reference and hypothesis have no recording in common: .*a, b.* x",
        ),
        (REFERENCES, HYPOTHESES, {"x": Timeline()}, "and UEM have no recording in common: .*a, b.* x"),
        ({}, {}, None, "there is no recording to score: none is named"),
        (REFERENCES, {}, {}, "no recording in common"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(references, hypotheses, uem, message):
    with pytest.raises(InputError, match=message):
        score_files(references, hypotheses, uem)


def test_accents_encoded_differently_are_pointed_out():
    references = {"a": REFERENCES["a"], "caf\u00e9": REFERENCES["b"]}
    report = score_files(references, {"a": HYPOTHESES["a"], "cafe\u0301": HYPOTHESES["b"]})
    assert "whose accents are encoded differently" in report.failed[0][1]


def test_figures_without_any_frame_are_null():
    report = score_files({"a": Annotation()}, {"a": Annotation()}).to_dict()
    assert report["overall"]["nmi"] is None
    assert report["overall"]["der"] == 0
    assert report["overall"]["jer"] == 0


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_times_that_are_no_numbers_are_refused(end):
    annotation = spoken((0, 1, "A"), (2, 3, "B"))
    annotation._tracks[Segment(4, end)] = {0: "C"}  # pyannote lets infinite times in, NaN here and there
    with pytest.raises(InputError, match="a turn of 'C' goes from 4 to .*; times must be finite"):
        score(annotation, annotation)
