"""What a pickle wants to import, found without running it, and stand-ins for the harmless few.

Published checkpoints carry objects beside their weights. Those named here are replaced by objects
that keep what the file says about them and do nothing; every other class is refused by name.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import torch

_MOST_BYTES = 64 << 20  # of a pickle that are looked through for names; weights lie outside of it
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")


class StandIn:
    """An object of a harmless class, reduced to the plain data in the file."""

    args: tuple[Any, ...]  # what it was made from: the value of an enumeration
    fields: dict[str, Any]  # its attributes

    def __new__(cls, *args: Any) -> StandIn:  # noqa: D102 - its class says it
        made = super().__new__(cls)
        made.args, made.fields = args, {}
        return made

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.fields = state


HARMLESS = (
    # pyannote.audio: what the training task was
    "pyannote.audio.core.task.Specifications",
    "pyannote.audio.core.task.Problem",
    "pyannote.audio.core.task.Resolution",
    "pyannote.audio.core.model.Introspection",
    # versions, as `torch.__version__` gives them
    "torch.torch_version.TorchVersion",
    # keys of the callbacks' states in older Lightning checkpoints
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


def harmless_classes() -> AbstractContextManager[None]:
    """While it lasts, `torch.load(weights_only=True)` puts stand-ins in the place of `HARMLESS`."""
    # one of its own per name, because torch keeps them by class
    stand_ins = [(type(name.rpartition(".")[2], (StandIn,), {}), name) for name in HARMLESS]
    return torch.serialization.safe_globals(stand_ins)  # type: ignore[arg-type]


def find_imports(path: Path) -> list[str]:
    """Dotted names of everything the pickles in a `torch.save` file refer to; nothing is run.

    Empty where the file cannot be read as pickle at all.
    """
    names: dict[str, None] = {}
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry.endswith(".pkl"):
                        with archive.open(entry) as file:
                            names |= dict.fromkeys(_imports(file.read(_MOST_BYTES)))
        else:
            with path.open("rb") as raw:
                names |= dict.fromkeys(_imports_of_all(raw))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        pass  # an encrypted, damaged or exotic archive names nothing
    return list(names)


def _imports_of_all(file: BinaryIO) -> Iterator[str]:
    """Names in several pickles one after the other, the form torch used before zip archives."""
    content = file.read(_MOST_BYTES)
    while content:
        found = list(_walk(content))
        yield from (name for name, _ in found if name)
        length = found[-1][1] if found else 0
        if not length:
            return
        content = content[length:]


def _imports(content: bytes) -> Iterator[str]:
    yield from (name for name, _ in _walk(content) if name)


def _walk(content: bytes) -> Iterator[tuple[str, int]]:
    """A name for every import, and an empty one with the pickle's length at its end."""
    strings: list[str] = []  # the last two are what STACK_GLOBAL takes
    try:
        for opcode, argument, position in pickletools.genops(content):
            if opcode.name in _STRINGS:
                strings = [*strings[-1:], str(argument)]
            elif opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", "."), 0
            elif opcode.name == "STACK_GLOBAL" and len(strings) == 2:
                yield ".".join(strings), 0
            elif opcode.name == "STOP":
                yield "", (position or 0) + 1
    except (ValueError, IndexError, UnicodeDecodeError):
        return  # not a pickle, or the end of what was read
