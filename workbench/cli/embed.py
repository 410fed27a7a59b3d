"""`workbench embed`: speaker embeddings of recordings or of their segments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, plural, print_json
from workbench.errors import InputError, RecordingError

if TYPE_CHECKING:
    from workbench.runtimes import Runtime

EXTRACTION = "Extraction"
EXAMPLES = (
    "workbench embed torch:models/demo data/demo --out embeddings.npz",
    "workbench embed onnx:embedding.onnx wav.scp --out embeddings.ark --chunk-duration 2.0",
    "workbench embed torch:models/demo data/demo --segments data/demo/demo.rttm --out segments.parquet",
)

ChunkDuration = Annotated[
    float | None,
    typer.Option(
        "--chunk-duration",
        metavar="S",
        help="Average over chunks of this length in seconds, as WeSpeaker's samples_per_chunk does (2.0 is "
        "its 32000); by default a recording is embedded in one piece.",
        rich_help_panel=EXTRACTION,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", help="Inputs of equal length that run together.", rich_help_panel=EXTRACTION
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Batches that run at once. By default one per CPU, each with one thread, unless the RUNTIME "
        "says threads= or a device.",
        rich_help_panel=EXTRACTION,
    ),
]
Mean = Annotated[
    Path | None,
    typer.Option(
        "--mean",
        metavar="FILE.npy",
        help="Subtract this vector from every embedding (WeSpeaker's mean_vec).",
        rich_help_panel=EXTRACTION,
    ),
]


def embed(
    runtime: Annotated[
        str,
        typer.Argument(
            metavar="RUNTIME",
            show_default=False,
            help="Embedding model: torch:PATH\\[@CHECKPOINT] or onnx:FILE.",
        ),
    ],
    audio: o.Audio,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The ending says what: .npz; .ark or .scp (Kaldi, both are written); .txt (Kaldi text); "
            ".parquet.",
            rich_help_panel=o.OUTPUT,
        ),
    ],
    segments: Annotated[
        Path | None,
        typer.Option(
            "--segments",
            metavar="RTTM",
            help="One embedding per turn of this file, or of the files in this folder, instead of one per "
            "recording.",
            rich_help_panel=EXTRACTION,
        ),
    ] = None,
    min_duration: Annotated[
        float,
        typer.Option(
            "--min-duration",
            metavar="S",
            help="With --segments: leave out turns that are shorter.",
            rich_help_panel=EXTRACTION,
        ),
    ] = 0.0,
    chunk_duration: ChunkDuration = None,
    mean: Mean = None,
    batch_size: BatchSize = 32,
    workers: Workers = None,
    text: Annotated[
        bool, typer.Option("--text", help="Write the Kaldi archive as text.", rich_help_panel=o.OUTPUT)
    ] = False,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Embed recordings, or the turns of an RTTM, as vectors that stand for voices.

    The file keeps the order and the names of what was given. A run that was interrupted, or in which
    recordings failed, goes on where it stopped when it is called again.
    """
    from time import perf_counter

    from workbench.audio import find_recordings
    from workbench.embedding_files import KALDI_SUFFIXES, embedding_suffix, save_embeddings
    from workbench.extraction import (
        ExtractionParams,
        extract,
        gather,
        load_mean,
        segment_items,
        whole_recordings,
    )
    from workbench.extraction_store import PartialResults
    from workbench.kaldi_ark import is_key
    from workbench.rttm import read_rttms

    for option, seconds in (("--chunk-duration", chunk_duration), ("--min-duration", min_duration)):
        if seconds is not None and not math.isfinite(seconds):
            raise InputError(f"{option} must be a number of seconds, got {seconds}")
    suffix = embedding_suffix(out)
    check_outputs(files=[out, json])
    recordings = find_recordings(audio, session_id.value)
    failed: list[dict[str, str]] = []
    if segments is None:
        items = whole_recordings(recordings)
    else:
        turns = read_rttms(segments)
        failed += [
            {"uri": uri, "error": f"{segments} has turns of it, but no such recording was given"}
            for uri in turns
            if uri not in recordings
        ]
        items = segment_items(recordings, turns, min_duration)
        if not items:
            raise InputError.at(segments, "has no turns of the recordings given; are they named alike?")
    num_items = len(items)
    if suffix in KALDI_SUFFIXES:
        problem = f"its name holds a blank, which ends a name in a {suffix} file; rename it, or write .npz"
        failed += [{"uri": item.name, "error": problem} for item in items if not is_key(item.name)]
        items = [item for item in items if is_key(item.name)]
    centre = None if mean is None else load_mean(mean)
    params = ExtractionParams(chunk_duration=chunk_duration, batch_size=batch_size)
    model, workers = load_embedder(runtime, workers)
    store = PartialResults(out, {"runtime": runtime, "chunk_duration": chunk_duration})
    found = store.load(items)
    resumed = len(found)
    began = perf_counter()
    with Progress(len(items), "embeddings", quiet) as progress:
        progress.advance(resumed)
        if resumed:
            progress.say(f"{resumed} of {plural(len(items), 'embedding')} were made by an earlier call")
        for failure in failed:
            progress.always(f"FAILED {failure['uri']}: {failure['error']}", colour="red")
        todo = [index for index in range(len(items)) if index not in found]
        said = began
        with store:
            outcomes = extract([items[index] for index in todo], model, params, workers=workers)
            for number, (place, outcome) in enumerate(outcomes, start=1):
                index = todo[place]
                progress.advance(1)
                if isinstance(outcome, RecordingError):
                    failed.append({"uri": items[index].name, "error": str(outcome)})
                    progress.always(f"FAILED {items[index].name}: {outcome}", colour="red")
                    continue
                found[index] = outcome
                store.add(items[index], outcome)
                if perf_counter() - said > 5 or number == len(todo):
                    said = perf_counter()
                    progress.say(f"[{resumed + number}/{len(items)}] {items[index].name}")
        seconds = perf_counter() - began
        written: list[Path] = []
        embeddings = gather(items, found, centre)
        if len(embeddings):
            written = save_embeddings(out, embeddings, text=text)
            progress.say(
                f"{', '.join(map(str, written))}: {plural(len(embeddings), 'embedding')} of "
                f"{embeddings.dimension} values"
            )
    if not failed:
        store.remove()
    order = {item.name: place for place, item in enumerate(items)}
    failed.sort(key=lambda failure: order.get(failure["uri"], -1))
    report: dict[str, Any] = {
        "runtime": runtime,
        "out": written,
        "embeddings": len(embeddings),
        "dimension": embeddings.dimension,
        "resumed": resumed,
        "seconds": seconds,
        "embeddings_per_second": (len(embeddings) - resumed) / seconds,
        "params": {
            "segments": segments,
            "min_duration": min_duration,
            "chunk_duration": chunk_duration,
            "mean": mean,
            "batch_size": batch_size,
            "workers": workers,
        },
        "failed": failed,
    }
    print_json(json, report)
    finish(failed, num_items)


def load_embedder(runtime: str, workers: int | None) -> tuple[Runtime, int]:
    """The model, and how many batches it may run at once."""
    import os

    from workbench.runtimes import load_runtime, parse_spec

    spec = parse_spec(runtime)
    free = {"threads", "device", "providers"}.isdisjoint(spec.options) and spec.engine in ("torch", "onnx")
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if free and hasattr(os, "sched_getaffinity") else 1
        if workers > 1:  # a thread per batch: together they do more than several threads in one batch
            runtime = o.with_option(runtime, "threads", "1")
    model = load_runtime(runtime, kind="embedding")
    return model, workers
