"""Pictures of embeddings: by their traces, axes and words; and the tables behind them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from pyannote.core import Annotation, Segment
from scipy.special import ndtri

from workbench.plots.embeddings import NO_LOCAL, NO_TRIALS, EmbeddingScene, plot_embeddings
from workbench.plots.embeddings_local import LocalView, describe_local, matrix_cells, outlier_bars
from workbench.plots.embeddings_tables import plot_dimensions, plot_duration, plot_throughput
from workbench.plots.embeddings_trials import (
    MOST_POINTS,
    TrialView,
    bin_edges,
    calibration_line,
    det_lines,
    det_marks,
    difference_points,
    histogram_bars,
    shown_trials,
)
from workbench.similarity import compare_local_speakers, find_stretches
from workbench.types import INACTIVE, Features, SlidingWindow
from workbench.verification import evaluate, fit_calibration


def make_view(rng, num_same=40, num_different=160, noise=0.0, threshold=0.4):
    target = np.arange(num_same + num_different) < num_same
    scores = rng.normal(np.where(target, 0.7, 0.1), 0.15)
    sides = [scores, scores + noise * rng.standard_normal(len(scores))] if noise else [scores]
    verifications = tuple(evaluate(each, target) for each in sides)
    return TrialView(
        names=("torch", "ONNX")[: len(sides)],
        verifications=verifications,
        threshold=threshold,
        scoring="cosine",
        pairs=[(f"a{number}", f"b{number}") for number in range(len(target))],
        calibration=fit_calibration(scores, target),
    )


def make_features():
    """Two voices in ten chunks; in chunk 4 local speaker 0 sounds like the other voice."""
    segmentations = np.zeros((10, 100, 2), dtype=np.float32)
    segmentations[:, 10:60, 0] = 1
    segmentations[:, 60:65, 1] = 1
    segmentations[:, 70:95, 1] = 1
    embeddings = np.zeros((10, 2, 3), dtype=np.float32)
    embeddings[:, 0], embeddings[:, 1] = (1, 0, 0.1), (0, 1, 0.1)
    embeddings[4, 0] = (0.2, 1, 0)
    return Features(
        uri="meeting",
        segmentations=segmentations,
        embeddings=embeddings,
        chunks=SlidingWindow(0.0, 4.0, 1.0),
        frames=SlidingWindow(0.0, 0.04, 0.04),
    )


CLUSTERS = np.tile([0, 1], (10, 1))


def reference():
    annotation = Annotation(uri="meeting")
    annotation[Segment(0.4, 2.4)] = "ann"
    annotation[Segment(2.8, 3.8)] = "bob"
    return annotation


def by_name(figure):
    return {trace.name: trace for trace in figure.data}


# -- trials ------------------------------------------------------------------------------------


def test_histograms_hold_every_trial_once_as_shares_of_its_kind(rng):
    view = make_view(rng)
    different, same = histogram_bars(view)
    assert (same.customdata.sum(), different.customdata.sum()) == (40, 160)
    assert same.y.sum() == pytest.approx(100)
    assert different.y.sum() == pytest.approx(100)
    edges = bin_edges(view.main.scores)
    assert edges[0] < view.main.scores.min()
    assert view.main.scores.max() < edges[-1]


def test_the_point_on_the_det_curve_is_where_the_threshold_is(rng):
    view = make_view(rng)
    curve, other = det_lines(view)
    point, hidden = det_marks(view)
    accepted = view.main.scores >= view.threshold
    miss = 1 - accepted[view.main.target].mean()
    false_alarm = accepted[~view.main.target].mean()
    assert (point["xanchor"], point["yanchor"]) == pytest.approx((ndtri(false_alarm), ndtri(miss)))
    assert len(curve.x) > 2
    assert np.isfinite(curve.customdata).all()  # JSON has no infinity
    assert (view.main.scores < curve.customdata[:, 2].max()).all()
    assert len(other.x) == 0
    assert (point["visible"], hidden["visible"]) == (True, False)


def test_the_calibration_line_crosses_even_odds_at_its_threshold(rng):
    view = make_view(rng)
    line = calibration_line(view)
    assert np.interp(50, line.y, line.x) == pytest.approx(view.calibration.threshold(), abs=0.01)


def test_differences_of_two_runtimes_show_every_flip(rng):
    view = make_view(rng, noise=0.05)
    points, flips = difference_points(view)
    assert len(points.x) == 200
    assert len(flips.x) == view.flips.sum() > 0
    change = view.verifications[1].scores - view.main.scores
    assert points.y * view.difference_scale == pytest.approx(change)
    assert 1 <= np.abs(points.y).max() < 10  # ticks stay short whatever the scale


def test_of_many_trials_those_near_the_threshold_and_all_flips_are_drawn(rng):
    view = make_view(rng, num_same=400, num_different=3000, noise=0.2)
    shown = shown_trials(view)
    assert len(shown) == MOST_POINTS
    assert set(np.flatnonzero(view.flips)) <= set(shown)


def test_axes_carry_units_and_traces_keep_their_order(rng):
    empty, full = EmbeddingScene(), EmbeddingScene(trials=make_view(rng), local=make_local())
    first, second = plot_embeddings(empty), plot_embeddings(full)
    assert [trace.name for trace in first.data] == [trace.name for trace in second.data]
    titles = {name: second.layout[name].title.text for name in ("xaxis", "yaxis", "xaxis3", "yaxis3")}
    assert titles == {
        "xaxis": "score: cosine",
        "yaxis": "trials of the kind (%)",
        "xaxis3": "false accepts (%)",
        "yaxis3": "misses (%)",
    }
    assert second.layout.width <= 1100


def test_empty_halves_say_what_to_give():
    notes = [note.text for note in plot_embeddings(EmbeddingScene()).layout.annotations]
    assert NO_TRIALS in notes
    assert NO_LOCAL in notes


# -- local speakers ----------------------------------------------------------------------------


def make_local(color_by="cluster", **options):
    found = compare_local_speakers(make_features(), CLUSTERS, reference(), **options)
    return LocalView(found=found, color_by=color_by)


def test_local_speakers_are_ordered_by_cluster_then_time():
    found = make_local().found
    assert found.table["cluster"].tolist() == [0] * 10 + [1] * 10
    assert found.table["chunk"].tolist() == [*range(10), *range(10)]
    assert found.cosine == pytest.approx(found.cosine.T)
    assert np.diag(found.cosine) == pytest.approx(np.ones(20))


def test_the_local_speaker_in_the_wrong_cluster_fits_worst():
    view = make_local()
    worst = view.found.table.iloc[view.outliers[0]]
    assert (worst["chunk"], worst["local_speaker"]) == (4, 0)
    unit = np.array([0.2, 1, 0]) / np.hypot(0.2, 1)
    ann, bob = np.array([1, 0, 0.1]) / np.hypot(1, 0.1), np.array([0, 1, 0.1]) / np.hypot(1, 0.1)
    assert worst["own"] == pytest.approx(unit @ ann)
    assert worst["other"] == pytest.approx(unit @ bob)
    assert worst["margin"] < 0
    assert worst["nearest"] == 1


def test_clusters_are_matched_to_who_really_talks():
    view = make_local()
    assert view.found.matching == {0: "ann", 1: "bob"}
    assert view.cluster_name(1) == "spk1 = bob"
    words = describe_local(view, view.outliers[0])
    assert "taken for spk0 = ann" in words
    assert "next spk1 = bob" in words


def test_a_single_cluster_has_no_other_to_resemble():
    found = compare_local_speakers(make_features(), np.zeros_like(CLUSTERS))
    assert found.table["margin"].tolist() == found.table["own"].tolist()
    assert (found.table["nearest"] == -1).all()
    assert found.matching == {}


def test_inactive_local_speakers_are_left_out_and_none_at_all_is_no_error():
    clusters = CLUSTERS.copy()
    clusters[:, 1] = INACTIVE
    assert len(compare_local_speakers(make_features(), clusters).table) == 10
    nobody = compare_local_speakers(make_features(), np.full_like(CLUSTERS, INACTIVE), reference())
    assert len(nobody.table) == 0
    plot_embeddings(EmbeddingScene(local=LocalView(found=nobody)))


def test_of_too_many_the_worst_stay():
    found = make_local(most=8).found
    assert len(found.table) == 8
    assert found.num_left_out == 12
    assert ((found.table["chunk"] == 4) & (found.table["local_speaker"] == 0)).any()


def test_those_who_hardly_talk_are_no_outliers():
    features = make_features()
    features.segmentations[4, 20:, 0] = 0  # 0.4 s are left
    found = compare_local_speakers(features, CLUSTERS)
    row = found.outlying.index[0]
    assert (found.table.at[row, "chunk"], found.table.at[row, "local_speaker"]) != (4, 0)


def test_what_a_local_speaker_says_is_cut_where_it_pauses():
    assert find_stretches(make_features(), 3, 0) == [pytest.approx((3.4, 5.4))]
    assert find_stretches(make_features(), 3, 1) == [
        pytest.approx((5.4, 5.6)),
        pytest.approx((5.8, 6.8)),
    ]


def test_matrix_and_bars_are_those_of_the_table():
    view = make_local()
    assert np.array(matrix_cells(view).z) == pytest.approx(view.found.cosine, abs=0.006)
    bars = outlier_bars(view)
    assert list(bars.x) == sorted(bars.x)
    assert bars.x[0] == pytest.approx(view.found.table["margin"].min())


def test_the_map_takes_its_colours_from_cluster_or_reference():
    cluster, truth = (
        by_name(plot_embeddings(EmbeddingScene(local=make_local(by)))) for by in ("cluster", "reference")
    )
    assert len(cluster["map"].x) == 20
    assert set(cluster["names"].text) == {"<b>spk0 = ann</b>", "<b>spk1 = bob</b>"}
    assert set(truth["names"].text) == {"<b>ann</b>", "<b>bob</b>"}


# -- tables ------------------------------------------------------------------------------------


def test_duration_has_a_line_per_model_in_percent_and_seconds():
    table = pd.DataFrame(
        {
            "runtime": ["torch", "torch", "ONNX", "ONNX"],
            "duration": [0.5, 2.0, 0.5, 2.0],
            "eer": [0.2, 0.05, 0.21, 0.05],
            "roc_auc": 0.9,
            "targets": 10,
            "nontargets": 20,
        }
    )
    figure = plot_duration(table)
    assert [trace.name for trace in figure.data] == ["torch", "ONNX"]
    assert list(figure.data[0].y) == pytest.approx([20, 5])
    assert figure.layout.xaxis.title.text == "heard of each utterance (s)"


def test_dimensions_show_the_cosine_as_a_level():
    table = pd.DataFrame(
        {"lda_dim": [0, 2, 8], "eer": [0.03, 0.2, 0.02], "min_dcf": 0.1, "roc_auc": 0.99, "trials": 5}
    )
    plda, cosine = plot_dimensions(table).data
    assert list(plda.x) == [2, 8]
    assert list(cosine.y) == pytest.approx([3, 3])


def test_throughput_has_a_panel_per_workload_and_a_level_per_loop():
    rows = [
        (workload, runtime, size, 10.0 + size, 1.0, 1.5)
        for workload in ("equal", "mixed")
        for runtime in ("torch", "ONNX")
        for size in (0, 1, 16, 64)
    ]
    names = ["workload", "runtime", "batch_size", "embeddings_per_second", "ratio_to_first", "ratio_to_loop"]
    figure = plot_throughput(pd.DataFrame(rows, columns=names))
    assert isinstance(figure, go.Figure)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [(line.name, line.xaxis) for line in lines] == [
        ("torch", "x"),
        ("ONNX", "x"),
        ("torch", "x2"),
        ("ONNX", "x2"),
    ]
    assert list(lines[0].x) == [1, 16, 64]
    assert sum(trace.name == "torch, one by one" for trace in figure.data) == 2
    assert figure.layout.yaxis.title.text == "embeddings per second"
