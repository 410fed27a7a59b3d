"""Figures with controls: each a function that gives a picture, and the widgets that ask it again."""

from __future__ import annotations

from workbench.explorers.breakdown import ErrorScreen, explore_errors
from workbench.explorers.start_here import StartHere, explore_recording

__all__ = ["ErrorScreen", "StartHere", "explore_errors", "explore_recording"]
