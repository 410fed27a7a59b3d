"""Every notebook runs in JupyterLab as a user would run it."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_notebook_runs_in_the_browser_and_draws(lab, name):
    lab.open_notebook(f"notebooks/{name}")
    lab.run_all()
    lab.wait_plot()
    assert lab.page.locator(".jp-Dialog").count() == 0  # no question covers the page
    assert lab.complaints == []
