"""The parity screens, driven by their controls as a reader would, without a browser."""

from __future__ import annotations

import asyncio
import io
import wave
from types import SimpleNamespace

import numpy as np
import pytest
from parity_fakes import Faulty, Network, speech

from workbench.agreement import ParityParams
from workbench.agreement.layers import layer_ladder
from workbench.errors import InputError
from workbench.explorers import explore_parity, explore_port
from workbench.explorers.parity import parity_page
from workbench.plots.lanes import on_axis

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ipywidgets")
AUDIO = {"one": speech(0), "two": speech(1)}


def noisy(amount: float) -> Faulty:
    wave_ = np.sin(np.arange(7, dtype=np.float32))
    return Faulty(after=lambda scores: scores + np.float32(amount) * wave_ * np.tanh(scores))


@pytest.fixture(scope="module")
def compared():
    runtimes = {"good": Network(), "off": noisy(0.4), "far": noisy(1.5)}
    return explore_parity(runtimes, AUDIO, params=ParityParams(checks=False))


@pytest.fixture
def screen(compared):
    compared.candidate.value = "off"
    compared.drag.value = "pan"
    compared.recording.value = "one"
    compared._opened()
    yield compared
    assert compared.errors.value == ""


def trace(screen, name):
    (found,) = [each for each in screen.figure.data if each.name == name]
    return found


def touched(screen, **touch):
    """What the browser sends after the mouse did something on the canvas."""
    serial = screen.canvas.touch.get("serial", 0) + 1
    screen.canvas.touch = {**touch, "serial": serial, "scene": screen.canvas.look["scene"]}


def wished(screen, start, end):
    """What the browser sends while its reader zooms or drags."""
    serial = screen.canvas.wish.get("serial", 0) + 1
    scene = screen.canvas.look["scene"]
    screen.canvas.wish = {"start": start, "end": end, "width": 962, "serial": serial, "scene": scene}


def ticks(screen, name, kind):
    return np.frombuffer(screen.canvas.lanes["ticks"][name], dtype=kind)


def test_a_click_on_a_tick_shows_both_scores_says_the_margin_and_plays(screen):
    row = int(ticks(screen, "row", "<i4")[1])
    touched(screen, kind="flip", row=row)
    flip = screen.flips.iloc[row]
    assert screen.flip == row
    assert screen.canvas.detail["flip"] == flip["time"] == ticks(screen, "time", "<f8")[1]
    packed = screen.canvas.detail["scores"]
    scores = [np.frombuffer(packed[side]) for side in ("baseline", "candidate")]
    assert [each.argmax() for each in scores] == [flip["baseline"], flip["candidate"]]
    first, second = np.sort(np.log(scores[0]))[:-3:-1]
    assert first - second == pytest.approx(flip["margin"], abs=0.02)  # float16 is kept
    assert f"margin {flip['margin']:.3g}" in screen.player.text
    assert screen.canvas.detail["sound"]["start"] == max(flip["time"] - 1, 0)
    with wave.open(io.BytesIO(screen.player.wav)) as file:
        assert file.getnframes() / 16000 == pytest.approx(
            min(flip["time"] + 1, 12) - max(flip["time"] - 1, 0)
        )


def test_a_marked_region_counts_its_flips(screen):
    screen.drag.value = "select"
    assert screen.canvas.mode == "select"
    touched(screen, kind="mark", start=2.0, end=5.0)
    inside = screen.flips["time"].between(2, 5)
    assert screen.marked == tuple(screen.canvas.detail["marked"]) == (2.0, 5.0)
    assert screen.region_counts()["flips"] == inside.sum() > 0
    assert f"{inside.sum()} flip" in screen.counts.value
    screen.drag.value = "pan"
    assert screen.marked is screen.canvas.detail["marked"] is None
    assert "In view" in screen.counts.value


def test_a_click_on_the_output_plays_where_the_outputs_differ(screen):
    regions = screen.canvas.lanes["regions"]
    start, end = (float(np.frombuffer(regions[side])[0]) for side in ("start", "end"))
    touched(screen, kind="region", start=start, end=end)
    assert screen.marked == (start, end)
    assert "the outputs differ" in screen.player.text
    assert f"{start:.2f}–" in screen.player.text


def test_what_was_clicked_on_another_recording_means_nothing_here(screen):
    old = screen.canvas.look["scene"]
    screen.recording.value = "two"
    screen.canvas.touch = {"kind": "flip", "row": 3, "serial": -1, "scene": old}
    screen.canvas.wish = {"start": 1.0, "end": 2.0, "width": 962, "serial": -1, "scene": old}
    assert screen.flip is None
    assert screen.canvas.lanes["view"] == [0.0, 12.0]


def test_moving_about_sends_numbers_and_leaves_the_figure_as_it_is(screen, monkeypatch):
    sent = []
    for name in ("restyle", "relayout", "update"):
        monkeypatch.setattr(screen.figure, f"_send_{name}_msg", lambda *args, **_: sent.append(args))
    wished(screen, 3.0, 5.0)
    touched(screen, kind="flip", row=int(np.searchsorted(screen.flips["time"], 3.0)))
    touched(screen, kind="mark", start=3.5, end=4.0)
    assert sent == []
    assert screen.canvas.lanes["view"] == [3.0, 5.0]
    assert not screen.canvas.lanes["moves"]  # the browser is there already


def test_every_wish_is_answered_even_if_nothing_changed(screen):
    heard = []
    screen.canvas.observe(lambda change: heard.append(change["new"]["view"]), names="lanes")
    wished(screen, 3.0, 5.0)
    wished(screen, 3.0, 5.0)
    assert heard == [[3.0, 5.0]] * 2  # the browser waits for the answer before it asks again


def test_the_ticks_that_are_sent_stand_for_every_flip_at_every_zoom(screen):
    for start, end in ((0.0, 12.0), (4.0, 6.0), (7.01, 7.09)):
        wished(screen, start, end)
        low, high = start - 0.25 * (end - start), end + 0.25 * (end - start)
        drawn = screen.flips["time"].between(low, high)
        assert ticks(screen, "flips", "<i4").sum() >= drawn.sum()
        times, near = ticks(screen, "time", "<f8"), ticks(screen, "near", "u1")
        for flip in screen.flips[drawn].itertuples():
            same = times[near == flip.near_tie]
            assert np.abs(same - flip.time).min() <= 4.8 / 962 * (end - start) + 0.005


def test_a_flip_out_of_view_is_brought_into_it(screen):
    wished(screen, 0.0, 1.0)
    row = int(np.flatnonzero(screen.flips["time"] > 8)[0])
    screen.select(row)
    low, high = screen.canvas.lanes["view"]
    assert low <= screen.flips["time"].iloc[row] <= high
    assert screen.canvas.lanes["moves"]


def test_long_sound_comes_after_its_picture(screen):
    async def gesture():
        before = screen.player.serial
        touched(screen, kind="mark", start=1.0, end=11.0)
        seen = screen.canvas.detail["sound"]["duration"], screen.player.serial - before
        await asyncio.sleep(0.3)
        return (*seen, screen.player.serial - before)

    assert asyncio.run(gesture()) == (10.0, 0, 1)


def test_another_runtime_brings_its_own_numbers(screen):
    before = screen.verdict.value
    screen.candidate.value = "far"
    assert screen.verdict.value != before
    assert screen.result.num_flips == sum(screen.result.damage.table["flips"])
    assert len(screen.flips) == screen.result.recordings["one"].num_flips


def test_a_script_can_move_the_view_by_plotlys_axis(screen):
    screen.figure.layout.xaxis.range = (float(on_axis(4.0)), float(on_axis(6.0)))
    assert screen.canvas.lanes["view"] == [4.0, 6.0]
    assert ((times := ticks(screen, "time", "<f8")) > 3.4).all()
    assert (times < 6.6).all()
    assert "In view 4.0–6.0 s" in screen.counts.value


def test_scores_that_are_not_numbers_are_called_nan(compared):
    def broken(scores):
        scores = scores.copy()
        scores[:, 30:33, 2] = np.nan
        return scores

    screen = explore_parity(
        {"good": Network(), "broken": Faulty(after=broken)},
        AUDIO,
        params=ParityParams(checks=False),
        ladder=False,
    )
    row = int(np.flatnonzero(np.isnan(screen.flips["candidate_margin"]))[0])
    screen.select(row)
    assert "→ NaN · " in screen.player.text
    time = screen.flips["time"].iloc[row]
    wished(screen, time - 0.1, time + 0.1)
    place = np.abs(ticks(screen, "time", "<f8") - time).argmin()
    assert ticks(screen, "to", "<i4")[place] == -1
    page = screen.to_html()
    assert "NaN" in page
    assert screen.errors.value == ""


def test_neighbouring_flips_are_one_step_away(screen):
    screen.select(3)
    screen._step(+1)
    assert screen.flip == 4
    screen._step(-1)
    screen._step(-1)
    assert screen.flip == 2
    screen.only_real.value = True
    screen._step(+1)
    assert not screen.flips["near_tie"].iloc[screen.flip]
    screen.only_real.value = False


def test_a_cell_of_the_matrix_leads_to_its_flip_with_the_largest_margin(screen):
    row = screen.flips.iloc[0]
    place = (int(row["baseline"]), int(row["candidate"]))
    screen._cell(None, SimpleNamespace(point_inds=[place]), None)
    same = screen.flips[(screen.flips["baseline"] == place[0]) & (screen.flips["candidate"] == place[1])]
    assert screen.flips["margin"].iloc[screen.flip] == same["margin"].max()


def test_the_layers_mark_the_first_stage_over_the_tolerance(screen):
    words = " ".join(str(note.text) for note in screen.figure.layout.annotations)
    assert "log_probs</b> is the first over the tolerance" in words


def test_the_same_runtime_twice_is_refused_in_words(compared):
    compared.candidate.value = "good"
    assert "choose two different runtimes" in compared.errors.value
    compared.candidate.value = "off"


def test_a_runtime_that_breaks_is_reported_on_the_screen():
    def broken(scores):
        raise ZeroDivisionError("the candidate fell over")

    screen = explore_parity(
        {"good": Network(), "broken": Faulty(after=broken)}, AUDIO, params=ParityParams(checks=False)
    )
    assert "the candidate fell over" in screen.errors.value
    assert screen.progress.layout.display == "none"


def test_one_runtime_is_not_enough():
    with pytest.raises(InputError, match="at least two"):
        explore_parity({"good": Network()}, AUDIO)


def test_the_page_without_a_kernel_says_the_same(screen):
    ladder = layer_ladder(Network(), noisy(0.4), AUDIO)
    page = parity_page(screen.result, AUDIO, ladder)
    assert page.startswith("<!doctype html>")
    assert screen.result.verdict.split(".")[0] in page
    assert "http" not in page.split("<script", 1)[0]
    assert "Selected flip" in screen.to_html()


@pytest.fixture
def port(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"log_probs": rng.normal(size=(3, 50, 7)).astype(np.float32), "count": rng.integers(0, 3, 80)}
    wrong = arrays | {"log_probs": arrays["log_probs"].copy()}
    wrong["log_probs"][1, 20, 3] += 0.5
    close = arrays | {"log_probs": arrays["log_probs"] + np.float32(1e-6)}
    geometry = (
        '{"sample_rate": 16000, "chunk_duration": 1.0, "chunk_step": 0.5, "frame_start": 0.0, '
        '"frame_duration": 0.02, "frame_step": 0.02, "powerset": [[], [0], [1], [2], [0, 1], [0, 2], [1, 2]]}'
    )
    for name, content in (("base", arrays), ("close", close), ("wrong", wrong)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "talk.npz", **content)
        (tmp_path / name / "geometry.json").write_text(geometry)
    sides = {name: tmp_path / name for name in ("base", "close", "wrong")}
    return explore_port(sides, {"talk": speech(0, 3.0)})


def test_the_first_step_that_differs_is_opened_with_both_values_and_its_time(port):
    assert port.selected == ("wrong", "scores")
    assert "0.900–0.920 s" in port.player.text  # half a second, and twenty frames of 20 ms
    baseline, candidate = (trace(port, f"values {side}") for side in ("baseline", "candidate"))
    gap = np.asarray(candidate.y) - np.asarray(baseline.y)
    assert np.flatnonzero(np.abs(gap) > 1e-3).tolist() == [20]
    marks = dict(
        zip(port._scene.cells["side"] + port._scene.cells["step"], trace(port, "steps").text, strict=True)
    )
    assert marks["closescores"] == "<b>≈</b>"
    assert marks["closecount"] == "<b>=</b>"


def test_a_click_on_a_square_plays_the_time_of_its_element(port):
    cells = port._scene.cells
    number = int(np.flatnonzero((cells["side"] == "wrong") & (cells["step"] == "scores"))[0])
    port._clicked(None, SimpleNamespace(point_inds=[number]), None)
    with wave.open(io.BytesIO(port.player.wav)) as file:
        assert file.getnframes() / 16000 == pytest.approx(1.02)
    assert "swap=" in port.to_html()


def test_one_folder_is_not_a_port_check(tmp_path):
    with pytest.raises(InputError, match=r"no such folder|at least two"):
        explore_port([tmp_path / "absent"])
