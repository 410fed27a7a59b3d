"""`workbench record`: what a runtime puts out, as a recorded folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, print_json, work_through
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.steps.pipeline import StepRecorder

EXAMPLES = (
    "workbench record torch:models/demo data/demo --out recorded/torch",
    "workbench record onnx:segmentation.onnx meeting.wav --stages all --out recorded/onnx",
    "workbench record torch:wespeaker meeting.wav --segmentation torch:exp --out recorded/embeddings",
    "workbench record torch:models/demo data/demo --stages steps --out recorded/steps",
)


def record(
    runtime: Annotated[
        str,
        typer.Argument(
            metavar="RUNTIME",
            show_default=False,
            help="Model to run: torch:PATH\\[@CHECKPOINT] or onnx:FILE.onnx.",
        ),
    ],
    audio: o.Audio,
    *,
    stages: Annotated[
        str | None,
        typer.Option(
            "--stages",
            metavar="NAME,...",
            help="Stages to record: log_probs (the default), names such as fbank, the [bold]steps[/bold] of "
            "the pipeline from samples to segments, or [bold]all[/bold]: these and the network's layers.",
        ),
    ] = None,
    segmentation: Annotated[
        str | None,
        typer.Option(
            "--segmentation",
            metavar="RUNTIME",
            help="Embedding models: what says who speaks where; without it whole chunks are embedded.",
            rich_help_panel=o.MODELS,
        ),
    ] = None,
    embedding: o.Embedding = None,
    plda: o.Plda = None,
    config: o.Config = None,
    segmentation_step: o.SegmentationStep = None,
    batch_size: o.BatchSize = None,
    out: o.Out,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Record what a runtime puts out, to compare it elsewhere as recorded:DIR.

    One .npz per recording, with arrays by stage, and geometry.json, which also says which audio and model
    they came from. Run again, it goes on where it stopped. Steps are those of a whole pipeline: of a hub
    folder, or of a segmentation model with --embedding, --plda and --config.

    recorded:DIR also reads what other programs wrote, with a geometry.json beside it: <uri>.npy, <uri>_0.bin
    or .txt (msame), <uri>.json (Polygraphy), Kaldi's .scp and .ark. Besides the geometry it may say
    num_frames, dtype, shape, axes, order, byte_order, stage, dimension, num_local_speakers, output, runner,
    files (recording, output or batch) and arrays (the same per stage); errors name the line to add.
    """
    from workbench.agreement.record import Recorder, RecordParams, parse_stages
    from workbench.audio import check_uri, find_recordings, read_audio
    from workbench.runtimes import load_runtime

    recordings = find_recordings(audio, session_id.value)
    check_outputs(folders=[out], files=[json])
    names = parse_stages(stages)
    recorder: Recorder | StepRecorder | None = step_recorder(
        runtime, names, out, segmentation, embedding, plda, config, segmentation_step, batch_size
    )
    if recorder is None:
        recorder = Recorder(
            load_runtime(runtime, "embedding" if segmentation is not None else None),
            out,
            RecordParams(stages=names, segmentation_step=segmentation_step, batch_size=batch_size or 32),
            None if segmentation is None else load_runtime(segmentation, "segmentation"),
        )
    rows: dict[str, dict[str, object]] = {}
    with Progress(len(recordings), "recordings", quiet) as progress:

        def work(uri: str) -> None:
            check_uri(uri)
            waveform = read_audio(recordings[uri])
            remark = recorder.record(uri, waveform)
            rows[uri] = {
                "file": recorder.folder.path(uri),
                "duration": len(waveform) / 16000,
                "remark": remark,
            }
            progress.advance(1)
            progress.say(f"[{len(rows)}/{len(recordings)}] {uri}{f': {remark}' if remark else ''}")

        failed = work_through(recordings, work, progress, debug=debug)
    print_json(json, {"runtime": runtime, "out": out, "recordings": rows, "failed": failed})
    finish(failed, len(recordings))


def step_recorder(
    runtime: str,
    stages: tuple[str, ...],
    out: Path,
    segmentation: str | None,
    embedding: str | None,
    plda: Path | None,
    config: Path | None,
    segmentation_step: float | None,
    batch_size: int | None,
) -> StepRecorder | None:
    """What records the steps of a pipeline; None where no step was asked for, or there is no pipeline."""
    from dataclasses import replace

    from workbench.agreement.record import ALL
    from workbench.steps.names import STEPS
    from workbench.steps.pipeline import PIPELINE, StepRecorder
    from workbench.steps.sides import load_side

    later = {step.array for step in STEPS} - {"log_probs", "embeddings"}
    asked = PIPELINE in stages or bool(later & set(stages))
    if not asked and ALL not in stages:
        return None
    if segmentation is not None:  # the runtime is then the embedding model
        runtime, embedding = segmentation, runtime
    try:
        side = load_side(runtime, embedding=embedding, plda=plda, config=config)
    except InputError:
        if asked:
            raise
        return None  # a single network has no pipeline: its own stages are all there is
    changes = {"segmentation_step": segmentation_step, "batch_size": batch_size}
    given = {name: value for name, value in changes.items() if value is not None}
    return StepRecorder.open(side.runtimes, replace(side.params, **given), out, stages)  # type: ignore[arg-type]
