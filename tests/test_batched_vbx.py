"""VBx for many cells at once gives what VBx gives for each of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.clustering import vbx
from workbench.clustering.assignment import constrained_argmax, rank_labels, similarities
from workbench.clustering.batched_assignment import Assigner, rank_found
from workbench.clustering.batched_vbx import VBxStart, plain_cell, vbx_many, worthwhile
from workbench.clustering.forward_backward import Scratch, hmm_posteriors
from workbench.clustering.vbx import MIN_PRIOR, forward_backward, initial_responsibilities
from workbench.clustering.vbx_cells import verdicts
from workbench.clustering.vbx_steps import markov_step
from workbench.types import Features, SlidingWindow

FA = np.array([0.02, 0.05, 0.07, 0.2, 0.4, 1.0, 0.07])
FB = np.array([0.5, 0.8, 4.0, 2.0, 17.0, 6.0, 0.8])


@pytest.fixture
def start(rng):
    """300 embeddings of five voices, started from 40 clusters."""
    phi = np.geomspace(8, 0.2, 24)
    voices = rng.standard_normal((5, 24)) * np.sqrt(phi)
    speaker = np.sort(rng.integers(0, 5, 300))
    features = voices[speaker] + rng.standard_normal((300, 24))
    labels = speaker * 8 + rng.integers(0, 8, 300)
    return VBxStart(features, phi, initial_responsibilities(np.unique(labels, return_inverse=True)[1]))


def run(start, **options):
    found = dict(vbx_many(start, FA, FB, **options))
    return [found[index] for index in range(len(FA))]


def test_embeddings_that_start_alike_may_share_a_row(start):
    groups = start.gamma.argmax(axis=1)
    shared = VBxStart(start.features, start.phi, initial_responsibilities(np.arange(40)), groups=groups)
    np.testing.assert_array_equal(shared.gamma, start.gamma)
    np.testing.assert_allclose(shared.mass, start.mass, rtol=1e-13)
    np.testing.assert_allclose(shared.first_order, start.first_order, rtol=0, atol=1e-11)
    for found, expected in zip(run(shared), run(start), strict=True):
        np.testing.assert_array_equal(found.speakers, expected.speakers)
        np.testing.assert_allclose(found.elbo, expected.elbo, atol=1e-9)


@pytest.mark.parametrize("loop_prob", [None, 0.0, 0.6, 0.99])
def test_every_cell_is_what_vbx_finds(start, loop_prob):
    for index, cell in enumerate(run(start, loop_prob=loop_prob)):
        plain = vbx(start.features, start.phi, start.gamma, Fa=FA[index], Fb=FB[index], loop_prob=loop_prob)
        assert len(cell.elbo) == len(plain.elbo)
        assert cell.converged == plain.converged
        np.testing.assert_array_equal(cell.speakers, np.flatnonzero(plain.pi > MIN_PRIOR))
        np.testing.assert_allclose(cell.elbo, plain.elbo, rtol=1e-12, atol=1e-8)
        np.testing.assert_allclose(cell.pi, plain.pi, atol=1e-11)
        np.testing.assert_allclose(cell.weights.T, plain.gamma[:, cell.speakers], atol=1e-9)


@pytest.mark.parametrize("loop_prob", [None, 0.8])
def test_cells_do_not_depend_on_who_is_computed_with_them(start, loop_prob):
    together = run(start, num_columns=10**6, loop_prob=loop_prob)
    for num_columns in (1, 30_000, 60_000):  # one cell at a time, two, five
        alone = run(start, num_columns=num_columns, loop_prob=loop_prob)
        for one, other in zip(alone, together, strict=True):
            assert one.elbo.tobytes() == other.elbo.tobytes()
            assert one.weights.tobytes() == other.weights.tobytes()
    for index, cell in vbx_many(start, FA[::-1], FB[::-1], loop_prob=loop_prob):
        assert cell.elbo.tobytes() == together[len(FA) - 1 - index].elbo.tobytes()


def test_models_from_several_start_partitions_step_through_time_together(start):
    coarse = VBxStart(start.features, start.phi, initial_responsibilities(np.arange(300) // 30))
    starts = [start, coarse, coarse, start, start, coarse, coarse]
    together = dict(vbx_many(starts, FA, FB, loop_prob=0.8))
    for index, each in enumerate(starts):
        ((_, alone),) = vbx_many(each, FA[index : index + 1], FB[index : index + 1], loop_prob=0.8)
        assert alone.elbo.tobytes() == together[index].elbo.tobytes()
        assert alone.weights.tobytes() == together[index].weights.tobytes()


def test_cells_start_later_where_memory_is_short(start, monkeypatch):
    together = run(start, loop_prob=0.8)
    batches = []

    def spy(cells, *others):
        batches.append([len(cell.elbo) for cell in cells])
        return markov_step(cells, *others)

    monkeypatch.setattr("workbench.clustering.batched_vbx.markov_step", spy)
    monkeypatch.setattr("workbench.clustering.batched_vbx._WAITING", 1)
    alone = run(start, loop_prob=0.8, num_columns=1)
    assert sum(elbos == [0] for elbos in batches) == len(FA)
    first_end = next(place for place, elbos in enumerate(batches[1:], start=1) if elbos == [0])
    assert first_end > 1  # the second cell starts when the first has ended
    for one, other in zip(alone, together, strict=True):
        assert one.elbo.tobytes() == other.elbo.tobytes()


def test_blocks_of_embeddings_give_the_same_whoever_works_on_them(start, monkeypatch):
    monkeypatch.setattr("workbench.clustering.vbx_steps._CACHED", 1)
    monkeypatch.setattr("workbench.clustering.vbx_steps._SHORTEST", 128)  # three blocks
    for one, other in zip(run(start), run(start, threads=3), strict=True):
        assert one.elbo.tobytes() == other.elbo.tobytes()
        assert one.weights.tobytes() == other.weights.tobytes()
    for index, cell in enumerate(run(start)):
        plain = plain_cell(start, FA[index], FB[index])
        np.testing.assert_allclose(cell.elbo, plain.elbo, rtol=1e-12, atol=1e-8)
        np.testing.assert_allclose(cell.weights, plain.weights, atol=1e-9)


def test_speakers_that_are_switched_off_share_a_column(start, monkeypatch):
    widths = []
    matmul = np.matmul

    def spy(first, second, **options):
        widths.append(len(first))
        return matmul(first, second, **options)

    monkeypatch.setattr(np, "matmul", spy)
    list(vbx_many(start, [0.4], [2.0]))
    assert widths[0] == start.gamma.shape[1]
    assert widths[-1] <= 6  # five voices, and one column for all others


def test_iterations_are_capped_cell_by_cell(start):
    cells = run(start, max_iters=[1, 2, 3, 20, 20, 20, 5])
    assert [len(cell.elbo) for cell in cells[:3]] == [1, 2, 3]
    assert not any(cell.converged for cell in cells[:3])
    assert len(cells[6].elbo) == 5


def test_a_close_decision_is_left_to_the_plain_loop(start):
    plain = plain_cell(start, 0.05, 0.8)
    gain = float(plain.elbo[1] - plain.elbo[0])
    found = dict(vbx_many(start, [0.05, 0.4], [0.8, 6.0], epsilon=gain))
    cell = found[0]
    assert cell.recomputed
    assert not found[1].recomputed
    assert cell.elbo.tobytes() == plain_cell(start, 0.05, 0.8, epsilon=gain).elbo.tobytes()


def test_single_precision_is_near(start):
    half = VBxStart(start.features, start.phi, start.gamma, "f32")
    for double, single in zip(run(start), run(half), strict=True):
        assert single.weights.dtype == np.float32
        np.testing.assert_allclose(single.elbo[:3], double.elbo[:3], rtol=1e-4)


def test_one_cluster_to_start_from_is_enough(start):
    alone = VBxStart(start.features, start.phi, np.ones((300, 1)))
    for index, cell in enumerate(run(alone)):
        plain = vbx(alone.features, alone.phi, alone.gamma, Fa=FA[index], Fb=FB[index])
        np.testing.assert_allclose(cell.elbo, plain.elbo, rtol=1e-12)
        np.testing.assert_array_equal(cell.pi, [1.0])


@pytest.mark.parametrize("num_embeddings", [1, 2, 3, 50, 83])  # recursions meet at one, or between
def test_the_linear_domain_loses_nothing(rng, num_embeddings):
    log_p = rng.normal(-300, 60, (3, 4, num_embeddings))  # far below what a float can hold
    pi = rng.dirichlet(np.ones(4), 3)
    stays = np.array([0.0, 0.7, 0.99])
    by_time = np.ascontiguousarray(log_p.transpose(2, 1, 0))
    posteriors, mass, new, log_likelihood = hmm_posteriors(by_time, pi.T, np.ones((4, 3)), stays)
    np.testing.assert_allclose(mass, posteriors.sum(axis=0), rtol=1e-12)
    for model in range(3):
        transitions = stays[model] * np.eye(4) + (1 - stays[model]) * pi[model]
        expected = forward_backward(log_p[model].T, transitions, pi[model])
        np.testing.assert_allclose(posteriors[:, :, model], expected[0], atol=1e-12)
        assert log_likelihood[model] == pytest.approx(expected[1], rel=1e-12)
    np.testing.assert_allclose(new.sum(axis=0), 1.0)


def test_the_buffers_of_numpy_are_left_as_they_were(rng):
    before = np.getbufsize()
    hmm_posteriors(rng.normal(size=(5, 2, 2)), np.full((2, 2), 0.5), np.ones((2, 2)), np.full(2, 0.9))
    assert np.getbufsize() == before


def test_memory_that_is_used_again_changes_nothing(rng):
    scratch = Scratch()
    arguments = np.full((3, 4), 1 / 3), np.ones((3, 4)), np.full(4, 0.9)
    for num_embeddings in (40, 7, 60):
        log_p = rng.normal(size=(num_embeddings, 3, 4))
        alone = hmm_posteriors(log_p.copy(), *arguments)
        again = hmm_posteriors(log_p.copy(), *arguments, scratch)
        for one, other in zip(alone, again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_cells_are_filled_up_to_a_width_where_that_is_worth_it():
    few_narrow = np.array([60] * 30 + [50] * 20 + [4] * 5)
    assert worthwhile(few_narrow, 4000) == slice(0, 50)  # of 60 columns; what is narrow waits for company
    many_narrow = np.array([60] * 2 + [4] * 900)
    assert worthwhile(many_narrow, 4000) == slice(2, 902)
    assert worthwhile(np.array([5000, 3]), 4000) == slice(0, 1)  # alone, whatever the room


def test_how_close_a_decision_is_follows_from_the_size_of_the_bound(start):
    state = np.full((2, 1), 150.0), np.full((2, 1), 0.5), np.ones((2, 1))
    epsilon, capped = 1e-6, np.array([False])
    for beyond, bound, expected in ((0.9e-9, -1e2, True), (5e-9, -1e4, False), (5e-9, -1e7, True)):
        gain = np.array([epsilon + beyond])
        goes_on, close = verdicts(*state, np.array([bound]), gain, capped, epsilon, start)
        assert (bool(close[0]), bool(goes_on[0])) == (expected, not expected)


@pytest.mark.golden
@pytest.mark.parametrize("impl", ["fork", "but"])
def test_updates_equal_the_original(golden, impl):
    pack = golden / "clustering"
    cases = [json.loads(line) for line in (pack / "vbx_lowlevel.jsonl").read_text().splitlines()]
    with np.load(pack / "vbx_lowlevel.npz") as archive:
        recorded = dict(archive)
    cases = [case for case in cases if case["impl"] == impl and not case.get("given_model")]
    assert len(cases) > 50
    for shared in {(case["input"], case["epsilon"]) for case in cases}:
        group = [case for case in cases if (case["input"], case["epsilon"]) == shared]
        prefix = f"in{shared[0]}_"
        start = VBxStart(recorded[prefix + "X"], recorded[prefix + "Phi"], recorded[prefix + "gamma0"])
        found = vbx_many(
            start,
            [case["Fa"] for case in group],
            [case["Fb"] for case in group],
            max_iters=[case["maxIters"] for case in group],
            epsilon=shared[1],
            loop_prob=[case["loopProb"] for case in group] if impl == "but" else None,
        )
        for index, cell in found:
            name = f"c{group[index]['index']}"
            assert len(cell.elbo) == group[index]["iterations"], group[index]
            np.testing.assert_allclose(cell.elbo, recorded[f"{name}_elbo"].ravel(), rtol=1e-6)
            np.testing.assert_allclose(cell.pi, recorded[f"{name}_pi"], rtol=1e-6, atol=1e-9)


def random_features(rng, num_slots, *, missing=0.0, silent=0.3):
    segmentations = (rng.random((60, 20, num_slots)) < 0.4).astype(np.float32)
    segmentations *= (rng.random((60, 1, num_slots)) > silent).astype(np.float32)
    embeddings = rng.standard_normal((60, num_slots, 12)).astype(np.float32)
    embeddings[~segmentations.any(axis=1)] = rng.standard_normal(12)  # one answer to silence
    embeddings[rng.random((60, num_slots)) < missing] = np.nan
    axis = SlidingWindow(0.0, 1.0, 0.1)
    return Features(uri="u", segmentations=segmentations, embeddings=embeddings, chunks=axis, frames=axis)


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("num_slots", [1, 2, 3, 4, 5])
def test_assignment_is_that_of_the_hungarian_method(rng, num_slots, missing):
    features = random_features(rng, num_slots, missing=missing)
    assigner = Assigner(features)
    found = 0
    for num_clusters in (1, 2, 3, 4, 6, 9, 40):
        centroids = rng.standard_normal((num_clusters, 12))
        (cosines,) = assigner.cosines([centroids])
        similarity = similarities(features.embeddings, centroids)
        expected = constrained_argmax(similarity)
        ours = assigner.one_to_one(cosines)
        if missing and ours is None:
            continue  # two in one chunk without embedding: left to the Hungarian method itself
        np.testing.assert_array_equal(ours[assigner.active], expected[assigner.active])
        ranked = rank_found(ours, num_clusters)
        if ranked is not None:
            found += 1
            np.testing.assert_array_equal(ranked[assigner.active], rank_labels(expected)[assigner.active])
        best = similarity.argmax(axis=2)
        np.testing.assert_array_equal(assigner.best(cosines), best)
        similarity[~assigner.active] = similarity.min() - 1.0
        expected = constrained_argmax(similarity)
        ours = assigner.one_to_one(cosines, active_first=True)
        if not missing or ours is not None:
            np.testing.assert_array_equal(ours[assigner.active], expected[assigner.active])
    assert missing or found >= 3


def test_one_speaker_without_embedding_takes_what_is_left(rng):
    features = random_features(rng, 4)
    features.embeddings[::7, 2] = np.nan
    assigner = Assigner(features)
    for num_clusters in (3, 4, 7):
        centroids = rng.standard_normal((num_clusters, 12))
        expected = constrained_argmax(similarities(features.embeddings, centroids))
        ours = assigner.one_to_one(*assigner.cosines([centroids]))
        np.testing.assert_array_equal(ours[assigner.active], expected[assigner.active])


def test_of_two_equal_ones_who_are_heard_the_hungarian_method_chooses(rng):
    """A mask between the frames of the network's last layer leaves the bias, of whoever is active."""
    features = random_features(rng, 4)
    heard = np.flatnonzero(features.segmentations.any(axis=1).all(axis=1))[0]
    features.embeddings[heard, 3] = features.embeddings[heard, 1]
    assigner = Assigner(features)
    (cosines,) = assigner.cosines([rng.standard_normal((3, 12))])
    assert assigner.one_to_one(cosines) is None
    assert assigner.one_to_one(cosines, active_first=True) is None


def test_a_tie_is_not_decided(rng):
    features = random_features(rng, 3)
    assigner = Assigner(features)
    centroids = rng.standard_normal((4, 12))
    (cosines,) = assigner.cosines([np.concatenate([centroids, centroids[:1]])])
    assert assigner.one_to_one(cosines) is None
    assert assigner.best(cosines) is None
    assert assigner.cosines([np.zeros((1, 12))]) == [None]
