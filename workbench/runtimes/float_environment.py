"""How the processor treats denormals in the calling thread: kept, or flushed to zero.

Numbers below 1.2e-38 are slow on some processors, so programs switch them off, and forget to say so:
ONNX Runtime does it for the thread that makes the first session of a process, and for no later one.
Here the switch is set for one call and put back, on Linux with glibc, for x86-64 and 64-bit ARM; elsewhere
nothing is changed, which the canary of `workbench.agreement.conditions` then reports.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# machine -> 32-bit word of glibc's fenv_t that holds the switches, and their bits
_SWITCHES = {
    "x86_64": (7, 0x8040),  # MXCSR: flush to zero, denormals are zero
    "aarch64": (0, 1 << 24),  # FPCR: flush to zero
}
_WORDS = 16  # more than any fenv_t holds


@cache
def _library() -> ctypes.CDLL | None:
    """The C library, where its floating-point environment is laid out as described above."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL("libm.so.6") if platform.machine() in _SWITCHES else None


@contextmanager
def denormals(*, flush: bool) -> Iterator[None]:
    """Flush denormals to zero, or keep them, in this thread while the context is open.

    Threads that are started inside inherit the setting; those of a pool that exists already do not.
    """
    library = _library()
    if library is None:
        yield
        return
    word, bits = _SWITCHES[platform.machine()]
    before = (ctypes.c_uint32 * _WORDS)()
    library.fegetenv(before)
    during = (ctypes.c_uint32 * _WORDS)(*before)
    during[word] = (before[word] | bits) if flush else (before[word] & ~bits)
    library.fesetenv(during)
    try:
        yield
    finally:
        library.fesetenv(before)
