"""Made-up recordings with one embedding per segment, as x-vector recipes have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pyannote.core import Annotation, Segment

from workbench.clustering import PLDA
from workbench.synthetic import make_plda
from workbench.types import SegmentFeatures

NUM_LDA = 24


def make_segments(
    rng: np.random.Generator, *, num_turns: int = 30, num_speakers: int = 3, noise: float = 1.0
) -> tuple[SegmentFeatures, Annotation, PLDA]:
    """Speakers in turn, a window of 1.5 s every 0.5 s of what they say, and their PLDA."""
    plda = make_plda(rng, 48, NUM_LDA)
    # recipes give the model vectors of length one: its variances have to sum to that
    plda = replace(plda, tr=plda.tr * np.sqrt(NUM_LDA + plda.psi.sum()), mu=np.zeros(NUM_LDA))
    voices = rng.standard_normal((num_speakers, NUM_LDA)) * np.sqrt(plda.psi)
    reference = Annotation(uri="talk")
    segments, points, start = [], [], 0.0
    for speaker in rng.integers(0, num_speakers, num_turns).tolist():
        end = start + float(rng.uniform(1.6, 6.0))
        reference[Segment(start, end), speaker] = f"speaker {speaker}"
        for onset in np.arange(start, end - 1.5, 0.5).tolist():
            segments.append((onset, onset + 1.5))
            points.append(voices[speaker] + noise * rng.standard_normal(NUM_LDA))
        start = end + float(rng.uniform(0.0, 1.0))
    whitened = np.array(points) @ np.linalg.pinv(plda.tr).T
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    embeddings = (whitened + plda.mean2) @ plda.lda.T + plda.mean1
    return SegmentFeatures(uri="talk", embeddings=embeddings, segments=np.array(segments)), reference, plda
