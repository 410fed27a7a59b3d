"""The embedding screen as its reader meets it: drag the threshold, click an outlier, hear it."""

from __future__ import annotations

import re

import pytest

NOTEBOOK = "notebooks/06_embeddings.ipynb"
POINT = "gd.layout.shapes[2]"  # on the DET curve


@pytest.fixture
def notebook(lab, repository):
    if not (repository / "data" / "demo" / "features").is_dir():
        pytest.skip("needs data/demo/features, which scripts/make_demo_features.py makes")
    lab.page.set_viewport_size({"width": 1500, "height": 1500})  # marks out of view cannot be clicked
    lab.open_notebook(NOTEBOOK)
    lab.page.evaluate(  # the screen alone: what follows it are tables and figures without controls
        """() => {
            const notebook = window.testPanel.content;
            while (notebook.model.cells.length > 2) notebook.model.sharedModel.deleteCell(2);
        }"""
    )
    lab.run_all()
    lab.wait_plot()
    lab.page.locator(".wb-grip").wait_for()
    lab.page.locator(".wb-screen").first.evaluate("screen => screen.scrollIntoView({ block: 'start' })")
    return lab


def trace(name):
    return f"gd.data.find(trace => trace.name === {name!r})"


def counts(page):
    """Missed and accepted trials, as the words say them."""
    words = page.locator(".wb-rates").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    return tuple(int(number) for number in re.findall(r"(\d+) of \d+", words)[:2])


def wait_for_clip(lab):
    lab.page.wait_for_function(
        """() => {
            const audio = document.querySelector(".wb-player audio");
            return audio && audio.duration > 0.3 && audio.played.length > 0;
        }"""
    )


@pytest.mark.timeout(300)
def test_the_threshold_is_dragged_and_an_outlier_is_heard(notebook):
    lab, page = notebook, notebook.page
    assert page.locator(".wb-screen").first.bounding_box()["width"] <= 1060
    assert page.evaluate("(s => s.scrollWidth - s.clientWidth)(document.querySelector('.wb-screen'))") == 0
    assert "EER" in page.locator(".wb-der").first.inner_text()
    assert "ONNX against torch" in page.locator(".wb-verdict").inner_text()

    # the line is dragged to the right: fewer false accepts, more misses, and the point follows
    missed, accepted = counts(page)
    place = lab.read_plot(f"[{POINT}.xanchor, {POINT}.yanchor]")
    grip = page.locator(".wb-grip").bounding_box()
    across, down = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across + 25, down)
    page.mouse.move(across + 50, down, steps=5)
    page.mouse.up()
    target = lab.read_plot(
        f"gd._fullLayout.xaxis.p2l({across + 50} - gd.getBoundingClientRect().left"
        " - gd._fullLayout.xaxis._offset)"
    )
    lab.wait_plot_until(f"Math.abs(gd.layout.shapes[0].x0 - {target}) < 0.01")
    page.wait_for_function(
        "value => Math.abs(parseFloat(document.querySelector('.wb-rates b').innerText) - value) < 0.01",
        arg=target,
    )
    lab.wait_plot_until(f"{POINT}.xanchor < {place[0]} && {POINT}.yanchor > {place[1]}")
    now_missed, now_accepted = counts(page)
    assert now_missed > missed
    assert now_accepted < accepted
    scores = lab.read_plot(
        "['same speaker', 'different speakers'].map(name => gd.data.find(t => t.name === name))"
        f".map(bar => bar.customdata.reduce((sum, n, i) => sum + (bar.x[i] < {target} ? Number(n) : 0), 0))"
    )
    assert abs(scores[0] - now_missed) <= 12  # the bar that the line cuts in two

    # keys move it, too, and a double click brings it back
    page.locator(".wb-grip").press("ArrowRight")
    lab.wait_plot_until(f"gd.layout.shapes[0].x0 > {target} + 0.002")
    page.locator(".wb-grip").dblclick()
    page.wait_for_function(
        "text => document.querySelector('.wb-rates').innerText.includes(text)", arg=f"on: {missed} of "
    )
    assert counts(page) == (missed, accepted)

    # a click on an outlier says who it is and plays it
    bar = trace("outliers")
    margin = lab.read_plot(f"{bar}.x[0]")
    lab.click_plot(margin / 2, 0, subplot="x6y6")
    page.wait_for_function("() => document.querySelector('.wb-selection').innerText.includes('taken for')")
    assert page.locator(".wb-selection").first.inner_text().startswith("demo06_five · ")
    wait_for_clip(lab)
    lab.wait_plot_until(f"{trace('chosen')}.x.length === 1 && gd.layout.shapes[4].visible")

    # a click on a bar plays a trial
    bar = trace("same speaker")
    index = lab.read_plot(f"[...{bar}.y].reduce((best, y, i, all) => y > all[best] ? i : best, 0)")
    middle, height = lab.read_plot(f"(bar => [bar.x[{index}], bar.y[{index}]])({bar})")
    lab.click_plot(middle, height * 0.9)
    page.wait_for_function("() => document.querySelector('.wb-selection').innerText.includes(' against ')")
    assert "same speaker, accepted" in page.locator(".wb-selection").first.inner_text()
    wait_for_clip(lab)

    # another recording, other colours
    lab.choose("Recording", "demo01_easy")
    lab.wait_plot_until("gd.layout.annotations.some(note => note.text.includes('demo01_easy'))")
    page.get_by_role("button", name="reference", exact=True).click()
    lab.wait_plot_until("gd.layout.annotations.some(note => note.text.includes('colour: reference'))")

    assert page.locator(".wb-error").count() == 0
    assert lab.complaints == []
    assert lab.foreign == []
