"""From what training or a download left on disk to a network with its weights.

Read are DiariZen experiment directories and hub-layout folders, speaker embedding models in
pyannote's form (a file, or a folder with one), and WeSpeaker model directories.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from workbench.checkpoints.embedding import is_prefix_form, load_prefix_form, load_wespeaker
from workbench.checkpoints.experiment import WEIGHTS, ExperimentDir
from workbench.checkpoints.segmentation import read_config
from workbench.checkpoints.weights import average, load_strictly, read_state_dict
from workbench.errors import InputError, wrong_kind
from workbench.files import file_digest
from workbench.models.speaker_encoder import SpeakerEncoder
from workbench.types import Geometry, Kind

__all__ = ["ExperimentDir", "LoadedModel", "is_prefix_form", "load_model"]

DEFAULT_CHECKPOINT = "best"


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


def load_model(path: Path, checkpoint: str | None = None, kind: Kind | None = None) -> LoadedModel:
    """The network that stands at `path`.

    Parameters
    ----------
    path : experiment directory, hub-layout folder, pyannote or WeSpeaker model directory or file
    checkpoint : str, optional
        `best` (default), `epoch_0010` or `avg:N`, of an experiment directory only.
    kind : {"segmentation", "embedding"}, optional
        Which model is needed: chooses between the two of a hub-layout folder, where the
        segmentation model is the default; a model of the other kind is an `InputError`.
    """
    if not path.exists():
        raise InputError.at(path, "no such file or folder")
    if is_experiment(path):
        _refuse_other_kind(path, "segmentation", kind)
        return _load_experiment(ExperimentDir(path), checkpoint or DEFAULT_CHECKPOINT)
    if checkpoint is not None:
        raise InputError.at(
            path,
            f"has one set of weights, so @{checkpoint} means nothing here; only experiment directories have "
            "checkpoints",
        )
    if is_hub(path):
        if kind == "embedding":
            return _load_embedding(_embedding_of_hub(path))
        return _load_segmentation(path / "config.toml", [path / WEIGHTS])
    model = _load_embedding(path)
    _refuse_other_kind(path, "embedding", kind)
    return model


def is_experiment(path: Path) -> bool:
    """Whether this looks like a DiariZen experiment directory."""
    return path.is_dir() and ((path / "checkpoints").is_dir() or any(path.glob("config__*.toml")))


def is_hub(path: Path) -> bool:
    """Whether this looks like a hub-layout folder."""
    return (path / "config.toml").is_file()


def _load_experiment(experiment: ExperimentDir, checkpoint: str) -> LoadedModel:
    return _load_segmentation(experiment.config, experiment.weights(checkpoint))


def _load_segmentation(config_path: Path, files: list[Path]) -> LoadedModel:
    """A segmentation network; every file is loaded strictly before any are averaged."""
    config = read_config(config_path)
    network = config.build()
    states = []
    for file in files:
        load_strictly(network, config.complete(read_state_dict(file), network), file, config_path)
        states.append({key: value.clone() for key, value in network.state_dict().items()})
    network.load_state_dict(average(states))
    return LoadedModel(
        kind="segmentation",
        network=network.eval(),
        geometry=config.geometry(network),
        files=tuple(files),
        config=config_path,
    )


def _load_embedding(path: Path) -> LoadedModel:
    """A speaker embedding network from a file or a folder."""
    if path.is_dir() and (path / "config.yaml").is_file() and not (path / WEIGHTS).is_file():
        return _embedding_model(load_wespeaker(path), path / "avg_model.pt", path / "config.yaml")
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise InputError.at(
            path,
            "is no model this program knows: expected a DiariZen experiment directory (config__*.toml and "
            f"checkpoints/), a hub-layout folder (config.toml and {WEIGHTS}), a pyannote embedding model "
            f"({WEIGHTS}) or a WeSpeaker one (config.yaml and avg_model.pt)",
        )
    return _embedding_model(load_prefix_form(file), file, None)


def _embedding_model(network: SpeakerEncoder, file: Path, config: Path | None) -> LoadedModel:
    return LoadedModel(kind="embedding", network=network, geometry=None, files=(file,), config=config)


def _embedding_of_hub(hub: Path) -> Path:
    """The embedding model inside a hub-layout folder; published ones have none."""
    folder = hub / "embedding"
    if not folder.is_dir():
        raise InputError.at(
            folder,
            "no such folder, so this hub-layout folder holds no speaker embedding model. Published DiariZen "
            "models never do: they use pyannote/wespeaker-voxceleb-resnet34-LM; download its "
            f"pytorch_model.bin and give it as --embedding torch:FILE, or put it at {folder / WEIGHTS}",
        )
    return folder


def _refuse_other_kind(path: Path, found: Kind, needed: Kind | None) -> None:
    """An error if a model of the other kind is needed."""
    if needed is not None and needed != found:
        raise InputError.at(path, wrong_kind(found, needed))
