"""The pipeline as named steps: recording them, reading other programs' dumps, walking and swapping them."""

from __future__ import annotations

from workbench.steps.names import STEPS, Step, step_of
from workbench.steps.reading import StepsFolder, open_steps
from workbench.steps.results import RecordingWalk, StepDifference, StepsWalk
from workbench.steps.walk import walk_steps

__all__ = [
    "STEPS",
    "RecordingWalk",
    "Step",
    "StepDifference",
    "StepsFolder",
    "StepsWalk",
    "open_steps",
    "step_of",
    "walk_steps",
]
