"""Assignments found for many chunks and clusterings together are those of every chunk alone."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from workbench.clustering.assignment import constrained_argmax, similarities
from workbench.clustering.assignment_search import best_assignments
from workbench.clustering.batched_assignment import Assigner
from workbench.types import INACTIVE, Features, SlidingWindow


def assigner_of(embeddings, active):
    """One frame per chunk."""
    axis = SlidingWindow(0.0, 1.0, 0.1)
    segmentations = np.asarray(active, dtype=np.float32)[:, None]
    embeddings = np.asarray(embeddings, dtype=np.float32)
    return Assigner(
        Features(uri="u", segmentations=segmentations, embeddings=embeddings, chunks=axis, frames=axis)
    )


@pytest.fixture
def crowd(rng):
    """300 chunks of four local speakers who look for few clusters; the silent ones are all alike."""
    active = rng.random((300, 4)) > 0.3
    embeddings = rng.standard_normal((300, 4, 6)).astype(np.float32)
    embeddings[~active] = rng.standard_normal(6)
    return embeddings, active


@pytest.mark.parametrize("active_first", [False, True])
def test_company_changes_nothing(rng, crowd, active_first):
    """Of clusterings of several sizes, one of them undecided, in one call and one by one."""
    embeddings, active = crowd
    assigner = assigner_of(embeddings, active)
    centroids = [rng.standard_normal((number, 6)) for number in (5, 2, 25, 5, 1, 4, 5)]
    centroids[3][4] = centroids[3][0]  # nobody can tell these two apart
    cosines = assigner.cosines(centroids)
    together = assigner.each_one_to_one([*cosines, None], active_first=active_first)
    assert together[3] is None
    assert together[-1] is None
    for number in (0, 1, 2, 4, 5, 6):
        alone = assigner.one_to_one(cosines[number], active_first=active_first)
        np.testing.assert_array_equal(together[number], alone)
        similarity = similarities(embeddings, centroids[number])
        if active_first:
            similarity[~active] = similarity.min() - 1.0
        expected = constrained_argmax(similarity)
        np.testing.assert_array_equal(together[number][active], expected[active])


def test_most_chunks_need_no_search(rng, crowd, monkeypatch):
    """Where only two want the same cluster, the one who would lose less takes the next."""
    embeddings, active = crowd
    assigner = assigner_of(embeddings, active)
    cosines = assigner.cosines([rng.standard_normal((12, 6))])
    searched = []

    def search(scores, twins):
        searched.append(scores.shape[2])
        return best_assignments(scores, twins)

    monkeypatch.setattr("workbench.clustering.batched_assignment.best_assignments", search)
    wanted = cosines[0].argmax(axis=0)  # (slot, chunk)
    all_different = sum(len(set(column)) == 4 for column in wanted.T)
    one_clash = sum(len(set(column)) == 3 for column in wanted.T)
    assigner.each_one_to_one(cosines)
    assert 0 < sum(searched) < 300 - all_different - one_clash / 2


def test_who_gives_way_must_be_clear():
    """Two speakers want the first cluster, and lose as much by the second; a third wants the third."""
    first, second, third = np.eye(3)
    tilted = first + 0.5 * second
    voices = np.array([[tilted, tilted, third]])
    centroids = np.array([first, second, third])
    for active, decided in ((True, False), (False, True)):  # of silent ones, it does not matter
        assigner = assigner_of(voices, [[active, active, True]])
        (found,) = assigner.each_one_to_one(assigner.cosines([centroids]))
        assert (found is not None) == decided
    assert sorted(found[0, :2]) == [0, 1]
    assert found[0, 2] == 2
    apart = voices + 1e-3 * np.array([[second, -second, third]])
    assigner = assigner_of(apart, [[True, True, True]])
    (found,) = assigner.each_one_to_one(assigner.cosines([centroids]))
    assert found.tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("num_clusters", [2, 3, 5])
def test_the_best_assignment_leads_the_second_by_the_margin(rng, num_clusters, monkeypatch):
    monkeypatch.setattr("workbench.clustering.assignment_search._AT_ONCE", 7)  # in several pieces
    scores = rng.standard_normal((num_clusters, 3, 20))
    hard_clusters, margin = best_assignments(scores, {})
    for chunk, found in enumerate(hard_clusters):
        # whoever gets one of the places beyond the clusters gets none
        places = np.concatenate([scores[:, :, chunk], np.zeros((max(3 - num_clusters, 0), 3))])
        sums = {}
        for order in permutations(range(len(places)), 3):
            chosen = tuple(place if place < num_clusters else INACTIVE for place in order)
            sums[chosen] = places[list(order), range(3)].sum()
        best, second = sorted(sums.values(), reverse=True)[:2]
        assert sums[tuple(found)] == pytest.approx(best)
        assert margin[chunk] == pytest.approx(best - second)


def test_twins_take_what_they_get_in_one_order_only():
    """Else no lead would ever be left between the two."""
    scores = np.array([[0.9, 0.9], [0.4, 0.4], [0.1, 0.1]])[..., None]
    twins = {(0, 1): np.array([True])}
    hard_clusters, margin = best_assignments(scores, twins)
    assert hard_clusters.tolist() == [[0, 1]]
    np.testing.assert_allclose(margin, [0.3])
    hard_clusters, margin = best_assignments(scores[:1], twins)
    assert hard_clusters.tolist() == [[0, INACTIVE]]
    assert margin.tolist() == [np.inf]
