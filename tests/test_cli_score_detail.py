"""`workbench score` beyond the rates: breakdowns, comparisons, errors, conventions, checked references."""

from __future__ import annotations

import unicodedata

import pytest
from command import run

PARTS = ("total", "correct", "missed", "false_alarm", "confusion")


def rttm(*turns: tuple[str, float, float, str]) -> str:
    return "".join(
        f"SPEAKER {uri} 1 {start:.3f} {end - start:.3f} <NA> <NA> {label} <NA> <NA>\n"
        for uri, start, end, label in turns
    )


def meetings(shift: float = 0.0, swap: bool = False, names: str = "abcdefgh") -> str:
    """A few short meetings, moved by `shift` (s), speakers mixed up in their second half where `swap`."""
    turns = []
    for number, uri in enumerate(names):
        for turn in range(8):
            start = 3.0 * turn + 0.1 * number
            speaker = (turn + (swap and turn > 4)) % 2
            turns.append((uri, start + shift, start + 2.5 + shift, f"s{speaker}"))
    return rttm(*turns)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref.rttm").write_text(meetings())
    (tmp_path / "good.rttm").write_text(meetings(shift=0.1))
    (tmp_path / "bad.rttm").write_text(meetings(shift=0.1, swap=True))
    return tmp_path


@pytest.mark.parametrize("by", ["recording", "speaker", "overlap", "duration", "boundary", "time"])
def test_breakdowns_add_up_in_the_report_and_are_printed(files, by):
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--by", by, "--json", "-")
    report = result.json
    for name in PARTS:
        total = sum(row[name] for row in report["breakdowns"][by])
        assert total == pytest.approx(report["overall"][name], abs=1e-9)
    table = run("score", files / "ref.rttm", files / "bad.rttm", "--by", by).stdout
    assert f"\nBy {'reference speaker' if by == 'speaker' else ''}".strip() in table
    assert "% of errors" in table


def test_an_unknown_breakdown_is_refused(files):
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--by", "colour")
    assert result.exit_code == 2
    assert "'recording'" in result.stderr


def test_systems_are_compared_in_a_sentence(files):
    command = ("score", files / "ref.rttm", files / "bad.rttm", "--compare", files / "good.rttm")
    result = run(*command)
    assert "good (B) against bad (A): B is better: " in result.stdout
    assert "p = 0.0078 (paired permutation, 8 recordings); fixed 57.6 s, broke 0.0 s." in result.stdout
    compared = run(*command, "--json", "-").json["compare"]["good"]
    assert compared["verdict"] == "better"
    assert compared["test"]["p_permutation"] == 2 / 2**8
    assert compared["changes"][0]["change"] == "fixed"


def test_several_systems_may_follow_compare(files):
    names = [files / f"{name}.rttm" for name in ("ref", "bad", "good", "ref")]
    result = run("score", names[0], names[1], "--compare", names[2], names[3], "--json", "-")
    assert list(result.json["compare"]) == ["good", "ref"]
    stray = run("score", names[0], names[1], names[2])
    assert stray.exit_code == 2
    assert "further systems follow --compare" in stray.stderr


def test_from_few_recordings_it_cannot_tell(files):
    for name, shift in (("ref", 0.0), ("bad", 0.3), ("good", 0.1)):
        (files / f"{name}.rttm").write_text(meetings(shift=shift, names="ab"))
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--compare", files / "good.rttm")
    assert "cannot tell: " in result.stdout
    assert "at least 6 are needed" in result.stdout
    assert "cannot be told from 2 recordings" in result.stdout


def test_the_interval_is_printed_and_reported(files):
    result = run("score", files / "ref.rttm", files / "bad.rttm")
    assert "95 % interval over 8 recordings." in result.stdout
    interval = run("score", files / "ref.rttm", files / "bad.rttm", "--json", "-").json["interval"]
    assert interval["low"] <= interval["estimate"] <= interval["high"]
    assert (interval["num_units"], interval["unit"]) == (8, "recording")


@pytest.mark.parametrize("ending", [".csv", ".rttm"])
def test_errors_are_written_longest_first(files, ending):
    path = files / f"errors{ending}"
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--errors", path)
    assert f"errors: {path}" in result.stderr
    assert len(path.read_text().splitlines()) > 20


@pytest.mark.parametrize("ending", [".txt", ".TextGrid"])
def test_errors_of_each_recording_for_audacity_and_praat(files, ending):
    run("score", files / "ref.rttm", files / "bad.rttm", "--errors", files / f"e{ending}")
    assert sorted(path.name for path in files.glob(f"e.*{ending}")) == [
        f"e.{uri}{ending}" for uri in "abcdefgh"
    ]


def test_an_unknown_format_of_errors_fails_before_scoring(files):
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--errors", files / "errors.xlsx")
    assert result.exit_code == 2
    assert ".csv, .rttm, .txt, .textgrid" in result.stderr


def test_conventions_are_laid_side_by_side(files):
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--conventions")
    for scorer in ("pyannote.metrics", "dscore", "md-eval", "spyder"):
        assert scorer in result.stdout
    assert "the whole width" in result.stdout


def test_every_number_comes_with_its_convention(files):
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--collar", 0.25)
    assert "collar ±0.25 s, overlap scored, no UEM: extent of reference and hypothesis." in result.stdout


# References


def test_a_placeholder_stops_the_run_unless_it_is_trusted(files):
    (files / "ref.rttm").write_text(rttm(*((uri, 0, 30, "speaker") for uri in "abcdefgh")))
    result = run("score", files / "ref.rttm", files / "bad.rttm")
    assert result.exit_code == 2
    assert "a placeholder: one turn of 'speaker' fills each of the 8 recordings" in result.stderr
    assert "--trust-reference" in result.stderr
    trusted = run("score", files / "ref.rttm", files / "bad.rttm", "--trust-reference", "--json", "-")
    assert trusted.exit_code == 0
    assert "a placeholder" in trusted.stderr
    assert trusted.json["reference_findings"]


@pytest.mark.parametrize("name", ["ref.rttm", "all.uem"])
def test_an_empty_file_stops_the_run(files, name):
    (files / "all.uem").write_text("a 1 0 30\n")
    (files / name).write_text("")
    result = run("score", files / "ref.rttm", files / "bad.rttm", "--uem", files / "all.uem")
    assert result.exit_code == 2
    assert "reference" in result.stderr


def test_an_empty_reference_of_one_recording_stops_the_run(files):
    folder = files / "folder"
    folder.mkdir()
    (folder / "a.rttm").write_text(meetings(names="a"))
    (folder / "b.rttm").write_text("")
    result = run("score", folder, files / "bad.rttm")
    assert result.exit_code == 2
    assert "b: the reference is empty" in result.stderr


# Bad input


@pytest.mark.parametrize(
    "name", ["ES2011a.Mix-Headset", "it's", "Ümläut", unicodedata.normalize("NFD", "Ümläut")]
)
def test_names_with_dots_quotes_and_accents_are_scored(tmp_path, name):
    (tmp_path / "ref.rttm").write_text(rttm((name, 0, 10, name), (name, 10, 20, "B")), encoding="utf-8")
    (tmp_path / "hyp.rttm").write_text(rttm((name, 0, 10, "x"), (name, 10, 19, "y")), encoding="utf-8")
    result = run(
        *("score", tmp_path / "ref.rttm", tmp_path / "hyp.rttm", "--by", "speaker"),
        *("--errors", tmp_path / "e.csv", "--json", "-"),
    )
    assert result.exit_code == 0
    assert list(result.json["recordings"]) == [name]
    assert [row["speaker"] for row in result.json["breakdowns"]["speaker"]] == ["B", name, None]


def test_composed_and_decomposed_names_are_not_the_same_and_the_user_is_told(tmp_path):
    names = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    (tmp_path / "ref.rttm").write_text(rttm(("a", 0, 9, "A"), (names[0], 0, 9, "A")), encoding="utf-8")
    (tmp_path / "hyp.rttm").write_text(rttm(("a", 0, 9, "x"), (names[1], 0, 9, "x")), encoding="utf-8")
    result = run("score", tmp_path / "ref.rttm", tmp_path / "hyp.rttm")
    assert result.exit_code == 1
    assert result.stderr.count("whose accents are encoded differently") == 2  # both ways


@pytest.mark.parametrize(
    ("start", "duration", "problem"),
    [
        ("nan", "1", "ref.rttm:2: expected the start (field 4) in seconds, found 'nan'"),
        ("1", "inf", "ref.rttm:2: expected the duration (field 5) in seconds, found 'inf'"),
        ("1", "-2", "ref.rttm:2: the duration (field 5) is negative: -2"),
        ("-1", "2", "ref.rttm:2: the start (field 4) is negative: -1"),
    ],
)
def test_impossible_times_are_refused_with_their_line(tmp_path, start, duration, problem):
    line = f"SPEAKER a 1 {start} {duration} <NA> <NA> B <NA> <NA>\n"
    (tmp_path / "ref.rttm").write_text(rttm(("a", 0, 9, "A")) + line)
    (tmp_path / "hyp.rttm").write_text(rttm(("a", 0, 9, "x")))
    result = run("score", tmp_path / "ref.rttm", tmp_path / "hyp.rttm")
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())


@pytest.mark.filterwarnings("always:.*turns of no length")
def test_turns_of_no_length_are_left_out_with_a_warning(tmp_path):
    (tmp_path / "ref.rttm").write_text(rttm(("a", 0, 9, "A"), ("a", 4, 4, "B")))
    (tmp_path / "hyp.rttm").write_text(rttm(("a", 0, 9, "x")))
    result = run("score", tmp_path / "ref.rttm", tmp_path / "hyp.rttm", "--json", "-")
    assert "1 turns of no length are left out" in result.stderr
    assert result.json["overall"]["der"] == 0


def test_times_beyond_the_end_of_the_uem_are_not_scored(tmp_path):
    (tmp_path / "ref.rttm").write_text(rttm(("a", 0, 9, "A")))
    (tmp_path / "hyp.rttm").write_text(rttm(("a", 0, 9, "x"), ("a", 9, 5000, "x")))
    (tmp_path / "a.uem").write_text("a 1 0 10\n")
    result = run(
        "score", tmp_path / "ref.rttm", tmp_path / "hyp.rttm", "--uem", tmp_path / "a.uem", "--json", "-"
    )
    assert result.json["overall"]["false_alarm"] == pytest.approx(1)


def test_one_recording_in_two_files_is_refused(files):
    folder = files / "folder"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.rttm").write_text(meetings(names="a"))
    result = run("score", files / "ref.rttm", folder)
    assert result.exit_code == 2
    assert "recording 'a' is also in" in result.stderr


def test_a_hundred_thousand_segments_are_scored(tmp_path):
    turns = [("a", 0.5 * i, 0.5 * i + 0.6, f"s{i % 5}") for i in range(100_000)]
    (tmp_path / "ref.rttm").write_text(rttm(*turns))
    (tmp_path / "hyp.rttm").write_text(rttm(*(("a", s + 0.05, e + 0.02, who) for _, s, e, who in turns)))
    result = run("score", tmp_path / "ref.rttm", tmp_path / "hyp.rttm", "--by", "boundary", "--json", "-")
    assert result.json["overall"]["total"] == pytest.approx(60_000)


@pytest.mark.parametrize("ending", [".TextGrid", ".txt", ".stm", ".json"])
def test_other_formats_are_scored_too(tmp_path, ending):
    from workbench.labels import write_annotations
    from workbench.rttm import read_rttm

    (tmp_path / "a.rttm").write_text(meetings(names="a"))
    write_annotations(tmp_path / f"a{ending}", read_rttm(tmp_path / "a.rttm"))
    result = run("score", tmp_path / f"a{ending}", tmp_path / "a.rttm", "--json", "-")
    assert result.json["overall"]["der"] == pytest.approx(0, abs=1e-9)
