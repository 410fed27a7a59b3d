"""Callbacks that never fail in silence: what goes wrong is written where the reader looks."""

from __future__ import annotations

import functools
import html
import traceback
from collections.abc import Callable
from typing import Any

import ipywidgets

from workbench.errors import InputError, RecordingError


class ErrorStrip(ipywidgets.HTML):
    """A strip that stays empty until a guarded callback fails, and is emptied by the next that succeeds."""

    def __init__(self) -> None:
        super().__init__(layout={"display": "none", "width": "100%"})

    def guard(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """`callback` with its errors shown here; without this, ipywidgets and plotly drop them."""

        @functools.wraps(callback)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                result = callback(*args, **kwargs)
            except Exception as error:
                self.show(error)
                return None
            self.clear()
            return result

        return guarded

    def show(self, error: BaseException) -> None:
        """Say what happened; errors nobody foresaw come with their traceback, folded."""
        message = html.escape(str(error) or type(error).__name__)
        if isinstance(error, InputError | RecordingError):
            body = message
        else:
            lines = html.escape("".join(traceback.format_exception(error)))
            body = (
                f"<b>{type(error).__name__}</b>: {message}"
                f"<details><summary>Where it happened</summary><pre>{lines}</pre></details>"
            )
        self.value = f'<div class="wb-error" role="alert">{body}</div>'
        self.layout.display = ""

    def clear(self) -> None:
        """Nothing is wrong any more."""
        if self.value:
            self.value = ""
            self.layout.display = "none"
