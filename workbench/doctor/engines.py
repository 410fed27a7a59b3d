"""torch and ONNX Runtime: builds, providers, and whether they fit the machine."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from workbench.doctor.checks import INSTALL, Check, Status, broken
from workbench.doctor.machine import find_gpus
from workbench.doctor.packages import installed_version


def examine_engines() -> Iterator[Check]:
    """torch and ONNX Runtime."""
    gpus = find_gpus()
    yield from _torch(gpus)
    yield from _onnxruntime(gpus)


def _torch(gpus: list[str]) -> Iterator[Check]:
    if installed_version("torch") is None:
        fix = "onnx: and recorded: runtimes and workbench infer work without it; for the rest: " + INSTALL
        yield Check(section="engines", name="torch", value="not installed", status="warning", fix=fix)
        return
    try:
        build = importlib.import_module("workbench.runtimes.torch_conditions").torch_build()
    except Exception as error:  # loaders fail in every possible way
        yield broken("engines", "torch", error)
        return
    cuda = build["cuda"]
    value = f"{build['version']}, {build['threads']} threads, {build['cpu_capability']}"
    if cuda["available"]:
        names = ", ".join(f"{d['name']} ({d['memory'] / 2**30:.0f} GiB)" for d in cuda["devices"])
        yield Check(section="engines", name="torch", value=f"{value}, CUDA {cuda['compiled']}: {names}")
    elif gpus:
        build_word = f"built for CUDA {cuda['compiled']}" if cuda["compiled"] else "built without CUDA"
        yield Check(
            section="engines",
            name="torch",
            value=f"{value}, {build_word}, sees no GPU although there is one",
            status="warning",
            fix="install torch in the build for this driver's CUDA version (pytorch.org), or update it",
        )
    else:
        yield Check(section="engines", name="torch", value=f"{value}, CPU only")


def _onnxruntime(gpus: list[str]) -> Iterator[Check]:
    builds = [n for n in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino") if installed_version(n)]
    if not builds:
        value = "not installed"
        yield Check(section="engines", name="onnxruntime", value=value, status="problem", fix=INSTALL)
        return
    try:
        onnxruntime = importlib.import_module("onnxruntime")
        providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    except Exception as error:
        yield broken("engines", "onnxruntime", error)
        return
    value = f"{onnxruntime.__version__} ({', '.join(builds)}), providers {', '.join(providers)}"
    status: Status = "ok"
    fix = ""
    if len(builds) > 1:
        status = "warning"
        fix = "these builds share their files, and which one runs is chance: uninstall all, then install one "
        fix += "(see GPU in CONTRIBUTING.md)"
    elif gpus and "CUDA" not in providers:
        status = "note"
        fix = "to use the GPU install onnxruntime-gpu in its place (see GPU in CONTRIBUTING.md)"
    elif "CUDA" in providers and not gpus:
        status = "note"
        fix = "no NVIDIA driver was found: providers=cuda will fail, and providers=cuda,cpu fall back"
    yield Check(section="engines", name="onnxruntime", value=value, status=status, fix=fix)
    if installed_version("onnx") is None:
        fix = "pip install onnx; without it ONNX graphs show neither stages nor precision"
        yield Check(section="engines", name="onnx", value="not installed", status="warning", fix=fix)
