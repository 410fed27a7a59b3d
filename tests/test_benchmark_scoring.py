from __future__ import annotations

import importlib.util
import json

import pytest

from workbench.rttm import write_rttm


@pytest.fixture
def benchmark(repository):
    spec = importlib.util.spec_from_file_location(
        "benchmark_scoring", repository / "benchmarks" / "scoring.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_compares_scorers_that_agree(benchmark, rng, tmp_path, capsys):
    reference, _, _ = benchmark.synthetic_meeting(rng, benchmark.SlidingWindow(0.0, 0.025, 0.02), 120.0)
    write_rttm(tmp_path / "ref.rttm", {"a": reference})
    write_rttm(tmp_path / "hyp.rttm", {"a": reference.rename_labels({"s1": "s0"})})
    arguments = [tmp_path / "ref.rttm", tmp_path / "hyp.rttm", "--repeats", 1, "--json", tmp_path / "b.json"]
    assert benchmark.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["der"]["workbench"] == pytest.approx(report["der"]["pyannote.metrics"], abs=1e-12)
    assert report["prepared"]["largest_difference"] < 1e-9
    assert "pyannote.metrics" in printed


def test_the_scorers_that_are_timed_agree_on_the_ami_meetings(benchmark, shared_data):
    folder = shared_data / "ami-meetings"
    seconds, der = benchmark.time_scorers(
        benchmark.read_rttm(folder / "reference.rttm"),
        benchmark.read_rttm(folder / "vbx_mix-headset.rttm"),
        benchmark.read_uem(folder / "all.uem"),
        repeats=1,
    )
    assert seconds.keys() >= {"pyannote.metrics", "workbench"}
    assert der["workbench"] == pytest.approx(der["pyannote.metrics"], abs=1e-12)
