"""Speech, overlap, number of speakers, identification and greedy mapping, against pyannote.metrics."""

from __future__ import annotations

import json
import math
import warnings

import pytest
from pyannote.core import Annotation
from pyannote.metrics.detection import DetectionErrorRate, DetectionPrecision, DetectionRecall
from pyannote.metrics.diarization import GreedyDiarizationErrorRate
from pyannote.metrics.identification import IdentificationErrorRate
from scoring_pairs import random_settings, random_turns, spoken

from workbench.rttm import read_rttm, read_uem
from workbench.scoring import score_files
from workbench.scoring.detection import DetectionCounts
from workbench.scoring.diarization import score_greedily, score_identification
from workbench.scoring.slots import Slots

NAMES = {
    "total": "total",
    "correct": "correct",
    "missed": "missed detection",
    "false_alarm": "false alarm",
    "confusion": "confusion",
}


def detected(reference, hypothesis, **settings) -> DetectionCounts:
    return DetectionCounts.of(Slots.of(reference, hypothesis, **settings))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(score_identification, IdentificationErrorRate), (score_greedily, GreedyDiarizationErrorRate)],
)
def test_other_mappings_count_as_pyannote_metrics_does(rng, ours, theirs):
    for _ in range(60):
        sides = random_turns(rng, rng.integers(0, 20), 3), random_turns(rng, rng.integers(0, 20), 4)
        how = random_settings(rng)
        metric = theirs(collar=2 * how["collar"], skip_overlap=how["skip_overlap"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'uem' was approximated")
            expected = metric(*sides, uem=how["uem"], detailed=True)
        for name, other in NAMES.items():
            assert getattr(ours(*sides, **how), name) == pytest.approx(expected[other], abs=1e-9)


@pytest.mark.parametrize(("ours", "key"), [(score_identification, "ier"), (score_greedily, "greedy")])
def test_other_mappings_agree_with_the_recordings_of_pyannote_metrics(golden, ours, key):
    folder = golden / "scoring"
    expected = json.loads((folder / "pyannote_metrics.json").read_text())["uem"]["files"]
    compared = 0
    for uri, metrics in expected.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*turns of no length", category=UserWarning)
            sides = [
                read_rttm(folder / f"{uri}.{side}.rttm").get(uri, Annotation(uri=uri))
                for side in ("ref", "hyp")
            ]
        for width in ("0", "0.25"):
            for skip in (0, 1):
                counts = ours(*sides, read_uem(folder / f"{uri}.uem")[uri], float(width) / 2, bool(skip))
                theirs = metrics[f"{key}_collar{width}_skip{skip}"]
                for name, other in NAMES.items():
                    assert getattr(counts, name) == pytest.approx(theirs[other], abs=1e-9), (uri, name)
                compared += 1
    assert compared == 33 * 4


def test_speech_and_overlap_are_those_of_pyannote_metrics(rng):
    for _ in range(60):
        reference, hypothesis = random_turns(rng, 15, 3, 0.01), random_turns(rng, 15, 4, 0.01)
        how = random_settings(rng) | {"skip_overlap": False, "collar": 0.0}
        found = detected(reference, hypothesis, **how)
        uem = how["uem"] or reference.get_timeline().union(hypothesis.get_timeline()).extent()
        speech = DetectionErrorRate()(reference, hypothesis, uem=uem, detailed=True)
        assert found.speech.missed == pytest.approx(speech["miss"], abs=1e-6)
        assert found.speech.false_alarm == pytest.approx(speech["false alarm"], abs=1e-6)
        assert found.speech.error_rate == pytest.approx(speech["detection error rate"], abs=1e-6)
        overlaps = [side.get_overlap().to_annotation() for side in (reference, hypothesis)]
        if found.overlap.reference and found.overlap.hypothesis:
            assert found.overlap.precision == pytest.approx(
                DetectionPrecision()(*overlaps, uem=uem), abs=1e-6
            )
            assert found.overlap.recall == pytest.approx(DetectionRecall()(*overlaps, uem=uem), abs=1e-6)


def test_detection_by_hand_and_added_up():
    first = detected(spoken((0, 10, "A"), (6, 8, "B")), spoken((1, 7, "x"), (6, 9, "y"), (20, 21, "z")))
    assert (first.speech.total, first.speech.missed, first.speech.false_alarm) == (10, 2, 1)
    assert (first.overlap.precision, first.overlap.recall) == (1.0, 0.5)
    assert (first.speakers.reference, first.speakers.hypothesis, first.speakers.error) == (2, 3, 1)
    second = detected(spoken((0, 4, "A")), Annotation())
    both = first + second
    assert both.speech.error_rate == (2 + 1 + 4) / 14
    assert (both.speakers.error, both.speakers.recordings, both.speakers.right) == (2, 2, 0)
    assert math.isnan(second.overlap.precision)
    assert second.to_dict()["overlap_f1"] is None


def test_a_speaker_who_overlaps_themselves_is_no_overlap():
    assert detected(spoken((0, 10, "A"), (5, 8, "A")), Annotation()).overlap.reference == 0


def test_the_report_has_detection_and_identification():
    references = {"a": spoken((0, 10, "A"))}
    report = score_files(references, {"a": spoken((0, 8, "A"), (8, 9, "x"))}).to_dict()
    row = report["detection"]["recordings"]["a"]
    assert row == report["detection"]["overall"]
    assert (row["speech_missed"], row["identification_error_rate"]) == (1.0, 0.2)
    assert (row["speakers_reference"], row["speakers_hypothesis"], row["speaker_count_error"]) == (1, 2, 1)
