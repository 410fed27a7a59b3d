"""Optuna studies as several processes share them: where they are kept, and who is working on one."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from workbench.errors import InputError

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

T = TypeVar("T")
_JOURNALS = {".log", ".journal", ".jsonl"}
_DATABASES = {".db", ".sqlite", ".sqlite3"}
_PATIENCE = 60  # s that a process waits for its turn to write into a SQLite file
_ATTEMPTS = 8  # to open a database that another process is just making
_AT_ONCE = ("already exists", "UNIQUE constraint", "is locked")


def create_study(
    storage: str | BaseStorage | None,
    name: str,
    num_objectives: int,
    say: Callable[[str], None] | None = None,
) -> optuna.Study:
    """A study that minimizes, or the one of this name that is there already."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return _try_often(
        lambda: optuna.create_study(
            storage=open_storage(storage, say),
            study_name=name,
            directions=["minimize"] * num_objectives,
            load_if_exists=True,
        ),
        storage,
    )


def find_study(storage: BaseStorage, name: str) -> optuna.Study | None:
    """The study of this name, if there is one."""
    import optuna

    def load() -> optuna.Study | None:
        try:
            return optuna.load_study(storage=storage, study_name=name)
        except KeyError:
            return None

    return _try_often(load, storage)


def connect(storage: str | None, say: Callable[[str], None] | None = None) -> BaseStorage | None:
    """The storage itself, to open several studies in; None if none is kept."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage is None:
        return None
    return _try_often(lambda: optuna.storages.get_storage(open_storage(storage, say)), storage)


def open_storage(
    storage: str | BaseStorage | None, say: Callable[[str], None] | None = None
) -> str | BaseStorage | None:
    """What Optuna takes for a storage: a URL as it is, files by their ending."""
    if not isinstance(storage, str) or "://" in storage:
        return storage
    from optuna.storages import RDBStorage

    from workbench.tuning.journal import open_journal

    path = Path(storage)
    if path.suffix in _JOURNALS:
        return open_journal(path, say or (lambda line: None))
    if path.suffix in _DATABASES:
        path.parent.mkdir(parents=True, exist_ok=True)
        # several processes may write: each waits for the others longer than SQLite's five seconds
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _PATIENCE}})
    raise InputError(
        f"storage {storage!r}: give a journal file ({', '.join(sorted(_JOURNALS))}), a SQLite file "
        f"({', '.join(sorted(_DATABASES))}) or a URL such as sqlite:///study.db"
    )


def release_dead(study: optuna.Study, unnamed: Collection[int] = ()) -> None:
    """Trials that a killed process of this machine left running will not be finished: they failed.

    Parameters
    ----------
    unnamed : numbers of trials that do not say whose they are, but have nobody any more
    """
    import optuna
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in unnamed or is_dead(str(trial.user_attrs.get("worker", ""))):
            try:
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # another process has just done so


def find_others(study: optuna.Study) -> list[str]:
    """Who is working on the study besides this process, as far as can be told."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    workers = [str(trial.user_attrs.get("worker", "")) for trial in running]
    return [worker for worker in workers if worker not in ("", this_worker())]


def is_here(worker: str) -> bool:
    """Whether a worker is a process of this machine that is alive.

    Parameters
    ----------
    worker : as `this_worker` has it, or without the time at which the process began, as older studies do
    """
    host, _, process = worker.rpartition(":")
    number, _, began = process.partition("@")
    if host != os.uname().nodename or not number.isdigit():
        return False
    now = _began(int(number))
    return now is not None and began in ("", now)


def is_dead(worker: str) -> bool:
    """Whether a worker was a process of this machine and has ended; of other machines nothing is known."""
    return worker.rpartition(":")[0] == os.uname().nodename and not is_here(worker)


def this_worker() -> str:
    """Name of this process, as trials have it: `host:number@beginning`, for numbers are given out again."""
    return f"{os.uname().nodename}:{os.getpid()}@{_began(os.getpid())}"


def _began(process: int) -> str | None:
    """When a process began, in clock ticks since the machine did; None for one that has ended.

    An empty text where the system does not tell (no /proc), and the process is alive.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # it is there, and somebody else's
        return ""
    try:
        # the name of the program, in parentheses, may hold anything; after it, the state is field 3
        state, *fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    ended = state in (b"Z", b"X")  # killed, and nobody has asked for its exit code yet
    return None if ended else fields[18].decode()  # field 22: starttime


def _try_often(make: Callable[[], T], storage: object) -> T:
    """What `make` returns; again while others make the same, and an `InputError` if the storage is none."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return make()
        except InputError:
            raise
        except Exception as error:  # of SQLAlchemy, of a database's driver, of the file system
            if attempt < _ATTEMPTS and any(words in str(error) for words in _AT_ONCE):
                time.sleep(0.2 * attempt)
                continue
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            named = repr(storage) if isinstance(storage, str) else "of the study"
            raise InputError(
                f"storage {named} cannot be used ({type(error).__name__}: {reason}); give a journal file "
                "(study.log), a SQLite file (study.db) or a storage URL of Optuna"
            ) from error


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental without its saying so every time."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
