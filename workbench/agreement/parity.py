"""Two runtimes on the same recordings: where they differ, whether it matters, and what is wrong.

Chunks stream through both sides in small batches, in alternation; what is kept of an hour are best
classes, margins and differences of every frame, a few tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.agreement import embedding_parity
from workbench.agreement.adequacy import Adequacy, judge
from workbench.agreement.compare import ParityParams, compare_recording
from workbench.agreement.conditions import ConditionsTable, observe_conditions
from workbench.agreement.consequences import Backend, trace
from workbench.agreement.findings import Finding, unique
from workbench.agreement.heard import heard_samples
from workbench.agreement.length_ladder import LengthLadder, climb
from workbench.agreement.mixed_recordings import name_mixed_recordings
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.repeatability import Repeatability, check_repeatability
from workbench.agreement.results import ParityResult
from workbench.agreement.sides import (
    SAMPLE_RATE,
    Feed,
    LiveFeed,
    as_waveforms,
    load_pair,
    open_feeds,
    runtime_geometry,
)
from workbench.agreement.time_base import (
    declared_axes,
    declared_classes,
)
from workbench.agreement.unexplained import look_again, without_vague, worth_it
from workbench.audio import read_audio
from workbench.config import PipelineParams
from workbench.errors import InputError, RecordingError
from workbench.runtimes import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.segmentation import Chunking

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

_QUICK_LENGTHS = (0.25, 0.5, 1.0, 1.61)  # of a chunk, tried without being asked

_TRIALS = 3  # recordings on which a model hears what another program may have heard

OnRecording = Callable[[str, "RecordingParity | None", "str | None"], None]
"""Called after every recording with its name, its result and what went wrong."""


@dataclass
class _Checks:
    """What is found once, on the first recording that can be used."""

    repeatability: dict[str, Repeatability] = field(default_factory=dict)
    ladder: LengthLadder | None = None
    conditions: dict[str, ConditionsTable] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    done: bool = False
    looked_again: int = 0  # recordings on which models were run on other input


def parity(
    baseline: str | Runtime,
    candidate: str | Runtime,
    waveforms: Any,
    *,
    params: ParityParams | None = None,
    references: Mapping[str, Annotation] | None = None,
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
    backend: Backend | None = None,
    on_recording: OnRecording | None = None,
) -> ParityResult:
    """Compare two runtimes frame by frame.

    Parameters
    ----------
    baseline, candidate : runtime strings or loaded runtimes, of one kind
    waveforms : mapping uri -> path or float array (num_samples,) at 16 kHz in [-1, 1)
        Or paths, a list of arrays, or one array of shape (num_samples,) or (batch, num_samples).
    params : how they are compared
    references : uri -> Annotation, optional
        With it the DER of both sides is given.
    uem, collar, skip_overlap : as of `score`
    backend : what follows the segmentation; by default local speakers are linked from chunk to chunk
    on_recording : progress callback

    Returns
    -------
    result : ParityResult
        A recording that cannot be compared is listed in `failed`; the others are done.
    """
    params = params or ParityParams()
    recordings = as_waveforms(waveforms)
    first, second = load_pair(baseline, candidate, params.kind)
    names = (_name(baseline), _name(candidate))
    if first.kind == "embedding":
        return embedding_parity.compare(first, second, recordings, names, params.batch_size, on_recording)
    geometry = runtime_geometry(first, "baseline")
    other = runtime_geometry(second, "candidate")
    backend = backend or Backend(params=PipelineParams())
    checks = _Checks(findings=declared_axes(geometry, other) + _coverage(first, second, recordings))
    try:
        checks.findings += declared_classes(geometry, other)[1]
    except RecordingError as error:  # true of every recording
        raise InputError(str(error)) from None
    done: dict[str, RecordingParity] = {}
    failed: list[tuple[str, str]] = []
    for uri, source in recordings.items():
        result, problem = None, None
        try:
            waveform = read_audio(source, SAMPLE_RATE) if isinstance(source, Path) else _usable(source)
            feeds = open_feeds(uri, waveform, first, second, params.segmentation_step)
            result = compare_recording(uri, waveform, feeds, (geometry, other), params)
            heard = heard_samples(feeds[:2], waveform, source)
            if heard:
                result = replace(result, findings=unique((*heard, *without_vague(result))))
            else:
                again = worth_it(result, feeds[:2])
                result = look_again(result, feeds[:2], source, run_model=checks.looked_again < _TRIALS)
                checks.looked_again += again
            if not result.compared:
                problem = "; ".join(str(finding) for finding in result.findings)
                problem += "; give --align to compare all the same"
            elif params.consequences:
                result = _follow(result, waveform, feeds[2], backend, references, uem, collar, skip_overlap)
            if not checks.done:
                _check_runtimes((first, second), feeds, result, waveform, params, checks)
        except InputError:
            raise  # an option or a model: it would fail for every recording
        except RecordingError as error:
            problem = str(error)
        except MemoryError:
            problem = "not enough memory; use a smaller --batch-size"
        if result is not None:
            done[uri] = result
        if problem is not None:
            failed.append((uri, problem))
        if on_recording is not None:
            on_recording(uri, result, problem)
    done = name_mixed_recordings(done)
    exercises = [each.exercise for each in done.values() if each.exercise is not None]
    adequacy: Adequacy = judge(sum(exercises) if exercises else None, geometry.powerset)  # type: ignore[arg-type]
    return ParityResult(
        baseline=names[0],
        candidate=names[1],
        kind="segmentation",
        near_tie=params.near_tie,
        classes=geometry.powerset,
        recordings=done,
        failed=tuple(failed),
        findings=unique(checks.findings),
        adequacy=adequacy,
        repeatability=checks.repeatability,
        ladder=checks.ladder,
        conditions=checks.conditions,
        backend=backend.words if params.consequences else "",
    )


def _follow(
    row: RecordingParity,
    waveform: np.ndarray,
    chunking: Chunking,
    backend: Backend,
    references: Mapping[str, Annotation] | None,
    uem: Mapping[str, Timeline] | None,
    collar: float,
    skip_overlap: bool,
) -> RecordingParity:
    """The row with what its flips did to the output."""
    comparison, geometry = row.comparison, row.geometry
    if comparison is None or geometry is None:
        return row
    reference = None if references is None else references.get(row.uri)
    findings = row.findings
    if references is not None and reference is None:
        words = f"no reference names {row.uri!r}, so it has no DER"
        findings = (*findings, Finding(kind="no_reference", words=words, severity="warning"))
    consequences = trace(
        comparison.baseline,
        np.where(comparison.valid, comparison.candidate, comparison.baseline),
        row.flips,
        geometry,
        chunking,
        waveform,
        backend,
        uri=row.uri,
        reference=reference,
        uem=None if uem is None else uem.get(row.uri),
        collar=collar,
        skip_overlap=skip_overlap,
    )
    return replace(row, consequences=consequences, flips=consequences.flips, findings=findings)


def _check_runtimes(
    runtimes: tuple[Runtime, Runtime],
    feeds: tuple[Feed, Feed, Chunking],
    row: RecordingParity,
    waveform: np.ndarray,
    params: ParityParams,
    checks: _Checks,
) -> None:
    """How the runtimes compute, and if asked repeatability and lengths, on the chunks that say most."""
    checks.done = True
    comparison = row.comparison
    for runtime, feed, side in zip(runtimes, feeds[:2], ("baseline", "candidate"), strict=True):
        if not isinstance(feed, LiveFeed):
            if params.checks:
                recorded = Repeatability(side=side, checks=(), skipped="recorded, not run")
                checks.repeatability[side] = recorded
            continue
        if comparison is None:
            chosen = np.unique(np.linspace(0, feed.num_chunks - 1, 4).astype(np.int64))
        else:
            best = comparison.baseline
            variety = (best[:, 1:] != best[:, :-1]).sum(axis=1)
            chosen = np.argsort(-variety, kind="stable")[:4]
        if params.checks:
            found = check_repeatability(runtime, feed.waveforms(chosen), side)
            checks.repeatability[side] = found
            checks.findings += found.findings
        table = observe_conditions(runtime, feed.waveforms(chosen[:1]))
        if table.engine != "other":  # which says nothing about itself
            checks.conditions[side] = table
            checks.findings += table.findings
    live = [r for r, feed in zip(runtimes, feeds[:2], strict=True) if isinstance(feed, LiveFeed)]
    if not live or not params.checks:
        return
    seconds = feeds[2].seg_duration
    lengths = params.lengths or tuple(round(seconds * part, 4) for part in _QUICK_LENGTHS)
    if len({geometry.sample_rate for r in live if (geometry := r.geometry) is not None}) > 1:
        return  # no waveform suits both
    rate = live[0].geometry.sample_rate if live[0].geometry is not None else SAMPLE_RATE
    checks.ladder = climb(
        live[0], live[1] if len(live) > 1 else None, waveform, lengths=lengths, sample_rate=rate
    )
    checks.findings += checks.ladder.findings


def _coverage(first: Runtime, second: Runtime, recordings: Mapping[str, Any]) -> list[Finding]:
    """Recordings that a recorded side has and nobody asked for."""
    found = []
    for side, runtime in (("baseline", first), ("candidate", second)):
        if not isinstance(runtime, RecordedRuntime):
            continue
        extra = sorted(set(runtime.uris) - set(recordings))
        if extra:
            words = (
                f"the {side} also holds {', '.join(extra[:5])}{' …' if len(extra) > 5 else ''}, not compared"
            )
            found.append(
                Finding(kind="not_compared", words=words, severity="note", side=side, details={"uris": extra})
            )
    return found


def _usable(waveform: np.ndarray) -> np.ndarray:
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or waveform.dtype.kind != "f":
        raise InputError(
            f"a waveform must be a float array of shape (num_samples,) in [-1, 1), got {waveform.dtype} of "
            f"shape {waveform.shape}"
        )
    if not len(waveform):
        raise RecordingError("the recording has no samples")
    if not np.isfinite(waveform).all():
        raise RecordingError("the waveform holds samples that are not finite")
    return waveform.astype(np.float32, copy=False)


def _name(runtime: str | Runtime) -> str:
    return runtime if isinstance(runtime, str) else str(runtime)
