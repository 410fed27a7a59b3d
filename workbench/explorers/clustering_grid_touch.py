"""A line that is dragged over a figure, and clicks on its pictures, without plotly drawing anything."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class CutLine(anywidget.AnyWidget):
    """The threshold as a line over the dendrogram of the figure on the same screen.

    Attributes
    ----------
    value : where the line is
    limits, step : the values it can take
    areas : name, horizontal and vertical axis of every part of the figure that answers a click
    touch : the last click: name of the area, x and y on its axes, a serial number
    """

    _esm = Path(__file__).with_name("clustering_grid_live.js")
    _css = Path(__file__).with_name("screen.css")

    value = traitlets.Float(0.0).tag(sync=True)
    limits = traitlets.List([0.0, 2.0]).tag(sync=True)
    step = traitlets.Float(0.005).tag(sync=True)
    areas: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    touch: traitlets.Dict[str, object] = traitlets.Dict().tag(sync=True)
