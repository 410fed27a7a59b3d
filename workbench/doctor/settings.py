"""Environment variables and what libraries have switched in this process."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator

from workbench.doctor.checks import Check
from workbench.doctor.machine import usable_cores

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OVERRULING = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


def examine_settings() -> Iterator[Check]:
    """Variables and switches that change results or speed."""
    set_ = {name: os.environ[name] for name in _THREADS if os.environ.get(name)}
    usable = usable_cores()[0]
    yield Check(
        section="settings",
        name="threads",
        value=", ".join(f"{name}={value}" for name, value in set_.items()) or "left to the libraries",
        status="ok" if set_ or usable <= 2 else "note",
        fix=""
        if set_ or usable <= 2
        else "last bits can differ between machines; threads=1 in runtime strings gives the same everywhere",
    )
    for name in _OVERRULING:
        if name in os.environ:
            fix = f"unset {name}: it overrules tf32=0 and tf32=1 of every runtime"
            value = f"{name}={os.environ[name]}"
            yield Check(section="settings", name=name, value=value, status="warning", fix=fix)
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if workspace is not None and workspace not in (":4096:8", ":16:8"):
        yield Check(
            section="settings",
            name="CUBLAS_WORKSPACE_CONFIG",
            value=workspace,
            status="warning",
            fix="deterministic=1 needs :4096:8 or :16:8",
        )
    if os.environ.get("LD_PRELOAD"):
        value = os.environ["LD_PRELOAD"]
        yield Check(section="settings", name="LD_PRELOAD", value=value, status="note")
    if sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        yield Check(
            section="settings",
            name="file names",
            value=sys.getfilesystemencoding(),
            status="warning",
            fix="set LANG=C.UTF-8 (or PYTHONUTF8=1): names of recordings may not survive otherwise",
        )
    yield _denormals()
    yield from _openmp()


def _denormals() -> Check:
    """Whether a library has switched denormals off for this thread, which changes results."""
    import numpy as np

    kept = bool(np.float32(1e-40) * np.float32(0.5) != 0)
    return Check(
        section="settings",
        name="denormals",
        value="kept" if kept else "flushed to zero in this process",
        status="ok" if kept else "warning",
        fix="" if kept else "a library switched them off when it was loaded; runtimes keep them all the same",
    )


def _openmp() -> Iterator[Check]:
    """Two OpenMP libraries in one process start twice the threads, and can hang."""
    try:
        infos = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        return
    kinds = sorted({info["prefix"] for info in infos if info["user_api"] == "openmp"})
    if len(kinds) > 1:
        fix = (
            "two OpenMP libraries start twice the threads; use packages of one origin (all pip or all conda)"
        )
        value = ", ".join(kinds)
        yield Check(section="settings", name="OpenMP", value=value, status="warning", fix=fix)
