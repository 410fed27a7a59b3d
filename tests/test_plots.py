"""Figures by their traces and axis titles, colours by their rules."""

from __future__ import annotations

import base64
import dataclasses
import struct
import time
import zlib

import numpy as np
import pandas as pd
import pytest

from workbench.overview import Diarization, Envelope, LocalSpeakers, Recording
from workbench.plots import theme
from workbench.plots.lanes import EPOCH, as_dates, describe_errors, from_axis, on_axis, turn_bars
from workbench.plots.raster import data_uri, local_speaker_pixels
from workbench.plots.recording import plot_recording
from workbench.plots.words import clock, convention, matched_name, speaker_name
from workbench.scoring import DiarizationCounts
from workbench.timeline import thin_turns
from workbench.types import SlidingWindow

TRACES = [
    *("waveform", "local speakers", "reference", "hypothesis", "errors", "map", "clusters"),
    *("correct", "missed", "false_alarm", "confusion"),
]


def turns(*rows):
    return pd.DataFrame(rows, columns=["start", "end", "speaker"]).astype({"speaker": object})


def errors(*rows):
    columns = ["start", "end", "kind", "reference_speaker", "hypothesis_speaker"]
    return pd.DataFrame(rows, columns=columns, dtype=object).astype({"start": float, "end": float})


@pytest.fixture
def recording(rng):
    frames = SlidingWindow(0.0, 0.02, 0.02)
    posteriors = rng.uniform(0, 1, (1000, 3)).astype(np.float32)
    return Recording(
        uri="demo",
        duration=20.0,
        envelope=Envelope.of(rng.uniform(-0.5, 0.5, 320_000).astype(np.float32)),
        local_speakers=LocalSpeakers(
            posteriors=posteriors, chunk=np.repeat(np.arange(4), 250), frames=frames
        ),
        reference=turns((0.0, 5.0, "anna"), (5.0, 9.0, "bert"), (8.0, 12.0, "anna")),
    )


@pytest.fixture
def diarization():
    hard_clusters = np.array([[0, 1, -2], [1, 0, -2], [0, 2, -2], [0, 1, -2]])
    local_map = pd.DataFrame(
        {
            "chunk": [0, 0, 1],
            "local_speaker": [0, 1, 0],
            "start": [0.0, 0.0, 1.0],
            "end": [8.0, 8.0, 9.0],
            "x": [1.0, 2.0, 3.0],
            "y": [0.0, 1.0, 0.0],
            "cluster": [0, 1, 1],
            "reference_speaker": pd.Series(["bert", "anna", "anna"], dtype=object),
        }
    )
    by_speaker = pd.DataFrame(
        [("anna", 8.0, 1.0, 0.0, 0.0), ("bert", 3.0, 0.0, 1.0, 0.0), (None, 0.0, 0.0, 0.0, 2.0)],
        columns=["speaker", "correct", "missed", "confusion", "false_alarm"],
    )
    return Diarization(
        hypothesis=turns((0.0, 5.0, 1), (5.0, 9.0, 0), (15.0, 17.0, 2)),
        hard_clusters=hard_clusters,
        local_map=local_map,
        matching={1: "anna", 0: "bert"},
        errors=errors((9.0, 10.0, "missed", "anna", None), (15.0, 17.0, "false_alarm", None, 2)),
        by_speaker=by_speaker,
        counts=DiarizationCounts(total=13.0, correct=11.0, missed=1.0, false_alarm=2.0, confusion=1.0),
    )


def trace_of(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def test_the_screen_has_one_trace_per_lane_on_one_time_axis(recording, diarization):
    figure = plot_recording(recording, diarization).figure
    assert [trace.name for trace in figure.data] == TRACES
    assert [trace.xaxis or "x" for trace in figure.data[:5]] == ["x"] * 5
    assert figure.layout.xaxis.title.text == "Time (m:ss)"
    assert figure.layout.xaxis2.title.text.startswith("First principal component")
    assert figure.layout.yaxis6.title.text.startswith("Second component")
    assert figure.layout.xaxis3.title.text == "Speech (s)"
    assert len(figure.layout.shapes) == 1  # the selection; turns are never shapes
    assert figure.layout.width <= 1100


def test_turns_lie_where_they_were_spoken(recording, diarization):
    bars = trace_of(plot_recording(recording, diarization).figure, "reference")
    np.testing.assert_allclose(np.asarray(bars.base, dtype=float), EPOCH + np.array([0.0, 5.0, 8.0]) * 1000)
    np.testing.assert_allclose(bars.x, [5000.0, 4000.0, 4000.0])
    np.testing.assert_array_equal(bars.y, [0, 1, 0])
    assert bars.customdata[1].tolist() == ["bert", "0:05.000", "0:09.000", "4.00 s", ""]
    assert "demo" in bars.hovertemplate


def test_a_hypothesis_speaker_wears_the_colour_of_whom_it_is_matched_to(recording, diarization):
    figure = plot_recording(recording, diarization).figure
    reference, hypothesis = trace_of(figure, "reference"), trace_of(figure, "hypothesis")
    anna, bert = reference.marker.color[0], reference.marker.color[1]
    assert (anna, bert) == theme.SPEAKERS[:2]
    assert hypothesis.marker.color == (anna, bert, theme.UNMATCHED)
    assert hypothesis.marker.pattern.shape == ("", "", theme.UNMATCHED_HATCH)  # never by colour alone
    labels = [text.split(" <")[0] for text in figure.layout.yaxis4.ticktext]
    assert labels == ["spk1 = anna", "spk0 = bert", "spk2 = nobody"]


def test_errors_have_a_row_a_colour_and_words_each(recording, diarization):
    screen = plot_recording(recording, diarization)
    bars = trace_of(screen.figure, "errors")
    assert bars.y.tolist() == [0, 1]
    assert bars.marker.color == (theme.ERRORS["missed"].color, theme.ERRORS["false_alarm"].color)
    assert [row[0] for row in bars.customdata] == ["missed anna", "false alarm spk2"]
    assert screen.tables["errors"]["kind"].tolist() == ["missed", "false_alarm"]


def test_a_confusion_is_said_in_words():
    assert describe_errors(errors((0, 1, "confusion", "A", 2))) == ["confusion A → spk2"]


def test_without_a_reference_the_screen_says_what_to_do(recording, diarization):
    bare = dataclasses.replace(recording, reference=None)
    unscored = dataclasses.replace(diarization, matching={}, errors=None, by_speaker=None, counts=None)
    figure = plot_recording(bare, unscored).figure
    notes = [
        note.text for note in figure.layout.annotations if "No reference for this recording" in note.text
    ]
    assert len(notes) == 2  # in the lanes of the reference and of the errors
    assert "references=" in notes[0]
    assert trace_of(figure, "hypothesis").marker.color == theme.SPEAKERS[:3]
    assert trace_of(figure, "correct").x == (5.0, 4.0, 2.0)  # seconds per hypothesis speaker


def test_before_the_models_have_run_the_waveform_is_there(recording):
    preview = dataclasses.replace(recording, local_speakers=LocalSpeakers.none())
    figure = plot_recording(preview, Diarization.none()).figure
    assert [trace.name for trace in figure.data] == TRACES
    assert len(trace_of(figure, "waveform").x) > 1000
    assert len(trace_of(figure, "hypothesis").y) == 0
    titles = figure.layout.xaxis2.title.text, figure.layout.yaxis6.title.text
    assert titles == ("First principal component", "Second component")  # no share of what is not there


def test_only_what_is_in_view_is_drawn(recording, diarization):
    whole = plot_recording(recording, diarization).figure
    part = plot_recording(recording, diarization, view=(13.0, 16.0)).figure
    assert (
        trace_of(part, "reference").base.tolist() == on_axis(np.array([8.0])).tolist()
    )  # as much again each side
    assert trace_of(part, "waveform").x[0] > trace_of(whole, "waveform").x[0]
    assert part.layout.xaxis.range == (float(on_axis(13.0)), float(on_axis(16.0)))


def test_the_time_axis_starts_with_dates_that_plotly_recognises(recording, diarization):
    """Plotly guesses the type of an axis anew from its first trace when data change."""
    figure = plot_recording(recording, diarization).figure
    assert str(figure.data[0].x[0]).startswith("2000-01-01T00:00:00.")
    assert figure.layout.xaxis.type == "date"
    assert as_dates(np.array([61.5])).tolist() == ["2000-01-01T00:01:01.500"]
    assert from_axis("2000-01-01 00:01:01.5") == from_axis(float(on_axis(61.5))) == 61.5


def test_ten_thousand_turns_build_in_under_a_second(rng):
    starts = np.sort(rng.uniform(0, 30_000, 10_000))
    table = turns(
        *zip(starts, starts + rng.uniform(0.2, 4, 10_000), rng.integers(5, size=10_000), strict=True)
    )
    styles = theme.reference_styles(range(5))
    names = {speaker: speaker_name(speaker) for speaker in range(5)}
    started = time.process_time()
    bars, drawn = turn_bars(
        table, {n: n for n in range(5)}, styles, names, name="x", uri="u", yaxis="y", view=(0.0, 30_000.0)
    )
    assert time.process_time() - started < 1.0
    assert len(bars.y) == len(drawn) <= 5 * 3600
    assert drawn["num_turns"].sum() == 10_000  # merged, not lost


def test_zooming_in_separates_turns_that_were_drawn_as_one(rng):
    starts = np.arange(0, 20_000, 2.0)
    table = turns(*((start, start + 1.9, "A") for start in starts)).assign(row=0.0)
    assert len(thin_turns(table, 0, 20_000, 20_000 / 3600)) == 1
    assert len(thin_turns(table, 0, 100, 100 / 3600)) == 50


def test_a_picture_of_local_speakers_is_a_valid_png():
    local = LocalSpeakers(
        posteriors=np.array([[1.0, 0.0], [1.0, 0.5]], np.float32),
        chunk=np.array([0, 1]),
        frames=SlidingWindow(0.0, 0.1, 0.1),
    )
    pixels = local_speaker_pixels(
        local, np.array([[3, 4], [4, 9]]), {3: "#102030", 4: "#405060"}, 0.0, 0.2, 2
    )
    rows = pixels[:: len(pixels) // 2]  # one line of each local speaker
    np.testing.assert_array_equal(rows[0], [[16, 32, 48, 255], [64, 80, 96, 255]])
    np.testing.assert_array_equal(rows[1, :, 3], [0, 128])  # opacity is the posterior
    np.testing.assert_array_equal(rows[1, 1, :3], theme.rgb(theme.UNMATCHED))  # cluster 9 takes no part

    file = base64.b64decode(data_uri(pixels).split(",")[1])
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", file[16:24])
    assert (height, width) == pixels.shape[:2]
    length = struct.unpack(">I", file[33:37])[0]
    lines = np.frombuffer(zlib.decompress(file[41 : 41 + length]), np.uint8).reshape(height, 1 + 4 * width)
    np.testing.assert_array_equal(lines[:, 1:].reshape(pixels.shape), pixels)


def test_three_hours_are_drawn_in_a_few_thousand_points(rng):
    num_frames = 540_000
    recording = Recording(
        uri="long",
        duration=10_800.0,
        envelope=Envelope.of(
            rng.standard_normal(10_800 * 160).astype(np.float32), sample_rate=160, step=0.0125
        ),
        local_speakers=LocalSpeakers(
            posteriors=rng.uniform(0, 1, (num_frames, 4)).astype(np.float32),
            chunk=np.repeat(np.arange(13_500), 40),
            frames=SlidingWindow(0.0, 0.02, 0.02),
        ),
        reference=None,
    )
    starts = np.arange(0, 10_790, 1.5)
    diarization = dataclasses.replace(
        Diarization.none(),
        hypothesis=turns(*((start, start + 1, int(start) % 5) for start in starts)),
        hard_clusters=rng.integers(0, 5, (13_500, 4)),
    )
    plot_recording(recording, diarization)  # once, so that nothing is imported while the clock runs
    started = time.process_time()
    screen = plot_recording(recording, diarization)
    assert time.process_time() - started < 1.0
    assert len(trace_of(screen.figure, "waveform").x) <= 2 * 1200
    assert len(trace_of(screen.figure, "local speakers").x) <= 4 * 1200 + 4
    assert screen.figure.layout.xaxis.title.text == "Time (h:mm:ss)"
    assert len(screen.figure.to_json()) < 3_000_000


def test_speakers_beyond_the_palette_are_told_apart_by_hatch():
    styles = theme.reference_styles(range(20))
    assert len({(style.color, style.hatch) for style in styles.values()}) == 20


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [(0, 0, "0:00"), (192.4, 0, "3:12"), (59.9999, 3, "1:00.000"), (3725.5, 1, "1:02:05.5")],
)
def test_times_read_as_clocks(seconds, decimals, text):
    assert clock(seconds, decimals) == text


def test_names_and_conventions_read_as_sentences():
    assert matched_name(2, {2: "anna"}, True) == "spk2 = anna"
    assert matched_name(2, {}, True) == "spk2 = nobody"
    assert matched_name("SPEAKER_01", {}, False) == "SPEAKER_01"
    assert convention(0.0, False) == "no collar · overlap scored"
    assert convention(0.25, True) == "collar 0.25 s each side · overlap left out"
