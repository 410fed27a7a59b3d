"""`workbench infer`: segmentation alone, where torch is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, print_json

EXAMPLES = (
    "workbench infer meeting.wav --onnx models/demo/onnx/segmentation.onnx --out segments",
    "workbench infer recordings/ --onnx segmentation.onnx --whole --min-duration 0.2 --out segments",
)


def infer(
    audio: o.Audio,
    *,
    onnx: Annotated[
        Path,
        typer.Option(
            "--onnx",
            metavar="FILE",
            help="Segmentation model as `workbench export` writes it: powerset or multilabel.",
            rich_help_panel=o.MODELS,
        ),
    ],
    providers: Annotated[
        str,
        typer.Option(
            "--providers",
            metavar="NAME,...",
            help="What ONNX Runtime runs on, in order of preference: cpu, cuda, tensorrt, openvino, ...",
            rich_help_panel=o.MODELS,
        ),
    ] = "cpu",
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Run each recording in one pass, instead of in chunks that are linked over their overlap.",
            rich_help_panel=o.SEGMENTATION,
        ),
    ] = False,
    frame_step: Annotated[
        float | None,
        typer.Option(
            "--frame-step",
            metavar="SECONDS",
            help="Between two output frames, where the model file does not say so.",
            rich_help_panel=o.SEGMENTATION,
        ),
    ] = None,
    min_duration: Annotated[
        float,
        typer.Option(
            "--min-duration",
            metavar="SECONDS",
            help="Shorter segments are dropped.",
            rich_help_panel=o.SEGMENTATION,
        ),
    ] = 0.0,
    max_files: Annotated[
        int | None,
        typer.Option("--max-files", metavar="N", help="Stop after the first N recordings."),
    ] = None,
    out: o.Out,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Segment recordings with an ONNX model, without torch: RTTM files and a summary.json.

    Speakers keep their label as long as they are heard in every overlap of two chunks. Telling apart who
    comes back after a pause takes embeddings and clustering: `workbench diarize`.
    """
    from workbench.audio import find_recordings
    from workbench.infer import InferParams, run_inference
    from workbench.runtimes.spec import OnnxOptions

    params = InferParams(whole=whole, frame_step=frame_step, min_duration=min_duration)
    options = OnnxOptions(providers=tuple(name.strip() for name in providers.split(",")))
    num_recordings = len(list(find_recordings(audio, session_id.value))[:max_files])
    check_outputs(folders=[out], files=[json])
    with Progress(num_recordings, "recordings", quiet) as progress:
        done = 0

        def on_recording(uri: str, error: str | None) -> None:
            nonlocal done
            done += 1
            progress.start(uri)
            progress.advance(1)
            if error is None:
                progress.say(f"[{done}/{num_recordings}] {uri}")
            else:
                progress.always(f"FAILED {uri}: {error}", colour="red")

        summary = run_inference(
            audio,
            onnx,
            out,
            params=params,
            options=options,
            max_files=max_files,
            session_id=session_id.value,
            on_recording=on_recording,
        )
    report = summary.to_json()
    print_json(json, report)
    finish([{"uri": uri, "error": error} for uri, error in summary.failed], num_recordings)
