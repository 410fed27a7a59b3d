"""How fast the parity screen answers: from a gesture to the painted figure, in JupyterLab and Chromium.

    .venv/bin/python benchmarks/parity_screen.py [--minutes 60] [--gestures 40] [--json bench.json]

Two made-up runtimes with eleven classes at 50 frames per second; of an hour, some 158,000 frames flip. A
gesture counts from the time stamp of its last input event to the second animation frame after the canvas
shows the kernel's answer to it: a zoom or pan in columns for the new view; a mark with its words and its
picture; a click on a flip with both score vectors, its words and its picture. Each gesture waits for the one
before.
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

NOTEBOOK = """
import numpy as np
from workbench.agreement import ParityParams
from workbench.explorers import explore_parity
from workbench.powerset import powerset_classes
from workbench.types import Geometry

class MadeUp:
    kind, min_num_samples = "segmentation", 800
    geometry = Geometry(sample_rate=16000, chunk_duration=10.0, chunk_step=1.0, frame_start=0.0,
                        frame_duration=0.02, frame_step=0.02, powerset=powerset_classes(4, 2))

    def __init__(self, noise):
        self.noise = noise

    def segment(self, waveforms):
        frames = np.asarray(waveforms).reshape(len(waveforms), -1, 320)
        bands = np.abs(np.fft.rfft(frames, axis=-1))[..., 1:23].reshape(*frames.shape[:2], 11, 2).mean(-1)
        total = np.cumsum(np.pad(bands, ((0, 0), (25, 0), (0, 0)), mode="edge"), axis=1)
        smooth = (total[:, 25:] - total[:, :-25]) / 25
        scores = 60 * smooth / smooth.mean(axis=-1, keepdims=True) + self.noise * np.sin(1e4 * bands)
        scores -= scores.max(axis=-1, keepdims=True)
        return (scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))).astype(np.float32)

    def stages(self, waveforms):
        return {{"log_probs": self.segment(waveforms)}}

    def embed(self, waveforms, masks=None):
        raise NotImplementedError

rng = np.random.default_rng(0)
audio = {{"hour": 0.05 * rng.standard_normal({samples}, dtype=np.float32)}}
runtimes = {{"baseline": MadeUp(0.0), "candidate": MadeUp(0.65)}}
screen = explore_parity(runtimes, audio, params=ParityParams(checks=False))
screen
"""
# What is on the screen, as one text; it is looked at in every animation frame.
STATE = """() => {
    const of = name => document.querySelector(`canvas.wb-parity-${name}`)?.dataset ?? {};
    const counts = [...document.querySelectorAll(".wb-about")].map(each => each.textContent).join();
    const words = document.querySelector(".wb-selection").textContent;
    return {...of("lanes"), ...of("detail"), counts, words};
}"""
WATCH = f"""names => {{
    const state = {STATE};
    const before = state();
    const types = ["wheel", "pointermove", "pointerup"];
    const note = event => {{ since = event.timeStamp; }};
    let since = null;
    window.answered = null;
    for (const type of types) window.addEventListener(type, note, true);
    const look = () => {{
        const now = state();
        const changed = since !== null && names.every(name => now[name] !== before[name]);
        if (!changed || now.sharp !== "true") return requestAnimationFrame(look);
        for (const type of types) window.removeEventListener(type, note, true);
        const done = () => {{ window.answered = performance.now() - since; }};
        requestAnimationFrame(() => requestAnimationFrame(done));
    }};
    requestAnimationFrame(look);
}}"""
EVERY = {
    "zoom": ["view", "counts"],
    "pan": ["view", "counts"],
    "mark": ["marked", "sound", "words", "counts"],
    "click a flip": ["flip", "sound", "words"],
}


class Screen:
    """The lanes, and the gestures that they know."""

    def __init__(self, lab: Lab):
        self.lab = lab
        lab.plot().scroll_into_view_if_needed()
        lab.page.wait_for_function(f"() => ({STATE})().sharp === 'true'")
        self.rng = np.random.default_rng(0)

    def point(self, across: float) -> tuple[float, float]:
        """Where on the page a share of the width is, in the row of real flips."""
        area = self.lab.page.locator(".wb-parity-hand").first.bounding_box()
        assert area is not None
        down = self.lab.read_plot(
            "gd._fullLayout.yaxis2._offset + gd._fullLayout.yaxis2.l2p(0) - gd._fullLayout.yaxis._offset"
        )
        return area["x"] + across * area["width"], area["y"] + down

    def zoom(self, number: int) -> None:
        """Eight notches in, eight out, somewhere else each time."""
        if number % 16 == 0:
            self.lab.page.mouse.move(*self.point(self.rng.uniform(0.2, 0.8)))
        self.lab.page.mouse.wheel(0, -200 if number % 16 < 8 else 200)

    def drag(self, start: float, end: float) -> None:
        mouse = self.lab.page.mouse
        (x0, y), (x1, _) = self.point(start), self.point(end)
        mouse.move(x0, y)
        mouse.down()
        mouse.move((x0 + x1) / 2, y)
        mouse.move(x1, y)
        mouse.up()

    def pan(self, number: int) -> None:
        self.drag(*((0.7, 0.3) if number % 2 else (0.3, 0.7)))

    def mark(self, number: int) -> None:
        start = self.rng.uniform(0.1, 0.7)
        self.drag(start, start + 0.05 + 0.005 * number)

    def click(self, number: int) -> None:
        x, y = self.point((0.05 + 0.37 * number) % 0.9 + 0.05)
        self.lab.page.mouse.move(x, y)
        self.lab.page.mouse.down()
        self.lab.page.mouse.up()

    def timed(self, name: str, gesture: str, number: int) -> float:
        """Milliseconds from a gesture to its painted answer."""
        self.lab.page.evaluate(WATCH, EVERY[name])
        getattr(self, gesture)(number)
        answer = self.lab.page.wait_for_function("() => window.answered", timeout=10_000)
        return float(answer.json_value())


def measure(lab: Lab, gestures: int) -> dict[str, list[float]]:
    """Latencies (ms) by gesture; pans, marks and clicks are made on the hour and on a twelfth of it."""
    screen = Screen(lab)
    found: dict[str, list[float]] = {name: [] for name in EVERY}
    for number in range(gestures):
        found["zoom"].append(screen.timed("zoom", "zoom", number))
    duration = lab.read_plot("(gd.layout.xaxis.maxallowed - gd.layout.xaxis.minallowed) / 1000")
    for width in (duration / 2, duration / 12):
        start = (duration - width) / 2
        lab.plot().evaluate(
            """(gd, [start, end]) => window.Plotly.relayout(gd, {"xaxis.range": [start, end]})""",
            [946_684_800_000 + 1000 * start, 946_684_800_000 + 1000 * (start + width)],
        )
        lab.page.wait_for_function(f"() => ({STATE})().sharp === 'true'")
        for mode, hand, names in (
            ("move", ":not(.wb-marking)", ("pan", "click a flip")),
            ("mark", ".wb-marking", ("mark",)),
        ):
            lab.page.get_by_role("button", name=mode, exact=True).click()
            lab.page.locator(f".wb-parity-hand{hand}").first.wait_for()
            for name in names:
                for number in range(gestures // 2):
                    found[name].append(screen.timed(name, name.split()[0], number))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--gestures", type=int, default=40, help="of every kind")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        cell = nbformat.v4.new_code_cell(NOTEBOOK.format(samples=round(options.minutes * 60) * 16000))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), root / "parity.ipynb")
        with serve(root, Path(folder) / "jupyter") as server, sync_playwright() as playwright:
            browser = launch(playwright, executable)
            lab = Lab(server, browser.new_page(viewport={"width": 1500, "height": 1700}))
            lab.open_notebook("parity.ipynb")
            lab.run_all(900)
            lab.page.locator(".js-plotly-plot").first.wait_for(timeout=900_000)
            lab.wait_plot()
            print(lab.page.locator(".wb-tuning b").first.inner_text())
            found = measure(lab, options.gestures)
            assert lab.complaints == [], lab.complaints
            browser.close()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, values in found.items():
        p50, p95, most = np.percentile(values, [50, 95, 100])
        print(f"{name:14s} {len(values):4d}  p50 {p50:5.0f} ms  p95 {p95:5.0f} ms  max {most:5.0f} ms")
    if options.json:
        rounded = {name: [round(value, 1) for value in values] for name, values in found.items()}
        options.json.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
