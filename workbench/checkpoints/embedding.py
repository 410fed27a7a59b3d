"""Speaker embedding networks from pyannote's prefix form and from WeSpeaker model directories."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from workbench.checkpoints.ecapa import (
    ECAPA_NAMES,
    check_arguments,
    ecapa_dims,
    is_ecapa,
    load_ecapa,
    named_arguments,
)
from workbench.checkpoints.weights import StateDict, build_fitting, load_strictly, read_state_dict
from workbench.errors import InputError, nearest
from workbench.fbank import KaldiFbankDims, check_fbank
from workbench.models.resnet import ResNetDims
from workbench.models.speaker_encoder import ResNetEncoder, SpeakerEncoder

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


def is_bare_resnet(state: StateDict) -> bool:
    """Whether these are the weights of a WeSpeaker ResNet, keys without a prefix."""
    return "layer1.0.conv1.weight" in state


def load_prefix_form(content: Any, state: StateDict, path: Path) -> SpeakerEncoder:
    """pyannote's form: every key behind `resnet.`, settings of the front end among the hyper-parameters."""
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    dims = dims_of_state(state, path)
    front_end = _front_end(parameters if isinstance(parameters, dict) else {}, path)
    if dims.num_mels != front_end.num_mel_bins:
        raise InputError.at(
            path,
            f"hyper_parameters.num_mel_bins is {front_end.num_mel_bins}, but the weights are for "
            f"{dims.num_mels}",
        )
    network = build_fitting(lambda: ResNetEncoder(dims, front_end), state, path, "its own tensor shapes")
    load_strictly(network, state, path, "its own tensor shapes")
    return network.eval()


def load_wespeaker_weights(state: StateDict, path: Path) -> SpeakerEncoder:
    """A WeSpeaker weight file without its `config.yaml`: everything follows from the shapes."""
    state = _without_head(state)
    if is_ecapa(state):
        return load_ecapa(state, path, "its own tensor shapes")
    return _load_resnet(state, path, dims_of_state(_prefixed(state), path, _WESPEAKER_EPSILON), path)


def load_wespeaker(folder: Path, weights: Path) -> SpeakerEncoder:
    """WeSpeaker's form: `config.yaml` and weights, whose training head is left out."""
    config_path = folder / "config.yaml"
    config = _read_yaml(config_path)
    name = config.get("model")
    if not isinstance(name, str) or name not in _RESNETS.keys() | ECAPA_NAMES:
        known = (*_RESNETS, *sorted(ECAPA_NAMES))
        raise InputError.at(
            config_path, f"unknown model {name!r}{nearest(str(name), known)}; known are {', '.join(known)}"
        )
    arguments, dataset = (_section(config, name, config_path) for name in ("model_args", "dataset_args"))
    pooling, needed = arguments.get("pooling_func"), "ASTP" if name in ECAPA_NAMES else "TSTP"
    if pooling not in (None, needed):
        raise InputError.at(config_path, f"model_args.pooling_func must be {needed}, found {pooling!r}")
    frontend = dataset.get("frontend", "fbank")
    if frontend != "fbank":
        raise InputError.at(config_path, f"dataset_args.frontend must be fbank, found {frontend!r}")
    state = _without_head(read_state_dict(weights))
    if name in ECAPA_NAMES:
        dims = ecapa_dims(state, weights)
        check_arguments(arguments | named_arguments(name), dims, weights, config_path)
        return load_ecapa(state, weights, config_path)
    found = dims_of_state(_prefixed(state), weights, _WESPEAKER_EPSILON)
    check_arguments(arguments, found, weights, config_path)
    num_blocks, bottleneck = _RESNETS[name]
    return _load_resnet(
        state, weights, replace(found, num_blocks=num_blocks, bottleneck=bottleneck), config_path
    )


def _load_resnet(state: StateDict, weights: Path, dims: ResNetDims, config: Path) -> SpeakerEncoder:
    front_end, prefixed = KaldiFbankDims(num_mel_bins=dims.num_mels), _prefixed(state)
    network = build_fitting(lambda: ResNetEncoder(dims, front_end), prefixed, weights, config)
    load_strictly(network, prefixed, weights, config)
    return network.eval()


def _prefixed(state: StateDict) -> StateDict:
    return {PREFIX + key: value for key, value in state.items()}


def _without_head(state: StateDict) -> StateDict:
    """`state` without the classifier of training."""
    return {key: value for key, value in state.items() if not key.startswith("projection.")}


def dims_of_state(state: StateDict, path: Path, epsilon: float = 0.0) -> ResNetDims:
    """Sizes of a ResNet, read off its weights (keys with the prefix)."""
    blocks = [0, 0, 0, 0]
    for key in state:
        if found := re.match(r"resnet\.layer([1-4])\.(\d+)\.", key):
            stage = int(found[1]) - 1
            blocks[stage] = max(blocks[stage], int(found[2]) + 1)
    first, last = state.get(f"{PREFIX}conv1.weight"), state.get(f"{PREFIX}seg_1.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 2 or 0 in (*blocks, len(first)):
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
    dims = KaldiFbankDims(**given)
    check_fbank(dims, path)
    return dims


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
    except RecursionError:  # the parser calls itself for every bracket
        raise InputError.at(path, "is not valid YAML: values are nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError.at(path, f"is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError.at(path, "must hold keys such as model and model_args")
    return content
