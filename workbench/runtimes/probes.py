"""Small computations whose results betray the conditions they ran under, and how to read them.

Each is run by torch (`torch_conditions`) and by ONNX Runtime (`onnx_conditions`); this module is plain numpy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# With inputs rounded to TensorFloat-32 (10 bits after the point) the canary's product is off by 3e-4 of its
# largest value (8e-4 if they are cut off), with bfloat16 (7 bits) by 2e-3, as numpy shows on such inputs;
# with float32 (23 bits) by 3e-7 to 6e-7 on CPUs.
TF32_ERROR = 5e-5
BF16_ERROR = 1.2e-3
DENORMAL_BITS = 71362  # of float32 1e-40; the smallest normal number is 1.18e-38
SIZE = 512  # of the product's matrices: enough for a GPU to use its tensor cores


@dataclass(frozen=True, kw_only=True)
class Product:
    """A canary for the precision of float32 products."""

    left: np.ndarray  # (SIZE, SIZE) float32
    right: np.ndarray

    def error(self, product: np.ndarray) -> float:
        """Largest error of `left @ right`, relative to the largest value."""
        exact = self.left.astype(np.float64) @ self.right.astype(np.float64)
        return float(np.abs(product - exact).max() / np.abs(exact).max())


def make_product(seed: int = 0) -> Product:
    """Two matrices of random numbers.

    Examples
    --------
    >>> product = make_product()
    >>> product.error(product.left @ product.right) < 1e-5
    True
    """
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((2, SIZE, SIZE)).astype(np.float32)
    return Product(left=left, right=right)


def precision_of(error: float) -> str:
    """The number format that a product's error betrays.

    Examples
    --------
    >>> precision_of(3e-7), precision_of(3e-4), precision_of(4e-3)
    ('float32', 'TF32', 'bfloat16')

    Half precision rounds its inputs as TF32 does and is called so, too.
    """
    if not np.isfinite(error):
        return "not finite"
    return "float32" if error < TF32_ERROR else "TF32" if error < BF16_ERROR else "bfloat16"


def noise(num_samples: int, seed: int = 0, batch: int = 1) -> np.ndarray:
    """Noise that swells and fades like speech: float32 (batch, num_samples), at most 0.5.

    Every model does something on it; what its classes are is another matter.
    """
    rng = np.random.default_rng(seed)
    time_ = np.arange(num_samples) / 16000
    level = 0.05 + 0.15 * (np.sin(2 * np.pi * 0.7 * time_ + rng.uniform(0, 6, (batch, 1))) > 0)
    return np.clip(level * rng.standard_normal((batch, num_samples)), -0.5, 0.5).astype(np.float32)


def busy_threads(work: Callable[[], object], seconds: float = 0.25) -> int | None:
    """Threads of this process that computed while `work` was repeated; None where Linux' /proc is missing."""
    work()  # pools of other libraries have come to rest by its end
    before = _cpu_ticks()
    if before is None:
        return None
    end = time.process_time() + seconds  # CPU time, all threads together: waiting for a core does not count
    while time.process_time() < end:
        work()
    after = _cpu_ticks() or {}
    spent = {thread: ticks - before.get(thread, 0) for thread, ticks in after.items()}
    most = max(spent.values(), default=0)
    # the clock has steps of 10 ms, and threads of other pools may still have been spinning
    return sum(ticks > max(1, 0.4 * most) for ticks in spent.values()) or None


def _cpu_ticks() -> dict[str, int] | None:
    """Ticks of CPU time per thread of this process."""
    found = {}
    try:
        for thread in os.listdir("/proc/self/task"):
            fields = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()
            found[thread] = int(fields[11]) + int(fields[12])  # utime, stime
    except (OSError, IndexError, ValueError):
        return None
    return found
