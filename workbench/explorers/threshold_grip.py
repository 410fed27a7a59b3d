"""The line over the histograms that can be dragged."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class ThresholdGrip(anywidget.AnyWidget):
    """A threshold on the first horizontal axis of the figure on the same screen.

    Dragged with the mouse, moved with the arrow keys; it has no place of its own on the page.
    """

    _esm = Path(__file__).with_name("threshold_grip.js")
    _css = Path(__file__).with_name("screen.css")

    value = traitlets.Float(0.0).tag(sync=True)  # on the axis
    low = traitlets.Float(0.0).tag(sync=True)
    high = traitlets.Float(1.0).tag(sync=True)
    shown = traitlets.Bool(False).tag(sync=True)
    reset = traitlets.Int(0).tag(sync=True)  # counts double clicks

    def show(self, value: float, low: float, high: float) -> None:
        """Put it somewhere else on an axis from `low` to `high`."""
        with self.hold_sync():
            self.low, self.high, self.value, self.shown = low, high, value, True
