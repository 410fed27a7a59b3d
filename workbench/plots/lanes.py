"""The lanes of a timeline: tables and envelopes in, one plotly trace per lane out.

Time runs on a date axis, the only kind that plotly labels as `m:ss` at every zoom without being
asked again. The recording begins at `EPOCH`: plotly would read small numbers as years.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.overview import Envelope
from workbench.plots import theme
from workbench.plots.theme import SpeakerStyle
from workbench.plots.words import clocks, speaker_name
from workbench.timeline import thin_turns

EPOCH = 946_684_800_000  # ms, start of the year 2000: where every recording begins
COLUMNS = 1200  # drawn per width of the view
FEW_TURNS = 600  # up to this many are drawn one by one, whatever the zoom
MOST_TURNS = 1000  # drawn of one lane: a browser repaints no more while it is dragged smoothly
HATCHED = 8  # columns that a bar must be wide for its hatch to be seen


def on_axis(seconds: np.ndarray | float) -> np.ndarray:
    """Seconds of a recording as coordinates of the time axis."""
    return EPOCH + np.asarray(seconds, dtype=np.float64) * 1000.0


def as_dates(seconds: np.ndarray) -> np.ndarray:
    """Seconds of a recording as the date texts that make plotly keep the time axis a date axis.

    Whenever data change, plotly guesses the type of the axis again, from its first trace; numbers
    would make it a linear one.
    """
    milliseconds = np.datetime64(EPOCH, "ms") + np.rint(np.asarray(seconds) * 1000).astype("timedelta64[ms]")
    return np.datetime_as_string(milliseconds, unit="ms")


def from_axis(value: object) -> float:
    """Seconds of a coordinate of the time axis, in either form that a browser sends.

    Examples
    --------
    >>> from_axis(on_axis(1.5)), from_axis("2000-01-01 00:01:02.5"), from_axis("2000-01-01")
    (1.5, 62.5, 0.0)
    """
    if isinstance(value, str):
        moment = np.datetime64(value.strip().replace(" ", "T"), "us")
        return float((moment - np.datetime64(EPOCH, "ms")) / np.timedelta64(1, "us")) / 1e6
    return (float(value) - EPOCH) / 1000.0  # type: ignore[arg-type]


def tick_format(duration: float) -> list[dict[str, object]]:
    """How times are written along the axis: finer after zooming in, with hours where there are any."""
    whole = "%-H:%M:%S" if duration >= 3600 else "%-M:%S"
    return [
        {"dtickrange": [None, 99], "value": whole + ".%L"},
        {"dtickrange": [100, 999], "value": whole + ".%1f"},
        {"dtickrange": [1000, None], "value": whole},
    ]


def waveform_trace(
    envelope: Envelope, start: float, end: float, *, yaxis: str, num_columns: int
) -> go.Scatter:
    """The waveform between `start` and `end` (s) as one filled outline, its peak at 1."""
    time, low, high = envelope.between(start, end, num_columns)
    x = as_dates(np.concatenate([time, time[::-1]]))
    y = np.concatenate([high, low[::-1]]) / envelope.peak
    return go.Scatter(
        name="waveform",
        x=x,
        y=np.round(y, 4),
        yaxis=yaxis,
        mode="lines",
        fill="toself",
        fillcolor=theme.WAVEFORM,
        line={"color": theme.WAVEFORM, "width": 0.6},
        hoverinfo="skip",
    )


def turn_bars(
    turns: pd.DataFrame,
    rows: Mapping[Hashable, int],
    styles: Mapping[Hashable, SpeakerStyle],
    names: Mapping[Hashable, str],
    *,
    name: str,
    uri: str,
    yaxis: str,
    view: tuple[float, float],
    column: float | None = None,
) -> tuple[go.Bar, pd.DataFrame]:
    """Turns as rectangles of one trace, and the table behind it: a point of the one is a row of the other.

    Parameters
    ----------
    turns : start, end (s), speaker
    rows, styles, names : speaker -> row from above, look, what it is called
    name : of the trace
    uri : of the recording, for the hover text
    yaxis : as plotly names it
    view : start and end (s) of what has to be drawn
    column : duration (s) of a column of the screen, narrower than which nothing is drawn; by default a
        three thousand six hundredth of `view`, which is three screens wide then
    """
    column = _column(view, column)
    table = turns.assign(row=turns["speaker"].map(dict(rows)).astype(float))
    table = _in_view(table, view, column)
    looks = [styles[speaker] for speaker in table["speaker"]]
    texts = [names[speaker] for speaker in table["speaker"]]
    bars = _bars(table, looks, column, name=name, yaxis=yaxis)
    bars.customdata = _hover_columns(table, texts)
    bars.hovertemplate = f"<b>%{{customdata[0]}}</b> · {name}<br>{uri}<br>{_HOVER_TIMES}<extra></extra>"
    return bars, table


def error_bars(
    errors: pd.DataFrame,
    *,
    uri: str,
    yaxis: str,
    view: tuple[float, float],
    column: float | None = None,
) -> tuple[go.Bar, pd.DataFrame]:
    """Errors as rectangles of one trace, one row per kind, and the table behind it."""
    return _kind_bars(errors, theme.ERRORS, uri=uri, yaxis=yaxis, view=view, column=column)


def change_bars(
    changes: pd.DataFrame,
    *,
    uri: str,
    yaxis: str,
    view: tuple[float, float],
    column: float | None = None,
) -> tuple[go.Bar, pd.DataFrame]:
    """What one system fixed and broke against another, as `error_bars` draws errors."""
    return _kind_bars(changes, theme.CHANGES, uri=uri, yaxis=yaxis, view=view, column=column)


def _kind_bars(
    errors: pd.DataFrame,
    styles: Mapping[str, theme.ErrorStyle],
    *,
    uri: str,
    yaxis: str,
    view: tuple[float, float],
    column: float | None,
) -> tuple[go.Bar, pd.DataFrame]:
    column = _column(view, column)
    rows = {kind: row for row, kind in enumerate(styles)}
    table = _in_view(errors.assign(row=errors["kind"].map(rows).astype(float)), view, column)
    bars = _bars(table, [styles[kind] for kind in table["kind"]], column, name="errors", yaxis=yaxis)
    bars.customdata = _hover_columns(table, describe_errors(table))
    bars.hovertemplate = f"<b>%{{customdata[0]}}</b><br>{uri}<br>{_HOVER_TIMES}<extra></extra>"
    return bars, table


def describe_errors(errors: pd.DataFrame) -> list[str]:
    """`confusion A → spk2`, `missed A`, `false alarm spk2`, `fixed A`: one phrase per error or change."""
    texts = []
    for kind, reference, hypothesis in zip(
        errors["kind"], errors["reference_speaker"], errors["hypothesis_speaker"], strict=True
    ):
        known = [] if pd.isna(reference) else [str(reference)]
        known += [] if pd.isna(hypothesis) else [speaker_name(hypothesis)]
        texts.append(" ".join([theme.KINDS[kind].name, " → ".join(known)]).strip())
    return texts


_HOVER_TIMES = "%{customdata[1]} – %{customdata[2]} · %{customdata[3]}%{customdata[4]}"


def _column(view: tuple[float, float], column: float | None) -> float:
    """Duration (s) of a column of the screen."""
    return (view[1] - view[0]) / (3 * COLUMNS) if column is None else column


def _in_view(table: pd.DataFrame, view: tuple[float, float], column: float) -> pd.DataFrame:
    """What lies in the view; where that is too much to be drawn, neighbours become one."""
    seen = table[(table["end"] > view[0]) & (table["start"] < view[1])]
    thinned = thin_turns(seen, *view, column if len(seen) > FEW_TURNS else 0.0)
    while len(thinned) > MOST_TURNS:
        column *= 1.5
        thinned = thin_turns(seen, *view, column)
    return thinned.reset_index(drop=True)


def _hover_columns(table: pd.DataFrame, texts: Sequence[str]) -> np.ndarray:
    merged = ["" if number == 1 else f" · {number} turns, zoom in" for number in table["num_turns"]]
    durations = [f"{duration:.2f} s" for duration in table["end"] - table["start"]]
    columns = [texts, clocks(table["start"].to_numpy()), clocks(table["end"].to_numpy()), durations, merged]
    return np.array(columns, dtype=object).T.reshape(-1, 5)


def _bars(
    table: pd.DataFrame,
    looks: Sequence[SpeakerStyle | theme.ErrorStyle],
    column: float,
    *,
    name: str,
    yaxis: str,
) -> go.Bar:
    durations = (table["end"] - table["start"]).to_numpy()
    # The browser keeps three nodes for a hatched bar and one for a plain one.
    is_wide = durations >= HATCHED * column
    hatches = [look.hatch if wide else "" for look, wide in zip(looks, is_wide, strict=True)]
    return go.Bar(
        name=name,
        orientation="h",
        base=on_axis(table["start"].to_numpy()),
        x=1000.0 * durations,
        y=table["row"].to_numpy(dtype=np.float64),
        yaxis=yaxis,
        width=0.76,
        marker={
            "color": [look.color for look in looks],
            "line": {"width": 0},
            "pattern": theme.hatched(hatches),
        },
    )


def time_axis(duration: float, visible: tuple[float, float], anchor: str) -> dict[str, object]:
    """The axis that all lanes share, from `visible[0]` to `visible[1]` seconds of `duration`."""
    whole = [float(on_axis(0)), float(on_axis(duration))]
    return {
        "type": "date",
        "anchor": anchor,
        "range": [float(on_axis(visible[0])), float(on_axis(visible[1]))],
        "minallowed": whole[0],
        "maxallowed": whole[1],
        # where a double click leads: the whole recording, to the millisecond
        "autorangeoptions": {"include": whole, "clipmin": whole[0], "clipmax": whole[1]},
        "tickformatstops": tick_format(duration),
        "hoverformat": "%-M:%S.%L",
        "nticks": 12,
        "ticks": "outside",
        "ticklen": 4,
        "title": {"text": "Time (m:ss)" if duration < 3600 else "Time (h:mm:ss)"},
    }
