"""What ONNX Runtime does under the options of a runtime: its profile of a run, and canaries."""

from __future__ import annotations

import json
import mmap
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from workbench.errors import RecordingError
from workbench.runtimes.onnx_runtime import OnnxRuntime
from workbench.runtimes.onnx_session import start_session
from workbench.runtimes.probes import DENORMAL_BITS, SIZE, make_product
from workbench.runtimes.spec import OnnxOptions

_REPEATS = 3
_FLOATS = ("float", "float16", "bfloat16", "double")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One run of a graph, node by node."""

    nodes: dict[str, int]  # provider -> nodes that it ran
    operations: dict[str, int]  # operation -> nodes
    floats: dict[str, int]  # floating-point format -> nodes that put it out
    threads: int  # inside one operation, the caller's included
    copies: int  # between the memories of providers
    elsewhere: dict[str, int]  # operations that the first provider left to others
    output: np.ndarray

    @property
    def num_nodes(self) -> int:
        """Nodes that ran."""
        return sum(self.nodes.values())


@dataclass(frozen=True, kw_only=True)
class OnnxFacts:
    """Settings of a session, and what was observed."""

    providers: tuple[str, ...]  # of the session, in order
    provider_options: dict[str, dict[str, str]]
    profile: Profile
    profile_repeats: bool  # whether runs of the same session have the same bits
    unoptimized: Profile | None  # the same graph without rewriting; None where that is how it ran
    weights: dict[str, int]  # number format -> tensors in the file; empty without the onnx package
    matmul_error: float | None  # of float32 products, relative; None without the onnx package
    conv_error: float | None
    flushed: float | None  # share of denormals that became zero
    entries: dict[str, tuple[bool, bool]]  # session entry -> (known to the library, changed anything)


def observe_onnx(runtime: OnnxRuntime, waveforms: np.ndarray) -> OnnxFacts:
    """Run canaries, and the graph on waveforms (batch, samples), under the options of a runtime."""
    options = runtime.options
    ran = profile(runtime, options, waveforms)
    plain = (
        None
        if options.optimization == "none"
        else profile(runtime, replace(options, optimization="none"), waveforms)
    )
    entries = {}
    for name, _value in options.session:
        others = tuple(pair for pair in options.session if pair[0] != name)
        without = profile(runtime, replace(options, session=others), waveforms)
        changed = not np.array_equal(without.output, ran.output, equal_nan=True) or (
            without.operations,
            without.nodes,
            without.threads,
        ) != (ran.operations, ran.nodes, ran.threads)
        entries[name] = (knows_entry(name), changed)
    canary = _run_canary(options)
    inputs = runtime._inputs(waveforms)
    outputs = [runtime._run(runtime.session, inputs)[0] for _ in range(_REPEATS)]
    return OnnxFacts(
        providers=tuple(runtime.session.get_providers()),
        provider_options=runtime.session.get_provider_options(),
        profile=ran,
        profile_repeats=all(np.array_equal(outputs[0], each, equal_nan=True) for each in outputs[1:]),
        unoptimized=plain,
        weights=_weights(runtime),
        matmul_error=canary.get("matmul"),
        conv_error=canary.get("conv"),
        flushed=canary.get("flushed"),
        entries=entries,
    )


def profile(runtime: OnnxRuntime, options: OnnxOptions, waveforms: np.ndarray) -> Profile:
    """Run a graph once in a session of its own and read what ONNX Runtime noted of every node."""

    def change(settings: onnxruntime.SessionOptions) -> None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")

    with tempfile.TemporaryDirectory() as folder:
        session = start_session(runtime.path, options, runtime.name, change)
        output = runtime._run(session, runtime._inputs(waveforms))[0]
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return read_profile(events, session.get_providers()[0], output)


def read_profile(events: list[dict[str, Any]], first: str, output: np.ndarray) -> Profile:
    """A run from the events of ONNX Runtime's profile; `first` is the provider that was to do the work."""
    nodes = [
        event["args"]
        for event in events
        if event.get("cat") == "Node"
        and str(event.get("name", "")).endswith("_kernel_time")
        and event.get("args", {}).get("provider")
    ]
    names = Counter(str(node.get("op_name")) for node in nodes)
    floats: Counter[str] = Counter()
    threads = 1
    for node in nodes:
        for each in {kind for value in node.get("output_type_shape", []) for kind in value}:
            if each in _FLOATS:
                floats[each] += 1
        stats = node.get("thread_scheduling_stats")  # an empty text where there is no pool
        if isinstance(stats, dict):
            threads = max(threads, 1 + len(stats.get("sub_threads", {})))
    return Profile(
        nodes=dict(Counter(str(node["provider"]) for node in nodes)),
        operations=dict(names),
        floats=dict(floats),
        threads=threads,
        copies=sum(count for name, count in names.items() if name.startswith("Memcpy")),
        elsewhere=dict(Counter(str(n.get("op_name")) for n in nodes if n["provider"] != first)),
        output=output,
    )


@cache
def knows_entry(name: str) -> bool:
    """Whether a name of a session entry occurs in the libraries of this ONNX Runtime at all.

    It takes any name without a word, so this is the only way to tell a setting from a slip of the pen.
    """
    for path in Path(onnxruntime.__file__).parent.glob("capi/*"):
        if not {".so", ".dll", ".pyd", ".dylib"} & set(path.suffixes) or not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(name.encode()) >= 0:
                return True
    return False


def _weights(runtime: OnnxRuntime) -> dict[str, int]:
    """Number formats of the tensors in a file that hold more than shapes and indices."""
    model = runtime.stage_graph.model
    if model is None:
        return {}
    import onnx

    kinds = Counter(onnx.TensorProto.DataType.Name(t.data_type).lower() for t in model.graph.initializer)
    return {
        kind: count for kind, count in kinds.items() if kind in (*_FLOATS, "int8", "uint8", "int4", "uint4")
    }


def _run_canary(options: OnnxOptions) -> dict[str, float]:
    """Errors of a product and a convolution, and the share of denormals flushed; empty without onnx."""
    try:
        model = canary_model()
    except ImportError:
        return {}
    # rewriting would compute constants beforehand; here everything is an input
    session = start_session(model, options, "canary")
    product = make_product()
    # made and looked at as bits: to this thread a denormal may be zero already
    tiny = np.full((1000, 1000), DENORMAL_BITS, dtype=np.uint32).view(np.float32)
    feed = {
        "left": product.left,
        "right": product.right,
        "signal": np.ascontiguousarray(product.right.T)[:, :, None],
        "kernel": product.left[:, :, None],
        "tiny": tiny,
        "half": np.full(1, 0.5, dtype=np.float32),
    }
    from workbench.runtimes.float_environment import denormals

    try:
        with denormals(flush=options.denormal == "flush"):
            matmul, conv, less = session.run(None, feed)
    except Exception as error:
        raise RecordingError(f"ONNX Runtime cannot multiply matrices under these options: {error}") from error
    return {
        "matmul": product.error(matmul),
        "conv": product.error(conv[:, :, 0].T),
        "flushed": float((less.view(np.uint32) == 0).mean()),
    }


@cache
def canary_model() -> bytes:
    """A graph of one matrix product, one convolution and one product of denormals."""
    from onnx import TensorProto, helper

    def value(name: str, *shape: int | None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["left", "right"], ["product"], name="product"),
            helper.make_node("Conv", ["signal", "kernel"], ["convolved"], name="convolved"),
            helper.make_node("Mul", ["tiny", "half"], ["less"], name="less"),
        ],
        "canary",
        [
            value("left", SIZE, SIZE),
            value("right", SIZE, SIZE),
            value("signal", SIZE, SIZE, 1),
            value("kernel", SIZE, SIZE, 1),
            value("tiny", None, None),
            value("half", 1),
        ],
        [value("product", SIZE, SIZE), value("convolved", SIZE, SIZE, 1), value("less", None, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
