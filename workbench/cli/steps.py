"""`workbench steps`: the steps of two or more recorded folders, and the first that differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, finish, print_json

if TYPE_CHECKING:
    from workbench.steps import StepsWalk

EXAMPLES = (
    "workbench steps recorded/torch recorded/onnx",
    "workbench steps recorded/torch recorded/ort-python dumps/ort-cpp --json steps.json",
    "workbench steps recorded/torch dumps/npu --tolerance embeddings=0.02,0.1 --check",
)


def steps(
    sides: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C...]",
            show_default=False,
            help="Folders of steps: as `workbench record --stages steps` writes them, or a port's dumps.",
        ),
    ],
    *,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="STEP=ABS[,REL]",
            help="Difference that still counts as the same; REL is relative to the largest value of a row. "
            "May be repeated.",
        ),
    ] = None,
    recording: Annotated[
        list[str] | None,
        typer.Option("--recording", metavar="URI", help="Compare only this recording; may be repeated."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if any step differs.")] = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Walk the pipeline step by step on two or more sides, and name the first step that differs.

    Every side is compared with the first and with the one before it: torch, ONNX Runtime in Python, the same
    in C++. Labels and turns are compared up to the names of the speakers, merges row by row. A folder's
    steps.toml says what its arrays are called and how raw files are to be read.
    """
    from workbench.steps import open_steps, walk_steps
    from workbench.steps.walk import parse_tolerances

    tolerances = parse_tolerances(tolerance or [])
    check_outputs(files=[json])
    result = walk_steps([open_steps(side) for side in sides], tolerances=tolerances, uris=recording)
    if str(json) != "-":
        typer.echo("\n".join(describe(result)))
    print_json(json, result.to_json())
    for uri, error in result.failed:
        typer.secho(f"FAILED {uri}: {error}", err=True, fg="red")
    finish([{"uri": uri, "error": error} for uri, error in result.failed], len(result.walks))
    if check and not result.agree:
        raise typer.Exit(1)


def describe(result: StepsWalk) -> list[str]:
    """The verdict, then every step of the recording that differs first, for every two sides."""
    from workbench.steps.results import MARKS

    lines = [*result.verdict, *(f"· {remark}" for remark in result.remarks)]
    for baseline, candidate in result.pairs:
        found = result.first(baseline, candidate)
        walks = result.of(baseline, candidate)
        walk = next((each for each in walks if found is not None and each.uri == found[0]), walks[0])
        lines += ["", f"{baseline} → {candidate}: {walk.uri}"]
        lines += [
            f"{MARKS[step.status]} {step.step:<22} {step.words}"
            for step in walk.steps
            if step.status != "absent"
        ]
    return lines
