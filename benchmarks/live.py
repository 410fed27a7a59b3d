"""How fast the live screen answers: from a key on a slider to the redrawn figure, in JupyterLab and Chromium.

    .venv/bin/python benchmarks/live.py [--minutes 60] [--presses 40]

The recording is made up (`workbench.synthetic`). A press counts from the browser's key event to the second
animation frame after the answer has been drawn; presses follow each other, each waits for the one before, and
none comes back to values that have been answered already.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.harness import Lab, find_chromium, launch, serve  # noqa: E402

CELLS = """
import numpy as np
from workbench.explorers import explore_live
from workbench.synthetic import make_meeting, make_plda
rng = np.random.default_rng(0)
plda = make_plda(rng)
features, reference = make_meeting(rng, plda, seconds={seconds}, noise={noise})
screen = explore_live(features, reference, plda=plda)
screen
"""
# Every answer has a number, which is written into the figure when its pictures are in place.
WATCH = """gd => {
    window.pressed = null; window.latencies = [];
    document.addEventListener("keydown", () => { window.pressed = performance.now(); }, true);
    new MutationObserver(() => {
        if (window.pressed === null) return;
        const since = window.pressed; window.pressed = null;
        requestAnimationFrame(() => requestAnimationFrame(
            () => window.latencies.push(performance.now() - since)));
    }).observe(gd, {attributeFilter: ["data-answer"]});
}"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=60.0)
    arguments.add_argument("--presses", type=int, default=40, help="per slider")
    arguments.add_argument("--noise", type=float, default=1.5, help="of the embeddings: more is harder")
    options = arguments.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        cell = nbformat.v4.new_code_cell(CELLS.format(seconds=60 * options.minutes, noise=options.noise))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), root / "live.ipynb")
        with serve(root, Path(folder) / "jupyter") as server, sync_playwright() as playwright:
            browser = launch(playwright, executable)
            page = browser.new_page(viewport={"width": 1500, "height": 1700})
            lab = Lab(server, page)
            lab.open_notebook("live.ipynb")
            lab.run_all(300)
            lab.wait_plot()
            lab.plot().evaluate(WATCH)
            found = {name: measure(lab, name, options.presses) for name in ("Threshold", "Fa", "Fb")}
            browser.close()
    everything = np.concatenate([np.array(values) for values in found.values()])
    for name, values in [*found.items(), ("all", everything.tolist())]:
        p50, p95, most = np.percentile(values, [50, 95, 100])
        print(
            f"{name:10s} {len(values):4d} presses  p50 {p50:5.0f} ms  p95 {p95:5.0f} ms  max {most:5.0f} ms"
        )
    print(json.dumps({name: [round(value, 1) for value in values] for name, values in found.items()}))


def measure(lab: Lab, slider: str, presses: int) -> list[float]:
    """Latencies (ms) of presses on one slider: half to the right of where it began, half to the left."""
    page = lab.page
    lab.plot().scroll_into_view_if_needed()
    label = page.locator(".wb-screen").get_by_text(slider, exact=True)
    handle = label.locator("..").locator(".noUi-handle").first
    page.evaluate("window.latencies = []")
    for key in ("ArrowRight", "ArrowLeft"):
        page.wait_for_timeout(1000)  # ipywidgets may send a click before the slider's last value
        page.locator(".wb-screen").get_by_role("button", name="Reset").click()
        page.wait_for_timeout(1000)
        handle.focus()
        for _ in range(presses // 2):
            before = page.evaluate("window.latencies.length")
            page.keyboard.press(key)
            page.wait_for_function("count => window.latencies.length > count", arg=before)
    return [float(value) for value in page.evaluate("window.latencies")]


if __name__ == "__main__":
    main()
