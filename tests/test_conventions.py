"""How other scorers would count, checked by hand and against what they printed."""

from __future__ import annotations

import json

import pytest
from scoring_pairs import spoken

from workbench.errors import InputError
from workbench.rttm import read_rttm, read_uem
from workbench.scoring.conventions import convention_table, protocol_table

# 10 s of A, of which x has all but the last second, and says something a second too early
REFERENCES = {"a": spoken((5, 15, "A")), "b": spoken((0, 2, "A"), (1, 2, "A"))}
HYPOTHESES = {"a": spoken((2, 14, "x")), "b": spoken((0, 1, "x"))}


def der(table, **where) -> float:
    for column, value in where.items():
        table = table[table[column] == value]
    (value,) = table["der"]
    return value


def test_every_reading_by_hand():
    table = convention_table(REFERENCES, HYPOTHESES, collar=0.5)
    plain = {"collar_given": 0.0, "overlap": "scored", "average": "pooled"}
    # a: 1 s missed, 3 s false alarm of 10; b: 1 s missed of 2, or 2 of 3 where A counts twice
    assert der(table, scorer="workbench", **plain) == pytest.approx((4 + 2) / 13)
    assert der(table, scorer="pyannote.metrics", **plain) == pytest.approx((4 + 2) / 13)
    assert der(table, scorer="dscore", **plain) == pytest.approx((4 + 1) / 12)
    assert der(table, scorer="md-eval", **plain) == pytest.approx((1 + 1) / 12)  # nothing before 5 s
    assert der(table, scorer="dscore", **plain | {"average": "mean"}) == pytest.approx((0.4 + 0.5) / 2)
    collar = plain | {"collar_given": 0.5}
    # pyannote takes 0.25 s off either side of 5 and 15 s, the others 0.5 s; b has edges at 0, 1, 2
    assert der(table, scorer="pyannote.metrics", **collar) == pytest.approx((3.5 + 1) / (9.5 + 1.5))
    assert der(table, scorer="workbench", **collar) == pytest.approx((0.5 + 2.5) / 9)
    assert set(table["collar_each_side"]) == {0.0, 0.25, 0.5}


def test_pyannote_and_dscore_print_these_numbers(golden):
    """Recorded runs: the same 0.25 is half as wide a collar for pyannote.metrics."""
    folder = golden / "scoring"
    uri = "p04_jitter_large"
    sides = [{uri: read_rttm(folder / f"{uri}.{side}.rttm")[uri]} for side in ("ref", "hyp")]
    table = convention_table(*sides, read_uem(folder / f"{uri}.uem"), collar=0.25)
    theirs = json.loads((folder / "pyannote_metrics.json").read_text())["uem"]["files"][uri]
    dscore = json.loads((folder / "dscore.json").read_text())["results"]
    for collar in (0, 0.25):
        for skip, overlap in enumerate(("scored", "skipped")):
            where = {"uem": "given", "collar_given": collar, "overlap": overlap, "average": "pooled"}
            expected = theirs[f"der_collar{collar}_skip{skip}"]["diarization error rate"]
            assert der(table, scorer="pyannote.metrics", **where) == pytest.approx(expected, abs=1e-9)
            printed = dscore[f"uem_collar{collar}_ignore{skip}"]["files"][uri]["der"]
            assert 100 * der(table, scorer="dscore", **where) == pytest.approx(printed, abs=0.02)


def test_the_published_table_of_vbx_to_the_second_decimal(shared_data):
    folder = shared_data / "ami-meetings"
    systems = {
        "Mix-Headset": read_rttm(folder / "vbx_mix-headset.rttm"),
        "beamformed": read_rttm(folder / "vbx_beamformed.rttm"),
    }
    table = protocol_table(read_rttm(folder / "reference.rttm"), systems, read_uem(folder / "all.uem"))
    assert table.set_index("protocol")[["Mix-Headset", "beamformed"]].round(2).to_dict("index") == {
        "forgiving": {"Mix-Headset": 1.56, "beamformed": 2.80},
        "fair": {"Mix-Headset": 9.68, "beamformed": 10.81},
        "full": {"Mix-Headset": 16.33, "beamformed": 17.66},
    }


def test_without_a_reference_there_is_no_table():
    with pytest.raises(InputError, match="no reference"):
        convention_table({}, {})
