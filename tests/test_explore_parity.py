"""The parity screens, driven by their controls as a reader would, without a browser."""

from __future__ import annotations

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


def clicked(screen, name, *point):
    screen._clicked(trace(screen, name), SimpleNamespace(point_inds=list(point)), None)


def test_a_click_on_a_tick_shows_both_scores_says_the_margin_and_plays(screen):
    name = next(name for name in ("flips real", "flips near_tie") if len(screen._tables[name]))
    clicked(screen, name, 4)  # the middle of three points of the second tick
    flip = screen.flips.iloc[screen._tables[name]["row"].iloc[1]]
    assert screen.flip == screen._tables[name]["row"].iloc[1]
    scores = [np.asarray(trace(screen, f"scores {side}").y) for side in ("baseline", "candidate")]
    assert [each.argmax() for each in scores] == [flip["baseline"], flip["candidate"]]
    first, second = np.sort(np.log(scores[0]))[:-3:-1]
    assert first - second == pytest.approx(flip["margin"], abs=0.02)  # float16 is kept
    assert f"margin {flip['margin']:.3g}" in screen.player.text
    with wave.open(io.BytesIO(screen.player.wav)) as file:
        assert file.getnframes() / 16000 == pytest.approx(
            min(flip["time"] + 1, 12) - max(flip["time"] - 1, 0)
        )


def test_a_marked_region_counts_its_flips(screen):
    screen.drag.value = "select"
    points = SimpleNamespace(point_inds=[1], xs=[])
    selector = SimpleNamespace(xrange=["2000-01-01 00:00:02", "2000-01-01 00:00:05"])
    screen._brushed(None, points, selector)
    inside = screen.flips["time"].between(2, 5)
    assert screen.marked == (2.0, 5.0)
    assert screen.region_counts()["flips"] == inside.sum() > 0
    assert f"{inside.sum()} flip" in screen.counts.value
    screen.drag.value = "pan"
    assert screen.marked is None
    assert "In view" in screen.counts.value


def test_another_runtime_brings_its_own_numbers(screen):
    before = screen.verdict.value
    screen.candidate.value = "far"
    assert screen.verdict.value != before
    assert screen.result.num_flips == sum(screen.result.damage.table["flips"])
    assert len(screen.flips) == screen.result.recordings["one"].num_flips


def test_a_zoom_draws_what_is_in_view_and_a_click_there_means_that_flip(screen):
    screen.figure.layout.xaxis.range = (float(on_axis(4.0)), float(on_axis(6.0)))
    table = screen._tables["flips real"]
    assert table["time"].between(3.5, 6.5).all()
    clicked(screen, "flips real", 0)
    assert screen.flip == table["row"].iloc[0]


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
