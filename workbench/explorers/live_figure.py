"""The figure of a screen: plotly's widget, which also tells a browser that comes later what is drawn now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import plotly.graph_objects as go
from traitlets import observe

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
    in_gesture = False  # while a gesture of the reader is being written into the layout

    def __init__(self, figure: go.Figure, **config: Any):
        super().__init__(figure)
        self._config = theme.config() | config
        self._listeners: list[Callable[[Mapping[str, Any]], Any]] = []
        self._is_made = True

    def on_gesture(self, listener: Callable[[Mapping[str, Any]], Any]) -> None:
        """Call `listener` with what a gesture has changed, as `{"xaxis.range[0]": value}`, after every one.

        A layout's own `on_change` stays silent where the kernel holds the new value already, although the
        browser, which the kernel is always a little behind, may have shown another in between.
        """
        self._listeners.append(listener)

    def plotly_relayout(self, relayout_data: dict[str, Any], **kwargs: Any) -> None:
        """Change the layout; plotly's widget calls this for gestures, too, with the view they come from."""
        if kwargs.get("source_view_id") is None:
            super().plotly_relayout(relayout_data, **kwargs)
            return
        moved = {name.partition(".range")[0] for name in relayout_data if ".range" in name}
        # a range by hand ends the automatic one, which plotly.js does not mention
        data = {f"{axis}.autorange": False for axis in moved} | relayout_data
        self.in_gesture = True
        try:
            super().plotly_relayout(data, **kwargs)
        finally:
            self.in_gesture = False
        for listener in self._listeners:
            listener(data)

    @observe("_js2py_traceDeltas")
    def _handler_js2py_traceDeltas(self, change: Any) -> None:
        """The browser has drawn: plotly would take its defaults over, about which no screen asks.

        plotly fails where the default of an array is an object, and whatever else came in the same message,
        such as a double click or a click on a turn, would be lost with it.
        """
        if change["new"]:
            self._trace_edit_in_process = False
            self._js2py_traceDeltas = None

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
