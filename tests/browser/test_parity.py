"""Parity and the port check as their reader meets them: click a flip, mark a region, switch the runtime."""

from __future__ import annotations

import pytest
from playwright.sync_api import TimeoutError

PARITY, PORT = "notebooks/04_parity.ipynb", "notebooks/05_port_check.ipynb"
MODELS_LIMIT = 240_000  # ms


def trace(name):
    return f"gd.data.find(trace => trace.name === {name!r})"


def shown(lab):
    return lab.page.locator(".wb-selection").first.inner_text()


def wait_for_words(lab, words, seconds=60):
    lab.page.wait_for_function(
        "words => document.querySelector('.wb-selection').innerText.includes(words)",
        arg=words,
        timeout=1000 * seconds,
    )


@pytest.mark.timeout(600)
def test_parity_leads_from_a_flip_to_its_scores_and_its_sound(lab):
    page = lab.page
    page.set_viewport_size({"width": 1500, "height": 1800})  # marks out of view cannot be clicked
    lab.open_notebook(PARITY)
    lab.run_all(MODELS_LIMIT / 1000)
    page.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')?._fullLayout?.images?.length >= 2",
        timeout=MODELS_LIMIT,
    )
    lab.wait_plot()
    screen = page.locator(".wb-screen").first
    assert screen.bounding_box()["width"] <= 1100
    verdict = page.locator(".wb-tuning").first.inner_text()
    assert "of frames flip" in verdict
    assert "Conditions observed" in page.locator(".wb-notices").first.inner_text()
    assert lab.read_plot(f"{trace('layers all')}.x.length") > 10

    # a click on a tick: both score vectors, the margin in words, two seconds of sound
    ticks = "gd.data.filter(trace => trace.name.startsWith('flips') && trace.x.length)"
    time, low, high = lab.read_plot(f"(t => [t.x[3], t.y[3], t.y[4]])({ticks}[0])")
    for _attempt in range(3):  # hover is throttled: now and then a click comes before plotly knows the mark
        lab.click_plot(time, high + 0.2 * (low - high), subplot="xy2")
        try:
            wait_for_words(lab, "nats", seconds=20)
        except TimeoutError:
            continue
        break
    lab.wait_plot_until(f"{trace('scores candidate')}.y.length === 11 && gd.layout.images.length === 3")
    for side in ("baseline", "candidate"):
        assert sum(lab.read_plot(f"Array.from({trace(f'scores {side}')}.y)")) == pytest.approx(1, abs=0.01)
    assert "median filter" in shown(lab) or "output" in shown(lab)
    page.wait_for_function(
        "() => { const a = document.querySelector('.wb-player audio'); return a && a.duration > 1.4 }"
    )

    # a region is marked by dragging over the flips: what lies in it is counted
    page.get_by_role("button", name="mark", exact=True).click()
    lab.wait_plot_until("gd._fullLayout.dragmode === 'select'")
    area = lab.plot().locator(".nsewdrag[data-subplot='xy2']").bounding_box()
    across = [area["x"] + share * area["width"] for share in (0.25, 0.5)]
    down = area["y"] + area["height"] / 2
    page.mouse.move(across[0], down)
    page.mouse.down()
    page.mouse.move(across[1], down, steps=8)
    page.mouse.up()
    counts = page.locator(".wb-about", has_text="Marked").first
    counts.wait_for()
    lab.wait_plot_until("gd.layout.shapes[0].visible")
    start, end = lab.read_plot("[gd.layout.shapes[0].x0, gd.layout.shapes[0].x1].map(x => x - 946684800000)")
    whole = lab.read_plot("gd.layout.xaxis.maxallowed - gd.layout.xaxis.minallowed")
    assert (start / whole, end / whole) == (pytest.approx(0.25, abs=0.01), pytest.approx(0.5, abs=0.01))
    assert "flip" in counts.inner_text()

    # another runtime is compared when it is chosen
    lab.choose("Candidate", "onnx fp32")
    page.wait_for_function(
        "before => { const now = document.querySelector('.wb-tuning').innerText; return now !== before }",
        arg=verdict,
        timeout=MODELS_LIMIT,
    )
    lab.wait_plot_until(f"{ticks}.length === 0")
    assert "100 % of frames agree" in page.locator(".wb-tuning").first.inner_text()
    assert page.evaluate("(s => s.scrollWidth - s.clientWidth)(document.querySelector('.wb-screen'))") == 0
    assert page.locator(".wb-error").count() == 0
    assert lab.complaints == []
    assert lab.foreign == []


@pytest.mark.timeout(600)
def test_the_port_check_opens_the_first_step_that_differs(lab):
    page = lab.page
    page.set_viewport_size({"width": 1500, "height": 1500})
    lab.open_notebook(PORT)
    lab.run_all(MODELS_LIMIT / 1000)
    lab.wait_plot()
    assert "median filter" in shown(lab)  # the first of the faults that the notebook plants
    assert page.locator(".wb-screen").first.bounding_box()["width"] <= 1100
    assert lab.read_plot(f"new Set({trace('steps')}.text).size") == 3  # same, within, different
    row = lab.read_plot("gd.layout.yaxis6.ticktext.indexOf('embeddings')")
    lab.click_plot(1, row, subplot="x2y6")
    wait_for_words(lab, "embeddings of port")
    lab.wait_plot_until(f"{trace('values candidate')}.y.length > 5")
    ends = lab.read_plot(f"(t => [t.y[0], t.y[t.y.length - 1]])({trace('waterfall')})")
    assert min(ends) > 0
    assert page.locator(".wb-error").count() == 0
    assert lab.complaints == []
    assert lab.foreign == []
