"""Open JupyterLab on the first notebook and print its address. `make lab` calls this.

Two variables of the environment steer it, as in `make lab PORT=9000 BROWSER=none`:
PORT, the port to listen on (default: the first free one from 8888 on), and BROWSER, the
browser's command or `none`.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "notebooks/00_start_here.ipynb"
HOST = "127.0.0.1"
START_LIMIT = 120.0  # seconds; five are usual


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_port(asked: str) -> int:
    if not asked:
        return next(port for port in range(8888, 9888) if is_free(port))
    if not asked.isdecimal() or not 0 < int(asked) < 65536:
        sys.exit(f"lab: PORT must be a number from 1 to 65535, got {asked!r}")
    if not is_free(int(asked)):
        sys.exit(f"lab: port {asked} is taken or not allowed; give another PORT=, or none to let me choose")
    return int(asked)


def wants_browser() -> bool:
    """False for BROWSER=none, and where nobody would see a window (a server reached through ssh)."""
    browser = os.environ.get("BROWSER", "")
    if browser:
        return browser.lower() != "none"
    has_screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return has_screen or not sys.platform.startswith("linux")


def start_server(port: int, token: str) -> subprocess.Popen[bytes]:
    """JupyterLab, with this project's defaults beneath the user's own settings."""
    config_path = [str(ROOT / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    environment = os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, config_path))}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
    command += ["--ServerApp.log_level=WARN", "--LabApp.log_level=WARN"]
    command += [f"--ServerApp.root_dir={ROOT}", f"--ServerApp.ip={HOST}", f"--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command.append("--ServerApp.answer_yes=True")  # Ctrl-C ends it without asking back
    if os.geteuid() == 0:
        command.append("--allow-root")  # Jupyter refuses root otherwise; containers know no other user
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def wait_until_up(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"lab: JupyterLab ended with code {server.returncode} before it was up, see above")
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    sys.exit(f"lab: JupyterLab did not answer within {START_LIMIT:.0f} s")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server, which ends its kernels."""
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(timeout=15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def main() -> int:
    port = choose_port(os.environ.get("PORT", ""))
    token = secrets.token_hex(16)
    base = f"http://{HOST}:{port}"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))  # so that `finally` below is reached
    server = start_server(port, token)
    try:
        wait_until_up(server, f"{base}/api/status?token={token}")
        address = f"{base}/lab/tree/{NOTEBOOK}?token={token}"
        print(f"\nJupyterLab is at\n\n    {address}\n\nCtrl-C here ends it.", flush=True)
        if wants_browser():
            webbrowser.open(address)
        return server.wait()
    finally:
        stop(server)


if __name__ == "__main__":
    sys.exit(main())
