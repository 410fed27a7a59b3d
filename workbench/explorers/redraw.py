"""A new drawing written into the figure that is on the screen: one message, no flicker.

What a drawing shows depends on how much of the time axis is in view, which the browser decides: see
`TimeAxis`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import plotly.graph_objects as go

from workbench.explorers.live_figure import LiveFigure
from workbench.plots.lanes import from_axis, on_axis

# what may differ between two drawings of a trace
REDRAWN = ("x", "y", "z", "base", "text", "customdata", "hovertemplate", "marker")


def update_traces(figure: go.FigureWidget, new: go.Figure) -> None:
    """Write the traces of `new` over those of `figure` that have their names."""
    old = {trace.name: trace for trace in figure.data}
    for trace in new.data:
        for name in REDRAWN:
            if name in trace and name in old[trace.name]:
                setattr(old[trace.name], name, getattr(trace, name))


def update_layout(figure: go.FigureWidget, new: go.Figure, keep: Collection[str] = ()) -> None:
    """Write everything of the layout that a redraw may change; axes named in `keep` stay as they are."""
    for name in ("images", "annotations", "shapes", "meta"):
        figure.layout[name] = new.layout[name]
    for name in new.layout:
        if name.startswith(("xaxis", "yaxis")) and name not in keep:
            figure.layout[name].update(new.layout[name].to_plotly_json(), overwrite=False)
    if figure.layout.height != new.layout.height:
        figure.layout.height = new.layout.height


class TimeAxis:
    """How much of a recording the time axis of a figure shows, as the browser has it.

    What the browser tells of the axis is written down, and nothing is written back: an answer to a double
    click could arrive after the next turn of the wheel, and the axis would show all of the recording while
    the lanes are drawn for a part.

    Parameters
    ----------
    figure : its x axis is in milliseconds, as `on_axis` makes them
    duration : of the recording (s)
    moved : called when another part is in view
    """

    def __init__(self, figure: LiveFigure, duration: Callable[[], float], moved: Callable[[], Any]):
        self._figure, self._duration, self._moved = figure, duration, moved
        figure.on_gesture(self._by_hand)
        figure.layout.xaxis.on_change(self._by_program, "range", "autorange")

    def read(self) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        axis, duration = self._figure.layout.xaxis, self._duration()
        if axis.autorange:
            return 0.0, duration
        start, end = (from_axis(value) for value in axis.range)
        return max(start, 0.0), min(end, duration)

    def show(self, start: float, end: float) -> None:
        """Move the axis to a stretch (s)."""
        stretch = float(on_axis(start)), float(on_axis(end))
        if (
            self._figure.layout.xaxis.autorange
        ):  # the range is that of before: the same again would not be sent
            self._figure.layout.xaxis.range = (float(on_axis(0.0)), float(on_axis(self._duration())))
        with self._figure.batch_update():
            self._figure.layout.xaxis.update(range=stretch, autorange=False)

    def _by_hand(self, changed: Mapping[str, Any]) -> None:
        if any(name.startswith(("xaxis.range", "xaxis.autorange")) for name in changed):
            self._moved()

    def _by_program(self, *_axis: Any) -> None:
        if not self._figure.in_gesture:
            self._moved()
