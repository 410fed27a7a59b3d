"""Diarization Workbench: who spoke when, and why the system thinks so.

The names below are loaded on first use, so that importing the package costs nothing and needs
none of the heavy libraries.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime reports its use to its makers, and warns where HOME cannot be written; it asks this once,
# when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME_OF = {
    "InputError": "workbench.errors",
    "RecordingError": "workbench.errors",
    "Features": "workbench.types",
    "SegmentFeatures": "workbench.types",
    "SlidingWindow": "workbench.types",
    "PipelineParams": "workbench.config",
    "Runtimes": "workbench.pipeline",
    "cluster": "workbench.clustering",
    "diarize": "workbench.pipeline",
    "diarize_features": "workbench.pipeline",
    "extract_features": "workbench.pipeline",
    "load_features": "workbench.features",
    "load_hub": "workbench.pipeline",
    "load_runtime": "workbench.runtimes",
    "parity": "workbench.agreement",
    "read_rttm": "workbench.rttm",
    "reconstruct": "workbench.reconstruction",
    "save_features": "workbench.features",
    "score": "workbench.scoring",
    "sweep": "workbench.sweeps",
    "write_rttm": "workbench.rttm",
}

__all__ = ["__version__", *sorted(_HOME_OF)]

if TYPE_CHECKING:
    from workbench.agreement import parity as parity
    from workbench.clustering import cluster as cluster
    from workbench.config import PipelineParams as PipelineParams
    from workbench.errors import InputError as InputError
    from workbench.errors import RecordingError as RecordingError
    from workbench.features import load_features as load_features
    from workbench.features import save_features as save_features
    from workbench.pipeline import Runtimes as Runtimes
    from workbench.pipeline import diarize as diarize
    from workbench.pipeline import diarize_features as diarize_features
    from workbench.pipeline import extract_features as extract_features
    from workbench.pipeline import load_hub as load_hub
    from workbench.reconstruction import reconstruct as reconstruct
    from workbench.rttm import read_rttm as read_rttm
    from workbench.rttm import write_rttm as write_rttm
    from workbench.runtimes import load_runtime as load_runtime
    from workbench.scoring import score as score
    from workbench.sweeps import sweep as sweep
    from workbench.types import Features as Features
    from workbench.types import SegmentFeatures as SegmentFeatures
    from workbench.types import SlidingWindow as SlidingWindow


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
