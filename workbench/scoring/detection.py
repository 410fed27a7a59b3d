"""Speech, overlap and the number of speakers: how well each is found, whoever talks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.scoring.slots import Slots


@dataclass(frozen=True, kw_only=True)
class SpeechCounts:
    """Seconds of speech, several speakers at once counted once; counts of recordings add."""

    total: float = 0.0  # speech of the reference
    missed: float = 0.0
    false_alarm: float = 0.0

    @classmethod
    def of(cls, slots: Slots) -> SpeechCounts:
        """Counts of one recording."""
        ref, hyp = slots.num_ref > 0, slots.num_hyp > 0
        return cls(
            total=float(ref @ slots.seconds),
            missed=float((ref & ~hyp) @ slots.seconds),
            false_alarm=float((hyp & ~ref) @ slots.seconds),
        )

    @property
    def error_rate(self) -> float:
        """Detection error rate, a fraction; without reference speech 0 if nothing was found, else 1."""
        errors = self.missed + self.false_alarm
        return errors / self.total if self.total else float(errors > 0)

    def __add__(self, other: SpeechCounts) -> SpeechCounts:
        if not isinstance(other, SpeechCounts):
            return NotImplemented
        return SpeechCounts(
            total=self.total + other.total,
            missed=self.missed + other.missed,
            false_alarm=self.false_alarm + other.false_alarm,
        )


@dataclass(frozen=True, kw_only=True)
class OverlapCounts:
    """Seconds in which two or more speakers talk at once; counts of recordings add.

    A speaker whose turns overlap each other is one speaker.
    """

    reference: float = 0.0
    hypothesis: float = 0.0
    common: float = 0.0

    @classmethod
    def of(cls, slots: Slots) -> OverlapCounts:
        """Counts of one recording."""
        ref, hyp = ((active > 0).sum(axis=1) > 1 for active in (slots.active_ref, slots.active_hyp))
        return cls(
            reference=float(ref @ slots.seconds),
            hypothesis=float(hyp @ slots.seconds),
            common=float((ref & hyp) @ slots.seconds),
        )

    @property
    def precision(self) -> float:
        """Part of the overlap found that is overlap; NaN where none was found."""
        return self.common / self.hypothesis if self.hypothesis else math.nan

    @property
    def recall(self) -> float:
        """Part of the overlap that was found; NaN where there is none."""
        return self.common / self.reference if self.reference else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without overlap on either side."""
        both = self.reference + self.hypothesis
        return 2 * self.common / both if both else math.nan

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        if not isinstance(other, OverlapCounts):
            return NotImplemented
        return OverlapCounts(
            reference=self.reference + other.reference,
            hypothesis=self.hypothesis + other.hypothesis,
            common=self.common + other.common,
        )


@dataclass(frozen=True, kw_only=True)
class SpeakerCounts:
    """How many speakers there are; of several recordings, the sums."""

    reference: int = 0
    hypothesis: int = 0
    error: int = 0  # too many or too few, summed without sign
    recordings: int = 0
    right: int = 0  # recordings with the right number

    @classmethod
    def of(cls, slots: Slots) -> SpeakerCounts:
        """Speakers who talk in scored time."""
        ref, hyp = (int((active.sum(axis=0) > 0).sum()) for active in (slots.active_ref, slots.active_hyp))
        return cls(reference=ref, hypothesis=hyp, error=abs(hyp - ref), recordings=1, right=int(ref == hyp))

    def __add__(self, other: SpeakerCounts) -> SpeakerCounts:
        if not isinstance(other, SpeakerCounts):
            return NotImplemented
        return SpeakerCounts(
            reference=self.reference + other.reference,
            hypothesis=self.hypothesis + other.hypothesis,
            error=self.error + other.error,
            recordings=self.recordings + other.recordings,
            right=self.right + other.right,
        )


@dataclass(frozen=True, kw_only=True)
class DetectionCounts:
    """Speech, overlap and speaker count together; counts of recordings add."""

    speech: SpeechCounts = SpeechCounts()
    overlap: OverlapCounts = OverlapCounts()
    speakers: SpeakerCounts = SpeakerCounts()

    @classmethod
    def of(cls, slots: Slots) -> DetectionCounts:
        """Counts of one recording."""
        return cls(
            speech=SpeechCounts.of(slots), overlap=OverlapCounts.of(slots), speakers=SpeakerCounts.of(slots)
        )

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        if not isinstance(other, DetectionCounts):
            return NotImplemented
        return DetectionCounts(
            speech=self.speech + other.speech,
            overlap=self.overlap + other.overlap,
            speakers=self.speakers + other.speakers,
        )

    def to_dict(self) -> dict[str, float | None]:
        """Figures for a report, rates as fractions, None where undefined."""
        values = {
            "speech_total": self.speech.total,
            "speech_missed": self.speech.missed,
            "speech_false_alarm": self.speech.false_alarm,
            "speech_error_rate": self.speech.error_rate,
            "overlap_total": self.overlap.reference,
            "overlap_precision": self.overlap.precision,
            "overlap_recall": self.overlap.recall,
            "overlap_f1": self.overlap.f1,
            "speakers_reference": self.speakers.reference,
            "speakers_hypothesis": self.speakers.hypothesis,
            "speaker_count_error": self.speakers.error,
        }
        return {name: value if math.isfinite(value) else None for name, value in values.items()}
