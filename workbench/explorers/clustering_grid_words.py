"""What the clustering grid says in words, live and in the page without a kernel."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.explorers.clustering_grid_study import Found, GridStudy
from workbench.plots import theme
from workbench.plots.grid_measures import jer_of_cells
from workbench.plots.words import convention, count_of, percent
from workbench.sweeps import SweepSettings
from workbench.tuning.cells import format_value
from workbench.tuning.thresholds import describe_parameter
from workbench.tuning.warnings import Notice
from workbench.tuning.words import points

THRESHOLDS = ("ahc_threshold",)
"""Parameters that are distances of unit vectors."""


def cell_name(values: dict[str, Any], base: SweepSettings) -> str:
    """`Fa 0.07 · Fb 0.8 · ahc_threshold 0.60 (distance; cosine similarity 0.82)`."""
    criterion = str(values.get("ahc_criterion", base.value_of("ahc_criterion") or "distance"))
    return " · ".join(
        f"{name} {describe_parameter(name, value, ahc_criterion=criterion)}" for name, value in values.items()
    )


def hover_texts(found: Found, uris: Sequence[str]) -> list[str]:
    """What is said of every cell when the mouse is over it."""
    table, choice = found.table, found.choice
    rows = [table.uris.index(uri) for uri in uris]
    total = table.total[rows].sum()
    kinds = {kind: getattr(table, kind)[rows].sum(axis=0) for kind in theme.ERRORS}
    stuck = (~table.converged[rows]).sum(axis=0)
    sizes = found.plateaus["region_cells"].to_numpy()
    jer = jer_of_cells(table, rows)
    texts = []
    for cell in range(len(table)):
        errors = {kind: 100 * seconds[cell] / total if total else math.nan for kind, seconds in kinds.items()}
        parts = ", ".join(f"{theme.ERRORS[kind].name} {value:.1f}" for kind, value in errors.items())
        counts = "/".join(str(table.num_speakers[row, cell]) for row in rows[:12])
        true = "/".join(str(table.num_reference_speakers[row]) for row in rows[:12])
        lines = [
            "<br>".join(f"{name} {format_value(value)}" for name, value in table.values(cell).items()),
            f"<b>DER {sum(errors.values()):.1f} %</b> ({parts})",
            f"speakers {counts}{' …' if len(rows) > 12 else ''} (true {true})",
        ]
        if not math.isnan(jer[cell]):  # earlier results do not hold it
            lines.insert(2, f"JER {percent(jer[cell])}")
        if len(uris) == len(table.uris) and cell != choice.best:
            lines.append(f"p against the best {choice.p_worse[cell]:.2g}")
        if sizes[cell] > 1:
            lines.append(f"one of {sizes[cell]} neighbours with the same output")
        if stuck[cell]:
            lines.append(f"× not converged on {count_of(int(stuck[cell]), 'recording')}")
        texts.append("<br>".join(lines))
    return texts


def verdict_html(found: Found) -> str:
    """The verdict in sentences, and the warnings below it."""
    lines = [html.escape(found.verdict)]
    return f'<div class="wb-tuning">{"".join(lines)}</div>'


def notices_html(notices: Sequence[Notice]) -> str:
    """Warnings, folded where there are more than two."""
    if not notices:
        return ""
    items = [f"<li>{html.escape(notice.text)}</li>" for notice in notices]
    head = f"<summary>{count_of(len(items), 'remark')} on this sweep</summary>"
    return f'<details class="wb-notices">{head}<ul>{"".join(items)}</ul></details>'


def cell_html(study: GridStudy, cell: int, uris: Sequence[str]) -> str:
    """The selected cell: its parameters, its DER on the recordings shown, and the default's."""
    table = study.found.table
    rows = [table.uris.index(uri) for uri in uris]
    total = table.total[rows].sum()
    kinds = {kind: getattr(table, kind)[rows, cell].sum() for kind in theme.ERRORS}
    der = sum(kinds.values()) / total if total else math.nan
    default = study.found.default_table.loc[list(uris)]
    before = default[list(theme.ERRORS)].to_numpy().sum() / total if total else math.nan
    chips = ", ".join(
        f'<span class="wb-chip" style="background:{theme.ERRORS[kind].color}"></span>'
        f"{theme.ERRORS[kind].name} {100 * seconds / total if total else math.nan:.1f}"
        for kind, seconds in kinds.items()
    )
    pooled = f"{len(uris)} pooled" if len(uris) > 1 else "1 recording"
    name = html.escape(cell_name(table.values(cell), study.base))
    scoring = convention(study.scoring.collar, study.scoring.skip_overlap)
    return (
        f'<div class="wb-head"><span class="wb-der">DER {percent(der)}</span>'
        f'<span class="wb-facts">({chips}) · default {points(before)} · '
        f"<b>{100 * (der - before):+.1f} points</b></span>"
        f'<span class="wb-convention">{scoring} · {pooled}</span></div>'
        f'<div class="wb-about">This cell: {name}</div>'
    )


def recording_rows(study: GridStudy, cell: int, uris: Sequence[str]) -> dict[str, Any]:
    """Columns of the table that `plots.grid` draws, one row per recording."""
    found = study.found
    table, default = found.table, found.default_table
    rows = np.array([table.uris.index(uri) for uri in uris])
    total = np.where(table.total[rows] > 0, table.total[rows], np.nan)
    own = found.choice.per_recording.set_index("uri")["der_own"]
    columns: dict[str, Any] = {"uri": list(uris)}
    columns |= {kind: 100 * getattr(table, kind)[rows, cell] / total for kind in theme.ERRORS}
    columns["der_default"] = 100 * default.loc[list(uris), "der"].to_numpy(dtype=float)
    columns["der_own"] = 100 * own.loc[list(uris)].to_numpy(dtype=float)
    columns["num_speakers"] = table.num_speakers[rows, cell]
    columns["num_speakers_default"] = default.loc[list(uris), "num_speakers"].to_numpy()
    columns["num_reference_speakers"] = table.num_reference_speakers[rows]
    return columns
