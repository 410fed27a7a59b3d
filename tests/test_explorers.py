"""The start screen, driven by its controls as a reader would, without a browser."""

from __future__ import annotations

import asyncio
import io
import threading
import wave
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from hubs import SAMPLE_RATE, make_conversation, make_tiny_hub
from pyannote.core import Annotation, Segment

from workbench.errors import InputError
from workbench.explorers import explore_recording
from workbench.explorers.background import NewestOnly, Superseded
from workbench.explorers.callbacks import ErrorStrip
from workbench.explorers.live_figure import LiveFigure
from workbench.explorers.playback import Player, cut_clip, wav_bytes
from workbench.plots.lanes import from_axis, on_axis
from workbench.rttm import write_rttm
from workbench.scoring import score
from workbench.session import Session

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ipywidgets")


def reference_of(uri, active):
    annotation = Annotation(uri=uri)
    for voice, row in enumerate(active):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        for track, (begin, end) in enumerate(edges.reshape(-1, 2)):
            annotation[Segment(begin / SAMPLE_RATE, end / SAMPLE_RATE), (voice, track)] = "ABC"[voice]
    return annotation


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A models folder, three recordings, and references for two of them."""
    import soundfile

    folder = tmp_path_factory.mktemp("material")
    references = {}
    (folder / "audio").mkdir()
    for seed, (uri, duration) in enumerate([("first", 14.0), ("second", 9.0), ("third", 5.0)]):
        waveform, active = make_conversation(duration, seed=seed + 3)
        soundfile.write(folder / "audio" / f"{uri}.wav", waveform, SAMPLE_RATE)
        references[uri] = reference_of(uri, active)
    del references["third"]
    make_tiny_hub(folder / "hub", onnx=False)
    return SimpleNamespace(hub=folder / "hub", audio=folder / "audio", references=references, folder=folder)


@pytest.fixture(scope="module")
def prepared_session(material):
    """Models run once for all tests of this file."""
    session = Session(material.hub, material.audio, material.references)
    for uri in session.audio:
        session.prepare(uri)
    return session


@pytest.fixture
def screen(prepared_session):
    from workbench.explorers import StartHere

    return StartHere(prepared_session)


def click(screen, lane, row):
    (trace,) = [trace for trace in screen.figure.data if trace.name == lane]
    screen._clicked(trace, SimpleNamespace(point_inds=[row]), None)


def trace_of(screen, name):
    (found,) = [trace for trace in screen.figure.data if trace.name == name]
    return found


def test_the_function_of_the_notebook_shows_the_first_recording(material):
    screen = explore_recording(material.hub, material.audio, material.references)
    assert screen.errors.value == ""
    assert screen.recording.value == "first"
    assert screen.recording.options[0][0] == "first · 0:14 · 3 speakers"
    assert isinstance(screen.figure, go.FigureWidget)
    assert screen.progress.layout.display == "none"


def test_the_headline_says_what_score_says(screen, material):
    counts = screen.diarization.counts
    rates = {
        kind: 100 * getattr(counts, kind) / counts.total for kind in ("missed", "false_alarm", "confusion")
    }
    text = screen.headline.value
    assert "0:14 · 3 speakers" in text
    assert f"DER {100 * counts.der:.1f} %" in text.replace("\N{NO-BREAK SPACE}", " ")
    for kind, rate in rates.items():
        assert f"{kind.replace('_', ' ')} {rate:.1f}" in text
    assert "no collar · overlap scored" in text

    hypothesis = Annotation()
    for track, turn in enumerate(screen.diarization.hypothesis.itertuples()):
        hypothesis[Segment(turn.start, turn.end), track] = turn.speaker
    assert score(material.references["first"], hypothesis).der == pytest.approx(counts.der)


def test_moving_the_threshold_redraws_the_hypothesis(screen):
    def drawn():
        bars = trace_of(screen, "hypothesis")
        return len(bars.y), bars.marker.color, screen.headline.value, screen.diarization.num_speakers

    waveform = trace_of(screen, "waveform").x
    screen.threshold.value = 0.2
    many = drawn()
    screen.threshold.value = 1.5
    one = drawn()
    assert many[:3] != one[:3]
    assert many[3] > one[3]
    assert f"speakers <b>{one[3]}</b> (reference 3)" in screen.speakers.value
    assert trace_of(screen, "waveform").x is waveform or list(trace_of(screen, "waveform").x) == list(
        waveform
    )
    assert screen.errors.value == ""


def test_reset_goes_back_to_the_values_of_the_models_folder(screen):
    before = screen.headline.value
    screen.threshold.value, screen.Fa.value, screen.Fb.value = 1.5, 0.3, 5
    screen.reset.click()
    folder = screen.prepared.params.clustering
    assert (screen.threshold.value, screen.Fa.value, screen.Fb.value) == (
        folder.ahc_threshold,
        folder.Fa,
        folder.Fb,
    )
    assert screen.headline.value == before


def test_choosing_another_recording_changes_every_lane(screen):
    screen.recording.value = "second"
    assert "0:09 · 2 speakers" in screen.headline.value
    assert from_axis(screen.figure.layout.xaxis.range[1]) == pytest.approx(9.0)
    assert "second" in trace_of(screen, "reference").hovertemplate
    assert screen.errors.value == ""


def test_a_recording_without_reference_is_shown_and_says_what_is_missing(screen):
    screen.recording.value = "third"
    assert "No reference for this recording" in screen.headline.value
    assert screen.diarization.counts is None
    assert len(trace_of(screen, "hypothesis").y) > 0
    screen.threshold.value = 1.3
    assert screen.errors.value == ""


def test_an_rttm_beside_the_recording_is_its_reference(material):
    beside = material.audio / "first.rttm"
    write_rttm(beside, material.references["first"])
    try:
        session = Session(material.hub, material.audio)
        assert len(session.reference("first").labels()) == 3
        assert session.reference("second") is None
    finally:
        beside.unlink()


def test_clicking_a_turn_selects_and_plays_exactly_that_turn(screen):
    click(screen, "reference", 1)
    turn = screen._screen.tables["reference"].iloc[1]
    seconds = turn["end"] - turn["start"]
    words = f"first · {turn['start']:.1f}–{turn['end']:.1f} s · reference {turn['speaker']} · {seconds:.1f} s"
    assert screen.player.text == words
    assert screen.player.start == pytest.approx(turn["start"])
    with wave.open(io.BytesIO(screen.player.wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLE_RATE)
        assert file.getnframes() / SAMPLE_RATE == pytest.approx(seconds, abs=0.01)
    mark = screen.figure.layout.shapes[0]
    assert mark.visible
    assert (from_axis(mark.x0), from_axis(mark.x1)) == pytest.approx((turn["start"], turn["end"]))


def test_clicking_an_error_plays_it_with_a_second_of_context(screen):
    table = screen._screen.tables["errors"]
    row = int(np.flatnonzero((table["start"] > 1.5) & (table["end"] < 12))[0])
    click(screen, "errors", row)
    start, end = table["start"].iloc[row], table["end"].iloc[row]
    assert screen.player.start == pytest.approx(start - 1)
    with wave.open(io.BytesIO(screen.player.wav)) as file:
        assert file.getnframes() / SAMPLE_RATE == pytest.approx(end - start + 2, abs=0.01)
    kind = {"missed": "missed", "false_alarm": "false alarm", "confusion": "confusion"}[
        table["kind"].iloc[row]
    ]
    assert f" · {kind} " in screen.player.text


def test_clicking_the_map_plays_the_chunk_of_that_point(screen):
    click(screen, "map", 0)
    assert "chunk 0, local speaker" in screen.player.text
    assert screen.player.start == 0.0


def test_the_play_button_plays_what_is_in_view_when_nothing_is_selected(screen):
    screen.figure.layout.xaxis.range = (float(on_axis(2.0)), float(on_axis(5.0)))
    screen.player.request += 1
    assert screen.player.text == "first · 2.0–5.0 s · what is in view · 3.0 s"
    assert screen.player.start == pytest.approx(2.0)
    assert screen.player.serial == 1


def test_zooming_draws_the_waveform_more_finely(screen):
    whole = len(trace_of(screen, "waveform").x) / 14.0
    screen.figure.layout.xaxis.range = (float(on_axis(4.0)), float(on_axis(5.0)))
    part = trace_of(screen, "waveform").x
    assert len(part) / 3.0 > 1.9 * whole  # points per second, over the view and as much on either side
    screen.figure.layout.xaxis.autorange = True  # what a double click does
    assert len(trace_of(screen, "waveform").x) / 14.0 == pytest.approx(whole)


def from_browser(figure, **xaxis) -> None:
    """What plotly's widget puts down after a gesture: a double click is `autorange`, the wheel a range."""
    data = {f"xaxis.{name}": value for name, value in xaxis.items()}
    if (stretch := data.pop("xaxis.range", None)) is not None:
        data = {f"xaxis.range[{end}]": float(on_axis(value)) for end, value in enumerate(stretch)}
    figure._js2py_relayout = {"relayout_data": data, "source_view_id": "view"}


def listen_in(figure) -> list:
    """What is sent to the browser about the time axis, other than what it said itself."""
    sent = []

    def hear(change) -> None:
        message = change["new"] or {}
        layout = message.get("relayout_data") or message.get("layout_data") or {}
        if message.get("source_view_id") is None:
            sent.extend((name, value) for name, value in layout.items() if name.startswith("xaxis."))

    figure.observe(hear, ["_py2js_relayout", "_py2js_update"])
    return sent


def test_what_is_drawn_follows_the_axis_that_the_browser_has(screen):
    """The wheel's last turn arrives after the double click that came first: plotly.js sends both."""
    sent, whole = listen_in(screen.figure), len(trace_of(screen, "waveform").x)

    def points() -> int:
        return len(trace_of(screen, "waveform").x)

    for _ in range(2):
        from_browser(screen.figure, range=(4.0, 5.0))
        assert screen._time.read() == pytest.approx((4.0, 5.0))
        part = points()
        assert part != whole
        from_browser(screen.figure, autorange=True)
        assert screen._time.read() == (0.0, 14.0)
        assert points() == whole
        from_browser(screen.figure, range=(4.0, 5.0))
        assert screen._time.read() == pytest.approx((4.0, 5.0))
        assert points() == part
    # the kernel may have that already, from a gesture that the browser has gone on from
    screen.figure.layout.xaxis._props["autorange"] = True
    from_browser(screen.figure, autorange=True)
    assert points() == whole
    assert sent == []  # an answer would arrive while the browser is elsewhere
    assert screen.errors.value == ""


def test_a_gesture_is_not_lost_with_what_the_browser_says_beside_it(screen):
    """ipywidgets sends everything that has piled up as one message: here the browser's own defaults."""
    figure = screen.figure
    whole = len(trace_of(screen, "waveform").x)
    from_browser(figure, range=(4.0, 5.0))
    deltas = [{"uid": trace.uid, "x": {"0": 1.0}, "y": {"0": 1.0}} for trace in figure.data]
    double_click = {"relayout_data": {"xaxis.autorange": True}, "source_view_id": "view"}
    figure.set_state(
        {
            "_js2py_traceDeltas": {"trace_deltas": deltas, "trace_edit_id": figure._last_trace_edit_id},
            "_js2py_relayout": double_click,
        }
    )
    assert screen._time.read() == (0.0, 14.0)
    assert len(trace_of(screen, "waveform").x) == whole


def test_sliders_of_vbx_rest_when_clustering_is_agglomerative(material, prepared_session):
    from workbench.clustering import AHCParams
    from workbench.config import PipelineParams

    params = PipelineParams(
        seg_duration=2, segmentation_step=0.25, batch_size=4, clustering=AHCParams(min_cluster_size=2)
    )
    screen = explore_recording(material.hub, material.audio / "third.wav", params=params)
    assert screen.errors.value == ""
    assert screen.Fa.disabled
    assert screen.Fb.disabled
    assert screen.threshold.value == 0.7


def test_what_goes_wrong_in_a_callback_is_written_on_the_screen(screen, monkeypatch):
    def fail(**_values):
        raise ZeroDivisionError("by <zero>")

    monkeypatch.setattr(screen.prepared, "diarize", fail)
    screen.threshold.value = 0.5
    assert "ZeroDivisionError" in screen.errors.value
    assert "by &lt;zero&gt;" in screen.errors.value
    assert screen.errors.layout.display == ""
    monkeypatch.undo()
    screen.threshold.value = 0.6
    assert screen.errors.value == ""


def test_a_recording_that_cannot_be_read_leaves_the_screen_usable(material, tmp_path):
    import shutil

    audio = tmp_path / "audio"
    shutil.copytree(material.audio, audio)
    screen = explore_recording(material.hub, audio, material.references)
    (audio / "second.wav").write_text("no audio at all")
    screen.recording.value = "second"
    assert "second.wav" in screen.errors.value
    screen.recording.value = "third"
    assert screen.errors.value == ""
    assert screen.diarization.num_speakers > 0


def test_a_folder_without_recordings_is_an_error_that_says_so(material, tmp_path):
    with pytest.raises(InputError, match="no recordings|holds no|no audio"):
        explore_recording(material.hub, tmp_path)


def test_unknown_clustering_parameters_are_refused(prepared_session):
    with pytest.raises(InputError, match="has no threshold; it has"):
        prepared_session.prepare("first").diarize(threshold=0.5)


def test_the_static_twin_shows_the_same_numbers(screen):
    screen.threshold.value = 0.4
    page = screen.to_html()
    assert screen.headline.value in page
    assert "threshold 0.4" in page
    assert "plotly.js v" not in page  # the report brings it once for all figures
    assert len(page) < 3_000_000
    whole = screen.to_html(include_plotlyjs=True, full_html=True)
    assert whole.startswith("<!doctype html>")
    assert "plotly.js v" in whole
    assert "https://cdn.plot.ly" not in whole.split("plotly.js v")[0]


def test_reports_show_the_twin_instead_of_widgets(prepared_session, monkeypatch):
    from workbench.explorers import StartHere

    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    bundle = StartHere(prepared_session)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "Plotly.newPlot" in bundle["text/html"]
    monkeypatch.delenv("WORKBENCH_STATIC")
    assert "application/vnd.jupyter.widget-view+json" in StartHere(prepared_session)._repr_mimebundle_()


def test_clips_are_cut_to_the_sample_and_capped(material):
    clip = cut_clip(material.audio / "first.wav", 1.0, 14.0, limit=2.0)
    with wave.open(io.BytesIO(clip)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    expected = make_conversation(14.0, seed=3)[0][16_000:48_000]
    assert len(samples) == 32_000
    np.testing.assert_allclose(samples / 32767, expected, atol=2e-4)


def test_loud_samples_are_clipped_and_never_wrap():
    with wave.open(io.BytesIO(wav_bytes(np.array([2.0, -2.0, 0.0])))) as file:
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [32767, -32767, 0]


def test_a_player_counts_its_clips():
    player = Player()
    player.play(b"RIFF", 1.5)
    assert (player.serial, player.start, player.wav) == (1, 1.5, b"RIFF")


def test_foreseen_errors_come_without_traceback():
    strip = ErrorStrip()
    strip.guard(lambda: (_ for _ in ()).throw(InputError("say what to do")))()
    assert "say what to do" in strip.value
    assert "Traceback" not in strip.value


def test_only_the_newest_of_two_jobs_is_shown():
    shown = []
    started, release = threading.Event(), threading.Event()

    def slow(check):
        started.set()
        release.wait(10)
        check()
        return "old"

    async def play():
        work = NewestOnly()
        work.submit(slow, shown.append, shown.append)
        assert await asyncio.to_thread(started.wait, 10)
        work.submit(lambda check: "new", shown.append, shown.append)
        release.set()
        for _ in range(500):
            if shown:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    asyncio.run(play())
    assert shown == ["new"]


def test_waiting_hands_over_the_result_in_the_waiting_thread():
    shown = []

    async def play():
        work = NewestOnly()
        work.submit(lambda check: threading.current_thread(), shown.append, shown.append)
        work.wait()
        assert len(shown) == 1
        await asyncio.sleep(0.02)

    asyncio.run(play())
    assert len(shown) == 1
    assert shown[0] is not threading.current_thread()


def test_a_job_that_fails_reports_its_error_and_a_superseded_one_nothing():
    failures = []
    work = NewestOnly()

    def fail(check):
        raise ValueError("no")

    def superseded(check):
        raise Superseded

    work.submit(fail, failures.append, failures.append)
    work.submit(superseded, failures.append, failures.append)
    assert [str(error) for error in failures] == ["no"]


def test_a_browser_that_comes_later_is_told_what_is_drawn_now():
    figure = LiveFigure(go.Figure(go.Scatter(x=[0.0], y=[0.0])), scrollZoom=False)
    with figure.batch_update():
        figure.data[0].x, figure.data[0].y = [1.0, 2.0], [3.0, 4.0]
        figure.layout.title.text = "drawn anew"
    state = figure.get_state()
    assert list(state["_widget_data"][0]["x"]) == [1.0, 2.0]
    assert state["_widget_layout"]["title"]["text"] == "drawn anew"
    assert figure.get_state("_widget_layout").keys() == {"_widget_layout"}
    assert state["_config"]["scrollZoom"] is False
