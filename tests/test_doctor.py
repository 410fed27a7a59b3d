"""`workbench doctor` says what is there, what is wrong, and what to do about it."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
from command import run

from workbench import doctor
from workbench.doctor import engines, machine, packages, settings, tools
from workbench.doctor.checks import Check


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_environment_is_well_and_described():
    found = run("doctor", "--json", "-")
    assert found.exit_code == 0, found.stdout
    report = found.json
    assert report["ok"] is True
    assert report["failed"] == []
    names = {check["name"] for check in report["checks"]}
    assert {"CPU", "cores", "memory", "GPU", "Python", "requirements", "torch", "onnxruntime"} <= names
    assert {"audio formats", "chromium", "threads", "denormals"} <= names
    assert {check["section"] for check in report["checks"]} <= {
        "machine",
        "packages",
        "engines",
        "tools",
        "settings",
    }


def test_the_report_is_text_by_default_and_only_troubles_when_quiet(monkeypatch, tmp_path):
    checks = (
        Check(section="machine", name="CPU", value="fine"),
        Check(section="machine", name="memory", value="1 GiB", status="warning", fix="buy some"),
    )
    monkeypatch.setattr(doctor, "examine", lambda: doctor.Diagnosis(checks=checks))
    found = run("doctor", "--json", tmp_path / "doctor.json")
    assert found.exit_code == 0  # a warning is no failure
    assert "machine\n  ok    CPU     fine" in found.stdout
    assert "-> buy some" in found.stdout
    assert "0 problems, 1 warning" in found.stdout
    assert json.loads((tmp_path / "doctor.json").read_text())["checks"][1]["fix"] == "buy some"
    quiet = run("doctor", "--quiet")
    assert "CPU" not in quiet.stdout
    assert "buy some" in quiet.stdout


def test_a_problem_ends_with_exit_code_1_and_is_named(monkeypatch):
    checks = (Check(section="packages", name="numpy", value="missing", status="problem", fix="install it"),)
    monkeypatch.setattr(doctor, "examine", lambda: doctor.Diagnosis(checks=checks))
    found = run("doctor", "--json", "-")
    assert found.exit_code == 1
    assert found.json["failed"] == [{"uri": "numpy", "error": "missing; install it"}]


def test_an_examination_that_breaks_is_itself_a_finding(monkeypatch):
    def broken():
        raise OSError("no such machine")
        yield

    monkeypatch.setattr(doctor, "examine_machine", broken)
    diagnosis = doctor.examine()
    assert diagnosis["examination"].value == "OSError: no such machine"
    assert diagnosis["Python"].status == "ok"


# --- packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "operator", "wanted", "expected"),
    [
        ("2.4.6", "~=", "2.4.6", True),
        ("2.4.10", "~=", "2.4.6", True),
        ("2.5.0", "~=", "2.4.6", False),
        ("2.4.5", "~=", "2.4.6", False),
        ("77", ">=", "70", True),
        ("2.13", "==", "2.13.0", True),
        ("2.13.1", "==", "2.13.0", False),
        ("3.1.0.261029", "~=", "3.1.0.261029", True),
    ],
)
def test_versions_are_compared_as_pip_does(found, operator, wanted, expected):
    assert packages.fulfils(found, operator, wanted) is expected


def test_packages_that_are_missing_or_of_another_version_are_named(monkeypatch):
    real = packages.installed_version
    versions = {"plotly": "5.0.0", "typer": None, "dash": "2.0"}
    monkeypatch.setattr(
        packages,
        "installed_version",
        lambda name: versions.get(name, real(name)) if name in versions else real(name),
    )
    checks = by_name(packages.examine_packages())
    assert checks["plotly"].status == "warning"
    assert checks["plotly"].value == "5.0.0, needs ~=6.9.0"
    assert checks["typer"].status == "problem"
    assert "make setup" in checks["typer"].fix
    assert "JupyterLab" in checks["dash"].value
    assert checks["requirements"].status == "warning"


def test_the_gpu_build_of_onnx_runtime_takes_the_others_place(monkeypatch):
    real = packages.installed_version
    fakes = {"onnxruntime": None, "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(
        packages, "installed_version", lambda name: fakes[name] if name in fakes else real(name)
    )
    assert "onnxruntime" not in by_name(packages.examine_packages())


# --- engines --------------------------------------------------------------------------------------


def test_two_builds_of_onnx_runtime_are_one_too_many(monkeypatch):
    monkeypatch.setattr(engines, "installed_version", lambda _name: "1.31.1")
    check = by_name(engines._onnxruntime([]))["onnxruntime"]
    assert check.status == "warning"
    assert "share their files" in check.fix


def test_a_gpu_that_torch_cannot_use_is_named(monkeypatch):
    monkeypatch.setattr(engines, "find_gpus", lambda: ["NVIDIA H200, 143771 MiB, 570.10"])
    checks = by_name(engines.examine_engines())
    import torch

    if not torch.cuda.is_available():
        assert "sees no GPU although there is one" in checks["torch"].value
        assert checks["onnxruntime"].status in ("note", "ok")


def test_a_library_that_cannot_be_loaded_comes_with_its_fix(monkeypatch):
    real = importlib.import_module

    def broken(name: str):
        if name == "workbench.runtimes.torch_conditions":
            raise ImportError("libstdc++.so.6: version `GLIBCXX_3.4.30' not found")
        return real(name)

    monkeypatch.setattr(engines.importlib, "import_module", broken)
    check = by_name(engines._torch([]))["torch"]
    assert check.status == "problem"
    assert "LD_PRELOAD" in check.fix


def test_torch_may_be_missing_but_not_onnx_runtime(monkeypatch):
    monkeypatch.setattr(engines, "installed_version", lambda _name: None)
    checks = by_name(engines.examine_engines())
    assert checks["torch"].status == "warning"
    assert checks["onnxruntime"].status == "problem"


# --- machine, tools, settings ---------------------------------------------------------------------


def test_limits_of_a_container_count(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    assert machine.cpu_quota(tmp_path) == 1.5
    assert machine.usable_memory(tmp_path) == 2**30
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cpu_quota(tmp_path) is None
    older = tmp_path / "older"
    (older / "cpu").mkdir(parents=True)
    (older / "cpu/cpu.cfs_quota_us").write_text("200000")
    (older / "cpu/cpu.cfs_period_us").write_text("100000")
    assert machine.cpu_quota(older) == 2.0
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.5)
    cores, reason = machine.usable_cores()
    assert cores == 0.5
    assert "container" in reason
    assert "threads=1" in by_name(machine.examine_machine())["cores"].fix


def test_gpus_are_read_off_the_drivers_program(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda _name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(machine, "said", lambda _command: "NVIDIA H200, 143771 MiB, 570.10\n")
    assert machine.find_gpus() == ["NVIDIA H200, 143771 MiB, 570.10"]
    monkeypatch.setattr(machine, "said", lambda _command: "NVIDIA-SMI has failed because it couldn't\n")
    assert machine.find_gpus() == []


def test_a_browser_is_found_by_name_or_variable(monkeypatch, tmp_path):
    monkeypatch.setattr(tools.shutil, "which", lambda _name: None)
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    assert "apt install chromium" in by_name(tools.examine_tools())["chromium"].fix
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho Chromium 156\n")
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", os.fspath(browser))
    assert by_name(tools.examine_tools())["chromium"].value == f"Chromium 156 ({Path(browser)})"


def test_variables_that_overrule_options_are_named(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "4096")
    checks = by_name(settings.examine_settings())
    assert "overrules tf32" in checks["NVIDIA_TF32_OVERRIDE"].fix
    assert checks["CUBLAS_WORKSPACE_CONFIG"].status == "warning"


def test_denormals_that_a_library_switched_off_are_seen():
    from workbench.runtimes.float_environment import denormals

    with denormals(flush=True):
        assert settings._denormals().value == "flushed to zero in this process"
    assert settings._denormals().status == "ok"
