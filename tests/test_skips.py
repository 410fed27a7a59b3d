"""Tests without their data skip with a reason, except where skipping would hide that nothing was checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
def test_recordings(golden): pass
def test_corpora(shared_data): pass
def test_gpu(): pytest.skip("needs a CUDA device")
"""


@pytest.fixture
def run_in(tmp_path):
    """Runs three tests beneath our conftest, with or without the folder `shared` beside them."""

    def run(ci: str, shared: bool) -> subprocess.CompletedProcess[str]:
        tests = tmp_path / "repository" / "tests"
        tests.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("conftest.py"), tests)
        (tests / "test_three.py").write_text(TESTS)
        (tests.parent / "pytest.ini").write_text("[pytest]\nmarkers =\n  golden:\n  shared_data:\n")
        if shared:
            (tmp_path / "shared").mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "WORKBENCH_SHARED"}
        command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tests)]
        return subprocess.run(
            command,
            cwd=tests.parent,
            env=environment | {"CI": ci},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_on_our_ci_missing_data_is_a_failure_and_a_missing_gpu_is_not(run_in):
    run = run_in(ci="true", shared=True)
    assert run.returncode == 1
    assert "2 errors" in run.stdout or "2 failed" in run.stdout
    assert "1 skipped" in run.stdout
    assert "skipped, which CI does not accept: " in run.stdout


@pytest.mark.parametrize(("ci", "shared"), [("", True), ("true", False)])
def test_elsewhere_missing_data_skips_with_the_reason(run_in, ci, shared):
    run = run_in(ci=ci, shared=shared)
    assert run.returncode == 0
    assert "3 skipped" in run.stdout
    assert "needs 'golden' of the shared folder" in run.stdout
