"""Where the error comes from: tables whose rows add up to the counts of the whole.

Every table has the columns total, correct, missed, false_alarm, confusion (seconds of speaker time),
errors (their sum), der (errors over total, NaN without reference speech) and share (of all errors).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Segment, Timeline

from workbench.scoring.regions import each_recording
from workbench.scoring.slots import Slots
from workbench.scoring.turns import Turns, dense
from workbench.scoring.units import CONFUSION, CORRECT, FALSE_ALARM, MISSED, NOBODY, Units

By = Literal["recording", "speaker", "overlap", "duration", "boundary", "time"]

TURN_DURATIONS = (0.5, 1.0, 2.0, 5.0, 10.0)  # s, the limits between bins
BOUNDARY_DISTANCES = (0.1, 0.25, 0.5, 1.0, 2.0)  # s
OVERLAP = ("nobody speaks", "one speaker", "overlap")
_TIME_STEPS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)  # s, widths that read well
_MOST_TIME_BINS = 12
_SHARE = 0.1  # of a speaker's time, from which another speaker has a part of it


def breakdown(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    *,
    by: By = "recording",
) -> pd.DataFrame:
    """Error counts by some property of the speech; the rows add up to the whole.

    Parameters
    ----------
    references, hypotheses : dict, uri -> Annotation
        A recording that one side does not name is silent there.
    uem : dict, uri -> Timeline, optional
        Recordings that it does not name are left out.
    collar, skip_overlap : as of `score`
    by : property
        - `recording`
        - `speaker` of the reference; false alarms are nobody's. `fate` says whether they were found,
          split, merged or missed
        - `overlap`: how many reference speakers talk at once
        - `duration` of the reference turn, for every speaker by themselves; false alarms have none
        - `boundary`: distance from the nearest start or end of a reference turn
        - `time` since the beginning of the recording

    Returns
    -------
    table : DataFrame
        One or more columns that name the part, then those of the module.
    """
    if by not in get_args(By):
        raise ValueError(f"by must be one of {', '.join(get_args(By))}, got {by!r}")
    recordings = [
        (uri, Slots.of(reference, hypothesis, regions, collar, skip_overlap))
        for uri, reference, hypothesis, regions in each_recording(references, hypotheses, uem)
    ]
    if by == "speaker":
        tables = [_speakers(uri, slots) for uri, slots in recordings]
        return _with_rates(pd.concat(tables, ignore_index=True) if tables else _speakers("", _nothing())[:0])
    if by == "recording":
        sums = [_whole(slots) for _, slots in recordings]
        return _table({"uri": [uri for uri, _ in recordings]}, np.array(sums).reshape(-1, 4))
    parts = _parts(by, [slots for _, slots in recordings])
    total = np.zeros((len(parts.names), 4))
    for _, slots in recordings:
        units, group = parts.group(slots)
        total += units.sums(group, len(parts.names))
    return _table({parts.column: list(parts.names)}, total)


@dataclass(frozen=True)
class _Parts:
    """How the time of any recording is divided."""

    column: str
    names: Sequence[str]
    by: By
    limits: np.ndarray  # between bins, where there are bins

    def group(self, slots: Slots) -> tuple[Units, np.ndarray]:
        """All units of a recording and the part that each belongs to."""
        if self.by == "overlap":
            units = Units.of(slots)
            at_once = (slots.active_ref > 0).sum(axis=1)
            return units, np.minimum(at_once, 2)[units.slot]
        if self.by == "duration":
            units = Units.of(slots)
            duration = turn_durations(slots, units)
            group = np.searchsorted(self.limits, duration, side="right")
            return units, np.where(units.ref == NOBODY, len(self.limits) + 1, group)
        if self.by == "time":
            finer, _ = slots.refine(self.limits)
            units = Units.of(finer)
            return units, np.searchsorted(self.limits, finer.starts, side="right")[units.slot]
        boundaries = turn_boundaries(slots.ref)
        away = np.concatenate([[0.0], self.limits, -self.limits])
        finer, _ = slots.refine((boundaries[:, None] + away).ravel())
        units = Units.of(finer)
        middle = (finer.starts + finer.ends) / 2
        after = np.searchsorted(boundaries, middle)
        padded = np.concatenate([[-np.inf], boundaries, [np.inf]])
        distance = np.minimum(middle - padded[after], padded[after + 1] - middle)
        return units, np.searchsorted(self.limits, distance, side="right")[units.slot]


def _parts(by: By, recordings: Iterable[Slots]) -> _Parts:
    if by == "overlap":
        return _Parts("speech", OVERLAP, by, np.empty(0))
    if by == "duration":
        names = [*_bin_names(TURN_DURATIONS), "no turn (false alarm)"]
        return _Parts("turn", names, by, np.array(TURN_DURATIONS))
    if by == "boundary":
        return _Parts("distance", _bin_names(BOUNDARY_DISTANCES), by, np.array(BOUNDARY_DISTANCES))
    end = max((float(slots.ends[-1]) for slots in recordings if len(slots)), default=0.0)
    step = next((step for step in _TIME_STEPS if end <= step * _MOST_TIME_BINS), _TIME_STEPS[-1])
    limits = np.arange(1, np.ceil(end / step)) * step
    edges = [0.0, *limits, max(end, step)]
    names = [f"{clock(start)}-{clock(stop)}" for start, stop in zip(edges[:-1], edges[1:], strict=True)]
    return _Parts("time", names, by, limits)


def _bin_names(limits: Sequence[float]) -> list[str]:
    """Words for the bins between `limits` (s)."""
    inner = [f"{low:g}-{high:g} s" for low, high in zip(limits[:-1], limits[1:], strict=True)]
    return [f"< {limits[0]:g} s", *inner, f">= {limits[-1]:g} s"]


def clock(time: float) -> str:
    """A time as minutes and seconds, or hours as well.

    Examples
    --------
    >>> clock(75.0), clock(3675.0)
    ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(time), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def turn_boundaries(turns: Turns) -> np.ndarray:
    """Where somebody starts or stops talking, in order; touching turns of one speaker are one turn."""
    edges = [np.concatenate(pair) for pair in merged(turns)]
    return np.unique(np.concatenate(edges)) if edges else np.empty(0)


def turn_durations(slots: Slots, units: Units) -> np.ndarray:
    """Duration (s) of the reference turn that each unit is a part of, shape (num_units,).

    The whole turn counts, also where a part of it is not scored; 0 where the reference is silent.
    """
    durations = np.zeros(len(units.slot))
    order = np.argsort(units.ref, kind="stable")
    own = np.searchsorted(units.ref[order], np.arange(len(slots.ref.labels) + 1))
    for speaker, (starts, ends) in enumerate(merged(slots.ref)):
        part = order[own[speaker] : own[speaker + 1]]
        turn = np.searchsorted(starts, slots.starts[units.slot[part]], side="right") - 1
        durations[part] = (ends - starts)[turn]
    return durations


def merged(turns: Turns) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Starts and ends of every speaker's turns, in order; those that overlap or touch are one."""
    order = np.lexsort([turns.starts, turns.speakers])
    limits = np.searchsorted(turns.speakers[order], np.arange(len(turns.labels) + 1))
    for first, last in pairwise(limits):
        own = order[first:last]
        starts, reach = turns.starts[own], np.maximum.accumulate(turns.ends[own])
        begins = np.concatenate([[True], starts[1:] > reach[:-1]])[: len(starts)]
        yield starts[begins], reach[np.concatenate([begins[1:], [True]])[: len(starts)]]


def _whole(slots: Slots) -> np.ndarray:
    units = Units.of(slots)
    return units.sums(np.zeros(len(units.slot), dtype=np.intp), 1)[0]


def _speakers(uri: str, slots: Slots) -> pd.DataFrame:
    """Counts and fate of every reference speaker of one recording, and the false alarms in a last row."""
    units = Units.of(slots)
    num_ref = len(slots.ref.labels)
    sums = units.sums(np.where(units.ref == NOBODY, num_ref, units.ref), num_ref + 1)
    fates = find_fates(slots)
    names = {
        "uri": [uri] * (num_ref + 1),
        "speaker": [*slots.ref.labels, None],
        "mapped_to": [*(fate.mapped_to for fate in fates), None],
        "fate": [*(fate.words for fate in fates), "false alarms"],
    }
    return _table(names, sums, rates=False)


@dataclass(frozen=True, kw_only=True)
class SpeakerFate:
    """What the hypothesis made of one reference speaker."""

    mapped_to: Hashable | None  # hypothesis speaker, None where no one is left for them
    split_into: tuple[Hashable, ...] = ()  # hypothesis speakers that are mostly this speaker, if several
    merged_with: tuple[Hashable, ...] = ()  # reference speakers mostly in the same hypothesis speaker
    missed: bool = False  # no hypothesis speaker has a tenth of their time

    @property
    def words(self) -> str:
        """The fate in a few words."""
        parts = ["missed"] if self.missed else []
        if self.split_into:
            parts.append("split into " + ", ".join(map(str, self.split_into)))
        if self.merged_with:
            parts.append("merged with " + ", ".join(map(str, self.merged_with)))
        return "; ".join(parts) or "found"


def find_fates(slots: Slots) -> list[SpeakerFate]:
    """Fate of every reference speaker, in the order of `slots.ref.labels`.

    A speaker is split where several hypothesis speakers, each mostly this speaker, have at least a
    tenth of their time; merged where another speaker with that much time in it has most of their
    time in the same hypothesis speaker; missed where no hypothesis speaker has a tenth of their time.
    """
    together = dense(slots.cooccurrence)  # (hypothesis, reference)
    spoken = slots.seconds @ slots.active_ref
    partner = {ref: slots.hyp.labels[hyp] for hyp, ref in slots.pairs}
    if not together.size:
        return [SpeakerFate(mapped_to=None, missed=True) for _ in slots.ref.labels]
    has_part = together >= _SHARE * np.maximum(spoken, np.finfo(float).tiny)
    mostly_ref, mostly_hyp = together.argmax(axis=1), together.argmax(axis=0)
    fates = []
    for ref in range(len(slots.ref.labels)):
        pieces = np.flatnonzero(has_part[:, ref] & (mostly_ref == ref))
        home = mostly_hyp[ref]
        others = np.flatnonzero((mostly_hyp == home) & has_part[home])
        found = bool(has_part[:, ref].any())
        company = tuple(slots.ref.labels[other] for other in others if other != ref)
        fates.append(
            SpeakerFate(
                mapped_to=partner.get(ref),
                split_into=tuple(slots.hyp.labels[hyp] for hyp in pieces) if len(pieces) > 1 else (),
                merged_with=company if found else (),
                missed=not found,
            )
        )
    return fates


def confusion_matrix(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> pd.DataFrame:
    """Who was taken for whom, in seconds; all cells together are total and false alarm.

    Returns
    -------
    matrix : DataFrame
        A row per reference speaker and one for `(nobody)`: false alarms. A column per hypothesis
        speaker, in the order of the speakers they are mapped to, so that what is correct lies on the
        diagonal, then unmapped ones, then `(missed)`.
    """
    slots = Slots.of(reference, hypothesis, uem, collar, skip_overlap)
    units = Units.of(slots)
    num_ref, num_hyp = len(slots.ref.labels), len(slots.hyp.labels)
    # NOBODY, -1, is the last row and the last column
    cell = (units.ref % (num_ref + 1)) * (num_hyp + 1) + units.hyp % (num_hyp + 1)
    seconds = np.bincount(cell, units.seconds, minlength=(num_ref + 1) * (num_hyp + 1))
    partner = {hyp: ref for hyp, ref in slots.pairs.tolist()}
    order = sorted(range(num_hyp), key=lambda hyp: (partner.get(hyp, num_ref), hyp))
    return pd.DataFrame(
        seconds.reshape(num_ref + 1, num_hyp + 1)[:, [*order, num_hyp]],
        index=pd.Index([*slots.ref.labels, "(nobody)"], dtype=object, name="reference"),
        columns=pd.Index(
            [*(slots.hyp.labels[hyp] for hyp in order), "(missed)"], dtype=object, name="hypothesis"
        ),
    )


def time_blocks(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline | Segment | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    *,
    block: float = 60.0,
) -> pd.DataFrame:
    """Counts of consecutive stretches of one recording, under the mapping of the whole.

    Parameters
    ----------
    block : s
        Every stretch begins at a multiple of it.

    Returns
    -------
    table : DataFrame
        start (s), then the columns of the module; stretches without scored time are left out.
    """
    slots = Slots.of(reference, hypothesis, uem, collar, skip_overlap)
    if not len(slots):
        return _table({"start": []}, np.zeros((0, 4)))
    first, last = int(slots.starts[0] // block), int(slots.ends[-1] // block)
    limits = np.arange(first, last + 2) * block
    finer, _ = slots.refine(limits)
    units = Units.of(finer)
    number = np.searchsorted(limits, finer.starts, side="right") - 1
    scored = np.unique(number)
    sums = units.sums(number[units.slot], len(limits))[scored]
    return _table({"start": limits[scored]}, sums)


def _nothing() -> Slots:
    return Slots.of(Annotation(), Annotation())


def _table(names: Mapping[str, object], sums: np.ndarray, rates: bool = True) -> pd.DataFrame:
    """Columns `names`, then those of the module, from seconds by kind (num_rows, 4)."""
    table = pd.DataFrame({name: pd.Series(values, dtype=_dtype(name)) for name, values in names.items()})
    table["total"] = sums[:, CORRECT] + sums[:, MISSED] + sums[:, CONFUSION]
    table["correct"] = sums[:, CORRECT]
    table["missed"] = sums[:, MISSED]
    table["false_alarm"] = sums[:, FALSE_ALARM]
    table["confusion"] = sums[:, CONFUSION]
    return _with_rates(table) if rates else table


def _dtype(name: str) -> type:
    return float if name == "start" else object


def _with_rates(table: pd.DataFrame) -> pd.DataFrame:
    table["errors"] = table["missed"] + table["false_alarm"] + table["confusion"]
    table["der"] = (table["errors"] / table["total"]).where(table["total"] > 0)
    everything = float(table["errors"].sum())
    table["share"] = table["errors"] / everything if everything else 0.0
    return table
