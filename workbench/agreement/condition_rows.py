"""Rows of the conditions table from what was observed: plain functions of facts, for real GPUs and faked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.agreement.conditions import Condition, Status
from workbench.runtimes.probes import SIZE, precision_of
from workbench.runtimes.spec import OnnxOptions, TorchOptions

if TYPE_CHECKING:
    from workbench.runtimes.onnx_conditions import OnnxFacts
    from workbench.runtimes.torch_conditions import TorchFacts

NAMES = (
    "provider",
    "node placement",
    "tf32 products",
    "tf32 convolutions",
    "float32 precision",
    "deterministic algorithms",
    "cuBLAS workspace",
    "dtype",
    "threads",
    "graph optimization",
    "denormals",
)
_GPU_PROVIDERS = ("CUDA", "Tensorrt", "ROCM", "MIGraphX")
_WORKSPACES = (":4096:8", ":16:8")  # the two that make cuBLAS repeatable, says NVIDIA
_DTYPE_WORDS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# environment variables that overrule what a program asks for
_OVERRULING = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


def _row(
    name: str, requested: object, accepted: object, observed: object, status: Status, note: str = ""
) -> Condition:
    return Condition(
        name=name,
        requested=str(requested),
        accepted=str(accepted),
        observed=str(observed),
        status=status,
        note=note,
    )


def _not_on_cpu(name: str, requested: object) -> Condition:
    return _row(name, requested, "-", "-", "not applicable", "there is no GPU in this run")


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _counts(counts: Mapping[str, int]) -> str:
    """Numbers of things: `float32 20, bfloat16 4`."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {number}" for name, number in ordered) or "none"


def torch_rows(options: TorchOptions, facts: TorchFacts) -> list[Condition]:
    """The rows of a torch runtime."""
    kind = facts.device.partition(":")[0]
    gpu = kind == "cuda"
    elsewhere = sum(number for device, number in facts.devices_of_outputs.items() if device != kind)
    asked = "cuda" if options.device == "auto" and gpu else options.device
    return [
        _row(
            "provider",
            options.device,
            facts.device,
            facts.device,
            "holds" if asked in ("auto", facts.device, kind) else "contradicted",
        ),
        _row(
            "node placement",
            f"all on {kind}",
            "-",
            f"outputs of modules: {_counts(facts.devices_of_outputs)}",
            "contradicted" if elsewhere else "holds",
        ),
        *_torch_tf32(options, facts, gpu),
        _precision(facts.matmul_error, allowed=options.tf32 and gpu),
        _torch_deterministic(options, facts, gpu),
        _workspace(options.deterministic, facts.workspace, gpu, facts.scatter_repeats),
        _torch_dtype(options, facts),
        _torch_threads(options, facts, gpu),
        _row(
            "graph optimization", "-", "-", "-", "not applicable", "torch runs the layers as they are written"
        ),
        _denormal_row(options.denormal, "switched for the call", facts.flushed),
    ]


def _torch_tf32(options: TorchOptions, facts: TorchFacts, gpu: bool) -> list[Condition]:
    rows = []
    for name, accepted, error in (
        ("tf32 products", facts.matmul_tf32, facts.matmul_error),
        ("tf32 convolutions", facts.cudnn_tf32, facts.conv_error),
    ):
        if not gpu:
            rows.append(_not_on_cpu(name, _switch(options.tf32)))
        else:
            rows.append(_tf32_row(name, options.tf32, _switch(bool(accepted)), error))
    return rows


def _tf32_row(name: str, requested: bool, accepted: str, error: float | None) -> Condition:
    """TF32 on a GPU: its rounding shows in a product."""
    if error is None:
        return _row(
            name, _switch(requested), accepted, "-", "not observed", "needs the onnx package for a canary"
        )
    found = precision_of(error)
    on = found != "float32"
    note = f"relative error of a product {error:.1e}"
    overruled = [f"{name_}={os.environ[name_]}" for name_ in _OVERRULING if name_ in os.environ]
    if overruled:
        note += f"; the environment overrules programs: {', '.join(overruled)}"
    if on == requested:
        status: Status = "holds"
    else:
        # allowed and not used: this GPU has no TF32, or the kernel does not use it
        status = "no effect" if requested else "contradicted"
    return _row(name, _switch(requested), accepted, f"{_switch(on)} ({found})", status, note)


def _precision(error: float | None, *, allowed: bool) -> Condition:
    """Whether products of float32 numbers are float32 products, on any device."""
    name, requested = "float32 precision", "TF32 or float32" if allowed else "float32"
    if error is None:
        return _row(name, requested, "-", "-", "not observed", "needs the onnx package for a canary")
    found = precision_of(error)
    fine = found == "float32" or (allowed and found == "TF32")
    return _row(
        name,
        requested,
        "-",
        found,
        "holds" if fine else "contradicted",
        f"relative error of a {SIZE}-term product {error:.1e}",
    )


def _torch_deterministic(options: TorchOptions, facts: TorchFacts, gpu: bool) -> Condition:
    seen = "repeats its bits" if facts.scatter_repeats else "differs from run to run"
    observed = f"scattered additions: {seen}; new memory is {'' if facts.fills_memory else 'not '}filled"
    note = ""
    status: Status
    if options.deterministic:
        # torch fills new memory under deterministic algorithms and never otherwise: the flag arrived
        status = "holds" if facts.scatter_repeats and facts.fills_memory else "contradicted"
        if facts.scatter_repeats and not facts.fills_memory:
            status = "no effect"
        if not gpu:
            note = "on a CPU with a fixed number of threads additions repeat without the flag, too"
    else:
        status = "contradicted" if facts.deterministic else "holds"
        if not facts.scatter_repeats:
            note = "add deterministic=1 to make runs repeatable"
    if gpu and options.deterministic:
        note = f"cuDNN deterministic: {_switch(bool(facts.cudnn_deterministic))}"
    return _row(
        "deterministic algorithms",
        _switch(options.deterministic),
        _switch(facts.deterministic),
        observed,
        status,
        note,
    )


def _workspace(deterministic: bool, value: str | None, gpu: bool, repeats: bool) -> Condition:
    name = "cuBLAS workspace"
    requested = " or ".join(_WORKSPACES) if deterministic else "any"
    if not gpu:
        return _not_on_cpu(name, requested)
    accepted = value or "not set"
    observed = "additions repeat" if repeats else "additions differ"
    if not deterministic:
        return _row(name, requested, accepted, observed, "holds")
    fine = value in _WORKSPACES
    note = "" if fine else "set CUBLAS_WORKSPACE_CONFIG=:4096:8 before the program starts"
    return _row(name, requested, accepted, observed, "holds" if fine and repeats else "contradicted", note)


def _torch_dtype(options: TorchOptions, facts: TorchFacts) -> Condition:
    wanted = _DTYPE_WORDS[options.dtype]
    outputs = {name: n for name, n in facts.dtypes_of_outputs.items() if "float" in name}
    low = {"bfloat16", "float16"} & outputs.keys()
    observed = f"outputs of modules: {_counts(outputs)}; weights: {_counts(facts.dtypes_of_weights)}"
    status: Status = "holds"
    if options.dtype == "fp32" and low:
        status = "contradicted"
    elif options.dtype != "fp32" and wanted not in outputs:
        status = "no effect"
    note = "" if options.dtype == "fp32" else "autocast: features, normalisation and softmax stay in float32"
    return _row("dtype", wanted, wanted if status == "holds" else "-", observed, status, note)


def _torch_threads(options: TorchOptions, facts: TorchFacts, gpu: bool) -> Condition:
    requested = options.threads if options.threads is not None else "what torch chooses"
    if gpu:
        return _row("threads", requested, facts.threads, "-", "not observed", "the work is done by the GPU")
    expected = facts.threads if options.threads is None else options.threads
    if facts.busy_threads is None:
        return _row(
            "threads", requested, facts.threads, "-", "not observed", "needs the /proc folder of Linux"
        )
    if options.threads is None:  # nothing was asked for; pools of other libraries may be busy as well
        return _row("threads", requested, facts.threads, f"{facts.busy_threads} busy", "holds", "")
    if facts.threads != expected or facts.busy_threads > expected:
        status: Status = "contradicted"
    else:
        status = "holds" if facts.busy_threads == expected else "no effect"
    note = "" if status != "no effect" else f"only {facts.busy_threads} were seen to compute"
    return _row("threads", requested, facts.threads, f"{facts.busy_threads} busy", status, note)


def _denormal_row(requested: str, accepted: str, flushed: float | None) -> Condition:
    if flushed is None:
        return _row("denormals", requested, accepted, "-", "not observed", "needs the onnx package")
    observed = (
        "kept" if flushed == 0 else "flushed" if flushed == 1 else f"flushed by {flushed:.0%} of the work"
    )
    if (flushed == 1) if requested == "flush" else (flushed == 0):
        status: Status = "holds"
    else:
        status = "no effect" if requested == "flush" and flushed == 0 else "contradicted"
    note = ""
    if 0 < flushed < 1:
        note = "threads of a pool keep the setting they were started with; use threads=1"
    elif status == "no effect":
        note = "this platform has no switch for it that can be reached"
    return _row("denormals", requested, accepted, observed, status, note)


def onnx_rows(options: OnnxOptions, facts: OnnxFacts) -> list[Condition]:
    """The rows of an ONNX runtime, one more for every session entry."""
    gpu = any(word in provider for provider in facts.providers for word in _GPU_PROVIDERS)
    cuda = facts.provider_options.get("CUDAExecutionProvider", {})
    accepted_tf32 = {"1": "on", "0": "off"}.get(str(cuda.get("use_tf32", "")), "-")
    tf32 = "CUDAExecutionProvider" in facts.providers
    names = ("tf32 products", "tf32 convolutions")
    errors = (facts.matmul_error, facts.conv_error)
    return [
        *_placement(options, facts),
        *(
            _tf32_row(name, options.tf32, accepted_tf32, error)
            if tf32
            else _not_on_cpu(name, _switch(options.tf32))
            for name, error in zip(names, errors, strict=True)
        ),
        _precision(facts.matmul_error, allowed=options.tf32 and tf32),
        _onnx_deterministic(options, facts),
        _workspace(
            options.deterministic and tf32,
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            gpu,
            facts.profile_repeats,
        ),
        _row(
            "dtype",
            "as in the file",
            f"weights: {_counts(facts.weights)}" if facts.weights else "-",
            f"outputs of nodes: {_counts(facts.profile.floats)}",
            "holds" if facts.profile.floats else "not observed",
        ),
        _onnx_threads(options, facts),
        _optimization(options, facts),
        _denormal_row(options.denormal, "session entry and switch for the call", facts.flushed),
        *(
            _entry(name, value, known=facts.entries[name][0], changed=facts.entries[name][1])
            for name, value in options.session
        ),
    ]


def _short(provider: str) -> str:
    from workbench.runtimes.onnx_session import PROVIDERS

    return {full: short for short, full in PROVIDERS.items()}.get(provider, provider)


def _placement(options: OnnxOptions, facts: OnnxFacts) -> list[Condition]:
    first = options.providers[0]
    ran = {_short(name): number for name, number in facts.profile.nodes.items()}
    accepted = ", ".join(map(_short, facts.providers))
    fell_back = first not in map(_short, facts.providers) or (bool(ran) and first not in ran)
    note = ""
    if fell_back:
        note = (
            f"{first} was asked for and runs nothing; install its build and driver, or say allow_fallback=1"
        )
    elsewhere = {name: number for name, number in ran.items() if name != first}
    placement: Status = "holds"
    if fell_back:
        placement = "fell back"
    elif elsewhere:
        placement = "no effect" if not ran.get(first) else "holds"
    detail = ""
    if elsewhere and not fell_back:
        detail = f"{sum(elsewhere.values())} of {facts.profile.num_nodes} nodes run elsewhere: "
        detail += f"{_counts(facts.profile.elsewhere)}; {facts.profile.copies} copies between memories"
    return [
        _row(
            "provider",
            ", ".join(options.providers),
            accepted,
            max(ran, key=lambda name: ran[name]) if ran else "-",
            "fell back" if fell_back else "holds",
            note,
        ),
        _row("node placement", f"{first} first", accepted, f"nodes: {_counts(ran)}", placement, detail),
    ]


def _onnx_deterministic(options: OnnxOptions, facts: OnnxFacts) -> Condition:
    observed = "repeats its bits" if facts.profile_repeats else "differs from run to run"
    note = ""
    status: Status = "holds" if facts.profile_repeats or not options.deterministic else "contradicted"
    if options.deterministic and facts.providers[0] == "CPUExecutionProvider":
        note = "on a CPU it repeats without the flag, too"
    return _row(
        "deterministic algorithms",
        _switch(options.deterministic),
        _switch(options.deterministic),
        observed,
        status,
        note,
    )


def _onnx_threads(options: OnnxOptions, facts: OnnxFacts) -> Condition:
    requested = options.threads if options.threads is not None else "what ONNX Runtime chooses"
    seen = facts.profile.threads
    if facts.providers[0] != "CPUExecutionProvider":
        note = "the work is done by the GPU"
        return _row("threads", requested, options.threads or "-", "-", "not observed", note)
    status: Status = "holds" if options.threads in (None, seen) else "contradicted"
    return _row("threads", requested, options.threads or "-", f"{seen} in the session's pool", status)


def _optimization(options: OnnxOptions, facts: OnnxFacts) -> Condition:
    ran, plain = facts.profile, facts.unoptimized
    name, level = "graph optimization", options.optimization
    if plain is None:
        return _row(name, level, level, f"{ran.num_nodes} nodes run, none of them rewritten", "holds")
    changed = ran.operations != plain.operations
    fused = {op: n for op, n in ran.operations.items() if op not in plain.operations}
    observed = f"{ran.num_nodes} nodes run instead of {plain.num_nodes}"
    note = f"new operations: {_counts(fused)}" if fused else ""
    if not changed:
        note = "this graph offers nothing to rewrite at this level"
    return _row(name, level, level, observed, "holds" if changed else "no effect", note)


def _entry(name: str, value: str, *, known: bool, changed: bool) -> Condition:
    if not known:
        note = "no library of this ONNX Runtime knows the name; it takes any without a word"
        return _row(name, value, "yes, as anything is", "output and nodes as without it", "no effect", note)
    observed = "output or nodes change" if changed else "output and nodes as without it"
    note = "" if changed else "the name is known; it may change time or memory, which was not measured"
    return _row(name, value, "yes", observed, "holds" if changed else "not observed", note)
