"""One thing looked at, and the means to look."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "warning", "problem"]
"""`note`: worth knowing; `warning`: something will be slow, missing or different; `problem`: has to be
mended before models run."""

INSTALL = "run make setup, or pip install -c constraints.txt -e ."
# part of what loaders say -> what helps
_KNOWN_ERRORS = (
    ("GLIBCXX", "an older libstdc++ is found first (conda's?): LD_PRELOAD the system's libstdc++.so.6"),
    (
        "libcudart",
        "the CUDA libraries of this build are not found: install its CUDA version, or the CPU build",
    ),
    ("libcudnn", "cuDNN is not found: pip install nvidia-cudnn-cu12, or the CPU build"),
    ("libgomp", "OpenMP is missing: install libgomp1"),
    ("libsndfile", "install libsndfile1, or the soundfile wheel, which carries it"),
    ("numpy.core.multiarray", "it was built for another numpy: " + INSTALL),
    ("static TLS", "import it first, or raise the limit: GLIBC_TUNABLES=glibc.rtld.optional_static_tls=2048"),
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    section: str
    name: str
    value: str
    status: Status = "ok"
    fix: str = ""  # what to do, empty if nothing


def broken(section: str, name: str, error: Exception) -> Check:
    """A package that is installed and cannot be imported."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    fix = next((fix for word, fix in _KNOWN_ERRORS if word in str(error)), f"install it anew: {INSTALL}")
    return Check(section=section, name=name, value=f"cannot be imported: {text}", status="problem", fix=fix)


def said(command: list[str]) -> str:
    """What a program prints, empty where it fails or hangs."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout if run.returncode == 0 else ""
