"""`workbench plda`: a PLDA from embeddings with speakers, and which of its dimensions help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, plural, print_json
from workbench.cli.tables import align, number
from workbench.errors import InputError

EXAMPLES = (
    "workbench embed torch:models/demo data/demo --segments data/demo/demo.rttm --out segments.npz",
    "workbench plda segments.npz --out plda --lda-dim 32 --shrinkage 0.2",
    "workbench plda train.ark --speakers utt2spk --out plda --check 16,32,64,128",
)


def plda(
    embeddings: Annotated[
        Path,
        typer.Argument(
            metavar="EMBEDDINGS",
            show_default=False,
            help="What `workbench embed` wrote, or Kaldi's ark or scp.",
        ),
    ],
    *,
    out: o.Out,
    speakers: Annotated[
        Path | None,
        typer.Option(
            "--speakers",
            metavar="UTT2SPK",
            help="Speaker of each embedding, `<name> <speaker>` per line; by default those of --segments.",
        ),
    ] = None,
    lda_dim: Annotated[int, typer.Option("--lda-dim", help="Dimensions that the LDA keeps.")] = 128,
    iterations: Annotated[int, typer.Option("--iterations", help="Of expectation-maximisation.")] = 10,
    shrinkage: Annotated[
        float,
        typer.Option(
            "--shrinkage", help="Of the within-speaker covariance; above 0 where there are few embeddings."
        ),
    ] = 0.0,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="N,N,...",
            help="Error rates for these LDA dimensions, on speakers left out of the estimation.",
        ),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Estimate the LDA and PLDA that VBx and PLDA scoring need, from embeddings of known speakers.

    Writes xvec_transform.npz and plda.npz, as a hub's plda folder has them.
    """
    from workbench.clustering.plda_estimation import PLDAEstimation, estimate_plda
    from workbench.clustering.plda_files import save_plda
    from workbench.embedding_files import load_embeddings
    from workbench.verification.lda import lda_dimension_table
    from workbench.verification.run import read_speakers

    check_outputs(folders=[out], files=[json])
    found = load_embeddings(embeddings)
    labels = list(found.speakers)
    if speakers is not None:
        known = read_speakers(speakers)
        lacking = [name for name in found.names if name not in known]
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise InputError.at(speakers, f"lacks a speaker for {lacking[0]!r}{more}")
        labels = [known[name] for name in found.names]
    if not labels:
        raise InputError.at(embeddings, "names no speakers; give them with --speakers")
    params = PLDAEstimation(num_lda=lda_dim, iterations=iterations, shrinkage=shrinkage)
    report: dict[str, Any] = {"embeddings": len(found), "speakers": len(set(labels)), "out": out}
    with Progress(1, "models", quiet) as progress:
        save_plda(out, estimate_plda(found.embeddings, labels, params))
        progress.advance(1)
        progress.say(
            f"{out}: {lda_dim} dimensions from {plural(len(found), 'embedding')} of "
            f"{plural(len(set(labels)), 'speaker')}"
        )
        if check is not None:
            table = lda_dimension_table(found.embeddings, labels, parse_dimensions(check), params)
            report["check"] = table.to_dict(orient="records")
    if check is not None and str(json) != "-":
        rows = [
            [
                f"{row['scoring']} {row['lda_dim'] or ''}",
                number(row["eer"], 2, 100),
                number(row["min_dcf"], 4),
                number(row["roc_auc"], 4),
            ]
            for row in report["check"]
        ]
        typer.echo(align(["scoring", "EER %", "minDCF 0.05", "ROC-AUC"], rows))
    print_json(json, {**report, "failed": []})


def parse_dimensions(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(f"--check must be whole numbers with commas, got {text!r}")
    return [int(word) for word in words]
