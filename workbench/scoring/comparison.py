"""Two systems on the same recordings: what one fixed and broke, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.scoring.breakdown import breakdown, time_blocks
from workbench.scoring.regions import each_recording, find_changes
from workbench.scoring.significance import (
    Comparison,
    Interval,
    compare_systems,
    find_block_width,
    join_blocks,
    pooled_interval,
)

RECORDING = "recording"  # the unit where there are several of them


@dataclass(frozen=True, kw_only=True, eq=False)
class SystemComparison:
    """System B against system A."""

    test: Comparison
    changes: pd.DataFrame  # uri, start, end, change, speakers, seconds: longest first
    fixed: float  # s of speaker time that A got wrong and B right
    broken: float  # s, the reverse

    @property
    def words(self) -> str:
        """The result as a sentence."""
        return f"{self.test.words}; fixed {self.fixed:.1f} s, broke {self.broken:.1f} s"


def compare_files(
    references: Mapping[str, Annotation],
    hypotheses_a: Mapping[str, Annotation],
    hypotheses_b: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    *,
    block: float = 60.0,
    seed: int = 0,
) -> SystemComparison:
    """Compare two systems on the recordings that a reference names.

    Parameters
    ----------
    references, hypotheses_a, hypotheses_b : dict, uri -> Annotation
        A recording without hypothesis counts as missed.
    uem, collar, skip_overlap : as of `score_files`
    block : s
        Where there is one recording only, stretches of this length are the units, or longer ones where
        errors go on from one stretch into the next.
    """
    first, second = (_known(references, hypotheses) for hypotheses in (hypotheses_a, hypotheses_b))
    totals, errors_a, unit = error_units(references, first, uem, collar, skip_overlap, block=block)
    _, errors_b, _ = error_units(references, second, uem, collar, skip_overlap, block=block)
    if len(errors_a) != len(errors_b):  # without a UEM a system may go on for longer: a block more
        longest = max(len(errors_a), len(errors_b))
        errors_a, errors_b, totals = (
            np.pad(values, (0, longest - len(values))) for values in (errors_a, errors_b, totals)
        )
    if unit != RECORDING:
        width = find_block_width(errors_b - errors_a, totals)
        errors_a, errors_b, totals = (join_blocks(each, width) for each in (errors_a, errors_b, totals))
        unit = _block_name(block * width)
    used = (totals > 0) | (errors_a > 0) | (errors_b > 0)  # silence tells nothing
    tables = []
    for uri, reference, hypothesis, regions in each_recording(references, first, uem):
        changes = find_changes(
            reference, hypothesis, second.get(uri, Annotation(uri=uri)), regions, collar, skip_overlap
        )
        changes.insert(0, "uri", pd.Series([uri] * len(changes), dtype=object))
        tables.append(changes)
    changes = pd.concat(tables, ignore_index=True).sort_values("seconds", ascending=False, ignore_index=True)
    sums = changes.groupby("change")["seconds"].sum()
    return SystemComparison(
        test=compare_systems(errors_a[used], errors_b[used], totals[used], unit=unit, seed=seed),
        changes=changes,
        fixed=float(sums.get("fixed", 0.0)),
        broken=float(sums.get("broken", 0.0)),
    )


def der_interval(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    *,
    block: float = 60.0,
    seed: int = 0,
) -> tuple[Interval, str]:
    """95 % interval of the pooled DER, and the name of its unit (`recording`, or a block of time)."""
    totals, errors, unit = error_units(references, hypotheses, uem, collar, skip_overlap, block=block)
    if unit != RECORDING:
        width = find_block_width(errors, totals)
        errors, totals, unit = (
            join_blocks(errors, width),
            join_blocks(totals, width),
            _block_name(block * width),
        )
    used = (totals > 0) | (errors > 0)
    return pooled_interval(errors[used], totals[used], seed=seed), unit


def error_units(
    references: Mapping[str, Annotation],
    hypotheses: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    *,
    block: float = 60.0,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Speaker time and errors (s) of every unit, float arrays (num_units,), and the unit's name.

    The n-th block of a single recording starts at n times `block`, whatever is scored of it.
    """
    recordings = each_recording(references, hypotheses, uem)
    if len(recordings) != 1:
        table = breakdown(references, hypotheses, uem, collar, skip_overlap, by="recording")
        return table["total"].to_numpy(dtype=float), table["errors"].to_numpy(dtype=float), RECORDING
    _, reference, hypothesis, regions = recordings[0]
    table = time_blocks(reference, hypothesis, regions, collar, skip_overlap, block=block)
    number = np.rint(table["start"].to_numpy(dtype=float) / block).astype(int)
    totals, errors = np.zeros((2, int(number.max(initial=-1)) + 1))
    totals[number], errors[number] = table["total"], table["errors"]
    return totals, errors, _block_name(block)


def _block_name(duration: float) -> str:
    return f"block of {duration:g} s"


def _known(
    references: Mapping[str, Annotation], hypotheses: Mapping[str, Annotation]
) -> Mapping[str, Annotation]:
    return {uri: annotation for uri, annotation in hypotheses.items() if uri in references}
