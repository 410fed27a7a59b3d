"""The clustering grid as its reader meets it: run, click a cell, hear an error, drag sliders and the line."""

from __future__ import annotations

import nbformat
import pytest

NOTEBOOK = "notebooks/03_clustering_grid.ipynb"
DRAWN = """[...gd.querySelectorAll(".layer-above > .imagelayer > image")].map(each => each.href.baseVal)"""
LIVE = 4  # plotly figures before the live one: grid, cards, importance, all cells

XVECTORS = """
import sys
import numpy as np
sys.path.append({tests!r})
from segment_recordings import make_segments
from workbench.explorers import explore_live
features, reference, plda = make_segments(np.random.default_rng(0), noise=1.5)
explore_live(features, reference, plda=plda, collar=0.25)
"""


@pytest.fixture
def notebook(lab):
    lab.page.set_viewport_size({"width": 1500, "height": 1800})  # marks out of view cannot be clicked
    lab.open_notebook(NOTEBOOK)
    lab.run_all()
    lab.wait_plot(5)
    return lab


def press(lab, slider, key, times, screen=0):
    """Move a slider of one of the screens with the arrow keys."""
    label = lab.page.locator(".wb-screen").nth(screen).get_by_text(slider, exact=True)
    handle = label.locator("..").locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(times):
        lab.page.keyboard.press(key)


def trace(name):
    return f"gd.data.find(trace => trace.name === {name!r})"


@pytest.mark.timeout(300)
def test_the_grid_leads_from_a_cell_to_the_sound_of_an_error_and_answers_sliders(notebook):
    lab, page = notebook, notebook.page
    screen = page.locator(".wb-screen").first
    assert screen.bounding_box()["width"] <= 1060
    assert "DER against" in screen.locator(".wb-tuning").inner_text()
    assert lab.read_plot("gd._fullLayout.xaxis.type") == "date"

    # a click on a cell shows its parameters, its bars, its lanes
    lab.click_plot(1, 0, subplot="x2y6")
    lab.wait_plot_until("gd.layout.shapes[1].x0 === 0.5 && gd.layout.shapes[1].y0 === -0.5")
    page.wait_for_function(
        "() => document.querySelector('.wb-screen').innerText.includes('Fa 0.04 · Fb 0.2')"
    )

    # a slider leads to another plane of the grid
    before = lab.read_plot(f"JSON.stringify(Array.from({trace('cells')}.z, row => Array.from(row)))")
    press(lab, "ahc_threshold", "ArrowLeft", 1)
    lab.wait_plot_until(
        f"JSON.stringify(Array.from({trace('cells')}.z, row => Array.from(row))) !== {before!r}"
    )

    # an error plays with a second on either side
    errors = trace("errors B")
    index = lab.read_plot(f"Array.from({errors}.x).reduce((best, x, i, all) => x > all[best] ? i : best, 0)")
    base, width, row = lab.read_plot(
        f"(bar => [bar.base[{index}], bar.x[{index}], bar.y[{index}]])({errors})"
    )
    page.mouse.move(5, 5)  # what the mouse was over before must not take the click
    lab.wait_plot_until("!gd._hoverdata")
    lab.click_plot(base + width / 2, row, subplot="xy5")
    page.wait_for_function("() => document.querySelector('.wb-player audio').played.length > 0")
    assert f"{width / 1000:.1f} s" in page.locator(".wb-selection").first.inner_text()

    # live: a slider moves the pictures; values that come while one is answered are not queued
    shown, answers = lab.read_plot("[gd.layout.images[1].source, Number(gd.dataset.answer)]", LIVE)
    assert lab.read_plot(DRAWN, LIVE) == lab.read_plot("gd.layout.images.map(each => each.source)", LIVE)
    press(lab, "Fb", "ArrowRight", 60, screen=1)
    lab.wait_plot_until(f"gd.layout.images[1].source !== {shown!r}", LIVE)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.wb-about')].some(each => each.innerText.includes('Fb 3.18'))"
    )
    assert lab.read_plot("Number(gd.dataset.answer)", LIVE) - answers < 60

    # what plotly draws afterwards, for a part of the time axis, is the newest, too
    lab.read_plot("gd.scrollIntoView()", LIVE)
    shown = lab.read_plot("gd.layout.images[1].source", LIVE)
    area = lab.plot(LIVE).locator(".nsewdrag[data-subplot='xy2']").bounding_box()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 10)
    page.mouse.wheel(0, -300)
    lab.wait_plot_until(f"gd.layout.images[1].source !== {shown!r}", LIVE)
    assert lab.read_plot(DRAWN, LIVE) == lab.read_plot("gd.layout.images.map(each => each.source)", LIVE)
    start, end = lab.read_plot("gd._fullLayout.xaxis.range.map(each => gd._fullLayout.xaxis.r2l(each))", LIVE)
    assert lab.read_plot("gd.layout.images[1].x", LIVE) == pytest.approx(start, abs=1)
    assert lab.read_plot("gd.layout.images[1].sizex", LIVE) == pytest.approx(end - start, abs=1)

    # dragging the line moves the slider
    line = page.locator(".wb-cut").first
    line.scroll_into_view_if_needed()
    label = line.inner_text()
    area = line.bounding_box()
    page.mouse.move(area["x"] + 40, area["y"] + 5)
    page.mouse.down()
    page.mouse.move(area["x"] + 40, area["y"] - 20, steps=3)
    page.mouse.up()
    page.wait_for_function("text => document.querySelector('.wb-cut').innerText !== text", arg=label)
    page.wait_for_function(
        """() => [...document.querySelectorAll('.widget-readout')].some(
            each => each.innerText === document.querySelector('.wb-cut').innerText)"""
    )

    assert page.locator(".wb-error").count() == 0
    assert lab.complaints == []
    assert lab.foreign == []


@pytest.mark.timeout(300)
def test_x_vectors_answer_the_line_over_similarities_and_a_fourth_slider(lab, repository):
    page = lab.page
    name = "notebooks/made_x_vectors.ipynb"
    cell = nbformat.v4.new_code_cell(XVECTORS.format(tests=str(repository / "tests")))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), lab.server.root / name)
    lab.open_notebook(name)
    lab.run_all()
    lab.wait_plot()
    screen, line = page.locator(".wb-screen"), page.locator(".wb-cut")
    line.wait_for()
    before = screen.locator(".wb-head").inner_text()
    assert "DER " in before
    assert "JER " in before

    # further up voices are less alike: dragging the line there lowers the threshold
    assert line.inner_text() == "−0.015"
    line.scroll_into_view_if_needed()
    area = line.bounding_box()
    page.mouse.move(area["x"] + 40, area["y"] + 5)
    page.mouse.down()
    page.mouse.move(area["x"] + 40, area["y"] - 30, steps=3)
    page.mouse.up()
    page.wait_for_function(
        "() => Number(document.querySelector('.wb-cut').innerText.replace('−', '-')) < -0.1"
    )
    page.wait_for_function(
        """() => document.querySelector('.wb-screen .widget-readout').innerText
            === document.querySelector('.wb-cut').innerText"""
    )

    press(lab, "loop_prob", "ArrowLeft", 40)
    page.wait_for_function("() => document.querySelector('.wb-about').innerText.includes('loop_prob 0.95')")
    lab.wait_idle()
    assert lab.read_plot(DRAWN) == lab.read_plot("gd.layout.images.map(each => each.source)")
    assert screen.locator(".wb-before").count() == 0
    assert page.locator(".wb-error").count() == 0
    assert lab.complaints == []
