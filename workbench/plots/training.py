"""How a training went: loss, error rate, learning rate and gradient norm over the epochs."""

from __future__ import annotations

import html
import itertools
import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots import theme
from workbench.training import TrainingRecord

PANELS = {  # quantity -> title of the panel and of its axis
    "loss": ("Loss", "Loss (nats per frame)"),
    "der": ("Diarization error rate", "DER (%)"),
    "learning_rate": ("Learning rate", "Learning rate"),
    "gradient_norm": ("Gradient norm", "Gradient norm (L2)"),
}
LOGARITHMIC = ("learning_rate", "gradient_norm")
PANEL = 220  # px
GAP = 74  # px between two rows: tick labels, axis title and the next panel's title

# Not colours of speakers' errors: training is what the model has seen, validation what it has not.
TRAINING_COLOR = theme.WAVEFORM
VALIDATION_COLOR = theme.SPEAKERS[4]
BEST_COLOR = theme.SPEAKERS[5]
OTHER_COLORS = tuple(theme.SPEAKERS[place] for place in (2, 6, 0, 1))
MOST_POINTS = 100  # of a curve, before neighbouring steps are summarised


_COLORS = {"training": TRAINING_COLOR, "validation": VALIDATION_COLOR, "all parameters": TRAINING_COLOR}
_SHORT = {"learning_rate": "learning rate", "gradient_norm": "gradient norm"}  # said in the legend


def plot_training(record: TrainingRecord, average: int = 5) -> go.Figure:
    """Loss, DER, learning rate and gradient norm against the epoch, as far as they were logged.

    The best epoch is marked by a line through all panels, and the members of an average by rings on
    the validation loss. Curves of many steps are drawn as their median, with a band from the 10th to
    the 90th percentile.

    Parameters
    ----------
    record : as `read_training` returns it
    average : N of the `avg:N` whose members are marked
    """
    shown = [quantity for quantity in PANELS if record.series(quantity)]
    if not shown:
        return _empty("Nothing was logged: no metric summary, no log with losses, no TensorBoard files")
    columns = 1 if len(shown) == 1 else 2
    rows = math.ceil(len(shown) / columns)
    height = rows * PANEL + (rows - 1) * GAP
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[PANELS[quantity][0] for quantity in shown],
        horizontal_spacing=0.085,
        vertical_spacing=GAP / height if rows > 1 else 0.0,
    )
    best = record.best_epoch
    members = record.average_order()[:average]
    for number, quantity in enumerate(shown):
        row, column = number // columns + 1, number % columns + 1
        for trace in _curves(record, quantity):
            figure.add_trace(trace, row=row, col=column)
        if quantity == "loss" and (ring := _rings(record, members)) is not None:
            figure.add_trace(ring, row=row, col=column)
        if best is not None:
            figure.add_vline(
                x=best, line={"color": BEST_COLOR, "width": 1, "dash": "dot"}, row=row, col=column
            )
        if best is not None and (star := _star(record, quantity, best)) is not None:
            figure.add_trace(star, row=row, col=column)
        figure.update_xaxes(title_text="Epoch", row=row, col=column)
        figure.update_yaxes(title_text=PANELS[quantity][1], row=row, col=column)
        if quantity in LOGARITHMIC:
            figure.update_yaxes(**_logarithmic(record, quantity), row=row, col=column)
    _lay_out(figure, height, record)
    return figure


def _curves(record: TrainingRecord, quantity: str) -> list[go.Scatter]:
    """The curves of one panel, each after the band around it where it has one."""
    factor = 100 if quantity == "der" else 1
    others = itertools.cycle(OTHER_COLORS)
    names = record.series(quantity)
    traces = []
    for series in names:
        curve = record.curve(quantity, series, MOST_POINTS)
        if curve.empty:
            continue
        color = _COLORS.get(series) or next(others)
        label = f"{_SHORT[quantity]} {series}" if quantity in _SHORT else series
        epoch, value = curve["epoch"].to_numpy(), factor * curve["value"].to_numpy()
        is_summary = curve["low"].notna().any()
        if is_summary:
            low, high = factor * curve["low"].to_numpy(), factor * curve["high"].to_numpy()
            traces.append(
                go.Scatter(
                    name=f"{series}, 10th to 90th percentile",
                    x=np.concatenate([epoch, epoch[::-1]]),
                    y=np.concatenate([high, low[::-1]]),
                    fill="toself",
                    fillcolor="rgba({}, {}, {}, 0.18)".format(*theme.rgb(color)),
                    line={"width": 0},
                    mode="lines",
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=series,
                )
            )
        few = len(curve) <= 60 and not is_summary
        traces.append(
            go.Scatter(
                name=html.escape(label),
                x=epoch,
                y=value,
                mode="lines+markers" if few else "lines",
                line={"color": color, "width": 2, "shape": "linear"},
                marker={"size": 5, "color": color},
                legendgroup=series,
                showlegend=quantity not in _SHORT or len(names) > 1,
                hovertemplate=f"epoch %{{x:.4~g}}<br>{html.escape(label)} %{{y:.4~g}}{_unit(quantity)}"
                "<extra></extra>",
            )
        )
    return traces


def _rings(record: TrainingRecord, members: tuple[int, ...]) -> go.Scatter | None:
    """Rings around the validation losses that an average takes."""
    curve = record.curve("loss", "validation")
    chosen = curve[curve["epoch"].isin(members)]
    if len(members) < 2 or chosen.empty:
        return None
    return go.Scatter(
        name=f"members of avg:{len(members)}",
        x=chosen["epoch"].to_numpy(),
        y=chosen["value"].to_numpy(),
        mode="markers",
        marker={"size": 12, "color": "rgba(0,0,0,0)", "line": {"color": VALIDATION_COLOR, "width": 1.5}},
        hoverinfo="skip",
    )


def _star(record: TrainingRecord, quantity: str, best: int) -> go.Scatter | None:
    """The best epoch on the validation curve of a panel."""
    curve = record.curve(quantity, "validation")
    values = curve.loc[curve["epoch"] == best, "value"]
    if values.empty:
        return None
    value = float(values.iloc[0]) * (100 if quantity == "der" else 1)
    return go.Scatter(
        name=f"best: epoch {best}",
        x=[best],
        y=[value],
        mode="markers",
        marker={"size": 8, "color": BEST_COLOR, "symbol": "diamond"},
        showlegend=quantity == "loss",
        hovertemplate=f"best: epoch {best}<br>%{{y:.4~g}}{_unit(quantity)}<extra></extra>",
    )


def _logarithmic(record: TrainingRecord, quantity: str) -> dict[str, object]:
    """A logarithmic axis with 1, 2 and 5 of every power of ten, or the powers alone where there are many."""
    curves = [record.curve(quantity, series, MOST_POINTS) for series in record.series(quantity)]
    values = pd.concat([curve[name] for curve in curves for name in ("value", "low", "high")])
    values = values[(values > 0) & np.isfinite(values)]
    if values.empty:
        return {"type": "log"}
    low, high = np.log10([values.min(), values.max()])
    digits = (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in digits]
    room = 0.05 * (high - low) + 0.02
    return {
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": ticks,
        "ticktext": [f"{tick:.0e}".replace("e-0", "e-") if tick < 0.01 else f"{tick:g}" for tick in ticks],
    }


def _unit(quantity: str) -> str:
    return " %" if quantity == "der" else ""


def _lay_out(figure: go.Figure, height: int, record: TrainingRecord) -> None:
    """Sizes, the legend above the panels, and one look for all axes."""
    template = theme.template()
    figure.update_layout(
        template=template,
        width=theme.WIDTH,
        height=height + 72 + 48,
        margin={"l": 64, "r": 16, "t": 72, "b": 48},
        showlegend=True,
        legend={
            "orientation": "h", "x": 0, "y": 0.995, "xanchor": "left", "yanchor": "top", "yref": "container",
            "traceorder": "normal",
        },
        hovermode="closest",
    )  # fmt: skip
    for title, axis in zip(figure.layout.annotations, figure.select_xaxes(), strict=False):
        title.update(x=axis.domain[0], xanchor="left", font={"size": 13, "color": theme.TEXT}, yshift=4)
    named: set[str] = set()
    for trace in figure.data:  # a curve that is in several panels has one entry
        if trace.showlegend is not False:
            trace.showlegend = trace.name not in named
            named.add(trace.name)
    epochs = record.history["epoch"].dropna()
    first, last = (float(epochs.min()), float(epochs.max())) if len(epochs) else (1.0, 1.0)
    room = max(0.03 * (last - first), 0.1)
    step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if last / each <= 12)
    figure.update_xaxes(dtick=step, tick0=0, range=[first - room, last + room])


def _empty(message: str) -> go.Figure:
    """A figure that says why there is nothing to see."""
    figure = go.Figure(layout={"template": theme.template(), "width": theme.WIDTH, "height": 120})
    figure.add_annotation(text=html.escape(message), x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
