"""Grids as figures: discrete cells, holes, marks and plateaus where they belong."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from sweep_tables import results_table

from workbench.plots.grid_cells import Slice, outline, plateau_groups
from workbench.plots.grid_effects import find_importance, plot_all_cells, plot_effects, plot_importance
from workbench.plots.grid_live import Tree
from workbench.plots.grid_measures import measure_cells
from workbench.plots.grid_pictures import COLUMNS, LANE_ROW, PointMap, bound_picture, lane_pixels
from workbench.tuning.cells import CellTable
from workbench.tuning.effects import effect_cards


def results(cells, uris=("a", "b")):
    """Made-up results: the error falls with Fa, Fb does nothing."""
    rows = []
    for number, uri in enumerate(uris):
        for cell in cells:
            missed, confusion = 5.0 + number, 30.0 * (1 - cell["Fa"])
            rows.append(
                {"uri": uri, **cell, "num_speakers": 2 + round(4 * cell["Fa"]), "num_reference_speakers": 4}
                | {"total": 100.0, "correct": 100 - missed - confusion, "missed": missed, "false_alarm": 1.0}
                | {"confusion": confusion, "der": (missed + confusion + 1) / 100}
                | {"jer": 0.1 + 0.1 * number, "num_scored_speakers": 4 - 2 * number}
                | {"partition": round(100 * cell["Fa"]), "converged": cell["Fa"] < 0.9, "iterations": 5}
            )
    return pd.DataFrame(rows)


GRID = [{"Fa": Fa, "Fb": Fb} for Fa in (0.1, 0.5, 0.9) for Fb in (1.0, 2.0)]


@pytest.fixture
def table():
    return CellTable.of(results(GRID), ["Fa", "Fb"])


def test_a_plane_leaves_holes_blank_and_finds_places_between_cells():
    table = CellTable.of(results(GRID[:-1]), ["Fa", "Fb"])
    plane = Slice.of(table, "Fa", "Fb", {})
    assert plane.cells.tolist() == [[0, 2, 4], [1, 3, -1]]
    assert np.isnan(plane.spread(table.der)[1, 2])
    assert plane.place({"Fa": 0.3, "Fb": 2.0}) == pytest.approx((0.5, 1.0))
    assert plane.place({"Fa": 7.0, "Fb": 2.0}) is None
    assert plane.find(3) == (1, 1)


def test_rates_are_pooled_over_the_recordings_that_are_asked_for(table):
    one, both = (measure_cells(table, "missed", uris).values[0] for uris in (["a"], ["a", "b"]))
    assert one == pytest.approx(5.0)
    assert both == pytest.approx(5.5)
    assert measure_cells(table, "converged", ["a"]).values.tolist() == [100, 100, 100, 100, 0, 0]


def test_the_jer_weighs_every_reference_speaker_the_same(table):
    """Four speakers at 10 % and two at 20 %; where no reference speaker is, all that is said is an error."""
    measure = measure_cells(table, "jer", ["a", "b"])
    assert measure.values == pytest.approx([100 * (4 * 0.1 + 2 * 0.2) / 6] * 6)
    assert measure.title == "JER (%)"
    assert measure_cells(table, "jer", ["b"]).values == pytest.approx([20.0] * 6)
    nobody = results(GRID).assign(jer=1.0, num_scored_speakers=0)
    assert measure_cells(CellTable.of(nobody), "jer", ["a", "b"]).values.tolist() == [100.0] * 6
    earlier = results(GRID).drop(columns=["jer", "num_scored_speakers"])
    assert np.isnan(measure_cells(CellTable.of(earlier, ["Fa", "Fb"]), "jer", ["a"]).values).all()


def test_an_outline_runs_around_a_region_and_not_through_it():
    x, y = outline(np.array([[0, 0], [0, 0]]))
    sides = np.stack([x, y], axis=1).reshape(-1, 3, 2)[:, :2]
    assert len(sides) == 8  # the border of two by two cells
    assert set(np.unique(sides)) <= {-0.5, 0.5, 1.5}
    assert not (sides == [[0.5, -0.5], [0.5, 0.5]]).all(axis=(1, 2)).any()


def test_regions_of_a_single_cell_are_no_plateaus(table):
    plane = Slice.of(table, "Fa", "Fb", {})
    assert plateau_groups(plane, np.array([0, 0, 1, 2, 3, 3])).tolist() == [[0, -1, 3], [0, -1, 3]]


def test_importance_goes_to_the_parameter_that_changes_the_error(table):
    importance = find_importance(table)
    assert importance["parameter"].iloc[0] == "Fa"
    assert importance["importance"].iloc[0] > 0.95
    assert plot_importance(importance).layout.xaxis.title.text == "Variance of the DER that it explains (%)"


def test_cards_and_parallel_coordinates_show_every_parameter(table):
    cards = plot_effects(effect_cards(table, {"Fa": 0.5, "Fb": 1.0}), {"Fa": 0.5, "Fb": 1.0})
    titles = [note.text for note in cards.layout.annotations]
    assert "larger finds more speakers" in titles[0]
    assert "changes no number of speakers" in titles[1]
    labels = [dimension.label for dimension in plot_all_cells(table).data[0].dimensions]
    assert labels == ["Fa", "Fb", "Speakers too many or few", "Not converged", "DER (%)"]
    cells = plot_all_cells(table).data[0]
    assert {font.shadow for font in (cells.tickfont, cells.labelfont, cells.rangefont)} == {"none"}


def test_what_an_unset_parameter_does_is_drawn_apart_from_the_curve():
    counts = np.array([[2, 4, 6, 3], [2, 3, 5, 3]])
    axes = {"loop_prob": [0.5, 0.9, 0.99, None]}
    table = results_table(axes, 10.0 * counts, np.full(2, 100.0), num_speakers=counts)
    cards = effect_cards(table)
    figure = plot_effects(cards, {"loop_prob": None})
    (unset,) = set(figure.layout.xaxis2.tickvals) - {0, 1, 2}
    assert unset > 3
    assert figure.layout.xaxis2.ticktext[-1] == "none"
    assert figure.layout.xaxis2.range[1] > unset
    lines = [trace for trace in figure.data if "lines" in trace.mode and trace.name != "not monotone"]
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(lines) == len(points) == 6  # two recordings and all of them, speakers and DER
    assert all(list(trace.x) == [0, 1, 2] for trace in lines)
    assert all(list(trace.x) == [unset] and list(trace.customdata) == ["none"] for trace in points)
    assert sorted(trace.y[0] for trace in points) == [3, 3, 3, 30, 30, 30]
    marked = {shape.x0 for shape in figure.layout.shapes if shape.line.dash == "dot"}
    divided = {shape.x0 for shape in figure.layout.shapes if shape.line.dash == "dash"}
    assert marked == {unset}
    assert all(2 < x < unset for x in divided)
    assert len(divided) == 1
    between = plot_effects(cards, {"loop_prob": 0.7}).layout.shapes
    assert [shape.x0 for shape in between if shape.line.dash == "dot"] == pytest.approx([0.5, 0.5])
    assert all(shape.line.dash == "dash" for shape in plot_effects(cards).layout.shapes)  # no default


def test_a_lane_is_as_solid_as_its_speaker_talks():
    turns = pd.DataFrame({"start": [0.0, 5.0], "end": [5.0, 7.5], "speaker": ["a", "b"]})
    pixels = lane_pixels(turns, {"a": 0, "b": 1}, {"a": "#ff0000", "b": "#0000ff"}, 2, (0.0, 10.0))
    assert pixels.shape == (2 * LANE_ROW, COLUMNS, 4)
    upper, lower = pixels[LANE_ROW // 2, :, 3], pixels[LANE_ROW + LANE_ROW // 2, :, 3]
    assert (upper[: COLUMNS // 2] == 255).all()
    assert not upper[COLUMNS // 2 :].any()
    assert np.flatnonzero(lower).tolist() == list(range(COLUMNS // 2, 3 * COLUMNS // 4))


def test_turns_much_shorter_than_a_column_stay_visible():
    turns = pd.DataFrame({"start": [1800.0], "end": [1800.1], "speaker": ["a"]})
    pixels = lane_pixels(turns, {"a": 0}, {"a": "#ff0000"}, 1, (0.0, 3600.0))
    assert pixels[LANE_ROW // 2, :, 3].max() > 100


def test_a_map_has_its_points_where_they_are_the_later_ones_on_top():
    points = PointMap(np.array([[0.0, 1.0], [0.0, 1.0]]), (100, 80))
    pixels = points.indices(np.array([3, 1]), np.array([3, 2]))
    rows, columns = np.nonzero(pixels)
    assert max(rows.max(), columns.max()) < 20  # top left
    assert pixels[8, 8] == 1
    assert pixels[0, 8] == 2  # the rim
    assert not (pixels == 3).any()
    assert not PointMap(np.zeros((0, 2)), (100, 80)).indices(np.zeros(0), np.zeros(0)).any()


def read_palette_png(address):
    """Pixels (height, width, 4) of a picture that `palette_png` made, by the PNG specification."""
    file = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(file):
        (length,) = struct.unpack(">I", file[place : place + 4])
        body = file[place + 4 : place + 8 + length]
        assert zlib.crc32(body) == struct.unpack(">I", file[place + 8 + length : place + 12 + length])[0]
        chunks[body[:4]], place = body[4:], place + 12 + length
    width, height, depth, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, kind) == (8, 3)
    colors = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    palette = np.column_stack([colors, np.frombuffer(chunks[b"tRNS"], np.uint8)])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width)
    assert not lines[:, 0].any()  # filter: none
    return palette[lines[:, 1:]]


def test_a_map_wears_the_colours_of_its_points():
    points = PointMap(np.array([[0.0, 1.0], [1.0, 0.0]]), (100, 80))
    image = read_palette_png(points.picture(["#ff0000"] * 2, ["#0000ff", "#008000"]))
    assert image.shape == (80, 100, 4)
    assert image[8, 8].tolist() == [255, 0, 0, 235]
    assert image[0, 8].tolist() == [0, 0, 255, 235]
    assert image[79, 91].tolist() == [0, 128, 0, 235]
    assert image[40, 50].tolist() == [0, 0, 0, 0]


def test_a_tree_orders_its_leaves_by_likeness(rng):
    from workbench.clustering.ahc import Dendrogram

    groups = np.array([0, 1, 0, 1, 0, 1])
    embeddings = np.eye(2)[groups] + 0.01 * rng.standard_normal((6, 2))
    tree = Tree.of(Dendrogram.of(embeddings), embeddings)
    assert len(np.flatnonzero(np.diff(groups[tree.leaves]))) == 1
    assert tree.affinity.shape == (6, 6)
    assert Tree.of(Dendrogram.of(embeddings[:1]), embeddings[:1]).x.size == 0


def test_the_bound_of_a_clustering_without_vbx_is_empty():
    assert bound_picture(np.zeros(0)).startswith("data:image/svg+xml;base64,")
    assert bound_picture(np.array([1.0, 2.0, 3.0])) != bound_picture(np.zeros(0))
