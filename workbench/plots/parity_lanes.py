"""What parity draws over time: both posteriorgrams, every flip, the difference, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.agreement.flips import class_name
from workbench.agreement.frame_axis import FrameAxis, flips_in
from workbench.plots import theme
from workbench.plots.lanes import on_axis
from workbench.plots.raster import data_uri
from workbench.plots.theme import rgb
from workbench.plots.words import clocks

RASTER_COLUMNS = 1000  # of a posteriorgram, per width of the view
TICK_COLUMNS = 400  # places for ticks, per width of the view
PIXELS = 9  # of one class
ROWS = {"real": 0, "near_tie": 1}  # of the flips, from above
_SILENCE, _SINGLE, _OVERLAP = "#8a94a3", "#56B4E9", "#E69F00"
FLOOR = 1e-7  # nats; smaller differences are drawn as this


def class_colors(classes: Sequence[Sequence[int]]) -> list[str]:
    """Grey for nobody, blue for one speaker, orange for several; rows are labelled as well."""
    return [(_SILENCE, _SINGLE, _OVERLAP)[min(len(members), 2)] for members in classes]


def posteriorgram(
    probabilities: np.ndarray, colors: Sequence[str], edges: np.ndarray, last: int
) -> np.ndarray:
    """Probabilities as opacity; of moments that share a column the largest is kept.

    Parameters
    ----------
    probabilities : uint8 array, shape (num_moments, num_classes)
    colors : of every class
    edges, last : first moment of every column, and the moment after the last

    Returns
    -------
    pixels : uint8 array, shape (num_classes * PIXELS, len(edges), 4)
    """
    first = int(edges[0])
    opacity = np.maximum.reduceat(probabilities[first:last], edges - first, axis=0).T
    rows = np.empty((*opacity.shape, 4), dtype=np.uint8)
    rows[..., :3] = np.array([rgb(color) for color in colors], dtype=np.uint8)[:, None]
    rows[..., 3] = opacity
    lines = np.zeros((len(rows), PIXELS, rows.shape[1], 4), dtype=np.uint8)
    lines[:, :-1] = rows[:, None]  # the last line is a gap, which keeps classes apart
    return lines.reshape(-1, rows.shape[1], 4)


def posteriorgram_images(
    axis: FrameAxis, classes: Sequence[Sequence[int]], view: tuple[float, float], num_columns: int
) -> list[dict[str, object]]:
    """Pictures of baseline (on `y`) and candidate (on `y3`), of what is in view."""
    edges, last = axis.columns(*view, num_columns)
    start, end = (float(axis.time_of(moment)) for moment in (int(edges[0]), last))
    colors = class_colors(classes)
    return [
        {
            "source": data_uri(posteriorgram(side, colors, edges, last)),
            "xref": "x",
            "yref": yaxis,
            "x": float(on_axis(start)),
            "sizex": 1000.0 * (end - start),
            "y": -0.5,
            "sizey": len(classes),
            "yanchor": "top",
            "sizing": "stretch",
            "layer": "below",
        }
        for side, yaxis in ((axis.baseline, "y"), (axis.candidate, "y3"))
    ]


def bucket_flips(flips: pd.DataFrame, start: float, end: float, num_columns: int) -> pd.DataFrame:
    """Flips between `start` and `end` (s), those of one column as one: none is ever dropped.

    Parameters
    ----------
    flips : sorted by `time`, with `margin` and `near_tie`

    Returns
    -------
    buckets : DataFrame
        `time` (s) and `row` (position in `flips`) of the flip with the largest margin of a column, `flips`
        that share it, `near_tie`, `margin`. Real flips and near-ties never share a tick.
    """
    times = flips["time"].to_numpy()
    rows = flips_in(times, start, end)
    times = times[rows]
    margins, near = flips["margin"].to_numpy()[rows], flips["near_tie"].to_numpy()[rows]
    width = max((end - start) / num_columns, 1e-9)
    place = 2 * np.floor((times - start) / width).astype(np.int64) + near
    order = np.lexsort((-margins, place))
    sorted_place = place[order]
    begins = np.flatnonzero(np.diff(sorted_place, prepend=-1))
    best = order[begins]
    return pd.DataFrame(
        {
            "time": times[best],
            "row": best + rows.start,
            "flips": np.diff(np.append(begins, len(order))),
            "near_tie": near[best],
            "margin": margins[best],
        }
    )


def flip_classes(flips: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Best class of baseline and candidate, -1 where the scores of that side are not all numbers.

    Such a frame has no best class (`argmax` names the first NaN), and its margin is NaN.
    """
    sides = (("baseline", "margin"), ("candidate", "candidate_margin"))
    before, after = (
        np.where(np.isnan(flips[margin].to_numpy(dtype=float)), -1, flips[side].to_numpy(dtype=np.int64))
        for side, margin in sides
    )
    return before, after


def flip_ticks(
    flips: pd.DataFrame, classes: Sequence[Sequence[int]], drawn: tuple[float, float], num_columns: int
) -> tuple[list[go.Scatter], dict[str, pd.DataFrame]]:
    """Ticks of real flips and of near-ties, and the flips behind them.

    Three points make a tick, so point `i` of a trace belongs to row `i // 3` of its table.
    """
    buckets = bucket_flips(flips, *drawn, num_columns)
    names = np.array([*(class_name(members) for members in classes), "NaN"], dtype=object)
    traces, tables = [], {}
    for kind, style in theme.FLIPS.items():
        name = f"flips {kind}"
        table = buckets[buckets["near_tie"] == (kind == "near_tie")].reset_index(drop=True)
        tables[name] = table
        before, after = flip_classes(flips.iloc[table["row"]])
        low = ROWS[kind] + (0.42 if kind == "real" else 0.30)
        high = ROWS[kind] - (0.42 if kind == "real" else 0.30)
        change = names[before] + " → " + names[after]
        more = [f"<br>worst of {count} here: zoom in" if count > 1 else "" for count in table["flips"]]
        texts = [
            f"<b>{what}</b> · {style.name}<br>{when} · margin {margin:.3g} nats{rest}"
            for what, when, margin, rest in zip(
                change, clocks(table["time"].to_numpy()), table["margin"], more, strict=True
            )
        ]
        x = np.full((len(table), 3), np.nan)
        x[:, :2] = on_axis(table["time"].to_numpy())[:, None]
        y = np.tile([low, high, np.nan], (len(table), 1))
        traces.append(
            go.Scatter(
                name=name,
                x=x.ravel(),
                y=y.ravel(),
                yaxis="y2",
                mode="lines",
                line={"color": style.color, "width": 2.2 if kind == "real" else 1.4, "simplify": False},
                customdata=np.repeat(np.array(texts, dtype=object), 3),
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    return traces, tables


def difference_line(
    axis: FrameAxis | None,
    classes: Sequence[Sequence[int]],
    drawn: tuple[float, float],
    num_columns: int,
) -> go.Scatter:
    """Largest difference of every column, over all classes and all chunks that see it."""
    if axis is None:
        edges, last, values = np.zeros(0, dtype=np.int64), 0, np.zeros(0)
    else:
        edges, last = axis.columns(*drawn, num_columns)
        first = int(edges[0])
        values = np.maximum.reduceat(axis.difference[first:last], edges - first)
    texts: list[str] = []
    if axis is not None:
        times = axis.time_of(edges)
        best = [side[edges].argmax(axis=1) for side in (axis.baseline, axis.candidate)]
        texts = [
            f"{when}<br>baseline {class_name(classes[b])}, candidate {class_name(classes[c])}"
            f"<br>largest difference {value:.3g} nats"
            for when, b, c, value in zip(clocks(times), *best, values, strict=True)
        ]
    return go.Scatter(
        name="difference",
        x=np.zeros(0) if axis is None else on_axis(axis.time_of(edges)),
        y=np.log10(np.clip(np.nan_to_num(values, posinf=1e9), FLOOR, 1e4)),
        yaxis="y4",
        mode="lines",
        line={"color": theme.FLIPS["real"].color, "width": 1.2, "shape": "hv"},
        customdata=texts,
        hovertemplate="%{customdata}<extra></extra>",
    )


def ledger_errors(ledger: pd.DataFrame) -> pd.DataFrame:
    """Regions in which the outputs differ, as `error_bars` takes them: the kind that is most of each."""
    kinds = np.array(list(theme.ERRORS), dtype=object)
    if not len(ledger):
        columns = {name: pd.Series([], dtype=object) for name in ("kind", "reference_speaker")}
        return pd.DataFrame(
            {"start": pd.Series([], dtype=float), "end": pd.Series([], dtype=float)}
            | columns
            | {"hypothesis_speaker": pd.Series([], dtype=object)}
        )
    most = ledger[list(theme.ERRORS)].to_numpy(dtype=float).argmax(axis=1)
    return pd.DataFrame(
        {
            "start": ledger["start"].astype(float),
            "end": ledger["end"].astype(float),
            "kind": kinds[most],
            "reference_speaker": ledger["baseline"].where(ledger["baseline"] != "nobody", None),
            "hypothesis_speaker": ledger["candidate"].where(ledger["candidate"] != "nobody", None),
        }
    )
