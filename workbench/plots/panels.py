"""The two panels below the lanes: the map of local speakers, and what became of everybody's speech."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.overview import Diarization
from workbench.plots import theme
from workbench.plots.cast import Cast, labelled_rows
from workbench.plots.theme import SpeakerStyle
from workbench.plots.words import clock


def map_points(local_map: pd.DataFrame, cast: Cast) -> go.Scatter:
    """Filled with the colour of the cluster; shape and rim say who really talks most."""
    grey = SpeakerStyle(color=theme.UNMATCHED, symbol="x-thin-open")
    filled = [cast.hypothesis.get(cluster, grey) for cluster in local_map["cluster"]]
    # without a reference the cluster decides about the shape, too
    truth = [
        cast.reference.get(who, look)
        for who, look in zip(local_map["reference_speaker"], filled, strict=True)
    ]
    names = [cast.hypothesis_names.get(cluster, "no cluster") for cluster in local_map["cluster"]]
    talking = ["" if who is None else f"<br>reference {who}" for who in local_map["reference_speaker"]]
    times = [f"{clock(a)}–{clock(b)}" for a, b in zip(local_map["start"], local_map["end"], strict=True)]
    return go.Scatter(
        name="map",
        x=local_map["x"].to_numpy(),
        y=local_map["y"].to_numpy(),
        xaxis="x2",
        yaxis="y6",
        mode="markers",
        marker={
            "size": 7.5,
            "opacity": 0.85,
            "color": [look.color for look in filled],
            "symbol": [look.symbol for look in truth],
            "line": {"width": 1.5, "color": [look.color for look in truth]},
        },
        customdata=np.array(
            [names, talking, times, local_map["chunk"], local_map["local_speaker"]], dtype=object
        ).T,
        hovertemplate=(
            "<b>%{customdata[0]}</b>%{customdata[1]}<br>chunk %{customdata[3]} (%{customdata[2]}) · "
            "local speaker %{customdata[4]}<extra></extra>"
        ),
    )


def map_names(local_map: pd.DataFrame, cast: Cast) -> go.Scatter:
    """The name of every cluster in the middle of its points."""
    middles = local_map.groupby("cluster")[["x", "y"]].median()
    middles = middles.loc[[cluster for cluster in middles.index if cluster in cast.hypothesis]]
    return go.Scatter(
        name="clusters",
        x=middles["x"].to_numpy(),
        y=middles["y"].to_numpy(),
        xaxis="x2",
        yaxis="y6",
        mode="text",
        text=[f"<b>{cast.hypothesis_names[cluster]}</b>" for cluster in middles.index],
        textfont={"size": 12, "color": theme.TEXT},
        hoverinfo="skip",
        cliponaxis=False,
    )


def speaker_bars(diarization: Diarization, cast: Cast) -> list[go.Bar]:
    """Seconds per reference speaker, by what became of them; without one, per hypothesis speaker."""
    if diarization.by_speaker is None:
        turns = diarization.hypothesis
        seconds = (turns["end"] - turns["start"]).groupby(turns["speaker"]).sum()
        rows = list(cast.hypothesis)
        values = {"correct": [float(seconds.get(speaker, 0.0)) for speaker in rows]}
        looks = list(cast.hypothesis.values())
        names = list(cast.hypothesis_names.values())
    else:
        table = diarization.by_speaker
        values = {column: table[column].tolist() for column in ("correct", *theme.ERRORS)}
        looks = [
            cast.reference.get(speaker, SpeakerStyle(color=theme.UNMATCHED)) for speaker in table["speaker"]
        ]
        names = [cast.reference_names.get(speaker, "nobody") for speaker in table["speaker"]]
    bars = []
    for kind in ("correct", *theme.ERRORS):
        found = values.get(kind, [])
        style = theme.ERRORS.get(kind)
        label = style.name if style else ("correct" if diarization.by_speaker is not None else "speech")
        color: str | list[str] = style.color if style else [look.color for look in looks]
        hatch: str | list[str] = style.hatch if style else [look.hatch for look in looks]
        bars.append(
            go.Bar(
                name=kind,
                orientation="h",
                x=found,
                y=list(range(len(found))),
                xaxis="x3",
                yaxis="y7",
                width=0.62,
                marker={"color": color, "line": {"width": 0}, "pattern": theme.hatched(hatch)},
                customdata=names[: len(found)],
                hovertemplate=f"<b>%{{customdata}}</b> · {label}<br>%{{x:.1f}} s<extra></extra>",
            )
        )
    return bars


def speaker_rows(diarization: Diarization, cast: Cast) -> dict[str, object]:
    """Axis of `speaker_bars`: one labelled row per bar."""
    if diarization.by_speaker is None:
        names, looks = list(cast.hypothesis_names.values()), list(cast.hypothesis.values())
        colors = [look.color for look in looks]
    else:
        names = [*cast.reference_names.values(), "nobody"]
        colors = [*(look.color for look in cast.reference.values()), theme.UNMATCHED]
    return labelled_rows(names, colors, max(len(names), 3)) | {"showgrid": False}
