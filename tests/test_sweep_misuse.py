"""What the sweep and tuning packages say to values of another kind than they take."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sweep_corpus import make_features, make_reference
from sweep_tables import results_table

from workbench.clustering import AHCParams
from workbench.errors import InputError, expect_count, expect_number
from workbench.sweeps import Grid, PluginParams, RecordingSweep, SweepSettings, default_settings, sweep
from workbench.tuning import outputs
from workbench.tuning.cells import CellTable
from workbench.tuning.choice import choose
from workbench.tuning.effects import effect_card, effect_cards
from workbench.tuning.folder import read_sweep
from workbench.tuning.lattice import Lattice
from workbench.tuning.plateau import choose_stable, find_plateaus, near_best
from workbench.tuning.search import SearchParams
from workbench.tuning.space import Space
from workbench.tuning.stability import (
    EmbeddingNoise,
    breaking_level,
    measure_noise,
    noise_stability,
    summarise_stability,
)
from workbench.tuning.summary import summarise_tuning
from workbench.tuning.thresholds import convert_threshold
from workbench.tuning.warnings import find_warnings, phantom_speakers, recordings_without_effect

FEATURES, REFERENCE = make_features("a", 0), make_reference("a", 0)
BASE = SweepSettings(clustering=AHCParams(ahc_threshold=1.2, min_cluster_size=1))
SWEEP = RecordingSweep(FEATURES, REFERENCE, base=BASE)
CELLS = pd.DataFrame({"ahc_threshold": [0.5]})
RESULTS = results_table({"Fa": [0.1, 0.2, 0.3]}, np.array([[9.0, 8.0, 7.0]] * 6), np.full(6, 100.0))
TABLE = CellTable.of(RESULTS)
GRID = Grid({"Fa": (0.1, 0.2)})

ODD = (5, math.nan, "x", b"x", [1], {1: 2}, np.zeros(2), pd.DataFrame({"b": [1]}), object())
NO_NUMBERS = (math.nan, -1, "x", b"x", [1], {}, np.zeros(2), True, object())
NO_SETTINGS = (5, "x", {}, [1], np.zeros(2))


def noise(**options):
    given = {"features": [FEATURES], "references": {"a": REFERENCE}, "cells": CELLS, "base": BASE}
    return noise_stability(**given | options)


CALLS = {
    "hypothesis": (SWEEP.hypothesis, (*ODD, None)),
    "hypothesis of a value": (lambda value: SWEEP.hypothesis({"ahc_threshold": value}), (*ODD[1:], None)),
    "live": (SWEEP.live, (*ODD, None)),
    "live with a value": (lambda value: SWEEP.live({"ahc_threshold": value}), (*ODD[1:], None)),
    "live with a name": (SWEEP.live, ({"no such": 1}, {1: 1})),
    "evaluate": (SWEEP.evaluate, (*ODD, None)),
    "evaluate with a hook": (lambda hook: SWEEP.evaluate(CELLS, hook), ODD),
    "evaluate with columns": (lambda names: SWEEP.evaluate(pd.DataFrame([[0.5] * 2], columns=names)), (
        ["ahc_threshold"] * 2, [0, 1], ["ahc_threshold", "uri"],
    )),
    "base of a recording": (lambda base: RecordingSweep(FEATURES, REFERENCE, base=base), NO_SETTINGS),
    "plda of a recording": (lambda plda: RecordingSweep(FEATURES, REFERENCE, plda=plda), ODD),
    "uem of a recording": (lambda uem: RecordingSweep(FEATURES, REFERENCE, uem=uem), ODD),
    "collar of a recording": (lambda x: RecordingSweep(FEATURES, REFERENCE, collar=x), NO_NUMBERS),
    "overlap of a recording": (lambda x: RecordingSweep(FEATURES, None, skip_overlap=x), (*ODD, None)),
    "collar of a sweep": (lambda x: sweep(FEATURES, REFERENCE, {"Fa": 0.1}, collar=x), NO_NUMBERS),
    "jobs of a sweep": (lambda x: sweep(FEATURES, REFERENCE, {"Fa": 0.1}, jobs=x), (*NO_NUMBERS, 0, 1.5)),
    "grid": (Grid, (5, None, "x", [1], {"Fa": 5}, {"Fa": None}, {"Fa": b"x"}, {1: (2,)})),
    "base of a grid": (lambda base: Grid({"Fa": (0.1,)}, base), NO_SETTINGS),
    "grid of values": (Grid.of, (5, None, "x", [1], {"Fa": b"x"}, {"Fa": {1: 2}}, {1: [2]}, CELLS)),
    "base of values": (lambda base: Grid.of({"Fa": [0.1]}, base), NO_SETTINGS),
    "grid of texts": (Grid.parse, (5, None, b"Fa=1", [1], [None], np.zeros(2))),
    "plug-in's values": (lambda values: PluginParams(function=print, values=values), ODD),
    "plug-in's convention": (lambda name: PluginParams(function=print, convention=name), ODD),
    "clustering": (lambda params: SweepSettings(clustering=params), (*ODD, None)),
    "precision": (lambda name: SweepSettings(precision=name), (*ODD, None)),
    "preset": (SweepSettings.preset, (*ODD, None)),
    "method": (lambda name: BASE.replace(method=name), (*ODD, None)),
    "value_of": (BASE.value_of, (*ODD, None)),
    "default_settings": (default_settings, (*ODD, None)),
    "results": (CellTable.of, (*ODD, None)),
    "parameters": (lambda names: CellTable.of(RESULTS, names), (5, "Fa", ["no such"], ["der"])),
    "find": (TABLE.find, (*ODD, None, {"Fa": [1]}, {"Fa": np.zeros(2)})),
    "values": (TABLE.values, (3, *NO_NUMBERS)),
    "name": (TABLE.name, (3, *NO_NUMBERS)),
    "choose": (choose, (*ODD, None)),
    "default of choose": (lambda cell: choose(TABLE, cell), ODD),
    "default_results": (lambda rows: choose(TABLE, default_results=rows), ODD),
    "folds": (lambda folds: choose(TABLE, folds=folds), (*NO_NUMBERS, 1)),
    "criterion": (lambda name: choose(TABLE, criterion=name), (*ODD, None)),
    "best": (lambda cell: choose(TABLE, best=cell), ODD),
    "max_loss": (lambda x: choose(TABLE, {"Fa": 0.1}, max_loss=x), NO_NUMBERS),
    "level": (lambda x: choose(TABLE, {"Fa": 0.1}, level=x), (*NO_NUMBERS, 0.0, 1, 5)),
    "num_resamples": (lambda x: choose(TABLE, {"Fa": 0.1}, num_resamples=x), (*NO_NUMBERS, 0, 1.5)),
    "seed of choose": (lambda x: choose(TABLE, {"Fa": 0.1}, seed=x), (*NO_NUMBERS, 1.5)),
    "find_plateaus": (find_plateaus, (*ODD, None)),
    "near_best": (near_best, (*ODD, None)),
    "tolerance": (lambda x: find_plateaus(TABLE, tolerance=x), NO_NUMBERS),
    "resamples of plateaus": (lambda x: near_best(TABLE, num_resamples=x), (*NO_NUMBERS, 1.5)),
    "choose_stable": (choose_stable, (*ODD, None)),
    "stability to choose": (lambda rows: choose_stable(find_plateaus(TABLE), rows), ODD),
    "max_moved": (lambda x: choose_stable(find_plateaus(TABLE), max_moved=x), (*NO_NUMBERS, 5)),
    "admissible": (lambda x: choose_stable(find_plateaus(TABLE), admissible=x), (*ODD, [True])),
    "effect_cards": (effect_cards, (*ODD, None)),
    "parameter of a card": (lambda name: effect_card(TABLE, name), (*ODD, None)),
    "default of a card": (lambda cell: effect_card(TABLE, "Fa", cell), ODD),
    "others of a card": (lambda name: effect_card(TABLE, "Fa", {}, name), ODD),
    "find_warnings": (find_warnings, (*ODD, None)),
    "cell of warnings": (lambda cell: find_warnings(TABLE, cell), (3, *NO_NUMBERS)),
    "hypotheses": (phantom_speakers, (*ODD, None, {"a": None})),
    "min_share": (lambda x: find_warnings(TABLE, min_share=x), (*NO_NUMBERS, 5)),
    "without effect": (lambda name: recordings_without_effect(TABLE, name), (*ODD, None)),
    "summarise_tuning": (summarise_tuning, (*ODD, None)),
    "threshold": (lambda x: convert_threshold(x, "euclidean", "cosine_distance"), NO_NUMBERS),
    "space of a threshold": (lambda name: convert_threshold(0.5, name, "euclidean"), (*ODD, None)),
    "space": (Space, (*ODD, None)),
    "intervals": (lambda ends: Space(GRID, ends), (5, "x", {"Fx": (0.0, 1.0)}, {"Fa": 5}, {"Fa": (1,)})),
    "space of texts": (Space.parse, (5, None, b"Fa=1", [1], [None], np.zeros(2))),
    "sampler": (lambda name: SearchParams(sampler=name), (*ODD, None)),
    "trials": (lambda x: SearchParams(trials=x), (*NO_NUMBERS, 1.5)),
    "objectives": (lambda names: SearchParams(objectives=names), (*ODD, None, "der", (5,), ())),
    "max_worse": (lambda x: SearchParams(max_worse=x), NO_NUMBERS),
    "storage": (lambda name: SearchParams(storage=name), (5, [1], b"x")),
    "seed of a search": (lambda x: SearchParams(seed=x), (*NO_NUMBERS, 1.5)),
    "read_sweep": (read_sweep, (5, None, math.nan, [1], "no such folder")),
    "diarizen_args": (outputs.diarizen_args, NO_SETTINGS),
    "pyannote_params": (outputs.pyannote_params, NO_SETTINGS),
    "pyannote_yaml": (outputs.pyannote_yaml, NO_SETTINGS),
    "merge_toml": (outputs.merge_toml, NO_SETTINGS),
    "config": (lambda path: outputs.merge_toml(BASE, path), (5, [1], math.nan)),
    "write_best": (lambda folder: outputs.write_best(folder, BASE), (5, None, [1])),
    "lattice": (Lattice.of, (*ODD[:-2], None)),
    "kind of noise": (lambda name: EmbeddingNoise(kind=name), (*ODD, None)),
    "differences": (lambda rows: EmbeddingNoise(kind="measured", differences=rows), (*ODD, None)),
    "measure_noise": (lambda rows: measure_noise(rows, rows), (5, "x", [1], None, np.array(["a"]))),
    "features to perturb": (lambda given: noise(features=given), (5, "x", [], [5], None)),
    "references of noise": (lambda given: noise(references=given), (5, "x", [1], None)),
    "cells of noise": (lambda given: noise(cells=given), (5, None, [1], pd.DataFrame())),
    "noise": (lambda given: noise(noise=given), ODD),
    "levels": (lambda given: noise(levels=given), (5, "x", b"x", [], ["a"], [-1], [math.nan], None)),
    "num_repeats": (lambda x: noise(num_repeats=x), (*NO_NUMBERS, 0, 1.5)),
    "seed of noise": (lambda x: noise(seed=x), (*NO_NUMBERS, 1.5)),
    "hook of noise": (lambda hook: noise(hook=hook), ODD),
    "summarise_stability": (summarise_stability, (*ODD, None)),
    "breaking_level": (breaking_level, (*ODD, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_what_is_of_another_kind_is_refused_and_named(name):
    call, values = CALLS[name]
    for value in values:
        with pytest.raises(InputError) as refused:
            call(value)
        assert len(str(refused.value)) > 20  # in words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SWEEP.hypothesis(5), "a cell must map names of parameters to values, as .* got int"),
        (lambda: SWEEP.live({"Fx": 1}), "unknown parameter 'Fx'|Fx"),
        (lambda: SWEEP.live({"ahc_threshold": [1]}), "ahc_threshold"),
        (lambda: TABLE.values(3), "there is no cell 3; the last one is 2"),
        (lambda: recordings_without_effect(TABLE, "Fb"), "Fb was not swept; swept are Fa"),
        (lambda: BASE.value_of("ahc_treshold"), "did you mean 'ahc_threshold'"),
        (lambda: CellTable.of(RESULTS, ["Fx"]), "no parameter 'Fx'; there are Fa"),
    ],
)
def test_a_refusal_says_what_is_meant(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_row_of_a_table_is_a_cell():
    assert SWEEP.live(CELLS.iloc[0]) is SWEEP.live({"ahc_threshold": 0.5})
    assert TABLE.find(TABLE.cells.iloc[1]) == 1
    assert TABLE.find({"Fa": "0.2 and more"}) is None


def test_numbers_of_numpy_are_numbers():
    expect_number(np.float32(0.5), "a share", low=0, high=1)
    expect_count(np.int64(3), "a count", low=3)
    with pytest.raises(InputError, match="a count, got 2"):
        expect_count(np.int64(2), "a count", low=3)
    with pytest.raises(InputError, match="a share, got inf"):
        expect_number(math.inf, "a share")
