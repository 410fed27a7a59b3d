"""Sessions of ONNX Runtime under the options of a runtime string."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from workbench.errors import InputError, nearest
from workbench.runtimes.float_environment import denormals
from workbench.runtimes.spec import OnnxOptions

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "cann": "CANNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
_LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def start_session(
    model: Path | bytes,
    options: OnnxOptions,
    runtime: str,
    change: Callable[[onnxruntime.SessionOptions], None] | None = None,
) -> onnxruntime.InferenceSession:
    """A session under the options of a runtime string; `change` may add to its settings.

    Raises whatever ONNX Runtime raises about the model.
    """
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = _LEVELS[options.optimization]
    settings.log_severity_level = 3  # errors only: warnings of the optimizer say nothing to a user
    settings.use_deterministic_compute = options.deterministic
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    if options.denormal == "flush":
        settings.add_session_config_entry(
            "session.set_denormal_as_zero", "1"
        )  # for the session's own threads
    for name, value in options.session:
        settings.add_session_config_entry(name, value)
    if change is not None:
        change(settings)
    # the first session of a process would set this thread's switch for good
    with denormals(flush=options.denormal == "flush"):
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            settings,
            providers=choose_providers(options, runtime),
        )


def choose_providers(options: OnnxOptions, runtime: str) -> list[Any]:
    """Names and settings of the execution providers, in order of preference.

    One that is not installed is an `InputError`, unless cpu is listed as well.
    """
    available = onnxruntime.get_available_providers()
    chosen: list[Any] = []
    for name in options.providers:
        if name not in PROVIDERS:
            raise InputError(
                f"runtime {runtime}: unknown provider {name!r}{nearest(name, PROVIDERS)}; known are "
                f"{', '.join(PROVIDERS)}"
            )
        full = PROVIDERS[name]
        if full in available:
            chosen.append((full, {"use_tf32": int(options.tf32)}) if name == "cuda" else full)
        elif "cpu" not in options.providers:
            short = [key for key, value in PROVIDERS.items() if value in available]
            raise InputError(
                f"runtime {runtime}: provider {name!r} is not part of this ONNX Runtime "
                f"{onnxruntime.__version__}, which has {', '.join(short)}; install the build that has it, or "
                "list cpu last to fall back to it"
            )
    return chosen
