"""`workbench compare`: two pipelines on the same recordings, agreement and correctness apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, print_json
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.steps.contest import ContestResult

EXAMPLES = (
    "workbench compare torch:models/demo onnx:models/demo data/demo --reference data/demo/demo.rttm "
    "--out compared",
    "workbench compare torch:exp onnx:int8.onnx meetings/ --hub models/demo --reference all.rttm "
    "--out compared",
)
COLOURS = {"green": "green", "amber": "yellow", "red": "red", "dark": "bright_black"}


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", show_default=False, help="Hub folder, onnx:DIR, or a segmentation runtime."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", show_default=False, help="The other one, named likewise.")],
    audio: o.Audio,
    *,
    reference: Annotated[
        Path,
        typer.Option("--reference", metavar="RTTM", help="The truth: an RTTM file, or a folder of them."),
    ],
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    skip_overlap: o.SkipOverlap = False,
    max_der: Annotated[
        float,
        typer.Option(
            "--max-der", metavar="X", min=0.0, help="DER (fraction) above which an output is wrong."
        ),
    ] = 0.5,
    hub: o.Hub = None,
    embedding: o.Embedding = None,
    plda: o.Plda = None,
    config: o.Config = None,
    out: o.Out,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Diarize with two runtimes, score both, and test the difference: report.json, a/ and b/ in --out.

    Two lamps: one for agreement of the two, one for correctness against the references. What a hub folder
    does not bring, both share: --embedding, --plda, --config, or the hub folder that one of them is.
    """
    from workbench.audio import find_recordings
    from workbench.cli.score import read_annotations
    from workbench.manifest import Stopwatch, run_manifest
    from workbench.rttm import read_uem
    from workbench.steps.contest import run_contest
    from workbench.steps.sides import load_side, shared_hub

    stopwatch = Stopwatch()
    recordings = find_recordings(audio, session_id.value)
    references = read_annotations(reference)
    if not references.keys() & recordings.keys():
        raise InputError(
            f"{reference}: names none of the recordings ({', '.join(sorted(recordings)[:3])}); references "
            "are matched by name"
        )
    regions = None if uem is None else read_uem(uem)
    check_outputs(folders=[out], files=[json])
    shared = {
        "hub": hub if hub is not None else shared_hub(a, b),
        "embedding": embedding,
        "plda": plda,
        "config": config,
    }
    sides = [load_side(each, **shared) for each in (a, b)]  # type: ignore[arg-type]
    with Progress(len(recordings), "recordings", quiet) as progress:
        done = 0

        def on_recording(uri: str, error: str | None) -> None:
            nonlocal done
            done += 1
            progress.advance(1)
            if error is not None:
                progress.always(f"FAILED {uri}: {error}", colour="red")
            else:
                progress.say(f"[{done}/{len(recordings)}] {uri}")

        result = run_contest(
            sides[0],
            sides[1],
            recordings,
            references,
            uem=regions,
            collar=collar,
            skip_overlap=skip_overlap,
            out=out,
            max_der=max_der,
            on_recording=on_recording,
        )
    models = [
        path
        for side in sides
        for text in side.models.values()
        if (path := Path(text.partition(":")[2].partition("?")[0] or text)).exists()
        or (path := Path(text)).exists()
    ]
    report = result.to_json() | {
        "models": {name: dict(side.models) for name, side in zip("ab", sides, strict=True)},
        "manifest": run_manifest(
            "workbench compare",
            files={
                "audio": list(recordings.values()),
                "reference": reference,
                "uem": uem,
                "models": sorted(set(models)),
                "config": config,
            },
            options={
                "a": sides[0].params.to_dict(),
                "b": sides[1].params.to_dict(),
                "collar": collar,
                "skip_overlap": skip_overlap,
                "max_der": max_der,
            },
            stopwatch=stopwatch,
        ),
    }
    print_json(out / "report.json", report)
    print_json(json, report)
    if str(json) != "-":
        describe(result)
    finish([{"uri": uri, "error": error} for uri, error in result.failed], len(recordings))


def describe(result: ContestResult) -> None:
    """The two lamps, the metrics, the recordings that changed most."""
    typer.echo(f"A  {result.a}\nB  {result.b}\n")
    for name, lamp in (("agreement", result.agreement), ("correctness", result.correctness)):
        typer.secho(f"● {lamp.light:<6}", fg=COLOURS[lamp.light], nl=False)
        typer.echo(f" {name}: {lamp.words}")
    typer.echo(f"\n{result.scores['a'].convention}\n{'metric':<14} {'A':>9} {'B':>9} {'B - A':>9} {'p':>8}")
    for metric, row in result.tests.items():
        values = " ".join(
            f"{'–' if row[key] is None else format(row[key], '.4f'):>9}" for key in ("a", "b", "difference")
        )
        typer.echo(f"{metric:<14} {values} {'–' if row['p'] is None else format(row['p'], '.3g'):>8}")
    a, b = (result.scores[side].recordings for side in "ab")
    changed = sorted(a, key=lambda uri: -abs(b[uri].counts.der - a[uri].counts.der))[:10]
    typer.echo(f"\n{'recording':<30} {'DER A':>8} {'DER B':>8} {'cross':>8}")
    for uri in changed:
        numbers = (a[uri].counts.der, b[uri].counts.der, result.cross[uri].der)
        typer.echo(f"{uri:<30} " + " ".join(f"{100 * number:>6.2f} %" for number in numbers))
