"""The controls that every screen is made of."""

from __future__ import annotations

from typing import Any

import ipywidgets


def choice(description: str, options: Any, value: Any, width: int, label_width: int) -> ipywidgets.Dropdown:
    """A list to choose from; `label_width` in px."""
    return ipywidgets.Dropdown(
        description=description,
        options=options,
        value=value,
        style={"description_width": f"{label_width}px"},
        layout={"width": f"{width}px"},
    )


def switch(options: list[tuple[str, Any]], value: Any, tooltip: str, width: int) -> ipywidgets.ToggleButtons:
    """A few choices side by side."""
    return ipywidgets.ToggleButtons(
        options=options,
        value=value,
        tooltips=[tooltip] * len(options),
        style={"button_width": f"{width}px"},
        layout={"width": "auto", "flex": "0 0 auto"},
    )


def button(description: str, tooltip: str, width: int) -> ipywidgets.Button:
    """A button of fixed width."""
    return ipywidgets.Button(
        description=description, tooltip=tooltip, layout={"width": f"{width}px", "flex": "0 0 auto"}
    )


def label(text: str) -> ipywidgets.HTML:
    """A quiet word between controls."""
    return ipywidgets.HTML(f'<span class="wb-about">{text}</span>', layout={"margin": "0 4px 0 10px"})
