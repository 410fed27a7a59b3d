"""Models behind one interface, whatever runs them: torch, ONNX Runtime, or arrays recorded earlier."""

from __future__ import annotations

from typing import get_args

from workbench.errors import InputError
from workbench.runtimes.base import Runtime
from workbench.runtimes.spec import RuntimeSpec, no_options, onnx_options, parse_spec, torch_options
from workbench.types import Kind

__all__ = ["Kind", "Runtime", "RuntimeSpec", "load_runtime", "parse_spec"]


def load_runtime(spec: str | RuntimeSpec, kind: Kind | None = None) -> Runtime:
    """The model that a runtime string names, ready to run.

    Parameters
    ----------
    spec : str
        `torch:PATH[@CHECKPOINT][?options]`, `onnx:FILE[?options]` or `recorded:DIR`. Options of
        torch: `device`, `tf32`, `deterministic`, `dtype`, `threads`, `denormal`, and `config`, which
        training TOML of an experiment directory counts (the newest by default); of ONNX Runtime: `providers`,
        `tf32`, `optimization`, `threads`, `deterministic`, `denormal`, `allow_fallback`, and any name
        with a dot, which becomes an entry of the session's configuration.
    kind : {"segmentation", "embedding"}, optional
        What the model is needed for. It chooses between the two models of a hub-layout folder,
        and a model of the other kind is refused. By default a hub-layout folder stands for its
        segmentation model, and anything else for what it is.

    Notes
    -----
    `threads` counts the CPU threads inside one operation. For torch the number, like every option,
    holds for the duration of a call; for ONNX Runtime it belongs to the session. Without it each
    takes what it finds, which is too many where several workers share a machine.

    Each engine is imported only when it is asked for, so that `onnx:` and `recorded:` work where
    torch is not installed.
    """
    if not isinstance(spec, RuntimeSpec):
        spec = parse_spec(spec)
    if kind not in (None, *get_args(Kind)):
        raise InputError(f"kind must be {' or '.join(get_args(Kind))}, got {kind!r}")
    if spec.engine == "torch":
        from workbench.runtimes.torch_runtime import load_torch

        return load_torch(spec, torch_options(spec), kind)
    if spec.engine == "onnx":
        from workbench.runtimes.onnx_runtime import load_onnx

        return load_onnx(spec, onnx_options(spec), kind)
    from workbench.runtimes.recorded import load_recorded

    no_options(spec)
    return load_recorded(spec, kind)
