"""The demo corpus: eight recordings of stated difficulty, from permissive voices that no training sees."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import soundfile as sf

from scripts.demo.conversations import Conversation, ConversationParams, draw_conversation
from scripts.demo.voices import HUMAN_VOICES, SAMPLE_RATE, Speaker, change_rate, synthesizer_versions

LICENCES = {voice.name: voice.licence for voice in HUMAN_VOICES}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A recording of the corpus; `voices` maps a base to the rate it is played at."""

    uri: str
    difficulty: str
    split: str  # "dev" tunes the clustering, "test" is only scored
    voices: dict[str, float]
    params: ConversationParams


_QUIET = ConversationParams(
    duration=100, num_speakers=0, channel=False, reverberant=False, noise=-40, level_depth=3
)
_MEETING = replace(_QUIET, reverberant=True, noise=-28, channel=True)
ENTRIES = (
    Entry(uri="demo01_easy", difficulty="two clearly different speakers, hardly any overlap, clean",
          split="dev", voices={"rms": 1.0, "slt": 1.0},
          params=replace(_QUIET, overlap=0.1, overlap_mean=0.3, back_channel=0.05)),
    Entry(uri="demo02_overlap", difficulty="three speakers who interrupt each other all the time",
          split="dev", voices={"slt": 1.0, "rms": 1.0, "nsh": 1.0},
          params=replace(_QUIET, overlap=0.9, overlap_mean=2.0, back_channel=0.5, noise=-32)),
    Entry(uri="demo03_noisy", difficulty="three speakers in a reverberant room with noise and distant talk",
          split="test", voices={"ked": 1.0, "slt": 1.0, "nsh": 1.0},
          params=replace(_MEETING, overlap=0.35, noise=-12, babble=-22, num_events=15)),
    Entry(uri="demo04_sparse", difficulty="little talk in long room tone, with rustle, typing and breaths",
          split="dev", voices={"kal16": 1.0, "slt": 0.96},
          params=replace(_MEETING, duration=120, overlap=0.2, long_pause=0.5, num_events=20)),
    Entry(uri="demo05_similar", difficulty="three similar male voices", split="test",
          voices={"rms": 1.0, "ked": 1.0, "kal16": 1.04},
          params=replace(_QUIET, overlap=0.3, noise=-32)),
    Entry(uri="demo06_five", difficulty="five speakers in a meeting room", split="test",
          voices={"rms": 0.95, "slt": 1.0, "kal16": 1.0, "ked": 1.06, "nsh": 1.0},
          params=replace(_MEETING, duration=150, overlap=0.35)),
    Entry(uri="demo07_single", difficulty="a single speaker with pauses", split="test", voices={"nsh": 1.04},
          params=replace(_MEETING, duration=75, long_pause=0.2)),
    Entry(uri="demo08_lively", difficulty="four speakers, short turns and many back-channels", split="dev",
          voices={"slt": 1.04, "rms": 1.0, "ked": 0.95, "nsh": 1.0},
          params=replace(_MEETING, duration=120, overlap=0.5, back_channel=0.4, max_piece=3.0,
                         num_turn_pieces=(0.6, 0.3, 0.1))),
)  # fmt: skip


def cast_of(entry: Entry, speakers: list[Speaker]) -> list[Speaker]:
    """The speakers of an entry, at their rates."""
    bases = {speaker.base: speaker for speaker in speakers if speaker.split == "demo" and speaker.rate == 1.0}
    missing = sorted(set(entry.voices) - set(bases))
    if missing:
        raise ValueError(
            f"{entry.uri} needs the voices {missing}; "
            "install flite, festival, festvox-kdlpc16k and festvox-ru"
        )
    return [
        replace(
            bases[base], name=base, pieces=tuple(change_rate(piece, rate) for piece in bases[base].pieces)
        )
        for base, rate in entry.voices.items()
    ]


def draw_entry(rng: np.random.Generator, entry: Entry, speakers: list[Speaker]) -> Conversation:
    """The recording; whoever talks in the distance is no member of the cast."""
    cast = cast_of(entry, speakers)
    crowd = [s for s in speakers if s.split == "demo" and s.base not in entry.voices]
    params = replace(entry.params, num_speakers=len(cast))
    while True:
        conversation = draw_conversation(rng, cast, params, crowd)
        # A short conversation may end before everybody has had a turn; the stated number must hold.
        if (conversation.activity.sum(axis=1) > 400).all():
            return conversation


def write_corpus(folder: Path, rng: np.random.Generator, speakers: list[Speaker], seed: int) -> None:
    """`<uri>.flac`, `demo.rttm`, `demo.uem`, `dev.lst`, `test.lst` and `manifest.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    rttm, uem, recordings = [], [], {}
    for entry in ENTRIES:
        conversation = draw_entry(rng, entry, speakers)
        duration = len(conversation.waveform) / SAMPLE_RATE
        sf.write(folder / f"{entry.uri}.flac", conversation.waveform, SAMPLE_RATE, subtype="PCM_16")
        uem.append(f"{entry.uri} 1 0.000 {duration:.3f}")
        rttm += [
            f"SPEAKER {entry.uri} 1 {start:.3f} {end - start:.3f} <NA> <NA> {speaker} <NA> <NA>"
            for start, end, speaker in conversation.segments()
        ]
        recordings[entry.uri] = describe(entry, conversation)
    (folder / "demo.rttm").write_text("\n".join(rttm) + "\n")
    (folder / "demo.uem").write_text("\n".join(uem) + "\n")
    for split in ("dev", "test"):
        uris = [entry.uri for entry in ENTRIES if entry.split == split]
        (folder / f"{split}.lst").write_text("\n".join(uris) + "\n")
    used = sorted({base for entry in ENTRIES for base in entry.voices})
    manifest = {
        "seed": seed,
        "synthesizers": synthesizer_versions(),
        "licences": {base: LICENCES[base] for base in used},
        "recordings": recordings,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def describe(entry: Entry, conversation: Conversation) -> dict:
    """What the manifest says about a recording; shares are of the whole duration."""
    count = conversation.activity.sum(axis=0)
    return {
        "difficulty": entry.difficulty,
        "split": entry.split,
        "num_speakers": len(entry.voices),
        "voices": entry.voices,
        "duration": round(len(conversation.waveform) / SAMPLE_RATE, 3),
        "silence": round(float((count == 0).mean()), 3),
        "overlap": round(float((count > 1).mean()), 3),
        "params": asdict(entry.params),
    }
