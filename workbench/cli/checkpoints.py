"""`workbench checkpoints`: what a training left behind, and which of its checkpoints is best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, print_json
from workbench.cli.score import WHAT_IT_IS, read_annotations
from workbench.cli.tables import align, number
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.selection import Selection
    from workbench.training import TrainingRecord


EXAMPLES = (
    "workbench checkpoints exp/wavlm_updated_conformer",
    "workbench checkpoints exp/wavlm_updated_conformer dev/ --reference dev.rttm --checkpoint best "
    "--checkpoint avg:5",
    "workbench checkpoints models/demo/experiment data/demo --reference data/demo/demo.rttm "
    "--embedding torch:models/demo --plda models/demo/plda --json -",
)


def checkpoints(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            show_default=False,
            help="Folder that DiariZen's training wrote; torch:FOLDER?device=cuda to choose how it runs.",
        ),
    ],
    audio: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[AUDIO...]",
            show_default=False,
            help="Development set: audio files, folders or a Kaldi wav.scp. Without it nothing is run.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", metavar="RTTM", help=f"The truth: {WHAT_IT_IS}.", rich_help_panel=o.SCORING
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="NAME",
            help="Score this one: best, epoch_0010 or avg:5; may be repeated. By default all on disk.",
            rich_help_panel=o.SCORING,
        ),
    ] = None,
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="RUNTIME",
            help="Speaker embedding model: every checkpoint then runs in the whole pipeline. Without it the "
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
    """Show how a training went and, given audio, score its checkpoints.

    Prints loss, DER and learning rate of every epoch from the metric summary, the logs and the TensorBoard
    files. With AUDIO and --reference, `best`, every epoch on disk and every avg:N whose members are there are
    scored on it in one run.
    """
    from workbench.training import read_training

    if audio and reference is None:
        raise typer.BadParameter("AUDIO is scored against a reference; name it with --reference")
    if not audio and (reference or checkpoint or embedding):
        raise typer.BadParameter(
            "--reference, --checkpoint and --embedding are for scoring; name AUDIO as well"
        )
    check_outputs(files=[json])
    record = read_training(folder_of(experiment))
    silent = quiet or str(json) == "-"
    if not silent:
        typer.echo(format_training(record))
    if not quiet:
        for remark in record.remarks:
            typer.secho(f"{record.path}: {remark}", err=True, fg="yellow")
    selection = None
    if audio and reference is not None:
        params = o.pipeline_params(None, config, preset, clustering)

        def score(*given: Any, **options: Any) -> Selection:
            from workbench.selection import score_checkpoints

            return score_checkpoints(experiment, *given, checkpoints=checkpoint, **options)

        selection = run_selection(
            score, audio, reference, uem, collar, embedding, plda, params, session_id, quiet
        )
        if not silent:
            typer.echo("\n" + format_selection(selection))
    problems = [] if selection is None else failures(selection)
    for problem in problems:
        typer.secho(f"FAILED {problem['uri']}: {problem['error']}", err=True, fg="red")
    report: dict[str, Any] = {"training": training_to_dict(record)}
    if selection is not None:
        report |= selection.to_dict() | {"failed": problems}
    print_json(json, report)
    if problems:
        raise typer.Exit(1)


def folder_of(experiment: str) -> Path:
    """The path in a path or in a runtime string."""
    from workbench.runtimes import parse_spec

    return parse_spec(experiment).path if experiment.startswith("torch:") else Path(experiment)


def run_selection(
    score: Callable[..., Selection],
    audio: list[Path],
    reference: Path,
    uem: Path | None,
    collar: float,
    embedding: str | None,
    plda: Path | None,
    params: Any,
    session_id: o.SessionIds,
    quiet: bool,
) -> Selection:
    """Call `score(recordings, references, ...)`, of `workbench.selection`, with a bar."""
    from workbench.audio import find_recordings
    from workbench.clustering import PLDA
    from workbench.rttm import read_uem

    loaded = None if plda is None else PLDA.load(plda)
    if embedding is not None:
        o.check_plda(params, loaded)
    elif plda is not None:
        raise InputError("--plda is for clustering, which needs --embedding as well")
    recordings = find_recordings(audio, session_id.value)
    references = read_annotations(reference)
    regions = None if uem is None else read_uem(uem)
    last, said = 0, ""
    with Progress(100, "%", quiet) as progress:

        def report(what: str, done: int, total: int) -> None:
            nonlocal last, said
            progress.start(what)
            progress.advance((done - last) * 100 / max(total, 1))
            last = done
            name = what.partition(" ")[0]
            if name and name != said:
                progress.say(f"[{done}/{total}] {name}")
                said = name

        return score(
            recordings,
            references,
            embedding=embedding,
            plda=loaded,
            params=params,
            uem=regions,
            collar=collar,
            progress=report,
        )


def format_training(record: TrainingRecord) -> str:
    """The epochs as aligned text."""
    table = record.epochs()
    columns = {
        "train loss": ("training_loss", "{:.3f}"),
        "val loss": ("loss", "{:.3f}"),
        "val DER": ("der", "{:.2%}"),
        "learning rate": ("learning_rate", "{:.2e}"),
        "gradient norm": ("gradient_norm", "{:.3g}"),
    }
    shown = {title: entry for title, entry in columns.items() if table[entry[0]].notna().any()}
    largest = record.largest_average
    rows = []
    for row in table.to_dict("records"):
        marks = [] if row["kept"] else ["weights not kept"]
        marks = ["best", *marks] if row["best"] else marks
        rank = row["average_rank"]
        in_averages = ""
        if isinstance(rank, int) and 1 < max(rank, 2) <= largest:
            in_averages = f"avg:{max(rank, 2)}" + (" on" if max(rank, 2) < largest else "")
        cells = ["-" if row[name] != row[name] else form.format(row[name]) for name, form in shown.values()]
        rows.append([str(row["epoch"]), ", ".join(marks), in_averages, *cells])
    lines = [f"{record.path}: {describe(record)}", ""]
    lines.append(align(["epoch", "", "in averages", *shown], rows, num_left=3))
    return "\n".join(lines)


def describe(record: TrainingRecord) -> str:
    """Model and training in a few words, from the TOML."""
    said = []
    model = lookup(record.config, "model", "path")
    if isinstance(model, str):
        said.append(model.removesuffix(".Model").rpartition(".")[2].removeprefix("model_"))
    for name, *path in (
        ("", "model", "args", "wavlm_src"),
        ("lr", "optimizer", "args", "lr"),
        ("lr small", "optimizer_small", "args", "lr"),
        ("lr big", "optimizer_big", "args", "lr"),
        ("batch", "train_dataset", "dataloader", "batch_size"),
        ("epochs at most", "trainer", "args", "max_epochs"),
    ):
        value = lookup(record.config, *path)
        if value is not None and not isinstance(value, dict | list):
            said.append(f"{name} {value}".strip())
    return ", ".join(said) or "no training TOML"


def lookup(table: Any, *names: str) -> Any:
    """An entry of nested tables, None where any of them is missing."""
    for name in names:
        table = table.get(name) if isinstance(table, dict) else None
    return table


def training_to_dict(record: TrainingRecord) -> dict[str, Any]:
    """The training as the JSON report has it."""
    epochs = record.epochs().astype(object)
    return {
        "experiment": record.path,
        "config": record.config_path,
        "epochs": epochs.where(epochs.notna(), None).to_dict("records"),
        "best_epoch": record.best_epoch,
        "checkpoints": list(record.checkpoints()),
        "remarks": list(record.remarks),
    }


def format_selection(selection: Selection, what: str = "checkpoint") -> str:
    """What was scored as aligned text, rates in percent; with what it costs, where that was measured."""
    from workbench.selection import MEASURES

    costs = {
        "parameters (M)": ("parameters", 2, 1e-6),
        "GMAC/s": ("macs_per_second", 2, 1e-9),
        "RTF": ("rtf", 4, 1),
    }
    shown = {title: cost for title, cost in costs.items() if cost[0] in selection.table}
    rows = []
    for row in selection.table.to_dict("records"):
        total = row["total"] or float("nan")
        shares = [number(row[name] / total, 2, 100) for name in ("missed", "false_alarm", "confusion")]
        note = "lowest DER" if row["candidate"] == selection.best else ""
        if isinstance(row["same_as"], str):
            note = f"same weights as {row['same_as']}"
        if isinstance(row["problem"], str):
            note = "failed"
        measured = [number(row[name], decimals, scale) for name, decimals, scale in shown.values()]
        rows.append([row["candidate"], note, number(row["der"], 2, 100), *shares, *measured])
    heading = [what, "", "DER", "missed", "false alarm", "confusion", *shown]
    speech = selection.table["total"].max()
    convention = f"{MEASURES[selection.measure]}; {selection.convention}."
    return f"{align(heading, rows, num_left=2)}\n\nRates in % of {speech:.1f} s of speech. {convention}"


def failures(selection: Selection) -> list[dict[str, str]]:
    """Recordings, and checkpoints or models, without a score."""
    rows = selection.table.dropna(subset=["problem"])
    broken = [(row["candidate"], row["problem"]) for row in rows.to_dict("records")]
    return [{"uri": str(uri), "error": str(error)} for uri, error in [*selection.failed, *broken]]
