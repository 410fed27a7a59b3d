"""ECAPA-TDNN as WeSpeaker stores it: sizes from the tensors, checked against the config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.checkpoints.weights import StateDict, build_fitting, load_strictly
from workbench.errors import InputError
from workbench.fbank import KaldiFbankDims
from workbench.models.ecapa_tdnn import ECAPADims
from workbench.models.resnet import ResNetDims
from workbench.models.speaker_encoder import ECAPAEncoder

ECAPA_NAMES = frozenset(
    {
        "ECAPA_TDNN",
        "ECAPA_TDNN_c512",
        "ECAPA_TDNN_c1024",
        "ECAPA_TDNN_GLOB_c512",
        "ECAPA_TDNN_GLOB_c1024",
    }
)
PREFIX = "ecapa."  # where the network sits in `ECAPAEncoder`
_FIELD_OF = {  # WeSpeaker's argument -> field of the dims, where the names differ
    "feat_dim": "num_mels",
    "embed_dim": "embedding",
    "m_channels": "num_channels",
}


def is_ecapa(state: StateDict) -> bool:
    """Whether these are the weights of a WeSpeaker ECAPA-TDNN."""
    return "layer2.se_res2block.0.conv.weight" in state


def ecapa_dims(state: StateDict, path: Path) -> ECAPADims:
    """Sizes of an ECAPA-TDNN, read off its weights."""
    needed = {"layer1.conv.weight": 3, "pool.linear1.weight": 3, "pool.linear2.weight": 3, "linear.weight": 2}
    wrong = [key for key, rank in needed.items() if key not in state or state[key].ndim != rank]
    if wrong:
        raise InputError.at(path, f"is not an ECAPA-TDNN: missing or of another rank are {', '.join(wrong)}")
    first, attention = state["layer1.conv.weight"], state["pool.linear1.weight"]
    return ECAPADims(
        channels=first.shape[0],
        num_mels=first.shape[1],
        embedding=state["linear.weight"].shape[0],
        global_context_att=attention.shape[1] == 3 * state["pool.linear2.weight"].shape[0],
        emb_bn="bn2.weight" in state,
    )


def load_ecapa(state: StateDict, weights: Path, config: object) -> ECAPAEncoder:
    """The network; `config` says in errors what it was built from."""
    dims = ecapa_dims(state, weights)
    if dims.channels % 8:
        raise InputError.at(weights, f"has {dims.channels} channels; an ECAPA-TDNN has a multiple of 8")
    prefixed = {PREFIX + key: value for key, value in state.items()}
    network = build_fitting(
        lambda: ECAPAEncoder(dims, KaldiFbankDims(num_mel_bins=dims.num_mels)), prefixed, weights, config
    )
    load_strictly(network, prefixed, weights, config)
    return network.eval()


def named_arguments(name: str) -> dict[str, Any]:
    """What a model's name says about its sizes.

    Examples
    --------
    >>> named_arguments("ECAPA_TDNN_GLOB_c1024")
    {'channels': 1024, 'global_context_att': True}
    """
    found = re.fullmatch(r"ECAPA_TDNN(_GLOB)?_c(\d+)", name)
    return {} if found is None else {"channels": int(found[2]), "global_context_att": found[1] is not None}


def check_arguments(
    arguments: Mapping[str, Any], dims: ECAPADims | ResNetDims, weights: Path, config: Path
) -> None:
    """An error where `model_args` and the tensors disagree."""
    for key, value in arguments.items():
        found = getattr(dims, _FIELD_OF.get(key, key), value)
        if value != found:
            raise InputError.at(
                config, f"model_args.{key} is {value!r}, but the weights in {weights.name} have {found!r}"
            )
