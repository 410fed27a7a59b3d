"""Parity and the port check as their reader meets them: click a flip, mark a region, switch the runtime."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error

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


def wait_canvas_until(lab, condition, seconds=60):
    """Wait until what the canvas says of itself fulfils `condition`, JavaScript of `lanes` and `detail`."""
    lab.page.wait_for_function(
        f"""() => {{
            const of = name => document.querySelector(`canvas.wb-parity-${{name}}`)?.dataset ?? {{}};
            const [lanes, detail] = [of("lanes"), of("detail")];
            return lanes.sharp === "true" && ({condition});
        }}""",
        timeout=1000 * seconds,
    )


def painted_tick(lab, number=0):
    """Where on the page the flip's tick `number` from the left is, found by its colour on the canvas."""
    x, y = lab.page.evaluate(
        """number => {
            const canvas = document.querySelector("canvas.wb-parity-lanes");
            const layout = document.querySelector(".js-plotly-plot")._fullLayout;
            const box = canvas.getBoundingClientRect();
            const scale = canvas.width / box.width;
            const found = [];
            for (const row of [0, 1]) { // real flips, near-ties
                const down = layout.yaxis2._offset + layout.yaxis2.l2p(row) - layout.yaxis._offset;
                const pen = canvas.getContext("2d");
                const line = pen.getImageData(0, Math.round(down * scale), canvas.width, 1).data;
                const is_painted = at => at >= 0 && line[4 * at + 3] > 120;
                for (let at = 0; at < canvas.width; at++) {
                    if (is_painted(at) && !is_painted(at - 1)) found.push([at / scale + 1, down]);
                }
            }
            if (found.length <= number) throw new Error(`only ${found.length} ticks are painted`);
            return [box.x + found[number][0], box.y + found[number][1]];
        }""",
        number,
    )
    return x, y


def click(lab, x, y):
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    lab.page.mouse.up()


@pytest.mark.timeout(600)
def test_parity_leads_from_a_flip_to_its_scores_and_its_sound(lab):
    page = lab.page
    page.set_viewport_size({"width": 1500, "height": 1800})
    lab.open_notebook(PARITY)
    lab.run_all(MODELS_LIMIT / 1000)
    page.locator(".js-plotly-plot").first.wait_for(timeout=MODELS_LIMIT)
    lab.wait_plot()
    lab.plot().scroll_into_view_if_needed()
    wait_canvas_until(lab, "lanes.view")
    screen = page.locator(".wb-screen").first
    assert screen.bounding_box()["width"] <= 1060
    verdict = page.locator(".wb-tuning").first.inner_text()
    assert "of frames flip" in verdict
    assert "Conditions observed" in page.locator(".wb-notices").first.inner_text()
    assert lab.read_plot(f"{trace('layers all')}.x.length") > 10

    # hovering says what a tick is; a click shows both score vectors, the margin in words, and plays the sound
    x, y = painted_tick(lab, 1)
    page.mouse.move(x, y)
    tip = page.locator(".wb-parity-tip").first
    tip.wait_for()
    assert "→" in tip.inner_text()
    assert "margin" in tip.inner_text()
    click(lab, x, y)
    wait_canvas_until(lab, "detail.flip && detail.sound")
    wait_for_words(lab, "nats")
    assert "median filter" in shown(lab) or "output" in shown(lab)
    page.wait_for_function(
        "() => { const a = document.querySelector('.wb-player audio'); return a && a.duration > 1.4 }"
    )
    page.locator(".wb-parity-scores").first.hover()
    page.wait_for_function("() => document.querySelector('.wb-parity-tip').innerText.includes('candidate: ')")

    # the wheel zooms around the mouse, dragging moves, a double click shows everything again
    area = page.locator(".wb-parity-hand").first.bounding_box()
    across, down = area["x"] + 0.5 * area["width"], area["y"] + 0.9 * area["height"]
    view = "lanes.view.split(',').map(Number)"
    whole = lab.read_plot("(gd.layout.xaxis.maxallowed - gd.layout.xaxis.minallowed) / 1000")
    page.mouse.move(across, down)
    for _ in range(4):
        page.mouse.wheel(0, -200)
    wait_canvas_until(lab, f"(v => v[1] - v[0] < {0.3 * whole})({view})")
    page.mouse.down()
    page.mouse.move(across - 100, down, steps=4)
    page.mouse.up()
    wait_canvas_until(lab, f"(v => v[0] + v[1] > {1.02 * whole})({view})")
    assert "In view" in page.locator(".wb-about", has_text="flip").last.inner_text()
    page.mouse.dblclick(across, down)
    wait_canvas_until(lab, f"(v => v[0] === 0 && Math.abs(v[1] - {whole}) < 1e-3)({view})")

    # a region is marked by dragging over the flips: what lies in it is counted
    page.get_by_role("button", name="mark", exact=True).click()
    page.locator(".wb-parity-hand.wb-marking").first.wait_for()
    edges = [area["x"] + share * area["width"] for share in (0.25, 0.5)]
    page.mouse.move(edges[0], y)
    page.mouse.down()
    page.mouse.move(edges[1], y, steps=8)
    page.mouse.up()
    counts = page.locator(".wb-about", has_text="Marked").first
    counts.wait_for()
    wait_canvas_until(lab, "lanes.marked")
    marked = page.locator("canvas.wb-parity-lanes").first.get_attribute("data-marked").split(",")
    assert [float(end) / whole for end in marked] == pytest.approx([0.25, 0.5], abs=0.01)
    assert "flip" in counts.inner_text()

    # a page that is zoomed is drawn anew, in the pixels of the screen
    session = page.context.new_cdp_session(page)
    override = {"width": 1500, "height": 1800, "deviceScaleFactor": 2, "mobile": False}
    session.send("Emulation.setDeviceMetricsOverride", override)
    page.wait_for_function(
        """() => {
            const canvas = document.querySelector("canvas.wb-parity-lanes");
            return canvas.width === 2 * Math.round(canvas.getBoundingClientRect().width);
        }"""
    )
    session.send("Emulation.clearDeviceMetricsOverride")
    session.detach()

    # a page that is reloaded shows the same
    lab.wait_idle()
    lab.reload(PARITY)
    lab.wait_plot()
    lab.plot().scroll_into_view_if_needed()
    wait_canvas_until(lab, f"lanes.marked === {','.join(marked)!r} && detail.flip")
    painted_tick(lab, 1)

    # another runtime is compared when it is chosen
    lab.choose("Candidate", "onnx fp32")
    page.wait_for_function(
        "before => { const now = document.querySelector('.wb-tuning').innerText; return now !== before }",
        arg=verdict,
        timeout=MODELS_LIMIT,
    )
    assert "100 % of frames agree" in page.locator(".wb-tuning").first.inner_text()
    wait_canvas_until(lab, "!lanes.marked && !detail.flip")
    with pytest.raises(Error, match="only 0 ticks are painted"):
        painted_tick(lab)
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
    assert page.locator(".wb-screen").first.bounding_box()["width"] <= 1060
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
