"""Short-time spectra of a clip, as an array to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WINDOW = 0.032  # s: resolves the harmonics of most voices
FLOOR_DB = -70.0  # below the loudest bin; quieter is shown as silence


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrogram:
    """Levels over time and frequency.

    Attributes
    ----------
    levels : float32 array, shape (num_frequencies, num_frames), in dB, 0 for the loudest bin
    duration : s
    highest : Hz, the frequency of the last row
    """

    levels: np.ndarray
    duration: float
    highest: float


def spectrogram(
    waveform: np.ndarray, sample_rate: int = 16000, *, num_frames: int = 800, window: float = WINDOW
) -> Spectrogram:
    """Spectrogram of `waveform`, Hann windows around evenly spaced moments.

    Parameters
    ----------
    waveform : float array, shape (num_samples,)
    num_frames : at most; one per pixel of the picture
        Windows never stand closer than a millisecond.
    window : s

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    >>> found = spectrogram(tone)
    >>> float(found.levels[:, 100].argmax() * found.highest / (len(found.levels) - 1))
    1000.0
    """
    size = round(window * sample_rate)
    padded = np.pad(np.asarray(waveform, dtype=np.float32), size // 2)
    num_frames = max(min(num_frames, int(1000 * len(waveform) / sample_rate)), 1)
    middles = np.linspace(0, max(len(waveform) - 1, 0), num_frames).astype(np.int64)
    frames = padded[middles[:, None] + np.arange(size)]  # (frame, sample)
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    levels = 10 * np.log10(power / max(float(power.max(initial=0)), 1e-20) + 1e-12)
    return Spectrogram(
        levels=levels.T.astype(np.float32), duration=len(waveform) / sample_rate, highest=sample_rate / 2
    )
