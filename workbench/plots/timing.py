"""Figures of a benchmark: latency and throughput against the batch size."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots import theme


def plot_benchmark(table: pd.DataFrame) -> go.Figure:
    """Time per chunk (p50, with p99 as the upper bar) and chunks per second, against the batch size.

    Parameters
    ----------
    table : as `timing.summarize_batches` returns it
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09)
    styles = theme.reference_styles(dict.fromkeys(table["runtime"]))
    for name, rows in table.groupby("runtime", sort=False):
        look = styles[name]
        shared = {
            "name": html.escape(str(name)),
            "legendgroup": str(name),
            "x": rows["batch_size"],
            "mode": "lines+markers",
            "line": {"color": look.color, "width": 2},
        }
        figure.add_trace(
            go.Scatter(
                **shared,
                y=1000 * rows["per_chunk"],
                marker={"symbol": look.symbol, "size": 8},
                error_y={
                    "type": "data",
                    "array": 1000 * (rows["p99"] / rows["batch_size"] - rows["per_chunk"]),
                    "arrayminus": [0.0] * len(rows),
                    "thickness": 1,
                },
                hovertemplate="batch of %{x}<br>%{y:.2f} ms per chunk<extra></extra>",
            ),
            row=1,
            col=1,
        )
        figure.add_trace(
            go.Scatter(
                **shared,
                y=rows["throughput"],
                showlegend=False,
                marker={"symbol": look.symbol, "size": [13 if best else 8 for best in rows["best"]]},
                hovertemplate="batch of %{x}<br>%{y:.1f} chunks per second<extra></extra>",
            ),
            row=1,
            col=2,
        )
    sizes = sorted(set(table["batch_size"]))
    figure.update_xaxes(type="log", tickvals=sizes, title_text="Batch size (chunks)")
    figure.update_yaxes(title_text="Time per chunk (ms)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="Throughput (chunks/s)", rangemode="tozero", row=1, col=2)
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=340,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={**theme.MARGIN, "l": 64},
    )
    return figure
