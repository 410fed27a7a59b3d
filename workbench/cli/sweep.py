"""`workbench sweep`: every combination of clustering parameters on every recording."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.cluster import find_features
from workbench.cli.output import Progress, check_outputs, finish, print_json
from workbench.cli.score import TRUST, WHAT_IT_IS, read_annotations
from workbench.cli.stopping import is_full, orderly_stop, shield_tracker
from workbench.cli.sweep_inputs import base_settings, check_plda, match, open_features
from workbench.cli.sweep_words import Counter, format_result, warnings_about
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.sweeps.pools import Pool

SEARCH, MACHINES = "Search", "Where it runs"
SMALL = 200  # rows that are computed before worker processes would have started


class Sampler(StrEnum):
    """What `--search` takes; the same words as `tuning.search.SAMPLERS`."""

    grid = "grid"
    tpe = "tpe"
    random = "random"
    cmaes = "cmaes"
    nsga2 = "nsga2"


EXAMPLES = (
    "workbench sweep features --reference dev.rttm --out sweep --plda models/demo/plda "
    "--grid Fa=0.03:0.3:10 --grid Fb=0.2,0.8,4,17 --grid ahc_threshold=0.4:0.9:11",
    "workbench sweep features --reference dev.rttm --out sweep --clustering ahc "
    "--grid ahc_threshold=0.3:1.2:91 --grid min_cluster_size=1:30:30 --jobs 4",
    "workbench sweep features --reference dev.rttm --out sweep --plda models/demo/plda --grid Fa=0.01:0.5 "
    "--grid Fb=0.1:20 --search tpe --trials 200 --objective der,count_error --max-worse 0.005",
)


@orderly_stop()
def sweep(
    features: Annotated[
        list[Path],
        typer.Argument(
            metavar="FEATURES_DIR",
            show_default=False,
            help="Folder of features files (.npz) as diarize --features-dir writes them, or the files.",
        ),
    ],
    *,
    reference: Annotated[
        Path, typer.Option("--reference", "-r", metavar="RTTM", help=f"The truth: {WHAT_IT_IS}.")
    ],
    grid: Annotated[
        list[str],
        typer.Option(
            "--grid",
            "-g",
            metavar="NAME=VALUES",
            help="A parameter and its values: a,b,c or start:stop:num (both ends included); may be repeated. "
            "A search other than grid also takes an interval, low:high.",
        ),
    ],
    uem: o.Uem = None,
    collar: o.Collar = 0.0,
    skip_overlap: o.SkipOverlap = False,
    trust_reference: Annotated[
        bool,
        typer.Option(
            TRUST,
            help="Sweep even if the reference looks empty, cut off or like a placeholder.",
            rich_help_panel=o.SCORING,
        ),
    ] = False,
    search: Annotated[
        Sampler,
        typer.Option(
            "--search", help="Every combination, or those that a sampler asks for.", rich_help_panel=SEARCH
        ),
    ] = Sampler.grid,
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            min=1,
            help="Trials that the study is to have in the end; not for grid.",
            rich_help_panel=SEARCH,
        ),
    ] = 100,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="NAME,...",
            help="What to minimize: der, jer, count_error (mean error of the number of speakers), worst_der, "
            "seconds. The first one decides what is best.",
            rich_help_panel=SEARCH,
        ),
    ] = "der",
    max_worse: Annotated[
        float | None,
        typer.Option(
            "--max-worse",
            metavar="DER",
            help="Choose only what raises the DER of no recording by more than this over the parameters to "
            "begin with: 0.005 is half a point.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="FILE|URL",
            help="Where the Optuna study is kept: a journal file (.log), SQLite file (.db) or storage URL. "
            "By default study.db in --out; none for grid. Several calls, each with its own --out, may share "
            "one at the same time.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    study_name: Annotated[
        str | None,
        typer.Option(
            "--study-name",
            metavar="NAME",
            help="By default made from the inputs, so that the same call goes on with its study.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            help="Of the sampler. A tpe or random search that was stopped goes on as if it had not been.",
            rich_help_panel=SEARCH,
        ),
    ] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Worker processes; by default as many as there are cores.",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Compute on a Dask cluster, such as tcp://host:8786, instead.",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    plda: o.Plda = None,
    config: o.Config = None,
    preset: o.PresetOf = None,
    clustering: o.ClusteringOf = None,
    ahc_threshold: o.AhcThreshold = None,
    min_cluster_size: o.MinClusterSize = None,
    fa: o.Fa = None,
    fb: o.Fb = None,
    ahc_criterion: o.AhcCriterion = None,
    lda_dim: o.LdaDim = None,
    max_iters: o.MaxIters = None,
    min_speakers: o.MinSpeakers = None,
    max_speakers: o.MaxSpeakers = None,
    num_speakers: o.NumSpeakers = None,
    out: o.Out,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Try every combination of clustering parameters on every recording, and name the best.

    Parameters that no --grid names come from --config, --preset and single options, as with cluster. Leaves
    results.parquet, summary.parquet, best.toml, best.yaml, sweep.json, and what the best is worth in
    summary.md and summary.html. Whatever was computed there before is taken up again: a sweep that was
    stopped goes on, a larger one adds what is missing.
    """
    from workbench.clustering import PLDA
    from workbench.manifest import Stopwatch, run_manifest
    from workbench.plots.tuning_page import write_summary
    from workbench.rttm import read_uem
    from workbench.scoring import describe_convention
    from workbench.sweeps.run import Common, Evaluator
    from workbench.sweeps.store import Store, locked
    from workbench.tuning.folder import write_folder
    from workbench.tuning.search import SearchParams, run_search
    from workbench.tuning.space import Space

    stopwatch = Stopwatch()
    if jobs is not None and scheduler is not None:
        raise InputError("--jobs counts processes of this machine; leave it out with --scheduler")
    params = SearchParams(
        sampler=search.value,
        trials=trials,
        objectives=tuple(name.strip() for name in objective.split(",")),
        max_worse=max_worse,
        storage=storage if storage or search is Sampler.grid else str(out / "study.db"),
        study_name=study_name,
        seed=seed,
    )
    files = find_features(features)
    clustering_options = {
        "ahc_threshold": ahc_threshold,
        "min_cluster_size": min_cluster_size,
        "Fa": fa,
        "Fb": fb,
        "ahc_criterion": ahc_criterion,
        "lda_dim": lda_dim,
        "max_iters": max_iters,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "num_speakers": num_speakers,
    }
    opened = open_features(files)
    base = base_settings(opened, config, preset, clustering, clustering_options)
    space = Space.parse(grid, base)
    if search is Sampler.grid:  # refused before anything is made in --out
        space.expect_listed()
    model = None if plda is None else PLDA.load(plda)
    check_plda(space, model)
    references = read_annotations(reference)
    regions = None if uem is None else read_uem(uem)
    check_outputs(folders=[out], files=[json])
    recordings, failed, notes = match(opened, references, regions, trust_reference)
    num_rows = len(recordings) * (space.size if search is Sampler.grid else trials)

    with (
        locked(out),
        Progress(num_rows, "cells", quiet) as progress,
        saying_how_to_go_on(progress, out),
    ):
        for note in notes:
            progress.always(note, colour="yellow")
        for each in failed:
            progress.always(f"FAILED {each['uri']}: {each['error']}", colour="red")
        store = Store(out, say=lambda line: progress.always(f"warning: {line}", colour="yellow"))
        store.remove_leftovers()
        common = Common(base=base, plda=model, collar=collar, skip_overlap=skip_overlap)
        pool = open_pool(jobs, scheduler, num_rows, len(recordings))
        # a sampler, and a grid that others share part by part, come back to all recordings
        keep = 2 if search is Sampler.grid and storage is None else max(len(recordings), 2)
        counter = Counter(progress, len(recordings))
        with Evaluator(
            recordings,
            common,
            pool=pool,
            store=store,
            say=lambda line: progress.always(line, colour="red"),
            keep=keep,
        ) as evaluator:
            result = run_search(
                evaluator,
                space,
                params,
                progress=counter.block,
                on_trial=counter.trial,
                say=lambda line: progress.always(f"warning: {line}", colour="yellow"),
            )
        failed += result.evaluation.failed
        if result.evaluation.results.empty:
            print_json(json, {"failed": failed})
            raise_if_nothing(failed)
        manifest = run_manifest(
            "workbench sweep",
            files={
                "features": list(files.values()),
                "reference": reference,
                "uem": uem,
                "plda": plda,
                "config": config,
            },
            options={
                "collar": collar,
                "skip_overlap": skip_overlap,
                "jobs": pool.slots if scheduler is None else None,
                "scheduler": scheduler,
                "seed": seed,
            },
            stopwatch=stopwatch,
        )
        best, report, summary = write_folder(
            out,
            result,
            space,
            params,
            manifest | {"failed": failed},
            config=config,
            convention=describe_convention(collar, skip_overlap, has_uem=regions is not None),
        )
        if summary is not None:
            write_summary(out, summary)
    report = {**report, "failed": failed}
    if not quiet:
        for line in warnings_about(best, report):
            typer.secho(f"warning: {line}", err=True, fg="yellow")
    if str(json) != "-" and not quiet:
        typer.echo(format_result(report, out))
    print_json(json, report)
    finish(failed, len(files))


@contextmanager
def saying_how_to_go_on(progress: Progress, out: Path) -> Iterator[None]:
    """A line for whoever stopped the sweep, or whose disk did."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        if isinstance(error, KeyboardInterrupt) or is_full(error):
            progress.always(
                f"stopped; what is done is kept in {out}, and the same command goes on from there",
                colour="yellow",
            )
        raise


def open_pool(jobs: int | None, scheduler: str | None, num_rows: float, num_recordings: int) -> Pool:
    """Where to compute: what was asked for, else all cores, unless there is too little to do."""
    from workbench.sweeps.pools import DaskCluster, InProcess, Processes, usable_cores

    if scheduler is not None:
        # what happens to a connection is told in our words, without pages of the library's
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        return DaskCluster(scheduler)
    if jobs is None:
        jobs = usable_cores() if num_rows > SMALL else 1
    if jobs == 1:
        return InProcess()
    shield_tracker()
    return Processes(jobs)


def raise_if_nothing(failed: list[dict[str, str]]) -> None:
    """Leave with exit code 1: every recording failed, each for its own reason."""
    finish(failed, len(failed))
