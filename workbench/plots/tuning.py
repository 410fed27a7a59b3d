"""Figures of a tuning: what each parameter does, what the chosen cell changes, what noise moves."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots import theme
from workbench.tuning.cells import format_value
from workbench.tuning.lattice import num_in_row

SPEAKERS_COLOR = theme.SPEAKERS[4]
DER_COLOR = theme.SPEAKERS[5]
_PANEL = 190  # px


def plot_effects(
    curves: Mapping[str, pd.DataFrame],
    inversions: Mapping[str, pd.DataFrame] | None = None,
    default: Mapping[str, Any] | None = None,
) -> go.Figure:
    """Number of speakers and DER against every parameter, a column each.

    Parameters
    ----------
    curves : parameter -> `EffectCard.curve`: value, num_speakers, der (fraction)
    inversions : parameter -> `EffectCard.inversions`; the stretches are shaded, darker where several
        recordings share them
    default : values that are marked by a line

    A value that stands apart, where the parameter is unset, is a point beside the line.
    """
    names = list(curves)
    figure = make_subplots(
        rows=2,
        cols=max(len(names), 1),
        shared_xaxes=True,
        vertical_spacing=0.1,
        horizontal_spacing=min(0.06, 0.5 / max(len(names), 1)),
    )
    for column, name in enumerate(names, start=1):
        curve = curves[name]
        positions = np.arange(len(curve))  # values are rarely evenly spaced: every one gets its place
        labels = [html.escape(format_value(value)) for value in curve["value"]]
        in_row = num_in_row(name, curve["value"].tolist())
        gap = np.flatnonzero(np.arange(len(labels)) == in_row)  # before what stands apart
        for row, (quantity, color, factor, unit) in enumerate(
            (("num_speakers", SPEAKERS_COLOR, 1, "speakers"), ("der", DER_COLOR, 100, "% DER")), start=1
        ):
            figure.add_trace(
                go.Scatter(
                    x=np.insert(positions.astype(float), gap, np.nan),
                    y=np.insert(factor * curve[quantity].to_numpy(dtype=float), gap, np.nan),
                    customdata=np.insert(np.array(labels, dtype=object), gap, ""),
                    mode="lines+markers",
                    line={"color": color, "width": 2},
                    marker={"size": 5},
                    hovertemplate=f"{html.escape(name)} %{{customdata}}<br>%{{y:.4~g}} {unit}<extra></extra>",
                ),
                row=row,
                col=column,
            )
        every = max(1, -(-len(labels) // 6))
        figure.update_xaxes(
            tickvals=positions[::every],
            ticktext=labels[::every],
            title_text=html.escape(name),
            row=2,
            col=column,
        )
        place = {_key(value): position for position, value in enumerate(curve["value"])}
        if inversions is not None and name in inversions:
            for row_of in inversions[name].itertuples():
                figure.add_vrect(
                    x0=place[_key(row_of.start)], x1=place[_key(row_of.end)], row=1, col=column,
                    fillcolor=theme.SPEAKERS[0], opacity=0.12, line_width=0,
                )  # fmt: skip
        if default is not None and name in default and _key(default[name]) in place:
            figure.add_vline(
                x=place[_key(default[name])], line={"color": theme.MUTED, "dash": "dot"}, col=column
            )
    figure.update_yaxes(title_text="Speakers (mean)", row=1, col=1)
    figure.update_yaxes(title_text="DER (%)", row=2, col=1)
    figure.update_layout(
        template=theme.template(), width=theme.WIDTH, height=2 * _PANEL + 60, margin={**theme.MARGIN, "l": 64}
    )
    return figure


def plot_recordings(per_recording: pd.DataFrame) -> go.Figure:
    """DER of every recording with the default, the chosen cell and its own best cell; the worst on top.

    Parameters
    ----------
    per_recording : as `Choice.per_recording`: uri, der_default, der_best, der_own (fractions),
        num_speakers_best, num_reference_speakers
    """
    rows = per_recording.sort_values("der_best")
    names = [html.escape(str(uri)) for uri in rows["uri"]]
    counts = np.stack([rows["num_speakers_best"], rows["num_reference_speakers"]], axis=1)
    series = (
        ("default", "der_default", {"symbol": "diamond-open", "size": 10, "color": theme.TEXT}),
        ("chosen cell", "der_best", {"symbol": "circle", "size": 9, "color": theme.SPEAKERS[4]}),
        ("its own best cell", "der_own", {"symbol": "line-ns-open", "size": 11, "color": theme.SPEAKERS[2]}),
    )
    figure = go.Figure()
    for name, column, marker in series:
        values = 100 * rows[column].to_numpy(dtype=float)
        if np.isfinite(values).any():
            figure.add_trace(
                go.Scatter(
                    name=name,
                    x=values,
                    y=names,
                    mode="markers",
                    marker=marker,
                    customdata=counts,
                    hovertemplate=f"%{{y}}<br>{name} %{{x:.2f}} %<br>%{{customdata[0]}} speakers in the "
                    "chosen cell, %{customdata[1]} in the reference<extra></extra>",
                )
            )
    figure.update_xaxes(title_text="DER (%)", rangemode="tozero")
    figure.update_yaxes(title_text="Recording", automargin=True)
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=110 + theme.ROW * max(len(rows), 3),
        showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def plot_stability(stability: pd.DataFrame, names: Mapping[Any, str] | None = None) -> go.Figure:
    """Speech that changes its speaker, against the noise in the embeddings: one line per cell.

    Parameters
    ----------
    stability : as `summarise_stability` returns it: cell, level, cross_der (fraction), der_change
    names : cell -> what it is called
    """
    figure = go.Figure()
    styles = theme.reference_styles(list(dict.fromkeys(stability["cell"])))
    for cell, rows in stability.groupby("cell", sort=False):
        name = str(cell) if names is None else names.get(cell, str(cell))
        figure.add_trace(
            go.Scatter(
                name=html.escape(name),
                x=rows["level"],
                y=100 * rows["cross_der"],
                customdata=100 * rows["der_change"],
                mode="lines+markers",
                line={"color": styles[cell].color, "width": 2},
                marker={"symbol": styles[cell].symbol, "size": 8},
                hovertemplate="noise %{x:.2~g}<br>%{y:.2f} % of the speech moves<br>DER changes by up to "
                "%{customdata:.2f} points<extra></extra>",
            )
        )
    figure.update_xaxes(
        title_text="Noise in the embeddings (level)", type="log", exponentformat="power", dtick=1
    )
    figure.update_yaxes(title_text="Speech that moves (%)", rangemode="tozero")
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=320,
        showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def _key(value: Any) -> Any:
    """A value as it can be found again: numbers up to their last digits."""
    if pd.isna(value):
        return "none"  # columns of numbers hold NaN for None
    return f"{value:.9g}" if isinstance(value, int | float) else str(value)
