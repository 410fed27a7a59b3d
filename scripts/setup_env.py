"""Make the environment in `.venv`, or return at once when it is up to date.

Called by `make setup` with any Python from 3.11 on; uses nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "up-to-date"
EXTRAS = "dev,distributed"
OLDEST = (3, 11)


def wanted() -> str:
    """Digest of all that decides what `.venv` holds, the folder's own path included.

    The package is installed in place, so a repository that was moved or copied must be linked anew.
    """
    digest = hashlib.sha256(f"{ROOT}\n{EXTRAS}\n".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def works(python: Path) -> bool:
    """Whether `python` starts, is new enough and has pip."""
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_venv() -> None:
    """Create `.venv` with the running Python, replacing one that no longer works."""
    try:
        import ensurepip  # noqa: F401  (Debian splits it from venv's own module)
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"setup: {sys.executable} cannot create environments: its module ensurepip is missing.\n"
            f"On Debian or Ubuntu: apt-get install python{version}-venv; then try again."
        )
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)


def run_quietly(command: list[str | Path]) -> int:
    """Run pip, show its lines but for the hundreds that say what is there already; its exit code."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if not line.startswith("Requirement already satisfied"):
                print(line, end="", flush=True)
    return pip.returncode


def main() -> int:
    if STAMP.is_file() and STAMP.read_text() == wanted() and works(PYTHON):
        return 0
    if sys.version_info < OLDEST:
        sys.exit(f"setup: Python 3.11 or later is needed, {sys.executable} is {sys.version.split()[0]}")
    started = time.monotonic()
    if not works(PYTHON):
        print("setup: creating .venv, once; this takes some minutes", flush=True)
        make_venv()
    STAMP.unlink(missing_ok=True)
    # relative paths and `python -m`: a blank in the repository's path would break anything else
    pip: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    ]
    if run_quietly([*pip, "--constraint", "constraints.txt", "--editable", f".[{EXTRAS}]"]):
        sys.exit("setup: pip failed, see above; `make setup` goes on from here once the cause is gone")
    STAMP.write_text(wanted())
    print(f"setup: .venv is ready ({time.monotonic() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
