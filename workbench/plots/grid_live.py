"""What one setting puts out, drawn for a slider that is being dragged.

All that follows the slider is a picture: lanes, map and strips are pixels. On a live screen their sources
are replaced in the browser, past plotly, which would look through the whole figure again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.cluster.hierarchy import leaves_list

from workbench.clustering.ahc import Dendrogram, unit_length
from workbench.plots import theme
from workbench.plots.cast import labelled_rows
from workbench.plots.grid_pictures import affinity_pixels
from workbench.plots.lanes import as_dates, on_axis, time_axis
from workbench.plots.raster import data_uri
from workbench.plots.theme import SpeakerStyle

LANES = ("reference", "hypothesis", "errors")
PICTURES = ("reference", "hypothesis", "errors", "found_strip", "true_strip", "map", "bound")
AREAS = (
    ("reference", "xaxis", "yaxis"),
    ("hypothesis", "xaxis", "yaxis2"),
    ("errors", "xaxis", "yaxis3"),
    ("map", "xaxis3", "yaxis7"),
)
"""What answers a click, and its axes."""
TREE = 210  # px
STRIP = 26  # px, two rows: clusters and reference under the dendrogram
MATRIX = 300  # px
PANEL_GAP = 84  # px between lanes and panels
MOST_MERGES = 400  # drawn, the highest
MOST_AFFINITY = 360  # rows of the matrix
MOST_ROWS = 10  # speakers of the hypothesis lane
MATRIX_SIDE = (0.0, 0.44)  # across
MAP_SIDE = (0.565, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """A dendrogram ready to be drawn, and the affinities of its leaves in the same order.

    Attributes
    ----------
    leaves : int array, shape (num_embeddings,); embeddings from left to right
    x, y : float arrays; lines with NaN between them
    bottom, top : ends of the axis that `y` lies on
    affinity : float32 array, shape (num_shown, num_shown); cosine similarity of some leaves, evenly chosen
    """

    leaves: np.ndarray
    x: np.ndarray
    y: np.ndarray
    affinity: np.ndarray
    top: float
    bottom: float = 0.0

    @classmethod
    def of(cls, dendrogram: Dendrogram, embeddings: np.ndarray) -> Tree:
        """The highest merges as lines.

        Parameters
        ----------
        embeddings : float array, shape (num_embeddings, dimension)
        """
        count = dendrogram.num_embeddings
        if count < 2:
            none = np.zeros(0)
            return cls(
                leaves=np.arange(count), x=none, y=none, affinity=np.zeros((1, 1), np.float32), top=1.0
            )
        merges = dendrogram.merges
        leaves = leaves_list(merges).astype(np.int64)
        place = np.empty(2 * count - 1)
        place[leaves] = np.arange(count)
        height = np.concatenate([np.zeros(count), merges[:, 2]])
        left, right = merges[:, 0].astype(int), merges[:, 1].astype(int)
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            place[count + index] = (place[one] + place[other]) / 2
        shown = np.sort(np.argsort(merges[:, 2])[-MOST_MERGES:])
        one, other = left[shown], right[shown]
        gap = np.full(len(shown), np.nan)
        x = np.stack([place[one], place[one], place[other], place[other], gap], axis=1).ravel()
        y = np.stack([height[one], height[count + shown], height[count + shown], height[other], gap], axis=1)
        some = leaves[np.unique(np.linspace(0, count - 1, MOST_AFFINITY).astype(np.int64))]
        rows = unit_length(embeddings[some].astype(np.float32))
        top = float(merges[:, 2].max()) * 1.06
        return cls(leaves=leaves, x=x, y=y.ravel(), affinity=rows @ rows.T, top=top)

    def hung_from(self, zero: float) -> Tree:
        """The same over what falls where heights rise, as similarities do; `zero` is where no height is."""
        return replace(self, y=zero - self.y, bottom=zero, top=zero - self.top)


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveScene:
    """What does not follow the sliders."""

    uri: str
    duration: float  # s
    reference: pd.DataFrame | None  # turns
    styles: Mapping[Hashable, SpeakerStyle]  # of the reference speakers
    tree: Tree
    threshold_title: str  # what is up in the dendrogram, with its unit
    leaves: str  # what the dendrogram joins
    most_iterations: int  # of VBx
    points: np.ndarray  # (num_points, 2) from 0 to 1
    shares: tuple[float, float]  # of the variance on the map

    @property
    def num_rows(self) -> dict[str, int]:
        """Rows of every lane."""
        true = max(len(self.styles), 2)
        return {"reference": true, "hypothesis": min(max(true + 2, 4), MOST_ROWS), "errors": 3}


def plot_live(scene: LiveScene, view: tuple[float, float] | None = None) -> go.Figure:
    """The figure with everything that stays, and places for the pictures that follow the sliders.

    Images have the names of `PICTURES`, in their order; shapes are the selection and the threshold.
    """
    visible = view or (0.0, scene.duration)
    rows = scene.num_rows
    heights = {lane: theme.ROW * rows[lane] if lane != "errors" else 3 * 15 for lane in LANES}
    lanes = sum(heights.values()) + 2 * theme.LANE_GAP
    below = TREE + STRIP + MATRIX + 8
    inner = lanes + PANEL_GAP + below
    margin = theme.MARGIN | {"t": 26, "b": 34}
    layout: dict[str, Any] = {
        "template": theme.template(),
        "width": theme.WIDTH,
        "height": round(inner + margin["t"] + margin["b"]),
        "margin": margin,
        "dragmode": "pan",
        "hovermode": "closest",
        "uirevision": scene.uri,
        "meta": {"lanes": ["yaxis", "yaxis3"]},
    }
    titles = []
    top: float = inner
    for number, lane in enumerate(LANES, start=1):
        bottom = top - heights[lane]
        layout["yaxis" if number == 1 else f"yaxis{number}"] = lane_axis(scene, lane, {}) | {
            "domain": [max(bottom, 0) / inner, min(top / inner, 1.0)]
        }
        titles.append(_title(_lane_title(scene, lane), x=0, y=top / inner))
        top = bottom - theme.LANE_GAP
    layout["xaxis"] = time_axis(scene.duration, visible, "y3")
    edges = {"tree": (below - TREE, below), "strip": (MATRIX + 4, MATRIX + 4 + STRIP), "matrix": (0, MATRIX)}
    domain = {name: [low / inner, high / inner] for name, (low, high) in edges.items()}
    count = max(len(scene.tree.leaves), 1)
    quiet = {"fixedrange": True, "showgrid": False, "ticks": "", "showticklabels": False}
    layout["xaxis2"] = quiet | {"domain": MATRIX_SIDE, "anchor": "y6", "range": [-0.5, count - 0.5]}
    layout["xaxis2"] |= {"title": {"text": f"{count:,} {scene.leaves}, neighbours are alike"}}
    layout["yaxis4"] = {
        "domain": domain["tree"],
        "anchor": "x2",
        "range": [scene.tree.bottom, scene.tree.top],
    }
    layout["yaxis4"] |= {"fixedrange": True, "title": {"text": scene.threshold_title}, "nticks": 6}
    strip = labelled_rows(["hypothesis", "reference"], None, 2) | quiet | {"showticklabels": True}
    layout["yaxis5"] = strip | {"domain": domain["strip"], "anchor": "x2"}
    layout["yaxis6"] = quiet | {"domain": domain["matrix"], "anchor": "x2", "range": [count - 0.5, -0.5]}
    layout["yaxis6"] |= {"scaleanchor": False}  # images would ask for square pixels
    layout["yaxis6"] |= {"title": {"text": "Cosine similarity, bright: alike"}}
    layout["xaxis3"] = quiet | {"domain": MAP_SIDE, "anchor": "y7", "range": [0, 1]}
    layout["xaxis3"] |= {"title": {"text": f"First principal component ({100 * scene.shares[0]:.0f} %)"}}
    map_domain = [0.0, (MATRIX + STRIP + TREE - 128) / inner]
    layout["yaxis7"] = quiet | {"domain": map_domain, "anchor": "x3", "range": [0, 1]}
    layout["yaxis7"] |= {"title": {"text": f"Second ({100 * scene.shares[1]:.0f} %)"}}
    layout["xaxis4"] = {
        "domain": MAP_SIDE,
        "anchor": "y8",
        "range": [0.5, scene.most_iterations + 0.5],
        "fixedrange": True,
    }
    layout["xaxis4"] |= {"title": {"text": "VBx iteration"}, "nticks": 11}
    layout["yaxis8"] = quiet | {"domain": [(below - 78) / inner, below / inner], "anchor": "x4"}
    layout["yaxis8"] |= {"range": [-0.08, 1.08], "title": {"text": "Bound"}}
    titles += [
        _title("<b>Dendrogram</b>" + _quiet("drag the line to move the threshold"), x=0, y=below / inner),
        _title(
            "<b>Embeddings</b>" + _quiet("fill: hypothesis, rim: reference"), x=MAP_SIDE[0], y=map_domain[1]
        ),
        _title(
            "<b>Bound of VBx</b>" + _quiet("ELBO, from its first to its highest value"),
            x=MAP_SIDE[0],
            y=below / inner,
        ),
    ]
    layout["annotations"] = titles
    layout["shapes"] = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "y0": (inner - lanes) / inner,
            "y1": 1,
            "layer": "below",
        }
        | {"x0": float(on_axis(0)), "x1": float(on_axis(0)), "visible": False}
        | {"fillcolor": theme.SELECTION, "line": {"width": 1, "color": theme.MUTED}},
        threshold_line(0.0, count),
    ]
    layout["images"] = [_picture(scene, name, visible, count) for name in PICTURES]
    return go.Figure(_traces(scene, visible, count), layout)


def lane_axis(scene: LiveScene, lane: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Rows of a lane, counted from above.

    Parameters
    ----------
    names : what is written beside each row of the hypothesis, and its colour
    """
    axis: dict[str, Any] = {"anchor": "x", "fixedrange": True, "showgrid": False, "ticks": ""}
    num_rows = scene.num_rows[lane]
    if lane == "reference":
        colors = [style.color for style in scene.styles.values()]
        return axis | labelled_rows([str(name) for name in scene.styles], colors, num_rows)
    if lane == "errors":
        styles = theme.ERRORS.values()
        return axis | labelled_rows([each.name for each in styles], [each.color for each in styles], num_rows)
    shown = list(names.items())[:num_rows]
    return axis | labelled_rows([name for name, _ in shown], [color for _, color in shown], num_rows)


def threshold_line(value: float, count: int) -> dict[str, Any]:
    """The cut through the dendrogram."""
    return {
        "type": "line",
        "xref": "x2",
        "yref": "y4",
        "x0": -0.5,
        "x1": count - 0.5,
        "y0": value,
        "y1": value,
        "visible": False,  # on a live screen another line lies over the figure, which can be dragged
        "line": {"width": 3, "color": theme.ERRORS["confusion"].color},
    }


def _traces(scene: LiveScene, visible: tuple[float, float], count: int) -> list[Any]:
    traces: list[Any] = [
        go.Scatter(
            name="time axis",  # the first trace decides which kind of axis it is
            x=as_dates(np.array([0.0, scene.duration])),
            y=[0.0, 0.0],
            mode="markers",
            marker={"opacity": 0},
            hoverinfo="skip",
        )
    ]
    nothing = {"mode": "markers", "marker": {"opacity": 0}, "hoverinfo": "skip"}
    for lane, _, axis in AREAS[:3]:  # axes need something to belong to
        yaxis = axis.replace("axis", "")
        traces.append(go.Scatter(name=lane, x=traces[0].x[:1], y=[0.0], yaxis=yaxis, **nothing))
    traces.append(
        go.Scatter(
            name="dendrogram",
            x=scene.tree.x,
            y=scene.tree.y,
            xaxis="x2",
            yaxis="y4",
            mode="lines",
            line={"width": 1, "color": theme.TEXT},
            hoverinfo="skip",
            connectgaps=False,
        )
    )
    traces += [
        go.Scatter(name="strip", x=[0], y=[0], xaxis="x2", yaxis="y5", **nothing),
        go.Scatter(name="bound", x=[1], y=[0], xaxis="x4", yaxis="y8", **nothing),
        go.Scatter(name="map", x=[0], y=[0], xaxis="x3", yaxis="y7", **nothing),
        go.Image(
            name="affinity",
            source=data_uri(affinity_pixels(scene.tree.affinity)),
            x0=-0.5 + 0.5 * count / len(scene.tree.affinity),
            dx=count / len(scene.tree.affinity),
            y0=-0.5 + 0.5 * count / len(scene.tree.affinity),
            dy=count / len(scene.tree.affinity),
            xaxis="x2",
            yaxis="y6",
            hoverinfo="skip",
        ),
    ]
    return traces


def _picture(scene: LiveScene, name: str, view: tuple[float, float], count: int) -> dict[str, Any]:
    """Where a picture lies; what it shows comes later."""
    common = {"name": name, "sizing": "stretch", "layer": "above", "yanchor": "top", "xanchor": "left"}
    common["source"] = EMPTY
    if name in LANES:
        number = LANES.index(name) + 1
        return common | {
            "xref": "x",
            "yref": "y" if number == 1 else f"y{number}",
            "x": float(on_axis(view[0])),
            "sizex": 1000.0 * (view[1] - view[0]),
            "y": -0.5,
            "sizey": scene.num_rows[name],
        }
    if name == "map":
        return common | {"xref": "x3", "yref": "y7", "x": 0, "sizex": 1, "y": 1, "sizey": 1}
    if name == "bound":
        place = {"xref": "x4", "yref": "y8", "x": 0.5, "y": 1.08, "sizey": 1.16}
        return common | place | {"sizex": scene.most_iterations}
    row = 0 if name == "found_strip" else 1
    place = {"xref": "x2", "yref": "y5", "x": -0.5, "sizex": count, "y": row - 0.45, "sizey": 0.9}
    return common | place


def _lane_title(scene: LiveScene, lane: str) -> str:
    if lane == "reference":
        return f"<b>{scene.uri}</b>{_quiet('reference')}"
    if lane == "errors":
        return f"<b>Errors</b>{_quiet('under the best mapping of speakers')}"
    return f"<b>Hypothesis</b>{_quiet('same colour: matched to that reference speaker')}"


def _quiet(text: str) -> str:
    return f" <span style='color:{theme.MUTED}'> {text}</span>" if text else ""


def _title(text: str, *, x: float, y: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return place | {"text": text, "yshift": 3, "showarrow": False, "font": {"size": 12}}


EMPTY = data_uri(np.zeros((1, 1, 4), dtype=np.uint8))
