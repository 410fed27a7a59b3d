"""Small drawings of a tuning for pages without a script: SVG text, a few kilobytes each.

plotly.js alone is larger than a whole summary may be; these pictures need nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from workbench.plots import theme

# Anchors of the colour map cividis (Nuñez, Anderton and Renslow, 2018), readable by colour-blind people:
# low error rates bright, high ones dark.
_SCALE = np.array([theme.rgb(color) for color in ("#fee838", "#bcae6c", "#7d7c78", "#414d6b", "#00224e")])
_MOST_LABELS = 12
_FONT = 11  # px

DEFAULT_MARK, BEST_MARK, STABLE_MARK, STOPPED_MARK = "◇", "★", "☆", "×"


def heatmap_svg(
    values: np.ndarray,
    x_labels: Sequence[str],
    y_labels: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    marks: Sequence[tuple[int, int, str]] = (),
    hatched: np.ndarray | None = None,
) -> str:
    """Cells as squares of colour, holes blank, marks as characters.

    Parameters
    ----------
    values : float array, shape (num_y, num_x), in percent; NaN is a hole
    marks : (x, y, character)
    hatched : bool array, shape (num_y, num_x); cells that are drawn with lines across
    """
    num_y, num_x = values.shape
    width = min(max(560 // num_x, 4), 46)
    height = min(max(360 // num_y, 4), 26)
    left, top, bottom = 76, 8, 40
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    place = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    shades = np.rint(np.nan_to_num(place) * 63).astype(int)
    parts = [
        '<defs><pattern id="wb-hatch" width="5" height="5" patternUnits="userSpaceOnUse">'
        '<path d="M0 5L5 0" stroke="#fff" stroke-width="1.6"/>'
        '<path d="M0 5L5 0" stroke="#000" stroke-width=".7"/></pattern></defs>'
    ]
    for row in range(num_y):
        y = top + (num_y - 1 - row) * height  # values grow upwards
        layers = [(np.where(np.isfinite(values[row]), shades[row], -1), True)]
        if hatched is not None:
            layers.append((np.where(hatched[row], 0, -1), False))
        for keys, colored in layers:
            for start, stop in _runs(keys):
                if keys[start] >= 0:
                    fill = _shade(keys[start] / 63) if colored else "url(#wb-hatch)"
                    x, wide = left + start * width, (stop - start) * width
                    parts.append(f'<rect x="{x}" y="{y}" width="{wide}" height="{height}" fill="{fill}"/>')
    for column, row, mark in marks:
        x, y = left + (column + 0.5) * width, top + (num_y - 0.5 - row) * height
        # outlined, a full star would look like an empty one
        fill, stroke = ("#000", "#fff") if mark == BEST_MARK else ("#fff", "#000")
        parts.append(
            f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" font-size="15" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="2.4" paint-order="stroke">{mark}</text>'
        )
    foot = top + num_y * height
    for column in _some(num_x):
        parts.append(_text(left + (column + 0.5) * width, foot + 14, x_labels[column]))
    for row in _some(num_y):
        parts.append(_text(left - 6, top + (num_y - 0.5 - row) * height + 4, y_labels[row], "end"))
    parts.append(_text(left + num_x * width / 2, foot + 31, x_title))
    middle = top + num_y * height / 2
    parts.append(
        f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_title)}</text>"
    )
    right = left + num_x * width
    parts += _color_bar(right + 18, top, num_y * height, low, high)
    return _svg(right + 96, foot + bottom, parts, f"DER over {x_title} and {y_title}")


def curve_svg(
    values: Sequence[str],
    numbers: np.ndarray,
    title: str,
    *,
    color: str = theme.SPEAKERS[4],
    marked: int | None = None,
    in_row: int | None = None,
    line: bool = True,
    size: tuple[int, int] = (250, 110),
) -> str:
    """One line over the values of a parameter, with the value marked that is the default.

    Parameters
    ----------
    values : labels of the values, in order
    numbers : float array, shape (num_values,)
    in_row : how many of the values follow each other, by default all; a last one that does not is a dot
        beyond the line
    line : False draws dots alone, where one value does not lead to the next
    """
    width, height = size
    left, right, top, bottom = 38, 10, 18, 20
    numbers = np.asarray(numbers, dtype=float)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = (high - low) or max(abs(high), 1.0)
    in_row = len(numbers) if in_row is None else in_row
    is_apart = np.arange(len(numbers)) >= in_row
    end = width - right - (40 if is_apart.any() else 0)  # of the line: right of it, room for a word
    x = np.where(
        is_apart, width - right - 8, left + (end - left) / max(in_row - 1, 1) * np.arange(len(numbers))
    )
    y = top + (height - top - bottom) * (1 - (numbers - low) / room)
    points = " ".join(
        f"{a:.1f},{b:.1f}" for a, b in zip(x[:in_row], y[:in_row], strict=True) if math.isfinite(b)
    )
    parts = [
        f'<text x="{left}" y="11">{html.escape(title)}</text>',
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>' if line else "",
        _text(left - 5, top + 8, _short(high), "end"),
        _text(left - 5, height - bottom, _short(low), "end") if high > low else "",
        _text(left, height - 5, values[0], "start"),
        _text(end, height - 5, values[in_row - 1], "end") if in_row > 1 else "",
    ]
    for a, b, value in zip(x[in_row:], y[in_row:], values[in_row:], strict=True):
        parts.append(_text(width - right, height - 5, value, "end"))
        if math.isfinite(b):
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>')
    if in_row == 1 or not line:  # a line of one value would not be seen
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>'
            for a, b in zip(x[:in_row], y[:in_row], strict=True)
            if math.isfinite(b)
        ]
    if marked is not None and math.isfinite(y[marked]):
        parts.append(
            f'<text x="{x[marked]:.1f}" y="{y[marked] + 5:.1f}" text-anchor="middle" font-size="14">'
            f"{DEFAULT_MARK}</text>"
        )
    return _svg(width, height, parts, title)


def pairs_svg(labels: Sequence[str], before: np.ndarray, after: np.ndarray, unit: str = "DER (%)") -> str:
    """One line per recording from a hollow diamond (before) to a filled dot (after).

    Parameters
    ----------
    before, after : float arrays, shape (num_recordings,); `before` may be NaN
    """
    row, left, width, top = 16, 150, 640, 8
    everything = np.concatenate([before, after])
    high = float(np.nanmax(everything)) if np.isfinite(everything).any() else 1.0
    scale = (width - left - 80) / (high or 1.0)
    parts = []
    for number, (label, old, new) in enumerate(zip(labels, before, after, strict=True)):
        y = top + row * (number + 0.5)
        parts.append(_text(left - 8, y + 4, label if len(label) <= 22 else f"{label[:21]}…", "end"))
        if not math.isfinite(new):
            continue
        end = left + new * scale
        if math.isfinite(old):
            start = left + old * scale
            color = theme.SPEAKERS[5] if new > old else theme.SPEAKERS[2]
            parts.append(
                f'<path d="M{start:.1f} {y:.1f}H{end:.1f}" stroke="{color}" stroke-width="3"/>'
                f'<path d="M{start - 4:.1f} {y:.1f}l4 -4l4 4l-4 4z" fill="none" stroke="{theme.TEXT}" '
                'stroke-width="1.3"/>'
            )
        parts.append(f'<circle cx="{end:.1f}" cy="{y:.1f}" r="3.4" fill="{theme.TEXT}"/>')
        far = max(new, old if math.isfinite(old) else new)
        said = f"{new:.1f}"
        if math.isfinite(old) and f"{old:.1f}" != said:
            said = f"{old:.1f} → {said}"
        parts.append(_text(left + far * scale + 9, y + 4, said, "start"))
    foot = top + row * len(labels)
    parts.append(_text(left, foot + 16, f"{unit}: {DEFAULT_MARK} default, ● chosen cell", "start"))
    return _svg(width, foot + 24, parts, unit)


def _runs(keys: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of every run of equal keys."""
    starts = np.r_[0, np.flatnonzero(np.diff(keys)) + 1]
    return list(zip(starts.tolist(), np.r_[starts[1:], len(keys)].tolist(), strict=True))


def _some(count: int) -> range:
    """So many places that their labels do not touch."""
    return range(0, count, math.ceil(count / _MOST_LABELS))


def _shade(place: float) -> str:
    at = place * (len(_SCALE) - 1)
    below = min(int(at), len(_SCALE) - 2)
    mixed = _SCALE[below] + (at - below) * (_SCALE[below + 1] - _SCALE[below])
    return "#{:02x}{:02x}{:02x}".format(*np.rint(mixed).astype(int))


def _color_bar(x: float, y: float, height: float, low: float, high: float) -> list[str]:
    steps = 24
    parts = [
        f'<rect x="{x}" y="{y + height * (1 - (step + 1) / steps):.1f}" width="12" '
        f'height="{height / steps + 0.5:.1f}" fill="{_shade(step / (steps - 1))}"/>'
        for step in range(steps)
    ]
    ends = [
        _text(x + 17, y + 9, f"{high:.1f} %", "start"),
        _text(x + 17, y + height, f"{low:.1f} %", "start"),
    ]
    return parts + ends


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _short(number: float) -> str:
    return f"{number:.1f}" if abs(number) < 100 else f"{number:.0f}"


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-size="{_FONT}" fill="{theme.TEXT}" '
        f'font-family="{html.escape(theme.FONT)}"><title>{html.escape(title)}</title>{"".join(parts)}</svg>'
    )
