"""A new drawing written into the figure that is on the screen: one message, no flicker."""

from __future__ import annotations

from collections.abc import Collection

import plotly.graph_objects as go

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
