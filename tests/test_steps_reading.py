"""Dumps of other programs: fixtures, text, raw binaries, Polygraphy, Kaldi; and what is wrong with them."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest

from workbench.array_files import ArrayForm, read_array_file
from workbench.errors import InputError, RecordingError
from workbench.steps import open_steps, walk_steps


@pytest.fixture
def scores(rng) -> np.ndarray:
    return rng.standard_normal((3, 5, 4)).astype(np.float32)


@pytest.fixture
def ours(tmp_path, scores):
    folder = tmp_path / "ours"
    folder.mkdir()
    np.savez(folder / "meeting.npz", log_probs=scores, count=np.arange(6) % 3)
    return folder


def agree(ours, theirs, num_steps=1):
    walk = walk_steps([ours, theirs])
    compared = [step.step for step in walk.walks[0].steps if step.status != "absent"]
    return walk.agree and len(compared) == num_steps


def test_speakrs_fixtures_and_pyannote_hooks_are_known_by_their_names(tmp_path, rng):
    fixtures, hooks = tmp_path / "fixtures", tmp_path / "hooks"
    fixtures.mkdir(), hooks.mkdir()
    segmentation = (rng.random((3, 5, 2)) < 0.5).astype(np.float32)
    count = rng.integers(0, 3, (12, 1))
    embeddings = rng.standard_normal((3, 2, 4)).astype(np.float32)
    discrete = np.eye(12, 2, dtype=np.float32)
    names = ("segmentation", "speaker_counting", "embeddings", "discrete_diarization")
    for name, array in zip(names, (segmentation, count, embeddings, discrete), strict=True):
        np.save(fixtures / f"{name}_data.npy", array)
        np.save(hooks / f"{name}.npy", array)
    gamma = rng.dirichlet(np.ones(2), 6)
    np.savez(fixtures / "vbx_gamma.npz", vbx_gamma=gamma)
    np.savez(fixtures / "plda_features.npz", arr_0=gamma)
    (fixtures / "expected.rttm").write_text("SPEAKER f 1 0.5 1.25 <NA> <NA> SPEAKER_00 <NA> <NA>\n")
    side = open_steps(fixtures)
    assert side.uris == ("fixtures",)
    assert set(side.names("fixtures")) == {
        "segmentations", "count", "embeddings", "discrete_diarization", "vbx_gamma",
        "plda_features", "segments",
    }  # fmt: skip
    assert side.load("fixtures", "segments").tolist() == [[0.5, 1.75, 0.0]]
    np.testing.assert_array_equal(side.load("fixtures", "plda_features"), gamma)
    walk = walk_steps([fixtures, hooks])
    assert walk.agree
    assert sum(step.status == "same" for step in walk.walks[0].steps) == 4


def test_raw_text_json_and_kaldi_files_are_read(ours, tmp_path, scores):
    for ending, write in {
        "bin": lambda path: scores.astype("<f4").tofile(path),
        "f64": lambda path: scores.astype("<f8").tofile(path),
        "txt": lambda path: path.write_text(
            "\n".join(" ".join(map(str, row)) for row in scores.reshape(5, 12))
        ),
        "json": lambda path: path.write_text(json.dumps(scores.tolist())),
    }.items():
        folder = tmp_path / ending
        (folder / "meeting").mkdir(parents=True)
        write(folder / "meeting" / f"log_probs.{ending}")
        dtype = {"bin": "float32", "f64": "float64"}.get(ending)
        entry = {"shape": [3, 5, -1]} | ({"dtype": dtype} if dtype else {})
        (folder / "geometry.json").write_text(
            json.dumps(
                {
                    "sample_rate": 16000,
                    "chunk_duration": 1.0,
                    "chunk_step": 0.5,
                    "frame_start": 0,
                    "frame_duration": 0.2,
                    "frame_step": 0.2,
                    "powerset": [[], [0], [1], [0, 1]],
                    "arrays": {"log_probs": entry},
                }  # fmt: skip
            )
        )
        assert agree(ours, folder), ending


def test_steps_toml_names_arrays_axes_and_byte_order(ours, tmp_path, scores):
    folder = tmp_path / "npu"
    folder.mkdir()
    scores.transpose(0, 2, 1).astype(">f4").tofile(folder / "meeting_seg_out_0.bin")
    (folder / "meeting_frames.csv").write_text("# count\n0,1,2\n0,1,2\n")
    (folder / "steps.toml").write_text(
        '[arrays.seg_out]\nstep = "log_probs"\ndtype = "float32"\nbyte_order = "big"\nshape = [3, 4, 5]\n'
        'axes = ["chunk", "class", "frame"]\n'
        '[arrays.frames]\nstep = "count"\nshape = [6]\n'
    )
    assert open_steps(folder).uris == ("meeting",)
    assert agree(ours, folder, 2)


def test_fortran_order_is_undone_where_it_is_said(ours, tmp_path, scores):
    folder = tmp_path / "fortran"
    folder.mkdir()
    scores.ravel(order="F").astype("<f4").tofile(folder / "meeting.log_probs.raw")
    (folder / "steps.toml").write_text('[arrays.log_probs]\nshape = [3, 5, 4]\norder = "F"\n')
    assert agree(ours, folder)


def test_polygraphy_outputs_and_kaldi_archives(tmp_path, scores):
    buffer = io.BytesIO()
    np.save(buffer, scores)
    packed = {"polygraphy_class": "ndarray", "array": base64.b64encode(buffer.getvalue()).decode()}
    content = {"lst": [["onnxrt", [{"outputs": {"log_probs": packed}, "runtime": 1.0}]]]}
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content))
    np.testing.assert_array_equal(read_array_file(path)["log_probs"], scores)
    ark = tmp_path / "filtered_embeddings.ark"
    ark.write_text("a  [ 1 2 3 ]\nb  [ 4 5 6 ]\n")
    np.testing.assert_array_equal(read_array_file(ark)["filtered_embeddings"], [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("name", "content", "form", "words"),
    [
        ("x.bin", b"\0" * 10, ArrayForm(), "no whole number of float32"),
        ("x.bin", b"\0" * 40, ArrayForm(shape=(4, 5)), "as float16 or int16"),
        ("x.bin", b"\0" * 40, ArrayForm(shape=(20,), dtype="float64"), "40 bytes|5 values"),
        ("x.bin", b"\0" * 36, ArrayForm(shape=(2, 5)), "truncated"),
        ("x.txt", b"1 2\n3 x\n", ArrayForm(), "x.txt:2: expected numbers, found '3 x'"),
        ("x.txt", b"1 2\n3\n4 5\n", ArrayForm(), "different numbers"),
        ("x.txt", b"# nothing\n", ArrayForm(), "no numbers"),
        ("x.npy", b"nothing", ArrayForm(), "npy"),
        ("x.json", b"{", ArrayForm(), "not readable JSON"),
        ("x.json", b'{"a": "b"}', ArrayForm(), "expected arrays"),
        ("x.wav", b"", ArrayForm(), "no array file"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path, name, content, form, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=words):
        read_array_file(path, form)


def test_python_objects_are_never_loaded(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="never loaded"):
        read_array_file(path)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[arrays", "not valid TOML"),
        ("[array.x]\n", "unknown table 'array'"),
        ("[arrays.x]\n", "no step is called 'x'"),
        ("[arrays.count]\ndtpye = 'int8'\n", "did you mean 'dtype'"),
        ("[arrays.count]\ndtype = 'bf16'\n", "dtype must be one of"),
        ("[arrays.count]\nshape = [-1, -1]\n", "at most one of them -1"),
        ("[arrays.count]\norder = 'R'\n", "order must be C"),
        ("[arrays.log_probs]\naxes = ['chunk', 'class']\n", "axes must order chunk, frame, class"),
    ],
)
def test_descriptions_are_checked(tmp_path, scores, toml, words):
    np.savez(tmp_path / "a.npz", log_probs=scores)
    (tmp_path / "steps.toml").write_text(toml)
    with pytest.raises(InputError, match=words):
        open_steps(tmp_path)


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_steps(tmp_path / "none")
    with pytest.raises(InputError, match="holds no array of a step"):
        open_steps(tmp_path)


def test_unknown_arrays_are_mentioned(ours, tmp_path, scores):
    folder = tmp_path / "port"
    folder.mkdir()
    np.save(folder / "meeting.log_probs.npy", scores)
    np.save(folder / "mystery.npy", scores)
    walk = walk_steps([ours, folder])
    assert walk.agree
    assert any("mystery.npy" in remark for remark in walk.remarks)
