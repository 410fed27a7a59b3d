"""`workbench export`: a torch model to an ONNX file that agrees with it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import options as o
from workbench.cli.options import with_option
from workbench.cli.output import Progress, check_outputs, print_json
from workbench.errors import InputError

SECONDS = 60.0  # of every recording that the file is checked on: enough for several chunks


class Output(StrEnum):
    """What the exported graph returns."""

    powerset = "powerset"
    multilabel = "multilabel"
    embedding = "embedding"


class Precision(StrEnum):
    """How numbers are stored in the file."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


EXAMPLES = (
    "workbench export torch:models/demo --output powerset --out models/demo/onnx/segmentation.onnx",
    "workbench export torch:models/demo --output embedding --out models/demo/onnx/embedding.onnx",
    "workbench export torch:exp@avg:5 --out segmentation.onnx --audio meeting.wav --json -",
    "workbench export torch:exp@avg:5 --out segmentation.int8.onnx --precision int8",
)


def export(
    runtime: Annotated[
        str,
        typer.Argument(metavar="RUNTIME", show_default=False, help="The model: torch:PATH\\[@CHECKPOINT]."),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE.onnx", help="The file to write.", rich_help_panel=o.OUTPUT),
    ],
    output: Annotated[
        Output | None,
        typer.Option(
            "--output",
            help="What the graph returns: log-probabilities of powerset classes, hard decisions per local "
            "speaker, or speaker embeddings. By default the first or the last, by what the model is.",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option("--opset", metavar="N", help="Version of the operator set.", show_default="18"),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="How numbers are stored: fp32; fp16 (half the size, inputs and outputs stay fp32); int8 "
            "(weights of matrix products in 8 bits). Files of one model, such as m.onnx, m.fp16.onnx and "
            "m.int8.onnx in one folder, are shown as a family by `workbench inspect`.",
        ),
    ] = Precision.fp32,
    with_fbank: Annotated[
        bool,
        typer.Option(
            "--with-fbank",
            help="Embedding models: make the features inside the graph, whose input is then the waveform.",
        ),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="TOML",
            help="Which training TOML of an experiment directory counts, by name; the newest by default.",
        ),
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            "--audio",
            metavar="PATH",
            help="Recordings to check the file on (the first minute of each); may be given again. "
            "Without any, noise that is modulated like speech.",
        ),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Export a model to ONNX, and check the file against its source.

    The file appears only if it agrees: the same shapes and values for several batch sizes and lengths. Files
    of lower precision are judged by what they decide: fp16 may change 2 % of the frames, int8 20 %. Sample
    rate, geometry, powerset, the digest of the source and what was found are written into it.
    """
    if out.suffix.lower() != ".onnx":
        raise InputError.at(out, "--out must name a file that ends in .onnx")
    check_outputs(files=[out, json])
    from workbench.audio import audio_duration, crop_audio, find_recordings
    from workbench.export import DEFAULT_OPSET, export_onnx

    recordings = find_recordings(audio) if audio else {}
    waveforms = [crop_audio(path, 0, min(SECONDS, audio_duration(path))) for path in recordings.values()]
    with Progress(1, "files", quiet) as progress:
        progress.start(out.name)
        report = export_onnx(
            runtime if config is None else with_option(runtime, "config", config),
            out,
            output=None if output is None else output.value,
            opset=DEFAULT_OPSET if opset is None else opset,
            precision=precision.value,
            with_fbank=with_fbank,
            waveforms=waveforms,
        )
        progress.advance(1)
        agreement = report.agreement
        flips = (
            f", {agreement.flips} of {agreement.frames} frames decided otherwise" if agreement.frames else ""
        )
        progress.say(
            f"{out}: {report.output} of {runtime}, opset {report.opset}, {report.num_bytes / 1e6:.1f} MB; "
            f"agrees with its source within {agreement.max_abs_diff:.1e}{flips} "
            f"(on {'real audio' if agreement.real_audio else 'noise'}; asked for: {agreement.criterion})"
        )
    print_json(
        json,
        {
            "runtime": runtime,
            "path": out,
            "kind": report.kind,
            "output": report.output,
            "opset": report.opset,
            "precision": precision.value,
            "bytes": report.num_bytes,
            "max_abs_diff": agreement.max_abs_diff,
            "frames": agreement.frames,
            "flips": agreement.flips,
            "flip_rate": agreement.flip_rate,
            "shift": agreement.shift,
            "min_cosine": agreement.min_cosine,
            "criterion": agreement.criterion,
            "checked_on_real_audio": agreement.real_audio,
            "failed": [],
        },
    )
