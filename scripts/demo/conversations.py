"""Conversations: who speaks when, what it sounds like, and what an annotator would write down.

A conversation is drawn in three steps. `draw_schedule` places pieces of the speakers on a time line with
pauses, overlaps and back-channels; `render` puts them into a room with noise; the activity comes from the dry
pieces, with pauses shorter than half a second filled as annotators do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scripts.demo import acoustics
from scripts.demo.voices import SAMPLE_RATE, Speaker, frame_energy_db

ACTIVITY_STEP = 0.01  # s
_STEP_SAMPLES = int(ACTIVITY_STEP * SAMPLE_RATE)
_ACTIVE_DB = 33.0  # quieter than this below the level of its piece, a frame is a pause
_MIN_ACTIVE = 0.03  # s
MAX_FILLED_PAUSE = 0.5  # s; in AMI's reference 83 % of the pauses inside segments are shorter


@dataclass(frozen=True, kw_only=True)
class ConversationParams:
    """How people talk and where; `draw_params` draws it, the demo corpus states it."""

    duration: float  # s
    num_speakers: int
    overlap: float = 0.4  # probability that a floor change starts before the running turn ends
    overlap_mean: float = 1.2  # s, mean of the exponential part of such a head start
    back_channel: float = 0.2  # probability per piece of somebody else's short piece over it
    long_pause: float = 0.05  # probability per turn of 2 to 12 s without speech
    num_turn_pieces: tuple[float, ...] = (0.45, 0.3, 0.15, 0.1)  # probabilities of 1, 2, 3, 4 pieces
    max_piece: float = 8.0  # s, longer pieces are cut; short ones make lively talk
    level_spread: float = 4.5  # dB, standard deviation between speakers; within one it is two thirds
    level_depth: float = 4.0  # dB, range of the level inside a piece
    reverberant: bool = True
    noise: float | None = -22.0  # dB relative to speech; None for digital silence
    babble: float | None = None  # dB, level of unlabelled talk in the distance
    num_events: float = 0.0  # per minute, unlabelled breaths, rustle, typing and knocks
    num_stretches: float = 0.0  # per minute, unlabelled breathing into a microphone or handling of it
    channel: bool = True  # colours the recording with a random microphone
    level: float = -26.0  # dBFS of active speech


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A recording and the truth about it."""

    waveform: np.ndarray  # float32 (samples,)
    activity: np.ndarray  # bool (num_speakers, frames of 10 ms)
    speakers: tuple[str, ...]  # names, in the order of `activity`

    def segments(self) -> list[tuple[float, float, str]]:
        """(start, end, speaker) in seconds, sorted by start."""
        found = []
        for active, name in zip(self.activity, self.speakers, strict=True):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
            found += [(a * ACTIVITY_STEP, b * ACTIVITY_STEP, name) for a, b in edges.reshape(-1, 2)]
        return sorted(found)


@dataclass(frozen=True)
class Placement:
    """A piece of a speaker on the time line."""

    speaker: int
    start: int  # samples
    piece: np.ndarray  # float32, dry, at its level


def draw_params(rng: np.random.Generator, duration: float) -> ConversationParams:
    """Everything from a quiet talk between two to a crowded meeting at a far microphone."""
    num_speakers = int(rng.choice([1, 2, 3, 4, 5], p=[0.06, 0.27, 0.32, 0.25, 0.10]))
    params = ConversationParams(
        duration=duration,
        num_speakers=num_speakers,
        overlap=0.98 * rng.beta(2.2, 1.5),
        overlap_mean=float(rng.choice([0.7, 1.2, 2.5])),
        back_channel=rng.uniform(0, 0.5),
        max_piece=float(rng.choice([1.5, 3.0, 8.0], p=[0.25, 0.3, 0.45])),
        level_depth=rng.uniform(0, 8),
        reverberant=rng.random() < 0.8,
        noise=rng.uniform(-50, -10),
        babble=rng.uniform(-36, -15) if rng.random() < 0.35 else None,
        num_events=rng.choice([0.0, 4.0, 12.0, 30.0]),
        num_stretches=rng.choice([0.0, 1.0, 3.0, 6.0], p=[0.35, 0.2, 0.25, 0.2]),
        level=rng.uniform(-48, -16),
    )
    kind = rng.random()
    if kind < 0.08:
        return replace(params, reverberant=False, noise=None, babble=None, num_events=0.0,
                       num_stretches=0.0, channel=False)  # fmt: skip
    busy = {"num_events": rng.choice([0.0, 12.0, 30.0]), "num_stretches": rng.choice([0.0, 3.0, 6.0, 12.0])}
    if kind < 0.18:  # hardly anybody says anything
        return replace(params, long_pause=0.95, num_turn_pieces=(1.0,), max_piece=3.0, **busy)
    if kind < 0.3:  # sparse: long room tone with little talk in it
        return replace(params, long_pause=0.45, **busy)
    if kind < 0.45:  # several people at once, as in a lively meeting
        return replace(params, overlap=0.95, overlap_mean=2.5, back_channel=0.5)
    return params


def draw_conversation(
    rng: np.random.Generator, cast: list[Speaker], params: ConversationParams, crowd: list[Speaker]
) -> Conversation:
    """A conversation of the cast; the crowd supplies the distant babble."""
    placements = draw_schedule(rng, cast, params)
    num_samples = int(params.duration * SAMPLE_RATE)
    waveform = render(rng, placements, num_samples, len(cast), crowd, params)
    activity = find_activity(placements, num_samples, len(cast))
    return Conversation(waveform=waveform, activity=activity, speakers=tuple(s.name for s in cast))


def draw_schedule(
    rng: np.random.Generator, cast: list[Speaker], params: ConversationParams
) -> list[Placement]:
    """Turns one after another until the time is filled."""
    share = rng.dirichlet(np.full(len(cast), 3.0))
    level = rng.normal(0, params.level_spread, len(cast))
    free_at = np.zeros(len(cast))  # s, when each speaker has finished: nobody talks over himself
    placements: list[Placement] = []
    floor_end = rng.uniform(0, 1.5)  # s, when the running turn ends
    speaker = int(rng.choice(len(cast), p=share))
    while floor_end < params.duration:
        time = floor_end
        if placements:
            speaker = _draw_next_speaker(rng, share, speaker)
            time = max(_draw_turn_start(rng, params, floor_end, placements[-1]), free_at[speaker])
        turn_end = time
        for _ in range(1 + int(rng.choice(len(params.num_turn_pieces), p=params.num_turn_pieces))):
            piece = _draw_piece(rng, cast[speaker], params.max_piece)
            if turn_end + len(piece) / SAMPLE_RATE > params.duration - 0.1:
                return placements
            piece = _set_level(rng, piece, level[speaker], params)
            placements.append(Placement(speaker, int(turn_end * SAMPLE_RATE), piece))
            if len(cast) > 1 and rng.random() < params.back_channel:
                placements += _draw_back_channel(rng, cast, level, params, placements[-1], free_at)
            turn_end += len(piece) / SAMPLE_RATE + 0.1 + rng.exponential(0.4)
            free_at[speaker] = turn_end
        floor_end = max(floor_end, turn_end)
    return placements


def find_activity(placements: list[Placement], num_samples: int, num_speakers: int) -> np.ndarray:
    """Who an annotator would say is speaking, (num_speakers, frames of 10 ms)."""
    activity = np.zeros((num_speakers, num_samples // _STEP_SAMPLES), dtype=bool)
    for placement in placements:
        energy = frame_energy_db(placement.piece, _STEP_SAMPLES)
        speech = energy > 10 * np.log10(np.mean(placement.piece**2) + 1e-10) - _ACTIVE_DB
        first = placement.start // _STEP_SAMPLES
        kept = speech[: max(0, activity.shape[1] - first)]
        activity[placement.speaker, first : first + len(kept)] |= kept
    for row in activity:
        fill_short_runs(row, value=False, max_frames=int(MAX_FILLED_PAUSE / ACTIVITY_STEP))
        fill_short_runs(row, value=True, max_frames=int(_MIN_ACTIVE / ACTIVITY_STEP))
    return activity


def fill_short_runs(row: np.ndarray, *, value: bool, max_frames: int) -> None:
    """Invert, in place, the runs of `value` shorter than `max_frames` that lie between two others."""
    edges = np.flatnonzero(np.diff(row)) + 1
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        if row[first] == value and last - first < max_frames:
            row[first:last] = not value


def render(
    rng: np.random.Generator,
    placements: list[Placement],
    num_samples: int,
    num_speakers: int,
    crowd: list[Speaker],
    params: ConversationParams,
) -> np.ndarray:
    """The recording, float32 (samples,)."""
    waveform = np.zeros(num_samples, dtype=np.float32)
    room = acoustics.draw_room(rng)
    responses = [acoustics.draw_impulse_response(rng, room) for _ in range(num_speakers)]
    for placement in placements:
        piece = placement.piece
        if params.reverberant:
            piece = acoustics.reverberate(piece, responses[placement.speaker])
        acoustics.add_at(waveform, piece, placement.start)
    if params.babble is not None:
        acoustics.add_at(waveform, _draw_babble(rng, crowd, num_samples, params.babble), 0)
    for _ in range(rng.poisson(params.num_events * params.duration / 60)):
        event = acoustics.scale_to(acoustics.draw_event(rng), rng.uniform(-32, -8))
        acoustics.add_at(waveform, event, int(rng.uniform(0, num_samples)))
    for _ in range(rng.poisson(params.num_stretches * params.duration / 60)):
        stretch = acoustics.scale_to(acoustics.draw_stretch(rng), rng.uniform(-28, 2))
        acoustics.add_at(waveform, stretch, int(rng.uniform(0, num_samples)))
    if params.noise is not None:
        waveform += acoustics.draw_coloured_noise(rng, num_samples) * acoustics.db_to_gain(params.noise)
    if params.channel:
        waveform = acoustics.apply_channel(rng, waveform)
    waveform = waveform * np.float32(acoustics.db_to_gain(params.level))
    return np.clip(waveform, -1, 32767 / 32768).astype(np.float32)


def draw_cast(rng: np.random.Generator, speakers: list[Speaker], num_speakers: int) -> list[Speaker]:
    """Speakers of distinct bases; real readers and human synthesizers well above espeak settings."""
    weight = {"reader": 0.68, "human": 0.22, "espeak": 0.10}
    kinds = sorted({speaker.kind for speaker in speakers})
    by_kind = {kind: [s for s in speakers if s.kind == kind] for kind in kinds}
    probability = np.array([weight[kind] for kind in kinds])
    cast: list[Speaker] = []
    while len(cast) < num_speakers:
        candidates = by_kind[str(rng.choice(kinds, p=probability / probability.sum()))]
        speaker = candidates[int(rng.integers(len(candidates)))]
        if speaker.base not in {member.base for member in cast}:
            cast.append(speaker)
    return cast


def _draw_next_speaker(rng: np.random.Generator, share: np.ndarray, speaker: int) -> int:
    if len(share) == 1 or rng.random() < 0.15:
        return speaker
    others = share.copy()
    others[speaker] = 0
    return int(rng.choice(len(share), p=others / others.sum()))


def _draw_turn_start(
    rng: np.random.Generator, params: ConversationParams, floor_end: float, last: Placement
) -> float:
    if rng.random() < params.long_pause:
        return floor_end + rng.uniform(2, 12)
    if rng.random() < params.overlap:
        # Measured from the end of the last piece: pauses would eat a shift measured from the turn's end.
        last_start, length = last.start / SAMPLE_RATE, len(last.piece) / SAMPLE_RATE
        return last_start + max(0.1 * length, length - 0.3 - rng.exponential(params.overlap_mean))
    return floor_end + rng.gamma(1.5, 0.3)


def _draw_piece(rng: np.random.Generator, speaker: Speaker, max_piece: float) -> np.ndarray:
    piece = speaker.pieces[int(rng.integers(len(speaker.pieces)))]
    longest = int(rng.uniform(0.5, 1.0) * max_piece * SAMPLE_RATE)
    if len(piece) > longest:
        start = int(rng.integers(len(piece) - longest))
        piece = piece[start : start + longest]
    return piece.astype(np.float32)


def _set_level(
    rng: np.random.Generator, piece: np.ndarray, level: float, params: ConversationParams
) -> np.ndarray:
    ramp = int(0.01 * SAMPLE_RATE)
    piece = acoustics.scale_to(piece, level + rng.normal(0, params.level_spread * 2 / 3))
    piece = piece * acoustics.draw_level_envelope(rng, len(piece), params.level_depth)
    piece[:ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)
    piece[-ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)
    return piece


def _draw_back_channel(
    rng: np.random.Generator,
    cast: list[Speaker],
    level: np.ndarray,
    params: ConversationParams,
    over: Placement,
    free_at: np.ndarray,
) -> list[Placement]:
    listener = int(rng.choice([i for i in range(len(cast)) if i != over.speaker]))
    piece = _draw_piece(rng, cast[listener], rng.uniform(0.4, 1.5))
    room = len(over.piece) - len(piece)
    if room <= 0:
        return []
    start = over.start + int(rng.integers(room))
    if start < free_at[listener] * SAMPLE_RATE:
        return []
    free_at[listener] = (start + len(piece)) / SAMPLE_RATE
    return [Placement(listener, start, _set_level(rng, piece, level[listener] - rng.uniform(0, 6), params))]


def _draw_babble(
    rng: np.random.Generator, crowd: list[Speaker], num_samples: int, level_db: float
) -> np.ndarray:
    """One to five people talking somewhere else, heard through walls."""
    track = np.zeros(num_samples, dtype=np.float32)
    room = acoustics.Room(rt60=rng.uniform(0.4, 0.9), direct_to_reverberant=-8)
    for _ in range(int(rng.integers(1, 6))):
        person = crowd[int(rng.integers(len(crowd)))]
        position = int(rng.uniform(0, 4) * SAMPLE_RATE)
        voice = np.zeros(num_samples, dtype=np.float32)
        while position < num_samples:
            piece = _draw_piece(rng, person, 8.0)
            acoustics.add_at(voice, acoustics.scale_to(piece, rng.normal(0, 3)), position)
            position += len(piece) + int(rng.exponential(1.5) * SAMPLE_RATE)
        track += acoustics.reverberate(voice, acoustics.draw_impulse_response(rng, room))[:num_samples]
    return acoustics.scale_to(track, level_db)
