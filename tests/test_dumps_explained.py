"""Dumps of scores alone: what another program did to input, model or output is found out and named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from parity_fakes import Network, speech

import workbench
from workbench.agreement import ParityParams, ParityResult
from workbench.segmentation import Chunking, cut_chunks

QUICK = ParityParams(checks=False, consequences=False)
SPEECH = speech(seed=3)
GEOMETRY = Network().geometry
CHUNKING = Chunking(num_samples=len(SPEECH), seg_duration=2.0, segmentation_step=0.2)
NUM_CHUNKS = CHUNKING.num_chunks


def scores(waveform: np.ndarray = SPEECH, starts: np.ndarray | None = None) -> np.ndarray:
    chunks = cut_chunks(waveform, CHUNKING.starts if starts is None else starts, CHUNKING.window_samples)
    return Network().segment(chunks)


GOOD = scores()


def against(folder: Path, log_probs: np.ndarray, source: object = SPEECH, **more: np.ndarray) -> ParityResult:
    """Parity of the model that runs with a dump."""
    np.savez(folder / "one.npz", log_probs=log_probs, **more)
    (folder / "geometry.json").write_text(json.dumps(asdict(GEOMETRY)))
    return workbench.parity(Network(), f"recorded:{folder}", {"one": source}, params=QUICK)


def faults(result: ParityResult) -> dict[str, str]:
    return {f.kind: f.words for f in result.all_findings if f.severity == "fault"}


def resampled(waveform: np.ndarray) -> np.ndarray:
    import soxr

    heard = soxr.resample(waveform, 44100, 48000, quality="HQ").astype(np.float32)
    return np.pad(heard, (0, max(0, len(waveform) - len(heard))))


@pytest.mark.parametrize(
    ("heard", "kind", "words"),
    [
        (
            lambda w: np.concatenate([np.zeros(100, np.float32), w[:-100]]),
            "sample_shift",
            "late by 100 (6.25 ms)",
        ),
        (lambda w: np.concatenate([w[37:], w[:37]]), "sample_shift", "early by 37 (2.31 ms)"),
        (lambda w: np.concatenate([w[:1], w[1:] - 0.97 * w[:-1]]), "front_end", "with pre-emphasis (0.97)"),
        (lambda w: np.rint(w * 128) / 128, "precision", "rounded to 8 bits"),
        (lambda w: w / np.abs(w).max(), "level", "scaled to a peak of 1"),
        (resampled, "sample_rate", "audio at 48000 Hz that was taken for 44100 Hz"),
    ],
)
def test_what_another_program_heard_is_found_by_letting_the_model_hear_it(tmp_path, heard, kind, words):
    found = faults(against(tmp_path, scores(heard(SPEECH).astype(np.float32))))
    assert list(found) == [kind]
    assert words in found[kind]
    assert "the candidate" in found[kind]


def test_chunks_a_little_too_close_are_told_from_state(tmp_path):
    step = int(CHUNKING.starts[1]) - 160
    found = faults(against(tmp_path, scores(starts=step * np.arange(NUM_CHUNKS))))
    assert list(found) == ["chunk_step"]
    assert "start 390 ms apart (6240 samples) instead of 400 ms (6400)" in found["chunk_step"]


def test_chunks_that_are_normalised_one_by_one_are_told_from_a_recording_that_is(tmp_path):
    chunks = cut_chunks(SPEECH, CHUNKING.starts, CHUNKING.window_samples)
    chunks = (chunks - chunks.mean(axis=1, keepdims=True)) / chunks.std(axis=1, keepdims=True)
    found = faults(against(tmp_path, Network().segment(chunks)))
    assert found == {
        "normalisation": "the candidate normalises every chunk to mean 0 and deviation 1 before the model"
    }


@pytest.mark.parametrize("mean", [False, True])
def test_another_channel_of_the_file_is_named(tmp_path, mean):
    second = speech(seed=4)
    soundfile.write(tmp_path / "one.wav", np.stack([SPEECH, second], axis=1), 16000, subtype="FLOAT")
    heard = (SPEECH + second) / 2 if mean else second
    (tmp_path / "dump").mkdir()
    found = faults(against(tmp_path / "dump", scores(heard), tmp_path / "one.wav"))
    assert f"heard {'the mean of all channels' if mean else 'channel 2'} of" in found["channel"]
    with_samples = against(tmp_path / "dump", scores(heard), tmp_path / "one.wav", samples=heard)
    assert list(faults(with_samples)) == ["channel"]


def test_samples_that_were_noted_tell_a_shift_of_part_of_a_frame(tmp_path):
    late = np.concatenate([np.zeros(100, np.float32), SPEECH[:-100]])
    found = faults(against(tmp_path, scores(late), samples=late))
    assert found == {"samples": "the candidate's samples are late by 100 samples (6.25 ms)"}


def smoothed(log_probs: np.ndarray) -> np.ndarray:
    p = np.exp(log_probs)
    p[:, 1:-1] = (p[:, :-2] + p[:, 1:-1] + p[:, 2:]) / 3
    return np.log(p)


def cooled(log_probs: np.ndarray) -> np.ndarray:
    return 2 * log_probs - np.log(np.exp(2 * log_probs).sum(axis=-1, keepdims=True))


def leaking(log_probs: np.ndarray) -> np.ndarray:
    found = log_probs.copy()
    for chunk in range(1, len(found)):
        mixed = 0.85 * np.exp(log_probs[chunk]) + 0.15 * np.exp(found[chunk - 1, -1])
        found[chunk] = np.log(mixed)
    return found


def stuck(log_probs: np.ndarray) -> np.ndarray:
    found = log_probs.copy()
    found[[5, 9]] = found[[4, 8]]
    return found


def ending(log_probs: np.ndarray) -> np.ndarray:
    found = log_probs.copy()
    found[:, -4:] = found[:, -5:-4]
    return found


def unfinished(log_probs: np.ndarray) -> np.ndarray:
    found = log_probs.copy()
    found[-7:] = 0
    return found


def jumping(log_probs: np.ndarray) -> np.ndarray:
    found = log_probs.copy()
    found[:, 40:-2] = found[:, 42:]
    return found


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (unfinished, "constant_chunks", f"zeros for every frame in 7 of {NUM_CHUNKS} chunks"),
        (jumping, "frame_jump", "from frame 40 of a chunk on the candidate is early by 2 frames"),
        (lambda y: np.log(np.exp(y) + 1e-3), "values", "adds 0.001 to every probability"),
        (lambda y: -y, "values", "with the sign turned (negative log-likelihoods)"),
        (lambda y: y[:, ::-1], "time_reversed", "frames run backwards"),
        (lambda y: np.maximum(y, np.log(1e-2)), "values", "cut off at -4.605 (0.01)"),
        (cooled, "temperature", "are 2 times the baseline's"),
        (smoothed, "smoothed", "smoothed over 3 frames"),
        (lambda y: np.rint(y * 10) / 10, "quantised_output", "levels 0.1 apart"),
        (lambda y: y / np.float32(np.log(10)), "values", "logarithms to the base of 10"),
        (lambda y: np.eye(7)[y.argmax(axis=-1)], "values", "hard decisions (0 and 1)"),
        (leaking, "state_leak", "carries state from one chunk to the next"),
        (stuck, "repeated_chunk", "repeats the chunk before in chunk 5, 9"),
        (ending, "chunk_edge", "only the last 4 frames of a chunk differ"),
        (lambda y: np.concatenate([y[:-1], y[:1]]), "last_chunk", "only the last chunk differs"),
    ],
)
def test_what_was_done_to_the_scores_is_named(tmp_path, change, kind, words):
    found = faults(against(tmp_path, change(GOOD).astype(np.float32)))
    assert kind in found
    assert words in found[kind]
    assert "weights" not in found


def test_logarithms_to_another_base_are_put_right(tmp_path):
    align = ParityParams(checks=False, consequences=False, align=True)
    against(tmp_path, GOOD / np.float32(np.log(10)))
    result = workbench.parity(Network(), f"recorded:{tmp_path}", {"one": SPEECH}, params=align)
    assert result.statistics.max_abs < 1e-5


def test_chunks_numbered_otherwise_are_said_beside_the_shift(tmp_path):
    found = faults(against(tmp_path, np.concatenate([GOOD[:1], GOOD[:-1]])))
    assert "as long as one step between chunks" in found["frame_shift"]


@pytest.mark.parametrize(
    ("surplus", "words"),
    [
        (np.zeros((3, *GOOD.shape[1:])), "3 chunks too many with zeros"),
        (np.repeat(GOOD[-1:], 3, axis=0), "with copies of the last chunk"),
        (GOOD[:3], "with copies of the first chunks"),
        (Network().segment(np.zeros((1, CHUNKING.window_samples))), "what the model answers to zeros"),
    ],
)
def test_a_batch_that_was_filled_up_is_cut(tmp_path, surplus, words):
    result = against(tmp_path, np.concatenate([GOOD, surplus]).astype(np.float32), hidden=np.zeros((5, 2)))
    assert result.num_flips == 0
    assert not faults(result)
    (note,) = [f for f in result.all_findings if f.kind == "padded_batch"]
    assert words in note.words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (
            Chunking(num_samples=3 * len(SPEECH), seg_duration=2.0, segmentation_step=0.2).num_chunks,
            "48000 Hz",
        ),
        (
            Chunking(num_samples=len(SPEECH), seg_duration=2.0, segmentation_step=0.5).num_chunks,
            "step of 1 s",
        ),
    ],
)
def test_a_wrong_number_of_chunks_says_what_would_make_it(tmp_path, count, words):
    rng = np.random.default_rng(0)
    other = np.log(rng.dirichlet(np.ones(7), (count, GOOD.shape[1]))).astype(np.float32)
    ((_, problem),) = against(tmp_path, other).failed
    assert words in problem


def test_decisions_in_place_of_scores_are_recognised(tmp_path):
    decided = (np.random.default_rng(0).random((NUM_CHUNKS, 100, 3)) < 0.5).astype(np.float32)
    ((_, problem),) = against(tmp_path, decided).failed
    assert "3 columns from 0 to 1 are local speakers" in problem


@pytest.mark.parametrize("change", [unfinished, lambda y: -y])
def test_frames_that_were_never_written_say_nothing_of_the_others(tmp_path, change):
    found = faults(against(tmp_path, change(GOOD).astype(np.float32)))
    assert not {"repeated_chunk", "class_order", "frame_shift"} & set(found)
    assert "log-softmax" not in found.get("values", "")


def test_dumps_of_scores_alone_accuse_no_stage(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("a", 0.0), ("b", 0.5)):
        (tmp_path / name).mkdir()
        noisy = GOOD + rng.normal(0, 1, GOOD.shape) * size
        noisy -= np.log(np.exp(noisy).sum(axis=-1, keepdims=True))
        against(tmp_path / name, noisy.astype(np.float32))
    sides = [f"recorded:{tmp_path / name}" for name in "ab"]
    found = faults(workbench.parity(*sides, {"one": SPEECH}, params=QUICK))
    assert list(found) == ["weights"]
    assert found["weights"].startswith("only the outputs are known on both sides")


def test_a_batch_that_comes_twice_is_told_from_another_order(tmp_path):
    stale = GOOD.copy()
    stale[8:12] = stale[4:8]
    found = faults(against(tmp_path, stale))
    assert "(at least 4 of 26, from chunk 8 to 11; chunk 8 is 4, 11 is 7): a buffer" in found["chunk_order"]
    assert "another order" in faults(against(tmp_path, GOOD[::-1]))["chunk_order"]


def test_recordings_under_each_others_names_are_named(tmp_path):
    (tmp_path / "geometry.json").write_text(json.dumps(asdict(GEOMETRY)))
    recordings = {name: speech(seed=seed) for seed, name in enumerate(("one", "two", "three"))}
    held = {"one": "two", "two": "one", "three": "three"}
    for name, other in held.items():
        np.savez(tmp_path / f"{name}.npz", log_probs=scores(recordings[other]))
    result = workbench.parity(Network(), f"recorded:{tmp_path}", recordings, params=QUICK)
    for name, other in (("one", "two"), ("two", "one")):
        (finding,) = [f for f in result.recordings[name].findings if f.severity == "fault"]
        assert finding.words.startswith(f"the candidate's {name!r} is what the baseline has of {other!r}")
    assert not result.recordings["three"].findings
    assert set(faults(result)) == {"mixed_recordings"}


def test_two_dumps_are_judged_by_their_patterns_alone(tmp_path):
    for name, change in (("a", lambda y: y), ("b", leaking)):
        (tmp_path / name).mkdir()
        against(tmp_path / name, change(GOOD).astype(np.float32))
    sides = [f"recorded:{tmp_path / name}" for name in "ab"]
    result = workbench.parity(*sides, {"one": SPEECH}, params=QUICK)
    assert list(faults(result)) == ["state_leak"]


def test_models_hear_something_else_on_a_few_recordings_alone(tmp_path):
    late = scores(np.concatenate([np.zeros(100, np.float32), SPEECH[:-100]]))
    names = [f"r{number}" for number in range(5)]
    for name in names:
        np.savez(tmp_path / f"{name}.npz", log_probs=late)
    (tmp_path / "geometry.json").write_text(json.dumps(asdict(GEOMETRY)))
    result = workbench.parity(Network(), f"recorded:{tmp_path}", dict.fromkeys(names, SPEECH), params=QUICK)
    shifted = [
        name for name in names if any(f.kind == "sample_shift" for f in result.recordings[name].findings)
    ]
    assert shifted == names[:3]
