"""Models and exported files side by side, one table each, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.io.formats.style import Styler

from workbench.inspection import ModelCard

if TYPE_CHECKING:
    from workbench.checkpoints.difference import WeightDifference
    from workbench.export import ExportReport


_FORMATS = {  # of numeric columns
    "size (MB)": "{:.2f}",
    "max |difference|": "{:.1e}",
    "flips (%)": "{:.2f}",
    "min cosine": "{:.6f}",
    "relative change": "{:.2%}",
    "cosine": "{:.6f}",
    "entries changed": "{:.1%}",
}


def compare_cards(cards: Sequence[ModelCard]) -> pd.DataFrame:
    """What each model is: a row per property that any of them has, a column per model, all as text."""
    columns: dict[str, dict[str, str]] = {}
    for card in cards:  # a hub-layout folder has two models under one name
        name = card.runtime if card.runtime not in columns else f"{card.runtime} ({card.kind})"
        columns[name] = _facts(card)
    facts = dict.fromkeys(fact for card in columns.values() for fact in card)
    return pd.DataFrame(columns, index=list(facts), dtype=object).fillna("–")


def summarize_exports(reports: Sequence[ExportReport]) -> pd.DataFrame:
    """One row per exported file: its size, and how far it is from its source over all inputs of the check."""
    rows = []
    for report in reports:
        agreement = report.agreement
        row = {
            "file": report.path.name,
            "precision": report.precision,
            "size (MB)": report.num_bytes / 1e6,
            "max |difference|": agreement.max_abs_diff,
        }
        if agreement.frames:
            row |= {
                "frames": agreement.frames,
                "flips": agreement.flips,
                "flips (%)": 100 * agreement.flip_rate,
            }
        else:
            row |= {"min cosine": agreement.min_cosine}
        audio = "real audio" if agreement.real_audio else "noise"
        rows.append(row | {"checked on": audio, "asked for": agreement.criterion})
    return pd.DataFrame(rows).set_index("file").rename_axis(None) if rows else pd.DataFrame()


def summarize_difference(difference: WeightDifference, most: int = 12) -> pd.DataFrame:
    """The tensors that differ most; counters, which are no weights, are left out."""
    table = difference.table
    counters = table["dtype_a"].fillna(table["dtype_b"]).str.startswith(("int", "uint", "bool"))
    differing = table[(table["status"] != "identical") & ~counters].head(most)
    shapes = differing["shape_a"].where(differing["shape_a"].notna(), differing["shape_b"])
    return pd.DataFrame(
        {
            "shape": [" × ".join(map(str, shape)) or "1" for shape in shapes],
            "": differing["status"],
            "max |difference|": differing["max_abs"],
            "relative change": differing["relative"],
            "cosine": differing["cosine"],
            "entries changed": differing["fraction_changed"],
        },
    ).set_axis(pd.Index(differing["tensor"].tolist()))


def show_table(table: pd.DataFrame) -> Styler:
    """A table for a notebook: words to the left and whole, numbers to the right, rounded."""
    words = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    formats: dict[Any, Any] = {name: form for name, form in _FORMATS.items() if name in table.columns}
    left = [f"th.col_heading.col{place}" for place, name in enumerate(table.columns) if name in words]
    left += [f"td.col{place}" for place, name in enumerate(table.columns) if name in words]
    style = table.style.format(formats, na_rep="–", escape="html").format_index(escape="html")
    style = style.format_index(escape="html", axis="columns")
    return style.set_table_styles(
        [{"selector": selector, "props": "text-align: left"} for selector in ["th.row_heading", *left]]
    )


def _facts(card: ModelCard) -> dict[str, str]:
    """What a card says, in words; what does not apply is left out."""
    facts = {"kind": card.kind, "architecture": card.architecture}
    if card.parameters is not None:
        facts["parameters"] = f"{card.parameters:,}"
    if card.files:
        facts["size on disk"] = f"{sum(file['bytes'] for file in card.files) / 1e6:.2f} MB"
    if card.sample_rate is not None:
        facts["sample rate"] = f"{card.sample_rate} Hz"
    if card.chunk_duration is not None and card.chunk_step is not None:
        facts["chunk"] = f"{card.chunk_duration:g} s, one every {card.chunk_step:g} s"
    if card.frames_per_chunk is not None:
        facts["frames per chunk"] = str(card.frames_per_chunk)
    if card.frame_duration is not None and card.frame_step is not None:
        step = f"{1000 * card.frame_step:g} ms"
        facts["receptive field"] = f"{1000 * card.frame_duration:g} ms, one frame every {step}"
    if card.powerset:
        largest = max(len(members) for members in card.powerset)
        facts["powerset"] = (
            f"{len(card.powerset)} classes: {card.num_speakers} local speakers, at most {largest} at once"
        )
    if card.embedding_dimension is not None:
        facts["embedding"] = f"{card.embedding_dimension} values"
    facts["shortest input"] = f"{card.min_num_samples} sample{'s' if card.min_num_samples != 1 else ''}"
    if card.layer_weights:
        facts["WavLM layers summed"] = str(len(card.layer_weights))
    if card.graph is not None:
        numbers = next(iter(card.graph.weight_types), "no")  # the most frequent format comes first
        facts["ONNX"] = f"opset {card.graph.opset}, {card.graph.num_nodes} nodes, {numbers} weights"
    if card.recordings is not None:
        facts["recordings"] = str(card.recordings)
    return facts
