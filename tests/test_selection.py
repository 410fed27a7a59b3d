"""Checkpoints are scored on the same recordings in one table, and the table says what it means."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from experiments import make_experiment
from hubs import SAMPLE_RATE, make_reference, make_speech, write_speech
from pyannote.core import Annotation, Segment, Timeline
from torch import nn

from workbench.checkpoints.costs import count_costs
from workbench.config import read_config
from workbench.errors import InputError
from workbench.pipeline import Runtimes, diarize
from workbench.plots.checkpoints import plot_candidates, plot_checkpoints
from workbench.rttm import write_rttm
from workbench.scoring import score
from workbench.scoring.local import score_chunks
from workbench.selection import compare_models, score_checkpoints
from workbench.types import SlidingWindow

NAMES = ["best", "epoch_0001", "epoch_0002", "epoch_0003", "avg:2", "avg:3"]
DURATION = 6.0


@pytest.fixture(scope="module")
def experiment(tiny_hub, tmp_path_factory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("training") / "exp", tiny_hub)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dev")
    return {f"s{seed}": write_speech(folder / f"s{seed}.wav", DURATION, seed) for seed in (1, 2)}


@pytest.fixture(scope="module")
def references() -> dict[str, Annotation]:
    return {f"s{seed}": make_reference(DURATION, seed, f"s{seed}") for seed in (1, 2)}


@pytest.fixture(scope="module")
def by_chunks(experiment, recordings, references):
    return score_checkpoints(experiment, recordings, references)


def test_best_every_epoch_and_every_average_have_a_row(by_chunks):
    assert list(by_chunks.table["candidate"]) == NAMES
    assert by_chunks.table["problem"].isna().all()
    assert by_chunks.measure == "segmentation"


def test_components_add_up_to_the_der_and_recordings_to_the_total(by_chunks):
    table = by_chunks.table
    errors = table["missed"] + table["false_alarm"] + table["confusion"]
    np.testing.assert_allclose(table["der"], errors / table["total"])
    sums = by_chunks.recordings.groupby("candidate", sort=False)["missed"].sum()
    np.testing.assert_allclose(sums.to_numpy(), table["missed"])


def test_the_good_weights_win_and_noise_costs(by_chunks):
    der = by_chunks.table.set_index("candidate")["der"]
    assert by_chunks.best == "best"
    assert der["epoch_0003"] < 0.15 < der["epoch_0001"]


def test_equal_weights_are_scored_once_and_said_to_be_equal(by_chunks):
    rows = by_chunks.table.set_index("candidate")
    assert rows.loc["epoch_0003", "same_as"] == "best"
    assert rows.loc["epoch_0003", "der"] == rows.loc["best", "der"]
    assert rows["same_as"].notna().sum() == 1


def test_equal_weights_that_are_run_otherwise_are_scored_apart(experiment, recordings, references):
    models = {"fp32": f"torch:{experiment}", "bf16": f"torch:{experiment}?dtype=bf16"}
    table = compare_models(models, recordings, references).table
    assert table["same_as"].isna().all()
    assert table["der"].notna().all()


def test_with_an_embedding_model_the_der_is_that_of_the_pipeline(
    experiment, tiny_hub, recordings, references
):
    params = read_config(tiny_hub / "config.toml")
    selection = score_checkpoints(
        experiment,
        recordings,
        references,
        checkpoints=["epoch_0002"],
        embedding=f"torch:{tiny_hub}",
        plda=tiny_hub / "plda",
        params=params,
    )
    runtimes = Runtimes.load(f"torch:{experiment}@epoch_0002", f"torch:{tiny_hub}", tiny_hub / "plda")
    counts = sum(score(references[uri], diarize(path, runtimes, params)) for uri, path in recordings.items())
    assert selection.measure == "pipeline"
    assert selection.table["der"].item() == pytest.approx(counts.der, abs=1e-9)
    assert selection.table["confusion"].item() == pytest.approx(counts.confusion, abs=1e-9)


def test_a_broken_checkpoint_has_no_score_and_the_others_have(experiment, recordings, references, tmp_path):
    broken = shutil.copytree(experiment, tmp_path / "exp")
    weights = broken / "checkpoints" / "epoch_0002" / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    rows = score_checkpoints(broken, recordings, references).table.set_index("candidate")
    assert np.isnan(rows.loc["epoch_0002", "der"])
    assert "truncated" in rows.loc["epoch_0002", "problem"]
    assert rows.loc[["best", "epoch_0001", "epoch_0003"], "der"].notna().all()


def test_a_diverged_checkpoint_has_no_score(experiment, recordings, references, tmp_path):
    diverged = shutil.copytree(experiment, tmp_path / "exp")
    file = diverged / "checkpoints" / "epoch_0001" / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    torch.save({**state, "classifier.bias": torch.full_like(state["classifier.bias"], torch.nan)}, file)
    table = score_checkpoints(diverged, recordings, references, checkpoints=["best", "epoch_0001"]).table
    assert "not finite" in table["problem"].iloc[1]
    assert np.isnan(table["der"].iloc[1])


def test_an_unreadable_recording_is_left_out_for_all(experiment, recordings, references, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    more = {**recordings, "bad": tmp_path / "bad.wav", "other": recordings["s1"]}
    selection = score_checkpoints(
        experiment, more, {**references, "bad": Annotation(uri="bad")}, checkpoints=["best"]
    )
    assert [uri for uri, _ in selection.failed] == ["bad", "other"]
    assert set(selection.recordings["uri"]) == set(recordings)


def test_nothing_to_score_is_an_input_error(experiment, recordings, references):
    with pytest.raises(InputError, match="no recording to score"):
        score_checkpoints(experiment, recordings, {})
    with pytest.raises(InputError, match="no candidate could be scored.*epoch_0099"):
        score_checkpoints(experiment, recordings, references, checkpoints=["epoch_0099"])
    with pytest.raises(InputError, match="without @best"):
        score_checkpoints(f"torch:{experiment}@best", recordings, references)


def test_progress_runs_to_the_end(experiment, recordings, references):
    calls: list[tuple[str, int, int]] = []
    score_checkpoints(
        experiment,
        recordings,
        references,
        checkpoints=["best", "avg:2"],
        progress=lambda *call: calls.append(call),
    )
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert calls[-1][1:] == (4, 4)


# --- the segmentation's own error


CHUNKS, FRAMES = SlidingWindow(0.0, 1.0, 1.0), SlidingWindow(0.0, 0.02, 0.01)


def two_speakers() -> Annotation:
    reference = Annotation()
    reference[Segment(0.0, 1.5)] = "A"
    reference[Segment(1.0, 2.0)] = "B"
    return reference


def decided(*chunks: tuple[slice, slice]) -> np.ndarray:
    """(chunk, 100 frames, 2 local speakers)."""
    segmentations = np.zeros((len(chunks), 100, 2), dtype=np.float32)
    for chunk, frames in enumerate(chunks):
        for speaker, active in enumerate(frames):
            segmentations[chunk, active, speaker] = 1
    return segmentations


def test_local_speakers_may_change_places_between_chunks():
    # the middle of frame i lies at i + 1 hundredths: a boundary belongs to the frame before it
    first = (slice(0, 100), slice(0, 0))
    second = (slice(0, 99), slice(0, 49))  # B is now the first local speaker
    counts = score_chunks(decided(first, second), CHUNKS, FRAMES, two_speakers(), duration=2.0)
    assert counts.confusion == 0
    assert counts.total == pytest.approx(2.5, abs=0.03)
    assert counts.correct == pytest.approx(counts.total, abs=0.03)


def test_missed_false_alarm_and_confusion_are_told_apart():
    reference = Annotation()
    reference[Segment(0.0, 0.5)] = "A"
    reference[Segment(0.5, 0.8)] = "B"
    hypothesis = decided((slice(0, 90), slice(0, 0)))  # one speaker throughout, to 0.9 s
    counts = score_chunks(hypothesis, CHUNKS, FRAMES, reference, duration=1.0)
    assert counts.confusion == pytest.approx(0.3, abs=0.011)
    assert counts.false_alarm == pytest.approx(0.1, abs=0.011)
    assert counts.missed == 0
    silent = score_chunks(decided((slice(0, 0), slice(0, 0))), CHUNKS, FRAMES, reference, duration=1.0)
    assert silent.missed == pytest.approx(0.8, abs=0.011)
    assert silent.der == 1


def test_uem_collar_and_the_end_of_the_recording_bound_what_is_scored():
    silence = decided((slice(0, 0), slice(0, 0)), (slice(0, 0), slice(0, 0)))
    reference = two_speakers()
    whole = score_chunks(silence, CHUNKS, FRAMES, reference, duration=2.0)
    assert whole.missed == pytest.approx(2.5, abs=0.03)
    inside = score_chunks(silence, CHUNKS, FRAMES, reference, 2.0, uem=Timeline([Segment(0.0, 1.0)]))
    assert inside.missed == pytest.approx(1.0, abs=0.02)
    cut = score_chunks(silence, CHUNKS, FRAMES, reference, duration=0.5)
    assert cut.missed == pytest.approx(0.5, abs=0.02)
    # boundaries at 0, 1, 1.5 and 2: 0.1 s on each side of them is left out
    lenient = score_chunks(silence, CHUNKS, FRAMES, reference, duration=2.0, collar=0.1)
    assert lenient.missed == pytest.approx(0.8 + 2 * 0.3 + 0.3, abs=0.06)


# --- costs


class Small(nn.Module):
    """One of each kind of layer, in the shapes of the arithmetic below."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 6, kernel_size=160, stride=160)
        self.lstm = nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.attention = Attention()
        self.linear = nn.Linear(8, 3)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        return self.linear(self.attention(self.lstm(self.conv(waveforms).transpose(1, 2))[0]))


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ x.transpose(1, 2), dim=-1) @ x


def test_macs_are_those_of_the_layers_by_hand():
    costs = count_costs(Small(), duration=1.0)
    frames = SAMPLE_RATE // 160
    expected = {
        "conv": frames * 160 * 6,
        "lstm": frames * 2 * (16 * (6 + 4) + 16 * (8 + 4)),
        "attention": 2 * frames * frames * 8,
        "linear": frames * 8 * 3,
    }
    assert dict(costs.macs_by_block) == expected
    assert costs.macs == sum(expected.values())
    assert costs.parameters == sum(costs.parameters_by_block.values())
    assert costs.parameters_by_block["linear"] == 27


def test_models_are_compared_by_size_work_speed_and_error(experiment, tiny_hub, recordings, references):
    models = {"torch": f"torch:{experiment}", "onnx": f"onnx:{tiny_hub / 'onnx' / 'segmentation.onnx'}"}
    table = compare_models(models, recordings, references).table.set_index("candidate")
    assert table.loc["torch", "parameters"] == 4827
    assert table.loc["torch", "macs_per_second"] > 4827
    assert np.isnan(table.loc["onnx", "parameters"])
    assert (table["rtf"] > 0).all()
    assert table.loc["onnx", "der"] == pytest.approx(table.loc["torch", "der"], abs=0.01)


# --- figures and the command


def test_the_curve_has_epochs_left_and_averages_right(by_chunks):
    figure = plot_checkpoints(by_chunks)
    traces = {trace.name: trace for trace in figure.data}
    der = by_chunks.table.set_index("candidate")["der"]
    assert list(traces["single epoch"].x) == [1, 2, 3]
    np.testing.assert_allclose(traces["single epoch"].y, 100 * der[NAMES[1:4]])
    assert list(traces["average of N epochs"].x) == [1, 2, 3]
    np.testing.assert_allclose(traces["average of N epochs"].y, 100 * der[["best", "avg:2", "avg:3"]])
    assert figure.layout.yaxis.title.text == "DER (%)"
    assert figure.layout.xaxis.title.text == "Epoch"
    assert any("speakers matched anew" in (each.text or "") for each in figure.layout.annotations)


def test_bars_stack_to_the_der(by_chunks):
    figure = plot_candidates(by_chunks)
    assert [trace.name for trace in figure.data] == ["missed", "false alarm", "confusion"]
    np.testing.assert_allclose(sum(trace.x for trace in figure.data), 100 * by_chunks.table["der"][::-1])
    assert figure.layout.xaxis.title.text == "DER (% of the speech)"


@pytest.fixture(scope="module")
def reference_file(references, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "dev.rttm"
    write_rttm(path, references)
    return path


def test_the_command_prints_training_and_scores(experiment, recordings, reference_file):
    done = run("checkpoints", experiment, *recordings.values(), "--reference", reference_file)
    assert done.exit_code == 0
    assert "val loss" in done.stdout
    assert "avg:3" in done.stdout
    assert "lowest DER" in done.stdout
    assert "[0/12] best" in done.stderr


def test_the_command_writes_json_and_nothing_else(experiment, recordings, references, reference_file):
    args = ["--reference", reference_file, "--checkpoint", "best", "--checkpoint", "avg:2", "--json", "-"]
    report = run("checkpoints", experiment, *recordings.values(), *args).json
    assert report["training"]["best_epoch"] == 3
    assert [epoch["loss"] for epoch in report["training"]["epochs"]] == [0.9, 0.6, 0.5]
    assert list(report["candidates"]) == ["best", "avg:2"]
    assert report["candidates"]["best"]["recordings"].keys() == references.keys()
    assert report["measure"] == "segmentation"
    assert report["failed"] == []


def test_the_command_alone_runs_no_model(experiment):
    report = run("checkpoints", experiment, "--json", "-").json
    assert report["training"]["checkpoints"] == NAMES
    assert "candidates" not in report


def test_failures_are_named_and_exit_with_1(experiment, recordings, reference_file, tmp_path):
    (tmp_path / "s9.wav").write_bytes(make_speech(0.1).tobytes())
    done = run(
        "checkpoints",
        experiment,
        tmp_path,
        *recordings.values(),
        "--reference",
        reference_file,
        "--checkpoint",
        "best",
    )
    assert done.exit_code == 1
    assert "FAILED s9" in done.stderr


def test_unusable_calls_exit_with_2(experiment, recordings, tiny_hub, tmp_path, reference_file):
    audio = recordings["s1"]
    assert run("checkpoints", tmp_path).exit_code == 2
    assert run("checkpoints", experiment, audio).exit_code == 2
    assert run("checkpoints", experiment, "--reference", reference_file).exit_code == 2
    without_plda = run(
        "checkpoints", experiment, audio, "--reference", reference_file, "--embedding", f"torch:{tiny_hub}"
    )
    assert without_plda.exit_code == 2
    assert "PLDA" in without_plda.stderr


def test_models_are_compared_by_the_command(experiment, recordings, references, reference_file):
    models = {"first": f"torch:{experiment}@epoch_0001", "last": f"torch:{experiment}@epoch_0003"}
    named = [part for name, spec in models.items() for part in ("--model", f"{name}={spec}")]
    args = [*recordings.values(), *named, "--reference", reference_file]
    report = run("compare-models", *args, "--json", "-").json
    assert report["models"] == models
    assert list(report["candidates"]) == ["first", "last"]
    assert report["candidates"]["last"]["parameters"] == report["candidates"]["first"]["parameters"] > 0
    assert report["candidates"]["last"]["rtf"] > 0
    assert report["candidates"]["last"]["recordings"].keys() == references.keys()
    assert report["failed"] == []
    shown = run("compare-models", *args)
    assert shown.exit_code == 0
    assert {"model", "DER", "parameters", "GMAC/s", "RTF"} <= set(shown.stdout.splitlines()[0].split())


def test_models_without_a_name_of_their_own_are_refused(experiment, recordings, reference_file, tmp_path):
    audio, spec = recordings["s1"], f"torch:{experiment}"
    for names in ([spec, spec], ["=" + spec], ["x=", spec], [f"x={spec}", f"x={spec}@best"]):
        options = [part for name in names for part in ("--model", name)]
        assert run("compare-models", audio, *options, "--reference", reference_file).exit_code == 2, names
    options = ["--model", spec, "--model", f"gone=torch:{tmp_path / 'gone'}"]
    done = run("compare-models", audio, *options, "--reference", reference_file)
    assert done.exit_code == 1
    assert "FAILED gone" in done.stderr
