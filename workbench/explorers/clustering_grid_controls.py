"""The controls of the clustering grid, and where they stand on the screen."""

from __future__ import annotations

from typing import Any

import ipywidgets

from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.clustering_grid_study import GridStudy
from workbench.explorers.controls import button, choice
from workbench.explorers.playback import Player
from workbench.plots import theme
from workbench.plots.grid_measures import MEASURES
from workbench.tuning.cells import format_value

ALL = ""  # choice of all recordings; ipywidgets takes None for "nothing chosen", so that
UNSET = "none"  # stands for it among the values of a parameter
HINT = "Click a cell, then a turn or an error of it to hear it; ▶ plays what is in view."
SILENT = "Click a cell, then a turn or an error of it. No audio was given, so nothing can be heard."


class GridControls(ipywidgets.VBox):
    """Controls as attributes, made once; who inherits from this connects them.

    Attributes
    ----------
    x, y : parameters across and down
    colour : what cells are coloured by
    recordings : all of them, or one
    lanes : the recording whose lanes are shown
    held : parameter -> slider of its values (`option_of`), where it is neither across nor down
    best, out_of_fold, default : buttons that go to these cells
    player, errors : sound; what went wrong
    """

    def _build_controls(self, study: GridStudy) -> None:
        names = [name for name in study.grid.names if len(study.grid.values[name]) > 1]
        names = names or list(study.grid.names)
        across = names[0]
        down = names[1] if len(names) > 1 else next((n for n in study.grid.names if n != across), across)
        self.x = choice("x", [(name, name) for name in study.grid.names], across, 158, 14)
        self.y = choice("y", [(name, name) for name in study.grid.names], down, 158, 14)
        known = [name for name in MEASURES if name != "noise" or study.stability is not None]
        self.colour = choice("Colour", [(MEASURES[name], name) for name in known], "der", 252, 46)
        every = [(f"all {len(study.uris)} pooled", ALL), *((uri, uri) for uri in study.uris)]
        self.recordings = choice("Recordings", every, ALL, 236, 74)
        self.lanes = choice("Lanes", [(uri, uri) for uri in study.uris], study.uris[0], 206, 42)
        self.held = {
            name: ipywidgets.SelectionSlider(
                description=name,
                options=[(format_value(value), option_of(value)) for value in _ordered(values)],
                value=option_of(_nearest(values, study.base.value_of(name))),
                continuous_update=True,
                style={"description_width": "initial"},
                layout={"flex": "1 1 0", "min_width": "200px"},
            )
            for name, values in study.grid.values.items()
        }
        self.default = button("◇ default", "Go to the cell that is nearest to the default", 104)
        self.best = button("★ best", "Go to the cell with the lowest DER", 104)
        self.out_of_fold = button("☆ out of fold", "Go to the cell that most folds choose", 104)
        self.stage = ipywidgets.HTML()
        self.stage.add_class("wb-progress")
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "320px", "height": "16px"})
        self.bar.style.bar_color = theme.SPEAKERS[4]
        self.progress = ipywidgets.HBox([self.stage, self.bar], layout={"display": "none"})
        self.progress.layout.align_items = "center"
        self.verdict, self.notices, self.headline = (ipywidgets.HTML() for _ in range(3))
        self.threshold_words = ipywidgets.HTML()
        self.errors = ErrorStrip()
        self.player = Player(text=HINT if study.audio else SILENT)

    def _rows(self, figure: ipywidgets.Widget | None) -> list[ipywidgets.Widget]:
        row = {"align_items": "center", "width": "100%", "justify_content": "space-between"}
        choices = ipywidgets.HBox([self.x, self.y, self.colour, self.recordings, self.lanes], layout=row)
        buttons = ipywidgets.HBox([self.default, self.best, self.out_of_fold])
        others = ipywidgets.HBox([*self.held.values(), buttons], layout=row)
        others.add_class("wb-controls")
        top = [choices, self.progress, self.verdict, self.notices, others, self.headline, self.errors]
        return [*top, *([] if figure is None else [self.player, figure])]


def option_of(value: Any) -> Any:
    """A parameter's value as a slider takes it."""
    return UNSET if value is None else value


def _ordered(values: Any) -> list[Any]:
    """Numbers ascending, None last; names as they come."""
    numbers = sorted(value for value in values if isinstance(value, int | float))
    return [*numbers, *(value for value in values if not isinstance(value, int | float))]


def _nearest(values: Any, wanted: Any) -> Any:
    """The value of a grid that is closest to one that need not be in it."""
    if wanted in values or not isinstance(wanted, int | float):
        return wanted if wanted in values else next(iter(values))
    numbers = [value for value in values if isinstance(value, int | float)]
    return min(numbers, key=lambda value: abs(value - wanted)) if numbers else next(iter(values))
