"""`workbench gate`: a report against a committed one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, print_json
from workbench.errors import InputError

EXAMPLES = (
    "workbench gate scores.json --baseline committed/scores.json",
    "workbench gate parity.json --baseline committed/parity.json --budget budget.toml --junit gate.xml",
)
COLOURS = {"pass": "green", "fail": "red", "warn": "yellow"}


def gate(
    report: Annotated[
        Path,
        typer.Argument(
            metavar="REPORT",
            show_default=False,
            help="JSON report of parity, score, compare or benchmark.",
        ),
    ],
    *,
    baseline: Annotated[
        Path,
        typer.Option(
            "--baseline", metavar="REPORT", help="The committed report of the same kind; never written."
        ),
    ],
    budget: Annotated[
        Path | None,
        typer.Option(
            "--budget",
            metavar="TOML",
            help="How much worse each number may be: tables parity, score, compare, benchmark; entries are "
            "like der = { abs = 0.002, confidence = 0.95 }.",
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Checks as JUnit XML.", rich_help_panel=o.OUTPUT),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Checks as one page.", rich_help_panel=o.OUTPUT),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Fail when a report got worse than the committed one: exit code 0 passed, 1 failed, 2 unusable.

    A number may grow by the larger of an absolute and a relative amount. The DER fails if it grew by more
    than 0.2 points and the lower confidence bound of the growth is above zero. What was not measured fails,
    and so do recordings of the baseline that are missing, unless the budget says missing = "warn".
    """
    from workbench.files import atomic_write
    from workbench.gate import gate_files, gate_html, junit_xml

    inputs = {path.resolve() for path in (report, baseline, budget) if path is not None}
    for output in (junit, html, json):
        if output is not None and str(output) != "-" and output.resolve() in inputs:
            raise InputError.at(output, "is one of the inputs, which a gate never writes; name another file")
    check_outputs(files=[junit, html, json])
    result = gate_files(report, baseline, budget)
    if junit is not None:
        with atomic_write(junit) as temporary:
            temporary.write_bytes(junit_xml(result))
    if html is not None:
        with atomic_write(html) as temporary:
            temporary.write_text(gate_html(result), encoding="utf-8")
    to_stdout = str(json) == "-"
    for check in result.checks:
        if check.outcome != "pass" or not quiet:
            line = f"{check.outcome.upper():<5}{check.where}: {check.metric}: {check.words}"
            problem = check.outcome != "pass"
            if problem or not to_stdout:
                typer.secho(line, err=problem, fg=COLOURS[check.outcome])
    if not to_stdout:
        typer.echo(f"{result.kind} gate {result.verdict}")
    print_json(json, result.to_json())
    if not result.passed:
        raise typer.Exit(1)
