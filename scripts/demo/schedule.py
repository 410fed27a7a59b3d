"""How far a training has come, by wall clock or by steps, and the learning rate there."""

from __future__ import annotations

import math
import time


class Progress:
    """Share of a training that is done: of its minutes where given, else of its steps.

    Parameters
    ----------
    num_steps : int
        Length of the training when `minutes` is None.
    minutes : float or None
        Wall clock to spend; the schedule then follows the clock, so it reaches its end on a busy machine too.
    step, elapsed : int, float
        Where a resumed training goes on, in steps and seconds.
    """

    def __init__(self, num_steps: int, minutes: float | None, step: int = 0, elapsed: float = 0.0):
        self.num_steps, self.minutes, self.step = num_steps, minutes, step
        self._started = time.monotonic() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds spent, those before an interruption included."""
        return time.monotonic() - self._started

    @property
    def done(self) -> float:
        """From 0 to 1."""
        if self.minutes is None:
            return min(1.0, self.step / self.num_steps)
        return min(1.0, self.elapsed / (60 * self.minutes))


def learning_rate(peak: float, step: int, done: float, *, warm_up: int, constant_until: float) -> float:
    """Linear warm-up over steps, constant, then a cosine down to 2 % of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    if done <= constant_until:
        return peak
    angle = math.pi * (done - constant_until) / (1 - constant_until)
    return peak * (0.02 + 0.98 * (1 + math.cos(angle)) / 2)
