"""Which checkpoint, or which of several models: scored on the same recordings, in one table.

A checkpoint is best measured by what it is for, so with an embedding model every candidate runs
through the whole pipeline. Without one its segmentation is scored alone, chunk by chunk; that is
quicker and says less, and the two kinds of DER are never mixed in one table.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyannote.core import Annotation, Timeline

from workbench.audio import read_audio
from workbench.clustering import PLDA
from workbench.config import PipelineParams
from workbench.errors import InputError, RecordingError, expect
from workbench.pipeline import SAMPLE_RATE, Runtimes, diarize
from workbench.runtimes import Runtime, RuntimeSpec, load_runtime, parse_spec
from workbench.scoring import DiarizationCounts, describe_convention, score
from workbench.scoring.local import score_chunks
from workbench.segmentation import Chunking, segment_recording, segmentation_geometry
from workbench.training import read_training

PIPELINE, SEGMENTATION = "pipeline", "segmentation"
MEASURES = {
    PIPELINE: "DER of the whole pipeline",
    SEGMENTATION: "segmentation DER: speakers matched anew in every chunk, no clustering",
}

OnCandidate = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` before every recording of every candidate."""

_KEPT_SAMPLES = 3 * 10**8  # float32 samples of audio held between candidates: 1.2 GB, five hours
_EXTENT = "extent of reference and hypothesis"  # chunks have no need of it: all of their frames are scored
_PASSES = 5  # of all candidates in turn, whose median speed counts


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row of a selection: a name and the segmentation model behind it."""

    name: str
    spec: RuntimeSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Candidates scored on the same recordings.

    Attributes
    ----------
    table : DataFrame
        One row per candidate: `candidate`, `total`, `missed`, `false_alarm`, `confusion` (seconds over
        all recordings), `der` (a fraction), `same_as` (an earlier candidate with the same weights,
        whose scores it shares), `problem` (why there is no score). What fails on one recording has no
        score at all: it would not be comparable.
    recordings : DataFrame
        The same of every candidate and recording, with a column `uri`.
    measure : {"pipeline", "segmentation"}
        What `der` means, see `MEASURES`.
    convention : how it was counted, in words
    failed : recordings that could not be read, with the reason; no candidate was scored on them
    """

    table: pd.DataFrame
    recordings: pd.DataFrame
    measure: str
    convention: str
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def best(self) -> str | None:
        """Name of the candidate with the lowest DER, the first of equal ones."""
        scored = self.table.dropna(subset=["der"])
        return None if scored.empty else str(scored["candidate"].iloc[int(scored["der"].argmin())])

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        per_recording = self.recordings.groupby("candidate", sort=False)
        by_candidate = {name: rows.drop(columns="candidate").set_index("uri") for name, rows in per_recording}
        return {
            "measure": self.measure,
            "convention": f"{MEASURES[self.measure]}; {self.convention}",
            "best": self.best,
            "candidates": {
                row["candidate"]: {
                    **{key: _plain(value) for key, value in row.items() if key != "candidate"},
                    "recordings": by_candidate[row["candidate"]].to_dict("index")
                    if row["candidate"] in by_candidate
                    else {},
                }
                for row in self.table.to_dict("records")
            },
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
        }


def score_checkpoints(
    experiment: str | os.PathLike[str],
    recordings: Mapping[str, str | os.PathLike[str]],
    references: Mapping[str, Annotation],
    *,
    checkpoints: Sequence[str] | None = None,
    embedding: Runtime | str | None = None,
    plda: PLDA | str | os.PathLike[str] | None = None,
    params: PipelineParams | None = None,
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    progress: OnCandidate | None = None,
) -> Selection:
    """Score the checkpoints of a training on a development set.

    Parameters
    ----------
    experiment : path of the experiment directory, or a runtime string of it (``torch:exp?device=cuda``)
    recordings : dict, uri -> audio file
        Each is read once, as long as all of them together have no more than about five hours.
    references : dict, uri -> Annotation
    checkpoints : names of checkpoints, optional
        By default all that are on disk: `best`, every epoch, and `avg:2` to the largest `avg:N` whose
        members are there.
    embedding, plda, params : optional
        With an embedding model, whole recordings are diarized; without, chunks are scored.
    uem : dict, uri -> Timeline, optional
    collar : s on EACH SIDE of a reference boundary
    progress : called before every recording of every checkpoint

    Returns
    -------
    selection : Selection
        In the order of `checkpoints`.
    """
    expect(experiment, (str, os.PathLike), "the path of an experiment directory must be given")
    name = os.fspath(experiment)
    spec = parse_spec(name if name.startswith("torch:") else f"torch:{name}")
    if spec.checkpoint is not None:
        raise InputError(f"{name}: name the experiment without @{spec.checkpoint}, and its checkpoints apart")
    chosen = checkpoints or read_training(spec.path).checkpoints()
    if not chosen:
        raise InputError.at(spec.path, "holds no checkpoint that could be scored")
    candidates = [
        Candidate(name=each, spec=dataclasses.replace(spec, text=f"{name}@{each}", checkpoint=each))
        for each in dict.fromkeys(chosen)
    ]
    return score_candidates(
        candidates,
        recordings,
        references,
        embedding=embedding,
        plda=plda,
        params=params,
        uem=uem,
        collar=collar,
        progress=progress,
    )


def score_candidates(
    candidates: Sequence[Candidate],
    recordings: Mapping[str, str | os.PathLike[str]],
    references: Mapping[str, Annotation],
    *,
    embedding: Runtime | str | None = None,
    plda: PLDA | str | os.PathLike[str] | None = None,
    params: PipelineParams | None = None,
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    progress: OnCandidate | None = None,
) -> Selection:
    """Score segmentation models on the same recordings; arguments as of `score_checkpoints`."""
    params = params or PipelineParams()
    judge = _Judge(
        embedding=load_runtime(embedding, kind="embedding") if isinstance(embedding, str) else embedding,
        plda=plda if plda is None or isinstance(plda, PLDA) else PLDA.load(plda),
        params=params,
        uem=uem,
        collar=collar,
    )
    audio, failed = _read_all(recordings, references, uem)
    report = progress or (lambda what, done, total: None)
    rows: list[dict[str, Any]] = []
    single: list[dict[str, Any]] = []
    seen: dict[object, str] = {}  # what a candidate is -> the first that was it
    for number, candidate in enumerate(candidates):
        report(candidate.name, number * len(audio), len(candidates) * len(audio))
        try:
            runtime = load_runtime(candidate.spec, kind="segmentation")
        except InputError as error:
            rows.append({"candidate": candidate.name, "problem": str(error)})
            continue
        twin = seen.setdefault(_identity(runtime, candidate), candidate.name)
        if twin != candidate.name:
            copied = next(row for row in rows if row["candidate"] == twin)
            rows.append({**copied, "candidate": candidate.name, "same_as": twin})
            single += [{**row, "candidate": candidate.name} for row in single if row["candidate"] == twin]
            continue
        total = DiarizationCounts()
        problem = None
        for done, (uri, source) in enumerate(audio.items()):
            report(f"{candidate.name} {uri}", number * len(audio) + done, len(candidates) * len(audio))
            try:
                counts = judge.score(runtime, uri, _waveform(source), references[uri])
            except RecordingError as error:
                problem = f"{uri}: {error}"
                break
            total += counts
            single.append({"candidate": candidate.name, "uri": uri, **_figures(counts)})
        rows.append({"candidate": candidate.name, **({"problem": problem} if problem else _figures(total))})
    report("", len(candidates) * len(audio), len(candidates) * len(audio))
    if all(row.get("problem") for row in rows):
        raise InputError(f"no candidate could be scored; the first failed so: {rows[0]['problem']}")
    columns = ["candidate", "total", "missed", "false_alarm", "confusion", "der", "same_as", "problem"]
    return Selection(
        table=pd.DataFrame(rows).reindex(columns=columns).astype({"same_as": object, "problem": object}),
        recordings=pd.DataFrame(single, columns=["candidate", "uri", *columns[1:6]]),
        measure=judge.measure,
        convention=judge.convention,
        failed=tuple(failed),
    )


def compare_models(
    models: Mapping[str, str],
    recordings: Mapping[str, str | os.PathLike[str]],
    references: Mapping[str, Annotation],
    **options: Any,
) -> Selection:
    """A few segmentation models side by side: what each costs, how fast it is, how well it does.

    Parameters
    ----------
    models : dict, name -> runtime string
        Such as ``{"large": "torch:exp_large", "pruned": "torch:exp_s80"}``; all are held in memory at once.
    recordings, references, options : as of `score_checkpoints`

    Returns
    -------
    selection : Selection
        The table has three more columns: `parameters`, `macs_per_second` (multiply-accumulates for a
        second of audio, in chunks of the model's length; both empty for what is not run by torch) and
        `rtf`, the real-time factor of the segmentation model: the median over passes in which all
        models take turns, so that whatever else the machine does hits them alike.
    """
    expect(models, Mapping, "models must map names to runtime strings")
    candidates = [Candidate(name=name, spec=parse_spec(spec)) for name, spec in models.items()]
    selection = score_candidates(candidates, recordings, references, **options)
    scored = set(selection.table.loc[selection.table["problem"].isna(), "candidate"])
    runtimes = {
        each.name: load_runtime(each.spec, kind="segmentation") for each in candidates if each.name in scored
    }
    costs = pd.DataFrame(
        [{"candidate": name, **_costs(runtime)} for name, runtime in runtimes.items()],
        columns=["candidate", "parameters", "macs_per_second"],
    )
    speeds = measure_speeds(runtimes)
    costs["rtf"] = costs["candidate"].map(speeds)
    return dataclasses.replace(selection, table=selection.table.merge(costs, on="candidate", how="left"))


def measure_speeds(
    runtimes: Mapping[str, Runtime], num_chunks: int = 4, passes: int = _PASSES, seed: int = 0
) -> dict[str, float]:
    """Real-time factor of segmentation models: seconds of work per second of audio.

    Every model runs on noise in batches of `num_chunks` chunks of its own length, once to warm up,
    then in turns; the median of the passes counts.
    """
    noise = np.random.default_rng(seed)
    batches = {}
    for name, runtime in runtimes.items():
        num_samples = round(segmentation_geometry(runtime).chunk_duration * SAMPLE_RATE)
        batches[name] = (0.1 * noise.standard_normal((num_chunks, num_samples))).astype(np.float32)
        runtime.segment(batches[name])
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(passes):
        for name, runtime in runtimes.items():
            began = time.perf_counter()
            runtime.segment(batches[name])
            seconds[name].append(time.perf_counter() - began)
    return {
        name: float(np.median(taken)) * SAMPLE_RATE / batches[name].size for name, taken in seconds.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """How one model is scored on one recording."""

    embedding: Runtime | None
    plda: PLDA | None
    params: PipelineParams
    uem: Mapping[str, Timeline] | None
    collar: float

    @property
    def measure(self) -> str:
        return SEGMENTATION if self.embedding is None else PIPELINE

    @property
    def convention(self) -> str:
        words = describe_convention(self.collar, skip_overlap=False, has_uem=self.uem is not None)
        return words if self.embedding is not None else words.replace(_EXTENT, "whole recordings")

    def score(
        self, runtime: Runtime, uri: str, waveform: np.ndarray, reference: Annotation
    ) -> DiarizationCounts:
        uem = None if self.uem is None else self.uem[uri]
        if self.embedding is None:
            return self._score_segmentation(runtime, waveform, reference, uem)
        models = Runtimes(segmentation=runtime, embedding=self.embedding, plda=self.plda)
        return score(reference, diarize(waveform, models, self.params, uri=uri), uem, self.collar)

    def _score_segmentation(
        self, runtime: Runtime, waveform: np.ndarray, reference: Annotation, uem: Timeline | None
    ) -> DiarizationCounts:
        geometry = segmentation_geometry(runtime)
        duration = self.params.seg_duration or geometry.chunk_duration
        # side by side, so that every moment counts once
        chunking = Chunking(num_samples=len(waveform), seg_duration=duration, segmentation_step=1.0)
        segmentations = segment_recording(
            waveform,
            runtime,
            chunking,
            batch_size=self.params.batch_size,
            apply_median_filtering=self.params.apply_median_filtering,
        )
        return score_chunks(
            segmentations,
            chunking.axis,
            geometry.frames,
            reference,
            len(waveform) / SAMPLE_RATE,
            uem,
            self.collar,
        )


def _read_all(
    recordings: Mapping[str, str | os.PathLike[str]],
    references: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
) -> tuple[dict[str, np.ndarray | Path], list[tuple[str, str]]]:
    """Waveforms by uri, or paths once many hours are held; and what cannot be scored, with the reason."""
    audio: dict[str, np.ndarray | Path] = {}
    failed: list[tuple[str, str]] = []
    held = 0
    for uri, path in recordings.items():
        if uri not in references:
            failed.append((uri, "no reference names this recording"))
            continue
        if uem is not None and uri not in uem:
            failed.append((uri, "the UEM does not name this recording"))
            continue
        try:
            waveform = read_audio(Path(path), SAMPLE_RATE)
        except RecordingError as error:
            failed.append((uri, str(error)))
            continue
        held += len(waveform)
        audio[uri] = waveform if held <= _KEPT_SAMPLES else Path(path)
    if not audio:
        reasons = "; ".join(f"{uri}: {reason}" for uri, reason in failed[:3])
        raise InputError(f"there is no recording to score{f' ({reasons})' if reasons else ''}")
    return audio, failed


def _waveform(source: np.ndarray | Path) -> np.ndarray:
    return read_audio(source, SAMPLE_RATE) if isinstance(source, Path) else source


def _identity(runtime: Runtime, candidate: Candidate) -> object:
    """What makes two candidates the same: weights, the TOML that explains them, how they are run."""
    model = getattr(runtime, "model", None)
    if model is None:
        return candidate.name
    return model.digest, model.config, tuple(sorted(candidate.spec.options.items()))


def _costs(runtime: Runtime) -> dict[str, float]:
    """Parameters and MACs of what torch runs."""
    network = getattr(runtime, "network", None)
    if network is None:
        return {}
    from workbench.checkpoints.costs import count_costs

    costs = count_costs(network, segmentation_geometry(runtime).chunk_duration)
    return {"parameters": costs.parameters, "macs_per_second": costs.macs_per_second}


def _figures(counts: DiarizationCounts) -> dict[str, float]:
    values = dataclasses.asdict(counts)
    return {
        **{name: values[name] for name in ("total", "missed", "false_alarm", "confusion")},
        "der": counts.der,
    }


def _plain(value: Any) -> Any:
    """None instead of what pandas puts where there is nothing."""
    return None if value is None or (isinstance(value, float) and np.isnan(value)) else value
