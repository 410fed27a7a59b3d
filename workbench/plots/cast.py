"""Who appears on a screen: in which row, under which name and in which colours."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from workbench.overview import Diarization, Recording
from workbench.plots.theme import SpeakerStyle, hypothesis_styles, reference_styles
from workbench.plots.words import matched_name, shortened
from workbench.timeline import order_speakers


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who appears on the screen, in which row and how they look."""

    reference: dict[Hashable, SpeakerStyle]
    hypothesis: dict[Hashable, SpeakerStyle]
    reference_names: dict[Hashable, str]
    hypothesis_names: dict[Hashable, str]

    @classmethod
    def of(cls, recording: Recording, diarization: Diarization) -> Cast:
        """Matched speakers stand in the order of the reference, the others below them."""
        turns = recording.reference
        speakers = [] if turns is None else order_speakers(turns)
        place = {speaker: number for number, speaker in enumerate(speakers)}
        matching = diarization.matching
        found = order_speakers(diarization.hypothesis)
        found.sort(key=lambda speaker: place.get(matching.get(speaker), len(place)))  # stable
        styles = reference_styles(speakers)
        return cls(
            reference=styles,
            hypothesis=hypothesis_styles(found, matching, styles),
            reference_names={speaker: str(speaker) for speaker in speakers},
            hypothesis_names={
                speaker: matched_name(speaker, matching, turns is not None) for speaker in found
            },
        )


def labelled_rows(names: list[str], colors: list[str] | None, num_rows: int) -> dict[str, object]:
    """A categorical axis by hand: tick labels with a square in the speaker's colour."""
    texts = [shortened(name) for name in names]
    if colors is not None:
        texts = [
            f"{text} <span style='color:{color}'>■</span>" for text, color in zip(texts, colors, strict=True)
        ]
    return {
        "range": [num_rows - 0.5, -0.5],
        "tickmode": "array",
        "tickvals": list(range(len(texts))),
        "ticktext": texts,
    }
