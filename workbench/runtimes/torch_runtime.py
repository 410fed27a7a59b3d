"""Networks run by torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.checkpoints import LoadedModel, load_model
from workbench.errors import InputError
from workbench.fbank import KaldiFbankDims
from workbench.models.speaker_encoder import SpeakerEncoder
from workbench.runtimes.base import (
    check_masks,
    check_waveforms,
    like_masks,
    refuse_embed,
    refuse_segment,
)
from workbench.runtimes.float_environment import denormals
from workbench.runtimes.spec import RuntimeSpec, TorchOptions
from workbench.types import Geometry, Kind

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# Module paths and the stages that their outputs are called. `conformer_0_mha` is the state after the
# sub-block, its residual included.
_STAGES = (
    (r"make_feats|centre", "fbank"),
    (r"proj|lnorm", r"\g<0>"),
    (r"conformer\.conformer_layer\.(\d+)\.(ffn1|mha|conv|ffn2)", r"conformer_\1_\2"),
    (r"conformer\.conformer_layer\.(\d+)", r"conformer_\1"),
    (r"conformer", "conformer_out"),
    (r"classifier", "logits"),
    (r"wavlm_model\.feature_extractor", "conv_features"),
    (r"wavlm_model\.feature_extractor\.conv_layers\.(\d+)", r"conv_\1"),
    (r"wavlm_model\.encoder\.feature_projection", "feature_projection"),
    (r"wavlm_model\.encoder\.transformer\.pos_conv_embed", "pos_conv"),
    (r"wavlm_model\.encoder\.transformer\.layers\.(\d+)\.attention", r"encoder_layer_\1_attn"),
    (r"wavlm_model\.encoder\.transformer\.layers\.(\d+)\.feed_forward", r"encoder_layer_\1_ffn"),
    (r"wavlm_model\.encoder\.transformer\.layers\.(\d+)", r"encoder_layer_\1"),
    (r"weight_sum", "weighted_sum"),
    (r"sincnet\.wav_norm1d", "wav_norm"),
    (r"sincnet\.(conv|pool|norm)1d\.(\d+)", r"sinc_\1\2"),
    (r"sincnet|lstm", r"\g<0>"),
    (r"linear\.(\d+)", r"linear\1"),
    (r"resnet\.(conv1|layer[1-4])", r"\1"),
    (r"ecapa\.(layer[1-4]|conv|pool|bn)", r"\1"),
)
# Module paths and the stages that go into them.
_INPUTS = {
    "resnet.seg_1": "pool",
    "wavlm_model.encoder.transformer.layers.0": "encoder_in",
}


class TorchRuntime:
    """A network from a checkpoint; nothing of torch's global state stays changed after a call."""

    def __init__(self, model: LoadedModel, options: TorchOptions | None = None, name: str = "torch"):
        self.model = model
        self.options = options or TorchOptions()
        self.name = name
        self.device = _device(self.options.device, name)
        if self.options.deterministic and self.device.type == "cuda":
            # read with the first product; without it torch refuses products as not repeatable
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.network = model.network.to(self.device).eval()

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> Kind:
        """Which of `segment` and `embed` it can do."""
        return self.model.kind

    @property
    def geometry(self) -> Geometry | None:
        """How a segmentation model sees time and speakers; None for embedding models."""
        return self.model.geometry

    @property
    def min_num_samples(self) -> int:
        """Shortest waveform that `segment` or `embed` accepts."""
        return int(getattr(self.network, "min_num_samples", 1))

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        """Log-probabilities (batch, frames, classes) of waveforms (batch, samples)."""
        if self.kind != "segmentation":
            refuse_segment(self)
        with self._numerics():
            return _to_numpy(self.network(self._to_device(waveforms)[:, None]))

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Embeddings of waveforms (batch, samples), one per mask where masks are given."""
        if self.kind != "embedding":
            refuse_embed(self)
        several = check_masks(masks, len(waveforms))
        with self._numerics():
            weights = torch.from_numpy(several).to(self.device)
            embeddings = self.network(self._to_device(waveforms), weights)
        return like_masks(_to_numpy(embeddings), masks)

    def stages(
        self,
        waveforms: np.ndarray,
        names: Collection[str] | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Features, the output of every block, and the result, by name in the order of computation.

        Parameters
        ----------
        waveforms : float array, shape (batch, num_samples), in [-1, 1)
        names : stages to keep, for want of memory; all by default
        given : arrays by stage, optional
            What the network goes on with behind a stage instead of its own output, which is returned all
            the same: with the stages of another runtime, every block's *own* error can be seen.
        """
        found: dict[str, np.ndarray] = {}
        passed: set[str] = set()
        given = given or {}

        def on_stage(name: str, value: Tensor) -> Tensor | None:
            if name in passed:
                return None
            passed.add(name)
            if names is None or name in names:
                found[name] = _to_numpy(value)
            return _like(given[name], value) if name in given else None

        with record_stages(self.network, on_stage):
            if self.kind == "segmentation":
                found["log_probs"] = self.segment(waveforms)
            else:
                found["embedding"] = self.embed(waveforms)
                if "pool" in found and found["pool"].ndim == 3:  # one mask of ones stands for "all frames"
                    found["pool"] = found["pool"][:, 0]
        return {name: array for name, array in found.items() if names is None or name in names}

    @property
    def fbank_dims(self) -> KaldiFbankDims | None:
        """Settings of the features that `embed_features` takes."""
        return self.network.fbank.dims if isinstance(self.network, SpeakerEncoder) else None

    def embed_features(self, fbank: np.ndarray) -> np.ndarray:
        """Embeddings of fbank (batch, frame, mel) as `workbench.fbank` makes it, not centred."""
        if not isinstance(self.network, SpeakerEncoder):
            refuse_embed(self)
        with self._numerics():
            features = self.network.centre(torch.from_numpy(fbank).to(self.device))
            weights = torch.ones((len(fbank), 1, 1), device=self.device)  # as `embed` without masks
            return _to_numpy(self.network.embed_features(features, weights))[:, 0]

    def _to_device(self, waveforms: np.ndarray) -> Tensor:
        return torch.from_numpy(check_waveforms(waveforms, self.min_num_samples)).to(self.device)

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        """Run without gradients under the options, most of which torch keeps globally: they are put back."""
        options = self.options
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(denormals(flush=options.denormal == "flush"))
            if options.threads is not None:
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(options.threads)
            if self.device.type == "cuda":
                backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
                for switches in backends:
                    stack.callback(setattr, switches, "allow_tf32", switches.allow_tf32)
                    switches.allow_tf32 = options.tf32
            if options.deterministic:
                for name, value in (("deterministic", True), ("benchmark", False)):
                    stack.callback(setattr, torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
                    setattr(torch.backends.cudnn, name, value)
                stack.callback(
                    torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()
                )
                torch.use_deterministic_algorithms(True)
            if options.dtype in _DTYPES:
                # float64 features pass through autocast as they are; log-softmax stays in float32
                stack.enter_context(torch.autocast(self.device.type, _DTYPES[options.dtype]))
            yield


@contextmanager
def record_stages(network: nn.Module, on_stage: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Call `on_stage(name, output)` whenever a block that has a stage name has run.

    A tensor that it returns takes the place of the output for what follows.
    """

    def output_hook(name: str) -> Callable[[nn.Module, object, Any], Any]:
        def after(_module: nn.Module, _inputs: object, output: Any) -> Any:
            first, *state = output if isinstance(output, tuple) else (output,)  # an LSTM adds its state
            other = on_stage(name, first)
            if other is None:
                return None
            return (other, *state) if isinstance(output, tuple) else other

        return after

    def input_hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
        def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
            other = on_stage(name, inputs[0])
            return None if other is None else (other, *inputs[1:])

        return before

    handles = []
    for path, module in network.named_modules():
        if path in _INPUTS:
            handles.append(module.register_forward_pre_hook(input_hook(_INPUTS[path])))
        if name := stage_name(path):
            handles.append(module.register_forward_hook(output_hook(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def stage_name(path: str) -> str | None:
    """Name of the stage that a module's output is called, None where it has none.

    Examples
    --------
    >>> stage_name("conformer.conformer_layer.3.ffn1")
    'conformer_3_ffn1'
    """
    for pattern, name in _STAGES:
        if match := re.fullmatch(pattern, path):
            return match.expand(name)
    return None


def load_torch(spec: RuntimeSpec, options: TorchOptions, kind: Kind | None) -> TorchRuntime:
    """The runtime of a `torch:` string."""
    return TorchRuntime(
        load_model(spec.path, spec.checkpoint, kind, spec.options.get("config")), options, str(spec)
    )


def _device(name: str, runtime: str) -> torch.device:
    """The device an option names, if this machine has it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"runtime {runtime}: device must be cpu, cuda, cuda:N or auto, got {name!r}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"runtime {runtime}: device {name!r} is not available, torch sees {torch.cuda.device_count()} "
            "CUDA devices; use device=cpu or device=auto"
        )
    return device


def _to_numpy(output: Tensor) -> np.ndarray:
    return output.detach().float().cpu().numpy()


def _like(array: np.ndarray, value: Tensor) -> Tensor:
    """An array in the place of a tensor: its device, number format and shape."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(value).reshape(value.shape)
