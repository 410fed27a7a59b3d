"""Cells asked for one after the other, as a slider does: what is kept of the last one changes nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from segment_recordings import make_segments

from workbench.clustering.vbx import initial_responsibilities
from workbench.sweeps import RecordingSweep
from workbench.sweeps import recording as live_cells
from workbench.synthetic import make_meeting, make_plda
from workbench.types import INACTIVE

CELLS = [
    {"Fa": 0.1, "ahc_threshold": 0.5},
    {"Fa": 0.3, "ahc_threshold": 0.5},
    {"Fa": 0.3, "ahc_threshold": 0.5, "lda_dim": 12},
    {"Fa": 0.3, "ahc_threshold": 0.5, "init_smoothing": 2.0},
    {"Fa": 0.3, "ahc_threshold": 0.5, "precision": "f32"},
    {"Fa": 0.3, "ahc_threshold": 0.9},
    {"Fa": 0.1, "ahc_threshold": 0.9, "median_filter": 5},
    {"Fa": 0.1, "ahc_threshold": 0.9},
]


CELLS_OF_SEGMENTS = [
    {},
    {"Fa": 0.1, "Fb": 1.0},
    {"threshold": 0.2, "loop_prob": 0.5},
    {"method": "ahc", "threshold": 0.1},
]


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(0)
    plda = make_plda(rng, 48, 24)
    features, reference = make_meeting(rng, plda, seconds=90.0, num_speakers=3, noise=3.0)
    return features, reference, plda


def new_sweep(recording):
    features, reference, plda = recording
    return RecordingSweep(features, reference, plda=plda)


def test_a_cell_does_not_depend_on_the_one_before(recording):
    dragged = new_sweep(recording)
    for cell in CELLS:
        one, alone = dragged.live(cell), new_sweep(recording).live(cell)
        np.testing.assert_array_equal(one.elbo, alone.elbo)
        np.testing.assert_array_equal(one.hard_clusters, alone.hard_clusters)
        assert one.counts == alone.counts


def test_the_start_of_vbx_is_kept_while_only_fa_and_fb_change(recording, monkeypatch):
    made = []

    def count(*arguments):
        made.append(arguments)
        return initial_responsibilities(*arguments)

    monkeypatch.setattr("workbench.sweeps.chunks.initial_responsibilities", count)
    sweep = new_sweep(recording)
    for cell in ({"Fa": 0.1}, {"Fa": 0.2}, {"Fb": 3.0}, {"Fb": 3.0, "ahc_threshold": 0.9}, {"Fa": 0.1}):
        sweep.live(cell)
    assert len(made) == 2  # the last one is remembered with all that was found


@pytest.mark.parametrize("num_clusters", [1, 2, 3, 130])
def test_everyone_of_a_cluster_starts_alike_to_the_last_bit(rng, num_clusters):
    labels = np.concatenate([np.arange(num_clusters), rng.integers(0, num_clusters, 300)])
    one_by_one = initial_responsibilities(labels, 7.0)
    np.testing.assert_array_equal(initial_responsibilities(np.arange(num_clusters), 7.0)[labels], one_by_one)


def test_cells_used_last_are_remembered(recording, monkeypatch):
    monkeypatch.setattr(live_cells, "_KEPT", 2)
    sweep = new_sweep(recording)
    first, second = sweep.live({"Fb": 1.0}), sweep.live({"Fb": 2.0})
    assert sweep.live({"Fb": 1.0}) is first
    sweep.live({"Fb": 3.0})  # takes the place of the one that was used longest ago
    assert sweep.live({"Fb": 1.0}) is first
    assert sweep.live({"Fb": 2.0}) is not second


@pytest.mark.parametrize("kind", ["chunks", "segments"])
def test_a_cell_has_the_numbers_of_its_row(recording, kind):
    cells = [*CELLS, {"Fb": 300.0}] if kind == "chunks" else CELLS_OF_SEGMENTS
    features, reference, plda = (
        recording if kind == "chunks" else make_segments(np.random.default_rng(0), noise=1.5)
    )
    collared = {"plda": plda, "collar": 0.25, "skip_overlap": True}
    sweep = RecordingSweep(features, reference, **collared)
    rates = set()
    for cell in cells:
        live = sweep.live(cell)
        alone = RecordingSweep(features, reference, **collared)
        row = alone.evaluate(pd.DataFrame([cell], index=[0])).iloc[0]
        assert (live.counts.der, live.speakers.jer) == (row["der"], row["jer"])
        assert (live.num_speakers, len(live.elbo)) == (row["num_speakers"], row["iterations"])
        assert live.turns["speaker"].nunique() == live.num_speakers
        rates.add(live.speakers.jer)
    assert len(rates) > 1


def test_without_a_reference_there_is_no_jer(recording):
    features, _, plda = recording
    assert RecordingSweep(features, None, plda=plda).live({}).speakers is None


def test_speakers_of_segments_are_numbered_as_they_appear(rng):
    features, reference, plda = make_segments(rng, noise=1.5)
    features.embeddings[[0, 7]] = np.nan
    live = RecordingSweep(features, reference, plda=plda).live({"method": "ahc", "threshold": 0.1})
    assert (live.hard_clusters[[0, 7]] == INACTIVE).all()
    spoken = live.hard_clusters[live.hard_clusters != INACTIVE]
    assert list(dict.fromkeys(spoken.tolist())) == list(range(live.num_speakers))
    assert list(dict.fromkeys(live.turns["speaker"].tolist())) == list(range(live.num_speakers))
