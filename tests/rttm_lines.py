"""RTTM lines as DiariZen and pyannote write them, to compare texts."""

from __future__ import annotations

from pyannote.core import Annotation


def rttm_lines(annotation: Annotation) -> list[str]:
    turns = sorted(
        (segment.start, segment.end, str(label))
        for segment, _, label in annotation.itertracks(yield_label=True)
    )
    return [
        f"SPEAKER {annotation.uri} 1 {start:.3f} {end - start:.3f} <NA> <NA> {label} <NA> <NA>"
        for start, end, label in turns
    ]
