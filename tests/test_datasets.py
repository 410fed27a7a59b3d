"""Protocols of `database.yml` and file lists."""

from __future__ import annotations

import pytest
from pyannote.core import Annotation, Segment, Timeline

from workbench.datasets import list_protocols, read_database, read_list
from workbench.errors import InputError

YML = """\
Databases:
  AMI: audio/{uri}.wav
  Other:
    - /nowhere/{uri}.wav
    - "deep/*/{uri}.flac"

Protocols:
  AMI:
    SpeakerDiarization:
      words:
        train:
          uri: lists/train.lst
          annotation: rttm/train.rttm
          annotated: uem/train.uem
        test:
          uri: lists/test.lst
          annotation: rttm/{uri}.rttm
  Other:
    SpeakerDiarization:
      blind:
        development:
          uri: lists/test.lst
    SpeakerVerification:
      ignored:
        train: {}
"""


@pytest.fixture
def database(tmp_path):
    """A database.yml with its lists, references and audio; the folder has a blank in its name."""
    root = tmp_path / "my corpora"
    files = {
        "database.yml": YML,
        "lists/train.lst": "b\na\n\n",
        "lists/test.lst": "é.c\n",
        "rttm/train.rttm": (
            "SPEAKER a 1 0.5 1.5 <NA> <NA> A <NA> <NA>\nSPEAKER z 1 0 1 <NA> <NA> A <NA> <NA>\n"
        ),
        "rttm/é.c.rttm": "SPEAKER é.c 1 0 2 <NA> <NA> B <NA> <NA>\n",
        "uem/train.uem": "a 1 0 10\nb 1 0 20\nb 1 30 40\n",
        "audio/a.wav": "",
        "deep/x/é.c.flac": "",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root / "database.yml"


def test_protocols_are_listed(database):
    assert list_protocols(database) == ["AMI.SpeakerDiarization.words", "Other.SpeakerDiarization.blind"]


def test_a_protocol_gives_audio_reference_and_uem_of_every_recording(database):
    entries = read_database(database, "AMI.SpeakerDiarization.words")
    root = database.parent
    assert list(entries) == ["b", "a", "é.c"]
    assert [entry.subset for entry in entries.values()] == ["train", "train", "test"]
    assert entries["a"].audio == root / "audio/a.wav"
    assert entries["b"].audio == root / "audio/b.wav"  # not there: whoever reads it says so
    expected = Annotation(uri="a")
    expected[Segment(0.5, 2), 0] = "A"
    assert entries["a"].reference == expected
    assert not entries["b"].reference  # silent, yet annotated
    assert entries["b"].reference.uri == "b"
    assert entries["b"].uem == Timeline([Segment(0, 20), Segment(30, 40)])
    assert entries["é.c"].reference.labels() == ["B"]
    assert entries["é.c"].uem is None


def test_a_subset_alone_and_audio_by_pattern(database):
    entries = read_database(database, "Other.SpeakerDiarization.blind", "development")
    assert entries["é.c"].audio == database.parent / "deep/x/é.c.flac"
    assert entries["é.c"].reference is None


def test_the_only_protocol_needs_no_name(database):
    database.write_text(YML.split("  Other:\n    SpeakerDiarization")[0], encoding="utf-8")
    assert len(read_database(database)) == 3


@pytest.mark.parametrize(
    ("protocol", "subset", "message"),
    [
        (None, None, "defines 2 protocols; choose one of AMI.*words, Other"),
        ("AMI.SpeakerDiarization.all", None, "defines no protocol 'AMI.SpeakerDiarization.all'; it has AMI"),
        ("AMI.SpeakerDiarization.words", "dev", "a subset is one of train, development, test, got 'dev'"),
        ("AMI.SpeakerDiarization.words", "development", "has no subset development; it has train, test"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(database, protocol, subset, message):
    with pytest.raises(InputError, match=rf"database\.yml: .*{message}"):
        read_database(database, protocol, subset)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Protocols:", "Protocols: [", r"database\.yml:\d+: is not YAML"),
        ("Protocols:", "Protocol:", "Protocols: expected keys with values, found None"),
        (
            "words:\n        train:",
            "words:\n        dev:",
            "unknown subset 'dev'; expected train, development, test",
        ),
        ("lists/train.lst", "[1, 2]", r"words\.train\.uri: expected the path of a file, found \[1, 2\]"),
        ("lists/train.lst", "lists/none.lst", r"none\.lst: cannot be read"),
        ("rttm/train.rttm", "rttm/none.rttm", r"none\.rttm: cannot be read"),
        ("uem/train.uem", "lists/train.lst", r"train\.lst:1: expected '<uri> <channel> <start> <end>'"),
        ("audio/{uri}.wav", "3", r"Databases\.AMI: expected a path such as audio/\{uri\}\.wav, found 3"),
        ("uri: lists/test.lst\n          annotation", "annotation", "words.test: expected the key 'uri'"),
        ("lists/test.lst", "lists/train.lst", "'b' is in both train and test|cannot be read"),
    ],
)
def test_mistakes_in_the_file_are_named(database, old, new, message):
    database.write_text(YML.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_database(database, "AMI.SpeakerDiarization.words")


def test_without_a_list_the_reference_names_the_recordings(database):
    database.write_text(YML.replace("          uri: lists/train.lst\n", ""), encoding="utf-8")
    database.parent.joinpath("uem/train.uem").write_text("a 1 0 10\nz 1 0 20\n")
    assert list(read_database(database, "AMI.SpeakerDiarization.words", "train")) == ["a", "z"]


def test_a_recording_without_a_scored_region_is_an_error(database):
    database.parent.joinpath("uem/train.uem").write_text("a 1 0 10\n")
    with pytest.raises(InputError, match=r"words\.train\.annotated: names no region of 'b'"):
        read_database(database, "AMI.SpeakerDiarization.words")


@pytest.mark.parametrize("content", [b"", b"just text", b"\xff\xfe\x00", b"- a\n- b\n"])
def test_files_that_are_no_database_are_refused(database, content):
    database.write_bytes(content)
    with pytest.raises(InputError, match=r"database\.yml"):
        read_database(database)


def test_lists_refuse_repeats_and_emptiness(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("b\r\na c\r\n\r\n")
    assert read_list(path) == ["b", "a c"]
    path.write_text("b\na\nb\n")
    with pytest.raises(InputError, match=r"a\.lst:3: 'b' was already listed on line 1"):
        read_list(path)
    path.write_text("\n")
    with pytest.raises(InputError, match=r"a\.lst: lists nothing"):
        read_list(path)
