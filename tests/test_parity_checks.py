"""Lengths and adequacy on their own."""

from __future__ import annotations

import numpy as np
import pytest
from parity_fakes import POWERSET, Faulty, Network, speech

from workbench.agreement.adequacy import Exercise, judge
from workbench.agreement.length_ladder import climb
from workbench.agreement.repeatability import check_repeatability

LENGTHS = (0.5, 1.0, 2.0, 4.0, 7.77)


def test_a_length_that_fails_is_named_with_those_that_work():
    def refuse(waveforms: np.ndarray) -> np.ndarray:
        if waveforms.shape[1] > 40000:
            raise RuntimeError("Gather index out of range\nand more")
        return waveforms

    ladder = climb(Faulty(before=refuse), audio=speech(), lengths=LENGTHS)
    assert ladder.largest_safe == 2.0
    (finding,) = ladder.findings
    assert "fails on 4, 7.77 s and works on 0.5, 1, 2 s" in finding.words
    assert "Gather index out of range" in finding.words


def test_values_that_only_fit_the_traced_length_are_found_against_a_baseline():
    def frozen(log_probs: np.ndarray) -> np.ndarray:
        return log_probs + (0.5 if log_probs.shape[1] != 100 else 0.0) * np.eye(7, dtype=np.float32)[0]

    ladder = climb(Network(), Faulty(frozen), speech(), lengths=LENGTHS)
    assert "agree at 2 s" in ladder.findings[0].words
    assert ladder.findings[0].kind == "baked_in_length"


def test_a_sound_model_climbs_to_the_top():
    ladder = climb(Network(), Network(), speech(), lengths=LENGTHS)
    assert (ladder.largest_safe, ladder.findings, ladder.stopped) == (7.77, (), "")
    assert ladder.to_json()["largest_safe_seconds"] == 7.77


def test_a_ladder_stops_before_memory_runs_out(monkeypatch):
    monkeypatch.setattr("workbench.agreement.length_ladder._free_memory", lambda: 1e6)
    peaks = iter([0.0, 0.0, 1e9, 1e9, 2e9, 2e9])
    monkeypatch.setattr("workbench.agreement.length_ladder._peak_memory", lambda: next(peaks))
    ladder = climb(Network(), audio=speech(), lengths=(0.5, 1.0))
    assert "stopped before 1 s" in ladder.stopped
    assert len(ladder.table) == 1


def test_repeating_a_sound_model_is_exact_in_every_way():
    chunks = speech()[: 4 * 32000].reshape(4, 32000)
    checks = {check.name: check for check in check_repeatability(Network(), chunks).checks}
    assert {name: check.passed for name, check in checks.items()} == {
        "repeat": True,
        "state": True,
        "batch": True,
    }
    assert checks["repeat"].exact
    assert checks["state"].exact


def test_state_that_builds_up_is_told_from_noise():
    calls = 0

    def grow(log_probs: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return log_probs + np.float32(0.01 * calls) * np.sin(np.arange(7, dtype=np.float32))

    chunks = speech()[: 2 * 32000].reshape(2, 32000)
    (finding,) = check_repeatability(Faulty(grow), chunks, "candidate").findings
    assert finding.kind == "state_leak"
    assert "drifts with every call" in finding.words


@pytest.mark.parametrize(
    ("frames", "waveform", "problem"),
    [
        ([500, 0, 0, 0, 0, 0, 0], speech(), "every frame has one class (nobody)"),
        ([5000, 2, 0, 0, 0, 0, 0], speech(), "all but 2 frames have one class (nobody)"),
        ([500, 400, 0, 0, 0, 0, 0], np.zeros(48000), "the input is silent"),
        ([500, 400, 300, 0, 90, 0, 0], speech(), None),
    ],
)
def test_an_input_is_adequate_only_if_it_is_speech_of_several_classes(frames, waveform, problem):
    best = np.repeat(np.arange(7), frames)[None]
    exercise = Exercise.of(best, np.zeros(best.shape), waveform, 7)
    adequacy = judge(exercise, POWERSET)
    assert adequacy.problems == (() if problem is None else (problem,))
    assert adequacy.adequate == (problem is None)
    if problem is None:
        assert "4 of 7 classes" in adequacy.exercised
        assert any("classes never seen: 2, 0+2, 1+2" in remark for remark in adequacy.remarks)
