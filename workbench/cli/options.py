"""Options and arguments that several commands share, so that they read and behave the same."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.clustering import PLDA
    from workbench.config import PipelineParams

MODELS = "Models"
SEGMENTATION = "Segmentation"
CLUSTERING = "Clustering"
SCORING = "Scoring"
OUTPUT = "Output"


class SessionIds(StrEnum):
    """How recordings are named."""

    stem = "stem"
    relative = "relative"


class Engine(StrEnum):
    """What runs the models of a hub folder."""

    torch = "torch"
    onnx = "onnx"


class Clustering(StrEnum):
    """Which clustering."""

    ahc = "ahc"
    vbx = "vbx"


class Preset(StrEnum):
    """Whose pipeline is followed."""

    diarizen = "diarizen"
    pyannote_31 = "pyannote-3.1"
    community_1 = "community-1"


def remember_debug(context: typer.Context, value: bool) -> bool:
    """Store `--debug` where the error handler finds it, even if a later option is at fault."""
    context.meta["debug"] = value
    return value


def remember_out(context: typer.Context, value: Path) -> Path:
    """Store `--out` where the error handler finds it."""
    context.meta["out"] = value
    return value


Audio = Annotated[
    list[Path],
    typer.Argument(
        metavar="AUDIO",
        show_default=False,
        readable=False,  # one file that may not be read fails alone, when it is read
        help="Audio files, folders (searched recursively for wav, flac, ogg, opus, mp3) or a Kaldi wav.scp.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder for the results, made if missing.",
        callback=remember_out,
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Report as JSON; [bold]-[/bold] for standard output.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress; failures are still named.", rich_help_panel=OUTPUT)
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show the Python traceback of an error.",
        callback=remember_debug,
        is_eager=True,
        rich_help_panel=OUTPUT,
    ),
]
SessionId = Annotated[
    SessionIds,
    typer.Option(
        "--session-id",
        help="Name of a recording: its file name without extension, or its path relative to the folder given "
        "with / replaced by __.",
        rich_help_panel=OUTPUT,
    ),
]
FeaturesDir = Annotated[
    Path | None,
    typer.Option(
        "--features-dir",
        metavar="DIR",
        help="Keep what clustering needs, one .npz per recording, for `workbench cluster`.",
        rich_help_panel=OUTPUT,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Keep what the models computed, by content (audio, weights, parameters, code): where none of it "
        "changed, no model runs.",
        rich_help_panel=OUTPUT,
    ),
]

Hub = Annotated[
    Path | None,
    typer.Option(
        "--hub",
        metavar="DIR",
        help="Hub-layout folder, or its Hugging Face id: config.toml, models, PLDA and parameters in one.",
        rich_help_panel=MODELS,
    ),
]
EngineOf = Annotated[
    Engine | None,
    typer.Option(
        "--engine",
        help="What runs the models of --hub: torch (default), or its exports onnx/segmentation.onnx and "
        "onnx/embedding.onnx.",
        rich_help_panel=MODELS,
    ),
]
Segmentation = Annotated[
    str | None,
    typer.Option(
        "--segmentation",
        metavar="RUNTIME",
        help="Segmentation model: torch:PATH\\[@CHECKPOINT], onnx:FILE.onnx or recorded:DIR.",
        rich_help_panel=MODELS,
    ),
]
Embedding = Annotated[
    str | None,
    typer.Option(
        "--embedding",
        metavar="RUNTIME",
        help="Speaker embedding model, named likewise.",
        rich_help_panel=MODELS,
    ),
]
Plda = Annotated[
    Path | None,
    typer.Option(
        "--plda",
        metavar="DIR",
        help="Folder with plda.npz and xvec_transform.npz, or transform.h5 and plda, which VBx needs.",
        rich_help_panel=MODELS,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="TOML",
        help="Parameters: the tables inference.args and clustering.args of a DiariZen config.toml.",
        rich_help_panel=MODELS,
    ),
]
PresetOf = Annotated[
    Preset | None,
    typer.Option("--preset", help="Whose pipeline to follow, with its parameters.", rich_help_panel=MODELS),
]

ClusteringOf = Annotated[
    Clustering | None, typer.Option("--clustering", help="Which clustering.", rich_help_panel=CLUSTERING)
]
Fa = Annotated[
    float | None,
    typer.Option(
        "--Fa", help="VBx: scale of the statistics; larger finds more speakers.", rich_help_panel=CLUSTERING
    ),
]
Fb = Annotated[
    float | None,
    typer.Option("--Fb", help="VBx: speaker regularisation; larger finds fewer.", rich_help_panel=CLUSTERING),
]
AhcThreshold = Annotated[
    float | None,
    typer.Option(
        "--ahc-threshold", help="Distance above which clusters stay apart.", rich_help_panel=CLUSTERING
    ),
]
AhcCriterion = Annotated[
    str | None,
    typer.Option(
        "--ahc-criterion",
        metavar="distance|maxclust",
        help="VBx: what the threshold of its AHC start means.",
        rich_help_panel=CLUSTERING,
    ),
]
LdaDim = Annotated[
    int | None,
    typer.Option("--lda-dim", help="VBx: PLDA dimensions that are used.", rich_help_panel=CLUSTERING),
]
MaxIters = Annotated[
    int | None, typer.Option("--max-iters", help="VBx: updates at most.", rich_help_panel=CLUSTERING)
]
MinClusterSize = Annotated[
    int | None,
    typer.Option(
        "--min-cluster-size", help="AHC: smaller clusters join the nearest.", rich_help_panel=CLUSTERING
    ),
]
MinSpeakers = Annotated[
    int | None, typer.Option("--min-speakers", help="Speakers at least.", rich_help_panel=CLUSTERING)
]
MaxSpeakers = Annotated[
    int | None, typer.Option("--max-speakers", help="Speakers at most.", rich_help_panel=CLUSTERING)
]
NumSpeakers = Annotated[
    int | None,
    typer.Option(
        "--num-speakers", help="Speakers exactly, where the number is known.", rich_help_panel=CLUSTERING
    ),
]


def _check_collar(collar: float) -> float:
    if not 0 <= collar < float("inf"):
        raise InputError(f"--collar must be a number of seconds, 0 or more, got {collar:g}")
    return collar


Uem = Annotated[
    Path | None,
    typer.Option(
        "--uem",
        metavar="FILE",
        help="Regions to score; recordings not in it are left out.",
        rich_help_panel=SCORING,
    ),
]
Collar = Annotated[
    float,
    typer.Option(
        "--collar",
        metavar="SECONDS",
        callback=_check_collar,
        help="Left unscored [bold]on each side[/bold] of every reference boundary, as md-eval and dscore "
        "count it: 0.25 forgives half a second in all (0.5 in pyannote.metrics).",
        rich_help_panel=SCORING,
    ),
]
SkipOverlap = Annotated[
    bool,
    typer.Option(
        "--skip-overlap",
        help="Leave out where several reference speakers talk at once.",
        rich_help_panel=SCORING,
    ),
]

SegDuration = Annotated[
    float | None,
    typer.Option("--seg-duration", help="Length of a chunk in seconds.", rich_help_panel=SEGMENTATION),
]
SegmentationStep = Annotated[
    float | None,
    typer.Option(
        "--segmentation-step",
        help="Distance between two chunks as a fraction of their length.",
        rich_help_panel=SEGMENTATION,
    ),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Chunks per call of a model.", rich_help_panel=SEGMENTATION)
]
MedianFiltering = Annotated[
    bool | None,
    typer.Option(
        "--apply-median-filtering/--no-apply-median-filtering",
        help="Smooth decisions over 11 frames, or (--no-apply-median-filtering) leave them.",
        rich_help_panel=SEGMENTATION,
    ),
]


def pipeline_params(
    hub: Path | None,
    config: Path | None,
    preset: Preset | None,
    clustering: Clustering | None,
    **options: Any,
) -> PipelineParams:
    """Parameters of the pipeline: --config or the hub's, then the preset, then single options."""
    from workbench.config import PipelineParams, read_config, with_options, with_preset
    from workbench.hub import local_hub

    source = config if config is not None or hub is None else local_hub(hub) / "config.toml"
    params = PipelineParams() if source is None else read_config(source)
    params = with_preset(params, None if preset is None else preset.value)
    params = with_options(params, None if clustering is None else clustering.value, **options)
    chosen = params.clustering
    forced = [name for name in ("num_speakers", "min_speakers") if (options.get(name) or 1) > 1]
    if forced and hasattr(chosen, "Fa") and chosen.convention == "diarizen":
        typer.secho(
            f"warning: DiariZen's VBx does not enforce {forced[0]}, it only caps how many speakers talk at "
            "once; use --clustering ahc or --preset community-1 for that",
            err=True,
            fg="yellow",
        )
    return params


def with_option(runtime: str, name: str, value: str) -> str:
    """A runtime string with one more option.

    Examples
    --------
    >>> with_option("torch:exp@best?threads=1", "config", "config__2026.toml")
    'torch:exp@best?threads=1&config=config__2026.toml'
    """
    return f"{runtime}{'&' if '?' in runtime else '?'}{name}={quote(value, safe='/')}"


def check_plda(params: PipelineParams, plda: PLDA | None) -> None:
    """An error now, not after the models have run, where VBx has no PLDA."""
    if plda is None and hasattr(params.clustering, "Fa"):
        raise InputError(
            "VBx clustering needs a PLDA: name its folder with --plda (plda.npz and xvec_transform.npz), "
            "or choose --clustering ahc"
        )
