"""Sound under a picture: clips cut from a recording, and the player that shows where it is."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from workbench.audio import crop_audio

CLIP_LIMIT = 60.0  # s: about 2 MB over the wire; longer selections are played from their start
SAMPLE_RATE = 16000  # Hz


def wav_bytes(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> bytes:
    """A mono 16-bit WAV file.

    Parameters
    ----------
    waveform : float array, shape (num_samples,), in [-1, 1]
        What lies outside is clipped.
    """
    samples = np.rint(np.clip(waveform, -1.0, 1.0) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def cut_clip(path: Path, start: float, end: float, limit: float = CLIP_LIMIT) -> bytes:
    """The stretch of a recording from `start` to `end` (s), at most `limit` seconds of it, as WAV."""
    return wav_bytes(crop_audio(path, start, min(end, start + limit)))


class Player(anywidget.AnyWidget):
    """What is selected, in words, with a button that plays it.

    In the browser it also draws the two lines over the lanes of the figure on the same screen:
    where the mouse is, and where the sound is.
    """

    _esm = Path(__file__).with_name("player.js")
    _css = Path(__file__).with_name("screen.css")

    text = traitlets.Unicode("").tag(sync=True)  # the selection, in words
    wav = traitlets.Bytes(b"").tag(sync=True)
    start = traitlets.Float(0.0).tag(sync=True)  # s, where the clip lies in the recording
    serial = traitlets.Int(0).tag(sync=True)  # counts the clips: a new one is played at once
    request = traitlets.Int(0).tag(sync=True)  # counts how often the button asked for a clip

    def play(self, wav: bytes, start: float) -> None:
        """Send a clip to the browser, where it plays at once."""
        with self.hold_sync():
            self.wav, self.start, self.serial = wav, start, self.serial + 1
