from __future__ import annotations

import importlib.util
import json

import pytest
from hubs import write_speech


@pytest.fixture
def benchmark(repository):
    spec = importlib.util.spec_from_file_location(
        "benchmark_pipeline", repository / "benchmarks" / "pipeline.py"
    )
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def test_the_benchmark_times_every_stage_with_both_engines(benchmark, tiny_hub, tmp_path, capsys):
    write_speech(tmp_path / "speech.wav", 6.0)
    report = tmp_path / "report.json"
    arguments = [tmp_path / "speech.wav", "--hub", tiny_hub, "--repeats", 1, "--json", report]
    assert benchmark.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out
    stages = {row["stage"]: row for row in json.loads(report.read_text())["stages"]}
    assert list(stages) == [
        "fbank",
        "segmentation",
        "embedding",
        "clustering",
        "reconstruction",
        "whole pipeline",
    ]
    assert all(stage in printed for stage in stages)
    for stage in ("fbank", "segmentation", "embedding", "whole pipeline"):
        assert stages[stage]["ratio"] == pytest.approx(stages[stage]["torch"] / stages[stage]["onnx"])
    assert stages["clustering"]["shared"] > 0


def test_three_speakers_from_one_trunk_cost_less_than_three_passes(benchmark, tiny_hub, tmp_path):
    """A generous bound for a busy machine; `make bench` prints the real figure."""
    engines = benchmark.load_engines(tiny_hub, threads=1)
    params = benchmark.read_config(tiny_hub / "config.toml")
    waveform = benchmark.crop_audio(write_speech(tmp_path / "speech.wav", 8.0), 0, 8)
    chunks, masks, found = benchmark.busy_chunks([waveform], engines["torch"], params, most=6)
    assert (masks.any(axis=2).sum(axis=1) >= 3).all()
    for timing in benchmark.time_trunk(chunks, masks, found, engines, repeats=3):
        assert timing.speedup > 1.5


def test_functions_take_turns_and_change_who_begins(benchmark):
    order = []
    seconds = benchmark.time_alternating(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2
    )
    assert "".join(order) == "ab" + "ab" + "ba"
    assert set(seconds) == {"a", "b"}
