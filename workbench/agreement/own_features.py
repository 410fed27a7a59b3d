"""Features that no filter bank explains: the baseline's own front end hears the samples otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.hypotheses import guesses_of_chunks, guesses_of_recordings
from workbench.agreement.sides import LiveFeed
from workbench.segmentation import cut_chunks

_STAGE = "fbank"
_LEFT = 0.1  # part of the difference (rms) that a right guess leaves at most
_SLOWEST = 0.5  # s that a chunk may take, or nothing is tried
_STEPS = (80, 20, 5, 1)  # samples, finer and finer
_FURTHEST = 640  # samples that a shift is looked for in


def name_by_own_features(
    findings: Sequence[Finding], mine: LiveFeed, chunk: int, features: np.ndarray
) -> list[Finding]:
    """`findings`, where one that blames the features without a reason says what the candidate heard.

    Parameters
    ----------
    findings : of the stages of one chunk
    mine : the baseline, which is run
    chunk : its number
    features : the candidate's stage `fbank` of that chunk, shape (1, num_frames, num_bands)
    """
    named = []
    for finding in findings:
        blamed = finding.kind == "front_end" and finding.details.get("stage") == _STAGE
        if blamed and not {"causes", "offset"} & set(finding.details):
            found = _what_was_heard(mine, chunk, features)
            if found is not None:
                kind, said = found
                words = (
                    f"the candidate {said}: the baseline's own front end then gives the candidate's features"
                )
                details = {**finding.details, "heard": said}
                finding = replace(finding, kind=kind, words=words, details=details)
        named.append(finding)
    return named


def _what_was_heard(mine: LiveFeed, chunk: int, features: np.ndarray) -> tuple[str, str] | None:
    """Kind and words of the guess that gives the features, None where none does."""
    chunking = mine.chunking
    starts = chunking.starts[[chunk]]
    target = features.astype(np.float64)

    def left(waveforms: np.ndarray) -> np.ndarray:
        made = mine.runtime.stages(waveforms.astype(np.float32))[_STAGE]
        if made.shape[1:] != target.shape[1:]:
            return np.full(len(waveforms), np.inf)
        inner = slice(2, -2)  # frames at the edges hear what lies outside of the chunk
        difference: np.ndarray = made[:, inner] - target[:, inner]
        return np.asarray(np.sqrt(np.mean(np.square(difference), axis=(1, 2))))

    def cut(waveform: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return cut_chunks(waveform.astype(np.float32), starts, chunking.window_samples)

    left(cut(mine.waveform, starts))  # the first call is slower than the others
    began = perf_counter()
    plain = cut(mine.waveform, starts)
    before = float(left(plain)[0])
    seconds = perf_counter() - began
    if not 0 < before < np.inf or seconds > _SLOWEST:
        return None
    padded = np.pad(mine.waveform, 2 * _FURTHEST)
    best, least = _best_shift(lambda late: left(cut(padded, starts[0] + 2 * _FURTHEST - late)))
    if best and least < _LEFT * before:
        milliseconds = 1000 * abs(best) / chunking.sample_rate
        word = "late" if best > 0 else "early"
        return "sample_shift", f"hears the samples {word} by {abs(best)} ({milliseconds:.2f} ms)"
    for guess in (*guesses_of_recordings(), *guesses_of_chunks()):
        heard = cut(mine.waveform if guess.change is None else guess.change(mine.waveform), starts)
        if guess.per_chunk is not None:
            heard = guess.per_chunk(heard[0])[None]
        if float(left(heard)[0]) < _LEFT * before:
            return guess.kind, guess.said
    return None


def _best_shift(left: Callable[[np.ndarray], np.ndarray]) -> tuple[int, float]:
    """Samples by which the candidate is late, and what that leaves; tried coarsely, then ever finer."""
    tried = np.arange(-_FURTHEST, _FURTHEST + 1, _STEPS[0])
    best, least = 0, np.inf
    for number, step in enumerate(_STEPS):
        if number:
            tried = best + step * np.arange(-4, 5)
        errors = left(tried)
        best, least = int(tried[errors.argmin()]), float(errors.min())
    return best, least
