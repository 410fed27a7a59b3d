"""Every network to ONNX in every precision: agreement, masks, families, refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import workbench.export as export_module
from workbench.audio import read_audio
from workbench.checkpoints import load_model
from workbench.errors import InputError
from workbench.export import ExportError, export_model, export_onnx
from workbench.export.half import rounded
from workbench.export.precision import reduce_precision
from workbench.graph_card import read_graph_card
from workbench.powerset import to_multilabel
from workbench.runtimes import load_runtime

LARGE, BASE, PYANNET = "wavlm_conformer_pruned_tiny_large", "wavlm_conformer_tiny", "pyannet_tiny"
ECAPA, RESNET = "wespeaker_ecapa_tiny", "wespeaker_resnet_tiny"


@pytest.fixture(scope="module")
def speech(shared_data):
    """Real audio to check exports on."""
    return [read_audio(shared_data / "ami" / "trn00.flac")[:160000]]


@pytest.fixture(scope="module")
def exported(golden, speech, tmp_path_factory):
    """Exported files by what they were made from, each made once; those of one model lie in one folder."""
    made, folder = {}, tmp_path_factory.mktemp("exported")

    def make(name, **options):
        key = (name, *sorted(options.items()))
        if key not in made:
            label = ".".join([name, *(f"{value}" for value in options.values())])
            path = folder / name / f"{label}.onnx"
            report = export_onnx(f"torch:{golden / name}", path, waveforms=speech, **options)
            made[key] = (path, report)
        return made[key]

    return make


@pytest.mark.parametrize(("name", "opset"), [(BASE, 18), (LARGE, 17), (PYANNET, 20)])
def test_segmentation_agrees_stage_by_stage_at_other_batches_and_lengths(exported, golden, rng, name, opset):
    path, report = exported(name, opset=opset)
    assert report.agreement.flips == 0
    assert report.agreement.real_audio
    source, file = load_runtime(f"torch:{golden / name}"), load_runtime(f"onnx:{path}?threads=1")
    assert file.geometry == source.geometry
    assert file.min_num_samples == source.min_num_samples
    for batch, num_samples in [(1, source.min_num_samples), (2, 20077), (3, 47999)]:
        waveforms = (0.1 * rng.standard_normal((batch, num_samples))).astype(np.float32)
        np.testing.assert_allclose(file.segment(waveforms), source.segment(waveforms), atol=1e-3)
    expected, found = source.stages(waveforms), file.stages(waveforms)
    assert set(found) == set(expected)
    for stage in expected:
        np.testing.assert_allclose(found[stage], expected[stage], rtol=1e-3, atol=1e-3, err_msg=stage)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_newer_opsets_export_wavlm(exported, precision):
    path, report = exported(BASE, opset=21, precision=precision)
    assert report.agreement.flip_rate <= {"fp32": 0, "fp16": 0.02, "int8": 0.2}[precision]
    card = read_graph_card(path)
    assert card.opset == 21
    assert precision != "fp16" or card.weight_types["float16"] > 0.9 * card.num_parameters
    assert precision != "int8" or card.operations["MatMulInteger"] > 0


def test_an_lstm_is_not_tied_to_one_length(exported, golden, tmp_path):
    with pytest.raises(ExportError, match="LSTM would be tied to one length of audio; opsets up to 20"):
        export_onnx(f"torch:{golden / PYANNET}", tmp_path / "m.onnx", opset=21)


@pytest.mark.parametrize("name", [LARGE, PYANNET])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_hard_head_is_the_argmax_of_the_soft_head(exported, rng, name, precision):
    path, _ = exported(name, output="multilabel", precision=precision)
    file = load_runtime(f"onnx:{path}")
    stages = file.stages((0.1 * rng.standard_normal((2, 40001))).astype(np.float32))
    expected = to_multilabel(stages["log_probs"], file.geometry.powerset)
    np.testing.assert_array_equal(stages["multilabel"], expected)


@pytest.mark.parametrize("with_fbank", [False, True])
@pytest.mark.parametrize("name", [RESNET, ECAPA])
def test_embeddings_agree_with_features_inside_or_outside(exported, golden, rng, name, with_fbank):
    path, _ = exported(name, with_fbank=with_fbank)
    source, file = load_runtime(f"torch:{golden / name}"), load_runtime(f"onnx:{path}?threads=1")
    waveforms = (0.1 * rng.standard_normal((2, 32077))).astype(np.float32)
    np.testing.assert_allclose(file.embed(waveforms), source.embed(waveforms), rtol=1e-3, atol=1e-4)
    masks = (rng.random((2, 3, 99)) > 0.5).astype(np.float32)
    masks[0, 1] = 0
    if (name, with_fbank) == (ECAPA, True):
        with pytest.raises(InputError, match="masks cannot choose what it hears"):
            file.embed(waveforms, masks)
    else:
        np.testing.assert_allclose(
            file.embed(waveforms, masks), source.embed(waveforms, masks), rtol=1e-3, atol=1e-4
        )
    names = [value.name for value in onnx.load(path).graph.input]
    assert names[0] == ("waveforms" if with_fbank else "fbank")


@pytest.mark.parametrize("name", [LARGE, RESNET])
def test_lower_precisions_are_smaller_and_form_a_family(exported, name):
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        path, report = exported(name, precision=precision)
        sizes[precision] = report.num_bytes
        agreement = report.agreement
        assert agreement.criterion
        assert agreement.flip_rate <= {"fp32": 0, "fp16": 0.02, "int8": 0.2}[precision]
        assert agreement.min_cosine >= {"fp32": 0.99999, "fp16": 0.999, "int8": 0.98}[precision]
    assert sizes["fp16"] < 0.95 * sizes["fp32"]
    assert sizes["int8"] < sizes["fp32"]
    family = {
        member.precision: member for member in read_graph_card(path).family if "fbank" not in member.file
    }
    assert {p: member.num_bytes for p, member in family.items() if p in sizes}.keys() == sizes.keys()
    assert family["int8"].max_abs_diff > family["fp16"].max_abs_diff > family["fp32"].max_abs_diff


def test_half_precision_takes_and_gives_single_precision(exported):
    path, _ = exported(LARGE, precision="fp16")
    card = read_graph_card(path)
    assert card.inputs == {"waveforms": "float (batch, 1, samples)"}
    assert card.outputs == {"log_probs": "float (batch, frames, 11)"}
    assert card.weight_types["float16"] > card.weight_types.get("float", 0)
    assert card.precision == "fp16"


def test_half_precision_lstms_are_refused_before_anything_crashes(golden, tmp_path):
    with pytest.raises(
        InputError, match="fp16 is not offered for models with LSTM layers.*segmentation fault"
    ):
        export_onnx(f"torch:{golden / PYANNET}", tmp_path / "m.onnx", precision="fp16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("precision", "noise"), [("fp16", 0.05), ("int8", 1.0)])
@pytest.mark.parametrize("name", [BASE, RESNET])
def test_a_low_precision_file_that_is_really_wrong_is_not_left_behind(
    golden, tmp_path, monkeypatch, precision, noise, name
):
    """The bounds are generous, but a layer of noise is far outside of them."""

    def damage(path, wanted):
        reduce_precision(path, wanted)
        model, rng = onnx.load(str(path)), np.random.default_rng(0)
        for tensor in model.graph.initializer:
            if (
                tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
                and len(tensor.dims) > 1
            ):
                array = onnx.numpy_helper.to_array(tensor)
                changed = array + noise * array.std() * rng.standard_normal(array.shape)
                tensor.CopyFrom(onnx.numpy_helper.from_array(changed.astype(array.dtype), tensor.name))
        onnx.save(model, str(path))

    monkeypatch.setattr(export_module, "reduce_precision", damage)
    with pytest.raises(ExportError, match="not written, as the exported file disagrees"):
        export_onnx(f"torch:{golden / name}", tmp_path / "m.onnx", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_rounding_keeps_epsilons_and_finite_numbers():
    values = np.array([1e-8, -1e-8, 0, 1e6, -1e6, 0.5], dtype=np.float32)
    halves = rounded(values)
    assert np.isfinite(halves).all()
    assert (np.sign(halves) == np.sign(values)).all()


def test_options_that_do_not_go_together_are_refused(golden, tmp_path):
    with pytest.raises(InputError, match="with_fbank is for embedding models"):
        export_onnx(f"torch:{golden / BASE}", tmp_path / "m.onnx", with_fbank=True)
    with pytest.raises(InputError, match="precision must be one of fp32, fp16, int8"):
        export_onnx(f"torch:{golden / BASE}", tmp_path / "m.onnx", precision="int4")


def test_an_ecapa_that_answers_an_empty_mask_is_refused(golden, tmp_path, monkeypatch):
    from workbench.runtimes.onnx_runtime import OnnxRuntime

    embed = OnnxRuntime.embed
    monkeypatch.setattr(OnnxRuntime, "embed", lambda self, *given: np.nan_to_num(embed(self, *given)))
    with pytest.raises(ExportError, match="an empty mask gives an embedding, expected NaN"):
        export_model(load_model(golden / ECAPA), tmp_path / "m.onnx")


def test_runtimes_of_two_engines_work_in_one_pipeline(exported, golden):
    from workbench.pipeline import Runtimes, load_hub

    hub = golden / "hub_tiny"
    path, _ = exported("hub_tiny", output="embedding")
    mixed = Runtimes.load(f"torch:{hub}", f"onnx:{path}", hub / "plda")
    waveforms = torch.randn(1, 64000, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(
        mixed.embedding.embed(waveforms), load_hub(hub)[0].embedding.embed(waveforms), rtol=1e-3, atol=1e-4
    )
