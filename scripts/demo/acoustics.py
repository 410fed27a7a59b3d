"""Rooms, noises and channels: what happens to a voice between a mouth and a file.

Everything works on float32 waveforms at 16 kHz; levels are in dB relative to the speech, whose active part
has a root mean square of 1 before the recording is scaled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import oaconvolve

from scripts.demo.voices import SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class Room:
    """Reverberation that a whole recording shares."""

    rt60: float  # s
    direct_to_reverberant: float  # dB, mean over the speakers


def db_to_gain(level_db: float | np.ndarray) -> float | np.ndarray:
    """Amplitude factor of a level difference."""
    return 10 ** (level_db / 20)


def scale_to(waveform: np.ndarray, level_db: float) -> np.ndarray:
    """The waveform with a root mean square of `level_db` over its non-zero samples."""
    active = waveform[waveform != 0]
    if not len(active):
        return waveform
    return waveform * np.float32(db_to_gain(level_db) / np.sqrt(np.mean(active.astype(np.float64) ** 2)))


def draw_room(rng: np.random.Generator) -> Room:
    """From a headset to a meeting room with a far one."""
    return Room(rt60=rng.uniform(0.15, 0.8), direct_to_reverberant=rng.uniform(-4, 15))


def draw_impulse_response(rng: np.random.Generator, room: Room) -> np.ndarray:
    """Six early reflections and an exponentially decaying tail after a direct sound at sample 0."""
    num_samples = int(room.rt60 * SAMPLE_RATE)
    time = np.arange(num_samples) / SAMPLE_RATE
    tail = rng.standard_normal(num_samples) * np.exp(-6.9 * time / room.rt60)
    tail *= np.minimum(1, time / 0.01)  # the tail builds up after the early reflections
    early = np.zeros(num_samples)
    early[rng.integers(20, int(0.05 * SAMPLE_RATE), 6)] = rng.uniform(-1, 1, 6)
    reverberant = tail / np.linalg.norm(tail) + 0.7 * early / (np.linalg.norm(early) + 1e-9)
    ratio_db = room.direct_to_reverberant + rng.normal(0, 3)
    reverberant *= db_to_gain(-ratio_db) / np.linalg.norm(reverberant)
    reverberant[0] = 1.0
    return (reverberant / np.linalg.norm(reverberant)).astype(np.float32)


def reverberate(waveform: np.ndarray, impulse_response: np.ndarray) -> np.ndarray:
    """The waveform in the room; longer by the response less one sample."""
    return oaconvolve(waveform, impulse_response).astype(np.float32)


def draw_level_envelope(rng: np.random.Generator, num_samples: int, depth_db: float) -> np.ndarray:
    """A slowly moving gain with knots every 0.4 s: nobody speaks at one level."""
    num_knots = 2 + int(num_samples / (0.4 * SAMPLE_RATE))
    knots = rng.uniform(-depth_db, 0, num_knots)
    return db_to_gain(
        np.interp(np.linspace(0, num_knots - 1, num_samples), np.arange(num_knots), knots)
    ).astype(np.float32)


def draw_coloured_noise(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Stationary noise with a power spectrum of 1/f^slope, slowly modulated, sometimes with hum."""
    slope = rng.uniform(0, 2.2)
    size = next_fast_len(num_samples, real=True)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    spectrum = rfft(rng.standard_normal(size, dtype=np.float32)) * np.maximum(frequency, 40) ** (-slope / 2)
    noise = irfft(spectrum, size)[:num_samples]
    noise /= np.std(noise)
    noise *= draw_level_envelope(rng, num_samples, rng.uniform(0, 4))
    if rng.random() < 0.3:
        second = np.arange(SAMPLE_RATE) / SAMPLE_RATE  # every mains frequency repeats after a second
        pitch = rng.choice([50.0, 60.0, 100.0, 120.0])
        hum = sum(rng.uniform(0, 0.6) * np.sin(2 * np.pi * k * pitch * second) for k in (1, 2, 3))
        noise += np.resize(hum.astype(np.float32), num_samples)
    return noise


def draw_event(rng: np.random.Generator) -> np.ndarray:
    """A short sound that is no speech: breath, rustle, keystrokes or a knock."""
    return rng.choice([_draw_breath, _draw_rustle, _draw_typing, _draw_knock])(rng)


def draw_stretch(rng: np.random.Generator) -> np.ndarray:
    """Seconds of what a headset hears of its wearer besides speech: breathing, or handling and typing."""
    return _draw_breathing(rng) if rng.random() < 0.6 else _draw_handling(rng)


def draw_channel_response(rng: np.random.Generator, num_bins: int) -> np.ndarray:
    """Gain of each frequency bin of a microphone: a nine-point equaliser, sometimes a telephone."""
    frequency = np.linspace(0, SAMPLE_RATE / 2, num_bins)
    points_db = rng.normal(0, 4, 9) if rng.random() < 0.5 else np.zeros(9)
    gain = db_to_gain(np.interp(frequency, np.linspace(0, SAMPLE_RATE / 2, 9), points_db))
    if rng.random() < 0.08:
        low, high = rng.uniform(150, 350), rng.uniform(3200, 3800)
        gain = (
            gain / np.sqrt(1 + (low / np.maximum(frequency, 1)) ** 8) / np.sqrt(1 + (frequency / high) ** 24)
        )
    return gain


def apply_channel(rng: np.random.Generator, waveform: np.ndarray) -> np.ndarray:
    """The waveform through a random microphone."""
    size = next_fast_len(len(waveform), real=True)
    spectrum = rfft(waveform, size)
    response = draw_channel_response(rng, len(spectrum)).astype(np.float32)
    return irfft(spectrum * response, size)[: len(waveform)]


def add_at(track: np.ndarray, sound: np.ndarray, start: int) -> None:
    """Add a sound to a track in place; what lies past the end is lost."""
    room = max(0, min(len(sound), len(track) - start))
    track[start : start + room] += sound[:room]


def _draw_band_noise(rng: np.random.Generator, num_samples: int, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
    centre, width = np.sqrt(low * high), np.log(high / low) / 2
    spectrum *= np.exp(-0.5 * (np.log(np.maximum(frequency, 1) / centre) / width) ** 2)
    return np.fft.irfft(spectrum, num_samples)


def _draw_breath(rng: np.random.Generator) -> np.ndarray:
    num_samples = int(rng.uniform(0.2, 0.8) * SAMPLE_RATE)
    noise = _draw_band_noise(rng, num_samples, rng.uniform(300, 900), rng.uniform(2500, 6000))
    return (noise * np.hanning(num_samples)).astype(np.float32)


def _draw_rustle(rng: np.random.Generator) -> np.ndarray:
    num_samples = int(rng.uniform(0.3, 2.5) * SAMPLE_RATE)
    noise = _draw_band_noise(rng, num_samples, rng.uniform(800, 2000), rng.uniform(5000, 7800))
    knots = rng.random(2 + num_samples // 800) ** 3  # every 50 ms
    return (
        noise * np.interp(np.linspace(0, len(knots) - 1, num_samples), np.arange(len(knots)), knots)
    ).astype(np.float32)


def _draw_typing(rng: np.random.Generator) -> np.ndarray:
    num_keys = int(rng.integers(2, 15))
    times = np.cumsum(rng.gamma(3.0, 0.06, num_keys))
    track = np.zeros(int((times[-1] + 0.1) * SAMPLE_RATE))
    for time in times:
        add_at(track, _draw_click(rng, rng.uniform(1500, 5000), 0.015), int(time * SAMPLE_RATE))
    return track.astype(np.float32)


def _draw_knock(rng: np.random.Generator) -> np.ndarray:
    return _draw_click(rng, rng.uniform(80, 600), rng.uniform(0.02, 0.12)).astype(np.float32)


def _draw_breathing(rng: np.random.Generator) -> np.ndarray:
    # Puffs of air on the microphone: almost all power below a few hundred hertz, every few seconds.
    interval, corner = rng.uniform(1.3, 4.5), rng.uniform(50, 300)
    times = np.cumsum(interval * rng.uniform(0.7, 1.3, int(rng.integers(1, 12))))
    track = np.zeros(int((times[-1] + 2) * SAMPLE_RATE), dtype=np.float32)
    for time in times:
        num_samples = int(rng.uniform(0.3, 1.6) * SAMPLE_RATE)
        spectrum = rfft(rng.standard_normal(num_samples, dtype=np.float32))
        frequency = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
        spectrum *= 1 / (1 + (frequency / corner) ** 2) + db_to_gain(rng.uniform(-60, -25))
        puff = irfft(spectrum, num_samples)[:num_samples] * np.hanning(num_samples) ** rng.uniform(0.5, 2)
        add_at(track, puff * rng.lognormal(0, 0.4), int((time - interval / 2) * SAMPLE_RATE))
    return track


def _draw_handling(rng: np.random.Generator) -> np.ndarray:
    # Clicks and thumps of a few kinds, from single ones to a crackle.
    num_samples = int(rng.uniform(1, 15) * SAMPLE_RATE)
    track = np.zeros(num_samples, dtype=np.float32)
    for _ in range(int(rng.integers(1, 5))):
        click = _draw_click(
            rng, float(np.exp(rng.uniform(np.log(80), np.log(5000)))), rng.uniform(0.002, 0.02)
        )
        impulses = np.zeros(num_samples, dtype=np.float32)
        places = rng.integers(0, num_samples, 1 + rng.poisson(rng.uniform(1, 25) * num_samples / SAMPLE_RATE))
        impulses[places] = rng.lognormal(0, 0.8, len(places)) * rng.choice([-1, 1], len(places))
        track += oaconvolve(impulses, click.astype(np.float32) / np.linalg.norm(click))[:num_samples]
    return track


def _draw_click(rng: np.random.Generator, centre_hz: float, decay: float) -> np.ndarray:
    num_samples = int(5 * decay * SAMPLE_RATE)
    noise = _draw_band_noise(rng, num_samples, centre_hz / 1.6, centre_hz * 1.6)
    return noise * np.exp(-np.arange(num_samples) / (decay * SAMPLE_RATE))
