"""`workbench cluster`: clustering and reconstruction of features computed earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, plural, print_json, work_through
from workbench.errors import InputError, RecordingError

EXAMPLES = (
    "workbench diarize meeting.wav --hub models/demo --out hypothesis --features-dir features",
    "workbench cluster features --out tuned --plda models/demo/plda --Fa 0.1 --Fb 2",
    "workbench cluster xvectors.npz --out vbx --plda plda --Fa 0.3 --Fb 17 --loop-prob 0.99",
    "workbench cluster features --out ahc --clustering ahc --ahc-threshold 0.6 --min-cluster-size 10",
)


def cluster(
    features: Annotated[
        list[Path],
        typer.Argument(
            metavar="FEATURES",
            show_default=False,
            help="Features files (.npz) as diarize --features-dir writes them, or folders of them.",
        ),
    ],
    *,
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
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Segments: added to the similarity above which segments are clustered, as calibrated.",
            rich_help_panel="Features with one embedding per segment",
        ),
    ] = None,
    loop_prob: Annotated[
        float | None,
        typer.Option(
            help="Segments: probability of staying with a speaker.",
            rich_help_panel="Features with one embedding per segment",
        ),
    ] = None,
    init_smoothing: Annotated[
        float | None,
        typer.Option(
            help="Segments: how much the cluster to start from outweighs the others, as exponent.",
            rich_help_panel="Features with one embedding per segment",
        ),
    ] = None,
    out: o.Out,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Cluster features again: new RTTM files in seconds, without running a model.

    Writes NAME.rttm and NAME.labels.npy, the cluster of every chunk and local speaker (-2: takes no part).
    Features with one embedding per segment (x-vectors) are clustered as VBx's own recipe does it.
    """
    import numpy as np

    from workbench.audio import check_uri
    from workbench.clustering import PLDA, XVectorParams, run_clustering
    from workbench.features import load_features
    from workbench.files import atomic_write
    from workbench.pipeline import describe
    from workbench.reconstruction import reconstruct
    from workbench.rttm import write_rttm
    from workbench.types import Features

    params = o.pipeline_params(
        None,
        config,
        preset,
        clustering,
        ahc_threshold=ahc_threshold,
        min_cluster_size=min_cluster_size,
        Fa=fa,
        Fb=fb,
        ahc_criterion=ahc_criterion,
        lda_dim=lda_dim,
        max_iters=max_iters,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        num_speakers=num_speakers,
    )
    of_segments = {"threshold": threshold, "loop_prob": loop_prob, "init_smoothing": init_smoothing}
    of_chunks = {
        "ahc_threshold": ahc_threshold,
        "min_cluster_size": min_cluster_size,
        "ahc_criterion": ahc_criterion,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "num_speakers": num_speakers,
        "preset": preset,
        "config": config,
    }
    given: dict[str, Any] = of_segments | {"Fa": fa, "Fb": fb, "lda_dim": lda_dim, "max_iters": max_iters}
    given |= {"method": None if clustering is None else str(getattr(clustering, "value", clustering))}
    xvector_params = XVectorParams(**{name: value for name, value in given.items() if value is not None})
    files = find_features(features)
    check_outputs(folders=[out], files=[json])
    model = None if plda is None else PLDA.load(plda)
    o.check_plda(params, model)
    rows: dict[str, dict[str, Any]] = {}
    unusable: list[InputError] = []  # of recordings that these parameters or this PLDA do not fit

    with Progress(len(files), "recordings", quiet) as progress:

        def work(name: str) -> None:
            """Cluster one recording and write its files."""
            loaded = load_features(files[name])
            per_chunk = isinstance(loaded, Features)
            foreign = [each for each, value in (of_segments if per_chunk else of_chunks).items() if value]
            if foreign:
                kind = "chunk and local speaker" if per_chunk else "segment"
                option = "--" + foreign[0].replace("_", "-")
                raise InputError.at(files[name], f"holds one embedding per {kind}: {option} is not for it")
            uri = check_uri(loaded.uri)
            if uri in rows:
                raise InputError.at(files[name], f"recording {uri!r} is also in {rows[uri]['features']}")
            try:
                result = run_clustering(loaded, params.clustering if per_chunk else xvector_params, model)
            except InputError as error:
                unusable.append(error)
                raise RecordingError(str(error).removeprefix(f"{uri}: ")) from error
            options = params.reconstruction_options() if per_chunk else {}
            annotation = reconstruct(loaded, result.hard_clusters, **options)
            labels = result.active_clusters
            write_rttm(out / f"{uri}.rttm", annotation)
            with atomic_write(out / f"{uri}.labels.npy") as temporary:
                np.save(temporary, labels)
            rows[uri] = {"features": files[name], **describe(annotation), "rttm": out / f"{uri}.rttm"}
            progress.advance(1)
            progress.say(f"[{len(rows)}/{len(files)}] {uri}: {plural(rows[uri]['num_speakers'], 'speaker')}")

        failed = work_through(files, work, progress, debug=debug)
    if len(unusable) == len(files):
        raise unusable[0]  # then it is the call that is wrong
    print_json(json, {"params": params.to_dict()["clustering"], "recordings": rows, "failed": failed})
    finish(failed, len(files))


def find_features(paths: list[Path]) -> dict[str, Path]:
    """Features files by file name without extension; folders are searched, but not below."""
    files: dict[str, Path] = {}
    for argument in paths:
        inside = (path for path in argument.glob("*.npz") if not path.is_dir())
        found = sorted(inside) if argument.is_dir() else [argument]
        if not found:
            raise InputError.at(argument, "the folder holds no features file (*.npz)")
        for file in found:
            if not file.is_file():
                raise InputError.at(file, "does not exist; expected a features file or a folder of them")
            known = files.setdefault(file.stem, file)
            if known.resolve() != file.resolve():
                raise InputError(
                    f"two features files are named {file.stem!r}: {known} and {file}; rename one"
                )
    return files
