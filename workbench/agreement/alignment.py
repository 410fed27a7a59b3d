"""Bringing one side's arrays onto the frames, classes and speakers of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from workbench.powerset import permute_classes

_FLOOR = -20.0  # nats: below, log-probabilities say no more than "no"
_MOST_SPEAKERS = 6  # whose orders are tried one by one


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """What has to be done to the candidate's arrays so that they mean what the baseline's mean.

    The steps are taken in the order of the fields.
    """

    axes: tuple[int, int, int] = (0, 1, 2)  # transposition to (chunk, frame, class)
    normalise: str = ""  # "log": probabilities come in; "log_softmax": scores that do not sum to one;
    # "base_10", "base_2": logarithms to another base; "negated": their signs turned
    chunks: np.ndarray | None = None  # int64 (num_chunks,): candidate's chunk for every one of the baseline
    frames: np.ndarray | None = None  # float64 (num_chunks or 1, num_frames): position in that chunk
    classes: np.ndarray | None = None  # int64 (num_classes,): candidate's column for every class
    local_speakers: bool = False  # the order of the local speakers is sought in every chunk

    @property
    def needed(self) -> bool:
        """Whether anything is to be done."""
        return (
            self.axes != (0, 1, 2)
            or bool(self.normalise)
            or any(each is not None for each in (self.chunks, self.frames, self.classes))
            or self.local_speakers
        )

    def columns(self, candidate: np.ndarray) -> np.ndarray:
        """Candidate with its values and classes put right, its frames as they are."""
        candidate = values_as_log_probs(candidate, self.normalise)
        return candidate if self.classes is None else candidate[..., self.classes]

    def apply(
        self, baseline: np.ndarray, candidate: np.ndarray, powerset: Sequence[Sequence[int]], first: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Candidate on the baseline's frames and classes.

        Parameters
        ----------
        baseline : float array, shape (num_chunks, num_frames, num_classes)
        candidate : float array, shape (num_chunks, num_candidate_frames, num_classes)
            Chunks matched and axes ordered already.
        powerset : class -> its speakers
        first : number of the first chunk in the recording

        Returns
        -------
        aligned : float array of the shape of `baseline`
            Its own values where the candidate has no such frame.
        valid : bool array, shape (num_chunks, num_frames)
        """
        aligned = self.columns(candidate)
        num_chunks, num_frames = baseline.shape[:2]
        valid = np.ones((num_chunks, num_frames), dtype=bool)
        if self.frames is not None:
            rows = self.frames if len(self.frames) == 1 else self.frames[first : first + num_chunks]
            position = np.broadcast_to(rows, (num_chunks, num_frames))
            valid = (position > -0.5 - 1e-9) & (position < aligned.shape[1] - 0.5 + 1e-9)
            aligned = interpolate_frames(aligned, position)
        if self.local_speakers:
            aligned = np.stack(
                [
                    chunk[:, best_order(reference[ok][None], chunk[ok][None], powerset)[1]]
                    for reference, chunk, ok in zip(baseline, aligned, valid, strict=True)
                ]
            )
        return np.where(valid[..., None], aligned, baseline), valid


def interpolate_frames(log_probs: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Log-probabilities at fractional frames: the nearest one, or the mean of two at exact halves.

    Parameters
    ----------
    log_probs : float array, shape (num_chunks, num_frames, num_classes)
    position : float array, shape (num_chunks, num_positions)
        In frames; beyond the ends the outermost frame is taken.
    """
    last = log_probs.shape[1] - 1
    fraction = position - np.floor(position)
    half = np.abs(fraction - 0.5) < 0.05
    low = np.clip(np.where(half, np.floor(position), np.rint(position)).astype(np.int64), 0, last)
    found = np.take_along_axis(log_probs, low[..., None], axis=1)
    if not half.any():
        return found
    high = np.clip(np.floor(position).astype(np.int64) + 1, 0, last)
    other = np.take_along_axis(log_probs, high[..., None], axis=1)
    mean = np.log((np.exp(found.astype(np.float64)) + np.exp(other)) / 2 + 1e-38).astype(log_probs.dtype)
    return np.where(half[..., None], mean, found)


def values_as_log_probs(values: np.ndarray, normalise: str) -> np.ndarray:
    """Natural-log probabilities from what a side put out."""
    if normalise == "log":
        return np.log(np.maximum(values, np.finfo(np.float32).tiny))
    if normalise == "negated":
        return -values
    if normalise.startswith("base_"):
        scaled: np.ndarray = values * np.float32(np.log(int(normalise.removeprefix("base_"))))
        return scaled
    if normalise == "log_softmax":
        shifted = values - values.max(axis=-1, keepdims=True)
        result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return result
    return values


def distance(baseline: np.ndarray, candidate: np.ndarray) -> float:
    """Probability that moves between classes, on average over frames: 0 equal, 1 disjoint."""
    moved = np.abs(np.exp(np.minimum(baseline, 0)) - np.exp(np.minimum(candidate, 0))).sum(axis=-1)
    return 0.5 * float(np.nanmean(moved)) if np.isfinite(moved).any() else 1.0


def best_order(
    baseline: np.ndarray, candidate: np.ndarray, powerset: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], np.ndarray, float, float]:
    """Order of the candidate's local speakers that fits best.

    Returns
    -------
    speakers : the baseline's speaker s is the candidate's ``speakers[s]``
    columns : int array (num_classes,), the candidate's column for every class
    before, after : mean difference of the (clipped) log-probabilities as they are, and in that order
    """
    num_speakers = 1 + max((s for members in powerset for s in members), default=-1)
    b, c = np.maximum(baseline, _FLOOR), np.maximum(candidate, _FLOOR)
    identity = tuple(range(num_speakers))
    same = np.arange(len(powerset))
    if num_speakers > _MOST_SPEAKERS or not b.size:
        return identity, same, 0.0, 0.0
    cost = np.abs(b[..., :, None] - c[..., None, :]).reshape(-1, len(powerset), len(powerset)).mean(axis=0)
    before = cost[same, same].mean()
    best, found = identity, before
    for order in permutations(identity):
        try:
            mean = cost[same, permute_classes(powerset, order)].mean()
        except KeyError:  # a powerset that lacks some sets has not every order
            continue
        if mean < found - 1e-9:
            best, found = order, mean
    return best, permute_classes(powerset, best) if best != identity else same, before, found


def clipped(log_probs: np.ndarray) -> np.ndarray:
    """Log-probabilities without the depths in which they say no more than "no"."""
    return np.maximum(log_probs, _FLOOR)
