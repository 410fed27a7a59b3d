"""Formats of other programs, in and out."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from pyannote.core import Annotation
from scoring_pairs import spoken

from workbench.error_files import write_errors
from workbench.errors import InputError
from workbench.labels import read_annotations, read_ctm, write_annotations
from workbench.rttm import read_rttm
from workbench.scoring.regions import find_longest_errors
from workbench.textgrid import read_tiers, write_tiers

MEETING = spoken((0.5, 2.25, "Zoë"), (2.0, 3.5, 'B"q'), (4.0, 4.5, "Zoë"), uri="meeting")


def turns(annotation: Annotation) -> list[tuple[float, float, str]]:
    return sorted(
        (round(segment.start, 3), round(segment.end, 3), str(label))
        for segment, _, label in annotation.itertracks(yield_label=True)
    )


@pytest.mark.parametrize("ending", [".rttm", ".lab", ".TextGrid", ".txt", ".ctm", ".stm", ".json"])
def test_what_was_written_is_read_back(tmp_path, ending):
    path = tmp_path / f"meeting{ending}"
    write_annotations(path, MEETING)
    read = read_annotations(path)
    assert list(read) == ["meeting"]
    assert turns(read["meeting"]) == turns(MEETING)


@pytest.mark.parametrize("ending", [".rttm", ".ctm", ".stm", ".json"])
def test_several_recordings_share_a_file(tmp_path, ending):
    both = {"b.1": MEETING, "a": spoken((1, 2, "A"))}
    write_annotations(tmp_path / f"all{ending}", both)
    read = read_annotations(tmp_path / f"all{ending}")
    assert {uri: turns(each) for uri, each in read.items()} == {
        uri: turns(each) for uri, each in both.items()
    }


@pytest.mark.parametrize("ending", [".lab", ".TextGrid", ".txt"])
def test_a_format_of_one_recording_refuses_two(tmp_path, ending):
    with pytest.raises(InputError, match="holds one recording, found 2"):
        write_annotations(tmp_path / f"all{ending}", {"a": MEETING, "b": MEETING})


def test_a_textgrid_in_the_short_form_and_utf16_is_read(tmp_path):
    short = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n5\n<exists>\n2\n'
        '"IntervalTier"\n"Zoë 1"\n0\n5\n3\n0\n1.5\n""\n1.5\n2.5\n"says ""no"" 3 times"\n2.5\n5\n""\n'
        '"TextTier"\n"clicks"\n0\n5\n1\n2.5\n"x"\n'
    )
    (tmp_path / "a.TextGrid").write_text(short, encoding="utf-16")
    assert read_tiers(tmp_path / "a.TextGrid") == {"Zoë 1": [(1.5, 2.5, 'says "no" 3 times')]}
    assert turns(read_annotations(tmp_path / "a.TextGrid")["a"]) == [(1.5, 2.5, "Zoë 1")]


def test_gaps_of_a_tier_are_filled_and_overlaps_refused(tmp_path):
    path = tmp_path / "a.TextGrid"
    write_tiers(path, {"A": [(1.0, 2.0, "x"), (3.0, 4.0, "y")]}, end=6.0)
    text = path.read_text(encoding="utf-8")
    assert "intervals: size = 5" in text
    assert text.count('text = ""') == 3
    with pytest.raises(InputError, match="intervals overlap at 1.5 s"):
        write_tiers(path, {"A": [(1.0, 2.0, "x"), (1.5, 4.0, "y")]})


def test_words_of_a_ctm_become_turns(tmp_path):
    lines = [
        ";; comment",
        "call A 0.00 0.50 hello 0.9",
        "call A 0.50 0.25 there",
        "call B 1.00 0.50 hi 0.8 lex Zoë",
        "call A 2.00 0.50 bye",
    ]
    (tmp_path / "a.ctm").write_text("\n".join(lines), encoding="utf-8")
    assert turns(read_ctm(tmp_path / "a.ctm")["call"]) == [(0, 0.75, "A"), (1, 1.5, "Zoë"), (2, 2.5, "A")]
    assert turns(read_ctm(tmp_path / "a.ctm", max_gap=2.0)["call"])[0] == (0, 2.5, "A")


def test_regions_that_an_stm_leaves_out_are_no_turns(tmp_path):
    (tmp_path / "a.stm").write_text("m 1 inter_segment_gap 0 1 <o> \nm 1 A 1 2 <o,f0> so it goes\n")
    assert turns(read_annotations(tmp_path / "a.stm")["m"]) == [(1, 2, "A")]


def test_segments_of_seglst_may_have_their_times_as_text(tmp_path):
    entries = [{"session_id": "m", "speaker": "A", "start_time": "1.5", "end_time": "2", "words": "hi"}]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    assert turns(read_annotations(tmp_path / "a.json")["m"]) == [(1.5, 2, "A")]


SEGMENT = '{"session_id": "m", "speaker": "spk", "start_time": 0, "end_time": 0.5}'
GRID = 'x "ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "A" 0 1 {count}\n{start} {end} "x"'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "1.0\t2.0\n", r"a.txt:1: expected 'start TAB end TAB speaker'"),
        ("a.txt", "0\t1\tA\n3\t2\tA\n", r"a.txt:2: the end \(2\) lies before the start \(3\)"),
        ("a.txt", "nan\t2\tA\n", r"a.txt:1: expected the start in seconds, found 'nan'"),
        ("a.ctm", "m 1 0.0 inf word\n", r"a.ctm:1: expected the duration \(field 4\) in seconds"),
        ("a.stm", "m 1 A -1 2\n", r"a.stm:1: the start is negative: -1"),
        ("a.json", "{}", r"expected a list of segments \(SegLST\), found dict"),
        ("a.json", "[", r"a.json:1: is not JSON"),
        ("a.json", '[{"session_id": "m"}]', r"a.json:1: segment 1: lacks end_time, speaker, start_time"),
        ("a.TextGrid", "no grid", r"is it a TextGrid\?"),
        (
            "a.TextGrid",
            'x "ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "A" 0 1 2',
            "end of the file",
        ),
        (
            "a.rttm",
            "SPEAKER m 1 1e308 1e308 <NA> <NA> A <NA> <NA>\n",
            r"a.rttm:1: .*'1e308', which is too large",
        ),
        ("a.stm", "m 1 A 0 1_0\n", r"a.stm:1: expected the end in seconds, found '1_0'"),
        ("a.ctm", "m\0 1 0 1 word\n", r"a.ctm:1: holds a NUL byte: is it UTF-16"),
        ("a.txt", "\n" + "x" * 1000, r"a.txt:2: .{0,130}\.\.\.'$"),  # a huge field is not repeated
        ("a.json", "[" * 100_000, r"a.json: is not JSON: maximum recursion"),
        ("a.json", "[" + "9" * 5000 + "]", r"a.json: is not JSON: Exceeds the limit"),
        (
            "a.json",
            f"[\n{SEGMENT},\n{SEGMENT.replace('0.5', 'NaN')}]",
            r"a.json:3: segment 2: expected end_time",
        ),
        (
            "a.json",
            f"[{SEGMENT.replace('0.5', 'true')}]",
            r"a.json:1: segment 1: expected end_time in seconds",
        ),
        ("a.json", f"[{SEGMENT.replace('spk', 'a' + chr(92) + 'u0000')}]", r"segment 1: the name in speaker"),
        ("a.json", SEGMENT.replace('"m"', "null").join("[]"), r"expected a name in session_id, found 'None'"),
        ("a.TextGrid", GRID.format(count=1, start=-1, end=1), r"a.TextGrid:2: .*goes from -1.0 to 1.0 s"),
        ("a.TextGrid", GRID.format(count=1, start=0, end="1e999"), r"a.TextGrid:2: .*goes from 0.0 to inf s"),
        (
            "a.TextGrid",
            GRID.format(count="1e999", start=0, end=1),
            r"a.TextGrid:1: expected the number of int",
        ),
        ("a.TextGrid", GRID.format(count=0, start=0, end=1), r"a.TextGrid:2: expected the end of the file"),
        ("a.doc", "", r"unknown ending '.doc'; known are .rttm"),
    ],
)
def test_a_malformed_file_says_what_is_wrong_and_where(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path / name)


# Errors as files


@pytest.fixture
def errors() -> pd.DataFrame:
    references = {"a b": spoken((0, 10, "A"), (2, 8, "B")), "c": spoken((0, 4, "A"))}
    return find_longest_errors(references, {"a b": spoken((0, 4, "x")), "c": spoken((0, 5, "x"))})


def test_errors_are_written_as_a_table(tmp_path, errors):
    assert write_errors(tmp_path / "e.csv", errors) == [tmp_path / "e.csv"]
    table = pd.read_csv(tmp_path / "e.csv")
    assert table.columns.tolist() == errors.columns.tolist()
    assert table["duration"].tolist() == errors["duration"].tolist()


def test_errors_are_written_as_rttm(tmp_path, errors):
    only = errors[errors["uri"] == "c"]
    write_errors(tmp_path / "e.rttm", only)
    assert turns(read_rttm(tmp_path / "e.rttm")["c"]) == [(4, 5, "false_alarm_x")]


@pytest.mark.parametrize("ending", [".txt", ".TextGrid"])
def test_errors_of_several_recordings_get_a_file_each(tmp_path, errors, ending):
    written = write_errors(tmp_path / f"e{ending}", errors)
    assert [path.name for path in written] == [f"e.a b{ending}", f"e.c{ending}"]


def test_errors_at_once_get_a_tier_each(tmp_path, errors):
    write_errors(tmp_path / "e.TextGrid", errors[errors["uri"] == "a b"])
    tiers = read_tiers(tmp_path / "e.TextGrid")
    assert tiers["missed"] == [(2.0, 8.0, "missed B")]
    assert tiers["missed 2"] == [(4.0, 10.0, "missed A")]
    write_errors(tmp_path / "e.txt", errors[errors["uri"] == "a b"])
    assert (tmp_path / "e.txt").read_text().splitlines()[0] == "2.000000\t8.000000\tmissed B"


def test_an_unknown_format_of_errors_is_refused(tmp_path, errors):
    with pytest.raises(InputError, match="errors can be written as .csv, .rttm"):
        write_errors(tmp_path / "e.xlsx", errors)
