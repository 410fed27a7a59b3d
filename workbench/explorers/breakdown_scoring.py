"""Scoring for a screen: beside the kernel, with a bar; newer input makes older work stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from IPython.display import display

from workbench.explorers.background import NewestOnly
from workbench.explorers.breakdown_controls import ALL, ErrorControls
from workbench.explorers.breakdown_words import order_recordings
from workbench.review import Review, ScoringParams, SystemScore

FEW_TURNS = 3000  # of all sides together: scored before anyone could read a bar


class ScoredScreen(ErrorControls):
    """Controls, and the answers of a review to what they ask for."""

    review: Review
    _pending = False  # while something is being scored

    def _build_controls(self, review: Review, collar: float) -> None:
        super()._build_controls(review, collar)
        self._work = NewestOnly(threaded=os.environ.get("WORKBENCH_STATIC") != "1")

    @property
    def params(self) -> ScoringParams:
        """How errors are counted now."""
        return ScoringParams(collar=self.collar.value, skip_overlap=not self.overlap.value)

    @property
    def _systems(self) -> list[str]:
        return [name for name in (self.first.value, self.second.value) if name != ALL]

    def _scores(self) -> list[SystemScore]:
        return [self.review.score(system, self.params) for system in self._systems]

    @property
    def _parts_of(self) -> str | None:
        """The recording that is divided, None for all of them."""
        return None if self.pooled.value else self.recording.value

    def _questions(self) -> list[tuple[str, str, tuple[Any, ...]]]:
        """What the screen asks the review: in words, the method, its arguments."""
        params, uri, systems = self.params, self.recording.value, self._systems
        asked: list[tuple[str, str, tuple[Any, ...]]] = []
        for system in systems:
            asked += [
                (f"scoring {system}", "score", (system, params)),
                (f"dividing {system}", "breakdown", (system, params, self.by.value, self._parts_of)),
                (f"listing the errors of {system}", "errors", (system, params)),
                (f"listing the errors of {system}", "view", (system, uri, params)),
            ]
        if len(systems) > 1:
            asked += [
                ("comparing B with A", "compare", (*systems, params)),
                ("finding what B fixed and broke", "changes", (*systems, params)),
            ]
        return asked

    def _prepare_first(self, recording: str | None) -> None:
        """Score what the screen begins with; a bar stands in its place until then, where that takes long."""
        is_long = self.review.num_turns > FEW_TURNS and self._work.is_watched
        if is_long:
            self.progress.layout.display = ""
            display(self.progress)
        for number, system in enumerate(self._systems):
            self.stage.value, self.bar.value = f"scoring {system}", number / (len(self._systems) + 1)
            self.review.score(system, self.params)
        self.recording.value = recording or order_recordings(self._scores(), self.sort.value)[0]
        questions = self._questions()
        for number, (words, name, key) in enumerate(questions):
            self.stage.value, self.bar.value = words, number / len(questions)
            getattr(self.review, name)(*key)
        self.stage.value, self.bar.value = "drawing", 1.0

    def _prepare(self, show: Callable[[], None]) -> None:
        """Have everything computed, then `show` it; while older work goes on, all that it would have."""
        if self._pending:
            show = self._show
        open_questions = [each for each in self._questions() if not self.review.is_known(each[1], *each[2])]
        self._pending = bool(open_questions)
        steps = [(words, partial(getattr(self.review, name), *key)) for words, name, key in open_questions]

        def job(check: Callable[[], None]) -> None:
            for number, (words, step) in enumerate(steps):
                check()
                self.stage.value, self.bar.value = words, number / len(steps)
                self.progress.layout.display = ""
                step()

        def done(_result: None) -> None:
            self._pending = False
            show()
            self.progress.layout.display = "none"

        self._work.submit(job, self.errors.guard(done), self._failed)

    def _failed(self, error: BaseException) -> None:
        self._pending = False
        self.progress.layout.display = "none"
        self.errors.show(error)

    def _show(self) -> None:
        """Everything, as it is scored now."""

    def wait(self) -> ScoredScreen:
        """Return once everything is scored; for scripts, which have no screen to watch."""
        self._work.wait()
        return self
