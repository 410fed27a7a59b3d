"""`workbench parity`: two runtimes frame by frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, print_json
from workbench.cli.steps import describe as describe_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.agreement import Backend, ParityParams, ParityResult, RecordingParity
    from workbench.agreement.layers import LadderResult
    from workbench.agreement.strict import StrictReport
    from workbench.runtimes import Runtime
    from workbench.steps import StepsWalk
    from workbench.types import Kind

EXAMPLES = (
    "workbench parity torch:models/demo onnx:models/demo/onnx/segmentation.onnx data/demo",
    "workbench parity torch:exp recorded:tensorrt/ recordings/ --reference all.rttm --max-flip-rate 0.001",
    "workbench parity torch:models/demo onnx:int8.onnx data/demo --hub models/demo --json -",
)
LIMITS, DEEPER = "Limits", "What is looked at"
SHOWN = 10  # recordings and transitions that are printed


def parity(
    baseline: Annotated[
        str, typer.Argument(metavar="BASELINE", show_default=False, help="Runtime that counts as right.")
    ],
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", show_default=False, help="Runtime that is compared with it.")
    ],
    audio: o.Audio,
    *,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="RTTM", help="The truth, for the DER of both sides."),
    ] = None,
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    skip_overlap: o.SkipOverlap = False,
    max_flip_rate: Annotated[
        float | None,
        typer.Option(
            "--max-flip-rate",
            metavar="X",
            min=0.0,
            help="Largest fraction of frames that may flip; above it the exit code is 1.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    max_diff: Annotated[
        float | None,
        typer.Option(
            "--max-diff",
            metavar="X",
            min=0.0,
            help="Largest difference of a log-probability (or embedding value); above it the exit code is 1.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Undo shifts, other frame grids, chunks and class orders that were found, then compare.",
        ),
    ] = False,
    near_tie: Annotated[
        float,
        typer.Option(
            "--near-tie", metavar="NATS", min=0.0, help="Margin up to which a flip was a close call."
        ),
    ] = 0.1,
    checks: Annotated[
        bool,
        typer.Option(
            "--checks/--no-checks",
            help="Also run each side repeatedly, in other batches, after other inputs and on other lengths.",
            rich_help_panel=DEEPER,
        ),
    ] = True,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Set everything that exact equality needs (one thread, no TF32, no graph rewriting, batches "
            "of one), and say what remains and why.",
            rich_help_panel=DEEPER,
        ),
    ] = False,
    length_ladder: Annotated[
        float | None,
        typer.Option(
            "--length-ladder",
            metavar="SECONDS",
            min=0.5,
            help="Run both on waveforms of 0.5 s up to this length (600: ten minutes), as memory allows.",
            rich_help_panel=DEEPER,
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Compare all chunks stage by stage, and tell what a stage inherits from what it adds by "
            "itself. Without it, that is done where the two differ, on the chunks that differ most.",
            rich_help_panel=DEEPER,
        ),
    ] = False,
    consequences: Annotated[
        bool,
        typer.Option(
            "--consequences/--no-consequences",
            help="Follow flips through median filter and reconstruction to the outputs.",
            rich_help_panel=DEEPER,
        ),
    ] = True,
    hub: o.Hub = None,
    embedding: o.Embedding = None,
    plda: o.Plda = None,
    config: o.Config = None,
    segmentation_step: o.SegmentationStep = None,
    batch_size: o.BatchSize = None,
    session_id: o.SessionId = o.SessionIds.stem,
    page: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write the comparison as one page, to look at and listen."
        ),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Compare two runtimes: every frame they decide otherwise, why, and what it does to the output.

    A side may be recorded:DIR, from whatever program. With --hub (or --embedding) the outputs that are
    compared are the pipeline's; otherwise local speakers are linked from chunk to chunk.
    """
    from workbench.agreement import ParityParams
    from workbench.agreement import parity as compare
    from workbench.agreement.length_ladder import LENGTHS
    from workbench.agreement.worst_layers import as_content
    from workbench.audio import find_recordings
    from workbench.rttm import read_rttms, read_uem

    recordings = find_recordings(audio, session_id.value)
    check_outputs(files=[json, page])
    lengths = None
    if length_ladder is not None:
        lengths = tuple(sorted({*(each for each in LENGTHS if each < length_ladder), length_ladder}))
    params = ParityParams(
        near_tie=near_tie,
        align=align,
        batch_size=batch_size or 32,
        segmentation_step=segmentation_step,
        checks=checks,
        lengths=lengths,
        consequences=consequences,
        keep_posteriors=page is not None,
    )
    references = None if reference is None else read_rttms(reference)
    regions = None if uem is None else read_uem(uem)
    backend = load_backend(hub, embedding, plda, config)
    with Progress(len(recordings), "recordings", quiet) as progress:
        done = 0

        def on_recording(uri: str, row: RecordingParity | None, error: str | None) -> None:
            nonlocal done
            done += 1
            progress.start(uri)
            progress.advance(1)
            if error is not None:
                progress.always(f"FAILED {uri}: {error}", colour="red")
            elif row is not None:
                progress.say(
                    f"[{done}/{len(recordings)}] {uri}: {row.num_flips} of {row.num_frames} frames flip"
                    if row.embeddings is None
                    else f"[{done}/{len(recordings)}] {uri}: {row.num_frames} embeddings"
                )

        sides: list[str | Runtime] = [baseline, candidate]
        if strict:
            from workbench.agreement.strict import load_strict

            sides = [load_strict(side) for side in sides if isinstance(side, str)]
        result = compare(
            sides[0],
            sides[1],
            recordings,
            params=params,
            references=references,
            uem=regions,
            collar=collar,
            skip_overlap=skip_overlap,
            backend=backend,
            on_recording=on_recording,
        )
    over = result.exceeded(max_flip_rate, max_diff)
    ladder, why = layer_by_layer(sides, result, recordings, params, everything=layers)
    walk = walk_recorded(baseline, candidate, list(recordings))
    if str(json) != "-":
        typer.echo("\n".join(describe(result)))
        if walk is not None:
            typer.echo("\n".join(["", "steps:", *describe_steps(walk)]))
        if ladder is not None:
            words = [str(finding) for finding in ladder.findings] or ["no stage is over the tolerance"]
            typer.echo("\n".join(["", "layer by layer:", *(f"  {each}" for each in words)]))
        elif why:
            typer.echo(f"\nlayer by layer: {why}")
    for line in over:
        typer.secho(f"LIMIT: {line}", err=True, fg="red")
    limits = {"max_flip_rate": max_flip_rate, "max_diff": max_diff, "exceeded": over}
    content = result.to_json() | {"limits": limits}
    if walk is not None:
        content["steps"] = walk.to_json()
    if ladder is not None:
        as_content(ladder, content)
    elif why:
        content["layers_missing"] = why
    if page is not None:
        write_page(page, result, recordings, ladder)
    if strict and not any(side.startswith("recorded:") for side in (baseline, candidate)):
        report = remainder(baseline, candidate, next(iter(recordings.values())))
        content["strict"] = report.to_dict()
        if str(json) != "-":
            typer.echo("\nunder strict conditions:")
            for row in report.rows:
                said = "exact" if row.exact else f"differs by up to {row.max_abs_diff:.3g}: {row.why}"
                typer.echo(f"  {row.name}: {said}")
    print_json(json, content)
    finish([{"uri": uri, "error": error} for uri, error in result.failed], len(recordings))
    if over:
        raise typer.Exit(1)


def layer_by_layer(
    sides: list[str | Runtime],
    result: ParityResult,
    recordings: Mapping[str, Path],
    params: ParityParams,
    *,
    everything: bool,
) -> tuple[LadderResult | None, str]:
    """Both sides stage by stage, or why that cannot be.

    All recordings that could be compared are looked at where `everything` is asked for; otherwise the worst
    chunks of the worst one, and nothing where none differs.
    """
    from workbench.agreement.layers import layer_ladder
    from workbench.agreement.worst_layers import (
        differing_recording,
        how_to_see,
        ladder_of_worst,
        only_outputs,
    )
    from workbench.errors import InputError, RecordingError
    from workbench.runtimes import load_runtime

    row = None if everything else differing_recording(result)
    if not everything and row is None:
        return None, ""
    kind: Kind = "embedding" if result.kind == "embedding" else "segmentation"
    one, other = (load_runtime(side, kind) if isinstance(side, str) else side for side in sides)
    if row is None:
        return layer_ladder(one, other, {row.uri: recordings[row.uri] for row in result.compared}), ""
    if only_outputs(row) and any(str(side).startswith("recorded:") for side in sides):
        return None, how_to_see(str(one), str(other))
    try:
        return ladder_of_worst(one, other, row, recordings[row.uri], params.segmentation_step), ""
    except (InputError, RecordingError) as error:
        return None, str(error)


def write_page(
    path: Path, result: ParityResult, recordings: Mapping[str, Path], ladder: LadderResult | None
) -> None:
    """The comparison as a page of its own."""
    from workbench.errors import InputError
    from workbench.explorers.parity import parity_page
    from workbench.files import atomic_write

    if result.kind == "embedding" or not result.compared:
        raise InputError(f"{path}: --html shows segmentation models that could be compared; {result.verdict}")
    with atomic_write(path) as temporary:
        temporary.write_text(parity_page(result, recordings, ladder), encoding="utf-8")


def remainder(baseline: str, candidate: str, recording: Path) -> StrictReport:
    """What strict conditions leave, on eight seconds of a recording cut into two."""
    from workbench.agreement.strict import strict_report
    from workbench.audio import read_audio

    waveform = read_audio(recording)
    size = min(len(waveform) // 2, 4 * 16000)
    middle = len(waveform) // 2
    return strict_report(baseline, candidate, waveform[middle - size : middle + size].reshape(2, size))


def walk_recorded(baseline: str, candidate: str, uris: list[str]) -> StepsWalk | None:
    """The steps of two recorded folders, where both hold more of the pipeline than scores."""
    from workbench.runtimes.spec import parse_spec
    from workbench.steps import open_steps, walk_steps

    specs = [parse_spec(side) for side in (baseline, candidate)]
    if any(spec.engine != "recorded" for spec in specs):
        return None
    sides = [replace(open_steps(spec.path, may_be_empty=True), name=str(spec)) for spec in specs]
    common = [uri for uri in uris if all(uri in side.recordings for side in sides)]
    shared = {step for uri in common for step in sides[0].names(uri).keys() & sides[1].names(uri).keys()}
    return walk_steps(sides, uris=common) if shared - {"log_probs", "embedding_fbank"} else None


def load_backend(
    hub: Path | None, embedding: str | None, plda: Path | None, config: Path | None
) -> Backend | None:
    """What follows the segmentation, from the options; None where local speakers are to be linked."""
    if hub is None and embedding is None:
        return None
    from workbench.agreement import Backend
    from workbench.clustering import PLDA
    from workbench.pipeline import hub_specs
    from workbench.runtimes import load_runtime

    specs: dict[str, str] = {} if hub is None else hub_specs(hub, elsewhere={"segmentation"})
    if embedding is not None:
        specs["embedding"] = embedding
    folder = plda if plda is not None else specs.get("plda")
    params = o.pipeline_params(hub, config, None, None)
    loaded = None if folder is None else PLDA.load(folder)
    o.check_plda(params, loaded)
    return Backend(params=params, embedding=load_runtime(specs["embedding"], "embedding"), plda=loaded)


def describe(result: ParityResult) -> list[str]:
    """The verdict, what was found, the worst recordings and the commonest flips, in words."""
    from workbench.agreement.flips import class_name
    from workbench.agreement.results import percent

    lines = [f"baseline   {result.baseline}", f"candidate  {result.candidate}", "", result.verdict]
    if result.backend:
        lines.append(f"outputs: {result.backend}")
    marks = {"fault": "✗", "warning": "!", "note": "·"}
    lines += [f"{marks[finding.severity]} {finding}" for finding in result.all_findings]
    lines.append(f"input: {result.adequacy.exercised}")
    lines += [f"  {remark}" for remark in result.adequacy.remarks]
    checked = [
        f"{side}: "
        + ", ".join(f"{c.name} {'exact' if c.exact else 'ok' if c.passed else 'FAILED'}" for c in each.checks)
        for side, each in result.repeatability.items()
        if each.checks
    ]
    lines += [f"asked twice: {'; '.join(checked)}"] if checked else []
    for side, table in result.conditions.items():
        observed = ", ".join(
            f"{row.name} {row.observed}"
            for row in table.rows
            if row.status not in ("not applicable", "not observed")
        )
        lines.append(f"{side} observed: {observed}")
    if result.ladder is not None and result.ladder.largest_safe is not None:
        lines.append(
            f"lengths: fine up to {result.ladder.largest_safe:g} s"
            + (f" ({result.ladder.stopped})" if result.ladder.stopped else "")
        )
    first = result.to_json()["overall"]["first_divergence"]
    if first is not None:
        lines.append(
            f"first stage over tolerance: {first['stage']} (differs by up to {first['max_abs_diff']:.3g})"
        )
    timing = [
        f"{name} {rtf:.4f}"
        for name in ("baseline", "candidate")
        if (rtf := result.to_json()["overall"][f"rtf_{name}"]) is not None
    ]
    lines += [f"real-time factor: {', '.join(timing)}"] if timing else []
    if result.kind == "embedding" or not result.num_flips:
        return lines
    lines += ["", result.damage.words, ""]
    lines.append(f"{'recording':<30} {'frames':>9} {'flips':>7} {'rate':>9} {'real':>6} {'max diff':>9}")
    for row in result.damage.table.head(SHOWN).to_dict("records"):
        lines.append(
            f"{row['uri']:<30} {row['frames']:>9} {row['flips']:>7} {percent(row['flip_rate']):>9} "
            f"{row['real']:>6} {row['max_abs_diff']:>9.3g}"
        )
    lines += ["", f"{'baseline → candidate':<30} {'flips':>7} {'real':>6}"]
    common = result.tables["transition"].sort_values("flips", ascending=False).head(SHOWN)
    for row in common.to_dict("records"):
        names = (class_name(result.classes[row[side]]) for side in ("baseline", "candidate"))
        lines.append(f"{' → '.join(names):<30} {row['flips']:>7} {row['real']:>6}")
    return lines
