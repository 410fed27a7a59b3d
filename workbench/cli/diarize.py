"""`workbench diarize`: the full pipeline over recordings."""

from __future__ import annotations

import functools
from pathlib import Path
from time import perf_counter
from typing import Any

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, finish, plural, print_json, work_through
from workbench.errors import InputError

SHARES = {"segmentation": (0.0, 0.4), "embedding": (0.4, 0.6)}
"""Start and length of a stage within the work on one recording, for the progress bar."""


EXAMPLES = (
    "workbench diarize meeting.wav --hub models/demo --out hypothesis",
    "workbench diarize recordings/ --hub models/demo --engine onnx --out hypothesis --json -",
    "workbench diarize meeting.wav --hub models/demo --no-apply-median-filtering --Fb 2 --out tuned",
    "workbench diarize wav.scp --segmentation torch:exp@avg:5 --embedding torch:wespeaker "
    "--clustering ahc --ahc-threshold 0.7 --out hypothesis --features-dir features",
)


def diarize(
    audio: o.Audio,
    *,
    hub: o.Hub = None,
    engine: o.EngineOf = None,
    segmentation: o.Segmentation = None,
    embedding: o.Embedding = None,
    plda: o.Plda = None,
    config: o.Config = None,
    preset: o.PresetOf = None,
    seg_duration: o.SegDuration = None,
    segmentation_step: o.SegmentationStep = None,
    batch_size: o.BatchSize = None,
    apply_median_filtering: o.MedianFiltering = None,
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
    features_dir: o.FeaturesDir = None,
    cache: o.Cache = None,
    session_id: o.SessionId = o.SessionIds.stem,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Find out who speaks when: one RTTM file per recording.

    Parameters come from --config, else from the hub folder, else they are DiariZen's; a preset replaces them,
    and a single option wins over all. The first channel is used, resampled to 16 kHz.
    """
    from workbench.audio import audio_duration, check_uri, find_recordings
    from workbench.clustering import PLDA
    from workbench.feature_cache import features_for
    from workbench.features import save_features
    from workbench.pipeline import Runtimes, describe, diarize_features, extract_features
    from workbench.rttm import write_rttm

    specs = model_specs(hub, engine, segmentation, embedding, plda)
    params = o.pipeline_params(
        hub,
        config,
        preset,
        clustering,
        seg_duration=seg_duration,
        segmentation_step=segmentation_step,
        batch_size=batch_size,
        apply_median_filtering=apply_median_filtering,
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
    recordings = find_recordings(audio, session_id.value)
    check_outputs(folders=[out, features_dir, cache], files=[json])
    model = None if "plda" not in specs else PLDA.load(specs["plda"])
    o.check_plda(params, model)

    @functools.cache
    def load() -> Runtimes:
        return Runtimes.load(specs["segmentation"], specs["embedding"])

    if cache is None:
        load()  # a model that cannot be used is known before any recording is read

    durations = {uri: duration_or_zero(path, audio_duration) for uri, path in recordings.items()}
    rows: dict[str, dict[str, Any]] = {}

    with Progress(sum(durations.values()), "s of audio", quiet) as progress:

        def work(uri: str) -> None:
            """Diarize one recording and write its files."""
            check_uri(uri)
            began, counted = perf_counter(), 0.0

            def hook(stage: str, done: int, total: int) -> None:
                nonlocal counted
                start, share = SHARES.get(stage, (1.0, 0.0))
                reached = durations[uri] * (start + share * done / total)
                progress.advance(reached - counted)
                counted = reached

            if cache is None:
                features, cached = (
                    extract_features(recordings[uri], load(), params, uri=uri, hook=hook),
                    False,
                )
            else:
                found = features_for(
                    recordings[uri], specs, params, cache_dir=cache, uri=uri, runtimes=load, hook=hook
                )
                features, cached = found.features, found.was_cached
            extracted = perf_counter()
            if features_dir is not None:
                save_features(features_dir / f"{uri}.npz", features)
            clustering_began = perf_counter()
            annotation = diarize_features(features, params, model, hook=hook)
            clustered = perf_counter() - clustering_began
            rttm = out / f"{uri}.rttm"
            write_rttm(rttm, annotation)
            seconds = perf_counter() - began
            rows[uri] = {
                "duration": durations[uri],
                **describe(annotation),
                "rttm": rttm,
                "seconds": seconds,
                "rtf": seconds / durations[uri] if durations[uri] else None,
                "cached": cached,
                "stages": {"models": extracted - began, "clustering": clustered},
            }
            progress.say(
                f"[{len(rows)}/{len(recordings)}] {uri}: {durations[uri]:.1f} s of audio, "
                f"{plural(rows[uri]['num_speakers'], 'speaker')}, {seconds:.1f} s "
                f"({rows[uri]['rtf']:.3f} x real time{', features from the cache' if cached else ''})"
            )

        failed = work_through(recordings, work, progress, debug=debug)
    print_json(json, {"params": params.to_dict(), "models": specs, "recordings": rows, "failed": failed})
    finish(failed, len(recordings))


def model_specs(
    hub: Path | None,
    engine: o.Engine | None,
    segmentation: str | None,
    embedding: str | None,
    plda: Path | None,
) -> dict[str, str]:
    """Runtime strings and PLDA folder from the options; models named singly win over those of the hub."""
    from workbench.pipeline import hub_specs

    if hub is None and engine is not None:
        raise InputError(
            "--engine chooses what runs the models of --hub; name the hub folder, or leave it out"
        )
    options = {
        "segmentation": segmentation,
        "embedding": embedding,
        "plda": None if plda is None else str(plda),
    }
    given = {name: value for name, value in options.items() if value is not None}
    specs = {} if hub is None else hub_specs(hub, (engine or o.Engine.torch).value, elsewhere=given)
    specs |= given
    missing = [f"--{name}" for name in ("segmentation", "embedding") if name not in specs]
    if missing:
        raise typer.BadParameter(f"give --hub DIR, or both models: {' and '.join(missing)} is missing")
    return specs


def duration_or_zero(path: Path, audio_duration: Any) -> float:
    """Duration (s) for the progress bar; a broken recording reports its own fault when it is read."""
    try:
        return float(audio_duration(path))
    except Exception:  # whatever is wrong with it
        return 0.0
