"""`workbench record --stages steps`, `steps`, `parity` on recorded steps, and `swap`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from command import run
from parity_fakes import rewritten
from port_data import with_other_clustering, write_recordings

STEPS = 18


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("port"))


@pytest.fixture(scope="module")
def recorded(data, tiny_hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    for engine in ("torch", "onnx"):
        out = folder / engine
        result = run("record", f"{engine}:{tiny_hub}", data[0], "--stages", "steps", "--out", out, "-q")
        assert result.exit_code == 0, result.stderr
    return folder


def test_two_engines_agree_in_every_step(recorded):
    result = run("steps", recorded / "torch", recorded / "onnx", "--json", "-", "--check")
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert report["agree"]
    steps = report["recordings"]["one"][0]["steps"]
    assert sum(step["status"] != "absent" for step in steps) == STEPS


def test_recorded_steps_are_what_the_pipeline_puts_out(recorded, data, tiny_hub, tmp_path):
    from workbench.rttm import read_rttm
    from workbench.scoring import score
    from workbench.steps.partitions import as_annotation

    assert run("diarize", data[0] / "one.wav", "--hub", tiny_hub, "--out", tmp_path, "-q").exit_code == 0
    with np.load(recorded / "torch" / "one.npz", allow_pickle=False) as content:
        found = as_annotation(content["segments"])
        assert content["dendrogram"].dtype == np.float64
    expected = read_rttm(tmp_path / "one.rttm")["one"]
    assert score(expected, found).der < 1e-3  # milliseconds of rounding
    assert len(found.get_timeline()) == len(expected.get_timeline())


def test_a_recorded_folder_of_steps_serves_parity_which_walks_the_steps(recorded, data, tmp_path):
    import shutil

    shutil.copytree(recorded / "onnx", tmp_path / "port")
    with rewritten(tmp_path / "port" / "two.npz") as arrays:
        arrays["count"][40] += 1
    result = run(
        "parity", f"recorded:{recorded / 'torch'}", f"recorded:{tmp_path / 'port'}", data[0], "--json", "-",
        "-q", "--no-consequences",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (first,) = result.json["steps"]["first"]
    assert (first["uri"], first["step"], first["index"]) == ("two", "count", [40])
    assert run("steps", recorded / "torch", tmp_path / "port", "--check").exit_code == 1
    assert run("steps", recorded / "torch", tmp_path / "port", "--recording", "one", "--check").exit_code == 0


def test_recording_again_goes_on_and_single_steps_can_be_chosen(recorded, data, tiny_hub, tmp_path):
    again = run(
        "record",
        f"torch:{tiny_hub}",
        data[0],
        "--stages",
        "steps",
        "--out",
        recorded / "torch",
        "--json",
        "-",
    )
    assert again.json["recordings"]["one"]["remark"] == "recorded already"
    one = data[0] / "one.wav"
    chosen = run("record", f"onnx:{tiny_hub}", one, "--stages", "count,masks", "--out", tmp_path / "x", "-q")
    assert chosen.exit_code == 0
    with np.load(tmp_path / "x" / "one.npz") as content:
        assert sorted(content.files) == ["count", "masks"]


def test_swap_blames_the_stage_that_is_different(data, tiny_hub, tmp_path):
    worse = with_other_clustering(tiny_hub, tmp_path / "worse")
    result = run(
        "swap", f"onnx:{tiny_hub}", f"onnx:{tiny_hub}", data[0], "--reference", data[1], "--json", "-", "-q",
        "--candidate-config", worse / "config.toml",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert "clustering" in report["players"]
    assert "segmentation" not in report["players"]
    shares = {row["stage"]: row["share"] for row in report["overall"]["shares"]}
    assert report["overall"]["change_seconds"] > 1
    assert shares["clustering"] >= 0.95


def test_swap_takes_every_stage_that_a_recorded_folder_has(recorded, data, tiny_hub, tmp_path):
    port = tmp_path / "port"
    shutil.copytree(recorded / "onnx", port)
    for uri in ("one", "two"):
        with rewritten(port / f"{uri}.npz") as arrays:
            arrays["hard_clusters"][:] = 0  # a port whose clustering finds one speaker
    result = run(
        "swap", f"torch:{tiny_hub}", f"recorded:{port}", data[0], "--reference", data[1], "--json", "-", "-q"
    )
    assert result.exit_code == 0, result.stderr
    report = result.json
    assert report["players"] == ["front end", "segmentation", "embeddings", "clustering"]
    shares = {row["stage"]: row["share"] for row in report["overall"]["shares"]}
    assert report["overall"]["change_seconds"] > 1
    assert shares["clustering"] >= 0.95


def test_swap_takes_labels_alone_and_runs_the_rest(recorded, data, tiny_hub, tmp_path):
    for uri in ("one", "two"):
        with np.load(recorded / "torch" / f"{uri}.npz") as content:
            np.savez(tmp_path / f"{uri}.npz", hard_clusters=content["hard_clusters"])
    result = run("swap", f"torch:{tiny_hub}", f"recorded:{tmp_path}", data[0], "--json", "-", "-q")
    assert result.exit_code == 0, result.stderr
    assert result.json["players"] == ["clustering"]
    assert result.json["overall"]["change_seconds"] == 0


def test_swap_says_what_it_takes_from_a_folder(recorded, data, tiny_hub, tmp_path):
    with np.load(recorded / "torch" / "one.npz") as content:
        np.savez(tmp_path / "one.npz", count=content["count"], masks=content["masks"])
    result = run("swap", f"torch:{tiny_hub}", f"recorded:{tmp_path}", data[0])
    assert result.exit_code == 2
    assert "swap accepts samples (front end), log_probs or segmentations (segmentation)" in result.stderr
    assert "this folder has count, masks (other steps follow from these" in result.stderr


def test_swap_measures_the_noise_between_embeddings(data, tiny_hub):
    result = run(
        "swap", f"torch:{tiny_hub}", f"onnx:{tiny_hub}", data[0] / "one.wav", "--noise", "--json", "-", "-q"
    )
    assert result.exit_code == 0, result.stderr
    noise = result.json["noise"]["one"]
    assert 0 < noise["relative"] < 1e-3
    assert len(noise["cells"]) == 27


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("steps", "nowhere", "nowhere"), "no such folder"),
        (("steps", "AUDIO", "AUDIO"), "holds no array of a step"),
        (("steps", "TORCH"), "two or more"),
        (("steps", "TORCH", "TORCH", "--tolerance", "scroes=1"), "did you mean"),
        (
            ("record", "onnx:HUB/onnx/segmentation.onnx", "AUDIO", "--stages", "steps", "--out", "OUT"),
            "--embedding",
        ),
        (("swap", "onnx:LONE", "onnx:LONE", "AUDIO"), "--embedding"),
        (("swap", "onnx:HUB", "onnx:HUB", "AUDIO", "--reference", "nowhere.rttm"), "nowhere.rttm"),
    ],
)
def test_unusable_calls_end_with_two(arguments, words, recorded, data, tiny_hub, tmp_path):
    lone = shutil.copy(tiny_hub / "onnx" / "segmentation.onnx", tmp_path / "lone.onnx")
    places = {"AUDIO": data[0], "TORCH": recorded / "torch", "HUB": tiny_hub, "LONE": lone}
    places["OUT"] = tmp_path / "out"
    for name, place in places.items():
        arguments = tuple(each.replace(name, str(place)) for each in arguments)
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
