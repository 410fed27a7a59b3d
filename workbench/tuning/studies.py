"""Optuna studies as several processes share them: where they are kept, and who is working on one."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InputError

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

_JOURNALS = {".log", ".journal", ".jsonl"}
_DATABASES = {".db", ".sqlite", ".sqlite3"}
_PATIENCE = 60  # s that a process waits for its turn to write into a SQLite file
_ATTEMPTS = 8  # to open a database that another process is just making
_AT_ONCE = ("already exists", "UNIQUE constraint", "is locked")


def create_study(storage: str | None, name: str, num_objectives: int) -> optuna.Study:
    """A study that minimizes, or the one of this name that is there already."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    attempt = 0
    while True:
        attempt += 1
        try:
            return optuna.create_study(
                storage=open_storage(storage),
                study_name=name,
                directions=["minimize"] * num_objectives,
                load_if_exists=True,
            )
        except InputError:
            raise
        except Exception as error:  # of SQLAlchemy, of a database's driver, of the file system
            if attempt < _ATTEMPTS and any(words in str(error) for words in _AT_ONCE):
                time.sleep(0.2 * attempt)
                continue
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"storage {storage!r} cannot be used ({type(error).__name__}: {reason}); give a journal file "
                "(study.log), a SQLite file (study.db) or a storage URL of Optuna"
            ) from error


def open_storage(storage: str | None) -> str | BaseStorage | None:
    """What Optuna takes for a storage: a URL as it is, files by their ending."""
    if storage is None or "://" in storage:
        return storage
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(storage)
    if path.suffix in _JOURNALS:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    if path.suffix in _DATABASES:
        path.parent.mkdir(parents=True, exist_ok=True)
        # several processes may write: each waits for the others longer than SQLite's five seconds
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _PATIENCE}})
    raise InputError(
        f"storage {storage!r}: give a journal file ({', '.join(sorted(_JOURNALS))}), a SQLite file "
        f"({', '.join(sorted(_DATABASES))}) or a URL such as sqlite:///study.db"
    )


def release_dead(study: optuna.Study) -> None:
    """Trials that a killed process of this machine left running will not be finished: they failed."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_dead(str(trial.user_attrs.get("worker", ""))):
            study.tell(trial.number, state=TrialState.FAIL)


def find_others(study: optuna.Study) -> list[str]:
    """Who is working on the study besides this process, as far as can be told."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    workers = [str(trial.user_attrs.get("worker", "")) for trial in running]
    return [worker for worker in workers if worker != this_worker()]


def is_here(worker: str) -> bool:
    """Whether a worker is a process of this machine that is alive."""
    host, _, process = worker.rpartition(":")
    return host == os.uname().nodename and process.isdigit() and Path(f"/proc/{process}").exists()


def is_dead(worker: str) -> bool:
    """Whether a worker was a process of this machine and has ended; of other machines nothing is known."""
    return worker.rpartition(":")[0] == os.uname().nodename and not is_here(worker)


def this_worker() -> str:
    """Name of this process, as trials have it."""
    return f"{os.uname().nodename}:{os.getpid()}"


@contextmanager
def experimental() -> Iterator[None]:
    """Use what Optuna calls experimental without its saying so every time."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
