"""docs/screenshot.png: the first notebook in JupyterLab, as a reader sees it, taken in headless Chromium."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.harness import Lab, find_chromium, launch, serve  # noqa: E402

NOTEBOOK = "notebooks/00_start_here.ipynb"
MODELS_LIMIT = 600_000  # milliseconds
ERRORS = 4  # trace of the figure


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshot.png")
    arguments.add_argument("--recording", default="demo08_lively", help="what the label begins with")
    options = arguments.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(ROOT / "notebooks", root / "notebooks")
        for name in ("data", "models"):
            (root / name).symlink_to(ROOT / name, target_is_directory=True)
        with serve(root, Path(folder) / "jupyter") as server, sync_playwright() as playwright:
            browser = launch(playwright, executable)
            page = browser.new_page(viewport={"width": 1340, "height": 1150})
            take(Lab(server, page), options.recording, options.out)
            browser.close()
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


def take(lab: Lab, recording: str, out: Path) -> None:
    """Run the notebook, choose a recording, select its longest error, and keep what is on the screen."""
    page = lab.page
    lab.open_notebook(NOTEBOOK)
    page.evaluate("() => { window.jupyterapp.shell.collapseLeft(); window.jupyterapp.shell.collapseRight() }")
    lab.run_all(MODELS_LIMIT / 1000)
    lab.wait_plot(2)
    choice = page.locator(".wb-screen select").first
    label = next(text for text in choice.locator("option").all_inner_texts() if text.startswith(recording))
    choice.select_option(label=label)
    page.wait_for_function(
        "uri => { const gd = document.querySelector('.js-plotly-plot');"
        " return gd.data[3].y.length && gd.data[3].hovertemplate.includes(uri)"
        " && /\\d/.test(document.querySelector('.wb-speakers b').innerText) }",
        arg=recording,
        timeout=MODELS_LIMIT,
    )
    longest = lab.read_plot(
        f"Array.from(gd.data[{ERRORS}].x).reduce((best, x, i, all) => x > all[best] ? i : best, 0)"
    )
    bar = f"gd.data[{ERRORS}]"
    time, row = lab.read_plot(f"[{bar}.base[{longest}] + {bar}.x[{longest}] / 2, {bar}.y[{longest}]]")
    lab.click_plot(time, row, subplot="xy5")
    page.wait_for_function("() => document.querySelector('.wb-player audio').currentTime > 0.8")
    page.evaluate("() => document.querySelector('.wb-player audio').pause()")
    page.locator(".wb-screen").first.evaluate("screen => screen.scrollIntoView({ block: 'center' })")
    page.screenshot(path=out)


if __name__ == "__main__":
    main()
