from __future__ import annotations

import tomllib

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster
from threadpoolctl import threadpool_info, threadpool_limits

from workbench.clustering import (
    CLUSTERING_PRESETS,
    PLDA,
    AHCParams,
    Dendrogram,
    TrainingSet,
    VBxParams,
    cluster,
    constrained_argmax,
    mark_inactive,
    read_clustering_args,
    run_clustering,
    vbx,
)
from workbench.clustering.ahc import Agglomerations, absorb_small, agglomerate, means_of
from workbench.clustering.assignment import rank_labels
from workbench.clustering.filtering import training_mask
from workbench.clustering.params import speaker_bounds
from workbench.clustering.threads import single_blas_thread
from workbench.clustering.vbx import initial_responsibilities
from workbench.errors import InputError
from workbench.types import INACTIVE, Features, SegmentFeatures, SlidingWindow

DIMENSION, NUM_LDA = 16, 8


def features_of(embeddings, segmentations):
    return Features(
        uri="meeting",
        segmentations=np.asarray(segmentations, dtype=np.float32),
        embeddings=np.asarray(embeddings, dtype=np.float32),
        chunks=SlidingWindow(0.0, 1.0, 0.5),
        frames=SlidingWindow(0.0, 0.025, 0.02),
    )


@pytest.fixture
def meeting(rng):
    """60 chunks of 3 local speakers; who speaks is one of 3 voices, never two alike in a chunk."""
    voices = rng.normal(size=(3, DIMENSION)) * 3
    voice_of = np.stack([rng.permutation(3) for _ in range(60)])
    embeddings = voices[voice_of] + rng.normal(size=(60, 3, DIMENSION)) * 0.3
    turns = rng.integers(0, 3, (60, 10)).repeat(5, axis=1)  # one speaker at a time
    segmentations = turns[..., None] == np.arange(3)
    return features_of(embeddings, segmentations), voice_of


@pytest.fixture
def plda(rng):
    lda = np.linalg.qr(rng.normal(size=(DIMENSION, NUM_LDA)))[0]
    tr = np.linalg.qr(rng.normal(size=(NUM_LDA, NUM_LDA)))[0]
    return PLDA(
        mean1=np.zeros(DIMENSION),
        lda=lda,
        mean2=np.zeros(NUM_LDA),
        mu=np.zeros(NUM_LDA),
        tr=tr,
        psi=np.linspace(10, 20, NUM_LDA),
    )


def same_partition(labels, truth):
    pairs = set(zip(labels.tolist(), truth.tolist(), strict=True))
    return len(pairs) == len(set(labels.tolist())) == len(set(truth.tolist()))


PARAMS = [
    AHCParams(min_cluster_size=5),
    AHCParams(min_cluster_size=5, convention="pyannote-3.1"),
    AHCParams(min_cluster_size=5, convention="community-1"),
    VBxParams(Fa=0.5),  # the default is meant for the evidence of 128 dimensions, not of 8
    VBxParams(Fa=0.5, convention="community-1"),
]


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_separate_voices_become_separate_clusters(meeting, plda, params):
    features, voice_of = meeting
    result = run_clustering(features, params, plda)
    active = result.active_clusters != INACTIVE
    np.testing.assert_array_equal(active, features.segmentations.any(axis=1))
    assert same_partition(result.active_clusters[active], voice_of[active])
    assert result.num_clusters == len(result.centroids) == 3
    np.testing.assert_array_equal(cluster(features, params, plda), result.hard_clusters)
    np.testing.assert_array_equal(
        mark_inactive(result.hard_clusters, features.segmentations), result.active_clusters
    )


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("num_chunks", [0, 1, 5])
def test_silence_has_no_active_clusters(plda, params, num_chunks):
    features = features_of(np.ones((num_chunks, 3, DIMENSION)), np.zeros((num_chunks, 50, 3)))
    result = run_clustering(features, params, plda)
    np.testing.assert_array_equal(result.active_clusters, np.full((num_chunks, 3), INACTIVE))


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("usable", [0, 1, 2])
def test_a_handful_of_embeddings_is_enough(rng, plda, params, usable):
    embeddings = np.full((4, 3, DIMENSION), np.nan)
    embeddings[:usable, 0] = rng.normal(size=(usable, DIMENSION))
    segmentations = np.zeros((4, 50, 3))
    segmentations[:, :, 0] = 1
    result = run_clustering(features_of(embeddings, segmentations), params, plda)
    assert result.hard_clusters.shape == (4, 3)
    assert result.hard_clusters.dtype == np.int64
    if usable < 2:
        assert (result.hard_clusters == 0).all()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30], ids=["zero", "tiny", "huge"])
@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_embeddings_without_a_direction_in_their_precision_are_not_trained_on(meeting, plda, params, scale):
    features, _ = meeting
    features.embeddings[3] *= scale
    assert run_clustering(features, params, plda).num_clusters == 3
    assert not TrainingSet(features, params.convention).mask[3].any()


@pytest.mark.parametrize("num_speakers", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "params",
    [AHCParams(min_cluster_size=1), VBxParams(Fa=0.5, convention="community-1")],
    ids=["ahc", "vbx"],
)
def test_num_speakers_is_met(meeting, plda, params, num_speakers):
    features, _ = meeting
    wanted = type(params)(**{**vars(params), "num_speakers": num_speakers})
    bounded = type(params)(**{**vars(params), "min_speakers": num_speakers, "max_speakers": num_speakers})
    result = run_clustering(features, wanted, plda)
    assert result.num_clusters == num_speakers
    np.testing.assert_array_equal(result.hard_clusters, cluster(features, bounded, plda))


def test_diarizens_vbx_ignores_the_number_of_speakers(meeting, plda):
    features, _ = meeting
    free = cluster(features, VBxParams(), plda)
    np.testing.assert_array_equal(cluster(features, VBxParams(num_speakers=2), plda), free)


def test_more_speakers_than_embeddings_are_cut_down(rng, plda):
    features = features_of(rng.normal(size=(1, 2, DIMENSION)), np.eye(2).repeat(25, axis=0)[None])
    params = VBxParams(convention="community-1", num_speakers=5)
    assert run_clustering(features, params, plda).num_clusters == 2


def test_equal_embeddings_cannot_be_told_apart(plda):
    features = features_of(np.ones((6, 1, DIMENSION)), np.ones((6, 50, 1)))
    params = VBxParams(convention="community-1", num_speakers=3)
    result = run_clustering(features, params, plda)
    assert result.num_clusters == 1
    assert (result.hard_clusters == 0).all()


def test_vbx_reports_its_iterations(meeting, plda):
    features, _ = meeting
    result = run_clustering(features, VBxParams(Fa=0.5, max_iters=500), plda)
    assert result.converged
    assert len(result.elbo) > 2
    assert (np.diff(result.elbo[:-1]) >= 1e-4).all()  # all but the last gained
    cut_short = run_clustering(features, VBxParams(max_iters=1), plda)
    assert len(cut_short.elbo) == 1
    assert not cut_short.converged


def test_a_training_set_saves_work_without_changing_results(meeting, plda):
    features, _ = meeting
    training = TrainingSet(features, "diarizen")
    for params in (VBxParams(ahc_threshold=0.5), VBxParams(ahc_threshold=0.9, lda_dim=4), AHCParams()):
        kept = run_clustering(features, params, plda, training)
        fresh = run_clustering(features, params, plda)
        np.testing.assert_array_equal(kept.hard_clusters, fresh.hard_clusters)
        np.testing.assert_array_equal(kept.elbo, fresh.elbo)
    assert training.dendrogram() is training.dendrogram()
    assert training.project(plda) is training.project(plda)
    with pytest.raises(ValueError, match="convention"):
        run_clustering(features, AHCParams(convention="pyannote-3.1"), training=training)


def test_what_vbx_needs_is_asked_for(meeting):
    features, _ = meeting
    with pytest.raises(InputError, match="PLDA"):
        cluster(features, VBxParams())


def test_segment_features_are_refused_in_words():
    features = SegmentFeatures(uri="a", embeddings=np.zeros((2, 3)), segments=np.array([[0.0, 1], [1, 2]]))
    with pytest.raises(InputError, match="a: has one embedding per segment"):
        cluster(features, AHCParams())


def test_training_embeddings_follow_the_convention():
    segmentations = np.zeros((1, 100, 4))
    segmentations[0, :60, 0] = 1
    segmentations[0, 45:60, 1] = 1  # never alone
    segmentations[0, 60:75, 2] = 1  # alone in 15 % of the frames
    embeddings = np.ones((1, 4, 2))
    masks = {
        convention: training_mask(segmentations, embeddings, convention)[0].tolist()
        for convention in ("diarizen", "pyannote-3.1", "community-1")
    }
    assert masks == {
        "diarizen": [True, False, True, False],
        "pyannote-3.1": [True, True, True, False],
        "community-1": [True, False, False, False],
    }


def test_too_few_clean_embeddings_bring_the_others_back():
    segmentations = np.zeros((1, 100, 3))
    segmentations[0, :60, 0] = 1
    segmentations[0, 45:60, 1] = 1
    assert training_mask(segmentations, np.ones((1, 3, 2)), "diarizen")[0].tolist() == [True, True, False]
    assert training_mask(segmentations, np.ones((1, 3, 2)), "community-1")[0].tolist() == [True, False, False]


def test_large_clusters_are_counted_as_cutting_counts_them(rng):
    dendrogram = Dendrogram.of(rng.normal(size=(40, 3)))
    for min_size in (1, 2, 3, 5):
        counted = [(np.bincount(dendrogram.cut_after(merge)) >= min_size).sum() for merge in range(39)]
        np.testing.assert_array_equal(dendrogram.num_large_after(min_size), counted)


def test_one_dendrogram_serves_all_thresholds(rng):
    embeddings = rng.normal(size=(50, 4))
    dendrogram = Dendrogram.of(embeddings)
    counts = [dendrogram.cut(threshold).max() + 1 for threshold in (0.0, 0.3, 0.6, 2.0)]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (50, 1)
    assert dendrogram.cut(4, "maxclust").max() < 4


@pytest.mark.parametrize("method", ["centroid", "average", "single"])
def test_clusters_have_the_numbers_that_scipy_gives_them(rng, method):
    """Centroid linkage has inversions, whole numbers have ties."""
    for embeddings in (rng.normal(size=(60, 3)), rng.integers(1, 4, size=(60, 3)).astype(float)):
        dendrogram = Dendrogram.of(embeddings, method)
        for threshold in (-1.0, 0.0, *dendrogram.heights, *(dendrogram.heights - 1e-9), 9.0):
            expected = fcluster(dendrogram.merges, threshold, criterion="distance") - 1
            np.testing.assert_array_equal(dendrogram.cut(threshold), expected)
        by_index = dendrogram.merges.copy()
        by_index[:, 2] = np.arange(59)
        for merge in range(-1, 60):
            expected = fcluster(by_index, merge, criterion="distance") - 1
            np.testing.assert_array_equal(dendrogram.cut_after(merge), expected)


def test_cuts_and_sizes_in_any_order_give_the_same(rng):
    embeddings = rng.normal(size=(200, 3)).astype(np.float32)
    dendrogram = Dendrogram.of(embeddings)
    shared = Agglomerations(embeddings, dendrogram)
    cells = [
        AHCParams(ahc_threshold=threshold, min_cluster_size=size, max_speakers=most)
        for threshold in (0.05, 0.1, 0.2, 0.4)
        for size in (1, 2, 3, 5, 9, 20)
        for most in (3, None)
    ]
    for index in rng.permutation(len(cells)):
        expected = agglomerate(embeddings, dendrogram, cells[index])
        np.testing.assert_array_equal(shared.find(cells[index]), expected)


def test_means_of_many_clusters_are_those_of_each(rng):
    """To the last bit, for they decide which cluster is the nearest."""
    embeddings = rng.normal(size=(400, 5)).astype(np.float32)
    labels = np.concatenate([np.arange(60), rng.integers(0, 60, 340) ** 2 // 60])
    means = means_of(embeddings, labels, np.bincount(labels))
    np.testing.assert_array_equal(means, [embeddings[labels == each].mean(axis=0) for each in range(60)])


@pytest.mark.parametrize("num_embeddings", [0, 1])
def test_a_dendrogram_without_merges_can_be_cut(num_embeddings):
    dendrogram = Dendrogram.of(np.ones((num_embeddings, 3)))
    assert dendrogram.cut(0.5).tolist() == [0] * num_embeddings
    assert dendrogram.cut_after(3).tolist() == [0] * num_embeddings


def test_small_clusters_move_whole_to_the_most_similar_large_one():
    embeddings = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3 + [[0.9, 0.5], [0.8, 0.6]])
    labels = np.array([4, 4, 4, 2, 2, 2, 0, 0])
    assert absorb_small(embeddings, labels, 3).tolist() == [1, 1, 1, 0, 0, 0, 1, 1]
    assert absorb_small(embeddings, labels, 4).tolist() == [0] * 8
    assert absorb_small(embeddings, labels, 1).tolist() == labels.tolist()


def test_unreachable_bounds_come_as_near_as_possible():
    """Two pairs of equal embeddings cannot make three clusters of two."""
    embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).repeat(5, axis=0)
    params = AHCParams(min_cluster_size=13, num_speakers=8)
    labels = agglomerate(embeddings, Dendrogram.of(embeddings), params)
    assert 1 < labels.max() + 1 <= 8


def test_constrained_assignment_maximises_the_sum():
    similarity = np.array([[[1.9, 1.8], [1.8, 0.1]], [[1.0, np.nan], [np.nan, np.nan]]])
    assert constrained_argmax(similarity)[0].tolist() == [1, 0]
    assert sorted(constrained_argmax(similarity)[1].tolist()) == [0, 1]
    assert constrained_argmax(np.full((1, 2, 1), np.nan)).tolist() == [[0, INACTIVE]]


def test_ids_above_127_are_exact():
    assert constrained_argmax(np.eye(200)[None, 190:195])[0].tolist() == list(range(190, 195))


def test_left_over_speakers_become_phantom_zero():
    assert rank_labels(np.array([[0, 1, INACTIVE], [3, 1, 0]])).tolist() == [[1, 2, 0], [3, 2, 1]]
    assert rank_labels(np.array([[0, 1], [3, 1]])).tolist() == [[0, 1], [2, 1]]


def test_vbx_switches_superfluous_speakers_off(rng):
    phi = np.full(6, 10.0)
    truth = rng.integers(0, 2, 200)
    features = rng.normal(size=(2, 6))[truth] * np.sqrt(phi) + rng.normal(size=(200, 6))
    start = initial_responsibilities(truth + 2 * rng.integers(0, 2, 200))  # every speaker split in two
    posterior = vbx(features, phi, start, Fa=1.0, Fb=10.0, max_iters=40)
    kept = posterior.pi > 1e-7
    assert kept.sum() == 2
    assert same_partition(posterior.gamma[:, kept].argmax(axis=1), truth)
    np.testing.assert_allclose(posterior.gamma.sum(axis=1), 1.0)
    np.testing.assert_allclose(posterior.pi.sum(), 1.0)


def test_the_hidden_markov_model_prefers_to_stay(rng):
    phi = np.full(2, 4.0)
    features = rng.normal(size=(60, 2)) + np.repeat([[2.0, 0.0], [-2.0, 0.0]], 30, axis=0)
    start = initial_responsibilities((features[:, 0] < 0).astype(int))
    changes = [
        np.count_nonzero(np.diff(vbx(features, phi, start, Fa=0.3, Fb=1.0, loop_prob=p).gamma.argmax(axis=1)))
        for p in (0.0, 0.95)
    ]
    assert changes[1] == 1 < changes[0]


def test_results_do_not_depend_on_the_number_of_threads(rng):
    features, phi = rng.normal(size=(3000, 64)), np.linspace(10, 1, 64)
    start = initial_responsibilities(rng.integers(0, 20, 3000))
    posteriors = []
    for num_threads in (1, 4):
        with threadpool_limits(num_threads):
            posteriors.append(vbx(features, phi, start, Fa=0.07, Fb=0.8))
    np.testing.assert_array_equal(posteriors[0].gamma, posteriors[1].gamma)
    np.testing.assert_array_equal(posteriors[0].elbo, posteriors[1].elbo)


def test_inside_vbx_blas_has_one_thread():
    with threadpool_limits(2), single_blas_thread():
        used = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert used
    assert set(used) == {1}


PLDA_SHAPES = {
    "xvec_transform": {"mean1": (DIMENSION,), "mean2": (NUM_LDA,), "lda": (DIMENSION, NUM_LDA)},
    "plda": {"mu": (NUM_LDA,), "tr": (NUM_LDA, NUM_LDA), "psi": (NUM_LDA,)},
}


@pytest.fixture
def plda_folder(tmp_path, rng):
    for file, shapes in PLDA_SHAPES.items():
        np.savez(tmp_path / f"{file}.npz", **{key: rng.random(shape) + 0.1 for key, shape in shapes.items()})
    return tmp_path


def test_plda_features_have_unit_within_speaker_covariance(plda_folder, rng):
    plda = PLDA.load(plda_folder)
    assert (plda.dimension, plda.num_lda) == (DIMENSION, NUM_LDA)
    # in exact arithmetic the eigenvalues are psi, whatever tr is
    np.testing.assert_allclose(plda.phi, np.sort(plda.psi)[::-1], rtol=1e-6)
    assert plda.transform(rng.normal(size=(5, DIMENSION))).shape == (5, NUM_LDA)
    with pytest.raises(InputError, match="embeddings of 16 values, got 3"):
        plda.transform(np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("plda", {"psi": None}, "misses psi"),
        ("plda", {"psi": np.zeros(NUM_LDA)}, "psi must be positive"),
        ("plda", {"mu": np.zeros(3)}, r"mu has shape \(3,\), expected \(8,\)"),
        ("plda", {"tr": np.full((NUM_LDA, NUM_LDA), np.nan)}, "tr holds NaN"),
        ("plda", {"tr": np.zeros((NUM_LDA, NUM_LDA))}, "tr is singular"),
        ("xvec_transform", {"lda": np.zeros(3)}, "lda must hold numbers in 2"),
        ("xvec_transform", {"mean1": np.zeros(3)}, r"mean1 has shape \(3,\), expected \(16,\)"),
        ("xvec_transform", {"mean2": np.array(["a"] * NUM_LDA)}, "mean2 must hold numbers"),
        ("xvec_transform", {"mean2": np.array([None] * NUM_LDA)}, "Python objects"),
    ],
)
def test_a_broken_plda_names_file_and_key(plda_folder, file, change, message):
    path = plda_folder / f"{file}.npz"
    with np.load(path) as archive:
        arrays = {**archive, **change}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(InputError, match=rf"{file}\.npz: .*{message}"):
        PLDA.load(plda_folder)


def test_a_missing_plda_is_named(tmp_path, plda_folder):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        PLDA.load(tmp_path / "nowhere")
    (plda_folder / "plda.npz").unlink()
    with pytest.raises(InputError, match=r"plda\.npz: no such file"):
        PLDA.load(plda_folder)


def test_presets_are_the_published_values():
    assert CLUSTERING_PRESETS["diarizen"] == VBxParams(
        ahc_criterion="distance",
        ahc_threshold=0.6,
        Fa=0.07,
        Fb=0.8,
        lda_dim=128,
        max_iters=20,
        max_speakers=20,
    )
    assert CLUSTERING_PRESETS["pyannote-3.1"].ahc_threshold == 0.7045654963945799
    assert CLUSTERING_PRESETS["pyannote-3.1"].min_cluster_size == 12
    assert speaker_bounds(CLUSTERING_PRESETS["community-1"]) == (1, float("inf"))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (VBxParams, {"Fa": 0.0}, "Fa must be a number above 0"),
        (VBxParams, {"Fb": float("nan")}, "Fb must be"),
        (VBxParams, {"Fa": "0.1"}, "Fa must be a number"),
        (VBxParams, {"max_iters": 0}, "max_iters must be a whole number"),
        (VBxParams, {"max_iters": float("inf")}, "max_iters must be a whole number"),
        (VBxParams, {"lda_dim": 1.5}, "lda_dim must be a whole number"),
        (VBxParams, {"ahc_criterion": "maxclust", "ahc_threshold": 0.6}, "ahc_threshold .*whole number"),
        (VBxParams, {"ahc_criterion": "inconsistent"}, "ahc_criterion must be one of distance, maxclust"),
        (VBxParams, {"convention": "pyannote-3.1"}, "has no VBx"),
        (AHCParams, {"ahc_threshold": -1}, "ahc_threshold must be a number of at least 0"),
        (AHCParams, {"min_cluster_size": True}, "min_cluster_size must be"),
        (AHCParams, {"linkage": "median"}, "linkage must be one of"),
        (AHCParams, {"convention": "other"}, "convention must be one of"),
        (AHCParams, {"min_speakers": 3, "max_speakers": 2}, r"min_speakers \(3\) must not exceed"),
        (AHCParams, {"num_speakers": 0}, "num_speakers must be"),
    ],
)
def test_impossible_parameters_are_refused(kind, values, message):
    with pytest.raises(InputError, match=message):
        kind(**values)


def test_diarizens_table_is_read():
    text = """
    [clustering.args]
    method = "VBxClustering"
    min_speakers = 2
    max_speakers = 7
    min_cluster_size = 13  # of the other method
    ahc_threshold = 0.55
    Fa = 0.1
    lda_dim = 32
    """
    params = read_clustering_args(tomllib.loads(text), "config.toml")
    assert params == VBxParams(min_speakers=2, max_speakers=7, ahc_threshold=0.55, Fa=0.1, lda_dim=32)
    text = text.replace("VBxClustering", "AgglomerativeClustering")
    params = read_clustering_args(tomllib.loads(text), "config.toml")
    assert params == AHCParams(min_speakers=2, max_speakers=7, ahc_threshold=0.55, min_cluster_size=13)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"config\.toml: no table \[clustering\.args\]"),
        ({"clustering": 3}, r"no table \[clustering\.args\]"),
        ({"clustering": {"args": {}}}, "method must be one of .*found nothing"),
        ({"clustering": {"args": {"method": "vbx"}}}, "found 'vbx'"),
        (
            {"clustering": {"args": {"method": "VBxClustering", "ahc_treshold": 0.6}}},
            "unknown parameter 'ahc_treshold'; did you mean 'ahc_threshold'",
        ),
        ({"clustering": {"args": {"method": "VBxClustering", "FA": 0.6}}}, "did you mean 'Fa'"),
        ({"clustering": {"args": {"method": "VBxClustering", "zzz": 0.6}}}, "'zzz'; known are .*Fa"),
        (
            {"clustering": {"args": {"method": "VBxClustering", "Fa": -1}}},
            r"config\.toml: \[clustering\.args\] Fa must be",
        ),
    ],
)
def test_a_wrong_table_is_named(config, message):
    with pytest.raises(InputError, match=message):
        read_clustering_args(config, "config.toml")
