"""A whole pipeline from one string: a hub folder, or a segmentation model with what others share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.clustering import PLDA, VBxParams
from workbench.config import PipelineParams, read_config
from workbench.errors import InputError
from workbench.hub import local_hub
from workbench.pipeline import Runtimes
from workbench.runtimes import load_runtime
from workbench.runtimes.spec import parse_spec
from workbench.steps.reading import StepsFolder, open_steps
from workbench.steps.recorded_stages import offered


@dataclass(frozen=True, kw_only=True, eq=False)
class PipelineSide:
    """One contestant.

    Attributes
    ----------
    name : as the user gave it
    runtimes, params : the pipeline
    models : role -> runtime string or folder, for reports
    recorded : folder of steps that some stages are taken from, and which arrays; None where all are run
    """

    name: str
    runtimes: Runtimes
    params: PipelineParams
    models: Mapping[str, str]
    recorded: tuple[StepsFolder, Mapping[str, str]] | None = None


def load_side(
    text: str,
    *,
    embedding: str | None = None,
    plda: str | Path | None = None,
    config: str | Path | None = None,
    hub: str | Path | None = None,
) -> PipelineSide:
    """A pipeline.

    Parameters
    ----------
    text : a hub-layout folder (`torch:DIR` or its plain path), `onnx:DIR` for its ONNX exports, the
        runtime string of a segmentation model, or `recorded:DIR` with the steps of some stages
    embedding, plda, config : what the pipeline takes instead of the hub's own, or in place of a hub
    hub : folder that gives what is not named otherwise
    """
    if ":" not in text.partition("/")[0] and Path(text).is_dir():
        text = f"torch:{text}"
    spec = parse_spec(text)
    models = {"segmentation": text}
    own = spec.path if _is_hub(spec.path) else None
    query = text.partition("?")[2]
    query = f"?{query}" if query else ""
    if spec.engine == "onnx" and own is not None:
        models["segmentation"] = f"onnx:{own / 'onnx' / 'segmentation.onnx'}{query}"
        models["embedding"] = f"onnx:{own / 'onnx' / 'embedding.onnx'}{query}"
    elif own is not None:
        models["embedding"] = text
    source = own if own is not None else None if hub is None else local_hub(Path(hub))
    if source is not None:
        models.setdefault("embedding", f"torch:{source}")
        if (source / "plda").is_dir():
            models["plda"] = str(source / "plda")
    recorded = None
    if spec.engine == "recorded":
        folder = open_steps(text, may_be_empty=True)
        recorded = (folder, offered(folder))
        _take_recorded(text, recorded[1], models, source)
    if embedding is not None:
        models["embedding"] = embedding
    if plda is not None:
        models["plda"] = str(plda)
    if "embedding" not in models:
        raise InputError(
            f"{text}: is no hub folder, so the pipeline lacks an embedding model; name it with --embedding "
            "(and its --plda and --config), or give a hub folder"
        )
    chosen = config if config is not None else None if source is None else source / "config.toml"
    params = PipelineParams() if chosen is None else read_config(chosen)
    loaded = PLDA.load(models["plda"]) if "plda" in models else None
    if loaded is None and isinstance(params.clustering, VBxParams):
        raise InputError(
            f"{text}: VBx clustering needs a PLDA: name its folder with --plda, or a --config that has AHC"
        )
    return PipelineSide(
        name=text,
        runtimes=Runtimes(
            segmentation=load_runtime(models["segmentation"], "segmentation"),
            embedding=load_runtime(models["embedding"], "embedding"),
            plda=loaded,
        ),
        params=params,
        models=models,
        recorded=recorded,
    )


def _take_recorded(text: str, taken: Mapping[str, str], models: dict[str, str], source: Path | None) -> None:
    """Models of a recorded side: its own arrays, and those of the hub for what it lacks."""
    if "embeddings" in taken:
        models["embedding"] = text
    if taken.get("segmentation") == "log_probs":
        return
    if source is None:
        raise InputError(
            f"{text}: gives {', '.join(f'{stage} ({array})' for stage, array in taken.items())} but no "
            "log_probs; name with --hub the folder whose segmentation model stands in"
        )
    models["segmentation"] = f"torch:{source}"


def shared_hub(*texts: str) -> Path | None:
    """The hub folder that one of several sides is, or lies in as its ONNX export, for those that need one."""
    for text in texts:
        path = Path(text) if ":" not in text.partition("/")[0] else parse_spec(text).path
        inside = path.parent.parent if path.parent.name == "onnx" else None
        for folder in (path, inside):
            if folder is not None and _is_hub(folder):
                return folder
    return None


def _is_hub(path: Path) -> bool:
    """Whether a folder has the layout of a hub model with everything a pipeline needs but perhaps a PLDA."""
    return path.is_dir() and (path / "config.toml").is_file() and (path / "embedding").is_dir()
