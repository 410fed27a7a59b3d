"""The samples that a recorded side noted, against ours; the other channels of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workbench.agreement.findings import Finding
from workbench.agreement.samples import SAME, relate_samples
from workbench.agreement.sides import SAMPLE_RATE, Feed, RecordedFeed

_NAMES = ("samples", "waveform", "audio")
_MOST_VALUES = 1 << 27  # samples of all channels that are held at once


def heard_samples(feeds: tuple[Feed, Feed], waveform: np.ndarray, source: object) -> list[Finding]:
    """Where a recorded side noted its samples: how they differ from those of the recording.

    Parameters
    ----------
    feeds : both sides
    waveform : float32 array, shape (num_samples,), at 16 kHz
    source : the recording's file, if it has one
    """
    findings = []
    for feed, side in zip(feeds, ("baseline", "candidate"), strict=True):
        if not isinstance(feed, RecordedFeed):
            continue
        noted = next((feed.arrays[name] for name in _NAMES if name in feed.arrays), None)
        if noted is None or noted.size != max(noted.shape, default=0):
            continue
        samples = noted.reshape(-1)
        relation = relate_samples(waveform, samples, SAMPLE_RATE)
        if relation is None:
            continue
        several = other_channels(source, len(samples)) if isinstance(source, Path) else {}
        channel = next(
            (name for name, heard in several.items() if np.abs(heard - samples).max() <= 2 * SAME), ""
        )
        if channel:
            words = f"the {side} heard {channel} of {source}, not the first channel"
            findings.append(Finding(kind="channel", words=words, side=side, details={"channel": channel}))
        else:
            words = relation.words.replace("the candidate", f"the {side}", 1)
            findings.append(Finding(kind="samples", words=words, side=side, details=relation.details))
    return findings


def other_channels(path: Path, num_samples: int) -> dict[str, np.ndarray]:
    """Waveforms at 16 kHz of the channels that are not read, and the mean of all."""
    import soundfile

    try:
        about = soundfile.info(str(path))
        if about.channels < 2 or about.frames * about.channels > _MOST_VALUES:
            return {}
        content, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError):
        return {}
    several = {f"channel {number + 1}": content[:, number] for number in range(1, content.shape[1])}
    several["the mean of all channels"] = content.mean(axis=1)
    if rate != SAMPLE_RATE:
        import soxr

        several = {n: soxr.resample(each, rate, SAMPLE_RATE, quality="HQ") for n, each in several.items()}
    fitted = {name: each[:num_samples].astype(np.float32) for name, each in several.items()}
    return {name: each for name, each in fitted.items() if len(each) == num_samples}
