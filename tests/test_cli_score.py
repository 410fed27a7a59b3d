from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from command import run


def rttm(*turns: tuple[str, float, float, str]) -> str:
    return "".join(
        f"SPEAKER {uri} 1 {start:.3f} {end - start:.3f} <NA> <NA> {label} <NA> <NA>\n"
        for uri, start, end, label in turns
    )


REFERENCE = rttm(("one", 0, 10, "A"), ("one", 10, 20, "B"), ("two", 0, 10, "C"))
HYPOTHESIS = rttm(("one", 1, 10, "x"), ("one", 10, 22, "y"), ("two", 0, 8, "x"), ("two", 8, 10, "y"))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref.rttm").write_text(REFERENCE)
    (tmp_path / "hyp.rttm").write_text(HYPOTHESIS)
    return tmp_path


def test_the_table_has_a_line_per_recording_and_says_how_it_was_scored(files):
    result = run("score", files / "ref.rttm", files / "hyp.rttm")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "recording"
    cells = {line.split()[0]: line.split()[1:] for line in lines if line and line[0] in "ot"}
    # one: 1 s missed and 2 s false alarm of 20 s; two: 2 s confused of 10 s
    assert cells["one"][:4] == ["15.00", "5.00", "10.00", "0.00"]
    assert cells["two"][:4] == ["20.00", "0.00", "0.00", "20.00"]
    assert cells["overall"][:4] == ["16.67", "3.33", "6.67", "6.67"]
    assert lines[-1] == (
        "Rates in %. DER, missed, false alarm and confusion: no collar, overlap scored, "
        "no UEM: extent of reference and hypothesis."
    )


def test_json_follows_the_contract(files):
    report = run("score", files / "ref.rttm", files / "hyp.rttm", "--json", "-").json
    assert {"collar", "skip_overlap", "recordings", "overall", "failed"} <= set(report)
    row = report["recordings"]["one"]
    assert list(row) == [
        *("total", "correct", "missed", "false_alarm", "confusion", "der", "jer"),
        *("b3_precision", "b3_recall", "b3_f1", "gkt_ref_sys", "gkt_sys_ref"),
        *("h_ref_sys", "h_sys_ref", "mi", "nmi", "purity", "coverage"),
    ]
    assert (row["total"], row["missed"], row["false_alarm"], row["confusion"]) == pytest.approx((20, 1, 2, 0))
    assert report["overall"]["der"] == pytest.approx(5 / 30)
    assert report["failed"] == []


def test_the_collar_is_taken_on_each_side(files):
    """0.5 s around 0, 10 and 20 s: the second half of a missed second, and nothing else, remains."""
    report = run("score", files / "ref.rttm", files / "hyp.rttm", "--collar", 0.5, "--json", "-").json
    row = report["recordings"]["one"]
    assert (row["total"], row["missed"], row["false_alarm"]) == pytest.approx((18, 0.5, 1.5))
    assert "each side" in " ".join(run("score", "--help").stdout.replace("│", " ").split())


def test_a_uem_restricts_what_is_scored(files):
    (files / "all.uem").write_text("one 1 0 15\n")
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--uem", files / "all.uem", "--json", "-")
    assert result.exit_code == 0
    assert list(result.json["recordings"]) == ["one"]
    assert result.json["overall"]["total"] == pytest.approx(15)
    assert "two: left out" in result.stderr


def test_overlap_can_be_left_out(tmp_path):
    (tmp_path / "ref.rttm").write_text(rttm(("one", 0, 10, "A"), ("one", 5, 15, "B")))
    report = run("score", tmp_path / "ref.rttm", tmp_path / "ref.rttm", "--skip-overlap", "--json", "-").json
    assert report["overall"]["total"] == pytest.approx(10)


def test_folders_and_lists_of_rttm_are_files_together(files):
    folder = files / "folder"
    folder.mkdir()
    for uri in ("one", "two"):
        lines = [line for line in HYPOTHESIS.splitlines(keepends=True) if f" {uri} " in line]
        (folder / f"{uri}.rttm").write_text("".join(lines))
    (files / "hyp.lst").write_text("folder/one.rttm\nfolder/two.rttm\n")
    expected = run("score", files / "ref.rttm", files / "hyp.rttm").stdout
    assert run("score", files / "ref.rttm", folder).stdout == expected
    assert run("score", files / "ref.rttm", files / "hyp.lst").stdout == expected


def test_an_empty_rttm_says_that_nobody_speaks(files):
    folder = files / "folder"
    folder.mkdir()
    (folder / "one.rttm").write_text("")
    (folder / "two.rttm").write_text(rttm(("two", 0, 10, "x")))
    result = run("score", files / "ref.rttm", folder, "--json", "-")
    assert result.exit_code == 0
    assert result.json["recordings"]["one"]["missed"] == pytest.approx(20)
    assert result.json["recordings"]["two"]["der"] == 0


def test_a_recording_without_hypothesis_counts_as_missed_and_is_named(files):
    (files / "hyp.rttm").write_text(rttm(("one", 0, 20, "x")))
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--json", "-")
    assert result.exit_code == 0
    assert result.json["recordings"]["two"]["missed"] == pytest.approx(10)
    assert "two: no hypothesis names it" in result.stderr


def test_a_hypothesis_without_reference_fails_unless_only_common_ones_are_asked_for(files):
    (files / "hyp.rttm").write_text(HYPOTHESIS + rttm(("three", 0, 5, "x")))
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--json", "-")
    assert result.exit_code == 1
    assert [failure["uri"] for failure in result.json["failed"]] == ["three"]
    assert "FAILED three" in result.stderr
    common = run("score", files / "ref.rttm", files / "hyp.rttm", "--json", "-", "--only-common")
    assert common.exit_code == 0
    assert list(common.json["recordings"]) == ["one", "two"]


def test_a_closed_pipe_is_no_error(files):
    command = [sys.executable, "-m", "workbench", "score", str(files / "ref.rttm"), str(files / "hyp.rttm")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    _, stderr = process.communicate(timeout=60)
    assert stderr == ""
    assert process.returncode in (0, 141)


@pytest.mark.parametrize("collar", ["inf", "nan", "-1"])
def test_a_collar_that_is_no_duration_is_refused(files, collar):
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--collar", collar)
    assert result.exit_code == 2
    assert f"--collar must be a number of seconds, 0 or more, got {collar}" in result.stderr


def test_an_empty_uem_is_said_to_name_nothing(files):
    (files / "all.uem").write_text("")
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--uem", files / "all.uem")
    assert result.exit_code == 2
    assert "UEM names none" in result.stderr


def test_a_reference_longer_than_its_recording_is_refused(files):
    for uri, duration in (("one", 20), ("two", 8)):
        soundfile.write(files / f"{uri}.wav", np.zeros(duration * 1000), 1000)
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--audio", files)
    assert result.exit_code == 2
    assert "two: the reference ends at 10.00 s, but the recording is 8.00 s long" in result.stderr
    trusted = run("score", files / "ref.rttm", files / "hyp.rttm", "--audio", files, "--trust-reference")
    assert trusted.exit_code == 0


def test_audio_of_other_recordings_is_no_check(files):
    soundfile.write(files / "other.wav", np.zeros(1000), 1000)
    result = run("score", files / "ref.rttm", files / "hyp.rttm", "--audio", files / "other.wav")
    assert result.exit_code == 2
    assert "none of the 1 recordings has the name of a reference" in result.stderr
