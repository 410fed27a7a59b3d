"""`workbench score`: error rates of a hypothesis against a reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, finish, print_json
from workbench.cli.score_tables import (
    format_breakdown,
    format_comparison,
    format_conventions,
    format_table,
    remarks,
)
from workbench.errors import InputError

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

    from workbench.scoring import ScoreReport
    from workbench.scoring.comparison import SystemComparison


class By(StrEnum):
    """What `--by` takes; the same words as `scoring.breakdown.By`."""

    recording = "recording"
    speaker = "speaker"
    overlap = "overlap"
    duration = "duration"
    boundary = "boundary"
    time = "time"


LIST_SUFFIXES = {".lst", ".list", ".scp"}
METAVAR = "RTTM"
WHAT_IT_IS = "an RTTM file, a folder of RTTM files, or a list (.lst) of their paths"
DETAIL, COMPARING = "Where the error comes from", "Comparing systems"
TRUST = "--trust-reference"


EXAMPLES = (
    "workbench score reference.rttm hypothesis/ --uem all.uem",
    "workbench score reference.rttm hypothesis.rttm --collar 0.25 --skip-overlap --json scores.json",
    "workbench score reference.rttm hypothesis/ --by overlap --by speaker --errors errors.csv",
    "workbench score reference.rttm system_a/ --compare system_b/ system_c/",
)


def score(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", show_default=False, help=f"The truth: {WHAT_IT_IS}.")
    ],
    hypothesis: Annotated[
        Path, typer.Argument(metavar="HYPOTHESIS", show_default=False, help=f"What to judge: {WHAT_IT_IS}.")
    ],
    others: Annotated[
        list[Path] | None, typer.Argument(metavar="OTHER", hidden=True, help="What --compare names.")
    ] = None,
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    skip_overlap: o.SkipOverlap = False,
    only_common: Annotated[
        bool, typer.Option("--only-common", help="Score only the recordings that both sides name.")
    ] = False,
    by: Annotated[
        list[By] | None,
        typer.Option("--by", help="Break the error down by this; may be repeated.", rich_help_panel=DETAIL),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            "--errors",
            metavar="FILE",
            help="Write every error, longest first: .csv, .rttm, .txt (Audacity labels) or .TextGrid. The "
            "last two hold one recording: of several, each gets its own FILE.<recording>.txt.",
            rich_help_panel=DETAIL,
        ),
    ] = None,
    conventions: Annotated[
        bool,
        typer.Option(
            "--conventions",
            help="Show what other scorers would print for these files, and why.",
            rich_help_panel=DETAIL,
        ),
    ] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            "--compare",
            metavar="OTHER...",
            help="Further hypotheses, each tested against HYPOTHESIS.",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            "--audio",
            metavar="PATH",
            show_default=False,
            help="Recordings, or folders of them: a reference that does not fit their durations is refused. "
            "May be repeated.",
        ),
    ] = None,
    trust_reference: Annotated[
        bool,
        typer.Option(TRUST, help="Score even if the reference looks empty, cut off or like a placeholder."),
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
    from workbench.scoring.comparison import der_interval

    if others and not compare:
        raise InputError(f"unexpected argument {str(others[0])!r}; further systems follow --compare")
    check_outputs(files=[json, errors])
    if errors is not None:
        from workbench.error_files import check_format

        check_format(errors)
    references, hypotheses = read_annotations(reference), read_annotations(hypothesis)
    regions = None if uem is None else read_uem(uem)
    found = check(references, hypotheses, regions, durations_of(audio or [], references), trust_reference)

    def score_one(system: dict[str, Annotation]) -> ScoreReport:
        return score_files(
            references, system, regions, collar=collar, skip_overlap=skip_overlap, only_common=only_common
        )

    report = score_one(hypotheses)
    # every further figure is of the recordings that the report is about
    kept_ref = {uri: each for uri, each in references.items() if uri in report.recordings}
    kept_hyp = {uri: each for uri, each in hypotheses.items() if uri in report.recordings}
    how: dict[str, Any] = {"uem": regions, "collar": collar, "skip_overlap": skip_overlap}
    interval, unit = der_interval(kept_ref, kept_hyp, **how)
    content = report.to_dict() | {"interval": asdict(interval) | {"unit": unit}}
    if found:
        content["reference_findings"] = found
    parts = [format_table(report, interval, unit)]
    if by:
        from workbench.scoring.breakdown import breakdown

        tables = {
            each.value: breakdown(kept_ref, kept_hyp, **how, by=each.value) for each in dict.fromkeys(by)
        }
        parts += [format_breakdown(table, each) for each, table in tables.items()]
        content["breakdowns"] = {each: table.to_dict("records") for each, table in tables.items()}
    if conventions:
        from workbench.scoring.conventions import convention_table

        table = convention_table(kept_ref, kept_hyp, regions, **({"collar": collar} if collar else {}))
        parts.append(format_conventions(table))
        content["conventions"] = table.to_dict("records")
    systems = [*(compare or []), *(others or [])]
    if systems:
        names = name_systems([hypothesis, *systems])
        compared = {}
        for name, path in zip(names[1:], systems, strict=True):
            other = read_annotations(path)
            other_report = score_one(other)
            compared[name] = (
                other_report,
                compare_with(report, other_report, references, hypotheses, other, how),
            )
        parts.append(format_comparison(names[0], report, compared))
        content["compare"] = {name: comparison_dict(*result) for name, result in compared.items()}
    if errors is not None:
        from workbench.error_files import write_errors
        from workbench.scoring.regions import find_longest_errors

        for file in write_errors(errors, find_longest_errors(kept_ref, kept_hyp, **how)):
            if not quiet:
                typer.echo(f"errors: {file}", err=True)
    if str(json) != "-" and not quiet:
        typer.echo("\n\n".join(parts))
    if not quiet:
        for line in [*found, *remarks(report)]:
            typer.secho(line, err=True, fg="yellow")
    for uri, error in report.failed:
        typer.secho(f"FAILED {uri}: {error}", err=True, fg="red")
    print_json(json, content)
    finish([{"uri": uri, "error": error} for uri, error in report.failed], len(report.recordings))


def check(
    references: dict[str, Annotation],
    hypotheses: dict[str, Annotation],
    uem: dict[str, Timeline] | None,
    durations: dict[str, float],
    trusted: bool,
) -> list[str]:
    """Stop where a reference cannot be right, unless it is trusted; else what is worth a remark."""
    from workbench.scoring.references import check_references, require_references

    hint = f"correct it, or give {TRUST} to score all the same"
    if trusted:
        findings = check_references(references, hypotheses, uem, durations)
    else:
        findings = require_references(references, hypotheses, uem, durations, hint=hint)
    # names that do not match are in the report already, unless a UEM hides them
    return [str(each) for each in findings if each.check != "unmatched" or "UEM" in each.problem]


def durations_of(audio: list[Path], references: Iterable[str]) -> dict[str, float]:
    """Seconds of those recordings that a reference names."""
    from workbench.audio import audio_duration, find_recordings

    if not audio:
        return {}
    recordings = find_recordings(audio)
    named = sorted(recordings.keys() & set(references))
    if not named:
        raise InputError(
            f"--audio: none of the {len(recordings)} recordings has the name of a reference; the first is "
            f"{min(recordings)!r}; files are named as their recordings, without the ending"
        )
    return {uri: audio_duration(recordings[uri]) for uri in named}


def name_systems(paths: list[Path]) -> list[str]:
    """Short names that tell the systems apart: the files' names, or their whole paths."""
    for names in (
        [path.stem if path.is_file() else path.name for path in paths],
        [str(path) for path in paths],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]


def compare_with(
    report: ScoreReport,
    other_report: ScoreReport,
    references: dict[str, Annotation],
    hypotheses: dict[str, Annotation],
    other: dict[str, Annotation],
    how: dict[str, Any],
) -> SystemComparison:
    """Test another system on the recordings that both reports score and a reference names."""
    from workbench.scoring.comparison import compare_files

    both = report.recordings.keys() & other_report.recordings.keys() & references.keys()
    return compare_files({uri: references[uri] for uri in sorted(both)}, hypotheses, other, **how)


def comparison_dict(report: ScoreReport, comparison: SystemComparison) -> dict[str, Any]:
    """A comparison for the JSON report."""
    return {
        "overall": report.overall.to_dict(),
        "test": asdict(comparison.test),
        "verdict": comparison.test.verdict,
        "words": comparison.words,
        "fixed": comparison.fixed,
        "broken": comparison.broken,
        "changes": comparison.changes.head(MOST_CHANGES).to_dict("records"),
    }


MOST_CHANGES = 100  # regions in the JSON report, longest first


def read_any(path: Path) -> dict[str, Annotation]:
    """Annotations from RTTM, or from another format that the file's ending tells."""
    from workbench import labels
    from workbench.rttm import read_rttm

    return labels.read_annotations(path) if path.suffix.lower() in labels.READERS else read_rttm(path)


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Annotations by recording, from an RTTM file, a folder of them, or a list of their paths.

    A single file may also be a TextGrid, Audacity labels (.txt), CTM, STM or SegLST (.json).

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
        return read_any(path)
    annotations: dict[str, Annotation] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for uri, annotation in (read_rttm(file) or {file.stem: Annotation(uri=file.stem)}).items():
            if uri in origin:
                raise InputError.at(file, f"recording {uri!r} is also in {origin[uri]}; keep one of them")
            annotations[uri], origin[uri] = annotation, file
    return annotations
