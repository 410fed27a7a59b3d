"""Long work beside a kernel that stays responsive; of several requests only the newest counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class Superseded(Exception):
    """Raised inside work that a newer request has made pointless."""


class NewestOnly:
    """Runs one job at a time for a screen; a newer job makes the older one stop at its next check.

    Inside a kernel the job runs in a thread and its result is handed over in the kernel's own
    thread, so that widgets are only ever touched from there. Without an event loop (a script, a
    test) it simply runs.
    """

    def __init__(self, threaded: bool = True) -> None:
        self._threaded = threaded  # False: as if there were no event loop
        self._ticket = 0
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()  # two jobs never run the models at once
        self._deliver: Callable[[], None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether there is an event loop, hence someone to see how far the work is."""
        return self._threaded and _running_loop() is not None

    def submit(
        self,
        job: Callable[[Callable[[], None]], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Run `job(check)`, then `done(result)` or `failed(error)`; neither if a newer job came.

        Parameters
        ----------
        job : calls `check()` now and then, which raises `Superseded` once it should stop
        """
        self._ticket += 1
        ticket = self._ticket
        self._deliver = None

        def check() -> None:
            if ticket != self._ticket:
                raise Superseded

        def work() -> None:
            try:
                with self._turn:
                    check()
                    result = job(check)
            except Superseded:
                return
            except Exception as error:
                outcome, value = failed, error
            else:
                outcome, value = done, result

            def deliver() -> None:
                if ticket == self._ticket and self._deliver is deliver:
                    self._deliver = None
                    outcome(value)

            if ticket == self._ticket:
                self._deliver = deliver
                if loop is None:
                    deliver()
                else:
                    loop.call_soon_threadsafe(deliver)

        loop = _running_loop() if self._threaded else None
        if loop is None:
            work()
            return
        self._thread = threading.Thread(target=work, name="workbench-models", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return once the newest job is over and its result handed over."""
        if self._thread is not None:
            self._thread.join()
        if self._deliver is not None:
            self._deliver()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
