from __future__ import annotations

import numpy as np
import pytest

from workbench.aggregation import FrameGrid, aggregate, round_count, speaker_count
from workbench.binarization import binarize, hysteresis
from workbench.reconstruction import (
    RECONSTRUCTION_PRESETS,
    cluster_activations,
    discrete_diarization,
    reconstruct,
    select_speakers,
)
from workbench.types import INACTIVE, Features, SlidingWindow

WAVLM = SlidingWindow(0.0, 0.025, 0.02)


def features_of(segmentations, duration=1.0, step=0.5, frames=WAVLM):
    segmentations = np.asarray(segmentations, dtype=np.float32)
    num_chunks, _, num_speakers = segmentations.shape
    return Features(
        uri="meeting",
        segmentations=segmentations,
        embeddings=np.zeros((num_chunks, num_speakers, 1), dtype=np.float32),
        chunks=SlidingWindow(0.0, duration, step),
        frames=frames,
    )


def segments_of(annotation):
    return [
        (segment.start, segment.end, label) for segment, _, label in annotation.itertracks(yield_label=True)
    ]


def test_frames_lie_where_diarizen_puts_them():
    """16 s chunks of WavLM have 799 frames but span 800 steps."""
    frames = [FrameGrid(SlidingWindow(0.0, 16.0, 1.6), WAVLM, chunks, 799).num_frames for chunks in (1, 29)]
    assert frames == [801, 3041]
    grid = FrameGrid(SlidingWindow(0.0, 16.0, 1.6), WAVLM, 4, 799)
    assert grid.starts.tolist() == [0, 80, 160, 240]


def test_frames_lie_where_pyannote_3_1_puts_them():
    """One frame lasts chunk duration / number of frames, without compensation of half a frame."""
    chunks = SlidingWindow(0.0, 10.0, 1.0)
    grid = FrameGrid(chunks, WAVLM, 3, 589, "chunk")
    width = 10.0 / 589
    assert grid.frames == SlidingWindow(0.0, width, width)
    assert grid.starts.tolist() == [round(chunk * 1.0 / width - 0.5) for chunk in range(3)]
    assert grid.num_frames == round(12.0 / width - 0.5) + 1
    with pytest.raises(ValueError, match="frame_axis"):
        FrameGrid(chunks, WAVLM, 3, 589, "other")


def test_a_part_of_the_chunks_above_the_onset_counts_one_speaker_more():
    """Whatever the onset, what all chunks hear counts; odd and even numbers are treated alike."""
    heard = np.arange(31)  # of ten chunks that hear one, two or three speakers
    average = (heard / np.float32(10)).astype(np.float32)
    for tenths in (1, 3, 4, 6, 7, 9, 10):
        expected = heard // 10 + (heard % 10 > tenths)
        np.testing.assert_array_equal(round_count(average, tenths / 10), expected)
    np.testing.assert_array_equal(round_count(average), np.round(heard / 10))


def test_averages_count_only_the_chunks_that_see_a_frame():
    scores = np.array([[[1.0]] * 50, [[0.0]] * 50])
    scores[1, :5] = np.nan
    average, frames = aggregate(scores, SlidingWindow(0.0, 1.0, 0.5), WAVLM)
    assert frames == WAVLM
    assert average.dtype == np.float32
    expected = np.concatenate([np.ones(30), np.full(20, 0.5), np.zeros(25), [np.nan]])
    np.testing.assert_array_equal(average[:, 0], expected)
    total, _ = aggregate(scores, SlidingWindow(0.0, 1.0, 0.5), WAVLM, skip_average=True, missing=0.0)
    np.testing.assert_array_equal(total[:, 0], np.r_[np.ones(50), np.zeros(26)])


def test_warm_up_counts_only_where_nothing_else_does():
    scores = np.array([[[1.0]] * 50, [[0.0]] * 50])
    average, _ = aggregate(scores, SlidingWindow(0.0, 1.0, 0.5), WAVLM, warm_up=(0.0, 0.5))
    np.testing.assert_allclose(average[:25, 0], 1.0)
    np.testing.assert_allclose(average[25:75, 0], 0.0, atol=1e-6)


def test_half_a_speaker_rounds_to_even():
    """0.5 speakers on average count as none, 1.5 as two."""
    features = features_of([[[1, 0, 0]] * 50, [[0, 0, 0]] * 50, [[1, 1, 1]] * 50])
    count = speaker_count(features)
    assert count.dtype == np.uint8
    assert count.tolist() == [1] * 25 + [0] * 25 + [2] * 25 + [3] * 25 + [0]


def test_local_speakers_of_one_cluster_count_once():
    features = features_of([[[1, 1, 0]] * 50])
    activations = cluster_activations(features, np.array([[2, 2, 0]]))
    assert activations.shape == (51, 3)
    assert activations[:50].tolist() == [[0.0, 0.0, 1.0]] * 50
    assert features.segmentations.sum() == 100  # the input is not touched


def test_inactive_speakers_make_no_cluster():
    features = features_of([[[1, 0, 0]] * 50])
    discrete, _ = discrete_diarization(features, np.array([[0, 7, INACTIVE]]))
    assert discrete.shape == (51, 1)


def test_ties_go_to_the_lowest_column():
    activations = np.array([[1.0] * 20, [0.0] * 19 + [1.0]])
    discrete = select_speakers(activations, np.array([3, 2], dtype=np.uint8))
    assert [np.flatnonzero(row).tolist() for row in discrete] == [[0, 1, 2], [0, 19]]


def test_missing_speakers_are_made_up():
    """As the reference does where more are counted than clusters exist."""
    features = features_of([[[1, 1]] * 50])
    discrete, _ = discrete_diarization(features, np.array([[0, 0]]))
    assert discrete[0].tolist() == [1, 1]
    capped, _ = discrete_diarization(features, np.array([[0, 0]]), max_speakers=1)
    assert capped[0].tolist() == [1]


def test_exclusive_means_one_at_a_time():
    features = features_of([[[1, 1]] * 50])
    discrete, _ = discrete_diarization(features, np.array([[0, 1]]), exclusive=True)
    assert discrete.sum(axis=1).max() == 1


@pytest.mark.parametrize("num_chunks", [0, 1, 3])
def test_silence_gives_an_empty_annotation(num_chunks):
    features = features_of(np.zeros((num_chunks, 50, 4)))
    for hard_clusters in (np.zeros((num_chunks, 4), dtype=int), np.full((num_chunks, 4), INACTIVE)):
        annotation = reconstruct(features, hard_clusters, labels="SPEAKER_00")
        assert not annotation
        assert annotation.uri == "meeting"


def test_clusters_of_another_recording_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 4\) like the segmentations, got \(2, 4\)"):
        reconstruct(features_of(np.zeros((1, 50, 4))), np.zeros((2, 4), dtype=int))


def test_segments_run_between_frame_middles():
    scores = np.zeros((10, 1))
    scores[[0, 1, 4, 9]] = 1
    middles = WAVLM.middle_of(np.arange(10))
    annotation = binarize(scores, WAVLM, uri="a")
    assert segments_of(annotation) == [(middles[0], middles[2], 0), (middles[4], middles[5], 0)]
    scores[8] = 1  # now the last frame is not alone
    assert segments_of(binarize(scores, WAVLM))[-1] == (middles[8], middles[9], 0)


def test_durations_filter_gaps_and_segments():
    scores = np.zeros((50, 1))
    scores[[5, 6, 7, 8, 12, 13, 14, 40]] = 1
    middles = WAVLM.middle_of(np.arange(50))
    filled = binarize(scores, WAVLM, min_duration_off=0.1, min_duration_on=0.05)
    assert segments_of(filled) == [(middles[5], middles[15], 0)]


def test_hysteresis_holds_between_the_thresholds():
    scores = np.array([0.5, 0.8, 0.5, 0.2, 0.5, np.nan, 0.5])
    assert hysteresis(scores, 0.7, 0.3).tolist() == [True, True, True, False, False, False, False]
    assert hysteresis(scores, 0.7, 0.3, initial_state=False).tolist()[0] is False
    assert hysteresis(scores[:1], 0.7, 0.3, initial_state=True).tolist() == [True]


def test_names_follow_the_order_of_ids_as_text():
    turns = np.zeros((1, 50, 11))
    turns[0, np.arange(44), np.arange(44) // 4] = 1  # speakers 0 to 10, one after the other
    annotation = reconstruct(features_of(turns), np.arange(11)[None], labels="SPEAKER_00")
    names = [label for _, _, label in segments_of(annotation)]
    assert names == [
        "SPEAKER_00",
        "SPEAKER_01",
        *(f"SPEAKER_{index:02d}" for index in range(3, 11)),
        "SPEAKER_02",
    ]
    with pytest.raises(ValueError, match="labels"):
        reconstruct(features_of(turns), np.arange(11)[None], labels="A")


def test_an_exclusive_diarization_shares_the_names_of_the_full_one():
    turns = np.zeros((2, 50, 2))
    turns[:, :, 0] = 1
    turns[0, 10:20, 1] = 1
    hard_clusters = np.array([[3, 0], [3, 0]])
    full = reconstruct(features_of(turns), hard_clusters, labels="SPEAKER_00")
    turns[0, 10:20, 1] = 0
    exclusive = reconstruct(
        features_of(turns), hard_clusters, labels="SPEAKER_00", exclusive=True, max_speakers=5
    )
    assert full.labels() == ["SPEAKER_00", "SPEAKER_01"]
    assert exclusive.labels() == ["SPEAKER_00"]


def test_every_preset_is_accepted(rng):
    features = features_of(rng.integers(0, 2, (5, 50, 3)))
    hard_clusters = rng.integers(0, 3, (5, 3))
    labels = {
        name: reconstruct(features, hard_clusters, **preset).labels()
        for name, preset in RECONSTRUCTION_PRESETS.items()
    }
    assert labels["diarizen"] == [0, 1, 2]
    assert labels["pyannote-3.1"] == labels["community-1"] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
