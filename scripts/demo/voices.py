"""Voices: Debian's synthesizers, the pseudo-speakers made from them, and their split.

A *base* is one human voice (or one espeak-ng setting, or one reader); its *variants* are the same voice
resampled, which moves pitch, formants and tempo together. Splits are made by base, never by variant.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from scipy.signal import resample_poly

from scripts.demo.texts import draw_sentence

SAMPLE_RATE = 16000  # Hz
_TRIM_DB = 40.0  # quieter than this below the loudest 10 ms counts as silence at the ends of a piece


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A synthesizer's voice and what it takes to run it."""

    name: str  # unique; also the base
    engine: str  # "flite", "festival" or "espeak-ng"
    argument: str  # flite voice, festival function or espeak-ng voice
    language: str  # of `texts.draw_sentence`
    split: str  # "train", "heldout" (chooses checkpoints) or "demo" (only the demo corpus)
    licence: str
    encoding: str = "utf-8"
    pitch: int = 50  # espeak-ng only
    kind: str = "human"  # "human" (recordings of a person) or "espeak"


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Somebody who can take part in a conversation."""

    name: str
    base: str
    kind: str  # "reader", "human" or "espeak"
    split: str
    rate: float  # resampling factor of the variant; 1 is the voice itself
    pieces: tuple[np.ndarray, ...]  # int16 at 16 kHz, one utterance or part of one each


_CMU, _EDINBURGH = "CMU, permissive", "CMU/Edinburgh, permissive"
HUMAN_VOICES = (
    Voice(name="awb", engine="flite", argument="awb", language="english", split="train", licence=_CMU),
    Voice(name="rms", engine="flite", argument="rms", language="english", split="demo", licence=_CMU),
    Voice(name="slt", engine="flite", argument="slt", language="english", split="demo", licence=_CMU),
    Voice(name="kal16", engine="flite", argument="kal16", language="english", split="demo", licence=_CMU),
    Voice(name="ked", engine="festival", argument="voice_ked_diphone", language="english", split="demo",
          licence=_EDINBURGH),
    Voice(name="nsh", engine="festival", argument="voice_msu_ru_nsh_clunits", language="russian",
          split="demo", licence="BSD-like (festvox-ru)"),
    Voice(name="ona", engine="festival", argument="voice_upc_ca_ona_hts", language="catalan", split="train",
          licence="LGPL-2.1+", encoding="latin-1"),
    Voice(name="lj", engine="festival", argument="voice_suo_fi_lj_diphone", language="finnish",
          split="heldout", licence="LGPL-2", encoding="latin-1"),
    Voice(name="mv", engine="festival", argument="voice_hy_fi_mv_diphone", language="finnish", split="train",
          licence="LGPL-2", encoding="latin-1"),
    Voice(name="dita", engine="festival", argument="voice_czech_dita", language="czech", split="train",
          licence="GPL-3+", encoding="iso8859-2"),
    Voice(name="krb", engine="festival", argument="voice_czech_krb", language="czech", split="train",
          licence="GPL-3+", encoding="iso8859-2"),
    Voice(name="machac", engine="festival", argument="voice_czech_machac", language="czech", split="train",
          licence="GPL-3+", encoding="iso8859-2"),
    Voice(name="ph", engine="festival", argument="voice_czech_ph", language="czech", split="heldout",
          licence="GPL-2+", encoding="iso8859-2"),
    Voice(name="lp", engine="festival", argument="voice_lp_diphone", language="italian", split="train",
          licence="GPL", encoding="latin-1"),
    Voice(name="pc", engine="festival", argument="voice_pc_diphone", language="italian", split="train",
          licence="GPL", encoding="latin-1"),
)  # fmt: skip

# Variants of espeak-ng that differ clearly; whisper, croak, robot and announcer settings are left out.
_ESPEAK_VARIANTS = [
    "adam",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "antonio",
    "aunty",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "Denis",
    "Diogo",
    "ed",
    "edward",
    "Gene",
    "Gustave",
    "Henrique",
    "Hugo",
    "iven",
    "john",
    "kaukovalta",
    "Lee",
    "linda",
    "marcelo",
    "Marco",
    "Mario",
    "Max",
    "michael",
    "miguel",
    "mike",
    "Nguyen",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "steph",
    "steph2",
    "Storm",
    "travis",
    "victor",
    "anika",
    "f1",
    "f2",
    "f3",
    "f5",
    "grandma",
    "grandpa",
    "klatt2",
    "klatt4",
    "m1",
    "m3",
    "m5",
    "m7",
    "norbert",
    "sandro",
    "shelby",
]
_ESPEAK_LANGUAGES = (("en-us", "english"), ("en-gb", "english"), ("en-gb-scotland", "english"),
                     ("de", "german"), ("es", "spanish"), ("it", "italian"))  # fmt: skip
_NUM_HELDOUT_ESPEAK = 6


def espeak_voices() -> list[Voice]:
    """espeak-ng settings: every variant in one language and at one pitch."""
    voices = []
    for i, variant in enumerate(_ESPEAK_VARIANTS):
        accent, language = _ESPEAK_LANGUAGES[i % len(_ESPEAK_LANGUAGES)]
        split = "heldout" if i % (len(_ESPEAK_VARIANTS) // _NUM_HELDOUT_ESPEAK) == 3 else "train"
        voices.append(
            Voice(name=f"espeak-{variant}", engine="espeak-ng", argument=f"{accent}+{variant}",
                  language=language, split=split, licence="GPL-3+ (program)",
                  pitch=30 + 7 * (i % 7), kind="espeak")
        )  # fmt: skip
    return voices


def available_voices() -> list[Voice]:
    """The voices whose synthesizer is installed on this machine."""
    voices = [*HUMAN_VOICES, *espeak_voices()]
    return [voice for voice in voices if shutil.which(voice.engine) is not None]


def synthesize(voice: Voice, num_sentences: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Utterances of a voice, trimmed, as int16 at 16 kHz; sentences it cannot say are left out."""
    sentences = [draw_sentence(rng, voice.language) for _ in range(num_sentences)]
    with tempfile.TemporaryDirectory() as folder:
        if voice.engine == "festival":
            _run_festival(voice, sentences, Path(folder))
        else:
            _run_command_line(voice, sentences, Path(folder))
        pieces = [read_piece(path) for path in sorted(Path(folder).glob("*.wav"))]
    return [piece for piece in pieces if len(piece) >= 0.2 * SAMPLE_RATE]


def read_piece(path: Path) -> np.ndarray:
    """An audio file as trimmed int16 at 16 kHz, first channel."""
    audio, sample_rate = sf.read(path, dtype="float64", always_2d=True)
    mono = audio[:, 0]
    if sample_rate != SAMPLE_RATE:
        mono = resample_poly(mono, SAMPLE_RATE, sample_rate)
    return trim(to_int16(mono))


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1) as int16, clipped."""
    return np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)


def trim(piece: np.ndarray) -> np.ndarray:
    """The piece without the silence at its ends; 20 ms of it stay."""
    step = SAMPLE_RATE // 100
    energy = frame_energy_db(piece.astype(np.float32), step)
    if not len(energy):
        return piece[:0]
    loud = np.flatnonzero(energy > energy.max() - _TRIM_DB)
    return piece[max(0, loud[0] - 2) * step : (loud[-1] + 3) * step]


def frame_energy_db(waveform: np.ndarray, frame_samples: int) -> np.ndarray:
    """Mean power of consecutive frames in dB; the incomplete last frame is left out."""
    num_frames = len(waveform) // frame_samples
    frames = waveform[: num_frames * frame_samples].reshape(num_frames, frame_samples)
    return 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)


def change_rate(piece: np.ndarray, rate: float) -> np.ndarray:
    """The piece played `rate` times as fast: pitch, formants and tempo move together."""
    if rate == 1.0:
        return piece
    return to_int16(resample_poly(piece.astype(np.float64) / 32768, 100, round(100 * rate)))


def variant_rates(kind: str, split: str) -> tuple[float, ...]:
    """How many pseudo-speakers a base gives, and how far they are from it."""
    if split == "demo":
        return (1.0,)
    return {"human": (1.0, 0.86, 0.93, 1.08, 1.16), "espeak": (1.0,), "reader": (1.0, 0.9, 1.1)}[kind]


def make_variants(base: str, kind: str, split: str, pieces: list[np.ndarray]) -> Iterator[Speaker]:
    """The pseudo-speakers of a base."""
    for rate in variant_rates(kind, split):
        changed = tuple(change_rate(piece, rate) for piece in pieces)
        yield Speaker(name=f"{base}@{rate:.2f}", base=base, kind=kind, split=split, rate=rate, pieces=changed)


def save_speakers(path: Path, speakers: list[Speaker]) -> None:
    """One file for all: their pieces end to end, and a table saying whose is which."""
    lengths = [len(piece) for speaker in speakers for piece in speaker.pieces]
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        audio=np.concatenate([piece for speaker in speakers for piece in speaker.pieces]),
        ends=np.cumsum(lengths),
        num_pieces=[len(speaker.pieces) for speaker in speakers],
        rate=[speaker.rate for speaker in speakers],
        **{key: [getattr(speaker, key) for speaker in speakers] for key in ("name", "base", "kind", "split")},
    )
    temporary.replace(path)


def load_speakers(path: Path) -> list[Speaker]:
    """What `save_speakers` wrote."""
    with np.load(path) as stored:
        table = {key: stored[key] for key in stored.files}
    pieces = np.split(table["audio"], table["ends"][:-1])
    first = np.concatenate([[0], np.cumsum(table["num_pieces"])])
    return [
        Speaker(
            name=str(table["name"][i]),
            base=str(table["base"][i]),
            kind=str(table["kind"][i]),
            split=str(table["split"][i]),
            rate=float(table["rate"][i]),
            pieces=tuple(pieces[first[i] : first[i + 1]]),
        )
        for i in range(len(table["name"]))
    ]


def synthesizer_versions() -> dict[str, str]:
    """Installed versions of the Debian packages that speak, by package name."""
    query = [
        "dpkg-query",
        "-W",
        "-f",
        "${Package} ${Version}\n",
        "flite",
        "festival",
        "espeak-ng",
        "festvox-*",
    ]
    if shutil.which(query[0]) is None:
        return {}
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return dict(line.split(" ", 1) for line in listed.splitlines() if not line.endswith(" "))


def _run_festival(voice: Voice, sentences: list[str], folder: Path) -> None:
    # One process per voice: loading a unit-selection voice takes longer than a hundred sentences.
    lines = [f"({voice.argument})"]
    for i, sentence in enumerate(sentences):
        lines.append(f'(utt.save.wave (SynthText "{sentence}") "{folder / f"{i:04d}.wav"}" \'riff)')
    script = folder / "sentences.scm"
    script.write_bytes("\n".join(lines).encode(voice.encoding, errors="ignore"))
    subprocess.run(["festival", "-b", str(script)], capture_output=True, check=False)


def _run_command_line(voice: Voice, sentences: list[str], folder: Path) -> None:
    for i, sentence in enumerate(sentences):
        path = str(folder / f"{i:04d}.wav")
        if voice.engine == "flite":
            command = ["flite", "-voice", voice.argument, "-t", sentence, "-o", path]
        else:
            command = ["espeak-ng", "-v", voice.argument, "-p", str(voice.pitch), "-w", path, sentence]
        subprocess.run(command, capture_output=True, check=False)
