"""`workbench swap`: the pipeline with stages from either of two sides, and which stage is to blame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, print_json

if TYPE_CHECKING:
    from workbench.steps.noise import NoiseConsequences
    from workbench.steps.swap import RecordingSwap, SwapResult

EXAMPLES = (
    "workbench swap torch:models/demo onnx:models/demo data/demo --reference data/demo/demo.rttm",
    "workbench swap models/demo onnx:int8.onnx data/demo --hub models/demo --reference data/demo/demo.rttm",
    "workbench swap models/demo recorded:port/ data/demo --reference data/demo/demo.rttm",
    "workbench swap models/demo models/demo data/demo --candidate-config other.toml --reference all.rttm",
)
CANDIDATE = "What the candidate has of its own"


def swap(
    baseline: Annotated[
        str,
        typer.Argument(
            metavar="BASELINE",
            show_default=False,
            help="Hub folder, onnx:DIR, a segmentation "
            "runtime, or recorded:DIR with samples, log_probs, embeddings or hard_clusters.",
        ),
    ],
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", show_default=False, help="The other side, named likewise.")
    ],
    audio: o.Audio,
    *,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="RTTM", help="The truth; without it, the baseline's output."),
    ] = None,
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    skip_overlap: o.SkipOverlap = False,
    hub: o.Hub = None,
    embedding: o.Embedding = None,
    plda: o.Plda = None,
    config: o.Config = None,
    candidate_embedding: Annotated[
        str | None,
        typer.Option(
            "--candidate-embedding", metavar="RUNTIME", rich_help_panel=CANDIDATE, help="Embeddings."
        ),
    ] = None,
    candidate_plda: Annotated[
        Path | None, typer.Option("--candidate-plda", metavar="DIR", rich_help_panel=CANDIDATE, help="PLDA.")
    ] = None,
    candidate_config: Annotated[
        Path | None,
        typer.Option("--candidate-config", metavar="TOML", rich_help_panel=CANDIDATE, help="Parameters."),
    ] = None,
    candidate_audio: Annotated[
        Path | None,
        typer.Option(
            "--candidate-audio",
            metavar="DIR",
            rich_help_panel=CANDIDATE,
            help="The recordings as the candidate's own front end converts them.",
        ),
    ] = None,
    noise: Annotated[
        bool,
        typer.Option(
            "--noise", help="Measure the difference of the embeddings: how much of it moves labels here?"
        ),
    ] = False,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Exchange stages between two pipelines in all combinations, and attribute the change of the DER to them.

    Stages are front end, segmentation, embeddings, clustering and post-processing. Shares are Shapley's: they
    add up to the whole change in whatever order stages are exchanged. What two faults do only together is
    named. A recorded side gives the stages that it has arrays of; the hub's models stand in for the others.
    """
    from workbench.audio import find_recordings
    from workbench.rttm import read_rttms, read_uem
    from workbench.steps.sides import load_side, shared_hub
    from workbench.steps.stages import SideStages
    from workbench.steps.swap import swap_stages

    recordings = find_recordings(audio, session_id.value)
    check_outputs(files=[json])
    references = None if reference is None else read_rttms(reference)
    regions = None if uem is None else read_uem(uem)
    shared: dict[str, object] = {"embedding": embedding, "plda": plda, "config": config}
    shared["hub"] = hub if hub is not None else shared_hub(baseline, candidate)
    own = {"embedding": candidate_embedding, "plda": candidate_plda, "config": candidate_config}
    first = load_side(baseline, **shared)  # type: ignore[arg-type]
    second = load_side(candidate, **shared | {k: v for k, v in own.items() if v is not None})  # type: ignore[arg-type]
    heard = None if candidate_audio is None else find_recordings([candidate_audio], session_id.value)
    with Progress(len(recordings), "recordings", quiet) as progress:

        def on_recording(uri: str, found: RecordingSwap | None, error: str | None) -> None:
            progress.advance(1)
            if error is not None:
                progress.always(f"FAILED {uri}: {error}", colour="red")
            elif found is not None:
                progress.say(f"{uri}: {found.change:+.2f} s of error")

        result = swap_stages(
            SideStages.of(first),
            SideStages.of(second, heard),
            dict(recordings),
            references=references,
            uem=regions,
            collar=collar,
            skip_overlap=skip_overlap,
            on_recording=on_recording,
        )
    measured: dict[str, NoiseConsequences] = {}
    if noise:
        from workbench.steps.noise import noise_consequences

        for uri, each in result.recordings.items():
            if each.features is not None:
                measured[uri] = noise_consequences(
                    *each.features,
                    first.params.clustering,
                    first.runtimes.plda,
                    reference=None if references is None else references.get(uri),
                )
    if str(json) != "-":
        typer.echo("\n".join(describe(result)))
        for found in measured.values():
            typer.echo(found.words)
        if noise and not measured:
            typer.echo("no noise to measure: both sides make the same embeddings")
    content = result.to_json()
    if noise:
        content["noise"] = {uri: found.to_json() for uri, found in measured.items()}
    print_json(json, content)
    finish([{"uri": uri, "error": error} for uri, error in result.failed], len(recordings))


def describe(result: SwapResult) -> list[str]:
    """The verdict, the shares, what only shows together, and the recordings."""
    lines = [f"baseline   {result.baseline}", f"candidate  {result.candidate}", "", result.verdict]
    if not result.recordings or not result.players:
        return lines
    lines += ["", f"{'stage':<17} {'points':>8} {'share':>8} {'alone':>9} {'last':>9}"]
    for row in result.shares.to_dict("records"):
        if not row["differs"]:
            lines.append(f"{row['stage']:<17} the same on both sides")
            continue
        share = f"{row['share']:.1%}" if row["share"] == row["share"] else "–"
        lines.append(
            f"{row['stage']:<17} {row['points']:>+8.2f} {share:>8} {row['alone']:>+8.2f}s "
            f"{row['last']:>+8.2f}s"
        )
    for row in result.notable_interactions.to_dict("records"):
        lines.append(f"{row['stages']}: {row['points']:+.2f} points only together")
    lines += ["", f"{'recording':<30} {'change':>9}  " + " ".join(f"{each:>15}" for each in result.players)]
    worst = result.per_recording().sort_values("change", key=abs, ascending=False)
    for row in worst.head(10).to_dict("records"):
        shares = " ".join(f"{row[each]:>+14.2f}s" for each in result.players)
        lines.append(f"{row['uri']:<30} {row['change']:>+8.2f}s  {shares}")
    return lines
