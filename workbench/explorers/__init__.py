"""Figures with controls: each a function that gives a picture, and the widgets that ask it again."""

from __future__ import annotations

from workbench.explorers.start_here import StartHere, explore_recording

__all__ = ["StartHere", "explore_recording"]
