"""The embedding screen, driven by its controls as a reader would, without a browser."""

from __future__ import annotations

import asyncio
import io
import wave
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from pyannote.core import Annotation, Segment
from scipy.special import ndtri

from workbench.clustering.plda_estimation import PLDAEstimation, estimate_plda
from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError
from workbench.explorers import explore_embeddings
from workbench.explorers.clips import PAUSE
from workbench.explorers.embeddings_words import cosine_words
from workbench.extraction import Item
from workbench.plots.embeddings import NO_LOCAL, NO_TRIALS
from workbench.types import Features, SegmentFeatures, SlidingWindow
from workbench.verification import Trials, evaluate, rates_at, score_trials
from workbench.verification.effects import duration_table, plda_dimension_table, shortened_items

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ipywidgets")

SAMPLE_RATE = 16_000
SIDES = tuple(f"{uri}.wav#t={start},{start + 2}" for uri in ("one", "two") for start in range(0, 12, 2))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    import soundfile

    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for uri in ("one", "two"):
        soundfile.write(folder / f"{uri}.wav", rng.normal(0, 0.1, 14 * SAMPLE_RATE), SAMPLE_RATE)
    return folder


def make_trials():
    """All pairs of twelve utterances; three voices take turns."""
    first, second = np.triu_indices(len(SIDES), k=1)
    return Trials(
        enroll=tuple(SIDES[row] for row in first),
        test=tuple(SIDES[row] for row in second),
        target=first % 3 == second % 3,
    )


def make_embeddings(noise=0.0, seed=1):
    rng = np.random.default_rng(0)
    voices = rng.standard_normal((3, 8))
    rows = voices[np.arange(len(SIDES)) % 3] + 0.7 * rng.standard_normal((len(SIDES), 8))
    rows = rows + noise * np.random.default_rng(seed).standard_normal(rows.shape)
    return EmbeddingSet(names=SIDES, embeddings=rows.astype(np.float32))


def make_features(uri="one"):
    rng = np.random.default_rng(0)
    segmentations = np.zeros((11, 100, 2), dtype=np.float32)
    segmentations[:, 10:50, 0] = 1
    segmentations[:, 55:90, 1] = 1
    voices = np.eye(8)[:2]
    embeddings = voices[None] + 0.1 * rng.standard_normal((11, 2, 8))
    embeddings[6, 1] = 0.3 * voices[0] + 0.7 * voices[1]
    return Features(
        uri=uri,
        segmentations=segmentations,
        embeddings=embeddings.astype(np.float32),
        chunks=SlidingWindow(0.0, 4.0, 1.0),
        frames=SlidingWindow(0.0, 0.04, 0.04),
    )


def reference():
    annotation = Annotation(uri="one")
    for number in range(6):
        annotation[Segment(2 * number, 2 * number + 1)] = "ann"
    return {"one": annotation}


@pytest.fixture
def screen(audio):
    models = {"torch": make_embeddings(), "int8": make_embeddings(noise=0.4)}
    return explore_embeddings(
        make_trials(),
        models,
        [make_features(), make_features("two")],
        root=audio,
        audio=audio,
        references=reference(),
    )


def trace_of(screen, name):
    (found,) = [trace for trace in screen.figure.data if trace.name == name]
    return found


def click(callback, screen, trace, *point):
    callback(trace_of(screen, trace), SimpleNamespace(point_inds=list(point)), None)


def clip_of(screen):
    """Duration (s) of what plays."""
    with wave.open(io.BytesIO(screen.player.wav)) as file:
        return file.getnframes() / SAMPLE_RATE


def plain(html):
    return html.replace("\N{NO-BREAK SPACE}", " ").replace("<b>", "").replace("</b>", "")


# -- trials ------------------------------------------------------------------------------------


def test_the_screen_opens_at_equal_errors_with_the_numbers_of_verification(screen):
    trials = make_trials()
    numbers = evaluate(score_trials(trials, make_embeddings()), trials.target)
    assert isinstance(screen.figure, go.FigureWidget)
    assert f"EER {100 * numbers.eer:.1f} %" in plain(screen.headline.value)
    assert f"ROC-AUC {numbers.roc_auc:.4f}" in screen.headline.value
    assert "66 trials: 18 same speaker, 48 different" in screen.headline.value
    assert numbers.threshold_eer < screen.grip.value
    assert screen.grip.shown
    assert screen.errors.value == ""


def test_dragging_the_threshold_moves_rates_words_and_the_point(screen):
    trials = make_trials()
    scores = score_trials(trials, make_embeddings())
    rates = evaluate(scores, trials.target).rates
    screen.grip.value = 0.8
    miss, false_alarm = rates_at(rates, 0.8)
    missed = int((scores[trials.target] < 0.8).sum())
    words = plain(screen.rates.value)
    assert f"Accepting from 0.8 on: {missed} of 18 same-speaker trials missed ({100 * miss:.1f} %)" in words
    assert f"{round(48 * false_alarm)} of 48 others accepted ({100 * false_alarm:.1f} %)" in words
    assert screen.threshold.value == 0.8
    across, beside, point, other = screen.figure.layout.shapes[:4]
    assert (across.x0, across.x1, beside.x0) == (0.8, 0.8, 0.8)
    low = ndtri(0.5 / 48)  # less than one trial of the larger kind
    assert point.xanchor == pytest.approx(max(ndtri(false_alarm), low))
    assert point.yanchor == pytest.approx(max(ndtri(miss), low))
    assert other.visible


def test_the_threshold_stays_among_the_scores(screen):
    screen.threshold.value = 99.0
    assert screen.grip.value == screen.grip.high
    assert "18 of 18 same-speaker trials missed" in plain(screen.rates.value)


def test_buttons_put_the_threshold_where_they_say(screen):
    start = screen.grip.value
    screen.to_calibrated.click()
    assert "50 % at even odds" in plain(screen.rates.value)
    screen.to_cost.click()
    at_cost = screen.grip.value
    screen.grip.reset += 1
    assert screen.grip.value == pytest.approx(start) != at_cost
    assert screen.errors.value == ""


def test_two_models_stand_side_by_side_with_the_flips_at_this_threshold(screen):
    assert "int8 against torch" in plain(screen.verdict.value)
    scores = [score_trials(make_trials(), make_embeddings(noise)) for noise in (0.0, 0.4)]
    for threshold in (0.3, 0.8):
        screen.threshold.value = threshold
        flips = int(((scores[0] >= threshold) != (scores[1] >= threshold)).sum())
        assert f"{flips} of 66 decisions differ" in plain(screen.verdict.value)
        assert len(trace_of(screen, "flips").x) == flips
    screen.other.value = ""
    assert screen.verdict.value == ""
    assert len(trace_of(screen, "trials").x) == 0


def test_a_click_on_a_bar_plays_its_trials_in_turn(screen):
    bars = trace_of(screen, "different speakers")
    fullest = int(np.argmax(bars.customdata))
    click(screen._clicked_bar, screen, "different speakers", fullest)
    first = screen.player.text
    assert "different speakers" in first
    assert f"1 of {bars.customdata[fullest]} in this bar" in first
    assert clip_of(screen) == pytest.approx(2 * (2 + PAUSE), abs=0.01)
    assert len(trace_of(screen, "chosen trial").x) == 1
    click(screen._clicked_bar, screen, "different speakers", fullest)
    assert "2 of" in screen.player.text
    assert screen.player.text != first
    assert screen.errors.value == ""


def test_a_click_on_a_difference_plays_that_trial(screen):
    click(screen._clicked_trial, screen, "trials", 5)
    trials = make_trials()
    assert f"{trials.enroll[5]} against {trials.test[5]}" in screen.player.text
    assert " and " in screen.player.text  # the scores of both models


def test_a_click_on_the_det_curve_puts_the_threshold_there(screen):
    curve = trace_of(screen, "det")
    click(screen._clicked_curve, screen, "det", 2)
    assert screen.grip.value == pytest.approx(float(curve.customdata[2][2]))


def test_plda_scores_take_the_place_of_cosines(audio):
    rows = make_embeddings().embeddings
    plda = estimate_plda(rows, np.arange(12) % 3, PLDAEstimation(num_lda=2, shrinkage=0.3))
    screen = explore_embeddings(make_trials(), {"torch": make_embeddings()}, root=audio, plda=plda)
    cosine = screen.grip.high
    screen.scoring.value = "plda"
    assert screen.figure.layout.xaxis.title.text == "score: PLDA log-likelihood ratio (nats)"
    assert screen.grip.high > cosine
    assert screen.errors.value == ""


# -- local speakers ----------------------------------------------------------------------------


def test_a_click_on_an_outlier_plays_what_it_says_in_its_chunk(screen):
    assert trace_of(screen, "outliers").customdata[0] == screen._local().outliers[0]
    click(screen._clicked_outlier, screen, "outliers", 0)
    assert "one · 8.2–9.6 s · chunk 6, local speaker 1" in screen.player.text
    assert clip_of(screen) == pytest.approx(35 * 0.04 + PAUSE, abs=0.02)
    assert screen.player.start == pytest.approx(8.2)
    assert len(trace_of(screen, "chosen").x) == 1
    assert [shape.visible for shape in screen.figure.layout.shapes[4:6]] == [True, True]
    assert screen.errors.value == ""


def test_a_click_on_a_cell_plays_both_local_speakers(screen):
    click(screen._clicked_cell, screen, "similarity", (2, 15))
    assert "cosine" in screen.player.text
    assert "then" in screen.player.text
    assert clip_of(screen) == pytest.approx(75 * 0.04 + 2 * PAUSE, abs=0.02)


def test_the_outliers_can_be_gone_through_with_buttons(screen):
    screen.following.click()
    first = screen.chosen
    screen.following.click()
    second = screen.chosen
    screen.previous.click()
    assert screen.chosen == first != second


def test_the_play_button_plays_the_selection_again(screen):
    screen.player.request += 1
    assert "chunk 6" in screen.player.text  # the worst, as nothing is selected
    serial = screen.player.serial
    screen.player.request += 1
    assert screen.player.serial == serial + 1


def test_another_recording_begins_anew_and_the_map_changes_its_colours(screen):
    screen.following.click()
    screen.recording.value = "two"
    assert screen.chosen is None
    assert any("two" in note.text for note in screen.figure.layout.annotations)
    screen.recording.value = "one"
    cluster = trace_of(screen, "map").marker.color
    screen.color_by.value = "reference"
    assert len(cluster) == len(trace_of(screen, "map").marker.color)
    assert any("colour: reference" in note.text for note in screen.figure.layout.annotations)


def test_a_local_speaker_without_audio_says_what_to_give(audio):
    screen = explore_embeddings(features=make_features())
    screen.following.click()
    assert "give audio=" in screen.errors.value
    assert "chunk 6, local speaker 1" in screen.player.text
    assert screen.player.text.endswith("no audio")


def test_a_threshold_before_there_are_scores_says_to_wait():
    screen = explore_embeddings(features=make_features())
    for button in (screen.to_eer, screen.to_calibrated, screen.to_cost):
        button.click()
        assert "wait until the models have run" in screen.errors.value


# -- empty, wrong, slow ------------------------------------------------------------------------


def test_each_half_works_without_the_other(audio):
    trials_only = explore_embeddings(make_trials(), {"torch": make_embeddings()}, root=audio)
    assert NO_LOCAL in [note.text for note in trials_only.figure.layout.annotations]
    local_only = explore_embeddings(features=make_features())
    assert NO_TRIALS in [note.text for note in local_only.figure.layout.annotations]
    assert not local_only.grip.shown
    assert local_only.model.disabled
    local_only.to_html()


def test_what_does_not_fit_together_is_refused(audio):
    with pytest.raises(InputError, match="give models="):
        explore_embeddings(make_trials())
    with pytest.raises(InputError, match="give trials="):
        explore_embeddings(models={"torch": make_embeddings()})
    with pytest.raises(InputError, match="no features of 'three'"):
        explore_embeddings(features=make_features(), recording="three")
    segments = SegmentFeatures(uri="x", embeddings=np.ones((2, 3)), segments=np.array([[0.0, 1], [1, 2]]))
    with pytest.raises(InputError, match="those of chunks"):
        explore_embeddings(features=segments)


def test_a_model_that_fails_says_so_under_the_controls(audio):
    screen = explore_embeddings(make_trials(), {"torch": "torch:/nowhere"}, root=audio)
    assert "nowhere" in screen.errors.value
    assert screen.progress.layout.display == "none"


def test_a_missing_side_leaves_out_its_trials_and_says_how_many(audio):
    known = make_embeddings()
    fewer = EmbeddingSet(names=known.names[:-1], embeddings=known.embeddings[:-1])
    screen = explore_embeddings(make_trials(), {"torch": fewer}, root=audio)
    assert "55 trials" in screen.headline.value
    assert "11 left out" in screen.headline.value


def test_models_run_beside_the_kernel_and_report_how_far_they_are(audio):
    async def show():
        screen = explore_embeddings(make_trials(), {"torch": make_embeddings()}, root=audio)
        waiting = screen.progress.layout.display, screen.headline.value
        return waiting, screen.wait()

    waiting, screen = asyncio.run(show())
    assert waiting == ("", "")
    assert screen.progress.layout.display == "none"
    assert "EER" in screen.headline.value
    assert "12 of 12 utterances" in screen.stage.value


def test_the_page_without_a_kernel_has_the_same_words_and_the_sound(screen, monkeypatch):
    screen.following.click()
    page = screen.to_html()
    for words in (screen.headline.value, screen.rates.value, screen.verdict.value):
        assert words in page
    assert screen.player.text.replace("'", "&#x27;") in page
    assert "data:audio/wav;base64," in page
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    static = explore_embeddings(features=make_features())
    assert "wb-screen" in static._repr_mimebundle_()["text/html"]


def test_a_cosine_shows_as_many_nines_as_it_has():
    assert [cosine_words(value) for value in (0.0312, 4e-8, 0.0)] == ["0.9688", "0.99999996", "1"]


# -- tables ------------------------------------------------------------------------------------


class FirstSamples:
    """Embeds a waveform as its first eight samples."""

    kind = "embedding"
    geometry = None
    min_num_samples = 400

    def embed(self, waveforms, masks=None):
        return waveforms[:, :8]


def test_shortened_utterances_keep_their_middle(audio):
    item = Item(name="a", path=audio / "one.wav", start=2.0, end=6.0)
    (cut,) = shortened_items([item], 1.0)
    assert (cut.start, cut.end) == (3.5, 4.5)
    (whole,) = shortened_items([item], 9.0)
    assert (whole.start, whole.end) == (2.0, 6.0)
    with pytest.raises(InputError, match="start and end"):
        shortened_items([Item(name="a", path=audio / "one.wav")], 1.0)


def test_the_duration_table_has_a_row_per_model_and_duration(audio):
    trials = make_trials()
    items = [
        Item(name=side, path=audio / f"{side[:3]}.wav", start=2.0 * (row % 6), end=2.0 * (row % 6) + 2)
        for row, side in enumerate(SIDES)
    ]
    table = duration_table(trials, items, {"fake": FirstSamples()}, [0.5, 1.0])
    assert table["duration"].tolist() == [0.5, 1.0]
    assert (table[["targets", "nontargets"]] == [18, 48]).all(axis=None)
    assert table["shortest"].tolist() == pytest.approx([0.5, 1.0])
    assert table["eer"].between(0, 1).all()


def test_the_dimension_table_sets_the_cosine_beside_the_plda():
    trials, found = make_trials(), make_embeddings()
    plda = estimate_plda(found.embeddings, np.arange(12) % 3, PLDAEstimation(num_lda=2, shrinkage=0.3))
    table = plda_dimension_table(trials, found, plda, [2, 1, 2])
    assert table["lda_dim"].tolist() == [0, 1, 2]
    expected = evaluate(score_trials(trials, found), trials.target)
    assert table.at[0, "eer"] == pytest.approx(expected.eer)
