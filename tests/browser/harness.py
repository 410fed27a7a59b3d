"""JupyterLab driven in Chromium: a server of its own, a page, and the gestures of a user.

Every step waits for a state of the application, none for a time. Nothing of the user's own Jupyter
settings is read or written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlparse

from playwright.sync_api import Browser, Locator, Page, Playwright, Request

START_LIMIT = 120.0  # seconds until JupyterLab answers; 2 to 4 are usual
STEP_LIMIT = 60_000  # milliseconds for one step of the page

CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",  # CI runs as root, where Chromium has no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What a notebook in a test must not do: hide cells that are out of view, ask questions, show news.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}


@dataclass(frozen=True)
class Server:
    """A running JupyterLab."""

    url: str
    token: str
    root: Path

    def address(self, notebook: str) -> str:
        return f"{self.url}/lab/tree/{quote(notebook)}?token={self.token}&reset"

    def end_kernels(self) -> None:
        """End every kernel, so that no screen of one test comes back in the next."""
        for session in json.loads(self._ask("GET", "api/sessions")):
            self._ask("DELETE", f"api/sessions/{session['id']}")

    def _ask(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(root: Path, home: Path) -> Iterator[Server]:
    """JupyterLab on the folder `root`, its settings and runtime files in `home`; ended in any case."""
    names = ("CONFIG", "DATA", "RUNTIME")
    folders = {f"JUPYTER_{name}_DIR": home / name.lower() for name in names}
    folders["JUPYTERLAB_SETTINGS_DIR"] = home / "settings"
    folders["JUPYTERLAB_WORKSPACES_DIR"] = home / "workspaces"
    folders["IPYTHONDIR"] = home / "ipython"
    labconfig = folders["JUPYTER_CONFIG_DIR"] / "labconfig"
    labconfig.mkdir(parents=True)
    (labconfig / "page_config.json").write_text('{"buildCheck": false, "buildAvailable": false}')
    (labconfig / "default_setting_overrides.json").write_text(json.dumps(LAB_SETTINGS))
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False"]
    environment = os.environ | {name: str(folder) for name, folder in folders.items()}
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(process, f"{url}/api/status?token={token}", home / "server.log")
            yield Server(url, token, root)
        finally:
            end_group(process)


def wait_until_up(process: subprocess.Popen[bytes], status: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(status, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not come up:\n{log.read_text()[-3000:]}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, with its kernels; then end whatever is left of its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def launch(playwright: Playwright, executable: str) -> Browser:
    return playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)


@dataclass
class Lab:
    """A page with JupyterLab, seen as its user sees it.

    `foreign` lists every request that went elsewhere than to the server, `complaints` every
    error of the browser's console.
    """

    server: Server
    page: Page
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(STEP_LIMIT)
        self.page.on("request", self._note_request)
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note_request(self, request: Request) -> None:
        url = urlparse(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlparse(self.server.url).netloc:
            self.foreign.append(request.url)

    def open_notebook(self, name: str) -> None:
        """Open the notebook `name` (relative to the server's root) and wait for its kernel."""
        self.page.goto(self.server.address(name))
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate("async () => { await window.jupyterapp.restored }")
        self.page.locator(".jp-NotebookPanel .jp-Notebook").first.wait_for()
        # commands act on the current panel, and none is current yet
        self.page.wait_for_function(
            """name => {
                const shell = window.jupyterapp.shell;
                const panel = [...shell.widgets("main")].find(w => w.context?.path === name);
                if (!panel) return false;
                shell.activateById(panel.id);
                window.testPanel = panel;
                return shell.currentWidget === panel;
            }""",
            arg=name,
        )
        self.page.wait_for_function(
            """() => window.testPanel.sessionContext.isReady
                && window.testPanel.sessionContext.session?.kernel?.status === "idle" """
        )

    def run_all(self, time_limit: float = 180) -> None:
        """Run every cell and wait for the last; fail with the text of the first cell that failed."""
        self.page.evaluate('() => { window.jupyterapp.commands.execute("notebook:run-all-cells") }')
        self.page.wait_for_function(
            """() => {
                const code = [...window.testPanel.content.model.cells]
                    .filter(c => c.type === "code" && c.sharedModel.getSource().trim());
                const failed = code.some(c => c.outputs.toJSON().some(o => o.output_type === "error"));
                const idle = window.testPanel.sessionContext.session?.kernel?.status === "idle";
                return failed || (idle && code.every(c => c.executionCount !== null));
            }""",
            timeout=time_limit * 1000,
        )
        errors = self.page.evaluate(
            """() => [...window.testPanel.content.model.cells].filter(c => c.type === "code")
                .flatMap(c => c.outputs.toJSON().filter(o => o.output_type === "error"))
                .map(o => `${o.ename}: ${o.evalue}\\n${o.traceback.join("\\n")}`)"""
        )
        assert not errors, "a cell failed:\n" + "\n".join(errors)

    def wait_plot(self, count: int = 1) -> None:
        """Wait until at least `count` plotly figures are drawn."""
        self.page.wait_for_function(
            """count => {
                const plots = [...document.querySelectorAll(".js-plotly-plot")];
                // plotly's widget draws an empty figure until it is in the page
                const drawn = plots.filter(gd => gd.calcdata && gd.data.length);
                return drawn.length >= count && plots.every(gd => gd.calcdata);
            }""",
            arg=count,
        )

    def plot(self, index: int = 0) -> Locator:
        return self.page.locator(".js-plotly-plot").nth(index)

    def read_plot(self, expression: str, index: int = 0) -> Any:
        """The value of a JavaScript `expression` of the figure `gd`, such as `gd.data.length`."""
        return self.plot(index).evaluate(f"gd => {expression}")

    def wait_plot_until(self, condition: str, index: int = 0) -> None:
        """Wait until the JavaScript `condition` of the figure `gd` holds."""
        self.page.wait_for_function(
            f"""index => {{
                const gd = document.querySelectorAll(".js-plotly-plot")[index];
                return {condition};
            }}""",
            arg=index,
        )

    def wait_idle(self) -> None:
        """Wait until the kernel has had nothing to do for half a second.

        A slider keeps its newest value back while an older one is on its way.
        """
        self.page.evaluate(
            """() => new Promise(resolve => {
                let since = performance.now();
                const timer = setInterval(() => {
                    const now = performance.now();
                    if (window.testPanel.sessionContext.session?.kernel?.status !== "idle") since = now;
                    else if (now - since > 500) { clearInterval(timer); resolve(); }
                }, 20);
            })"""
        )

    def reload(self, name: str) -> None:
        """Save the notebook `name`, and open it anew on the same kernel."""
        self.page.evaluate("async () => { await window.testPanel.context.save() }")
        self.open_notebook(name)

    def control(self, description: str) -> Locator:
        """The ipywidget whose label is `description`."""
        label = self.page.locator(".widget-label", has_text=description)
        return self.page.locator(".jupyter-widgets", has=label).last

    def drag_slider(self, description: str, steps: int) -> None:
        """Move the slider labelled `description` by `steps` (negative: left) with the arrow keys."""
        handle = self.control(description).locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        for _ in range(abs(steps)):
            self.page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")

    def choose(self, description: str, option: str) -> None:
        """Choose `option` in the dropdown labelled `description`."""
        self.control(description).locator("select").select_option(label=option)

    def click_plot(self, x: float, y: float, index: int = 0, subplot: str = "xy") -> None:
        """Click the mark at the data coordinates (`x`, `y`) of a figure's subplot."""
        plot = self.plot(index)
        plot.scroll_into_view_if_needed()  # out of view it gets no hover, hence no click
        area = plot.locator(f".nsewdrag[data-subplot='{subplot}']").bounding_box()
        assert area is not None, f"the figure has no subplot {subplot!r}"
        across, down = plot.evaluate(
            """(gd, [subplot, x, y]) => {
                const {xaxis, yaxis} = gd._fullLayout._plots[subplot];
                return [xaxis.d2p(x), yaxis.d2p(y)];
            }""",
            [subplot, x, y],
        )
        # One move only: hover is throttled, and the click goes to what was hovered last.
        self.page.mouse.move(area["x"] + across, area["y"] + down)
        handle = plot.element_handle()
        self.page.wait_for_function("gd => gd._hoverdata && gd._hoverdata.length", arg=handle)
        self.page.mouse.down()
        self.page.mouse.up()
