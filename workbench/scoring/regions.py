"""Every single error: from when to when, of what kind, and between whom."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Segment, Timeline

from workbench.scoring.slots import Slots
from workbench.scoring.turns import Turns
from workbench.scoring.units import CORRECT, KINDS, Units

ERROR_KINDS = ("missed", "false_alarm", "confusion")


def match_speakers(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> dict[Hashable, Hashable]:
    """Hypothesis speaker -> reference speaker: the one-to-one mapping with the most time in common.

    It is the mapping under which the diarization error rate is computed. Speakers who share no
    time with their partner are left out.
    """
    return Slots.of(reference, hypothesis, uem, collar, skip_overlap).mapping


def find_errors(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> pd.DataFrame:
    """One row per error, ordered by time; its durations add up to the components of `score`.

    Parameters
    ----------
    reference, hypothesis : Annotation
    uem, collar, skip_overlap : as of `score`
        What is not scored interrupts an error.

    Returns
    -------
    errors : DataFrame
        start (s), end (s), kind (`missed`, `false_alarm`, `confusion`), reference_speaker (None for
        a false alarm), hypothesis_speaker (None for missed speech). Where several speakers are
        wrong at once each error has its own row; confused speakers are paired in sorted order.

    Examples
    --------
    >>> reference, hypothesis = Annotation(), Annotation()
    >>> reference[Segment(0, 10)] = "A"
    >>> hypothesis[Segment(2, 11)] = "x"
    >>> find_errors(reference, hypothesis)
       start   end         kind reference_speaker hypothesis_speaker
    0    0.0   2.0       missed                 A               None
    1   10.0  11.0  false_alarm              None                  x
    """
    slots = Slots.of(reference, hypothesis, uem, collar, skip_overlap)
    units = Units.of(slots)
    wrong = np.flatnonzero(units.kind != CORRECT)
    wrong = wrong[np.lexsort([units.slot[wrong], units.hyp[wrong], units.ref[wrong]])]
    slot, ref, hyp = units.slot[wrong], units.ref[wrong], units.hyp[wrong]
    # An error goes on where the same two speakers are wrong in the slot that follows without a gap.
    same = (ref[1:] == ref[:-1]) & (hyp[1:] == hyp[:-1]) & (slot[1:] == slot[:-1] + 1)
    goes_on = same & (slots.starts[slot[1:]] == slots.ends[slot[:-1]])
    first = np.flatnonzero(np.concatenate([[True], ~goes_on])[: len(wrong)])
    last = np.append(first[1:], len(wrong))[: len(first)] - 1
    errors = pd.DataFrame(
        {
            "start": slots.starts[slot[first]],
            "end": slots.ends[slot[last]],
            "kind": np.array(KINDS, dtype=object)[units.kind[wrong[first]]],
            "reference_speaker": _names(slots.ref, ref[first]),
            "hypothesis_speaker": _names(slots.hyp, hyp[first]),
        }
    )
    return errors.sort_values(["start", "end", "kind"], ignore_index=True, kind="stable")


def find_longest_errors(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> pd.DataFrame:
    """The errors of several recordings, longest first.

    Parameters
    ----------
    references, hypotheses : dict, uri -> Annotation
        A recording that one side does not name is silent there.
    uem : dict, uri -> Timeline, optional
        Recordings that it does not name are left out.
    collar, skip_overlap : as of `score`

    Returns
    -------
    errors : DataFrame
        uri, start (s), end (s), duration (s), kind, reference_speaker, hypothesis_speaker.
    """
    tables = []
    for uri, reference, hypothesis, regions in each_recording(references, hypotheses, uem):
        errors = find_errors(reference, hypothesis, regions, collar, skip_overlap)
        errors.insert(0, "uri", pd.Series([uri] * len(errors), dtype=object))
        errors.insert(3, "duration", errors["end"] - errors["start"])
        tables.append(errors)
    columns = ["uri", "start", "end", "duration", "kind", "reference_speaker", "hypothesis_speaker"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return table.sort_values(
        ["duration", "uri", "start"], ascending=[False, True, True], ignore_index=True, kind="stable"
    )


def find_changes(
    reference: Annotation,
    hypothesis: Annotation,
    other: Annotation,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> pd.DataFrame:
    """Where `other` makes fewer errors than `hypothesis` (fixed), and where more (broken).

    Returns
    -------
    changes : DataFrame, ordered by time
        start (s), end (s), change (`fixed` or `broken`), speakers (how many errors more or less at
        once), seconds (of speaker time: what was fixed less what was broken is the difference of the
        errors of both systems).

    Examples
    --------
    >>> reference, first, second = Annotation(), Annotation(), Annotation()
    >>> reference[Segment(0, 10)] = "A"
    >>> first[Segment(2, 10)] = "x"
    >>> second[Segment(1, 9)] = "y"
    >>> find_changes(reference, first, second)
       start   end  change  speakers  seconds
    0    1.0   2.0   fixed         1      1.0
    1    9.0  10.0  broken         1      1.0
    """
    if uem is None:  # the same time for both: all that anyone says
        uem = reference.get_timeline().union(hypothesis.get_timeline()).union(other.get_timeline()).extent()
    systems = [Slots.of(reference, side, uem, collar, skip_overlap) for side in (hypothesis, other)]
    edges = np.unique(np.concatenate([time for slots in systems for time in (slots.starts, slots.ends)]))
    before, after = (_errors_between(slots, edges) for slots in systems)
    change = after - before
    kept = np.flatnonzero(change)
    goes_on = (np.diff(kept) == 1) & (np.diff(change[kept]) == 0)
    first = kept[np.concatenate([[True], ~goes_on])[: len(kept)]]
    last = kept[np.concatenate([~goes_on, [True]])[: len(kept)]]
    start, end, size = edges[first], edges[last + 1] if len(last) else edges[:0], np.abs(change[first])
    return pd.DataFrame(
        {
            "start": start,
            "end": end,
            "change": np.where(change[first] < 0, "fixed", "broken").astype(object),
            "speakers": size,
            "seconds": (end - start) * size,
        }
    )


def each_recording(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
) -> list[tuple[str, Annotation, Annotation, Timeline | None]]:
    """The recordings that are scored, in order of their names: uri, both sides, scored regions."""
    named = sorted(references.keys() | hypotheses.keys())
    return [
        (
            uri,
            references.get(uri, Annotation(uri=uri)),
            hypotheses.get(uri, Annotation(uri=uri)),
            None if uem is None else uem[uri],
        )
        for uri in named
        if uem is None or uri in uem
    ]


def errors_per_slot(slots: Slots) -> np.ndarray:
    """How many errors are made at once in every slot: int array, shape (num_slots,)."""
    return np.maximum(slots.num_ref, slots.num_hyp) - slots.agreeing(slots.pairs).sum(axis=1)


def _errors_between(slots: Slots, edges: np.ndarray) -> np.ndarray:
    """Errors at once between neighbouring `edges`, which contain all of the slots'; 0 where not scored."""
    errors = np.zeros(max(len(edges) - 1, 0), dtype=np.int64)
    slot = np.searchsorted(slots.starts, edges[:-1], side="right") - 1
    inside = slot >= 0
    inside[inside] = edges[:-1][inside] < slots.ends[slot[inside]]
    errors[inside] = errors_per_slot(slots)[slot[inside]]
    return errors


def _names(turns: Turns, speakers: np.ndarray) -> pd.Series:
    """Labels of speaker indices; None for nobody, index -1."""
    labels = np.empty(len(turns.labels) + 1, dtype=object)
    labels[:-1] = turns.labels
    return pd.Series(labels[speakers], dtype=object)
