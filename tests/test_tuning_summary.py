"""The summary of a tuning as Markdown and HTML, and its figures."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sweep_tables import AXES, DEFAULT, noise_cells, noise_grid, results_table, scattered_table, talk

from workbench.clustering import AHCParams
from workbench.plots import grid_effects
from workbench.plots.tuning import plot_effects, plot_recordings, plot_stability
from workbench.plots.tuning_page import summary_html, write_summary
from workbench.plots.tuning_svg import curve_svg, heatmap_svg, pairs_svg
from workbench.sweeps import SweepSettings, sweep
from workbench.tuning.summary import NEEDS_GRID, TuningSummary, escape, summarise_tuning, summary_markdown

MANIFEST = {
    "command": "workbench sweep",
    "software": {"workbench": "1.2", "python": "3.11", "packages": {"numpy": "2.4"}},
    "files": {"features": {"a/r00.npz": {"sha256": "12ab", "bytes": 7}}},
}


@pytest.fixture(scope="module")
def summary() -> TuningSummary:
    table = noise_grid(np.random.default_rng(1), "smooth", 16, gain=0.03)
    table["num_speakers"] = 1 + (20 * table["Fa"]).astype(int)
    table["uri"] = table["uri"].replace({"r03": "a|b_<i>*c*"})
    converged = np.ones(len(table), dtype=bool)
    converged[5] = False
    table["converged"] = converged
    stability = pd.DataFrame(
        {
            "uri": "r00", "cell": [81, 81], "level": [1e-4, 1e-3], "repeat": 0, "changed": [False, True],
            "ari": [1.0, 0.9], "moved": [0.0, 30.0], "speech": 600.0, "total": 600.0, "errors": [60.0, 66.0],
            "errors_clean": 60.0, "num_speakers": 4, "num_speakers_clean": 4,
        }
    )  # fmt: skip
    return summarise_tuning(
        table, DEFAULT, stability=stability, title="Fa & Fb on AMI", convention="no collar, overlap scored",
        manifest=MANIFEST,
    )  # fmt: skip


class Tags(HTMLParser):
    """Names of the tags that are open; every one must be closed."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_markdown_says_what_a_paper_needs(summary):
    text = summary_markdown(summary)
    choice = summary.choice
    for expected in (
        f"{100 * choice.der_best:.1f} %",
        f"{100 * choice.der_default:.1f} %",
        f"{100 * choice.der_out_of_fold:.1f} %",
        f"| p, corrected for the search | {choice.p:.2g} |",
        f"Best of {len(choice.table)} cells on 16 recordings",
        "DER with no collar, overlap scored.",
        "sha256 12ab",
        "Westfall and Young",
        "**Fa.** A larger Fa finds more speakers",
        "hit the iteration cap",
        "5.0 %",  # of the speech moves at 1e-3
        "differences lie symmetrically around 0",
    ):
        assert expected in text
    assert "| a\\|b\\_&lt;i&gt;\\*c\\* |" in text  # an id is text, not markup
    for line, following in pairwise(text.splitlines()):
        if line.startswith("|") and following.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", following))


def test_the_page_is_whole_and_loads_nothing(summary):
    page = summary_html(summary)
    tags = Tags(page)
    assert tags.open == []
    assert tags.links == []
    assert "script" not in tags.seen
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "a|b_&lt;i&gt;*c*" in page
    assert "<i>*c*" not in page
    assert "Fa &amp; Fb on AMI" in page
    assert page.count("<svg") == 1 + 2 * 2 + 1  # heatmap, two curves per card, recordings
    assert all(mark in page for mark in "◇★×")


def test_cells_of_a_random_search_have_no_directions_minima_or_neighbours(rng):
    summary = summarise_tuning(scattered_table(rng), {"Fa": 0.07, "Fb": 0.8})
    page = summary_html(summary)
    for text in (summary_markdown(summary), page):
        assert text.count(NEEDS_GRID) == 1
        for claim in (
            "Steadiest",
            "steadiest",
            "local minima",
            "monotone",
            "no one direction",
        ):
            assert claim not in text
        assert "best cell's plateau" not in html.unescape(text)
    assert "<polyline" not in page  # one value does not lead to the next
    assert page.count("<circle") >= 2 * 2 * 40
    assert Tags(page).open == []
    drawn = grid_effects.plot_effects(summary.cards)
    assert {trace.mode for trace in drawn.data if trace.name != "not monotone"} == {"markers"}


def test_a_grid_has_no_word_about_what_a_search_cannot_tell(summary):
    assert NEEDS_GRID not in summary_markdown(summary) + summary_html(summary)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a&amp;b", "a&amp;amp;b"),
        ("&#60;x", "&amp;#60;x"),
        ("Fa & Fb", "Fa & Fb"),
        ("a\u2028b\rc\nd", "a b c d"),
        ("~x~ $y$", r"\~x\~ \$y\$"),
    ],
)
def test_markdown_reads_names_as_they_are(text, shown):
    assert escape(text) == shown


def test_both_are_written_whole(summary, tmp_path):
    markdown, page = write_summary(tmp_path / "out", summary)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["summary.html", "summary.md"]
    assert markdown.read_text(encoding="utf-8").startswith("# Fa & Fb on AMI\n")
    assert page.read_text(encoding="utf-8").endswith("</html>\n")


def test_ten_thousand_cells_make_less_than_three_megabytes(rng):
    table = noise_cells(rng, "independent", 40, axes={"Fa": range(100), "Fb": range(100)})
    summary = summarise_tuning(table, {"Fa": 3, "Fb": 4}, num_resamples=200, folds=4)
    assert len(summary_html(summary).encode()) < 3_000_000
    assert len(summary_markdown(summary).encode()) < 100_000


def test_a_sweep_without_default_and_of_one_cell_is_summarised_as_well():
    table = results_table({"Fa": (0.07,)}, np.array([[10.0]]), np.array([100.0]))
    summary = summarise_tuning(table)
    text = summary_markdown(summary)
    assert "whether that is a gain cannot be said" in text
    assert "nan" not in text.lower().replace("pyannote", "")
    assert Tags(summary_html(summary)).open == []
    few = summarise_tuning(
        results_table({"Fa": (1, 2)}, np.array([[20.0, 10.0]] * 3), np.full(3, 100.0)), {"Fa": 1}
    )
    assert "Cannot tell: from 3 recordings" in summary_markdown(few)


def test_the_verdict_names_plateau_noise_and_edge(summary):
    words = summary.verdict
    assert re.search(r"plateau is \d+ cells? wide", words)
    assert "out of fold: take" in words


def test_where_the_gain_is_not_significant_the_steadiest_cell_is_offered():
    """The example of the screen: keep the default, or take the one on a plateau."""
    errors = np.array(
        [[30, 30, 22, 22, 22, 30, 10, 30]] * 4 + [[30, 32, 31, 31, 31, 32, 45, 32]] * 4, dtype=float
    )
    table = results_table({"Fa": range(1, 9)}, errors, np.full(8, 100.0))
    stability = pd.DataFrame(
        {
            "uri": "r00", "cell": 3, "level": [1e-4, 1e-3], "repeat": 0, "changed": True, "ari": 0.9,
            "moved": [0.1, 30.0], "speech": 600.0, "total": 600.0, "errors": [60.0, 66.0],
            "errors_clean": 60.0, "num_speakers": 4, "num_speakers_clean": 4,
        }
    )  # fmt: skip
    words = summarise_tuning(table, {"Fa": 1}, best={"Fa": 4}, stability=stability).verdict
    assert "not significant" in words
    assert "keep the default" in words
    assert "If it must be another one: Fa 4, with 26.5 % DER and no neighbour above 26.5 %." in words
    assert "survives embedding noise of 0.0001; 5.0 % of the speech changes its speaker at 0.001" in words
    assert "3 cells wide" in words


def test_the_heatmap_shows_every_cell_and_leaves_holes_blank():
    values = np.array([[1.0, 1.0, 2.0], [np.nan, 3.0, 4.0]])
    drawn = heatmap_svg(
        values, ["a", "b", "c"], ["x", "<y>"], x_title="Fa", y_title="Fb", marks=[(2, 1, "★")],
        hatched=values == 2.0,
    )  # fmt: skip
    root = ElementTree.fromstring(drawn)
    boxes = [box.attrib for box in root if box.tag.endswith("rect")]
    cells = [box for box in boxes if box["width"] != "12" and not box["fill"].startswith("url")]
    assert sum(int(box["width"]) for box in cells) == 5 * 46  # equal neighbours share a box
    assert len(cells) == 4
    assert len({box["fill"] for box in cells}) == 4
    assert sum(box["fill"].startswith("url") for box in boxes) == 1
    texts = [text.text for text in root if text.tag.endswith("text")]
    assert {"a", "b", "c", "x", "<y>", "Fa", "Fb", "★", "4.0 %", "1.0 %"} <= set(texts)


def test_the_full_star_is_filled_and_the_empty_one_is_not():
    marks = [(0, 0, "★"), (1, 0, "☆")]
    drawn = heatmap_svg(np.array([[1.0, 2.0]]), "ab", "c", x_title="x", y_title="y", marks=marks)
    fills = {text.text: text.get("fill") for text in ElementTree.fromstring(drawn) if text.text in ("★", "☆")}
    assert fills == {"★": "#000", "☆": "#fff"}


def test_a_recording_says_what_it_had_and_what_it_has():
    drawn = pairs_svg(["a", "b", "c"], np.array([25.4, 1.7, np.nan]), np.array([2.8, 1.71, 3.0]))
    texts = [text.text for text in ElementTree.fromstring(drawn) if text.tag.endswith("text")]
    assert texts[:6] == ["a", "25.4 → 2.8", "b", "1.7", "c", "3.0"]


def test_lines_across_all_cells_are_left_out():
    errors = np.array([[20.0, 10.0, 15.0, 12.0]] * 3)
    table = results_table({"Fa": (1, 2), "Fb": (1, 2)}, errors, np.full(3, 100.0))
    page = summary_html(summarise_tuning(table, {"Fa": 1, "Fb": 1}))
    assert "url(#wb-hatch)" not in page
    assert "all cells: not significantly worse than the best" in page


def test_drawings_of_nothing_and_of_constants_are_still_drawings():
    drawings = (
        heatmap_svg(np.full((2, 2), np.nan), "ab", "cd", x_title="x", y_title="y"),
        curve_svg(["1", "2"], np.array([3.0, 3.0]), "speakers", marked=0),
        curve_svg(["1"], np.array([np.nan]), "speakers"),
        pairs_svg(["r"], np.array([np.nan]), np.array([0.0])),
    )
    assert all(ElementTree.fromstring(drawing).tag.endswith("svg") for drawing in drawings)


def test_cards_are_drawn_with_their_inversions_and_the_default(summary):
    curves = {card.parameter: card.curve for card in summary.cards}
    inversions = {"Fa": pd.DataFrame({"start": [AXES["Fa"][1]], "end": [AXES["Fa"][3]]})}
    figure = plot_effects(curves, inversions, DEFAULT)
    assert len(figure.data) == 4  # speakers and DER, for Fa and Fb
    np.testing.assert_allclose(figure.data[1].y, 100 * curves["Fa"]["der"])
    assert figure.layout.yaxis.title.text == "Speakers (mean)"
    assert figure.layout.yaxis3.title.text == "DER (%)"
    boxes = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(box.x0, box.x1) for box in boxes] == [(1, 3)]
    assert {shape.x0 for shape in figure.layout.shapes if shape.type == "line"} == {7, 8}


def test_an_unset_value_is_no_part_of_a_line():
    counts = np.array([[2, 4, 6, 3]] * 2)
    axes = {"loop_prob": [0.5, 0.9, 0.99, None]}
    table = results_table(axes, 10.0 * counts, np.full(2, 100.0), num_speakers=counts)
    summary = summarise_tuning(table, {"loop_prob": None})
    (card,) = summary.cards
    figure = plot_effects({"loop_prob": card.curve}, None, {"loop_prob": None})
    np.testing.assert_array_equal(figure.data[0].x, [0, 1, 2, np.nan, 3])
    np.testing.assert_array_equal(figure.data[0].y, [2, 4, 6, np.nan, 3])
    assert figure.layout.xaxis2.ticktext == ("0.5", "0.9", "0.99", "none")
    assert {shape.x0 for shape in figure.layout.shapes} == {3}
    drawing = curve_svg(["0.5", "0.9", "0.99", "none"], np.array([2.0, 4, 6, 3]), "speakers", in_row=3)
    parts = list(ElementTree.fromstring(drawing))
    (line,) = (part for part in parts if part.tag.endswith("polyline"))
    (dot,) = (part for part in parts if part.tag.endswith("circle"))
    x = [float(point.split(",")[0]) for point in line.attrib["points"].split()]
    assert len(x) == 3
    assert x[-1] < float(dot.attrib["cx"])
    assert [part.text for part in parts if part.tag.endswith("text")][-2:] == ["0.99", "none"]
    page = summary_html(summary)
    cards = page[page.index('class="cards"') : page.index("<h2>Recordings")]
    assert cards.count("<circle") == 2  # speakers and DER
    assert "Left unset (none), 3 on average." in page


def test_recordings_are_drawn_with_default_choice_and_own_best(summary):
    figure = plot_recordings(summary.choice.per_recording)
    assert [trace.name for trace in figure.data] == ["default", "chosen cell", "its own best cell"]
    assert all(len(trace.x) == 16 for trace in figure.data)
    assert (np.array(figure.data[2].x) <= np.array(figure.data[1].x)).all()
    assert figure.layout.xaxis.title.text == "DER (%)"


def test_stability_is_drawn_over_the_level_of_noise(summary):
    figure = plot_stability(summary.stability, {81: "best"})
    assert figure.data[0].name == "best"
    assert list(figure.data[0].y) == [0.0, 5.0]
    assert figure.layout.xaxis.type == "log"


def test_what_a_sweep_returns_is_understood():
    features, references = zip(*(talk(f"r{number}", 0.5 + 0.1 * number) for number in range(7)), strict=True)
    results = sweep(
        list(features),
        {reference.uri: reference for reference in references},
        {"ahc_threshold": [0.3, 0.55, 0.8, 1.5], "min_cluster_size": [1, 2]},
        base=SweepSettings(clustering=AHCParams()),
    )
    default = {"ahc_threshold": 1.5, "min_cluster_size": 1}
    summary = summarise_tuning(results, default)
    choice = summary.choice
    assert choice.table.parameters == ("ahc_threshold", "min_cluster_size")
    assert choice.verdict == "change"  # 0.3 keeps all voices apart, 1.5 joins them all
    assert choice.table.values(choice.best)["ahc_threshold"] == 0.3
    assert choice.not_worse.sum() >= 2  # min_cluster_size makes no difference
    assert {card.parameter: card.speakers for card in summary.cards} == {
        "ahc_threshold": "shrinks",
        "min_cluster_size": "none",
    }
    assert [notice.text for notice in summary.notices if notice.kind == "no effect"] == [
        "min_cluster_size had no effect on any recording: all its values give the same output"
    ]
    assert summary.plateaus["region_cells"].min() >= 2
    assert "0.30 (distance; cosine similarity 0.95)" in summary_markdown(summary)
