"""What the parity screen says in words, live and in the page without a kernel."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd

from workbench.agreement import ParityResult
from workbench.agreement.conditions import ConditionsTable, compare_conditions
from workbench.agreement.flips import class_name
from workbench.plots import theme
from workbench.plots.parity import ParityScene
from workbench.plots.parity_lanes import flip_classes
from workbench.plots.words import clock, count_of, region, shortened

_MARKS = {"fault": "✗", "warning": "!", "note": "·"}
_SHOWN = {"provider": "provider", "tf32 products": "TF32", "threads": "threads", "denormals": "denormals"}
_MOST = 3  # findings that stand in the open


def verdict_html(result: ParityResult) -> str:
    """How much differs, whether it was close, what it costs; then what was found."""
    findings = sorted(result.all_findings, key=lambda each: list(_MARKS).index(each.severity))
    findings = [each for each in findings if each.severity != "note"]
    lines = [f"<b>{html.escape(result.verdict)}</b>"]
    lines += [f"{_MARKS[each.severity]} {html.escape(each.words)}" for each in findings[:_MOST]]
    rest = "".join(f"<li>{html.escape(each.words)}</li>" for each in findings[_MOST:])
    title = count_of(len(findings) - _MOST, "more finding")
    more = f"<details><summary>{title}</summary><ul>{rest}</ul></details>" if rest else ""
    failed = [f"✗ {html.escape(uri)}: {html.escape(problem)}" for uri, problem in result.failed]
    return f'<div class="wb-tuning">{"<br>".join([*lines, *failed])}{more}</div>'


def conditions_html(result: ParityResult) -> str:
    """What was observed on both sides, in one line; everything behind a click."""
    tables = [result.conditions.get(side) for side in ("baseline", "candidate")]
    known = [table for table in tables if table is not None]
    if not known:
        return '<div class="wb-notices">Conditions: not observed (recorded folders, or checks were off)</div>'
    words = []
    for row in known[0].rows:
        if len(known) == 2 and row.name in _SHOWN:
            words.append(f"{_SHOWN[row.name]} {_pair(tables, row.name)}")
        elif len(known) == 1 and row.name in _SHOWN:
            words.append(f"{_SHOWN[row.name]} {html.escape(shortened(row.observed, 28))}")
    body = "".join(_rows(tables))
    if len(known) == 2:
        different = compare_conditions(known[0], known[1])
        names = different.loc[~different["same"], "condition"].tolist()
        words.append(f"{count_of(len(names), 'condition')} differ" + ("s" if len(names) == 1 else ""))
    return (
        f'<div class="wb-notices"><details><summary>Conditions observed: {" · ".join(words)}</summary>'
        '<table class="wb-conditions"><tr><th>condition</th><th>baseline</th><th>candidate</th></tr>'
        f"{body}</table></details></div>"
    )


def _pair(tables: list[ConditionsTable | None], name: str) -> str:
    found = [table[name] for table in tables if table is not None]
    none = {"not applicable": "n/a", "not observed": "?"}
    both = [none.get(row.status, shortened(row.observed, 28)) for row in found]
    text = both[0] if both[0] == both[1] else " / ".join(both)
    return html.escape(text)


def _rows(tables: list[ConditionsTable | None]) -> list[str]:
    first = next(table for table in tables if table is not None)
    rows = []
    for row in first.rows:
        cells = []
        for table in tables:
            if table is None:
                cells.append("recorded")
                continue
            try:
                found = table[row.name]
                cells.append(f"{html.escape(found.observed)} <i>({found.status})</i>")
            except KeyError:
                cells.append("–")
        rows.append(f"<tr><td>{row.name}</td><td>{cells[0]}</td><td>{cells[1]}</td></tr>")
    return rows


def flip_words(scene: ParityScene, flip: pd.Series) -> str:
    """One flip: what changed, how close it was, and what the pipeline made of it."""
    names = [
        "NaN" if place < 0 else class_name(scene.classes[int(place)])
        for (place,) in flip_classes(flip.to_frame().T)
    ]
    kind = theme.FLIPS["near_tie" if flip["near_tie"] else "real"].name
    margin, difference = float(flip["margin"]), float(flip["difference"])
    bound = "≤" if flip["within_bound"] else ">"
    return (
        f"{scene.uri} · {clock(float(flip['time']), 3)} · {kind} flip {names[0]} → {names[1]} · margin "
        f"{margin:.3g} {bound} 2 × {difference:.3g} nats · {consequence_words(scene, flip)}"
    )


def consequence_words(scene: ParityScene, flip: pd.Series) -> str:
    """What became of a flip."""
    if "after_median" not in flip:
        return "not followed to the output"
    if not flip["after_median"]:
        return "the median filter removes it"
    if not flip["in_output"] or int(flip["region"]) < 0:
        return "survives the median filter, the other chunks outvote it"
    row = scene.ledger.iloc[int(flip["region"])]
    return f"changes the output: {ledger_words(row)}"


def ledger_words(row: pd.Series) -> str:
    """One region in which the outputs differ."""
    kinds = [f"{style.name} {row[kind]:.2f} s" for kind, style in theme.ERRORS.items() if row[kind] > 0]
    who = f"{row['baseline']} → {row['candidate']}"
    text = f"{row['start']:.2f}–{row['end']:.2f} s, {' + '.join(kinds)} ({who})"
    if "der_seconds" in row and abs(float(row["der_seconds"])) > 1e-9:
        text += f", {float(row['der_seconds']):+.2f} s of error against the reference"
    return text


def region_counts(scene: ParityScene, start: float, end: float) -> dict[str, float]:
    """Flips, and seconds of output that differ, between `start` and `end` (s)."""
    times = scene.flips["time"].to_numpy()
    rows = slice(np.searchsorted(times, start, "left"), np.searchsorted(times, end, "right"))
    part = scene.flips.iloc[rows]
    seconds = 0.0
    if len(scene.ledger):
        low = np.maximum(scene.ledger["start"].to_numpy(dtype=float), start)
        high = np.minimum(scene.ledger["end"].to_numpy(dtype=float), end)
        whole = (scene.ledger["end"] - scene.ledger["start"]).to_numpy(dtype=float)
        share = np.clip(high - low, 0, None) / np.where(whole > 0, whole, 1)
        seconds = float((share * scene.ledger["seconds"].to_numpy(dtype=float)).sum())
    near = int(part["near_tie"].sum()) if len(part) else 0
    counts = {"flips": len(part), "near_tie": near, "real": len(part) - near, "seconds": seconds}
    if "in_output" in part:
        counts["in_output"] = int(part["in_output"].sum())
    return counts


def region_words(scene: ParityScene, start: float, end: float, brushed: bool) -> str:
    """The same in one line."""
    counts = region_counts(scene, start, end)
    what = "Marked" if brushed else "In view"
    words = [
        f"<b>{what} {region(start, end)}</b>: {count_of(int(counts['flips']), 'flip')}",
        f"{counts['near_tie']:.0f} near-tie, {counts['real']:.0f} real",
    ]
    if "in_output" in counts:
        words.append(f"{counts['in_output']:.0f} reach the output")
    words.append(f"outputs differ by {counts['seconds']:.2f} s")
    if not brushed:
        words.append("<i>drag: mark</i> counts a region")
    return f'<span class="wb-about">{" · ".join(words)}</span>'
