"""Kaldi archives: written here and read back, and bytes laid out by hand as Kaldi and kaldiio write them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from workbench.errors import InputError
from workbench.kaldi_ark import iterate_ark, read_kaldi, read_vectors, write_ark

FLOATS = np.array([1.5, -2.0, 3e-30], dtype=np.float32)


def vector(values: np.ndarray) -> bytes:
    """A binary vector by the format's definition."""
    kind = {4: b"FV ", 8: b"DV "}[values.dtype.itemsize]
    return b"\0B" + kind + b"\4" + struct.pack("<i", len(values)) + values.tobytes()


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("ending", ["ark", "scp"])
def test_what_is_written_comes_back_bit_by_bit_and_in_order(tmp_path, rng, text, ending):
    arrays = {
        "zeta": rng.normal(size=7).astype(np.float32) * 1e-20,
        "Müller/a.wav": rng.normal(size=7).astype(np.float32),
        "matrix": rng.normal(size=(3, 2)).astype(np.float32),
    }
    write_ark(tmp_path / "x.ark", arrays, scp=tmp_path / "x.scp", text=text)
    found = read_kaldi(tmp_path / f"x.{ending}")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_binary_archives_are_byte_for_byte_the_format_of_kaldi(tmp_path):
    doubles = np.array([0.1, 2.0])
    write_ark(tmp_path / "x.ark", {"a": FLOATS, "b": doubles}, scp=tmp_path / "x.scp")
    expected = b"a " + vector(FLOATS) + b"b " + vector(doubles)
    assert (tmp_path / "x.ark").read_bytes() == expected
    offset = len(b"a " + vector(FLOATS) + b"b ")
    assert (tmp_path / "x.scp").read_text() == f"a {tmp_path}/x.ark:2\nb {tmp_path}/x.ark:{offset}\n"


def test_text_archives_read_as_kaldi_and_wespeaker_write_them(tmp_path):
    (tmp_path / "x.txt").write_text("a  [ 1.5 -2 3e-30 ]\nb 1.5 -2 3e-30\nm  [\n  1 2\n  3 4 ]\n")
    found = read_kaldi(tmp_path / "x.txt")
    np.testing.assert_array_equal(found["a"], FLOATS)
    np.testing.assert_array_equal(found["b"], FLOATS)
    np.testing.assert_array_equal(found["m"], [[1, 2], [3, 4]])


def test_lists_find_archives_beside_them_and_files_without_an_offset(tmp_path, monkeypatch):
    folder = tmp_path / "exp"
    folder.mkdir()
    (folder / "x.ark").write_bytes(b"a " + vector(FLOATS))
    (folder / "single").write_bytes(vector(FLOATS * 2))
    (folder / "x.scp").write_text("a x.ark:2\nb single\n")
    monkeypatch.chdir(tmp_path)
    found = read_vectors("scp:exp/x.scp")
    np.testing.assert_array_equal(found["b"], 2 * found["a"])
    (folder / "cwd.scp").write_text("a exp/x.ark:2\n")  # Kaldi's way: from the working folder
    np.testing.assert_array_equal(read_vectors(folder / "cwd.scp")["a"], FLOATS)
    assert list(read_kaldi("ark:exp/x.ark")) == ["a"]


def test_a_matrix_of_one_row_is_a_vector_as_xvector_extractors_write_it(tmp_path):
    write_ark(tmp_path / "x.ark", {"a": FLOATS[None]})
    np.testing.assert_array_equal(read_vectors(tmp_path / "x.ark")["a"], FLOATS)


@pytest.mark.parametrize(("kind", "width", "steps"), [(b"CM2 ", "<u2", 65535), (b"CM3 ", "<u1", 255)])
def test_compressed_matrices_are_linear_between_their_ends(tmp_path, kind, width, steps):
    codes = np.array([[0, steps], [steps // 5, 0]], dtype=width)
    content = b"m \0B" + kind + struct.pack("<ffii", -1.0, 4.0, 2, 2) + codes.tobytes()
    (tmp_path / "x.ark").write_bytes(content)
    np.testing.assert_allclose(read_kaldi(tmp_path / "x.ark")["m"], [[-1, 3], [-0.2, -1]], atol=1e-6)


def test_the_first_compressed_form_bends_at_the_quartiles(tmp_path):
    quartiles = np.array([0, 16384, 49152, 65535], dtype="<u2")
    codes = np.array([0, 64, 128, 192, 255], dtype="u1")
    header = struct.pack("<ffii", 0.0, 65535.0, 5, 1)
    (tmp_path / "x.ark").write_bytes(b"m \0BCM " + header + quartiles.tobytes() + codes.tobytes())
    np.testing.assert_allclose(read_kaldi(tmp_path / "x.ark")["m"][:, 0], [0, 16384, 32768, 49152, 65535])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no vectors"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "is no Kaldi archive"),
        (b"\x93NUMPY" + bytes(200), "is no Kaldi archive"),
        (b"x" * 10000, "is no Kaldi archive"),
        (b"a " + vector(FLOATS)[:-1], "takes 12 more bytes, the file has 11"),
        (b"a \0BFV \4" + struct.pack("<i", 2**31 - 1), "more bytes"),
        (b"a \0BFM \4" + struct.pack("<i", 2**30) + b"\4" + struct.pack("<i", 2**30), "more bytes"),
        (b"a \0BFV \4" + struct.pack("<i", -5), "size of 'a' is damaged"),
        (b"a \0BFV \x08" + struct.pack("<i", 3) + FLOATS.tobytes(), "size of 'a' is damaged"),
        (b"a \0BSV \4\0\0\0\0", "is of the type b'SV'"),
        (b"a  [ 1 2 three ]\n", "'three'"),
        (b"a  [ 1 2\n", "no closing"),
        (b"a  [\n 1 2\n 3 ]\n", "differ in length"),
        (b"a  [ 1 ]\na  [ 2 ]\n", "names 'a' twice"),
        (b"\xff\xfe [ 1 ]\n", "not UTF-8"),
    ],
)
def test_damaged_archives_are_refused_in_words(tmp_path, content, message):
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_kaldi(tmp_path / "x.ark")
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "x.ark"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a", "expected '<name> <ark>:<offset>'"),
        ("a copy-vector ark:x ark:- |", "is a command, which is not read"),
        ("a -", "standard input"),
        ("a nowhere.ark:5", "cannot be read"),
        ("a x.ark:99999", "has 24 bytes, found the offset 99999"),
        ("a x.ark:2[0:1]", "part of a matrix"),
    ],
)
def test_lists_that_cannot_be_followed_say_which_line(tmp_path, line, message):
    (tmp_path / "x.ark").write_bytes(b"a " + vector(FLOATS))
    (tmp_path / "x.scp").write_text(f"ok x.ark:2\n{line}\n")
    with pytest.raises(InputError, match="x.scp:2: ") as error:
        read_kaldi(tmp_path / "x.scp")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["ark:-", "ark:gunzip -c x.gz |", "scp:-", "ark,scp:x.ark,x.scp"])
def test_pipes_and_pairs_are_refused(name):
    with pytest.raises(InputError, match="not read|names two files"):
        read_kaldi(name)


def test_names_that_kaldi_cannot_hold_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(InputError, match="a blank ends it"):
        write_ark(tmp_path / "x.ark", {"a b": FLOATS}, scp=tmp_path / "x.scp")
    assert list(tmp_path.iterdir()) == []


def test_archives_can_be_read_one_vector_at_a_time(tmp_path):
    write_ark(tmp_path / "x.ark", ((str(n), FLOATS * n) for n in range(5)))
    assert next(iterate_ark(tmp_path / "x.ark"))[0] == "0"


def test_vectors_of_two_models_are_not_one_file(tmp_path):
    write_ark(tmp_path / "x.ark", {"a": FLOATS, "b": FLOATS[:2]})
    with pytest.raises(InputError, match="'b' has 2 values, but the first vector has 3"):
        read_vectors(tmp_path / "x.ark")
