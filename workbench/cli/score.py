"""`workbench score`: error rates of a hypothesis against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, finish, print_json
from workbench.errors import InputError

if TYPE_CHECKING:
    from pyannote.core import Annotation

    from workbench.scoring import ScoreReport

LIST_SUFFIXES = {".lst", ".list", ".scp"}
METAVAR = "RTTM"
WHAT_IT_IS = "an RTTM file, a folder of RTTM files, or a list (.lst) of their paths"


EXAMPLES = (
    "workbench score reference.rttm hypothesis/ --uem all.uem",
    "workbench score reference.rttm hypothesis.rttm --collar 0.25 --skip-overlap --json scores.json",
)


def score(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", show_default=False, help=f"The truth: {WHAT_IT_IS}.")
    ],
    hypothesis: Annotated[
        Path, typer.Argument(metavar="HYPOTHESIS", show_default=False, help=f"What to judge: {WHAT_IT_IS}.")
    ],
    uem: Annotated[
        Path | None,
        typer.Option("--uem", metavar="FILE", help="Regions to score; recordings not in it are left out."),
    ] = None,
    collar: Annotated[
        float,
        typer.Option(
            "--collar",
            metavar="SECONDS",
            min=0.0,
            help="Left unscored [bold]on each side[/bold] of every reference boundary, as md-eval and dscore "
            "count it: 0.25 forgives half a second in all (0.5 in pyannote.metrics).",
        ),
    ] = 0.0,
    skip_overlap: Annotated[
        bool, typer.Option("--skip-overlap", help="Leave out where several reference speakers talk at once.")
    ] = False,
    only_common: Annotated[
        bool, typer.Option("--only-common", help="Score only the recordings that both sides name.")
    ] = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Score a diarization: per-recording and overall error rates.

    A recording that has no hypothesis counts as missed; an empty FILE.rttm in a folder is a hypothesis that
    says nobody speaks.
    """
    from workbench.rttm import read_uem
    from workbench.scoring import score_files

    check_outputs(files=[json])
    report = score_files(
        read_annotations(reference),
        read_annotations(hypothesis),
        None if uem is None else read_uem(uem),
        collar=collar,
        skip_overlap=skip_overlap,
        only_common=only_common,
    )
    if str(json) != "-" and not quiet:
        typer.echo(format_table(report))
    if not quiet:
        for line in remarks(report):
            typer.secho(line, err=True, fg="yellow")
    for uri, error in report.failed:
        typer.secho(f"FAILED {uri}: {error}", err=True, fg="red")
    print_json(json, report.to_dict())
    finish([{"uri": uri, "error": error} for uri, error in report.failed], len(report.recordings))


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Annotations by recording, from an RTTM file, a folder of them, or a list of their paths.

    An empty file in a folder or list is the annotation of a recording in which nobody speaks;
    its name says which.
    """
    from pyannote.core import Annotation

    from workbench.datasets import read_list
    from workbench.rttm import read_rttm

    if path.is_dir():
        files = sorted(file for file in path.rglob("*.rttm") if not file.name.startswith("."))
        if not files:
            raise InputError.at(path, "the folder holds no .rttm file")
    elif path.suffix.lower() in LIST_SUFFIXES:
        files = [path.parent / entry for entry in read_list(path)]
    else:
        return read_rttm(path)
    annotations: dict[str, Annotation] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for uri, annotation in (read_rttm(file) or {file.stem: Annotation(uri=file.stem)}).items():
            if uri in origin:
                raise InputError.at(file, f"recording {uri!r} is also in {origin[uri]}; keep one of them")
            annotations[uri], origin[uri] = annotation, file
    return annotations


COLUMNS = (
    ("DER", "der", 100),
    ("missed", "missed", None),
    ("false alarm", "false_alarm", None),
    ("confusion", "confusion", None),
    ("JER", "jer", 100),
    ("B3-F1", "b3_f1", 100),
    ("purity", "purity", 100),
    ("coverage", "coverage", 100),
)
"""Heading, name in the row, and factor; None: a share of the scored speaker time."""


def format_table(report: ScoreReport) -> str:
    """The report as aligned text, rates in percent."""
    rows = {uri: cells(row.to_dict()) for uri, row in report.recordings.items()}
    rows["overall"] = cells(report.overall.to_dict())
    heading = ["recording", *(title for title, _, _ in COLUMNS), "speech (s)"]
    table = [heading, *([uri, *values] for uri, values in rows.items())]
    widths = [max(len(line[column]) for line in table) for column in range(len(heading))]
    lines = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(pairs)
        )
        for pairs in (list(zip(line, widths, strict=True)) for line in table)
    ]
    rule = "-" * len(lines[0])
    return "\n".join(
        [
            lines[0],
            rule,
            *lines[1:-1],
            rule,
            lines[-1],
            "",
            f"Rates in %. DER, missed, false alarm and confusion: {report.convention}.",
        ]
    )


def cells(row: dict[str, float | None]) -> list[str]:
    """One line of the table; a dash where a rate is not defined."""
    total = row["total"] or 0.0

    def show(name: str, factor: int | None) -> str:
        value: Any = row[name]
        if value is not None and factor is None:
            value, factor = (value / total, 100) if total else (None, None)
        return "-" if value is None else f"{value * factor:.2f}"

    return [*(show(name, factor) for _, name, factor in COLUMNS), f"{total:.1f}"]


def remarks(report: ScoreReport) -> list[str]:
    """What the reader of the table should know besides the numbers."""
    lines = [
        f"{uri}: no hypothesis names it, so all of it counts as missed" for uri in report.without_hypothesis
    ]
    return lines + [f"{uri}: left out, {why}" for uri, why in report.left_out.items()]
