"""Conditions are observed, not believed; strict conditions leave rounding and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from parity_fakes import speech

import workbench
from workbench.agreement import ParityParams
from workbench.agreement.condition_rows import NAMES, onnx_rows, torch_rows
from workbench.agreement.conditions import (
    COLUMNS,
    ConditionsTable,
    compare_conditions,
    observe_conditions,
)
from workbench.agreement.strict import OneByOne, load_strict, strict, strict_report
from workbench.errors import InputError
from workbench.runtimes import load_runtime, parse_spec
from workbench.runtimes.float_environment import denormals
from workbench.runtimes.onnx_conditions import OnnxFacts, knows_entry, read_profile
from workbench.runtimes.probes import make_product, noise, precision_of
from workbench.runtimes.spec import OnnxOptions, TorchOptions, onnx_options, with_options
from workbench.runtimes.torch_conditions import TorchFacts

GPU_ROWS = ("tf32 products", "tf32 convolutions", "cuBLAS workspace")


@pytest.fixture(scope="module")
def segmentation(tiny_hub) -> str:
    return f"onnx:{tiny_hub}/onnx/segmentation.onnx"


@pytest.fixture(scope="module")
def waveforms() -> np.ndarray:
    return noise(32000, batch=2)


def observe(spec: str, **more) -> ConditionsTable:
    return observe_conditions(load_runtime(spec), **more)


# --- on a CPU ------------------------------------------------------------------------------------


def test_both_engines_have_the_same_rows_and_hold_what_was_asked(tiny_hub, segmentation):
    torch_side = observe(f"torch:{tiny_hub}?threads=1&deterministic=1")
    onnx_side = observe(f"{segmentation}?threads=1&deterministic=1")
    for table in (torch_side, onnx_side):
        assert tuple(row.name for row in table.rows) == NAMES
        assert table.ok
        assert {row.status for row in table.rows} <= {"holds", "not applicable"}
        table.check()
    assert list(onnx_side.table().columns) == list(COLUMNS)
    beside = compare_conditions(torch_side, onnx_side)
    assert beside.set_index("condition").loc["float32 precision", "same"]


@pytest.mark.parametrize("options", ["", "?tf32=1", "?deterministic=1"])
def test_rows_of_a_gpu_never_pass_on_a_cpu(tiny_hub, segmentation, options):
    for spec in (f"torch:{tiny_hub}{options}", f"{segmentation}{options}"):
        table = observe(spec)
        assert [table[name].status for name in GPU_ROWS] == ["not applicable"] * 3
        assert table["float32 precision"].observed == "float32"


def test_a_session_entry_that_does_not_exist_is_named(segmentation):
    table = observe(f"{segmentation}?ep.cuda.allow_tf32=0&session.intra_op.allow_spinning=0&threads=1")
    assert table["ep.cuda.allow_tf32"].status == "no effect"
    assert table["session.intra_op.allow_spinning"].status == "not observed"  # it is real, and changes time
    (finding,) = table.findings
    assert finding.kind == "flag_without_effect"
    assert "ep.cuda.allow_tf32: 0 was accepted and has no effect" in finding.words
    assert table.ok  # it is harmless, though nothing


def test_names_of_session_entries_are_looked_up_in_the_library():
    assert knows_entry("session.set_denormal_as_zero")
    assert not knows_entry("session.set_denormals_as_zero_please")


def test_a_provider_that_is_not_there_fails_unless_fallback_is_allowed(segmentation):
    table = observe(f"{segmentation}?providers=cuda,cpu")
    assert table["provider"].status == "fell back"
    assert table["provider"].observed == "cpu"
    assert not table.ok
    with pytest.raises(InputError, match="provider: requested cuda, cpu, observed cpu"):
        table.check()
    for allowed in (
        observe(f"{segmentation}?providers=cuda,cpu&allow_fallback=1"),
        observe(f"{segmentation}?providers=cuda,cpu", allow_fallback=True),
    ):
        allowed.check()
        assert [finding.severity for finding in allowed.findings] == ["warning"]
    with pytest.raises(InputError, match="provider 'cuda' is not part of this ONNX Runtime"):
        load_runtime(f"{segmentation}?providers=cuda")


def test_threads_are_counted_not_believed(tiny_hub, segmentation):
    assert observe(f"{segmentation}?threads=2")["threads"].observed == "2 in the session's pool"
    assert observe(f"{segmentation}?threads=1")["threads"].observed == "1 in the session's pool"
    row = observe(f"torch:{tiny_hub}?threads=1")["threads"]
    assert (row.accepted, row.observed, row.status) == ("1", "1 busy", "holds")


def test_a_number_format_is_read_off_the_outputs(tiny_hub):
    row = observe(f"torch:{tiny_hub}?dtype=bf16&threads=1")["dtype"]
    assert row.status == "holds"
    assert "bfloat16" in row.observed
    assert "weights: float32" in row.observed


def test_graph_optimization_is_seen_in_the_nodes_that_run(segmentation):
    everything = observe(f"{segmentation}?threads=1")["graph optimization"]
    assert everything.status == "holds"
    assert "nodes run instead of" in everything.observed
    nothing = observe(f"{segmentation}?optimization=none")["graph optimization"]
    assert "none of them rewritten" in nothing.observed


# torch with one thread only: a pool that an earlier test has started is not reached, and is reported so
@pytest.mark.parametrize(("engine", "threads"), [("torch", 1), ("onnx", 1), ("onnx", 2)])
def test_denormals_are_flushed_for_the_call_alone(tiny_hub, segmentation, engine, threads):
    tiny = np.full(4, 1e-40, dtype=np.float32)
    spec = f"torch:{tiny_hub}" if engine == "torch" else segmentation
    assert observe(f"{spec}?threads={threads}&denormal=flush")["denormals"].status == "holds"
    assert (tiny * np.float32(0.5) != 0).all()
    with denormals(flush=True):  # as a library may leave it behind
        assert (tiny * np.float32(0.5) == 0).all()
        assert observe(f"{spec}?threads=1")["denormals"].observed == "kept"


def test_recorded_arrays_have_no_conditions(tiny_hub, tmp_path, waveforms):
    import json

    from workbench.runtimes.geometry import geometry_to_json

    source = load_runtime(f"torch:{tiny_hub}")
    np.savez(tmp_path / "a.npz", log_probs=source.segment(waveforms))
    fields = geometry_to_json(source.geometry) | {"created_by": "a port in C++"}
    (tmp_path / "geometry.json").write_text(json.dumps(fields))
    table = observe(f"recorded:{tmp_path}")
    assert {row.status for row in table.rows} == {"not applicable"}
    assert "a port in C++" in table.rows[0].note


def test_a_runtime_of_another_make_is_not_observed():
    from fakes import FakeSegmentation

    assert {row.status for row in observe_conditions(FakeSegmentation()).rows} == {"not observed"}


# --- on a GPU, faked ------------------------------------------------------------------------------

CUDA = TorchFacts(
    device="cuda:0",
    devices_of_outputs={"cuda": 20},
    dtypes_of_outputs={"float32": 20},
    dtypes_of_weights={"float32": 30},
    matmul_tf32=False,
    cudnn_tf32=False,
    matmul_error=4e-7,
    conv_error=4e-7,
    deterministic=True,
    fills_memory=True,
    scatter_repeats=True,
    cudnn_deterministic=True,
    workspace=":4096:8",
    threads=8,
    threads_before=8,
    busy_threads=None,
    flushed=0.0,
)
ON_CUDA = TorchOptions(device="cuda", deterministic=True)


def rows_of(rows) -> dict[str, str]:
    return {row.name: row.status for row in rows}


def test_a_gpu_that_does_as_told_holds():
    found = rows_of(torch_rows(ON_CUDA, CUDA))
    assert found.pop("graph optimization") == "not applicable"
    assert found.pop("threads") == "not observed"
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize(
    ("facts", "options", "row", "status"),
    [
        ({"matmul_error": 3e-4}, {}, "tf32 products", "contradicted"),
        ({"conv_error": 3e-4}, {}, "tf32 convolutions", "contradicted"),
        ({"matmul_tf32": True}, {"tf32": True}, "tf32 products", "no effect"),
        ({"matmul_tf32": True, "matmul_error": 3e-4}, {"tf32": True}, "tf32 products", "holds"),
        ({"matmul_error": 4e-3}, {}, "float32 precision", "contradicted"),
        ({"devices_of_outputs": {"cuda": 18, "cpu": 2}}, {}, "node placement", "contradicted"),
        ({"workspace": None}, {}, "cuBLAS workspace", "contradicted"),
        ({"scatter_repeats": False}, {}, "deterministic algorithms", "contradicted"),
        ({"fills_memory": False}, {}, "deterministic algorithms", "no effect"),
        ({"dtypes_of_outputs": {"float16": 9}}, {}, "dtype", "contradicted"),
        ({}, {"dtype": "bf16"}, "dtype", "no effect"),
        ({"device": "cpu"}, {}, "provider", "contradicted"),
        ({"flushed": 0.5}, {}, "denormals", "contradicted"),
    ],
)
def test_a_gpu_that_does_otherwise_is_named(facts, options, row, status):
    assert rows_of(torch_rows(replace(ON_CUDA, **options), replace(CUDA, **facts)))[row] == status


def test_the_environment_that_overrules_tf32_is_named(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    rows = torch_rows(ON_CUDA, replace(CUDA, matmul_error=3e-4))
    note = next(row.note for row in rows if row.name == "tf32 products")
    assert "NVIDIA_TF32_OVERRIDE=1" in note


def event(name: str, operation: str, provider: str, kind: str = "float") -> dict:
    arguments = {"op_name": operation, "provider": provider, "output_type_shape": [{kind: [1]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": arguments}


def cuda_facts(**changes) -> OnnxFacts:
    events = [event(f"n{i}", "MatMul", "CUDAExecutionProvider") for i in range(8)]
    events += [
        event("g", "Gather", "CPUExecutionProvider", "int64"),
        event("c", "MemcpyToHost", "CUDAExecutionProvider"),
    ]
    profile = read_profile(events, "CUDAExecutionProvider", np.zeros(1))
    facts = OnnxFacts(
        providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
        provider_options={"CUDAExecutionProvider": {"use_tf32": "0"}},
        profile=profile,
        profile_repeats=True,
        unoptimized=None,
        weights={"float": 10},
        matmul_error=4e-7,
        conv_error=4e-7,
        flushed=0.0,
        entries={},
    )
    return replace(facts, **changes)


def test_nodes_that_a_gpu_leaves_to_the_cpu_are_counted():
    options = OnnxOptions(providers=("cuda", "cpu"), optimization="none")
    rows = {row.name: row for row in onnx_rows(options, cuda_facts())}
    assert rows["node placement"].observed == "nodes: cuda 9, cpu 1"
    assert "1 of 10 nodes run elsewhere: Gather 1; 1 copies between memories" in rows["node placement"].note
    assert rows["tf32 products"].status == "holds"
    assert rows["tf32 products"].accepted == "off"


def test_parity_tells_of_a_provider_that_is_not_there_even_without_checks(segmentation):
    candidate = f"{segmentation}?providers=cuda,cpu"
    quick = ParityParams(checks=False, consequences=False)
    result = workbench.parity(segmentation, candidate, speech(), params=quick)
    assert {finding.kind for finding in result.findings} == {"provider_fallback"}
    assert result.repeatability == {}


@pytest.mark.parametrize(
    ("tf32", "error", "status"),
    [(False, 3e-4, "contradicted"), (True, 3e-4, "holds"), (True, 4e-7, "no effect")],
)
def test_tf32_of_onnx_runtime_is_seen_in_a_product(tf32, error, status):
    options = OnnxOptions(providers=("cuda", "cpu"), optimization="none", tf32=tf32)
    facts = cuda_facts(
        matmul_error=error, provider_options={"CUDAExecutionProvider": {"use_tf32": str(int(tf32))}}
    )
    assert rows_of(onnx_rows(options, facts))["tf32 products"] == status


def test_a_gpu_that_started_and_ran_nothing_fell_back():
    events = [event("n", "MatMul", "CPUExecutionProvider")]
    profile = read_profile(events, "CUDAExecutionProvider", np.zeros(1))
    options = OnnxOptions(providers=("cuda", "cpu"), optimization="none")
    rows = rows_of(onnx_rows(options, cuda_facts(profile=profile)))
    assert rows["provider"] == rows["node placement"] == "fell back"


def rounded_to(array: np.ndarray, bits: int) -> np.ndarray:
    """float32 with fewer bits after the point, rounded."""
    drop = 23 - bits
    whole = array.view(np.uint32).astype(np.uint64) + (1 << (drop - 1))
    return ((whole >> drop) << drop).astype(np.uint32).view(np.float32)


def test_the_canary_tells_number_formats_apart():
    product = make_product()
    seen = [precision_of(product.error(product.left @ product.right))]
    for bits in (10, 7):
        left, right = rounded_to(product.left, bits), rounded_to(product.right, bits)
        seen.append(precision_of(product.error(left @ right)))
    assert seen == ["float32", "TF32", "bfloat16"]


# --- runtime strings ------------------------------------------------------------------------------


def test_options_with_a_dot_are_session_entries_and_others_stay_errors():
    options = onnx_options(parse_spec("onnx:m.onnx?session.x=1&deterministic=1&denormal=flush"))
    assert options == OnnxOptions(deterministic=True, denormal="flush", session=(("session.x", "1"),))
    for text, problem in (
        ("onnx:m.onnx?alow_fallback=1", "unknown option 'alow_fallback', did you mean 'allow_fallback'"),
        ("onnx:m.onnx?denormal=off", "denormal must be one of keep, flush"),
        ("torch:exp?session.x=1", "unknown option 'session.x'"),
        ("onnx:m.onnx?.=1", "unknown option '.'"),
    ):
        with pytest.raises(InputError, match=problem):
            load_runtime(text)


def test_options_can_be_added_to_a_runtime_string(tmp_path):
    spec = with_options(parse_spec("torch:exp@avg:5?device=cuda:1"), {"threads": "1"})
    assert str(spec) == "torch:exp@avg:5?device=cuda:1&threads=1"
    assert parse_spec(str(spec)) == spec


# --- strict ---------------------------------------------------------------------------------------


def test_strict_sets_everything_but_the_device():
    spec = strict("torch:exp@best?device=cuda&threads=8&dtype=bf16&tf32=1")
    assert spec.options == {
        "device": "cuda",
        "threads": "1",
        "dtype": "fp32",
        "tf32": "0",
        "deterministic": "1",
        "denormal": "keep",
    }
    assert strict("recorded:dir").options == {}


def test_a_strict_runtime_repeats_its_bits_whatever_the_batch(tiny_hub, segmentation, waveforms):
    for spec, kind in ((f"torch:{tiny_hub}", None), (segmentation, None), (f"torch:{tiny_hub}", "embedding")):
        runtime = load_strict(spec, kind)
        run = runtime.segment if runtime.kind == "segmentation" else runtime.embed
        whole = run(waveforms)
        np.testing.assert_array_equal(run(waveforms), whole)
        np.testing.assert_array_equal(run(waveforms[1:]), whole[1:])
        assert isinstance(runtime, OneByOne)
        assert list(runtime.stages(waveforms)) == list(runtime.wrapped.stages(waveforms))


def test_strict_says_what_remains_and_that_it_is_rounding(tiny_hub, segmentation, waveforms):
    report = strict_report(f"torch:{tiny_hub}", segmentation, waveforms)
    for name in ("baseline", "candidate"):
        assert report[f"{name} repeated"].exact
        assert report[f"{name} loaded anew"].exact
    remainder = report["baseline against candidate"]
    assert remainder.max_abs_diff < 1e-4
    assert remainder.exact or "this is rounding" in remainder.why
    assert not [finding for finding in report.findings if finding.severity == "fault"]
    assert len(report.table()) == 9
    assert {table.engine for table in report.conditions} == {"torch", "onnx"}


def test_strict_tells_a_fault_from_rounding(tiny_hub, segmentation, waveforms, tmp_path):
    model = onnx.load(parse_spec(segmentation).path)
    weight = next(t for t in model.graph.initializer if t.name.endswith("ffn1.w_1.bias"))
    array = numpy_helper.to_array(weight).copy()
    array[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, tmp_path / "bad.onnx")
    report = strict_report(f"torch:{tiny_hub}", f"onnx:{tmp_path}/bad.onnx", waveforms)
    assert (
        "this is no rounding, the candidate computes something else"
        in report["baseline against candidate"].why
    )
