"""A prepared reference scores frames as `score` and pyannote.metrics score the annotation."""

from __future__ import annotations

import warnings
from time import perf_counter

import numpy as np
import pytest
from pyannote.core import Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from scoring_pairs import COMPONENTS, random_settings, random_turns, spoken

from workbench.binarization import binarize
from workbench.scoring import DiarizationCounts, SpeakerErrors, Turns, score
from workbench.scoring.clustering_metrics import frame_labels
from workbench.scoring.prepared import PreparedReference
from workbench.types import SlidingWindow

FRAMES = SlidingWindow(0.0, 0.025, 0.02)


def random_frames(rng: np.random.Generator, num_frames: int, num_speakers: int) -> np.ndarray:
    active = np.zeros((num_frames, num_speakers), dtype=np.uint8)
    for speaker in range(num_speakers):
        for _ in range(rng.integers(0, 8)):
            start, end = np.sort(rng.integers(0, num_frames + 1, 2))
            active[start:end, speaker] = rng.integers(2)
    return active


def values(counts: DiarizationCounts) -> list[float]:
    return [getattr(counts, name) for name in COMPONENTS]


@pytest.mark.parametrize("step", [0.02, 0.1, 0.016875])
def test_frames_score_as_the_annotation_binarized_from_them(rng, step):
    for _ in range(100):
        frames = SlidingWindow(float(rng.choice([0, 0.5, -1])), 0.025, step)
        num_frames = int(rng.integers(0, int(36 / step)))
        active = random_frames(rng, num_frames, int(rng.integers(0, 5)))
        reference = random_turns(rng, rng.integers(0, 25), int(rng.integers(1, 5)), rng.choice([None, 0.01]))
        settings = random_settings(rng)
        prepared = PreparedReference(reference, frames.middle_of(np.arange(num_frames)), **settings)
        expected = score(reference, binarize(active.astype(float), frames), **settings)
        assert values(prepared.score(active)) == pytest.approx(values(expected), abs=1e-9)


def test_frames_score_as_pyannote_metrics_scores_them(rng):
    for _ in range(40):
        active = random_frames(rng, 1500, 4)
        reference = random_turns(rng, 20, 3, 0.01)
        settings = random_settings(rng)
        prepared = PreparedReference(reference, FRAMES.middle_of(np.arange(1500)), **settings)
        metric = DiarizationErrorRate(collar=2 * settings["collar"], skip_overlap=settings["skip_overlap"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'uem' was approximated")
            theirs = metric(
                reference, binarize(active.astype(float), FRAMES), uem=settings["uem"], detailed=True
            )
        names = ("total", "correct", "missed detection", "false alarm", "confusion")
        assert values(prepared.score(active)) == pytest.approx([theirs[name] for name in names], abs=1e-9)


def test_reference_boundaries_within_a_microsecond_of_a_frame_count_as_in_score(rng):
    """Slots so short are dropped by pyannote, but only where the hypothesis changes there."""
    times = FRAMES.middle_of(np.arange(500))
    for _ in range(60):
        reference = random_turns(rng, 5, 3)
        for number in range(6):
            start, end = np.sort(rng.choice(times, 2, replace=False))
            shifts = rng.choice([0, 5e-7, -5e-7, 9e-7, 2e-6], 2)
            reference[Segment(start + shifts[0], end + shifts[1]), f"near {number}"] = f"s{number % 3}"
        active = random_frames(rng, 500, 3)
        settings = random_settings(rng)
        expected = score(reference, binarize(active.astype(float), FRAMES), **settings)
        counts = PreparedReference(reference, times, **settings).score(active)
        assert values(counts) == pytest.approx(values(expected), abs=1e-9)


def test_several_hypotheses_and_runs_score_like_single_ones(rng):
    reference, times = random_turns(rng, 20, 3), FRAMES.middle_of(np.arange(1500))
    prepared = PreparedReference(reference, times, Timeline([Segment(2, 12), Segment(15, 28)]))
    stack = np.stack([random_frames(rng, 1500, 4) for _ in range(5)])
    single = [prepared.score(active) for active in stack]
    assert prepared.score_many(stack) == single
    for active, expected in zip(stack, single, strict=True):
        starts = np.flatnonzero(np.concatenate([[True], (active[1:] != active[:-1]).any(axis=1)]))
        assert prepared.score_runs(starts, active[starts]) == expected


@pytest.mark.parametrize("step", [0.02, 0.1, 0.016875])
def test_jaccard_errors_are_those_of_the_annotation(rng, step):
    """To the rounding of a sum: the frames of dscore that are counted are the very same."""
    for _ in range(150):
        frames = SlidingWindow(float(rng.choice([0, 0.5, -1])), 0.025, step)
        times = frames.middle_of(np.arange(int(rng.integers(0, int(36 / step)))))
        active = random_frames(rng, len(times), int(rng.integers(0, 6)))
        reference = random_turns(rng, rng.integers(0, 25), int(rng.integers(1, 5)), rng.choice([None, 0.01]))
        settings = random_settings(rng)
        prepared = PreparedReference(reference, times, **settings)
        starts = np.flatnonzero((np.diff(active, axis=0, prepend=2) != 0).any(axis=1))
        starts = np.unique(np.concatenate([starts, [0]]))[: len(active)].astype(int)
        counts, speakers = prepared.score_runs_fully(starts, active[starts])
        assert counts == prepared.score_runs(starts, active[starts])
        hypothesis = binarize(active.astype(float), frames)
        labels = frame_labels(Turns.of(reference), Turns.of(hypothesis), settings["uem"])
        expected = SpeakerErrors.of(labels)
        assert speakers.jer == pytest.approx(expected.jer, abs=1e-12)
        assert len(speakers.errors) == len(expected.errors)
        assert speakers.num_hypothesis == expected.num_hypothesis


def test_an_hour_long_hypothesis_takes_milliseconds(rng):
    """A generous bound for a busy machine: `benchmarks/scoring.py` prints the real figure, below 1 ms."""
    times = FRAMES.middle_of(np.arange(180_000))
    starts = np.sort(rng.uniform(0, 3590, 1200)).round(3)
    reference = spoken(*((start, start + 3.0, f"s{i % 4}") for i, start in enumerate(starts.tolist())))
    active = np.zeros((180_000, 4), dtype=np.uint8)
    for i, start in enumerate(FRAMES.closest(starts + rng.normal(0, 0.1, 1200))):
        active[max(start, 0) : start + 140, i % 4] = 1
    prepared = PreparedReference(reference, times)
    seconds = []
    for _ in range(9):
        begun = perf_counter()
        counts = prepared.score(active)
        seconds.append(perf_counter() - begun)
    assert min(seconds) < 0.01
    expected = score(reference, binarize(active.astype(float), FRAMES))
    assert values(counts) == pytest.approx(values(expected), abs=1e-9)


@pytest.mark.parametrize(
    ("hypothesis", "message"),
    [
        (np.zeros((9, 2)), "shape .* with 10 frames, got"),
        (np.zeros(10), "got"),
        (np.full((10, 2), 0.7) * 3, "must hold 0 and 1, found values from"),
    ],
)
def test_what_is_no_hypothesis_is_refused(hypothesis, message):
    prepared = PreparedReference(spoken((0, 1, "A")), np.arange(10.0))
    with pytest.raises(ValueError, match=message):
        prepared.score(hypothesis)


def test_boundaries_must_rise():
    with pytest.raises(ValueError, match="strictly increasing"):
        PreparedReference(spoken((0, 1, "A")), np.array([0.0, 1.0, 1.0]))
