"""Dumps put in order before they are compared: axes, chunks, padding; errors where they are cut off."""

from __future__ import annotations

import numpy as np

from workbench.agreement.alignment import Alignment
from workbench.agreement.dump_form import other_form
from workbench.agreement.findings import Finding
from workbench.agreement.padding import what_fills
from workbench.agreement.samples import RATES
from workbench.agreement.sides import Feed, LiveFeed, RecordedFeed
from workbench.agreement.time_base import nearest_chunks, order_axes
from workbench.errors import RecordingError
from workbench.segmentation import Chunking
from workbench.types import Geometry

ANOTHER = "was another version of the recording, or another step, recorded?"
_SILENCE = 0.05  # nats between two answers to silence
_STEPS = (0.1, 0.5, 1.0, 0.25, 0.2, 0.05, 0.125, 0.75)  # fractions of a chunk that are in use


def put_in_order(
    mine: Feed,
    theirs: Feed,
    geometry: Geometry,
    other: Geometry,
    chunking: Chunking,
    findings: list[Finding],
    align: bool,
) -> Alignment:
    """Axes of dumps put right, and chunks matched; errors where dumps are cut off."""
    for feed, own, side in ((mine, geometry, "baseline"), (theirs, other, "candidate")):
        if not isinstance(feed, RecordedFeed):
            continue
        step, length = own.chunk_step / own.chunk_duration, own.chunk_duration
        samples = round(chunking.num_samples / chunking.sample_rate * own.sample_rate)
        expected = Chunking(
            num_samples=samples, seg_duration=length, segmentation_step=step, sample_rate=own.sample_rate
        ).num_chunks
        line = other_form(feed.log_probs, expected)
        if line and feed.log_probs.shape[2] == len(own.powerset):
            advice = "write the array again" if feed.path.suffix == ".npz" else "add that line"
            raise RecordingError(
                f"{feed.path}: the values are no log-probabilities as they were read, but are as {line} in "
                f"geometry.json would say; {advice}"
            )
        axes, words = order_axes(feed.log_probs, len(own.powerset), expected)
        if words:
            feed.log_probs = feed.log_probs.transpose(axes)
            feed.num_chunks = len(feed.log_probs)
            findings.append(
                Finding(
                    kind="axis_order",
                    words=f"the {side}'s dump has its axes in the order {words}, expected (chunk, frame, "
                    "class); read as such",
                    severity="warning",
                    side=side,
                    details={"axes": list(axes)},
                )
            )
        elif feed.log_probs.shape[2] != len(own.powerset):
            raise RecordingError(
                f"{feed.path}: log_probs of shape {feed.log_probs.shape} have no axis of {len(own.powerset)} "
                f"classes, as geometry.json lists{_decisions(feed.log_probs, own)}"
            )
        if feed.log_probs.dtype.kind != "f":
            raise RecordingError(
                f"{feed.path}: log_probs are {feed.log_probs.dtype}, quantised codes and not "
                "log-probabilities; dequantise them before they are compared"
            )
        if feed.log_probs.dtype == np.float16:
            words = (
                f"the {side} was stored as float16, which alone makes differences of up to 1e-3 of a value"
            )
            findings.append(Finding(kind="stored_precision", words=words, severity="note", side=side))
        feeds = (mine, theirs)
        padding = what_fills(feed.log_probs, expected) or _silent(feed.log_probs, expected, feeds)
        if padding:
            surplus = feed.num_chunks - expected
            number = f"{surplus} chunk{'s' * (surplus > 1)} too many"
            words = f"the last batch of the {side} was filled up: {number} with {padding}"
            details = {"chunks": surplus, "batch": feed.num_chunks}
            findings.append(
                Finding(
                    kind="padded_batch",
                    words=f"{words}; left out",
                    severity="note",
                    side=side,
                    details=details,
                )
            )
            feed.keep(expected)
        if align and feed.num_chunks == expected - 1:
            words = f"the {side} lacks the last chunk, usually the one padded with zeros; it is not compared"
            findings.append(Finding(kind="last_chunk", words=words, severity="warning", side=side))
        elif feed.num_chunks != expected:
            what = "cut off" if feed.num_chunks < expected else "too long"
            raise RecordingError(
                f"{feed.path}: is {what}: {feed.num_chunks} chunks, but {samples / own.sample_rate:.2f} s of "
                f"audio make {expected} of {length:g} s every {own.chunk_step:g} s; "
                + (_why_so_many(feed.num_chunks, samples, own) or ANOTHER)
            )
    if align and same_chunks(geometry, other, mine, theirs):
        mine.num_chunks = theirs.num_chunks = min(mine.num_chunks, theirs.num_chunks)
    if mine.num_chunks == theirs.num_chunks and same_chunks(geometry, other, mine, theirs):
        return Alignment()
    if isinstance(mine, LiveFeed) or isinstance(theirs, LiveFeed):
        if mine.num_chunks == theirs.num_chunks:
            return Alignment()
        if abs(mine.num_chunks - theirs.num_chunks) == 1:  # another sample rate rounds otherwise
            shorter = min(mine.num_chunks, theirs.num_chunks)
            mine.num_chunks = theirs.num_chunks = shorter
            return Alignment()
    chunks, frames = nearest_chunks(
        geometry, other, mine.num_chunks, theirs.num_chunks, mine.run(np.array([0])).shape[1]
    )
    return Alignment(chunks=chunks, frames=frames, local_speakers=True)


def same_chunks(geometry: Geometry, other: Geometry, mine: Feed, theirs: Feed) -> bool:
    """Whether both sides cut the recording at the same places."""
    if isinstance(mine, LiveFeed) or isinstance(theirs, LiveFeed):
        return True
    return all(
        abs(getattr(geometry, name) - getattr(other, name)) < 1e-6
        for name in ("chunk_duration", "chunk_step")
    )


def _decisions(array: np.ndarray, geometry: Geometry) -> str:
    """A hint where an array holds who is active in place of scores."""
    if array.shape[-1] == geometry.num_speakers and array.min() >= 0 and array.max() <= 1:
        return (
            f"; {geometry.num_speakers} columns from 0 to 1 are local speakers, so these are decisions, not "
            "scores: write the log-probabilities of the classes, or compare them as segmentations with "
            "workbench steps"
        )
    return ""


def _silent(array: np.ndarray, expected: int, feeds: tuple[Feed, Feed]) -> str:
    """Whether the entries behind the first `expected` are what the other side's model says to silence."""
    live = next((feed for feed in feeds if isinstance(feed, LiveFeed)), None)
    if live is None or not 0 < expected < len(array):
        return ""
    nothing = np.zeros((1, live.chunking.window_samples), dtype=np.float32)
    answer = np.asarray(live.runtime.segment(nothing))[0]
    surplus = array[expected:]
    alike = surplus.shape[1:] == answer.shape and np.abs(surplus - answer).max() < _SILENCE
    return "what the model answers to zeros" if alike else ""


def _why_so_many(num_chunks: int, num_samples: int, geometry: Geometry) -> str:
    """A step or a sample rate that would make this number of chunks; empty where none in use does."""

    def count(samples: float, step: float) -> int:
        return Chunking(
            num_samples=max(1, round(samples)),
            seg_duration=geometry.chunk_duration,
            segmentation_step=step / geometry.chunk_duration,
            sample_rate=geometry.sample_rate,
        ).num_chunks

    for part in _STEPS:
        step = part * geometry.chunk_duration
        if abs(step - geometry.chunk_step) > 1e-9 and count(num_samples, step) == num_chunks:
            return (
                f"a step of {step:g} s makes that many: correct chunk_step in geometry.json if that is what "
                "was used"
            )
    for rate in RATES:
        heard = num_samples * rate / geometry.sample_rate
        if rate != geometry.sample_rate and count(heard, geometry.chunk_step) == num_chunks:
            return (
                f"a recording of {heard / geometry.sample_rate:.2f} s makes that many, as if samples at "
                f"{rate} Hz had been taken for {geometry.sample_rate} Hz: a wrong header, or no resampling"
            )
    return ""
