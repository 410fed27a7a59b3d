"""Find recordings and read them as mono waveforms; every fault names the file and what to do.

Only numpy and soundfile are needed (soxr where a recording has to be resampled), so that
`workbench infer` runs where little else is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from workbench.containers import ends_inside_mp3, ends_inside_page, promised_frames
from workbench.errors import InputError, RecordingError, expect, expect_path
from workbench.files import safe_name
from workbench.textfiles import read_lines, split_fields

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""What a folder is searched for, in any letter case; a file that is named itself may end otherwise."""

SessionId = Literal["stem", "relative"]

_BLOCK_FRAMES = 1 << 18  # read at a time, so that extra channels never fill the memory
_MARGIN = 0.1  # s read on either side of a crop: longer than the resampler's filter at any usual rate


def find_recordings(paths: Iterable[str | Path], session_id: SessionId = "stem") -> dict[str, Path]:
    """Recordings named by files, folders (searched recursively) and Kaldi `wav.scp` lists.

    Parameters
    ----------
    paths : files, folders, and lists whose name ends in `.scp`
        Hidden files and folders (their name starts with a dot) are left out. A path that does
        not exist but ends like audio is kept, so that it fails alone, when it is read.
    session_id : {"stem", "relative"}
        Name of a recording: its file name without extension, or its path relative to the folder
        given, `/` replaced by `__`, without extension. A `wav.scp` brings its own names.

    Returns
    -------
    recordings : dict, uri -> path
        In the order of `paths`; inside a folder sorted by path.
    """
    if session_id not in ("stem", "relative"):
        raise InputError(f"session id must be 'stem' or 'relative', got {session_id!r}")
    if isinstance(paths, str | Path):
        paths = [paths]
    expect(paths, Iterable, "paths must be paths of recordings, folders or wav.scp lists")
    recordings: dict[str, Path] = {}
    for argument in (expect_path(path, "a recording, folder or wav.scp list") for path in paths):
        for uri, path in _recordings_of(argument, session_id):
            known = recordings.setdefault(uri, path)
            if known != path and known.resolve() != path.resolve():
                raise InputError(
                    f"two recordings are named {uri!r}: {known} and {path}; use --session-id relative, "
                    "rename one, or name them in a wav.scp"
                )
    if not recordings:
        raise InputError("no recordings given; name audio files, folders or a wav.scp")
    return recordings


def _recordings_of(argument: Path, session_id: SessionId) -> Iterator[tuple[str, Path]]:
    """Name and path of every recording that one argument stands for."""
    if argument.is_dir():
        found = _search(argument)
        if not found:
            raise InputError.at(argument, f"the folder holds no audio ({', '.join(AUDIO_SUFFIXES)})")
        for path in found:
            relative = path.relative_to(argument).with_suffix("")
            uri = "__".join(relative.parts) if session_id == "relative" else path.stem
            yield uri, path
    elif argument.suffix.lower() == ".scp":
        yield from read_wav_scp(argument).items()
    elif argument.exists() or argument.suffix.lower() in AUDIO_SUFFIXES:
        yield argument.stem, argument
    else:
        raise InputError.at(argument, "does not exist; expected an audio file, a folder or a wav.scp")


def check_uri(uri: str) -> str:
    """`uri`, if files and RTTM lines can bear it: better refused before the work than after.

    Raises
    ------
    RecordingError
        If it holds a blank, which no RTTM can hold, or cannot be the name of a file: one such
        recording among many must not keep the others from being worked on.
    """
    if any(character.isspace() for character in uri):
        raise RecordingError(
            f"its name {uri!r} holds a blank, which RTTM cannot; rename the file, or name it in a wav.scp"
        )
    try:
        return safe_name(uri)
    except InputError as error:
        raise RecordingError(str(error)) from None


def _search(folder: Path) -> list[Path]:
    """Audio files below `folder`, sorted; links to folders are followed, each folder once."""
    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    return sorted(found)


def read_wav_scp(path: str | Path) -> dict[str, Path]:
    """Recordings of a Kaldi `wav.scp`: one `<id> <path>` per line, the path may contain blanks.

    A relative path is relative to the folder of the list. Commands (`sox ... |`) are refused and
    never run.
    """
    path = expect_path(path, "an audio file")
    recordings: dict[str, Path] = {}
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        fields = split_fields(line, maximum=2)
        if len(fields) < 2:
            raise InputError.at(path, f"expected '<id> <path>', found {line!r}", number)
        uri, target = fields
        if target.startswith("|") or target.endswith("|"):
            raise InputError.at(
                path,
                f"{uri!r} is a command ({target!r}); commands are not run, write its output to a file",
                number,
            )
        recording = path.parent / target
        if uri in recordings:
            raise InputError.at(
                path,
                f"two recordings are named {uri!r}: {recordings[uri]} (line {lines[uri]}) and {recording}",
                number,
            )
        recordings[uri], lines[uri] = recording, number
    if not recordings:
        raise InputError.at(path, "names no recording; expected lines '<id> <path>'")
    return recordings


def read_audio(path: str | Path, sample_rate: int = 16000) -> np.ndarray:
    """First channel of a recording at `sample_rate` (Hz).

    Returns
    -------
    waveform : float32 array, shape (num_samples,)
        Integer PCM is divided by its full scale; other rates are resampled by soxr (HQ).

    Raises
    ------
    RecordingError
        If the file is missing, is not audio, holds no samples, is shorter than its header says,
        or has a sample that is not a finite number. (An mp3 without a Xing header does not say:
        one that was cut off is read as far as it goes.)
    """
    path = expect_path(path, "an audio file")
    with _opened(path) as audio:
        waveform = _read_frames(audio, path, 0, None)
        if not len(waveform):
            raise RecordingError(f"{path}: holds no samples")
        return _resampled(waveform, audio.samplerate, sample_rate, path)


def crop_audio(path: str | Path, start: float, end: float, sample_rate: int = 16000) -> np.ndarray:
    """First channel of a recording from `start` to `end` (s), reading no more than that.

    Returns
    -------
    waveform : float32 array, shape (num_samples,)
        `read_audio(path)[round(start * sample_rate):round(end * sample_rate)]` up to the rounding
        of the resampler; shorter where the recording ends before `end`.
    """
    if not 0 <= start < end < np.inf:
        raise ValueError(f"a crop needs 0 <= start < end (s), got start={start}, end={end}")
    path = expect_path(path, "an audio file")
    first, last = round(start * sample_rate), round(end * sample_rate)
    with _opened(path) as audio:
        rate = audio.samplerate
        # Input frames and output samples coincide every `rate / divisor` frames: a crop that
        # starts there is resampled with the phase of the whole recording.
        divisor = gcd(rate, sample_rate)
        frames_per_step, samples_per_step = rate // divisor, sample_rate // divisor
        margin = 0 if rate == sample_rate else int(_MARGIN * sample_rate)
        step = max(0, first - margin) // samples_per_step
        stop = -(-(last + margin) // samples_per_step) * frames_per_step
        try:
            # soundfile seeks past the end of some formats without a word: the length decides
            begin = step * frames_per_step
            audio.seek(min(begin, audio.frames))
        except soundfile.LibsndfileError as error:
            raise RecordingError(f"{path}: cannot be read from {start:.3f} s on: {_reason(error)}") from error
        waveform = (
            _read_frames(audio, path, begin, stop - begin)
            if begin < audio.frames
            else np.empty(0, np.float32)
        )
        if len(waveform):
            waveform = _resampled(waveform, rate, sample_rate, path)
    offset = step * samples_per_step
    waveform = waveform[first - offset : last - offset]
    if not len(waveform):
        raise RecordingError(f"{path}: ends before {start:.3f} s")
    return np.ascontiguousarray(waveform)


def audio_duration(path: str | Path) -> float:
    """Duration of a recording in seconds, from its header where that states it."""
    path = expect_path(path, "an audio file")
    with _opened(path) as audio:
        frames = audio.frames
        if _is_unknown(frames):
            frames = len(_read_frames(audio, path, 0, None))
        if not frames:
            raise RecordingError(f"{path}: holds no samples")
        return float(frames / audio.samplerate)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The opened file, after the checks that need no samples."""
    if path.is_dir():
        raise RecordingError(f"{path}: is a folder, not an audio file")
    if path.exists() and not path.is_file():
        # opening a pipe that nobody writes into would wait for ever; none can be read twice
        raise RecordingError(f"{path}: is a pipe or a device; write its content to a file first")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            promised = promised_frames(stream, size)
            in_page, in_mp3 = ends_inside_page(stream, size), ends_inside_mp3(stream, size)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size == 0:
        raise RecordingError(f"{path}: is empty (0 bytes)")
    if in_mp3:
        raise RecordingError(f"{path}: is truncated: it is shorter than its mp3 header says; copy it again")
    try:
        audio = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise RecordingError(
            f"{path}: is not readable as audio ({_reason(error)}); expected wav, flac, ogg, opus or mp3"
        ) from error
    except UnicodeEncodeError:
        raise RecordingError(f"{os.fspath(path)!r}: its name is not UTF-8; rename the file") from None
    with audio:
        if in_page:
            raise RecordingError(f"{path}: is truncated: it ends inside an Ogg page; copy it again")
        if promised is not None and audio.frames < promised:
            raise RecordingError(_truncated(path, promised, audio.frames, audio.samplerate))
        yield audio


def _read_frames(audio: soundfile.SoundFile, path: Path, begin: int, count: int | None) -> np.ndarray:
    """First channel of `count` frames (all where None) from the current position, frame `begin`."""
    known = not _is_unknown(audio.frames)
    expected = max(0, audio.frames - begin) if known else None
    if count is not None:
        expected = count if expected is None else min(count, expected)
    blocks: list[np.ndarray] = []
    done = 0
    while expected is None or done < expected:
        wanted = _BLOCK_FRAMES if expected is None else min(_BLOCK_FRAMES, expected - done)
        try:
            block = audio.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = (begin + done) / audio.samplerate
            raise RecordingError(f"{path}: is damaged near {at:.3f} s ({_reason(error)})") from error
        blocks.append(block[:, 0].copy())
        done += len(block)
        if len(block) < wanted:
            break
    # The length of an mp3 without an index is an estimate; all other formats state it.
    if known and expected is not None and done < expected and audio.format != "MP3":
        raise RecordingError(_truncated(path, audio.frames, begin + done, audio.samplerate))
    waveform = np.concatenate(blocks) if blocks else np.empty(0, dtype=np.float32)
    _check_finite(waveform, path, begin, audio.samplerate)
    return waveform


def _check_finite(waveform: np.ndarray, path: Path, begin: int, sample_rate: int) -> None:
    """Refuse NaN and infinite samples: one of them spoils every frame of a chunk."""
    bad = np.flatnonzero(~np.isfinite(waveform))
    if len(bad):
        position = begin + int(bad[0])
        raise RecordingError(
            f"{path}: {len(bad)} samples are not finite numbers, the first at sample {position} "
            f"({position / sample_rate:.3f} s): {waveform[bad[0]]}; repair or re-encode the file"
        )


def _resampled(waveform: np.ndarray, rate: int, sample_rate: int, path: Path) -> np.ndarray:
    """`waveform` at `sample_rate`; unchanged where it has that rate."""
    if rate == sample_rate:
        return waveform
    try:
        import soxr
    except ImportError as error:
        raise RecordingError(
            f"{path}: has {rate} Hz and has to be resampled to {sample_rate} Hz, which needs the package "
            "soxr: pip install soxr"
        ) from error
    try:
        resampled = soxr.resample(waveform, rate, sample_rate, quality="HQ")
    except (ValueError, RuntimeError) as error:
        raise RecordingError(
            f"{path}: cannot be resampled from {rate} to {sample_rate} Hz: {error}"
        ) from error
    if not len(resampled):
        raise RecordingError(f"{path}: holds no samples once resampled from {rate} to {sample_rate} Hz")
    return np.asarray(resampled, dtype=np.float32)


def _is_unknown(frames: int) -> bool:
    """Whether libsndfile says that a streamed file does not state its length."""
    return frames >= 1 << 62


def _truncated(path: Path, promised: int, found: int, sample_rate: int) -> str:
    return (
        f"{path}: is truncated: its header promises {promised} samples ({promised / sample_rate:.3f} s), "
        f"the file holds {found} ({found / sample_rate:.3f} s); copy it again"
    )


def _reason(error: Exception) -> str:
    """What libsndfile says, without the parts that repeat the file name."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
