"""Models on other programs' servers and accelerators: Triton, TensorRT, Ascend."""

from __future__ import annotations

from workbench.serving.engines import EngineShapes, atc_command, trtexec_command
from workbench.serving.shapes import frames_of, seconds_of
from workbench.serving.triton import TritonSettings, write_triton_model

__all__ = [
    "EngineShapes",
    "TritonSettings",
    "atc_command",
    "frames_of",
    "seconds_of",
    "trtexec_command",
    "write_triton_model",
]
