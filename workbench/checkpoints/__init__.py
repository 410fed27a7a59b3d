"""From what training or a download left on disk to a network with its weights.

Read are DiariZen experiment directories and hub-layout folders, segmentation and speaker embedding
models in pyannote's form (a file, or a folder with one), and WeSpeaker model directories; local ones,
or by their Hugging Face id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from workbench.checkpoints.ecapa import is_ecapa
from workbench.checkpoints.embedding import (
    is_bare_resnet,
    is_prefix_form,
    load_prefix_form,
    load_wespeaker,
    load_wespeaker_weights,
)
from workbench.checkpoints.experiment import ExperimentDir
from workbench.checkpoints.pyannote import is_pyannet, load_pyannet
from workbench.checkpoints.segmentation import make_geometry, read_config
from workbench.checkpoints.weights import (
    WEIGHT_FILES,
    WEIGHTS,
    as_state_dict,
    average,
    build_fitting,
    find_weights,
    load_strictly,
    read_checkpoint,
    read_state_dict,
)
from workbench.errors import InputError, wrong_kind
from workbench.files import file_digest
from workbench.hub import local_copy
from workbench.models.speaker_encoder import SpeakerEncoder
from workbench.types import Geometry, Kind

__all__ = ["ExperimentDir", "LoadedModel", "is_prefix_form", "load_model"]

DEFAULT_CHECKPOINT = "best"
_WESPEAKER_WEIGHTS = ("avg_model.pt", "avg_model.safetensors")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A network in evaluation mode, and where it came from."""

    kind: Kind
    network: nn.Module
    geometry: Geometry | None  # of segmentation models
    files: tuple[Path, ...]  # the weight files, several where they were averaged
    config: Path | None = None  # the TOML or YAML beside them

    @property
    def digest(self) -> str:
        """SHA-256 of the weight files in hexadecimal, joined by `+` where they were averaged."""
        return "+".join(file_digest(path) for path in self.files)


def load_model(
    path: Path, checkpoint: str | None = None, kind: Kind | None = None, config: str | None = None
) -> LoadedModel:
    """The network that stands at `path`.

    Parameters
    ----------
    path : experiment directory, hub-layout folder, pyannote or WeSpeaker model directory or file
        Or, where no such path exists, the id of a model on huggingface.co, such as
        `BUT-FIT/diarizen-wavlm-base-s80-md`, which is downloaded once.
    checkpoint : str, optional
        `best` (default), `epoch_0010` or `avg:N`, of an experiment directory only.
    kind : {"segmentation", "embedding"}, optional
        Which model is needed: chooses between the two of a hub-layout folder, where the
        segmentation model is the default; a model of the other kind is an `InputError`.
    config : str, optional
        Which training TOML of an experiment directory counts; the newest by default.
    """
    path = local_copy(path)
    if is_experiment(path):
        _refuse_other_kind(path, "segmentation", kind)
        experiment = ExperimentDir(path)
        return _load_segmentation(
            experiment.choose_config(config), experiment.weights(checkpoint or DEFAULT_CHECKPOINT)
        )
    for option, value in (("@", checkpoint), ("config=", config)):
        if value is not None:
            raise InputError.at(
                path,
                f"has one set of weights, so {option}{value} means nothing here; only experiment directories "
                "have checkpoints and several configs",
            )
    if is_hub(path):
        if kind == "embedding":
            return _load_single(_embedding_of_hub(path), "embedding")
        return _load_segmentation(path / "config.toml", [find_weights(path) or path / WEIGHTS])
    return _load_single(path, kind)


def is_experiment(path: Path) -> bool:
    """Whether this looks like a DiariZen experiment directory."""
    return path.is_dir() and ((path / "checkpoints").is_dir() or any(path.glob("config__*.toml")))


def is_hub(path: Path) -> bool:
    """Whether this looks like a hub-layout folder."""
    return (path / "config.toml").is_file()


def _load_segmentation(config_path: Path, files: list[Path]) -> LoadedModel:
    """A segmentation network; every file is loaded strictly before any are averaged."""
    config = read_config(config_path, files[0])
    network: nn.Module | None = None
    states = []
    for file in files:
        state = config.complete(read_state_dict(file), file)
        if network is None:
            network = build_fitting(config.build, state, file, config_path)
        load_strictly(network, state, file, config_path)
        states.append({key: value.clone() for key, value in network.state_dict().items()})
    if network is None:
        raise ValueError("a model has at least one weight file")
    network.load_state_dict(average(states))
    return LoadedModel(
        kind="segmentation",
        network=network.eval(),
        geometry=config.geometry(network),
        files=tuple(files),
        config=config_path,
    )


def _load_single(path: Path, kind: Kind | None) -> LoadedModel:
    """A pyannote or WeSpeaker model, from a file or a folder."""
    if path.is_dir():
        file, beside = find_weights(path), path
        if file is None and (path / "config.yaml").is_file():
            file = find_weights(path, _WESPEAKER_WEIGHTS) or path / _WESPEAKER_WEIGHTS[0]
    else:
        file, beside = path, path.parent
    if file is None:
        raise InputError.at(
            path,
            "is no model this program knows: expected a DiariZen experiment directory (config__*.toml and "
            f"checkpoints/), a hub-layout folder (config.toml and {' or '.join(WEIGHT_FILES)}), a pyannote "
            f"model ({WEIGHTS}) or a WeSpeaker one (config.yaml and avg_model.pt)",
        )
    config = beside / "config.yaml"
    if file.name in _WESPEAKER_WEIGHTS and config.is_file():
        _refuse_other_kind(path, "embedding", kind)
        return _embedding_model(load_wespeaker(beside, file), file, config)
    content = read_checkpoint(file)
    state = as_state_dict(content, file)
    if is_pyannet(state):
        _refuse_other_kind(path, "segmentation", kind)
        network = load_pyannet(content, state, file)
        geometry = make_geometry(network, network.dims, network.dims.chunk_size)
        return LoadedModel(kind="segmentation", network=network, geometry=geometry, files=(file,))
    if is_prefix_form(state):
        model = _embedding_model(load_prefix_form(content, state, file), file, None)
    elif is_bare_resnet(state) or is_ecapa(state):
        model = _embedding_model(load_wespeaker_weights(state, file), file, None)
    else:
        raise InputError.at(
            file,
            "is neither a segmentation model in pyannote's form (no key starts with 'sincnet.') nor a "
            "speaker embedding model (no key starts with 'resnet.', and none is WeSpeaker's); the first key "
            f"is {next(iter(state))!r}. A DiariZen checkpoint is named by its experiment directory, such as "
            "torch:EXPERIMENT@epoch_0010; a WeSpeaker model by its directory with config.yaml and "
            "avg_model.pt",
        )
    _refuse_other_kind(path, "embedding", kind)
    return model


def _embedding_model(network: SpeakerEncoder, file: Path, config: Path | None) -> LoadedModel:
    return LoadedModel(kind="embedding", network=network, geometry=None, files=(file,), config=config)


def _embedding_of_hub(hub: Path) -> Path:
    """The embedding model inside a hub-layout folder; published ones have none."""
    folder = hub / "embedding"
    if not folder.is_dir():
        raise InputError.at(
            folder,
            "no such folder, so this hub-layout folder holds no speaker embedding model. Published DiariZen "
            "models never do: they use pyannote/wespeaker-voxceleb-resnet34-LM; give --embedding "
            "torch:pyannote/wespeaker-voxceleb-resnet34-LM, which downloads it, or download its "
            f"pytorch_model.bin and give it as --embedding torch:FILE, or put it at {folder / WEIGHTS}",
        )
    return folder


def _refuse_other_kind(path: Path, found: Kind, needed: Kind | None) -> None:
    """An error if a model of the other kind is needed."""
    if needed is not None and needed != found:
        raise InputError.at(path, wrong_kind(found, needed))
