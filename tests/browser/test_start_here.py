"""The first notebook as its reader meets it: run, look, drag a slider, click a turn, hear it."""

from __future__ import annotations

import pytest
from playwright.sync_api import TimeoutError

NOTEBOOK = "notebooks/00_start_here.ipynb"
MODELS_LIMIT = 240_000  # milliseconds until both recordings of the notebook went through the models
TO_THE_END = 150  # steps, more than the threshold has
HYPOTHESIS, REFERENCE, ERRORS = 3, 2, 4  # traces of the figure


@pytest.fixture
def notebook(lab, repository):
    if not (repository / "models" / "demo" / "config.toml").is_file():
        pytest.skip("needs models/demo, which scripts/train_demo.py makes")
    lab.open_notebook(NOTEBOOK)
    lab.run_all()
    lab.wait_plot(2)
    lab.page.wait_for_function(
        """() => {
            const headlines = [...document.querySelectorAll(".wb-head")].map(head => head.innerText);
            return headlines.length === 2 && /DER\\s[\\d.]+/.test(headlines[0])
                && [...document.querySelectorAll(".wb-speakers b")].every(b => /\\d/.test(b.innerText));
        }""",
        timeout=MODELS_LIMIT,
    )
    return lab


def redrawn_after(lab, steps, condition):
    """Move the first slider of the first screen with the arrow keys; whether `condition` came true."""
    handle = lab.page.locator(".wb-screen").first.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(abs(steps)):
        lab.page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    try:
        lab.page.wait_for_function(
            f"() => {{ const gd = document.querySelector('.js-plotly-plot'); return {condition} }}",
            timeout=20_000,
        )
    except TimeoutError:
        return False
    return True


def click_longest(lab, trace, subplot):
    """Click the middle of the longest bar of a trace; returns its start and end in seconds."""
    index = lab.read_plot(
        f"Array.from(gd.data[{trace}].x).reduce((best, x, i, all) => x > all[best] ? i : best, 0)"
    )
    start, length, row = lab.read_plot(
        f"[gd.data[{trace}].base[{index}], gd.data[{trace}].x[{index}], gd.data[{trace}].y[{index}]]"
    )
    lab.click_plot(start + length / 2, row, subplot=subplot)
    first = (start - 946_684_800_000) / 1000
    return first, first + length / 1000


def wait_for_clip(lab, seconds):
    lab.page.wait_for_function(
        """seconds => {
            const audio = document.querySelector(".wb-player audio");
            return audio && Math.abs(audio.duration - seconds) < 0.05 && audio.played.length > 0;
        }""",
        arg=seconds,
    )


@pytest.mark.timeout(600)
def test_the_first_notebook_answers_to_slider_and_mouse(notebook):
    lab, page = notebook, notebook.page
    selection = page.locator(".wb-selection").first
    assert page.locator(".wb-error").count() == 0
    assert page.locator(".wb-screen").first.bounding_box()["width"] <= 1060
    assert lab.read_plot("gd._fullLayout.xaxis.type") == "date"
    ticks = lab.plot().locator(".xtick text").all_text_contents()
    assert "0:00" in ticks

    # a slider redraws the hypothesis; whatever came in between, the last value is what stays
    bars = f"JSON.stringify([...gd.data[{HYPOTHESIS}].base])"
    drawn = lab.read_plot(bars)
    headline = page.locator(".wb-head").first.inner_text()
    assert any(redrawn_after(lab, steps, f"{bars} !== {drawn!r}") for steps in (-TO_THE_END, TO_THE_END))
    lab.wait_idle()
    page.wait_for_function("before => document.querySelector('.wb-head').innerText !== before", arg=headline)
    page.locator(".wb-screen").first.get_by_text("Reset").click()
    lab.wait_plot_until(f"{bars} === {drawn!r}")
    page.wait_for_function("before => document.querySelector('.wb-head').innerText === before", arg=headline)

    # a click on a turn plays that turn
    start, end = click_longest(lab, REFERENCE, "xy3")
    page.wait_for_function(
        "() => document.querySelector('.wb-selection').innerText.includes(' · reference ')"
    )
    assert f"{start:.1f}–{end:.1f} s" in selection.inner_text()
    wait_for_clip(lab, end - start)

    # an error comes with a second on either side
    start, end = click_longest(lab, ERRORS, "xy5")
    page.wait_for_function(
        "() => !document.querySelector('.wb-selection').innerText.includes(' · reference ')"
    )
    assert f"{start:.1f}–{end:.1f} s" in selection.inner_text()
    duration = lab.read_plot("(gd.layout.xaxis.maxallowed - gd.layout.xaxis.minallowed) / 1000")
    wait_for_clip(lab, min(end + 1, duration) - max(start - 1, 0))

    # the wheel zooms around the mouse, a double click goes back
    area = lab.plot().locator(".nsewdrag[data-subplot='xy4']").bounding_box()
    points = lab.read_plot("gd.data[0].x.length")
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 5)
    assert page.locator(".wb-line-mouse").first.is_visible()
    for _ in range(5):
        page.mouse.wheel(0, -200)
    lab.wait_plot_until(f"gd.data[0].x.length > {points}")
    lab.wait_idle()  # while plotly is still zooming, it takes no double click
    page.mouse.dblclick(area["x"] + area["width"] / 2, area["y"] + 5)
    lab.wait_plot_until(f"gd.data[0].x.length === {points}")
    assert lab.complaints == []

    # a page that is reloaded shows what the kernel has drawn since
    lab.wait_idle()
    lab.reload(NOTEBOOK)
    lab.wait_plot(2)
    lab.wait_plot_until(f"{bars} === {drawn!r}")
    assert page.locator(".wb-head").first.inner_text() == headline

    assert page.locator(".wb-error").count() == 0
    assert lab.foreign == []
