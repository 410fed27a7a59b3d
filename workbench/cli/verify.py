"""`workbench verify`: error rates of a trial list, or the similarity of two recordings."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import options as o
from workbench.cli.embed import BatchSize, ChunkDuration, Mean, Workers
from workbench.cli.output import check_outputs
from workbench.cli.verification import Job, compare_two, make_scorer, parse_priors, verify_list
from workbench.errors import InputError

TRIALS = "Trials"
SCORING = "Scoring"
EXAMPLES = (
    "workbench verify torch:models/demo data/demo/trials.txt",
    "workbench verify torch:models/demo trials.txt --root wavs --plda models/demo/plda --json -",
    "workbench verify torch:models/demo trials.txt --candidate onnx:models/demo/onnx/embedding.onnx",
    "workbench verify torch:models/demo a.wav b.wav --threshold 0.5",
    "workbench verify embeddings.npz trials.txt --cohort cohort.ark --top-n 300",
)


class Scoring(StrEnum):
    """How two embeddings are compared."""

    cosine = "cosine"
    plda = "plda"


def verify(
    runtime: Annotated[
        str,
        typer.Argument(
            metavar="RUNTIME",
            show_default=False,
            help="Embedding model: torch:PATH\\[@CHECKPOINT], onnx:FILE or recorded:DIR; or a file of "
            "embeddings made earlier (.npz, .ark, .scp, .parquet).",
        ),
    ],
    trials: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRIALS",
            show_default=False,
            help="A trial list: lines `label a b` (1 same speaker, 0 different) or `a b target|nontarget`; "
            "`a.wav#t=1.5,4` is the part from 1.5 to 4 s. Or two audio files to compare.",
        ),
    ],
    *,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="Folder that the paths of the list start from; by default the list's.",
            rich_help_panel=TRIALS,
        ),
    ] = None,
    wav_scp: Annotated[
        Path | None,
        typer.Option(
            "--wav-scp",
            metavar="FILE",
            help="Kaldi wav.scp with the names of the list.",
            rich_help_panel=TRIALS,
        ),
    ] = None,
    scoring: Annotated[
        Scoring | None,
        typer.Option("--scoring", help="By default plda where --plda is given.", rich_help_panel=SCORING),
    ] = None,
    plda: Annotated[
        Path | None,
        typer.Option(
            "--plda",
            metavar="DIR",
            help="Folder with plda.npz and xvec_transform.npz, or with VBx's plda and transform.h5.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    lda_dim: Annotated[
        int | None, typer.Option("--lda-dim", help="PLDA dimensions that are used.", rich_help_panel=SCORING)
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            "--cohort",
            metavar="PATH",
            help="Normalise scores (AS-norm) by these others: a file of embeddings, a folder of audio or a "
            "wav.scp.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    cohort_speakers: Annotated[
        Path | None,
        typer.Option(
            "--cohort-speakers",
            metavar="UTT2SPK",
            help="Average the cohort by speaker, as WeSpeaker does.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    top_n: Annotated[
        int,
        typer.Option(
            "--top-n",
            help="How many of the cohort count, those that score highest; all of them make it S-norm.",
            rich_help_panel=SCORING,
        ),
    ] = 300,
    priors: Annotated[
        str,
        typer.Option(
            "--p-target", help="Probabilities of a target for minDCF, with commas.", rich_help_panel=SCORING
        ),
    ] = "0.001,0.01,0.05",
    c_miss: Annotated[float, typer.Option("--c-miss", help="Cost of a miss.", rich_help_panel=SCORING)] = 1.0,
    c_fa: Annotated[
        float, typer.Option("--c-fa", help="Cost of a false alarm.", rich_help_panel=SCORING)
    ] = 1.0,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Accept from this score on: the decision on two files, flips of --candidate (by default at "
            "the threshold of equal errors).",
            rich_help_panel=SCORING,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            help="Turn scores into log-likelihood ratios and probabilities, as --save-calibration fits them.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    save_calibration: Annotated[
        Path | None,
        typer.Option(
            "--save-calibration",
            metavar="FILE",
            help="Fit a calibration (logistic regression) to these trials.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(
            "--candidate",
            metavar="RUNTIME",
            help="A second model, compared with the first on the same trials.",
            rich_help_panel=o.MODELS,
        ),
    ] = None,
    chunk_duration: ChunkDuration = None,
    mean: Mean = None,
    batch_size: BatchSize = 32,
    workers: Workers = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Write `a b score label` per trial, as WeSpeaker's score files have it.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(
            "--curves",
            metavar="FILE.csv",
            help="Write the DET and ROC curve as a table.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Tell speakers apart: EER, minDCF and ROC-AUC of a trial list, or the similarity of two files.

    Higher scores speak for one speaker. Trials of a recording that cannot be read are left out, and named.
    """
    from workbench.extraction import ExtractionParams, load_mean
    from workbench.verification.calibration import load_calibration

    check_outputs(files=[save_calibration, scores, curves, json])
    if len(trials) > 2:
        raise InputError(f"give one trial list or two audio files, got {len(trials)} paths")
    if scoring is Scoring.plda and plda is None:
        raise InputError("--scoring plda needs a PLDA: name its folder with --plda")
    scorer = make_scorer(None if scoring is Scoring.cosine else plda, lda_dim)
    job = Job(
        scorer=scorer,
        params=ExtractionParams(chunk_duration=chunk_duration, batch_size=batch_size),
        workers=workers,
        mean=None if mean is None else load_mean(mean),
        cohort=cohort,
        cohort_speakers=cohort_speakers,
        quiet=quiet,
    )
    known = None if calibration is None else load_calibration(calibration)
    normed = "+asnorm" if cohort is not None else ""
    if known is not None and known.scoring != scorer.name + normed:
        raise InputError.at(
            calibration or "", f"is for {known.scoring} scores, but these are {scorer.name}{normed}"
        )
    if len(trials) == 2:
        if candidate is not None or scores is not None or curves is not None or save_calibration is not None:
            raise InputError("--candidate, --scores, --curves and --save-calibration take a trial list")
        compare_two(runtime, (trials[0], trials[1]), job, top_n, threshold, known, json)
        return
    verify_list(
        runtime,
        trials[0],
        job,
        options={
            "root": root,
            "wav_scp": wav_scp,
            "top_n": top_n,
            "priors": parse_priors(priors),
            "c_miss": c_miss,
            "c_fa": c_fa,
            "threshold": threshold,
            "calibration": known,
            "save_calibration": save_calibration,
            "candidate": candidate,
            "scores": scores,
            "curves": curves,
            "scoring": scorer.name + normed,
        },
        json=json,
    )
