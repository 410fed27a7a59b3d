"""`workbench compare-models`: a few segmentation models side by side: size, speed and error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.checkpoints import failures, format_selection, run_selection
from workbench.cli.output import check_outputs, print_json
from workbench.cli.score import WHAT_IT_IS
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.selection import Selection

EXAMPLES = (
    "workbench compare-models dev/ --model large=torch:exp_large --model pruned=torch:exp_s80@avg:5 "
    "--reference dev.rttm",
    "workbench compare-models data/demo --model torch:models/demo "
    "--model onnx:models/demo/onnx/segmentation.onnx --reference data/demo/demo.rttm "
    "--embedding torch:models/demo --plda models/demo/plda --json -",
)


def compare_models(
    audio: o.Audio,
    *,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="[NAME=]RUNTIME",
            help="A segmentation model: torch:PATH\\[@CHECKPOINT] or onnx:FILE.onnx, and what to call it; "
            "given once for each. All are held in memory at once.",
            rich_help_panel=o.MODELS,
        ),
    ],
    reference: Annotated[
        Path,
        typer.Option(
            "--reference", metavar="RTTM", help=f"The truth: {WHAT_IT_IS}.", rich_help_panel=o.SCORING
        ),
    ],
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="RUNTIME",
            help="Speaker embedding model: every model then runs in the whole pipeline. Without it the "
            "segmentation alone is scored, speakers matched anew in every chunk.",
            rich_help_panel=o.MODELS,
        ),
    ] = None,
    plda: o.Plda = None,
    config: o.Config = None,
    preset: o.PresetOf = None,
    clustering: o.ClusteringOf = None,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Compare segmentation models, such as a pruned one with its original: parameters, MACs, speed, DER.

    All are scored on the same recordings; the real-time factor is the median over passes in which the models
    take turns. Parameters and multiply-accumulates per second of audio (MAC/s) are those of torch models.
    """
    models = dict(named(text) for text in model)
    if len(models) < len(model):
        raise InputError("--model: two models have one name; write NAME=RUNTIME with a name for each")
    check_outputs(files=[json])

    def score(*given: Any, **options: Any) -> Selection:
        from workbench.selection import compare_models as compare

        return compare(models, *given, **options)

    params = o.pipeline_params(None, config, preset, clustering)
    selection = run_selection(
        score, audio, reference, uem, collar, embedding, plda, params, session_id, quiet
    )
    if not quiet and str(json) != "-":
        typer.echo(format_selection(selection, "model"))
    problems = failures(selection)
    for problem in problems:
        typer.secho(f"FAILED {problem['uri']}: {problem['error']}", err=True, fg="red")
    print_json(json, {"models": models} | selection.to_dict() | {"failed": problems})
    if problems:
        raise typer.Exit(1)


def named(text: str) -> tuple[str, str]:
    """Name and runtime string; a runtime without a name is called by itself.

    Examples
    --------
    >>> named("large=torch:exp@best?threads=1")
    ('large', 'torch:exp@best?threads=1')
    >>> named("torch:exp?threads=1")
    ('torch:exp?threads=1', 'torch:exp?threads=1')
    """
    name, mark, runtime = text.partition("=")
    if not mark or ":" in name:
        return text, text
    if not name or not runtime:
        raise InputError(f"--model {text!r}: expected NAME=RUNTIME, such as pruned=torch:exp_s80")
    return name, runtime
