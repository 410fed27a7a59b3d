"""References that cannot be right stop the run with a reason."""

from __future__ import annotations

import pytest
from pyannote.core import Annotation, Segment, Timeline
from scoring_pairs import random_turns, spoken

from workbench.errors import InputError
from workbench.scoring.references import check_references, require_references

GOOD = {"a": spoken((0, 10, "A"), (10, 20, "B")), "b": spoken((1, 5, "A"))}
MANY = spoken(*((2.0 * i, 2.0 * i + 1, f"s{i % 3}") for i in range(12)))
REGION = Timeline([Segment(0, 100)])


def test_good_references_pass_without_a_word():
    hypotheses = {"a": spoken((0, 20, "x")), "b": spoken((0, 6, "x"))}
    assert require_references(GOOD, hypotheses) == []
    assert require_references(GOOD, hypotheses, {"a": REGION, "b": REGION}, {"a": 20.0, "b": 30.0}) == []


@pytest.mark.parametrize(
    ("references", "hypotheses", "uem", "durations", "check", "problem"),
    [
        ({}, GOOD, None, None, "missing", "names no recording"),
        (GOOD | {"c": Annotation()}, GOOD, None, None, "empty", "nobody speaks"),
        (
            {uri: spoken((0, 60, "speaker")) for uri in "abc"},
            {uri: spoken((0, 30, "x"), (30, 60, "y")) for uri in "abc"},
            None,
            None,
            "placeholder",
            "one turn of 'speaker' fills each of the 3 recordings",
        ),
        (
            {"a": spoken((0, 600, "unknown"))},
            {"a": spoken((0, 600, "x"))},
            None,
            None,
            "placeholder",
            "covers the whole recording",
        ),
        (
            {"a": MANY, "b": MANY.copy()},
            {},
            None,
            None,
            "placeholder",
            "a, b: 2 recordings hold the very same turns",
        ),
        (GOOD, {}, None, {"a": 15.0}, "duration", "ends at 20.00 s, but the recording is 15.00 s long"),
        (
            GOOD,
            {},
            {"a": Timeline([Segment(30, 40)])},
            None,
            "duration",
            "lie outside the regions of the UEM",
        ),
        (
            GOOD,
            {"a": spoken(*((3.0 * i, 3.0 * i + 2, "x") for i in range(100)))},
            None,
            None,
            "coverage",
            "is only the beginning annotated?",
        ),
    ],
)
def test_a_reference_that_cannot_be_right_stops_the_run(
    references, hypotheses, uem, durations, check, problem
):
    with pytest.raises(InputError, match="^the reference cannot be trusted: ") as caught:
        require_references(references, hypotheses, uem, durations, hint="do this")
    assert problem in str(caught.value)
    assert str(caught.value).endswith("; do this")
    assert check in {finding.check for finding in check_references(references, hypotheses, uem, durations)}


def test_a_recording_that_the_uem_names_may_be_silent():
    silent = GOOD | {"c": Annotation()}
    assert require_references(silent, silent, dict.fromkeys("abc", REGION)) == []


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        ("cafe\u0301", "whose accents are encoded differently"),
        ("caf\u00e9.Mix-Headset", "(the hypothesis has 'caf\u00e9.Mix-Headset')"),
        ("tea", "no hypothesis names it"),
    ],
)
def test_names_that_do_not_match_are_remarked_with_what_was_meant(other, hint):
    findings = check_references({"caf\u00e9": MANY}, {other: MANY})
    assert [finding.check for finding in findings] == ["unmatched", "unmatched"]
    assert not any(finding.stops for finding in findings)
    assert any(hint in str(finding) for finding in findings)


def test_a_uem_whose_names_are_encoded_differently_is_remarked():
    uem = {"cafe\u0301": REGION, "a": REGION}
    findings = check_references(GOOD | {"caf\u00e9": MANY}, GOOD, uem)
    assert any("the UEM does not name it" in finding.problem for finding in findings)


def test_short_toy_recordings_are_no_placeholders():
    toys = {uri: spoken((0, 9, "A")) for uri in "ab"}
    assert check_references(toys, toys) == []


def test_one_endless_turn_of_the_hypothesis_is_remarked_but_stops_nothing():
    (finding,) = check_references({"a": MANY}, {"a": spoken((0, 5000, "x"))})
    assert (finding.check, finding.stops) == ("coverage", False)


def test_real_meetings_pass(shared_data, rng):
    from workbench.rttm import read_rttm, read_uem

    folder = shared_data / "ami-meetings"
    references, uem = read_rttm(folder / "reference.rttm"), read_uem(folder / "all.uem")
    assert check_references(references, read_rttm(folder / "vbx_beamformed.rttm"), uem) == []
    random = {uri: random_turns(rng, 30, 3) for uri in "ab"}
    assert check_references(random, {uri: random_turns(rng, 30, 3) for uri in "ab"}) == []
