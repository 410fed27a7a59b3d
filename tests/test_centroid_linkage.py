"""Centroid linkage without a matrix of distances, against scipy's with one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

from workbench.clustering import ahc
from workbench.clustering.ahc import Dendrogram, unit_length
from workbench.clustering.centroid_linkage import centroid_linkage


def speakers(rng, number, dimension, voices=5, spread=0.9):
    """Unit-length embeddings around some voices."""
    centres = rng.standard_normal((voices, dimension))
    noise = spread * rng.standard_normal((number, dimension))
    return unit_length((centres[rng.integers(voices, size=number)] + noise).astype(np.float32))


@pytest.mark.parametrize(("number", "dimension"), [(2, 3), (3, 1), (17, 2), (300, 4), (900, 32)])
def test_the_merges_are_scipys(rng, number, dimension):
    points = speakers(rng, number, dimension)
    expected, found = linkage(points, "centroid"), centroid_linkage(points)
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], atol=1e-12)


def test_inversions_are_kept(rng):
    """The third corner of a triangle is nearer to the middle of the others than to either of them."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2 + 1e-3]])
    first, second = centroid_linkage(corners)[:, 2]
    assert second < first
    np.testing.assert_allclose([first, second], linkage(corners, "centroid")[:, 2])


def test_equal_embeddings_merge_first_at_height_zero(rng):
    points = np.repeat(speakers(rng, 40, 8), 3, axis=0)
    heights = centroid_linkage(points)[:, 2]
    np.testing.assert_allclose(heights[:80], 0, atol=1e-7)
    assert (heights[80:] > 0.01).all()


def test_memory_grows_with_the_embeddings_and_not_with_their_square(rng):
    peaks = []
    for number in (500, 1000):
        points = speakers(rng, number, 8)
        tracemalloc.start()
        centroid_linkage(points)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0]


def test_a_dendrogram_of_many_embeddings_cuts_alike(rng, monkeypatch):
    embeddings = 3 * speakers(rng, 400, 16)
    expected = Dendrogram.of(embeddings)
    monkeypatch.setattr(ahc, "MOST_IN_A_MATRIX", 399)
    found = Dendrogram.of(embeddings)
    for threshold in np.linspace(0.1, 1.3, 25):
        np.testing.assert_array_equal(found.cut(threshold), expected.cut(threshold))


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.zeros(5), np.array([[0.0], [np.nan]])])
def test_points_without_a_clustering_are_refused(points):
    with pytest.raises(ValueError, match="points must"):
        centroid_linkage(points)
