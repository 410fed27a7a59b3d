"""Explorers of a clustering grid, driven without a browser: controls move, figures and words follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.clustering import AHCParams
from workbench.errors import InputError
from workbench.explorers.clustering_grid import explore_grid
from workbench.explorers.clustering_grid_live import explore_live
from workbench.explorers.clustering_grid_live_sound import wrong_stretches
from workbench.plots.grid_live import PICTURES
from workbench.plots.words import percent
from workbench.scoring.slots import Slots
from workbench.sweeps import SweepSettings
from workbench.synthetic import make_meeting, make_plda
from workbench.timeline import find_errors

GRID = {"Fa": [0.02, 0.07, 0.3], "Fb": [0.4, 0.8, 6.0], "ahc_threshold": [0.5, 0.7]}


@pytest.fixture(scope="module")
def meetings():
    rng = np.random.default_rng(0)
    plda = make_plda(rng, 48, 24)
    pairs = [
        make_meeting(rng, plda, seconds=90.0, num_speakers=3, noise=3.0, uri=name) for name in ("one", "two")
    ]
    return [features for features, _ in pairs], {each.uri: each for _, each in pairs}, plda


@pytest.fixture(scope="module")
def explored(meetings):
    features, references, plda = meetings
    return explore_grid(features, references, GRID, plda=plda).wait()


@pytest.fixture
def screen(explored):
    explored.recordings.value = ""
    explored.x.value, explored.y.value, explored.colour.value = "Fa", "Fb", "der"
    explored.go_to(0)
    return explored


@pytest.fixture
def live(meetings):
    features, references, plda = meetings
    return explore_live(features[0], references, plda=plda)


def trace(screen, name):
    return next(each for each in screen.figure.data if each.name == name)


def test_a_parameter_may_be_left_unset_in_a_grid(meetings):
    features, references, plda = meetings
    grid = {"Fa": [0.07, 0.3], "Fb": [0.8, 6.0], "num_speakers": [2, None], "loop_prob": [None, 0.9]}
    screen = explore_grid(features, references, grid, plda=plda).wait()
    cells = screen.study.found.table.cells
    last = int(cells.index[(cells["Fa"] == 0.3) & (cells["Fb"] == 0.8) & (cells["loop_prob"] == 0.9)][-1])
    screen.go_to(last)
    assert screen.held["loop_prob"].value == 0.9
    screen.held["loop_prob"].value = "none"
    assert screen.values["loop_prob"] is None
    assert (screen.values["Fa"], screen.values["Fb"]) == (0.3, 0.8)
    screen.default.click()
    assert screen.values == {"Fa": 0.07, "Fb": 0.8, "num_speakers_forced": None, "loop_prob": None}
    screen.x.value = "num_speakers_forced"
    assert list(screen.figure.layout.xaxis2.ticktext) == ["2", "none"]
    assert screen.errors.value == ""


def test_the_default_need_not_have_every_parameter_of_a_grid_over_methods(meetings):
    features, references, plda = meetings
    grid = {"method": ["ahc", "vbx"], "min_cluster_size": [2, 10], "Fa": [0.07, 0.3]}
    screen = explore_grid(features, references, grid, plda=plda).wait()
    assert screen.errors.value == ""
    alone = explore_grid(features, references, {"Fa": [0.07]}, plda=plda).wait()
    default = screen.study.found.default_table["der"]
    np.testing.assert_allclose(default, alone.study.found.table.der_per_recording[:, 0])
    assert "of 1 cell on 2 recordings" in alone.verdict.value


class Points:
    def __init__(self, inds):
        self.point_inds = inds


def test_the_heatmap_shows_the_pooled_der_of_the_plane(screen):
    der = 100 * screen.study.found.table.der.reshape(3, 3, 2)  # Fa, Fb, threshold
    assert np.allclose(np.array(trace(screen, "cells").z, dtype=float), der[:, :, 0].T)
    screen.held["ahc_threshold"].value = 0.7
    assert np.allclose(np.array(trace(screen, "cells").z, dtype=float), der[:, :, 1].T)
    assert screen.values["ahc_threshold"] == 0.7
    assert screen.errors.value == ""


def test_a_click_on_a_cell_shows_its_parameters_and_its_hypothesis(screen):
    screen._pick(None, Points([(1, 2)]), None)
    assert screen.values == {"Fa": 0.3, "Fb": 0.8, "ahc_threshold": 0.5}
    assert "Fa 0.3 · Fb 0.8 · ahc_threshold 0.50 (distance; cosine similarity 0.88)" in screen.headline.value
    bars = trace(screen, "hypothesis B")
    assert len(bars.y) == len(screen.study.view(screen.lanes.value, screen.cell).turns)
    assert (screen.figure.layout.shapes[1].x0, screen.figure.layout.shapes[1].y0) == (1.5, 0.5)


def test_the_default_is_marked_between_cells_where_it_is_none(screen):
    assert trace(screen, "default").x == ()  # the threshold of the default is on no plane
    screen.x.value, screen.y.value = "ahc_threshold", "Fa"
    screen.held["Fb"].value = 0.8
    mark = trace(screen, "default")
    assert mark.x[0] == pytest.approx(0.5)  # 0.6 lies between 0.5 and 0.7
    assert mark.y[0] == pytest.approx(1.0)


def test_axes_change_places_instead_of_being_the_same(screen):
    screen.x.value = "Fb"
    assert (screen.x.value, screen.y.value) == ("Fb", "Fa")
    assert screen.figure.layout.xaxis2.title.text == "Fb"


def test_one_recording_has_its_own_colours_and_no_marks_of_the_choice(screen):
    pooled = np.array(trace(screen, "cells").z, dtype=float)
    screen.recordings.value = "two"
    assert not np.allclose(np.array(trace(screen, "cells").z, dtype=float), pooled)
    assert trace(screen, "best").x == ()
    assert screen.lanes.value == "two"
    screen.colour.value = "num_speakers"
    assert trace(screen, "cells").colorbar.title.text == "Speakers found (mean)"


@pytest.mark.parametrize("what", ["no chunk", "silence", "no usable embedding", "one usable embedding"])
def test_hardly_anything_to_cluster_still_has_a_screen(meetings, what):
    (features, _), references, plda = meetings
    segmentations, embeddings = features.segmentations.copy(), features.embeddings.copy()
    if what == "no chunk":
        segmentations, embeddings = segmentations[:0], embeddings[:0]
    elif what == "silence":
        segmentations[:] = 0
    else:
        usable = np.argwhere(segmentations.sum(axis=1) > 10)[0]
        kept = embeddings[tuple(usable)].copy()
        embeddings[:] = np.nan
        if what == "one usable embedding":
            embeddings[tuple(usable)] = kept
    poor = replace(features, segmentations=segmentations, embeddings=embeddings)
    grid = explore_grid([poor], references, {"Fa": [0.05, 0.3], "Fb": [0.8, 5.0]}, plda=plda).wait()
    grid.go_to(3)
    live = explore_live(poor, references, plda=plda)
    assert (grid.errors.value, live.errors.value) == ("", "")
    assert "DER" in grid.headline.value


def test_cells_are_coloured_by_the_jer_of_the_results(screen):
    screen.colour.value = "jer"
    assert trace(screen, "cells").colorbar.title.text == "JER (%)"
    rows = screen.study.found.results
    weighed = rows.assign(errors=rows["jer"] * rows["num_scored_speakers"]).groupby(list(GRID), sort=False)
    expected = 100 * (weighed["errors"].sum() / weighed["num_scored_speakers"].sum()).to_numpy()
    shown = np.array(trace(screen, "cells").z, dtype=float)
    cells = screen._scene.plane.cells
    assert shown == pytest.approx(expected[cells])
    assert f"JER {expected[0]:.1f}" in screen._scene.hover[0]


def test_bars_and_dots_are_those_of_the_cell(screen):
    table = screen.study.found.table
    screen.best.click()
    best = screen.study.found.choice.best
    shown = sum(
        np.array(trace(screen, f"recordings {kind}").x) for kind in ("missed", "false_alarm", "confusion")
    )
    assert shown == pytest.approx(100 * table.der_per_recording[:, best])
    assert list(trace(screen, "found").x) == table.num_speakers[:, best].tolist()


def test_without_audio_a_click_says_so(screen):
    screen._clicked(trace(screen, "reference"), Points([0]), None)
    assert screen.player.text.endswith("no audio")
    screen.errors.guard(screen._play_selection)(None)
    assert "no audio for" in screen.errors.value


def test_the_page_without_a_kernel_holds_the_verdict_and_the_picture(screen):
    page = screen.to_html()
    assert "Best of 18 cells on 2 recordings" in page
    assert "plotly-graph-div" in page


def test_the_chosen_cell_is_exported_with_its_summary(screen, tmp_path):
    screen.go_to(screen.study.found.table.find({"Fa": 0.3, "Fb": 0.8, "ahc_threshold": 0.7}))
    written = screen.export(tmp_path)
    assert sorted(written) == ["best.toml", "best.yaml", "summary.html", "summary.md"]
    assert "Fa = 0.3" in written["best.toml"].read_text()


def test_a_missing_reference_is_an_error_with_a_name(meetings):
    features, references, plda = meetings
    with pytest.raises(InputError, match="no reference for recording 'two'"):
        explore_grid(features, {"one": references["one"]}, GRID, plda=plda)


def test_a_failing_sweep_is_said_on_the_screen(meetings):
    features, references, _ = meetings
    screen = explore_grid(features, references, GRID).wait()  # VBx without a PLDA
    assert "PLDA" in screen.errors.value
    assert screen.figure is None


def shown(live):
    return {name: getattr(live.line, name) for name in PICTURES}


def test_sliders_move_the_der_the_pictures_and_the_line(live):
    before, headline, answer = shown(live), live.headline.value, live.line.answer
    assert all(source.startswith("data:image/") for source in before.values())
    live.threshold.value = live.threshold.max
    live.Fb.value = 50.0
    assert live.cell.settings.value_of("Fb") == 50.0
    assert live.cell.num_speakers == live.cell.turns["speaker"].nunique()
    assert live.headline.value != headline
    assert live.line.value == live.threshold.max
    assert live.line.answer == answer + 2
    assert [name for name, _ in live.line.names] == [live._name(who) for who in live._looks]
    after = shown(live)
    assert {name for name in PICTURES if before[name] != after[name]} >= {"hypothesis", "found_strip", "map"}
    assert (after["reference"], after["true_strip"]) == (before["reference"], before["true_strip"])
    assert live.errors.value == ""


def test_an_answer_is_one_message_without_what_is_the_same(live, monkeypatch):
    sent = []
    monkeypatch.setattr(live.line, "send_state", lambda key=None: sent.append(set(key)))
    live.threshold.value += 0.005  # the clusters are the same
    live.threshold.value = live.threshold.max
    live._answer()
    assert [{"value", "answer"} <= keys for keys in sent] == [True, True, False]
    assert not sent[0] & {*PICTURES, "names", "view"} - {"bound"}
    assert {"hypothesis", "errors", "found_strip", "map"} <= sent[1]
    assert sent[2] == {"answer"}


def test_plotly_draws_nothing_while_a_slider_is_dragged(live, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a message to plotly")

    for name in ("restyle", "relayout", "update"):
        monkeypatch.setattr(live.figure, f"_send_{name}_msg", refuse)
    live.threshold.value = live.threshold.max
    live.line.value = 0.5
    assert live.errors.value == ""
    assert live.cell.settings.value_of("ahc_threshold") == pytest.approx(0.5)


def test_a_start_from_very_many_clusters_is_announced(live, monkeypatch):
    monkeypatch.setattr("workbench.explorers.clustering_grid_live.VERY_SLOW", 1000)
    said = []
    live.words.observe(lambda change: said.append(change["new"]), names="value")
    live.threshold.value = 0.0
    num_embeddings = len(live._sweep.training)
    assert f"Threshold 0.000 leaves {num_embeddings} clusters: VBx is at work" in said[0]
    assert "iteration" in said[1]


@pytest.mark.parametrize("limit", ["SLOW", "SLOW_SECONDS"])
def test_slow_cells_are_rough_while_a_slider_moves_and_exact_when_it_rests(live, monkeypatch, limit):
    monkeypatch.setattr(f"workbench.explorers.clustering_grid_live.{limit}", 0)
    live.Fb.value = 2.0
    assert live.cell.settings.precision == "f64"  # nobody would tell that it rests
    live.line.tells_rest = True
    live.Fb.value = 4.0
    assert live.cell.settings.precision == "f32"
    assert not live.line.is_final
    assert "single precision until it rests" in live.words.value
    live.line.rest = live.line.answer - 1  # said before the browser had this answer
    assert live.cell.settings.precision == "f32"
    live.line.rest = live.line.answer
    assert live.cell.settings.precision == "f64"
    assert live.line.is_final
    assert "single precision" not in live.words.value
    live.Fb.value = 5.0
    live.to_html()
    assert live.cell.settings.precision == "f64"


def test_a_clustering_without_vbx_has_the_threshold_alone(meetings):
    features, references, _ = meetings
    screen = explore_live(features[0], references, base=SweepSettings(clustering=AHCParams()))
    screen.line.tells_rest = True
    screen.threshold.value = 0.9
    assert screen.values == {"ahc_threshold": 0.9}
    assert screen.Fa.disabled
    assert screen.line.is_final
    assert screen.errors.value == ""


def test_a_zoom_draws_the_lanes_of_what_is_visible(live):
    before = shown(live)
    on_axis = 946_684_800_000
    live.figure.layout.xaxis.range = (on_axis + 10_000.0, on_axis + 40_000.0)
    assert live.line.view == [on_axis + 10_000.0, 30_000.0]
    changed = {name for name, source in shown(live).items() if source != before[name]}
    assert changed == {"reference", "hypothesis", "errors"}


def test_a_double_click_draws_the_lanes_of_the_whole_recording(live):
    before, whole = shown(live), live.line.view
    for _ in range(2):  # a second wheel and double click say what the kernel knows from the first
        live.figure.plotly_relayout(
            {"xaxis.range": [946_684_810_000.0, 946_684_840_000.0]}, source_view_id="a"
        )
        assert live.line.view == [946_684_810_000.0, 30_000.0]
        live.figure.plotly_relayout({"xaxis.autorange": True}, source_view_id="a")
        assert live.line.view == whole
        assert shown(live) == before


def test_the_twin_without_a_kernel_shows_what_the_screen_shows(live):
    live.threshold.value = live.threshold.max
    page = live.to_html()
    for source in shown(live).values():
        assert source.replace("/", "\\u002f") in page  # as plotly escapes it
    assert all(live._name(who) in page for who in live._looks)


def test_dragging_the_line_is_moving_the_threshold(live):
    live.line.value = 0.9
    assert live.threshold.value == pytest.approx(0.9)
    assert live.cell.settings.value_of("ahc_threshold") == pytest.approx(0.9)
    live.reset.click()
    assert live.threshold.value == pytest.approx(0.6)


def test_a_touch_in_a_lane_finds_the_turn_there(live):
    turn = live._scene.reference.iloc[3]
    row = list(live._styles).index(turn["speaker"])
    middle = 946_684_800_000 + 500 * (turn["start"] + turn["end"])
    live.line.touch = {"name": "reference", "x": middle, "y": row + 0.2, "serial": 1}
    assert live.selection == (turn["start"], turn["end"])
    assert f"reference {turn['speaker']}" in live.player.text
    turn = live.cell.turns.iloc[3]
    row = list(live._looks).index(int(turn["speaker"]))
    middle = 946_684_800_000 + 500 * (turn["start"] + turn["end"])
    live.line.touch = {"name": "hypothesis", "x": middle, "y": row, "serial": 2}
    assert live.selection == (turn["start"], turn["end"])
    assert f"hypothesis {live._name(int(turn['speaker']))}" in live.player.text
    assert live.errors.value == ""


def test_live_and_sweep_agree(live, explored):
    cell = explored.study.found.table.find({"Fa": 0.3, "Fb": 0.8, "ahc_threshold": 0.7})
    live.threshold.value, live.Fa.value, live.Fb.value = 0.7, 0.3, 0.8
    table = explored.study.found.table
    assert live.cell.counts.der == pytest.approx(table.der_per_recording[0, cell])
    assert live.cell.speakers.jer == pytest.approx(table.jer[0, cell], abs=1e-12)
    assert f"JER {percent(table.jer[0, cell])}" in live.headline.value
    assert "JER leaves nothing out" not in live.words.value


def test_wrong_stretches_add_up_to_the_errors(meetings):
    features, references, _ = meetings
    reference, other = references["one"], references["two"]
    errors = find_errors(reference, other)
    fast = wrong_stretches(Slots.of(reference, other))
    # one row per kind and place here, one per error there: the places are the same
    for kind in ("missed", "false_alarm", "confusion"):
        own = fast[fast["kind"] == kind]
        rows = errors[errors["kind"] == kind]
        covered = sum(
            any(
                a <= start + 1e-9 and end <= b + 1e-9 for a, b in zip(rows["start"], rows["end"], strict=True)
            )
            for start, end in zip(own["start"], own["end"], strict=True)
        )
        assert covered == len(own)
        assert (own["end"] - own["start"]).sum() <= (rows["end"] - rows["start"]).sum() + 1e-6
