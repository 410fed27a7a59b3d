"""Speaker embedding networks from pyannote's prefix form and from WeSpeaker model directories."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from workbench.checkpoints.weights import (
    StateDict,
    as_state_dict,
    load_strictly,
    read_checkpoint,
    read_state_dict,
)
from workbench.errors import InputError, nearest
from workbench.fbank import KaldiFbankDims
from workbench.models.resnet import ResNetDims
from workbench.models.speaker_encoder import SpeakerEncoder

PREFIX = "resnet."
_WESPEAKER_EPSILON = 1e-7  # in WeSpeaker's statistics pooling; pyannote's has none
_RESNETS = {  # blocks per stage, and whether they are bottlenecks
    "ResNet18": ((2, 2, 2, 2), False),
    "ResNet34": ((3, 4, 6, 3), False),
    "ResNet50": ((3, 4, 6, 3), True),
    "ResNet101": ((3, 4, 23, 3), True),
    "ResNet152": ((3, 8, 36, 3), True),
    "ResNet221": ((6, 16, 48, 3), True),
    "ResNet293": ((10, 20, 64, 3), True),
}


def is_prefix_form(state: StateDict) -> bool:
    """Whether these are the weights of pyannote's `WeSpeakerResNet34`."""
    return any(key.startswith(PREFIX) for key in state)


def load_prefix_form(path: Path) -> SpeakerEncoder:
    """pyannote's form: every key behind `resnet.`, settings of the front end among the hyper-parameters."""
    content = read_checkpoint(path)
    state = as_state_dict(content, path)
    if not is_prefix_form(state):
        raise InputError.at(
            path,
            f"is not a speaker embedding model in pyannote's form: no key starts with {PREFIX!r}, the first "
            f"is {next(iter(state))!r}. A DiariZen checkpoint is named by its experiment directory, such as "
            "torch:EXPERIMENT@epoch_0010; a WeSpeaker model by its directory with config.yaml and "
            "avg_model.pt",
        )
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    dims, front_end = dims_of_state(state, path), _front_end(parameters or {}, path)
    if dims.num_mels != front_end.num_mel_bins:
        raise InputError.at(
            path,
            f"hyper_parameters.num_mel_bins is {front_end.num_mel_bins}, but the weights are for "
            f"{dims.num_mels}",
        )
    network = SpeakerEncoder(dims, front_end)
    load_strictly(network, state, path, "its own tensor shapes")
    return network.eval()


def load_wespeaker(folder: Path) -> SpeakerEncoder:
    """WeSpeaker's form: `config.yaml` and `avg_model.pt`, whose training head is left out."""
    config_path, weights = folder / "config.yaml", folder / "avg_model.pt"
    config = _read_yaml(config_path)
    name = config.get("model")
    if not isinstance(name, str) or name not in _RESNETS:
        raise InputError.at(config_path, f"unknown model {name!r}; known are {', '.join(_RESNETS)}")
    arguments, dataset = (_section(config, name, config_path) for name in ("model_args", "dataset_args"))
    pooling = arguments.get("pooling_func", "TSTP")
    if pooling != "TSTP":
        raise InputError.at(config_path, f"model_args.pooling_func must be TSTP, found {pooling!r}")
    frontend = dataset.get("frontend", "fbank")
    if frontend != "fbank":
        raise InputError.at(config_path, f"dataset_args.frontend must be fbank, found {frontend!r}")
    state = {
        PREFIX + key: value
        for key, value in read_state_dict(weights).items()
        if not key.startswith("projection.")  # the classifier of training
    }
    dims = dims_of_state(state, weights, _WESPEAKER_EPSILON)
    for key, found in (
        ("embed_dim", dims.embedding),
        ("feat_dim", dims.num_mels),
        ("two_emb_layer", dims.two_emb_layer),
    ):
        if key in arguments and arguments[key] != found:
            raise InputError.at(
                config_path,
                f"model_args.{key} is {arguments[key]!r}, but the weights in {weights.name} have {found!r}",
            )
    num_blocks, bottleneck = _RESNETS[name]
    dims = replace(dims, num_blocks=num_blocks, bottleneck=bottleneck)
    network = SpeakerEncoder(dims, KaldiFbankDims(num_mel_bins=dims.num_mels))
    load_strictly(network, state, weights, config_path)
    return network.eval()


def dims_of_state(state: StateDict, path: Path, epsilon: float = 0.0) -> ResNetDims:
    """Sizes of a ResNet, read off its weights (keys with the prefix)."""
    blocks = [0, 0, 0, 0]
    for key in state:
        if found := re.match(r"resnet\.layer([1-4])\.(\d+)\.", key):
            stage = int(found[1]) - 1
            blocks[stage] = max(blocks[stage], int(found[2]) + 1)
    first, last = state.get(f"{PREFIX}conv1.weight"), state.get(f"{PREFIX}seg_1.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 2 or 0 in blocks:
        needed = [
            f"{PREFIX}conv1.weight",
            *(f"{PREFIX}layer{stage}.0.conv1.weight" for stage in range(1, 5)),
            f"{PREFIX}seg_1.weight",
        ]
        missing = [key for key in needed if key not in state]
        raise InputError.at(
            path,
            f"is not a ResNet speaker model: missing {', '.join(missing) or 'tensors of the expected rank'}",
        )
    channels = first.shape[0]
    bottleneck = f"{PREFIX}layer1.0.conv3.weight" in state
    statistics = 2 * 8 * channels * (4 if bottleneck else 1)  # per mel bin that is left after the stages
    num_left = last.shape[1] // statistics
    return ResNetDims(
        num_blocks=(blocks[0], blocks[1], blocks[2], blocks[3]),
        num_channels=channels,
        num_mels=8 * num_left,
        embedding=last.shape[0],
        bottleneck=bottleneck,
        two_emb_layer=f"{PREFIX}seg_2.weight" in state,
        pooling_epsilon=epsilon,
    )


_FRONT_END = {"sample_rate", "num_mel_bins", "frame_length", "frame_shift"}
_NO_EFFECT = {  # of pyannote's hyper-parameters: the defaults that are the only values supported here
    "num_channels": 1,
    "dither": 0.0,
    "window_type": "hamming",
    "use_energy": False,
}


def _front_end(parameters: dict[str, Any], path: Path) -> KaldiFbankDims:
    """Settings of the filterbank from pyannote's hyper-parameters; WeSpeaker's where there are none."""
    given = {}
    for key, value in parameters.items():
        if key in _FRONT_END:
            given[key] = value
        elif key in _NO_EFFECT and value != _NO_EFFECT[key]:
            raise InputError.at(path, f"hyper_parameters.{key} must be {_NO_EFFECT[key]!r}, found {value!r}")
        elif key not in _NO_EFFECT:
            raise InputError.at(
                path, f"unknown hyper_parameters.{key}{nearest(key, _FRONT_END | _NO_EFFECT.keys())}"
            )
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise InputError.at(path, f"hyper_parameters.{key} must be a number above 0, found {value!r}")
    return KaldiFbankDims(**given)


def _section(config: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """A table of the YAML file, empty where it is absent."""
    section = config.get(name) or {}
    if not isinstance(section, dict):
        raise InputError.at(path, f"{name} must hold keys and values, found {section!r}")
    return section


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError.at(path, "must hold keys such as model and model_args")
    return content
