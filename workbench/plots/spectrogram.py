"""A spectrogram as a picture that looks the same on a white and on a dark page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from workbench.plots.lanes import as_dates, on_axis, tick_format
from workbench.plots.raster import data_uri
from workbench.plots.theme import rgb
from workbench.spectrogram import FLOOR_DB, Spectrogram

PALETTE = ("#14161d", "#2b2350", "#6a2c6e", "#b8425b", "#ee7a3c", "#fbd07c", "#fff8e1")
"""From silence to the loudest bin, lightness rising evenly: it reads in grey as well."""
HEIGHT = 128  # px of the picture, rows of frequencies


def spectrogram_pixels(spectrum: Spectrogram) -> np.ndarray:
    """Picture of `spectrum`: uint8 array, shape (height, num_frames, 4), low frequencies at the bottom."""
    levels = spectrum.levels
    rows = np.unique(np.linspace(0, len(levels), HEIGHT, endpoint=False).astype(np.int64))
    loudness = np.clip(1 - np.maximum.reduceat(levels, rows, axis=0) / FLOOR_DB, 0, 1)[::-1]
    stops = np.array([rgb(color) for color in PALETTE], dtype=np.float32)
    place = loudness * (len(stops) - 1)
    pixels = np.full((*loudness.shape, 4), 255, dtype=np.uint8)
    for channel in range(3):
        pixels[..., channel] = np.rint(np.interp(place, np.arange(len(stops)), stops[:, channel]))
    return pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """The clip around a selected stretch."""

    spectrum: Spectrogram
    start: float  # s, where the clip begins


def sound_trace(sound: Sound | None) -> go.Scatter:
    """Keeps the axis of the spectrogram one of dates."""
    start = 0.0 if sound is None else sound.start
    duration = 1.0 if sound is None else sound.spectrum.duration
    return go.Scatter(
        name="sound",
        x=as_dates(np.array([start, start + duration])),
        y=[0.0, 0.0],
        mode="markers",
        marker={"opacity": 0},
        hoverinfo="skip",
        xaxis="x5",
        yaxis="y9",
    )


def sound_axes(sound: Sound | None, top: float) -> dict[str, object]:
    """Time and frequency; `top` is where the panel ends, as a share of the figure's height."""
    start = 0.0 if sound is None else sound.start
    end = start + (1.0 if sound is None else sound.spectrum.duration)
    return {
        "xaxis5": {
            "type": "date",
            "anchor": "y9",
            "range": [float(on_axis(start)), float(on_axis(end))],
            "fixedrange": True,
            "showgrid": False,
            "showticklabels": sound is not None,
            "tickformatstops": tick_format(end),
            "nticks": 10,
            "ticks": "outside" if sound is not None else "",
            "ticklen": 4,
        },
        "yaxis9": {
            "anchor": "x5",
            "domain": [0.0, top],
            "range": [0.0, 8000.0 if sound is None else sound.spectrum.highest],
            "fixedrange": True,
            "showgrid": False,
            "showticklabels": sound is not None,
            "tickvals": [0, 2000, 4000, 6000, 8000],
            "ticktext": ["0", "2", "4", "6", "8 kHz"],
        },
    }


def sound_image(sound: Sound) -> dict[str, object]:
    """The picture between the axes."""
    return {
        "source": data_uri(spectrogram_pixels(sound.spectrum)),
        "xref": "x5",
        "yref": "y9",
        "x": float(on_axis(sound.start)),
        "sizex": 1000.0 * sound.spectrum.duration,
        "y": sound.spectrum.highest,
        "sizey": sound.spectrum.highest,
        "yanchor": "top",
        "sizing": "stretch",
        "layer": "below",
    }
