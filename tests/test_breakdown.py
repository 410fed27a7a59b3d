"""Breakdowns, single errors and changes add up to the counts of the whole."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from pyannote.core import Annotation, Segment, Timeline
from scoring_pairs import COMPONENTS, random_settings, random_turns, spoken

from workbench.scoring import score
from workbench.scoring.breakdown import By, breakdown, confusion_matrix, time_blocks
from workbench.scoring.regions import find_changes, find_errors, find_longest_errors
from workbench.scoring.slots import Slots

BYS = get_args(By)


def errors_of(counts) -> float:
    return counts.missed + counts.false_alarm + counts.confusion


def random_recordings(rng: np.random.Generator) -> tuple[dict, dict, dict]:
    """Two recordings, two sides, and settings of `breakdown`."""
    sides = [
        {uri: random_turns(rng, rng.integers(0, 25), speakers, rng.choice([None, 0.01, 0.5])) for uri in "ab"}
        for speakers in (3, 4)
    ]
    settings = random_settings(rng)
    if settings["uem"] is not None:
        settings["uem"] = dict.fromkeys("ab", settings["uem"])
    return *sides, settings


def single(settings: dict, uri: str) -> dict:
    return settings | {"uem": settings["uem"] and settings["uem"][uri]}


@pytest.mark.parametrize("by", BYS)
def test_the_parts_add_up_to_the_whole(rng, by):
    for _ in range(25):
        references, hypotheses, settings = random_recordings(rng)
        table = breakdown(references, hypotheses, **settings, by=by)
        whole = sum(score(references[uri], hypotheses[uri], **single(settings, uri)) for uri in "ab")
        for name in COMPONENTS:
            assert table[name].sum() == pytest.approx(getattr(whole, name), abs=1e-9), name
        assert table["errors"].sum() == pytest.approx(errors_of(whole), abs=1e-9)


def test_errors_matrix_blocks_and_changes_add_up_to_the_whole(rng):
    for _ in range(25):
        references, hypotheses, settings = random_recordings(rng)
        for uri in "ab":
            how = single(settings, uri)
            sides = references[uri], hypotheses[uri]
            counts, other = score(*sides, **how), score(references[uri], hypotheses["a"], **how)
            errors = find_errors(*sides, **how)
            sums = (errors["end"] - errors["start"]).groupby(errors["kind"]).sum()
            for kind in ("missed", "false_alarm", "confusion"):
                assert sums.get(kind, 0.0) == pytest.approx(getattr(counts, kind), abs=1e-9)
            matrix = confusion_matrix(*sides, **how)
            assert matrix.to_numpy().sum() == pytest.approx(counts.total + counts.false_alarm, abs=1e-9)
            assert matrix["(missed)"].sum() == pytest.approx(counts.missed, abs=1e-9)
            blocks = time_blocks(*sides, **how, block=7.0)
            assert blocks["errors"].sum() == pytest.approx(errors_of(counts), abs=1e-9)
            changes = find_changes(*sides, hypotheses["a"], **how).groupby("change")["seconds"].sum()
            gain = changes.get("fixed", 0.0) - changes.get("broken", 0.0)
            assert gain == pytest.approx(errors_of(counts) - errors_of(other), abs=1e-9)


def rows(table: pd.DataFrame, column: str) -> dict[object, tuple[float, ...]]:
    columns = ["total", "missed", "false_alarm", "confusion"]
    return {row[column]: tuple(round(row[name], 6) for name in columns) for row in table.to_dict("records")}


# A talks 0-10, B 8-12 and 14-14.4: x is A, y is B; x goes on to 13, so 12-13 is a false alarm
REFERENCES = {"a": spoken((0, 10, "A"), (8, 12, "B"), (14, 14.4, "B"))}
HYPOTHESES = {"a": spoken((0, 7, "x"), (7, 8, "y"), (9, 10, "x"), (10, 12, "y"), (12, 13, "x"))}


def test_breakdowns_by_hand():
    speech = rows(breakdown(REFERENCES, HYPOTHESES, by="overlap"), "speech")
    assert speech == {
        "nobody speaks": (0, 0, 1, 0),
        "one speaker": (10.4, 0.4, 0, 1),  # 7-8 said to be y
        "overlap": (4, 3, 0, 0),  # 8-9 both missed, 9-10 B
    }
    turns = rows(breakdown(REFERENCES, HYPOTHESES, by="duration"), "turn")
    assert turns["< 0.5 s"] == (0.4, 0.4, 0, 0)
    assert turns["2-5 s"] == (4, 2, 0, 0)
    assert turns[">= 10 s"] == (10, 1, 0, 1)
    assert turns["no turn (false alarm)"] == (0, 0, 1, 0)
    distance = rows(breakdown(REFERENCES, HYPOTHESES, by="boundary"), "distance")
    assert distance["0.5-1 s"][2] == 0.5  # the later half of the false alarm lies 0.5-1 s after 12
    times = rows(breakdown(REFERENCES, HYPOTHESES, by="time"), "time")
    assert times == {"0:00-0:10": (12, 3, 0, 1), "0:10-0:14": (2.4, 0.4, 1, 0)}
    speakers = breakdown(REFERENCES, HYPOTHESES, by="speaker")
    assert rows(speakers, "speaker") == {"A": (10, 1, 0, 1), "B": (4.4, 2.4, 0, 0), None: (0, 0, 1, 0)}
    assert speakers["mapped_to"].tolist() == ["x", "y", None]


def test_a_merged_a_split_and_a_missed_speaker_are_called_so():
    reference = spoken((0, 10, "A"), (10, 20, "B"), (20, 30, "C"), (30, 40, "D"), (40, 50, "E"))
    hypothesis = spoken((0, 20, "x"), (20, 25, "y"), (25, 30, "z"), (40, 50, "e"))
    table = breakdown({"a": reference}, {"a": hypothesis}, by="speaker").set_index("speaker")["fate"]
    assert table["A"] == "merged with B"
    assert table["B"] == "merged with A"
    assert table["C"] == "split into y, z"
    assert table["D"] == "missed"
    assert table["E"] == "found"


def test_the_confusion_matrix_by_hand():
    matrix = confusion_matrix(REFERENCES["a"], HYPOTHESES["a"])
    assert matrix.columns.tolist() == ["x", "y", "(missed)"]
    assert matrix.loc["A"].tolist() == pytest.approx([8, 1, 1])
    assert matrix.loc["B"].tolist() == pytest.approx([0, 2, 2.4])
    assert matrix.loc["(nobody)"].tolist() == pytest.approx([1, 0, 0])


def test_errors_of_all_recordings_come_longest_first():
    hypotheses = HYPOTHESES | {"b": spoken((0, 5, "x"))}
    errors = find_longest_errors(REFERENCES, hypotheses)
    assert errors.iloc[0].tolist() == ["b", 0.0, 5.0, 5.0, "false_alarm", None, "x"]
    assert errors["duration"].is_monotonic_decreasing
    only = find_longest_errors(REFERENCES, hypotheses, {"a": Timeline([Segment(0, 9)])})
    assert set(only["uri"]) == {"a"}
    assert only["end"].max() == 9


def test_an_error_is_interrupted_where_nothing_is_scored():
    reference = spoken((0, 10, "A"))
    uem = Timeline([Segment(0, 4), Segment(6, 10)])
    assert find_errors(reference, Annotation(), uem)[["start", "end"]].to_numpy().tolist() == [
        [0, 4],
        [6, 10],
    ]


def test_refining_cuts_slots_without_changing_them(rng):
    slots = Slots.of(random_turns(rng, 20, 3), random_turns(rng, 20, 3), Segment(3, 25))
    finer, parent = slots.refine(np.arange(0, 40, 0.37))
    assert len(finer) > len(slots)
    assert np.bincount(parent, finer.seconds) == pytest.approx(slots.seconds)
    assert (finer.active_ref == slots.active_ref[parent]).all()


def test_nothing_to_break_down_is_an_empty_table():
    for by in BYS:
        assert breakdown({}, {}, by=by)["total"].sum() == 0
    assert confusion_matrix(Annotation(), Annotation()).to_numpy().tolist() == [[0]]
    assert find_longest_errors({}, {}).empty
    assert find_changes(Annotation(), Annotation(), Annotation()).empty


def test_an_unknown_property_is_refused():
    with pytest.raises(ValueError, match="by must be one of recording, speaker, overlap"):
        breakdown({}, {}, by="colour")
