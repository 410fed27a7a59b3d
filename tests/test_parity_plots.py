"""What the parity screen draws: every flip, whatever the zoom, and the numbers of the tables behind it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from parity_fakes import POWERSET, Faulty, Network, speech

from workbench.agreement import ParityParams, parity
from workbench.agreement.frame_axis import FrameAxis
from workbench.plots.parity import ParityScene, plot_parity, plot_parity_ground, plot_parity_lanes
from workbench.plots.parity_lanes import bucket_flips, flip_ticks, posteriorgram
from workbench.plots.parity_panels import cell_flips, transition_cells
from workbench.plots.parity_pyramid import AxisPyramid, FlipPyramid
from workbench.plots.steps import PortScene, plot_port, worst_cells


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(3)
    noisy = Faulty(after=lambda scores: scores + rng.normal(0, 0.1, scores.shape).astype(np.float32))
    params = ParityParams(keep_posteriors=True, checks=False)
    return parity(Network(), noisy, {"one": speech(0), "two": speech(1)}, params=params)


@pytest.fixture(scope="module")
def scene(result):
    row = result.recordings["one"]
    return ParityScene(
        uri="one",
        duration=row.duration,
        classes=result.classes,
        near_tie=result.near_tie,
        damage=result.damage.table,
        flips=row.flips.sort_values("time", ignore_index=True),
        axis=FrameAxis.of(row),
        ledger=row.consequences.ledger,
        transitions=row.tables["transition"],
    )


def trace(figure, name):
    (found,) = [each for each in figure.data if each.name == name]
    return found


def random_flips(rng, number=5000, duration=3600.0):
    margin = rng.exponential(0.08, number)
    return pd.DataFrame(
        {
            "time": np.sort(rng.uniform(0, duration, number)),
            "margin": margin,
            "candidate_margin": margin,
            "difference": rng.uniform(0.4, 2.0, number) * margin,
            "near_tie": margin <= 0.1,
        }
    ).assign(within_bound=lambda table: table["margin"] <= 2 * table["difference"])


@pytest.mark.parametrize("num_columns", [1, 7, 480, 20_000])
def test_ticks_stand_for_every_flip_at_every_zoom(rng, num_columns):
    flips = random_flips(rng)
    for start, end in ((0.0, 3600.0), (100.0, 900.0), (1234.5, 1236.0)):
        inside = flips[(flips["time"] >= start) & (flips["time"] <= end)]
        buckets = bucket_flips(flips, start, end, num_columns)
        assert buckets["flips"].sum() == len(inside)
        by_kind = buckets.groupby("near_tie")["flips"].sum().to_dict()
        assert by_kind == inside.groupby("near_tie").size().to_dict()
        assert buckets["margin"].max() == inside["margin"].max()  # the worst is always one of them


def test_a_single_real_flip_among_thousands_of_near_ties_keeps_its_own_tick(rng):
    flips = random_flips(rng).assign(near_tie=True)
    flips.loc[2500, ["margin", "near_tie"]] = [0.2, False]
    buckets = bucket_flips(flips, 0.0, 3600.0, 10)
    (real,) = buckets.loc[~buckets["near_tie"].astype(bool), "row"]
    assert real == 2500


def test_marks_of_the_scatter_stand_for_every_flip(rng):
    flips = random_flips(rng)
    cells = cell_flips(flips)
    assert cells["flips"].sum() == len(flips)
    assert len(cells) < 2000
    beyond = cells.loc[cells["kind"] == "beyond", "flips"].sum()
    assert beyond == (~flips["within_bound"]).sum() > 0


def test_a_posteriorgram_keeps_the_largest_probability_of_a_column():
    probabilities = np.zeros((1000, 3), dtype=np.uint8)
    probabilities[503, 1] = 255  # one frame of a thousand
    pixels = posteriorgram(probabilities, ["#000000", "#ffffff", "#ff0000"], np.arange(0, 1000, 100), 1000)
    opacity = pixels[::9, :, 3]
    assert opacity.tolist() == [[0] * 10, [0] * 5 + [255] + [0] * 4, [0] * 10]


def test_the_axis_takes_every_moment_from_the_chunk_in_whose_middle_it_lies(result):
    row = result.recordings["one"]
    axis = FrameAxis.of(row)
    num_frames = row.comparison.baseline.shape[1]
    starts = np.rint(np.arange(len(row.comparison.baseline)) * 0.4 / 0.02).astype(int)
    assert (starts[axis.chunk] + axis.frame == np.arange(axis.num_moments)).all()
    distance = np.abs(axis.frame + 0.5 - num_frames / 2)
    inner = slice(num_frames, axis.num_moments - num_frames)
    assert distance[inner].max() <= 10 + 1  # half a step of 20 frames
    shown = row.posteriors[0][axis.chunk, axis.frame].astype(float)
    assert np.abs(np.exp(shown) - axis.baseline / 255).max() <= 0.5 / 255 + 1e-3


def test_the_difference_is_the_largest_of_all_chunks(result):
    row = result.recordings["one"]
    assert FrameAxis.of(row).difference.max() == row.comparison.difference.max()


def test_the_screen_draws_what_the_tables_hold(scene, result):
    screen = plot_parity(scene)
    drawn = sum(screen.tables[f"flips {kind}"]["flips"].sum() for kind in ("real", "near_tie"))
    assert drawn == len(scene.flips) == result.recordings["one"].num_flips > 0
    bars = [trace(screen.figure, f"recordings {kind}") for kind in ("real", "near_tie")]
    rates = 100 * result.damage.table["flip_rate"].to_numpy()
    np.testing.assert_allclose(bars[0].x + bars[1].x, rates)
    cells = transition_cells(scene.transitions, POWERSET)
    counted = sum(int(text) for row in cells.text for text in row if text)
    assert counted == len(scene.flips)
    assert [len(image.source) > 100 for image in screen.figure.layout.images] == [True, True]


def test_only_what_is_in_view_is_drawn(scene):
    lanes = plot_parity_lanes(scene, (4.0, 6.0))
    for kind in ("real", "near_tie"):
        times = lanes.tables[f"flips {kind}"]["time"]
        assert times.between(3.5, 6.5).all()
    assert len(trace(lanes.figure, "difference").x) < 250


def test_a_redraw_has_the_same_traces(scene):
    names = [each.name for each in plot_parity(scene).figure.data]
    empty = ParityScene(
        uri="one",
        duration=12.0,
        classes=POWERSET,
        near_tie=0.1,
        damage=scene.damage,
        flips=scene.flips.iloc[:0],
        axis=None,
        ledger=pd.DataFrame(),
        transitions=scene.transitions.iloc[:0],
        has_audio=False,
    )
    drawn = plot_parity(empty).figure
    assert [each.name for each in drawn.data] == names
    texts = " ".join(str(note.text) for note in drawn.layout.annotations)
    assert "keep_posteriors=True" in texts
    assert "no frame flips" in texts
    assert "give <b>audio=…</b>" in texts


def test_columns_of_every_level_stand_for_every_flip(rng):
    flips = random_flips(rng)
    pyramid = FlipPyramid.of(flips, 3600.0)
    assert len(pyramid.levels) > 8
    for start, end in ((0.0, 3600.0), (100.0, 900.0), (1234.5, 1236.0)):
        inside = flips[(flips["time"] >= start) & (flips["time"] <= end)]
        for widest in (0.0, 0.005, 0.04, 3.0, 1e9):
            marks = pyramid.between(start, end, widest)
            assert marks.flips.sum() >= len(inside)  # columns at the ends may begin outside
            for near in (False, True):
                part, wanted = marks.part(marks.near_tie == near), inside[inside["near_tie"] == near]
                assert part.margin.max(initial=0) >= max(wanted["margin"], default=0)
            np.testing.assert_array_equal(flips["time"].to_numpy()[marks.row], marks.time)
            np.testing.assert_array_equal(flips["near_tie"].to_numpy()[marks.row], marks.near_tie)
        assert pyramid.levels[0].flips.sum() == pyramid.levels[-1].flips.sum() == len(flips)


def test_a_flip_without_numbers_is_the_worst_of_its_column():
    flips = pd.DataFrame(
        {"time": [1.0, 1.5, 2.0], "margin": [0.3, 0.1, 0.4], "near_tie": [False, False, False]}
    ).assign(candidate_margin=[0.2, np.nan, 0.2])
    (mark,) = FlipPyramid.of(flips, 2000.0).between(0.0, 2000.0, 1e9).row
    assert mark == 1


def test_columns_of_the_axis_keep_the_largest_of_every_class(scene):
    pyramid = AxisPyramid.of(scene.axis)
    for number, level in enumerate(pyramid.levels):
        edges = np.arange(0, scene.axis.num_moments, 2**number)
        assert level.moments == 2**number
        for name in ("baseline", "candidate", "difference"):
            wanted = np.maximum.reduceat(getattr(scene.axis, name), edges, axis=0)
            np.testing.assert_array_equal(getattr(level, name), wanted)
    part = pyramid.between(4.0, 6.0, 0.04)
    assert part.moments == 2
    assert scene.axis.time_of(part.first) <= 4.0
    assert scene.axis.time_of(part.first + part.moments * len(part)) >= 6.0


def test_a_tick_without_numbers_says_so(scene):
    flips = scene.flips.iloc[:2].assign(candidate_margin=[np.nan, 0.5], near_tie=False)
    traces, _ = flip_ticks(flips, POWERSET, (0.0, 12.0), 10_000)
    texts = " ".join(str(text) for each in traces for text in each.customdata)
    assert texts.count("→ NaN") == 3  # the points of one tick


def test_the_ground_of_the_live_screen_holds_panels_and_empty_lanes(scene):
    ground, whole = plot_parity_ground(scene).figure, plot_parity(scene).figure
    assert not ground.layout.images
    for name in ("margins real", "transitions", "recordings real"):
        assert trace(ground, name) == trace(whole, name)
    assert {each.yaxis for each in ground.data} >= {"y", "y2", "y3", "y4", "y5", "y9", "y10"}
    assert ground.layout.xaxis.fixedrange


def test_steps_say_their_status_by_mark_and_by_colour():
    table = pd.DataFrame(
        [
            ("a", "b", "c", "scores", "within", 1e-6, "close"),
            ("a", "b", "c", "count", "differs", 1.0, "other"),
            ("z", "b", "c", "scores", "same", 0.0, "equal"),
        ],
        columns=["uri", "baseline", "candidate", "step", "status", "max_abs_diff", "words"],
    )
    cells = worst_cells(table, "b")
    assert cells.set_index("step")["status"].to_dict() == {"scores": "within", "count": "differs"}
    figure = plot_port(PortScene(steps=["scores", "count"], sides=["b", "c"], cells=cells))
    squares = trace(figure, "steps")
    assert sorted(squares.text) == ["<b>≈</b>", "<b>✗</b>"]
    assert len(set(squares.marker.color)) == 2


def test_a_waterfall_ends_where_the_candidate_is():
    steps = pd.DataFrame(
        [("baseline", "absolute", 12.0), ("embeddings", "relative", 5.0), ("count", "relative", -1.0)]
        + [("candidate", "total", 16.0)],
        columns=["label", "kind", "points"],
    )
    scene = PortScene(
        steps=["scores"],
        sides=["b", "c"],
        cells=worst_cells(
            pd.DataFrame(
                [("a", "b", "c", "scores", "same", 0.0, "")],
                columns=["uri", "baseline", "candidate", "step", "status", "max_abs_diff", "words"],
            ),
            "b",
        ),
        waterfall=steps,
    )
    bars = trace(plot_port(scene), "waterfall")
    assert list(bars.base) == [0.0, 12.0, 16.0, 0.0]
    assert list(np.asarray(bars.base) + bars.y) == [12.0, 17.0, 17.0, 16.0]
