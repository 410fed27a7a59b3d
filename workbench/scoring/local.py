"""Error of a segmentation model alone: every chunk is scored under its own best order of speakers."""

from __future__ import annotations

import numpy as np
from pyannote.core import Annotation, Timeline
from scipy.optimize import linear_sum_assignment

from workbench.scoring.diarization import DiarizationCounts
from workbench.types import SlidingWindow


def active_frames(reference: Annotation, times: np.ndarray) -> np.ndarray:
    """Who talks at some moments.

    Parameters
    ----------
    reference : Annotation
    times : float array of any shape, in seconds

    Returns
    -------
    active : bool array, shape of `times` with one more axis, the speakers in the order of `labels()`
    """
    labels = reference.labels()
    active = np.zeros((*times.shape, len(labels)), dtype=bool)
    for segment, _, label in reference.itertracks(yield_label=True):
        active[..., labels.index(label)] |= (times >= segment.start) & (times < segment.end)
    return active


def scored_frames(
    times: np.ndarray,
    duration: float,
    reference: Annotation,
    uem: Timeline | None = None,
    collar: float = 0.0,
) -> np.ndarray:
    """Which moments `times` (s) count: in recording and UEM, further than `collar` from a boundary."""
    scored = (times >= 0) & (times < duration)
    if uem is not None:
        inside = np.zeros_like(scored)
        for region in uem.support():
            inside |= (times >= region.start) & (times < region.end)
        scored &= inside
    if collar > 0:
        edges = {edge for segment in reference.itersegments() for edge in (segment.start, segment.end)}
        for edge in edges:
            scored &= np.abs(times - edge) > collar
    return scored


def score_chunks(
    segmentations: np.ndarray,
    chunks: SlidingWindow,
    frames: SlidingWindow,
    reference: Annotation,
    duration: float,
    uem: Timeline | None = None,
    collar: float = 0.0,
) -> DiarizationCounts:
    """Error counts of local speakers, mapped to the reference anew in every chunk.

    This is the error that remains if clustering made no mistake, so it measures the segmentation
    model alone; it is counted in frames, not at exact boundaries, and is not comparable with the DER
    of whole recordings.

    Parameters
    ----------
    segmentations : array of 0 and 1, shape (num_chunks, num_frames, num_local_speakers)
    chunks, frames : time axes; the frames of a chunk start with it
        Time covered by several chunks counts several times: score chunks that do not overlap.
    reference : Annotation
    duration : s, of the recording
    uem : Timeline, optional
    collar : s left unscored on EACH SIDE of a reference boundary
    """
    num_chunks, num_frames, _ = segmentations.shape
    times = chunks.start_of(np.arange(num_chunks))[:, None] + frames.middle_of(np.arange(num_frames))
    inside = frames.start_of(np.arange(num_frames)) + frames.step <= chunks.step + 1e-9
    scored = scored_frames(times, duration, reference, uem, collar) & inside
    active = active_frames(reference, times)  # (chunk, frame, reference speaker)
    total = missed = false_alarm = correct = both = 0
    for chunk in range(num_chunks):
        kept = scored[chunk]
        ref, hyp = active[chunk][kept].astype(np.int64), np.rint(segmentations[chunk][kept]).astype(np.int64)
        num_ref, num_hyp = ref.sum(axis=1), hyp.sum(axis=1)
        together = hyp.T @ ref  # (local speaker, reference speaker), frames
        rows, columns = linear_sum_assignment(together, maximize=True)
        correct += int(together[rows, columns].sum())
        total += int(num_ref.sum())
        missed += int(np.maximum(num_ref - num_hyp, 0).sum())
        false_alarm += int(np.maximum(num_hyp - num_ref, 0).sum())
        both += int(np.minimum(num_ref, num_hyp).sum())
    return DiarizationCounts(
        total=total * frames.step,
        correct=correct * frames.step,
        missed=missed * frames.step,
        false_alarm=false_alarm * frames.step,
        confusion=(both - correct) * frames.step,
    )
