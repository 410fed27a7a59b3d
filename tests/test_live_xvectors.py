"""The live screen on segment features, driven without a browser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pyannote.core import Annotation, Segment
from segment_recordings import make_segments

from workbench.clustering import PLDA, XVectorParams
from workbench.clustering.xvectors import SegmentSet
from workbench.errors import InputError
from workbench.explorers.clustering_grid_live import explore_live
from workbench.explorers.clustering_grid_live_leaves import spoken_most
from workbench.plots.grid_live import PICTURES
from workbench.plots.words import percent
from workbench.rttm import read_rttm
from workbench.sweeps import RecordingSweep, SweepSettings
from workbench.synthetic import make_meeting, make_plda
from workbench.tuning.thresholds import convert_threshold
from workbench.types import INACTIVE, SegmentFeatures

ON_AXIS = 946_684_800_000  # ms of the time axis at 0 s


@pytest.fixture(scope="module")
def talk():
    return make_segments(np.random.default_rng(0), noise=1.5)


@pytest.fixture
def live(talk):
    features, reference, plda = talk
    return explore_live(features, reference, plda=plda, collar=0.25, skip_overlap=True)


def row_of(talk, cell, **scoring):
    features, reference, plda = talk
    sweep = RecordingSweep(features, reference, plda=plda, **scoring)
    return sweep.evaluate(pd.DataFrame([cell], index=[0])).iloc[0]


def numbers(row):
    """DER and JER in the headline's words."""
    return tuple(f"{name.upper()} {percent(row[name])}" for name in ("der", "jer"))


def test_every_slider_leads_to_the_row_of_its_values(live, talk):
    assert live.values == {"threshold": -0.015, "Fa": 0.3, "Fb": 17.0, "loop_prob": 0.99}
    for name, value in (("threshold", 0.25), ("Fa", 0.1), ("Fb", 2.0), ("loop_prob", 0.3)):
        getattr(live, name).value = value
        row = row_of(talk, live.values, collar=0.25, skip_overlap=True)
        assert (live.cell.counts.der, live.cell.speakers.jer) == (row["der"], row["jer"])
        assert all(each in live.headline.value for each in numbers(row))
        assert f"<b>{row['num_speakers']}</b> speakers (reference 3)" in live.headline.value
        assert f"VBx: {row['iterations']} iterations" in live.words.value
    assert "Fa 0.1 · Fb 2 · loop_prob 0.3" in live.words.value
    assert "JER leaves nothing out" in live.words.value
    assert live.errors.value == ""


def test_the_dendrogram_is_drawn_over_the_threshold(live, talk):
    features, _, plda = talk
    segments = SegmentSet(features, plda)
    unit = segments.projected / np.linalg.norm(segments.projected, axis=1, keepdims=True)
    similarities = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    tree = live._scene.tree
    assert tree.bottom == pytest.approx(similarities.max() - segments.gmm_threshold)
    assert np.nanmax(tree.y) == pytest.approx(tree.bottom)
    # lines that cross the threshold hold the clusters that it leaves
    for threshold in (-0.2, -0.015, 0.1):
        live.threshold.value = threshold
        num_clusters = len(np.unique(segments.start(XVectorParams(threshold=live.threshold.value))))
        below, above = tree.y[0::5], tree.y[1::5]  # the left leg of every merge, and the right one
        crossing = ((below > threshold) & (above <= threshold)).sum()
        crossing += ((tree.y[3::5] > threshold) & (tree.y[2::5] <= threshold)).sum()
        assert crossing == num_clusters
    axis = live.figure.layout.yaxis4
    assert axis.range == (tree.bottom, tree.top)
    assert axis.range[0] > axis.range[1]  # what is less alike joins further up
    assert axis.title.text == f"Similarity − {segments.gmm_threshold:.3f} (calibrated)"
    assert live.figure.layout.xaxis2.title.text == f"{len(unit)} segments, neighbours are alike"


def test_the_threshold_is_said_in_all_its_spaces(live, talk):
    features, _, plda = talk
    live.threshold.value = 0.1
    calibrated = SegmentSet(features, plda).gmm_threshold
    distance = convert_threshold(calibrated + 0.1, "cosine_similarity", "euclidean")
    said = f"{calibrated:.3f} + 0.100 = {calibrated + 0.1:.3f} (cosine similarity; distance {distance:.3f})"
    assert said in live.words.value


def test_the_line_reaches_every_partition_and_moves_the_slider(live, talk):
    features, _, plda = talk
    segments = SegmentSet(features, plda)
    low, high = live.line.limits
    assert len(np.unique(segments.start(XVectorParams(threshold=low)))) == 1
    assert len(np.unique(segments.start(XVectorParams(threshold=high)))) >= len(segments) - 1
    steps = (live.threshold.value - live.threshold.min) / live.threshold.step
    assert steps == pytest.approx(round(steps))  # browsers would move it to the nearest
    live.line.value = 0.1
    assert live.threshold.value == pytest.approx(0.1)
    assert live.cell.settings.value_of("threshold") == pytest.approx(0.1)
    live.reset.click()
    assert live.values["threshold"] == -0.015


def test_pictures_follow_and_what_stays_is_drawn_once(live):
    before = {name: getattr(live.line, name) for name in PICTURES}
    assert all(source.startswith("data:image/") for source in before.values())
    live.threshold.value = live.threshold.max
    live.Fa.value = 3.0
    changed = {name for name in PICTURES if getattr(live.line, name) != before[name]}
    assert changed >= {"hypothesis", "errors", "found_strip", "map", "bound"}
    assert not changed & {"reference", "true_strip"}
    page = live.to_html()
    assert live.line.map.replace("/", "\\u002f") in page


def test_the_panel_of_the_bound_has_room_for_all_iterations(live):
    assert live.figure.layout.xaxis4.range == (0.5, 40.5)
    image = live.figure.layout.images[PICTURES.index("bound")]
    assert (image.x, image.sizex) == (0.5, 40)


def test_markov_models_of_many_clusters_are_announced_and_numbers_of_before_pale(live, monkeypatch):
    monkeypatch.setattr("workbench.explorers.clustering_grid_live.MARKOV_SLOW", 1000)
    seen = []
    live.words.observe(lambda change: seen.append((change["new"], live.headline._dom_classes)), names="value")
    live.line.tells_rest = True
    live.threshold.value = 0.1
    (first, pale), (second, shown) = seen
    assert "Threshold 0.100 leaves" in first
    assert "wb-before" in pale
    assert "stopped by itself" in second
    assert "wb-before" not in shown
    assert "wb-before" not in live.headline._dom_classes
    assert live.line.is_final  # there is no single precision


def test_ahc_has_the_threshold_alone(talk):
    features, reference, plda = talk
    base = SweepSettings(clustering=XVectorParams(method="ahc"))
    live = explore_live(features, reference, plda=plda, base=base)
    live.threshold.value = 0.1
    assert live.values == {"threshold": 0.1}
    assert live.Fa.disabled
    assert live.loop_prob.disabled
    row = row_of(talk, {"method": "ahc", "threshold": 0.1})
    assert all(each in live.headline.value for each in numbers(row))
    assert "JER leaves" not in live.words.value


def test_a_touch_on_the_map_finds_the_segment_and_one_in_the_errors_who_it_is(live, talk):
    features = talk[0]
    live.threshold.value, live.Fa.value, live.Fb.value = 0.4, 3.0, 1.0
    x, y = live._scene.points[5]
    live.line.touch = {"name": "map", "x": float(x), "y": float(y), "serial": 1}
    number = int(live.player.text.split("segment ")[1].split(":")[0])
    assert live.selection == tuple(features.segments[number])
    assert live.player.text.split(": ")[1].startswith(live._name(int(live.cell.hard_clusters[number])))
    confused = live._wrong[live._wrong["kind"] == "confusion"].iloc[0]
    middle = ON_AXIS + 500 * (confused["start"] + confused["end"])
    live.line.touch = {"name": "errors", "x": middle, "y": 2.0, "serial": 2}
    said = live.player.text.split("→ ")[1].split(" ")[0]
    middle = (confused["start"] + confused["end"]) / 2
    turns = live.cell.turns[(live.cell.turns["start"] <= middle) & (live.cell.turns["end"] >= middle)]
    assert said in {f"spk{speaker}" for speaker in turns["speaker"]}
    assert live.errors.value == ""


def test_the_speaker_of_a_segment_is_who_says_most_in_it():
    reference = Annotation()
    reference[Segment(0.0, 2.0), 0] = "a"
    reference[Segment(1.0, 1.5), 1] = "a"  # twice at once counts once
    reference[Segment(1.6, 4.0), 2] = "b"
    segments = np.array([[0.0, 1.0], [0.9, 2.5], [1.5, 2.5], [4.5, 5.0]])
    assert spoken_most(segments, reference) == ["a", "a", "b", None]
    assert spoken_most(segments, Annotation()) == [None] * 4


@pytest.mark.parametrize("usable", [0, 1, 2])
def test_hardly_any_segment_still_has_a_screen(talk, usable):
    features, reference, plda = talk
    embeddings = features.embeddings.copy()
    embeddings[usable:] = np.nan
    live = explore_live(replace(features, embeddings=embeddings), reference, plda=plda)
    live.threshold.value = live.threshold.max
    live.to_html()
    assert live.errors.value == ""
    assert live.cell.num_speakers == len(np.unique(live.cell.hard_clusters[:usable]))
    assert (live.cell.hard_clusters[usable:] == INACTIVE).all()


def test_no_segment_at_all_still_has_a_screen(talk):
    none = SegmentFeatures(uri="talk", embeddings=np.zeros((0, 48)), segments=np.zeros((0, 2)))
    live = explore_live(none, talk[1], plda=talk[2])
    assert "DER 100.0" in live.headline.value
    assert live.errors.value == ""


def test_without_reference_speech_neither_rate_has_a_number(talk):
    live = explore_live(talk[0], Annotation(uri="talk"), plda=talk[2])
    live.Fa.value = 1.0
    assert "DER –" in live.headline.value
    assert "JER –" in live.headline.value
    assert live.errors.value == ""


def test_what_is_missing_is_said(talk):
    features, reference, plda = talk
    with pytest.raises(InputError, match="PLDA"):
        explore_live(features, reference)
    with pytest.raises(InputError, match="use XVectorParams"):
        explore_live(features, reference, plda=plda, base=SweepSettings())
    with pytest.raises(InputError, match="only features of chunks"):
        RecordingSweep(features, reference, plda=plda).training  # noqa: B018
    chunks, _ = make_meeting(np.random.default_rng(0), seconds=40.0)
    with pytest.raises(InputError, match="only features of segments"):
        RecordingSweep(chunks, None).segments  # noqa: B018


def test_chunks_have_a_slider_of_the_loop_probability_where_they_are_a_markov_model(rng):
    plda = make_plda(rng, 48, 24)
    features, reference = make_meeting(rng, plda, seconds=60.0, num_speakers=2)
    assert explore_live(features, reference, plda=plda).loop_prob is None
    live = explore_live(features, reference, plda=plda, base=SweepSettings(loop_prob=0.9))
    live.loop_prob.value = 0.4
    assert live.cell.settings.loop_prob == 0.4
    assert "loop_prob 0.4" in live.words.value


@pytest.mark.golden
def test_the_published_cell_of_es2005a_is_on_the_screen(golden):
    folder = golden / "es2005a"
    with np.load(folder / "xvectors.npz") as archive:
        segments = np.stack([archive["start"], archive["end"]], axis=1)
        features = SegmentFeatures(uri="ES2005a", embeddings=archive["xvectors"], segments=segments)
    reference = read_rttm(folder / "ES2005a.ref.rttm")
    scoring = {"collar": 0.25, "skip_overlap": True}
    live = explore_live(features, reference, plda=folder, **scoring)
    talk = features, reference["ES2005a"], PLDA.load(folder)
    for values in ({}, {"threshold": 0.1, "Fa": 0.4, "Fb": 11.0, "loop_prob": 0.9}):
        for name, value in values.items():
            getattr(live, name).value = value
        assert all(each in live.headline.value for each in numbers(row_of(talk, live.values, **scoring)))
