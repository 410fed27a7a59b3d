"""`workbench compare`: agreement and correctness are two lamps."""

from __future__ import annotations

import json
import shutil

import pytest
from command import run
from port_data import with_other_clustering, write_recordings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="module")
def compared(data, tiny_hub, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    result = run(
        "compare",
        f"torch:{tiny_hub}",
        f"onnx:{tiny_hub}",
        data[0],
        "--reference",
        data[1],
        "--out",
        out,
        "-q",
    )
    assert result.exit_code == 0, result.stderr
    return out


def test_two_engines_of_one_model_agree_and_the_report_is_complete(compared, data):
    report = json.loads((compared / "report.json").read_text())
    assert report["lamps"]["parity"]["light"] == "green"
    metrics = {"der", "jer", "b3_f1", "gkt_ref_sys", "gkt_sys_ref", "h_ref_sys", "h_sys_ref", "mi", "nmi"}
    for side in "ab":
        assert report["scores"][side]["overall"].keys() >= metrics
        assert set(report["scores"][side]["recordings"]) == {"one", "two"}
        assert (compared / side / "one.rttm").is_file()
    assert report["tests"].keys() >= metrics
    assert report["parity"]["overall"]["flips"] == 0
    assert report["embedding_parity"]["overall"]["max_abs_diff"] < 1e-3
    files = report["manifest"]["files"]
    assert any(name.endswith("one.wav") for name in files["audio"])
    assert any(name.endswith("segmentation.onnx") for name in files["models"])


def test_identical_but_wrong_is_green_and_red(data, tiny_hub, tmp_path):
    swapped = tmp_path / "wrong.rttm"
    lines = [line.split() for line in data[1].read_text().splitlines()]
    swapped.write_text(  # somebody talks all the time, and it is always somebody else
        "".join(
            f"SPEAKER {uri} 1 {start / 4:.3f} 0.250 <NA> <NA> s{start % 40} <NA> <NA>\n"
            for uri in sorted({line[1] for line in lines})
            for start in range(28)
        )
    )
    result = run(
        "compare", f"onnx:{tiny_hub}", f"onnx:{tiny_hub}?threads=1", data[0], "--reference", swapped, "--out",
        tmp_path / "out", "--json", "-", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    lamps = result.json["lamps"]
    assert (lamps["parity"]["light"], lamps["correctness"]["light"]) == ("green", "red")


def test_a_worse_pipeline_shows_in_both_and_fails_the_gate(compared, data, tiny_hub, tmp_path):
    worse = with_other_clustering(tiny_hub, tmp_path / "worse")
    result = run(
        "compare", f"torch:{tiny_hub}", f"onnx:{worse}", data[0], "--reference", data[1], "--out",
        tmp_path / "out", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["lamps"]["parity"]["light"] == "red"
    assert report["test"]["difference"]["estimate"] > 0.05
    baseline = compared / "report.json"
    assert run("gate", tmp_path / "out" / "report.json", "--baseline", baseline).exit_code == 1


def test_a_recording_without_reference_fails_alone(data, tiny_hub, tmp_path):
    only = tmp_path / "one.rttm"
    only.write_text("".join(x for x in data[1].read_text().splitlines(True) if x.split()[1] == "one"))
    result = run(
        "compare", f"onnx:{tiny_hub}", f"onnx:{tiny_hub}", data[0], "--reference", only, "--out",
        tmp_path / "out", "--json", "-", "-q",
    )  # fmt: skip
    assert result.exit_code == 1
    assert [entry["uri"] for entry in result.json["failed"]] == ["two"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("onnx:nowhere.onnx", "onnx:HUB"), "nowhere.onnx"),
        (("onnx:LONE", "onnx:LONE"), "--embedding"),
        (("onnx:HUB", "onnx:HUB", "--collar", "x"), "collar"),
        (("onnx:HUB", "onnx:HUB", "--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_unusable_calls_end_with_two(arguments, words, data, tiny_hub, tmp_path):
    lone = shutil.copy(tiny_hub / "onnx" / "segmentation.onnx", tmp_path / "lone.onnx")
    call = [each.replace("HUB", str(tiny_hub)).replace("LONE", str(lone)) for each in arguments]
    result = run("compare", *call[:2], data[0], "--reference", data[1], "--out", tmp_path, *call[2:])
    assert result.exit_code == 2
    assert words in result.stderr


def test_references_of_other_recordings_are_refused(data, tiny_hub, tmp_path):
    other = tmp_path / "other.rttm"
    other.write_text("SPEAKER x 1 0 1 <NA> <NA> a <NA> <NA>\n")
    hub = f"onnx:{tiny_hub}"
    result = run("compare", hub, hub, data[0], "--reference", other, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "names none of the recordings" in result.stderr
