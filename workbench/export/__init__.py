"""Networks to ONNX files that are left behind only where they agree with their source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.checkpoints import LoadedModel, load_model
from workbench.errors import InputError, nearest
from workbench.export.graphs import make_graph
from workbench.export.precision import PRECISIONS, reduce_precision
from workbench.export.verify import CRITERIA, Agreement, verify
from workbench.export.write import add_metadata, finish_file, metadata, write_graph
from workbench.files import atomic_write
from workbench.runtimes.graph_metadata import OUTPUTS
from workbench.runtimes.spec import parse_spec
from workbench.types import Kind

__all__ = [
    "DEFAULT_OPSET",
    "OPSETS",
    "PRECISIONS",
    "Agreement",
    "ExportError",
    "ExportReport",
    "export_model",
    "export_onnx",
]

DEFAULT_OPSET = 18  # the lowest of torch's current exporter, hence the one that most runtimes read
OPSETS = range(17, 24)
MOST_BYTES = 2**31 - 2**26  # of weights: a protocol buffer ends at 2 GiB, and holds the graph as well


class ExportError(InputError):
    """The network could not be exported, or the exported file disagreed with it and was removed."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was exported, and how well it agrees with its source."""

    path: Path
    kind: Kind
    output: str  # powerset, multilabel or embedding
    opset: int
    precision: str  # fp32, fp16 or int8
    num_bytes: int
    agreement: Agreement


def export_onnx(
    runtime: str,
    path: Path,
    *,
    output: str | None = None,
    opset: int = DEFAULT_OPSET,
    precision: str = "fp32",
    with_fbank: bool = False,
    waveforms: Sequence[np.ndarray] = (),
    tolerance: float | None = None,
) -> ExportReport:
    """Export a model to an ONNX file and check the file against its source.

    Parameters
    ----------
    runtime : str
        `torch:PATH[@CHECKPOINT]`.
    path : file to write; it appears only once it has passed the check
    output : {"powerset", "multilabel", "embedding"}, optional
        Log-probabilities of powerset classes; hard decisions per local speaker, made inside the
        graph; or speaker embeddings (of a hub-layout folder: by its embedding model). By default
        `powerset` for segmentation and `embedding` for embedding models.
    opset : version of the operator set, 17 to 23
    precision : {"fp32", "fp16", "int8"}
        How numbers are stored: half precision with single precision in and out; or 8-bit weights of
        matrix products, whose inputs are quantized as they come.
    with_fbank : make the features of an embedding model inside the graph, whose input is then the waveform
    waveforms : float arrays, shape (num_samples,), in [-1, 1)
        Real audio to check on, at the model's sample rate; without any, noise that is modulated
        like speech.
    tolerance : largest difference of any output value, relative to the largest where that is above 1
        By default 1e-4 of an fp32 file; others are judged by what they decide (`verify.CRITERIA`).

    Raises
    ------
    ExportError
        If the exporter fails, or the file disagrees with its source; no file is left then.
    """
    spec = parse_spec(runtime)
    if spec.engine != "torch":
        raise InputError(f"runtime {runtime!r}: only torch: models can be exported")
    if idle := [name for name in spec.options if name != "config"]:
        raise InputError(f"runtime {runtime!r}: options do not change an export; leave out {', '.join(idle)}")
    known = [name for names in OUTPUTS.values() for name in names]
    if output is not None and output not in known:
        raise InputError(f"output must be one of {', '.join(known)}, got {output!r}{nearest(output, known)}")
    kind: Kind | None = None
    if output is not None:
        kind = "embedding" if output in OUTPUTS["embedding"] else "segmentation"
    model = load_model(spec.path, spec.checkpoint, kind, spec.options.get("config"))
    return export_model(
        model,
        path,
        output=output,
        opset=opset,
        precision=precision,
        with_fbank=with_fbank,
        waveforms=waveforms,
        tolerance=tolerance,
    )


def export_model(
    model: LoadedModel,
    path: Path,
    *,
    output: str | None = None,
    opset: int = DEFAULT_OPSET,
    precision: str = "fp32",
    with_fbank: bool = False,
    waveforms: Sequence[np.ndarray] = (),
    tolerance: float | None = None,
) -> ExportReport:
    """`export_onnx` for a model that is already loaded."""
    output = output or OUTPUTS[model.kind][0]
    if output not in OUTPUTS[model.kind]:
        raise InputError(
            f"a {model.kind} model has no output {output!r}; choose {' or '.join(OUTPUTS[model.kind])}"
        )
    if opset not in OPSETS:
        raise InputError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if with_fbank and model.kind != "embedding":
        raise InputError(
            "with_fbank is for embedding models; segmentation models always make their features inside"
        )
    weights = sum(tensor.nbytes for tensor in model.network.state_dict().values())
    if weights > MOST_BYTES:
        raise ExportError(
            f"{path}: the model has {weights / 1e9:.2f} GB of weights, and one ONNX file holds less than "
            "2 GB; run it with torch"
        )
    criterion = CRITERIA[precision]
    if tolerance is not None:
        criterion = replace(criterion, max_diff=tolerance)
    with atomic_write(path) as temporary:
        graph = make_graph(model, output, with_fbank)
        try:
            write_graph(graph, temporary, opset)
        except Exception as error:  # torch's exporters raise whatever the failing layer raised
            raise ExportError(
                f"{path}: torch cannot export this model to opset {opset}: {_first_line(error)}"
            ) from error
        finish_file(temporary, graph, metadata(model, output, opset, precision, with_fbank))
        reduce_precision(temporary, precision)
        agreement = verify(temporary, model, waveforms, criterion)
        if not agreement.ok:
            raise ExportError(
                f"{path}: not written, as the exported file disagrees with its source: {agreement.problem}"
            )
        add_metadata(temporary, {"agreement": json.dumps(_noted(agreement))})
        num_bytes = temporary.stat().st_size
    return ExportReport(
        path=path,
        kind=model.kind,
        output=output,
        opset=opset,
        precision=precision,
        num_bytes=num_bytes,
        agreement=agreement,
    )


def _noted(agreement: Agreement) -> dict[str, float | int | bool]:
    """What a file remembers of its verification, for its family's table."""
    return {
        "max_abs_diff": agreement.max_abs_diff,
        "frames": agreement.frames,
        "flips": agreement.flips,
        "min_cosine": agreement.min_cosine,
        "real_audio": agreement.real_audio,
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
