"""What lies over the figure of the live screen: a line to drag, clicks, and its pictures."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class LiveOverlay(anywidget.AnyWidget):
    """What follows the sliders, shown in the figure of the same screen without plotly drawing it again.

    Everything that an answer changes travels in one message (`hold_sync`).

    Attributes
    ----------
    value : threshold, where the line is
    limits, step : the values it can take
    areas : name, horizontal and vertical axis of every part of the figure that answers a click
    touch : the last click: name of the area, x and y on its axes, a serial number
    reference, hypothesis, errors, found_strip, true_strip, map, bound : addresses of pictures
    view : start and width of the lanes on the time axis (ms)
    names : name and colour of every row of the hypothesis
    answer : how many answers there have been
    is_final : whether the answer is exact; if not, the browser asks again when the sliders rest
    rest : the last answer at which they rested
    tells_rest : whether there is a browser that does so
    """

    _esm = Path(__file__).with_name("clustering_grid_live.js")
    _css = Path(__file__).with_name("screen.css")

    value = traitlets.Float(0.0).tag(sync=True)
    limits = traitlets.List([0.0, 2.0]).tag(sync=True)
    step = traitlets.Float(0.005).tag(sync=True)
    areas: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    touch: traitlets.Dict[str, object] = traitlets.Dict().tag(sync=True)
    reference = traitlets.Unicode().tag(sync=True)
    hypothesis = traitlets.Unicode().tag(sync=True)
    errors = traitlets.Unicode().tag(sync=True)
    found_strip = traitlets.Unicode().tag(sync=True)
    true_strip = traitlets.Unicode().tag(sync=True)
    map = traitlets.Unicode().tag(sync=True)
    bound = traitlets.Unicode().tag(sync=True)
    view: traitlets.List[float] = traitlets.List([0.0, 1.0]).tag(sync=True)
    names: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    answer = traitlets.Int(0).tag(sync=True)
    is_final = traitlets.Bool(True).tag(sync=True)
    rest = traitlets.Int(0).tag(sync=True)
    tells_rest = traitlets.Bool(False).tag(sync=True)
