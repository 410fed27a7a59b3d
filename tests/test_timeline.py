"""Tables behind the timeline: turns, matching, errors, and what is left of them when zoomed out."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

from workbench.overview import (
    Envelope,
    LocalSpeakers,
    map_local_speakers,
    principal_plane,
    talking_most,
)
from workbench.timeline import (
    crop_turns,
    find_errors,
    find_turns,
    match_speakers,
    order_speakers,
    speaker_errors,
    thin_turns,
)
from workbench.types import Features, SlidingWindow


def annotation(*turns):
    result = Annotation()
    for track, (start, end, speaker) in enumerate(turns):
        result[Segment(start, end), track] = speaker
    return result


def random_annotation(rng, num_turns, num_speakers, duration=None):
    starts = rng.uniform(0, duration or num_turns, num_turns)
    ends = starts + rng.uniform(0.1, 4, num_turns)
    return annotation(*zip(starts, ends, rng.integers(num_speakers, size=num_turns), strict=True))


def test_turns_come_in_order_of_time():
    table = find_turns(annotation((5, 6, "B"), (0, 2, "A"), (1, 3, "B")))
    expected = pd.DataFrame(
        {
            "start": [0.0, 1.0, 5.0],
            "end": [2.0, 3.0, 6.0],
            "speaker": pd.Series(["A", "B", "B"], dtype=object),
        }
    )
    pd.testing.assert_frame_equal(table, expected)
    assert order_speakers(table) == ["A", "B"]


def test_speakers_are_matched_to_whom_they_share_most_time_with():
    reference = annotation((0, 10, "A"), (10, 20, "B"))
    hypothesis = annotation((0, 9, 1), (9, 20, 0), (20, 25, 2))
    assert match_speakers(reference, hypothesis) == {1: "A", 0: "B"}  # 2 meets nobody


def test_every_kind_of_error_is_found_where_it_happens():
    reference = annotation((0, 10, "A"), (10, 20, "B"), (18, 20, "C"))
    hypothesis = annotation((1, 12, "x"), (12, 18, "y"), (18, 21, "y"))
    errors = find_errors(reference, hypothesis)
    rows = [
        (0.0, 1.0, "missed", "A", None),
        (10.0, 12.0, "confusion", "B", "x"),
        (18.0, 20.0, "missed", "C", None),
        (20.0, 21.0, "false_alarm", None, "y"),
    ]
    assert errors.columns.tolist() == ["start", "end", "kind", "reference_speaker", "hypothesis_speaker"]
    assert errors.values.tolist() == [list(row) for row in rows]


def test_only_scored_regions_have_errors():
    reference, hypothesis = annotation((0, 10, "A")), annotation((20, 30, "x"))
    errors = find_errors(reference, hypothesis, Timeline([Segment(2, 5), Segment(28, 40)]))
    assert errors[["start", "end", "kind"]].values.tolist() == [[2, 5, "missed"], [28, 30, "false_alarm"]]


@pytest.mark.parametrize("seed", range(6))
def test_errors_add_up_to_what_pyannote_counts(seed):
    rng = np.random.default_rng(seed)
    reference, hypothesis = random_annotation(rng, 60, 4), random_annotation(rng, 70, 5)
    uem = Timeline([Segment(3, 25), Segment(30, 55)])
    errors = find_errors(reference, hypothesis, uem)
    found = (errors["end"] - errors["start"]).groupby(errors["kind"]).sum()
    oracle = DiarizationErrorRate()(reference, hypothesis, uem=uem, detailed=True)
    assert found["missed"] == pytest.approx(oracle["missed detection"])
    assert found["false_alarm"] == pytest.approx(oracle["false alarm"])
    assert found["confusion"] == pytest.approx(oracle["confusion"])


def test_nothing_against_nothing_has_no_errors():
    assert find_errors(Annotation(), Annotation()).empty
    assert match_speakers(Annotation(), Annotation()) == {}
    assert find_errors(annotation((0, 1, "A")), Annotation())["kind"].tolist() == ["missed"]


def test_seconds_per_speaker_add_up_to_their_speech():
    reference = annotation((0, 10, "A"), (10, 20, "B"))
    errors = find_errors(reference, annotation((1, 12, "x"), (12, 18, "y"), (20, 21, "y")))
    table = speaker_errors(find_turns(reference), errors, ["A", "B"])
    rows = [("A", 9.0, 1.0, 0.0, 0.0), ("B", 6.0, 2.0, 2.0, 0.0), (None, 0.0, 0.0, 0.0, 1.0)]
    expected = pd.DataFrame(rows, columns=["speaker", "correct", "missed", "confusion", "false_alarm"])
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_turns_are_cut_at_the_borders_of_scored_regions():
    turns = find_turns(annotation((0, 10, "A"), (12, 14, "A")))
    cut = crop_turns(turns, Timeline([Segment(2, 4), Segment(8, 13)]))
    assert cut[["start", "end"]].values.tolist() == [[2, 4], [8, 10], [12, 13]]
    assert crop_turns(turns, None) is turns


def test_turns_closer_than_a_pixel_become_one():
    turns = find_turns(annotation((0, 1, "A"), (1.05, 2, "A"), (3, 4, "A"), (1.5, 1.6, "B"))).assign(row=0.0)
    turns.loc[turns["speaker"] == "B", "row"] = 1.0
    thinned = thin_turns(turns, 0, 10, resolution=0.5)
    assert thinned[["start", "end", "speaker", "num_turns"]].values.tolist() == [
        [0.0, 2.0, "A", 2],
        [3.0, 4.0, "A", 1],
        [1.5, 2.0, "B", 1],  # never thinner than a pixel
    ]
    assert thin_turns(turns, 2.5, 10, resolution=0)["start"].tolist() == [3.0]  # only what is in view


def test_ten_thousand_turns_take_less_than_a_second(rng):
    reference, hypothesis = (random_annotation(rng, 10_000, 8, 30_000) for _ in range(2))
    started = time.process_time()
    find_errors(reference, hypothesis)
    find_turns(reference)
    assert time.process_time() - started < 1.0


def test_envelope_keeps_every_peak_at_any_zoom(rng):
    waveform = rng.uniform(-0.1, 0.1, 16000 * 3).astype(np.float32)
    waveform[20_000], waveform[20_001] = 0.9, -0.8
    envelope = Envelope.of(waveform)
    assert envelope.peak == pytest.approx(0.9)
    for columns in (10, 100, 1000):
        time_, low, high = envelope.between(0, 3, columns)
        assert len(time_) == columns
        assert (low.min(), high.max()) == (pytest.approx(-0.8), pytest.approx(0.9))
        assert abs(time_[high.argmax()] - 20_000 / 16000) <= 3 / columns


def test_envelope_of_nothing_is_empty():
    assert Envelope.of(np.zeros(0, np.float32)).between(0, 1, 10)[0].size == 0
    assert Envelope.of(np.zeros(1600, np.float32)).peak == 1.0


def test_each_moment_comes_from_the_chunk_that_has_it_nearest_its_middle():
    chunks, frames = SlidingWindow(0.0, 4.0, 1.0), SlidingWindow(0.0, 0.1, 0.1)
    posteriors = np.broadcast_to(np.arange(5.0)[:, None, None], (5, 40, 2))  # a chunk says its own number
    local = LocalSpeakers.of(posteriors, chunks, frames, duration=8.0)
    assert local.posteriors.shape == (80, 2)
    # up to the middle of chunk 0 (2 s) and half a step further it is chunk 0, then one each per second
    assert [local.chunk[round(t / 0.1)] for t in (0.0, 2.3, 2.8, 3.8, 5.0, 7.9)] == [0, 0, 1, 2, 3, 4]
    np.testing.assert_array_equal(local.posteriors[:, 0], local.chunk)


def test_local_speakers_are_told_apart_by_who_talks_most():
    frames, chunks = SlidingWindow(0.0, 0.1, 0.1), SlidingWindow(0.0, 2.0, 1.0)
    segmentations = np.zeros((3, 20, 2), np.float32)
    segmentations[0, :10, 0] = segmentations[0, 10:, 1] = 1  # first second 0, then 1
    features = Features(
        uri="x", segmentations=segmentations, embeddings=np.zeros((3, 2, 4)), chunks=chunks, frames=frames
    )
    reference = annotation((0.0, 1.0, "A"), (1.0, 2.0, "B"))
    who = talking_most(features, reference, np.array([0, 0, 1]), np.array([0, 1, 0]))
    assert who == ["A", "B", None]


def test_the_map_shows_the_directions_of_most_variance(rng):
    points = np.zeros((40, 6))
    points[:, 3], points[:, 1] = 10 * rng.standard_normal(40), rng.standard_normal(40)
    plane, shares = principal_plane(points)
    assert abs(np.corrcoef(plane[:, 0], points[:, 3])[0, 1]) == pytest.approx(1, abs=1e-3)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] > shares[1]
    assert principal_plane(np.zeros((0, 6)))[0].shape == (0, 2)
    assert principal_plane(np.ones((1, 6)))[0].tolist() == [[0.0, 0.0]]


def test_a_long_recording_gets_a_map_that_can_still_be_drawn(rng):
    chunks, frames = SlidingWindow(0.0, 2.0, 1.0), SlidingWindow(0.0, 0.1, 0.1)
    embeddings = rng.standard_normal((4000, 2, 8))
    features = Features(
        uri="x",
        segmentations=np.ones((4000, 20, 2), np.float32),
        embeddings=embeddings,
        chunks=chunks,
        frames=frames,
    )
    mask = np.ones((4000, 2), dtype=bool)
    table, _ = map_local_speakers(features, embeddings[mask], mask, annotation((0, 4000, "A")))
    assert len(table) == 2500
    assert table["chunk"].iloc[[0, -1]].tolist() == [0, 3999]
    assert set(table["reference_speaker"]) == {"A"}
