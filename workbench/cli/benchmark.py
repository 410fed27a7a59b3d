"""`workbench benchmark`: how fast runtimes are, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, print_json, work_through
from workbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from workbench.steps.sides import PipelineSide

EXAMPLES = (
    "workbench benchmark torch:models/demo onnx:models/demo -- data/demo/demo07_single.flac",
    "workbench benchmark torch:exp onnx:exp.onnx onnx:int8.onnx --batch-sizes 1,8,32 -- meeting.wav --json -",
)
COLD_SECONDS = 3.0  # that loading a model in a process of its own usually takes


class PARSER(TyperCommand):
    """Options may also follow `--`, which only parts runtimes from audio."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments without the mark; runtimes are told from files by how they begin."""
        return super().parse_args(ctx, [arg for arg in args if arg != "--"])


def benchmark(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNTIME... -- AUDIO...",
            show_default=False,
            help="Runtimes (hub folders are timed as pipelines, too), then -- and audio files or folders.",
        ),
    ],
    *,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="N,...", help="Chunks per call that are tried.")
    ] = "1,2,4,8,16,32,64",
    repeats: Annotated[
        int, typer.Option("--repeats", min=2, help="Calls that count, per runtime and batch size.")
    ] = 10,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="S",
            min=0.01,
            help="Time per runtime and batch size, the warm-up included; pipelines have that of all batch "
            "sizes. What is cut for it is said. Give 10 or more for figures that are kept.",
        ),
    ] = 1.0,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Calls before that, which do not.")] = 2,
    cold: Annotated[
        bool,
        typer.Option("--cold-start/--no-cold-start", help="Also load each model in a process of its own."),
    ] = True,
    pipelines: Annotated[
        bool, typer.Option("--pipeline/--no-pipeline", help="Also time the stages of whole pipelines.")
    ] = True,
    hub: o.Hub = None,
    embedding: o.Embedding = None,
    plda: o.Plda = None,
    config: o.Config = None,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Time runtimes side by side, in alternation: latency, throughput, real-time factor, cold start, memory.

    Percentiles are of single calls after a warm-up, and all times are in the JSON. Speed ratios are to the
    first runtime. The load of the machine is recorded, with a warning where it is not idle.
    """
    from workbench.audio import find_recordings, read_audio
    from workbench.timing import (
        TimingParams,
        as_items,
        cold_start,
        describe_load,
        find_cuts,
        load_warning,
        summarize_batches,
        summarize_stages,
        time_batches,
        time_pipeline,
    )

    specs, audio = as_items(items)
    params = TimingParams(
        batch_sizes=parse_sizes(batch_sizes), repeats=repeats, warm_up=warm_up, seconds=seconds
    )
    recordings = find_recordings(audio, session_id.value)
    check_outputs(files=[json])
    shared = {"hub": hub, "embedding": embedding, "plda": plda, "config": config}
    runtimes, sides, loaded_as = load_contestants(specs, shared)
    before = describe_load()
    if (warning := load_warning(before)) is not None:
        typer.secho(f"warning: {warning}", err=True, fg="yellow")
    import pandas as pd

    waveforms: dict[str, Any] = {}
    stages: list[pd.DataFrame] = []
    cold_starts: dict[str, dict[str, Any]] = {}
    all_sizes = seconds * len(params.batch_sizes)
    timed = sides if pipelines else {}
    expected = {
        "pipelines": all_sizes * len(timed),
        "batches": all_sizes * len(runtimes),
        "cold starts": COLD_SECONDS * len(runtimes) if cold else 0.0,
    }
    with Progress(sum(expected.values()), "s", quiet) as progress:
        progress.say(f"takes about {sum(expected.values()):.0f} s, more where single calls are slow")

        def work(uri: str) -> None:
            waveforms[uri] = read_audio(recordings[uri])
            if timed:
                share = all_sizes / len(recordings)
                stages.append(time_pipeline(timed, waveforms[uri], uri, seconds=share))
            progress.advance(expected["pipelines"] / len(recordings))
            progress.say(f"[{len(waveforms)}/{len(recordings)}] {uri}")

        failed = work_through(recordings, work, progress, debug=debug)
        if not waveforms:
            finish(failed, len(recordings))

        def on_size(size: int) -> None:
            progress.advance(expected["batches"] / len(params.batch_sizes))
            progress.say(f"batch size {size} of {params.batch_sizes[-1]}")

        calls = time_batches(
            runtimes,
            max(waveforms.values(), key=len),
            params,
            lambda name, size: progress.start(f"{name}, batch of {size}"),
            on_size,
        )
        if cold:
            for name, runtime in runtimes.items():
                progress.start(f"{name}, cold start")
                cold_starts[name] = cold_start(loaded_as[name], runtime)
                progress.advance(COLD_SECONDS)
    cuts = find_cuts(calls, params)
    for found in stages:
        uri, heard = found["uri"].iloc[0], float(found["audio"].iloc[0])
        if heard < (whole := len(waveforms[uri]) / 16000):
            cuts.append(f"pipelines heard the first {heard:.1f} of {whole:.1f} s of {uri}")
    table = summarize_batches(calls)
    pipeline_table = summarize_stages(pd.concat(stages) if stages else pd.DataFrame())
    after = describe_load()
    warning = load_warning(before, after)
    if str(json) != "-":
        typer.echo("\n".join(describe(table, pipeline_table, cold_starts)))
        if cuts:
            typer.echo("\n".join(["", f"cut by --seconds {seconds:g}:", *(f"  {cut}" for cut in cuts)]))
    best = table[table["best"]].drop_duplicates("runtime").set_index("runtime")["batch_size"]
    report = {
        "runtimes": specs,
        "audio": {uri: len(waveform) / 16000 for uri, waveform in waveforms.items()},
        "warm_up": warm_up,
        "seconds": seconds,
        "cut": cuts,
        "machine": {"before": before, "after": after, "warning": warning},
        "batches": table.to_dict("records"),
        "best_batch": best.to_dict(),
        "stages": pipeline_table.to_dict("records"),
        "cold_start": cold_starts,
        "calls": calls.to_dict("records"),
        "failed": failed,
    }
    print_json(json, report)
    finish(failed, len(recordings))


def parse_sizes(text: str) -> tuple[int, ...]:
    """Batch sizes out of `1,2,4`, ascending."""
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1 or sizes[-1] > 4096:
        raise InputError(
            f"--batch-sizes must list whole numbers from 1 to 4096, such as 1,8,32; got {text!r}"
        )
    return tuple(sizes)


def load_contestants(
    specs: list[str], shared: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, PipelineSide], dict[str, str]]:
    """Models by name, pipelines by name, and the runtime string of every model."""
    from workbench.runtimes import load_runtime
    from workbench.runtimes.spec import parse_spec
    from workbench.steps.sides import load_side

    runtimes: dict[str, Any] = {}
    sides: dict[str, PipelineSide] = {}
    loaded_as: dict[str, str] = {}
    for spec in specs:
        path = parse_spec(spec).path
        is_hub = path.is_dir() and (path / "config.toml").is_file() and (path / "embedding").is_dir()
        single = None if is_hub else load_runtime(spec)
        with_backend = (
            single is not None
            and single.kind == "segmentation"
            and (shared["hub"] is not None or shared["embedding"] is not None)
        )
        if is_hub or with_backend:
            side = load_side(spec, **shared)
            sides[spec] = side
            runtimes[spec] = side.runtimes.segmentation
            loaded_as[spec] = side.models["segmentation"]
            if is_hub:
                name = f"{spec} (embedding)"
                runtimes[name], loaded_as[name] = side.runtimes.embedding, side.models["embedding"]
        else:
            runtimes[spec], loaded_as[spec] = single, spec
    return runtimes, sides, loaded_as


def describe(table: pd.DataFrame, stages: pd.DataFrame, cold_starts: dict[str, dict[str, Any]]) -> list[str]:
    """Tables of batches, stages and cold starts."""
    lines = []
    for kind, group in table.groupby("kind", sort=False):
        lines += [
            f"{kind}: ms per call",
            f"{'runtime':<44} {'batch':>5} {'p50':>9} {'p90':>9} {'p99':>9} {'rtf':>8} {'chunks/s':>9} "
            f"{'ratio':>6}",
        ]
        for row in group.to_dict("records"):
            ratio = f"{row['ratio']:.2f}" if row["ratio"] == row["ratio"] else "–"
            times = " ".join(f"{1000 * row[name]:>9.2f}" for name in ("p50", "p90", "p99"))
            lines.append(
                f"{_short(row['runtime']):<44} {row['batch_size']:>5} {times} {row['rtf']:>8.5f} "
                f"{row['throughput']:>9.1f} {ratio:>6}{'  best' if row['best'] else ''}"
            )
        lines.append("")
    if len(stages):
        lines.append(f"{'pipeline':<44} {'stage':<15} {'seconds':>9} {'rtf':>8} {'share':>7} {'ratio':>6}")
        for row in stages.to_dict("records"):
            lines.append(
                f"{_short(row['runtime']):<44} {row['stage']:<15} {row['seconds']:>9.3f} {row['rtf']:>8.5f} "
                f"{row['share']:>7.1%} {row['ratio']:>6.2f}"
            )
        lines.append("")
    for name, found in cold_starts.items():
        if "error" in found:
            lines.append(f"cold start of {name}: failed: {found['error']}")
            continue
        memory = f", {found['peak_memory'] / 2**20:.0f} MiB" if found["peak_memory"] else ""
        lines.append(
            f"cold start of {name}: {found['process']:.2f} s (imports {found['import']:.2f}, load "
            f"{found['load']:.2f}, first call {found['first_call']:.3f}{memory})"
        )
    return lines


def _short(name: str) -> str:
    return name if len(name) <= 44 else f"…{name[-43:]}"
