"""`workbench gate`: exit codes, and files it never writes."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from command import run


@pytest.fixture
def reports(tmp_path):
    """A baseline, the same again, and one with a point more."""

    def report(errors: float) -> dict:
        row = {
            "total": 100.0, "missed": errors, "false_alarm": 0.0, "confusion": 0.0, "der": errors / 100,
            "jer": 0.1,
        }  # fmt: skip
        whole = {key: value * (1 if key in ("der", "jer") else 8) for key, value in row.items()}
        rows = {f"r{n}": row for n in range(8)}
        return {"collar": 0.0, "skip_overlap": False, "recordings": rows, "overall": whole, "failed": []}

    for name, errors in (("baseline", 10.0), ("same", 10.0), ("worse", 11.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report(errors)))
    return tmp_path


def test_exit_codes_are_zero_passed_one_failed_two_unusable(reports):
    baseline = ("--baseline", reports / "baseline.json")
    assert run("gate", reports / "same.json", *baseline).exit_code == 0
    result = run("gate", reports / "worse.json", *baseline)
    assert result.exit_code == 1
    assert "FAIL" in result.stderr
    assert "der" in result.stderr
    assert run("gate", reports / "nowhere.json", *baseline).exit_code == 2
    assert run("gate", reports / "same.json", "--baseline", reports / "nowhere.json").exit_code == 2
    (reports / "broken.json").write_text("{")
    assert run("gate", reports / "broken.json", *baseline).exit_code == 2
    (reports / "other.json").write_text("[]")
    assert run("gate", reports / "other.json", *baseline).exit_code == 2
    (reports / "empty.json").write_text(
        '{"collar": 0.0, "skip_overlap": false, "recordings": {}, "overall": {}}'
    )
    assert run("gate", reports / "empty.json", *baseline).exit_code == 1  # nothing measured


def test_reports_for_machines_and_people(reports):
    result = run(
        "gate", reports / "worse.json", "--baseline", reports / "baseline.json", "--junit", reports / "g.xml",
        "--html", reports / "g.html", "--json", "-",
    )  # fmt: skip
    assert result.exit_code == 1
    assert not result.json["passed"]
    assert ElementTree.parse(reports / "g.xml").getroot().find(".//failure") is not None
    assert "FAILED" in (reports / "g.html").read_text()


def test_the_baseline_is_never_written_and_never_compared_with_itself(reports):
    baseline = reports / "baseline.json"
    before = baseline.read_bytes()
    for option in ("--junit", "--html", "--json"):
        result = run("gate", reports / "same.json", "--baseline", baseline, option, baseline)
        assert result.exit_code == 2
        assert "never writes" in result.stderr
    assert run("gate", baseline, "--baseline", baseline).exit_code == 2
    assert baseline.read_bytes() == before


def test_a_budget_decides(reports):
    budget = reports / "budget.toml"
    budget.write_text("[score]\nder = { abs = 0.02 }\n")
    call = ("gate", reports / "worse.json", "--baseline", reports / "baseline.json", "--budget", budget)
    assert run(*call).exit_code == 0
    budget.write_text("[score]\nder = { abs = 'much' }\n")
    result = run(*call)
    assert result.exit_code == 2
    assert "budget.toml" in result.stderr
