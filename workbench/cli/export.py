"""`workbench export`: a torch model to an ONNX file that agrees with it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.options import with_option
from workbench.cli.output import Progress, check_outputs, print_json
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.serving import TritonSettings

TRITON = "Triton"
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


class TritonKind(StrEnum):
    """What a server's copy of the model runs on."""

    auto = "auto"
    gpu = "gpu"
    cpu = "cpu"


EXAMPLES = (
    "workbench export torch:models/demo --output powerset --out models/demo/onnx/segmentation.onnx",
    "workbench export torch:models/demo --output embedding --out models/demo/onnx/embedding.onnx",
    "workbench export torch:exp@avg:5 --out segmentation.onnx --audio meeting.wav --json -",
    "workbench export torch:exp@avg:5 --out segmentation.int8.onnx --precision int8",
    "workbench export torch:models/demo --output embedding --triton repository",
)


def export(
    runtime: Annotated[
        str,
        typer.Argument(
            metavar="RUNTIME",
            show_default=False,
            help="The model: torch:PATH\\[@CHECKPOINT]; with --triton also onnx:FILE, as it is.",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.onnx",
            help="The file to write; not needed with --triton.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            metavar="DIR",
            help="Put the model into this Triton model repository: config.pbtxt, the version's folder, and "
            "the commands for TensorRT and Ascend in engines.md.",
            rich_help_panel=TRITON,
        ),
    ] = None,
    triton_name: Annotated[
        str | None,
        typer.Option(
            "--triton-name",
            help="Name of the model in the repository; by default segmentation or embedding.",
            rich_help_panel=TRITON,
        ),
    ] = None,
    triton_batch: Annotated[
        int,
        typer.Option("--triton-batch", help="Requests that run together at most.", rich_help_panel=TRITON),
    ] = 64,
    triton_kind: Annotated[
        TritonKind, typer.Option("--triton-kind", help="What it runs on.", rich_help_panel=TRITON)
    ] = TritonKind.auto,
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
    if out is None and triton is None:
        raise InputError("say where the model goes: --out FILE.onnx, or --triton DIR")
    if out is not None and out.suffix.lower() != ".onnx":
        raise InputError.at(out, "--out must name a file that ends in .onnx")
    check_outputs(folders=[triton], files=[out, json])
    if triton is not None:
        from workbench.serving import TritonSettings

        settings = TritonSettings(max_batch_size=triton_batch, kind=triton_kind.value)
        if runtime.startswith("onnx:") and out is None:
            serve(parse_onnx(runtime), triton, triton_name, settings, runtime, json, quiet)
            return
    from workbench.audio import audio_duration, crop_audio, find_recordings
    from workbench.export import DEFAULT_OPSET, export_onnx

    folder = ExitStack()
    if out is None:
        out = Path(folder.enter_context(tempfile.TemporaryDirectory())) / "model.onnx"
    recordings = find_recordings(audio) if audio else {}
    waveforms = [crop_audio(path, 0, min(SECONDS, audio_duration(path))) for path in recordings.values()]
    config_written = None
    with folder, Progress(1, "files", quiet) as progress:
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
            f"{triton or out}: {report.output} of {runtime}, opset {report.opset}, "
            f"{report.num_bytes / 1e6:.1f} MB; "
            f"agrees with its source within {agreement.max_abs_diff:.1e}{flips} "
            f"(on {'real audio' if agreement.real_audio else 'noise'}; asked for: {agreement.criterion})"
        )
        if triton is not None:
            from workbench.serving import write_triton_model

            config_written = write_triton_model(out, triton, triton_name, settings)
            progress.say(f"{config_written}: ready for tritonserver --model-repository={triton}")
    print_json(
        json,
        {
            "runtime": runtime,
            "path": out if out.is_file() else None,
            "triton": config_written,
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


def parse_onnx(runtime: str) -> Path:
    """The file of an `onnx:` string."""
    from workbench.runtimes import parse_spec

    return parse_spec(runtime).path


def serve(
    model: Path,
    repository: Path,
    name: str | None,
    settings: TritonSettings,
    runtime: str,
    json: Path | None,
    quiet: bool,
) -> None:
    """An ONNX file as it is, into a Triton repository."""
    from workbench.serving import write_triton_model

    with Progress(1, "files", quiet) as progress:
        config = write_triton_model(model, repository, name, settings)
        progress.say(f"{config}: ready for tritonserver --model-repository={repository}")
    print_json(json, {"runtime": runtime, "triton": config, "failed": []})
