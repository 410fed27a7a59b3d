"""The line above a screen, live and in the page without a kernel: the same words, the same numbers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from workbench.overview import Diarization, Recording
from workbench.plots import theme
from workbench.plots.recording import NO_REFERENCE
from workbench.plots.words import clock, convention, count_of, percent, rates

PARAMETERS = {"ahc_threshold": "threshold", "Fa": "Fa", "Fb": "Fb"}
STYLE = Path(__file__).with_name("screen.css")


def headline(recording: Recording, diarization: Diarization | None) -> str:
    """Duration, number of speakers, DER with its components and its convention, on one line.

    As `3:12 · 4 speakers · DER 11.2 % (missed 4.1, false alarm 2.0, confusion 5.1) · no collar · …`.

    Parameters
    ----------
    recording : what is shown
    diarization : its hypothesis; None while there is none yet
    """
    reference = recording.reference
    parts = [clock(recording.duration)]
    if reference is not None:
        parts.append(count_of(reference["speaker"].nunique(), "speaker"))
    elif diarization is not None:
        parts.append(f"{count_of(diarization.num_speakers, 'speaker')} found")
    lead = f'<span class="wb-facts">{" · ".join(parts)} ·</span>'
    if reference is None:
        note = NO_REFERENCE
        return f'<div class="wb-head">{lead}<span class="wb-facts">{note}</span></div>'
    if diarization is None or diarization.counts is None:
        waiting = '<span class="wb-der">DER –</span>'
        return f'<div class="wb-head">{lead}{waiting}</div>'
    counts = diarization.counts
    chips = ", ".join(
        f'<span class="wb-chip" style="background:{theme.ERRORS[kind].color}"></span>'
        f"{theme.ERRORS[kind].name} {100 * rate:.1f}"
        for kind, rate in rates(counts).items()
    )
    return (
        f'<div class="wb-head">{lead}<span class="wb-der">DER {percent(counts.der)}</span>'
        f'<span class="wb-facts">({chips})</span>'
        f'<span class="wb-convention">{convention(0.0, False)}</span></div>'
    )


def facts(name: str, values: Mapping[str, float], engine: str, speakers: str) -> str:
    """Recording and parameters in words, where there are no controls to show them."""
    words = [f"{PARAMETERS[parameter]} {value:.3g}" for parameter, value in values.items()]
    text = html.escape(" · ".join([name, *words, f"engine {engine}"]))
    return f'<div class="wb-head wb-controls"><span class="wb-about">{text}</span>{speakers}</div>'


def static_page(
    lines: list[str],
    figure: go.Figure,
    title: str,
    include_plotlyjs: bool | str,
    full_html: bool,
    below: Sequence[str] = (),
) -> str:
    """Lines of text above and below a figure that still zooms and answers the mouse, without a kernel."""
    drawn = figure.to_html(
        config=theme.config(), include_plotlyjs=include_plotlyjs, full_html=False, validate=False
    )
    style = STYLE.read_text(encoding="utf-8")
    body = f'<style>{style}</style><div class="wb-screen">{"".join(lines)}{drawn}{"".join(below)}</div>'
    if not full_html:
        return body
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title></head><body>{body}</body></html>"
    )
