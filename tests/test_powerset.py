from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.ndimage import median_filter as scipy_median_filter

from workbench.powerset import (
    mapping,
    median_filter,
    permute_classes,
    powerset_classes,
    to_multilabel,
    to_powerset,
)

SIZES = [(2, 2), (3, 2), (4, 2), (4, 3), (3, 3), (5, 2), (4, 1)]


@pytest.fixture(scope="module")
def recorded(golden):
    with np.load(golden / "clustering" / "powerset.npz") as archive:
        return dict(archive)


@pytest.mark.golden
@pytest.mark.parametrize(("num_speakers", "max_set_size"), SIZES)
def test_classes_and_decoding_equal_the_original(recorded, num_speakers, max_set_size):
    classes = powerset_classes(num_speakers, max_set_size)
    case = {
        key[4:]: value for key, value in recorded.items() if key.startswith(f"{num_speakers}_{max_set_size}_")
    }
    np.testing.assert_array_equal(mapping(classes), case["mapping"])
    np.testing.assert_array_equal([len(members) for members in classes], case["cardinality"])
    np.testing.assert_array_equal(to_multilabel(case["logprobs"], classes), case["multilabel"])
    soft = to_multilabel(case["logprobs"], classes, soft=True)
    np.testing.assert_allclose(soft, case["multilabel_soft"], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(to_powerset(case["ml_in"], classes), case["ml_to_powerset"])
    np.testing.assert_array_equal(to_powerset(case["soft_in"], classes), case["soft_to_powerset"])
    for permutation, source in zip(case["perm_keys"], case["perm_values"], strict=True):
        np.testing.assert_array_equal(permute_classes(classes, permutation.tolist()), source)


def test_ties_go_to_the_first_class():
    assert to_multilabel(np.zeros((1, 4)), powerset_classes(2, 2)).tolist() == [[0.0, 0.0]]


def test_permuting_classes_permutes_speakers(rng):
    classes = powerset_classes(4, 2)
    log_probs = rng.normal(size=(2, 30, len(classes)))
    for permutation in permutations(range(4)):
        permuted = to_multilabel(log_probs[..., permute_classes(classes, permutation)], classes)
        np.testing.assert_array_equal(permuted, to_multilabel(log_probs, classes)[..., list(permutation)])


@pytest.mark.parametrize(("num_speakers", "max_set_size"), [(0, 1), (3, 0), (3, 4)])
def test_impossible_powersets_are_refused(num_speakers, max_set_size):
    with pytest.raises(ValueError, match=f"max_set_size={max_set_size}"):
        powerset_classes(num_speakers, max_set_size)


def test_scores_with_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match=r"num_frames, 4\).*got \(5, 7\)"):
        to_multilabel(np.zeros((5, 7)), powerset_classes(2, 2))
    with pytest.raises(ValueError, match=r"num_frames, 2\).*got \(5, 3\)"):
        to_powerset(np.zeros((5, 3)), powerset_classes(2, 2))


@pytest.mark.parametrize("num_frames", [1, 3, 10, 11, 12, 200])
@pytest.mark.parametrize("binary", [True, False])
def test_the_median_filter_equals_scipys(rng, num_frames, binary):
    segmentations = rng.random((3, num_frames, 4)).astype(np.float32)
    if binary:
        segmentations = np.round(segmentations)
    expected = scipy_median_filter(segmentations, size=(1, 11, 1), mode="reflect")
    filtered = median_filter(segmentations)
    np.testing.assert_array_equal(filtered, expected)
    assert filtered.dtype == segmentations.dtype


def test_the_median_filter_takes_no_chunks_at_all():
    assert median_filter(np.zeros((0, 10, 4))).shape == (0, 10, 4)


def test_an_even_filter_is_refused():
    with pytest.raises(ValueError, match="odd"):
        median_filter(np.zeros((1, 20, 2)), 10)
