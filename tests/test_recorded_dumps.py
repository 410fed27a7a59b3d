"""Folders that other programs wrote, read as `recorded:DIR`: every file is written here, byte by byte."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import run

from workbench.agreement.dump_form import other_form
from workbench.array_files import read_array_file
from workbench.audio import crop_audio
from workbench.errors import InputError, RecordingError
from workbench.runtimes import load_runtime

POWERSET = [[], [0], [1], [0, 1]]
GEOMETRY = {
    "sample_rate": 16000,
    "chunk_duration": 1.0,
    "chunk_step": 0.5,
    "frame_start": 0.0,
    "frame_duration": 0.25,
    "frame_step": 0.2,
    "powerset": POWERSET,
    "runtime": "acl",
    "created_by": "msame",
}
FRAMES, CLASSES, DIMENSION = 5, len(POWERSET), 6


@pytest.fixture
def scores(rng) -> np.ndarray:
    """Three chunks of log-probabilities."""
    return np.log(rng.dirichlet(np.ones(CLASSES), size=(3, FRAMES))).astype(np.float32)


def geometry(folder: Path, **more: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "geometry.json").write_text(json.dumps(GEOMETRY | more), encoding="utf-8")
    return folder


def opened(folder: Path):
    return load_runtime(f"recorded:{folder}")


def packed(array: np.ndarray) -> dict[str, object]:
    """An array as Polygraphy's encoder writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    text = base64.b64encode(buffer.getvalue()).decode()
    return {"values": {"array": text, "polygraphy_class": "ndarray"}, "polygraphy_class": "LazyArray"}


def iteration(**outputs: np.ndarray) -> dict[str, object]:
    arrays = {name: packed(array) for name, array in outputs.items()}
    return {
        "outputs": arrays,
        "runtime": 0.01,
        "runner_name": "trt-runner",
        "polygraphy_class": "IterationResult",
    }


def run_results(**runners: list[dict[str, object]]) -> str:
    return json.dumps({"lst": [[n, each] for n, each in runners.items()], "polygraphy_class": "RunResults"})


@pytest.mark.parametrize("ending", ["_0.bin", ".bin", "_output_0.bin", ".f32"])
def test_flat_binaries_get_their_shape_from_the_geometry(tmp_path, scores, ending):
    folder = geometry(tmp_path, num_frames=FRAMES)
    for uri in ("one", "two"):
        (folder / f"{uri}{ending}").write_bytes(scores.astype("<f4").tobytes())
    runtime = opened(folder)
    assert runtime.uris == ("one", "two")
    np.testing.assert_array_equal(runtime.log_probs("two"), scores)
    np.testing.assert_array_equal(runtime.arrays("one")["log_probs"], scores)


def test_text_of_msame_is_read_from_its_folder_named_after_the_time(tmp_path, scores):
    folder = geometry(tmp_path, num_frames=FRAMES)
    inner = folder / "20220309_143502_218935"
    inner.mkdir()
    (inner / "one_0.txt").write_text(" ".join(repr(float(value)) for value in scores.ravel()) + "\n")
    (inner / "sumary.json").write_text("{}")
    np.testing.assert_array_equal(opened(folder).log_probs("one"), scores)


def test_a_file_per_batch_is_joined_in_the_order_of_the_numbers(tmp_path, rng):
    scores = np.log(rng.dirichlet(np.ones(CLASSES), size=(11, FRAMES))).astype(np.float32)
    folder = geometry(tmp_path, num_frames=FRAMES, files="batch")
    for number, chunk in enumerate(scores):  # "10" sorts before "2" as text
        (folder / f"one_{number}_0.bin").write_bytes(chunk.tobytes())
    np.testing.assert_array_equal(opened(folder).log_probs("one"), scores)
    (folder / "one_3_0.bin").unlink()
    with pytest.raises(RecordingError, match="batch 3 of 'one' is missing"):
        opened(folder).arrays("one")


def test_numbers_that_may_mean_two_things_are_asked_about(tmp_path, scores):
    folder = geometry(tmp_path, num_frames=FRAMES)
    for number in (0, 1):
        (folder / f"one_{number}.bin").write_bytes(scores.tobytes())
    with pytest.raises(RecordingError, match=r'has the outputs 0, 1; .*"output": 0, or.*"files": "batch"'):
        opened(folder).arrays("one")
    geometry(folder, num_frames=FRAMES, output=1)
    np.testing.assert_array_equal(opened(folder).log_probs("one"), scores)
    geometry(folder, num_frames=FRAMES, files="batch")
    assert len(opened(folder).log_probs("one")) == 6
    geometry(folder, num_frames=FRAMES, files="recording")
    assert opened(folder).uris == ("one_0", "one_1")


@pytest.mark.parametrize(
    ("keys", "write"),
    [
        ({"dtype": "float16", "num_frames": FRAMES}, lambda s: s.astype("<f2").tobytes()),
        ({"dtype": "float64", "byte_order": "big", "shape": [-1, 5, 4]}, lambda s: s.astype(">f8").tobytes()),
        (
            {"axes": ["chunk", "class", "frame"], "num_frames": FRAMES},
            lambda s: s.transpose(0, 2, 1).tobytes(),
        ),
        ({"order": "F", "num_frames": FRAMES}, lambda s: s.tobytes(order="F")),
        ({"arrays": {"log_probs": {"shape": [3, 5, 4]}}}, lambda s: s.tobytes()),
    ],
)
def test_dtype_byte_order_and_axes_are_as_the_geometry_says(tmp_path, scores, keys, write):
    folder = geometry(tmp_path, **keys)
    (folder / "one.bin").write_bytes(write(scores))
    found = opened(folder).log_probs("one")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, scores, rtol=1e-3)


def test_iterations_of_polygraphy_are_joined_and_its_runners_told_apart(tmp_path, scores):
    folder = geometry(tmp_path)
    first, second = (
        iteration(log_probs=scores[:2], fbank=scores[:2] + 1),
        iteration(log_probs=scores[2:], fbank=scores[2:] + 1),
    )
    (folder / "one.json").write_text(run_results(**{"trt-runner-N0": [first, second]}))
    runtime = opened(folder)
    np.testing.assert_array_equal(runtime.log_probs("one"), scores)
    assert runtime.stage_names("one") == ("log_probs", "fbank")
    both = run_results(trt=[first, second], onnxrt=[iteration(log_probs=scores - 1, fbank=scores)])
    (folder / "one.json").write_text(both)
    with pytest.raises(RecordingError, match='several runners; there are trt, onnxrt: .*"runner": "trt"'):
        opened(folder).arrays("one")
    geometry(folder, runner="onnxrt")
    np.testing.assert_array_equal(opened(folder).log_probs("one"), scores - 1)


def test_an_output_of_another_name_must_be_named(tmp_path, scores):
    folder = geometry(tmp_path)
    (folder / "one.json").write_text(run_results(trt=[iteration(out_7=scores, aux=scores)]))
    with pytest.raises(RecordingError, match='holds no output \'log_probs\'.*"output": "out_7"'):
        opened(folder).arrays("one")
    geometry(folder, output="out_7")
    np.testing.assert_array_equal(opened(folder).log_probs("one"), scores)


def test_vectors_of_kaldi_are_embeddings_of_whole_recordings(tmp_path, rng):
    folder = geometry(tmp_path, powerset=[])
    vectors = rng.normal(size=(2, DIMENSION)).astype("<f4")
    archive, lines = b"", []
    for uri, vector in zip(("one", "two"), vectors, strict=True):
        archive += f"{uri} ".encode()
        lines.append(f"{uri} xvector.ark:{len(archive)}\n")
        archive += b"\0BFV \4" + struct.pack("<i", DIMENSION) + vector.tobytes()
    (folder / "xvector.ark").write_bytes(archive)
    (folder / "xvector.scp").write_text("".join(lines))
    runtime = opened(folder)
    assert (runtime.kind, runtime.uris) == ("embedding", ("one", "two"))
    assert runtime.holds_whole_recordings
    np.testing.assert_array_equal(runtime.embeddings("two"), vectors[1][None, None])
    (folder / "xvector.scp").unlink()  # an archive alone is as good
    np.testing.assert_array_equal(opened(folder).embeddings("one"), vectors[0][None, None])


def test_a_text_matrix_of_kaldi_holds_an_embedding_per_chunk(tmp_path):
    folder = geometry(tmp_path, powerset=[])
    (folder / "embeddings.ark").write_text("one  [\n  1 2 3\n  4 5 6 ]\n")
    runtime = opened(folder)
    np.testing.assert_array_equal(runtime.embeddings("one"), [[[1, 2, 3]], [[4, 5, 6]]])
    assert not runtime.holds_whole_recordings


def test_flat_embeddings_are_cut_by_their_dimension(tmp_path, rng):
    embeddings = rng.normal(size=(3, 2, DIMENSION)).astype(np.float32)
    folder = geometry(tmp_path, stage="embeddings", dimension=DIMENSION, num_local_speakers=2)
    (folder / "one_0.bin").write_bytes(embeddings.tobytes())
    runtime = opened(folder)
    assert runtime.kind == "embedding"
    np.testing.assert_array_equal(runtime.embeddings("one"), embeddings)


def test_files_named_after_stages_are_told_apart(tmp_path, scores):
    folder = geometry(tmp_path, num_frames=FRAMES)
    (folder / "one.log_probs.bin").write_bytes(scores.tobytes())
    np.save(folder / "one.embeddings.npy", np.ones((3, 2, DIMENSION), np.float32))
    (folder / "two").mkdir()
    (folder / "two" / "scores_0.bin").write_bytes(scores.tobytes())
    runtime = opened(folder)
    assert runtime.uris == ("one", "two")
    assert set(runtime.stage_names("one")) == {"log_probs", "embeddings"}
    np.testing.assert_array_equal(runtime.log_probs("two"), scores)


@pytest.mark.parametrize(
    ("keys", "content", "problem"),
    [
        ({}, b"\0" * 240, r'60 values without shape; add to geometry.json the line "num_frames": 5,'),
        ({"num_frames": 5}, b"\0" * 236, r"59 values are 2\.950 chunks of 5 frame x 4 class = 20; the f"),
        ({"num_frames": 5}, b"\0" * 239, r"239 bytes are no whole number of float32 values of 4 bytes"),
        ({"shape": [3, 5, 4]}, b"\0" * 120, r"30 values do not fill the shape \(3, 5, 4\); as float16 or"),
        ({"num_frames": 5}, b"", r"0 values are 0\.000 chunks"),
    ],
)  # fmt: skip
def test_a_dump_that_does_not_fit_fails_alone_and_says_why(tmp_path, scores, keys, content, problem):
    folder = geometry(tmp_path, **keys)
    (folder / "bad.bin").write_bytes(content)
    np.save(folder / "good.npy", scores)
    runtime = opened(folder)
    with pytest.raises(RecordingError, match=problem):
        runtime.arrays("bad")
    np.testing.assert_array_equal(runtime.log_probs("good"), scores)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"dtype": "bfloat16"}, "geometry.json: dtype must be one of float16, .*found 'bfloat16'"),
        ({"num_frames": 0}, "num_frames must be a whole number above 0"),
        ({"files": "chunks"}, "files must be recording, output or batch, found 'chunks'"),
        ({"stage": "logits"}, "stage must be log_probs or embeddings"),
        ({"axes": ["frame", "class"]}, "axes must order chunk, frame, class"),
        ({"order": "Fortran"}, "order must be C"),
        ({"shape": [-1, -1, 4]}, "shape must list whole numbers, at most one of them -1"),
        ({"arrays": {"log_probs": {"byte_order": "network"}}}, "arrays.log_probs: byte_order must be little"),
        ({"arrays": [1]}, "arrays must be a table"),
    ],
)
def test_a_key_that_means_nothing_is_refused_by_name(tmp_path, scores, keys, problem):
    folder = geometry(tmp_path, **keys)
    (folder / "one.bin").write_bytes(scores.tobytes())
    with pytest.raises(InputError, match=problem):
        opened(folder)


def test_a_missing_key_comes_with_the_line_to_add(tmp_path, scores):
    folder = geometry(tmp_path)
    (folder / "one.bin").write_bytes(scores.tobytes())
    lacking = {key: value for key, value in GEOMETRY.items() if key != "frame_step"}
    (folder / "geometry.json").write_text(json.dumps(lacking))
    with pytest.raises(
        InputError, match=r'lacks frame_step; add a line such as "frame_step": 0\.02, \(seconds'
    ):
        opened(folder)
    (folder / "geometry.json").write_text("[1]")
    with pytest.raises(InputError, match="must be a JSON object, found list"):
        opened(folder)


def test_a_folder_without_any_dump_says_what_is_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"holds no <uri>.npz, nor dumps of another program"):
        opened(geometry(tmp_path))


def scores_of(runtime: str, audio: Path, folder: Path) -> dict[str, np.ndarray]:
    """What the model puts out, and a geometry.json as another program would write it by hand."""
    assert run("record", runtime, audio, "--out", folder / "ours", "--quiet").exit_code == 0
    said = json.loads((folder / "ours" / "geometry.json").read_text())
    keys = ("runtime", "created_by", "stages", "audio", "model_sha256")
    said = {key: value for key, value in said.items() if key not in keys}
    (folder / "theirs").mkdir()
    (folder / "theirs" / "geometry.json").write_text(json.dumps(said | {"num_frames": 401}))
    return {path.stem: np.load(path)["log_probs"] for path in (folder / "ours").glob("*.npz")}


@pytest.fixture(scope="module")
def model(repository) -> str:
    return f"onnx:{repository}/models/demo/onnx/segmentation.onnx?threads=1"


@pytest.fixture(scope="module")
def audio(repository, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    waveform = crop_audio(repository / "data/demo/demo02_overlap.flac", 20, 32)
    soundfile.write(folder / "one.wav", waveform, 16000, subtype="FLOAT")
    return folder


@pytest.mark.parametrize(
    ("change", "exit_code", "words"),
    [
        (lambda a: a, 0, "100 % of frames agree"),
        (lambda a: a[::-1], 0, "the candidate's chunks are in another order: they are reversed"),
        (lambda a: a.transpose(0, 2, 1), 1, 'are as "axes": ["chunk", "class", "frame"]'),
        (
            lambda a: a.astype(">f4"),
            1,
            'are as "byte_order": "big" in geometry.json would say; add that line',
        ),
        (lambda a: a.astype("<f8"), 1, 'are as "dtype": "float64" in geometry.json would say'),
        (lambda a: a[:-1], 1, "is cut off: 5 chunks, but"),
    ],
)
def test_a_dump_against_a_live_model_names_what_was_done_to_it(
    model, audio, tmp_path, change, exit_code, words
):
    scores = scores_of(model, audio, tmp_path)["one"]
    (tmp_path / "theirs" / "one_0.bin").write_bytes(np.ascontiguousarray(change(scores)).tobytes())
    options = ("--no-checks", "--no-consequences", "--quiet")
    result = run("parity", model, f"recorded:{tmp_path / 'theirs'}", audio, *options)
    assert result.exit_code == exit_code, result.stderr
    assert words in result.stdout + result.stderr
    assert "warning" not in result.stderr
    both = run("parity", f"recorded:{tmp_path / 'ours'}", f"recorded:{tmp_path / 'theirs'}", audio, *options)
    assert (both.exit_code, words in both.stdout + both.stderr) == (exit_code, True)


@pytest.mark.parametrize("name", ["arr_0", "scores", "output"])
def test_scores_of_an_npz_may_have_another_name(model, audio, tmp_path, name):
    scores = scores_of(model, audio, tmp_path)["one"]
    np.savez(tmp_path / "theirs" / "one.npz", **{name: np.asfortranarray(scores.astype(">f8"))})
    options = ("--no-checks", "--no-consequences", "--quiet")
    result = run("parity", model, f"recorded:{tmp_path / 'theirs'}", audio, *options)
    assert result.exit_code == 0, result.stderr
    assert "100 % of frames agree" in result.stdout


def test_text_may_have_comments_of_other_languages(tmp_path):
    (tmp_path / "one.txt").write_text("% scores\n// of a port\n1 2 3 # frame 0\n4 5 6 // frame 1\n")
    assert read_array_file(tmp_path / "one.txt")["one"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_type_that_would_fit_is_offered(tmp_path):
    (tmp_path / "one.bin").write_bytes(b"12" * 3)
    with pytest.raises(RecordingError, match='"dtype": "float16"'):
        read_array_file(tmp_path / "one.bin")


def test_frames_are_told_from_chunks_by_how_little_they_change(rng):
    smooth = np.repeat(np.log(rng.dirichlet(np.ones(4), (6, 5))), 4, axis=1).astype(
        "<f4"
    )  # chunk, frame, class
    written = smooth.transpose(2, 1, 0).reshape(6, 20, 4)  # Fortran order, read as C
    assert other_form(written) == '"axes": ["class", "frame", "chunk"]'
    written = smooth.transpose(2, 0, 1).reshape(6, 20, 4)
    assert other_form(written) == '"axes": ["class", "chunk", "frame"]'
