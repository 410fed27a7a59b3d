"""The ladder names the stage that is to blame; the front end is explained setting by setting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hubs import make_speech
from onnx import helper, numpy_helper

from workbench.agreement.differences import Tally
from workbench.agreement.fbank_variants import FrontEndSettings, fbank_variant
from workbench.agreement.front_end import check_front_end, explain_features
from workbench.agreement.layers import LadderResult, layer_ladder
from workbench.errors import InputError
from workbench.export import export_onnx
from workbench.runtimes import Runtime, load_runtime
from workbench.runtimes.geometry import geometry_to_json
from workbench.runtimes.onnx_matching import likeness
from workbench.runtimes.onnx_stages import part_of

CULPRIT = "conformer_0_conv"


@pytest.fixture(scope="module")
def torch_side(tiny_hub) -> Runtime:
    return load_runtime(f"torch:{tiny_hub}?threads=1")


@pytest.fixture(scope="module")
def speech() -> dict[str, np.ndarray]:
    """Three recordings of two chunks each."""
    return {f"speech{seed}": make_speech(4.0, seed) for seed in range(3)}


@pytest.fixture(scope="module")
def model(tiny_hub) -> onnx.ModelProto:
    return onnx.load(tiny_hub / "onnx" / "segmentation.onnx")


def saved(model: onnx.ModelProto, path: Path) -> Runtime:
    onnx.save(model, path)
    return load_runtime(f"onnx:{path}?threads=1")


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def with_changed_weight(model: onnx.ModelProto, ending: str, change: float = 0.5) -> onnx.ModelProto:
    """One number of one weight changed."""
    changed = copied(model)
    weight = next(t for t in changed.graph.initializer if t.name.endswith(ending))
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += change
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return changed


def clipped(model: onnx.ModelProto, stage: str, limit: float) -> onnx.ModelProto:
    """The tensor of a stage cannot get above `limit`."""
    changed = copied(model)
    tensor = json.loads(next(e.value for e in model.metadata_props if e.key == "stages"))[stage]
    number = next(i for i, node in enumerate(changed.graph.node) if tensor in node.output)
    maker = changed.graph.node[number]
    maker.output[list(maker.output).index(tensor)] = "before_clip"
    changed.graph.initializer.append(numpy_helper.from_array(np.array(limit, np.float32), "limit"))
    changed.graph.node.insert(
        number + 1, helper.make_node("Min", ["before_clip", "limit"], [tensor], name="clip")
    )
    return changed


def verdicts(result: LadderResult) -> dict[str, str]:
    return {stage.stage: stage.verdict for stage in result.stages}


# --- the network ----------------------------------------------------------------------------------


def test_a_faithful_export_agrees_at_every_stage(torch_side, model, speech, tmp_path):
    result = layer_ladder(torch_side, saved(model, tmp_path / "m.onnx"), speech)
    assert list(verdicts(result)) == list(torch_side.stages(speech["speech0"][None, :32000]))
    assert set(verdicts(result).values()) == {"agrees"}
    assert result.first_divergence is None
    assert not result.findings
    assert {stage.chunks for stage in result.stages} == {6}
    assert all(stage.snr > 100 and stage.cosine > 0.999999 for stage in result.stages)
    table = result.table()
    assert {"stage", "max_abs_diff", "relative", "snr", "cosine", "own_max_abs_diff"} <= set(table.columns)
    json.dumps(result.to_dict())


@pytest.mark.parametrize("named", [True, False])
def test_one_changed_weight_is_traced_to_its_layer(torch_side, model, speech, tmp_path, named):
    changed = with_changed_weight(model, "conformer_layer.0.conv.pointwise_conv2.bias")
    if not named:  # a file of another program: other names, no list of stages
        changed = renamed(changed)
    result = layer_ladder(torch_side, saved(changed, tmp_path / "bad.onnx"), speech)
    found = verdicts(result)
    before = list(found)[: list(found).index(CULPRIT)]
    after = list(found)[list(found).index(CULPRIT) + 1 :]
    assert found[CULPRIT] == "own"
    assert {found[stage] for stage in before} == {"agrees"}
    assert {found[stage] for stage in after} == {"inherited"}
    assert result.first_divergence.stage == CULPRIT
    assert [stage.stage for stage in result.culprits] == [CULPRIT]
    assert [finding.kind for finding in result.findings] == ["first_divergence", "own_error"]
    assert bool(result.matched) is not named
    # replaced by torch's, the culprit leaves nothing of the error
    left = result.substitution.set_index("stage")["output_max_abs_diff"]
    assert left[""] > 1e-3 > 1e-4 > left[CULPRIT]


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, its tensors called t0, t1 …, without our list of stages."""
    other = copied(model)
    kept = {value.name for value in [*other.graph.input, *other.graph.output]}
    kept |= {tensor.name for tensor in other.graph.initializer}
    names: dict[str, str] = {}
    for node in other.graph.node:
        for several in (node.input, node.output):
            for index, name in enumerate(several):
                if name and name not in kept:
                    several[index] = names.setdefault(name, f"t{len(names)}")
    fields = {entry.key: entry.value for entry in other.metadata_props if entry.key != "stages"}
    del other.metadata_props[:]
    helper.set_model_props(other, fields)
    return other


def test_a_fault_that_only_the_third_recording_shows_is_found(torch_side, model, speech, tmp_path):
    quiet = {uri: 0.02 * waveform for uri, waveform in speech.items()}
    loudest = max(torch_side.stages(w[None])["fbank"].max() for w in quiet.values())
    loud = speech["speech2"]
    assert torch_side.stages(loud[None])["fbank"].max() > loudest + 1
    candidate = saved(clipped(model, "fbank", float(loudest) + 0.5), tmp_path / "clip.onnx")
    assert layer_ladder(torch_side, candidate, quiet).first_divergence is None
    result = layer_ladder(torch_side, candidate, quiet | {"speech2": loud})
    first = result.first_divergence
    assert (first.stage, first.verdict, first.worst_uri) == ("fbank", "own", "speech2")
    samples = result.samples[result.samples["stage"] == "fbank"]
    assert set(samples.loc[samples["relative"] > 1e-4, "uri"]) == {"speech2"}


def test_a_small_memory_cap_takes_more_passes_and_finds_the_same(torch_side, model, speech, tmp_path):
    candidate = saved(with_changed_weight(model, "conv.pointwise_conv2.bias"), tmp_path / "bad.onnx")
    two = {uri: speech[uri] for uri in ("speech0", "speech1")}
    whole = layer_ladder(torch_side, candidate, two)
    parts = layer_ladder(torch_side, candidate, two, memory_cap=300_000)
    assert whole.passes == 1 < parts.passes
    assert verdicts(parts) == verdicts(whole)
    np.testing.assert_allclose(parts.table()["max_abs_diff"], whole.table()["max_abs_diff"], atol=1e-5)


def test_half_precision_starts_behind_the_front_end(tiny_hub, torch_side, speech, tmp_path):
    export_onnx(f"torch:{tiny_hub}", tmp_path / "half.onnx", precision="fp16")
    result = layer_ladder(torch_side, load_runtime(f"onnx:{tmp_path}/half.onnx"), {"a": speech["speech0"]})
    assert result.first_divergence.stage == "proj"
    assert verdicts(result)["fbank"] == "agrees"
    assert result.findings[-1].kind == "own_error_everywhere"
    assert len(result.substitution) <= 7  # nothing, the first, and the worst five


def test_two_torch_networks_are_told_apart_by_the_layer_that_was_trained_on(tiny_hub, torch_side, speech):
    import torch

    other = load_runtime(f"torch:{tiny_hub}?threads=1")
    with torch.no_grad():
        other.network.conformer.conformer_layer[0].mha.mha.linearV.weight[0, 0] += 0.5
    result = layer_ladder(torch_side, other, {"a": speech["speech0"]})
    assert [stage.stage for stage in result.culprits] == ["conformer_0_mha"]
    assert set(list(verdicts(result).values())[5:]) == {"inherited"}


def test_an_embedding_model_has_its_ladder_too(tiny_hub, tmp_path, speech):
    baseline = load_runtime(f"torch:{tiny_hub}?threads=1", kind="embedding")
    source = onnx.load(tiny_hub / "onnx" / "embedding.onnx")
    assert layer_ladder(baseline, saved(source, tmp_path / "m.onnx"), speech).first_divergence is None
    changed = with_changed_weight(source, "seg_1.bias", 1.0)
    result = layer_ladder(baseline, saved(changed, tmp_path / "bad.onnx"), speech)
    assert [stage.stage for stage in result.culprits] == ["embedding"]
    assert verdicts(result)["pool"] == "agrees"


@pytest.fixture
def recorded(torch_side, speech, tmp_path):
    """A recorded folder with a few stages, its logits spoilt in one recording."""
    for uri, waveform in speech.items():
        stages = torch_side.stages(waveform.reshape(2, 32000))
        arrays = {name: stages[name] for name in ("fbank", "lnorm", "conformer_out", "log_probs")}
        if uri == "speech1":
            arrays["conformer_out"] = np.roll(arrays["conformer_out"], 1, axis=1)
        np.savez(tmp_path / f"{uri}.npz", **arrays)
    fields = geometry_to_json(torch_side.geometry) | {"chunk_step": 2.0}
    (tmp_path / "geometry.json").write_text(json.dumps(fields))
    return tmp_path


def test_recorded_arrays_join_with_the_stages_they_have(torch_side, recorded, speech):
    result = layer_ladder(torch_side, load_runtime(f"recorded:{recorded}"), speech)
    assert verdicts(result) == {
        "fbank": "agrees",
        "lnorm": "agrees",
        "conformer_out": "differs",  # what it was computed from cannot be changed any more
        "log_probs": "agrees",
    }
    assert result.first_divergence.worst_uri == "speech1"
    assert "proj" in result.only_baseline
    backwards = layer_ladder(load_runtime(f"recorded:{recorded}"), torch_side, speech)
    assert backwards.first_divergence.stage == "conformer_out"


def test_recordings_that_do_not_fit_fail_alone(torch_side, recorded, speech):
    with np.load(recorded / "speech2.npz") as content:
        arrays = dict(content)
    np.savez(recorded / "speech2.npz", **{name: array[:1] for name, array in arrays.items()})
    result = layer_ladder(torch_side, load_runtime(f"recorded:{recorded}"), speech)
    (failed,) = result.failed
    assert failed["uri"] == "speech2"
    assert "1 chunks in fbank, the other side 2" in failed["error"]


def test_recordings_that_are_missing_or_damaged_fail_alone(torch_side, recorded, speech):
    (recorded / "speech0.npz").unlink()
    (recorded / "speech2.npz").write_bytes(b"no zip")
    result = layer_ladder(torch_side, load_runtime(f"recorded:{recorded}"), speech)
    assert {failed["uri"] for failed in result.failed} == {"speech0", "speech2"}
    assert result.first_divergence.worst_uri == "speech1"


def test_runtimes_without_a_common_stage_are_refused(torch_side, recorded, speech):
    from fakes import FakeEmbedding

    with pytest.raises(InputError, match="have no stage in common"):
        layer_ladder(torch_side, FakeEmbedding(), speech)


def test_a_part_of_a_graph_goes_on_from_what_it_is_given():
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"]),
        helper.make_node("Add", ["a", "two"], ["b"]),
        helper.make_node("Mul", ["b", "a"], ["c"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [None])],
        [value("c", onnx.TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.array([2.0], np.float32), "two")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    part = part_of(model, ["b"], {"a": "tensor(float)"})
    assert [value.name for value in part.graph.input] == ["given/a"]
    assert [node.op_type for node in part.graph.node] == ["Add"]
    both = part_of(model, ["a", "c"], {"b": "tensor(float16)"})
    assert [value.name for value in both.graph.input] == ["x", "given/b"]
    assert both.graph.input[1].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert [node.op_type for node in both.graph.node] == ["Mul", "Mul"]


def test_transposed_stages_are_recognised(rng):
    stage = rng.standard_normal((2, 7, 3)).astype(np.float32)
    score, axes = likeness(stage, stage.transpose(2, 0, 1))
    assert score == pytest.approx(1)
    np.testing.assert_array_equal(stage.transpose(2, 0, 1).transpose(axes), stage)
    assert likeness(stage, rng.standard_normal((2, 7, 4)))[0] == 0


def test_sums_over_chunks_are_those_over_all_values(rng):
    tally = Tally("x", 1e-3)
    baseline = rng.standard_normal((5, 40, 3))
    candidate = baseline + 0.01 * rng.standard_normal(baseline.shape)
    for chunk in range(5):
        tally.add("a", chunk, baseline[chunk : chunk + 1], candidate[chunk : chunk + 1])
    difference = candidate - baseline
    assert tally.max_abs_diff == pytest.approx(np.abs(difference).max())
    assert tally.mean_abs_diff == pytest.approx(np.abs(difference).mean())
    assert tally.snr == pytest.approx(10 * np.log10((baseline**2).sum() / (difference**2).sum()))
    product = (baseline * candidate).sum() / np.linalg.norm(baseline) / np.linalg.norm(candidate)
    assert tally.cosine == pytest.approx(product)
    assert tally.chunks_over == 5


def test_what_is_not_a_number_on_one_side_alone_is_over_any_tolerance():
    tally = Tally("x", 1.0)
    baseline = np.array([[0.0, -np.inf, 1.0]])
    tally.add("a", 0, baseline, baseline.copy())
    assert (tally.chunks_over, tally.non_finite) == (0, 0)
    tally.add("a", 1, baseline, np.array([[np.nan, -np.inf, 1.0]]))
    assert (tally.chunks_over, tally.non_finite, tally.worst_index) == (1, 1, (0,))
    tally.add("a", 2, baseline, baseline[:, :2])
    assert "shape (2,) instead of (3,)" in tally.problem


# --- the front end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 1.0},
        {"window": "povey"},
        {"window": "hann"},
        {"periodic": True},
        {"preemphasis": 0.0},
        {"remove_dc": False},
        {"power": False},
        {"centred": False},
        {"window": "povey", "scale": 1.0},
    ],
)
def test_the_setting_behind_other_features_is_named(change):
    waveform = make_speech(2.0)[None]
    baseline = fbank_variant(waveform, FrontEndSettings()).astype(np.float32)
    candidate = fbank_variant(waveform, replace(FrontEndSettings(), **change)).astype(np.float32)
    check = explain_features(baseline, candidate, waveform)
    assert set(check.causes) == set(change)
    assert check.residual < 1e-3 < check.max_abs_diff
    for name, value in change.items():
        assert getattr(check.candidate_settings, name) == value


@pytest.mark.parametrize("change", [{}, {"window": "povey"}])
def test_dither_is_recognised_by_where_it_shakes(change):
    rng = np.random.default_rng(7)  # not the noise that is in the speech already
    waveform = make_speech(3.0)[None]
    baseline = fbank_variant(waveform, FrontEndSettings())
    noisy = waveform + rng.standard_normal(waveform.shape) / 32768
    candidate = fbank_variant(noisy, replace(FrontEndSettings(), **change))
    check = explain_features(baseline, candidate, waveform)
    assert set(check.causes) == {"dither", *change}
    assert check.candidate_settings.dither == pytest.approx(1.0, abs=0.2)


def test_front_ends_of_two_runtimes_are_compared_apart(tiny_hub, speech, tmp_path):
    baseline = load_runtime(f"torch:{tiny_hub}", kind="embedding")
    candidate = load_runtime(f"onnx:{tiny_hub}/onnx/embedding.onnx")
    check = check_front_end(baseline, candidate, speech)
    assert check.agrees
    assert not check.findings
    geometry = geometry_to_json(load_runtime(f"torch:{tiny_hub}").geometry)
    (tmp_path / "geometry.json").write_text(json.dumps(geometry))
    for uri, waveform in speech.items():
        features = fbank_variant(waveform[None], FrontEndSettings(window="povey"))
        np.savez(tmp_path / f"{uri}.npz", fbank=features, embeddings=np.zeros((1, 1, 4)))
    check = check_front_end(baseline, load_runtime(f"recorded:{tmp_path}"), speech)
    assert check.causes == ("window",)
    (finding,) = check.findings
    assert "the window: povey instead of hamming" in finding.words


class Dithering:
    """An embedding runtime whose features are random."""

    kind, geometry, min_num_samples = "embedding", None, 400

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        noisy = waveforms + self.rng.standard_normal(waveforms.shape) / 32768
        return {"fbank": fbank_variant(noisy, FrontEndSettings()).astype(np.float32)}


def test_features_that_change_from_run_to_run_are_dithered(tiny_hub, speech):
    baseline = load_runtime(f"torch:{tiny_hub}", kind="embedding")
    check = check_front_end(baseline, Dithering(), {"a": speech["speech0"]})
    assert "dither" in check.causes


def test_features_of_another_shape_are_described(tiny_hub, speech):
    class Swapped(Dithering):
        def stages(self, waveforms):
            return {"fbank": super().stages(waveforms)["fbank"].transpose(0, 2, 1)}

    baseline = load_runtime(f"torch:{tiny_hub}", kind="embedding")
    check = check_front_end(baseline, Swapped(), {"a": speech["speech0"]})
    assert "the axes of time and bands are swapped" in check.words
    assert not check.agrees
