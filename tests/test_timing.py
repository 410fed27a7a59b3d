"""Timing: alternation, percentiles, ratios; times themselves are never asserted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from parity_fakes import Embedder, Network

from workbench.errors import InputError
from workbench.plots.timing import plot_benchmark
from workbench.runtimes.recorded import RecordedRuntime
from workbench.timing import (
    TimingParams,
    as_items,
    describe_load,
    find_cuts,
    load_warning,
    summarize_batches,
    summarize_stages,
    time_batches,
    time_pipeline,
)


class Noted(Network):
    """Writes down who was asked, and for how much."""

    def __init__(self, name: str, calls: list):
        super().__init__()
        self.name, self.calls = name, calls

    def segment(self, waveforms):
        self.calls.append((self.name, len(waveforms)))
        return super().segment(waveforms)


def test_contestants_take_turns_after_a_warm_up():
    calls: list = []
    pair = {name: Noted(name, calls) for name in "ab"}
    params = TimingParams(batch_sizes=(1, 3), warm_up=1, repeats=2)
    table = time_batches(pair, np.zeros(50000, np.float32), params)
    assert calls == [(name, size) for size in (1, 3) for _ in range(3) for name in "ab"]
    assert len(table) == 2 * 2 * 2  # what warmed up is not among them
    assert table["audio"].tolist() == [2.0] * 4 + [6.0] * 4


class Clock:
    """Seconds that pass only where a model works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow(Network):
    """Takes as long as it is told per chunk."""

    def __init__(self, clock: Clock, seconds: float):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def segment(self, waveforms):
        self.clock.now += self.seconds * len(waveforms)
        return super().segment(waveforms)


def test_slow_contestants_are_cut_short_and_what_was_cut_is_said():
    clock, done = Clock(), []
    pair = {"fast": Slow(clock, 0.001), "slow": Slow(clock, 0.3)}
    params = TimingParams(batch_sizes=(1, 2, 4), warm_up=2, repeats=10, seconds=1.0)
    calls = time_batches(pair, np.zeros(50000, np.float32), params, on_size=done.append, clock=clock)
    counts = calls.groupby(["runtime", "batch_size"]).size()
    assert counts["fast"].to_dict() == {1: 10, 2: 10, 4: 10}
    assert counts["slow"].to_dict() == {1: 2, 2: 2}  # and one call of 4 would take 1.2 s
    assert done == [1, 2, 4]
    first, second = find_cuts(calls, params)
    assert first == "slow: fewer calls than 10: 2 at batch size 1, 2 at batch size 2"
    assert second == "slow: batch size 4 left out; one call of 4 takes about 1.2 s"
    assert not find_cuts(calls[calls["runtime"] == "fast"], params)


def test_the_smallest_batch_is_timed_however_slow():
    clock = Clock()
    params = TimingParams(batch_sizes=(1, 2), warm_up=1, repeats=5, seconds=0.5)
    calls = time_batches({"m": Slow(clock, 60.0)}, np.zeros(50000, np.float32), params, clock=clock)
    assert calls["batch_size"].tolist() == [1, 1]
    assert clock.now == 3 * 60.0


def test_pipelines_hear_as_much_as_fits_and_all_the_same(monkeypatch):
    speeds = {"fast": 0.1, "slow": 0.5}  # s per second of audio
    sides = {
        name: SimpleNamespace(name=name, runtimes=SimpleNamespace(segmentation=Network())) for name in speeds
    }
    clock, waveform = Clock(), np.zeros(16000 * 40, np.float32)

    def once(side, heard, uri, clock):
        clock.now += speeds[side.name] * len(heard) / 16000
        return {"whole": clock.now}

    monkeypatch.setattr("workbench.timing._time_once", once)
    calls = time_pipeline(sides, waveform, "one", rounds=2, seconds=10.0, clock=clock)
    assert calls["audio"].unique().tolist() == [10.0]  # twice 5 s of the slow one
    assert calls["runtime"].tolist() == ["fast", "slow"] * 2
    assert time_pipeline(sides, waveform, seconds=0.1, clock=clock)["audio"].unique() == [4.0]  # two chunks
    assert time_pipeline(sides, waveform, clock=clock)["audio"].unique() == [40.0]


def test_short_audio_is_repeated_and_embedding_models_are_timed_too():
    table = time_batches(
        {"embedder": Embedder()}, np.ones(100, np.float32), TimingParams(batch_sizes=(2,), repeats=2)
    )
    assert table["kind"].unique().tolist() == ["embedding"]
    assert table["audio"].iloc[0] == pytest.approx(2 * 2.015, abs=1e-3)


def test_percentiles_ratios_and_the_best_batch_follow_from_the_calls():
    rows = [("a", "segmentation", 1, n, 0.1, 2.0) for n in range(10)]
    rows += [("a", "segmentation", 4, n, 0.2, 8.0) for n in range(10)]
    rows += [("b", "segmentation", 1, n, 0.05 + 0.01 * n, 2.0) for n in range(10)]
    rows += [("b", "segmentation", 4, n, 0.8, 8.0) for n in range(10)]
    calls = pd.DataFrame(rows, columns=["runtime", "kind", "batch_size", "repeat", "seconds", "audio"])
    table = summarize_batches(calls).set_index(["runtime", "batch_size"])
    assert table.loc[("b", 1), ["p50", "p90", "p99"]].tolist() == pytest.approx([0.095, 0.131, 0.1391])
    assert table.loc[("a", 4), "rtf"] == pytest.approx(0.025)
    assert table["ratio"].tolist() == pytest.approx([1.0, 1.0, 0.1 / 0.095, 0.25])
    assert table["best"].tolist() == [False, True, True, False]
    alone = summarize_batches(calls[(calls["runtime"] == "b") | (calls["batch_size"] == 1)])
    assert np.isnan(alone["ratio"].iloc[-1])  # nothing to compare with, where the first was left out


def test_stages_are_summed_over_recordings_and_shared_out():
    rows = [
        (runtime, uri, stage, number, factor * seconds, 10.0)
        for runtime, factor in (("a", 1.0), ("b", 2.0))
        for uri in ("one", "two")
        for number in range(2)
        for stage, seconds in (("segmentation", 1.0), ("whole", 4.0))
    ]
    calls = pd.DataFrame(rows, columns=["runtime", "uri", "stage", "round", "seconds", "audio"])
    table = summarize_stages(calls).set_index(["runtime", "stage"])
    assert table.loc[("b", "segmentation")].tolist() == pytest.approx([4.0, 0.2, 0.25, 0.5])
    assert not len(summarize_stages(calls.iloc[:0]))


def test_a_busy_machine_is_warned_about():
    quiet, busy = {"busy": 0.05, "cores": 4}, {"busy": 0.9, "cores": 4}
    assert load_warning(quiet, quiet) is None
    assert "90%" in (load_warning(quiet, busy) or "")
    assert load_warning({"busy": None, "cores": 4}) is None
    assert describe_load(0.05).keys() >= {"cores", "busy", "load_average", "machine"}


def test_the_figure_has_a_line_per_runtime_and_panel():
    calls = time_batches(
        {"n": Network()}, np.zeros(40000, np.float32), TimingParams(batch_sizes=(1, 2), repeats=2)
    )
    figure = plot_benchmark(summarize_batches(calls))
    assert len(figure.data) == 2
    assert figure.layout.yaxis.title.text == "Time per chunk (ms)"


def test_runtimes_and_audio_are_told_apart(tmp_path):
    assert as_items(["torch:x", "a.wav", "onnx:y"])[0] == ["torch:x", "onnx:y"]
    for items, words in (
        (["a.wav"], "no runtime"),
        (["torch:x"], "no audio"),
        (["torch:x", "torch:x", "a.wav"], "named twice"),
    ):
        with pytest.raises(InputError, match=words):
            as_items(items)


def test_arrays_recorded_earlier_cannot_be_timed(tmp_path):
    recorded = RecordedRuntime.__new__(RecordedRuntime)
    with pytest.raises(InputError, match="recorded earlier"):
        time_batches({"r": recorded}, np.zeros(10, np.float32))
    with pytest.raises(InputError, match="nothing to time"):
        time_batches({}, np.zeros(10, np.float32))
