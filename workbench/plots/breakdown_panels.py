"""The overview of a breakdown: recordings, who was taken for whom, and the parts that errors come from."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.theme import SpeakerStyle
from workbench.plots.words import percent, shortened, speaker_name
from workbench.review import SystemScore

SYSTEMS = ("A", "B")
# Where the bars of A and of B lie within their row, and how thick they are: the first is what is looked at.
_PLACE = {"A": (-0.13, 0.46), "B": (0.27, 0.20)}
_OPACITY = {"A": 1.0, "B": 0.62}
_SHORT = {"no turn (false alarm)": "no turn", "nobody speaks": "nobody", "overlap": "overlapped"}
CORRECT = theme.WAVEFORM
MOST_SPEAKERS = 12  # rows that can be read


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A table of `scoring.breakdown` per system, its rows named."""

    by: str
    names: list[str]
    tables: list[pd.DataFrame]
    note: str = ""  # what the parts are parts of

    @classmethod
    def of(cls, by: str, tables: Sequence[pd.DataFrame], note: str = "") -> Parts:
        """Tables of several systems; their rows are the same but for stretches of time at the end.

        Of the speakers of many recordings those with the most errors are kept.
        """
        column = "speaker" if by == "speaker" else str(tables[0].columns[0])
        if by == "speaker" and len(tables[0]) > MOST_SPEAKERS:
            worst = tables[0]["errors"].sort_values(ascending=False, kind="stable").index[:MOST_SPEAKERS]
            tables = [table.loc[worst] for table in tables]
            note = ", ".join(filter(None, [note, f"worst {MOST_SPEAKERS}"]))
        longest = max(tables, key=len)
        names = ["nobody" if pd.isna(name) else str(name) for name in longest[column]]
        if by == "speaker" and longest["uri"].nunique() > 1:  # names are those of a recording
            names = [f"{name} · {uri}" for name, uri in zip(names, longest["uri"], strict=True)]
        return cls(by=by, names=names, tables=list(tables), note=note)

    @property
    def labels(self) -> list[str]:
        """Names that fit beside a bar."""
        return [
            shortened(_SHORT.get(name, name).replace("-", "–").replace(">=", "≥"), 14) for name in self.names
        ]


def recording_bars(scores: Sequence[SystemScore], order: Sequence[str]) -> list[go.Bar]:
    """DER of every recording by kind of error, for A and, thinner, for B."""
    bars = []
    for number, system in enumerate(SYSTEMS):
        score = scores[number] if number < len(scores) else None
        table = None if score is None else score.recordings.loc[list(order)]
        for kind in theme.ERRORS:
            seconds, totals = (
                np.zeros(0) if table is None else table[column].to_numpy(dtype=np.float64)
                for column in (kind, "total")
            )
            values = 100 * seconds / np.where(totals > 0, totals, np.inf)
            name = "" if score is None else score.system
            hover = [
                f"<b>{uri}</b> · {system}: {name}<br>{theme.ERRORS[kind].name} {value:.1f} % · {second:.1f} s"
                for uri, value, second in zip(order, values, seconds, strict=False)
            ]
            bars.append(_bars(f"recordings {system} {kind}", system, kind, values, hover, "x2", "y6"))
    return bars


def recording_texts(scores: Sequence[SystemScore], order: Sequence[str]) -> go.Scatter:
    """DER at the end of the bars, of A and of B."""
    tables = [score.recordings.loc[list(order)] for score in scores]
    ends = np.nan_to_num(np.array([100 * table["der"].to_numpy(dtype=float) for table in tables])).max(axis=0)
    texts = [_rates([table["der"].iloc[row] for table in tables]) for row in range(len(order))]
    return _texts("recordings rates", ends, texts, "x2", "y6")


def part_bars(parts: Parts) -> list[go.Bar]:
    """Seconds of error in every part, by kind, for A and, thinner, for B."""
    bars = []
    for number, system in enumerate(SYSTEMS):
        table = parts.tables[number] if number < len(parts.tables) else None
        for kind in theme.ERRORS:
            values = np.zeros(0) if table is None else table[kind].to_numpy(dtype=np.float64)
            hover = [
                f"<b>{name}</b> · {system}<br>{theme.ERRORS[kind].name} {value:.1f} s of {total:.1f} s speech"
                for name, value, total in zip(
                    parts.names, values, [] if table is None else table["total"], strict=False
                )
            ]
            bars.append(_bars(f"parts {system} {kind}", system, kind, values, hover, "x4", "y8"))
    return bars


def part_texts(parts: Parts) -> go.Scatter:
    """Error rate of every part at the end of its bars."""
    ends = np.zeros(len(parts.names))
    for table in parts.tables:
        ends[: len(table)] = np.maximum(ends[: len(table)], table["errors"].to_numpy(dtype=float))
    texts = [
        _rates([table["der"].iloc[row] for table in parts.tables if row < len(table)])
        for row in range(len(parts.names))
    ]
    return _texts("parts rates", ends, texts, "x4", "y8")


def confusion_cells(confusion: pd.DataFrame, matching: Mapping[Hashable, Hashable]) -> go.Heatmap:
    """Who was taken for whom, in seconds: strength says how long, colour which kind of error.

    Parameters
    ----------
    confusion : as `scoring.breakdown.confusion_matrix` returns it
    matching : hypothesis -> reference speaker
    """
    seconds = confusion.to_numpy(dtype=np.float64)
    num_ref, num_hyp = len(seconds) - 1, seconds.shape[1] - 1
    kind = np.full(seconds.shape, 3)  # confusion
    kind[:, num_hyp], kind[num_ref, :] = 1, 2
    for row, reference in enumerate(confusion.index[:num_ref]):
        for column, hypothesis in enumerate(confusion.columns[:num_hyp]):
            if matching.get(hypothesis) == reference:
                kind[row, column] = 0
    strength = np.zeros_like(seconds)
    for chosen in (kind == 0, kind > 0):  # what is correct would outshine every error
        most = seconds[chosen].max(initial=0.0)
        strength[chosen] = np.sqrt(seconds[chosen] / most) if most > 0 else 0.0
    shown = seconds >= 0.05
    texts = [
        [(f"{value:.0f}" if value >= 9.95 else f"{value:.1f}") if seen else "" for value, seen in row]
        for row in (zip(*rows, strict=True) for rows in zip(seconds, shown, strict=True))
    ]
    return go.Heatmap(
        name="confusion",
        x=list(range(num_hyp + 1)),
        y=list(range(num_ref + 1)),
        z=np.where(
            shown, (kind + 0.02 + 0.96 * strength).astype(object), np.array(None)
        ).tolist(),  # NaN is no JSON
        text=texts,
        texttemplate="%{text}",
        textfont={"size": 11, "color": theme.TEXT},
        customdata=[
            [
                _cell_words(reference, hypothesis, code)
                for hypothesis, code in zip(confusion.columns, row, strict=True)
            ]
            for reference, row in zip(confusion.index, kind, strict=True)
        ],
        hovertemplate="%{customdata}<br>%{text} s<extra></extra>",
        hoverongaps=False,
        colorscale=_CELL_COLORS,
        zmin=0,
        zmax=4,
        showscale=False,
        xgap=2,
        ygap=2,
        xaxis="x3",
        yaxis="y7",
    )


def _cell_words(reference: Hashable, hypothesis: Hashable, code: int) -> str:
    name = speaker_name(hypothesis)
    return (
        f"<b>{reference}</b> found as {name}",
        f"<b>{reference}</b> missed",
        f"false alarm <b>{name}</b>",
        f"<b>{reference}</b> taken for {name}",
    )[code]


def _shades(color: str) -> list[str]:
    red, green, blue = theme.rgb(color)
    return [f"rgba({red},{green},{blue},{opacity})" for opacity in (0.10, 0.90)]


_CELL_COLORS = [
    [(number + end) / 4, shade]
    for number, color in enumerate([CORRECT, *(style.color for style in theme.ERRORS.values())])
    for end, shade in enumerate(_shades(color))
]


def arranged(
    confusion: pd.DataFrame, reference: Iterable[Hashable], hypothesis: Iterable[Hashable]
) -> pd.DataFrame:
    """`confusion` in the order of the lanes, so that what is correct lies on the diagonal."""
    rows = [speaker for speaker in reference if speaker in confusion.index]
    columns = [speaker for speaker in hypothesis if speaker in confusion.columns]
    rows += [name for name in confusion.index if name not in rows]
    columns += [name for name in confusion.columns if name not in columns]
    return confusion.loc[rows, columns]


def confusion_axes(
    confusion: pd.DataFrame,
    reference: Mapping[Hashable, SpeakerStyle],
    hypothesis: Mapping[Hashable, SpeakerStyle],
) -> tuple[dict[str, object], dict[str, object]]:
    """Axes of `confusion_cells`: speakers with their colours, nobody and missed at the end."""
    columns, rows = list(confusion.columns), list(confusion.index)
    return (
        {
            "range": [-0.5, len(columns) - 0.5],
            "tickmode": "array",
            "tickvals": list(range(len(columns))),
            "ticktext": [_labelled(name, hypothesis, 7, below=True) for name in columns],
            "tickangle": 0 if len(columns) <= 6 else -45,
        },
        {
            "range": [len(rows) - 0.5, -0.5],
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": [_labelled(name, reference, 11) for name in rows],
        },
    )


def _labelled(name: Hashable, styles: Mapping[Hashable, SpeakerStyle], room: int, below: bool = False) -> str:
    """A speaker beside a square in their colour, or `below` it."""
    if name not in styles:
        return f"<i>{str(name).strip('()')}</i>"
    square, text = f"<span style='color:{styles[name].color}'>■</span>", shortened(speaker_name(name), room)
    return f"{square}<br>{text}" if below else f"{text} {square}"


def _bars(
    name: str, system: str, kind: str, values: np.ndarray, hover: list[str], xaxis: str, yaxis: str
) -> go.Bar:
    shift, width = _PLACE[system]
    style = theme.ERRORS[kind]
    return go.Bar(
        name=name,
        orientation="h",
        x=values,
        y=np.arange(len(values)) + shift,
        width=width,
        xaxis=xaxis,
        yaxis=yaxis,
        opacity=_OPACITY[system],
        marker={"color": style.color, "line": {"width": 0}, "pattern": theme.hatched(style.hatch)},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _texts(name: str, ends: np.ndarray, texts: list[str], xaxis: str, yaxis: str) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=ends,
        y=np.arange(len(ends), dtype=np.float64),
        text=texts,
        mode="text",
        textposition="middle right",
        textfont={"size": 11, "color": theme.TEXT},
        cliponaxis=False,
        hoverinfo="skip",
        xaxis=xaxis,
        yaxis=yaxis,
    )


def _rates(rates: Sequence[float]) -> str:
    """`31.0 %`, of two systems `31.0 → 28.4 %`; nothing where there is no speech."""
    known = [rate for rate in rates if not pd.isna(rate)]
    if not known:
        return ""
    texts = [percent(rate) for rate in known]
    texts[:-1] = [text.rstrip(" %\N{NO-BREAK SPACE}") for text in texts[:-1]]
    return " " + " → ".join(texts)
