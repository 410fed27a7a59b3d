"""Networks in the form in which they are exported: named inputs, one output, then the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from workbench import powerset
from workbench.checkpoints import LoadedModel
from workbench.models.speaker_encoder import ECAPAEncoder, ResNetEncoder, SpeakerEncoder
from workbench.runtimes.torch_runtime import record_stages

_EXAMPLE_SAMPLES = 32077  # traced with; odd, so that no layer takes a length for a constant it knows


class Graph(nn.Module):
    """A network whose forward pass returns its output and then every named stage on the way.

    Stages become outputs of the trace, which gives their tensors the stages' names in the file;
    there they are not put out, but can be (`OnnxRuntime.stages`).
    """

    inputs: Mapping[str, tuple[str | None, ...]]  # input -> names of its dynamic axes
    output: str
    output_axes: tuple[str | None, ...]

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.stages: list[str] = []  # known once the graph has run

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The output, then the stages in the order of computation."""
        found: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor) -> None:
            found.setdefault(name, value)

        with record_stages(self.network, keep):
            result = self.run(found, *inputs)
        self.stages = list(found)
        return result, *found.values()

    def run(self, found: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """The output; stages that no layer puts out may be added to those found."""
        return self.network(*inputs)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        return (0.1 * torch.randn(2, 1, _EXAMPLE_SAMPLES, generator=_generator()),)


class SegmentationGraph(Graph):
    """waveforms (batch, 1, sample) -> log-probabilities (batch, frame, class)."""

    inputs = {"waveforms": ("batch", None, "samples")}
    output = "log_probs"
    output_axes = ("batch", "frames", None)


class MultilabelGraph(SegmentationGraph):
    """waveforms (batch, 1, sample) -> 0/1 decisions (batch, frame, local speaker)."""

    output = "multilabel"
    mapping: Tensor

    def __init__(self, network: nn.Module, classes: Sequence[Sequence[int]]):
        super().__init__(network)
        self.register_buffer("mapping", torch.from_numpy(powerset.mapping(classes)))

    def run(self, found: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """Hard decisions; the log-probabilities they were made from become a stage."""
        found["log_probs"] = self.network(*inputs)
        # One-hot times mapping is a row of the mapping; ArgMax takes the first class on ties.
        return self.mapping[found["log_probs"].argmax(dim=-1)]


class EmbeddingGraph(Graph):
    """fbank (batch, frame, mel), weights (batch, speaker, mask frame) -> (batch, speaker, embedding).

    The features are centred already: they are made outside the graph.
    """

    inputs = {"fbank": ("batch", "frames", None), "weights": ("batch", "speakers", "mask_frames")}
    output = "embeddings"
    output_axes: tuple[str | None, ...] = ("batch", "speakers", None)
    network: SpeakerEncoder

    def run(self, found: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """Embeddings, from the ResNet alone."""
        return cast(ResNetEncoder, self.network).resnet(*inputs)

    def example(self) -> tuple[Tensor, ...]:
        """Noise, with other numbers of mask frames than the trunk has frames."""
        features = torch.randn(2, 203, self.network.fbank.dims.num_mel_bins, generator=_generator())
        return features, torch.rand(2, 3, 97, generator=_generator())


class WaveformEmbeddingGraph(EmbeddingGraph):
    """waveforms (batch, sample), weights as above -> (batch, speaker, embedding)."""

    inputs = {"waveforms": ("batch", "samples"), "weights": ("batch", "speakers", "mask_frames")}

    def run(self, found: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """Embeddings, features included."""
        return self.network(*inputs)

    def example(self) -> tuple[Tensor, ...]:
        """Noise, with other numbers of mask frames than the trunk has frames."""
        waveforms = 0.1 * torch.randn(2, _EXAMPLE_SAMPLES, generator=_generator())
        return waveforms, super().example()[1]


class UnmaskedEmbeddingGraph(EmbeddingGraph):
    """fbank (batch, frame, mel) -> (batch, embedding), of networks whose pooling takes no weights."""

    inputs = {"fbank": ("batch", "frames", None)}
    output_axes = ("batch", None)

    def run(self, found: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """Embeddings, from the ECAPA-TDNN alone."""
        return cast(ECAPAEncoder, self.network).ecapa(*inputs)

    def example(self) -> tuple[Tensor, ...]:
        """Noise."""
        return super().example()[:1]


class UnmaskedWaveformEmbeddingGraph(UnmaskedEmbeddingGraph):
    """waveforms (batch, sample) -> (batch, embedding)."""

    inputs = {"waveforms": ("batch", "samples")}

    def run(self, found: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """Embeddings, features included."""
        return self.network(*inputs)

    def example(self) -> tuple[Tensor, ...]:
        """Noise."""
        return (0.1 * torch.randn(2, _EXAMPLE_SAMPLES, generator=_generator()),)


def make_graph(model: LoadedModel, output: str, with_fbank: bool = False) -> Graph:
    """What a model is exported as."""
    network = model.network
    if isinstance(network, ECAPAEncoder):
        return (UnmaskedWaveformEmbeddingGraph if with_fbank else UnmaskedEmbeddingGraph)(network).eval()
    if isinstance(network, SpeakerEncoder):
        return (WaveformEmbeddingGraph if with_fbank else EmbeddingGraph)(network).eval()
    if output == "multilabel" and model.geometry is not None:
        return MultilabelGraph(network, model.geometry.powerset).eval()
    return SegmentationGraph(network).eval()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
