"""`workbench doctor`: what this machine and environment offer, and known fixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, plural, print_json

if TYPE_CHECKING:
    from workbench.doctor import Check, Diagnosis

EXAMPLES = (
    "workbench doctor",
    "workbench doctor --json -",
)
_MARKS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "warning": ("WARN", "yellow"),
    "problem": ("FAIL", "red"),
}


def doctor(json: o.Json = None, quiet: o.Quiet = False, debug: o.Debug = False) -> None:
    """Show what this machine and environment offer: CPU, memory, GPU, engines, versions; and known fixes.

    Ends with exit code 1 if something has to be mended before models run here.
    """
    from workbench.doctor import examine

    check_outputs(files=[json])
    diagnosis = examine()
    if str(json) != "-":
        show(diagnosis, quiet)
    failed = [{"uri": check.name, "error": said(check)} for check in diagnosis.problems]
    print_json(json, diagnosis.to_dict() | {"failed": failed})
    if failed:
        raise typer.Exit(1)


def show(diagnosis: Diagnosis, quiet: bool) -> None:
    """Every check by section; only what needs attention with `--quiet`."""
    width = max((len(check.name) for check in diagnosis.checks), default=0)
    section = ""
    for check in diagnosis.checks:
        if quiet and check.status in ("ok", "note"):
            continue
        if check.section != section and not quiet:
            typer.echo(f"{'' if not section else chr(10)}{check.section}")
            section = check.section
        word, colour = _MARKS[check.status]
        typer.echo(f"  {typer.style(f'{word:4}', fg=colour)}  {check.name:<{width}}  {check.value}")
        if check.fix:
            typer.echo(f"        {'':<{width}}  -> {check.fix}")
    if not quiet:
        warnings = sum(check.status == "warning" for check in diagnosis.checks)
        typer.echo(f"\n{plural(len(diagnosis.problems), 'problem')}, {plural(warnings, 'warning')}")


def said(check: Check) -> str:
    """A check as one line."""
    return f"{check.value}{f'; {check.fix}' if check.fix else ''}"
