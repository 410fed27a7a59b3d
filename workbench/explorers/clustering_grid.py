"""A grid of clustering parameters, from the heatmap down to the sound of an error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA
from workbench.errors import InputError
from workbench.explorers.background import NewestOnly
from workbench.explorers.clustering_grid_controls import ALL, UNSET, option_of
from workbench.explorers.clustering_grid_sound import GridSound
from workbench.explorers.clustering_grid_study import GridStudy
from workbench.explorers.clustering_grid_words import (
    cell_html,
    hover_texts,
    notices_html,
    recording_rows,
    verdict_html,
)
from workbench.explorers.headline import static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.redraw import TimeAxis, update_layout, update_traces
from workbench.plots.breakdown import LANES, plot_lanes
from workbench.plots.grid import GridScene, plot_grid
from workbench.plots.grid_cells import Slice
from workbench.plots.grid_measures import measure_cells
from workbench.plots.tuning_page import write_summary
from workbench.review import ScoringParams
from workbench.sweeps import Grid, SweepSettings
from workbench.sweeps.inputs import Source
from workbench.tuning.cells import same_value
from workbench.tuning.lattice import Lattice
from workbench.tuning.outputs import write_best
from workbench.tuning.summary import summarise_tuning


def explore_grid(
    features: Source | Iterable[Source],
    references: str | Path | Mapping[str, Annotation],
    grid: Grid | Mapping[str, Any] | Iterable[str],
    *,
    base: SweepSettings | None = None,
    plda: PLDA | str | os.PathLike[str] | None = None,
    audio: str | Path | list[str | Path] | Mapping[str, Path] | None = None,
    uem: str | Path | Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    results: pd.DataFrame | None = None,
    stability: pd.DataFrame | None = None,
    jobs: int = 1,
) -> GridScreen:
    """Every cell of a grid as a heatmap, the choice made from it, and what any cell puts out.

    Parameters
    ----------
    features : of several recordings: objects, files (.npz), or a folder of them
    references : RTTM file, or annotations by recording
    grid : `Grid`, a mapping of names to values, or texts ``NAME=a,b,c`` and ``NAME=start:stop:num``
    base : settings of everything that the grid does not name; its values are the default
    plda : model or its folder, which VBx needs
    audio : files and folders of recordings, or uri -> path, optional: to hear errors
    uem : UEM file, or uri -> Timeline, optional
    collar, skip_overlap : as of `score`
    results : of `workbench.sweep` over the same grid, where it has been run already
    stability : of `noise_stability`, optional: adds what noise does to cells
    jobs : worker processes of the sweep
    """
    study = GridStudy(
        features,
        references,
        grid,
        base=base,
        plda=plda,
        audio=audio,
        uem=uem,
        scoring=ScoringParams(collar=collar, skip_overlap=skip_overlap),
        results=results,
        stability=stability,
    )
    return GridScreen(study, jobs=jobs)


class GridScreen(GridSound):
    """The screen behind `explore_grid`; its controls are attributes.

    Attributes
    ----------
    study : recordings, grid, results
    figure : plotly.graph_objects.FigureWidget; None until the grid has been computed
    cell : number of the cell that is looked at
    selection : start and end (s) in the recording that is shown; None while nothing is selected
    """

    def __init__(self, study: GridStudy, *, jobs: int = 1):
        self.study = study
        self.figure: go.FigureWidget | None = None
        self.selection: tuple[float, float] | None = None
        self.cell = 0
        self._busy = False  # while controls are set by the program
        self._is_static = os.environ.get("WORKBENCH_STATIC") == "1"
        self._work = NewestOnly(threaded=not self._is_static)
        self._build_controls(study)
        self._hover: dict[str, list[str]] = {}
        self._regions: dict[str, np.ndarray] = {}
        super().__init__(self._rows(None))
        self.add_class("wb-screen")
        self._start(jobs)

    # -- computing -----------------------------------------------------------------------------

    def _start(self, jobs: int) -> None:
        total = len(self.study.grid) * len(self.study.uris)
        self._report(f"{total} cells on {len(self.study.uris)} recordings", 0.0)

        def job(check: Any) -> None:
            def hook(done: int, all_of_them: int) -> None:
                check()
                self._report(f"{done} of {all_of_them} cells", done / all_of_them)

            self.study.run(hook, jobs)

        self._work.submit(job, done=self.errors.guard(self._ready), failed=self._failed)

    def _report(self, words: str, share: float) -> None:
        self.stage.value, self.bar.value = words, share
        self.progress.layout.display = ""

    def _failed(self, error: BaseException) -> None:
        self.progress.layout.display = "none"
        self.errors.show(error)

    def wait(self) -> GridScreen:
        """Return once the grid has been computed; for scripts, which have no screen to watch."""
        self._work.wait()
        return self

    def _ready(self, _result: Any) -> None:
        """Everything has been computed: draw it, from now on in place."""
        self.progress.layout.display = "none"
        found = self.study.found
        self.cell = found.choice.best
        self._busy = True
        try:
            change = found.choice.per_recording.set_index("uri")["change"].abs()
            self.lanes.value = str(change.idxmax()) if change.notna().any() else self.study.uris[0]
            self._set_sliders()
        finally:
            self._busy = False
        self.verdict.value = verdict_html(found)
        self.notices.value = notices_html(found.notices)
        self._say()
        self._scene = self._compose()
        self._screen = plot_grid(self._scene)
        self.figure = LiveFigure(self._screen.figure)
        self._listen(self.figure)
        self.children = tuple(self._rows(self.figure))

    def _listen(self, figure: LiveFigure) -> None:
        """Connect every control; ipywidgets would drop the errors of unguarded callbacks."""
        guard = self.errors.guard
        for chooser in (self.x, self.y):
            chooser.observe(guard(self._turn), names="value")
        for chooser in (self.colour, self.recordings):
            chooser.observe(guard(self._recolour), names="value")
        self.lanes.observe(guard(self._other_recording), names="value")
        for slider in self.held.values():
            slider.observe(guard(self._slide), names="value")
        choice = self.study.found.choice
        self.best.on_click(guard(lambda _button: self.go_to(choice.best)))
        self.out_of_fold.on_click(guard(lambda _button: self.go_to(choice.most_chosen)))
        self.default.on_click(guard(lambda _button: self.go_to(self._nearest_to_default())))
        self.player.observe(guard(self._play_selection), names="request")
        self._time = TimeAxis(figure, lambda: self._scene.duration, guard(self._zoomed))
        for trace in figure.data:
            if trace.name == "cells":
                trace.on_click(guard(self._pick))
            elif trace.name.startswith("recordings") or trace.name in ("found", "true", "found default"):
                trace.on_click(guard(self._pick_recording))
            elif trace.name in LANES:
                trace.on_click(guard(self._clicked))

    # -- what is shown -------------------------------------------------------------------------

    @property
    def uris(self) -> list[str]:
        """Recordings that the heatmap is about."""
        table = self.study.found.table
        return list(table.uris) if self.recordings.value == ALL else [self.recordings.value]

    @property
    def values(self) -> dict[str, Any]:
        """Parameters of the cell that is looked at."""
        return self.study.found.table.values(self.cell)

    def _compose(self) -> GridScene:
        found, uri, uris = self.study.found, self.lanes.value, self.uris
        key = self.recordings.value
        if key not in self._hover:
            rows = [found.table.uris.index(each) for each in uris]
            lattice = Lattice.of(found.table.cells)
            self._hover[key] = hover_texts(found, uris)
            self._regions[key] = (
                np.full(len(found.table), -1)
                if lattice is None
                else lattice.regions(found.table.partition[rows])
            )
        rows = [found.table.uris.index(each) for each in uris]
        return GridScene(
            plane=Slice.of(found.table, self.x.value, self.y.value, self._held()),
            measure=measure_cells(
                found.table, self.colour.value, uris, p_worse=found.choice.p_worse, noise=found.noise
            ),
            hover=self._hover[key],
            choice=found.choice,
            regions=self._regions[key],
            converged=np.asarray(found.table.converged[rows].all(axis=0)),
            is_pooled=key == ALL,
            cell=self.cell,
            recordings=pd.DataFrame(recording_rows(self.study, self.cell, found.table.uris)),
            uri=uri,
            duration=self.study.duration(uri),
            reference=self.study.turns(uri),
            default=self.study.view(uri, None),
            view=self.study.view(uri, self.cell),
            changes=self.study.changes(uri, self.cell),
        )

    def _held(self) -> dict[str, Any]:
        """Values of the sliders."""
        values = {name: slider.value for name, slider in self.held.items()}
        return {name: None if value == UNSET else value for name, value in values.items()}

    def _say(self) -> None:
        self.headline.value = cell_html(self.study, self.cell, self.uris)
        for name, slider in self.held.items():
            shown = name not in (self.x.value, self.y.value) and len(slider.options) > 1
            slider.layout.display = "" if shown else "none"

    def _redraw(self, keep_axis: bool = True) -> None:
        assert self.figure is not None
        self._scene = self._compose()
        view = self._view() if keep_axis else None
        self._screen = plot_grid(self._scene, view=view, selection=self.selection)
        drawn = self._screen.figure
        self._busy = True
        try:
            with self.figure.batch_update():
                update_traces(self.figure, drawn)
                update_layout(self.figure, drawn, keep=("xaxis",) if keep_axis else ())
                cells, new = (_named(each, "cells") for each in (self.figure, drawn))
                for name in ("zmin", "zmax", "colorscale"):
                    cells[name] = new[name]
                cells.colorbar.update(new.colorbar.to_plotly_json())
                for name in ("plateaus", "not worse", "contour", "not converged"):
                    _named(self.figure, name).update(x=_named(drawn, name).x, y=_named(drawn, name).y)
        finally:
            self._busy = False
        self._say()

    # -- callbacks -----------------------------------------------------------------------------

    def go_to(self, cell: int) -> None:
        """Look at a cell, wherever it lies in the grid."""
        self.cell = int(cell)
        self._busy = True
        try:
            self._set_sliders()
        finally:
            self._busy = False
        self._deselect()
        self._redraw()

    def _set_sliders(self) -> None:
        for name, value in self.values.items():
            slider = self.held[name]
            known = [option for _, option in slider.options]
            wanted = option_of(value)
            slider.value = next((each for each in known if _is_same(each, wanted)), slider.value)

    def _nearest_to_default(self) -> int:
        """The cell that lies closest to the default, which need not be one."""
        choice, lattice = self.study.found.choice, Lattice.of(self.study.found.table.cells)
        if choice.default is not None:
            return choice.default
        distance = np.zeros(len(choice.table))
        for name, value in self.study.default.items():
            column = choice.table.cells[name]
            if isinstance(value, int | float) and pd.api.types.is_numeric_dtype(column):
                numbers = column.to_numpy(dtype=float, na_value=np.nan)
                distance += np.abs(numbers - value) / max(np.nanmax(numbers) - np.nanmin(numbers), 1e-12)
            else:
                distance += ~same_value(column, value)
        assert lattice is None or len(lattice.ranks) == len(distance)
        return int(np.nanargmin(distance))

    def _turn(self, change: Any) -> None:
        """Another parameter across or down; one cannot be both, so they change places."""
        if self._busy:
            return
        if self.x.value == self.y.value and len(self.held) > 1:
            other = self.y if change["owner"] is self.x else self.x
            self._busy = True
            try:
                other.value = change["old"]
            finally:
                self._busy = False
        self._redraw()

    def _recolour(self, _change: Any) -> None:
        if self._busy:
            return
        if self.recordings.value != ALL and self.recordings.value != self.lanes.value:
            self.lanes.value = self.recordings.value  # draws everything
        else:
            self._redraw()

    def _other_recording(self, _change: Any) -> None:
        if not self._busy:
            self._deselect()
            self._redraw(keep_axis=False)

    def _slide(self, _change: Any) -> None:
        """Another plane of the grid; the cell in the same place of it is looked at."""
        if self._busy:
            return
        place = self._scene.plane.find(self.cell)
        plane = Slice.of(self.study.found.table, self.x.value, self.y.value, self._held())
        if place is not None and plane.cells[place[1], place[0]] >= 0:
            self.cell = int(plane.cells[place[1], place[0]])
        self._deselect()
        self._redraw()

    def _pick(self, _trace: Any, points: Any, _state: Any) -> None:
        """A cell of the heatmap."""
        if not points.point_inds:
            return
        row, column = points.point_inds[0]
        cell = int(self._scene.plane.cells[row, column])
        if cell < 0:
            raise InputError("this combination was not computed: the grid has a hole here")
        self.go_to(cell)

    def _pick_recording(self, _trace: Any, points: Any, _state: Any) -> None:
        if points.point_inds:
            self.lanes.value = str(self._scene.recordings["uri"].iloc[points.point_inds[0]])

    def _view(self) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        return self._time.read()

    def _zoomed(self) -> None:
        """Draw what is in view now; nothing but the lanes changes."""
        if self._busy or self.figure is None:
            return
        self._busy = True
        try:
            lanes = plot_lanes(self._scene.lanes, self._view())
            shown = {trace.name for trace in self.figure.data}
            self._screen.tables.update({name: lanes.tables[name] for name in self._screen.tables})
            with self.figure.batch_update():
                kept = [trace for trace in lanes.figure.data if trace.name in shown]
                update_traces(self.figure, go.Figure(kept))
        finally:
            self._busy = False

    # -- what leaves the screen ----------------------------------------------------------------

    def settings(self) -> SweepSettings:
        """The cell that is looked at, fully specified."""
        return self.study.base.replace(**self.values)

    def export(
        self, folder: str | os.PathLike[str], config: str | os.PathLike[str] | None = None
    ) -> dict[str, Path]:
        """Write `best.toml`, `best.yaml`, `summary.md` and `summary.html` for the cell that is looked at.

        Parameters
        ----------
        folder : made if missing
        config : DiariZen TOML into which `best.toml` is merged, its comments kept
        """
        self.wait()
        Path(folder).mkdir(parents=True, exist_ok=True)
        written = write_best(folder, self.settings(), config=config, names=self.study.grid.names)
        found = self.study.found
        summary = summarise_tuning(
            found.table, self.study.default, choice=found.choice, stability=self.study.stability
        )
        markdown, page = write_summary(folder, summary)
        return {**written, markdown.name: markdown, page.name: page}

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        self.wait()
        if self.figure is None:
            return static_page([self.errors.value], go.Figure(), "grid", include_plotlyjs, full_html)
        drawn = plot_grid(self._scene, view=self._view(), selection=self.selection)
        lines = [self.verdict.value, self.notices.value, self.headline.value, self.errors.value]
        title = f"Grid over {', '.join(self.study.grid.names)}"
        return static_page(lines, drawn.figure, title, include_plotlyjs, full_html)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if self._is_static:
            return {"text/html": self.to_html(), "text/plain": f"GridScreen({', '.join(self.held)})"}
        return super()._repr_mimebundle_(**kwargs)


def _named(figure: go.Figure, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name)


def _is_same(first: Any, second: Any) -> bool:
    if isinstance(first, int | float) and isinstance(second, int | float):
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second), 1e-300)
    return bool(first == second)
