"""What verification and throughput depend on: duration, LDA dimensions, batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots import theme

HEIGHT = 300  # px
_LOOKS = (theme.BASELINE, theme.CANDIDATE, {"dash": "dot", "width": 2.0}, {"dash": "dashdot", "width": 2.0})


def plot_duration(table: pd.DataFrame) -> go.Figure:
    """EER against the duration of what is heard, a line per model.

    Parameters
    ----------
    table : as `duration_table` returns it
    """
    figure = _figure("heard of each utterance (s)", "EER (%)")
    for number, (name, rows) in enumerate(table.groupby("runtime", sort=False)):
        figure.add_trace(
            _line(
                str(name),
                number,
                rows["duration"],
                100 * rows["eer"],
                rows[["roc_auc", "targets", "nontargets"]].to_numpy(),
                "%{x:g} s: EER %{y:.2f} %, ROC-AUC %{customdata[0]:.4f}<br>"
                "%{customdata[1]} same, %{customdata[2]} different",
            )
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def plot_dimensions(table: pd.DataFrame) -> go.Figure:
    """EER against the number of LDA dimensions, with the cosine as a level.

    Parameters
    ----------
    table : as `plda_dimension_table` or `lda_dimension_table` returns it
    """
    figure = _figure("LDA dimensions", "EER (%)")
    cosine, plda = table[table["lda_dim"] == 0], table[table["lda_dim"] > 0]
    hover = "%{x}: EER %{y:.2f} %, minDCF %{customdata[0]:.3f}, ROC-AUC %{customdata[1]:.4f}"
    figure.add_trace(
        _line("PLDA", 0, plda["lda_dim"], 100 * plda["eer"], plda[["min_dcf", "roc_auc"]].to_numpy(), hover)
    )
    if len(cosine) and len(plda):
        ends = [plda["lda_dim"].min(), plda["lda_dim"].max()]
        level = 100 * float(cosine["eer"].iloc[0])
        figure.add_trace(_line("cosine", 1, ends, [level, level], None, "cosine: EER %{y:.2f} %"))
        figure.data[-1].mode = "lines"
    if len(plda):
        _powers(figure, plda["lda_dim"].tolist())
    figure.update_yaxes(rangemode="tozero")
    return figure


def plot_throughput(table: pd.DataFrame) -> go.Figure:
    """Embeddings per second against the batch size, a line per engine and a panel per workload.

    Parameters
    ----------
    table : as `throughput_table` returns it
        Batch size 0 is the loop over single files: a level beside the line of its engine.
    """
    workloads = list(dict.fromkeys(table["workload"]))
    figure = _figure("batch size", "embeddings per second")
    gap = 0.09
    width = (1 - gap * (len(workloads) - 1)) / max(len(workloads), 1)
    for panel, workload in enumerate(workloads):
        suffix = "" if panel == 0 else str(panel + 1)
        left = panel * (width + gap)
        figure.layout[f"xaxis{suffix}"] = {
            "domain": [left, left + width],
            "anchor": f"y{suffix}",
            "title": {"text": "batch size"},
        }
        figure.layout[f"yaxis{suffix}"] = {
            "anchor": f"x{suffix}",
            "rangemode": "tozero",
            "title": {"text": "embeddings per second" if panel == 0 else ""},
        }
        own = table[table["workload"] == workload]
        sizes = sorted(set(own["batch_size"]) - {0})
        for number, (name, rows) in enumerate(own.groupby("runtime", sort=False)):
            batched, loop = rows[rows["batch_size"] > 0], rows[rows["batch_size"] == 0]
            line = _line(
                str(name),
                number,
                batched["batch_size"],
                batched["embeddings_per_second"],
                batched[["ratio_to_loop", "ratio_to_first"]].to_numpy(),
                f"{workload}, batches of %{{x}}: %{{y:.1f}} per second<br>%{{customdata[0]:.2f}} × its loop, "
                "%{customdata[1]:.2f} × the first engine",
            )
            line.update(xaxis=f"x{suffix}", yaxis=f"y{suffix}", showlegend=panel == 0)
            figure.add_trace(line)
            if len(loop) and sizes:
                level = float(loop["embeddings_per_second"].iloc[0])
                mark = go.Scatter(
                    name=f"{name}, one by one",
                    x=[sizes[0]],
                    y=[level],
                    xaxis=f"x{suffix}",
                    yaxis=f"y{suffix}",
                    mode="markers",
                    marker={"symbol": "line-ew-open", "size": 16, "color": _color(number)},
                    showlegend=panel == 0,
                    hovertemplate=f"<b>{name}</b>, one file at a time: %{{y:.1f}} per second<extra></extra>",
                )
                figure.add_trace(mark)
        if sizes:
            _powers(figure, sizes, suffix)
        figure.add_annotation(
            text=f"<b>{workload}</b>", x=left, y=1, xref="paper", yref="paper", yshift=16, xanchor="left"
        )
    return figure


def _figure(x: str, y: str) -> go.Figure:
    figure = go.Figure(
        layout={
            "template": theme.template(),
            "width": theme.WIDTH,
            "height": HEIGHT,
            "margin": {"l": 64, "r": 160, "t": 34, "b": 46},
            "showlegend": True,
            "legend": {"x": 1.01, "y": 1, "font": {"size": 11, "color": theme.TEXT}},
            "hovermode": "closest",
        }
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def _color(number: int) -> str:
    return (theme.SPEAKERS[4], theme.SPEAKERS[0], theme.SPEAKERS[2], theme.SPEAKERS[6])[number % 4]


def _line(
    name: str, number: int, x: Sequence[float] | pd.Series, y: object, customdata: object, hover: str
) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=x,
        y=y,
        customdata=customdata,
        mode="lines+markers",
        line=_LOOKS[number % len(_LOOKS)] | {"color": _color(number)},
        marker={"size": 8, "symbol": theme.SPEAKER_SYMBOLS[number % len(theme.SPEAKER_SYMBOLS)]},
        hovertemplate=f"<b>{name}</b><br>{hover}<extra></extra>",
    )


def _powers(figure: go.Figure, values: Sequence[float], suffix: str = "") -> None:
    """A logarithmic axis with a tick at every value."""
    ticks = sorted(set(values))
    room = 0.06 * max(np.log10(ticks[-1] / ticks[0]), 0.3)
    figure.layout[f"xaxis{suffix}"].update(
        type="log",
        tickvals=ticks,
        ticktext=[f"{value:g}" for value in ticks],
        range=[np.log10(ticks[0]) - room, np.log10(ticks[-1]) + room],
    )
