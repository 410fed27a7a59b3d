"""Other programs and libraries: audio formats and a browser."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from workbench.doctor.checks import Check, broken, said

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def examine_tools() -> Iterator[Check]:
    """Audio formats and a browser."""
    yield _audio()
    given = os.environ.get("BROWSER_PATH")
    path = (
        given if given and Path(given).is_file() else next(filter(None, map(shutil.which, _CHROMIUM)), None)
    )
    if path is None:
        fix = "install it (apt install chromium), or name it in BROWSER_PATH: make test-ui and PNG need it"
        yield Check(section="tools", name="chromium", value="not found", status="note", fix=fix)
    else:
        version = said([path, "--version"]).strip().splitlines()
        yield Check(section="tools", name="chromium", value=f"{version[-1] if version else 'found'} ({path})")


def _audio() -> Check:
    try:
        soundfile = importlib.import_module("soundfile")
        formats = soundfile.available_formats()
        subtypes = soundfile.available_subtypes()
    except Exception as error:
        return broken("tools", "soundfile", error)
    missing = [n for n, there in (("mp3", "MP3" in formats), ("opus", "OPUS" in subtypes)) if not there]
    return Check(
        section="tools",
        name="audio formats",
        value=f"{soundfile.__libsndfile_version__}, wav flac ogg"
        + ("" if missing else " opus mp3")
        + (f", cannot read {' '.join(missing)}" if missing else ""),
        status="warning" if missing else "ok",
        fix="use the soundfile wheel, whose libsndfile is 1.2.2 or later" if missing else "",
    )
