"""What the breakdown says in words, live and in the page without a kernel."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import pandas as pd

from workbench.plots import theme
from workbench.plots.words import convention, count_of, percent, rates
from workbench.review import ScoringParams, SystemScore
from workbench.scoring.comparison import SystemComparison

CONTEXT = 1.0  # s played before and after an error


def systems_html(scores: Sequence[SystemScore], params: ScoringParams) -> str:
    """Pooled DER of every system with its interval, its components and its convention."""
    cells = []
    for letter, score in zip("AB", scores, strict=False):
        chips = ", ".join(
            f'<span class="wb-chip" style="background:{theme.ERRORS[kind].color}"></span>'
            f"{theme.ERRORS[kind].name} {100 * rate:.1f}"
            for kind, rate in rates(score.counts).items()
        )
        cells.append(
            f'<span class="wb-name">{letter} · {html.escape(score.system)}</span>'
            f'<span class="wb-der">DER {percent(score.counts.der)}</span>'
            f'<span>({chips}) <span class="wb-ci">{interval_words(score)}</span></span>'
        )
    pooled = f"{count_of(len(scores[0].recordings), 'recording')} pooled"
    text = f"{convention(params.collar, params.skip_overlap)} · {pooled}"
    return (
        f'<div class="wb-systems">{"".join(cells)}</div><div class="wb-head">'
        f'<span class="wb-convention" style="margin-left:0">{text}</span></div>'
    )


def interval_words(score: SystemScore) -> str:
    """`95 % CI 16.1–22.0 %`, or why there is none."""
    found = score.interval
    noun, *rest = score.unit.split(" ", 1)
    units = " ".join([count_of(found.num_units, noun), *rest])
    if math.isnan(found.low):
        return f"no confidence interval from {units}"
    low, high = (f"{100 * max(value, 0.0):.1f}" for value in (found.low, found.high))
    return f"{100 * found.level:g} % CI {low}–{high} % ({units})"


def verdict_html(comparison: SystemComparison | None, remarks: Sequence[str] = ()) -> str:
    """B against A in one sentence, and what is worth knowing about the files."""
    lines = [] if comparison is None else [f"<b>B against A:</b> {html.escape(comparison.words)}"]
    lines += [f'<span class="wb-ci">{html.escape(remark)}</span>' for remark in remarks[:3]]
    if len(remarks) > 3:
        lines.append(
            f'<span class="wb-ci">and {len(remarks) - 3} more remarks: <code>.review.remarks</code></span>'
        )
    return f'<div class="wb-verdict">{"<br>".join(lines)}</div>' if lines else ""


def order_recordings(scores: Sequence[SystemScore], by: str) -> list[str]:
    """Recordings in the order that a reader chose.

    Parameters
    ----------
    by : `worst` (DER of A), `seconds` (of error of A), `better` and `worse` (B less A), or `name`
    """
    table = scores[0].recordings
    if by == "name":
        return sorted(table.index)
    if by == "seconds":
        key = -table["errors"]
    elif by == "worst" or len(scores) < 2:
        key = -table["der"]
    else:
        change = scores[1].recordings["der"] - table["der"]
        key = change if by == "better" else -change
    order: pd.Series = key.sort_values(kind="stable", na_position="last")
    return list(order.index)
