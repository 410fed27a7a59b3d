"""What `workbench sweep` says while it works, and in the end."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Progress, plural

if TYPE_CHECKING:
    from workbench.tuning.folder import Best


class Counter:
    """Tells the progress bar what is done, and says when a recording is finished."""

    def __init__(self, progress: Progress, num_recordings: int):
        self._progress, self._num_recordings = progress, num_recordings
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._found = 0
        self._began = time.monotonic()
        self._said = self._began

    def block(self, uri: str, done: int, total: int) -> None:
        """A block of a grid is done; the first call for a recording tells what was there before."""
        if uri not in self._done:
            self._found += done
        before = self._done.get(uri)
        self._progress.advance(done - (before or 0))
        self._done[uri], self._total[uri] = done, total
        finish_at = self._finish_at(sum(self._done.values()) - self._found, self._num_left())
        self._progress.start(f"{uri}, ready at {finish_at}" if finish_at else uri)
        if before is not None and done == total and before < done:
            finished = sum(self._done[each] == self._total[each] for each in self._done)
            until = f", ready at {finish_at}" if finish_at and finished < self._num_recordings else ""
            self._progress.say(f"[{finished}/{self._num_recordings}] {uri}: {plural(total, 'cell')}{until}")

    def trial(self, done: int, total: int) -> None:
        """A trial is done."""
        self._progress.advance(self._num_recordings)
        finish_at = self._finish_at(done, total - done)
        self._progress.start(f"trial {done}, ready at {finish_at}" if finish_at else f"trial {done}")
        now = time.monotonic()
        if done == total or now - self._said > 10:
            self._said = now
            self._progress.say(f"[{done}/{total}] trials" + (f", ready at {finish_at}" if finish_at else ""))

    def _num_left(self) -> int:
        """Cells still to do; recordings not heard of yet count like the others."""
        return sum(self._total.values()) - sum(self._done.values())

    def _finish_at(self, done: int, left: int) -> str | None:
        """Time of day at which the rest will be done at the pace so far."""
        elapsed = time.monotonic() - self._began
        if done <= 0 or elapsed < 1:
            return None
        return time.strftime("%H:%M:%S", time.localtime(time.time() + elapsed * left / done))


def warnings_about(best: Best, report: dict[str, Any]) -> list[str]:
    """What a reader of the best parameters must know."""
    lines = []
    if not best.feasible:
        lines.append("no combination keeps --max-worse on every recording; the best of all is named")
    return lines + report.get("choice", {}).get("warnings", [])


def format_result(report: dict[str, Any], out: Path) -> str:
    """The best combination beside the parameters to begin with, and what the difference is worth."""
    from workbench.tuning.folder import percent

    best, default = report["best"], report["default"]
    names = [*report["grid"], "DER", "missed", "false alarm", "confusion", "JER", "speaker count error"]

    def column(entry: dict[str, Any]) -> list[str]:
        total = entry["total"] or float("nan")
        parts = [percent(entry[name] / total) for name in ("missed", "false_alarm", "confusion")]
        values = ["-" if value is None else f"{value}" for value in entry["parameters"].values()]
        rates = [percent(entry["der"]), *parts, percent(entry["jer"])]
        return [*values, *rates, f"{entry['num_speakers_error']:.2f}"]

    rows = list(zip(names, column(best), column(default), strict=True))
    widths = [max(len(row[place]) for row in [*rows, ("", "best", "default")]) for place in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {one:>{widths[1]}}  {other:>{widths[2]}}"
        for name, one, other in [("", "best", "default"), *rows]
    ]
    ties = f" ({plural(best['equal_cells'], 'more combination')} just as good)" if best["equal_cells"] else ""
    head = (
        f"{plural(report['cells'], 'combination')} on {plural(len(report['recordings']), 'recording')}, "
        f"{report['rows_computed']} rows computed, {report['rows_found']} found, "
        f"{report['timing']['seconds']:.1f} s"
    )
    worth = textwrap.wrap(report["choice"]["words"], 100) if "choice" in report else []
    return "\n".join([head, "", *lines, "", *worth, "", f"written to {out}{ties}"])
