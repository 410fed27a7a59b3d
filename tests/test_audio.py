"""Finding and reading recordings, good and bad."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from workbench.audio import (
    audio_duration,
    check_uri,
    crop_audio,
    find_recordings,
    read_audio,
    read_wav_scp,
)
from workbench.errors import InputError, RecordingError

RATE = 16000


@pytest.fixture
def tone():
    """Half a second, 440 Hz, at a rate."""

    def make(rate: int = RATE, seconds: float = 0.5) -> np.ndarray:
        return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)

    return make


@pytest.fixture
def folder(tmp_path, tone):
    """Recordings in nested folders, in several formats and letter cases, with other files between."""
    for name in ("b.wav", "a/b/c.FLAC", "a/d.Ogg", "e.mp3", "a.b.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(), RATE)
    soundfile.write(tmp_path / "f.opus", tone(), RATE, format="OGG", subtype="OPUS")
    (tmp_path / "notes.txt").write_text("not audio")
    (tmp_path / "._b.wav").write_bytes(b"macOS resource fork")
    (tmp_path / "folder.wav").mkdir()
    return tmp_path


# Finding


def test_a_folder_is_searched_recursively_for_audio_in_any_letter_case(folder):
    found = find_recordings([folder])
    assert list(found) == ["c", "d", "a.b", "b", "e", "f"]  # by path
    assert found["c"] == folder / "a/b/c.FLAC"


def test_relative_ids_join_the_path_below_the_folder(folder):
    assert set(find_recordings([folder], "relative")) == {"b", "a__b__c", "a__d", "e", "f", "a.b"}


def test_files_folders_and_lists_can_be_mixed_and_named_twice(folder):
    (folder / "wav.scp").write_text("other e.mp3\n")
    found = find_recordings([folder / "b.wav", folder / "a", folder / "wav.scp", folder / "b.wav"])
    assert list(found) == ["b", "c", "d", "other"]


def test_links_to_folders_are_followed_once(folder):
    (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(find_recordings([folder])) == 6


def test_two_recordings_of_one_name_are_both_named(folder, tone):
    soundfile.write(folder / "a" / "b.flac", tone(), RATE)
    with pytest.raises(InputError, match=r"two recordings are named 'b': .*b\.flac and .*b\.wav.*relative"):
        find_recordings([folder])
    assert {"b", "a__b"} <= set(find_recordings([folder], "relative"))


def test_a_folder_without_audio_is_an_error(tmp_path):
    with pytest.raises(InputError, match="the folder holds no audio"):
        find_recordings([tmp_path])


def test_a_path_that_is_not_there_is_an_error_unless_it_is_a_recording(tmp_path):
    with pytest.raises(InputError, match=r"recordings: does not exist"):
        find_recordings([tmp_path / "recordings"])
    missing = find_recordings([tmp_path / "missing.wav"])["missing"]
    with pytest.raises(RecordingError, match=r"missing\.wav: cannot be read: No such file"):
        read_audio(missing)


def test_no_paths_and_unknown_session_ids_are_errors(folder):
    with pytest.raises(InputError, match="no recordings given"):
        find_recordings([])
    with pytest.raises(InputError, match="'stem' or 'relative', got 'uuid'"):
        find_recordings([folder], "uuid")


def test_a_name_with_a_blank_fails_alone(tmp_path, tone):
    for name in ("my meeting", "other"):
        soundfile.write(tmp_path / f"{name}.wav", tone(), RATE)
    assert list(find_recordings([tmp_path])) == ["my meeting", "other"]
    assert check_uri("other") == "other"
    with pytest.raises(RecordingError, match=r"'my meeting' holds a blank.*wav\.scp"):
        check_uri("my meeting")


@pytest.mark.parametrize("uri", ["a/b", "..", "", "a\\b", "x" * 250, "\udcff"])
def test_a_name_that_no_file_can_have_fails_alone(uri):
    with pytest.raises(RecordingError, match="recording id"):
        check_uri(uri)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(RecordingError, match=r"a\.wav: is a pipe or a device"):
        read_audio(tmp_path / "a.wav")


def test_a_file_name_that_is_not_utf8_is_a_fault_of_that_recording(tmp_path, tone):
    path = tmp_path / os.fsdecode(b"\xff.wav")
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    (tmp_path / "a.wav").rename(path)
    with pytest.raises(RecordingError, match="its name is not UTF-8"):
        read_audio(path)


def test_an_mp3_that_was_cut_off_is_recognised_by_its_header(tmp_path, tone):
    soundfile.write(tmp_path / "a.mp3", tone(seconds=5.0), RATE)
    content = (tmp_path / "a.mp3").read_bytes()
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    (tmp_path / "tagged.mp3").write_bytes(tag + content)
    assert len(read_audio(tmp_path / "tagged.mp3")) == len(read_audio(tmp_path / "a.mp3"))
    for name, whole in (("cut", content), ("tagged_cut", tag + content)):
        (tmp_path / f"{name}.mp3").write_bytes(whole[: len(whole) - len(content) // 2])
        with pytest.raises(RecordingError, match="is truncated: it is shorter than its mp3 header says"):
            read_audio(tmp_path / f"{name}.mp3")


def test_wav_scp_paths_may_hold_blanks_and_are_relative_to_the_list(tmp_path):
    scp = tmp_path / "wav.scp"
    scp.write_bytes("\ufeffMÉO\t audio/my file.wav \r\n\r\nb /data/b.flac\r\n".encode())
    found = read_wav_scp(scp)
    assert list(found.items()) == [
        ("MÉO", tmp_path / "audio/my file.wav"),
        ("b", tmp_path / "/data/b.flac"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a a.wav\nb touch ran |\n",
            r"wav\.scp:2: 'b' is a command \('touch ran \|'\); commands are not run",
        ),
        ("a\n", r"wav\.scp:1: expected '<id> <path>', found 'a'"),
        (
            "a x.wav\nb y.wav\na z.wav\n",
            r"wav\.scp:3: two recordings are named 'a': .*x\.wav \(line 1\) and .*z",
        ),
        ("\n\n", r"wav\.scp: names no recording"),
    ],
)
def test_bad_lines_of_wav_scp_are_named(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wav.scp").write_text(content)
    with pytest.raises(InputError, match=message):
        find_recordings([tmp_path / "wav.scp"])
    assert not (tmp_path / "ran").exists()


# Reading


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 2**-23),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ULAW", 0.02),
        ("a.flac", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
        ("a.ogg", "VORBIS", 0.02),
    ],
)
def test_every_encoding_reads_as_float32_of_full_scale_one(tmp_path, tone, name, subtype, tolerance):
    soundfile.write(tmp_path / name, tone(), RATE, subtype=subtype)
    waveform = read_audio(tmp_path / name)
    assert waveform.dtype == np.float32
    assert waveform.shape == tone().shape
    np.testing.assert_allclose(waveform, tone(), atol=tolerance)


def test_integer_samples_are_divided_by_full_scale(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([-32768, 16384, 1], dtype=np.int16), RATE)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), np.float32([-1, 0.5, 2**-15]))


def test_the_first_channel_is_kept_and_the_others_do_not_matter(tmp_path, tone):
    others = np.stack([tone(), np.full_like(tone(), np.nan), np.zeros_like(tone())], axis=1)
    soundfile.write(tmp_path / "a.wav", others, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), tone())


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled(tmp_path, tone, rate):
    soundfile.write(tmp_path / "a.wav", tone(rate), rate, subtype="FLOAT")
    waveform = read_audio(tmp_path / "a.wav")
    assert abs(len(waveform) - RATE // 2) <= 1
    assert waveform.dtype == np.float32
    inner = slice(RATE // 20, -RATE // 20)  # the ends ring
    np.testing.assert_allclose(waveform[: RATE // 2][inner], tone()[: len(waveform)][inner], atol=1e-3)


def test_mp3_and_opus_are_read(folder, tone):
    for name in ("e.mp3", "f.opus"):
        waveform = read_audio(folder / name)
        assert abs(len(waveform) - RATE // 2) <= 2400  # whole codec frames
        assert 0.2 < np.std(waveform) < 0.5


def test_finding_and_reading_need_numpy_and_soundfile_alone():
    heavy = "{'torch', 'scipy', 'pandas', 'pyannote', 'yaml', 'soxr'}"
    code = f"import sys, workbench.audio; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_resampling_without_soxr_says_what_to_install(tmp_path, tone, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(8000), 8000)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(RecordingError, match=r"a\.wav: has 8000 Hz .* pip install soxr"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("reader", [read_audio, audio_duration, lambda path: crop_audio(path, 0, 0.1)])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"these are words, not samples\n" * 40, "is not readable as audio"),
        (b"RIFF\x00\x00\x00\x00WAVE", "is not readable as audio"),
        (bytes(range(256)) * 30, "is not readable as audio"),
    ],
)
def test_files_that_hold_no_audio_are_refused(tmp_path, reader, content, message):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(RecordingError, match=rf"a\.wav: {message}"):
        reader(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.opus", "a.raw"])
def test_a_text_file_is_no_audio_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_text("these are words\n" * 100)
    with pytest.raises(RecordingError, match=name):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("reader", [read_audio, audio_duration, lambda path: crop_audio(path, 0, 0.1)])
def test_a_recording_without_samples_is_refused(tmp_path, reader):
    soundfile.write(tmp_path / "a.wav", np.empty(0, np.float32), RATE)
    with pytest.raises(RecordingError, match=r"a\.wav: (holds no samples|ends before)"):
        reader(tmp_path / "a.wav")


def test_a_folder_named_like_audio_is_refused(folder):
    with pytest.raises(RecordingError, match=r"folder\.wav: is a folder"):
        read_audio(folder / "folder.wav")


def test_a_file_that_the_system_cannot_open_says_why(tmp_path):
    (tmp_path / "a.wav").symlink_to(tmp_path / "a.wav")
    with pytest.raises(RecordingError, match=r"a\.wav: cannot be read: Too many levels of symbolic links"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("reader", [read_audio, audio_duration, lambda path: crop_audio(path, 0, 0.1)])
@pytest.mark.parametrize(("subtype", "form"), [("PCM_16", "WAV"), ("PCM_24", "WAVEX"), ("FLOAT", "WAV")])
def test_a_wav_shorter_than_its_header_says_is_truncated(tmp_path, tone, reader, subtype, form):
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype, format=form)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"a\.wav: is truncated: .*promises 8000 samples \(0\.500 s\)"):
        reader(tmp_path / "a.wav")


def test_an_rf64_and_a_big_endian_wav_are_checked_alike(tmp_path, tone):
    for form, endian in (("RF64", "FILE"), ("WAV", "BIG")):
        path = tmp_path / "a.wav"
        soundfile.write(path, tone(), RATE, format=form, endian=endian, subtype="PCM_16")
        assert read_audio(path).shape == (8000,)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(RecordingError, match="is truncated.*promises 8000 samples.*holds 7000"):
            read_audio(path)


def test_a_wav_streamed_without_a_length_is_read_to_its_end(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        content[at : at + 4] = struct.pack("<I", size)
        (tmp_path / "a.wav").write_bytes(content)
        assert read_audio(tmp_path / "a.wav").shape == (8000,)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus"])
def test_other_formats_that_were_cut_off_are_refused(tmp_path, rng, name):
    noise = 0.1 * rng.standard_normal(10 * RATE)
    soundfile.write(
        tmp_path / name, noise, RATE, **({"format": "OGG", "subtype": "OPUS"} if "opus" in name else {})
    )
    content = (tmp_path / name).read_bytes()
    for keep in (0.3, 0.61):
        (tmp_path / name).write_bytes(content[: int(keep * len(content))])
        with pytest.raises(RecordingError, match=rf"{name}: is (truncated|damaged)"):
            read_audio(tmp_path / name)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_samples_that_are_no_numbers_are_refused_with_their_place(tmp_path, tone, value, said):
    waveform = tone()
    waveform[[4000, 6000]] = value
    soundfile.write(tmp_path / "a.wav", waveform, RATE, subtype="FLOAT")
    message = rf"a\.wav: 2 samples are not finite numbers, the first at sample 4000 \(0\.250 s\): {said}"
    with pytest.raises(RecordingError, match=message):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(RecordingError, match=r"the first at sample 4000 \(0\.250 s\)"):
        crop_audio(tmp_path / "a.wav", 0.2, 0.3)
    assert crop_audio(tmp_path / "a.wav", 0.0, 0.25).shape == (4000,)  # the rest is sound


# Cropping


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_crop_is_the_slice_of_the_whole(tmp_path, rng, name):
    soundfile.write(tmp_path / name, 0.1 * rng.standard_normal((3 * RATE, 2)), RATE)
    whole = read_audio(tmp_path / name)
    for start, end in [(0, 3), (0.5, 1.25), (1 / 3, 2 / 3), (2.9, 3)]:
        expected = whole[round(start * RATE) : round(end * RATE)]
        np.testing.assert_array_equal(crop_audio(tmp_path / name, start, end), expected)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_a_resampled_crop_agrees_with_the_resampled_whole(tmp_path, rng, rate):
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(3 * rate), rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav")
    for start, end in [(0, 1), (0.5, 1.25), (1 / 3, 2 / 3), (2.5, 2.9)]:
        crop = crop_audio(tmp_path / "a.wav", start, end)
        np.testing.assert_allclose(crop, whole[round(start * RATE) : round(end * RATE)], atol=1e-4)


def test_a_crop_ends_with_the_recording(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    assert crop_audio(tmp_path / "a.wav", 0.4, 9).shape == (1600,)
    for start in (0.5, 2):
        with pytest.raises(RecordingError, match=r"a\.wav: ends before"):
            crop_audio(tmp_path / "a.wav", start, 9)


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (1, 1), (2, 1), (0, np.inf), (np.nan, 1)])
def test_an_impossible_crop_is_refused(tmp_path, start, end):
    with pytest.raises(ValueError, match="0 <= start < end"):
        crop_audio(tmp_path / "a.wav", start, end)


def test_duration_needs_no_samples(tmp_path, tone):
    for rate in (8000, 44100):
        soundfile.write(tmp_path / "a.wav", tone(rate), rate)
        assert audio_duration(tmp_path / "a.wav") == pytest.approx(0.5, abs=1e-4)


def test_the_ami_excerpts_are_thirty_seconds(shared_data):
    found = find_recordings([shared_data / "ami"])
    assert len(found) == 12
    lengths = {uri: len(read_audio(path)) for uri, path in found.items() if uri in ("trn00", "sample")}
    assert lengths == {"trn00": 480001, "sample": 480000}
