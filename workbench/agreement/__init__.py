"""Parity: every frame where two runtimes disagree, why, and what it does to the output."""

from __future__ import annotations

from workbench.agreement.compare import ParityParams
from workbench.agreement.consequences import Backend, Consequences
from workbench.agreement.findings import Finding
from workbench.agreement.parity import parity
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.results import ParityResult

__all__ = [
    "Backend",
    "Consequences",
    "Finding",
    "ParityParams",
    "ParityResult",
    "RecordingParity",
    "parity",
]
