"""One contract over every runtime, and what is particular to each."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from workbench.errors import InputError, RecordingError
from workbench.runtimes import Runtime, load_runtime, parse_spec
from workbench.runtimes.geometry import geometry_to_json
from workbench.runtimes.onnx_session import choose_providers
from workbench.runtimes.spec import OnnxOptions, TorchOptions, onnx_options, torch_options


@pytest.fixture
def waveforms(rng) -> np.ndarray:
    return (0.1 * rng.standard_normal((2, 20077))).astype(np.float32)


@pytest.fixture
def masks(rng) -> np.ndarray:
    masks = (rng.random((2, 3, 51)) > 0.5).astype(np.float32)
    masks[0, 2] = 0  # a speaker who says nothing
    return masks


@pytest.fixture(params=["torch", "onnx"])
def segmentation(request, tiny_hub) -> Runtime:
    specs = {"torch": f"torch:{tiny_hub}", "onnx": f"onnx:{tiny_hub}/onnx/segmentation.onnx"}
    return load_runtime(specs[request.param])


@pytest.fixture(params=["torch", "onnx"])
def embedding(request, tiny_hub) -> Runtime:
    specs = {"torch": f"torch:{tiny_hub}", "onnx": f"onnx:{tiny_hub}/onnx/embedding.onnx"}
    return load_runtime(specs[request.param], kind="embedding")


@pytest.fixture
def recorded(tiny_hub, waveforms, tmp_path):
    """A recorded folder of two recordings of one chunk each."""
    runtime = load_runtime(f"torch:{tiny_hub}")
    chunks = np.pad(waveforms, ((0, 0), (0, 32000 - 20077)))
    for uri, chunk in zip("ab", chunks, strict=True):
        np.savez(
            tmp_path / f"{uri}.npz",
            log_probs=runtime.segment(chunk[None]),
            embeddings=np.full((1, 4, 8), np.nan),
        )
    (tmp_path / "geometry.json").write_text(
        json.dumps(geometry_to_json(runtime.geometry) | {"created_by": "test"})
    )
    return tmp_path


# --- the contract -------------------------------------------------------------------------------


def test_every_runtime_satisfies_the_protocol(segmentation, embedding, recorded):
    for runtime in (segmentation, embedding, load_runtime(f"recorded:{recorded}")):
        assert isinstance(runtime, Runtime)


def test_segment_gives_log_probabilities_on_the_frames_of_the_geometry(segmentation, waveforms):
    log_probs = segmentation.segment(waveforms)
    geometry = segmentation.geometry
    assert log_probs.dtype == np.float32
    assert log_probs.shape == (2, 1 + int(20077 / 16000 / geometry.frame_step), len(geometry.powerset))
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1, atol=1e-5)


def test_embed_gives_one_embedding_per_mask(embedding, waveforms, masks):
    several = embedding.embed(waveforms, masks)
    assert several.dtype == np.float32
    assert several.shape[:2] == (2, 3)
    assert np.isfinite(several).all()
    for speaker in range(3):
        np.testing.assert_allclose(
            embedding.embed(waveforms, masks[:, speaker]), several[:, speaker], atol=1e-5
        )


def test_without_masks_all_frames_count(embedding, waveforms):
    everything = embedding.embed(waveforms)
    assert everything.ndim == 2
    np.testing.assert_allclose(embedding.embed(waveforms, np.ones((2, 51))), everything, atol=1e-5)


def test_the_shortest_waveform_gives_a_finite_embedding(embedding):
    assert embedding.min_num_samples == 400
    assert np.isfinite(embedding.embed(np.full((1, 400), 0.1))).all()
    with pytest.raises(InputError, match="at least 400 samples for this model, got 399"):
        embedding.embed(np.zeros((1, 399)))


def test_stages_end_in_the_output(segmentation, embedding, waveforms):
    stages = segmentation.stages(waveforms)
    assert list(stages)[:3] == ["fbank", "proj", "lnorm"]
    np.testing.assert_allclose(stages["log_probs"], segmentation.segment(waveforms), atol=1e-5)
    stages = embedding.stages(waveforms)
    assert list(stages) == ["fbank", "conv1", "layer1", "layer2", "layer3", "layer4", "pool", "embedding"]
    np.testing.assert_allclose(stages["embedding"], embedding.embed(waveforms), atol=1e-5)


def test_a_runtime_of_the_wrong_kind_says_so(segmentation, embedding, waveforms):
    with pytest.raises(InputError, match="is a segmentation model and gives no speaker embeddings"):
        segmentation.embed(waveforms)
    with pytest.raises(InputError, match="is a speaker embedding model and cannot segment"):
        embedding.segment(waveforms)
    assert embedding.geometry is None


def test_waveforms_and_masks_of_the_wrong_shape_are_refused(segmentation, embedding, waveforms):
    with pytest.raises(InputError, match=r"waveforms must have shape \(batch, num_samples\), got \(20077,\)"):
        segmentation.segment(waveforms[0])
    with pytest.raises(InputError, match=r"masks must have shape \(2, num_frames\)"):
        embedding.embed(waveforms, np.ones((3, 51)))


def test_torch_and_onnx_agree_stage_by_stage(tiny_hub, waveforms, masks):
    for kind in ("segmentation", "embedding"):
        baseline = load_runtime(f"torch:{tiny_hub}", kind)
        candidate = load_runtime(f"onnx:{tiny_hub}/onnx/{kind}.onnx")
        expected, found = baseline.stages(waveforms), candidate.stages(waveforms)
        assert list(found) == list(expected)
        for stage in expected:
            np.testing.assert_allclose(found[stage], expected[stage], rtol=1e-4, atol=1e-5, err_msg=stage)
        np.testing.assert_array_equal(found["fbank"], expected["fbank"])
    np.testing.assert_allclose(
        candidate.embed(waveforms, masks), baseline.embed(waveforms, masks), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "options", ["threads=1", "optimization=none", "providers=cuda,cpu", "providers=cpu&tf32=0"]
)
def test_onnx_options_do_not_change_the_decisions(tiny_hub, waveforms, options):
    path = tiny_hub / "onnx" / "segmentation.onnx"
    baseline, candidate = load_runtime(f"onnx:{path}"), load_runtime(f"onnx:{path}?{options}")
    np.testing.assert_allclose(candidate.segment(waveforms), baseline.segment(waveforms), atol=1e-5)


# --- torch --------------------------------------------------------------------------------------


def test_torch_options_hold_for_the_call_alone(tiny_hub, waveforms):
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    seen = []
    runtime = load_runtime(f"torch:{tiny_hub}?threads=2&deterministic=1")
    runtime.network.register_forward_hook(
        lambda *_: seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
    )
    runtime.segment(waveforms)
    assert seen == [(2, True)]
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_bfloat16_changes_numbers_but_leaves_features_alone(tiny_hub, waveforms):
    full, half = (
        load_runtime(f"torch:{tiny_hub}?dtype={dtype}").stages(waveforms) for dtype in ("fp32", "bf16")
    )
    np.testing.assert_array_equal(half["fbank"], full["fbank"])
    assert 1e-4 < np.abs(half["log_probs"] - full["log_probs"]).max() < 1


def test_the_trunk_runs_once_for_all_speakers(tiny_hub, waveforms, masks):
    runtime = load_runtime(f"torch:{tiny_hub}", kind="embedding")
    batches = []
    runtime.network.resnet.layer4.register_forward_hook(lambda _m, _i, output: batches.append(len(output)))
    runtime.embed(waveforms, masks)
    assert batches == [len(waveforms)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_an_input_error(tiny_hub):
    with pytest.raises(InputError, match="device 'cuda' is not available"):
        load_runtime(f"torch:{tiny_hub}?device=cuda")
    assert load_runtime(f"torch:{tiny_hub}?device=auto").device.type == "cpu"


# --- ONNX Runtime -------------------------------------------------------------------------------


def test_a_provider_that_is_not_there_needs_cpu_beside_it():
    with pytest.raises(InputError, match="provider 'tensorrt' is not part of this ONNX Runtime"):
        choose_providers(OnnxOptions(providers=("tensorrt",)), "onnx:m.onnx")
    assert choose_providers(OnnxOptions(providers=("tensorrt", "cpu")), "onnx:m.onnx") == [
        "CPUExecutionProvider"
    ]


def test_an_unknown_provider_names_the_nearest():
    with pytest.raises(InputError, match=r"unknown provider 'cdua', did you mean 'cuda'\?"):
        choose_providers(OnnxOptions(providers=("cdua",)), "onnx:m.onnx")


def test_tf32_reaches_the_cuda_provider(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for tf32 in (False, True):
        chosen = choose_providers(OnnxOptions(providers=("cuda",), tf32=tf32), "onnx:m.onnx")
        assert chosen == [("CUDAExecutionProvider", {"use_tf32": int(tf32)})]


def edited(source, target, edit):
    """A copy of a model file with other metadata."""
    model = onnx.load(source)
    fields = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, edit(fields))
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda f: {}, "lacks the metadata kind, output, sample_rate, geometry, powerset"),
        (lambda f: {k: v for k, v in f.items() if k != "powerset"}, "lacks the metadata powerset"),
        (lambda f: f | {"kind": "transcription"}, "kind must be one of segmentation, embedding"),
        (lambda f: f | {"output": "logits"}, "output must be one of powerset, multilabel"),
        (lambda f: f | {"geometry": "{"}, "metadata geometry is not valid JSON"),
        (lambda f: f | {"geometry": "{}"}, "the geometry lacks sample_rate, chunk_duration"),
        (lambda f: f | {"powerset": "[[0, 0]]"}, "must list different speakers"),
    ],
)
def test_foreign_metadata_says_what_is_missing(tiny_hub, tmp_path, change, problem):
    path = edited(tiny_hub / "onnx" / "segmentation.onnx", tmp_path / "foreign.onnx", change)
    with pytest.raises(InputError, match=problem) as caught:
        load_runtime(f"onnx:{path}")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07"])
def test_a_file_that_is_no_model_is_an_input_error(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.onnx: is not a model that ONNX Runtime"):
        load_runtime(f"onnx:{path}")


def test_a_folder_or_nothing_is_no_model(tiny_hub, tmp_path):
    with pytest.raises(InputError, match="is a folder; give a file, such as .*onnx/embedding.onnx"):
        load_runtime(f"onnx:{tiny_hub}")
    with pytest.raises(InputError, match="no such file"):
        load_runtime(f"onnx:{tmp_path / 'nothing.onnx'}")


def test_a_failing_run_is_the_recordings_problem(tiny_hub):
    runtime = load_runtime(f"onnx:{tiny_hub}/onnx/embedding.onnx")
    with pytest.raises(RecordingError, match=r"failed on fbank \(1, 9, 8\)"):
        runtime._run(
            runtime.session,
            {"fbank": np.zeros((1, 9, 8), np.float32), "weights": np.ones((1, 1, 1), np.float32)},
        )


@pytest.mark.parametrize("engine", ["onnx", "recorded"])
def test_torch_is_not_imported_where_it_does_not_run(tiny_hub, recorded, engine):
    spec = f"onnx:{tiny_hub}/onnx/segmentation.onnx" if engine == "onnx" else f"recorded:{recorded}"
    code = (
        "import sys; from workbench import load_runtime; load_runtime(sys.argv[1]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, spec], check=True)


# --- recorded -----------------------------------------------------------------------------------


def test_recorded_arrays_are_read_by_name(recorded, tiny_hub, waveforms):
    runtime = load_runtime(f"recorded:{recorded}")
    assert runtime.uris == ("a", "b")
    chunk = np.pad(waveforms[:1], ((0, 0), (0, 32000 - 20077)))
    source = load_runtime(f"torch:{tiny_hub}")
    np.testing.assert_allclose(runtime.log_probs("a"), source.segment(chunk), atol=1e-6)
    assert runtime.embeddings("a").shape == (1, 4, 8)
    assert runtime.geometry == source.geometry
    with pytest.raises(InputError, match="no recording 'c' here"):
        runtime.log_probs("c")
    with pytest.raises(InputError, match="holds arrays recorded earlier and cannot run on a waveform"):
        runtime.segment(chunk)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((1, 101)), r"log_probs must have shape \(num_chunks, num_frames, num_powerset_classes\)"),
        (np.zeros((1, 101, 7)), "log_probs has 7 classes, but geometry.json lists 11"),
        (np.zeros((1, 50, 11)), "50 frames per chunk, but 2 s in steps of 0.02 s make about 100"),
        (np.full((1, 101, 11), np.nan), "holds values that are not finite"),
        (np.array([[["a"]]]), "must hold numbers"),
    ],
)
def test_recorded_arrays_that_do_not_fit_the_geometry_are_refused(recorded, array, problem):
    np.savez(recorded / "a.npz", log_probs=array)
    with pytest.raises(InputError, match=problem):
        load_runtime(f"recorded:{recorded}").log_probs("a")


def test_recorded_folders_that_are_incomplete_say_what_is_missing(recorded, tmp_path):
    np.savez(recorded / "a.npz", log_probs=np.zeros((1, 101, 11)))
    with pytest.raises(InputError, match="holds no embeddings, so it cannot serve as the embedding model"):
        load_runtime(f"recorded:{recorded}", kind="embedding")
    (recorded / "a.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"a\.npz: is not a readable npz file"):
        load_runtime(f"recorded:{recorded}").log_probs("a")  # the others can still be read
    (recorded / "b.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"b\.npz: is not a readable npz file"):
        load_runtime(f"recorded:{recorded}")
    (recorded / "geometry.json").write_text('{"sample_rate": 16000}')
    with pytest.raises(InputError, match=r"geometry\.json: the geometry lacks chunk_duration"):
        load_runtime(f"recorded:{recorded}")
    (recorded / "geometry.json").unlink()
    with pytest.raises(InputError, match=r"geometry\.json: no such file; it must say sample_rate"):
        load_runtime(f"recorded:{recorded}")


# --- runtime strings ----------------------------------------------------------------------------


def test_runtime_strings_are_taken_apart():
    spec = parse_spec("torch:exp@best?device=cuda&tf32=1&deterministic=1&dtype=bf16&threads=3")
    assert (spec.engine, str(spec.path), spec.checkpoint) == ("torch", "exp", "best")
    assert torch_options(spec) == TorchOptions(
        device="cuda", tf32=True, deterministic=True, dtype="bf16", threads=3
    )
    spec = parse_spec("onnx:m.onnx?providers=cuda,cpu&tf32=0&optimization=none&threads=1")
    assert onnx_options(spec) == OnnxOptions(providers=("cuda", "cpu"), optimization="none", threads=1)
    assert parse_spec("recorded:a@b").checkpoint is None


def test_marks_inside_an_existing_path_belong_to_it(tmp_path):
    folder = tmp_path / "a@b?c"
    folder.mkdir()
    spec = parse_spec(f"torch:{folder}")
    assert (spec.path, spec.checkpoint, spec.options) == (folder, None, {})
    spec = parse_spec(f"torch:{folder}@best?threads=1")
    assert (spec.path, spec.checkpoint, spec.options) == (folder, "best", {"threads": "1"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models/demo", "must start with torch:, onnx: or recorded:"),
        ("onxx:m.onnx", r"did you mean 'onnx'\?"),
        ("torch:", "no path after torch:"),
        ("torch:exp@", "no checkpoint after '@'"),
        ("torch:exp?device", "options must read name=value"),
        ("torch:exp?threads=1&threads=2", "option 'threads' is given twice"),
        ("torch:exp?devcie=cpu", r"unknown option 'devcie', did you mean 'device'\?"),
        ("torch:exp?providers=cpu", "unknown option 'providers'"),
        ("torch:exp?threads=0", "threads must be a whole number above 0, got '0'"),
        ("torch:exp?tf32=yes", "tf32 must be one of 0, 1, got 'yes'"),
        ("torch:exp?dtype=fp8", "dtype must be one of fp32, bf16, fp16"),
        ("onnx:m.onnx?optimization=max", "optimization must be one of none, basic, extended, all"),
        ("recorded:dir?threads=1", "unknown option 'threads'; it takes none"),
    ],
)
def test_a_malformed_runtime_string_says_what_is_wrong(text, problem):
    with pytest.raises(InputError, match=problem):
        load_runtime(text)


def test_an_unknown_device_is_refused(tiny_hub):
    with pytest.raises(InputError, match="device must be cpu, cuda, cuda:N or auto, got 'gpu'"):
        load_runtime(f"torch:{tiny_hub}?device=gpu")
