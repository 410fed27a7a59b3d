"""What `workbench score` prints: tables and sentences from reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.cli.tables import align

if TYPE_CHECKING:
    import pandas as pd

    from workbench.scoring import ScoreReport
    from workbench.scoring.comparison import SystemComparison
    from workbench.scoring.significance import Interval

COLUMNS = (
    ("DER", "der", 100),
    ("missed", "missed", None),
    ("false alarm", "false_alarm", None),
    ("confusion", "confusion", None),
    ("JER", "jer", 100),
    ("B3-F1", "b3_f1", 100),
    ("purity", "purity", 100),
    ("coverage", "coverage", 100),
)
"""Heading, name in the row, and factor; None: a share of the scored speaker time."""

PARTS = {
    "uri": "recording",
    "speaker": "speaker",
    "mapped_to": "taken for",
    "fate": "fate",
    "speech": "reference speech",
    "turn": "turn duration",
    "distance": "from a turn's edge",
    "time": "time",
}
"""Headings of the columns that name a part in a breakdown."""

TITLES = {
    "recording": "By recording",
    "speaker": "By reference speaker",
    "overlap": "By number of reference speakers at once",
    "duration": "By duration of the reference turn",
    "boundary": "By distance from the nearest start or end of a reference turn",
    "time": "By time in the recording",
}

FEWEST = 6  # units from which an interval says something


def format_table(report: ScoreReport, interval: Interval | None = None, unit: str = "recording") -> str:
    """The report as aligned text, rates in percent."""
    rows = [[uri, *cells(row.to_dict())] for uri, row in report.recordings.items()]
    heading = ["recording", *(title for title, _, _ in COLUMNS), "speech (s)"]
    lines = align(heading, [*rows, ["overall", *cells(report.overall.to_dict())]]).splitlines()
    return "\n".join(
        [
            *lines[:-1],
            lines[1],
            lines[-1],
            "",
            *([say_interval(interval, unit)] if interval is not None else []),
            say_detection(report),
            f"Rates in %. DER, missed, false alarm and confusion: {report.convention}.",
        ]
    )


def cells(row: dict[str, float | None]) -> list[str]:
    """One line of the table; a dash where a rate is not defined."""
    total = row["total"] or 0.0

    def show(name: str, factor: int | None) -> str:
        value: Any = row[name]
        if value is not None and factor is None:
            value, factor = (value / total, 100) if total else (None, None)
        return "-" if value is None else f"{value * factor:.2f}"

    return [*(show(name, factor) for _, name, factor in COLUMNS), f"{total:.1f}"]


def say_interval(interval: Interval, unit: str) -> str:
    """The pooled DER with its uncertainty."""
    units = f"{interval.num_units} {unit if interval.num_units == 1 else plural_unit(unit)}"
    if interval.num_units < FEWEST:
        return f"How far chance moves the overall DER cannot be told from {units}."
    low, high, level = 100 * interval.low, 100 * interval.high, 100 * interval.level
    bounds = f"{100 * interval.estimate:.2f} [{low:.2f}, {high:.2f}]"
    return f"Overall DER {bounds}: {level:g} % interval over {units}."


def plural_unit(unit: str) -> str:
    """The plural of a unit, which may be several words: `blocks of 60 s`."""
    first, _, rest = unit.partition(" ")
    return f"{first}s {rest}".strip()


def say_detection(report: ScoreReport) -> str:
    """Speech, overlap and the number of speakers, whoever talks."""
    found = report.overall.detection
    speech = found.speech

    def percent(part: float, whole: float) -> str:
        return f"{100 * part / whole:.2f}" if whole else "-"

    return (
        f"Speech, whoever talks: missed {percent(speech.missed, speech.total)}, "
        f"false alarm {percent(speech.false_alarm, speech.total)}. "
        f"Overlap: precision {percent(found.overlap.common, found.overlap.hypothesis)}, "
        f"recall {percent(found.overlap.common, found.overlap.reference)}. "
        f"Speakers: {found.speakers.hypothesis} found, {found.speakers.reference} in the reference; "
        f"the right number in {found.speakers.right} of {found.speakers.recordings} recordings."
    )


def format_breakdown(table: pd.DataFrame, by: str) -> str:
    """A table of `breakdown` as text: seconds, the part's own DER, and its share of all errors."""
    names = [column for column in table.columns if column in PARTS]
    rows = [
        [
            *("-" if row[name] is None else str(row[name]) for name in names),
            *(f"{row[kind]:.1f}" for kind in ("total", "missed", "false_alarm", "confusion")),
            "-" if row["der"] != row["der"] else f"{100 * row['der']:.2f}",
            f"{100 * row['share']:.1f}",
        ]
        for row in table.to_dict("records")
    ]
    heading = [PARTS[name] for name in names]
    heading += ["speech (s)", "missed (s)", "false alarm (s)", "confusion (s)", "DER %", "% of errors"]
    return f"{TITLES[by]}\n{align(heading, rows, num_left=len(names))}"


def format_comparison(
    name: str, report: ScoreReport, others: Mapping[str, tuple[ScoreReport, SystemComparison]]
) -> str:
    """Every system against the first, and whether the difference could be chance."""
    rows = [[name, *system_cells(report), "", "", "", ""]]
    sentences = []
    for other, (other_report, comparison) in others.items():
        test = comparison.test
        rows.append(
            [
                other,
                *system_cells(other_report),
                f"{100 * test.difference.estimate:+.2f}",
                "< 0.001" if test.p_permutation < 0.001 else f"{test.p_permutation:.3f}",
                f"{comparison.fixed:.1f}",
                f"{comparison.broken:.1f}",
            ]
        )
        sentences.append(f"{other} (B) against {name} (A): {comparison.words}.")
    heading = ["system", "DER %", "missed", "false alarm", "confusion"]
    heading += ["difference", "p", "fixed (s)", "broken (s)"]
    return "\n".join([align(heading, rows), "", *sentences])


def system_cells(report: ScoreReport) -> Sequence[str]:
    """Overall DER and its parts in percent."""
    return cells(report.overall.to_dict())[:4]


def format_conventions(table: pd.DataFrame) -> str:
    """The table of conventions as text."""
    heading = ["scorer", "collar", "is", "UEM", "overlap", "own overlap", "average", "DER %"]
    rows = [
        [
            row["scorer"],
            f"{row['collar_given']:g}",
            row["collar_means"],
            row["uem"],
            row["overlap"],
            row["own_overlap"],
            row["average"],
            f"{100 * row['der']:.2f}",
        ]
        for row in table.to_dict("records")
    ]
    return align(heading, rows, num_left=7)


def remarks(report: ScoreReport) -> list[str]:
    """What the reader of the table should know besides the numbers."""
    lines = [
        f"{uri}: no hypothesis names it{report.similar.get(uri, '')}, so all of it counts as missed"
        for uri in report.without_hypothesis
    ]
    return lines + [f"{uri}: left out, {why}" for uri, why in report.left_out.items()]
