"""Journal files of Optuna that survive their writers: no stale lock, no half line."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from workbench.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

_FIRST_BYTES = b'{"op_code"'  # with these begins every journal that Optuna writes
_BLOCK = 1 << 16  # bytes that are looked through at once for the end of a line
_PAUSE = 0.2  # s after which a line that another program is writing has grown or ended


def open_journal(path: Path, say: Callable[[str], None]) -> JournalStorage:
    """The storage of a journal file, which is made if there is none.

    Parameters
    ----------
    path : the file
    say : called with a line when the half line that a killed process left at the end is cut off

    Raises
    ------
    InputError : with the line, where the file is no journal
    """
    from optuna.storages import JournalStorage

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = WholeLines(path, say)
    backend = JournalFileBackend(str(path), lock_obj=lock)  # makes the file
    lock.acquire()
    try:
        _check(path)
    finally:
        lock.release()
    return JournalStorage(backend)


class WholeLines(JournalFileOpenLock):  # nothing more general is public
    """A lock on a journal file, under which the file consists of whole lines.

    The operating system lets go of it when its holder ends, however that ends; Optuna's own locks stay, and
    hold the next process up for half a minute. What a writer was killed at, or had no room left for, is cut
    off before the next one appends to it.
    """

    def __init__(self, path: Path, say: Callable[[str], None]):
        super().__init__(str(path))
        self._path, self._say = path, say
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock; see to it that the last line is a whole one."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._cut_half_line(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go of the lock."""
        if self._descriptor is None:
            raise RuntimeError(f"{self._path}: the lock is not held")
        descriptor, self._descriptor = self._descriptor, None
        # said outright: a process that was forked meanwhile holds the descriptor as well
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def _cut_half_line(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        while (whole := _whole_lines(descriptor, size)) < size:
            if not _is_journal(descriptor, size):
                raise InputError.at(
                    self._path, "is not a journal file of Optuna; give another file, or one that is not there"
                )
            # optuna-dashboard writes without this lock, and may be at it
            time.sleep(_PAUSE)
            before, size = size, os.fstat(descriptor).st_size
            if size == before:
                os.ftruncate(descriptor, whole)
                cut = size - whole
                self._say(f"{self._path}: cut {cut} bytes off the end, a line that was never written in full")
                return


def _whole_lines(descriptor: int, size: int) -> int:
    """Bytes of a file of `size` bytes up to the end of its last whole line."""
    end = size
    while end > 0:
        start = max(end - _BLOCK, 0)
        place = os.pread(descriptor, end - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


def _is_journal(descriptor: int, size: int) -> bool:
    """Whether a file begins as journals do, as far as it goes."""
    first = os.pread(descriptor, len(_FIRST_BYTES), 0)
    return first == _FIRST_BYTES[:size]


def _check(path: Path) -> None:
    """An `InputError` that names the first line that is no entry of a journal."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # another program is writing it
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or "op_code" not in entry:
                raise InputError.at(
                    path,
                    f"expected an entry of an Optuna journal, got {line[:40]!r}; take the line out if the "
                    "file is one, else give another file, or one that is not there",
                    number,
                )
