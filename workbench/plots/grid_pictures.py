"""Pictures that follow a slider: lanes, strips, maps and curves as pixels, or as SVG."""

from __future__ import annotations

import base64
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd

from workbench.plots import theme
from workbench.plots.raster import palette_png, png_uri
from workbench.plots.theme import rgb

COLUMNS = 1500  # pixels of a lane
LANE_ROW = 9  # pixels of one speaker, before the browser stretches them
MAP_SIZE = (840, 816)  # pixels, two per pixel of the panel


def lane_pixels(
    turns: pd.DataFrame,
    rows: Mapping[Hashable, int],
    colors: Mapping[Hashable, str],
    num_rows: int,
    view: tuple[float, float],
    *,
    key: str = "speaker",
) -> np.ndarray:
    """Turns as a picture: how much of its time a column is spoken in is how solid it is.

    Parameters
    ----------
    turns : start, end (s), and `key`
    rows, colors : by the values of `key`; others are not drawn
    num_rows : of the picture
    view : start and end (s)

    Returns
    -------
    pixels : uint8 array, shape (num_rows * LANE_ROW, COLUMNS, 4)
    """
    pixels = np.zeros((num_rows, LANE_ROW, COLUMNS, 4), dtype=np.uint8)
    edges = np.linspace(*view, COLUMNS + 1)
    names = turns[key].to_numpy()
    starts, ends = turns["start"].to_numpy(dtype=float), turns["end"].to_numpy(dtype=float)
    for name, row in rows.items():
        own = names == name
        if row >= num_rows or not own.any():
            continue
        solid = _solidity(starts[own], ends[own], edges)
        pixels[row, 1:-1, :, :3] = rgb(colors[name])
        pixels[row, 1:-1, :, 3] = np.rint(255 * solid)
    return pixels.reshape(num_rows * LANE_ROW, COLUMNS, 4)


def _solidity(starts: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of every column that is covered; what is there at all is at least half visible."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    starts = np.maximum(starts, np.append(-np.inf, ends[:-1]))  # a speaker talks once at a time
    times = np.stack([starts, ends], axis=1).ravel()
    spoken = np.stack([np.zeros(len(starts)), ends - starts], axis=1).ravel().cumsum()
    covered = np.diff(np.interp(edges, times, spoken, left=0.0)) / (edges[1] - edges[0])
    return np.where(covered > 1e-9, 0.45 + 0.55 * np.clip(covered, 0.0, 1.0), 0.0)


def affinity_pixels(affinity: np.ndarray) -> np.ndarray:
    """Cosine similarities as a picture, bright where alike: uint8 array (num_shown, num_shown, 4)."""
    palette = np.array([rgb(color) for color in theme.SEQUENTIAL[::-1]], dtype=float)
    low, high = np.quantile(affinity, [0.02, 0.995]) if affinity.size > 1 else (0.0, 1.0)
    share = np.clip((np.nan_to_num(affinity) - low) / max(high - low, 1e-9), 0.0, 1.0) * (len(palette) - 1)
    below = np.minimum(share.astype(np.int64), len(palette) - 2)
    rest = (share - below)[..., None]
    pixels = np.full((*affinity.shape, 4), 255, dtype=np.uint8)
    pixels[..., :3] = np.rint(palette[below] * (1 - rest) + palette[below + 1] * rest)
    return pixels


def strip_pixels(labels: Sequence[Hashable], colors: Mapping[Hashable, str]) -> np.ndarray:
    """One column per leaf in the colour of its label, few hundred columns: uint8 array (1, width, 4)."""
    known = list(colors)
    number = {label: place for place, label in enumerate(known)}
    palette = np.array([(*rgb(color), 255) for color in colors.values()] + [(0, 0, 0, 0)], dtype=np.uint8)
    index = np.array([number.get(label, len(known)) for label in labels], dtype=np.int64)
    width = min(len(index), 1400)
    shown = index[np.linspace(0, len(index) - 1, width).astype(np.int64)] if len(index) else index
    return palette[shown][None] if len(shown) else np.zeros((1, 1, 4), dtype=np.uint8)


class PointMap:
    """Points of a plane as discs: who they are taken for inside, who they are around it.

    Which point is seen where does not depend on the colours and is found once.

    Parameters
    ----------
    points : float array, shape (num_points, 2), each from 0 to 1
    size : width and height in pixels
    """

    def __init__(self, points: np.ndarray, size: tuple[int, int] = MAP_SIZE):
        width, height = size
        radius = 8 if len(points) <= 800 else 6
        across = np.rint(radius + points[:, 0] * (width - 1 - 2 * radius)).astype(np.int64)
        down = np.rint(radius + (1 - points[:, 1]) * (height - 1 - 2 * radius)).astype(np.int64)
        offsets = np.arange(-radius, radius + 1)
        dx, dy = (each.ravel() for each in np.meshgrid(offsets, offsets))
        distance = np.hypot(dx, dy)
        on_disc = distance <= radius + 0.3
        dx, dy, is_rim = dx[on_disc], dy[on_disc], distance[on_disc] > radius - 2.0
        seen = np.full((height, width), -1, dtype=np.int64)
        # later points lie on top: assignment keeps the last of several values of one place
        seen[down[:, None] + dy, across[:, None] + dx] = 2 * np.arange(len(points))[:, None] + is_rim
        self.size = size
        self._covered = np.flatnonzero(seen.ravel() >= 0)
        self._seen = seen.ravel()[self._covered]  # twice the point, and one more on its rim

    def indices(self, fill: np.ndarray, rim: np.ndarray) -> np.ndarray:
        """Colour of every pixel: uint8 array (height, width), 0 where there is no point.

        Parameters
        ----------
        fill, rim : uint8 arrays, shape (num_points,); number of the colour inside and around, from 1
        """
        width, height = self.size
        pixels = np.zeros(height * width, dtype=np.uint8)
        pixels[self._covered] = np.stack([fill, rim], axis=1).ravel()[self._seen]
        return pixels.reshape(height, width)

    def picture(self, fill: Sequence[str], rim: Sequence[str]) -> str:
        """Address of the picture.

        Parameters
        ----------
        fill, rim : `#rrggbb` of every point
        """
        colors = sorted({*fill, *rim})
        number = {color: place for place, color in enumerate(colors, start=1)}
        inside, around = (np.array([number[color] for color in side], dtype=np.uint8) for side in (fill, rim))
        palette = np.array([(0, 0, 0, 0), *((*rgb(color), 235) for color in colors)], dtype=np.uint8)
        return png_uri(palette_png(self.indices(inside, around), palette))


def bound_picture(elbo: np.ndarray, most_iterations: int = 20) -> str:
    """The bound after every iteration, from 0 (lowest) to 1 (highest), as the address of an SVG picture.

    Parameters
    ----------
    elbo : float64 array, shape (num_iterations,)
    most_iterations : that the picture is wide
    """
    path = ""
    if len(elbo):
        low, high = float(elbo.min()), float(elbo.max())
        heights = 100 - 100 * (elbo - low) / max(high - low, 1e-12)
        path = "M" + "L".join(f"{10 * step + 5},{height:.2f}" for step, height in enumerate(heights))
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -8 {10 * most_iterations} 116" '
        f'preserveAspectRatio="none"><path d="{path}" fill="none" stroke="{theme.SPEAKERS[1]}" '
        'stroke-width="2" vector-effect="non-scaling-stroke"/></svg>'
    )
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode("ascii")
