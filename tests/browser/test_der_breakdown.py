"""The breakdown as its reader meets it: run, click a recording, click an error, hear it, filter."""

from __future__ import annotations

import pytest

NOTEBOOK = "notebooks/02_der_breakdown.ipynb"
EPOCH = 946_684_800_000  # ms, where recordings begin on the time axis

ROWS = "[...document.querySelectorAll('.wb-errors tbody tr')]"


@pytest.fixture
def notebook(lab, repository):
    if not (repository / "data" / "demo" / "hypotheses" / "early.rttm").is_file():
        pytest.skip("needs data/demo/hypotheses, which scripts/make_demo_hypotheses.py makes")
    lab.page.set_viewport_size({"width": 1500, "height": 1800})  # marks out of view cannot be clicked
    lab.open_notebook(NOTEBOOK)
    lab.run_all()
    lab.wait_plot()
    lab.page.locator(".wb-errors tbody tr").first.wait_for()
    return lab


def trace(name):
    return f"gd.data.find(trace => trace.name === {name!r})"


def wait_for_clip(lab, seconds):
    lab.page.wait_for_function(
        """seconds => {
            const audio = document.querySelector(".wb-player audio");
            return audio && Math.abs(audio.duration - seconds) < 0.05 && audio.played.length > 0;
        }""",
        arg=seconds,
    )


@pytest.mark.timeout(300)
def test_the_breakdown_leads_from_a_recording_to_the_sound_of_an_error(notebook):
    lab, page = notebook, notebook.page
    selection = page.locator(".wb-selection").first
    assert page.locator(".wb-screen").first.bounding_box()["width"] <= 1060
    assert "DER" in page.locator(".wb-systems").inner_text()
    assert "B against A:" in page.locator(".wb-verdict").inner_text()
    assert lab.read_plot("gd._fullLayout.xaxis.type") == "date"

    # a click on the second bar opens that recording
    uri = lab.read_plot("gd.layout.yaxis6.ticktext[1]").rstrip("…")
    length, row = lab.read_plot(f"(bar => [bar.x[1] / 2, bar.y[1]])({trace('recordings A false_alarm')})")
    missed = lab.read_plot(f"{trace('recordings A missed')}.x[1]")
    lab.click_plot(missed + length, row, subplot="x2y6")
    lab.wait_plot_until(f"gd.layout.annotations[0].text.includes({uri!r})")
    page.wait_for_function(f"uri => {ROWS}.every(row => row.innerText.startsWith(uri))", arg=uri)

    # a click on its longest error says it, plays it with a second on either side, and shows the spectrogram
    errors = trace("errors A")
    index = lab.read_plot(f"Array.from({errors}.x).reduce((best, x, i, all) => x > all[best] ? i : best, 0)")
    base, width, row = lab.read_plot(
        f"(bar => [bar.base[{index}], bar.x[{index}], bar.y[{index}]])({errors})"
    )
    lab.click_plot(base + width / 2, row, subplot="xy4")
    start, end = (base - EPOCH) / 1000, (base + width - EPOCH) / 1000
    page.wait_for_function(
        "text => document.querySelector('.wb-selection').innerText.includes(text)",
        arg=f"{start:.1f}–{end:.1f} s · A: ",
    )
    duration = lab.read_plot("(gd.layout.xaxis.maxallowed - gd.layout.xaxis.minallowed) / 1000")
    wait_for_clip(lab, min(end + 1, duration) - max(start - 1, 0))
    lab.wait_plot_until("gd.layout.images.length === 1 && gd.layout.shapes[0].visible")

    # filters narrow the table, and its rows play as well
    listed = page.locator(".wb-errors tbody tr")
    before = listed.count()
    lab.choose("Kind", "missed")
    page.wait_for_function(f"() => {ROWS}.every(row => row.dataset.kind === 'missed')")
    assert 0 < listed.count() < before
    listed.first.click()
    page.wait_for_function("() => document.querySelector('.wb-selection').innerText.includes('A: missed')")
    cells = listed.first.locator("td").all_inner_texts()
    assert cells[2] in selection.inner_text() or cells[0] in selection.inner_text()
    page.locator(".wb-errors tr.wb-picked").wait_for()

    # what B fixed and broke is listed, and the parts can be those of all recordings
    lab.choose("Kind", "all")
    page.get_by_role("button", name="B vs A").click()
    page.wait_for_function(f"() => {ROWS}.every(row => ['fixed', 'broken'].includes(row.dataset.kind))")
    assert lab.read_plot(f"{trace('changes')}.x.length") > 0
    page.get_by_role("button", name="all", exact=True).first.click()
    lab.wait_plot_until("gd.layout.annotations.some(note => note.text.includes('all 8 recordings'))")
    assert page.evaluate("(s => s.scrollWidth - s.clientWidth)(document.querySelector('.wb-screen'))") == 0

    # the convention is switched live
    words = page.locator(".wb-systems").inner_text()
    page.get_by_role("button", name="0.25 s").first.click()
    page.wait_for_function("before => document.querySelector('.wb-systems').innerText !== before", arg=words)
    assert "collar 0.25 s each side" in page.locator(".wb-screen .wb-convention").first.inner_text()

    # the wheel zooms the lanes and nothing else
    shown = lab.read_plot("[...gd._fullLayout.xaxis.range].join() + [...gd._fullLayout.xaxis2.range].join()")
    overview = lab.read_plot("[...gd._fullLayout.xaxis2.range]")
    lane = lab.plot().locator(".nsewdrag[data-subplot='xy2']")
    lane.scroll_into_view_if_needed()
    area = lane.bounding_box()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 5)
    for _ in range(4):
        page.mouse.wheel(0, -200)
    lab.wait_plot_until(
        f"[...gd._fullLayout.xaxis.range].join() + [...gd._fullLayout.xaxis2.range].join() !== {shown!r}"
    )
    assert lab.read_plot("[...gd._fullLayout.xaxis2.range]") == overview

    assert page.locator(".wb-error").count() == 0
    assert lab.complaints == []
    assert lab.foreign == []
