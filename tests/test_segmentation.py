from __future__ import annotations

import numpy as np
import pytest
from fakes import POWERSET, FakeSegmentation

from workbench.errors import InputError, RecordingError
from workbench.segmentation import Chunking, cut_chunks, decode, run_segmentation, segment_recording


def chunking(num_samples: int, seg_duration: float = 16.0, segmentation_step: float = 0.1) -> Chunking:
    return Chunking(num_samples=num_samples, seg_duration=seg_duration, segmentation_step=segmentation_step)


def test_a_minute_gives_the_chunks_of_the_reference():
    """The worked example of pipeline.md: 60 s, 16 s chunks, 1.6 s step."""
    minute = chunking(60 * 16000)
    assert (minute.num_full, minute.num_chunks) == (28, 29)
    assert minute.starts[-1] == minute.labelled_starts[-1] == 44.8 * 16000
    assert (minute.axis.start, minute.axis.duration, minute.axis.step) == (0.0, 16.0, 1.6)


@pytest.mark.parametrize(
    ("num_samples", "num_full", "num_chunks"),
    [
        (1, 0, 1),  # anything shorter than a chunk is padded
        (255999, 0, 1),
        (256000, 1, 1),  # exactly one chunk
        (256001, 1, 2),  # one sample too many
        (256000 + 25600, 2, 2),  # exactly one step more
        (256000 + 25599, 1, 2),
    ],
)
def test_a_padded_chunk_is_added_only_where_samples_are_left(num_samples, num_full, num_chunks):
    chunks = chunking(num_samples)
    assert (chunks.num_full, chunks.num_chunks) == (num_full, num_chunks)


def test_a_step_of_half_samples_rounds_for_segmentation_and_floors_for_embeddings():
    """0.33 * 1.01 s is 5332.8 samples: the segmentation step rounds up, labels round down."""
    chunks = chunking(60 * 16000, seg_duration=1.01, segmentation_step=0.33)
    assert chunks.window_samples == 16160
    assert chunks.step_samples == 5333
    assert chunks.starts[:4].tolist() == [0, 5333, 10666, 15999]
    assert chunks.labelled_starts[:4].tolist() == [0, 5332, 10665, 15998]


def test_chunk_length_is_floored():
    assert chunking(16000, seg_duration=0.99999).window_samples == 15999


@pytest.mark.parametrize("step", [0.0, -0.1, 1.5, float("nan")])
def test_impossible_steps_are_refused(step):
    with pytest.raises(InputError, match="segmentation_step"):
        chunking(16000, segmentation_step=step)


@pytest.mark.parametrize("duration", [0.0, -1.0, 1e-6, float("inf"), float("nan")])
def test_impossible_chunk_lengths_are_refused(duration):
    with pytest.raises(InputError, match="seg_duration"):
        chunking(16000, seg_duration=duration)


def test_a_recording_without_samples_fails_alone():
    with pytest.raises(RecordingError, match="no samples"):
        chunking(0)


def test_chunks_are_padded_with_zeros_at_the_end():
    chunks = cut_chunks(np.arange(1, 8, dtype=np.float64), np.array([0, 4, 7]), 4)
    assert chunks.dtype == np.float32
    assert chunks.tolist() == [[1, 2, 3, 4], [5, 6, 7, 0], [0, 0, 0, 0]]


def test_full_chunks_run_in_batches_and_the_padded_one_alone(rng):
    runtime = FakeSegmentation()
    chunks = chunking(16000 * 10 + 1, seg_duration=2.0, segmentation_step=0.25)
    waveform = rng.uniform(-1, 1, chunks.num_samples).astype(np.float32)
    outputs = list(run_segmentation(waveform, runtime, chunks, batch_size=7))
    assert chunks.num_full == 17
    assert [len(batch) for batch in runtime.seen] == [7, 7, 3, 1]
    assert sum(len(output) for output in outputs) == chunks.num_chunks
    seen = np.concatenate(runtime.seen)
    np.testing.assert_array_equal(seen[5], waveform[5 * 8000 : 5 * 8000 + 32000])
    np.testing.assert_array_equal(seen[-1, :24001], waveform[17 * 8000 :])
    assert not seen[-1, 24001:].any()


def test_decoding_takes_the_best_class_and_smooths_over_eleven_frames():
    log_probs = np.full((1, 40, len(POWERSET)), -9.0)
    log_probs[0, :, 0] = 0.0
    log_probs[0, 10:16, 1] = 1.0  # six frames of speaker 0 outlast the median of eleven
    log_probs[0, 25:30, 2] = 1.0  # five frames of speaker 1 do not
    geometry = FakeSegmentation().geometry
    raw = decode(log_probs, geometry, apply_median_filtering=False)
    smooth = decode(log_probs, geometry)
    assert raw.dtype == smooth.dtype == np.float32
    assert raw.sum(axis=(0, 1)).tolist() == [6, 5, 0]
    assert smooth.sum(axis=(0, 1)).tolist() == [6, 0, 0]


def test_a_model_with_another_number_of_classes_is_refused():
    with pytest.raises(InputError, match=r"shape \(1, 5, 4\), but its powerset has 7 classes"):
        decode(np.zeros((1, 5, 4)), FakeSegmentation().geometry)


def test_scores_that_are_not_finite_fail_the_recording():
    with pytest.raises(RecordingError, match="not finite"):
        decode(np.full((1, 5, len(POWERSET)), np.nan), FakeSegmentation().geometry)


def test_progress_counts_chunks(rng):
    chunks = chunking(16000 * 5, seg_duration=2.0, segmentation_step=0.25)
    calls: list[tuple[int, int]] = []
    segmentations = segment_recording(
        rng.uniform(-1, 1, chunks.num_samples),
        FakeSegmentation(),
        chunks,
        batch_size=3,
        on_batch=lambda done, total: calls.append((done, total)),
    )
    assert segmentations.shape == (7, 100, 3)
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_chunks_of_hours_are_refused():
    with pytest.raises(InputError, match="at most 3600 s"):
        Chunking(num_samples=16000, seg_duration=1e9)


@pytest.mark.parametrize(
    "failure", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_names_the_options_that_help(failure):
    class Full(FakeSegmentation):
        def segment(self, waveforms):
            raise failure

    chunking = Chunking(num_samples=32000, seg_duration=1.0)
    with pytest.raises(InputError, match="--batch-size or --seg-duration"):
        segment_recording(np.zeros(32000, np.float32), Full(), chunking)


def test_a_model_that_loses_chunks_is_refused(rng):
    class Lossy(FakeSegmentation):
        def segment(self, waveforms):
            return super().segment(waveforms)[:1]

    chunking = Chunking(num_samples=32000, seg_duration=1.0)
    with pytest.raises(InputError, match="chunks"):
        segment_recording(np.zeros(32000, np.float32), Lossy(), chunking)
