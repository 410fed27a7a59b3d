"""Panning in Chromium: frames per second while the breakdown of a three-hour recording is dragged.

    python benchmarks/panning.py                        # 10,000 turns on either side, two systems
    python benchmarks/panning.py --turns 3000 --hours 1 --json bench.json

The screen runs in JupyterLab with a kernel, as its reader has it. The lanes are dragged back and forth, with
the whole recording in view and zoomed in. A frame is one repaint that the browser makes in between; at the
end of every drag the kernel draws what has come into view, which the last column tells.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import nbformat
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.harness import Lab, find_chromium, launch, serve  # noqa: E402

NOTEBOOK = """
import numpy as np
from pyannote.core import Annotation, Segment
from workbench.explorers import explore_errors

def meeting(seed):
    rng = np.random.default_rng(seed)
    annotation = Annotation(uri="long")
    starts = np.sort(rng.uniform(0, {seconds} - 5, {turns}))
    for number, (start, length) in enumerate(zip(starts, rng.uniform(0.2, 4, {turns}))):
        annotation[Segment(start, start + length), number] = f"S{{rng.integers(6)}}"
    return {{"long": annotation}}

explore_errors(meeting(0), {{"a": meeting(1), "b": meeting(2)}})
"""
STEPS, DISTANCE = 30, 360  # mouse moves of a drag, pixels

COUNT_FRAMES = """() => {
    window.stamps = [];
    window.counting = true;
    const count = stamp => { window.stamps.push(stamp); if (window.counting) requestAnimationFrame(count) };
    requestAnimationFrame(count);
}"""
MOVED = """() => new Promise(resolve => {
    const gd = document.querySelector(".js-plotly-plot");
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(gd._fullLayout.xaxis.range.join())));
})"""


def time_drag(lab: Lab, direction: int) -> dict[str, float]:
    """One drag of the lanes: frames per second, the longest frame (ms), redraw of what came into view (s)."""
    page = lab.page
    area = lab.plot().locator(".nsewdrag[data-subplot='xy']").bounding_box()
    assert area is not None
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(COUNT_FRAMES)
    started = perf_counter()
    for step in range(1, STEPS + 1):
        page.mouse.move(x + direction * DISTANCE * step / STEPS, y)
        page.evaluate(MOVED)  # painted before the mouse goes on: no move is swallowed
    seconds = perf_counter() - started
    stamps = page.evaluate("() => { window.counting = false; return window.stamps }")
    page.evaluate(
        """() => { window.redrawn = new Promise(resolve =>
            document.querySelector(".js-plotly-plot").once("plotly_afterplot", resolve)) }"""
    )
    started = perf_counter()
    page.mouse.up()
    page.evaluate("() => window.redrawn")
    gaps = [after - before for before, after in zip(stamps, stamps[1:], strict=False)]
    return {
        "moves_per_second": STEPS / seconds,
        "frames_per_second": len(gaps) / seconds,
        "longest_frame_ms": max(gaps),
        "redraw_s": perf_counter() - started,
    }


def zoom(lab: Lab, turns: int) -> None:
    """Turn the wheel over the lanes."""
    area = lab.plot().locator(".nsewdrag[data-subplot='xy']").bounding_box()
    assert area is not None
    lab.page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    for _ in range(turns):
        before = lab.read_plot("gd._fullLayout.xaxis.range.join()")
        lab.page.mouse.wheel(0, -300)
        lab.wait_plot_until(f"gd._fullLayout.xaxis.range.join() !== {before!r}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    source = NOTEBOOK.format(seconds=3600 * options.hours, turns=options.turns)
    results: dict[str, dict[str, float]] = {}
    print(f"{options.turns} turns on either side, {options.hours:g} h, two systems")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), root / "long.ipynb"
        )
        with serve(root, Path(folder) / "jupyter") as server, sync_playwright() as playwright:
            browser = launch(playwright, executable)
            lab = Lab(server, browser.new_page(viewport={"width": 1500, "height": 1800}))
            lab.open_notebook("long.ipynb")
            lab.run_all()
            lab.wait_plot()
            for number in range(3):
                if number:
                    zoom(lab, 6)
                view = lab.read_plot(
                    "(r => (new Date(r[1]) - new Date(r[0])) / 1000)(gd._fullLayout.xaxis.range)"
                )
                drags = [time_drag(lab, side) for _ in range(options.repeats) for side in (1, -1)]
                numbers = {name: median(drag[name] for drag in drags) for name in drags[0]}
                results[f"{view:.0f} s in view"] = numbers
                figures = "  ".join(f"{name} {value:.2f}" for name, value in numbers.items())
                print(f"{view:>8.0f} s in view  {figures}", flush=True)
            browser.close()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
