"""A JupyterLab server and a Chromium page for the tests in this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from browser.harness import Lab, Server, find_chromium, launch, serve
from playwright.sync_api import Browser, sync_playwright

DATA = ("data", "models")  # what notebooks read beside their own folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = launch(playwright, executable)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab_server(repository, tmp_path_factory) -> Iterator[Server]:
    """JupyterLab on a folder with links to the data that notebooks read."""
    root = tmp_path_factory.mktemp("a folder with blanks")
    for name in DATA:
        if (repository / name).is_dir():
            (root / name).symlink_to(repository / name, target_is_directory=True)
    with serve(root, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def lab(request, repository, chromium, lab_server) -> Iterator[Lab]:
    """A fresh page, fresh notebooks, no kernel; afterwards nothing may have been fetched from another host.

    A test that fails leaves what was on the screen in reports/browser/.
    """
    # JupyterLab saves the notebooks it shows, outputs and all
    shutil.copytree(repository / "notebooks", lab_server.root / "notebooks", dirs_exist_ok=True)
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    lab = Lab(lab_server, context.new_page())
    yield lab
    if request.node.has_failed:
        lab.page.screenshot(path=repository / "reports" / "browser" / f"{request.node.name}.png")
    context.close()
    lab_server.end_kernels()
    assert lab.foreign == []
