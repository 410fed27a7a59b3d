"""Walking steps: every planted difference is found in its step, with element, values and time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

from workbench.errors import InputError
from workbench.steps import open_steps, step_of, walk_steps
from workbench.steps.clock import Clock
from workbench.steps.partitions import compare_linkages, compare_partitions
from workbench.steps.walk import parse_tolerances
from workbench.types import Geometry

GEOMETRY = Geometry(
    sample_rate=16000,
    chunk_duration=2.0,
    chunk_step=0.5,
    frame_start=0.0,
    frame_duration=0.02,
    frame_step=0.02,
    powerset=((), (0,), (1,), (0, 1)),
)
CLOCK = Clock(geometry=GEOMETRY)
NUM_CHUNKS, NUM_FRAMES = 9, 100


@pytest.fixture
def arrays(rng) -> dict[str, np.ndarray]:
    """The steps of six seconds, all of them."""
    log_probs = np.log(rng.dirichlet(np.ones(4), (NUM_CHUNKS, NUM_FRAMES))).astype(np.float32)
    multilabel = (rng.random((NUM_CHUNKS, NUM_FRAMES, 2)) < 0.5).astype(np.float32)
    embeddings = rng.standard_normal((NUM_CHUNKS, 2, 8)).astype(np.float32)
    filtered = embeddings.reshape(-1, 8)[:12]
    gamma = rng.dirichlet(np.ones(3), 12)
    clusters = np.array([[n % 3, (n + 1) % 3] for n in range(NUM_CHUNKS)])
    discrete = np.zeros((300, 3), dtype=np.uint8)
    discrete[:100, 0] = discrete[80:200, 1] = discrete[200:, 2] = 1
    starts = 8000 * np.arange(NUM_CHUNKS)
    return {
        "samples": (0.1 * rng.standard_normal(96000)).astype(np.float32),
        "chunks": np.stack([starts, starts + 32000], axis=1),
        "embedding_fbank": rng.standard_normal((NUM_CHUNKS, 198, 4)).astype(np.float32),
        "log_probs": log_probs,
        "multilabel": multilabel,
        "segmentations": multilabel,
        "count": rng.integers(0, 3, 300),
        "masks": multilabel.transpose(0, 2, 1),
        "embeddings": embeddings,
        "filtered_embeddings": filtered,
        "plda_features": rng.standard_normal((12, 5)),
        "dendrogram": linkage(filtered, "centroid"),
        "ahc_labels": np.arange(12) % 4,
        "vbx_gamma": gamma,
        "vbx_pi": gamma.mean(axis=0),
        "hard_clusters": clusters,
        "discrete_diarization": discrete,
        "segments": np.array([[0.0, 2.0, 0], [1.6, 4.0, 1], [4.0, 6.0, 2]]),
    }


def write_side(folder, arrays, geometry=GEOMETRY):
    folder.mkdir()
    np.savez(folder / "one.npz", **arrays)
    fields = dict(geometry.__dict__) | {"powerset": [list(each) for each in geometry.powerset]}
    (folder / "geometry.json").write_text(json.dumps(fields))
    return folder


def walked(tmp_path, arrays, changed, **options):
    sides = [write_side(tmp_path / "right", arrays), write_side(tmp_path / "wrong", arrays | changed)]
    return walk_steps(sides, **options)


def first_of(walk):
    return walk.first(*walk.pairs[0])[1]


def test_equal_sides_agree_in_every_step(tmp_path, arrays):
    walk = walked(tmp_path, arrays, {})
    assert walk.agree
    assert {step.status for step in walk.walks[0].steps} == {"same"}
    assert "agrees with" in walk.verdict[0]
    assert "exactly in all 18 steps" in walk.verdict[0]


FIRST_VALUE = {
    "samples": ((800,), 1.0, (0.05, 0.0500625)),
    "embedding_fbank": ((3, 10, 2), 5.0, (1.6, 1.61)),
    "log_probs": ((2, 50, 1), 4.0, (2.0, 2.02)),
    "count": ((100,), 1, (2.0, 2.02)),
    "embeddings": ((4, 1, 3), 2.0, (2.0, 4.0)),
    "filtered_embeddings": ((5, 3), 2.0, (1.0, 3.0)),
    "plda_features": ((5, 3), 2.0, (1.0, 3.0)),
}


@pytest.mark.parametrize("name", FIRST_VALUE)
def test_a_changed_value_is_named_with_step_element_values_and_time(tmp_path, arrays, name):
    index, change, span = FIRST_VALUE[name]
    wrong = arrays[name].copy()
    wrong[index] += change
    walk = walked(tmp_path, arrays, {name: wrong})
    assert not walk.agree
    found = first_of(walk)
    assert found.step == step_of(name).name
    assert found.index == index
    assert found.values == pytest.approx((float(arrays[name][index]), float(wrong[index])))
    assert found.at == pytest.approx(span)
    assert found.max_abs_diff == pytest.approx(change, rel=1e-4)
    assert f"first differs from {walk.sides[0]} in step {found.step}" in walk.verdict[0]


def test_the_time_range_reaches_from_the_first_to_the_last_difference(tmp_path, arrays):
    wrong = arrays["log_probs"].copy()
    wrong[1, 10] += 1
    wrong[6, 90] += 1
    found = first_of(walked(tmp_path, arrays, {"log_probs": wrong}))
    assert (found.start, found.end) == pytest.approx((0.7, 4.82))
    assert found.num_different == 8


def test_differences_within_the_tolerance_are_no_divergence_and_tolerances_can_be_given(tmp_path, arrays):
    wrong = {"log_probs": arrays["log_probs"] + np.float32(5e-4)}
    walk = walked(tmp_path, arrays, wrong)
    assert walk.agree
    assert "within the tolerances" in walk.verdict[0]
    sides = [tmp_path / "right", tmp_path / "wrong"]
    assert not walk_steps(sides, tolerances=parse_tolerances(["scores=0.0001"])).agree


def test_nan_on_one_side_differs_and_on_both_does_not(tmp_path, arrays):
    both = arrays["embeddings"].copy()
    both[0, 0] = np.nan
    one = both.copy()
    one[3, 1, 2] = np.nan
    arrays = arrays | {"embeddings": both}
    found = first_of(walked(tmp_path, arrays, {"embeddings": one}))
    assert (found.step, found.index, found.num_different) == ("embeddings", (3, 1, 2), 1)


def test_other_frame_counts_are_said_in_words(tmp_path, arrays):
    fewer = {name: arrays[name][:, :95] for name in ("log_probs", "multilabel", "segmentations")}
    found = first_of(walked(tmp_path, arrays, fewer))
    assert found.step == "scores"
    assert "100 frames per chunk against 95: scale 0.950" in found.words
    assert "drift by up to 0.10 s" in found.words
    assert "what both have is the same" in found.words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 32768, "the same times 32768"),
        (lambda x: x[:-160], "96000 samples against 95840: 10.0 ms shorter"),
    ],
)
def test_scaled_and_shortened_samples_are_recognised(tmp_path, arrays, change, words):
    found = first_of(walked(tmp_path, arrays, {"samples": change(arrays["samples"])}))
    assert found.step == "samples"
    assert words in found.words


def test_transposed_axes_and_fortran_order_are_recognised(tmp_path, arrays):
    turned = {"log_probs": arrays["log_probs"].transpose(0, 2, 1)}
    assert "axes in the order (chunk, class, frame)" in first_of(walked(tmp_path, arrays, turned)).words
    scores = arrays["log_probs"]
    fortran = scores.ravel(order="F").reshape(scores.shape)
    write_side(tmp_path / "fortran", arrays | {"log_probs": fortran})
    found = first_of(walk_steps([tmp_path / "right", tmp_path / "fortran"]))
    assert "Fortran order" in found.words


def test_names_of_speakers_do_not_matter_but_moved_ones_do(tmp_path, arrays):
    renamed = {
        "hard_clusters": (arrays["hard_clusters"] + 1) % 3,
        "ahc_labels": (arrays["ahc_labels"] * 3 + 1) % 4,
        "discrete_diarization": arrays["discrete_diarization"][:, [2, 0, 1]],
        "segments": arrays["segments"] * [1, 1, -1] + [0, 0, 2],
        "vbx_gamma": arrays["vbx_gamma"][:, [1, 2, 0]],
        "vbx_pi": arrays["vbx_pi"][[1, 2, 0]],
        "plda_features": arrays["plda_features"] * [1, -1, 1, -1, -1],
    }
    assert walked(tmp_path, arrays, renamed).agree
    moved = arrays["hard_clusters"].copy()
    moved[4, 0] = (moved[4, 0] + 1) % 3
    write_side(tmp_path / "moved", arrays | {"hard_clusters": moved})
    found = first_of(walk_steps([tmp_path / "right", tmp_path / "moved"]))
    assert (found.step, found.index, found.details["moved"]) == ("labels", (4, 0), 1)
    assert 0 < found.details["ari"] < 1
    assert found.at == pytest.approx((2.0, 4.0))


def test_labels_of_local_speakers_who_never_talk_mean_nothing():
    step = step_of("hard_clusters")
    first = np.array([[0, 1], [1, -2], [0, 1]])
    second = np.array([[1, 0], [0, 1], [1, 0]])
    active = np.array([[1, 1], [1, 0], [1, 1]], dtype=bool)
    assert compare_partitions(step, first, second, CLOCK, active).status == "same"
    active[1, 1] = True  # talks, and one side has no speaker for it
    assert compare_partitions(step, first, second, CLOCK, active).index == (1, 1)


def test_a_speaker_split_in_two_is_a_moved_label():
    step = step_of("hard_clusters")
    first = np.zeros((6, 1), dtype=int)
    second = np.array([[0], [0], [0], [0], [1], [1]])
    found = compare_partitions(step, first, second, CLOCK)
    assert (found.num_different, found.index) == (2, (4, 0))
    assert "1 clusters against 2" in found.words


def test_merges_are_compared_row_by_row_with_inversions_allowed(rng):
    step = step_of("dendrogram")
    merges = linkage(rng.standard_normal((40, 3)), "centroid")
    assert (np.diff(merges[:, 2]) < 0).any()
    swapped = merges[:, [1, 0, 2, 3]]
    found = compare_linkages(step, merges, swapped, CLOCK)
    assert found.status == "same"
    assert found.details["inversions_baseline"] > 0
    higher = merges.copy()
    higher[17, 2] *= 1.1
    found = compare_linkages(step, merges, higher, CLOCK)
    assert (found.index, found.num_different) == ((17, 2), 1)
    other = compare_linkages(step, merges, linkage(rng.standard_normal((40, 3)), "average"), CLOCK)
    assert other.status == "differs"
    assert other.index[0] == 0


def test_the_same_tree_with_rows_in_another_order_is_recognised():
    step = step_of("dendrogram")
    first = np.array([[0, 1, 0.1, 2], [2, 3, 0.2, 2], [4, 5, 0.5, 4.0]])
    second = np.array([[2, 3, 0.2, 2], [0, 1, 0.1, 2], [4, 5, 0.5, 4.0]])
    found = compare_linkages(step, first, second, CLOCK)
    assert found.status == "within"
    assert "another order of rows" in found.words


def test_turns_differ_beyond_rounding_only(tmp_path, arrays):
    rounded = arrays["segments"] + [[0.0004, -0.0004, 0]]
    later = arrays["segments"] + [[0, 0, 0], [0, 0, 0], [0.5, 0, 0]]
    assert walked(tmp_path, arrays, {"segments": rounded}).agree
    write_side(tmp_path / "later", arrays | {"segments": later})
    found = first_of(walk_steps([tmp_path / "right", tmp_path / "later"]))
    assert found.step == "segments"
    assert found.at == pytest.approx((4.0, 4.5))
    assert "0.50 s of speech differ" in found.words


def test_three_sides_tell_which_hop_brought_the_difference(tmp_path, arrays):
    wrong = arrays["count"].copy()
    wrong[7] += 1
    sides = [
        write_side(tmp_path / "torch", arrays),
        write_side(tmp_path / "python", arrays | {"log_probs": arrays["log_probs"] + np.float32(1e-5)}),
        write_side(tmp_path / "cpp", arrays | {"count": wrong}),
    ]
    walk = walk_steps(sides)
    torch, python, cpp = walk.sides
    assert walk.pairs == [(torch, python), (torch, cpp), (python, cpp)]
    assert walk.first(torch, python) is None
    assert walk.first(python, cpp)[1].step == walk.first(torch, cpp)[1].step == "count"


def test_the_earliest_step_over_all_recordings_is_named(tmp_path, arrays):
    wrong = arrays["count"].copy()
    wrong[7] += 1
    sides = [write_side(tmp_path / "a", arrays), write_side(tmp_path / "b", arrays | {"count": wrong})]
    np.savez(sides[0] / "two.npz", **arrays)
    np.savez(sides[1] / "two.npz", **(arrays | {"log_probs": arrays["log_probs"] * np.float32(1.5)}))
    walk = walk_steps(sides)
    uri, found = walk.first(*walk.pairs[0])
    assert (uri, found.step) == ("two", "scores")
    table = walk.table()
    assert set(table["uri"]) == {"one", "two"}
    assert len(table) == 36


def test_a_recording_on_one_side_only_and_a_damaged_one_fail_alone(tmp_path, arrays):
    sides = [write_side(tmp_path / "a", arrays), write_side(tmp_path / "b", arrays)]
    np.savez(sides[0] / "only.npz", **arrays)
    for side in sides:
        np.savez(side / "broken.npz", **arrays)
    content = (sides[1] / "broken.npz").read_bytes()
    (sides[1] / "broken.npz").write_bytes(content[: len(content) // 2])
    walk = walk_steps(sides)
    reasons = dict(walk.failed)
    assert "holds no recording 'only'" in reasons["only"]
    assert "broken.npz" in reasons["broken"]
    assert [each.uri for each in walk.walks] == ["one"]
    assert not walk.agree


def test_no_common_step_or_recording_is_no_agreement(tmp_path, arrays):
    sides = [
        write_side(tmp_path / "a", {"log_probs": arrays["log_probs"]}),
        write_side(tmp_path / "b", {"count": arrays["count"]}),
    ]
    walk = walk_steps(sides)
    assert not walk.agree
    assert "nothing was compared" in walk.verdict[0]
    np.savez(sides[1] / "two.npz", count=arrays["count"])
    (sides[1] / "one.npz").rename(sides[1] / "three.npz")
    with pytest.raises(InputError, match="no recording in common"):
        walk_steps(sides)


@pytest.mark.parametrize("text", ["scores", "scores=x", "scores=-1", "scores=1,2,3", "scroes=1"])
def test_tolerances_that_mean_nothing_are_refused(text):
    with pytest.raises(InputError):
        parse_tolerances([text])


def test_one_side_alone_is_refused(tmp_path, arrays):
    with pytest.raises(InputError, match="two or more"):
        walk_steps([write_side(tmp_path / "a", arrays)])


def test_geometry_of_the_other_side_serves_where_one_has_none(tmp_path, arrays):
    sides = [write_side(tmp_path / "a", arrays), write_side(tmp_path / "b", arrays)]
    (sides[0] / "geometry.json").unlink()
    folder = open_steps(sides[0])
    assert folder.geometry is None
    wrong = arrays["count"].copy()
    wrong[50] += 1
    np.savez(sides[1] / "one.npz", **(arrays | {"count": wrong}))
    found = first_of(walk_steps([folder, replace(open_steps(sides[1]))]))
    assert found.at == pytest.approx((1.0, 1.02))


def test_both_values_of_every_first_difference_stand_beside_each_other(tmp_path, arrays):
    changed = arrays["log_probs"].copy()
    changed[3, 7, 2] += 0.5
    table = walked(tmp_path, arrays, {"log_probs": changed}).values()
    (row,) = table.to_dict("records")
    assert (row["step"], row["element"]) == ("scores", "chunk 3, frame 7, class 2")
    assert row["candidate_value"] - row["baseline_value"] == pytest.approx(0.5, abs=1e-6)
    assert row["time"] == pytest.approx(3 * 0.5 + 7 * 0.02)
