"""What the live screen says: the score, the parameters, how VBx went."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from workbench.plots import theme
from workbench.plots.words import convention, count_of, percent, rates
from workbench.sweeps import LiveCell
from workbench.tuning.thresholds import describe_parameter


def headline(cell: LiveCell, num_reference_speakers: int, of: str) -> str:
    """DER and its parts, speakers found and true; `of` says what of and how errors are counted."""
    if cell.counts is None or not cell.counts.total:
        return '<div class="wb-head"><span class="wb-der">DER –</span></div>'
    chips = ", ".join(
        f'<span class="wb-chip" style="background:{theme.ERRORS[kind].color}"></span>'
        f"{theme.ERRORS[kind].name} {100 * rate:.1f}"
        for kind, rate in rates(cell.counts).items()
    )
    return (
        f'<div class="wb-head"><span class="wb-der">DER {percent(cell.counts.der)}</span>'
        f'<span class="wb-facts">({chips}) · <b>{cell.num_speakers}</b> speakers '
        f'(reference {num_reference_speakers})</span><span class="wb-convention">{of}</span></div>'
    )


def scored_how(collar: float, skip_overlap: bool, uri: str) -> str:
    """Convention of the score, and the recording, as HTML."""
    return f"{convention(collar, skip_overlap)} · {escape(uri)}"


def about(
    values: Mapping[str, float], cell: LiveCell, *, criterion: str, num_hidden: int, is_exact: bool
) -> str:
    """The parameters, the course of VBx, and what is missing on the screen.

    Parameters
    ----------
    values : of the sliders
    criterion : what the threshold is compared with
    num_hidden : speakers without a row
    is_exact : whether the cell was computed in the precision that was asked for
    """
    threshold = describe_parameter("ahc_threshold", values["ahc_threshold"], ahc_criterion=criterion)
    parts = [f"Threshold {threshold}"]
    parts += [f"{name} {value:.3g}" for name, value in values.items() if name[0] == "F"]
    if len(cell.elbo):
        last = "stopped by itself" if cell.converged else "<b>× hit the limit of iterations</b>"
        parts.append(f"VBx: {count_of(len(cell.elbo), 'iteration')}, {last}")
    if num_hidden > 0:
        parts.append(f"{num_hidden} more speakers not shown")
    if not is_exact:
        parts.append("single precision until it rests")
    return f'<div class="wb-about">{" · ".join(parts)}</div>'


def at_work(threshold: float, num_clusters: int) -> str:
    """What takes so long."""
    return (
        f'<div class="wb-about">Threshold {threshold:.3f} leaves {count_of(num_clusters, "cluster")}: '
        "VBx is at work on them …</div>"
    )
