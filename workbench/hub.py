"""Models on huggingface.co: an id such as `BUT-FIT/diarizen-wavlm-base-s80-md` to a local folder."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.errors import InputError, nearest

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ("*.toml", "*.yaml", "*.bin", "*.pt", "*.safetensors", "*.npz", "*.onnx", "*.json")


def is_hub_id(path: Path) -> bool:
    """Whether a path that does not exist reads like the id of a model, `owner/name`.

    Examples
    --------
    >>> is_hub_id(Path("BUT-FIT/diarizen-wavlm-base-s80-md"))
    True
    >>> is_hub_id(Path("exp/run/checkpoints")), is_hub_id(Path("/models/demo"))
    (False, False)
    """
    # where the first part is a folder here, a path was meant and misspelt
    return _ID.fullmatch(path.as_posix()) is not None and not path.parent.is_dir()


def local_hub(path: Path) -> Path:
    """The local folder of a hub id; any other path as it is, whether it exists or not."""
    return local_copy(path) if not path.exists() and is_hub_id(path) else path


def local_copy(path: Path) -> Path:
    """`path` if it exists, else the downloaded copy of the model with that id.

    Downloads land in Hugging Face's own cache, and what is there is used offline, too.
    """
    if path.exists():
        return path
    if not is_hub_id(path):
        folder = path.parent
        names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        raise InputError.at(path, f"no such file or folder{nearest(path.name, names)}")
    model = path.as_posix()
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(model, allow_patterns=list(_FILES)))
    except Exception as error:  # of httpx, the hub's client or the disk: all mean "not here"
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError.at(
            path,
            "no such file or folder here, and it could not be downloaded from huggingface.co "
            f"({type(error).__name__}: {reason[0]}). On a machine with network access run\n"
            f"  hf download {model} --local-dir {path.name}\n"
            f"(models with terms to accept need `hf auth login` first), copy the folder {path.name} here, "
            f"and give its path instead of {model}",
        ) from error
