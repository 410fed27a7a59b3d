"""What the live screen says: the score, the parameters, how VBx went."""

from __future__ import annotations

import math
from collections.abc import Mapping

from workbench.plots import theme
from workbench.plots.words import convention, count_of, percent, rates
from workbench.sweeps import LiveCell
from workbench.tuning.thresholds import describe_parameter, describe_threshold


def headline(cell: LiveCell, num_reference_speakers: int, collar: float, skip_overlap: bool) -> str:
    """DER and its parts, JER, speakers found and true, and how errors are counted."""
    if cell.counts is None or not cell.counts.total:
        return '<div class="wb-head"><span class="wb-der">DER –</span><span class="wb-jer">JER –</span></div>'
    jer = math.nan if cell.speakers is None else cell.speakers.jer
    chips = ", ".join(
        f'<span class="wb-chip" style="background:{theme.ERRORS[kind].color}"></span>'
        f"{theme.ERRORS[kind].name} {100 * rate:.1f}"
        for kind, rate in rates(cell.counts).items()
    )
    how = convention(collar, skip_overlap)
    shortly = how.replace(f"{collar:g} s each side", f"±{collar:g} s")  # one line has to hold it all
    return (
        f'<div class="wb-head"><span class="wb-der">DER {percent(cell.counts.der)}</span>'
        f'<span class="wb-jer">JER {"–" if math.isnan(jer) else percent(jer)}</span>'
        f'<span class="wb-facts">({chips}) · <b>{cell.num_speakers}</b> speakers '
        f"(reference {num_reference_speakers})</span>"
        f'<span class="wb-convention" title="{how}">{shortly}</span></div>'
    )


def about(
    values: Mapping[str, float],
    cell: LiveCell,
    *,
    threshold: str,
    num_hidden: int,
    is_exact: bool,
    is_partial: bool,
) -> str:
    """The parameters, the course of VBx, and what is missing on the screen.

    Parameters
    ----------
    values : of the sliders
    threshold : in words
    num_hidden : speakers without a row
    is_exact : whether the cell was computed in the precision that was asked for
    is_partial : whether the DER leaves something out, which the JER, dscore's, does not
    """
    parts = [f"Threshold {threshold}"]
    parts += [f"{name} {value:.3g}" for name, value in values.items() if not name.endswith("threshold")]
    if len(cell.elbo):
        last = "stopped by itself" if cell.converged else "<b>× hit the limit of iterations</b>"
        parts.append(f"VBx: {count_of(len(cell.elbo), 'iteration')}, {last}")
    if num_hidden > 0:
        parts.append(f"{num_hidden} more speakers not shown")
    if not is_exact:
        parts.append("single precision until it rests")
    if is_partial:
        parts.append("JER leaves nothing out")
    return f'<div class="wb-about">{" · ".join(parts)}</div>'


def threshold_in_words(value: float, *, criterion: str, calibrated: float | None) -> str:
    """A threshold in its spaces.

    Parameters
    ----------
    criterion : what it is compared with
    calibrated : similarity that it is relative to, or None

    Examples
    --------
    >>> threshold_in_words(0.6, criterion="distance", calibrated=None)
    '0.60 (distance; cosine similarity 0.82)'
    >>> threshold_in_words(-0.015, criterion="distance", calibrated=0.335)
    '0.335 − 0.015 = 0.320 (cosine similarity; distance 1.166)'
    """
    if calibrated is None:
        return describe_parameter("ahc_threshold", value, ahc_criterion=criterion)
    similarity = calibrated + value
    total = f"{similarity:.3f} (beyond what similarities can be)"
    if abs(similarity) <= 1:
        total = describe_threshold(similarity, "cosine_similarity", decimals=3)
    return f"{calibrated:.3f} {'−' if value < 0 else '+'} {abs(value):.3f} = {total}"


def at_work(threshold: float, num_clusters: int) -> str:
    """What takes so long."""
    return (
        f'<div class="wb-about">Threshold {threshold:.3f} leaves {count_of(num_clusters, "cluster")}: '
        "VBx is at work on them …</div>"
    )
