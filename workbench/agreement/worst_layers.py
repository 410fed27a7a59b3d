"""The layer ladder where it is worth its time: on the chunks that differ most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.agreement.layers import LadderResult, layer_ladder
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.results import ParityResult
from workbench.audio import crop_audio
from workbench.errors import InputError
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime

NUM_CHUNKS = 4
"""Chunks that are looked at."""

MORE_THAN_ROUNDING = 5e-5
"""Nats that outputs differ by where something but the order of sums is different."""

EMBEDDED_SECONDS = 8.0
"""Of the recording, where embedding models are compared."""

_OUTPUTS = ("log_probs", "embedding", "embeddings")


def differing_recording(result: ParityResult) -> RecordingParity | None:
    """The recording in which most differs, of those with a stage over the tolerance; None: all agree.

    An output that differs by more than rounding usually makes counts as well: one operation of lower
    precision stays within the tolerance everywhere, and stands out among the others all the same.
    """
    over = {
        row.uri
        for row in result.compared
        if any(stage.over_tolerance for stage in row.stages)
        or (row.stages and row.statistics.max_abs > MORE_THAN_ROUNDING)
    }
    worst = (uri for uri in result.damage.table["uri"] if uri in over)
    return next((result.recordings[uri] for uri in worst), None)


def ladder_of_worst(
    baseline: Runtime,
    candidate: Runtime,
    row: RecordingParity,
    recording: Path | np.ndarray,
    segmentation_step: float | None = None,
    num_chunks: int = NUM_CHUNKS,
) -> LadderResult:
    """Layer by layer on the chunks of a recording that differ most; cheap however long it is.

    Parameters
    ----------
    baseline, candidate : as they were compared
    row : the recording's result, of `differing_recording`
    recording : its file, or float array (num_samples,)
    segmentation_step : under which they were compared; None: as the baseline's geometry says
    num_chunks : that are looked at

    An `InputError` or `RecordingError` says why there is no ladder.
    """
    if row.comparison is None or row.geometry is None:
        if any(isinstance(side, RecordedRuntime) for side in (baseline, candidate)):
            raise InputError("recorded embeddings come without the stages before them")
        end = min(EMBEDDED_SECONDS, row.duration)
        heard = (
            crop_audio(recording, 0.0, end)
            if isinstance(recording, Path)
            else recording[: round(16000 * end)]
        )
        return layer_ladder(baseline, candidate, {row.uri: heard})
    geometry = row.geometry
    step = geometry.chunk_step / geometry.chunk_duration if segmentation_step is None else segmentation_step
    difference = np.where(row.comparison.valid, row.comparison.difference, -1.0).max(axis=1)
    worst = np.sort(np.argsort(-difference, kind="stable")[:num_chunks])
    return layer_ladder(
        baseline, candidate, {row.uri: recording}, only={row.uri: worst}, segmentation_step=step
    )


def only_outputs(row: RecordingParity) -> bool:
    """Whether nothing but the output is known on both sides."""
    return all(stage.stage in _OUTPUTS for stage in row.stages)


def how_to_see(baseline: str, candidate: str) -> str:
    """The commands that record the stages between input and output."""
    sides = [side for side in (baseline, candidate) if side.startswith("recorded:")]
    named = " and ".join(sides) or "neither side"
    return (
        f"{named} {'have' if len(sides) > 1 else 'has'} the output alone, so the first stage that differs is "
        "unknown; write the stages too (workbench record RUNTIME AUDIO --out DIR --stages all, or a port's "
        "own arrays beside its log_probs), and compare again"
    )


def as_content(ladder: LadderResult, content: dict[str, Any]) -> None:
    """Put the ladder and its first divergence into a report."""
    content["layers"] = ladder.to_dict()
    content["overall"]["first_divergence"] = content["layers"]["first_divergence"]
    rows: Mapping[str, dict[str, Any]] = content["recordings"]
    for uri in dict.fromkeys(ladder.samples["uri"].tolist()):
        mine = ladder.samples[ladder.samples["uri"] == uri]
        over = mine[~(mine["relative"] <= ladder.tolerance)]
        order = [stage.stage for stage in ladder.stages if stage.stage in set(over["stage"])]
        if uri in rows and order:
            most = float(over.loc[over["stage"] == order[0], "max_abs_diff"].max())
            rows[uri]["first_divergence"] = {"stage": order[0], "max_abs_diff": most}


__all__ = ["as_content", "differing_recording", "how_to_see", "ladder_of_worst", "only_outputs"]
