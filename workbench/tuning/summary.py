"""A tuning and its statistics on a page: for a paper, a pull request, or oneself in half a year."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.scoring.significance import Interval
from workbench.tuning.cells import CellTable, format_value
from workbench.tuning.choice import Choice, choose
from workbench.tuning.effects import EffectCard, effect_cards
from workbench.tuning.plateau import StableCell, choose_stable, find_plateaus
from workbench.tuning.stability import summarise_stability
from workbench.tuning.thresholds import describe_parameter
from workbench.tuning.warnings import Notice, find_warnings
from workbench.tuning.words import choice_words, points

NEEDS_GRID = (
    "In which direction a parameter works, and how wide a plateau is, can only be said of a grid, in which "
    "all values of one parameter are tried with the same values of the others."
)
"""What a summary says of cells that a sampler has chosen."""

MOST_ROWS = 200
"""Recordings, and files of the manifest, that a summary lists one by one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningSummary:
    """Everything that a summary says, computed; Markdown and HTML only write it down."""

    title: str
    convention: str  # of the scores: collar, overlap, regions
    choice: Choice
    plateaus: pd.DataFrame  # one row per cell
    stable: StableCell | None  # good and stable; None where nothing survives, or no cell has neighbours
    cards: tuple[EffectCard, ...]
    notices: tuple[Notice, ...]
    stability: pd.DataFrame | None  # one row per cell and level of noise
    manifest: Mapping[str, Any]  # of the run, empty if there is none

    @property
    def is_scattered(self) -> bool:
        """Whether some parameter's values were tried with different values of the others."""
        return any(card.speakers == "unknown" for card in self.cards)

    @property
    def verdict(self) -> str:
        """What came out, in a few sentences."""
        return choice_words(self.choice, self.plateaus, self.stability, self.stable)


def summarise_tuning(
    results: pd.DataFrame | CellTable,
    default: Mapping[str, Any] | None = None,
    *,
    choice: Choice | None = None,
    hypotheses: Mapping[str, Any] | None = None,
    stability: pd.DataFrame | None = None,
    title: str = "Tuning of the clustering",
    convention: str = "",
    manifest: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> TuningSummary:
    """Compute all that a summary says.

    Parameters
    ----------
    results : of a sweep, one row per recording and cell
    default : values of the swept parameters that are used today
    choice : as `choose` returns it, where it was made already
    hypotheses : uri -> Annotation of the best cell, to look for phantom speakers
    stability : as `noise_stability` returns it
    title : headline of the page
    convention : of the scores, as `describe_convention` words it
    manifest : of the run, as `run_manifest` returns it
    options : further ones of `choose`
    """
    table = CellTable.of(results)
    if choice is None:
        choice = choose(table, default, seed=seed, **options)
    noisy = None if stability is None else summarise_stability(stability)
    plateaus = find_plateaus(table, seed=seed)
    stable = choose_stable(plateaus, admissible=choice.admissible) if choice.admissible.any() else None
    if stable is not None and math.isnan(stable.worst_step):
        stable = None
    return TuningSummary(
        title=title,
        convention=convention,
        choice=choice,
        plateaus=plateaus,
        stable=stable,
        cards=effect_cards(table, default),
        notices=find_warnings(table, choice.best, hypotheses=hypotheses),
        stability=noisy,
        manifest={} if manifest is None else manifest,
    )


def summary_markdown(summary: TuningSummary) -> str:
    """The summary as GitHub-flavoured Markdown."""
    parts = [f"# {escape(summary.title)}", escape(summary.verdict)]
    if summary.convention:
        parts.append(f"DER with {escape(summary.convention)}.")
    parts.append(_table(numbers_table(summary)))
    parts += ["## Parameters", _table(parameters_table(summary))]
    if summary.notices:
        parts += ["## Warnings", "\n".join(f"- {escape(notice.text)}" for notice in summary.notices)]
    if summary.cards:
        parts += ["## What each parameter does on these recordings"]
        parts += [escape(NEEDS_GRID)] if summary.is_scattered else []
        parts.append(
            "\n".join(f"- **{escape(card.parameter)}.** {escape(card.words)}" for card in summary.cards)
        )
    if summary.stability is not None:
        parts += ["## Under noise in the embeddings", _table(stability_table(summary))]
    parts += ["## Recordings", _table(recordings_table(summary))]
    if left := len(summary.choice.per_recording) - MOST_ROWS:
        parts += [f"and {left} more"] if left > 0 else []
    parts += ["## How this was computed", "\n".join(f"- {escape(line)}" for line in methods(summary))]
    if files := manifest_lines(summary):
        parts += ["## Inputs", "\n".join(f"- {escape(line)}" for line in files)]
    return "\n\n".join(parts) + "\n"


def numbers_table(summary: TuningSummary) -> pd.DataFrame:
    """The figures to quote, each with its name."""
    choice = summary.choice
    stable = summary.stable
    rows = [
        ("Default", _with_interval(choice.interval_default)),
        ("Best cell, on the recordings it was chosen on", _with_interval(choice.interval_best)),
        ("Best cell, chosen without the recordings it is judged on", points(choice.der_out_of_fold)),
        ("Winner's curse (the difference of these two)", _points_of(choice.optimism)),
        (
            "Change against the default, bounds corrected for the search",
            _with_interval(choice.gain, signed=True),
        ),
        ("p, corrected for the search", _p(choice.p)),
        ("p as if nothing had been searched", _p(choice.p_alone)),
        ("Gain that this search could find (power 80 %)", _points_of(choice.minimum_detectable)),
        ("Cells not significantly worse than the best", f"{choice.not_worse.sum()} of {len(choice.table)}"),
        (
            "Folds that choose the most chosen cell",
            f"{choice.times_chosen} of {choice.num_folds} ({choice.table.name(choice.most_chosen)})",
        ),
        ("Every recording with its own best cell (at best)", points(choice.der_own)),
    ]
    if stable is not None:
        rows.append(
            (
                "Steadiest cell: DER, and of its worst neighbour",
                f"{points(stable.der)}, {points(stable.worst_step)} ({choice.table.name(stable.cell)})",
            )
        )
    return pd.DataFrame(rows, columns=["", "DER"])


def parameters_table(summary: TuningSummary) -> pd.DataFrame:
    """Value of every swept parameter in the default and the chosen cells."""
    choice = summary.choice
    columns: dict[str, Mapping[str, Any]] = {}
    if choice.default is not None:
        columns["default"] = choice.table.values(choice.default)
    elif choice.default_values is not None:
        columns["default"] = choice.default_values
    columns["best"] = choice.table.values(choice.best)
    if choice.most_chosen != choice.best:
        columns["most chosen"] = choice.table.values(choice.most_chosen)
    if summary.stable is not None:
        columns["steadiest"] = choice.table.values(summary.stable.cell)
    rows = []
    for name in choice.table.parameters:
        row = {"parameter": name}
        for column, values in columns.items():
            criterion = str(values.get("ahc_criterion", "distance"))
            row[column] = describe_parameter(name, values.get(name), ahc_criterion=criterion)
        width = f"width_{name}"
        row["plateau (cells)"] = (
            str(summary.plateaus[width].iloc[choice.best]) if width in summary.plateaus else "–"
        )
        rows.append(row)
    return pd.DataFrame(rows)


def recordings_table(summary: TuningSummary) -> pd.DataFrame:
    """One row per recording, the largest change for the worse first."""
    rows = summary.choice.per_recording
    has_default = rows["der_default"].notna().any()
    rows = rows.sort_values("change" if has_default else "der_best", ascending=False).head(MOST_ROWS)
    known = rows["num_reference_speakers"] >= 0
    reference = rows["num_reference_speakers"].astype(str).where(known, "–")
    columns = {
        "recording": rows["uri"],
        "default": rows["der_default"].map(points),
        "best cell": rows["der_best"].map(points),
        "change": rows["change"].map(_points_of),
        "own best cell": rows["der_own"].map(points),
        "speakers found": rows["num_speakers_best"].astype(str),
        "in reference": reference,
    }
    return pd.DataFrame(columns).drop(columns=[] if has_default else ["default", "change"])


def stability_table(summary: TuningSummary) -> pd.DataFrame:
    """What noise of each level does to the tested cells."""
    assert summary.stability is not None
    rows = summary.stability
    return pd.DataFrame(
        {
            "cell": [summary.choice.table.name(int(cell)) for cell in rows["cell"]],
            "noise": [f"{level:g}" for level in rows["level"]],
            "runs with any label moved": [f"{100 * share:.0f} %" for share in rows["changed_share"]],
            "speech moved": rows["cross_der"].map(points),
            "DER": [
                f"{points(clean)} ({points(low)} to {points(high)})"
                for clean, low, high in zip(rows["der_clean"], rows["der_low"], rows["der_high"], strict=True)
            ],
        }
    )


def methods(summary: TuningSummary) -> list[str]:
    """How the numbers came about, to be copied into a paper."""
    choice = summary.choice
    count, cells = len(choice.table.uris), len(choice.table)
    folds = (
        "one recording at a time"
        if choice.num_folds == count
        else f"one of {choice.num_folds} groups of recordings at a time"
    )
    lines = [
        f"{cells} cells on {count} recordings; DER pooled over the recordings (sum of errors over sum of "
        "reference speech).",
        f"Out of fold: the cell is chosen again without {folds}, and judged on what was left out.",
        "p: errors of a cell and of the default are swapped recording by recording, all cells together; "
        "the largest standardised difference of any cell is the reference distribution (Westfall and Young "
        "1993). Two-sided. The bounds of the change hold for all cells at once.",
        "What that p assumes: where nothing changes, differences lie symmetrically around 0. If the default "
        "never varies and every cell has equally distributed but skewed noise, a change is recommended in "
        "21 % (10 recordings) to 31 % (20 recordings) of 300 simulated runs.",
        "Intervals of single DERs: recordings drawn again, expanded percentiles (Hesterberg 2015); that of "
        "the best cell ignores that it was searched for.",
        "Own best cell: the lowest DER of each recording among all cells, a bound that no choice reaches.",
    ]
    if choice.criterion == "plateau":
        lines.append("Chosen: the cell whose worst neighbour within one grid step has the lowest DER.")
    if choice.max_loss is not None:
        lines.append(
            f"Allowed: cells that lose at most {100 * choice.max_loss:g} points against the default on every "
            f"recording ({int(choice.admissible.sum())} of {cells})."
        )
    return lines


def manifest_lines(summary: TuningSummary) -> list[str]:
    """Command, versions and the digests of all inputs."""
    manifest = summary.manifest
    lines = [f"command: {manifest['command']}"] if "command" in manifest else []
    software = manifest.get("software", {})
    if software:
        packages = ", ".join(f"{name} {version}" for name, version in software.get("packages", {}).items())
        revision = f" ({software['revision']})" if software.get("revision") else ""
        lines.append(
            f"software: workbench {software.get('workbench', '')}{revision}, "
            f"Python {software.get('python', '')}, {packages}"
        )
    files = [
        f"{role}: {path}, sha256 {about['sha256']}"
        for role, entries in manifest.get("files", {}).items()
        for path, about in entries.items()
    ]
    lines += files[:MOST_ROWS]
    if len(files) > MOST_ROWS:
        lines.append(f"and {len(files) - MOST_ROWS} more files, listed in the manifest")
    return lines


def escape(text: str) -> str:
    r"""`text` with Markdown's own characters made harmless: ids of recordings hold underscores and pipes.

    Examples
    --------
    >>> print(escape("a_b|c<d>"))
    a\_b\|c&lt;d&gt;
    >>> print(escape("Fa & Fb of a&amp;b"))
    Fa & Fb of a&amp;amp;b
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)  # any other & is read as it stands
    text = " ".join(text.splitlines()).replace("\\", "\\\\").replace("<", "&lt;").replace(">", "&gt;")
    for character in "`*_[]|~$":
        text = text.replace(character, f"\\{character}")
    return text


def _table(table: pd.DataFrame) -> str:
    """A table as Markdown."""

    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(escape(str(cell)) for cell in cells)} |"

    head = [line(list(table.columns)), f"|{' --- |' * len(table.columns)}"]
    return "\n".join([*head, *(line(row) for row in table.itertuples(index=False))])


def _with_interval(interval: Interval, signed: bool = False) -> str:
    if math.isnan(interval.estimate):
        return "–"
    shown = _points_of if signed else points
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return shown(interval.estimate)
    bounds = f"{shown(interval.low)} to {shown(interval.high)}"
    return f"{shown(interval.estimate)} ({100 * interval.level:g} %: {bounds})"


def _points_of(rate: float) -> str:
    """A difference of rates in points, with its sign."""
    return "–" if math.isnan(rate) else f"{100 * rate:+.2f} points"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else format_value(float(f"{value:.2g}"))
