"""Whole grids give what every cell gives on its own; what cannot be swept is said in words."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from plain_sweep import cluster_plainly, jer_plainly, run_plainly, score_plainly
from pyannote.core import Annotation, Segment, Timeline
from recorded_clusterings import CONVENTIONS, load_recording, read_cases

import workbench
from workbench import InputError, RecordingError
from workbench.clustering import PLDA, AHCParams, TrainingSet, VBxParams, mark_inactive
from workbench.features import save_features
from workbench.reconstruction import discrete_diarization, reconstruct
from workbench.scoring import score_files
from workbench.sweeps import RESULT_COLUMNS, Grid, PluginParams, RecordingSweep, SweepSettings
from workbench.sweeps.activation import SlotActivity
from workbench.sweeps.chunks import ChunkSweep
from workbench.sweeps.summary import summarize
from workbench.synthetic import make_meeting, make_plda
from workbench.types import Features, SlidingWindow

SECONDS = ("total", "correct", "missed", "false_alarm", "confusion")


@pytest.fixture(scope="module")
def plda():
    return make_plda(np.random.default_rng(7), 48, 24)


@pytest.fixture(scope="module")
def meeting(plda):
    """Two minutes of four people, with a few embeddings missing."""
    features, reference = make_meeting(
        np.random.default_rng(3), plda, seconds=120, num_speakers=4, noise=0.8, uri="meeting"
    )
    features.embeddings[5:60:11, 1] = np.nan
    return features, reference


GRIDS = {
    "vbx": (SweepSettings(), {"Fa": [0.05, 0.2], "Fb": [0.8, 6.0], "ahc_threshold": [0.4, 0.6, 0.9]}),
    "vbx, numbers": (
        SweepSettings(),
        {"lda_dim": [8, 24], "max_iters": [1, 5, 20], "init_smoothing": [0.0, 7.0], "max_speakers": [1, 2]},
    ),
    "vbx, Markov": (SweepSettings(), {"loop_prob": [None, 0.0, 0.5, 0.9], "Fb": [0.8, 6.0]}),
    "community-1": (
        SweepSettings.preset("community-1"),
        {"Fa": [0.07, 0.3], "num_speakers_forced": [None, 2, 3], "ahc_threshold": [0.5, 0.7]},
    ),
    "ahc": (
        SweepSettings(clustering=AHCParams(min_cluster_size=5)),
        {
            "ahc_threshold": [0.3, 0.5, 0.7, 0.9],
            "min_cluster_size": [1, 4, 10],
            "linkage": ["centroid", "average"],
        },
    ),
    "pyannote-3.1": (
        SweepSettings.preset("pyannote-3.1"),
        {"ahc_threshold": [0.4, 0.7, 1.0], "max_speakers": [None, 2], "num_speakers_forced": [None, 3]},
    ),
    "what follows": (
        SweepSettings(clustering=AHCParams(min_cluster_size=5, ahc_threshold=0.6)),
        {
            "median_filter": [1, 11],
            "onset": [0.3, 0.5, 0.9],
            "min_duration_on": [0.0, 0.4],
            "min_duration_off": [0.0, 0.6],
        },
    ),
    "presets": (SweepSettings(), {"preset": ["diarizen", "pyannote-3.1", "community-1"], "Fb": [0.8, 4.0]}),
    "methods": (SweepSettings(), {"method": ["ahc", "vbx"], "Fa": [0.07, 0.3], "min_cluster_size": [2, 10]}),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_is_what_the_pipeline_gives(meeting, plda, name):
    features, reference = meeting
    base, values = GRIDS[name]
    grid = Grid.of(values, base)
    sweep = RecordingSweep(features, reference, base=base, plda=plda)
    table = sweep.evaluate(grid.cells())
    assert list(table.columns) == ["uri", *values, *RESULT_COLUMNS]
    assert len(table) == len(grid)
    hypotheses: dict[int, Annotation] = {}
    for row, cell, settings in zip(
        table.itertuples(), grid.cells().to_dict("records"), grid.settings(), strict=True
    ):
        hypothesis = run_plainly(features, settings, plda)
        ours = sweep.hypothesis(cell)
        assert list(ours.itertracks(yield_label=True)) == list(hypothesis.itertracks(yield_label=True))
        expected = score_plainly(reference, hypothesis)
        assert {key: getattr(row, key) for key in SECONDS} == pytest.approx(expected, abs=1e-9)
        assert row.jer == pytest.approx(jer_plainly(reference, hypothesis), abs=1e-12)
        assert row.num_speakers == len(hypothesis.labels())
        # equal numbers mean equal output, up to the names of speakers
        first = hypotheses.setdefault(row.partition, hypothesis)
        assert first.get_timeline() == hypothesis.get_timeline()
        assert len(first.labels()) == len(hypothesis.labels())


@pytest.mark.parametrize(
    ("collar", "skip_overlap", "uem"),
    [(0.25, False, None), (0.0, True, None), (0.1, True, Timeline([Segment(5, 40), Segment(50, 130)]))],
)
def test_scores_are_those_of_pyannote_metrics(meeting, plda, collar, skip_overlap, uem):
    features, reference = meeting
    sweep = RecordingSweep(features, reference, plda=plda, uem=uem, collar=collar, skip_overlap=skip_overlap)
    grid = Grid.parse(["Fb=0.5,3,20", "min_duration_off=0,0.5", "onset=0.4,0.5"])
    table = sweep.evaluate(grid.cells())
    for row, settings in zip(table.itertuples(), grid.settings(), strict=True):
        hypothesis = run_plainly(features, settings, plda)
        expected = score_plainly(reference, hypothesis, uem, collar, skip_overlap)
        assert {key: getattr(row, key) for key in SECONDS} == pytest.approx(expected, abs=1e-9)
        assert row.jer == pytest.approx(jer_plainly(reference, hypothesis, uem), abs=1e-12)


def test_the_jer_of_a_summary_is_pooled_as_scores_of_files_are(plda):
    """One recording holds two speakers, the other five, a third nobody: every speaker weighs the same."""
    grid = Grid.parse(["Fb=0.5,3,20", "ahc_threshold=0.5,0.8"])
    meetings = [
        make_meeting(
            np.random.default_rng(seed), plda, seconds=60, num_speakers=num, noise=0.8, uri=f"m{num}"
        )
        for seed, num in enumerate((2, 5))
    ]
    references = {features.uri: reference for features, reference in meetings}
    silent = dataclasses.replace(meetings[0][0], uri="silent")
    features = [*(each for each, _ in meetings), silent]
    references["silent"] = Annotation(uri="silent")
    results = workbench.sweep(features, references, grid, plda=plda)
    assert results.groupby("uri")["num_scored_speakers"].first().to_dict() == {"m2": 2, "m5": 5, "silent": 0}
    for row, settings in zip(summarize(results, grid.names).itertuples(), grid.settings(), strict=True):
        hypotheses = {each.uri: run_plainly(each, settings, plda) for each in features}
        assert row.jer == pytest.approx(score_files(references, hypotheses).overall.jer, abs=1e-12)
    alone = summarize(results[results["uri"] == "silent"], grid.names)
    assert alone["jer"].tolist() == [1.0] * len(grid)  # nobody spoke, and somebody was found


@pytest.mark.golden
@pytest.mark.parametrize("version", CONVENTIONS)
@pytest.mark.parametrize(
    "name", ["r00_none", "r01_one", "r02_two", "r03_few", "r06_s2", "r08_mid", "r10_big"]
)
def test_labels_are_the_originals(golden, name, version):
    folder = golden / "clustering" / "recordings"
    features, model = load_recording(folder, name)
    plda = PLDA.load(golden / "clustering" / f"plda_{model}")
    cases = [case for case in read_cases(folder, name, version) if "error" not in case[0]]
    engine = ChunkSweep(features, None, plda, {})
    found = {}
    settings = [SweepSettings(clustering=params) for _, params in cases]
    for index, outcome in engine.outcomes(settings):
        found[index] = outcome
    with np.load(folder / f"{name}__{version}.npz") as archive:
        recorded = archive["hard"]
    training, compared = TrainingSet(features, CONVENTIONS[version]), 0
    for index, (case, _) in enumerate(cases):
        if case["stable"]:
            compared += 1
            expected = mark_inactive(recorded[case["index"]], features.segmentations)
            np.testing.assert_array_equal(found[index].hard_clusters, expected, err_msg=str(case))
        if index % 20 == 0:
            hard_clusters, elbo = cluster_plainly(features, settings[index], plda, training)
            expected = mark_inactive(hard_clusters, features.segmentations)
            np.testing.assert_array_equal(found[index].hard_clusters, expected, err_msg=str(case))
            np.testing.assert_allclose(found[index].elbo, elbo, rtol=1e-9)
    assert compared > 0


def test_runs_are_the_frames_bit_by_bit(rng, meeting):
    features, _ = meeting
    for axis in ("receptive_field", "chunk"):
        activity = SlotActivity(features, axis)
        for num_clusters, most, onset in ((1, None, 0.5), (3, 2, 0.3), (6, 1, 0.5), (40, None, 0.8)):
            labels = rng.integers(-1, num_clusters, features.segmentations.shape[::2])
            expected, frames = discrete_diarization(
                features, labels, max_speakers=most, frame_axis=axis, count_onset=onset
            )
            active = mark_inactive(labels, features.segmentations)
            runs = activity.diarize(active, activity.count(onset, most))
            np.testing.assert_array_equal(runs.discrete(), expected)
            assert runs.frames == frames


def test_many_clusters_are_worked_on_piece_by_piece(rng, meeting, monkeypatch):
    features, _ = meeting
    labels = mark_inactive(rng.integers(0, 9, features.segmentations.shape[::2]), features.segmentations)
    activity = SlotActivity(features)
    whole = activity.diarize(labels, activity.count())
    monkeypatch.setattr("workbench.sweeps.activation._AT_ONCE", 9 * 50)
    pieces = activity.diarize(labels, activity.count())
    np.testing.assert_array_equal(pieces.discrete(), whole.discrete())


def test_rows_do_not_depend_on_company_or_order(meeting, plda):
    features, reference = meeting
    cells = Grid.of(GRIDS["vbx"][1]).cells()
    whole = RecordingSweep(features, reference, plda=plda).evaluate(cells)
    order = np.random.default_rng(0).permutation(len(cells))
    shuffled = RecordingSweep(features, reference, plda=plda).evaluate(cells.iloc[order])
    pd.testing.assert_frame_equal(shuffled, whole.iloc[order].reset_index(drop=True), check_exact=True)
    again = pickle.loads(pickle.dumps(RecordingSweep(features, reference, plda=plda)))
    parts = [again.evaluate(cells.iloc[first : first + 5]) for first in range(0, len(cells), 5)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_exact=True)


def test_live_cells_are_the_rows(meeting, plda):
    features, reference = meeting
    sweep = RecordingSweep(features, reference, plda=plda)
    cell = {"Fa": 0.1, "Fb": 2.0, "ahc_threshold": 0.5}
    live = sweep.live(cell)
    row = sweep.evaluate(pd.DataFrame([cell])).iloc[0]
    assert live.counts.der == row["der"]
    assert live.num_speakers == row["num_speakers"]
    assert live.elbo[-1] == row["elbo"]
    hypothesis = sweep.hypothesis(cell)
    segments = sorted((segment.start, segment.end) for segment in hypothesis.itersegments())
    assert sorted({*zip(live.turns["start"], live.turns["end"], strict=True)}) == segments
    assert live.rows.shape[0] == len(live.starts)


def test_single_precision_is_close_and_says_so(meeting, plda):
    features, reference = meeting
    table = workbench.sweep(features, reference, {"precision": ["f64", "f32"], "Fb": [0.8, 4.0]}, plda=plda)
    double, single = table[:2], table[2:]
    assert table["precision"].tolist() == ["f64", "f64", "f32", "f32"]
    np.testing.assert_allclose(single["der"], double["der"], atol=0.02)


def by_threshold(features: Features, level: float = 0.5, **_: object) -> np.ndarray:
    """A clustering of one's own: by the first value of the embedding."""
    return (np.nan_to_num(features.embeddings[:, :, 0]) > level).astype(np.int64)


def test_ones_own_clustering_is_swept_like_the_built_in_ones(meeting):
    features, reference = meeting
    table = workbench.sweep(
        features, reference, {"level": [-0.1, 0.0, 0.1], "onset": [0.4, 0.5]}, clustering=by_threshold
    )
    assert table["level"].tolist() == [-0.1, -0.1, 0.0, 0.0, 0.1, 0.1]
    hypothesis = reconstruct(features, by_threshold(features, 0.0), count_onset=0.4)
    assert table["der"][2] == pytest.approx(workbench.score(reference, hypothesis).der, abs=1e-12)
    assert table["iterations"].eq(0).all()
    base = SweepSettings(clustering=PluginParams(function=by_threshold))
    cells = Grid.of({"level": [0.0]}, base).cells()
    assert RecordingSweep(features, reference, base=base).evaluate(cells)["der"][0] == table["der"][3]

    def wrong(features):
        return np.zeros(3)

    with pytest.raises(RecordingError, match="wrong must return whole numbers of shape"):
        workbench.sweep(features, reference, {"onset": [0.5]}, clustering=wrong)


def test_ones_own_clustering_cannot_change_the_features_of_other_cells(meeting):
    features, reference = meeting
    before = features.embeddings.copy()

    def centred(features, shift):
        features.embeddings[...] -= shift
        return by_threshold(features, 0.0)

    with pytest.raises(RecordingError, match="meeting: centred writes into the features"):
        workbench.sweep(features, reference, {"shift": [0.0, 1.0]}, clustering=centred)
    np.testing.assert_array_equal(features.embeddings, before)


def test_who_begins_in_the_last_frame_makes_no_other_partition():
    segmentations = np.zeros((1, 51, 1), dtype=np.float32)
    segmentations[0, 10:30] = segmentations[0, 50] = 1.0
    features = Features(
        uri="part",
        segmentations=segmentations,
        embeddings=np.ones((1, 1, 4), dtype=np.float32),
        chunks=SlidingWindow(start=0.0, duration=1.0, step=0.1),
        frames=SlidingWindow(start=0.0, duration=0.025, step=0.02),
    )
    base = SweepSettings(clustering=AHCParams())
    table = workbench.sweep(features, None, {"min_duration_on": [0.0, 0.05]}, base=base)
    assert table["num_speakers"].tolist() == [1, 1]
    assert table["partition"].tolist() == [0, 0]


def limited(features: Features, chunks: slice, usable: int | None = None) -> Features:
    embeddings = features.embeddings[chunks].copy()
    if usable is not None:
        flat = embeddings.reshape(-1, embeddings.shape[2])
        seen = np.flatnonzero(features.segmentations[chunks].any(axis=1).ravel())
        flat[seen[usable:]] = np.nan
    return Features(
        uri="part",
        segmentations=features.segmentations[chunks],
        embeddings=embeddings,
        chunks=features.chunks,
        frames=features.frames,
    )


@pytest.mark.parametrize(
    ("chunks", "usable"),
    [(slice(0, 0), None), (slice(0, 1), None), (slice(0, 12), 0), (slice(0, 12), 1), (slice(0, 12), 2)],
)
@pytest.mark.parametrize("name", ["vbx", "community-1", "ahc", "pyannote-3.1", "what follows"])
def test_hardly_anything_to_cluster_is_no_crash(meeting, plda, name, chunks, usable):
    features, reference = limited(meeting[0], chunks, usable), meeting[1]
    base, values = GRIDS[name]
    grid = Grid.of(values, base)
    table = RecordingSweep(features, reference, base=base, plda=plda).evaluate(grid.cells())
    for row, settings in list(zip(table.itertuples(), grid.settings(), strict=True))[::5]:
        expected = score_plainly(reference, run_plainly(features, settings, plda))
        assert {key: getattr(row, key) for key in SECONDS} == pytest.approx(expected, abs=1e-9)


def test_silence_and_missing_references_have_rows(meeting, plda):
    features, reference = meeting
    silent = Features(
        uri="silent",
        segmentations=np.zeros_like(features.segmentations[:5]),
        embeddings=features.embeddings[:5],
        chunks=features.chunks,
        frames=features.frames,
    )
    row = workbench.sweep(silent, reference, {"Fa": [0.07]}, plda=plda).iloc[0]
    assert row["num_speakers"] == 0
    assert row["missed"] == pytest.approx(row["total"])
    assert row["der"] == pytest.approx(1.0)
    row = workbench.sweep(features, Annotation(), {"Fa": [0.07]}, plda=plda).iloc[0]
    assert row["total"] == 0
    assert row["false_alarm"] > 0
    assert np.isnan(row["der"])
    row = workbench.sweep(features, None, {"Fa": [0.07]}, plda=plda).iloc[0]
    assert np.isnan(row["total"])
    assert np.isnan(row["jer"])
    assert row["num_speakers"] > 0


def test_one_speaker_is_one_speaker(plda):
    features, reference = make_meeting(np.random.default_rng(0), plda, seconds=60, num_speakers=1, noise=0.3)
    table = workbench.sweep(features, reference, {"Fb": [0.8, 8.0], "ahc_threshold": [0.9]}, plda=plda)
    assert table["num_speakers"].tolist() == [1, 1]
    assert (table["confusion"] == 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"FA": [0.1]}, "unknown parameter 'FA'; did you mean 'Fa'"),
        ({"Fa": []}, "Fa has no values"),
        ({"Fa": [0.1, 0.2, 0.1]}, r"Fa lists 0.1 twice"),
        ({"Fa": [0.1, float("nan")]}, "Fa must have a value"),
        ({"Fa": [0.1, float("inf")]}, "Fa takes finite numbers"),
        ({"Fa": [-1.0]}, "Fa must be a number above 0, got -1.0"),
        ({"Fa": ["a lot"]}, "Fa must be a number"),
        ({"max_iters": [2.5]}, "max_iters takes whole numbers"),
        ({"median_filter": [4]}, "median_filter must be an odd number"),
        ({"median_filter": [99999]}, "median_filter must be an odd number .*9999 is the most"),
        ({"min_cluster_size": [3]}, "min_cluster_size is no parameter of the clustering 'vbx'"),
        ({"method": ["kmeans"]}, "method must be one of ahc, vbx"),
        ({"preset": ["best"]}, "unknown preset 'best'; known are"),
        ({"min_speakers": [1, 5], "max_speakers": [3]}, "min_speakers .5. must not exceed max_speakers .3."),
        ({"num_speakers": [2], "num_speakers_forced": [3]}, "are two names of one parameter"),
        ({"num_speakers": [2.5]}, "num_speakers_forced takes whole numbers"),
        ({"der": [0.5]}, "der is a column of the results"),
        ({"loop_prob": [1.5]}, "loop_prob must be a probability"),
        ({"onset": [0.0]}, "onset must be a fraction above 0"),
        ({"precision": ["f16"]}, "precision must be one of"),
    ],
)
def test_what_cannot_be_swept_is_said(values, message):
    with pytest.raises(InputError, match=message):
        Grid.of(values)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("Fa", "must read NAME=a,b,c or NAME=start:stop:num"),
        ("Fa=", "Fa has no values"),
        ("Fa=0.1,,0.2", "Fa takes numbers, got ''"),
        ("Fa=0.1:0.2", "Fa takes numbers"),
        ("Fa=0.1:0.2:0", "num a whole number of at least 1"),
        ("Fa=0.1:0.2:1.5", "num a whole number of at least 1"),
        ("Fa=0.1:0.2:nan", "num a whole number of at least 1"),
        ("Fa=0.1:inf:3", "from one finite number to another"),
        ("Fa=0.1:0.2:1e12", "asks for 1000000000000.0 values"),
        ("min_cluster_size=5:6:3", "min_cluster_size takes whole numbers, got 5.5"),
    ],
)
def test_a_wrong_grid_text_is_said(spec, message):
    with pytest.raises(InputError, match=message):
        Grid.parse([spec])


def test_the_number_of_speakers_is_swept_under_a_name_that_no_result_has(meeting, plda):
    features, reference = meeting
    base = SweepSettings.preset("community-1")
    for grid in (["num_speakers=none,2,3"], {"num_speakers": [None, 2, 3]}):
        table = workbench.sweep(features, reference, grid, base=base, plda=plda)
        assert table["num_speakers_forced"].tolist() == [pd.NA, 2, 3]
        assert table["num_speakers"].tolist()[1:] == [2, 3]
    sweep = RecordingSweep(features, reference, base=base, plda=plda)
    assert len(sweep.hypothesis({"num_speakers": 2}).labels()) == 2
    with pytest.raises(InputError, match="two names of one parameter"):
        base.replace(num_speakers=2, num_speakers_forced=2)

    def split(features, num_speakers):
        return (
            np.arange(features.embeddings[..., 0].size).reshape(features.embeddings.shape[:2]) % num_speakers
        )

    own = workbench.sweep(features, reference, {"num_speakers": [1, 2]}, clustering=split)
    assert own["num_speakers_forced"].tolist() == [1, 2]


def test_grids_are_read_as_written():
    grid = Grid.parse(["Fa=0.05,0.07", "ahc_threshold=0.4:0.6:3", "lda_dim=none,32"])
    assert grid.values == {"Fa": (0.05, 0.07), "ahc_threshold": (0.4, 0.5, 0.6), "lda_dim": (None, 32)}
    cells = grid.cells()
    assert len(cells) == len(grid) == 12
    assert cells.dtypes.astype(str).to_dict() == {
        "Fa": "float64",
        "ahc_threshold": "float64",
        "lda_dim": "Int64",
    }
    assert cells["lda_dim"].tolist()[:3] == [pd.NA, 32, pd.NA]
    with pytest.raises(InputError, match="Fa is given twice"):
        Grid.parse(["Fa=0.1", "Fa=0.2"])
    settings = list(grid.settings())
    assert settings[0] == SweepSettings(clustering=VBxParams(Fa=0.05, ahc_threshold=0.4, lda_dim=None))


def test_what_a_sweep_needs_is_asked_for(meeting):
    features, reference = meeting
    with pytest.raises(InputError, match="needs a PLDA"):
        workbench.sweep(features, reference, {"Fa": [0.1]})
    with pytest.raises(InputError, match="no reference for recording 'meeting'; there are other"):
        workbench.sweep(features, {"other": reference}, {"method": ["ahc"]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 5}, "features must be Features, their files"),
        ({"features": [None]}, "features must be Features, their files .* got NoneType"),
        ({"features": np.zeros((3, 4))}, "features must be .* got ndarray"),
        ({"references": 5}, "references must be an RTTM file, or annotations by recording, got int"),
        ({"references": [Annotation()]}, "references must be .* got list"),
        ({"references": {"meeting": "a.rttm"}}, r"references\['meeting'\] must be an Annotation, got str"),
        ({"grid": 5}, "grid must map names to values, or list texts NAME=a,b,c .* got int"),
        ({"grid": [0.1]}, "grid must map names to values, .* got float"),
        ({"grid": {5: [1]}}, "must map names of parameters to values, got int"),
        ({"grid": {"method": [5]}}, "method takes names, got 5"),
        ({"base": AHCParams()}, r"base must be SweepSettings, .* got AHCParams"),
        ({"plda": np.ones(3)}, "plda must be a PLDA, or the folder of one, got ndarray"),
        ({"uem": Timeline()}, "uem must be a UEM file, or Timelines by recording, got Timeline"),
        ({"uem": {"meeting": [0, 1]}}, r"uem\['meeting'\] must be a Timeline, got list"),
        ({"collar": "0.25"}, "collar must be a number of seconds of at least 0, got str"),
        ({"skip_overlap": "no"}, "skip_overlap must be True or False, got str"),
        ({"clustering": "ahc"}, "clustering must be a function, got 'ahc'"),
        ({"hook": 5}, "hook must be a function of .done, total., got int"),
        ({"jobs": "2"}, "jobs must be a whole number of processes of at least 1, got str"),
        ({"jobs": 0}, "jobs must be a whole number of processes of at least 1, got 0"),
        ({"executor": 2}, "executor must be a concurrent.futures.Executor, got int"),
        ({"out": 5}, "out must be the path of a folder, got int"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(meeting, arguments, message):
    features, reference = meeting
    given = {"features": features, "references": reference, "grid": {"method": ["ahc"]}} | arguments
    with pytest.raises(InputError, match=message):
        workbench.sweep(**given)


def test_what_belongs_to_one_recording_is_not_taken_for_another(meeting):
    features, reference = meeting
    both = [features, dataclasses.replace(features, uri="other")]
    with pytest.raises(InputError, match="references is one annotation, but there are 2 recordings"):
        workbench.sweep(both, reference, {"method": ["ahc"]})
    with pytest.raises(InputError, match="this Grid was made for other parameters"):
        workbench.sweep(features, reference, Grid.of({"onset": [0.5]}), clustering=by_threshold)
    with pytest.raises(InputError, match="features must be what load_features gives, got str"):
        RecordingSweep("meeting.npz", reference)
    with pytest.raises(InputError, match="cells must be a table of parameters"):
        RecordingSweep(features, reference).evaluate({"method": ["ahc"]})


def test_a_file_that_cannot_be_read_does_not_lose_the_others(meeting, tmp_path):
    features, reference = meeting
    grid = {"method": ["ahc"]}
    save_features(tmp_path / "good.npz", features)
    (tmp_path / "bad.npz").write_bytes(b"PK not really")
    with pytest.warns(UserWarning, match=r"a recording is left out: .*bad\.npz"):
        table = workbench.sweep(tmp_path, {"meeting": reference}, grid)
    assert table["uri"].tolist() == ["meeting"]
    with pytest.raises(RecordingError, match=r"bad\.npz"):
        workbench.sweep(tmp_path / "bad.npz", {"meeting": reference}, grid)


def test_a_grid_too_large_to_be_listed_is_refused_before_memory_is_asked_for():
    grid = Grid.parse(["Fa=0.1:0.2:100000", "Fb=1:2:100000"])
    assert len(grid) == 10**10
    with pytest.raises(InputError, match="10000000000 combinations"):
        grid.cells()


def test_ones_own_parameters_arrive_in_the_type_that_was_given(meeting):
    seen = []

    def clustering(features, k, soft, scale):
        seen.append((k, soft, scale))
        return np.zeros(features.embeddings.shape[:2], dtype=int)

    grid = {"k": [1, 2], "soft": [True, False], "scale": [0.5, 2]}
    workbench.sweep(meeting[0], meeting[1], grid, clustering=clustering)
    assert {tuple(map(type, values)) for values in seen} == {(int, bool, float)}
