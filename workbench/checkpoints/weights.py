"""State dicts: read without running anything they contain, compared with a network, averaged."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from workbench.checkpoints.pickles import HARMLESS, find_imports, harmless_classes
from workbench.errors import InputError

StateDict = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

_SHOWN = 3  # keys of each kind named in an error
_STATE_WRAPPERS = ("state_dict", "model")
_OWN = ("torch.", "collections.", "torch_")  # what every file of torch.save refers to

WEIGHTS = "pytorch_model.bin"
WEIGHT_FILES = (WEIGHTS, "model.safetensors", "pytorch_model.safetensors")
"""Names under which training scripts and hubs keep weights, the first there is counts."""


def read_checkpoint(path: Path) -> Any:
    """What a `torch.save` or safetensors file holds; pickled code is refused, never run."""
    if not path.is_file():
        raise InputError.at(path, "no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with harmless_classes(), warnings.catch_warnings():
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


def _read_safetensors(path: Path) -> StateDict:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError.at(
            path, f"is not a readable safetensors file ({error}); it may be truncated: copy it again"
        ) from error


def _refuse(path: Path, error: pickle.UnpicklingError) -> NoReturn:
    """Say what the file wants to import, without torch's advice to let it."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    # forms that torch does not read at all are looked through for what they would have imported
    names = (
        [wanted[1]]
        if wanted
        else [n for n in find_imports(path) if n not in HARMLESS and not n.startswith(_OWN)]
    )
    if names:
        problem = (
            f"holds the Python object {names[0]}, which only running code from the file could rebuild, so "
            "it is refused; save the weights alone, torch.save(model.state_dict(), ...) or as safetensors, "
            "where the file comes from"
        )
    else:
        problem = "is not a torch checkpoint, or is damaged; expected weights saved by torch.save"
    raise InputError.at(path, problem) from error


def find_weights(folder: Path, names: Sequence[str] = WEIGHT_FILES) -> Path | None:
    """The weight file of a folder, None where there is none."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


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


def build_fitting(make: Callable[[], Network], state: StateDict, path: Path, config: object) -> Network:
    """The network that `make` builds, whose keys and shapes are those of `state`.

    It is built without memory first, so that absurd sizes in a config or a tensor end in an error,
    not in all memory taken. `config` says in errors what the network was built from.
    """
    try:
        with torch.device("meta"):
            skeleton = make()
        check_fit(skeleton, state, path, config)
        return make()
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError.at(
            path, f"the network that {config} describes cannot be built: {reason[0]}"
        ) from error


def load_strictly(network: nn.Module, state: StateDict, path: Path, config: object) -> None:
    """Copy a state dict into a network; every key must be there, nothing else, all of equal shape.

    `config` says in errors what the network was built from.
    """
    check_fit(network, state, path, config)
    odd = next((key for key, value in state.items() if not _is_plain(value)), None)
    if odd is not None:
        raise InputError.at(
            path,
            f"{odd} is stored as {_storage(state[odd])}; expected plain real numbers, as "
            "model.state_dict() of a model that runs gives them",
        )
    network.load_state_dict(state)


def _is_plain(tensor: Tensor) -> bool:
    """Whether these are numbers in memory that can be copied as they are."""
    stored = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    return stored and not tensor.is_complex()


def _storage(tensor: Tensor) -> str:
    where = "" if tensor.device.type == "cpu" else f" on the device {tensor.device}"
    return f"{tensor.layout} {tensor.dtype}{where}".replace("torch.", "")


def check_fit(network: nn.Module, state: StateDict, path: Path, config: object) -> None:
    """An error that names the first keys that are missing, unexpected or of another shape."""
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
