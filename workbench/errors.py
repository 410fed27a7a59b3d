"""The two ways in which an input can fail, and how the command line reports them."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """The call, or an input as a whole, is unusable: the command ends with exit code 2.

    The message says which file, line, key or option is meant, what was expected, what was
    found, and what to do.
    """

    @classmethod
    def at(cls, path: str | Path, problem: str, line: int | None = None) -> InputError:
        """The error `path:line: problem` (or `path: problem` where no line is meant)."""
        where = f"{path}:{line}" if line is not None else f"{path}"
        return cls(f"{where}: {problem}")


class RecordingError(ValueError):
    """One recording is unusable: it is reported, the others go on, and the exit code is 1."""
