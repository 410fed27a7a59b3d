"""Tables behind the speaker timeline: turns, who is matched to whom, and every single error."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Segment, Timeline

from workbench.scoring.regions import ERROR_KINDS as ERROR_KINDS
from workbench.scoring.regions import find_errors as find_errors
from workbench.scoring.regions import match_speakers as match_speakers
from workbench.scoring.turns import Turns


def find_turns(annotation: Annotation) -> pd.DataFrame:
    """One row per turn, ordered by time: start (s), end (s), speaker.

    Examples
    --------
    >>> annotation = Annotation()
    >>> annotation[Segment(3, 4)] = "B"
    >>> annotation[Segment(0, 2)] = "A"
    >>> find_turns(annotation)
       start  end speaker
    0    0.0  2.0       A
    1    3.0  4.0       B
    """
    turns = Turns.of(annotation)
    speakers = np.array([*turns.labels, None], dtype=object)[turns.speakers]
    table = pd.DataFrame(
        {"start": turns.starts, "end": turns.ends, "speaker": pd.Series(speakers, dtype=object)}
    )
    return table.sort_values(["start", "end"], ignore_index=True)


def order_speakers(turns: pd.DataFrame) -> list[Hashable]:
    """Speakers in the order in which they first talk, so that a timeline begins at its top left."""
    return list(turns.sort_values("start", kind="stable")["speaker"].unique())


def speaker_errors(turns: pd.DataFrame, errors: pd.DataFrame, order: Iterable[Hashable]) -> pd.DataFrame:
    """Seconds per reference speaker: correct, missed, confusion; and per nobody: false_alarm.

    Parameters
    ----------
    turns : reference turns, as `find_turns` returns them, inside the scored regions
    errors : as `find_errors` returns them
    order : reference speakers, one row each

    Returns
    -------
    table : DataFrame
        Columns speaker, correct, missed, confusion, false_alarm; the last row, speaker None,
        holds the speech that no reference speaker uttered.
    """
    order = list(order)
    duration = errors["end"] - errors["start"]
    spoken = (turns["end"] - turns["start"]).groupby(turns["speaker"]).sum()
    lost = duration.groupby([errors["reference_speaker"], errors["kind"]]).sum()
    rows = []
    for speaker in order:
        missed = float(lost.get((speaker, "missed"), 0.0))
        confusion = float(lost.get((speaker, "confusion"), 0.0))
        correct = max(float(spoken.get(speaker, 0.0)) - missed - confusion, 0.0)
        rows.append((speaker, correct, missed, confusion, 0.0))
    rows.append((None, 0.0, 0.0, 0.0, float(duration[errors["kind"] == "false_alarm"].sum())))
    return pd.DataFrame(rows, columns=["speaker", "correct", "missed", "confusion", "false_alarm"])


def crop_turns(turns: pd.DataFrame, uem: Timeline | Segment | None) -> pd.DataFrame:
    """The parts of `turns` that lie in the scored regions."""
    if uem is None or turns.empty:
        return turns
    regions = [uem] if isinstance(uem, Segment) else list(uem.support())
    parts = []
    for region in regions:
        part = turns.assign(start=turns["start"].clip(region.start), end=turns["end"].clip(upper=region.end))
        parts.append(part[part["end"] > part["start"]])
    return pd.concat(parts, ignore_index=True) if parts else turns.iloc[:0]


def thin_turns(turns: pd.DataFrame, start: float, end: float, resolution: float) -> pd.DataFrame:
    """The turns seen between `start` and `end`, neighbours closer than `resolution` drawn as one.

    Keeps a long recording drawable: no more rectangles than there are pixels, none of them
    thinner than one. At a resolution of 0 nothing is merged.

    Parameters
    ----------
    turns : DataFrame with start, end (s), `row` (the row it is drawn in)
    resolution : s, usually the duration of one pixel

    Returns
    -------
    turns : DataFrame
        The same columns and `num_turns`, the number of turns behind each row. Where several are
        merged, the other columns are those of the first.
    """
    seen = turns[(turns["end"] > start) & (turns["start"] < end)]
    if resolution <= 0 or seen.empty:
        return seen.assign(num_turns=1)
    seen = seen.sort_values(["row", "start"], kind="stable")
    starts, ends = seen["start"].to_numpy(dtype=float), seen["end"].to_numpy(dtype=float)
    rows = seen["row"].to_numpy()
    # Inside a row the latest end so far, not the previous end: turns of a row may overlap.
    reach = seen.groupby("row")["end"].cummax().to_numpy()
    begins = np.ones(len(seen), dtype=bool)
    begins[1:] = (rows[1:] != rows[:-1]) | (starts[1:] - reach[:-1] > resolution)
    first = np.flatnonzero(begins)
    latest = np.maximum.reduceat(ends, first)
    return (
        seen.iloc[first]
        .assign(
            end=np.maximum(latest, starts[first] + resolution),
            num_turns=np.diff(np.append(first, len(seen))),
        )
        .reset_index(drop=True)
    )
