"""The breakdown screen, driven by its controls as a reader would, without a browser."""

from __future__ import annotations

import asyncio
import io
import threading
import wave
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scoring_pairs import annotate

from workbench.errors import InputError
from workbench.explorers import breakdown_scoring, explore_errors
from workbench.explorers.breakdown_controls import ALL, BOTH
from workbench.explorers.clips import NOWHERE, PAUSE
from workbench.plots import theme
from workbench.plots.lanes import from_axis, on_axis
from workbench.review import Review
from workbench.rttm import read_rttm, write_rttm
from workbench.scoring import DiarizationCounts, score

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ipywidgets")

SAMPLE_RATE = 16_000


REFERENCES = {
    "easy": annotate("easy", (0, 6, "ann"), (6, 12, "bob")),
    "hard": annotate("hard", (0, 5, "ann"), (5, 10, "bob"), (9, 14, "cat")),
}
GOOD = {
    "easy": annotate("easy", (0, 6, "x"), (6, 12, "y")),
    "hard": annotate("hard", (0, 5, "x"), (5, 9.8, "y"), (10, 14, "z")),
}
BAD = {
    "easy": annotate("easy", (0, 6.5, "x"), (6.5, 12, "y")),
    "hard": annotate("hard", (0, 8, "x"), (8, 10, "y"), (10, 13, "z"), (14, 14.5, "x")),
}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    import soundfile

    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for uri, duration in (("easy", 12), ("hard", 15)):
        soundfile.write(folder / f"{uri}.wav", rng.normal(0, 0.1, duration * SAMPLE_RATE), SAMPLE_RATE)
    return folder


@pytest.fixture
def screen(audio):
    return explore_errors(REFERENCES, {"bad": BAD, "good": GOOD}, audio)


def trace_of(screen, name):
    (found,) = [trace for trace in screen.figure.data if trace.name == name]
    return found


def click(callback, screen, trace, *point):
    callback(trace_of(screen, trace), SimpleNamespace(point_inds=list(point)), None)


def clip_of(screen):
    """Duration (s) of what plays."""
    with wave.open(io.BytesIO(screen.player.wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLE_RATE)
        return file.getnframes() / SAMPLE_RATE


def plain(html):
    return html.replace("\N{NO-BREAK SPACE}", " ")


def test_the_screen_opens_on_the_worst_recording_with_the_pooled_rates(screen):
    assert screen.recording.value == "hard"
    assert isinstance(screen.figure, go.FigureWidget)
    for letter, system in (("A · bad", BAD), ("B · good", GOOD)):
        pooled = sum(score(REFERENCES[uri], system[uri]) for uri in REFERENCES)
        assert letter in screen.headline.value
        assert f"DER {100 * pooled.der:.1f} %" in plain(screen.headline.value)
    assert "no collar · overlap scored · 2 recordings pooled" in screen.headline.value
    assert "B against A" in screen.verdict.value
    assert "fixed 5.0 s, broke 0.2 s" in screen.verdict.value
    assert screen.errors.value == ""


def test_too_few_recordings_say_that_nobody_can_tell(screen):
    assert "cannot tell" in screen.verdict.value


def test_clicking_a_recording_shows_its_lanes_and_its_errors(screen):
    assert screen._scene.order == ["hard", "easy"]
    click(screen._chosen, screen, "recordings A missed", 1)
    assert screen.recording.value == "easy"
    assert len(trace_of(screen, "reference").y) == 2
    assert from_axis(screen.figure.layout.xaxis.range[1]) == pytest.approx(12.0)
    assert {row[2] for row in screen.table.rows} == {"easy"}
    assert screen.errors.value == ""


def test_a_collar_and_left_out_overlap_are_counted_live(screen):
    plain_words = screen.headline.value
    screen.collar.value = 0.25
    assert "collar 0.25 s each side" in screen.headline.value
    screen.overlap.value = False
    assert "overlap left out" in screen.headline.value
    pooled = sum(score(REFERENCES[uri], BAD[uri], collar=0.25, skip_overlap=True) for uri in REFERENCES)
    assert f"DER {100 * pooled.der:.1f} %" in plain(screen.headline.value)
    screen.collar.value, screen.overlap.value = 0.0, True
    assert screen.headline.value == plain_words


def test_recordings_are_sorted_as_asked(screen):
    screen.sort.value = "name"
    assert list(screen.figure.layout.yaxis6.ticktext) == ["easy", "hard"]
    screen.sort.value = "better"  # the largest gain of B first
    assert list(screen.figure.layout.yaxis6.ticktext) == ["hard", "easy"]
    screen.sort.value = "worse"
    assert list(screen.figure.layout.yaxis6.ticktext) == ["easy", "hard"]


def test_clicking_an_error_says_it_shows_it_and_plays_it_with_context(screen):
    errors = screen._screen.tables["errors A"]
    row = int(np.flatnonzero(errors["kind"] == "confusion")[0])
    click(screen._clicked, screen, "errors A", row)
    assert screen.player.text == "hard · 5.0–8.0 s · A: confusion bob → x · 3.0 s"
    assert screen.selection == ("hard", 5.0, 8.0)
    assert screen.player.start == pytest.approx(4.0)
    assert clip_of(screen) == pytest.approx(5.0)
    layout = screen.figure.layout
    assert layout.images[0].source.startswith("data:image/png")
    assert [from_axis(value) for value in layout.xaxis5.range] == pytest.approx([4.0, 9.0])
    assert layout.shapes[0].visible
    assert (from_axis(layout.shapes[0].x0), from_axis(layout.shapes[0].x1)) == (5.0, 8.0)


def test_a_row_of_the_table_leads_to_the_error_even_in_another_recording(screen):
    screen.scope.value = True
    index = next(i for i, row in enumerate(screen.table.rows) if row[2] == "easy")
    screen.table.picked = {"index": index, "time": 1}
    assert screen.recording.value == "easy"
    assert screen.player.text.startswith("easy · 6.0–6.5 s · A: confusion bob → x")
    assert screen.table.selected == index
    assert from_axis(screen.figure.layout.xaxis.range[1]) <= 12.0
    assert screen.errors.value == ""


def test_an_error_out_of_view_is_brought_into_view(screen):
    screen.figure.layout.xaxis.range = (float(on_axis(12.0)), float(on_axis(14.0)))
    screen.table.picked = {"index": 0, "time": 1}  # the longest, 5 to 8 s
    start, end = (from_axis(value) for value in screen.figure.layout.xaxis.range)
    assert start <= 5.0
    assert end >= 8.0


def test_the_same_stretch_can_be_shown_again_after_a_double_click(screen):
    axis, sent = screen.figure.layout.xaxis, []
    screen._time.show(6.0, 8.0)
    stretch = screen._time.read()
    axis.autorange = True  # what a double click does: the range stays as it was
    assert screen._time.read() == (0.0, screen._scene.duration)
    screen.figure.observe(lambda change: sent.append(change["new"] or {}), "_py2js_update")
    screen._time.show(6.0, 8.0)
    assert screen._time.read() == stretch
    (written,) = [
        message["layout_data"] for message in sent if "xaxis.range" in message.get("layout_data", {})
    ]
    assert [from_axis(value) for value in written["xaxis.range"]] == pytest.approx(list(stretch))
    assert screen.errors.value == ""


def test_filters_narrow_the_table(screen):
    everything = screen.listed_errors()
    assert screen.table.note == f"{len(everything)} errors, {everything['duration'].sum():.1f} s"
    assert everything["duration"].is_monotonic_decreasing
    screen.kind.value = "missed"
    assert {row[0] for row in screen.table.rows} == {"missed"}
    assert f"of {len(everything)}" in screen.table.note
    screen.kind.value = ALL
    screen.shortest.value = 2.0
    assert len(screen.table.rows) == (everything["duration"] >= 2).sum()
    screen.shortest.value = 0.0
    screen.speaker.value = "bob"
    assert all("bob" in row for row in screen.table.rows)
    screen.shortest.value = 5.0
    assert screen.table.rows == []
    assert "choose other filters" in screen.table.note


def test_the_table_lists_the_errors_of_either_system(screen):
    screen.listed.value = 1
    assert screen.listed_errors()["duration"].sum() == pytest.approx(
        sum(getattr(score(REFERENCES["hard"], GOOD["hard"]), kind) for kind in ("missed", "confusion"))
    )


def test_a_cell_of_the_matrix_lists_the_errors_behind_it(screen):
    click(screen._cell, screen, "confusion", (1, 0))  # bob taken for x
    assert (screen.kind.value, screen.speaker.value) == ("confusion", "bob")
    assert [row[-2:] for row in screen.table.rows] == [["bob", "x"]]


def test_confusions_of_b_and_other_parts_are_drawn_on_request(screen):
    before = [list(row) for row in trace_of(screen, "confusion").text]
    screen.detail.value = 1
    assert [list(row) for row in trace_of(screen, "confusion").text] != before
    screen.by.value = "speaker"
    assert list(screen.figure.layout.yaxis8.ticktext) == ["ann", "bob", "cat", "nobody"]
    assert screen.errors.value == ""


def test_all_of_one_speaker_plays_with_pauses_between_the_turns(screen):
    screen.voice.value = "bob"
    screen.play_voice.click()
    assert screen.player.text == "hard · reference bob · all 1 turns · 5.0 s"
    assert screen.player.start == NOWHERE
    assert clip_of(screen) == pytest.approx(5.0 + PAUSE)
    assert screen.player.serial == 1


def test_both_sides_of_the_nearest_change_of_speaker_play(screen):
    click(screen._clicked, screen, "errors A", 0)  # begins at 5 s, where bob takes over
    screen.before.click()
    assert screen.player.text == "hard · 3.0–5.0 s · before the change at 0:05.000 · 2.0 s"
    screen.after.click()
    assert screen.player.text == "hard · 5.0–7.0 s · after the change at 0:05.000 · 2.0 s"
    assert (screen.player.start, clip_of(screen)) == (5.0, 2.0)


def test_the_play_button_repeats_the_selection_and_else_plays_what_is_in_view(screen):
    screen.figure.layout.xaxis.range = (float(on_axis(2.0)), float(on_axis(5.0)))
    screen.player.request += 1
    assert screen.player.text == "hard · 2.0–5.0 s · what is in view · 3.0 s"
    screen.table.picked = {"index": 0, "time": 1}
    words, serial = screen.player.text, screen.player.serial
    screen.player.request += 1
    assert (screen.player.text, screen.player.serial) == (words, serial + 1)


def test_systems_change_places_and_one_may_stand_alone(screen):
    screen.first.value, screen.second.value = "good", ALL
    assert "A · good" in screen.headline.value
    assert "B ·" not in screen.headline.value
    assert "B against A" not in screen.verdict.value
    assert not screen.figure.layout.yaxis3.visible
    screen.listed.value = 1  # there is no B: A's are listed
    assert len(screen.table.rows) > 0
    screen.second.value = "bad"
    assert screen.figure.layout.yaxis3.visible
    assert screen.errors.value == ""


def test_without_audio_everything_is_seen_and_the_screen_says_why_nothing_is_heard():
    screen = explore_errors(REFERENCES, {"bad": BAD})
    assert "No audio was given" in screen.player.text
    screen.table.picked = {"index": 0, "time": 1}
    assert screen.player.text == "hard · 5.0–8.0 s · A: confusion bob → x · 3.0 s · no audio"
    assert screen.figure.layout.shapes[0].visible
    assert screen.player.serial == 0
    screen.player.request += 1
    assert "give audio=" in screen.errors.value


def test_exports_hold_what_the_filters_let_through(screen, tmp_path):
    screen.kind.value = "missed"
    errors = screen.listed_errors()
    for suffix in (".csv", ".rttm", ".txt", ".TextGrid"):
        screen.format.value, screen.path.value = suffix, str(tmp_path / "missed")
        screen.export.click()
        assert screen.errors.value == ""
        assert (tmp_path / f"missed{suffix}").is_file()
    assert f"{len(errors)} errors in missed.TextGrid" in screen.exported.value
    table = pd.read_csv(tmp_path / "missed.csv")
    np.testing.assert_allclose(table["duration"], errors["duration"])
    assert len(list(read_rttm(tmp_path / "missed.rttm")["hard"].itertracks())) == len(errors)


def test_files_will_do_instead_of_annotations(tmp_path):
    write_rttm(tmp_path / "reference.rttm", REFERENCES)
    (tmp_path / "system").mkdir()
    for uri, annotation in GOOD.items():
        write_rttm(tmp_path / "system" / f"{uri}.rttm", annotation)
    screen = explore_errors(tmp_path / "reference.rttm", {"good": tmp_path / "system"})
    assert screen.review.uris == ["easy", "hard"]


def test_what_cannot_be_shown_is_refused_with_a_reason(audio):
    with pytest.raises(InputError, match="no system"):
        explore_errors(REFERENCES, {})
    with pytest.raises(InputError, match="no recording 'nowhere'; there are easy, hard"):
        explore_errors(REFERENCES, {"good": GOOD}, recording="nowhere")
    with pytest.raises(InputError, match="cannot be trusted"):
        explore_errors({}, {"good": GOOD})


def test_what_goes_wrong_in_a_callback_is_written_on_the_screen(screen):
    screen.path.value = " "
    screen.export.click()
    assert "name a file" in screen.errors.value
    screen.play_voice.click()
    assert "choose a speaker first" in screen.errors.value
    screen.sort.value = "name"
    assert screen.errors.value == ""


def test_the_static_twin_shows_the_same_numbers_and_the_selection(screen):
    screen.table.picked = {"index": 0, "time": 1}
    page = screen.to_html()
    for part in (screen.headline.value, screen.verdict.value, "A: confusion bob → x", "data:image"):
        assert part in page
    assert page.count("<tr>") == len(screen.table.rows) + 1
    assert len(page) < 3_000_000
    assert "plotly.js v" in screen.to_html(include_plotlyjs=True, full_html=True)


def test_reports_show_the_twin_instead_of_widgets(screen, monkeypatch):
    assert "application/vnd.jupyter.widget-view+json" in screen._repr_mimebundle_()
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    assert set(screen._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_the_hypotheses_of_the_notebook_are_of_the_recordings_that_are_shipped(repository):
    demo = repository / "data" / "demo"
    files = [demo / "hypotheses" / f"{name}.rttm" for name in ("early", "final")]
    if not all(file.is_file() for file in files):
        pytest.skip("needs data/demo/hypotheses, which scripts/make_demo_hypotheses.py makes")
    review = Review(demo / "demo.rttm", {file.stem: file for file in files}, demo, demo / "demo.uem")
    assert review.remarks == []
    assert review.uris == sorted(path.stem for path in demo.glob("*.flac"))


def test_what_b_fixed_and_broke_has_a_lane_and_a_list(screen):
    lane = screen._screen.tables["changes"]
    seconds = (lane["end"] - lane["start"]).groupby(lane["kind"]).sum()
    screen.listed.value = BOTH
    listed = screen.listed_errors()
    assert set(listed["kind"]) == {"fixed", "broken"}
    assert listed.groupby("kind")["duration"].sum().to_dict() == pytest.approx(seconds.to_dict())
    first = listed.iloc[0]  # bob from 5 to 8 s, whom A took for ann
    assert (first["kind"], first["start"], first["end"]) == ("fixed", 5.0, 8.0)
    assert (first["reference_speaker"], first["hypothesis_speaker"]) == ("bob", "x")
    screen.kind.value = "broken"
    assert set(screen.listed_errors()["kind"]) == {"broken"}
    screen.listed.value = 0
    assert "broken" not in [value for _, value in screen.kind.options]
    click(screen._clicked, screen, "changes", int(np.flatnonzero(lane["start"] == 5.0)[0]))
    assert screen.player.text == "hard · 5.0–8.0 s · B fixed bob → x · 3.0 s"
    assert screen.errors.value == ""


def test_without_a_second_system_there_is_no_lane_of_changes(audio):
    alone = explore_errors(REFERENCES, {"bad": BAD}, audio)
    assert alone._screen.tables["changes"].empty
    alone.listed.value = BOTH
    assert set(alone.listed_errors()["kind"]) <= {"missed", "false_alarm", "confusion"}
    assert alone.errors.value == ""


@pytest.mark.parametrize("by", ["overlap", "duration", "boundary", "speaker", "time"])
def test_parts_can_be_those_of_all_recordings(screen, by):
    screen.by.value, screen.pooled.value = by, True
    shown = sum(sum(trace_of(screen, f"parts A {kind}").x) for kind in theme.ERRORS)
    pooled = sum((score(REFERENCES[uri], BAD[uri]) for uri in REFERENCES), DiarizationCounts())
    assert shown == pytest.approx(pooled.missed + pooled.false_alarm + pooled.confusion)
    titles = [note.text for note in screen.figure.layout.annotations]
    assert any("all 2 recordings" in title for title in titles)
    screen.pooled.value = False
    assert screen.errors.value == ""


def test_scoring_shows_a_bar_and_newer_input_replaces_older(audio):
    async def drive():
        screen = explore_errors(REFERENCES, {"bad": BAD, "good": GOOD}, audio)
        entered, go_on, scored = threading.Event(), threading.Event(), []
        compute = screen.review.score

        def slowly(system, params):
            scored.append((system, params.collar))
            entered.set()
            assert go_on.wait(10)
            return compute(system, params)

        screen.review.score = slowly
        screen.collar.value = 0.25
        assert entered.wait(10)
        assert screen.progress.layout.display == ""
        assert screen.stage.value == "scoring bad"
        screen.review.score = compute
        screen.overlap.value = False  # before the first is done
        go_on.set()
        screen.wait()
        return screen, scored

    screen, scored = asyncio.run(drive())
    assert scored == [("bad", 0.25)]  # the rest of the older work was never begun
    assert "collar 0.25 s each side · overlap left out" in screen.headline.value
    assert screen.progress.layout.display == "none"
    assert screen.errors.value == ""


@pytest.mark.parametrize(("few", "shown"), [(0, 1), (3000, 0)])
def test_a_bar_stands_in_for_the_screen_while_much_is_scored_for_the_first_time(monkeypatch, few, shown):
    stages = []
    monkeypatch.setattr(breakdown_scoring, "FEW_TURNS", few)
    monkeypatch.setattr(breakdown_scoring, "display", lambda bar: stages.append(bar.layout.display))

    async def in_a_kernel():
        return explore_errors(REFERENCES, {"a": REFERENCES})

    screen = asyncio.run(in_a_kernel())
    assert stages == [""] * shown
    assert screen.progress.layout.display == "none"
    # a bar of 8 px has no height left inside its margins
    assert int(screen.bar.layout.height.removesuffix("px")) >= 16
