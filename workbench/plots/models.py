"""Models: where their parameters and their work are, which WavLM layers they hear, how exports agree."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots import theme

PARAMETER_COLOR = theme.SPEAKERS[4]
MAC_COLOR = theme.SPEAKERS[2]
LAYER_COLOR = theme.SPEAKERS[4]
NEGATIVE_COLOR = theme.SPEAKERS[5]
INPUT_COLOR = theme.UNMATCHED  # what enters the first layer, which is no layer itself
FILE_COLORS = tuple(theme.SPEAKERS[place] for place in (4, 0, 5, 2, 6))
FILE_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")

BAR = 21  # px, one block
HEIGHT = 360  # px, of the other figures
LOWEST = 1e-9  # where a difference of zero is drawn on a logarithmic axis
NO_LAYERS = (
    "No WavLM here, so there are no layers to weigh: this model hears filter banks.<br>"
    'To see yours, name a WavLM-Conformer, such as <b>wavlm = "torch:exp/my_training@best"</b>:<br>'
    "an experiment directory, a hub-layout folder, or a Hugging Face id"
)


def plot_costs(blocks: pd.DataFrame, duration: float) -> go.Figure:
    """Parameters and work of every block, side by side, in the order in which sound passes through.

    Parameters
    ----------
    blocks : `block`, `parameters` and `macs`, as `checkpoints.costs.largest_blocks` returns them
    duration : length in s of the audio that `macs` were counted on
    """
    names = [_block_name(name) for name in blocks["block"]]
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    panels = (
        ("parameters", "Parameters", 1.0, PARAMETER_COLOR),
        ("macs", "Multiply-accumulates for 1 s of audio", duration, MAC_COLOR),
    )
    titles = []
    for column, (quantity, title, divisor, color) in enumerate(panels, start=1):
        values = blocks[quantity].to_numpy(dtype=float) / divisor
        total = values.sum()
        shares = 100 * values / total if total else np.zeros_like(values)
        factor, unit = _scale(values.max(initial=0.0))
        figure.add_trace(
            go.Bar(
                name=title,
                x=values / factor,
                y=list(range(len(names))),
                orientation="h",
                marker={"color": color, "line": {"width": 0}},
                text=[f"{share:.1f} %" if share >= 0.05 else "" for share in shares],
                textposition="outside",
                cliponaxis=False,
                textfont={"size": 10.5, "color": theme.TEXT},
                customdata=np.stack([values, shares], axis=1),
                hovertext=[html.escape(str(name)) for name in blocks["block"]],
                hovertemplate="<b>%{hovertext}</b><br>%{customdata[0]:,.0f} "
                f"{'parameters' if column == 1 else 'MAC/s'}"
                "<br>%{customdata[1]:.2f} % of all<extra></extra>",
            ),
            row=1,
            col=column,
        )
        largest = values.max(initial=0.0) / factor
        figure.update_xaxes(
            title_text=("Parameters" if column == 1 else "MACs per second") + (f" ({unit}s)" if unit else ""),
            range=[0, 1.16 * largest or 1.0],
            row=1,
            col=column,
        )
        whole, of = _scale(total)
        titles.append(f"<b>{total / whole:.3g}{of and f' {of}'}</b> {title[0].lower() + title[1:]}")
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=names,
        range=[len(names) - 0.4, -0.6],  # the first block at the top
        showgrid=False,
        ticks="outside",
        ticklen=5,
        tickcolor="rgba(0,0,0,0)",  # only a distance to the bars
    )
    figure.update_yaxes(title_text="Block", title_standoff=6, automargin=True, row=1, col=1)
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=44 + 52 + BAR * max(len(names), 3),
        margin={"l": 60, "r": 24, "t": 44, "b": 52},
        bargap=0.28,
    )
    for title, axis in zip(titles, figure.select_xaxes(), strict=True):
        figure.add_annotation(
            text=title, x=axis.domain[0], y=1, xref="paper", yref="paper", xanchor="left",
            yanchor="bottom", yshift=8, font={"size": 13, "color": theme.TEXT},
        )  # fmt: skip
    return figure


def plot_layer_weights(weights: Sequence[float]) -> go.Figure:
    """How much each WavLM layer counts in the sum that the conformer hears.

    Parameters
    ----------
    weights : one per layer, the input of the first layer before them, as in `ModelCard.layer_weights`
        Used as they are: neither positive nor adding up to one. Empty for a model without WavLM,
        of which the figure says so.
    """
    values = np.asarray(weights, dtype=float)
    figure = go.Figure()
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=HEIGHT if values.size else 170,
        margin={"l": 64, "r": 16, "t": 40, "b": 52},
        bargap=0.3,
    )
    if not values.size:
        figure.add_annotation(text=NO_LAYERS, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 13})
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        return figure
    names = ["input", *(str(layer) for layer in range(1, len(values)))]
    magnitude = np.abs(values).sum()
    shares = 100 * np.abs(values) / magnitude if magnitude else np.zeros_like(values)
    colors = np.where(values < 0, NEGATIVE_COLOR, LAYER_COLOR).tolist()
    colors[0] = INPUT_COLOR
    figure.add_trace(
        go.Bar(
            name="weight",
            x=list(range(len(values))),
            y=values,
            marker={
                "color": colors,
                "line": {"width": 0},
                "pattern": theme.hatched(["/" if value < 0 else "" for value in values]),
            },
            text=[f"{value:.2f}" for value in values] if len(values) <= 25 else None,
            textposition="outside",
            cliponaxis=False,
            textfont={"size": 10.5, "color": theme.TEXT},
            customdata=np.stack([shares, np.arange(len(values))], axis=1),
            hovertext=["input of the first layer", *(f"layer {name}" for name in names[1:])],
            hovertemplate="<b>%{hovertext}</b><br>weight %{y:.4f}<br>"
            "%{customdata[0]:.1f} % of all magnitudes<extra></extra>",
        )
    )
    low, high = min(0.0, values.min()), max(0.0, values.max())
    room = 0.12 * (high - low) or 1.0
    figure.add_hline(y=0, line={"color": theme.FRAME, "width": 1})
    figure.update_xaxes(
        title_text="WavLM layer (input: what enters the first one)",
        tickvals=list(range(len(values))),
        ticktext=names,
        showgrid=False,
    )
    figure.update_yaxes(title_text="Weight in the sum", range=[low - (room if low < 0 else 0), high + room])
    return figure


def plot_agreement(files: Mapping[str, pd.DataFrame]) -> go.Figure:
    """How far exported files are from their source, for every length and batch size of the check.

    Left the largest difference of any output value, on a logarithmic axis; right what it changes: the
    share of frames that are decided otherwise, or, between embeddings, how far the smallest cosine is
    from one. A file that agrees in every bit is drawn on the lower edge.

    Parameters
    ----------
    files : name (such as `fp32`) -> table, as `Agreement.table()` returns it
    """
    tables = {name: table for name, table in files.items() if len(table)}
    has_frames = any(table["frames"].sum() > 0 for table in tables.values())
    figure = make_subplots(
        cols=2,
        horizontal_spacing=0.085,
        subplot_titles=[
            "Largest difference of any output",
            "Frames decided otherwise" if has_frames else "Distance of the least similar embeddings",
        ],
    )
    labels: list[tuple[float, int]] = sorted(
        {(row["duration"], row["batch"]) for table in tables.values() for row in table.to_dict("records")}
    )
    place = {label: number for number, label in enumerate(labels)}
    lows = []
    for number, (name, table) in enumerate(tables.items()):
        color = FILE_COLORS[number % len(FILE_COLORS)]
        where = [place[key] for key in zip(table["duration"], table["batch"], strict=True)]
        difference = table["max_abs_diff"].to_numpy(dtype=float)
        if has_frames:
            change = 100 * table["flips"].to_numpy(dtype=float) / table["frames"].clip(lower=1).to_numpy()
            said = [
                f"{flips} of {frames} frames"
                for flips, frames in zip(table["flips"], table["frames"], strict=True)
            ]
        else:
            change = np.maximum(1 - table["min_cosine"].to_numpy(dtype=float), 0.0)
            said = [f"cosine {cosine:.6f}" for cosine in table["min_cosine"]]
        lows.append(difference[difference > 0])
        inputs = [
            _input(duration, batch) for duration, batch in zip(table["duration"], table["batch"], strict=True)
        ]
        words = [
            f"{one}<br>largest difference {d:.2e}<br>{s}"
            for one, d, s in zip(inputs, difference, said, strict=True)
        ]
        for column, values in ((1, np.maximum(difference, LOWEST)), (2, change)):
            order = np.argsort(where, kind="stable")
            figure.add_trace(
                go.Scatter(
                    name=html.escape(name),
                    x=np.asarray(where)[order],
                    y=(values if column == 1 or has_frames else np.maximum(values, LOWEST))[order],
                    mode="lines+markers",
                    line={"color": color, "width": 1.2, "dash": "dot"},
                    marker={"size": 9, "color": color, "symbol": FILE_SYMBOLS[number % len(FILE_SYMBOLS)]},
                    text=[words[each] for each in order],
                    hovertemplate=f"<b>{html.escape(name)}</b>, %{{text}}<extra></extra>",
                    legendgroup=name,
                    showlegend=column == 1,
                    cliponaxis=False,
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(
        title_text="Length of the input, batch size",
        tickvals=list(place.values()),
        ticktext=[_input(duration, batch, short=True) for duration, batch in labels],
        range=[-0.5, max(len(labels), 1) - 0.5],
    )
    figure.update_yaxes(title_text="max |ONNX − source|", **_decades(tables, "max_abs_diff"), row=1, col=1)
    if has_frames:
        figure.update_yaxes(title_text="Flipped frames (%)", row=1, col=2, **_from_zero(figure))
    else:
        figure.update_yaxes(title_text="1 − smallest cosine", type="log", exponentformat="e", row=1, col=2)
    figure.update_layout(
        template=theme.template(),
        width=theme.WIDTH,
        height=HEIGHT,
        margin={"l": 72, "r": 20, "t": 76, "b": 66},
        showlegend=True,
        legend={
            "orientation": "h", "x": 0, "y": 0.99, "xanchor": "left", "yanchor": "top", "yref": "container",
        },
        hovermode="closest",
    )  # fmt: skip
    for title, axis in zip(figure.layout.annotations, figure.select_xaxes(), strict=False):
        title.update(x=axis.domain[0], xanchor="left", font={"size": 13, "color": theme.TEXT}, yshift=4)
    return figure


def _block_name(path: str) -> str:
    """A dotted path whose last part stands out."""
    around, _, last = html.escape(str(path)).rpartition(".")
    return f'<span style="color:{theme.MUTED}">{around}.</span>{last}' if around else last


def _scale(largest: float) -> tuple[float, str]:
    """Factor and words for numbers up to `largest`."""
    for factor, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if largest >= factor:
            return factor, word
    return 1.0, ""


def _input(duration: float, batch: int, short: bool = False) -> str:
    """An input of the check; lengths to a millisecond."""
    length = f"{duration:.4g}"
    return f"{length} s<br>× {batch}" if short else f"{length} s, batch of {batch}"


def _decades(tables: Mapping[str, pd.DataFrame], column: str) -> dict[str, object]:
    """A logarithmic axis over whole powers of ten."""
    values = np.concatenate(
        [table[column].to_numpy(dtype=float) for table in tables.values()] or [np.ones(1)]
    )
    values = np.maximum(values[np.isfinite(values)], LOWEST)
    if not values.size:
        return {"type": "log"}
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()) + 1e-9)
    powers = range(int(low), int(high) + 1)
    return {
        "type": "log",
        "range": [low - 0.15, max(high, low + 1) + 0.15],
        "tickvals": [10.0**power for power in powers],
        "ticktext": [f"10<sup>{power}</sup>".replace("-", "−") if power else "1" for power in powers],
    }


def _from_zero(figure: go.Figure) -> dict[str, object]:
    """A range from zero, with room for a marker on it, that does not make a mountain of nothing."""
    top = max((float(np.max(trace.y)) for trace in figure.data if trace.xaxis == "x2"), default=0.0)
    top = max(top, 1.0)
    return {"range": [-0.04 * top, 1.12 * top]}
