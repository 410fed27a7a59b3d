"""The one place where colours, fonts and spacings are decided.

Reference speakers wear the colours of Okabe and Ito ("Color Universal Design", 2008) in their
order, black left out because it vanishes on a dark page. Errors always look the same: missed amber,
false alarm blue, confusion vermilion. Nothing is said by colour alone: rows, hatches or words
repeat it. Every neutral is readable on white and on JupyterLab's dark theme.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

FONT = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
TEXT = "#7d8590"  # contrast 3.8 on white, 5.0 on black
MUTED = "rgba(125, 133, 144, 0.75)"
GRID = "rgba(125, 133, 144, 0.18)"
FRAME = "rgba(125, 133, 144, 0.35)"
WAVEFORM = "#8a94a3"
SELECTION = "rgba(125, 133, 144, 0.22)"

SPEAKERS = (
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#009E73",  # bluish green
    "#F0E442",  # yellow
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#CC79A7",  # reddish purple
)
SPEAKER_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
UNMATCHED = "#9aa1ab"
"""A hypothesis speaker without a reference speaker; always drawn with `UNMATCHED_HATCH` as well."""
UNMATCHED_HATCH = "/"

BASELINE = {"dash": "solid", "width": 2.0}
CANDIDATE = {"dash": "dash", "width": 2.0}


@dataclass(frozen=True, kw_only=True)
class ErrorStyle:
    """How one kind of error looks, wherever it is shown."""

    name: str  # as written for people
    color: str
    hatch: str  # plotly's pattern shape


ERRORS: dict[str, ErrorStyle] = {
    "missed": ErrorStyle(name="missed", color="#FFB000", hatch="/"),
    "false_alarm": ErrorStyle(name="false alarm", color="#4C86F0", hatch="\\"),
    "confusion": ErrorStyle(name="confusion", color="#E8502A", hatch="x"),
}

CHANGES: dict[str, ErrorStyle] = {  # between two systems
    "fixed": ErrorStyle(name="fixed", color="#009E73", hatch=""),
    "broken": ErrorStyle(name="broken", color="#CC79A7", hatch="x"),
}

KINDS = ERRORS | CHANGES


@dataclass(frozen=True, kw_only=True)
class FlipStyle:
    """How a flip looks: lightness and height both say how close the call was."""

    name: str
    color: str
    symbol: str


FLIPS: dict[str, FlipStyle] = {
    "near_tie": FlipStyle(name="near-tie", color="#C2A5DC", symbol="circle-open"),
    "real": FlipStyle(name="real", color="#8E44C9", symbol="diamond"),
}
BOUND = "#E8502A"
"""A limit that a value must not cross: the bound of margins, a tolerance."""


@dataclass(frozen=True, kw_only=True)
class StatusStyle:
    """How one outcome of a comparison looks."""

    name: str
    color: str
    mark: str


STATUSES: dict[str, StatusStyle] = {
    "same": StatusStyle(name="exactly the same", color="#009E73", mark="="),
    "within": StatusStyle(name="within the tolerance", color="#E0A100", mark="≈"),
    "differs": StatusStyle(name="differs", color="#D6421C", mark="✗"),
    "absent": StatusStyle(name="not on both sides", color="#9aa1ab", mark="·"),
}

WIDTH = 1036  # px: beside the file browser in a window of 1500 px without scrolling sideways
MARGIN = {"l": 104, "r": 14, "t": 24, "b": 44}
ROW = 19  # px, one speaker
LANE_GAP = 31  # px between two lanes, the title of the lower one included


@dataclass(frozen=True, kw_only=True)
class SpeakerStyle:
    """How one speaker looks in every lane, map and table."""

    color: str
    hatch: str = ""
    symbol: str = "circle"


def reference_styles(speakers: Iterable[Hashable]) -> dict[Hashable, SpeakerStyle]:
    """One fixed style per reference speaker, in the order given; from the eighth on a hatch tells them apart.

    Examples
    --------
    >>> reference_styles(["anna", "bert"])["bert"].color
    '#56B4E9'
    """
    styles = {}
    for number, speaker in enumerate(speakers):
        round_, place = divmod(number, len(SPEAKERS))
        styles[speaker] = SpeakerStyle(
            color=SPEAKERS[place],
            hatch=("", ".", "-", "|", "+")[round_ % 5],
            symbol=SPEAKER_SYMBOLS[number % len(SPEAKER_SYMBOLS)],
        )
    return styles


def hypothesis_styles(
    speakers: Iterable[Hashable],
    matching: Mapping[Hashable, Hashable],
    reference: Mapping[Hashable, SpeakerStyle],
) -> dict[Hashable, SpeakerStyle]:
    """Styles of hypothesis speakers: the colour of the matched reference speaker, else grey and hatched.

    Parameters
    ----------
    speakers : labels of the hypothesis
    matching : hypothesis label -> reference label, as `timeline.match_speakers` returns it
    reference : styles of the reference speakers
        Empty where there is no reference: then there is nothing to be matched to, and the
        hypothesis wears the colours itself.
    """
    speakers = list(speakers)
    if not reference:
        return reference_styles(speakers)
    unmatched = SpeakerStyle(color=UNMATCHED, hatch=UNMATCHED_HATCH, symbol="x")
    return {speaker: reference.get(matching.get(speaker), unmatched) for speaker in speakers}


def hatched(shapes: str | Sequence[str]) -> dict[str, object]:
    """Pattern of bars: lines drawn over the bar's own colour, so that a thin bar keeps it."""
    return {
        "shape": shapes,
        "fillmode": "overlay",
        "fgcolor": "rgba(0,0,0,0.42)",
        "size": 5,
        "solidity": 0.22,
    }


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of `#rrggbb`."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def template() -> go.layout.Template:
    """Layout shared by all figures: transparent ground, quiet grid, one font."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": FRAME,
        "tickcolor": FRAME,
        "tickfont": {"size": 11, "color": TEXT},
        "title": {"font": {"size": 11, "color": TEXT}, "standoff": 8},
        "automargin": False,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": TEXT},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": MARGIN,
            "hoverlabel": {
                "font": {"family": FONT, "size": 12, "color": "#f4f6f8"},
                "bgcolor": "#252a31",
                "bordercolor": "#3c434d",
                "align": "left",
            },
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": TEXT},
            "showlegend": False,
            "xaxis": axis,
            "yaxis": axis,
            "annotationdefaults": {"font": {"size": 11, "color": TEXT}, "showarrow": False},
        }
    )


def config() -> dict[str, object]:
    """Behaviour in the browser: the wheel zooms, no logo, no button that leads elsewhere."""
    return {
        "scrollZoom": True,
        "displaylogo": False,
        "displayModeBar": False,
        "responsive": False,
        "showTips": False,
        "doubleClick": "autosize",  # "reset" would go back to the recording that was drawn first
        "doubleClickDelay": 350,
    }


SEQUENTIAL = ("#FDE737", "#B8DE29", "#55C667", "#20A387", "#2D708E", "#404788", "#440F54")
"""From good (bright) to bad (dark), even steps of lightness: viridis (van der Walt and Smith, 2015) reversed.

Values of a grid take it where smaller is better; reversed where larger is, or where neither is.
"""
ON_CELLS = "#12161b"  # lines and marks over `SEQUENTIAL`
BEHIND_MARKS = "#ffffff"  # inside of marks
ON_DEFAULT = "rgba(255, 255, 255, 0.4)"  # the same where a value has to stay readable


def sequential(reverse: bool = False) -> list[list[object]]:
    """`SEQUENTIAL` as a colour scale of plotly's."""
    colors = SEQUENTIAL[::-1] if reverse else SEQUENTIAL
    return [[place / (len(colors) - 1), color] for place, color in enumerate(colors)]
