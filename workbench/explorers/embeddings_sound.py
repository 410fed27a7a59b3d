"""What can be heard on the embedding screen: both sides of a trial, what local speakers say."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.errors import InputError
from workbench.explorers.clips import NOWHERE, join_clips
from workbench.explorers.embeddings_controls import HINT, EmbeddingControls
from workbench.explorers.embeddings_study import EmbeddingStudy
from workbench.plots.embeddings_local import LocalView, describe_local
from workbench.plots.embeddings_trials import DIFFERENT_NAME, SAME_NAME, TrialView, bin_edges, shown_trials
from workbench.plots.words import region


class EmbeddingSound(EmbeddingControls):
    """Selects trials and local speakers, says what they are, and plays them."""

    study: EmbeddingStudy
    chosen_trial: int | None
    chosen: tuple[int, int] | None
    _heard: dict[tuple[str, int], int]  # bar -> how many of its trials were heard
    _replay: tuple[str, bytes, float] | None

    def _trials(self) -> TrialView | None:
        """What is shown of the trials."""
        return None

    def _local(self) -> LocalView | None:
        """What is shown of the local speakers."""
        return None

    def _redraw(self) -> None:
        """Bring the figure up to date."""

    # -- trials --------------------------------------------------------------------------------

    def _clicked_bar(self, trace: Any, points: Any, _state: Any) -> None:
        """A bar of a histogram: one of its trials, the next one with every click."""
        view = self._trials()
        if view is None or not points.point_inds:
            return
        place = int(points.point_inds[0])
        edges = bin_edges(view.main.scores)
        kind = view.main.target == (trace.name == SAME_NAME)
        inside = (view.main.scores >= edges[place]) & (view.main.scores < edges[place + 1])
        own = np.flatnonzero(inside & kind)
        if not len(own):
            return
        number = self._heard.get((trace.name, place), 0)
        self._heard[trace.name, place] = number + 1
        self._select_trial(int(own[number % len(own)]), f"{number % len(own) + 1} of {len(own)} in this bar")

    def _clicked_trial(self, trace: Any, points: Any, _state: Any) -> None:
        """A trial on which two models are compared."""
        view = self._trials()
        if view is None or not points.point_inds:
            return
        trials = shown_trials(view)
        if trace.name == "flips":
            trials = trials[view.flips[trials]]
        if points.point_inds[0] < len(trials):
            self._select_trial(int(trials[points.point_inds[0]]))

    def _select_trial(self, trial: int, note: str = "") -> None:
        self.chosen_trial, self.chosen = trial, None
        view = self._trials()
        if view is None:
            return
        self._redraw()
        scores = " and ".join(f"{each.scores[trial]:.3f}" for each in view.verifications)
        kind = SAME_NAME if view.main.target[trial] else DIFFERENT_NAME
        decided = "accepted" if view.main.scores[trial] >= view.threshold else "rejected"
        words = f"{' against '.join(view.pairs[trial])} · {kind}, {decided} · score {scores}"
        wav, _, heard = join_clips(self.study.sides_of(view.pairs[trial]))
        self._play(" · ".join(filter(None, [words, note, f"{heard:.1f} s"])), wav, NOWHERE)

    # -- local speakers ------------------------------------------------------------------------

    def _opened(self, _change: Any = None) -> None:
        """Another recording."""
        self.chosen, self._replay = None, None
        self.player.text = HINT
        self._redraw()

    def _clicked_cell(self, _trace: Any, points: Any, _state: Any) -> None:
        """A cell of the matrix: both local speakers, one after the other."""
        if points.point_inds:
            row, column = points.point_inds[0]
            self._select_local(int(row), int(column))

    def _clicked_outlier(self, _trace: Any, points: Any, _state: Any) -> None:
        view = self._local()
        if view is not None and points.point_inds and points.point_inds[0] < len(view.outliers):
            row = view.outliers[points.point_inds[0]]
            self._select_local(row, row)

    def _clicked_point(self, _trace: Any, points: Any, _state: Any) -> None:
        if points.point_inds:
            row = int(points.point_inds[0])
            self._select_local(row, row)

    def _step(self, by: int) -> None:
        """The next outlier, or the one before."""
        view = self._local()
        if view is None or not view.outliers:
            raise InputError("no local speaker talks in this recording")
        rows = view.outliers
        current = rows.index(self.chosen[0]) if self.chosen is not None and self.chosen[0] in rows else None
        row = rows[(0 if by > 0 else -1) if current is None else (current + by) % len(rows)]
        self._select_local(row, row)

    def _select_local(self, first: int, second: int) -> None:
        view = self._local()
        if view is None or max(first, second) >= len(view.found.table):
            return  # drawn before the last redraw
        self.chosen, self.chosen_trial = (first, second), None
        self._redraw()
        uri = view.found.uri
        table = view.found.table
        rows = list(dict.fromkeys((first, second)))
        if uri not in self.study.audio:  # the words are there all the same; the error says what to give
            self._replay = None
            self.player.text = f"{uri} · {describe_local(view, first)} · no audio"
        stretches = []
        for row in rows:
            chunk, local_speaker = table[["chunk", "local_speaker"]].to_numpy(dtype=np.int64)[row]
            stretches += self.study.stretches(uri, int(chunk), int(local_speaker))
        wav, _, heard = join_clips(stretches)
        if len(rows) == 1:
            start, end = stretches[0][1], stretches[-1][2]
            words = f"{uri} · {region(start, end)} · {describe_local(view, first)}"
        else:
            times = table[["start", "end"]].to_numpy(dtype=np.float64)[rows]
            places = [region(start, end) for start, end in times]
            cosine = view.found.cosine[first, second]
            words = f"{uri} · {places[0]}, then {places[1]} · cosine {cosine:.2f}"
        alone = len(stretches) == 1
        self._play(f"{words} · {heard:.1f} s", wav, stretches[0][1] if alone else NOWHERE)

    def _play(self, words: str, wav: bytes, start: float) -> None:
        self._replay = (words, wav, start)
        self.player.text = words
        self.player.play(wav, start)

    def _play_again(self, _change: Any = None) -> None:
        """Play the selection; without one, the worst outlier."""
        if self._replay is not None:
            self._play(*self._replay)
        else:
            self._step(+1)
