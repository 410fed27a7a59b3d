"""Every command of the README runs, as it stands there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from scripts import setup_env

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]
# These two set up the environment we run in: they have tests of their own below.
MAKE = [command for command in COMMANDS if command.startswith("make ")]
OTHERS = [command for command in COMMANDS if command not in MAKE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a blank that looks like the repository; what commands write stays in it."""
    folder = tmp_path_factory.mktemp("a blank")
    for entry in ROOT.iterdir():
        if entry.name not in (".git", "out", "reports"):
            (folder / entry.name).symlink_to(entry)
    return folder


def test_the_first_screen_shows_what_it_is_and_the_two_commands():
    screen = README.splitlines()[:60]
    assert screen[0].startswith("# ")
    assert "docs/screenshot.png" in "\n".join(screen)
    assert [command.split("#")[0].strip() for command in MAKE[:2]] == ["make lab", "make test"]
    assert sum("notebooks/" in line for line in screen) >= 3


@pytest.mark.long
@pytest.mark.timeout(900)
def test_commands_run_in_the_order_in_which_they_stand(folder):
    """One after the other, because later ones read what earlier ones wrote."""
    assert len(OTHERS) >= 3
    binaries = ROOT / ".venv" / "bin"
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    for command in OTHERS:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{command}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"


@pytest.mark.long
@pytest.mark.parametrize("source", PYTHON, ids=range(len(PYTHON)))
def test_python_examples_run(folder, source):
    run = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_links_lead_to_files_that_exist():
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.fixture
def make_environment():
    """Variables for a `make` inside a test: none of an outer `make`, and nothing left to set up.

    A test must not reinstall the environment that it runs in.
    """
    if not setup_env.STAMP.is_file() or setup_env.STAMP.read_text() != setup_env.wanted():
        pytest.skip("needs an environment that is up to date: run `make setup`")
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


@pytest.mark.long
def test_make_test_runs_every_check(make_environment):
    """On one quick file, as a test that ran all tests would never end."""
    run = subprocess.run(
        ["make", "test"],
        cwd=ROOT,
        env=make_environment | {"TESTS": "tests/test_versions.py"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    for evidence in ("ruff check", "ruff format --check", "no issues found", " passed"):
        assert evidence in run.stdout


def test_make_lab_prints_an_address_that_answers_and_ends_without_leftovers(make_environment):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["make", "lab", f"PORT={port}", "BROWSER=none"]
    with subprocess.Popen(command, cwd=ROOT, env=make_environment, stdout=subprocess.PIPE, text=True) as lab:
        try:
            assert lab.stdout is not None
            address = next(line.strip() for line in lab.stdout if line.strip().startswith("http"))
            assert address.startswith(
                f"http://127.0.0.1:{port}/lab/tree/notebooks/00_start_here.ipynb?token="
            )
            with urllib.request.urlopen(address, timeout=30) as page:
                assert page.status == 200
                assert "JupyterLab" in page.read().decode()
            plugin = "@jupyterlab/apputils-extension:notification"
            settings = address.replace("lab/tree/notebooks/00_start_here.ipynb", f"lab/api/settings/{plugin}")
            with urllib.request.urlopen(settings, timeout=30) as answer:
                defaults = json.load(answer)["schema"]["properties"]
            assert defaults["fetchNews"]["default"] == "false"  # no question about news covers the notebook
        finally:
            lab.send_signal(signal.SIGTERM)
            lab.wait(timeout=30)
    with socket.socket() as probe:  # nobody listens any more: the server is gone
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_named(make_environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = subprocess.run(
            ["make", "lab", f"PORT={port}", "BROWSER=none"],
            cwd=ROOT,
            env=make_environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode != 0
    assert f"port {port} is taken" in run.stderr
