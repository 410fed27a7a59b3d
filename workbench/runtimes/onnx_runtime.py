"""Graphs run by ONNX Runtime; needs neither torch nor, except for `stages`, the onnx package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime

from workbench.errors import InputError, RecordingError, nearest, wrong_kind
from workbench.fbank import KaldiFbankDims, centre, kaldi_fbank
from workbench.powerset import to_multilabel
from workbench.runtimes.base import (
    check_masks,
    check_waveforms,
    like_masks,
    refuse_embed,
    refuse_segment,
)
from workbench.runtimes.geometry import geometry_from_json
from workbench.runtimes.spec import OnnxOptions, RuntimeSpec
from workbench.types import Geometry, Kind

_PROVIDERS = {
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
OUTPUTS: Mapping[Kind, tuple[str, ...]] = {
    "segmentation": ("powerset", "multilabel"),
    "embedding": ("embedding",),
}


@dataclass(frozen=True, kw_only=True)
class GraphMetadata:
    """What `workbench export` writes into a model file, as far as running it needs."""

    kind: Kind
    output: str  # powerset, multilabel or embedding
    min_num_samples: int
    stages: Mapping[str, str]  # stage -> tensor of the graph
    geometry: Geometry | None = None  # of segmentation models
    fbank: KaldiFbankDims | None = None  # of embedding models, whose features are made outside the graph


class OnnxRuntime:
    """A model file exported by `workbench export`."""

    def __init__(self, path: Path, options: OnnxOptions | None = None, name: str | None = None):
        self.path = path
        self.options = options or OnnxOptions()
        self.name = name or f"onnx:{path}"
        if not path.is_file():
            raise InputError.at(path, "no such file")
        self.session = self._start(path)
        self.metadata = read_metadata(self.session.get_modelmeta().custom_metadata_map, path)
        self._probe: onnxruntime.InferenceSession | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> Kind:
        """Which of `segment` and `embed` it can do."""
        return self.metadata.kind

    @property
    def geometry(self) -> Geometry | None:
        """How a segmentation model sees time and speakers; None for embedding models."""
        return self.metadata.geometry

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that `segment` or `embed` accepts."""
        return self.metadata.min_num_samples

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        """Log-probabilities (batch, frames, classes) of waveforms (batch, samples)."""
        if self.kind != "segmentation":
            refuse_segment(self)
        if self.metadata.output != "powerset":
            raise InputError(
                f"{self}: the graph ends in hard decisions ({self.metadata.output}) and gives no "
                "log-probabilities; export the model with --output powerset, or run it with workbench infer"
            )
        return self._run(self.session, self._inputs(waveforms))[0]

    def decide(self, waveforms: np.ndarray) -> np.ndarray:
        """Who is active: waveforms (batch, samples) -> 0/1 float32 (batch, frames, local speakers).

        Works with either output, powerset or multilabel.
        """
        geometry = self.geometry
        if geometry is None:
            refuse_segment(self)
        output = self._run(self.session, self._inputs(waveforms))[0]
        return to_multilabel(output, geometry.powerset) if self.metadata.output == "powerset" else output

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Embeddings of waveforms (batch, samples), one per mask where masks are given."""
        if self.kind != "embedding":
            refuse_embed(self)
        return like_masks(self._run(self.session, self._inputs(waveforms, masks))[0], masks)

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays on the way to the output, by the names that the torch runtime gives them.

        They are read in a session of their own, because outputs inside the graph stop some
        operations from being fused. Without the onnx package only features and output are found.
        """
        inputs = self._inputs(waveforms)
        found = {"fbank": inputs["fbank"]} if "fbank" in inputs else {}
        session = self._probe_session()
        arrays = dict(zip((o.name for o in session.get_outputs()), self._run(session, inputs), strict=True))
        output = session.get_outputs()[0].name
        for stage, tensor in self.metadata.stages.items():
            if tensor in arrays:
                found[stage] = arrays[tensor]
        if self.kind == "embedding":
            # one mask of ones stands for "all frames", so its axis goes
            found |= {"pool": found["pool"][:, 0]} if "pool" in found else {}
            return found | {"embedding": arrays[output][:, 0]}
        return found | {output: arrays[output]}

    def _inputs(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What the graph is fed with."""
        waveforms = check_waveforms(waveforms, self.min_num_samples)
        if self.metadata.fbank is None:
            return {self.session.get_inputs()[0].name: waveforms[:, None]}
        fbank = centre(kaldi_fbank(waveforms, self.metadata.fbank))
        return {"fbank": fbank, "weights": check_masks(masks, len(waveforms))}

    def _run(self, session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return cast(list[np.ndarray], session.run(None, inputs))
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise RecordingError(f"{self}: failed on {shapes}: {_first_line(error)}") from error

    def _start(self, model: Path | bytes) -> onnxruntime.InferenceSession:
        """A session under the options."""
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = _LEVELS[self.options.optimization]
        settings.log_severity_level = 3  # errors only: warnings of the optimizer say nothing to a user
        if self.options.threads is not None:
            settings.intra_op_num_threads = self.options.threads
        providers = choose_providers(self.options, self.name)
        try:
            session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), settings, providers=providers
            )
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise InputError.at(
                self.path,
                f"is not a model that ONNX Runtime {onnxruntime.__version__} can run: {_first_line(error)}",
            ) from error
        first = providers[0][0] if isinstance(providers[0], tuple) else providers[0]
        if session.get_providers()[0] != first and "cpu" not in self.options.providers:
            raise InputError(
                f"runtime {self}: {first} could not be started on this machine (is its driver installed?); "
                "use providers=cpu, or list cpu last to fall back to it"
            )
        return session

    def _probe_session(self) -> onnxruntime.InferenceSession:
        """A session whose graph also puts out the tensors of the stages."""
        if self._probe is None:
            try:
                import onnx
            except ImportError:
                return self.session
            model = onnx.load(str(self.path))
            produced = {tensor for node in model.graph.node for tensor in node.output}
            known = {output.name for output in model.graph.output}
            for tensor in dict.fromkeys(self.metadata.stages.values()):
                if tensor in produced - known:
                    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
            self._probe = self._start(model.SerializeToString())
        return self._probe


def choose_providers(options: OnnxOptions, runtime: str) -> list[Any]:
    """Names and settings of the execution providers, in order of preference.

    One that is not installed is an `InputError`, unless cpu is listed as well.
    """
    available = onnxruntime.get_available_providers()
    chosen: list[Any] = []
    for name in options.providers:
        if name not in _PROVIDERS:
            raise InputError(
                f"runtime {runtime}: unknown provider {name!r}{nearest(name, _PROVIDERS)}; known are "
                f"{', '.join(_PROVIDERS)}"
            )
        full = _PROVIDERS[name]
        if full in available:
            chosen.append((full, {"use_tf32": int(options.tf32)}) if name == "cuda" else full)
        elif "cpu" not in options.providers:
            short = [key for key, value in _PROVIDERS.items() if value in available]
            raise InputError(
                f"runtime {runtime}: provider {name!r} is not part of this ONNX Runtime "
                f"{onnxruntime.__version__}, which has {', '.join(short)}; install the build that has it, or "
                "list cpu last to fall back to it"
            )
    return chosen


def read_metadata(fields: Mapping[str, str], path: Path) -> GraphMetadata:
    """What the metadata of a model file says; an `InputError` names what is missing."""
    required = ["kind", "output", "sample_rate"]
    required += ["fbank"] if fields.get("kind") == "embedding" else ["geometry", "powerset"]
    missing = [name for name in required if name not in fields]
    if missing:
        raise InputError.at(
            path,
            f"lacks the metadata {', '.join(missing)}, so its input, time axis and classes are unknown; "
            "export it with workbench export, or add them to the model's metadata_props",
        )
    kind, output = fields["kind"], fields["output"]
    if kind not in OUTPUTS:
        raise InputError.at(path, f"metadata kind must be one of {', '.join(OUTPUTS)}, found {kind!r}")
    known_kind: Kind = "embedding" if kind == "embedding" else "segmentation"
    if output not in OUTPUTS[known_kind]:
        raise InputError.at(
            path, f"metadata output must be one of {', '.join(OUTPUTS[known_kind])}, found {output!r}"
        )
    stages = _json(fields, "stages", {}, path)
    minimum = _json(fields, "min_num_samples", 1, path)
    if known_kind == "embedding":
        dims = _fbank_dims(_json(fields, "fbank", {}, path), path)
        return GraphMetadata(
            kind=known_kind, output=output, min_num_samples=dims.length_samples, stages=stages, fbank=dims
        )
    content = _json(fields, "geometry", {}, path)
    if isinstance(content, dict):
        content = content | {"powerset": _json(fields, "powerset", [], path)}
    return GraphMetadata(
        kind=known_kind,
        output=output,
        min_num_samples=int(minimum),
        stages=stages,
        geometry=geometry_from_json(content, path),
    )


def _json(fields: Mapping[str, str], name: str, default: Any, path: Path) -> Any:
    """One metadata entry that holds JSON of the same type as `default`."""
    if name not in fields:
        return default
    try:
        value = json.loads(fields[name])
    except json.JSONDecodeError as error:
        raise InputError.at(path, f"metadata {name} is not valid JSON: {error}") from None
    if not isinstance(value, type(default)):
        raise InputError.at(
            path, f"metadata {name} must be a {type(default).__name__}, found {type(value).__name__}"
        )
    return value


def _fbank_dims(fields: dict[str, Any], path: Path) -> KaldiFbankDims:
    try:
        return KaldiFbankDims(**fields)
    except TypeError as error:
        raise InputError.at(path, f"metadata fbank does not describe a filterbank: {error}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load_onnx(spec: RuntimeSpec, options: OnnxOptions, kind: Kind | None) -> OnnxRuntime:
    """The runtime of an `onnx:` string."""
    if spec.path.is_dir():
        offer = sorted(path.relative_to(spec.path).as_posix() for path in spec.path.rglob("*.onnx"))[:5]
        raise InputError.at(
            spec.path,
            f"is a folder; give a file{', such as ' + ', '.join(offer) if offer else ' that ends in .onnx'}",
        )
    runtime = OnnxRuntime(spec.path, options, str(spec))
    if kind is not None and runtime.kind != kind:
        raise InputError.at(spec.path, wrong_kind(runtime.kind, kind))
    return runtime
