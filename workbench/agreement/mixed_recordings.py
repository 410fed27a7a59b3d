"""Recordings under each other's names: what one side has of one, the other has of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from workbench.agreement.findings import Finding, unique
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.unexplained import VAGUE

_DIFFERS = 0.1  # share of flips from which on a recording is looked for elsewhere
_THE_SAME = 0.99  # share of equal frames from which two recordings are the same one
_CHANGES = 10  # of the class, that a recording needs to be recognised by


def name_mixed_recordings(rows: Mapping[str, RecordingParity]) -> dict[str, RecordingParity]:
    """The rows, where one whose candidate is the baseline of another recording says so."""
    return {uri: _named(row, rows) for uri, row in rows.items()}


def _named(row: RecordingParity, rows: Mapping[str, RecordingParity]) -> RecordingParity:
    comparison = row.comparison
    if comparison is None or row.aligned or comparison.flipped.mean() < _DIFFERS:
        return row
    theirs = comparison.candidate
    if np.count_nonzero(np.diff(theirs.astype(np.int64), axis=1)) < _CHANGES:
        return row
    for uri, other in rows.items():
        if uri == row.uri or other.comparison is None:
            continue
        mine = other.comparison.baseline
        shared = min(len(mine), len(theirs)) - 1  # the last chunk of the shorter one is padded
        if shared < 1 or mine.shape[1] != theirs.shape[1]:
            continue
        if (mine[:shared] == theirs[:shared]).mean() >= _THE_SAME:
            words = (
                f"the candidate's {row.uri!r} is what the baseline has of {uri!r}: recordings under each "
                "other's names, or outputs in another order than the inputs"
            )
            found = Finding(kind="mixed_recordings", words=words, side="candidate", details={"holds": uri})
            kept = [each for each in row.findings if each.kind not in VAGUE or each.severity != "fault"]
            return replace(row, findings=unique((found, *kept)))
    return row
