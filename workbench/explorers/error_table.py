"""Errors as a table to click in, and the same table where there is no kernel."""

from __future__ import annotations

import html
from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from workbench.plots import theme
from workbench.plots.words import clock, count_of, speaker_name

MOST_ROWS = 300  # shown at once; filters lead to the others


class ErrorTable(anywidget.AnyWidget):
    """Errors, one row each; `picked` tells which one was clicked."""

    _esm = Path(__file__).with_name("error_table.js")
    _css = Path(__file__).with_name("error_table.css")

    rows: traitlets.List = traitlets.List().tag(sync=True)  # kind, colour, then a text per column
    note = traitlets.Unicode("").tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)  # row that is marked
    picked: traitlets.Dict = traitlets.Dict().tag(sync=True)  # index of a row, and when

    def show(self, errors: pd.DataFrame, num_unfiltered: int) -> None:
        """Replace the rows; of too many only the first are shown, and the note says so."""
        with self.hold_sync():
            self.rows, self.note, self.selected = rows_of(errors), note_of(errors, num_unfiltered), -1


def rows_of(errors: pd.DataFrame) -> list[list[str]]:
    """What the table shows of every error: kind, colour of the kind, then its cells."""
    columns = ["uri", "start", "end", "duration", "kind", "reference_speaker", "hypothesis_speaker"]
    rows = []
    for row in errors[columns].head(MOST_ROWS).to_numpy(dtype=object):
        uri, start, end, duration, kind, *sides = row
        style = theme.KINDS[kind]
        who = ["–" if speaker is None else speaker_name(speaker) for speaker in sides]
        times = f"{clock(start, 3)} – {clock(end, 3)}"
        rows.append([kind, style.color, uri, times, f"{duration:.2f} s", style.name, *who])
    return rows


def note_of(errors: pd.DataFrame, num_unfiltered: int) -> str:
    """How many errors there are, how long together, and how many are not shown."""
    if errors.empty:
        return "No error is left: choose other filters" if num_unfiltered else "No error at all"
    text = f"{count_of(len(errors), 'error')}, {errors['duration'].sum():.1f} s"
    if len(errors) < num_unfiltered:
        text += f", of {num_unfiltered}"
    if len(errors) > MOST_ROWS:
        text += f" · the longest {MOST_ROWS} are listed; exports hold all of them"
    return text


def table_html(errors: pd.DataFrame, num_unfiltered: int) -> str:
    """The same table without a kernel."""
    titles = ("recording", "from – to", "duration", "what", "reference", "hypothesis")
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = []
    for _, color, *texts in rows_of(errors):
        cells = [html.escape(str(text)) for text in texts]
        cells[3] = f'<span class="wb-chip" style="background:{color}"></span>{cells[3]}'
        body.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    style = Path(__file__).with_name("error_table.css").read_text(encoding="utf-8")
    return (
        f'<style>{style}</style><div class="wb-errors"><div class="wb-errors-frame">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f'<div class="wb-errors-note">{html.escape(note_of(errors, num_unfiltered))}</div></div>'
    )
