"""Embeddings of recordings and segments against WeSpeaker's own, and the order in which work is done."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hubs import write_speech
from pyannote.core import Annotation, Segment

from workbench.embedding_files import EmbeddingSet, load_embeddings, save_embeddings
from workbench.errors import InputError, RecordingError
from workbench.extraction import (
    ExtractionParams,
    Item,
    cut_blocks,
    extract,
    extract_all,
    extract_arrays,
    load_mean,
    num_chunk_frames,
    segment_items,
    whole_recordings,
)
from workbench.extraction_store import PartialResults
from workbench.fbank import KaldiFbankDims, centre, kaldi_fbank
from workbench.runtimes import load_runtime


class MeanOfFeatures:
    """Embeds features as their mean of the first two bins and their number; notes what runs together."""

    kind, geometry, min_num_samples = "embedding", None, 400
    fbank_dims = KaldiFbankDims()

    def __init__(self):
        self.batches = []
        self.lock = threading.Lock()

    def embed_features(self, fbank):
        with self.lock:
            self.batches.append(fbank.shape[:2])
        lengths = np.full((len(fbank), 1), fbank.shape[1], np.float32)
        return np.concatenate([fbank[..., :2].mean(axis=1), lengths], axis=1)

    def __str__(self):
        return "fake"


def write_noise(path: Path, seconds: float, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * rng.standard_normal(round(16000 * seconds)), 16000)
    return path


@pytest.mark.parametrize("model", ["wespeaker_resnet_tiny", "wespeaker_ecapa_tiny"])
def test_whole_recordings_give_wespeakers_embeddings(golden, tmp_path, model):
    runtime = load_runtime(f"torch:{golden / model}?threads=1")
    with np.load(golden / model / "io.npz") as io:
        clips = [name.removeprefix("wav") for name in io.files if name.startswith("wav")]
        for clip in clips:
            soundfile.write(tmp_path / f"{clip}.wav", io[f"wav{clip}"], 16000)
        items = whole_recordings({clip: tmp_path / f"{clip}.wav" for clip in clips})
        found, failed = extract_all(items, runtime, workers=2)
        assert not failed
        assert list(found.names) == clips
        for clip in clips:
            np.testing.assert_allclose(found[clip], io[f"embedding{clip}"][0], rtol=1e-3, atol=1e-4)


def test_chunks_are_averaged_as_wespeakers_cpp_runtime_does_it(golden):
    runtime = load_runtime(f"torch:{golden / 'wespeaker_resnet_tiny'}?threads=1")
    with np.load(golden / "wespeaker_resnet_tiny" / "io.npz") as io:
        waveforms = [io[f"wav{clip}"].astype(np.float32) / 32768 for clip in range(3)]
    found = extract_arrays(waveforms, runtime, ExtractionParams(chunk_duration=1.0, batch_size=2))
    num_frames = 1 + (16000 - 400) // 160  # samples_per_chunk = 16000
    for waveform, embedding in zip(waveforms, found, strict=True):
        feats = list(kaldi_fbank(waveform))
        chunks = []
        for first in range(0, len(feats), num_frames):  # speaker_engine.cc, step by step
            chunk = feats[first : first + num_frames]
            if len(chunk) < num_frames:
                missing = num_frames - len(chunk)
                if not chunks:
                    chunk = [chunk[i % len(chunk)] for i in range(num_frames)]
                else:
                    chunk = chunk + chunks[0][:missing]
            chunks.append(chunk)
        rows = [runtime.embed_features(np.array(chunk)[None])[0] for chunk in chunks]
        np.testing.assert_allclose(embedding, np.mean(rows, axis=0), rtol=1e-4, atol=1e-5)


def test_features_given_or_made_inside_are_embedded_alike(tiny_hub, rng):
    waveforms = 0.1 * rng.standard_normal((2, 12000)).astype(np.float32)
    for runtime in (
        load_runtime(f"torch:{tiny_hub}", "embedding"),
        load_runtime(f"onnx:{tiny_hub}/onnx/embedding.onnx"),
    ):
        np.testing.assert_allclose(
            runtime.embed_features(kaldi_fbank(waveforms)), runtime.embed(waveforms), rtol=1e-4, atol=1e-5
        )


def test_blocks_repeat_short_recordings_and_complete_long_ones():
    frames = np.arange(10.0)[:, None] * np.ones(2)
    assert cut_blocks(frames, 4)[..., 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert cut_blocks(frames[:3], 8)[..., 0].tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert cut_blocks(frames, 5).shape == (2, 5, 2)
    assert num_chunk_frames(5.0, KaldiFbankDims()) == 498
    with pytest.raises(InputError, match=r"at least 0\.025 s"):
        num_chunk_frames(0.02, KaldiFbankDims())


def test_equal_lengths_share_a_batch_and_order_is_kept(tmp_path):
    seconds = [1.0, 0.5, 1.0, 2.0, 0.5, 1.0, 1.0]
    paths = {f"r{n}": write_noise(tmp_path / f"r{n}.wav", each, n) for n, each in enumerate(seconds)}
    runtime = MeanOfFeatures()
    found, failed = extract_all(whole_recordings(paths), runtime, ExtractionParams(batch_size=3), workers=3)
    assert (failed, list(found.names)) == ([], list(paths))
    assert sorted(runtime.batches) == [(1, 98), (1, 198), (2, 48), (3, 98)]
    for name, path in paths.items():
        fbank = kaldi_fbank(soundfile.read(path, dtype="float32")[0])
        expected = [*fbank[:, :2].mean(axis=0), len(fbank)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_chunks_of_different_recordings_share_a_batch(tmp_path):
    paths = {f"r{n}": write_noise(tmp_path / f"r{n}.wav", 1.5, n) for n in range(4)}
    runtime = MeanOfFeatures()
    extract_all(whole_recordings(paths), runtime, ExtractionParams(chunk_duration=0.5, batch_size=8))
    assert sum(count for count, _ in runtime.batches) == 16
    assert max(count for count, _ in runtime.batches) == 8


def test_one_bad_recording_does_not_stop_the_others(tmp_path):
    good = write_noise(tmp_path / "good.wav", 1.0)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    short = write_noise(tmp_path / "short.wav", 0.01)
    paths = {"bad": tmp_path / "bad.wav", "gone": tmp_path / "gone.wav", "good": good, "short": short}
    found, failed = extract_all(whole_recordings(paths), MeanOfFeatures())
    assert found.names == ("good",)
    assert [name for name, _ in failed] == ["bad", "gone", "short"]
    assert "0.010 s are too short, the model needs 0.025 s" in failed[2][1]


def test_an_input_that_the_model_cannot_take_fails_alone(tmp_path):
    class Picky(MeanOfFeatures):
        def embed_features(self, fbank):
            rows = super().embed_features(fbank)
            if (fbank[:, 0, 0] > fbank[0, 0, 0] + 1e9).any() or len(self.batches) == 1:
                raise RecordingError("out of memory")
            return np.where(fbank[:, :1, 0] < -15, np.nan, rows)

    paths = {f"r{n}": write_noise(tmp_path / f"r{n}.wav", 1.0, n) for n in range(3)}
    soundfile.write(tmp_path / "r1.wav", np.zeros(16000), 16000)
    found, failed = extract_all(whole_recordings(paths), Picky())
    assert found.names == ("r0", "r2")
    assert failed == [("r1", f"{tmp_path}/r1.wav: the model's embedding of 'r1' is not finite")]


def test_segments_are_cut_named_and_ordered(tmp_path):
    path = write_noise(tmp_path / "a.wav", 4.0)
    turns = Annotation(uri="a")
    turns[Segment(2, 3.5), "x"] = "B"
    turns[Segment(0.5, 1.25), "y"] = "A"
    turns[Segment(1, 1.1), "z"] = "A"
    items = segment_items({"a": path}, {"a": turns}, min_duration=0.2)
    assert [item.name for item in items] == ["a-A-0000500-0001250", "a-B-0002000-0003500"]
    found, failed = extract_all(items, MeanOfFeatures())
    assert (failed, found.uris, found.speakers) == ([], ("a", "a"), ("A", "B"))
    np.testing.assert_array_equal(found.segments, [[0.5, 1.25], [2, 3.5]])
    waveform = soundfile.read(path, dtype="float32")[0]
    for item in items:
        fbank = kaldi_fbank(waveform[round(item.start * 16000) : round(item.end * 16000)])
        np.testing.assert_allclose(found[item.name][:2], fbank[:, :2].mean(axis=0), rtol=1e-5)
        alone, _ = extract_all([item], MeanOfFeatures())  # read as a crop
        np.testing.assert_allclose(alone[item.name], found[item.name], rtol=1e-5)


def test_the_mean_is_subtracted_and_must_fit(tmp_path):
    items = whole_recordings({"a": write_noise(tmp_path / "a.wav", 1.0)})
    plain, _ = extract_all(items, MeanOfFeatures())
    np.save(tmp_path / "mean.npy", np.array([1.0, 2.0, 3.0]))
    centred, _ = extract_all(items, MeanOfFeatures(), mean=load_mean(tmp_path / "mean.npy"))
    np.testing.assert_allclose(plain["a"] - centred["a"], [1, 2, 3], rtol=1e-6)
    with pytest.raises(InputError, match="the embeddings' 3 values"):
        extract_all(items, MeanOfFeatures(), mean=np.zeros(2))
    np.save(tmp_path / "matrix.npy", np.zeros((2, 2)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("matrix.npy", "objects.npy", "nowhere.npy"):
        with pytest.raises(InputError, match=name):
            load_mean(tmp_path / name)


def test_a_segmentation_model_is_refused(tiny_hub):
    with pytest.raises(InputError, match="gives no speaker embeddings"):
        next(extract([], load_runtime(f"torch:{tiny_hub}")))


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".npz", ".ark", ".scp", ".txt", ".parquet"])
def test_embeddings_come_back_from_every_kind_of_file(tmp_path, rng, ending):
    found = EmbeddingSet(
        names=("z-1", "ä", "m.wav"),
        embeddings=rng.normal(size=(3, 5)).astype(np.float32),
        uris=("r1", "r1", "r2"),
        segments=np.array([[0.0, 1.5], [1, 2], [2, 3]]),
        speakers=("A", "B", "A"),
    )
    written = save_embeddings(tmp_path / f"e{ending}", found)
    for path in written:
        back = load_embeddings(path)
        assert back.names == found.names
        np.testing.assert_array_equal(back.embeddings, found.embeddings)
    if ending in (".npz", ".parquet"):
        assert (back.uris, back.speakers) == (found.uris, found.speakers)
        np.testing.assert_array_equal(back.segments, found.segments)
    else:
        assert sorted(path.suffix for path in written) == sorted(
            {".scp", ".ark" if ending == ".scp" else ending} | ({".ark"} if ending == ".ark" else set())
        )


def test_other_programs_npz_are_read_and_unusable_files_explained(tmp_path):
    np.savez(tmp_path / "dict.npz", a=np.ones(3), b=np.zeros(3))
    assert load_embeddings(tmp_path / "dict.npz").names == ("a", "b")
    np.savez(tmp_path / "f.npz", uri="r", embeddings=np.ones((2, 3)), segments=np.zeros((2, 2)))
    assert load_embeddings(tmp_path / "f.npz").uris == ("r", "r")
    np.savez(tmp_path / "chunks.npz", embeddings=np.ones((2, 3, 4)))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for name, message in (
        ("chunks.npz", "workbench cluster"),
        ("x.parquet", "cannot be read as Parquet"),
        ("x.csv", "must end in one of"),
    ):
        with pytest.raises(InputError, match=message):
            load_embeddings(tmp_path / name)


# --- going on where an earlier call stopped -------------------------------------------------------


def test_partial_results_are_used_again_only_for_the_same_work(tmp_path):
    path = write_noise(tmp_path / "a.wav", 1.0)
    (tmp_path / "m.onnx").write_bytes(b"1")
    params = {"runtime": f"onnx:{tmp_path}/m.onnx", "chunk_duration": None}
    items = [Item(name="a", path=path), Item(name="b", path=path, start=0.0, end=0.5)]
    with PartialResults(tmp_path / "out.npz", params) as store:
        store.add(items[1], np.ones(3))
    (found,) = PartialResults(tmp_path / "out.npz", params).load(items).items()
    assert found[0] == 1
    np.testing.assert_array_equal(found[1], np.ones(3))
    write_noise(path, 1.2)  # another recording under the same name
    assert PartialResults(tmp_path / "out.npz", params).load(items) == {}
    assert (tmp_path / ".out.npz.parts").is_dir()
    (tmp_path / "m.onnx").write_bytes(b"22")  # another model
    assert PartialResults(tmp_path / "out.npz", params).load(items) == {}
    assert not (tmp_path / ".out.npz.parts").exists()


def test_demo_voices_are_told_apart(tiny_hub, tmp_path):
    runtime = load_runtime(f"onnx:{tiny_hub}/onnx/embedding.onnx")
    speech = write_speech(tmp_path / "speech.wav", 4.0)
    found, failed = extract_all(whole_recordings({"speech": speech}), runtime)
    assert not failed
    fbank = centre(kaldi_fbank(soundfile.read(speech, dtype="float32")[0]))
    assert len(fbank) == 398
    assert found.dimension == runtime.embed(np.zeros((1, 8000), np.float32)).shape[1]
