"""Installed versions against those that are asked for."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator

from workbench.doctor.checks import INSTALL, Check

_PYTHON = (3, 11, 5)  # a package below ours asks for it
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(~=|==|>=)\s*([0-9][^;,\s]*)\s*(?:;(.*))?$")


def examine_packages() -> Iterator[Check]:
    """Python, and every version that our package asks for."""
    version = sys.version_info[:3]
    old = version < _PYTHON
    wanted = ".".join(map(str, _PYTHON))
    yield Check(
        section="packages",
        name="Python",
        value=f"{platform.python_version()} ({sys.executable})",
        status="problem" if old else "ok",
        fix=f"install Python {wanted} or later" if old else "",
    )
    required = list(requirements())
    if not required:
        yield Check(
            section="packages",
            name="workbench",
            value="not installed as a package",
            status="warning",
            fix=INSTALL,
        )
        return
    wrong = 0
    for name, operator, version_wanted, optional in required:
        found = installed_version(name)
        if found is None and optional:
            continue
        if found is not None and fulfils(found, operator, version_wanted):
            continue
        wrong += 1
        missing = found is None
        yield Check(
            section="packages",
            name=name,
            value=f"{'missing' if missing else found}, needs {operator}{version_wanted}",
            status="problem" if missing else "warning",
            fix=_missing_fix(name) if missing else f"{INSTALL}; results were checked with {version_wanted}",
        )
    yield Check(
        section="packages",
        name="requirements",
        value=f"{len(required) - wrong} of {len(required)} as required",
        status="ok" if not wrong else "warning",
        fix=INSTALL if wrong else "",
    )
    for extra, why in (
        ("plotly-resampler", "JupyterLab then asks to build itself and swallows every click"),
        ("dash", "JupyterLab then asks to build itself and swallows every click"),
    ):
        if installed_version(extra) is not None:
            fix = f"pip uninstall {extra}, or set buildCheck and buildAvailable to false in page_config.json"
            yield Check(section="packages", name=extra, value=f"installed: {why}", status="warning", fix=fix)


def _missing_fix(name: str) -> str:
    if name == "onnxruntime" and installed_version("onnxruntime-gpu") is not None:
        return ""
    return INSTALL


def requirements() -> Iterator[tuple[str, str, str, bool]]:
    """Name, operator, version, and whether it is optional, of everything that our package asks for."""
    try:
        lines = importlib.metadata.requires("workbench") or []
    except importlib.metadata.PackageNotFoundError:
        return
    gpu = installed_version("onnxruntime-gpu") is not None
    for line in lines:
        match = _REQUIREMENT.match(line.strip())
        if match is None:
            continue
        name, operator, version, marker = match.groups()
        if name == "onnxruntime" and gpu:
            continue  # the GPU build takes its place
        yield name, operator, version, "extra" in (marker or "")


def installed_version(name: str) -> str | None:
    """Version of a package without the name of its build, None where it is not installed."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def fulfils(found: str, operator: str, wanted: str) -> bool:
    """Whether a version is allowed.

    Examples
    --------
    >>> fulfils("2.4.9", "~=", "2.4.6"), fulfils("2.5.0", "~=", "2.4.6"), fulfils("2.13.0", "==", "2.13.0")
    (True, False, True)
    """
    one, other = _numbers(found), _numbers(wanted)
    length = max(len(one), len(other))
    padded = [each + (0,) * (length - len(each)) for each in (one, other)]
    if operator == "==":
        return padded[0] == padded[1]
    if padded[0] < padded[1]:
        return False
    return operator == ">=" or one[: len(other) - 1] == other[:-1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+-]", version)[0]))
