"""Which checkpoint: error rates of single epochs and of averages, as measured on a development set."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots import theme
from workbench.selection import MEASURES, Selection

HEIGHT = 400  # px
SINGLE_COLOR = theme.SPEAKERS[4]
AVERAGE_COLOR = theme.SPEAKERS[2]
BEST_COLOR = theme.SPEAKERS[5]
BAR = 30  # px, one model
_COMPONENTS = ("missed", "false_alarm", "confusion")


def plot_checkpoints(selection: Selection) -> go.Figure:
    """DER of every single epoch and of every average `avg:N`, side by side on one scale.

    Left against the epoch, right against the number N of averaged epochs; N = 1 is the epoch of the
    lowest validation loss, which `best` holds. The dotted line is the lowest DER of all.
    """
    table = selection.table.dropna(subset=["der"])
    singles = _numbered(table, r"epoch_(\d+)")
    averages = _numbered(table, r"avg:(\d+)")
    best = table[table["candidate"] == "best"]
    if not best.empty:
        averages = pd.concat([best.assign(number=1), averages], ignore_index=True)
    figure = make_subplots(
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=["Single epochs", "Averages of N epochs"],
    )
    for column, rows, name, color in (
        (1, singles, "single epoch", SINGLE_COLOR),
        (2, averages, "average of N epochs", AVERAGE_COLOR),
    ):
        if not rows.empty:
            figure.add_trace(_points(rows, name, color), row=1, col=column)
        wanted = rows[rows["candidate"] == selection.best]
        if not wanted.empty:
            figure.add_trace(_winner(wanted.iloc[0]), row=1, col=column)
        ticks = _ticks(rows["number"])
        figure.update_xaxes(tickvals=ticks, range=_range(rows["number"]), row=1, col=column)
    if not table.empty:
        lowest = 100 * float(table["der"].min())
        figure.add_hline(y=lowest, line={"color": BEST_COLOR, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="Epoch", row=1, col=1)
    figure.update_xaxes(title_text="N of avg:N (1: the epoch of lowest validation loss)", row=1, col=2)
    figure.update_yaxes(title_text="DER (%)", row=1, col=1)
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=HEIGHT,
        margin={"l": 64, "r": 16, "t": 56, "b": 78},
        hovermode="closest",
    )
    for title, axis in zip(figure.layout.annotations, figure.select_xaxes(), strict=False):
        title.update(x=axis.domain[0], xanchor="left", font={"size": 13, "color": theme.TEXT}, yshift=4)
    _add_convention(figure, selection)
    return figure


def plot_candidates(selection: Selection) -> go.Figure:
    """The errors of every candidate as one bar, missed, false alarm and confusion behind one another.

    For a few models that `compare_models` measured, the bar's name also says what each costs.
    """
    table = selection.table.dropna(subset=["der"]).iloc[::-1]  # the first at the top
    names = [_described(row) for row in table.to_dict("records")]
    total = np.maximum(table["total"].to_numpy(dtype=float), 1e-9)
    figure = go.Figure()
    for component in _COMPONENTS:
        style = theme.ERRORS[component]
        share = 100 * table[component].to_numpy(dtype=float) / total
        figure.add_trace(
            go.Bar(
                name=style.name,
                x=share,
                y=names,
                orientation="h",
                marker={"color": style.color, "pattern": theme.hatched(style.hatch), "line": {"width": 0}},
                hovertemplate=f"{style.name} %{{x:.2f}} %<extra>%{{y}}</extra>",
            )
        )
    der = 100 * table["der"].to_numpy(dtype=float)
    for name, value in zip(names, der, strict=True):
        figure.add_annotation(x=value, y=name, text=f"<b>{value:.1f}</b>", xanchor="left", xshift=6)
    figure.update_layout(
        template=theme.template(),
        barmode="stack",
        bargap=0.35,
        width=theme.WIDTH,
        height=56 + 78 + BAR * max(len(names), 1) * (2 if "rtf" in table else 1),
        margin={"l": 210 if "rtf" in table else 110, "r": 48, "t": 40, "b": 78},
        showlegend=True,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1,
            "xanchor": "left",
            "yanchor": "bottom",
            "traceorder": "normal",
        },
    )
    figure.update_xaxes(title_text="DER (% of the speech)", rangemode="tozero")
    figure.update_yaxes(title_text="", showgrid=False)
    _add_convention(figure, selection)
    return figure


def _numbered(table: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Rows whose candidate has a number, with it, in its order."""
    numbers = [re.fullmatch(pattern, str(name)) for name in table["candidate"]]
    rows = table.assign(number=[int(found[1]) if found else -1 for found in numbers])
    return rows[rows["number"] >= 0].sort_values("number")


def _points(rows: pd.DataFrame, name: str, color: str) -> go.Scatter:
    total = rows["total"].clip(lower=1e-9)
    shares = np.stack([100 * rows[each] / total for each in _COMPONENTS], axis=1)
    return go.Scatter(
        name=name,
        x=rows["number"].to_numpy(),
        y=100 * rows["der"].to_numpy(),
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"size": 7, "color": color},
        text=[html.escape(str(each)) for each in rows["candidate"]],
        customdata=shares,
        hovertemplate="<b>%{text}</b>  DER %{y:.2f} %<br>missed %{customdata[0]:.2f}, false alarm "
        "%{customdata[1]:.2f}, confusion %{customdata[2]:.2f}<extra></extra>",
    )


def _winner(row: pd.Series) -> go.Scatter:
    return go.Scatter(
        name="lowest DER",
        x=[row["number"]],
        y=[100 * row["der"]],
        mode="markers+text",
        marker={"size": 11, "color": BEST_COLOR, "symbol": "diamond"},
        text=[f"<b>{html.escape(str(row['candidate']))}</b>  {100 * row['der']:.1f} %"],
        textposition="top center",
        textfont={"color": BEST_COLOR, "size": 12},
        hoverinfo="skip",
        cliponaxis=False,
    )


def _ticks(numbers: pd.Series) -> list[int]:
    """Every number, or round ones where there are many."""
    found = sorted({int(each) for each in numbers})
    if len(found) <= 16:
        return found
    step = next(each for each in (5, 10, 20, 50, 100, 10**9) if found[-1] / each <= 16)
    return [1, *range(step, found[-1] + 1, step)]


def _range(numbers: pd.Series) -> list[float]:
    if numbers.empty:
        return [0.0, 1.0]
    room = 0.5 + 0.03 * float(numbers.max() - numbers.min())
    return [float(numbers.min()) - room, float(numbers.max()) + room]


def _described(row: Mapping[Any, Any]) -> str:
    """Name of a candidate, with what it costs where that was measured."""
    name = f"<b>{html.escape(str(row['candidate']))}</b>"
    said = []
    for key, text, factor in (
        ("parameters", "{:.1f} M parameters", 1e-6),
        ("macs_per_second", "{:.2f} GMAC/s", 1e-9),
    ):
        value = row.get(key)
        if isinstance(value, int | float) and value == value:
            said.append(text.format(value * factor))
    rtf = row.get("rtf")
    speed = f"{rtf:.4f} x real time" if isinstance(rtf, float) and rtf == rtf else ""
    return "<br>".join([name, *filter(None, [", ".join(said), speed])])


def _add_convention(figure: go.Figure, selection: Selection) -> None:
    """What was counted, in small print below the axis."""
    words = f"{MEASURES[selection.measure]}; {selection.convention}"
    figure.add_annotation(
        text=html.escape(words), x=0, y=0, xref="paper", yref="paper", xanchor="left", yanchor="top",
        yshift=-54, font={"size": 10, "color": theme.TEXT},
    )  # fmt: skip
