"""Two sets of weights, tensor by tensor: what differs, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.checkpoints import is_experiment, is_hub
from workbench.checkpoints.experiment import WEIGHTS, ExperimentDir
from workbench.checkpoints.weights import StateDict, average, read_state_dict
from workbench.errors import InputError

IDENTICAL = "identical"
ONLY_A, ONLY_B = "only in A", "only in B"
SHAPE, UNREADABLE = "shape differs", "cannot be compared"
CHANGED, DTYPE = "values differ", "dtype differs"

_ORDER = {ONLY_A: 0, ONLY_B: 1, SHAPE: 2, UNREADABLE: 3, CHANGED: 4, DTYPE: 5, IDENTICAL: 6}
_FOLDER_WEIGHTS = (WEIGHTS, "model.safetensors", "avg_model.pt", "avg_model.safetensors")
_COLUMNS = (
    "tensor",
    "status",
    "shape_a",
    "shape_b",
    "dtype_a",
    "dtype_b",
    "max_abs",
    "relative",
    "cosine",
    "fraction_changed",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightDifference:
    """What tells two sets of weights apart.

    Attributes
    ----------
    table : DataFrame
        One row per tensor of either side, the worst first: `tensor`, `status`, shapes and dtypes of
        both sides, and where shapes agree `max_abs` (largest absolute difference), `relative` (norm of
        the difference over the norm of A; infinite where A is zero), `cosine` (of the angle between
        them; NaN where either is zero), `fraction_changed` (of the entries). Missing tensors and other
        shapes come first, then what changed, by `relative`, then other dtypes of equal values.
    """

    table: pd.DataFrame

    @property
    def num_identical(self) -> int:
        """Tensors equal in every bit that counts: shape, dtype and values."""
        return int((self.table["status"] == IDENTICAL).sum())

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.num_identical == len(self.table)

    @property
    def max_abs(self) -> float:
        """Largest absolute difference; infinite where a tensor or a number is missing on one side."""
        return float(self.table["max_abs"].fillna(float("inf")).max()) if len(self.table) else 0.0

    def counts(self) -> dict[str, int]:
        """Number of tensors by status, those that occur."""
        found = self.table["status"].value_counts()
        return {status: int(found[status]) for status in _ORDER if status in found}


def diff_checkpoints(a: str | Path, b: str | Path) -> WeightDifference:
    """Compare two checkpoints, each named as `load_weights` takes it."""
    return diff_states(load_weights(a), load_weights(b))


def load_weights(name: str | Path) -> StateDict:
    """Tensors by name of anything that holds weights; no network is built, no code is run.

    Parameters
    ----------
    name : str
        A weight file; a folder with one (hub layout, pyannote, WeSpeaker); an experiment directory,
        with `@best` (default), `@epoch_0010` or `@avg:N` behind it, averaged as DiariZen does. A
        leading ``torch:`` is accepted.
    """
    path, checkpoint = _split(str(name))
    if not path.exists():
        raise InputError.at(path, "no such file or folder")
    if is_experiment(path):
        files = ExperimentDir(path).weights(checkpoint or "best")
        return _average(files)
    if checkpoint is not None:
        raise InputError.at(path, f"is no experiment directory, so @{checkpoint} means nothing here")
    if path.is_file():
        return read_state_dict(path)
    found = [path / file for file in _FOLDER_WEIGHTS if (path / file).is_file()]
    if not found:
        known = "hub-layout folder" if is_hub(path) else "folder"
        raise InputError.at(
            path, f"this {known} holds no weights: expected one of {', '.join(_FOLDER_WEIGHTS)}"
        )
    return read_state_dict(found[0])


def diff_states(a: StateDict, b: StateDict) -> WeightDifference:
    """Compare two state dicts tensor by tensor."""
    rows = [_compare(name, a.get(name), b.get(name)) for name in {**a, **b}]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    # NaN in a difference is the worst there can be
    damage = table["relative"].fillna(float("inf")).where(table["status"] == CHANGED, 0.0)
    order = pd.DataFrame({"kind": table["status"].map(_ORDER), "damage": -damage})
    return WeightDifference(
        table=table.loc[order.sort_values(["kind", "damage"], kind="stable").index].reset_index(drop=True)
    )


def _split(name: str) -> tuple[Path, str | None]:
    """Path and checkpoint; a path may itself contain `@`, so what exists under the whole name is one."""
    if Path(name).exists():
        return Path(name), None
    name = name.removeprefix("torch:")
    path, mark, checkpoint = name.rpartition("@")
    return (Path(path), checkpoint) if mark and not Path(name).exists() else (Path(name), None)


def _average(files: list[Path]) -> StateDict:
    states = [read_state_dict(file) for file in files]
    for file, state in zip(files[1:], states[1:], strict=True):
        for key in {**states[0], **state}:
            if key not in state or key not in states[0] or state[key].shape != states[0][key].shape:
                raise InputError.at(
                    file, f"cannot be averaged with {files[0]}: {key!r} is missing or has another shape"
                )
    return average(states)


def _compare(name: str, a: Tensor | None, b: Tensor | None) -> dict[str, Any]:
    row: dict[str, Any] = {"tensor": name}
    for side, tensor in (("a", a), ("b", b)):
        if tensor is not None:
            row |= {
                f"shape_{side}": tuple(tensor.shape),
                f"dtype_{side}": str(tensor.dtype).removeprefix("torch."),
            }
    if a is None or b is None:
        return row | {"status": ONLY_B if a is None else ONLY_A}
    if a.shape != b.shape:
        return row | {"status": SHAPE}
    if not (_is_plain(a) and _is_plain(b)):
        return row | {"status": UNREADABLE}
    figures = _figures(_as_numbers(a), _as_numbers(b))
    alike = IDENTICAL if a.dtype == b.dtype else DTYPE
    return row | {"status": CHANGED if figures["fraction_changed"] > 0 else alike} | figures


def _is_plain(tensor: Tensor) -> bool:
    """Dense, on the CPU, with all of its entries in the file: a few bytes can claim to be terabytes."""
    return (
        tensor.layout == torch.strided
        and not tensor.is_quantized
        and tensor.device.type == "cpu"
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _as_numbers(tensor: Tensor) -> Tensor:
    """A flat float64 copy; complex numbers become pairs."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.detach().flatten().to(torch.float64)


def _figures(a: Tensor, b: Tensor) -> dict[str, float]:
    """How far two flat tensors are apart; entries that are the same NaN or infinity are equal."""
    changed = (a != b) & ~(a.isnan() & b.isnan())
    difference = torch.where(changed, b - a, 0.0)
    norm_a, norm_b, norm = (float(torch.linalg.vector_norm(each)) for each in (a, b, difference))
    if not a.numel() or not changed.any():
        relative, cosine = 0.0, 1.0
    else:
        relative = norm / norm_a if norm_a else float("inf")
        cosine = float(torch.dot(a, b)) / (norm_a * norm_b) if norm_a and norm_b else float("nan")
    return {
        "max_abs": float(difference.abs().max()) if a.numel() else 0.0,
        "relative": relative,
        "cosine": cosine,
        "fraction_changed": float(changed.double().mean()) if a.numel() else 0.0,
    }
