"""The figure of a screen: plotly's widget, which also tells a browser that comes later what is drawn now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

from workbench.plots import theme


class LiveFigure(go.FigureWidget):
    """A figure that is redrawn in place.

    A page that is reloaded, and a second view of the output, ask the kernel for the state of the widget.
    plotly answers with the figure as it was made; here the answer is the figure as it is.

    Parameters
    ----------
    figure : what is drawn first
    config : of plotly.js, beside what all figures have in common
    """

    _is_made = False

    def __init__(self, figure: go.Figure, **config: Any):
        super().__init__(figure)
        self._config = theme.config() | config
        self._is_made = True

    def get_state(
        self, key: str | Iterable[str] | None = None, drop_defaults: bool = False
    ) -> dict[str, Any]:
        """State of the widget, as ipywidgets sends it."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if not self._is_made:
            return state
        drawn = {"_widget_data": self._data, "_widget_layout": self._layout_obj._props}
        for name in drawn.keys() & state.keys():
            state[name] = self.trait_metadata(name, "to_json")(drawn[name], self)
        return state
