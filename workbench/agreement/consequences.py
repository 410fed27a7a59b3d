"""From flips to seconds: which of them survive the pipeline, and what they cost.

A flip may be voted away by the median filter, by the other chunks that see the same moment, or by the
reconstruction. What is left are the regions in which the two outputs differ; their seconds add up to the
whole difference, the cross-DER, and with a reference to the change of the DER.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.aggregation import FrameGrid
from workbench.clustering import PLDA, cluster
from workbench.config import PipelineParams
from workbench.embedding import embed_recording
from workbench.linking import best_permutation
from workbench.powerset import MEDIAN_FRAMES, mapping, median_filter
from workbench.reconstruction import reconstruct
from workbench.runtimes import Runtime
from workbench.scoring import DiarizationCounts, score
from workbench.scoring.regions import find_changes, find_errors
from workbench.segmentation import Chunking
from workbench.types import Features, Geometry

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline


@dataclass(frozen=True, kw_only=True, eq=False)
class Backend:
    """What follows the segmentation, the same for both sides."""

    params: PipelineParams
    embedding: Runtime | None = None  # without one, local speakers are linked from chunk to chunk
    plda: PLDA | None = None

    @property
    def words(self) -> str:
        """How speakers are told apart."""
        if self.embedding is None:
            return "local speakers linked over the overlap of chunks"
        return (
            f"embeddings of {self.embedding}, {type(self.params.clustering).__name__.removesuffix('Params')}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Consequences:
    """What the flips of one recording did to the output.

    Attributes
    ----------
    flips : those of the comparison, with three more columns: `after_median` (the filtered decision still
        differs there), `in_output` (the outputs differ at that moment), `region` (row of `ledger`, or -1)
    ledger : DataFrame, one row per region in which the outputs differ: `start`, `end` (s), `seconds` (of
        speaker time: those of all rows add up to `difference`), `missed`, `false_alarm`, `confusion`
        (seconds, the baseline taken as the reference), `baseline`, `candidate` (speakers, as text), `flips`,
        `real_flips` (that fall into it), `cause`: `flips`, or `clustering`, where speakers were linked or
        clustered otherwise although no frame flipped there; with a reference `der_seconds`, how many seconds
        of error the candidate makes more than the baseline
    cross : counts of the candidate against the baseline
    baseline, candidate : the two outputs
    baseline_counts, candidate_counts : both against the reference, where there is one
    elsewhere : seconds of error that changed where the outputs are the same, because speakers of the
        reference are matched otherwise; with `der_seconds` it adds up to the whole change
    """

    flips: pd.DataFrame
    ledger: pd.DataFrame
    cross: DiarizationCounts
    baseline: Annotation
    candidate: Annotation
    baseline_counts: DiarizationCounts | None = None
    candidate_counts: DiarizationCounts | None = None
    elsewhere: float = 0.0
    filtered_frames: int = 0  # chunk frames whose filtered decision differs

    @property
    def difference(self) -> float:
        """Seconds of speaker time in which the outputs differ: what the ledger adds up to."""
        return self.cross.missed + self.cross.false_alarm + self.cross.confusion

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        survivors = self.flips
        return {
            "cross_der": self.cross.der if self.cross.total else None,
            "difference_seconds": self.difference,
            "cross": {
                "total": self.cross.total,
                "missed": self.cross.missed,
                "false_alarm": self.cross.false_alarm,
                "confusion": self.cross.confusion,
            },
            "flips_after_median": int(survivors["after_median"].sum()),
            "flips_in_output": int(survivors["in_output"].sum()),
            "frames_after_median": self.filtered_frames,
            "num_speakers_baseline": len(self.baseline.labels()),
            "num_speakers_candidate": len(self.candidate.labels()),
            "by_cause": self.ledger.groupby("cause")["seconds"].sum().to_dict(),
            "der_elsewhere_seconds": self.elsewhere,
            "ledger": self.ledger.to_dict("records"),
        }


def trace(
    baseline: np.ndarray,
    candidate: np.ndarray,
    flips: pd.DataFrame,
    geometry: Geometry,
    chunking: Chunking,
    waveform: np.ndarray,
    backend: Backend,
    *,
    uri: str = "waveform",
    reference: Annotation | None = None,
    uem: Timeline | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> Consequences:
    """Follow every flip of one recording to the output.

    Parameters
    ----------
    baseline, candidate : int arrays, shape (num_chunks, num_frames)
        Best powerset class of every frame.
    flips : what `find_flips` gave for them
    geometry : of the baseline
    chunking : where the chunks lie
    waveform : float32 array, shape (num_samples,)
    backend : clustering and reconstruction
    uri : name of the recording
    reference, uem, collar, skip_overlap : as of `score`
    """
    table = mapping(geometry.powerset)
    decided = []
    for best in (baseline, candidate):
        segmentations = table[best]
        if backend.params.apply_median_filtering:
            segmentations = median_filter(segmentations)
        decided.append(segmentations)
    outputs = [diarize_segmentations(each, geometry, chunking, waveform, backend, uri) for each in decided]
    first, second = outputs
    changed = (decided[0] != decided[1]).any(axis=2)
    ledger = _ledger(first, second, flips, geometry)
    flips = _mark(flips, changed, ledger)
    counts: list[DiarizationCounts | None] = [None, None]
    elsewhere = 0.0
    if reference is not None:
        how = {"uem": uem, "collar": collar, "skip_overlap": skip_overlap}
        if uem is None:  # the same stretch for both, so that their errors can be subtracted
            whole = reference.get_timeline().union(first.get_timeline()).union(second.get_timeline())
            how["uem"] = whole.extent() if len(whole) else None
        counts = [score(reference, each, **how) for each in outputs]  # type: ignore[arg-type]
        changes = find_changes(reference, first, second, **how)  # type: ignore[arg-type]
        seconds = _in_regions(changes, ledger)
        ledger = ledger.assign(der_seconds=seconds)
        errors = [each.missed + each.false_alarm + each.confusion for each in counts if each is not None]
        elsewhere = errors[1] - errors[0] - float(seconds.sum())
        elsewhere = 0.0 if abs(elsewhere) < 1e-9 else elsewhere
    return Consequences(
        flips=flips,
        ledger=ledger,
        cross=score(first, second),
        baseline=first,
        candidate=second,
        baseline_counts=counts[0],
        candidate_counts=counts[1],
        elsewhere=elsewhere,
        filtered_frames=int(changed.sum()),
    )


def diarize_segmentations(
    segmentations: np.ndarray,
    geometry: Geometry,
    chunking: Chunking,
    waveform: np.ndarray,
    backend: Backend,
    uri: str,
) -> Annotation:
    """Output of the pipeline for given decisions (num_chunks, num_frames, num_local_speakers)."""
    features = Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=np.zeros((*segmentations.shape[::2], 1), dtype=np.float32),
        chunks=chunking.axis,
        frames=geometry.frames,
    )
    options = backend.params.reconstruction_options()
    if backend.embedding is None:
        clusters = link_local_speakers(segmentations, FrameGrid.of(features).starts)
    else:
        embeddings = embed_recording(
            waveform,
            segmentations,
            backend.embedding,
            chunking,
            batch_size=backend.params.batch_size,
            exclude_overlap=backend.params.embedding_exclude_overlap,
            uri=uri,
        )
        features = replace(features, embeddings=embeddings)
        clusters = cluster(features, backend.params.clustering, backend.plda)
    return reconstruct(features, clusters, **options)


def link_local_speakers(segmentations: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Tracks of local speakers, by who is active together where neighbouring chunks overlap.

    Parameters
    ----------
    segmentations : float array, shape (num_chunks, num_frames, num_local_speakers)
        0 or 1.
    starts : int array, shape (num_chunks,)
        Frame of the recording at which every chunk begins.

    Returns
    -------
    tracks : int64 array, shape (num_chunks, num_local_speakers)
        As `cluster` returns hard clusters.
    """
    num_chunks, num_frames, num_speakers = segmentations.shape
    tracks = np.tile(np.arange(num_speakers), (num_chunks, 1))
    for chunk in range(1, num_chunks):
        step = int(starts[chunk] - starts[chunk - 1])
        if not 0 <= step < num_frames:
            continue
        before, after = segmentations[chunk - 1, step:], segmentations[chunk, : num_frames - step]
        # speaker `permutation[s]` of this chunk goes on with the track of speaker s before
        permutation = best_permutation(before.T @ after)
        tracks[chunk, permutation] = tracks[chunk - 1]
    return tracks


def _ledger(first: Annotation, second: Annotation, flips: pd.DataFrame, geometry: Geometry) -> pd.DataFrame:
    """Regions in which the outputs differ, with the flips that fall into them."""
    errors = find_errors(first, second).sort_values("start", ignore_index=True)
    columns = ["start", "end", "seconds", "missed", "false_alarm", "confusion", "baseline", "candidate"]
    starts, ends = errors["start"].to_numpy(), errors["end"].to_numpy()
    reach = np.maximum.accumulate(ends) if len(ends) else ends
    new = np.ones(len(errors), dtype=bool)
    new[1:] = starts[1:] > reach[:-1] + 1e-9
    region = np.cumsum(new) - 1
    rows = []
    for _, group in errors.groupby(region):
        seconds = group["end"] - group["start"]
        kinds = seconds.groupby(group["kind"]).sum()
        rows.append(
            {
                "start": group["start"].min(),
                "end": group["end"].max(),
                "seconds": float(seconds.sum()),
                "missed": float(kinds.get("missed", 0.0)),
                "false_alarm": float(kinds.get("false_alarm", 0.0)),
                "confusion": float(kinds.get("confusion", 0.0)),
                "baseline": _names(group["reference_speaker"]),
                "candidate": _names(group["hypothesis_speaker"]),
            }
        )
    ledger = pd.DataFrame(rows, columns=columns)
    # a flip moves a boundary by up to half the filter, and boundaries are middles of frames
    reach_s = (MEDIAN_FRAMES // 2 + 1) * geometry.frame_step + 0.5 * geometry.frame_duration
    times = np.sort(flips["time"].to_numpy())
    real = np.sort(flips.loc[~flips["near_tie"], "time"].to_numpy())
    low, high = ledger["start"].to_numpy(float) - reach_s, ledger["end"].to_numpy(float) + reach_s
    ledger["flips"] = np.searchsorted(times, high, "right") - np.searchsorted(times, low, "left")
    ledger["real_flips"] = np.searchsorted(real, high, "right") - np.searchsorted(real, low, "left")
    ledger["cause"] = np.where(ledger["flips"] > 0, "flips", "clustering").astype(object)
    ledger.attrs["reach"] = reach_s
    return ledger


def _mark(flips: pd.DataFrame, changed: np.ndarray, ledger: pd.DataFrame) -> pd.DataFrame:
    """The flips, with what became of each."""
    times = flips["time"].to_numpy()
    reach = ledger.attrs["reach"]
    region = np.full(len(flips), -1, dtype=np.int32)
    if len(ledger):
        nearest = np.clip(np.searchsorted(ledger["start"].to_numpy(), times + reach, "right") - 1, 0, None)
        inside = (times >= ledger["start"].to_numpy()[nearest] - reach) & (
            times <= ledger["end"].to_numpy()[nearest] + reach
        )
        region[inside] = nearest[inside]
    after = changed[flips["chunk"].to_numpy(), flips["frame"].to_numpy()]
    return flips.assign(after_median=after, in_output=(region >= 0) & after, region=region)


def _in_regions(changes: pd.DataFrame, ledger: pd.DataFrame) -> pd.Series:
    """Seconds of error that were added (or, negative, saved) inside every region of the ledger."""
    signed = np.where(changes["change"] == "broken", 1.0, -1.0) * changes["speakers"].to_numpy(float)
    starts, ends = changes["start"].to_numpy(float), changes["end"].to_numpy(float)
    found = []
    for low, high in zip(ledger["start"], ledger["end"], strict=True):
        shared = np.minimum(ends, high) - np.maximum(starts, low)
        found.append(float(signed @ np.clip(shared, 0.0, None)))
    return pd.Series(found, index=ledger.index, dtype=np.float64)


def _names(speakers: Iterable[Any]) -> str:
    return "+".join(sorted({str(each) for each in speakers if each is not None and each == each})) or "nobody"
