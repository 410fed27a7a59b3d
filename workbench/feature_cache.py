"""Features of a recording, computed once and found again by content.

The key is a digest of the audio, the models' weights and configuration, the parameters that the
models' work depends on, and our own code. Whatever of these changes, changes the key, so a cached
file is never wrong, only unused; what clustering varies is not part of it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.config import PipelineParams, read_config
from workbench.errors import InputError
from workbench.features import load_features, save_features
from workbench.files import atomic_write, json_bytes, safe_name
from workbench.hub import local_copy, local_hub
from workbench.manifest import code_digest, digest_of, digest_values, walk
from workbench.pipeline import Hook, Runtimes, extract_features, hub_specs
from workbench.runtimes.external_data import check_external_data
from workbench.runtimes.spec import RuntimeSpec, parse_spec
from workbench.types import Features

EXTRACTION = ("audio", "fbank", "powerset", "segmentation", "embedding", "runtimes", "models", "checkpoints")
"""Our modules whose code decides what features come out."""

PACKAGES = ("numpy", "scipy", "torch", "onnxruntime", "soundfile", "soxr")

_MODEL_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".toml", ".yaml", ".yml", ".lst"}
_BESIDE_THE_MODELS = {"onnx", "plda", "experiment"}  # of a hub folder: not what `torch:HUB` loads


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedFeatures:
    """Features and where they came from."""

    features: Features
    path: Path  # of the features file in the cache
    was_cached: bool  # whether no model had to run


def features_for(
    audio: str | os.PathLike[str],
    models: str | os.PathLike[str] | Mapping[str, str],
    params: PipelineParams | None = None,
    *,
    cache_dir: str | os.PathLike[str],
    uri: str | None = None,
    engine: str = "torch",
    runtimes: Runtimes | Callable[[], Runtimes] | None = None,
    hook: Hook | None = None,
) -> CachedFeatures:
    """Features of one recording, from the cache if nothing that they depend on has changed.

    No model is loaded, let alone run, where the cache has them.

    Parameters
    ----------
    audio : file
    models : a hub-layout folder, or runtime strings by name (``segmentation``, ``embedding``)
    params : by default the hub folder's own, else DiariZen's
        Clustering parameters do not matter here.
    cache_dir : folder of the cache, made if missing; any number of processes may share it
    uri : name of the recording, by default the file name without extension
    engine : {"torch", "onnx"}, what runs the models of a hub folder
    runtimes : the same models, loaded already or by a call, to be used where the cache has nothing
    hook : called as ``hook(stage, done, total)`` while the models run
    """
    audio = Path(audio)
    name = safe_name(uri or audio.stem)
    if isinstance(models, Mapping):
        specs = {kind: models[kind] for kind in ("segmentation", "embedding") if kind in models}
        if len(specs) < 2:
            raise InputError(f"models must name segmentation and embedding, got {sorted(models)}")
    else:
        specs = hub_specs(models, engine)
        specs.pop("plda", None)  # clustering's, not the models'
        params = params or read_config(local_hub(Path(models)) / "config.toml")
    params = params or PipelineParams()
    ingredients = features_ingredients(audio, specs, params)
    key = digest_values(ingredients)
    path = Path(cache_dir) / f"{key[:32]}.npz"
    if path.is_file():
        cached = load_features(path)
        if isinstance(cached, Features):
            return CachedFeatures(features=replace(cached, uri=name), path=path, was_cached=True)
    if runtimes is None:
        loaded = Runtimes.load(specs["segmentation"], specs["embedding"])
    else:
        loaded = runtimes() if callable(runtimes) else runtimes
    features = extract_features(audio, loaded, params, uri=name, hook=hook)
    save_features(path, features)
    with atomic_write(path.with_suffix(".json")) as temporary:  # for people: what this file was made from
        temporary.write_bytes(json_bytes({"uri": name, "audio": str(audio), **ingredients}))
    return CachedFeatures(features=features, path=path, was_cached=False)


def features_ingredients(audio: Path, specs: Mapping[str, str], params: PipelineParams) -> dict[str, Any]:
    """All that features depend on, as digests and plain values; their digest is the cache's key."""
    varied = {name: value for name, value in params.to_dict().items() if name != "clustering"}
    return {
        "audio": digest_of(audio),
        "models": {kind: model_ingredients(spec) for kind, spec in sorted(specs.items())},
        "params": varied,
        "code": code_digest(EXTRACTION, PACKAGES),
    }


def model_ingredients(runtime: str) -> dict[str, Any]:
    """Digests of the files that a runtime string loads, and its options."""
    spec = parse_spec(runtime)
    path = local_copy(spec.path)
    files = _model_files(spec, path)
    if not files:
        raise InputError(f"runtime {runtime!r}: {path} holds no file of a model")
    base = path if path.is_dir() else path.parent
    return {
        "engine": spec.engine,
        "checkpoint": spec.checkpoint,
        "options": dict(spec.options),
        "files": {os.path.relpath(file, base): _model_digest(file) for file in files},
    }


def _model_files(spec: RuntimeSpec, path: Path) -> list[Path]:
    if spec.engine == "onnx":
        return [path, *(file for file in check_external_data(path) if file.resolve() != path.resolve())]
    if not path.is_dir():
        beside = [file for file in walk([path.parent]) if file.parent == path.parent]
        return [path, *(file for file in beside if file.suffix in {".yaml", ".toml"})]
    if spec.engine == "recorded":
        return walk([path])
    skipped = _BESIDE_THE_MODELS if (path / "config.toml").is_file() else set()
    return [
        file
        for file in walk([path])
        if file.suffix in _MODEL_SUFFIXES and file.relative_to(path).parts[0] not in skipped
    ]


def _model_digest(file: Path) -> str:
    """Digest of a file's content; of a TOML file without its table for the clustering."""
    if file.suffix != ".toml":
        return digest_of(file)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return digest_of(file)  # whoever loads it says what is wrong
    content.pop("clustering", None)
    return digest_values(json.loads(json.dumps(content, default=str)))
