"""State dicts: read without running anything they contain, compared with a network, averaged."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from workbench.errors import InputError

StateDict = dict[str, Tensor]

_SHOWN = 3  # keys of each kind named in an error
_STATE_WRAPPERS = ("state_dict", "model")


class _Inert:
    """Stands in for a harmless class that a published checkpoint carries; keeps nothing."""

    def __new__(cls, *_args: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        return None


# What pyannote pickles beside the weights: the specifications of the training task.
_HARMLESS = (
    "pyannote.audio.core.task.Specifications",
    "pyannote.audio.core.task.Problem",
    "pyannote.audio.core.task.Resolution",
    "pyannote.audio.core.model.Introspection",
)


def read_checkpoint(path: Path) -> Any:
    """What a `torch.save` file holds; pickled code is refused, never run."""
    if not path.is_file():
        raise InputError.at(path, "no such file")
    try:
        with _harmless_classes(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about pickle protocols before it fails
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        _refuse(path, error)
    except (
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        # a truncated or damaged archive can fail in any of these ways
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError.at(
            path, f"is not a readable torch checkpoint ({reason[0]}); it may be truncated: copy it again"
        ) from error


def _harmless_classes() -> AbstractContextManager[None]:
    # one stand-in of its own per name, because torch keeps them by class
    stand_ins = [(type(name.rpartition(".")[2], (_Inert,), {}), name) for name in _HARMLESS]
    return torch.serialization.safe_globals(stand_ins)  # type: ignore[arg-type]


def _refuse(path: Path, error: pickle.UnpicklingError) -> NoReturn:
    """Say what the file wants to import, without torch's advice to let it."""
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted:
        problem = (
            f"holds the Python object {wanted[1]}, which only running code from the file could rebuild, so "
            "it is refused; save the weights alone: torch.save(model.state_dict(), ...)"
        )
    else:
        problem = "is not a torch checkpoint, or is damaged; expected weights saved by torch.save"
    raise InputError.at(path, problem) from error


def read_state_dict(path: Path) -> StateDict:
    """Tensors by name, bare or under `state_dict` or `model`."""
    return as_state_dict(read_checkpoint(path), path)


def as_state_dict(content: Any, path: Path) -> StateDict:
    """The state dict inside what `read_checkpoint` gave."""
    if isinstance(content, dict):
        for wrapper in _STATE_WRAPPERS:
            if isinstance(content.get(wrapper), dict):
                content = content[wrapper]
                break
    if not isinstance(content, dict):
        raise InputError.at(
            path, f"is not a state dict: expected tensors by name, found {_describe(content)}"
        )
    if not content:
        raise InputError.at(path, "is not a state dict: it is an empty dict")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError.at(
                path, f"is not a state dict: expected tensors by name, found {_describe(value)} under {key!r}"
            )
    return dict(content)


def _describe(value: Any) -> str:
    """A short name of what was found: `a list`, `an OrderedDict`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def load_strictly(network: nn.Module, state: StateDict, path: Path, config: object) -> None:
    """Copy a state dict into a network; every key must be there, nothing else, all of equal shape.

    `config` says in errors what the network was built from.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    differences = [
        f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{', …' if len(keys) > _SHOWN else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if keys
    ]
    if differences:
        raise InputError.at(
            path, f"the weights do not fit the network that {config} describes; keys {'; '.join(differences)}"
        )
    network.load_state_dict(state)


def average(states: Sequence[StateDict]) -> StateDict:
    """Arithmetic mean, summed in the order given and then divided, as DiariZen does.

    Everything is averaged, the running statistics of batch norms included; their integer counters
    come out truncated.
    """
    mean: StateDict = {}
    for key, first in states[0].items():
        total = first.clone()
        for state in states[1:]:
            total += state[key]
        mean[key] = (total / len(states)).to(first.dtype)
    return mean
