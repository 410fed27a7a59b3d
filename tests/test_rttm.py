"""RTTM, UEM and LAB: what is read, what is refused, and that what is written is read back."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from pyannote.core import Annotation, Segment, Timeline

from workbench.errors import InputError
from workbench.rttm import read_lab, read_rttm, read_rttms, read_uem, write_lab, write_rttm, write_uem


def turns(annotation: Annotation) -> list[tuple[float, float, str]]:
    return [
        (segment.start, segment.end, label) for segment, _, label in annotation.itertracks(yield_label=True)
    ]


@pytest.fixture
def rttm(tmp_path):
    """An RTTM file with the given content."""

    def make(content: str | bytes):
        path = tmp_path / "a.rttm"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return make


# Reading


def test_turns_are_grouped_by_recording(rttm):
    path = rttm(
        "SPEAKER b 1 2.000 1.500 <NA> <NA> B <NA> <NA>\n"
        "SPEAKER a 1 0.100 0.200 <NA> <NA> A <NA> <NA>\n"
        "SPEAKER b 1 0.000 3.000 <NA> <NA> A <NA> <NA>\n"
    )
    annotations = read_rttm(path)
    assert list(annotations) == ["b", "a"]
    assert annotations["b"].uri == "b"
    assert turns(annotations["b"]) == [(0.0, 3.0, "A"), (2.0, 3.5, "B")]
    assert turns(annotations["a"]) == [(0.1, 0.1 + 0.2, "A")]  # the sum as pyannote and dscore form it


@pytest.mark.parametrize(
    "line",
    [
        "SPEAKER a 1 0.5 1 <NA> <NA> x <NA> <NA>",
        "SPEAKER a 1 0.5 1 <NA> <NA> x <NA>",  # 9 fields
        "SPEAKER\ta\t1\t0.5\t1\t<NA>\t<NA>\tx\t<NA>\t<NA>",
        "  SPEAKER   a  <NA>  0.50  1e0  speech  spontaneous  x  0.93  0.1  ",
        "SPEAKER a 1 0.5 1 <NA> <NA> x <NA> <NA>\r",
        "\ufeffSPEAKER a 1 0.5 1 <NA> <NA> x <NA> <NA>",
        ";; comment\n# comment\n\n   \nSPEAKER a 1 0.5 1 <NA> <NA> x <NA> <NA>",
        "SPKR-INFO a 1 <NA> <NA> <NA> unknown x <NA> <NA>\nSPEAKER a 1 0.5 1 <NA> <NA> x <NA> <NA>\n"
        "LEXEME a 1 0.6 0.2 hello lex x <NA>\nNON-SPEECH a 1 3 1 <NA> noise <NA> <NA>",
    ],
)
def test_every_usual_way_to_write_a_turn_is_read(rttm, line):
    annotations = read_rttm(rttm(line + "\n"))
    assert {uri: turns(annotation) for uri, annotation in annotations.items()} == {"a": [(0.5, 1.5, "x")]}


def test_names_are_kept_as_they_are_written(rttm, tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "MÉO069") for form in ("NFC", "NFD"))
    path = rttm(
        "".join(
            f"SPEAKER {name} 1 0 1 <NA> <NA> {name}\u00a0x <NA> <NA>\n"
            for name in (composed, decomposed, "会議")
        )
    )
    annotations = read_rttm(path)
    assert list(annotations) == [composed, decomposed, "会議"]
    assert annotations[decomposed].labels() == [f"{decomposed}\u00a0x"]
    write_rttm(tmp_path / "b.rttm", annotations)
    assert read_rttm(tmp_path / "b.rttm") == annotations


def test_overlapping_and_repeated_turns_are_all_kept(rttm):
    line = "SPEAKER a 1 {} {} <NA> <NA> {} <NA> <NA>\n"
    path = rttm("".join(line.format(*turn) for turn in [(1, 2, "B"), (1, 2, "A"), (1, 2, "A"), (2, 3, "A")]))
    expected = [(1.0, 3.0, "A"), (1.0, 3.0, "A"), (1.0, 3.0, "B"), (2.0, 5.0, "A")]
    assert turns(read_rttm(path)["a"]) == expected


def test_turns_of_no_length_are_left_out_with_a_warning(rttm):
    line = "SPEAKER a 1 {} {} <NA> <NA> x <NA> <NA>\n"
    path = rttm(line.format(0, 1) + line.format(2, 0) + line.format(3, "0.000"))
    with pytest.warns(UserWarning, match=r"a\.rttm:2: 2 turns of no length are left out"):
        annotations = read_rttm(path)
    assert turns(annotations["a"]) == [(0.0, 1.0, "x")]


def test_a_file_without_turns_has_no_recordings(rttm):
    assert read_rttm(rttm("")) == {}
    assert read_rttm(rttm(";; nobody spoke\n")) == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER a 1 0 -1 <NA> <NA> x <NA> <NA>", r"the duration \(field 5\) is negative: -1"),
        ("SPEAKER a 1 -0.5 1 <NA> <NA> x <NA> <NA>", r"the start \(field 4\) is negative: -0.5"),
        ("SPEAKER a 1 0 1 x <NA> <NA>", "expected 9 or 10 fields, found 8"),
        ("SPEAKER a 1 0 1 <NA> x <NA> <NA>", r"a column is missing: the name \(field 8 of 9\) is <NA>"),
        ("SPEAKER a 1 0 <NA> <NA> x <NA> <NA>", r"a column is missing|expected the duration"),
        ("SPEAKER a", "expected 9 or 10 fields, found 2"),
        ("SPEAKER a 1 0 1 <NA> <NA> John Smith <NA> <NA>", "found 11: .*names must not hold blanks"),
        (
            "SPEAKER a 1 zero 1 <NA> <NA> x <NA> <NA>",
            r"expected the start \(field 4\) in seconds, found 'zero'",
        ),
        ("SPEAKER a 1 0 <NA> <NA> <NA> x <NA> <NA>", r"expected the duration .* found '<NA>'"),
        ("SPEAKER a 1 nan 1 <NA> <NA> x <NA> <NA>", "found 'nan'"),
        ("SPEAKER a 1 0 inf <NA> <NA> x <NA> <NA>", "found 'inf'"),
        ("SPEAKER a 1 0 1e999 <NA> <NA> x <NA> <NA>", "found '1e999'"),
        ("SPEAKER a 1 1_0 1 <NA> <NA> x <NA> <NA>", "found '1_0'"),
        ("SPEAKER a 1 0,5 1 <NA> <NA> x <NA> <NA>", "found '0,5'"),
        ("a 1 0.0 30.0", r"expected an RTTM line such as 'SPEAKER \.\.\.', found 'a 1 0.0 30.0'"),
        ("{", "expected an RTTM line"),
    ],
)
def test_a_malformed_line_is_named_with_file_and_line(rttm, line, message):
    path = rttm(f";; first\n\nSPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\n{line}\n")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}:4: .*{message}"):
        read_rttm(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ";; é\n".encode() + "SPEAKER a 1 0 1 <NA> <NA> MÉO <NA> <NA>\n".encode("latin-1"),
            r"a\.rttm:2: is not UTF-8",
        ),
        (
            "SPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\n".encode("utf-16"),
            r"a\.rttm:1: is UTF-16; save it as UTF-8",
        ),
    ],
)
def test_other_encodings_are_named_with_the_line(rttm, content, message):
    with pytest.raises(InputError, match=message):
        read_rttm(rttm(content))


@pytest.mark.parametrize("reader", [read_rttm, read_uem, read_lab])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, reader):
    with pytest.raises(InputError, match=r"none: cannot be read: No such file"):
        reader(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
        reader(tmp_path)


def test_a_folder_of_rttm_files_is_read_as_one(tmp_path):
    with pytest.raises(InputError, match="the folder holds no .rttm file"):
        read_rttms(tmp_path)
    line = "SPEAKER {} 1 0 1 <NA> <NA> x <NA> <NA>\n"
    (tmp_path / "b.rttm").write_text(line.format("b"))
    (tmp_path / "a.rttm").write_text(line.format("c") + line.format("d"))
    (tmp_path / "silent.rttm").write_text("")
    annotations = read_rttms(tmp_path)
    assert list(annotations) == ["c", "d", "b", "silent"]
    assert not annotations["silent"]
    assert list(read_rttms(tmp_path / "b.rttm")) == ["b"]
    (tmp_path / "e.rttm").write_text(line.format("d"))
    with pytest.raises(InputError, match=r"a\.rttm and .*e\.rttm both have turns of 'd'"):
        read_rttms(tmp_path)


# Writing


def test_rttm_is_written_in_pyannote_s_form(tmp_path):
    annotation = Annotation(uri="rec")
    annotation[Segment(10.0125, 11.0325), "t"] = 2
    annotation[Segment(10.0125, 11.0325), "s"] = 10
    annotation[Segment(0.5, 12), "s"] = 0
    write_rttm(tmp_path / "a.rttm", annotation)
    assert (tmp_path / "a.rttm").read_bytes().decode() == (
        "SPEAKER rec 1 0.500 11.500 <NA> <NA> 0 <NA> <NA>\n"
        "SPEAKER rec 1 10.012 1.020 <NA> <NA> 10 <NA> <NA>\n"  # labels in order as strings
        "SPEAKER rec 1 10.012 1.020 <NA> <NA> 2 <NA> <NA>\n"
    )


def random_annotation(rng: np.random.Generator, uri: str, decimals: int | None) -> Annotation:
    """Turns with repeats and self-overlap, at times of some decimals (as read from a file) or any."""
    annotation = Annotation(uri=uri)
    for _ in range(60):
        start, duration = rng.uniform(0, 3600), rng.exponential(2) + 0.01
        if decimals is not None:
            start, duration = round(start, decimals), round(duration, decimals)
        segment = Segment(start, start + duration)
        for _ in range(rng.integers(1, 4)):
            annotation[segment, len(annotation.get_tracks(segment))] = f"s{rng.integers(4)}"
    return annotation


@pytest.mark.parametrize("decimals", [2, 3, 6, None])
def test_what_is_written_is_read_back_identical(tmp_path, rng, decimals):
    annotations = {uri: random_annotation(rng, uri, decimals) for uri in ("b", "a.x", "é")}
    write_rttm(tmp_path / "a.rttm", annotations, decimals=decimals)
    back = read_rttm(tmp_path / "a.rttm")
    assert {uri: sorted(turns(annotation)) for uri, annotation in back.items()} == {
        uri: sorted(turns(annotation)) for uri, annotation in annotations.items()
    }
    write_rttm(tmp_path / "b.rttm", back, decimals=decimals)
    assert (tmp_path / "a.rttm").read_bytes() == (tmp_path / "b.rttm").read_bytes()
    assert read_rttm(tmp_path / "b.rttm") == back  # tracks included


def test_other_times_move_by_less_than_the_last_decimal(tmp_path, rng):
    annotation = random_annotation(rng, "a", None)
    write_rttm(tmp_path / "a.rttm", annotation)
    back = sorted(turns(read_rttm(tmp_path / "a.rttm")["a"]), key=lambda turn: (round(turn[0], 1), turn))
    before = sorted(turns(annotation), key=lambda turn: (round(turn[0], 1), turn))
    moved = np.array([turn[:2] for turn in back]) - np.array([turn[:2] for turn in before])
    assert 0 < np.abs(moved).max() <= 1e-3


def test_every_golden_rttm_survives_reading_and_writing(golden, tmp_path):
    for path in sorted((golden / "reconstruct").glob("*.rttm")):
        annotations = read_rttm(path)
        write_rttm(tmp_path / "a.rttm", annotations)
        assert sorted(path.read_text().split("\n")) == sorted((tmp_path / "a.rttm").read_text().split("\n"))


@pytest.mark.parametrize(("uri", "label"), [("my file", "x"), ("a", "John Smith"), ("a", "x\ny"), ("a", "")])
def test_names_that_would_break_the_line_are_refused_and_nothing_is_written(tmp_path, uri, label):
    annotation = Annotation(uri=uri)
    annotation[Segment(0, 1)] = label
    path = tmp_path / "a.rttm"
    path.write_text("before")
    with pytest.raises(
        InputError, match=r"a\.rttm: the (recording|speaker) name .* is empty or holds a blank"
    ):
        write_rttm(path, annotation)
    assert path.read_text() == "before"


# UEM


def test_uem_regions_are_grouped_and_read_back(tmp_path):
    path = tmp_path / "a.uem"
    path.write_text(";; comment\nb 1 5.000 72.000\na\tNA\t0\t1113.845375\r\nb 1 84 120.5\n")
    uem = read_uem(path)
    assert uem == {
        "b": Timeline([Segment(5, 72), Segment(84, 120.5)]),
        "a": Timeline([Segment(0, 1113.845375)]),
    }
    assert uem["b"].uri == "b"
    for decimals in (6, None):
        write_uem(tmp_path / "b.uem", uem, decimals)
        assert read_uem(tmp_path / "b.uem") == uem
    write_uem(tmp_path / "b.uem", uem)
    assert (tmp_path / "b.uem").read_text() == "b 1 5.000 72.000\nb 1 84.000 120.500\na 1 0.000 1113.845\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 0", "expected '<uri> <channel> <start> <end>', found 3 fields"),
        ("a 1 0 10 20", "found 5 fields"),
        ("a 1 5 2", r"the end \(2\) must lie after the start \(5\)"),
        ("a 1 5 5.0", r"must lie after the start"),
        ("a 1 0 end", "expected the end in seconds, found 'end'"),
        ("a 1 -1 5", "the start is negative: -1"),
    ],
)
def test_a_malformed_uem_line_is_named(tmp_path, line, message):
    (tmp_path / "a.uem").write_text(f"b 1 0 1\n{line}\n")
    with pytest.raises(InputError, match=rf"a\.uem:2: .*{message}"):
        read_uem(tmp_path / "a.uem")


@pytest.mark.parametrize("uri", ["my file", "#1", ";;x"])
def test_a_name_that_uem_cannot_hold_is_refused(tmp_path, uri):
    with pytest.raises(InputError, match=r"a\.uem: the recording name"):
        write_uem(tmp_path / "a.uem", {uri: Timeline([Segment(0, 1)])})


# LAB


def test_lab_is_read_back_identical(tmp_path, rng):
    annotation = random_annotation(rng, "a", None)
    write_lab(tmp_path / "a.lab", annotation, decimals=None)
    back = read_lab(tmp_path / "a.lab")
    assert back.uri == "a"
    assert sorted(turns(back)) == sorted(turns(annotation))


def test_speech_activity_labels_are_written_and_read(tmp_path):
    (tmp_path / "a.lab").write_text("0.000 25.150 sp\n25.520\t34.490\tsp\n")
    back = read_lab(tmp_path / "a.lab")
    assert turns(back) == [(0.0, 25.15, "sp"), (25.52, 34.49, "sp")]
    write_lab(tmp_path / "b.lab", back.get_timeline())
    assert (tmp_path / "b.lab").read_text() == "0.000 25.150 sp\n25.520 34.490 sp\n"


def test_a_malformed_lab_line_is_named(tmp_path):
    for line, message in [
        ("1 2", "found 2 fields"),
        ("1 2 John Smith", "names must not hold blanks"),
        ("2 1 x", "after"),
    ]:
        (tmp_path / "a.lab").write_text(f"0 1 sp\n{line}\n")
        with pytest.raises(InputError, match=rf"a\.lab:2: .*{message}"):
            read_lab(tmp_path / "a.lab")
