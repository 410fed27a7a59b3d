"""Local speakers of a recording: who is like whom, who fits badly, and all of them on a map."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.cast import labelled_rows
from workbench.plots.theme import SpeakerStyle, hypothesis_styles, reference_styles
from workbench.plots.words import clock, matched_name, shortened
from workbench.similarity import LocalSimilarity

NUM_OUTLIERS = 12
MARK_ROOM = 0.045  # of the matrix, right of it, for the marks of its outliers
NO_CLUSTER = SpeakerStyle(color=theme.UNMATCHED, symbol="x")


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalView:
    """The local speakers of one recording as the screen shows them."""

    found: LocalSimilarity
    color_by: Literal["cluster", "reference"] = "cluster"
    chosen: tuple[int, int] | None = None  # rows that are selected; the same twice is one local speaker

    @property
    def reference(self) -> dict[Hashable, SpeakerStyle]:
        """How reference speakers look; in the order of their names."""
        known = self.found.table["reference_speaker"].dropna().unique()
        return reference_styles(sorted(known, key=str))

    @property
    def looks(self) -> dict[Hashable, SpeakerStyle]:
        """How clusters look: as the reference speaker they are matched to."""
        return hypothesis_styles(self.found.clusters, self.found.matching, self.reference)

    def cluster_name(self, cluster: Hashable) -> str:
        """`spk1 = anna`."""
        return matched_name(cluster, self.found.matching, bool(self.reference))

    @property
    def outliers(self) -> list[int]:
        """Rows of the local speakers that fit worst, worst first."""
        return [int(row) for row in self.found.outlying.index[:NUM_OUTLIERS]]


def describe_local(view: LocalView, row: int) -> str:
    """Who a local speaker was taken for and whom it resembles, in words."""
    entry = view.found.table.iloc[row]
    parts = [
        f"chunk {entry['chunk']}, local speaker {entry['local_speaker']}",
        f"taken for {view.cluster_name(int(entry['cluster']))} ({entry['own']:.2f} like the others)",
    ]
    if entry["nearest"] >= 0:
        parts.append(f"next {view.cluster_name(int(entry['nearest']))} ({entry['other']:.2f})")
    if entry["reference_speaker"] is not None:
        parts.append(f"reference {entry['reference_speaker']}")
    return " · ".join(parts)


def matrix_cells(view: LocalView | None) -> go.Heatmap:
    """Cosines of all with all; clusters are blocks on the diagonal."""
    cosine = np.zeros((0, 0)) if view is None else np.round(view.found.cosine, 2)
    beside = cosine[~np.eye(len(cosine), dtype=bool)]
    low = float(np.quantile(beside, 0.02)) if beside.size else 0.0
    return go.Heatmap(
        name="similarity",
        z=cosine,
        xaxis="x5",
        yaxis="y5",
        zmin=min(low, 0.9),
        zmax=1.0,
        colorscale=theme.sequential(reverse=True),
        colorbar={
            "thickness": 9,
            "outlinewidth": 0,
            "nticks": 5,
            "tickfont": {"size": 10, "color": theme.TEXT},
        },
        hovertemplate="row %{y} with row %{x}: cosine %{z:.2f}<br>click to hear both<extra></extra>",
    )


def cluster_borders(view: LocalView | None) -> go.Scatter:
    """Lines between the clusters of the matrix."""
    x: list[float | None] = []
    y: list[float | None] = []
    if view is not None:
        total = len(view.found.table)
        for edge in _starts(view)[1:]:
            x += [edge - 0.5, edge - 0.5, None, -0.5, total - 0.5, None]
            y += [-0.5, total - 0.5, None, edge - 0.5, edge - 0.5, None]
    return go.Scatter(
        name="borders",
        x=x,
        y=y,
        xaxis="x5",
        yaxis="y5",
        mode="lines",
        line={"color": theme.BEHIND_MARKS, "width": 1.2},
        hoverinfo="skip",
    )


def outlier_marks(view: LocalView | None) -> go.Scatter:
    """Triangles beside the rows of the matrix that fit worst."""
    rows = [] if view is None else view.outliers
    total = 1 if view is None else max(len(view.found.table), 1)
    return go.Scatter(
        name="outlier marks",
        x=[(1 + 0.5 * MARK_ROOM) * total - 0.5] * len(rows),
        y=rows,
        xaxis="x5",
        yaxis="y5",
        mode="markers",
        marker={"symbol": "triangle-left", "size": 9, "color": theme.ERRORS["confusion"].color},
        text=[] if view is None else [_hover(view, row) for row in rows],
        cliponaxis=False,
        hovertemplate="%{text}<br>click to hear it<extra></extra>",
    )


def outlier_bars(view: LocalView | None) -> go.Bar:
    """The local speakers that fit worst: how much more they resemble their own cluster than another."""
    rows = [] if view is None else view.outliers
    found = None if view is None else view.found.table.iloc[rows]
    looks = {} if view is None else view.looks
    return go.Bar(
        name="outliers",
        orientation="h",
        x=[] if found is None else found["margin"].to_numpy(dtype=float),
        y=list(range(len(rows))),
        width=0.66,
        xaxis="x6",
        yaxis="y6",
        marker={
            "color": [] if found is None else [looks[cluster].color for cluster in found["cluster"]],
            "pattern": theme.hatched(
                [] if found is None else [looks[cluster].hatch for cluster in found["cluster"]]
            ),
            "line": {"width": 0},
        },
        customdata=rows,
        text=[] if view is None else [_hover(view, row) for row in rows],
        textposition="none",
        hovertemplate="%{text}<br>margin %{x:.3f}<br>click to hear it<extra></extra>",
    )


def map_points(view: LocalView | None) -> go.Scatter:
    """All local speakers on a plane, filled by cluster or by reference; the shape says the other."""
    if view is None:
        return _map_trace([], [], [], [], [], [])
    table = view.found.table
    clusters = [view.looks[cluster] for cluster in table["cluster"]]
    truth = [
        view.reference.get(who, look) for who, look in zip(table["reference_speaker"], clusters, strict=True)
    ]
    fill, shape = (clusters, truth) if view.color_by == "cluster" else (truth, clusters)
    return _map_trace(
        table["x"].to_numpy(),
        table["y"].to_numpy(),
        [look.color for look in fill],
        [look.symbol for look in shape],
        [look.color for look in shape],
        [_hover(view, row) for row in range(len(table))],
    )


def _map_trace(
    x: Any, y: Any, colors: Sequence[str], symbols: Sequence[str], rims: Sequence[str], texts: Sequence[str]
) -> go.Scatter:
    return go.Scatter(
        name="map",
        x=x,
        y=y,
        xaxis="x7",
        yaxis="y7",
        mode="markers",
        marker={
            "size": 7.5,
            "opacity": 0.85,
            "color": colors,
            "symbol": symbols,
            "line": {"width": 1.5, "color": rims},
        },
        text=texts,
        hovertemplate="%{text}<br>click to hear it<extra></extra>",
    )


def map_names(view: LocalView | None) -> go.Scatter:
    """The name of every cluster, or reference speaker, in the middle of its points."""
    column = "reference_speaker" if view is not None and view.color_by == "reference" else "cluster"
    middles = None if view is None else view.found.table.groupby(column)[["x", "y"]].median()
    names: list[str] = []
    if view is not None and middles is not None:
        names = [
            view.cluster_name(who) if column == "cluster" else str(who) for who in middles.index.tolist()
        ]
    return go.Scatter(
        name="names",
        x=[] if middles is None else middles["x"].to_numpy(),
        y=[] if middles is None else middles["y"].to_numpy(),
        xaxis="x7",
        yaxis="y7",
        mode="text",
        text=[f"<b>{name}</b>" for name in names],
        textfont={"size": 12, "color": theme.TEXT},
        hoverinfo="skip",
        cliponaxis=False,
    )


def chosen_points(view: LocalView | None) -> go.Scatter:
    """A ring around what is selected on the map."""
    rows = [] if view is None or view.chosen is None else sorted(set(view.chosen))
    table = None if view is None else view.found.table.iloc[rows]
    return go.Scatter(
        name="chosen",
        x=[] if table is None else table["x"].to_numpy(),
        y=[] if table is None else table["y"].to_numpy(),
        xaxis="x7",
        yaxis="y7",
        mode="markers",
        marker={"symbol": "circle-open", "size": 17, "color": theme.TEXT, "line": {"width": 2.5}},
        hoverinfo="skip",
    )


def chosen_cell(view: LocalView | None) -> list[dict[str, Any]]:
    """Two bars over the matrix, row and column of what is selected."""
    first, second = (0, 0) if view is None or view.chosen is None else view.chosen
    common = {
        "type": "rect",
        "visible": view is not None and view.chosen is not None,
        "line": {"width": 1.4, "color": theme.BEHIND_MARKS},
        "fillcolor": "rgba(255,255,255,0.16)",
    }
    return [
        common | {"xref": "x5 domain", "x0": 0, "x1": 1, "yref": "y5", "y0": first - 0.5, "y1": first + 0.5},
        common
        | {"yref": "y5 domain", "y0": 0, "y1": 1, "xref": "x5", "x0": second - 0.5, "x1": second + 0.5},
    ]


def local_axes(
    view: LocalView | None, domain: list[float], sides: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Axes of matrix, outliers and map; `sides` are their domains across."""
    quiet = {"showgrid": False, "ticks": ""}
    rows: dict[str, Any] = {"range": [NUM_OUTLIERS - 0.5, -0.5], "showticklabels": False}
    total, shares = 1, (0.0, 0.0)
    places: dict[str, Any] = {"showticklabels": False}
    title = "local speakers, by cluster, then time"
    margins = "own − nearest other cluster (cosine)"
    if view is not None:
        table = view.found.table
        total, shares = max(len(table), 1), view.found.shares
        starts = [*_starts(view), len(table)]
        places = {
            "tickvals": [(a + b - 1) / 2 for a, b in zip(starts[:-1], starts[1:], strict=True)],
            "ticktext": [
                f"{shortened(view.cluster_name(cluster))} <span style='color:{look.color}'>■</span>"
                for cluster, look in view.looks.items()
            ],
        }
        found = [table.iloc[row] for row in view.outliers]
        names = [f"{clock(entry['start'], 1)} · #{entry['local_speaker']}" for entry in found]
        colors = [view.looks[entry["cluster"]].color for entry in found]
        rows = labelled_rows(names, colors, NUM_OUTLIERS)
        if len(view.found.clusters) == 1:
            margins = "mean cosine with the others"
        if view.found.num_left_out:
            title += f" ({view.found.num_left_out} left out)"
    edge = [-0.5, total - 0.5]
    return {
        "xaxis5": quiet
        | {
            "domain": sides[0],
            "anchor": "y5",
            "range": [-0.5, (1 + MARK_ROOM) * total - 0.5],
            "showticklabels": False,
        }
        | {"title": {"text": title}},
        "yaxis5": quiet | places | {"domain": domain, "anchor": "x5", "range": edge[::-1]},
        "xaxis6": {"domain": sides[1], "anchor": "y6", "fixedrange": True, "nticks": 4}
        | {"title": {"text": margins}, "rangemode": "tozero", "zeroline": True, "zerolinecolor": theme.TEXT},
        "yaxis6": quiet | rows | {"domain": domain, "anchor": "x6", "fixedrange": True},
        "xaxis7": {"domain": sides[2], "anchor": "y7", "showticklabels": False}
        | {"title": {"text": f"component 1 ({100 * shares[0]:.0f} % of variance)"}},
        "yaxis7": {"domain": domain, "anchor": "x7", "showticklabels": False}
        | {"title": {"text": f"component 2 ({100 * shares[1]:.0f} %)", "standoff": 2}},
    }


def _starts(view: LocalView) -> list[int]:
    """First row of every cluster."""
    cluster = view.found.table["cluster"].to_numpy()
    return [int(np.argmax(cluster == each)) for each in view.found.clusters]


def _hover(view: LocalView, row: int) -> str:
    entry = view.found.table.iloc[row]
    times = f"{clock(entry['start'])}–{clock(entry['end'])}, talks {entry['seconds']:.1f} s"
    return "<br>".join([times, *describe_local(view, row).split(" · ")])
