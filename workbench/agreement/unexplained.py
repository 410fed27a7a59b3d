"""A second look where all that is known is that scores differ: patterns, relations, and guesses tried out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.agreement.findings import Finding, unique
from workbench.agreement.heard import other_channels
from workbench.agreement.hypotheses import try_hypotheses
from workbench.agreement.patterns import find_levels, find_pattern, find_relation, find_repeats, repeated
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.sides import SAMPLE_RATE, Feed, LiveFeed
from workbench.errors import RecordingError

VAGUE = {"weights", "precision", "context_dependent", "time_scale", "chunk_order", "frame_shift"}
"""Findings that a better explanation takes the place of."""
_PLACED = {"time_scale", "chunk_order", "frame_shift"}
"""Of those, what says more than a pattern would."""
_SETTLED = {"class_order", "speaker_order", "local_speaker_order", "frame_count", "values", "non_finite"}
_OUTPUT = "log_probs"
_SAMPLE = 8  # chunks that relations are looked for in
_BLOCK = 32  # chunks that are read at once
_NOTICEABLE = 1e-3  # nats, below which nothing is looked for


def look_again(
    row: RecordingParity, feeds: tuple[Feed, Feed], source: object, run_model: bool = True
) -> RecordingParity:
    """The row with a better explanation in place of a vague one, if there is any.

    Parameters
    ----------
    row : of `compare_recording`
    feeds : both sides
    source : the recording's file, if it has one
    run_model : whether the side that is a model may be run on what the other may have heard
    """
    comparison = row.comparison
    if comparison is None or not worth_it(row, feeds):
        return row
    try:
        found = _explanation(row, feeds, source if isinstance(source, Path) else None, run_model)
    except RecordingError:  # a model that fails on what another program may have fed it with
        return row
    if found is None:
        return row
    kept = [each for each in row.findings if each.kind not in VAGUE or each.severity != "fault"]
    return replace(row, findings=unique((found, *kept)))


def without_vague(row: RecordingParity) -> tuple[Finding, ...]:
    """The findings of a row whose input is known to differ: what follows from that is left out."""
    over = [stage.stage for stage in row.stages if stage.over_tolerance]
    if over and over[0] != _OUTPUT:
        return row.findings
    return tuple(each for each in row.findings if each.kind not in VAGUE or each.severity != "fault")


def worth_it(row: RecordingParity, feeds: tuple[Feed, Feed]) -> bool:
    """Whether nothing but the output is known to differ, and no reason of it."""
    if row.comparison is None or row.aligned:
        return False
    kinds = {each.kind for each in row.findings if each.severity == "fault"}
    if any("chunks" in each.details for each in row.findings if each.kind == "frame_shift"):
        return False  # chunks that are numbered otherwise
    if kinds & _SETTLED or not row.statistics.max_abs > _NOTICEABLE:
        return False
    if all(isinstance(feed, LiveFeed) for feed in feeds):
        return False  # their stages tell more
    over = [stage.stage for stage in row.stages if stage.over_tolerance]
    return not over or over[0] == _OUTPUT


def _explanation(
    row: RecordingParity, feeds: tuple[Feed, Feed], source: Path | None, run_model: bool
) -> Finding | None:
    comparison = row.comparison
    if comparison is None:
        return None
    mine, theirs = feeds
    difference = np.where(comparison.valid, comparison.difference, -1.0).max(axis=1)
    sample = np.sort(np.argsort(-difference, kind="stable")[:_SAMPLE])
    b, c = mine.run(sample), theirs.run(sample)
    if b.shape != c.shape:
        return None
    repeats: list[int] = []
    for first in range(0, len(difference), _BLOCK - 1):  # the last of a block is the first of the next
        chunks = np.arange(first, min(first + _BLOCK, len(difference)))
        if (difference[chunks] > _NOTICEABLE).any():
            repeats += find_repeats(mine.run(chunks), theirs.run(chunks), first)
    wrong = set(np.flatnonzero(difference > _NOTICEABLE).tolist())
    if repeats and len(wrong - set(repeats)) <= 0.2 * len(wrong):
        return repeated(repeats)
    for found in (find_relation(b, c), find_levels(c, b)):
        if found is not None:
            return found
    live = next((feed for feed in feeds if isinstance(feed, LiveFeed)), None)
    rounded = any(each.kind == "stored_precision" for each in row.findings)
    if run_model and not rounded and live is not None and live.chunking.sample_rate == SAMPLE_RATE:
        channels = {} if source is None else other_channels(source, len(live.waveform))
        guessed = try_hypotheses(feeds, row, channels, source)
        if guessed:
            return guessed[0]
    return None if {each.kind for each in row.findings} & _PLACED else find_pattern(comparison)
