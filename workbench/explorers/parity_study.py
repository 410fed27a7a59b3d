"""What the parity screen asks for: pairs of runtimes, compared once, and what is seen of a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.agreement import Backend, ParityParams, ParityResult, parity
from workbench.agreement.frame_axis import FrameAxis
from workbench.agreement.layers import LadderResult, layer_ladder
from workbench.audio import audio_duration, crop_audio
from workbench.errors import InputError, RecordingError
from workbench.explorers.parity_canvas import LaneColumns
from workbench.plots.parity import ParityScene
from workbench.plots.parity_panels import FlipScores, cell_flips
from workbench.runtimes import Runtime, load_runtime

LADDER_SECONDS = 10.0  # of the recording that differs most, on which layers are compared
SAMPLE_RATE = 16000

Report = Callable[[str, float], None]
Source = Path | np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One comparison, with its layers."""

    result: ParityResult
    ladder: LadderResult | None = None
    ladder_note: str = ""  # why there are no layers

    @property
    def uris(self) -> list[str]:
        """Recordings that could be compared, worst first."""
        return list(self.result.damage.table["uri"])


@dataclass(kw_only=True, eq=False)
class ParityStudy:
    """Runtimes and recordings; every pair is compared when it is first asked for.

    Attributes
    ----------
    runtimes : name -> runtime string or loaded runtime
    recordings : uri -> file, or samples at 16 kHz
    pairs : (baseline, candidate) -> what was found
    """

    runtimes: Mapping[str, str | Runtime]
    recordings: Mapping[str, Source]
    references: Mapping[str, Annotation] | None = None
    uem: Mapping[str, Timeline] | None = None
    backend: Backend | None = None
    params: ParityParams = field(default_factory=ParityParams)
    collar: float = 0.0
    skip_overlap: bool = False
    with_ladder: bool = True
    pairs: dict[tuple[str, str], Pair] = field(default_factory=dict)
    _loaded: dict[str, Runtime] = field(default_factory=dict)
    _axes: dict[tuple[str, str, str], FrameAxis | None] = field(default_factory=dict)
    _flips: dict[tuple[str, str, str], pd.DataFrame] = field(default_factory=dict)
    _cells: dict[tuple[str, str, str], pd.DataFrame] = field(default_factory=dict)
    _columns: dict[tuple[str, str, str], LaneColumns] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.params = replace(self.params, keep_posteriors=True)

    @classmethod
    def of(
        cls,
        result: ParityResult,
        recordings: Mapping[str, Source] | None = None,
        ladder: LadderResult | None = None,
        params: ParityParams | None = None,
    ) -> ParityStudy:
        """A study of a comparison that is there already."""
        names = (result.baseline, result.candidate)
        if names[0] == names[1]:
            names = (names[0], f"{names[1]} (again)")
        note = "" if ladder is not None else "No layers: they were not asked for (<b>--layers</b>)"
        pair = Pair(result=result, ladder=ladder, ladder_note=note)
        return cls(
            runtimes=dict.fromkeys(names, ""),
            recordings=recordings or {},
            params=params or ParityParams(),
            pairs={names: pair},
        )

    def compare(self, names: tuple[str, str], report: Report, check: Callable[[], None]) -> Pair:
        """Both runtimes on all recordings, then layer by layer where they differ most."""
        if names in self.pairs:
            return self.pairs[names]
        if names[0] == names[1]:
            raise InputError(f"baseline and candidate are both {names[0]!r}: choose two different runtimes")
        report(f"loading {names[0]} and {names[1]}", 0.02)
        sides = [self._runtime(name) for name in names]
        steps, done = len(self.recordings) + int(self.with_ladder), 0

        def on_recording(uri: str, _row: Any, _error: str | None) -> None:
            nonlocal done
            check()
            done += 1
            report(f"{done} of {len(self.recordings)} recordings", done / steps)

        check()
        report(f"0 of {len(self.recordings)} recordings", 0.04)
        result = parity(
            sides[0],
            sides[1],
            dict(self.recordings),
            params=self.params,
            references=self.references,
            uem=self.uem,
            collar=self.collar,
            skip_overlap=self.skip_overlap,
            backend=self.backend,
            on_recording=on_recording,
        )
        if result.kind != "segmentation":
            raise InputError("explore_parity shows segmentation models; embedding models have no frames")
        if not result.compared:
            raise InputError("; ".join(problem for _, problem in result.failed) or "nothing was compared")
        check()
        ladder, note = None, ""
        if self.with_ladder:
            report("layer by layer", done / steps)
            ladder, note = self._ladder(sides, result)
        pair = Pair(result=result, ladder=ladder, ladder_note=note)
        self.pairs[names] = pair
        return pair

    def _runtime(self, name: str) -> Runtime:
        if name not in self._loaded:
            given = self.runtimes[name]
            self._loaded[name] = load_runtime(given, "segmentation") if isinstance(given, str) else given
        return self._loaded[name]

    def _ladder(self, sides: list[Runtime], result: ParityResult) -> tuple[LadderResult | None, str]:
        """Layers on the seconds that differ most."""
        row = result.recordings[str(result.damage.table["uri"].iloc[0])]
        if row.comparison is None or row.geometry is None:
            return None, "No layers: the two could not be laid on top of each other"
        recorded = any(type(side).__name__ == "RecordedRuntime" for side in sides)
        try:
            if recorded:  # stages are those of the whole recording
                heard = self.recordings[row.uri]
            else:
                chunk = int(row.comparison.difference.max(axis=1).argmax())
                start = min(chunk * row.geometry.chunk_step, max(row.duration - LADDER_SECONDS, 0.0))
                heard = self.heard(row.uri, start, min(start + LADDER_SECONDS, row.duration))
            return layer_ladder(sides[0], sides[1], {row.uri: heard}), ""
        except (InputError, RecordingError) as error:
            return None, f"No layers: {error}"

    # -- what is seen of a recording -----------------------------------------------------------

    def heard(self, uri: str, start: float, end: float) -> np.ndarray:
        """Samples between `start` and `end` (s), float32 at 16 kHz."""
        source = self.recordings[uri]
        if isinstance(source, Path):
            return crop_audio(source, start, end)
        first, last = (round(seconds * SAMPLE_RATE) for seconds in (start, end))
        return np.asarray(source[max(first, 0) : last], dtype=np.float32)

    def has_audio(self, uri: str) -> bool:
        """Whether there is something to hear."""
        source = self.recordings.get(uri)
        if isinstance(source, Path):
            try:
                return audio_duration(source) > 0
            except (InputError, RecordingError):
                return False
        return source is not None

    def scene(self, names: tuple[str, str], uri: str, all_transitions: bool) -> ParityScene:
        """What the screen shows of a recording."""
        pair, key = self.pairs[names], (*names, uri)
        row = pair.result.recordings[uri]
        if key not in self._axes:
            self._axes[key] = FrameAxis.of(row, self.params.segmentation_step)
            self._flips[key] = row.flips.sort_values("time", kind="stable", ignore_index=True)
            self._cells[key] = cell_flips(self._flips[key])
        ledger = pd.DataFrame() if row.consequences is None else row.consequences.ledger
        tables = pair.result.tables if all_transitions else row.tables
        return ParityScene(
            uri=uri,
            duration=row.duration,
            classes=pair.result.classes,
            near_tie=pair.result.near_tie,
            damage=pair.result.damage.table,
            flips=self._flips[key],
            axis=self._axes[key],
            ledger=ledger,
            transitions=tables["transition"],
            scope="all recordings" if all_transitions else "this recording",
            ladder=None if pair.ladder is None else pair.ladder.table(),
            tolerance=1e-4 if pair.ladder is None else pair.ladder.tolerance,
            ladder_note=pair.ladder_note,
            has_audio=self.has_audio(uri),
            cells=self._cells[key],
        )

    def columns(self, names: tuple[str, str], scene: ParityScene) -> LaneColumns:
        """What the lanes of a recording show, at every zoom."""
        key = (*names, scene.uri)
        if key not in self._columns:
            self._columns[key] = LaneColumns.of(scene)
        return self._columns[key]

    def scores(self, names: tuple[str, str], uri: str, flip: pd.Series) -> FlipScores | None:
        """Both score vectors of a flip."""
        posteriors = self.pairs[names].result.recordings[uri].posteriors
        if posteriors is None:
            return None
        place = int(flip["chunk"]), int(flip["frame"])
        with np.errstate(over="ignore"):
            both = [np.exp(side[place].astype(np.float64)) for side in posteriors]
        return FlipScores(baseline=both[0], candidate=both[1])
