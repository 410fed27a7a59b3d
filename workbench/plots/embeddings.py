"""Speaker embeddings on one screen: how well trials are told apart, and who resembles whom in a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from workbench.plots import theme
from workbench.plots.embeddings_local import (
    LocalView,
    chosen_cell,
    chosen_points,
    cluster_borders,
    local_axes,
    map_names,
    map_points,
    matrix_cells,
    outlier_bars,
    outlier_marks,
)
from workbench.plots.embeddings_trials import (
    DIFFERENT,
    SAME,
    TrialView,
    calibration_line,
    chosen_score,
    det_lines,
    det_marks,
    deviate_range,
    difference_points,
    histogram_bars,
    trial_axes,
)

UPPER = 232  # px
GAP = 96  # px: ticks, axis titles, and the titles of the panels below
LOWER = 372  # px
TRIAL_SIDES = ((0.0, 0.40), (0.535, 0.745), (0.835, 1.0))  # across
LOCAL_SIDES = ((0.0, 0.385), (0.58, 0.735), (0.785, 1.0))
MARGIN = theme.MARGIN | {"t": 30, "b": 46}
NO_TRIALS = "No trials: give <b>trials=…</b>, a list of pairs, and <b>models={'name': 'torch:…'}</b>"
NO_SECOND = "Give a second model<br>in <b>models={…}</b><br>to compare with"
NO_LOCAL = "No local speakers: give <b>features=…</b>, as <b>workbench diarize --features-dir</b> writes them"


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingScene:
    """What the screen shows."""

    trials: TrialView | None = None
    local: LocalView | None = None


def plot_embeddings(scene: EmbeddingScene) -> go.Figure:
    """Histograms, DET curve and score differences above; similarity matrix, outliers and map below.

    The traces always come in the same order and number, so that a redraw can update them.
    """
    trials, local = scene.trials, scene.local
    traces = [
        *histogram_bars(trials),
        calibration_line(trials),
        chosen_score(trials),
        *det_lines(trials),
        *difference_points(trials),
        matrix_cells(local),
        cluster_borders(local),
        outlier_marks(local),
        outlier_bars(local),
        map_points(local),
        chosen_points(local),
        map_names(local),
    ]
    figure = go.Figure(traces)
    figure.layout = _layout(scene)
    upper = LOWER / (UPPER + GAP + LOWER)
    bar = figure.data[[trace.name for trace in traces].index("similarity")].colorbar
    bar.update(x=LOCAL_SIDES[0][1] + 0.022, xanchor="left", y=0, yanchor="bottom", len=upper, ypad=0)
    return figure


def _layout(scene: EmbeddingScene) -> go.Layout:
    inner = UPPER + GAP + LOWER
    above, below = [(LOWER + GAP) / inner, 1.0], [0.0, LOWER / inner]
    layout: dict[str, Any] = {
        "template": theme.template(),
        "width": theme.WIDTH,
        "height": inner + MARGIN["t"] + MARGIN["b"],
        "margin": MARGIN,
        "barmode": "overlay",
        "bargap": 0,
        "dragmode": "pan",
        "hovermode": "closest",
        "meta": {"lanes": ["", ""]},  # there is no time axis that the player could draw on
    }
    layout |= trial_axes(scene.trials, above, TRIAL_SIDES)
    layout |= local_axes(scene.local, below, LOCAL_SIDES)
    layout["shapes"] = _shapes(scene)
    layout["annotations"] = _titles(scene, below[1])
    return go.Layout(layout)


def threshold_shapes(trials: TrialView | None) -> list[dict[str, Any]]:
    """The threshold through the histograms and through the differences, and on the DET curves."""
    place = 0.0 if trials is None else trials.threshold
    line = {"color": theme.TEXT, "width": 2}
    compared = trials is not None and len(trials.verifications) > 1
    lines = [
        {"type": "line", "xref": xref, "yref": yref, "x0": place, "x1": place, "y0": 0, "y1": 1}
        | {"line": line | {"width": width}, "visible": shown}
        for xref, yref, width, shown in (
            ("x", "y domain", 2, trials is not None),
            ("x4", "y4 domain", 1, compared),
        )
    ]
    return [*lines, *det_marks(trials)]


def _shapes(scene: EmbeddingScene) -> list[dict[str, Any]]:
    low, high = deviate_range(scene.trials)
    diagonal = {"type": "line", "xref": "x3", "yref": "y3", "x0": low, "y0": low, "x1": high, "y1": high}
    diagonal |= {"line": {"color": theme.FRAME, "width": 1, "dash": "dot"}, "layer": "below"}
    return [*threshold_shapes(scene.trials), *chosen_cell(scene.local), diagonal]


def _titles(scene: EmbeddingScene, upper: float) -> list[dict[str, Any]]:
    trials, local = scene.trials, scene.local
    quiet = f"<span style='color:{theme.TEXT};font-size:11px'>"
    kinds = f"<span style='color:{DIFFERENT}'>▨</span> different speakers  "
    kinds += f"<span style='color:{SAME}'>■</span> same speaker  ⋯ calibration"
    curve, second = "", ""
    if trials is not None:
        colors = (theme.SPEAKERS[4], theme.SPEAKERS[0])
        curve = "  ".join(
            f"<span style='color:{color}'>{dash}</span> {name}"
            for name, color, dash in zip(trials.names, colors, ("━", "╍"), strict=False)
        )
        second = f"{trials.names[1]} − {trials.names[0]}" if len(trials.names) > 1 else ""
    by = "reference speaker" if local is not None and local.color_by == "reference" else "cluster"
    titles = [
        ("Scores", kinds, TRIAL_SIDES[0][0], 1.0),
        ("DET", curve, TRIAL_SIDES[1][0], 1.0),
        ("Scores", second, TRIAL_SIDES[2][0], 1.0),
        (
            "Who is like whom",
            "" if local is None else f"{local.found.uri} · cosine",
            LOCAL_SIDES[0][0],
            upper,
        ),
        ("Fits worst", "of those who talk ≥ 1 s", LOCAL_SIDES[1][0] - 0.095, upper),
        ("Map", f"colour: {by}", LOCAL_SIDES[2][0], upper),
    ]
    notes = [
        _text(f"<b>{title}</b>  {quiet}{words}</span>", x=x, y=y, xanchor="left", yanchor="bottom", yshift=5)
        for title, words, x, y in titles
    ]
    if trials is None:
        notes.append(_text(NO_TRIALS, x=0.2, y=(1 + upper) / 2 + 0.05))
    elif len(trials.names) < 2:
        notes.append(_text(NO_SECOND, x=sum(TRIAL_SIDES[2]) / 2, y=(1 + upper) / 2 + 0.06))
    if local is None:
        notes.append(_text(NO_LOCAL, x=0.34, y=upper / 2))
    return notes


def _text(text: str, **place: Any) -> dict[str, Any]:
    return {"text": text, "showarrow": False, "xref": "paper", "yref": "paper"} | place
