from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hubs import make_reference, make_speech, write_speech

import workbench
from workbench.clustering import AHCParams, cluster
from workbench.config import PipelineParams, with_options
from workbench.errors import InputError, RecordingError
from workbench.pipeline import Runtimes, diarize, diarize_features, extract_features, load_hub
from workbench.rttm import write_rttm
from workbench.runtimes import load_runtime
from workbench.runtimes.geometry import geometry_to_json
from workbench.scoring import score
from workbench.segmentation import Chunking, run_segmentation
from workbench.types import SlidingWindow


@pytest.fixture(scope="module")
def loaded(tiny_hub):
    return load_hub(tiny_hub)


@pytest.mark.parametrize("method", ["vbx", "ahc"])
def test_both_clusterings_find_who_speaks_when(loaded, method):
    """With three speakers, naming one of them all the time would leave more than half wrong."""
    runtimes, params = loaded
    if method == "ahc":
        params = with_options(params, method, ahc_threshold=0.7, min_cluster_size=3)
    hypothesis = diarize(make_speech(20.0, seed=4), runtimes, params)
    counts = score(make_reference(20.0, seed=4), hypothesis)
    assert counts.total > 15
    assert counts.der < 0.15


def test_torch_and_onnx_write_the_same_rttm(tiny_hub, tmp_path):
    texts = {}
    for engine in ("torch", "onnx"):
        runtimes, params = load_hub(tiny_hub, engine)
        for seed in range(3):
            annotation = diarize(make_speech(9.3, seed=seed), runtimes, params, uri="speech")
            write_rttm(tmp_path / f"{engine}.rttm", annotation)
            texts[engine, seed] = (tmp_path / f"{engine}.rttm").read_text()
    assert all(texts["torch", seed] == texts["onnx", seed] != "" for seed in range(3))


def test_all_ways_to_name_models_agree(tiny_hub, loaded, tmp_path):
    runtimes, params = loaded
    path = write_speech(tmp_path / "speech.wav", 6.0)
    specs = {
        "segmentation": f"torch:{tiny_hub}",
        "embedding": f"torch:{tiny_hub}",
        "plda": str(tiny_hub / "plda"),
    }
    expected = diarize(path, runtimes, params)
    assert expected.uri == "speech"
    assert expected.labels()
    assert diarize(path, tiny_hub) == expected
    assert diarize(path, str(tiny_hub)) == expected
    assert diarize(path, specs, params) == expected
    # a waveform in memory: what the file holds
    assert diarize(soundfile.read(path, dtype="float32")[0], runtimes, params, uri="speech") == expected


def test_features_carry_the_axes_of_chunks_and_frames(loaded):
    runtimes, params = loaded
    features = extract_features(make_speech(5.1), runtimes, params, uri="x")
    assert features.uri == "x"
    assert features.segmentations.shape == (8, 101, 4)  # 2 s chunks every 0.5 s, the last one padded
    assert features.embeddings.shape == (8, 4, 16)
    assert features.chunks == SlidingWindow(0.0, 2, 0.5)
    assert features.frames == SlidingWindow(0.0, 0.025, 0.02)
    assert set(np.unique(features.segmentations)) == {0.0, 1.0}
    assert np.isfinite(features.embeddings).all()


def test_features_then_clustering_is_the_whole_pipeline(loaded):
    runtimes, params = loaded
    waveform = make_speech(8.0, seed=2)
    features = extract_features(waveform, runtimes, params)
    assert diarize_features(features, params, runtimes.plda) == diarize(waveform, runtimes, params)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_no_decision(loaded, batch_size):
    runtimes, params = loaded
    waveform = make_speech(7.7, seed=4)
    expected = extract_features(waveform, runtimes, params)
    features = extract_features(waveform, runtimes, replace(params, batch_size=batch_size))
    np.testing.assert_array_equal(features.segmentations, expected.segmentations)
    np.testing.assert_allclose(features.embeddings, expected.embeddings, atol=1e-4)


def test_masks_are_pooled_over_one_run_of_the_trunk(loaded):
    """All local speakers at once give what one call per speaker gives."""
    runtimes, params = loaded
    waveform = make_speech(5.1, seed=3)
    features = extract_features(waveform, runtimes, replace(params, embedding_exclude_overlap=False))
    for chunk in (0, 3):
        piece = waveform[None, chunk * 8000 : chunk * 8000 + 32000]
        for speaker in range(4):
            alone = runtimes.embedding.embed(piece, features.segmentations[chunk, None, :, speaker])
            np.testing.assert_allclose(features.embeddings[chunk, speaker], alone[0], atol=1e-4)


@pytest.mark.parametrize("duration", [0.03, 1.0, 1.99, 2.0])
def test_recordings_of_a_chunk_or_less_are_padded(loaded, duration):
    runtimes, params = loaded
    waveform = make_speech(10.0, seed=1)[8000 : 8000 + round(duration * 16000)]
    features = extract_features(waveform, runtimes, params)
    assert len(features.segmentations) == 1
    annotation = diarize_features(features, params, runtimes.plda)
    assert annotation.get_timeline().extent().end <= 2.1


def test_silence_is_an_empty_annotation(loaded):
    runtimes, params = loaded
    annotation = diarize(np.zeros(16000 * 5, dtype=np.float32), runtimes, params, uri="silence")
    assert (annotation.uri, len(annotation)) == ("silence", 0)


def test_no_samples_fail_the_recording(loaded):
    with pytest.raises(RecordingError, match="no samples"):
        diarize(np.zeros(0, dtype=np.float32), *loaded)


@pytest.mark.parametrize(
    ("waveform", "sample_rate", "error", "message"),
    [
        (np.zeros((2, 16000)), 16000, InputError, r"shape \(num_samples,\)"),
        (np.zeros(16000, dtype=np.int16), 16000, InputError, "int16"),
        (np.zeros(16000), 8000, InputError, "16000 Hz, got 8000"),
        (np.full(16000, np.nan), 16000, RecordingError, "not finite"),
    ],
)
def test_unusable_arrays_are_explained(loaded, waveform, sample_rate, error, message):
    with pytest.raises(error, match=message):
        diarize(waveform, *loaded, sample_rate=sample_rate)


def test_the_hook_counts_every_stage_up_to_its_end(loaded):
    runtimes, params = loaded
    calls = []
    diarize(make_speech(6.0), runtimes, params, hook=lambda *call: calls.append(call))
    last = {stage: (done, total) for stage, done, total in calls}
    assert list(last) == ["segmentation", "embedding", "clustering", "reconstruction"]
    assert last["segmentation"] == last["embedding"] == (9, 9)
    assert last["reconstruction"] == (1, 1)


def test_presets_name_speakers_as_their_originals_do(loaded):
    runtimes, _ = loaded
    waveform = make_speech(8.0, seed=2)
    integers = diarize(waveform, runtimes, PipelineParams(clustering=AHCParams(min_cluster_size=2)))
    names = diarize(waveform, runtimes, PipelineParams.preset("pyannote-3.1"))
    assert all(isinstance(label, int) for label in integers.labels())
    assert names.labels()[0] == "SPEAKER_00"


def test_the_chunk_length_is_the_models_unless_told_otherwise(loaded):
    runtimes, _ = loaded
    ahc = PipelineParams(clustering=AHCParams())
    assert extract_features(make_speech(5.0), runtimes, ahc).chunks.duration == 2
    assert extract_features(make_speech(5.0), runtimes, replace(ahc, seg_duration=1)).chunks.duration == 1


@pytest.mark.parametrize(
    ("runtimes", "message"),
    [
        ({"segmentation": "torch:x"}, r"lacks \['embedding'\]"),
        ({"segmentation": "torch:x", "embedding": "torch:x", "plds": "x"}, r"unknown entries \['plds'\]"),
        ("nowhere", "nowhere: is no folder"),
    ],
)
def test_incomplete_runtimes_are_explained(runtimes, message):
    with pytest.raises(InputError, match=message):
        diarize(np.zeros(16000), runtimes)


def test_models_in_each_others_place_are_refused(loaded):
    runtimes, params = loaded
    swapped = Runtimes(segmentation=runtimes.embedding, embedding=runtimes.segmentation, plda=runtimes.plda)
    with pytest.raises(InputError, match="segmentation model"):
        diarize(np.zeros(16000), swapped, params)


def test_vbx_without_plda_is_refused(loaded):
    runtimes, params = loaded
    with pytest.raises(InputError, match="PLDA"):
        diarize(make_speech(5.0), replace(runtimes, plda=None), params)


def test_a_hub_without_exports_says_how_to_make_them(tiny_hub, tmp_path):
    for name in ("config.toml", "pytorch_model.bin"):
        (tmp_path / name).write_bytes((tiny_hub / name).read_bytes())
    with pytest.raises(
        InputError, match=r"segmentation\.onnx: does not exist; make it with `workbench export torch:"
    ):
        load_hub(tmp_path, "onnx")


def test_an_unknown_engine_is_refused(tiny_hub):
    with pytest.raises(InputError, match="engine must be one of torch, onnx"):
        load_hub(tiny_hub, "tensorrt")


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, workbench; print(*{'numpy', 'torch', 'scipy', 'pandas', 'pyannote'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("name", workbench.__all__)
def test_public_names_exist(name):
    assert getattr(workbench, name) is not None
    assert name in dir(workbench)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'diarise'"):
        _ = workbench.diarise


def test_a_file_at_another_rate_is_resampled_once_for_both_models(loaded, tmp_path: Path):
    runtimes, params = loaded
    waveform = make_speech(6.0, seed=5)
    # every sample twice at 32 kHz: a crude but exact way to know what 16 kHz should look like
    soundfile.write(tmp_path / "speech.wav", np.repeat(waveform, 2), 32000)
    features = extract_features(tmp_path / "speech.wav", runtimes, params)
    expected = extract_features(waveform, runtimes, params)
    agree = (features.segmentations == expected.segmentations).mean()
    assert features.segmentations.shape == expected.segmentations.shape
    assert agree > 0.9


@pytest.fixture
def recorded(loaded, tmp_path):
    """A recorded folder of one recording, written as any other program could write it."""
    runtimes, params = loaded
    waveform = make_speech(6.3, seed=4)
    geometry = runtimes.segmentation.geometry
    chunks = Chunking(num_samples=len(waveform), seg_duration=2.0, segmentation_step=0.25)
    log_probs = np.concatenate(list(run_segmentation(waveform, runtimes.segmentation, chunks, 4)))
    embeddings = extract_features(waveform, runtimes, params).embeddings
    np.savez(tmp_path / "speech.npz", log_probs=log_probs, embeddings=embeddings)
    fields = geometry_to_json(replace(geometry, chunk_step=chunks.step))
    (tmp_path / "geometry.json").write_text(json.dumps(fields))
    return waveform, tmp_path


@pytest.mark.parametrize("kinds", [("segmentation",), ("embedding",), ("segmentation", "embedding")])
def test_a_recorded_run_stands_in_for_a_model(loaded, recorded, kinds):
    runtimes, params = loaded
    waveform, folder = recorded
    expected = diarize(waveform, runtimes, params, uri="speech")
    replayed = replace(runtimes, **{kind: load_runtime(f"recorded:{folder}", kind) for kind in kinds})
    assert diarize(waveform, replayed, params, uri="speech") == expected


def test_a_recorded_run_of_other_chunks_is_refused(loaded, recorded):
    runtimes, params = loaded
    waveform, folder = recorded
    replayed = replace(runtimes, segmentation=load_runtime(f"recorded:{folder}", "segmentation"))
    with pytest.raises(InputError, match=r"use --segmentation-step 0\.25"):
        diarize(waveform, replayed, replace(params, segmentation_step=0.1), uri="speech")
    with pytest.raises(InputError, match=r"use --seg-duration 2"):
        diarize(waveform, replayed, replace(params, seg_duration=4), uri="speech")


def test_a_recording_that_was_not_recorded_fails_alone(loaded, recorded):
    runtimes, params = loaded
    waveform, folder = recorded
    for kind in ("segmentation", "embedding"):
        replayed = replace(runtimes, **{kind: load_runtime(f"recorded:{folder}", kind)})
        with pytest.raises(RecordingError, match="other"):
            diarize(waveform, replayed, params, uri="other")
        with pytest.raises(RecordingError, match="chunks"):
            diarize(np.tile(waveform, 2), replayed, params, uri="speech")


def test_models_and_parameters_may_come_in_pieces(tiny_hub, loaded):
    runtimes, params = loaded
    waveform = make_speech(5.0)
    expected = diarize(waveform, runtimes, params)
    pieces = {"segmentation": runtimes.segmentation, "embedding": f"torch:{tiny_hub}", "plda": runtimes.plda}
    assert diarize(waveform, pieces, params) == expected
    assert diarize(waveform, tiny_hub, params.clustering) == expected
    with pytest.raises(InputError, match="runtimes must be Runtimes, a mapping .* got list"):
        diarize(waveform, ["torch:a", "torch:b"], params)
    with pytest.raises(InputError, match="params must be PipelineParams.* got dict"):
        diarize(waveform, runtimes, {"Fa": 1})


def test_clustering_takes_the_parameters_of_the_pipeline_and_a_plda_folder(tiny_hub, loaded):
    runtimes, params = loaded
    features = extract_features(make_speech(5.0), runtimes, params)
    expected = cluster(features, params.clustering, runtimes.plda)
    assert np.array_equal(cluster(features, params, tiny_hub / "plda"), expected)
    with pytest.raises(InputError, match="params must be AHCParams or VBxParams, got dict"):
        cluster(features, {"ahc_threshold": 0.5})
