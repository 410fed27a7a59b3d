"""One recording on both sides: laid on top of each other, counted, and diagnosed where they disagree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workbench.agreement.adequacy import Exercise
from workbench.agreement.alignment import Alignment
from workbench.agreement.chunk_order import find_chunk_order
from workbench.agreement.diagnosis import compare_stages, explain, output_precision
from workbench.agreement.dump_order import put_in_order
from workbench.agreement.findings import Finding, unique
from workbench.agreement.flips import NEAR_TIE, FrameComparison, compare_frames, count_flips, find_flips
from workbench.agreement.front_end import name_front_end
from workbench.agreement.guards import OutputGuard, collapsed_classes
from workbench.agreement.own_features import name_by_own_features
from workbench.agreement.recording_result import RecordingParity
from workbench.agreement.sides import (
    SAMPLE_RATE,
    Feed,
    LiveFeed,
    batches,
    declared_precision,
)
from workbench.agreement.statistics import DifferenceStatistics
from workbench.agreement.time_base import declared_classes, diagnose
from workbench.errors import InputError, RecordingError
from workbench.powerset import mapping
from workbench.segmentation import Chunking, cut_chunks
from workbench.types import Geometry, Kind

_SAMPLE_CHUNKS = 8  # chunks that are looked at closely where two sides disagree
_SUSPICIOUS_RATE = 2e-3  # flips from which on a reason is sought
_SUSPICIOUS_DIFFERENCE = 0.02  # nats
_ORDERS = {"class_order", "speaker_order", "local_speaker_order"}
_EXPLAINED = _ORDERS | {
    "frame_shift",
    "time_scale",
    "values",
    "non_finite",
    "context_dependent",
    "chunk_order",
}


@dataclass(frozen=True, kw_only=True)
class ParityParams:
    """How two runtimes are compared."""

    near_tie: float = NEAR_TIE  # nats; flips with a larger margin are real
    align: bool = False  # undo shifts, other frame grids and orders before comparing
    batch_size: int = 32  # chunks per call of a model
    segmentation_step: float | None = None  # fraction of a chunk; None: as the baseline's geometry says
    checks: bool = True  # repeatability, batches, state and a few lengths, on models that are run
    lengths: tuple[float, ...] | None = None  # s, of a whole length ladder; None: a few around the chunk
    consequences: bool = True  # follow flips to the output
    keep_posteriors: bool = False  # keep both posteriors as float16, for the explorer
    kind: Kind | None = None  # of models that could be either

    def __post_init__(self) -> None:
        if not 0 <= self.near_tie < np.inf:
            raise InputError(f"near_tie must be a number of nats from 0 on, got {self.near_tie}")
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass
class _Pass:
    """What one run over a recording gathered."""

    comparison: FrameComparison
    statistics: DifferenceStatistics
    guards: tuple[OutputGuard, OutputGuard]
    multilabel_flips: int
    posteriors: tuple[np.ndarray, np.ndarray] | None = None


def compare_recording(
    uri: str,
    waveform: np.ndarray,
    feeds: tuple[Feed, Feed, Chunking],
    geometries: tuple[Geometry, Geometry],
    params: ParityParams,
) -> RecordingParity:
    """Both sides of one recording; diagnosed, and aligned if asked, where they disagree."""
    mine, theirs, chunking = feeds
    geometry, other = geometries
    findings: list[Finding] = []
    alignment = put_in_order(mine, theirs, geometry, other, chunking, findings, params.align)
    same_chunks = alignment.chunks is None
    probe = np.array([0])
    _warm_up(feeds)
    b_shape = mine.run(probe).shape
    c_shape = _candidate(theirs, probe, alignment).shape
    if b_shape[2] != len(geometry.powerset):
        raise RecordingError(
            f"the baseline gives {b_shape[2]} classes, its powerset has {len(geometry.powerset)}"
        )
    if c_shape[2] != len(other.powerset):
        raise RecordingError(
            f"the candidate gives {c_shape[2]} classes, its powerset has {len(other.powerset)}"
        )
    for feed in (mine, theirs):
        feed.seconds = None if feed.seconds is None else 0.0
    columns, _ = declared_classes(geometry, other)
    fits = b_shape[1:] == c_shape[1:] and same_chunks
    row = RecordingParity(
        uri=uri,
        duration=len(waveform) / SAMPLE_RATE,
        geometry=geometry,
        frame_count_baseline=b_shape[1],
        frame_count_candidate=c_shape[1],
    )
    run: _Pass | None = None
    if fits:
        plain = replace(alignment, classes=columns)
        run = _run(feeds, plain, geometry, params)
    if run is None or _suspicious(run):
        sample = _sample(run, mine.num_chunks)
        other_sample = _candidate(theirs, sample, alignment)
        own_sample = mine.run(sample)
        base = replace(
            alignment,
            frames=None if alignment.frames is None else alignment.frames[sample],
        )
        found, said = diagnose(own_sample, other_sample, geometry, other, base)
        findings += [each for each in said if each.kind != "declared_class_order"]
        findings += output_precision(own_sample, other_sample)
        if params.align and (found.needed or alignment.needed):
            # fractional positions found on the sample hold for all chunks
            frames = _all_frames(alignment, found, base)
            run = _run(feeds, replace(found, frames=frames, chunks=alignment.chunks), geometry, params)
            row = replace(row, aligned=True)
    if run is None:
        return replace(row, findings=unique(findings))
    return _judged(row, run, feeds, waveform, geometry, params, findings)


def _judged(
    row: RecordingParity,
    run: _Pass,
    feeds: tuple[Feed, Feed, Chunking],
    waveform: np.ndarray,
    geometry: Geometry,
    params: ParityParams,
    findings: list[Finding],
) -> RecordingParity:
    """The row with its flips, tables, stages and all that was found."""
    mine, theirs, chunking = feeds
    comparison, num_classes = run.comparison, len(geometry.powerset)
    flips = find_flips(comparison, geometry.powerset, chunking.axis, geometry.frames, params.near_tie)
    for guard, side in zip(run.guards, ("baseline", "candidate"), strict=True):
        findings += guard.findings(side)
    if not row.aligned and not {each.kind for each in findings} & (_EXPLAINED - {"context_dependent"}):
        moved = find_chunk_order(comparison)
        findings += [] if moved is None else [moved]
    counts = [
        np.bincount(best[comparison.valid], minlength=num_classes)
        for best in (comparison.baseline, comparison.candidate)
    ]
    if not {each.kind for each in findings} & _ORDERS:  # classes that moved are not lost
        findings += collapsed_classes(counts[0], counts[1], geometry.powerset)
    worst = int(np.argmax(np.where(comparison.valid, comparison.difference, -1).max(axis=1)))
    stages = []
    if not row.aligned:
        shown = [feed.stages(worst) for feed in (mine, theirs)]
        for stage in ("log_probs",):  # what was compared, not what another call would give
            if stage in shown[0] and stage in shown[1]:
                findings += _other_answer(run, worst, shown[0][stage], shown[1][stage])
        stages = compare_stages(*shown)
        if not {finding.kind for finding in findings} & _EXPLAINED:
            heard = next((f.waveforms(np.array([worst])) for f in feeds[:2] if isinstance(f, LiveFeed)), None)
            if heard is None:
                heard = cut_chunks(waveform, chunking.starts[[worst]], chunking.window_samples)
            said = explain(stages, shown[0], shown[1], _lower_precision(mine, theirs))
            said = name_front_end(said, shown[0], shown[1], heard)
            if isinstance(mine, LiveFeed) and "fbank" in shown[1]:
                said = name_by_own_features(said, mine, worst, shown[1]["fbank"])
            findings += said
    duration = row.duration
    return replace(
        row,
        comparison=comparison,
        statistics=run.statistics,
        flips=flips,
        tables=count_flips(comparison, flips, geometry.powerset, geometry.frame_step),
        multilabel_flips=run.multilabel_flips,
        rtf_baseline=None if mine.seconds is None else mine.seconds / duration,
        rtf_candidate=None if theirs.seconds is None else theirs.seconds / duration,
        stages=tuple(stages),
        findings=unique(findings),
        exercise=Exercise.of(comparison.baseline, comparison.margin, waveform, num_classes),
        posteriors=run.posteriors,
    )


def _run(
    feeds: tuple[Feed, Feed, Chunking], alignment: Alignment, geometry: Geometry, params: ParityParams
) -> _Pass:
    """All chunks through both sides; who goes first alternates, so that neither profits from warm caches."""
    mine, theirs, chunking = feeds
    for feed in (mine, theirs):
        feed.seconds = None if feed.seconds is None else 0.0
    table = mapping(geometry.powerset)
    parts, statistics, changed = [], DifferenceStatistics(), 0
    guards = (OutputGuard(), OutputGuard())
    kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number, chunks in enumerate(batches(mine.num_chunks, chunking.num_full, params.batch_size)):
        if number % 2 == 0:
            baseline = mine.run(chunks)
            candidate = _candidate(theirs, chunks, alignment)
        else:
            candidate = _candidate(theirs, chunks, alignment)
            baseline = mine.run(chunks)
        guards[0].add(baseline)
        guards[1].add(candidate)
        candidate, valid = alignment.apply(baseline, candidate, geometry.powerset, int(chunks[0]))
        part = compare_frames(baseline, candidate, valid)
        parts.append(part)
        statistics += DifferenceStatistics.of(baseline[valid], candidate[valid])
        flipped = part.flipped
        changed += int(np.abs(table[part.baseline[flipped]] - table[part.candidate[flipped]]).sum())
        if params.keep_posteriors:
            for store, array in zip(kept, (baseline, candidate), strict=True):
                store.append(np.maximum(array, -60000).astype(np.float16))
    return _Pass(
        comparison=FrameComparison.concatenate(parts),
        statistics=statistics,
        guards=guards,
        multilabel_flips=changed,
        posteriors=(np.concatenate(kept[0]), np.concatenate(kept[1])) if params.keep_posteriors else None,
    )


def _candidate(feed: Feed, chunks: np.ndarray, alignment: Alignment) -> np.ndarray:
    """The candidate's chunks that belong to these of the baseline, axes in order."""
    return feed.run(chunks if alignment.chunks is None else alignment.chunks[chunks])


def _lower_precision(mine: Feed, theirs: Feed) -> str:
    """What the candidate says it computes in, where the baseline says otherwise."""
    names = [
        declared_precision(feed.runtime) if isinstance(feed, LiveFeed) else "" for feed in (mine, theirs)
    ]
    return names[1] if names[1] != names[0] else ""


def _all_frames(alignment: Alignment, found: Alignment, sampled: Alignment) -> np.ndarray | None:
    """Positions of all frames: those that were known, moved as far as the sample was."""
    if found.frames is None or alignment.frames is None or sampled.frames is None:
        return found.frames
    return alignment.frames + (found.frames - sampled.frames).mean()


def _suspicious(run: _Pass) -> bool:
    """Whether the difference is more than rounding, so that a reason is worth looking for."""
    frames = run.comparison.num_frames
    rate = run.comparison.flipped.sum() / frames if frames else 1.0
    return bool(rate > _SUSPICIOUS_RATE or not run.statistics.max_abs < _SUSPICIOUS_DIFFERENCE)


def _sample(run: _Pass | None, num_chunks: int) -> np.ndarray:
    """Chunks to look at closely: those with most changes of class, and some from everywhere."""
    most = min(_SAMPLE_CHUNKS, num_chunks)
    if run is None:
        return np.unique(np.linspace(0, num_chunks - 1, 2 * most).astype(np.int64))
    best = run.comparison.baseline
    variety = (best[:, 1:] != best[:, :-1]).sum(axis=1) + run.comparison.flipped.sum(axis=1)
    busy = np.argsort(-variety, kind="stable")[: (most + 1) // 2]
    spread = np.linspace(0, num_chunks - 1, most // 2 + 2)[1:-1].astype(np.int64)
    return np.unique(np.concatenate([busy, spread]))


def _warm_up(feeds: tuple[Feed, Feed, Chunking]) -> None:
    """One call each, so that neither pays for memory and kernels in its timing."""
    for feed in feeds[:2]:
        if isinstance(feed, LiveFeed):
            feed.run(np.array([0]))


def _other_answer(run: _Pass, chunk: int, mine: np.ndarray, theirs: np.ndarray) -> list[Finding]:
    """A chunk that is fine alone and differs among others: batches or memory, not weights."""
    alone = float(np.abs(mine.astype(np.float64) - theirs).max()) if mine.shape == theirs.shape else np.inf
    among = float(run.comparison.difference[chunk].max())
    if not (among > _SUSPICIOUS_DIFFERENCE and alone < 0.01 * among):
        return []
    words = (
        f"the sides differ by {among:.3g} on chunk {chunk} among other chunks and by {alone:.1e} on it "
        "alone: one of them depends on what else is in the batch, or on what came before"
    )
    return [Finding(kind="context_dependent", words=words, details={"among": among, "alone": alone})]
