"""The summary of a tuning as one small HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.files import atomic_write
from workbench.plots.tuning_svg import (
    BEST_MARK,
    DEFAULT_MARK,
    STABLE_MARK,
    STOPPED_MARK,
    curve_svg,
    heatmap_svg,
    pairs_svg,
)
from workbench.tuning.cells import format_value, same_value
from workbench.tuning.effects import EffectCard
from workbench.tuning.lattice import Lattice
from workbench.tuning.summary import (
    NEEDS_GRID,
    TuningSummary,
    manifest_lines,
    methods,
    numbers_table,
    parameters_table,
    recordings_table,
    stability_table,
    summary_markdown,
)

MOST_DRAWN = 100
"""Values of one parameter that a heatmap draws, and recordings that are drawn one by one."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1040px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 24px; } h2 { font-size: 17px; margin-top: 32px; }
.verdict { padding: 12px 16px; border-left: 4px solid #0072b2; background: rgba(125,133,144,.12); }
.warning { padding: 4px 12px; border-left: 4px solid #e69f00; margin: 6px 0; }
table { border-collapse: collapse; font-size: 13px; } td, th { padding: 3px 10px; text-align: left;
  border-bottom: 1px solid rgba(125,133,144,.3); } td { font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } .cards { display: flex; flex-wrap: wrap; gap: 16px; }
.card { width: 510px; max-width: 100%; } .card p { font-size: 13px; margin: 4px 0; }
small, .note { color: #7d8590; font-size: 13px; } li { font-size: 13px; overflow-wrap: anywhere; }
"""


def write_summary(out: str | os.PathLike[str], summary: TuningSummary) -> tuple[Path, Path]:
    """Write `summary.md` and `summary.html` into the folder `out`."""
    texts = {"summary.md": summary_markdown(summary), "summary.html": summary_html(summary)}
    for name, text in texts.items():
        with atomic_write(Path(out) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return Path(out) / "summary.md", Path(out) / "summary.html"


def summary_html(summary: TuningSummary) -> str:
    """A page of its own; below 3 MB for 10,000 cells."""
    parts = [
        f"<h1>{html.escape(summary.title)}</h1>",
        f'<p class="verdict">{html.escape(summary.verdict)}</p>',
    ]
    if summary.convention:
        parts.append(f'<p class="note">DER with {html.escape(summary.convention)}.</p>')
    parts += [f'<p class="warning">⚠ {html.escape(notice.text)}</p>' for notice in summary.notices]
    parts += [_table(numbers_table(summary)), "<h2>Parameters</h2>", _table(parameters_table(summary))]
    if grid := _heatmap(summary):
        parts += ["<h2>DER over the grid</h2>", grid]
    if summary.cards:
        cards = "".join(_card(card, summary) for card in summary.cards)
        parts.append("<h2>What each parameter does on these recordings</h2>")
        parts += [f"<p>{html.escape(NEEDS_GRID)}</p>"] if summary.is_scattered else []
        parts.append(f'<div class="cards">{cards}</div>')
    if summary.stability is not None:
        parts += ["<h2>Under noise in the embeddings</h2>", _table(stability_table(summary))]
    parts += ["<h2>Recordings</h2>", _pairs(summary), _table(recordings_table(summary))]
    parts += ["<h2>How this was computed</h2>", _list(methods(summary))]
    if files := manifest_lines(summary):
        parts += ["<h2>Inputs</h2>", _list(files)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(summary.title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _heatmap(summary: TuningSummary) -> str:
    """The two parameters with the most values, the others as in the best cell."""
    choice = summary.choice
    table = choice.table
    lattice = Lattice.of(table.cells)
    if lattice is None or len(lattice.axes) < 2:
        return ""
    order = np.argsort([-size for size in lattice.shape], kind="stable")
    y, x = (int(axis) for axis in order[:2])
    if max(lattice.shape[x], lattice.shape[y]) > MOST_DRAWN:
        return ""
    here = lattice.ranks[choice.best]
    others = [axis for axis in range(len(lattice.shape)) if axis not in (x, y)]
    on = (lattice.ranks[:, others] == here[others]).all(axis=1)
    place = (lattice.ranks[on, y], lattice.ranks[on, x])
    values = np.full((lattice.shape[y], lattice.shape[x]), np.nan)
    values[place] = 100 * table.der[on]
    hatched = np.zeros(values.shape, dtype=bool)
    hatched[place] = choice.not_worse[on]
    is_telling = not choice.not_worse[on].all()  # lines across everything only hide it
    stopped = np.zeros(values.shape, dtype=bool)
    stopped[place] = np.asarray(~table.converged.all(axis=0))[on]
    marks = [(int(column), int(row), STOPPED_MARK) for row, column in np.argwhere(stopped)]
    special = [(choice.default, DEFAULT_MARK), (choice.best, BEST_MARK)]
    if summary.stable is not None and summary.stable.cell != choice.best:
        special.insert(1, (summary.stable.cell, STABLE_MARK))
    marks += [
        (int(lattice.ranks[cell, x]), int(lattice.ranks[cell, y]), mark)
        for cell, mark in special
        if cell is not None and on[cell]
    ]
    drawn = heatmap_svg(
        values,
        [lattice.axes[x].label(rank) for rank in range(lattice.shape[x])],
        [lattice.axes[y].label(rank) for rank in range(lattice.shape[y])],
        x_title=lattice.axes[x].name,
        y_title=lattice.axes[y].name,
        marks=marks,
        hatched=hatched if is_telling else None,
    )
    fixed = ", ".join(
        f"{lattice.axes[axis].name} {lattice.axes[axis].label(int(here[axis]))}" for axis in others
    )
    note = (
        f"{DEFAULT_MARK} default, {BEST_MARK} best, {STABLE_MARK} steadiest, {STOPPED_MARK} some recording "
        f"hit the iteration cap; {'hatched' if is_telling else 'all cells'}: not significantly worse than "
        "the best; blank: not run."
    )
    if fixed:
        note += f" The other parameters as in the best cell: {fixed}."
    return f'<div class="scroll">{drawn}</div><p class="note">{html.escape(note)}</p>'


def _card(card: EffectCard, summary: TuningSummary) -> str:
    values = [format_value(value) for value in card.curve["value"]]
    choice = summary.choice
    marked = None
    if choice.default_values is not None and card.parameter in choice.default_values:
        found = np.flatnonzero(same_value(card.curve["value"], choice.default_values[card.parameter]))
        marked = int(found[0]) if len(found) else None
    speakers, der = (card.curve[name].to_numpy(dtype=float) for name in ("num_speakers", "der"))
    in_row, line = card.num_in_row, card.speakers != "unknown"
    drawings = [
        curve_svg(values, speakers, "speakers found (mean)", marked=marked, in_row=in_row, line=line),
        curve_svg(values, 100 * der, "DER (%)", color="#d55e00", marked=marked, in_row=in_row, line=line),
    ]
    held = "others at the default" if card.others == "default" else "mean over the other parameters"
    held = held if line else "others differ"
    return (
        f'<div class="card"><b>{html.escape(card.parameter)}</b> <small>{held}</small><br>{"".join(drawings)}'
        f"<p>{html.escape(card.words)}</p></div>"
    )


def _pairs(summary: TuningSummary) -> str:
    rows = summary.choice.per_recording
    rows = rows.sort_values("der_best", ascending=False).head(MOST_DRAWN)
    drawn = pairs_svg(
        [str(uri) for uri in rows["uri"]],
        100 * rows["der_default"].to_numpy(dtype=float),
        100 * rows["der_best"].to_numpy(dtype=float),
    )
    return f'<div class="scroll">{drawn}</div>'


def _table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>"
        for row in table.itertuples(index=False)
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
