"""How a command is stopped from outside: by a signal, or by a disk that is full."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Interruption(KeyboardInterrupt):
    """A signal to stop, noted down: a library that is just being imported may lose the exception itself.

    A type of its own, because Python ends the process by SIGINT instead of our exit code once a plain
    KeyboardInterrupt has passed through code that a C extension runs, even if it was caught later.
    """

    seen: ClassVar[signal.Signals | None] = None

    @classmethod
    def handle(cls, number: int, _frame: object) -> None:
        """Signal handler."""
        if cls.seen is not None and number != signal.SIGINT:
            return  # it is being stopped: SIGTERM and SIGHUP often come together
        cls.seen = signal.Signals(number)
        raise cls

    @classmethod
    def exit_code(cls) -> int:
        """As shells have it for the signal: 130 for Ctrl-C."""
        return 128 + (cls.seen or signal.SIGINT)

    @classmethod
    def word(cls) -> str:
        """What happened."""
        return _WORDS[(cls.seen or signal.SIGINT).name]


@contextmanager
def orderly_stop() -> Iterator[None]:
    """SIGTERM and SIGHUP stop what runs inside as Ctrl-C does, unless they are ignored as under nohup."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, Interruption.handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shield_tracker() -> None:
    """Let what cleans up after worker processes survive SIGHUP, as it does SIGTERM, to do so, and quietly."""
    from joblib.externals.loky.backend.resource_tracker import ensure_running

    # a terminal that closes tells every process in it, and a child keeps what is blocked as it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # it would report every semaphore that workers which were stopped had no time to give back
    filters = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [filters, "ignore:resource_tracker:UserWarning"]))
    try:
        ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if filters is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = filters


def is_full(error: BaseException) -> bool:
    """Whether something could not be written because there is no room for it."""
    return isinstance(error, OSError) and error.errno in _FULL


def full_words(error: OSError, out: Path | None = None) -> str:
    """Where there is no room, as far as it is known, and what to do."""
    folder = out if error.filename is None else Path(error.filename).parent
    where = "" if folder is None else f"{folder}: "
    if error.errno == errno.EFBIG:
        return (
            f"{where}a file would become larger than is allowed; allow more, and run the same command again"
        )
    return f"{where}there is no space left; make room, and run the same command again"
