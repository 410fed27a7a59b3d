"""Where the error comes from: from a corpus to a recording, to one error, to its sound."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from pyannote.core import Annotation, Timeline

from workbench.audio import crop_audio
from workbench.error_files import write_errors
from workbench.errors import InputError
from workbench.explorers.breakdown_controls import ALL, BOTH, CHANGES, HINT, KINDS, SILENT
from workbench.explorers.breakdown_scoring import ScoredScreen
from workbench.explorers.breakdown_sound import SoundControls
from workbench.explorers.breakdown_words import CONTEXT, order_recordings, systems_html, verdict_html
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.error_table import MOST_ROWS, table_html
from workbench.explorers.headline import static_page
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.playback import CLIP_LIMIT, wav_bytes
from workbench.explorers.redraw import TimeAxis, update_layout, update_traces
from workbench.plots.breakdown import LANES, Scene, plot_breakdown, plot_lanes
from workbench.plots.breakdown_panels import Parts
from workbench.plots.lanes import describe_errors
from workbench.plots.spectrogram import Sound
from workbench.plots.words import convention, count_of, matched_name, region, speaker_name
from workbench.review import Review, filter_errors
from workbench.spectrogram import spectrogram

MOST_EMBEDDED = 700_000  # bytes of a clip in a page without a kernel: about 20 s
BESIDE = 2.0  # s played on each side of a change of speaker


def explore_errors(
    references: str | Path | Mapping[str, Annotation],
    systems: Mapping[str, str | Path | Mapping[str, Annotation]],
    audio: str | Path | list[str | Path] | Mapping[str, Path] | None = None,
    uem: str | Path | Mapping[str, Timeline] | None = None,
    *,
    collar: float = 0.0,
    recording: str | None = None,
) -> ErrorScreen:
    """Recordings of one or several systems, who was taken for whom, and every error with its sound.

    Parameters
    ----------
    references : RTTM file, folder of them, or uri -> Annotation
    systems : name -> RTTM file, folder of them, or uri -> Annotation
        The first is A, the second B; others can be chosen.
    audio : files and folders of recordings, or uri -> path, optional
    uem : UEM file, or uri -> Timeline, optional
    collar : s left out on each side of a boundary; the switch goes between none and this, or 0.25 s
    recording : name of the recording to begin with; by default the worst
    """
    return ErrorScreen(Review(references, systems, audio, uem), collar=collar, recording=recording)


class ErrorScreen(ScoredScreen, SoundControls):
    """The screen behind `explore_errors`; its controls are attributes.

    Attributes
    ----------
    figure : plotly.graph_objects.FigureWidget
    errors : strip that shows what went wrong
    selection : uri, start and end (s); None while nothing is selected
    """

    def __init__(self, review: Review, *, collar: float = 0.0, recording: str | None = None):
        if recording is not None and recording not in review.uris:
            raise InputError(f"no recording {recording!r}; there are {', '.join(review.uris)}")
        self.review = review
        self.errors = ErrorStrip()
        self.selection: tuple[str, float, float] | None = None
        self._sound: Sound | None = None
        self._busy = False  # while controls are set by the program
        self._build_controls(review, collar)
        self._prepare_first(recording)
        self._scene = self._compose()
        self._screen = plot_breakdown(self._scene)
        self.figure = LiveFigure(self._screen.figure)
        self._time = TimeAxis(self.figure, lambda: self._scene.duration, self.errors.guard(self._zoomed))
        self._list()
        self._say()
        self._listen()
        super().__init__(self._rows())
        self.add_class("wb-screen")
        self.progress.layout.display = "none"

    # -- the screen ----------------------------------------------------------------------------

    def _listen(self) -> None:
        """Connect every control; ipywidgets would drop the errors of unguarded callbacks."""
        guard = self.errors.guard
        for control in (self.first, self.second, self.collar, self.overlap, self.recording):
            control.observe(guard(self._rescore), names="value")
        for control in (self.sort, self.detail):
            control.observe(guard(self._arrange), names="value")
        for control in (self.by, self.pooled):
            control.observe(guard(self._divide), names="value")
        for control in (self.listed, self.scope, self.kind, self.shortest, self.speaker):
            control.observe(guard(self._list), names="value")
        self.table.observe(guard(self._picked), names="picked")
        self.player.observe(guard(self._play_again), names="request")
        self.before.on_click(guard(lambda _button: self._play_beside(-1)))
        self.after.on_click(guard(lambda _button: self._play_beside(+1)))
        self.play_voice.on_click(guard(self._play_speaker))
        self.export.on_click(guard(self._export))
        for trace in self.figure.data:
            if trace.name in LANES:
                trace.on_click(guard(self._clicked))
            elif trace.name.startswith("recordings"):
                trace.on_click(guard(self._chosen))
            elif trace.name == "confusion":
                trace.on_click(guard(self._cell))

    # -- what is shown -------------------------------------------------------------------------

    @property
    def _stretch(self) -> tuple[float, float] | None:
        """Start and end (s) of the selection."""
        return None if self.selection is None else self.selection[1:]

    def _compose(self) -> Scene:
        uri, params = self.recording.value, self.params
        by = self.by.value
        note = f"all {count_of(len(self.review.uris), 'recording')}" if self.pooled.value else ""
        tables = [self.review.breakdown(system, params, by, self._parts_of) for system in self._systems]
        changes = None
        if len(self._systems) > 1:
            first, second = self._systems
            changes = self.review.changes(first, second, params, uri)
        return Scene(
            uri=uri,
            duration=self.review.duration(uri),
            reference=self.review.turns(uri),
            views=[self.review.view(system, uri, params) for system in self._systems],
            scores=self._scores(),
            order=order_recordings(self._scores(), self.sort.value),
            parts=Parts.of(by, tables, note),
            changes=changes,
            detail=self.detail.value,
            has_audio=uri in self.review.audio,
        )

    def _say(self) -> None:
        self.headline.value = systems_html(self._scores(), self.params)
        comparison = None
        if len(self._systems) > 1:
            comparison = self.review.compare(self.first.value, self.second.value, self.params)
        self.verdict.value = verdict_html(comparison, self.review.remarks)

    def _show(self) -> None:
        self._redraw()
        self._list()
        self._say()

    def _rescore(self, _change: Any = None) -> None:
        """Other systems, another way to count, or another recording, whose time axis begins anew."""
        if not self._busy:
            self._deselect()
            self._prepare(self._show)

    def _divide(self, _change: Any = None) -> None:
        """Other parts, or of other recordings."""
        self._prepare(self._redraw)

    def _arrange(self, _change: Any = None) -> None:
        """The same, sorted otherwise, or the confusions of the other system."""
        if not self._pending:  # it is drawn once it is scored
            self._redraw()

    def _redraw(self) -> None:
        keep_axis = self._scene.uri == self.recording.value
        self._scene = self._compose()
        self._screen = plot_breakdown(
            self._scene,
            view=self._view() if keep_axis else None,
            selection=self._stretch,
            sound=self._sound,
        )
        self._busy = True
        try:
            with self.figure.batch_update():
                update_traces(self.figure, self._screen.figure)
                update_layout(self.figure, self._screen.figure, keep=("xaxis",) if keep_axis else ())
        finally:
            self._busy = False

    def _view(self) -> tuple[float, float]:
        """Start and end (s) of what is visible."""
        return self._time.read()

    def _zoomed(self) -> None:
        """Draw what is in view now; nothing but the lanes changes."""
        if self._busy:
            return
        self._busy = True
        try:
            lanes = plot_lanes(self._scene, self._view())
            self._screen.tables.update(lanes.tables)
            with self.figure.batch_update():
                update_traces(self.figure, lanes.figure)
        finally:
            self._busy = False

    # -- the table -----------------------------------------------------------------------------

    def _list(self, _change: Any = None) -> None:
        """Fill the table with the errors that the filters let through."""
        if self._busy or self._pending:  # it is filled once they are counted
            return
        self._busy = True
        try:
            kinds = CHANGES if self._lists_changes else KINDS
            if self.kind.options != tuple(kinds):
                self.kind.options, self.kind.value = kinds, ALL
            everyone = self._listed_errors(filtered=False)
            pairs = everyone[["reference_speaker", "hypothesis_speaker"]].to_numpy(dtype=object).ravel()
            found = sorted({who for who in pairs if who is not None}, key=str)
            chosen = self.speaker.value if self.speaker.value in found else ALL
            self.speaker.options = [("all", ALL), *((speaker_name(who), who) for who in found)]
            self.speaker.value = chosen
            speakers = sorted(self._scene.reference["speaker"].unique(), key=str)
            kept = self.voice.value if self.voice.value in speakers else ALL
            self.voice.options = [("a speaker …", ALL), *((str(who), who) for who in speakers)]
            self.voice.value = kept
        finally:
            self._busy = False
        self.table.show(self.listed_errors(), len(everyone))

    def listed_errors(self) -> pd.DataFrame:
        """The errors in the table, all of them, longest first."""
        return self._listed_errors(filtered=True)

    def _listed_errors(self, filtered: bool) -> pd.DataFrame:
        where = None if self.scope.value else self.recording.value
        if self._lists_changes:
            first, second = self._systems
            errors = self.review.changes(first, second, self.params, where)
        else:
            system = self._systems[min(self.listed.value, len(self._systems) - 1)]
            errors = self.review.errors(system, self.params, where)
        if not filtered:
            return errors
        speaker = None if self.speaker.value == ALL else self.speaker.value
        return filter_errors(
            errors, kind=self.kind.value or None, min_duration=self.shortest.value, speaker=speaker
        )

    @property
    def _lists_changes(self) -> bool:
        """Whether the table holds what B fixed and broke."""
        return self.listed.value == BOTH and len(self._systems) > 1

    def _export(self, _button: Any = None) -> None:
        if not self.path.value.strip():
            raise InputError("name a file to write the errors to, without its ending")
        written = write_errors(f"{self.path.value.strip()}{self.format.value}", self.listed_errors())
        names = ", ".join(path.name for path in written[:3]) + (" …" if len(written) > 3 else "")
        self.exported.value = f'<span class="wb-about">{len(self.listed_errors())} errors in {names}</span>'

    # -- selection -----------------------------------------------------------------------------

    def _chosen(self, _trace: Any, points: Any, _state: Any) -> None:
        """A recording of the overview."""
        if points.point_inds:
            self.recording.value = self._scene.order[points.point_inds[0]]

    def _cell(self, _trace: Any, points: Any, _state: Any) -> None:
        """A cell of the confusions: list the errors behind it."""
        if not points.point_inds:
            return
        (row, column) = points.point_inds[0]
        matrix = self._scene.confusion
        is_missed, is_nobody = column == matrix.shape[1] - 1, row == len(matrix) - 1
        self._busy = True
        try:
            self.listed.value, self.scope.value = self.detail.value, False
            self.kind.value = "missed" if is_missed else "false_alarm" if is_nobody else "confusion"
        finally:
            self._busy = False
        self._list()
        wanted = matrix.columns[column] if is_nobody else matrix.index[row]
        if wanted in [value for _, value in self.speaker.options]:
            self.speaker.value = wanted

    def _clicked(self, trace: Any, points: Any, _state: Any) -> None:
        """Something in a lane: say it in words, play it."""
        table = self._screen.tables[trace.name]
        if not points.point_inds or points.point_inds[0] >= len(table):
            return  # drawn before the last redraw
        row = table.iloc[points.point_inds[0]]
        is_error = trace.name.startswith("errors")
        is_change = trace.name == "changes"
        number = (LANES.index(trace.name) - 1) % 2
        if is_error:
            what = f"{'AB'[number]}: {describe_errors(row.to_frame().T)[0]}"
        elif is_change:
            what = f"B {describe_errors(row.to_frame().T)[0]}"
        elif trace.name == "reference":
            what = f"reference {row['speaker']}"
        else:
            view = self._scene.views[number]
            what = f"{'AB'[number]}: {matched_name(row['speaker'], view.matching, True)}"
        self._select(row["start"], row["end"], what, CONTEXT)

    def _picked(self, change: Any) -> None:
        """A row of the table: go where it is, say it, play it."""
        errors = self.listed_errors().head(MOST_ROWS)
        index = int(change["new"].get("index", -1))
        if not 0 <= index < len(errors):
            return
        error = errors.iloc[index]
        if error["uri"] != self.recording.value:
            self._busy = True
            try:
                self.recording.value = error["uri"]
            finally:
                self._busy = False
            self._redraw()
        letter = "B" if self._lists_changes else f"{'AB'[min(self.listed.value, len(self._systems) - 1)]}:"
        what = f"{letter} {describe_errors(error.to_frame().T)[0]}"
        self._bring_into_view(error["start"], error["end"])
        self._select(error["start"], error["end"], what, CONTEXT)
        self.table.selected = index

    def _bring_into_view(self, start: float, end: float) -> None:
        """Move the time axis where the stretch is out of view or too small to be seen."""
        low, high = self._view()
        if low <= start and end <= high and (end - start) > 0.004 * (high - low):
            return
        width = min(max(12 * (end - start), 20.0), self._scene.duration)
        low = min(max((start + end - width) / 2, 0.0), self._scene.duration - width)
        self._time.show(low, low + width)

    def _deselect(self) -> None:
        self.selection, self._sound, self._replay = None, None, None
        self.player.text = HINT if self.review.audio else SILENT

    def _select(self, start: float, end: float, what: str, context: float) -> None:
        uri = self.recording.value
        self.selection = (uri, float(start), float(end))
        self.table.selected = -1
        words = f"{uri} · {region(start, end)} · {what} · {end - start:.1f} s"
        if uri not in self.review.audio:
            self.player.text = f"{words} · no audio"
            self._mark(None)
            return
        clip_start = max(start - context, 0.0)
        clip_end = min(end + context, self._scene.duration, clip_start + CLIP_LIMIT)
        waveform = crop_audio(self.review.audio[uri], clip_start, clip_end)
        self._sound = Sound(spectrum=spectrogram(waveform), start=clip_start)
        self._mark(self._sound)
        self._play(words, wav_bytes(waveform), clip_start)

    def _mark(self, sound: Sound | None) -> None:
        """Show the selected stretch in the lanes, and its spectrogram."""
        self._sound = sound
        drawn = plot_breakdown(self._scene, view=self._view(), selection=self._stretch, sound=sound)
        self._busy = True
        try:
            with self.figure.batch_update():
                update_traces(self.figure, go.Figure(drawn.figure.data[-1:]))
                update_layout(self.figure, drawn.figure, keep=("xaxis",))
        finally:
            self._busy = False

    # -- the twin without a kernel -------------------------------------------------------------

    def to_html(self, include_plotlyjs: bool | str = False, full_html: bool = False) -> str:
        """The same picture with the same numbers and the listed errors, as HTML that needs no kernel.

        Parameters
        ----------
        include_plotlyjs : as plotly's: False if the page brings plotly.js itself, True to embed it
        full_html : a page of its own instead of a fragment
        """
        figure = go.Figure(
            plot_breakdown(self._scene, view=self._view(), selection=self._stretch, sound=self._sound).figure
        )
        words = "" if self.selection is None else self._heard()
        listed = table_html(self.listed_errors(), len(self._listed_errors(filtered=False)))
        lines = [self.headline.value, self.verdict.value, self.errors.value]
        page = f"{self.recording.value}: errors, {convention(self.collar.value, not self.overlap.value)}"
        return static_page(lines, figure, page, include_plotlyjs, full_html, below=[words, listed])

    def _heard(self) -> str:
        """The selection in words; a short clip comes along."""
        text = f'<div class="wb-selection">{html.escape(self.player.text)}</div>'
        if not self.player.wav or len(self.player.wav) > MOST_EMBEDDED:
            return text
        address = f"data:audio/wav;base64,{base64.b64encode(self.player.wav).decode('ascii')}"
        return f'{text}<audio controls preload="none" src="{address}"></audio>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live screen, or its twin where `WORKBENCH_STATIC` is 1 (`workbench report`)."""
        if os.environ.get("WORKBENCH_STATIC") == "1":
            return {"text/html": self.to_html(), "text/plain": f"ErrorScreen({self.recording.value})"}
        return super()._repr_mimebundle_(**kwargs)
