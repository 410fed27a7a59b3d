"""PLDA models in the forms they are published in: hub folders, VBx's h5 with a Kaldi file, Kaldi alone."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.clustering.plda import PLDA
from workbench.errors import InputError
from workbench.files import atomic_write
from workbench.kaldi_ark import KaldiReader

_KALDI_NAMES = ("plda", "plda.txt", "plda.ark")
_H5_KEYS = ("mean1", "mean2", "lda")


def save_plda(folder: str | os.PathLike[str], plda: PLDA) -> None:
    """Write `xvec_transform.npz` and `plda.npz`, as a hub's `plda` folder has them."""
    folder = Path(folder)
    with atomic_write(folder / "xvec_transform.npz") as temporary:
        np.savez(temporary, mean1=plda.mean1, mean2=plda.mean2, lda=plda.lda)
    with atomic_write(folder / "plda.npz") as temporary:
        np.savez(temporary, mu=plda.mu, tr=plda.tr, psi=plda.psi)


def load_vbx_folder(folder: Path) -> PLDA:
    """A PLDA from a folder as VBx's repository has them: one h5 file beside Kaldi's."""
    transforms = sorted(folder.glob("*.h5"))
    models = [folder / name for name in _KALDI_NAMES if (folder / name).is_file()]
    if len(transforms) != 1 or not models:
        raise InputError.at(
            folder,
            "holds no PLDA: expected xvec_transform.npz and plda.npz, or one .h5 with mean1, mean2 and lda "
            f"beside Kaldi's {' or '.join(_KALDI_NAMES)}",
        )
    return load_vbx_plda(transforms[0], models[0])


def load_vbx_plda(transform: str | os.PathLike[str], model: str | os.PathLike[str]) -> PLDA:
    """VBx's pair: an h5 with `mean1`, `mean2` and `lda`, and a PLDA written by Kaldi, binary or text.

    VBx normalises to length 1 where the hub's form normalises to the root of the dimension; mean2, mu
    and tr are scaled so that `PLDA.transform` gives VBx's features. As they are they are `of_segments`.
    """
    transform = Path(transform)
    arrays: dict[str, Any] = _read_h5(transform)
    mu, tr, psi = read_kaldi_plda(model)
    dimension, num_lda = arrays["lda"].shape
    if arrays["mean1"].shape != (dimension,) or arrays["mean2"].shape != (num_lda,) or len(mu) != num_lda:
        raise InputError.at(
            transform,
            f"lda is {dimension} x {num_lda}, but mean1 has {arrays['mean1'].size} values, mean2 "
            f"{arrays['mean2'].size}, and {os.fspath(model)} {len(mu)}; take both files from one model",
        )
    unscaled = PLDA(**arrays, mu=mu, tr=tr, psi=psi)
    return replace(
        unscaled,
        mean2=np.sqrt(dimension) * unscaled.mean2,
        mu=np.sqrt(num_lda) * mu,
        tr=tr / np.sqrt(num_lda),
        of_segments=unscaled,
    )


def read_kaldi_plda(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, transform and between-speaker variances of Kaldi's PLDA file, binary or text.

    Returns
    -------
    mean : float64 array, shape (dimension,)
    transform : float64 array, shape (dimension, dimension)
        Rows that turn the covariance within speakers into 1 and the one between them into psi.
    psi : float64 array, shape (dimension,)
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    arrays = _binary_plda(path) if content.startswith(b"\0B") else _text_plda(path, content)
    mean, transform, psi = (array.astype(np.float64) for array in arrays)
    size = mean.size
    if mean.shape != (size,) or transform.shape != (size, size) or psi.shape != (size,) or not size:
        raise InputError.at(
            path,
            f"a PLDA has a mean (d,), a transform (d, d) and variances (d,); found {mean.shape}, "
            f"{transform.shape} and {psi.shape}",
        )
    if not all(np.isfinite(array).all() for array in (mean, transform, psi)) or (psi <= 0).any():
        raise InputError.at(path, "holds NaN, infinite or non-positive variances")
    if np.linalg.matrix_rank(transform) < size:
        raise InputError.at(path, "the transform is singular: it must diagonalise both covariances")
    return mean, transform, psi


def _binary_plda(path: Path) -> list[np.ndarray]:
    with open(path, "rb") as file:
        reader = KaldiReader(file, path)
        file.read(2)
        token = file.read(len(b"<Plda> "))
        if token != b"<Plda> ":
            raise InputError.at(path, f"is no PLDA of Kaldi: expected <Plda>, found {token!r}")
        return [reader.binary(name) for name in ("mean", "transform", "psi")]


def _text_plda(path: Path, content: bytes) -> list[np.ndarray]:
    match = re.fullmatch(rb"\s*<Plda>(.*)</Plda>\s*", content, flags=re.DOTALL)
    if match is None:
        raise InputError.at(path, f"is no PLDA of Kaldi: expected <Plda> ... </Plda>, found {content[:30]!r}")
    parts = re.findall(rb"\[([^\]]*)\]", match[1])
    if len(parts) != 3:
        raise InputError.at(path, f"a PLDA has three arrays in brackets, found {len(parts)}")
    try:
        mean, transform, psi = (
            [[float(field) for field in line.split()] for line in part.split(b"\n") if line.strip()]
            for part in parts
        )
        return [np.ravel(mean), np.array(transform, dtype=np.float64), np.ravel(psi)]
    except ValueError as error:
        raise InputError.at(
            path, f"holds something that is no number, or rows of unequal length: {error}"
        ) from None


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise InputError.at(path, "needs the package h5py to be read: pip install h5py") from None
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in _H5_KEYS if key not in file]
            if missing:
                raise InputError.at(
                    path, f"lacks {', '.join(missing)}; it has {', '.join(file) or 'nothing'}"
                )
            arrays = {key: np.asarray(file[key], dtype=np.float64) for key in _H5_KEYS}
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError.at(path, f"cannot be read as h5: {error}") from None
    if arrays["lda"].ndim != 2:
        raise InputError.at(path, f"lda must be a matrix, found shape {arrays['lda'].shape}")
    return {key: array if key == "lda" else array.reshape(-1) for key, array in arrays.items()}
