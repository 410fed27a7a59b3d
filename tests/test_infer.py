"""Segmentation alone: linking, stitching, RTTM, and that it runs where little is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import soundfile

from workbench.errors import InputError, RecordingError
from workbench.export import export_onnx
from workbench.infer import InferParams, decide_chunks, find_turns, run_inference, whole_bytes
from workbench.linking import active_runs, best_permutation, link_chunks, stitch
from workbench.rttm import read_rttm
from workbench.runtimes import load_runtime
from workbench.types import Geometry

GEOMETRY = Geometry(
    sample_rate=100,
    chunk_duration=4.0,
    chunk_step=0.4,
    frame_start=0.0,
    frame_duration=0.1,
    frame_step=0.1,
    powerset=((), (0,), (1,), (2,)),
)


class Oracle:
    """Knows the truth about a recording whose samples count up, and shuffles the speakers of every chunk."""

    min_num_samples = 10
    attention_heads = 0

    def __init__(self, truth: np.ndarray, rng: np.random.Generator):
        self.truth, self.rng = truth, rng

    def decide(self, waveforms: np.ndarray) -> np.ndarray:
        decided = np.zeros((len(waveforms), waveforms.shape[1] // 10, self.truth.shape[1]), dtype=np.float32)
        for chunk, waveform in zip(decided, waveforms, strict=True):
            first = round(float(waveform[0])) // 10
            known = self.truth[first : first + len(chunk)]
            chunk[: len(known)] = known[:, self.rng.permutation(known.shape[1])]
        return decided


def write_wav(path, waveform, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, subtype="PCM_16")
    return path


@pytest.fixture
def recordings(tmp_path, rng):
    """Two recordings, one of them shorter than a chunk."""
    folder = tmp_path / "audio"
    write_wav(folder / "long.wav", 0.1 * rng.standard_normal(5 * 16000 + 77))
    write_wav(folder / "sub" / "short.wav", 0.1 * rng.standard_normal(8000))
    return folder


@pytest.fixture(scope="module")
def onnx_file(tiny_hub):
    return tiny_hub / "onnx" / "segmentation.onnx"


# --- linking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_speakers", [1, 2, 4, 5])
def test_the_best_permutation_is_found(rng, num_speakers):
    coactivity = rng.integers(0, 50, (num_speakers, num_speakers))
    best = max(
        sum(coactivity[i, p[i]] for i in range(num_speakers)) for p in permutations(range(num_speakers))
    )
    found = best_permutation(coactivity)
    assert coactivity[np.arange(num_speakers), found].sum() == best


def test_without_common_activity_everybody_keeps_their_place():
    assert best_permutation(np.zeros((4, 4))).tolist() == [0, 1, 2, 3]


def test_many_speakers_are_paired_greedily(rng):
    order = rng.permutation(8)
    assert best_permutation(10 * np.eye(8)[order].T).tolist() == np.argsort(order)[np.arange(8)].tolist()


def test_shuffled_chunks_are_put_back_together(rng):
    truth = (rng.random((40, 3)) > 0.5).astype(np.float32).repeat(5, axis=0)
    chunks = np.stack([truth[start : start + 40] for start in range(0, 161, 20)])
    shuffled = np.stack([chunk[:, rng.permutation(3)] for chunk in chunks])
    tracks = stitch(link_chunks(shuffled, 20), 20, 200)
    assert sorted(map(tuple, tracks.T)) == sorted(map(tuple, truth.T))


def test_every_frame_is_decided_by_the_chunk_in_whose_middle_it_lies():
    linked = np.repeat(np.arange(3.0), 8).reshape(3, 8, 1)  # chunk c says c everywhere
    assert stitch(linked, 4, 16)[:, 0].tolist() == [0] * 6 + [1] * 4 + [2] * 6


def test_runs():
    assert active_runs(np.array([])).tolist() == []
    assert active_runs(np.array([1, 1, 0, 0, 1])).tolist() == [[0, 2], [4, 5]]


# --- one waveform -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [55, 400, 401, 1999, 2000])
def test_turns_follow_the_truth_through_shuffled_chunks(rng, num_samples):
    truth = np.zeros((200, 3), dtype=np.float32)
    truth[0:120, 0] = truth[40:200, 1] = 1
    oracle = Oracle(truth, rng)
    activity = decide_chunks(np.arange(num_samples, dtype=np.float32), oracle, GEOMETRY, InferParams())
    num_frames = -(-num_samples // 10)
    assert len(activity) == num_frames
    assert sorted(map(tuple, activity.T)) == sorted(map(tuple, truth[:num_frames].T))


def test_short_turns_are_dropped_and_no_turn_outlasts_the_recording(rng):
    truth = np.zeros((40, 2), dtype=np.float32)
    truth[0:2, 0] = truth[10:39, 0] = 1
    oracle = Oracle(truth, rng)
    turns = find_turns(np.arange(385.0), oracle, GEOMETRY, InferParams(whole=True, min_duration=0.3))
    assert [(start, round(end, 6)) for start, end, _ in turns] == [(1.0, 3.8)]
    turns = find_turns(np.arange(380.0), oracle, GEOMETRY, InferParams())
    assert [(start, round(end, 6)) for start, end, _ in turns] == [(0.0, 0.2), (1.0, 3.8)]


def test_one_pass_needs_enough_samples(rng):
    with pytest.raises(RecordingError, match="has 9 samples, the model needs 10; run it without --whole"):
        find_turns(np.zeros(9), Oracle(np.zeros((1, 3)), rng), GEOMETRY, InferParams(whole=True))


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
def test_powerset_and_multilabel_graphs_give_the_same_turns(tiny_hub, onnx_file, recordings, tmp_path, whole):
    multilabel = tmp_path / "multilabel.onnx"
    export_onnx(f"torch:{tiny_hub}", multilabel, output="multilabel")
    for name, file in (("soft", onnx_file), ("hard", multilabel)):
        run_inference([recordings], file, tmp_path / name, params=InferParams(whole=whole))
    for uri in ("long", "short"):
        assert (tmp_path / "soft" / f"{uri}.rttm").read_text() == (
            tmp_path / "hard" / f"{uri}.rttm"
        ).read_text()


def test_turns_match_the_model_on_a_single_chunk(onnx_file, tmp_path, rng):
    waveform = (0.1 * rng.standard_normal(2 * 16000)).astype(np.float32)
    write_wav(tmp_path / "one.wav", waveform)
    run_inference([tmp_path / "one.wav"], onnx_file, tmp_path / "out", params=InferParams(whole=True))
    runtime = load_runtime(f"onnx:{onnx_file}")
    decided = runtime.decide(soundfile.read(tmp_path / "one.wav", dtype="float32")[0][None])[0]
    expected = sum(len(active_runs(column)) for column in decided[:100].T)
    annotations = read_rttm(tmp_path / "out" / "one.rttm")
    assert sum(len(list(a.itertracks())) for a in annotations.values()) == expected > 0


def test_bad_recordings_are_listed_and_the_others_done(onnx_file, recordings, tmp_path):
    (recordings / "text.wav").write_text("not audio")
    soundfile.write(recordings / "empty.wav", np.zeros(0), 16000)
    seen = []
    out = tmp_path / "out"
    summary = run_inference(
        [recordings], onnx_file, out, on_recording=lambda uri, error: seen.append((uri, bool(error)))
    )
    assert sorted(seen) == [("empty", True), ("long", False), ("short", False), ("text", True)]
    assert sorted(path.name for path in out.iterdir()) == ["long.rttm", "short.rttm", "summary.json"]
    content = json.loads((out / "summary.json").read_text())
    assert {entry["uri"] for entry in content["failed"]} == {"empty", "text"}
    row = content["recordings"]["long"]
    assert row["duration"] == pytest.approx(5 + 77 / 16000)
    assert row["rtf"] == pytest.approx(row["seconds"] / row["duration"])
    turns = [line.split() for line in (out / "long.rttm").read_text().splitlines()]
    assert (row["segments"], row["active_speakers"]) == (len(turns), len({turn[7] for turn in turns}))
    assert summary.to_json() == content


def test_recordings_are_named_and_limited_as_asked(onnx_file, recordings, tmp_path):
    out = tmp_path / "out"
    summary = run_inference([recordings], onnx_file, out, session_id="relative", max_files=5)
    assert [recording.uri for recording in summary.recordings] == ["long", "sub__short"]
    summary = run_inference([recordings], onnx_file, out, max_files=1)
    assert len(summary.recordings) == 1


def test_a_frame_step_that_disagrees_is_used_with_a_warning(onnx_file, recordings, tmp_path):
    with pytest.warns(UserWarning, match="frame_step 0.04 s is used, although"):
        run_inference(
            [recordings / "long.wav"], onnx_file, tmp_path, params=InferParams(frame_step=0.04, whole=True)
        )


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"frame_step": 0.0}, "frame_step must be a number of seconds above 0"),
        ({"min_duration": -1.0}, "min_duration must be a number of seconds from 0 on"),
        ({"chunk_step": 1.0}, "chunk_step must lie between 0 and 1"),
    ],
)
def test_parameters_are_checked(params, problem):
    with pytest.raises(InputError, match=problem):
        InferParams(**params)


def test_an_embedding_model_cannot_infer(tiny_hub, recordings, tmp_path):
    with pytest.raises(InputError, match="infer needs a segmentation model"):
        run_inference([recordings], tiny_hub / "onnx" / "embedding.onnx", tmp_path / "out")


BLOCKED = """
import sys

class Blocker:
    names = {"torch", "scipy", "pandas", "pyannote", "sklearn", "onnx", "soxr", "plotly", "yaml", "tqdm"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Blocker())
from workbench.infer import run_inference
summary = run_inference([sys.argv[1]], sys.argv[2], sys.argv[3])
assert len(summary.recordings) == 2 and not summary.failed, summary.failed
"""


def test_it_runs_with_onnxruntime_numpy_and_soundfile_alone(onnx_file, recordings, tmp_path):
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", BLOCKED, recordings, onnx_file, out], check=True)
    assert (out / "long.rttm").is_file()


def test_real_recordings_are_done_in_both_ways(golden, shared_data, tmp_path):
    file = tmp_path / "tiny.onnx"
    export_onnx(f"torch:{golden / 'fbank_conformer_tiny'}", file, output="multilabel")
    recording = shared_data / "ami" / "trn00.flac"
    for whole in (False, True):
        summary = run_inference([recording], file, tmp_path / str(whole), params=InferParams(whole=whole))
        assert summary.recordings[0].num_segments > 0
        (annotation,) = read_rttm(tmp_path / str(whole) / "trn00.rttm").values()
        assert annotation.get_timeline().extent().end <= summary.recordings[0].duration + 1e-3


def test_one_pass_that_memory_cannot_hold_is_refused_with_the_way_out(rng, monkeypatch):
    monkeypatch.setattr("workbench.infer.available_bytes", lambda: 10**9)
    oracle = Oracle(np.zeros((100, 3)), rng)
    oracle.attention_heads = 4
    # 10,000 frames: four squares of 10^8 float32 scores, three and a half of each at once
    assert whole_bytes(10_000, 4) == 5.6e9
    with pytest.raises(RecordingError, match="17 minutes.* about 6 GB.*without --whole"):
        find_turns(np.zeros(100_000), oracle, GEOMETRY, InferParams(whole=True))
    find_turns(np.arange(1000.0), oracle, GEOMETRY, InferParams(whole=True))


def test_a_model_that_runs_out_of_memory_in_one_pass_says_so(rng):
    class Full(Oracle):
        def decide(self, waveforms):
            raise MemoryError

    with pytest.raises(RecordingError, match="out of memory.*without --whole"):
        find_turns(np.zeros(1000), Full(np.zeros((1, 3)), rng), GEOMETRY, InferParams(whole=True))


def test_an_exported_file_knows_the_heads_of_its_attention(tiny_hub, tmp_path):
    export_onnx(f"torch:{tiny_hub}", tmp_path / "m.onnx")
    runtime = load_runtime(f"onnx:{tmp_path / 'm.onnx'}")
    source = load_runtime(f"torch:{tiny_hub}")
    assert runtime.attention_heads == source.network.dims.num_head > 0
