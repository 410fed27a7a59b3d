from __future__ import annotations

import importlib.util
import json

import pytest


@pytest.fixture
def benchmark(repository):
    path = repository / "benchmarks" / "inference.py"
    spec = importlib.util.spec_from_file_location("benchmark_inference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_speed_memory_and_pipeline_of_a_model_are_measured(benchmark, tiny_hub, capsys):
    rows = benchmark.measure_models({"tiny": tiny_hub}, [(2, 2.0)], threads=1, repeats=1)
    (row,) = rows
    assert row["ratio"] == pytest.approx(row["rtf"]["torch"] / row["rtf"]["onnx"])
    assert all(0 < peak < 3e9 for peak in row["peak_bytes"].values())
    assert "tiny" in capsys.readouterr().out


def test_a_task_runs_in_a_process_of_its_own(benchmark, tiny_hub):
    found = benchmark.apart(
        benchmark.task_pipeline, folder=str(tiny_hub), minutes=0.2, threads=1, engine="onnx"
    )
    assert 0 < found["peak"] < 3e9
    assert found["features"] > 0
    json.dumps(found)
    with pytest.raises(RuntimeError, match="task_memory .* failed"):
        benchmark.apart(
            benchmark.task_memory, folder="nowhere", batch=1, seconds=1, threads=1, engine="torch"
        )


def test_too_much_memory_is_said(benchmark, monkeypatch, capsys):
    row = {"rtf": 0.1, "features": 1, "waveform": 1}
    monkeypatch.setattr(benchmark, "apart", lambda _task, minutes, **_given: row | {"peak": minutes * 1e9})
    _, problem = benchmark.measure_pipeline("hub", [1, 4], threads=1)
    assert problem == "onnx: 4.00 GB for 4 minutes, above 3.0 GB"
    assert "torch: 3000 MB more memory" in capsys.readouterr().out
