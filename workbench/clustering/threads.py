"""One BLAS thread, so that a sum has the same last bits on every machine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
import scipy.linalg  # noqa: F401  loads the BLAS library that the controller below has to find
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@cache
def _controller() -> ThreadpoolController:
    # looking for libraries costs milliseconds; numpy's and scipy's are loaded by the imports above
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return ThreadpoolController()


def single_blas_thread() -> AbstractContextManager[object]:
    """While open, matrix products use one thread.

    VBx repeats matrix products up to a stopping rule, so results that depend on how many
    threads share a sum could end with another number of iterations.
    """
    return _controller().limit(limits=1, user_api="blas")
