"""Scores of trials: histograms with a threshold, DET curve, calibration, one runtime against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.special import ndtri

from workbench.plots import theme
from workbench.verification import Calibration, Verification, det_curve, rates_at

SAME, DIFFERENT = theme.SPEAKERS[2], theme.SPEAKERS[6]
SAME_NAME, DIFFERENT_NAME = "same speaker", "different speakers"
NUM_BINS = 46
MOST_POINTS = 1500  # trials drawn one by one; all decisions that differ, and those nearest to the threshold
_TICKS = (0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_EDGE = 0.16  # deviates below the lowest rate: a mark there is seen whole


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialView:
    """Scored trials as the screen shows them."""

    names: tuple[str, ...]  # of the runtime, and of the one it is compared with
    verifications: tuple[Verification, ...]  # of the same trials, one per name
    threshold: float  # score from which a trial is accepted
    scoring: str  # `cosine` or `plda`
    pairs: Sequence[tuple[str, str]]  # names of both sides
    calibration: Calibration | None  # None: scores that tell nothing apart
    chosen: int | None = None  # trial that is selected

    @property
    def main(self) -> Verification:
        """Of the runtime that is looked at."""
        return self.verifications[0]

    @property
    def unit(self) -> str:
        """Title of a score axis."""
        return "cosine" if self.scoring == "cosine" else "PLDA log-likelihood ratio (nats)"

    @property
    def flips(self) -> np.ndarray:
        """Trials (num_trials,) that the two runtimes decide otherwise at the threshold."""
        decided = [each.scores >= self.threshold for each in self.verifications]
        flipped: np.ndarray = decided[0] != decided[-1]
        return flipped

    @property
    def difference_scale(self) -> float:
        """Power of ten that score differences are written in: axis ticks stay short."""
        if len(self.verifications) < 2:
            return 1.0
        largest = float(np.abs(self.verifications[1].scores - self.main.scores).max(initial=0.0))
        return 10.0 ** np.floor(np.log10(largest)) if largest > 0 else 1.0


def bin_edges(scores: np.ndarray) -> np.ndarray:
    """Edges (`NUM_BINS` + 1,) from the lowest to the highest score, with a little room for equal ones."""
    low, high = float(scores.min()), float(scores.max())
    room = 1e-9 + 1e-9 * abs(high - low)
    return np.linspace(low - room, high + room, NUM_BINS + 1)


def histogram_bars(view: TrialView | None) -> list[go.Bar]:
    """Share of its kind per bin: kinds of very different size stay comparable; counts are in the hover."""
    bars = []
    for name, color, hatch in ((DIFFERENT_NAME, DIFFERENT, "/"), (SAME_NAME, SAME, "")):
        x = y = counts = np.zeros(0)
        if view is not None:
            edges = bin_edges(view.main.scores)
            kept = view.main.target == (name == SAME_NAME)
            counts, _ = np.histogram(view.main.scores[kept], edges)
            x = (edges[:-1] + edges[1:]) / 2
            y = 100 * counts / max(kept.sum(), 1)
        bars.append(
            go.Bar(
                name=name,
                x=x,
                y=y,
                customdata=counts,
                marker={
                    "color": color,
                    "opacity": 0.62,
                    "line": {"width": 0},
                    "pattern": theme.hatched(hatch),
                },
                hovertemplate=f"<b>{name}</b><br>score %{{x:.3~g}}: %{{customdata}} trials (%{{y:.1f}} %)"
                "<br>click to hear one<extra></extra>",
            )
        )
    return bars


def calibration_line(view: TrialView | None) -> go.Scatter:
    """Probability of the same speaker against the score, where both are equally likely beforehand."""
    x, y = np.zeros(0), np.zeros(0)
    if view is not None and view.calibration is not None:
        edges = bin_edges(view.main.scores)
        x = np.linspace(edges[0], edges[-1], 160)
        y = 100 * view.calibration.probability(x)
    return go.Scatter(
        name="calibration",
        x=x,
        y=y,
        yaxis="y2",
        mode="lines",
        line={"color": theme.TEXT, "width": 1.6, "dash": "dot"},
        hovertemplate="score %{x:.3~g}: the same speaker with %{y:.1f} %<extra></extra>",
    )


def deviate_range(view: TrialView | None) -> tuple[float, float]:
    """From less than one trial of the larger kind to 60 %, as normal deviates."""
    if view is None:
        return float(ndtri(0.001)), float(ndtri(0.6))
    most = max(view.main.target.sum(), (~view.main.target).sum(), 10)
    worst = max(0.6, *(min(1.2 * each.eer, 0.9) for each in view.verifications))
    return float(ndtri(0.5 / most)), float(ndtri(worst))


def det_lines(view: TrialView | None) -> list[go.Scatter]:
    """Misses against false accepts of both runtimes."""
    lines = []
    for number, look in enumerate((theme.BASELINE, theme.CANDIDATE)):
        shown = view is not None and number < len(view.verifications)
        x = y = thresholds = np.zeros(0)
        name = ""
        if view is not None and shown:
            rates = view.verifications[number].rates
            curve = det_curve(rates)
            x, y = curve["false_alarm_deviate"].to_numpy(), curve["miss_deviate"].to_numpy()
            # JSON has no infinity: where nothing is accepted, the threshold is just above the highest score
            highest = rates.thresholds[np.isfinite(rates.thresholds)].max(initial=0.0)
            scores = np.minimum(curve["threshold"], np.nextafter(highest, np.inf))
            thresholds = np.stack([curve["false_alarm"], curve["miss"], scores], axis=1)
            name = view.names[number]
        lines.append(
            go.Scatter(
                name=("det", "det candidate")[number],
                x=x,
                y=y,
                xaxis="x3",
                yaxis="y3",
                mode="lines",
                line=look | {"color": (theme.SPEAKERS[4], theme.SPEAKERS[0])[number]},
                customdata=thresholds,
                hovertemplate=f"<b>{name}</b> from %{{customdata[2]:.3~g}} on<br>false accepts "
                "%{customdata[0]:.2%}, misses %{customdata[1]:.2%}<extra></extra>",
            )
        )
    return lines


def det_marks(view: TrialView | None) -> list[dict[str, Any]]:
    """Where the threshold is on either DET curve, as shapes: those are moved without drawing everything."""
    low, high = deviate_range(view)
    marks = []
    for number, (radius, color) in enumerate(((6, theme.SPEAKERS[4]), (9, theme.SPEAKERS[0]))):
        shown = view is not None and number < len(view.verifications)
        across, up = low, low
        if view is not None and shown:
            miss, false_alarm = rates_at(view.verifications[number].rates, view.threshold)
            across, up = (float(np.clip(ndtri(rate), low, high)) for rate in (false_alarm, miss))
        place = {"xref": "x3", "yref": "y3", "xanchor": across, "yanchor": up, "visible": shown}
        size = {"x0": -radius, "x1": radius, "y0": -radius, "y1": radius}
        look = (
            {"line": {"color": color, "width": 2.5}} if number else {"line": {"width": 0}, "fillcolor": color}
        )
        marks.append({"type": "circle", "xsizemode": "pixel", "ysizemode": "pixel"} | place | size | look)
    return marks


def shown_trials(view: TrialView) -> np.ndarray:
    """Trials drawn one by one: all, or those decided otherwise and those nearest to the threshold."""
    if len(view.main.scores) <= MOST_POINTS:
        return np.arange(len(view.main.scores))
    distance = np.where(view.flips, -1.0, np.abs(view.main.scores - view.threshold))
    return np.sort(np.argsort(distance, kind="stable")[:MOST_POINTS])


def difference_points(view: TrialView | None) -> list[go.Scatter]:
    """How far the second runtime's score lies from the first one's; decisions that differ stand out."""
    compared = view is not None and len(view.verifications) > 1
    x = y = np.zeros(0)
    trials = np.zeros(0, dtype=np.int64)
    flipped = same = np.zeros(0, dtype=bool)
    pairs: list[str] = []
    if view is not None and compared:
        trials = shown_trials(view)
        x = view.main.scores[trials]
        y = (view.verifications[1].scores - view.main.scores)[trials] / view.difference_scale
        same, flipped = view.main.target[trials], view.flips[trials]
        pairs = ["<br>".join(view.pairs[int(trial)]) for trial in trials]
    common: dict[str, Any] = {"xaxis": "x4", "yaxis": "y4", "mode": "markers"}
    return [
        go.Scatter(
            name="trials",
            x=x,
            y=y,
            text=pairs,
            customdata=trials,
            marker={
                "size": 5,
                "opacity": 0.7,
                "color": np.where(same, SAME, DIFFERENT).tolist(),
                "symbol": np.where(same, "circle", "diamond").tolist(),
            },
            hovertemplate="%{text}<br>score %{x:.4~g}, difference %{y:.3~g}<extra></extra>",
            **common,
        ),
        go.Scatter(
            name="flips",
            x=x[flipped],
            y=y[flipped],
            customdata=trials[flipped],
            marker={
                "size": 12,
                "symbol": "circle-open",
                "color": theme.ERRORS["confusion"].color,
                "line": {"width": 2},
            },
            hovertemplate="decided otherwise by the two runtimes<extra></extra>",
            **common,
        ),
    ]


def chosen_score(view: TrialView | None) -> go.Scatter:
    """A mark over the axis where the selected trial scores."""
    scores = [] if view is None or view.chosen is None else [float(view.main.scores[view.chosen])]
    return go.Scatter(
        name="chosen trial",
        x=scores,
        y=[0.0] * len(scores),
        mode="markers",
        marker={"symbol": "triangle-up", "size": 13, "color": theme.TEXT},
        cliponaxis=False,
        hovertemplate="selected trial: %{x:.4~g}<extra></extra>",
    )


def trial_axes(
    view: TrialView | None, domain: list[float], sides: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Axes of the three panels; `sides` are their domains across."""
    fixed = {"fixedrange": True}
    low, high = deviate_range(view)
    ticks = [tick for tick in _TICKS if low <= ndtri(tick) <= high]
    rates: dict[str, Any] = fixed | {
        "range": [low - _EDGE, high],
        "tickvals": ndtri(ticks).tolist(),
        "ticktext": [f"{100 * tick:g}" for tick in ticks],
    }
    scores = [0.0, 1.0]
    peak = 1.0
    spread = 1.0
    difference = ""
    if view is not None:
        edges = bin_edges(view.main.scores)
        room = 0.02 * (edges[-1] - edges[0])
        scores = [float(edges[0] - room), float(edges[-1] + room)]
        peak = 1.1 * max(float(np.max(bar.y, initial=1.0)) for bar in histogram_bars(view))
        if len(view.verifications) > 1:
            exponent = round(np.log10(view.difference_scale))
            unit = "" if exponent == 0 else f" (10<sup>{exponent}</sup>)".replace("-", "−")
            difference = f"score difference{unit}"
            change = np.abs(view.verifications[1].scores - view.main.scores).max() / view.difference_scale
            spread = 1.25 * max(float(change), 0.1)
    unit_title = "score" if view is None else view.unit
    return {
        "xaxis": {
            "domain": sides[0],
            "anchor": "y",
            "range": scores,
            "title": {"text": f"score: {unit_title}" if view is not None else unit_title},
        },
        "yaxis": fixed | {"domain": domain, "range": [0, peak], "title": {"text": "trials of the kind (%)"}},
        "yaxis2": fixed
        | {
            "overlaying": "y",
            "anchor": "x",
            "side": "right",
            "range": [0, 110],
            "tickvals": [0, 50, 100],
            "showgrid": False,
            "title": {"text": "same speaker (%), calibrated", "standoff": 4},
        },
        "xaxis3": rates | {"domain": sides[1], "anchor": "y3", "title": {"text": "false accepts (%)"}},
        "yaxis3": rates | {"domain": domain, "anchor": "x3", "title": {"text": "misses (%)"}},
        "xaxis4": fixed
        | {"domain": sides[2], "anchor": "y4", "range": scores, "nticks": 4, "title": {"text": unit_title}},
        "yaxis4": fixed
        | {
            "domain": domain,
            "anchor": "x4",
            "range": [-spread, spread],
            "nticks": 5,
            "title": {"text": difference},
        },
    }
