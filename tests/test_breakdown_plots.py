"""The pictures of the breakdown: what lies behind every mark, and that long recordings stay light."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scoring_pairs import annotate

from workbench.plots import theme
from workbench.plots.breakdown import LANES, NO_AUDIO, NO_SELECTION, Scene, plot_breakdown, plot_lanes
from workbench.plots.breakdown_panels import Parts
from workbench.plots.lanes import MOST_TURNS, from_axis
from workbench.plots.spectrogram import HEIGHT, Sound, spectrogram_pixels
from workbench.review import Review, ScoringParams, filter_errors
from workbench.spectrogram import spectrogram

PLAIN = ScoringParams()


REFERENCES = {
    "one": annotate("one", (0, 10, "zoe"), (10, 20, "adam")),
    "two": annotate("two", (0, 4, "zoe")),
}
# of "one": 2 s of zoe taken for adam, 1 s missed of adam, 1 s of false alarm
FIRST = {
    "one": annotate("one", (0, 8, "x"), (8, 19, "y"), (20, 21, "x")),
    "two": annotate("two", (0, 4, "x")),
}
SECOND = {"one": annotate("one", (0, 10, "x"), (10, 20, "y")), "two": annotate("two", (0, 2, "x"))}


@pytest.fixture
def review():
    return Review(REFERENCES, {"first": FIRST, "second": SECOND})


def scene_of(review, uri="one", by="overlap", systems=("first", "second"), **values):
    return Scene(
        uri=uri,
        duration=review.duration(uri),
        reference=review.turns(uri),
        views=[review.view(system, uri, PLAIN) for system in systems],
        scores=[review.score(system, PLAIN) for system in systems],
        order=review.uris,
        parts=Parts.of(by, [review.breakdown(system, PLAIN, by, uri) for system in systems]),
        **values,
    )


def trace_of(screen, name):
    (found,) = [trace for trace in screen.figure.data if trace.name == name]
    return found


def test_bars_of_a_recording_are_its_errors_over_its_speech(review):
    screen = plot_breakdown(scene_of(review))
    shown = {kind: list(trace_of(screen, f"recordings A {kind}").x) for kind in theme.ERRORS}
    assert shown == {"missed": [5.0, 0.0], "false_alarm": [5.0, 0.0], "confusion": [10.0, 0.0]}
    assert list(trace_of(screen, "recordings B missed").x) == [0.0, 50.0]
    texts = [
        text.replace("\N{NO-BREAK SPACE}", " ").strip() for text in trace_of(screen, "recordings rates").text
    ]
    assert texts == ["20.0 → 0.0 %", "0.0 → 50.0 %"]


def test_cells_hold_the_seconds_and_what_is_correct_lies_on_the_diagonal(review):
    cells = trace_of(plot_breakdown(scene_of(review)), "confusion")
    # zoe talks first, so she comes first, whatever the alphabet says
    assert [list(row) for row in cells.text] == [["8.0", "2.0", ""], ["", "9.0", "1.0"], ["1.0", "", ""]]
    kinds = np.floor(np.array(cells.z, dtype=float))
    np.testing.assert_array_equal(kinds, [[0, 3, np.nan], [np.nan, 0, 1], [2, np.nan, np.nan]])


def test_parts_add_up_to_the_errors_of_the_recording(review):
    for by in ("overlap", "duration", "boundary", "speaker", "time"):
        screen = plot_breakdown(scene_of(review, by=by))
        seconds = [sum(trace_of(screen, f"parts A {kind}").x) for kind in theme.ERRORS]
        assert seconds == pytest.approx([1.0, 1.0, 2.0]), by


def test_hypothesis_speakers_wear_the_colour_of_their_reference_speaker(review):
    screen = plot_breakdown(scene_of(review))
    zoe, adam = theme.SPEAKERS[:2]
    assert list(trace_of(screen, "reference").marker.color) == [zoe, adam]
    assert list(trace_of(screen, "hypothesis A").marker.color) == [zoe, adam, zoe]
    assert list(trace_of(screen, "hypothesis B").marker.color) == [zoe, adam]


def test_every_lane_is_one_trace_and_a_point_is_a_row_of_its_table(review):
    screen = plot_breakdown(scene_of(review))
    for lane in LANES:
        assert len(trace_of(screen, lane).x) == len(screen.tables[lane])
        assert len(screen.tables[lane]) > 0 or lane in ("errors B", "changes")
    errors = screen.tables["errors A"]
    assert list(errors["kind"]) == ["confusion", "missed", "false_alarm"]
    starts = [from_axis(base) for base in trace_of(screen, "errors A").base]
    assert starts == pytest.approx(list(errors["start"]))


def test_both_drawings_have_the_same_traces_whatever_is_shown(review):
    both = plot_breakdown(scene_of(review))
    alone = plot_breakdown(scene_of(review, uri="two", systems=("first",), by="speaker"))
    assert [trace.name for trace in both.figure.data] == [trace.name for trace in alone.figure.data]
    assert not alone.figure.layout.yaxis3.visible
    assert alone.figure.layout.height < both.figure.layout.height


def test_axes_say_what_they_measure_and_in_which_unit(review):
    layout = plot_breakdown(scene_of(review)).figure.layout
    titles = [layout[name].title.text for name in ("xaxis", "xaxis2", "xaxis4")]
    assert titles == ["Time (m:ss)", "DER (% of the reference speech)", "Errors (s)"]


def test_without_selection_or_audio_the_place_of_the_spectrogram_says_what_to_do(review):
    def notes(**values):
        return [note.text for note in plot_breakdown(scene_of(review, **values)).figure.layout.annotations]

    assert NO_SELECTION in notes()
    assert NO_AUDIO in notes(has_audio=False)


def test_a_selected_sound_is_a_picture_with_its_edges(review):
    sound = Sound(spectrum=spectrogram(np.zeros(48_000)), start=7.0)
    layout = plot_breakdown(scene_of(review), selection=(8.0, 9.0), sound=sound).figure.layout
    assert layout.images[0].source.startswith("data:image/png;base64,")
    assert [from_axis(shape.x0) for shape in layout.shapes if shape.xref == "x5"] == [8.0, 9.0]
    assert [from_axis(value) for value in layout.xaxis5.range] == [7.0, 10.0]


def test_a_recording_far_down_the_list_is_in_view():
    references = {f"r{number:02d}": annotate(f"r{number:02d}", (0, 4, "zoe")) for number in range(30)}
    review = Review(references, {"first": references})
    layout = plot_breakdown(scene_of(review, "r20", systems=("first",))).figure.layout
    low, high = sorted(layout.yaxis6.range)
    assert low < 20 < high <= 29.5
    assert high - low == 11


def random_turns(rng, num_turns, duration, num_speakers=6):
    starts = np.sort(rng.uniform(0, duration - 5, num_turns))
    ends = starts + rng.uniform(0.2, 4, num_turns)
    turns = zip(starts, ends, rng.integers(0, num_speakers, num_turns), strict=True)
    return annotate("long", *((start, end, f"S{speaker}") for start, end, speaker in turns))


def test_ten_thousand_turns_are_drawn_within_a_second(rng):
    review = Review(
        {"long": random_turns(rng, 10_000, 10_800)}, {"a": {"long": random_turns(rng, 10_000, 10_800)}}
    )
    scene = scene_of(review, "long", systems=("a",))
    started = time.process_time()
    screen = plot_breakdown(scene)
    assert time.process_time() - started < 1.0
    # merged where a browser could not pan them, not lost
    assert all(len(screen.tables[lane]) <= MOST_TURNS for lane in LANES)
    assert sum(screen.tables[lane]["num_turns"].sum() for lane in LANES[:2]) == 20_000


def test_a_minute_of_three_hours_draws_only_what_is_near(rng):
    review = Review(
        {"long": random_turns(rng, 10_000, 10_800)}, {"a": {"long": random_turns(rng, 10_000, 10_800)}}
    )
    scene = scene_of(review, "long", systems=("a",))
    plot_lanes(scene, (0.0, 60.0))
    started = time.process_time()
    lanes = plot_lanes(scene, (5_000.0, 5_060.0))
    assert time.process_time() - started < 0.15
    for lane in ("reference", "hypothesis A", "errors A"):
        table = lanes.tables[lane]
        assert 0 < len(table) < 1_500
        assert table["end"].min() > 4_940
        assert table["start"].max() < 5_120


def test_a_tone_is_bright_where_it_sounds():
    time_axis = np.arange(32_000) / 16_000
    waveform = np.where(time_axis < 1, np.sin(2 * np.pi * 2000 * time_axis), 0.0)
    found = spectrogram(waveform, num_frames=200)
    assert found.duration == 2.0
    loudest = found.levels[:, 50].argmax() * found.highest / (len(found.levels) - 1)
    assert loudest == pytest.approx(2000, abs=20)
    assert found.levels[:, 150].max() < -100
    pixels = spectrogram_pixels(found)
    assert pixels.shape == (HEIGHT, 200, 4)
    assert pixels[HEIGHT * 3 // 4, 50, :3].sum() > 3 * pixels[HEIGHT * 3 // 4, 150, :3].sum()


def test_silence_and_clips_of_no_length_have_a_spectrogram():
    for num_samples in (0, 1, 400):
        assert np.isfinite(spectrogram(np.zeros(num_samples)).levels).all()


def test_filters_take_either_side_for_a_speaker():
    errors = pd.DataFrame(
        {
            "duration": [3.0, 2.0, 1.0],
            "kind": ["confusion", "missed", "false_alarm"],
            "reference_speaker": ["A", "B", None],
            "hypothesis_speaker": ["x", None, "x"],
        }
    )
    assert filter_errors(errors, speaker="x")["duration"].tolist() == [3.0, 1.0]
    assert filter_errors(errors, kind="missed")["duration"].tolist() == [2.0]
    assert filter_errors(errors, min_duration=2.0)["duration"].tolist() == [3.0, 2.0]


def test_hypotheses_of_unknown_recordings_are_remarked_on_and_not_scored():
    review = Review(REFERENCES, {"first": FIRST | {"three": annotate("three", (0, 5, "x"))}})
    assert review.uris == ["one", "two"]
    assert review.score("first", PLAIN).counts.total == 24.0
    assert any("three" in remark for remark in review.remarks)


def test_a_recording_without_hypothesis_is_missed():
    review = Review(REFERENCES, {"first": {"one": FIRST["one"]}})
    assert review.score("first", PLAIN).recordings.loc["two", "missed"] == 4.0
    assert len(review.view("first", "two", PLAIN).errors) == 1
