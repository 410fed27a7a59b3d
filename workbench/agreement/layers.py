"""Layer by layer: where two runtimes begin to differ, and which part is to blame.

Both sides have stages under the same names: torch from hooks, ONNX graphs from tensors that the export named
(or that are matched, in foreign files), recorded folders from what was recorded. A stage differs because its
own part of the network differs, or because it was handed something different. To tell these apart, every part
of the candidate is run once more on the *baseline's* stages before it: what differs then is its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from workbench.agreement.differences import Tally
from workbench.agreement.findings import Finding
from workbench.agreement.sides import as_waveforms
from workbench.agreement.stage_sides import CutChunks, StageSide, chunks_of, match_foreign
from workbench.errors import InputError, RecordingError
from workbench.runtimes import Runtime

TOLERANCE = 1e-4
"""Largest difference of two values of a stage, relative to the largest value where that is above 1: ten times
what another order of float32 sums makes."""
MEMORY_CAP = 512 * 2**20
"""Bytes that the stages held at once may take."""

Verdict = Literal["agrees", "own", "inherited", "differs"]
"""`own`: differs even on the baseline's input. `inherited`: only because of what came before. `differs`:
which of the two is unknown, as the candidate cannot be fed."""

_STANDS_OUT = 30  # times the median; convolutions and attention differ tenfold
_FEW = 5  # culprits that are named one by one, and replaced one by one
_FEWEST_SIBLINGS = 3  # stages of one kind
_ABOVE_SIBLINGS = 2.5  # times the median of the others of its kind
_FEWEST = 5  # stages, below which a median means nothing
_ROUNDING = 1e-6  # error that rounding makes even where other stages are exact
_MOST_CHUNKS = 8  # run together
FRONT_END = ("fbank", "wav_norm")


@dataclass(frozen=True, kw_only=True)
class StageDifference:
    """What one stage of the candidate is off by, over all recordings."""

    stage: str
    part: str  # "front end" or "network"
    verdict: Verdict
    max_abs_diff: float
    mean_abs_diff: float
    relative: float  # largest difference, relative to the largest value of the chunk where that is above 1
    snr: float  # dB, of the baseline over the difference; infinite where nothing differs
    cosine: float  # between all values of both sides
    own_max_abs_diff: float  # fed with the baseline's stages; NaN where that is impossible
    own_relative: float
    worst_uri: str  # where `relative` was found
    worst_chunk: int
    worst_index: tuple[int, ...]  # inside the chunk's array
    chunks: int  # compared
    chunks_over: int  # over the tolerance
    non_finite: int  # values of the candidate that are not finite where the baseline's are
    problem: str = ""  # why values could not be compared

    def over(self, tolerance: float) -> bool:
        """Whether the difference is larger than allowed."""
        return bool(self.problem) or not self.relative <= tolerance


@dataclass(frozen=True, kw_only=True)
class LadderResult:
    """All stages, in the order in which the baseline computes them."""

    baseline: str
    candidate: str
    tolerance: float
    stages: tuple[StageDifference, ...]
    samples: pd.DataFrame  # stage, uri, chunk, max_abs_diff, relative: one row per stage and chunk
    substitution: pd.DataFrame  # stage, output_max_abs_diff, output_relative: see `substitute`
    only_baseline: tuple[str, ...]  # stages that the other side does not have
    only_candidate: tuple[str, ...]
    matched: Mapping[str, str] = field(default_factory=dict)  # stage -> tensor, of a graph without names
    passes: int = 1  # groups of stages that memory was divided into
    failed: tuple[Mapping[str, str], ...] = ()  # recordings: uri, error

    @property
    def first_divergence(self) -> StageDifference | None:
        """The first stage over the tolerance."""
        return next((stage for stage in self.stages if stage.over(self.tolerance)), None)

    @property
    def culprits(self) -> tuple[StageDifference, ...]:
        """Stages whose own error is over the tolerance."""
        return tuple(stage for stage in self.stages if stage.verdict == "own")

    @property
    def outliers(self) -> tuple[StageDifference, ...]:
        """Stages within the tolerance whose own error stands out from what rounding does to the others."""
        errors = [stage.own_relative for stage in self.stages if stage.own_relative >= 0]
        if len(errors) < _FEWEST:
            return ()
        limit = max(_STANDS_OUT * float(np.median(errors)), _ROUNDING)
        return tuple(stage for stage in self.stages if stage.own_relative > limit and stage.verdict != "own")

    @property
    def unlike_siblings(self) -> tuple[StageDifference, ...]:
        """Where all stages differ by themselves: those that do so far more than others of the same kind.

        Of one kind are stages whose names differ in their numbers alone. Quantisation hits them alike.
        """
        kinds: dict[str, list[StageDifference]] = {}
        for stage in self.culprits:
            kinds.setdefault(re.sub(r"\d+", "#", stage.stage), []).append(stage)
        found = []
        for several in kinds.values():
            for stage in several if len(several) >= _FEWEST_SIBLINGS else ():
                others = [each.own_relative for each in several if each is not stage]
                if stage.own_relative > _ABOVE_SIBLINGS * float(np.median(others)):
                    found.append(stage)
        return tuple(found)

    def table(self) -> pd.DataFrame:
        """One row per stage, its columns those of `StageDifference`."""
        columns = list(StageDifference.__dataclass_fields__)
        return pd.DataFrame([asdict(stage) for stage in self.stages], columns=columns)

    @property
    def findings(self) -> list[Finding]:
        """Where it starts and who is to blame, in words."""
        found = []
        for stage in self.outliers:
            words = (
                f"{stage.stage} is within the tolerance, but its own error of {stage.own_max_abs_diff:.3g} "
            )
            words += (
                f"is over {_STANDS_OUT} times that of the others: one operation in lower precision, or "
                "another weight"
            )
            found.append(Finding(kind="own_outlier", words=words, severity="warning", details=_facts(stage)))
        first = self.first_divergence
        if first is None:
            return found
        words = f"the first stage that differs is {first.stage} ({first.part}), {_says(first)}"
        found.append(Finding(kind="first_divergence", words=words, side="candidate", details=_facts(first)))
        culprits = sorted(self.culprits, key=lambda stage: stage.own_relative, reverse=True)
        if len(culprits) > _FEW:
            words = (
                f"{len(culprits)} of {len(self.stages)} stages differ by themselves, as reduced precision "
            )
            words += "makes them; most: "
            words += ", ".join(f"{stage.stage} ({stage.own_max_abs_diff:.3g})" for stage in culprits[:_FEW])
            found.append(Finding(kind="own_error_everywhere", words=words, side="candidate"))
            for stage in self.unlike_siblings:
                words = (
                    f"{stage.stage} differs by itself far more than other stages of its kind: "
                    f"{stage.own_max_abs_diff:.3g}; look at its weights, scales and zero points first"
                )
                found.append(
                    Finding(kind="own_outlier", words=words, side="candidate", details=_facts(stage))
                )
            return found
        for stage in culprits:
            words = f"{stage.stage} differs by itself: {stage.own_max_abs_diff:.3g} on the baseline's input"
            found.append(Finding(kind="own_error", words=words, side="candidate", details=_facts(stage)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        first = self.first_divergence
        return {
            "baseline": self.baseline,
            "candidate": self.candidate,
            "tolerance": self.tolerance,
            "first_divergence": None
            if first is None
            else {"stage": first.stage, "max_abs_diff": first.max_abs_diff},
            "culprits": [stage.stage for stage in self.culprits],
            "findings": [finding.to_json() for finding in self.findings],
            "stages": [asdict(stage) for stage in self.stages],
            "substitution": self.substitution.to_dict("records"),
            "only_baseline": list(self.only_baseline),
            "only_candidate": list(self.only_candidate),
            "matched": dict(self.matched),
            "failed": [dict(each) for each in self.failed],
        }


def layer_ladder(
    baseline: Runtime,
    candidate: Runtime,
    waveforms: Mapping[str, Any] | Sequence[Any] | np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    memory_cap: int = MEMORY_CAP,
    own_errors: bool = True,
    only: Mapping[str, np.ndarray] | None = None,
    segmentation_step: float = 1.0,
    on_progress: Callable[[str, int], object] | None = None,
) -> LadderResult:
    """Compare two runtimes stage by stage, over all chunks of all recordings.

    Parameters
    ----------
    baseline, candidate : runtimes of one kind; recorded ones join with the stages they have
    waveforms : recordings
        A mapping from names to arrays or paths, a list of them, or an array (batch, num_samples).
        An array (num_samples,) is a recording, which is cut into chunks as the model would; an array
        (num_chunks, num_samples) in a mapping or list holds chunks that are cut already.
    tolerance : largest difference of a value, relative to the largest one where that is above 1
    memory_cap : bytes that the stages held at once may take
        Stages are read in as many passes as that needs. One stage of one chunk is the least.
    own_errors : also run every part of the candidate on the baseline's stages
    only : recording -> numbers of the chunks that are looked at; by default all
    segmentation_step : fraction of a chunk from one to the next, where no recorded side says it
        Chunks that overlap tell little new.
    on_progress : called with the recording and the number of chunks that are done

    Examples
    --------
    >>> from workbench.runtimes import load_runtime
    >>> from workbench.runtimes.probes import noise
    >>> baseline, candidate = (load_runtime("onnx:models/demo/onnx/segmentation.onnx?optimization=" + level)
    ...                        for level in ("none", "all"))
    >>> layer_ladder(baseline, candidate, noise(32000)).first_divergence is None
    True
    """
    if not tolerance >= 0:
        raise InputError(f"tolerance must be 0 or more, got {tolerance}")
    sides = (StageSide(baseline), StageSide(candidate))
    recordings = as_waveforms(waveforms)
    matched, sizes, num_chunks = _measure(sides, recordings, memory_cap, segmentation_step)
    if only is not None:
        num_chunks = max((len(numbers) for numbers in only.values()), default=1)
    common = [name for name in sizes[0] if name in sizes[1]]
    if not common:
        raise InputError(
            f"{baseline} and {candidate} have no stage in common: {', '.join(sizes[0]) or 'none'} against "
            f"{', '.join(sizes[1]) or 'none'}"
        )
    feeds = own_errors and sides[1].can_be_fed
    plan = list(_groups(common, sizes, feeds, num_chunks, memory_cap))
    tallies = {name: Tally(name, tolerance) for name in common}
    own = {name: Tally(name, tolerance) for name in common}
    failed = []
    for uri, recording in recordings.items():
        try:
            chunks = chunks_of(recording, sides, segmentation_step)
            numbers = np.arange(len(chunks)) if only is None else np.asarray(only[uri])
            for group, at_once in plan:
                for begin in range(0, len(numbers), at_once):
                    part = numbers[begin : begin + at_once]
                    _compare(sides, uri, chunks, part, group, common, feeds, tallies, own)
                    if on_progress is not None:
                        on_progress(uri, begin)
        except (RecordingError, InputError) as error:
            if isinstance(error, InputError) and not any(side.recorded for side in sides):
                raise  # a model that cannot be run on anything
            failed.append({"uri": uri, "error": str(error)})
    if len(failed) == len(recordings):
        raise InputError("; ".join(each["error"] for each in failed))
    stages = tuple(_judged(tallies[name], own[name] if feeds else None, tolerance) for name in common)
    worst = sorted(stages, key=lambda stage: stage.own_relative, reverse=True)
    suspects = [stage.stage for stage in worst if stage.verdict == "own"][:_FEW]
    start = next((stage.stage for stage in stages if stage.over(tolerance)), None)
    asked = [name for name in common if name == start or name in suspects] if feeds else []
    good = {uri: each for uri, each in recordings.items() if uri not in {f["uri"] for f in failed}}
    return LadderResult(
        baseline=str(baseline),
        candidate=str(candidate),
        tolerance=tolerance,
        stages=stages,
        samples=pd.concat([tallies[name].table() for name in common], ignore_index=True),
        substitution=substitute(baseline, candidate, good, asked, only, segmentation_step),
        only_baseline=tuple(name for name in sizes[0] if name not in sizes[1]),
        only_candidate=tuple(name for name in sizes[1] if name not in sizes[0]),
        matched=matched,
        passes=len(plan),
        failed=tuple(failed),
    )


def substitute(
    baseline: Runtime,
    candidate: Runtime,
    waveforms: Mapping[str, Any] | Sequence[Any] | np.ndarray,
    stages: Sequence[str],
    only: Mapping[str, np.ndarray] | None = None,
    segmentation_step: float = 1.0,
) -> pd.DataFrame:
    """What is left of the difference of the outputs once one stage is replaced by the baseline's.

    Where the error vanishes, all of it came from before that stage, or from the stage.

    Parameters
    ----------
    baseline, candidate, waveforms : as of `layer_ladder`; the candidate must be one that can be fed
    stages : to replace, each alone
    only, segmentation_step : as of `layer_ladder`

    Returns
    -------
    substitution : DataFrame
        `stage` (empty: nothing replaced), `output_max_abs_diff`, `output_relative`.
    """
    columns = ["stage", "output_max_abs_diff", "output_relative"]
    sides = (StageSide(baseline), StageSide(candidate))
    if not stages or not sides[1].can_be_fed:
        return pd.DataFrame(columns=columns).astype({name: float for name in columns[1:]})
    output = "embedding" if candidate.kind == "embedding" else "log_probs"
    tallies = {name: Tally(output, np.inf) for name in ("", *stages)}
    for uri, recording in as_waveforms(waveforms).items():
        chunks = chunks_of(recording, sides, segmentation_step)
        for number in range(len(chunks)) if only is None else only[uri].tolist():
            part = np.array([number])
            kept = sides[0].stages(uri, chunks, part, {*stages, output})
            for name, tally in tallies.items():
                given = {name: kept[name]} if name else {}
                found = sides[1].stages(uri, chunks, part, {output}, given)
                tally.add(uri, number, kept[output], found[output])
    rows = [(name, tally.max_abs_diff, tally.relative) for name, tally in tallies.items()]
    return pd.DataFrame(rows, columns=columns)


def _measure(
    sides: tuple[StageSide, StageSide],
    recordings: Mapping[str, Any],
    memory_cap: int,
    segmentation_step: float,
) -> tuple[dict[str, str], list[dict[str, int]], int]:
    """Matched tensors, bytes of every stage on both sides, and chunks, by the first recording of both."""
    errors = []
    for uri, recording in recordings.items():
        try:
            chunks = chunks_of(recording, sides, segmentation_step)
            matched = match_foreign(sides, chunks, memory_cap)
            return matched, [side.sizes(uri, chunks) for side in sides], len(chunks)
        except (RecordingError, InputError) as error:
            errors.append(str(error))
    raise InputError("; ".join(dict.fromkeys(errors)))


def _groups(
    names: Sequence[str],
    sizes: Sequence[Mapping[str, int]],
    feeds: bool,
    num_chunks: int,
    memory_cap: int,
) -> Iterator[tuple[list[str], int]]:
    """Stages that are held at the same time, and chunks that are run together."""
    # both sides, the fed candidate, and a double-precision difference of one stage
    weight = {name: 4 * max(side[name] for side in sizes) for name in names}
    if feeds:
        # whatever part is fed needs stages before it; the baseline holds them all
        before = sum(sizes[0][name] for name in names)
        at_once = 1 if before > memory_cap / 2 else min(_MOST_CHUNKS, int(memory_cap // max(1, 2 * before)))
    else:
        at_once = min(_MOST_CHUNKS, max(1, int(memory_cap // max(1, max(weight.values())))))
    at_once = max(1, min(at_once, num_chunks))
    group: list[str] = []
    for name in names:
        if group and at_once * (sum(weight[each] for each in group) + weight[name]) > memory_cap:
            yield group, at_once
            group = []
        group.append(name)
    yield group, at_once


def _compare(
    sides: tuple[StageSide, StageSide],
    uri: str,
    chunks: np.ndarray | CutChunks,
    part: np.ndarray,
    group: Sequence[str],
    common: Sequence[str],
    feeds: bool,
    tallies: Mapping[str, Tally],
    own: Mapping[str, Tally],
) -> None:
    """Add the differences of some stages on some chunks."""
    wanted = set(group)
    # what parts of the group are fed with: everything computed before the last of them
    last = max(common.index(name) for name in group)
    known = sides[0].stages(uri, chunks, part, set(common[: last + 1]) if feeds else wanted)
    found = sides[1].stages(uri, chunks, part, wanted)
    fed = sides[1].stages(uri, chunks, part, wanted, known) if feeds else {}
    for side, arrays in zip(sides, (known, found), strict=True):
        if missing := [name for name in group if name not in arrays]:
            raise RecordingError(
                f"{side.runtime}: {uri} lacks {', '.join(missing)}, which other recordings have"
            )
    for name in group:
        for row, number in enumerate(part[: min(len(known[name]), len(found[name]))].tolist()):
            mine, theirs = known[name][row : row + 1], found[name][row : row + 1]
            tallies[name].add(uri, number, mine, theirs)
            if name in fed:
                own[name].add(uri, number, mine, fed[name][row : row + 1])


def _judged(tally: Tally, own: Tally | None, tolerance: float) -> StageDifference:
    """A stage's row."""
    fed = own is not None and own.chunks > 0
    verdict: Verdict = "agrees"
    if tally.problem or not tally.relative <= tolerance:
        verdict = "differs"
    if own is not None and fed:
        if own.problem or not own.relative <= tolerance:
            verdict = "own"
        elif verdict == "differs":
            verdict = "inherited"
    return StageDifference(
        stage=tally.stage,
        part="front end" if tally.stage in FRONT_END else "network",
        verdict=verdict,
        max_abs_diff=tally.max_abs_diff,
        mean_abs_diff=tally.mean_abs_diff,
        relative=tally.relative,
        snr=tally.snr,
        cosine=tally.cosine,
        own_max_abs_diff=own.max_abs_diff if own is not None and fed else float("nan"),
        own_relative=own.relative if own is not None and fed else float("nan"),
        worst_uri=tally.worst_uri,
        worst_chunk=tally.worst_chunk,
        worst_index=tally.worst_index,
        chunks=tally.chunks,
        chunks_over=tally.chunks_over,
        non_finite=tally.non_finite,
        problem=tally.problem,
    )


def _says(stage: StageDifference) -> str:
    """A stage's difference in words."""
    if stage.problem:
        return stage.problem
    words = f"by up to {stage.max_abs_diff:.3g} in {stage.chunks_over} of {stage.chunks} chunks"
    words += f", most in {stage.worst_uri} chunk {stage.worst_chunk}"
    reason = {
        "own": "; fed with the baseline's stages it still differs, so the fault lies in this part",
        "inherited": "; fed with the baseline's stages it agrees, so it has built up over those before",
    }
    return words + reason.get(stage.verdict, "")


def _facts(stage: StageDifference) -> dict[str, Any]:
    return asdict(stage) | {"worst_index": list(stage.worst_index)}
