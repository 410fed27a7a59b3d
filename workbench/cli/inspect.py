"""`workbench inspect`: what a model file is, without running it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, print_json
from workbench.cli.tables import align

if TYPE_CHECKING:
    from workbench.graph_card import GraphCard
    from workbench.inspection import ModelCard

EXAMPLES = (
    "workbench inspect torch:models/demo",
    "workbench inspect torch:exp/wavlm_updated_conformer@avg:5 --json -",
    "workbench inspect onnx:models/demo/onnx/segmentation.onnx",
    "workbench inspect torch:models/demo --kind embedding",
)


class Kinds(StrEnum):
    """Which of the two models of a hub folder."""

    segmentation = "segmentation"
    embedding = "embedding"


def inspect(
    runtime: Annotated[
        str,
        typer.Argument(
            metavar="RUNTIME",
            show_default=False,
            help="torch:PATH\\[@CHECKPOINT] (or a Hugging Face id for PATH), onnx:FILE.onnx or recorded:DIR.",
        ),
    ],
    kind: Annotated[
        Kinds | None,
        typer.Option("--kind", help="Which model of a hub folder; segmentation by default."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="TOML",
            help="Which training TOML of an experiment directory counts, by name; the newest by default.",
        ),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Show what a model is: architecture, parameters, frames, powerset, training; of ONNX files the graph.

    ONNX files that were exported from the same weights into the same folder are listed as a family.
    """
    from workbench.inspection import inspect_runtime

    check_outputs(files=[json])
    name = runtime if config is None else o.with_option(runtime, "config", config)
    card = inspect_runtime(name, None if kind is None else kind.value)
    if str(json) != "-" and not quiet:
        typer.echo(format_card(card))
    print_json(json, card.to_dict() | {"failed": []})


def format_card(card: ModelCard) -> str:
    """The card as aligned text."""
    facts = [("runtime", card.runtime), ("kind", card.kind), ("architecture", card.architecture)]
    if card.parameters is not None:
        facts.append(("parameters", f"{card.parameters:,}"))
    facts.append(("sample rate", "-" if card.sample_rate is None else f"{card.sample_rate} Hz"))
    if card.chunk_duration is not None and card.chunk_step is not None:
        facts.append(("chunk", f"{card.chunk_duration:g} s, one every {card.chunk_step:g} s"))
    if card.frames_per_chunk is not None:
        facts.append(("frames per chunk", str(card.frames_per_chunk)))
    if card.frame_duration is not None and card.frame_step is not None:
        facts.append(("receptive field", f"{card.frame_duration:g} s, one every {card.frame_step:g} s"))
    if card.powerset:
        sets = " ".join("{" + ",".join(map(str, members)) + "}" for members in card.powerset)
        facts.append(("powerset", f"{len(card.powerset)} classes of {card.num_speakers} speakers: {sets}"))
    if card.embedding_dimension is not None:
        facts.append(("embedding", f"{card.embedding_dimension} values"))
    facts.append(("shortest input", f"{card.min_num_samples} samples"))
    if card.recordings is not None:
        facts.append(("recordings", str(card.recordings)))
    facts += [
        ("file", f"{f['path']}  {f['bytes'] / 1e6:.1f} MB  sha256 {f['sha256'][:16]}…") for f in card.files
    ]
    width = max(len(name) for name, _ in facts)
    parts = ["\n".join(f"{name:<{width}}  {value}" for name, value in facts)]
    if card.blocks:
        total = max(1, card.parameters or 0)
        rows = [
            [b.name, f"{b.parameters:,}", f"{b.parameters / total:.1%}", str(b.tensors)] for b in card.blocks
        ]
        parts.append(align(["block", "parameters", "share", "tensors"], rows))
    if card.layer_weights:
        weights = " ".join(f"{weight:+.3f}" for weight in card.layer_weights)
        parts.append(f"weights of the layers in the WavLM sum, input first\n{weights}")
    if card.graph is not None:
        parts.append(format_graph(card.graph))
    if card.training:
        parts.append(align(["trained with", ""], [[k, str(v)] for k, v in card.training.items()], num_left=2))
    return "\n\n".join(parts)


def format_graph(graph: GraphCard) -> str:
    """The graph's card as aligned text."""
    counts = ", ".join(f"{name} {number}" for name, number in graph.operations.items())
    types = ", ".join(f"{name} {number:,}" for name, number in graph.weight_types.items())
    facts = [
        ("opset", f"{graph.opset} (IR {graph.ir_version}, {graph.producer or 'unknown producer'})"),
        *(("input", f"{name}: {kind}") for name, kind in graph.inputs.items()),
        *(("output", f"{name}: {kind}") for name, kind in graph.outputs.items()),
        ("numbers", types),
        ("operations", f"{graph.num_nodes}: {counts}"),
        ("sha256", graph.sha256),
        ("source sha256", graph.source_digest or "unknown"),
    ]
    if graph.external_files:
        facts.append(("external files", ", ".join(graph.external_files)))
    width = max(len(name) for name, _ in facts)
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in facts)
    if not graph.family:
        return text
    rows = []
    for member in graph.family:
        flips = "-"
        if member.frames and member.flips is not None:
            flips = f"{member.flips} of {member.frames} ({member.flips / member.frames:.2%})"
        rows.append(
            [
                member.file,
                member.precision,
                f"{member.num_bytes / 1e6:.2f}",
                "-" if member.max_abs_diff is None else f"{member.max_abs_diff:.2g}",
                flips,
                "-" if member.min_cosine is None or member.frames else f"{member.min_cosine:.5f}",
            ]
        )
    heading = ["family", "precision", "MB", "max diff", "flips", "min cosine"]
    return f"{text}\n\n{align(heading, rows, num_left=2)}"
