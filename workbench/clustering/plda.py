"""Probabilistic linear discriminant analysis: from embeddings to the space that VBx works in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh

from workbench.clustering.threads import single_blas_thread
from workbench.errors import InputError, expect_path
from workbench.files import load_arrays

_TRANSFORM = {"mean1": 1, "mean2": 1, "lda": 2}  # key -> number of dimensions
_EXPECTED = "a PLDA folder holds xvec_transform.npz and plda.npz, or transform.h5 and plda"
_MODEL = {"mu": 1, "tr": 2, "psi": 1}


@dataclass(frozen=True, eq=False)
class PLDA:
    """Centring, LDA and a two-covariance PLDA model, with DiariZen's names.

    Attributes
    ----------
    mean1 : float64 array, shape (dimension,)
    lda : float64 array, shape (dimension, num_lda)
    mean2, mu, psi : float64 arrays, shape (num_lda,)
        `psi` is the between-speaker variance in the space where the within-speaker one is 1.
    tr : float64 array, shape (num_lda, num_lda)
        Rows diagonalise both covariances.
    of_segments : PLDA, optional
        The same model for embeddings of length 1, as VBx's recipes take x-vectors; None where it is not
        another one. The numbers above are for lengths that are roots of the dimensions.
    """

    mean1: np.ndarray
    mean2: np.ndarray
    lda: np.ndarray
    mu: np.ndarray
    tr: np.ndarray
    psi: np.ndarray
    of_segments: PLDA | None = None

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> PLDA:
        """Read `xvec_transform.npz` and `plda.npz` of a hub, or `transform.h5` and `plda` of VBx."""
        folder = expect_path(folder, "a PLDA folder")
        if not folder.is_dir():
            raise InputError.at(folder, "no such folder; " + _EXPECTED)
        if any(folder.glob("*.h5")) and not (folder / "plda.npz").exists():
            from workbench.clustering.plda_files import load_vbx_folder  # which needs this class

            return load_vbx_folder(folder)
        transform = _model_arrays(folder / "xvec_transform.npz", _TRANSFORM)
        model = _model_arrays(folder / "plda.npz", _MODEL)
        dimension, num_lda = transform["lda"].shape
        shapes = {
            "mean1": (dimension,),
            "mean2": (num_lda,),
            "mu": (num_lda,),
            "tr": (num_lda, num_lda),
            "psi": (num_lda,),
        }
        for file, arrays in (("xvec_transform.npz", transform), ("plda.npz", model)):
            for key in arrays.keys() & shapes.keys():
                if arrays[key].shape != shapes[key]:
                    raise InputError.at(
                        folder / file,
                        f"{key} has shape {arrays[key].shape}, expected {shapes[key]} because lda in "
                        f"xvec_transform.npz is {dimension} x {num_lda}; take both files from one model",
                    )
        if np.linalg.matrix_rank(model["tr"]) < num_lda:
            raise InputError.at(folder / "plda.npz", "tr is singular: it must diagonalise both covariances")
        if (model["psi"] <= 0).any():
            raise InputError.at(folder / "plda.npz", "psi must be positive: it is a variance")
        both: dict[str, Any] = transform | model
        return cls(**both)

    @property
    def dimension(self) -> int:
        """Size of the embeddings that `transform` takes."""
        return self.lda.shape[0]

    @property
    def num_lda(self) -> int:
        """Largest possible `lda_dim`."""
        return self.lda.shape[1]

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Between-speaker variances, descending, and the directions (columns) they belong to."""
        with single_blas_thread():
            within = np.linalg.inv(self.tr.T @ self.tr)
            between = np.linalg.inv((self.tr.T / self.psi) @ self.tr)
            variances, directions = eigh(between, within)
        # as they lie in memory after a trip to another process: products would round differently
        return np.ascontiguousarray(variances[::-1]), np.ascontiguousarray(directions[:, ::-1])

    @property
    def phi(self) -> np.ndarray:
        """Between-speaker variance of every dimension of `transform`, descending: (num_lda,)."""
        return self._eigen[0]

    def project(self, embeddings: np.ndarray, *, scaled: bool = True) -> np.ndarray:
        """LDA with the two length normalisations: (..., dimension) -> float64 (..., num_lda).

        `scaled`: to the root of the dimension, as DiariZen and pyannote do; else to 1, as VBx's recipes.
        """
        if embeddings.shape[-1] != self.dimension:
            raise InputError(
                f"the PLDA is for embeddings of {self.dimension} values, got {embeddings.shape[-1]}; "
                "use the plda folder that belongs to the embedding model"
            )
        with single_blas_thread():
            centred = _normalise(embeddings - self.mean1)
            if not scaled:
                return _normalise(centred @ self.lda - self.mean2)
            return np.sqrt(self.num_lda) * _normalise(
                np.sqrt(self.dimension) * centred @ self.lda - self.mean2
            )

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Features of VBx: within-speaker covariance 1, between-speaker covariance diag(`phi`).

        Parameters
        ----------
        embeddings : float array, shape (num_embeddings, dimension), not normalised

        Returns
        -------
        features : float64 array, shape (num_embeddings, num_lda)
            Columns are defined up to their sign. The first `lda_dim` columns are what VBx with
            that `lda_dim` uses.
        """
        return self.diagonalise(self.project(embeddings))

    def diagonalise(self, projected: np.ndarray) -> np.ndarray:
        """Points in LDA space, (..., num_lda), in the coordinates in which both covariances are diagonal."""
        with single_blas_thread():
            return (projected - self.mu) @ self._eigen[1]


def _normalise(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _model_arrays(path: Path, keys: dict[str, int]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError.at(path, "no such file; " + _EXPECTED)
    found = load_arrays(path)
    for key, ndim in keys.items():
        if key not in found:
            raise InputError.at(path, f"misses {key}; expected {', '.join(keys)}, found {', '.join(found)}")
        array = found[key]
        if array.ndim != ndim or array.dtype.kind not in "fi" or array.size == 0:
            is_now = f"{array.dtype} of shape {array.shape}"
            raise InputError.at(path, f"{key} must hold numbers in {ndim} dimension(s), found {is_now}")
        if not np.isfinite(array).all():
            raise InputError.at(path, f"{key} holds NaN or infinite values")
    return {key: found[key].astype(np.float64) for key in keys}
