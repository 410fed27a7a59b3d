"""Graphs run by ONNX Runtime; needs neither torch nor, except for `stages`, the onnx package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

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
from workbench.runtimes.external_data import check_external_data
from workbench.runtimes.float_environment import denormals
from workbench.runtimes.foreign import description_of, read_description, template
from workbench.runtimes.graph_metadata import GraphMetadata, Wiring, read_metadata
from workbench.runtimes.onnx_session import choose_providers, start_session
from workbench.runtimes.spec import OnnxOptions, RuntimeSpec
from workbench.types import Geometry, Kind

if TYPE_CHECKING:
    from workbench.runtimes.onnx_stages import StageGraph

_AXES = ("batch", "time", "speaker", "class", "embedding")  # of outputs, in our order


class OnnxRuntime:
    """A model file exported by `workbench export`, or one that a TOML beside it describes."""

    def __init__(self, path: Path, options: OnnxOptions | None = None, name: str | None = None):
        self.path = path
        self.options = options or OnnxOptions()
        self.name = name or f"onnx:{path}"
        if not path.is_file():
            raise InputError.at(path, "no such file")
        check_external_data(path)  # before anything that would follow the names in the file
        self.session = self._start(path)
        self.metadata = self._describe()
        self._check_wiring()
        self._stage_graph: StageGraph | None = None

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

    @property
    def attention_heads(self) -> int:
        """Heads of its widest self-attention, whose memory grows with the square of the input's length."""
        return self.metadata.attention_heads

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        """Log-probabilities (batch, frames, classes) of waveforms (batch, samples)."""
        if self.kind != "segmentation":
            refuse_segment(self)
        if self.metadata.output != "powerset":
            raise InputError(
                f"{self}: the graph ends in hard decisions ({self.metadata.output}) and gives no "
                "log-probabilities; export the model with --output powerset, or run it with workbench infer"
            )
        return log_probs_of(self._segment(waveforms), self.metadata.wiring.values)

    def decide(self, waveforms: np.ndarray) -> np.ndarray:
        """Who is active: waveforms (batch, samples) -> 0/1 float32 (batch, frames, local speakers).

        Works with either output, powerset or multilabel.
        """
        geometry = self.geometry
        if geometry is None:
            refuse_segment(self)
        output = self._segment(waveforms)
        if self.metadata.output == "multilabel":
            return (output > 0.5).astype(np.float32)
        return to_multilabel(output, geometry.powerset)  # the best class, whatever its values mean

    def embed(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Embeddings of waveforms (batch, samples), one per mask where masks are given."""
        if self.kind != "embedding":
            refuse_embed(self)
        if self.metadata.masks == "weights":
            inputs = self._inputs(waveforms, masks)
            return like_masks(self._output(self._run(self.session, inputs)), masks)
        waveforms = check_waveforms(waveforms, self.min_num_samples)
        return like_masks(self._embed_selected(waveforms, check_masks(masks, len(waveforms))), masks)

    @property
    def fbank_dims(self) -> KaldiFbankDims | None:
        """Settings of the features that `embed_features` takes; None where the graph makes them itself."""
        return None if self.metadata.fbank_inside else self.metadata.fbank

    def embed_features(self, fbank: np.ndarray) -> np.ndarray:
        """Embeddings of fbank (batch, frame, mel) as `workbench.fbank` makes it, not centred."""
        if self.fbank_dims is None:
            raise InputError(f"{self}: makes its features itself and takes none; give it waveforms")
        inputs = self._feed(centre(fbank) if self.metadata.centred else fbank)
        if self.metadata.masks == "weights":
            inputs[self.metadata.wiring.weights] = check_masks(None, len(fbank))
        embeddings = self._output(self._run(self.session, inputs))
        return embeddings[:, 0] if embeddings.ndim == 3 else embeddings

    def _segment(self, waveforms: np.ndarray) -> np.ndarray:
        """The graph's output as (batch, frames, classes or speakers)."""
        return self._output(self._run(self.session, self._inputs(waveforms)))

    def _embed_selected(self, waveforms: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Embeddings (batch, speaker, dimension) by a graph that knows no masks: they pick its frames."""
        if (masks > 0.5).all():
            embeddings = self._output(self._run(self.session, self._inputs(waveforms)))
            return np.repeat(embeddings[:, None], masks.shape[1], axis=1)
        if self.metadata.fbank_inside:
            raise InputError(
                f"{self}: makes its features inside and takes no weights, so masks cannot choose what it "
                "hears; export the model again without --with-fbank"
            )
        rows: list[list[np.ndarray | None]] = []
        for features, several in zip(self._features(waveforms), masks, strict=True):
            rows.append([])
            for mask in several:
                selected = features[select_frames(mask, len(features))]
                if len(selected) < self.metadata.min_frames:
                    rows[-1].append(None)
                else:
                    run = self._run(self.session, self._feed(selected[None]))
                    rows[-1].append(self._output(run)[0])
        found = [row for several in rows for row in several if row is not None]
        if not found:  # the dimension is known from a run alone
            whole = self._output(self._run(self.session, self._inputs(waveforms[:1])))
            found = [whole[0]]
        nothing = np.full_like(found[0], np.nan)
        return np.stack([np.stack([nothing if row is None else row for row in several]) for several in rows])

    def stages(
        self,
        waveforms: np.ndarray,
        names: Collection[str] | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Arrays on the way to the output, by the names that the torch runtime gives them.

        They are read in sessions of their own, because outputs inside the graph stop some
        operations from being fused. Without the onnx package only features and output are found.

        Parameters
        ----------
        waveforms : float array, shape (batch, num_samples), in [-1, 1)
        names : stages to compute, for want of memory; all by default
        given : arrays by stage, optional
            What the graph goes on with behind a stage instead of its own tensor, which is returned all
            the same: with the stages of another runtime, every part's *own* error can be seen.
        """
        return self.stage_graph.run(waveforms, names, given or {})

    @property
    def stage_graph(self) -> StageGraph:
        """The stages inside this graph."""
        if self._stage_graph is None:
            from workbench.runtimes.onnx_stages import StageGraph

            self._stage_graph = StageGraph(self)
        return self._stage_graph

    def _features(self, waveforms: np.ndarray) -> np.ndarray:
        """What the graph hears of waveforms (batch, samples): (batch, frame, mel), or they themselves."""
        metadata = self.metadata
        if metadata.fbank is None or metadata.fbank_inside:
            return waveforms
        fbank = kaldi_fbank(waveforms, metadata.fbank)
        return centre(fbank) if metadata.centred else fbank

    def _inputs(self, waveforms: np.ndarray, masks: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What the graph is fed with."""
        waveforms = check_waveforms(waveforms, self.min_num_samples)
        inputs = self._feed(self._features(waveforms))
        if self.kind == "embedding" and self.metadata.masks == "weights":
            inputs[self.metadata.wiring.weights] = check_masks(masks, len(waveforms))
        return inputs

    def _feed(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Waveforms (batch, samples) or features (batch, frame, mel) in the order of the graph's axes."""
        wiring = self.metadata.wiring
        axes = ("batch", "time") if array.ndim == 2 else ("batch", "time", "mel")
        if "channel" in wiring.input_axes:
            array, axes = array[:, None], ("batch", "channel", *axes[1:])
        ordered = array.transpose([axes.index(axis) for axis in wiring.input_axes])
        return {wiring.input or self.session.get_inputs()[0].name: np.ascontiguousarray(ordered)}

    def _output(self, arrays: list[np.ndarray]) -> np.ndarray:
        """The output that is meant, its axes in our order."""
        wiring = self.metadata.wiring
        names = [output.name for output in self.session.get_outputs()]
        return order_output(arrays[0 if wiring.output is None else names.index(wiring.output)], wiring, self)

    def _run(self, session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs; a batch that the graph does not take is run in parts, the last one filled up."""
        metadata = getattr(self, "metadata", None)
        most = metadata.wiring.max_batch if metadata is not None else None
        fixed = None if metadata is None else fixed_batch(session, metadata.wiring)
        batch = len(next(iter(inputs.values())))
        size = fixed or most
        if size is not None and batch > size:
            parts = [
                self._run(session, {name: array[first : first + size] for name, array in inputs.items()})
                for first in range(0, batch, size)
            ]
            return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        if fixed is not None and batch < fixed:
            rows = np.minimum(np.arange(fixed), batch - 1)  # the last one again: no row depends on another
            filled = self._run(session, {name: array[rows] for name, array in inputs.items()})
            return [array[:batch] for array in filled]
        try:
            with denormals(flush=self.options.denormal == "flush"):
                return cast(list[np.ndarray], session.run(None, inputs))
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise RecordingError(f"{self}: failed on {shapes}: {_first_line(error)}") from error

    def _describe(self) -> GraphMetadata:
        """The file's own metadata, or the TOML beside it; an error with a TOML to fill in without either."""
        fields = self.session.get_modelmeta().custom_metadata_map
        toml = description_of(self.path)
        if "kind" not in fields and toml.is_file():
            return read_description(toml)
        try:
            return read_metadata(fields, self.path)
        except InputError as error:
            if "kind" in fields:
                raise
            ends = [
                [(value.name, value.shape) for value in values]
                for values in (self.session.get_inputs(), self.session.get_outputs())
            ]
            raise InputError(
                f"{error}. If another program made it, describe it once in {toml}, for example\n\n"
                f"{template(*ends)}"
            ) from None

    def _check_wiring(self) -> None:
        """The names that the description gives exist in the graph."""
        wiring = self.metadata.wiring
        inputs = [value.name for value in self.session.get_inputs()]
        outputs = [value.name for value in self.session.get_outputs()]
        needed = [(wiring.input, inputs, "input"), (wiring.output, outputs, "output")]
        if self.kind == "embedding" and self.metadata.masks == "weights":
            needed.append((wiring.weights, inputs, "input"))
        for name, known, what in needed:
            if name is not None and name not in known:
                raise InputError.at(
                    self.path,
                    f"has no {what} {name!r}{nearest(name, known)}; it has {', '.join(known)}",
                )
        fed = {wiring.input or inputs[0]} | {name for name, _, what in needed[2:] if name is not None}
        if idle := [name for name in inputs if name not in fed]:
            raise InputError.at(
                self.path,
                f"has an input {idle[0]!r} that nothing is known about; its metadata or the TOML beside it "
                "must name it (the masks of an embedding model as weights)",
            )
        self._check_classes()

    def _check_classes(self) -> None:
        """As many classes come out as the description has, where the graph says how many."""
        wiring, geometry = self.metadata.wiring, self.geometry
        if geometry is None or "class" not in wiring.output_axes:
            return
        output = next(o for o in self.session.get_outputs() if wiring.output in (None, o.name))
        if len(output.shape or ()) != len(wiring.output_axes):
            return  # said when it runs, with the shape that came out
        found = output.shape[wiring.output_axes.index("class")]
        if self.metadata.output == "multilabel":
            expected, what = geometry.num_speakers, "local speakers"
        else:
            expected, what = len(geometry.powerset), "classes in the powerset"
        if isinstance(found, int) and found != expected:
            raise InputError.at(
                self.path,
                f"puts out {found} numbers per frame, but its description has {expected} {what}; correct "
                "powerset, or num_speakers and max_set_size",
            )

    def _start(self, model: Path | bytes) -> onnxruntime.InferenceSession:
        """A session under the options."""
        providers = choose_providers(self.options, self.name)
        try:
            session = start_session(model, self.options, self.name)
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            if isinstance(error, InputError):
                raise
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


def fixed_batch(session: onnxruntime.InferenceSession, wiring: Wiring) -> int | None:
    """The only batch that a graph takes, where its input was exported with one; None where any goes.

    Parameters
    ----------
    session : of the graph
    wiring : names its input and the order of that input's axes
    """
    inputs = session.get_inputs()
    shape = next((value.shape for value in inputs if value.name == wiring.input), inputs[0].shape)
    if len(shape) != len(wiring.input_axes):
        return None  # said when it runs, with both shapes
    size = shape[wiring.input_axes.index("batch")]
    return size if isinstance(size, int) and size > 0 else None


def select_frames(mask: np.ndarray, num_frames: int) -> np.ndarray:
    """Feature frames that a mask picks: resampled by nearest neighbour, above 0.5.

    Parameters
    ----------
    mask : float32 array, shape (num_mask_frames,)
    num_frames : feature frames

    Returns
    -------
    selected : bool array, shape (num_frames,)

    Examples
    --------
    >>> select_frames(np.array([1.0, 0.0], dtype=np.float32), 5)
    array([ True,  True,  True, False, False])
    """
    # a float32 ratio, as in torch's nearest interpolation, whose choice at exact multiples it decides
    position = np.arange(num_frames, dtype=np.float32) * np.float32(len(mask) / num_frames)
    selected: np.ndarray = mask[np.minimum(np.floor(position).astype(np.int64), len(mask) - 1)] > 0.5
    return selected


def order_output(array: np.ndarray, wiring: Wiring, runtime: object) -> np.ndarray:
    """What a graph puts out as float32, its axes in our order."""
    if array.ndim != len(wiring.output_axes):
        raise InputError(
            f"{runtime}: puts out an array of shape {array.shape}, but its axes were said to be "
            f"{', '.join(wiring.output_axes)}"
        )
    ours = [axis for axis in _AXES if axis in wiring.output_axes]
    return array.transpose([wiring.output_axes.index(axis) for axis in ours]).astype(np.float32, copy=False)


def log_probs_of(values: np.ndarray, meaning: str) -> np.ndarray:
    """Natural-log probabilities (..., class) from what a graph puts out."""
    if meaning == "log_probs":
        return values
    if meaning == "probs":
        tiny = np.finfo(np.float32).tiny
        return np.log(np.maximum(values, tiny))
    shifted = values - values.max(axis=-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


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
