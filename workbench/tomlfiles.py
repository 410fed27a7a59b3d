"""TOML files, read with errors that name the file."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any

from workbench.errors import InputError

_MOST_BYTES = 1 << 20  # no settings are that long


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file; an `InputError` for whatever cannot be read as one."""
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError.at(
                path, f"has {size} bytes, far more than settings in TOML need; is it the right file?"
            )
        return tomllib.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except InputError:
        raise
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    except RecursionError:  # the parser calls itself for every bracket
        raise InputError.at(path, "is not valid TOML: values are nested too deeply") from None
    except ValueError as error:  # syntax, encoding, and numbers with too many digits
        raise InputError.at(path, f"is not valid TOML: {error}") from None
