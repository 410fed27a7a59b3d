"""Parity beside the time axis: recordings, margins against differences, transitions, layers, one flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.agreement.flips import class_name
from workbench.plots import theme
from workbench.plots.words import clock

LOWEST = 1e-6  # nats, the least that the scatter shows
_CELLS = (32, 22)  # of the scatter, across and down: flips of one cell are one mark


@dataclass(frozen=True, kw_only=True, eq=False)
class FlipScores:
    """Both score vectors of one frame.

    Attributes
    ----------
    baseline, candidate : float arrays, shape (num_classes,), probabilities
    """

    baseline: np.ndarray
    candidate: np.ndarray


def recording_flip_bars(damage: pd.DataFrame) -> list[go.Bar]:
    """Share of frames that flip in every recording, worst first: real flips, then near-ties."""
    frames = damage["frames"].clip(lower=1).to_numpy(dtype=float)
    values = {"real": damage["real"].to_numpy(dtype=float)}
    values["near_tie"] = damage["flips"].to_numpy(dtype=float) - values["real"]
    return [
        go.Bar(
            name=f"recordings {kind}",
            orientation="h",
            x=100 * values[kind] / frames,
            base=100 * values["real"] / frames if kind == "near_tie" else np.zeros(len(damage)),
            y=np.arange(len(damage), dtype=float),
            xaxis="x2",
            yaxis="y6",
            width=0.6,
            marker={
                "color": theme.FLIPS[kind].color,
                "line": {"width": 0},
                "pattern": theme.hatched("/" if kind == "near_tie" else ""),
            },
            customdata=[
                f"<b>{uri}</b><br>{count:,.0f} {theme.FLIPS[kind].name} of {number:,.0f} frames"
                for uri, count, number in zip(damage["uri"], values[kind], frames, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
        for kind in ("real", "near_tie")
    ]


def recording_flip_texts(damage: pd.DataFrame) -> go.Scatter:
    """Rates at the end of the bars; recordings that stand out say so."""
    rates = 100 * damage["flip_rate"].to_numpy(dtype=float)
    return go.Scatter(
        name="recordings rates",
        x=rates,
        y=np.arange(len(damage), dtype=float),
        text=[
            f" {rate:.3g} %{' · stands out' if out else ''}"
            for rate, out in zip(rates, damage["stands_out"], strict=True)
        ],
        mode="text",
        textposition="middle right",
        textfont={"size": 11, "color": theme.TEXT},
        cliponaxis=False,
        hoverinfo="skip",
        xaxis="x2",
        yaxis="y6",
    )


def cell_flips(flips: pd.DataFrame) -> pd.DataFrame:
    """Flips that lie in one cell of the scatter as one, the one with the largest margin; none is dropped.

    Returns
    -------
    cells : DataFrame
        `row` (position in `flips`), `difference`, `margin` (nats), `kind` (`real`, `near_tie`, or `beyond`,
        above the bound), `flips` that share the cell.
    """
    margin = np.clip(flips["margin"].to_numpy(dtype=float), LOWEST, None)
    difference = np.nan_to_num(flips["difference"].to_numpy(dtype=float), nan=np.inf)
    difference = np.clip(difference, LOWEST, 1e3)
    kind = np.where(~flips["within_bound"].to_numpy(dtype=bool), 2, flips["near_tie"].to_numpy(dtype=int))
    across, down = (
        _cells(values, number) for values, number in zip((difference, margin), _CELLS, strict=True)
    )
    place = (across * 1000 + down) * 3 + kind
    order = np.lexsort((-margin, place))
    begins = np.flatnonzero(np.diff(place[order], prepend=-1))
    best = order[begins]
    return pd.DataFrame(
        {
            "row": best,
            "difference": difference[best],
            "margin": margin[best],
            "kind": np.array(["real", "near_tie", "beyond"], dtype=object)[kind[best]],
            "flips": np.diff(np.append(begins, len(order))),
        }
    )


def margin_marks(cells: pd.DataFrame, flips: pd.DataFrame) -> list[go.Scatter]:
    """A mark per cell and kind; its size grows with the number of flips behind it."""
    looks = {kind: (style.name, style.color, style.symbol) for kind, style in theme.FLIPS.items()}
    looks["beyond"] = ("above the bound", theme.BOUND, "x")
    traces = []
    for kind, (name, color, symbol) in looks.items():
        part = cells[cells["kind"] == kind]
        times = flips["time"].to_numpy()[part["row"]]
        traces.append(
            go.Scatter(
                name=f"margins {kind}",
                x=np.log10(part["difference"].to_numpy()),
                y=np.log10(part["margin"].to_numpy()),
                xaxis="x3",
                yaxis="y7",
                mode="markers",
                marker={
                    "color": color,
                    "symbol": symbol,
                    "size": 4.5 + 2.2 * np.log10(part["flips"].to_numpy(dtype=float)),
                    "line": {"width": 1.2, "color": color},
                },
                customdata=[
                    f"<b>{name}</b>{f', {count} flips' if count > 1 else ''}<br>{clock(time, 3)}<br>margin "
                    f"{margin:.3g}, difference {difference:.3g} nats"
                    for count, time, margin, difference in zip(
                        part["flips"], times, part["margin"], part["difference"], strict=True
                    )
                ],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    return traces


def bound_lines(near_tie: float, span: tuple[float, float]) -> list[go.Scatter]:
    """No flip can lie above `margin = 2 · difference`; below the other line it was a near-tie."""
    common = {"xaxis": "x3", "yaxis": "y7", "mode": "lines", "hoverinfo": "skip"}
    ends = np.array(span, dtype=float)
    return [
        go.Scatter(
            name="bound", x=ends, y=ends + np.log10(2), line={"color": theme.BOUND, "width": 1.6}, **common
        ),
        go.Scatter(
            name="near-tie limit",
            x=ends,
            y=np.full(2, np.log10(max(near_tie, LOWEST))),
            line={"color": theme.MUTED, "width": 1.2, "dash": "dot"},
            **common,
        ),
    ]


def transition_cells(transitions: pd.DataFrame, classes: Sequence[Sequence[int]]) -> go.Heatmap:
    """How many frames went from which class (row) to which (column)."""
    size = len(classes)
    flips, real = np.zeros((size, size)), np.zeros((size, size))
    if len(transitions):
        rows, columns = transitions["baseline"].to_numpy(int), transitions["candidate"].to_numpy(int)
        flips[rows, columns], real[rows, columns] = transitions["flips"], transitions["real"]
    names = [class_name(members) for members in classes]  # on the diagonal, one side has no numbers
    return go.Heatmap(
        name="transitions",
        x=list(range(size)),
        y=list(range(size)),
        z=[[float(np.sqrt(value)) if value else None for value in row] for row in flips],
        text=[[_short(value) if value else "" for value in row] for row in flips],
        texttemplate="%{text}",
        textfont={"size": 10 if size <= 8 else 9},
        customdata=[
            [
                f"<b>{names[a]} → {names[b] if a != b else 'NaN'}</b><br>"
                f"{flips[a, b]:,.0f} flips, {real[a, b]:,.0f} real"
                for b in range(size)
            ]
            for a in range(size)
        ],
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        colorscale=[[0, "#E9DDF4"], [1, "#5B1E8C"]],
        zmin=0,
        zmax=float(np.sqrt(flips.max(initial=1.0))),
        showscale=False,
        xgap=1.5,
        ygap=1.5,
        xaxis="x4",
        yaxis="y8",
    )


def layer_bars(ladder: pd.DataFrame | None, tolerance: float) -> list[go.Bar | go.Scatter]:
    """Relative error of every stage: what it inherits and what it adds; the tolerance as a line."""
    nothing = pd.DataFrame(columns=["stage", "relative", "own_relative", "verdict"])
    table = nothing if ladder is None else ladder
    floor = layer_floor(table)
    traces: list[go.Bar | go.Scatter] = []
    looks = {"relative": ("all", theme.FLIPS["near_tie"].color, "/", 0.78)}
    looks["own_relative"] = ("own", theme.FLIPS["real"].color, "", 0.4)
    position = np.arange(len(table), dtype=float)
    for column, (name, color, hatch, width) in looks.items():
        values = np.nan_to_num(table[column].to_numpy(dtype=float), nan=0.0, posinf=10.0)
        height = np.log10(np.clip(values, 10**floor, 10.0)) - floor
        word = "all of its error" if name == "all" else "its own error, on the baseline's input"
        traces.append(
            go.Bar(
                name=f"layers {name}",
                x=position,
                y=height,
                base=floor,
                width=width,
                xaxis="x7",
                yaxis="y11",
                marker={"color": color, "line": {"width": 0}, "pattern": theme.hatched(hatch)},
                customdata=[
                    f"<b>{stage}</b><br>{word}: {value:.3g} of the largest value<br>{verdict}"
                    for stage, value, verdict in zip(table["stage"], values, table["verdict"], strict=True)
                ],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    traces.append(
        go.Scatter(
            name="tolerance",
            x=[-0.6, max(len(table), 1) - 0.4],
            y=[np.log10(tolerance)] * 2,
            xaxis="x7",
            yaxis="y11",
            mode="lines",
            line={"color": theme.BOUND, "width": 1.4, "dash": "dot"},
            hoverinfo="skip",
        )
    )
    return traces


def layer_floor(table: pd.DataFrame) -> float:
    """Power of ten at which the bars of the ladder begin."""
    values = table[["relative", "own_relative"]].to_numpy(dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.floor(np.log10(values.min(initial=1e-6)))) if len(values) else -8.0


def score_bars(scores: FlipScores | None, classes: Sequence[Sequence[int]]) -> list[go.Bar]:
    """Both score vectors: baseline left and solid, candidate right and hatched."""
    names = [class_name(members) for members in classes]
    bars = []
    for number, side in enumerate(("baseline", "candidate")):
        values = np.zeros(0) if scores is None else np.asarray(getattr(scores, side), dtype=float)
        with np.errstate(divide="ignore"):
            logs = np.log(values)
        bars.append(
            go.Bar(
                name=f"scores {side}",
                x=np.arange(len(values)) + (-0.2, 0.2)[number],
                y=values,
                width=0.36,
                xaxis="x6",
                yaxis="y10",
                marker={
                    "color": (theme.SPEAKERS[1], theme.FLIPS["real"].color)[number],
                    "line": {"width": 0},
                    "pattern": theme.hatched(("", "/")[number]),
                },
                customdata=[
                    f"<b>{name}</b> · {side}<br>probability {value:.4f} ({log:.4g} nats)"
                    for name, value, log in zip(names, values, logs, strict=False)
                ],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    return bars


def _cells(values: np.ndarray, number: int) -> np.ndarray:
    """Cell of every value, on a logarithmic scale from the least to the largest."""
    logs = np.log10(values)
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (0.0, 1.0)
    place: np.ndarray = np.minimum(number * (logs - low) / max(high - low, 1e-9), number - 1).astype(np.int64)
    return place


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 1000 else f"{count / 1000:.3g}k"
