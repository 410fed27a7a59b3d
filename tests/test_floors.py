"""Floors: what remains if a stage made no mistake."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from pyannote.core import Segment
from scoring_pairs import random_settings, random_turns, spoken

from workbench.scoring import score
from workbench.scoring.floors import best_on_grid, find_floors, true_segmentations
from workbench.scoring.prepared import PreparedReference
from workbench.types import Features, SlidingWindow

CHUNKS, FRAMES = SlidingWindow(0.0, 10.0, 1.0), SlidingWindow(0.0, 0.025, 0.02)
REFERENCE = spoken((0.5, 12.3, "A"), (11.0, 20.0, "B"), (21.0, 29.0, "A"), (25.0, 27.5, "C"))


def errors_of(counts) -> float:
    return counts.missed + counts.false_alarm + counts.confusion


def heard(reference=REFERENCE, num_chunks: int = 21) -> Features:
    """Features in which every voice has a local speaker, in an order that changes from chunk to chunk."""
    empty = Features(
        uri="a",
        segmentations=np.zeros((num_chunks, 499, 4), dtype=np.float32),
        embeddings=np.zeros((num_chunks, 4, 2), dtype=np.float32),
        chunks=CHUNKS,
        frames=FRAMES,
    )
    spoken_frames = true_segmentations(reference, empty)
    for chunk in range(num_chunks):
        order = (np.arange(spoken_frames.shape[2]) + chunk) % 4
        empty.segmentations[chunk][:, order] = spoken_frames[chunk]
    return empty


def test_the_grid_floor_is_the_best_of_all_hypotheses(rng):
    boundaries = np.arange(0, 36, 6.0)  # five slots, two speakers: 1024 hypotheses
    hypotheses = np.array(list(product((0, 1), repeat=10)), dtype=np.uint8).reshape(-1, 5, 2)
    hypotheses = np.concatenate([hypotheses, np.zeros((1024, 1, 2), dtype=np.uint8)], axis=1)
    for _ in range(10):
        reference, settings = random_turns(rng, 8, 2, 0.01), random_settings(rng)
        prepared = PreparedReference(reference, boundaries, **settings)
        best = min(errors_of(counts) for counts in prepared.score_many(hypotheses))
        floor = best_on_grid(reference, boundaries, **settings)
        # a reference speaker who overlaps themselves can be matched once only: the floor may lie lower
        assert errors_of(floor) <= best + 1e-9
        assert floor.total == pytest.approx(prepared.total)
    reference = spoken((0, 7, "A"), (5, 14.5, "B"), (20, 31, "A"), (24, 25, "B"))
    prepared = PreparedReference(reference, boundaries)
    best = min(errors_of(counts) for counts in prepared.score_many(hypotheses))
    assert errors_of(best_on_grid(reference, boundaries)) == pytest.approx(best, abs=1e-9)


def test_perfect_features_come_down_to_the_grid():
    floors = find_floors(REFERENCE, heard(), max_speakers=4)
    assert 0 < floors.frame_grid.der <= floors.oracle_clustering.der < 0.005
    assert floors.oracle_segmentation is None
    assert floors.system is None


def test_each_oracle_removes_the_errors_of_its_stage():
    features = heard()
    clusters = np.array([[(local - chunk) % 4 for local in range(4)] for chunk in range(21)])  # the truth
    deaf = Features(
        uri="a",
        segmentations=features.segmentations.copy(),
        embeddings=features.embeddings,
        chunks=CHUNKS,
        frames=FRAMES,
    )
    deaf.segmentations[:, ::3] = 0  # the model misses a third of the frames
    confused = clusters.copy()
    confused[:8] = (confused[:8] + 1) % 3  # and clustering takes A for B at first
    floors = find_floors(REFERENCE, deaf, confused, max_speakers=4)
    assert floors.oracle_segmentation.missed < 0.1  # speech is true, names are not
    assert floors.oracle_segmentation.confusion > 1
    assert floors.oracle_clustering.confusion < 0.2  # names are true, speech is not
    assert floors.oracle_clustering.missed > 3
    assert floors.system.der >= max(floors.oracle_clustering.der, floors.oracle_segmentation.der)
    assert floors.frame_grid.der <= min(floors.oracle_clustering.der, floors.oracle_segmentation.der)


def test_floors_keep_to_the_scored_regions():
    uem = Segment(0, 20)
    floors = find_floors(REFERENCE, heard(), uem=uem, collar=0.25, max_speakers=4)
    assert floors.frame_grid.total == pytest.approx(score(REFERENCE, REFERENCE, uem, 0.25).total)
    assert floors.frame_grid.der < 1e-6  # a collar forgives what a frame takes
    assert floors.oracle_clustering.der < 1e-3


def test_a_silent_recording_has_no_errors_to_explain():
    silence = spoken()
    features = heard(silence)
    floors = find_floors(silence, features, np.full((21, 4), -2))
    assert errors_of(floors.frame_grid) == errors_of(floors.oracle_clustering) == 0
    assert errors_of(floors.system) == 0
