"""Fixtures and rules that every test shares."""

from __future__ import annotations

import os

# Before numpy and torch read them: one thread gives the same sums everywhere.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("WORKBENCH_SHARED", ROOT.parent / "shared"))

# Our own CI has the shared data and can install a browser: there a test that skips checks nothing
# and must not look green. Hardware is another matter: no machine is given a GPU by wishing.
NEVER_SKIP = os.environ.get("CI") == "true" and SHARED.is_dir()
ALLOWED_SKIPS = ("CUDA",)
SLOW_KINDS = ("notebook", "browser", "long")  # markers of the tests that run last


def shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {name!r} of the shared folder, which is not here (WORKBENCH_SHARED names it)")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Recordings of the original programs."""
    return shared_folder("golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Corpora: AMI excerpts, LibriSpeech."""
    return shared_folder("data")


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub folder with models that tell three synthetic voices apart, and their ONNX exports."""
    from hubs import make_tiny_hub

    return make_tiny_hub(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they use, so that `-m` never misses one; slow kinds come last.

    Where every core takes files in turn, those with slow tests come first: no core waits in the end.
    """
    for item in items:
        for fixture in ("golden", "shared_data"):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(fixture)
        if "browser" in item.path.parts:
            item.add_marker("browser")
    if hasattr(config, "workerinput"):  # of pytest-xdist
        slow = {item.path for item in items if item.get_closest_marker("long")}
        items.sort(key=lambda item: item.path not in slow)
        return
    items.sort(key=lambda item: sum(item.get_closest_marker(kind) is not None for kind in SLOW_KINDS))


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where nothing may be skipped."""
    if not (NEVER_SKIP and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(word in reason for word in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    forbid_skip(report)
    item.has_failed = getattr(item, "has_failed", False) or report.failed  # fixtures keep evidence then
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    forbid_skip(report)
    return report
