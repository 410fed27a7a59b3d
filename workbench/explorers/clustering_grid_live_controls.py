"""The sliders of the live screen: one per parameter that the clustering knows."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets

from workbench.clustering import XVectorParams
from workbench.explorers.clustering_grid_live_leaves import Leaves
from workbench.sweeps import SweepSettings

STEP = 0.005  # of the threshold
PROBABILITY_STEP = 0.001  # most happens close to 1

_WIDE = {"flex": "1 1 0", "min_width": "0"}
_STYLE = {"description_width": "initial"}


def make_sliders(base: SweepSettings, leaves: Leaves) -> dict[str, Any]:
    """Sliders by the names of their parameters, the threshold first.

    Those that the clustering ignores are disabled.
    """
    is_vbx = base.method == "vbx"
    name = "threshold" if isinstance(base.clustering, XVectorParams) else "ahc_threshold"
    threshold = float(base.value_of(name))
    low, high = _limits(threshold, leaves)
    common: dict[str, Any] = {"style": _STYLE, "layout": _WIDE}
    sliders: dict[str, Any] = {
        name: ipywidgets.FloatSlider(
            description="Threshold",
            value=threshold,
            min=low,
            max=high,
            step=STEP,
            readout_format=".3f",
            **common,
        )
    }
    for name, usual in (("Fa", 0.07), ("Fb", 0.8)):
        value = float(base.value_of(name) or usual)
        sliders[name] = ipywidgets.FloatLogSlider(
            description=name,
            value=value,
            # browsers move the value to the nearest step: the one to begin with is a step
            min=math.log10(value) - 2,
            max=math.log10(value) + 2,
            step=0.01,
            readout_format=".3g",
            disabled=not is_vbx,
            **common,
        )
    if base.value_of("loop_prob") is not None:
        sliders["loop_prob"] = ipywidgets.FloatSlider(
            description="loop_prob",
            value=float(base.value_of("loop_prob")),
            min=0.0,
            max=1.0,
            step=PROBABILITY_STEP,
            readout_format=".3f",
            disabled=not is_vbx,
            **common,
        )
    return sliders


def _limits(threshold: float, leaves: Leaves) -> tuple[float, float]:
    """Ends of the threshold's slider, which begins with `threshold`."""
    tree = leaves.tree
    if leaves.calibrated is None:
        return 0.0, max(1.5, round(tree.top, 2), threshold)
    # as of Fa and Fb, the value to begin with is a step; counted in floats, so are the ends
    low, high = min(tree.bottom, tree.top, threshold), max(tree.bottom, tree.top, threshold)
    below, above = (math.ceil(abs(edge - threshold) / STEP) for edge in (low, high))
    return threshold - STEP * below, threshold + STEP * above
