"""Direction-of-effect cards, warnings and thresholds in all their spaces."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from pyannote.core import Annotation, Segment
from sweep_tables import results_table, scattered_table

from workbench.errors import InputError
from workbench.tuning.effects import effect_card, effect_cards
from workbench.tuning.thresholds import SPACES, convert_threshold, describe_parameter, describe_threshold
from workbench.tuning.warnings import find_warnings, phantom_speakers, recordings_without_effect

THRESHOLDS = (0.1, 0.5, 0.7, 0.85, 0.95)


def curves(*speakers: list[int], name: str = "ahc_threshold", values: tuple = THRESHOLDS) -> pd.DataFrame:
    """Number of speakers of some recordings over one parameter; DER 10 % per speaker too many or too few."""
    counts = np.array(speakers)
    errors = 10.0 * np.abs(counts - 4)
    return results_table(
        {name: values}, errors, np.full(len(counts), 100.0), num_speakers=counts, partition=counts
    )


@pytest.mark.parametrize(
    ("speakers", "direction"),
    [
        ([9, 6, 4, 2, 1], "shrinks"),
        ([1, 1, 2, 2, 5], "grows"),
        ([3, 3, 3, 3, 3], "none"),
        ([2, 4, 6, 4, 2], "mixed"),  # as pyannote-audio#1746 reports: 0.95 -> 2, 0.7 -> 6, 0.1 -> 2
        ([9, 6, 7, 2, 1], "shrinks"),  # one step of 9 the other way: still a direction
    ],
)
def test_the_direction_is_that_of_the_counts(speakers, direction):
    card = effect_card(curves(speakers), "ahc_threshold")
    assert card.speakers == direction
    assert card.curve["num_speakers"].tolist() == speakers


def test_non_monotone_stretches_are_listed_the_largest_first():
    card = effect_card(curves([9, 6, 7, 2, 1], [9, 4, 4, 6, 7], [5, 4, 3, 2, 1]), "ahc_threshold")
    assert card.inversions.to_numpy().tolist() == [["r01", 0.7, 0.95, 4, 7], ["r00", 0.5, 0.7, 6, 7]]
    assert "Not monotone on 2 of 3 recordings, most on r01: 4 to 7 speakers" in card.words


def test_a_count_that_goes_up_and_down_is_flagged_once():
    card = effect_card(curves([2, 4, 6, 4, 2]), "ahc_threshold")
    assert card.inversions.to_numpy().tolist() == [["r00", 0.7, 0.95, 6, 2]]
    assert "no one direction" in card.words


def test_measurement_and_folklore_are_told_apart():
    fa = (0.03, 0.07, 0.12)
    growing = effect_card(curves([2, 4, 5], [1, 3, 5], name="Fa", values=fa), "Fa")
    assert growing.against_folklore
    assert "The reverse is often said." in growing.words
    fb = effect_card(curves([5, 4, 2], name="Fb", values=fa), "Fb")
    assert not fb.against_folklore
    onset = effect_card(curves([5, 4, 2], name="onset", values=fa), "onset")
    assert onset.folklore is None


def test_recordings_that_go_the_other_way_or_stay_are_counted():
    card = effect_card(curves([9, 8, 6, 4, 2], [8, 6, 4, 2, 1], [3, 3, 3, 3, 4], [2] * 5), "ahc_threshold")
    assert (card.num_growing, card.num_shrinking, card.num_unaffected) == (1, 2, 1)
    assert "On 1 of 4 recordings it is the other way round." in card.words
    assert "On 1 of 4 recordings the number never changes." in card.words


def test_the_others_stand_at_the_default_or_are_averaged():
    counts = np.array([[2, 8, 3, 9, 4, 10]])  # Fa x Fb
    table = results_table(
        {"Fa": (1, 2, 3), "Fb": (0.5, 0.8)}, 10.0 * counts, np.array([100.0]), num_speakers=counts
    )
    at_default = effect_card(table, "Fa", {"Fa": 2, "Fb": 0.8})
    assert at_default.others == "default"
    assert at_default.curve["num_speakers"].tolist() == [8, 9, 10]
    assert at_default.curve["der"].tolist() == pytest.approx([0.8, 0.9, 1.0])
    averaged = effect_card(table, "Fa")
    assert averaged.others == "average"
    assert averaged.curve["num_speakers"].tolist() == [5, 6, 7]
    assert averaged.curve["num_speakers_error"].tolist() == [3, 3, 3]  # the reference has 4
    assert effect_card(table, "Fa", {"Fb": 0.7}).others == "average"  # no such line
    with pytest.raises(InputError, match="no line along Fa"):
        effect_card(table, "Fa", {"Fb": 0.7}, others="default")
    assert [card.parameter for card in effect_cards(table)] == ["Fa", "Fb"]


def test_names_have_no_direction():
    card = effect_card(curves([2, 5], name="linkage", values=("ward", "average")), "linkage")
    assert card.speakers == "not ordered"
    assert "ward finds 2 speakers, average finds 5 speakers" in card.words


def test_local_minima_of_the_der_are_found_plateaus_by_their_middle():
    card = effect_card(curves([4, 6, 5, 5, 5], [4, 6, 4, 4, 4]), "ahc_threshold")
    assert card.der_minima == (0.1, 0.85)
    assert card.best_value == 0.1


def test_a_card_needs_a_parameter_that_was_varied():
    table = curves([2, 3, 4, 5, 6])
    with pytest.raises(InputError, match="was not swept"):
        effect_card(table, "Fa")
    with pytest.raises(InputError, match="single value"):
        effect_card(curves([2], values=(0.7,)), "ahc_threshold")


def test_forced_counts_without_effect_are_named():
    counts = np.array([[4, 4, 4], [2, 3, 4], [5, 5, 5], [5, 5, 5]])
    table = results_table(
        {"num_speakers_forced": (2, 3, 4)},
        1.0 * counts,
        np.full(4, 100.0),
        num_speakers=counts,
        partition=counts,
    )
    assert recordings_without_effect(table, "num_speakers_forced") == ("r00", "r02", "r03")
    notices = {notice.kind: notice for notice in find_warnings(table, cell=0)}
    assert notices["no effect"].text.startswith("num_speakers had no effect on 3 recordings (r00, r02, r03)")
    assert notices["count not obeyed"].uris == ("r00", "r02", "r03")
    assert "num_speakers = 2 was asked for" in notices["count not obeyed"].text


def test_a_parameter_has_no_effect_only_if_it_has_none_anywhere_in_the_grid():
    partition = np.array([[1, 1, 2, 3], [1, 1, 2, 2]])  # max_speakers x Fa
    table = results_table(
        {"Fa": (1, 2), "max_speakers": (5, 9)}, np.ones((2, 4)), np.full(2, 100.0), partition=partition
    )
    assert recordings_without_effect(table, "max_speakers") == ("r01",)
    assert recordings_without_effect(table, "Fa") == ()


def test_the_iteration_cap_is_reported_as_such():
    """20 iterations that end with 25 speakers mean that VBx did not converge, not that 25 people spoke."""
    counts = np.array([[4, 25, 4], [4, 4, 4]])
    converged = np.array([[True, False, True], [True, True, True]])
    table = results_table(
        {"Fa": (0.1, 0.2, 0.3)}, 0.0 * counts, np.full(2, 100.0), num_speakers=counts, converged=converged
    )
    texts = [notice.text for notice in find_warnings(table, cell=1) if notice.kind == "not converged"]
    assert texts[0] == "VBx hit the iteration cap on 1 recording (r00) in the chosen cell: raise max_iters"
    assert texts[1].startswith("16.7 % of all runs")
    assert not [notice for notice in find_warnings(table, cell=0) if "chosen cell: raise" in notice.text]


def test_runs_that_all_hit_the_cap_are_a_hundred_percent():
    table = results_table(
        {"Fa": (0.1, 0.2)}, np.ones((2, 2)), np.full(2, 100.0), converged=np.zeros((2, 2), dtype=bool)
    )
    texts = [notice.text for notice in find_warnings(table) if notice.kind == "not converged"]
    assert texts[1].startswith("100.0 % of all runs")


def test_in_a_random_search_no_parameter_is_without_effect(rng):
    """No two cells differ in one parameter alone, so that nothing can be said of any."""
    table = scattered_table(rng)
    assert recordings_without_effect(table, "Fa") == recordings_without_effect(table, "Fb") == ()
    assert not [notice for notice in find_warnings(table) if notice.kind == "no effect"]


def test_a_value_that_is_compared_with_no_other_forbids_a_claim():
    """Fa 3 was tried beside another Fb alone."""
    table = results_table({"Fa": (1, 2)}, np.ones((1, 2)), np.full(1, 100.0), partition=np.array([[7, 7]]))
    table["Fb"] = 0.8
    assert recordings_without_effect(table, "Fa") == ("r00",)
    beside = pd.concat([table, table.iloc[:1].assign(Fa=3, Fb=17.0, partition=9)], ignore_index=True)
    assert recordings_without_effect(beside, "Fa") == ()


def test_a_random_search_tells_no_direction(rng):
    for card in effect_cards(scattered_table(rng), {"Fa": 0.07, "Fb": 0.8}):
        assert card.speakers == "unknown"
        assert card.inversions.empty
        assert card.der_minima == ()
        assert card.words == (
            f"40 values of {card.parameter} were tried, but not with the same other parameters."
        )


def test_the_line_through_the_default_tells_a_direction_whatever_else_was_tried():
    line = curves([9, 6, 4, 2, 1]).assign(Fb=0.8)
    elsewhere = line.iloc[:2].assign(Fb=17.0, num_speakers=2)
    table = pd.concat([line, elsewhere], ignore_index=True)
    assert effect_card(table, "ahc_threshold", {"Fb": 0.8}).speakers == "shrinks"
    assert effect_card(table, "ahc_threshold").speakers == "unknown"


def test_hundreds_of_speakers_are_written_as_such():
    words = effect_card(curves([120, 90, 60, 30, 4]), "ahc_threshold").words
    assert "on average 120 at 0.1, 4 at 0.95" in words


def test_phantom_speakers_are_found():
    """Two people, six labels, four of them a tail of 8 % of the speech."""
    hypothesis = Annotation(uri="call")
    spoken = {"A": 60.0, "B": 32.0, "C": 2.0, "D": 2.0, "E": 2.0, "F": 2.0}
    start = 0.0
    for speaker, seconds in spoken.items():
        hypothesis[Segment(start, start + seconds)] = speaker
        start += seconds
    phantoms = phantom_speakers({"call": hypothesis})
    assert sorted(phantoms["speaker"]) == ["C", "D", "E", "F"]
    assert phantoms["share"].sum() == pytest.approx(0.08)
    table = results_table({"Fa": (1,)}, np.zeros((1, 1)), np.array([100.0]), num_speakers=np.array([[6]]))
    notices = {notice.kind: notice.text for notice in find_warnings(table, hypotheses={"call": hypothesis})}
    assert notices["phantom speakers"].startswith("call: 4 of 6 speakers hold less than 3 %")
    assert "8.0 % together" in notices["phantom speakers"]
    assert "more speakers than the reference" in notices["too many speakers"]


def test_a_sweep_without_blemish_has_no_warnings():
    table = curves([7, 5, 4, 3, 2], [8, 6, 4, 2, 1])
    assert find_warnings(table) == ()
    assert [notice.kind for notice in find_warnings(table, cell=4)] == ["edge"]


def test_thresholds_convert_both_ways_and_rank_the_other_way_round(rng):
    vectors = rng.normal(size=(50, 2, 8))
    a, b = np.moveaxis(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), 1, 0)
    measured = {
        "euclidean": np.linalg.norm(a - b, axis=1),
        "cosine_distance": 1 - (a * b).sum(axis=1),
        "cosine_similarity": (a * b).sum(axis=1),
    }
    for source in SPACES:
        for target in SPACES:
            for value, expected in zip(measured[source], measured[target], strict=True):
                assert convert_threshold(value, source, target) == pytest.approx(expected, abs=1e-9)


def test_thresholds_are_shown_with_their_space():
    assert describe_threshold(math.sqrt(2)) == "1.41 (distance; cosine similarity 0.00)"
    assert (
        describe_threshold(0.18, "cosine_distance")
        == "0.18 (cosine distance; distance 0.60; cosine similarity 0.82)"
    )
    assert describe_parameter("ahc_threshold", 2.5) == "2.5 (distance; farther than unit vectors can be)"
    assert describe_parameter("linkage", "ward") == "ward"


@pytest.mark.parametrize(
    ("value", "space"), [(2.1, "euclidean"), (-0.1, "cosine_distance"), (1.5, "cosine_similarity")]
)
def test_thresholds_that_no_unit_vectors_have_are_refused(value, space):
    with pytest.raises(InputError, match="of unit vectors lies between"):
        convert_threshold(value, space, "euclidean")
    with pytest.raises(InputError, match="unknown space"):
        convert_threshold(0.5, "angle", "euclidean")


def test_a_card_calls_a_value_that_is_not_set_by_its_name():
    table = results_table(
        {"loop_prob": [0.5, 0.9, None]},
        np.array([[30.0, 20.0, 10.0]] * 2),
        np.full(2, 100.0),
        num_speakers=np.array([[2, 7, 3]] * 2),
    )
    words = effect_card(table, "loop_prob").words
    assert "Left unset (none), 3 on average." in words
    assert "10.0 % (at none)" in words
    assert "nan" not in words


def test_a_card_gives_three_digits_of_mean_numbers():
    axes = {"Fa": [0.1, 0.2, 0.3], "Fb": [1.0, 2.0, 3.0]}
    numbers = np.array([[2, 2, 3, 5, 5, 6, 4, 4, 4]])
    table = results_table(axes, np.ones((1, 9)), np.full(1, 100.0), num_speakers=numbers)
    assert "5.33 to 4 speakers from 0.2 to 0.3" in effect_card(table, "Fa").words


@pytest.mark.parametrize("name", ["loop_prob", "num_speakers_forced", "min_speakers"])
def test_where_a_parameter_is_unset_is_no_end_of_its_curve(name):
    """The counts fall beyond the last number, and rise again between the numbers of one recording only."""
    table = results_table(
        {name: [1, 2, 3, None]},
        np.array([[30.0, 20.0, 25.0, 10.0]] * 2),
        np.full(2, 100.0),
        num_speakers=np.array([[2, 5, 7, 1], [3, 3, 3, 1]]),
    )
    card = effect_card(table, name)
    assert (len(card.curve), card.num_in_row) == (4, 3)
    assert card.speakers == "grows"
    assert card.inversions.empty
    assert (card.num_growing, card.num_shrinking, card.num_unaffected) == (1, 0, 1)
    assert card.der_minima == (2,)
    assert "(on average 2.5 at 1, 5 at 3). Left unset (none), 1 on average." in card.words
    assert "never changes, as long as it is set" in card.words
    assert card.best_value != card.best_value  # lowest where it is unset, which tables write as NaN
    at_most = effect_card(table.rename(columns={name: "max_speakers"}), "max_speakers")
    assert (at_most.num_in_row, at_most.speakers) == (4, "mixed")  # there, unset is more than any number


def test_one_number_and_unset_are_alternatives():
    axes = {"loop_prob": [0.9, None]}
    numbers = np.array([[2, 7], [3, 3]])
    table = results_table(axes, np.ones((2, 2)), np.full(2, 100.0), num_speakers=numbers)
    card = effect_card(table, "loop_prob")
    assert (card.speakers, card.num_unaffected, card.der_minima) == ("not ordered", 1, ())
    assert "loop_prob names alternatives: 0.9 finds 2.5 speakers, none finds 5 speakers." in card.words
    assert "On 1 of 2 recordings the number never changes." in card.words
