"""The gate: planted growth fails, noise passes, and nothing that was not measured passes."""

from __future__ import annotations

import copy
import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from workbench.errors import InputError
from workbench.gate import Limit, check_report, gate_files, gate_html, junit_xml, read_budget
from workbench.gate.limits import DEFAULT


def scores(rng, growth=0.0, noise=0.0, num=20):
    """A score report of recordings with 100 s of speech and about 10 % of errors."""
    rows = {}
    for n in range(num):
        errors = 10 + (n % 5) + 100 * growth + noise * rng.normal()
        rows[f"r{n}"] = {
            "total": 100.0, "correct": 100.0, "missed": errors / 2, "false_alarm": 0.0,
            "confusion": errors / 2,
            "der": errors / 100, "jer": 0.2,
        }  # fmt: skip
    overall = {
        key: sum(row[key] for row in rows.values())
        for key in ("total", "correct", "missed", "false_alarm", "confusion")
    }
    overall |= {"der": (overall["missed"] + overall["confusion"]) / overall["total"], "jer": 0.2}
    return {"collar": 0.0, "skip_overlap": False, "recordings": rows, "overall": overall, "failed": []}


def parity(**changes):
    overall = {
        "frames": 1000, "flips": 2, "flip_rate": 0.002, "real_flips": 0, "max_abs_diff": 1e-5,
        "cross_der": 0.001,
    } | changes  # fmt: skip
    return {
        "baseline": "a", "candidate": "b", "recordings": {"one": dict(overall)}, "overall": overall,
        "failed": [], "adequacy": {"adequate": True, "problems": []},
    }  # fmt: skip


def benchmark(p50=0.1, runtime="m"):
    row = {"runtime": runtime, "batch_size": 1, "p50": p50, "p99": 2 * p50}
    return {"batches": [row], "stages": [], "cold_start": {}, "machine": {"warning": None}, "failed": []}


@pytest.fixture
def baseline(rng):
    return scores(rng)


def test_the_same_report_passes(baseline):
    result = check_report(copy.deepcopy(baseline), baseline)
    assert result.passed
    assert not result.warnings


def test_a_planted_point_fails_with_its_confidence_bound(rng, baseline):
    result = check_report(scores(rng, growth=0.01), baseline)
    assert not result.passed
    (failure,) = result.failures
    assert failure.metric == "der"
    assert "at least +1.00 points" in failure.words


def test_noise_of_the_same_size_passes(rng, baseline):
    """Recordings that go up and down by 6 points: their mean is chance."""
    report = scores(rng, noise=6.0)
    growth = report["overall"]["der"] - baseline["overall"]["der"]
    report["overall"]["der"] += 0.004 - growth
    shift = 100 * (0.004 - growth)
    for row in report["recordings"].values():
        row["missed"] += shift
    result = check_report(report, baseline)
    assert result.passed
    assert any("may be chance" in warning.words for warning in result.warnings)


def test_a_growth_within_the_budget_passes_however_certain(rng, baseline):
    assert check_report(scores(rng, growth=0.0015), baseline).passed


def test_one_recording_has_no_bound_and_fails_by_its_growth(rng):
    result = check_report(scores(rng, growth=0.01, num=1), scores(rng, num=1))
    assert not result.passed
    assert "too few recordings" in result.failures[0].words


def test_a_missing_recording_fails_unless_the_budget_says_otherwise(baseline):
    report = copy.deepcopy(baseline)
    del report["recordings"]["r3"]
    result = check_report(report, baseline)
    assert [failure.where for failure in result.failures] == ["r3"]
    lenient = check_report(report, baseline, dataclasses.replace(DEFAULT, missing="warn"))
    assert lenient.passed
    assert [warning.where for warning in lenient.warnings] == ["r3"]


def test_all_recordings_missing_fail_whatever_the_budget_says(baseline):
    report = copy.deepcopy(baseline)
    report["recordings"] = {}
    assert not check_report(report, baseline).passed


def test_a_recording_that_failed_now_fails_and_one_that_always_did_warns(baseline):
    report = copy.deepcopy(baseline)
    report["failed"] = [{"uri": "r9", "error": "truncated"}]
    assert not check_report(report, baseline).passed
    known = copy.deepcopy(baseline) | {"failed": report["failed"]}
    assert check_report(report, known).passed


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.1", True])
def test_what_is_no_number_fails(baseline, value):
    report = copy.deepcopy(baseline)
    report["overall"]["der"] = value
    assert not check_report(report, baseline).passed


def test_nothing_measured_on_either_side_fails(baseline):
    for each in (baseline["overall"],):
        each.update(der=None, jer=None)
    result = check_report(copy.deepcopy(baseline), baseline)
    assert not result.passed
    assert "nothing was measured" in result.failures[-1].words


def test_no_reference_speech_is_no_measurement(baseline):
    for key in baseline["overall"]:
        baseline["overall"][key] = 0.0
    assert not check_report(copy.deepcopy(baseline), baseline).passed


def test_other_conventions_or_kinds_cannot_be_compared(baseline):
    with pytest.raises(InputError, match="collar"):
        check_report(baseline | {"collar": 0.25}, baseline)
    with pytest.raises(InputError, match="one kind"):
        check_report(parity(), baseline)
    with pytest.raises(InputError, match="no report"):
        check_report({"a": 1}, baseline)


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, True),
        ({"flip_rate": 0.0023}, True),  # within a fifth
        ({"flip_rate": 0.0026}, False),
        ({"real_flips": 1}, False),
        ({"max_abs_diff": 1e-3}, False),
        ({"max_abs_diff": None}, False),
        ({"cross_der": 0.002}, True),
        ({"cross_der": 0.01}, False),
        ({"der_baseline": 0.1, "der_candidate": 0.11}, True),  # the baseline has none to compare with
    ],
)
def test_parity_reports(changes, passes):
    assert check_report(parity(**changes), parity()).passed == passes


def test_agreement_on_silence_fails(baseline):
    report = parity()
    report["adequacy"] = {"adequate": False, "problems": ["the input is silent"]}
    result = check_report(report, parity())
    assert not result.passed
    assert any("silent" in warning.words for warning in result.warnings)


def test_speed_is_compared_row_by_row():
    assert check_report(benchmark(0.12), benchmark(0.1)).passed
    assert not check_report(benchmark(0.13), benchmark(0.1)).passed
    assert not check_report(benchmark(runtime="other"), benchmark()).passed  # nothing in common


def test_the_combined_tolerance_is_the_larger_of_both_and_a_ceiling_holds():
    limit = Limit(abs=0.03, rel=0.2, max=1.1)
    assert [limit.allowed(x) for x in (0.0, 0.1, 0.5, 1.0)] == pytest.approx([0.03, 0.13, 0.6, 1.1])


def write(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_a_budget_replaces_the_limits_it_names(tmp_path, rng, baseline):
    budget = read_budget(
        write(
            tmp_path / "b.toml",
            '[gate]\nmissing = "fail"\n[score]\nder = { abs = 0.02 }\n'
            "[parity]\nflip_rate = { max = 0.001 }\n",
        )
    )
    assert check_report(scores(rng, growth=0.015), baseline, budget).passed
    assert not check_report(scores(rng, growth=0.025), baseline, budget).passed
    assert not check_report(parity(), parity(), budget).passed  # above the ceiling on both sides


def test_a_metric_that_a_budget_names_must_have_been_measured(tmp_path):
    budget = read_budget(write(tmp_path / "b.toml", "[parity]\nder_change = { abs = 0.002 }\n"))
    assert not check_report(parity(), parity(), budget).passed


def test_single_recordings_are_checked_where_the_budget_says_so(tmp_path, rng, baseline):
    report = copy.deepcopy(baseline)
    report["recordings"]["r4"]["der"] = 0.9
    assert check_report(report, baseline).passed
    toml = "[score]\nder = { abs = 0.002, confidence = 0.95, per_recording = true }\n"
    result = check_report(report, baseline, read_budget(write(tmp_path / "b.toml", toml)))
    assert [failure.where for failure in result.failures] == ["r4"]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[score", "not valid TOML"),
        ("[scores]\n", "did you mean 'score'"),
        ("[score]\n", "limits nothing"),
        ("[score]\ndre = {abs = 1}\n", "did you mean 'der'"),
        ("[score]\nder = 0.1\n", "must be a table"),
        ("[score]\nder = {absolute = 1}\n", "unknown key 'absolute'"),
        ("[score]\nder = {abs = -1}\n", "at least 0"),
        ("[score]\nder = {abs = true}\n", "at least 0"),
        ("[score]\nder = {abs = nan}\n", "at least 0"),
        ("[score]\njer = {confidence = 0.95}\n", "have a confidence bound"),
        ("[score]\nder = {confidence = 1.5}\n", "between 0 and 1"),
        ('[gate]\nmissing = "ignore"\n', "must be 'fail' or 'warn'"),
        ("[gate]\nmising = 'fail'\n", "unknown key"),
    ],
)
def test_budgets_are_checked(tmp_path, toml, words):
    with pytest.raises(InputError, match=words):
        read_budget(write(tmp_path / "b.toml", toml))


def test_a_report_is_never_compared_with_itself(tmp_path, baseline):
    path = write(tmp_path / "a.json", baseline)
    (tmp_path / "link.json").symlink_to(path)
    for other in (path, tmp_path / "link.json"):
        with pytest.raises(InputError, match="baseline itself"):
            gate_files(other, path)


def test_junit_and_html_hold_every_check(rng, baseline):
    report = scores(rng, growth=0.01)
    report["recordings"]["a<b>&\x01"] = report["recordings"].pop("r3")
    result = check_report(report, baseline)
    root = ElementTree.fromstring(junit_xml(result))
    suite = root.find("testsuite")
    assert int(suite.get("tests")) == len(result.checks) == len(suite.findall("testcase"))
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 2  # and r3 is missing
    page = gate_html(result)
    assert "FAILED" in page
    assert "a&lt;b&gt;&amp;" in page
    assert "<script" not in page
    assert np.char.count(page, "<tr>") == len(result.checks) + 1
