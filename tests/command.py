"""Run the command line inside the test's process, as a user would type it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from workbench.cli import app


@dataclass(frozen=True)
class Run:
    """What a command did; every part ends up in the message of a failing assertion."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which must be nothing but JSON."""
        return json.loads(self.stdout)


def run(*args: object) -> Run:
    """Run `workbench ARGS...`."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a traceback would have reached the user
    return Run(result.exit_code, result.stdout, result.stderr)
