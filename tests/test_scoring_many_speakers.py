"""Recordings with so many speakers that who is active is kept sparse: the same numbers, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from pyannote.core import Annotation, Segment, Timeline
from scoring_pairs import COMPONENTS, random_settings, random_turns

from workbench.scoring import score, score_files, turns
from workbench.scoring.breakdown import breakdown, confusion_matrix
from workbench.scoring.diarization import score_greedily
from workbench.scoring.regions import find_errors


@pytest.fixture
def keep_sparse(monkeypatch):
    return lambda: monkeypatch.setattr(turns, "MOST_DENSE", 0)


def test_sparse_and_dense_score_random_pairs_alike(rng, keep_sparse):
    pairs = [
        (random_turns(rng, int(rng.integers(0, 30)), 6), random_turns(rng, int(rng.integers(0, 30)), 6))
        for _ in range(40)
    ]
    settings = [random_settings(rng) for _ in pairs]
    dense = [_everything(*pair, each) for pair, each in zip(pairs, settings, strict=True)]
    keep_sparse()
    for pair, each, expected in zip(pairs, settings, dense, strict=True):
        found = _everything(*pair, each)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)


def _everything(reference, hypothesis, settings):
    sides = ({"a": reference}, {"a": hypothesis})
    uem = None if settings["uem"] is None else {"a": settings["uem"]}
    shared = {name: settings[name] for name in ("collar", "skip_overlap")}
    row = score_files(*sides, uem, **shared).overall.to_dict()
    numbers = {"row": [np.nan if value is None else value for value in row.values()]}
    greedy = score_greedily(reference, hypothesis, **settings)
    numbers["greedy"] = [getattr(greedy, name) for name in COMPONENTS]
    for by in ("speaker", "overlap", "duration", "boundary", "time"):
        table = breakdown(*sides, uem, by=by, **shared)
        # of several equally good mappings each form may take another: the sums are the same
        numbers[by] = table[["total", "missed", "false_alarm", "confusion"]].sum().to_numpy()
    numbers["confusion"] = confusion_matrix(reference, hypothesis, **settings).to_numpy().sum()
    errors = find_errors(reference, hypothesis, **settings)
    numbers["errors"] = (errors["end"] - errors["start"]).sum()
    return numbers


def test_a_thousand_speakers_need_no_table_of_all_slots(rng):
    reference, hypothesis = (_crowd(rng, num_turns=4000, num_speakers=1000) for _ in range(2))
    tracemalloc.start()
    counts = score(reference, hypothesis)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.total == pytest.approx(sum(each.duration for each in reference.itersegments()))
    assert peak < 40e6  # 1,000 speakers x 16,000 slots x 8 bytes = 128 MB


def test_everybody_apart_is_matched_to_their_own_copy(rng):
    reference = _crowd(rng, num_turns=3000, num_speakers=3000)
    renamed = reference.rename_labels({label: f"x{label}" for label in reference.labels()})
    counts = score(reference, renamed, uem=Timeline([Segment(0, 1e5)]))
    assert counts.correct == pytest.approx(counts.total)
    assert counts.missed == counts.false_alarm == counts.confusion == 0


def _crowd(rng, num_turns, num_speakers):
    annotation = Annotation(uri="a")
    starts = rng.uniform(0, num_turns, num_turns)
    for number, (start, length) in enumerate(zip(starts, rng.uniform(0.1, 3, num_turns), strict=True)):
        annotation[Segment(start, start + length), number] = f"s{number % num_speakers}"
    return annotation
