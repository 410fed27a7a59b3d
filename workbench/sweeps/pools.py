"""Where blocks of a sweep are computed: in this process, in worker processes, or on a Dask cluster.

All three are a `concurrent.futures.Executor` with the little that the standard one does not say: how
many blocks it works on at once, how to hand it the inputs of a recording, and how to start again
after a worker died.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from typing import Any, Protocol

from workbench.errors import InputError

ONE_THREAD = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
_CONNECT = 15.0  # s, to reach a Dask scheduler
_NO_WORKER = 60.0  # s, for a worker to come when there is none
_AGAIN = 0.2  # s, until a worker is asked again
_WATCH = 1.0  # s, between two looks whether the main process still lives


class Pool(Protocol):
    """Something that computes.

    Attributes
    ----------
    obituary : what to say of a recording under which workers died again and again
    """

    obituary: str

    @property
    def slots(self) -> int:
        """How many blocks it works on at once."""

    def submit(self, function: Callable[..., Any], inputs: Any, *args: Any) -> Future[Any]:
        """Start ``function(inputs, *args)``; `inputs` is what `hold` returned."""

    def hold(self, inputs: Any) -> Any:
        """What to pass to `submit` for the inputs of a recording that several blocks need."""

    def restart(self) -> bool:
        """Start again after a worker died; False where that is not in our hands."""

    def close(self) -> None:
        """Stop, whatever is still under way."""


class InProcess:
    """Computes in this process, when asked, with nothing in between."""

    slots = 1
    obituary = "the computation was cancelled"

    def submit(self, function: Callable[..., Any], inputs: Any, *args: Any) -> Future[Any]:
        """The finished result."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(inputs, *args))
        except Exception as error:  # as an executor keeps it; an interrupt goes through
            future.set_exception(error)
        return future

    def hold(self, inputs: Any) -> Any:
        """The inputs."""
        return inputs

    def restart(self) -> bool:
        """Nothing can be started again."""
        return False

    def close(self) -> None:
        """Nothing is open."""


class Processes:
    """Worker processes of this machine, each with one BLAS thread; started on first use.

    They are spawned, not forked, ignore Ctrl-C (the main process stops them) and end by themselves
    if the main process is killed.
    """

    obituary = (
        "worker processes ended while they computed this recording; if the machine ran out of memory, use "
        "fewer --jobs"
    )

    def __init__(self, jobs: int):
        self.slots = jobs
        self._executor: Any = None

    def submit(self, function: Callable[..., Any], inputs: Any, *args: Any) -> Future[Any]:
        """Start on the next free worker."""
        future: Future[Any]
        try:
            future = self._started().submit(function, inputs, *args)
        except BrokenExecutor:  # a worker died while it had nothing to do
            self.close()
            future = self._started().submit(function, inputs, *args)
        return future

    def _started(self) -> Executor:
        if self._executor is None:
            from joblib.externals.loky.backend import get_context
            from joblib.externals.loky.process_executor import ProcessPoolExecutor

            # Not the standard library's pool: loky's starts without a `__main__` guard in the user's
            # script, pickles functions that a notebook defines, and notices every way a worker can die.
            self._executor = ProcessPoolExecutor(
                self.slots,
                context=get_context("loky"),
                initializer=_prepare_worker,
                initargs=(os.getpid(),),
                env=ONE_THREAD,
            )
        executor: Executor = self._executor
        return executor

    def hold(self, inputs: Any) -> Any:
        """The inputs, which travel with every block."""
        return inputs

    def restart(self) -> bool:
        """New workers in place of those that are left."""
        self.close()
        return True

    def close(self) -> None:
        """Stop the workers now."""
        if self._executor is not None:
            with _without_last_words():
                self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


class Given:
    """An executor that the caller made, and closes."""

    obituary = "a worker of the executor ended while it computed this recording"

    def __init__(self, executor: Executor, slots: int | None = None):
        self._executor = executor
        self.slots = slots or getattr(executor, "_max_workers", None) or os.cpu_count() or 1

    def submit(self, function: Callable[..., Any], inputs: Any, *args: Any) -> Future[Any]:
        """Start in the executor."""
        return self._executor.submit(function, inputs, *args)

    def hold(self, inputs: Any) -> Any:
        """The inputs, which travel with every block."""
        return inputs

    def restart(self) -> bool:
        """The executor is the caller's."""
        return False

    def close(self) -> None:
        """The executor is the caller's."""


class DaskCluster:
    """A Dask cluster, reached through a `distributed.Client`.

    The inputs of a recording are sent once and stay with the cluster while its blocks are computed, so
    its machines need not share a file system.
    """

    obituary = (
        "Dask workers ended while they computed this recording; if they ran out of memory, give them more"
    )

    def __init__(self, address: str):
        try:
            from distributed import Client
            from distributed.comm.addressing import resolve_address
        except ImportError:
            raise InputError(
                "--scheduler needs the package distributed: pip install 'workbench[distributed]'"
            ) from None
        self._address = address
        try:
            # asked first: a client that was given no address at all takes half a minute to go
            resolve_address(address)
            self._client = Client(address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise self._unreachable(error) from None
        self._loop = self._client.sync(_running_loop)

    @property
    def slots(self) -> int:
        """Threads of all workers that are there now; workers may come and go."""
        return max(sum(self._ask(self._client.nthreads).values()), 1)

    def submit(self, function: Callable[..., Any], inputs: Any, *args: Any) -> Future[Any]:
        """Start on the cluster."""
        task = self._ask(self._client.submit, function, inputs, *args, pure=False, retries=1)
        # Not `Client.get_executor`: its future stays pending for ever when the worker dies after it
        # finished a task and before the result was fetched.
        return asyncio.run_coroutine_threadsafe(_result(task), self._loop)

    def hold(self, inputs: Any) -> Any:
        """The inputs on the cluster; they go when the last reference to the result goes.

        Raises
        ------
        InputError : if no worker takes them for some time
        """
        until = time.monotonic() + _NO_WORKER
        while self._client.status == "running":
            try:
                return self._client.scatter(inputs, hash=False)
            except OSError as error:  # of the scheduler: no worker is there, or one died on the way to it
                if time.monotonic() > until:
                    raise InputError(
                        f"no worker takes work from the Dask scheduler at {self._address!r} ({error}); start "
                        f"one with `dask worker {self._address}`"
                    ) from None
                time.sleep(_AGAIN)
        raise self._unreachable("the connection was lost")

    def restart(self) -> bool:
        """Dask replaces its workers itself."""
        return True

    def close(self) -> None:
        """Forget what is under way and leave the cluster."""
        self._client.close()

    def _ask(self, question: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method of the client; a lost connection is told in words."""
        try:
            return question(*args, **options)
        except (OSError, RuntimeError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: object) -> InputError:
        return InputError(
            f"no Dask scheduler answers at {self._address!r} ({error}); start one with `dask scheduler` and "
            "give its address, such as tcp://host:8786"
        )


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _result(task: Any) -> Any:
    return await task


@contextmanager
def _without_last_words() -> Iterator[None]:
    """While workers are killed, loky's thread may stumble over a block that is already gone: no news."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or not args.thread.name.startswith("ExecutorManager"):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


_GONE = {"KilledWorker", "CancelledError", "FutureCancelledError"}  # Dask's


def died(error: BaseException) -> bool:
    """Whether a block failed because its worker is gone, not because of what it computed."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in _GONE


def usable_cores() -> int:
    """Cores that this process may use, containers' limits included."""
    from joblib.externals.loky import cpu_count

    return int(cpu_count())


def _prepare_worker(parent: int) -> None:
    """In a new worker: leave Ctrl-C to the main process, and end when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
